/* Which modules, configurables and parameters exist. Filled once from tables; a configurable is
 * found by its real path (module + name), the names under which gin files know it live in each
 * configuration (gin_names.c). */
#include "gin/gin_internal.h"

#include <string.h>

#include "base/mem.h"

enum { MAX_ENTRIES = 1 << 20 };

const gin_def gin_builtin_macro = {"gin.config", "macro", GIN_FUNCTION, "value", true, NULL};
const gin_def gin_builtin_constant = {"gin.config", "constant", GIN_FUNCTION, "", true, NULL};
const gin_def gin_builtin_singleton = {"gin.config",  "singleton", GIN_FUNCTION,
                                       "constructor", true,        NULL};

const struct gin_path *gin_registry_path(const struct gin_registry *r, const char *path, size_t n)
{
    if (!r->path_slots)
        return NULL;
    size_t at = gin_hash_bytes(path, n) & (r->path_slots - 1);
    for (; r->path[at].path; at = (at + 1) & (r->path_slots - 1))
        if (strncmp(r->path[at].path, path, n) == 0 && !r->path[at].path[n])
            return &r->path[at];
    return NULL;
}

static spt_status grow_paths(struct gin_registry *r, spt_err *err)
{
    const size_t n = r->path_slots ? r->path_slots * 2 : 256;
    struct gin_path *path = mem_zalloc(n, sizeof *path);
    if (!path)
        return err_nomem(err, n * sizeof *path);
    for (size_t i = 0; i < r->path_slots; i++) {
        if (!r->path[i].path)
            continue;
        size_t at = gin_hash_bytes(r->path[i].path, strlen(r->path[i].path)) & (n - 1);
        while (path[at].path)
            at = (at + 1) & (n - 1);
        path[at] = r->path[i];
    }
    mem_free(r->path);
    r->path = path;
    r->path_slots = n;
    return SPT_OK;
}

static spt_status touch_path(struct gin_registry *r, const char *path, size_t n,
                             struct gin_path **out, spt_err *err)
{
    if (r->paths * 2 >= r->path_slots)
        TRY(grow_paths(r, err));
    struct gin_path *p = (struct gin_path *)gin_registry_path(r, path, n);
    if (!p) {
        const char *name = gin_intern(&r->pool, path, n);
        if (!name)
            return err_nomem(err, n);
        size_t at = gin_hash_bytes(path, n) & (r->path_slots - 1);
        while (r->path[at].path)
            at = (at + 1) & (r->path_slots - 1);
        p = &r->path[at];
        p->path = name;
        r->paths++;
    }
    *out = p;
    return SPT_OK;
}

spt_status gin_registry_add_module(gin_registry *r, const char *path, spt_err *err)
{
    for (const char *dot = strchr(path, '.');; dot = strchr(dot + 1, '.')) {
        struct gin_path *p;
        TRY(touch_path(r, path, dot ? (size_t)(dot - path) : strlen(path), &p, err));
        p->module = true;
        p->package |= dot != NULL;
        if (!dot)
            return SPT_OK;
    }
}

/* --- signatures -------------------------------------------------------------------------- */

/* End of one parameter: the next ',' outside brackets and quotes. */
static const char *param_end(const char *s)
{
    int depth = 0;
    char quote = 0;
    for (; *s && (*s != ',' || depth || quote); s++) {
        if (quote)
            quote = *s == quote ? 0 : quote;
        else if (*s == '\'' || *s == '"')
            quote = *s;
        else if (strchr("([{", *s))
            depth++;
        else if (strchr(")]}", *s))
            depth--;
    }
    return s;
}

static spt_status add_param(struct gin_registry *r, struct gin_entry *e, const char *s, size_t len,
                            bool *kwonly, spt_err *err)
{
    if (len >= 2 && s[0] == '*' && s[1] == '*') {
        e->kwargs = true;
        return SPT_OK;
    }
    if (len >= 1 && s[0] == '*') {
        *kwonly = true;
        return SPT_OK;
    }
    const char *eq = memchr(s, '=', len);
    struct gin_param *p = &e->param[e->params];
    p->name = gin_intern(&r->pool, s, eq ? (size_t)(eq - s) : len);
    p->dflt = eq ? gin_intern(&r->pool, eq + 1, len - (size_t)(eq + 1 - s)) : NULL;
    p->kwonly = *kwonly;
    if (!p->name || (eq && !p->dflt))
        return err_nomem(err, len);
    e->params++;
    return SPT_OK;
}

static spt_status read_signature(struct gin_registry *r, struct gin_entry *e, spt_err *err)
{
    size_t most = 1;
    for (const char *s = e->def->signature; *s; s++)
        most += *s == ',';
    e->param = gin_pool_alloc(&r->pool, most * sizeof *e->param);
    if (!e->param)
        return err_nomem(err, most);
    bool kwonly = false;
    for (const char *s = e->def->signature; *s;) {
        while (*s == ' ' || *s == ',')
            s++;
        const char *end = param_end(s);
        if (end > s)
            TRY(add_param(r, e, s, (size_t)(end - s), &kwonly, err));
        s = end;
    }
    return SPT_OK;
}

static spt_status add_entry(struct gin_registry *r, const gin_def *d, const char *static_name,
                            spt_err *err)
{
    char path[512];
    const size_t m = strlen(d->module), n = strlen(d->name);
    if (m + n + 2 > sizeof path)
        return err_set(err, SPT_E_CONFIG, "gin registry: the name %.60s... is too long", d->name);
    memcpy(path, d->module, m);
    path[m] = '.';
    memcpy(path + m + 1, d->name, n + 1);
    TRY(gin_registry_add_module(r, d->module, err));
    struct gin_path *p;
    /* Everything between the module and the name can be walked through as an attribute. */
    for (size_t i = m + 1; i < m + 1 + n; i++)
        if (path[i] == '.')
            TRY(touch_path(r, path, i, &p, err));
    TRY(touch_path(r, path, m + 1 + n, &p, err));
    if (p->entry)
        return err_set(err, SPT_E_CONFIG, "gin registry: %s is defined twice", path);
    struct gin_entry *e = gin_pool_alloc(&r->pool, sizeof *e);
    if (!e)
        return err_nomem(err, sizeof *e);
    *e = (struct gin_entry){.def = d, .path = p->path, .index = (uint32_t)r->entries};
    e->static_name = static_name ? static_name : d->registered ? p->path : NULL;
    TRY(read_signature(r, e, err));
    TRY(mem_grow(&r->entry, &r->entry_cap, r->entries + 1, sizeof *r->entry, MAX_ENTRIES, err));
    r->entry[r->entries++] = e;
    p->entry = e;
    return SPT_OK;
}

spt_status gin_registry_add(gin_registry *r, const gin_def *defs, size_t n, spt_err *err)
{
    for (size_t i = 0; i < n; i++)
        TRY(add_entry(r, &defs[i], NULL, err));
    return SPT_OK;
}

spt_status gin_registry_add_macros(gin_registry *r, const gin_macro_info *m, size_t n, spt_err *err)
{
    TRY(mem_grow(&r->macro, &r->macro_cap, r->macros + n, sizeof *r->macro, MAX_ENTRIES, err));
    for (size_t i = 0; i < n; i++)
        r->macro[r->macros++] = &m[i];
    return SPT_OK;
}

spt_status gin_registry_new(gin_registry **out, spt_err *err)
{
    struct gin_registry *r = mem_zalloc(1, sizeof *r);
    if (!r)
        return err_nomem(err, sizeof *r);
    spt_status st = add_entry(r, &gin_builtin_macro, "gin.macro", err);
    if (!st)
        st = add_entry(r, &gin_builtin_constant, "gin.constant", err);
    if (!st)
        st = add_entry(r, &gin_builtin_singleton, "gin.singleton", err);
    if (st) {
        gin_registry_free(r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

void gin_registry_free(gin_registry *r)
{
    if (!r)
        return;
    gin_pool_release(&r->pool);
    mem_free(r->entry);
    mem_free(r->path);
    mem_free(r->macro);
    mem_free(r);
}

size_t gin_registry_count(const gin_registry *r)
{
    return r->entries;
}

const gin_def *gin_registry_at(const gin_registry *r, size_t i)
{
    return i < r->entries ? r->entry[i]->def : NULL;
}

const gin_macro_info *gin_registry_macro(const gin_registry *r, const char *name)
{
    for (size_t i = 0; i < r->macros; i++)
        if (strcmp(r->macro[i]->name, name) == 0)
            return r->macro[i];
    return NULL;
}
