/* tf.train.Example messages, the payload of TFRecord files, to and from records. */
#ifndef SPT_TASK_TF_EXAMPLE_H
#define SPT_TASK_TF_EXAMPLE_H

#include "task/record.h"

/* Bytes become texts, int64 and float lists numbers; a list of one is FIELD_TEXT, FIELD_INT or
 * FIELD_FLOAT. A feature without a list is absent; of doubled keys the last one counts. */
spt_status tf_example_read(const void *bytes, size_t size, record *out, spt_err *err);
/* Fields in order. */
spt_status tf_example_write(const record *r, buf *out, spt_err *err);

#endif
