#include "ops/cpu/tiles.h"

#include <string.h>

#include <dnnl.h>

/* oneDNN is built with OpenMP; its thread count is a property of the calling thread. Declared here
 * because not every compiler finds omp.h. */
extern void omp_set_num_threads(int threads);

enum { SIZES = 4, COLUMNS = 64 };
static const int tile_rows[SIZES] = {TILE_MAX, 64, 16, 8};

/* What one thread needs to run a primitive. */
struct lane {
    dnnl_memory_t src[SIZES], dst[SIZES], weights, scratchpad;
};

struct tile_product {
    struct tile_product *next;
    int64_t K;
    bool bf16;
    dnnl_primitive_t tile[SIZES]; /* NULL: not used for this K */
    struct lane *lane;            /* [threads] */
};

struct tiles {
    int threads;
    dnnl_engine_t engine;
    dnnl_stream_t *stream; /* [threads] */
    struct tile_product *list;
    /* Per thread: scratchpad of the library, padded rows in and out. */
    size_t pad_bytes, tail_bytes;
    void **pad, **tail;
    float **out;
};

/* --- the library: the only place that knows its version ------------------------------------------
 */

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
    md_t src[SIZES], dst[SIZES], weights;
};

static void free_mds(struct shape_mds *m)
{
    for (int i = 0; i < SIZES; i++) {
        md_free(&m->src[i]);
        md_free(&m->dst[i]);
    }
    md_free(&m->weights);
}

static dnnl_status_t make_mds(struct shape_mds *m, int64_t K, bool bf16)
{
    const dnnl_data_type_t t = bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_status_t s = md_new(&m->weights, K, COLUMNS, t, bf16 ? dnnl_BA16a64b2a : dnnl_BA16a64b);
    for (int i = 0; i < SIZES && !s; i++) {
        s = md_new(&m->src[i], tile_rows[i], K, t, dnnl_ab);
        if (!s)
            s = md_new(&m->dst[i], tile_rows[i], COLUMNS, dnnl_f32, dnnl_ab);
    }
    return s;
}

/* A primitive that is not the reference implementation; *out stays NULL when there is none. */
static dnnl_status_t make_tile(struct tiles *p, const struct shape_mds *m, int i,
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

static void product_free(struct tile_product *q, int threads)
{
    if (!q)
        return;
    for (int i = 0; i < SIZES; i++)
        if (q->tile[i])
            dnnl_primitive_destroy(q->tile[i]);
    for (int t = 0; q->lane && t < threads; t++) {
        for (int i = 0; i < SIZES; i++) {
            free_memory(q->lane[t].src[i]);
            free_memory(q->lane[t].dst[i]);
        }
        free_memory(q->lane[t].weights);
        free_memory(q->lane[t].scratchpad);
    }
    mem_free(q->lane);
    mem_free(q);
}

static dnnl_status_t make_lane(struct tiles *p, const struct shape_mds *m, md_view pad,
                               struct lane *l)
{
    dnnl_status_t s = dnnl_memory_create(&l->weights, md_of(&m->weights), p->engine, NULL);
    if (!s)
        s = dnnl_memory_create(&l->scratchpad, pad, p->engine, NULL);
    for (int i = 0; i < SIZES && !s; i++) {
        s = dnnl_memory_create(&l->src[i], md_of(&m->src[i]), p->engine, NULL);
        if (!s)
            s = dnnl_memory_create(&l->dst[i], md_of(&m->dst[i]), p->engine, NULL);
    }
    return s;
}

/* --- scratch -----------------------------------------------------------------------------------
 */

/* The same size for every thread; recorded only when all threads have theirs. */
static spt_status reserve(void **per_thread, int threads, size_t *have, size_t need, spt_err *err)
{
    if (need <= *have)
        return SPT_OK;
    for (int t = 0; t < threads; t++) {
        void *fresh = mem_alloc_aligned(need, 1);
        if (!fresh)
            return err_nomem(err, need);
        mem_free_aligned(per_thread[t]);
        per_thread[t] = fresh;
    }
    *have = need;
    return SPT_OK;
}

size_t tiles_bytes(const struct tiles *t)
{
    const size_t out = (size_t)TILE_MAX * COLUMNS * sizeof(float);
    return t ? (size_t)t->threads * (t->pad_bytes + t->tail_bytes + out) : 0;
}

void tiles_free(struct tiles *p)
{
    if (!p)
        return;
    for (struct tile_product *q = p->list, *next; q; q = next) {
        next = q->next;
        product_free(q, p->threads);
    }
    for (int t = 0; t < p->threads; t++) {
        if (p->stream && p->stream[t])
            dnnl_stream_destroy(p->stream[t]);
        if (p->pad)
            mem_free_aligned(p->pad[t]);
        if (p->tail)
            mem_free_aligned(p->tail[t]);
        if (p->out)
            mem_free_aligned(p->out[t]);
    }
    if (p->engine)
        dnnl_engine_destroy(p->engine);
    mem_free(p->stream);
    mem_free(p->pad);
    mem_free(p->tail);
    mem_free(p->out);
    mem_free(p);
}

spt_status tiles_new(int threads, struct tiles **out, spt_err *err)
{
    const size_t n = (size_t)threads, bytes = (size_t)TILE_MAX * COLUMNS * sizeof(float);
    struct tiles *p = mem_zalloc(1, sizeof *p);
    if (!p)
        return err_nomem(err, sizeof *p);
    p->threads = threads;
    p->stream = mem_zalloc(n, sizeof *p->stream);
    p->pad = mem_zalloc(n, sizeof *p->pad);
    p->tail = mem_zalloc(n, sizeof *p->tail);
    p->out = mem_zalloc(n, sizeof *p->out);
    bool room = p->stream && p->pad && p->tail && p->out;
    for (size_t t = 0; t < n && room; t++)
        room = (p->out[t] = mem_alloc_aligned(bytes, 1)) != NULL;
    spt_status st = room ? SPT_OK : err_nomem(err, bytes);
    if (!st) {
        dnnl_status_t s = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
        for (size_t t = 0; t < n && !s; t++)
            s = dnnl_stream_create(&p->stream[t], p->engine, dnnl_stream_default_flags);
        if (s)
            st = dnnl_error(err, s, "opening the engine");
    }
    if (st) {
        tiles_free(p);
        return st;
    }
    *out = p;
    return SPT_OK;
}

/* --- running one tile --------------------------------------------------------------------------
 */

static bool run_tile(struct tiles *p, const struct tile_product *q, int i, int thread,
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
    dnnl_memory_set_data_handle(l->scratchpad, p->pad[thread]);
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

/* A few sums of the largest tile against double arithmetic: a wrong order of the weights, or an
 * instruction that does not do what it should, is found before it costs a run. The error of sums of
 * K products of size 1 is below 1e-6 K. */
static bool right_sums(const struct tile_product *q, const void *x, const void *w, const float *y)
{
    const uint16_t *xh = x, *wh = w;
    const float *xf = x, *wf = w;
    for (int r = 0; r < TILE_MAX; r += TILE_MAX / 4 - 1)
        for (int n = 0; n < COLUMNS; n += 7) {
            double sum = 0;
            for (int64_t k = 0; k < q->K; k++) {
                const int64_t pair = (k / 2 * COLUMNS + n) * 2 + k % 2;
                const int64_t at = r * q->K + k;
                sum += q->bf16 ? (double)bf16_to_f32(xh[at]) * (double)bf16_to_f32(wh[pair])
                               : (double)xf[at] * (double)wf[k * COLUMNS + n];
            }
            const double e = sum - (double)y[r * COLUMNS + n];
            if (!(e < 1e-6 * (double)(q->K + 64) && -e < 1e-6 * (double)(q->K + 64)))
                return false;
        }
    return true;
}

/* Drops the tile sizes whose bits differ from those of the largest. */
static spt_status same_bits(struct tiles *p, struct tile_product *q, spt_err *err)
{
    const size_t size = q->bf16 ? 2 : 4;
    const size_t nx = (size_t)(TILE_MAX * q->K), nw = (size_t)(q->K * COLUMNS);
    const size_t ny = (size_t)(TILE_MAX * COLUMNS);
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
    if (!st && !right_sums(q, x, w, want))
        st = err_set(err, SPT_E_DEVICE, "oneDNN multiplies wrongly at length %lld", (long long)q->K);
    for (int i = 1; i < SIZES && !st; i++) {
        if (!q->tile[i])
            continue;
        for (int r = 0; r < TILE_MAX; r += tile_rows[i])
            if (!run_tile(p, q, i, 0, (char *)x + (size_t)(r * q->K) * size, w, got + r * COLUMNS))
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

static spt_status make_product(struct tiles *p, struct tile_product *q, spt_err *err)
{
    struct shape_mds m = {0};
    size_t pad = 64;
    md_t pad_md = {0};
    spt_status st = SPT_OK;
    omp_set_num_threads(1);
    dnnl_status_t s = make_mds(&m, q->K, q->bf16);
    for (int i = 0; i < SIZES && !s; i++)
        s = make_tile(p, &m, i, &q->tile[i], &pad);
    if (!s && !q->tile[0]) {
        st = err_set(err, SPT_E_DEVICE, "oneDNN has no fast product of length %lld",
                     (long long)q->K);
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
    for (int t = 0; t < p->threads && !s; t++)
        s = make_lane(p, &m, md_of(&pad_md), &q->lane[t]);
    if (!s)
        st = reserve(p->pad, p->threads, &p->pad_bytes, pad, err);
    if (!s && !st)
        st = reserve(p->tail, p->threads, &p->tail_bytes,
                     (size_t)(TILE_MAX * q->K) * (q->bf16 ? 2 : 4), err);
    if (!s && !st)
        st = same_bits(p, q, err);
done:
    if (s)
        st = dnnl_error(err, s, "preparing a product");
    free_mds(&m);
    md_free(&pad_md);
    return st;
}

spt_status tiles_find(struct tiles *p, int64_t K, bool bf16, const struct tile_product **out,
                      spt_err *err)
{
    for (struct tile_product *q = p->list; q; q = q->next)
        if (q->K == K && q->bf16 == bf16) {
            *out = q;
            return SPT_OK;
        }
    struct tile_product *q = mem_zalloc(1, sizeof *q);
    if (!q)
        return err_nomem(err, sizeof *q);
    *q = (struct tile_product){.K = K, .bf16 = bf16};
    q->lane = mem_zalloc((size_t)p->threads, sizeof *q->lane);
    const spt_status st =
        q->lane ? make_product(p, q, err) : err_nomem(err, (size_t)p->threads * sizeof *q->lane);
    if (st) {
        product_free(q, p->threads);
        return st;
    }
    q->next = p->list;
    p->list = q;
    *out = q;
    return SPT_OK;
}

/* The largest tile that fits, else the smallest there is. */
static int pick_tile(const struct tile_product *q, int64_t rows)
{
    int best = 0;
    for (int i = 0; i < SIZES; i++) {
        if (!q->tile[i])
            continue;
        best = i;
        if (tile_rows[i] <= rows)
            break;
    }
    return best;
}

int64_t tiles_take(const struct tile_product *p, int64_t left)
{
    const int64_t n = tile_rows[pick_tile(p, left)];
    return left < n ? left : n;
}

bool tiles_run(struct tiles *p, const struct tile_product *q, int thread, const void *x,
               int64_t rows, const void *panel, float *y)
{
    const int i = pick_tile(q, rows);
    omp_set_num_threads(1);
    if (rows == tile_rows[i])
        return run_tile(p, q, i, thread, x, panel, y);
    const size_t row = (size_t)q->K * (q->bf16 ? 2 : 4);
    char *tail = p->tail[thread];
    memcpy(tail, x, (size_t)rows * row);
    memset(tail + (size_t)rows * row, 0, (size_t)(tile_rows[i] - rows) * row);
    if (!run_tile(p, q, i, thread, tail, panel, p->out[thread]))
        return false;
    memcpy(y, p->out[thread], (size_t)(rows * COLUMNS) * sizeof *y);
    return true;
}
