/* `spt data convert`: rows of one kind of file into another, with --task through the formatting of
 * a task. TSV and CSV need their columns before the first row, so that the input is read twice. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/command/data_cmd.h"
#include "run/command/table_rows.h"
#include "task/json_node.h"
#include "task/prepare.h"
#include "task/task.h"

enum { MAX_COLUMNS = TABLE_MAX_FIELDS, MAX_LINE = 1 << 28, MAX_LIST = 1 << 20, FLUSH = 1 << 18 };

typedef spt_status (*row_fn)(void *ctx, const struct cells *row, spt_err *err);

struct converting {
    rows *in;
    const struct task *task; /* NULL: columns as they are */
    const struct prepare_set *set;
    enum rows_kind kind;
    /* columns of TSV and CSV, in order of appearance */
    char **column;
    size_t columns, column_cap;
    /* the row at work */
    struct cells row, out;
    record raw;
    uint64_t position, written;
    row_fn take;
    /* writing */
    fs_writer *file; /* NULL: standard output */
    struct run_output *output;
    buf text;
};

/* --- a row as an example of the task ---------------------------------------------------------- */

/* A JSON list of strings, or texts with ||| between them. */
static spt_status set_list(record *to, const char *name, const struct cell *c, spt_err *err)
{
    struct field_text *item = record_alloc(to, sizeof *item * (c->len + 1));
    size_t n = 0;
    if (!item)
        return err_nomem(err, c->len);
    if (c->len && c->text[0] == '[') {
        json_reader r;
        bool more;
        struct json_event ev;
        json_open(&r, c->text, c->len, 0);
        spt_status st = json_enter_array(&r, err);
        while (!st && !(st = json_next_item(&r, &more, &ev, err)) && more) {
            char *s = record_alloc(to, ev.len + 1);
            if (ev.kind != JSON_STRING)
                st = err_set(err, SPT_E_FORMAT, "%s, wanted a text", json_kind_name(ev.kind));
            else if (!s)
                st = err_nomem(err, ev.len);
            else
                item[n++] = (struct field_text){s, json_unescape(&ev, s)};
        }
        json_close(&r);
        TRY(st);
    } else if (c->len) {
        for (const char *p = c->text;;) {
            const char *end = strstr(p, "|||");
            item[n++] = (struct field_text){p, end ? (size_t)(end - p) : strlen(p)};
            if (!end)
                break;
            p = end + 3;
        }
    }
    return record_set_texts(to, name, item, n, err);
}

static spt_status set_number(record *to, const char *name, const struct cell *c, bool whole,
                             spt_err *err)
{
    char *end;
    const double v = strtod(c->text, &end);
    if (!c->len || *end || !isfinite(v) || (whole && (v != floor(v) || fabs(v) > 1e15)))
        return err_set(err, SPT_E_FORMAT, "\"%.60s\" is no %s", c->text,
                       whole ? "whole number" : "number");
    return whole ? record_set_int(to, name, (int64_t)v, err)
                 : record_set_float(to, name, (double)(float)v, err);
}

static spt_status set_class(record *to, const char *name, const char *const *classes,
                            const struct cell *c, spt_err *err)
{
    if (!c->len || c->kind == TABLE_NULL)
        return record_set_int(to, name, -1, err);
    const int64_t k = classes ? text_to_class(c->text, c->len, classes) : -1;
    if (k >= 0)
        return record_set_int(to, name, k, err);
    if (c->kind == TABLE_BOOL)
        return record_set_int(to, name, c->text[0] == 't', err);
    const spt_status st = set_number(to, name, c, true, err);
    return st ? err_set(err, SPT_E_FORMAT, "\"%.60s\" is neither a class nor a number", c->text)
              : SPT_OK;
}

/* "answers[]/text" -> "answers/text" */
static void field_name(const char *path, char *out, size_t room)
{
    size_t n = 0;
    bool inside = false;
    for (const char *p = path; *p && n + 1 < room; p++) {
        inside = *p == '[' || (inside && *p != ']');
        if (!inside && *p != ']')
            out[n++] = *p;
    }
    out[n] = 0;
}

/* A column of the field's name; "answers" will do for "answers/text". */
static const struct cell *cell_of(const struct cells *row, const char *name)
{
    const struct cell *c = cells_find(row, name);
    const char *tail = strrchr(name, '/');
    char shorter[64];
    if (c || !tail || strcmp(tail, "/text") != 0)
        return c;
    snprintf(shorter, sizeof shorter, "%.*s", (int)(tail - name), name);
    return cells_find(row, shorter);
}

static spt_status set_feature(struct converting *k, const struct tfds_feature *f, spt_err *err)
{
    char *name = record_alloc(&k->raw, strlen(f->path) + 1);
    if (!name)
        return err_nomem(err, strlen(f->path));
    field_name(f->path, name, strlen(f->path) + 1);
    const struct cell *c = cell_of(&k->row, name);
    const bool list = strchr(f->path, '[') != NULL;
    if (!c && f->kind == FEATURE_CLASS)
        return record_set_int(&k->raw, name, -1, err);
    if (!c && f->kind == FEATURE_FLOAT32)
        return record_set_float(&k->raw, name, -1, err);
    if (!c && !list && strncmp(name, "idx", 3) == 0)
        return record_set_int(&k->raw, name, (int64_t)k->position, err);
    if (!c || (list && f->kind == FEATURE_INT32))
        return SPT_OK; /* where it is needed, the task says so */
    spt_status st = SPT_OK;
    switch (f->kind) {
    case FEATURE_TEXT:
    case FEATURE_STRING:
        st = list ? set_list(&k->raw, name, c, err)
                  : record_set_text(&k->raw, name, c->text, c->len, err);
        break;
    case FEATURE_INT32:
        st = set_number(&k->raw, name, c, true, err);
        break;
    case FEATURE_FLOAT32:
        st = set_number(&k->raw, name, c, false, err);
        break;
    case FEATURE_BOOL:
    case FEATURE_CLASS:
        st = set_class(&k->raw, name, f->classes, c, err);
        break;
    }
    return st ? err_wrap(err, st, "\"%s\"", name) : SPT_OK;
}

/* Of a data set that we know nothing of: texts, and a label. */
static spt_status set_texts(struct converting *k, spt_err *err)
{
    const struct task *t = k->task;
    const char *const *classes = t->verbalizer[0] ? t->verbalizer
                                 : t->config      ? t->config->classes
                                                  : NULL;
    for (size_t i = 0; i < k->row.count; i++) {
        const struct cell *c = &k->row.cell[i];
        if (strcmp(c->name, "label") == 0 && !t->user)
            TRY(set_class(&k->raw, "label", classes, c, err));
        else if (strcmp(c->name, "idx") == 0)
            TRY(set_number(&k->raw, "idx", c, true, err));
        else
            TRY(record_set_text(&k->raw, c->name, c->text, c->len, err));
    }
    return SPT_OK;
}

/* A table without header has the task's fields in their order, then the label. */
static void name_cells(struct converting *k)
{
    const struct task_config *c = k->task->config;
    size_t n = 0;
    if (rows_has_header(k->in) || !c)
        return;
    while (n < TASK_MAX_FIELDS && c->field[n])
        n++;
    if (k->row.count != n && k->row.count != n + 1)
        return;
    for (size_t i = 0; i < k->row.count; i++)
        k->row.cell[i].name = i < n ? c->field[i] : "label";
}

/* --- an example as a row ---------------------------------------------------------------------- */

static spt_status add_field(struct cells *out, const struct record_field *f, spt_err *err)
{
    const bool many = f->kind >= FIELD_TEXTS;
    json_writer w;
    buf text;
    if (f->kind == FIELD_TEXT)
        return cells_add(out, f->name, strlen(f->name), f->u.text[0].s, f->u.text[0].len,
                         TABLE_TEXT, err);
    buf_init(&text, MAX_LINE);
    json_write_init(&w, &text, JSON_SPACED);
    if (many)
        json_begin_array(&w);
    for (size_t i = 0; i < f->count; i++) {
        if (f->kind == FIELD_TEXTS)
            json_string_n(&w, f->u.text[i].s, f->u.text[i].len);
        else if (f->kind == FIELD_INT || f->kind == FIELD_INTS)
            json_i64(&w, f->u.ints[i]);
        else
            json_f64(&w, f->u.floats[i]);
    }
    if (many)
        json_end_array(&w);
    spt_status st = buf_status(&text, "value", err);
    if (!st)
        st = cells_add(out, f->name, strlen(f->name), buf_str(&text), text.len,
                       many ? TABLE_NESTED : TABLE_NUMBER, err);
    buf_release(&text);
    return st;
}

/* Texts first, then what the task passes on, then the answer of a predictions file. */
static spt_status take_example(void *ctx, record *r, spt_err *err)
{
    static const char *const first[] = {"inputs", "targets"};
    struct converting *k = ctx;
    const struct cell *prediction = cells_find(&k->row, "prediction");
    cells_clear(&k->out);
    for (size_t i = 0; i < 2; i++)
        if (record_find(r, first[i]))
            TRY(add_field(&k->out, record_find(r, first[i]), err));
    for (size_t i = 0; i < r->fields; i++)
        if (!cells_find(&k->out, r->field[i].name))
            TRY(add_field(&k->out, &r->field[i], err));
    if (prediction && !cells_find(&k->out, "prediction"))
        TRY(cells_add(&k->out, "prediction", 10, prediction->text, prediction->len,
                      prediction->kind, err));
    return k->take(k, &k->out, err);
}

static spt_status convert_row(struct converting *k, spt_err *err)
{
    if (!k->task)
        return k->take(k, &k->row, err);
    name_cells(k);
    record_clear(&k->raw);
    if (k->set) {
        for (size_t i = 0; i < prepare_features(k->set); i++)
            TRY(set_feature(k, &k->set->feature[i], err));
    } else {
        TRY(set_texts(k, err));
    }
    return task_format(k->task, &k->raw, (int64_t)k->position, take_example, k, err);
}

static spt_status each_row(struct converting *k, row_fn take, uint64_t most, spt_err *err)
{
    bool more = true;
    k->take = take;
    for (k->position = 0; k->position < most; k->position++) {
        TRY(rows_next(k->in, &k->row, &more, err));
        if (!more)
            return SPT_OK;
        const spt_status st = convert_row(k, err);
        if (st)
            return st == SPT_E_INTERRUPTED || st == SPT_E_IO ? st : rows_wrap(k->in, st, err);
        if (stop_requested())
            return err_set(err, SPT_E_INTERRUPTED, "stopped; nothing was written");
    }
    return SPT_OK;
}

/* --- the columns, then the rows --------------------------------------------------------------- */

static spt_status take_columns(void *ctx, const struct cells *row, spt_err *err)
{
    struct converting *k = ctx;
    for (size_t i = 0; i < row->count; i++) {
        bool known = false;
        for (size_t c = 0; c < k->columns && !known; c++)
            known = strcmp(k->column[c], row->cell[i].name) == 0;
        if (known)
            continue;
        TRY(mem_grow(&k->column, &k->column_cap, k->columns + 1, sizeof *k->column, MAX_COLUMNS,
                     err));
        k->column[k->columns] = mem_strdup(row->cell[i].name);
        if (!k->column[k->columns])
            return err_nomem(err, 1);
        k->columns++;
    }
    return SPT_OK;
}

static spt_status flush(struct converting *k, spt_err *err)
{
    TRY(buf_status(&k->text, "rows", err));
    TRY(k->file ? fs_write(k->file, buf_str(&k->text), k->text.len, err)
                : output_write(k->output, buf_str(&k->text), k->text.len, err));
    buf_clear(&k->text);
    return SPT_OK;
}

static spt_status write_row(void *ctx, const struct cells *row, spt_err *err)
{
    struct converting *k = ctx;
    if (!k->written)
        TRY(rows_put_header(&k->text, k->kind, (const char *const *)k->column, k->columns, err));
    TRY(rows_put(&k->text, k->kind, (const char *const *)k->column, k->columns, row, err));
    k->written++;
    return k->text.len >= FLUSH ? flush(k, err) : SPT_OK;
}

static spt_status convert_all(struct converting *k, spt_err *err)
{
    if (k->kind == ROWS_TSV || k->kind == ROWS_CSV) {
        const bool twice = rows_can_rewind(k->in);
        if (!twice)
            return err_set(
                err, SPT_E_USAGE,
                "standard input can be read only once: write JSON Lines, or give a file");
        TRY(each_row(k, take_columns, UINT64_MAX, err));
        TRY(rows_rewind(k->in, err));
    }
    TRY(each_row(k, write_row, UINT64_MAX, err));
    return flush(k, err);
}

/* --- the command ------------------------------------------------------------------------------ */

static spt_status find_kind(const struct settings *s, const char *path, enum rows_kind *out,
                            spt_err *err)
{
    static const struct {
        const char *name, *suffix;
        enum rows_kind kind;
    } kinds[] = {{"tsv", ".tsv", ROWS_TSV},        {"tsv", ".txt", ROWS_TSV},
                 {"csv", ".csv", ROWS_CSV},        {"jsonl", ".jsonl", ROWS_JSONL},
                 {"jsonl", ".ndjson", ROWS_JSONL}, {"predictions", "\n", ROWS_PREDICTIONS}};
    const bool by_name = strcmp(s->to, "auto") == 0;
    *out = ROWS_JSONL;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (by_name ? path_has_suffix(path, kinds[i].suffix) : strcmp(s->to, kinds[i].name) == 0) {
            *out = kinds[i].kind;
            return SPT_OK;
        }
    return strcmp(path, "-") == 0
               ? SPT_OK
               : err_set(err, SPT_E_USAGE,
                         "%s: say --to tsv, csv, jsonl or predictions, or let the "
                         "name end in .tsv, .csv or .jsonl",
                         path);
}

static spt_status find_task(const task_registry *r, const char *name, struct converting *k,
                            spt_err *err)
{
    const char *version;
    buf near;
    k->task = task_find(r, name);
    if (!k->task) {
        buf_init(&near, 1024);
        task_suggest(r, name, &near);
        err_set(err, SPT_E_CONFIG, "there is no task \"%.100s\"%s%s", name,
                near.len ? "; did you mean " : "", buf_str(&near));
        buf_release(&near);
        return SPT_E_CONFIG;
    }
    if (k->task->dataset && prepare_find(k->task->dataset, &k->set, &version, NULL))
        k->set = NULL;
    return SPT_OK;
}

static void release(struct converting *k)
{
    fs_abort(k->file);
    rows_close(k->in);
    for (size_t i = 0; i < k->columns; i++)
        mem_free(k->column[i]);
    mem_free(k->column);
    cells_release(&k->row);
    cells_release(&k->out);
    record_release(&k->raw);
    buf_release(&k->text);
}

spt_status run_data_convert(struct settings *s, struct run_output *out, spt_err *err)
{
    struct converting k = {.output = out};
    task_registry *r = NULL;
    if (s->arguments != 3)
        return err_set(err, SPT_E_USAGE, "wanted an input and an output: spt data convert IN OUT");
    const char *from = s->argument[1], *to = s->argument[2];
    TRY(find_kind(s, to, &k.kind, err));
    buf_init(&k.text, MAX_LINE);
    spt_status st = SPT_OK;
    if (s->data_task && *s->data_task) {
        st = task_registry_new(&r, err);
        if (!st)
            st = find_task(r, s->data_task, &k, err);
    }
    if (!st)
        st = rows_open(s, from, &k.in, err);
    if (!st && strcmp(to, "-") != 0)
        st = fs_create(to, &k.file, err);
    if (!st)
        st = convert_all(&k, err);
    if (!st && k.file) {
        fs_writer *file = k.file;
        k.file = NULL;
        st = fs_commit(file, err);
    }
    if (!st)
        log_info("%s: %llu rows", to, (unsigned long long)k.written);
    release(&k);
    task_registry_free(r);
    return st;
}
