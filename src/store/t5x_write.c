/* Writing T5X checkpoints in the legacy format, the one that every T5X of the last years restores
 * (spec/t5x.md 7.1-7.6, 7.10). Bytes equal those of the reference for equal content: keys sorted at
 * every level, spec variant (b), gzip level 1.
 *
 * Differs from T5X: everything is synced before the rename and the parent directory after it, so
 * that a power cut cannot leave a checkpoint with holes under the final name; and what earlier
 * crashes left as checkpoint_*.tmp-* is removed after a success. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/savedir.h"
#include "store/npy.h"
#include "store/t5x_internal.h"
#include "store/zarr.h"

enum { MAX_LEVELS = 24 };
#define MAX_MSGPACK ((size_t)1 << 31)
#define MAX_NPY ((size_t)1 << 40)
#define CHUNKED_ABOVE ((size_t)1 << 30) /* flax cuts arrays in the msgpack file at this size */

struct writing {
    const struct t5x_save *save;
    const struct t5x_more *more; /* never NULL */
    const struct t5x_item **sorted; /* by name */
    buf msgpack;
    savedir *d;
};

void t5x_put_array(buf *out, const struct tensor_view *v)
{
    buf head;
    size_t n, bytes;
    spt_status st = tensor_size(v->dtype, &v->shape, &n, &bytes, NULL);
    buf_init(&head, 4096);
    msgpack_put_array(&head, 3);
    msgpack_put_array(&head, (uint32_t)v->shape.rank);
    for (int i = 0; i < v->shape.rank; i++)
        msgpack_put_uint(&head, (uint64_t)v->shape.dim[i]);
    msgpack_put_strz(&head, dtype_name(v->dtype));
    /* The header of the bytes comes before them; its length depends on theirs. */
    const size_t bin = bytes <= UINT8_MAX ? 2 : bytes <= UINT16_MAX ? 3 : 5;
    if (st || bytes > CHUNKED_ABOVE)
        out->st = SPT_E_FORMAT;
    else
        msgpack_put_ext(out, 1, (uint32_t)(head.len + bin + bytes));
    buf_add(out, buf_str(&head), head.len);
    if (!st && bytes <= CHUNKED_ABOVE)
        msgpack_put_bin(out, v->data, bytes);
    if (head.st && !out->st)
        out->st = head.st;
    buf_release(&head);
}

static void put_dims(buf *out, const struct tensor_shape *s)
{
    msgpack_put_array(out, (uint32_t)s->rank);
    for (int i = 0; i < s->rank; i++)
        msgpack_put_uint(out, (uint64_t)s->dim[i]);
}

/* "target/encoder/x" -> "target.encoder.x" */
static void dotted(buf *out, const char *name)
{
    for (; *name; name++)
        buf_addc(out, *name == '/' ? '.' : *name);
}

static void put_spec(buf *out, const char *name, enum dtype t, const struct tensor_shape *shape)
{
    const struct tensor_shape chunk = zarr_choose_chunks(t, shape);
    buf path;
    buf_init(&path, T5X_MAX_PATH);
    dotted(&path, name);
    buf_addc(&path, '/');
    msgpack_put_map(out, 4);
    msgpack_put_strz(out, "driver");
    msgpack_put_strz(out, "zarr");
    msgpack_put_strz(out, "dtype");
    msgpack_put_strz(out, dtype_name(t));
    msgpack_put_strz(out, "kvstore");
    msgpack_put_map(out, 2);
    msgpack_put_strz(out, "driver");
    msgpack_put_strz(out, "file");
    msgpack_put_strz(out, "path");
    msgpack_put_str(out, buf_str(&path), path.len);
    msgpack_put_strz(out, "metadata");
    msgpack_put_map(out, 3);
    msgpack_put_strz(out, "chunks");
    put_dims(out, &chunk);
    msgpack_put_strz(out, "compressor");
    msgpack_put_map(out, 2);
    msgpack_put_strz(out, "id");
    msgpack_put_strz(out, "gzip");
    msgpack_put_strz(out, "level");
    msgpack_put_uint(out, 1);
    msgpack_put_strz(out, "shape");
    put_dims(out, shape);
    if (path.st && !out->st)
        out->st = path.st;
    buf_release(&path);
}

/* --- conversion of `target` to the save dtype --- */

static bool is_target(const struct t5x_item *it)
{
    return !strncmp(it->name, "target/", 7);
}

/* The values of one leaf while it is written. */
struct leaf {
    const struct t5x_item *item;
    struct tensor_view view; /* in the dtype to write */
    void *owned;
    bool loaded;
};

static bool comes_later(const struct writing *w, const struct t5x_item *it)
{
    return w->more->load && !it->view.data && it->view.shape.rank > 0;
}

static bool is_nil(const struct writing *w, const struct t5x_item *it)
{
    return !it->view.data && !comes_later(w, it);
}

static void leaf_close(const struct writing *w, struct leaf *l)
{
    mem_free(l->owned);
    if (l->loaded && w->more->unload)
        w->more->unload(w->more->ctx, l->item);
}

static spt_status convert(const struct t5x_save *s, struct leaf *l, spt_err *err)
{
    const enum dtype want = s->target_dtype;
    const struct tensor_view from = l->view;
    size_t n, bytes;
    if (!is_target(l->item) || !dtype_is_float(from.dtype) || from.dtype == want)
        return SPT_OK;
    /* never: the array lies in memory */
    TRY(tensor_size(want, &from.shape, &n, &bytes, err));
    void *copy = l->owned = mem_alloc(bytes, 1);
    if (!copy)
        return err_nomem(err, bytes);
    float block[256];
    for (size_t i = 0; i < n; i += 256) {
        const size_t some = n - i < 256 ? n - i : 256;
        tensor_to_f32(&from, i, some, block);
        if (want == DT_F32)
            memcpy((float *)copy + i, block, some * sizeof *block);
        for (size_t k = 0; want == DT_BF16 && k < some; k++)
            ((uint16_t *)copy)[i + k] = f32_to_bf16(block[k]);
    }
    l->view.dtype = want;
    l->view.data = copy;
    return SPT_OK;
}

/* Closed by the caller, also after a failure. */
static spt_status leaf_open(const struct writing *w, const struct t5x_item *it, struct leaf *l,
                            spt_err *err)
{
    *l = (struct leaf){.item = it, .view = it->view};
    if (comes_later(w, it)) {
        TRY(w->more->load(w->more->ctx, it, &l->view, err));
        l->loaded = true;
        if (l->view.dtype != it->view.dtype || !shape_equal(&l->view.shape, &it->view.shape))
            return err_set(err, SPT_E_INTERNAL, "%s changed while it was saved", it->name);
    }
    return convert(w->save, l, err);
}

static enum dtype saved_dtype(const struct t5x_save *s, const struct t5x_item *it)
{
    return is_target(it) && dtype_is_float(it->view.dtype) ? s->target_dtype : it->view.dtype;
}

/* --- the tree --- */

static spt_status put_leaf(struct writing *w, const struct t5x_item *it, spt_err *err)
{
    if (is_nil(w, it)) {
        msgpack_put_nil(&w->msgpack);
        return SPT_OK;
    }
    if (it->zarr) {
        put_spec(&w->msgpack, it->name, saved_dtype(w->save, it), &it->view.shape);
        return SPT_OK;
    }
    struct leaf l;
    const spt_status st = leaf_open(w, it, &l, err);
    if (!st)
        t5x_put_array(&w->msgpack, &l.view);
    leaf_close(w, &l);
    return st ? st : buf_status(&w->msgpack, it->name, err);
}

static size_t component(const char *name)
{
    return strcspn(name, "/");
}

/* Items [lo, hi) share the first `skip` bytes of their names, which end with '/'. */
static spt_status put_tree(struct writing *w, size_t lo, size_t hi, size_t skip, int level,
                           spt_err *err)
{
    uint32_t keys = 0;
    for (size_t i = lo; i < hi; i++) {
        const char *at = w->sorted[i]->name + skip;
        const size_t n = component(at);
        if (n == 0 || level == MAX_LEVELS)
            return err_set(err, SPT_E_USAGE, "%s is not a parameter name", w->sorted[i]->name);
        const char *before = i > lo ? w->sorted[i - 1]->name + skip : NULL;
        keys += !before || component(before) != n || strncmp(before, at, n);
    }
    msgpack_put_map(&w->msgpack, keys);
    for (size_t i = lo; i < hi;) {
        const char *at = w->sorted[i]->name + skip;
        const size_t n = component(at);
        size_t end = i + 1;
        while (end < hi && component(w->sorted[end]->name + skip) == n &&
               !strncmp(w->sorted[end]->name + skip, at, n))
            end++;
        msgpack_put_str(&w->msgpack, at, n);
        if (at[n] == '/')
            TRY(put_tree(w, i, end, skip + n + 1, level + 1, err));
        else if (end - i > 1)
            return err_set(err, SPT_E_USAGE, "parameter %s is given twice", w->sorted[i]->name);
        else
            TRY(put_leaf(w, w->sorted[i], err));
        i = end;
    }
    return SPT_OK;
}

static const char state_prefix[] = "state/param_states/", target_prefix[] = "target/";

static spt_status put_file(struct writing *w, spt_err *err)
{
    const size_t n = w->save->count;
    const int32_t step = (int32_t)w->save->step;
    const struct tensor_view step_view = {DT_I32, {0}, &step};
    size_t states = 0;
    while (states < n && !strncmp(w->sorted[states]->name, state_prefix, sizeof state_prefix - 1))
        states++;
    for (size_t i = states; i < n; i++)
        if (strncmp(w->sorted[i]->name, target_prefix, sizeof target_prefix - 1))
            return err_set(err, SPT_E_USAGE, "%s is neither target/... nor state/param_states/...",
                           w->sorted[i]->name);
    buf *b = &w->msgpack;
    msgpack_put_map(b, 2);
    msgpack_put_strz(b, "version");
    msgpack_put_uint(b, T5X_VERSION);
    msgpack_put_strz(b, "optimizer");
    msgpack_put_map(b, 2);
    msgpack_put_strz(b, "state");
    msgpack_put_map(b, 2);
    msgpack_put_strz(b, "param_states");
    TRY(put_tree(w, 0, states, sizeof state_prefix - 1, 0, err));
    msgpack_put_strz(b, "step");
    t5x_put_array(b, &step_view);
    msgpack_put_strz(b, "target");
    TRY(put_tree(w, states, n, sizeof target_prefix - 1, 0, err));
    return buf_status(b, "the checkpoint file", err);
}

static int by_name(const void *a, const void *b)
{
    return t5x_compare((*(const struct t5x_item *const *)a)->name,
                       (*(const struct t5x_item *const *)b)->name);
}

static spt_status sort_items(struct writing *w, spt_err *err)
{
    const struct t5x_save *s = w->save;
    if (s->step < 0 || s->step > INT32_MAX)
        return err_set(err, SPT_E_USAGE, "step %lld does not fit a T5X checkpoint",
                       (long long)s->step);
    if (s->target_dtype != DT_F32 && s->target_dtype != DT_BF16)
        return err_set(err, SPT_E_USAGE, "save dtype %s: float32 or bfloat16",
                       dtype_name(s->target_dtype));
    w->sorted = mem_alloc(s->count, sizeof(struct t5x_item *));
    if (!w->sorted)
        return err_nomem(err, s->count * sizeof *w->sorted);
    for (size_t i = 0; i < s->count; i++)
        w->sorted[i] = &s->items[i];
    if (s->count)
        qsort(w->sorted, s->count, sizeof *w->sorted, by_name);
    return SPT_OK;
}

static spt_status write_arrays(struct writing *w, spt_err *err)
{
    spt_status st = SPT_OK;
    buf name;
    buf_init(&name, T5X_MAX_PATH);
    for (size_t i = 0; !st && i < w->save->count; i++) {
        const struct t5x_item *it = w->sorted[i];
        struct leaf l;
        if (!it->zarr || is_nil(w, it))
            continue;
        buf_clear(&name);
        dotted(&name, it->name);
        st = leaf_open(w, it, &l, err);
        if (!st)
            st = buf_status(&name, "array name", err);
        if (!st)
            st = zarr_write(w->d, buf_str(&name), &l.view, err);
        leaf_close(w, &l);
    }
    buf_release(&name);
    return st;
}

/* checkpoint_<step>.tmp-<unix seconds> */
static spt_status tmp_name(buf *out, const char *final, spt_err *err)
{
    buf_clear(out);
    buf_addf(out, "%s.tmp-%lld", final, (long long)(os_clock_ns() / 1000000000));
    return buf_status(out, "path", err);
}

/* What a crash left behind; never an error. */
static void remove_stale(const char *dir)
{
    fs_names names = {0};
    buf path;
    if (fs_list(dir, &names, NULL))
        return;
    buf_init(&path, T5X_MAX_PATH);
    for (size_t i = 0; i < names.count; i++) {
        const char *tmp = strstr(names.name[i], ".tmp-");
        char head[64];
        int64_t step;
        if (!tmp || (size_t)(tmp - names.name[i]) >= sizeof head)
            continue;
        snprintf(head, sizeof head, "%.*s", (int)(tmp - names.name[i]), names.name[i]);
        if (t5x_step_of(head, &step) && !path_join(&path, dir, names.name[i], NULL))
            fs_remove_tree(buf_str(&path), NULL);
    }
    buf_release(&path);
    fs_names_free(&names);
}

static spt_status write_to(struct writing *w, const char *model_dir, const char *final,
                           spt_err *err)
{
    buf tmp;
    buf_init(&tmp, T5X_MAX_PATH);
    spt_status st = tmp_name(&tmp, final, err);
    if (!st)
        st = fs_remove_tree(buf_str(&tmp), err); /* of the same second */
    if (!st)
        st = savedir_begin(buf_str(&tmp), final, "checkpoint", &w->d, err);
    if (!st)
        st = write_arrays(w, err);
    for (size_t i = 0; !st && i < w->more->file_count; i++) {
        const struct t5x_file *f = &w->more->files[i];
        st = savedir_file(w->d, f->name, f->bytes, f->size, err);
    }
    if (!st)
        st = savedir_file(w->d, "checkpoint", w->msgpack.data, w->msgpack.len, err);
    if (st) {
        savedir_abort(w->d);
    } else {
        st = savedir_publish(w->d, err);
        if (!st)
            remove_stale(model_dir);
    }
    buf_release(&tmp);
    return st;
}

spt_status t5x_write(const char *model_dir, const struct t5x_save *s, bool *skipped, spt_err *err)
{
    return t5x_write_more(model_dir, s, NULL, skipped, err);
}

spt_status t5x_write_more(const char *model_dir, const struct t5x_save *s,
                          const struct t5x_more *more, bool *skipped, spt_err *err)
{
    static const struct t5x_more none;
    struct writing w = {.save = s, .more = more ? more : &none};
    buf final;
    bool skip = false;
    buf_init(&w.msgpack, MAX_MSGPACK);
    buf_init(&final, T5X_MAX_PATH);
    buf_addf(&final, "%s/checkpoint_%lld", model_dir, (long long)s->step);
    spt_status st = buf_status(&final, "path", err);
    if (!st)
        st = sort_items(&w, err);
    if (!st)
        st = put_file(&w, err);
    if (!st)
        st = fs_make_dirs(model_dir, err);
    if (!st)
        st = savedir_sweep(model_dir, "checkpoint_", "checkpoint", err);
    if (!st)
        st = t5x_exists(buf_str(&final), &skip, err);
    if (!st && !skip)
        st = write_to(&w, model_dir, buf_str(&final), err);
    mem_free(w.sorted);
    buf_release(&w.msgpack);
    buf_release(&final);
    if (!st && skipped)
        *skipped = skip;
    return st;
}

/* --- numpy_checkpoints --- */

/* The file's bytes, appended. */
static spt_status put_npy(const struct t5x_save *s, const struct t5x_item *it, buf *out,
                          spt_err *err)
{
    struct tensor_view v = it->view;
    size_t n, bytes;
    if (!v.data)
        return err_set(err, SPT_E_USAGE, "%s has no values", it->name);
    /* never: the array lies in memory */
    TRY(tensor_size(DT_F32, &v.shape, &n, &bytes, err));
    float *f = mem_alloc(n, sizeof *f);
    if (!f)
        return err_nomem(err, bytes);
    tensor_to_f32(&v, 0, n, f);
    /* NumPy has no bfloat16: the rounded values are written as float32. */
    for (size_t i = 0; s->target_dtype == DT_BF16 && i < n; i++)
        f[i] = bf16_to_f32(f32_to_bf16(f[i]));
    v.dtype = DT_F32;
    v.data = f;
    const spt_status st = npy_encode(&v, out, err);
    mem_free(f);
    return st;
}

static spt_status npy_name(const struct t5x_item *it, buf *name, spt_err *err)
{
    buf_clear(name);
    dotted(name, it->name);
    return buf_status(name, "file name", err);
}

static spt_status write_npy(savedir *d, const struct t5x_save *s, const struct t5x_item *it,
                            spt_err *err)
{
    buf name, file;
    buf_init(&name, T5X_MAX_PATH);
    buf_init(&file, MAX_NPY);
    spt_status st = npy_name(it, &name, err);
    if (!st)
        st = put_npy(s, it, &file, err);
    if (!st)
        st = savedir_file(d, buf_str(&name), file.data, file.len, err);
    buf_release(&name);
    buf_release(&file);
    return st;
}

static spt_status same_file(const char *dir, const struct t5x_save *s, const struct t5x_item *it,
                            bool *same, spt_err *err)
{
    buf name, path, file;
    char *old = NULL;
    size_t size = 0;
    buf_init(&name, T5X_MAX_PATH);
    buf_init(&path, T5X_MAX_PATH);
    buf_init(&file, MAX_NPY);
    spt_status st = npy_name(it, &name, err);
    if (!st)
        st = path_join(&path, dir, buf_str(&name), err);
    if (!st)
        st = put_npy(s, it, &file, err);
    if (!st)
        st = fs_read_all(buf_str(&path), file.len, &old, &size, err);
    *same = !st && size == file.len && !memcmp(old, file.data, size);
    mem_free(old);
    buf_release(&name);
    buf_release(&path);
    buf_release(&file);
    return st == SPT_E_NOTFOUND || st == SPT_E_FORMAT ? SPT_OK : st; /* not there, or longer */
}

/* Does `final` hold these files, byte for byte, and no others? */
static spt_status is_same(const char *final, const struct t5x_save *s, bool *same, spt_err *err)
{
    fs_names names = {0};
    *same = false;
    if (!fs_is_dir(final))
        return SPT_OK;
    TRY(fs_list(final, &names, err));
    *same = names.count == s->count;
    fs_names_free(&names);
    for (size_t i = 0; *same && i < s->count; i++)
        TRY(same_file(final, s, &s->items[i], same, err));
    return SPT_OK;
}

/* "<final>.backup-<unix time as Python prints the float>" */
static spt_status make_backup(const char *final, spt_err *err)
{
    buf to;
    const int64_t us = os_clock_ns() / 1000;
    bool there = false;
    TRY(t5x_exists(final, &there, err));
    if (!there)
        return SPT_OK;
    char fraction[8];
    snprintf(fraction, sizeof fraction, "%06d", (int)(us % 1000000));
    for (size_t n = 5; n > 0 && fraction[n] == '0'; n--)
        fraction[n] = '\0';
    buf_init(&to, T5X_MAX_PATH);
    buf_addf(&to, "%s.backup-%lld.%s", final, (long long)(us / 1000000), fraction);
    spt_status st = buf_status(&to, "path", err);
    if (!st)
        st = fs_rename(final, buf_str(&to), err);
    buf_release(&to);
    return st;
}

static spt_status numpy_to(const char *dir, const char *final, const struct t5x_save *s,
                           spt_err *err)
{
    savedir *d = NULL;
    buf tmp;
    buf_init(&tmp, T5X_MAX_PATH);
    spt_status st = tmp_name(&tmp, final, err);
    if (!st)
        st = fs_remove_tree(buf_str(&tmp), err);
    if (!st)
        st = savedir_begin(buf_str(&tmp), final, NULL, &d, err);
    for (size_t i = 0; !st && i < s->count; i++)
        st = write_npy(d, s, &s->items[i], err);
    if (!st)
        st = make_backup(final, err);
    if (st) {
        savedir_abort(d);
    } else {
        st = savedir_publish(d, err);
        if (!st)
            remove_stale(dir);
    }
    buf_release(&tmp);
    return st;
}

spt_status t5x_write_numpy(const char *model_dir, const struct t5x_save *s, spt_err *err)
{
    buf dir, final;
    buf_init(&dir, T5X_MAX_PATH);
    buf_init(&final, T5X_MAX_PATH);
    bool same = false;
    spt_status st = path_join(&dir, model_dir, "numpy_checkpoints", err);
    if (!st) {
        buf_addf(&final, "%s/checkpoint_%lld", buf_str(&dir), (long long)s->step);
        st = buf_status(&final, "path", err);
    }
    if (!st && s->spares_equal)
        st = is_same(buf_str(&final), s, &same, err);
    if (!st && !same)
        st = fs_make_dirs(buf_str(&dir), err);
    if (!st && !same)
        st = numpy_to(buf_str(&dir), buf_str(&final), s, err);
    buf_release(&dir);
    buf_release(&final);
    return st;
}
