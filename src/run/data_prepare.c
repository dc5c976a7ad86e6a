/* Preparing data sets: for `spt data prepare`, and on the way to training. */
#include "run/data_prepare.h"

#include "base/log.h"
#include "os/os.h"
#include "task/pipeline.h"
#include "task/tfds.h"

enum { MAX_PATH = 3072 };

spt_status data_dir_path(const char *given, buf *out, spt_err *err)
{
    const char *dir = given && *given ? given : os_getenv("TFDS_DATA_DIR"), *home;
    if (dir && *dir) {
        buf_adds(out, dir);
    } else {
        home = os_getenv("HOME");
        if (!home || !*home)
            return err_set(err, SPT_E_USAGE, "--out DIR is missing (nor is TFDS_DATA_DIR set)");
        buf_addf(out, "%s/tensorflow_datasets", home);
    }
    while (out->len > 1 && out->data[out->len - 1] == '/')
        out->data[--out->len] = 0;
    return buf_status(out, "path", err);
}

static void tell_result(const char *dir, const struct prepare_set *set, const char *version,
                        const struct prepare_result *r)
{
    buf text;
    if (r->existed) {
        log_info("%s/%s/%s is there already; remove it to make it again", dir, set->name, version);
        return;
    }
    buf_init(&text, 1000);
    for (size_t i = 0; i < r->splits; i++)
        buf_addf(&text, "%s%llu %s", i ? ", " : "", (unsigned long long)r->examples[i],
                 set->split[i].name);
    log_info("%s/%s/%s: %s", dir, set->name, version, buf_str(&text));
    buf_release(&text);
}

spt_status data_prepare_set(struct data_prepare *w, const struct prepare_set *set,
                            const char *version, spt_err *err)
{
    struct prepare_result r;
    const struct prepare_options o = {
        .out = w->dir,
        .version = version,
        .from = w->from,
        .sha256 = w->sha256,
        .no_verify = w->no_verify,
        .fetch = data_fetch_source,
        .ctx = &w->fetch,
        .stop = stop_requested,
    };
    TRY(prepare_run(set, &o, &r, err));
    tell_result(w->dir, set, version, &r);
    return SPT_OK;
}

/* split: NULL for any. */
static spt_status prepare_task(const struct task *t, const char *split, const char *dir,
                               spt_err *err)
{
    struct data_prepare w = {.dir = dir, .fetch = {.offline = data_offline()}};
    buf fetched;
    const struct prepare_set *set;
    const char *version;
    w.no_verify = w.fetch.no_verify = data_unverified();
    if (!t->dataset || t->user || (split && !task_has_split(t, split)) ||
        prepare_find(t->dataset, &set, &version, NULL))
        return SPT_OK;
    const char *any = t->splits ? t->split[0].name : set->split[0].name;
    if (task_data_exists(t, split ? split : any, dir))
        return SPT_OK;
    log_info("task %s: %s is not in %s; preparing it", t->name, t->dataset, dir);
    buf_init(&fetched, MAX_PATH);
    spt_status st = data_fetch_dir(dir, &fetched, err);
    w.fetch.dir = buf_str(&fetched);
    if (!st)
        st = data_prepare_set(&w, set, version, err);
    buf_release(&fetched);
    return st ? err_wrap(err, st, "task %s needs data set %s", t->name, t->dataset) : SPT_OK;
}

spt_status data_prepare_missing_of(const struct task *t, const char *dir, spt_err *err)
{
    return prepare_task(t, NULL, dir, err);
}

spt_status data_prepare_missing(const task_registry *r, const char *name, const char *split,
                                const char *dir, spt_err *err)
{
    struct task_rate *member = NULL;
    size_t n = 0;
    if (!task_find(r, name) && !mixture_find(r, name))
        return SPT_OK; /* whoever opens it says so */
    TRY(task_members(r, name, &member, &n, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = prepare_task(member[i].task, split, dir, err);
    mem_free(member);
    return st;
}
