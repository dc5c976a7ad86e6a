/* Examples are dealt out to the shards in turn, so that every reader gets its share of any prefix.
 */
#include "task/cache.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "fs/fs.h"
#include "store/tfrecord.h"
#include "task/tf_example.h"
#include "text/json.h"

enum { MAX_PATH = 4096, MAX_INFO = 16 << 20, MAX_FEATURES = 256, MAX_SHARDS = 65536 };

static spt_status task_dir(const char *root, const char *task, char *dir, size_t room, spt_err *err)
{
    const int n = snprintf(dir, room, "%s/%s", root, task);
    if (n < 0 || (size_t)n >= room)
        return err_set(err, SPT_E_CONFIG, "the cache path of %s is too long", task);
    for (char *s = dir + strlen(root); *s; s++)
        if (*s == ':')
            *s = '/';
    return SPT_OK;
}

spt_status cache_find(const char *root, const char *task, char *dir, size_t room, bool *found,
                      spt_err *err)
{
    char path[MAX_PATH + 16];
    TRY(task_dir(root, task, dir, room, err));
    snprintf(path, sizeof path, "%s/COMPLETED", dir);
    *found = fs_exists(path);
    return SPT_OK;
}

spt_status cache_shards(const char *dir, const char *split, size_t *out, spt_err *err)
{
    char path[MAX_PATH + 300], *text;
    size_t size;
    uint64_t shards = 0;
    snprintf(path, sizeof path, "%s/info.%.200s.json", dir, split);
    if (!fs_exists(path))
        return err_set(err, SPT_E_CONFIG, "the cache %s has no split '%s'", dir, split);
    TRY(fs_read_all(path, MAX_INFO, &text, &size, err));
    json_reader r;
    json_open(&r, text, size, 0);
    bool more;
    struct json_event key;
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more)
        st = json_is(&key, "num_shards") ? json_read_u64(&r, &shards, err) : json_skip(&r, err);
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    mem_free(text);
    if (!st && (!shards || shards > MAX_SHARDS))
        st = err_set(err, SPT_E_FORMAT, "%llu shards", (unsigned long long)shards);
    if (st)
        return err_wrap(err, st, "%s", path);
    *out = (size_t)shards;
    return SPT_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct feature {
    char name[128];
    enum field_kind kind;
};

struct writing {
    const struct task *task;
    const struct pipeline_options *o;
    tfrecord_writer **shard;
    size_t shards;
    uint64_t examples;
    uint64_t tokens[2], longest[2]; /* inputs, targets */
    struct feature feature[MAX_FEATURES];
    size_t features;
    struct vocab_ids ids;
    record out;
    buf message;
};

/* Ids of a text as a field, and the text under its _pretokenized name. */
static spt_status add_ids(struct writing *w, const struct field_text *text, size_t which,
                          spt_err *err)
{
    static const char *const names[] = {"inputs", "targets"};
    static const char *const texts[] = {"inputs_pretokenized", "targets_pretokenized"};
    const struct task *t = w->task;
    w->ids.count = 0;
    TRY(vocab_encode(w->o->vocabulary, text->s, text->len, &w->ids, err));
    const bool sentinel = which == 0 && t->sentinel >= 0 && !t->sentinel_late;
    const size_t n = w->ids.count + sentinel;
    int64_t *v = record_alloc(&w->out, (n + 1) * sizeof *v);
    if (!v)
        return err_nomem(err, n * sizeof *v);
    if (sentinel)
        v[0] = vocab_size(w->o->vocabulary) - 1 - t->sentinel;
    for (size_t i = 0; i < w->ids.count; i++)
        v[i + sentinel] = w->ids.id[i];
    w->tokens[which] += n;
    if (n > w->longest[which])
        w->longest[which] = n;
    TRY(record_set_text(&w->out, texts[which], text->s, text->len, err));
    return record_set_ints(&w->out, names[which], v, n, err);
}

static spt_status note_features(struct writing *w, spt_err *err)
{
    for (size_t i = 0; i < w->out.fields; i++) {
        const struct record_field *f = &w->out.field[i];
        size_t k = 0;
        while (k < w->features && strcmp(w->feature[k].name, f->name) != 0)
            k++;
        if (k < w->features)
            continue;
        if (k == MAX_FEATURES || strlen(f->name) >= sizeof w->feature[k].name)
            return err_set(err, SPT_E_FORMAT, "field '%.60s' cannot be cached", f->name);
        memcpy(w->feature[k].name, f->name, strlen(f->name) + 1);
        w->feature[k].kind = f->kind;
        w->features++;
    }
    return SPT_OK;
}

static spt_status cache_example(void *ctx, record *r, spt_err *err)
{
    struct writing *w = ctx;
    struct field_text inputs, targets;
    record_clear(&w->out);
    for (size_t i = 0; i < r->fields; i++)
        if (strcmp(r->field[i].name, "inputs") != 0 && strcmp(r->field[i].name, "targets") != 0)
            TRY(record_copy_field(&w->out, r->field[i].name, &r->field[i], err));
    TRY(record_text(r, "inputs", &inputs, err));
    TRY(record_text(r, "targets", &targets, err));
    TRY(add_ids(w, &inputs, 0, err));
    TRY(add_ids(w, &targets, 1, err));
    TRY(note_features(w, err));
    buf_clear(&w->message);
    TRY(tf_example_write(&w->out, &w->message, err));
    return tfrecord_add(w->shard[w->examples++ % w->shards], buf_str(&w->message), w->message.len,
                        err);
}

static void write_feature(json_writer *j, const struct feature *f)
{
    static const char *const dtypes[] = {"string", "int32", "float32"};
    json_key(j, f->name);
    json_begin_object(j);
    json_key(j, "dtype");
    json_string(j, dtypes[f->kind % 3]);
    json_key(j, "shape");
    json_begin_array(j);
    if (f->kind >= FIELD_TEXTS)
        json_null(j);
    json_end_array(j);
    json_end_object(j);
}

static int by_name(const struct feature *a, const struct feature *b)
{
    return strcmp(a->name, b->name);
}

static void sort_features(struct writing *w)
{
    for (size_t i = 1; i < w->features; i++)
        for (size_t k = i; k > 0 && by_name(&w->feature[k - 1], &w->feature[k]) > 0; k--) {
            const struct feature t = w->feature[k];
            w->feature[k] = w->feature[k - 1];
            w->feature[k - 1] = t;
        }
}

static spt_status write_json(const char *dir, const char *kind, const char *split, buf *text,
                             spt_err *err)
{
    char path[MAX_PATH + 300];
    snprintf(path, sizeof path, "%s/%s.%.200s.json", dir, kind, split);
    TRY(buf_status(text, path, err));
    return fs_write_all(path, buf_str(text), text->len, err);
}

static spt_status write_info(struct writing *w, const char *dir, const char *split, spt_err *err)
{
    buf info, stats;
    json_writer j;
    buf_init(&info, MAX_INFO);
    buf_init(&stats, MAX_INFO);
    sort_features(w);
    json_write_init(&j, &info, JSON_PYTHON);
    j.indent = 2;
    json_begin_object(&j);
    json_key(&j, "features");
    json_begin_object(&j);
    for (size_t i = 0; i < w->features; i++)
        write_feature(&j, &w->feature[i]);
    json_end_object(&j);
    json_key(&j, "num_shards");
    json_u64(&j, w->shards);
    json_key(&j, "seqio_version");
    json_string(&j, "0.0.20");
    json_end_object(&j);
    json_write_init(&j, &stats, JSON_PYTHON);
    j.indent = 2;
    json_begin_object(&j);
    json_key(&j, "examples");
    json_u64(&j, w->examples);
    json_key(&j, "inputs_max_tokens");
    json_u64(&j, w->longest[0]);
    json_key(&j, "inputs_tokens");
    json_u64(&j, w->tokens[0]);
    json_key(&j, "targets_max_tokens");
    json_u64(&j, w->longest[1]);
    json_key(&j, "targets_tokens");
    json_u64(&j, w->tokens[1]);
    json_end_object(&j);
    spt_status st = write_json(dir, "info", split, &info, err);
    if (!st)
        st = write_json(dir, "stats", split, &stats, err);
    buf_release(&info);
    buf_release(&stats);
    return st;
}

static spt_status open_shards(struct writing *w, const char *dir, const char *split, spt_err *err)
{
    w->shard = mem_zalloc(w->shards, sizeof *w->shard);
    if (!w->shard)
        return err_nomem(err, w->shards);
    for (size_t i = 0; i < w->shards; i++) {
        char path[MAX_PATH + 300];
        snprintf(path, sizeof path, "%s/%.200s.tfrecord-%05zu-of-%05zu", dir, split, i, w->shards);
        TRY(tfrecord_create(path, &w->shard[i], err));
    }
    return SPT_OK;
}

static spt_status run_split(struct writing *w, spt_err *err)
{
    task_source *s;
    record raw = {0};
    bool more = true;
    TRY(task_source_open(w->task, w->o, &s, err));
    spt_status st = SPT_OK;
    for (int64_t i = 0; !st && more; i++) {
        st = task_source_next(s, &raw, &more, err);
        if (!st && w->o->stop && w->o->stop())
            st = err_set(err, SPT_E_INTERRUPTED, "interrupted: %s is incomplete and will be made "
                                                 "again by the same command",
                         w->task->name);
        if (st || !more)
            break;
        st = task_format(w->task, &raw, i, cache_example, w, err);
        if (st)
            st = task_source_wrap(s, st, err);
    }
    task_source_close(s);
    record_release(&raw);
    return st;
}

static spt_status write_split(const struct task *t, const struct pipeline_options *o,
                              const char *dir, size_t shards, uint64_t *examples, spt_err *err)
{
    struct writing w = {.task = t, .o = o, .shards = shards};
    buf_init(&w.message, 1 << 30);
    spt_status st = open_shards(&w, dir, o->split, err);
    if (!st)
        st = run_split(&w, err);
    for (size_t i = 0; w.shard && i < shards; i++) {
        if (st)
            tfrecord_abort(w.shard[i]);
        else
            st = tfrecord_commit(w.shard[i], err);
    }
    if (!st)
        st = write_info(&w, dir, o->split, err);
    *examples += w.examples;
    mem_free(w.shard);
    buf_release(&w.message);
    record_release(&w.out);
    vocab_ids_release(&w.ids);
    return st;
}

spt_status cache_write(const struct task *t, const struct pipeline_options *o,
                       const char *const *split, size_t splits, const char *root, size_t shards,
                       uint64_t *examples, spt_err *err)
{
    char dir[MAX_PATH], done[MAX_PATH + 16];
    bool found;
    if (!t->cached || t->noise != NOISE_NONE || t->rank != RANK_NONE)
        return err_set(err, SPT_E_CONFIG, "task %s cannot be cached", t->name);
    if (!shards || shards > MAX_SHARDS)
        return err_set(err, SPT_E_CONFIG, "a cache of %zu shards", shards);
    TRY(cache_find(root, t->name, dir, sizeof dir, &found, err));
    if (found)
        return err_set(err, SPT_E_CONFIG, "%s is complete already", dir);
    TRY(fs_make_dirs(dir, err));
    *examples = 0;
    for (size_t i = 0; i < splits; i++) {
        struct pipeline_options one = *o;
        one.split = split[i];
        one.use_cached = false;
        TRY(write_split(t, &one, dir, shards, examples, err));
    }
    snprintf(done, sizeof done, "%s/COMPLETED", dir);
    return fs_write_all(done, "", 0, err);
}
