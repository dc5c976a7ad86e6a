/* What lies in a MODEL_DIR: which of its entries are checkpoints, and of which kind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/t5x_internal.h"

static bool exists_in(const char *dir, const char *name)
{
    buf path;
    buf_init(&path, T5X_MAX_PATH);
    const bool yes = !path_join(&path, dir, name, NULL) && fs_exists(buf_str(&path));
    buf_release(&path);
    return yes;
}

/* TensorFlow writes a text file of the same name. */
static enum t5x_what what_file(const char *path)
{
    static const char tf[] = "model_checkpoint_path";
    unsigned char head[sizeof tf - 1];
    fs_file *f = NULL;
    if (fs_open(path, &f, NULL))
        return T5X_NOT;
    const size_t n = fs_size(f) < sizeof head ? (size_t)fs_size(f) : sizeof head;
    const spt_status st = fs_read_at(f, 0, head, n, NULL);
    fs_close(f);
    if (st || n == 0)
        return T5X_NOT;
    if (n == sizeof head && !memcmp(head, tf, n))
        return T5X_TF;
    return (head[0] & 0xf0) == 0x80 || head[0] == 0xde || head[0] == 0xdf ? T5X_LEGACY : T5X_NOT;
}

enum t5x_what t5x_detect(const char *path)
{
    buf file;
    enum t5x_what what = T5X_NOT;
    int64_t step;
    if (!fs_is_dir(path))
        return strcmp(path_base(path), "checkpoint") ? T5X_NOT : what_file(path);
    buf_init(&file, T5X_MAX_PATH);
    if (exists_in(path, "state") || exists_in(path, "_METADATA") ||
        exists_in(path, "_CHECKPOINT_METADATA"))
        what = T5X_ORBAX;
    else if (!path_join(&file, path, "checkpoint", NULL) && fs_exists(buf_str(&file)))
        what = what_file(buf_str(&file));
    else if (!t5x_latest(path, &step, NULL))
        what = T5X_LEGACY;
    buf_release(&file);
    return what;
}

bool t5x_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size)
{
    (void)size;
    if (!bytes)
        return t5x_detect(path) != T5X_NOT;
    return n && !strcmp(path_base(path), "checkpoint") && what_file(path) != T5X_NOT;
}

static spt_status refuse(const char *path, enum t5x_what what, spt_err *err)
{
    switch (what) {
    case T5X_ORBAX:
        return err_set(err, SPT_E_FORMAT,
                       "%s: this is an Orbax checkpoint, which is not supported; restore it with "
                       "T5X and save it in the legacy format (use_orbax=False)",
                       path);
    case T5X_TF:
        return err_set(err, SPT_E_FORMAT,
                       "%s: this is a TensorFlow (Mesh) checkpoint, which is not supported; convert "
                       "it with T5X first",
                       path);
    default:
        return err_set(err, SPT_E_FORMAT, "%s: not a T5X checkpoint", path);
    }
}

/* A step directory (or the checkpoint file in it) into `dir`. */
static spt_status take_dir(const char *path, buf *dir, spt_err *err)
{
    const char *base = path_base(path);
    buf_clear(dir);
    if (fs_is_dir(path))
        buf_adds(dir, path);
    else if (base == path)
        buf_addc(dir, '.');
    else
        buf_add(dir, path, base - path > 1 ? (size_t)(base - path - 1) : 1);
    return buf_status(dir, "path", err);
}

spt_status t5x_resolve(const char *path, buf *dir, spt_err *err)
{
    struct fs_info info;
    int64_t step;
    TRY(fs_stat(path, &info, err));
    const enum t5x_what what = t5x_detect(path);
    if (what != T5X_LEGACY)
        return refuse(path, what, err);
    if (!info.is_dir || exists_in(path, "checkpoint"))
        return take_dir(path, dir, err);
    TRY(t5x_latest(path, &step, err));
    buf_clear(dir);
    buf_addf(dir, "%s/checkpoint_%lld", path, (long long)step);
    TRY(buf_status(dir, "path", err));
    const enum t5x_what inner = t5x_detect(buf_str(dir));
    return inner == T5X_LEGACY ? SPT_OK : refuse(buf_str(dir), inner, err);
}

bool t5x_step_of(const char *name, int64_t *step)
{
    static const char prefix[] = "checkpoint_";
    if (strncmp(name, prefix, sizeof prefix - 1))
        return false;
    const char *p = name + sizeof prefix - 1;
    int64_t v = 0;
    if (!*p)
        return false;
    for (; *p; p++) {
        if (*p < '0' || *p > '9' || v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (*p - '0');
    }
    *step = v;
    return true;
}

static int by_step(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

spt_status t5x_list(const char *model_dir, int64_t **steps, size_t *count, spt_err *err)
{
    fs_names names = {0};
    TRY(fs_list(model_dir, &names, err));
    int64_t *found = mem_alloc(names.count, sizeof *found);
    size_t n = 0;
    if (!found) {
        fs_names_free(&names);
        return err_nomem(err, names.count * sizeof *found);
    }
    for (size_t i = 0; i < names.count; i++)
        if (t5x_step_of(names.name[i], &found[n]))
            n++;
    fs_names_free(&names);
    if (n)
        qsort(found, n, sizeof *found, by_step);
    *steps = found;
    *count = n;
    return SPT_OK;
}

spt_status t5x_latest(const char *model_dir, int64_t *step, spt_err *err)
{
    int64_t *steps;
    size_t n;
    TRY(t5x_list(model_dir, &steps, &n, err));
    const int64_t last = n ? steps[n - 1] : 0;
    mem_free(steps);
    if (!n)
        return err_set(err, SPT_E_NOTFOUND, "%s: no checkpoint_<step> directory", model_dir);
    *step = last;
    return SPT_OK;
}

spt_status t5x_prune(const char *model_dir, size_t keep, spt_err *err)
{
    int64_t *steps;
    size_t n;
    buf path, trash;
    TRY(t5x_list(model_dir, &steps, &n, err));
    buf_init(&path, T5X_MAX_PATH);
    buf_init(&trash, T5X_MAX_PATH);
    size_t left = n;
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < n && left > keep; i++) {
        buf_clear(&path);
        buf_clear(&trash);
        buf_addf(&path, "%s/checkpoint_%lld", model_dir, (long long)steps[i]);
        buf_addf(&trash, "%s/trash.checkpoint_%lld", model_dir, (long long)steps[i]);
        st = buf_status(&trash, "path", err);
        if (st || exists_in(buf_str(&path), "PINNED"))
            continue;
        /* Renamed first: a half-removed directory never looks like a checkpoint. */
        st = fs_remove_tree(buf_str(&trash), err);
        if (!st)
            st = fs_rename(buf_str(&path), buf_str(&trash), err);
        if (!st)
            st = fs_sync_dir(model_dir, err);
        if (!st)
            st = fs_remove_tree(buf_str(&trash), err);
        left--;
    }
    mem_free(steps);
    buf_release(&path);
    buf_release(&trash);
    return st;
}
