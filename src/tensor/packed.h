/* A batch as the model sees it: rows of all examples one behind the other, no padding.
 *
 * Encoder tokens of example b are enc_ids[enc_off[b] .. enc_off[b+1]); the prompt rows in front of
 * them are not part of these arrays (the model adds P rows per example). Decoder rows likewise.
 * The arrays belong to whoever made the batch and are read-only for everybody else. */
#ifndef SPT_TENSOR_PACKED_H
#define SPT_TENSOR_PACKED_H

#include <stdint.h>

struct packed_batch {
    int64_t B;               /* examples */
    const int64_t *enc_off;  /* [B + 1], enc_off[0] = 0 */
    const int32_t *enc_ids;  /* [enc_off[B]], no padding ids (0) */
    const int64_t *dec_off;  /* [B + 1] */
    const int32_t *dec_in;   /* [dec_off[B]]: targets shifted right, first is the start id 0 */
    const int32_t *dec_target; /* [dec_off[B]] */
    const float *dec_weight; /* [dec_off[B]] loss weights, NULL: all 1 */
    int64_t Le, Ld;          /* feature lengths of the padded rectangle (rulings: dropout masks,
                                NUM_TOTAL_TARGET_TOKENS and decoding width depend on them) */
    const int64_t *index;    /* [B] index of the example in its epoch or file */
    const int32_t *prompt_of; /* [B] which prompt the example uses, NULL: prompt 0 for all */
};

#endif
