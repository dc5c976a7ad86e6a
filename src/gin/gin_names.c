/* From the words of a gin file to configurables.
 *
 * There is one table of registered names per configuration. A text without dynamic registration
 * matches a selector against the ends of those names, component by component; a complete name
 * always wins. A text with `from __gin__ import dynamic_registration` has its own symbols, one per
 * import, and walks from a symbol through attributes to a definition of the registry; the first
 * mention registers it under a name made from that import (alias included), which is the name that
 * static texts and the command line must use afterwards. Symbols are private to their text. */
#include "gin/gin_internal.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"

enum { MAX_SYMBOLS = 1 << 20 };

/* --- trie over reversed components ------------------------------------------------------- */

struct gin_node {
    const char *word; /* interned */
    const void *item; /* a complete name ends here */
    struct gin_node *child, *last, *sibling;
};

static struct gin_node *find_child(const struct gin_node *n, const char *word, size_t len)
{
    for (struct gin_node *k = n->child; k; k = k->sibling)
        if (strncmp(k->word, word, len) == 0 && !k->word[len])
            return k;
    return NULL;
}

/* Steps from the last component to the first; *left is what remains in front. */
static bool last_component(const char *name, size_t *left, const char **word, size_t *len)
{
    if (*left == SIZE_MAX)
        return false;
    size_t start = *left;
    while (start > 0 && name[start - 1] != '.')
        start--;
    *word = name + start;
    *len = *left - start;
    *left = start > 0 ? start - 1 : SIZE_MAX;
    return true;
}

spt_status gin_trie_add(gin_config *c, struct gin_node **root, const char *name, const void *item)
{
    if (!*root) {
        *root = gin_pool_alloc(&c->pool, sizeof **root);
        if (!*root)
            return gin_nomem(c);
        **root = (struct gin_node){.word = ""};
    }
    struct gin_node *n = *root;
    size_t left = strlen(name), len;
    const char *word;
    while (last_component(name, &left, &word, &len)) {
        struct gin_node *k = find_child(n, word, len);
        if (!k) {
            k = gin_pool_alloc(&c->pool, sizeof *k);
            const char *w = gin_intern(&c->pool, word, len);
            if (!k || !w)
                return gin_nomem(c);
            *k = (struct gin_node){.word = w};
            if (n->last)
                n->last->sibling = k;
            else
                n->child = k;
            n->last = k;
        }
        n = k;
    }
    n->item = item;
    return SPT_OK;
}

static struct gin_node *find_node(struct gin_node *root, const char *name, size_t size)
{
    struct gin_node *n = root;
    size_t left = size, len;
    const char *word;
    while (n && last_component(name, &left, &word, &len))
        n = find_child(n, word, len);
    return n;
}

const void *gin_trie_exact(struct gin_node *root, const char *name, size_t len)
{
    const struct gin_node *n = find_node(root, name, len);
    return n ? n->item : NULL;
}

/* All items at or below a node, the child added last first, as gin lists them. */
typedef void (*match_fn)(void *ctx, const void *item);

static void each_item(const struct gin_node *n, match_fn fn, void *ctx)
{
    if (n->item)
        fn(ctx, n->item);
    /* Names have few components and registries few names: recursion is at most as deep as the
     * longest name, and collecting the children backwards is quadratic in a handful. */
    const struct gin_node *stop = NULL;
    while (n->child != stop) {
        const struct gin_node *k = n->child;
        while (k->sibling != stop)
            k = k->sibling;
        each_item(k, fn, ctx);
        stop = k;
    }
}

struct matches {
    size_t count;
    const void *one;
    buf *list; /* NULL: do not list */
    bool constants;
};

struct named_constant {
    const char *name;
    gin_value value;
};

static const char *item_name(const void *item, bool constant)
{
    return constant ? ((const struct named_constant *)item)->name : ((const gin_reg *)item)->name;
}

static void collect(void *ctx, const void *item)
{
    struct matches *m = ctx;
    if (m->list)
        buf_addf(m->list, "%s'%s'", m->count ? ", " : "", item_name(item, m->constants));
    m->count++;
    m->one = item;
}

static void find_matches(struct gin_node *root, const char *name, size_t len, struct matches *m)
{
    struct gin_node *n = find_node(root, name, len);
    if (n && n->item)
        collect(m, n->item);
    else if (n)
        each_item(n, collect, m);
}

/* --- registered names -------------------------------------------------------------------- */

spt_status gin_register(gin_config *c, const struct gin_entry *e, const char *name,
                        const gin_reg *source, gin_reg **out)
{
    gin_reg *r = gin_pool_alloc(&c->pool, sizeof *r);
    const char *kept = gin_intern(&c->pool, name, strlen(name));
    if (!r || !kept)
        return gin_nomem(c);
    *r = source ? *source : (gin_reg){0};
    r->entry = e;
    r->name = kept;
    r->is_method = e->def->kind == GIN_METHOD;
    TRY(gin_trie_add(c, &c->root, kept, r));
    c->reg_of[e->index] = r;
    memset(c->cache, 0, sizeof c->cache);
    if (out)
        *out = r;
    return SPT_OK;
}

spt_status gin_names_init(gin_config *c)
{
    c->reg_of = mem_zalloc(c->registry->entries, sizeof *c->reg_of);
    if (!c->reg_of)
        return gin_nomem(c);
    for (size_t i = 0; i < c->registry->entries; i++) {
        const struct gin_entry *e = c->registry->entry[i];
        if (e->static_name)
            TRY(gin_register(c, e, e->static_name, NULL, NULL));
    }
    c->macro = gin_trie_exact(c->root, "gin.macro", 9);
    c->constant = gin_trie_exact(c->root, "gin.constant", 12);
    c->singleton = gin_trie_exact(c->root, "gin.singleton", 13);
    return gin_add_constant(c, "gin.REQUIRED", NULL, NULL);
}

spt_status gin_match(gin_config *c, const char *selector, const gin_reg **out)
{
    const size_t slot = ((uintptr_t)selector >> 3) % (sizeof c->cache / sizeof *c->cache);
    if (c->cache[slot].selector == selector) {
        *out = c->cache[slot].reg;
        return SPT_OK;
    }
    struct matches m = {0};
    find_matches(c->root, selector, strlen(selector), &m);
    if (m.count > 1) {
        buf list;
        buf_init(&list, 1 << 16);
        m = (struct matches){.list = &list};
        find_matches(c->root, selector, strlen(selector), &m);
        gin_fail(c, SPT_E_CONFIG, "KeyError", "\"Ambiguous selector '%s', matches [%s].\"",
                 selector, buf_str(&list));
        gin_hint(c, "write more of the name, until only one is left");
        buf_release(&list);
        return SPT_E_CONFIG;
    }
    c->cache[slot].selector = selector;
    c->cache[slot].reg = m.one;
    *out = m.one;
    return SPT_OK;
}

bool gin_should_skip(gin_config *c, const char *selector)
{
    if (!c->skip_all && !c->skips)
        return false;
    struct matches m = {0};
    find_matches(c->root, selector, strlen(selector), &m);
    if (m.count)
        return false;
    for (size_t i = 0; i < c->skips; i++)
        if (strcmp(c->skip[i], selector) == 0)
            return true;
    return c->skip_all;
}

static size_t keys_of(const struct gin_node *n)
{
    size_t keys = n->item != NULL;
    for (const struct gin_node *k = n->child; k; k = k->sibling)
        keys++;
    return keys;
}

const char *gin_minimal(gin_config *c, const gin_reg *r)
{
    const struct gin_node *n = c->root;
    size_t left = strlen(r->name), len, start = SIZE_MAX;
    const char *word = r->name;
    for (;;) {
        const size_t before = left;
        if (!last_component(r->name, &left, &word, &len))
            break;
        if (keys_of(n) != 1)
            start = SIZE_MAX;
        else if (start == SIZE_MAX)
            start = before == strlen(r->name) ? 0 : before + 1;
        n = find_child(n, word, len);
        if (!n)
            return r->name;
    }
    const char *minimal = keys_of(n) > 1 || start == SIZE_MAX ? r->name : r->name + start;
    if (r->is_method && !strchr(minimal, '.')) {
        size_t dots = 0, at = strlen(r->name);
        while (at > 0 && dots < 2)
            dots += r->name[--at] == '.';
        minimal = r->name + at + (dots == 2);
    }
    return gin_intern(&c->pool, minimal, strlen(minimal));
}

bool gin_has_param(const struct gin_entry *e, const char *name)
{
    for (uint32_t i = 0; i < e->params; i++)
        if (strcmp(e->param[i].name, name) == 0)
            return true;
    return e->kwargs;
}

/* --- constants --------------------------------------------------------------------------- */

spt_status gin_add_constant(gin_config *c, const char *name, const char *literal, spt_err *err)
{
    struct named_constant *k = gin_pool_alloc(&c->pool, sizeof *k);
    const char *kept = gin_intern(&c->pool, name, strlen(name));
    spt_status st = k && kept ? SPT_OK : gin_nomem(c);
    if (!st) {
        *k = (struct named_constant){.name = kept, .value = {.kind = GIN_REQUIRED}};
        if (literal)
            st = gin_parse_literal(c, literal, &k->value);
    }
    if (!st)
        st = gin_trie_add(c, &c->constants, kept, k);
    return err ? gin_report(c, st, err) : st;
}

spt_status gin_constant_match(gin_config *c, const char *name, size_t len, const char **complete,
                              const gin_value **value)
{
    struct matches m = {.constants = true};
    *complete = NULL;
    *value = NULL;
    find_matches(c->constants, name, len, &m);
    if (m.count == 1) {
        const struct named_constant *k = m.one;
        *complete = k->name;
        *value = &k->value;
    } else if (m.count > 1) {
        buf list;
        buf_init(&list, 1 << 16);
        m = (struct matches){.list = &list, .constants = true};
        find_matches(c->constants, name, len, &m);
        gin_fail(c, SPT_E_CONFIG, "ValueError", "Ambiguous constant selector '%.*s', matches [%s].",
                 (int)len, name, buf_str(&list));
        buf_release(&list);
        return SPT_E_CONFIG;
    }
    return SPT_OK;
}

/* --- imports ----------------------------------------------------------------------------- */

const char *gin_import_symbol(const struct gin_import *s, size_t *len)
{
    const char *last = strrchr(s->module, '.'), *first = strchr(s->module, '.');
    if (s->alias) {
        *len = strlen(s->alias);
        return s->alias;
    }
    if (s->from) {
        *len = strlen(last + 1);
        return last + 1;
    }
    *len = first ? (size_t)(first - s->module) : strlen(s->module);
    return s->module;
}

static void format_import(buf *out, const struct gin_import *s)
{
    const char *last = s->from ? strrchr(s->module, '.') : NULL;
    if (last)
        buf_addf(out, "from %.*s import %s", (int)(last - s->module), s->module, last + 1);
    else
        buf_addf(out, "import %s", s->module);
    if (s->alias)
        buf_addf(out, " as %s", s->alias);
}

/* Differs from gin: there are no Python modules, only the table of known ones. */
static spt_status check_module(gin_config *c, const char *module)
{
    const struct gin_path *p = gin_registry_path(c->registry, module, strlen(module));
    if (p && p->module)
        return SPT_OK;
    const struct gin_path *parent = NULL;
    size_t known = 0, len = 0;
    for (const char *s = module;; s = module + len + 1) {
        const char *dot = strchr(s, '.');
        len = dot ? (size_t)(dot - module) : strlen(module);
        p = gin_registry_path(c->registry, module, len);
        if (!p || !p->module)
            break;
        parent = p;
        known = len;
    }
    if (parent && !parent->package)
        gin_fail(c, SPT_E_CONFIG, "ModuleNotFoundError",
                 "No module named '%.*s'; '%.*s' is not a "
                 "package",
                 (int)len, module, (int)known, module);
    else
        gin_fail(c, SPT_E_CONFIG, "ModuleNotFoundError", "No module named '%.*s'", (int)len,
                 module);
    gin_hint(c, "no Python is run: t5x, flaxformer, seqio, flax and prompt_tuning are known, the "
                "rest comes from a plug-in (--plugin FILE.so)");
    return SPT_E_CONFIG;
}

static spt_status gin_feature(gin_config *c, struct gin_context *ctx, const gin_statement *s)
{
    const char *feature = s->selector + strlen("__gin__.");
    if (s->alias)
        return gin_fail(c, SPT_E_CONFIG, "SyntaxError",
                        "__gin__ imports do not support `as` aliasing.");
    if (strcmp(feature, "dynamic_registration") != 0)
        return gin_fail(c, SPT_E_CONFIG, "SyntaxError",
                        "Unrecognized __gin__ feature '{feature}'.");
    if (ctx->first) {
        buf list;
        buf_init(&list, 1 << 16);
        for (const struct gin_import *i = ctx->first; i; i = i->next) {
            buf_adds(&list, i == ctx->first ? "'" : ", '");
            format_import(&list, i);
            buf_addc(&list, '\'');
        }
        gin_fail(c, SPT_E_CONFIG, "SyntaxError",
                 "Dynamic registration should be enabled before any other modules are imported.\n\n"
                 "Already imported: [%s].",
                 buf_str(&list));
        buf_release(&list);
        return SPT_E_CONFIG;
    }
    ctx->dynamic = true;
    return SPT_OK;
}

static spt_status add_symbol(gin_config *c, struct gin_context *ctx, const struct gin_import *i)
{
    size_t len;
    const char *s = gin_import_symbol(i, &len);
    const char *name = gin_intern(&c->pool, s, len);
    if (!name)
        return gin_nomem(c);
    if (strcmp(name, "gin") == 0) {
        buf text;
        buf_init(&text, 1 << 16);
        format_import(&text, i);
        gin_fail(c, SPT_E_CONFIG, "ValueError",
                 "The `gin` symbol is reserved; cannot bind import statement \"%s\" to `gin`. Use "
                 "an alias for the import (via `import ... as ...` or `from ... import ... "
                 "[as ...]`).",
                 buf_str(&text));
        buf_release(&text);
        return SPT_E_CONFIG;
    }
    const bool whole = i->alias || i->from;
    const struct gin_symbol symbol = {name, i, whole ? i->module : name};
    for (size_t k = 0; k < ctx->symbols; k++) {
        if (ctx->symbol[k].name == name) {
            ctx->symbol[k] = symbol;
            return SPT_OK;
        }
    }
    TRY(mem_grow(&ctx->symbol, &ctx->symbol_cap, ctx->symbols + 1, sizeof symbol, MAX_SYMBOLS,
                 NULL));
    ctx->symbol[ctx->symbols++] = symbol;
    return SPT_OK;
}

spt_status gin_import_statement(gin_config *c, struct gin_context *ctx, const gin_statement *s)
{
    struct gin_import *i = gin_pool_alloc(&c->pool, sizeof *i);
    if (!i)
        return gin_nomem(c);
    *i = (struct gin_import){.module = s->selector, .alias = s->alias, .from = s->from};
    if (s->from && strncmp(s->selector, "__gin__.", 8) == 0) {
        TRY(gin_feature(c, ctx, s));
    } else {
        const spt_status st = check_module(c, s->selector);
        if (st == SPT_E_CONFIG && (c->skip_all || c->skips)) {
            log_info("skipping import of unknown module %s (skip_unknown)", s->selector);
            return SPT_OK;
        }
        TRY(st);
        if (ctx->dynamic)
            TRY(add_symbol(c, ctx, i));
    }
    if (ctx->last)
        ctx->last->next = i;
    else
        ctx->first = i;
    ctx->last = i;
    return SPT_OK;
}

/* The imports of a completed text join those of the configuration, first seen first. */
spt_status gin_context_finish(gin_config *c, struct gin_context *ctx)
{
    if (c->last_import)
        c->last_import->next = ctx->first;
    else
        c->first_import = ctx->first;
    if (ctx->last)
        c->last_import = ctx->last;
    ctx->first = ctx->last = NULL;
    return SPT_OK;
}

void gin_context_release(struct gin_context *ctx)
{
    mem_free(ctx->symbol);
    *ctx = (struct gin_context){0};
}

/* --- dynamic registration ---------------------------------------------------------------- */

static spt_status no_attribute(gin_config *c, const char *selector, const char *owner, size_t len,
                               bool module, const char *attr)
{
    const char *end = strchr(attr, '.');
    gin_fail(c, SPT_E_CONFIG, "AttributeError",
             "Couldn't resolve selector %s; <%s '%.*s'> has no attribute %.*s.", selector,
             module ? "module" : "class", (int)len, owner,
             end ? (int)(end - attr) : (int)strlen(attr), attr);
    gin_hint(c, "nothing of this name is known in that module; another component needs a plug-in "
                "(--plugin FILE.so)");
    return SPT_E_CONFIG;
}

/* Entries of __main__ are visible only when the program declared them. */
static bool entry_visible(const gin_config *c, const struct gin_entry *e)
{
    if (strcmp(e->def->module, "__main__") != 0)
        return true;
    return c->reg_of[e->index] != NULL;
}

/* Walks from a symbol; path is the real path of the object found. */
static spt_status walk(gin_config *c, const struct gin_symbol *s, const char *selector,
                       const char *rest, buf *path, const struct gin_entry **out)
{
    buf_adds(path, s->module);
    const struct gin_path *at = gin_registry_path(c->registry, buf_str(path), path->len);
    for (const char *attr = rest; *attr;) {
        const char *end = strchr(attr, '.');
        const size_t len = end ? (size_t)(end - attr) : strlen(attr);
        const size_t owner = path->len;
        const bool module = !at || at->module;
        buf_addc(path, '.');
        buf_add(path, attr, len);
        TRY(buf_status(path, "selector", NULL));
        at = gin_registry_path(c->registry, buf_str(path), path->len);
        if (!at || (at->entry && !entry_visible(c, at->entry)))
            return no_attribute(c, selector, buf_str(path), owner, module, attr);
        attr = end ? end + 1 : attr + len;
    }
    if (!at || !at->entry)
        return gin_fail(c, SPT_E_CONFIG, "ValueError", "'%s' is a module, not a configurable.",
                        selector);
    *out = at->entry;
    return SPT_OK;
}

/* What the import statement of a symbol contributes to a registered name. */
void gin_import_partial(buf *out, const struct gin_import *i)
{
    const char *last = strrchr(i->module, '.');
    if (i->alias) {
        if (last)
            buf_add(out, i->module, (size_t)(last + 1 - i->module));
        buf_adds(out, i->alias);
    } else if (i->from) {
        buf_adds(out, i->module);
    } else {
        size_t len;
        const char *s = gin_import_symbol(i, &len);
        buf_add(out, s, len);
    }
}

/* The module to import and the path behind it when the configuration is printed. */
static spt_status import_source(gin_config *c, const struct gin_import *i, const char *selector,
                                gin_reg *out)
{
    out->import_alias = i->alias;
    out->import_from = i->from;
    out->import_module = i->module;
    const char *rest = strchr(selector, '.') + 1;
    if (!i->from && !i->alias) {
        /* `import a.b.c` used as a.b.f: the module is the common part, a.b. */
        const char *m = i->module, *s = selector;
        size_t common = 0;
        for (;;) {
            const char *me = strchr(m, '.'), *se = strchr(s, '.');
            const size_t ml = me ? (size_t)(me - m) : strlen(m);
            if (!se || (size_t)(se - s) != ml || memcmp(m, s, ml) != 0)
                break;
            common = (size_t)(m + ml - i->module);
            s = se + 1;
            if (!me)
                break;
            m = me + 1;
        }
        out->import_module = gin_intern(&c->pool, i->module, common);
        rest = s;
    }
    out->import_selector = gin_intern(&c->pool, rest, strlen(rest));
    return out->import_module && out->import_selector ? SPT_OK : gin_nomem(c);
}

static spt_status register_found(gin_config *c, const struct gin_symbol *s, const char *selector,
                                 const struct gin_entry *e)
{
    gin_reg source = {0};
    buf name;
    buf_init(&name, 1 << 16);
    gin_import_partial(&name, s->import);
    buf_adds(&name, strchr(selector, '.'));
    spt_status st = buf_status(&name, "name", NULL);
    if (!st)
        st = import_source(c, s->import, selector, &source);
    if (!st)
        st = gin_register(c, e, buf_str(&name), &source, NULL);
    buf_release(&name);
    TRY(st);
    if (e->def->kind != GIN_METHOD)
        return SPT_OK;
    /* A method brings its class. */
    const size_t owner = (size_t)(strrchr(e->path, '.') - e->path);
    const struct gin_path *p = gin_registry_path(c->registry, e->path, owner);
    if (!p || !p->entry || c->reg_of[p->entry->index])
        return SPT_OK;
    const char *class_selector =
        gin_intern(&c->pool, selector, (size_t)(strrchr(selector, '.') - selector));
    if (!class_selector)
        return gin_nomem(c);
    return register_found(c, s, class_selector, p->entry);
}

static spt_status resolve_builtin(gin_config *c, const char *selector, const char *attr,
                                  const gin_reg **out)
{
    *out = strcmp(attr, "macro") == 0       ? c->macro
           : strcmp(attr, "constant") == 0  ? c->constant
           : strcmp(attr, "singleton") == 0 ? c->singleton
                                            : NULL;
    return *out ? SPT_OK : no_attribute(c, selector, "gin", 3, true, attr);
}

static spt_status resolve_dynamic(gin_config *c, struct gin_context *ctx, const char *selector,
                                  const gin_reg **out)
{
    const char *dot = strchr(selector, '.');
    const size_t len = dot ? (size_t)(dot - selector) : strlen(selector);
    const char *rest = dot ? dot + 1 : "";
    if (len == 3 && memcmp(selector, "gin", 3) == 0)
        return resolve_builtin(c, selector, rest, out);
    const struct gin_symbol *s = NULL;
    for (size_t i = 0; i < ctx->symbols && !s; i++)
        if (strncmp(ctx->symbol[i].name, selector, len) == 0 && !ctx->symbol[i].name[len])
            s = &ctx->symbol[i];
    if (!s)
        return gin_fail(c, SPT_E_CONFIG, "NameError",
                        "'%.*s' was not provided by an import statement.", (int)len, selector);
    buf path;
    buf_init(&path, 1 << 16);
    const struct gin_entry *e = NULL;
    spt_status st = walk(c, s, selector, rest, &path, &e);
    buf_release(&path);
    if (!st && !c->reg_of[e->index])
        st = register_found(c, s, selector, e);
    TRY(st);
    *out = c->reg_of[e->index];
    return SPT_OK;
}

spt_status gin_resolve(gin_config *c, struct gin_context *ctx, const char *selector,
                       const gin_reg **out)
{
    return ctx && ctx->dynamic ? resolve_dynamic(c, ctx, selector, out)
                               : gin_match(c, selector, out);
}

/* --- references -------------------------------------------------------------------------- */

static spt_status make_ref(gin_config *c, const char *scope, size_t len, const char *selector,
                           const gin_reg *reg, bool evaluated, gin_value *out)
{
    gin_ref *r = gin_pool_alloc(&c->pool, sizeof *r);
    const char *s = gin_intern(&c->pool, scope, len);
    if (!r || !s)
        return gin_nomem(c);
    *r = (gin_ref){s, selector, reg, evaluated};
    *out = (gin_value){.kind = GIN_REF};
    out->u.ref = r;
    return SPT_OK;
}

static spt_status make_macro(gin_parser *p, const char *name, size_t len, gin_value *out)
{
    gin_config *c = p->c;
    const char *complete;
    const gin_value *value;
    TRY(gin_constant_match(c, name, len, &complete, &value));
    const gin_reg *reg = complete ? c->constant : c->macro;
    const char *selector = complete ? "gin.constant" : "gin.macro";
    return make_ref(c, complete ? complete : name, complete ? strlen(complete) : len, selector, reg,
                    true, out);
}

spt_status gin_reference(gin_parser *p, const char *name, size_t len, bool macro, bool evaluated,
                         gin_value *out)
{
    gin_config *c = p->c;
    if (macro)
        return make_macro(p, name, len, out);
    size_t slash = len;
    while (slash > 0 && name[slash - 1] != '/')
        slash--;
    const char *selector = gin_intern(&c->pool, name + slash, len - slash);
    if (!selector)
        return gin_nomem(c);
    const gin_reg *reg = NULL;
    if (!gin_should_skip(c, selector)) {
        TRY(gin_resolve(c, p->context, selector, &reg));
        if (!reg) {
            gin_fail(c, SPT_E_CONFIG, "ValueError", "No configurable matching reference '@%s%s'.",
                     selector, evaluated ? "()" : "");
            gin_hint(c, "a name must be mentioned by some gin file (with its import) before other "
                        "files and the command line can use it");
            return SPT_E_CONFIG;
        }
    }
    return make_ref(c, name, slash ? slash - 1 : 0, selector, reg, evaluated, out);
}
