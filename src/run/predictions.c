#include "run/predictions.h"

#include <string.h>

#include "base/log.h"
#include "data/records.h"
#include "fs/fs.h"
#include "text/json.h"

enum { LINE_BYTES = 1 << 24 };

const char *answer_text(const struct answers *a, const struct task_text *t, size_t i)
{
    return a->text            ? a->text[i]
           : a->label[i] >= 0 ? label_set_text(t->labels, (size_t)a->label[i])
                              : "";
}

static void put_label_set(json_writer *w, const label_set *labels)
{
    json_key(w, "label_set");
    json_begin_array(w);
    for (size_t k = 0; k < label_set_count(labels); k++)
        json_string(w, label_set_text(labels, k));
    json_end_array(w);
}

static void put_row(buf *line, const struct answers *a, const struct task_text *t,
                    const struct example *e, const float *agreement, size_t i)
{
    json_writer w;
    json_write_init(&w, line, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "input");
    json_string_n(&w, e->input_text, e->input_text_len);
    json_key(&w, "target");
    json_string_n(&w, e->target_text, e->target_text_len);
    json_key(&w, "prediction");
    json_string(&w, answer_text(a, t, i));
    if (a->score) {
        json_key(&w, "scores");
        json_begin_object(&w);
        for (size_t k = 0; k < a->labels; k++) {
            json_key(&w, label_set_text(t->labels, k));
            json_f32(&w, a->score[i * a->labels + k]);
        }
        json_end_object(&w);
    }
    if (agreement) {
        json_key(&w, "agreement");
        json_f32(&w, agreement[i]);
    }
    if (i == 0 && t->labels)
        put_label_set(&w, t->labels);
    json_end_object(&w);
    buf_addc(line, '\n');
}

spt_status predictions_write(const char *path, const struct answers *a, const examples *x,
                             const struct task_text *t, const float *agreement, spt_err *err)
{
    fs_writer *file;
    TRY(fs_create(path, &file, err));
    buf line;
    buf_init(&line, LINE_BYTES);
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < a->n; i++) {
        const struct example e = examples_at(x, i);
        buf_clear(&line);
        put_row(&line, a, t, &e, agreement, i);
        st = buf_status(&line, "prediction", err);
        if (!st)
            st = fs_write(file, buf_str(&line), line.len, err);
    }
    buf_release(&line);
    if (st) {
        fs_abort(file);
        return st;
    }
    return fs_commit(file, err);
}

/* --- reading ------------------------------------------------------------------------------------- */

/* No vocabulary is needed: a text is one id. */
static spt_status encode_nothing(void *ctx, const char *text, size_t len, struct id_list *out,
                                 spt_err *err)
{
    (void)ctx, (void)text, (void)len;
    const int32_t id = 0;
    return id_list_add(out, &id, 1, err);
}

static spt_status read_labels(json_reader *r, label_set **out, spt_err *err)
{
    bool more;
    struct json_event item;
    buf text;
    buf_init(&text, LINE_BYTES);
    TRY(label_set_new(out, err));
    spt_status st = json_enter_array(r, err);
    while (!st && !(st = json_next_item(r, &more, &item, err)) && more) {
        if (item.kind != JSON_STRING)
            st = json_error(r, item.offset, err, "a label must be a string");
        buf_clear(&text);
        if (!st) {
            json_add_text(&item, &text);
            st = buf_status(&text, "label", err);
        }
        if (!st)
            st = label_set_add(*out, buf_str(&text), text.len, NULL, err);
    }
    buf_release(&text);
    return st;
}

/* What one line says. */
struct row {
    buf text;           /* the prediction */
    label_set **labels; /* the label set, where a line holds one */
    struct answers *a;  /* scores go to row `at` of it; NULL: they are skipped */
    const label_set *set;
    size_t at;
    bool has_scores;
};

/* {"billing": -1.5, ...}: one number per label of the set. */
static spt_status read_scores(json_reader *r, struct row *row, spt_err *err)
{
    bool more;
    struct json_event key;
    const size_t K = label_set_count(row->set);
    size_t seen = 0;
    buf name;
    buf_init(&name, LINE_BYTES);
    spt_status st = json_enter_object(r, err);
    while (!st && !(st = json_next_key(r, &more, &key, err)) && more) {
        double value = 0;
        buf_clear(&name);
        json_add_text(&key, &name);
        const int64_t k = label_set_find(row->set, buf_str(&name), name.len);
        st = k < 0 ? json_skip(r, err) : json_read_f64(r, &value, err);
        if (!st && k >= 0) {
            row->a->score[row->at * K + (size_t)k] = (float)value;
            seen++;
        }
    }
    row->has_scores = !st && seen == K;
    buf_release(&name);
    return st;
}

static spt_status read_object(const char *line, size_t n, struct row *row, spt_err *err)
{
    json_reader r;
    bool more, found = false;
    struct json_event key;
    json_open(&r, line, n, JSON_PYTHON_NAN);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        if (json_is(&key, "prediction")) {
            st = json_read_text(&r, &row->text, err);
            found = true;
        } else if (json_is(&key, "label_set") && row->labels && !*row->labels) {
            st = read_labels(&r, row->labels, err);
        } else if (json_is(&key, "scores") && row->a) {
            st = read_scores(&r, row, err);
        } else {
            st = json_skip(&r, err);
        }
    }
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    if (!st && !found)
        st = err_set(err, SPT_E_FORMAT, "no key \"prediction\"");
    return st ? st : buf_status(&row->text, "prediction", err);
}

typedef spt_status (*row_fn)(struct predictions *p, struct row *row, spt_err *err);

static spt_status keep_text(struct predictions *p, struct row *row, spt_err *err)
{
    char **to = &p->answers.text[row->at];
    *to = mem_strndup(buf_str(&row->text), row->text.len);
    return *to ? SPT_OK : err_nomem(err, row->text.len);
}

static spt_status too_many(const struct predictions *p, const records *r, spt_err *err)
{
    return records_error(r, err, "more predictions than the %zu examples of %s", p->answers.n,
                         examples_path(p->examples));
}

/* The lines of the file in order: JSON objects where the first line is one, else the answers
 * themselves as `spt infer` prints them (an empty line is an empty answer). */
static spt_status for_each_row(struct predictions *p, records *r, struct row *row, row_fn fn,
                               spt_err *err)
{
    size_t slot;
    bool more = true, json = false, first = true;
    TRY(records_column(r, "1", &slot, err));
    for (row->at = 0;; first = false) {
        const char *text;
        size_t len;
        TRY(records_next(r, &more, err));
        if (!more)
            break;
        TRY(records_field(r, slot, &text, &len, err));
        if (first)
            json = len && text[0] == '{';
        if (json && !len)
            continue;
        if (row->at == p->answers.n)
            return too_many(p, r, err);
        buf_clear(&row->text);
        if (!json)
            buf_add(&row->text, text, len);
        const spt_status st =
            json ? read_object(text, len, row, err) : buf_status(&row->text, "prediction", err);
        if (st)
            return err_wrap(err, st, "%s: line %llu", records_path(r),
                            (unsigned long long)records_line(r));
        TRY(fn(p, row, err));
        row->at++;
    }
    if (row->at != p->answers.n)
        return err_set(err, SPT_E_FORMAT, "%s has %zu predictions, %s has %zu examples",
                       records_path(r), row->at, examples_path(p->examples), p->answers.n);
    return SPT_OK;
}

/* Labels and indices of targets and answers. */
static spt_status index_rows(const struct settings *s, struct predictions *p, label_set *own,
                             spt_err *err)
{
    struct answers *a = &p->answers;
    struct task_text *t = &p->task;
    if (s->labels && s->labels[0])
        TRY(label_set_parse(s->labels, &t->labels, err));
    const label_set *from = t->labels ? NULL : own ? own : examples_labels(p->examples);
    if (from && (own || labels_found(p->examples))) {
        TRY(label_set_new(&t->labels, err));
        for (size_t k = 0; k < label_set_count(from); k++)
            TRY(label_set_add(t->labels, label_set_text(from, k), label_set_len(from, k), NULL,
                              err));
    }
    if (t->labels && !own && !(s->labels && s->labels[0]))
        log_warning("%s names no label set: the %zu labels of the targets are counted; --labels "
                    "declares others",
                    s->predictions, label_set_count(t->labels));
    a->labels = t->labels ? label_set_count(t->labels) : 0;
    for (size_t i = 0; i < a->n; i++) {
        const struct example e = examples_at(p->examples, i);
        a->target[i] = t->labels
                           ? (int32_t)label_set_find(t->labels, e.target_text, e.target_text_len)
                           : -1;
        if (t->labels && a->target[i] < 0)
            return err_set(err, SPT_E_FORMAT,
                           "%s: line %llu: label \"%.60s\" is not among the %zu labels of %s",
                           examples_path(p->examples), (unsigned long long)e.line, e.target_text,
                           a->labels, own ? s->predictions : "--labels");
        a->label[i] =
            t->labels ? (int32_t)label_set_find(t->labels, a->text[i], strlen(a->text[i])) : -1;
    }
    return SPT_OK;
}

static spt_status count_scores(struct predictions *p, struct row *row, spt_err *err)
{
    (void)err;
    if (!row->has_scores) { /* not every line has them all: then they are no scores of this file */
        mem_free(p->answers.score);
        p->answers.score = NULL;
        row->a = NULL;
    }
    row->has_scores = false;
    return SPT_OK;
}

/* The scores of the label set the file was written with; they give the loss. */
static spt_status read_file_scores(struct predictions *p, records *r, struct row *row,
                                   spt_err *err)
{
    struct answers *a = &p->answers;
    size_t cells;
    if (!a->labels || !records_can_rewind(r))
        return SPT_OK;
    if (!mul_size(a->n, a->labels, &cells))
        return err_nomem(err, SIZE_MAX);
    a->score = mem_zalloc(cells, sizeof *a->score);
    if (!a->score)
        return err_nomem(err, cells * sizeof *a->score);
    row->a = a;
    row->set = p->task.labels;
    row->labels = NULL;
    TRY(records_rewind(r, err));
    return for_each_row(p, r, row, count_scores, err);
}

static spt_status read_file(const struct settings *s, struct predictions *p, spt_err *err)
{
    const struct records_options o = {.path = s->predictions, .lines = true, .header = HEADER_NO};
    records *r;
    label_set *own = NULL;
    struct row row = {.labels = &own};
    TRY(records_open(&o, &r, err));
    buf_init(&row.text, LINE_BYTES);
    spt_status st = for_each_row(p, r, &row, keep_text, err);
    if (!st)
        st = index_rows(s, p, own, err);
    if (!st)
        st = read_file_scores(p, r, &row, err);
    buf_release(&row.text);
    label_set_free(own);
    records_close(r);
    return st;
}

/* No --data: a file of ours holds inputs and targets itself. */
static spt_status load_own(const struct settings *s, struct predictions *p, spt_err *err)
{
    struct settings own = *s;
    struct task_text *t = &p->task;
    static char json[] = "jsonl";
    if (strcmp(s->predictions, "-") == 0)
        return err_set(err, SPT_E_USAGE,
                       "--data FILE is missing (standard input is read once only)");
    own.format = json;
    spt_status st = t->input ? SPT_OK : template_column("input", &t->input, err);
    if (!st && !t->target)
        st = template_column("target", &t->target, err);
    if (!st)
        st = dataset_load(&own, t, s->predictions, DATASET_EXAMINE, "predictions", &p->examples,
                          err);
    return st ? err_wrap(err, st, "without --data the targets are those of the predictions file")
              : SPT_OK;
}

static spt_status read_all(const struct settings *s, struct predictions *p, spt_err *err)
{
    p->task.encoder =
        (struct data_encoder){.encode = encode_nothing, .eos_id = 1, .unk_id = -1, .pad_id = -1};
    if (s->input && s->input[0])
        TRY(template_parse(s->input, strlen(s->input), &p->task.input, err));
    if (s->target && s->target[0])
        TRY(template_parse(s->target, strlen(s->target), &p->task.target, err));
    TRY(s->data && s->data[0]
            ? dataset_load(s, &p->task, s->data, DATASET_EXAMINE, "data", &p->examples, err)
            : load_own(s, p, err));
    struct answers *a = &p->answers;
    a->n = examples_count(p->examples);
    a->text = mem_zalloc(a->n, sizeof *a->text);
    a->label = mem_alloc(a->n, sizeof *a->label);
    a->target = mem_alloc(a->n, sizeof *a->target);
    if (!a->text || !a->label || !a->target)
        return err_nomem(err, a->n * sizeof *a->text);
    return read_file(s, p, err);
}

spt_status predictions_read(const struct settings *s, struct predictions *out, spt_err *err)
{
    struct predictions p = {0};
    const spt_status st = read_all(s, &p, err);
    if (st) {
        predictions_release(&p);
        return st;
    }
    *out = p;
    return SPT_OK;
}

void predictions_release(struct predictions *p)
{
    answers_release(&p->answers);
    examples_free(p->examples);
    task_text_close(&p->task);
    *p = (struct predictions){0};
}
