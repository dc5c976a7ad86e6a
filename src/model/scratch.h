/* Parameters of a T5 as the reference initialises them (spec/t5x.md 1.13, 11.6): what a checkpoint
 * lacks is made so with RestoreCheckpointConfig.fallback_to_scratch. */
#ifndef SPT_MODEL_SCRATCH_H
#define SPT_MODEL_SCRATCH_H

#include "model/config.h"
#include "random/flax_path.h"

/* The parameter of this T5X name and shape ([in, out]); params: the key of flax's "params" stream, mode: how
 * modules derive theirs from it. SPT_E_NOTFOUND for names that no T5 has. */
spt_status t5_scratch(const struct t5_config *c, const char *name, const struct tensor_shape *shape,
                      struct rng_key params, enum flax_rng mode, float *out, spt_err *err);

#endif
