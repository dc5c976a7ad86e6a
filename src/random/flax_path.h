/* Keys that flax gives to a module: from the stream's key (parameters: the init key; dropout: the
 * step's key) and the module's path (spec/t5x.md sections 11.6 and 11.7). */
#ifndef SPT_RANDOM_FLAX_PATH_H
#define SPT_RANDOM_FLAX_PATH_H

#include "random/threefry.h"

enum flax_rng {
    FLAX_LAZY,  /* flax default; what `python -m t5x.train` does */
    FLAX_LEGACY /* FLAX_LAZY_RNG=no: t5x/train.py run by its path before Oct 2024 */
};

/* path: module names joined by '/', without the parameter's own name: "encoder/prompt/prompt" or
 * "encoder/layers_0/mlp/Dropout_0". counter: 1 for the first key that the module asks for. */
struct rng_key flax_path_key(struct rng_key stream, const char *path, uint32_t counter,
                             enum flax_rng mode);

#endif
