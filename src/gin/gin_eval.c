/* From stored values to objects.
 *
 * Calling a configurable in scope a/b gathers the bindings of "", "a" and "a/b" (later ones win,
 * scopes of other paths do not count), evaluates them in that scope, and records the result as an
 * object. A scoped reference replaces the scope, it does not nest; a macro %M is the evaluated
 * reference @M/gin.macro(), so its value is evaluated in scope M. Every use is a new call; only
 * gin.singleton remembers. Nothing is executed: an object is a name with arguments.
 *
 * What a call yields depends only on (scope, configurable), so meeting the same pair on the way
 * down is an endless recursion and reported as a cycle. Doubling chains (A1 = [%A0, %A0], ...) are
 * bounded by the number of values one evaluation may make. */
#include "gin/gin_internal.h"

#include <string.h>

#include "base/mem.h"

enum { MAX_ARGS = 4096 };

struct frame {
    const struct frame *up;
    const gin_reg *reg;
    const char *scope;
    size_t depth;
};

struct call {
    const gin_reg *reg;
    const char *scope;
    struct gin_object_arg *arg; /* gathered, growing */
    size_t args, cap;
    const gin_arg *given; /* the caller's */
    size_t givens;
};

static spt_status call(gin_config *c, const gin_reg *reg, const char *scope, const gin_arg *given,
                       size_t givens, const struct frame *up, gin_value *out);

static spt_status take_node(gin_config *c)
{
    if (++c->nodes <= GIN_MAX_NODES)
        return SPT_OK;
    return gin_fail(c, SPT_E_CONFIG, "RecursionError",
                    "evaluating the configuration makes more than %u values", GIN_MAX_NODES);
}

/* --- values ------------------------------------------------------------------------------ */

static bool has_refs(const gin_value *v)
{
    if (v->kind == GIN_REF)
        return true;
    const size_t n = v->kind == GIN_DICT ? 2 * (size_t)v->count : v->count;
    if (v->kind == GIN_LIST || v->kind == GIN_TUPLE || v->kind == GIN_DICT)
        for (size_t i = 0; i < n; i++)
            if (has_refs(&v->u.items[i]))
                return true;
    return false;
}

static spt_status evaluate(gin_config *c, const gin_value *v, const struct frame *f,
                           gin_value *out);

static spt_status evaluate_ref(gin_config *c, const gin_ref *ref, const struct frame *f,
                               gin_value *out)
{
    if (!ref->reg)
        return gin_fail(c, SPT_E_CONFIG, "ValueError",
                        "No configurable matching reference '@%s%s'.\n\n    To catch this earlier, "
                        "ensure gin.finalize() is called.",
                        ref->selector, ref->evaluated ? "()" : "");
    if (ref->evaluated)
        return call(c, ref->reg, *ref->scope ? ref->scope : f->scope, NULL, 0, f, out);
    *out = (gin_value){.kind = GIN_CALLABLE};
    out->u.ref = ref;
    return SPT_OK;
}

static spt_status evaluate(gin_config *c, const gin_value *v, const struct frame *f, gin_value *out)
{
    TRY(take_node(c));
    if (v->kind == GIN_REF)
        return evaluate_ref(c, v->u.ref, f, out);
    if (!has_refs(v)) {
        *out = *v;
        return SPT_OK;
    }
    const struct frame inner = {f, NULL, f->scope, f->depth + 1};
    const size_t n = v->kind == GIN_DICT ? 2 * (size_t)v->count : v->count;
    gin_value *items = gin_pool_alloc(&c->pool, n * sizeof *items);
    if (!items)
        return gin_nomem(c);
    for (size_t i = 0; i < n; i++)
        TRY(evaluate(c, &v->u.items[i], &inner, &items[i]));
    *out = *v;
    out->u.items = items;
    return SPT_OK;
}

/* --- arguments --------------------------------------------------------------------------- */

static spt_status put_arg(gin_config *c, struct call *k, const char *name, const gin_value *v,
                          gin_binding *from)
{
    for (size_t i = 0; i < k->args; i++) {
        if (strcmp(k->arg[i].name, name) != 0)
            continue;
        k->arg[i].value = *v;
        k->arg[i].from = from;
        return SPT_OK;
    }
    if (k->args >= MAX_ARGS)
        return gin_fail(c, SPT_E_CONFIG, "ValueError", "'%s' has more than %d bound parameters",
                        k->reg->name, MAX_ARGS);
    TRY(mem_grow(&k->arg, &k->cap, k->args + 1, sizeof *k->arg, MAX_ARGS, NULL));
    k->arg[k->args++] = (struct gin_object_arg){name, *v, from};
    return SPT_OK;
}

static spt_status gather_scope(gin_config *c, struct call *k, size_t len)
{
    const char *scope = gin_intern(&c->pool, k->scope, len);
    if (!scope)
        return gin_nomem(c);
    const gin_section *s = gin_section_find(&c->bound, scope, k->reg);
    for (gin_binding *b = s ? s->first : NULL; b; b = b->next)
        TRY(put_arg(c, k, b->param, &b->value, b));
    return SPT_OK;
}

static spt_status gather(gin_config *c, struct call *k)
{
    TRY(gather_scope(c, k, 0));
    if (!*k->scope)
        return SPT_OK;
    for (const char *slash = strchr(k->scope, '/'); slash; slash = strchr(slash + 1, '/'))
        TRY(gather_scope(c, k, (size_t)(slash - k->scope)));
    return gather_scope(c, k, strlen(k->scope));
}

static const gin_arg *given_arg(const struct call *k, const char *name)
{
    for (size_t i = 0; i < k->givens; i++)
        if (strcmp(k->given[i].name, name) == 0 && k->given[i].value.kind != GIN_REQUIRED)
            return &k->given[i];
    return NULL;
}

static const struct gin_object_arg *bound_arg(const struct call *k, const char *name)
{
    for (size_t i = 0; i < k->args; i++)
        if (strcmp(k->arg[i].name, name) == 0)
            return &k->arg[i];
    return NULL;
}

/* Defaults of a signature, parsed once. A default that is no literal is opaque. */
static spt_status defaults(gin_config *c, const struct gin_entry *e, const gin_value **out)
{
    if (!c->dflt_of[e->index]) {
        gin_value *v = gin_pool_alloc(&c->pool, (e->params + 1) * sizeof *v);
        if (!v)
            return gin_nomem(c);
        for (uint32_t i = 0; i < e->params; i++) {
            const char *text = e->param[i].dflt;
            v[i] = (gin_value){.kind = GIN_REQUIRED};
            if (!text)
                continue;
            const spt_status st = gin_parse_literal(c, text, &v[i]);
            if (st == SPT_E_NOMEM)
                return st;
            if (!st && v[i].kind == GIN_REF)
                v[i] = (gin_value){.kind = GIN_REQUIRED}; /* %gin.REQUIRED */
            if (st) {
                v[i] = (gin_value){.kind = GIN_OPAQUE, .count = (uint32_t)strlen(text)};
                v[i].u.s = text;
            }
        }
        c->dflt_of[e->index] = v;
    }
    *out = c->dflt_of[e->index];
    return SPT_OK;
}

static spt_status record_operative(gin_config *c, const struct call *k)
{
    const struct gin_entry *e = k->reg->entry;
    const gin_value *dflt;
    TRY(defaults(c, e, &dflt));
    for (uint32_t i = 0; i < e->params; i++)
        if (e->param[i].dflt && dflt[i].kind != GIN_REQUIRED && gin_representable(&dflt[i]) &&
            !given_arg(k, e->param[i].name) && !bound_arg(k, e->param[i].name)) {
            const char *name = gin_intern(&c->pool, e->param[i].name, strlen(e->param[i].name));
            if (!name)
                return gin_nomem(c);
            TRY(gin_table_set(c, &c->operative, k->scope, k->reg, name, &dflt[i], NULL));
        }
    for (size_t i = 0; i < k->args; i++)
        if (!given_arg(k, k->arg[i].name))
            TRY(gin_table_set(c, &c->operative, k->scope, k->reg, k->arg[i].name, &k->arg[i].value,
                              NULL));
    return SPT_OK;
}

/* --- complaints -------------------------------------------------------------------------- */

static void add_call(gin_config *c, const struct call *k)
{
    const gin_def *d = k->reg->entry->def;
    const char *name = strrchr(k->reg->name, '.');
    buf_addf(&c->error_text, "\n  In call to configurable '%s' (<%s %s%s%s>)",
             name ? name + 1 : k->reg->name, d->kind == GIN_CLASS ? "class" : "function",
             d->kind == GIN_CLASS ? "'" : "", d->kind == GIN_CLASS ? k->reg->entry->path : d->name,
             d->kind == GIN_CLASS ? "'" : "");
    if (*k->scope)
        buf_addf(&c->error_text, " in scope '%s'", k->scope);
}

static int by_name(const char *a, const char *b)
{
    return strcmp(a, b);
}

/* ['a', 'b'], sorted. */
static void add_names(buf *out, const char **name, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && by_name(name[j - 1], name[j]) > 0; j--) {
            const char *t = name[j];
            name[j] = name[j - 1];
            name[j - 1] = t;
        }
    buf_addc(out, '[');
    for (size_t i = 0; i < n; i++)
        buf_addf(out, "%s'%s'", i ? ", " : "", name[i]);
    buf_addc(out, ']');
}

static void add_missing_list(gin_config *c, const struct call *k, const char **missing, size_t n)
{
    buf *text = &c->error_text;
    const char *names[64];
    size_t bound = 0, given = 0;
    buf_adds(text, "\n  No values supplied by Gin or caller for arguments: ");
    add_names(text, missing, n);
    for (size_t i = 0; i < k->args && bound < 64; i++)
        names[bound++] = k->arg[i].name;
    buf_adds(text, "\n  Gin had values bound for: ");
    add_names(text, names, bound);
    for (size_t i = 0; i < k->givens && given < 64; i++)
        names[given++] = k->given[i].name;
    buf_adds(text, "\n  Caller supplied values for: ");
    add_names(text, names, given);
}

/* Python's TypeError for arguments that nobody supplied. */
static spt_status missing_arguments(gin_config *c, const struct call *k, bool kwonly)
{
    const struct gin_entry *e = k->reg->entry;
    const char *missing[64];
    size_t n = 0;
    for (uint32_t i = 0; i < e->params && n < 64; i++)
        if (!e->param[i].dflt && e->param[i].kwonly == kwonly && !given_arg(k, e->param[i].name) &&
            !bound_arg(k, e->param[i].name))
            missing[n++] = e->param[i].name;
    if (!n)
        return SPT_OK;
    gin_fail(c, SPT_E_CONFIG, "TypeError",
             "%s%s() missing %zu required %s argument%s: ", e->def->name,
             e->def->kind == GIN_CLASS ? ".__init__" : "", n,
             kwonly ? "keyword-only" : "positional", n == 1 ? "" : "s");
    for (size_t i = 0; i < n; i++)
        buf_addf(&c->error_text, "%s'%s'",
                 i == 0      ? ""
                 : i + 1 < n ? ", "
                 : n == 2    ? " and "
                             : ", and ",
                 missing[i]);
    if (!kwonly)
        add_missing_list(c, k, missing, n);
    add_call(c, k);
    return SPT_E_CONFIG;
}

/* Parameters whose default, or whose caller's value, is gin.REQUIRED. */
static spt_status check_required(gin_config *c, const struct call *k)
{
    const struct gin_entry *e = k->reg->entry;
    const gin_value *dflt;
    TRY(defaults(c, e, &dflt));
    buf list;
    buf_init(&list, 1 << 16);
    for (uint32_t i = 0; i < e->params; i++) {
        const char *name = e->param[i].name;
        bool marked = e->param[i].dflt && dflt[i].kind == GIN_REQUIRED;
        for (size_t j = 0; j < k->givens; j++)
            marked |= k->given[j].value.kind == GIN_REQUIRED && strcmp(k->given[j].name, name) == 0;
        if (marked && !given_arg(k, name) && !bound_arg(k, name))
            buf_addf(&list, "%s'%s'", list.len ? ", " : "", name);
    }
    spt_status st = SPT_OK;
    if (list.len) {
        const char *minimal = gin_minimal(c, k->reg);
        st = gin_fail(c, SPT_E_CONFIG, "RuntimeError",
                      "Required bindings for `%s` not provided in config: [%s]",
                      minimal ? minimal : k->reg->name, buf_str(&list));
    }
    buf_release(&list);
    return st;
}

static spt_status cycle(gin_config *c, const gin_reg *reg, const char *scope,
                        const struct frame *up)
{
    gin_fail(c, SPT_E_CONFIG, "RecursionError", "cyclic definition: ");
    buf *text = &c->error_text;
    const bool macro = reg == c->macro;
    buf_addf(text, "%s%s%s%s", macro ? "%" : "@", scope, macro || !*scope ? "" : "/",
             macro ? "" : reg->name);
    for (const struct frame *f = up; f; f = f->up) {
        if (!f->reg)
            continue;
        const bool m = f->reg == c->macro;
        buf_addf(text, " in %s%s%s%s", m ? "%" : "@", f->scope, m || !*f->scope ? "" : "/",
                 m ? "" : f->reg->name);
        if (f->reg == reg && f->scope == scope)
            break;
    }
    return SPT_E_CONFIG;
}

/* --- calls ------------------------------------------------------------------------------- */

static spt_status yield_macro(gin_config *c, struct call *k, gin_value *out)
{
    if (!k->args)
        return missing_arguments(c, k, false);
    *out = k->arg[0].value;
    return SPT_OK;
}

static spt_status yield_constant(gin_config *c, struct call *k, gin_value *out)
{
    const char *complete;
    const gin_value *value;
    TRY(gin_constant_match(c, k->scope, strlen(k->scope), &complete, &value));
    if (!value)
        return gin_fail(c, SPT_E_CONFIG, "KeyError", "'%s'", k->scope);
    *out = *value;
    return SPT_OK;
}

static spt_status yield_singleton(gin_config *c, struct call *k, const struct frame *f,
                                  gin_value *out)
{
    for (const struct gin_single *s = c->singles; s; s = s->next) {
        if (s->scope == k->scope) {
            *out = s->value;
            return SPT_OK;
        }
    }
    if (!k->args)
        return missing_arguments(c, k, false);
    const gin_value *made = &k->arg[0].value;
    if (made->kind != GIN_CALLABLE)
        return gin_fail(c, SPT_E_CONFIG, "ValueError",
                        "The constructor for singleton '%s' is not callable.", k->scope);
    struct gin_single *s = gin_pool_alloc(&c->pool, sizeof *s);
    if (!s)
        return gin_nomem(c);
    const gin_ref *ref = made->u.ref;
    *s = (struct gin_single){.scope = k->scope};
    TRY(call(c, ref->reg, *ref->scope ? ref->scope : k->scope, NULL, 0, f, &s->value));
    s->next = c->singles;
    c->singles = s;
    *out = s->value;
    return SPT_OK;
}

static spt_status yield_object(gin_config *c, struct call *k, gin_value *out)
{
    gin_object *o = gin_pool_alloc(&c->pool, sizeof *o);
    struct gin_object_arg *arg = gin_pool_alloc(&c->pool, k->args * sizeof *arg);
    if (!o || !arg)
        return gin_nomem(c);
    if (k->args)
        memcpy(arg, k->arg, k->args * sizeof *arg);
    *o = (gin_object){.reg = k->reg,
                      .scope = k->scope,
                      .index = ++c->count_of[k->reg->entry->index],
                      .arg = arg,
                      .args = (uint32_t)k->args};
    *out = (gin_value){.kind = GIN_OBJECT};
    out->u.object = o;
    return SPT_OK;
}

static spt_status run_call(gin_config *c, struct call *k, const struct frame *f, gin_value *out)
{
    TRY(gather(c, k));
    TRY(record_operative(c, k));
    for (size_t i = 0; i < k->args; i++) {
        const gin_value stored = k->arg[i].value;
        TRY(evaluate(c, &stored, f, &k->arg[i].value));
        if (k->reg == c->macro && k->arg[i].from)
            k->arg[i].from->read = true;
    }
    TRY(check_required(c, k));
    for (size_t i = 0; i < k->givens; i++) {
        if (k->given[i].value.kind == GIN_REQUIRED)
            continue;
        const char *name = gin_intern(&c->pool, k->given[i].name, strlen(k->given[i].name));
        if (!name)
            return gin_nomem(c);
        if (!gin_has_param(k->reg->entry, name)) {
            gin_fail(c, SPT_E_CONFIG, "TypeError", "%s() got an unexpected keyword argument '%s'",
                     k->reg->entry->def->name, name);
            add_call(c, k);
            return SPT_E_CONFIG;
        }
        TRY(put_arg(c, k, name, &k->given[i].value, NULL));
    }
    if (k->reg == c->macro)
        return yield_macro(c, k, out);
    if (k->reg == c->constant)
        return yield_constant(c, k, out);
    if (k->reg == c->singleton)
        return yield_singleton(c, k, f, out);
    TRY(missing_arguments(c, k, false));
    TRY(missing_arguments(c, k, true));
    return yield_object(c, k, out);
}

static spt_status call(gin_config *c, const gin_reg *reg, const char *scope, const gin_arg *given,
                       size_t givens, const struct frame *up, gin_value *out)
{
    for (const struct frame *f = up; f; f = f->up)
        if (f->reg == reg && f->scope == scope)
            return cycle(c, reg, scope, up);
    const struct frame f = {up, reg, scope, up ? up->depth + 1 : 1};
    if (f.depth > GIN_MAX_EVAL_DEPTH)
        return gin_fail(c, SPT_E_CONFIG, "RecursionError",
                        "configurables call each other more than %d deep", GIN_MAX_EVAL_DEPTH);
    TRY(take_node(c));
    struct call k = {.reg = reg, .scope = scope, .given = given, .givens = givens};
    const spt_status st = run_call(c, &k, &f, out);
    mem_free(k.arg);
    return st;
}

spt_status gin_evaluate(gin_config *c, const gin_value *v, const char *scope, gin_value *out,
                        spt_err *err)
{
    const char *s = gin_intern(&c->pool, scope, strlen(scope));
    if (!s)
        return err_nomem(err, strlen(scope));
    const struct frame f = {NULL, NULL, s, 0};
    gin_value made;
    c->nodes = 0;
    TRY(gin_report(c, evaluate(c, v, &f, &made), err));
    *out = made;
    return SPT_OK;
}

spt_status gin_call(gin_config *c, const char *name, const gin_arg *args, size_t n, gin_value *out,
                    spt_err *err)
{
    const char *slash = strrchr(name, '/');
    const char *s = slash ? slash + 1 : name;
    const char *scope = gin_intern(&c->pool, name, slash ? (size_t)(slash - name) : 0);
    const char *selector = gin_intern(&c->pool, s, strlen(s));
    if (!scope || !selector)
        return err_nomem(err, strlen(name));
    const gin_reg *r = NULL;
    gin_value made;
    spt_status st = gin_match(c, selector, &r);
    if (!st && !r)
        st =
            gin_fail(c, SPT_E_CONFIG, "ValueError", "Could not find %s in the Gin registry.", name);
    c->nodes = 0;
    if (!st)
        st = call(c, r, scope, args, n, NULL, &made);
    if (!st)
        *out = made;
    return gin_report(c, st, err);
}

spt_status gin_call_value(gin_config *c, const gin_value *callable, const char *scope,
                          const gin_arg *args, size_t n, gin_value *out, spt_err *err)
{
    if (callable->kind != GIN_CALLABLE || !callable->u.ref->reg)
        return err_set(err, SPT_E_CONFIG, "gin: a %s cannot be called", gin_kind_name(callable));
    const gin_ref *ref = callable->u.ref;
    const char *s = *ref->scope ? ref->scope : gin_intern(&c->pool, scope, strlen(scope));
    if (!s)
        return err_nomem(err, strlen(scope));
    gin_value made;
    c->nodes = 0;
    const spt_status st = call(c, ref->reg, s, args, n, NULL, &made);
    if (!st)
        *out = made;
    return gin_report(c, st, err);
}

/* --- looking at objects ------------------------------------------------------------------ */

bool gin_get_given(gin_config *c, const gin_value *object, const char *name, gin_value *out,
                   bool *given)
{
    if (object->kind != GIN_OBJECT)
        return false;
    const gin_object *o = object->u.object;
    for (uint32_t i = 0; i < o->args; i++) {
        if (strcmp(o->arg[i].name, name) != 0)
            continue;
        if (o->arg[i].from)
            o->arg[i].from->read = true;
        *out = o->arg[i].value;
        *given = true;
        return true;
    }
    const struct gin_entry *e = o->reg->entry;
    const gin_value *dflt;
    for (uint32_t i = 0; i < e->params; i++) {
        if (strcmp(e->param[i].name, name) != 0 || !e->param[i].dflt)
            continue;
        if (defaults(c, e, &dflt) != SPT_OK)
            return false;
        *out = dflt[i];
        *given = false;
        return true;
    }
    return false;
}

bool gin_get(gin_config *c, const gin_value *object, const char *name, gin_value *out)
{
    bool given;
    return gin_get_given(c, object, name, out, &given);
}

static const gin_reg *reg_of(const gin_value *v)
{
    if (v->kind == GIN_OBJECT)
        return v->u.object->reg;
    return v->kind == GIN_REF || v->kind == GIN_CALLABLE ? v->u.ref->reg : NULL;
}

const gin_def *gin_def_of(const gin_value *v)
{
    const gin_reg *r = reg_of(v);
    return r && strcmp(r->entry->def->module, "gin.config") != 0 ? r->entry->def : NULL;
}

bool gin_is(const gin_value *v, const char *path)
{
    const gin_reg *r = reg_of(v);
    return r && strcmp(r->entry->path, path) == 0;
}

const char *gin_scope_of(const gin_value *v)
{
    if (v->kind == GIN_OBJECT)
        return v->u.object->scope;
    return v->kind == GIN_REF || v->kind == GIN_CALLABLE ? v->u.ref->scope : "";
}

uint64_t gin_object_index(const gin_value *v)
{
    return v->kind == GIN_OBJECT ? v->u.object->index : 0;
}

size_t gin_object_count(const gin_value *v)
{
    return v->kind == GIN_OBJECT ? v->u.object->args : 0;
}

const char *gin_object_arg(const gin_value *v, size_t i, gin_value *out)
{
    if (i >= gin_object_count(v))
        return NULL;
    *out = v->u.object->arg[i].value;
    return v->u.object->arg[i].name;
}
