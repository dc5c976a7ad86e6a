/* Attention over packed ragged rows, forward and backward. One query at a time, in three passes
 * over its keys (maximum, sum, weighted values), so that no row of scores is ever stored: clarity
 * and no memory, at the price of computing each score more than once. */
#include "ops/ref/ref_internal.h"

#include <math.h>

static double bias_at(const void *bias, int64_t span, int64_t head, int64_t distance)
{
    if (!bias)
        return 0;
    const int64_t d = distance < -span ? -span : distance > span ? span : distance;
    return (double)((const real *)bias)[head * (2 * span + 1) + d + span];
}

/* One query of one head against its keys. Key j lies at k + row(j) * stride. */
struct query {
    int64_t D;
    int64_t nkeys;        /* visible keys */
    const int32_t *slots; /* row of key j, or NULL: first + j */
    int64_t first;
    const real *q;
    const real *k, *v; /* of this head */
    int64_t k_stride, v_stride;
    const void *bias;
    int64_t span, head, position; /* of the query */
    const float *drop;            /* [nkeys] or NULL */
};

static int64_t key_row(const struct query *q, int64_t j)
{
    return q->slots ? q->slots[j] : q->first + j;
}

static double score(const struct query *q, int64_t j)
{
    const real *k = q->k + key_row(q, j) * q->k_stride;
    double sum = 0;
    for (int64_t d = 0; d < q->D; d++)
        sum += (double)q->q[d] * (double)k[d];
    return sum + bias_at(q->bias, q->span, q->head, j - q->position);
}

/* log sum exp of the scores; -INFINITY without keys. */
static double log_sum(const struct query *q)
{
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < q->nkeys; j++) {
        const double s = score(q, j);
        if (!(s <= max)) /* a NaN becomes the maximum and stays visible */
            max = s;
    }
    for (int64_t j = 0; j < q->nkeys; j++)
        sum += exp(score(q, j) - max);
    return q->nkeys ? max + log(sum) : -INFINITY;
}

static double dropped(const struct query *q, int64_t j)
{
    return q->drop ? (double)q->drop[j] : 1;
}

/* Heads are accumulated CHUNK columns at a time. */
enum { CHUNK = 64 };

static int64_t chunk_end(int64_t at, int64_t D)
{
    return at + CHUNK < D ? at + CHUNK : D;
}

static void weighted_values(const struct query *q, double lse, real *out)
{
    for (int64_t at = 0; at < q->D; at += CHUNK) {
        const int64_t end = chunk_end(at, q->D);
        double sum[CHUNK] = {0};
        for (int64_t j = 0; j < q->nkeys; j++) {
            const double w = exp(score(q, j) - lse) * dropped(q, j);
            const real *v = q->v + key_row(q, j) * q->v_stride;
            for (int64_t d = at; d < end; d++)
                sum[d - at] += w * (double)v[d];
        }
        for (int64_t d = at; d < end; d++)
            out[d] = (real)sum[d - at];
    }
}

/* The query in row q_off[b] + i of head h. */
static struct query ragged_query(const struct ops_attention *a, int64_t b, int64_t i, int64_t h,
                                 int64_t drop_at)
{
    const int64_t D = a->head_dim, keys = a->k_off[b + 1] - a->k_off[b];
    const int64_t position = (a->q_first ? a->q_first[b] : 0) + i;
    return (struct query){
        .D = D,
        .nkeys = a->causal && position + 1 < keys ? position + 1 : keys,
        .first = a->k_off[b],
        .q = (const real *)a->q + (a->q_off[b] + i) * a->q_stride + h * D,
        .k = (const real *)a->k + h * D,
        .v = (const real *)a->v + h * D,
        .k_stride = a->k_stride,
        .v_stride = a->v_stride,
        .bias = a->bias,
        .span = a->span,
        .head = h,
        .position = position,
        .drop = a->drop ? a->drop + drop_at + h * keys : NULL,
    };
}

void REF(attention)(ops *o, const struct ops_attention *a, void *out)
{
    (void)o;
    const int64_t J = a->heads * a->head_dim;
    int64_t drop_at = 0;
    for (int64_t b = 0; b < a->B; b++) {
        for (int64_t i = 0; i < a->q_off[b + 1] - a->q_off[b]; i++)
            for (int64_t h = 0; h < a->heads; h++) {
                const struct query q = ragged_query(a, b, i, h, drop_at);
                const int64_t row = a->q_off[b] + i;
                const double lse = log_sum(&q);
                if (a->lse)
                    ((real *)a->lse)[row * a->heads + h] = (real)lse;
                weighted_values(&q, lse, (real *)out + row * J + h * a->head_dim);
            }
        drop_at += a->heads * (a->k_off[b + 1] - a->k_off[b]);
    }
}

void REF(attention_slots)(ops *o, const struct ops_slots *a, void *out)
{
    (void)o;
    const int64_t D = a->head_dim;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t h = 0; h < a->heads; h++) {
            const int64_t len = a->lens ? a->lens[r] : a->len;
            const struct query q = {
                .D = D,
                .nkeys = len,
                .slots = a->slots + r * a->slot_stride,
                .q = (const real *)a->q + r * a->q_stride + h * D,
                .k = (const real *)a->k + h * D,
                .v = (const real *)a->v + h * D,
                .k_stride = a->k_stride,
                .v_stride = a->v_stride,
                .bias = a->bias,
                .span = a->span,
                .head = h,
                .position = len - 1,
            };
            weighted_values(&q, log_sum(&q), (real *)out + (r * a->heads + h) * D);
        }
}

/* --- backward ------------------------------------------------------------------------------
 * With p = softmax(s), m the dropout multipliers, o = sum_j p_j m_j v_j:
 *   dv_j += p_j m_j do;  dp_j = m_j (do . v_j);  ds_j = p_j (dp_j - do . o)
 *   dq += ds_j k_j;      dk_j += ds_j q  */

static double dot(const real *x, const real *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

struct grad_out { /* rows of one head */
    const real *out, *dout;
    double lse;
};

static struct grad_out grad_of(const struct ops_attention *a, const void *out, const void *dout,
                               int64_t row, int64_t h)
{
    const int64_t at = (row * a->heads + h) * a->head_dim;
    return (struct grad_out){.out = (const real *)out + at,
                             .dout = (const real *)dout + at,
                             .lse = (double)((const real *)a->lse)[row * a->heads + h]};
}

static double score_grad(const struct query *q, const struct grad_out *g, int64_t j, double *p)
{
    *p = exp(score(q, j) - g->lse);
    const double dp = dropped(q, j) * dot(g->dout, q->v + key_row(q, j) * q->v_stride, q->D);
    return *p * (dp - dot(g->dout, g->out, q->D));
}

static void query_grad(const struct query *q, const struct grad_out *g, real *dq)
{
    for (int64_t at = 0; at < q->D; at += CHUNK) {
        const int64_t end = chunk_end(at, q->D);
        double sum[CHUNK] = {0};
        for (int64_t j = 0; j < q->nkeys; j++) {
            double p;
            const double ds = score_grad(q, g, j, &p);
            const real *k = q->k + key_row(q, j) * q->k_stride;
            for (int64_t d = at; d < end; d++)
                sum[d - at] += ds * (double)k[d];
        }
        for (int64_t d = at; d < end; d++)
            dq[d] = (real)sum[d - at];
    }
}

/* Key row j of example b, head h: every query that sees it adds, in order. */
static void key_grad(const struct ops_attention *a, const void *out, const void *dout, int64_t b,
                     int64_t j, int64_t h, int64_t drop_at, real *dk, real *dv)
{
    for (int64_t at = 0; at < a->head_dim; at += CHUNK) {
        const int64_t end = chunk_end(at, a->head_dim);
        double sum_k[CHUNK] = {0}, sum_v[CHUNK] = {0};
        for (int64_t i = 0; i < a->q_off[b + 1] - a->q_off[b]; i++) {
            const struct query q = ragged_query(a, b, i, h, drop_at);
            const struct grad_out g = grad_of(a, out, dout, a->q_off[b] + i, h);
            if (j >= q.nkeys)
                continue;
            double p;
            const double ds = score_grad(&q, &g, j, &p), w = p * dropped(&q, j);
            for (int64_t d = at; d < end; d++) {
                sum_k[d - at] += ds * (double)q.q[d];
                sum_v[d - at] += w * (double)g.dout[d];
            }
        }
        for (int64_t d = at; d < end; d++) {
            dk[d] = (real)sum_k[d - at];
            dv[d] = (real)sum_v[d - at];
        }
    }
}

static int64_t limited(const struct ops_attention *a, int64_t rows)
{
    return a->grad_rows && a->grad_rows < rows ? a->grad_rows : rows;
}

void REF(attention_bwd)(ops *o, const struct ops_attention *a, const void *out, const void *dout,
                        void *dq, void *dk, void *dv)
{
    (void)o;
    const int64_t D = a->head_dim;
    int64_t drop_at = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t queries = a->q_off[b + 1] - a->q_off[b];
        const int64_t keys = a->k_off[b + 1] - a->k_off[b];
        for (int64_t h = 0; h < a->heads; h++) {
            for (int64_t i = 0; dq && i < limited(a, queries); i++) {
                const struct query q = ragged_query(a, b, i, h, drop_at);
                const struct grad_out g = grad_of(a, out, dout, a->q_off[b] + i, h);
                query_grad(&q, &g, (real *)dq + (a->q_off[b] + i) * a->q_stride + h * D);
            }
            for (int64_t j = 0; j < limited(a, keys); j++) {
                const int64_t row = a->k_off[b] + j;
                key_grad(a, out, dout, b, j, h, drop_at, (real *)dk + row * a->k_stride + h * D,
                         (real *)dv + row * a->v_stride + h * D);
            }
        }
        drop_at += a->heads * keys;
    }
}
