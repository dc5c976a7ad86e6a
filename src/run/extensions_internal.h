#ifndef SPT_RUN_EXTENSIONS_INTERNAL_H
#define SPT_RUN_EXTENSIONS_INTERNAL_H

#include <spt/plugin.h>

#include "run/extensions.h"
#include "task/user_task.h"

/* Whatever a plug-in gave a function pointer for. */
struct plugin_code {
    struct plugin_code *next;
    struct spt_plugin_self *owner;
    enum { CODE_HOOK, CODE_INITIALIZER, CODE_CONFIGURABLE } kind;
    gin_def def; /* of initialisers and configurables; texts are ours */
    void *ctx;
    union {
        spt_preprocess_fn preprocess;
        spt_postprocess_fn postprocess;
        spt_metric_fn metric;
        spt_initialize_fn initialize;
        spt_configure_fn configure;
    } fn;
};

/* One loaded plug-in. */
struct spt_plugin_self {
    struct spt_plugin_self *next;
    extensions *x;
    void *object;
    const spt_plugin *plugin;
    char *path, *dir;
    bool initializing, ready;
};

struct spt_args {
    gin_config *config;
    gin_value object;
};

struct spt_embedder {
    const struct prompt_init_env *env;
};

struct extensions {
    task_registry *tasks;
    struct spt_plugin_self *plugins; /* in order of loading */
    struct plugin_code *code;        /* newest first */
    struct bound_init {              /* initialisers with their arguments */
        struct bound_init *next;
        const struct plugin_code *code;
        struct spt_args args;
    } * bound;
};

spt_status plugin_load(extensions *x, const char *path, spt_err *err);
void plugin_unload(struct spt_plugin_self *p);
extern const spt_plugin_host plugin_host;

/* Calls fn once per scope in which a parameter of `path` is bound. */
typedef spt_status (*scope_fn)(void *ctx, const char *scope, const gin_value *object, spt_err *err);
spt_status each_scope(gin_config *c, const char *path, bool root_too, scope_fn fn, void *ctx,
                      spt_err *err);

/* spt.Task and spt.Mixture */
extern const gin_def gin_task_defs[];
extern const size_t gin_task_def_count;
spt_status gin_tasks_apply(extensions *x, gin_config *c, spt_err *err);

#endif
