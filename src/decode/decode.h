/* Decoding: greedy, sampling and beam search over anything that yields logits step by step.
 *
 *     struct decode_opts opts = decode_opts_default(DECODE_BEAM_T5X);
 *     opts.beams = 4;
 *     TRY(decode_check(&opts, 0, err));                             before the model is loaded
 *     ... t5_encode, t5_decoder_start ...
 *     struct decode_stepper s = decode_t5_stepper(decoder, V);      decode/decode_model.h
 *     TRY(decode_run(&s, &batch, &opts, &out, err));
 *     use(decode_best(&out, b));
 *     decode_out_release(&out);
 *
 * What an example decodes to never depends on its batch mates (except DECODE_SAMPLE_T5X, whose
 * random numbers are drawn over the whole batch as the reference does). */
#ifndef SPT_DECODE_DECODE_H
#define SPT_DECODE_DECODE_H

#include <stdbool.h>

#include "base/status.h"
#include "random/threefry.h"

/* Feeds one token to each of `rows` sequences and yields the logits of what follows. Sequences of
 * one example lie side by side, examples ascending. parent[r]: the row of the previous step that
 * row r continues (NULL in the first step). Sequences that are not continued are dropped. */
struct decode_stepper {
    void *ctx;
    int64_t V;
    spt_status (*step)(void *ctx, int64_t rows, const int32_t *example, const int32_t *parent,
                       const int32_t *token, float *logits /* [rows, V] */, spt_err *err);
    bool (*interrupted)(void); /* decode_run takes it from the options */
};

/* enum, name of the option value */
#define DECODE_METHOD_MAP(X)                                                                       \
    X(GREEDY, "greedy")                                                                            \
    X(SAMPLE, "sample")                                                                            \
    X(SAMPLE_T5X, "temperature_sample")                                                            \
    X(BEAM_T5X, "beam_search")                                                                     \
    X(BEAM_HF, "beam_hf")

enum decode_method {
#define DECODE_METHOD_ENUM(method, name) DECODE_##method,
    DECODE_METHOD_MAP(DECODE_METHOD_ENUM)
#undef DECODE_METHOD_ENUM
        DECODE_METHOD_COUNT
};

enum decode_early { DECODE_EARLY_FALSE, DECODE_EARLY_TRUE, DECODE_EARLY_NEVER };

/* A list of token sequences: sequence i is ids[off[i]] .. ids[off[i + 1] - 1]. */
struct decode_ids {
    int64_t n;
    const int64_t *off; /* [n + 1] */
    const int32_t *ids;
};

/* True when a sequence is to end here (a stop text was produced). */
typedef bool (*decode_stop_fn)(void *ctx, int64_t example, const int32_t *tokens, int64_t n);

struct decode_opts {
    enum decode_method method;
    int32_t start_id, eos_id; /* 0, 1 */
    int64_t max_len;          /* most tokens to generate, EOS included; width of the result */
    int64_t n;                /* results per example: n-best, or samples */

    /* Both beam searches. */
    int64_t beams;
    /* BEAM_T5X: scores are divided by ((5 + length) / 6)^alpha. */
    double alpha;
    /* BEAM_T5X: stop after this many steps; 0: off. SAMPLE_T5X: most tokens after the forced
     * prefix of each row; 0: off. */
    int64_t max_decode_steps;
    /* BEAM_HF: scores are divided by length^length_penalty. */
    double length_penalty;
    enum decode_early early_stopping;

    /* Sampling. Temperatures up to 1e-4 are greedy. top_k 0 and top_p 1 (SAMPLE_T5X: also 0) switch
     * these off. */
    double temperature;
    int64_t top_k;
    double top_p;
    struct rng_key key; /* DECODE_SAMPLE: example and sample numbers are folded in */
    /* Score by the distribution sampled from (true: the reference's default, greedy then scores 0)
     * or by that of the model. */
    bool rescale_log_probs;

    /* GREEDY, SAMPLE, BEAM_HF: Hugging Face's processors, in its order. */
    double repetition_penalty; /* 1: off */
    int64_t no_repeat_ngram;   /* 0: off */
    int64_t min_len;           /* no EOS before this many tokens were generated */
    bool forced_eos;           /* the last possible token is EOS */
    struct decode_ids bad_words;

    /* All methods: end after one of these sequences, or when the function says so. */
    struct decode_ids stop;
    decode_stop_fn stop_fn;
    void *stop_ctx;

    /* Asked before every step: true ends the whole search with SPT_E_INTERRUPTED. NULL: never. */
    bool (*interrupted)(void);

    /* Without scores greedy decoding saves a pass over the logits; they are 0 then. */
    bool want_scores;
};

/* T5X: beam_search with 1 beam and alpha 0.6, temperature_sample with topk 1. Others: one result,
 * no processors. max_len is 0 and must be set. */
struct decode_opts decode_opts_default(enum decode_method method);
bool decode_method_from_name(const char *name, enum decode_method *out);
const char *decode_method_name(enum decode_method method);
/* SPT_E_CONFIG for impossible values and combinations, naming them. V 0: not known yet. */
spt_status decode_check(const struct decode_opts *opts, int64_t V, spt_err *err);
/* Sequences that a step feeds at most (the `rows` of t5_decoder_plan). */
int64_t decode_rows(const struct decode_opts *opts, int64_t B);

struct decode_batch {
    int64_t B;
    /* Forced tokens [B, forced_len], as the reference's decoder_input_tokens: column 0 is not
     * used, column i + 1 is what step i must emit, 0 means free. NULL: none. Not for BEAM_HF. */
    const int32_t *forced;
    int64_t forced_len;
    const int64_t *number; /* [B] of the examples in their data set, for random numbers; NULL: b */
};

/* Results. T5X methods sort each example's decodes by ascending score (the best is last), the
 * others by descending score; samples of DECODE_SAMPLE keep their order. */
struct decode_out {
    int64_t B, n, len;
    int32_t *tokens; /* [B, n, len], 0 behind the end; without the start token */
    int32_t *length; /* [B, n] tokens generated, EOS included */
    float *score;    /* [B, n] */
    bool best_last;
};

spt_status decode_run(const struct decode_stepper *s, const struct decode_batch *batch,
                      const struct decode_opts *opts, struct decode_out *out, spt_err *err);
void decode_out_release(struct decode_out *out); /* accepts an all-zero object */
/* Index of the best decode of example b within [0, n). */
int64_t decode_best(const struct decode_out *out, int64_t b);

#endif
