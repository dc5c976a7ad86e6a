/* The table of the fast backend: splits rows among the threads and calls the kernels of one
 * instruction set. Activations are float32 in every compute mode; bfloat16 is what products read
 * (docs/design/cpu.md says why). */
#include "ops/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <dnnl.h>

#include "base/log.h"
#include "ops/cpu/cpu_internal.h"
#include "os/os.h"

/* Below this many elements a pass is not worth waking the other threads. */
enum { SMALL_PASS = 16384 };
/* Bytes from which on a buffer asks for large pages. */
enum { LARGE = 4 << 20 };

/* --- storage -----------------------------------------------------------------------------------
 */

static void cpu_close(ops *o)
{
    struct cpu *c = (struct cpu *)o;
    products_free(c->products);
    for (int t = 0; t < c->threads; t++)
        mem_free_aligned(c->scratch[t]);
    pool_free(c->pool);
    mem_free(c);
}

static void *cpu_alloc(ops *o, size_t bytes)
{
    (void)o;
    void *p = mem_alloc_aligned(bytes ? bytes : 1, 1);
    if (p && bytes >= LARGE) /* heads are columns of wide rows: a page per row with small pages */
        (void)os_huge(p, bytes);
    return p;
}

static void cpu_release(ops *o, void *p)
{
    (void)o;
    mem_free_aligned(p);
}

/* A row-wise pass: fn on ranges of `rows` rows that cost `width` elements each. */
static void each(struct cpu *c, int64_t rows, int64_t width, pool_fn fn, void *ctx)
{
    if (rows <= 0)
        return;
    if (rows * width < SMALL_PASS)
        fn(ctx, 0, rows, 0);
    else
        pool_run(c->pool, rows, fn, ctx);
}

/* Flat passes are cut into lines of this many elements. */
enum { LINE = 1024 };

struct flat {
    const struct kernels *k;
    void *y;
    const void *x;
    float a;
    int64_t n;
};

static void flat_range(const struct flat *f, int64_t first, int64_t last, int64_t *at, int64_t *n)
{
    *at = first * LINE;
    *n = (last * LINE < f->n ? last * LINE : f->n) - *at;
}

static void copy_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct flat *f = ctx;
    int64_t at, n;
    flat_range(f, first, last, &at, &n);
    memcpy((float *)f->y + at, (const float *)f->x + at, (size_t)n * sizeof(float));
}

static void zero_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct flat *f = ctx;
    int64_t at, n;
    flat_range(f, first, last, &at, &n);
    memset((float *)f->y + at, 0, (size_t)n * sizeof(float));
}

static void add_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct flat *f = ctx;
    int64_t at, n;
    flat_range(f, first, last, &at, &n);
    f->k->add((float *)f->y + at, (const float *)f->x + at, n);
}

static void scale_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct flat *f = ctx;
    int64_t at, n;
    flat_range(f, first, last, &at, &n);
    f->k->scale((float *)f->y + at, f->a, n);
}

static void flat_pass(ops *o, pool_fn fn, void *y, const void *x, float a, int64_t n)
{
    struct cpu *c = (struct cpu *)o;
    struct flat f = {.k = c->k, .y = y, .x = x, .a = a, .n = n};
    each(c, (n + LINE - 1) / LINE, LINE, fn, &f);
}

static void cpu_put(ops *o, void *dst, const float *src, int64_t n)
{
    flat_pass(o, copy_range, dst, src, 0, n);
}

static void cpu_get(ops *o, float *dst, const void *src, int64_t n)
{
    flat_pass(o, copy_range, dst, src, 0, n);
}

static void cpu_copy(ops *o, void *dst, const void *src, int64_t n)
{
    const char *d = dst, *s = src;
    const size_t bytes = (size_t)n * sizeof(float);
    if (d + bytes > s && s + bytes > d) /* overlap: in one piece */
        memmove(dst, src, bytes);
    else
        flat_pass(o, copy_range, dst, src, 0, n);
}

static void cpu_zero(ops *o, void *dst, int64_t n)
{
    flat_pass(o, zero_range, dst, NULL, 0, n);
}

static void cpu_add(ops *o, void *y, const void *x, int64_t n)
{
    flat_pass(o, add_range, y, x, 0, n);
}

static void cpu_scale(ops *o, void *x, float a, int64_t n)
{
    flat_pass(o, scale_range, x, NULL, a, n);
}

static int64_t cpu_find_nonfinite(ops *o, const void *x, int64_t n)
{
    return ((struct cpu *)o)->k->find_nonfinite(x, n);
}

/* --- embedding table ---------------------------------------------------------------------------
 */

struct gather_job {
    const struct cpu *c;
    const ops_weight *t;
    const int32_t *ids;
    float *out;
};

static void gather_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct gather_job *j = ctx;
    const int64_t E = j->t->N;
    for (int64_t i = first; i < last; i++)
        if (j->t->store == STORE_BF16)
            j->c->k->from_bf16((const uint16_t *)j->t->data + j->ids[i] * E, j->out + i * E, E);
        else
            memcpy(j->out + i * E, (const float *)j->t->data + j->ids[i] * E,
                   (size_t)E * sizeof(float));
}

static void cpu_gather(ops *o, const ops_weight *w, const int32_t *ids, int64_t rows, void *out)
{
    struct cpu *c = (struct cpu *)o;
    struct gather_job j = {.c = c, .t = w, .ids = ids, .out = out};
    each(c, rows, w->N, gather_range, &j);
}

/* --- norm --------------------------------------------------------------------------------------
 */

struct norm_job {
    const struct kernels *k;
    const float *x, *scale, *dy;
    float eps, *y;
    int64_t E;
    bool add;
};

/* Rows that are needed a little later: what a product has just written lies in the caches of the
 * threads that wrote its columns. */
enum { ROWS_AHEAD = 3 };

static void fetch_row(const float *p, int64_t row, int64_t last, int64_t E)
{
    if (row + ROWS_AHEAD < last)
        for (int64_t i = 0; i < E; i += LINE_BYTES / (int64_t)sizeof *p)
            __builtin_prefetch(p + (row + ROWS_AHEAD) * E + i, 0, 3);
}

static void norm_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct norm_job *j = ctx;
    for (int64_t i = first; i < last; i++) {
        fetch_row(j->x, i, last, j->E);
        j->k->rmsnorm(j->x + i * j->E, j->scale, j->eps, j->E, j->y + i * j->E);
    }
}

static void norm_bwd_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct norm_job *j = ctx;
    for (int64_t i = first; i < last; i++) {
        fetch_row(j->x, i, last, j->E);
        fetch_row(j->dy, i, last, j->E);
        fetch_row(j->y, i, last, j->E);
        j->k->rmsnorm_bwd(j->x + i * j->E, j->scale, j->eps, j->dy + i * j->E, j->E,
                          j->y + i * j->E, j->add);
    }
}

static void cpu_rmsnorm(ops *o, const void *x, const void *scale, float eps, int64_t rows,
                        int64_t E, void *y)
{
    struct cpu *c = (struct cpu *)o;
    struct norm_job j = {.k = c->k, .x = x, .scale = scale, .eps = eps, .E = E, .y = y};
    each(c, rows, E, norm_range, &j);
}

static void cpu_rmsnorm_bwd(ops *o, const void *x, const void *scale, float eps, const void *dy,
                            int64_t rows, int64_t E, void *dx, bool add)
{
    struct cpu *c = (struct cpu *)o;
    struct norm_job j = {
        .k = c->k, .x = x, .scale = scale, .dy = dy, .eps = eps, .E = E, .y = dx, .add = add};
    each(c, rows, E, norm_bwd_range, &j);
}

/* --- activations -------------------------------------------------------------------------------
 */

struct act_job {
    const struct kernels *k;
    enum ops_activation act;
    bool gated;
    const float *h, *dg, *drop;
    float *out;
    int64_t F, B;
    const int64_t *off;
};

/* Example of row i, counting up from b. */
static int64_t example_of(const int64_t *off, int64_t B, int64_t b, int64_t i)
{
    while (b < B - 1 && i >= off[b + 1])
        b++;
    return b;
}

static void act_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct act_job *j = ctx;
    const int64_t F = j->F, width = j->gated ? 2 * F : F;
    for (int64_t i = first, b = 0; i < last; i++) {
        const float *h = j->h + i * width;
        if (j->drop)
            b = example_of(j->off, j->B, b, i);
        j->k->activate(j->act, h, j->gated ? h + F : NULL, j->drop ? j->drop + b * F : NULL, F,
                       j->out + i * F);
    }
}

static void act_bwd_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct act_job *j = ctx;
    const int64_t F = j->F, width = j->gated ? 2 * F : F;
    for (int64_t i = first, b = 0; i < last; i++) {
        const float *h = j->h + i * width;
        float *dh = j->out + i * width;
        if (j->drop)
            b = example_of(j->off, j->B, b, i);
        j->k->activate_bwd(j->act, h, j->gated ? h + F : NULL, j->dg + i * F,
                           j->drop ? j->drop + b * F : NULL, F, dh, dh + F);
    }
}

void cpu_activate(ops *o, enum ops_activation act, bool gated, const void *h, int64_t rows,
                  int64_t F, const int64_t *off, int64_t B, const float *drop, void *g)
{
    struct cpu *c = (struct cpu *)o;
    struct act_job j = {.k = c->k,
                        .act = act,
                        .gated = gated,
                        .h = h,
                        .drop = drop,
                        .out = g,
                        .F = F,
                        .B = B,
                        .off = off};
    each(c, rows, 4 * F, act_range, &j);
}

void cpu_activate_bwd(ops *o, enum ops_activation act, bool gated, const void *h, const void *dg,
                      int64_t rows, int64_t F, const int64_t *off, int64_t B, const float *drop,
                      void *dh)
{
    struct cpu *c = (struct cpu *)o;
    struct act_job j = {.k = c->k,
                        .act = act,
                        .gated = gated,
                        .h = h,
                        .dg = dg,
                        .drop = drop,
                        .out = dh,
                        .F = F,
                        .B = B,
                        .off = off};
    each(c, rows, 4 * F, act_bwd_range, &j);
}

/* --- rows --------------------------------------------------------------------------------------
 */

struct rows_job {
    const struct kernels *k;
    float *dst;
    const float *src;
    const int64_t *index;
    int64_t rows, width;
    const int64_t *off;
    const float *drop;
    int64_t B;
    bool add;
};

static void drop_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct rows_job *j = ctx;
    for (int64_t i = first, b = 0; i < last; i++) {
        b = example_of(j->off, j->B, b, j->off[0] + i);
        j->k->multiply(j->dst + (j->off[0] + i) * j->width, j->drop + b * j->width, j->width);
    }
}

static void cpu_drop_rows(ops *o, void *x, int64_t E, const int64_t *off, int64_t B,
                          const float *drop)
{
    struct cpu *c = (struct cpu *)o;
    struct rows_job j = {.k = c->k, .dst = x, .width = E, .off = off, .B = B, .drop = drop};
    if (B > 0)
        each(c, off[B] - off[0], E, drop_range, &j);
}

static void gather_rows_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct rows_job *j = ctx;
    for (int64_t i = first; i < last; i++)
        memcpy(j->dst + i * j->width, j->src + j->index[i] * j->width,
               (size_t)j->width * sizeof(float));
}

static void cpu_gather_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                            int64_t width)
{
    struct cpu *c = (struct cpu *)o;
    struct rows_job j = {.dst = dst, .src = src, .index = index, .width = width};
    each(c, rows, width, gather_rows_range, &j);
}

/* Threads own columns, in pieces of PANEL: an index may occur twice, and then the order counts. */
static void scatter_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct rows_job *j = ctx;
    const int64_t at = first * PANEL;
    const int64_t n = (last * PANEL < j->width ? last * PANEL : j->width) - at;
    for (int64_t i = 0; i < j->rows; i++) {
        float *to = j->dst + j->index[i] * j->width + at;
        const float *from = j->src + i * j->width + at;
        if (j->add)
            j->k->add(to, from, n);
        else
            memcpy(to, from, (size_t)n * sizeof(float));
    }
}

static void cpu_scatter_rows(ops *o, void *dst, const void *src, const int64_t *index, int64_t rows,
                             int64_t width, bool add)
{
    struct cpu *c = (struct cpu *)o;
    struct rows_job j = {.k = c->k,
                         .dst = dst,
                         .src = src,
                         .index = index,
                         .rows = rows,
                         .width = width,
                         .add = add};
    each(c, (width + PANEL - 1) / PANEL, rows * PANEL, scatter_range, &j);
}

/* --- attention ---------------------------------------------------------------------------------
 */

struct attention_job {
    struct cpu *c;
    const struct ops_attention *a;
    const float *out, *dout;
    float *y, *dq, *dk, *dv;
    double total; /* work of all examples */
};

/* Work of one head of an example, in about the unit of a score. */
static double head_cost(const struct ops_attention *a, int64_t b)
{
    const double q = (double)(a->q_off[b + 1] - a->q_off[b]);
    const double k = (double)(a->k_off[b + 1] - a->k_off[b]);
    return q * k + 8 * (q + k) + 1;
}

static int64_t limited(int64_t limit, int64_t n)
{
    return limit && limit < n ? limit : n;
}

static struct head_job head_of(const struct attention_job *j, int64_t b, int64_t h, int64_t drop_at)
{
    const struct ops_attention *a = j->a;
    const int64_t D = a->head_dim, q0 = a->q_off[b], k0 = a->k_off[b], J = a->heads * D;
    struct head_job w = {
        .D = D,
        .queries = a->q_off[b + 1] - q0,
        .keys = a->k_off[b + 1] - k0,
        .q = (const float *)a->q + q0 * a->q_stride + h * D,
        .k = (const float *)a->k + k0 * a->k_stride + h * D,
        .v = (const float *)a->v + k0 * a->v_stride + h * D,
        .q_stride = a->q_stride,
        .k_stride = a->k_stride,
        .v_stride = a->v_stride,
        .bias = a->bias ? (const float *)a->bias + h * (2 * a->span + 1) : NULL,
        .span = a->span,
        .q_first = a->q_first ? a->q_first[b] : 0,
        .causal = a->causal,
        .lse = a->lse ? (float *)a->lse + q0 * a->heads + h : NULL,
        .lse_stride = a->heads,
        .out_stride = J,
    };
    w.drop = a->drop ? a->drop + drop_at + h * w.keys : NULL;
    if (j->y) {
        w.y = j->y + q0 * J + h * D;
        return w;
    }
    w.out = j->out + q0 * J + h * D;
    w.dout = j->dout + q0 * J + h * D;
    w.dq = j->dq ? j->dq + q0 * a->q_stride + h * D : NULL;
    w.dk = j->dk + k0 * a->k_stride + h * D;
    w.dv = j->dv + k0 * a->v_stride + h * D;
    w.grad_queries = limited(a->grad_rows, w.queries);
    w.grad_keys = limited(a->grad_rows, w.keys);
    return w;
}

static void no_keys(const struct head_job *w)
{
    for (int64_t i = 0; i < w->queries; i++) {
        if (w->y)
            memset(w->y + i * w->out_stride, 0, (size_t)w->D * sizeof(float));
        if (w->y && w->lse)
            w->lse[i * w->lse_stride] = -INFINITY;
        if (w->dq && i < w->grad_queries)
            memset(w->dq + i * w->q_stride, 0, (size_t)w->D * sizeof(float));
    }
}

static void no_queries(const struct head_job *w)
{
    for (int64_t i = 0; i < w->grad_keys && w->dk; i++) {
        memset(w->dk + i * w->k_stride, 0, (size_t)w->D * sizeof(float));
        memset(w->dv + i * w->v_stride, 0, (size_t)w->D * sizeof(float));
    }
}

static void will_need(struct ahead_list *l, const float *p, int64_t rows, int64_t stride,
                      int64_t width)
{
    if (!p || rows <= 0)
        return;
    l->array[l->count].at = (const char *)p;
    l->array[l->count].step = (size_t)stride * sizeof(float);
    l->array[l->count].bytes = width * (int64_t)sizeof(float);
    l->array[l->count++].rows = rows;
}

/* One head, while its places and what the next one reads are being fetched: heads are narrow
 * columns of wide rows, which no prefetcher of the machine follows. */
static void run_head(const struct attention_job *j, struct head_job *w, const struct head_job *next,
                     int thread)
{
    struct ahead_list l = {0};
    const int64_t D = w->D;
    will_need(&l, w->y, w->queries, w->out_stride, D);
    will_need(&l, w->dk, w->grad_keys, w->k_stride, D);
    will_need(&l, w->dv, w->grad_keys, w->v_stride, D);
    will_need(&l, w->dq, w->grad_queries, w->q_stride, D);
    l.places = l.count;
    if (next) {
        will_need(&l, next->q, next->queries, next->q_stride, D);
        will_need(&l, next->k, next->keys, next->k_stride, D);
        if (next->v != next->k)
            will_need(&l, next->v, next->keys, next->v_stride, D);
        will_need(&l, next->dout, next->queries, next->out_stride, D);
        will_need(&l, next->out, next->queries, next->out_stride, D);
    }
    w->ahead = &l;
    if (!w->keys)
        no_keys(w);
    else if (!w->queries)
        no_queries(w);
    else if (j->y)
        (j->c->half ? j->c->k->attention_half : j->c->k->attention)(w, j->c->scratch[thread]);
    else
        (j->c->half ? j->c->k->attention_bwd_half : j->c->k->attention_bwd)(
            w, j->c->scratch[thread]);
    w->ahead = NULL;
}

/* Head g of all heads of all examples. */
static struct head_job head_at(const struct attention_job *j, int64_t g)
{
    const struct ops_attention *a = j->a;
    const int64_t b = g / a->heads;
    return head_of(j, b, g % a->heads, a->heads * (a->k_off[b] - a->k_off[0]));
}

static void take_heads(const struct attention_job *j, struct head_share *s, int thread)
{
    for (int64_t g; (g = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < s->end;) {
        struct head_job now = head_at(j, g), next;
        const bool more = g + 1 < s->end;
        if (more)
            next = head_at(j, g + 1);
        run_head(j, &now, more ? &next : NULL, thread);
    }
}

/* A thread's own heads, then what the others have not come to. */
static void attention_range(void *ctx, int64_t first, int64_t last, int thread)
{
    const struct attention_job *j = ctx;
    const int T = j->c->threads;
    for (int64_t t = first; t < last; t++)
        take_heads(j, &j->c->heads[t], thread);
    for (int i = 1; i < T; i++)
        take_heads(j, &j->c->heads[(thread + i) % T], thread);
}

/* Thread t of T begins with the heads whose middle lies in its share of the work. */
static void share_heads(const struct attention_job *j)
{
    const struct ops_attention *a = j->a;
    const int T = j->c->threads;
    const double per_thread = j->total / (double)T;
    double done = 0;
    int64_t g = 0;
    int t = 0;
    atomic_store_explicit(&j->c->heads[0].next, 0, memory_order_relaxed);
    for (int64_t b = 0; b < a->B; b++) {
        const double cost = head_cost(a, b);
        for (int64_t h = 0; h < a->heads; h++, g++, done += cost)
            while (t < T - 1 && done + cost / 2 >= per_thread * (t + 1)) {
                j->c->heads[t++].end = g;
                atomic_store_explicit(&j->c->heads[t].next, g, memory_order_relaxed);
            }
    }
    for (; t < T; t++) {
        j->c->heads[t].end = g;
        if (t + 1 < T)
            atomic_store_explicit(&j->c->heads[t + 1].next, g, memory_order_relaxed);
    }
}

/* Scratch for the longest example; false when there is no memory. */
static bool attention_room(struct cpu *c, int64_t floats)
{
    if (floats <= c->scratch_floats)
        return true;
    for (int t = 0; t < c->threads; t++) {
        float *p = mem_alloc_aligned((size_t)floats, sizeof *p);
        if (!p) {
            log_warning("out of memory: %lld bytes of scratch for attention",
                        (long long)floats * 4);
            c->ops.fault = SPT_E_NOMEM;
            return false;
        }
        mem_free_aligned(c->scratch[t]);
        c->scratch[t] = p;
    }
    c->scratch_floats = floats;
    return true;
}

/* The scratch of one thread, in floats. */
static int64_t attention_floats(const struct cpu *c, const struct ops_attention *a)
{
    int64_t floats = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t q = a->q_off[b + 1] - a->q_off[b] + (a->q_first ? a->q_first[b] : 0);
        const int64_t n = (c->half ? c->k->attention_half_scratch : c->k->attention_scratch)(
            q, a->k_off[b + 1] - a->k_off[b], a->head_dim);
        floats = n > floats ? n : floats;
    }
    return floats;
}

static bool attention_prepare(struct attention_job *j)
{
    const struct ops_attention *a = j->a;
    for (int64_t b = 0; b < a->B; b++)
        j->total += head_cost(a, b) * (double)a->heads;
    share_heads(j);
    return attention_room(j->c, attention_floats(j->c, a));
}

static void fill_nan(float *p, int64_t rows, int64_t stride, int64_t width)
{
    for (int64_t i = 0; p && i < rows; i++)
        for (int64_t d = 0; d < width; d++)
            p[i * stride + d] = __builtin_nanf("");
}

/* Without memory the result is NaN, which the check of the step finds. */
static void attention_run(struct attention_job *j)
{
    const struct ops_attention *a = j->a;
    const int64_t J = a->heads * a->head_dim;
    if (a->B <= 0)
        return;
    if (!attention_prepare(j)) {
        fill_nan(j->y, a->q_off[a->B], J, J);
        fill_nan(j->dq, a->q_off[a->B], a->q_stride, J);
        fill_nan(j->dk, a->k_off[a->B], a->k_stride, J);
        fill_nan(j->dv, a->k_off[a->B], a->v_stride, J);
        return;
    }
    if (j->total * (double)a->head_dim < SMALL_PASS)
        attention_range(j, 0, j->c->threads, 0);
    else
        pool_run(j->c->pool, j->c->threads, attention_range, j);
}

static void cpu_attention(ops *o, const struct ops_attention *a, void *out)
{
    struct attention_job j = {.c = (struct cpu *)o, .a = a, .y = out};
    attention_run(&j);
}

static void cpu_attention_bwd(ops *o, const struct ops_attention *a, const void *out,
                              const void *dout, void *dq, void *dk, void *dv)
{
    struct attention_job j = {
        .c = (struct cpu *)o, .a = a, .out = out, .dout = dout, .dq = dq, .dk = dk, .dv = dv};
    attention_run(&j);
}

/* --- decoding ----------------------------------------------------------------------------------
 */

struct slots_job {
    struct cpu *c;
    const struct ops_slots *a;
    float *out;
};

/* Gathers the keys and values of one row and head, then attends as everywhere else. */
static void slots_range(void *ctx, int64_t first, int64_t last, int thread)
{
    const struct slots_job *j = ctx;
    const struct ops_slots *a = j->a;
    const int64_t D = a->head_dim;
    float *k = j->c->scratch[thread], *v = k + a->len * D, *rest = v + a->len * D;
    for (int64_t item = first; item < last; item++) {
        const int64_t r = item / a->heads, h = item % a->heads;
        const int32_t *slots = a->slots + r * a->slot_stride;
        const int64_t n = a->lens ? a->lens[r] : a->len;
        for (int64_t i = 0; i < n; i++) {
            memcpy(k + i * D, (const float *)a->k + slots[i] * a->k_stride + h * D,
                   (size_t)D * sizeof(float));
            memcpy(v + i * D, (const float *)a->v + slots[i] * a->v_stride + h * D,
                   (size_t)D * sizeof(float));
        }
        const struct head_job w = {
            .D = D,
            .queries = 1,
            .keys = n,
            .q = (const float *)a->q + r * a->q_stride + h * D,
            .k = k,
            .v = v,
            .k_stride = D,
            .v_stride = D,
            .bias = a->bias ? (const float *)a->bias + h * (2 * a->span + 1) : NULL,
            .span = a->span,
            .q_first = n - 1,
            .y = j->out + (r * a->heads + h) * D,
            .out_stride = D,
        };
        if (n)
            j->c->k->attention(&w, rest);
        else
            no_keys(&w);
    }
}

static void cpu_attention_slots(ops *o, const struct ops_slots *a, void *out)
{
    struct cpu *c = (struct cpu *)o;
    const int64_t D = a->head_dim, n = a->len;
    const int64_t floats = (2 * n * D + 15) / 16 * 16 + c->k->attention_scratch(n + 1, n, D);
    if (!attention_room(c, floats)) {
        fill_nan(out, a->rows, a->heads * D, a->heads * D);
        return;
    }
    struct slots_job j = {.c = c, .a = a, .out = out};
    each(c, a->rows * a->heads, 4 * n * D, slots_range, &j);
}

/* --- loss --------------------------------------------------------------------------------------
 */

struct loss_job {
    const struct kernels *k;
    const struct ops_loss_args *a;
    float *logits;
};

static void loss_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct loss_job *j = ctx;
    const struct ops_loss_args *a = j->a;
    const double V = (double)a->V, conf = 1 - (double)a->label_smoothing, z = (double)a->z_loss;
    const double low = a->V > 1 ? (1 - conf) / (V - 1) : 1 - conf;
    /* What a perfect prediction would cost. */
    const double norm = -((conf > 0 ? conf * log(conf) : 0) + (V - 1) * low * log(low + 1e-20));
    for (int64_t i = first; i < last; i++) {
        float *x = j->logits + i * a->V, sum;
        const double w = a->weight ? (double)a->weight[i] : 1;
        const double log_z = j->k->log_sum_exp(x, a->V, &sum, a->argmax ? &a->argmax[i] : NULL);
        const double log_p = (double)x[a->target[i]] - log_z;
        const double spread = low > 0 ? low * ((double)sum - V * log_z) : 0;
        const double ce = -(conf - low) * log_p - spread;
        if (a->log_p)
            a->log_p[i] = log_p;
        if (a->log_z)
            a->log_z[i] = log_z;
        a->loss[i] = (ce + z * log_z * log_z - norm) * w;
        if (a->z)
            a->z[i] = z * log_z * log_z * w;
        if (!a->backward)
            continue;
        j->k->softmax_grad(x, a->V, (float)log_z, (float)(w * (1 + 2 * z * log_z)),
                           (float)(w * low));
        /* exp in double here: this entry is the difference of two numbers near 1. */
        x[a->target[i]] = (float)(w * ((1 + 2 * z * log_z) * exp(log_p) - conf));
    }
}

static void cpu_loss(ops *o, void *logits, const struct ops_loss_args *a)
{
    struct cpu *c = (struct cpu *)o;
    struct loss_job j = {.k = c->k, .a = a, .logits = logits};
    each(c, a->rows, 4 * a->V, loss_range, &j);
}

struct part_job {
    const struct kernels *k;
    const struct ops_loss_args *a;
    float *logits;
    int64_t first, n;
    struct ops_loss_part *out;
};

static void part_range(void *ctx, int64_t from, int64_t to, int thread)
{
    (void)thread;
    const struct part_job *j = ctx;
    for (int64_t i = from; i < to; i++) {
        const float *x = j->logits + i * j->n;
        const int64_t t = j->a->target[i] - j->first;
        int32_t best = 0;
        float sum;
        struct ops_loss_part *p = &j->out[i];
        p->log_z = j->k->log_sum_exp(x, j->n, &sum, &best);
        p->sum = (double)sum;
        p->max = (double)x[best];
        p->argmax = j->first + best;
        p->target = t >= 0 && t < j->n ? (double)x[t] : 0;
    }
}

static void cpu_loss_part(ops *o, const void *logits, const struct ops_loss_args *a, int64_t first,
                          int64_t n, struct ops_loss_part *out)
{
    struct cpu *c = (struct cpu *)o;
    struct part_job j = {c->k, a, (float *)(uintptr_t)logits, first, n, out};
    each(c, a->rows, 2 * n, part_range, &j);
}

static void part_bwd_range(void *ctx, int64_t from, int64_t to, int thread)
{
    (void)thread;
    const struct part_job *j = ctx;
    const struct ops_loss_args *a = j->a;
    const double V = (double)a->V, conf = 1 - (double)a->label_smoothing, z = (double)a->z_loss;
    const double low = a->V > 1 ? (1 - conf) / (V - 1) : 1 - conf;
    for (int64_t i = from; i < to; i++) {
        float *x = j->logits + i * j->n;
        const double w = a->weight ? (double)a->weight[i] : 1, log_z = a->log_z[i];
        const int64_t t = a->target[i] - j->first;
        const bool own = t >= 0 && t < j->n;
        const double log_p = own ? (double)x[t] - log_z : 0;
        j->k->softmax_grad(x, j->n, (float)log_z, (float)(w * (1 + 2 * z * log_z)),
                           (float)(w * low));
        if (own) /* as in loss_range */
            x[t] = (float)(w * ((1 + 2 * z * log_z) * exp(log_p) - conf));
    }
}

static void cpu_loss_part_bwd(ops *o, void *logits, const struct ops_loss_args *a, int64_t first,
                              int64_t n)
{
    struct cpu *c = (struct cpu *)o;
    struct part_job j = {c->k, a, logits, first, n, NULL};
    each(c, a->rows, 2 * n, part_bwd_range, &j);
}

/* --- table -------------------------------------------------------------------------------------
 */

#define TABLE(isa)                                                                                 \
    {                                                                                              \
        .name = isa, .elem = sizeof(float), .wide = sizeof(float), .close = cpu_close,             \
        .alloc = cpu_alloc, .release = cpu_release, .put = cpu_put, .get = cpu_get,                \
        .get_wide = cpu_get, .zero = cpu_zero, .copy = cpu_copy, .weight_new = cpu_weight_new,     \
        .weight_free = cpu_weight_free, .weight_bytes = cpu_weight_bytes, .matmul = cpu_matmul,    \
        .matmul_sum = cpu_matmul_sum, .matmul_t = cpu_matmul_t, .table_new = cpu_table_new,        \
        .matmul_each = cpu_matmul_each,                                                            \
        .gather = cpu_gather, .rmsnorm = cpu_rmsnorm, .rmsnorm_bwd = cpu_rmsnorm_bwd,              \
        .attention = cpu_attention, .attention_bwd = cpu_attention_bwd,                            \
        .attention_slots = cpu_attention_slots, .activate = cpu_activate,                          \
        .activate_bwd = cpu_activate_bwd, .feed = cpu_feed, .feed_bwd = cpu_feed_bwd,              \
        .drop_rows = cpu_drop_rows, .add = cpu_add,                                                \
        .scale = cpu_scale, .gather_rows = cpu_gather_rows, .scatter_rows = cpu_scatter_rows,      \
        .loss = cpu_loss, .loss_part = cpu_loss_part, .loss_part_bwd = cpu_loss_part_bwd,          \
        .find_nonfinite = cpu_find_nonfinite,                                                      \
    }

/* The name tells what decides the bits: kernels and operands of the products. */
static const struct ops_table tables[2][3] = {
    {TABLE("avx2"), TABLE("avx2-bf16"), TABLE("")},
    {TABLE("avx512"), TABLE("avx512-bf16"), TABLE("avx512-bf16-onednn")},
};

void cpu_name(struct cpu *c)
{
    const bool half = c->compute == OPS_BFLOAT16;
    c->ops.t = &tables[c->k == kernels_avx512()][half ? 1 + c->tiles : 0];
}

#if defined(__x86_64__)
/* clang 14 knows this feature for flags only, not for __builtin_cpu_supports. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static bool machine_has(const char *isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init(); /* asks the processor and whether the system saves the registers */
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (!strcmp(isa, "avx2"))
        return avx2;
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
    (void)isa;
    return false;
#endif
}

/* What oneDNN will use; DNNL_MAX_CPU_ISA can lower it, and then everything follows. */
static bool dnnl_has(int isa)
{
    return ((int)dnnl_get_effective_cpu_isa() & isa) == isa;
}

static spt_status choose(const char *isa, bool *wide, spt_err *err)
{
    const bool any = !isa || !strcmp(isa, "auto");
    if (!any && strcmp(isa, "avx2") && strcmp(isa, "avx512"))
        return err_set(err, SPT_E_CONFIG,
                       "kernels \"%s\" (--isa, SPT_ISA) are not known: use auto, ref, ref64, "
                       "avx2 or avx512",
                       isa);
    if (!any && !machine_has(isa))
        return err_set(err, SPT_E_CONFIG,
                       "this machine does not have the instructions of "
                       "SPT_ISA=%s",
                       isa);
    *wide =
        any ? machine_has("avx512") && dnnl_has(dnnl_cpu_isa_avx512_core) : !strcmp(isa, "avx512");
    return SPT_OK;
}

/* Our kernel where the chip has AVX512-BF16; oneDNN where it has AMX, or where SPT_ONEDNN=1 asks
 * for it (0 forbids it). Which one is not decided by a measurement: the two differ in bits, and a
 * run must go on as it began. */
static void choose_bf16(struct cpu *c, bool wide)
{
    const char *want = os_getenv("SPT_ONEDNN");
    c->own_bf16 = wide && dnnl_has(dnnl_cpu_isa_avx512_core_bf16);
    c->tiles = c->own_bf16 && dnnl_has(dnnl_cpu_isa_avx512_core_amx);
    if (want && *want)
        c->tiles = c->own_bf16 && !strcmp(want, "1");
}

bool ops_isa_available(const char *isa)
{
    return !strcmp(isa, "auto") || !strcmp(isa, "ref") ||
           ((!strcmp(isa, "avx2") || !strcmp(isa, "avx512")) && machine_has(isa));
}

char *ops_library_version(char *text)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, 32, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

bool ops_native_bfloat16(void)
{
    return machine_has("avx512") && dnnl_has(dnnl_cpu_isa_avx512_core_bf16);
}

spt_status ops_cpu_open(const struct ops_config *cfg, ops **out, spt_err *err)
{
    const struct ops_config none = {0};
    cfg = cfg ? cfg : &none;
    bool wide = false;
    TRY(choose(cfg->isa, &wide, err));
    if (!wide && !machine_has("avx2")) {
        if (cfg->compute != OPS_FLOAT32)
            return err_set(err, SPT_E_CONFIG,
                           "bfloat16 needs AVX2, which this machine does not "
                           "have: use --compute float32");
        return ops_ref_open_f32(out, err);
    }
    struct cpu *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(err, sizeof *c);
    c->compute = cfg->compute;
    choose_bf16(c, wide);
    c->k = wide ? kernels_avx512() : kernels_avx2();
    c->half = cfg->compute == OPS_BFLOAT16 && c->own_bf16 && c->k->attention_half;
    c->lowered = !wide && machine_has("avx512") && dnnl_has(dnnl_cpu_isa_avx512_core);
    cpu_name(c);
    spt_status st = pool_new(cfg->threads, &c->pool, err);
    if (!st) {
        c->threads = pool_threads(c->pool);
        st = products_new(c, &c->products, err);
    }
    if (st) {
        pool_free(c->pool);
        mem_free(c);
        return st;
    }
    *out = &c->ops;
    return SPT_OK;
}

size_t ops_cpu_scratch(const ops *o)
{
    const struct cpu *c = (const struct cpu *)o;
    return products_scratch(c->products) +
           (size_t)c->scratch_floats * sizeof(float) * (size_t)c->threads;
}

int ops_cpu_threads(const ops *o)
{
    return ((const struct cpu *)o)->threads;
}

static bool is_cpu(const ops *o)
{
    return o && o->t->close == cpu_close;
}

size_t ops_cpu_scratch_for(const ops *o, const struct ops_attention *a, int64_t rows)
{
    const struct cpu *c = (const struct cpu *)o;
    if (!is_cpu(o))
        return 0;
    const int64_t floats = a ? attention_floats(c, a) : 0;
    return products_scratch_for(c->products, rows) +
           (size_t)(floats > c->scratch_floats ? floats : c->scratch_floats) * sizeof(float) *
               (size_t)c->threads;
}

spt_status ops_cpu_weight_room(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                               enum ops_weight_kind kind, size_t *bytes, spt_err *err)
{
    *bytes = 0;
    return is_cpu(o)
               ? cpu_weight_room((struct cpu *)o, parts, nparts, uses, kind == OPS_WEIGHT_HEAD,
                                 kind == OPS_WEIGHT_TABLE, bytes, err)
               : SPT_OK;
}

/* --- roofline ----------------------------------------------------------------------------------
 */

double ops_cpu_peak(ops *o, bool half, double seconds)
{
    return is_cpu(o) ? products_peak((struct cpu *)o, half, seconds) : 0;
}

static void read_range(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct flat *f = ctx;
    int64_t at, n;
    flat_range(f, first, last, &at, &n);
    (void)f->k->find_nonfinite((const float *)f->x + at, n);
}

double ops_cpu_bandwidth(ops *o, double seconds)
{
    enum { FLOATS = 64 << 20 }; /* 256 MiB, beyond any cache */
    if (!is_cpu(o))
        return 0;
    struct cpu *c = (struct cpu *)o;
    float *x = mem_alloc_aligned(FLOATS, sizeof *x);
    if (!x)
        return 0;
    struct flat f = {.k = c->k, .y = x, .x = x, .n = FLOATS};
    pool_run(c->pool, FLOATS / LINE, zero_range, &f);
    double best = 0;
    const int64_t start = os_monotonic_ns();
    while (best == 0 || (double)(os_monotonic_ns() - start) < seconds * 1e9) {
        const int64_t from = os_monotonic_ns();
        pool_run(c->pool, FLOATS / LINE, read_range, &f);
        const double rate =
            (double)FLOATS * sizeof *x / ((double)(os_monotonic_ns() - from) * 1e-9);
        best = rate > best ? rate : best;
    }
    mem_free_aligned(x);
    return best;
}
