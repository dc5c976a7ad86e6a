/* Adafactor as T5X has it (spec/t5x.md sections 4.1-4.5). Create one through optim.h. */
#ifndef SPT_OPTIM_ADAFACTOR_H
#define SPT_OPTIM_ADAFACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Double like the Python floats they come from; rounded to float32 where they meet an array. */
struct adafactor_opts {
    bool factored;                        /* true */
    bool multiply_by_parameter_scale;     /* true; Prompt Tuning: false */
    double beta1;                         /* momentum; negative: none (default) */
    double decay_rate;                    /* 0.8, the exponent */
    int64_t step_offset;                  /* 0 */
    double clipping_threshold;            /* 1.0; 0: no clipping */
    double weight_decay_rate;             /* 0; multiplies the parameter, not scaled by lr */
    double weight_decay_rate_lr_exponent; /* 0: off; else decay = (rate or 1) * lr^exponent */
    int64_t min_dim_size_to_factor;       /* 128 */
    double epsilon1, epsilon2;            /* 1e-30, 1e-3 */
    double max_parameter_scale;           /* 0: none */
    bool skip_nan_updates;                /* false */
    bool momentum_bfloat16;               /* false: dtype_momentum float32 */
};

struct adafactor_opts adafactor_defaults(void);
/* What transformers.Adafactor(scale_parameter=False, relative_step=False) computes: every matrix is
 * factored and weight decay is scaled by the learning rate. */
struct adafactor_opts adafactor_hugging_face(double weight_decay);

#endif
