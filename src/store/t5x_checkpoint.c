/* Reading T5X checkpoints (spec/t5x.md 7).
 *
 * The file `checkpoint` is one msgpack map: {"version": 3, "optimizer": {"state": ..., "target": ...}};
 * nested maps are the parameter tree, and a leaf is one of
 *     nil                              no optimiser state for this parameter
 *     extension 1 or 3                 an array in place: [shape, dtype, bytes]
 *     a map with __msgpack_chunked_array__   an array cut into pieces of 2^30 bytes
 *     a map with driver, kvstore, metadata   an array in its own zarr directory
 *     a number, a bool, a string
 *
 * The file is hostile. It is walked twice: first to check everything and to count, then to fill a
 * table of exactly that size. Counts and name bytes are bounded by the size of the file, so that a
 * thousand bytes of nested prefix cannot be multiplied by a million tiny leaves. Arrays stay in the
 * mapped file. */
#include "store/t5x_checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "store/t5x_internal.h"
#include "store/zarr.h"

enum source { FROM_NIL, FROM_ARRAY, FROM_PIECES, FROM_ZARR, FROM_NATIVE };

struct leaf {
    struct t5x_leaf pub;
    enum source source;
    size_t offset;         /* of the value in the msgpack file */
    const char *zarr_path; /* in the file, not terminated */
    uint32_t zarr_path_len;
};

struct t5x_reader {
    fs_mapping map;
    const unsigned char *bytes;
    size_t size;
    char *dir; /* NULL: no zarr directories */
    struct leaf *leaves;
    size_t count;
    char *names;
    int64_t version, step;
};

/* --- arrays in the msgpack file --- */

spt_status t5x_parse_array(const msgpack_token *ext, struct tensor_view *out, spt_err *err)
{
    if (ext->type != MP_EXT || (ext->ext != 1 && ext->ext != 3))
        return err_set(err, SPT_E_FORMAT, "MessagePack extension %d is not an array%s", ext->ext,
                       ext->ext == 2 ? " (complex numbers are not supported)" : "");
    msgpack_reader r = msgpack_read(ext->data, ext->size);
    msgpack_token t;
    struct tensor_view v = {0};
    if (!msgpack_next(&r, &t) || t.type != MP_ARRAY || t.count != 3)
        msgpack_fail(&r, "an array leaf that is not [shape, dtype, bytes]");
    if (msgpack_next(&r, &t) && (t.type != MP_ARRAY || t.count > TENSOR_MAX_RANK))
        msgpack_fail(&r, "a shape that is not an array of at most 8 sizes");
    const uint32_t rank = msgpack_ok(&r) ? t.count : 0;
    for (uint32_t i = 0; i < rank && msgpack_next(&r, &t); i++) {
        if (!msgpack_is_uint(&t, INT64_MAX))
            msgpack_fail(&r, "a shape with something that is not a size");
        else
            v.shape.dim[v.shape.rank++] = (int64_t)t.u;
    }
    if (msgpack_next(&r, &t) &&
        (t.type != MP_STR || !dtype_from_name((const char *)t.data, t.size, &v.dtype)))
        msgpack_fail(&r, "an unsupported dtype");
    if (msgpack_next(&r, &t) && t.type != MP_BIN)
        msgpack_fail(&r, "an array without bytes");
    TRY(msgpack_status(&r, "array", err));
    size_t n, bytes;
    char text[SHAPE_TEXT];
    TRY(tensor_size(v.dtype, &v.shape, &n, &bytes, err));
    if (bytes != t.size)
        return err_set(err, SPT_E_FORMAT, "shape %s of %s needs %zu bytes, the array has %u",
                       shape_text(&v.shape, text), dtype_name(v.dtype), bytes, t.size);
    v.data = t.data;
    *out = v;
    return SPT_OK;
}

/* --- maps that are leaves --- */

enum map_kind { MAP_TREE, MAP_SPEC, MAP_PIECES };

/* Looks ahead at the keys of a map that was just opened. */
static enum map_kind classify(const msgpack_reader *at, uint32_t count)
{
    msgpack_reader r = *at;
    msgpack_token key, value;
    unsigned spec = 0;
    bool pieces = false;
    /* never: read_top has been over every byte of the file */
    for (uint32_t i = 0; i < count && msgpack_next(&r, &key) && msgpack_skip(&r, &key); i++) {
        spec |= msgpack_str_is(&key, "driver") ? 1u : 0;
        spec |= msgpack_str_is(&key, "kvstore") ? 2u : 0;
        spec |= msgpack_str_is(&key, "metadata") ? 4u : 0;
        pieces |= msgpack_str_is(&key, "__msgpack_chunked_array__");
        /* never: read_top has been over every byte of the file */
        if (!msgpack_next(&r, &value) || !msgpack_skip(&r, &value))
            break;
    }
    return spec == 7 ? MAP_SPEC : pieces ? MAP_PIECES : MAP_TREE;
}

static bool dims_from(msgpack_reader *r, const msgpack_token *t, struct tensor_shape *out)
{
    struct tensor_shape s = {0};
    msgpack_token d;
    if (t->type != MP_ARRAY || t->count > TENSOR_MAX_RANK)
        return false;
    for (uint32_t i = 0; i < t->count; i++) {
        /* never: read_top has been over every byte of the file */
        if (!msgpack_next(r, &d) || !msgpack_is_uint(&d, INT64_MAX))
            return false;
        s.dim[s.rank++] = (int64_t)d.u;
    }
    *out = s;
    return true;
}

struct spec {
    msgpack_token path; /* type MP_STR when seen */
    bool has_shape, has_dtype;
    struct tensor_shape shape;
    enum dtype dtype;
};

static bool spec_dtype(const msgpack_token *t, struct spec *s)
{
    const char *text = (const char *)t->data;
    if (t->type != MP_STR)
        return false;
    s->has_dtype = dtype_from_name(text, t->size, &s->dtype) ||
                   dtype_from_npy_descr(text, t->size, &s->dtype);
    return true; /* the array's own metadata decides */
}

/* One level of a spec: the map itself, its kvstore, its metadata. */
static bool spec_level(msgpack_reader *r, uint32_t count, int depth, struct spec *s)
{
    msgpack_token key, v;
    for (uint32_t i = 0; i < count; i++) {
        /* never: read_top has been over every byte of the file */
        if (!msgpack_next(r, &key) || key.type != MP_STR || !msgpack_next(r, &v))
            return false;
        if (msgpack_str_is(&key, "driver") && depth == 0 && !msgpack_str_is(&v, "zarr")) {
            msgpack_fail(r, "an array whose tensorstore driver is not \"zarr\"");
            return false;
        }
        if (depth == 0 && v.type == MP_MAP &&
            (msgpack_str_is(&key, "kvstore") || msgpack_str_is(&key, "metadata"))) {
            if (!spec_level(r, v.count, 1, s))
                return false;
        } else if (msgpack_str_is(&key, "path") && v.type == MP_STR) {
            s->path = v;
        } else if (msgpack_str_is(&key, "shape")) {
            if (!dims_from(r, &v, &s->shape))
                return false;
            s->has_shape = true;
        } else if (msgpack_str_is(&key, "dtype")) {
            if (!spec_dtype(&v, s))
                return false;
        /* never: read_top has been over every byte of the file */
        } else if (!msgpack_skip(r, &v)) {
            return false;
        }
    }
    return true;
}

/* A relative path that stays inside the checkpoint; a '/' at its end is dropped. */
static bool path_inside(const unsigned char *p, uint32_t *len)
{
    while (*len && p[*len - 1] == '/')
        --*len;
    if (*len == 0 || *len > 4096 || memchr(p, 0, *len))
        return false;
    for (uint32_t i = 0, start = 0; i <= *len; i++) {
        if (i < *len && p[i] != '/')
            continue;
        const uint32_t n = i - start;
        if (n == 0 || (n == 1 && p[start] == '.') ||
            (n == 2 && p[start] == '.' && p[start + 1] == '.'))
            return false;
        start = i + 1;
    }
    return true;
}


/* Pieces of a chunked array: {"shape": {"0": d0, ...}, "chunks": {"0": array, ...}}. Keys may come in
 * any order. Calls fn for each piece in order when fn is given. */
struct pieces {
    struct tensor_view view; /* data NULL */
    size_t bytes, elements;
    unsigned char *out; /* NULL: check only */
};

static bool index_key(const msgpack_token *t, uint32_t max, uint32_t *out)
{
    uint32_t v = 0;
    if (t->type != MP_STR || t->size == 0 || t->size > 4 || (t->size > 1 && t->data[0] == '0'))
        return false;
    for (uint32_t i = 0; i < t->size; i++) {
        if (t->data[i] < '0' || t->data[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(t->data[i] - '0');
    }
    *out = v;
    return v < max;
}

static bool pieces_shape(msgpack_reader *r, const msgpack_token *map, struct pieces *p)
{
    unsigned seen = 0;
    if (map->type != MP_MAP || map->count > TENSOR_MAX_RANK)
        return false;
    for (uint32_t i = 0; i < map->count; i++) {
        msgpack_token key, v;
        uint32_t at;
        /* never: read_top has been over every byte of the file */
        if (!msgpack_next(r, &key) || !index_key(&key, map->count, &at) || !msgpack_next(r, &v) ||
            !msgpack_is_uint(&v, INT64_MAX))
            return false;
        p->view.shape.dim[at] = (int64_t)v.u;
        seen |= 1u << at;
    }
    p->view.shape.rank = (int)map->count;
    return seen == (1u << map->count) - 1;
}

static spt_status pieces_chunks(msgpack_reader *r, const msgpack_token *map, struct pieces *p,
                                spt_err *err)
{
    if (map->type != MP_MAP || map->count == 0 || map->count > T5X_MAX_PIECES)
        return err_set(err, SPT_E_FORMAT, "chunked array: not a map of 1 to %d pieces", T5X_MAX_PIECES);
    msgpack_token *piece = mem_zalloc(map->count, sizeof *piece);
    if (!piece)
        return err_nomem(err, map->count * sizeof *piece);
    spt_status st = SPT_OK;
    for (uint32_t i = 0; !st && i < map->count; i++) {
        msgpack_token key, v;
        uint32_t at = 0;
        /* never: read_top has been over every byte of the file */
        if (!msgpack_next(r, &key) || !index_key(&key, map->count, &at) || !msgpack_next(r, &v) ||
            v.type != MP_EXT || piece[at].data)
            st = err_set(err, SPT_E_FORMAT, "chunked array: piece %u is not an array", i);
        else
            piece[at] = v;
    }
    size_t at = 0;
    for (uint32_t i = 0; !st && i < map->count; i++) {
        struct tensor_view v;
        size_t n, bytes;
        st = t5x_parse_array(&piece[i], &v, err);
        if (!st)
            st = tensor_size(v.dtype, &v.shape, &n, &bytes, err);
        if (!st && i && v.dtype != p->view.dtype)
            st = err_set(err, SPT_E_FORMAT, "chunked array: pieces of different dtypes");
        if (!st && p->out && bytes)
            memcpy(p->out + at, v.data, bytes);
        if (!st) {
            p->view.dtype = v.dtype;
            at += bytes;
        }
    }
    p->bytes = at;
    mem_free(piece);
    return st;
}

static spt_status read_pieces(msgpack_reader *r, uint32_t count, struct pieces *p, spt_err *err)
{
    bool shape = false, chunks = false;
    msgpack_token key, v;
    /* never: read_top has been over every byte of the file */
    for (uint32_t i = 0; i < count && msgpack_next(r, &key) && msgpack_next(r, &v); i++) {
        if (msgpack_str_is(&key, "shape")) {
            if (shape || !pieces_shape(r, &v, p))
                return err_set(err, SPT_E_FORMAT, "chunked array: bad shape");
            shape = true;
        } else if (msgpack_str_is(&key, "chunks")) {
            if (chunks)
                return err_set(err, SPT_E_FORMAT, "chunked array: chunks given twice");
            TRY(pieces_chunks(r, &v, p, err));
            chunks = true;
        /* never: read_top has been over every byte of the file */
        } else if (!msgpack_skip(r, &v)) {
            break;
        }
    }
    /* never: read_top has been over every byte of the file */
    if (!msgpack_ok(r) || !shape || !chunks)
        return err_set(err, SPT_E_FORMAT, "chunked array without shape or chunks");
    size_t bytes;
    TRY(tensor_size(p->view.dtype, &p->view.shape, &p->elements, &bytes, err));
    if (bytes != p->bytes)
        return err_set(err, SPT_E_FORMAT, "chunked array: shape needs %zu bytes, pieces have %zu",
                       bytes, p->bytes);
    return SPT_OK;
}

/* --- the walk --- */

struct walk {
    t5x_reader *t;
    msgpack_reader r;
    size_t base;   /* offset of r's first byte in the file */
    buf path;
    bool fill;     /* second pass */
    size_t count;  /* leaves so far */
    size_t name_bytes;
    size_t max_count, max_name_bytes;
};

static spt_status leaf_array(struct walk *w, const msgpack_token *t, struct leaf *l, spt_err *err)
{
    struct tensor_view v;
    TRY(t5x_parse_array(t, &v, err));
    l->source = FROM_ARRAY;
    l->pub.dtype = v.dtype;
    l->pub.shape = v.shape;
    return SPT_OK;
}

static spt_status leaf_spec(struct walk *w, const msgpack_token *t, struct leaf *l, spt_err *err)
{
    struct spec s = {.dtype = DT_F32};
    if (!spec_level(&w->r, t->count, 0, &s)) {
        msgpack_fail(&w->r, "a malformed tensorstore spec");
        return SPT_OK; /* reported by msgpack_status */
    }
    if (s.path.type != MP_STR)
        return err_set(err, SPT_E_FORMAT, "tensorstore spec without a path");
    if (!path_inside(s.path.data, &s.path.size))
        return err_set(err, SPT_E_FORMAT, "tensorstore spec: path \"%.*s\" leaves the checkpoint",
                       (int)(s.path.size < 80 ? s.path.size : 80), (const char *)s.path.data);
    size_t n, bytes;
    if (s.has_shape)
        TRY(tensor_size(s.dtype, &s.shape, &n, &bytes, err));
    l->source = FROM_ZARR;
    l->pub.in_zarr = true;
    l->pub.dtype = s.dtype;
    l->pub.shape = s.shape;
    l->pub.shape.rank = s.has_shape ? s.shape.rank : -1; /* until .zarray says */
    l->zarr_path = (const char *)s.path.data;
    l->zarr_path_len = s.path.size;
    return SPT_OK;
}

static spt_status leaf_pieces(struct walk *w, const msgpack_token *t, struct leaf *l, spt_err *err)
{
    struct pieces p = {0};
    TRY(read_pieces(&w->r, t->count, &p, err));
    l->source = FROM_PIECES;
    l->pub.dtype = p.view.dtype;
    l->pub.shape = p.view.shape;
    return SPT_OK;
}

static spt_status leaf_native(struct walk *w, const msgpack_token *t, struct leaf *l, spt_err *err)
{
    static const char orbax[] = "PLACEHOLDER://";
    const size_t n = sizeof orbax - 1;
    l->source = FROM_NATIVE;
    switch (t->type) {
    case MP_NIL:
        l->source = FROM_NIL;
        l->pub.kind = T5X_NIL;
        return SPT_OK;
    case MP_BOOL:
        l->pub.dtype = DT_BOOL;
        return SPT_OK;
    case MP_INT:
    case MP_UINT:
        l->pub.dtype = t->type == MP_UINT && t->u > INT64_MAX ? DT_U64 : DT_I64;
        return SPT_OK;
    case MP_FLOAT:
        l->pub.dtype = DT_F64;
        return SPT_OK;
    case MP_STR:
        if (t->size >= n && !memcmp(t->data, orbax, n))
            return err_set(err, SPT_E_FORMAT,
                           "this is an Orbax checkpoint, which is not supported; restore it with "
                           "T5X and save it in the legacy format (use_orbax=False)");
        /* fall through */
    case MP_BIN:
        l->pub.dtype = DT_U8;
        l->pub.shape = shape_1d(t->size);
        return SPT_OK;
    default:
        return err_set(err, SPT_E_FORMAT, "a list where a parameter was expected");
    }
}

static spt_status add_leaf(struct walk *w, const msgpack_token *t, enum map_kind kind,
                           spt_err *err)
{
    struct leaf l = {.pub.kind = T5X_TENSOR, .offset = w->base + t->offset};
    spt_status st;
    if (t->type == MP_EXT)
        st = leaf_array(w, t, &l, err);
    else if (t->type == MP_MAP)
        st = kind == MAP_SPEC ? leaf_spec(w, t, &l, err) : leaf_pieces(w, t, &l, err);
    else
        st = leaf_native(w, t, &l, err);
    if (st) {
        if (err)
            err->offset = l.offset;
        return err_wrap(err, st, "%s (at byte %zu)", buf_str(&w->path), l.offset);
    }
    const size_t len = w->path.len + 1;
    if (w->count == w->max_count || len > w->max_name_bytes - w->name_bytes)
        return err_at(err, SPT_E_FORMAT, l.offset, "more parameter names than %zu bytes can mean",
                      w->t->size);
    if (w->fill) {
        char *name = w->t->names + w->name_bytes;
        memcpy(name, buf_str(&w->path), len);
        l.pub.name = name;
        if (w->t->version == 2 && l.pub.dtype == DT_U16) /* a nil leaf has none */
            l.pub.dtype = DT_BF16; /* how version 2 stored it */
        w->t->leaves[w->count] = l;
    }
    w->count++;
    w->name_bytes += len;
    return SPT_OK;
}

static spt_status walk_map(struct walk *w, uint32_t count, spt_err *err)
{
    const size_t len = w->path.len;
    for (uint32_t i = 0; i < count; i++) {
        msgpack_token key, v;
        if (!msgpack_next(&w->r, &key))
            return SPT_OK;
        if (key.type != MP_STR || key.size == 0 || memchr(key.data, '/', key.size) ||
            memchr(key.data, 0, key.size)) {
            msgpack_fail(&w->r, "a key that is not a name");
            return SPT_OK;
        }
        if (len)
            buf_addc(&w->path, '/');
        buf_add(&w->path, key.data, key.size);
        TRY(buf_status(&w->path, "parameter name", err));
        /* never: read_top has been over every byte of the file */
        if (!msgpack_next(&w->r, &v))
            return SPT_OK;
        const enum map_kind kind = v.type == MP_MAP ? classify(&w->r, v.count) : MAP_TREE;
        if (v.type == MP_MAP && kind == MAP_TREE)
            TRY(walk_map(w, v.count, err)); /* at most MSGPACK_MAX_DEPTH levels */
        else
            TRY(add_leaf(w, &v, kind, err));
        w->path.len = len;
        w->path.data[len] = '\0';
    }
    return SPT_OK;
}

static spt_status walk_once(struct walk *w, size_t offset, bool fill, spt_err *err)
{
    msgpack_token t;
    w->base = offset;
    w->r = msgpack_read(w->t->bytes + offset, w->t->size - offset);
    w->fill = fill;
    w->count = w->name_bytes = 0;
    buf_init(&w->path, 1024);
    spt_status st = SPT_OK;
    /* never: read_top has been over every byte of the file */
    if (msgpack_next(&w->r, &t) && t.type != MP_MAP)
        msgpack_fail(&w->r, "an \"optimizer\" that is not a map");
    if (msgpack_ok(&w->r))
        st = walk_map(w, t.count, err);
    if (!st && !msgpack_ok(&w->r))
        st = err_at(err, SPT_E_FORMAT, offset + cursor_offset(&w->r.c),
                    /* never: read_top has been over every byte of the file */
                    "not a T5X checkpoint: %s (byte %zu)", w->r.why ? w->r.why : "it ends early",
                    offset + cursor_offset(&w->r.c));
    buf_release(&w->path);
    return st;
}

/* --- opening --- */

/* Checks the whole file and finds the two keys of the top level. */
static spt_status read_top(t5x_reader *t, size_t *optimizer, spt_err *err)
{
    msgpack_reader r = msgpack_read(t->bytes, t->size);
    msgpack_token map, key, v;
    bool has_version = false, has_optimizer = false;
    if (msgpack_next(&r, &map) && map.type != MP_MAP)
        msgpack_fail(&r, "the top level is not a map");
    for (uint32_t i = 0; msgpack_ok(&r) && i < map.count; i++) {
        if (!msgpack_next(&r, &key) || !msgpack_skip(&r, &key) || !msgpack_next(&r, &v))
            break;
        if (msgpack_str_is(&key, "version")) {
            if (has_version || !msgpack_is_uint(&v, INT32_MAX))
                msgpack_fail(&r, "a version that is not a number");
            else
                t->version = (int64_t)v.u;
            has_version = true;
        } else if (msgpack_str_is(&key, "optimizer")) {
            if (has_optimizer)
                msgpack_fail(&r, "two \"optimizer\" entries");
            has_optimizer = true;
            *optimizer = v.offset;
        }
        msgpack_skip(&r, &v);
    }
    TRY(msgpack_status(&r, "not a T5X checkpoint", err));
    if (!has_version || !has_optimizer)
        return err_set(err, SPT_E_FORMAT,
                       "no \"%s\" at the top level: not a T5X checkpoint (a bare flax tree or one "
                       "older than June 2021)",
                       has_version ? "optimizer" : "version");
    if (t->version < 2 || t->version > T5X_VERSION)
        return err_set(err, SPT_E_FORMAT, "checkpoint version %lld is not supported (2 and 3 are)",
                       (long long)t->version);
    return SPT_OK;
}

int t5x_compare(const char *a, const char *b)
{
    for (;; a++, b++) {
        const unsigned ca = *a == '/' ? 1 : *a ? 2u + (unsigned char)*a : 0;
        const unsigned cb = *b == '/' ? 1 : *b ? 2u + (unsigned char)*b : 0;
        if (ca != cb)
            return ca < cb ? -1 : 1;
        if (!ca)
            return 0;
    }
}

static int by_name(const void *a, const void *b)
{
    return t5x_compare(((const struct leaf *)a)->pub.name, ((const struct leaf *)b)->pub.name);
}

/* A name that appears twice, or a leaf that is also a folder. */
static spt_status check_names(const t5x_reader *t, spt_err *err)
{
    for (size_t i = 1; i < t->count; i++) {
        const char *a = t->leaves[i - 1].pub.name, *b = t->leaves[i].pub.name;
        const size_t n = strlen(a);
        if (!strncmp(a, b, n) && (b[n] == '\0' || b[n] == '/'))
            return err_set(err, SPT_E_FORMAT, "parameter %s appears twice", a);
    }
    return SPT_OK;
}

static spt_status build(t5x_reader *t, spt_err *err)
{
    size_t optimizer = 0;
    TRY(read_top(t, &optimizer, err));
    struct walk w = {.t = t,
                     .max_count = 4096 + t->size / 16,
                     .max_name_bytes = ((size_t)1 << 18) + t->size / 4 * 16};
    TRY(walk_once(&w, optimizer, false, err));
    t->leaves = mem_alloc(w.count, sizeof *t->leaves);
    t->names = mem_alloc(w.name_bytes, 1);
    if (!t->leaves || !t->names)
        return err_nomem(err, w.name_bytes);
    TRY(walk_once(&w, optimizer, true, err));
    t->count = w.count;
    if (t->count)
        qsort(t->leaves, t->count, sizeof *t->leaves, by_name);
    return check_names(t, err);
}

static spt_status zarr_dir(const t5x_reader *t, const struct leaf *l, buf *out, spt_err *err)
{
    buf_adds(out, t->dir);
    if (out->len && out->data[out->len - 1] != '/')
        buf_addc(out, '/');
    buf_add(out, l->zarr_path, l->zarr_path_len);
    return buf_status(out, "path", err);
}

/* Shape and dtype come from the array's own metadata; a directory that is not there is an error
 * only when the array is read, so that a prompt can be taken out of a partial download. */
static spt_status look_at_zarr(const t5x_reader *t, struct leaf *l, spt_err *err)
{
    zarr_array a = {0};
    buf dir;
    char t1[SHAPE_TEXT], t2[SHAPE_TEXT];
    buf_init(&dir, T5X_MAX_PATH);
    spt_status st = t->dir ? zarr_dir(t, l, &dir, err) : SPT_E_NOTFOUND;
    if (!st)
        st = zarr_open(buf_str(&dir), &a, err);
    if (st == SPT_E_NOTFOUND && l->pub.shape.rank >= 0) {
        st = SPT_OK;
    } else if (st == SPT_E_NOTFOUND) {
        st = err_set(err, SPT_E_FORMAT, "%s: its array directory is missing", l->pub.name);
    } else if (!st && l->pub.shape.rank >= 0 && !shape_equal(&a.shape, &l->pub.shape)) {
        st = err_set(err, SPT_E_FORMAT, "%s: shape %s in the checkpoint file, %s in its array",
                     l->pub.name, shape_text(&l->pub.shape, t1), shape_text(&a.shape, t2));
    } else if (!st) {
        l->pub.shape = a.shape;
        l->pub.dtype = t->version == 2 && a.dtype == DT_U16 ? DT_BF16 : a.dtype;
    }
    buf_release(&dir);
    return st;
}

static spt_status read_step(t5x_reader *t, spt_err *err)
{
    const struct t5x_leaf *l = t5x_find(t, "state/step");
    struct t5x_value v = {0};
    t->step = -1;
    if (!l || l->kind == T5X_NIL)
        return SPT_OK;
    if (l->shape.rank != 0)
        return err_set(err, SPT_E_FORMAT, "state/step is not a scalar");
    TRY(t5x_read(t, l, &v, err));
    spt_status st = SPT_OK;
    int32_t i32;
    int64_t i64;
    switch (v.view.dtype) {
    case DT_I32:
    case DT_U32:
        memcpy(&i32, v.view.data, sizeof i32);
        t->step = v.view.dtype == DT_U32 ? (int64_t)(uint32_t)i32 : i32;
        break;
    case DT_I64:
        memcpy(&i64, v.view.data, sizeof i64);
        t->step = i64;
        break;
    default:
        st = err_set(err, SPT_E_FORMAT, "state/step has dtype %s", dtype_name(v.view.dtype));
    }
    if (!st && t->step < 0)
        st = err_set(err, SPT_E_FORMAT, "state/step is negative");
    t5x_release(&v);
    return st;
}

/* The metadata of all arrays, in parallel when they lie far away. */
static spt_status expect_metadata(const t5x_reader *t, spt_err *err)
{
    fs_names names = {0};
    buf path;
    buf_init(&path, T5X_MAX_PATH);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < t->count && !st; i++) {
        if (t->leaves[i].source != FROM_ZARR)
            continue;
        buf_clear(&path);
        st = zarr_dir(t, &t->leaves[i], &path, err);
        buf_adds(&path, "/.zarray");
        if (!st)
            st = fs_names_add(&names, buf_str(&path), path.len, err);
    }
    if (!st)
        st = fs_expect((const char *const *)names.name, names.count, err);
    fs_names_free(&names);
    buf_release(&path);
    return st;
}

static spt_status finish_open(t5x_reader *t, spt_err *err)
{
    TRY(build(t, err));
    if (t->dir && !fs_is_near(t->dir))
        TRY(expect_metadata(t, err));
    for (size_t i = 0; i < t->count; i++)
        if (t->leaves[i].source == FROM_ZARR)
            TRY(look_at_zarr(t, &t->leaves[i], err));
    return read_step(t, err);
}

spt_status t5x_open_mem(const void *bytes, size_t size, const char *dir, t5x_reader **out,
                        spt_err *err)
{
    t5x_reader *t = mem_zalloc(1, sizeof *t);
    if (!t)
        return err_nomem(err, sizeof *t);
    t->bytes = bytes;
    t->size = size;
    spt_status st = SPT_OK;
    if (dir && !(t->dir = mem_strdup(dir)))
        st = err_nomem(err, strlen(dir));
    if (!st)
        st = finish_open(t, err);
    if (st) {
        t5x_close(t);
        return st;
    }
    *out = t;
    return SPT_OK;
}

static spt_status open_dir(const char *dir, t5x_reader **out, spt_err *err)
{
    buf file;
    fs_mapping map = {0};
    buf_init(&file, T5X_MAX_PATH);
    spt_status st = fs_expect_below(dir, err);
    if (!st)
        st = path_join(&file, dir, "checkpoint", err);
    if (!st)
        st = fs_map(buf_str(&file), &map, err);
    if (!st) {
        st = t5x_open_mem(map.bytes, map.size, dir, out, err);
        if (st) {
            st = err_wrap(err, st, "%s", buf_str(&file));
            fs_unmap(&map);
        } else {
            (*out)->map = map;
        }
    }
    buf_release(&file);
    return st;
}

spt_status t5x_open(const char *path, t5x_reader **out, spt_err *err)
{
    buf dir;
    buf_init(&dir, T5X_MAX_PATH);
    spt_status st = t5x_resolve(path, &dir, err);
    if (!st)
        st = open_dir(buf_str(&dir), out, err);
    buf_release(&dir);
    return st;
}

void t5x_close(t5x_reader *t)
{
    if (!t)
        return;
    fs_unmap(&t->map);
    mem_free(t->leaves);
    mem_free(t->names);
    mem_free(t->dir);
    mem_free(t);
}

const char *t5x_directory(const t5x_reader *t)
{
    return t->dir ? t->dir : "";
}

int64_t t5x_step(const t5x_reader *t)
{
    return t->step;
}

size_t t5x_count(const t5x_reader *t)
{
    return t->count;
}

const struct t5x_leaf *t5x_leaf_at(const t5x_reader *t, size_t i)
{
    return &t->leaves[i].pub;
}

const struct t5x_leaf *t5x_find(const t5x_reader *t, const char *name)
{
    size_t lo = 0, hi = t->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = t5x_compare(t->leaves[mid].pub.name, name);
        if (c == 0)
            return &t->leaves[mid].pub;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* --- values --- */

static spt_status own(struct t5x_value *out, size_t bytes, spt_err *err)
{
    out->owned = mem_alloc_aligned(bytes ? bytes : 1, 1);
    out->view.data = out->owned;
    return out->owned ? SPT_OK : err_nomem(err, bytes);
}

static spt_status read_zarr(const t5x_reader *t, const struct leaf *l, struct t5x_value *v,
                            spt_err *err)
{
    const enum zarr_missing missing =
        strncmp(l->pub.name, "target/", 7) ? ZARR_MISSING_FILL : ZARR_MISSING_WEIGHTS;
    zarr_array a;
    buf dir;
    if (!t->dir)
        return err_set(err, SPT_E_NOTFOUND, "%s lies in a directory of its own", l->pub.name);
    buf_init(&dir, T5X_MAX_PATH);
    spt_status st = zarr_dir(t, l, &dir, err);
    if (!st && (st = zarr_open(buf_str(&dir), &a, err)) == SPT_E_NOTFOUND)
        st = err_set(err, SPT_E_FORMAT, "%s: array directory %s is missing", l->pub.name,
                     buf_str(&dir));
    if (!st && (!shape_equal(&a.shape, &l->pub.shape) ||
                dtype_size(a.dtype) != dtype_size(l->pub.dtype)))
        st = err_set(err, SPT_E_FORMAT, "%s changed while it was read", buf_str(&dir));
    if (!st)
        st = zarr_check_size(buf_str(&dir), &a, missing, err);
    if (!st)
        st = own(v, a.bytes, err);
    if (!st)
        st = zarr_read(buf_str(&dir), &a, missing, v->owned, err);
    buf_release(&dir);
    return st;
}

spt_status t5x_expect(t5x_reader *t, const struct t5x_leaf *const *leaf, size_t n, spt_err *err)
{
    fs_names names = {0};
    buf dir;
    zarr_array a;
    if (!t->dir || fs_is_near(t->dir))
        return SPT_OK;
    buf_init(&dir, T5X_MAX_PATH);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++) {
        const struct leaf *l = (const struct leaf *)leaf[i];
        if (l->source != FROM_ZARR)
            continue;
        buf_clear(&dir);
        st = zarr_dir(t, l, &dir, err);
        if (!st)
            st = zarr_open(buf_str(&dir), &a, err);
        if (!st)
            st = zarr_chunk_paths(buf_str(&dir), &a, &names, err);
        if (st == SPT_E_NOTFOUND)
            st = SPT_OK; /* reading it will say so */
    }
    if (!st)
        st = fs_expect((const char *const *)names.name, names.count, err);
    fs_names_free(&names);
    buf_release(&dir);
    return st;
}

static spt_status read_in_place(const t5x_reader *t, const struct leaf *l, struct t5x_value *v,
                                spt_err *err)
{
    msgpack_reader r = msgpack_read(t->bytes + l->offset, t->size - l->offset);
    msgpack_token tok;
    struct tensor_view array;
    /* never: the walk has read this value */
    if (!msgpack_next(&r, &tok))
        return msgpack_status(&r, l->pub.name, err);
    if (l->source == FROM_ARRAY) {
        /* never: the walk has read this value */
        TRY(t5x_parse_array(&tok, &array, err));
        v->view.data = array.data;
        return SPT_OK;
    }
    if (tok.type == MP_STR || tok.type == MP_BIN) {
        v->view.data = tok.data;
        return SPT_OK;
    }
    TRY(own(v, 8, err));
    memcpy(v->owned, &tok.u, 8);
    if (tok.type == MP_BOOL)
        *(unsigned char *)v->owned = tok.b;
    return SPT_OK;
}

static spt_status join_pieces(const t5x_reader *t, const struct leaf *l, struct t5x_value *v,
                              spt_err *err)
{
    msgpack_reader r = msgpack_read(t->bytes + l->offset, t->size - l->offset);
    msgpack_token map;
    size_t n, bytes;
    /* never: the walk has read this value */
    if (!msgpack_next(&r, &map))
        return msgpack_status(&r, l->pub.name, err);
    /* never: the walk has computed the same */
    TRY(tensor_size(l->pub.dtype, &l->pub.shape, &n, &bytes, err));
    TRY(own(v, bytes, err)); /* the walk found that many bytes in the file */
    struct pieces p = {.out = v->owned};
    return read_pieces(&r, map.count, &p, err);
}

spt_status t5x_read(t5x_reader *t, const struct t5x_leaf *leaf, struct t5x_value *out, spt_err *err)
{
    const struct leaf *l = (const struct leaf *)leaf; /* pub comes first */
    struct t5x_value v = {.view = {leaf->dtype, leaf->shape, NULL}};
    spt_status st = SPT_E_INTERNAL;
    /* never: every source has its case */
    switch (l->source) {
    case FROM_NIL:
        return err_set(err, SPT_E_NOTFOUND, "%s is nil in this checkpoint", leaf->name);
    case FROM_ARRAY:
    case FROM_NATIVE:
        st = read_in_place(t, l, &v, err);
        break;
    case FROM_PIECES:
        st = join_pieces(t, l, &v, err);
        break;
    case FROM_ZARR:
        st = read_zarr(t, l, &v, err);
        break;
    }
    if (st) {
        t5x_release(&v);
        return st;
    }
    *out = v;
    return SPT_OK;
}

void t5x_release(struct t5x_value *v)
{
    mem_free_aligned(v->owned);
    *v = (struct t5x_value){0};
}
