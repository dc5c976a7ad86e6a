/* The frozen T5 with soft prompts: forward and backward over packed rows, scoring and decoding.
 *
 * A t5_model is immutable after t5_model_new; its ops context runs one call at a time (with threads
 * of its own), so passes on one model do not overlap. t5_acts (activations of
 * one pass) and t5_decoder (state of step-by-step decoding) are confined to one thread at a time;
 * their storage is planned for a number of rows, so that steps allocate nothing. Whatever the
 * batch, the bits of an example's results do not depend on its batch mates. */
#ifndef SPT_MODEL_MODEL_H
#define SPT_MODEL_MODEL_H

#include "comm/comm.h"
#include "model/config.h"
#include "model/source.h"
#include "tensor/packed.h"

typedef struct t5_model t5_model;
typedef struct t5_acts t5_acts;
typedef struct t5_decoder t5_decoder;

/* Where t5_model_new_from gets parameters by their T5X names. */
struct t5_getter {
    void *ctx;
    const struct t5_config *config;
    spt_status (*param)(void *ctx, const char *name, struct t5_param *out, spt_err *err);
    void (*release)(void *ctx, struct t5_param *p); /* may be NULL */
};

/* What a model is prepared for. */
enum t5_uses {
    T5_BACKWARD = 1, /* t5_backward */
    T5_ABSORB = 2    /* absorbed cross-attention: the decoder's kernels of keys and values once more,
                        cut by heads */
};

/* Reads and prepares every parameter, releasing each one after it was packed. The ops context must
 * outlive the model. uses: of enum t5_uses. */
spt_status t5_model_new(ops *o, t5_source *src, unsigned uses, t5_model **out, spt_err *err);
spt_status t5_model_new_from(ops *o, const struct t5_getter *get, unsigned uses, t5_model **out,
                             spt_err *err);
/* The part of a model that this rank of `ranks` holds (NULL: the whole): heads, feed-forward
 * columns and vocabulary rows are split, passes exchange, and all ranks must make the same calls.
 * SPT_E_CONFIG when there are more ranks than heads. */
spt_status t5_model_new_part(ops *o, t5_source *src, unsigned uses, comm *ranks, t5_model **out,
                             spt_err *err);
spt_status t5_model_new_part_from(ops *o, const struct t5_getter *get, unsigned uses, comm *ranks,
                                  t5_model **out, spt_err *err);
void t5_model_free(t5_model *m);
const struct t5_config *t5_model_config(const t5_model *m);
ops *t5_model_ops(const t5_model *m);
size_t t5_model_bytes(const t5_model *m); /* of the prepared weights */
/* Of buffers for what ranks tell each other, as large as passes have needed so far. */
size_t t5_model_link_bytes(const t5_model *m);
/* The embedding rows of ids, as float32 [n, E] (prompt initialisers). SPT_E_FORMAT for an id that
 * is not in 0..V-1. */
spt_status t5_model_embed(const t5_model *m, const int32_t *ids, int64_t n, float *out,
                          spt_err *err);

/* Where the prompt goes (spec/t5x.md section 1.3). */
enum t5_combine {
    T5_PREFIX,           /* in front of the input */
    T5_PREFIX_AFTER_BOS, /* behind the first token */
    T5_SUFFIX,           /* in front of the last token (suffix_prompt, before_eos=True) */
    T5_SUFFIX_END        /* behind the last token (before_eos=False) */
};

/* Prompts of a pass: `count` encoder prompts of P rows each, [count, P, E], and optionally one for
 * the decoder [P_dec, E], put in front of the decoder input; logits of its rows are dropped. An
 * example's prompt is batch->prompt_of[b]. P may be 0. NULL instead of a t5_prompts: no prompt. */
struct t5_prompts {
    const float *enc; /* [count, P, E] */
    int64_t count, P;
    /* [count + 1]: prompts of different lengths. Prompt i is the rows first[i] .. first[i + 1] of
     * enc [first[count], E], and P the longest. NULL: P rows each. */
    const int64_t *first;
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
    /* [B]: what each example's loss is divided by, in a batch that several batches were joined
     * into (their t5_loss_factor); NULL: the factor of the batch. */
    const double *factor_of;
};

/* What one example adds to the sums. */
struct t5_example_loss {
    double loss, z_loss, weight_sum;
    int64_t correct, counted;
};

/* t5_forward adds to the sums, example by example, so that the ranges of a batch in order give the
 * same bits as the whole: set them to zero before the first range. */
struct t5_loss {
    double loss, z_loss; /* loss contains z_loss */
    double weight_sum;   /* of the loss weights that were used (after T5_NORM_PER_SEQUENCE) */
    int64_t correct;     /* positions with weight != 0 whose argmax is the target */
    int64_t counted;     /* positions with weight != 0 */
    float *example_loss; /* NULL, or one number per example of the range (written): cross entropy
                            times the batch's own weight, without z-loss, label smoothing and
                            normalising; score_batch is its negative */
    struct t5_example_loss *each; /* NULL, or one per example of the range (written): whoever adds
                                     them in order has the sums to the bit */
};
void t5_loss_add(struct t5_loss *sum, const struct t5_example_loss *example);
/* What the loss of a whole batch is divided by (spec/t5x.md section 3.3). */
double t5_loss_factor(const struct packed_batch *batch, const struct t5_loss_opts *opts);

/* Dropout of one step (spec/t5x.md sections 1.11, 11.7). */
struct t5_dropout {
    float rate;        /* 0: off */
    uint32_t key[2];   /* the step's key */
    bool legacy_paths; /* key derivation of spec section 11.6; false: lazy */
};

/* Storage for passes of up to so many rows; a larger pass is refused (SPT_E_CONFIG). */
struct t5_acts_plan {
    int64_t rows;     /* encoder rows, prompt rows included */
    int64_t enc_rows; /* those that t5_encode takes, `rows` at a time; 0: rows */
    int64_t dec_rows; /* decoder rows, decoder prompt rows included */
    int64_t examples; /* sequences on either side (targets of t5_score count, too) */
    bool backward;    /* keep what t5_backward needs */
    bool remat;       /* keep only the input of each layer; the backward computes the rest again */
    bool dropout;
    /* Cross-attention without keys and values: scores are (q Wk^T) e, values (p e) Wv, so that the
     * encoder rows are not projected at all. Pays for short targets (t5_absorb_pays); needs a model
     * with T5_ABSORB and no dropout. A setting of the run, never of a batch: results differ from
     * the plain path by rounding. */
    bool absorb;
    /* Compute layer 0's projections of the prompt for every example, although they are the same for
     * all examples of a prompt (the results are, too; for tests and measurements). */
    bool plain_prompt;
};
/* Whether absorbing needs fewer operations when every example has dec_rows decoder rows. */
bool t5_absorb_pays(const struct t5_config *c, int64_t dec_rows);
spt_status t5_acts_new(const t5_model *m, const struct t5_acts_plan *plan, t5_acts **out,
                       spt_err *err);
void t5_acts_free(t5_acts *a);
size_t t5_acts_host_bytes(const t5_acts *a); /* what of it is not the backend's */
size_t t5_acts_bytes(const struct t5_config *cfg, size_t elem, size_t wide,
                     const struct t5_acts_plan *plan);

/* Encoder, decoder and loss over the examples [first, first + count) of the batch. Factors of the
 * loss and dropout masks are those of the whole batch, so a batch may be cut into ranges at will.
 * drop may be NULL. */
spt_status t5_forward(const t5_model *m, const struct t5_prompts *prompts,
                      const struct packed_batch *batch, int64_t first, int64_t count,
                      const struct t5_loss_opts *opts, const struct t5_dropout *drop, t5_acts *acts,
                      struct t5_loss *out, spt_err *err);
/* After t5_forward on the same acts and batch. Adds the gradients of the examples in order:
 * denc[shard_of[b]] += d loss / d prompt used by example b (b counts from the start of the batch).
 * denc: [shards, count, P, E], ddec: [shards, P_dec, E] or NULL; shard_of NULL: all in shard 0. */
spt_status t5_backward(const t5_model *m, const struct packed_batch *batch, t5_acts *acts,
                       const int32_t *shard_of, float *denc, float *ddec, spt_err *err);
/* The same with a place for each example of the range (b counts from its first): the gradient of
 * its encoder prompt is added to enc[b] [rows of that prompt, E], of the decoder's to dec[b]
 * [P_dec, E]. Examples may share a place; enc or dec NULL: not wanted. */
spt_status t5_backward_to(const t5_model *m, t5_acts *acts, float *const *enc, float *const *dec,
                          spt_err *err);
/* Names the first tensor with a NaN or infinity of the last t5_forward or t5_backward on acts, in
 * the order of computation ("encoder/layers_3/mlp output"). False when all are finite. acts must
 * have been planned with backward and without remat to see more than the outputs. */
bool t5_nonfinite(const t5_model *m, const struct packed_batch *batch, t5_acts *acts, char *name,
                  size_t cap);

/* Encoder only: prepares acts for t5_score and t5_decoder_start. */
spt_status t5_encode(const t5_model *m, const struct t5_prompts *prompts,
                     const struct packed_batch *batch, int64_t first, int64_t count, t5_acts *acts,
                     spt_err *err);

/* Targets to score over the encoder rows of the last t5_encode: any number per example, example
 * numbers ascending (0 is the first of the encoded range). */
struct t5_targets {
    int64_t n;
    const int32_t *example;             /* [n] */
    const int64_t *off;                 /* [n + 1] */
    const int32_t *dec_in, *dec_target; /* [off[n]] */
    const float *weight;                /* [off[n]] or NULL: 1 */
};
/* score[i] = sum of weight * log p(token): the reference's score_batch. argmax [off[n]] may be
 * NULL; token_score [off[n]] (log p of each token, unweighted; 0 where the weight is 0) may be
 * NULL. */
spt_status t5_score(const t5_model *m, const struct t5_prompts *prompts,
                    const struct t5_targets *targets, t5_acts *acts, float *score,
                    float *token_score, int32_t *argmax, spt_err *err);
/* The same for many targets per example that begin alike (labels): decoder rows, logits and their
 * sums are computed once for targets with a common beginning. Differs from t5_score by rounding, so
 * it is a choice of the run. The plan's dec_rows counts the distinct rows (t5_label_rows). */
spt_status t5_score_labels(const t5_model *m, const struct t5_prompts *prompts,
                           const struct t5_targets *targets, t5_acts *acts, float *score,
                           float *token_score, int32_t *argmax, spt_err *err);
/* Distinct decoder rows of `count` targets of one example, without a decoder prompt. */
int64_t t5_label_rows(const struct t5_targets *targets, int64_t first, int64_t count);

/* --- step-by-step decoding --------------------------------------------------------------------
 * Keys and values of cross-attention are computed once per example. Keys and values of
 * self-attention go to append-only slots; a table of ancestors says which slots a sequence is made
 * of, so that beams are never copied. All sequences of a step are at the same position. */
struct t5_decoder_plan {
    int64_t examples, enc_rows;
    int64_t rows;    /* sequences per step */
    int64_t max_len; /* steps */
    int64_t P_dec;   /* rows of the decoder prompt, 0: none */
};
spt_status t5_decoder_new(const t5_model *m, const struct t5_decoder_plan *plan, t5_decoder **out,
                          spt_err *err);
void t5_decoder_free(t5_decoder *d);
/* Starts over with the encoder rows of acts, which may be reused afterwards. */
spt_status t5_decoder_start(t5_decoder *d, const struct t5_prompts *prompts, const t5_acts *acts,
                            spt_err *err);
/* Feeds one token to each of `rows` sequences. example[r] ascending (sequences of an example lie
 * side by side), parent[r]: row of the previous step that r continues (ignored in the first step,
 * may then be NULL). logits: float32 [rows, V]. */
spt_status t5_decoder_step(t5_decoder *d, int64_t rows, const int32_t *example,
                           const int32_t *parent, const int32_t *token, float *logits,
                           spt_err *err);
int64_t t5_decoder_position(const t5_decoder *d); /* steps since start */

/* --- for tests ---------------------------------------------------------------------------------
 * Hidden states of the last t5_forward (t5_encode), float32 [rows, E]: the residual stream after
 * layer `layer`; layer == number of layers: the normed output. Only the output without backward. */
spt_status t5_acts_hidden(const t5_model *m, const t5_acts *a, bool decoder, int64_t layer,
                          float *out, spt_err *err);
/* First encoder row of example b of the range (prompt rows included); b == count: the end. */
int64_t t5_acts_row(const t5_acts *a, bool decoder, int64_t b);
/* Logits of the last t5_forward, computed again: float32 [dec rows without prompt, V]. */
spt_status t5_acts_logits(const t5_model *m, t5_acts *a, float *out, spt_err *err);

#endif
