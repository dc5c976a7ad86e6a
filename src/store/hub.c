/* Names of the hub and its cache. Nothing here talks to a server.
 *
 *   models--org--name/refs/<revision>              a commit, 40 hex digits
 *   models--org--name/snapshots/<commit>/<file>    a link to ../../blobs/<etag>, or a file
 *   models--org--name/.no_exist/<commit>/<file>    known not to be there
 *
 * A snapshot may be partial: transformers fetches file by file. What a caller needs decides whether
 * it is enough. */
#include "store/hub.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "store/hub_internal.h"
#include "text/json.h"

/* --- names ---------------------------------------------------------------------------------- */

/* A part of a repository's name: letters, digits, "-_.", no "--" or "..", no odd ends. */
static bool is_part(const char *p, size_t n)
{
    if (!n || n > 96 || strchr("-.", p[0]) || strchr("-.", p[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++) {
        const bool plain = (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') ||
                           (p[i] >= '0' && p[i] <= '9') || p[i] == '_';
        if (!plain && p[i] != '-' && p[i] != '.')
            return false;
        if (i && !plain && p[i] == p[i - 1])
            return false;
    }
    return true;
}

/* Branches, tags, "refs/pr/2", commits: what can be a path below refs/. */
static bool is_revision(const char *p)
{
    const size_t n = strlen(p);
    if (!n || n > 200 || p[0] == '/' || p[n - 1] == '/' || strstr(p, "..") || strstr(p, "//"))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') ||
              (p[i] >= '0' && p[i] <= '9') || strchr("-_./+", p[i])))
            return false;
    return p[0] != '.';
}

static bool take_apart(const char *text, bool org_needed, char *id, char *revision)
{
    const size_t n = strcspn(text, "@");
    const char *slash = memchr(text, '/', n);
    if (!slash && org_needed)
        return false;
    const char *name = slash ? slash + 1 : text;
    if (!is_part(name, (size_t)(text + n - name)) ||
        (slash && !is_part(text, (size_t)(slash - text))))
        return false;
    if (text[n] && !is_revision(text + n + 1))
        return false;
    snprintf(id, HUB_TEXT, "%.*s", (int)n, text);
    snprintf(revision, HUB_TEXT, "%s", text[n] ? text + n + 1 : "main");
    return true;
}

/* "prompts/sst2.npy" is a path with a mistake in it, not a model. */
static bool looks_like_file(const char *text)
{
    static const char *const ends[] = {".npy", ".safetensors", ".bin", ".pt",  ".model", ".json",
                                       ".gin", ".tsv",         ".csv", ".txt", ".jsonl", ".gz"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (path_has_suffix(text, ends[i]))
            return true;
    return false;
}

bool hub_is_name(const char *text)
{
    char id[HUB_TEXT], revision[HUB_TEXT];
    return take_apart(text, true, id, revision) && !looks_like_file(text);
}

void hub_add_repo(const char *text, buf *out)
{
    buf_add(out, text, strcspn(text, "@"));
}

bool hub_is_commit(const char *text)
{
    return strlen(text) == HUB_COMMIT && strspn(text, "0123456789abcdef") == HUB_COMMIT;
}

/* --- where the cache is --------------------------------------------------------------------- */

const char *hub_env(const char *name)
{
    const char *v = os_getenv(name);
    return v && *v ? v : NULL;
}

bool hub_env_true(const char *name)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *v = hub_env(name);
    for (size_t i = 0; v && i < sizeof yes / sizeof *yes; i++)
        if (!strcasecmp(v, yes[i]))
            return true;
    return false;
}

bool hub_offline(void)
{
    return hub_env_true("HF_HUB_OFFLINE") || hub_env_true("TRANSFORMERS_OFFLINE");
}

spt_status hub_cache_dir(buf *out, spt_err *err)
{
    static const struct {
        const char *variable, *below;
    } place[] = {{"HF_HUB_CACHE", ""},
                 {"HUGGINGFACE_HUB_CACHE", ""},
                 {"HF_HOME", "/hub"},
                 {"XDG_CACHE_HOME", "/huggingface/hub"},
                 {"HOME", "/.cache/huggingface/hub"}};
    buf_clear(out);
    for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
        const char *v = hub_env(place[i].variable), *home = hub_env("HOME");
        if (!v)
            continue;
        if (v[0] == '~' && (v[1] == '/' || !v[1]) && home) {
            buf_adds(out, home);
            v++;
        }
        size_t n = strlen(v);
        while (n > 1 && v[n - 1] == '/')
            n--;
        buf_add(out, v, n);
        buf_adds(out, place[i].below);
        return buf_status(out, "the hub's cache", err);
    }
    return err_set(err, SPT_E_CONFIG, "the hub's cache: neither HF_HUB_CACHE nor HOME is set");
}

/* --- looking --------------------------------------------------------------------------------- */

static spt_status repo_open(struct hub_repo *r, spt_err *err)
{
    TRY(hub_cache_dir(&r->root, err));
    buf_addf(&r->dir, "%s/models--", buf_str(&r->root));
    for (const char *p = r->id; *p; p++)
        buf_adds(&r->dir, *p == '/' ? "--" : (const char[]){*p, '\0'});
    r->pinned = hub_is_commit(r->revision);
    if (r->pinned)
        memcpy(r->commit, r->revision, sizeof r->commit);
    return buf_status(&r->dir, "path", err);
}

/* refs/<revision> -> commit; "" when there is none. */
static spt_status read_ref(struct hub_repo *r, spt_err *err)
{
    buf path;
    char *text = NULL;
    size_t n;
    buf_init(&path, HUB_PATH);
    buf_addf(&path, "%s/refs/%s", buf_str(&r->dir), r->revision);
    spt_status st = buf_status(&path, "path", err);
    if (!st && fs_exists(buf_str(&path)) && !fs_is_dir(buf_str(&path)))
        st = fs_read_all(buf_str(&path), 4096, &text, &n, err);
    if (!st && text) {
        text[strcspn(text, " \t\r\n")] = '\0';
        if (hub_is_commit(text))
            memcpy(r->commit, text, sizeof r->commit);
    }
    mem_free(text);
    buf_release(&path);
    return st;
}

spt_status hub_snapshot(const struct hub_repo *r, const char *file, buf *out, spt_err *err)
{
    buf_clear(out);
    buf_addf(out, "%s/snapshots/%s%s%s", buf_str(&r->dir), r->commit, file ? "/" : "",
             file ? file : "");
    return buf_status(out, "path", err);
}

static spt_status has(const struct hub_repo *r, const char *file, bool *yes, spt_err *err)
{
    buf path;
    buf_init(&path, HUB_PATH);
    const spt_status st = hub_snapshot(r, file, &path, err);
    *yes = !st && fs_exists(buf_str(&path)) && !fs_is_dir(buf_str(&path));
    buf_release(&path);
    return st;
}

/* Known not to be on the hub. */
static spt_status has_not(const struct hub_repo *r, const char *file, bool *yes, spt_err *err)
{
    buf path;
    buf_init(&path, HUB_PATH);
    buf_addf(&path, "%s/.no_exist/%s/%s", buf_str(&r->dir), r->commit, file);
    const spt_status st = buf_status(&path, "path", err);
    *yes = !st && fs_exists(buf_str(&path));
    buf_release(&path);
    return st;
}

spt_status hub_index_files(const char *path, fs_names *out, spt_err *err)
{
    char *text = NULL;
    size_t size;
    json_reader r;
    struct json_event key, ev;
    bool more, inner;
    fs_names names = {0};
    TRY(fs_read_all(path, HUB_INDEX, &text, &size, err));
    json_open(&r, text, size, JSON_PYTHON_NAN);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        if (!json_is(&key, "weight_map")) {
            st = json_skip(&r, err);
            continue;
        }
        st = json_enter_object(&r, err);
        while (!st && !(st = json_next_key(&r, &inner, &key, err)) && inner) {
            st = json_next(&r, &ev, err);
            if (st)
                break;
            const bool plain = ev.kind == JSON_STRING && ev.len && ev.len < HUB_TEXT &&
                               !ev.escaped && !memchr(ev.text, '/', ev.len) && ev.text[0] != '.';
            if (!plain) {
                st = json_error(&r, ev.offset, err, "weight_map names no plain file");
                break;
            }
            bool known = false;
            for (size_t i = names.count; i-- > 0 && !known;)
                known = strlen(names.name[i]) == ev.len && !memcmp(names.name[i], ev.text, ev.len);
            if (known)
                continue;
            st = mem_grow(&names.name, &names.cap, names.count + 1, sizeof *names.name, 10000, err);
            if (!st && !(names.name[names.count] = mem_strndup(ev.text, ev.len)))
                st = err_nomem(err, ev.len);
            if (!st)
                names.count++;
        }
    }
    json_close(&r);
    mem_free(text);
    if (st) {
        fs_names_free(&names);
        return err_wrap(err, st, "%s", path);
    }
    *out = names;
    return SPT_OK;
}

/* Every shard of an index that is in the snapshot. */
static spt_status shards_there(const struct hub_repo *r, const char *index, bool *all, spt_err *err)
{
    buf path;
    fs_names names = {0};
    buf_init(&path, HUB_PATH);
    spt_status st = hub_snapshot(r, index, &path, err);
    if (!st)
        st = hub_index_files(buf_str(&path), &names, err);
    *all = true;
    for (size_t i = 0; !st && *all && i < names.count; i++)
        st = has(r, names.name[i], all, err);
    fs_names_free(&names);
    buf_release(&path);
    return st;
}

/* The first set that is there decides, as when the directory is opened (store/hf_dir.c). */
static spt_status weights_there(const struct hub_repo *r, bool *yes, spt_err *err)
{
    static const char *const set[] = {"model.safetensors", "model.safetensors.index.json",
                                      "pytorch_model.bin", "pytorch_model.bin.index.json"};
    *yes = false;
    for (size_t i = 0; i < sizeof set / sizeof *set && !*yes; i++) {
        TRY(has(r, set[i], yes, err));
        if (*yes && i % 2)
            return shards_there(r, set[i], yes, err);
    }
    return SPT_OK;
}

/* ByT5 has no vocabulary file: its configuration names the class. */
static spt_status names_byt5(const struct hub_repo *r, const char *file, bool *yes, spt_err *err)
{
    buf path;
    char *text = NULL;
    size_t n;
    bool there;
    TRY(has(r, file, &there, err));
    if (!there)
        return SPT_OK;
    buf_init(&path, HUB_PATH);
    spt_status st = hub_snapshot(r, file, &path, err);
    if (!st)
        st = fs_read_all(buf_str(&path), 16 << 20, &text, &n, err);
    *yes |= !st && strstr(text, "\"ByT5Tokenizer\"");
    mem_free(text);
    buf_release(&path);
    return st;
}

static spt_status vocab_there(const struct hub_repo *r, bool *yes, spt_err *err)
{
    static const char *const file[] = {"spiece.model", "sentencepiece.model", "tokenizer.model",
                                       "spm.model", "tokenizer.json"};
    bool no_pieces = false, no_json = false;
    *yes = false;
    for (size_t i = 0; i < sizeof file / sizeof *file && !*yes; i++)
        TRY(has(r, file[i], yes, err));
    if (!*yes)
        TRY(names_byt5(r, "config.json", yes, err));
    if (!*yes)
        TRY(names_byt5(r, "tokenizer_config.json", yes, err));
    if (*yes)
        return SPT_OK;
    TRY(has_not(r, "spiece.model", &no_pieces, err));
    TRY(has_not(r, "tokenizer.json", &no_json, err));
    *yes = no_pieces && no_json; /* there is nothing to wait for */
    return SPT_OK;
}

spt_status hub_missing(const struct hub_repo *r, unsigned need, const char **what, spt_err *err)
{
    bool yes, other;
    *what = NULL;
    if (need & HUB_ANY) {
        TRY(has(r, "adapter_config.json", &yes, err));
        need = yes ? HUB_ADAPTER : HUB_MODEL | HUB_VOCAB;
    }
    if (need & HUB_MODEL) {
        TRY(has(r, "config.json", &yes, err));
        if (yes)
            TRY(weights_there(r, &yes, err));
        else
            *what = "config.json";
        if (!yes && !*what)
            *what = "all of the weights";
    }
    if (!*what && need & HUB_VOCAB) {
        TRY(vocab_there(r, &yes, err));
        *what = yes ? NULL : "a vocabulary";
    }
    if (!*what && need & HUB_ADAPTER) {
        TRY(has(r, "adapter_config.json", &yes, err));
        *what = yes ? NULL : "adapter_config.json";
        if (yes)
            TRY(has(r, "adapter_model.safetensors", &yes, err));
        if (!yes && !*what) {
            TRY(has(r, "adapter_model.bin", &other, err));
            *what = other ? NULL : "the adapter's weights";
        }
    }
    return SPT_OK;
}

static spt_status look_up(struct hub_repo *r, const struct hub_opts *o, bool fetch, buf *path,
                          spt_err *err)
{
    const char *missing = NULL;
    TRY(repo_open(r, err));
    if (!r->pinned)
        TRY(read_ref(r, err));
    if (r->commit[0])
        TRY(hub_missing(r, o->need, &missing, err));
    const bool there = r->commit[0] && !missing;
    if (there && (!o->refresh || r->pinned || hub_offline()))
        return hub_snapshot(r, NULL, path, err);
    if (!fetch)
        return err_set(err, SPT_E_NOTFOUND,
                       "%s: no such file or directory, and not in the hub's cache (%s); to fetch a "
                       "model, give its whole name: org/name",
                       r->id, buf_str(&r->root));
    if (hub_offline())
        return err_set(err, SPT_E_NOTFOUND,
                       "%s: no such file or directory, and the hub's cache (%s) has %s%s of "
                       "revision %s; HF_HUB_OFFLINE forbids fetching it",
                       r->id, buf_str(&r->root), missing ? "not " : "nothing",
                       missing ? missing : "", r->revision);
    TRY(hub_fetch(r, o, err));
    return hub_snapshot(r, NULL, path, err);
}

static spt_status as_path(const char *text, buf *path, spt_err *err)
{
    buf_clear(path);
    buf_adds(path, text);
    return buf_status(path, "path", err);
}

spt_status hub_find(const char *text, const struct hub_opts *o, buf *path, spt_err *err)
{
    struct hub_repo r = {0};
    if (!take_apart(text, false, r.id, r.revision) || looks_like_file(text) || fs_exists(text))
        return as_path(text, path, err);
    buf_init(&r.root, HUB_PATH);
    buf_init(&r.dir, HUB_PATH);
    const bool no_cache = !strchr(r.id, '/') && hub_cache_dir(&r.root, NULL);
    const spt_status st =
        no_cache ? as_path(text, path, err) : look_up(&r, o, strchr(r.id, '/') != NULL, path, err);
    buf_release(&r.root);
    buf_release(&r.dir);
    return st;
}
