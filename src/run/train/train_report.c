/* What a run says: the plan before it starts, a line of progress, JSON Lines and event files. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "run/train/train_internal.h"
#include "text/json.h"

enum { LINE_MAX_BYTES = 1 << 24 };

/* --- the plan ------------------------------------------------------------------------------------ */

static const char *place_text(const struct prompt_use *u)
{
    return u->side == PROMPT_DECODER          ? "in front of the decoder"
           : u->combine == T5_PREFIX_AFTER_BOS ? "behind the first id of the encoder's input"
           : u->combine == T5_SUFFIX           ? "behind the encoder's input"
                                               : "in front of the encoder";
}

static void tell_lengths(const struct training *a)
{
    const struct train_plan *p = &a->run[0].plan;
    char n[32], frozen[32];
    const char *place = place_text(&a->run[0].prompt->use);
    count_text(config_parameters(&a->engine.config), frozen);
    if (a->runs == 1) {
        log_info("prompt: %lld x %lld = %s trainable numbers %s (%s); %s frozen", (long long)p->P,
                 (long long)p->E, count_text(p->P * p->E, n), place, p->init_text, frozen);
        return;
    }
    int64_t all = 0;
    for (size_t i = 0; i < a->runs; i++)
        all += a->run[i].plan.P * p->E;
    log_info("%zu prompts of width %lld, %s trainable numbers %s; %s frozen", a->runs,
             (long long)p->E, count_text(all, n), place, frozen);
}

static void tell_run(const struct trainer *t)
{
    const struct train_plan *p = &t->plan;
    if (t->name[0])
        log_info("%s: %lld rows (%s), %lld steps of %lld examples, %s, lr %g, seed %u", t->name,
                 (long long)p->P, p->init_text, (long long)p->steps, (long long)p->batch,
                 t->s->optimizer, t->s->lr, t->seed);
    else
        log_info("steps: %lld of %lld examples (%lld a pass), evaluation every %lld, checkpoint "
                 "every %lld; %s, lr %g, seed %u",
                 (long long)p->steps, (long long)p->batch, (long long)p->steps_per_epoch,
                 (long long)p->eval_every, (long long)p->save_every, t->s->optimizer, t->s->lr,
                 t->seed);
}

void train_tell_plan(const struct training *a)
{
    char rows[32], bytes[32];
    int64_t steps = 0;
    tell_lengths(a);
    if (a->task.labels) {
        buf text;
        buf_init(&text, 4096);
        label_set_describe(a->task.labels, &text);
        log_info("labels (%s): %s; answers by %s", a->task.labels_from, buf_str(&text),
                 a->generate                ? "decoding"
                 : a->run->s->length_normalize ? "ranking them, per token"
                                               : "ranking them");
        buf_release(&text);
    } else {
        log_info("targets are free text; answers by decoding");
    }
    for (size_t i = 0; i < a->runs; i++) {
        tell_run(&a->run[i]);
        steps = a->run[i].plan.steps > steps ? a->run[i].plan.steps : steps;
    }
    if (a->step_seconds > 0) {
        const double all = a->step_seconds * (double)steps;
        log_info("time: %.3g s a step, %.0f:%02.0f for all of them, evaluations not counted",
                 a->step_seconds, floor(all / 60), floor(fmod(all, 60)));
    }
    log_info("memory: about %s, %s encoder rows in flight%s", bytes_text(a->cost.total, bytes),
             count_text(a->rows_in_flight, rows), a->remat ? ", layers computed again" : "");
}

void train_plan_json(const struct training *a, json_writer *w)
{
    const struct trainer *t = a->run;
    const struct train_plan *p = &t->plan;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"rows", p->P},
                   {"width", p->E},
                   {"frozen", config_parameters(&a->engine.config)},
                   {"labels", a->task.labels ? (int64_t)label_set_count(a->task.labels) : 0},
                   {"steps", p->steps},
                   {"batch", p->batch},
                   {"eval_every", p->eval_every},
                   {"seed", t->seed},
                   {"memory", (int64_t)a->cost.total}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_key(w, numbers[i].name);
        json_i64(w, numbers[i].value);
    }
    json_key(w, "by");
    json_string(w, a->generate ? "generate" : "rank");
    json_key(w, "metric");
    json_string(w, a->metric);
    json_key(w, "initialiser");
    json_string(w, p->init_text);
    json_key(w, "step_seconds");
    json_f64(w, a->step_seconds);
}

/* --- progress ------------------------------------------------------------------------------------- */

static bool wants_progress(const struct training *a)
{
    return progress_wanted(a->s, a->out->sink);
}

/* Seconds for the examples that are still to come. */
static double seconds_left(const struct training *a, double rate)
{
    double rows = 0;
    for (size_t i = 0; i < a->runs; i++) {
        const struct trainer *t = &a->run[i];
        if (!t->left)
            rows += (double)((t->plan.steps - t->state.step) * t->plan.batch);
    }
    return rate > 0 ? rows / rate : 0;
}

static double loss_per_token(const struct t5_loss *l)
{
    return l->weight_sum > 0 ? l->loss / l->weight_sum : NAN;
}

/* One run: its loss and scores. Several: the range of their losses, and the best score. */
static void progress_text(const struct training *a, char *line, size_t cap)
{
    const double s = (double)(os_monotonic_ns() - a->started_ns) / 1e9;
    const double rate = s > 0 ? (double)a->examples_done / s : 0, left = seconds_left(a, rate);
    const struct trainer *best = NULL, *t = a->run;
    double low = INFINITY, high = -INFINITY;
    size_t n = 0;
    for (size_t i = 0; i < a->runs; i++) {
        const struct trainer *k = &a->run[i];
        if (k->state.best_step >= 0 &&
            (!best || figure_is_better(a->metric, k->state.best_score, best->state.best_score)))
            best = k;
        if (k->left)
            continue;
        const double loss = loss_per_token(&a->part[n++].loss);
        t = k->state.step > t->state.step ? k : t;
        low = loss < low ? loss : low;
        high = loss > high ? loss : high;
    }
    int at = snprintf(line, cap, "step %lld/%lld", (long long)t->state.step,
                      (long long)t->plan.steps);
    if (a->runs > 1)
        at += snprintf(line + at, cap - (size_t)at, "  %zu of %zu runs  loss %.4f to %.4f", n,
                       a->runs, low, high);
    else
        at += snprintf(line + at, cap - (size_t)at, "  loss %.4f", loss_per_token(&a->part->loss));
    at += snprintf(line + at, cap - (size_t)at, "  %.0f examples/s  %.0f:%02.0f left", rate,
                   floor(left / 60), fmod(left, 60));
    const struct exchanged *x = &a->exchanged;
    if (comm_size(a->s->comm) > 1 && x->steps) {
        const double all = (double)(a->spent.gradient + a->spent.data + a->spent.optimiser);
        char sent[32];
        at += snprintf(line + at, cap - (size_t)at, "  %s a step to ranks, %.0f %% waiting",
                       bytes_text((double)x->sent / (double)x->steps, sent),
                       all > 0 ? 100 * (double)x->wait_ns / all : 0);
    }
    if (best && a->runs > 1)
        snprintf(line + at, cap - (size_t)at, "  best %s %.2f (%s)", a->metric,
                 best->state.best_score, best->name);
    else if (best)
        snprintf(line + at, cap - (size_t)at, "  %s %.2f (best %.2f at %lld)", a->metric,
                 t->last_score, t->state.best_score, (long long)t->state.best_step);
}

void train_tell_step(struct training *a)
{
    const int64_t now = os_monotonic_ns();
    if (!wants_progress(a) || now - a->last_progress_ns < 200000000)
        return;
    char line[512];
    a->last_progress_ns = now;
    progress_text(a, line, sizeof line);
    a->out->sink->progress(a->out->sink->ctx, line);
}

void train_tell_end(struct trainer *t, const struct prompt *best)
{
    const char *name = t->name, *sep = name[0] ? ": " : "";
    if (wants_progress(t->all))
        t->all->out->sink->progress(t->all->out->sink->ctx, NULL);
    if (t->state.stopped_early)
        log_info("%s%sstopped at step %lld: no improvement in %lld evaluations", name, sep,
                 (long long)t->state.step, (long long)t->state.without_improvement);
    if (t->state.best_step >= 0)
        log_info("%s%sbest prompt: step %lld, %s %.2f; use it with --prompt %s", name, sep,
                 (long long)best->use.step, t->all->metric, t->state.best_score, t->s->out);
    else
        log_info("%s%sprompt of step %lld written; use it with --prompt %s", name, sep,
                 (long long)best->use.step, t->s->out);
}

/* --- logs ----------------------------------------------------------------------------------------- */

static spt_status emit(struct trainer *t, fs_log *log, const char *event, buf *line, spt_err *err)
{
    buf_addc(line, '\n');
    TRY(buf_status(line, "log line", err));
    TRY(fs_log_append(log, buf_str(line), line->len, err));
    if (!t->all->s->json)
        return SPT_OK;
    buf out;
    buf_init(&out, LINE_MAX_BYTES);
    buf_addf(&out, "{\"event\": \"%s\", ", event);
    if (t->name[0]) /* letters, digits and "._+-" only */
        buf_addf(&out, "\"run\": \"%s\", ", t->name);
    buf_adds(&out, buf_str(line) + 1);
    const spt_status st = output_text(t->all->out, &out, err);
    buf_release(&out);
    return st;
}

struct named_value {
    const char *name;
    double value;
};

/* {"step": N, "name": value, ...} */
static void object(buf *line, int64_t step, const struct named_value *v, size_t n)
{
    json_writer w;
    json_write_init(&w, line, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "step");
    json_i64(&w, step);
    for (size_t i = 0; i < n; i++) {
        json_key(&w, v[i].name);
        if (isfinite(v[i].value) && v[i].value == floor(v[i].value) && fabs(v[i].value) < 1e15)
            json_i64(&w, (int64_t)v[i].value);
        else
            json_f64(&w, v[i].value);
    }
    json_end_object(&w);
}

static double norm(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* Replaces the closing brace of a line by a list of the step's examples. */
static void add_examples(buf *line, const uint32_t *which, size_t n)
{
    line->len--;
    buf_adds(line, ", \"example\": [");
    for (size_t i = 0; i < n; i++)
        buf_addf(line, "%s%u", i ? ", " : "", which[i]);
    buf_adds(line, "]}");
}

spt_status train_log_step(struct trainer *t, const struct t5_loss *loss, float lr,
                          const uint32_t *which, size_t n, spt_err *err)
{
    const int64_t PE = t->plan.P * t->plan.E;
    if (!comm_leads(t->s->comm))
        return SPT_OK;
    const double tokens = loss->weight_sum;
    const struct named_value v[] = {
        {"loss", loss->loss},
        {"loss_per_nonpadding_target_token", tokens > 0 ? loss->loss / tokens : NAN},
        {"z_loss", loss->z_loss},
        {"cross_ent_loss", loss->loss - loss->z_loss},
        {"accuracy", loss->counted ? (double)loss->correct / (double)loss->counted : NAN},
        {"learning_rate", lr},
        {"gradient_norm", norm(t->sum, PE)},
        {"prompt_norm", norm(t->prompt->rows, PE)},
        {"examples", (double)n},
    };
    enum { SCALARS = 8 }; /* all but the count go to the event file */
    for (size_t i = 0; i < SCALARS; i++)
        TRY(events_scalar(t->logs.events, t->state.step, v[i].name, (float)v[i].value, err));
    buf line;
    buf_init(&line, LINE_MAX_BYTES);
    object(&line, t->state.step, v, sizeof v / sizeof *v);
    if (t->s->log_examples && !line.st)
        add_examples(&line, which, n);
    const spt_status st = emit(t, t->logs.train, "step", &line, err);
    buf_release(&line);
    return st;
}

spt_status train_log_eval(struct trainer *t, const struct figures *f, bool improved, spt_err *err)
{
    if (!comm_leads(t->s->comm))
        return SPT_OK;
    const struct named_value v[] = {
        {"accuracy", f->accuracy},       {"macro_f1", f->macro_f1}, {"f1", f->f1},
        {"exact_match", f->exact_match}, {"loss", f->loss},
    };
    struct named_value kept[8 + FIGURES_MORE];
    size_t n = 0;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        if (!isnan(v[i].value))
            kept[n++] = v[i];
    for (size_t i = 0; i < f->more; i++)
        kept[n++] = (struct named_value){f->score[i].name, f->score[i].value};
    for (size_t i = 0; i < n; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "eval/%s", kept[i].name);
        TRY(events_scalar(t->logs.scores, t->state.step, tag, (float)kept[i].value, err));
    }
    kept[n++] = (struct named_value){"outside", (double)f->outside};
    kept[n++] = (struct named_value){"best_step", (double)t->state.best_step};
    buf line;
    buf_init(&line, LINE_MAX_BYTES);
    object(&line, t->state.step, kept, n);
    const spt_status st = emit(t, t->logs.eval, "eval", &line, err);
    buf_release(&line);
    if (!wants_progress(t->all) || improved)
        log_info("%s%sstep %lld: %s %.2f%s", t->name, t->name[0] ? ": " : "",
                 (long long)t->state.step, t->all->metric, t->last_score,
                 improved ? " (best)" : "");
    return st;
}
