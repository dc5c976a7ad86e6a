/* What lies in a MODEL_DIR: which of its entries are checkpoints, and of which kind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/savedir.h"
#include "store/t5x_internal.h"

spt_status t5x_exists(const char *path, bool *yes, spt_err *err)
{
    struct fs_info info;
    const spt_status st = fs_stat(path, &info, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    *yes = st == SPT_OK;
    return SPT_OK;
}

static spt_status exists_in(const char *dir, const char *name, bool *yes, spt_err *err)
{
    buf path;
    buf_init(&path, T5X_MAX_PATH);
    spt_status st = path_join(&path, dir, name, err);
    if (!st)
        st = t5x_exists(buf_str(&path), yes, err);
    buf_release(&path);
    return st;
}

/* TensorFlow writes a text file of the same name. */
static spt_status what_file(const char *path, enum t5x_what *what, spt_err *err)
{
    static const char tf[] = "model_checkpoint_path";
    unsigned char head[sizeof tf - 1];
    fs_file *f = NULL;
    TRY(fs_open(path, &f, err));
    const size_t n = fs_size(f) < sizeof head ? (size_t)fs_size(f) : sizeof head;
    const spt_status st = fs_read_at(f, 0, head, n, err);
    fs_close(f);
    TRY(st);
    *what = T5X_NOT;
    if (n == sizeof head && !memcmp(head, tf, n))
        *what = T5X_TF;
    else if (n && ((head[0] & 0xf0) == 0x80 || head[0] == 0xde || head[0] == 0xdf))
        *what = T5X_LEGACY;
    return SPT_OK;
}

/* *is_step: the directory itself is a checkpoint, not a MODEL_DIR. */
static spt_status what_dir(const char *path, enum t5x_what *what, bool *is_step, spt_err *err)
{
    static const char *const orbax[] = {"state", "_METADATA", "_CHECKPOINT_METADATA"};
    bool yes = false;
    int64_t step;
    *what = T5X_ORBAX;
    *is_step = true;
    for (size_t i = 0; i < sizeof orbax / sizeof *orbax && !yes; i++)
        TRY(exists_in(path, orbax[i], &yes, err));
    if (yes)
        return SPT_OK;
    TRY(exists_in(path, "checkpoint", &yes, err));
    if (yes) {
        buf file;
        buf_init(&file, T5X_MAX_PATH);
        spt_status st = path_join(&file, path, "checkpoint", err);
        if (!st)
            st = what_file(buf_str(&file), what, err);
        buf_release(&file);
        return st;
    }
    *is_step = false;
    const spt_status st = t5x_latest(path, &step, err);
    *what = st ? T5X_NOT : T5X_LEGACY;
    return st == SPT_E_NOTFOUND ? SPT_OK : st;
}

static spt_status look(const char *path, enum t5x_what *what, bool *is_step, spt_err *err)
{
    struct fs_info info;
    *what = T5X_NOT;
    *is_step = true;
    TRY(fs_stat(path, &info, err));
    if (info.is_dir)
        return what_dir(path, what, is_step, err);
    return strcmp(path_base(path), "checkpoint") ? SPT_OK : what_file(path, what, err);
}

enum t5x_what t5x_detect(const char *path)
{
    enum t5x_what what = T5X_NOT;
    bool is_step;
    return look(path, &what, &is_step, NULL) ? T5X_NOT : what;
}

bool t5x_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size)
{
    enum t5x_what what;
    bool is_step;
    (void)bytes;
    (void)n;
    (void)size;
    const spt_status st = look(path, &what, &is_step, NULL);
    /* When looking failed, opening will say why; "no" would blame the file. */
    return st ? st != SPT_E_NOTFOUND : what != T5X_NOT;
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

/* A step directory, or the one that holds the file. */
static spt_status take_dir(const char *path, bool is_dir, buf *dir, spt_err *err)
{
    const char *base = path_base(path);
    buf_clear(dir);
    if (is_dir)
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
    enum t5x_what what;
    bool is_step;
    int64_t step;
    TRY(fs_stat(path, &info, err));
    TRY(look(path, &what, &is_step, err));
    if (what != T5X_LEGACY)
        return refuse(path, what, err);
    if (is_step)
        return take_dir(path, info.is_dir, dir, err);
    TRY(t5x_latest(path, &step, err));
    buf_clear(dir);
    buf_addf(dir, "%s/checkpoint_%lld", path, (long long)step);
    TRY(buf_status(dir, "path", err));
    TRY(look(buf_str(dir), &what, &is_step, err));
    return what == T5X_LEGACY && is_step ? SPT_OK
                                         : refuse(buf_str(dir), is_step ? what : T5X_NOT, err);
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

/* Where directories do not appear whole, one without its manifest is a save that was not finished. */
static spt_status drop_unfinished(const char *model_dir, const int64_t *steps, size_t *n,
                                  spt_err *err)
{
    static const char *const marks[] = {"checkpoint", "_METADATA", "_CHECKPOINT_METADATA", "state"};
    buf path;
    bool yes = savedir_is_whole(model_dir);
    buf_init(&path, T5X_MAX_PATH);
    spt_status st = SPT_OK;
    for (; !st && !yes && *n; *n -= !st && !yes) {
        buf_clear(&path);
        buf_addf(&path, "%s/checkpoint_%lld", model_dir, (long long)steps[*n - 1]);
        st = buf_status(&path, "path", err);
        for (size_t k = 0; k < sizeof marks / sizeof *marks && !st && !yes; k++)
            st = exists_in(buf_str(&path), marks[k], &yes, err);
    }
    buf_release(&path);
    return st;
}

spt_status t5x_latest(const char *model_dir, int64_t *step, spt_err *err)
{
    int64_t *steps;
    size_t n;
    TRY(t5x_list(model_dir, &steps, &n, err));
    const spt_status st = drop_unfinished(model_dir, steps, &n, err);
    if (st) {
        mem_free(steps);
        return st;
    }
    const int64_t last = n ? steps[n - 1] : 0;
    mem_free(steps);
    if (!n)
        return err_set(err, SPT_E_NOTFOUND, "%s: no checkpoint_<step> directory", model_dir);
    *step = last;
    return SPT_OK;
}

#define TRASH "trash."

spt_status t5x_empty_trash(const char *model_dir, spt_err *err)
{
    fs_names names = {0};
    buf path;
    int64_t step;
    TRY(fs_list(model_dir, &names, err));
    buf_init(&path, T5X_MAX_PATH);
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < names.count; i++) {
        const char *name = names.name[i];
        if (strncmp(name, TRASH, sizeof TRASH - 1) || !t5x_step_of(name + sizeof TRASH - 1, &step))
            continue;
        st = path_join(&path, model_dir, name, err);
        if (!st)
            st = fs_remove_tree(buf_str(&path), err);
    }
    buf_release(&path);
    fs_names_free(&names);
    return st;
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
        buf_addf(&trash, "%s/" TRASH "checkpoint_%lld", model_dir, (long long)steps[i]);
        bool pinned = false;
        st = buf_status(&path, "path", err);
        if (!st)
            st = buf_status(&trash, "path", err);
        if (!st)
            st = exists_in(buf_str(&path), "PINNED", &pinned, err);
        if (st || pinned)
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
