/* What lies in the hub's cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/hub_internal.h"

enum { MAX_ENTRIES = 100000, MAX_REFS = 4096, MAX_DEPTH = 8 };

void hub_list_release(struct hub_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        mem_free(l->entry[i].name);
        mem_free(l->entry[i].commit);
        mem_free(l->entry[i].refs);
        mem_free(l->entry[i].path);
    }
    mem_free(l->entry);
    *l = (struct hub_list){0};
}

/* "models--org--name" -> "org/name" */
static char *name_of(const char *dir)
{
    const char *from = dir + strlen("models--"), *cut = strstr(from, "--");
    char *name = mem_alloc(strlen(from) + 1, 1);
    if (!name)
        return NULL;
    const size_t n = cut ? (size_t)(cut - from) : strlen(from);
    memcpy(name, from, n);
    if (cut)
        name[n] = '/';
    memcpy(name + n + (cut != NULL), cut ? cut + 2 : from + n,
           strlen(cut ? cut + 2 : from + n) + 1);
    return name;
}

/* Revisions below refs/ whose commit is `commit`; `prefix` is what stands before the names here. */
static spt_status collect_refs(const char *dir, const char *prefix, const char *commit, int depth,
                               buf *out, spt_err *err)
{
    fs_names names = {0};
    buf path, name;
    if (depth > MAX_DEPTH || !fs_is_dir(dir))
        return SPT_OK;
    TRY(fs_list(dir, &names, err));
    buf_init(&path, HUB_PATH);
    buf_init(&name, HUB_PATH);
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < names.count; i++) {
        char *text = NULL;
        size_t n;
        st = path_join(&path, dir, names.name[i], err);
        buf_clear(&name);
        buf_addf(&name, "%s%s", prefix, names.name[i]);
        const bool is_dir = !st && fs_is_dir(buf_str(&path));
        if (is_dir)
            buf_addc(&name, '/');
        if (!st)
            st = buf_status(&name, "revision", err);
        if (is_dir && !st)
            st = collect_refs(buf_str(&path), buf_str(&name), commit, depth + 1, out, err);
        if (is_dir)
            continue;
        if (st)
            continue;
        const spt_status got = fs_read_all(buf_str(&path), MAX_REFS, &text, &n, NULL);
        if (got == SPT_E_NOMEM) /* what else fails is no revision */
            st = err_nomem(err, MAX_REFS);
        if (!got) {
            text[strcspn(text, " \t\r\n")] = '\0';
            if (!strcmp(text, commit))
                buf_addf(out, "%s%s", out->len ? ", " : "", buf_str(&name));
            mem_free(text);
        }
    }
    fs_names_free(&names);
    buf_release(&path);
    buf_release(&name);
    return st;
}

static spt_status add_sizes(const char *dir, int depth, struct hub_entry *e, spt_err *err)
{
    fs_names names = {0};
    buf path;
    TRY(fs_list(dir, &names, err));
    buf_init(&path, HUB_PATH);
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < names.count; i++) {
        struct fs_info info;
        st = path_join(&path, dir, names.name[i], err);
        if (st || fs_stat(buf_str(&path), &info, NULL))
            continue; /* a link to a blob that is gone */
        if (info.is_dir && depth < MAX_DEPTH)
            st = add_sizes(buf_str(&path), depth + 1, e, err);
        else if (info.is_file) {
            e->bytes += info.size;
            e->files++;
        }
    }
    fs_names_free(&names);
    buf_release(&path);
    return st;
}

static spt_status add_entry(struct hub_list *l, const char *repo, const char *dir,
                            const char *commit, spt_err *err)
{
    struct hub_entry e = {0};
    buf path, refs;
    buf_init(&path, HUB_PATH);
    buf_init(&refs, HUB_PATH);
    buf_addf(&path, "%s/refs", dir);
    spt_status st = buf_status(&path, "path", err);
    if (!st)
        st = collect_refs(buf_str(&path), "", commit, 0, &refs, err);
    if (!st)
        st = buf_status(&refs, "revisions", err);
    buf_clear(&path);
    buf_addf(&path, "%s/snapshots/%s", dir, commit);
    if (!st)
        st = buf_status(&path, "path", err);
    if (!st)
        st = add_sizes(buf_str(&path), 0, &e, err);
    if (!st)
        st = mem_grow(&l->entry, &l->cap, l->count + 1, sizeof *l->entry, MAX_ENTRIES, err);
    if (!st) {
        e.name = name_of(repo);
        e.commit = mem_strdup(commit);
        e.refs = mem_strdup(buf_str(&refs));
        e.path = mem_strdup(buf_str(&path));
        l->entry[l->count++] = e;
        if (!e.name || !e.commit || !e.refs || !e.path)
            st = err_nomem(err, path.len);
    }
    buf_release(&path);
    buf_release(&refs);
    return st;
}

static spt_status add_repo(struct hub_list *l, const char *root, const char *repo, spt_err *err)
{
    buf dir, snapshots;
    fs_names names = {0};
    buf_init(&dir, HUB_PATH);
    buf_init(&snapshots, HUB_PATH);
    spt_status st = path_join(&dir, root, repo, err);
    if (!st)
        st = path_join(&snapshots, buf_str(&dir), "snapshots", err);
    if (!st && fs_is_dir(buf_str(&snapshots)))
        st = fs_list(buf_str(&snapshots), &names, err);
    for (size_t i = 0; !st && i < names.count; i++)
        if (hub_is_commit(names.name[i]))
            st = add_entry(l, repo, buf_str(&dir), names.name[i], err);
    fs_names_free(&names);
    buf_release(&dir);
    buf_release(&snapshots);
    return st;
}

spt_status hub_list_cache(struct hub_list *out, spt_err *err)
{
    struct hub_list l = {0};
    fs_names names = {0};
    buf root;
    buf_init(&root, HUB_PATH);
    spt_status st = hub_cache_dir(&root, err);
    if (!st && fs_is_dir(buf_str(&root)))
        st = fs_list(buf_str(&root), &names, err);
    for (size_t i = 0; !st && i < names.count; i++)
        if (!strncmp(names.name[i], "models--", 8) && names.name[i][8])
            st = add_repo(&l, buf_str(&root), names.name[i], err);
    fs_names_free(&names);
    buf_release(&root);
    if (st)
        hub_list_release(&l);
    else
        *out = l;
    return st;
}
