/* `spt tasks`, `spt find-module`: what the registry of tasks and modules holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/reference/gin_job.h"
#include "run/places.h"
#include "run/reference/task_data.h"
#include "text/json.h"

enum { OUTPUT_MAX = 64 << 20, SHOWN_IDS = 1 << 20 };

/* --- listing ------------------------------------------------------------------------------------- */

static void put_metrics(buf *out, const struct task *t)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{METRIC_ACCURACY, "accuracy"}, {METRIC_F1, "f1"},
                 {METRIC_MATTHEWS, "matthews"}, {METRIC_PEARSON, "pearson"},
                 {METRIC_SPEARMAN, "spearman"}, {METRIC_MEAN_F1, "mean_f1"},
                 {METRIC_MULTIRC, "multirc"},   {METRIC_SQUAD, "squad"},
                 {METRIC_RECORD, "record"},     {METRIC_ROUGE, "rouge"},
                 {METRIC_RANK, "rank"},         {METRIC_RANK_NORMED, "rank_normed"},
                 {METRIC_BLEU, "bleu"},         {METRIC_EDIT, "edit_distance"},
                 {METRIC_CODE, "plug-in"}};
    bool some = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (t->metrics & names[i].bit) {
            buf_addf(out, "%s%s", some ? "," : "", names[i].name);
            some = true;
        }
    if (!some)
        buf_adds(out, "-");
}

static void put_task(buf *out, const struct task *t)
{
    buf_addf(out, "%s\ttask\t%s\t", t->name, t->dataset ? t->dataset : "-");
    for (size_t i = 0; i < t->splits; i++)
        buf_addf(out, "%s%s", i ? "," : "", t->split[i].name);
    buf_addf(out, "%s\t", t->splits ? "" : "*");
    put_metrics(out, t);
    buf_addc(out, '\n');
}

static void put_mixture(buf *out, const struct mixture *m)
{
    buf_addf(out, "%s\tmixture\t", m->name);
    for (size_t i = 0; i < m->members; i++)
        buf_addf(out, "%s%s:%g", i ? "," : "", m->member[i].name, m->member[i].rate);
    buf_addc(out, '\n');
}

static spt_status list(const struct task_env *e, const char *part, struct run_output *out,
                       spt_err *err)
{
    buf text;
    size_t n = 0;
    buf_init(&text, OUTPUT_MAX);
    for (size_t i = 0; i < task_count(e->registry); i++)
        if (strstr(task_at(e->registry, i)->name, part)) {
            put_task(&text, task_at(e->registry, i));
            n++;
        }
    for (size_t i = 0; i < mixture_count(e->registry); i++)
        if (strstr(mixture_at(e->registry, i)->name, part)) {
            put_mixture(&text, mixture_at(e->registry, i));
            n++;
        }
    const spt_status st = n ? output_text(out, &text, err)
                            : err_set(err, SPT_E_CHECK, "no task or mixture has \"%s\" in its name",
                                      part);
    buf_release(&text);
    return st;
}

/* --- showing -------------------------------------------------------------------------------------- */

static spt_status open_vocabulary(const struct settings *s, vocab **out, spt_err *err)
{
    struct vocab_opts o;
    char *path = NULL;
    TRY(place_vocab(s, &path, err));
    vocab_opts_init(&o);
    o.rule = !strcmp(path, "bytes") ? VOCAB_BYTES : VOCAB_SEQIO;
    const spt_status st = vocab_open(path, &o, out, err);
    mem_free(path);
    return st;
}

static void put_ids(json_writer *w, const char *name, const int32_t *ids, size_t n)
{
    json_key(w, name);
    json_begin_array(w);
    for (size_t i = 0; i < n && i < SHOWN_IDS; i++)
        json_i64(w, ids[i]);
    json_end_array(w);
}

/* One JSON object a line: the task's name, every feature, the ids that the model gets. */
static spt_status show(const struct settings *s, const struct task_env *e, const char *name,
                       struct run_output *out, spt_err *err)
{
    const struct pipeline_options o = {
        .name = name,
        .split = s->split && s->split[0] ? s->split : "train",
        .tfds_dir = e->dir,
        .raw_dir = e->dir,
        .vocabulary = e->vocab,
        .max_input = s->max_input,
        .max_target = s->max_target,
        .epochs = 1,
    };
    pipeline *p;
    buf near;
    buf_init(&near, 1024);
    if (!task_find(e->registry, name) && !mixture_find(e->registry, name)) {
        task_suggest(e->registry, name, &near);
        const spt_status st = err_set(err, SPT_E_CONFIG, "there is no task or mixture \"%s\"%s%s",
                                      name, near.len ? "; did you mean " : "", buf_str(&near));
        buf_release(&near);
        return st;
    }
    TRY(task_env_prepare(e, name, o.split, false, err));
    TRY(pipeline_open(e->registry, &o, &p, err));
    spt_status st = SPT_OK;
    for (int64_t i = 0; !st && i < s->show; i++) {
        struct task_example x;
        bool more;
        buf line;
        json_writer w;
        st = pipeline_next(p, &x, &more, err);
        if (st || !more)
            break;
        buf_init(&line, OUTPUT_MAX);
        json_write_init(&w, &line, JSON_SPACED);
        json_begin_object(&w);
        json_key(&w, "task");
        json_string(&w, x.task->name);
        for (size_t k = 0; k < x.fields->fields; k++) {
            json_key(&w, x.fields->field[k].name);
            record_field_json(&x.fields->field[k], &w);
        }
        put_ids(&w, "inputs", x.input, x.input_len);
        put_ids(&w, "targets", x.target, x.target_len);
        json_end_object(&w);
        buf_addc(&line, '\n');
        st = output_text(out, &line, err);
        buf_release(&line);
    }
    pipeline_close(p);
    return st;
}

spt_status run_tasks_job(struct gin_job *j, spt_err *err)
{
    const struct settings *s = j->s;
    const bool shows = s->arguments && !strcmp(s->argument[0], "show");
    const char *dir = j->flags->tfds_data_dir;
    struct task_env e = {0};
    vocab *v = NULL;
    if (s->arguments > (shows ? 2u : 1u) || (shows && s->arguments < 2))
        return err_set(err, SPT_E_USAGE, "wanted `spt tasks [NAME-PART]` or `spt tasks show NAME`");
    if (shows)
        TRY(open_vocabulary(s, &v, err));
    task_env_open(&e, extensions_tasks(j->x), dir && *dir ? dir : s->tfds_dir, v);
    const spt_status st = shows ? show(s, &e, s->argument[1], j->out, err)
                                : list(&e, s->arguments ? s->argument[0] : "", j->out, err);
    task_env_close(&e);
    vocab_close(v);
    return st;
}

spt_status run_tasks(struct settings *s, struct run_output *out, spt_err *err)
{
    const gin_flags none = {0};
    return run_gin(&none, s, NULL, out, err);
}

/* --- modules ---------------------------------------------------------------------------------------- */

/* Whether dir/a/b exists for the module a.b; the answer takes the failure of asking. */
static bool holds(const char *dir, const char *module, buf *answer)
{
    buf path;
    buf_init(&path, 65536);
    buf_addf(&path, "%s/", dir);
    for (const char *p = module; *p; p++)
        buf_addc(&path, *p == '.' ? '/' : *p);
    const bool yes = !path.st && fs_is_dir(buf_str(&path));
    if (path.st)
        answer->st = path.st;
    buf_release(&path);
    return yes;
}

/* A module that the registry knows needs no files of its own. */
static spt_status is_known(const char *module, bool *out, spt_err *err)
{
    gin_registry *r;
    const size_t n = strlen(module);
    *out = false;
    TRY(gin_registry_upstream(&r, err));
    for (size_t i = 0; i < gin_registry_count(r); i++) {
        const char *m = gin_registry_at(r, i)->module;
        if (!strncmp(m, module, n) && (!m[n] || m[n] == '.'))
            *out = true;
    }
    gin_registry_free(r);
    return SPT_OK;
}

/* The directory that holds a plug-in's own. */
static spt_status plugin_root(const struct settings *s, buf *out, spt_err *err)
{
    extensions *x;
    TRY(extensions_open(s->plugin, &x, err));
    const char *dir = extensions_module_dir(x, s->argument[0]);
    const char *slash = dir ? strrchr(dir, '/') : NULL;
    if (dir && !strcmp(dir, "."))
        buf_adds(out, "..\n");
    else if (slash)
        buf_addf(out, "%.*s\n", slash == dir ? 1 : (int)(slash - dir), dir);
    else if (dir)
        buf_adds(out, ".\n");
    extensions_close(x);
    return SPT_OK;
}

/* The directory below which the gin files of a module lie, for --gin_search_paths. */
spt_status run_find_module(struct settings *s, struct run_output *out, spt_err *err)
{
    bool known;
    buf dirs, answer;
    if (s->arguments != 1)
        return err_set(err, SPT_E_USAGE, "wanted one module: `spt find-module prompt_tuning`");
    const char *module = s->argument[0];
    TRY(is_known(module, &known, err));
    buf_init(&dirs, 1 << 18);
    buf_init(&answer, 1 << 18);
    spt_status st = s->plugin && *s->plugin ? plugin_root(s, &answer, err) : SPT_OK;
    if (!answer.len && holds(".", module, &answer))
        buf_adds(&answer, ".\n");
    gin_config_dirs(&dirs);
    for (const char *p = buf_str(&dirs); *p && !answer.len;) {
        const size_t n = strcspn(p, "\n");
        char *dir = mem_strndup(p, n);
        if (!dir)
            answer.st = SPT_E_NOMEM;
        else if (known || holds(dir, module, &answer))
            buf_addf(&answer, "%s\n", dir);
        mem_free(dir);
        p += n + (p[n] == '\n');
    }
    if (!st)
        st = buf_status(&dirs, "directories of gin files", err);
    if (!st)
        st = buf_status(&answer, "directory", err);
    if (!st)
        st = answer.len ? output_text(out, &answer, err)
                        : err_set(err, SPT_E_NOTFOUND,
                                               "no module \"%s\": it is none of the reference's and "
                                               "there is no such directory here or among the "
                                               "installed gin files",
                                               module);
    buf_release(&dirs);
    buf_release(&answer);
    return st;
}
