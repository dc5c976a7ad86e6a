#include "run/reference/t5x_base.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "run/places.h"
#include "run/reference/t5x_save.h"
#include "store/npy.h"

#define PROMPT_TARGET "target/" PROMPT_T5X_ENCODER
#define PROMPT_STATES "state/param_states/" PROMPT_T5X_ENCODER "/"

enum { PATH_BYTES = 65536, NAME_BYTES = 512 };

/* --- which checkpoint -------------------------------------------------------------------------- */

static spt_status step_path(const char *dir, int64_t step, char **out, spt_err *err)
{
    buf path;
    buf_init(&path, PATH_BYTES);
    buf_addf(&path, "%s/checkpoint_%lld", dir, (long long)step);
    const spt_status st = buf_status(&path, "path", err);
    if (!st)
        *out = buf_detach(&path);
    buf_release(&path);
    return st;
}

static spt_status choose_configured(const struct gin_restore *r, char **out, spt_err *err)
{
    for (size_t i = 0; i < r->path.count; i++) {
        const char *path = r->path.item[i];
        int64_t step;
        if (r->mode == RESTORE_SPECIFIC) {
            *out = mem_strdup(path);
            return *out ? SPT_OK : err_nomem(err, strlen(path));
        }
        const spt_status st = t5x_latest(path, &step, err);
        if (!st)
            return step_path(path, step, out, err);
        if (st != SPT_E_NOTFOUND)
            return st;
    }
    return r->path.count ? err_set(err, SPT_E_NOTFOUND, "%s: there is no checkpoint_<step> in it "
                                                        "(RestoreCheckpointConfig.path)",
                                   r->path.item[0])
                         : err_set(err, SPT_E_CONFIG,
                                   "no checkpoint to start from (RestoreCheckpointConfig.path is "
                                   "empty): a prompt needs a trained base");
}

spt_status t5x_choose(const char *model_dir, const struct gin_restore *r, char **path,
                      bool *resumed, spt_err *err)
{
    int64_t step;
    *resumed = false;
    if (model_dir && fs_is_dir(model_dir)) {
        const spt_status st = t5x_latest(model_dir, &step, err);
        if (!st) {
            *resumed = true;
            return step_path(model_dir, step, path, err);
        }
        if (st != SPT_E_NOTFOUND)
            return st;
    }
    if (!r)
        return err_set(err, SPT_E_CONFIG,
                       "no checkpoint to start from (CheckpointConfig.restore is None): a prompt "
                       "needs a trained base");
    return choose_configured(r, path, err);
}

/* --- the base ------------------------------------------------------------------------------------- */

/* The state of a frozen parameter is None; patterns that match its name are used all the same. */
static spt_status use_state_names(const struct t5x_base *b, struct t5x_map *m, spt_err *err)
{
    enum t5x_origin ignored;
    buf other;
    buf_init(&other, PATH_BYTES);
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < t5_source_count(b->engine.source); i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "state/param_states/%s", t5_source_name(b->engine.source, i));
        st = t5x_map_find(m, name, &ignored, &other, err);
    }
    buf_release(&other);
    return st;
}

static struct rng_key init_key(bool train, uint64_t seed)
{
    const struct rng_key key = rng_key_of((int64_t)seed);
    return train ? rng_split_at(key, 2, 0, RNG_CLASSIC) : key;
}

static void describe_view(const struct t5x_base *b, struct t5x_view *v, struct t5x_map *map)
{
    const struct gin_model *m = b->model;
    v->map = map;
    v->config = (struct t5_config){
        .vocab = m->vocab,
        .width = m->width,
        .heads = m->heads,
        .head_dim = m->head_dim,
        .ff = m->ff,
        .enc_layers = m->enc_layers,
        .dec_layers = m->dec_layers,
        .buckets = m->buckets,
        .max_distance = m->max_distance,
        .gated = m->gated,
        .head_is_embedding = m->head_is_embedding,
    };
}

/* A T5X checkpoint is seen through the map; other kinds of directories are taken as they are. */
static spt_status open_source(struct t5x_base *b, struct t5x_map *map, const char *path,
                              struct t5x_view *view, t5_source **out, spt_err *err)
{
    struct t5_source_opts opts = {.max_distance = b->model->max_distance};
    if (t5x_detect(path) == T5X_LEGACY) {
        opts.adapt = t5x_view_adapt;
        opts.adapt_ctx = view;
        describe_view(b, view, map);
    }
    return t5_source_open(path, &opts, out, err);
}

/* --- the trained parameters --------------------------------------------------------------------- */

static spt_status any_match(const struct gin_texts *list, const char *name, bool *out, spt_err *err)
{
    *out = false;
    for (size_t i = 0; i < list->count && !*out; i++) {
        regex *re;
        spt_status st = regex_compile(list->item[i], strlen(list->item[i]), 0, &re, err);
        if (st)
            return err_wrap(err, st, "%s", list->item[i]);
        st = regex_full(re, name, strlen(name), out, NULL, 0, err);
        regex_free(re);
        TRY(st);
    }
    return SPT_OK;
}

static spt_status check_trained(const struct t5x_base *b, spt_err *err)
{
    bool yes;
    TRY(any_match(&b->model->trained, "/" PROMPT_T5X_ENCODER, &yes, err));
    if (!yes)
        return err_set(err, SPT_E_CONFIG,
                       "match_any.regexes: none matches /%s (the leading slash counts): nothing "
                       "would be trained",
                       PROMPT_T5X_ENCODER);
    for (size_t i = 0; i < t5_source_count(b->engine.source); i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "/%s", t5_source_name(b->engine.source, i));
        TRY(any_match(&b->model->trained, name, &yes, err));
        if (yes)
            return err_set(err, SPT_E_CONFIG,
                           "match_any.regexes also select %s: only the prompt is trained here", name);
    }
    return SPT_OK;
}

/* --- opening ------------------------------------------------------------------------------------ */

struct dimension {
    const char *name;
    int64_t configured, file;
};

static spt_status check_shape(const struct gin_model *m, const struct t5_config *c,
                              const char *path, spt_err *err)
{
    const struct dimension d[] = {
        {"NUM_EMBEDDINGS", m->vocab, c->vocab},
        {"EMBED_DIM", m->width, c->width},
        {"NUM_HEADS", m->heads, c->heads},
        {"HEAD_DIM", m->head_dim, c->head_dim},
        {"MLP_DIM", m->ff, c->ff},
        {"NUM_ENCODER_LAYERS", m->enc_layers, c->enc_layers},
        {"NUM_DECODER_LAYERS", m->dec_layers, c->dec_layers},
        {"RelativePositionBiases.num_buckets", m->buckets, c->buckets},
    };
    for (size_t i = 0; i < sizeof d / sizeof *d; i++)
        if (d[i].configured != d[i].file)
            return err_set(err, SPT_E_CONFIG,
                           "%s: %s is %lld in the checkpoint, the configuration says %lld", path,
                           d[i].name, (long long)d[i].file, (long long)d[i].configured);
    return SPT_OK;
}

static spt_status open_vocabulary(struct t5x_base *b, spt_err *err)
{
    const struct gin_model *m = b->model;
    struct vocab_opts o;
    vocab_opts_init(&o);
    o.rule = !strcmp(m->vocab_file, "bytes") ? VOCAB_BYTES : VOCAB_SEQIO;
    o.extra_ids = (int)m->extra_ids;
    o.extra_ids_ascending = m->extra_ids_ascending;
    if (m->extra_ids < 0 || m->extra_ids > 1000)
        return err_set(err, SPT_E_CONFIG, "extra_ids = %lld", (long long)m->extra_ids);
    char *place = NULL;
    const struct settings named = {.vocab = (char *)(uintptr_t)m->vocab_file};
    TRY(place_vocab(&named, &place, err));
    spt_status st = vocab_open(place, &o, &b->engine.vocab, err);
    mem_free(place);
    if (!st)
        return SPT_OK;
    if (!strncmp(m->vocab_file, "gs://", 5)) {
        spt_err second = {0};
        if (!vocab_open(b->path, &o, &b->engine.vocab, &second)) {
            log_warning("%s is out of reach: the vocabulary beside the checkpoint is used (%s)",
                        m->vocab_file, vocab_path(b->engine.vocab));
            return SPT_OK;
        }
    }
    return err_wrap(err, st, "bind seqio.SentencePieceVocabulary.sentencepiece_model_file to a "
                             "vocabulary on this machine");
}

/* Rows of an array as the initialisers want them. */
struct table {
    store *s;
    struct store_data npy;
    t5x_reader *r;
    struct t5x_value value;
    struct tensor_view view; /* [V, E] */
};

static void table_close(struct table *t)
{
    if (t->s)
        store_release(t->s, &t->npy);
    store_close(t->s);
    t5x_release(&t->value);
    t5x_close(t->r);
}

static spt_status table_open(struct table *t, const struct gin_array *a, spt_err *err)
{
    if (a->npy) {
        TRY(store_open(a->npy, NULL, &t->s, err));
        TRY(store_load(t->s, 0, &t->npy, err));
        t->view = t->npy.view;
    } else {
        char name[NAME_BYTES];
        const char *v = a->variable;
        v += *v == '/';
        snprintf(name, sizeof name, "%s%s", strncmp(v, "target/", 7) ? "target/" : "", v);
        TRY(t5x_open(a->checkpoint, &t->r, err));
        const struct t5x_leaf *leaf = t5x_find(t->r, name);
        if (!leaf || leaf->kind != T5X_TENSOR)
            return err_set(err, SPT_E_CONFIG, "%s has no variable %s", a->checkpoint, name);
        TRY(t5x_read(t->r, leaf, &t->value, err));
        t->view = t->value.view;
    }
    if (t->view.shape.rank != 2)
        return err_set(err, SPT_E_FORMAT, "%s: an array of rank %d, wanted 2",
                       a->npy ? a->npy : a->checkpoint, t->view.shape.rank);
    return SPT_OK;
}

static spt_status table_rows(void *ctx, const int32_t *ids, int64_t n, float *out, spt_err *err)
{
    const struct table *t = ctx;
    const int64_t V = t->view.shape.dim[0], E = t->view.shape.dim[1];
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= V)
            return err_set(err, SPT_E_FORMAT, "id %d has no row in the table of %lld rows", ids[i],
                           (long long)V);
        tensor_to_f32(&t->view, (size_t)(ids[i] * E), (size_t)E, out + i * E);
    }
    return SPT_OK;
}

static spt_status array_into(const struct gin_array *a, int64_t P, int64_t E, float *rows,
                             spt_err *err)
{
    struct table t = {0};
    char text[SHAPE_TEXT];
    spt_status st = table_open(&t, a, err);
    if (!st && (t.view.shape.dim[0] != P || t.view.shape.dim[1] != E))
        st = err_set(err, SPT_E_CONFIG,
                     "the array of prompts.from_array has shape %s, the prompt [%lld, %lld]",
                     shape_text(&t.view.shape, text), (long long)P, (long long)E);
    if (!st)
        tensor_to_f32(&t.view, 0, (size_t)(P * E), rows);
    table_close(&t);
    return st;
}

static spt_status fresh_rows(const struct t5x_base *b, bool train, uint64_t seed, float *rows,
                             spt_err *err)
{
    const struct gin_prompt *p = &b->model->prompt;
    const int64_t E = b->engine.config.width;
    if (p->init.kind == PROMPT_INIT_FILE && !p->array.npy)
        return array_into(&p->array, p->P, E, rows, err);
    struct table t = {0};
    struct prompt_init init = p->init;
    struct prompt_init_env env = {.vocab = b->engine.vocab};
    spt_status st = SPT_OK;
    if (p->embeddings.npy || p->embeddings.checkpoint) {
        st = table_open(&t, &p->embeddings, err);
        if (!st && t.view.shape.dim[1] != E)
            st = err_set(err, SPT_E_CONFIG, "the embeddings of the initialiser are %lld wide, the "
                                            "model %lld",
                         (long long)t.view.shape.dim[1], (long long)E);
        env.embed = table_rows;
        env.ctx = &t;
        env.rows = st ? 0 : t.view.shape.dim[0];
    }
    if (init.fallback)
        init.fallback = &p->fallback;
    const struct prompt_key_opts key_opts = {.eval = !train, .side = PROMPT_ENCODER};
    uint32_t key[2];
    prompt_init_key(seed, &key_opts, key);
    if (!st)
        st = prompt_init_run(&init, &env, key, p->P, E, rows, err);
    table_close(&t);
    return st;
}

static spt_status stored_rows(t5x_reader *r, const char *name, int64_t P, int64_t E, float *rows,
                              spt_err *err)
{
    const struct t5x_leaf *leaf = t5x_find(r, name);
    const struct tensor_shape want = shape_2d(P, E);
    struct t5x_value v;
    char got[SHAPE_TEXT], expected[SHAPE_TEXT];
    if (!shape_equal(&leaf->shape, &want))
        return err_set(err, SPT_E_CONFIG,
                       "Shape of %s in checkpoint %s does not match expected %s (PROMPT_LENGTH, "
                       "EMBED_DIM)",
                       name, shape_text(&leaf->shape, got), shape_text(&want, expected));
    TRY(t5x_read(r, leaf, &v, err));
    tensor_to_f32(&v.view, 0, (size_t)(P * E), rows);
    t5x_release(&v);
    return SPT_OK;
}

/* What restores a leaf of the run: the checkpoint, through the map, or nothing. */
struct restoring {
    struct t5x_base *b;
    struct t5x_map *map;
    t5x_reader *reader; /* NULL: a directory of another kind, without a prompt */
    bool fallback;
    const char *why_not;
};

/* *leaf NULL: the leaf is to be made from scratch. */
static spt_status find_leaf(const struct restoring *r, const char *name,
                            const struct t5x_leaf **leaf, spt_err *err)
{
    enum t5x_origin origin;
    buf other;
    buf_init(&other, PATH_BYTES);
    *leaf = NULL;
    spt_status st = t5x_map_find(r->map, name, &origin, &other, err);
    const char *from = origin == ORIGIN_OTHER ? buf_str(&other) : name;
    if (!st && r->reader && origin != ORIGIN_SKIP)
        *leaf = t5x_find(r->reader, from);
    if (*leaf && (*leaf)->kind != T5X_TENSOR)
        *leaf = NULL;
    if (!st && !*leaf && origin == ORIGIN_OTHER)
        st = err_set(err, SPT_E_CONFIG, "assignment_map: %s has no %s, which %s was to come from",
                     r->b->path, from, name);
    else if (!st && !*leaf && !r->fallback)
        st = err_set(err, SPT_E_CONFIG, "%s %s %s and %s", r->b->path,
                     origin == ORIGIN_SKIP ? "is not asked for" : "has no", name, r->why_not);
    buf_release(&other);
    return st;
}

static spt_status stored_slot(const struct restoring *r, const struct optim_slot *s,
                              const struct t5x_leaf *leaf, spt_err *err)
{
    char got[SHAPE_TEXT], want[SHAPE_TEXT];
    struct t5x_value v;
    size_t n, bytes;
    if (!shape_equal(&leaf->shape, &s->shape))
        return err_set(err, SPT_E_CONFIG,
                       "Shape of %s in checkpoint %s does not match expected %s", leaf->name,
                       shape_text(&leaf->shape, got), shape_text(&s->shape, want));
    TRY(tensor_size(s->dtype, &s->shape, &n, &bytes, err));
    TRY(t5x_read(r->reader, leaf, &v, err));
    spt_status st = SPT_OK;
    if (v.view.dtype == s->dtype)
        memcpy(s->data, v.view.data, bytes);
    else if (s->dtype == DT_F32)
        tensor_to_f32(&v.view, 0, n, s->data);
    else
        st = err_set(err, SPT_E_CONFIG, "%s is %s, wanted %s", leaf->name,
                     dtype_name(v.view.dtype), dtype_name(s->dtype));
    t5x_release(&v);
    return st;
}

/* The optimizer's slots; they start at zero. A base whose prompt another optimizer has trained has
 * others, or none: then the prompt is taken and the slots start anew. */
static spt_status restore_slots(const struct restoring *r, spt_err *err)
{
    for (size_t i = 0; i < optim_slot_count(r->b->optim); i++) {
        const struct optim_slot *s = optim_slot_at(r->b->optim, i);
        const struct t5x_leaf *leaf;
        char name[NAME_BYTES];
        if (!strcmp(s->name, "step"))
            continue;
        snprintf(name, sizeof name, "state/%s", s->name);
        const spt_status st = find_leaf(r, name, &leaf, err);
        if (st)
            return err_wrap(err, st, "written by another optimizer or without a prompt");
        if (leaf)
            TRY(stored_slot(r, s, leaf, err));
    }
    return SPT_OK;
}

/* state/step: the base's, unless the map leaves it out or takes it from elsewhere. */
static spt_status restore_step(const struct restoring *r, spt_err *err)
{
    const struct t5x_leaf *leaf;
    struct t5x_value v;
    float step;
    if (!r->reader || !r->map->n)
        return SPT_OK;
    TRY(find_leaf(r, "state/step", &leaf, err));
    if (!leaf)
        r->b->step = 0;
    if (!leaf || !strcmp(leaf->name, "state/step"))
        return SPT_OK;
    TRY(t5x_read(r->reader, leaf, &v, err));
    const bool scalar = leaf->shape.rank == 0;
    if (scalar)
        tensor_to_f32(&v.view, 0, 1, &step);
    const int64_t exact = scalar && v.view.dtype == DT_I32 ? *(const int32_t *)v.view.data
                          : scalar                         ? (int64_t)step
                                                           : -1;
    t5x_release(&v);
    if (exact < 0)
        return err_set(err, SPT_E_CONFIG, "assignment_map: %s is no step", leaf->name);
    r->b->step = exact;
    return SPT_OK;
}

static spt_status restore_prompt(const struct restoring *r, const struct gin_restore *how,
                                 bool train, uint64_t seed, float *rows, spt_err *err)
{
    struct t5x_base *b = r->b;
    const int64_t P = b->model->prompt.P, E = b->engine.config.width;
    const struct t5x_leaf *leaf;
    TRY(find_leaf(r, PROMPT_TARGET, &leaf, err));
    if (!leaf)
        TRY(fresh_rows(b, train, seed, rows, err));
    else
        TRY(stored_rows(r->reader, leaf->name, P, E, rows, err));
    if (leaf && how && how->has_dtype && !b->resumed)
        t5x_round(rows, (size_t)(P * E), how->dtype);
    b->prompt_restored = leaf != NULL;
    return train ? restore_slots(r, err) : SPT_OK;
}

static const char *why_not(const struct t5x_base *b)
{
    return b->resumed ? "a run's own checkpoint is taken as it is, without fallback_to_scratch"
                      : "RestoreCheckpointConfig.fallback_to_scratch is False";
}

static spt_status open_prompt(struct t5x_base *b, const struct gin_restore *how,
                              struct t5x_map *map, bool train, uint64_t seed, spt_err *err)
{
    const int64_t P = b->model->prompt.P, E = b->engine.config.width;
    struct restoring r = {.b = b,
                          .map = map,
                          .fallback = how && how->fallback && !b->resumed,
                          .why_not = why_not(b)};
    float *rows = NULL;
    spt_status st = train ? use_state_names(b, map, err) : SPT_OK;
    if (!st && t5x_detect(b->path) == T5X_LEGACY)
        st = t5x_open(b->path, &r.reader, err);
    if (!st && P) {
        rows = mem_alloc_aligned((size_t)(P * E), sizeof *rows);
        st = rows ? restore_prompt(&r, how, train, seed, rows, err)
                  : err_nomem(err, (size_t)(P * E) * sizeof *rows);
    }
    if (!st)
        st = restore_step(&r, err);
    if (!st && P)
        st = prompt_new(P, E, rows, NULL, &b->prompt, err);
    if (!st && P)
        b->prompt->use.combine = b->model->prompt.combine;
    mem_free_aligned(rows);
    t5x_close(r.reader);
    return st;
}

static spt_status open_mapped(struct t5x_base *b, const struct gin_restore *r, struct t5x_map *map,
                              bool train, uint64_t seed, spt_err *err)
{
    const struct gin_model *m = b->model;
    const char *path = b->path;
    char *place = NULL;
    TRY(place_find(NULL, path, HUB_MODEL, &place, err));
    b->view.fallback = r && r->fallback && !b->resumed;
    b->view.rounds = r && r->has_dtype && r->dtype != DT_F32 && !b->resumed &&
                     t5x_detect(place) == T5X_LEGACY;
    b->view.dtype = r ? r->dtype : DT_F32;
    b->view.why_not = why_not(b);
    b->view.params = init_key(train, seed);
    const spt_status st = open_source(b, map, place, &b->view, &b->engine.source, err);
    mem_free(place);
    TRY(st);
    b->engine.config = *t5_source_config(b->engine.source);
    TRY(check_shape(m, &b->engine.config, path, err));
    TRY(open_vocabulary(b, err));
    if (vocab_base_size(b->engine.vocab) > b->engine.config.vocab)
        return err_set(err, SPT_E_CONFIG,
                       "%s has %d pieces, the model's embedding %lld rows: they do not belong "
                       "together",
                       m->vocab_file, vocab_base_size(b->engine.vocab),
                       (long long)b->engine.config.vocab);
    b->step = t5_source_step(b->engine.source);
    if (train) {
        TRY(check_trained(b, err));
        const struct optim_param param = {
            PROMPT_T5X_ENCODER, shape_2d(m->prompt.P, b->engine.config.width), NULL};
        TRY(optim_new(&m->optim, &param, 1, &b->optim, err));
    }
    TRY(open_prompt(b, r, map, train, seed, err));
    if (train)
        optim_set_step(b->optim, b->step);
    return t5x_map_done(map, err);
}

spt_status t5x_base_open(struct t5x_base *b, const struct gin_model *m, const struct gin_restore *r,
                         char *path, bool resumed, bool train, uint64_t seed, spt_err *err)
{
    struct t5x_map map;
    *b = (struct t5x_base){.model = m, .path = path, .resumed = resumed};
    /* A run's own checkpoint is taken as it is. */
    spt_status st = t5x_map_open(&map, resumed ? NULL : r, err);
    if (!st)
        st = open_mapped(b, r, &map, train, seed, err);
    t5x_map_close(&map);
    return st;
}

/* --- weights --------------------------------------------------------------------------------------- */

/* RestoreCheckpointConfig.dtype = 'bfloat16' and a directory that is no T5X checkpoint (which
 * t5x_map.h rounds): weights are rounded while they are prepared. */
struct rounding {
    t5_source *source;
    enum dtype dtype;
};

static spt_status rounded_param(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    const struct rounding *r = ctx;
    size_t n, bytes;
    TRY(t5_source_param(r->source, name, out, err));
    spt_status st = tensor_size(DT_F32, &out->m.view.shape, &n, &bytes, err);
    float *f = st ? NULL : mem_alloc_aligned(n, sizeof *f);
    if (!f) {
        t5_source_release(r->source, out);
        return st ? st : err_nomem(err, bytes);
    }
    tensor_to_f32(&out->m.view, 0, n, f);
    t5x_round(f, n, r->dtype);
    const bool transposed = out->m.transposed;
    const struct tensor_shape shape = out->m.view.shape;
    t5_source_release(r->source, out);
    out->m.view = (struct tensor_view){DT_F32, shape, f};
    out->m.transposed = transposed;
    out->owned = f;
    return SPT_OK;
}

static void rounded_release(void *ctx, struct t5_param *p)
{
    (void)ctx;
    mem_free_aligned(p->owned);
    *p = (struct t5_param){0};
}

spt_status t5x_base_load(struct t5x_base *b, const struct settings *s, const struct gin_restore *r,
                         spt_err *err)
{
    struct engine *e = &b->engine;
    const bool train = b->optim != NULL;
    e->part = s->part;
    e->data = s->data_ranks;
    if (e->part)
        t5_source_sparing(e->source);
    e->compute = b->model->bfloat16 ? OPS_BFLOAT16 : OPS_FLOAT32;
    const struct ops_config cfg = {
        .isa = !s->isa || !strcmp(s->isa, "auto") ? NULL : s->isa,
        .compute = e->compute,
        .threads = (int)s->threads,
    };
    TRY(ops_open(&cfg, &e->ops, err));
    const unsigned uses = train ? T5_BACKWARD : 0;
    if (!r || !r->has_dtype || r->dtype == DT_F32 || b->resumed || b->view.rounds)
        return t5_model_new_part(e->ops, e->source, uses, e->part, &e->model, err);
    struct rounding rounding = {e->source, r->dtype};
    const struct t5_getter get = {&rounding, &e->config, rounded_param, rounded_release};
    return t5_model_new_part_from(e->ops, &get, uses, e->part, &e->model, err);
}

void t5x_base_close(struct t5x_base *b)
{
    optim_free(b->optim);
    prompt_free(b->prompt);
    engine_close(&b->engine);
    t5x_view_release(&b->view);
    mem_free(b->path);
    *b = (struct t5x_base){0};
}

/* --- saving ---------------------------------------------------------------------------------------- */

/* v lives in its own array, dummies and row and column statistics stay in the msgpack file. */
static bool slot_in_zarr(const struct optim_slot *s)
{
    const char *base = path_base(s->name);
    if (s->shape.rank == 0 || (s->shape.rank == 1 && s->shape.dim[0] == 1))
        return false;
    return strcmp(base, "v_row") && strcmp(base, "v_col");
}

/* Beside the base: the prompt, nil for the state of what is frozen, the optimizer's slots. */
static spt_status add_trained(struct t5x_base *b, struct t5x_saving *w, spt_err *err)
{
    t5_source *source = b->engine.source;
    const struct tensor_view nil = {.dtype = DT_F32};
    const struct tensor_view rows = {DT_F32, shape_2d(b->prompt->P, b->prompt->E),
                                     b->prompt->rows};
    TRY(t5x_saving_add(w, "target/", PROMPT_T5X_ENCODER, &rows, true, err));
    const bool adafactor = b->model->optim.kind == OPTIM_ADAFACTOR;
    for (size_t i = 0; adafactor && i < t5_source_count(source); i++)
        TRY(t5x_saving_add(w, "state/param_states/", t5_source_name(source, i), &nil, false, err));
    for (size_t i = 0; i < optim_slot_count(b->optim); i++) {
        const struct optim_slot *s = optim_slot_at(b->optim, i);
        const struct tensor_view v = {s->dtype, s->shape, s->data};
        if (strcmp(s->name, "step"))
            TRY(t5x_saving_add(w, "state/", s->name, &v, slot_in_zarr(s), err));
    }
    return SPT_OK;
}

/* The prompt alone, when the checkpointer's patterns select it (without a leading slash). A run that
 * continues exactly makes the same prompt again; the reference's would move the first one aside. */
static spt_status save_numpy(const struct t5x_base *b, const char *dir, const struct gin_save *s,
                             spt_err *err)
{
    bool yes;
    TRY(any_match(&s->save_paths, PROMPT_T5X_ENCODER, &yes, err));
    const struct tensor_view rows = {DT_F32, shape_2d(b->prompt->P, b->prompt->E),
                                     b->prompt->rows};
    const struct t5x_item item = {.name = PROMPT_T5X_ENCODER, .view = rows, .zarr = true};
    const struct t5x_save save = {
        .step = b->step,
        .items = &item,
        .count = yes,
        .target_dtype = s->dtype,
        .spares_equal = s->save_dataset,
    };
    return t5x_write_numpy(dir, &save, err);
}

/* The checkpoint that the frozen weights are read from may be the oldest of the run's own: when it
 * has gone they are read from the newest. */
static spt_status follow(struct t5x_base *b, const char *dir, spt_err *err)
{
    if (fs_exists(b->path))
        return SPT_OK;
    struct t5x_map none = {0};
    struct t5x_view view = {.why_not = "it was written by this run"};
    t5_source *source;
    char *path;
    TRY(step_path(dir, b->step, &path, err));
    const spt_status st = open_source(b, &none, path, &view, &source, err);
    if (st) {
        t5x_view_release(&view);
        mem_free(path);
        return st;
    }
    t5_source_close(b->engine.source);
    t5x_view_release(&b->view);
    b->view = view; /* nothing of it is made from scratch: its place does not matter */
    mem_free(b->path);
    b->engine.source = source;
    b->path = path;
    return SPT_OK;
}

spt_status t5x_base_save(struct t5x_base *b, const char *dir, const struct gin_save *s,
                         const struct t5x_file *files, size_t file_count, spt_err *err)
{
    struct t5x_saving w = {0};
    bool skipped = false;
    b->step = optim_get_step(b->optim);
    if (s->numpy)
        TRY(save_numpy(b, dir, s, err));
    const size_t n = t5_source_count(b->engine.source);
    spt_status st = t5x_saving_open(&w, b->engine.source, n + optim_slot_count(b->optim) + 1, err);
    if (!st)
        st = add_trained(b, &w, err);
    const struct t5x_save how = {
        .step = b->step,
        .target_dtype = s->dtype == DT_BF16 ? DT_BF16 : DT_F32,
    };
    if (!st)
        st = t5x_saving_write(&w, &how, files, file_count, dir, &skipped, err);
    t5x_saving_close(&w);
    if (!st && skipped)
        log_info("checkpoint_%lld exists already and is left as it is", (long long)b->step);
    if (!st && s->keep > 0)
        st = t5x_prune(dir, (size_t)s->keep, err);
    return st ? st : follow(b, dir, err);
}

/* --- model-info.txt ---------------------------------------------------------------------------------- */

struct axes {
    const char *ending, *first, *second, *spec;
};

static const struct axes *axes_of(const char *name)
{
    static const struct axes table[] = {
        {"token_embedder/embedding", "vocab", "embed", "('model', None)"},
        {"/query/kernel", "embed", "joined_kv", "(None, 'model')"},
        {"/key/kernel", "embed", "joined_kv", "(None, 'model')"},
        {"/value/kernel", "embed", "joined_kv", "(None, 'model')"},
        {"/out/kernel", "joined_kv", "embed", "('model', None)"},
        {"/wi/kernel", "embed", "mlp", "(None, 'model')"},
        {"/wi_0/kernel", "embed", "mlp", "(None, 'model')"},
        {"/wi_1/kernel", "embed", "mlp", "(None, 'model')"},
        {"/wo/kernel", "mlp", "embed", "('model', None)"},
        {"/rel_embedding", "heads", "relpos_buckets", "('model', None)"},
        {"/logits_dense/kernel", "embed", "vocab", "(None, 'model')"},
        {"/prompt/prompt/prompt", "prompt", "prompt_embed", "(None, None)"},
        {"/prompt/prompt/prompt/v", "prompt", "prompt_embed", "(None, None)"},
        {"/scale", "embed", NULL, "(None,)"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (path_has_suffix(name, table[i].ending))
            return &table[i];
    return NULL;
}

static void add_line(buf *out, const char *name, const struct tensor_shape *s)
{
    const struct axes *a = axes_of(name);
    const bool named = a && s->rank == (a->second ? 2 : 1);
    char shape[SHAPE_TEXT];
    int64_t n = 1;
    int len = snprintf(shape, sizeof shape, "(");
    for (int i = 0; i < s->rank; i++) {
        n *= s->dim[i];
        len += snprintf(shape + len, sizeof shape - (size_t)len, "%s%s%s%lld", i ? ", " : "",
                        !named ? "" : i ? a->second : a->first, named ? "=" : "",
                        (long long)s->dim[i]);
    }
    snprintf(shape + len, sizeof shape - (size_t)len, "%s)", s->rank == 1 && !named ? "," : "");
    buf_addf(out, "Variable %-80s size %-12lld shape %-40s partition spec %s\n", name,
             (long long)n, shape, named ? a->spec : "None");
}

/* Keys sorted at each level: '/' sorts before everything else. */
static int tree_order(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    const unsigned char x = *a == '/' ? 1 : (unsigned char)*a;
    const unsigned char y = *b == '/' ? 1 : (unsigned char)*b;
    return (x > y) - (x < y);
}

static int64_t axis_size(const struct t5_config *c, const char *axis)
{
    const struct {
        const char *axis;
        int64_t size;
    } sizes[] = {
        {"vocab", c->vocab},  {"embed", c->width}, {"joined_kv", c->heads * c->head_dim},
        {"mlp", c->ff},       {"heads", c->heads}, {"relpos_buckets", c->buckets},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!strcmp(sizes[i].axis, axis))
            return sizes[i].size;
    return 0;
}

static void add_weight_line(const struct t5x_base *b, buf *out, const char *name)
{
    const struct axes *a = axes_of(name);
    const struct t5_config *c = &b->engine.config;
    struct tensor_shape shape = {0};
    if (a)
        shape = a->second ? shape_2d(axis_size(c, a->first), axis_size(c, a->second))
                          : shape_1d(axis_size(c, a->first));
    add_line(out, name, &shape);
}

/* m, v, v_col, v_row: sorted by name like everything else. */
static void add_slots(const struct t5x_base *b, buf *out)
{
    const char *last = "";
    for (size_t n = 0; n < optim_slot_count(b->optim); n++) {
        const struct optim_slot *next = NULL;
        for (size_t k = 0; k < optim_slot_count(b->optim); k++) {
            const struct optim_slot *s = optim_slot_at(b->optim, k);
            if (strcmp(s->name, "step") && strcmp(s->name, last) > 0 &&
                (!next || strcmp(s->name, next->name) < 0))
                next = s;
        }
        if (!next)
            return;
        add_line(out, next->name, &next->shape);
        last = next->name;
    }
}

/* Parameters in tree order; the prompt stands between those of the base. */
static void add_parameters(const struct t5x_base *b, buf *out, bool states)
{
    const size_t n = t5_source_count(b->engine.source);
    bool done = !b->prompt;
    for (size_t i = 0; i <= n; i++) {
        const char *name = i < n ? t5_source_name(b->engine.source, i) : NULL;
        if (!done && (!name || tree_order(PROMPT_T5X_ENCODER, name) < 0)) {
            const struct tensor_shape shape = shape_2d(b->prompt->P, b->prompt->E);
            done = true;
            if (states)
                add_slots(b, out);
            else
                add_line(out, PROMPT_T5X_ENCODER, &shape);
        }
        if (!name)
            break;
        char full[NAME_BYTES];
        snprintf(full, sizeof full, "param_states/%s", name);
        if (states)
            buf_addf(out, "Variable    %-80s None\n", full);
        else
            add_weight_line(b, out, name);
    }
}

spt_status t5x_base_info(const struct t5x_base *b, const char *dir, spt_err *err)
{
    const struct tensor_shape scalar = {0};
    buf text, path;
    buf_init(&text, 64 << 20);
    buf_init(&path, PATH_BYTES);
    add_parameters(b, &text, false);
    buf_addf(&text, "Total number of parameters: %lld\n\n",
             (long long)(config_parameters(&b->engine.config) +
                         (b->prompt ? b->prompt->P * b->prompt->E : 0)));
    if (b->optim)
        add_parameters(b, &text, true);
    add_line(&text, "step", &scalar);
    spt_status st = buf_status(&text, "model-info.txt", err);
    if (!st)
        st = path_join(&path, dir, "model-info.txt", err);
    if (!st)
        st = fs_write_all(buf_str(&path), buf_str(&text), text.len, err);
    buf_release(&text);
    buf_release(&path);
    return st;
}
