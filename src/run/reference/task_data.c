#include "run/reference/task_data.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "os/os.h"
#include "run/data_prepare.h"
#include "task/user_task.h"

/* --- where tasks come from ------------------------------------------------------------------- */

void task_env_open(struct task_env *e, task_registry *r, const char *dir, const vocab *v)
{
    *e = (struct task_env){.registry = r, .vocab = v};
    if (!dir || !*dir)
        dir = os_getenv("TFDS_DATA_DIR");
    if (!dir || !*dir) { /* where TFDS puts them when nobody says */
        const char *home = os_getenv("HOME");
        const int n = snprintf(e->home, sizeof e->home, "%s/tensorflow_datasets", home ? home : "");
        dir = home && *home && n > 0 && (size_t)n < sizeof e->home && fs_is_dir(e->home) ? e->home
                                                                                        : NULL;
    }
    e->dir = dir;
}

void task_env_close(struct task_env *e)
{
    *e = (struct task_env){0};
}

static struct pipeline_options options_of(const struct task_env *e, const struct gin_dataset *d)
{
    return (struct pipeline_options){
        .name = d->task,
        .split = d->split,
        .tfds_dir = e->dir,
        .raw_dir = e->dir,
        .vocabulary = e->vocab,
        .max_input = d->has_lengths ? d->inputs : 0,
        .max_target = d->has_lengths ? d->targets : 0,
        .shuffle = d->shuffle,
        .seed = d->seed,
        .use_cached = d->use_cached && e->cache_dirs,
        .cache_dir = e->cache_dir,
        .cache_dirs = e->cache_dirs,
    };
}

/* A user's task, or a mixture of nothing else. */
static bool reads_own_files(const struct task_env *e, const char *name)
{
    struct task_rate *member;
    size_t n;
    if (task_members(e->registry, name, &member, &n, NULL))
        return false;
    bool all = n > 0;
    for (size_t i = 0; i < n; i++)
        all &= task_has_files(member[i].task);
    mem_free(member);
    return all;
}

static spt_status check_dir(const struct task_env *e, const char *task, spt_err *err)
{
    if (e->dir || e->cache_dirs || reads_own_files(e, task))
        return SPT_OK;
    return err_set(err, SPT_E_USAGE,
                   "%s reads a prepared data set: give --tfds_data_dir DIR (or TFDS_DATA_DIR), a "
                   "directory of TFDS data sets or of unpacked GLUE or SuperGLUE archives; in an "
                   "empty one GLUE, SuperGLUE, SQuAD and MRQA are prepared",
                   task);
}

spt_status task_env_prepare(const struct task_env *e, const char *name, const char *split,
                            bool use_cached, spt_err *err)
{
    if (!e->dir || (use_cached && e->cache_dirs) || reads_own_files(e, name))
        return SPT_OK;
    return data_prepare_missing(e->registry, name, split, e->dir, err);
}

static spt_status known(const struct task_env *e, const char *name, spt_err *err)
{
    if (task_find(e->registry, name) || mixture_find(e->registry, name))
        return SPT_OK;
    buf near;
    buf_init(&near, 1024);
    task_suggest(e->registry, name, &near);
    const spt_status st = err_set(err, SPT_E_CONFIG,
                                  "there is no task or mixture \"%s\"%s%s (spt tasks lists them)",
                                  name, near.len ? "; did you mean " : "", buf_str(&near));
    buf_release(&near);
    return st;
}

/* --- training ---------------------------------------------------------------------------------- */

spt_status task_feed_open(struct task_feed *f, const struct task_env *e,
                          const struct gin_dataset *d, int64_t seed, uint64_t skip, spt_err *err)
{
    *f = (struct task_feed){.size = d->batch, .Le = d->inputs, .Ld = d->targets};
    TRY(known(e, d->task, err));
    TRY(check_dir(e, d->task, err));
    TRY(task_env_prepare(e, d->task, d->split, d->use_cached, err));
    struct pipeline_options o = options_of(e, d);
    o.seed = d->has_seed ? d->seed : seed;
    if (d->use_cached && !e->cache_dirs)
        log_warning("use_cached = True without --seqio_additional_cache_dirs: the examples of %s "
                    "are made while training; a cache would have another order",
                    d->task);
    if (!d->has_lengths)
        return err_set(err, SPT_E_CONFIG,
                       "train/DatasetConfig.task_feature_lengths is None: training needs lengths, "
                       "such as {'inputs': 512, 'targets': 8}");
    TRY(pipeline_open(e->registry, &o, &f->source, err));
    if (skip)
        TRY(pipeline_skip(f->source, skip, err));
    f->taken = skip;
    f->x = mem_zalloc((size_t)f->size, sizeof *f->x);
    return f->x ? SPT_OK : err_nomem(err, (size_t)f->size * sizeof *f->x);
}

void task_feed_close(struct task_feed *f)
{
    pipeline_close(f->source);
    batch_release(&f->batch);
    batch_release(&f->micro);
    mem_free(f->x);
    mem_free(f->ids);
    *f = (struct task_feed){0};
}

spt_status task_feed_next(struct task_feed *f, const struct packed_batch **b, bool *end,
                          spt_err *err)
{
    size_t used = 0;
    *end = false;
    for (int64_t i = 0; i < f->size; i++) {
        struct task_example ex;
        bool more;
        TRY(pipeline_next(f->source, &ex, &more, err));
        if (!more) {
            *end = true;
            return SPT_OK;
        }
        const size_t n = ex.input_len + ex.target_len;
        TRY(mem_grow(&f->ids, &f->ids_cap, used + n + 1, sizeof *f->ids, SIZE_MAX / 8, err));
        memcpy(f->ids + used, ex.input, ex.input_len * sizeof *f->ids);
        memcpy(f->ids + used + ex.input_len, ex.target, ex.target_len * sizeof *f->ids);
        f->x[i] = (struct example){.input_len = ex.input_len, .target_len = ex.target_len};
        used += n;
    }
    const int32_t *at = f->ids; /* only now does the storage stay where it is */
    for (int64_t i = 0; i < f->size; i++) {
        f->x[i].input = at;
        f->x[i].target = at + f->x[i].input_len;
        at += f->x[i].input_len + f->x[i].target_len;
    }
    f->taken += (uint64_t)f->size;
    TRY(batch_from(&f->batch, f->x, (size_t)f->size, f->Le, f->Ld, err));
    *b = &f->batch.view;
    return SPT_OK;
}

spt_status task_feed_micro(struct task_feed *f, int64_t j, int64_t m,
                           const struct packed_batch **b, spt_err *err)
{
    const int64_t n = f->size / m;
    TRY(batch_from(&f->micro, f->x + j * n, (size_t)n, f->Le, f->Ld, err));
    *b = &f->micro.view;
    return SPT_OK;
}

/* --- evaluation ----------------------------------------------------------------------------------- */

/* Names of a stream's record go with it. */
static spt_status keep_field(record *to, const struct record_field *f, spt_err *err)
{
    const size_t n = strlen(f->name) + 1;
    char *name = record_alloc(to, n);
    if (!name)
        return err_nomem(err, n);
    memcpy(name, f->name, n);
    return record_copy_field(to, name, f, err);
}

static spt_status keep_ids(record *to, const char *name, const int32_t *ids, size_t n, spt_err *err)
{
    int64_t *wide = record_alloc(to, (n + 1) * sizeof *wide);
    if (!wide)
        return err_nomem(err, n * sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = ids[i];
    return record_set_ints(to, name, wide, n, err);
}

/* All features of the task in the order of the reference's files. */
static spt_status keep_fields_of(record *r, const struct task_example *x, spt_err *err)
{
    static const char in[] = "inputs_pretokenized", out[] = "targets_pretokenized";
    const record *from = x->fields;
    for (size_t i = 0; i < from->fields; i++)
        if (strcmp(from->field[i].name, in) && strcmp(from->field[i].name, out))
            TRY(keep_field(r, &from->field[i], err));
    if (record_find(from, in))
        TRY(keep_field(r, record_find(from, in), err));
    TRY(keep_ids(r, "inputs", x->input, x->input_len, err));
    if (record_find(from, out))
        TRY(keep_field(r, record_find(from, out), err));
    return keep_ids(r, "targets", x->target, x->target_len, err);
}

static spt_status keep(struct task_set *s, size_t *cap, const struct task_example *x, spt_err *err)
{
    TRY(mem_grow(&s->fields, cap, s->n + 1, sizeof *s->fields, UINT32_MAX, err));
    record *r = &s->fields[s->n];
    *r = (record){0};
    const spt_status st = keep_fields_of(r, x, err);
    if (st)
        record_release(r);
    return st;
}

static spt_status load_all(struct task_set *s, pipeline *p, uint64_t most, bool keep_fields,
                           spt_err *err)
{
    size_t cap = 0;
    while (s->n < most) {
        struct task_example ex;
        bool more;
        TRY(pipeline_next(p, &ex, &more, err));
        if (!more)
            break;
        const struct example x = {.input = ex.input,
                                  .input_len = ex.input_len,
                                  .target = ex.target,
                                  .target_len = ex.target_len,
                                  .label = -1};
        TRY(examples_add(s->x, &x, err));
        if (keep_fields)
            TRY(keep(s, &cap, &ex, err));
        if ((int64_t)ex.input_len > s->longest_input)
            s->longest_input = (int64_t)ex.input_len;
        if ((int64_t)ex.target_len > s->longest_target)
            s->longest_target = (int64_t)ex.target_len;
        s->n++;
    }
    return SPT_OK;
}

spt_status task_set_load(struct task_set *s, const struct task_env *e, const char *name,
                         const struct gin_dataset *d, uint64_t most, bool keep_fields,
                         uint64_t shard, uint64_t shards, spt_err *err)
{
    struct pipeline_options o = options_of(e, d);
    pipeline *p = NULL;
    *s = (struct task_set){.task = task_find(e->registry, name), .name = name};
    TRY(check_dir(e, name, err));
    o.name = name;
    o.shuffle = false;
    o.epochs = 1;
    o.shard = shard;
    o.shards = shards;
    if (!s->task)
        o.epochs = 0; /* a mixture of what never ends; `most` bounds it */
    if (s->task)
        s->name = s->task->name;
    TRY(examples_new(&s->x, err));
    spt_status st = pipeline_open(e->registry, &o, &p, err);
    if (!st)
        st = load_all(s, p, most, keep_fields, err);
    pipeline_close(p);
    if (!st && !s->n)
        st = err_set(err, SPT_E_CONFIG, "%s: split %s has no examples", name, d->split);
    return st;
}

void task_set_release(struct task_set *s)
{
    for (size_t i = 0; s->fields && i < s->n; i++)
        record_release(&s->fields[i]);
    mem_free(s->fields);
    examples_free(s->x);
    *s = (struct task_set){0};
}

static spt_status load_members(struct task_sets *out, const struct task_env *e,
                               const struct gin_dataset *d, const struct task_rate *member,
                               size_t n, uint64_t most, bool with_metrics, bool keep_fields,
                               uint64_t shard, uint64_t shards, spt_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct task *t = member[i].task;
        if (!task_has_split(t, d->split) || (with_metrics && !t->metrics))
            continue;
        struct task_set *s = &out->item[out->count++];
        TRY(task_set_load(s, e, t->name, d, most, keep_fields, shard, shards, err));
    }
    return SPT_OK;
}

spt_status task_sets_load(struct task_sets *out, const struct task_env *e,
                          const struct gin_dataset *d, uint64_t most, bool all, bool with_metrics,
                          bool keep_fields, uint64_t shard, uint64_t shards, spt_err *err)
{
    struct task_rate *member = NULL;
    size_t n = 0;
    *out = (struct task_sets){0};
    TRY(known(e, d->task, err));
    TRY(task_env_prepare(e, d->task, d->split, d->use_cached, err));
    TRY(task_members(e->registry, d->task, &member, &n, err));
    out->item = mem_zalloc(n + 1, sizeof *out->item);
    spt_status st = out->item ? load_members(out, e, d, member, n, most, with_metrics, keep_fields,
                                             shard, shards, err)
                              : err_nomem(err, n * sizeof *out->item);
    if (!st && all && mixture_find(e->registry, d->task)) {
        struct task_set *s = &out->item[out->count++];
        st = task_set_load(s, e, d->task, d, most, keep_fields, shard, shards, err);
    }
    for (size_t i = 0; i < out->count; i++) {
        const struct task_set *s = &out->item[i];
        if (s->longest_input > out->longest_input)
            out->longest_input = s->longest_input;
        if (s->longest_target > out->longest_target)
            out->longest_target = s->longest_target;
    }
    mem_free(member);
    return st;
}

void task_sets_free(struct task_sets *s)
{
    for (size_t i = 0; i < s->count; i++)
        task_set_release(&s->item[i]);
    mem_free(s->item);
    *s = (struct task_sets){0};
}
