/* Brute force over the table in blocks: 100 rows against 32,128 embeddings of width 768 are 2.5
 * billion multiply-adds, seconds, and memory is one block. Sums are double in index order, so that
 * the answer is the same everywhere. */
#include "prompt/neighbors.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { BLOCK = 512 };

static double dot(const float *a, const float *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += (double)a[i] * (double)b[i];
    return s;
}

static double distance2(const float *a, const float *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        s += d * d;
    }
    return s;
}

/* 0 where a vector is zero: it has no direction. */
static double cosine(double product, double norm_a, double norm_b)
{
    const double scale = norm_a * norm_b;
    return scale > 0 ? product / scale : 0;
}

/* Larger is nearer. A NaN of the table never counts as near. */
static double nearness(enum neighbor_metric m, double value)
{
    const double x = m == NEIGHBOR_COSINE ? value : -value;
    return isnan(x) ? -INFINITY : x;
}

/* Keeps list[0 .. k) sorted, nearest first; ids come in ascending order, so ties keep the smaller. */
static void offer(struct neighbor *list, int64_t *have, int64_t k, enum neighbor_metric m,
                  struct neighbor x)
{
    int64_t at = *have;
    if (at == k) {
        if (!(nearness(m, x.value) > nearness(m, list[k - 1].value)))
            return;
        at--;
    } else {
        ++*have;
    }
    for (; at > 0 && nearness(m, x.value) > nearness(m, list[at - 1].value); at--)
        list[at] = list[at - 1];
    list[at] = x;
}

struct search {
    const struct prompt *p;
    enum neighbor_metric metric;
    int64_t k;
    struct neighbor *out;
    int64_t *have; /* [P] */
    double *norm;  /* [P] */
    int32_t *ids;  /* [BLOCK] */
    float *rows;   /* [BLOCK, E] */
};

static void look_at(struct search *s, const float *row, int32_t id)
{
    const int64_t E = s->p->E;
    const double norm = s->metric == NEIGHBOR_COSINE ? sqrt(dot(row, row, E)) : 0;
    for (int64_t i = 0; i < s->p->P; i++) {
        const float *mine = s->p->rows + i * E;
        const double value = s->metric == NEIGHBOR_COSINE
                                 ? cosine(dot(mine, row, E), s->norm[i], norm)
                                 : sqrt(distance2(mine, row, E));
        offer(s->out + i * s->k, &s->have[i], s->k, s->metric, (struct neighbor){id, value});
    }
}

static spt_status search_all(struct search *s, const struct prompt_init_env *env, spt_err *err)
{
    for (int64_t i = 0; i < s->p->P; i++)
        s->norm[i] = sqrt(dot(s->p->rows + i * s->p->E, s->p->rows + i * s->p->E, s->p->E));
    for (int64_t first = 0; first < env->rows; first += BLOCK) {
        const int64_t n = env->rows - first < BLOCK ? env->rows - first : BLOCK;
        for (int64_t i = 0; i < n; i++)
            s->ids[i] = (int32_t)(first + i);
        TRY(env->embed(env->ctx, s->ids, n, s->rows, err));
        for (int64_t i = 0; i < n; i++)
            look_at(s, s->rows + i * s->p->E, s->ids[i]);
    }
    return SPT_OK;
}

spt_status neighbors_find(const struct prompt *p, const struct prompt_init_env *env,
                          enum neighbor_metric metric, int64_t k, struct neighbor *out,
                          spt_err *err)
{
    size_t row_bytes;
    if (k < 1 || k > env->rows || env->rows > INT32_MAX)
        return err_set(err, SPT_E_USAGE, "%lld neighbours of %lld embeddings", (long long)k,
                       (long long)env->rows);
    if (!mul_size((size_t)p->E, sizeof(float), &row_bytes))
        return err_nomem(err, SIZE_MAX);
    struct search s = {.p = p, .metric = metric, .k = k, .out = out};
    s.have = mem_zalloc((size_t)p->P, sizeof *s.have);
    s.norm = mem_zalloc((size_t)p->P, sizeof *s.norm);
    s.ids = mem_alloc(BLOCK, sizeof *s.ids);
    s.rows = mem_alloc_aligned(BLOCK, row_bytes);
    const spt_status st = s.have && s.norm && s.ids && s.rows ? search_all(&s, env, err)
                                                              : err_nomem(err, BLOCK * row_bytes);
    mem_free(s.have);
    mem_free(s.norm);
    mem_free(s.ids);
    mem_free_aligned(s.rows);
    return st;
}

/* --- rows among themselves ----------------------------------------------------------------- */

static void find_twin(const struct prompt *p, int64_t i, struct prompt_row_stats *out)
{
    const float *row = p->rows + i * p->E;
    out->twin = -1;
    out->twin_cosine = 0;
    for (int64_t j = 0; j < p->P; j++) {
        if (j == i)
            continue;
        const float *other = p->rows + j * p->E;
        const double c = cosine(dot(row, other, p->E), out->norm, sqrt(dot(other, other, p->E)));
        if (out->twin < 0 || c > out->twin_cosine) {
            out->twin = j;
            out->twin_cosine = c;
        }
    }
}

void prompt_stats(const struct prompt *p, const float *start, struct prompt_row_stats *out)
{
    for (int64_t i = 0; i < p->P; i++) {
        const float *row = p->rows + i * p->E;
        out[i].norm = sqrt(dot(row, row, p->E));
        find_twin(p, i, &out[i]);
        out[i].drift = out[i].drift_cosine = (double)NAN;
        if (!start)
            continue;
        const float *from = start + i * p->E;
        out[i].drift = sqrt(distance2(row, from, p->E));
        out[i].drift_cosine =
            cosine(dot(row, from, p->E), out[i].norm, sqrt(dot(from, from, p->E)));
    }
}
