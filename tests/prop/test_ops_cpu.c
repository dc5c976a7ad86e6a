/* Every operation of the fast backend against the double reference, on 100 random shapes each
 * (odd sizes, single rows and columns, sizes that no vector width divides), for every instruction
 * set this machine has, in float32 and bfloat16; and special values.
 *
 * Both sides get the same float32 inputs, so a difference is the backend's own rounding. Error is
 * measured against the largest value of the result (at least 1). */
#define _GNU_SOURCE /* setenv */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/ops.h"

/* float32: a sum of n products of numbers of size 1 has an error of about sqrt(n) 2^-24 times the
 * size of the sum; the factor leaves room for the worst of a few thousand sums. */
#define TOL_F32(n) (6e-8 * (8 + 2 * sqrt((double)(n))))
/* bfloat16 operands: each rounded by up to 2^-9; the errors of n products add like a random walk.
 */
#define TOL_BF16(n) (4e-3 * (2 + sqrt((double)(n)) / 4))
/* Element-wise passes with exp: the relative error of exp (2e-7) through a few operations. */
#define TOL_EXP 2e-6

/* SPT_TEST_SHAPES asks for more (make check-numbers). */
static int shapes = 100;

struct backend {
    const char *isa;
    enum ops_compute compute;
    bool tiles; /* products by oneDNN, as on machines with AMX */
};

static const struct backend backends[] = {
    {"avx2", OPS_FLOAT32, false},
    {"avx512", OPS_FLOAT32, false},
    {"avx2", OPS_BFLOAT16, false},
    {"avx512", OPS_BFLOAT16, false},
    {"avx512", OPS_BFLOAT16, true},
};

static uint64_t seed;

static uint32_t draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

/* 1 .. max, small values and edges of vectors often */
static int64_t size(int64_t max)
{
    static const int64_t edges[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129};
    const int64_t n = draw() % 2 ? edges[draw() % 16] : 1 + draw() % max;
    return n > max ? max : n;
}

static float uniform(void)
{
    return (float)draw() / 1073741824.0f - 1.0f;
}

static float *numbers(int64_t n)
{
    float *p = malloc((size_t)(n ? n : 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = uniform();
    return p;
}

/* One buffer on both sides. */
struct pair {
    void *ref, *fast;
    int64_t n;
};

static ops *ref, *fast;

static struct pair both(const float *x, int64_t n)
{
    struct pair p = {ref->t->alloc(ref, (size_t)(n ? n : 1) * ref->t->elem),
                     fast->t->alloc(fast, (size_t)(n ? n : 1) * fast->t->elem), n};
    ref->t->put(ref, p.ref, x, n);
    fast->t->put(fast, p.fast, x, n);
    return p;
}

static struct pair fresh(int64_t n)
{
    float *x = numbers(n);
    const struct pair p = both(x, n);
    free(x);
    return p;
}

static void drop(struct pair p)
{
    ref->t->release(ref, p.ref);
    fast->t->release(fast, p.fast);
}

/* What was compared, for the figure at the end (N1). */
static struct {
    const char *what;
    long shapes[sizeof backends / sizeof *backends], values;
    double worst; /* of what is allowed */
} tally[40];
static size_t tallies, backend_now;

static void count(const char *what, int64_t n, double share)
{
    size_t i = 0;
    while (i < tallies && strcmp(tally[i].what, what))
        i++;
    assert_true(i < sizeof tally / sizeof *tally);
    tallies = i == tallies ? i + 1 : tallies;
    tally[i].what = what;
    tally[i].shapes[backend_now]++;
    tally[i].values += n;
    tally[i].worst = share > tally[i].worst ? share : tally[i].worst;
}

static int show_tally(void **state)
{
    size_t worst = 0;
    long values = 0, fewest = 0;
    for (size_t i = 0; i < tallies; i++) {
        values += tally[i].values;
        worst = tally[i].worst > tally[worst].worst ? i : worst;
        for (size_t k = 0; k < sizeof backends / sizeof *backends; k++) {
            const long n = tally[i].shapes[k];
            fewest = n && (!fewest || n < fewest) ? n : fewest;
        }
    }
    if (tallies)
        printf("N1: %zu results of operations, at least %ld random shapes each on every instruction "
               "set and type, %ld values; largest error %.2f of what is allowed (%s)\n",
               tallies, fewest, values, tally[worst].worst, tally[worst].what);
    return !tallies || fewest >= 100 ? 0 : -1;
}

static void compare(const char *what, struct pair p, double tol)
{
    float *a = malloc((size_t)(p.n ? p.n : 1) * sizeof *a);
    float *b = malloc((size_t)(p.n ? p.n : 1) * sizeof *b);
    ref->t->get(ref, a, p.ref, p.n);
    fast->t->get(fast, b, p.fast, p.n);
    double top = 1, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < p.n; i++) {
        top = fabs((double)a[i]) > top ? fabs((double)a[i]) : top;
        const double e = fabs((double)a[i] - (double)b[i]);
        if (!(e <= worst)) {
            worst = e;
            at = i;
        }
    }
    count(what, p.n, tol > 0 ? worst / (tol * top) : 0);
    if (!(worst <= tol * top))
        fail_msg("%s %s: element %lld is %.9g, wanted %.9g: off by %g, allowed %g", fast->t->name,
                 what, (long long)at, (double)b[at], (double)a[at], worst, tol * top);
    free(a);
    free(b);
}

static bool open_backend(const struct backend *b)
{
    spt_err err = {0};
    const struct ops_config cfg = {.isa = b->isa, .compute = b->compute, .threads = 2};
    setenv("SPT_ONEDNN", b->tiles ? "1" : "0", 1);
    const spt_status st = ops_open(&cfg, &fast, &err);
    if (st == SPT_E_CONFIG)
        return false; /* not on this machine */
    EXPECT_OK(st, &err);
    EXPECT_OK(ops_ref_open_f64(&ref, &err), &err);
    return true;
}

static void each_backend(void (*fn)(bool half))
{
    int ran = 0;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (!open_backend(&backends[i]))
            continue;
        seed = 1 + i;
        backend_now = i;
        fn(backends[i].compute == OPS_BFLOAT16);
        ops_close(fast);
        ops_close(ref);
        ran++;
    }
    if (!ran)
        skip();
}

/* --- products ----------------------------------------------------------------------------------
 */

static const enum dtype file_types[] = {DT_F32, DT_BF16, DT_F16};

/* A random matrix as it lies in a file, unaligned now and then. */
static struct ops_matrix matrix(int64_t K, int64_t N, void **owned)
{
    const enum dtype t = file_types[draw() % 3];
    const size_t n = (size_t)(K * N), shift = draw() % 2;
    char *p = malloc(n * 4 + 16);
    char *at = p + shift * (t == DT_F32 ? 1 : 2);
    for (size_t i = 0; i < n; i++) {
        const float f = uniform();
        const uint16_t h = t == DT_BF16 ? f32_to_bf16(f) : f32_to_f16(f);
        if (t == DT_F32)
            memcpy(at + 4 * i, &f, 4);
        else
            memcpy(at + 2 * i, &h, 2);
    }
    *owned = p;
    const bool turned = draw() % 2;
    return (struct ops_matrix){
        .view = {.dtype = t, .shape = turned ? shape_2d(N, K) : shape_2d(K, N), .data = at},
        .transposed = turned};
}

static void products(bool half)
{
    spt_err err = {0};
    for (int s = 0; s < shapes; s++) {
        const int64_t K = size(300), rows = s % 20 ? size(140) : size(1500);
        const int parts = 1 + (int)(draw() % 3);
        struct ops_matrix m[3];
        void *owned[3];
        int64_t N = 0;
        for (int i = 0; i < parts; i++) {
            const int64_t n = size(200);
            m[i] = matrix(K, n, &owned[i]);
            N += n;
        }
        const bool head = draw() % 4 == 0, add = draw() % 2 && !head;
        ops_weight *a, *b;
        EXPECT_OK(ref->t->weight_new(ref, m, parts, 3, head, &a, &err), &err);
        EXPECT_OK(fast->t->weight_new(fast, m, parts, 3, head, &b, &err), &err);
        for (int i = 0; i < parts; i++)
            free(owned[i]); /* the parts are not kept */
        struct pair x = fresh(rows * K), y = fresh(rows * N), dx = fresh(rows * K);
        ref->t->matmul(ref, a, x.ref, y.ref, rows, add);
        fast->t->matmul(fast, b, x.fast, y.fast, rows, add);
        compare("matmul", y, half && !head ? TOL_BF16(K) : TOL_F32(K));
        /* From the same dy on both sides. */
        drop(y);
        y = fresh(rows * N);
        ref->t->matmul_t(ref, a, y.ref, dx.ref, rows, add);
        fast->t->matmul_t(fast, b, y.fast, dx.fast, rows, add);
        compare("matmul_t", dx, half && !head ? TOL_BF16(N) : TOL_F32(N));
        drop(x), drop(y), drop(dx);
        ref->t->weight_free(ref, a);
        fast->t->weight_free(fast, b);
    }
}

static void test_products(void **state)
{
    each_backend(products);
}

/* y = base + x W, and several matrices at once. */
static void sums_and_each(bool half)
{
    enum { MOST = 4 };
    spt_err err = {0};
    for (int s = 0; s < shapes; s++) {
        const int64_t K = size(300), N = size(200), rows = size(140), n = 1 + draw() % MOST;
        ops_weight *a[MOST], *b[MOST];
        for (int64_t i = 0; i < n; i++) {
            void *owned;
            const struct ops_matrix m = matrix(K, N, &owned);
            EXPECT_OK(ref->t->weight_new(ref, &m, 1, 3, false, &a[i], &err), &err);
            EXPECT_OK(fast->t->weight_new(fast, &m, 1, 3, false, &b[i], &err), &err);
            free(owned);
        }
        struct pair x = fresh(n * rows * K), base = fresh(rows * N), y = fresh(n * rows * N);
        ref->t->matmul_sum(ref, a[0], x.ref, base.ref, y.ref, rows);
        fast->t->matmul_sum(fast, b[0], x.fast, base.fast, y.fast, rows);
        compare("matmul_sum", y, half ? TOL_BF16(K) : TOL_F32(K));
        ref->t->matmul_each(ref, a, n, false, x.ref, y.ref, rows);
        fast->t->matmul_each(fast, b, n, false, x.fast, y.fast, rows);
        compare("matmul_each", y, half ? TOL_BF16(K) : TOL_F32(K));
        drop(y);
        y = fresh(n * rows * N);
        ref->t->matmul_each(ref, a, n, true, y.ref, x.ref, rows);
        fast->t->matmul_each(fast, b, n, true, y.fast, x.fast, rows);
        compare("matmul_each turned", x, half ? TOL_BF16(N) : TOL_F32(N));
        drop(x), drop(base), drop(y);
        for (int64_t i = 0; i < n; i++) {
            ref->t->weight_free(ref, a[i]);
            fast->t->weight_free(fast, b[i]);
        }
    }
}

static void test_sums_and_each(void **state)
{
    each_backend(sums_and_each);
}

/* Offsets of B examples over n rows; some examples are empty. */
static int64_t *offsets(int64_t B, int64_t n)
{
    int64_t *off = malloc((size_t)(B + 1) * sizeof *off);
    off[0] = 0;
    for (int64_t b = 1; b < B; b++)
        off[b] = off[b - 1] + draw() % (uint32_t)(n - off[b - 1] + 1);
    off[B] = n;
    return off;
}

/* Two products and an activation in between: the error of the first is scaled by the second. */
static void feeds(bool half)
{
    spt_err err = {0};
    for (int s = 0; s < shapes; s++) {
        const int64_t K = size(200), F = s % 3 ? 64 * (1 + draw() % 4) : size(200), N = size(150);
        const int64_t rows = s % 20 ? size(120) : size(900), B = size(5);
        const bool gated = draw() % 2, dropped = draw() % 3 == 0, add = draw() % 2;
        const int64_t wide = gated ? 2 * F : F;
        void *own_i, *own_o;
        const struct ops_matrix mi = matrix(K, wide, &own_i), mo = matrix(F, N, &own_o);
        ops_weight *ai, *ao, *bi, *bo;
        EXPECT_OK(ref->t->weight_new(ref, &mi, 1, 3, false, &ai, &err), &err);
        EXPECT_OK(ref->t->weight_new(ref, &mo, 1, 3, false, &ao, &err), &err);
        EXPECT_OK(fast->t->weight_new(fast, &mi, 1, 3, false, &bi, &err), &err);
        EXPECT_OK(fast->t->weight_new(fast, &mo, 1, 3, false, &bo, &err), &err);
        free(own_i), free(own_o);
        int64_t *off = offsets(B, rows);
        float *m = numbers(B * F);
        struct ops_feed f = {.wi = ai,
                             .wo = ao,
                             .act = {.act = (enum ops_activation)(draw() % 4),
                                     .gated = gated,
                                     .F = F,
                                     .drop = dropped ? m : NULL,
                                     .off = off,
                                     .B = B}};
        struct ops_feed g = f;
        g.wi = bi, g.wo = bo;
        struct pair x = fresh(rows * K), h = fresh(rows * wide), t = fresh(rows * F);
        struct pair base = fresh(rows * N), y = fresh(rows * N);
        ref->t->feed(ref, &f, x.ref, rows, h.ref, t.ref, add ? base.ref : NULL, y.ref);
        fast->t->feed(fast, &g, x.fast, rows, h.fast, t.fast, add ? base.fast : NULL, y.fast);
        const double one = half ? TOL_BF16(K) : TOL_F32(K), two = half ? TOL_BF16(F) : TOL_F32(F);
        compare("feed h", h, one);
        compare("feed", y, 4 * (one + two));
        drop(y), drop(h);
        y = fresh(rows * N), h = fresh(rows * wide);
        struct pair dh = fresh(rows * wide), dx = fresh(rows * K);
        ref->t->feed_bwd(ref, &f, y.ref, rows, h.ref, t.ref, dh.ref, dx.ref);
        fast->t->feed_bwd(fast, &g, y.fast, rows, h.fast, t.fast, dh.fast, dx.fast);
        compare("feed_bwd", dx, 4 * (half ? TOL_BF16(N) + TOL_BF16(wide) : TOL_F32(N) + TOL_F32(wide)));
        drop(x), drop(h), drop(t), drop(base), drop(y), drop(dh), drop(dx);
        free(off), free(m);
        ref->t->weight_free(ref, ai), ref->t->weight_free(ref, ao);
        fast->t->weight_free(fast, bi), fast->t->weight_free(fast, bo);
    }
}

static void test_feeds(void **state)
{
    each_backend(feeds);
}

static void tables(bool half)
{
    (void)half;
    spt_err err = {0};
    for (int s = 0; s < shapes; s++) {
        const int64_t V = size(200), E = size(100), rows = size(300);
        void *owned;
        struct ops_matrix m = matrix(V, E, &owned);
        m.transposed = false;
        m.view.shape = shape_2d(V, E);
        ops_weight *a, *b;
        EXPECT_OK(ref->t->table_new(ref, &m, &a, &err), &err);
        EXPECT_OK(fast->t->table_new(fast, &m, &b, &err), &err);
        free(owned);
        int32_t *ids = malloc((size_t)rows * sizeof *ids);
        for (int64_t i = 0; i < rows; i++)
            ids[i] = (int32_t)(draw() % (uint32_t)V);
        struct pair y = fresh(rows * E);
        ref->t->gather(ref, a, ids, rows, y.ref);
        fast->t->gather(fast, b, ids, rows, y.fast);
        compare("gather", y, 0);
        free(ids);
        drop(y);
        ref->t->weight_free(ref, a);
        fast->t->weight_free(fast, b);
    }
}

static void test_tables(void **state)
{
    each_backend(tables);
}

/* --- norm and element-wise ---------------------------------------------------------------------
 */

static void norms(bool half)
{
    (void)half;
    for (int s = 0; s < shapes; s++) {
        const int64_t E = size(1100), rows = size(60);
        /* Away from zero: the gradient is a difference of terms of size 1 / rms(x). */
        float *far = numbers(rows * E);
        for (int64_t i = 0; i < rows * E; i++)
            far[i] += far[i] < 0 ? -0.5f : 0.5f;
        struct pair x = both(far, rows * E), w = fresh(E), y = fresh(rows * E);
        struct pair dx = fresh(rows * E);
        free(far);
        ref->t->rmsnorm(ref, x.ref, w.ref, 1e-6f, rows, E, y.ref);
        fast->t->rmsnorm(fast, x.fast, w.fast, 1e-6f, rows, E, y.fast);
        compare("rmsnorm", y, TOL_F32(E));
        drop(y);
        y = fresh(rows * E);
        const bool add = draw() % 2;
        ref->t->rmsnorm_bwd(ref, x.ref, w.ref, 1e-6f, y.ref, rows, E, dx.ref, add);
        fast->t->rmsnorm_bwd(fast, x.fast, w.fast, 1e-6f, y.fast, rows, E, dx.fast, add);
        compare("rmsnorm_bwd", dx, TOL_F32(E));
        ref->t->rmsnorm_bwd(ref, x.ref, w.ref, 1e-6f, y.ref, rows, E, y.ref, false);
        fast->t->rmsnorm_bwd(fast, x.fast, w.fast, 1e-6f, y.fast, rows, E, y.fast, false);
        compare("rmsnorm_bwd in place", y, TOL_F32(E));
        ref->t->rmsnorm(ref, x.ref, w.ref, 1e-6f, rows, E, x.ref);
        fast->t->rmsnorm(fast, x.fast, w.fast, 1e-6f, rows, E, x.fast);
        compare("rmsnorm in place", x, TOL_F32(E));
        drop(x), drop(w), drop(y), drop(dx);
    }
}

static void test_norms(void **state)
{
    each_backend(norms);
}

static void activations(bool half)
{
    (void)half;
    for (int s = 0; s < shapes; s++) {
        const int64_t F = size(300), rows = size(70), B = size(5);
        const bool gated = draw() % 2, dropped = draw() % 3 == 0;
        const enum ops_activation act = (enum ops_activation)(draw() % 4);
        const int64_t wide = gated ? 2 * F : F;
        float *h = numbers(rows * wide), *m = numbers(B * F);
        for (int64_t i = 0; i < rows * wide; i++)
            h[i] *= s % 2 ? 3.0f : 12.0f;
        int64_t *off = offsets(B, rows);
        struct pair x = both(h, rows * wide), g = fresh(rows * F), dh = fresh(rows * wide);
        const float *mask = dropped ? m : NULL;
        ref->t->activate(ref, act, gated, x.ref, rows, F, off, B, mask, g.ref);
        fast->t->activate(fast, act, gated, x.fast, rows, F, off, B, mask, g.fast);
        compare("activate", g, TOL_EXP);
        drop(g);
        g = fresh(rows * F);
        ref->t->activate_bwd(ref, act, gated, x.ref, g.ref, rows, F, off, B, mask, dh.ref);
        fast->t->activate_bwd(fast, act, gated, x.fast, g.fast, rows, F, off, B, mask, dh.fast);
        compare("activate_bwd", dh, TOL_EXP);
        drop(x), drop(g), drop(dh);
        free(h), free(m), free(off);
    }
}

static void test_activations(void **state)
{
    each_backend(activations);
}

static void rows_and_flat(bool half)
{
    (void)half;
    for (int s = 0; s < shapes; s++) {
        const int64_t E = size(200), rows = size(300), src_rows = size(80), B = size(6);
        struct pair x = fresh(rows * E), y = fresh(src_rows * E);
        int64_t *index = malloc((size_t)rows * sizeof *index);
        for (int64_t i = 0; i < rows; i++)
            index[i] = draw() % (uint32_t)src_rows;
        ref->t->scatter_rows(ref, y.ref, x.ref, index, rows, E, true);
        fast->t->scatter_rows(fast, y.fast, x.fast, index, rows, E, true);
        compare("scatter_rows adding", y, TOL_F32(rows));
        ref->t->scatter_rows(ref, y.ref, x.ref, index, rows, E, false);
        fast->t->scatter_rows(fast, y.fast, x.fast, index, rows, E, false);
        compare("scatter_rows", y, TOL_F32(rows));
        ref->t->gather_rows(ref, x.ref, y.ref, index, rows, E);
        fast->t->gather_rows(fast, x.fast, y.fast, index, rows, E);
        compare("gather_rows", x, TOL_F32(rows));
        drop(x);
        x = fresh(rows * E);
        int64_t *off = offsets(B, rows);
        float *m = numbers(B * E);
        ref->t->drop_rows(ref, x.ref, E, off, B, m);
        fast->t->drop_rows(fast, x.fast, E, off, B, m);
        compare("drop_rows", x, TOL_F32(1));
        struct pair z = fresh(rows * E);
        ref->t->add(ref, z.ref, x.ref, rows * E);
        fast->t->add(fast, z.fast, x.fast, rows * E);
        compare("add", z, TOL_F32(1));
        ref->t->scale(ref, z.ref, 0.37f, rows * E);
        fast->t->scale(fast, z.fast, 0.37f, rows * E);
        compare("scale", z, TOL_F32(1));
        ref->t->copy(ref, x.ref, z.ref, rows * E);
        fast->t->copy(fast, x.fast, z.fast, rows * E);
        compare("copy", x, TOL_F32(1));
        ref->t->zero(ref, z.ref, rows * E);
        fast->t->zero(fast, z.fast, rows * E);
        compare("zero", z, 0);
        drop(x), drop(y), drop(z);
        free(index), free(off), free(m);
    }
}

static void test_rows_and_flat(void **state)
{
    each_backend(rows_and_flat);
}

/* --- attention ---------------------------------------------------------------------------------
 */

/* What attention in bfloat16 may lose: where the head size lets it multiply pairs (docs/design/cpu.md)
 * scores are off by their own operands' rounding, weights of the softmax by as much again. */
static double attention_tolerance(bool half, int64_t D, int64_t keys)
{
    const double exact = TOL_EXP * (2 + sqrt((double)D) + sqrt((double)keys));
    return half && D % 32 == 0 ? 2 * TOL_BF16(D) + exact : exact;
}

static void attend(bool half)
{
    for (int s = 0; s < shapes * (half ? 2 : 1); s++) { /* two ways of multiplying in bfloat16 */
        const int64_t B = size(5), H = size(4), D = s < shapes ? size(130) : 32 * size(5), J = H * D;
        const bool self = draw() % 2, causal = self && draw() % 2, dropped = draw() % 4 == 0;
        const int64_t nq = size(s % 10 ? 90 : 400), nk = self ? nq : size(150);
        int64_t *qo = offsets(B, nq), *ko = self ? qo : offsets(B, nk);
        const int64_t span = size(40);
        /* q, k, v side by side for self-attention; k and v side by side for cross-attention */
        const int64_t qs = self ? 3 * J : J, ks = self ? 3 * J : 2 * J;
        struct pair q = fresh(nq * qs), kv = fresh(nk * ks), bias = fresh(H * (2 * span + 1));
        struct pair lse = fresh(nq * H), y = fresh(nq * J), dy = fresh(nq * J);
        float *m = numbers(H * nk);
        int64_t *first = malloc((size_t)B * sizeof *first);
        for (int64_t b = 0; b < B; b++)
            first[b] = draw() % 5;
        struct ops_attention a = {.B = B,
                                  .heads = H,
                                  .head_dim = D,
                                  .q_off = qo,
                                  .k_off = ko,
                                  .q_stride = qs,
                                  .k_stride = ks,
                                  .v_stride = ks,
                                  .span = span,
                                  .causal = causal,
                                  .drop = dropped ? m : NULL,
                                  .q_first = draw() % 3 ? NULL : first};
        if (draw() % 3 == 0)
            a.grad_rows = size(50);
        const bool biased = draw() % 4 != 0;
        struct ops_attention r = a;
        const double *rk = self ? (const double *)q.ref + J : kv.ref;
        const float *fk = self ? (const float *)q.fast + J : kv.fast;
        r.q = q.ref, r.k = rk, r.v = rk + J, r.bias = biased ? bias.ref : NULL, r.lse = lse.ref;
        a.q = q.fast, a.k = fk, a.v = fk + J, a.bias = biased ? bias.fast : NULL;
        a.lse = lse.fast;
        ref->t->attention(ref, &r, y.ref);
        fast->t->attention(fast, &a, y.fast);
        const double tol = attention_tolerance(half, D, nk);
        compare("attention", y, tol);
        /* The empty examples have -inf on both sides: compare what is finite. */
        float *lr = malloc((size_t)(nq * H) * 4), *lf = malloc((size_t)(nq * H) * 4);
        ref->t->get_wide(ref, lr, lse.ref, nq * H);
        fast->t->get_wide(fast, lf, lse.fast, nq * H);
        for (int64_t i = 0; i < nq * H; i++)
            if (isinf(lr[i]))
                EXPECT_EQ_F64(lf[i], lr[i]);
            else
                EXPECT_NEAR(lf[i], lr[i], tol);
        free(lr), free(lf);
        struct pair dq = fresh(nq * qs), dkv = fresh(nk * ks);
        double *rdk = self ? (double *)dq.ref + J : dkv.ref;
        float *fdk = self ? (float *)dq.fast + J : dkv.fast;
        const bool want_q = draw() % 5 != 0;
        ref->t->attention_bwd(ref, &r, y.ref, dy.ref, want_q ? dq.ref : NULL, rdk, rdk + J);
        fast->t->attention_bwd(fast, &a, y.fast, dy.fast, want_q ? dq.fast : NULL, fdk, fdk + J);
        /* Untouched rows hold the same numbers on both sides. */
        compare("attention_bwd dq", dq, 4 * tol);
        compare("attention_bwd dkv", dkv, 4 * tol);
        drop(q), drop(kv), drop(bias), drop(lse), drop(y), drop(dy), drop(dq), drop(dkv);
        if (!self)
            free(ko);
        free(qo), free(m), free(first);
    }
}

static void test_attention(void **state)
{
    each_backend(attend);
}

static void slots(bool half)
{
    (void)half;
    for (int s = 0; s < shapes; s++) {
        const int64_t rows = size(20), len = size(70), H = size(4), D = size(80), J = H * D;
        const int64_t total = rows * len + 3, span = size(40);
        struct pair q = fresh(rows * J), k = fresh(total * J), v = fresh(total * J);
        struct pair bias = fresh(H * (2 * span + 1)), y = fresh(rows * J);
        int32_t *map = malloc((size_t)(rows * (len + 2)) * sizeof *map);
        for (int64_t i = 0; i < rows * (len + 2); i++)
            map[i] = (int32_t)(draw() % (uint32_t)total);
        struct ops_slots a = {.rows = rows,
                              .len = len,
                              .heads = H,
                              .head_dim = D,
                              .slots = map,
                              .slot_stride = len + 2,
                              .q_stride = J,
                              .k_stride = J,
                              .v_stride = J,
                              .span = span};
        struct ops_slots r = a;
        r.q = q.ref, r.k = k.ref, r.v = v.ref, r.bias = s % 3 ? bias.ref : NULL;
        a.q = q.fast, a.k = k.fast, a.v = v.fast, a.bias = s % 3 ? bias.fast : NULL;
        ref->t->attention_slots(ref, &r, y.ref);
        fast->t->attention_slots(fast, &a, y.fast);
        compare("attention_slots", y, TOL_EXP * (2 + sqrt((double)D) + sqrt((double)len)));
        drop(q), drop(k), drop(v), drop(bias), drop(y);
        free(map);
    }
}

static void test_slots(void **state)
{
    each_backend(slots);
}

/* --- loss --------------------------------------------------------------------------------------
 */

static void losses(bool half)
{
    (void)half;
    for (int s = 0; s < shapes; s++) {
        const int64_t V = s % 10 ? size(700) : 32128, rows = size(12);
        float *x = numbers(rows * V), *w = numbers(rows);
        for (int64_t i = 0; i < rows * V; i++)
            x[i] *= 20;
        int32_t *target = malloc((size_t)rows * sizeof *target);
        for (int64_t i = 0; i < rows; i++)
            target[i] = (int32_t)(draw() % (uint32_t)V);
        double out[2][3][130];
        int32_t best[2][130];
        struct pair logits = both(x, rows * V);
        struct ops_loss_args a = {.rows = rows,
                                  .V = V,
                                  .target = target,
                                  .weight = s % 3 ? w : NULL,
                                  .z_loss = s % 2 ? 1e-2f : 0,
                                  .label_smoothing = s % 4 == 3 ? 0.1f : 0,
                                  .backward = true};
        for (int side = 0; side < 2; side++) {
            a.loss = out[side][0], a.z = out[side][1], a.log_p = out[side][2];
            a.argmax = best[side];
            if (side)
                fast->t->loss(fast, logits.fast, &a);
            else
                ref->t->loss(ref, logits.ref, &a);
        }
        for (int64_t i = 0; i < rows; i++) {
            for (int f = 0; f < 3; f++)
                EXPECT_NEAR(out[1][f][i], out[0][f][i], TOL_EXP);
            EXPECT_EQ_I64(best[1][i], best[0][i]);
        }
        compare("loss gradient", logits, TOL_EXP);
        drop(logits);
        free(x), free(w), free(target);
    }
}

static void test_losses(void **state)
{
    each_backend(losses);
}

/* --- special values ----------------------------------------------------------------------------
 */

static float *plain(void *p)
{
    return p; /* elements of the fast backend are float32 */
}

static void specials(bool half)
{
    (void)half;
    const float u[] = {0.0f,  -0.0f,  1e-30f,  -1e-30f, 1e-42f,   88,        -88, 1000, -1000,
                       1e38f, -1e38f, 3.4e38f, 5,       INFINITY, -INFINITY, NAN, NAN};
    const int64_t n = sizeof u / sizeof *u;
    struct pair x = both(u, n), y = fresh(n), one = fresh(n), dx = fresh(n);
    float ones[32];
    for (int64_t i = 0; i < n; i++)
        ones[i] = 1;
    fast->t->put(fast, one.fast, ones, n);
    for (int act = 0; act < 4; act++) {
        fast->t->activate(fast, (enum ops_activation)act, false, x.fast, 1, n, NULL, 1, NULL,
                          y.fast);
        fast->t->activate_bwd(fast, (enum ops_activation)act, false, x.fast, one.fast, 1, n, NULL,
                              1, NULL, dx.fast);
        for (int64_t i = 0; i < n; i++) {
            const float g = plain(y.fast)[i], d = plain(dx.fast)[i];
            if (isnan(u[i])) {
                EXPECT_TRUE(isnan(g));
                continue;
            }
            if (u[i] >= 88) { /* the identity, slope 1 */
                EXPECT_EQ_F64(g, u[i]);
                EXPECT_NEAR(isinf(u[i]) ? 1 : d, 1, TOL_EXP);
            } else if (u[i] <= -88 && !isinf(u[i])) {
                EXPECT_NEAR(g, 0, 1e-30);
                EXPECT_NEAR(d, 0, 1e-6);
            }
        }
    }
    /* The first non-finite element. */
    EXPECT_EQ_I64(fast->t->find_nonfinite(fast, x.fast, n), 13);
    EXPECT_EQ_I64(fast->t->find_nonfinite(fast, x.fast, 13), -1);
    EXPECT_EQ_I64(fast->t->find_nonfinite(fast, plain(x.fast) + 15, 1), 0);
    EXPECT_EQ_I64(fast->t->find_nonfinite(fast, x.fast, 0), -1);
    drop(x), drop(y), drop(one), drop(dx);
    /* NaN among the logits reaches the loss; ties go to the lowest index. */
    for (int64_t V = 2; V < 70; V += 3) {
        float *l = numbers(V);
        double loss, logp;
        int32_t best, target = 0;
        struct ops_loss_args a = {
            .rows = 1, .V = V, .target = &target, .loss = &loss, .log_p = &logp, .argmax = &best};
        l[V / 2] = l[V - 1] = 7;
        fast->t->loss(fast, l, &a);
        EXPECT_EQ_I64(best, V / 2);
        l[V - 1] = NAN;
        fast->t->loss(fast, l, &a);
        EXPECT_TRUE(isnan(loss));
        l[V - 1] = -INFINITY;
        fast->t->loss(fast, l, &a);
        EXPECT_TRUE(isfinite(loss));
        free(l);
    }
}

static void test_specials(void **state)
{
    each_backend(specials);
}

/* exp over its range, through the softmax gradient: x = exp(x). */
static void exps(bool half)
{
    (void)half;
    double worst = 0;
    enum { N = 4096 };
    static float x[N];
    for (int s = 0; s < 50; s++) {
        float want[N];
        for (int i = 0; i < N; i++)
            want[i] = x[i] = -87 + 87 * ((float)draw() / 2147483648.0f);
        int32_t target = 0;
        double loss, logp;
        x[0] = want[0] = 30; /* log_z is near 30 and known */
        struct ops_loss_args a = {
            .rows = 1, .V = N, .target = &target, .loss = &loss, .log_p = &logp, .backward = true};
        fast->t->loss(fast, x, &a);
        const double log_z = (double)(float)(30 - logp);
        for (int i = 1; i < N; i++) {
            const double e = exp((double)(want[i] - (float)log_z));
            if (e > 0x1p-126)
                worst = fmax(worst, fabs((double)x[i] - e) / e);
        }
    }
    print_message("%s: relative error of exp %.3g\n", fast->t->name, worst);
    EXPECT_TRUE(worst < 2e-7);
}

static void test_exp(void **state)
{
    each_backend(exps);
}

/* --- refusals, memory --------------------------------------------------------------------------
 */

static void test_open(void **state)
{
    spt_err err = {0};
    ops *o = NULL;
    struct ops_config cfg = {.isa = "mmx"};
    EXPECT_STATUS(ops_open(&cfg, &o, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "mmx");
    EXPECT_TRUE(!o);
}

static void bad_weights(bool half)
{
    (void)half;
    spt_err err = {0};
    ops_weight *w = NULL;
    float x[12] = {0};
    struct ops_matrix m[2] = {{.view = {DT_F32, shape_2d(3, 4), x}},
                              {.view = {DT_F32, shape_2d(4, 3), x}}};
    EXPECT_STATUS(fast->t->weight_new(fast, m, 2, 3, false, &w, &err), SPT_E_FORMAT);
    m[0].view.shape = shape_1d(12);
    EXPECT_STATUS(fast->t->weight_new(fast, m, 1, 3, false, &w, &err), SPT_E_FORMAT);
    m[0].view.shape = shape_2d(0, 4);
    EXPECT_STATUS(fast->t->weight_new(fast, m, 1, 3, false, &w, &err), SPT_E_FORMAT);
    m[0].view.shape = shape_2d(INT64_MAX / 2, 4);
    EXPECT_STATUS(fast->t->weight_new(fast, m, 1, 3, false, &w, &err), SPT_E_FORMAT);
    EXPECT_TRUE(!w);
}

static void test_bad_weights(void **state)
{
    each_backend(bad_weights);
}

static spt_status open_and_prepare(void *ctx, spt_err *err)
{
    const struct ops_config *cfg = ctx;
    static float x[96 * 130], y[4 * 130];
    const struct ops_matrix m = {.view = {DT_F32, shape_2d(96, 130), x}};
    ops *o;
    ops_weight *w;
    TRY(ops_open(cfg, &o, err));
    const spt_status st = o->t->weight_new(o, &m, 1, 3, false, &w, err);
    if (!st) {
        o->t->matmul(o, w, x, y, 4, false);
        o->t->weight_free(o, w);
    }
    ops_close(o);
    return st;
}

static void test_out_of_memory(void **state)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        struct ops_config cfg = {
            .isa = backends[i].isa, .compute = backends[i].compute, .threads = 2};
        if (!open_backend(&backends[i]))
            continue;
        ops_close(fast);
        ops_close(ref);
        fault_install();
        EXPECT_TRUE(fault_every_alloc(open_and_prepare, &cfg) > 5);
        fault_remove();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),      cmocka_unit_test(test_sums_and_each),
        cmocka_unit_test(test_feeds),         cmocka_unit_test(test_tables),
        cmocka_unit_test(test_norms),         cmocka_unit_test(test_activations),
        cmocka_unit_test(test_rows_and_flat), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_slots),         cmocka_unit_test(test_losses),
        cmocka_unit_test(test_specials),      cmocka_unit_test(test_exp),
        cmocka_unit_test(test_open),          cmocka_unit_test(test_bad_weights),
        cmocka_unit_test(test_out_of_memory),
    };
    const char *more = getenv("SPT_TEST_SHAPES");
    shapes = more ? atoi(more) : shapes;
    return cmocka_run_group_tests(tests, NULL, show_tally);
}
