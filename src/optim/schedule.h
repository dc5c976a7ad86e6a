/* Learning-rate schedules of T5X: a product of named factors (spec/t5x.md section 5). */
#ifndef SPT_OPTIM_SCHEDULE_H
#define SPT_OPTIM_SCHEDULE_H

#include "base/status.h"

/* enum, name in the factor string */
#define LR_FACTOR_MAP(X)                                                                           \
    X(CONSTANT, "constant")                                                                        \
    X(LINEAR_WARMUP, "linear_warmup")                                                              \
    X(LINEAR_DECAY, "linear_decay")                                                                \
    X(RSQRT_DECAY, "rsqrt_decay")                                                                  \
    X(RSQRT_NORMALIZED_DECAY, "rsqrt_normalized_decay")                                            \
    X(DECAY_EVERY, "decay_every")                                                                  \
    X(COSINE_DECAY, "cosine_decay")

enum lr_factor {
#define LR_FACTOR_ENUM(factor, name) LR_##factor,
    LR_FACTOR_MAP(LR_FACTOR_ENUM)
#undef LR_FACTOR_ENUM
};

enum { LR_MAX_FACTORS = 16 };

struct lr_schedule {
    enum lr_factor factor[LR_MAX_FACTORS]; /* applied left to right */
    int factors;
    double base_learning_rate; /* 0.5 */
    int64_t warmup_steps;      /* 1000 */
    double decay_factor;       /* 0.5 */
    int64_t steps_per_decay;   /* 20000 */
    int64_t steps_per_cycle;   /* 100000 */
    int64_t step_offset;       /* 0 */
    double min_learning_rate;  /* 1e-8 */
};

/* The defaults: "constant * linear_warmup * rsqrt_decay", base 0.5. */
struct lr_schedule lr_schedule_default(void);
/* A constant rate, not clipped from below. */
struct lr_schedule lr_schedule_constant(double rate);
/* Reads "constant * rsqrt_decay" into s->factor; SPT_E_CONFIG names an unknown factor. */
spt_status lr_schedule_parse(struct lr_schedule *s, const char *factors, spt_err *err);
/* SPT_E_CONFIG when a factor in use divides by one of these settings and it is not positive. */
spt_status lr_schedule_check(const struct lr_schedule *s, spt_err *err);
/* The rate of the step whose number before the update is `step` (0 for the first one). */
float lr_at(const struct lr_schedule *s, int64_t step);

#endif
