/* The table of operations that the model is written over: once, for every backend.
 *
 * ops/ref is the definition (plain loops; compiled twice, with float and with double elements),
 * ops/cpu the fast one. A backend is a table of functions and a context (`ops`) that owns its
 * threads and scratch. Activations are opaque to the model: it passes pointers that alloc returned,
 * plus row offsets; it never looks inside. `elem` is the size of one activation element, `wide` that
 * of what always needs full precision: log-sum-exp and logits (float32 in every compute mode).
 *
 * Contract of every op: rows are independent; the bits of a row never depend on how many other
 * rows there are, on the number of threads, or on the batch (rulings 1, 2). No op allocates after
 * the largest shape it has seen. Matrices are row-major; linear layers have no bias.
 *
 * Letters: E model width, J heads * head_dim, F feed-forward width, V vocabulary rows, B examples. */
#ifndef SPT_OPS_OPS_H
#define SPT_OPS_OPS_H

#include "tensor/tensor.h"

enum ops_compute { OPS_FLOAT32, OPS_BFLOAT16 };

enum ops_activation { OPS_RELU, OPS_GELU_TANH, OPS_GELU_ERF, OPS_SILU };

/* Which products a prepared weight must serve. */
enum ops_uses { OPS_FORWARD = 1, OPS_BACKWARD = 2 };

/* A frozen matrix as it lies in a file: [K, N], or [N, K] when transposed (Hugging Face); or a
 * window of one, whose rows are `ld` elements apart (0: the view is dense). */
struct ops_matrix {
    struct tensor_view view;
    bool transposed;
    int64_t ld;
};
static inline int64_t ops_matrix_ld(const struct ops_matrix *m)
{
    return m->ld ? m->ld : m->view.shape.dim[1];
}
/* Rows k .. k + K and columns n .. n + N of m, orientation taken care of. */
struct ops_matrix ops_matrix_cut(const struct ops_matrix *m, int64_t k, int64_t K, int64_t n,
                                 int64_t N);

typedef struct ops ops;
typedef struct ops_weight ops_weight; /* {dtype, panels, scales}: opaque outside the backend */

/* Ragged attention over packed rows. Queries of example b are rows q_off[b]..q_off[b+1] of q,
 * keys and values rows k_off[b]..k_off[b+1] of k and v. A row holds heads * head_dim elements
 * (head-major) and starts at p + row * stride. Scores are not scaled (T5). */
struct ops_attention {
    int64_t B, heads, head_dim;
    const int64_t *q_off, *k_off; /* [B + 1] */
    const void *q, *k, *v;
    int64_t q_stride, k_stride, v_stride; /* elements */
    /* Relative bias by distance: bias[h * (2 * span + 1) + clamp(key - query, -span, span) + span],
     * NULL: none. Positions count from the first row of the example; a query row i of example b has
     * position q_first[b] + i (NULL: 0), for decoding with a cache. */
    const void *bias;
    int64_t span;
    const int64_t *q_first;
    bool causal; /* keys behind the query are masked. A query without keys gives zeros. */
    /* Dropout multipliers [sum over b of heads * keys(b)], example-major, then head, then key;
     * shared by all queries (T5X broadcasts over the length). NULL: none. */
    const float *drop;
    /* Only the first grad_rows query/key rows of each example need gradients (0: all of them).
     * Rows that need none are left untouched in dq, dk, dv. */
    int64_t grad_rows;
    void *lse; /* wide [query rows, heads] log-sum-exp, written by forward, read by backward; NULL
                  in inference */
};

/* Self-attention of decoding: one query row per sequence, keys and values in append-only slots.
 * Sequence r attends the `len` slots slots[r * slot_stride + j], j < len; key j has position j, the
 * query position len - 1. Bias as above. */
struct ops_slots {
    int64_t rows, len, heads, head_dim;
    const int32_t *lens; /* [rows] own lengths <= len, or NULL: len for all */
    const int32_t *slots;
    int64_t slot_stride;
    const void *q, *k, *v;                /* [rows], [slots], [slots] */
    int64_t q_stride, k_stride, v_stride; /* elements */
    const void *bias;
    int64_t span;
};

/* The activation of a feed-forward block: gated: h[rows, 2F] = (wi_0 x | wi_1 x), g[rows, F] =
 * act(h0) * h1; else h[rows, F], g = act(h). */
struct ops_activate {
    enum ops_activation act;
    bool gated;
    bool only_g; /* forward: h is scratch, which need not be written */
    int64_t F;
    /* Multipliers [B, F] shared by the rows of an example, or NULL (off may then be NULL). */
    const float *drop;
    const int64_t *off;
    int64_t B;
};

/* The two products of a feed-forward block and what is between them; neither is a head. */
struct ops_feed {
    const ops_weight *wi, *wo; /* [K, F] or, gated, [K, 2F]; [F, N] */
    struct ops_activate act;
};

/* Per-row outputs of the loss; arrays of the host. double, so that sums and the gradient check of
 * the double backend lose nothing; float32 backends need not compute them more exactly. */
struct ops_loss_args {
    int64_t rows, V;
    const int32_t *target;  /* [rows] */
    const float *weight;    /* [rows] already divided by the loss normalizing factor; NULL: 1 */
    float z_loss, label_smoothing;
    double *loss;    /* [rows] weighted cross entropy + z-loss, spec/t5x.md section 3.1 */
    double *z;       /* [rows] weighted z-loss part, or NULL */
    double *log_p;   /* [rows] log softmax of the target, unweighted, or NULL */
    double *log_z;   /* [rows] log-sum-exp of the logits, or NULL */
    int32_t *argmax; /* [rows] lowest index of the largest logit, or NULL */
    bool backward;  /* overwrite logits with d loss / d logits */
};

/* Loss where the vocabulary is split: the logits [rows, n] are entries first .. first + n of V. Each
 * part says what it knows of its entries; ops_loss_join makes the loss of what all say; then each
 * makes gradients of its logits. Arrays of the host. */
struct ops_loss_part {
    double log_z, sum; /* log-sum-exp and sum of the part's logits */
    double max;
    double target; /* the logit of the target, 0 where it belongs to another part */
    int64_t argmax; /* lowest index (of V) of max */
};
/* What parts [nparts, a->rows] say into the arrays of a (log_z is wanted); the parts in order. */
void ops_loss_join(const struct ops_loss_args *a, int nparts, const struct ops_loss_part *parts);

struct ops_table {
    const char *name;  /* "ref-f32", "ref-f64", "avx2", "avx512", ... */
    size_t elem, wide; /* bytes */

    void (*close)(ops *o);

    /* Buffers, 64-byte aligned. NULL when out of memory. release accepts NULL. */
    void *(*alloc)(ops *o, size_t bytes);
    void (*release)(ops *o, void *p);
    /* n elements to and from float32 of the host; get_wide reads `wide` elements. */
    void (*put)(ops *o, void *dst, const float *src, int64_t n);
    void (*get)(ops *o, float *dst, const void *src, int64_t n);
    void (*get_wide)(ops *o, float *dst, const void *src, int64_t n);
    void (*zero)(ops *o, void *dst, int64_t n);
    void (*copy)(ops *o, void *dst, const void *src, int64_t n);

    /* Prepares [K, N1 + N2 + ...] from parts that share K (q, k, v side by side). The parts are
     * read once and not kept. `head` (the output head): products in float32 in every compute mode,
     * and the [rows, N] side of matmul and matmul_t is `wide`; add is not used with it. */
    spt_status (*weight_new)(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                             bool head, ops_weight **out, spt_err *err);
    void (*weight_free)(ops *o, ops_weight *w);
    size_t (*weight_bytes)(const ops_weight *w);

    /* y[rows, N] = x[rows, K] W, or y += ... when add. */
    void (*matmul)(ops *o, const ops_weight *w, const void *x, void *y, int64_t rows, bool add);
    /* y[rows, N] = base[rows, N] + x W: the bits of copying base to y and adding. */
    void (*matmul_sum)(ops *o, const ops_weight *w, const void *x, const void *base, void *y,
                       int64_t rows);
    /* dx[rows, K] = dy[rows, N] W^T, or dx += ... when add. */
    void (*matmul_t)(ops *o, const ops_weight *w, const void *dy, void *dx, int64_t rows, bool add);

    /* n matrices of one shape, each with `rows` rows of its own: y_i = x_i W_i, or with `turned`
     * y_i = x_i W_i^T; x and y hold the blocks one after the other. The bits of single products. */
    void (*matmul_each)(ops *o, ops_weight *const *w, int64_t n, bool turned, const void *x,
                        void *y, int64_t rows);

    /* An embedding table [V, E] that can be gathered from. */
    spt_status (*table_new)(ops *o, const struct ops_matrix *m, ops_weight **out, spt_err *err);
    /* out[i, :] = table[ids[i], :]; every id is in range (checked by the caller). */
    void (*gather)(ops *o, const ops_weight *table, const int32_t *ids, int64_t rows, void *out);

    /* y = x * rsqrt(mean(x^2) + eps) * scale[E]. y may be x. */
    void (*rmsnorm)(ops *o, const void *x, const void *scale, float eps, int64_t rows, int64_t E,
                    void *y);
    /* dx = (or += when add) the gradient through the norm. dx may be dy when not add. */
    void (*rmsnorm_bwd)(ops *o, const void *x, const void *scale, float eps, const void *dy,
                        int64_t rows, int64_t E, void *dx, bool add);

    /* out[query rows, heads * head_dim] */
    void (*attention)(ops *o, const struct ops_attention *a, void *out);
    /* out: what forward returned. dq, dk, dv have the strides of q, k, v and are overwritten; dq may
     * be NULL when only keys and values have something trainable upstream. */
    void (*attention_bwd)(ops *o, const struct ops_attention *a, const void *out, const void *dout,
                          void *dq, void *dk, void *dv);
    /* out[rows, heads * head_dim]; a row agrees with `attention` up to rounding. */
    void (*attention_slots)(ops *o, const struct ops_slots *a, void *out);

    void (*activate)(ops *o, enum ops_activation act, bool gated, const void *h, int64_t rows,
                     int64_t F, const int64_t *off, int64_t B, const float *drop, void *g);
    void (*activate_bwd)(ops *o, enum ops_activation act, bool gated, const void *h,
                         const void *dg, int64_t rows, int64_t F, const int64_t *off, int64_t B,
                         const float *drop, void *dh);
    /* h = x Wi, g = activate(h), y = g Wo, or base + g Wo unless base is NULL (it may be y): the bits
     * of the operations one by one. g is scratch and may be left as it was, and so may h with
     * act.only_g. */
    void (*feed)(ops *o, const struct ops_feed *f, const void *x, int64_t rows, void *h, void *g,
                 const void *base, void *y);
    /* dg = dy Wo^T, dh = activate_bwd(h, dg), dx = dh Wi^T. dg and dh are scratch like g. */
    void (*feed_bwd)(ops *o, const struct ops_feed *f, const void *dy, int64_t rows, const void *h,
                     void *dg, void *dh, void *dx);

    /* x[rows, E] *= drop[b, :] for the rows of each example b. */
    void (*drop_rows)(ops *o, void *x, int64_t E, const int64_t *off, int64_t B, const float *drop);
    /* y += x, n elements */
    void (*add)(ops *o, void *y, const void *x, int64_t n);
    /* x *= a, n elements */
    void (*scale)(ops *o, void *x, float a, int64_t n);
    /* dst[i, :] = src[index[i], :] and dst[index[i], :] (+)= src[i, :]; width elements per row. */
    void (*gather_rows)(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                        int64_t width);
    void (*scatter_rows)(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                         int64_t width, bool add);

    /* Loss over wide logits[rows, V] (float32 arithmetic or better). */
    void (*loss)(ops *o, void *logits, const struct ops_loss_args *a);
    /* Of entries first .. first + n: a->target counts from 0 of V, as does argmax. */
    void (*loss_part)(ops *o, const void *logits, const struct ops_loss_args *a, int64_t first,
                      int64_t n, struct ops_loss_part *out);
    /* logits become d loss / d logits, with a->log_z of all entries. */
    void (*loss_part_bwd)(ops *o, void *logits, const struct ops_loss_args *a, int64_t first,
                          int64_t n);
    /* First non-finite of n elements, or -1. */
    int64_t (*find_nonfinite)(ops *o, const void *x, int64_t n);
};

/* Every backend's context starts with its table. */
struct ops {
    const struct ops_table *t;
    spt_status fault; /* what went wrong inside an operation since the last ops_check */
};
/* Operations return nothing: one that ran out of memory leaves NaN and a fault behind. Reports and
 * forgets it; called at the end of every pass. */
spt_status ops_check(ops *o, spt_err *err);

struct ops_config {
    const char *isa; /* NULL or "auto", "ref", "ref64", "avx2", "avx512"; SPT_ISA overrides NULL */
    enum ops_compute compute;
    int threads; /* 0: all cores */
};

/* Chooses a backend for this machine. SPT_E_CONFIG when the named one is not available. */
spt_status ops_open(const struct ops_config *cfg, ops **out, spt_err *err);
void ops_close(ops *o); /* accepts NULL */
/* This machine multiplies bfloat16 natively (AVX512-BF16 or AMX): faster than float32, not only
 * smaller. */
bool ops_native_bfloat16(void);
/* "auto", "ref", "avx2" and "avx512" say what this machine runs; false for any other name. */
bool ops_isa_available(const char *isa);
/* Name and version of the library behind the products, into text of 32 bytes; returns text. */
char *ops_library_version(char *text);

/* The backends behind ops_open. The two reference builds are ops/ref compiled with float and with
 * double elements. ops_cpu_open resolves "auto", and refuses what the machine cannot run with
 * SPT_E_CONFIG. */
spt_status ops_ref_open_f32(ops **out, spt_err *err);
spt_status ops_ref_open_f64(ops **out, spt_err *err);
spt_status ops_cpu_open(const struct ops_config *cfg, ops **out, spt_err *err);

#endif
