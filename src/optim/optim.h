/* Optimisers over named float32 parameters: one object per optimiser, kinds in a table.
 *
 *     struct optim_config cfg = optim_config_prompt_tuning();
 *     struct optim_param p = {"encoder/prompt/prompt/prompt", shape_2d(P, E), NULL};
 *     TRY(optim_new(&cfg, &p, 1, &o, err));
 *     optim_step(o, &prompt, &grad, lr_at(&schedule, optim_get_step(o)));
 *     for (size_t i = 0; i < optim_slot_count(o); i++)
 *         save("state/", optim_slot_at(o, i));
 *     optim_free(o);
 *
 * An optimiser is confined to one thread. A step allocates nothing and its bits depend on nothing
 * but its inputs. */
#ifndef SPT_OPTIM_OPTIM_H
#define SPT_OPTIM_OPTIM_H

#include "optim/adafactor.h"
#include "optim/adamw.h"
#include "tensor/tensor.h"

typedef struct optim optim;

/* kind, name */
#define OPTIM_KIND_MAP(X)                                                                          \
    X(ADAFACTOR, "adafactor")                                                                      \
    X(ADAMW, "adamw")

enum optim_kind {
#define OPTIM_KIND_ENUM(kind, name) OPTIM_##kind,
    OPTIM_KIND_MAP(OPTIM_KIND_ENUM)
#undef OPTIM_KIND_ENUM
        OPTIM_KIND_COUNT
};

struct optim_config {
    enum optim_kind kind;
    struct adafactor_opts adafactor;
    struct adamw_opts adamw;
    /* All gradients of a step times min(1, this / their norm); 0: off. T5X:
     * Adafactor.global_norm_clip_threshold. */
    double global_norm_clip;
};

/* The defaults of T5X (adafactor) and optax (adamw); the kind is Adafactor. */
struct optim_config optim_config_default(void);
/* Adafactor as Prompt Tuning sets it: no parameter scale, weight decay 1e-5. */
struct optim_config optim_config_prompt_tuning(void);
bool optim_kind_from_name(const char *name, enum optim_kind *out);
const char *optim_kind_name(enum optim_kind kind);

/* One parameter. `path` is its T5X name without a leading slash. `axes`: its logical axis names
 * separated by commas ("layers,embed,mlp"), needed for rank > 2 only, else NULL. */
struct optim_param {
    const char *path;
    struct tensor_shape shape;
    const char *axes;
};

/* One tensor of the state, named as T5X names it below "state/": "step",
 * "param_states/encoder/prompt/prompt/prompt/v_row", "param_states/0/mu/...". */
struct optim_slot {
    const char *name;
    enum dtype dtype; /* DT_F32, DT_BF16 (momentum, on request) or DT_I32 (step, count) */
    struct tensor_shape shape;
    void *data; /* writable: restoring copies into it */
};

/* Copies names and settings; state starts at zero. SPT_E_CONFIG for settings or shapes that the
 * optimiser cannot serve. */
spt_status optim_new(const struct optim_config *cfg, const struct optim_param *params, size_t count,
                     optim **out, spt_err *err);
void optim_free(optim *o);

/* One update of every parameter, in place. params[i] and grads[i] hold the elements of parameter i;
 * gradients are sums (or means) over the whole batch and are left as they are. */
void optim_step(optim *o, float *const *params, const float *const *grads, float lr);

/* Steps taken, pre-training included: what schedules are evaluated at. */
int64_t optim_get_step(const optim *o);
/* 0 <= step < 2^31. Adafactor's decay follows it; AdamW has its own count. */
void optim_set_step(optim *o, int64_t step);

size_t optim_slot_count(const optim *o);
const struct optim_slot *optim_slot_at(const optim *o, size_t i);
/* NULL when the optimiser has no such slot. */
const struct optim_slot *optim_slot_find(const optim *o, const char *name);
/* Bytes held by state and scratch. */
size_t optim_bytes(const optim *o);

/* sqrt of the sum of all squares; what global_norm_clip compares with. */
float optim_global_norm(const optim *o, const float *const *grads);

#endif
