/* Models for tests of searches: logits that depend on the whole history of a sequence, so that a
 * wrong parent, example or token changes everything. */
#ifndef TESTS_SUPPORT_TOY_STEPS_H
#define TESTS_SUPPORT_TOY_STEPS_H

#include "decode/decode.h"

struct toy {
    int64_t V;
    uint32_t seed; /* example b behaves as number[b] or b whatever the batch is */
    const int64_t *number;
    int levels;      /* > 0: logits are multiples of 1 / levels (many exact ties) */
    float eos_bonus; /* added to token 1 */
    int64_t steps, rows_fed;
    int64_t fail_at; /* > 0: that call fails with SPT_E_DEVICE */
    int64_t nan_at;  /* > 0: that call yields a NaN */
    uint32_t history[4096];
    int32_t example[4096];
    int64_t rows;
};

struct decode_stepper toy_stepper(struct toy *t);
/* Logit of `token` after a history. */
float toy_logit(const struct toy *t, uint32_t history, int32_t token);
uint32_t toy_start(const struct toy *t, int64_t example);
uint32_t toy_extend(uint32_t history, int32_t token);

#endif
