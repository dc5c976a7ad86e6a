/* Parameters of a model in memory, under their T5X names: random ones of any shape, or whatever a
 * test reads from a file. They feed t5_model_new_from through params_getter(). */
#ifndef TESTS_SUPPORT_PARAMS_H
#define TESTS_SUPPORT_PARAMS_H

#include "model/model.h"

struct test_param {
    char name[96];
    struct tensor_shape shape;
    float *v; /* owned (C heap) */
};

struct test_params {
    struct t5_config config;
    struct test_param *p;
    size_t n, cap;
};

/* A small configuration: width 16, 2 heads of 6, F 20, 23 tokens, 2 + 2 layers. */
struct t5_config params_small_config(void);
/* Every parameter that the configuration calls for, pseudo-random but large enough to matter. */
void params_random(struct test_params *s, const struct t5_config *c, uint64_t seed);
/* A zeroed parameter to fill in. */
float *params_add(struct test_params *s, const char *name, struct tensor_shape shape);
float *params_find(struct test_params *s, const char *name);
void params_free(struct test_params *s);
struct t5_getter params_getter(struct test_params *s);

/* Pseudo-random numbers (splitmix64): the same on every machine. */
double test_uniform(uint64_t *state); /* [-1, 1) */

/* A packed batch with storage of its own. */
struct test_batch {
    struct packed_batch b;
    int64_t *enc_off, *dec_off, *index;
    int32_t *prompt_of;
    int32_t *enc_ids, *dec_in, *dec_target;
    float *weight;
};
/* B random examples with lengths below max_enc and max_dec (at least 1, if any). */
void batch_random(struct test_batch *t, int64_t B, int64_t max_enc, int64_t max_dec, int64_t vocab,
                  uint64_t seed);
/* Packs padded rectangles [B, Le] and [B, Ld] (0 is padding); weights may be NULL. */
void batch_pack(struct test_batch *t, int64_t B, int64_t Le, const int32_t *enc, int64_t Ld,
                const int32_t *dec_in, const int32_t *target, const int32_t *weights);
/* Examples which[0..n) of another batch. */
void batch_select(struct test_batch *t, const struct test_batch *from, const int *which, int n);
void batch_free(struct test_batch *t);
/* Plan that fits the whole batch with P and P_dec prompt rows. */
struct t5_acts_plan batch_plan(const struct packed_batch *b, int64_t P, int64_t P_dec);

#endif
