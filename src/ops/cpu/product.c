/* Products with prepared weights: who computes what, in which order.
 *
 * A product y[rows, N] = x[rows, K] W runs panel by panel (64 columns of y) and, in long sums,
 * chunk by chunk of K, so that what one thread works on, a panel of one chunk, stays in its
 * second-level cache while all of its rows pass by in small tiles. The number of chunks depends on
 * K alone. Partial sums of chunks are added to y in order; within a chunk an element is one chain
 * of fused multiply-adds over k. So the bits of a row depend on nothing but the row and the weight.
 *
 * Backward, dx[rows, K] = dy[rows, N] W^T, the panels of W^T are turned around on the fly, 64 x 64
 * at a time, in the thread's scratch: that costs reading the weight once, which for hundreds of
 * rows is a percent or two, and no second copy is ever held. While a panel is at work the next one
 * is being fetched.
 *
 * Kernels: our own for float32 (as fast as oneDNN's: 97-99 % of the chip's peak,
 * docs/design/cpu.md) and for bfloat16 with AVX512-BF16; oneDNN for bfloat16 with AMX (tiles.c). A
 * weight kept in bfloat16 whose products run in float32 is widened panel by panel. */
#include <stdatomic.h>
#include <string.h>

#include "base/log.h"
#include "ops/cpu/cpu_internal.h"
#include "ops/cpu/tiles.h"
#include "os/os.h"

enum {
    CHUNK = 1024,      /* of K, in float32: a panel of 256 KB */
    CHUNK_BF16 = 2048, /* the same bytes */
    TILE = 24,         /* rows of a call of a kernel */
    AHEAD_ROWS = 96,   /* the last rows of a panel, during which the next panel is fetched */
    ROW_BLOCK = 2048,  /* rows copied as bfloat16 at a time */
    FEW_ROWS = 4      /* backward of so few rows in float32: few_block */
};

struct thread_buffers {
    float *dst;  /* [TILE_MAX, PANEL] */
    void *panel; /* widened or turned panel of a chunk, twice */
    float *few;  /* sums of few_part, and a widened panel */
};

struct run;

/* What a thread is at: rows [first, last) times a panel (the panels of a gate), tile by tile. */
struct task {
    const struct run *r;
    const void *panel[2];
    int64_t chunk, first, last, n; /* columns n .. n + 64 of the result */
};

/* The task of a thread, of which others may take tiles. `left` counts those that nobody has taken;
 * who counts it down from a positive number owns that tile. The owner changes the task only while
 * nobody is `busy` with it and nothing is left. */
struct shared_task {
    _Alignas(64) _Atomic int64_t left; /* as mem_alloc_aligned() does */
    _Atomic int busy;
    int64_t tiles;
    struct task task;
};

struct products {
    struct cpu *c;
    struct tiles *tiles; /* NULL: not used */
    struct shared_task *shared; /* one per thread */
    _Atomic int working;        /* threads that have panels of their own left */
    struct thread_buffers buffers[POOL_MAX_THREADS];
    size_t few_bytes;
    void *rows; /* two blocks of rows as bfloat16: of x, and of what goes into the next product */
    size_t rows_bytes;
    _Atomic bool failed; /* reported once */
};

/* A reduction of length K in `count` chunks of `length`, the last one shorter. */
struct chunks {
    int64_t length, count;
};

static struct chunks chunks_of(int64_t K, bool bf16)
{
    const int64_t most = bf16 ? CHUNK_BF16 : CHUNK;
    struct chunks c = {.count = (K + most - 1) / most};
    c.length = round_up((K + c.count - 1) / c.count, PANEL);
    c.count = (K + c.length - 1) / c.length;
    return c;
}

/* --- scratch -----------------------------------------------------------------------------------
 */

static const size_t panel_bytes = (size_t)(CHUNK + PANEL) * PANEL * sizeof(float);
enum { SCRATCH_PANELS = 2 };
static const size_t dst_bytes = (size_t)TILE_MAX * PANEL * sizeof(float);

spt_status products_new(struct cpu *c, struct products **out, spt_err *err)
{
    struct products *p = mem_zalloc(1, sizeof *p);
    if (!p)
        return err_nomem(err, sizeof *p);
    p->c = c;
    spt_status st = SPT_OK;
    const size_t shared = (size_t)c->threads * sizeof *p->shared;
    p->shared = mem_alloc_aligned(shared, 1);
    if (!p->shared)
        st = err_nomem(err, shared);
    else
        memset((void *)p->shared, 0, shared);
    for (int t = 0; t < c->threads && !st; t++) {
        p->buffers[t].dst = mem_alloc_aligned(dst_bytes, 1);
        p->buffers[t].panel = mem_alloc_aligned(SCRATCH_PANELS * panel_bytes, 1);
        if (!p->buffers[t].dst || !p->buffers[t].panel)
            st = err_nomem(err, dst_bytes + panel_bytes);
    }
    if (!st && c->tiles)
        st = tiles_new(c->threads, &p->tiles, err);
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
    tiles_free(p->tiles);
    for (int t = 0; t < p->c->threads; t++) {
        mem_free_aligned(p->buffers[t].dst);
        mem_free_aligned(p->buffers[t].panel);
        mem_free_aligned(p->buffers[t].few);
    }
    mem_free_aligned(p->rows);
    mem_free_aligned(p->shared);
    mem_free(p);
}

size_t products_scratch(const struct products *p)
{
    return p->rows_bytes + tiles_bytes(p->tiles) +
           (size_t)p->c->threads * (SCRATCH_PANELS * panel_bytes + dst_bytes + p->few_bytes);
}

size_t products_scratch_for(const struct products *p, int64_t rows)
{
    const size_t unused = (size_t)(rows < ROW_BLOCK ? ROW_BLOCK - rows : 0);
    return products_scratch(p) - p->rows_bytes / ROW_BLOCK * unused;
}

static spt_status reserve_few(struct products *p, size_t need, spt_err *err)
{
    if (need <= p->few_bytes)
        return SPT_OK;
    for (int t = 0; t < p->c->threads; t++) {
        float *fresh = mem_alloc_aligned(need, 1);
        if (!fresh)
            return err_nomem(err, need);
        mem_free_aligned(p->buffers[t].few);
        p->buffers[t].few = fresh;
    }
    p->few_bytes = need;
    return SPT_OK;
}

static spt_status reserve_rows(struct products *p, size_t need, spt_err *err)
{
    if (need <= p->rows_bytes)
        return SPT_OK;
    void *fresh = mem_alloc_aligned(need, 1);
    if (!fresh)
        return err_nomem(err, need);
    mem_free_aligned(p->rows);
    p->rows = fresh;
    p->rows_bytes = need;
    return SPT_OK;
}

/* Primitives for the chunks of one direction. */
static spt_status prepare_tiles(struct products *p, int64_t K, spt_err *err)
{
    const struct chunks c = chunks_of(K, true);
    const struct tile_product *t;
    TRY(tiles_find(p->tiles, least(c.length, round_up(K, K_ROUND)), true, &t, err));
    return tiles_find(p->tiles, round_up(K - (c.count - 1) * c.length, K_ROUND), true, &t, err);
}

/* A library that has no primitive for a length, or a wrong one, is not used at all: our own kernel
 * reads the same panels. Weights are prepared before anything is multiplied. */
static spt_status try_tiles(struct products *p, const ops_weight *w, bool back, spt_err *err)
{
    spt_err why = {0};
    spt_status st = prepare_tiles(p, w->K, &why);
    if (!st && back)
        st = prepare_tiles(p, w->N, &why);
    if (!st || st == SPT_E_NOMEM)
        return st ? err_set(err, st, "%s", why.msg) : SPT_OK;
    log_warning("%s: our own kernels multiply (SPT_ONEDNN=0 does not ask)", why.msg);
    tiles_free(p->tiles);
    p->tiles = NULL;
    p->c->tiles = false;
    cpu_name(p->c);
    return SPT_OK;
}

spt_status products_prepare(struct cpu *c, const ops_weight *w, unsigned uses, spt_err *err)
{
    struct products *p = c->products;
    const bool back = uses & OPS_BACKWARD;
    if (!w->bf16)
        return back ? reserve_few(p, (size_t)w->Kp * PANEL * sizeof(float) * 2, err) : SPT_OK;
    if (p->tiles)
        TRY(try_tiles(p, w, back, err));
    const int64_t longest = back && w->N > w->K ? w->N : w->K;
    return reserve_rows(p, 2 * (size_t)round_up(longest, K_ROUND) * ROW_BLOCK * sizeof(uint16_t),
                        err);
}

/* --- one panel of one chunk --------------------------------------------------------------------
 */

/* Rows of K numbers as operands: bfloat16, chunk after chunk, dense, zeros up to K_ROUND. */
struct half_rows {
    uint16_t *to; /* NULL: none */
    int64_t rows, K;
    struct chunks chunks;
};

struct run {
    struct products *p;
    const ops_weight *w;
    bool back, add;
    int64_t K, N; /* reduction length, columns of the result */
    struct chunks chunks;
    const void *x;     /* float32 rows of K, or the bfloat16 copy: chunk after chunk, dense */
    float *y;          /* rows of N */
    const float *base; /* rows of N to which the result is added on its way to y, or NULL */
    int64_t rows;
    int row_parts, panel_parts;
    bool shared; /* threads help each other */
    /* With an activation: the forward writes g, the backward reads h and writes dh instead of y. */
    const struct ops_activate *act;
    const float *h;
    float *out;            /* float32, or */
    struct half_rows next; /* operands of the product that follows */
};

static int64_t half_length(const struct half_rows *h, int64_t chunk)
{
    return round_up(least(h->chunks.length, h->K - chunk * h->chunks.length), K_ROUND);
}

/* From row to row at column n */
static int64_t half_step(const struct half_rows *h, int64_t n)
{
    return half_length(h, n / h->chunks.length);
}

static uint16_t *half_place(const struct half_rows *h, int64_t row, int64_t n)
{
    const int64_t chunk = n / h->chunks.length, from = chunk * h->chunks.length;
    return h->to + from * h->rows + row * half_length(h, chunk) + n - from;
}

static size_t element(const ops_weight *w)
{
    return w->store == STORE_F32 ? 4 : 2;
}

/* Length of chunk k: exact in float32, padded to pairs and blocks in bfloat16. */
static int64_t chunk_length(const struct run *r, int64_t k)
{
    const int64_t n = least(r->chunks.length, r->K - k * r->chunks.length);
    return r->w->bf16 ? round_up(n, K_ROUND) : n;
}

/* Where the numbers of a (panel, chunk) lie in the weight. */
static struct ahead source_of(const struct run *r, int64_t panel, int64_t chunk)
{
    const ops_weight *w = r->w;
    const int64_t from = chunk * r->chunks.length, n = chunk_length(r, chunk);
    const size_t size = element(w);
    if (!r->back)
        return (struct ahead){.at = (const char *)w->data +
                                    (size_t)((panel * w->Kp + from) * PANEL) * size,
                              .bytes = (size_t)(n * PANEL) * size,
                              .count = 1};
    const int64_t ks = least(PANEL, w->Kp - panel * PANEL);
    return (struct ahead){.at = (const char *)w->data +
                                (size_t)((from / PANEL * w->Kp + panel * PANEL) * PANEL) * size,
                          .bytes = (size_t)(ks * PANEL) * size,
                          .step = (size_t)(w->Kp * PANEL) * size,
                          .count = (n + PANEL - 1) / PANEL};
}

/* A square at the edge: `ks` of its rows exist. */
static void turn_edge(const struct cpu *c, const ops_weight *w, const char *from, int64_t ks,
                      void *to)
{
    float square[PANEL * PANEL] = {0};
    if (w->store == STORE_PAIRS) {
        memcpy(square, from, (size_t)(ks * PANEL) * 2);
        c->k->transpose_pairs((const uint16_t *)(const void *)square, to);
        return;
    }
    if (w->store == STORE_BF16)
        c->k->from_bf16((const uint16_t *)(const void *)from, square, ks * PANEL);
    else
        memcpy(square, from, (size_t)(ks * PANEL) * 4);
    c->k->transpose(square, to);
}

/* The panel as a kernel wants it: in place, widened, or turned around. */
static const void *panel_of(const struct run *r, const struct ahead *s, void *scratch)
{
    const struct cpu *c = r->p->c;
    const ops_weight *w = r->w;
    if (!r->back) {
        if (w->store != STORE_BF16)
            return s->at;
        c->k->from_bf16((const uint16_t *)(const void *)s->at, scratch, (int64_t)(s->bytes / 2));
        return scratch;
    }
    const size_t square = (size_t)PANEL * PANEL * (w->bf16 ? 2 : 4);
    const bool whole = s->bytes == (size_t)PANEL * PANEL * element(w);
    for (int64_t i = 0; i < s->count; i++) {
        const char *from = s->at + (size_t)i * s->step;
        char *to = (char *)scratch + (size_t)i * square;
        if (!whole || w->store == STORE_BF16)
            turn_edge(c, w, from, (int64_t)(s->bytes / element(w)) / PANEL, to);
        else if (w->store == STORE_PAIRS)
            c->k->transpose_pairs((const uint16_t *)(const void *)from, (uint16_t *)(void *)to);
        else
            c->k->transpose((const float *)(const void *)from, (float *)(void *)to);
    }
    return scratch;
}

static void copy_out(const struct run *r, const float *from, int64_t row, int64_t rows, int64_t n,
                     int64_t cols, const float *base, bool add)
{
    const int64_t width = least(PANEL, least(cols, r->N - n));
    for (int64_t i = 0; i < rows; i++) {
        float *y = r->y + (row + i) * r->N + n;
        if (base && base != r->y)
            memcpy(y, base + (row + i) * r->N + n, (size_t)width * sizeof *y);
        if (add)
            r->p->c->k->add(y, from + i * PANEL, width);
        else
            memcpy(y, from + i * PANEL, (size_t)width * sizeof *y);
    }
}

/* A product that cannot run (the library is out of memory) leaves NaN for the caller's check. */
static void poison(float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = __builtin_nanf("");
}

/* Rows [row, row + rows) of one chunk times a panel through oneDNN, whose tiles are dense. Returns
 * them, in rows of PANEL. */
static float *dense_tile(const struct run *r, const struct tile_product *tile, const uint16_t *x,
                         const void *panel, int64_t rows, int thread)
{
    float *dst = r->p->buffers[thread].dst;
    if (!tiles_run(r->p->tiles, tile, thread, x, rows, panel, dst)) {
        if (!atomic_exchange(&r->p->failed, true))
            log_warning("a matrix product failed: out of memory in oneDNN?");
        __atomic_store_n(&r->p->c->ops.fault, SPT_E_DEVICE, __ATOMIC_RELAXED);
        poison(dst, rows * PANEL);
    }
    return dst;
}

/* How many lines a round of fetching takes so that the next panel is there in time, but not so
 * early that the rows of x have pushed it out of the cache again. */
static int64_t fetch_rate(const struct run *r, int64_t lines, int64_t K, int64_t left)
{
    const int64_t step = r->w->bf16 ? 2 * FETCH_K : FETCH_K;
    const int64_t blocks = (least(left, AHEAD_ROWS) + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const int64_t rounds = blocks * (K / step) * (r->w->bf16 ? 1 : r->p->c->k->passes);
    return left > AHEAD_ROWS + TILE ? 0 : lines / (rounds ? rounds : 1) + 1;
}

static int64_t panels_of(int64_t N)
{
    return (N + PANEL - 1) / PANEL;
}

/* The next panels (the second one of a gate), to be fetched by the owner of a task. */
struct next_panels {
    struct ahead at[2];
    int64_t lines[2];
};

static struct panel_job job_of(const struct task *t, int64_t row, int64_t rows)
{
    const struct run *r = t->r;
    const int64_t from = t->chunk * r->chunks.length, K = chunk_length(r, t->chunk);
    const size_t size = r->w->bf16 ? 2 : 4;
    const char *x = (const char *)r->x + (size_t)(r->w->bf16 ? from * r->rows : from) * size;
    const int64_t ldx = r->w->bf16 ? K : r->K, then = row + TILE < t->last ? row + TILE : t->first;
    return (struct panel_job){.x = x + (size_t)(row * ldx) * size,
                              .follow = x + (size_t)(then * ldx) * size,
                              .panel = t->panel[0],
                              .ldx = ldx,
                              .rows = rows,
                              .K = K,
                              .ldy = r->N,
                              .cols = least(PANEL, r->N - t->n)};
}

static void multiply(const struct task *t, struct panel_job *j, int64_t row, struct next_panels *np,
                     int half)
{
    const struct kernels *k = t->r->p->c->k;
    np->at[half].lines = fetch_rate(t->r, np->lines[half], j->K, t->last - row);
    j->ahead = &np->at[half];
    (t->r->w->bf16 ? k->gemm_bf16 : k->gemm)(j);
}

static void plain_tile(const struct task *t, int64_t row, int64_t rows, struct next_panels *np)
{
    const struct run *r = t->r;
    struct panel_job j = job_of(t, row, rows);
    j.y = r->y + row * r->N + t->n;
    j.base = r->add || t->chunk ? j.y : NULL;
    if (r->base && !t->chunk)
        j.base = r->base + row * r->N + t->n;
    multiply(t, &j, row, np, 0);
}

/* --- with an activation ------------------------------------------------------------------------
 * A tile of rows passes its panel (both panels of a gate) and is activated while it is in the
 * first-level cache. Saves walking over the widest activations of a model once more. */

static const float *drop_of(const struct ops_activate *a, int64_t row, int64_t *example)
{
    if (!a->drop)
        return NULL;
    while (*example < a->B - 1 && row >= a->off[*example + 1])
        ++*example;
    return a->drop + *example * a->F;
}

static void list_rows(struct ahead_list *l, const float *p, int64_t rows, int64_t stride,
                      int64_t cols)
{
    l->array[l->count].at = (const char *)p;
    l->array[l->count].step = (size_t)stride * sizeof *p;
    l->array[l->count].bytes = cols * (int64_t)sizeof *p;
    l->array[l->count++].rows = rows;
}

/* Where columns n .. n + cols of the rows of an activated tile go. */
static void list_places(struct ahead_list *l, const struct run *r, int64_t row, int64_t rows,
                        int64_t width, int64_t n, int64_t cols)
{
    if (!r->next.to) {
        list_rows(l, r->out + row * width + n, rows, width, cols);
    } else {
        l->array[l->count].at = (const char *)half_place(&r->next, row, n);
        l->array[l->count].step = (size_t)half_step(&r->next, n) * sizeof(uint16_t);
        l->array[l->count].bytes = cols * (int64_t)sizeof(uint16_t);
        l->array[l->count++].rows = rows;
    }
    l->places = l->count;
}

/* Vectors end with zeros, but operands may be padded by more. */
static void pad_half(uint16_t *to, int64_t cols)
{
    if (cols % K_ROUND)
        memset(to + cols, 0, (size_t)(round_up(cols, K_ROUND) - cols) * sizeof *to);
}

/* A tile of h: how far its rows and its gate are from each other. */
struct tile_of_h {
    float *at;
    int64_t stride, gate;
};

static struct tile_of_h tile_in_h(const struct task *t, int64_t row)
{
    const struct run *r = t->r;
    return (struct tile_of_h){r->y + row * r->N + t->n, r->N, r->act->F};
}

/* g of rows whose h (and gate) is there */
static void activate_rows(const struct task *t, int64_t row, int64_t rows, struct tile_of_h tile)
{
    const struct run *r = t->r;
    const struct ops_activate *a = r->act;
    const struct kernels *k = r->p->c->k;
    const int64_t n = t->n, F = a->F, cols = least(PANEL, F - n);
    uint16_t *half = r->next.to ? half_place(&r->next, row, n) : NULL;
    const int64_t step = half ? half_step(&r->next, n) : 0;
    int64_t example = 0;
    for (int64_t i = row; i < row + rows; i++, half += step, tile.at += tile.stride) {
        const float *h = tile.at, *gate = a->gated ? h + tile.gate : NULL;
        const float *drop = drop_of(a, i, &example);
        drop = drop ? drop + n : NULL;
        if (step) {
            k->activate_half(a->act, h, gate, drop, cols, half);
            pad_half(half, cols);
        } else {
            k->activate(a->act, h, gate, drop, cols, r->out + i * F + n);
        }
    }
}

/* Columns n .. n + 64 of h (and of its gate) and of g. */
static void activated_tile(const struct task *t, int64_t row, int64_t rows, int thread,
                           struct next_panels *np)
{
    const struct run *r = t->r;
    const struct ops_activate *a = r->act;
    const int64_t n = t->n, F = a->F, cols = least(PANEL, F - n);
    struct tile_of_h tile = tile_in_h(t, row);
    if (a->only_g) /* nobody reads it elsewhere */
        tile = (struct tile_of_h){r->p->buffers[thread].dst, 2 * PANEL, PANEL};
    struct ahead_list places = {.rows = 1};
    list_places(&places, r, row, rows, F, n, cols);
    for (int half = 0; half <= a->gated; half++) {
        struct panel_job j = job_of(t, row, rows);
        j.panel = t->panel[half];
        j.y = tile.at + half * tile.gate;
        j.ldy = tile.stride;
        j.cols = cols;
        j.list = &places;
        if (half < a->gated)
            j.follow = NULL; /* the same rows once more */
        multiply(t, &j, row, np, half);
    }
    activate_rows(t, row, rows, tile);
}

/* dh of rows from dg, in rows of PANEL */
static void activate_back_rows(const struct task *t, int64_t row, int64_t rows, const float *dg)
{
    const struct run *r = t->r;
    const struct ops_activate *a = r->act;
    const struct kernels *k = r->p->c->k;
    const int64_t n = t->n, F = a->F, width = a->gated ? 2 * F : F, cols = least(PANEL, F - n);
    uint16_t *half = r->next.to ? half_place(&r->next, row, n) : NULL;
    uint16_t *gate_half = half && a->gated ? half_place(&r->next, row, F + n) : half;
    const int64_t step = half ? half_step(&r->next, n) : 0;
    const int64_t gate_step = half && a->gated ? half_step(&r->next, F + n) : 0;
    int64_t example = 0;
    for (int64_t i = row; i < row + rows; i++, half += step, gate_half += gate_step, dg += PANEL) {
        const float *h = r->h + i * width + n, *gate = a->gated ? h + F : NULL;
        const float *drop = drop_of(a, i, &example);
        float *dh = r->out + i * width + n;
        drop = drop ? drop + n : NULL;
        if (step) {
            k->activate_bwd_half(a->act, h, gate, dg, drop, cols, half, gate_half);
            pad_half(half, cols); /* a gate has whole panels */
        } else {
            k->activate_bwd(a->act, h, gate, dg, drop, cols, dh, dh + F);
        }
    }
}

/* Columns n .. n + 64 of dg, which go into dh at once. */
static void activated_back_tile(const struct task *t, int64_t row, int64_t rows, int thread,
                                struct next_panels *np)
{
    const struct run *r = t->r;
    const struct ops_activate *a = r->act;
    const int64_t n = t->n, F = a->F, width = a->gated ? 2 * F : F, then = row + TILE;
    float *dg = r->p->buffers[thread].dst;
    struct panel_job j = job_of(t, row, rows);
    struct ahead_list list = {.rows = 1};
    for (int half = 0; half <= a->gated; half++)
        list_places(&list, r, row, rows, width, half * F + n, j.cols);
    for (int half = 0; half <= a->gated && then < t->last; half++)
        list_rows(&list, r->h + then * width + half * F + n, least(TILE, t->last - then), width,
                  j.cols);
    j.y = dg;
    j.ldy = PANEL;
    j.list = &list;
    multiply(t, &j, row, np, 0);
    activate_back_rows(t, row, rows, dg);
}

/* --- tasks -------------------------------------------------------------------------------------
 * Every thread has panels of its own. One that is done with them takes tiles of what the others
 * are at, because the machine rarely lets all of them run equally long. Who computes a tile
 * changes nothing about it. */

static void do_tile(const struct task *t, int64_t tile, int thread, struct next_panels *np)
{
    const int64_t row = t->first + tile * TILE, rows = least(TILE, t->last - row);
    if (!t->r->act)
        plain_tile(t, row, rows, np);
    else if (t->r->back)
        activated_back_tile(t, row, rows, thread, np);
    else
        activated_tile(t, row, rows, thread, np);
}

static void dense_tiles(const struct task *t, const struct tile_product *tile, int thread,
                        struct next_panels *np)
{
    const struct run *r = t->r;
    const struct ops_activate *a = r->act;
    const int64_t K = chunk_length(r, t->chunk), from = t->chunk * r->chunks.length;
    const int pairs = a && a->gated && !r->back;
    for (int64_t row = t->first, rows; row < t->last; row += rows) {
        const uint16_t *x = (const uint16_t *)r->x + from * r->rows + row * K;
        rows = tiles_take(tile, t->last - row);
        for (int half = 0; half <= pairs; half++) {
            np->at[half].lines = np->lines[half] * rows / (t->last - t->first) + 1;
            fetch_ahead(&np->at[half]);
            const float *dst = dense_tile(r, tile, x, t->panel[half], rows, thread);
            if (a && r->back)
                activate_back_rows(t, row, rows, dst);
            else
                copy_out(r, dst, row, rows, t->n + half * (a ? a->F : 0), a ? a->F - t->n : r->N,
                         t->chunk ? NULL : r->base, r->add || t->chunk);
        }
        if (a && !r->back)
            activate_rows(t, row, rows, tile_in_h(t, row));
    }
}

enum { IDLE_TURNS = 1000 };

static void do_task(const struct task *t, int thread, struct next_panels *np)
{
    const struct run *r = t->r;
    const int64_t tiles = (t->last - t->first + TILE - 1) / TILE;
    const struct tile_product *tile = NULL;
    for (int half = 0; half < 2; half++)
        np->lines[half] = ahead_lines(&np->at[half]);
    if (r->w->bf16 && r->p->tiles) { /* exists since preparation */
        (void)tiles_find(r->p->tiles, chunk_length(r, t->chunk), true, &tile, NULL);
        dense_tiles(t, tile, thread, np);
        return;
    }
    if (!r->shared || tiles < 2) {
        for (int64_t i = 0; i < tiles; i++)
            do_tile(t, i, thread, np);
        return;
    }
    struct shared_task *s = &r->p->shared[thread];
    s->task = *t;
    s->tiles = tiles;
    atomic_store_explicit(&s->left, tiles, memory_order_release);
    for (int64_t left; (left = atomic_fetch_sub(&s->left, 1)) > 0;)
        do_tile(t, tiles - left, thread, np);
    for (int i = 0; atomic_load(&s->busy); i++)
        pool_relax(i < IDLE_TURNS ? i : IDLE_TURNS);
}

/* One tile of what another thread is at. */
static bool help(struct products *p, int other, int thread)
{
    struct shared_task *s = &p->shared[other];
    bool done = false;
    if (atomic_load_explicit(&s->left, memory_order_relaxed) <= 0)
        return false;
    atomic_fetch_add(&s->busy, 1);
    const int64_t left = atomic_fetch_sub(&s->left, 1);
    if (left > 0) {
        struct next_panels none = {.lines = {0}};
        do_tile(&s->task, s->tiles - left, thread, &none);
        done = true;
    }
    atomic_fetch_sub(&s->busy, 1);
    return done;
}

static void help_others(struct products *p, int thread)
{
    for (int idle = 0; idle < IDLE_TURNS && atomic_load(&p->working) > 0; idle++) {
        for (int i = 1; i < p->c->threads; i++)
            if (help(p, (thread + i) % p->c->threads, thread))
                idle = 0;
        pool_relax(0);
    }
}

static void run_activated(const struct run *r, int64_t first, int64_t last, int64_t p0, int64_t p1,
                          int thread)
{
    const bool pair = r->act->gated && !r->back;
    const int64_t gate = r->act->F / PANEL; /* its first panel */
    struct ahead now[2] = {source_of(r, p0, 0)};
    if (pair)
        now[1] = source_of(r, gate + p0, 0);
    for (int64_t p = p0; p < p1; p++) {
        char *scratch = r->p->buffers[thread].panel;
        struct task t = {.r = r, .first = first, .last = last, .n = p * PANEL};
        struct next_panels np = {.lines = {0}};
        for (int half = 0; half <= pair; half++) {
            t.panel[half] = panel_of(r, &now[half], scratch + (size_t)half * panel_bytes);
            if (p + 1 < p1)
                np.at[half] = source_of(r, p + 1 + half * gate, 0);
            now[half] = np.at[half]; /* fetching uses up the other one */
        }
        do_task(&t, thread, &np);
    }
}

/* Rows [first, last) times panels [p0, p1), chunk after chunk; `then` is what comes afterwards. */
static void run_panels(const struct run *r, int64_t first, int64_t last, int64_t p0, int64_t p1,
                       int thread, struct ahead then)
{
    void *scratch = r->p->buffers[thread].panel;
    struct ahead now = source_of(r, p0, 0);
    for (int64_t chunk = 0, panel = p0; chunk < r->chunks.count;) {
        const int64_t at = panel, of = chunk;
        if (++panel == p1) {
            panel = p0;
            chunk++;
        }
        struct next_panels np = {.lines = {0}};
        np.at[0] = chunk < r->chunks.count ? source_of(r, panel, chunk) : then;
        const struct task t = {.r = r,
                               .panel = {panel_of(r, &now, scratch)},
                               .chunk = of,
                               .first = first,
                               .last = last,
                               .n = at * PANEL};
        now = np.at[0]; /* fetching uses up the other one */
        do_task(&t, thread, &np);
    }
}

/* Panels that are shared out: a gate's go with those that it gates. */
static int64_t units_of_panels(const struct run *r)
{
    return panels_of(r->act ? r->act->F : r->N);
}

static void run_part(void *ctx, int64_t part, int64_t part_end, int thread)
{
    const struct run *r = ctx;
    const int64_t panels = units_of_panels(r), units = (r->rows + 5) / 6;
    for (; part < part_end; part++) {
        const int64_t rp = part / r->panel_parts, pp = part % r->panel_parts;
        const int64_t first = units * rp / r->row_parts * 6;
        const int64_t last = least(units * (rp + 1) / r->row_parts * 6, r->rows);
        const int64_t p0 = panels * pp / r->panel_parts, p1 = panels * (pp + 1) / r->panel_parts;
        if (first >= last || p0 >= p1)
            continue;
        if (r->act)
            run_activated(r, first, last, p0, p1, thread);
        else
            run_panels(r, first, last, p0, p1, thread, (struct ahead){0});
    }
    if (r->shared) {
        atomic_fetch_sub(&r->p->working, 1);
        help_others(r->p, thread);
    }
}

/* Splits the threads into row parts x panel parts so that the largest share is smallest; at equal
 * shares more panel parts, because then each panel is read (and turned) by one thread only. */
static void split(struct run *r, int threads)
{
    const int64_t panels = units_of_panels(r), units = (r->rows + 5) / 6;
    const int64_t build = r->back || r->w->store == STORE_BF16 ? 2 : 1; /* in units of 6 rows */
    int64_t best = INT64_MAX;
    for (int pp = 1; pp <= threads; pp++) {
        if (threads % pp)
            continue;
        const int64_t rp = threads / pp;
        const int64_t cost = (panels + pp - 1) / pp * ((units + rp - 1) / rp + build);
        if (cost <= best) {
            best = cost;
            r->panel_parts = pp;
            r->row_parts = (int)rp;
        }
    }
}

/* --- rows as bfloat16 --------------------------------------------------------------------------
 */

struct copy_job {
    const struct run *r;
    const float *x;
    uint16_t *to;
};

static void copy_rows(void *ctx, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct copy_job *j = ctx;
    const struct run *r = j->r;
    for (int64_t chunk = 0; chunk < r->chunks.count; chunk++) {
        const int64_t from = chunk * r->chunks.length, K = chunk_length(r, chunk);
        const int64_t n = least(K, r->K - from);
        for (int64_t i = first; i < last; i++) {
            uint16_t *to = j->to + from * r->rows + i * K;
            r->p->c->k->to_half(j->x + i * r->K + from, to, n);
            memset(to + n, 0, (size_t)(K - n) * sizeof *to);
        }
    }
}

/* Few rows and a small matrix: not worth waking the other threads. */
enum { SMALL_PRODUCT = 1 << 18 };

static struct run run_of(struct cpu *c, const ops_weight *w, bool back)
{
    struct run r = {.p = c->products,
                    .w = w,
                    .back = back,
                    .K = back ? w->N : w->K,
                    .N = back ? w->K : w->N};
    r.chunks = chunks_of(r.K, w->bf16);
    return r;
}

/* What the kernels read: x, or its rows as bfloat16. */
static const void *operand(struct run *r, const float *x)
{
    struct cpu *c = r->p->c;
    if (!r->w->bf16)
        return x;
    struct copy_job j = {.r = r, .x = x, .to = c->products->rows};
    if (r->rows * r->K < 16384)
        copy_rows(&j, 0, r->rows, 0);
    else
        pool_run(c->pool, r->rows, copy_rows, &j);
    return c->products->rows;
}

static bool is_small(const struct run *r)
{
    return (double)r->rows * (double)r->K * (double)r->N < SMALL_PRODUCT;
}

/* Everything of r is at its place. */
static void run_rows(struct run *r)
{
    struct cpu *c = r->p->c;
    const bool small = is_small(r);
    split(r, small ? 1 : c->threads);
    r->shared = !small && c->threads > 1;
    atomic_store(&c->products->working, r->shared ? c->threads : 0);
    if (small)
        run_part(r, 0, 1, 0);
    else
        pool_run(c->pool, c->threads, run_part, r);
}

/* Rows from x on. */
static void run_block(struct run *r, const float *x)
{
    r->x = operand(r, x);
    run_rows(r);
}

static int64_t rows_at_once(const ops_weight *w, int64_t rows)
{
    return w->bf16 ? ROW_BLOCK : rows;
}

static void run_product(struct cpu *c, const ops_weight *w, bool back, const float *x,
                        const float *base, float *y, int64_t rows, bool add)
{
    struct run r = run_of(c, w, back);
    const int64_t block = rows_at_once(w, rows);
    r.add = add;
    for (int64_t at = 0; at < rows; at += block) {
        r.rows = least(block, rows - at);
        r.y = y + at * r.N;
        r.base = base ? base + at * r.N : NULL;
        run_block(&r, x + at * r.K);
    }
}

struct each_run {
    struct run r; /* of all rows together */
    ops_weight *const *w;
    int64_t rows; /* of each */
};

static void each_part(void *ctx, int64_t first, int64_t last, int thread)
{
    const struct each_run *e = ctx;
    struct run r = e->r, then = e->r;
    const int64_t panels = panels_of(r.N);
    for (int64_t i = first; i < last; i++) {
        struct ahead after = {0};
        r.w = e->w[i];
        if (i + 1 < last) {
            then.w = e->w[i + 1];
            after = source_of(&then, 0, 0);
        }
        run_panels(&r, i * e->rows, (i + 1) * e->rows, 0, panels, thread, after);
    }
}

void cpu_matmul_each(ops *o, ops_weight *const *w, int64_t n, bool turned, const void *x, void *y,
                     int64_t rows)
{
    struct cpu *c = (struct cpu *)o;
    struct each_run e = {.r = run_of(c, w[0], turned), .w = w, .rows = rows};
    const int64_t block = rows_at_once(w[0], n * rows) / (rows ? rows : 1);
    if (rows <= 0)
        return;
    if (block < 1) { /* more rows than are copied at a time */
        for (int64_t i = 0; i < n; i++)
            run_product(c, w[i], turned, (const float *)x + i * rows * e.r.K, NULL,
                        (float *)y + i * rows * e.r.N, rows, false);
        return;
    }
    for (int64_t at = 0; at < n; at += block) {
        const int64_t count = least(block, n - at);
        e.w = w + at;
        e.r.rows = count * rows;
        e.r.y = (float *)y + at * rows * e.r.N;
        e.r.x = operand(&e.r, (const float *)x + at * rows * e.r.K);
        if (is_small(&e.r))
            each_part(&e, 0, count, 0);
        else
            pool_run(c->pool, count, each_part, &e);
    }
}

/* --- feed-forward ------------------------------------------------------------------------------ */

/* Sums in one chunk, whole panels in front of the gate; the copies of bfloat16 rows in one block. */
static bool goes_with_activation(const struct run *r, const struct ops_activate *a, int64_t rows)
{
    return r->chunks.count == 1 && rows > 0 && rows <= rows_at_once(r->w, rows) &&
           (r->back || !a->gated || a->F % PANEL == 0);
}

/* What is activated goes into the product `then` without ever being float32 in memory. */
static void keep_half(struct run *r, const struct run *then)
{
    struct products *p = r->p;
    const struct ops_activate *a = r->act;
    if (r->w->bf16 && then->w->bf16 && (!a->gated || a->F % PANEL == 0))
        r->next = (struct half_rows){.to = (uint16_t *)p->rows + p->rows_bytes / 4,
                                     .rows = r->rows,
                                     .K = then->K,
                                     .chunks = then->chunks};
}

/* The product behind `r`, whose operands are at x if r has not kept them. */
static void run_behind(const struct run *r, struct run *then, const void *x, const void *base,
                       void *y)
{
    if (!r->next.to) {
        run_product(r->p->c, then->w, then->back, x, base, y, r->rows, base != NULL);
        return;
    }
    then->rows = r->rows;
    then->x = r->next.to;
    then->y = y;
    then->base = base;
    then->add = base != NULL;
    run_rows(then);
}

void cpu_feed(ops *o, const struct ops_feed *f, const void *x, int64_t rows, void *h, void *g,
              const void *base, void *y)
{
    struct cpu *c = (struct cpu *)o;
    const struct ops_activate *a = &f->act;
    struct run r = run_of(c, f->wi, false), then = run_of(c, f->wo, false);
    r.rows = rows;
    if (goes_with_activation(&r, a, rows)) {
        r.act = a;
        r.y = h;
        r.out = g;
        keep_half(&r, &then);
        run_block(&r, x);
    } else {
        cpu_matmul(o, f->wi, x, h, rows, false);
        cpu_activate(o, a->act, a->gated, h, rows, a->F, a->off, a->B, a->drop, g);
    }
    run_behind(&r, &then, g, base, y);
}

void cpu_feed_bwd(ops *o, const struct ops_feed *f, const void *dy, int64_t rows, const void *h,
                  void *dg, void *dh, void *dx)
{
    struct cpu *c = (struct cpu *)o;
    const struct ops_activate *a = &f->act;
    struct run r = run_of(c, f->wo, true), then = run_of(c, f->wi, true);
    r.rows = rows;
    if (goes_with_activation(&r, a, rows) && (rows > FEW_ROWS || f->wo->bf16)) {
        r.act = a;
        r.h = h;
        r.out = dh;
        keep_half(&r, &then);
        run_block(&r, dy);
    } else {
        cpu_matmul_t(o, f->wo, dy, dg, rows, false);
        cpu_activate_bwd(o, a->act, a->gated, h, dg, rows, a->F, a->off, a->B, a->drop, dh);
    }
    if (r.next.to)
        run_behind(&r, &then, NULL, NULL, dx);
    else
        cpu_matmul_t(o, f->wi, dh, dx, rows, false);
}

/* --- backward of few rows ------------------------------------------------------------------------
 * Turning a weight around would cost more than its product with a few rows (the decoder, the output
 * head). Instead the transposed result is computed, dx^T [K, 64 rows] += panel [K, 64] dy^T [64,
 * 64 rows], with the panels as they lie; threads own rows of it. Every element has the same chain
 * over n, cut into the same chunks, as in run_part, so the bits are the same. */

struct few_run {
    struct cpu *c;
    const ops_weight *w;
    const float *dy;
    float *dx;
    int64_t rows;
    bool add;
};

/* dy^T of panel p: [64, 64], columns behind the rows zero. */
static int64_t turn_rows(const struct few_run *r, int64_t p, float *turned)
{
    float lines[PANEL * PANEL];
    const int64_t N = r->w->N, n = least(PANEL, N - p * PANEL);
    for (int64_t i = 0; i < r->rows; i++)
        memcpy(lines + i * PANEL, r->dy + i * N + p * PANEL, (size_t)n * sizeof *lines);
    memset(lines + r->rows * PANEL, 0, (size_t)((PANEL - r->rows) * PANEL) * sizeof *lines);
    r->c->k->transpose(lines, turned);
    return n;
}

/* dx (+)= sums of a chunk, which are turned around */
static void few_out(const struct few_run *r, const float *acc, int64_t k0, int64_t k1, bool add)
{
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t k = k0; k < k1; k++) {
            float *to = r->dx + i * r->w->K + k;
            const float sum = acc[(k - k0) * PANEL + i];
            *to = add ? *to + sum : sum;
        }
}

static void few_part(void *ctx, int64_t first, int64_t last, int thread)
{
    const struct few_run *r = ctx;
    const ops_weight *w = r->w;
    const struct chunks chunks = chunks_of(w->N, false);
    const int64_t k0 = first * 6, k1 = least(last * 6, w->K), step = chunks.length / PANEL;
    float turned[PANEL * PANEL], *acc = r->c->products->buffers[thread].few;
    float *widened = acc + (k1 - k0) * PANEL;
    for (int64_t p = 0; p < w->panels; p++) {
        if (p % step == 0)
            memset(acc, 0, (size_t)((k1 - k0) * PANEL) * sizeof *acc);
        const int64_t n = turn_rows(r, p, turned), at = (p * w->Kp + k0) * PANEL;
        const float *panel = (const float *)w->data + at;
        if (w->store == STORE_BF16) {
            r->c->k->from_bf16((const uint16_t *)w->data + at, widened, (k1 - k0) * PANEL);
            panel = widened;
        }
        r->c->k->gemm_add(panel, PANEL, k1 - k0, n, turned, r->rows, acc, PANEL);
        if (p % step == step - 1 || p == w->panels - 1)
            few_out(r, acc, k0, k1, r->add || p >= step);
    }
}

void cpu_matmul(ops *o, const ops_weight *w, const void *x, void *y, int64_t rows, bool add)
{
    run_product((struct cpu *)o, w, false, x, NULL, y, rows, add);
}

void cpu_matmul_sum(ops *o, const ops_weight *w, const void *x, const void *base, void *y,
                    int64_t rows)
{
    run_product((struct cpu *)o, w, false, x, base, y, rows, true);
}

void cpu_matmul_t(ops *o, const ops_weight *w, const void *dy, void *dx, int64_t rows, bool add)
{
    struct cpu *c = (struct cpu *)o;
    if (rows > FEW_ROWS || w->bf16) {
        run_product(c, w, true, dy, NULL, dx, rows, add);
        return;
    }
    struct few_run r = {.c = c, .w = w, .dy = dy, .dx = dx, .rows = rows, .add = add};
    if ((double)rows * (double)w->K * (double)w->N < SMALL_PRODUCT)
        few_part(&r, 0, (w->K + 5) / 6, 0);
    else
        pool_run(c->pool, (w->K + 5) / 6, few_part, &r);
}

/* --- peak --------------------------------------------------------------------------------------
 */

enum { PEAK_K = 768, PEAK_ROWS = 64 };

struct peak_run {
    struct cpu *c;
    struct tiles *tiles;
    const struct tile_product *tile; /* NULL: our kernel */
    bool bf16;
    const void *x, *panel;
};

static void peak_part(void *ctx, int64_t first, int64_t last, int thread)
{
    const struct peak_run *r = ctx;
    float *dst = r->c->products->buffers[thread].dst;
    (void)first, (void)last;
    struct ahead none = {0};
    const struct panel_job j = {.x = r->x,
                                .panel = r->panel,
                                .ldx = PEAK_K,
                                .rows = PEAK_ROWS,
                                .K = PEAK_K,
                                .y = dst,
                                .ldy = PANEL,
                                .cols = PANEL,
                                .ahead = &none};
    for (int64_t i = 0; i < 200; i++)
        if (r->tile)
            (void)tiles_run(r->tiles, r->tile, thread, r->x, PEAK_ROWS, r->panel, dst);
        else
            (r->bf16 ? r->c->k->gemm_bf16 : r->c->k->gemm)(&j);
}

static double peak_of(struct peak_run *r, double seconds)
{
    double best = 0;
    const int64_t start = os_monotonic_ns();
    while (best <= 0 || (double)(os_monotonic_ns() - start) < seconds * 1e9) {
        const int64_t from = os_monotonic_ns();
        pool_run(r->c->pool, r->c->threads, peak_part, r);
        const double rate = 2.0 * PEAK_K * PEAK_ROWS * PANEL * 200 * r->c->threads /
                            ((double)(os_monotonic_ns() - from) * 1e-9);
        best = rate > best ? rate : best;
    }
    return best;
}

/* oneDNN's kernel is asked, too, so that "percent of the peak" is not our own opinion; not where it
 * would run on wider registers than ours. */
double products_peak(struct cpu *c, bool bf16, double seconds)
{
    enum { NUMBERS = PEAK_K * (PEAK_ROWS + PANEL) };
    struct peak_run r = {.c = c, .bf16 = bf16};
    if (bf16 && !c->own_bf16)
        return 0;
    float *x = mem_zalloc(NUMBERS, sizeof *x);
    if (!x)
        return 0;
    for (int i = 0; i < NUMBERS; i++)
        if (bf16)
            ((uint16_t *)(void *)x)[i] = f32_to_bf16((float)(i % 61 - 30) / 32);
        else
            x[i] = (float)(i % 61 - 30) / 32;
    r.x = x;
    r.panel =
        bf16 ? (const void *)((uint16_t *)(void *)x + PEAK_K * PEAK_ROWS) : x + PEAK_K * PEAK_ROWS;
    double best = peak_of(&r, seconds / 2);
    if (!c->lowered && !tiles_new(c->threads, &r.tiles, NULL) &&
        !tiles_find(r.tiles, PEAK_K, bf16, &r.tile, NULL)) {
        const double other = peak_of(&r, seconds / 2);
        best = other > best ? other : best;
    }
    tiles_free(r.tiles);
    mem_free(x);
    return best;
}
