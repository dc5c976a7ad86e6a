/* `spt eval`: metrics of a prompt on labelled examples, or of an existing predictions file. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "metric/class_metrics.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "run/evaluate.h"
#include "run/predictions.h"
#include "run/prompt_session.h"
#include "text/json.h"

enum { OUTPUT_MAX = 1 << 30 };

/* --- the answer ---------------------------------------------------------------------------------- */

static void put_figure(json_writer *w, const char *name, double v)
{
    if (isnan(v))
        return;
    json_key(w, name);
    json_f64(w, v);
}

static void put_confusion(json_writer *w, const uint64_t *counts, size_t K)
{
    json_key(w, "confusion");
    json_begin_array(w);
    for (size_t i = 0; i < K; i++) {
        json_begin_array(w);
        for (size_t j = 0; j <= K; j++)
            json_u64(w, counts[i * (K + 1) + j]);
        json_end_array(w);
    }
    json_end_array(w);
}

static void put_json(buf *out, const struct figures *f, const struct task_text *t, const char *by,
                     const uint64_t *confusion)
{
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "examples");
    json_u64(&w, f->n);
    json_key(&w, "by");
    json_string(&w, by);
    put_figure(&w, "accuracy", f->accuracy);
    put_figure(&w, "macro_f1", f->macro_f1);
    put_figure(&w, "f1", f->f1);
    put_figure(&w, "exact_match", f->exact_match);
    put_figure(&w, "loss", f->loss);
    if (t->labels) {
        json_key(&w, "classes");
        json_u64(&w, f->classes);
        json_key(&w, "outside");
        json_u64(&w, f->outside);
        json_key(&w, "labels");
        json_begin_array(&w);
        for (size_t i = 0; i < f->classes; i++)
            json_string(&w, label_set_text(t->labels, i));
        json_end_array(&w);
        put_confusion(&w, confusion, f->classes);
    }
    json_end_object(&w);
    buf_addc(out, '\n');
}

static void put_line(buf *out, const char *name, double v, const char *rule)
{
    if (!isnan(v))
        buf_addf(out, "%-12s %8.4f%s%s\n", name, v, rule ? "  " : "", rule ? rule : "");
}

static void put_table(buf *out, const label_set *labels, const uint64_t *counts, size_t K)
{
    buf_addf(out, "\n%-20s", "target \\ answer");
    for (size_t j = 0; j < K; j++)
        buf_addf(out, " %10.10s", label_set_text(labels, j));
    buf_addf(out, " %10s %8s\n", "(outside)", "F1");
    for (size_t i = 0; i < K; i++) {
        const struct class_scores c = metric_class_scores(counts, (int32_t)K, (int32_t)i);
        buf_addf(out, "%-20.20s", label_set_text(labels, i));
        for (size_t j = 0; j <= K; j++)
            buf_addf(out, " %10llu", (unsigned long long)counts[i * (K + 1) + j]);
        buf_addf(out, " %8.2f\n", c.f1);
    }
}

static void put_text(buf *out, const struct figures *f, const struct task_text *t, const char *by,
                     const uint64_t *confusion)
{
    buf_addf(out, "examples     %8zu  answers by %s\n", f->n, by);
    put_line(out, "accuracy", f->accuracy, metric_rule("accuracy"));
    put_line(out, "macro F1", f->macro_f1, metric_rule("f1_macro"));
    put_line(out, "F1", f->f1, metric_rule("f1_binary"));
    put_line(out, "exact match", f->exact_match, "answer and target are the same text");
    put_line(out, "loss", f->loss, "mean negative log-likelihood of the target");
    if (!t->labels)
        return;
    buf_addf(out, "classes      %8zu  counted by macro F1\n", f->classes);
    buf_addf(out, "outside      %8zu  answers that are none of the labels\n", f->outside);
    put_table(out, t->labels, confusion, f->classes);
}

static spt_status tell(const struct settings *s, struct run_output *out, const struct figures *f,
                       const struct task_text *t, const char *by, const uint64_t *confusion,
                       spt_err *err)
{
    buf text;
    buf_init(&text, OUTPUT_MAX);
    (s->json ? put_json : put_text)(&text, f, t, by, confusion);
    const spt_status st = output_text(out, &text, err);
    buf_release(&text);
    return st;
}

/* --- running the model --------------------------------------------------------------------------- */

/* Without a prompt and without --labels the labels are those of the file itself. */
static spt_status load_examples(const struct settings *s, struct prompt_session *u, examples **out,
                                spt_err *err)
{
    struct task_text *t = &u->task;
    TRY(dataset_load(s, t, s->data, t->labels ? DATASET_LABELED : DATASET_EXAMINE, "eval", out,
                     err));
    if (t->labels || !strcmp(s->by, "generate"))
        return SPT_OK;
    if (examples_labels(*out) && (labels_found(*out) || !strcmp(s->by, "rank")))
        return task_text_set_labels(t, s, examples_labels(*out), "the data", err);
    return SPT_OK;
}

static spt_status eval_model(struct settings *s, struct run_output *out, struct prompt_session *u,
                             examples *x, spt_err *err)
{
    struct evaluator v = {0};
    struct answers a = {0};
    struct figures f;
    uint64_t *confusion = NULL;
    const struct evaluate_opts o = evaluate_opts_of(s, &u->task);
    const struct t5_prompts prompts = prompts_of(u->prompt);
    const struct examples_counts c = examples_counts(x);
    spt_status st = evaluator_open(&u->engine, &u->task, c.longest_input, c.longest_target, &o,
                                   u->prompt, &v, err);
    if (!st)
        st = evaluate(&v, &prompts, x, &a, err);
    if (!st && u->task.labels) {
        confusion = mem_zalloc(a.labels * (a.labels + 1), sizeof *confusion);
        if (!confusion)
            st = err_nomem(err, a.labels * (a.labels + 1) * sizeof *confusion);
    }
    if (!st) {
        figures_of(&a, x, &u->task, &f, confusion);
        if (s->output && s->output[0])
            st = predictions_write(s->output, &a, x, &u->task, err);
    }
    if (!st)
        st = tell(s, out, &f, &u->task, o.generate ? "greedy decoding" : "ranking the labels",
                  confusion, err);
    mem_free(confusion);
    answers_release(&a);
    evaluator_close(&v);
    return st;
}

/* Metrics of an existing file: nothing is tokenised, no model is opened. */
static spt_status eval_predictions(struct settings *s, struct run_output *out, spt_err *err)
{
    struct predictions p = {0};
    struct figures f;
    uint64_t *confusion = NULL;
    spt_status st = predictions_read(s, &p, err);
    if (!st && p.task.labels) {
        confusion = mem_zalloc(p.answers.labels * (p.answers.labels + 1), sizeof *confusion);
        if (!confusion)
            st = err_nomem(err, 0);
    }
    if (!st) {
        figures_of(&p.answers, p.examples, &p.task, &f, confusion);
        st = tell(s, out, &f, &p.task, "predictions file", confusion, err);
    }
    mem_free(confusion);
    predictions_release(&p);
    return st;
}

spt_status run_eval(struct settings *s, struct run_output *out, spt_err *err)
{
    if (!s->data || !s->data[0])
        return err_set(err, SPT_E_USAGE, "--data FILE is missing");
    if (s->predictions && s->predictions[0])
        return eval_predictions(s, out, err);
    struct prompt_session u = {0};
    examples *x = NULL;
    spt_status st = prompt_session_open(s, &u, err);
    if (!st)
        st = load_examples(s, &u, &x, err);
    if (!st && !strcmp(s->by, "rank") && !u.task.labels)
        st = err_set(err, SPT_E_CONFIG, "--by rank needs a label set: give --labels");
    if (!st)
        st = prompt_session_load(s, &u, err);
    if (!st)
        st = eval_model(s, out, &u, x, err);
    examples_free(x);
    prompt_session_close(&u);
    return st;
}
