/* The store of bindings and the execution of statements.
 *
 * A binding is (scope, configurable, parameter) -> value; the last one executed wins and keeps the
 * place of the first. Statements run in the order of the text, an include runs completely where it
 * stands, command-line bindings come last; there is no other layering. Values are looked up when
 * somebody evaluates, so a macro may be defined after its use.
 *
 * Large inputs: one binding costs about 140 bytes; sections are found by hash, parameters by a
 * list up to SMALL of them and by hash beyond. Includes are bounded in depth, number and bytes, and
 * a file that includes itself is reported as a cycle at its first repetition. */
#include "gin/gin_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "fs/fs.h"

enum { SMALL = 16, MAX_PREFIXES = 4096 };

/* --- store ------------------------------------------------------------------------------- */

static uint64_t pair_hash(const void *a, const void *b)
{
    uint64_t h = (uint64_t)(uintptr_t)a * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    h = (h + (uint64_t)(uintptr_t)b) * 0xbf58476d1ce4e5b9u;
    return h ^ h >> 31;
}

gin_section *gin_section_find(const gin_table *t, const char *scope, const gin_reg *r)
{
    if (!t->slots)
        return NULL;
    const size_t mask = t->slots - 1;
    for (size_t at = pair_hash(scope, r) & mask; t->slot[at]; at = (at + 1) & mask) {
        gin_section *s = t->slot[at];
        if (s->scope == scope && s->reg == r)
            return s;
    }
    return NULL;
}

static void hash_section(gin_section **slot, size_t slots, gin_section *s)
{
    size_t at = pair_hash(s->scope, s->reg) & (slots - 1);
    while (slot[at])
        at = (at + 1) & (slots - 1);
    slot[at] = s;
}

static spt_status grow_sections(gin_config *c, gin_table *t)
{
    const size_t n = t->slots ? t->slots * 2 : 64;
    gin_section **slot = mem_zalloc(n, sizeof *slot);
    if (!slot)
        return gin_nomem(c);
    for (gin_section *s = t->first; s; s = s->next)
        hash_section(slot, n, s);
    mem_free(t->slot);
    t->slot = slot;
    t->slots = n;
    return SPT_OK;
}

static spt_status section_of(gin_config *c, gin_table *t, const char *scope, const gin_reg *r,
                             gin_section **out)
{
    *out = gin_section_find(t, scope, r);
    if (*out)
        return SPT_OK;
    if (t->count * 2 >= t->slots)
        TRY(grow_sections(c, t));
    gin_section *s = gin_pool_alloc(&c->pool, sizeof *s);
    if (!s)
        return gin_nomem(c);
    *s = (gin_section){.scope = scope, .reg = r};
    hash_section(t->slot, t->slots, s);
    t->count++;
    if (t->last)
        t->last->next = s;
    else
        t->first = s;
    t->last = s;
    *out = s;
    return SPT_OK;
}

static void hash_binding(gin_binding **slot, size_t slots, gin_binding *b)
{
    size_t at = pair_hash(b->section, b->param) & (slots - 1);
    while (slot[at])
        at = (at + 1) & (slots - 1);
    slot[at] = b;
}

static spt_status grow_bindings(gin_config *c, size_t need)
{
    size_t n = c->binding_slots ? c->binding_slots : 64;
    while (n < need * 2)
        n *= 2;
    if (n == c->binding_slots)
        return SPT_OK;
    gin_binding **slot = mem_zalloc(n, sizeof *slot);
    if (!slot)
        return gin_nomem(c);
    for (size_t i = 0; i < c->binding_slots; i++)
        if (c->binding_slot[i])
            hash_binding(slot, n, c->binding_slot[i]);
    mem_free(c->binding_slot);
    c->binding_slot = slot;
    c->binding_slots = n;
    return SPT_OK;
}

gin_binding *gin_binding_find(const gin_config *c, const gin_section *s, const char *param)
{
    if (!s)
        return NULL;
    if (s->count <= SMALL) {
        for (gin_binding *b = s->first; b; b = b->next)
            if (b->param == param)
                return b;
        return NULL;
    }
    const size_t mask = c->binding_slots - 1;
    for (size_t at = pair_hash(s, param) & mask; c->binding_slot[at]; at = (at + 1) & mask)
        if (c->binding_slot[at]->section == s && c->binding_slot[at]->param == param)
            return c->binding_slot[at];
    return NULL;
}

static spt_status add_binding(gin_config *c, gin_section *s, gin_binding *b)
{
    if (s->count == SMALL) { /* the section becomes large: all of it goes into the table */
        TRY(grow_bindings(c, c->hashed + SMALL + 1));
        for (gin_binding *k = s->first; k; k = k->next)
            hash_binding(c->binding_slot, c->binding_slots, k);
        c->hashed += SMALL;
    }
    if (s->count >= SMALL) {
        TRY(grow_bindings(c, c->hashed + 1));
        hash_binding(c->binding_slot, c->binding_slots, b);
        c->hashed++;
    }
    if (s->last)
        s->last->next = b;
    else
        s->first = b;
    s->last = b;
    s->count++;
    return SPT_OK;
}

spt_status gin_table_set(gin_config *c, gin_table *t, const char *scope, const gin_reg *r,
                         const char *param, const gin_value *v, gin_binding **out)
{
    gin_section *s;
    TRY(section_of(c, t, scope, r, &s));
    gin_binding *b = gin_binding_find(c, s, param);
    if (!b) {
        b = gin_pool_alloc(&c->pool, sizeof *b);
        if (!b)
            return gin_nomem(c);
        *b = (gin_binding){.section = s, .param = param};
        TRY(add_binding(c, s, b));
    }
    b->value = *v;
    if (out)
        *out = b;
    return SPT_OK;
}

spt_status gin_store(gin_config *c, const char *scope, const gin_reg *r, const char *param,
                     const gin_value *v, const char *file, uint32_t line)
{
    gin_binding *b;
    if (c->locked)
        return gin_fail(c, SPT_E_CONFIG, "RuntimeError", "Attempted to modify locked Gin config.");
    TRY(gin_table_set(c, &c->bound, scope, r, param, v, &b));
    b->file = file;
    b->line = line;
    return SPT_OK;
}

/* --- keys -------------------------------------------------------------------------------- */

static size_t edit_distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= 63 || strlen(a) >= 63)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const size_t up = row[j + 1];
            size_t best = diagonal + (a[i] != b[j]);
            if (up + 1 < best)
                best = up + 1;
            if (row[j] + 1 < best)
                best = row[j] + 1;
            diagonal = up;
            row[j + 1] = best;
        }
    }
    return row[n];
}

static spt_status bad_param(gin_config *c, const char *selector, const gin_reg *r,
                            const char *param)
{
    gin_fail(c, SPT_E_CONFIG, "ValueError",
             "Configurable '%s' doesn't have a parameter named '%s'.", selector, param);
    const char *best = NULL;
    size_t least = 4;
    for (uint32_t i = 0; i < r->entry->params; i++) {
        const size_t d = edit_distance(param, r->entry->param[i].name);
        if (d < least) {
            least = d;
            best = r->entry->param[i].name;
        }
    }
    if (best)
        gin_hint(c, "did you mean '%s'?", best);
    return SPT_E_CONFIG;
}

/* Finds the configurable of a binding and checks the parameter. `selector` is interned. */
static spt_status resolve_key(gin_config *c, struct gin_context *ctx, const char *selector,
                              const char *param, const gin_reg **out)
{
    const gin_reg *r = NULL;
    TRY(gin_resolve(c, ctx, selector, &r));
    if (!r)
        return gin_fail(c, SPT_E_CONFIG, "ValueError", "No configurable matching '%s'.", selector);
    if (r->is_method && !strchr(selector, '.')) {
        const char *end = strrchr(r->name, '.'), *start = end;
        while (start > r->name && start[-1] != '.')
            start--;
        return gin_fail(c, SPT_E_CONFIG, "ValueError",
                        "Method '%s' referenced without class name '%.*s'.", selector,
                        (int)(end - start), start);
    }
    if (param && !gin_has_param(r->entry, param))
        return bad_param(c, selector, r, param);
    *out = r;
    return SPT_OK;
}

/* --- statements -------------------------------------------------------------------------- */

/* gin's location paragraph. Syntax errors carry their own place. */
static void add_location(gin_config *c, const char *file, const gin_location *at)
{
    if (strcmp(c->error_kind, "SyntaxError") == 0 || strcmp(c->error_kind, "IndentationError") == 0)
        return;
    size_t len = at->source_len;
    while (len && strchr(" \t\f\r\n", at->source[len - 1]))
        len--;
    if (file)
        buf_addf(&c->error_text, "\n  In file \"%s\", line %u\n    %.*s", file, at->line, (int)len,
                 at->source);
    else
        buf_addf(&c->error_text, "\n  In bindings string line %u\n    %.*s", at->line, (int)len,
                 at->source);
    size_t column = 0;
    if (at->column > 0) {
        column = gin_text_width(at->source, (size_t)at->column);
        buf_addf(&c->error_text, "\n    %*s^", (int)column, "");
    }
    if (!c->error.line) {
        c->error.file = file;
        c->error.line = at->line;
        c->error.column = at->column > 0 ? (int32_t)column : -1;
        buf_clear(&c->error_source);
        buf_add(&c->error_source, at->source, len);
    }
}

/* A syntax error found while executing (the __gin__ features) gets the place of its statement. */
static spt_status located(gin_config *c, spt_status st, const char *file, const gin_location *at)
{
    if (st != SPT_E_CONFIG && st != SPT_E_NOTFOUND && st != SPT_E_IO)
        return st;
    if (strcmp(c->error_kind, "SyntaxError") == 0 && !c->error.line) {
        c->error.file = file;
        c->error.line = at->line;
        buf_add(&c->error_source, at->source, at->source_len);
    }
    add_location(c, file, at);
    return st;
}

static spt_status run_binding(gin_config *c, gin_parser *p, const gin_statement *s)
{
    const char *file = p->lex.file;
    if (!*s->param) {
        const char *value = gin_intern(&c->pool, "value", 5);
        if (!value)
            return gin_nomem(c);
        return located(c, gin_store(c, s->selector, c->macro, value, &s->value, file, s->at.line),
                       file, &s->at);
    }
    if (gin_should_skip(c, s->selector)) {
        log_info("skipping binding of unknown %s.%s (skip_unknown)", s->selector, s->param);
        return SPT_OK;
    }
    const gin_reg *r;
    spt_status st = resolve_key(c, p->context, s->selector, s->param, &r);
    if (!st)
        st = gin_store(c, s->scope, r, s->param, &s->value, file, s->at.line);
    return located(c, st, file, &s->at);
}

static spt_status run_block(gin_config *c, gin_parser *p, const gin_statement *s)
{
    const char *file = p->lex.file;
    const gin_reg *r = NULL;
    if (gin_should_skip(c, s->selector)) {
        log_info("skipping block of unknown %s (skip_unknown)", s->selector);
        return SPT_OK;
    }
    spt_status st = gin_resolve(c, p->context, s->selector, &r);
    if (!st && !r)
        st = gin_fail(c, SPT_E_CONFIG, "ValueError", "No configurable matching '%s'.", s->selector);
    if (st)
        return located(c, st, file, &s->at);
    for (size_t i = 0; i < p->items; i++) {
        const struct gin_block_item *item = &p->item[i];
        st = resolve_key(c, p->context, s->selector, item->param, &r);
        if (!st)
            st = gin_store(c, s->scope, r, item->param, &item->value, file, item->line);
        if (st) {
            gin_location at = {0};
            gin_parser_source(p, item->line, &at);
            at.column = (int32_t)item->column;
            return located(c, st, file, &at);
        }
    }
    return SPT_OK;
}

static spt_status run_statement(gin_config *c, gin_parser *p, const gin_statement *s)
{
    /* never: every type of statement has its case */
    switch (s->type) {
    case ST_BINDING:
        return run_binding(c, p, s);
    case ST_BLOCK:
        return run_block(c, p, s);
    case ST_IMPORT:
        return located(c, gin_import_statement(c, p->context, s), p->lex.file, &s->at);
    case ST_INCLUDE:
        return located(c, gin_parse_file(c, s->value.u.s, NULL), p->lex.file, &s->at);
    case ST_END:
        break;
    }
    return SPT_OK;
}

/* --- texts ------------------------------------------------------------------------------- */

static spt_status check_text(gin_config *c, const char *file, const char *text, size_t size)
{
    size_t bad;
    if (!gin_utf8_valid(text, size, &bad)) {
        gin_fail(c, SPT_E_CONFIG, "UnicodeDecodeError",
                 "'utf-8' codec can't decode byte 0x%02x in position %zu%s%s",
                 (unsigned)(unsigned char)text[bad], bad, file ? " of " : "", file ? file : "");
        c->error.file = file;
        return SPT_E_CONFIG;
    }
    c->total += size;
    if (c->total > GIN_MAX_TOTAL)
        return gin_fail(c, SPT_E_CONFIG, "ValueError",
                        "More than %zu MB of gin text were read; do files include each other?",
                        GIN_MAX_TOTAL >> 20);
    return SPT_OK;
}

/* A string that lost its quotes on the way through the shell is the most frequent mistake. */
static void hint_quotes(gin_config *c, const gin_parser *p)
{
    gin_location at = {0};
    if (strcmp(c->error_kind, "SyntaxError") != 0 || c->error.file || c->error_hint.len)
        return;
    gin_parser_source(p, c->error.line, &at);
    const int len = at.source_len < 300 ? (int)at.source_len : 300;
    char line[301];
    snprintf(line, sizeof line, "%.*s", len, at.source);
    char *eq = strstr(line, " = "), *value = eq ? eq + 3 : NULL;
    if (!eq || (*value && strchr("'\"@%([{0123456789", *value)))
        return;
    *eq = 0;
    if (*value)
        gin_hint(c,
                 "the value arrived as %s; a string needs gin quotes inside shell quotes: "
                 "--gin.%s=\"'%s'\"",
                 value, line, value);
    else
        gin_hint(c, "the value of %s is empty; an empty string is written --gin.%s=\"''\"", line,
                 line);
}

/* `text` is normalised and stays valid during the call. */
static spt_status parse_text(gin_config *c, const char *file, const char *text, size_t size)
{
    struct gin_context ctx = {0};
    gin_parser p = {0};
    gin_statement s;
    spt_status st = check_text(c, file, text, size);
    if (!st)
        st = gin_parser_init(&p, c, &ctx, file, text, size, gin_reference);
    while (!st) {
        st = gin_statement_next(&p, &s);
        if (st || s.type == ST_END)
            break;
        if (!file && p.lex.comments) {
            const char *hash = memchr(s.at.source, '#', s.at.source_len);
            log_warning("gin bindings line %u: what follows '#' is a comment and was cut off"
                        "%s%.*s; inside quotes '#' is an ordinary character",
                        s.at.line, hash ? ": " : "",
                        hash ? (int)(s.at.source_len - (size_t)(hash - s.at.source)) : 0,
                        hash ? hash : "");
            p.lex.comments = false;
        }
        st = run_statement(c, &p, &s);
    }
    if (!st)
        st = gin_context_finish(c, &ctx);
    else if (st == SPT_E_CONFIG && !file)
        hint_quotes(c, &p);
    gin_parser_release(&p);
    gin_context_release(&ctx);
    return st;
}

static spt_status missing_file(gin_config *c, const char *name)
{
    buf list;
    buf_init(&list, 1 << 20);
    buf_adds(&list, "''");
    for (size_t i = 0; !path_is_absolute(name) && i < c->prefixes; i++)
        buf_addf(&list, ", '%s'", c->prefix[i]);
    gin_fail(c, SPT_E_NOTFOUND, "OSError", "Unable to open file: %s. Searched config paths: [%s].",
             name, buf_str(&list));
    gin_hint(c, "names are relative to the current directory or to a --gin_search_paths entry, "
                "never to the including file");
    buf_release(&list);
    return SPT_E_NOTFOUND;
}

/* The first prefix under which `name` is a file. *path NULL: none. */
static spt_status find_file(gin_config *c, const char *name, const char **path)
{
    *path = NULL;
    for (size_t i = 0; i <= c->prefixes && (i == 0 || !path_is_absolute(name)); i++) {
        buf full;
        buf_init(&full, 1 << 16);
        const char *prefix = i ? c->prefix[i - 1] : "";
        buf_adds(&full, prefix);
        if (*prefix && prefix[strlen(prefix) - 1] != '/')
            buf_addc(&full, '/');
        buf_adds(&full, name);
        spt_err e = {0};
        struct fs_info info;
        spt_status st = buf_status(&full, "path", &e);
        if (!st)
            st = fs_stat(full.data, &info, &e);
        if (!st && !info.is_dir) {
            *path = gin_intern(&c->pool, full.data, full.len);
            st = *path ? SPT_OK : SPT_E_NOMEM;
        } else if (st && st != SPT_E_NOMEM) {
            st = SPT_OK; /* not here, or not readable: the next prefix */
        }
        buf_release(&full);
        TRY(st);
        if (*path)
            return SPT_OK;
    }
    return SPT_OK;
}

static spt_status read_file(gin_config *c, const char *path, char **text, size_t *size)
{
    spt_err e = {0};
    const spt_status st = fs_read_all(path, GIN_MAX_FILE, text, size, &e);
    if (st == SPT_E_NOMEM || !st)
        return st;
    const bool known = st == SPT_E_IO || st == SPT_E_NOTFOUND || st == SPT_E_INTERRUPTED;
    return gin_fail(c, known ? st : SPT_E_CONFIG, "OSError", "%s", e.msg);
}

static spt_status parse_open_file(gin_config *c, const char *path)
{
    for (const struct gin_file *f = c->open; f; f = f->up) {
        if (f->path != path)
            continue;
        gin_fail(c, SPT_E_CONFIG, "RecursionError", "include cycle: %s includes itself", path);
        if (f != c->open) {
            buf_addf(&c->error_text, " (through");
            for (const struct gin_file *k = c->open; k != f; k = k->up)
                buf_addf(&c->error_text, " %s", k->path);
            buf_addc(&c->error_text, ')');
        }
        return SPT_E_CONFIG;
    }
    if (c->depth >= GIN_MAX_DEPTH)
        return gin_fail(c, SPT_E_CONFIG, "RecursionError", "includes are nested more than %d deep",
                        GIN_MAX_DEPTH);
    if (++c->includes > GIN_MAX_INCLUDES)
        return gin_fail(c, SPT_E_CONFIG, "RecursionError", "more than %d gin files were read",
                        GIN_MAX_INCLUDES);
    char *text = NULL;
    size_t size = 0;
    TRY(read_file(c, path, &text, &size));
    size = gin_normalise(text, size);
    const struct gin_file self = {c->open, path};
    c->open = &self;
    c->depth++;
    const spt_status st = parse_text(c, path, text, size);
    c->depth--;
    c->open = self.up;
    mem_free(text);
    return st;
}

spt_status gin_parse_file(gin_config *c, const char *name, spt_err *err)
{
    const char *path;
    spt_status st = find_file(c, name, &path);
    if (!st)
        st = path ? parse_open_file(c, path) : missing_file(c, name);
    return err ? gin_report(c, st, err) : st;
}

spt_status gin_parse_string(gin_config *c, const char *text, size_t size, spt_err *err)
{
    if (size > GIN_MAX_FILE)
        return err_set(err, SPT_E_CONFIG, "gin bindings: %zu bytes, at most %zu are read", size,
                       GIN_MAX_FILE);
    char *copy = mem_strndup(text, size);
    if (!copy)
        return err_nomem(err, size);
    const spt_status st = parse_text(c, NULL, copy, gin_normalise(copy, size));
    mem_free(copy);
    return gin_report(c, st, err);
}

spt_status gin_parse_bindings(gin_config *c, const char *const *bindings, size_t n, spt_err *err)
{
    buf all;
    buf_init(&all, GIN_MAX_FILE);
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_addc(&all, '\n');
        buf_adds(&all, bindings[i]);
    }
    spt_status st = buf_status(&all, "gin bindings", err);
    if (!st)
        st = gin_parse_string(c, buf_str(&all), all.len, err);
    buf_release(&all);
    return st;
}

spt_status gin_bind(gin_config *c, const char *key, const char *literal, spt_err *err)
{
    buf text;
    buf_init(&text, GIN_MAX_FILE);
    buf_addf(&text, "%s = ", key);
    buf_adds(&text, literal);
    spt_status st = buf_status(&text, key, err);
    if (!st)
        st = gin_parse_string(c, buf_str(&text), text.len, err);
    buf_release(&text);
    return st;
}

/* A literal on its own, for constants and defaults. */
spt_status gin_parse_literal(gin_config *c, const char *text, gin_value *out)
{
    gin_parser p;
    spt_status st = gin_parser_init(&p, c, NULL, NULL, text, strlen(text), gin_reference);
    if (!st)
        st = gin_parse_value(&p, out);
    if (!st && p.t.type != T_NEWLINE && p.t.type != T_END)
        st = gin_fail(c, SPT_E_CONFIG, "SyntaxError", "Expected newline.");
    gin_parser_release(&p);
    return st;
}

/* --- life -------------------------------------------------------------------------------- */

void gin_attach(gin_config *c, void *what)
{
    c->attached = what;
}

void *gin_attached(const gin_config *c)
{
    return c->attached;
}

spt_status gin_config_new(const gin_registry *r, gin_config **out, spt_err *err)
{
    gin_config *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(err, sizeof *c);
    c->registry = r;
    buf_init(&c->error_text, (size_t)64 << 20);
    buf_init(&c->error_source, GIN_MAX_FILE);
    buf_init(&c->error_hint, 4096);
    spt_status st = gin_names_init(c);
    c->count_of = mem_zalloc(r->entries, sizeof *c->count_of);
    c->dflt_of = mem_zalloc(r->entries, sizeof *c->dflt_of);
    if (!c->count_of || !c->dflt_of)
        st = SPT_E_NOMEM;
    if (st) {
        gin_config_free(c);
        return err_nomem(err, sizeof *c);
    }
    *out = c;
    return SPT_OK;
}

void gin_config_free(gin_config *c)
{
    if (!c)
        return;
    gin_pool_release(&c->pool);
    mem_free(c->reg_of);
    mem_free(c->bound.slot);
    mem_free(c->operative.slot);
    mem_free(c->binding_slot);
    mem_free(c->prefix);
    mem_free(c->count_of);
    mem_free(c->dflt_of);
    buf_release(&c->error_text);
    buf_release(&c->error_source);
    buf_release(&c->error_hint);
    mem_free(c);
}

spt_status gin_config_entry(gin_config *c, const char *path, spt_err *err)
{
    const struct gin_path *p = gin_registry_path(c->registry, path, strlen(path));
    if (!p || !p->entry)
        return err_set(err, SPT_E_CONFIG, "gin: no definition of %s in the registry", path);
    if (c->reg_of[p->entry->index])
        return SPT_OK;
    return gin_report(c, gin_register(c, p->entry, path, NULL, NULL), err);
}

spt_status gin_add_search_path(gin_config *c, const char *prefix, spt_err *err)
{
    TRY(mem_grow(&c->prefix, &c->prefix_cap, c->prefixes + 1, sizeof *c->prefix, MAX_PREFIXES,
                 err));
    const char *kept = gin_intern(&c->pool, prefix, strlen(prefix));
    if (!kept)
        return err_nomem(err, strlen(prefix));
    c->prefix[c->prefixes++] = kept;
    return SPT_OK;
}

void gin_skip_unknown(gin_config *c, const char *const *names, size_t n)
{
    c->skip_all = !names;
    c->skip = names;
    c->skips = names ? n : 0;
}

/* --- finalisation ------------------------------------------------------------------------ */

typedef spt_status (*ref_fn)(gin_config *c, void *ctx, const gin_ref *ref, const gin_binding *b);

static spt_status each_ref(gin_config *c, const gin_value *v, ref_fn fn, void *ctx,
                           const gin_binding *b)
{
    if (v->kind == GIN_REF)
        return fn(c, ctx, v->u.ref, b);
    const uint32_t step = v->kind == GIN_DICT ? 2 : 1; /* dict keys are not looked at */
    if (v->kind == GIN_LIST || v->kind == GIN_TUPLE || v->kind == GIN_DICT)
        for (uint32_t i = 0; i < v->count; i++)
            TRY(each_ref(c, &v->u.items[i * step + (step - 1)], fn, ctx, b));
    return SPT_OK;
}

static spt_status each_stored_ref(gin_config *c, ref_fn fn, void *ctx)
{
    for (const gin_section *s = c->bound.first; s; s = s->next)
        for (const gin_binding *b = s->first; b; b = b->next)
            TRY(each_ref(c, &b->value, fn, ctx, b));
    return SPT_OK;
}

/* gin puts the whole configuration into the message. */
static void add_config(gin_config *c, const char *tail)
{
    if (c->bound.count > 4096) {
        buf_addf(&c->error_text, "(%zu sections)%s", c->bound.count, tail);
        return;
    }
    buf text;
    buf_init(&text, (size_t)32 << 20);
    if (gin_config_text(c, false, &text, NULL) == SPT_OK)
        buf_add(&c->error_text, buf_str(&text), text.len);
    buf_adds(&c->error_text, tail);
    buf_release(&text);
}

static spt_status check_macro(gin_config *c, void *ctx, const gin_ref *ref, const gin_binding *b)
{
    (void)ctx;
    (void)b;
    if (!ref->reg || ref->reg != c->macro)
        return SPT_OK;
    if (!gin_section_find(&c->bound, ref->scope, c->macro)) {
        gin_fail(c, SPT_E_CONFIG, "ValueError",
                 "No bindings specified for '%s%s%s' in config "
                 "string: \n",
                 ref->scope, *ref->scope ? "/" : "", ref->selector);
        add_config(c, "");
        return SPT_E_CONFIG;
    }
    if (!ref->evaluated) {
        gin_fail(c, SPT_E_CONFIG, "ValueError",
                 "Reference '@%s/%s' must be evaluated (add '()') in config string: \n", ref->scope,
                 ref->selector);
        add_config(c, ".");
        return SPT_E_CONFIG;
    }
    return SPT_OK;
}

static void add_key(gin_config *c, buf *out, const gin_binding *b)
{
    const char *name = gin_minimal(c, b->section->reg);
    buf_addf(out, "%s%s%s.%s", b->section->scope, *b->section->scope ? "/" : "",
             name ? name : b->section->reg->name, b->param);
}

static spt_status check_known(gin_config *c, void *ctx, const gin_ref *ref, const gin_binding *b)
{
    (void)ctx;
    if (ref->reg)
        return SPT_OK;
    buf key;
    buf_init(&key, 1 << 16);
    add_key(c, &key, b);
    gin_fail(c, SPT_E_CONFIG, "ValueError",
             "No configurable matching reference '@%s%s'. In binding for '%s'.", ref->selector,
             ref->evaluated ? "()" : "", buf_str(&key));
    buf_release(&key);
    return SPT_E_CONFIG;
}

static bool is_required(const gin_config *c, const gin_value *v)
{
    if (v->kind != GIN_REF || v->u.ref->reg != c->constant)
        return false;
    const char *complete;
    const gin_value *value;
    return gin_constant_match((gin_config *)c, v->u.ref->scope, strlen(v->u.ref->scope), &complete,
                              &value) == SPT_OK &&
           value && value->kind == GIN_REQUIRED;
}

static spt_status check_required(gin_config *c)
{
    for (const gin_section *s = c->bound.first; s; s = s->next) {
        for (const gin_binding *b = s->first; b; b = b->next) {
            if (!is_required(c, &b->value))
                continue;
            buf key;
            buf_init(&key, 1 << 16);
            add_key(c, &key, b);
            gin_fail(c, SPT_E_CONFIG, "ValueError",
                     "%s set to `%%gin.REQUIRED` but not subsequently overridden.", buf_str(&key));
            buf_release(&key);
            return SPT_E_CONFIG;
        }
    }
    return SPT_OK;
}

/* --- what is missing, all at once -------------------------------------------------------- */

struct missing {
    gin_config *c;
    buf *out;
    size_t count;
    const char *seen[256];
};

static void add_missing(struct missing *m, const char *name, bool undefined, const gin_binding *b)
{
    for (size_t i = 0; i < m->count && i < 256; i++)
        if (m->seen[i] == name)
            return;
    if (m->count < 256)
        m->seen[m->count] = name;
    m->count++;
    const gin_macro_info *info = gin_registry_macro(m->c->registry, name);
    buf_addf(m->out, "%s: %s", name, undefined ? "used but never defined" : "required");
    if (info)
        buf_addf(m->out, "; %s; usually set %s", info->about, info->set_in);
    else if (b && b->file)
        buf_addf(m->out, "; named in %s:%u", b->file, b->line);
    buf_addc(m->out, '\n');
}

static spt_status undefined_macro(gin_config *c, void *ctx, const gin_ref *ref,
                                  const gin_binding *b)
{
    if (ref->reg == c->macro && !gin_section_find(&c->bound, ref->scope, c->macro))
        add_missing(ctx, ref->scope, true, b);
    return SPT_OK;
}

size_t gin_missing(const gin_config *c, buf *out)
{
    struct missing m = {.c = (gin_config *)c, .out = out};
    for (const gin_section *s = c->bound.first; s; s = s->next) {
        for (const gin_binding *b = s->first; b; b = b->next) {
            if (!is_required(c, &b->value))
                continue;
            if (s->reg == c->macro) {
                add_missing(&m, s->scope, false, b);
            } else {
                buf key;
                buf_init(&key, 1 << 16);
                add_key(m.c, &key, b);
                const char *name = gin_intern(&m.c->pool, buf_str(&key), key.len);
                buf_release(&key);
                if (name)
                    add_missing(&m, name, false, b);
            }
        }
    }
    each_stored_ref(m.c, undefined_macro, &m);
    return m.count;
}

spt_status gin_finalize(gin_config *c, spt_err *err)
{
    spt_status st = SPT_OK;
    if (c->locked)
        st = gin_fail(c, SPT_E_CONFIG, "RuntimeError",
                      "Finalize called twice (config already locked).");
    if (!st)
        st = each_stored_ref(c, check_macro, NULL);
    if (!st)
        st = each_stored_ref(c, check_known, NULL);
    if (!st)
        st = check_required(c);
    if (!st) {
        c->locked = true;
        return SPT_OK;
    }
    if (st != SPT_E_CONFIG)
        return gin_report(c, st, err);
    buf all;
    buf_init(&all, 1 << 20);
    const size_t n = gin_missing(c, &all);
    if (n) {
        gin_hint(c, "%zu setting%s missing:\n%s", n, n == 1 ? " is" : "s are", buf_str(&all));
        char list[400] = "";
        size_t used = 0;
        for (const char *s = buf_str(&all); *s && used < sizeof list - 100;) {
            const size_t len = strcspn(s, "\n");
            const size_t name = strcspn(s, ":");
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%.*s", used ? ", " : "",
                                     (int)(name > 60 ? 60 : name), s);
            s += len + (s[len] == '\n');
        }
        buf_release(&all);
        return err_set(err, st, "gin: %zu setting%s missing: %s", n, n == 1 ? " is" : "s are",
                       list);
    }
    buf_release(&all);
    return gin_report(c, st, err);
}

/* --- queries ----------------------------------------------------------------------------- */

static spt_status query(gin_config *c, const char *key, const gin_value **out)
{
    const char *slash = strrchr(key, '/'), *dot = strrchr(key, '.');
    const char *value = gin_intern(&c->pool, "value", 5);
    if (!value)
        return gin_nomem(c);
    const gin_reg *r = c->macro;
    const char *scope, *selector = key, *param = value;
    if (*key == '%' || !dot || (slash && dot < slash)) { /* a macro */
        key += *key == '%';
        scope = gin_intern(&c->pool, key, strlen(key));
        selector = "gin.macro";
    } else {
        const char *start = slash ? slash + 1 : key;
        scope = gin_intern(&c->pool, key, slash ? (size_t)(slash - key) : 0);
        selector = gin_intern(&c->pool, start, (size_t)(dot - start));
        param = gin_intern(&c->pool, dot + 1, strlen(dot + 1));
        if (!selector || !param)
            return gin_nomem(c);
        TRY(resolve_key(c, NULL, selector, param, &r));
    }
    if (!scope)
        return gin_nomem(c);
    const gin_section *s = gin_section_find(&c->bound, scope, r);
    if (!s)
        return gin_fail(c, SPT_E_CONFIG, "ValueError", "Configurable '%s' has no bound parameters.",
                        selector);
    const gin_binding *b = gin_binding_find(c, s, param);
    if (!b)
        return gin_fail(c, SPT_E_CONFIG, "ValueError",
                        "Configurable '%s' has no value bound for parameter '%s'.", selector,
                        param);
    *out = &b->value;
    return SPT_OK;
}

spt_status gin_query(gin_config *c, const char *key, const gin_value **out, spt_err *err)
{
    return gin_report(c, query(c, key, out), err);
}

bool gin_has(gin_config *c, const char *key)
{
    const gin_value *v;
    return query(c, key, &v) == SPT_OK;
}

void gin_each_binding(const gin_config *c, gin_binding_fn fn, void *ctx)
{
    for (const gin_section *s = c->bound.first; s; s = s->next) {
        for (const gin_binding *b = s->first; b; b = b->next) {
            const bool macro = s->reg == c->macro;
            const gin_binding_info info = {
                .scope = macro ? "" : s->scope,
                .name = macro ? s->scope : s->reg->name,
                .path = macro ? NULL : s->reg->entry->path,
                .param = macro ? NULL : b->param,
                .value = &b->value,
                .file = b->file,
                .line = b->line,
                .read = b->read,
            };
            fn(ctx, &info);
        }
    }
}
