/* What this machine can do and what every operation of the CPU backend makes of it:
 *
 *     build/release/bench/bench_ops [--rows N] [--threads N] [--compute float32|bfloat16]
 *                                   [--only layers]
 *
 * Prints the product peak and the memory bandwidth, then for the shapes of T5 1.1 base the median
 * of several runs of each operation: products in GFLOP/s and percent of the peak, passes in GB/s
 * counted by the bytes they must read and write once. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops/cpu/cpu.h"
#include "ops/ops.h"

enum { RUNS = 11, E = 768, F = 2048, H = 12, D = 64, J = H * D, V = 32128 };

static ops *o;
static double peak;
static int64_t rows = 1000;
static bool only_stream;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

#define MEDIAN(out, call)                                                                          \
    do {                                                                                           \
        double t_[RUNS];                                                                           \
        call;                                                                                      \
        for (int r_ = 0; r_ < RUNS; r_++) {                                                        \
            const double from_ = now();                                                            \
            call;                                                                                  \
            t_[r_] = now() - from_;                                                                \
        }                                                                                          \
        qsort(t_, RUNS, sizeof *t_, by_value);                                                     \
        (out) = t_[RUNS / 2];                                                                      \
    } while (0)

static float *buffer(int64_t n)
{
    float *p = o->t->alloc(o, (size_t)n * sizeof *p);
    uint32_t state = 1;
    for (int64_t i = 0; p && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)state * 0x1p-31f;
    }
    if (!p)
        exit(6);
    return p;
}

static ops_weight *weight(int64_t K, int64_t N, bool head)
{
    float *x = buffer(K * N);
    const struct ops_matrix m = {.view = {DT_F32, shape_2d(K, N), x}};
    ops_weight *w = NULL;
    spt_err err;
    double t = now();
    if (o->t->weight_new(o, &m, 1, OPS_FORWARD | OPS_BACKWARD, head, &w, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(6);
    }
    t = now() - t;
    printf("  packing [%lld, %lld]: %.2f ms, %.1f GB/s read\n", (long long)K, (long long)N, t * 1e3,
           (double)(K * N) * 4e-9 / t);
    o->t->release(o, x);
    return w;
}

static void product(int64_t K, int64_t N, int64_t n, bool head)
{
    ops_weight *w = weight(K, N, head);
    float *x = buffer(n * K), *y = buffer(n * N);
    double fwd, bwd, added;
    MEDIAN(fwd, o->t->matmul(o, w, x, y, n, false));
    MEDIAN(added, o->t->matmul(o, w, x, y, n, !head));
    MEDIAN(bwd, o->t->matmul_t(o, w, y, x, n, false));
    const double f = 2e-9 * (double)(K * N * n);
    printf("product %5lld rows [%4lld, %5lld]: %7.1f GFLOP/s (%5.1f %%), adding %7.1f, backward "
           "%7.1f (%5.1f %%)\n",
           (long long)n, (long long)K, (long long)N, f / fwd, 1e11 * f / fwd / peak, f / added,
           f / bwd, 1e11 * f / bwd / peak);
    o->t->weight_free(o, w);
    o->t->release(o, x);
    o->t->release(o, y);
}

/* The products of an encoder as a training step makes them: every weight is read from memory, every
 * result goes to a place of its own. */
static void stream(void)
{
    enum { LAYERS = 6, MATRICES = 4, STREAM_RUNS = 5 };
    static const int64_t shape[MATRICES][2] = {{E, 3 * J}, {J, E}, {E, 2 * F}, {F, E}};
    ops_weight *w[LAYERS][MATRICES];
    float *x = buffer(rows * 2 * F), *y[LAYERS][MATRICES], *dx = buffer(rows * 2 * F);
    double f = 0, fwd[STREAM_RUNS], bwd[STREAM_RUNS];
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < MATRICES; i++) {
            w[l][i] = weight(shape[i][0], shape[i][1], false);
            y[l][i] = buffer(rows * shape[i][1]);
            f += 2e-9 * (double)(rows * shape[i][0] * shape[i][1]);
        }
    for (int r = 0; r < STREAM_RUNS; r++) {
        double from = now();
        for (int l = 0; l < LAYERS; l++)
            for (int i = 0; i < MATRICES; i++)
                if (i % 2)
                    o->t->matmul_sum(o, w[l][i], x, x, y[l][i], rows);
                else
                    o->t->matmul(o, w[l][i], x, y[l][i], rows, false);
        fwd[r] = now() - from;
        from = now();
        for (int l = LAYERS - 1; l >= 0; l--)
            for (int i = MATRICES - 1; i >= 0; i--)
                o->t->matmul_t(o, w[l][i], y[l][i], dx, rows, false);
        bwd[r] = now() - from;
    }
    qsort(fwd, STREAM_RUNS, sizeof *fwd, by_value);
    qsort(bwd, STREAM_RUNS, sizeof *bwd, by_value);
    const double a = f / fwd[STREAM_RUNS / 2], b = f / bwd[STREAM_RUNS / 2];
    printf("products of %d layers, %lld rows: %7.1f GFLOP/s (%5.1f %%), backward %7.1f (%5.1f %%)\n",
           LAYERS, (long long)rows, a, 1e11 * a / peak, b, 1e11 * b / peak);
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < MATRICES; i++) {
            o->t->weight_free(o, w[l][i]);
            o->t->release(o, y[l][i]);
        }
    o->t->release(o, x);
    o->t->release(o, dx);
}

static void pass(const char *name, double seconds, double floats)
{
    printf("%-28s %8.3f ms %7.1f GB/s\n", name, seconds * 1e3, floats * 4e-9 / seconds);
}

static void passes(void)
{
    float *x = buffer(rows * E), *y = buffer(rows * E), *s = buffer(E);
    float *h = buffer(rows * 2 * F), *g = buffer(rows * F), *dh = buffer(rows * 2 * F);
    const double n = (double)rows * E, f = (double)rows * F;
    double t;
    MEDIAN(t, o->t->rmsnorm(o, x, s, 1e-6f, rows, E, y));
    pass("rmsnorm", t, 2 * n);
    MEDIAN(t, o->t->rmsnorm_bwd(o, x, s, 1e-6f, y, rows, E, y, true));
    pass("rmsnorm_bwd adding", t, 3 * n);
    MEDIAN(t, o->t->activate(o, OPS_GELU_TANH, true, h, rows, F, NULL, 0, NULL, g));
    pass("geglu", t, 3 * f);
    MEDIAN(t, o->t->activate_bwd(o, OPS_GELU_TANH, true, h, g, rows, F, NULL, 0, NULL, dh));
    pass("geglu_bwd", t, 5 * f);
    MEDIAN(t, o->t->activate(o, OPS_RELU, false, h, rows, F, NULL, 0, NULL, g));
    pass("relu", t, 2 * f);
    MEDIAN(t, o->t->add(o, y, x, rows * E));
    pass("add", t, 3 * n);
    o->t->release(o, x), o->t->release(o, y), o->t->release(o, s);
    o->t->release(o, h), o->t->release(o, g), o->t->release(o, dh);
    const int64_t m = 96;
    float *l = buffer(m * V);
    int32_t target[96] = {0};
    double loss[96];
    struct ops_loss_args a = {.rows = m, .V = V, .target = target, .loss = loss, .backward = true};
    MEDIAN(t, o->t->loss(o, l, &a));
    pass("loss and gradient, 96 rows", t, 2.0 * (double)m * V);
    o->t->release(o, l);
}

static void attention(int64_t T)
{
    const int64_t B = rows / T ? rows / T : 1, n = B * T;
    float *qkv = buffer(n * 3 * J), *y = buffer(n * J), *lse = buffer(n * H),
          *bias = buffer(H * 257);
    float *d = buffer(n * 3 * J);
    int64_t *off = malloc((size_t)(B + 1) * sizeof *off);
    for (int64_t b = 0; b <= B; b++)
        off[b] = b * T;
    struct ops_attention a = {.B = B,
                              .heads = H,
                              .head_dim = D,
                              .q_off = off,
                              .k_off = off,
                              .q = qkv,
                              .k = qkv + J,
                              .v = qkv + 2 * J,
                              .q_stride = 3 * J,
                              .k_stride = 3 * J,
                              .v_stride = 3 * J,
                              .bias = bias,
                              .span = 128,
                              .lse = lse};
    double fwd, bwd;
    MEDIAN(fwd, o->t->attention(o, &a, y));
    MEDIAN(bwd, o->t->attention_bwd(o, &a, y, y, d, d + J, d + 2 * J));
    const double f = 4e-9 * (double)(B * T * T * J);
    printf("attention %4lld x %4lld rows:   %8.3f ms %7.1f GFLOP/s, backward %8.3f ms %7.1f\n",
           (long long)B, (long long)T, fwd * 1e3, f / fwd, bwd * 1e3, 2 * f / bwd);
    o->t->release(o, qkv), o->t->release(o, y), o->t->release(o, lse);
    o->t->release(o, bias), o->t->release(o, d);
    free(off);
}

/* The other attentions of a step with 100 prompt rows: targets of 3 tokens among themselves, and
 * asking the encoder rows themselves (absorbed cross-attention: 12 heads are 36 queries). */
static void attention_few(const char *name, int64_t heads, int64_t dim, int64_t q, int64_t k)
{
    enum { EXAMPLES = 8 };
    const int64_t n = EXAMPLES * q, m = EXAMPLES * k, width = heads * dim;
    float *query = buffer(n * width), *key = buffer(m * width), *y = buffer(n * width);
    float *lse = buffer(n * heads), *dq = buffer(n * width), *dk = buffer(m * 2 * width);
    int64_t qo[EXAMPLES + 1], ko[EXAMPLES + 1];
    for (int64_t b = 0; b <= EXAMPLES; b++)
        qo[b] = b * q, ko[b] = b * k;
    struct ops_attention a = {.B = EXAMPLES,
                              .heads = heads,
                              .head_dim = dim,
                              .q_off = qo,
                              .k_off = ko,
                              .q = query,
                              .k = key,
                              .v = key,
                              .q_stride = width,
                              .k_stride = width,
                              .v_stride = width,
                              .lse = lse};
    double fwd, bwd;
    MEDIAN(fwd, o->t->attention(o, &a, y));
    MEDIAN(bwd, o->t->attention_bwd(o, &a, y, y, dq, dk, dk + m * width));
    const double f = 4e-9 * (double)(n * k * width);
    printf("attention %s: %8.3f ms %7.1f GFLOP/s, backward %8.3f ms %7.1f\n", name, fwd * 1e3,
           f / fwd, bwd * 1e3, 2 * f / bwd);
    o->t->release(o, query), o->t->release(o, key), o->t->release(o, y);
    o->t->release(o, lse), o->t->release(o, dq), o->t->release(o, dk);
}

int main(int argc, char **argv)
{
    struct ops_config cfg = {0};
    spt_err err;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--rows"))
            rows = strtoll(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--threads"))
            cfg.threads = (int)strtol(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--only"))
            only_stream = !strcmp(argv[i + 1], "layers");
        else if (!strcmp(argv[i], "--compute"))
            cfg.compute = strcmp(argv[i + 1], "bfloat16") ? OPS_FLOAT32 : OPS_BFLOAT16;
    }
    if (rows < 1)
        rows = 1;
    if (ops_open(&cfg, &o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 3;
    }
    const double f32 = ops_cpu_peak(o, false, 0.3), bf16 = ops_cpu_peak(o, true, 0.3);
    peak = cfg.compute == OPS_BFLOAT16 && bf16 > 0 ? bf16 : f32;
    if (peak <= 0)
        peak = 1;
    printf("%s: product peak %.1f GFLOP/s float32, %.1f bfloat16; %.1f GB/s from memory\n",
           o->t->name, f32 * 1e-9, bf16 * 1e-9, ops_cpu_bandwidth(o, 0.3) * 1e-9);
    stream();
    if (only_stream) {
        ops_close(o);
        return 0;
    }
    const int64_t shape[][2] = {{E, 3 * J}, {J, E}, {E, 2 * F}, {F, E}};
    const int64_t counts[] = {rows, 96, 16, 1};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
            product(shape[i][0], shape[i][1], counts[c], false);
    product(E, V, 96, true);
    product(E, V, 24, true);
    product(E, V, 1, true);
    passes();
    attention(32);
    attention(125);
    attention(512);
    attention_few("3 x 3", H, D, 3, 3);
    attention_few("36 x 130 of 768", 1, E, 36, 130);
    ops_close(o);
    return 0;
}
