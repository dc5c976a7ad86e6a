#include "run/command/table_rows.h"

#include <string.h>

#include "fs/fs.h"
#include "store/archive.h"
#include "text/json.h"

enum { MAX_CELLS = TABLE_MAX_FIELDS, MAX_TEXT = 1 << 28 };

/* --- cells ------------------------------------------------------------------------------------ */

void cells_release(struct cells *c)
{
    mem_free(c->cell);
    record_release(&c->keep);
    *c = (struct cells){0};
}

void cells_clear(struct cells *c)
{
    c->count = 0;
    record_clear(&c->keep);
}

static spt_status keep_text(struct cells *c, const char *s, size_t len, const char **out,
                            spt_err *err)
{
    char *p = record_alloc(&c->keep, len + 1);
    if (!p)
        return err_nomem(err, len);
    if (len)
        memcpy(p, s, len);
    p[len] = 0;
    *out = p;
    return SPT_OK;
}

spt_status cells_add(struct cells *c, const char *name, size_t name_len, const char *text,
                     size_t len, enum table_value kind, spt_err *err)
{
    struct cell x = {.len = len, .kind = kind};
    TRY(mem_grow(&c->cell, &c->cap, c->count + 1, sizeof *c->cell, MAX_CELLS, err));
    TRY(keep_text(c, name, name_len, &x.name, err));
    TRY(keep_text(c, text, len, &x.text, err));
    if (cells_find(c, x.name))
        return err_set(err, SPT_E_FORMAT, "\"%.60s\" stands twice in this row", x.name);
    c->cell[c->count++] = x;
    return SPT_OK;
}

const struct cell *cells_find(const struct cells *c, const char *name)
{
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->cell[i].name, name) == 0)
            return &c->cell[i];
    return NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct rows {
    char *path;
    records *table; /* TSV, CSV */
    size_t *slot;
    size_t columns;
    archive *file; /* JSON Lines */
    archive_stream *stream;
    fs_stream *input; /* JSON Lines from standard input */
    table_reader *lines;
    uint64_t line;
};

static spt_status stream_source(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    return fs_stream_read(ctx, p, n, got, err);
}

static spt_status open_lines(rows *r, spt_err *err)
{
    const struct table_options o = {.kind = TABLE_JSONL};
    table_close(r->lines);
    archive_stream_close(r->stream);
    r->lines = NULL;
    r->stream = NULL;
    if (strcmp(r->path, "-") == 0) {
        TRY(fs_stream_open(r->path, &r->input, err));
        return table_open(&o, stream_source, r->input, &r->lines, err);
    }
    if (!r->file)
        TRY(archive_open(r->path, &r->file, err));
    TRY(archive_read(r->file, 0, &r->stream, err));
    return table_open(&o, archive_stream_read, r->stream, &r->lines, err);
}

/* Names where the file has none, and a slot for every column. */
static spt_status take_columns(rows *r, spt_err *err)
{
    static const char *const one[] = {"text"}, *const two[] = {"text", "label"};
    r->columns = records_columns(r->table);
    r->slot = mem_alloc(r->columns + 1, sizeof *r->slot);
    if (!r->slot)
        return err_nomem(err, r->columns);
    const char *const *given = r->columns == 1 ? one : r->columns == 2 ? two : NULL;
    for (size_t i = 0; i < r->columns; i++) {
        if (!records_has_header(r->table) && given)
            TRY(records_name_column(r->table, i, given[i], err));
        TRY(records_column(r->table, records_column_name(r->table, i), &r->slot[i], err));
    }
    return SPT_OK;
}

static spt_status open_table(rows *r, const struct settings *s, spt_err *err)
{
    struct records_options o = {
        .path = r->path,
        .header = !strcmp(s->header, "yes")  ? HEADER_YES
                  : !strcmp(s->header, "no") ? HEADER_NO
                                             : HEADER_AUTO,
        .kind = !strcmp(s->format, "tsv")     ? RECORDS_TSV
                : !strcmp(s->format, "csv")   ? RECORDS_CSV
                : !strcmp(s->format, "jsonl") ? RECORDS_JSONL
                                              : RECORDS_BY_NAME,
        .quiet = s->quiet,
    };
    TRY(records_delimiter(s->delimiter ? s->delimiter : "", &o.delimiter, err));
    if (o.kind == RECORDS_JSONL)
        return open_lines(r, err);
    TRY(records_open(&o, &r->table, err));
    if (records_table_kind(r->table) != TABLE_JSONL)
        return take_columns(r, err);
    if (!records_can_rewind(r->table))
        return err_set(err, SPT_E_USAGE, "%s: say --format jsonl", records_path(r->table));
    records_close(r->table);
    r->table = NULL;
    return open_lines(r, err);
}

spt_status rows_open(const struct settings *s, const char *path, rows **out, spt_err *err)
{
    rows *r = mem_zalloc(1, sizeof *r);
    if (!r)
        return err_nomem(err, sizeof *r);
    r->path = mem_strdup(path);
    const spt_status st = r->path ? open_table(r, s, err) : err_nomem(err, strlen(path));
    if (st) {
        rows_close(r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

void rows_close(rows *r)
{
    if (!r)
        return;
    records_close(r->table);
    table_close(r->lines);
    archive_stream_close(r->stream);
    archive_close(r->file);
    fs_stream_close(r->input);
    mem_free(r->slot);
    mem_free(r->path);
    mem_free(r);
}

bool rows_can_rewind(const rows *r)
{
    return r->table ? records_can_rewind(r->table) : r->file != NULL;
}

spt_status rows_rewind(rows *r, spt_err *err)
{
    r->line = 0;
    return r->table ? records_rewind(r->table, err) : open_lines(r, err);
}

bool rows_has_header(const rows *r)
{
    return !r->table || records_has_header(r->table);
}

spt_status rows_wrap(const rows *r, spt_status st, spt_err *err)
{
    const uint64_t line = r->table ? records_line(r->table) : r->line;
    return err_wrap(err, st, "%s: line %llu", r->table ? records_path(r->table) : r->path,
                    (unsigned long long)line);
}

/* One member of the reference's "input": its names become ours. */
static spt_status add_opened(struct cells *out, const struct json_event *key, const char *raw,
                             size_t len, spt_err *err)
{
    json_reader r;
    struct json_event ev;
    buf name, text;
    buf_init(&name, 4096);
    buf_init(&text, MAX_TEXT);
    json_add_text(key, &name);
    json_open(&r, raw, len, JSON_PYTHON_NAN);
    spt_status st = json_next(&r, &ev, err);
    const char *shown = strcmp(buf_str(&name), "inputs_pretokenized") == 0    ? "input"
                        : strcmp(buf_str(&name), "targets_pretokenized") == 0 ? "target"
                                                                              : buf_str(&name);
    enum table_value kind = TABLE_NESTED;
    if (!st && ev.kind == JSON_STRING) {
        json_add_text(&ev, &text);
        kind = TABLE_TEXT;
    } else if (!st) {
        buf_add(&text, raw, len);
        kind = ev.kind == JSON_NUMBER                          ? TABLE_NUMBER
               : ev.kind == JSON_TRUE || ev.kind == JSON_FALSE ? TABLE_BOOL
               : ev.kind == JSON_NULL                          ? TABLE_NULL
                                                               : TABLE_NESTED;
    }
    if (!st)
        st = buf_status(&text, "value", err);
    if (!st)
        st = cells_add(out, shown, strlen(shown), buf_str(&text), text.len, kind, err);
    json_close(&r);
    buf_release(&name);
    buf_release(&text);
    return st;
}

static spt_status open_input(struct cells *out, const struct table_field *f, spt_err *err)
{
    json_reader r;
    struct json_event key;
    bool more;
    json_open(&r, f->text, f->len, JSON_PYTHON_NAN);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        const char *raw;
        size_t len;
        st = json_raw(&r, &raw, &len, err);
        if (!st)
            st = add_opened(out, &key, raw, len, err);
    }
    json_close(&r);
    return st;
}

/* "input" as the reference's server writes it, "inputs" as its inference program does. */
static bool is_input(const struct table_field *f)
{
    return (f->name_len == 5 || f->name_len == 6) && memcmp(f->name, "inputs", f->name_len) == 0;
}

static spt_status take_line(rows *r, struct cells *out, bool *more, spt_err *err)
{
    struct table_row row;
    do {
        TRY(table_next(r->lines, &row, more, err));
        if (!*more)
            return SPT_OK;
        r->line = row.line;
    } while (row.blank);
    for (size_t i = 0; i < row.count; i++) {
        const struct table_field *f = &row.field[i];
        if (f->kind == TABLE_NESTED && f->text[0] == '{' && is_input(f))
            TRY(open_input(out, f, err));
        else
            TRY(cells_add(out, f->name, f->name_len, f->text, f->len, f->kind, err));
    }
    return SPT_OK;
}

spt_status rows_next(rows *r, struct cells *out, bool *more, spt_err *err)
{
    cells_clear(out);
    if (!r->table) {
        const spt_status st = take_line(r, out, more, err);
        return st ? err_wrap(err, st, "%s", r->path) : SPT_OK;
    }
    TRY(records_next(r->table, more, err));
    for (size_t i = 0; *more && i < r->columns; i++) {
        const char *name = records_column_name(r->table, i), *text;
        size_t len;
        TRY(records_field(r->table, r->slot[i], &text, &len, err));
        TRY(cells_add(out, name, strlen(name), text, len, TABLE_TEXT, err));
    }
    return SPT_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

static spt_status put_tsv(buf *out, const char *name, const char *s, size_t len, spt_err *err)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] == '\t' || s[i] == '\n' || s[i] == '\r')
            return err_set(err, SPT_E_FORMAT,
                           "\"%.60s\" holds a %s, which TSV cannot; write CSV or JSON Lines", name,
                           s[i] == '\t' ? "tab" : "line end");
    buf_add(out, s, len);
    return SPT_OK;
}

static void put_csv(buf *out, const char *s, size_t len)
{
    bool quote = !len || s[0] == ' ' || s[len - 1] == ' ' || s[0] == '\t' || s[len - 1] == '\t';
    for (size_t i = 0; i < len; i++)
        quote |= strchr(",;|\t\"\r\n", s[i]) && s[i];
    if (!quote) {
        buf_add(out, s, len);
        return;
    }
    buf_addc(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"')
            buf_addc(out, '"');
        buf_addc(out, s[i]);
    }
    buf_addc(out, '"');
}

static spt_status put_field(buf *out, enum rows_kind kind, const char *name, const char *s,
                            size_t len, spt_err *err)
{
    if (kind == ROWS_TSV)
        return put_tsv(out, name, s, len, err);
    put_csv(out, s, len);
    return SPT_OK;
}

static bool separated(enum rows_kind kind)
{
    return kind == ROWS_TSV || kind == ROWS_CSV;
}

spt_status rows_put_header(buf *out, enum rows_kind kind, const char *const *column, size_t n,
                           spt_err *err)
{
    if (!separated(kind))
        return SPT_OK;
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_addc(out, kind == ROWS_TSV ? '\t' : ',');
        TRY(put_field(out, kind, "the header", column[i], strlen(column[i]), err));
    }
    buf_addc(out, '\n');
    return buf_status(out, "header", err);
}

static spt_status put_separated(buf *out, enum rows_kind kind, const char *const *column, size_t n,
                                const struct cells *row, spt_err *err)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const struct cell *c = cells_find(row, column[i]);
        if (i)
            buf_addc(out, kind == ROWS_TSV ? '\t' : ',');
        found += c != NULL;
        if (c && c->kind != TABLE_NULL)
            TRY(put_field(out, kind, c->name, c->text, c->len, err));
        else if (kind == ROWS_CSV)
            put_csv(out, "", 0);
    }
    if (found != row->count)
        return err_set(err, SPT_E_FORMAT, "this row has members that the first one lacks");
    buf_addc(out, '\n');
    return SPT_OK;
}

static void put_member(json_writer *w, const char *name, const struct cell *c)
{
    json_key(w, name);
    if (c->kind == TABLE_TEXT)
        json_string_n(w, c->text, c->len);
    else
        json_raw_n(w, c->text, c->len);
}

/* The three members that a predictions file has, and the names that they may have here. */
static const struct {
    const char *name, *from[6];
    bool needed;
} prediction_member[] = {
    {"input", {"input", "inputs", "inputs_pretokenized", "text", "sentence"}, true},
    {"target", {"target", "targets", "targets_pretokenized", "label"}, false},
    {"prediction", {"prediction", "predictions", "answer", "output"}, true},
};

/* Members that hold no text. A table has them as JSON text, and empty where a row has none. What
 * `spt eval --predictions` reads must be readable. */
static const struct {
    const char *name;
    enum json_kind kind;
    bool read;
} typed_member[] = {
    {"scores", JSON_OBJECT, true},         {"label_set", JSON_ARRAY, true},
    {"probabilities", JSON_OBJECT, false}, {"agreement", JSON_NUMBER, false},
    {"score", JSON_NUMBER, false},         {"prediction_tokens", JSON_ARRAY, false},
    {"predictions", JSON_ARRAY, false},
};

static bool is_json(const struct cell *c, enum json_kind kind)
{
    json_reader r;
    struct json_event ev;
    if (memchr(c->text, '\n', c->len) || memchr(c->text, '\r', c->len))
        return false; /* a row is one line */
    json_open(&r, c->text, c->len, JSON_PYTHON_NAN);
    spt_status st = json_next(&r, &ev, NULL);
    if (!st && (ev.kind == JSON_OBJECT || ev.kind == JSON_ARRAY))
        st = json_skip_rest(&r, &ev, NULL);
    if (!st)
        st = json_finish(&r, NULL);
    json_close(&r);
    return !st && ev.kind == kind;
}

static spt_status put_other(json_writer *w, const struct cell *c, spt_err *err)
{
    struct cell parsed = *c;
    size_t i = 0;
    while (i < sizeof typed_member / sizeof *typed_member &&
           strcmp(c->name, typed_member[i].name) != 0)
        i++;
    if (c->kind == TABLE_TEXT && i < sizeof typed_member / sizeof *typed_member) {
        if (!c->len)
            return SPT_OK;
        if (is_json(c, typed_member[i].kind))
            parsed.kind = TABLE_NESTED;
        else if (typed_member[i].read)
            return err_set(err, SPT_E_FORMAT, "\"%s\": \"%.60s\" is not %s on one line", c->name,
                           c->text, json_kind_name(typed_member[i].kind));
    }
    put_member(w, c->name, &parsed);
    return SPT_OK;
}

static spt_status put_prediction(json_writer *w, const struct cells *row, spt_err *err)
{
    const struct cell *used[3] = {NULL, NULL, NULL};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; prediction_member[i].from[k] && !used[i]; k++)
            used[i] = cells_find(row, prediction_member[i].from[k]);
        if (used[i])
            put_member(w, prediction_member[i].name, used[i]);
        else if (prediction_member[i].needed)
            return err_set(err, SPT_E_FORMAT, "no column \"%s\", which predictions need",
                           prediction_member[i].name);
    }
    for (size_t i = 0; i < row->count; i++) {
        const struct cell *c = &row->cell[i];
        if (c != used[0] && c != used[1] && c != used[2])
            TRY(put_other(w, c, err));
    }
    return SPT_OK;
}

spt_status rows_put(buf *out, enum rows_kind kind, const char *const *column, size_t n,
                    const struct cells *row, spt_err *err)
{
    json_writer w;
    if (separated(kind)) {
        TRY(put_separated(out, kind, column, n, row, err));
        return buf_status(out, "row", err);
    }
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    if (kind == ROWS_PREDICTIONS)
        TRY(put_prediction(&w, row, err));
    for (size_t i = 0; i < row->count && kind == ROWS_JSONL; i++)
        put_member(&w, row->cell[i].name, &row->cell[i]);
    json_end_object(&w);
    buf_addc(out, '\n');
    return buf_status(out, "row", err);
}
