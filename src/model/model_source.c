/* A t5_source as the place where parameters come from. */
#include "model/model_internal.h"

static spt_status source_param(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    return t5_source_param(ctx, name, out, err);
}

static void source_release(void *ctx, struct t5_param *p)
{
    t5_source_release(ctx, p);
}

spt_status t5_model_new(ops *o, t5_source *src, unsigned uses, t5_model **out, spt_err *err)
{
    return t5_model_new_part(o, src, uses, NULL, out, err);
}

spt_status t5_model_new_part(ops *o, t5_source *src, unsigned uses, comm *ranks, t5_model **out,
                             spt_err *err)
{
    const struct t5_getter get = {.ctx = src,
                                  .config = t5_source_config(src),
                                  .param = source_param,
                                  .release = source_release};
    TRY(t5_source_expect(src, err));
    return t5_model_new_part_from(o, &get, uses, ranks, out, err);
}
