/* The vector passes, written once over the words of simd_avx2.h or simd_avx512.h and included by
 * kernels_avx2.c and kernels_avx512.c, which define KERNELS (the function that returns the table)
 * and KERNELS_NAME. Rows are independent; every sum has an order that depends on the length of the
 * row alone. */
#include <math.h>
#include <string.h>

#include "ops/cpu/cpu_internal.h"

#define INLINE static inline __attribute__((always_inline))

/* --- exp ---------------------------------------------------------------------------------------
 * exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, with the polynomial of Cephes expf.
 * Relative error below 2e-7 for results above 2^-126 (test_ops_cpu measures it); NaN stays NaN. */
INLINE vf vexp(vf x)
{
    x = vmin(vset(89.5f), vmax(vset(-110.0f), x));
    const vf n = vround(vmul(x, vset(1.44269504088896341f)));
    vf r = vfnma(n, vset(0.693359375f), x);
    r = vfnma(n, vset(-2.12194440e-4f), r);
    vf p = vset(1.9875691500e-4f);
    p = vfma(p, r, vset(1.3981999507e-3f));
    p = vfma(p, r, vset(8.3334519073e-3f));
    p = vfma(p, r, vset(4.1665795894e-2f));
    p = vfma(p, r, vset(1.6666665459e-1f));
    p = vfma(p, r, vset(5.0000001201e-1f));
    p = vfma(p, vmul(r, r), r);
    return vscale2(vadd(p, vset(1.0f)), n);
}

/* 1 / (1 + exp(-x)) */
INLINE vf vsigmoid(vf x)
{
    return vdiv(vset(1.0f), vadd(vset(1.0f), vexp(vneg(x))));
}

/* --- small matrix products ---------------------------------------------------------------------
 * y[rows, cols] (+)= x[rows, K] b[K, ldb]; element (i, k) of x lies at x[i * rs + k * cs]. Every
 * element is one chain of fused multiply-adds over k, whatever the blocking. */

enum { MR = BLOCK_ROWS, NV = VL == 16 ? 4 : 2 };

INLINE void gemm_block(const float *x, int64_t rs, int64_t cs, int mr, int64_t K, const float *b,
                       int64_t ldb, int nv, float *y, int64_t ldy, bool add)
{
    vf acc[MR][NV];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) acc[i][v] =
        add ? vload(y + i * ldy + v * VL) : vzero();
    for (int64_t k = 0; k < K; k++) {
        vf row[NV];
        UNROLL for (int v = 0; v < nv; v++) row[v] = vload(b + k * ldb + v * VL);
        UNROLL for (int i = 0; i < mr; i++)
        {
            const vf a = vset(x[i * rs + k * cs]);
            UNROLL for (int v = 0; v < nv; v++) acc[i][v] = vfma(a, row[v], acc[i][v]);
        }
    }
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++)
        vstore(y + i * ldy + v * VL, acc[i][v]);
}

INLINE void gemm_rows(const float *x, int64_t rs, int64_t cs, int64_t rows, int64_t K,
                      const float *b, int64_t ldb, int nv, float *y, int64_t ldy, bool add,
                      struct ahead_list *ahead)
{
    int64_t i = 0;
    for (; i + MR <= rows; i += MR) {
        if (ahead)
            fetch_list(ahead);
        gemm_block(x + i * rs, rs, cs, MR, K, b, ldb, nv, y + i * ldy, ldy, add);
    }
    x += i * rs;
    y += i * ldy;
    switch (rows - i) {
    case 5:
        gemm_block(x, rs, cs, 5, K, b, ldb, nv, y, ldy, add);
        break;
    case 4:
        gemm_block(x, rs, cs, 4, K, b, ldb, nv, y, ldy, add);
        break;
    case 3:
        gemm_block(x, rs, cs, 3, K, b, ldb, nv, y, ldy, add);
        break;
    case 2:
        gemm_block(x, rs, cs, 2, K, b, ldb, nv, y, ldy, add);
        break;
    case 1:
        gemm_block(x, rs, cs, 1, K, b, ldb, nv, y, ldy, add);
        break;
    default:
        break;
    }
}

/* cols is rounded up to whole vectors: b and y must have room. */
INLINE void gemm_cols(const float *x, int64_t rs, int64_t cs, int64_t rows, int64_t K,
                      const float *b, int64_t ldb, int64_t cols, float *y, int64_t ldy, bool add,
                      struct ahead_list *ahead)
{
    int64_t v = (cols + VL - 1) / VL;
    for (; v >= NV; v -= NV, b += NV * VL, y += NV * VL)
        gemm_rows(x, rs, cs, rows, K, b, ldb, NV, y, ldy, add, ahead);
    if (NV > 2 && v >= 2) {
        gemm_rows(x, rs, cs, rows, K, b, ldb, 2, y, ldy, add, ahead);
        v -= 2, b += 2 * VL, y += 2 * VL;
    }
    if (v)
        gemm_rows(x, rs, cs, rows, K, b, ldb, 1, y, ldy, add, ahead);
}

static void gemm_add(const float *x, int64_t ldx, int64_t rows, int64_t K, const float *panel,
                     int64_t cols, float *y, int64_t ldy)
{
    gemm_cols(x, ldx, 1, rows, K, panel, PANEL, cols, y, ldy, true, NULL);
}

/* The same with x given by columns: (i, k) at x[k * ldx + i]. */
static void gemm_turned(const float *x, int64_t ldx, int64_t rows, int64_t K, const float *panel,
                        int64_t cols, float *y, int64_t ldy, bool add, struct ahead_list *ahead)
{
    gemm_cols(x, 1, ldx, rows, K, panel, PANEL, cols, y, ldy, add, ahead);
}

/* --- products with panels ----------------------------------------------------------------------
 * The same chains with everything around them arranged for large operands: while a block of rows
 * is multiplied, the next rows of x, the places of y and a part of the next panel are fetched. All
 * of them come from far away, and the machine's own prefetchers lose their way at every new row. */

enum { NC = NV * VL }; /* columns of a block */

INLINE void panel_k(const float *x, int64_t ldx, int mr, const float *b, vf acc[MR][NV])
{
    vf row[NV];
    UNROLL for (int v = 0; v < NV; v++) row[v] = vload(b + v * VL);
    UNROLL for (int i = 0; i < mr; i++)
    {
        const vf a = vset(x[i * ldx]);
        UNROLL for (int v = 0; v < NV; v++) acc[i][v] = vfma(a, row[v], acc[i][v]);
    }
}

/* `cols` columns of sums; a part of a vector is masked. */
INLINE void panel_out(int mr, int64_t cols, float *y, const float *base, int64_t ldy,
                      vf acc[MR][NV])
{
    if (cols >= NC && base) {
        UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < NV; v++) vstore(
            y + i * ldy + v * VL, vadd(vload(base + i * ldy + v * VL), acc[i][v]));
    } else if (cols >= NC) {
        UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < NV; v++)
            vstore(y + i * ldy + v * VL, acc[i][v]);
    } else {
        UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < NV; v++)
        {
            const int64_t n = cols - v * VL;
            const vm m = vtail(n < 0 ? 0 : n < VL ? n : 0);
            float *to = y + i * ldy + v * VL;
            const float *from = base ? base + i * ldy + v * VL : to;
            if (n >= VL)
                vstore(to, base ? vadd(vload(from), acc[i][v]) : acc[i][v]);
            else if (n > 0)
                vstore_m(to, base ? vadd(vload_m(from, m), acc[i][v]) : acc[i][v], m);
        }
    }
}

INLINE void panel_block(const struct panel_job *j, const float *x, int mr, const float *b,
                        int64_t cols, float *y, const float *base, const float *next)
{
    const int64_t ldx = j->ldx, ldy = j->ldy, K = j->K;
    vf acc[MR][NV];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < NV; v++) acc[i][v] = vzero();
    int64_t k = 0;
    for (; k + FETCH_K <= K; k += FETCH_K) {
        if (next)
            UNROLL for (int i = 0; i < MR; i++) __builtin_prefetch(next + i * ldx + k, 0, 3);
        fetch_ahead(j->ahead);
        if (j->list)
            fetch_list(j->list);
        if (k < mr * FETCH_K)
            UNROLL for (int v = 0; v < (int)NC; v += 16)
                __builtin_prefetch(y + k / FETCH_K * ldy + v, 1, 3);
        for (int u = 0; u < FETCH_K; u++, x++, b += PANEL)
            panel_k(x, ldx, mr, b, acc);
    }
    for (; k < K; k++, x++, b += PANEL)
        panel_k(x, ldx, mr, b, acc);
    panel_out(mr, cols, y, base, ldy, acc);
}

static void gemm(const struct panel_job *j)
{
    const float *panel = j->panel, *follow = j->follow;
    for (int64_t n = 0; n < j->cols; n += NC)
        for (int64_t i = 0; i < j->rows; i += MR) {
            const float *x = (const float *)j->x + i * j->ldx, *next = NULL;
            float *y = j->y + i * j->ldy + n;
            const float *base = j->base ? j->base + i * j->ldy + n : NULL;
            const int64_t cols = j->cols - n;
            if ((int)NC == (int)PANEL) /* x passes once: the next block, or what follows */
                next = i + MR < j->rows ? x + MR * j->ldx : follow;
            else if (i == 0 && follow) /* several times: each pass fetches a part */
                next = follow + n / NC * MR * j->ldx;
            switch (j->rows - i) {
            case 1:
                panel_block(j, x, 1, panel + n, cols, y, base, next);
                break;
            case 2:
                panel_block(j, x, 2, panel + n, cols, y, base, next);
                break;
            case 3:
                panel_block(j, x, 3, panel + n, cols, y, base, next);
                break;
            case 4:
                panel_block(j, x, 4, panel + n, cols, y, base, next);
                break;
            case 5:
                panel_block(j, x, 5, panel + n, cols, y, base, next);
                break;
            default:
                panel_block(j, x, MR, panel + n, cols, y, base, next);
                break;
            }
        }
}

/* --- conversions -------------------------------------------------------------------------------
 */

static void to_bf16(const float *x, uint16_t *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore_bf16(y + i, vload(x + i));
    for (; i < n; i++)
        y[i] = f32_to_bf16(x[i]);
}

static void from_bf16(const uint16_t *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, vload_bf16(x + i));
    for (; i < n; i++)
        y[i] = bf16_to_f32(x[i]);
}

static void from_f16(const uint16_t *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, vload_f16(x + i));
    for (; i < n; i++)
        y[i] = f16_to_f32(x[i]);
}

static void transpose(const float *src, float *dst)
{
    for (int64_t i = 0; i < PANEL; i += VL)
        for (int64_t j = 0; j < PANEL; j += VL)
            vtranspose(src + i * PANEL + j, PANEL, dst + j * PANEL + i, PANEL);
}

/* --- element-wise ------------------------------------------------------------------------------
 */

/* Runs STEP for whole vectors with plain loads and once for the rest with masked ones. LOAD and
 * STORE are what STEP uses. */
#define EACH(n, STEP)                                                                              \
    do {                                                                                           \
        int64_t i = 0;                                                                             \
        for (; i + VL <= (n); i += VL) {                                                           \
            STEP(vload, vstore)                                                                    \
        }                                                                                          \
        if (i < (n)) {                                                                             \
            const vm tail_ = vtail((n)-i);                                                         \
            STEP(LOAD_TAIL, STORE_TAIL)                                                            \
        }                                                                                          \
    } while (0)
#define LOAD_TAIL(p) vload_m(p, tail_)
#define STORE_TAIL(p, a) vstore_m(p, a, tail_)

static void add(float *y, const float *x, int64_t n)
{
#define STEP(LD, ST) ST(y + i, vadd(LD(y + i), LD(x + i)));
    EACH(n, STEP);
#undef STEP
}

static void scale(float *x, float a, int64_t n)
{
#define STEP(LD, ST) ST(x + i, vmul(LD(x + i), vset(a)));
    EACH(n, STEP);
#undef STEP
}

static void multiply(float *x, const float *m, int64_t n)
{
#define STEP(LD, ST) ST(x + i, vmul(LD(x + i), LD(m + i)));
    EACH(n, STEP);
#undef STEP
}

static int64_t find_nonfinite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        const vm tail_ = vtail(n - i < VL ? n - i : 0);
        const vf a = i + VL <= n ? vload(x + i) : vload_m(x + i, tail_);
        /* x - x is NaN exactly for infinities and NaN */
        const vf d = vsub(a, a);
        if (vm_any(vunordered(d, d)))
            for (int64_t j = i; j < n; j++)
                if (!isfinite(x[j]))
                    return j;
    }
    return -1;
}

/* --- norm --------------------------------------------------------------------------------------
 */

INLINE float inverse_rms(const float *x, float eps, int64_t E)
{
    vf s[4] = {vzero(), vzero(), vzero(), vzero()};
    int64_t i = 0;
    for (; i + 4 * VL <= E; i += 4 * VL)
        UNROLL for (int u = 0; u < 4; u++)
        {
            const vf a = vload(x + i + u * VL);
            s[u] = vfma(a, a, s[u]);
        }
    for (; i < E; i += VL) {
        const vm tail_ = vtail(E - i < VL ? E - i : 0);
        const vf a = E - i < VL ? vload_m(x + i, tail_) : vload(x + i);
        s[0] = vfma(a, a, s[0]);
    }
    const float sum = vsum(vadd(vadd(s[0], s[1]), vadd(s[2], s[3])));
    return 1.0f / sqrtf(sum / (float)E + eps);
}

static void rmsnorm(const float *x, const float *w, float eps, int64_t E, float *y)
{
    const vf r = vset(inverse_rms(x, eps, E));
#define STEP(LD, ST) ST(y + i, vmul(vmul(LD(x + i), r), LD(w + i)));
    EACH(E, STEP);
#undef STEP
}

/* dx = r w dy - x r^3 / E sum(x w dy) */
static void rmsnorm_bwd(const float *x, const float *w, float eps, const float *dy, int64_t E,
                        float *dx, bool accumulate)
{
    const float r = inverse_rms(x, eps, E);
    vf s = vzero(), s2 = vzero();
    int64_t k = 0;
    for (; k + 2 * VL <= E; k += 2 * VL) {
        s = vfma(vmul(vload(x + k), vload(w + k)), vload(dy + k), s);
        s2 = vfma(vmul(vload(x + k + VL), vload(w + k + VL)), vload(dy + k + VL), s2);
    }
    for (; k < E; k += VL) {
        const vm t = vtail(E - k < VL ? E - k : 0);
        const bool whole = E - k >= VL;
        const vf a = whole ? vload(x + k) : vload_m(x + k, t);
        const vf b = whole ? vload(w + k) : vload_m(w + k, t);
        s = vfma(vmul(a, b), whole ? vload(dy + k) : vload_m(dy + k, t), s);
    }
    const vf c = vset(vsum(vadd(s, s2)) / (float)E * r * r * r), vr = vset(r);
    if (accumulate) {
#define STEP(LD, ST)                                                                               \
    ST(dx + i, vadd(LD(dx + i), vfnma(c, LD(x + i), vmul(vmul(LD(w + i), LD(dy + i)), vr))));
        EACH(E, STEP);
#undef STEP
    } else {
#define STEP(LD, ST) ST(dx + i, vfnma(c, LD(x + i), vmul(vmul(LD(w + i), LD(dy + i)), vr)));
        EACH(E, STEP);
#undef STEP
    }
}

/* --- activations -------------------------------------------------------------------------------
 * gelu(u) = u/2 (1 + tanh t) = u sigmoid(2 t), t = sqrt(2 / pi) (u + 0.044715 u^3): one exp and no
 * cancellation for negative u. */

#define GELU_A 1.59576912160573071f   /* 2 sqrt(2 / pi) */
#define GELU_B 0.0713548162726002527f /* 0.044715 times that */

INLINE vf act_value(enum ops_activation act, vf u, vf *slope)
{
    switch (act) {
    case OPS_RELU: {
        const vm pos = vgt(u, vzero());
        *slope = vselect(pos, vset(1.0f), vzero());
        return vmax(vzero(), u); /* NaN stays NaN */
    }
    case OPS_GELU_TANH: {
        /* Beyond 30 nothing changes, and u^2 must not overflow. */
        const vf c = vmin(vset(30.0f), vmax(vset(-30.0f), u)), u2 = vmul(c, c);
        const vf s = vsigmoid(vmul(c, vfma(u2, vset(GELU_B), vset(GELU_A))));
        const vf dt = vfma(u2, vset(3 * GELU_B), vset(GELU_A));
        *slope = vfma(vmul(vmul(c, s), vsub(vset(1.0f), s)), dt, s);
        return vmul(u, s);
    }
    case OPS_SILU: {
        const vf s = vsigmoid(u);
        *slope = vmul(s, vfma(u, vsub(vset(1.0f), s), vset(1.0f)));
        return vmul(u, s);
    }
    case OPS_GELU_ERF:
    default:
        break;
    }
    float x[VL], y[VL], d[VL];
    vstore(x, u);
    for (int i = 0; i < VL; i++) {
        const float phi = 0.5f * erfcf(-x[i] * 0.707106781186547524f);
        y[i] = x[i] * phi;
        d[i] = phi + x[i] * 0.398942280401432678f * expf(-0.5f * x[i] * x[i]);
        if (isinf(x[i]))
            y[i] = x[i] > 0 ? x[i] : 0, d[i] = x[i] > 0 ? 1 : 0;
    }
    *slope = vload(d);
    return vload(y);
}

INLINE void activate_as(enum ops_activation act, const float *h, const float *gate,
                        const float *drop, int64_t F, float *g)
{
    vf slope;
#define STEP(LD, ST)                                                                               \
    vf y = act_value(act, LD(h + i), &slope);                                                      \
    if (gate)                                                                                      \
        y = vmul(y, LD(gate + i));                                                                 \
    if (drop)                                                                                      \
        y = vmul(y, LD(drop + i));                                                                 \
    ST(g + i, y);
    EACH(F, STEP);
#undef STEP
}

INLINE void activate_bwd_as(enum ops_activation act, const float *h, const float *gate,
                            const float *dg, const float *drop, int64_t F, float *dh, float *dgate)
{
#define STEP(LD, ST)                                                                               \
    vf slope, d = LD(dg + i);                                                                      \
    const vf y = act_value(act, LD(h + i), &slope);                                                \
    if (drop)                                                                                      \
        d = vmul(d, LD(drop + i));                                                                 \
    if (gate) {                                                                                    \
        const vf e = LD(gate + i);                                                                 \
        ST(dgate + i, vmul(d, y));                                                                 \
        d = vmul(d, e);                                                                            \
    }                                                                                              \
    ST(dh + i, vmul(d, slope));
    EACH(F, STEP);
#undef STEP
}

static void activate(enum ops_activation act, const float *h, const float *gate, const float *drop,
                     int64_t F, float *g)
{
    if (act == OPS_GELU_TANH && gate && !drop)
        activate_as(OPS_GELU_TANH, h, gate, NULL, F, g);
    else if (act == OPS_GELU_TANH)
        activate_as(OPS_GELU_TANH, h, gate, drop, F, g);
    else if (act == OPS_RELU)
        activate_as(OPS_RELU, h, gate, drop, F, g);
    else if (act == OPS_SILU)
        activate_as(OPS_SILU, h, gate, drop, F, g);
    else
        activate_as(OPS_GELU_ERF, h, gate, drop, F, g);
}

static void activate_bwd(enum ops_activation act, const float *h, const float *gate,
                         const float *dg, const float *drop, int64_t F, float *dh, float *dgate)
{
    if (act == OPS_GELU_TANH && gate && !drop)
        activate_bwd_as(OPS_GELU_TANH, h, gate, dg, NULL, F, dh, dgate);
    else if (act == OPS_GELU_TANH)
        activate_bwd_as(OPS_GELU_TANH, h, gate, dg, drop, F, dh, dgate);
    else if (act == OPS_RELU)
        activate_bwd_as(OPS_RELU, h, gate, dg, drop, F, dh, dgate);
    else if (act == OPS_SILU)
        activate_bwd_as(OPS_SILU, h, gate, dg, drop, F, dh, dgate);
    else
        activate_bwd_as(OPS_GELU_ERF, h, gate, dg, drop, F, dh, dgate);
}

/* --- softmax over a vocabulary -----------------------------------------------------------------
 */

/* Maximum of the row, to which `bias` is added first (NULL: not); a NaN wins. */
INLINE float row_max(float *x, const float *bias, int64_t n)
{
    const vf low = vset(-INFINITY);
    vf m = low, bad = vzero();
    for (int64_t i = 0; i < n; i += VL) {
        const bool whole = n - i >= VL;
        const vm t = vtail(whole ? 0 : n - i);
        vf a = whole ? vload(x + i) : vselect(t, vload_m(x + i, t), low);
        if (bias) {
            a = vadd(a, whole ? vload(bias + i) : vload_m(bias + i, t));
            if (whole)
                vstore(x + i, a);
            else
                vstore_m(x + i, a, t);
        }
        const vf d = vsub(a, a);
        bad = vadd(bad, whole ? d : vselect(t, d, vzero()));
        m = vmax(a, m); /* keeps m where a is NaN... */
    }
    const float rest = vsum(bad); /* NaN when anything is infinite or NaN */
    const float top = vtop(m);
    if (rest != rest) /* ...so that the NaN is looked for here */
        for (int64_t i = 0; i < n; i++)
            if (x[i] != x[i])
                return x[i];
    return top;
}

enum { SUM_BLOCK = 64 * VL };

static double log_sum_exp(const float *x, int64_t n, float *sum, int32_t *argmax)
{
    const float max = row_max((float *)(uintptr_t)x, NULL, n);
    double total = 0, plain = 0; /* of blocks that are summed in float32 */
    for (int64_t at = 0; at < n; at += SUM_BLOCK) {
        const int64_t end = n - at < SUM_BLOCK ? n : at + SUM_BLOCK;
        vf s = vzero(), p = vzero();
        int64_t i = at;
        for (; i + VL <= end; i += VL) {
            const vf a = vload(x + i);
            s = vadd(s, vexp(vsub(a, vset(max))));
            p = vadd(p, a);
        }
        if (i < end) {
            const vm t = vtail(end - i);
            const vf a = vload_m(x + i, t);
            s = vadd(s, vselect(t, vexp(vsub(a, vset(max))), vzero()));
            p = vadd(p, a);
        }
        total += (double)vsum(s);
        plain += (double)vsum(p);
    }
    if (sum)
        *sum = (float)plain;
    if (argmax) {
        int64_t best = 0;
        if (max == max)
            while (best < n - 1 && !(x[best] >= max))
                best++;
        else
            for (int64_t i = 1; i < n; i++) /* the rule of the definition, NaN or not */
                if (x[i] > x[best])
                    best = i;
        *argmax = (int32_t)best;
    }
    return (double)max + log(total);
}

static void softmax_grad(float *x, int64_t n, float log_z, float a, float b)
{
    const vf z = vset(log_z), va = vset(a), vb = vset(b);
#define STEP(LD, ST) ST(x + i, vsub(vmul(va, vexp(vsub(LD(x + i), z))), vb));
    EACH(n, STEP);
#undef STEP
}

/* --- attention ---------------------------------------------------------------------------------
 * One example and one head at a time, in blocks of queries, so that a block of scores
 * [queries, keys] stays in the second-level cache. K^T and V are laid out as panels once per head;
 * the products are those above. */

enum { QB = 64, QB_MAX = 256, SCORES = 64 * 1024 };

/* Queries of a block; nothing depends on it but speed. */
static int64_t query_block(int64_t keys)
{
    const int64_t n = SCORES / (keys / PANEL * PANEL + PANEL) / PANEL * PANEL;
    return n < QB ? QB : n > QB_MAX ? QB_MAX : n;
}

static int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* Panels of K^T: element (d, j) at [j / PANEL][d][j % PANEL]; columns behind the keys are zero. */
static void pack_turned(const float *k, int64_t stride, int64_t keys, int64_t D, float *to)
{
    for (int64_t p = 0; p < up(keys, PANEL); p += PANEL, to += D * PANEL) {
        const int64_t n = keys - p < PANEL ? keys - p : PANEL;
        int64_t j = 0;
        for (; j + VL <= n; j += VL) {
            int64_t d = 0;
            for (; d + VL <= D; d += VL)
                vtranspose(k + (p + j) * stride + d, stride, to + d * PANEL + j, PANEL);
            for (; d < D; d++)
                for (int64_t u = j; u < j + VL; u++)
                    to[d * PANEL + u] = k[(p + u) * stride + d];
        }
        for (int64_t d = 0; d < D; d++) {
            for (int64_t u = j; u < n; u++)
                to[d * PANEL + u] = k[(p + u) * stride + d];
            for (int64_t u = n; u < PANEL; u++)
                to[d * PANEL + u] = 0;
        }
    }
}

/* Panels of V: element (j, d) at [d / PANEL][j][d % PANEL]. */
static void pack_rows(const float *v, int64_t stride, int64_t keys, int64_t D, float *to)
{
    for (int64_t p = 0; p < D; p += PANEL, to += keys * PANEL) {
        const int64_t n = D - p < PANEL ? D - p : PANEL;
        for (int64_t j = 0; j < keys; j++) {
            memcpy(to + j * PANEL, v + j * stride + p, (size_t)n * sizeof *to);
            if (n < PANEL)
                memset(to + j * PANEL + n, 0, (size_t)(PANEL - n) * sizeof *to);
        }
    }
}

/* bias by distance for every distance that occurs: ext[j - i + queries - 1 + ...], so that the
 * row of query i is contiguous in j. Returns the row of query 0; query i is `i` floats before. */
static const float *spread_bias(const struct head_job *j, float *ext)
{
    if (!j->bias)
        return NULL;
    const int64_t low = -(j->q_first + j->queries - 1);
    for (int64_t d = low; d < j->keys; d++) {
        const int64_t c = d < -j->span ? -j->span : d > j->span ? j->span : d;
        ext[d - low] = j->bias[c + j->span];
    }
    return ext - j->q_first - low;
}

static int64_t visible(const struct head_job *j, int64_t i)
{
    const int64_t n = j->q_first + i + 1;
    return j->causal && n < j->keys ? n : j->keys;
}

/* scores[n, ld] of n rows of q against the first `keys` keys */
static void scores_of(const struct head_job *j, const float *q, int64_t stride, const float *kt,
                      int64_t n, int64_t keys, float *s, int64_t ld)
{
    for (int64_t p = 0; p < keys; p += PANEL)
        gemm_cols(q, stride, 1, n, j->D, kt + p * j->D, PANEL,
                  keys - p < PANEL ? keys - p : PANEL, s + p, ld, false, j->ahead);
}

/* The same for few queries, whose keys are not worth turning around: with the keys as rows and the
 * queries as columns, scores[i, j] = t[j, i]. The chain over d is the same, so are the bits. */
enum { FEW = PANEL };

static void few_scores(const float *q, int64_t q_stride, int64_t queries, const float *k,
                       int64_t k_stride, int64_t keys, int64_t D, float *turned, float *t, float *s,
                       int64_t ld, struct ahead_list *ahead)
{
    pack_turned(q, q_stride, queries, D, turned);
    gemm_cols(k, k_stride, 1, keys, D, turned, PANEL, queries, t, FEW, false, ahead);
    int64_t j = 0;
    for (; j + VL <= keys; j += VL)
        for (int64_t i = 0; i < queries; i += VL) /* s has room for whole vectors of rows */
            vtranspose(t + j * FEW + i, FEW, s + i * ld + j, ld);
    for (; j < keys; j++)
        for (int64_t i = 0; i < queries; i++)
            s[i * ld + j] = t[j * FEW + i];
}

/* Turning the keys around pays when many queries share it. */
static bool few_queries(const struct head_job *j)
{
    return j->queries <= 16 || (j->queries <= FEW && j->D > 2 * PANEL);
}

/* s = exp(s + bias - max), zeros in [n, ld). Returns max, *sum. */
static float softmax_row(float *s, const float *bias, int64_t n, int64_t ld, float *sum)
{
    const float max = bias ? row_max(s, bias, n) : row_max(s, NULL, n);
    const vf top = vset(max);
    vf t = vzero();
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const vf e = vexp(vsub(vload(s + i), top));
        t = vadd(t, e);
        vstore(s + i, e);
    }
    if (i < n) {
        const vm m = vtail(n - i);
        const vf e = vselect(m, vexp(vsub(vload_m(s + i, m), top)), vzero());
        t = vadd(t, e);
        vstore_m(s + i, e, m);
    }
    if (n < ld)
        memset(s + n, 0, (size_t)(ld - n) * sizeof *s);
    *sum = vsum(t);
    return max;
}

/* Spreads what is to be fetched over the blocks of rows of this head's products. */
static void spread_ahead(const struct head_job *j, bool few, bool back)
{
    if (!j->ahead)
        return;
    const int64_t q = j->queries / MR + 1, k = j->keys / MR + 1, d = up(j->D, NC) / NC;
    const int64_t scores = few ? k * (up(j->queries, NC) / NC) : q * (up(j->keys, NC) / NC);
    const int64_t blocks = back ? 2 * scores + (q + 2 * k) * d : scores + q * d;
    int64_t rows = 0;
    for (int i = 0; i < j->ahead->count; i++)
        rows += j->ahead->array[i].rows;
    j->ahead->rows = rows / blocks + 1;
}

static int64_t attention_scratch(int64_t queries, int64_t keys, int64_t D)
{
    const int64_t kp = up(keys, PANEL), dp = up(D, PANEL), qb = query_block(keys);
    /* ext, K^T, V^T, V (or K), two blocks of scores, out, panels of q and dout, dk, dv */
    return up(queries + keys + PANEL, PANEL) + 2 * kp * D + kp * dp + 2 * qb * kp + 3 * qb * dp +
           2 * kp * dp + 2 * qb * dp + PANEL * D + kp * FEW;
}

static void attention(const struct head_job *j, float *scratch)
{
    const int64_t D = j->D, ld = up(j->keys, PANEL), dp = up(D, PANEL);
    const int64_t qb = query_block(j->keys);
    float *ext = scratch, *kt = ext + up(j->q_first + j->queries + j->keys + PANEL, PANEL);
    float *vp = kt + ld * D, *s = vp + ld * dp, *o = s + qb * ld, *qt = o + qb * dp;
    const float *bias = spread_bias(j, ext);
    const bool few = few_queries(j), in_place = few && D % VL == 0;
    spread_ahead(j, few, false);
    if (few)
        few_scores(j->q, j->q_stride, j->queries, j->k, j->k_stride, j->keys, D, qt, qt + PANEL * D,
                   s, ld, j->ahead);
    else
        pack_turned(j->k, j->k_stride, j->keys, D, kt);
    if (!in_place)
        pack_rows(j->v, j->v_stride, j->keys, D, vp);
    for (int64_t at = 0; at < j->queries; at += qb) {
        const int64_t n = least(j->queries - at, qb);
        float inverse[QB_MAX];
        if (!few)
            scores_of(j, j->q + at * j->q_stride, j->q_stride, kt, n, j->keys, s, ld);
        for (int64_t i = 0; i < n; i++) {
            float sum;
            const float max = softmax_row(s + i * ld, bias ? bias - (at + i) : NULL,
                                          visible(j, at + i), j->keys, &sum);
            inverse[i] = 1.0f / sum;
            if (j->lse)
                j->lse[(at + i) * j->lse_stride] = max + logf(sum);
            if (j->drop)
                multiply(s + i * ld, j->drop, j->keys);
        }
        for (int64_t p = 0; p < D; p += PANEL)
            gemm_cols(s, ld, 1, n, j->keys, in_place ? j->v + p : vp + p * j->keys,
                      in_place ? j->v_stride : PANEL, D - p < PANEL ? D - p : PANEL, o + p, dp,
                      false, j->ahead);
        for (int64_t i = 0; i < n; i++) {
            float *y = j->y + (at + i) * j->out_stride;
            const vf a = vset(inverse[i]);
            const float *x = o + i * dp;
#define STEP(LD, ST) ST(y + i_, vmul(LD(x + i_), a));
            int64_t i_ = 0;
            for (; i_ + VL <= D; i_ += VL) {
                STEP(vload, vstore)
            }
            if (i_ < D) {
                const vm tail_ = vtail(D - i_);
                STEP(LOAD_TAIL, STORE_TAIL)
            }
#undef STEP
        }
    }
}

INLINE float dot(const float *a, const float *b, int64_t n)
{
    vf s = vzero();
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        s = vfma(vload(a + i), vload(b + i), s);
    if (i < n) {
        const vm t = vtail(n - i);
        s = vfma(vload_m(a + i, t), vload_m(b + i, t), s);
    }
    return vsum(s);
}

/* s (scores) and dp (dout V^T) of n visible keys become the weights of dv and the gradient of the
 * scores: p = exp(s + bias - lse), dp = p (drop dp - delta), s = p drop. Zeros in [n, ld). */
INLINE void score_grad_as(float *s, float *dp, const float *bias, const float *drop, float lse,
                          float delta, int64_t n)
{
    const vf d = vset(delta), z = vset(lse);
#define STEP(LD, ST)                                                                               \
    vf a = LD(s + i), g = LD(dp + i);                                                              \
    if (bias)                                                                                      \
        a = vadd(a, LD(bias + i));                                                                 \
    const vf p = vexp(vsub(a, z));                                                                 \
    if (drop) {                                                                                    \
        const vf m = LD(drop + i);                                                                 \
        g = vmul(g, m);                                                                            \
        ST(s + i, vmul(p, m));                                                                     \
    } else {                                                                                       \
        ST(s + i, p);                                                                              \
    }                                                                                              \
    ST(dp + i, vmul(p, vsub(g, d)));
    EACH(n, STEP);
#undef STEP
}

static void score_grad(float *s, float *dp, const float *bias, const float *drop, float lse,
                       float delta, int64_t n, int64_t ld)
{
    if (bias && !drop)
        score_grad_as(s, dp, bias, NULL, lse, delta, n);
    else
        score_grad_as(s, dp, bias, drop, lse, delta, n);
    if (n < ld) {
        memset(s + n, 0, (size_t)(ld - n) * sizeof *s);
        memset(dp + n, 0, (size_t)(ld - n) * sizeof *dp);
    }
}

static void attention_bwd(const struct head_job *j, float *scratch)
{
    const int64_t D = j->D, ld = up(j->keys, PANEL), dp = up(D, PANEL);
    const int64_t qb = query_block(j->keys);
    float *ext = scratch, *kt = ext + up(j->q_first + j->queries + j->keys + PANEL, PANEL);
    float *vt = kt + ld * D, *kp = vt + ld * D, *s = kp + ld * dp, *ds = s + qb * ld;
    float *o = ds + qb * ld, *qp = o + qb * dp, *gp = qp + qb * dp, *dk = gp + qb * dp;
    float *dv = dk + ld * dp, *qt = dv + ld * dp, *t = qt + PANEL * D;
    const float *bias = spread_bias(j, ext);
    const bool few = few_queries(j), in_place = few && D % VL == 0;
    spread_ahead(j, few, true);
    /* Rows of narrow heads are far apart: they are walked over once. */
    const bool packed = !few && D <= PANEL;
    /* With all queries in one block the sums go to their places at once. */
    const bool direct = j->queries <= qb && D % VL == 0;
    if (packed || (j->dq && !in_place))
        pack_rows(j->k, j->k_stride, j->keys, D, kp);
    if (!few) {
        pack_turned(packed ? kp : j->k, packed ? PANEL : j->k_stride, j->keys, D, kt);
        pack_turned(j->v, j->v_stride, j->keys, D, vt);
    }
    if (!direct) {
        memset(dk, 0, (size_t)(j->grad_keys * dp) * sizeof *dk);
        memset(dv, 0, (size_t)(j->grad_keys * dp) * sizeof *dv);
    }
    for (int64_t at = 0; at < j->queries; at += qb) {
        const int64_t n = least(j->queries - at, qb);
        const int64_t nq = !j->dq || j->grad_queries <= at ? 0
                           : j->grad_queries - at < n      ? j->grad_queries - at
                                                           : n;
        /* Queries that need no gradient matter only through the keys that do. */
        const int64_t keys = nq ? j->keys : j->grad_keys;
        if (!keys)
            continue;
        if (few) {
            few_scores(j->q, j->q_stride, n, j->k, j->k_stride, keys, D, qt, t, s, ld, j->ahead);
            few_scores(j->dout, j->out_stride, n, j->v, j->v_stride, keys, D, qt, t, ds, ld,
                       j->ahead);
        } else {
            const float *q = packed ? qp : j->q + at * j->q_stride;
            const float *g = packed ? gp : j->dout + at * j->out_stride;
            if (packed) {
                pack_rows(j->q + at * j->q_stride, j->q_stride, n, D, qp);
                pack_rows(j->dout + at * j->out_stride, j->out_stride, n, D, gp);
            }
            scores_of(j, q, packed ? PANEL : j->q_stride, kt, n, keys, s, ld);
            scores_of(j, g, packed ? PANEL : j->out_stride, vt, n, keys, ds, ld);
        }
        for (int64_t i = 0; i < n; i++) {
            const int64_t row = at + i, seen = visible(j, row) < keys ? visible(j, row) : keys;
            const float *g = packed ? gp + i * PANEL : j->dout + row * j->out_stride;
            const float delta = dot(g, j->out + row * j->out_stride, D);
            score_grad(s + i * ld, ds + i * ld, bias ? bias - row : NULL, j->drop,
                       j->lse[row * j->lse_stride], delta, seen, keys);
        }
        float *dq = nq && D % VL == 0 ? j->dq + at * j->q_stride : o;
        for (int64_t p = 0; p < D && nq; p += PANEL)
            gemm_cols(ds, ld, 1, nq, keys, in_place ? j->k + p : kp + p * j->keys,
                      in_place ? j->k_stride : PANEL, D - p < PANEL ? D - p : PANEL, dq + p,
                      D % VL ? dp : j->q_stride, false, j->ahead);
        for (int64_t i = 0; i < nq && D % VL; i++)
            memcpy(j->dq + (at + i) * j->q_stride, o + i * dp, (size_t)D * sizeof *o);
        if (!j->grad_keys)
            continue;
        if (!packed) {
            pack_rows(j->q + at * j->q_stride, j->q_stride, n, D, qp);
            pack_rows(j->dout + at * j->out_stride, j->out_stride, n, D, gp);
        }
        float *to_k = direct ? j->dk : dk, *to_v = direct ? j->dv : dv;
        const int64_t ldk = direct ? j->k_stride : dp;
        for (int64_t p = 0; p < D; p += PANEL) {
            const int64_t cols = D - p < PANEL ? D - p : PANEL;
            gemm_turned(ds, ld, j->grad_keys, n, qp + p * n, cols, to_k + p, ldk, !direct,
                        j->ahead);
            gemm_turned(s, ld, j->grad_keys, n, gp + p * n, cols, to_v + p, ldk, !direct,
                        j->ahead);
        }
    }
    for (int64_t i = 0; i < j->grad_keys && !direct; i++) {
        memcpy(j->dk + i * j->k_stride, dk + i * dp, (size_t)D * sizeof *dk);
        memcpy(j->dv + i * j->v_stride, dv + i * dp, (size_t)D * sizeof *dv);
    }
}

static const struct kernels table = {
    .name = KERNELS_NAME,
    .passes = PANEL / NC,
    .gemm = gemm,
    .gemm_add = gemm_add,
    .gemm_bf16 = GEMM_BF16,
    .to_bf16 = to_bf16,
    .from_bf16 = from_bf16,
    .from_f16 = from_f16,
    .transpose = transpose,
    .transpose_pairs = TRANSPOSE_PAIRS,
    .rmsnorm = rmsnorm,
    .rmsnorm_bwd = rmsnorm_bwd,
    .activate = activate,
    .activate_bwd = activate_bwd,
    .add = add,
    .scale = scale,
    .multiply = multiply,
    .log_sum_exp = log_sum_exp,
    .softmax_grad = softmax_grad,
    .find_nonfinite = find_nonfinite,
    .attention_scratch = attention_scratch,
    .attention = attention,
    .attention_bwd = attention_bwd,
#ifdef HALF
    .to_half = to_half,
    .activate_half = activate_half,
    .activate_bwd_half = activate_bwd_half,
    .attention_half_scratch = attention_half_scratch,
    .attention_half = attention_half,
    .attention_bwd_half = attention_bwd_half,
#endif
};

const struct kernels *KERNELS(void)
{
    return &table;
}
