#include "run/gin_options.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "run/commands.h"
#include "run/extensions.h"

#define OPTIONS_PATH "spt.spt" /* what "spt" in "spt.lr" is short for */

enum { NAME_BYTES = 128, VALUE_BYTES = 16 << 20 };

const gin_def gin_option_defs[] = {
    {"spt", "spt", GIN_FUNCTION, "**kwargs", true, "options of spt's commands"},
};
const size_t gin_option_def_count = sizeof gin_option_defs / sizeof *gin_option_defs;

static bool is_option(const gin_binding_info *b)
{
    return b->param && !strcmp(b->path, OPTIONS_PATH);
}

static void note_option(void *ctx, const gin_binding_info *b)
{
    *(bool *)ctx |= is_option(b);
}

bool gin_options_bound(const gin_config *c)
{
    bool any = false;
    gin_each_binding(c, note_option, &any);
    return any;
}

/* --- one binding --------------------------------------------------------------------------------- */

static spt_status complain(const gin_binding_info *b, spt_err *err, spt_status st)
{
    if (b->file)
        return err_wrap(err, st, "%s:%u: spt.%s", b->file, b->line, b->param);
    return err_wrap(err, st, "binding spt.%s", b->param);
}

static void option_name(const char *param, char out[NAME_BYTES])
{
    size_t n = 0;
    for (; param[n] && n + 1 < NAME_BYTES; n++)
        out[n] = param[n] == '_' ? '-' : param[n];
    out[n] = '\0';
}

/* As the command line writes it. */
static spt_status value_text(const gin_value *v, buf *out, spt_err *err)
{
    if (v->kind == GIN_STR && !memchr(v->u.s, '\0', v->count))
        buf_adds(out, v->u.s);
    else if (v->kind == GIN_BOOL)
        buf_adds(out, v->u.b ? "yes" : "no");
    else if (v->kind == GIN_INT)
        buf_addf(out, "%lld", (long long)v->u.i);
    else if (v->kind == GIN_FLOAT)
        buf_addf(out, "%.17g", v->u.f);
    else
        return err_set(err, SPT_E_CONFIG, "wanted a text, a number, True or False, not a %s",
                       gin_kind_name(v));
    return buf_status(out, "value", err);
}

static bool some_command_has(const char *name)
{
    for (size_t i = 0; i < option_count; i++)
        if (!strcmp(option_table[i].pub.name, name))
            return true;
    return false;
}

struct applying {
    gin_config *config;
    struct settings *s;
    buf skipped, bindings;
    spt_status st;
    spt_err *err;
};

static bool command_has(const char *command, const char *name)
{
    const spt_option *o;
    for (size_t i = 0; (o = spt_command_option(command, i)) != NULL; i++)
        if (!strcmp(o->name, name))
            return true;
    return false;
}

static spt_status set_option(struct applying *a, const gin_binding_info *b, spt_err *err)
{
    char name[NAME_BYTES];
    gin_value v;
    buf text;
    option_name(b->param, name);
    if (*b->scope)
        return err_set(err, SPT_E_CONFIG, "options have no scopes (%s)", b->scope);
    if (!strcmp(name, "plugin"))
        return err_set(err, SPT_E_CONFIG,
                       "code is loaded by --plugin on the command line only, never from a file");
    if (!command_has(a->s->command, name) && some_command_has(name)) {
        buf_addf(&a->skipped, "%s%s", a->skipped.len ? ", " : "", name);
        return SPT_OK;
    }
    if (settings_given(a->s, name))
        return SPT_OK;
    buf_init(&text, VALUE_BYTES);
    spt_status st = gin_evaluate(a->config, b->value, "", &v, err);
    if (!st && v.kind != GIN_NONE)
        st = value_text(&v, &text, err);
    if (!st && v.kind != GIN_NONE)
        st = settings_set(a->s, name, buf_str(&text), err);
    buf_release(&text);
    return st == SPT_E_USAGE ? SPT_E_CONFIG : st;
}

/* --- all of them --------------------------------------------------------------------------------- */

static void add_line(buf *out, const gin_binding_info *b)
{
    buf_addf(out, "%s%s%s%s%s = ", b->scope, *b->scope ? "/" : "", b->name, b->param ? "." : "",
             b->param ? b->param : "");
    gin_repr(out, b->value);
    buf_addc(out, '\n');
}

static void apply(void *ctx, const gin_binding_info *b)
{
    struct applying *a = ctx;
    if (a->st)
        return;
    if (is_option(b)) {
        a->st = set_option(a, b, a->err);
        a->st = a->st ? complain(b, a->err, a->st) : SPT_OK;
        if (a->st && a->err)
            a->err->code = a->st;
        return;
    }
    if (!b->param || extensions_own(a->config, b->path)) {
        add_line(&a->bindings, b);
        return;
    }
    char where[NAME_BYTES * 4];
    snprintf(where, sizeof where, "%s:%u: ", b->file ? b->file : "", b->line);
    a->st = err_set(a->err, SPT_E_CONFIG,
                    "%s%s.%s belongs to the reference's programs; beside options of ours (spt.model, "
                    "--model, ...) it does nothing. Give one kind of configuration only",
                    b->file ? where : "", b->path, b->param);
}

spt_status gin_options_apply(gin_config *c, struct settings *s, spt_err *err)
{
    struct applying a = {.config = c, .s = s, .err = err};
    buf_init(&a.skipped, 1 << 16);
    buf_init(&a.bindings, VALUE_BYTES);
    gin_each_binding(c, apply, &a);
    if (!a.st)
        a.st = buf_status(&a.bindings, "bindings", err);
    if (!a.st && a.bindings.len) {
        mem_free(s->bindings);
        s->bindings = buf_detach(&a.bindings);
    }
    if (!a.st && a.skipped.len)
        log_warning("options that spt %s does not have are left aside: %s", s->command,
                    buf_str(&a.skipped));
    buf_release(&a.skipped);
    buf_release(&a.bindings);
    return a.st;
}

/* --- the options of a file ----------------------------------------------------------------------- */

struct listing {
    gin_config *config;
    gin_option_fn fn;
    void *ctx;
    spt_status st;
    spt_err *err;
};

static spt_status list_option(struct listing *l, const gin_binding_info *b, buf *text, spt_err *err)
{
    char name[NAME_BYTES];
    gin_value v;
    option_name(b->param, name);
    TRY(gin_evaluate(l->config, b->value, "", &v, err));
    if (v.kind == GIN_NONE)
        return SPT_OK;
    TRY(value_text(&v, text, err));
    return l->fn(l->ctx, name, buf_str(text), err);
}

static void list_one(void *ctx, const gin_binding_info *b)
{
    struct listing *l = ctx;
    buf text;
    if (l->st || !is_option(b))
        return;
    buf_init(&text, VALUE_BYTES);
    l->st = list_option(l, b, &text, l->err);
    l->st = l->st ? complain(b, l->err, l->st) : SPT_OK;
    buf_release(&text);
}

spt_status gin_options_read(const char *path, gin_option_fn fn, void *ctx, spt_err *err)
{
    struct listing l = {.fn = fn, .ctx = ctx, .err = err};
    gin_registry *r = NULL;
    spt_status st = gin_registry_upstream(&r, err);
    if (!st)
        st = gin_registry_add(r, gin_option_defs, gin_option_def_count, err);
    if (!st)
        st = gin_config_new(r, &l.config, err);
    if (!st) {
        gin_skip_unknown(l.config, NULL, 0);
        st = gin_parse_file(l.config, path, err);
    }
    if (!st)
        gin_each_binding(l.config, list_one, &l);
    gin_config_free(l.config);
    gin_registry_free(r);
    return st ? st : l.st;
}
