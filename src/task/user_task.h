/* Tasks that are not in the upstream tree: a user's tables (TSV, CSV, JSON Lines, gzip'd or not) or
 * any prepared data set, formatted by templates or by a plug-in's code (docs/reference/tasks.md).
 *
 *   struct user_task u = {.name = "reviews", .file = files, .files = 2, .input = "review: {text}",
 *                         .target = "{label}", .label = labels, .labels = 2, ...};
 *   task_registry_add(r, &u, err);
 *
 * Everything given is copied. Afterwards the task is like any other: task_find, pipeline_open,
 * cache_write. */
#ifndef SPT_TASK_USER_TASK_H
#define SPT_TASK_USER_TASK_H

#include "data/records.h"
#include "task/task.h"

/* --- code ----------------------------------------------------------------------------------- */

enum task_hook_kind { HOOK_PREPROCESSOR, HOOK_POSTPROCESSOR, HOOK_METRIC };

/* One function of a plug-in, under a name that tasks use. `ctx` outlives the registry. */
struct task_hook {
    enum task_hook_kind kind;
    const char *name;
    void *ctx;
    union {
        /* Sets `inputs` and `targets` (and fields that pass through) of `out` and emits it, zero or
         * more times; `out` is empty at first. */
        spt_status (*preprocess)(void *ctx, const record *raw, int64_t position, record *out,
                                 task_emit_fn emit, void *emit_ctx, spt_err *err);
        /* As task_answer(). */
        spt_status (*answer)(void *ctx, const char *text, size_t len, const record *example,
                             bool is_target, record *scratch, struct task_value *out, spt_err *err);
        spt_status (*score)(void *ctx, const struct task_value *target,
                            const struct task_value *prediction, size_t n, task_score_fn add,
                            void *add_ctx, spt_err *err);
    } run;
};
/* SPT_E_CONFIG for a name that exists. The name is copied. */
spt_status task_registry_add_hook(task_registry *r, const struct task_hook *h, spt_err *err);
/* NULL when there is none; valid until the next addition. */
const struct task_hook *task_hook_find(const task_registry *r, enum task_hook_kind kind,
                                       const char *name);

/* --- tasks ---------------------------------------------------------------------------------- */

struct task_file {
    const char *split, *path;
};

/* A target text that is replaced: {"0", "negative"}. */
struct task_word {
    const char *from, *to;
};

struct user_task {
    const char *name;
    const struct task_file *file; /* one file per split; or */
    size_t files;
    const char *dataset; /* a prepared data set: "glue/sst2:2.0.0", all its splits; or `file` maps
                            split names to its splits and slices */
    enum records_kind kind;
    enum header_mode header;
    char delimiter; /* 0: the kind's own */
    /* "sst2 sentence: {sentence}". Defaults: "{text}" or "{1}" ... are not guessed: both are needed
     * unless there is a preprocessor. */
    const char *input, *target;
    const char *answers;      /* template of the accepted answers (squad), joined by separator */
    const char *separator;    /* "|||" */
    const char *const *label; /* every target must be one of them */
    size_t labels;
    const struct task_word *word;
    size_t words;
    const char *preprocessor;  /* instead of the templates; a hook's name */
    const char *postprocessor; /* label, number, text, answers, none or a hook's name; NULL: label
                                  with labels, else text */
    const char *const *metric; /* built-in or a hook's name */
    size_t metrics;
    enum task_vocabulary vocabulary;
};

/* SPT_E_CONFIG says what is missing or contradicts itself. Files are not opened. */
spt_status task_registry_add(task_registry *r, const struct user_task *u, spt_err *err);
/* SPT_E_CONFIG for a name that exists, no members, a rate below 0. Members are looked up when the
 * mixture is used. */
spt_status task_registry_add_mixture(task_registry *r, const char *name,
                                     const struct task_member *member, size_t n, spt_err *err);
/* Whether a task reads files of its own: no --tfds_data_dir is needed. */
bool task_has_files(const struct task *t);

#endif
