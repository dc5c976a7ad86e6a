#include "run/infer_pieces.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"

enum { PATH_BYTES = 1 << 16, IDENTITY_BYTES = 1 << 22, COPY = 1 << 16 };

#define COMPLETED ".COMPLETED"

static spt_status whole_number(const char *text, const char **end, uint64_t *out)
{
    char *stop;
    if (*text < '0' || *text > '9')
        return SPT_E_USAGE;
    *out = strtoull(text, &stop, 10);
    *end = stop;
    return SPT_OK;
}

spt_status pieces_shard(const struct settings *s, uint64_t *shard, uint64_t *shards, spt_err *err)
{
    const char *at = s->shard;
    uint64_t i = 0, n = 0;
    if (whole_number(at, &at, &i) || *at != '/' || whole_number(at + 1, &at, &n) || *at || i >= n ||
        n > 99999)
        return err_set(err, SPT_E_USAGE,
                       "--shard: \"%s\" is not I/N with I from 0 to N - 1 and N up to 99999",
                       s->shard);
    *shard = i;
    *shards = n;
    return SPT_OK;
}

/* "dev" of "data/dev.tsv.gz". */
static size_t stem(const char *base)
{
    const size_t n = strcspn(base[0] ? base + 1 : base, ".") + (base[0] != '\0');
    return n;
}

static char *name(const char *dir, const char *format, const char *task, size_t task_len,
                  const char *mode, const struct pieces *p)
{
    buf b;
    buf_init(&b, PATH_BYTES);
    buf_adds(&b, dir);
    buf_addc(&b, '/');
    buf_addf(&b, format, (int)task_len, task, mode, (unsigned long long)p->shard,
             (unsigned long long)p->shards);
    return buf_detach(&b);
}

static spt_status name_parts(struct pieces *p, const struct settings *s, const char *data_path,
                             spt_err *err)
{
    const char *task = path_base(data_path);
    size_t len = stem(task);
    if (s->task_name && s->task_name[0]) {
        task = s->task_name;
        len = strlen(task);
    }
    if (memchr(task, '/', len))
        return err_set(err, SPT_E_USAGE, "--task-name: \"%s\" has a slash", task);
    p->dir = mem_strdup(s->out);
    p->final = name(s->out, "%.*s-%s.jsonl-%05llu-of-%05llu", task, len, s->mode, p);
    p->temporary = name(s->out, "tmp-%.*s-%s-%05llu-of-%05llu", task, len, s->mode, p);
    return p->dir && p->final && p->temporary ? SPT_OK : err_nomem(err, len);
}

/* `path` with a suffix; chunk: its number, or UINT64_MAX for none. */
static spt_status join(buf *out, const char *dir, const struct pieces *p, uint64_t chunk,
                       const char *suffix, spt_err *err)
{
    buf_clear(out);
    if (dir)
        buf_addf(out, "%s/%s", dir, path_base(p->final));
    else
        buf_adds(out, p->final);
    if (chunk != UINT64_MAX)
        buf_addf(out, "-chunk%05llu", (unsigned long long)chunk);
    buf_adds(out, suffix);
    return buf_status(out, "path", err);
}

/* Chunks are made in order, each marked when it is durable. */
static spt_status count_done(struct pieces *p, spt_err *err)
{
    buf path;
    buf_init(&path, PATH_BYTES);
    spt_status st;
    while (!(st = join(&path, p->temporary, p, p->done, COMPLETED, err)) &&
           fs_exists(buf_str(&path)))
        p->done++;
    buf_release(&path);
    return st;
}

static spt_status check_identity(const struct pieces *p, const char *identity, spt_err *err)
{
    buf path;
    char *old = NULL;
    size_t size;
    buf_init(&path, PATH_BYTES);
    buf_addf(&path, "%s/settings", p->temporary);
    spt_status st = buf_status(&path, "path", err);
    if (!st && fs_exists(buf_str(&path))) {
        st = fs_read_all(buf_str(&path), IDENTITY_BYTES, &old, &size, err);
        if (!st && strcmp(old, identity))
            st = err_set(err, SPT_E_CONFIG,
                         "%s was begun with other settings, data or files; remove it to start "
                         "over, or use another --out",
                         p->temporary);
    } else if (!st) {
        st = fs_write_all(buf_str(&path), identity, strlen(identity), err);
    }
    mem_free(old);
    buf_release(&path);
    return st;
}

/* What a writer of this shard's files left when it died; other shards may be at work here. */
static spt_status remove_own_temporaries(const struct pieces *p, spt_err *err)
{
    const char *own = path_base(p->final);
    fs_names names;
    buf path;
    buf_init(&path, PATH_BYTES);
    TRY(fs_list(p->dir, &names, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < names.count; i++) {
        const char *rest = names.name[i] + strlen(own);
        if (strncmp(names.name[i], own, strlen(own)))
            continue;
        rest += !strncmp(rest, COMPLETED, strlen(COMPLETED)) ? strlen(COMPLETED) : 0;
        if (strncmp(rest, ".tmp-", 5))
            continue;
        buf_clear(&path);
        st = path_join(&path, p->dir, names.name[i], err);
        if (!st)
            st = fs_remove_tree(buf_str(&path), err);
    }
    buf_release(&path);
    fs_names_free(&names);
    return st;
}

static spt_status open_parts(struct pieces *p, const struct settings *s, const char *data_path,
                             const char *identity, spt_err *err)
{
    TRY(pieces_shard(s, &p->shard, &p->shards, err));
    TRY(name_parts(p, s, data_path, err));
    buf path;
    buf_init(&path, PATH_BYTES);
    spt_status st = join(&path, NULL, p, UINT64_MAX, COMPLETED, err);
    p->complete = !st && fs_exists(buf_str(&path));
    buf_release(&path);
    TRY(st);
    TRY(remove_own_temporaries(p, err));
    if (p->complete) /* a run that died behind its last mark left its chunks */
        return fs_remove_tree(p->temporary, err);
    TRY(fs_make_dirs(p->temporary, err));
    TRY(fs_remove_temporaries(p->temporary, err));
    TRY(check_identity(p, identity, err));
    TRY(count_done(p, err));
    if (p->done)
        log_info("%s: continuing behind %llu whole chunks", p->final, (unsigned long long)p->done);
    return SPT_OK;
}

spt_status pieces_open(const struct settings *s, const char *data_path, const char *identity,
                       struct pieces *out, spt_err *err)
{
    struct pieces p = {0};
    const spt_status st = open_parts(&p, s, data_path, identity, err);
    if (st) {
        pieces_close(&p);
        return st;
    }
    *out = p;
    return SPT_OK;
}

void pieces_close(struct pieces *p)
{
    mem_free(p->dir);
    mem_free(p->temporary);
    mem_free(p->final);
    *p = (struct pieces){0};
}

spt_status pieces_add(struct pieces *p, const void *bytes, size_t n, spt_err *err)
{
    buf path;
    buf_init(&path, PATH_BYTES);
    spt_status st = join(&path, p->temporary, p, p->done, "", err);
    if (!st)
        st = fs_write_all(buf_str(&path), bytes, n, err);
    if (!st)
        st = join(&path, p->temporary, p, p->done, COMPLETED, err);
    if (!st)
        st = fs_write_all(buf_str(&path), "", 0, err);
    p->done += !st;
    buf_release(&path);
    return st;
}

static spt_status copy_file(fs_writer *to, const char *path, spt_err *err)
{
    fs_stream *from;
    char block[COPY];
    size_t got = 1;
    TRY(fs_stream_open(path, &from, err));
    spt_status st = SPT_OK;
    while (!st && got) {
        st = fs_stream_read(from, block, sizeof block, &got, err);
        if (!st && got)
            st = fs_write(to, block, got, err);
    }
    fs_stream_close(from);
    return st;
}

spt_status pieces_finish(struct pieces *p, spt_err *err)
{
    fs_writer *w;
    buf path;
    TRY(fs_create(p->final, &w, err));
    buf_init(&path, PATH_BYTES);
    spt_status st = SPT_OK;
    for (uint64_t k = 0; !st && k < p->done; k++) {
        st = join(&path, p->temporary, p, k, "", err);
        if (!st)
            st = copy_file(w, buf_str(&path), err);
    }
    if (st)
        fs_abort(w);
    else
        st = fs_commit(w, err);
    if (!st)
        st = join(&path, NULL, p, UINT64_MAX, COMPLETED, err);
    if (!st)
        st = fs_write_all(buf_str(&path), "", 0, err);
    buf_release(&path);
    return st ? st : fs_remove_tree(p->temporary, err);
}
