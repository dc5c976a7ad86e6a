/* Shared by the files of ops/cpu. */
#ifndef SPT_OPS_CPU_INTERNAL_H
#define SPT_OPS_CPU_INTERNAL_H

#include <stdatomic.h>

#include "ops/cpu/pool.h"
#include "ops/ops.h"

enum {
    PANEL = 64, /* columns of a weight panel */
    K_ROUND = 32
};

struct cpu;

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

enum { LINE_BYTES = 64 };

/* Memory that will be needed soon: `count` runs of `bytes`, `step` apart; `lines` of it are asked
 * for at a time. */
struct ahead {
    const char *at;
    size_t bytes, step;
    int64_t count;
    size_t done; /* of the current run */
    int64_t lines;
};

static inline int64_t ahead_lines(const struct ahead *a)
{
    return a->count * (int64_t)((a->bytes + LINE_BYTES - 1) / LINE_BYTES);
}

static inline void ahead_step(struct ahead *a)
{
    a->done += LINE_BYTES;
    if (a->done >= a->bytes) {
        a->done = 0;
        a->count--;
        a->at += a->step;
    }
}

static inline void fetch_ahead(struct ahead *a)
{
    for (int64_t n = a->lines; n > 0 && a->count > 0; n--) {
        __builtin_prefetch(a->at + a->done, 0, 2);
        ahead_step(a);
    }
}

/* Narrow rows that will be needed, array after array; the first `places` will be written. */
struct ahead_list {
    struct {
        const char *at;
        size_t step;
        int64_t rows, bytes;
    } array[8];
    int count, places, now;
    int64_t rows; /* to be asked for at a time */
};

static inline void fetch_list(struct ahead_list *l)
{
    for (int64_t n = l->rows; n > 0 && l->now < l->count; n--) {
        const char *p = l->array[l->now].at;
        const int64_t bytes = l->array[l->now].bytes;
        if (l->now < l->places)
            for (int64_t i = 0; i < bytes; i += LINE_BYTES)
                __builtin_prefetch(p + i, 1, 2);
        else
            for (int64_t i = 0; i < bytes; i += LINE_BYTES)
                __builtin_prefetch(p + i, 0, 2);
        l->array[l->now].at += l->array[l->now].step;
        if (--l->array[l->now].rows <= 0)
            l->now++;
    }
}

/* Attention of one example and head, or of one decoding row; all pointers already at the head. */
struct head_job {
    int64_t D, queries, keys;
    const float *q, *k, *v;
    int64_t q_stride, k_stride, v_stride;
    const float *bias; /* [2 span + 1] of this head, or NULL */
    int64_t span, q_first;
    bool causal;
    const float *drop; /* [keys] or NULL */
    float *lse;        /* of query i at lse[i * lse_stride]; NULL: not wanted */
    int64_t lse_stride;
    const float *out, *dout; /* backward; rows of out_stride */
    float *y;                /* forward */
    int64_t out_stride;
    float *dq, *dk, *dv; /* strides of q, k, v; dq may be NULL */
    int64_t grad_queries, grad_keys;
    struct ahead_list *ahead; /* what will be needed while this head is at work and after it */
};

/* y[rows, cols] = base + x[rows, K] panel[K, PANEL], every sum formed before base is added to it.
 * Strides in elements. */
struct panel_job {
    const void *x; /* float32, or bfloat16 (K even, the panel in pairs of rows) */
    const void *follow; /* the rows that will be multiplied next, or NULL; only fetched */
    const void *panel;
    int64_t ldx, rows, K;
    float *y;
    const float *base; /* NULL: zeros. With the stride of y, and may be y */
    int64_t ldy, cols;
    struct ahead *ahead;
    struct ahead_list *list; /* or NULL */
};

enum {
    BLOCK_ROWS = 6, /* of a kernel */
    FETCH_K = 16    /* of K between two rounds of fetching: a line of x */
};

/* One instruction set. Rows are independent; every sum has a fixed order. */
struct kernels {
    const char *name;
    int passes; /* of a product over the columns of a panel */
    void (*gemm)(const struct panel_job *j);
    /* The same added to y, for the first `cols` columns (rounded up to whole vectors). */
    void (*gemm_add)(const float *x, int64_t ldx, int64_t rows, int64_t K, const float *panel,
                     int64_t cols, float *y, int64_t ldy);
    void (*gemm_bf16)(const struct panel_job *j); /* bfloat16 operands; NULL: not here */
    void (*to_bf16)(const float *x, uint16_t *y, int64_t n);
    void (*from_bf16)(const uint16_t *x, float *y, int64_t n);
    void (*from_f16)(const uint16_t *x, float *y, int64_t n);
    void (*transpose)(const float *src, float *dst); /* [PANEL, PANEL], both dense */
    /* The same for a block of bfloat16 in pairs of rows: [PANEL / 2][PANEL][2]; NULL: not here. */
    void (*transpose_pairs)(const uint16_t *src, uint16_t *dst);
    void (*rmsnorm)(const float *x, const float *scale, float eps, int64_t E, float *y);
    void (*rmsnorm_bwd)(const float *x, const float *scale, float eps, const float *dy, int64_t E,
                        float *dx, bool add);
    void (*activate)(enum ops_activation act, const float *h, const float *gate, const float *drop,
                     int64_t F, float *g);
    void (*activate_bwd)(enum ops_activation act, const float *h, const float *gate,
                         const float *dg, const float *drop, int64_t F, float *dh, float *dgate);
    void (*add)(float *y, const float *x, int64_t n);
    void (*scale)(float *x, float a, int64_t n);
    void (*multiply)(float *x, const float *m, int64_t n);
    /* Log of the sum of exp; also the sum, and the lowest index of the maximum. */
    double (*log_sum_exp)(const float *x, int64_t n, float *sum, int32_t *argmax);
    /* x = a exp(x - log_z) - b */
    void (*softmax_grad)(float *x, int64_t n, float log_z, float a, float b);
    int64_t (*find_nonfinite)(const float *x, int64_t n);
    /* Floats of scratch that attention needs for so many keys and queries of head size D. */
    int64_t (*attention_scratch)(int64_t queries, int64_t keys, int64_t D);
    void (*attention)(const struct head_job *j, float *scratch);
    void (*attention_bwd)(const struct head_job *j, float *scratch);
    /* Only for chips that multiply bfloat16, else NULL. Results that are operands; rows of them have
     * room for whole vectors (to_half: needs none). */
    void (*to_half)(const float *x, uint16_t *y, int64_t n);
    void (*activate_half)(enum ops_activation act, const float *h, const float *gate,
                          const float *drop, int64_t F, uint16_t *g);
    void (*activate_bwd_half)(enum ops_activation act, const float *h, const float *gate,
                              const float *dg, const float *drop, int64_t F, uint16_t *dh,
                              uint16_t *dgate);
    /* Attention with products of bfloat16 operands. */
    int64_t (*attention_half_scratch)(int64_t queries, int64_t keys, int64_t D);
    void (*attention_half)(const struct head_job *j, float *scratch);
    void (*attention_bwd_half)(const struct head_job *j, float *scratch);
};

/* The table whose name says what c multiplies with. */
void cpu_name(struct cpu *c);

const struct kernels *kernels_avx2(void);
const struct kernels *kernels_avx512(void);

/* --- weights and products (weight.c, product.c) ------------------------------------------------
 */

enum weight_store {
    STORE_F32,
    STORE_BF16,  /* [K'][64] */
    STORE_PAIRS, /* [K' / 2][64][2] */
};

/* A prepared matrix: panels of 64 columns, [panels][K'][64] with K' = K rounded up to 32 and zeros
 * in the padding. One copy serves both directions. */
struct ops_weight {
    int64_t K, N, Kp; /* of a table: V, E */
    int64_t panels;
    enum weight_store store;
    bool bf16; /* operands of the products */
    void *data;
    size_t bytes;
};

struct products; /* scratch and primitives of a context */

spt_status products_new(struct cpu *c, struct products **out, spt_err *err);
void products_free(struct products *p);
size_t products_scratch(const struct products *p);
/* What of it products of up to so many rows use. */
size_t products_scratch_for(const struct products *p, int64_t rows);
/* Makes room for the products of w, so that running them needs no memory. */
spt_status products_prepare(struct cpu *c, const ops_weight *w, unsigned uses, spt_err *err);
/* Operations per second of the best kernel on numbers in cache, all threads at once. */
double products_peak(struct cpu *c, bool bf16, double seconds);

spt_status cpu_weight_new(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                          bool head, ops_weight **out, spt_err *err);
/* Bytes that the weight (or table) of these parts will take; makes room for its products. */
spt_status cpu_weight_room(struct cpu *c, const struct ops_matrix *parts, int nparts, unsigned uses,
                           bool head, bool table, size_t *bytes, spt_err *err);
void cpu_weight_free(ops *o, ops_weight *w);
size_t cpu_weight_bytes(const ops_weight *w);
void cpu_matmul_sum(ops *o, const ops_weight *w, const void *x, const void *base, void *y,
                    int64_t rows);
void cpu_matmul(ops *o, const ops_weight *w, const void *x, void *y, int64_t rows, bool add);
void cpu_matmul_each(ops *o, ops_weight *const *w, int64_t n, bool turned, const void *x, void *y,
                     int64_t rows);
void cpu_matmul_t(ops *o, const ops_weight *w, const void *dy, void *dx, int64_t rows, bool add);
void cpu_activate(ops *o, enum ops_activation act, bool gated, const void *h, int64_t rows,
                  int64_t F, const int64_t *off, int64_t B, const float *drop, void *g);
void cpu_activate_bwd(ops *o, enum ops_activation act, bool gated, const void *h, const void *dg,
                      int64_t rows, int64_t F, const int64_t *off, int64_t B, const float *drop,
                      void *dh);
void cpu_feed(ops *o, const struct ops_feed *f, const void *x, int64_t rows, void *h, void *g,
              const void *base, void *y);
void cpu_feed_bwd(ops *o, const struct ops_feed *f, const void *dy, int64_t rows, const void *h,
                  void *dg, void *dh, void *dx);

/* A table [V, E] to gather from. It keeps the precision of its file (float16 becomes float32),
 * because prompts are initialised from its rows, in every compute mode. */
spt_status cpu_table_new(ops *o, const struct ops_matrix *m, ops_weight **out, spt_err *err);

/* Reads n elements of a tensor into float32 with the kernels of c. */
void cpu_read_f32(const struct cpu *c, const struct tensor_view *v, int64_t first, int64_t n,
                  float *out);

/* --- the context -------------------------------------------------------------------------------
 */

/* Heads [next, end) that nobody has taken yet of those that one thread begins with. */
struct head_share {
    _Atomic int64_t next;
    int64_t end;
    char line[LINE_BYTES - 2 * sizeof(int64_t)]; /* of its own */
};

struct cpu {
    struct ops ops; /* first */
    const struct kernels *k;
    struct pool *pool;
    int threads;
    enum ops_compute compute;
    bool own_bf16; /* gemm_bf16 runs here */
    bool half;     /* attention multiplies bfloat16 */
    bool tiles;    /* bfloat16 products through oneDNN */
    bool lowered;  /* kernels narrower than the machine's were asked for */
    struct products *products;
    /* Scratch of attention, one block per thread; grows to the largest shape seen. */
    float *scratch[POOL_MAX_THREADS];
    int64_t scratch_floats;
    struct head_share heads[POOL_MAX_THREADS];
};

#endif
