/* JSON (RFC 8259): a pull parser that allocates nothing per value, and a writer.
 *
 * Reading. Input is (pointer, length), never a C string; the reader points into it, so the bytes
 * must outlive the reader and the events. Events come in document order: JSON_OBJECT, then
 * JSON_KEY and a value per member, then JSON_OBJECT_END; arrays alike; JSON_END last. Strings and
 * numbers are slices of the document: a number keeps its exact text (json_to_i64, json_to_f64 turn
 * it into one), a string is raw between its quotes until json_unescape (or json_add_text) when
 * `escaped` says so.
 *
 * Refused, with line and byte: anything after the document's value, invalid UTF-8, lone
 * surrogates, control characters in strings, nesting over JSON_MAX_DEPTH, documents over 4 GiB - 1
 * byte, and a key that stands twice in one object (compared after unescaping). In objects of up to
 * 16 keys the second one is refused where it stands, in larger ones at the end of the object: do
 * not act on members before JSON_OBJECT_END has been read.
 *
 *     json_reader r;
 *     json_open(&r, bytes, size, 0);
 *     bool more;
 *     struct json_event key;
 *     st = json_enter_object(&r, err);
 *     while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
 *         if (json_is(&key, "num_heads"))
 *             st = json_read_i64(&r, &heads, err);
 *         else
 *             st = json_skip(&r, err);
 *     }
 *     if (!st)
 *         st = json_finish(&r, err);
 *     json_close(&r);
 *
 * After a failure the reader stays failed: every further call returns the first status.
 * A reader is confined to one thread. */
#ifndef SPT_TEXT_JSON_H
#define SPT_TEXT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"


enum json_kind {
    JSON_END, /* behind the document's value; repeats */
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
};

struct json_event {
    enum json_kind kind;
    bool escaped;     /* key or string: holds backslash escapes */
    const char *text; /* key or string: between the quotes; number and literals: their text */
    size_t len;
    size_t offset; /* byte offset of the event in the document */
};

enum json_flags {
    JSON_PYTHON_NAN = 1, /* NaN, Infinity, -Infinity are numbers, as Python writes them */
};

struct json_slot { /* a key of an open object */
    uint32_t offset;
    uint32_t hash;
};

typedef struct json_reader {
    const char *text;
    size_t size, pos;
    unsigned flags;
    uint64_t line;        /* line number of the first byte, for messages (1) */
    uint64_t base_offset; /* offset of the first byte in its file, for messages (0) */
    spt_status st;        /* the first failure */
    unsigned depth;
    uint8_t state;
    bool is_object[JSON_MAX_DEPTH];
    uint32_t keys_before[JSON_MAX_DEPTH]; /* keys of the enclosing open objects */
    struct json_slot *keys;               /* stack of the keys of all open objects */
    size_t key_count, key_cap;
    struct json_slot few[32];
} json_reader;

/* Nothing is read or allocated yet. `text` may be NULL when size is 0. */
void json_open(json_reader *r, const void *text, size_t size, unsigned flags);
/* The same reader for another document, keeping its storage (JSON Lines). */
void json_reopen(json_reader *r, const void *text, size_t size);
void json_close(json_reader *r); /* accepts an all-zero object */

spt_status json_next(json_reader *r, struct json_event *ev, spt_err *err);
/* Reads one whole value (at a value's place) and drops it. */
spt_status json_skip(json_reader *r, spt_err *err);
/* Drops the rest of the value that `ev` (JSON_OBJECT or JSON_ARRAY, just read) started. */
spt_status json_skip_rest(json_reader *r, const struct json_event *ev, spt_err *err);
/* Reads one whole value and gives its text. */
spt_status json_raw(json_reader *r, const char **text, size_t *len, spt_err *err);
/* The document must end here. */
spt_status json_finish(json_reader *r, spt_err *err);

/* The next value must be an object (array); what comes next are its members. */
spt_status json_enter_object(json_reader *r, spt_err *err);
spt_status json_enter_array(json_reader *r, spt_err *err);
/* Next key of the object entered, or *more = false behind its end. */
spt_status json_next_key(json_reader *r, bool *more, struct json_event *key, spt_err *err);
/* First event of the next element of the array entered, or *more = false behind its end. */
spt_status json_next_item(json_reader *r, bool *more, struct json_event *item, spt_err *err);

/* The next value must be of that kind. Strings are appended unescaped. Integers are exact: 3.0 is
 * refused, as is what does not fit. */
spt_status json_read_text(json_reader *r, buf *out, spt_err *err);
spt_status json_read_i64(json_reader *r, int64_t *out, spt_err *err);
spt_status json_read_u64(json_reader *r, uint64_t *out, spt_err *err);
spt_status json_read_f64(json_reader *r, double *out, spt_err *err);
spt_status json_read_bool(json_reader *r, bool *out, spt_err *err);

/* The key or string equals this C string after unescaping. */
bool json_is(const struct json_event *ev, const char *s);
/* Unescapes a key or string into out, which has room for ev->len bytes; returns the length. */
size_t json_unescape(const struct json_event *ev, char *out);
/* Appends the unescaped key or string. */
void json_add_text(const struct json_event *ev, buf *out);

/* A number's text as a value; SPT_E_FORMAT names it. f64 is the nearest double (inf if too big). */
spt_status json_to_i64(const struct json_event *ev, int64_t *out, spt_err *err);
spt_status json_to_u64(const struct json_event *ev, uint64_t *out, spt_err *err);
spt_status json_to_f64(const struct json_event *ev, double *out, spt_err *err);

const char *json_kind_name(enum json_kind k); /* "an object", "a string", ... */
/* Line (from r->line) of a byte offset in the document: a slow count, for messages. */
uint64_t json_line_at(const json_reader *r, size_t offset);
/* A complaint about the value at `offset`: "line 3, byte 17: <message>". Fails the reader. */
spt_status json_error(json_reader *r, size_t offset, spt_err *err, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* --- writing ------------------------------------------------------------------------------ */

/* Appends to a buf (whose status the caller checks once). Without flags the most compact form. */
enum json_style {
    JSON_SPACED = 1,      /* ", " and ": " between items, as Python's json.dumps */
    JSON_ASCII = 2,       /* everything beyond ASCII as \uXXXX (ensure_ascii=True) */
    JSON_NAN = 4,         /* NaN, Infinity, -Infinity; without it they become null */
    JSON_PYTHON = 7,      /* json.dumps(x) byte for byte */
    JSON_PYTHON_UTF8 = 5, /* json.dumps(x, ensure_ascii=False) */
};

typedef struct json_writer {
    buf *out;
    unsigned style;
    unsigned indent; /* spaces per level, as json.dumps(indent=N); 0: one line */
    unsigned depth;
    bool after_key;
    bool some[JSON_MAX_DEPTH + 1]; /* the open object or array already has an item */
} json_writer;

void json_write_init(json_writer *w, buf *out, unsigned style);
void json_begin_object(json_writer *w);
void json_end_object(json_writer *w);
void json_begin_array(json_writer *w);
void json_end_array(json_writer *w);
void json_key(json_writer *w, const char *name);
void json_key_n(json_writer *w, const char *name, size_t len);
/* Invalid UTF-8 is written as U+FFFD. */
void json_string(json_writer *w, const char *s);
void json_string_n(json_writer *w, const char *s, size_t len);
void json_i64(json_writer *w, int64_t v);
void json_u64(json_writer *w, uint64_t v);
void json_f64(json_writer *w, double v); /* Python's repr: shortest that reads back the same */
void json_f32(json_writer *w, float v);  /* shortest that reads back the same float */
void json_bool(json_writer *w, bool v);
void json_null(json_writer *w);
/* Bytes that are JSON already. */
void json_raw_n(json_writer *w, const char *json, size_t len);

#endif
