/* `spt sweep`: many prompts trained at once over one frozen model.
 *
 * The loop is that of `spt train` (train.c). This file makes the runs out of the grid, locks the
 * directory of the sweep, and says at the end how the runs compare: a table, OUT/sweep.jsonl. Nothing
 * else is kept for a sweep as a whole: each run resumes from its own state, so a kill between the saves of
 * two runs leaves them at different steps, and they go on from there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "run/train/sweep_runs.h"
#include "run/train/train_internal.h"

enum { TEXT_MAX = 1 << 22, MOST_NAMED = 8 };

/* --- order -------------------------------------------------------------------------------------- */

struct place {
    const struct trainer *t;
    size_t number; /* in the grid */
};

static bool has_score(const struct trainer *t)
{
    return t->state.best_step >= 0;
}

/* Better scores first, runs without one last; equal ones in the order of the grid. */
static int compare_places(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    const char *metric = a->t->all->metric;
    if (has_score(a->t) != has_score(b->t))
        return has_score(a->t) ? -1 : 1;
    if (has_score(a->t) &&
        figure_is_better(metric, a->t->state.best_score, b->t->state.best_score))
        return -1;
    if (has_score(a->t) &&
        figure_is_better(metric, b->t->state.best_score, a->t->state.best_score))
        return 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static const char *status_of(const struct trainer *t)
{
    return t->st ? "failed" : t->state.stopped_early ? "stopped early" : "finished";
}

/* --- the summary -------------------------------------------------------------------------------- */

static void run_json(const struct trainer *t, const char *event, buf *out)
{
    json_writer w;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"length", t->plan.P},
                   {"batch", t->plan.batch},
                   {"steps", t->plan.steps},
                   {"step", t->state.step}};
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    if (event) {
        json_key(&w, "event");
        json_string(&w, event);
    }
    json_key(&w, "name");
    json_string(&w, t->name);
    json_key(&w, "status");
    json_string(&w, status_of(t));
    json_key(&w, "metric");
    json_string(&w, t->all->metric);
    json_key(&w, "score");
    json_f64(&w, has_score(t) ? t->state.best_score : NAN);
    json_key(&w, "best_step");
    json_i64(&w, t->state.best_step);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_key(&w, numbers[i].name);
        json_i64(&w, numbers[i].value);
    }
    json_key(&w, "seed");
    json_i64(&w, t->seed);
    json_key(&w, "lr");
    json_f64(&w, t->s->lr);
    json_key(&w, "initialiser");
    json_string(&w, t->plan.init_text);
    if (t->st) {
        json_key(&w, "error");
        json_string(&w, t->err.msg);
    }
    json_end_object(&w);
    buf_addc(out, '\n');
}

static void run_text(const struct trainer *t, buf *out)
{
    char score[32] = "-";
    if (has_score(t))
        snprintf(score, sizeof score, "%.2f", t->state.best_score);
    buf_addf(out, "%10s %7lld %7lld %6lld %8g %10u  %-13s  %s\n", score,
             (long long)t->state.best_step, (long long)t->state.step, (long long)t->plan.P,
             t->s->lr, t->seed, status_of(t), t->name);
}

/* What was told of every run, in order, once as lines of JSON and once for people. */
static void summary(const struct training *a, const struct place *place, const char *event,
                    bool json, buf *out)
{
    if (!json)
        buf_addf(out, "%10s %7s %7s %6s %8s %10s  %-13s  %s\n", a->metric, "at step", "steps",
                 "rows", "lr", "seed", "", "run");
    for (size_t i = 0; i < a->runs; i++) {
        if (json)
            run_json(place[i].t, event, out);
        else
            run_text(place[i].t, out);
    }
}

static spt_status write_summary(const struct training *a, const struct place *place, spt_err *err)
{
    buf text, path;
    buf_init(&text, TEXT_MAX);
    buf_init(&path, 1 << 16);
    summary(a, place, NULL, true, &text);
    spt_status st = buf_status(&text, "sweep.jsonl", err);
    if (!st)
        st = path_join(&path, a->s->out, "sweep.jsonl", err);
    if (!st)
        st = fs_write_all(buf_str(&path), buf_str(&text), text.len, err);
    buf_release(&text);
    buf_release(&path);
    return st;
}

/* The best run, and how to use the best few together. */
static void tell_best(const struct training *a, const struct place *place)
{
    const struct trainer *best = place[0].t;
    if (!has_score(best))
        return;
    log_info("best: %s (%s %.2f at step %lld); use it with --prompt %s", best->name, a->metric,
             best->state.best_score, (long long)best->state.best_step, best->s->out);
    buf text;
    size_t n = 0;
    buf_init(&text, 1 << 14);
    for (size_t i = 0; i < a->runs && n < MOST_NAMED && has_score(place[i].t); i++, n++)
        buf_addf(&text, "%s%s", n ? "," : "", place[i].t->s->out);
    if (n > 1 && !text.st)
        log_info("%s together: spt eval --model %s --ensemble %s --data FILE",
                 n < a->runs ? "the best of them" : "all of them", a->s->model, buf_str(&text));
    buf_release(&text);
}

static spt_status tell_summary(const struct training *a, spt_err *err)
{
    struct place *place = mem_alloc(a->runs, sizeof *place);
    if (!place)
        return err_nomem(err, a->runs * sizeof *place);
    for (size_t i = 0; i < a->runs; i++)
        place[i] = (struct place){&a->run[i], i};
    qsort(place, a->runs, sizeof *place, compare_places);
    buf text;
    buf_init(&text, TEXT_MAX);
    summary(a, place, "run", a->s->json, &text);
    spt_status st = write_summary(a, place, err);
    if (!st)
        st = output_text(a->out, &text, err);
    if (!st)
        tell_best(a, place);
    buf_release(&text);
    mem_free(place);
    return st;
}

/* --- the command -------------------------------------------------------------------------------- */

/* A run of its own would be taken for a member of the sweep by nobody, and the other way round. */
static spt_status open_directory(const struct settings *s, ckpt **lock, spt_err *err)
{
    const struct ckpt_opts opts = {0};
    int64_t *steps = NULL;
    size_t n = 0;
    if (!s->out || !s->out[0])
        return err_set(err, SPT_E_USAGE, "--out DIR is missing");
    if (fs_is_dir(s->out))
        TRY(ckpt_list(s->out, &steps, &n, err));
    mem_free(steps);
    if (n)
        return err_set(err, SPT_E_CONFIG, "%s is a run of spt train: take another --out", s->out);
    TRY(ckpt_open(s->out, &opts, lock, err));
    return fs_remove_temporaries(s->out, err);
}

/* All runs failed: the sweep has, too. */
static spt_status status_of_all(const struct training *a, spt_err *err)
{
    for (size_t i = 0; i < a->runs; i++)
        if (!a->run[i].st)
            return SPT_OK;
    if (err)
        *err = a->run[0].err;
    return err_wrap(err, a->run[0].st, "%s", a->run[0].name);
}

static spt_status train_all(struct training *a, spt_err *err)
{
    const struct settings *s = a->s;
    if (s->dry_run)
        TRY(train_try_step(a, err));
    train_tell_plan(a);
    if (s->dry_run)
        return SPT_OK;
    TRY(train_loop(a, err));
    TRY(tell_summary(a, err));
    return status_of_all(a, err);
}

static spt_status run_members(struct settings *s, const struct sweep_runs *r,
                              struct run_output *out, spt_err *err)
{
    struct training a = {0};
    struct train_member *m = mem_alloc(r->count, sizeof *m);
    if (!m)
        return err_nomem(err, r->count * sizeof *m);
    for (size_t i = 0; i < r->count; i++)
        m[i] = (struct train_member){&r->run[i].settings, r->run[i].name};
    spt_status st = s->dry_run ? train_open_plan(&a, s, m, r->count, out, err)
                               : train_open(&a, s, m, r->count, out, err);
    if (!st)
        st = train_all(&a, err);
    if (!st && s->profile)
        st = train_tell_profile(&a, err);
    train_close(&a);
    mem_free(m);
    return st;
}

spt_status run_sweep(struct settings *s, struct run_output *out, spt_err *err)
{
    struct sweep_runs r = {0};
    ckpt *lock = NULL;
    if (!sweep_asked(s))
        return err_set(err, SPT_E_USAGE,
                       "what shall differ? Give --seeds, --lrs, --inits, --lengths or --runs");
    TRY(sweep_runs_make(s, &r, err));
    spt_status st = s->dry_run ? SPT_OK : open_directory(s, &lock, err);
    if (!st)
        st = run_members(s, &r, out, err);
    ckpt_close(lock);
    sweep_runs_release(&r);
    return st;
}
