/* Examples of a task or mixture, one after the other, in the reference's order (spec/data.md 1.4,
 * 1.5): source -> text -> repeat -> ids, EOS, cutting -> shuffle buffer -> mixture.
 *
 * Memory holds the shuffle buffers (1,000 examples per task) and nothing of the data set, except
 * raw GLUE archives, which must be sorted first. The same options give the same sequence; a run
 * resumes by pipeline_skip() to the number of examples it has seen. Confined to one thread. */
#ifndef SPT_TASK_PIPELINE_H
#define SPT_TASK_PIPELINE_H

#include "task/task.h"
#include "vocab/vocab.h"

enum { SHUFFLE_BUFFER = 1000 };

struct pipeline_options {
    const char *name;     /* task or mixture */
    const char *split;    /* "train", "validation", "test[:10%]", ... */
    const char *tfds_dir; /* prepared data sets; NULL: raw only */
    const char *raw_dir;  /* unpacked GLUE and SuperGLUE archives; NULL: TFDS only */
    /* Offline caches (roots are searched in order): with use_cached a task that can be cached must
     * be found in one of them. */
    bool use_cached;
    const char *const *cache_dir;
    size_t cache_dirs;
    const vocab *vocabulary;
    int64_t max_input, max_target; /* with EOS; 0: nothing is cut (C4 objectives need both) */
    bool shuffle;
    int64_t seed;           /* of shuffling and of the mixture */
    uint64_t epochs;        /* 0: for ever */
    uint64_t shard, shards; /* this reader's part; shards 0 or 1: all */
    bool (*stop)(void);     /* asked by cache_write between examples; NULL: never */
};

struct task_example {
    const struct task *task;
    const int32_t *input, *target; /* with EOS */
    size_t input_len, target_len;
    /* Passed-through fields, `inputs_pretokenized`, `targets_pretokenized`; rank-2 tasks: texts. */
    const record *fields;
};

typedef struct pipeline pipeline;
/* Tasks without the split are left out; none with it is SPT_E_CONFIG. SPT_E_NOTFOUND says where the
 * files of a data set were looked for. */
spt_status pipeline_open(const task_registry *r, const struct pipeline_options *o, pipeline **out,
                         spt_err *err);
void pipeline_close(pipeline *p); /* accepts NULL */
/* Valid until the next call. *more false: the end (of the first member that ends). */
spt_status pipeline_next(pipeline *p, struct task_example *out, bool *more, spt_err *err);
spt_status pipeline_skip(pipeline *p, uint64_t examples, spt_err *err);
/* Raw examples of a task's split as the metadata counts them. */
spt_status pipeline_count(const struct task *t, const struct pipeline_options *o, uint64_t *out,
                          spt_err *err);

/* --- one level below: raw examples of a task's split ---------------------------------------- */

typedef struct task_source task_source;
/* SPT_E_CONFIG when the task has no such split. */
spt_status task_source_open(const struct task *t, const struct pipeline_options *o,
                            task_source **out, spt_err *err);
spt_status task_source_next(task_source *s, record *out, bool *more, spt_err *err);
spt_status task_source_rewind(task_source *s, spt_err *err);
/* Puts the file and line of the last example in front of a message, where there are lines. */
spt_status task_source_wrap(const task_source *s, spt_status st, spt_err *err);
void task_source_close(task_source *s); /* accepts NULL */
/* The records hold ids already (`inputs`, `targets` without EOS, ..._pretokenized). */
bool task_source_cached(const task_source *s);
/* True when the task declares the split (or declares none, then the data set decides). */
bool task_has_split(const struct task *t, const char *split);
/* Whether the task's data set lies below `dir`, prepared or (that split) as unpacked archive. */
bool task_data_exists(const struct task *t, const char *split, const char *dir);

#endif
