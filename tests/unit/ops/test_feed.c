/* Products with something more on every backend. Feed-forward blocks: the bits of the products and of
 * the activation one after the other, whatever the shape, gated or not, with and without dropout,
 * adding or not. With several matrices: the bits of one product after the other. Also through
 * oneDNN's tiles (SPT_ONEDNN=1), which machines with AMX use. */
#define _GNU_SOURCE /* setenv */
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

enum { EXAMPLES = 3 };

struct sizes {
    int64_t rows, E, F;
    bool gated, drop;
    enum ops_activation act;
};

static ops_weight *weight(ops *o, int64_t K, int64_t N, uint64_t *seed)
{
    spt_err err;
    ops_weight *w;
    float *v = malloc((size_t)(K * N) * sizeof *v);
    for (int64_t k = 0; k < K * N; k++)
        v[k] = (float)test_uniform(seed) - 0.5f;
    const struct ops_matrix m = {.view = {DT_F32, shape_2d(K, N), v}};
    EXPECT_OK(o->t->weight_new(o, &m, 1, OPS_FORWARD | OPS_BACKWARD, false, &w, &err), &err);
    free(v);
    return w;
}

/* Uniform numbers, or with a seed of NULL a pattern that no result has. */
static void *filled(ops *o, int64_t n, uint64_t *seed)
{
    float *host = malloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++)
        host[i] = seed ? 2 * (float)test_uniform(seed) - 1 : -77;
    void *p = o->t->alloc(o, (size_t)n * o->t->elem);
    o->t->put(o, p, host, n);
    free(host);
    return p;
}

static void one_shape(ops *o, const char *isa, const struct sizes *z, uint64_t *seed)
{
    const struct ops_table *t = o->t;
    const int64_t rows = z->rows, E = z->E, F = z->F, H = z->gated ? 2 * F : F;
    ops_weight *wi = weight(o, E, H, seed), *wo = weight(o, F, E, seed);
    void *x = filled(o, rows * E, seed), *dy = filled(o, rows * E, seed);
    void *h[2], *g[2], *dg[2], *dh[2], *y[2], *sum[2], *dx[2];
    for (int i = 0; i < 2; i++) {
        h[i] = filled(o, rows * H, NULL);
        g[i] = filled(o, rows * F, NULL);
        dg[i] = filled(o, rows * F, NULL);
        dh[i] = filled(o, rows * H, NULL);
        y[i] = filled(o, rows * E, NULL);
        sum[i] = filled(o, rows * E, NULL);
        dx[i] = filled(o, rows * E, NULL);
    }
    float *drop = malloc((size_t)(EXAMPLES * F) * sizeof *drop);
    for (int64_t i = 0; i < EXAMPLES * F; i++)
        drop[i] = test_uniform(seed) < 0.3 ? 0 : 1 / 0.7f;
    const int64_t off[EXAMPLES + 1] = {0, rows / 3, rows / 3, rows};
    const struct ops_activate a = {.act = z->act,
                                   .gated = z->gated,
                                   .F = F,
                                   .drop = z->drop ? drop : NULL,
                                   .off = off,
                                   .B = EXAMPLES};
    const struct ops_feed f = {.wi = wi, .wo = wo, .act = a};
    t->matmul(o, wi, x, h[0], rows, false);
    t->activate(o, a.act, a.gated, h[0], rows, F, off, EXAMPLES, a.drop, g[0]);
    t->matmul(o, wo, g[0], y[0], rows, false);
    t->matmul_sum(o, wo, g[0], x, sum[0], rows);
    t->feed(o, &f, x, rows, h[1], g[1], NULL, y[1]);
    if (z->drop) { /* base in place */
        t->copy(o, sum[1], x, rows * E);
        t->feed(o, &f, x, rows, h[1], g[1], sum[1], sum[1]);
    } else {
        t->feed(o, &f, x, rows, h[1], g[1], x, sum[1]);
    }
    t->matmul_t(o, wo, dy, dg[0], rows, false);
    t->activate_bwd(o, a.act, a.gated, h[0], dg[0], rows, F, off, EXAMPLES, a.drop, dh[0]);
    t->matmul_t(o, wi, dh[0], dx[0], rows, false);
    t->feed_bwd(o, &f, dy, rows, h[0], dg[1], dh[1], dx[1]);
    void *spare = filled(o, rows * H, NULL), *alone = filled(o, rows * E, NULL);
    struct ops_feed only = f;
    only.act.only_g = true;
    t->feed(o, &only, x, rows, spare, g[1], NULL, alone);
    static const char *const name[] = {"h", "y", "base + y", "dx", "y without h"};
    void *const without[] = {y[0], alone};
    void *const *const both[] = {h, y, sum, dx, without};
    const int64_t width[] = {H, E, E, E, E};
    for (int k = 0; k < 5; k++)
        if (memcmp(both[k][0], both[k][1], (size_t)(rows * width[k]) * t->elem) != 0)
            fail_msg("%s (%s): %s of %lld rows, [%lld, %lld], gated %d, dropout %d, activation %d",
                     isa, t->name, name[k], (long long)rows, (long long)E, (long long)F, z->gated,
                     z->drop, z->act);
    for (int i = 0; i < 2; i++) {
        t->release(o, h[i]), t->release(o, g[i]), t->release(o, dg[i]), t->release(o, dh[i]);
        t->release(o, y[i]), t->release(o, sum[i]), t->release(o, dx[i]);
    }
    t->release(o, spare), t->release(o, alone);
    t->release(o, x), t->release(o, dy);
    t->weight_free(o, wi), t->weight_free(o, wo);
    free(drop);
}

static void each_shape(ops *o, const char *isa, int64_t rows, int64_t K, int64_t N, uint64_t *seed)
{
    enum { MATRICES = 5 };
    const struct ops_table *t = o->t;
    ops_weight *w[MATRICES];
    for (int i = 0; i < MATRICES; i++)
        w[i] = weight(o, K, N, seed);
    for (int turned = 0; turned < 2; turned++) {
        const int64_t in = turned ? N : K, out = turned ? K : N;
        char *x = filled(o, MATRICES * rows * in, seed);
        char *one = filled(o, MATRICES * rows * out, NULL), *all = filled(o, MATRICES * rows * out, NULL);
        for (int i = 0; i < MATRICES; i++) {
            char *from = x + (size_t)(i * rows * in) * t->elem;
            char *to = one + (size_t)(i * rows * out) * t->elem;
            if (turned)
                t->matmul_t(o, w[i], from, to, rows, false);
            else
                t->matmul(o, w[i], from, to, rows, false);
        }
        t->matmul_each(o, w, MATRICES, turned, x, all, rows);
        if (memcmp(one, all, (size_t)(MATRICES * rows * out) * t->elem) != 0)
            fail_msg("%s (%s): %d matrices [%lld, %lld], %lld rows, turned %d", isa, t->name,
                     MATRICES, (long long)K, (long long)N, (long long)rows, turned);
        t->release(o, x), t->release(o, one), t->release(o, all);
    }
    for (int i = 0; i < MATRICES; i++)
        t->weight_free(o, w[i]);
}

static void shapes_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    /* Whole and broken panels, one row to several tiles, sums in one chunk and in two. */
    static const int64_t shapes[][3] = {{1, 16, 64},   {2, 32, 20},  {7, 96, 128}, {24, 64, 192},
                                        {25, 33, 130}, {97, 48, 64}, {65, 1100, 64}, {131, 70, 320},
                                        {19, 64, 2112}, {300, 96, 100}};
    uint64_t seed = 1;
    each_shape(o, isa, 3, 16, 8, &seed);
    each_shape(o, isa, 29, 768, 64, &seed);
    each_shape(o, isa, 70, 1100, 130, &seed);
    each_shape(o, isa, 500, 40, 24, &seed);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < 4; k++) {
            const struct sizes z = {.rows = shapes[i][0],
                                    .E = shapes[i][1],
                                    .F = shapes[i][2],
                                    .gated = k & 1,
                                    .drop = k & 2,
                                    .act = (enum ops_activation)((i + (size_t)k) % 4)};
            one_shape(o, isa, &z, &seed);
        }
}

static void every_shape(void **state)
{
    (void)state;
    golden_every_isa(shapes_on, NULL);
}

/* The fast path in bfloat16, and by several threads. */
static void bfloat16_and_threads(void **state)
{
    static const char *const isa[] = {"avx2", "avx512"};
    for (size_t i = 0; i < 2; i++)
        for (int threads = 1; threads <= 3; threads++) {
            const struct ops_config cfg = {
                .isa = isa[i], .compute = OPS_BFLOAT16, .threads = threads};
            ops *o;
            if (ops_open(&cfg, &o, NULL))
                continue;
            shapes_on(o, isa[i], NULL);
            ops_close(o);
        }
}

static void through_tiles(void **state)
{
    setenv("SPT_ONEDNN", "1", 1);
    bfloat16_and_threads(state);
    unsetenv("SPT_ONEDNN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_shape),
                                       cmocka_unit_test(bfloat16_and_threads),
                                       cmocka_unit_test(through_tiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
