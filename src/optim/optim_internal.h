/* What the kinds of optimisers share: the object, and the table entry each of them fills. */
#ifndef SPT_OPTIM_OPTIM_INTERNAL_H
#define SPT_OPTIM_OPTIM_INTERNAL_H

#include "optim/optim.h"

struct optim_table {
    /* Refuses settings that make no sense. */
    spt_status (*check)(const struct optim_config *cfg, spt_err *err);
    /* Adds the slots of the whole optimiser (optim_add_slot), before those of any parameter. */
    spt_status (*plan)(optim *o, spt_err *err);
    /* Adds the slots of parameter i and fills o->info[i]. */
    spt_status (*plan_param)(optim *o, size_t i, spt_err *err);
    /* Updates parameter i; gradients count as multiplied by grad_scale. o->step is the old one. */
    void (*step_param)(optim *o, size_t i, float *param, const float *grad, float grad_scale,
                       float lr);
    /* After all parameters; NULL: nothing. */
    void (*finish)(optim *o);
};

extern const struct optim_table adafactor_table, adamw_table;

/* How a tensor is walked for factored statistics: element (i0, i1, ...) belongs to row-slot entry
 * sum of i * row_stride, to column entry sum of i * col_stride, and to the statistics group (one
 * per position along BATCH axes) sum of i * group_stride. */
struct optim_factoring {
    bool factored;
    int64_t row_stride[TENSOR_MAX_RANK], col_stride[TENSOR_MAX_RANK];
    int64_t group_stride[TENSOR_MAX_RANK];
    int64_t rows, cols, groups; /* entries of v_row, of v_col, of statistics */
};

struct optim_info {
    char *path;
    struct tensor_shape shape;
    const char *axes; /* valid during plan_param only */
    size_t elements;
    size_t first_slot;
    struct optim_factoring f;
};

struct optim {
    const struct optim_table *table;
    struct optim_config cfg;
    size_t count;
    struct optim_info *info;
    struct optim_slot *slots;
    size_t slot_count, slot_cap;
    float *scratch;   /* an update, before clipping: the largest parameter */
    double *sums;     /* row, column and group sums of the largest parameter */
    size_t need_sums; /* entries of sums, grown while planning */
    size_t bytes;
};

/* Adds a zeroed slot named prefix + path + suffix. */
spt_status optim_add_slot(optim *o, enum dtype dtype, const struct tensor_shape *shape,
                          const char *prefix, const char *path, const char *suffix, spt_err *err);

#endif
