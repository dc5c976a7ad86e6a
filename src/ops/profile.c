#include "ops/profile.h"

#include "os/os.h"

struct ops_weight {
    ops_weight *inner;
    size_t bytes;
    int64_t K, N;
    bool head;
};

struct profile {
    ops base;
    ops *inner;
    struct ops_table table; /* name and sizes of the inner one */
    struct ops_profile_line line[OPS_PROFILE_KINDS];
    double rate[OPS_PROFILE_KINDS], bandwidth; /* of the model */
};

static struct profile *of(ops *o)
{
    return (struct profile *)o;
}

static double modelled(const struct profile *p, int kind, double operations, double bytes)
{
    const double work = p->rate[kind] > 0 ? operations / p->rate[kind] : 0;
    const double moved = p->bandwidth > 0 ? bytes / p->bandwidth : 0;
    return work > moved ? work : moved;
}

/* Runs call(s) of the inner backend `in` with table `t`, and books them. */
#define BOOK(kind, ops_, bytes_, call)                                                             \
    do {                                                                                           \
        struct profile *p_ = of(o);                                                                \
        ops *const in = p_->inner;                                                                 \
        const struct ops_table *const t = in->t;                                                   \
        const int kind_ = (kind);                                                                  \
        struct ops_profile_line *l_ = &p_->line[kind_];                                            \
        const int64_t from_ = os_monotonic_ns();                                                   \
        call;                                                                                      \
        if (in->fault) { /* ops_check asks the outer one */                                        \
            o->fault = in->fault;                                                                  \
            in->fault = SPT_OK;                                                                    \
        }                                                                                          \
        l_->seconds += (double)(os_monotonic_ns() - from_) * 1e-9;                                 \
        l_->calls++;                                                                               \
        l_->operations += (double)(ops_);                                                          \
        l_->bytes += (double)(bytes_);                                                             \
        l_->model += modelled(p_, kind_, (double)(ops_), (double)(bytes_));                        \
    } while (0)

static double elems(ops *o, int64_t n)
{
    return (double)n * (double)of(o)->table.elem;
}

static void p_close(ops *o)
{
    ops_close(of(o)->inner);
    mem_free(o);
}

static void *p_alloc(ops *o, size_t bytes)
{
    return of(o)->inner->t->alloc(of(o)->inner, bytes);
}

static void p_release(ops *o, void *p)
{
    of(o)->inner->t->release(of(o)->inner, p);
}

static void p_put(ops *o, void *dst, const float *src, int64_t n)
{
    BOOK(OPS_P_HOST, 0, elems(o, 2 * n), t->put(in, dst, src, n));
}

static void p_get(ops *o, float *dst, const void *src, int64_t n)
{
    BOOK(OPS_P_HOST, 0, elems(o, 2 * n), t->get(in, dst, src, n));
}

static void p_get_wide(ops *o, float *dst, const void *src, int64_t n)
{
    BOOK(OPS_P_HOST, 0, elems(o, 2 * n), t->get_wide(in, dst, src, n));
}

static void p_zero(ops *o, void *dst, int64_t n)
{
    BOOK(OPS_P_MOVE, 0, elems(o, n), t->zero(in, dst, n));
}

static void p_copy(ops *o, void *dst, const void *src, int64_t n)
{
    BOOK(OPS_P_MOVE, 0, elems(o, 2 * n), t->copy(in, dst, src, n));
}

/* --- weights and products ------------------------------------------------------------------ */

static void p_weight_free(ops *o, ops_weight *w)
{
    if (!w)
        return;
    of(o)->inner->t->weight_free(of(o)->inner, w->inner);
    mem_free(w);
}

static int64_t columns(const struct ops_matrix *m)
{
    return m->view.shape.dim[m->transposed ? 0 : 1];
}

static spt_status p_weight_new(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                               bool head, ops_weight **out, spt_err *err)
{
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    spt_status st;
    BOOK(OPS_P_PREPARE, 0, 0, st = t->weight_new(in, parts, nparts, uses, head, &w->inner, err));
    if (st) {
        mem_free(w);
        return st;
    }
    w->head = head;
    w->bytes = of(o)->inner->t->weight_bytes(w->inner);
    w->K = parts[0].view.shape.dim[parts[0].transposed ? 1 : 0];
    for (int i = 0; i < nparts; i++)
        w->N += columns(&parts[i]);
    *out = w;
    return SPT_OK;
}

static spt_status p_table_new(ops *o, const struct ops_matrix *m, ops_weight **out, spt_err *err)
{
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    spt_status st;
    BOOK(OPS_P_PREPARE, 0, 0, st = t->table_new(in, m, &w->inner, err));
    if (st) {
        mem_free(w);
        return st;
    }
    w->bytes = of(o)->inner->t->weight_bytes(w->inner);
    w->K = m->view.shape.dim[0];
    w->N = m->view.shape.dim[1];
    *out = w;
    return SPT_OK;
}

static size_t p_weight_bytes(const ops_weight *w)
{
    return w ? w->bytes : 0;
}

static double product_bytes(ops *o, const ops_weight *w, int64_t rows, bool add)
{
    const int64_t y = w->N * (add ? 2 : 1);
    return (double)p_weight_bytes(w) + elems(o, rows * (w->K + y));
}

static void p_matmul(ops *o, const ops_weight *w, const void *x, void *y, int64_t rows, bool add)
{
    BOOK(w->head ? OPS_P_HEAD : OPS_P_PRODUCT, 2 * rows * w->K * w->N,
         product_bytes(o, w, rows, add), t->matmul(in, w->inner, x, y, rows, add));
}

static void p_matmul_sum(ops *o, const ops_weight *w, const void *x, const void *base, void *y,
                         int64_t rows)
{
    BOOK(OPS_P_PRODUCT, 2 * rows * w->K * w->N, product_bytes(o, w, rows, true),
         t->matmul_sum(in, w->inner, x, base, y, rows));
}

static void p_matmul_t(ops *o, const ops_weight *w, const void *dy, void *dx, int64_t rows,
                       bool add)
{
    BOOK(w->head ? OPS_P_HEAD_T : OPS_P_PRODUCT_T, 2 * rows * w->K * w->N,
         product_bytes(o, w, rows, add), t->matmul_t(in, w->inner, dy, dx, rows, add));
}

static void p_matmul_each(ops *o, ops_weight *const *w, int64_t n, bool turned, const void *x,
                          void *y, int64_t rows)
{
    enum { SOME = 64 };
    ops_weight *some[SOME];
    const int64_t in_width = turned ? w[0]->N : w[0]->K, out = turned ? w[0]->K : w[0]->N;
    for (int64_t at = 0; at < n; at += SOME) {
        const int64_t count = n - at < SOME ? n - at : SOME;
        for (int64_t i = 0; i < count; i++)
            some[i] = w[at + i]->inner;
        const char *from = (const char *)x + (size_t)(at * rows * in_width) * of(o)->table.elem;
        char *to = (char *)y + (size_t)(at * rows * out) * of(o)->table.elem;
        BOOK(turned ? OPS_P_PRODUCT_T : OPS_P_PRODUCT, 2 * count * rows * w[0]->K * w[0]->N,
             (double)count * product_bytes(o, w[0], rows, false),
             t->matmul_each(in, some, count, turned, from, to, rows));
    }
}

static void p_gather(ops *o, const ops_weight *w, const int32_t *ids, int64_t rows, void *out)
{
    BOOK(OPS_P_EMBED, 0, elems(o, 2 * rows * w->N), t->gather(in, w->inner, ids, rows, out));
}

/* --- passes -------------------------------------------------------------------------------- */

static void p_rmsnorm(ops *o, const void *x, const void *scale, float eps, int64_t rows, int64_t E,
                      void *y)
{
    BOOK(OPS_P_NORM, 4 * rows * E, elems(o, 2 * rows * E),
         t->rmsnorm(in, x, scale, eps, rows, E, y));
}

static void p_rmsnorm_bwd(ops *o, const void *x, const void *scale, float eps, const void *dy,
                          int64_t rows, int64_t E, void *dx, bool add)
{
    BOOK(OPS_P_NORM_BWD, 8 * rows * E, elems(o, (add ? 4 : 3) * rows * E),
         t->rmsnorm_bwd(in, x, scale, eps, dy, rows, E, dx, add));
}

static int64_t limited(int64_t limit, int64_t n)
{
    return limit && limit < n ? limit : n;
}

/* Visible (query, key) pairs of one head; with `only`, those of the first rows. */
static double pairs(const struct ops_attention *a, int64_t queries_of, int64_t keys_of)
{
    double sum = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t first = a->q_first ? a->q_first[b] : 0;
        const int64_t q = limited(queries_of, a->q_off[b + 1] - a->q_off[b]);
        const int64_t k = limited(keys_of, a->k_off[b + 1] - a->k_off[b]);
        if (!a->causal)
            sum += (double)q * (double)k;
        else
            for (int64_t i = 0; i < q; i++)
                sum += (double)(first + i + 1 < k ? first + i + 1 : k);
    }
    return sum;
}

static double attention_bytes(ops *o, const struct ops_attention *a)
{
    const int64_t J = a->heads * a->head_dim;
    return elems(o, J * (2 * a->q_off[a->B] + 2 * a->k_off[a->B]));
}

static void p_attention(ops *o, const struct ops_attention *a, void *out)
{
    const double J = (double)(a->heads * a->head_dim);
    BOOK(OPS_P_ATTENTION, 4 * J * pairs(a, 0, 0), attention_bytes(o, a), t->attention(in, a, out));
}

/* dq of some rows needs dp of theirs with all keys; dk, dv of some keys all queries. */
static void p_attention_bwd(ops *o, const struct ops_attention *a, const void *out,
                            const void *dout, void *dq, void *dk, void *dv)
{
    const double J = (double)(a->heads * a->head_dim), g = (double)a->grad_rows;
    const double keys = pairs(a, 0, a->grad_rows), queries = dq ? pairs(a, a->grad_rows, 0) : 0;
    const double both = dq ? pairs(a, a->grad_rows, a->grad_rows) : 0;
    const double dp = g > 0 ? keys + queries - both : keys;
    BOOK(OPS_P_ATTENTION_BWD, 2 * J * (dp + queries + 2 * keys), 2.5 * attention_bytes(o, a),
         t->attention_bwd(in, a, out, dout, dq, dk, dv));
}

static void p_attention_slots(ops *o, const struct ops_slots *a, void *out)
{
    const double J = (double)(a->heads * a->head_dim), n = (double)(a->rows * a->len);
    BOOK(OPS_P_ATTENTION, 4 * J * n, 2 * J * n * (double)of(o)->table.elem,
         t->attention_slots(in, a, out));
}

static void p_activate(ops *o, enum ops_activation act, bool gated, const void *h, int64_t rows,
                       int64_t F, const int64_t *off, int64_t B, const float *drop, void *g)
{
    BOOK(OPS_P_ACTIVATE, 10 * rows * F, elems(o, rows * F * (gated ? 3 : 2)),
         t->activate(in, act, gated, h, rows, F, off, B, drop, g));
}

static void p_activate_bwd(ops *o, enum ops_activation act, bool gated, const void *h,
                           const void *dg, int64_t rows, int64_t F, const int64_t *off, int64_t B,
                           const float *drop, void *dh)
{
    BOOK(OPS_P_ACTIVATE_BWD, 20 * rows * F, elems(o, rows * F * (gated ? 5 : 3)),
         t->activate_bwd(in, act, gated, h, dg, rows, F, off, B, drop, dh));
}

/* What happens inside of a product: operations and bytes without time of its own. */
static void book_inside(ops *o, int kind, double operations, double bytes)
{
    struct ops_profile_line *l = &of(o)->line[kind];
    l->calls++;
    l->operations += operations;
    l->bytes += bytes;
    l->model += modelled(of(o), kind, operations, bytes);
}

static struct ops_feed inner_feed(const struct ops_feed *f)
{
    return (struct ops_feed){.wi = f->wi->inner, .wo = f->wo->inner, .act = f->act};
}

static double feed_operations(const struct ops_feed *f, int64_t rows)
{
    return 2 * (double)rows * (double)(f->wi->K * f->wi->N + f->wo->K * f->wo->N);
}

static double feed_bytes(ops *o, const struct ops_feed *f, int64_t rows, bool add)
{
    return product_bytes(o, f->wi, rows, false) + product_bytes(o, f->wo, rows, add);
}

static void p_feed(ops *o, const struct ops_feed *f, const void *x, int64_t rows, void *h, void *g,
                   const void *base, void *y)
{
    const struct ops_feed own = inner_feed(f);
    BOOK(OPS_P_PRODUCT, feed_operations(f, rows), feed_bytes(o, f, rows, base != NULL),
         t->feed(in, &own, x, rows, h, g, base, y));
    book_inside(o, OPS_P_ACTIVATE, 10.0 * (double)(rows * f->act.F), elems(o, rows * f->act.F));
}

static void p_feed_bwd(ops *o, const struct ops_feed *f, const void *dy, int64_t rows,
                       const void *h, void *dg, void *dh, void *dx)
{
    const struct ops_feed own = inner_feed(f);
    BOOK(OPS_P_PRODUCT_T, feed_operations(f, rows), feed_bytes(o, f, rows, false),
         t->feed_bwd(in, &own, dy, rows, h, dg, dh, dx));
    book_inside(o, OPS_P_ACTIVATE_BWD, 20.0 * (double)(rows * f->act.F),
                elems(o, rows * f->act.F * (f->act.gated ? 4 : 2)));
}

static void p_drop_rows(ops *o, void *x, int64_t E, const int64_t *off, int64_t B,
                        const float *drop)
{
    BOOK(OPS_P_DROP, off[B] * E, elems(o, 2 * off[B] * E), t->drop_rows(in, x, E, off, B, drop));
}

static void p_add(ops *o, void *y, const void *x, int64_t n)
{
    BOOK(OPS_P_MOVE, n, elems(o, 3 * n), t->add(in, y, x, n));
}

static void p_scale(ops *o, void *x, float a, int64_t n)
{
    BOOK(OPS_P_MOVE, n, elems(o, 2 * n), t->scale(in, x, a, n));
}

static void p_gather_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                          int64_t width)
{
    BOOK(OPS_P_MOVE, 0, elems(o, 2 * rows * width),
         t->gather_rows(in, dst, src, index, rows, width));
}

static void p_scatter_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                           int64_t width, bool add)
{
    BOOK(OPS_P_MOVE, 0, elems(o, 2 * rows * width),
         t->scatter_rows(in, dst, src, index, rows, width, add));
}

static void p_loss(ops *o, void *logits, const struct ops_loss_args *a)
{
    const double n = (double)(a->rows * a->V);
    BOOK(OPS_P_LOSS, 4 * n, n * (double)of(o)->table.wide * (a->backward ? 2 : 1),
         t->loss(in, logits, a));
}

static void p_loss_part(ops *o, const void *logits, const struct ops_loss_args *a, int64_t first,
                        int64_t n, struct ops_loss_part *out)
{
    const double all = (double)(a->rows * n);
    BOOK(OPS_P_LOSS, 2 * all, all * (double)of(o)->table.wide,
         t->loss_part(in, logits, a, first, n, out));
}

static void p_loss_part_bwd(ops *o, void *logits, const struct ops_loss_args *a, int64_t first,
                            int64_t n)
{
    const double all = (double)(a->rows * n);
    BOOK(OPS_P_LOSS, 2 * all, all * (double)of(o)->table.wide * 2,
         t->loss_part_bwd(in, logits, a, first, n));
}

static int64_t p_find_nonfinite(ops *o, const void *x, int64_t n)
{
    return of(o)->inner->t->find_nonfinite(of(o)->inner, x, n);
}

/* --- opening ------------------------------------------------------------------------------- */

static const struct ops_table watching = {
    .close = p_close,
    .alloc = p_alloc,
    .release = p_release,
    .put = p_put,
    .get = p_get,
    .get_wide = p_get_wide,
    .zero = p_zero,
    .copy = p_copy,
    .weight_new = p_weight_new,
    .weight_free = p_weight_free,
    .weight_bytes = p_weight_bytes,
    .matmul = p_matmul,
    .matmul_sum = p_matmul_sum,
    .matmul_t = p_matmul_t,
    .table_new = p_table_new,
    .gather = p_gather,
    .rmsnorm = p_rmsnorm,
    .rmsnorm_bwd = p_rmsnorm_bwd,
    .attention = p_attention,
    .attention_bwd = p_attention_bwd,
    .attention_slots = p_attention_slots,
    .activate = p_activate,
    .activate_bwd = p_activate_bwd,
    .matmul_each = p_matmul_each,
    .feed = p_feed,
    .feed_bwd = p_feed_bwd,
    .drop_rows = p_drop_rows,
    .add = p_add,
    .scale = p_scale,
    .gather_rows = p_gather_rows,
    .scatter_rows = p_scatter_rows,
    .loss = p_loss,
    .loss_part = p_loss_part,
    .loss_part_bwd = p_loss_part_bwd,
    .find_nonfinite = p_find_nonfinite,
};

spt_status ops_profile_open(ops *inner, ops **out, spt_err *err)
{
    struct profile *p = mem_zalloc(1, sizeof *p);
    if (!p)
        return err_nomem(err, sizeof *p);
    p->inner = inner;
    p->table = watching;
    p->table.name = inner->t->name;
    p->table.elem = inner->t->elem;
    p->table.wide = inner->t->wide;
    p->base.t = &p->table;
    ops_profile_reset(&p->base);
    *out = &p->base;
    return SPT_OK;
}

static bool is_profile(const ops *o)
{
    return o && o->t->close == p_close;
}

const struct ops_profile_line *ops_profile_lines(const ops *o)
{
    return is_profile(o) ? ((const struct profile *)o)->line : NULL;
}

void ops_profile_reset(ops *o)
{
    static const char *const names[] = {
#define OPS_PROFILE_NAME(kind, name) name,
        OPS_PROFILE_MAP(OPS_PROFILE_NAME)
#undef OPS_PROFILE_NAME
    };
    if (!is_profile(o))
        return;
    for (int i = 0; i < OPS_PROFILE_KINDS; i++)
        of(o)->line[i] = (struct ops_profile_line){.name = names[i]};
}

void ops_profile_model(ops *o, const double rate[OPS_PROFILE_KINDS], double bandwidth)
{
    if (!is_profile(o))
        return;
    for (int i = 0; i < OPS_PROFILE_KINDS; i++)
        of(o)->rate[i] = rate[i];
    of(o)->bandwidth = bandwidth;
}

ops *ops_profile_inner(ops *o)
{
    return is_profile(o) ? of(o)->inner : o;
}
