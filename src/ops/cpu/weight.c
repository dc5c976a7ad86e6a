/* Prepared weights: packing into panels, and embedding tables. */
#include <string.h>

#include "ops/cpu/cpu_internal.h"
#include "os/os.h"

static size_t store_size(enum weight_store s)
{
    return s == STORE_F32 ? 4 : 2;
}

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
        const int64_t K = part_K(m), N = part_N(m), ld = ops_matrix_ld(m);
        const int64_t first = n > at ? n : at, last = least(n + PANEL, at + N);
        const int64_t ks = least(PANEL, K - k);
        if (first < last && !m->transposed) {
            for (int64_t r = 0; r < ks; r++)
                cpu_read_f32(c, &m->view, (k + r) * ld + first - at, last - first,
                             block + r * PANEL + first - n);
        } else if (first < last) {
            memset(lines, 0, sizeof lines);
            for (int64_t j = first; j < last; j++)
                cpu_read_f32(c, &m->view, (j - at) * ld + k, ks, lines + (j - n) * PANEL);
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

/* Large pages, where the system gives them: a product streams through megabytes of panels, and
 * with small pages every 4 KB costs a walk of the page table. */
static spt_status weight_room(ops_weight *w, spt_err *err)
{
    w->data = mem_alloc_aligned(w->bytes, 1);
    if (!w->data)
        return err_nomem(err, w->bytes);
    (void)os_huge(w->data, w->bytes);
    return SPT_OK;
}

/* Everything but the data. */
static spt_status describe_weight(const struct cpu *c, const struct ops_matrix *parts, int nparts,
                                  bool head, ops_weight *w, spt_err *err)
{
    struct tensor_shape all;
    TRY(whole_shape(parts, nparts, &all, err));
    w->K = all.dim[0], w->N = all.dim[1];
    w->Kp = round_up(w->K, K_ROUND);
    w->panels = round_up(w->N, PANEL) / PANEL;
    const bool half = c->compute == OPS_BFLOAT16;
    w->bf16 = half && !head && (c->own_bf16 || c->tiles);
    w->store = w->bf16                                      ? STORE_PAIRS
               : half && (!head || all_bf16(parts, nparts)) ? STORE_BF16
                                                            : STORE_F32;
    if (!mul_size((size_t)(w->panels * PANEL), (size_t)w->Kp, &w->bytes) ||
        !mul_size(w->bytes, store_size(w->store), &w->bytes))
        return err_set(err, SPT_E_FORMAT, "matrices too large");
    return SPT_OK;
}

static spt_status describe_table(const struct ops_matrix *m, ops_weight *w, spt_err *err)
{
    struct tensor_shape all;
    TRY(whole_shape(m, 1, &all, err));
    if (m->transposed || ops_matrix_ld(m) != all.dim[1])
        return err_set(err, SPT_E_INTERNAL, "a transposed or narrowed embedding table");
    w->K = all.dim[0], w->N = all.dim[1];
    w->store = m->view.dtype == DT_BF16 ? STORE_BF16 : STORE_F32;
    w->bytes = (size_t)w->K * (size_t)w->N * store_size(w->store); /* checked by whole_shape */
    return SPT_OK;
}

spt_status cpu_weight_room(struct cpu *c, const struct ops_matrix *parts, int nparts, unsigned uses,
                           bool head, bool table, size_t *bytes, spt_err *err)
{
    ops_weight w = {0};
    if (table)
        TRY(describe_table(parts, &w, err));
    else
        TRY(describe_weight(c, parts, nparts, head, &w, err));
    *bytes = w.bytes;
    return table ? SPT_OK : products_prepare(c, &w, uses, err);
}

spt_status cpu_weight_new(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                          bool head, ops_weight **out, spt_err *err)
{
    struct cpu *c = (struct cpu *)o;
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    spt_status st = describe_weight(c, parts, nparts, head, w, err);
    if (!st)
        st = weight_room(w, err);
    if (!st)
        st = products_prepare(c, w, uses, err);
    if (st) {
        cpu_weight_free(o, w);
        return st;
    }
    struct pack_job job = {.c = c, .parts = parts, .nparts = nparts, .w = w};
    pool_run(c->pool, w->panels, pack_panels, &job);
    *out = w;
    return SPT_OK;
}

/* --- tables: a weight of which only data, K (rows) and N are used
 * --------------------------------- */

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
    ops_weight *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    spt_status st = describe_table(m, w, err);
    if (!st)
        st = weight_room(w, err);
    if (st) {
        cpu_weight_free(o, w);
        return st;
    }
    struct pack_job job = {.c = c, .parts = m, .nparts = 1, .w = w};
    pool_run(c->pool, w->K, copy_table, &job);
    *out = w;
    return SPT_OK;
}
