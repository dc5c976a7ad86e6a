/* The training loop. Everything it calls is in train_setup.c (opening, plan, restoring),
 * train_save.c (checkpoints) and train_report.c (logs, progress). */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "run/train_internal.h"

spt_status train_gradient(struct trainer *t, const uint32_t *which, size_t n, struct t5_loss *loss,
                          spt_err *err)
{
    const int64_t started = os_monotonic_ns();
    TRY(batch_make(&t->batch, t->train, which, n, t->task.max_input, t->task.max_target, err));
    const int64_t made = os_monotonic_ns();
    const struct rng_key key = rng_fold_in(t->trainer_key, (uint32_t)t->state.step);
    TRY(gradient_of(&t->gradient, t->prompt, &t->batch.view, (float)t->s->dropout, key, loss,
                    err));
    t->spent.data += made - started;
    t->spent.gradient += os_monotonic_ns() - made;
    return SPT_OK;
}

/* What is not finite ends the run before it reaches a file. */
static spt_status at_step(const struct trainer *t, spt_status st, spt_err *err)
{
    return st == SPT_E_NONFINITE ? err_wrap(err, st, "step %lld", (long long)t->state.step + 1)
                                 : st;
}

/* Books what was counted since the last call with `to`. */
static void take_profile(struct trainer *t, struct ops_profile_line *to)
{
    const struct ops_profile_line *l = ops_profile_lines(t->engine.ops);
    for (int i = 0; l && i < OPS_PROFILE_KINDS; i++) {
        to[i].name = l[i].name;
        to[i].calls += l[i].calls;
        to[i].seconds += l[i].seconds;
        to[i].operations += l[i].operations;
        to[i].bytes += l[i].bytes;
    }
    ops_profile_reset(t->engine.ops);
}

static spt_status train_step(struct trainer *t, spt_err *err)
{
    const uint32_t *which;
    size_t n;
    struct t5_loss loss;
    TRY(train_order_next(t->order, &which, &n, err));
    TRY(at_step(t, train_gradient(t, which, n, &loss, err), err));
    TRY(at_step(t, gradient_check(&t->gradient, t->gradient.sum, "gradient of the prompt", err),
                err));
    const float lr = lr_at(&t->lr, t->state.step);
    const int64_t from = os_monotonic_ns();
    optim_step(t->optim, &t->prompt->rows, (const float *const *)&t->gradient.sum, lr);
    TRY(at_step(t, gradient_check_prompt(&t->gradient, t->prompt->rows, err), err));
    const int64_t updated = os_monotonic_ns();
    t->spent.optimiser += updated - from;
    t->spent.steps++;
    take_profile(t, t->stepped);
    t->state.step++;
    t->state.position = train_order_tell(t->order);
    t->examples_done += (int64_t)n;
    TRY(train_log_step(t, &loss, lr, which, n, err));
    t->spent.logs += os_monotonic_ns() - updated;
    train_tell_step(t, &loss, false);
    return SPT_OK;
}

enum { STOP_ASKED = 1, STOP_TIME = 2 }; /* why to stop, as any rank sees it */

static bool out_of_time(const struct trainer *t)
{
    return t->s->minutes > 0 &&
           (double)(os_monotonic_ns() - t->started_ns) >= t->s->minutes * 60e9;
}

static unsigned own_reasons(void *ctx)
{
    return (stop_requested() ? STOP_ASKED : 0u) | (out_of_time(ctx) ? STOP_TIME : 0u);
}

/* The same on all ranks, so that all leave the loop at the same step. */
static spt_status reasons_to_stop(struct trainer *t, unsigned *why, spt_err *err)
{
    *why = own_reasons(t);
    return comm_any(t->s->comm, why, err);
}

/* Those that went with the step's exchange of the gradient, as far as there was one. */
static spt_status reasons_in_step(struct trainer *t, unsigned *why, spt_err *err)
{
    *why = t->s->data_ranks ? t->gradient.told : own_reasons(t);
    return comm_any(t->s->part, why, err);
}

/* Only a strictly better score moves "best"; NaN never does (field case 23). */
static bool is_better(const struct trainer *t, double score)
{
    const struct train_state *s = &t->state;
    if (isnan(score))
        return false;
    if (s->best_step < 0)
        return true;
    return figure_lower_is_better(t->plan.metric) ? score < s->best_score : score > s->best_score;
}

static spt_status train_evaluate(struct trainer *t, spt_err *err)
{
    struct answers answers = {0};
    struct figures figures;
    const struct t5_prompts prompts = prompts_of(t->prompt);
    const int64_t from = os_monotonic_ns();
    spt_status st = evaluate(&t->evaluator, &prompts, t->eval, &answers, err);
    if (!st)
        figures_of(&answers, t->eval, &t->task, &figures, NULL);
    answers_release(&answers);
    TRY(st);
    t->spent.evaluation += os_monotonic_ns() - from;
    t->spent.evaluations++;
    take_profile(t, t->evaluated);
    t->last_score = figure_value(&figures, t->plan.metric);
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

static spt_status interrupted(const struct trainer *t, spt_err *err)
{
    return err_set(err, SPT_E_INTERRUPTED, "interrupted after saving step %lld; --resume continues",
                   (long long)t->state.step);
}

/* A signal must not cost the steps since the last save: the state says that its evaluation is
 * still to come, and the continued run begins with that. */
static spt_status evaluate_or_owe(struct trainer *t, spt_err *err)
{
    const spt_status st = train_evaluate(t, err);
    if (st != SPT_E_INTERRUPTED)
        return st;
    t->evaluation_owed = true;
    TRY(train_save(t, err));
    return interrupted(t, err);
}

static spt_status pay_evaluation(struct trainer *t, spt_err *err)
{
    TRY(evaluate_or_owe(t, err));
    t->evaluation_owed = false;
    t->saved_step = -1; /* the state lacks the score */
    return train_save(t, err);
}

static spt_status train_loop(struct trainer *t, spt_err *err)
{
    bool stop = false;
    t->spent = (struct train_times){0}; /* counting before the run was not the run */
    ops_profile_reset(t->engine.ops);
    t->gradient.ask = own_reasons;
    t->gradient.ask_ctx = t;
    if (t->evaluation_owed)
        TRY(pay_evaluation(t, err));
    while (t->state.step < t->plan.steps && !t->state.stopped_early && !stop) {
        unsigned why;
        TRY(train_step(t, err));
        TRY(reasons_in_step(t, &why, err));
        stop = why & STOP_TIME;
        const int64_t last = stop ? t->state.step : t->plan.steps;
        if (t->eval && due(t->state.step, t->plan.eval_every, last))
            TRY(evaluate_or_owe(t, err));
        if (due(t->state.step, t->plan.save_every, last) || t->evaluated_step == t->state.step ||
            t->state.stopped_early || why & STOP_ASKED) {
            const int64_t from = os_monotonic_ns();
            TRY(train_save(t, err));
            t->spent.saving += os_monotonic_ns() - from;
            TRY(reasons_to_stop(t, &why, err));
        }
        /* At the last step there is nothing left to interrupt. */
        if (why & STOP_ASKED && t->state.step < t->plan.steps && !t->state.stopped_early)
            return interrupted(t, err);
    }
    return train_finish(t, err);
}

spt_status run_train(struct settings *s, struct run_output *out, spt_err *err)
{
    struct trainer t = {0};
    bool nothing_to_do = false;
    spt_status st =
        s->dry_run ? train_open_plan(&t, s, out, err) : train_open(&t, s, out, &nothing_to_do, err);
    if (!st && s->dry_run)
        st = train_try_step(&t, err);
    if (!st)
        train_tell_plan(&t);
    /* A run that died behind its last save still lacks what train_finish writes. */
    if (!st && !s->dry_run)
        st = nothing_to_do ? train_finish(&t, err) : train_loop(&t, err);
    if (!st && s->profile)
        st = train_tell_profile(&t, err);
    if (st == SPT_E_NONFINITE && t.state.best_step >= 0)
        log_info("the best prompt so far (step %lld, %s %.2f) is intact; use it with --prompt %s",
                 (long long)t.state.best_step, t.plan.metric, t.state.best_score, s->out);
    train_close(&t);
    return st;
}
