/* SeqIO's offline cache: ids of a task's examples before EOS and cutting (spec/data.md 4.9).
 * <root>/<task name with ':' as '/'>/ holds shards, info.<split>.json, stats.<split>.json and, as
 * the last file, COMPLETED. */
#ifndef SPT_TASK_CACHE_H
#define SPT_TASK_CACHE_H

#include "task/pipeline.h"

enum { CACHE_SHARDS = 64 };

/* Directory of a task's cache below a root; *found only if it is complete. */
spt_status cache_find(const char *root, const char *task, char *dir, size_t room, bool *found,
                      spt_err *err);
/* Number of shards of a split. SPT_E_CONFIG when the cache lacks the split. */
spt_status cache_shards(const char *dir, const char *split, size_t *out, spt_err *err);

/* Writes the cache of a task: `o` says where the data sets are and the vocabulary. Splits are those
 * given. An existing complete cache is SPT_E_CONFIG. Memory does not grow with the data set. */
spt_status cache_write(const struct task *t, const struct pipeline_options *o,
                       const char *const *split, size_t splits, const char *root, size_t shards,
                       uint64_t *examples, spt_err *err);

#endif
