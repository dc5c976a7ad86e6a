/* A file becomes records through a chain of byte sources: the stream, a look at its first bytes,
 * gzip when they say so, a look at the decoded bytes, the table reader. The first row (header or
 * record) is read when the file is opened, so that nobody starts work on an empty file. */
#include "data/records.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/gzip.h"
#include "fs/fs.h"
#include "text/number.h"

#define PEEK 4096

/* A byte source whose first bytes have been looked at. */
struct peeked {
    table_read_fn from;
    void *ctx;
    size_t at, len;
    char head[PEEK];
};

struct slot {
    char *name; /* JSON Lines: the key; NULL in tables */
    size_t column;
};

struct records {
    char *path;
    bool is_stdin, once, lines, quiet, opened_before;
    enum records_kind wanted_kind;
    enum table_kind kind;
    char delimiter;
    enum header_mode header;
    size_t block;
    char **asked; /* columns that the options name */
    size_t asked_count;
    fs_stream *stream;
    gzip_reader *gzip;
    struct peeked raw, text;
    table_reader *table;
    char **column; /* names */
    size_t column_count, column_cap;
    size_t needed; /* fields that a row must have: up to the last non-empty one of the first row */
    bool has_header;
    struct table_row row;
    bool pending; /* row is the first record, not handed out yet */
    struct slot *slot;
    size_t slot_count, slot_cap;
    struct records_counts counts;
};

static const char *const known_names[] = {"text",  "input",  "inputs",  "sentence",
                                          "label", "target", "targets", "prompt"};

/* --- sources ------------------------------------------------------------------------------ */

static spt_status read_stream(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    return fs_stream_read(ctx, p, n, got, err);
}

static spt_status read_gzip(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    return gzip_reader_read(ctx, p, n, got, err);
}

static spt_status read_peeked(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct peeked *s = ctx;
    if (s->at == s->len)
        return s->from(s->ctx, p, n, got, err);
    *got = n < s->len - s->at ? n : s->len - s->at;
    memcpy(p, s->head + s->at, *got);
    s->at += *got;
    return SPT_OK;
}

/* Looks at the first bytes: until a line end is in sight, at least `least` bytes, or the end. */
static spt_status peek(struct peeked *s, table_read_fn from, void *ctx, size_t least, spt_err *err)
{
    s->from = from;
    s->ctx = ctx;
    s->at = s->len = 0;
    while (s->len < PEEK && (s->len < least || !memchr(s->head, '\n', s->len))) {
        size_t got = 0;
        TRY(from(ctx, s->head + s->len, PEEK - s->len, &got, err));
        if (!got)
            break;
        s->len += got;
    }
    return SPT_OK;
}

static void close_sources(records *r)
{
    table_close(r->table);
    gzip_reader_close(r->gzip);
    fs_stream_close(r->stream);
    r->table = NULL;
    r->gzip = NULL;
    r->stream = NULL;
}

/* --- what kind of file -------------------------------------------------------------------- */

static bool ends_with(const char *s, size_t len, const char *suffix)
{
    const size_t n = strlen(suffix);
    if (n > len)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char c = s[len - n + i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c) != suffix[i])
            return false;
    }
    return true;
}

static bool kind_by_name(const char *path, enum table_kind *kind)
{
    static const struct {
        const char *suffix;
        enum table_kind kind;
    } suffixes[] = {{".tsv", TABLE_TSV},
                    {".tab", TABLE_TSV},
                    {".csv", TABLE_CSV},
                    {".jsonl", TABLE_JSONL},
                    {".ndjson", TABLE_JSONL}};
    size_t len = strlen(path);
    if (ends_with(path, len, ".gz"))
        len -= 3;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (ends_with(path, len, suffixes[i].suffix)) {
            *kind = suffixes[i].kind;
            return true;
        }
    }
    return false;
}

static enum table_kind kind_by_content(const char *p, size_t len)
{
    const char *end = p + len;
    while (end - p >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        p += 3;
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r'))
        p++;
    return p < end && *p == '{' ? TABLE_JSONL : TABLE_TSV;
}

/* Files that people hand over by mistake, by their first bytes. */
static spt_status refuse_by_content(const records *r, spt_err *err)
{
    static const struct {
        const char *head;
        size_t len;
        const char *what;
    } others[] = {
        {"PK\3\4", 4, "a zip archive or a spreadsheet (xlsx, ods); export it as CSV"},
        {"\xd0\xcf\x11\xe0", 4, "an old spreadsheet (xls); export it as CSV"},
        {"PAR1", 4, "a Parquet file; export it as JSON Lines or CSV"},
        {"ARROW1", 6, "an Arrow file; export it as JSON Lines or CSV"},
        {"%PDF-", 5, "a PDF document"},
        {"SQLite format 3", 15, "an SQLite database; export the table as CSV"},
        {"\xfd"
         "7zXZ",
         5, "compressed with xz; only gzip is read: decompress it first"},
        {"BZh", 3, "compressed with bzip2; only gzip is read: decompress it first"},
        {"\x28\xb5\x2f\xfd", 4, "compressed with zstd; only gzip is read: decompress it first"},
        {"version https://git-lfs", 23,
         "a Git LFS pointer: the data was not downloaded (git lfs pull)"},
        {"<!DOCTYPE", 9, "a web page"},
        {"<!doctype", 9, "a web page"},
        {"<html", 5, "a web page"},
    };
    const char *p = r->text.head, *end = p + r->text.len;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (r->text.len >= others[i].len && memcmp(p, others[i].head, others[i].len) == 0)
            return err_set(err, SPT_E_FORMAT, "%s: this is %s", r->path, others[i].what);
    while (end - p >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        p += 3;
    if (p == end || *p != '[' ||
        (r->wanted_kind != RECORDS_BY_NAME && r->wanted_kind != RECORDS_JSONL))
        return SPT_OK;
    for (p++; p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t');)
        p++;
    if (p < end && *p != '{')
        return SPT_OK;
    return err_set(err, SPT_E_FORMAT,
                   "%s: this is one JSON array; JSON Lines has one object per line (jq -c '.[]' "
                   "writes that)",
                   r->path);
}

static void choose_kind(records *r)
{
    if (r->lines)
        r->kind = TABLE_TSV;
    else if (r->wanted_kind != RECORDS_BY_NAME)
        r->kind = (enum table_kind)(r->wanted_kind - RECORDS_TSV);
    else if (!kind_by_name(r->path, &r->kind))
        r->kind = kind_by_content(r->text.head, r->text.len);
}

static spt_status open_sources(records *r, spt_err *err)
{
    TRY(fs_stream_open(r->is_stdin ? "-" : r->path, &r->stream, err));
    r->once = !fs_stream_can_rewind(r->stream);
    spt_status st = peek(&r->raw, read_stream, r->stream, 2, err);
    if (st)
        return st;
    table_read_fn from = read_peeked;
    void *ctx = &r->raw;
    if (gzip_detect(r->raw.head, r->raw.len)) {
        st = gzip_reader_open(read_peeked, &r->raw, &r->gzip, err);
        if (st)
            return err_wrap(err, st, "%s", r->path);
        from = read_gzip;
        ctx = r->gzip;
    }
    st = peek(&r->text, from, ctx, 1, err);
    if (st)
        return r->gzip ? err_wrap(err, st, "%s", r->path) : st;
    if (!r->lines)
        TRY(refuse_by_content(r, err));
    choose_kind(r);
    const struct table_options o = {
        .kind = r->kind, .delimiter = r->delimiter, .whole_lines = r->lines,
        .any_bytes = r->lines, .block = r->block};
    return table_open(&o, read_peeked, &r->text, &r->table, err);
}

/* --- rows --------------------------------------------------------------------------------- */

static spt_status row_error(const records *r, spt_status st, spt_err *err, const char *what)
{
    return err_set(err, st, "%s: line %llu: %s", r->path, (unsigned long long)r->row.line, what);
}

spt_status records_error(const records *r, spt_err *err, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return row_error(r, SPT_E_FORMAT, err, what);
}

static bool all_empty(const struct table_row *row, size_t from)
{
    for (size_t i = from; i < row->count; i++)
        if (row->field[i].len)
            return false;
    return true;
}

/* The next row that is not blank or empty. */
static spt_status next_row(records *r, bool *more, spt_err *err)
{
    for (;;) {
        const spt_status st = table_next(r->table, &r->row, more, err);
        if (st)
            return err_wrap(err, st, "%s", r->path);
        if (!*more || r->lines)
            return SPT_OK;
        if (r->row.blank)
            r->counts.blank++;
        else if (r->kind != TABLE_JSONL && all_empty(&r->row, 0))
            r->counts.empty++;
        else
            return SPT_OK;
    }
}

static spt_status check_width(records *r, spt_err *err)
{
    if (r->kind == TABLE_JSONL || r->lines)
        return SPT_OK;
    if (r->row.count < r->needed)
        return records_error(r, err, "%zu field%s where the first row has %zu; is a %s missing%s?",
                             r->row.count, r->row.count == 1 ? "" : "s", r->column_count,
                             r->kind == TABLE_CSV ? "comma" : "tab",
                             r->kind == TABLE_CSV ? " or a quote too many" : "");
    if (r->row.count > r->column_count) {
        if (!all_empty(&r->row, r->column_count))
            return records_error(r, err, "%zu fields where the first row has %zu; %s", r->row.count,
                                 r->column_count,
                                 r->kind == TABLE_CSV ? "texts with commas must be quoted"
                                                      : "a tab inside a text must be replaced");
        r->counts.ragged++;
    }
    return SPT_OK;
}

/* --- columns ------------------------------------------------------------------------------ */

static int lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static bool same_ignoring_case(const char *s, size_t len, const char *name)
{
    if (len != strlen(name))
        return false;
    for (size_t i = 0; i < len; i++)
        if (lower((unsigned char)s[i]) != lower((unsigned char)name[i]))
            return false;
    return true;
}

/* Spaces and byte order marks around a column name are nobody's intention. */
static void trim(const char **s, size_t *len)
{
    for (;;) {
        if (*len && ((*s)[0] == ' ' || (*s)[0] == '\t')) {
            ++*s;
            --*len;
        } else if (*len && ((*s)[*len - 1] == ' ' || (*s)[*len - 1] == '\t')) {
            --*len;
        } else if (*len >= 3 && memcmp(*s, "\xef\xbb\xbf", 3) == 0) {
            *s += 3;
            *len -= 3;
        } else {
            return;
        }
    }
}

static bool is_known_name(const char *s, size_t len)
{
    for (size_t k = 0; k < sizeof known_names / sizeof *known_names; k++)
        if (same_ignoring_case(s, len, known_names[k]))
            return true;
    return false;
}

static bool is_asked_name(const records *r, const char *s, size_t len)
{
    for (size_t k = 0; k < r->asked_count; k++) {
        uint64_t number;
        if (!number_u64(r->asked[k], strlen(r->asked[k]), &number) &&
            same_ignoring_case(s, len, r->asked[k]))
            return true;
    }
    return false;
}

/* A row that holds a name the options give is a header. One that holds a usual name is, too, unless
 * a number stands beside it: "text<TAB>1" is the word "text" with label 1. */
static bool is_header(const records *r)
{
    if (r->header != HEADER_AUTO || r->lines)
        return r->header == HEADER_YES && !r->lines;
    bool known = false, numbers = false;
    for (size_t i = 0; i < r->row.count; i++) {
        const char *s = r->row.field[i].text;
        size_t len = r->row.field[i].len;
        double number;
        trim(&s, &len);
        if (is_asked_name(r, s, len))
            return true;
        known |= is_known_name(s, len);
        numbers |= number_f64(s, len, &number);
    }
    return known && !numbers;
}

static spt_status add_column(records *r, const char *s, size_t len, spt_err *err)
{
    TRY(mem_grow(&r->column, &r->column_cap, r->column_count + 1, sizeof *r->column,
                 TABLE_MAX_FIELDS + 1, err));
    char *name = mem_strndup(s, len);
    if (!name)
        return err_nomem(err, len);
    r->column[r->column_count++] = name;
    return SPT_OK;
}

static spt_status name_columns(records *r, spt_err *err)
{
    const struct table_row *row = &r->row;
    if (r->lines)
        return add_column(r, "1", 1, err);
    for (size_t i = 0; i < row->count; i++) {
        const struct table_field *f = &row->field[i];
        const char *s = f->text;
        size_t len = f->len;
        char number[24];
        if (r->kind == TABLE_JSONL) {
            s = f->name;
            len = f->name_len;
        } else if (r->has_header) {
            trim(&s, &len);
        }
        if (f->len)
            r->needed = i + 1;
        if (r->kind != TABLE_JSONL && (!r->has_header || !len)) {
            len = (size_t)snprintf(number, sizeof number, "%zu", i + 1);
            s = number;
        }
        TRY(add_column(r, s, len, err));
    }
    return SPT_OK;
}

void records_list_columns(const records *r, char *out, size_t size)
{
    size_t n = 0;
    buf name;
    out[0] = '\0';
    buf_init(&name, 2 * size);
    for (size_t i = 0; i < r->column_count; i++) {
        buf_clear(&name);
        buf_add_name(&name, r->column[i], size);
        const int k = snprintf(out + n, size - n, "%s%s", i ? ", " : "", buf_str(&name));
        if (k < 0 || (size_t)k >= size - n) {
            snprintf(out + (n < size - 8 ? n : size - 8), 8, ", ...");
            break;
        }
        n += (size_t)k;
    }
    buf_release(&name);
}

static void tell_verdict(const records *r)
{
    char list[240];
    records_list_columns(r, list, sizeof list);
    if (r->lines)
        return;
    if (r->kind == TABLE_JSONL)
        log_info("%s: JSON Lines with the keys %s", r->path, list);
    else if (r->has_header)
        log_info("%s: %s, the first row is a header: columns %s", r->path, table_kind_name(r->kind),
                 list);
    else
        log_info("%s: %s without a header (the first row is data): columns %s; --header yes if "
                 "that is wrong",
                 r->path, table_kind_name(r->kind), list);
}

/* Reads the header, if there is one, and the first record. */
static spt_status prime(records *r, spt_err *err)
{
    bool more;
    TRY(next_row(r, &more, err));
    if (!more && r->lines) { /* no question, no answer */
        if (!r->opened_before)
            TRY(name_columns(r, err));
        r->opened_before = true;
        return SPT_OK;
    }
    if (!more)
        return err_set(err, SPT_E_FORMAT, "%s: the file is empty: there are no records in it",
                       r->path);
    if (!r->opened_before) {
        r->has_header = r->kind != TABLE_JSONL && is_header(r);
        TRY(name_columns(r, err));
        if (!r->quiet)
            tell_verdict(r);
    }
    if (r->has_header) {
        TRY(next_row(r, &more, err));
        if (!more)
            return err_set(err, SPT_E_FORMAT,
                           "%s: there are no records behind the header (line 1); if the first row "
                           "is data, say --header no",
                           r->path);
        TRY(check_width(r, err));
    }
    r->pending = true;
    r->opened_before = true;
    return SPT_OK;
}

/* A TSV field in quotes was probably written as CSV with tabs: worth a warning, nothing more. */
static void count_quoted(records *r)
{
    if (r->kind != TABLE_TSV || r->lines)
        return;
    for (size_t i = 0; i < r->row.count; i++) {
        const struct table_field *f = &r->row.field[i];
        if (f->len >= 2 && f->text[0] == '"' && f->text[f->len - 1] == '"') {
            r->counts.quoted++;
            return;
        }
    }
}

/* --- opening ------------------------------------------------------------------------------ */

static spt_status init(records *r, const struct records_options *o, spt_err *err)
{
    r->is_stdin = strcmp(o->path, "-") == 0;
    r->path = mem_strdup(r->is_stdin ? "standard input" : o->path);
    r->lines = o->lines;
    r->quiet = o->quiet;
    r->wanted_kind = o->kind;
    r->delimiter = o->delimiter;
    r->header = o->header;
    r->block = o->block;
    r->asked = mem_zalloc(o->column_count + 1, sizeof *r->asked);
    if (!r->path || !r->asked)
        return err_nomem(err, strlen(o->path));
    for (size_t i = 0; i < o->column_count; i++) {
        if (!(r->asked[i] = mem_strdup(o->columns[i])))
            return err_nomem(err, strlen(o->columns[i]));
        r->asked_count++;
    }
    return SPT_OK;
}

spt_status records_open(const struct records_options *o, records **out, spt_err *err)
{
    records *r = mem_zalloc(1, sizeof *r);
    if (!r)
        return err_nomem(err, sizeof *r);
    spt_status st = init(r, o, err);
    if (!st)
        st = open_sources(r, err);
    if (!st)
        st = prime(r, err);
    if (st) {
        records_close(r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

void records_close(records *r)
{
    if (!r)
        return;
    close_sources(r);
    for (size_t i = 0; i < r->column_count; i++)
        mem_free(r->column[i]);
    for (size_t i = 0; i < r->slot_count; i++)
        mem_free(r->slot[i].name);
    for (size_t i = 0; i < r->asked_count; i++)
        mem_free(r->asked[i]);
    mem_free(r->column);
    mem_free(r->slot);
    mem_free(r->asked);
    mem_free(r->path);
    mem_free(r);
}

spt_status records_delimiter(const char *text, char *out, spt_err *err)
{
    const size_t len = strlen(text);
    if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0)
        *out = '\t';
    else if (len == 0)
        *out = 0;
    else if (len == 1 && (unsigned char)*text < 0x80 && !strchr("\"\n\r", *text))
        *out = *text;
    else
        return err_set(err, SPT_E_CONFIG,
                       "delimiter \"%.40s\": one ASCII character or the word tab is needed", text);
    return SPT_OK;
}

bool records_quiet(const records *r)
{
    return r->quiet;
}

bool records_can_rewind(const records *r)
{
    return !r->once;
}

spt_status records_rewind(records *r, spt_err *err)
{
    if (r->once)
        return err_set(err, SPT_E_USAGE, "%s cannot be read twice; use a file", r->path);
    close_sources(r);
    r->counts = (struct records_counts){0};
    r->pending = false;
    TRY(open_sources(r, err));
    return prime(r, err);
}

/* --- reading ------------------------------------------------------------------------------ */

const char *records_path(const records *r)
{
    return r->path;
}

bool records_has_header(const records *r)
{
    return r->has_header;
}

enum table_kind records_table_kind(const records *r)
{
    return r->kind;
}

size_t records_columns(const records *r)
{
    return r->column_count;
}

const char *records_column_name(const records *r, size_t i)
{
    return r->column[i];
}

uint64_t records_line(const records *r)
{
    return r->row.line;
}

struct records_counts records_count(const records *r)
{
    return r->counts;
}

/* Index of a column: its exact name, the only one that differs in case, or its number. Returns
 * how many fit (0: none, 2: ambiguous). */
static int find_column(const records *r, const char *name, size_t *out)
{
    int exact = 0, similar = 0;
    size_t at = 0, near = 0;
    for (size_t i = 0; i < r->column_count; i++) {
        if (strcmp(r->column[i], name) == 0) {
            at = exact++ ? at : i;
        } else if (same_ignoring_case(r->column[i], strlen(r->column[i]), name)) {
            near = similar++ ? near : i;
        }
    }
    uint64_t number;
    if (exact)
        *out = at;
    else if (similar)
        *out = near;
    else if (number_u64(name, strlen(name), &number) && number >= 1 && number <= r->column_count)
        *out = (size_t)number - 1;
    else
        return 0;
    return exact > 1 || (!exact && similar > 1) ? 2 : 1;
}

spt_status records_name_column(records *r, size_t i, const char *name, spt_err *err)
{
    char *copy = mem_strdup(name);
    if (!copy)
        return err_nomem(err, strlen(name));
    mem_free(r->column[i]);
    r->column[i] = copy;
    return SPT_OK;
}

bool records_has_column(const records *r, const char *name)
{
    size_t at;
    return find_column(r, name, &at) == 1;
}

spt_status records_column(records *r, const char *name, size_t *slot, spt_err *err)
{
    size_t at = 0;
    const int fits = find_column(r, name, &at);
    if (fits != 1) {
        char list[240];
        records_list_columns(r, list, sizeof list);
        if (fits > 1)
            return err_set(err, SPT_E_CONFIG,
                           "%s: several columns are named \"%s\" (%s); say which by its number",
                           r->path, name, list);
        return err_set(err, SPT_E_CONFIG, "%s: no column \"%s\": the columns are %s%s", r->path,
                       name, list,
                       r->kind == TABLE_JSONL || r->has_header || r->lines
                           ? ""
                           : " (by number: the first row was taken as data; --header yes if it "
                             "holds the names)");
    }
    for (size_t i = 0; i < r->slot_count; i++) {
        if (r->slot[i].column == at) {
            *slot = i;
            return SPT_OK;
        }
    }
    TRY(mem_grow(&r->slot, &r->slot_cap, r->slot_count + 1, sizeof *r->slot, TABLE_MAX_FIELDS,
                 err));
    struct slot s = {.column = at};
    if (r->kind == TABLE_JSONL && !(s.name = mem_strdup(r->column[at])))
        return err_nomem(err, strlen(name));
    *slot = r->slot_count;
    r->slot[r->slot_count++] = s;
    return SPT_OK;
}

spt_status records_next(records *r, bool *more, spt_err *err)
{
    if (r->pending) {
        r->pending = false;
    } else {
        bool any;
        TRY(next_row(r, &any, err));
        if (!any) {
            *more = false;
            return SPT_OK;
        }
        TRY(check_width(r, err));
    }
    count_quoted(r);
    r->counts.records++;
    *more = true;
    return SPT_OK;
}

static const struct table_field *find_member(const records *r, const struct slot *s)
{
    const size_t len = strlen(s->name);
    for (size_t k = 0; k < r->row.count; k++) {
        /* Most files keep the order of their keys: begin where the key stood in the first one. */
        size_t i = k;
        if (s->column < r->row.count)
            i = k == 0 ? s->column : k <= s->column ? k - 1 : k;
        const struct table_field *f = &r->row.field[i];
        if (f->name_len == len && memcmp(f->name, s->name, len) == 0)
            return f;
    }
    return NULL;
}

spt_status records_field(const records *r, size_t slot, const char **text, size_t *len,
                         spt_err *err)
{
    const struct slot *s = &r->slot[slot];
    const struct table_field *f = NULL;
    if (r->kind == TABLE_JSONL) {
        f = find_member(r, s);
        if (!f)
            return records_error(r, err, "there is no \"%s\" in this record", s->name);
        if (f->kind == TABLE_NULL)
            return records_error(r, err, "\"%s\" is null; every record needs a text or a number",
                                 s->name);
        if (f->kind == TABLE_NESTED)
            return records_error(r, err, "\"%s\" is %s; a text or a number is needed", s->name,
                                 f->text[0] == '[' ? "a list" : "an object");
    } else if (s->column < r->row.count) {
        f = &r->row.field[s->column];
    }
    *text = f && f->len ? f->text : "";
    *len = f ? f->len : 0;
    return SPT_OK;
}
