#include "run/evaluate.h"

#include <math.h>
#include <string.h>

#include "decode/decode_model.h"
#include "metric/class_metrics.h"
#include "run/commands.h"

/* Decoder rows of label scoring in flight: enough for full product tiles, small next to the
 * encoder's; absorbed ones are as wide as a row and all heads. Which labels are scored together
 * changes no bit. RANGES: encoder passes whose examples the decoder takes together. */
enum { SCORE_ROWS = 1024, ABSORBED_ROWS = 256, RANGES = 8 };

struct evaluate_opts evaluate_opts_of(const struct settings *s, const struct task_text *t)
{
    return (struct evaluate_opts){
        .batch = s->batch,
        .micro_rows = s->micro_rows,
        .generate = s->generate || !t->labels || !strcmp(s->by ? s->by : "auto", "generate") ||
                    (strcmp(s->by ? s->by : "auto", "rank") && generation_asked(s)),
        .length_normalize = s->length_normalize,
        .max_output = s->max_output,
        .cross_attention = s->cross_attention ? s->cross_attention : "auto",
    };
}

/* Whether the distinct decoder rows of the labels are few enough. Every label adds one at least, so
 * only the first few labels of a large set are looked at. */
static bool absorbing_pays(const struct t5_config *c, const struct task_text *t, int64_t P_dec)
{
    const struct label_report *l = &t->report;
    int64_t rows = P_dec + 1;
    for (size_t k = 0; k < l->labels && t5_absorb_pays(c, rows); k++) {
        const size_t len = l->off[k + 1] - l->off[k];
        size_t shared = 0;
        for (size_t i = 0; i < k; i++) {
            const size_t other = l->off[i + 1] - l->off[i];
            size_t n = 0;
            while (n + 1 < len && n + 1 < other && l->ids[l->off[k] + n] == l->ids[l->off[i] + n])
                n++;
            shared = n > shared ? n : shared;
        }
        rows += (int64_t)(len - 1 - shared);
    }
    return t5_absorb_pays(c, rows);
}

bool evaluate_absorbs(const struct evaluate_opts *o, const struct t5_config *c,
                      const struct task_text *t, int64_t P_dec)
{
    if (o->generate || !t->report.labels || !strcmp(o->cross_attention, "plain"))
        return false;
    return !strcmp(o->cross_attention, "absorbed") || absorbing_pays(c, t, P_dec);
}

void answers_release(struct answers *a)
{
    for (size_t i = 0; a->text && i < a->n; i++)
        mem_free(a->text[i]);
    for (size_t i = 0; a->all && i < a->n * a->results; i++) {
        mem_free(a->all[i].text);
        mem_free(a->all[i].id);
    }
    mem_free(a->text);
    mem_free(a->all);
    mem_free(a->label);
    mem_free(a->target);
    mem_free(a->score);
    mem_free(a->prob);
    mem_free(a->target_score);
    *a = (struct answers){0};
}

const struct decoded *answers_best(const struct answers *a, size_t i)
{
    const struct decoded *d = a->all + i * a->results, *best = d;
    for (size_t k = 1; k < a->results; k++)
        if (d[k].score > best->score)
            best = d + k;
    return best;
}

static bool whole_batches(const struct evaluate_opts *o)
{
    return o->generate && o->generation && o->generation->opts.method == DECODE_SAMPLE_T5X;
}

/* The decoder costs nearly the same for a few sequences as for a full tile, so it takes the examples
 * of several passes through the encoder at once; the reference's sampling takes whole batches. */
static int64_t rows_in_flight(const struct evaluate_opts *o, int64_t longest)
{
    const int64_t all = o->batch * longest, most = RANGES * o->micro_rows;
    const int64_t rows = whole_batches(o) || all < most ? all : most;
    return rows > longest ? rows : longest;
}

spt_status evaluator_open(const struct engine *e, const struct task_text *t, int64_t longest_input,
                          int64_t longest_target, const struct evaluate_opts *o,
                          const struct prompt *prompt, struct evaluator *out, spt_err *err)
{
    struct evaluator v = {.engine = e, .task = t, .opts = *o};
    const bool decoder = prompt && prompt->use.side == PROMPT_DECODER;
    const int64_t P = prompt && !decoder ? prompt->P : 0, P_dec = decoder ? prompt->P : 0;
    v.rows = rows_in_flight(o, longest_input + P);
    v.pass_rows = longest_input + P > o->micro_rows ? longest_input + P : o->micro_rows;
    v.examples = v.rows / (P + 1) < o->batch ? v.rows / (P + 1) : o->batch;
    if (o->generation)
        v.chain = o->generation->opts.key;
    int64_t longest = longest_target;
    for (size_t k = 0; k < t->report.labels; k++) {
        const int64_t len = (int64_t)(t->report.off[k + 1] - t->report.off[k]);
        longest = len > longest ? len : longest;
    }
    v.longest = longest + P_dec;
    v.dec_rows = v.examples * v.longest;
    if (v.dec_rows < SCORE_ROWS)
        v.dec_rows = SCORE_ROWS;
    *out = v;
    return SPT_OK;
}

/* Activations for scoring, made when they are first needed: decoding has its own. v->acts is then
 * what was asked for. */
static spt_status get_acts(struct evaluator *v, bool absorb, spt_err *err)
{
    const int64_t fewer = v->longest > ABSORBED_ROWS ? v->longest : ABSORBED_ROWS;
    const int64_t dec_rows = absorb && fewer < v->dec_rows ? fewer : v->dec_rows;
    const struct t5_acts_plan plan = {
        .rows = v->pass_rows,
        .enc_rows = v->rows,
        .dec_rows = dec_rows,
        .examples = v->dec_rows, /* targets of a row or more each */
        .absorb = absorb,
    };
    v->acts = v->kept[absorb];
    v->score_rows = dec_rows;
    if (v->acts)
        return SPT_OK;
    TRY(t5_acts_new(v->engine->model, &plan, &v->kept[absorb], err));
    v->acts = v->kept[absorb];
    return SPT_OK;
}

void evaluator_close(struct evaluator *v)
{
    t5_acts_free(v->kept[0]);
    t5_acts_free(v->kept[1]);
    decode_model_free(v->decoder);
    *v = (struct evaluator){0};
}

/* --- passes over ranges of examples ----------------------------------------------------------- */

struct pass {
    struct evaluator *v;
    const struct t5_prompts *prompts;
    const struct packed_batch *batch;
    int64_t first, count; /* the encoded range */
    int64_t real;         /* examples of it that are not padding (reference's sampling) */
};

typedef spt_status (*range_fn)(void *ctx, const struct pass *p, spt_err *err);

static const struct task_text *task_at(const struct pass *p, int64_t e)
{
    const struct evaluator *v = p->v;
    return v->mix ? v->mix->task[v->task_of[p->batch->index[p->first + e]]] : v->task;
}

/* Ranks that hold one model leave a pass together. */
static spt_status asked_to_stop(const struct evaluator *v, bool *stop, spt_err *err)
{
    unsigned any = stop_requested();
    TRY(comm_any(v->engine->part, &any, err));
    *stop = any;
    return SPT_OK;
}

static spt_status interrupted(spt_err *err)
{
    return err_set(err, SPT_E_INTERRUPTED, "interrupted while evaluating");
}

/* Cuts a batch into ranges that fit and calls fn for each. */
static spt_status cut_batch(struct pass *p, bool encode, range_fn fn, void *ctx, spt_err *err)
{
    struct evaluator *v = p->v;
    const struct packed_batch *b = p->batch;
    const int64_t real = p->real;
    for (p->first = 0; p->first < b->B; p->first += p->count) {
        int64_t rows = 0, end = p->first;
        while (end < b->B && end - p->first < v->examples) {
            rows += p->prompts->P + b->enc_off[end + 1] - b->enc_off[end];
            if (rows > v->rows && end > p->first)
                break;
            end++;
        }
        p->count = end - p->first;
        p->real = real < end ? real - p->first : p->count;
        if (encode)
            TRY(t5_encode(v->engine->model, p->prompts, b, p->first, p->count, v->acts, err));
        TRY(fn(ctx, p, err));
        bool stop;
        TRY(asked_to_stop(v, &stop, err));
        if (stop)
            return interrupted(err);
    }
    return SPT_OK;
}

static spt_status set_prompts(const struct evaluator *v, batch *b, int32_t **prompt_of, size_t *cap,
                              spt_err *err)
{
    if (!v->prompt_of)
        return SPT_OK;
    const size_t n = (size_t)b->view.B;
    TRY(mem_grow(prompt_of, cap, n, sizeof **prompt_of, UINT32_MAX, err));
    for (size_t i = 0; i < n; i++)
        (*prompt_of)[i] = v->prompt_of[b->view.index[i]];
    b->view.prompt_of = *prompt_of;
    return SPT_OK;
}

/* Whole batches are dealt to the ranks. */
static bool is_mine(const struct evaluator *v, size_t i, int rank)
{
    return i % (size_t)comm_size(v->engine->data) == (size_t)rank;
}

/* Calls fn once for every range of examples that fits, of the batches of this rank; encode: with
 * its encoder rows in acts. What fn made is then shared with share(). */
static spt_status for_each_range(struct evaluator *v, const struct t5_prompts *prompts,
                                 const examples *x, bool encode, range_fn fn, void *ctx,
                                 spt_err *err)
{
    eval_order *order;
    batch b = {0};
    int32_t *prompt_of = NULL;
    size_t cap = 0;
    TRY(eval_order_new(x, (size_t)v->opts.batch, &order, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < eval_order_batches(order); i++) {
        const uint32_t *which;
        size_t n;
        if (!is_mine(v, i, comm_rank(v->engine->data)))
            continue;
        eval_order_at(order, i, &which, &n);
        st = batch_make(&b, x, which, n, v->task->max_input, v->task->max_target, err);
        struct pass p = {v, prompts, &b.view, 0, 0, (int64_t)n};
        if (!st)
            st = set_prompts(v, &b, &prompt_of, &cap, err);
        if (!st)
            st = cut_batch(&p, encode, fn, ctx, err);
        if (!st && v->progress)
            answer_progress_add(v->progress, n * (size_t)comm_size(v->engine->data));
    }
    mem_free(prompt_of);
    batch_release(&b);
    eval_order_free(order);
    return st;
}

/* As the reference batches: in the order of the file, the last batch filled up. */
static spt_status for_each_whole_batch(struct evaluator *v, const struct t5_prompts *prompts,
                                       const examples *x, range_fn fn, void *ctx, spt_err *err)
{
    const size_t B = (size_t)v->opts.batch, n = examples_count(x);
    uint32_t *which = mem_alloc(B, sizeof *which);
    int32_t *prompt_of = NULL;
    size_t cap = 0;
    batch b = {0};
    spt_status st = which ? SPT_OK : err_nomem(err, B * sizeof *which);
    for (size_t at = 0; !st && at < n; at += B) {
        for (size_t i = 0; i < B; i++)
            which[i] = (uint32_t)(at + i < n ? at + i : at);
        st = batch_make(&b, x, which, B, v->task->max_input, v->task->max_target, err);
        struct pass p = {v, prompts, &b.view, 0, 0, (int64_t)(n - at < B ? n - at : B)};
        if (!st)
            st = set_prompts(v, &b, &prompt_of, &cap, err);
        if (!st)
            st = cut_batch(&p, false, fn, ctx, err);
        if (!st && v->progress)
            answer_progress_add(v->progress, n - at < B ? n - at : B);
    }
    mem_free(prompt_of);
    mem_free(which);
    batch_release(&b);
    return st;
}

/* The bytes of an example's result, and back; both move on by what they used. */
struct row_codec {
    void *ctx;
    spt_status (*put)(void *ctx, size_t example, buf *to, spt_err *err);
    /* SPT_E_NOMEM only: the bytes are those of put. */
    spt_status (*take)(void *ctx, size_t example, const char **from, spt_err *err);
};

/* fn for every example of the batches of a rank, in order. */
static spt_status put_rows(const struct evaluator *v, const eval_order *order,
                           const struct row_codec *rows, buf *to, spt_err *err)
{
    for (size_t i = 0; i < eval_order_batches(order); i++) {
        const uint32_t *which;
        size_t n;
        if (!is_mine(v, i, comm_rank(v->engine->data)))
            continue;
        eval_order_at(order, i, &which, &n);
        for (size_t k = 0; k < n; k++)
            TRY(rows->put(rows->ctx, which[k], to, err));
    }
    return buf_status(to, "answers", err);
}

static spt_status take_rows(const struct evaluator *v, const eval_order *order,
                            const struct row_codec *rows, int rank, const char *from, spt_err *err)
{
    for (size_t i = 0; i < eval_order_batches(order); i++) {
        const uint32_t *which;
        size_t n;
        if (!is_mine(v, i, rank))
            continue;
        eval_order_at(order, i, &which, &n);
        for (size_t k = 0; k < n; k++)
            TRY(rows->take(rows->ctx, which[k], &from, err));
    }
    return SPT_OK;
}

/* Every rank gets the results of all; st: how it went here. */
static spt_status share(const struct evaluator *v, const examples *x, const struct row_codec *rows,
                        spt_status st, spt_err *err)
{
    comm *ranks = v->engine->data;
    if (comm_size(ranks) == 1)
        return st;
    /* To be interrupted is no failure: all stop, and go on together. */
    unsigned any = st == SPT_E_INTERRUPTED;
    if (!st || any)
        TRY(comm_any(ranks, &any, err));
    if (any)
        return interrupted(err);
    eval_order *order = NULL;
    struct comm_bytes all = {0};
    buf mine;
    buf_init(&mine, INT32_MAX);
    if (!st)
        st = eval_order_new(x, (size_t)v->opts.batch, &order, err);
    if (!st)
        st = put_rows(v, order, rows, &mine, err);
    st = comm_gather(ranks, st, buf_str(&mine), mine.len, &all, err);
    buf_release(&mine);
    for (int r = 0; !st && r < comm_size(ranks); r++)
        if (r != comm_rank(ranks))
            st = take_rows(v, order, rows, r, all.bytes + all.off[r], err);
    comm_bytes_release(&all);
    eval_order_free(order);
    return st;
}

/* A row of n floats per example. */
struct float_rows {
    float *row;
    size_t n;
};

static spt_status put_floats(void *ctx, size_t example, buf *to, spt_err *err)
{
    const struct float_rows *f = ctx;
    buf_add(to, f->row + example * f->n, f->n * sizeof *f->row);
    return SPT_OK;
}

static spt_status take_floats(void *ctx, size_t example, const char **from, spt_err *err)
{
    const struct float_rows *f = ctx;
    memcpy(f->row + example * f->n, *from, f->n * sizeof *f->row);
    *from += f->n * sizeof *f->row;
    return SPT_OK;
}

static spt_status share_floats(const struct evaluator *v, const examples *x, float *row, size_t n,
                               spt_status st, spt_err *err)
{
    struct float_rows f = {row, n};
    const struct row_codec rows = {&f, put_floats, take_floats};
    return share(v, x, &rows, st, err);
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

/* --- rank classification ---------------------------------------------------------------------- */

struct rank_ctx {
    struct target_list list;
    float **to;   /* [cap of list] where the score of a target goes */
    float *score; /* [n, K] */
    size_t K;
};

static spt_status flush_labels(struct rank_ctx *r, const struct pass *p, spt_err *err)
{
    if (r->list.n)
        TRY(target_list_score(&r->list, p, true, err));
    for (int64_t i = 0; i < r->list.n; i++)
        *r->to[i] = r->list.score[i];
    r->list.n = 0;
    return SPT_OK;
}

/* As many labels at once as the decoder rows allow; labels of an example lie side by side. */
static spt_status rank_range(void *ctx, const struct pass *p, spt_err *err)
{
    struct rank_ctx *r = ctx;
    int64_t rows = 0;
    r->list.n = 0;
    for (int64_t e = 0; e < p->count; e++) {
        const struct label_report *labels = &task_at(p, e)->report;
        float *score = r->score + (size_t)p->batch->index[p->first + e] * r->K;
        for (size_t k = 0; k < labels->labels; k++) {
            const int64_t len = (int64_t)(labels->off[k + 1] - labels->off[k]);
            if (rows + len + p->prompts->P_dec > p->v->score_rows) {
                TRY(flush_labels(r, p, err));
                rows = 0;
            }
            r->to[r->list.n] = score + k;
            target_list_add(&r->list, e, labels->ids + labels->off[k], len,
                            p->v->engine->config.start_id);
            rows += len + p->prompts->P_dec;
        }
    }
    return flush_labels(r, p, err);
}

/* What counts for label k: its log-likelihood, less what it gets without content, per token. */
static double label_value(const float *score, const struct task_text *t, size_t k, bool per_token)
{
    const double prior = t->prior ? (double)t->prior[k] : 0;
    const size_t len = t->report.off[k + 1] - t->report.off[k];
    return ((double)score[k] - prior) / (per_token ? (double)len : 1);
}

/* The label of the largest value, first on ties; -1 when one is not a number. prob: softmax. */
static int32_t best_label(const float *score, const struct task_text *t, bool per_token,
                          float *prob)
{
    int32_t best = -1;
    double most = 0, sum = 0;
    for (size_t k = 0; k < t->report.labels; k++) {
        const double x = label_value(score, t, k, per_token);
        if (isnan(x))
            return -1;
        if (best < 0 || x > most) {
            best = (int32_t)k;
            most = x;
        }
    }
    for (size_t k = 0; k < t->report.labels; k++)
        sum += exp(label_value(score, t, k, per_token) - most);
    for (size_t k = 0; k < t->report.labels; k++)
        prob[k] = (float)(exp(label_value(score, t, k, per_token) - most) / sum);
    return best;
}

static const struct task_text *task_of(const struct evaluator *v, size_t i)
{
    return v->mix ? v->mix->task[v->task_of[i]] : v->task;
}

static spt_status rank_labels(struct evaluator *v, const struct t5_prompts *prompts,
                              const examples *x, struct answers *a, spt_err *err)
{
    size_t cells;
    if (!mul_size(a->n, a->labels, &cells))
        return err_nomem(err, SIZE_MAX);
    a->score = mem_zalloc(cells, sizeof *a->score);
    a->prob = mem_zalloc(cells, sizeof *a->prob);
    struct rank_ctx r = {.score = a->score, .K = a->labels};
    const struct task_text *task = v->mix ? v->mix->task[v->task_of[0]] : v->task;
    r.to = mem_alloc((size_t)v->dec_rows, sizeof *r.to);
    spt_status st = a->score && a->prob && r.to
                        ? target_list_init(&r.list, v->dec_rows, v->dec_rows, err)
                        : err_nomem(err, cells * sizeof *a->score);
    if (!st)
        st = get_acts(v, evaluate_absorbs(&v->opts, &v->engine->config, task, prompts->P_dec), err);
    if (!st)
        st = for_each_range(v, prompts, x, true, rank_range, &r, err);
    st = share_floats(v, x, a->score, a->labels, st, err);
    for (size_t i = 0; !st && i < a->n; i++)
        a->label[i] = best_label(a->score + i * a->labels, task_of(v, i), v->opts.length_normalize,
                                 a->prob + i * a->labels);
    target_list_release(&r.list);
    mem_free(r.to);
    return st;
}

/* --- generation ------------------------------------------------------------------------------- */

struct generate_ctx {
    struct decode_opts opts;
    const struct generation *generation; /* or NULL */
    int32_t *forced;                     /* [examples, forced_len] or NULL */
    int64_t *number;                     /* [examples] */
    struct answers *a;
    buf text, stop_text;
};

/* Whether a stop text stands in what was decoded so far. */
static bool says_stop(void *ctx, int64_t example, const int32_t *tokens, int64_t n)
{
    struct generate_ctx *g = ctx;
    (void)example;
    buf_clear(&g->stop_text);
    if (vocab_decode(g->generation->engine->vocab, tokens, (size_t)n, &g->stop_text, NULL))
        return false;
    return generation_cut(g->generation, buf_str(&g->stop_text), g->stop_text.len) <
           g->stop_text.len;
}

static spt_status take_one(struct generate_ctx *g, const struct pass *p,
                           const struct decode_out *out, int64_t row, struct decoded *d,
                           spt_err *err)
{
    const int32_t *ids = out->tokens + row * out->len;
    d->score = out->score[row];
    d->tokens = out->length[row];
    if (!(d->id = mem_alloc((size_t)d->tokens, sizeof *d->id)))
        return err_nomem(err, (size_t)d->tokens * sizeof *d->id);
    memcpy(d->id, ids, (size_t)d->tokens * sizeof *d->id);
    buf_clear(&g->text);
    TRY(vocab_decode(p->v->engine->vocab, ids, (size_t)d->tokens, &g->text, err));
    TRY(buf_status(&g->text, "decoded text", err));
    size_t len = g->text.len;
    if (g->generation)
        len = generation_cut(g->generation, buf_str(&g->text), len);
    d->text = mem_strndup(buf_str(&g->text), len);
    return d->text ? SPT_OK : err_nomem(err, len);
}

static spt_status generate_range(void *ctx, const struct pass *p, spt_err *err)
{
    struct generate_ctx *g = ctx;
    struct decode_out out = {0};
    struct packed_batch numbered = *p->batch;
    numbered.index = g->number - p->first;
    for (int64_t e = 0; e < p->count; e++)
        g->number[e] = (int64_t)p->v->first_number + p->batch->index[p->first + e];
    if (g->opts.method == DECODE_SAMPLE_T5X) { /* step_rng, rng = split(rng) */
        g->opts.key = rng_split_at(p->v->chain, 2, 0, RNG_CLASSIC);
        p->v->chain = rng_split_at(p->v->chain, 2, 1, RNG_CLASSIC);
    }
    TRY(decode_model_run(p->v->decoder, p->prompts, &numbered, p->first, p->count, &g->opts,
                         g->forced, g->generation ? g->generation->forced_len : 0, &out, err));
    spt_status st = SPT_OK;
    for (int64_t e = 0; !st && e < p->real; e++) {
        struct decoded *to = g->a->all + (size_t)p->batch->index[p->first + e] * g->a->results;
        for (int64_t k = 0; !st && k < out.n; k++)
            st = take_one(g, p, &out, e * out.n + (out.best_last ? out.n - 1 - k : k), to + k, err);
    }
    decode_out_release(&out);
    return st;
}

static spt_status generate_init(struct generate_ctx *g, const struct evaluator *v,
                                struct answers *a, spt_err *err)
{
    const struct generation *given = v->opts.generation;
    g->a = a;
    g->generation = given;
    g->opts = given ? given->opts : decode_opts_default(DECODE_GREEDY);
    g->opts.max_len = v->opts.max_output;
    g->opts.start_id = v->engine->config.start_id;
    g->opts.eos_id = v->engine->config.eos_id;
    g->opts.want_scores = given != NULL;
    /* Ranks that hold one model stop between ranges, together. */
    g->opts.interrupted = v->engine->part ? NULL : stop_requested;
    buf_init(&g->text, (size_t)v->opts.max_output * 1024);
    buf_init(&g->stop_text, (size_t)v->opts.max_output * 1024);
    if (given && given->stops) {
        g->opts.stop_fn = says_stop;
        g->opts.stop_ctx = g;
    }
    a->results = (size_t)g->opts.n;
    const size_t n = (size_t)v->examples;
    g->number = mem_alloc(n, sizeof *g->number);
    a->text = mem_zalloc(a->n, sizeof *a->text);
    size_t cells;
    if (!mul_size(a->n, a->results, &cells))
        return err_nomem(err, SIZE_MAX);
    a->all = mem_zalloc(cells, sizeof *a->all);
    if (!a->text || !a->all || !g->number)
        return err_nomem(err, cells * sizeof *a->all);
    if (given && given->forced) {
        g->forced = mem_alloc(n, (size_t)given->forced_len * sizeof *g->forced);
        if (!g->forced)
            return err_nomem(err, n * (size_t)given->forced_len * sizeof *g->forced);
        for (size_t i = 0; i < n; i++)
            memcpy(g->forced + i * (size_t)given->forced_len, given->forced,
                   (size_t)given->forced_len * sizeof *g->forced);
    }
    return decode_check(&g->opts, v->engine->config.vocab, err);
}

/* The decoder's storage, kept from call to call. */
static spt_status get_decoder(struct evaluator *v, const struct decode_opts *o, int64_t P_dec,
                              spt_err *err)
{
    if (v->decoder && v->decoder_P == P_dec)
        return SPT_OK;
    const struct decode_model_plan plan = {
        .examples = v->examples,
        .enc_rows = v->rows,
        .pass_rows = v->pass_rows,
        .rows = decode_rows(o, v->examples),
        .max_len = v->opts.max_output,
        .P_dec = P_dec,
    };
    decode_model_free(v->decoder);
    v->decoder = NULL;
    v->decoder_P = P_dec;
    return decode_model_new(v->engine->model, &plan, &v->decoder, err);
}

static spt_status take_best(struct evaluator *v, struct answers *a, spt_err *err)
{
    for (size_t i = 0; i < a->n; i++) {
        const label_set *labels = task_of(v, i)->labels;
        if (!(a->text[i] = mem_strdup(answers_best(a, i)->text)))
            return err_nomem(err, strlen(answers_best(a, i)->text));
        a->label[i] = labels ? (int32_t)label_set_find(labels, a->text[i], strlen(a->text[i])) : -1;
    }
    return SPT_OK;
}

/* How one decoded answer travels between ranks: this, its ids, its text. */
struct decoded_head {
    float score;
    int32_t tokens;
    uint64_t text_len;
};

static spt_status put_decoded(void *ctx, size_t example, buf *to, spt_err *err)
{
    const struct answers *a = ctx;
    for (size_t k = 0; k < a->results; k++) {
        const struct decoded *d = &a->all[example * a->results + k];
        const char *text = d->text ? d->text : "";
        const struct decoded_head h = {d->score, d->tokens, strlen(text)};
        buf_add(to, &h, sizeof h);
        buf_add(to, d->id, (size_t)d->tokens * sizeof *d->id);
        buf_add(to, text, h.text_len);
    }
    return SPT_OK;
}

static spt_status take_decoded(void *ctx, size_t example, const char **from, spt_err *err)
{
    struct answers *a = ctx;
    for (size_t k = 0; k < a->results; k++) {
        struct decoded *d = &a->all[example * a->results + k];
        struct decoded_head h;
        memcpy(&h, *from, sizeof h);
        const char *ids = *from + sizeof h, *text = ids + (size_t)h.tokens * sizeof *d->id;
        d->score = h.score;
        d->tokens = h.tokens;
        d->id = mem_alloc((size_t)h.tokens, sizeof *d->id);
        d->text = mem_strndup(text, (size_t)h.text_len);
        if (!d->id || !d->text)
            return err_nomem(err, (size_t)h.text_len);
        memcpy(d->id, ids, (size_t)h.tokens * sizeof *d->id);
        *from = text + h.text_len;
    }
    return SPT_OK;
}

static spt_status generate_texts(struct evaluator *v, const struct t5_prompts *prompts,
                                 const examples *x, struct answers *a, spt_err *err)
{
    struct generate_ctx g = {0};
    spt_status st = generate_init(&g, v, a, err);
    if (!st)
        st = get_decoder(v, &g.opts, prompts->P_dec, err);
    if (whole_batches(&v->opts)) { /* its keys are a chain over the batches: all ranks do all */
        if (!st)
            st = for_each_whole_batch(v, prompts, x, generate_range, &g, err);
    } else {
        const struct row_codec rows = {a, put_decoded, take_decoded};
        if (!st)
            st = for_each_range(v, prompts, x, false, generate_range, &g, err);
        st = share(v, x, &rows, st, err);
    }
    if (!st)
        st = take_best(v, a, err);
    mem_free(g.forced);
    mem_free(g.number);
    buf_release(&g.text);
    buf_release(&g.stop_text);
    return st;
}

static size_t most_labels(const struct evaluator *v)
{
    size_t most = v->task->labels ? label_set_count(v->task->labels) : 0;
    for (size_t m = 0; v->mix && m < v->mix->count; m++) {
        const label_set *l = v->mix->task[m]->labels;
        if (l && label_set_count(l) > most)
            most = label_set_count(l);
    }
    return most;
}

spt_status evaluate(struct evaluator *v, const struct t5_prompts *prompts, const examples *x,
                    struct answers *out, spt_err *err)
{
    struct answers a = {.n = examples_count(x), .labels = most_labels(v)};
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

spt_status evaluate_prior(struct evaluator *v, const struct t5_prompts *prompts,
                          struct task_text *t, const char *text, spt_err *err)
{
    struct line_encoder line = {0};
    struct answers a = {.n = 1, .labels = t->report.labels};
    struct example e;
    examples *x;
    bool cut;
    if (!a.labels)
        return err_set(err, SPT_E_CONFIG, "--calibrate needs a label set: give --labels");
    const struct task_text *before = v->task;
    TRY(examples_new(&x, err));
    mem_free(t->prior);
    t->prior = NULL;
    v->task = t;
    spt_status st = line_encode(&line, t, text, strlen(text), &e, &cut, err);
    if (!st)
        st = examples_add(x, &e, err);
    if (!st && !(a.label = mem_alloc(1, sizeof *a.label)))
        st = err_nomem(err, sizeof *a.label);
    if (!st)
        st = rank_labels(v, prompts, x, &a, err);
    if (!st) {
        t->prior = a.score;
        a.score = NULL;
    }
    v->task = before;
    answers_release(&a);
    examples_free(x);
    line_encoder_release(&line);
    return st;
}

/* --- several prompts -------------------------------------------------------------------------- */

/* Members that may share a batch: same number of rows in the same place of the encoder, same way of
 * cross-attention. A decoder prompt is alone: the model takes one. */
static bool same_shape(const struct evaluator *v, size_t i, size_t k)
{
    const struct prompt *a = v->mix->prompt[i], *b = v->mix->prompt[k];
    const struct t5_config *c = &v->engine->config;
    return evaluate_absorbs(&v->opts, c, v->mix->task[i], 0) ==
               evaluate_absorbs(&v->opts, c, v->mix->task[k], 0) &&
           a->use.side == PROMPT_ENCODER && b->use.side == PROMPT_ENCODER && a->P == b->P &&
           a->use.combine == b->use.combine;
}

struct mix_group {
    const struct prompt_mix *mix;
    int32_t *local; /* [count] number of a member in the group, -1: not in it */
    int32_t members;
    float *rows; /* [members, P, E] */
    examples *x;
    size_t *at; /* [n] where an example of the group stands in the whole */
    int32_t *prompt_of, *task_of;
    size_t n;
};

static void group_clear(struct mix_group *g)
{
    mem_free_aligned(g->rows);
    examples_free(g->x);
    g->rows = NULL;
    g->x = NULL;
    g->n = 0;
    g->members = 0;
}

/* The group of member `first`, its prompts side by side, and the examples that use them. */
static spt_status group_make(struct mix_group *g, const struct evaluator *v, size_t first,
                             const examples *x, spt_err *err)
{
    const struct prompt_mix *mix = g->mix;
    const struct prompt *lead = mix->prompt[first];
    for (size_t m = 0; m < mix->count; m++)
        g->local[m] =
            m == first || (m > first && same_shape(v, first, m)) ? g->members++ : -1;
    const size_t cells = (size_t)(lead->P * lead->E);
    g->rows = mem_alloc_aligned((size_t)g->members, cells * sizeof *g->rows);
    if (!g->rows)
        return err_nomem(err, (size_t)g->members * cells * sizeof *g->rows);
    for (size_t m = 0; m < mix->count; m++)
        if (g->local[m] >= 0)
            memcpy(g->rows + (size_t)g->local[m] * cells, mix->prompt[m]->rows,
                   cells * sizeof *g->rows);
    TRY(examples_new(&g->x, err));
    for (size_t i = 0; i < examples_count(x); i++) {
        if (g->local[mix->of[i]] < 0)
            continue;
        const struct example e = examples_at(x, i);
        TRY(examples_add(g->x, &e, err));
        g->at[g->n] = i;
        g->prompt_of[g->n] = g->local[mix->of[i]];
        g->task_of[g->n++] = mix->of[i];
    }
    return SPT_OK;
}

/* Moves the answers of a group to their places. */
static spt_status group_scatter(const struct mix_group *g, struct answers *from, struct answers *to,
                                spt_err *err)
{
    if (from->score && !to->score) {
        to->score = mem_zalloc(to->n, to->labels * sizeof *to->score);
        to->prob = mem_zalloc(to->n, to->labels * sizeof *to->prob);
        if (!to->score || !to->prob)
            return err_nomem(err, to->n * to->labels * sizeof *to->score);
    }
    if (from->text && !to->text) {
        to->results = from->results;
        to->text = mem_zalloc(to->n, sizeof *to->text);
        to->all = mem_zalloc(to->n, to->results * sizeof *to->all);
        if (!to->text || !to->all)
            return err_nomem(err, to->n * to->results * sizeof *to->all);
    }
    for (size_t i = 0; i < g->n; i++) {
        const size_t at = g->at[i];
        to->label[at] = from->label[i];
        to->target[at] = from->target[i];
        if (from->score) {
            memcpy(to->score + at * to->labels, from->score + i * to->labels,
                   to->labels * sizeof *to->score);
            memcpy(to->prob + at * to->labels, from->prob + i * to->labels,
                   to->labels * sizeof *to->prob);
        }
        if (!from->text)
            continue;
        to->text[at] = from->text[i];
        from->text[i] = NULL;
        memcpy(to->all + at * to->results, from->all + i * to->results,
               to->results * sizeof *to->all);
        memset(from->all + i * to->results, 0, to->results * sizeof *to->all);
    }
    return SPT_OK;
}

static spt_status group_run(struct mix_group *g, size_t first, struct evaluator *v,
                            const examples *x, struct answers *out, spt_err *err)
{
    TRY(group_make(g, v, first, x, err));
    if (!g->n)
        return SPT_OK;
    struct t5_prompts p = prompts_of(g->mix->prompt[first]);
    if (p.enc) {
        p.enc = g->rows;
        p.count = g->members;
    }
    struct answers a = {0};
    v->prompt_of = g->prompt_of;
    v->task_of = g->task_of;
    TRY(evaluate(v, &p, g->x, &a, err));
    const spt_status st = group_scatter(g, &a, out, err);
    answers_release(&a);
    return st;
}

static spt_status run_groups(struct mix_group *g, struct evaluator *v, const examples *x,
                             struct answers *out, spt_err *err)
{
    const size_t n = examples_count(x);
    const struct prompt_mix *mix = g->mix;
    out->label = mem_alloc(n, sizeof *out->label);
    out->target = mem_alloc(n, sizeof *out->target);
    g->local = mem_alloc(mix->count, sizeof *g->local);
    g->at = mem_alloc(n, sizeof *g->at);
    g->prompt_of = mem_alloc(n, sizeof *g->prompt_of);
    g->task_of = mem_alloc(n, sizeof *g->task_of);
    bool *done = mem_zalloc(mix->count, sizeof *done);
    spt_status st =
        out->label && out->target && g->local && g->at && g->prompt_of && g->task_of && done
            ? SPT_OK
            : err_nomem(err, n * sizeof *g->at);
    for (size_t m = 0; !st && m < mix->count; m++) {
        if (done[m])
            continue;
        st = group_run(g, m, v, x, out, err);
        for (size_t k = 0; k < mix->count; k++)
            done[k] = done[k] || g->local[k] >= 0;
        group_clear(g);
    }
    mem_free(done);
    return st;
}

spt_status evaluate_mixed(struct evaluator *v, const struct prompt_mix *mix, const examples *x,
                          struct answers *out, spt_err *err)
{
    struct mix_group g = {.mix = mix};
    v->mix = mix;
    struct answers a = {.n = examples_count(x), .labels = most_labels(v)};
    const spt_status st = run_groups(&g, v, x, &a, err);
    group_clear(&g);
    mem_free(g.local);
    mem_free(g.at);
    mem_free(g.prompt_of);
    mem_free(g.task_of);
    v->mix = NULL;
    v->prompt_of = v->task_of = NULL;
    if (st) {
        answers_release(&a);
        return st;
    }
    *out = a;
    return SPT_OK;
}

/* --- scores of given targets ------------------------------------------------------------------ */

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
        st = get_acts(v, false, err);
    if (!st)
        st = for_each_range(v, prompts, x, true, target_range, &t, err);
    st = share_floats(v, x, score, 1, st, err);
    target_list_release(&t.list);
    return st;
}

/* --- figures ---------------------------------------------------------------------------------- */

static double exact_match(const struct answers *a, const examples *x, const struct task_text *t)
{
    size_t right = 0;
    for (size_t i = 0; i < a->n; i++) {
        const struct example e = examples_at(x, i);
        const char *got = a->text            ? a->text[i]
                          : a->label[i] >= 0 ? label_set_text(t->labels, (size_t)a->label[i])
                                             : "";
        /* Spaces around a text are lost in the vocabulary and are no part of a label. */
        const char *want = e.target_text;
        size_t got_len = strlen(got), want_len = e.target_text_len;
        label_trim(&want, &want_len);
        label_trim(&got, &got_len);
        right += got_len == want_len && !memcmp(got, want, got_len);
    }
    return a->n ? 100.0 * ((double)right / (double)a->n) : NAN;
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
    struct figures f = {.n = a->n,
                        .classes = a->labels,
                        .accuracy = NAN,
                        .macro_f1 = NAN,
                        .f1 = NAN,
                        .exact_match = NAN,
                        .loss = mean_loss(a)};
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
    return f->more                          ? f->score[0].value
           : !strcmp(metric, "accuracy")    ? f->accuracy
           : !strcmp(metric, "macro-f1")    ? f->macro_f1
           : !strcmp(metric, "f1")          ? f->f1
           : !strcmp(metric, "exact-match") ? f->exact_match
                                            : f->loss;
}

bool figure_lower_is_better(const char *metric)
{
    return !strcmp(metric, "loss");
}

bool figure_is_better(const char *metric, double a, double b)
{
    return figure_lower_is_better(metric) ? a < b : a > b;
}
