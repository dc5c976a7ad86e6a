#include "run/evaluate.h"

#include <math.h>
#include <string.h>

#include "decode/decode_model.h"
#include "metric/class_metrics.h"
#include "run/commands.h"

/* Decoder rows of label scoring in flight: enough for full product tiles, small next to the
 * encoder's. Which labels are scored together changes no bit. */
enum { SCORE_ROWS = 1024 };

struct evaluate_opts evaluate_opts_of(const struct settings *s, const struct task_text *t)
{
    return (struct evaluate_opts){
        .batch = s->batch,
        .micro_rows = s->micro_rows,
        .generate = s->generate || !t->labels || !strcmp(s->by ? s->by : "auto", "generate"),
        .length_normalize = s->length_normalize,
        .max_output = s->max_output,
    };
}

void answers_release(struct answers *a)
{
    for (size_t i = 0; a->text && i < a->n; i++)
        mem_free(a->text[i]);
    mem_free(a->text);
    mem_free(a->label);
    mem_free(a->target);
    mem_free(a->score);
    mem_free(a->target_score);
    *a = (struct answers){0};
}

struct t5_prompts prompts_of(const struct prompt *p)
{
    if (!p)
        return (struct t5_prompts){0};
    if (p->use.side == PROMPT_DECODER)
        return (struct t5_prompts){.dec = p->rows, .P_dec = p->P, .count = 1};
    return (struct t5_prompts){.enc = p->rows, .count = 1, .P = p->P, .combine = p->use.combine};
}

spt_status evaluator_open(const struct engine *e, const struct task_text *t, int64_t longest_input,
                          int64_t longest_target, const struct evaluate_opts *o,
                          const struct prompt *prompt, struct evaluator *out, spt_err *err)
{
    struct evaluator v = {.engine = e, .task = t, .opts = *o};
    const bool decoder = prompt && prompt->use.side == PROMPT_DECODER;
    const int64_t P = prompt && !decoder ? prompt->P : 0, P_dec = decoder ? prompt->P : 0;
    v.rows = o->micro_rows > longest_input + P ? o->micro_rows : longest_input + P;
    v.examples = v.rows / (P + 1) < o->batch ? v.rows / (P + 1) : o->batch;
    int64_t longest = longest_target;
    for (size_t k = 0; k < t->report.labels; k++) {
        const int64_t len = (int64_t)(t->report.off[k + 1] - t->report.off[k]);
        longest = len > longest ? len : longest;
    }
    v.dec_rows = v.examples * (longest + P_dec);
    if (v.dec_rows < SCORE_ROWS)
        v.dec_rows = SCORE_ROWS;
    const struct t5_acts_plan plan = {
        .rows = v.rows,
        .dec_rows = v.dec_rows,
        .examples = v.dec_rows, /* targets of a row or more each */
    };
    TRY(t5_acts_new(e->model, &plan, &v.acts, err));
    *out = v;
    return SPT_OK;
}

void evaluator_close(struct evaluator *v)
{
    t5_acts_free(v->acts);
    *v = (struct evaluator){0};
}

/* --- passes over ranges of examples ------------------------------------------------------------- */

struct pass {
    struct evaluator *v;
    const struct t5_prompts *prompts;
    const struct packed_batch *batch;
    int64_t first, count; /* the encoded range */
};

typedef spt_status (*range_fn)(void *ctx, const struct pass *p, spt_err *err);

/* Calls fn once for every range of examples that fits; encode: with its encoder rows in acts. */
static spt_status for_each_range(struct evaluator *v, const struct t5_prompts *prompts,
                                 const examples *x, bool encode, range_fn fn, void *ctx,
                                 spt_err *err)
{
    eval_order *order;
    batch b = {0};
    TRY(eval_order_new(x, (size_t)v->opts.batch, &order, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < eval_order_batches(order); i++) {
        const uint32_t *which;
        size_t n;
        eval_order_at(order, i, &which, &n);
        st = batch_make(&b, x, which, n, v->task->max_input, v->task->max_target, err);
        struct pass p = {v, prompts, &b.view, 0, 0};
        while (!st && p.first < b.view.B) {
            int64_t rows = 0, end = p.first;
            while (end < b.view.B && end - p.first < v->examples) {
                rows += prompts->P + b.view.enc_off[end + 1] - b.view.enc_off[end];
                if (rows > v->rows && end > p.first)
                    break;
                end++;
            }
            p.count = end - p.first;
            if (encode)
                st = t5_encode(v->engine->model, prompts, &b.view, p.first, p.count, v->acts, err);
            if (!st)
                st = fn(ctx, &p, err);
            p.first = end;
            if (!st && stop_requested())
                st = err_set(err, SPT_E_INTERRUPTED, "interrupted while evaluating");
        }
    }
    batch_release(&b);
    eval_order_free(order);
    return st;
}

/* Targets of one t5_score call. */
struct target_list {
    int32_t *example;
    int64_t *off;
    int32_t *in, *out;
    float *score;
    int64_t n, cap_n, cap_rows;
};

static spt_status target_list_init(struct target_list *l, int64_t n, int64_t rows, spt_err *err)
{
    *l = (struct target_list){.cap_n = n, .cap_rows = rows};
    l->example = mem_alloc((size_t)n, sizeof *l->example);
    l->off = mem_alloc((size_t)n + 1, sizeof *l->off);
    l->in = mem_alloc((size_t)rows, sizeof *l->in);
    l->out = mem_alloc((size_t)rows, sizeof *l->out);
    l->score = mem_alloc((size_t)n, sizeof *l->score);
    if (!l->example || !l->off || !l->in || !l->out || !l->score)
        return err_nomem(err, (size_t)(n + rows) * sizeof *l->off);
    l->off[0] = 0;
    return SPT_OK;
}

static void target_list_release(struct target_list *l)
{
    mem_free(l->example);
    mem_free(l->off);
    mem_free(l->in);
    mem_free(l->out);
    mem_free(l->score);
}

static void target_list_add(struct target_list *l, int64_t example, const int32_t *ids, int64_t n,
                            int32_t start_id)
{
    const int64_t at = l->off[l->n];
    for (int64_t i = 0; i < n; i++) {
        l->in[at + i] = i ? ids[i - 1] : start_id;
        l->out[at + i] = ids[i];
    }
    l->example[l->n] = (int32_t)example;
    l->off[++l->n] = at + n;
}

/* labels: many targets per example that begin alike. */
static spt_status target_list_score(struct target_list *l, const struct pass *p, bool labels,
                                    spt_err *err)
{
    const struct t5_targets targets = {l->n, l->example, l->off, l->in, l->out, NULL};
    return (labels ? t5_score_labels : t5_score)(p->v->engine->model, p->prompts, &targets,
                                                 p->v->acts, l->score, NULL, NULL, err);
}

/* --- rank classification ------------------------------------------------------------------------ */

struct rank_ctx {
    struct target_list list;
    float *score; /* [n, K] */
};

/* As many labels at once as the decoder rows allow; labels of an example lie side by side. */
static spt_status rank_range(void *ctx, const struct pass *p, spt_err *err)
{
    struct rank_ctx *r = ctx;
    const struct label_report *labels = &p->v->task->report;
    const size_t K = labels->labels;
    const int32_t start = p->v->engine->config.start_id;
    for (size_t k = 0; k < K;) {
        size_t end = k;
        int64_t rows = 0;
        while (end < K) {
            rows += p->count * ((int64_t)(labels->off[end + 1] - labels->off[end]) +
                                p->prompts->P_dec);
            if (rows > p->v->dec_rows && end > k)
                break;
            end++;
        }
        r->list.n = 0;
        for (int64_t e = 0; e < p->count; e++)
            for (size_t j = k; j < end; j++)
                target_list_add(&r->list, e, labels->ids + labels->off[j],
                                (int64_t)(labels->off[j + 1] - labels->off[j]), start);
        TRY(target_list_score(&r->list, p, true, err));
        for (int64_t e = 0; e < p->count; e++) {
            float *row = r->score + (size_t)p->batch->index[p->first + e] * K;
            for (size_t j = k; j < end; j++)
                row[j] = r->list.score[e * (int64_t)(end - k) + (int64_t)(j - k)];
        }
        k = end;
    }
    return SPT_OK;
}

/* The label of the largest score, first on ties; -1 when a score is not a number. */
static int32_t best_label(const float *score, const struct label_report *labels, bool per_token)
{
    int32_t best = -1;
    float best_score = 0;
    for (size_t k = 0; k < labels->labels; k++) {
        const size_t len = labels->off[k + 1] - labels->off[k];
        const float s = per_token ? score[k] / (float)len : score[k];
        if (isnan(s))
            return -1;
        if (best < 0 || s > best_score) {
            best = (int32_t)k;
            best_score = s;
        }
    }
    return best;
}

static spt_status rank_labels(struct evaluator *v, const struct t5_prompts *prompts,
                              const examples *x, struct answers *a, spt_err *err)
{
    const struct label_report *labels = &v->task->report;
    const size_t K = labels->labels;
    size_t cells;
    if (!mul_size(a->n, K, &cells))
        return err_nomem(err, SIZE_MAX);
    a->score = mem_zalloc(cells, sizeof *a->score);
    struct rank_ctx r = {.score = a->score};
    int64_t longest = 0;
    for (size_t k = 0; k < K; k++)
        if ((int64_t)(labels->off[k + 1] - labels->off[k]) > longest)
            longest = (int64_t)(labels->off[k + 1] - labels->off[k]);
    const int64_t rows = v->dec_rows > v->examples * longest ? v->dec_rows : v->examples * longest;
    spt_status st = a->score ? target_list_init(&r.list, rows, rows, err)
                             : err_nomem(err, cells * sizeof *a->score);
    if (!st)
        st = for_each_range(v, prompts, x, true, rank_range, &r, err);
    for (size_t i = 0; !st && i < a->n; i++)
        a->label[i] = best_label(a->score + i * K, labels, v->opts.length_normalize);
    target_list_release(&r.list);
    return st;
}

/* --- generation --------------------------------------------------------------------------------- */

struct generate_ctx {
    decode_model *model;
    struct decode_opts opts;
    struct answers *a;
    buf text;
};

static spt_status generate_range(void *ctx, const struct pass *p, spt_err *err)
{
    struct generate_ctx *g = ctx;
    struct decode_out out = {0};
    TRY(decode_model_run(g->model, p->prompts, p->batch, p->first, p->count, &g->opts, NULL, 0,
                         &out, err));
    spt_status st = SPT_OK;
    for (int64_t e = 0; !st && e < p->count; e++) {
        buf_clear(&g->text);
        st = vocab_decode(p->v->engine->vocab, out.tokens + e * out.len, (size_t)out.length[e],
                          &g->text, err);
        if (!st)
            st = buf_status(&g->text, "decoded text", err);
        char **at = &g->a->text[p->batch->index[p->first + e]];
        if (!st && !(*at = mem_strndup(buf_str(&g->text), g->text.len)))
            st = err_nomem(err, g->text.len);
    }
    decode_out_release(&out);
    return st;
}

static spt_status generate_texts(struct evaluator *v, const struct t5_prompts *prompts,
                                 const examples *x, struct answers *a, spt_err *err)
{
    struct generate_ctx g = {.a = a, .opts = decode_opts_default(DECODE_GREEDY)};
    g.opts.max_len = v->opts.max_output;
    g.opts.start_id = v->engine->config.start_id;
    g.opts.eos_id = v->engine->config.eos_id;
    buf_init(&g.text, (size_t)v->opts.max_output * 1024);
    const struct decode_model_plan plan = {
        .examples = v->examples,
        .enc_rows = v->rows,
        .rows = decode_rows(&g.opts, v->examples),
        .max_len = v->opts.max_output,
        .P_dec = prompts->P_dec,
    };
    a->text = mem_zalloc(a->n, sizeof *a->text);
    spt_status st = a->text ? decode_check(&g.opts, v->engine->config.vocab, err)
                            : err_nomem(err, a->n * sizeof *a->text);
    if (!st)
        st = decode_model_new(v->engine->model, &plan, &g.model, err);
    if (!st)
        st = for_each_range(v, prompts, x, false, generate_range, &g, err);
    for (size_t i = 0; !st && i < a->n; i++)
        a->label[i] = v->task->labels ? (int32_t)label_set_find(v->task->labels, a->text[i],
                                                                strlen(a->text[i]))
                                      : -1;
    decode_model_free(g.model);
    buf_release(&g.text);
    return st;
}

spt_status evaluate(struct evaluator *v, const struct t5_prompts *prompts, const examples *x,
                    struct answers *out, spt_err *err)
{
    struct answers a = {.n = examples_count(x)};
    if (v->task->labels)
        a.labels = label_set_count(v->task->labels);
    a.label = mem_alloc(a.n, sizeof *a.label);
    a.target = mem_alloc(a.n, sizeof *a.target);
    spt_status st = a.label && a.target ? SPT_OK : err_nomem(err, a.n * sizeof *a.label);
    for (size_t i = 0; !st && i < a.n; i++)
        a.target[i] = (int32_t)examples_at(x, i).label;
    if (!st)
        st = v->opts.generate ? generate_texts(v, prompts, x, &a, err)
                              : rank_labels(v, prompts, x, &a, err);
    if (st) {
        answers_release(&a);
        return st;
    }
    *out = a;
    return SPT_OK;
}

/* --- scores of given targets -------------------------------------------------------------------- */

struct target_ctx {
    struct target_list list;
    const examples *x;
    float *score;
};

static spt_status target_range(void *ctx, const struct pass *p, spt_err *err)
{
    struct target_ctx *t = ctx;
    t->list.n = 0;
    for (int64_t e = 0; e < p->count; e++) {
        const struct example ex = examples_at(t->x, (size_t)p->batch->index[p->first + e]);
        target_list_add(&t->list, e, ex.target, (int64_t)ex.target_len,
                        p->v->engine->config.start_id);
    }
    TRY(target_list_score(&t->list, p, false, err));
    for (int64_t e = 0; e < p->count; e++)
        t->score[p->batch->index[p->first + e]] = t->list.score[e];
    return SPT_OK;
}

spt_status evaluate_targets(struct evaluator *v, const struct t5_prompts *prompts,
                            const examples *x, float *score, spt_err *err)
{
    struct target_ctx t = {.x = x, .score = score};
    spt_status st = target_list_init(&t.list, v->examples, v->dec_rows, err);
    if (!st)
        st = for_each_range(v, prompts, x, true, target_range, &t, err);
    target_list_release(&t.list);
    return st;
}

/* --- figures ------------------------------------------------------------------------------------- */

static double exact_match(const struct answers *a, const examples *x, const struct task_text *t)
{
    size_t right = 0;
    for (size_t i = 0; i < a->n; i++) {
        const struct example e = examples_at(x, i);
        const char *got = a->text            ? a->text[i]
                          : a->label[i] >= 0 ? label_set_text(t->labels, (size_t)a->label[i])
                                             : "";
        const size_t len = strlen(got);
        right += len == e.target_text_len && !memcmp(got, e.target_text, len);
    }
    return a->n ? 100.0 * (double)right / (double)a->n : NAN;
}

static double mean_loss(const struct answers *a)
{
    double sum = 0;
    for (size_t i = 0; i < a->n; i++) {
        if (a->target_score)
            sum -= a->target_score[i];
        else if (a->score && a->target[i] >= 0)
            sum -= a->score[i * a->labels + (size_t)a->target[i]];
        else
            return NAN;
    }
    return a->n ? sum / (double)a->n : NAN;
}

static bool scores_are_numbers(const struct answers *a)
{
    for (size_t i = 0; a->score && i < a->n * a->labels; i++)
        if (isnan(a->score[i]))
            return false;
    return true;
}

void figures_of(const struct answers *a, const examples *x, const struct task_text *t,
                struct figures *out, uint64_t *confusion)
{
    const int32_t K = (int32_t)a->labels;
    struct figures f = {.n = a->n, .classes = a->labels, .accuracy = NAN, .macro_f1 = NAN,
                        .f1 = NAN, .exact_match = NAN, .loss = mean_loss(a)};
    if (scores_are_numbers(a)) {
        f.exact_match = exact_match(a, x, t);
        if (K) {
            f.outside = metric_outside(a->label, a->n, K);
            f.accuracy = metric_accuracy_declared(a->target, a->label, a->n, K);
            f.macro_f1 = metric_f1_macro(a->target, a->label, a->n, K);
            if (K == 2)
                f.f1 = metric_f1_binary(a->target, a->label, a->n);
        }
    }
    if (confusion && K)
        metric_confusion(a->target, a->label, a->n, K, confusion);
    *out = f;
}

double figure_value(const struct figures *f, const char *metric)
{
    return !strcmp(metric, "accuracy")      ? f->accuracy
           : !strcmp(metric, "macro-f1")    ? f->macro_f1
           : !strcmp(metric, "f1")          ? f->f1
           : !strcmp(metric, "exact-match") ? f->exact_match
                                            : f->loss;
}

bool figure_lower_is_better(const char *metric)
{
    return !strcmp(metric, "loss");
}
