/* A model on disk as parameters under their T5X names.
 *
 * Opening accounts for every tensor: it is a parameter, it stands in the table of harmless
 * leftovers (model/names.c) and its values are as harmless as the table says, or it is an error.
 * Values of parameters are looked at when they are first loaded: an infinite or NaN weight is
 * refused there, by name and index. */
#include "model/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "codec/hash.h"
#include "fs/fs.h"
#include "model/hash_cache.h"
#include "model/source_internal.h"
#include "os/os.h"

enum { CHUNK = 16384 /* elements converted at a time */ };

struct entry {
    size_t index; /* in the store */
    bool seen;    /* loaded before: its values are finite and its digest is known */
    hash128 digest;
};

enum { SPARING = 1 << 20 }; /* elements looked at together when memory is short */

struct t5_source {
    struct source_files files;
    struct t5_config config;
    struct t5_name *name; /* T5X tree order */
    struct entry *entry;
    size_t count;
    hash_state *h;  /* for digests; NULL until the first one */
    float *chunk;   /* [CHUNK] */
    bool sparing;
    char known[33]; /* the hash of all, from the cache, or "" */
};

void t5_source_close(t5_source *s)
{
    if (!s)
        return;
    store_close(s->files.s);
    mem_free(s->name);
    mem_free(s->entry);
    hash_free(s->h);
    mem_free(s->chunk);
    mem_free(s);
}

bool source_find(const struct source_files *f, const char *name, size_t *index)
{
    char full[2 * T5_NAME_TEXT];
    snprintf(full, sizeof full, "%s%s", f->prefix, name);
    return store_find(f->s, full, index);
}

/* --- accounting --------------------------------------------------------------------------- */

static bool chunks_equal(const struct tensor_view *a, const struct tensor_view *b, size_t n,
                         float *x, float *y)
{
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = n - i < CHUNK ? n - i : CHUNK;
        tensor_to_f32(a, i, m, x);
        tensor_to_f32(b, i, m, y);
        if (memcmp(x, y, m * sizeof *x))
            return false;
    }
    return true;
}

spt_status source_same_values(store *s, size_t a, size_t b, bool *same, spt_err *err)
{
    const struct store_info *ia = store_at(s, a), *ib = store_at(s, b);
    if (!shape_equal(&ia->shape, &ib->shape)) {
        *same = false;
        return SPT_OK;
    }
    struct store_data da = {0}, db = {0};
    float *chunk = mem_alloc(2 * CHUNK, sizeof *chunk);
    if (!chunk)
        return err_nomem(err, 2 * CHUNK * sizeof *chunk);
    spt_status st = store_load(s, a, &da, err);
    if (!st)
        st = store_load(s, b, &db, err);
    if (!st && ia->dtype == ib->dtype) /* the common case, and often the very same bytes */
        *same = da.view.data == db.view.data || !memcmp(da.view.data, db.view.data, ia->bytes);
    else if (!st)
        *same = chunks_equal(&da.view, &db.view, ia->elements, chunk, chunk + CHUNK);
    store_release(s, &da);
    store_release(s, &db);
    mem_free(chunk);
    return st;
}

static spt_status all_zero(store *s, size_t i, bool *zero, spt_err *err)
{
    struct store_data d = {0};
    const size_t n = store_at(s, i)->elements;
    float *chunk = mem_alloc(CHUNK, sizeof *chunk);
    if (!chunk)
        return err_nomem(err, CHUNK * sizeof *chunk);
    const spt_status st = store_load(s, i, &d, err);
    bool yes = true;
    for (size_t at = 0; !st && yes && at < n; at += CHUNK) {
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        tensor_to_f32(&d.view, at, m, chunk);
        for (size_t k = 0; k < m; k++)
            yes = yes && chunk[k] == 0;
    }
    store_release(s, &d);
    mem_free(chunk);
    if (!st)
        *zero = yes;
    return st;
}

/* Layer 0's relative table of the stack that `name` belongs to. */
static bool first_table(const struct source_files *f, const char *name, size_t *index)
{
    return source_find(f,
                       name[0] == 'e'
                           ? "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
                           : "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                       index);
}

static spt_status check_leftover(const struct source_files *f, size_t i, size_t embedding,
                                 spt_err *err)
{
    const char *name = store_at(f->s, i)->name, *path = store_path(f->s);
    size_t first = 0;
    bool harmless = false;
    switch (t5_leftover_of(name)) {
    case T5_IGNORED:
        return SPT_OK;
    case T5_MUST_BE_ZERO:
        TRY(all_zero(f->s, i, &harmless, err));
        return harmless ? SPT_OK
                        : err_set(err, SPT_E_FORMAT,
                                  "%s: tensor '%s' is not zero; T5 norms have no bias, so the "
                                  "numbers cannot be right without it",
                                  path, name);
    case T5_EMBEDDING_COPY:
        TRY(source_same_values(f->s, embedding, i, &harmless, err));
        return harmless ? SPT_OK
                        : err_set(err, SPT_E_FORMAT,
                                  "%s: tensor '%s' differs from '%s', which it should be a copy of",
                                  path, name, store_at(f->s, embedding)->name);
    case T5_TABLE_COPY:
        if (first_table(f, name, &first))
            TRY(source_same_values(f->s, first, i, &harmless, err));
        return harmless ? SPT_OK
                        : err_set(err, SPT_E_FORMAT,
                                  "%s: tensor '%s' is a relative-position table of its own; only "
                                  "umT5 (model_type umt5) has one per layer",
                                  path, name);
    case T5_STRANGER:
        break;
    }
    return err_set(err, SPT_E_FORMAT, "%s: tensor '%s' belongs to no T5", path, name);
}

/* T5X checkpoints also carry optimiser state and trained prompts. */
static spt_status check_t5x_extra(const struct source_files *f, size_t i, bool *prompt,
                                  spt_err *err)
{
    const char *name = store_at(f->s, i)->name;
    const size_t n = strlen(f->prefix);
    if (strncmp(name, f->prefix, n) != 0)
        return SPT_OK;
    if (strstr(name + n, "/prompt/")) {
        *prompt = true;
        return SPT_OK;
    }
    return err_set(err, SPT_E_FORMAT, "%s: tensor '%s' belongs to no T5", store_path(f->s), name);
}

static spt_status account(t5_source *s, const bool *used, size_t embedding, spt_err *err)
{
    const struct source_files *f = &s->files;
    size_t left = 0, first = 0;
    bool prompt = false;
    for (size_t i = 0; i < store_count(f->s); i++) {
        if (used[i])
            continue;
        TRY(f->hf ? check_leftover(f, i, embedding, err) : check_t5x_extra(f, i, &prompt, err));
        first = left++ ? first : i;
    }
    if (left && f->hf)
        log_info("%s: %zu tensors that no T5 uses are ignored ('%s'%s)", store_path(f->s), left,
                 store_at(f->s, first)->name, left > 1 ? ", ..." : "");
    if (prompt)
        log_info("%s: the prompt stored in this checkpoint is not part of the base model",
                 store_path(f->s));
    return SPT_OK;
}

static spt_status check_shape(const struct source_files *f, const struct t5_name *n, size_t index,
                              spt_err *err)
{
    const struct store_info *info = store_at(f->s, index);
    struct tensor_shape want = n->shape;
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    if (f->hf && n->transposed) {
        want.dim[0] = n->shape.dim[1];
        want.dim[1] = n->shape.dim[0];
    }
    if (!shape_equal(&info->shape, &want))
        return err_set(err, SPT_E_FORMAT, "%s: tensor '%s' has shape %s, the model needs %s",
                       store_path(f->s), info->name, shape_text(&info->shape, a),
                       shape_text(&want, b));
    if (!dtype_is_float(info->dtype))
        return err_set(err, SPT_E_FORMAT, "%s: tensor '%s' is %s, not a floating-point type",
                       store_path(f->s), info->name, dtype_name(info->dtype));
    return SPT_OK;
}

/* Which tensor of the store parameter k is. */
static bool locate(const t5_source *s, size_t k, const struct source_roles *roles, size_t *index)
{
    const struct source_files *f = &s->files;
    const struct t5_name *n = &s->name[k];
    if (!strcmp(n->t5x, "token_embedder/embedding"))
        *index = roles->embedding;
    else if (!strcmp(n->t5x, "decoder/logits_dense/kernel"))
        *index = roles->head;
    else
        return source_find(f, f->hf ? n->hf : n->t5x, index);
    return true;
}

static spt_status bind(t5_source *s, const struct source_roles *roles, bool *used, spt_err *err)
{
    size_t missing = 0, first = 0;
    for (size_t k = 0; k < s->count; k++) {
        size_t index = 0;
        if (!locate(s, k, roles, &index)) {
            first = missing++ ? first : k;
            continue;
        }
        TRY(check_shape(&s->files, &s->name[k], index, err));
        s->entry[k].index = index;
        used[index] = true;
    }
    if (!missing)
        return SPT_OK;
    char more[48] = "";
    if (missing > 1)
        snprintf(more, sizeof more, " (and %zu more)", missing - 1);
    return err_set(err, SPT_E_FORMAT, "%s: tensor '%s%s' is missing%s", store_path(s->files.s),
                   s->files.prefix, s->files.hf ? s->name[first].hf : s->name[first].t5x, more);
}

/* --- opening ------------------------------------------------------------------------------ */

static spt_status find_naming(struct source_files *f, spt_err *err)
{
    size_t i;
    f->prefix = "target/";
    if (source_find(f, "token_embedder/embedding", &i))
        return SPT_OK;
    f->prefix = "";
    if (source_find(f, "token_embedder/embedding", &i))
        return SPT_OK;
    for (i = 0; i < store_count(f->s); i++) {
        const char *name = store_at(f->s, i)->name;
        f->hf = f->hf || !strncmp(name, "encoder.block.", 14) ||
                !strncmp(name, "decoder.block.", 14) || !strcmp(name, "shared.weight");
    }
    if (f->hf)
        return SPT_OK;
    return err_set(
        err, SPT_E_FORMAT, "%s: these are not the weights of a T5 (%zu tensors, for example '%s')",
        store_path(f->s), store_count(f->s), store_count(f->s) ? store_at(f->s, 0)->name : "");
}

/* config.json in the directory, or beside a file that was named. */
static spt_status read_config(struct source_files *f, const char *path, spt_err *err)
{
    buf where;
    buf_init(&where, 1 << 16);
    spt_status st = SPT_OK;
    if (!f->hf)
        return SPT_OK;
    if (!fs_is_dir(path)) {
        const size_t n = (size_t)(path_base(path) - path);
        buf_add(&where, path, n);
        buf_adds(&where, "config.json");
        st = buf_status(&where, "a path", err);
    } else {
        st = path_join(&where, path, "config.json", err);
    }
    if (!st)
        st = hf_config_read(buf_str(&where), &f->config, err);
    if (st == SPT_E_NOTFOUND)
        st = err_set(err, st, "%s: config.json is missing beside the weights", path);
    f->has_config = !st;
    buf_release(&where);
    return st;
}

static spt_status open_files(t5_source *s, const char *path, const struct t5_source_opts *opts,
                             spt_err *err)
{
    struct source_roles roles = {0};
    TRY(store_open(path, NULL, &s->files.s, err));
    if (opts && opts->adapt) {
        store *in = s->files.s;
        s->files.prefix = "target/";
        TRY(source_refuse_scanned(&s->files, err));
        s->files.s = NULL;
        TRY(opts->adapt(opts->adapt_ctx, in, &s->files.s, err));
    }
    TRY(find_naming(&s->files, err));
    TRY(read_config(&s->files, path, err));
    TRY(source_configure(&s->files, opts, &s->config, &roles, err));
    TRY(t5_names_list(&s->config, &s->name, &s->count, err));
    s->entry = mem_zalloc(s->count, sizeof *s->entry);
    bool *used = mem_zalloc(store_count(s->files.s), sizeof *used);
    spt_status st = s->entry && used ? SPT_OK : err_nomem(err, s->count * sizeof *s->entry);
    if (!st)
        st = bind(s, &roles, used, err);
    if (!st)
        st = account(s, used, roles.embedding, err);
    mem_free(used);
    if (!st)
        hash_cache_get(s->files.s, s->known);
    return st;
}

spt_status t5_source_open(const char *dir, const struct t5_source_opts *opts, t5_source **out,
                          spt_err *err)
{
    t5_source *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    const spt_status st = open_files(s, dir, opts, err);
    if (st) {
        t5_source_close(s);
        return st;
    }
    *out = s;
    return SPT_OK;
}

const struct t5_config *t5_source_config(const t5_source *s)
{
    return &s->config;
}

const char *t5_source_dir(const t5_source *s)
{
    return store_path(s->files.s);
}

const struct hf_config *t5_source_hf_config(const t5_source *s)
{
    return s->files.has_config ? &s->files.config : NULL;
}

int64_t t5_source_step(const t5_source *s)
{
    const int64_t step = store_step(s->files.s);
    return step < 0 ? 0 : step;
}

static int by_place(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

spt_status t5_source_expect(t5_source *s, spt_err *err)
{
    size_t *index = mem_alloc(s->count, sizeof *index);
    if (!index)
        return err_nomem(err, s->count * sizeof *index);
    for (size_t i = 0; i < s->count; i++)
        index[i] = s->entry[i].index;
    if (s->count)
        qsort(index, s->count, sizeof *index, by_place);
    const spt_status st = store_expect(s->files.s, index, s->count, err);
    mem_free(index);
    return st;
}

size_t t5_source_count(const t5_source *s)
{
    return s->count;
}

const char *t5_source_name(const t5_source *s, size_t i)
{
    return s->name[i].t5x;
}

/* --- hash --------------------------------------------------------------------------------- */

static void add_u64(hash_state *h, uint64_t v)
{
    unsigned char b[8];
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (unsigned char)(v >> (8 * i));
    hash_add(h, b, sizeof b);
}

static void hash_flat(hash_state *h, const struct tensor_view *v, size_t n, float *chunk)
{
    if (v->dtype == DT_F32) {
        hash_add(h, v->data, n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = n - i < CHUNK ? n - i : CHUNK;
        tensor_to_f32(v, i, m, chunk);
        hash_add(h, chunk, m * sizeof *chunk);
    }
}

/* What a look takes at once when memory is short: the elements first .. first + n, dense. */
static struct tensor_view window(const struct tensor_view *v, size_t first, size_t n)
{
    return (struct tensor_view){v->dtype, shape_1d((int64_t)n),
                                (const char *)v->data + first * dtype_size(v->dtype)};
}

/* The file holds [N, K]; values go in as [K, N]. A stripe of rows k .. k+S is gathered at a time,
 * so that every cache line of the file is read once. */
enum { STRIPE = 16 };

static spt_status hash_transposed(hash_state *h, const struct tensor_view *v, spt_err *err)
{
    const size_t N = (size_t)v->shape.dim[0], K = (size_t)v->shape.dim[1];
    float *out = mem_alloc(N, STRIPE * sizeof *out);
    if (!out)
        return err_nomem(err, N * STRIPE * sizeof *out);
    for (size_t k = 0; k < K; k += STRIPE) {
        const size_t s = K - k < STRIPE ? K - k : STRIPE;
        for (size_t n = 0; n < N; n++) {
            float row[STRIPE];
            tensor_to_f32(v, n * K + k, s, row);
            for (size_t i = 0; i < s; i++)
                out[i * N + n] = row[i];
        }
        hash_add(h, out, s * N * sizeof *out);
    }
    mem_free(out);
    return SPT_OK;
}

static spt_status prepare_hash(t5_source *s, spt_err *err)
{
    if (!s->h)
        TRY(hash_new(&s->h, err));
    if (!s->chunk)
        s->chunk = mem_alloc(CHUNK, sizeof *s->chunk);
    return s->chunk ? SPT_OK : err_nomem(err, CHUNK * sizeof *s->chunk);
}

/* The mapped pages of [from, from + n) are not needed now. */
static void let_go(const void *from, size_t n)
{
    const uintptr_t page = 4096, start = (uintptr_t)from / page * page;
    const uintptr_t end = ((uintptr_t)from + n) / page * page;
    if (end > start)
        (void)os_drop((void *)start, end - start);
}

/* Digest of one parameter: XXH3-128 of its float32 values in T5X order, little endian. */
static spt_status digest(t5_source *s, size_t k, const struct tensor_view *v, spt_err *err)
{
    TRY(prepare_hash(s, err));
    hash_reset(s->h);
    if (s->files.hf && s->name[k].transposed)
        TRY(hash_transposed(s->h, v, err));
    else
        hash_flat(s->h, v, store_at(s->files.s, s->entry[k].index)->elements, s->chunk);
    s->entry[k].digest = hash_value(s->h);
    return SPT_OK;
}

/* view_find_nonfinite, a piece at a time, without keeping the pages. */
static bool find_nonfinite_sparing(const struct tensor_view *v, size_t n, size_t *at)
{
    for (size_t i = 0; i < n; i += SPARING) {
        const struct tensor_view part = window(v, i, n - i < SPARING ? n - i : SPARING);
        const bool found = view_find_nonfinite(&part, at);
        let_go(part.data, (size_t)part.shape.dim[0] * dtype_size(v->dtype));
        if (found) {
            *at += i;
            return true;
        }
    }
    return false;
}

static spt_status digest_sparing(t5_source *s, size_t k, const struct tensor_view *v, size_t n,
                                 spt_err *err)
{
    if (s->files.hf && s->name[k].transposed)
        return digest(s, k, v, err);
    TRY(prepare_hash(s, err));
    hash_reset(s->h);
    for (size_t i = 0; i < n; i += SPARING) {
        const struct tensor_view part = window(v, i, n - i < SPARING ? n - i : SPARING);
        hash_flat(s->h, &part, (size_t)part.shape.dim[0], s->chunk);
        let_go(part.data, (size_t)part.shape.dim[0] * dtype_size(v->dtype));
    }
    s->entry[k].digest = hash_value(s->h);
    return SPT_OK;
}

/* The first time that a parameter's values pass by, they are checked and hashed. */
static spt_status first_look(t5_source *s, size_t k, const struct store_data *d, spt_err *err)
{
    size_t at;
    char t[SHAPE_TEXT];
    const size_t n = store_at(s->files.s, s->entry[k].index)->elements;
    const bool sparing = s->sparing && !d->owned && n > SPARING;
    if (sparing ? find_nonfinite_sparing(&d->view, n, &at) : view_find_nonfinite(&d->view, &at)) {
        float value = 0;
        tensor_to_f32(&d->view, at, 1, &value);
        return err_set(err, SPT_E_FORMAT, "%s: tensor '%s' is %g at %s", store_path(s->files.s),
                       store_at(s->files.s, s->entry[k].index)->name, (double)value,
                       shape_index_text(&d->view.shape, at, t));
    }
    if (!s->known[0])
        TRY(sparing ? digest_sparing(s, k, &d->view, n, err) : digest(s, k, &d->view, err));
    s->entry[k].seen = true;
    return SPT_OK;
}

/* XXH3-128 over, for every parameter in T5X order: its name and a zero byte, rank and dimensions
 * as u64, and its digest (high, low) as u64, all little endian. */
static void combine(t5_source *s, char hex[33])
{
    hash_reset(s->h);
    for (size_t k = 0; k < s->count; k++) {
        const struct t5_name *n = &s->name[k];
        hash_add(s->h, n->t5x, strlen(n->t5x) + 1);
        add_u64(s->h, (uint64_t)n->shape.rank);
        for (int d = 0; d < n->shape.rank; d++)
            add_u64(s->h, (uint64_t)n->shape.dim[d]);
        add_u64(s->h, s->entry[k].digest.high);
        add_u64(s->h, s->entry[k].digest.low);
    }
    hash_text(hash_value(s->h), hex);
}

/* --- parameters --------------------------------------------------------------------------- */

static bool find(const t5_source *s, const char *name, size_t *out)
{
    size_t lo = 0, hi = s->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = t5_names_compare(name, s->name[mid].t5x);
        if (c == 0) {
            *out = mid;
            return true;
        }
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return false;
}

bool t5_source_has(const t5_source *s, const char *name)
{
    size_t i;
    return find(s, name, &i);
}

spt_status t5_source_param(t5_source *s, const char *name, struct t5_param *out, spt_err *err)
{
    size_t k;
    struct store_data d = {0};
    if (!find(s, name, &k))
        return err_set(err, SPT_E_NOTFOUND, "%s: the model has no parameter '%s'",
                       store_path(s->files.s), name);
    TRY(store_load(s->files.s, s->entry[k].index, &d, err));
    const spt_status st = s->entry[k].seen ? SPT_OK : first_look(s, k, &d, err);
    if (st) {
        store_release(s->files.s, &d);
        return st;
    }
    out->m.view = d.view;
    out->m.transposed = s->files.hf && s->name[k].transposed;
    out->owned = d.owned;
    out->id = k;
    return SPT_OK;
}

spt_status t5_source_describe(const t5_source *s, const char *name, struct t5_param *out,
                              spt_err *err)
{
    size_t k;
    if (!find(s, name, &k))
        return err_set(err, SPT_E_NOTFOUND, "%s: the model has no parameter '%s'",
                       store_path(s->files.s), name);
    const struct store_info *i = store_at(s->files.s, s->entry[k].index);
    *out = (struct t5_param){.m.view = {i->dtype, i->shape, NULL}, .id = k};
    out->m.transposed = s->files.hf && s->name[k].transposed;
    return SPT_OK;
}

void t5_source_release(t5_source *s, struct t5_param *p)
{
    if (!p->m.view.data)
        return;
    struct store_data d = {.view = p->m.view, .owned = p->owned, .index = s->entry[p->id].index};
    store_release(s->files.s, &d);
    memset(p, 0, sizeof *p);
}

void t5_source_sparing(t5_source *s)
{
    s->sparing = true;
}

spt_status t5_source_hash(t5_source *s, char hex[33], spt_err *err)
{
    if (!s->known[0]) {
        TRY(prepare_hash(s, err));
        for (size_t k = 0; k < s->count; k++) {
            struct t5_param p = {0};
            if (s->entry[k].seen)
                continue;
            TRY(t5_source_param(s, s->name[k].t5x, &p, err));
            t5_source_release(s, &p);
        }
        combine(s, s->known);
        hash_cache_put(s->files.s, s->known);
    }
    memcpy(hex, s->known, sizeof s->known);
    return SPT_OK;
}
