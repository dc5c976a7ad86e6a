/* Products with prepared weights.
 *
 * A weight [K, N] is stored as panels of 64 columns, [N / 64][K'][64] with K' = K rounded up to 32
 * and zeros in the padding: one copy serves both directions. Forward, a panel (or two, side by
 * side in memory) is exactly what oneDNN calls BA16a64b (float32) and BA16a64b2a (bfloat16, rows
 * in pairs). Backward, the panels of W^T are made on the fly, one group at a time, in the scratch
 * of the thread that then runs all rows over it: the cost is that of reading the weight once, for
 * hundreds of rows one percent (docs/design/cpu.md), and no second copy is ever held.
 *
 * Work is split into (range of rows) x (range of column groups); one thread runs all of its rows
 * over a group while the group lies in its second-level cache. Rows are cut into tiles of a few
 * fixed sizes. One primitive per (tile, K, columns) is created when the first weight of that shape
 * is prepared, and executed single-threaded. The sizes of a shape are those that give the same
 * bits as the largest: measured on random numbers at creation, because no document promises it
 * (rulings 2: bfloat16 with AMX breaks it for some K). So the bits of a row depend neither on the
 * number of rows nor on the tile it lands in, nor on the threads.
 *
 * Engines, in order of preference; the reference implementation of oneDNN is refused:
 *   bfloat16 operands, float32 sums    oneDNN, where the chip has AVX512-BF16 or AMX
 *   float32                            oneDNN with AVX-512
 *   float32                            our own kernel (AVX2, or when oneDNN refuses)
 * A weight kept in bfloat16 whose products run in float32 is widened group by group. */
#include "ops/cpu/cpu_internal.h"

#include <stdatomic.h>
#include <string.h>

#include <dnnl.h>

#include "base/log.h"
#include "os/os.h"

/* oneDNN is built with OpenMP; its thread count is a property of the calling thread. Declared here
 * because not every compiler finds omp.h. */
extern void omp_set_num_threads(int threads);

enum {
    TILES = 3,
    GROUP_PANELS = 2,
    GROUP = GROUP_PANELS * PANEL,
    K_ROUND = 32,
    MAX_TILE = 64,
    WIDE = 8192 /* more columns than this: backward without W^T */
};
static const int tile_rows[TILES] = {MAX_TILE, 16, 8};

enum store {
    STORE_F32,
    STORE_BF16,  /* [K'][64] */
    STORE_PAIRS, /* [K' / 2][64][2] */
};

/* What one thread needs to run a primitive. */
struct lane {
    dnnl_memory_t src[TILES], dst[TILES], weights, scratchpad;
};

/* x[tile, K] times [K, columns] */
struct product {
    struct product *next;
    int64_t K, columns;
    bool bf16;
    bool own; /* no primitive: our kernel */
    dnnl_primitive_t tile[TILES]; /* NULL: not used for this shape */
    struct lane *lane;            /* [threads] */
};

struct thread_buffers {
    float *dst;    /* [MAX_TILE, GROUP] */
    float *panels; /* a group of converted or transposed panels */
    float *tail;   /* padded rows */
    void *scratchpad;
};

struct products {
    struct cpu *c;
    dnnl_engine_t engine;
    dnnl_stream_t stream[POOL_MAX_THREADS];
    struct product *list;
    size_t panel_bytes, tail_bytes, scratchpad_bytes; /* per thread, as allocated */
    struct thread_buffers buffers[POOL_MAX_THREADS];
    void *rows; /* [ROW_BLOCK, K'] copy of x as bfloat16, or padded */
    size_t rows_bytes;
    _Atomic bool failed; /* reported once */
};

struct ops_weight {
    int64_t K, N, Kp, Np; /* Kp, Np: as stored in each direction */
    int64_t panels;
    enum store store;
    bool bf16; /* operands of the products */
    void *data;
    size_t bytes;
    /* Products of a full group and of a last single panel, forward and backward. */
    const struct product *fwd[GROUP_PANELS], *bwd[GROUP_PANELS];
};

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static size_t store_size(enum store s)
{
    return s == STORE_F32 ? 4 : 2;
}

/* --- oneDNN ------------------------------------------------------------------------------------
 * The only place that knows which version it is. */

static spt_status dnnl_error(spt_err *err, dnnl_status_t s, const char *what)
{
    const spt_status st = s == dnnl_out_of_memory ? SPT_E_NOMEM : SPT_E_DEVICE;
    return err_set(err, st, "oneDNN: %s failed (status %d)", what, (int)s);
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md_t;
typedef const_dnnl_memory_desc_t md_view;
static dnnl_status_t md_new(md_t *md, int64_t a, int64_t b, dnnl_data_type_t t, dnnl_format_tag_t f)
{
    const dnnl_dims_t dims = {a, b};
    return dnnl_memory_desc_create_with_tag(md, 2, dims, t, f);
}
static void md_free(md_t *md)
{
    if (*md)
        dnnl_memory_desc_destroy(*md);
    *md = NULL;
}
static md_view md_of(const md_t *md)
{
    return *md;
}
#else
typedef dnnl_memory_desc_t md_t;
typedef const dnnl_memory_desc_t *md_view;
static dnnl_status_t md_new(md_t *md, int64_t a, int64_t b, dnnl_data_type_t t, dnnl_format_tag_t f)
{
    const dnnl_dims_t dims = {a, b};
    return dnnl_memory_desc_init_by_tag(md, 2, dims, t, f);
}
static void md_free(md_t *md)
{
    (void)md;
}
static md_view md_of(const md_t *md)
{
    return md;
}
#endif

static dnnl_status_t matmul_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, md_view src,
                                 md_view weights, md_view dst, dnnl_primitive_attr_t attr)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(pd, engine, src, weights, NULL, dst, attr);
#else
    dnnl_matmul_desc_t d;
    const dnnl_status_t s = dnnl_matmul_desc_init(&d, src, weights, NULL, dst);
    return s ? s : dnnl_primitive_desc_create(pd, &d, attr, engine, NULL);
#endif
}

struct shape_mds {
    md_t src[TILES], dst[TILES], weights;
};

static void free_mds(struct shape_mds *m)
{
    for (int i = 0; i < TILES; i++) {
        md_free(&m->src[i]);
        md_free(&m->dst[i]);
    }
    md_free(&m->weights);
}

static dnnl_status_t make_mds(struct shape_mds *m, int64_t K, int64_t columns, bool bf16)
{
    const dnnl_data_type_t t = bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_status_t s = md_new(&m->weights, K, columns, t, bf16 ? dnnl_BA16a64b2a : dnnl_BA16a64b);
    for (int i = 0; i < TILES && !s; i++) {
        s = md_new(&m->src[i], tile_rows[i], K, t, dnnl_ab);
        if (!s)
            s = md_new(&m->dst[i], tile_rows[i], columns, dnnl_f32, dnnl_ab);
    }
    return s;
}

/* A primitive that is not the reference implementation; *out stays NULL when there is none. */
static dnnl_status_t make_tile(struct products *p, const struct shape_mds *m, int i,
                               dnnl_primitive_t *out, size_t *scratchpad)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (!s)
        s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s)
        s = dnnl_primitive_attr_set_fpmath_mode(attr, dnnl_fpmath_mode_strict);
    if (s)
        goto done;
    s = matmul_desc(&pd, p->engine, md_of(&m->src[i]), md_of(&m->weights), md_of(&m->dst[i]), attr);
    if (s == dnnl_unimplemented || s == dnnl_invalid_arguments) {
        s = dnnl_success;
        goto done;
    }
    const char *name = "";
    if (!s)
        s = dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    if (s || strstr(name, "ref"))
        goto done;
    const size_t need =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
    *scratchpad = need > *scratchpad ? need : *scratchpad;
    s = dnnl_primitive_create(out, pd);
done:
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return s;
}

static void free_memory(dnnl_memory_t m)
{
    if (m)
        dnnl_memory_destroy(m);
}

static void product_free(struct product *q, int threads)
{
    if (!q)
        return;
    for (int i = 0; i < TILES; i++)
        if (q->tile[i])
            dnnl_primitive_destroy(q->tile[i]);
    for (int t = 0; q->lane && t < threads; t++) {
        for (int i = 0; i < TILES; i++) {
            free_memory(q->lane[t].src[i]);
            free_memory(q->lane[t].dst[i]);
        }
        free_memory(q->lane[t].weights);
        free_memory(q->lane[t].scratchpad);
    }
    mem_free(q->lane);
    mem_free(q);
}

static dnnl_status_t make_lane(struct products *p, const struct shape_mds *m, md_view pad,
                               struct lane *l)
{
    dnnl_status_t s = dnnl_memory_create(&l->weights, md_of(&m->weights), p->engine, NULL);
    if (!s)
        s = dnnl_memory_create(&l->scratchpad, pad, p->engine, NULL);
    for (int i = 0; i < TILES && !s; i++) {
        s = dnnl_memory_create(&l->src[i], md_of(&m->src[i]), p->engine, NULL);
        if (!s)
            s = dnnl_memory_create(&l->dst[i], md_of(&m->dst[i]), p->engine, NULL);
    }
    return s;
}

/* --- scratch ----------------------------------------------------------------------------------- */

static spt_status grow(void *p, size_t *have, size_t need, spt_err *err)
{
    if (need <= *have)
        return SPT_OK;
    void *fresh = mem_alloc_aligned(need, 1), *old;
    if (!fresh)
        return err_nomem(err, need);
    memcpy(&old, p, sizeof old);
    mem_free_aligned(old);
    memcpy(p, &fresh, sizeof fresh);
    *have = need;
    return SPT_OK;
}

/* The same size for every thread; sizes are recorded only when all threads have theirs. */
static spt_status reserve(struct products *p, size_t panels, size_t tail, size_t pad, size_t rows,
                          spt_err *err)
{
    for (int t = 0; t < p->c->threads; t++) {
        struct thread_buffers *b = &p->buffers[t];
        size_t have = p->panel_bytes;
        TRY(grow(&b->panels, &have, panels, err));
        have = p->tail_bytes;
        TRY(grow(&b->tail, &have, tail, err));
        have = p->scratchpad_bytes;
        TRY(grow(&b->scratchpad, &have, pad, err));
    }
    p->panel_bytes = panels > p->panel_bytes ? panels : p->panel_bytes;
    p->tail_bytes = tail > p->tail_bytes ? tail : p->tail_bytes;
    p->scratchpad_bytes = pad > p->scratchpad_bytes ? pad : p->scratchpad_bytes;
    return grow(&p->rows, &p->rows_bytes, rows, err);
}

size_t products_scratch(const struct products *p)
{
    return p->rows_bytes + (size_t)p->c->threads * (p->panel_bytes + p->tail_bytes +
                                                    p->scratchpad_bytes + MAX_TILE * GROUP * 4);
}

spt_status products_new(struct cpu *c, struct products **out, spt_err *err)
{
    struct products *p = mem_zalloc(1, sizeof *p);
    if (!p)
        return err_nomem(err, sizeof *p);
    p->c = c;
    spt_status st = SPT_OK;
    dnnl_status_t s = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
    for (int t = 0; t < c->threads && !s && !st; t++) {
        s = dnnl_stream_create(&p->stream[t], p->engine, dnnl_stream_default_flags);
        p->buffers[t].dst = mem_alloc_aligned((size_t)MAX_TILE * GROUP, sizeof(float));
        if (!p->buffers[t].dst)
            st = err_nomem(err, (size_t)MAX_TILE * GROUP * sizeof(float));
    }
    if (s)
        st = dnnl_error(err, s, "opening the engine");
    if (st) {
        products_free(p);
        return st;
    }
    *out = p;
    return SPT_OK;
}

void products_free(struct products *p)
{
    if (!p)
        return;
    for (struct product *q = p->list, *next; q; q = next) {
        next = q->next;
        product_free(q, p->c->threads);
    }
    for (int t = 0; t < p->c->threads; t++) {
        if (p->stream[t])
            dnnl_stream_destroy(p->stream[t]);
        mem_free_aligned(p->buffers[t].dst);
        mem_free_aligned(p->buffers[t].panels);
        mem_free_aligned(p->buffers[t].tail);
        mem_free_aligned(p->buffers[t].scratchpad);
    }
    if (p->engine)
        dnnl_engine_destroy(p->engine);
    mem_free_aligned(p->rows);
    mem_free(p);
}

/* --- running one tile -------------------------------------------------------------------------- */

static bool run_tile(struct products *p, const struct product *q, int i, int thread,
                     const void *src, const void *panel, float *dst)
{
    const struct lane *l = &q->lane[thread];
    union {
        const void *in;
        void *out;
    } s = {.in = src}, w = {.in = panel}; /* the interface has no const */
    dnnl_memory_set_data_handle(l->src[i], s.out);
    dnnl_memory_set_data_handle(l->weights, w.out);
    dnnl_memory_set_data_handle(l->dst[i], dst);
    dnnl_memory_set_data_handle(l->scratchpad, p->buffers[thread].scratchpad);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, l->src[i]},
                                    {DNNL_ARG_WEIGHTS, l->weights},
                                    {DNNL_ARG_DST, l->dst[i]},
                                    {DNNL_ARG_SCRATCHPAD, l->scratchpad}};
    return dnnl_primitive_execute(q->tile[i], p->stream[thread], 4, args) == dnnl_success;
}

static float noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

/* Drops the tile sizes whose bits differ from those of the largest. */
static spt_status same_bits(struct products *p, struct product *q, spt_err *err)
{
    const size_t size = q->bf16 ? 2 : 4;
    const size_t nx = (size_t)(MAX_TILE * q->K), nw = (size_t)(q->K * q->columns);
    const size_t ny = (size_t)(MAX_TILE * q->columns);
    float *x = mem_alloc_aligned(nx, size), *w = mem_alloc_aligned(nw, size);
    float *want = mem_alloc_aligned(ny, 4), *got = mem_alloc_aligned(ny, 4);
    spt_status st = x && w && want && got ? SPT_OK : err_nomem(err, (nx + nw) * size + ny * 8);
    uint32_t state = 20210418;
    for (size_t i = 0; i < nx + nw && !st; i++) {
        const float f = noise(&state);
        float *at = i < nx ? x : w;
        const size_t j = i < nx ? i : i - nx;
        if (q->bf16)
            ((uint16_t *)(void *)at)[j] = f32_to_bf16(f);
        else
            at[j] = f;
    }
    if (!st && !run_tile(p, q, 0, 0, x, w, want))
        st = dnnl_error(err, dnnl_runtime_error, "a product");
    for (int i = 1; i < TILES && !st; i++) {
        if (!q->tile[i])
            continue;
        for (int r = 0; r < MAX_TILE; r += tile_rows[i])
            if (!run_tile(p, q, i, 0, (char *)x + (size_t)(r * q->K) * size, w,
                          got + r * q->columns))
                st = dnnl_error(err, dnnl_runtime_error, "a product");
        if (!st && memcmp(want, got, ny * 4)) {
            dnnl_primitive_destroy(q->tile[i]);
            q->tile[i] = NULL;
        }
    }
    mem_free_aligned(x);
    mem_free_aligned(w);
    mem_free_aligned(want);
    mem_free_aligned(got);
    return st;
}

/* Creates the primitives of q; q->own is set when oneDNN has nothing but its reference. */
static spt_status make_product(struct products *p, struct product *q, spt_err *err)
{
    struct shape_mds m = {0};
    size_t pad = 64;
    md_t pad_md = {0};
    spt_status st = SPT_OK;
    omp_set_num_threads(1);
    dnnl_status_t s = make_mds(&m, q->K, q->columns, q->bf16);
    for (int i = 0; i < TILES && !s; i++)
        s = make_tile(p, &m, i, &q->tile[i], &pad);
    if (!s && !q->tile[0]) {
        q->own = true;
        goto done;
    }
    if (!s) {
        const dnnl_dims_t dims = {(int64_t)pad};
#if DNNL_VERSION_MAJOR >= 3
        s = dnnl_memory_desc_create_with_tag(&pad_md, 1, dims, dnnl_u8, dnnl_a);
#else
        s = dnnl_memory_desc_init_by_tag(&pad_md, 1, dims, dnnl_u8, dnnl_a);
#endif
    }
    for (int t = 0; t < p->c->threads && !s; t++)
        s = make_lane(p, &m, md_of(&pad_md), &q->lane[t]);
    if (!s)
        st = reserve(p, p->panel_bytes, p->tail_bytes, pad, p->rows_bytes, err);
    if (!s && !st)
        st = same_bits(p, q, err);
done:
    if (s)
        st = dnnl_error(err, s, "preparing a product");
    free_mds(&m);
    md_free(&pad_md);
    return st;
}

static spt_status find_product(struct products *p, int64_t K, int64_t columns, bool bf16,
                               const struct product **out, spt_err *err)
{
    for (struct product *q = p->list; q; q = q->next)
        if (q->K == K && q->columns == columns && q->bf16 == bf16) {
            *out = q;
            return SPT_OK;
        }
    struct product *q = mem_zalloc(1, sizeof *q);
    if (!q)
        return err_nomem(err, sizeof *q);
    *q = (struct product){.K = K, .columns = columns, .bf16 = bf16};
    q->lane = mem_zalloc((size_t)p->c->threads, sizeof *q->lane);
    spt_status st = SPT_OK;
    if (!q->lane)
        st = err_nomem(err, (size_t)p->c->threads * sizeof *q->lane);
    /* The packed float32 kernel of oneDNN needs AVX-512; elsewhere ours is as fast. */
    else if (!bf16 && !p->c->k->transpose_pairs)
        q->own = true;
    else
        st = make_product(p, q, err);
    if (st) {
        product_free(q, p->c->threads);
        return st;
    }
    q->next = p->list;
    p->list = q;
    *out = q;
    return SPT_OK;
}

/* --- packing ----------------------------------------------------------------------------------- */

void cpu_read_f32(const struct cpu *c, const struct tensor_view *v, int64_t first, int64_t n,
                  float *out)
{
    const char *p = (const char *)v->data + (size_t)first * dtype_size(v->dtype);
    if (v->dtype == DT_F32)
        memcpy(out, p, (size_t)n * 4);
    else if (v->dtype == DT_BF16 && (uintptr_t)p % 2 == 0)
        c->k->from_bf16((const uint16_t *)(const void *)p, out, n);
    else if (v->dtype == DT_F16 && (uintptr_t)p % 2 == 0)
        c->k->from_f16((const uint16_t *)(const void *)p, out, n);
    else
        tensor_to_f32(v, (size_t)first, (size_t)n, out);
}

static int64_t part_K(const struct ops_matrix *m)
{
    return m->view.shape.dim[m->transposed ? 1 : 0];
}

static int64_t part_N(const struct ops_matrix *m)
{
    return m->view.shape.dim[m->transposed ? 0 : 1];
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows k .. k + PANEL of columns n .. n + PANEL of the parts as float32 [PANEL][PANEL]; zeros
 * outside of the matrix. */
static void read_block(const struct cpu *c, const struct ops_matrix *parts, int nparts, int64_t k,
                       int64_t n, float *block)
{
    float lines[PANEL * PANEL], turned[PANEL * PANEL];
    memset(block, 0, sizeof lines);
    int64_t at = 0; /* first column of the part */
    for (int i = 0; i < nparts; i++) {
        const struct ops_matrix *m = &parts[i];
        const int64_t K = part_K(m), N = part_N(m);
        const int64_t first = n > at ? n : at, last = least(n + PANEL, at + N);
        const int64_t ks = least(PANEL, K - k);
        if (first < last && !m->transposed) {
            for (int64_t r = 0; r < ks; r++)
                cpu_read_f32(c, &m->view, (k + r) * N + first - at, last - first,
                             block + r * PANEL + first - n);
        } else if (first < last) {
            memset(lines, 0, sizeof lines);
            for (int64_t j = first; j < last; j++)
                cpu_read_f32(c, &m->view, (j - at) * K + k, ks, lines + (j - n) * PANEL);
            c->k->transpose(lines, turned);
            for (int64_t r = 0; r < ks; r++)
                memcpy(block + r * PANEL + first - n, turned + r * PANEL + first - n,
                       (size_t)(last - first) * 4);
        }
        at += N;
    }
}

/* `ks` rows of a block into the store at row k of the panel. */
static void write_block(const struct cpu *c, const ops_weight *w, int64_t panel, int64_t k,
                        int64_t ks, const float *block)
{
    const int64_t at = (panel * w->Kp + k) * PANEL;
    if (w->store == STORE_F32) {
        memcpy((float *)w->data + at, block, (size_t)(ks * PANEL) * 4);
        return;
    }
    uint16_t *to = (uint16_t *)w->data + at;
    if (w->store == STORE_BF16) {
        c->k->to_bf16(block, to, ks * PANEL);
        return;
    }
    uint16_t lines[PANEL * PANEL];
    c->k->to_bf16(block, lines, ks * PANEL);
    for (int64_t r = 0; r < ks; r += 2)
        for (int64_t j = 0; j < PANEL; j++) {
            to[r * PANEL + 2 * j] = lines[r * PANEL + j];
            to[r * PANEL + 2 * j + 1] = lines[(r + 1) * PANEL + j];
        }
}

struct pack_job {
    const struct cpu *c;
    const struct ops_matrix *parts;
    int nparts;
    const ops_weight *w;
};

static void pack_panels(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct pack_job *j = ctx;
    float block[PANEL * PANEL];
    for (int64_t p = first; p < last; p++)
        for (int64_t k = 0; k < j->w->Kp; k += PANEL) {
            read_block(j->c, j->parts, j->nparts, k, p * PANEL, block);
            write_block(j->c, j->w, p, k, least(PANEL, j->w->Kp - k), block);
        }
}

/* Products of both directions: reduction length, and panels of the result. */
static spt_status find_products(struct cpu *c, ops_weight *w, unsigned uses, spt_err *err)
{
    struct products *p = c->products;
    const int64_t back = round_up(w->K, PANEL) / PANEL;
    const bool wide = w->N > WIDE && !w->bf16; /* see wide_block */
    for (int i = 0; i < GROUP_PANELS; i++) {
        const int64_t columns = (i + 1) * PANEL;
        /* A size is needed when there is a full group, or one panel left. */
        if (i == 0 ? w->panels % GROUP_PANELS : w->panels >= GROUP_PANELS)
            TRY(find_product(p, w->Kp, columns, w->bf16, &w->fwd[i], err));
        if (!(uses & OPS_BACKWARD) || wide)
            continue;
        if (i == 0 ? back % GROUP_PANELS : back >= GROUP_PANELS)
            TRY(find_product(p, w->Np, columns, w->bf16, &w->bwd[i], err));
    }
    const bool build = (uses & OPS_BACKWARD) || (w->store == STORE_BF16);
    const int64_t longest = w->Kp > w->Np || wide ? w->Kp : w->Np;
    const size_t size = w->bf16 ? 2 : 4;
    const bool copy = w->bf16 || w->Kp != w->K || (w->Np != w->N && !wide);
    return reserve(p, build ? (size_t)longest * GROUP * size : 0,
                   (size_t)longest * MAX_TILE * size, p->scratchpad_bytes,
                   copy ? (size_t)longest * ROW_BLOCK * size : 0, err);
}

void cpu_weight_free(ops *o, ops_weight *w)
{
    (void)o;
    if (!w)
        return;
    mem_free_aligned(w->data);
    mem_free(w);
}

size_t cpu_weight_bytes(const ops_weight *w)
{
    return w ? w->bytes : 0;
}

static spt_status whole_shape(const struct ops_matrix *parts, int nparts, struct tensor_shape *all,
                              spt_err *err)
{
    *all = shape_2d(nparts > 0 && parts[0].view.shape.rank == 2 ? part_K(&parts[0]) : 0, 0);
    for (int i = 0; i < nparts; i++) {
        char text[SHAPE_TEXT];
        if (parts[i].view.shape.rank != 2 || part_K(&parts[i]) != all->dim[0])
            return err_set(err, SPT_E_FORMAT, "matrix %s does not have %lld input rows",
                           shape_text(&parts[i].view.shape, text), (long long)all->dim[0]);
        if (part_N(&parts[i]) > INT64_MAX - all->dim[1])
            return err_set(err, SPT_E_FORMAT, "matrices too large");
        all->dim[1] += part_N(&parts[i]);
    }
    size_t n, bytes;
    TRY(tensor_size(DT_F32, all, &n, &bytes, err));
    if (!n || all->dim[0] > INT32_MAX || all->dim[1] > INT32_MAX)
        return err_set(err, SPT_E_FORMAT, "a matrix of %lld x %lld cannot be multiplied with",
                       (long long)all->dim[0], (long long)all->dim[1]);
    return SPT_OK;
}

static bool all_bf16(const struct ops_matrix *parts, int nparts)
{
    for (int i = 0; i < nparts; i++)
        if (parts[i].view.dtype != DT_BF16)
            return false;
    return true;
}

spt_status cpu_weight_new(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                          bool head, ops_weight **out, spt_err *err)
{
    struct cpu *c = (struct cpu *)o;
    struct tensor_shape all;
    TRY(whole_shape(parts, nparts, &all, err));
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    w->K = all.dim[0], w->N = all.dim[1];
    w->Kp = round_up(w->K, K_ROUND), w->Np = round_up(w->N, K_ROUND);
    w->panels = round_up(w->N, PANEL) / PANEL;
    const bool half = c->compute == OPS_BFLOAT16;
    w->bf16 = half && !head && c->native_bf16;
    w->store = w->bf16 ? STORE_PAIRS
               : half && (!head || all_bf16(parts, nparts)) ? STORE_BF16
                                                            : STORE_F32;
    spt_status st = SPT_OK;
    if (!mul_size((size_t)(w->panels * PANEL), (size_t)w->Kp, &w->bytes) ||
        !mul_size(w->bytes, store_size(w->store), &w->bytes))
        st = err_set(err, SPT_E_FORMAT, "matrices too large");
    if (!st && !(w->data = mem_alloc_aligned(w->bytes, 1)))
        st = err_nomem(err, w->bytes);
    if (!st)
        st = find_products(c, w, uses, err);
    if (st) {
        cpu_weight_free(o, w);
        return st;
    }
    struct pack_job job = {.c = c, .parts = parts, .nparts = nparts, .w = w};
    pool_run(c->pool, w->panels, pack_panels, &job);
    *out = w;
    return SPT_OK;
}

/* --- tables: a weight of which only data, K (rows) and N are used --------------------------------- */

static void copy_table(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct pack_job *j = ctx;
    const ops_weight *w = j->w;
    const struct tensor_view *v = &j->parts->view;
    const size_t row = (size_t)w->N * store_size(w->store);
    for (int64_t i = first; i < last; i++)
        if (v->dtype == DT_BF16)
            memcpy((char *)w->data + (size_t)i * row, (const char *)v->data + (size_t)i * row, row);
        else
            cpu_read_f32(j->c, v, i * w->N, w->N, (float *)w->data + i * w->N);
}

spt_status cpu_table_new(ops *o, const struct ops_matrix *m, ops_weight **out, spt_err *err)
{
    struct cpu *c = (struct cpu *)o;
    struct tensor_shape all;
    TRY(whole_shape(m, 1, &all, err));
    if (m->transposed)
        return err_set(err, SPT_E_INTERNAL, "a transposed embedding table");
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    w->K = all.dim[0], w->N = all.dim[1];
    w->store = m->view.dtype == DT_BF16 ? STORE_BF16 : STORE_F32;
    w->bytes = (size_t)w->K * (size_t)w->N * store_size(w->store); /* checked by whole_shape */
    w->data = mem_alloc_aligned(w->bytes, 1);
    if (!w->data) {
        const spt_status st = err_nomem(err, w->bytes);
        cpu_weight_free(o, w);
        return st;
    }
    struct pack_job job = {.c = c, .parts = m, .nparts = 1, .w = w};
    pool_run(c->pool, w->K, copy_table, &job);
    *out = w;
    return SPT_OK;
}

struct cpu_table cpu_table_of(const ops_weight *w)
{
    return (struct cpu_table){
        .V = w->K, .E = w->N, .half = w->store == STORE_BF16, .data = w->data};
}

/* --- panels of a group ------------------------------------------------------------------------- */

/* Columns g * GROUP .. of W, ready for a product: in place, or widened into scratch. */
static const void *forward_group(const struct cpu *c, const ops_weight *w, int64_t g, int64_t n,
                                 float *scratch)
{
    const int64_t at = g * GROUP_PANELS * w->Kp * PANEL;
    if (w->store == STORE_F32)
        return (const float *)w->data + at;
    if (w->store == STORE_PAIRS)
        return (const uint16_t *)w->data + at;
    c->k->from_bf16((const uint16_t *)w->data + at, scratch, n * w->Kp * PANEL);
    return scratch;
}

/* The same of W^T: panel k of it has rows n = 0 .. Np and columns k .. k + PANEL of W. */
static const void *backward_group(const struct cpu *c, const ops_weight *w, int64_t g, int64_t n,
                                  float *scratch)
{
    float wide[PANEL * PANEL], turned[PANEL * PANEL];
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = (g * GROUP_PANELS + i) * PANEL, ks = least(PANEL, w->Kp - k);
        for (int64_t p = 0; p < w->panels; p++) {
            const int64_t at = (p * w->Kp + k) * PANEL;
            const int64_t to = (i * w->Np + p * PANEL) * PANEL;
            const int64_t ns = least(PANEL, w->Np - p * PANEL);
            /* Edge blocks (a matrix that does not fill its last panels) take a detour. */
            const bool whole = ks == PANEL && ns == PANEL;
            if (w->store == STORE_PAIRS) {
                const uint16_t *from = (const uint16_t *)w->data + at;
                uint16_t *dst = (uint16_t *)(void *)scratch + to;
                if (whole) {
                    c->k->transpose_pairs(from, dst);
                    continue;
                }
                memset(wide, 0, PANEL * PANEL * 2);
                memcpy(wide, from, (size_t)(ks * PANEL) * 2);
                c->k->transpose_pairs((const uint16_t *)(const void *)wide,
                                      (uint16_t *)(void *)turned);
                memcpy(dst, turned, (size_t)(ns * PANEL) * 2);
                continue;
            }
            const float *from = (const float *)w->data + at;
            if (w->store == STORE_BF16 || !whole) {
                memset(wide, 0, whole ? 0 : sizeof wide);
                if (w->store == STORE_BF16)
                    c->k->from_bf16((const uint16_t *)w->data + at, wide, ks * PANEL);
                else
                    memcpy(wide, from, (size_t)(ks * PANEL) * 4);
                from = wide;
            }
            c->k->transpose(from, whole ? scratch + to : turned);
            if (!whole)
                memcpy(scratch + to, turned, (size_t)(ns * PANEL) * 4);
        }
    }
    return scratch;
}

/* --- running ----------------------------------------------------------------------------------- */

struct run {
    struct products *p;
    const ops_weight *w;
    bool back, add;
    int64_t K, Kp, N;      /* reduction length, as padded, columns of the result */
    const void *x;         /* rows of Kp (bf16: of the copy) or of K elements */
    int64_t ldx;           /* elements */
    float *y;              /* rows of N */
    int64_t rows;
    int row_parts, group_parts;
    const struct product *const *product;
};

static int64_t groups_of(int64_t N)
{
    return round_up(round_up(N, PANEL) / PANEL, GROUP_PANELS) / GROUP_PANELS;
}

static void copy_out(const struct cpu *c, const struct run *r, const float *from, int64_t columns,
                     int64_t row, int64_t rows, int64_t n)
{
    const int64_t width = least(columns, r->N - n);
    for (int64_t i = 0; i < rows; i++) {
        float *y = r->y + (row + i) * r->N + n;
        if (r->add)
            c->k->add(y, from + i * columns, width);
        else
            memcpy(y, from + i * columns, (size_t)width * 4);
    }
}

/* A product that cannot run (the library is out of memory) leaves NaN for the caller's check. */
static void poison(struct run *r, int64_t row, int64_t rows, int64_t n, int64_t columns)
{
    if (!atomic_exchange(&r->p->failed, true))
        log_warning("a matrix product failed: out of memory in oneDNN?");
    for (int64_t i = row; i < row + rows; i++)
        for (int64_t j = n; j < least(n + columns, r->N); j++)
            r->y[i * r->N + j] = __builtin_nanf("");
}

/* Largest tile that fits, else the smallest there is. */
static int pick_tile(const struct product *q, int64_t rows)
{
    int best = 0;
    for (int i = 0; i < TILES; i++) {
        if (!q->tile[i])
            continue;
        best = i;
        if (tile_rows[i] <= rows)
            break;
    }
    return best;
}

static void run_group(struct run *r, const struct product *q, const void *panel, int64_t first,
                      int64_t last, int64_t n, int thread)
{
    const struct cpu *c = r->p->c;
    struct thread_buffers *b = &r->p->buffers[thread];
    const size_t size = q->bf16 ? 2 : 4;
    for (int64_t row = first; row < last;) {
        const char *x = (const char *)r->x + (size_t)(row * r->ldx) * size;
        if (q->own) {
            const int64_t rows = least(MAX_TILE, last - row);
            for (int64_t i = 0; i < q->columns / PANEL; i++)
                c->k->gemm((const float *)(const void *)x, r->ldx, rows, r->Kp,
                           (const float *)panel + i * r->Kp * PANEL, b->dst + i * PANEL,
                           q->columns);
            copy_out(c, r, b->dst, q->columns, row, rows, n);
            row += rows;
            continue;
        }
        const int i = pick_tile(q, last - row);
        const int64_t rows = least(tile_rows[i], last - row);
        if (rows < tile_rows[i]) {
            memcpy(b->tail, x, (size_t)(rows * r->Kp) * size);
            memset((char *)b->tail + (size_t)(rows * r->Kp) * size, 0,
                   (size_t)((tile_rows[i] - rows) * r->Kp) * size);
            x = (const char *)b->tail;
        }
        if (run_tile(r->p, q, i, thread, x, panel, b->dst))
            copy_out(c, r, b->dst, q->columns, row, rows, n);
        else
            poison(r, row, rows, n, q->columns);
        row += rows;
    }
}

static void run_part(void *ctx, int64_t part, int64_t part_end, int thread)
{
    struct run *r = ctx;
    const struct cpu *c = r->p->c;
    float *scratch = r->p->buffers[thread].panels;
    const int64_t groups = groups_of(r->N), panels = round_up(r->N, PANEL) / PANEL;
    omp_set_num_threads(1);
    for (; part < part_end; part++) {
        const int64_t rp = part / r->group_parts, gp = part % r->group_parts;
        /* Rows are dealt in eights, so that only the last tile of all is padded. */
        const int64_t units = (r->rows + 7) / 8;
        const int64_t first = units * rp / r->row_parts * 8;
        const int64_t last = least(units * (rp + 1) / r->row_parts * 8, r->rows);
        const int64_t g_end = groups * (gp + 1) / r->group_parts;
        for (int64_t g = groups * gp / r->group_parts; g < g_end; g++) {
            const int64_t n = least(GROUP_PANELS, panels - g * GROUP_PANELS);
            const void *panel = r->back ? backward_group(c, r->w, g, n, scratch)
                                        : forward_group(c, r->w, g, n, scratch);
            run_group(r, r->product[n - 1], panel, first, last, g * GROUP, thread);
        }
    }
}

/* Splits the threads into row parts x group parts so that the largest share is smallest. */
static void split(struct run *r, int threads)
{
    const int64_t groups = groups_of(r->N), units = (r->rows + 7) / 8;
    const int64_t build = r->back || r->w->store == STORE_BF16 ? 2 : 0; /* in units of 8 rows */
    int64_t best = INT64_MAX;
    for (int gp = 1; gp <= threads; gp++) {
        if (threads % gp)
            continue;
        const int64_t rp = threads / gp;
        const int64_t cost = (groups + gp - 1) / gp * ((units + rp - 1) / rp + build);
        if (cost <= best) {
            best = cost;
            r->group_parts = gp;
            r->row_parts = (int)rp;
        }
    }
}

/* Copies rows as bfloat16, or with their padding. */
struct copy_job {
    const struct run *r;
    const float *x;
    void *to;
};

static void copy_rows(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct copy_job *j = ctx;
    const struct run *r = j->r;
    const struct cpu *c = r->p->c;
    const int64_t pad = r->Kp - r->K;
    for (int64_t i = first; i < last; i++)
        if (r->w->bf16) {
            uint16_t *to = (uint16_t *)j->to + i * r->Kp;
            c->k->to_bf16(j->x + i * r->K, to, r->K);
            memset(to + r->K, 0, (size_t)pad * 2);
        } else {
            float *to = (float *)j->to + i * r->Kp;
            memcpy(to, j->x + i * r->K, (size_t)r->K * 4);
            memset(to + r->K, 0, (size_t)pad * 4);
        }
}

/* --- backward of a very wide weight (the output head) --------------------------------------------
 * W^T of a head [768, 32128] would be built in 16 MB of scratch to serve a few dozen rows. Instead
 * the transposed result is computed, dx^T [K, 64 rows] += panel [K, 64] dy^T [64, 64 rows], with
 * our kernel and the panels as they lie; threads own rows of it. One chain over n per element. */

struct wide_run {
    const struct cpu *c;
    const ops_weight *w;
    const float *dy;
    float *dx;
    int64_t rows;
    bool add;
};

static void wide_block(const struct wide_run *r, struct thread_buffers *b, int64_t k0, int64_t k1,
                       int64_t row, int64_t rows)
{
    const struct ops_weight *w = r->w;
    const struct kernels *k = r->c->k;
    float lines[PANEL * PANEL], turned[PANEL * PANEL];
    float *acc = b->panels, *widened = acc + w->Kp * PANEL;
    memset(acc, 0, (size_t)((k1 - k0) * PANEL) * sizeof *acc);
    memset(lines, 0, sizeof lines);
    for (int64_t p = 0; p < w->panels; p++) {
        const int64_t n = least(PANEL, w->N - p * PANEL);
        for (int64_t i = 0; i < rows; i++) {
            memcpy(lines + i * PANEL, r->dy + (row + i) * w->N + p * PANEL, (size_t)n * 4);
            memset(lines + i * PANEL + n, 0, (size_t)(PANEL - n) * 4);
        }
        k->transpose(lines, turned);
        const int64_t at = (p * w->Kp + k0) * PANEL;
        const float *panel = (const float *)w->data + at;
        if (w->store == STORE_BF16) {
            k->from_bf16((const uint16_t *)w->data + at, widened, (k1 - k0) * PANEL);
            panel = widened;
        }
        k->gemm_add(panel, PANEL, k1 - k0, n, turned, rows, acc, PANEL);
    }
    for (int64_t kk = k0; kk < k1; kk++)
        for (int64_t i = 0; i < rows; i++) {
            float *to = r->dx + (row + i) * w->K + kk;
            const float sum = acc[(kk - k0) * PANEL + i];
            *to = r->add ? *to + sum : sum;
        }
}

static void wide_part(void *ctx, int64_t first, int64_t last, int thread)
{
    const struct wide_run *r = ctx;
    const int64_t k0 = first * 8, k1 = least(last * 8, r->w->K);
    for (int64_t row = 0; row < r->rows; row += PANEL)
        wide_block(r, &r->c->products->buffers[thread], k0, k1, row,
                   least(PANEL, r->rows - row));
}

static void run_product(ops *o, const ops_weight *w, bool back, const float *x, float *y,
                        int64_t rows, bool add)
{
    struct cpu *c = (struct cpu *)o;
    struct run r = {.p = c->products, .w = w, .back = back, .add = add,
                    .K = back ? w->N : w->K, .Kp = back ? w->Np : w->Kp, .N = back ? w->K : w->N,
                    .product = back ? w->bwd : w->fwd};
    r.ldx = r.Kp;
    for (int64_t at = 0; at < rows; at += ROW_BLOCK) {
        r.rows = least(ROW_BLOCK, rows - at);
        r.x = x + at * r.K;
        r.y = y + at * r.N;
        if (w->bf16 || r.K != r.Kp) {
            struct copy_job j = {.r = &r, .x = x + at * r.K, .to = c->products->rows};
            pool_run(c->pool, r.rows, copy_rows, &j);
            r.x = c->products->rows;
        }
        split(&r, c->threads);
        pool_run(c->pool, c->threads, run_part, &r);
    }
}

void cpu_matmul(ops *o, const ops_weight *w, const void *x, void *y, int64_t rows, bool add)
{
    run_product(o, w, false, x, y, rows, add);
}

void cpu_matmul_t(ops *o, const ops_weight *w, const void *dy, void *dx, int64_t rows, bool add)
{
    if (w->N > WIDE && !w->bf16) {
        struct cpu *c = (struct cpu *)o;
        struct wide_run r = {.c = c, .w = w, .dy = dy, .dx = dx, .rows = rows, .add = add};
        pool_run(c->pool, (w->K + 7) / 8, wide_part, &r);
        return;
    }
    run_product(o, w, true, dy, dx, rows, add);
}

/* --- peak -------------------------------------------------------------------------------------- */

struct peak_run {
    struct products *p;
    const struct product *q;
    const void *x, *panel;
    int64_t turns;
    float *own;
};

static void peak_part(void *ctx, int64_t first, int64_t last, int thread)
{
    const struct peak_run *r = ctx;
    float *dst = r->p->buffers[thread].dst;
    (void)first, (void)last;
    omp_set_num_threads(1);
    for (int64_t i = 0; i < r->turns; i++)
        if (!r->q->own)
            (void)run_tile(r->p, r->q, 0, thread, r->x, r->panel, dst);
        else
            for (int64_t g = 0; g < GROUP; g += PANEL)
                r->p->c->k->gemm(r->x, r->q->K, MAX_TILE, r->q->K,
                                 (const float *)r->panel + g * r->q->K, dst + g, GROUP);
}

double products_peak(struct products *p, bool bf16, double seconds)
{
    enum { K = 768 };
    struct peak_run r = {.p = p, .turns = 50};
    if (bf16 && !p->c->native_bf16)
        return 0;
    if (find_product(p, K, GROUP, bf16, &r.q, NULL))
        return 0;
    float *x = mem_alloc_aligned(K * (MAX_TILE + GROUP), sizeof *x);
    if (!x)
        return 0;
    uint32_t state = 7;
    for (size_t i = 0; i < K * (MAX_TILE + GROUP); i++)
        if (bf16)
            ((uint16_t *)(void *)x)[i] = f32_to_bf16(noise(&state));
        else
            x[i] = noise(&state);
    r.x = x;
    r.panel = bf16 ? (const void *)((uint16_t *)(void *)x + K * MAX_TILE) : x + K * MAX_TILE;
    double best = 0;
    for (const int64_t start = os_monotonic_ns(); best == 0 || (double)(os_monotonic_ns() - start) <
                                                               seconds * 1e9;) {
        const int64_t from = os_monotonic_ns();
        pool_run(p->c->pool, p->c->threads, peak_part, &r);
        const double rate = 2.0 * K * MAX_TILE * GROUP * (double)r.turns * p->c->threads /
                            ((double)(os_monotonic_ns() - from) * 1e-9);
        best = rate > best ? rate : best;
    }
    mem_free_aligned(x);
    return best;
}
