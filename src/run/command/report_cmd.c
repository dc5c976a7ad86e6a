/* `spt report`: a run directory as one HTML page. Curves come from the run's own logs; confusion,
 * sample predictions and neighbours are computed from its best prompt where base and data are still
 * at hand. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "report/html.h"
#include "run/commands.h"
#include "run/gin_options.h"
#include "run/members.h"
#include "run/command/neighbors.h"
#include "run/predictions.h"
#include "text/json.h"

enum {
    PAGE_BYTES = 1 << 29,
    LOG_BYTES = 1 << 30,
    CONFIG_BYTES = 1 << 22,
    SAMPLES = 30,
    CONFUSION_MAX = 40,
    SHOWN_NEIGHBORS = 5
};

static bool is_set(const char *text)
{
    return text && text[0];
}

/* --- logs --------------------------------------------------------------------------------------
 */

/* Columns of a log: the numbers of some keys, line by line; NaN where a line has none. */
struct curves {
    const char *const *key;
    size_t keys;
    double *value; /* [n, 1 + keys], "step" first */
    size_t n, cap;
    double *column; /* [1 + keys, n] once read */
};

static spt_status read_line(struct curves *c, const char *line, size_t len, spt_err *err)
{
    json_reader r;
    bool more;
    struct json_event key;
    const size_t width = 1 + c->keys;
    TRY(mem_grow(&c->value, &c->cap, (c->n + 1) * width, sizeof *c->value, SIZE_MAX / 16, err));
    double *v = c->value + c->n * width;
    for (size_t i = 0; i < width; i++)
        v[i] = NAN;
    json_open(&r, line, len, JSON_PYTHON_NAN);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        struct json_event ev;
        size_t at = json_is(&key, "step") ? 0 : SIZE_MAX;
        for (size_t i = 0; i < c->keys; i++)
            if (json_is(&key, c->key[i]))
                at = i + 1;
        st = json_next(&r, &ev, err);
        if (!st && at != SIZE_MAX && ev.kind == JSON_NUMBER)
            st = json_to_f64(&ev, &v[at], err);
        else if (!st && (ev.kind == JSON_OBJECT || ev.kind == JSON_ARRAY))
            st = json_skip_rest(&r, &ev, err);
    }
    json_close(&r);
    c->n += !st;
    return st;
}

static spt_status transpose(struct curves *c, spt_err *err)
{
    const size_t width = 1 + c->keys;
    c->column = mem_alloc(c->n + 1, width * sizeof *c->column);
    if (!c->column)
        return err_nomem(err, c->n * width * sizeof *c->column);
    for (size_t i = 0; i < c->n; i++)
        for (size_t k = 0; k < width; k++)
            c->column[k * c->n + i] = c->value[i * width + k];
    return SPT_OK;
}

/* An absent log has no lines. A last line without end is one that is being written. */
static spt_status curves_read(struct curves *c, const char *dir, const char *name, spt_err *err)
{
    buf path;
    fs_mapping m;
    buf_init(&path, 1 << 16);
    spt_status st = path_join(&path, dir, name, err);
    const bool there = !st && fs_exists(buf_str(&path));
    if (there)
        st = fs_map(buf_str(&path), &m, err);
    if (there && !st) {
        const char *at = (const char *)m.bytes, *end = at + m.size;
        size_t line = 0;
        while (!st && at < end) {
            const char *stop = memchr(at, '\n', (size_t)(end - at));
            if (!stop)
                break;
            line++;
            st = stop > at ? read_line(c, at, (size_t)(stop - at), err) : SPT_OK;
            if (st)
                st = err_wrap(err, st, "%s: line %zu", buf_str(&path), line);
            at = stop + 1;
        }
        fs_unmap(&m);
    }
    buf_release(&path);
    return st ? st : transpose(c, err);
}

static void curves_release(struct curves *c)
{
    mem_free(c->value);
    mem_free(c->column);
}

static bool has_values(const struct curves *c, size_t k)
{
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(c->column[(k + 1) * c->n + i]))
            return true;
    return false;
}

/* A later line would cover an earlier one that is equal to it. */
static bool is_repeated(const struct curves *c, const struct html_series *s, size_t n, size_t k)
{
    const size_t bytes = c->n * sizeof *c->column;
    for (size_t i = 0; i < n; i++)
        if (!memcmp(s[i].y, c->column + (k + 1) * c->n, bytes))
            return true;
    return false;
}

/* A chart of those of the keys from..to that have values of their own. */
static void put_chart(buf *page, const struct curves *c, const char *title,
                      const char *const *names, size_t from, size_t to)
{
    struct html_series s[HTML_SERIES];
    size_t n = 0;
    for (size_t k = from; k < to && n < HTML_SERIES; k++)
        if (has_values(c, k) && !is_repeated(c, s, n, k))
            s[n++] = (struct html_series){names[k], c->column, c->column + (k + 1) * c->n, c->n};
    if (n)
        html_chart(page, title, "step", s, n);
}

static const char *const train_keys[] = {"loss_per_nonpadding_target_token", "learning_rate",
                                         "gradient_norm", "prompt_norm"};
static const char *const train_names[] = {"loss per target token", "learning rate", "gradient norm",
                                          "prompt norm"};
static const char *const eval_keys[] = {"accuracy", "macro_f1", "f1", "exact_match", "loss"};
static const char *const eval_names[] = {"accuracy", "macro F1", "F1", "exact match", "loss"};

static void put_curves(buf *page, const struct curves *train, const struct curves *eval)
{
    html_tag(page, "h2", "Curves");
    buf_adds(page, "<div class=\"grid\">");
    put_chart(page, train, "Training loss per target token", train_names, 0, 1);
    put_chart(page, eval, "Scores on the held-out examples, percent", eval_names, 0, 4);
    put_chart(page, eval, "Loss on the held-out examples", eval_names, 4, 5);
    put_chart(page, train, "Norm of the prompt", train_names, 3, 4);
    put_chart(page, train, "Norm of the gradient", train_names, 2, 3);
    put_chart(page, train, "Learning rate", train_names, 1, 2);
    buf_adds(page, "</div>\n");
}

/* --- settings ----------------------------------------------------------------------------------
 */

struct setting {
    char *name, *value;
};
struct config {
    struct setting *item;
    size_t n, cap;
};

static void config_release(struct config *c)
{
    for (size_t i = 0; i < c->n; i++) {
        mem_free(c->item[i].name);
        mem_free(c->item[i].value);
    }
    mem_free(c->item);
}

static const char *config_get(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->item[i].name, name))
            return c->item[i].value;
    return NULL;
}

static spt_status add_setting(void *ctx, const char *name, const char *value, spt_err *err)
{
    struct config *c = ctx;
    TRY(mem_grow(&c->item, &c->cap, c->n + 1, sizeof *c->item, 4096, err));
    const struct setting s = {mem_strdup(name), mem_strdup(value)};
    if (!s.name || !s.value) {
        mem_free(s.name);
        mem_free(s.value);
        return err_nomem(err, strlen(name) + strlen(value));
    }
    c->item[c->n++] = s;
    return SPT_OK;
}

/* Options by name; a configuration of the reference's kind has none and is shown whole. */
static spt_status config_read(struct config *c, const char *dir, char **whole, spt_err *err)
{
    buf path;
    size_t size;
    buf_init(&path, 1 << 16);
    spt_status st = path_join(&path, dir, "config.gin", err);
    if (!st)
        st = fs_read_all(buf_str(&path), CONFIG_BYTES, whole, &size, err);
    if (!st)
        st = gin_options_read(buf_str(&path), add_setting, c, err);
    buf_release(&path);
    return st;
}

/* The settings of `spt eval` that the run had. */
static spt_status eval_settings(const struct config *c, const struct settings *s, const char *run,
                                struct settings *out, spt_err *err)
{
    TRY(settings_init(out, "eval", err));
    for (size_t i = 0; i < c->n; i++) {
        const struct spt_option *o;
        for (size_t k = 0; (o = spt_command_option("eval", k)) != NULL; k++)
            if (!strcmp(o->name, c->item[i].name)) {
                const spt_status st = settings_set(out, o->name, c->item[i].value, err);
                if (st)
                    return err_wrap(err, st == SPT_E_NOMEM ? st : SPT_E_FORMAT, "%s/config.gin",
                                    run);
            }
    }
    if (is_set(s->model))
        TRY(settings_set(out, "model", s->model, err));
    const char *data = is_set(s->data) ? s->data : config_get(c, "eval");
    if (is_set(data))
        TRY(settings_set(out, "data", data, err));
    /* What the prompt's own file says is in force, not what the training file was called with. */
    out->threads = s->threads;
    return SPT_OK;
}

/* --- parts of the page --------------------------------------------------------------------------
 */

static void put_tile(buf *page, const char *value, const char *what)
{
    buf_adds(page, "<div class=\"tile\">");
    html_tag(page, "b", value);
    html_tag(page, "span", what);
    buf_adds(page, "</div>");
}

static void put_number_tile(buf *page, double value, const char *format, const char *what)
{
    char text[64];
    snprintf(text, sizeof text, format, value);
    if (isfinite(value))
        put_tile(page, text, what);
}

static double last_of(const struct curves *c, size_t k)
{
    for (size_t i = c->n; i-- > 0;)
        if (isfinite(c->column[k * c->n + i]))
            return c->column[k * c->n + i];
    return NAN;
}

static void put_summary(buf *page, const struct prompt *p, const struct curves *train,
                        const struct curves *eval)
{
    char text[96];
    buf_adds(page, "<div class=\"tiles\">");
    double best = NAN, at = NAN;
    for (size_t i = 0; i < eval->n; i++) {
        const double v = eval->column[eval->n + i];
        if (isfinite(v) && !(v <= best)) {
            best = v;
            at = eval->column[i];
        }
    }
    put_number_tile(page, best, "%.2f %%", "best accuracy on the held-out examples");
    put_number_tile(page, at, "%.0f", "its step");
    put_number_tile(page, last_of(train, 0), "%.0f", "steps");
    put_number_tile(page, last_of(train, 1), "%.4g", "last training loss per token");
    if (p) {
        snprintf(text, sizeof text, "%lld x %lld", (long long)p->P, (long long)p->E);
        put_tile(page, text, "prompt");
    }
    buf_adds(page, "</div>\n");
}

static void put_row(buf *page, const char *name, const char *value)
{
    buf_adds(page, "<tr><td>");
    html_text(page, name);
    buf_adds(page, "<td><code>");
    html_text(page, value);
    buf_adds(page, "</code></tr>");
}

static void put_settings(buf *page, const struct config *c, const char *whole,
                         const struct prompt *p)
{
    html_tag(page, "h2", "Settings");
    buf_adds(page, "<div class=\"scroll\"><table><tbody>");
    for (size_t i = 0; i < c->n; i++)
        put_row(page, c->item[i].name, c->item[i].value);
    if (!c->n)
        put_row(page, "config.gin", whole);
    if (p) {
#define PUT_TEXT(field, key, what)                                                                 \
    if (p->use.field && strcmp(key, "settings") != 0)                                              \
        put_row(page, "prompt: " what, p->use.field);
        PROMPT_TEXT_MAP(PUT_TEXT)
#undef PUT_TEXT
    }
    buf_adds(page, "</tbody></table></div>\n");
}

static void put_confusion(buf *page, const label_set *labels, const uint64_t *count, size_t K)
{
    html_tag(page, "h2", "Confusion");
    if (K > CONFUSION_MAX) {
        buf_addf(page, "<p>%zu labels are too many for a table.</p>", K);
        return;
    }
    buf_adds(page, "<div class=\"scroll\"><table><thead><tr><th>target \\ answer");
    for (size_t j = 0; j < K; j++) {
        buf_adds(page, "<th class=\"n\">");
        html_text(page, label_set_text(labels, j));
    }
    buf_adds(page, "<th class=\"n\">(outside)</tr></thead><tbody>");
    for (size_t i = 0; i < K; i++) {
        uint64_t sum = 0;
        for (size_t j = 0; j <= K; j++)
            sum += count[i * (K + 1) + j];
        buf_adds(page, "<tr><th>");
        html_text(page, label_set_text(labels, i));
        for (size_t j = 0; j <= K; j++) {
            const uint64_t v = count[i * (K + 1) + j];
            buf_adds(page, "<td class=\"n\"");
            html_shade(page, sum ? (double)v / (double)sum : 0);
            buf_addf(page, ">%llu", (unsigned long long)v);
        }
        buf_adds(page, "</tr>");
    }
    buf_adds(page, "</tbody></table></div>\n");
}

static void put_sample(buf *page, const struct answers *a, const examples *x,
                       const struct task_text *t, size_t i)
{
    const struct example e = examples_at(x, i);
    const char *got = answer_text(a, t, i);
    const bool right =
        strlen(got) == e.target_text_len && !memcmp(got, e.target_text, e.target_text_len);
    buf_adds(page, "<tr><td>");
    html_text_n(page, e.input_text, e.input_text_len);
    buf_adds(page, "<td>");
    html_text_n(page, e.target_text, e.target_text_len);
    buf_addf(page, "<td%s>", right ? "" : " class=\"bad\"");
    html_text(page, got);
    if (a->prob && a->label[i] >= 0)
        buf_addf(page, "<td class=\"n\">%.3f",
                 (double)a->prob[i * a->labels + (size_t)a->label[i]]);
    else
        buf_adds(page, "<td>");
    buf_adds(page, "</tr>\n");
}

/* Spread over the file, so that sorted data show every class. */
static void put_samples(buf *page, const struct answers *a, const examples *x,
                        const struct task_text *t)
{
    const size_t shown = a->n < SAMPLES ? a->n : SAMPLES;
    html_tag(page, "h2", "Sample predictions");
    buf_addf(page, "<p>%zu of %zu examples, evenly spread; wrong answers are red.</p>", shown,
             a->n);
    buf_adds(page, "<div class=\"scroll\"><table><thead><tr><th>input<th>target<th>answer"
                   "<th class=\"n\">probability</tr></thead><tbody>");
    for (size_t k = 0; k < shown; k++)
        put_sample(page, a, x, t, k * a->n / shown);
    buf_adds(page, "</tbody></table></div>\n");
}

/* --- with the model ------------------------------------------------------------------------------
 */

static spt_status put_answers(buf *page, struct settings *s, struct members *u, const examples *x,
                              spt_err *err)
{
    struct evaluator v = {0};
    struct answers a = {0};
    struct figures f;
    struct task_text *t = &u->m[0].task;
    const struct evaluate_opts o = evaluate_opts_of(s, t);
    const struct examples_counts c = examples_counts(x);
    const struct t5_prompts p = prompts_of(u->m[0].prompt);
    TRY(members_evaluator(u, s, &o, c.longest_input, c.longest_target, &v, err));
    spt_status st = evaluate(&v, &p, x, &a, err);
    const size_t K = a.labels;
    uint64_t *confusion = K ? mem_zalloc(K * (K + 1), sizeof *confusion) : NULL;
    if (!st && K && !confusion)
        st = err_nomem(err, K * (K + 1) * sizeof *confusion);
    if (!st) {
        figures_of(&a, x, t, &f, confusion);
        html_tag(page, "h2", "The best prompt on these examples");
        buf_adds(page, "<p>");
        html_text(page, examples_path(x));
        buf_addf(page, ": %zu examples.</p><div class=\"tiles\">", f.n);
        put_number_tile(page, f.accuracy, "%.2f %%", "accuracy");
        put_number_tile(page, f.macro_f1, "%.2f %%", "macro F1");
        put_number_tile(page, f.exact_match, "%.2f %%", "exact match");
        put_number_tile(page, f.loss, "%.4f", "loss");
        put_number_tile(page, K ? (double)f.outside : NAN, "%.0f", "answers outside the labels");
        buf_adds(page, "</div>\n");
        if (K)
            put_confusion(page, t->labels, confusion, K);
        put_samples(page, &a, x, t);
    }
    mem_free(confusion);
    answers_release(&a);
    evaluator_close(&v);
    return st;
}

static spt_status put_neighbors(buf *page, struct members *u, spt_err *err)
{
    struct neighborhood n = {0};
    TRY(neighborhood_find(&u->engine, u->m[0].prompt, NULL, SHOWN_NEIGHBORS, &n, err));
    html_tag(page, "h2", "Neighbours in the vocabulary");
    neighborhood_html(page, &n, u->engine.vocab);
    neighborhood_release(&n);
    return SPT_OK;
}

static spt_status model_parts(buf *page, struct settings *es, const char *run, spt_err *err)
{
    struct members u = {0};
    examples *x = NULL;
    TRY(members_open(es, run, NULL, 0, &u, err));
    spt_status st = SPT_OK;
    if (is_set(es->data)) {
        struct task_text *t = &u.m[0].task;
        st = dataset_load(es, t, es->data, t->labels ? DATASET_LABELED : DATASET_EXAMINE, "report",
                          &x, err);
        const struct evaluate_opts o = evaluate_opts_of(es, t);
        if (!st)
            st = members_load(es, &o, &u, err);
        if (!st)
            st = put_answers(page, es, &u, x, err);
    }
    if (!st)
        st = put_neighbors(page, &u, err);
    examples_free(x);
    members_close(&u);
    return st;
}

/* A base that is gone takes its parts of the page with it, not the page. */
static spt_status put_model_parts(buf *page, const struct settings *s, const struct config *c,
                                  const char *run, spt_err *err)
{
    struct settings es = {0};
    spt_err why = {0};
    spt_status st = eval_settings(c, s, run, &es, &why);
    if (!st && is_set(es.model)) {
        const size_t before = page->len;
        st = model_parts(page, &es, run, &why);
        if (st && st != SPT_E_INTERRUPTED && st != SPT_E_NOMEM && !is_set(s->model) &&
            !is_set(s->data)) {
            log_warning("no confusion, samples and neighbours: %s (--model, --data)", why.msg);
            page->len = before;
            if (page->data)
                page->data[before] = '\0';
            st = SPT_OK;
        }
    } else if (!st) {
        log_warning("no confusion, samples and neighbours: the run does not name its model "
                    "(--model)");
    }
    settings_release(&es);
    return st ? err_set(err, st, "%s", why.msg) : SPT_OK;
}

static spt_status fill_page(buf *page, const struct settings *s, const char *run, spt_err *err)
{
    struct curves train = {.key = train_keys, .keys = sizeof train_keys / sizeof *train_keys};
    struct curves eval = {.key = eval_keys, .keys = sizeof eval_keys / sizeof *eval_keys};
    struct config c = {0};
    struct prompt *p = NULL;
    char *whole = NULL;
    spt_err none = {0};
    spt_status st = config_read(&c, run, &whole, err);
    if (!st)
        st = curves_read(&train, run, "train.jsonl", err);
    if (!st)
        st = curves_read(&eval, run, "eval.jsonl", err);
    const spt_status read = st ? st : prompt_read(run, NULL, &p, &none);
    if (!st && read == SPT_E_NOMEM)
        st = err_set(err, read, "%s", none.msg);
    else if (!st && read)
        log_warning("no prompt in the run yet: %s", none.msg);
    if (!st) {
        html_begin(page, path_base(run));
        buf_adds(page, "<p>A run of spt ");
        html_text(page, spt_version());
        buf_adds(page, "</p>");
        put_summary(page, p, &train, &eval);
        put_curves(page, &train, &eval);
        if (p)
            st = put_model_parts(page, s, &c, run, err);
        put_settings(page, &c, whole, p);
        html_end(page);
    }
    prompt_free(p);
    mem_free(whole);
    config_release(&c);
    curves_release(&train);
    curves_release(&eval);
    return st;
}

spt_status run_report(struct settings *s, struct run_output *out, spt_err *err)
{
    (void)out;
    if (s->arguments != 1)
        return err_set(err, SPT_E_USAGE, "give one run directory");
    const char *run = s->argument[0];
    if (!fs_is_dir(run))
        return err_set(err, SPT_E_NOTFOUND, "%s is not a directory", run);
    buf page, path;
    buf_init(&page, PAGE_BYTES);
    buf_init(&path, 1 << 16);
    spt_status st = SPT_OK;
    if (is_set(s->output))
        buf_adds(&path, s->output);
    else
        st = path_join(&path, run, "report.html", err);
    if (!st)
        st = buf_status(&path, "path", err);
    if (!st)
        st = fill_page(&page, s, run, err);
    if (!st)
        st = buf_status(&page, "page", err);
    if (!st)
        st = fs_write_all(buf_str(&path), buf_str(&page), page.len, err);
    if (!st)
        log_info("%s written", buf_str(&path));
    buf_release(&page);
    buf_release(&path);
    return st;
}
