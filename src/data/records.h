/* The one reader of tabular data: TSV, CSV and JSON Lines files, gzip'd or not, or standard input
 * ("-"), as records with named columns. Every command reads through it.
 *
 * The header verdict (first row is a header or data) is logged once per file. Columns are named as
 * in the header (exactly; else ignoring case when only one fits), or by number from 1 where a file
 * has no header. Blank lines and rows of nothing but empty fields are skipped and counted. A row
 * with too few fields, or with more non-empty ones than the first row, is an error with its line.
 *
 * Errors read "FILE: line N: what: why; what to do". */
#ifndef SPT_DATA_RECORDS_H
#define SPT_DATA_RECORDS_H

#include "base/status.h"
#include "text/table.h"

enum header_mode { HEADER_AUTO, HEADER_YES, HEADER_NO };
enum records_kind { RECORDS_BY_NAME, RECORDS_TSV, RECORDS_CSV, RECORDS_JSONL };

struct records_options {
    const char *path; /* "-": standard input */
    enum records_kind
        kind;       /* BY_NAME: .tsv .txt .csv .jsonl .ndjson (.gz behind), else by content */
    char delimiter; /* 0: the kind's own */
    enum header_mode header;
    const char *const *columns; /* columns that the options name: their presence makes a header */
    size_t column_count;
    bool lines;   /* every line is one record of one column, no header, nothing skipped (infer) */
    bool quiet;   /* the verdict is not logged */
    size_t block; /* 0: default; tests use 1 */
};

struct records_counts {
    uint64_t records; /* handed out so far */
    uint64_t blank;   /* blank lines skipped */
    uint64_t empty;   /* rows whose fields were all empty, skipped */
    uint64_t ragged;  /* rows with empty extra fields behind the last column */
    uint64_t quoted;  /* TSV rows with a field that begins and ends with a quote */
};

/* The value of --delimiter: one character, "tab", or "" (0: the kind's own). */
spt_status records_delimiter(const char *text, char *out, spt_err *err);

typedef struct records records;
/* Reads up to the first record: an empty file (or one with only a header) is SPT_E_FORMAT. */
spt_status records_open(const struct records_options *o, records **out, spt_err *err);
void records_close(records *r);

const char *records_path(const records *r); /* for messages: "standard input" for "-" */
bool records_has_header(const records *r);
enum table_kind records_table_kind(const records *r);
/* Columns of the first row (JSON Lines: keys of the first object). Names are "1", "2", ... without
 * a header. */
size_t records_columns(const records *r);
const char *records_column_name(const records *r, size_t i);
/* "text, label, idx" for messages: names with commas in quotes, long lists cut. */
void records_list_columns(const records *r, char *out, size_t size);
/* Asks for a column by name or number; *slot is what records_field takes. SPT_E_CONFIG names the
 * columns that exist. In JSON Lines any name can be asked for if the first object has it. */
spt_status records_column(records *r, const char *name, size_t *slot, spt_err *err);
/* Names column i of a table without header; its number keeps working. */
spt_status records_name_column(records *r, size_t i, const char *name, spt_err *err);
/* True if such a column exists. */
bool records_has_column(const records *r, const char *name);

/* The next record, *more = false at the end. */
spt_status records_next(records *r, bool *more, spt_err *err);
uint64_t records_line(const records *r); /* line where the current record starts */
/* Field of the current record. Missing keys, null, lists and objects (JSON Lines) are errors. */
spt_status records_field(const records *r, size_t slot, const char **text, size_t *len,
                         spt_err *err);
/* A complaint about the current record: "FILE: line N: <message>". */
spt_status records_error(const records *r, spt_err *err, const char *fmt, ...) PRINTF_LIKE(3, 4);

struct records_counts records_count(const records *r);
/* False for standard input, pipes and devices. */
bool records_can_rewind(const records *r);
bool records_quiet(const records *r); /* the option */
/* Back to the first record. Column slots stay valid. */
spt_status records_rewind(records *r, spt_err *err);

#endif
