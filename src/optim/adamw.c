/* AdamW in optax's order of float32 operations: scale_by_adam, add_decayed_weights, scale by -lr.
 * The tuple indices in the names are those of that chain (spec/t5x.md section 4.8). */
#include "optim/adamw.h"

#include <math.h>

#include "optim/optim_internal.h"

struct adamw_opts adamw_defaults(void)
{
    return (struct adamw_opts){.b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .weight_decay = 1e-4};
}

static spt_status check(const struct optim_config *cfg, spt_err *err)
{
    const struct adamw_opts *a = &cfg->adamw;
    const struct {
        const char *name;
        double value;
        bool ok;
    } rules[] = {
        {"b1", a->b1, a->b1 >= 0 && a->b1 < 1},
        {"b2", a->b2, a->b2 >= 0 && a->b2 < 1},
        {"eps", a->eps, a->eps >= 0},
        {"eps_root", a->eps_root, a->eps_root >= 0},
        {"weight_decay", a->weight_decay, a->weight_decay >= 0},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!rules[i].ok || !isfinite(rules[i].value))
            return err_set(err, SPT_E_CONFIG, "adamw: %s = %g is out of range", rules[i].name,
                           rules[i].value);
    return SPT_OK;
}

enum { COUNT_SLOT = 1, SLOT_MU = 0, SLOT_NU };

static spt_status plan(optim *o, spt_err *err)
{
    const struct tensor_shape scalar = {0};
    TRY(optim_add_slot(o, DT_I32, &scalar, "param_states/0/count", "", "", err));
    if (o->cfg.adamw.schedule_count)
        TRY(optim_add_slot(o, DT_I32, &scalar, "param_states/2/count", "", "", err));
    return SPT_OK;
}

static spt_status plan_param(optim *o, size_t i, spt_err *err)
{
    const struct optim_info *p = &o->info[i];
    TRY(optim_add_slot(o, DT_F32, &p->shape, "param_states/0/mu/", p->path, "", err));
    return optim_add_slot(o, DT_F32, &p->shape, "param_states/0/nu/", p->path, "", err);
}

static int32_t *count_of(optim *o, size_t slot)
{
    return o->slots[slot].data;
}

static int32_t increment(int32_t n)
{
    return n < INT32_MAX ? n + 1 : n;
}

static void step_param(optim *o, size_t index, float *param, const float *grad, float grad_scale,
                       float lr)
{
    const struct adamw_opts *a = &o->cfg.adamw;
    const struct optim_info *p = &o->info[index];
    float *mu = o->slots[p->first_slot + SLOT_MU].data;
    float *nu = o->slots[p->first_slot + SLOT_NU].data;
    const float t = (float)increment(*count_of(o, COUNT_SLOT));
    const float b1 = (float)a->b1, b2 = (float)a->b2;
    const float fresh1 = (float)(1.0 - a->b1), fresh2 = (float)(1.0 - a->b2);
    const float correct1 = 1.0f - powf(b1, t), correct2 = 1.0f - powf(b2, t);
    const float decay = (float)a->weight_decay;
    for (size_t i = 0; i < p->elements; i++) {
        const float g = grad[i] * grad_scale;
        mu[i] = fresh1 * g + b1 * mu[i];
        nu[i] = fresh2 * (g * g) + b2 * nu[i];
        const float root = sqrtf(nu[i] / correct2 + (float)a->eps_root) + (float)a->eps;
        const float update = mu[i] / correct1 / root + decay * param[i];
        param[i] += -lr * update;
    }
}

static void finish(optim *o)
{
    const size_t counts = o->cfg.adamw.schedule_count ? 2 : 1;
    for (size_t i = 0; i < counts; i++)
        *count_of(o, COUNT_SLOT + i) = increment(*count_of(o, COUNT_SLOT + i));
}

const struct optim_table adamw_table = {
    .check = check,
    .plan = plan,
    .plan_param = plan_param,
    .step_param = step_param,
    .finish = finish,
};
