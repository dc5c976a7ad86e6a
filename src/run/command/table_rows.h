/* Rows of named cells from TSV, CSV, JSON Lines and predictions files, and into them. */
#ifndef SPT_RUN_TABLE_ROWS_H
#define SPT_RUN_TABLE_ROWS_H

#include "data/records.h"
#include "run/commands.h"
#include "task/record.h"

struct cell {
    const char *name;
    const char *text; /* numbers, true, false and nested values as JSON writes them */
    size_t len;
    enum table_value kind; /* TABLE_TEXT of TSV and CSV, whatever it holds */
};

struct cells {
    struct cell *cell;
    size_t count, cap;
    record keep; /* memory of names and texts */
};
void cells_release(struct cells *c);
void cells_clear(struct cells *c);
/* Name and text are copied. */
spt_status cells_add(struct cells *c, const char *name, size_t name_len, const char *text,
                     size_t len, enum table_value kind, spt_err *err);
const struct cell *cells_find(const struct cells *c, const char *name);

/* --- reading --- */

/* An object under "input" or "inputs" is opened, as the reference's inference files have it:
 * inputs_pretokenized becomes "input", targets_pretokenized "target", its other members stand
 * beside them. A table without header has the columns text, label (of two), text (of one), or 1, 2,
 * ... */
typedef struct rows rows;
/* header, format, delimiter: of the settings. */
spt_status rows_open(const struct settings *s, const char *path, rows **out, spt_err *err);
void rows_close(rows *r); /* accepts NULL */
spt_status rows_next(rows *r, struct cells *out, bool *more, spt_err *err);
spt_status rows_rewind(rows *r, spt_err *err);
bool rows_can_rewind(const rows *r);
bool rows_has_header(const rows *r); /* JSON Lines: always */
/* "FILE: line N: " in front of the message. */
spt_status rows_wrap(const rows *r, spt_status st, spt_err *err);

/* --- writing --- */

enum rows_kind { ROWS_TSV, ROWS_CSV, ROWS_JSONL, ROWS_PREDICTIONS };

/* A row as one line (CSV: record) of a kind. column: [n] of TSV and CSV; cells of other names are
 * SPT_E_FORMAT, missing ones empty. What a kind cannot hold is SPT_E_FORMAT. */
spt_status rows_put(buf *out, enum rows_kind kind, const char *const *column, size_t n,
                    const struct cells *row, spt_err *err);
spt_status rows_put_header(buf *out, enum rows_kind kind, const char *const *column, size_t n,
                           spt_err *err);

#endif
