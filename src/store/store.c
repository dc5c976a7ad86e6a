#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"
#include "text/utf8.h"

enum {
    MAX_TENSORS = 1000000, /* formats set tighter limits */
    MAX_NAME = 1024,
    MAX_META = 16 << 20,
    MAX_FILES = 1 << 20,
    TEXT_BLOCK = 4096
};

/* Strings live in blocks that never move, so that infos can point into them. */
struct text_block {
    struct text_block *next;
    size_t used, cap;
    char data[];
};

struct store {
    const struct store_format *format;
    void *impl;
    char *path;
    struct store_info *info;
    size_t count, cap;
    size_t *by_name; /* indices sorted by name */
    struct store_meta *meta;
    size_t meta_count, meta_cap;
    const char **file;
    size_t file_count, file_cap;
    struct text_block *text;
    int64_t step;
    bool finished;
};

spt_status store_new(const struct store_format *f, const char *path, store **out, spt_err *err)
{
    store *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    s->path = mem_strdup(path);
    if (!s->path) {
        mem_free(s);
        return err_nomem(err, strlen(path) + 1);
    }
    s->format = f;
    s->step = -1;
    *out = s;
    return SPT_OK;
}

/* --- formats of one file ---------------------------------------------------------------------- */

/* Takes the object over. */
static spt_status open_object(const struct store_file *f, void *object, const char *path,
                              const struct store_opts *opts, store **out, spt_err *err)
{
    store *s = NULL;
    spt_status st = store_new(f->format, path, &s, err);
    if (!st) {
        st = f->parse(object, s, opts, err);
        if (!st)
            st = store_finish(s, object, err);
        if (st)
            err_wrap(err, st, "%s", path);
    }
    if (st) {
        store_close(s);
        f->format->close(object);
        return st;
    }
    *out = s;
    return SPT_OK;
}

spt_status store_file_open(const struct store_file *f, const char *path,
                           const struct store_opts *opts, store **out, spt_err *err)
{
    struct store_bytes *object = mem_zalloc(1, f->object_size);
    if (!object)
        return err_nomem(err, f->object_size);
    const spt_status st = store_bytes_map(path, f->lazily, object, err);
    if (st) {
        mem_free(object);
        return st;
    }
    return open_object(f, object, path, opts, out, err);
}

spt_status store_file_open_mem(const struct store_file *f, const void *bytes, size_t size,
                               const struct store_opts *opts, store **out, spt_err *err)
{
    struct store_bytes *object = mem_zalloc(1, f->object_size);
    if (!object)
        return err_nomem(err, f->object_size);
    object->p = bytes;
    object->size = size;
    return open_object(f, object, "(memory)", opts, out, err);
}

void store_close(store *s)
{
    if (!s)
        return;
    if (s->finished && s->format->close)
        s->format->close(s->impl);
    while (s->text) {
        struct text_block *next = s->text->next;
        mem_free(s->text);
        s->text = next;
    }
    mem_free(s->info);
    mem_free(s->by_name);
    mem_free(s->meta);
    mem_free(s->file);
    mem_free(s->path);
    mem_free(s);
}

/* Room for n bytes in the text blocks, NULL when out of memory. */
static char *text_room(store *s, size_t n)
{
    struct text_block *b = s->text;
    if (!b || b->cap - b->used < n) {
        const size_t cap = n > TEXT_BLOCK ? n : TEXT_BLOCK;
        b = mem_alloc(1, sizeof *b + cap);
        if (!b)
            return NULL;
        b->next = s->text;
        b->used = 0;
        b->cap = cap;
        s->text = b;
    }
    char *p = b->data + b->used;
    b->used += n;
    return p;
}

static const char *text_copy(store *s, const char *text, size_t len)
{
    char *p = text_room(s, len + 1);
    if (p) {
        if (len)
            memcpy(p, text, len);
        p[len] = '\0';
    }
    return p;
}

spt_status store_reserve(store *s, size_t count, spt_err *err)
{
    if (count <= s->cap)
        return SPT_OK;
    if (count > MAX_TENSORS)
        return err_set(err, SPT_E_FORMAT, "%zu tensors, more than %d", count, MAX_TENSORS);
    struct store_info *p = mem_realloc(s->info, count, sizeof *p);
    if (!p)
        return err_nomem(err, count * sizeof *p);
    s->info = p;
    s->cap = count;
    return SPT_OK;
}

spt_status store_check_name(const char *name, size_t len, spt_err *err)
{
    if (len > MAX_NAME)
        return err_set(err, SPT_E_FORMAT, "a tensor's name has %zu bytes, more than %d: '%.40s...'",
                       len, MAX_NAME, name);
    if (len && memchr(name, '\0', len))
        return err_set(err, SPT_E_FORMAT, "the name of tensor '%s...' contains a zero byte", name);
    if (!utf8_valid(name, len))
        return err_set(err, SPT_E_FORMAT, "a tensor's name is not valid UTF-8");
    return SPT_OK;
}

spt_status store_add(store *s, const char *name, size_t len, enum dtype dtype,
                     const struct tensor_shape *shape, spt_err *err)
{
    struct store_info info = {.dtype = dtype, .shape = *shape};
    TRY(store_check_name(name, len, err));
    spt_status st = tensor_size(dtype, shape, &info.elements, &info.bytes, err);
    if (st)
        return err_wrap(err, st, "tensor '%.*s'", (int)len, name);
    TRY(mem_grow(&s->info, &s->cap, s->count + 1, sizeof *s->info, MAX_TENSORS, err));
    info.name = text_copy(s, name, len);
    if (!info.name)
        return err_nomem(err, len + 1);
    s->info[s->count++] = info;
    return SPT_OK;
}

spt_status store_add_meta(store *s, const char *key, size_t key_len, const char *value,
                          size_t value_len, spt_err *err)
{
    TRY(mem_grow(&s->meta, &s->meta_cap, s->meta_count + 1, sizeof *s->meta, MAX_META, err));
    struct store_meta m = {.key = text_copy(s, key, key_len)};
    m.value = m.key ? text_copy(s, value, value_len) : NULL;
    if (!m.value)
        return err_nomem(err, key_len + value_len + 2);
    s->meta[s->meta_count++] = m;
    return SPT_OK;
}

spt_status store_add_file(store *s, const char *path, spt_err *err)
{
    TRY(mem_grow(&s->file, &s->file_cap, s->file_count + 1, sizeof *s->file, MAX_FILES, err));
    const char *copy = text_copy(s, path, strlen(path));
    if (!copy)
        return err_nomem(err, strlen(path) + 1);
    s->file[s->file_count++] = copy;
    return SPT_OK;
}

size_t store_file_count(const store *s)
{
    return s->file_count;
}

const char *store_file(const store *s, size_t i)
{
    return s->file[i];
}

void store_set_step(store *s, int64_t step)
{
    s->step = step;
}

/* Bottom-up merge sort of indices by name: no recursion, no context argument needed, n log n on
 * hostile orders, too. */
static void sort_by_name(const struct store_info *info, size_t *a, size_t *tmp, size_t n)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            const size_t mid = lo + width < n ? lo + width : n;
            const size_t hi = mid + width < n ? mid + width : n;
            size_t i = lo, j = mid, k = lo;
            while (i < mid && j < hi)
                tmp[k++] = strcmp(info[a[j]].name, info[a[i]].name) < 0 ? a[j++] : a[i++];
            while (i < mid)
                tmp[k++] = a[i++];
            while (j < hi)
                tmp[k++] = a[j++];
        }
        memcpy(a, tmp, n * sizeof *a);
    }
}

spt_status store_finish(store *s, void *impl, spt_err *err)
{
    const size_t n = s->count;
    size_t *idx = mem_alloc(n, sizeof *idx), *tmp = mem_alloc(n, sizeof *tmp);
    if (!idx || !tmp) {
        mem_free(idx);
        mem_free(tmp);
        return err_nomem(err, 2 * n * sizeof *idx);
    }
    for (size_t i = 0; i < n; i++)
        idx[i] = i;
    sort_by_name(s->info, idx, tmp, n);
    mem_free(tmp);
    for (size_t i = 1; i < n; i++) {
        if (!strcmp(s->info[idx[i - 1]].name, s->info[idx[i]].name)) {
            spt_status st = err_set(err, SPT_E_FORMAT, "two tensors are named '%s'",
                                    s->info[idx[i]].name);
            mem_free(idx);
            return st;
        }
    }
    s->by_name = idx;
    s->impl = impl;
    s->finished = true;
    return SPT_OK;
}

const char *store_path(const store *s)
{
    return s->path;
}

const char *store_kind(const store *s)
{
    return s->format->kind;
}

size_t store_count(const store *s)
{
    return s->count;
}

const struct store_info *store_at(const store *s, size_t i)
{
    return &s->info[i];
}

bool store_find(const store *s, const char *name, size_t *index)
{
    size_t lo = 0, hi = s->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = strcmp(name, s->info[s->by_name[mid]].name);
        if (c == 0) {
            *index = s->by_name[mid];
            return true;
        }
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return false;
}

int64_t store_step(const store *s)
{
    return s->step;
}

size_t store_meta_count(const store *s)
{
    return s->meta_count;
}

const struct store_meta *store_meta_at(const store *s, size_t i)
{
    return &s->meta[i];
}

const char *store_meta_get(const store *s, const char *key)
{
    for (size_t i = 0; i < s->meta_count; i++)
        if (!strcmp(s->meta[i].key, key))
            return s->meta[i].value;
    return NULL;
}

void *store_impl(const store *s)
{
    return s->impl;
}

spt_status store_load(store *s, size_t i, struct store_data *out, spt_err *err)
{
    const struct store_info *info = &s->info[i];
    struct store_data d = {.index = i};
    spt_status st = s->format->load(s->impl, i, &d, err);
    if (st)
        return err_wrap(err, st, "%s: tensor '%s'", s->path, info->name);
    d.index = i;
    d.view.dtype = info->dtype;
    d.view.shape = info->shape;
    *out = d;
    return SPT_OK;
}

spt_status store_expect(store *s, const size_t *index, size_t n, spt_err *err)
{
    if (!s->format->expect || !n)
        return SPT_OK;
    const spt_status st = s->format->expect(s->impl, index, n, err);
    return st ? err_wrap(err, st, "%s", s->path) : SPT_OK;
}

void store_drop(store *s, size_t i)
{
    if (s->format->release)
        s->format->release(s->impl, i);
}

void store_release(store *s, struct store_data *d)
{
    if (d->owned)
        mem_free_aligned(d->owned);
    else if (d->view.data)
        store_drop(s, d->index);
    memset(d, 0, sizeof *d);
}

spt_status store_read_f32(store *s, size_t i, float *out, spt_err *err)
{
    struct store_data d = {0};
    TRY(store_load(s, i, &d, err));
    tensor_to_f32(&d.view, 0, s->info[i].elements, out);
    store_release(s, &d);
    return SPT_OK;
}

/* --- values ------------------------------------------------------------------------------- */

/* Whole blocks are tested without branches, so that the compiler may use vectors; only a block
 * that holds an offender is searched. */
enum { SCAN_BLOCK = 1024 };

#define SCAN(type, bad)                                            \
    for (size_t b = 0; b < n; b += SCAN_BLOCK) {                   \
        type x[SCAN_BLOCK];                                        \
        const size_t m = n - b < SCAN_BLOCK ? n - b : SCAN_BLOCK;  \
        memcpy(x, p + b * sizeof(type), m * sizeof(type));         \
        if (m < SCAN_BLOCK)                                        \
            memset(x + m, 0, (SCAN_BLOCK - m) * sizeof(type));     \
        type any = 0;                                              \
        for (size_t i = 0; i < SCAN_BLOCK; i++)                    \
            any |= (type)(bad);                                    \
        for (size_t i = 0; any && i < m; i++) {                    \
            if (bad) {                                             \
                *at = b + i;                                       \
                return true;                                       \
            }                                                      \
        }                                                          \
    }                                                              \
    return false

static bool scan_f32(const char *p, size_t n, size_t *at)
{
    SCAN(uint32_t, (x[i] & 0x7f800000u) == 0x7f800000u);
}

static bool scan_f64(const char *p, size_t n, size_t *at)
{
    /* From halfway above the largest float on, rounding gives infinity. */
    SCAN(uint64_t, (x[i] & 0x7fffffffffffffffu) >= 0x47effffff0000000u);
}

static bool scan_16(const char *p, size_t n, uint16_t exponent, size_t *at)
{
    SCAN(uint16_t, (x[i] & exponent) == exponent);
}

bool view_find_nonfinite(const struct tensor_view *v, size_t *at)
{
    size_t n, bytes;
    if (tensor_size(v->dtype, &v->shape, &n, &bytes, NULL))
        return false;
    switch (v->dtype) {
    case DT_F32:
        return scan_f32(v->data, n, at);
    case DT_F64:
        return scan_f64(v->data, n, at);
    case DT_F16:
        return scan_16(v->data, n, 0x7c00, at);
    case DT_BF16:
        return scan_16(v->data, n, 0x7f80, at);
    default:
        return false;
    }
}

char *shape_index_text(const struct tensor_shape *s, size_t at, char *text)
{
    struct tensor_shape index = {.rank = s->rank};
    for (int i = s->rank - 1; i >= 0; i--) {
        const size_t dim = s->dim[i] > 0 ? (size_t)s->dim[i] : 1;
        index.dim[i] = (int64_t)(at % dim);
        at /= dim;
    }
    return shape_text(&index, text);
}
