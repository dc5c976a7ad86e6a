#include "support/t5ref.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/test.h"

enum { MAX_ROWS = 64, MAX_TARGET = 8 };

static const struct {
    int n, m;
    int32_t enc[MAX_ROWS], tgt[MAX_TARGET];
} pairs[T5REF_PAIRS] = {
    {5, 2, {7, 33, 51, 21, 1}, {42, 1}},
    {1, 3, {1}, {9, 17, 1}},
    {3, 1, {95, 0 + 2, 1}, {1}},
    {40, 4, {3,  19, 33, 61, 32, 67, 3,  73, 8,  48, 10, 5,  12, 66, 14, 65, 26, 92, 30, 31,
             55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37, 1},
     {38, 51, 11, 1}},
};

static const float *weight(const struct tiny_t5 *m, const char *fmt, const char *stack, int64_t layer,
                           const char *rest)
{
    char name[160];
    snprintf(name, sizeof name, fmt, stack, (long long)layer, rest);
    return tiny_t5_values((struct tiny_t5 *)m, name);
}

/* y[rows, out] = x[rows, in] W^T, W [out, in] */
static double *linear(const double *x, int64_t rows, int64_t in, const float *w, int64_t out)
{
    double *y = calloc((size_t)(rows * out), sizeof *y);
    assert_non_null(y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < in; i++)
                y[r * out + o] += x[r * in + i] * w[o * in + i];
    return y;
}

static double *norm(const double *x, int64_t rows, int64_t E, const float *w, double eps)
{
    double *y = calloc((size_t)(rows * E), sizeof *y);
    assert_non_null(y);
    for (int64_t r = 0; r < rows; r++) {
        double s = 0;
        for (int64_t i = 0; i < E; i++)
            s += x[r * E + i] * x[r * E + i];
        for (int64_t i = 0; i < E; i++)
            y[r * E + i] = x[r * E + i] / sqrt(s / (double)E + eps) * w[i];
    }
    return y;
}

static void add_into(double *x, double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
    free(y);
}

/* key - query -> bucket (T5 paper; HF _relative_position_bucket) */
static int64_t bucket(int64_t rel, bool both, int64_t n, int64_t max)
{
    int64_t base = 0;
    if (both) {
        n /= 2;
        base = rel > 0 ? n : 0;
        rel = rel < 0 ? -rel : rel;
    } else {
        rel = rel < 0 ? -rel : 0;
    }
    const int64_t exact = n / 2;
    if (rel < exact)
        return base + rel;
    const int64_t far = exact + (int64_t)(log((double)rel / (double)exact) /
                                          log((double)max / (double)exact) * (double)(n - exact));
    return base + (far < n ? far : n - 1);
}

struct attention {
    const char *stack, *kind; /* "encoder", "0.SelfAttention" */
    int64_t layer;
    const float *table; /* [B, h], NULL: none */
    bool causal;
};

static double *attend(const struct tiny_t5 *m, const struct attention *a, const double *xq,
                      int64_t nq, const double *xk, int64_t nk)
{
    const int64_t E = m->c.width, h = m->c.heads, d = m->c.head_dim, J = h * d;
    char part[64];
    double *p[3];
    static const char *const names[] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++) {
        snprintf(part, sizeof part, "%s.%s.weight", a->kind, names[i]);
        p[i] = linear(i ? xk : xq, i ? nk : nq, E,
                      weight(m, "%s.block.%lld.layer.%s", a->stack, a->layer, part), J);
    }
    double *out = calloc((size_t)(nq * J), sizeof *out);
    assert_non_null(out);
    for (int64_t k = 0; k < h; k++) {
        for (int64_t q = 0; q < nq; q++) {
            double s[MAX_ROWS], sum = 0, top = -INFINITY;
            const int64_t end = a->causal ? q + 1 : nk;
            for (int64_t j = 0; j < end; j++) {
                s[j] = a->table ? a->table[bucket(j - q, !a->causal, m->c.buckets,
                                                  m->c.max_distance) * h + k]
                                : 0;
                for (int64_t i = 0; i < d; i++)
                    s[j] += p[0][q * J + k * d + i] * p[1][j * J + k * d + i];
                top = s[j] > top ? s[j] : top;
            }
            for (int64_t j = 0; j < end; j++)
                sum += s[j] = exp(s[j] - top);
            for (int64_t j = 0; j < end; j++)
                for (int64_t i = 0; i < d; i++)
                    out[q * J + k * d + i] += s[j] / sum * p[2][j * J + k * d + i];
        }
    }
    snprintf(part, sizeof part, "%s.o.weight", a->kind);
    double *y = linear(out, nq, J, weight(m, "%s.block.%lld.layer.%s", a->stack, a->layer, part), E);
    for (int i = 0; i < 3; i++)
        free(p[i]);
    free(out);
    return y;
}

static double activate(enum ops_activation act, double x)
{
    switch (act) {
    case OPS_RELU:
        return x > 0 ? x : 0;
    case OPS_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case OPS_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    default:
        return x / (1 + exp(-x));
    }
}

static double *feed_forward(const struct tiny_t5 *m, const struct t5ref_opts *o, const char *stack,
                            int64_t layer, const double *x, int64_t rows)
{
    const int64_t E = m->c.width, F = m->c.ff;
    const char *sub = stack[0] == 'e' ? "1.DenseReluDense" : "2.DenseReluDense";
    char part[64];
    double *g[2] = {NULL, NULL};
    for (int i = 0; i < (o->gated ? 2 : 1); i++) {
        snprintf(part, sizeof part, "%s.wi%s.weight", sub, !o->gated ? "" : i ? "_1" : "_0");
        g[i] = linear(x, rows, E, weight(m, "%s.block.%lld.layer.%s", stack, layer, part), F);
    }
    for (int64_t i = 0; i < rows * F; i++)
        g[0][i] = activate(o->act, g[0][i]) * (g[1] ? g[1][i] : 1);
    snprintf(part, sizeof part, "%s.wo.weight", sub);
    double *y = linear(g[0], rows, F, weight(m, "%s.block.%lld.layer.%s", stack, layer, part), E);
    free(g[0]);
    free(g[1]);
    return y;
}

static const float *table_of(const struct tiny_t5 *m, const struct t5ref_opts *o, const char *stack,
                             int64_t layer)
{
    return weight(m, "%s.block.%lld.layer.%s", stack, o->per_layer ? layer : 0,
                  "0.SelfAttention.relative_attention_bias.weight");
}

/* Rows of the embedding through one stack; e is the encoder's output for the decoder. */
static double *run_stack(const struct tiny_t5 *m, const struct t5ref_opts *o, const char *stack,
                         const int32_t *ids, int64_t n, const double *e, int64_t ne)
{
    const int64_t E = m->c.width;
    const bool dec = stack[0] == 'd';
    const float *emb = tiny_t5_values((struct tiny_t5 *)m, "shared.weight");
    double *x = calloc((size_t)(n * E), sizeof *x);
    assert_non_null(x);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < E; i++)
            x[r * E + i] = emb[ids[r] * E + i];
    const double eps = (double)m->c.norm_eps;
    for (int64_t l = 0; l < (dec ? m->c.dec_layers : m->c.enc_layers); l++) {
        const struct attention self = {stack, "0.SelfAttention", l, table_of(m, o, stack, l), dec};
        const struct attention cross = {stack, "1.EncDecAttention", l, NULL, false};
        const char *names[] = {"0.layer_norm.weight", "1.layer_norm.weight", "2.layer_norm.weight"};
        for (int sub = 0; sub < (dec ? 3 : 2); sub++) {
            double *y = norm(x, n, E, weight(m, "%s.block.%lld.layer.%s", stack, l, names[sub]), eps);
            add_into(x,
                     sub == 0          ? attend(m, &self, y, n, y, n)
                     : dec && sub == 1 ? attend(m, &cross, y, n, e, ne)
                                       : feed_forward(m, o, stack, l, y, n),
                     n * E);
            free(y);
        }
    }
    char name[64];
    snprintf(name, sizeof name, "%s.final_layer_norm.weight", stack);
    double *y = norm(x, n, E, tiny_t5_values((struct tiny_t5 *)m, name), eps);
    free(x);
    return y;
}

void t5ref_scores(const struct tiny_t5 *m, const struct t5ref_opts *o, double out[T5REF_PAIRS])
{
    const int64_t E = m->c.width, V = m->c.vocab;
    const float *head = tiny_t5_values((struct tiny_t5 *)m, o->head);
    for (int b = 0; b < T5REF_PAIRS; b++) {
        int32_t in[MAX_TARGET] = {0};
        for (int i = 1; i < pairs[b].m; i++)
            in[i] = pairs[b].tgt[i - 1];
        double *e = run_stack(m, o, "encoder", pairs[b].enc, pairs[b].n, NULL, 0);
        double *d = run_stack(m, o, "decoder", in, pairs[b].m, e, pairs[b].n);
        for (int64_t i = 0; o->scale && i < pairs[b].m * E; i++)
            d[i] /= sqrt((double)E);
        double *z = linear(d, pairs[b].m, E, head, V);
        out[b] = 0;
        for (int r = 0; r < pairs[b].m; r++) {
            double sum = 0;
            for (int64_t v = 0; v < V; v++)
                sum += exp(z[r * V + v] - z[r * V + pairs[b].tgt[r]]);
            out[b] -= log(sum);
        }
        free(e);
        free(d);
        free(z);
    }
}

/* --- through the library ------------------------------------------------------------------- */

static spt_status run_model(ops *o, t5_source *s, double *out, spt_err *err)
{
    int32_t enc[T5REF_PAIRS * MAX_ROWS], in[T5REF_PAIRS * MAX_TARGET], tgt[T5REF_PAIRS * MAX_TARGET];
    int64_t enc_off[T5REF_PAIRS + 1] = {0}, dec_off[T5REF_PAIRS + 1] = {0}, index[T5REF_PAIRS];
    for (int b = 0; b < T5REF_PAIRS; b++) {
        const int64_t e = enc_off[b], d = dec_off[b];
        index[b] = b;
        enc_off[b + 1] = e + pairs[b].n;
        dec_off[b + 1] = d + pairs[b].m;
        memcpy(enc + e, pairs[b].enc, (size_t)pairs[b].n * sizeof *enc);
        memcpy(tgt + d, pairs[b].tgt, (size_t)pairs[b].m * sizeof *tgt);
        for (int i = 0; i < pairs[b].m; i++)
            in[d + i] = i ? pairs[b].tgt[i - 1] : 0;
    }
    const struct packed_batch batch = {.B = T5REF_PAIRS, .enc_off = enc_off, .enc_ids = enc,
                                       .dec_off = dec_off, .dec_in = in, .dec_target = tgt,
                                       .Le = MAX_ROWS, .Ld = MAX_TARGET, .index = index};
    const struct t5_acts_plan plan = {.rows = enc_off[T5REF_PAIRS], .dec_rows = dec_off[T5REF_PAIRS],
                                      .examples = T5REF_PAIRS};
    const struct t5_loss_opts opts = {0};
    float losses[T5REF_PAIRS];
    struct t5_loss loss = {.example_loss = losses};
    t5_model *m = NULL;
    t5_acts *a = NULL;
    spt_status st = t5_model_new(o, s, 0, &m, err);
    if (!st)
        st = t5_acts_new(m, &plan, &a, err);
    if (!st)
        st = t5_forward(m, NULL, &batch, 0, T5REF_PAIRS, &opts, NULL, a, &loss, err);
    for (int b = 0; b < T5REF_PAIRS && !st; b++)
        out[b] = -(double)losses[b];
    t5_acts_free(a);
    t5_model_free(m);
    return st;
}

spt_status t5ref_scores_of_dir(const char *dir, const char *isa, enum ops_compute compute,
                               double out[T5REF_PAIRS], spt_err *err)
{
    const struct ops_config cfg = {.isa = isa, .compute = compute, .threads = 1};
    ops *o = NULL;
    t5_source *s = NULL;
    spt_status st = ops_open(&cfg, &o, err);
    if (!st)
        st = t5_source_open(dir, NULL, &s, err);
    if (!st)
        st = run_model(o, s, out, err);
    t5_source_close(s);
    ops_close(o);
    return st;
}

void t5ref_expect(const char *dir, const double want[T5REF_PAIRS], double tol)
{
    static const char *const isas[] = {"ref", NULL, NULL};
    double got[3][T5REF_PAIRS];
    for (int i = 0; i < 3; i++) {
        spt_err err = {0};
        EXPECT_OK(t5ref_scores_of_dir(dir, isas[i], OPS_FLOAT32, got[i], &err), &err);
        for (int b = 0; b < T5REF_PAIRS; b++)
            EXPECT_NEAR(got[i][b], want[b], tol);
    }
    assert_memory_equal(got[1], got[2], sizeof got[1]);
}
