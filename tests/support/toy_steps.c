#include "support/toy_steps.h"

#include <math.h>
#include <string.h>

#include "support/test.h"

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

uint32_t toy_extend(uint32_t history, int32_t token)
{
    return mix(history * 31u + (uint32_t)token + 1u);
}

uint32_t toy_start(const struct toy *t, int64_t example)
{
    return mix(t->seed + 977u * (uint32_t)(t->number ? t->number[example] : example));
}

float toy_logit(const struct toy *t, uint32_t history, int32_t token)
{
    const uint32_t h = mix(history ^ (uint32_t)token * 0x9e3779b9u);
    float x = (float)(h >> 8) * (6.0f / 16777216.0f) - 3.0f;
    if (t->levels > 0)
        x = floorf(x * (float)t->levels) / (float)t->levels;
    return token == 1 ? x + t->eos_bonus : x;
}

static spt_status step(void *ctx, int64_t rows, const int32_t *example, const int32_t *parent,
                       const int32_t *token, float *logits, spt_err *err)
{
    struct toy *t = ctx;
    uint32_t next[4096];
    t->steps++;
    t->rows_fed += rows;
    if (t->steps == t->fail_at)
        return err_set(err, SPT_E_DEVICE, "toy failure");
    EXPECT_TRUE(rows > 0 && rows <= 4096);
    for (int64_t r = 0; r < rows; r++) {
        EXPECT_TRUE(r == 0 || example[r] >= example[r - 1]);
        if (parent) {
            EXPECT_TRUE(parent[r] >= 0 && parent[r] < t->rows);
            EXPECT_EQ_I64(t->example[parent[r]], example[r]);
        }
        const uint32_t before = parent ? t->history[parent[r]] : toy_start(t, example[r]);
        next[r] = toy_extend(before, token[r]);
        for (int64_t v = 0; v < t->V; v++)
            logits[r * t->V + v] = toy_logit(t, next[r], (int32_t)v);
    }
    if (t->steps == t->nan_at)
        logits[t->V - 1] = NAN;
    memcpy(t->history, next, (size_t)rows * sizeof *next);
    memcpy(t->example, example, (size_t)rows * sizeof *example);
    t->rows = rows;
    return SPT_OK;
}

struct decode_stepper toy_stepper(struct toy *t)
{
    t->steps = t->rows_fed = 0;
    return (struct decode_stepper){t, t->V, step, NULL};
}
