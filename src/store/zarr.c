/* The chunks of a zarr v2 array.
 *
 * An array of shape [s0, s1, ...] is cut into a grid of chunks of one fixed shape; the chunk at
 * grid position (g0, g1, ...) is the file "g0.g1..." (or g0/g1/...). Every file holds a whole chunk,
 * also at the edges, where what lies beyond the array is padding: reading copies only the inside,
 * writing fills the outside with zeros. An absent file means "all fill value", which is how sparse
 * optimiser slots are stored, and how a damaged copy of a checkpoint looks; so for weights an absent
 * file is an error (rulings 18).
 *
 * Memory: one chunk at a time. A gzip'd chunk is refused before anything is allocated when deflate
 * cannot hold that much in so few bytes.
 *
 * Reference: zarr v2 storage specification; spec/t5x.md 7.4. */
#include "store/zarr.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/gzip.h"

enum { MAX_PATH = 65536, GZIP_LEVEL = 1 };

/* A place in the grid and what follows from it. */
struct place {
    int64_t at[TENSOR_MAX_RANK];    /* grid position */
    int64_t first[TENSOR_MAX_RANK]; /* first element, per dimension */
    int64_t len[TENSOR_MAX_RANK];   /* elements inside the array */
    bool whole;                     /* nothing of the chunk is padding */
};

static void place_set(struct place *p, const zarr_array *a)
{
    p->whole = true;
    for (int i = 0; i < a->shape.rank; i++) {
        p->first[i] = p->at[i] * a->chunk.dim[i];
        const int64_t rest = a->shape.dim[i] - p->first[i];
        p->len[i] = rest < a->chunk.dim[i] ? rest : a->chunk.dim[i];
        p->whole &= p->len[i] == a->chunk.dim[i];
    }
}

/* Next grid position in row-major order. */
static void place_next(struct place *p, const zarr_array *a)
{
    for (int i = a->shape.rank - 1; i >= 0; i--) {
        if ((++p->at[i]) * a->chunk.dim[i] < a->shape.dim[i])
            return;
        p->at[i] = 0;
    }
}

static void chunk_name(buf *out, const zarr_array *a, const struct place *p)
{
    buf_clear(out);
    if (a->shape.rank == 0)
        buf_addc(out, '0');
    for (int i = 0; i < a->shape.rank; i++)
        buf_addf(out, "%s%lld", i == 0 ? "" : a->slash ? "/" : ".", (long long)p->at[i]);
}

/* Calls for each run of elements that lies contiguously in both the array and the chunk. */
typedef void (*run_fn)(unsigned char *array, unsigned char *chunk, size_t bytes, const void *ctx);

static void each_run(const zarr_array *a, const struct place *p, unsigned char *array,
                     unsigned char *chunk, run_fn fn, const void *ctx)
{
    const int rank = a->shape.rank;
    const size_t es = dtype_size(a->dtype);
    size_t in_array[TENSOR_MAX_RANK], in_chunk[TENSOR_MAX_RANK]; /* strides in bytes */
    size_t sa = es, sc = es;
    for (int i = rank - 1; i >= 0; i--) {
        in_array[i] = sa;
        in_chunk[i] = sc;
        sa *= (size_t)a->shape.dim[i];
        sc *= (size_t)a->chunk.dim[i];
    }
    int64_t k[TENSOR_MAX_RANK] = {0};
    const size_t run = rank ? (size_t)p->len[rank - 1] * es : es;
    for (;;) {
        size_t oa = 0, oc = 0;
        for (int i = 0; i < rank; i++) {
            oa += (size_t)(p->first[i] + k[i]) * in_array[i];
            oc += (size_t)k[i] * in_chunk[i];
        }
        fn(array + oa, chunk ? chunk + oc : NULL, run, ctx);
        int i = rank - 2;
        for (; i >= 0 && ++k[i] == p->len[i]; i--)
            k[i] = 0;
        if (i < 0)
            return;
    }
}

static void copy_out(unsigned char *array, unsigned char *chunk, size_t bytes, const void *ctx)
{
    (void)ctx;
    memcpy(array, chunk, bytes);
}

static void copy_in(unsigned char *array, unsigned char *chunk, size_t bytes, const void *ctx)
{
    (void)ctx;
    memcpy(chunk, array, bytes);
}

static void fill_out(unsigned char *array, unsigned char *chunk, size_t bytes, const void *ctx)
{
    (void)chunk;
    const zarr_array *a = ctx;
    const size_t es = dtype_size(a->dtype);
    for (size_t i = 0; i < bytes; i += es)
        memcpy(array + i, a->fill, es);
}

/* Is the chunk one contiguous piece of the array? Then it is decoded in place. */
static unsigned char *contiguous(const zarr_array *a, const struct place *p, unsigned char *array)
{
    size_t offset = 0, stride = dtype_size(a->dtype);
    bool inner_whole = true; /* all dimensions further inside are covered completely */
    for (int i = a->shape.rank - 1; i >= 0; i--) {
        if (!inner_whole && a->chunk.dim[i] != 1)
            return NULL;
        inner_whole &= a->chunk.dim[i] == a->shape.dim[i];
        offset += (size_t)p->first[i] * stride;
        stride *= (size_t)a->shape.dim[i];
    }
    return p->whole ? array + offset : NULL;
}

static spt_status decode(const zarr_array *a, const fs_mapping *m, unsigned char *out, spt_err *err)
{
    if (a->codec == ZARR_RAW) {
        memcpy(out, m->bytes, a->chunk_bytes);
        return SPT_OK;
    }
    return gzip_decode_exact(m->bytes, m->size, out, a->chunk_bytes, err);
}

static spt_status check_size(const zarr_array *a, const fs_mapping *m, spt_err *err)
{
    if (a->codec == ZARR_RAW && m->size != a->chunk_bytes)
        return err_set(err, SPT_E_FORMAT, "%zu bytes, a chunk has %zu", m->size, a->chunk_bytes);
    if (a->codec != ZARR_RAW && !deflate_may_hold(m->size, a->chunk_bytes))
        return err_set(err, SPT_E_FORMAT, "%zu compressed bytes cannot hold a chunk of %zu bytes",
                       m->size, a->chunk_bytes);
    if (a->codec == ZARR_GZIP && !gzip_detect(m->bytes, m->size))
        return err_set(err, SPT_E_FORMAT, "not gzip data");
    return SPT_OK;
}

struct reading {
    const char *dir;
    const zarr_array *a;
    unsigned char *out;
    unsigned char *scratch; /* one chunk, when it cannot be decoded in place */
    buf name, path;
    uint64_t absent;
    char first_absent[64];
};

static spt_status read_chunk(struct reading *r, const struct place *p, const fs_mapping *m,
                             spt_err *err)
{
    TRY(check_size(r->a, m, err));
    unsigned char *in_place = contiguous(r->a, p, r->out);
    if (in_place)
        return decode(r->a, m, in_place, err);
    if (!r->scratch && !(r->scratch = mem_alloc(r->a->chunk_bytes, 1)))
        return err_nomem(err, r->a->chunk_bytes);
    TRY(decode(r->a, m, r->scratch, err));
    each_run(r->a, p, r->out, r->scratch, copy_out, NULL);
    return SPT_OK;
}

static spt_status read_place(struct reading *r, const struct place *p, spt_err *err)
{
    chunk_name(&r->name, r->a, p);
    TRY(buf_status(&r->name, "chunk name", err));
    TRY(path_join(&r->path, r->dir, buf_str(&r->name), err));
    fs_mapping m = {0};
    spt_status st = fs_map(buf_str(&r->path), &m, err);
    if (st == SPT_E_NOTFOUND) {
        if (!r->absent++)
            snprintf(r->first_absent, sizeof r->first_absent, "%s", buf_str(&r->name));
        each_run(r->a, p, r->out, NULL, fill_out, r->a);
        return SPT_OK;
    }
    if (!st) {
        st = read_chunk(r, p, &m, err);
        if (st)
            st = err_wrap(err, st, "%s", buf_str(&r->path));
        fs_unmap(&m);
    }
    return st;
}

static spt_status check_absent(const struct reading *r, bool last, enum zarr_missing missing,
                               spt_err *err)
{
    if (!r->absent || missing == ZARR_MISSING_FILL)
        return SPT_OK;
    const bool all = r->absent == r->a->chunk_count;
    if (r->a->fill_explicit && !last)
        return SPT_OK; /* perhaps all of them */
    if (r->a->fill_explicit && all) {
        log_warning("%s: no chunk file is there; using its fill value for the whole array", r->dir);
        return SPT_OK;
    }
    return err_set(err, SPT_E_FORMAT, "%s: chunk file %s is missing (%llu of %llu so far)", r->dir,
                   r->first_absent, (unsigned long long)r->absent,
                   (unsigned long long)r->a->chunk_count);
}

spt_status zarr_chunk_paths(const char *dir, const zarr_array *a, fs_names *out, spt_err *err)
{
    struct place p = {0};
    buf name, path;
    buf_init(&name, MAX_PATH);
    buf_init(&path, MAX_PATH);
    spt_status st = SPT_OK;
    for (uint64_t i = 0; !st && i < a->chunk_count; i++) {
        chunk_name(&name, a, &p);
        st = buf_status(&name, "chunk name", err);
        if (!st)
            st = path_join(&path, dir, buf_str(&name), err);
        if (!st)
            st = fs_names_add(out, buf_str(&path), path.len, err);
        place_next(&p, a);
    }
    buf_release(&name);
    buf_release(&path);
    return st;
}

/* Chunks that lie far away come in parallel. */
static spt_status expect_chunks(const char *dir, const zarr_array *a, spt_err *err)
{
    fs_names names = {0};
    if (a->chunk_count < 2 || fs_is_near(dir))
        return SPT_OK;
    spt_status st = zarr_chunk_paths(dir, a, &names, err);
    if (!st)
        st = fs_expect((const char *const *)names.name, names.count, err);
    fs_names_free(&names);
    return st;
}

spt_status zarr_read(const char *dir, const zarr_array *a, enum zarr_missing missing, void *out,
                     spt_err *err)
{
    struct reading r = {.dir = dir, .a = a, .out = out};
    struct place p = {0};
    TRY(expect_chunks(dir, a, err));
    buf_init(&r.name, MAX_PATH);
    buf_init(&r.path, MAX_PATH);
    spt_status st = SPT_OK;
    for (uint64_t i = 0; !st && i < a->chunk_count; i++) {
        place_set(&p, a);
        st = read_place(&r, &p, err);
        if (!st)
            st = check_absent(&r, i + 1 == a->chunk_count, missing, err);
        place_next(&p, a);
    }
    mem_free(r.scratch);
    buf_release(&r.name);
    buf_release(&r.path);
    return st;
}

/* Arrays of fill values may be this large without a single file. */
#define FILL_MAX ((size_t)4 << 30)

spt_status zarr_check_size(const char *dir, const zarr_array *a, enum zarr_missing missing,
                           spt_err *err)
{
    struct place p = {0};
    buf name, path;
    size_t there = 0;
    buf_init(&name, MAX_PATH);
    buf_init(&path, MAX_PATH);
    spt_status st = SPT_OK;
    for (uint64_t i = 0; !st && i < a->chunk_count; i++) {
        struct fs_info info;
        chunk_name(&name, a, &p);
        st = buf_status(&name, "chunk name", err);
        if (!st)
            st = path_join(&path, dir, buf_str(&name), err);
        if (!st && !fs_stat(buf_str(&path), &info, NULL)) {
            if (!add_size(there, (size_t)info.size, &there))
                there = SIZE_MAX;
        } else if (!st && missing == ZARR_MISSING_WEIGHTS && !a->fill_explicit) {
            break; /* zarr_read will say which */
        }
        place_next(&p, a);
    }
    const bool filled = missing == ZARR_MISSING_FILL || (there == 0 && a->fill_explicit);
    if (!st && !deflate_may_hold(there, a->bytes) && !(filled && a->bytes <= FILL_MAX))
        st = err_set(err, SPT_E_FORMAT, "%s: chunk files of %zu bytes cannot hold %zu bytes", dir,
                     there, a->bytes);
    buf_release(&name);
    buf_release(&path);
    return st;
}

/* --- writing --- */

/* The largest divisor of `of` below `below`, itself one: counted up by its cofactor, then down from the
 * root, so that a prime costs its root and not itself. */
static int64_t smaller_divisor(int64_t of, int64_t below)
{
    int64_t q = of / below + 1;
    for (; q <= of / q; q++)
        if (of % q == 0)
            return of / q;
    int64_t d = of / q < below - 1 ? of / q : below - 1;
    for (; d > 1; d--)
        if (of % d == 0)
            return d;
    return 1;
}

struct tensor_shape zarr_choose_chunks(enum dtype t, const struct tensor_shape *shape)
{
    struct tensor_shape c = *shape;
    const double target = 64.0 * 1024 * 1024 / (double)dtype_size(t);
    bool empty = false;
    for (int i = 0; i < c.rank; i++)
        empty |= c.dim[i] < 1;
    for (int i = 0; empty && i < c.rank; i++)
        c.dim[i] = 1; /* an empty array has no chunks, but their shape must not hold a zero */
    for (;;) {
        double count = 1;
        int largest = 0;
        for (int i = 0; i < c.rank; i++) {
            count *= (double)c.dim[i];
            if (c.dim[i] > c.dim[largest])
                largest = i;
        }
        if (count <= target)
            return c;
        c.dim[largest] = smaller_divisor(shape->dim[largest], c.dim[largest]);
    }
}

struct writing {
    savedir *d;
    const char *name;
    const zarr_array *a;
    const unsigned char *in;
    unsigned char *scratch;
    buf packed, file;
};

static spt_status write_place(struct writing *w, const struct place *p, spt_err *err)
{
    const unsigned char *chunk = contiguous(w->a, p, (unsigned char *)w->in);
    if (!chunk) {
        if (!w->scratch && !(w->scratch = mem_alloc(w->a->chunk_bytes, 1)))
            return err_nomem(err, w->a->chunk_bytes);
        memset(w->scratch, 0, w->a->chunk_bytes);
        each_run(w->a, p, (unsigned char *)w->in, w->scratch, copy_in, NULL);
        chunk = w->scratch;
    }
    buf_clear(&w->packed);
    TRY(gzip_encode(chunk, w->a->chunk_bytes, GZIP_LEVEL, &w->packed, err));
    chunk_name(&w->file, w->a, p);
    buf path;
    buf_init(&path, MAX_PATH);
    spt_status st = buf_status(&w->file, "chunk name", err);
    if (!st)
        st = path_join(&path, w->name, buf_str(&w->file), err);
    if (!st)
        st = savedir_file(w->d, buf_str(&path), w->packed.data, w->packed.len, err);
    buf_release(&path);
    return st;
}

static spt_status write_metadata(struct writing *w, const struct tensor_view *v, spt_err *err)
{
    buf path;
    buf_init(&path, MAX_PATH);
    spt_status st = zarr_metadata(v, &w->a->chunk, &w->packed, err);
    if (!st)
        st = path_join(&path, w->name, ".zarray", err);
    if (!st)
        st = savedir_file(w->d, buf_str(&path), w->packed.data, w->packed.len, err);
    buf_release(&path);
    return st;
}

spt_status zarr_write(savedir *d, const char *name, const struct tensor_view *v, spt_err *err)
{
    const struct tensor_shape chunk = zarr_choose_chunks(v->dtype, &v->shape);
    return zarr_write_chunked(d, name, v, &chunk, err);
}

spt_status zarr_write_chunked(savedir *d, const char *name, const struct tensor_view *v,
                              const struct tensor_shape *chunk, spt_err *err)
{
    zarr_array a = {.dtype = v->dtype, .shape = v->shape, .chunk = *chunk, .codec = ZARR_GZIP};
    size_t n;
    /* never: the caller's array lies in memory */
    TRY(tensor_size(a.dtype, &a.shape, &n, &a.bytes, err));
    TRY(tensor_size(a.dtype, &a.chunk, &n, &a.chunk_bytes, err));
    TRY(savedir_mkdir(d, name, err));
    struct writing w = {.d = d, .name = name, .a = &a, .in = v->data};
    struct place p = {0};
    buf_init(&w.packed, a.chunk_bytes + a.chunk_bytes / 1000 + 65536);
    buf_init(&w.file, MAX_PATH);
    spt_status st = write_metadata(&w, v, err);
    for (bool more = a.bytes != 0; !st && more;) {
        place_set(&p, &a);
        st = write_place(&w, &p, err);
        place_next(&p, &a);
        more = false;
        for (int i = 0; i < a.shape.rank; i++)
            more |= p.at[i] != 0;
    }
    mem_free(w.scratch);
    buf_release(&w.packed);
    buf_release(&w.file);
    return st;
}
