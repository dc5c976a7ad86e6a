/* SeqIO's feature converters for one example, without packing (spec/data.md 3.6). The model reads
 * packed rows instead (tensor/packed.h); these are for showing and for comparing. */
#ifndef SPT_TASK_CONVERT_H
#define SPT_TASK_CONVERT_H

#include <stdbool.h>

#include "base/status.h"

/* All outputs have the model's length, zeros behind the ids. Longer ids are SPT_E_FORMAT. */
struct encdec_features {
    int32_t *encoder_input;  /* [inputs] */
    int32_t *decoder_target; /* [targets] */
    int32_t *decoder_input;  /* [targets], shifted right behind 0 */
    int32_t *loss_weight;    /* [targets], 1 where the target is not 0 */
};
spt_status convert_encdec(const int32_t *inputs, size_t n, size_t inputs_len,
                          const int32_t *targets, size_t m, size_t targets_len,
                          const struct encdec_features *out, spt_err *err);

struct decoder_features {
    int32_t *target, *input, *loss_weight;
    int32_t *causal; /* prefix LM only, else NULL */
};
spt_status convert_lm(const int32_t *targets, size_t n, size_t len,
                      const struct decoder_features *out, spt_err *err);
/* Sequence = inputs then targets; len = inputs length + targets length. */
spt_status convert_prefix_lm(const int32_t *inputs, size_t n, size_t inputs_len,
                             const int32_t *targets, size_t m, size_t targets_len,
                             bool loss_on_targets_only, const struct decoder_features *out,
                             spt_err *err);

#endif
