/* Tasks and mixtures that gin files define: spt.Task and spt.Mixture.
 *
 * Every scope in which a parameter of spt.Task is bound defines one task:
 *
 *     reviews/spt.Task.train = 'train.tsv'
 *
 * Bindings without a scope are defaults of all of them, as gin has it; they define a task
 * themselves only when there is no scope. */
#include <stdio.h>
#include <string.h>

#include "run/extensions_internal.h"

enum { MAX_ITEMS = 100000, MOST_SCOPES = 10000 };

const gin_def gin_task_defs[] = {
    {"spt", "Task", GIN_CLASS,
     "name=None, train=None, validation=None, test=None, files=None, dataset=None, input=None, "
     "target=None, answers=None, separator='|||', labels=None, words=None, metrics=(), "
     "preprocessor=None, postprocessor=None, header='auto', format='auto', delimiter=None",
     true, "a task of your own; one per scope (docs/reference/tasks.md)"},
    {"spt", "Mixture", GIN_CLASS, "name=None, tasks, rates=None", true,
     "a mixture of your own; one per scope (docs/reference/tasks.md)"},
};
const size_t gin_task_def_count = sizeof gin_task_defs / sizeof *gin_task_defs;

/* --- scopes
 * ---------------------------------------------------------------------------------------- */

struct scopes {
    const char *path;
    char **scope;
    size_t count, cap;
    bool root;
    spt_status st;
};

static void note_scope(void *ctx, const gin_binding_info *b)
{
    struct scopes *s = ctx;
    if (s->st || !b->path || strcmp(b->path, s->path) != 0)
        return;
    if (!*b->scope) {
        s->root = true;
        return;
    }
    if (s->count && !strcmp(s->scope[s->count - 1], b->scope))
        return; /* the bindings of one configurable in one scope come together */
    if (s->count == MOST_SCOPES) {
        s->st = SPT_E_CONFIG;
        return;
    }
    s->st = mem_grow(&s->scope, &s->cap, s->count + 1, sizeof *s->scope, MAX_ITEMS, NULL);
    if (s->st)
        return;
    s->scope[s->count] = mem_strdup(b->scope);
    if (!s->scope[s->count])
        s->st = SPT_E_NOMEM;
    else
        s->count++;
}

static spt_status call_scope(gin_config *c, const char *path, const char *scope, scope_fn fn,
                             void *ctx, spt_err *err)
{
    buf name;
    gin_value object;
    buf_init(&name, 65536);
    buf_addf(&name, "%s%s%s", scope, *scope ? "/" : "", path);
    spt_status st = buf_status(&name, "scope", err);
    if (!st)
        st = gin_call(c, buf_str(&name), NULL, 0, &object, err);
    buf_release(&name);
    return st ? st : fn(ctx, scope, &object, err);
}

spt_status each_scope(gin_config *c, const char *path, bool root_too, scope_fn fn, void *ctx,
                      spt_err *err)
{
    struct scopes s = {.path = path};
    gin_each_binding(c, note_scope, &s);
    spt_status st = SPT_OK;
    if (s.st == SPT_E_CONFIG)
        st = err_set(err, s.st, "%s is bound in more than %d scopes", path, MOST_SCOPES);
    else if (s.st)
        st = err_nomem(err, s.count);
    if (!st && s.root && (root_too || !s.count))
        st = call_scope(c, path, "", fn, ctx, err);
    for (size_t i = 0; i < s.count && !st; i++)
        st = call_scope(c, path, s.scope[i], fn, ctx, err);
    for (size_t i = 0; i < s.count; i++)
        mem_free(s.scope[i]);
    mem_free(s.scope);
    return st;
}

/* --- values
 * ------------------------------------------------------------------------------------------ */

/* Reads the arguments of one object; the first failure stays. Lists are freed together. */
struct reader {
    gin_config *c;
    const gin_value *object;
    const char *scope;
    spt_status st;
    spt_err *err;
    void *made[8];
    size_t made_count;
    char numbers[64][24]; /* labels and words that are written as numbers */
    size_t numbers_used;
};

static void complain(struct reader *r, const char *name, const char *wanted)
{
    if (!r->st)
        r->st = err_set(r->err, SPT_E_CONFIG, "%s%sspt.%s.%s: wanted %s", r->scope,
                        *r->scope ? "/" : "", gin_is(r->object, "spt.Task") ? "Task" : "Mixture",
                        name, wanted);
}

static gin_value arg(struct reader *r, const char *name)
{
    gin_value v = {.kind = GIN_NONE};
    (void)gin_get(r->c, r->object, name, &v);
    return v;
}

static const char *text_arg(struct reader *r, const char *name)
{
    const gin_value v = arg(r, name);
    const char *s = gin_as_str(&v);
    if (!s && v.kind != GIN_NONE)
        complain(r, name, "a text");
    return s;
}

/* Labels may be written as numbers: [0, 1]. */
static const char *word_of(struct reader *r, const gin_value *v, const char *name)
{
    int64_t i;
    const char *s = gin_as_str(v);
    if (s)
        return s;
    if (!gin_as_int(v, &i) || r->numbers_used == sizeof r->numbers / sizeof *r->numbers) {
        complain(r, name, "texts (or a few whole numbers)");
        return "";
    }
    char *to = r->numbers[r->numbers_used++];
    snprintf(to, sizeof r->numbers[0], "%lld", (long long)i);
    return to;
}

static void *room(struct reader *r, size_t n, size_t size)
{
    void *p = r->st ? NULL : mem_zalloc(n + 1, size);
    if (!p && !r->st)
        r->st = err_nomem(r->err, n * size);
    if (p)
        r->made[r->made_count++] = p;
    return p;
}

static const char *const *list_arg(struct reader *r, const char *name, size_t *n)
{
    const gin_value v = arg(r, name);
    *n = 0;
    if (v.kind == GIN_NONE)
        return NULL;
    if (v.kind != GIN_LIST && v.kind != GIN_TUPLE) {
        complain(r, name, "a list of texts");
        return NULL;
    }
    const char **item = room(r, v.count, sizeof *item);
    for (size_t i = 0; item && i < v.count; i++)
        item[i] = word_of(r, &v.u.items[i], name);
    *n = r->st ? 0 : v.count;
    return item;
}

static void files_arg(struct reader *r, struct user_task *u)
{
    static const char *const usual[] = {"train", "validation", "test"};
    const gin_value v = arg(r, "files");
    if (v.kind != GIN_NONE && v.kind != GIN_DICT) {
        complain(r, "files", "a dictionary such as {'train': 'train.tsv'}");
        return;
    }
    const size_t more = v.kind == GIN_DICT ? v.count : 0;
    struct task_file *f = room(r, more + 3, sizeof *f);
    for (size_t i = 0; f && i < 3; i++) {
        const char *path = text_arg(r, usual[i]);
        if (path)
            f[u->files++] = (struct task_file){usual[i], path};
    }
    for (size_t i = 0; f && i < more && !r->st; i++) {
        const char *split = gin_as_str(&v.u.items[2 * i]);
        const char *path = gin_as_str(&v.u.items[2 * i + 1]);
        if (!split || !path)
            complain(r, "files", "names of splits and of files");
        else
            f[u->files++] = (struct task_file){split, path};
    }
    u->file = f;
}

static void words_arg(struct reader *r, struct user_task *u)
{
    const gin_value v = arg(r, "words");
    if (v.kind == GIN_NONE)
        return;
    if (v.kind != GIN_DICT) {
        complain(r, "words", "a dictionary such as {'0': 'negative', '1': 'positive'}");
        return;
    }
    struct task_word *w = room(r, v.count, sizeof *w);
    for (size_t i = 0; w && i < v.count; i++)
        w[i] = (struct task_word){word_of(r, &v.u.items[2 * i], "words"),
                                  word_of(r, &v.u.items[2 * i + 1], "words")};
    u->word = w;
    u->words = r->st ? 0 : v.count;
}

static int choice_arg(struct reader *r, const char *name, const char *const *choice, size_t n)
{
    const char *s = text_arg(r, name);
    buf wanted;
    for (size_t i = 0; i < n; i++)
        if (!s || strcmp(choice[i], s) == 0)
            return (int)i;
    buf_init(&wanted, 200);
    for (size_t i = 0; i < n; i++)
        buf_addf(&wanted, "%s'%s'", i ? ", " : "", choice[i]);
    complain(r, name, buf_str(&wanted));
    buf_release(&wanted);
    return 0;
}

static void release(struct reader *r)
{
    for (size_t i = 0; i < r->made_count; i++)
        mem_free(r->made[i]);
}

/* --- tasks and mixtures
 * --------------------------------------------------------------------------- */

static spt_status add_task(void *ctx, const char *scope, const gin_value *object, spt_err *err)
{
    static const char *const formats[] = {"auto", "tsv", "csv", "jsonl"};
    static const char *const headers[] = {"auto", "yes", "no"};
    struct spt_args *a = ctx;
    struct reader r = {.c = a->config, .object = object, .scope = scope, .err = err};
    extensions *x = gin_attached(a->config);
    struct user_task u = {0};
    u.name = text_arg(&r, "name");
    if (!u.name && *scope)
        u.name = scope;
    files_arg(&r, &u);
    words_arg(&r, &u);
    u.dataset = text_arg(&r, "dataset");
    u.input = text_arg(&r, "input");
    u.target = text_arg(&r, "target");
    u.answers = text_arg(&r, "answers");
    u.separator = text_arg(&r, "separator");
    u.preprocessor = text_arg(&r, "preprocessor");
    u.postprocessor = text_arg(&r, "postprocessor");
    u.label = list_arg(&r, "labels", &u.labels);
    u.metric = list_arg(&r, "metrics", &u.metrics);
    u.kind = (enum records_kind)choice_arg(&r, "format", formats, 4);
    u.header = (enum header_mode)choice_arg(&r, "header", headers, 3);
    const char *delimiter = text_arg(&r, "delimiter");
    if (!r.st && delimiter)
        r.st = records_delimiter(delimiter, &u.delimiter, err);
    if (!r.st && !u.name)
        r.st = err_set(err, SPT_E_CONFIG,
                       "spt.Task has no name: write spt.Task.name = 'NAME', or "
                       "NAME/spt.Task.train = ...");
    if (!r.st)
        r.st = task_registry_add(x->tasks, &u, err);
    release(&r);
    return r.st;
}

static spt_status add_mixture(void *ctx, const char *scope, const gin_value *object, spt_err *err)
{
    struct spt_args *a = ctx;
    struct reader r = {.c = a->config, .object = object, .scope = scope, .err = err};
    extensions *x = gin_attached(a->config);
    size_t n;
    const char *name = text_arg(&r, "name");
    const char *const *task = list_arg(&r, "tasks", &n);
    const gin_value rates = arg(&r, "rates");
    struct task_member *m = room(&r, n, sizeof *m);
    if (rates.kind != GIN_NONE &&
        ((rates.kind != GIN_LIST && rates.kind != GIN_TUPLE) || rates.count != n))
        complain(&r, "rates", "as many numbers as there are tasks");
    for (size_t i = 0; !r.st && i < n; i++) {
        m[i] = (struct task_member){task[i], 1};
        if (rates.kind != GIN_NONE && !gin_as_float(&rates.u.items[i], &m[i].rate))
            complain(&r, "rates", "numbers");
        if (!r.st && !task_find(x->tasks, task[i]) && !mixture_find(x->tasks, task[i]))
            r.st = err_set(err, SPT_E_CONFIG,
                           "%s%sspt.Mixture.tasks: there is no task or mixture '%s'", scope,
                           *scope ? "/" : "", task[i]);
    }
    if (!r.st && !name && !*scope)
        r.st = err_set(err, SPT_E_CONFIG,
                       "spt.Mixture has no name: write spt.Mixture.name = "
                       "'NAME', or NAME/spt.Mixture.tasks = ...");
    if (!r.st)
        r.st = task_registry_add_mixture(x->tasks, name ? name : scope, m, n, err);
    release(&r);
    return r.st;
}

spt_status gin_tasks_apply(extensions *x, gin_config *c, spt_err *err)
{
    struct spt_args a = {.config = c};
    TRY(each_scope(c, "spt.Task", false, add_task, &a, err));
    return each_scope(c, "spt.Mixture", false, add_mixture, &a, err);
}
