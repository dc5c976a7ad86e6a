/* `spt eval`: metrics of a prompt, or of several that vote, on labelled examples; or of an existing
 * predictions file. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/hash.h"
#include "metric/class_metrics.h"
#include "ops/cpu/cpu.h"
#include "os/os.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "run/ensemble.h"
#include "run/members.h"
#include "run/plain_code.h"
#include "run/predictions.h"
#include "run/profile_text.h"
#include "run/ranks.h"
#include "text/json.h"

enum { OUTPUT_MAX = 1 << 30, PROFILE_MAX = 1 << 16 };

/* --- the answer ---------------------------------------------------------------------------------- */

static const char exact_rule[] = "answer and target are the same text (spaces around them aside)";
static const char loss_rule[] = "mean negative log-likelihood of the target, end mark included";

static void put_rule(json_writer *w, const char *name, double v, const char *rule)
{
    if (isnan(v))
        return;
    json_key(w, name);
    json_string(w, rule);
}

/* How each figure is counted, in words. */
static void put_rules(json_writer *w, const struct figures *f)
{
    json_key(w, "rules");
    json_begin_object(w);
    put_rule(w, "accuracy", f->accuracy, metric_rule("accuracy"));
    put_rule(w, "macro_f1", f->macro_f1, metric_rule("f1_macro"));
    put_rule(w, "f1", f->f1, metric_rule("f1"));
    put_rule(w, "exact_match", f->exact_match, exact_rule);
    put_rule(w, "loss", f->loss, loss_rule);
    json_end_object(w);
}

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

static void put_figures(json_writer *w, const struct figures *f)
{
    put_figure(w, "accuracy", f->accuracy);
    put_figure(w, "macro_f1", f->macro_f1);
    put_figure(w, "f1", f->f1);
    put_figure(w, "exact_match", f->exact_match);
    put_figure(w, "loss", f->loss);
}

/* Members of an ensemble, one after the other. */
struct crowd {
    const struct members *u;
    const struct figures *each; /* [members] */
    const struct figures *mean; /* by mean log-likelihood; NULL when decoded */
    double agreement;
};

static void put_crowd(json_writer *w, const struct crowd *c)
{
    json_key(w, "agreement");
    json_f64(w, c->agreement);
    if (c->mean) {
        json_key(w, "mean_log_likelihood");
        json_begin_object(w);
        put_figures(w, c->mean);
        json_end_object(w);
    }
    json_key(w, "members");
    json_begin_array(w);
    for (size_t i = 0; i < c->u->count; i++) {
        json_begin_object(w);
        json_key(w, "prompt");
        json_string(w, c->u->m[i].name);
        put_figures(w, &c->each[i]);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_json(buf *out, const struct figures *f, const struct task_text *t, const char *by,
                     const struct crowd *crowd, const uint64_t *confusion)
{
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "examples");
    json_u64(&w, f->n);
    json_key(&w, "by");
    json_string(&w, by);
    put_figures(&w, f);
    for (size_t i = 0; i < f->more; i++)
        put_figure(&w, f->score[i].name, f->score[i].value);
    if (crowd)
        put_crowd(&w, crowd);
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
    put_rules(&w, f);
    json_end_object(&w);
    buf_addc(out, '\n');
}

static void put_line(buf *out, const char *name, double v, const char *rule)
{
    if (!isnan(v))
        buf_addf(out, "%-12s %8.4f%s%s\n", name, v, rule ? "  " : "", rule ? rule : "");
}

/* The first figure that a member has. */
static double member_figure(const struct figures *f)
{
    return isnan(f->accuracy) ? f->exact_match : f->accuracy;
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
                     const struct crowd *crowd, const uint64_t *confusion)
{
    buf_addf(out, "examples     %8zu  answers by %s\n", f->n, by);
    put_line(out, "accuracy", f->accuracy, metric_rule("accuracy"));
    put_line(out, "macro F1", f->macro_f1, metric_rule("f1_macro"));
    put_line(out, "F1", f->f1, metric_rule("f1"));
    put_line(out, "exact match", f->exact_match, exact_rule);
    put_line(out, "loss", f->loss, loss_rule);
    for (size_t i = 0; i < f->more; i++)
        put_line(out, f->score[i].name, f->score[i].value, "by the plug-in's metric");
    for (size_t i = 0; crowd && i < crowd->u->count; i++)
        put_line(out, i ? "" : "members", member_figure(&crowd->each[i]), crowd->u->m[i].name);
    if (crowd && crowd->mean)
        put_line(out, "mean score", member_figure(crowd->mean), "of answers by mean log-likelihood");
    if (crowd)
        put_line(out, "agreement", crowd->agreement, "percent of members that say what the vote says");
    if (!t->labels)
        return;
    buf_addf(out, "classes      %8zu  counted by macro F1\n", f->classes);
    buf_addf(out, "outside      %8zu  answers that are none of the labels\n", f->outside);
    put_table(out, t->labels, confusion, f->classes);
}

static spt_status tell(const struct settings *s, struct run_output *out, const struct figures *f,
                       const struct task_text *t, const char *by, const struct crowd *crowd,
                       const uint64_t *confusion, spt_err *err)
{
    buf text;
    buf_init(&text, OUTPUT_MAX);
    (s->json ? put_json : put_text)(&text, f, t, by, crowd, confusion);
    const spt_status st = output_text(out, &text, err);
    buf_release(&text);
    return st;
}

/* Room for a confusion table; NULL without labels. */
static spt_status confusion_new(size_t K, uint64_t **out, spt_err *err)
{
    *out = K ? mem_zalloc(K * (K + 1), sizeof **out) : NULL;
    return K && !*out ? err_nomem(err, K * (K + 1) * sizeof **out) : SPT_OK;
}

/* --- running the model ------------------------------------------------------------------------ */

struct eval {
    struct settings *s;
    struct run_output *out;
    struct members u;
    examples **x; /* [members]; prompts with one template share theirs */
    bool *owns;
    struct answers *a;      /* [members] */
    struct figures *figure; /* [members] */
    struct generation generation;
    struct evaluate_opts opts;
    struct evaluator v;
    struct answer_progress progress;
    int64_t load_ns, answer_ns; /* loading the base, answering */
};

static bool is_set(const char *text)
{
    return text && text[0];
}

static bool same_texts(const struct task_text *a, const struct task_text *b)
{
    const char *x = a->input ? template_source(a->input) : "";
    const char *y = b->input ? template_source(b->input) : "";
    const char *p = a->target ? template_source(a->target) : "";
    const char *q = b->target ? template_source(b->target) : "";
    return !strcmp(x, y) && !strcmp(p, q) && a->max_input == b->max_input &&
           a->max_target == b->max_target;
}

static spt_status same_labels(const struct members *u, spt_err *err)
{
    const label_set *first = u->m[0].task.labels;
    for (size_t i = 1; i < u->count; i++) {
        const label_set *l = u->m[i].task.labels;
        bool same = !first == !l && (!l || label_set_count(first) == label_set_count(l));
        for (size_t k = 0; same && l && k < label_set_count(l); k++)
            same = !strcmp(label_set_text(first, k), label_set_text(l, k));
        if (!same)
            return err_set(err, SPT_E_CONFIG,
                           "%s and %s have different labels, so their votes cannot be counted: "
                           "give --labels A,B,..",
                           u->m[0].name, u->m[i].name);
    }
    return SPT_OK;
}

/* Without a prompt and without --labels the labels are those of the file itself. */
static spt_status load_member(struct eval *e, size_t i, spt_err *err)
{
    struct task_text *t = &e->u.m[i].task;
    for (size_t k = 0; k < i && !e->x[i]; k++)
        if (same_texts(t, &e->u.m[k].task))
            e->x[i] = e->x[k];
    if (!e->x[i]) {
        TRY(dataset_load(e->s, t, e->s->data, t->labels ? DATASET_LABELED : DATASET_EXAMINE, "eval",
                         &e->x[i], err));
        e->owns[i] = true;
    }
    const label_set *found = examples_labels(e->x[i]);
    if (t->labels || !strcmp(e->s->by, "generate") || !found)
        return SPT_OK;
    return labels_found(e->x[i]) || !strcmp(e->s->by, "rank")
               ? task_text_set_labels(t, e->s, found, "the data", err)
               : SPT_OK;
}

static spt_status eval_open(struct eval *e, spt_err *err)
{
    const struct settings *s = e->s;
    const bool crowd = is_set(s->ensemble);
    if (crowd && is_set(s->prompt))
        return err_set(err, SPT_E_USAGE, "--prompt and --ensemble: give one of them");
    if (!crowd && s->arguments)
        return err_set(err, SPT_E_USAGE, "what is \"%s\" for? (--data names the examples)",
                       s->argument[0]);
    TRY(generation_check(s, err));
    TRY(members_open(s, crowd ? s->ensemble : s->prompt, s->argument, s->arguments, &e->u, err));
    const size_t M = e->u.count;
    e->x = mem_zalloc(M, sizeof *e->x);
    e->owns = mem_zalloc(M, sizeof *e->owns);
    e->a = mem_zalloc(M, sizeof *e->a);
    e->figure = mem_zalloc(M, sizeof *e->figure);
    if (!e->x || !e->owns || !e->a || !e->figure)
        return err_nomem(err, M * sizeof *e->a);
    for (size_t i = 0; i < M; i++)
        TRY(load_member(e, i, err));
    TRY(same_labels(&e->u, err));
    if (!strcmp(s->by, "rank") && !e->u.m[0].task.labels)
        return err_set(err, SPT_E_CONFIG, "--by rank needs a label set: give --labels");
    if (!strcmp(s->by, "rank") && generation_asked(s))
        return err_set(err, SPT_E_USAGE, "--by rank decodes nothing: leave the options of decoding "
                                         "out");
    e->opts = evaluate_opts_of(s, &e->u.m[0].task);
    if (e->opts.generate && is_set(s->calibrate))
        return err_set(err, SPT_E_USAGE, "--calibrate is for ranking labels, not for decoding");
    if (!e->opts.generate)
        return SPT_OK;
    TRY(generation_open(s, &e->u.engine, &e->generation, err));
    e->generation.opts.want_scores = e->generation.opts.n > 1; /* to choose the best one */
    e->opts.generation = &e->generation;
    return SPT_OK;
}

static void eval_close(struct eval *e)
{
    for (size_t i = 0; i < e->u.count; i++) {
        if (e->x && e->owns && e->owns[i])
            examples_free(e->x[i]);
        if (e->a)
            answers_release(&e->a[i]);
    }
    mem_free(e->x);
    mem_free(e->owns);
    mem_free(e->a);
    mem_free(e->figure);
    evaluator_close(&e->v);
    generation_close(&e->generation);
    members_close(&e->u);
}

/* Ranks that read other files would mix their answers. */
static spt_status same_everywhere(const struct eval *e, spt_err *err)
{
    if (comm_size(e->s->comm) == 1)
        return SPT_OK;
    buf text;
    buf_init(&text, 1 << 20);
    spt_status st = settings_text(e->s, &text, err);
    buf_addf(&text, "base model = %s\nvocabulary = %s\n", e->u.engine.base_hash,
             vocab_hash(e->u.engine.vocab));
    for (size_t i = 0; !st && i < e->u.count; i++) {
        const struct prompt *p = e->u.m[i].prompt;
        char hex[33];
        st = dataset_hash(e->x[i], hex, err);
        buf_addf(&text, "data = %s\n", hex);
        if (p)
            buf_addf(&text, "prompt = %s\n",
                     hash_text(hash_bytes(p->rows, (size_t)(p->P * p->E) * sizeof *p->rows), hex));
    }
    if (!st)
        st = buf_status(&text, "settings", err);
    st = ranks_same_text(e->s->comm, &text, st, err);
    buf_release(&text);
    return st;
}

static spt_status answer_all(struct eval *e, spt_err *err)
{
    int64_t longest_input = 0, longest_target = 0;
    for (size_t i = 0; i < e->u.count; i++) {
        const struct examples_counts c = examples_counts(e->x[i]);
        longest_input = c.longest_input > longest_input ? c.longest_input : longest_input;
        longest_target = c.longest_target > longest_target ? c.longest_target : longest_target;
    }
    const int64_t start = os_monotonic_ns();
    TRY(members_load(e->s, &e->opts, &e->u, err));
    e->load_ns = os_monotonic_ns() - start;
    TRY(members_evaluator(&e->u, e->s, &e->opts, longest_input, longest_target, &e->v, err));
    TRY(same_everywhere(e, err));
    ops_profile_reset(e->u.engine.ops);
    uint64_t all = 0;
    for (size_t i = 0; i < e->u.count; i++)
        all += examples_count(e->x[i]);
    answer_progress_begin(&e->progress, e->s, e->out->sink, all);
    e->v.progress = &e->progress;
    const int64_t from = os_monotonic_ns();
    for (size_t i = 0; i < e->u.count; i++) {
        const struct t5_prompts p = prompts_of(e->u.m[i].prompt);
        e->v.task = &e->u.m[i].task;
        e->v.chain = e->generation.opts.key;
        TRY(evaluate(&e->v, &p, e->x[i], &e->a[i], err));
        figures_of(&e->a[i], e->x[i], &e->u.m[i].task, &e->figure[i], NULL);
    }
    e->answer_ns = os_monotonic_ns() - from;
    answer_progress_end(&e->progress);
    return SPT_OK;
}

/* --profile: where the time of answering went. */
static spt_status tell_profile(struct eval *e, spt_err *err)
{
    ops *inner = ops_profile_inner(e->u.engine.ops);
    const bool half = e->u.engine.compute == OPS_BFLOAT16 && ops_native_bfloat16();
    const struct profile_run run = {.what = "answering",
                                    .line = ops_profile_lines(e->u.engine.ops),
                                    .steps = 1,
                                    .total = (double)e->answer_ns * 1e-9,
                                    .peak = ops_cpu_peak(inner, half, 0.5)};
    double answered = 0;
    for (size_t i = 0; i < e->u.count; i++)
        answered += (double)e->a[i].n;
    buf text;
    buf_init(&text, PROFILE_MAX);
    buf_addf(&text, "loading: %.2f s; %.0f examples, %.1f a second\n", (double)e->load_ns * 1e-9,
             answered, run.total > 0 ? answered / run.total : 0);
    profile_text(&run, &text);
    spt_status st = buf_status(&text, "profile", err);
    if (!st)
        profile_log(&text);
    buf_clear(&text);
    json_writer w;
    json_write_init(&w, &text, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "event");
    json_string(&w, "profile");
    json_key(&w, "peak");
    json_f64(&w, run.peak);
    json_key(&w, "load_seconds");
    json_f64(&w, (double)e->load_ns * 1e-9);
    json_key(&w, "answering");
    profile_json(&run, &w);
    json_end_object(&w);
    buf_addc(&text, '\n');
    if (!st && e->s->json)
        st = output_text(e->out, &text, err);
    buf_release(&text);
    return st;
}

static const char *by_of(const struct eval *e)
{
    return e->opts.generate ? generation_name(&e->generation) : "ranking the labels";
}

static spt_status tell_one(struct eval *e, spt_err *err)
{
    uint64_t *confusion;
    struct figures f;
    const struct task_text *t = &e->u.m[0].task;
    TRY(confusion_new(e->a[0].labels, &confusion, err));
    figures_of(&e->a[0], e->x[0], t, &f, confusion);
    spt_status st = code_figures(e->s, &e->a[0], e->x[0], t, &f, err);
    if (!st && is_set(e->s->output) && comm_leads(e->s->comm))
        st = predictions_write(e->s->output, &e->a[0], e->x[0], t, NULL, err);
    if (!st)
        st = tell(e->s, e->out, &f, t, by_of(e), NULL, confusion, err);
    mem_free(confusion);
    return st;
}

static spt_status tell_ensemble(struct eval *e, spt_err *err)
{
    const struct task_text *t = &e->u.m[0].task;
    struct ensemble all = {0};
    struct figures f, mean;
    uint64_t *confusion = NULL;
    spt_status st =
        ensemble_combine(e->a, e->u.count, t, e->opts.length_normalize, &all, err);
    if (!st)
        st = confusion_new(all.vote.labels, &confusion, err);
    if (!st) {
        struct crowd c = {.u = &e->u, .each = e->figure};
        figures_of(&all.vote, e->x[0], t, &f, confusion);
        f.loss = NAN; /* a vote has none */
        st = code_figures(e->s, &all.vote, e->x[0], t, &f, err);
        if (all.mean.n) {
            figures_of(&all.mean, e->x[0], t, &mean, NULL);
            c.mean = &mean;
        }
        for (size_t i = 0; i < all.vote.n; i++)
            c.agreement += 100.0 * (double)all.agreement[i] / (double)all.vote.n;
        if (!st && is_set(e->s->output) && comm_leads(e->s->comm))
            st = predictions_write(e->s->output, &all.vote, e->x[0], t, all.agreement, err);
        if (!st)
            st = tell(e->s, e->out, &f, t,
                      e->opts.generate ? "majority vote over decoded texts" : "majority vote", &c,
                      confusion, err);
    }
    mem_free(confusion);
    ensemble_release(&all);
    return st;
}

static spt_status eval_model(struct settings *s, struct run_output *out, spt_err *err)
{
    struct eval e = {.s = s, .out = out};
    spt_status st = eval_open(&e, err);
    if (!st)
        st = answer_all(&e, err);
    if (!st)
        st = e.u.count > 1 ? tell_ensemble(&e, err) : tell_one(&e, err);
    if (!st && s->profile)
        st = tell_profile(&e, err);
    eval_close(&e);
    return st;
}

/* Metrics of an existing file: nothing is tokenised, no model is opened. */
static spt_status eval_predictions(struct settings *s, struct run_output *out, spt_err *err)
{
    struct predictions p = {0};
    struct figures f;
    uint64_t *confusion = NULL;
    spt_status st = predictions_read(s, &p, err);
    if (!st)
        st = confusion_new(p.answers.labels, &confusion, err);
    if (!st) {
        figures_of(&p.answers, p.examples, &p.task, &f, confusion);
        st = tell(s, out, &f, &p.task, "predictions file", NULL, confusion, err);
    }
    mem_free(confusion);
    predictions_release(&p);
    return st;
}

spt_status run_eval(struct settings *s, struct run_output *out, spt_err *err)
{
    if (!is_set(s->data) && !is_set(s->predictions))
        return err_set(err, SPT_E_USAGE, "--data FILE is missing");
    return is_set(s->predictions) ? eval_predictions(s, out, err) : eval_model(s, out, err);
}
