/* One example on its way from a source to features: named fields of text, numbers or lists.
 *
 * A record owns everything it holds, in memory that record_clear() reuses, so that a stream of
 * records allocates nothing after the first few. Names are copied unless they are literals handed
 * to the setters (they must outlive the record). Order of fields is order of setting. */
#ifndef SPT_TASK_RECORD_H
#define SPT_TASK_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/json.h"

enum field_kind {
    FIELD_TEXT,  /* text[0] */
    FIELD_INT,   /* ints[0] */
    FIELD_FLOAT, /* floats[0] */
    FIELD_TEXTS, /* text[0 .. count) */
    FIELD_INTS,
    FIELD_FLOATS
};

struct field_text {
    const char *s; /* NUL-terminated; may hold NULs */
    size_t len;
};

struct record_field {
    const char *name;
    enum field_kind kind;
    size_t count;
    union {
        const struct field_text *text;
        const int64_t *ints;
        const double *floats;
    } u;
};

typedef struct record {
    struct record_field *field;
    size_t fields, cap;
    struct record_chunk *chunk; /* newest first */
} record;

void record_release(record *r); /* accepts an all-zero object */
void record_clear(record *r);   /* no fields, memory kept */
/* Memory that lives until the next record_clear(); NULL when out of memory. */
void *record_alloc(record *r, size_t size);

/* Setting an existing name replaces its value in place. Values are copied. */
spt_status record_set_text(record *r, const char *name, const char *s, size_t len, spt_err *err);
spt_status record_set_str(record *r, const char *name, const char *s, spt_err *err);
spt_status record_set_buf(record *r, const char *name, const buf *b, spt_err *err);
spt_status record_set_int(record *r, const char *name, int64_t v, spt_err *err);
spt_status record_set_ints(record *r, const char *name, const int64_t *v, size_t n, spt_err *err);
spt_status record_set_float(record *r, const char *name, double v, spt_err *err);
spt_status record_set_floats(record *r, const char *name, const double *v, size_t n, spt_err *err);
spt_status record_set_texts(record *r, const char *name, const struct field_text *v, size_t n,
                            spt_err *err);
spt_status record_copy_field(record *r, const char *name, const struct record_field *from,
                             spt_err *err);

/* NULL when there is no such field. */
const struct record_field *record_find(const record *r, const char *name);
/* The field with one text (number); SPT_E_FORMAT names the field and what it is. A number is no
 * text; an int is accepted where a float is wanted. */
spt_status record_text(const record *r, const char *name, struct field_text *out, spt_err *err);
spt_status record_int(const record *r, const char *name, int64_t *out, spt_err *err);
spt_status record_float(const record *r, const char *name, double *out, spt_err *err);
spt_status record_texts(const record *r, const char *name, const struct field_text **out, size_t *n,
                        spt_err *err);

/* The value alone: a string or number, or an array of them. */
void record_field_json(const struct record_field *f, json_writer *w);

#endif
