/* Lines of a source that is read piece by piece, whatever its size. */
#ifndef SPT_TEXT_LINES_H
#define SPT_TEXT_LINES_H

#include <stdbool.h>

#include "base/buf.h"

/* Fills up to n bytes; *got == 0 means the end of the source. */
typedef spt_status (*lines_source_fn)(void *ctx, void *p, size_t n, size_t *got, spt_err *err);

typedef struct line_reader line_reader;
/* Lines end with LF, CR LF or CR (as Python opens text files), which is not part of them; a last
 * line without an end counts. Longer ones than `max` bytes are SPT_E_FORMAT. Confined to one
 * thread. */
spt_status line_reader_new(lines_source_fn source, void *ctx, size_t max, line_reader **out,
                           spt_err *err);
/* *line is NULL behind the last line; else valid until the next call, not NUL-terminated. */
spt_status line_reader_next(line_reader *r, const char **line, size_t *len, spt_err *err);
uint64_t line_reader_number(const line_reader *r); /* of the line just read, from 1 */
/* Puts in front of a message what it lacks, and returns st: "PATH: line N: " when it is about the line
 * just read, "PATH: " when line_reader_next says which line is too long, nothing when the source
 * failed, which names itself. */
spt_status line_reader_blame(const line_reader *r, const char *path, spt_status st, spt_err *err);
void line_reader_free(line_reader *r);             /* accepts NULL; the source is the caller's */

#endif
