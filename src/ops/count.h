/* A backend that computes nothing: code written over ops.h runs as it would, and this one books the
 * memory it would have used. Weights take the room that the watched backend gives them, buffers
 * that of the pages which the calls write to; read values are zeros. Wrapped by ops_profile_open it
 * also counts the operations, so that a step's work is known before a weight is read. */
#ifndef SPT_OPS_COUNT_H
#define SPT_OPS_COUNT_H

#include "ops/ops.h"

struct ops_count {
    double weights;  /* bytes of prepared weights and tables */
    double buffers;  /* most bytes of written pages that were held at once */
    double reserved; /* bytes of the buffers held now, written to or not */
    double scratch;  /* of the backend's threads: products and attention */
    double loading;  /* most bytes of weights so far and of the file's part being read */
};

/* `like` outlives the result; its scratch for products is made, nothing else. page: bytes that
 * become resident at once in large buffers (2 MB with large pages). */
spt_status ops_count_open(ops *like, size_t page, ops **out, spt_err *err);
/* Of a context opened above; from here on `buffers` counts anew from what is held. */
struct ops_count ops_count_take(ops *o);

#endif
