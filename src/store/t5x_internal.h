/* Shared by the files that read and write T5X checkpoints. */
#ifndef SPT_STORE_T5X_INTERNAL_H
#define SPT_STORE_T5X_INTERNAL_H

#include "codec/msgpack.h"
#include "store/t5x_checkpoint.h"

enum { T5X_MAX_PATH = 65536, T5X_VERSION = 3 };

/* Orders names component by component ('/' below every other byte). */
int t5x_compare(const char *a, const char *b);

/* The array inside a msgpack extension of type 1 or 3: [shape, dtype name, bytes]. */
spt_status t5x_parse_array(const msgpack_token *ext, struct tensor_view *out, spt_err *err);
void t5x_put_array(buf *out, const struct tensor_view *v);

/* The directory a path means: a step directory itself, the folder of a `checkpoint` file, or the
 * latest step of a MODEL_DIR. */
spt_status t5x_resolve(const char *path, buf *dir, spt_err *err);

/* Absent is an answer; anything else that goes wrong is an error and never "absent". */
spt_status t5x_exists(const char *path, bool *yes, spt_err *err);

/* "checkpoint_<digits>": its step. */
bool t5x_step_of(const char *name, int64_t *step);

#endif
