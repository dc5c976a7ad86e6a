/* The published GLUE and SuperGLUE archives, unpacked: tables and JSON Lines as they are
 * (spec/data.md 4.7, 4.8). Records have the fields of the prepared data sets. */
#ifndef SPT_TASK_RAW_GLUE_H
#define SPT_TASK_RAW_GLUE_H

#include "task/task.h"
#include "text/lines.h"

/* One table, fed line by line (without line ends). */
typedef struct glue_tsv glue_tsv;
/* config: "cola" ... "ax"; split: train, dev, test (mnli: dev_matched, ...). SPT_E_CONFIG for an
 * unknown configuration. */
spt_status glue_tsv_new(const char *config, const char *split, glue_tsv **out, spt_err *err);
void glue_tsv_free(glue_tsv *g); /* accepts NULL */
/* *have false: a header, a blank line or a row that the reference drops. */
spt_status glue_tsv_line(glue_tsv *g, const char *line, size_t len, record *out, bool *have,
                         spt_err *err);

/* One line of a SuperGLUE file becomes one or more records. config: "boolq", ..., "wsc",
 * "wsc.fixed". */
spt_status super_glue_line(const char *config, const char *line, size_t len, task_emit_fn emit,
                           void *ctx, spt_err *err);

/* The directory and file of a split below the unpacked archive: "SST-2/train.tsv",
 * "BoolQ/val.jsonl". False when there is none. */
bool raw_glue_file(const char *group, const char *config, const char *split, buf *out);
/* Every example of a source. `path` names it in messages. */
spt_status raw_glue_stream(const char *group, const char *config, const char *split,
                           const char *path, lines_source_fn source, void *source_ctx,
                           task_emit_fn emit, void *ctx, spt_err *err);
/* The same of a file. */
spt_status raw_glue_read(const char *group, const char *config, const char *split, const char *path,
                         task_emit_fn emit, void *ctx, spt_err *err);

#endif
