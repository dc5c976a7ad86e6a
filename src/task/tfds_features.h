/* features.json, as TFDS writes it. */
#ifndef SPT_TASK_TFDS_FEATURES_H
#define SPT_TASK_TFDS_FEATURES_H

#include "task/tfds_write.h"

spt_status tfds_features_json(const struct tfds_feature *f, size_t n, buf *out, spt_err *err);

#endif
