/* Addresses are handed out but never used: each buffer gets a range of its own, and a bit per page
 * says whether a call would have written there. */
#include "ops/count.h"

#include <string.h>

#include "ops/cpu/cpu.h"

enum { SMALL_PAGE = 4096, LARGE = 4 << 20, MAX_BUFFERS = 1 << 16 };

struct ops_weight {
    int64_t K, N; /* of a table: V, E */
    size_t bytes;
};

struct buffer {
    uintptr_t at;
    size_t bytes, page, pages, touched;
    uint8_t *bits;
};

struct count {
    ops base;
    ops *like;
    struct ops_table table; /* name and sizes of the watched one */
    size_t page;
    uintptr_t next;
    struct buffer *buffer; /* by address */
    size_t n, cap;
    double held;
    int64_t rows; /* of the largest product */
    struct ops_count sum;
};

static struct count *of(ops *o)
{
    return (struct count *)o;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- storage ------------------------------------------------------------------------------- */

static void c_close(ops *o)
{
    struct count *c = of(o);
    for (size_t i = 0; i < c->n; i++)
        mem_free(c->buffer[i].bits);
    mem_free(c->buffer);
    mem_free(c);
}

static void *c_alloc(ops *o, size_t bytes)
{
    struct count *c = of(o);
    spt_err err;
    if (mem_grow(&c->buffer, &c->cap, c->n + 1, sizeof *c->buffer, MAX_BUFFERS, &err))
        return NULL;
    struct buffer b = {.at = c->next, .bytes = bytes, .page = bytes < LARGE ? SMALL_PAGE : c->page};
    b.pages = bytes / b.page + 1;
    b.bits = mem_zalloc(b.pages / 8 + 1, 1);
    if (!b.bits || b.bytes > PTRDIFF_MAX / 4)
        return mem_free(b.bits), NULL;
    c->next += (b.pages + 1) * b.page + LARGE;
    c->next -= c->next % LARGE;
    c->buffer[c->n++] = b;
    c->sum.reserved += (double)bytes;
    return (void *)b.at;
}

static struct buffer *find(const struct count *c, const void *p)
{
    size_t lo = 0, hi = c->n;
    while (hi - lo > 1) {
        const size_t mid = (lo + hi) / 2;
        *((uintptr_t)p >= c->buffer[mid].at ? &lo : &hi) = mid;
    }
    return c->n ? &c->buffer[lo] : NULL;
}

static void c_release(ops *o, void *p)
{
    struct count *c = of(o);
    struct buffer *b = p ? find(c, p) : NULL;
    if (!b || b->at != (uintptr_t)p)
        return;
    c->held -= (double)b->touched;
    c->sum.reserved -= (double)b->bytes;
    mem_free(b->bits);
    memmove(b, b + 1, (size_t)(c->buffer + c->n - b - 1) * sizeof *b);
    c->n--;
}

static void touch_bytes(ops *o, const void *p, int64_t bytes)
{
    struct count *c = of(o);
    struct buffer *b = p && bytes > 0 ? find(c, p) : NULL;
    if (!b || (uintptr_t)p < b->at)
        return;
    const size_t from = (uintptr_t)p - b->at, to = from + (size_t)bytes - 1;
    for (size_t i = from / b->page; i <= to / b->page && i < b->pages; i++) {
        if (b->bits[i / 8] >> i % 8 & 1)
            continue;
        b->bits[i / 8] |= (uint8_t)(1u << i % 8);
        const size_t left = b->bytes - i * b->page, size = left < b->page ? left : b->page;
        b->touched += size;
        c->held += (double)size;
    }
    if (c->held > c->sum.buffers)
        c->sum.buffers = c->held;
}

static void touch(ops *o, const void *p, int64_t n)
{
    touch_bytes(o, p, n * (int64_t)of(o)->table.elem);
}

static void touch_rows(ops *o, const void *p, int64_t rows, int64_t width, int64_t stride)
{
    for (int64_t r = 0; p && r < rows; r++)
        touch(o, (const char *)p + (size_t)(r * stride) * of(o)->table.elem, width);
}

static void c_put(ops *o, void *dst, const float *src, int64_t n)
{
    (void)src;
    touch(o, dst, n);
}

static void c_get(ops *o, float *dst, const void *src, int64_t n)
{
    (void)o, (void)src;
    memset(dst, 0, (size_t)n * sizeof *dst);
}

static void c_zero(ops *o, void *dst, int64_t n)
{
    touch(o, dst, n);
}

static void c_copy(ops *o, void *dst, const void *src, int64_t n)
{
    (void)src;
    touch(o, dst, n);
}

/* --- weights and products ------------------------------------------------------------------ */

static spt_status book_weight(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                              enum ops_weight_kind kind, ops_weight **out, spt_err *err)
{
    struct count *c = of(o);
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    double file = 0;
    w->K = parts[0].view.shape.dim[parts[0].transposed ? 1 : 0];
    for (int i = 0; i < nparts; i++) {
        const int64_t N = parts[i].view.shape.dim[parts[i].transposed ? 0 : 1];
        w->N += N;
        file += (double)w->K * (double)N * (double)dtype_size(parts[i].view.dtype);
    }
    const spt_status st = ops_cpu_weight_room(c->like, parts, nparts, uses, kind, &w->bytes, err);
    if (st) {
        mem_free(w);
        return st;
    }
    if (!w->bytes) /* the reference: plain copies */
        w->bytes = (size_t)w->K * (size_t)w->N * c->table.elem;
    c->sum.weights += (double)w->bytes;
    if (c->sum.weights + file > c->sum.loading)
        c->sum.loading = c->sum.weights + file;
    *out = w;
    return SPT_OK;
}

static spt_status c_weight_new(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                               bool head, ops_weight **out, spt_err *err)
{
    return book_weight(o, parts, nparts, uses, head ? OPS_WEIGHT_HEAD : OPS_WEIGHT, out, err);
}

static spt_status c_table_new(ops *o, const struct ops_matrix *m, ops_weight **out, spt_err *err)
{
    return book_weight(o, m, 1, 0, OPS_WEIGHT_TABLE, out, err);
}

static void c_weight_free(ops *o, ops_weight *w)
{
    (void)o;
    mem_free(w);
}

static size_t c_weight_bytes(const ops_weight *w)
{
    return w ? w->bytes : 0;
}

static void c_matmul(ops *o, const ops_weight *w, const void *x, void *y, int64_t rows, bool add)
{
    (void)x, (void)add;
    of(o)->rows = most(of(o)->rows, rows);
    touch(o, y, rows * w->N);
}

static void c_matmul_sum(ops *o, const ops_weight *w, const void *x, const void *base, void *y,
                         int64_t rows)
{
    (void)x, (void)base;
    of(o)->rows = most(of(o)->rows, rows);
    touch(o, y, rows * w->N);
}

static void c_matmul_t(ops *o, const ops_weight *w, const void *dy, void *dx, int64_t rows,
                       bool add)
{
    (void)dy, (void)add;
    of(o)->rows = most(of(o)->rows, rows);
    touch(o, dx, rows * w->K);
}

static void c_matmul_each(ops *o, ops_weight *const *w, int64_t n, bool turned, const void *x,
                          void *y, int64_t rows)
{
    (void)x;
    of(o)->rows = most(of(o)->rows, n * rows);
    touch(o, y, n * rows * (turned ? w[0]->K : w[0]->N));
}

static void c_gather(ops *o, const ops_weight *w, const int32_t *ids, int64_t rows, void *out)
{
    (void)ids;
    touch(o, out, rows * w->N);
}

/* --- passes -------------------------------------------------------------------------------- */

static void c_rmsnorm(ops *o, const void *x, const void *scale, float eps, int64_t rows, int64_t E,
                      void *y)
{
    (void)x, (void)scale, (void)eps;
    touch(o, y, rows * E);
}

static void c_rmsnorm_bwd(ops *o, const void *x, const void *scale, float eps, const void *dy,
                          int64_t rows, int64_t E, void *dx, bool add)
{
    (void)x, (void)scale, (void)eps, (void)dy, (void)add;
    touch(o, dx, rows * E);
}

static void book_scratch(ops *o, const struct ops_attention *a)
{
    struct count *c = of(o);
    const double bytes = (double)ops_cpu_scratch_for(c->like, a, c->rows);
    c->sum.scratch = bytes > c->sum.scratch ? bytes : c->sum.scratch;
}

static void c_attention(ops *o, const struct ops_attention *a, void *out)
{
    const int64_t J = a->heads * a->head_dim, rows = a->q_off[a->B] - a->q_off[0];
    book_scratch(o, a);
    touch(o, out, rows * J);
    touch_bytes(o, a->lse, rows * a->heads * (int64_t)of(o)->table.wide);
}

static void c_attention_bwd(ops *o, const struct ops_attention *a, const void *out,
                            const void *dout, void *dq, void *dk, void *dv)
{
    (void)out, (void)dout;
    const int64_t J = a->heads * a->head_dim;
    book_scratch(o, a);
    touch_rows(o, dq, a->q_off[a->B] - a->q_off[0], J, a->q_stride);
    touch_rows(o, dk, a->k_off[a->B] - a->k_off[0], J, a->k_stride);
    touch_rows(o, dv, a->k_off[a->B] - a->k_off[0], J, a->v_stride);
}

static void c_attention_slots(ops *o, const struct ops_slots *a, void *out)
{
    touch(o, out, a->rows * a->heads * a->head_dim);
}

static void c_activate(ops *o, enum ops_activation act, bool gated, const void *h, int64_t rows,
                       int64_t F, const int64_t *off, int64_t B, const float *drop, void *g)
{
    (void)act, (void)gated, (void)h, (void)off, (void)B, (void)drop;
    touch(o, g, rows * F);
}

static void c_activate_bwd(ops *o, enum ops_activation act, bool gated, const void *h,
                           const void *dg, int64_t rows, int64_t F, const int64_t *off, int64_t B,
                           const float *drop, void *dh)
{
    (void)act, (void)h, (void)dg, (void)off, (void)B, (void)drop;
    touch(o, dh, rows * F * (gated ? 2 : 1));
}

/* Scratch may be written to. */
static void c_feed(ops *o, const struct ops_feed *f, const void *x, int64_t rows, void *h, void *g,
                   const void *base, void *y)
{
    (void)base;
    c_matmul(o, f->wi, x, h, rows, false);
    touch(o, g, rows * f->act.F);
    c_matmul(o, f->wo, g, y, rows, false);
}

static void c_feed_bwd(ops *o, const struct ops_feed *f, const void *dy, int64_t rows,
                       const void *h, void *dg, void *dh, void *dx)
{
    (void)h;
    c_matmul_t(o, f->wo, dy, dg, rows, false);
    touch(o, dh, rows * f->act.F * (f->act.gated ? 2 : 1));
    c_matmul_t(o, f->wi, dh, dx, rows, false);
}

static void c_drop_rows(ops *o, void *x, int64_t E, const int64_t *off, int64_t B,
                        const float *drop)
{
    (void)o, (void)x, (void)E, (void)off, (void)B, (void)drop;
}

static void c_add(ops *o, void *y, const void *x, int64_t n)
{
    (void)x;
    touch(o, y, n);
}

static void c_scale(ops *o, void *x, float a, int64_t n)
{
    (void)a;
    touch(o, x, n);
}

static void c_gather_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                          int64_t width)
{
    (void)src, (void)index;
    touch(o, dst, rows * width);
}

static void c_scatter_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                           int64_t width, bool add)
{
    (void)src, (void)add;
    for (int64_t i = 0; i < rows; i++)
        touch(o, (char *)dst + (size_t)(index[i] * width) * of(o)->table.elem, width);
}

static void c_loss(ops *o, void *logits, const struct ops_loss_args *a)
{
    touch_bytes(o, logits, a->rows * a->V * (int64_t)of(o)->table.wide);
    for (int64_t i = 0; i < a->rows; i++) {
        a->loss[i] = 0;
        if (a->z)
            a->z[i] = 0;
        if (a->log_p)
            a->log_p[i] = 0;
        if (a->log_z)
            a->log_z[i] = 0;
        if (a->argmax)
            a->argmax[i] = 0;
    }
}

static void c_loss_part(ops *o, const void *logits, const struct ops_loss_args *a, int64_t first,
                        int64_t n, struct ops_loss_part *out)
{
    (void)o, (void)logits, (void)first, (void)n;
    memset(out, 0, (size_t)a->rows * sizeof *out);
}

static void c_loss_part_bwd(ops *o, void *logits, const struct ops_loss_args *a, int64_t first,
                            int64_t n)
{
    (void)first;
    touch_bytes(o, logits, a->rows * n * (int64_t)of(o)->table.wide);
}

static int64_t c_find_nonfinite(ops *o, const void *x, int64_t n)
{
    (void)o, (void)x, (void)n;
    return -1;
}

/* --- opening ------------------------------------------------------------------------------- */

static const struct ops_table counting = {
    .close = c_close,
    .alloc = c_alloc,
    .release = c_release,
    .put = c_put,
    .get = c_get,
    .get_wide = c_get,
    .zero = c_zero,
    .copy = c_copy,
    .weight_new = c_weight_new,
    .weight_free = c_weight_free,
    .weight_bytes = c_weight_bytes,
    .matmul = c_matmul,
    .matmul_sum = c_matmul_sum,
    .matmul_t = c_matmul_t,
    .table_new = c_table_new,
    .gather = c_gather,
    .rmsnorm = c_rmsnorm,
    .rmsnorm_bwd = c_rmsnorm_bwd,
    .attention = c_attention,
    .attention_bwd = c_attention_bwd,
    .attention_slots = c_attention_slots,
    .activate = c_activate,
    .activate_bwd = c_activate_bwd,
    .matmul_each = c_matmul_each,
    .feed = c_feed,
    .feed_bwd = c_feed_bwd,
    .drop_rows = c_drop_rows,
    .add = c_add,
    .scale = c_scale,
    .gather_rows = c_gather_rows,
    .scatter_rows = c_scatter_rows,
    .loss = c_loss,
    .loss_part = c_loss_part,
    .loss_part_bwd = c_loss_part_bwd,
    .find_nonfinite = c_find_nonfinite,
};

spt_status ops_count_open(ops *like, size_t page, ops **out, spt_err *err)
{
    struct count *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(err, sizeof *c);
    c->like = like;
    c->page = page;
    c->next = LARGE; /* no valid address is NULL */
    c->table = counting;
    c->table.name = like->t->name;
    c->table.elem = like->t->elem;
    c->table.wide = like->t->wide;
    c->base.t = &c->table;
    *out = &c->base;
    return SPT_OK;
}

struct ops_count ops_count_take(ops *o)
{
    struct count *c = of(o);
    struct ops_count sum = c->sum;
    sum.scratch =
        (double)most((int64_t)sum.scratch, (int64_t)ops_cpu_scratch_for(c->like, NULL, c->rows));
    c->sum.buffers = c->held;
    return sum;
}
