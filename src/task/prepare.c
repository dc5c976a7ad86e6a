#include "task/prepare.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/digest.h"
#include "fs/fs.h"
#include "task/prepare_internal.h"
#include "task/raw_glue.h"

enum { MAX_PATH = 4096, MAX_KEY = 128, POLL = 1024 };

/* --- the table -------------------------------------------------------------------------------- */

size_t prepare_sources(const struct prepare_set *s)
{
    size_t n = 0;
    while (n < PREPARE_MAX_SOURCES && s->source[n].url)
        n++;
    return n;
}

size_t prepare_splits(const struct prepare_set *s)
{
    size_t n = 0;
    while (n < PREPARE_MAX_SPLITS && s->split[n].name)
        n++;
    return n;
}

size_t prepare_features(const struct prepare_set *s)
{
    size_t n = 0;
    while (n < PREPARE_MAX_FEATURES && s->feature[n].path)
        n++;
    return n;
}

size_t prepare_count(void)
{
    return prepare_table_count;
}

const struct prepare_set *prepare_at(size_t i)
{
    return i < prepare_table_count ? &prepare_table[i] : NULL;
}

static spt_status find_version(const struct prepare_set *s, const char *wanted, const char **out,
                               spt_err *err)
{
    buf all;
    if (!*wanted) {
        *out = s->version[0];
        return SPT_OK;
    }
    for (size_t i = 0; s->version[i]; i++)
        if (strcmp(s->version[i], wanted) == 0) {
            *out = s->version[i];
            return SPT_OK;
        }
    buf_init(&all, 200);
    for (size_t i = 0; s->version[i]; i++)
        buf_addf(&all, "%s%s", i ? ", " : "", s->version[i]);
    err_set(err, SPT_E_CONFIG, "%s has no version %.40s that we can prepare (%s)", s->name, wanted,
            buf_str(&all));
    buf_release(&all);
    return SPT_E_CONFIG;
}

spt_status prepare_find(const char *name, const struct prepare_set **out, const char **version,
                        spt_err *err)
{
    const size_t len = strcspn(name, ":");
    for (size_t i = 0; i < prepare_table_count; i++) {
        const struct prepare_set *s = &prepare_table[i];
        if (strlen(s->name) != len || memcmp(s->name, name, len) != 0)
            continue;
        TRY(find_version(s, name[len] ? name + len + 1 : "", version, err));
        *out = s;
        return SPT_OK;
    }
    return err_set(err, SPT_E_CONFIG, "no data set \"%.100s\" that we can prepare", name);
}

spt_status prepare_mirror_path(const struct prepare_source *s, buf *out, spt_err *err)
{
    const char *p = strstr(s->url, "://");
    p = p ? p + 3 : s->url;
    const size_t len = strcspn(p, "?");
    size_t folder = len;
    while (folder && p[folder - 1] != '/')
        folder--;
    buf_add(out, p, folder);
    buf_adds(out, path_base(s->file));
    return buf_status(out, "path", err);
}

/* --- checksums -------------------------------------------------------------------------------- */

spt_status prepare_verify(const char *path, const char *sha256, spt_err *err)
{
    enum { BLOCK = 1 << 16 };
    uint8_t digest[SHA256_SIZE];
    char text[2 * SHA256_SIZE + 1];
    sha256_state sha;
    fs_stream *s;
    char *block = mem_alloc(BLOCK, 1);
    if (!block)
        return err_nomem(err, BLOCK);
    spt_status st = fs_stream_open(path, &s, err);
    if (!st) {
        sha256_start(&sha);
        for (size_t got = 1; got && !st;) {
            got = 0;
            st = fs_stream_read(s, block, BLOCK, &got, err);
            sha256_more(&sha, block, got);
        }
        sha256_finish(&sha, digest);
        fs_stream_close(s);
    }
    mem_free(block);
    TRY(st);
    for (size_t i = 0; i < SHA256_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    if (strcmp(text, sha256) != 0)
        return err_set(err, SPT_E_FORMAT,
                       "%s: its SHA-256 is %s, wanted %s: damaged or another file", path, text,
                       sha256);
    return SPT_OK;
}

static spt_status check_file(const char *path, const struct prepare_source *s,
                             const struct prepare_options *o, bool alone, spt_err *err)
{
    struct fs_info info;
    if (o->sha256 && *o->sha256 && alone)
        return prepare_verify(path, o->sha256, err);
    TRY(fs_stat(path, &info, err));
    if (o->no_verify || !s->size)
        return SPT_OK;
    if (info.size == s->size)
        return prepare_verify(path, s->sha256, err);
    if (strcmp(path_base(path), path_base(s->file)) == 0)
        log_info("%s has %llu bytes, the publisher's %llu: taken as it is", path,
                 (unsigned long long)info.size, (unsigned long long)s->size);
    return SPT_OK;
}

/* --- finding the files ------------------------------------------------------------------------ */

struct preparing {
    const struct prepare_set *set;
    const struct prepare_options *o;
    tfds_writer *writer;
    archive *source[PREPARE_MAX_SOURCES]; /* whole files; NULL: unpacked in the directory `from` */
    bool from_dir, from_file;
    /* the split at work */
    const struct prepare_split *split;
    uint64_t seen;
};

static spt_status join(char *out, size_t room, const char *dir, const char *name, spt_err *err)
{
    const int n = snprintf(out, room, "%s/%s", dir, name);
    return n < 0 || (size_t)n >= room
               ? err_set(err, SPT_E_CONFIG, "the path %.100s... is too long", dir)
               : SPT_OK;
}

/* In `dir`: the file, gzip'd or no longer gzip'd, or as a mirror has it. */
static spt_status find_in_dir(const char *dir, const struct prepare_source *s, char *out,
                              size_t room, bool *found, spt_err *err)
{
    static const char *const other[][2] = {{"mrpc_dev_ids.tsv", "dev_ids.tsv"},
                                           {"tsvsWithoutLabels_AX.tsv", "diagnostic.tsv"}};
    static const char *const below[] = {"", "MRPC/", "diagnostic/"};
    char name[MAX_PATH];
    buf mirror;
    const char *base = path_base(s->file);
    const char *second = base;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (strcmp(base, other[i][0]) == 0)
            second = other[i][1];
    *found = false;
    buf_init(&mirror, MAX_PATH);
    TRY(prepare_mirror_path(s, &mirror, err));
    spt_status st = join(out, room, dir, buf_str(&mirror), err);
    buf_release(&mirror);
    TRY(st);
    *found = fs_exists(out);
    const char *const names[] = {s->file, second};
    for (size_t i = 0; i < sizeof below / sizeof *below && !*found; i++)
        for (size_t k = 0; k < 6 && !*found; k++) {
            const char *wanted = names[k / 3];
            const size_t len = strlen(wanted);
            const bool packed = path_has_suffix(wanted, ".gz");
            if (k % 3 == 2 && !packed)
                continue;
            snprintf(name, sizeof name, "%s%.*s%s", below[i], (int)(k % 3 == 2 ? len - 3 : len),
                     wanted, k % 3 == 1 ? ".gz" : "");
            TRY(join(out, room, dir, name, err));
            *found = fs_exists(out) && !fs_is_dir(out);
        }
    return SPT_OK;
}

static spt_status missing_file(const struct preparing *p, spt_err *err)
{
    buf names;
    buf_init(&names, 400);
    for (size_t i = 0; i < prepare_sources(p->set); i++)
        buf_addf(&names, "%s%s", i ? ", " : "", p->set->source[i].file);
    const spt_status st =
        err_set(err, SPT_E_NOTFOUND, "%s is made of the files %s: give the folder that holds them",
                p->set->name, buf_str(&names));
    buf_release(&names);
    return st;
}

static spt_status open_sources(struct preparing *p, spt_err *err)
{
    const struct prepare_options *o = p->o;
    const size_t n = prepare_sources(p->set);
    char path[2 * MAX_PATH];
    p->from_dir = o->from && fs_is_dir(o->from);
    p->from_file = o->from && !p->from_dir;
    if (p->from_file) {
        TRY(check_file(o->from, &p->set->source[0], o, true, err));
        TRY(archive_open(o->from, &p->source[0], err));
        const bool single = archive_kind(p->source[0]) == ARCHIVE_FILE ||
                            archive_kind(p->source[0]) == ARCHIVE_GZIP;
        return single && n > 1 ? missing_file(p, err) : SPT_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const struct prepare_source *s = &p->set->source[i];
        if (p->from_dir) {
            bool found;
            TRY(find_in_dir(o->from, s, path, sizeof path, &found, err));
            if (!found)
                continue;
            TRY(check_file(path, s, o, n == 1, err));
            TRY(archive_open(path, &p->source[i], err));
            continue;
        }
        buf where;
        buf_init(&where, MAX_PATH);
        spt_status st = o->fetch(o->ctx, s, &where, err);
        if (!st)
            st = buf_status(&where, "path", err);
        if (!st)
            st = archive_open(buf_str(&where), &p->source[i], err);
        buf_release(&where);
        TRY(st);
    }
    return SPT_OK;
}

/* --- streams of the files --------------------------------------------------------------------- */

/* A file of the data set, wherever it lies. */
struct input {
    archive *own; /* opened for this one alone */
    archive_stream *stream;
    char name[2 * MAX_PATH]; /* for messages */
};

static void input_close(struct input *in)
{
    archive_stream_close(in->stream);
    archive_close(in->own);
    in->stream = NULL;
    in->own = NULL;
}

static spt_status open_member(archive *a, size_t i, struct input *in, spt_err *err)
{
    const bool inside = archive_kind(a) == ARCHIVE_ZIP || archive_kind(a) == ARCHIVE_TAR;
    snprintf(in->name, sizeof in->name, "%s%s%.1000s", archive_path(a), inside ? ": " : "",
             inside ? archive_name(a, i) : "");
    return archive_read(a, i, &in->stream, err);
}

/* Calls `try` with each of "A|B|C" (and each one's base name at last) until it has found something.
 */
typedef spt_status (*try_fn)(void *ctx, const char *name, bool *found, spt_err *err);
static spt_status each_name(const char *names, try_fn try, void *ctx, bool *found, spt_err *err)
{
    *found = false;
    for (int base = 0; base < 2; base++)
        for (const char *p = names; *p && !*found;) {
            char name[MAX_PATH];
            const size_t len = strcspn(p, "|");
            snprintf(name, sizeof name, "%.*s", (int)len, p);
            TRY(try(ctx, base ? path_base(name) : name, found, err));
            p += len + (p[len] == '|');
        }
    return SPT_OK;
}

struct search {
    struct input *in;
    archive *a;
    const char *dir;
};

static spt_status try_member(void *ctx, const char *name, bool *found, spt_err *err)
{
    struct search *s = ctx;
    size_t i;
    if (archive_find(s->a, name, &i, NULL))
        return SPT_OK;
    *found = true;
    return open_member(s->a, i, s->in, err);
}

static spt_status try_path(void *ctx, const char *name, bool *found, spt_err *err)
{
    struct search *s = ctx;
    char path[2 * MAX_PATH];
    for (int gz = 0; gz < 2; gz++) {
        const int n = snprintf(path, sizeof path, "%s/%s%s", s->dir, name, gz ? ".gz" : "");
        if (n < 0 || (size_t)n >= sizeof path || !fs_exists(path) || fs_is_dir(path))
            continue;
        *found = true;
        TRY(archive_open(path, &s->in->own, err));
        return open_member(s->in->own, 0, s->in, err);
    }
    return SPT_OK;
}

/* Source `i`, and of an archive the member. */
static spt_status input_open(struct preparing *p, size_t i, const char *member, struct input *in,
                             spt_err *err)
{
    const struct prepare_source *s = &p->set->source[i];
    archive *a = p->from_file ? p->source[0] : p->source[i];
    const char *names = member ? member : s->file;
    struct search search = {in, a, p->o->from};
    bool found;
    if (!a) {
        TRY(each_name(names, try_path, &search, &found, err));
        return found ? SPT_OK
                     : err_set(err, SPT_E_NOTFOUND, "%s holds neither %s nor %.*s", p->o->from,
                               s->file, (int)strcspn(names, "|"), names);
    }
    if (archive_kind(a) == ARCHIVE_FILE || archive_kind(a) == ARCHIVE_GZIP) {
        if (member && prepare_sources(p->set) == 1 && prepare_splits(p->set) > 1)
            return err_set(err, SPT_E_FORMAT, "%s is no archive: %s holds %s and the other splits",
                           archive_path(a), s->file, member);
        return open_member(a, 0, in, err);
    }
    TRY(each_name(names, try_member, &search, &found, err));
    char first[MAX_PATH];
    size_t unused;
    snprintf(first, sizeof first, "%.*s", (int)strcspn(names, "|"), names);
    return found ? SPT_OK : archive_find(a, first, &unused, err);
}

/* --- examples --------------------------------------------------------------------------------- */

static spt_status polled(struct preparing *p, spt_err *err)
{
    if (p->seen++ % POLL == 0 && p->o->stop && p->o->stop())
        return err_set(err, SPT_E_INTERRUPTED, "stopped; nothing was written");
    return SPT_OK;
}

static spt_status add_keyed(void *ctx, const char *key, record *r, spt_err *err)
{
    struct preparing *p = ctx;
    TRY(polled(p, err));
    return tfds_writer_add(p->writer, p->split->name, r, key, err);
}

/* GLUE and SuperGLUE sort by their numbers. */
static spt_status add_numbered(void *ctx, record *r, spt_err *err)
{
    struct preparing *p = ctx;
    char key[MAX_KEY];
    int64_t v[3], label;
    if (record_find(r, "idx/answer")) {
        TRY(record_int(r, "idx/paragraph", &v[0], err));
        TRY(record_int(r, "idx/question", &v[1], err));
        TRY(record_int(r, "idx/answer", &v[2], err));
        snprintf(key, sizeof key, "%lld_%lld_%lld", (long long)v[0], (long long)v[1],
                 (long long)v[2]);
    } else {
        TRY(record_int(r, record_find(r, "idx/query") ? "idx/query" : "idx", &v[0], err));
        snprintf(key, sizeof key, "%lld", (long long)v[0]);
        if (p->set->kind == PREPARE_SUPER_GLUE && strcmp(p->split->name, "test") != 0 &&
            record_find(r, "label") && !record_int(r, "label", &label, NULL) && label < 0)
            return err_set(err, SPT_E_FORMAT, "no label (only the test split may lack them)");
    }
    return add_keyed(p, key, r, err);
}

static spt_status read_mrpc(struct preparing *p, struct input *in, spt_err *err)
{
    struct input ids = {0};
    if (strcmp(p->split->raw, "test") == 0)
        return raw_glue_stream("glue", "mrpc", "test", in->name, archive_stream_read, in->stream,
                               add_numbered, p, err);
    spt_status st = input_open(p, 2, "mrpc_dev_ids.tsv|MRPC/dev_ids.tsv", &ids, err);
    if (!st)
        st = mrpc_stream(p->split->raw, in->name, archive_stream_read, in->stream,
                         archive_stream_read, ids.stream, add_numbered, p, err);
    input_close(&ids);
    return st;
}

static spt_status read_split(struct preparing *p, struct input *in, spt_err *err)
{
    const char *slash = strchr(p->set->name, '/'), *config = slash ? slash + 1 : "";
    switch (p->set->kind) {
    case PREPARE_GLUE:
        return raw_glue_stream("glue", config, p->split->raw, in->name, archive_stream_read,
                               in->stream, add_numbered, p, err);
    case PREPARE_MRPC:
        return read_mrpc(p, in, err);
    case PREPARE_SUPER_GLUE:
        return raw_glue_stream("super_glue", config, p->split->raw, in->name, archive_stream_read,
                               in->stream, add_numbered, p, err);
    case PREPARE_SQUAD:
        return raw_squad_stream(strcmp(config, "v2.0") == 0, in->name, archive_stream_read,
                                in->stream, add_keyed, p, err);
    case PREPARE_DPR:
        return raw_dpr_stream(in->name, archive_stream_read, in->stream, add_keyed, p, err);
    case PREPARE_MRQA:
        return raw_mrqa_stream(p->split->raw, in->name, archive_stream_read, in->stream, add_keyed,
                               p, err);
    }
    return SPT_OK;
}

static spt_status prepare_split(struct preparing *p, size_t i, struct prepare_result *out,
                                spt_err *err)
{
    struct input in = {0};
    p->split = &p->set->split[i];
    spt_status st = input_open(p, (size_t)p->split->source, p->split->member, &in, err);
    if (!st)
        st = read_split(p, &in, err);
    if (!st)
        out->examples[i] = tfds_writer_count(p->writer, p->split->name);
    if (!st && !out->examples[i])
        st = err_set(err, SPT_E_FORMAT, "%s has no examples for split %s", in.name, p->split->name);
    input_close(&in);
    return st;
}

static spt_status prepare_all(struct preparing *p, struct prepare_result *out, spt_err *err)
{
    TRY(open_sources(p, err));
    tfds_writer_features(p->writer, p->set->feature, prepare_features(p->set), p->set->description);
    out->splits = prepare_splits(p->set);
    for (size_t i = 0; i < out->splits; i++)
        TRY(prepare_split(p, i, out, err));
    return SPT_OK;
}

/* Another process may have been faster: then its work counts. */
static spt_status commit(struct preparing *p, const char *info, struct prepare_result *out,
                         spt_err *err)
{
    tfds_writer *w = p->writer;
    p->writer = NULL;
    const spt_status st = tfds_writer_commit(w, 0, err);
    out->existed = st == SPT_E_IO && fs_exists(info);
    return out->existed ? SPT_OK : st;
}

spt_status prepare_run(const struct prepare_set *s, const struct prepare_options *o,
                       struct prepare_result *out, spt_err *err)
{
    struct preparing p = {.set = s, .o = o};
    char name[MAX_KEY], info[2 * MAX_PATH];
    *out = (struct prepare_result){0};
    snprintf(name, sizeof name, "%s:%s", s->name, o->version);
    TRY(tfds_writer_new(o->out, name, &p.writer, err));
    snprintf(info, sizeof info, "%s/dataset_info.json", tfds_writer_dir(p.writer));
    out->existed = fs_exists(info);
    spt_status st = out->existed ? SPT_OK : tfds_writer_claim(p.writer, err);
    if (!st && !out->existed && fs_exists(tfds_writer_dir(p.writer)))
        st = err_set(err, SPT_E_IO, "%s exists and is no prepared data set; remove it",
                     tfds_writer_dir(p.writer));
    if (!st && !out->existed)
        st = prepare_all(&p, out, err);
    if (!st && !out->existed)
        st = commit(&p, info, out, err);
    tfds_writer_abort(p.writer);
    for (size_t i = 0; i < PREPARE_MAX_SOURCES; i++)
        archive_close(p.source[i]);
    return st;
}
