/* Loading plug-ins, and the table of functions they may call (spt/plugin.h).
 *
 * A plug-in is code that the user trusts, as a compiler is; what is checked here is what goes wrong
 * by accident: a file that is none, another ABI, an init that fails, names that clash. Nothing of a
 * plug-in runs before its ABI is known to be ours (constructors of the shared object aside), and
 * what an init registered before it failed is never used, because the command ends. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/extensions_internal.h"

enum { MAX_MESSAGE = 400, MAX_NAME = 120 };

/* --- names
 * -------------------------------------------------------------------------------------------- */

static bool is_identifier(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = s[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return len > 0 && len < MAX_NAME;
}

/* "shout.length": the plug-in's name and one word. */
static spt_status check_name(const struct spt_plugin_self *self, const char *name, spt_err *err)
{
    const size_t len = strlen(self->plugin->name);
    if (!name || strncmp(name, self->plugin->name, len) != 0 || name[len] != '.' ||
        !is_identifier(name + len + 1, strlen(name + len + 1)))
        return err_set(err, SPT_E_CONFIG, "the name '%.100s' must be '%s.' and a word",
                       name ? name : "(none)", self->plugin->name);
    return SPT_OK;
}

static spt_status new_code(struct spt_plugin_self *self, const char *name, const void *fn,
                           void *ctx, struct plugin_code **out, spt_err *err)
{
    TRY(check_name(self, name, err));
    if (!fn)
        return err_set(err, SPT_E_CONFIG, "%s has no function", name);
    struct plugin_code *k = mem_zalloc(1, sizeof *k);
    if (!k)
        return err_nomem(err, sizeof *k);
    k->owner = self;
    k->ctx = ctx;
    k->next = self->x->code;
    self->x->code = k;
    *out = k;
    return SPT_OK;
}

/* --- examples, values, scores
 * -------------------------------------------------------------------------- */

static record *record_of(spt_example *e)
{
    return (record *)(void *)e;
}

static const record *const_record(const spt_example *e)
{
    return (const record *)(const void *)e;
}

static spt_example *example_of(const record *r)
{
    return (spt_example *)(uintptr_t)r;
}

struct spt_emitter {
    task_emit_fn emit;
    void *ctx;
};

struct spt_scores {
    task_score_fn add;
    void *ctx;
    const char *metric;
};

static spt_status run_preprocess(void *ctx, const record *raw, int64_t position, record *out,
                                 task_emit_fn emit, void *emit_ctx, spt_err *err)
{
    const struct plugin_code *k = ctx;
    spt_emitter to = {emit, emit_ctx};
    record_clear(out);
    return k->fn.preprocess(k->ctx, &plugin_host, example_of(raw), position, example_of(out), &to,
                            err);
}

static spt_status run_postprocess(void *ctx, const char *text, size_t len, const record *example,
                                  bool is_target, record *scratch, struct task_value *out,
                                  spt_err *err)
{
    const struct plugin_code *k = ctx;
    spt_value v = {.label = -1, .text = text, .text_len = len};
    TRY(k->fn.postprocess(k->ctx, &plugin_host, text, len, example_of(example), is_target,
                          example_of(scratch), &v, err));
    out->label = v.label;
    out->number = v.number;
    out->text = (struct field_text){v.text ? v.text : "", v.text ? v.text_len : 0};
    return SPT_OK;
}

static void to_values(const struct task_value *from, size_t n, spt_value *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (spt_value){from[i].label, from[i].number, from[i].text.s ? from[i].text.s : "",
                            from[i].text.len};
}

static spt_status run_metric(void *ctx, const struct task_value *target,
                             const struct task_value *prediction, size_t n, task_score_fn add,
                             void *add_ctx, spt_err *err)
{
    const struct plugin_code *k = ctx;
    spt_scores to = {add, add_ctx, k->def.name};
    spt_value *v = mem_alloc(2 * n + 1, sizeof *v);
    if (!v)
        return err_nomem(err, 2 * n * sizeof *v);
    to_values(target, n, v);
    to_values(prediction, n, v + n);
    const spt_status st = k->fn.metric(k->ctx, &plugin_host, v, v + n, n, &to, err);
    mem_free(v);
    return st;
}

/* --- registering
 * ------------------------------------------------------------------------------------------ */

static spt_status add_hook(struct spt_plugin_self *self, struct task_hook h, const void *fn,
                           void *ctx, struct plugin_code **out, spt_err *err)
{
    TRY(new_code(self, h.name, fn, ctx, out, err));
    h.ctx = *out;
    (*out)->kind = CODE_HOOK;
    (*out)->def.name = mem_strdup(h.name);
    if (!(*out)->def.name)
        return err_nomem(err, strlen(h.name));
    return task_registry_add_hook(self->x->tasks, &h, err);
}

/* Functions and objects are of one size wherever shared objects can be loaded. */
#define FN(f) ((f) ? (const void *)self : NULL)

static spt_status host_add_preprocessor(spt_plugin_self *self, const char *name,
                                        spt_preprocess_fn fn, void *ctx, spt_err *err)
{
    struct plugin_code *k;
    TRY(add_hook(self,
                 (struct task_hook){
                     .kind = HOOK_PREPROCESSOR, .name = name, .run.preprocess = run_preprocess},
                 FN(fn), ctx, &k, err));
    k->fn.preprocess = fn;
    return SPT_OK;
}

static spt_status host_add_postprocessor(spt_plugin_self *self, const char *name,
                                         spt_postprocess_fn fn, void *ctx, spt_err *err)
{
    struct plugin_code *k;
    TRY(add_hook(
        self,
        (struct task_hook){.kind = HOOK_POSTPROCESSOR, .name = name, .run.answer = run_postprocess},
        FN(fn), ctx, &k, err));
    k->fn.postprocess = fn;
    return SPT_OK;
}

static spt_status host_add_metric(spt_plugin_self *self, const char *name, spt_metric_fn fn,
                                  void *ctx, spt_err *err)
{
    struct plugin_code *k;
    TRY(add_hook(self,
                 (struct task_hook){.kind = HOOK_METRIC, .name = name, .run.score = run_metric},
                 FN(fn), ctx, &k, err));
    k->fn.metric = fn;
    return SPT_OK;
}

static spt_status host_add_task(spt_plugin_self *self, const spt_plugin_task *t, spt_err *err)
{
    spt_plugin_task all = {0};
    if (!t || t->size < offsetof(spt_plugin_task, dataset))
        return err_set(err, SPT_E_CONFIG, "a task without its size");
    memcpy(&all, t, t->size < sizeof all ? t->size : sizeof all);
    struct task_file *file = mem_zalloc(all.splits + 1, sizeof *file);
    if (!file)
        return err_nomem(err, all.splits * sizeof *file);
    for (size_t i = 0; i < all.splits; i++)
        file[i] = (struct task_file){all.split[i], all.file[i]};
    const struct user_task u = {
        .name = all.name,
        .file = file,
        .files = all.splits,
        .dataset = all.dataset,
        .input = all.input,
        .target = all.target,
        .answers = all.answers,
        .label = all.label,
        .labels = all.labels,
        .preprocessor = all.preprocessor,
        .postprocessor = all.postprocessor,
        .metric = all.metric,
        .metrics = all.metrics,
    };
    const spt_status st = task_registry_add(self->x->tasks, &u, err);
    mem_free(file);
    return st;
}

static spt_status host_add_mixture(spt_plugin_self *self, const char *name, const char *const *task,
                                   const double *rate, size_t n, spt_err *err)
{
    struct task_member *m = mem_zalloc(n + 1, sizeof *m);
    if (!m)
        return err_nomem(err, n * sizeof *m);
    for (size_t i = 0; i < n; i++)
        m[i] = (struct task_member){task[i], rate ? rate[i] : 1};
    const spt_status st = task_registry_add_mixture(self->x->tasks, name, m, n, err);
    mem_free(m);
    return st;
}

static spt_status add_definition(spt_plugin_self *self, const char *name, const char *signature,
                                 const void *fn, void *ctx, struct plugin_code **out, spt_err *err)
{
    if (!self->initializing)
        return err_set(err, SPT_E_CONFIG, "%s: configurables are added by init only",
                       name ? name : "(none)");
    for (const struct plugin_code *k = self->x->code; k; k = k->next)
        if (name && k->def.module && k->owner == self &&
            strcmp(k->def.name, name + strlen(k->def.module) + 1) == 0)
            return err_set(err, SPT_E_CONFIG, "%s is registered twice", name);
    TRY(new_code(self, name, fn, ctx, out, err));
    struct plugin_code *k = *out;
    k->kind = CODE_HOOK; /* until it is complete */
    k->def = (gin_def){mem_strdup(self->plugin->name),
                       mem_strdup(name + strlen(self->plugin->name) + 1),
                       GIN_FUNCTION,
                       mem_strdup(signature ? signature : ""),
                       true,
                       "of a plug-in"};
    return k->def.module && k->def.name && k->def.signature ? SPT_OK : err_nomem(err, MAX_NAME);
}

static spt_status host_add_initializer(spt_plugin_self *self, const char *name,
                                       const char *signature, spt_initialize_fn fn, void *ctx,
                                       spt_err *err)
{
    struct plugin_code *k;
    TRY(add_definition(self, name, signature, FN(fn), ctx, &k, err));
    k->kind = CODE_INITIALIZER;
    k->fn.initialize = fn;
    return SPT_OK;
}

static spt_status host_add_configurable(spt_plugin_self *self, const char *name,
                                        const char *signature, spt_configure_fn fn, void *ctx,
                                        spt_err *err)
{
    struct plugin_code *k;
    TRY(add_definition(self, name, signature, FN(fn), ctx, &k, err));
    k->kind = CODE_CONFIGURABLE;
    k->fn.configure = fn;
    return SPT_OK;
}

/* --- the rest of the table
 * ----------------------------------------------------------------------------- */

static spt_status host_fail(spt_err *err, spt_status code, const char *fmt, ...)
{
    char text[MAX_MESSAGE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_set(err, code ? code : SPT_E_INTERNAL, "%s", text);
}

static void host_log(int warning, const char *fmt, ...)
{
    char text[MAX_MESSAGE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (warning)
        log_warning("%s", text);
    else
        log_info("%s", text);
}

static int host_get_text(const spt_example *e, const char *name, const char **text, size_t *len)
{
    struct field_text t;
    if (!record_find(const_record(e), name) || record_text(const_record(e), name, &t, NULL))
        return 0;
    *text = t.s;
    *len = t.len;
    return 1;
}

static int host_get_int(const spt_example *e, const char *name, int64_t *out)
{
    return record_find(const_record(e), name) && !record_int(const_record(e), name, out, NULL);
}

static int host_get_real(const spt_example *e, const char *name, double *out)
{
    return record_find(const_record(e), name) && !record_float(const_record(e), name, out, NULL);
}

/* A record keeps the names it is given by reference. */
static const char *keep_name(spt_example *e, const char *name)
{
    const struct record_field *f = record_find(record_of(e), name);
    if (f)
        return f->name;
    const size_t n = strlen(name) + 1;
    char *kept = record_alloc(record_of(e), n);
    if (kept)
        memcpy(kept, name, n);
    return kept;
}

static spt_status host_set_text(spt_example *e, const char *name, const char *text, size_t len,
                                spt_err *err)
{
    const char *kept = keep_name(e, name);
    return kept ? record_set_text(record_of(e), kept, text, len, err)
                : err_nomem(err, strlen(name));
}

static spt_status host_set_int(spt_example *e, const char *name, int64_t v, spt_err *err)
{
    const char *kept = keep_name(e, name);
    return kept ? record_set_int(record_of(e), kept, v, err) : err_nomem(err, strlen(name));
}

static spt_status host_set_real(spt_example *e, const char *name, double v, spt_err *err)
{
    const char *kept = keep_name(e, name);
    return kept ? record_set_float(record_of(e), kept, v, err) : err_nomem(err, strlen(name));
}

static void *host_keep(spt_example *e, size_t size)
{
    return record_alloc(record_of(e), size);
}

static spt_status host_emit(spt_emitter *to, spt_example *e, spt_err *err)
{
    static const char *const needed[] = {"inputs", "targets"};
    struct field_text t;
    for (size_t i = 0; i < 2; i++)
        if (record_text(record_of(e), needed[i], &t, NULL))
            return err_set(err, SPT_E_FORMAT, "the preprocessor emits an example without '%s'",
                           needed[i]);
    TRY(to->emit(to->ctx, record_of(e), err));
    record_clear(record_of(e));
    return SPT_OK;
}

static spt_status host_score(spt_scores *to, const char *name, double value, spt_err *err)
{
    if (!name || !*name || strlen(name) >= MAX_NAME)
        return err_set(err, SPT_E_CONFIG, "%s: a score needs a name", to->metric);
    return to->add(to->ctx, name, value, err);
}

static int host_arg_text(const spt_args *a, const char *name, const char **out)
{
    gin_value v;
    const char *s = gin_get(a->config, &a->object, name, &v) ? gin_as_str(&v) : NULL;
    if (s)
        *out = s;
    return s != NULL;
}

static int host_arg_int(const spt_args *a, const char *name, int64_t *out)
{
    gin_value v;
    return gin_get(a->config, &a->object, name, &v) && gin_as_int(&v, out);
}

static int host_arg_real(const spt_args *a, const char *name, double *out)
{
    gin_value v;
    return gin_get(a->config, &a->object, name, &v) && gin_as_float(&v, out);
}

static int host_arg_flag(const spt_args *a, const char *name, int *out)
{
    gin_value v;
    bool b;
    if (!gin_get(a->config, &a->object, name, &v) || !gin_as_bool(&v, &b))
        return 0;
    *out = b;
    return 1;
}

static int host_arg_item(const spt_args *a, const char *name, size_t i, const char **out)
{
    gin_value v;
    if (!gin_get(a->config, &a->object, name, &v) || (v.kind != GIN_LIST && v.kind != GIN_TUPLE) ||
        i >= v.count)
        return 0;
    const char *s = gin_as_str(&v.u.items[i]);
    if (s)
        *out = s;
    return s != NULL;
}

static int64_t host_table_rows(const spt_embedder *table)
{
    return table->env && table->env->embed ? table->env->rows : 0;
}

static spt_status host_embed(spt_embedder *table, const int32_t *ids, int64_t n, float *out,
                             spt_err *err)
{
    const int64_t rows = host_table_rows(table);
    if (!rows)
        return err_set(err, SPT_E_CONFIG,
                       "the initialiser has no embedding table: bind its "
                       "'embeddings' (@prompts.np_load() or "
                       "@prompts.t5x_load())");
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= rows)
            return err_set(err, SPT_E_CONFIG, "id %d of a table of %lld rows", (int)ids[i],
                           (long long)rows);
    return table->env->embed(table->env->ctx, ids, n, out, err);
}

const spt_plugin_host plugin_host = {
    .abi = SPT_PLUGIN_ABI,
    .size = sizeof(spt_plugin_host),
    .version = SPT_VERSION,
    .add_preprocessor = host_add_preprocessor,
    .add_postprocessor = host_add_postprocessor,
    .add_metric = host_add_metric,
    .add_task = host_add_task,
    .add_mixture = host_add_mixture,
    .add_initializer = host_add_initializer,
    .add_configurable = host_add_configurable,
    .fail = host_fail,
    .log = host_log,
    .get_text = host_get_text,
    .get_int = host_get_int,
    .get_real = host_get_real,
    .set_text = host_set_text,
    .set_int = host_set_int,
    .set_real = host_set_real,
    .keep = host_keep,
    .emit = host_emit,
    .score = host_score,
    .arg_text = host_arg_text,
    .arg_int = host_arg_int,
    .arg_real = host_arg_real,
    .arg_flag = host_arg_flag,
    .arg_item = host_arg_item,
    .table_rows = host_table_rows,
    .embed = host_embed,
};

/* --- loading
 * -----------------------------------------------------------------------------------------------
 */

/* Without a slash the system would search its library directories. */
static spt_status open_object(struct spt_plugin_self *p, const char *path, spt_err *err)
{
    char why[300];
    struct fs_info info;
    const char *slash = strrchr(path, '/');
    buf full;
    if (strstr(path, "://"))
        return err_set(err, SPT_E_USAGE, "a plug-in must be a local file: the system loads it");
    buf_init(&full, 65536);
    buf_addf(&full, "%s%s", slash ? "" : "./", path);
    p->path = buf_detach(&full);
    p->dir = mem_strndup(slash ? path : ".", slash > path ? (size_t)(slash - path) : 1);
    if (!p->path || !p->dir)
        return err_nomem(err, strlen(path));
    TRY(fs_stat(p->path, &info, err));
    if (!info.is_file)
        return err_set(err, SPT_E_FORMAT, "%s is no file", path);
    p->object = os_object_open(p->path, why, sizeof why);
    return p->object ? SPT_OK : err_set(err, SPT_E_FORMAT, "it cannot be loaded: %s", why);
}

static spt_status check_entry(const struct spt_plugin_self *p, const spt_plugin *e, spt_err *err)
{
    if (!e)
        return err_set(err, SPT_E_FORMAT,
                       "it is no plug-in of spt: the symbol " SPT_PLUGIN_SYMBOL
                       " is missing (SPT_PLUGIN(...) in spt/plugin.h makes it)");
    if (e->abi != SPT_PLUGIN_ABI)
        return err_set(err, SPT_E_FORMAT,
                       "it was built for plug-in ABI %u, this spt has ABI %u: build it again with "
                       "the spt/plugin.h of spt %s",
                       (unsigned)e->abi, SPT_PLUGIN_ABI, SPT_VERSION);
    if (e->size < sizeof *e || !e->name || !e->init || !is_identifier(e->name, strlen(e->name)))
        return err_set(err, SPT_E_FORMAT,
                       "its " SPT_PLUGIN_SYMBOL " is incomplete: it needs a name "
                       "of letters, digits and underscores, and an init");
    for (const struct spt_plugin_self *q = p->x->plugins; q; q = q->next)
        if (q != p && q->plugin && strcmp(q->plugin->name, e->name) == 0)
            return err_set(err, SPT_E_CONFIG, "a plug-in named '%s' was loaded already from %s",
                           e->name, q->path);
    if (strcmp(e->name, "spt") == 0 || strcmp(e->name, "gin") == 0)
        return err_set(err, SPT_E_CONFIG, "a plug-in cannot be called '%s'", e->name);
    return SPT_OK;
}

static spt_status start(struct spt_plugin_self *p, spt_err *err)
{
    const spt_plugin *e = os_object_symbol(p->object, SPT_PLUGIN_SYMBOL);
    TRY(check_entry(p, e, err));
    p->plugin = e;
    spt_err said = {0};
    p->initializing = true;
    const spt_status st = e->init(&plugin_host, p, &said);
    p->initializing = false;
    if (st)
        return err_set(err, st, "its init failed: %s",
                       said.msg[0] ? said.msg : spt_status_text(st));
    p->ready = true;
    log_info("plug-in %s %s: %s", e->name, e->version ? e->version : "", p->path);
    return SPT_OK;
}

spt_status plugin_load(extensions *x, const char *path, spt_err *err)
{
    struct spt_plugin_self *p = mem_zalloc(1, sizeof *p), **end = &x->plugins;
    if (!p)
        return err_nomem(err, sizeof *p);
    p->x = x;
    while (*end)
        end = &(*end)->next;
    *end = p;
    spt_status st = open_object(p, path, err);
    if (!st)
        st = start(p, err);
    return st ? err_wrap(err, st, "--plugin %s", path) : SPT_OK;
}

void plugin_unload(struct spt_plugin_self *p)
{
    if (p->ready && p->plugin->close)
        p->plugin->close();
    if (p->object)
        os_object_close(p->object);
    mem_free(p->path);
    mem_free(p->dir);
    mem_free(p);
}
