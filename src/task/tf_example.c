/* Example {1: Features {1: entry {1: key, 2: Feature {1: bytes, 2: floats, 3: ints}}}}. Lists may
 * be packed or not; map order means nothing. */
#include "task/tf_example.h"

#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "codec/protobuf.h"


static spt_status damaged(spt_err *err)
{
    return err_set(err, SPT_E_FORMAT, "not a tf.train.Example");
}

/* Elements of a list message, for sizing: bytes count one per field, packed numbers by size. */
static size_t count_items(cursor list, enum field_kind kind)
{
    size_t n = 0;
    pb_field f;
    while (pb_next(&list, &f)) {
        if (f.number != 1)
            continue;
        if (kind == FIELD_TEXTS || f.wire != PB_BYTES) {
            n++;
        } else if (kind == FIELD_FLOATS) {
            n += f.size / 4;
        } else {
            for (size_t i = 0; i < f.size; i++)
                n += !(f.data[i] & 0x80);
        }
    }
    return n;
}

static spt_status read_texts(cursor list, size_t n, const char *name, record *out, spt_err *err)
{
    struct field_text *text = record_alloc(out, n * sizeof *text);
    if (!text)
        return err_nomem(err, n * sizeof *text);
    size_t at = 0;
    pb_field f;
    while (pb_next(&list, &f))
        if (f.number == 1 && f.wire == PB_BYTES && at < n)
            text[at++] = (struct field_text){(const char *)f.data, f.size};
    if (!cursor_ok(&list))
        return damaged(err);
    return at == 1 ? record_set_text(out, name, text[0].s, text[0].len, err)
                   : record_set_texts(out, name, text, at, err);
}

static spt_status read_floats(cursor list, size_t n, const char *name, record *out, spt_err *err)
{
    double *v = record_alloc(out, n * sizeof *v);
    if (!v)
        return err_nomem(err, n * sizeof *v);
    size_t at = 0;
    pb_field f;
    while (pb_next(&list, &f)) {
        if (f.number != 1)
            continue;
        if (f.wire == PB_FIXED32 && at < n)
            v[at++] = (double)pb_float(&f);
        for (size_t i = 0; f.wire == PB_BYTES && i + 4 <= f.size && at < n; i += 4) {
            const uint32_t bits = (uint32_t)f.data[i] | (uint32_t)f.data[i + 1] << 8 |
                                  (uint32_t)f.data[i + 2] << 16 | (uint32_t)f.data[i + 3] << 24;
            float x;
            memcpy(&x, &bits, sizeof x);
            v[at++] = (double)x;
        }
    }
    if (!cursor_ok(&list))
        return damaged(err);
    return at == 1 ? record_set_float(out, name, v[0], err)
                   : record_set_floats(out, name, v, at, err);
}

static spt_status read_ints(cursor list, size_t n, const char *name, record *out, spt_err *err)
{
    int64_t *v = record_alloc(out, n * sizeof *v);
    if (!v)
        return err_nomem(err, n * sizeof *v);
    size_t at = 0;
    pb_field f;
    while (pb_next(&list, &f)) {
        if (f.number != 1)
            continue;
        if (f.wire == PB_VARINT && at < n)
            v[at++] = (int64_t)f.value;
        if (f.wire == PB_BYTES) {
            cursor packed = pb_message(&f);
            while (cursor_left(&packed) && at < n)
                v[at++] = (int64_t)pb_varint(&packed);
            if (!cursor_ok(&packed))
                return damaged(err);
        }
    }
    if (!cursor_ok(&list))
        return damaged(err);
    return at == 1 ? record_set_int(out, name, v[0], err) : record_set_ints(out, name, v, at, err);
}

static spt_status read_feature(cursor feature, const char *name, record *out, spt_err *err)
{
    static const enum field_kind kinds[] = {FIELD_TEXTS, FIELD_FLOATS, FIELD_INTS};
    pb_field f, last = {0};
    while (pb_next(&feature, &f))
        if (f.number >= 1 && f.number <= 3 && f.wire == PB_BYTES)
            last = f;
    if (!cursor_ok(&feature))
        return damaged(err);
    if (!last.number)
        return SPT_OK;
    const enum field_kind kind = kinds[last.number - 1];
    const size_t n = count_items(pb_message(&last), kind);
    return kind == FIELD_TEXTS    ? read_texts(pb_message(&last), n, name, out, err)
           : kind == FIELD_FLOATS ? read_floats(pb_message(&last), n, name, out, err)
                                  : read_ints(pb_message(&last), n, name, out, err);
}

static spt_status read_entry(cursor entry, record *out, spt_err *err)
{
    pb_field f, key = {0}, value = {0};
    while (pb_next(&entry, &f)) {
        if (f.number == 1 && f.wire == PB_BYTES)
            key = f;
        if (f.number == 2 && f.wire == PB_BYTES)
            value = f;
    }
    if (!cursor_ok(&entry))
        return damaged(err);
    char *name = record_alloc(out, key.size + 1);
    if (!name)
        return err_nomem(err, key.size);
    if (key.size)
        memcpy(name, key.data, key.size);
    name[key.size] = 0;
    return value.number ? read_feature(pb_message(&value), name, out, err) : SPT_OK;
}

spt_status tf_example_read(const void *bytes, size_t size, record *out, spt_err *err)
{
    cursor message = cursor_make(bytes, size);
    pb_field f, entry;
    record_clear(out);
    while (pb_next(&message, &f)) {
        if (f.number != 1 || f.wire != PB_BYTES)
            continue;
        cursor features = pb_message(&f);
        while (pb_next(&features, &entry))
            if (entry.number == 1 && entry.wire == PB_BYTES)
                TRY(read_entry(pb_message(&entry), out, err));
        if (!cursor_ok(&features))
            return damaged(err);
    }
    return cursor_ok(&message) ? SPT_OK : damaged(err);
}

/* --- writing ------------------------------------------------------------------------------ */

static void write_list(const struct record_field *f, buf *list)
{
    buf packed;
    buf_init(&packed, EXAMPLE_MAX_BYTES);
    for (size_t i = 0; i < f->count; i++) {
        if (f->kind == FIELD_TEXT || f->kind == FIELD_TEXTS) {
            pb_put_bytes(list, 1, f->u.text[i].s, f->u.text[i].len);
        } else if (f->kind == FIELD_INT || f->kind == FIELD_INTS) {
            pb_put_raw_varint(&packed, (uint64_t)f->u.ints[i]);
        } else {
            const float x = (float)f->u.floats[i];
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            const char le[4] = {(char)bits, (char)(bits >> 8), (char)(bits >> 16),
                                (char)(bits >> 24)};
            buf_add(&packed, le, sizeof le);
        }
    }
    if (f->kind != FIELD_TEXT && f->kind != FIELD_TEXTS && f->count)
        pb_put_bytes(list, 1, buf_str(&packed), packed.len);
    if (packed.st)
        list->st = packed.st;
    buf_release(&packed);
}

static void write_entry(const struct record_field *f, buf *features)
{
    static const uint32_t number[] = {1, 3, 2, 1, 3, 2}; /* by enum field_kind */
    buf list, feature, entry;
    buf_init(&list, EXAMPLE_MAX_BYTES);
    buf_init(&feature, EXAMPLE_MAX_BYTES);
    buf_init(&entry, EXAMPLE_MAX_BYTES);
    write_list(f, &list);
    pb_put_bytes(&feature, number[f->kind], buf_str(&list), list.len);
    pb_put_string(&entry, 1, f->name);
    pb_put_bytes(&entry, 2, buf_str(&feature), feature.len);
    pb_put_bytes(features, 1, buf_str(&entry), entry.len);
    if (list.st || feature.st || entry.st)
        features->st = list.st ? list.st : feature.st ? feature.st : entry.st;
    buf_release(&list);
    buf_release(&feature);
    buf_release(&entry);
}

spt_status tf_example_write(const record *r, buf *out, spt_err *err)
{
    buf features;
    buf_init(&features, EXAMPLE_MAX_BYTES);
    for (size_t i = 0; i < r->fields; i++)
        write_entry(&r->field[i], &features);
    spt_status st = buf_status(&features, "tf.train.Example", err);
    if (!st) {
        pb_put_bytes(out, 1, buf_str(&features), features.len);
        st = buf_status(out, "tf.train.Example", err);
    }
    buf_release(&features);
    return st;
}
