/* Initialisers of the reference. Labels and strings write over what the fall-back drew with the
 * same key, so that every row is what the reference has. */
#include "prompt/init.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "prompt/prompt_io.h"
#include "random/distributions.h"
#include "random/flax_path.h"

/* flax's linen.initializers.uniform() without an argument */
static const struct prompt_init flax_uniform = {.kind = PROMPT_INIT_UNIFORM, .scale = 1e-2f};

void prompt_init_defaults(struct prompt_init *i)
{
    *i = (struct prompt_init){.kind = PROMPT_INIT_UNIFORM, .scale = 0.5f, .population = 5000};
}

static spt_status init_uniform(const struct prompt_init *init, struct rng_key key, int64_t P,
                               int64_t E, float *out)
{
    const size_t n = (size_t)P * (size_t)E;
    rng_uniform(key, n, 0.0f, 1.0f, out);
    for (size_t i = 0; i < n; i++)
        out[i] *= init->scale;
    return SPT_OK;
}

static spt_status need_embed(const struct prompt_init_env *env, spt_err *err)
{
    return env && env->embed ? SPT_OK
                             : err_set(err, SPT_E_USAGE, "this initialiser needs the embedding "
                                                         "table of a model");
}

static spt_status init_sampled(const struct prompt_init *init, const struct prompt_init_env *env,
                               struct rng_key key, int64_t P, float *out, spt_err *err)
{
    TRY(need_embed(env, err));
    if (env->rows < 1 || env->rows > INT32_MAX || init->population < 0)
        return err_set(err, SPT_E_CONFIG, "a population of %lld out of %lld embeddings",
                       (long long)init->population, (long long)env->rows);
    const bool limited = init->population && init->population < env->rows;
    const int64_t n = limited ? init->population : env->rows;
    int32_t *ids = mem_alloc((size_t)P, sizeof *ids);
    if (!ids)
        return err_nomem(err, (size_t)P * sizeof *ids);
    spt_status st = rng_choice(key, (size_t)n, (size_t)P, P > n, ids, err);
    if (!st)
        st = env->embed(env->ctx, ids, P, out, err);
    mem_free(ids);
    return st;
}

static spt_status init_file(const struct prompt_init *init, int64_t P, int64_t E, float *out,
                            spt_err *err)
{
    struct prompt *p = NULL;
    const struct prompt_read_opts opts = {.width = E, .npy_bf16 = init->npy_bf16};
    if (!init->file)
        return err_set(err, SPT_E_USAGE, "no prompt file to start from");
    TRY(prompt_read(init->file, &opts, &p, err));
    spt_status st = SPT_OK;
    if (p->P != P)
        st = err_set(err, SPT_E_CONFIG, "%s: the prompt has %lld rows, the settings say %lld",
                     init->file, (long long)p->P, (long long)P);
    else
        memcpy(out, p->rows, (size_t)P * (size_t)E * sizeof *out);
    prompt_free(p);
    return st;
}

/* Rows from texts. `spare` holds the embeddings of the longest text. */
static spt_status mean_of_pieces(const struct prompt_init_env *env, const struct vocab_ids *ids,
                                 int64_t E, float *out, spt_err *err)
{
    float *rows = mem_alloc_aligned(ids->count, (size_t)E * sizeof *rows);
    if (!rows)
        return err_nomem(err, ids->count * (size_t)E * sizeof *rows);
    const spt_status st = env->embed(env->ctx, ids->id, (int64_t)ids->count, rows, err);
    for (int64_t j = 0; j < E && !st; j++) {
        float sum = 0;
        for (size_t i = 0; i < ids->count; i++)
            sum += rows[i * (size_t)E + (size_t)j];
        out[j] = sum / (float)ids->count;
    }
    mem_free_aligned(rows);
    return st;
}

static spt_status encode(const struct prompt_init_env *env, const char *text, struct vocab_ids *ids,
                         spt_err *err)
{
    ids->count = 0;
    TRY(vocab_encode(env->vocab, text, strlen(text), ids, err));
    if (!ids->count)
        return err_set(err, SPT_E_CONFIG, "the text \"%s\" has no pieces to initialise from", text);
    for (size_t i = 0; i < ids->count; i++)
        if (ids->id[i] >= env->rows)
            return err_set(err, SPT_E_CONFIG, "the text \"%s\" has id %d, the embedding has %lld rows",
                           text, ids->id[i], (long long)env->rows);
    return SPT_OK;
}

static spt_status fill_from_labels(const struct prompt_init *init,
                                   const struct prompt_init_env *env, int64_t P, int64_t E,
                                   float *out, spt_err *err)
{
    struct vocab_ids ids = {0};
    spt_status st = SPT_OK;
    for (size_t i = 0; i < init->text_count && (int64_t)i < P && !st; i++) {
        st = encode(env, init->texts[i], &ids, err);
        if (!st)
            st = mean_of_pieces(env, &ids, E, out + i * (size_t)E, err);
    }
    vocab_ids_release(&ids);
    return st;
}

static spt_status fill_from_string(const struct prompt_init *init,
                                   const struct prompt_init_env *env, int64_t P, float *out,
                                   spt_err *err)
{
    struct vocab_ids ids = {0};
    spt_status st = encode(env, init->texts[0], &ids, err);
    const int64_t n = (int64_t)ids.count < P ? (int64_t)ids.count : P;
    if (!st)
        st = env->embed(env->ctx, ids.id, n, out, err);
    vocab_ids_release(&ids);
    return st;
}

static spt_status init_texts(const struct prompt_init *init, const struct prompt_init_env *env,
                             const uint32_t key[2], int64_t P, int64_t E, float *out, spt_err *err)
{
    const struct prompt_init *fallback = init->fallback ? init->fallback : &flax_uniform;
    TRY(need_embed(env, err));
    if (!env->vocab || !init->text_count)
        return err_set(err, SPT_E_CONFIG, "%s", env->vocab ? "no text to initialise the prompt from"
                                                           : "this initialiser needs a vocabulary");
    if (fallback->kind == PROMPT_INIT_LABELS || fallback->kind == PROMPT_INIT_STRING)
        return err_set(err, SPT_E_CONFIG, "texts cannot be the fall-back of texts");
    TRY(prompt_init_run(fallback, env, key, P, E, out, err));
    return init->kind == PROMPT_INIT_LABELS ? fill_from_labels(init, env, P, E, out, err)
                                            : fill_from_string(init, env, P, out, err);
}

/* Foreign code: rows it leaves out are zero, rows that are no numbers are refused. */
static spt_status init_code(const struct prompt_init *init, const struct prompt_init_env *env,
                            const uint32_t key[2], int64_t P, int64_t E, float *out, spt_err *err)
{
    const size_t n = (size_t)P * (size_t)E;
    memset(out, 0, n * sizeof *out);
    spt_status st = init->code(init->code_ctx, env, key, P, E, out, err);
    for (size_t i = 0; i < n && !st; i++)
        if (!isfinite(out[i]))
            st = err_set(err, SPT_E_NONFINITE, "row %zu has a value that is no number",
                         i / (size_t)E);
    return st ? err_wrap(err, st, "%s", init->code_name) : SPT_OK;
}

spt_status prompt_init_run(const struct prompt_init *init, const struct prompt_init_env *env,
                           const uint32_t key[2], int64_t P, int64_t E, float *out, spt_err *err)
{
    size_t n, bytes;
    const struct tensor_shape shape = shape_2d(P, E);
    const struct rng_key k = {{key[0], key[1]}};
    if (P < 1 || E < 1)
        return err_set(err, SPT_E_CONFIG, "a prompt of %lld rows of width %lld", (long long)P,
                       (long long)E);
    TRY(tensor_size(DT_F32, &shape, &n, &bytes, err));
    switch (init->kind) {
    case PROMPT_INIT_UNIFORM:
        return init_uniform(init, k, P, E, out);
    case PROMPT_INIT_SAMPLED:
        return init_sampled(init, env, k, P, out, err);
    case PROMPT_INIT_FILE:
        return init_file(init, P, E, out, err);
    case PROMPT_INIT_LABELS:
    case PROMPT_INIT_STRING:
        return init_texts(init, env, key, P, E, out, err);
    case PROMPT_INIT_CODE:
        return init_code(init, env, key, P, E, out, err);
    }
    return err_set(err, SPT_E_INTERNAL, "initialiser %d", (int)init->kind);
}

void prompt_init_key(uint64_t seed, const struct prompt_key_opts *opts, uint32_t key[2])
{
    static const struct prompt_key_opts none;
    const struct prompt_key_opts *o = opts ? opts : &none;
    struct rng_key init = rng_key_of((int64_t)seed);
    if (!o->eval)
        init = rng_split_at(init, 2, 0, RNG_CLASSIC);
    const char *path = o->side == PROMPT_DECODER ? "decoder/prompt/prompt" : "encoder/prompt/prompt";
    init = flax_path_key(init, path, 1, o->legacy ? FLAX_LEGACY : FLAX_LAZY);
    key[0] = init.w[0];
    key[1] = init.w[1];
}

/* --- descriptions -------------------------------------------------------------------------- */

size_t prompt_init_filled(const struct prompt_init *init, int64_t P)
{
    if (init->kind != PROMPT_INIT_LABELS)
        return init->kind == PROMPT_INIT_STRING ? 0 : (size_t)P;
    return (int64_t)init->text_count < P ? init->text_count : (size_t)P;
}

static void simple_text(const struct prompt_init *i, char *text, size_t cap)
{
    if (i->kind == PROMPT_INIT_UNIFORM)
        snprintf(text, cap, "uniform in [0, %g)", (double)i->scale);
    else if (i->kind == PROMPT_INIT_SAMPLED && i->population)
        snprintf(text, cap, "sampled from the first %lld embeddings", (long long)i->population);
    else if (i->kind == PROMPT_INIT_CODE)
        snprintf(text, cap, "by %s", i->code_name);
    else if (i->kind == PROMPT_INIT_SAMPLED)
        snprintf(text, cap, "sampled from all embeddings");
    else
        snprintf(text, cap, "from the file %s", i->file ? i->file : "?");
}

void prompt_init_text(const struct prompt_init *init, int64_t P, char *text, size_t cap)
{
    char rest[160];
    if (init->kind != PROMPT_INIT_LABELS && init->kind != PROMPT_INIT_STRING) {
        simple_text(init, text, cap);
        return;
    }
    simple_text(init->fallback ? init->fallback : &flax_uniform, rest, sizeof rest);
    if (init->kind == PROMPT_INIT_STRING)
        snprintf(text, cap, "pieces of the string \"%.60s\", rest %s",
                 init->text_count ? init->texts[0] : "", rest);
    else
        snprintf(text, cap, "class labels (%zu of %lld rows), rest %s", prompt_init_filled(init, P),
                 (long long)P, rest);
}
