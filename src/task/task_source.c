/* Where raw examples come from: a prepared TFDS directory, or the raw GLUE archives, which are read
 * whole and put into TFDS order (records sorted by the MD5 of split and key), so that slices such
 * as train[:-1000] mean the same examples. */
#include "task/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "fs/fs.h"
#include "task/cache.h"
#include "task/raw_glue.h"
#include "task/tf_example.h"
#include "task/tfds.h"
#include "task/user_internal.h"

enum { MAX_RAW = 1 << 26, MAX_NAME = 256 };

struct task_source {
    const struct task *task;
    char spec[MAX_NAME]; /* split or slice of the data set */
    uint64_t shard, shards, position;
    /* prepared */
    tfds *data;
    tfds_reader *reader;
    bool cached;
    user_source *user; /* a user's file; [from, to) of its rows, `next` is the coming one */
    /* raw: encoded examples in order */
    buf bytes;
    size_t *at;
    char **key;
    uint32_t *order;
    size_t count, at_cap, key_cap;
    uint64_t from, to, next;
};

/* Name of the data set's split (or slice) behind a split that is asked for. A slice of a split
 * keeps its bracket. */
static bool map_split(const struct task *t, const char *split, char *out)
{
    const size_t len = strcspn(split, "[");
    const char *bracket = split + len;
    if (!t->splits)
        return snprintf(out, MAX_NAME, "%s", split) < MAX_NAME;
    for (size_t i = 0; i < t->splits; i++) {
        if (strlen(t->split[i].name) != len || memcmp(t->split[i].name, split, len) != 0)
            continue;
        if (*bracket && strchr(t->split[i].source, '['))
            return false; /* a slice of a slice */
        return snprintf(out, MAX_NAME, "%s%s", t->split[i].source, bracket) < MAX_NAME;
    }
    return false;
}

bool task_has_split(const struct task *t, const char *split)
{
    char spec[MAX_NAME];
    return map_split(t, split, spec);
}

/* --- raw archives ------------------------------------------------------------------------- */

static void key_of(const record *r, char *out, size_t room)
{
    static const char *const parts[] = {"idx/paragraph", "idx/question", "idx/answer"};
    int64_t v[3];
    const spt_status multirc = record_int(r, parts[0], &v[0], NULL) ||
                               record_int(r, parts[1], &v[1], NULL) ||
                               record_int(r, parts[2], &v[2], NULL);
    if (!multirc)
        snprintf(out, room, "%lld_%lld_%lld", (long long)v[0], (long long)v[1], (long long)v[2]);
    else if (!record_int(r, "idx/query", &v[0], NULL) || !record_int(r, "idx", &v[0], NULL))
        snprintf(out, room, "%lld", (long long)v[0]);
    else
        snprintf(out, room, "0");
}

static spt_status keep_raw(void *ctx, record *r, spt_err *err)
{
    task_source *s = ctx;
    char key[96];
    key_of(r, key, sizeof key);
    TRY(mem_grow(&s->at, &s->at_cap, s->count + 2, sizeof *s->at, MAX_RAW, err));
    TRY(mem_grow(&s->key, &s->key_cap, s->count + 1, sizeof *s->key, MAX_RAW, err));
    if (!s->count)
        s->at[0] = 0;
    TRY(tf_example_write(r, &s->bytes, err));
    s->key[s->count] = mem_strdup(key);
    if (!s->key[s->count])
        return err_nomem(err, sizeof key);
    s->at[++s->count] = s->bytes.len;
    return SPT_OK;
}

/* "glue/sst2:2.0.0" -> "glue", "sst2" */
static bool split_dataset(const char *dataset, char *group, char *config)
{
    const char *slash = strchr(dataset, '/'), *colon = strchr(dataset, ':');
    if (!slash || !colon || colon < slash || slash - dataset >= 64 || colon - slash >= 64)
        return false;
    snprintf(group, 64, "%.*s", (int)(slash - dataset), dataset);
    snprintf(config, 64, "%.*s", (int)(colon - slash - 1), slash + 1);
    return strcmp(group, "glue") == 0 || strcmp(group, "super_glue") == 0;
}

/* The file of a split (without bracket) in an unpacked archive; false when there is none. */
static bool raw_path(const struct task *t, const char *split, const char *raw_dir, buf *path)
{
    char group[64], config[64];
    if (!split_dataset(t->dataset, group, config))
        return false;
    buf_addf(path, "%s/", raw_dir);
    return raw_glue_file(group, config, split, path) && !path->st && fs_exists(buf_str(path));
}

bool task_data_exists(const struct task *t, const char *split, const char *dir)
{
    char spec[MAX_NAME];
    tfds *d = NULL;
    buf path;
    if (tfds_open(dir, t->dataset, &d, NULL) != SPT_E_NOTFOUND) {
        tfds_close(d);
        return true;
    }
    if (!map_split(t, split, spec))
        return false;
    spec[strcspn(spec, "[")] = 0;
    buf_init(&path, 4096);
    const bool found = raw_path(t, spec, dir, &path);
    buf_release(&path);
    return found;
}

static spt_status open_raw(task_source *s, const char *raw_dir, bool *found, spt_err *err)
{
    char group[64], config[64], split[MAX_NAME];
    buf path;
    *found = false;
    if (!raw_dir || !split_dataset(s->task->dataset, group, config))
        return SPT_OK;
    snprintf(split, sizeof split, "%.*s", (int)strcspn(s->spec, "["), s->spec);
    buf_init(&path, 4096);
    const bool there = raw_path(s->task, split, raw_dir, &path);
    spt_status st = buf_status(&path, "path", err);
    if (!st && there) {
        *found = true;
        st = raw_glue_read(group, config, split, buf_str(&path), keep_raw, s, err);
        if (!st)
            st = tfds_slice(s->spec, s->count, &s->from, &s->to, err);
        s->order = st ? NULL : mem_alloc(s->count + 1, sizeof *s->order);
        if (!st && !s->order)
            st = err_nomem(err, s->count);
        if (!st)
            st = tfds_write_order(split, (const char *const *)s->key, s->count, s->order, err);
        s->next = s->from;
    }
    buf_release(&path);
    return st;
}

/* --- offline caches ------------------------------------------------------------------------- */

static spt_status open_cache(task_source *s, const struct pipeline_options *o, spt_err *err)
{
    char dir[4096];
    size_t shards;
    bool found;
    for (size_t i = 0; i < o->cache_dirs; i++) {
        TRY(cache_find(o->cache_dir[i], s->task->name, dir, sizeof dir, &found, err));
        if (!found)
            continue;
        TRY(cache_shards(dir, o->split, &shards, err));
        snprintf(s->spec, sizeof s->spec, "%s", o->split);
        s->cached = true;
        return tfds_open_shards(dir, o->split, shards, &s->data, err);
    }
    return err_set(err, SPT_E_NOTFOUND,
                   "task %s has no offline cache in %zu cache director%s (spt cache makes one; "
                   "--gin.USE_CACHED_TASKS=False reads the data set)",
                   s->task->name, o->cache_dirs, o->cache_dirs == 1 ? "y" : "ies");
}

bool task_source_cached(const task_source *s)
{
    return s->cached;
}

/* --- a user's files -------------------------------------------------------------------------- */

static spt_status skip_rows(task_source *s, spt_err *err)
{
    record r = {0};
    bool more = true;
    spt_status st = SPT_OK;
    for (s->next = 0; !st && more && s->next < s->from; s->next++)
        st = user_source_next(s->user, &r, &more, err);
    record_release(&r);
    return st;
}

static spt_status open_user(task_source *s, const struct pipeline_options *o, spt_err *err)
{
    uint64_t n;
    TRY(user_source_open(s->task, s->spec, o->tfds_dir, &s->user, err));
    s->to = UINT64_MAX;
    if (!strchr(s->spec, '['))
        return SPT_OK;
    TRY(user_source_count(s->user, &n, err));
    TRY(tfds_slice(s->spec, n, &s->from, &s->to, err));
    return skip_rows(s, err);
}

spt_status task_source_wrap(const task_source *s, spt_status st, spt_err *err)
{
    return s->user ? user_source_wrap(s->user, st, err) : st;
}

/* --- opening ------------------------------------------------------------------------------ */

spt_status task_source_open(const struct task *t, const struct pipeline_options *o,
                            task_source **out, spt_err *err)
{
    task_source *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    s->task = t;
    s->shard = o->shard;
    s->shards = o->shards ? o->shards : 1;
    buf_init(&s->bytes, SIZE_MAX / 4);
    spt_status st = SPT_OK;
    bool found = false;
    if (o->use_cached && t->cached) {
        st = open_cache(s, o, err);
        found = true;
    } else if (!map_split(t, o->split, s->spec))
        st = err_set(err, SPT_E_CONFIG, "task %s has no split '%s'", t->name, o->split);
    if (!st && !found && task_has_files(t)) {
        st = open_user(s, o, err);
        found = true;
    }
    if (!st && !found && o->tfds_dir) {
        st = tfds_open(o->tfds_dir, t->dataset, &s->data, err);
        found = !st;
        if (st == SPT_E_NOTFOUND && o->raw_dir)
            st = SPT_OK;
    }
    if (!st && !found)
        st = open_raw(s, o->raw_dir, &found, err);
    if (!st && !found)
        st = err_set(err, SPT_E_NOTFOUND,
                     "task %s needs data set %s: it is neither prepared below %s nor unpacked "
                     "below %s",
                     t->name, t->dataset, o->tfds_dir ? o->tfds_dir : "(no --tfds_data_dir)",
                     o->raw_dir ? o->raw_dir : "(no raw directory)");
    if (!st && s->data)
        st = tfds_read(s->data, s->spec, &s->reader, err);
    if (st) {
        task_source_close(s);
        return st;
    }
    *out = s;
    return SPT_OK;
}

void task_source_close(task_source *s)
{
    if (!s)
        return;
    tfds_reader_close(s->reader);
    tfds_close(s->data);
    user_source_close(s->user);
    for (size_t i = 0; i < s->count; i++)
        mem_free(s->key[i]);
    mem_free(s->key);
    mem_free(s->at);
    mem_free(s->order);
    buf_release(&s->bytes);
    mem_free(s);
}

spt_status task_source_rewind(task_source *s, spt_err *err)
{
    s->position = 0;
    s->next = s->from;
    if (s->user) {
        TRY(user_source_rewind(s->user, err));
        return skip_rows(s, err);
    }
    if (!s->data)
        return SPT_OK;
    tfds_reader *again;
    TRY(tfds_read(s->data, s->spec, &again, err));
    tfds_reader_close(s->reader);
    s->reader = again;
    return SPT_OK;
}

static spt_status next_any(task_source *s, record *out, bool *more, spt_err *err)
{
    if (s->data)
        return tfds_next(s->reader, out, more, err);
    *more = s->next < s->to;
    if (!*more)
        return SPT_OK;
    if (s->user) {
        s->next++;
        return user_source_next(s->user, out, more, err);
    }
    const size_t i = s->order[s->next++];
    return tf_example_read(buf_str(&s->bytes) + s->at[i], s->at[i + 1] - s->at[i], out, err);
}

/* Differs from SeqIO where a split has at least as many files as shards: examples are dealt out by
 * position, always. */
spt_status task_source_next(task_source *s, record *out, bool *more, spt_err *err)
{
    do
        TRY(next_any(s, out, more, err));
    while (*more && s->position++ % s->shards != s->shard);
    return SPT_OK;
}

spt_status pipeline_count(const struct task *t, const struct pipeline_options *o, uint64_t *out,
                          spt_err *err)
{
    task_source *s;
    TRY(task_source_open(t, o, &s, err));
    spt_status st = SPT_OK;
    if (s->data)
        st = tfds_examples(s->data, s->spec, out, err);
    else if (s->user && s->to == UINT64_MAX)
        st = user_source_count(s->user, out, err);
    else
        *out = s->to - s->from;
    task_source_close(s);
    return st;
}
