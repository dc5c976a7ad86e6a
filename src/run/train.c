/* The training loop. Everything it calls is in train_setup.c (opening, plan, restoring),
 * train_save.c (checkpoints) and train_report.c (logs, progress). */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "run/train_internal.h"

/* Ranges of examples whose encoder rows fit what is in flight, of about equal size (a short last
 * one would read all weights for little work); any cut gives the same bits. */
static int64_t range_end(const struct trainer *t, const struct packed_batch *b, int64_t first)
{
    const int64_t P = t->plan.P, limit = t->plan.rows_in_flight;
    const int64_t all = b->enc_off[b->B] + P * b->B;
    const int64_t wanted = all / ((all + limit - 1) / limit);
    int64_t rows = 0;
    for (int64_t i = first; i < b->B; i++) {
        const int64_t more = P + b->enc_off[i + 1] - b->enc_off[i];
        const bool full = t->s->micro_batch ? i - first == t->s->micro_batch
                                            : rows + more > limit || rows >= wanted;
        if (full && i > first)
            return i;
        rows += more;
    }
    return b->B;
}

static spt_status check_finite(struct trainer *t, const struct t5_loss *loss, spt_err *err)
{
    if (isfinite(loss->loss))
        return SPT_OK;
    char name[128] = "loss";
    t5_nonfinite(t->engine.model, &t->batch.view, t->acts, name, sizeof name);
    return err_set(err, SPT_E_NONFINITE,
                   "step %lld: %s is not finite; no checkpoint of this step was written. A smaller "
                   "--lr may help",
                   (long long)t->state.step + 1, name);
}

spt_status train_gradient(struct trainer *t, const uint32_t *which, size_t n, struct t5_loss *loss,
                          spt_err *err)
{
    const struct settings *s = t->s;
    const size_t PE = (size_t)(t->plan.P * t->plan.E);
    TRY(batch_make(&t->batch, t->train, which, n, t->task.max_input, t->task.max_target, err));
    const struct packed_batch *b = &t->batch.view;
    const int64_t shards = b->B < GRADIENT_SHARDS ? b->B : GRADIENT_SHARDS;
    for (int64_t i = 0; i < b->B; i++)
        t->shard_of[i] = (int32_t)(i * shards / b->B);
    memset(t->shards, 0, (size_t)shards * PE * sizeof(float));
    const bool decoder = t->prompt->use.side == PROMPT_DECODER;
    const struct t5_prompts prompts = prompts_of(t->prompt);
    struct t5_dropout drop = {.rate = (float)s->dropout};
    const struct rng_key key = rng_fold_in(t->trainer_key, (uint32_t)t->state.step);
    memcpy(drop.key, key.w, sizeof drop.key);

    *loss = (struct t5_loss){0};
    for (int64_t first = 0; first < b->B;) {
        const int64_t end = range_end(t, b, first);
        TRY(t5_forward(t->engine.model, &prompts, b, first, end - first, &t->loss_opts,
                       s->dropout > 0 ? &drop : NULL, t->acts, loss, err));
        TRY(check_finite(t, loss, err));
        TRY(t5_backward(t->engine.model, b, t->acts, t->shard_of, decoder ? NULL : t->shards,
                        decoder ? t->shards : NULL, err));
        first = end;
    }
    memcpy(t->grad, t->shards, PE * sizeof(float));
    for (int64_t k = 1; k < shards; k++) {
        const float *shard = t->shards + (size_t)k * PE;
        for (size_t i = 0; i < PE; i++)
            t->grad[i] += shard[i];
    }
    return SPT_OK;
}

static spt_status check_values(const struct trainer *t, const float *x, const char *name,
                               spt_err *err)
{
    for (int64_t i = 0; i < t->plan.P * t->plan.E; i++)
        if (!isfinite(x[i]))
            return err_set(err, SPT_E_NONFINITE,
                           "step %lld: the %s is not finite (row %lld, column %lld); no checkpoint "
                           "of this step was written. A smaller --lr may help",
                           (long long)t->state.step + 1, name, (long long)(i / t->plan.E),
                           (long long)(i % t->plan.E));
    return SPT_OK;
}

/* Values beyond about 1e19 are finite, but their squares are not: every norm of such a row is 0,
 * and training goes on with a prompt that says nothing. */
static spt_status check_squares(const struct trainer *t, spt_err *err)
{
    for (int64_t i = 0; i < t->plan.P; i++) {
        float sum = 0;
        for (int64_t j = 0; j < t->plan.E; j++) {
            const float x = t->prompt->rows[i * t->plan.E + j];
            sum += x * x;
        }
        if (!isfinite(sum))
            return err_set(err, SPT_E_NONFINITE,
                           "step %lld: the prompt is too large: the mean square of its row %lld "
                           "is not finite; no checkpoint of this step was written. A smaller --lr "
                           "may help",
                           (long long)t->state.step + 1, (long long)i);
    }
    return SPT_OK;
}

static spt_status train_step(struct trainer *t, spt_err *err)
{
    const uint32_t *which;
    size_t n;
    struct t5_loss loss;
    TRY(train_order_next(t->order, &which, &n, err));
    TRY(train_gradient(t, which, n, &loss, err));
    TRY(check_values(t, t->grad, "gradient of the prompt", err));
    const float lr = lr_at(&t->lr, t->state.step);
    optim_step(t->optim, &t->prompt->rows, (const float *const *)&t->grad, lr);
    TRY(check_values(t, t->prompt->rows, "prompt", err));
    TRY(check_squares(t, err));
    t->state.step++;
    t->state.position = train_order_tell(t->order);
    t->examples_done += (int64_t)n;
    TRY(train_log_step(t, &loss, lr, which, n, err));
    train_tell_step(t, &loss, false);
    return SPT_OK;
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
    spt_status st = evaluate(&t->evaluator, &prompts, t->eval, &answers, err);
    if (!st)
        figures_of(&answers, t->eval, &t->task, &figures, NULL);
    answers_release(&answers);
    TRY(st);
    t->last_score = figure_value(&figures, t->plan.metric);
    const bool improved = is_better(t, t->last_score);
    if (improved) {
        t->state.best_score = t->last_score;
        t->state.best_step = t->state.step;
        t->state.without_improvement = 0;
    } else {
        t->state.without_improvement++;
    }
    t->state.stopped_early =
        t->s->patience > 0 && t->state.without_improvement >= t->s->patience;
    t->evaluated_step = t->state.step;
    return train_log_eval(t, &figures, improved, err);
}

static bool due(int64_t step, int64_t every, int64_t last)
{
    return step % every == 0 || step == last;
}

static bool out_of_time(const struct trainer *t)
{
    return t->s->minutes > 0 &&
           (double)(os_monotonic_ns() - t->started_ns) >= t->s->minutes * 60e9;
}

static spt_status train_loop(struct trainer *t, spt_err *err)
{
    bool stop = false;
    while (t->state.step < t->plan.steps && !t->state.stopped_early && !stop) {
        TRY(train_step(t, err));
        stop = out_of_time(t);
        const int64_t last = stop ? t->state.step : t->plan.steps;
        if (t->eval && due(t->state.step, t->plan.eval_every, last))
            TRY(train_evaluate(t, err));
        if (due(t->state.step, t->plan.save_every, last) || t->evaluated_step == t->state.step ||
            t->state.stopped_early || stop_requested())
            TRY(train_save(t, err));
        /* At the last step there is nothing left to interrupt. */
        if (stop_requested() && t->state.step < t->plan.steps && !t->state.stopped_early)
            return err_set(err, SPT_E_INTERRUPTED,
                           "interrupted after saving step %lld; --resume continues",
                           (long long)t->state.step);
    }
    return train_finish(t, err);
}

spt_status run_train(struct settings *s, struct run_output *out, spt_err *err)
{
    struct trainer t = {0};
    bool nothing_to_do = false;
    spt_status st = s->dry_run ? train_open_plan(&t, s, out, err)
                               : train_open(&t, s, out, &nothing_to_do, err);
    if (!st && s->dry_run)
        st = train_try_step(&t, err);
    if (!st)
        train_tell_plan(&t);
    /* A run that died behind its last save still lacks what train_finish writes. */
    if (!st && !s->dry_run)
        st = nothing_to_do ? train_finish(&t, err) : train_loop(&t, err);
    if (st == SPT_E_NONFINITE && t.state.best_step >= 0)
        log_info("the best prompt so far (step %lld, %s %.2f) is intact; use it with --prompt %s",
                 (long long)t.state.best_step, t.plan.metric, t.state.best_score, s->out);
    train_close(&t);
    return st;
}
