/* Finding, verifying and handing out states. Nothing of a state is used before its manifest's own
 * checksum and the checksums of its contents hold; the bytes that were verified are the bytes that
 * are used (they stay in memory, not in a mapping of a file that may change). */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt_internal.h"
#include "fs/savedir.h"
#include "store/safetensors.h"

struct ckpt_loaded {
    struct manifest m;
    char *bytes; /* the state file */
    store *s;
    struct store_data *data; /* one per tensor */
};

bool ckpt_step_of(const char *name, const char *prefix, int64_t *step)
{
    const size_t n = strlen(prefix);
    int64_t v = 0;
    if (strncmp(name, prefix, n) || !name[n] || (name[n] == '0' && name[n + 1]))
        return false;
    for (const char *p = name + n; *p; p++) {
        if (*p < '0' || *p > '9' || v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (*p - '0');
    }
    *step = v;
    return true;
}

/* An absent or empty part of a state is damage, not absence of the state. */
static spt_status as_damage(spt_status st, spt_err *err)
{
    if (st == SPT_E_NOTFOUND && err)
        err->code = SPT_E_FORMAT;
    return st == SPT_E_NOTFOUND ? SPT_E_FORMAT : st;
}

static spt_status read_manifest(const char *path, struct manifest *m, spt_err *err)
{
    char *text;
    size_t size;
    const spt_status got = fs_read_all(path, CKPT_MAX_MANIFEST, &text, &size, err);
    if (got)
        return as_damage(got, err);
    const spt_status st = manifest_parse(text, size, path, m, err);
    mem_free(text);
    return st;
}

static spt_status read_state(const char *path, const struct manifest *m, char **bytes,
                             size_t *size, spt_err *err)
{
    struct fs_info info;
    char *p;
    size_t n;
    spt_status st = fs_stat(path, &info, err);
    if (st)
        return as_damage(st, err);
    if (info.size != m->state.size) /* before anything is read */
        return err_at(err, SPT_E_FORMAT, info.size, "%s has %llu bytes, its manifest says %llu",
                      path, (unsigned long long)info.size, (unsigned long long)m->state.size);
    st = fs_read_all(path, CKPT_MAX_FILE, &p, &n, err);
    if (st)
        return as_damage(st, err);
    st = manifest_check_state(m, p, n, path, err);
    if (st) {
        mem_free(p);
        return st;
    }
    *bytes = p;
    *size = n;
    return SPT_OK;
}

spt_status ckpt_read_dir(const char *dir, struct manifest *out, char **bytes, size_t *size,
                         spt_err *err)
{
    struct manifest m = {0};
    int64_t step;
    buf path;
    buf_init(&path, CKPT_MAX_PATH);
    spt_status st = path_join(&path, dir, CKPT_MANIFEST_FILE, err);
    if (!st)
        st = read_manifest(buf_str(&path), &m, err);
    const char *base = path_base(dir);
    if (!st && (ckpt_step_of(base, "state-", &step) || ckpt_step_of(base, "trash.state-", &step)) &&
        step != m.step)
        st = err_set(err, SPT_E_FORMAT, "%s: its manifest is that of step %lld", dir,
                     (long long)m.step);
    if (!st && bytes)
        st = path_join(&path, dir, CKPT_STATE_FILE, err);
    if (!st && bytes)
        st = read_state(buf_str(&path), &m, bytes, size, err);
    if (st)
        manifest_release(&m);
    else
        *out = m;
    buf_release(&path);
    return st;
}

static spt_status open_tensors(ckpt_loaded *l, size_t size, spt_err *err)
{
    TRY(safetensors_open_mem(l->bytes, size, &l->s, err));
    const size_t n = store_count(l->s);
    l->data = mem_zalloc(n, sizeof *l->data);
    if (!l->data)
        return err_nomem(err, n * sizeof *l->data);
    for (size_t i = 0; i < n; i++)
        TRY(store_load(l->s, i, &l->data[i], err));
    return SPT_OK;
}

static spt_status load_dir(const char *dir, ckpt_loaded **out, spt_err *err)
{
    size_t size = 0;
    ckpt_loaded *l = mem_zalloc(1, sizeof *l);
    if (!l)
        return err_nomem(err, sizeof *l);
    spt_status st = ckpt_read_dir(dir, &l->m, &l->bytes, &size, err);
    if (!st && (st = open_tensors(l, size, err)))
        st = err_wrap(err, st, "%s", dir);
    if (st) {
        ckpt_loaded_free(l);
        return st;
    }
    *out = l;
    return SPT_OK;
}

void ckpt_loaded_free(ckpt_loaded *l)
{
    if (!l)
        return;
    for (size_t i = 0; l->data && i < store_count(l->s); i++)
        store_release(l->s, &l->data[i]);
    mem_free(l->data);
    store_close(l->s);
    mem_free(l->bytes);
    manifest_release(&l->m);
    mem_free(l);
}

static int by_step(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

spt_status ckpt_list_prefix(const char *run_dir, const char *prefix, int64_t **steps,
                            size_t *count, spt_err *err)
{
    fs_names names = {0};
    TRY(fs_list(run_dir, &names, err));
    size_t n = 0;
    int64_t *found = mem_alloc(names.count, sizeof *found);
    for (size_t i = 0; found && i < names.count; i++)
        if (ckpt_step_of(names.name[i], prefix, &found[n]))
            n++;
    const size_t all = names.count;
    fs_names_free(&names);
    if (!found)
        return err_nomem(err, all * sizeof *found);
    if (n)
        qsort(found, n, sizeof *found, by_step);
    *steps = found;
    *count = n;
    return SPT_OK;
}

spt_status ckpt_list(const char *run_dir, int64_t **steps, size_t *count, spt_err *err)
{
    return ckpt_list_prefix(run_dir, "state-", steps, count, err);
}

/* No manifest: a save that died, where directories do not appear whole. */
static bool unfinished(const char *run_dir, const char *prefix, int64_t step)
{
    bool there = true;
    buf path;
    buf_init(&path, CKPT_MAX_PATH);
    buf_addf(&path, "%s/%s%lld/%s", run_dir, prefix, (long long)step, CKPT_MANIFEST_FILE);
    const bool asked = !path.st && !ckpt_exists(buf_str(&path), &there, NULL);
    buf_release(&path);
    return asked && !there;
}

/* Tries <prefix><step>; *out stays NULL when it is damaged. `damaged` keeps the first complaint. */
static spt_status try_state(const char *run_dir, const char *prefix, int64_t step, bool quiet,
                            ckpt_loaded **out, spt_err *damaged, spt_err *err)
{
    spt_err why = {0};
    buf dir;
    buf_init(&dir, CKPT_MAX_PATH);
    buf_addf(&dir, "%s/%s%lld", run_dir, prefix, (long long)step);
    spt_status st = buf_status(&dir, "path", &why);
    if (!st)
        st = load_dir(buf_str(&dir), out, &why);
    buf_release(&dir);
    if (st == SPT_E_FORMAT) {
        if (quiet)
            return SPT_OK;
        if (!savedir_is_whole(run_dir) && unfinished(run_dir, prefix, step)) {
            log_info("state of step %lld was not finished and is not used", (long long)step);
            return SPT_OK;
        }
        log_warning("state of step %lld is not used: %s", (long long)step, why.msg);
        if (!damaged->code)
            *damaged = why;
        return SPT_OK;
    }
    if (st && err)
        *err = why;
    return st;
}

spt_status ckpt_exists(const char *path, bool *yes, spt_err *err)
{
    struct fs_info info;
    const spt_status st = fs_stat(path, &info, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    *yes = st == SPT_OK;
    return SPT_OK;
}

spt_status ckpt_load_latest(const char *run_dir, ckpt_loaded **out, spt_err *err)
{
    bool from_trash;
    return ckpt_find_latest(run_dir, out, &from_trash, err);
}

/* Newest first. What lies in the trash counts, too: it is either older than what has its own name, or
 * a state whose replacement the power interrupted; half-removed ones do not verify. */
spt_status ckpt_find_latest(const char *run_dir, ckpt_loaded **out, bool *from_trash, spt_err *err)
{
    spt_err damaged = {0};
    ckpt_loaded *l = NULL;
    int64_t *live = NULL, *trash = NULL;
    size_t n = 0, m = 0;
    spt_status st = ckpt_list_prefix(run_dir, "state-", &live, &n, err);
    if (!st)
        st = ckpt_list_prefix(run_dir, "trash.state-", &trash, &m, err);
    while (!st && !l && (n || m)) {
        *from_trash = !n || (m && trash[m - 1] > live[n - 1]);
        st = *from_trash ? try_state(run_dir, "trash.state-", trash[--m], true, &l, &damaged, err)
                         : try_state(run_dir, "state-", live[--n], false, &l, &damaged, err);
    }
    mem_free(live);
    mem_free(trash);
    if (st)
        return st;
    if (!l && damaged.code)
        return err_set(err, SPT_E_FORMAT, "no state in %s can be used: %s", run_dir, damaged.msg);
    if (!l)
        return err_set(err, SPT_E_NOTFOUND, "no saved state in %s", run_dir);
    if (damaged.code)
        log_warning("continuing from the state of step %lld", (long long)l->m.step);
    *out = l;
    return SPT_OK;
}

spt_status ckpt_load(const char *run_dir, int64_t step, ckpt_loaded **out, spt_err *err)
{
    buf dir;
    buf_init(&dir, CKPT_MAX_PATH);
    buf_addf(&dir, "%s/state-%lld", run_dir, (long long)step);
    spt_status st = buf_status(&dir, "path", err);
    bool there = false;
    if (!st)
        st = ckpt_exists(buf_str(&dir), &there, err);
    if (!st && !there)
        st = err_set(err, SPT_E_NOTFOUND, "no state of step %lld in %s", (long long)step, run_dir);
    if (!st)
        st = load_dir(buf_str(&dir), out, err);
    buf_release(&dir);
    return st;
}

/* --- what a state holds --- */

int64_t ckpt_loaded_step(const ckpt_loaded *l)
{
    return l->m.step;
}

bool ckpt_loaded_score(const ckpt_loaded *l, double *score)
{
    if (l->m.has_score)
        *score = l->m.score;
    return l->m.has_score;
}

size_t ckpt_loaded_count(const ckpt_loaded *l)
{
    return store_count(l->s);
}

const char *ckpt_loaded_name(const ckpt_loaded *l, size_t i)
{
    return store_at(l->s, i)->name;
}

const struct tensor_view *ckpt_loaded_tensor(const ckpt_loaded *l, const char *name)
{
    size_t i;
    return store_find(l->s, name, &i) ? &l->data[i].view : NULL;
}

spt_status ckpt_loaded_get(const ckpt_loaded *l, const char *name, enum dtype dtype,
                           const struct tensor_shape *shape, const void **data, spt_err *err)
{
    char got[SHAPE_TEXT], want[SHAPE_TEXT];
    const struct tensor_view *v = ckpt_loaded_tensor(l, name);
    if (!v)
        return err_set(err, SPT_E_FORMAT, "the saved state has no \"%s\"", name);
    if (v->dtype != dtype || !shape_equal(&v->shape, shape))
        return err_set(err, SPT_E_FORMAT, "the saved state has \"%s\" as %s %s, this run needs %s %s",
                       name, dtype_name(v->dtype), shape_text(&v->shape, got), dtype_name(dtype),
                       shape_text(shape, want));
    *data = v->data;
    return SPT_OK;
}

bool ckpt_loaded_log(const ckpt_loaded *l, const char *name, uint64_t *size)
{
    for (size_t i = 0; i < l->m.log_count; i++)
        if (!strcmp(l->m.logs[i].name, name)) {
            *size = l->m.logs[i].size;
            return true;
        }
    return false;
}

size_t ckpt_loaded_log_count(const ckpt_loaded *l)
{
    return l->m.log_count;
}

const char *ckpt_loaded_log_name(const ckpt_loaded *l, size_t i)
{
    return l->m.logs[i].name;
}
