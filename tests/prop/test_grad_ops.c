/* Every op of the reference table: backward against central differences of forward, in double, and
 * the properties that its contract names. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "support/params.h"

#define STEP 1e-5
#define TOL 1e-8 /* truncation STEP^2, rounding 1e-16 / STEP */

static ops *open64(void)
{
    ops *o;
    spt_err err;
    EXPECT_OK(ops_ref_open_f64(&o, &err), &err);
    return o;
}

static double *values(int64_t n, double spread, uint64_t seed)
{
    double *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = spread * test_uniform(&seed);
    return v;
}

static double *zeros(int64_t n)
{
    return calloc((size_t)(n + 1), sizeof(double));
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static long checked; /* components of gradients, for the figure at the end (N2) */
static double largest;

/* f(ctx) is a scalar function of x[n]; d holds the analytic gradient. */
static void check_gradient(const char *what, double (*f)(void *ctx), void *ctx, double *x,
                           const double *d, int64_t n)
{
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        const double at = x[i];
        x[i] = at + STEP;
        const double up = f(ctx);
        x[i] = at - STEP;
        const double down = f(ctx);
        x[i] = at;
        const double diff = fabs((up - down) / (2 * STEP) - d[i]);
        worst = diff <= worst ? worst : diff;
        scale = fabs(d[i]) > scale ? fabs(d[i]) : scale;
    }
    const double off = worst / (scale > 1 ? scale : 1);
    checked += n;
    largest = off > largest ? off : largest;
    if (!(off <= TOL))
        fail_msg("%s: gradient off by %.3g (largest %.3g)", what, worst, scale);
}

/* --- products ------------------------------------------------------------------------------ */

static void products(void **state)
{
    enum { K = 7, N1 = 5, N2 = 3, N = N1 + N2, ROWS = 4 };
    ops *o = open64();
    spt_err err;
    float a[K * N1], b[N2 * K]; /* the second part lies transposed */
    uint64_t seed = 1;
    for (int i = 0; i < K * N1; i++)
        a[i] = (float)test_uniform(&seed);
    for (int i = 0; i < K * N2; i++)
        b[i] = (float)test_uniform(&seed);
    const struct ops_matrix parts[2] = {{{DT_F32, shape_2d(K, N1), a}, false, 0},
                                        {{DT_F32, shape_2d(N2, K), b}, true, 0}};
    ops_weight *w;
    EXPECT_OK(o->t->weight_new(o, parts, 2, OPS_FORWARD | OPS_BACKWARD, false, &w, &err), &err);
    EXPECT_TRUE(o->t->weight_bytes(w) >= K * N * sizeof(double));
    double *x = values(ROWS * K, 1, 2), *y = zeros(ROWS * N), *dy = values(ROWS * N, 1, 3),
           *dx = zeros(ROWS * K);
    o->t->matmul(o, w, x, y, ROWS, false);
    o->t->matmul_t(o, w, dy, dx, ROWS, false);
    for (int r = 0; r < ROWS; r++) {
        for (int n = 0; n < N; n++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += x[r * K + k] * (double)(n < N1 ? a[k * N1 + n] : b[(n - N1) * K + k]);
            EXPECT_NEAR(y[r * N + n], sum, 1e-14);
        }
        /* <dy, x W> = <dy W^T, x> */
        EXPECT_NEAR(dot(dy + r * N, y + r * N, N), dot(dx + r * K, x + r * K, K), 1e-13);
    }
    double *twice = zeros(ROWS * N);
    memcpy(twice, y, ROWS * N * sizeof *y);
    o->t->matmul(o, w, x, twice, ROWS, true);
    for (int i = 0; i < ROWS * N; i++)
        EXPECT_NEAR(twice[i], 2 * y[i], 1e-14);
    double *sum = zeros(ROWS * N), *twice_sum = zeros(ROWS * N);
    o->t->matmul_sum(o, w, x, y, sum, ROWS);
    memcpy(twice_sum, y, ROWS * N * sizeof *y);
    o->t->matmul(o, w, x, twice_sum, ROWS, true);
    EXPECT_TRUE(!memcmp(sum, twice_sum, ROWS * N * sizeof *sum));
    free(sum), free(twice_sum);
    const struct ops_matrix odd[2] = {parts[0], {{DT_F32, shape_2d(K + 1, 1), a}, false, 0}};
    ops_weight *no = NULL;
    EXPECT_STATUS(o->t->weight_new(o, odd, 2, OPS_FORWARD, false, &no, &err), SPT_E_FORMAT);
    EXPECT_TRUE(!no);
    free(x), free(y), free(dy), free(dx), free(twice);
    o->t->weight_free(o, w);
    ops_close(o);
}

/* --- norm ---------------------------------------------------------------------------------- */

enum { NORM_ROWS = 3, NORM_E = 9 };
struct norm {
    ops *o;
    double *x, *s, *dy, *y;
};

static double norm_value(void *ctx)
{
    struct norm *n = ctx;
    n->o->t->rmsnorm(n->o, n->x, n->s, 1e-2f, NORM_ROWS, NORM_E, n->y);
    return dot(n->y, n->dy, NORM_ROWS * NORM_E);
}

static void norm(void **state)
{
    const int64_t size = NORM_ROWS * NORM_E;
    struct norm n = {open64(), values(size, 2, 1), values(NORM_E, 1, 2), values(size, 1, 3),
                     zeros(size)};
    double *dx = zeros(size), *sum = values(size, 1, 4), *in_place = zeros(size);
    double *before = zeros(size);
    memcpy(before, sum, (size_t)size * sizeof *sum);
    n.o->t->rmsnorm_bwd(n.o, n.x, n.s, 1e-2f, n.dy, NORM_ROWS, NORM_E, dx, false);
    check_gradient("rmsnorm", norm_value, &n, n.x, dx, size);
    n.o->t->rmsnorm_bwd(n.o, n.x, n.s, 1e-2f, n.dy, NORM_ROWS, NORM_E, sum, true);
    memcpy(in_place, n.dy, (size_t)size * sizeof *in_place);
    n.o->t->rmsnorm_bwd(n.o, n.x, n.s, 1e-2f, in_place, NORM_ROWS, NORM_E, in_place, false);
    for (int64_t i = 0; i < size; i++) {
        EXPECT_NEAR(sum[i], before[i] + dx[i], 1e-15);
        EXPECT_EQ_F64(in_place[i], dx[i]);
    }
    norm_value(&n);
    n.o->t->rmsnorm(n.o, n.x, n.s, 1e-2f, NORM_ROWS, NORM_E, n.x);
    EXPECT_TRUE(!memcmp(n.x, n.y, (size_t)size * sizeof *n.x));
    free(n.x), free(n.s), free(n.dy), free(n.y), free(dx), free(sum), free(in_place), free(before);
    ops_close(n.o);
}

/* --- activations --------------------------------------------------------------------------- */

enum { ACT_ROWS = 4, ACT_F = 5, ACT_B = 2 };
struct act {
    ops *o;
    enum ops_activation act;
    bool gated;
    const float *drop;
    double *h, *g, *dg;
};
static const int64_t act_off[ACT_B + 1] = {0, 1, 4};

static double act_value(void *ctx)
{
    struct act *a = ctx;
    a->o->t->activate(a->o, a->act, a->gated, a->h, ACT_ROWS, ACT_F, act_off, ACT_B, a->drop, a->g);
    return dot(a->g, a->dg, ACT_ROWS * ACT_F);
}

static void activations(void **state)
{
    static const float drop[ACT_B * ACT_F] = {1, 0, 1.25f, 2, 0, 0, 1.5f, 1, 0, 3};
    ops *o = open64();
    for (int i = 0; i < 16; i++) {
        const enum ops_activation kinds[] = {OPS_RELU, OPS_GELU_TANH, OPS_GELU_ERF, OPS_SILU};
        const bool gated = i & 4;
        const int64_t n = ACT_ROWS * ACT_F * (gated ? 2 : 1);
        struct act a = {o,
                        kinds[i & 3],
                        gated,
                        i & 8 ? drop : NULL,
                        values(n, 3, 5),
                        zeros(ACT_ROWS * ACT_F),
                        values(ACT_ROWS * ACT_F, 1, 6)};
        double *dh = zeros(n);
        o->t->activate_bwd(o, a.act, gated, a.h, a.dg, ACT_ROWS, ACT_F, act_off, ACT_B, a.drop, dh);
        check_gradient("activate", act_value, &a, a.h, dh, n);
        free(a.h), free(a.g), free(a.dg), free(dh);
    }
    /* Values of the definitions, and saturation without NaN. */
    double h[5] = {1, -1, 40, -40, 0}, g[5];
    static const double want[4][5] = {
        {1, 0, 40, 0, 0},
        {0.8411919906082768, -0.15880800939172324, 40, 0, 0},
        {0.8413447460685429, -0.15865525393145707, 40, 0, 0},
        {0.7310585786300049, -0.2689414213699951, 40, -40 * 4.248354255291589e-18, 0}};
    for (int k = 0; k < 4; k++) {
        o->t->activate(o, (enum ops_activation)k, false, h, 1, 5, NULL, 0, NULL, g);
        for (int i = 0; i < 5; i++)
            EXPECT_NEAR(g[i], want[k][i], 1e-14);
    }
    ops_close(o);
}

/* --- attention ----------------------------------------------------------------------------- */

enum { AT_B = 4, AT_H = 2, AT_D = 3, AT_J = AT_H * AT_D, AT_SPAN = 3 };

struct at {
    ops *o;
    struct ops_attention a;
    double *q, *k, *v, *bias, *out, *dout, *lse;
    int64_t nq, nk;
};

static double at_value(void *ctx)
{
    struct at *t = ctx;
    t->o->t->attention(t->o, &t->a, t->out);
    return dot(t->out, t->dout, t->nq * AT_J);
}

static void check_attention(const int64_t *q_off, const int64_t *k_off, bool bias, bool causal,
                            const float *drop, const int64_t *q_first)
{
    struct at t = {.o = open64(), .nq = q_off[AT_B], .nk = k_off[AT_B]};
    const int64_t width = 3 * AT_J; /* q | k | v of one row when queries are keys */
    const bool self = !memcmp(q_off, k_off, (AT_B + 1) * sizeof *q_off);
    t.q = values(t.nq * width, 1.5, 1);
    t.k = self ? t.q : values(t.nk * width, 1.5, 2);
    t.v = self ? t.q : t.k;
    t.bias = values(AT_H * (2 * AT_SPAN + 1), 1, 3);
    t.out = zeros(t.nq * AT_J);
    t.dout = values(t.nq * AT_J, 1, 4);
    t.lse = zeros(t.nq * AT_H);
    t.a = (struct ops_attention){.B = AT_B,
                                 .heads = AT_H,
                                 .head_dim = AT_D,
                                 .q_off = q_off,
                                 .k_off = k_off,
                                 .q = t.q,
                                 .k = t.k + AT_J,
                                 .v = t.v + 2 * AT_J,
                                 .q_stride = width,
                                 .k_stride = width,
                                 .v_stride = width,
                                 .bias = bias ? t.bias : NULL,
                                 .span = AT_SPAN,
                                 .q_first = q_first,
                                 .causal = causal,
                                 .drop = drop,
                                 .lse = t.lse};
    at_value(&t);
    const int64_t nd = (t.nq > t.nk ? t.nq : t.nk) * width;
    double *d = zeros(nd), *dk = self ? d : zeros(nd);
    t.o->t->attention_bwd(t.o, &t.a, t.out, t.dout, d, dk + AT_J, dk + 2 * AT_J);
    /* Columns that are not q (or k, v) hold zero and have no effect, so one check covers all. */
    check_gradient("attention q", at_value, &t, t.q, d, t.nq * width);
    if (!self)
        check_gradient("attention k, v", at_value, &t, t.k, dk, t.nk * width);
    at_value(&t);

    /* dq NULL: the same keys and values. grad_rows: the same first rows, the rest untouched. */
    double *only = zeros(nd), *few = zeros(nd), *few_k = self ? few : zeros(nd);
    t.o->t->attention_bwd(t.o, &t.a, t.out, t.dout, NULL, only + AT_J, only + 2 * AT_J);
    for (int64_t i = 0; i < t.nk; i++)
        EXPECT_TRUE(
            !memcmp(only + i * width + AT_J, dk + i * width + AT_J, 2 * AT_J * sizeof *only));
    for (int64_t i = 0; i < nd; i++)
        few[i] = few_k[i] = 77;
    t.a.grad_rows = 2;
    t.o->t->attention_bwd(t.o, &t.a, t.out, t.dout, few, few_k + AT_J, few_k + 2 * AT_J);
    for (int64_t b = 0; b < AT_B; b++) {
        for (int64_t i = q_off[b]; i < q_off[b + 1]; i++)
            for (int j = 0; j < AT_J; j++)
                EXPECT_EQ_F64(few[i * width + j], i - q_off[b] < 2 ? d[i * width + j] : 77);
        for (int64_t i = k_off[b]; i < k_off[b + 1]; i++)
            for (int j = AT_J; j < 3 * AT_J; j++)
                EXPECT_EQ_F64(few_k[i * width + j], i - k_off[b] < 2 ? dk[i * width + j] : 77);
    }
    /* A query without keys gives zeros. */
    for (int64_t b = 0; b < AT_B; b++)
        for (int64_t i = q_off[b]; k_off[b] == k_off[b + 1] && i < q_off[b + 1]; i++)
            for (int j = 0; j < AT_J; j++)
                EXPECT_EQ_F64(t.out[i * AT_J + j], 0);
    if (!self)
        free(t.k), free(dk), free(few_k);
    free(t.q), free(t.bias), free(t.out), free(t.dout), free(t.lse);
    free(d), free(only), free(few);
    ops_close(t.o);
}

static void attention(void **state)
{
    static const int64_t q[] = {0, 3, 3, 8, 10}, k[] = {0, 1, 5, 11, 11}, first[] = {2, 0, 1, 4};
    float drop[64];
    for (int i = 0; i < 64; i++)
        drop[i] = i % 5 == 2 ? 0 : 1.25f;
    for (int i = 0; i < 8; i++) {
        check_attention(q, q, i & 1, i & 2, i & 4 ? drop : NULL, NULL);
        check_attention(q, k, i & 1, false, i & 4 ? drop : NULL, i & 2 ? first : NULL);
    }
}

/* Slots in any order give what the same keys side by side give. */
static void slots(void **state)
{
    enum { ROWS = 3, LEN = 4, SLOTS = 12 };
    static const int32_t lists[ROWS][LEN + 1] = {
        {7, 1, 4, 2, 99}, {7, 1, 0, 11, 99}, {3, 3, 5, 6, 99}};
    ops *o = open64();
    double *q = values(ROWS * AT_J, 1, 1), *kv = values(SLOTS * 2 * AT_J, 1, 2),
           *bias = values(AT_H * (2 * AT_SPAN + 1), 1, 3);
    double out[ROWS * AT_J], line[LEN * 2 * AT_J], want[AT_J];
    const struct ops_slots s = {.rows = ROWS,
                                .len = LEN,
                                .heads = AT_H,
                                .head_dim = AT_D,
                                .slots = lists[0],
                                .slot_stride = LEN + 1,
                                .q = q,
                                .k = kv,
                                .v = kv + AT_J,
                                .q_stride = AT_J,
                                .k_stride = 2 * AT_J,
                                .v_stride = 2 * AT_J,
                                .bias = bias,
                                .span = AT_SPAN};
    o->t->attention_slots(o, &s, out);
    for (int r = 0; r < ROWS; r++) {
        static const int64_t q_off[] = {0, 1}, k_off[] = {0, LEN}, first[] = {LEN - 1};
        for (int j = 0; j < LEN; j++)
            memcpy(line + j * 2 * AT_J, kv + lists[r][j] * 2 * AT_J, 2 * AT_J * sizeof *line);
        const struct ops_attention a = {.B = 1,
                                        .heads = AT_H,
                                        .head_dim = AT_D,
                                        .q_off = q_off,
                                        .k_off = k_off,
                                        .q = q + r * AT_J,
                                        .k = line,
                                        .v = line + AT_J,
                                        .q_stride = AT_J,
                                        .k_stride = 2 * AT_J,
                                        .v_stride = 2 * AT_J,
                                        .bias = bias,
                                        .span = AT_SPAN,
                                        .q_first = first,
                                        .causal = true};
        o->t->attention(o, &a, want);
        for (int j = 0; j < AT_J; j++)
            EXPECT_NEAR(out[r * AT_J + j], want[j], 1e-15);
    }
    free(q), free(kv), free(bias);
    ops_close(o);
}

/* --- loss ---------------------------------------------------------------------------------- */

enum { LOSS_ROWS = 3, LOSS_V = 6 };
struct loss {
    ops *o;
    struct ops_loss_args a;
    double *x;
};

static double loss_value(void *ctx)
{
    struct loss *l = ctx;
    double copy[LOSS_ROWS * LOSS_V], sum = 0;
    memcpy(copy, l->x, sizeof copy);
    l->a.backward = false;
    l->o->t->loss(l->o, copy, &l->a);
    for (int i = 0; i < LOSS_ROWS; i++)
        sum += l->a.loss[i];
    return sum;
}

static void loss(void **state)
{
    static const int32_t target[LOSS_ROWS] = {0, 5, 2};
    static const float weight[LOSS_ROWS] = {1, 0.25f, 2};
    double out[LOSS_ROWS], z[LOSS_ROWS], log_p[LOSS_ROWS];
    int32_t argmax[LOSS_ROWS];
    for (int i = 0; i < 8; i++) {
        struct loss l = {open64(),
                         {.rows = LOSS_ROWS,
                          .V = LOSS_V,
                          .target = target,
                          .weight = i & 1 ? weight : NULL,
                          .z_loss = i & 2 ? 0.1f : 0,
                          .label_smoothing = i & 4 ? 0.2f : 0,
                          .loss = out,
                          .z = z,
                          .log_p = log_p,
                          .argmax = argmax},
                         values(LOSS_ROWS * LOSS_V, 3, 9)};
        double d[LOSS_ROWS * LOSS_V];
        loss_value(&l);
        for (int r = 0; r < LOSS_ROWS; r++) {
            const double *x = l.x + r * LOSS_V;
            double sum = 0;
            int best = 0;
            for (int v = 0; v < LOSS_V; v++) {
                sum += exp(x[v]);
                best = x[v] > x[best] ? v : best;
            }
            EXPECT_NEAR(log_p[r], x[target[r]] - log(sum), 1e-14);
            EXPECT_EQ_I64(argmax[r], best);
            EXPECT_NEAR(z[r],
                        (double)l.a.z_loss * log(sum) * log(sum) *
                            (double)(l.a.weight ? weight[r] : 1),
                        1e-14);
        }
        memcpy(d, l.x, sizeof d);
        l.a.backward = true;
        l.o->t->loss(l.o, d, &l.a);
        check_gradient("loss", loss_value, &l, l.x, d, LOSS_ROWS * LOSS_V);
        free(l.x);
        ops_close(l.o);
    }
    /* Equal logits: the lowest index wins. A perfect prediction costs nothing with smoothing. */
    ops *o = open64();
    double even[LOSS_V] = {1, 1, 1, 1, 1, 1};
    struct ops_loss_args a = {
        .rows = 1, .V = LOSS_V, .target = target, .loss = out, .argmax = argmax};
    o->t->loss(o, even, &a);
    EXPECT_EQ_I64(argmax[0], 0);
    EXPECT_NEAR(out[0], log(6), 1e-14);
    double smooth[LOSS_V];
    for (int v = 0; v < LOSS_V; v++)
        smooth[v] = log(v == 0 ? 0.9 : 0.1 / 5);
    a.label_smoothing = 0.1f;
    o->t->loss(o, smooth, &a);
    EXPECT_TRUE(fabs(out[0]) < 1e-8); /* 0.1 is a float32 */
    double bad[LOSS_V] = {0, NAN, 0, 0, 0, 0};
    o->t->loss(o, bad, &a);
    EXPECT_TRUE(isnan(out[0]));
    double one[1] = {3}; /* a vocabulary of one */
    a.V = 1;
    o->t->loss(o, one, &a);
    EXPECT_TRUE(isfinite(out[0]));
    ops_close(o);
}

/* --- rows and elements --------------------------------------------------------------------- */

static void rows(void **state)
{
    ops *o = open64();
    spt_err err;
    static const int64_t index[] = {2, 0, 2}, off[] = {0, 2, 2, 3};
    static const float table[] = {0, 1, 10, 11, 20, 21}, drop[] = {2, 0, 5, 5, 0, 1};
    double src[] = {0, 1, 10, 11, 20, 21}, dst[6] = {0}, sum[6] = {1, 1, 1, 1, 1, 1};
    o->t->gather_rows(o, dst, src, index, 3, 2);
    EXPECT_TRUE(!memcmp(dst, (double[]){20, 21, 0, 1, 20, 21}, sizeof dst));
    o->t->scatter_rows(o, sum, src, index, 3, 2, true); /* twice into row 2 */
    EXPECT_TRUE(!memcmp(sum, (double[]){11, 12, 1, 1, 21, 23}, sizeof sum));
    o->t->scatter_rows(o, sum, src, index, 2, 2, false);
    EXPECT_TRUE(!memcmp(sum, (double[]){10, 11, 1, 1, 0, 1}, sizeof sum));
    o->t->drop_rows(o, src, 2, off, 3, drop);
    EXPECT_TRUE(!memcmp(src, (double[]){0, 0, 20, 0, 0, 21}, sizeof src));
    ops_weight *t;
    const struct ops_matrix m = {{DT_F32, shape_2d(3, 2), table}, false, 0};
    EXPECT_OK(o->t->table_new(o, &m, &t, &err), &err);
    o->t->gather(o, t, (const int32_t[]){1, 1, 0}, 3, dst);
    EXPECT_TRUE(!memcmp(dst, (double[]){10, 11, 10, 11, 0, 1}, sizeof dst));
    o->t->weight_free(o, t);
    o->t->add(o, dst, src, 6);
    o->t->scale(o, dst, 0.5f, 6);
    EXPECT_TRUE(!memcmp(dst, (double[]){5, 5.5, 15, 5.5, 0, 11}, sizeof dst));
    EXPECT_EQ_I64(o->t->find_nonfinite(o, dst, 6), -1);
    dst[4] = INFINITY;
    dst[5] = NAN;
    EXPECT_EQ_I64(o->t->find_nonfinite(o, dst, 6), 4);
    ops_close(o);
}

static int show_figure(void **state)
{
    printf("N2: %ld components of gradients of operations, largest relative error %.1e\n", checked,
           largest);
    return checked > 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),  cmocka_unit_test(norm),  cmocka_unit_test(activations),
        cmocka_unit_test(attention), cmocka_unit_test(slots), cmocka_unit_test(loss),
        cmocka_unit_test(rows),
    };
    return cmocka_run_group_tests(tests, NULL, show_figure);
}
