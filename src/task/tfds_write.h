/* Writes a prepared TFDS directory from records, so that raw archives and users' own rows can be
 * read by the reference, too: dataset_info.json and one TFRecord shard per split, in TFDS order. */
#ifndef SPT_TASK_TFDS_WRITE_H
#define SPT_TASK_TFDS_WRITE_H

#include "task/record.h"

typedef struct tfds_writer tfds_writer;
/* name: "glue/sst2:2.0.0". Nothing is written before tfds_writer_commit. */
spt_status tfds_writer_new(const char *data_dir, const char *name, tfds_writer **out, spt_err *err);
/* key: what TFDS sorts by ("0", "1", ... for GLUE); NULL: records keep the order of adding. */
spt_status tfds_writer_add(tfds_writer *w, const char *split, const record *r, const char *key,
                           spt_err *err);
/* Writes the shards, then dataset_info.json as the last file. Frees w, whatever happens. */
spt_status tfds_writer_commit(tfds_writer *w, size_t shards, spt_err *err);
void tfds_writer_abort(tfds_writer *w); /* accepts NULL */

#endif
