/* Decoding with a T5 model: one object holds the activations of the encoder and the decoder's cache
 * for batches of up to a planned size, so that further batches allocate only their results. */
#ifndef SPT_DECODE_DECODE_MODEL_H
#define SPT_DECODE_DECODE_MODEL_H

#include "decode/decode.h"
#include "model/model.h"

typedef struct decode_model decode_model;

struct decode_model_plan {
    int64_t examples;
    int64_t enc_rows; /* of all examples together, prompt rows included */
    int64_t pass_rows; /* of one pass through the encoder, 0: all of them */
    int64_t rows;     /* sequences per step: decode_rows(opts, examples) */
    int64_t max_len;
    int64_t P_dec; /* rows of a decoder prompt, 0: none */
};

/* The model must outlive the object. Confined to one thread. */
spt_status decode_model_new(const t5_model *m, const struct decode_model_plan *plan,
                            decode_model **out, spt_err *err);
void decode_model_free(decode_model *d);

/* Encodes and decodes examples [first, first + count) of the batch; their random numbers follow
 * batch->index (NULL: position in the batch). forced: [count, forced_len] as in decode_batch, or
 * NULL; EOS in it counts as free (the reference's prompt_with_targets). opts->start_id and eos_id
 * are the caller's to set. */
spt_status decode_model_run(decode_model *d, const struct t5_prompts *prompts,
                            const struct packed_batch *batch, int64_t first, int64_t count,
                            const struct decode_opts *opts, const int32_t *forced,
                            int64_t forced_len, struct decode_out *out, spt_err *err);

/* A decoder that t5_decoder_start was called on, as the searches see it. */
struct decode_stepper decode_t5_stepper(t5_decoder *d, const t5_model *m);

#endif
