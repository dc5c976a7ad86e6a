/* JSON text as Python's json.dumps writes it (", " and ": " between items, floats by their shortest
 * digits that read back equal, NaN and Infinity spelled out), so that our JSON Lines files equal the
 * reference's byte for byte. Errors stick in the buffer. */
#ifndef SPT_REPORT_JSONL_H
#define SPT_REPORT_JSONL_H

#include "base/buf.h"

/* What float.__repr__ writes: 1.0, 0.1, 1e-05, 1e+16, nan -> NaN, inf -> Infinity. */
void json_put_double(buf *b, double v);
/* A float32 widened to double first, as numpy's float() does. */
void json_put_float(buf *b, float v);
void json_put_int(buf *b, int64_t v);
/* Quoted. ascii: \uXXXX (surrogate pairs) for everything beyond ASCII, json.dumps's default. Bytes
 * that are not UTF-8 become U+FFFD. */
void json_put_string(buf *b, const char *s, size_t len, bool ascii);

/* Commas and colons by themselves:
 *     json_writer w = json_write(&b, true);
 *     json_begin(&w, '{'); json_key(&w, "step"); json_int(&w, 3); json_end(&w, '}'); */
typedef struct json_writer {
    buf *b;
    bool ascii;
    bool need_comma;
} json_writer;
json_writer json_write(buf *b, bool ascii);
void json_begin(json_writer *w, char open); /* '{' or '[' */
void json_end(json_writer *w, char close);
void json_key(json_writer *w, const char *key);
void json_double(json_writer *w, double v);
void json_int(json_writer *w, int64_t v);
void json_bool(json_writer *w, bool v);
void json_null(json_writer *w);
void json_string(json_writer *w, const char *s, size_t len);
void json_stringz(json_writer *w, const char *s);

#endif
