/* The training loop. Everything it calls is in train_setup.c (opening, plan, restoring),
 * train_save.c (checkpoints) and train_report.c (logs, progress).
 *
 * `spt train` is the loop over one run, `spt sweep` over several: every turn makes one step of every
 * run that has not left, and what a run does depends on its own step, data and state only. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "run/plain_code.h"
#include "run/train/train_internal.h"

enum { STOP_ASKED = 1, STOP_TIME = 2 }; /* why to stop, as any rank sees it */

static bool out_of_time(const struct training *a)
{
    return a->s->minutes > 0 &&
           (double)(os_monotonic_ns() - a->started_ns) >= a->s->minutes * 60e9;
}

static unsigned own_reasons(void *ctx)
{
    return (stop_requested() ? STOP_ASKED : 0u) | (out_of_time(ctx) ? STOP_TIME : 0u);
}

static void add_stats(struct exchanged *x, struct comm_stats s)
{
    x->sent += s.sent;
    x->received += s.received;
    x->wait_ns += s.wait_ns;
}

static void book_exchanges(struct training *a)
{
    const struct comm_stats data = comm_take_stats(a->data), part = comm_take_stats(a->ranks);
    struct exchanged *x = &a->exchanged;
    x->steps++;
    x->gradients += data.exchanges;
    x->sums += part.exchanges;
    add_stats(x, data);
    add_stats(x, part);
}

/* The next batch of every run that takes part. */
static spt_status next_batches(struct training *a, size_t *parts, spt_err *err)
{
    *parts = 0;
    for (size_t i = 0; i < a->runs; i++) {
        struct trainer *t = &a->run[i];
        size_t n;
        if (t->left)
            continue;
        TRY(train_order_next(t->order, &t->which, &n, err));
        TRY(batch_make(&t->batch, a->train, t->which, n, a->task.max_input, a->task.max_target,
                       err));
        a->part[(*parts)++] = (struct gradient_part){
            .prompt = t->prompt,
            .batch = &t->batch.view,
            .loss_opts = &t->loss_opts,
            .rate = (float)t->s->dropout,
            .key = rng_fold_in(t->trainer_key, (uint32_t)t->state.step),
            .sum = t->sum,
        };
    }
    return SPT_OK;
}

spt_status train_gradient(struct training *a, spt_err *err)
{
    size_t n;
    const int64_t started = os_monotonic_ns();
    TRY(next_batches(a, &n, err));
    const int64_t made = os_monotonic_ns();
    (void)comm_take_stats(a->data);
    (void)comm_take_stats(a->ranks);
    TRY(gradient_of_parts(&a->gradient, a->part, n, err));
    /* With ranks, reasons to stop went with the exchange. */
    a->reasons = a->data ? a->gradient.told : own_reasons(a);
    TRY(comm_any(a->ranks, &a->reasons, err));
    book_exchanges(a);
    a->spent.data += made - started;
    a->spent.gradient += os_monotonic_ns() - made;
    return SPT_OK;
}

/* What is not finite ends the run before it reaches a file; of several runs only this one. */
static spt_status fail(struct trainer *t, spt_err *err)
{
    const char *name = t->name, *sep = name[0] ? ": " : "";
    t->st = err_wrap(&t->err, t->st, "step %lld", (long long)t->state.step + 1);
    if (t->all->runs > 1)
        log_warning("%s%s%s", name, sep, t->err.msg);
    if (t->state.best_step >= 0)
        log_info("%s%sthe best prompt so far (step %lld, %s %.2f) is intact; use it with --prompt %s",
                 name, sep, (long long)t->state.best_step, t->all->metric, t->state.best_score,
                 t->s->out);
    train_leave(t);
    if (t->all->runs > 1)
        return SPT_OK;
    if (err)
        *err = t->err;
    return t->st;
}

/* Books what was counted since the last call with `to`. */
static void take_profile(struct training *a, struct ops_profile_line *to)
{
    const struct ops_profile_line *l = ops_profile_lines(a->engine.ops);
    for (int i = 0; l && i < OPS_PROFILE_KINDS; i++) {
        to[i].name = l[i].name;
        to[i].calls += l[i].calls;
        to[i].seconds += l[i].seconds;
        to[i].operations += l[i].operations;
        to[i].bytes += l[i].bytes;
    }
    ops_profile_reset(a->engine.ops);
}

/* From the gradient to the new prompt; SPT_E_NONFINITE in t->st. */
static void update(struct trainer *t, const struct gradient_part *part, float lr)
{
    const struct train_plan *p = &t->plan;
    t->st = part->st;
    t->err = part->err;
    if (!t->st)
        t->st = gradient_check(t->sum, p->P, p->E, "gradient of the prompt", &t->err);
    if (t->st)
        return;
    optim_step(t->optim, &t->prompt->rows, (const float *const *)&t->sum, lr);
    t->st = gradient_check_prompt(t->prompt->rows, p->P, p->E, &t->err);
}

static spt_status finish_step(struct trainer *t, const struct gradient_part *part, spt_err *err)
{
    struct training *a = t->all;
    const float lr = lr_at(&t->lr, t->state.step);
    const size_t n = (size_t)t->batch.view.B;
    const int64_t from = os_monotonic_ns();
    update(t, part, lr);
    if (t->st)
        return fail(t, err);
    const int64_t updated = os_monotonic_ns();
    a->spent.optimiser += updated - from;
    t->state.step++;
    t->state.position = train_order_tell(t->order);
    a->examples_done += (int64_t)n;
    TRY(train_log_step(t, &part->loss, lr, t->which, n, err));
    a->spent.logs += os_monotonic_ns() - updated;
    return SPT_OK;
}

static spt_status train_step(struct training *a, spt_err *err)
{
    size_t part = 0;
    TRY(train_gradient(a, err));
    for (size_t i = 0; i < a->runs; i++)
        if (!a->run[i].left)
            TRY(finish_step(&a->run[i], &a->part[part++], err));
    a->spent.steps++;
    take_profile(a, a->stepped);
    train_tell_step(a);
    return SPT_OK;
}

/* The same on all ranks, so that all leave the loop at the same step. */
static spt_status reasons_to_stop(struct training *a, unsigned *why, spt_err *err)
{
    *why = own_reasons(a);
    return comm_any(a->s->comm, why, err);
}

/* Only a strictly better score moves "best"; NaN never does (field case 23). */
static bool is_better(const struct trainer *t, double score)
{
    const struct train_state *s = &t->state;
    if (isnan(score))
        return false;
    return s->best_step < 0 || figure_is_better(t->all->metric, score, s->best_score);
}

static spt_status train_evaluate(struct trainer *t, spt_err *err)
{
    struct training *a = t->all;
    struct answers answers = {0};
    struct figures figures;
    const struct t5_prompts prompts = prompts_of(t->prompt);
    const int64_t from = os_monotonic_ns();
    spt_status st = evaluate(&a->evaluator, &prompts, a->eval, &answers, err);
    if (!st)
        figures_of(&answers, a->eval, &a->task, &figures, NULL);
    if (!st)
        st = code_figures(t->s, &answers, a->eval, &a->task, &figures, err);
    answers_release(&answers);
    TRY(st);
    a->spent.evaluation += os_monotonic_ns() - from;
    a->spent.evaluations++;
    take_profile(a, a->evaluated);
    t->last_score = figure_value(&figures, a->metric);
    const bool improved = is_better(t, t->last_score);
    if (improved) {
        t->state.best_score = t->last_score;
        t->state.best_step = t->state.step;
        t->state.without_improvement = 0;
    } else {
        t->state.without_improvement++;
    }
    t->state.stopped_early = t->s->patience > 0 && t->state.without_improvement >= t->s->patience;
    t->evaluated_step = t->state.step;
    return train_log_eval(t, &figures, improved, err);
}

static bool due(int64_t step, int64_t every, int64_t last)
{
    return step % every == 0 || step == last;
}

static bool is_over(const struct trainer *t)
{
    return !t->evaluation_owed && (t->state.step >= t->plan.steps || t->state.stopped_early);
}

/* The steps at which runs stand. */
static spt_status interrupted(const struct training *a, spt_err *err)
{
    int64_t first = INT64_MAX, last = 0;
    for (size_t i = 0; i < a->runs; i++) {
        const int64_t step = a->run[i].state.step;
        if (a->run[i].left)
            continue;
        first = step < first ? step : first;
        last = step > last ? step : last;
    }
    if (first < last)
        return err_set(err, SPT_E_INTERRUPTED,
                       "interrupted after saving steps %lld to %lld; --resume continues",
                       (long long)first, (long long)last);
    return err_set(err, SPT_E_INTERRUPTED, "interrupted after saving step %lld; --resume continues",
                   (long long)last);
}

static spt_status save_all(struct training *a, spt_err *err)
{
    const int64_t from = os_monotonic_ns();
    for (size_t i = 0; i < a->runs; i++)
        if (!a->run[i].left)
            TRY(train_save(&a->run[i], err));
    a->spent.saving += os_monotonic_ns() - from;
    return SPT_OK;
}

/* A signal must not cost the steps since the last save: the states say which evaluations are still to
 * come, and the continued runs begin with them. */
static spt_status owe(struct training *a, size_t first, spt_err *err)
{
    for (size_t i = 0; i < a->runs; i++) {
        struct trainer *t = &a->run[i];
        t->evaluation_owed = t->evaluation_owed && i >= first;
    }
    TRY(save_all(a, err));
    return interrupted(a, err);
}

/* The evaluations that are owed, in the order of the runs. */
static spt_status evaluate_owed(struct training *a, spt_err *err)
{
    for (size_t i = 0; i < a->runs; i++) {
        struct trainer *t = &a->run[i];
        if (t->left || !t->evaluation_owed)
            continue;
        const spt_status st = train_evaluate(t, err);
        if (st == SPT_E_INTERRUPTED)
            return owe(a, i, err);
        TRY(st);
        t->evaluation_owed = false;
    }
    return SPT_OK;
}

/* What the last process left to be evaluated. */
static spt_status pay_evaluations(struct training *a, spt_err *err)
{
    for (size_t i = 0; i < a->runs; i++)
        if (a->run[i].evaluation_owed)
            a->run[i].saved_step = -1; /* the state lacks the score */
    TRY(evaluate_owed(a, err));
    return save_all(a, err);
}

static int64_t last_step(const struct trainer *t, unsigned why)
{
    return why & STOP_TIME ? t->state.step : t->plan.steps;
}

static spt_status evaluate_due(struct training *a, unsigned why, spt_err *err)
{
    for (size_t i = 0; a->eval && i < a->runs; i++) {
        struct trainer *t = &a->run[i];
        t->evaluation_owed = !t->left && due(t->state.step, t->plan.eval_every, last_step(t, why));
    }
    return evaluate_owed(a, err);
}

static spt_status save_due(struct training *a, unsigned *why, spt_err *err)
{
    const int64_t from = os_monotonic_ns();
    bool any = false;
    for (size_t i = 0; i < a->runs; i++) {
        struct trainer *t = &a->run[i];
        if (t->left || !(due(t->state.step, t->plan.save_every, last_step(t, *why)) ||
                         t->evaluated_step == t->state.step || t->state.stopped_early ||
                         *why & STOP_ASKED))
            continue;
        TRY(train_save(t, err));
        any = true;
    }
    a->spent.saving += os_monotonic_ns() - from;
    return any ? reasons_to_stop(a, why, err) : SPT_OK;
}

/* Runs that are over leave the batch. A run that died behind its last save still lacks what
 * train_finish writes. */
static spt_status finish_over(struct training *a, bool all, size_t *more, spt_err *err)
{
    *more = 0;
    for (size_t i = 0; i < a->runs; i++) {
        struct trainer *t = &a->run[i];
        if (t->left)
            continue;
        if (!all && !is_over(t)) {
            ++*more;
            continue;
        }
        TRY(train_finish(t, err));
        train_leave(t);
    }
    return SPT_OK;
}

spt_status train_loop(struct training *a, spt_err *err)
{
    size_t more;
    stop_lets_fetch();
    a->spent = (struct train_times){0}; /* counting before the run was not the run */
    ops_profile_reset(a->engine.ops);
    a->exchanged = (struct exchanged){0};
    a->gradient.ask = own_reasons;
    a->gradient.ask_ctx = a;
    TRY(pay_evaluations(a, err));
    TRY(finish_over(a, false, &more, err));
    while (more) {
        TRY(train_step(a, err));
        unsigned why = a->reasons;
        const bool stop = why & STOP_TIME;
        TRY(evaluate_due(a, why, err));
        TRY(save_due(a, &why, err));
        TRY(finish_over(a, stop, &more, err));
        if (more && why & STOP_ASKED) { /* at the last step there is nothing left to interrupt */
            TRY(save_all(a, err));
            return interrupted(a, err);
        }
    }
    return SPT_OK;
}

spt_status run_train(struct settings *s, struct run_output *out, spt_err *err)
{
    struct training a = {0};
    const struct train_member one = {s, ""};
    spt_status st = s->dry_run ? train_open_plan(&a, s, &one, 1, out, err)
                               : train_open(&a, s, &one, 1, out, err);
    if (!st && s->dry_run)
        st = train_try_step(&a, err);
    if (!st)
        train_tell_plan(&a);
    if (!st && !s->dry_run)
        st = train_loop(&a, err);
    if (!st && s->profile)
        st = train_tell_profile(&a, err);
    train_close(&a);
    return st;
}
