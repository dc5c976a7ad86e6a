/* The bits of a row never depend on how many other rows there are, on the threads, or on the
 * batch (rulings 1, 2): 200 random groupings of examples by 1, 2, 3, 4, 8 and 16 threads give the bits
 * that each example has alone on one thread, for every instruction set and both compute modes.
 * Also the pool itself. */
#define _GNU_SOURCE /* setenv */
#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/cpu/pool.h"
#include "ops/ops.h"
#include "os/os.h"

enum { EXAMPLES = 12, LONGEST = 70, GROUPINGS = 200, H = 2, SPAN = 9, V = 300 };
/* A shape with a last single panel, one with long sums (AMX in bfloat16), a padded one, a head; and
 * head sizes with and without a broken vector, with and without bfloat16 in attention. */
static const int64_t shapes[][3] = {{96, 320, 24}, {2048, 64, 32}, {50, 70, 64}, {64, 9000, 48}};
enum { NSHAPES = sizeof shapes / sizeof *shapes, MAX_N = 9000 };

static uint64_t seed = 7;

static uint32_t draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static float *numbers(int64_t n)
{
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)draw() / 1073741824.0f - 1.0f;
    return p;
}

/* Everything that one example goes through: inputs per row, and what came out. */
enum { IN_X, IN_DY, IN_QKV, IN_DOUT, IN_LOGITS, IN_H, INPUTS };
enum {
    OUT_Y,
    OUT_DX,
    OUT_NORM,
    OUT_NORM_BWD,
    OUT_ATT,
    OUT_LSE,
    OUT_DQKV,
    OUT_ACT,
    OUT_ACT_BWD,
    OUT_LOGITS,
    OUTPUTS
};

struct world {
    int64_t K, N, D, J; /* of the shape at hand */
    int64_t len[EXAMPLES];
    float *in[EXAMPLES][INPUTS];
    float *want[EXAMPLES][OUTPUTS];
    double loss[EXAMPLES][LONGEST];
    float *scale, *bias, *matrix;
};

static int64_t in_width(const struct world *w, int which)
{
    const int64_t width[INPUTS] = {w->K, w->N, 3 * w->J, w->J, V, 2 * w->J};
    return width[which];
}

static int64_t out_width(const struct world *w, int which)
{
    const int64_t width[OUTPUTS] = {w->N, w->K, w->K, w->K, w->J, H, 3 * w->J, w->J, 2 * w->J, V};
    return width[which];
}

/* Runs every operation over the examples in `who`. */
static void run(const struct world *w, ops *o, const ops_weight *wt, const int *who, int n,
                float **out, double *loss)
{
    const int64_t J = w->J;
    int64_t off[EXAMPLES + 1] = {0};
    for (int i = 0; i < n; i++)
        off[i + 1] = off[i] + w->len[who[i]];
    const int64_t rows = off[n];
    float *in[INPUTS];
    for (int k = 0; k < INPUTS; k++) {
        const int64_t width = in_width(w, k);
        in[k] = malloc((size_t)(rows * width) * sizeof(float));
        for (int i = 0; i < n; i++)
            memcpy(in[k] + off[i] * width, w->in[who[i]][k],
                   (size_t)(w->len[who[i]] * width) * sizeof(float));
    }
    for (int k = 0; k < OUTPUTS; k++)
        out[k] = calloc((size_t)(rows * out_width(w, k)), sizeof(float));
    const struct ops_table *t = o->t;
    t->matmul(o, wt, in[IN_X], out[OUT_Y], rows, false);
    t->matmul(o, wt, in[IN_X], out[OUT_Y], rows, true);
    t->matmul_t(o, wt, in[IN_DY], out[OUT_DX], rows, false);
    t->rmsnorm(o, in[IN_X], w->scale, 1e-6f, rows, w->K, out[OUT_NORM]);
    t->rmsnorm_bwd(o, in[IN_X], w->scale, 1e-6f, out[OUT_DX], rows, w->K, out[OUT_NORM_BWD], true);
    float *qkv = in[IN_QKV], *d = out[OUT_DQKV];
    const struct ops_attention a = {.B = n,
                                    .heads = H,
                                    .head_dim = w->D,
                                    .q_off = off,
                                    .k_off = off,
                                    .q = qkv,
                                    .k = qkv + J,
                                    .v = qkv + 2 * J,
                                    .q_stride = 3 * J,
                                    .k_stride = 3 * J,
                                    .v_stride = 3 * J,
                                    .bias = w->bias,
                                    .span = SPAN,
                                    .causal = w->K == 96,
                                    .lse = out[OUT_LSE]};
    t->attention(o, &a, out[OUT_ATT]);
    t->attention_bwd(o, &a, out[OUT_ATT], in[IN_DOUT], d, d + J, d + 2 * J);
    t->activate(o, OPS_GELU_TANH, true, in[IN_H], rows, J, NULL, 0, NULL, out[OUT_ACT]);
    t->activate_bwd(o, OPS_GELU_TANH, true, in[IN_H], in[IN_DOUT], rows, J, NULL, 0, NULL,
                    out[OUT_ACT_BWD]);
    int32_t *target = calloc((size_t)rows, sizeof *target);
    memcpy(out[OUT_LOGITS], in[IN_LOGITS], (size_t)(rows * V) * sizeof(float));
    const struct ops_loss_args l = {.rows = rows,
                                    .V = V,
                                    .target = target,
                                    .loss = loss,
                                    .z_loss = 1e-3f,
                                    .label_smoothing = 0.1f,
                                    .backward = true};
    t->loss(o, out[OUT_LOGITS], &l);
    free(target);
    for (int k = 0; k < INPUTS; k++)
        free(in[k]);
}

static void open_world(struct world *w, const int64_t *shape)
{
    const int64_t K = w->K = shape[0], N = w->N = shape[1];
    w->D = shape[2], w->J = H * w->D;
    for (int e = 0; e < EXAMPLES; e++) {
        w->len[e] = 1 + draw() % (e % 2 ? LONGEST : 9);
        for (int k = 0; k < INPUTS; k++)
            w->in[e][k] = numbers(w->len[e] * in_width(w, k));
    }
    w->scale = numbers(K);
    w->bias = numbers(H * (2 * SPAN + 1));
    w->matrix = numbers(K * N);
}

static void close_world(struct world *w)
{
    for (int e = 0; e < EXAMPLES; e++) {
        for (int k = 0; k < INPUTS; k++)
            free(w->in[e][k]);
        for (int k = 0; k < OUTPUTS; k++)
            free(w->want[e][k]);
    }
    free(w->scale), free(w->bias), free(w->matrix);
}

static ops_weight *prepare(const struct world *w, ops *o, bool head)
{
    spt_err err;
    const struct ops_matrix m = {.view = {DT_F32, shape_2d(w->K, w->N), w->matrix}};
    ops_weight *wt = NULL;
    EXPECT_OK(o->t->weight_new(o, &m, 1, OPS_FORWARD | OPS_BACKWARD, head, &wt, &err), &err);
    return wt;
}

/* A random subset in random order. */
static int pick(int *who)
{
    for (int i = 0; i < EXAMPLES; i++)
        who[i] = i;
    for (int i = EXAMPLES - 1; i > 0; i--) {
        const int j = (int)(draw() % (uint32_t)(i + 1)), x = who[i];
        who[i] = who[j], who[j] = x;
    }
    return 1 + (int)(draw() % EXAMPLES);
}

static const char *const out_names[OUTPUTS] = {
    "matmul", "matmul_t",      "rmsnorm",  "rmsnorm_bwd",  "attention",
    "lse",    "attention_bwd", "activate", "activate_bwd", "loss gradient"};

static long batches, results; /* compared, for the figure at the end (N4) */

static void grouped(const struct world *w, ops *o, const ops_weight *wt, int threads)
{
    int who[EXAMPLES];
    const int n = pick(who);
    float *out[OUTPUTS];
    static double loss[EXAMPLES * LONGEST];
    run(w, o, wt, who, n, out, loss);
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        const int64_t len = w->len[who[i]];
        for (int k = 0; k < OUTPUTS; k++) {
            const int64_t width = out_width(w, k);
            if (memcmp(out[k] + at * width, w->want[who[i]][k],
                       (size_t)(len * width) * sizeof(float)))
                fail_msg("%s, %d threads, [%lld, %lld]: %s of example %d depends on its company",
                         o->t->name, threads, (long long)w->K, (long long)w->N, out_names[k],
                         who[i]);
            results++;
        }
        assert_memory_equal(loss + at, w->loss[who[i]], (size_t)len * sizeof *loss);
        at += len;
    }
    for (int k = 0; k < OUTPUTS; k++)
        free(out[k]);
    batches++;
}

static int show_figure(void **state)
{
    if (batches)
        printf("N4: %ld random batches with 1, 2, 3, 4, 8 and 16 threads, %ld results of examples, "
               "0 with other bits\n",
               batches, results);
    return 0;
}

/* SPT_TEST_GROUPINGS: fewer, under a sanitizer that takes a hundred times as long. */
static int groupings_of_shape(void)
{
    const char *n = getenv("SPT_TEST_GROUPINGS");
    const int all = n ? atoi(n) : GROUPINGS;
    return (all + NSHAPES - 1) / NSHAPES;
}

static bool one_backend(const char *isa, enum ops_compute compute, const int64_t *shape)
{
    static const int threads[] = {1, 2, 3, 4, 8, 16};
    spt_err err;
    struct world w = {0};
    open_world(&w, shape);
    bool have = true;
    for (size_t i = 0; i < sizeof threads / sizeof *threads && have; i++) {
        const struct ops_config cfg = {.isa = isa, .compute = compute, .threads = threads[i]};
        ops *o = NULL;
        const spt_status st = ops_open(&cfg, &o, &err);
        have = st != SPT_E_CONFIG;
        if (!have)
            break;
        EXPECT_OK(st, &err);
        ops_weight *wt = prepare(&w, o, w.N > 8192);
        for (int e = 0; e < EXAMPLES && i == 0; e++)
            run(&w, o, wt, &e, 1, w.want[e], w.loss[e]);
        for (int g = 0; g < groupings_of_shape(); g++)
            grouped(&w, o, wt, threads[i]);
        o->t->weight_free(o, wt);
        ops_close(o);
    }
    close_world(&w);
    return have;
}

static void groupings(const char *isa, enum ops_compute compute)
{
    for (int s = 0; s < NSHAPES; s++)
        if (!one_backend(isa, compute, shapes[s]))
            skip();
}

static void test_avx2_float32(void **state)
{
    groupings("avx2", OPS_FLOAT32);
}

static void test_avx2_bfloat16(void **state)
{
    groupings("avx2", OPS_BFLOAT16);
}

static void test_avx512_float32(void **state)
{
    groupings("avx512", OPS_FLOAT32);
}

static void test_avx512_bfloat16(void **state)
{
    setenv("SPT_ONEDNN", "0", 1);
    groupings("avx512", OPS_BFLOAT16);
}

/* As on machines with AMX; without them oneDNN takes AVX512-BF16. */
static void test_onednn_bfloat16(void **state)
{
    setenv("SPT_ONEDNN", "1", 1);
    groupings("avx512", OPS_BFLOAT16);
}

/* --- the pool ----------------------------------------------------------------------------------
 */

struct marks {
    int64_t n;
    int *owner; /* [n] */
};

static void mark(void *ctx, int64_t first, int64_t last, int thread)
{
    struct marks *m = ctx;
    for (int64_t i = first; i < last; i++)
        m->owner[i] = m->owner[i] * 100 + thread + 1;
}

static void test_pool_split(void **state)
{
    spt_err err;
    for (int threads = 1; threads <= 9; threads++) {
        pool *p = NULL;
        EXPECT_OK(pool_new(threads, &p, &err), &err);
        EXPECT_EQ_I64(pool_threads(p), threads);
        for (int64_t n = 0; n < 40; n++) {
            int owner[40] = {0};
            struct marks m = {n, owner};
            pool_run(p, n, mark, &m);
            for (int64_t i = 0; i < n; i++) { /* once each, in order of threads */
                EXPECT_TRUE(owner[i] >= 1 && owner[i] <= threads);
                EXPECT_TRUE(i == 0 || owner[i] >= owner[i - 1]);
            }
        }
        pool_free(p);
    }
    pool_free(NULL);
}

/* Many short jobs, with pauses that put the workers to sleep. */
static void test_pool_wakes(void **state)
{
    spt_err err;
    pool *p = NULL;
    EXPECT_OK(pool_new(4, &p, &err), &err);
    for (int turn = 0; turn < 3000; turn++) {
        int owner[8] = {0};
        struct marks m = {8, owner};
        if (turn % 500 == 499)
            for (volatile int spin = 0; spin < 20000000; spin++)
                ;
        pool_run(p, 8, mark, &m);
        for (int i = 0; i < 8; i++)
            EXPECT_EQ_I64(owner[i], i / 2 + 1);
    }
    pool_free(p);
}

static int starts_left;

static int few_threads(uint64_t *handle, void *(*fn)(void *), void *arg)
{
    return starts_left-- > 0 ? os_real.thread_start(handle, fn, arg) : -EAGAIN;
}

/* A thread that cannot be started is an error with its number; those that run are joined. */
static void test_pool_without_threads(void **state)
{
    struct os_ops mine = os_real;
    spt_err err;
    mine.thread_start = few_threads;
    os_set(&mine);
    for (int have = 0; have < 3; have++) {
        pool *p = NULL;
        starts_left = have;
        const spt_status st = pool_new(4, &p, &err);
        EXPECT_EQ_I64(st, SPT_E_DEVICE);
        EXPECT_MSG(&err, "of 4");
        EXPECT_TRUE(!p);
    }
    os_set(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_split),           cmocka_unit_test(test_pool_wakes),
        cmocka_unit_test(test_pool_without_threads), cmocka_unit_test(test_avx2_float32),
        cmocka_unit_test(test_avx2_bfloat16),        cmocka_unit_test(test_avx512_float32),
        cmocka_unit_test(test_avx512_bfloat16),      cmocka_unit_test(test_onednn_bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, show_figure);
}
