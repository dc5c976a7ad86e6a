/* The frozen T5 with soft prompts: forward and backward over packed rows.
 *
 * A t5_model is immutable after t5_model_new and may be shared by threads; t5_acts (activations
 * of one pass) is confined to one thread at a time and its storage is planned for a number of
 * rows, so that steps allocate nothing. */
#ifndef SPT_MODEL_MODEL_H
#define SPT_MODEL_MODEL_H

#include "model/config.h"
#include "model/source.h"
#include "tensor/packed.h"

typedef struct t5_model t5_model;
typedef struct t5_acts t5_acts;

/* Reads and prepares every parameter, dropping mapped pages tensor by tensor. The ops context must
 * outlive the model. backward: prepare what t5_backward needs. */
spt_status t5_model_new(ops *o, t5_source *src, bool backward, t5_model **out, spt_err *err);
void t5_model_free(t5_model *m);
const struct t5_config *t5_model_config(const t5_model *m);
size_t t5_model_bytes(const t5_model *m); /* of the prepared weights */
/* The embedding rows of ids, as float32 [n, E] (prompt initialisers). */
spt_status t5_model_embed(const t5_model *m, const int32_t *ids, int64_t n, float *out,
                          spt_err *err);

/* Where the prompt goes (spec/t5x.md section 1.3). */
enum t5_combine { T5_PREFIX, T5_PREFIX_AFTER_BOS, T5_SUFFIX };

/* Prompts of a pass: `count` encoder prompts of P rows each, [count, P, E], and optionally one for
 * the decoder [P_dec, E]. An example's prompt is batch->prompt_of[b]. P may be 0. */
struct t5_prompts {
    const float *enc; /* [count, P, E] */
    int64_t count, P;
    const float *dec; /* [P_dec, E] or NULL */
    int64_t P_dec;
    enum t5_combine combine;
};

/* Loss settings (spec/t5x.md section 3). */
enum t5_normalize {
    T5_NORM_NONE,     /* sum over tokens */
    T5_NORM_NUMBER,
    T5_NORM_REAL_TOKENS,
    T5_NORM_ALL_TOKENS, /* B * Ld */
    T5_NORM_PER_SEQUENCE
};
struct t5_loss_opts {
    float z_loss, label_smoothing;
    enum t5_normalize normalize;
    float factor; /* T5_NORM_NUMBER */
};

/* Sums over the batch in example order; per-example values where asked for. */
struct t5_loss {
    double loss, z_loss;
    double weight_sum;  /* loss weights before normalising */
    int64_t correct;    /* positions with weight != 0 whose argmax is the target */
    int64_t counted;    /* positions with weight != 0 */
    float *example_loss; /* [B] or NULL: unnormalised cross entropy sums without z-loss; the score of
                            score_batch is its negative */
};

/* Dropout of one step (spec/t5x.md section 1.11, 11.7): keys come from `key`, the step's key. */
struct t5_dropout {
    float rate; /* 0: off */
    uint32_t key[2];
    bool legacy_paths; /* derivation of spec section 11.6; false: lazy */
};

/* Storage for passes of up to `rows` encoder rows (prompt rows included), `dec_rows` decoder rows
 * and `examples` examples. */
spt_status t5_acts_new(const t5_model *m, int64_t rows, int64_t dec_rows, int64_t examples,
                       bool backward, t5_acts **out, spt_err *err);
void t5_acts_free(t5_acts *a);
size_t t5_acts_bytes(const t5_model *m, int64_t rows, int64_t dec_rows, int64_t examples,
                     bool backward);

/* Encoder and decoder over the batch, and the loss. Per-batch normalising factors are those of
 * `whole`, the batch that this one is a micro-batch of (NULL: itself). */
spt_status t5_forward(const t5_model *m, const struct t5_prompts *prompts,
                      const struct packed_batch *batch, const struct packed_batch *whole,
                      const struct t5_loss_opts *opts, const struct t5_dropout *drop, t5_acts *acts,
                      struct t5_loss *out, spt_err *err);
/* After t5_forward on the same acts. Adds the gradients of the examples in order:
 * denc[shard_of[b]] += d loss / d enc prompt of example b. denc: [shards, count * P * E] (prompts
 * of a shard side by side), ddec: [shards, P_dec * E] or NULL. */
spt_status t5_backward(const t5_model *m, const struct packed_batch *batch, t5_acts *acts,
                       const int32_t *shard_of, float *denc, float *ddec, spt_err *err);

/* Hidden states for golden tests: after encoder layer i (i < enc_layers), float32 [rows, E]. */
spt_status t5_acts_hidden(const t5_model *m, const t5_acts *a, bool decoder, int64_t layer,
                          float *out, spt_err *err);
/* Logits of the last forward, float32 [dec rows, V]; only when backward was not run. */
spt_status t5_acts_logits(const t5_model *m, const t5_acts *a, float *out, spt_err *err);

#endif
