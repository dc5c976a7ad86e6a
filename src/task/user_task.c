/* A user's task: checked and copied once, so that everything that can be wrong about a definition
 * is said before a file is opened; then formatted by the same templates as `spt train --input`. */
#include "task/user_task.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "task/user_internal.h"

enum { MAX_COPIES = 1 << 20, MAX_TEXT = 64 << 20, MAX_FIELDS = 256 };

/* --- names that mean something -------------------------------------------------------------- */

static const struct {
    const char *name;
    enum task_answer_kind answer;
} postprocessors[] = {
    {"label", ANSWER_CLASS}, {"number", ANSWER_FLOAT}, {"text", ANSWER_TEXT},
    {"answers", ANSWER_QA},  {"none", ANSWER_NONE},
};

enum wants { WANTS_ANY, WANTS_LABEL, WANTS_NUMBER, WANTS_TEXT, WANTS_ANSWERS };

static const struct {
    const char *name;
    unsigned bit;
    enum wants wants;
} metrics[] = {
    {"accuracy", METRIC_ACCURACY, WANTS_ANY},
    {"f1", METRIC_F1, WANTS_LABEL},
    {"mean_multiclass_f1", METRIC_MEAN_F1, WANTS_LABEL},
    {"matthews_corrcoef", METRIC_MATTHEWS, WANTS_LABEL},
    {"pearson_corrcoef", METRIC_PEARSON, WANTS_NUMBER},
    {"spearman_corrcoef", METRIC_SPEARMAN, WANTS_NUMBER},
    {"squad", METRIC_SQUAD, WANTS_ANSWERS},
    {"rouge", METRIC_ROUGE, WANTS_TEXT},
    {"bleu", METRIC_BLEU, WANTS_TEXT},
    {"edit_distance", METRIC_EDIT, WANTS_TEXT},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

const char *task_hook_kind(enum task_hook_kind kind)
{
    static const char *const names[] = {"preprocessor", "postprocessor", "metric"};
    return names[kind];
}

bool task_hook_is_builtin(enum task_hook_kind kind, const char *name)
{
    for (size_t i = 0; kind == HOOK_POSTPROCESSOR && i < COUNT(postprocessors); i++)
        if (strcmp(postprocessors[i].name, name) == 0)
            return true;
    for (size_t i = 0; kind == HOOK_METRIC && i < COUNT(metrics); i++)
        if (strcmp(metrics[i].name, name) == 0)
            return true;
    return false;
}

/* "label, number, text, mine" */
static void list_names(const task_registry *r, enum task_hook_kind kind, buf *out)
{
    for (size_t i = 0; kind == HOOK_POSTPROCESSOR && i < COUNT(postprocessors); i++)
        buf_addf(out, "%s%s", out->len ? ", " : "", postprocessors[i].name);
    for (size_t i = 0; kind == HOOK_METRIC && i < COUNT(metrics); i++)
        buf_addf(out, "%s%s", out->len ? ", " : "", metrics[i].name);
    const struct task_hook *h;
    for (size_t i = 0; (h = registry_hook_at(r, i)) != NULL; i++)
        if (h->kind == kind)
            buf_addf(out, "%s%s", out->len ? ", " : "", h->name);
}

static spt_status unknown_name(const task_registry *r, const struct user_task *u,
                               enum task_hook_kind kind, const char *name, spt_err *err)
{
    buf names;
    buf_init(&names, 300);
    list_names(r, kind, &names);
    err_set(err, SPT_E_CONFIG, "task %s: there is no %s '%s'%s%s%s", u->name, task_hook_kind(kind),
            name, names.len ? " (there are " : " (plug-ins bring them: --plugin FILE.so)",
            buf_str(&names), names.len ? ")" : "");
    buf_release(&names);
    return SPT_E_CONFIG;
}

/* --- copies ----------------------------------------------------------------------------------- */

struct copying {
    task_registry *r;
    bool failed;
};

static const char *copy(struct copying *c, const char *s)
{
    const char *kept = registry_keep_text(c->r, s);
    c->failed |= s && !kept;
    return kept;
}

static void *room(struct copying *c, size_t n, size_t size)
{
    void *p = n < MAX_COPIES ? registry_keep(c->r, (n + 1) * size) : NULL;
    c->failed |= !p;
    return p;
}

static spt_status copy_spec(task_registry *r, const struct user_task *u, struct user_task *to,
                            spt_err *err)
{
    struct copying c = {r, false};
    *to = *u;
    struct task_file *file = room(&c, u->files, sizeof *file);
    const char **label = room(&c, u->labels, sizeof *label);
    struct task_word *word = room(&c, u->words, sizeof *word);
    if (c.failed)
        return err_nomem(err, u->labels);
    for (size_t i = 0; i < u->files; i++)
        file[i] = (struct task_file){copy(&c, u->file[i].split), copy(&c, u->file[i].path)};
    for (size_t i = 0; i < u->labels; i++)
        label[i] = copy(&c, u->label[i]);
    for (size_t i = 0; i < u->words; i++)
        word[i] = (struct task_word){copy(&c, u->word[i].from), copy(&c, u->word[i].to)};
    to->file = file;
    to->label = label;
    to->word = word;
    to->name = copy(&c, u->name);
    to->dataset = copy(&c, u->dataset);
    to->input = copy(&c, u->input);
    to->target = copy(&c, u->target);
    to->answers = copy(&c, u->answers);
    to->separator = copy(&c, u->separator ? u->separator : "|||");
    to->preprocessor = copy(&c, u->preprocessor);
    to->postprocessor = copy(&c, u->postprocessor);
    to->metric = NULL; /* resolved */
    return c.failed ? err_nomem(err, u->labels) : SPT_OK;
}

static spt_status keep_hook(task_registry *r, const struct task_hook *h,
                            const struct task_hook **out, spt_err *err)
{
    struct task_hook *kept = registry_keep(r, sizeof *kept);
    if (!kept)
        return err_nomem(err, sizeof *kept);
    *kept = *h;
    *out = kept;
    return SPT_OK;
}

/* --- checks ----------------------------------------------------------------------------------- */

static spt_status check_files(const struct user_task *u, spt_err *err)
{
    if (!u->files && !u->dataset)
        return err_set(err, SPT_E_CONFIG,
                       "task %s has no data: give train, validation or test a file, or dataset a "
                       "prepared data set",
                       u->name);
    for (size_t i = 0; i < u->files; i++) {
        const char *s = u->file[i].split;
        if (!*s || strpbrk(s, "[]/ +") || !u->file[i].path || !*u->file[i].path)
            return err_set(err, SPT_E_CONFIG, "task %s: split '%s' of '%s'", u->name, s,
                           u->file[i].path ? u->file[i].path : "");
        if (!u->dataset && strcmp(u->file[i].path, "-") == 0)
            return err_set(err, SPT_E_CONFIG,
                           "task %s: standard input cannot be a split, it can be read only once",
                           u->name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(u->file[k].split, s) == 0)
                return err_set(err, SPT_E_CONFIG, "task %s has two files for split '%s'", u->name,
                               s);
    }
    return SPT_OK;
}

static spt_status check_labels(const struct user_task *u, spt_err *err)
{
    for (size_t i = 0; i < u->labels; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(u->label[k], u->label[i]) == 0)
                return err_set(err, SPT_E_CONFIG, "task %s names the label '%s' twice", u->name,
                               u->label[i]);
    for (size_t i = 0; i < u->words; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(u->word[k].from, u->word[i].from) == 0)
                return err_set(err, SPT_E_CONFIG, "task %s replaces '%s' twice", u->name,
                               u->word[i].from);
    return SPT_OK;
}

static spt_status set_answer(task_registry *r, const struct user_task *u, struct task *t,
                             struct task_user *k, spt_err *err)
{
    const char *name = u->postprocessor;
    t->answer = u->labels ? ANSWER_CLASS : u->answers ? ANSWER_QA : ANSWER_TEXT;
    if (!name)
        return SPT_OK;
    for (size_t i = 0; i < COUNT(postprocessors); i++) {
        if (strcmp(postprocessors[i].name, name) != 0)
            continue;
        t->answer = postprocessors[i].answer;
        if (t->answer == ANSWER_CLASS && !u->labels)
            return err_set(err, SPT_E_CONFIG, "task %s: postprocessor 'label' needs labels",
                           u->name);
        return SPT_OK;
    }
    const struct task_hook *h = task_hook_find(r, HOOK_POSTPROCESSOR, name);
    if (!h)
        return unknown_name(r, u, HOOK_POSTPROCESSOR, name, err);
    t->answer = ANSWER_CODE;
    return keep_hook(r, h, &k->postprocessor, err);
}

static bool fits(enum task_answer_kind answer, enum wants wants)
{
    if (answer == ANSWER_CODE || wants == WANTS_ANY)
        return answer != ANSWER_FLOAT && answer != ANSWER_NONE;
    return wants == WANTS_LABEL    ? answer == ANSWER_CLASS
           : wants == WANTS_NUMBER ? answer == ANSWER_FLOAT
           : wants == WANTS_TEXT   ? answer == ANSWER_TEXT || answer == ANSWER_QA
                                   : answer == ANSWER_QA;
}

static spt_status add_metric(task_registry *r, const struct user_task *u, const char *name,
                             struct task *t, struct task_user *k, spt_err *err)
{
    static const char *const needs[] = {"a label, a text or code", "labels",
                                        "postprocessor 'number'", "texts", "answers"};
    for (size_t i = 0; i < COUNT(metrics); i++) {
        if (strcmp(metrics[i].name, name) != 0)
            continue;
        if (!fits(t->answer, metrics[i].wants))
            return err_set(err, SPT_E_CONFIG, "task %s: metric '%s' needs %s", u->name, name,
                           needs[metrics[i].wants]);
        if (metrics[i].bit == METRIC_F1 && u->labels != 2 && t->answer != ANSWER_CODE)
            return err_set(err, SPT_E_CONFIG,
                           "task %s: metric 'f1' is of two labels, the task has %zu (use "
                           "mean_multiclass_f1)",
                           u->name, u->labels);
        if (metrics[i].bit == METRIC_MEAN_F1 && u->labels < 2)
            return err_set(err, SPT_E_CONFIG, "task %s: metric '%s' needs labels", u->name, name);
        t->metrics |= metrics[i].bit;
        return SPT_OK;
    }
    const struct task_hook *h = task_hook_find(r, HOOK_METRIC, name);
    if (!h)
        return unknown_name(r, u, HOOK_METRIC, name, err);
    if (t->answer == ANSWER_NONE)
        return err_set(err, SPT_E_CONFIG, "task %s: postprocessor 'none' leaves nothing to '%s'",
                       u->name, name);
    t->metrics |= METRIC_CODE;
    return keep_hook(r, h, &k->metric[k->metrics++], err);
}

static spt_status set_metrics(task_registry *r, const struct user_task *u, struct task *t,
                              struct task_user *k, spt_err *err)
{
    k->metric = registry_keep(r, (u->metrics + 1) * sizeof *k->metric);
    if (!k->metric)
        return err_nomem(err, u->metrics);
    for (size_t i = 0; i < u->metrics; i++)
        TRY(add_metric(r, u, u->metric[i], t, k, err));
    return SPT_OK;
}

/* --- templates ---------------------------------------------------------------------------------
 */

static spt_status parse_one(const struct user_task *u, const char *what, const char *text,
                            text_template **out, spt_err *err)
{
    if (!text)
        return SPT_OK;
    const spt_status st = template_parse(text, strlen(text), out, err);
    return st ? err_wrap(err, st, "task %s: %s", u->name, what) : SPT_OK;
}

static spt_status note_fields(struct task_user *k, const text_template *t, spt_err *err)
{
    for (size_t i = 0; t && i < template_fields(t); i++) {
        const char *name = template_field(t, i);
        size_t j = 0;
        while (j < k->fields && strcmp(k->field[j], name) != 0)
            j++;
        if (j < k->fields)
            continue;
        if (k->fields == MAX_FIELDS)
            return err_set(err, SPT_E_CONFIG, "task %s uses more than %d columns", k->spec.name,
                           (int)MAX_FIELDS);
        k->field[k->fields++] = name;
    }
    return SPT_OK;
}

static spt_status set_templates(task_registry *r, const struct user_task *u, struct task_user *k,
                                spt_err *err)
{
    if (u->preprocessor) {
        const struct task_hook *h = task_hook_find(r, HOOK_PREPROCESSOR, u->preprocessor);
        if (!h)
            return unknown_name(r, u, HOOK_PREPROCESSOR, u->preprocessor, err);
        if (u->input || u->target || u->answers || u->words)
            return err_set(err, SPT_E_CONFIG,
                           "task %s has a preprocessor and templates: one of them writes the texts",
                           u->name);
        return keep_hook(r, h, &k->preprocessor, err);
    }
    if (!u->input || !u->target)
        return err_set(err, SPT_E_CONFIG, "task %s needs %s, a template such as '%s'", u->name,
                       u->input ? "target" : "input", u->input ? "{label}" : "review: {text}");
    TRY(parse_one(u, "input", u->input, &k->input, err));
    TRY(parse_one(u, "target", u->target, &k->target, err));
    TRY(parse_one(u, "answers", u->answers, &k->answers, err));
    if (!template_fields(k->input))
        return err_set(err, SPT_E_CONFIG, "task %s: the input names no column, e.g. {text}",
                       u->name);
    k->field = registry_keep(r, MAX_FIELDS * sizeof *k->field);
    if (!k->field)
        return err_nomem(err, MAX_FIELDS);
    TRY(note_fields(k, k->input, err));
    TRY(note_fields(k, k->target, err));
    return note_fields(k, k->answers, err);
}

void task_user_release(struct task_user *u)
{
    template_free(u->input);
    template_free(u->target);
    template_free(u->answers);
    u->input = u->target = u->answers = NULL;
}

/* Splits of a prepared data set, or of the files. */
static spt_status set_splits(task_registry *r, const struct task_user *k, struct task *t,
                             spt_err *err)
{
    struct task_split *split = registry_keep(r, (k->spec.files + 1) * sizeof *split);
    if (!split)
        return err_nomem(err, k->spec.files);
    for (size_t i = 0; i < k->spec.files; i++)
        split[i] = (struct task_split){
            k->spec.file[i].split, k->spec.dataset ? k->spec.file[i].path : k->spec.file[i].split};
    t->split = split;
    t->splits = k->spec.files;
    t->dataset = k->spec.dataset;
    return SPT_OK;
}

spt_status task_registry_add(task_registry *r, const struct user_task *u, spt_err *err)
{
    struct task t = {.name = u->name,
                     .module = MODULE_USER,
                     .vocabulary = u->vocabulary,
                     .text = TEXT_USER,
                     .sentinel = -1,
                     .cached = true,
                     .examples = true};
    TRY(check_files(u, err));
    TRY(check_labels(u, err));
    struct task_user *k = registry_keep(r, sizeof *k);
    if (!k)
        return err_nomem(err, sizeof *k);
    TRY(copy_spec(r, u, &k->spec, err));
    k->told = registry_keep(r, (u->files + 1) * sizeof *k->told);
    if (!k->told)
        return err_nomem(err, u->files);
    t.user = k;
    spt_status st = set_templates(r, u, k, err);
    if (!st)
        st = set_answer(r, u, &t, k, err);
    if (!st)
        st = set_metrics(r, u, &t, k, err);
    if (!st)
        st = set_splits(r, k, &t, err);
    if (!st)
        st = registry_add_task(r, &t, err);
    if (st)
        task_user_release(k);
    return st;
}

bool task_has_files(const struct task *t)
{
    return t->user && !t->user->spec.dataset;
}

/* --- formatting ---------------------------------------------------------------------------------
 */

struct filling {
    const text_template *t;
    const record *raw;
    char number[64];
};

/* Numbers of prepared data sets are written as Python's str() writes integers; reals as %.17g. */
static spt_status field_value(void *ctx, size_t field, const char **text, size_t *len, spt_err *err)
{
    struct filling *f = ctx;
    const char *name = template_field(f->t, field);
    const struct record_field *v = record_find(f->raw, name);
    if (!v)
        return err_set(err, SPT_E_CONFIG, "the examples have no field '%s'", name);
    switch (v->kind) {
    case FIELD_TEXT:
        *text = v->u.text[0].s;
        *len = v->u.text[0].len;
        return SPT_OK;
    case FIELD_INT:
        *len = (size_t)snprintf(f->number, sizeof f->number, "%lld", (long long)v->u.ints[0]);
        break;
    case FIELD_FLOAT:
        *len = (size_t)snprintf(f->number, sizeof f->number, "%.17g", v->u.floats[0]);
        break;
    default:
        return err_set(err, SPT_E_CONFIG, "field '%s' is a list, which a template cannot write",
                       name);
    }
    *text = f->number;
    return SPT_OK;
}

static spt_status render(const text_template *t, const record *raw, buf *out, spt_err *err)
{
    struct filling f = {.t = t, .raw = raw};
    buf_clear(out);
    TRY(template_render_with(t, field_value, &f, out, err));
    return buf_status(out, "text", err);
}

int64_t user_class(const struct task_user *u, const char *s, size_t len)
{
    for (size_t i = 0; i < u->spec.labels; i++)
        if (strlen(u->spec.label[i]) == len && memcmp(u->spec.label[i], s, len) == 0)
            return (int64_t)i;
    return -1;
}

static spt_status set_target(const struct task_user *u, buf *text, record *out, spt_err *err)
{
    const char *s = buf_str(text);
    size_t len = text->len;
    for (size_t i = 0; i < u->spec.words; i++) {
        if (strlen(u->spec.word[i].from) != len || memcmp(u->spec.word[i].from, s, len) != 0)
            continue;
        s = u->spec.word[i].to;
        len = strlen(s);
        break;
    }
    if (u->spec.labels && user_class(u, s, len) < 0)
        return err_set(err, SPT_E_FORMAT,
                       "the target '%.*s' is none of the %zu labels of task %s (the first is '%s')",
                       len > 60 ? 60 : (int)len, s, u->spec.labels, u->spec.name, u->spec.label[0]);
    return record_set_text(out, "targets", s, len, err);
}

static spt_status set_answers(const struct task_user *u, const buf *text, record *out, spt_err *err)
{
    const char *s = buf_str(text), *bar = u->spec.separator;
    const size_t step = strlen(bar);
    size_t n = 1;
    for (const char *p = s; step && (p = strstr(p, bar)); p += step)
        n++;
    struct field_text *list = record_alloc(out, n * sizeof *list);
    if (!list)
        return err_nomem(err, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const char *end = step ? strstr(s, bar) : NULL;
        const size_t len = end ? (size_t)(end - s) : (size_t)(buf_str(text) + text->len - s);
        list[i] = (struct field_text){s, len};
        s = end ? end + step : s + len;
    }
    return record_set_texts(out, "answers", list, n, err);
}

spt_status user_format(const struct task *t, const record *raw, buf *text, record *out,
                       spt_err *err)
{
    const struct task_user *u = t->user;
    struct field_text target;
    TRY(render(u->input, raw, text, err));
    TRY(record_set_buf(out, "inputs", text, err));
    TRY(render(u->target, raw, text, err));
    TRY(set_target(u, text, out, err));
    if (u->answers) {
        TRY(render(u->answers, raw, text, err));
        return set_answers(u, text, out, err);
    }
    if (t->answer != ANSWER_QA)
        return SPT_OK;
    TRY(record_text(out, "targets", &target, err));
    return record_set_texts(out, "answers", &target, 1, err);
}
