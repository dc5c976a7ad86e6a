/* Rows of CSV (RFC 4180), TSV (no quoting) and JSON Lines, one at a time from a byte source.
 * Memory is one record plus a block, whatever the size of the source.
 *
 * Line ends: LF or CR LF, mixed at will; a source whose first line ends in a lone CR is read with
 * CR line ends (old Mac). Elsewhere a CR is refused outside quotes, never kept in a field. The last
 * line needs no end. Byte order marks at the start are dropped; later ones stay, except in front
 * of a quote that opens a CSV record.
 * CSV: a field that begins with a quote ends at the matching one ("" is a quote inside, line ends
 * are kept as they are); quotes inside other fields are text. A first line "sep=;" names the
 * delimiter, as spreadsheets write it.
 * JSON Lines: one object per line; fields carry their names. Numbers are their exact text.
 *
 * Refused by line and reason: UTF-16 and UTF-32 by name, invalid UTF-8, zero bytes, an open or
 * continued quote, records longer than the limit, and a first CSV row of one field that holds ';',
 * '|' or a tab while the delimiter was not given. */
#ifndef SPT_TEXT_TABLE_H
#define SPT_TEXT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

enum table_kind { TABLE_TSV, TABLE_CSV, TABLE_JSONL };

/* Source of bytes: up to n bytes into p, *got == 0 means the end. */
typedef spt_status (*table_read_fn)(void *ctx, void *p, size_t n, size_t *got, spt_err *err);

struct table_options {
    enum table_kind kind;
    char delimiter;    /* 0: tab for TSV, comma for CSV (and the check of the first row) */
    bool whole_lines;  /* TSV: a line is one field, whatever it holds */
    bool any_bytes;    /* invalid UTF-8 and zero bytes pass (plain texts: the vocabulary's affair) */
    size_t max_record; /* bytes of one record; 0: TABLE_MAX_RECORD */
    size_t block;      /* bytes asked for at a time; 0: 256 KiB (tests use 1) */
};

enum table_value { TABLE_TEXT, TABLE_NUMBER, TABLE_BOOL, TABLE_NULL, TABLE_NESTED };

struct table_field {
    const char *text; /* UTF-8, unescaped; not NUL-terminated */
    size_t len;
    const char *name; /* JSON Lines: the key; NULL otherwise */
    size_t name_len;
    enum table_value kind; /* CSV and TSV: always TABLE_TEXT */
};

struct table_row {
    const struct table_field *field;
    size_t count;
    uint64_t line;   /* 1-based line where the record starts */
    uint64_t offset; /* byte offset of that line in the source */
    bool blank;      /* nothing on this line (count 0; the caller decides what it means) */
};

typedef struct table_reader table_reader;
spt_status table_open(const struct table_options *o, table_read_fn source, void *ctx,
                      table_reader **out, spt_err *err);
/* *more = false at the end. The row is valid until the next call. After a failure the reader
 * stays failed. */
spt_status table_next(table_reader *t, struct table_row *row, bool *more, spt_err *err);
void table_close(table_reader *t);

/* Name of a kind for messages: "TSV", "CSV", "JSON Lines". */
const char *table_kind_name(enum table_kind k);

#endif
