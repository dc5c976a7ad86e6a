#include "model/scratch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "random/distributions.h"

enum law { ONES, NORMAL, TRUNCATED, UNIFORM };
enum fan { FAN_NONE, FAN_IN, FAN_AVERAGE };

static const struct rule {
    const char *ending;
    enum law law;
    enum fan fan;
    bool per_head; /* divided by sqrt(head_dim): flaxformer scales queries in their kernel */
} rules[] = {
    {"token_embedder/embedding", NORMAL, FAN_NONE, false},
    {"/query/kernel", NORMAL, FAN_IN, true},
    {"/key/kernel", NORMAL, FAN_IN, false},
    {"/value/kernel", NORMAL, FAN_IN, false},
    {"/out/kernel", NORMAL, FAN_IN, false},
    {"/wi/kernel", TRUNCATED, FAN_IN, false},
    {"/wi_0/kernel", TRUNCATED, FAN_IN, false},
    {"/wi_1/kernel", TRUNCATED, FAN_IN, false},
    {"/wo/kernel", TRUNCATED, FAN_IN, false},
    {"/logits_dense/kernel", TRUNCATED, FAN_IN, false},
    {"/rel_embedding", UNIFORM, FAN_AVERAGE, false},
    {"/scale", ONES, FAN_NONE, false},
};

static const struct rule *rule_of(const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const size_t m = strlen(rules[i].ending);
        if (n >= m && !strcmp(name + n - m, rules[i].ending))
            return &rules[i];
    }
    return NULL;
}

static void draw(const struct rule *r, struct rng_key key, size_t n, double variance, float *out)
{
    /* The deviation of a standard normal cut at two, as jax.nn.initializers has it. */
    const double cut = 0.87962566103423978;
    const float normal = (float)sqrt(variance), cut_normal = (float)(sqrt(variance) / cut);
    const float wide = (float)sqrt(3 * variance);
    switch (r->law) {
    case ONES:
        break;
    case NORMAL:
        rng_normal(key, n, out);
        break;
    case TRUNCATED:
        rng_truncated_normal(key, n, -2, 2, out);
        break;
    case UNIFORM:
        rng_uniform(key, n, -1, 1, out);
        break;
    }
    const float factor = r->law == NORMAL ? normal : r->law == TRUNCATED ? cut_normal : wide;
    for (size_t i = 0; i < n; i++)
        out[i] = r->law == ONES ? 1 : out[i] * factor;
}

spt_status t5_scratch(const struct t5_config *c, const char *name, const struct tensor_shape *shape,
                      struct rng_key params, enum flax_rng mode, float *out, spt_err *err)
{
    const struct rule *r = rule_of(name);
    char module[256];
    size_t n, bytes;
    if (!r)
        return err_set(err, SPT_E_NOTFOUND, "%s: how it is initialised is not known", name);
    TRY(tensor_size(DT_F32, shape, &n, &bytes, err));
    const char *slash = strrchr(name, '/');
    snprintf(module, sizeof module, "%.*s", (int)(slash - name), name);
    const double in = (double)shape->dim[0];
    const double fan = r->fan == FAN_NONE ? 1
                       : r->fan == FAN_IN ? in
                                          : (in + (double)shape->dim[1]) / 2;
    draw(r, flax_path_key(params, module, 1, mode), n, 1 / fan, out);
    const float head = r->per_head ? sqrtf((float)c->head_dim) : 1;
    for (size_t i = 0; r->per_head && i < n; i++)
        out[i] /= head;
    return SPT_OK;
}
