#include "run/extensions.h"

#include <string.h>

#include "base/log.h"
#include "run/extensions_internal.h"
#include "run/gin_options.h"

/* --- opening and closing
 * ---------------------------------------------------------------------------- */

/* In order of the command line, so that a later plug-in may use what an earlier one brought. */
static spt_status load_all(extensions *x, const char *plugins, spt_err *err)
{
    for (const char *p = plugins ? plugins : ""; *p;) {
        const size_t len = strcspn(p, "\n");
        char *path = mem_strndup(p, len);
        if (!path)
            return err_nomem(err, len);
        const spt_status st = plugin_load(x, path, err);
        mem_free(path);
        TRY(st);
        p += len + (p[len] == '\n');
    }
    return SPT_OK;
}

spt_status extensions_open(const char *plugins, extensions **out, spt_err *err)
{
    extensions *x = mem_zalloc(1, sizeof *x);
    if (!x)
        return err_nomem(err, sizeof *x);
    spt_status st = task_registry_new(&x->tasks, err);
    if (!st)
        st = load_all(x, plugins, err);
    if (st) {
        extensions_close(x);
        return st;
    }
    *out = x;
    return SPT_OK;
}

static void free_code(struct plugin_code *k)
{
    mem_free((char *)(uintptr_t)k->def.module);
    mem_free((char *)(uintptr_t)k->def.name);
    mem_free((char *)(uintptr_t)k->def.signature);
    mem_free(k);
}

void extensions_close(extensions *x)
{
    if (!x)
        return;
    task_registry_free(x->tasks);
    while (x->bound) {
        struct bound_init *next = x->bound->next;
        mem_free(x->bound);
        x->bound = next;
    }
    while (x->code) {
        struct plugin_code *next = x->code->next;
        free_code(x->code);
        x->code = next;
    }
    while (x->plugins) {
        struct spt_plugin_self *next = x->plugins->next;
        plugin_unload(x->plugins);
        x->plugins = next;
    }
    mem_free(x);
}

task_registry *extensions_tasks(const extensions *x)
{
    return x->tasks;
}

/* --- gin
 * --------------------------------------------------------------------------------------------- */

spt_status extensions_define(extensions *x, gin_registry *r, spt_err *err)
{
    TRY(gin_registry_add(r, gin_task_defs, gin_task_def_count, err));
    TRY(gin_registry_add(r, gin_option_defs, gin_option_def_count, err));
    for (const struct spt_plugin_self *p = x->plugins; p; p = p->next)
        TRY(gin_registry_add_module(r, p->plugin->name, err));
    for (const struct plugin_code *k = x->code; k; k = k->next)
        if (k->kind != CODE_HOOK)
            TRY(gin_registry_add(r, &k->def, 1, err));
    return SPT_OK;
}

struct configuring {
    gin_config *config;
    struct plugin_code *code;
};

static spt_status configure(void *ctx, const char *scope, const gin_value *object, spt_err *err)
{
    const struct configuring *k = ctx;
    const struct spt_args args = {k->config, *object};
    const spt_status st =
        k->code->fn.configure(k->code->ctx, &plugin_host, k->code->owner, &args, scope, err);
    return st ? err_wrap(err, st, "%s.%s", k->code->def.module, k->code->def.name) : SPT_OK;
}

spt_status extensions_apply(extensions *x, gin_config *c, spt_err *err)
{
    gin_attach(c, x);
    for (struct plugin_code *k = x->code; k; k = k->next) {
        struct configuring g = {c, k};
        buf path;
        if (k->kind != CODE_CONFIGURABLE || !k->fn.configure)
            continue;
        buf_init(&path, 1024);
        buf_addf(&path, "%s.%s", k->def.module, k->def.name);
        spt_status st = buf_status(&path, "name", err);
        if (!st)
            st = each_scope(c, buf_str(&path), true, configure, &g, err);
        buf_release(&path);
        TRY(st);
    }
    return gin_tasks_apply(x, c, err);
}

/* --- initialisers
 * -------------------------------------------------------------------------------------- */

static spt_status run_init(void *ctx, const struct prompt_init_env *env, const uint32_t key[2],
                           int64_t P, int64_t E, float *out, spt_err *err)
{
    const struct bound_init *b = ctx;
    struct spt_embedder table = {env};
    return b->code->fn.initialize(b->code->ctx, &plugin_host, &b->args, key, P, E, &table, out,
                                  err);
}

spt_status extensions_initializer(gin_config *c, const gin_value *v, struct prompt_init *init,
                                  bool *is, spt_err *err)
{
    extensions *x = gin_attached(c);
    const gin_def *d = v->kind == GIN_OBJECT ? gin_def_of(v) : NULL;
    const struct plugin_code *k = x && d ? x->code : NULL;
    while (k && &k->def != d)
        k = k->next;
    *is = k && k->kind == CODE_INITIALIZER;
    if (!*is)
        return SPT_OK;
    struct bound_init *b = mem_zalloc(1, sizeof *b);
    if (!b)
        return err_nomem(err, sizeof *b);
    *b = (struct bound_init){x->bound, k, {c, *v}};
    x->bound = b;
    init->kind = PROMPT_INIT_CODE;
    init->code = run_init;
    init->code_ctx = b;
    init->code_name = k->def.name;
    return SPT_OK;
}

bool extensions_own(gin_config *c, const char *path)
{
    const extensions *x = gin_attached(c);
    for (const struct plugin_code *k = x ? x->code : NULL; k; k = k->next) {
        const size_t len = k->def.module ? strlen(k->def.module) : 0;
        if (k->kind != CODE_HOOK && !strncmp(path, k->def.module, len) && path[len] == '.' &&
            !strcmp(path + len + 1, k->def.name))
            return true;
    }
    return false;
}

/* --- modules
 * ---------------------------------------------------------------------------------------------- */

const char *extensions_module_dir(const extensions *x, const char *module)
{
    const size_t len = strcspn(module, ".");
    for (const struct spt_plugin_self *p = x->plugins; p; p = p->next)
        if (strlen(p->plugin->name) == len && memcmp(p->plugin->name, module, len) == 0)
            return p->dir;
    return NULL;
}

void extensions_modules(const extensions *x, buf *out)
{
    for (const struct spt_plugin_self *p = x->plugins; p; p = p->next)
        buf_addf(out, "%s%s", p == x->plugins ? "" : ", ", p->plugin->name);
}
