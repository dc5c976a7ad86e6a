/* Fields of an example, on a bump arena that is rewound between examples. */
#include "task/record.h"

#include <string.h>

#include "base/mem.h"

enum { FIRST_CHUNK = 4096, MAX_FIELDS = 1 << 16 };

struct record_chunk {
    struct record_chunk *next;
    size_t size, used;
};

void record_release(record *r)
{
    while (r->chunk) {
        struct record_chunk *next = r->chunk->next;
        mem_free(r->chunk);
        r->chunk = next;
    }
    mem_free(r->field);
    *r = (record){0};
}

/* Keeps the largest chunk, so that the next record of the same size fits into one. */
void record_clear(record *r)
{
    struct record_chunk *keep = NULL;
    while (r->chunk) {
        struct record_chunk *k = r->chunk;
        r->chunk = k->next;
        if (!keep || k->size > keep->size) {
            mem_free(keep);
            keep = k;
        } else {
            mem_free(k);
        }
    }
    if (keep) {
        keep->next = NULL;
        keep->used = 0;
    }
    r->chunk = keep;
    r->fields = 0;
}

void *record_alloc(record *r, size_t size)
{
    if (size > SIZE_MAX / 4)
        return NULL;
    size = (size + 7) & ~(size_t)7;
    struct record_chunk *k = r->chunk;
    if (!k || k->size - k->used < size) {
        size_t want = k ? k->size * 2 : FIRST_CHUNK;
        if (want < size)
            want = size;
        k = mem_alloc(1, sizeof *k + want);
        if (!k)
            return NULL;
        *k = (struct record_chunk){.next = r->chunk, .size = want};
        r->chunk = k;
    }
    void *at = (char *)(k + 1) + k->used;
    k->used += size;
    return at;
}

static spt_status slot(record *r, const char *name, struct record_field **out, spt_err *err)
{
    for (size_t i = 0; i < r->fields; i++) {
        if (strcmp(r->field[i].name, name) == 0) {
            *out = &r->field[i];
            return SPT_OK;
        }
    }
    TRY(mem_grow(&r->field, &r->cap, r->fields + 1, sizeof *r->field, MAX_FIELDS, err));
    *out = &r->field[r->fields++];
    **out = (struct record_field){.name = name};
    return SPT_OK;
}

static spt_status copy_texts(record *r, const struct field_text *v, size_t n,
                             const struct field_text **out, spt_err *err)
{
    struct field_text *list = record_alloc(r, n * sizeof *list);
    if (!list)
        return err_nomem(err, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        char *s = record_alloc(r, v[i].len + 1);
        if (!s)
            return err_nomem(err, v[i].len);
        if (v[i].len)
            memcpy(s, v[i].s, v[i].len);
        s[v[i].len] = 0;
        list[i] = (struct field_text){s, v[i].len};
    }
    *out = list;
    return SPT_OK;
}

static spt_status copy_numbers(record *r, const void *v, size_t n, const void **out, spt_err *err)
{
    void *list = record_alloc(r, n * 8);
    if (!list)
        return err_nomem(err, n * 8);
    if (n)
        memcpy(list, v, n * 8);
    *out = list;
    return SPT_OK;
}

static spt_status set(record *r, const char *name, enum field_kind kind, const void *v, size_t n,
                      spt_err *err)
{
    struct record_field made = {.name = name, .kind = kind, .count = n};
    struct record_field *f;
    const void *list = NULL;
    if (kind == FIELD_TEXT || kind == FIELD_TEXTS) {
        TRY(copy_texts(r, v, n, &made.u.text, err));
    } else {
        TRY(copy_numbers(r, v, n, &list, err));
        if (kind == FIELD_INT || kind == FIELD_INTS)
            made.u.ints = list;
        else
            made.u.floats = list;
    }
    TRY(slot(r, name, &f, err));
    *f = made;
    return SPT_OK;
}

spt_status record_set_text(record *r, const char *name, const char *s, size_t len, spt_err *err)
{
    const struct field_text v = {s, len};
    return set(r, name, FIELD_TEXT, &v, 1, err);
}

spt_status record_set_str(record *r, const char *name, const char *s, spt_err *err)
{
    return record_set_text(r, name, s, strlen(s), err);
}

spt_status record_set_buf(record *r, const char *name, const buf *b, spt_err *err)
{
    TRY(buf_status(b, name, err));
    return record_set_text(r, name, buf_str(b), b->len, err);
}

spt_status record_set_int(record *r, const char *name, int64_t v, spt_err *err)
{
    return set(r, name, FIELD_INT, &v, 1, err);
}

spt_status record_set_ints(record *r, const char *name, const int64_t *v, size_t n, spt_err *err)
{
    return set(r, name, FIELD_INTS, v, n, err);
}

spt_status record_set_float(record *r, const char *name, double v, spt_err *err)
{
    return set(r, name, FIELD_FLOAT, &v, 1, err);
}

spt_status record_set_floats(record *r, const char *name, const double *v, size_t n, spt_err *err)
{
    return set(r, name, FIELD_FLOATS, v, n, err);
}

spt_status record_set_texts(record *r, const char *name, const struct field_text *v, size_t n,
                            spt_err *err)
{
    return set(r, name, FIELD_TEXTS, v, n, err);
}

spt_status record_copy_field(record *r, const char *name, const struct record_field *from,
                             spt_err *err)
{
    const void *v = from->u.floats;
    if (from->kind == FIELD_TEXT || from->kind == FIELD_TEXTS)
        v = from->u.text;
    else if (from->kind == FIELD_INT || from->kind == FIELD_INTS)
        v = from->u.ints;
    return set(r, name, from->kind, v, from->count, err);
}

const struct record_field *record_find(const record *r, const char *name)
{
    for (size_t i = 0; i < r->fields; i++)
        if (strcmp(r->field[i].name, name) == 0)
            return &r->field[i];
    return NULL;
}

static const char *const kind_names[] = {
    "a text",          "an integer",         "a number",
    "a list of texts", "a list of integers", "a list of numbers"};

static spt_status wrong(const record *r, const char *name, const char *want, spt_err *err)
{
    const struct record_field *f = record_find(r, name);
    if (!f)
        return err_set(err, SPT_E_FORMAT, "the example has no field '%s'", name);
    return err_set(err, SPT_E_FORMAT, "field '%s' is %s of %zu, wanted %s", name,
                   kind_names[f->kind], f->count, want);
}

spt_status record_text(const record *r, const char *name, struct field_text *out, spt_err *err)
{
    const struct record_field *f = record_find(r, name);
    if (!f || (f->kind != FIELD_TEXT && f->kind != FIELD_TEXTS) || f->count != 1)
        return wrong(r, name, "one text", err);
    *out = f->u.text[0];
    return SPT_OK;
}

spt_status record_int(const record *r, const char *name, int64_t *out, spt_err *err)
{
    const struct record_field *f = record_find(r, name);
    if (!f || (f->kind != FIELD_INT && f->kind != FIELD_INTS) || f->count != 1)
        return wrong(r, name, "one integer", err);
    *out = f->u.ints[0];
    return SPT_OK;
}

spt_status record_float(const record *r, const char *name, double *out, spt_err *err)
{
    const struct record_field *f = record_find(r, name);
    if (!f || f->kind == FIELD_TEXT || f->kind == FIELD_TEXTS || f->count != 1)
        return wrong(r, name, "one number", err);
    *out =
        f->kind == FIELD_FLOAT || f->kind == FIELD_FLOATS ? f->u.floats[0] : (double)f->u.ints[0];
    return SPT_OK;
}

spt_status record_texts(const record *r, const char *name, const struct field_text **out, size_t *n,
                        spt_err *err)
{
    const struct record_field *f = record_find(r, name);
    if (f && f->count == 0) { /* an empty list has no kind of its own */
        *out = NULL;
        *n = 0;
        return SPT_OK;
    }
    if (!f || (f->kind != FIELD_TEXT && f->kind != FIELD_TEXTS))
        return wrong(r, name, "a list of texts", err);
    *out = f->u.text;
    *n = f->count;
    return SPT_OK;
}

void record_field_json(const struct record_field *f, json_writer *w)
{
    const bool list = f->kind >= FIELD_TEXTS;
    if (list)
        json_begin_array(w);
    for (size_t i = 0; i < f->count; i++) {
        if (f->kind == FIELD_TEXT || f->kind == FIELD_TEXTS)
            json_string_n(w, f->u.text[i].s, f->u.text[i].len);
        else if (f->kind == FIELD_INT || f->kind == FIELD_INTS)
            json_i64(w, f->u.ints[i]);
        else
            json_f64(w, f->u.floats[i]);
    }
    if (list)
        json_end_array(w);
}
