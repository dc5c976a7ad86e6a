/* NumPy arrays (spec/interop.md section 7).
 *
 *     93 'NUMPY' major minor | u16 (v1) or u32 (v2, v3) header length | header | data
 *
 * The header is a Python dict literal with exactly three keys; it is read by a small reader of
 * such literals, never evaluated. Data that is not little endian and row-major is decoded into a
 * copy; the files of others carry fortran_order after every transpose, and ignoring it would give
 * a permuted matrix of the right shape. */
#include "store/npy.h"

#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "store/store_internal.h"

enum { MAGIC = 6, ALIGN = 64, GROWTH_DIGITS = 21 };
static const unsigned char magic[MAGIC] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

struct npy {
    struct store_bytes bytes;
    size_t data;
    enum dtype dtype;
    struct tensor_shape shape;
    size_t elements, size; /* of one element */
    bool fortran, swap;
};

/* --- header ------------------------------------------------------------------------------- */

struct header {
    bool has_descr, has_order, has_shape;
    char descr[64];
    size_t descr_offset;
    bool fortran;
    struct tensor_shape shape;
};

static void skip_space(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static spt_status bad(const cursor *c, spt_err *err, const char *what)
{
    const size_t at = cursor_offset(c);
    return err_at(err, SPT_E_FORMAT, at, "NumPy header: %s (byte %zu)", what, at);
}

/* The next token is this character. */
static bool accept(cursor *c, char ch)
{
    skip_space(c);
    if (c->p < c->end && *c->p == (unsigned char)ch) {
        c->p++;
        return true;
    }
    return false;
}

static bool accept_word(cursor *c, const char *word)
{
    const size_t n = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n))
        return false;
    c->p += n;
    return true;
}

/* 'text' or "text" without escapes. */
static spt_status read_string(cursor *c, char *out, size_t cap, const char *what, spt_err *err)
{
    skip_space(c);
    const unsigned char quote = c->p < c->end ? *c->p : 0;
    if (quote != '\'' && quote != '"')
        return bad(c, err, what);
    c->p++;
    size_t n = 0;
    while (c->p < c->end && *c->p != quote) {
        if (*c->p == '\\' || *c->p < ' ' || n + 1 >= cap)
            return bad(c, err, "a string is too long or has an escape");
        out[n++] = (char)*c->p++;
    }
    if (c->p == c->end)
        return bad(c, err, "a string does not end");
    c->p++;
    out[n] = '\0';
    return SPT_OK;
}

static spt_status read_dim(cursor *c, int64_t *out, spt_err *err)
{
    int64_t v = 0;
    size_t digits = 0;
    skip_space(c);
    const bool padded = c->end - c->p > 1 && *c->p == '0'; /* no number of Python begins so */
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, digits++) {
        const int d = *c->p - '0';
        if (v > (INT64_MAX - d) / 10)
            return bad(c, err, "a dimension is too large");
        v = v * 10 + d;
    }
    if (!digits || (padded && v))
        return bad(c, err, "shape must be a tuple of integers that are not negative");
    if (c->p < c->end && *c->p == 'L') /* Python 2 */
        c->p++;
    *out = v;
    return SPT_OK;
}

static spt_status read_shape(cursor *c, struct tensor_shape *out, spt_err *err)
{
    struct tensor_shape s = {0};
    bool comma = false;
    if (!accept(c, '('))
        return bad(c, err, "shape is not a tuple");
    while (!accept(c, ')')) {
        if (s.rank && !comma)
            return bad(c, err, "shape is not a tuple");
        if (s.rank == TENSOR_MAX_RANK)
            return bad(c, err, "more than 8 dimensions");
        TRY(read_dim(c, &s.dim[s.rank], err));
        s.rank++;
        comma = accept(c, ',');
    }
    if (s.rank == 1 && !comma)
        return bad(c, err, "shape is a number, not a tuple");
    *out = s;
    return SPT_OK;
}

static spt_status read_value(cursor *c, const char *key, struct header *h, spt_err *err)
{
    bool *seen = !strcmp(key, "descr")           ? &h->has_descr
                 : !strcmp(key, "fortran_order") ? &h->has_order
                 : !strcmp(key, "shape")         ? &h->has_shape
                                                 : NULL;
    if (!seen)
        return bad(c, err, "a key other than descr, fortran_order and shape");
    if (*seen)
        return bad(c, err, "a key stands twice");
    *seen = true;
    if (seen == &h->has_shape)
        return read_shape(c, &h->shape, err);
    if (seen == &h->has_order) {
        h->fortran = accept_word(c, "True");
        if (!h->fortran && !accept_word(c, "False"))
            return bad(c, err, "fortran_order is neither True nor False");
        return SPT_OK;
    }
    if (accept(c, '[')) {
        c->p--;
        return bad(c, err, "a structured array (descr is a list), save a plain float array");
    }
    h->descr_offset = cursor_offset(c);
    return read_string(c, h->descr, sizeof h->descr, "descr is not a string", err);
}

static spt_status read_header(cursor *c, struct header *h, spt_err *err)
{
    char key[32];
    if (!accept(c, '{'))
        return bad(c, err, "not a dict");
    bool comma = true;
    while (!accept(c, '}')) {
        if (!comma)
            return bad(c, err, "',' or '}' expected");
        TRY(read_string(c, key, sizeof key, "a key is not a string", err));
        if (!accept(c, ':'))
            return bad(c, err, "':' expected");
        TRY(read_value(c, key, h, err));
        comma = accept(c, ',');
    }
    skip_space(c);
    if (c->p < c->end)
        return bad(c, err, "text behind the dict");
    if (!h->has_descr || !h->has_order || !h->has_shape)
        return bad(c, err, "descr, fortran_order or shape is missing");
    return SPT_OK;
}

static const char *why_not(char kind)
{
    switch (kind) {
    case 'O':
        return "Python objects (pickled; never read)";
    case 'U':
    case 'S':
    case 'a':
        return "strings, not numbers";
    case 'c':
        return "complex numbers";
    case 'V':
        return "raw bytes; if they are bfloat16, say so with --npy-bf16";
    case 'M':
    case 'm':
        return "dates or times";
    default:
        return "not a supported kind of number";
    }
}

/* '<f4', '>i2', '=u8', '|b1': order, kind, bytes. */
static spt_status set_dtype(struct npy *f, const struct header *h, const struct store_opts *opts,
                            spt_err *err)
{
    const char *d = h->descr;
    const size_t n = strlen(d);
    char name[8];
    f->swap = d[0] == '>';
    if ((!strcmp(d, "|V2") || !strcmp(d, "<V2")) && opts && opts->npy_bf16) {
        f->dtype = DT_BF16;
        return SPT_OK;
    }
    if (n == 3 && strchr("<>=|", d[0])) {
        snprintf(name, sizeof name, "<%s", d + 1);
        if (d[0] != '|' && dtype_from_npy_descr(name, n, &f->dtype))
            return SPT_OK;
        snprintf(name, sizeof name, "|%s", d + 1);
        if (dtype_from_npy_descr(name, n, &f->dtype))
            return SPT_OK;
    }
    const size_t kind = n && strchr("<>=|", d[0]) ? 1 : 0;
    return err_at(err, SPT_E_FORMAT, h->descr_offset,
                  "NumPy header: descr '%s' is %s (byte %zu); save the array as float32", d,
                  why_not(d[kind]), h->descr_offset);
}

static spt_status parse(struct npy *f, const struct store_opts *opts, spt_err *err)
{
    cursor c = cursor_make(f->bytes.p, f->bytes.size);
    struct header h = {0};
    const unsigned char *m = cursor_take(&c, MAGIC);
    const uint8_t major = cursor_u8(&c), minor = cursor_u8(&c);
    const uint32_t len = major == 1 ? cursor_u16le(&c) : cursor_u32le(&c);
    if (!m || memcmp(m, magic, MAGIC))
        return err_at(err, SPT_E_FORMAT, 0, "not a NumPy .npy file (no magic number)");
    if (!cursor_ok(&c))
        return err_at(err, SPT_E_FORMAT, f->bytes.size, "NumPy file cut short at byte %zu",
                      f->bytes.size);
    if (major < 1 || major > 3 || minor != 0)
        return err_at(err, SPT_E_FORMAT, MAGIC, "NumPy format version %u.%u is not 1.0, 2.0 or 3.0",
                      major, minor);
    if (len > NPY_MAX_HEADER)
        return err_at(err, SPT_E_FORMAT, 8, "NumPy header of %u bytes, more than %d", len,
                      NPY_MAX_HEADER);
    const unsigned char *text = cursor_take(&c, len);
    if (!text)
        return err_at(err, SPT_E_FORMAT, f->bytes.size,
                      "NumPy header of %u bytes, the file ends at byte %zu", len, f->bytes.size);
    f->data = cursor_offset(&c);
    cursor hc = c;
    hc.p = text;
    hc.end = text + len;
    TRY(read_header(&hc, &h, err));
    TRY(set_dtype(f, &h, opts, err));
    size_t bytes;
    const spt_status st = tensor_size(f->dtype, &h.shape, &f->elements, &bytes, err);
    if (st)
        return err_wrap(err, st, "NumPy header");
    const size_t have = cursor_left(&c);
    if (bytes != have) {
        char t[SHAPE_TEXT];
        return err_at(err, SPT_E_FORMAT, f->bytes.size,
                      "shape %s of '%s' needs %zu bytes of data, the file has %zu (%s at byte %zu)",
                      shape_text(&h.shape, t), h.descr, bytes, have,
                      have < bytes ? "cut short" : "trailing bytes",
                      have < bytes ? f->bytes.size : f->data + bytes);
    }
    f->shape = h.shape;
    f->size = dtype_size(f->dtype);
    f->fortran = h.fortran && h.shape.rank > 1;
    f->swap = f->swap && f->size > 1;
    return SPT_OK;
}

/* --- data --------------------------------------------------------------------------------- */

static void copy_element(unsigned char *dst, const unsigned char *src, size_t size, bool swap)
{
    if (!swap) {
        memcpy(dst, src, size);
        return;
    }
    for (size_t i = 0; i < size; i++)
        dst[i] = src[size - 1 - i];
}

/* Walks the output in row-major order; in Fortran order the stride of dimension i is the product
 * of the dimensions before it. */
static void decode(const struct npy *f, unsigned char *out)
{
    size_t stride[TENSOR_MAX_RANK] = {0}, index[TENSOR_MAX_RANK] = {0};
    const int rank = f->shape.rank;
    const unsigned char *data = f->bytes.p + f->data;
    size_t step = 1;
    for (int i = 0; i < rank; i++) {
        const int d = f->fortran ? i : rank - 1 - i;
        stride[d] = step;
        step *= (size_t)f->shape.dim[d]; /* at most f->elements, which was checked */
    }
    size_t at = 0;
    for (size_t i = 0; i < f->elements; i++) {
        copy_element(out + i * f->size, data + at * f->size, f->size, f->swap);
        for (int d = rank - 1; d >= 0; d--) {
            at += stride[d];
            if (++index[d] < (size_t)f->shape.dim[d])
                break;
            at -= stride[d] * (size_t)f->shape.dim[d];
            index[d] = 0;
        }
    }
}

static spt_status npy_load(void *impl, size_t i, struct store_data *out, spt_err *err)
{
    struct npy *f = impl;
    (void)i;
    out->view.data = f->bytes.p + f->data;
    if ((!f->fortran && !f->swap) || !f->elements)
        return SPT_OK;
    out->owned = mem_alloc_aligned(f->elements, f->size);
    if (!out->owned)
        return err_nomem(err, f->elements * f->size);
    decode(f, out->owned);
    out->view.data = out->owned;
    return SPT_OK;
}

static void npy_drop(void *impl, size_t i)
{
    struct npy *f = impl;
    (void)i;
    store_bytes_drop(&f->bytes, f->data, f->elements * f->size);
}

static void npy_free(void *impl)
{
    struct npy *f = impl;
    if (!f)
        return;
    store_bytes_release(&f->bytes);
    mem_free(f);
}

static const struct store_format format = {"npy", npy_load, npy_drop, npy_free, NULL};

static spt_status parse_file(void *object, store *s, const struct store_opts *opts, spt_err *err)
{
    struct npy *f = object;
    const char *name = path_base(store_path(s));
    const size_t len = strlen(name) - (path_has_suffix(name, ".npy") ? 4 : 0);
    TRY(parse(f, opts, err));
    return store_add(s, name, len, f->dtype, &f->shape, err);
}

static const struct store_file file = {&format, sizeof(struct npy), parse_file, false};

spt_status npy_open(const char *path, const struct store_opts *opts, store **out, spt_err *err)
{
    return store_file_open(&file, path, opts, out, err);
}

spt_status npy_open_mem(const void *bytes, size_t size, const struct store_opts *opts, store **out,
                        spt_err *err)
{
    return store_file_open_mem(&file, bytes, size, opts, out, err);
}

bool npy_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size)
{
    (void)path;
    (void)size;
    return bytes && n >= MAGIC && !memcmp(bytes, magic, MAGIC);
}

/* --- writing ------------------------------------------------------------------------------ */

/* Exactly as NumPy writes it: "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }", then
 * spaces and '\n' up to a multiple of 64. */
static spt_status put_header(buf *out, const struct tensor_view *v, spt_err *err)
{
    buf dict;
    buf_init(&dict, NPY_MAX_HEADER);
    buf_addf(&dict, "{'descr': '%s', 'fortran_order': False, 'shape': (",
             dtype_npy_descr(v->dtype));
    for (int i = 0; i < v->shape.rank; i++)
        buf_addf(&dict, "%s%lld", i ? ", " : "", (long long)v->shape.dim[i]);
    buf_adds(&dict, v->shape.rank == 1 ? ",), }" : "), }");
    /* NumPy leaves room for the first dimension to grow to 21 digits. */
    char first[32];
    const int digits = v->shape.rank
                           ? snprintf(first, sizeof first, "%lld", (long long)v->shape.dim[0])
                           : GROWTH_DIGITS;
    for (int i = digits; i < GROWTH_DIGITS; i++)
        buf_addc(&dict, ' ');
    const size_t used = MAGIC + 4 + dict.len + 1;
    for (size_t i = used; i % ALIGN; i++)
        buf_addc(&dict, ' ');
    buf_addc(&dict, '\n');
    buf_add(out, magic, MAGIC);
    buf_add(out, "\1\0", 2);
    buf_addc(out, (char)(dict.len & 255));
    buf_addc(out, (char)(dict.len >> 8));
    buf_add(out, buf_str(&dict), dict.len);
    const spt_status st = buf_status(&dict, "the NumPy header", err);
    buf_release(&dict);
    return st ? st : buf_status(out, "the NumPy header", err);
}

static spt_status check_writable(const struct tensor_view *v, size_t *bytes, spt_err *err)
{
    size_t elements;
    if (!dtype_npy_descr(v->dtype)[0])
        return err_set(err, SPT_E_USAGE, "NumPy has no name for %s; write float32",
                       dtype_name(v->dtype));
    return tensor_size(v->dtype, &v->shape, &elements, bytes, err);
}

spt_status npy_encode(const struct tensor_view *v, buf *out, spt_err *err)
{
    size_t bytes;
    TRY(check_writable(v, &bytes, err));
    TRY(put_header(out, v, err));
    buf_add(out, v->data, bytes);
    return buf_status(out, "a NumPy file", err);
}

spt_status npy_write(const char *path, const struct tensor_view *v, spt_err *err)
{
    size_t bytes;
    spt_status st = check_writable(v, &bytes, err);
    if (st)
        return err_wrap(err, st, "%s", path);
    buf head;
    buf_init(&head, NPY_MAX_HEADER);
    fs_writer *w = NULL;
    st = put_header(&head, v, err);
    if (!st)
        st = fs_create(path, &w, err);
    if (!st)
        st = fs_write(w, buf_str(&head), head.len, err);
    if (!st && bytes)
        st = fs_write(w, v->data, bytes, err);
    buf_release(&head);
    if (st) {
        fs_abort(w);
        return st;
    }
    return fs_commit(w, err);
}
