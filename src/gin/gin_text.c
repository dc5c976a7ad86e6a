/* The configuration as text: imports, macros, then one paragraph per (scope, configurable), byte
 * for byte as gin prints it. With dynamic registration the names are import symbols, so imports are
 * arranged first: distinct modules, unique symbols, and modules of statically registered
 * configurables are added. */
#include "gin/gin_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { LINE = 80 };

struct printed_import {
    const char *module;
    const char *alias;
    bool from;
    const char *symbol; /* under which its module is reached */
    const char *bound;  /* name it takes */
    size_t order;
};

struct imports {
    gin_config *c;
    bool dynamic;
    struct printed_import *item;
    size_t count, cap;
};

/* --- imports ----------------------------------------------------------------------------- */

static int compare_statement(const void *a, const void *b)
{
    const struct printed_import *x = a, *y = b;
    const int d = strcmp(x->module, y->module);
    if (d)
        return d;
    if (x->from != y->from)
        return x->from ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static const char *bound_name(gin_config *c, const struct printed_import *i)
{
    if (i->alias)
        return i->alias;
    const char *last = strrchr(i->module, '.'), *first = strchr(i->module, '.');
    if (i->from && last)
        return gin_intern(&c->pool, last + 1, strlen(last + 1));
    return gin_intern(&c->pool, i->module, first ? (size_t)(first - i->module) : strlen(i->module));
}

static bool name_taken(const struct imports *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->item[i].bound, name) == 0)
            return true;
    return false;
}

static const struct printed_import *find_import(const struct imports *m, const char *module)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->item[i].module, module) == 0)
            return &m->item[i];
    return NULL;
}

static spt_status add_import(struct imports *m, struct printed_import i)
{
    if (find_import(m, i.module))
        return SPT_OK;
    i.bound = bound_name(m->c, &i);
    if (!i.bound)
        return SPT_E_NOMEM;
    char unique[600];
    snprintf(unique, sizeof unique, "%s", i.bound);
    for (int n = 2; name_taken(m, unique); n++)
        snprintf(unique, sizeof unique, "%s%d", i.bound, n);
    if (strcmp(unique, i.bound) != 0) {
        i.alias = i.bound = gin_intern(&m->c->pool, unique, strlen(unique));
        if (!i.alias)
            return SPT_E_NOMEM;
    }
    i.symbol = i.from || i.alias ? i.bound : i.module;
    TRY(mem_grow(&m->item, &m->cap, m->count + 1, sizeof *m->item, 1 << 20, NULL));
    m->item[m->count++] = i;
    return SPT_OK;
}

static spt_status require_import(struct imports *m, const gin_reg *r)
{
    if (!m->dynamic || r == m->c->macro)
        return SPT_OK;
    if (r->import_module)
        return add_import(m, (struct printed_import){.module = r->import_module,
                                                     .alias = r->import_alias,
                                                     .from = r->import_from});
    const char *module = r->entry->def->module;
    return add_import(
        m, (struct printed_import){.module = module, .from = strchr(module, '.') != NULL});
}

static spt_status require_value(struct imports *m, const gin_value *v)
{
    if (v->kind == GIN_REF)
        return v->u.ref->reg ? require_import(m, v->u.ref->reg) : SPT_OK;
    const uint32_t step = v->kind == GIN_DICT ? 2 : 1;
    if (v->kind == GIN_LIST || v->kind == GIN_TUPLE || v->kind == GIN_DICT)
        for (uint32_t i = 0; i < v->count; i++)
            TRY(require_value(m, &v->u.items[i * step + (step - 1)]));
    return SPT_OK;
}

static spt_status collect_imports(struct imports *m, const gin_table *t)
{
    size_t n = 0;
    for (const struct gin_import *i = m->c->first_import; i; i = i->next) {
        m->dynamic |= strcmp(i->module, "__gin__.dynamic_registration") == 0;
        n++;
    }
    struct printed_import *all = mem_alloc(n + 1, sizeof *all);
    if (!all)
        return SPT_E_NOMEM;
    n = 0;
    for (const struct gin_import *i = m->c->first_import; i; i = i->next, n++)
        all[n] = (struct printed_import){
            .module = i->module, .alias = i->alias, .from = i->from, .order = n};
    qsort(all, n, sizeof *all, compare_statement);
    spt_status st = SPT_OK;
    for (size_t i = 0, next; i < n && !st; i = next) {
        /* A module imported under several names: gin's choice depends on hash order; we take the
         * first name that is still free. */
        for (next = i + 1; next < n && strcmp(all[next].module, all[i].module) == 0;)
            next++;
        size_t pick = i;
        for (size_t k = next; k-- > i;) {
            const char *name = all[k].from == all[i].from ? bound_name(m->c, &all[k]) : NULL;
            if (name && !name_taken(m, name))
                pick = k;
        }
        st = add_import(m, all[pick]);
    }
    mem_free(all);
    for (const gin_section *s = t->first; s && !st && m->dynamic; s = s->next)
        st = require_import(m, s->reg);
    for (const gin_section *s = t->first; s && !st && m->dynamic; s = s->next)
        for (const gin_binding *b = s->first; b && !st; b = b->next)
            st = require_value(m, &b->value);
    return st;
}

static void print_imports(struct imports *m, buf *out)
{
    for (size_t i = 0; i < m->count; i++)
        m->item[i].order = i;
    if (m->count)
        qsort(m->item, m->count, sizeof *m->item, compare_statement);
    for (size_t i = 0; i < m->count; i++) {
        const struct printed_import *p = &m->item[i];
        const char *last = p->from ? strrchr(p->module, '.') : NULL;
        if (last)
            buf_addf(out, "from %.*s import %s", (int)(last - p->module), p->module, last + 1);
        else
            buf_addf(out, "import %s", p->module);
        if (p->alias)
            buf_addf(out, " as %s", p->alias);
        buf_addc(out, '\n');
    }
    if (m->count)
        buf_addc(out, '\n');
}

/* Name of a configurable in the text. */
static const char *shown_name(struct imports *m, const gin_reg *r)
{
    if (!m->dynamic)
        return gin_minimal(m->c, r);
    const struct printed_import *i =
        find_import(m, r->import_module ? r->import_module : r->entry->def->module);
    const char *name = r->import_module ? r->import_selector : r->entry->def->name;
    if (!i)
        return r->name;
    char full[1200];
    const int n = snprintf(full, sizeof full, "%s.%s", i->symbol, name);
    return gin_intern(&m->c->pool, full, n < (int)sizeof full ? (size_t)n : sizeof full - 1);
}

static const char *shown_ref(void *ctx, const gin_ref *ref)
{
    struct imports *m = ctx;
    return m->dynamic ? shown_name(m, ref->reg) : ref->selector;
}

/* --- order ------------------------------------------------------------------------------- */

struct sorted {
    const gin_section *section;
    size_t order;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
}

static int compare_lower(const char *a, size_t n, const char *b, size_t k)
{
    for (size_t i = 0; i < n && i < k; i++) {
        const int d = (unsigned char)lower(a[i]) - (unsigned char)lower(b[i]);
        if (d)
            return d;
    }
    return (n > k) - (n < k);
}

/* Components from the last to the first: of the name ('.'; a method counts with its class as one),
 * then of the scope ('/'). An empty scope is one empty component, as in Python's split(). */
struct walk {
    const gin_section *s;
    size_t left;
    int stage; /* 0: first component of the name, 1: name, 2: scope, 3: done */
};

static bool next_part(struct walk *w, const char **part, size_t *len)
{
    const char *text = w->stage < 2 ? w->s->reg->name : w->s->scope;
    const char separator = w->stage < 2 ? '.' : '/';
    if (w->stage == 3)
        return false;
    if (w->stage == 0)
        w->left = strlen(text);
    size_t start = w->left;
    int parts = w->stage == 0 && w->s->reg->is_method ? 2 : 1;
    for (; start > 0; start--)
        if (text[start - 1] == separator && --parts == 0)
            break;
    *part = text + start;
    *len = w->left - start;
    if (start > 0) {
        w->left = start - 1;
        w->stage = w->stage == 0 ? 1 : w->stage;
    } else {
        w->stage = w->stage < 2 ? 2 : 3;
        w->left = w->stage == 2 ? strlen(w->s->scope) : 0;
    }
    return true;
}

static int compare_sections(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    struct walk p = {.s = x->section}, q = {.s = y->section};
    if (p.s->reg == q.s->reg) { /* one name: only the scopes differ */
        p.stage = q.stage = 2;
        p.left = strlen(p.s->scope);
        q.left = strlen(q.s->scope);
    }
    for (;;) {
        const char *s = "", *t = "";
        size_t n = 0, k = 0;
        const bool more_p = next_part(&p, &s, &n), more_q = next_part(&q, &t, &k);
        if (!more_p || !more_q) {
            if (more_p != more_q)
                return more_p ? 1 : -1;
            return (x->order > y->order) - (x->order < y->order);
        }
        const int d = compare_lower(s, n, t, k);
        if (d)
            return d;
    }
}

static int compare_params(const void *a, const void *b)
{
    return strcmp((*(const gin_binding *const *)a)->param, (*(const gin_binding *const *)b)->param);
}

/* --- bindings ---------------------------------------------------------------------------- */

struct printing {
    gin_config *c;
    struct imports m;
    struct gin_printer printer;
    bool provenance;
    buf *out;
    buf value;
};

static void rule(buf *out)
{
    buf_addf(out, "# %.*s\n", LINE - 2,
             "==============================================================================");
}

/* `key` ends the output so far; adds " = value". */
static spt_status print_binding(struct printing *t, const char *key, const gin_binding *b)
{
    buf_clear(&t->value);
    TRY(gin_pretty(&t->value, &b->value, &t->printer));
    const char *s = buf_str(&t->value);
    if (t->provenance && b->line) {
        if (b->file)
            buf_addf(t->out, "# Set in %s:%u:\n", b->file, b->line);
        else
            buf_addf(t->out, "# Set in bindings string:%u:\n", b->line);
    }
    buf_adds(t->out, key);
    if (!strchr(s, '\n') &&
        gin_text_width(key, strlen(key)) + gin_text_width(s, t->value.len) <= LINE) {
        buf_adds(t->out, " = ");
        buf_add(t->out, s, t->value.len);
        buf_addc(t->out, '\n');
        return t->out->st;
    }
    buf_adds(t->out, " = \\\n");
    for (;;) {
        const size_t n = strcspn(s, "\n");
        buf_adds(t->out, "    ");
        buf_add(t->out, s, n);
        buf_addc(t->out, '\n');
        if (!s[n])
            return t->out->st;
        s += n + 1;
    }
}

static spt_status print_section(struct printing *t, const gin_section *s)
{
    const char *name = shown_name(&t->m, s->reg);
    if (!name)
        return SPT_E_NOMEM;
    const gin_binding **param = mem_alloc(s->count + 1, sizeof *param);
    if (!param)
        return SPT_E_NOMEM;
    size_t n = 0;
    for (const gin_binding *b = s->first; b; b = b->next)
        if (gin_representable(&b->value))
            param[n++] = b;
    if (n)
        qsort(param, n, sizeof *param, compare_params);
    const char *slash = *s->scope ? "/" : "";
    buf_addf(t->out, "# Parameters for %s%s%s:\n", s->scope, slash, name);
    rule(t->out);
    spt_status st = SPT_OK;
    buf key;
    buf_init(&key, GIN_MAX_FILE);
    for (size_t i = 0; i < n && !st; i++) {
        buf_clear(&key);
        buf_adds(&key, s->scope);
        buf_addf(&key, "%s%s.", slash, name);
        buf_adds(&key, param[i]->param);
        st = key.st ? key.st : print_binding(t, buf_str(&key), param[i]);
    }
    if (!n)
        buf_adds(t->out, "# None.\n");
    buf_addc(t->out, '\n');
    buf_release(&key);
    mem_free(param);
    return st;
}

static spt_status print_macros(struct printing *t, const struct sorted *all, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        const gin_section *s = all[i].section;
        if (s->reg != t->c->macro)
            continue;
        const gin_binding *b = s->first;
        while (b && strcmp(b->param, "value") != 0)
            b = b->next;
        if (!any) {
            buf_adds(t->out, "# Macros:\n");
            rule(t->out);
            any = true;
        }
        if (b)
            TRY(print_binding(t, s->scope, b));
    }
    if (any)
        buf_addc(t->out, '\n');
    return SPT_OK;
}

static spt_status print_all(struct printing *t, const gin_table *table)
{
    TRY(collect_imports(&t->m, table));
    print_imports(&t->m, t->out);
    struct sorted *all = mem_alloc(table->count + 1, sizeof *all);
    if (!all)
        return SPT_E_NOMEM;
    size_t n = 0;
    for (const gin_section *s = table->first; s; s = s->next, n++)
        all[n] = (struct sorted){s, n};
    if (n)
        qsort(all, n, sizeof *all, compare_sections);
    spt_status st = print_macros(t, all, n);
    for (size_t i = 0; i < n && !st; i++)
        if (all[i].section->reg != t->c->macro && all[i].section->reg != t->c->constant)
            st = print_section(t, all[i].section);
    mem_free(all);
    return st;
}

static spt_status print_table(gin_config *c, const gin_table *table, bool provenance, buf *out,
                              spt_err *err)
{
    const size_t start = out->len;
    struct printing t = {.c = c, .provenance = provenance, .out = out};
    t.m.c = c;
    t.printer = (struct gin_printer){shown_ref, &t.m, true};
    buf_init(&t.value, (size_t)256 << 20);
    spt_status st = print_all(&t, table);
    buf_release(&t.value);
    mem_free(t.m.item);
    if (!st)
        st = out->st;
    if (st == SPT_E_NOMEM)
        return err_nomem(err, 0);
    if (st)
        return err_set(err, SPT_E_CONFIG, "gin: the configuration is too large to print");
    /* The pieces are joined with newlines: the last blank line is not one of its own. */
    if (out->len > start + 1 && out->data[out->len - 1] == '\n' && out->data[out->len - 2] == '\n')
        out->data[--out->len] = 0;
    return SPT_OK;
}

spt_status gin_config_text(gin_config *c, bool provenance, buf *out, spt_err *err)
{
    return print_table(c, &c->bound, provenance, out, err);
}

spt_status gin_operative_text(gin_config *c, buf *out, spt_err *err)
{
    return print_table(c, &c->operative, false, out, err);
}

/* --- Markdown ---------------------------------------------------------------------------- */

void gin_markdown(const char *text, size_t size, buf *out)
{
    for (const char *s = text, *end = text + size; s < end;) {
        const char *nl = memchr(s, '\n', (size_t)(end - s));
        size_t len = nl ? (size_t)(nl - s) : (size_t)(end - s);
        if (s != text)
            buf_addc(out, '\n');
        if (*s != '#') {
            buf_adds(out, "    ");
            buf_add(out, s, len);
        } else {
            const size_t cut = len < 2 ? len : 2;
            const char *rest = s + cut;
            const size_t n = len - cut;
            if (n >= 4 && memcmp(rest, "====", 4) == 0)
                ;
            else if (n >= 4 && memcmp(rest, "None", 4) == 0)
                buf_adds(out, "    # None.");
            else {
                if (n && rest[n - 1] == ':')
                    buf_adds(out, "#### ");
                buf_add(out, rest, n);
            }
        }
        s += len + 1;
    }
}
