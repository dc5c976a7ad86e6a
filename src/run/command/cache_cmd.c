/* `spt cache`: offline caches of tasks (task/cache.h).
 *
 * A cache counts only once its COMPLETED file is there, which is written last. What an interrupted
 * command has left is removed and made again: the command cannot know that data, vocabulary and
 * task are still those of the first half. A lock on the directory keeps two commands apart. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "os/os.h"
#include "run/data_prepare.h"
#include "run/dir_lock.h"
#include "run/reference/gin_job.h"
#include "run/places.h"
#include "task/cache.h"
#include "task/tfds.h"
#include "task/user_task.h"

enum { MAX_SPLITS = 256, MAX_PATH = 4096, MAX_SPLIT_NAME = 200 };

struct split_list {
    char name[MAX_SPLITS][MAX_SPLIT_NAME];
    const char *item[MAX_SPLITS];
    size_t count;
};

static spt_status add_split(struct split_list *s, const char *name, size_t len, spt_err *err)
{
    if (s->count == MAX_SPLITS || len >= MAX_SPLIT_NAME || !len)
        return err_set(err, SPT_E_CONFIG, "the split '%.*s' cannot be cached",
                       len > 60 ? 60 : (int)len, name);
    for (size_t i = 0; i < len; i++)
        if (strchr("/[]", name[i]))
            return err_set(err, SPT_E_USAGE,
                           "--splits: '%.*s': whole splits are cached, by their names", (int)len,
                           name);
    memcpy(s->name[s->count], name, len);
    s->name[s->count][len] = '\0';
    s->item[s->count] = s->name[s->count];
    s->count++;
    return SPT_OK;
}

/* Those of --splits, of the task, of the prepared data set, or the usual three of raw archives. */
static spt_status find_splits(const struct settings *s, const struct task *t,
                              const struct pipeline_options *o, struct split_list *out,
                              spt_err *err)
{
    static const char *const usual[] = {"train", "validation", "test"};
    out->count = 0;
    if (s->splits && *s->splits) {
        for (const char *p = s->splits; *p;) {
            const size_t len = strcspn(p, ",");
            TRY(add_split(out, p, len, err));
            if (!task_has_split(t, out->item[out->count - 1]))
                return err_set(err, SPT_E_CONFIG, "task %s has no split '%s'", t->name,
                               out->item[out->count - 1]);
            p += len + (p[len] == ',');
        }
        return SPT_OK;
    }
    for (size_t i = 0; i < t->splits; i++)
        TRY(add_split(out, t->split[i].name, strlen(t->split[i].name), err));
    if (out->count)
        return SPT_OK;
    tfds *d = NULL;
    spt_err why = {0};
    spt_status st = SPT_OK;
    if (o->tfds_dir && !tfds_open(o->tfds_dir, t->dataset, &d, &why))
        for (size_t i = 0; i < tfds_splits(d) && !st; i++)
            st = add_split(out, tfds_split_name(d, i), strlen(tfds_split_name(d, i)), err);
    tfds_close(d);
    const bool raw = !out->count;
    for (size_t i = 0; i < 3 && raw && !st; i++) {
        struct pipeline_options one = *o;
        task_source *source;
        one.split = usual[i];
        if (task_source_open(t, &one, &source, &why))
            continue;
        task_source_close(source);
        st = add_split(out, usual[i], strlen(usual[i]), err);
    }
    if (!st && !out->count)
        st = err_set(err, why.code ? why.code : SPT_E_NOTFOUND, "%s",
                     why.msg[0] ? why.msg : "the task has no split");
    return st;
}

/* --- what an interrupted command left
 * -------------------------------------------------------------- */

static bool is_ours(const char *name)
{
    const char *tail = strrchr(name, '.');
    return strstr(name, ".tfrecord-") ||
           (tail && strcmp(tail, ".json") == 0 &&
            (strncmp(name, "info.", 5) == 0 || strncmp(name, "stats.", 6) == 0));
}

static spt_status clear_half(const char *dir, spt_err *err)
{
    fs_names names = {0};
    buf path;
    size_t removed = 0;
    TRY(fs_remove_temporaries(dir, err));
    TRY(fs_list(dir, &names, err));
    buf_init(&path, 65536);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < names.count && !st; i++) {
        if (!is_ours(names.name[i]))
            continue;
        buf_clear(&path);
        st = path_join(&path, dir, names.name[i], err);
        if (!st)
            st = fs_remove_tree(buf_str(&path), err);
        removed++;
    }
    if (!st && removed)
        log_info("%s: an interrupted command left %zu files, which are made again", dir, removed);
    buf_release(&path);
    fs_names_free(&names);
    return st;
}

/* --- one task
 * ----------------------------------------------------------------------------------------- */

static spt_status write_locked(const struct settings *s, const struct task *t,
                               const struct pipeline_options *o, const char *dir, spt_err *err)
{
    static struct split_list splits;
    uint64_t examples;
    bool found;
    char again[MAX_PATH];
    TRY(cache_find(s->output, t->name, again, sizeof again, &found, err));
    if (found) /* the one that held the lock has finished it */
        return err_set(err, SPT_E_CONFIG, "%s is complete already", dir);
    TRY(clear_half(dir, err));
    TRY(find_splits(s, t, o, &splits, err));
    TRY(cache_write(t, o, splits.item, splits.count, s->output, (size_t)s->shards, &examples, err));
    log_info("%s: %llu examples of %zu split%s", dir, (unsigned long long)examples, splits.count,
             splits.count == 1 ? "" : "s");
    return SPT_OK;
}

static spt_status cache_task(const struct settings *s, const struct task *t,
                             const struct pipeline_options *o, spt_err *err)
{
    char dir[MAX_PATH];
    bool found;
    fs_lock *lock = NULL;
    TRY(cache_find(s->output, t->name, dir, sizeof dir, &found, err));
    if (found) {
        log_info("%s is complete already; remove it to make it again", dir);
        return SPT_OK;
    }
    if (o->tfds_dir)
        TRY(data_prepare_missing_of(t, o->tfds_dir, err));
    TRY(fs_make_dirs(dir, err));
    TRY(dir_lock(dir, "another command is writing this cache", &lock, err));
    const spt_status st = write_locked(s, t, o, dir, err);
    fs_lock_release(lock);
    return st;
}

/* --- all of them
 * ---------------------------------------------------------------------------------------- */

static spt_status each_task(struct gin_job *j, const struct pipeline_options *o, bool write,
                            spt_err *err)
{
    const struct settings *s = j->s;
    for (size_t i = 0; i < s->arguments; i++) {
        struct task_rate *member;
        size_t n;
        TRY(task_members(extensions_tasks(j->x), s->argument[i], &member, &n, err));
        spt_status st = SPT_OK;
        for (size_t k = 0; k < n && !st; k++) {
            const struct task *t = member[k].task;
            if (write)
                st = cache_task(s, t, o, err);
            else if (!t->cached || t->noise != NOISE_NONE || t->rank != RANK_NONE)
                st = err_set(err, SPT_E_CONFIG,
                             "task %s cannot be cached: the reference has no "
                             "cache for it",
                             t->name);
        }
        mem_free(member);
        TRY(st);
    }
    return SPT_OK;
}

spt_status run_cache_job(struct gin_job *j, spt_err *err)
{
    const struct settings *s = j->s;
    const char *dir = j->flags->tfds_data_dir;
    vocab *v = NULL;
    if (!s->arguments)
        return err_set(err, SPT_E_USAGE, "which task? (spt cache TASK --vocab FILE --out DIR)");
    if (!s->output || !*s->output)
        return err_set(err, SPT_E_USAGE, "--out DIR is missing: the root of the caches");
    if (!dir || !*dir)
        dir = os_getenv("TFDS_DATA_DIR");
    TRY(each_task(j, NULL, false, err));
    char *from = NULL;
    TRY(place_vocab(s, &from, err));
    spt_status st = vocab_open(from, NULL, &v, err);
    mem_free(from);
    TRY(st);
    const struct pipeline_options o = {
        .tfds_dir = dir && *dir ? dir : NULL,
        .raw_dir = dir && *dir ? dir : NULL,
        .vocabulary = v,
        .stop = stop_requested,
    };
    st = each_task(j, &o, true, err);
    vocab_close(v);
    return st;
}

spt_status run_cache(struct settings *s, struct run_output *out, spt_err *err)
{
    const gin_flags none = {0};
    return run_gin(&none, s, NULL, out, err);
}
