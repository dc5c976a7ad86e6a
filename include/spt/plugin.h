/* Plug-ins of spt: tasks, preprocessors, postprocessors, metrics, prompt initialisers and gin
 * configurables in a shared object of your own.
 *
 *     #include <spt/plugin.h>
 *
 *     static spt_status shout_init(const spt_plugin_host *h, spt_plugin_self *self, spt_err *err)
 *     {
 *         return h->add_metric(self, "shout.length", mean_length, NULL, err);
 *     }
 *     SPT_PLUGIN("shout", "1.0", shout_init)
 *
 *     cc -shared -fPIC -I PREFIX/include -o shout.so shout.c        (no library of ours)
 *     spt train --plugin ./shout.so --gin_file ...
 *
 * A plug-in is named on the command line only; no file can load one. It links to nothing of spt:
 * everything it may call is in the table `spt_plugin_host` that its init function is given and that
 * stays valid, like the plug-in itself, until the command ends. docs/reference/plugins.md explains,
 * examples/plugin/ is a complete package.
 *
 * Versions: SPT_PLUGIN_ABI changes when something below changes its meaning, and such a plug-in is
 * refused before any of its functions is called. New functions are only ever added at the end of
 * the table: compare host->size with offsetof(spt_plugin_host, NEW) before using one that is
 * younger than the spt you must run with.
 *
 * Rules: names are registered once. Names of functions and configurables begin with the plug-in's
 * name and a dot ("shout.length"); names of tasks and mixtures are free.
 * Texts given to add_... are copied. Function pointers and `ctx` must stay valid until the program
 * ends. All calls come from one thread at a time. A function that fails returns a status other than
 * SPT_OK after h->fail(...) has said why. */
#ifndef SPT_PLUGIN_H
#define SPT_PLUGIN_H

#include <spt/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPT_PLUGIN_ABI 1u

typedef struct spt_plugin_host spt_plugin_host;
typedef struct spt_plugin_self spt_plugin_self; /* the plug-in, while its init runs */
typedef struct spt_example spt_example;         /* named fields: texts, whole numbers, reals */
typedef struct spt_emitter spt_emitter;         /* takes finished examples */
typedef struct spt_scores spt_scores;           /* takes metric values */
typedef struct spt_args spt_args;               /* what gin bound to a configurable */
typedef struct spt_embedder spt_embedder;       /* the model's embedding table */

/* --- what a plug-in can bring --------------------------------------------------------------- */

/* Sets "inputs" and "targets" (texts; other fields pass through to the predictions) of `out` and
 * gives it to host->emit, zero or more times; emit empties it. position: number of `raw` in its
 * stream. */
typedef spt_status (*spt_preprocess_fn)(void *ctx, const spt_plugin_host *h, const spt_example *raw,
                                        int64_t position, spt_example *out, spt_emitter *to,
                                        spt_err *err);

/* What a text means. The text must live: in `text`, in static memory, or in host->keep(scratch). */
typedef struct spt_value {
    int64_t label; /* what accuracy and F1 compare; -1: no answer */
    double number; /* Pearson and Spearman */
    const char *text;
    size_t text_len;
} spt_value;
/* is_target: the text is a target, else an answer of the model. *out comes with label -1, number 0
 * and the text as it is. */
typedef spt_status (*spt_postprocess_fn)(void *ctx, const spt_plugin_host *h, const char *text,
                                         size_t len, const spt_example *example, int is_target,
                                         spt_example *scratch, spt_value *out, spt_err *err);

/* Compares n targets with n answers; host->score takes each result. */
typedef spt_status (*spt_metric_fn)(void *ctx, const spt_plugin_host *h, const spt_value *target,
                                    const spt_value *answer, size_t n, spt_scores *to,
                                    spt_err *err);

/* Rows [length, width] a prompt starts from. key: 64 random bits of the run's seed; the same key
 * must give the same rows. */
typedef spt_status (*spt_initialize_fn)(void *ctx, const spt_plugin_host *h, const spt_args *args,
                                        const uint32_t key[2], int64_t length, int64_t width,
                                        spt_embedder *table, float *rows, spt_err *err);

/* Called once per scope in which a gin file binds a parameter of the configurable (scope "" without
 * one), before tasks are looked up: it may add tasks and mixtures. */
typedef spt_status (*spt_configure_fn)(void *ctx, const spt_plugin_host *h, spt_plugin_self *self,
                                       const spt_args *args, const char *scope, spt_err *err);

/* A task: one file per split, or a prepared data set; as spt.Task in gin (docs/reference/tasks.md),
 * where each field is explained. Zero means "not given". */
typedef struct spt_plugin_task {
    size_t size; /* sizeof(spt_plugin_task) */
    const char *name;
    const char *const *split; /* [splits] */
    const char *const
        *file; /* [splits]: relative to the current directory, else the data directory */
    size_t splits;
    const char *dataset;
    const char *input, *target, *answers;
    const char *const *label; /* [labels] */
    size_t labels;
    const char *preprocessor, *postprocessor;
    const char *const *metric; /* [metrics] */
    size_t metrics;
} spt_plugin_task;

/* --- what a plug-in may call ------------------------------------------------------------------ */

struct spt_plugin_host {
    uint32_t abi;        /* SPT_PLUGIN_ABI of the program */
    size_t size;         /* sizeof(spt_plugin_host) of the program */
    const char *version; /* of the program: "0.1.0" */

    /* Registering; `self` is what init (or configure) was given. */
    spt_status (*add_preprocessor)(spt_plugin_self *self, const char *name, spt_preprocess_fn fn,
                                   void *ctx, spt_err *err);
    spt_status (*add_postprocessor)(spt_plugin_self *self, const char *name, spt_postprocess_fn fn,
                                    void *ctx, spt_err *err);
    spt_status (*add_metric)(spt_plugin_self *self, const char *name, spt_metric_fn fn, void *ctx,
                             spt_err *err);
    spt_status (*add_task)(spt_plugin_self *self, const spt_plugin_task *task, spt_err *err);
    spt_status (*add_mixture)(spt_plugin_self *self, const char *name, const char *const *task,
                              const double *rate, size_t n, spt_err *err);
    /* signature: as in Python, "scale=1.0, *, rows"; the name is what gin files write. Only while
     * init runs. */
    spt_status (*add_initializer)(spt_plugin_self *self, const char *name, const char *signature,
                                  spt_initialize_fn fn, void *ctx, spt_err *err);
    spt_status (*add_configurable)(spt_plugin_self *self, const char *name, const char *signature,
                                   spt_configure_fn fn, void *ctx, spt_err *err);

    /* Says why a function fails; returns `code`. printf-like. */
    spt_status (*fail)(spt_err *err, spt_status code, const char *fmt, ...);
    /* One line of the story. warning: 0 or 1. */
    void (*log)(int warning, const char *fmt, ...);

    /* Fields of an example; 0 when there is none of this name and kind. Texts end with a NUL. */
    int (*get_text)(const spt_example *e, const char *name, const char **text, size_t *len);
    int (*get_int)(const spt_example *e, const char *name, int64_t *out);
    int (*get_real)(const spt_example *e, const char *name, double *out);
    spt_status (*set_text)(spt_example *e, const char *name, const char *text, size_t len,
                           spt_err *err);
    spt_status (*set_int)(spt_example *e, const char *name, int64_t v, spt_err *err);
    spt_status (*set_real)(spt_example *e, const char *name, double v, spt_err *err);
    /* size bytes that live as long as the example; NULL: out of memory. */
    void *(*keep)(spt_example *e, size_t size);
    spt_status (*emit)(spt_emitter *to, spt_example *e, spt_err *err);

    spt_status (*score)(spt_scores *to, const char *name, double value, spt_err *err);

    /* Arguments: as bound, else the signature's default; 0 when it is of another kind. Whole
     * numbers are reals, too. Texts live until the command ends. */
    int (*arg_text)(const spt_args *a, const char *name, const char **out);
    int (*arg_int)(const spt_args *a, const char *name, int64_t *out);
    int (*arg_real)(const spt_args *a, const char *name, double *out);
    int (*arg_flag)(const spt_args *a, const char *name, int *out);
    /* A list (or tuple) of texts: item i; 0 behind the last. */
    int (*arg_item)(const spt_args *a, const char *name, size_t i, const char **out);

    /* Rows of the embedding table: out [n, width]. table_rows: how many there are. */
    int64_t (*table_rows)(const spt_embedder *table);
    spt_status (*embed)(spt_embedder *table, const int32_t *ids, int64_t n, float *out,
                        spt_err *err);
};

/* --- how a plug-in is found ------------------------------------------------------------------- */

typedef struct spt_plugin {
    uint32_t abi;
    uint32_t size;
    const char *name; /* a gin module, too: letters, digits and underscores */
    const char *version;
    spt_status (*init)(const spt_plugin_host *host, spt_plugin_self *self, spt_err *err);
    void (*close)(void); /* at the end; may be NULL */
} spt_plugin;

#if defined(__GNUC__)
#define SPT_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define SPT_PLUGIN_EXPORT
#endif
#ifdef __cplusplus
#define SPT_PLUGIN_LINKAGE extern "C"
#else
#define SPT_PLUGIN_LINKAGE extern
#endif

/* The one symbol that spt looks for. */
#define SPT_PLUGIN_SYMBOL "spt_plugin_entry"
#define SPT_PLUGIN_WITH_CLOSE(name, version, init, close)                                          \
    SPT_PLUGIN_LINKAGE SPT_PLUGIN_EXPORT const spt_plugin spt_plugin_entry;                        \
    const spt_plugin spt_plugin_entry = {SPT_PLUGIN_ABI, sizeof(spt_plugin), name, version, init,  \
                                         close};
#define SPT_PLUGIN(name, version, init) SPT_PLUGIN_WITH_CLOSE(name, version, init, NULL)

#ifdef __cplusplus
}
#endif
#endif
