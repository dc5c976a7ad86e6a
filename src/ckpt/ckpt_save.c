/* Saving states so that a kill or a power cut at any instant leaves the previous state or the new
 * one (reliability.md 2).
 *
 * Order, and why:
 *  1. exports (prompt-<step>.safetensors) are written, synced, renamed, their directory synced: a
 *     state that is visible has its exports;
 *  2. directories of logs that the manifest mentions for the first time are synced: the length of a
 *     log means nothing when its entry can still be lost;
 *  3. tmp.<step>.<random>/state.safetensors, then MANIFEST, each synced; then the directory;
 *  4. rename to state-<step>: the commit point; then the run directory is synced;
 *  5. only then old states are deleted: renamed to trash.state-<step> (after which no reader looks at
 *     them), synced, their exports removed, and at last the directory itself, so that a crash in
 *     between leaves a manifest that says what else has to go.
 *
 * A failed sync is final for its save: the temporary is given up, nothing is synced again, the
 * previous state stays. Rejected: one growing file with a journal (harder to inspect and to repair
 * by hand than directories, for a state of a few MB every few minutes); hard links from a "latest"
 * name (not on every file system).
 *
 * The one case without an old state under its own name is the replacement of a state of the same
 * step: between the two renames its old content is in trash.state-<step>, which readers accept when
 * nothing else verifies, and which ckpt_open moves back. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt_internal.h"
#include "fs/savedir.h"
#include "store/safetensors.h"

struct ckpt {
    char *dir;
    struct ckpt_opts opts;
    fs_lock *lock;
    struct entry { /* states under their final name, ascending */
        int64_t step;
        bool has_score;
        double score;
    } *states;
    size_t count, cap;
    fs_names synced; /* logs whose directory entries are durable */
    fs_names exports; /* what exports are called, with a line end in place of the step */
    buf path, other;
};

const char *ckpt_dir(const ckpt *ck)
{
    return ck->dir;
}

static spt_status set_path(ckpt *ck, buf *out, const char *prefix, int64_t step, spt_err *err)
{
    buf_clear(out);
    buf_addf(out, "%s/%s%lld", ck->dir, prefix, (long long)step);
    return buf_status(out, "path", err);
}

/* --- the list of states --- */

static size_t find(const ckpt *ck, int64_t step)
{
    size_t i = 0;
    while (i < ck->count && ck->states[i].step < step)
        i++;
    return i;
}

static bool have(const ckpt *ck, int64_t step)
{
    const size_t i = find(ck, step);
    return i < ck->count && ck->states[i].step == step;
}

static spt_status remember(ckpt *ck, struct entry e, spt_err *err)
{
    const size_t i = find(ck, e.step);
    if (!have(ck, e.step)) {
        TRY(mem_grow(&ck->states, &ck->cap, ck->count + 1, sizeof *ck->states, SIZE_MAX / 64, err));
        memmove(ck->states + i + 1, ck->states + i, (ck->count - i) * sizeof *ck->states);
        ck->count++;
    }
    ck->states[i] = e;
    return SPT_OK;
}

static void forget(ckpt *ck, size_t i)
{
    ck->count--;
    memmove(ck->states + i, ck->states + i + 1, (ck->count - i) * sizeof *ck->states);
}

/* --- deleting --- */

/* Does a state other than `step` claim this export? */
static bool claimed(ckpt *ck, int64_t step, const char *name)
{
    bool yes = false;
    for (size_t i = 0; i < ck->count && !yes; i++) {
        struct manifest m;
        if (ck->states[i].step == step || set_path(ck, &ck->other, "state-", ck->states[i].step, NULL))
            continue;
        if (ckpt_read_dir(buf_str(&ck->other), &m, NULL, NULL, NULL))
            continue;
        for (size_t k = 0; k < m.export_count; k++)
            yes |= !strcmp(m.exports[k].name, name);
        manifest_release(&m);
    }
    return yes;
}

/* Removes trash.state-<step> and the exports of which its manifest speaks. */
static spt_status empty_trash(ckpt *ck, int64_t step, spt_err *err)
{
    struct manifest m = {0};
    spt_status st = set_path(ck, &ck->path, "trash.state-", step, err);
    if (!st && !ckpt_read_dir(buf_str(&ck->path), &m, NULL, NULL, NULL)) {
        for (size_t i = 0; i < m.export_count && !st && !have(ck, step); i++) {
            if (claimed(ck, step, m.exports[i].name))
                continue;
            st = path_join(&ck->other, ck->dir, m.exports[i].name, err);
            if (!st)
                st = fs_remove_tree(buf_str(&ck->other), err);
        }
        manifest_release(&m);
    }
    return st ? st : fs_remove_tree(buf_str(&ck->path), err);
}

/* Out of sight, durably. */
static spt_status to_trash(ckpt *ck, int64_t step, spt_err *err)
{
    TRY(set_path(ck, &ck->path, "state-", step, err));
    TRY(set_path(ck, &ck->other, "trash.state-", step, err));
    TRY(fs_remove_tree(buf_str(&ck->other), err));
    TRY(fs_rename(buf_str(&ck->path), buf_str(&ck->other), err));
    return fs_sync_dir(ck->dir, err);
}

static bool better(const ckpt *ck, double a, double b)
{
    return ck->opts.lower_is_better ? a < b : a > b;
}

/* Index of the best state, or count when none has a score. */
static size_t best(const ckpt *ck)
{
    size_t at = ck->count;
    for (size_t i = 0; i < ck->count; i++) {
        const struct entry *e = &ck->states[i];
        if (e->has_score && !isnan(e->score) &&
            (at == ck->count || better(ck, e->score, ck->states[at].score)))
            at = i;
    }
    return at;
}

/* The state just saved is durable and is the newest of the kept ones, so at least one verified
 * state stays whatever happens here. */
static spt_status prune(ckpt *ck, int64_t saved, spt_err *err)
{
    if (!ck->opts.keep)
        return SPT_OK;
    for (size_t i = 0; i < ck->count && ck->count > ck->opts.keep;) {
        const bool is_best = ck->opts.keep_best && i == best(ck);
        const bool is_new = ck->count - i <= ck->opts.keep;
        if (is_best || is_new || ck->states[i].step == saved) {
            i++;
            continue;
        }
        const int64_t step = ck->states[i].step;
        TRY(to_trash(ck, step, err));
        forget(ck, i);
        TRY(empty_trash(ck, step, err));
    }
    return SPT_OK;
}

void ckpt_tidy(ckpt *ck, int64_t verified)
{
    spt_err err = {0};
    if (prune(ck, verified, &err))
        log_warning("old states in %s were not removed: %s", ck->dir, err.msg);
}

/* --- what crashes leave --- */

/* "<anything>.tmp-<16 hex digits>", the temporary of a whole-file write. */
static bool is_writer_tmp(const char *name)
{
    const size_t n = strlen(name);
    if (n < 22 || strncmp(name + n - 21, ".tmp-", 5))
        return false;
    return strspn(name + n - 16, "0123456789abcdef") == 16;
}

/* "tmp.<step>.<8 hex digits>" */
static bool is_state_tmp(const char *name)
{
    if (strncmp(name, "tmp.", 4))
        return false;
    const size_t digits = strspn(name + 4, "0123456789");
    const char *salt = name + 4 + digits;
    return digits && *salt == '.' && strlen(salt) == 9 &&
           strspn(salt + 1, "0123456789abcdef") == 8;
}

/* "prompt-\n.safetensors" of "prompt-120.safetensors". */
static spt_status learn_export(ckpt *ck, const char *name, int64_t step, spt_err *err)
{
    char digits[24], pattern[256];
    const int n = snprintf(digits, sizeof digits, "%lld", (long long)step);
    const char *at = strstr(name, digits);
    if (!at || strlen(name) >= sizeof pattern || ck->exports.count >= 8)
        return SPT_OK;
    snprintf(pattern, sizeof pattern, "%.*s\n%s", (int)(at - name), name, at + n);
    for (size_t i = 0; i < ck->exports.count; i++)
        if (!strcmp(ck->exports.name[i], pattern))
            return SPT_OK;
    return fs_names_add(&ck->exports, pattern, strlen(pattern), err);
}

static bool export_step(const ckpt *ck, const char *name, int64_t *step)
{
    char text[300];
    for (size_t i = 0; i < ck->exports.count; i++) {
        const char *pattern = ck->exports.name[i];
        const size_t before = strcspn(pattern, "\n"), after = strlen(pattern + before + 1);
        const size_t n = strlen(name);
        if (n <= before + after || n >= sizeof text || strncmp(name, pattern, before) ||
            strcmp(name + n - after, pattern + before + 1))
            continue;
        snprintf(text, sizeof text, "=%.*s", (int)(n - before - after), name + before);
        if (ckpt_step_of(text, "=", step))
            return true;
    }
    return false;
}

/* An export whose state went in a prune that did not end, or never came. Newer ones are left: the
 * run comes to their step again. */
static bool is_orphan(const ckpt *ck, const char *name)
{
    int64_t step;
    return ck->opts.keep && ck->count && export_step(ck, name, &step) && !have(ck, step) &&
           step < ck->states[ck->count - 1].step &&
           !(ck->opts.spare && ck->opts.spare(ck->opts.ctx, name));
}

static spt_status clean(ckpt *ck, spt_err *err)
{
    fs_names names = {0};
    TRY(fs_list(ck->dir, &names, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; i < names.count && !st; i++) {
        int64_t step;
        const char *name = names.name[i];
        if (ckpt_step_of(name, "trash.state-", &step)) {
            st = empty_trash(ck, step, err);
        } else if (is_state_tmp(name) || is_writer_tmp(name) || is_orphan(ck, name)) {
            st = path_join(&ck->path, ck->dir, name, err);
            if (!st)
                st = fs_remove_tree(buf_str(&ck->path), err);
        }
    }
    fs_names_free(&names);
    return st;
}

/* When the power went while a state was being replaced, its old content goes back. */
static spt_status restore_trash(ckpt *ck, spt_err *err)
{
    ckpt_loaded *l = NULL;
    int64_t *steps;
    size_t n;
    TRY(ckpt_list_prefix(ck->dir, "trash.state-", &steps, &n, err));
    mem_free(steps);
    if (!n)
        return SPT_OK;
    bool from_trash;
    const spt_status st = ckpt_find_latest(ck->dir, &l, &from_trash, err);
    if (st)
        return st == SPT_E_NOTFOUND || st == SPT_E_FORMAT ? SPT_OK : st; /* nothing to lose */
    const int64_t step = ckpt_loaded_step(l);
    ckpt_loaded_free(l);
    if (!from_trash)
        return SPT_OK;
    log_warning("%s: taking back the state of step %lld, whose replacement was interrupted",
                ck->dir, (long long)step);
    TRY(set_path(ck, &ck->path, "state-", step, err));
    TRY(set_path(ck, &ck->other, "trash.state-", step, err));
    TRY(fs_remove_tree(buf_str(&ck->path), err)); /* damaged, or absent */
    TRY(fs_rename(buf_str(&ck->other), buf_str(&ck->path), err));
    return fs_sync_dir(ck->dir, err);
}

static spt_status read_states(ckpt *ck, spt_err *err)
{
    int64_t *steps;
    size_t n;
    TRY(ckpt_list(ck->dir, &steps, &n, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++) {
        struct manifest m = {0};
        struct entry e = {.step = steps[i]};
        st = set_path(ck, &ck->path, "state-", steps[i], err);
        if (!st && !(st = ckpt_read_dir(buf_str(&ck->path), &m, NULL, NULL, err))) {
            e.has_score = m.has_score;
            e.score = m.score;
            for (size_t k = 0; k < m.export_count && !st; k++)
                st = learn_export(ck, m.exports[k].name, steps[i], err);
            manifest_release(&m);
        }
        if (st == SPT_E_FORMAT)
            st = SPT_OK; /* damaged: counted, so that it is deleted in its turn */
        if (!st)
            st = remember(ck, e, err);
    }
    mem_free(steps);
    return st;
}

/* --- opening --- */

static spt_status take_lock(ckpt *ck, spt_err *err)
{
    char who[200], host[128] = "", holder[256];
    TRY(path_join(&ck->path, ck->dir, ".lock", err));
    os_hostname(host, sizeof host);
    snprintf(who, sizeof who, "process %d on %s\n", os_getpid(), host);
    const spt_status st =
        fs_lock_take(buf_str(&ck->path), who, &ck->lock, holder, sizeof holder, err);
    if (!st || !holder[0])
        return st;
    const bool known = strcmp(holder, "-") != 0;
    return err_set(err, st, "another trainer%s%s%s is at work in %s", known ? " (" : "",
                   known ? holder : "", known ? ")" : "", ck->dir);
}

static spt_status open_dir(ckpt *ck, spt_err *err)
{
    TRY(fs_make_dirs_durable(ck->dir, err));
    TRY(take_lock(ck, err));
    TRY(savedir_sweep(ck->dir, "state-", CKPT_MANIFEST_FILE, err));
    TRY(restore_trash(ck, err));
    TRY(read_states(ck, err));
    return clean(ck, err);
}

spt_status ckpt_open(const char *run_dir, const struct ckpt_opts *opts, ckpt **out, spt_err *err)
{
    ckpt *ck = mem_zalloc(1, sizeof *ck);
    if (!ck)
        return err_nomem(err, sizeof *ck);
    if (opts)
        ck->opts = *opts;
    buf_init(&ck->path, CKPT_MAX_PATH);
    buf_init(&ck->other, CKPT_MAX_PATH);
    ck->dir = mem_strdup(run_dir);
    const spt_status st = ck->dir ? open_dir(ck, err) : err_nomem(err, strlen(run_dir));
    if (st) {
        ckpt_close(ck);
        return st;
    }
    *out = ck;
    return SPT_OK;
}

void ckpt_close(ckpt *ck)
{
    if (!ck)
        return;
    fs_lock_release(ck->lock);
    fs_names_free(&ck->synced);
    fs_names_free(&ck->exports);
    buf_release(&ck->path);
    buf_release(&ck->other);
    mem_free(ck->states);
    mem_free(ck->dir);
    mem_free(ck);
}

/* --- saving --- */

static spt_status encode(const struct ckpt_state *s, buf *out, spt_err *err)
{
    struct store_tensor *t = mem_alloc(s->item_count, sizeof *t);
    if (!t)
        return err_nomem(err, s->item_count * sizeof *t);
    for (size_t i = 0; i < s->item_count; i++)
        t[i] = (struct store_tensor){s->items[i].name, s->items[i].view};
    const spt_status st = safetensors_encode(t, s->item_count, NULL, 0, out, err);
    mem_free(t);
    return st;
}

static bool names_step(const char *name, int64_t step)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)step);
    return strstr(name, digits) != NULL;
}

static spt_status write_export(ckpt *ck, const struct ckpt_state *s, const struct ckpt_export *e,
                               struct manifest *m, spt_err *err)
{
    const size_t len = strlen(e->name);
    if (!manifest_name_ok(e->name, len, true) || !names_step(e->name, s->step))
        return err_set(err, SPT_E_USAGE, "export \"%s\" of step %lld: not a file name with the step",
                       e->name, (long long)s->step);
    TRY(learn_export(ck, e->name, s->step, err));
    TRY(path_join(&ck->path, ck->dir, e->name, err));
    if (e->bytes) {
        TRY(fs_write_all(buf_str(&ck->path), e->bytes, e->size, err));
        return manifest_add_export(m, e->name, len, e->size, hash_bytes(e->bytes, e->size), err);
    }
    fs_mapping map;
    TRY(fs_map(buf_str(&ck->path), &map, err));
    const spt_status st =
        manifest_add_export(m, e->name, len, map.size, hash_bytes(map.bytes, map.size), err);
    fs_unmap(&map);
    return st;
}

/* Syncs the directories from a log's own up to the run directory, once per log. */
static spt_status sync_log_entry(ckpt *ck, const char *name, spt_err *err)
{
    for (size_t i = 0; i < ck->synced.count; i++)
        if (!strcmp(ck->synced.name[i], name))
            return SPT_OK;
    TRY(path_join(&ck->path, ck->dir, name, err));
    const size_t root = strlen(ck->dir);
    for (size_t n = ck->path.len; n > root;) {
        while (n > root && ck->path.data[n] != '/')
            n--;
        ck->path.data[n] = '\0';
        ck->path.len = n;
        TRY(fs_sync_dir(n ? buf_str(&ck->path) : "/", err));
        n -= n > root;
    }
    TRY(mem_grow(&ck->synced.name, &ck->synced.cap, ck->synced.count + 1, sizeof(char *), 1 << 20,
                 err));
    char *copy = mem_strdup(name);
    if (!copy)
        return err_nomem(err, strlen(name));
    ck->synced.name[ck->synced.count++] = copy;
    return SPT_OK;
}

static spt_status describe(ckpt *ck, const struct ckpt_state *s, const buf *state,
                           struct manifest *m, spt_err *err)
{
    m->step = s->step;
    m->has_score = s->has_score;
    m->score = s->score;
    TRY(manifest_describe_state(m, state->data, state->len, err));
    for (size_t i = 0; i < s->log_count; i++) {
        TRY(manifest_add_log(m, s->logs[i].name, strlen(s->logs[i].name), s->logs[i].size, err));
        TRY(sync_log_entry(ck, s->logs[i].name, err));
    }
    for (size_t i = 0; i < s->export_count; i++)
        TRY(write_export(ck, s, &s->exports[i], m, err));
    return SPT_OK;
}

static spt_status begin_tmp(ckpt *ck, int64_t step, savedir **d, spt_err *err)
{
    uint32_t salt = 0;
    const int r = os_random(&salt, sizeof salt);
    if (r < 0)
        return err_sys(err, SPT_E_IO, -r, "no random number");
    buf_clear(&ck->path);
    buf_addf(&ck->path, "%s/tmp.%lld.%08x", ck->dir, (long long)step, salt);
    TRY(buf_status(&ck->path, "path", err));
    TRY(set_path(ck, &ck->other, "state-", step, err));
    return savedir_begin(buf_str(&ck->path), buf_str(&ck->other), CKPT_MANIFEST_FILE, d, err);
}

static spt_status publish(ckpt *ck, const struct manifest *m, const buf *state, const buf *text,
                          bool replace, spt_err *err)
{
    savedir *d = NULL;
    TRY(begin_tmp(ck, m->step, &d, err));
    spt_status st = savedir_file(d, CKPT_STATE_FILE, state->data, state->len, err);
    if (!st)
        st = savedir_file(d, CKPT_MANIFEST_FILE, text->data, text->len, err);
    bool moved = false;
    if (!st && replace)
        moved = !(st = to_trash(ck, m->step, err));
    if (!st)
        st = fs_lock_check(ck->lock, err);
    if (st)
        savedir_abort(d);
    else
        st = savedir_publish(d, err);
    if (st && moved) { /* the old content goes back under its name */
        set_path(ck, &ck->path, "state-", m->step, NULL);
        set_path(ck, &ck->other, "trash.state-", m->step, NULL);
        fs_rename(buf_str(&ck->other), buf_str(&ck->path), NULL);
    }
    return st;
}

/* Is there a state of this step, and does it hold exactly this? */
static spt_status compare(ckpt *ck, const buf *text, int64_t step, bool *exists, bool *same,
                          spt_err *err)
{
    struct manifest m;
    char *bytes = NULL;
    size_t size;
    buf have_text;
    *same = false;
    TRY(set_path(ck, &ck->path, "state-", step, err));
    TRY(ckpt_exists(buf_str(&ck->path), exists, err));
    if (!*exists)
        return SPT_OK;
    const spt_status st = ckpt_read_dir(buf_str(&ck->path), &m, &bytes, &size, err);
    if (st)
        return st == SPT_E_FORMAT ? SPT_OK : st; /* damaged: to be replaced */
    mem_free(bytes);
    buf_init(&have_text, CKPT_MAX_MANIFEST);
    manifest_write(&m, &have_text);
    *same = !have_text.st && have_text.len == text->len &&
            !memcmp(have_text.data, text->data, text->len);
    buf_release(&have_text);
    manifest_release(&m);
    return SPT_OK;
}

static spt_status save(ckpt *ck, const struct ckpt_state *s, struct manifest *m, buf *state,
                       buf *text, spt_err *err)
{
    bool exists, same;
    TRY(encode(s, state, err));
    TRY(describe(ck, s, state, m, err));
    manifest_write(m, text);
    TRY(buf_status(text, "manifest", err));
    TRY(compare(ck, text, s->step, &exists, &same, err));
    TRY(same ? fs_sync_dir(ck->dir, err) : publish(ck, m, state, text, exists, err));
    return remember(ck, (struct entry){s->step, s->has_score, s->score}, err);
}

spt_status ckpt_save(ckpt *ck, const struct ckpt_state *s, spt_err *err)
{
    struct manifest m = {0};
    buf state, text;
    spt_err why;
    if (s->step < 0)
        return err_set(err, SPT_E_USAGE, "step %lld", (long long)s->step);
    buf_init(&state, CKPT_MAX_FILE);
    buf_init(&text, CKPT_MAX_MANIFEST);
    spt_status st = save(ck, s, &m, &state, &text, err);
    manifest_release(&m);
    buf_release(&state);
    buf_release(&text);
    if (st)
        return err_wrap(err, st, "%s: saving step %lld", ck->dir, (long long)s->step);
    if (prune(ck, s->step, &why) || clean(ck, &why))
        log_warning("%s: old states could not be removed: %s", ck->dir, why.msg);
    return SPT_OK;
}
