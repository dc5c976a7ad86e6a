#ifndef SPT_TASK_PREPARE_INTERNAL_H
#define SPT_TASK_PREPARE_INTERNAL_H

#include "store/archive.h"
#include "task/prepare.h"
#include "task/raw_qa.h"

extern const struct prepare_set prepare_table[];
extern const size_t prepare_table_count;

/* The examples of MRPC's training file that belong to `split` (train or dev): a row is of the dev
 * set when its two ids are a line of `ids`. */
spt_status mrpc_stream(const char *split, const char *path, lines_source_fn source,
                       void *source_ctx, lines_source_fn ids, void *ids_ctx, task_emit_fn emit,
                       void *ctx, spt_err *err);

#endif
