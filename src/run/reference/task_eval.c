#include "run/reference/task_eval.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "random/distributions.h"
#include "task/eval_files.h"
#include "text/json.h"

enum { PATH_BYTES = 65536, SAMPLES = 8, MAX_METRICS = 32 };
#define FILE_BYTES ((size_t)4 << 30)

static bool wants_scores(const struct task *t)
{
    return t->metrics & (METRIC_RANK | METRIC_RANK_NORMED);
}

static bool wants_texts(const struct task *t)
{
    return t->metrics & ~(unsigned)(METRIC_RANK | METRIC_RANK_NORMED);
}

/* --- opening ----------------------------------------------------------------------------------- */

spt_status task_eval_open(struct task_eval *v, const struct task_env *e,
                          const struct t5x_base *base, const struct gin_dataset *d,
                          const struct gin_evaluator *opts, const char *dir, spt_err *err)
{
    *v = (struct task_eval){.base = base, .opts = *opts, .last_step = -1};
    buf path;
    buf_init(&path, PATH_BYTES);
    spt_status st = path_join(&path, dir, "inference_eval", err);
    if (!st)
        v->dir = buf_detach(&path);
    buf_release(&path);
    const uint64_t most = opts->num_examples >= 0 ? (uint64_t)opts->num_examples : UINT64_MAX;
    if (!st)
        st = task_sets_load(&v->sets, e, d, most, false, true, true, 0, 1, err);
    if (!st) {
        v->events = mem_zalloc(v->sets.count + 1, sizeof(events_writer *));
        st = v->events ? SPT_OK : err_nomem(err, v->sets.count * sizeof(events_writer *));
    }
    if (!st && !v->sets.count)
        log_info("no task of %s has metrics for the split %s: it is not evaluated by its answers",
                 d->task, d->split);
    return st;
}

spt_status task_eval_plan(struct task_eval *v, const struct gin_dataset *d, spt_err *err)
{
    bool texts = false, scores = false;
    for (size_t i = 0; i < v->sets.count; i++) {
        texts |= wants_texts(v->sets.item[i].task);
        scores |= wants_scores(v->sets.item[i].task);
    }
    if (!v->sets.count)
        return SPT_OK;
    return answerer_open(&v->answerer, v->base, d->batch,
                         d->has_lengths ? d->inputs : v->sets.longest_input,
                         d->has_lengths ? d->targets : v->sets.longest_target, texts, scores, err);
}

void task_eval_close(struct task_eval *v)
{
    for (size_t i = 0; v->events && i < v->sets.count; i++)
        events_close(v->events[i]);
    mem_free(v->events);
    answerer_close(&v->answerer);
    task_sets_free(&v->sets);
    mem_free(v->dir);
    *v = (struct task_eval){0};
}

/* --- one task ---------------------------------------------------------------------------------- */

struct results {
    const struct task_set *set;
    char **text;   /* [n] or NULL */
    float *score;  /* [n] or NULL */
    struct task_value *target, *prediction;
    record scratch;
    struct metric_entry entry[MAX_METRICS];
    char *owned[MAX_METRICS]; /* keys and texts to free */
    size_t entries, owns;
};

static void results_release(struct results *r)
{
    for (size_t i = 0; r->text && i < r->set->n; i++)
        mem_free(r->text[i]);
    for (size_t i = 0; i < r->owns; i++)
        mem_free(r->owned[i]);
    mem_free(r->text);
    mem_free(r->score);
    mem_free(r->target);
    mem_free(r->prediction);
    record_release(&r->scratch);
}

static spt_status answer(struct task_eval *v, struct results *r, spt_err *err)
{
    const size_t n = r->set->n;
    r->target = mem_zalloc(n, sizeof *r->target);
    r->prediction = mem_zalloc(n, sizeof *r->prediction);
    if (!r->target || !r->prediction)
        return err_nomem(err, n * sizeof *r->target);
    if (wants_texts(r->set->task)) {
        r->text = mem_zalloc(n, sizeof *r->text);
        if (!r->text)
            return err_nomem(err, n * sizeof *r->text);
        TRY(answers_predict(&v->answerer, r->set, 0, n, rng_key_of(0), r->text, NULL, err));
    }
    if (wants_scores(r->set->task)) {
        r->score = mem_zalloc(n, sizeof *r->score);
        if (!r->score)
            return err_nomem(err, n * sizeof *r->score);
        TRY(answers_score(&v->answerer, r->set, 0, n, r->score, err));
    }
    return SPT_OK;
}

static spt_status text_of(const record *r, const char *name, struct field_text *out)
{
    const struct record_field *f = record_find(r, name);
    *out = (struct field_text){"", 0};
    if (f && (f->kind == FIELD_TEXT || (f->kind == FIELD_TEXTS && f->count)))
        *out = f->u.text[0];
    return SPT_OK;
}

static spt_status interpret(struct results *r, spt_err *err)
{
    const struct task *t = r->set->task;
    for (size_t i = 0; i < r->set->n; i++) {
        const record *fields = &r->set->fields[i];
        struct field_text target;
        text_of(fields, "targets_pretokenized", &target);
        TRY(task_answer(t, target.s, target.len, fields, true, &r->scratch, &r->target[i], err));
        const char *text = r->text ? r->text[i] : "";
        TRY(task_answer(t, text, strlen(text), fields, false, &r->scratch, &r->prediction[i],
                        err));
        if (r->score)
            r->prediction[i].score = (double)r->score[i];
    }
    return SPT_OK;
}

static char *own(struct results *r, char *text)
{
    if (text && r->owns < MAX_METRICS)
        r->owned[r->owns++] = text;
    return text;
}

static spt_status add_metric(void *ctx, const char *key, double value, spt_err *err)
{
    struct results *r = ctx;
    char *copy = r->entries < MAX_METRICS && r->owns < MAX_METRICS ? own(r, mem_strdup(key)) : NULL;
    if (!copy)
        return err_nomem(err, strlen(key));
    r->entry[r->entries++] = (struct metric_entry){.key = copy, .number = value};
    return SPT_OK;
}

/* --- text metrics -------------------------------------------------------------------------------- */

/* Prediction and target differ; where their kinds differ they always do (data.md, D5). */
static bool differs(const struct task *t, const struct task_value *a, const struct task_value *b)
{
    switch (t->answer) {
    case ANSWER_CLASS:
    case ANSWER_WSC: return a->label != b->label;
    case ANSWER_FLOAT: return !(a->number == b->number);
    case ANSWER_TEXT:
    case ANSWER_NONE:
        return a->text.len != b->text.len || memcmp(a->text.s, b->text.s, a->text.len);
    default: return true;
    }
}

static spt_status sample_text(const struct results *r, const size_t *which, size_t n, buf *out,
                              spt_err *err)
{
    const struct task *t = r->set->task;
    struct text_example e[SAMPLES];
    for (size_t i = 0; i < n; i++) {
        const record *f = &r->set->fields[which[i]];
        const struct field_text prediction = {r->text[which[i]], strlen(r->text[which[i]])};
        if (t->answer == ANSWER_QA) {
            struct field_text context, question;
            const struct record_field *a = record_find(f, "answers");
            const bool many = a && (a->kind == FIELD_TEXT || a->kind == FIELD_TEXTS);
            text_of(f, "context", &context);
            text_of(f, "question", &question);
            if (i)
                buf_adds(out, "\n\n");
            TRY(text_qa_sample(&context, &question, many ? a->u.text : NULL,
                               many ? a->count : 0, &prediction, out, err));
            continue;
        }
        text_of(f, "inputs_pretokenized", &e[i].input);
        text_of(f, "targets_pretokenized", &e[i].target);
        e[i].prediction = r->prediction[which[i]].text.s ? r->prediction[which[i]].text
                                                         : prediction;
    }
    return t->answer == ANSWER_QA ? buf_status(out, "samples", err)
                                  : text_samples(e, n, out, err);
}

/* Up to 8 of the candidates: all of them in order, or a draw that depends on the step alone. */
static spt_status add_samples(struct results *r, const char *ending, const size_t *from, size_t n,
                              int64_t step, spt_err *err)
{
    size_t which[SAMPLES];
    int32_t drawn[SAMPLES];
    const size_t k = n < SAMPLES ? n : SAMPLES;
    if (n >= SAMPLES)
        TRY(rng_choice(rng_key_of(step), n, SAMPLES, false, drawn, err));
    for (size_t i = 0; i < k; i++)
        which[i] = from[n < SAMPLES ? i : (size_t)drawn[i]];
    buf text, key;
    buf_init(&text, 64 << 20);
    buf_init(&key, 1024);
    buf_addf(&key, "%s %s", r->set->task->text_metric, ending);
    spt_status st = sample_text(r, which, k, &text, err);
    if (!st)
        st = buf_status(&key, "metric", err);
    buf_addc(&text, '\0');
    char *const name = st ? NULL : own(r, buf_detach(&key));
    char *const value = st ? NULL : own(r, buf_detach(&text));
    if (!st && (!name || !value || r->entries >= MAX_METRICS))
        st = err_nomem(err, 0);
    if (!st)
        r->entry[r->entries++] = (struct metric_entry){.key = name, .text = value};
    buf_release(&text);
    buf_release(&key);
    return st;
}

static spt_status add_text_metrics(struct results *r, int64_t step, spt_err *err)
{
    const struct task *t = r->set->task;
    if (!t->text_metric || !r->text)
        return SPT_OK;
    size_t *which = mem_alloc(r->set->n, sizeof *which), n = 0;
    if (!which)
        return err_nomem(err, r->set->n * sizeof *which);
    for (size_t i = 0; i < r->set->n; i++)
        which[i] = i;
    spt_status st = add_samples(r, "samples", which, r->set->n, step, err);
    for (size_t i = 0; i < r->set->n; i++)
        if (differs(t, &r->target[i], &r->prediction[i]))
            which[n++] = i;
    if (!st && t->text_negatives)
        st = add_samples(r, "negative samples", which, n, step, err);
    mem_free(which);
    return st;
}

/* --- files ------------------------------------------------------------------------------------------ */

static void put_texts(json_writer *w, const struct task_value *v)
{
    json_begin_array(w);
    for (size_t i = 0; i < v->text_count; i++)
        json_string_n(w, v->texts[i].s, v->texts[i].len);
    json_end_array(w);
}

static void put_group(json_writer *w, const struct task *t, const struct task_value *v)
{
    json_key(w, "group");
    if (t->answer == ANSWER_MULTIRC) {
        json_i64(w, v->group[0]);
        return;
    }
    json_begin_array(w);
    json_i64(w, v->group[0]);
    json_i64(w, v->group[1]);
    json_end_array(w);
}

static void put_rank(json_writer *w, const struct task_value *v)
{
    json_begin_array(w);
    json_begin_array(w);
    json_i64(w, v->rank_index[0]);
    json_i64(w, v->rank_index[1]);
    json_end_array(w);
    json_bool(w, v->rank_correct);
    json_f64(w, 1.0);
    json_i64(w, v->rank_length);
    json_end_array(w);
}

/* A target or prediction as the postprocessor returns it. */
static void put_value(json_writer *w, const struct task *t, const struct task_value *v, bool target)
{
    switch (t->answer) {
    case ANSWER_CLASS:
    case ANSWER_WSC: json_i64(w, v->label); return;
    case ANSWER_FLOAT: json_f64(w, v->number); return;
    case ANSWER_MULTIRC:
    case ANSWER_RECORD:
        json_begin_object(w);
        json_key(w, "value");
        if (t->answer == ANSWER_MULTIRC)
            json_i64(w, v->label);
        else if (target)
            put_texts(w, v);
        else
            json_string_n(w, v->text.s, v->text.len);
        if (target)
            put_group(w, t, v);
        json_end_object(w);
        return;
    case ANSWER_QA:
        if (target)
            put_texts(w, v);
        else
            json_string_n(w, v->text.s, v->text.len);
        return;
    case ANSWER_RANK: put_rank(w, v); return;
    default: json_string_n(w, v->text.s ? v->text.s : "", v->text.len);
    }
}

static void put_field(json_writer *w, const record *r, const char *name)
{
    const struct record_field *f = record_find(r, name);
    json_key(w, name);
    if (!f) {
        json_null(w);
    } else if (f->kind == FIELD_TEXT) {
        json_string_n(w, f->u.text[0].s, f->u.text[0].len);
    } else if (f->kind == FIELD_TEXTS) {
        json_begin_array(w);
        for (size_t i = 0; i < f->count; i++)
            json_string_n(w, f->u.text[i].s, f->u.text[i].len);
        json_end_array(w);
    } else {
        json_null(w);
    }
}

/* `_examples` tasks keep the texts beside the value. */
static void put_prediction(json_writer *w, const struct results *r, size_t i)
{
    static const char *const plain[] = {"inputs_pretokenized", "targets_pretokenized", NULL};
    static const char *const qa[] = {"targets_pretokenized", "context", "question", "answers",
                                     NULL};
    const struct task *t = r->set->task;
    const struct task_value *v = &r->prediction[i];
    if (!t->examples) {
        put_value(w, t, v, false);
        return;
    }
    json_begin_object(w);
    json_key(w, "prediction");
    put_value(w, t, v, false);
    json_key(w, "prediction_pretokenized");
    json_string_n(w, v->text.s, v->text.len);
    for (const char *const *name = t->answer == ANSWER_QA ? qa : plain; *name; name++)
        put_field(w, &r->set->fields[i], *name);
    json_end_object(w);
}

static spt_status put_line(const struct results *r, size_t i, buf *out, spt_err *err)
{
    buf target, prediction;
    json_writer w;
    buf_init(&target, 64 << 20);
    buf_init(&prediction, 64 << 20);
    json_write_init(&w, &target, JSON_PYTHON);
    put_value(&w, r->set->task, &r->target[i], true);
    json_write_init(&w, &prediction, JSON_PYTHON);
    if (r->text)
        put_prediction(&w, r, i);
    const struct inference_line line = {
        .input = &r->set->fields[i],
        .target = buf_str(&target),
        .output = r->text ? r->text[i] : "",
        .output_len = r->text ? strlen(r->text[i]) : 0,
        .prediction = buf_str(&prediction),
        .has_score = !r->text,
        .score = r->score ? (double)r->score[i] : 0,
    };
    spt_status st = buf_status(&target, "target", err);
    if (!st)
        st = buf_status(&prediction, "prediction", err);
    if (!st)
        st = inference_line_write(&line, out, err);
    buf_release(&target);
    buf_release(&prediction);
    return st;
}

static spt_status write_results(const struct task_eval *v, const struct results *r, int64_t step,
                                spt_err *err)
{
    const int64_t most = v->opts.write_results;
    const size_t n = most >= 0 && (size_t)most < r->set->n ? (size_t)most : r->set->n;
    buf text, name, path;
    buf_init(&text, FILE_BYTES);
    buf_init(&name, PATH_BYTES);
    buf_init(&path, PATH_BYTES);
    spt_status st = most == 0 ? SPT_OK : inference_name(r->set->name, step, &name, err);
    for (size_t i = 0; !st && i < n; i++)
        st = put_line(r, i, &text, err);
    if (!st && most != 0)
        st = path_join(&path, v->dir, buf_str(&name), err);
    if (!st && most != 0)
        st = fs_write_all(buf_str(&path), buf_str(&text), text.len, err);
    buf_release(&text);
    buf_release(&name);
    buf_release(&path);
    return st;
}

/* The lines of steps before this one. */
static void keep_earlier(buf *out, const char *text, size_t size, int64_t step)
{
    for (const char *p = text, *end = text + size; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const size_t n = nl ? (size_t)(nl + 1 - p) : (size_t)(end - p);
        long long of;
        if (sscanf(p, "{\"step\": %lld", &of) != 1 || of < step)
            buf_add(out, p, n);
        p += n;
    }
}

/* Appends a line by writing the file anew, so that no reader ever sees half a line. */
static spt_status append_metrics(const struct task_eval *v, const struct results *r, int64_t step,
                                 spt_err *err)
{
    buf text, path;
    char *was = NULL;
    size_t size = 0;
    buf_init(&text, FILE_BYTES);
    buf_init(&path, PATH_BYTES);
    buf_addf(&path, "%s/%s-metrics.jsonl", v->dir, r->set->name);
    spt_status st = buf_status(&path, "path", err);
    if (!st && fs_exists(buf_str(&path)))
        st = fs_read_all(buf_str(&path), FILE_BYTES, &was, &size, err);
    if (!st) {
        if (v->replaces && was)
            keep_earlier(&text, was, size, step);
        else
            buf_add(&text, was ? was : "", size);
        if (text.len && text.data[text.len - 1] != '\n')
            buf_addc(&text, '\n');
        st = metrics_line(step, r->entry, r->entries, &text, err);
    }
    if (!st)
        st = fs_write_all(buf_str(&path), buf_str(&text), text.len, err);
    mem_free(was);
    buf_release(&text);
    buf_release(&path);
    return st;
}

static spt_status write_events(struct task_eval *v, size_t at, const struct results *r,
                               int64_t step, spt_err *err)
{
    if (!v->events[at]) {
        buf dir;
        buf_init(&dir, PATH_BYTES);
        spt_status st = path_join(&dir, v->dir, r->set->name, err);
        if (!st)
            st = events_create(buf_str(&dir), &v->events[at], err);
        buf_release(&dir);
        TRY(st);
    }
    for (size_t i = 0; i < r->entries; i++) {
        char tag[256];
        snprintf(tag, sizeof tag, "eval/%s", r->entry[i].key);
        TRY(r->entry[i].text
                ? events_text(v->events[at], step, tag, r->entry[i].text, err)
                : events_scalar(v->events[at], step, tag, (float)r->entry[i].number, err));
    }
    return events_sync(v->events[at], err);
}

static spt_status run_task(struct task_eval *v, size_t at, int64_t step, spt_err *err)
{
    struct results r = {.set = &v->sets.item[at]};
    const struct task *t = r.set->task;
    spt_status st = answer(v, &r, err);
    if (!st)
        st = interpret(&r, err);
    if (!st)
        st = task_score(t, r.target, r.prediction, r.set->n, add_metric, &r, err);
    if (!st)
        st = add_text_metrics(&r, step, err);
    for (size_t i = 0; !st && i < r.entries; i++)
        if (!r.entry[i].text)
            log_info("%s/%s at step %lld: %.3f", r.set->name, r.entry[i].key, (long long)step,
                     r.entry[i].number);
    const bool writes = comm_leads(v->ranks);
    if (!st && writes && v->opts.tensorboard)
        st = write_events(v, at, &r, step, err);
    if (!st && writes && v->opts.json)
        st = append_metrics(v, &r, step, err);
    if (!st && writes && v->opts.json)
        st = write_results(v, &r, step, err);
    st = comm_agree(v->ranks, st, err);
    results_release(&r);
    return st;
}

/* The metrics line is written before the predictions. */
static spt_status files_exist(const struct task_eval *v, const char *task, int64_t step, bool *yes,
                              spt_err *err)
{
    buf path, name;
    char *text = NULL, wanted[64];
    size_t size = 0;
    buf_init(&path, PATH_BYTES);
    buf_init(&name, PATH_BYTES);
    buf_addf(&path, "%s/%s-metrics.jsonl", v->dir, task);
    *yes = false;
    spt_status st = buf_status(&path, "path", err);
    if (!st && fs_exists(buf_str(&path)))
        st = fs_read_all(buf_str(&path), FILE_BYTES, &text, &size, err);
    snprintf(wanted, sizeof wanted, "{\"step\": %lld,", (long long)step);
    *yes = text && strstr(text, wanted);
    buf_clear(&path);
    if (!st)
        st = inference_name(task, step, &name, err);
    if (!st)
        st = path_join(&path, v->dir, buf_str(&name), err);
    if (!st && v->opts.write_results != 0)
        *yes &= fs_exists(buf_str(&path));
    mem_free(text);
    buf_release(&path);
    buf_release(&name);
    return st;
}

spt_status task_eval_done(const struct task_eval *v, int64_t step, bool *done, spt_err *err)
{
    *done = true;
    for (size_t i = 0; v->opts.json && *done && i < v->sets.count; i++)
        TRY(files_exist(v, v->sets.item[i].name, step, done, err));
    return SPT_OK;
}

spt_status task_eval_run(struct task_eval *v, int64_t step, spt_err *err)
{
    if (v->sets.count)
        TRY(fs_make_dirs(v->dir, err));
    for (size_t i = 0; i < v->sets.count; i++)
        TRY(run_task(v, i, step, err));
    v->last_step = step;
    return SPT_OK;
}
