/* safetensors (spec/interop.md section 1).
 *
 *     u64 little endian N | N bytes of JSON | data to the end of the file
 *
 * Invariant: after opening, the tensors tile the data exactly: sorted by their offsets they start
 * at 0, each begins where the previous one ends, and the last ends with the file. So nothing can
 * hide in a file, no two tensors share bytes, and the size of a tensor needs no further check when
 * it is loaded. The data is not aligned to anything. */
#include "store/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "store/store_internal.h"
#include "text/json.h"
#include "text/utf8.h"

enum { PREFIX = 8 };

struct span {
    uint64_t begin, end;
    size_t index;
};

struct safetensors {
    struct store_bytes bytes;
    size_t data; /* where the data starts in the file */
    struct span *span;
    size_t count, cap;
};

/* Names that the format has and we do not compute with. */
static const char *const other_dtypes[] = {
    "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
    "F4",      "F6_E2M3", "F6_E3M2", "C64",
};

static void safetensors_free(void *impl)
{
    struct safetensors *f = impl;
    if (!f)
        return;
    store_bytes_release(&f->bytes);
    mem_free(f->span);
    mem_free(f);
}

static spt_status safetensors_load(void *impl, size_t i, struct store_data *out, spt_err *err)
{
    struct safetensors *f = impl;
    TRY(store_bytes_need(&f->bytes, f->data + (size_t)f->span[i].begin,
                         (size_t)(f->span[i].end - f->span[i].begin), err));
    out->view.data = f->bytes.p + f->data + f->span[i].begin;
    return SPT_OK;
}

static void safetensors_release(void *impl, size_t i)
{
    struct safetensors *f = impl;
    store_bytes_drop(&f->bytes, f->data + (size_t)f->span[i].begin,
                     (size_t)(f->span[i].end - f->span[i].begin));
}

/* One stretch when that is mostly what is wanted, else tensor by tensor. */
static spt_status safetensors_expect(void *impl, const size_t *index, size_t n, spt_err *err)
{
    struct safetensors *f = impl;
    size_t from = SIZE_MAX, to = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        const struct span *s = &f->span[index[i]];
        from = s->begin < from ? (size_t)s->begin : from;
        to = s->end > to ? (size_t)s->end : to;
        total += (size_t)(s->end - s->begin);
    }
    if (total >= (to - from) / 2)
        return store_bytes_need(&f->bytes, f->data + from, to - from, err);
    for (size_t i = 0; i < n; i++) {
        const struct span *s = &f->span[index[i]];
        TRY(store_bytes_need(&f->bytes, f->data + (size_t)s->begin, (size_t)(s->end - s->begin),
                             err));
    }
    return SPT_OK;
}

static const struct store_format format = {"safetensors", safetensors_load, safetensors_release,
                                           safetensors_free, safetensors_expect};

/* --- header ------------------------------------------------------------------------------- */

static spt_status read_dtype(json_reader *r, const char *name, enum dtype *out, spt_err *err)
{
    struct json_event ev;
    TRY(json_next(r, &ev, err));
    if (ev.kind != JSON_STRING)
        return json_error(r, ev.offset, err, "tensor '%s': dtype is %s, not a string", name,
                          json_kind_name(ev.kind));
    if (!ev.escaped && dtype_from_safetensors_name(ev.text, ev.len, out))
        return SPT_OK;
    const int len = ev.len > 40 ? 40 : (int)ev.len;
    for (size_t i = 0; i < sizeof other_dtypes / sizeof other_dtypes[0]; i++)
        if (json_is(&ev, other_dtypes[i]))
            return json_error(r, ev.offset, err, "tensor '%s': dtype %.*s is not supported", name,
                              len, ev.text);
    return json_error(r, ev.offset, err, "tensor '%s': unknown dtype '%.*s'", name, len, ev.text);
}

static spt_status number(json_reader *r, const struct json_event *ev, const char *name,
                         const char *what, uint64_t *out, spt_err *err)
{
    if (ev->kind != JSON_NUMBER || json_to_u64(ev, out, NULL) || *out >= ST_MAX_VALUE) {
        const int len = ev->len > 40 ? 40 : (int)ev->len;
        return json_error(r, ev->offset, err,
                          "tensor '%s': %s holds %s '%.*s', not an integer in 0..2^48-1", name,
                          what, json_kind_name(ev->kind), len, ev->text);
    }
    return SPT_OK;
}

static spt_status read_shape(json_reader *r, const char *name, struct tensor_shape *out,
                             spt_err *err)
{
    struct tensor_shape shape = {0};
    struct json_event ev;
    bool more;
    TRY(json_enter_array(r, err));
    for (;;) {
        TRY(json_next_item(r, &more, &ev, err));
        if (!more)
            break;
        uint64_t v;
        TRY(number(r, &ev, name, "shape", &v, err));
        if (shape.rank == TENSOR_MAX_RANK)
            return json_error(r, ev.offset, err, "tensor '%s': more than %d dimensions", name,
                              TENSOR_MAX_RANK);
        shape.dim[shape.rank++] = (int64_t)v;
    }
    *out = shape;
    return SPT_OK;
}

static spt_status read_offsets(json_reader *r, const char *name, struct span *out, spt_err *err)
{
    uint64_t v[2] = {0};
    size_t n = 0;
    struct json_event ev = {0};
    bool more;
    TRY(json_enter_array(r, err));
    const size_t at = r->pos;
    for (;;) {
        TRY(json_next_item(r, &more, &ev, err));
        if (!more)
            break;
        if (n == 2)
            return json_error(r, ev.offset, err, "tensor '%s': data_offsets has more than 2 values",
                              name);
        TRY(number(r, &ev, name, "data_offsets", &v[n++], err));
    }
    if (n != 2)
        return json_error(r, at, err, "tensor '%s': data_offsets has %zu values, not 2", name, n);
    if (v[1] < v[0])
        return json_error(r, at, err,
                          "tensor '%s': data_offsets [%llu, %llu] end before they begin", name,
                          (unsigned long long)v[0], (unsigned long long)v[1]);
    out->begin = v[0];
    out->end = v[1];
    return SPT_OK;
}

static spt_status read_entry(struct safetensors *f, store *s, json_reader *r, const buf *name,
                             spt_err *err)
{
    const char *text = buf_str(name);
    const size_t at = r->pos;
    enum dtype dtype = DT_F32;
    struct tensor_shape shape = {0};
    struct span span = {.index = f->count};
    bool has_dtype = false, has_shape = false, has_offsets = false, more;
    struct json_event key;
    TRY(store_check_name(text, name->len, err));
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        if (json_is(&key, "dtype")) {
            TRY(read_dtype(r, text, &dtype, err));
            has_dtype = true;
        } else if (json_is(&key, "shape")) {
            TRY(read_shape(r, text, &shape, err));
            has_shape = true;
        } else if (json_is(&key, "data_offsets")) {
            TRY(read_offsets(r, text, &span, err));
            has_offsets = true;
        } else {
            TRY(json_skip(r, err));
        }
    }
    if (!has_dtype || !has_shape || !has_offsets)
        return json_error(r, at, err, "tensor '%s': %s is missing", text,
                          !has_dtype ? "dtype" : !has_shape ? "shape" : "data_offsets");
    if (f->count == ST_MAX_TENSORS)
        return json_error(r, at, err, "more than %d tensors", ST_MAX_TENSORS);
    TRY(store_add(s, text, name->len, dtype, &shape, err));
    const uint64_t bytes = store_at(s, f->count)->bytes;
    if (bytes != span.end - span.begin) {
        char t[SHAPE_TEXT];
        return json_error(r, at, err,
                          "tensor '%s': shape %s of %s needs %llu bytes, data_offsets "
                          "[%llu, %llu] hold %llu",
                          text, shape_text(&shape, t), dtype_safetensors_name(dtype),
                          (unsigned long long)bytes, (unsigned long long)span.begin,
                          (unsigned long long)span.end,
                          (unsigned long long)(span.end - span.begin));
    }
    TRY(mem_grow(&f->span, &f->cap, f->count + 1, sizeof *f->span, ST_MAX_TENSORS, err));
    f->span[f->count++] = span;
    return SPT_OK;
}

static spt_status read_metadata(store *s, json_reader *r, buf *key_text, buf *value, spt_err *err)
{
    struct json_event key, ev;
    bool more;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            return SPT_OK;
        buf_clear(key_text);
        buf_clear(value);
        json_add_text(&key, key_text);
        TRY(json_next(r, &ev, err));
        if (ev.kind != JSON_STRING)
            return json_error(r, ev.offset, err, "__metadata__ '%s' is %s, not a string",
                              buf_str(key_text), json_kind_name(ev.kind));
        json_add_text(&ev, value);
        TRY(buf_status(key_text, "a metadata key", err));
        TRY(buf_status(value, "a metadata value", err));
        if (memchr(buf_str(key_text), 0, key_text->len) || memchr(buf_str(value), 0, value->len))
            return json_error(r, key.offset, err, "__metadata__ '%s' contains a zero byte",
                              buf_str(key_text));
        TRY(store_add_meta(s, buf_str(key_text), key_text->len, buf_str(value), value->len, err));
    }
}

static spt_status read_members(struct safetensors *f, store *s, json_reader *r, buf *name,
                               buf *value, spt_err *err)
{
    struct json_event key;
    bool more;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            return json_finish(r, err);
        if (json_is(&key, "__metadata__")) {
            TRY(read_metadata(s, r, name, value, err));
            continue;
        }
        buf_clear(name);
        json_add_text(&key, name);
        TRY(buf_status(name, "a tensor's name", err));
        TRY(read_entry(f, s, r, name, err));
    }
}

static int by_offset(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return 0;
}

static int by_index(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* The tensors must tile the data (header comment). */
static spt_status check_tiling(struct safetensors *f, const store *s, spt_err *err)
{
    uint64_t at = 0;
    if (f->count)
        qsort(f->span, f->count, sizeof *f->span, by_offset);
    for (size_t i = 0; i < f->count; i++) {
        const struct span *sp = &f->span[i];
        if (sp->begin != at)
            return err_at(err, SPT_E_FORMAT, f->data + at,
                          "tensor '%s' begins at data offset %llu, %s ends at %llu: a %s",
                          store_at(s, sp->index)->name, (unsigned long long)sp->begin,
                          i ? "the one before" : "the header", (unsigned long long)at,
                          sp->begin < at ? "overlap" : "hole");
        at = sp->end;
    }
    const uint64_t have = f->bytes.size - f->data;
    if (at != have)
        return err_at(err, SPT_E_FORMAT, f->bytes.size,
                      "the tensors need %llu bytes of data, the file has %llu (%s)",
                      (unsigned long long)at, (unsigned long long)have,
                      at > have ? "cut short" : "trailing bytes");
    if (f->count)
        qsort(f->span, f->count, sizeof *f->span, by_index);
    return SPT_OK;
}

static spt_status parse(struct safetensors *f, store *s, spt_err *err)
{
    const size_t size = f->bytes.size;
    if (size < PREFIX)
        return err_at(err, SPT_E_FORMAT, size,
                      "a safetensors file has at least %d bytes, this one %zu", PREFIX, size);
    uint64_t n = 0;
    TRY(store_bytes_need(&f->bytes, 0, PREFIX, err));
    for (size_t i = 0; i < PREFIX; i++)
        n |= (uint64_t)f->bytes.p[i] << (8 * i);
    if (n > ST_MAX_HEADER)
        return err_set(err, SPT_E_FORMAT, "the header claims %llu bytes, more than %d",
                       (unsigned long long)n, ST_MAX_HEADER);
    if (n > size - PREFIX)
        return err_at(err, SPT_E_FORMAT, size,
                      "the header claims %llu bytes, the file has %zu (cut short)",
                      (unsigned long long)n, size - PREFIX);
    TRY(store_bytes_need(&f->bytes, PREFIX, (size_t)n, err));
    const char *text = (const char *)f->bytes.p + PREFIX;
    if (n == 0 || text[0] != '{')
        return err_at(err, SPT_E_FORMAT, PREFIX, "the header does not begin with '{' (byte 8)");
    f->data = PREFIX + (size_t)n;
    json_reader r;
    json_open(&r, text, (size_t)n, 0);
    r.base_offset = PREFIX;
    buf name, value;
    buf_init(&name, ST_MAX_HEADER);
    buf_init(&value, ST_MAX_HEADER);
    spt_status st = read_members(f, s, &r, &name, &value, err);
    buf_release(&name);
    buf_release(&value);
    json_close(&r);
    return st ? err_wrap(err, st, "safetensors header") : check_tiling(f, s, err);
}

static spt_status parse_file(void *object, store *s, const struct store_opts *opts, spt_err *err)
{
    (void)opts;
    return parse(object, s, err);
}

static const struct store_file file = {&format, sizeof(struct safetensors), parse_file, true};

spt_status safetensors_open(const char *path, const struct store_opts *opts, store **out,
                            spt_err *err)
{
    return store_file_open(&file, path, opts, out, err);
}

spt_status safetensors_open_mem(const void *bytes, size_t size, store **out, spt_err *err)
{
    return store_file_open_mem(&file, bytes, size, NULL, out, err);
}

bool safetensors_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size)
{
    (void)path;
    (void)size;
    if (!bytes)
        return false;
    /* A header length below 2^32 and a brace: enough to take it for a damaged safetensors file
     * rather than for rubbish. */
    return (n > PREFIX && bytes[PREFIX] == '{') ||
           (n >= PREFIX && !bytes[4] && !bytes[5] && !bytes[6] && !bytes[7] &&
            path_has_suffix(path, ".safetensors"));
}

/* --- writing ------------------------------------------------------------------------------ */

/* The reference sorts by this rank, highest first (the order of its Dtype enum). */
static const int rank_of[DT_COUNT] = {
    [DT_BOOL] = 0, [DT_U8] = 1,  [DT_I8] = 2,   [DT_I16] = 3,  [DT_U16] = 4,
    [DT_F16] = 5,  [DT_BF16] = 6, [DT_I32] = 7, [DT_U32] = 8,  [DT_F32] = 9,
    [DT_F64] = 10, [DT_I64] = 11, [DT_U64] = 12,
};

static int by_rank_and_name(const void *a, const void *b)
{
    const struct store_tensor *x = *(const struct store_tensor *const *)a;
    const struct store_tensor *y = *(const struct store_tensor *const *)b;
    const int d = rank_of[y->view.dtype] - rank_of[x->view.dtype];
    return d ? d : strcmp(x->name, y->name);
}

static spt_status check_text(const char *text, const char *what, spt_err *err)
{
    if (!utf8_valid(text, strlen(text)))
        return err_set(err, SPT_E_USAGE, "%s is not valid UTF-8", what);
    return SPT_OK;
}

static void put_shape(json_writer *w, const struct tensor_shape *s)
{
    json_begin_array(w);
    for (int i = 0; i < s->rank; i++)
        json_i64(w, s->dim[i]);
    json_end_array(w);
}

/* What our reader takes: a tensor without elements may have any other dimension. */
static spt_status check_dims(const struct store_tensor *t, spt_err *err)
{
    char text[SHAPE_TEXT];
    for (int i = 0; i < t->view.shape.rank; i++)
        if ((uint64_t)t->view.shape.dim[i] >= ST_MAX_VALUE)
            return err_set(err, SPT_E_USAGE, "tensor '%s': shape %s is too large for the format",
                           t->name, shape_text(&t->view.shape, text));
    return SPT_OK;
}

static spt_status put_header(buf *out, const struct store_tensor *const *t, size_t count,
                             const struct store_meta *meta, size_t meta_count, spt_err *err)
{
    json_writer w;
    json_write_init(&w, out, 0);
    json_begin_object(&w);
    if (meta_count) {
        json_key(&w, "__metadata__");
        json_begin_object(&w);
        for (size_t i = 0; i < meta_count; i++) {
            TRY(check_text(meta[i].key, "a metadata key", err));
            TRY(check_text(meta[i].value, "a metadata value", err));
            json_key(&w, meta[i].key);
            json_string(&w, meta[i].value);
        }
        json_end_object(&w);
    }
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tensor_view *v = &t[i]->view;
        size_t elements, bytes, end;
        TRY(check_text(t[i]->name, "a tensor's name", err));
        TRY(store_check_name(t[i]->name, strlen(t[i]->name), err));
        if (!strcmp(t[i]->name, "__metadata__") || (i && !strcmp(t[i]->name, t[i - 1]->name)))
            return err_set(err, SPT_E_USAGE, "tensor name '%s' cannot be used (twice)", t[i]->name);
        TRY(tensor_size(v->dtype, &v->shape, &elements, &bytes, err));
        if (!add_size(offset, bytes, &end))
            return err_set(err, SPT_E_USAGE, "the tensors are too large together");
        TRY(check_dims(t[i], err));
        json_key(&w, t[i]->name);
        json_begin_object(&w);
        json_key(&w, "dtype");
        json_string(&w, dtype_safetensors_name(v->dtype));
        json_key(&w, "shape");
        put_shape(&w, &v->shape);
        json_key(&w, "data_offsets");
        json_begin_array(&w);
        json_u64(&w, offset);
        json_u64(&w, end);
        json_end_array(&w);
        json_end_object(&w);
        offset = end;
    }
    json_end_object(&w);
    while (out->len % 8 && !out->st)
        buf_addc(out, ' ');
    return buf_status(out, "the safetensors header", err);
}

static void put_length(unsigned char prefix[PREFIX], const buf *header)
{
    for (size_t i = 0; i < PREFIX; i++)
        prefix[i] = (unsigned char)((uint64_t)header->len >> (8 * i));
}

static spt_status put_file(const char *path, const struct store_tensor *const *t, size_t count,
                           const buf *header, spt_err *err)
{
    fs_writer *w = NULL;
    unsigned char prefix[PREFIX];
    put_length(prefix, header);
    TRY(fs_create(path, &w, err));
    spt_status st = fs_write(w, prefix, PREFIX, err);
    if (!st)
        st = fs_write(w, buf_str(header), header->len, err);
    for (size_t i = 0; i < count && !st; i++) {
        size_t elements, bytes;
        st = tensor_size(t[i]->view.dtype, &t[i]->view.shape, &elements, &bytes, err);
        if (!st && bytes)
            st = fs_write(w, t[i]->view.data, bytes, err);
    }
    if (st) {
        fs_abort(w);
        return st;
    }
    return fs_commit(w, err);
}

static spt_status sorted(const struct store_tensor *tensors, size_t count,
                         const struct store_tensor ***out, spt_err *err)
{
    const struct store_tensor **order = mem_alloc(count, sizeof *order);
    if (!order)
        return err_nomem(err, count * sizeof *order);
    for (size_t i = 0; i < count; i++)
        order[i] = &tensors[i];
    if (count)
        qsort(order, count, sizeof *order, by_rank_and_name);
    *out = order;
    return SPT_OK;
}

spt_status safetensors_encode(const struct store_tensor *tensors, size_t count,
                              const struct store_meta *meta, size_t meta_count, buf *out,
                              spt_err *err)
{
    const struct store_tensor **order;
    TRY(sorted(tensors, count, &order, err));
    buf header;
    buf_init(&header, ST_MAX_HEADER);
    spt_status st = put_header(&header, order, count, meta, meta_count, err);
    if (!st) {
        unsigned char prefix[PREFIX];
        put_length(prefix, &header);
        buf_add(out, prefix, PREFIX);
        buf_add(out, buf_str(&header), header.len);
    }
    for (size_t i = 0; i < count && !st; i++) {
        size_t elements, bytes;
        st = tensor_size(order[i]->view.dtype, &order[i]->view.shape, &elements, &bytes, err);
        if (!st)
            buf_add(out, order[i]->view.data, bytes);
    }
    if (!st)
        st = buf_status(out, "safetensors data", err);
    buf_release(&header);
    mem_free(order);
    return st;
}

spt_status safetensors_write(const char *path, const struct store_tensor *tensors, size_t count,
                             const struct store_meta *meta, size_t meta_count, spt_err *err)
{
    const struct store_tensor **order;
    TRY(sorted(tensors, count, &order, err));
    buf header;
    buf_init(&header, ST_MAX_HEADER);
    spt_status st = put_header(&header, order, count, meta, meta_count, err);
    if (!st)
        st = put_file(path, order, count, &header, err);
    else
        err_wrap(err, st, "%s", path);
    buf_release(&header);
    mem_free(order);
    return st;
}
