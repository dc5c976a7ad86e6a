/* torch.save files (spec/interop.md section 3).
 *
 * Both containers end in the same picture: a pickle that describes tensors over numbered storages,
 * and for every storage a range of bytes. ZIP: the range is an entry "data/<key>". Legacy: four
 * pickles (magic, protocol, sys_info, object), a fifth with the list of keys, then for each key a
 * count and the raw elements; the element size is known from the object only. */
#include "store/torch_bin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "store/store_internal.h"
#include "store/torch_pickle.h"
#include "store/torch_zip.h"
#include "store/zip_format.h"

enum {LEGACY_MAGIC = 15, LEGACY_PROTOCOL = 1001 };
static const unsigned char legacy_magic[LEGACY_MAGIC] = {0x80, 0x02, 0x8a, 0x0a, 0x6c,
                                                         0xfc, 0x9c, 0x46, 0xf9, 0x20,
                                                         0x6a, 0xa8, 0x50, 0x19, '.'};

/* What a tensor needs that is not row-major and contiguous. */
struct strided {
    enum dtype dtype;
    size_t elements;
    struct tensor_shape shape;
    int64_t stride[TENSOR_MAX_RANK]; /* elements */
};

struct bin_tensor {
    size_t offset; /* of element 0 in the file */
    size_t extent; /* bytes from there to the end of the last element */
    struct strided *strided; /* NULL: contiguous */
};

struct torch_bin {
    struct store_bytes bytes;
    struct bin_tensor *tensor;
    size_t count;
};

/* Where storages lie; by key. */
struct legacy_storage {
    const char *key;
    size_t key_len;
    enum dtype dtype;
    uint64_t count;
    size_t offset;
    bool found;
};

struct storages {
    const struct torch_zip *zip; /* or: */
    struct legacy_storage *legacy;
    size_t count;
};

static void torch_bin_free(void *impl)
{
    struct torch_bin *f = impl;
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++)
        mem_free(f->tensor[i].strided);
    mem_free(f->tensor);
    store_bytes_release(&f->bytes);
    mem_free(f);
}

/* --- values ------------------------------------------------------------------------------- */

/* Row-major copy: the last dimension as one run. */
static void gather(const unsigned char *src, const struct strided *t, unsigned char *out)
{
    const size_t size = dtype_size(t->dtype);
    const int rank = t->shape.rank; /* > 0: a scalar is contiguous */
    const size_t run = (size_t)t->shape.dim[rank - 1];
    const size_t step = (size_t)t->stride[rank - 1] * size;
    size_t index[TENSOR_MAX_RANK] = {0}, at = 0;
    for (size_t done = 0; done < t->elements; done += run) {
        for (size_t i = 0; i < run; i++, out += size)
            memcpy(out, src + at + i * step, size);
        for (int d = rank - 2; d >= 0; d--) {
            at += (size_t)t->stride[d] * size;
            if (++index[d] < (size_t)t->shape.dim[d])
                break;
            at -= (size_t)t->stride[d] * size * index[d];
            index[d] = 0;
        }
    }
}

static spt_status torch_bin_load(void *impl, size_t i, struct store_data *out, spt_err *err)
{
    struct torch_bin *f = impl;
    const struct bin_tensor *t = &f->tensor[i];
    out->view.data = f->bytes.p + t->offset;
    if (!t->strided)
        return SPT_OK;
    const size_t size = dtype_size(t->strided->dtype);
    out->owned = mem_alloc_aligned(t->strided->elements, size);
    if (!out->owned)
        return err_nomem(err, t->strided->elements * size);
    gather(f->bytes.p + t->offset, t->strided, out->owned);
    out->view.data = out->owned;
    return SPT_OK;
}

static void torch_bin_drop(void *impl, size_t i)
{
    struct torch_bin *f = impl;
    store_bytes_drop(&f->bytes, f->tensor[i].offset, f->tensor[i].extent);
}

static const struct store_format format = {"torch_bin", torch_bin_load, torch_bin_drop,
                                           torch_bin_free, NULL};

/* --- opening ------------------------------------------------------------------------------ */

static int compare_keys(const char *a, size_t an, const char *b, size_t bn)
{
    const int c = memcmp(a, b, an < bn ? an : bn);
    return c ? c : an < bn ? -1 : an > bn;
}

static int by_key(const void *a, const void *b)
{
    const struct legacy_storage *x = a, *y = b;
    return compare_keys(x->key, x->key_len, y->key, y->key_len);
}

static struct legacy_storage *find_legacy(const struct storages *s, const char *key, size_t len)
{
    size_t lo = 0, hi = s->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = compare_keys(key, len, s->legacy[mid].key, s->legacy[mid].key_len);
        if (c == 0)
            return &s->legacy[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* Bytes of a storage: where they start and how many there are. */
static spt_status locate(const struct storages *s, const struct pickle_storage *st, size_t *offset,
                         spt_err *err)
{
    const size_t size = dtype_size(st->dtype);
    if (s->zip) {
        const struct zip_entry *e = torch_zip_find(s->zip, "data/", st->key, st->key_len);
        if (!e)
            return err_set(err, SPT_E_FORMAT, "storage '%.*s' is not in the file",
                           zip_shown(st->key_len), st->key);
        if (st->count > e->size / size)
            return err_at(err, SPT_E_FORMAT, e->offset,
                          "storage '%.*s' has %zu bytes, its %llu elements of %s need more",
                          zip_shown(st->key_len), st->key, e->size, (unsigned long long)st->count,
                          dtype_name(st->dtype));
        *offset = e->offset;
        return SPT_OK;
    }
    const struct legacy_storage *l = find_legacy(s, st->key, st->key_len);
    if (!l || !l->found || l->dtype != st->dtype || l->count != st->count)
        return err_set(err, SPT_E_FORMAT, "storage '%.*s' is not in the file as it is described",
                       zip_shown(st->key_len), st->key);
    *offset = l->offset;
    return SPT_OK;
}

static bool contiguous(const struct pickle_tensor *t)
{
    int64_t want = 1;
    for (int i = t->shape.rank - 1; i >= 0; i--) {
        if (t->shape.dim[i] == 0)
            return true;
        if (t->shape.dim[i] != 1 && t->stride[i] != want)
            return false;
        want *= t->shape.dim[i];
    }
    return true;
}

static spt_status add_tensor(struct torch_bin *f, store *s, const struct storages *where,
                             const struct pickle *p, pickle_value v, const char *name, size_t len,
                             spt_err *err)
{
    struct pickle_tensor t;
    struct bin_tensor b = {0};
    pickle_tensor_get(p, v, &t);
    spt_status st = locate(where, &t.storage, &b.offset, err);
    if (st)
        return err_wrap(err, st, "tensor '%.*s'", zip_shown(len), name);
    TRY(store_add(s, name, len, t.storage.dtype, &t.shape, err));
    const size_t size = dtype_size(t.storage.dtype);
    const size_t elements = store_at(s, f->count)->elements;
    size_t last = 0;
    for (int i = 0; i < t.shape.rank && elements; i++)
        last += (size_t)(t.shape.dim[i] - 1) * (size_t)t.stride[i];
    b.offset += (size_t)t.offset * size; /* inside the storage: checked by pickle_run and locate */
    b.extent = elements ? (last + 1) * size : 0;
    if (elements && !contiguous(&t)) {
        b.strided = mem_alloc(1, sizeof *b.strided);
        if (!b.strided)
            return err_nomem(err, sizeof *b.strided);
        *b.strided = (struct strided){t.storage.dtype, elements, t.shape, {0}};
        memcpy(b.strided->stride, t.stride, sizeof t.stride);
    }
    f->tensor[f->count++] = b;
    return SPT_OK;
}

/* A tensor takes far more bytes in a real file than its description takes here. */
static spt_status reserve(struct torch_bin *f, store *s, size_t count, spt_err *err)
{
    if (count > 1024 + f->bytes.size / 64)
        return err_set(err, SPT_E_FORMAT, "%zu tensors in a file of %zu bytes", count,
                       f->bytes.size);
    TRY(store_reserve(s, count, err));
    f->tensor = mem_alloc(count, sizeof *f->tensor);
    return f->tensor ? SPT_OK : err_nomem(err, count * sizeof *f->tensor);
}

static spt_status add_dict(struct torch_bin *f, store *s, const struct storages *where,
                           const struct pickle *p, spt_err *err)
{
    struct pickle_iter it = {0};
    pickle_value key, v;
    size_t n = 0;
    while (pickle_next(p, p->root, &it, &key))
        n++;
    TRY(reserve(f, s, n / 2, err));
    it = (struct pickle_iter){0};
    while (pickle_next(p, p->root, &it, &key) && pickle_next(p, p->root, &it, &v)) {
        size_t len;
        if (pickle_tag_of(key) != PICKLE_STRING)
            return err_set(err, SPT_E_FORMAT, "a key of the dict is %s, not a name",
                           pickle_tag_name(pickle_tag_of(key)));
        const char *name = pickle_string(p, key, &len);
        if (pickle_tag_of(v) != PICKLE_TENSOR)
            return err_set(err, SPT_E_FORMAT,
                           "entry '%.*s' is %s, not a tensor: this is not a plain state dict%s",
                           zip_shown(len), name, pickle_tag_name(pickle_tag_of(v)),
                           pickle_tag_of(v) == PICKLE_DICT ? " (a training checkpoint? save its "
                                                             "model part alone)"
                                                           : "");
        TRY(add_tensor(f, s, where, p, v, name, len, err));
    }
    return SPT_OK;
}

static spt_status add_root(struct torch_bin *f, store *s, const struct storages *where,
                           const struct pickle *p, spt_err *err)
{
    const enum pickle_tag tag = pickle_tag_of(p->root);
    if (tag == PICKLE_DICT)
        return add_dict(f, s, where, p, err);
    if (tag != PICKLE_TENSOR)
        return err_set(err, SPT_E_FORMAT, "the file holds %s, not a dict of tensors",
                       pickle_tag_name(tag));
    TRY(reserve(f, s, 1, err));
    return add_tensor(f, s, where, p, p->root, "tensor", 6, err);
}

static spt_status open_zip(struct torch_bin *f, store *s, const struct torch_zip *zip,
                           struct pickle *p, spt_err *err)
{
    const unsigned char *bytes = f->bytes.p;
    const struct zip_entry *order = torch_zip_find(zip, "", "byteorder", 9);
    const struct zip_entry *pkl = torch_zip_find(zip, "", "data.pkl", 8);
    if (!pkl)
        return err_set(err, SPT_E_FORMAT, "a ZIP file without data.pkl: not from torch.save");
    if (order && (order->size != 6 || memcmp(bytes + order->offset, "little", 6)))
        return err_at(err, SPT_E_FORMAT, order->offset, "byte order is not little endian");
    if (pkl->size > TORCH_MAX_PICKLE)
        return err_set(err, SPT_E_FORMAT, "data.pkl has %zu bytes, more than %d", pkl->size,
                       TORCH_MAX_PICKLE);
    const spt_status st = pickle_run(p, bytes + pkl->offset, pkl->size, err);
    if (st)
        return err_wrap(err, st, "data.pkl");
    return add_root(f, s, &(struct storages){.zip = zip}, p, err);
}

/* --- legacy ------------------------------------------------------------------------------- */

static spt_status next_pickle(struct pickle *p, cursor *c, const char *what, spt_err *err)
{
    const size_t at = cursor_offset(c);
    size_t left = cursor_left(c);
    left = left > TORCH_MAX_PICKLE ? TORCH_MAX_PICKLE : left;
    const spt_status st = pickle_run(p, c->p, left, err);
    if (st)
        return err_wrap(err, st, "%s at byte %zu", what, at);
    cursor_take(c, p->used);
    return SPT_OK;
}

static spt_status check_sys_info(const struct pickle *p, spt_err *err)
{
    struct pickle_iter it = {0};
    pickle_value key, v;
    if (pickle_tag_of(p->root) != PICKLE_DICT)
        return err_set(err, SPT_E_FORMAT, "sys_info is not a dict");
    while (pickle_next(p, p->root, &it, &key) && pickle_next(p, p->root, &it, &v))
        if (pickle_is(p, key, "little_endian") &&
            (pickle_tag_of(v) != PICKLE_BOOL || !pickle_int(v)))
            return err_set(err, SPT_E_FORMAT, "byte order is not little endian");
    return SPT_OK;
}

static void note_storage(struct storages *s, const struct pickle *p, pickle_value v)
{
    struct pickle_tensor t;
    if (pickle_tag_of(v) != PICKLE_TENSOR)
        return;
    pickle_tensor_get(p, v, &t);
    s->legacy[s->count++] = (struct legacy_storage){
        .key = t.storage.key,
        .key_len = t.storage.key_len,
        .dtype = t.storage.dtype,
        .count = t.storage.count,
    };
}

/* The distinct storages of the object's tensors, sorted by key. */
static spt_status collect_storages(struct torch_bin *f, const struct pickle *p, struct storages *s,
                                   spt_err *err)
{
    struct pickle_iter it = {0};
    pickle_value v;
    size_t n = pickle_tag_of(p->root) == PICKLE_TENSOR;
    while (pickle_tag_of(p->root) == PICKLE_DICT && pickle_next(p, p->root, &it, &v))
        n += pickle_tag_of(v) == PICKLE_TENSOR;
    if (n > 1024 + f->bytes.size / 64)
        return err_set(err, SPT_E_FORMAT, "%zu tensors in a file of %zu bytes", n, f->bytes.size);
    s->legacy = mem_alloc(n, sizeof *s->legacy);
    if (!s->legacy)
        return err_nomem(err, n * sizeof *s->legacy);
    if (pickle_tag_of(p->root) == PICKLE_TENSOR)
        note_storage(s, p, p->root);
    it = (struct pickle_iter){0};
    while (pickle_tag_of(p->root) == PICKLE_DICT && pickle_next(p, p->root, &it, &v))
        note_storage(s, p, v);
    qsort(s->legacy, s->count, sizeof *s->legacy, by_key);
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++)
        if (!i || by_key(&s->legacy[i], &s->legacy[kept - 1]))
            s->legacy[kept++] = s->legacy[i];
    s->count = kept;
    return SPT_OK;
}

static spt_status read_storage(const struct pickle *keys, pickle_value key, cursor *c,
                               struct storages *s, spt_err *err)
{
    size_t len;
    if (pickle_tag_of(key) != PICKLE_STRING)
        return err_set(err, SPT_E_FORMAT, "a storage key is not a string");
    const char *name = pickle_string(keys, key, &len);
    struct legacy_storage *l = find_legacy(s, name, len);
    const size_t at = cursor_offset(c);
    if (!l || l->found)
        return err_at(err, SPT_E_FORMAT, at, "storage '%.*s' is %s", zip_shown(len), name,
                      l ? "listed twice" : "used by no tensor, so its size is unknown");
    const uint64_t count = cursor_u64le(c);
    if (!cursor_ok(c) || count != l->count || count > cursor_left(c) / dtype_size(l->dtype))
        return err_at(err, SPT_E_FORMAT, at,
                      "storage '%.*s' at byte %zu has %llu elements (the pickle says %llu), "
                      "%zu bytes remain",
                      zip_shown(len), name, at, (unsigned long long)count,
                      (unsigned long long)l->count, cursor_left(c));
    l->offset = cursor_offset(c);
    l->found = true;
    cursor_take(c, (size_t)count * dtype_size(l->dtype));
    return SPT_OK;
}

static spt_status read_storages(const struct pickle *keys, cursor *c, struct storages *s,
                                spt_err *err)
{
    struct pickle_iter it = {0};
    pickle_value key;
    if (pickle_tag_of(keys->root) != PICKLE_LIST)
        return err_set(err, SPT_E_FORMAT, "the storage keys are not a list");
    while (pickle_next(keys, keys->root, &it, &key))
        TRY(read_storage(keys, key, c, s, err));
    if (cursor_left(c))
        return err_at(err, SPT_E_FORMAT, cursor_offset(c), "%zu bytes behind the last storage",
                      cursor_left(c));
    return SPT_OK;
}

static spt_status open_legacy(struct torch_bin *f, store *s, struct pickle *object, spt_err *err)
{
    cursor c = cursor_make(f->bytes.p, f->bytes.size);
    struct pickle p = {0};
    struct storages where = {0};
    cursor_take(&c, LEGACY_MAGIC);
    spt_status st = next_pickle(&p, &c, "protocol number", err);
    if (!st && (pickle_tag_of(p.root) != PICKLE_INT || pickle_int(p.root) != LEGACY_PROTOCOL))
        st = err_set(err, SPT_E_FORMAT, "the protocol number is not %d", LEGACY_PROTOCOL);
    pickle_release(&p);
    if (!st)
        st = next_pickle(&p, &c, "sys_info", err);
    if (!st)
        st = check_sys_info(&p, err);
    pickle_release(&p);
    if (!st)
        st = next_pickle(object, &c, "object", err);
    if (!st)
        st = collect_storages(f, object, &where, err);
    if (!st)
        st = next_pickle(&p, &c, "storage keys", err);
    if (!st)
        st = read_storages(&p, &c, &where, err);
    pickle_release(&p);
    if (!st)
        st = add_root(f, s, &where, object, err);
    mem_free(where.legacy);
    return st;
}

static spt_status parse(struct torch_bin *f, store *s, spt_err *err)
{
    struct torch_zip zip = {0};
    struct pickle p = {0};
    spt_status st;
    if (f->bytes.size >= LEGACY_MAGIC && !memcmp(f->bytes.p, legacy_magic, LEGACY_MAGIC)) {
        st = open_legacy(f, s, &p, err);
    } else {
        st = torch_zip_open(f->bytes.p, f->bytes.size, &zip, err);
        if (!st)
            st = open_zip(f, s, &zip, &p, err);
    }
    pickle_release(&p);
    torch_zip_release(&zip);
    return st;
}

static spt_status parse_file(void *object, store *s, const struct store_opts *opts, spt_err *err)
{
    (void)opts;
    return parse(object, s, err);
}

static const struct store_file file = {&format, sizeof(struct torch_bin), parse_file, false};

spt_status torch_bin_open(const char *path, const struct store_opts *opts, store **out,
                          spt_err *err)
{
    return store_file_open(&file, path, opts, out, err);
}

spt_status torch_bin_open_mem(const void *bytes, size_t size, store **out, spt_err *err)
{
    return store_file_open_mem(&file, bytes, size, NULL, out, err);
}

bool torch_bin_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size)
{
    (void)path;
    (void)size;
    if (!bytes)
        return false;
    return (n >= 4 && !memcmp(bytes, "PK\3\4", 4)) ||
           (n >= LEGACY_MAGIC - 1 && !memcmp(bytes, legacy_magic, LEGACY_MAGIC - 1));
}
