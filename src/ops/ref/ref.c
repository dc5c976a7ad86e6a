/* The definition of every operation: plain loops over float or double elements, accumulating in
 * double. Fast backends must agree with these within rounding; gradient checks run on the double
 * build. Nothing here is meant to be fast, everything is meant to be read. */
#include "ops/ref/ref_internal.h"

#include <math.h>
#include <string.h>

struct ops_weight {
    int64_t K, N; /* of a table: V, E */
    size_t bytes;
    real *w; /* [K, N] */
};

/* --- storage ------------------------------------------------------------------------------- */

static void ref_close(ops *o)
{
    mem_free(o);
}

static void *ref_alloc(ops *o, size_t bytes)
{
    (void)o;
    return mem_alloc_aligned(bytes ? bytes : 1, 1);
}

static void ref_release(ops *o, void *p)
{
    (void)o;
    mem_free_aligned(p);
}

static void ref_put(ops *o, void *dst, const float *src, int64_t n)
{
    (void)o;
    real *d = dst;
    for (int64_t i = 0; i < n; i++)
        d[i] = (real)src[i];
}

static void ref_get(ops *o, float *dst, const void *src, int64_t n)
{
    (void)o;
    const real *s = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = (float)s[i];
}

static void ref_zero(ops *o, void *dst, int64_t n)
{
    (void)o;
    real *d = dst;
    for (int64_t i = 0; i < n; i++)
        d[i] = 0;
}

static void ref_copy(ops *o, void *dst, const void *src, int64_t n)
{
    (void)o;
    if (n)
        memmove(dst, src, (size_t)n * sizeof(real));
}

/* --- weights ------------------------------------------------------------------------------- */

static int64_t part_K(const struct ops_matrix *m)
{
    return m->view.shape.dim[m->transposed ? 1 : 0];
}

static int64_t part_N(const struct ops_matrix *m)
{
    return m->view.shape.dim[m->transposed ? 0 : 1];
}

/* Writes a part into columns [at, at + part_N) of w. */
static spt_status fill_part(const struct ops_matrix *m, int64_t at, ops_weight *w, spt_err *err)
{
    const int64_t rows = m->view.shape.dim[0], cols = m->view.shape.dim[1];
    float *line = mem_alloc((size_t)cols, sizeof *line);
    if (!line)
        return err_nomem(err, (size_t)cols * sizeof *line);
    for (int64_t r = 0; r < rows; r++) {
        tensor_to_f32(&m->view, (size_t)(r * ops_matrix_ld(m)), (size_t)cols, line);
        for (int64_t c = 0; c < cols; c++) {
            const int64_t k = m->transposed ? c : r, n = m->transposed ? r : c;
            w->w[k * w->N + at + n] = (real)line[c];
        }
    }
    mem_free(line);
    return SPT_OK;
}

static void ref_weight_free(ops *o, ops_weight *w)
{
    (void)o;
    if (!w)
        return;
    mem_free_aligned(w->w);
    mem_free(w);
}

static spt_status ref_weight_new(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                                 bool head, ops_weight **out, spt_err *err)
{
    (void)uses, (void)head;
    struct tensor_shape all = shape_2d(nparts > 0 ? part_K(&parts[0]) : 0, 0);
    for (int i = 0; i < nparts; i++) {
        char text[SHAPE_TEXT];
        if (parts[i].view.shape.rank != 2 || part_K(&parts[i]) != all.dim[0])
            return err_set(err, SPT_E_FORMAT, "matrix %s does not have %lld input rows",
                           shape_text(&parts[i].view.shape, text), (long long)all.dim[0]);
        all.dim[1] += part_N(&parts[i]);
    }
    size_t n, bytes;
    TRY(tensor_size(sizeof(real) == 8 ? DT_F64 : DT_F32, &all, &n, &bytes, err));
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    spt_status st = SPT_OK;
    *w = (ops_weight){.K = all.dim[0], .N = all.dim[1], .bytes = bytes, .w = ref_alloc(o, bytes)};
    if (!w->w)
        st = err_nomem(err, bytes);
    int64_t at = 0;
    for (int i = 0; i < nparts && !st; i++) {
        st = fill_part(&parts[i], at, w, err);
        at += part_N(&parts[i]);
    }
    if (st) {
        ref_weight_free(o, w);
        return st;
    }
    *out = w;
    return SPT_OK;
}

static size_t ref_weight_bytes(const ops_weight *w)
{
    return w ? w->bytes : 0;
}

static spt_status ref_table_new(ops *o, const struct ops_matrix *m, ops_weight **out, spt_err *err)
{
    return ref_weight_new(o, m, 1, 0, false, out, err);
}

static void ref_gather(ops *o, const ops_weight *t, const int32_t *ids, int64_t rows, void *out)
{
    real *y = out;
    for (int64_t i = 0; i < rows; i++)
        ref_copy(o, y + i * t->N, t->w + ids[i] * t->N, t->N);
}

/* --- products ------------------------------------------------------------------------------ */

static void ref_matmul(ops *o, const ops_weight *w, const void *x_, void *y_, int64_t rows,
                       bool add)
{
    (void)o;
    for (int64_t i = 0; i < rows; i++) {
        const real *x = (const real *)x_ + i * w->K;
        real *y = (real *)y_ + i * w->N;
        for (int64_t n = 0; n < w->N; n++) {
            double sum = 0;
            for (int64_t k = 0; k < w->K; k++)
                sum += (double)x[k] * (double)w->w[k * w->N + n];
            y[n] = (real)(add ? (double)y[n] + sum : sum);
        }
    }
}

static void ref_matmul_sum(ops *o, const ops_weight *w, const void *x, const void *base, void *y,
                           int64_t rows)
{
    ref_copy(o, y, base, rows * w->N);
    ref_matmul(o, w, x, y, rows, true);
}

static void ref_matmul_t(ops *o, const ops_weight *w, const void *dy_, void *dx_, int64_t rows,
                         bool add)
{
    (void)o;
    for (int64_t i = 0; i < rows; i++) {
        const real *dy = (const real *)dy_ + i * w->N;
        real *dx = (real *)dx_ + i * w->K;
        for (int64_t k = 0; k < w->K; k++) {
            double sum = 0;
            for (int64_t n = 0; n < w->N; n++)
                sum += (double)dy[n] * (double)w->w[k * w->N + n];
            dx[k] = (real)(add ? (double)dx[k] + sum : sum);
        }
    }
}

/* --- norm ---------------------------------------------------------------------------------- */

static double inverse_rms(const real *x, float eps, int64_t E)
{
    double sum = 0;
    for (int64_t e = 0; e < E; e++)
        sum += (double)x[e] * (double)x[e];
    return 1 / sqrt(sum / (double)E + (double)eps);
}

static void ref_rmsnorm(ops *o, const void *x_, const void *scale, float eps, int64_t rows,
                        int64_t E, void *y_)
{
    (void)o;
    const real *s = scale;
    for (int64_t i = 0; i < rows; i++) {
        const real *x = (const real *)x_ + i * E;
        real *y = (real *)y_ + i * E;
        const double r = inverse_rms(x, eps, E);
        for (int64_t e = 0; e < E; e++)
            y[e] = (real)((double)x[e] * r * (double)s[e]);
    }
}

/* y = x r s with r = (mean(x^2) + eps)^-1/2, so dx = r s dy - x r^3 / E * sum(x s dy). */
static void ref_rmsnorm_bwd(ops *o, const void *x_, const void *scale, float eps, const void *dy_,
                            int64_t rows, int64_t E, void *dx_, bool add)
{
    (void)o;
    const real *s = scale;
    for (int64_t i = 0; i < rows; i++) {
        const real *x = (const real *)x_ + i * E, *dy = (const real *)dy_ + i * E;
        real *dx = (real *)dx_ + i * E;
        const double r = inverse_rms(x, eps, E);
        double dot = 0;
        for (int64_t e = 0; e < E; e++)
            dot += (double)x[e] * (double)s[e] * (double)dy[e];
        const double c = dot * r * r * r / (double)E;
        for (int64_t e = 0; e < E; e++) {
            const double d = r * (double)s[e] * (double)dy[e] - c * (double)x[e];
            dx[e] = (real)(add ? (double)dx[e] + d : d);
        }
    }
}

/* --- activations --------------------------------------------------------------------------- */

#define SQRT_2_OVER_PI 0.79788456080286535588
#define SQRT_1_2 0.70710678118654752440
#define INV_SQRT_2PI 0.39894228040143267794

/* Value and derivative of the activation at u. */
static double act_value(enum ops_activation act, double u, double *slope)
{
    switch (act) {
    case OPS_RELU:
        *slope = u > 0 ? 1 : 0;
        return u > 0 ? u : (u <= 0 ? 0 : u); /* NaN stays NaN */
    case OPS_GELU_TANH: {
        const double t = tanh(SQRT_2_OVER_PI * (u + 0.044715 * u * u * u));
        *slope =
            0.5 * (1 + t) + 0.5 * u * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * u * u);
        return 0.5 * u * (1 + t);
    }
    case OPS_GELU_ERF: {
        const double phi = 0.5 * (1 + erf(u * SQRT_1_2));
        *slope = phi + u * INV_SQRT_2PI * exp(-0.5 * u * u);
        return u * phi;
    }
    case OPS_SILU: {
        const double sig = 1 / (1 + exp(-u));
        *slope = sig * (1 + u * (1 - sig));
        return u * sig;
    }
    }
    *slope = 1;
    return u;
}

static void ref_activate(ops *o, enum ops_activation act, bool gated, const void *h_, int64_t rows,
                         int64_t F, const int64_t *off, int64_t B, const float *drop, void *g_)
{
    (void)o;
    const int64_t width = gated ? 2 * F : F;
    for (int64_t i = 0, b = 0; i < rows; i++) {
        while (drop && b < B - 1 && i >= off[b + 1])
            b++;
        const real *h = (const real *)h_ + i * width;
        real *g = (real *)g_ + i * F;
        for (int64_t f = 0; f < F; f++) {
            double slope, y = act_value(act, (double)h[f], &slope);
            if (gated)
                y *= (double)h[F + f];
            g[f] = (real)(drop ? y * (double)drop[b * F + f] : y);
        }
    }
}

static void ref_activate_bwd(ops *o, enum ops_activation act, bool gated, const void *h_,
                             const void *dg_, int64_t rows, int64_t F, const int64_t *off,
                             int64_t B, const float *drop, void *dh_)
{
    (void)o;
    const int64_t width = gated ? 2 * F : F;
    for (int64_t i = 0, b = 0; i < rows; i++) {
        while (drop && b < B - 1 && i >= off[b + 1])
            b++;
        const real *h = (const real *)h_ + i * width, *dg = (const real *)dg_ + i * F;
        real *dh = (real *)dh_ + i * width;
        for (int64_t f = 0; f < F; f++) {
            double slope;
            const double y = act_value(act, (double)h[f], &slope);
            const double d = (double)dg[f] * (drop ? (double)drop[b * F + f] : 1);
            const double gate = gated ? (double)h[F + f] : 1;
            dh[f] = (real)(d * gate * slope);
            if (gated)
                dh[F + f] = (real)(d * y);
        }
    }
}

static void ref_matmul_each(ops *o, ops_weight *const *w, int64_t n, bool turned, const void *x,
                            void *y, int64_t rows)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t in = turned ? w[i]->N : w[i]->K, out = turned ? w[i]->K : w[i]->N;
        const real *from = (const real *)x + i * rows * in;
        real *to = (real *)y + i * rows * out;
        if (turned)
            o->t->matmul_t(o, w[i], from, to, rows, false);
        else
            o->t->matmul(o, w[i], from, to, rows, false);
    }
}

static void ref_feed(ops *o, const struct ops_feed *f, const void *x, int64_t rows, void *h,
                     void *g, const void *base, void *y)
{
    const struct ops_activate *a = &f->act;
    o->t->matmul(o, f->wi, x, h, rows, false);
    ref_activate(o, a->act, a->gated, h, rows, a->F, a->off, a->B, a->drop, g);
    if (base && base != y)
        o->t->matmul_sum(o, f->wo, g, base, y, rows);
    else
        o->t->matmul(o, f->wo, g, y, rows, base != NULL);
}

static void ref_feed_bwd(ops *o, const struct ops_feed *f, const void *dy, int64_t rows,
                         const void *h, void *dg, void *dh, void *dx)
{
    const struct ops_activate *a = &f->act;
    o->t->matmul_t(o, f->wo, dy, dg, rows, false);
    ref_activate_bwd(o, a->act, a->gated, h, dg, rows, a->F, a->off, a->B, a->drop, dh);
    o->t->matmul_t(o, f->wi, dh, dx, rows, false);
}

/* --- element-wise -------------------------------------------------------------------------- */

static void ref_drop_rows(ops *o, void *x_, int64_t E, const int64_t *off, int64_t B,
                          const float *drop)
{
    (void)o;
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = off[b]; i < off[b + 1]; i++)
            for (int64_t e = 0; e < E; e++) {
                real *x = (real *)x_ + i * E + e;
                *x = (real)((double)*x * (double)drop[b * E + e]);
            }
}

static void ref_add(ops *o, void *y_, const void *x_, int64_t n)
{
    (void)o;
    real *y = y_;
    const real *x = x_;
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void ref_scale(ops *o, void *x_, float a, int64_t n)
{
    (void)o;
    real *x = x_;
    for (int64_t i = 0; i < n; i++)
        x[i] *= (real)a;
}

static void ref_gather_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                            int64_t width)
{
    for (int64_t i = 0; i < rows; i++)
        ref_copy(o, (real *)dst + i * width, (const real *)src + index[i] * width, width);
}

static void ref_scatter_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                             int64_t width, bool add)
{
    for (int64_t i = 0; i < rows; i++) {
        real *to = (real *)dst + index[i] * width;
        const real *from = (const real *)src + i * width;
        if (add)
            ref_add(o, to, from, width);
        else
            ref_copy(o, to, from, width);
    }
}

static int64_t ref_find_nonfinite(ops *o, const void *x_, int64_t n)
{
    (void)o;
    const real *x = x_;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return i;
    return -1;
}

/* --- table --------------------------------------------------------------------------------- */

static const struct ops_table table = {
    .name = OPS_REF_DOUBLE ? "ref-f64" : "ref-f32",
    .elem = sizeof(real),
    .wide = sizeof(real),
    .close = ref_close,
    .alloc = ref_alloc,
    .release = ref_release,
    .put = ref_put,
    .get = ref_get,
    .get_wide = ref_get,
    .zero = ref_zero,
    .copy = ref_copy,
    .weight_new = ref_weight_new,
    .weight_free = ref_weight_free,
    .weight_bytes = ref_weight_bytes,
    .matmul = ref_matmul,
    .matmul_sum = ref_matmul_sum,
    .matmul_t = ref_matmul_t,
    .table_new = ref_table_new,
    .gather = ref_gather,
    .rmsnorm = ref_rmsnorm,
    .rmsnorm_bwd = ref_rmsnorm_bwd,
    .attention = REF(attention),
    .attention_bwd = REF(attention_bwd),
    .attention_slots = REF(attention_slots),
    .activate = ref_activate,
    .activate_bwd = ref_activate_bwd,
    .matmul_each = ref_matmul_each,
    .feed = ref_feed,
    .feed_bwd = ref_feed_bwd,
    .drop_rows = ref_drop_rows,
    .add = ref_add,
    .scale = ref_scale,
    .gather_rows = ref_gather_rows,
    .scatter_rows = ref_scatter_rows,
    .loss = REF(loss),
    .loss_part = REF(loss_part),
    .loss_part_bwd = REF(loss_part_bwd),
    .find_nonfinite = ref_find_nonfinite,
};

#if OPS_REF_DOUBLE
spt_status ops_ref_open_f64(ops **out, spt_err *err)
#else
spt_status ops_ref_open_f32(ops **out, spt_err *err)
#endif
{
    ops *o = mem_zalloc(1, sizeof *o);
    if (!o)
        return err_nomem(err, sizeof *o);
    o->t = &table;
    *out = o;
    return SPT_OK;
}
