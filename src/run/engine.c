#include "run/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "ops/profile.h"
#include "run/places.h"

char *count_text(int64_t n, char *text)
{
    char digits[24];
    const int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    int o = 0;
    for (int i = 0; i < len; i++) {
        text[o++] = digits[i];
        const int left = len - 1 - i;
        if (left && left % 3 == 0 && digits[i] != '-')
            text[o++] = ',';
    }
    text[o] = '\0';
    return text;
}

char *bytes_text(double bytes, char *text)
{
    static const char *const unit[] = {"B", "KB", "MB", "GB", "TB"};
    int u = 0;
    while (bytes >= 1000 && u < 4) {
        bytes /= 1000;
        u++;
    }
    snprintf(text, 32, u ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return text;
}

void source_param_f32(const struct t5_param *p, struct tensor_shape *shape, float *out)
{
    const struct tensor_view *v = &p->m.view;
    *shape = v->shape;
    if (!p->m.transposed) {
        size_t n = 1;
        for (int i = 0; i < v->shape.rank; i++)
            n *= (size_t)v->shape.dim[i];
        tensor_to_f32(v, 0, n, out);
        return;
    }
    const int64_t rows = v->shape.dim[0], columns = v->shape.dim[1];
    *shape = shape_2d(columns, rows);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            tensor_to_f32(v, (size_t)(i * columns + j), 1, &out[j * rows + i]);
}

int64_t config_parameters(const struct t5_config *c)
{
    const int64_t E = c->width, J = c->heads * c->head_dim, F = c->ff;
    const int64_t mlp = (c->gated ? 3 : 2) * E * F;
    const int64_t tables = c->per_layer_bias ? c->enc_layers + c->dec_layers : 2;
    return c->vocab * E * (c->head_is_embedding ? 1 : 2) +
           c->enc_layers * (2 * E + 4 * E * J + mlp) + c->dec_layers * (3 * E + 8 * E * J + mlp) +
           2 * E + tables * c->heads * c->buckets;
}

/* A vocabulary with more ids than the table has rows would index past its end; one with fewer is
 * usual (rows are padded to a multiple of 128) up to a point. */
static spt_status check_vocabulary(const struct engine *e, bool strict, spt_err *err)
{
    const int64_t ids = vocab_size(e->vocab), rows = e->config.vocab;
    if (vocab_base_size(e->vocab) > rows)
        return err_set(err, SPT_E_FORMAT,
                       "%s has %d pieces but the model's embedding has %lld rows: vocabulary and "
                       "model do not belong together",
                       vocab_path(e->vocab), vocab_base_size(e->vocab), (long long)rows);
    if (ids > rows)
        log_warning("%s has %lld ids with its sentinels, the embedding %lld rows: sentinels in a "
                    "text will be refused",
                    vocab_path(e->vocab), (long long)ids, (long long)rows);
    if (rows - ids > 256) {
        if (strict)
            return err_set(err, SPT_E_CHECK,
                           "%s has %lld ids but the embedding has %lld rows (--strict)",
                           vocab_path(e->vocab), (long long)ids, (long long)rows);
        log_warning("%s has %lld ids, the model's embedding %lld rows: is it the model's own "
                    "vocabulary?",
                    vocab_path(e->vocab), (long long)ids, (long long)rows);
    }
    return SPT_OK;
}

static spt_status open_parts(const struct settings *s, struct engine *e, spt_err *err)
{
    const struct t5_source_opts opts = {.max_distance = s->max_distance};
    const bool own_vocab = !(s->vocab && s->vocab[0]);
    char *path = NULL;
    TRY(place_find(s, s->model, own_vocab ? HUB_MODEL | HUB_VOCAB : HUB_MODEL, &path, err));
    spt_status st = t5_source_open(path, &opts, &e->source, err);
    mem_free(path);
    TRY(st);
    e->config = *t5_source_config(e->source);
    if (s->part)
        t5_source_sparing(e->source);
    if (!(e->base_name = place_name(s->model)))
        return err_nomem(err, strlen(s->model));
    TRY(place_vocab(s, &path, err));
    st = vocab_open(path, NULL, &e->vocab, err);
    mem_free(path);
    TRY(st);
    log_info("vocabulary: %s", vocab_rule_text(e->vocab));
    return check_vocabulary(e, s->strict, err);
}

spt_status engine_open(const struct settings *s, struct engine *out, spt_err *err)
{
    if (!s->model || !s->model[0])
        return err_set(err, SPT_E_USAGE, "--model MODEL is missing");
    struct engine e = {.part = s->part, .data = s->data_ranks};
    const spt_status st = open_parts(s, &e, err);
    if (st) {
        engine_close(&e);
        return st;
    }
    *out = e;
    return SPT_OK;
}

spt_status engine_open_ops(struct engine *e, const struct settings *s, bool profile, spt_err *err)
{
    if (e->ops)
        return SPT_OK;
    const bool by_prompt = !(s->compute && s->compute[0]) && e->prompt_compute;
    const char *compute = by_prompt ? e->prompt_compute : s->compute ? s->compute : "float32";
    const bool half = !strcmp(compute, "auto") ? ops_native_bfloat16()
                                               : !strcmp(compute, "bfloat16");
    e->compute = half ? OPS_BFLOAT16 : OPS_FLOAT32;
    if (half && (by_prompt || !strcmp(compute, "auto")))
        log_info("computing in bfloat16%s", by_prompt ? ", as the prompt was trained" : "");
    const struct ops_config cfg = {
        .isa = !strcmp(s->isa, "auto") ? NULL : s->isa,
        .compute = e->compute,
        .threads = (int)s->threads,
    };
    TRY(ops_open(&cfg, &e->ops, err));
    const spt_status st = profile ? ops_profile_open(e->ops, &e->ops, err) : SPT_OK;
    if (st) {
        ops_close(e->ops);
        e->ops = NULL;
    }
    return st;
}

/* --- a model that is only counted ---------------------------------------------------------- */

struct described {
    const t5_source *source;
    const void *zeros;
};

static spt_status describe(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    const struct described *d = ctx;
    TRY(t5_source_describe(d->source, name, out, err));
    out->m.view.data = d->zeros;
    return SPT_OK;
}

spt_status engine_count_model(const struct engine *e, ops *counting, unsigned uses, t5_model **out,
                              spt_err *err)
{
    /* What the model itself reads: norms, bias tables and, for heads, kernels of attention. */
    const struct t5_config *c = &e->config;
    const int64_t J = c->heads * c->head_dim, table = c->heads * c->buckets;
    const size_t n = (size_t)c->width * (size_t)(J + 1) + (size_t)table;
    void *zeros = mem_zalloc(n, sizeof(double));
    if (!zeros)
        return err_nomem(err, n * sizeof(double));
    struct described d = {e->source, zeros};
    const struct t5_getter get = {.ctx = &d, .config = c, .param = describe};
    const spt_status st = t5_model_new_part_from(counting, &get, uses, e->part, out, err);
    mem_free(zeros);
    return st;
}

spt_status engine_load_model(struct engine *e, const struct settings *s, unsigned uses,
                             spt_err *err)
{
    TRY(engine_open_ops(e, s, false, err));
    TRY(t5_source_hash(e->source, e->base_hash, err));
    return t5_model_new_part(e->ops, e->source, uses, e->part, &e->model, err);
}

const char *engine_compute_name(const struct engine *e)
{
    return e->compute == OPS_BFLOAT16 ? "bfloat16" : "float32";
}

void engine_close(struct engine *e)
{
    t5_model_free(e->model);
    ops_close(e->ops);
    t5_source_close(e->source);
    vocab_close(e->vocab);
    mem_free(e->base_name);
    *e = (struct engine){0};
}

spt_status engine_embedding_open(struct engine *e, struct engine_embedding *out, spt_err *err)
{
    struct engine_embedding m = {.engine = e};
    TRY(t5_source_param(e->source, "token_embedder/embedding", &m.param, err));
    *out = m;
    return SPT_OK;
}

void engine_embedding_close(struct engine_embedding *m)
{
    if (m->engine)
        t5_source_release(m->engine->source, &m->param);
    *m = (struct engine_embedding){0};
}

static spt_status embed(void *ctx, const int32_t *ids, int64_t n, float *out, spt_err *err)
{
    const struct engine_embedding *m = ctx;
    const struct tensor_view *v = &m->param.m.view; /* [V, E] in every container */
    const int64_t V = v->shape.dim[0], E = v->shape.dim[1];
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= V)
            return err_set(err, SPT_E_FORMAT, "id %d has no row in the embedding of %lld rows",
                           ids[i], (long long)V);
        tensor_to_f32(v, (size_t)(ids[i] * E), (size_t)E, out + i * E);
    }
    return SPT_OK;
}

struct prompt_init_env engine_init_env(struct engine_embedding *m)
{
    return (struct prompt_init_env){
        .embed = embed,
        .ctx = m,
        .rows = m->engine->config.vocab,
        .vocab = m->engine->vocab,
    };
}
