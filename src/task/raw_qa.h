/* Question answering as it is published: SQuAD's JSON files, MRQA's JSON Lines, definite pronouns.
 * Records have the fields of the prepared data sets. Sources are read piece by piece: memory
 * follows the longest article or line, not the file. */
#ifndef SPT_TASK_RAW_QA_H
#define SPT_TASK_RAW_QA_H

#include "task/task.h"
#include "text/lines.h"

/* key: what TFDS sorts by. */
typedef spt_status (*raw_qa_fn)(void *ctx, const char *key, record *r, spt_err *err);

/* One JSON object with "data": [articles]. v2: also plausible_answers and is_impossible. `path`
 * names the source in messages. */
spt_status raw_squad_stream(bool v2, const char *path, lines_source_fn source, void *source_ctx,
                            raw_qa_fn emit, void *ctx, spt_err *err);
/* A header line, then one line per paragraph. */
spt_status raw_mrqa_stream(const char *split, const char *path, lines_source_fn source,
                           void *source_ctx, raw_qa_fn emit, void *ctx, spt_err *err);
/* Definite pronouns: sentence, pronoun, two candidates with a comma between them, the right one,
 * and an empty line; a missing sentence ends the file. Keys are the numbers of the examples. */
spt_status raw_dpr_stream(const char *path, lines_source_fn source, void *source_ctx,
                          raw_qa_fn emit, void *ctx, spt_err *err);

#endif
