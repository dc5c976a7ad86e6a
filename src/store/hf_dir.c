/* One set of weights out of a Hugging Face directory.
 *
 * Directories of the hub and of conversions hold several sets side by side, and leftovers of
 * older ones. Merging what a glob finds gives a chimera that loads without a word, so exactly one
 * set is taken: the first line of the table below whose file is there, whole or not at all. Of an
 * index, a tensor is read from the shard that the index names, even when another shard has one of
 * that name, too. */
#include "store/hf_dir.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "store/store_internal.h"
#include "text/json.h"


static const struct {
    const char *file;
    bool index;
} sets[] = {
    {"model.safetensors", false},
    {"model.safetensors.index.json", true},
    {"pytorch_model.bin", false},
    {"pytorch_model.bin.index.json", true},
};
enum { SETS = sizeof sets / sizeof sets[0] };

/* Weights of other frameworks, named in the refusal. */
static const char *const foreign[] = {"tf_model.h5", "flax_model.msgpack", "rust_model.ot",
                                      "model.ckpt.index", "flax_model.msgpack.index.json"};

struct shard {
    char *file;
    store *s;
};

struct place {
    size_t shard, index;
};

struct hf_dir {
    const char *chosen;
    struct shard *shard;
    size_t shards, shard_cap;
    struct place *place; /* of each tensor */
    size_t count, cap;
};

static void hf_dir_free(void *impl)
{
    struct hf_dir *d = impl;
    if (!d)
        return;
    for (size_t i = 0; i < d->shards; i++) {
        mem_free(d->shard[i].file);
        store_close(d->shard[i].s);
    }
    mem_free(d->shard);
    mem_free(d->place);
    mem_free(d);
}

static spt_status hf_dir_load(void *impl, size_t i, struct store_data *out, spt_err *err)
{
    const struct hf_dir *d = impl;
    const struct place *p = &d->place[i];
    return store_load(d->shard[p->shard].s, p->index, out, err);
}

static void hf_dir_release(void *impl, size_t i)
{
    const struct hf_dir *d = impl;
    store_drop(d->shard[d->place[i].shard].s, d->place[i].index);
}

static spt_status hf_dir_expect(void *impl, const size_t *index, size_t n, spt_err *err)
{
    const struct hf_dir *d = impl;
    size_t *in_shard = mem_alloc(n, sizeof *in_shard);
    spt_status st = in_shard ? SPT_OK : err_nomem(err, n * sizeof *in_shard);
    for (size_t k = 0; k < d->shards && !st; k++) {
        size_t m = 0;
        for (size_t i = 0; i < n; i++)
            if (d->place[index[i]].shard == k)
                in_shard[m++] = d->place[index[i]].index;
        st = store_expect(d->shard[k].s, in_shard, m, err);
    }
    mem_free(in_shard);
    return st;
}

static const struct store_format format = {"hf_dir", hf_dir_load, hf_dir_release, hf_dir_free,
                                           hf_dir_expect};

/* --- shards ------------------------------------------------------------------------------- */

static bool plain_name(const char *s, size_t len)
{
    return len > 0 && len < 256 && !memchr(s, '/', len) && !memchr(s, '\\', len) &&
           !memchr(s, 0, len) && !(len == 1 && s[0] == '.') && !(len == 2 && !memcmp(s, "..", 2));
}

/* Opens dir/file as the next shard. */
static spt_status open_shard(struct hf_dir *d, store *s, const char *dir, const char *file,
                             size_t len, size_t *out, spt_err *err)
{
    TRY(mem_grow(&d->shard, &d->shard_cap, d->shards + 1, sizeof *d->shard, HF_MAX_SHARDS, err));
    struct shard sh = {.file = mem_strndup(file, len)};
    if (!sh.file)
        return err_nomem(err, len + 1);
    static const struct store_opts none;
    buf path;
    buf_init(&path, 1 << 16);
    spt_status st = path_join(&path, dir, sh.file, err);
    if (!st)
        st = store_open_file(buf_str(&path), &none, &sh.s, err);
    if (!st)
        st = store_add_file(s, buf_str(&path), err);
    buf_release(&path);
    if (st) {
        store_close(sh.s);
        mem_free(sh.file);
        return st;
    }
    d->shard[d->shards] = sh;
    *out = d->shards++;
    return SPT_OK;
}

/* Shards are few, and neighbours in the index usually share one. */
static spt_status get_shard(struct hf_dir *d, store *s, const char *dir, const char *file,
                            size_t len, size_t *out, spt_err *err)
{
    for (size_t i = d->shards; i > 0; i--) {
        const struct shard *sh = &d->shard[i - 1];
        if (strlen(sh->file) == len && !memcmp(sh->file, file, len)) {
            *out = i - 1;
            return SPT_OK;
        }
    }
    return open_shard(d, s, dir, file, len, out, err);
}

static spt_status add_tensor(struct hf_dir *d, store *s, size_t shard, size_t index, spt_err *err)
{
    const struct store_info *info = store_at(d->shard[shard].s, index);
    TRY(mem_grow(&d->place, &d->cap, d->count + 1, sizeof *d->place, HF_MAX_INDEX_TENSORS, err));
    TRY(store_add(s, info->name, strlen(info->name), info->dtype, &info->shape, err));
    d->place[d->count++] = (struct place){shard, index};
    return SPT_OK;
}

static spt_status copy_meta(store *s, const store *from, spt_err *err)
{
    for (size_t i = 0; i < store_meta_count(from); i++) {
        const struct store_meta *m = store_meta_at(from, i);
        TRY(store_add_meta(s, m->key, strlen(m->key), m->value, strlen(m->value), err));
    }
    return SPT_OK;
}

static spt_status take_single(struct hf_dir *d, store *s, const char *dir, const char *file,
                              spt_err *err)
{
    size_t shard;
    TRY(open_shard(d, s, dir, file, strlen(file), &shard, err));
    const store *one = d->shard[shard].s;
    TRY(store_reserve(s, store_count(one), err));
    for (size_t i = 0; i < store_count(one); i++)
        TRY(add_tensor(d, s, shard, i, err));
    return copy_meta(s, one, err);
}

/* --- index -------------------------------------------------------------------------------- */

static spt_status read_mapping(struct hf_dir *d, store *s, const char *dir, json_reader *r,
                               buf *name, buf *file, spt_err *err)
{
    struct json_event key, ev;
    bool more;
    TRY(json_enter_object(r, err));
    for (;;) {
        size_t shard, index;
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            return SPT_OK;
        buf_clear(name);
        buf_clear(file);
        json_add_text(&key, name);
        TRY(json_next(r, &ev, err));
        if (ev.kind != JSON_STRING)
            return json_error(r, ev.offset, err, "weight_map '%s' is %s, not a file name",
                              buf_str(name), json_kind_name(ev.kind));
        json_add_text(&ev, file);
        TRY(buf_status(name, "a tensor's name", err));
        TRY(buf_status(file, "a file name", err));
        if (!plain_name(buf_str(file), file->len))
            return json_error(r, ev.offset, err,
                              "weight_map '%s' names '%s', not a plain file in this directory",
                              buf_str(name), buf_str(file));
        spt_status st = get_shard(d, s, dir, buf_str(file), file->len, &shard, err);
        if (st)
            return err_wrap(err, st, "tensor '%s'", buf_str(name));
        if (memchr(buf_str(name), 0, name->len) ||
            !store_find(d->shard[shard].s, buf_str(name), &index))
            return json_error(r, key.offset, err, "tensor '%s' is not in %s", buf_str(name),
                              buf_str(file));
        TRY(add_tensor(d, s, shard, index, err));
    }
}

static spt_status read_index(struct hf_dir *d, store *s, const char *dir, json_reader *r, buf *name,
                             buf *file, spt_err *err)
{
    struct json_event key;
    bool more, found = false;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        if (json_is(&key, "weight_map")) {
            TRY(read_mapping(d, s, dir, r, name, file, err));
            found = true;
        } else {
            TRY(json_skip(r, err));
        }
    }
    TRY(json_finish(r, err));
    if (!found)
        return err_set(err, SPT_E_FORMAT, "no weight_map");
    return SPT_OK;
}

static spt_status take_index(struct hf_dir *d, store *s, const char *dir, const char *file,
                             spt_err *err)
{
    fs_mapping map = {0};
    json_reader r = {0};
    buf path, name, shard;
    buf_init(&path, 1 << 16);
    buf_init(&name, 1 << 16);
    buf_init(&shard, 1 << 16);
    spt_status st = path_join(&path, dir, file, err);
    if (!st)
        st = fs_map(buf_str(&path), &map, err);
    if (!st) {
        if (map.size > HF_MAX_INDEX)
            st = err_set(err, SPT_E_FORMAT, "an index of %zu bytes, more than %d", map.size,
                         HF_MAX_INDEX);
        else if (lfs_pointer_probe(map.bytes, map.size))
            st = err_set(err, SPT_E_FORMAT,
                         "this is a Git LFS pointer, the file was not downloaded (git lfs pull)");
        json_open(&r, map.bytes, map.size, JSON_PYTHON_NAN);
        if (!st)
            st = read_index(d, s, dir, &r, &name, &shard, err);
        json_close(&r);
        if (st)
            err_wrap(err, st, "%s", buf_str(&path));
    }
    fs_unmap(&map);
    buf_release(&path);
    buf_release(&name);
    buf_release(&shard);
    return st;
}

/* --- directory ---------------------------------------------------------------------------- */

static spt_status refuse(const char *dir, spt_err *err)
{
    bool there;
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (!store_exists_in(dir, foreign[i], &there, NULL) && there)
            return err_set(err, SPT_E_FORMAT,
                           "%s: holds %s only, weights of another framework; model.safetensors "
                           "or pytorch_model.bin is needed",
                           dir, foreign[i]);
    return err_set(err, SPT_E_NOTFOUND,
                   "%s: no weights: neither model.safetensors nor pytorch_model.bin nor an index "
                   "of one of them",
                   dir);
}

/* One line that says what was taken and what was passed over. */
static void report(const char *dir, size_t taken, const bool *there)
{
    buf others;
    buf_init(&others, 4096);
    for (size_t i = 0; i < SETS; i++)
        if (there[i] && i != taken)
            buf_addf(&others, "%s%s", others.len ? ", " : "", sets[i].file);
    if (others.len)
        log_warning("%s: weights taken from %s; not used: %s", dir, sets[taken].file,
                    buf_str(&others));
    else
        log_info("%s: weights taken from %s", dir, sets[taken].file);
    buf_release(&others);
}

static spt_status fill(struct hf_dir *d, store *s, const char *dir, spt_err *err)
{
    bool there[SETS];
    size_t taken = SETS;
    for (size_t i = SETS; i-- > 0;) {
        TRY(store_exists_in(dir, sets[i].file, &there[i], err));
        taken = there[i] ? i : taken;
    }
    if (taken == SETS)
        return refuse(dir, err);
    d->chosen = sets[taken].file;
    report(dir, taken, there);
    return (sets[taken].index ? take_index : take_single)(d, s, dir, d->chosen, err);
}

spt_status hf_dir_open(const char *dir, const struct store_opts *opts, store **out, spt_err *err)
{
    (void)opts;
    store *s = NULL;
    struct hf_dir *d = mem_zalloc(1, sizeof *d);
    if (!d)
        return err_nomem(err, sizeof *d);
    spt_status st = store_new(&format, dir, &s, err);
    if (!st)
        st = fill(d, s, dir, err);
    if (!st)
        st = store_finish(s, d, err);
    if (st) {
        store_close(s);
        hf_dir_free(d);
        return st;
    }
    *out = s;
    return SPT_OK;
}

bool hf_dir_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size)
{
    (void)n;
    (void)size;
    bool there;
    if (bytes)
        return false;
    for (size_t i = 0; i < SETS; i++)
        if (!store_exists_in(path, sets[i].file, &there, NULL) && there)
            return true;
    return !store_exists_in(path, "config.json", &there, NULL) && there;
}

const char *hf_dir_chosen(const store *s)
{
    return ((const struct hf_dir *)store_impl(s))->chosen;
}
