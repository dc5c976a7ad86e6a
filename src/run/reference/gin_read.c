#include "run/reference/gin_read.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

const char *gs_name(const gin_value *o)
{
    const gin_def *d = gin_def_of(o);
    return d ? d->name : gin_kind_name(o);
}

void gs_complain(struct gs *g, const gin_value *o, const char *name, const gin_value *v,
                     const char *wanted)
{
    buf text;
    if (g->st)
        return;
    buf_init(&text, 4096);
    gin_repr(&text, v);
    const char *scope = gin_scope_of(o);
    g->st = err_set(g->err, SPT_E_CONFIG, "%s%s%s.%s = %.120s: %s", scope, *scope ? "/" : "",
                    gs_name(o), name, buf_str(&text), wanted);
    buf_release(&text);
}

/* None when the object has no such argument. */
gin_value gs_arg(struct gs *g, const gin_value *o, const char *name)
{
    gin_value v = {.kind = GIN_NONE};
    if (!g->st && gin_get(g->c, o, name, &v) && v.kind == GIN_REQUIRED)
        gs_complain(g, o, name, &v, "needs a value");
    return v;
}

double gs_real(struct gs *g, const gin_value *o, const char *name, double none)
{
    const gin_value v = gs_arg(g, o, name);
    double x = none;
    if (v.kind != GIN_NONE && !gin_as_float(&v, &x))
        gs_complain(g, o, name, &v, "wanted a number");
    return x;
}

int64_t gs_integer(struct gs *g, const gin_value *o, const char *name, int64_t none)
{
    const gin_value v = gs_arg(g, o, name);
    int64_t x = none;
    double f;
    if (v.kind == GIN_NONE || gin_as_int(&v, &x))
        return x;
    if (gin_as_float(&v, &f) && f == floor(f) && fabs(f) < 9e15)
        return (int64_t)f;
    gs_complain(g, o, name, &v, "wanted a whole number");
    return none;
}

int64_t gs_positive(struct gs *g, const gin_value *o, const char *name)
{
    const int64_t x = gs_integer(g, o, name, 0);
    if (x < 1 && !g->st) {
        const gin_value v = gs_arg(g, o, name);
        gs_complain(g, o, name, &v, "wanted a number above 0");
    }
    return x;
}

bool gs_boolean(struct gs *g, const gin_value *o, const char *name, bool none)
{
    const gin_value v = gs_arg(g, o, name);
    bool x = none;
    int64_t i;
    if (v.kind == GIN_NONE || gin_as_bool(&v, &x))
        return x;
    if (gin_as_int(&v, &i))
        return i != 0;
    gs_complain(g, o, name, &v, "wanted True or False");
    return none;
}

const char *gs_text(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = gs_arg(g, o, name);
    if (v.kind == GIN_NONE)
        return NULL;
    if (!gin_as_str(&v))
        gs_complain(g, o, name, &v, "wanted a string");
    return gin_as_str(&v);
}

const char *gs_needed_text(struct gs *g, const gin_value *o, const char *name)
{
    const char *s = gs_text(g, o, name);
    if (!s && !g->st) {
        const gin_value v = gs_arg(g, o, name);
        gs_complain(g, o, name, &v, "wanted a string");
    }
    return s ? s : "";
}

/* Only this value is served. */
void gs_only_bool(struct gs *g, const gin_value *o, const char *name, bool want)
{
    const gin_value v = gs_arg(g, o, name);
    bool x = want;
    if (v.kind != GIN_NONE && (!gin_as_bool(&v, &x) || x != want))
        gs_complain(g, o, name, &v, want ? "only True is supported" : "only False is supported");
}

void gs_only_none(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = gs_arg(g, o, name);
    if (v.kind != GIN_NONE)
        gs_complain(g, o, name, &v, "only None is supported");
}

bool gs_is_object(const gin_value *v, const char *path)
{
    return v->kind == GIN_OBJECT && gin_is(v, path);
}

/* "float32" of 'float32', jnp.float32; NULL for None. */
const char *gs_dtype_text(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = gs_arg(g, o, name);
    if (v.kind == GIN_OPAQUE) {
        const char *dot = strrchr(v.u.s, '.');
        return dot ? dot + 1 : v.u.s;
    }
    if (v.kind != GIN_NONE && !gin_as_str(&v))
        gs_complain(g, o, name, &v, "wanted a dtype such as 'float32'");
    return gin_as_str(&v);
}

/* What a factory makes. The reference's callers supply the parameters named in `given`. */
gin_value gs_make(struct gs *g, const gin_value *o, const char *name,
                      const char *const *given, size_t n)
{
    gin_value v = gs_arg(g, o, name);
    gin_arg args[16];
    if (g->st || v.kind != GIN_CALLABLE)
        return v;
    for (size_t i = 0; i < n; i++)
        args[i] = (gin_arg){given[i], {.kind = GIN_NONE}};
    g->st = gin_call_value(g->c, &v, "", args, n, &v, g->err);
    return v;
}

gin_value gs_made(struct gs *g, const gin_value *o, const char *name)
{
    return gs_make(g, o, name, NULL, 0);
}

void gs_refuse(struct gs *g, const gin_value *v, const char *what, const char *instead)
{
    if (!g->st)
        g->st = err_set(g->err, SPT_E_CONFIG, "%s %s is not supported%s%s", what, gs_name(v),
                        instead ? ": " : "", instead ? instead : "");
}

/* A list or tuple of strings, or one string. */
void gs_texts(struct gs *g, const gin_value *o, const char *name, struct gin_texts *out)
{
    const gin_value v = gs_arg(g, o, name);
    if (g->st || v.kind == GIN_NONE)
        return;
    const bool one = gin_as_str(&v) != NULL;
    if (!one && v.kind != GIN_LIST && v.kind != GIN_TUPLE) {
        gs_complain(g, o, name, &v, "wanted a list of strings");
        return;
    }
    const size_t n = one ? 1 : v.count;
    const char **item = mem_zalloc(n + 1, sizeof *item);
    if (!item) {
        g->st = err_nomem(g->err, n * sizeof *item);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        item[i] = one ? gin_as_str(&v) : gin_as_str(&v.u.items[i]);
        if (!item[i])
            gs_complain(g, o, name, &v, "wanted a list of strings");
    }
    mem_free(out->item);
    *out = (struct gin_texts){item, n};
}
