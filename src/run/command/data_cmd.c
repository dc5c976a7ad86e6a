/* `spt data`: list, info, prepare; convert is in data_convert.c. */
#include "run/command/data_cmd.h"

#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "run/data_prepare.h"
#include "task/pipeline.h"
#include "task/tfds.h"
#include "text/json.h"

enum { OUTPUT_MAX = 1 << 22, MAX_PATH = 4096, MAX_NAME = 256 };

static bool is_prepared(const char *dir, const struct prepare_set *s, const char *version)
{
    char path[MAX_PATH];
    const int n = snprintf(path, sizeof path, "%s/%s/%s/dataset_info.json", dir, s->name, version);
    return n > 0 && (size_t)n < sizeof path && fs_exists(path);
}

/* --- list ------------------------------------------------------------------------------------- */

static uint64_t published_bytes(const struct prepare_set *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < prepare_sources(s); i++)
        n += s->source[i].size;
    return n;
}

static void put_text(json_writer *w, const char *key, const char *value)
{
    json_key(w, key);
    json_string(w, value);
}

static void put_number(json_writer *w, const char *key, uint64_t value)
{
    json_key(w, key);
    json_u64(w, value);
}

static void put_versions(json_writer *w, const char *dir, const struct prepare_set *p)
{
    json_key(w, "versions");
    json_begin_array(w);
    for (size_t k = 0; p->version[k]; k++)
        json_string(w, p->version[k]);
    json_end_array(w);
    json_key(w, "prepared");
    json_begin_array(w);
    for (size_t k = 0; p->version[k]; k++)
        if (is_prepared(dir, p, p->version[k]))
            json_string(w, p->version[k]);
    json_end_array(w);
}

/* One object a line. */
static void list_json(buf *text, const char *dir, const struct prepare_set *p)
{
    json_writer w;
    json_write_init(&w, text, JSON_SPACED);
    json_begin_object(&w);
    put_text(&w, "name", p->name);
    put_text(&w, "description", p->description);
    put_number(&w, "published_bytes", published_bytes(p));
    put_versions(&w, dir, p);
    json_end_object(&w);
    buf_addc(text, '\n');
}

static spt_status run_list(const struct settings *s, struct run_output *out, const char *dir,
                           spt_err *err)
{
    const char *part = s->arguments > 1 ? s->argument[1] : "";
    buf text;
    size_t n = 0;
    (void)fs_expect_below(dir, NULL); /* in a bucket one listing answers all that follows */
    buf_init(&text, OUTPUT_MAX);
    for (size_t i = 0; i < prepare_count(); i++) {
        const struct prepare_set *p = prepare_at(i);
        if (!strstr(p->name, part))
            continue;
        n++;
        if (s->json) {
            list_json(&text, dir, p);
            continue;
        }
        buf_addf(&text, "%s\t%s", p->name, p->version[0]);
        for (size_t k = 1; p->version[k]; k++)
            buf_addf(&text, ",%s", p->version[k]);
        const double size = (double)published_bytes(p);
        buf_addf(&text, size < 1e6 ? "\t%.0f kB\t" : "\t%.1f MB\t",
                 size < 1e6 ? size / 1e3 : size / 1e6);
        bool some = false;
        for (size_t k = 0; p->version[k]; k++)
            if (is_prepared(dir, p, p->version[k])) {
                buf_addf(&text, "%s%s", some ? "," : "prepared ", p->version[k]);
                some = true;
            }
        buf_addf(&text, "%s\t%s\n", some ? "" : "-", p->description);
    }
    const spt_status st = n ? output_text(out, &text, err)
                            : err_set(err, SPT_E_CHECK,
                                      "no data set that we can prepare has \"%s\" "
                                      "in its name",
                                      part);
    buf_release(&text);
    return st;
}

/* --- names ------------------------------------------------------------------------------------ */

static const char *set_name_at(void *ctx, size_t i)
{
    (void)ctx;
    return i < prepare_count() ? prepare_at(i)->name : NULL;
}

static spt_status unknown(const char *name, spt_err *err)
{
    const char *near = nearest_word(name, set_name_at, NULL);
    return err_set(err, SPT_E_CONFIG,
                   "no data set, task or mixture that we can prepare is named \"%.100s\"%s%s (spt "
                   "data list)",
                   name, near ? "; did you mean " : "", near ? near : "");
}

typedef spt_status (*each_set_fn)(void *ctx, const struct prepare_set *s, const char *version,
                                  spt_err *err);

/* Of a task or mixture: the data sets of its members. */
static spt_status each_of_task(const task_registry *r, const char *name, each_set_fn fn, void *ctx,
                               spt_err *err)
{
    struct task_rate *member = NULL;
    size_t n = 0;
    if (!task_find(r, name) && !mixture_find(r, name))
        return unknown(name, err);
    TRY(task_members(r, name, &member, &n, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++) {
        const struct prepare_set *set;
        const char *version;
        bool again = false;
        if (!member[i].task->dataset)
            continue;
        for (size_t k = 0; k < i && !again; k++)
            again = member[k].task->dataset &&
                    strcmp(member[k].task->dataset, member[i].task->dataset) == 0;
        if (again)
            continue;
        st = prepare_find(member[i].task->dataset, &set, &version, err);
        if (st)
            err_wrap(err, st, "%s", member[i].task->name);
        else
            st = fn(ctx, set, version, err);
    }
    mem_free(member);
    return st;
}

/* "glue/sst2", "glue/sst2:1.0.0", "glue" (all of it), a task or a mixture (whose names may have a
 * colon, too). */
static spt_status each_set(const char *name, each_set_fn fn, void *ctx, spt_err *err)
{
    const struct prepare_set *set;
    const char *version;
    const size_t len = strlen(name);
    bool group = false;
    spt_err why;
    const spt_status found = prepare_find(name, &set, &version, &why);
    if (!found)
        return fn(ctx, set, version, err);
    if (strchr(name, ':') && strchr(name, '/'))
        return err_set(err, found, "%s", why.msg);
    for (size_t i = 0; i < prepare_count(); i++) {
        const struct prepare_set *p = prepare_at(i);
        if (strncmp(p->name, name, len) != 0 || p->name[len] != '/')
            continue;
        group = true;
        TRY(fn(ctx, p, p->version[0], err));
    }
    if (group)
        return SPT_OK;
    task_registry *r;
    TRY(task_registry_new(&r, err));
    const spt_status st = each_of_task(r, name, fn, ctx, err);
    task_registry_free(r);
    return st;
}

/* --- info ------------------------------------------------------------------------------------- */

struct informing {
    const char *dir;
    bool json;
    buf text;
};

static const char *const feature_kind[] = {"text",    "string", "int32",
                                           "float32", "bool",   "class"};

static void put_feature(buf *out, const struct tfds_feature *f)
{
    buf_addf(out, "  %s: %s", f->path, feature_kind[f->kind]);
    for (size_t i = 0; f->kind == FEATURE_CLASS && f->classes[i]; i++)
        if (*f->classes[i])
            buf_addf(out, "%s%s", i ? ", " : " ", f->classes[i]);
        else
            buf_addf(out, "%s%zu", i ? ", " : " ", i);
    buf_addc(out, '\n');
}

static void put_fields(json_writer *w, const struct prepare_set *s)
{
    json_key(w, "fields");
    json_begin_array(w);
    for (size_t i = 0; i < prepare_features(s); i++) {
        const struct tfds_feature *f = &s->feature[i];
        json_begin_object(w);
        put_text(w, "name", f->path);
        put_text(w, "kind", feature_kind[f->kind]);
        if (f->kind == FEATURE_CLASS) {
            json_key(w, "classes");
            json_begin_array(w);
            for (size_t k = 0; f->classes[k]; k++)
                json_string(w, f->classes[k]);
            json_end_array(w);
        }
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_splits(json_writer *w, const struct prepare_set *s)
{
    json_key(w, "splits");
    json_begin_array(w);
    for (size_t i = 0; i < prepare_splits(s); i++) {
        json_begin_object(w);
        put_text(w, "name", s->split[i].name);
        if (s->split[i].examples)
            put_number(w, "examples", s->split[i].examples);
        put_text(w, "file", s->source[s->split[i].source].file);
        json_end_object(w);
    }
    json_end_array(w);
}

static spt_status put_files(json_writer *w, const struct prepare_set *s, spt_err *err)
{
    buf path;
    spt_status st = SPT_OK;
    buf_init(&path, MAX_PATH);
    json_key(w, "files");
    json_begin_array(w);
    for (size_t i = 0; i < prepare_sources(s) && !st; i++) {
        buf_clear(&path);
        st = prepare_mirror_path(&s->source[i], &path, err);
        json_begin_object(w);
        put_text(w, "url", s->source[i].url);
        put_number(w, "bytes", s->source[i].size);
        put_text(w, "sha256", s->source[i].sha256);
        put_text(w, "in_a_mirror", buf_str(&path));
        json_end_object(w);
    }
    json_end_array(w);
    buf_release(&path);
    return st;
}

static spt_status info_json(struct informing *in, const struct prepare_set *s, const char *version,
                            spt_err *err)
{
    json_writer w;
    json_write_init(&w, &in->text, JSON_SPACED);
    json_begin_object(&w);
    put_text(&w, "name", s->name);
    put_text(&w, "version", version);
    put_text(&w, "description", s->description);
    put_versions(&w, in->dir, s);
    put_text(&w, "directory", in->dir);
    put_splits(&w, s);
    put_fields(&w, s);
    const spt_status st = put_files(&w, s, err);
    json_end_object(&w);
    buf_addc(&in->text, '\n');
    return st;
}

static spt_status put_set(void *ctx, const struct prepare_set *s, const char *version, spt_err *err)
{
    struct informing *in = ctx;
    buf *out = &in->text;
    if (in->json)
        return info_json(in, s, version, err);
    buf_addf(out, "%s%s %s: %s\n", out->len ? "\n" : "", s->name, version, s->description);
    if (is_prepared(in->dir, s, version))
        buf_addf(out, "prepared in %s/%s/%s\n", in->dir, s->name, version);
    else
        buf_addf(out, "not prepared below %s\n", in->dir);
    buf_adds(out, "versions:");
    for (size_t i = 0; s->version[i]; i++)
        buf_addf(out, " %s", s->version[i]);
    buf_adds(out, "\nsplits:\n");
    for (size_t i = 0; i < prepare_splits(s); i++) {
        const struct prepare_split *p = &s->split[i];
        buf_addf(out, "  %s: ", p->name);
        if (p->examples)
            buf_addf(out, "%llu examples, ", (unsigned long long)p->examples);
        buf_addf(out, "from %s%s%.*s\n", s->source[p->source].file, p->member ? ", " : "",
                 p->member ? (int)strcspn(p->member, "|") : 0, p->member ? p->member : "");
    }
    buf_adds(out, "fields:\n");
    for (size_t i = 0; i < prepare_features(s); i++)
        put_feature(out, &s->feature[i]);
    buf_adds(out, "published files:\n");
    for (size_t i = 0; i < prepare_sources(s); i++) {
        const struct prepare_source *f = &s->source[i];
        buf_addf(out, "  %s\n    %llu bytes, SHA-256 %s\n    in a mirror: ", f->url,
                 (unsigned long long)f->size, f->sha256);
        TRY(prepare_mirror_path(f, out, err));
        buf_addc(out, '\n');
    }
    return SPT_OK;
}

static spt_status run_info(const struct settings *s, struct run_output *out, const char *dir,
                           spt_err *err)
{
    struct informing in = {.dir = dir, .json = s->json};
    if (s->arguments != 2)
        return err_set(err, SPT_E_USAGE, "wanted one name: spt data info glue/sst2");
    buf_init(&in.text, OUTPUT_MAX);
    spt_status st = each_set(s->argument[1], put_set, &in, err);
    if (!st)
        st = output_text(out, &in.text, err);
    buf_release(&in.text);
    return st;
}

/* --- prepare ---------------------------------------------------------------------------------- */

static spt_status prepare_named(void *ctx, const struct prepare_set *set, const char *version,
                                spt_err *err)
{
    const spt_status st = data_prepare_set(ctx, set, version, err);
    return st ? err_wrap(err, st, "%s:%s", set->name, version) : SPT_OK;
}

static spt_status check_sha(const char *sha, spt_err *err)
{
    if (sha && *sha && (strlen(sha) != 64 || strspn(sha, "0123456789abcdef") != 64))
        return err_set(err, SPT_E_USAGE, "--sha256: \"%.70s\" is not 64 digits 0-9 and a-f", sha);
    return SPT_OK;
}

static spt_status run_prepare(const struct settings *s, struct run_output *out, const char *dir,
                              spt_err *err)
{
    struct data_prepare w = {.dir = dir,
                             .sha256 = s->sha256,
                             .from = s->from && *s->from ? s->from : NULL,
                             .no_verify = s->no_verify || data_unverified(),
                             .fetch = {NULL, out, s->quiet, s->no_verify || data_unverified(),
                                       s->offline || data_offline()}};
    buf path, fetched;
    if (s->arguments < 2)
        return err_set(err, SPT_E_USAGE, "which data set? (spt data prepare NAME; spt data list)");
    TRY(check_sha(s->sha256, err));
    if (s->sha256 && *s->sha256 && !w.from)
        return err_set(err, SPT_E_USAGE, "--sha256 is that of the file given with --from");
    if (w.from && !data_is_url(w.from)) {
        struct fs_info info;
        TRY(fs_stat(w.from, &info, err)); /* also where what it would make is there already */
    }
    buf_init(&path, MAX_PATH);
    buf_init(&fetched, MAX_PATH - 1024);
    spt_status st = data_fetch_dir(dir, &fetched, err);
    w.fetch.dir = buf_str(&fetched);
    if (!st && w.from && data_is_url(w.from)) {
        st = data_fetch_url(&w.fetch, w.from, s->sha256, &path, err);
        w.from = buf_str(&path);
    }
    for (size_t i = 1; i < s->arguments && !st; i++)
        st = each_set(s->argument[i], prepare_named, &w, err);
    buf_release(&path);
    buf_release(&fetched);
    return st;
}

spt_status run_data(struct settings *s, struct run_output *out, spt_err *err)
{
    static const struct {
        const char *name;
        spt_status (*run)(const struct settings *s, struct run_output *out, const char *dir,
                          spt_err *err);
    } what[] = {{"list", run_list}, {"info", run_info}, {"prepare", run_prepare}};
    buf dir;
    if (s->arguments && strcmp(s->argument[0], "convert") == 0)
        return run_data_convert(s, out, err);
    for (size_t i = 0; i < sizeof what / sizeof *what; i++) {
        if (!s->arguments || strcmp(s->argument[0], what[i].name) != 0)
            continue;
        buf_init(&dir, MAX_PATH - 1024);
        spt_status st = data_dir_path(s->output, &dir, err);
        if (!st)
            st = what[i].run(s, out, buf_str(&dir), err);
        buf_release(&dir);
        return st;
    }
    return err_set(err, SPT_E_USAGE, "wanted spt data list, info, prepare or convert");
}
