/* `.zarray`: the metadata of a zarr v2 array, read and written. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "store/zarr.h"
#include "text/json.h"


/* What was seen so far; `seen` has one bit per key. */
enum key { K_CHUNKS, K_COMPRESSOR, K_DTYPE, K_FILL, K_FILTERS, K_ORDER, K_SHAPE, K_FORMAT, K_SEP };
static const char *const key_names[] = {"chunks",  "compressor", "dtype",
                                        "fill_value", "filters", "order",
                                        "shape",   "zarr_format", "dimension_separator"};
enum { KEYS = sizeof key_names / sizeof key_names[0] };

struct parsing {
    json_reader r;
    zarr_array a;
    unsigned seen;
    struct json_event fill; /* kept until the dtype is known */
    int64_t format;
};

const char *zarr_dtype_text(enum dtype t)
{
    return t == DT_BF16 ? "bfloat16" : dtype_npy_descr(t);
}

static spt_status next_value(struct parsing *p, enum json_kind kind, const char *what,
                             struct json_event *ev, spt_err *err)
{
    TRY(json_next(&p->r, ev, err));
    if (ev->kind != kind)
        return json_error(&p->r, ev->offset, err, "%s is %s, not %s", what,
                          json_kind_name(ev->kind), json_kind_name(kind));
    return SPT_OK;
}

static spt_status parse_dims(struct parsing *p, const char *what, struct tensor_shape *out,
                             spt_err *err)
{
    struct tensor_shape s = {0};
    struct json_event item;
    bool more;
    TRY(json_enter_array(&p->r, err));
    for (;;) {
        TRY(json_next_item(&p->r, &more, &item, err));
        if (!more)
            break;
        int64_t v = 0;
        if (item.kind != JSON_NUMBER || json_to_i64(&item, &v, NULL) || v < 0)
            return json_error(&p->r, item.offset, err, "%s holds %.*s, not a size", what,
                              (int)(item.len < 40 ? item.len : 40), item.text);
        if (s.rank == TENSOR_MAX_RANK)
            return json_error(&p->r, item.offset, err, "%s has more than %d dimensions", what,
                              TENSOR_MAX_RANK);
        s.dim[s.rank++] = v;
    }
    *out = s;
    return SPT_OK;
}

static spt_status parse_compressor(struct parsing *p, spt_err *err)
{
    struct json_event ev, key;
    bool more, known = false;
    TRY(json_next(&p->r, &ev, err));
    if (ev.kind == JSON_NULL) {
        p->a.codec = ZARR_RAW;
        return SPT_OK;
    }
    if (ev.kind != JSON_OBJECT)
        return json_error(&p->r, ev.offset, err, "compressor is neither null nor an object");
    for (;;) {
        TRY(json_next_key(&p->r, &more, &key, err));
        if (!more)
            break;
        if (!json_is(&key, "id")) {
            TRY(json_skip(&p->r, err));
            continue;
        }
        struct json_event id;
        TRY(next_value(p, JSON_STRING, "compressor id", &id, err));
        known = true;
        if (json_is(&id, "gzip"))
            p->a.codec = ZARR_GZIP;
        else if (json_is(&id, "zlib"))
            p->a.codec = ZARR_ZLIB;
        else
            return json_error(&p->r, id.offset, err,
                              "compressor \"%.*s\" is not supported (gzip, zlib and none are)",
                              (int)(id.len < 40 ? id.len : 40), id.text);
    }
    return known ? SPT_OK : json_error(&p->r, ev.offset, err, "compressor has no id");
}

static spt_status parse_dtype(struct parsing *p, spt_err *err)
{
    struct json_event ev;
    TRY(next_value(p, JSON_STRING, "dtype", &ev, err));
    if (json_is(&ev, "bfloat16")) {
        p->a.dtype = DT_BF16;
        return SPT_OK;
    }
    char name[16];
    const size_t len = ev.len < sizeof name ? json_unescape(&ev, name) : 0;
    if (len && dtype_from_npy_descr(name, len, &p->a.dtype))
        return SPT_OK;
    return json_error(&p->r, ev.offset, err, "dtype \"%.*s\" is not supported%s",
                      (int)(ev.len < 40 ? ev.len : 40), ev.text,
                      len && name[0] == '>' ? " (big endian)" : "");
}

static spt_status parse_filters(struct parsing *p, spt_err *err)
{
    struct json_event ev, item;
    bool more = false;
    TRY(json_next(&p->r, &ev, err));
    if (ev.kind == JSON_NULL)
        return SPT_OK;
    if (ev.kind == JSON_ARRAY)
        TRY(json_next_item(&p->r, &more, &item, err));
    if (ev.kind != JSON_ARRAY || more)
        return json_error(&p->r, ev.offset, err, "filters are not supported");
    return SPT_OK;
}

static spt_status parse_key(struct parsing *p, enum key k, spt_err *err)
{
    struct json_event ev;
    /* never: every key has its case */
    switch (k) {
    case K_CHUNKS:
        return parse_dims(p, "chunks", &p->a.chunk, err);
    case K_SHAPE:
        return parse_dims(p, "shape", &p->a.shape, err);
    case K_COMPRESSOR:
        return parse_compressor(p, err);
    case K_DTYPE:
        return parse_dtype(p, err);
    case K_FILL:
        TRY(json_next(&p->r, &p->fill, err));
        if (p->fill.kind == JSON_OBJECT || p->fill.kind == JSON_ARRAY)
            return json_skip_rest(&p->r, &p->fill, err);
        return SPT_OK;
    case K_FILTERS:
        return parse_filters(p, err);
    case K_ORDER:
        TRY(next_value(p, JSON_STRING, "order", &ev, err));
        if (!json_is(&ev, "C"))
            return json_error(&p->r, ev.offset, err, "order \"%.*s\" is not supported (C is)",
                              (int)(ev.len < 8 ? ev.len : 8), ev.text);
        return SPT_OK;
    case K_FORMAT:
        TRY(json_read_i64(&p->r, &p->format, err));
        return SPT_OK;
    case K_SEP:
        TRY(next_value(p, JSON_STRING, "dimension_separator", &ev, err));
        p->a.slash = json_is(&ev, "/");
        if (!p->a.slash && !json_is(&ev, "."))
            return json_error(&p->r, ev.offset, err, "dimension_separator is neither . nor /");
        return SPT_OK;
    }
    return SPT_OK;
}

/* One element of the array's type from a JSON number. Integers wrap nowhere: what does not fit is
 * refused. */
static bool fill_number(enum dtype t, double v, int64_t i, bool is_int, unsigned char out[8])
{
    const float f = (float)v;
    const uint16_t half = t == DT_BF16 ? f32_to_bf16(f) : f32_to_f16(f);
    switch (t) {
    case DT_F32:
        memcpy(out, &f, sizeof f);
        return true;
    case DT_F64:
        memcpy(out, &v, sizeof v);
        return true;
    case DT_F16:
    case DT_BF16:
        memcpy(out, &half, sizeof half);
        return true;
    default:
        break;
    }
    static const struct {
        enum dtype t;
        int64_t min, max;
    } range[] = {{DT_I8, INT8_MIN, INT8_MAX},    {DT_U8, 0, UINT8_MAX},
                 {DT_I16, INT16_MIN, INT16_MAX}, {DT_U16, 0, UINT16_MAX},
                 {DT_I32, INT32_MIN, INT32_MAX}, {DT_U32, 0, UINT32_MAX},
                 {DT_I64, INT64_MIN, INT64_MAX}, {DT_U64, 0, INT64_MAX},
                 {DT_BOOL, 0, 1}};
    for (size_t k = 0; k < sizeof range / sizeof range[0]; k++)
        if (range[k].t == t && is_int && i >= range[k].min && i <= range[k].max) {
            memcpy(out, &i, dtype_size(t)); /* little endian */
            return true;
        }
    return false;
}

static spt_status decode_fill(struct parsing *p, spt_err *err)
{
    const struct json_event *ev = &p->fill;
    double v = 0;
    int64_t i = 0;
    bool is_int = false, ok = true;
    switch (ev->kind) {
    case JSON_NULL:
        return SPT_OK;
    case JSON_NUMBER:
        is_int = json_to_i64(ev, &i, NULL) == SPT_OK;
        ok = json_to_f64(ev, &v, NULL) == SPT_OK;
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        is_int = true;
        i = ev->kind == JSON_TRUE;
        v = (double)i;
        break;
    case JSON_STRING:
        ok = dtype_is_float(p->a.dtype);
        if (json_is(ev, "NaN"))
            v = (double)NAN;
        else if (json_is(ev, "Infinity"))
            v = (double)INFINITY;
        else if (json_is(ev, "-Infinity"))
            v = -(double)INFINITY;
        else
            ok = false;
        break;
    default:
        ok = false;
    }
    p->a.fill_explicit = true;
    if (!ok || !fill_number(p->a.dtype, v, i, is_int, p->a.fill))
        return json_error(&p->r, ev->offset, err, "fill_value does not fit dtype %s",
                          dtype_name(p->a.dtype));
    return SPT_OK;
}

/* Sizes: tensor_size() does all arithmetic on dimensions. */
static spt_status measure(zarr_array *a, spt_err *err)
{
    char t1[SHAPE_TEXT], t2[SHAPE_TEXT];
    size_t n;
    if (a->shape.rank != a->chunk.rank)
        return err_set(err, SPT_E_FORMAT, "shape %s and chunks %s have different ranks",
                       shape_text(&a->shape, t1), shape_text(&a->chunk, t2));
    TRY(tensor_size(a->dtype, &a->shape, &n, &a->bytes, err));
    for (int i = 0; i < a->chunk.rank; i++)
        if (a->chunk.dim[i] == 0)
            return err_set(err, SPT_E_FORMAT, "chunks %s hold a zero", shape_text(&a->chunk, t2));
    TRY(tensor_size(a->dtype, &a->chunk, &n, &a->chunk_bytes, err));
    if (a->chunk_bytes > ZARR_MAX_CHUNK)
        return err_set(err, SPT_E_FORMAT, "chunks %s take %zu bytes, more than the limit of %zu",
                       shape_text(&a->chunk, t2), a->chunk_bytes, ZARR_MAX_CHUNK);
    /* At most one chunk per element, so the product cannot overflow unless a dimension is 0. */
    a->chunk_count = a->bytes == 0 ? 0 : 1;
    for (int i = 0; a->bytes && i < a->shape.rank; i++)
        a->chunk_count *= (uint64_t)((a->shape.dim[i] - 1) / a->chunk.dim[i] + 1);
    if (a->chunk_count > ZARR_MAX_CHUNKS)
        return err_set(err, SPT_E_FORMAT, "shape %s in chunks of %s makes more than %d files",
                       shape_text(&a->shape, t1), shape_text(&a->chunk, t2), ZARR_MAX_CHUNKS);
    return SPT_OK;
}

static spt_status parse_all(struct parsing *p, spt_err *err)
{
    struct json_event key;
    bool more;
    TRY(json_enter_object(&p->r, err));
    for (;;) {
        TRY(json_next_key(&p->r, &more, &key, err));
        if (!more)
            break;
        int k = 0;
        while (k < KEYS && !json_is(&key, key_names[k]))
            k++;
        if (k == KEYS) {
            TRY(json_skip(&p->r, err)); /* zarr v2: other keys are to be ignored */
            continue;
        }
        TRY(parse_key(p, (enum key)k, err));
        p->seen |= 1u << k;
    }
    TRY(json_finish(&p->r, err));
    if (p->seen & 1u << K_FORMAT && p->format != 2)
        return err_set(err, SPT_E_FORMAT, "zarr format %lld is not supported (2 is)",
                       (long long)p->format);
    for (int k = 0; k < K_SEP; k++)
        if (!(p->seen & 1u << k))
            return err_set(err, SPT_E_FORMAT, "\"%s\" is missing", key_names[k]);
    TRY(decode_fill(p, err));
    return measure(&p->a, err);
}

spt_status zarr_parse(const char *json, size_t size, const char *what, zarr_array *out,
                      spt_err *err)
{
    struct parsing p = {.fill = {.kind = JSON_NULL}};
    json_open(&p.r, json, size, 0);
    spt_status st = parse_all(&p, err);
    json_close(&p.r);
    if (st)
        return err_wrap(err, st, "%s", what);
    *out = p.a;
    return SPT_OK;
}

spt_status zarr_open(const char *dir, zarr_array *out, spt_err *err)
{
    buf path;
    char *text = NULL;
    size_t size = 0;
    buf_init(&path, 65536);
    spt_status st = path_join(&path, dir, ".zarray", err);
    if (!st)
        st = fs_read_all(buf_str(&path), ZARR_MAX_METADATA, &text, &size, err);
    if (!st)
        st = zarr_parse(text, size, buf_str(&path), out, err);
    mem_free(text);
    buf_release(&path);
    return st;
}

static void put_dims(buf *out, const struct tensor_shape *s)
{
    for (int i = 0; i < s->rank; i++)
        buf_addf(out, "%s%lld", i ? "," : "", (long long)s->dim[i]);
}

/* Byte for byte what tensorstore writes: compact, keys sorted. */
spt_status zarr_metadata(const struct tensor_view *v, const struct tensor_shape *chunk, buf *out,
                         spt_err *err)
{
    buf_adds(out, "{\"chunks\":[");
    put_dims(out, chunk);
    buf_addf(out,
             "],\"compressor\":{\"id\":\"gzip\",\"level\":1},\"dimension_separator\":\".\","
             "\"dtype\":\"%s\",\"fill_value\":null,\"filters\":null,\"order\":\"C\",\"shape\":[",
             zarr_dtype_text(v->dtype));
    put_dims(out, &v->shape);
    buf_adds(out, "],\"zarr_format\":2}");
    return buf_status(out, ".zarray", err);
}
