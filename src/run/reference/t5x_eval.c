/* t5x.eval: spec/t5x.md 9.2. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/reference/gin_job.h"
#include "run/reference/task_eval.h"
#include "store/t5x_checkpoint.h"

enum { PATH_BYTES = 65536 };

struct evaluation {
    struct gin_job *job;
    struct gin_use cfg;
    fs_names done; /* paths of eval.<name>.ckpt */
    bool described;
};

static spt_status list_path(const struct evaluation *v, buf *out, spt_err *err)
{
    buf_addf(out, "%s/eval.%s.ckpt", v->cfg.output_dir, v->cfg.data.task);
    return buf_status(out, "path", err);
}

/* The evaluated checkpoints, one a line, without a line end behind the last. */
static spt_status read_list(struct evaluation *v, spt_err *err)
{
    buf path;
    char *text = NULL;
    size_t size;
    buf_init(&path, PATH_BYTES);
    spt_status st = list_path(v, &path, err);
    if (!st && fs_exists(buf_str(&path)))
        st = fs_read_all(buf_str(&path), 64 << 20, &text, &size, err);
    for (char *p = text; !st && p && *p;) {
        const size_t n = strcspn(p, "\n");
        st = mem_grow(&v->done.name, &v->done.cap, v->done.count + 1, sizeof(char *), 1 << 20, err);
        if (!st && n) {
            v->done.name[v->done.count] = mem_strndup(p, n);
            st = v->done.name[v->done.count++] ? SPT_OK : err_nomem(err, n);
        }
        p += n + (p[n] == '\n');
    }
    mem_free(text);
    buf_release(&path);
    return st;
}

static int64_t step_in(const char *path)
{
    const char *p = strrchr(path, '_');
    return p ? strtoll(p + 1, NULL, 10) : -1;
}

static spt_status add_to_list(struct evaluation *v, const char *checkpoint, spt_err *err)
{
    buf path, text;
    size_t at = 0;
    for (size_t i = 0; i < v->done.count; i++)
        if (!strcmp(v->done.name[i], checkpoint))
            return SPT_OK;
    TRY(mem_grow(&v->done.name, &v->done.cap, v->done.count + 1, sizeof(char *), 1 << 20, err));
    char *copy = mem_strdup(checkpoint);
    if (!copy)
        return err_nomem(err, strlen(checkpoint));
    while (at < v->done.count && step_in(v->done.name[at]) <= step_in(checkpoint))
        at++;
    memmove(v->done.name + at + 1, v->done.name + at, (v->done.count - at) * sizeof(char *));
    v->done.name[at] = copy;
    v->done.count++;
    buf_init(&path, PATH_BYTES);
    buf_init(&text, 64 << 20);
    for (size_t i = 0; i < v->done.count; i++)
        buf_addf(&text, "%s%s", i ? "\n" : "", v->done.name[i]);
    spt_status st = list_path(v, &path, err);
    if (!st)
        st = buf_status(&text, "list of checkpoints", err);
    if (!st)
        st = comm_leads(v->job->s->comm)
                 ? fs_write_all(buf_str(&path), buf_str(&text), text.len, err)
                 : SPT_OK;
    buf_release(&path);
    buf_release(&text);
    return st;
}

static spt_status evaluate_loaded(struct evaluation *v, struct t5x_base *base, struct task_env *env,
                                  struct task_eval *ev, spt_err *err)
{
    const struct gin_use *c = &v->cfg;
    task_env_open(env, extensions_tasks(v->job->x), v->job->flags->tfds_data_dir,
                  base->engine.vocab);
    TRY(task_eval_open(ev, env, base, &c->data, &c->evaluator, c->output_dir, err));
    if (!ev->sets.count)
        return err_set(err, SPT_E_CONFIG, "no task of %s has metrics and the split %s",
                       c->data.task, c->data.split);
    TRY(t5x_base_load(base, v->job->s, &c->restore, err));
    TRY(task_eval_plan(ev, &c->data, err));
    ev->ranks = v->job->s->comm;
    TRY(gin_job_same_work(v->job, base, "", err));
    if (!v->described) {
        gin_warn_unused(v->job->config);
        if (comm_leads(ev->ranks))
            TRY(t5x_base_info(base, c->output_dir, err));
        v->described = true;
    }
    return task_eval_run(ev, base->step, err);
}

static spt_status evaluate_one(struct evaluation *v, const char *checkpoint, spt_err *err)
{
    const struct gin_use *c = &v->cfg;
    struct t5x_base base = {0};
    struct task_env env = {0};
    struct task_eval ev = {0};
    char *path = mem_strdup(checkpoint);
    if (!path)
        return err_nomem(err, strlen(checkpoint));
    spt_status st = t5x_base_open(&base, &c->model, &c->restore, path, false, false,
                                  (uint64_t)c->fallback_rng, err);
    if (!st)
        st = evaluate_loaded(v, &base, &env, &ev, err);
    if (!st)
        st = add_to_list(v, checkpoint, err);
    task_eval_close(&ev);
    task_env_close(&env);
    t5x_base_close(&base);
    return st;
}

static bool is_done(const struct evaluation *v, const char *checkpoint)
{
    for (size_t i = 0; i < v->done.count; i++)
        if (!strcmp(v->done.name[i], checkpoint))
            return true;
    return false;
}

/* mode 'all': every checkpoint of the directory, ascending, that was not evaluated before. */
static spt_status evaluate_all(struct evaluation *v, spt_err *err)
{
    const struct gin_restore *r = &v->cfg.restore;
    for (size_t k = 0; k < r->path.count; k++) {
        int64_t *steps;
        size_t n;
        spt_status st = t5x_list(r->path.item[k], &steps, &n, err);
        for (size_t i = 0; !st && i < n; i++) {
            buf path;
            buf_init(&path, PATH_BYTES);
            buf_addf(&path, "%s/checkpoint_%lld", r->path.item[k], (long long)steps[i]);
            st = buf_status(&path, "path", err);
            if (!st && is_done(v, buf_str(&path)))
                log_info("%s was evaluated before", buf_str(&path));
            else if (!st)
                st = evaluate_one(v, buf_str(&path), err);
            buf_release(&path);
        }
        if (!st)
            mem_free(steps);
        TRY(st);
    }
    return SPT_OK;
}

static spt_status evaluate(struct evaluation *v, spt_err *err)
{
    const struct gin_use *c = &v->cfg;
    char *path;
    bool resumed;
    comm *ranks = v->job->s->comm;
    if (comm_leads(ranks))
        TRY(gin_job_write_config(v->job, c->output_dir, NULL, NULL, err));
    TRY(comm_agree(ranks, read_list(v, err), err)); /* before any is added */
    if (c->restore.mode == RESTORE_ALL)
        return evaluate_all(v, err);
    TRY(t5x_choose(NULL, &c->restore, &path, &resumed, err));
    const spt_status st = evaluate_one(v, path, err);
    mem_free(path);
    return st;
}

spt_status run_t5x_eval(struct gin_job *j, spt_err *err)
{
    struct evaluation v = {.job = j};
    spt_status st = gin_eval_read(j->config, &v.cfg, err);
    if (!st)
        st = gin_job_ranks(j, v.cfg.partitions, err);
    if (!st)
        st = evaluate(&v, err);
    fs_names_free(&v.done);
    gin_use_release(&v.cfg);
    return st;
}
