/* The initialisers of the reference (spec/t5x.md section 11.6), equal to it bit for bit where they
 * copy or draw. They need embedding rows, not a model: a callback fetches them. */
#ifndef SPT_PROMPT_INIT_H
#define SPT_PROMPT_INIT_H

#include "prompt/prompt.h"
#include "vocab/vocab.h"

enum prompt_init_kind {
    PROMPT_INIT_UNIFORM,  /* uniform [0, scale) */
    PROMPT_INIT_SAMPLED,  /* rows of the embedding table, drawn without replacement while P fits */
    PROMPT_INIT_LABELS,   /* row i: mean of the embeddings of the pieces of text i */
    PROMPT_INIT_STRING,   /* row i: embedding of piece i */
    PROMPT_INIT_FILE,     /* a prompt file of exactly [P, E] */
    PROMPT_INIT_CODE,     /* a plug-in's function */
};

/* Rows [n, E] of the embedding table as float32. t5_model_embed fits behind it. */
typedef spt_status (*prompt_embed_fn)(void *ctx, const int32_t *ids, int64_t n, float *out,
                                      spt_err *err);

struct prompt_init_env;
typedef spt_status (*prompt_code_fn)(void *ctx, const struct prompt_init_env *env,
                                     const uint32_t key[2], int64_t P, int64_t E, float *out,
                                     spt_err *err);

struct prompt_init {
    enum prompt_init_kind kind;
    float scale;        /* UNIFORM: 0.5 in the configurations, 0.01 is flax's own default */
    int64_t population; /* SAMPLED: ids 0 .. population-1; 0: the whole table; capped at V */
    const char *const *texts; /* LABELS: the label texts; STRING: texts[0] */
    size_t text_count;
    const char *file;   /* FILE */
    bool npy_bf16;      /* FILE: |V2 arrays are bfloat16 */
    const struct prompt_init *fallback; /* LABELS, STRING: rows that no text fills; NULL: uniform
                                           with scale 0.01 */
    prompt_code_fn code; /* CODE */
    void *code_ctx;
    const char *code_name;
};
/* kind UNIFORM with scale 0.5, population 5000. */
void prompt_init_defaults(struct prompt_init *i);

struct prompt_init_env {
    prompt_embed_fn embed; /* may be NULL for UNIFORM and FILE */
    void *ctx;
    int64_t rows;          /* V: rows of the embedding table */
    const vocab *vocab;    /* LABELS, STRING */
};

/* The initialiser with a key (what the module's parameter gets), out: [P, E]. */
spt_status prompt_init_run(const struct prompt_init *init, const struct prompt_init_env *env,
                           const uint32_t key[2], int64_t P, int64_t E, float *out, spt_err *err);

/* The parameter's key of a run (section 11.6). legacy: FLAX_LAZY_RNG off. train: the seed is split
 * first (t5x.train); false: the seed's key is used directly (fall-back of eval and infer). */
struct prompt_key_opts {
    bool legacy, eval;
    enum prompt_side side;
};
void prompt_init_key(uint64_t seed, const struct prompt_key_opts *opts, uint32_t key[2]);

/* How it was filled, for the plan: number of rows that texts filled. */
size_t prompt_init_filled(const struct prompt_init *init, int64_t P);
/* "class labels (2 rows), rest sampled from 5000" into text. */
void prompt_init_text(const struct prompt_init *init, int64_t P, char *text, size_t cap);

#endif
