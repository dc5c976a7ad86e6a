/* Data of a task or mixture for the model: training batches without end, and whole splits for
 * evaluation. Orders are the reference's (task/pipeline.h). */
#ifndef SPT_RUN_TASK_DATA_H
#define SPT_RUN_TASK_DATA_H

#include "data/batch.h"
#include "run/reference/gin_settings.h"
#include "task/pipeline.h"

/* Where tasks come from. */
struct task_env {
    task_registry *registry; /* not owned */
    const vocab *vocab;
    const char *dir; /* --tfds_data_dir: prepared data sets, or unpacked raw archives */
    const char *const *cache_dir; /* roots of offline caches; filled by the caller */
    size_t cache_dirs;
    char home[512]; /* what `dir` is when nobody says */
};
/* dir may be NULL: TFDS_DATA_DIR, then ~/tensorflow_datasets if there is one. The environment must stay
 * where it is. */
void task_env_open(struct task_env *e, task_registry *r, const char *dir, const vocab *v);
void task_env_close(struct task_env *e);
/* Data sets of the task or mixture that are missing and that we can prepare are prepared, with a
 * message (run/data_prepare.h). */
spt_status task_env_prepare(const struct task_env *e, const char *name, const char *split,
                            bool use_cached, spt_err *err);

/* --- training ---------------------------------------------------------------------------------- */

struct task_feed {
    pipeline *source;
    int64_t size, Le, Ld; /* examples of a batch, feature lengths */
    uint64_t taken;       /* examples handed out since the start of the data */
    struct example *x;    /* [size] */
    int32_t *ids;         /* of the batch */
    size_t ids_cap;
    batch batch;
    batch micro;
};
/* seed: used when the configuration has none. skip: examples that were taken before. */
spt_status task_feed_open(struct task_feed *f, const struct task_env *e,
                          const struct gin_dataset *d, int64_t seed, uint64_t skip, spt_err *err);
void task_feed_close(struct task_feed *f); /* accepts an all-zero object */
/* The next batch; *end when the data has an end and it was reached. */
spt_status task_feed_next(struct task_feed *f, const struct packed_batch **b, bool *end,
                          spt_err *err);
/* Micro-batch j of m of the last batch: the rows [j B/m, (j+1) B/m). */
spt_status task_feed_micro(struct task_feed *f, int64_t j, int64_t m,
                           const struct packed_batch **b, spt_err *err);

/* --- evaluation ----------------------------------------------------------------------------------- */

struct task_set {
    const struct task *task; /* NULL: a mixture's own examples */
    const char *name;
    examples *x;
    record *fields; /* [n], kept when asked for */
    size_t n;
    int64_t longest_input, longest_target;
};
/* At most `most` examples (UINT64_MAX: all) of one task or mixture. */
spt_status task_set_load(struct task_set *s, const struct task_env *e, const char *name,
                         const struct gin_dataset *d, uint64_t most, bool keep_fields,
                         uint64_t shard, uint64_t shards, spt_err *err);
void task_set_release(struct task_set *s); /* accepts an all-zero object */

/* All tasks of d->task that have its split. all: with the mixture itself behind them, when it is
 * one. with_metrics: only tasks that measure something. Free *out with task_sets_free. */
struct task_sets {
    struct task_set *item;
    size_t count;
    int64_t longest_input, longest_target; /* over all */
};
spt_status task_sets_load(struct task_sets *out, const struct task_env *e,
                          const struct gin_dataset *d, uint64_t most, bool all, bool with_metrics,
                          bool keep_fields, uint64_t shard, uint64_t shards, spt_err *err);
void task_sets_free(struct task_sets *s);

#endif
