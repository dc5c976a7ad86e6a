/* AdamW as optax has it (spec/t5x.md section 4.8); also Adam, with weight_decay 0. Create one
 * through optim.h. */
#ifndef SPT_OPTIM_ADAMW_H
#define SPT_OPTIM_ADAMW_H

#include <stdbool.h>

#include "base/status.h"

struct adamw_opts {
    double b1, b2;       /* 0.9, 0.999 */
    double eps;          /* 1e-8, added to the root */
    double eps_root;     /* 0, added under it */
    double weight_decay; /* 1e-4, multiplied by lr */
    bool schedule_count; /* the state holds "param_states/2/count": lr is a schedule upstream */
};

struct adamw_opts adamw_defaults(void);

#endif
