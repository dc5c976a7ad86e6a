/* The part that all optimisers share: names, slots, the step and the global norm. */
#include "optim/optim_internal.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"

enum { MAX_NAME = 4096, MAX_SLOTS = 1 << 20 };

static const struct {
    const char *name;
    const struct optim_table *table;
} kinds[OPTIM_KIND_COUNT] = {
    [OPTIM_ADAFACTOR] = {"adafactor", &adafactor_table},
    [OPTIM_ADAMW] = {"adamw", &adamw_table},
};

const char *optim_kind_name(enum optim_kind kind)
{
    return kinds[kind].name;
}

bool optim_kind_from_name(const char *name, enum optim_kind *out)
{
    for (int i = 0; i < OPTIM_KIND_COUNT; i++)
        if (strcmp(name, kinds[i].name) == 0) {
            *out = (enum optim_kind)i;
            return true;
        }
    return false;
}

struct optim_config optim_config_default(void)
{
    return (struct optim_config){
        .kind = OPTIM_ADAFACTOR, .adafactor = adafactor_defaults(), .adamw = adamw_defaults()};
}

struct optim_config optim_config_prompt_tuning(void)
{
    struct optim_config cfg = optim_config_default();
    cfg.adafactor.multiply_by_parameter_scale = false;
    cfg.adafactor.weight_decay_rate = 1e-5;
    return cfg;
}

/* --- construction --------------------------------------------------------------------------- */

spt_status optim_add_slot(optim *o, enum dtype dtype, const struct tensor_shape *shape,
                          const char *prefix, const char *path, const char *suffix, spt_err *err)
{
    size_t elements, bytes;
    buf name;
    TRY(tensor_size(dtype, shape, &elements, &bytes, err));
    TRY(mem_grow(&o->slots, &o->slot_cap, o->slot_count + 1, sizeof *o->slots, MAX_SLOTS, err));
    buf_init(&name, MAX_NAME);
    buf_adds(&name, prefix);
    buf_adds(&name, path);
    buf_adds(&name, suffix);
    const spt_status st = buf_status(&name, "the name of an optimiser state", err);
    if (st != SPT_OK) {
        buf_release(&name);
        return st;
    }
    struct optim_slot *s = &o->slots[o->slot_count];
    *s = (struct optim_slot){buf_detach(&name), dtype, *shape, mem_zalloc(bytes, 1)};
    o->slot_count++; /* from here on optim_free releases it */
    o->bytes += bytes;
    return s->data ? SPT_OK : err_nomem(err, bytes);
}

static spt_status plan_params(optim *o, const struct optim_param *params, size_t count,
                              spt_err *err)
{
    size_t largest = 0, bytes;
    o->info = mem_zalloc(count, sizeof *o->info);
    if (!o->info)
        return err_nomem(err, count * sizeof *o->info);
    o->count = count;
    for (size_t i = 0; i < count; i++) {
        struct optim_info *p = &o->info[i];
        p->shape = params[i].shape;
        p->axes = params[i].axes;
        p->first_slot = o->slot_count;
        if (!(p->path = mem_strdup(params[i].path)))
            return err_nomem(err, strlen(params[i].path) + 1);
        spt_status st = tensor_size(DT_F32, &p->shape, &p->elements, &bytes, err);
        if (st == SPT_OK)
            st = o->table->plan_param(o, i, err);
        if (st != SPT_OK)
            return err_wrap(err, st, "parameter %s", p->path);
        p->axes = NULL;
        largest = p->elements > largest ? p->elements : largest;
    }
    o->scratch = mem_alloc_aligned(largest, sizeof *o->scratch);
    o->sums = mem_alloc(o->need_sums, sizeof *o->sums);
    if (!o->scratch || !o->sums)
        return err_nomem(err, largest * sizeof *o->scratch);
    o->bytes += largest * sizeof *o->scratch + o->need_sums * sizeof *o->sums;
    return SPT_OK;
}

spt_status optim_new(const struct optim_config *cfg, const struct optim_param *params, size_t count,
                     optim **out, spt_err *err)
{
    if ((unsigned)cfg->kind >= OPTIM_KIND_COUNT)
        return err_set(err, SPT_E_CONFIG, "unknown optimiser %d", (int)cfg->kind);
    if (!(cfg->global_norm_clip >= 0) || isinf(cfg->global_norm_clip))
        return err_set(err, SPT_E_CONFIG, "global norm to clip at is %g: give a positive number",
                       cfg->global_norm_clip);
    TRY(kinds[cfg->kind].table->check(cfg, err));
    optim *o = mem_zalloc(1, sizeof *o);
    if (!o)
        return err_nomem(err, sizeof *o);
    o->cfg = *cfg;
    o->table = kinds[cfg->kind].table;
    /* the first slot of every kind */
    spt_status st = optim_add_slot(o, DT_I32, &(struct tensor_shape){0}, "step", "", "", err);
    if (st == SPT_OK && o->table->plan)
        st = o->table->plan(o, err);
    if (st == SPT_OK)
        st = plan_params(o, params, count, err);
    if (st != SPT_OK) {
        optim_free(o);
        return st;
    }
    *out = o;
    return SPT_OK;
}

void optim_free(optim *o)
{
    if (!o)
        return;
    for (size_t i = 0; i < o->slot_count; i++) {
        mem_free((void *)o->slots[i].name);
        mem_free(o->slots[i].data);
    }
    for (size_t i = 0; i < o->count; i++)
        mem_free(o->info[i].path);
    mem_free(o->slots);
    mem_free(o->info);
    mem_free_aligned(o->scratch);
    mem_free(o->sums);
    mem_free(o);
}

/* --- state ---------------------------------------------------------------------------------- */

int64_t optim_get_step(const optim *o)
{
    return *(const int32_t *)o->slots[0].data;
}

void optim_set_step(optim *o, int64_t step)
{
    *(int32_t *)o->slots[0].data = (int32_t)step;
}

size_t optim_slot_count(const optim *o)
{
    return o->slot_count;
}

const struct optim_slot *optim_slot_at(const optim *o, size_t i)
{
    return &o->slots[i];
}

const struct optim_slot *optim_slot_find(const optim *o, const char *name)
{
    for (size_t i = 0; i < o->slot_count; i++)
        if (strcmp(o->slots[i].name, name) == 0)
            return &o->slots[i];
    return NULL;
}

size_t optim_bytes(const optim *o)
{
    return o->bytes;
}

/* --- steps ---------------------------------------------------------------------------------- */

float optim_global_norm(const optim *o, const float *const *grads)
{
    float total = 0;
    for (size_t p = 0; p < o->count; p++) {
        double sum = 0;
        for (size_t i = 0; i < o->info[p].elements; i++) {
            const float square = grads[p][i] * grads[p][i];
            sum += (double)square;
        }
        total += (float)sum;
    }
    return sqrtf(total);
}

void optim_step(optim *o, float *const *params, const float *const *grads, float lr)
{
    float grad_scale = 1;
    if (o->cfg.global_norm_clip > 0) {
        const float limit = (float)o->cfg.global_norm_clip;
        const float inverse = 1.0f / optim_global_norm(o, grads);
        const float ceiling = (float)(1.0 / o->cfg.global_norm_clip);
        /* as jnp.minimum: a NaN stays one */
        grad_scale = limit * (isnan(inverse) || inverse < ceiling ? inverse : ceiling);
    }
    for (size_t p = 0; p < o->count; p++)
        o->table->step_param(o, p, params[p], grads[p], grad_scale, lr);
    if (o->table->finish)
        o->table->finish(o);
    const int64_t step = optim_get_step(o);
    optim_set_step(o, step < INT32_MAX ? step + 1 : step);
}
