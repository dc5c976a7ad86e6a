/* One buffer holds the record being read and what was read beyond it. A parser looks at the bytes
 * from `start`; when the record does not end in the buffer it asks for more and starts the record
 * over. The buffer doubles while a record does not fit, so a record is looked at O(log) times, and
 * the size of the source never matters. Unescaping happens in place. */
#include "text/table.h"

#include <string.h>

#include "base/mem.h"
#include "text/json.h"
#include "text/utf8.h"

#define BLOCK ((size_t)256 << 10)
#define FIRST_BLOCK ((size_t)16 << 10) /* small files need little */

struct table_reader {
    enum table_kind kind;
    bool any_bytes;
    char delimiter;
    bool delimiter_given;
    size_t max_record, block;
    table_read_fn source;
    void *ctx;
    char *bytes;
    size_t start, end, cap; /* unread bytes are [start, end) */
    bool at_eof, begun;
    char line_end;         /* '\n', or '\r' for old Mac files */
    uint64_t line, offset; /* of the byte at `start` */
    spt_status st;
    struct table_field *field;
    size_t count, field_cap;
    json_reader json;
    bool json_ready;
};

/* What looking for the end of a record found. */
enum found { NEED_MORE, FOUND, BROKEN };

const char *table_kind_name(enum table_kind k)
{
    static const char *const name[] = {"TSV", "CSV", "JSON Lines"};
    return name[k];
}

/* --- messages ----------------------------------------------------------------------------- */

static uint64_t count_lines(const char *p, size_t n, char line_end)
{
    uint64_t lines = 0;
    const char *end = p + n;
    while (p < end && (p = memchr(p, line_end, (size_t)(end - p)))) {
        lines++;
        p++;
    }
    return lines;
}

/* Fails with the line and byte of a position in the buffer. */
#define FAIL_AT(t, pos, err, ...) fail_at(t, (pos), err_set(err, SPT_E_FORMAT, __VA_ARGS__), err)
static spt_status fail_at(struct table_reader *t, size_t pos, spt_status st, spt_err *err)
{
    const uint64_t line = t->line + count_lines(t->bytes + t->start, pos - t->start, t->line_end);
    const uint64_t at = t->offset + (pos - t->start);
    if (err)
        err->offset = at;
    t->st = st;
    return err_wrap(err, st, "line %llu, byte %llu", (unsigned long long)line,
                    (unsigned long long)at);
}

/* --- the buffer --------------------------------------------------------------------------- */

/* Moves the unread bytes to the front and makes room for one more block. */
static spt_status make_room(struct table_reader *t, spt_err *err)
{
    if (t->start) {
        memmove(t->bytes, t->bytes + t->start, t->end - t->start);
        t->end -= t->start;
        t->start = 0;
    }
    const size_t room = t->cap - t->end;
    if (room && (room >= t->block || room >= FIRST_BLOCK / 4))
        return SPT_OK;
    size_t want = t->cap ? t->cap * 2 : FIRST_BLOCK;
    /* A source longer than the first block deserves a whole one at once. */
    if (t->cap && want < 2 * t->block)
        want = 2 * t->block;
    char *p = mem_realloc(t->bytes, want, 1);
    if (!p)
        return t->st = err_nomem(err, want);
    t->bytes = p;
    t->cap = want;
    return SPT_OK;
}

/* Reads until at least one more byte is there or the source ends. */
static spt_status read_more(struct table_reader *t, spt_err *err)
{
    if (t->end - t->start > t->max_record)
        return FAIL_AT(t, t->start, err, "a record longer than %zu bytes%s", t->max_record,
                       t->kind == TABLE_CSV ? "; is a quote not closed?" : "");
    TRY(make_room(t, err));
    size_t n = t->cap - t->end, got = 0;
    if (n > t->block)
        n = t->block;
    const spt_status st = t->source(t->ctx, t->bytes + t->end, n, &got, err);
    if (st)
        return t->st = st;
    t->end += got;
    t->at_eof = got == 0;
    return SPT_OK;
}

static void consume(struct table_reader *t, size_t to, uint64_t lines)
{
    t->offset += to - t->start;
    t->line += lines;
    t->start = to;
}

/* --- the beginning of the source ---------------------------------------------------------- */

/* Enough bytes to judge the encoding: a first line, a block, or everything. No more than
 * that, because a pipe may have someone waiting behind it. */
static spt_status fill_head(struct table_reader *t, spt_err *err)
{
    while (!t->at_eof && t->end - t->start < FIRST_BLOCK &&
           !memchr(t->bytes ? t->bytes + t->start : "", '\n', t->end - t->start))
        TRY(read_more(t, err));
    return SPT_OK;
}

/* --- fields ------------------------------------------------------------------------------- */

static spt_status add_field(struct table_reader *t, struct table_field f, spt_err *err)
{
    if (t->count == t->field_cap) {
        const spt_status st = mem_grow(&t->field, &t->field_cap, t->count + 1, sizeof *t->field,
                                       TABLE_MAX_FIELDS, err);
        if (st == SPT_E_FORMAT)
            return FAIL_AT(t, t->start, err, "more than %d fields in one record", TABLE_MAX_FIELDS);
        if (st)
            return t->st = st;
    }
    t->field[t->count++] = f;
    return SPT_OK;
}

/* The record's bytes must be UTF-8 without zero bytes, unless any will do. */
static spt_status check_text(struct table_reader *t, size_t from, size_t to, spt_err *err)
{
    const char *p = t->bytes + from;
    if (t->any_bytes)
        return SPT_OK;
    const size_t n = to - from, ok = utf8_valid_prefix(p, n);
    if (ok < n)
        return FAIL_AT(t, from + ok, err,
                       "not UTF-8 (byte 0x%02x); convert the file, e.g. with iconv -f LATIN1 -t "
                       "UTF-8",
                       (unsigned char)p[ok]);
    const char *zero = memchr(p, '\0', n);
    if (zero)
        return FAIL_AT(t, (size_t)(zero - t->bytes), err, "a zero byte: this is not a text file");
    return SPT_OK;
}

/* The end of the line that starts at `from`: its text ends at *to (line end and the CRs in front
 * of it cut), the next line starts at *next. */
static enum found find_line(const struct table_reader *t, size_t from, size_t *to, size_t *next)
{
    const char *nl = from < t->end ? memchr(t->bytes + from, t->line_end, t->end - from) : NULL;
    if (!nl && !t->at_eof)
        return NEED_MORE;
    *to = nl ? (size_t)(nl - t->bytes) : t->end;
    *next = nl ? *to + 1 : t->end;
    if (t->line_end == '\n')
        while (*to > from && t->bytes[*to - 1] == '\r')
            --*to;
    return FOUND;
}

static spt_status need_line(struct table_reader *t, size_t *to, size_t *next, spt_err *err)
{
    size_t from = 0; /* bytes of the line already searched */
    while (find_line(t, t->start + from, to, next) == NEED_MORE) {
        from = t->end - t->start;
        TRY(read_more(t, err));
    }
    /* The search may have begun behind a CR that belongs to this line end. */
    if (t->line_end == '\n')
        while (*to > t->start && t->bytes[*to - 1] == '\r')
            --*to;
    return SPT_OK;
}

/* The kind of line end that this file does not use, outside quotes. */
static spt_status stray_end(struct table_reader *t, size_t pos, spt_err *err)
{
    if (t->line_end == '\r')
        return FAIL_AT(t, pos, err, "a line feed in a file whose lines end in carriage returns");
    return FAIL_AT(t, pos, err,
                   "a carriage return in the middle of a line (mixed line ends, or a line break "
                   "inside a text: quote it in CSV, or remove it)");
}

/* --- TSV ---------------------------------------------------------------------------------- */

static spt_status next_tsv(struct table_reader *t, struct table_row *row, spt_err *err)
{
    size_t to, next;
    TRY(need_line(t, &to, &next, err));
    TRY(check_text(t, t->start, to, err));
    const char *p = t->bytes + t->start, *end = t->bytes + to;
    const char other = t->line_end == '\n' ? '\r' : '\n';
    const char *stray = p < end ? memchr(p, other, (size_t)(end - p)) : NULL;
    if (stray)
        return stray_end(t, (size_t)(stray - t->bytes), err);
    row->blank = p == end;
    while (!row->blank) {
        const char *tab = memchr(p, t->delimiter, (size_t)(end - p));
        const char *stop = tab ? tab : end;
        TRY(add_field(t, (struct table_field){.text = p, .len = (size_t)(stop - p)}, err));
        if (!tab)
            break;
        p = tab + 1;
    }
    consume(t, next, 1);
    return SPT_OK;
}

/* --- CSV ---------------------------------------------------------------------------------- */

/* Where an unquoted field ends: a delimiter, LF or CR, or `end`. */
static const char *plain_end(const char *p, const char *end, char delimiter)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    const uint64_t d = ones * (unsigned char)delimiter;
    for (; end - p >= 8; p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        const uint64_t a = x ^ d, b = x ^ ones * '\n', c = x ^ ones * '\r';
        const uint64_t stop = (((a - ones) & ~a) | ((b - ones) & ~b) | ((c - ones) & ~c)) & high;
        if (stop)
            return p + __builtin_ctzll(stop) / 8;
    }
#endif
    while (p < end && *p != delimiter && *p != '\n' && *p != '\r')
        p++;
    return p;
}

/* Behind the closing quote of the field whose text starts at p; NULL if it is not in sight.
 * *doubled: quotes inside. */
static const char *quoted_end(const char *p, const char *end, bool at_eof, bool *doubled)
{
    *doubled = false;
    for (;;) {
        p = p < end ? memchr(p, '"', (size_t)(end - p)) : NULL;
        if (!p)
            return NULL;
        if (p + 1 == end)
            return at_eof ? end : NULL; /* the next byte decides */
        if (p[1] != '"')
            return p + 1;
        *doubled = true;
        p += 2;
    }
}

static size_t undouble(char *p, size_t n)
{
    const char *from = p, *end = p + n;
    char *to = p;
    while (from < end) {
        const char *quote = memchr(from, '"', (size_t)(end - from));
        const size_t run = quote ? (size_t)(quote + 1 - from) : (size_t)(end - from);
        memmove(to, from, run);
        to += run;
        from += run + (quote ? 1 : 0);
    }
    return (size_t)(to - p);
}

/* Looks for the end of the record without changing the buffer, so that it can be done again with
 * more bytes. *next: behind its line end. */
static enum found find_csv_end(const struct table_reader *t, size_t from, size_t *next,
                               size_t *broken)
{
    const char *p = t->bytes + from, *end = t->bytes + t->end;
    for (;;) {
        if (p < end && *p == '"') {
            bool doubled;
            const char *open = p;
            p = quoted_end(p + 1, end, t->at_eof, &doubled);
            if (!p) {
                *broken = (size_t)(open - t->bytes);
                return t->at_eof ? BROKEN : NEED_MORE;
            }
        } else {
            p = plain_end(p, end, t->delimiter);
        }
        if (p == end) {
            *next = t->end;
            return t->at_eof ? FOUND : NEED_MORE;
        }
        if (*p == t->delimiter) {
            p++;
            continue;
        }
        /* CR LF may be cut by the buffer. A CR that ends nothing is for the caller to refuse. */
        if (*p == '\r' && t->line_end == '\n') {
            while (p < end && *p == '\r')
                p++;
            if (p == end && !t->at_eof)
                return NEED_MORE;
            if (p < end && *p != '\n') {
                *next = (size_t)(p - t->bytes);
                return FOUND;
            }
        }
        *next = (size_t)(p - t->bytes) + (p < end);
        return FOUND;
    }
}

/* Splits the record [start, next), which is complete. */
static spt_status split_csv(struct table_reader *t, size_t first, size_t next, spt_err *err)
{
    char *p = t->bytes + first, *end = t->bytes + next;
    for (;;) {
        char *stop;
        struct table_field f;
        if (p < end && *p == '"') {
            bool doubled;
            char *text = p + 1;
            stop = t->bytes + (quoted_end(text, end, true, &doubled) - t->bytes);
            f = (struct table_field){.text = text, .len = (size_t)(stop - 1 - text)};
            if (stop < end && *stop != t->delimiter && *stop != '\n' && *stop != '\r')
                return FAIL_AT(t, (size_t)(stop - t->bytes), err,
                               "text behind a closing quote (a quote inside a quoted field is "
                               "written \"\")");
            if (doubled)
                f.len = undouble(text, f.len);
        } else {
            stop = t->bytes + (plain_end(p, end, t->delimiter) - t->bytes);
            f = (struct table_field){.text = p, .len = (size_t)(stop - p)};
        }
        TRY(add_field(t, f, err));
        if (stop == end)
            return SPT_OK;
        if (*stop == t->delimiter) {
            p = stop + 1;
            continue;
        }
        if (t->line_end == '\n') {
            char *cr = stop;
            while (stop < end && *stop == '\r')
                stop++;
            const bool last = stop == end && t->at_eof && next == t->end;
            if (!last && (stop == end || *stop != '\n'))
                return stray_end(t, (size_t)(cr - t->bytes), err);
        } else if (*stop == '\n') {
            return stray_end(t, (size_t)(stop - t->bytes), err);
        }
        return SPT_OK;
    }
}

static spt_status next_csv(struct table_reader *t, struct table_row *row, spt_err *err)
{
    size_t to, next, broken = 0;
    /* A byte order mark in front of a quote (files put behind one another) must not hide it. */
    while (t->end - t->start < 4 && !t->at_eof)
        TRY(read_more(t, err));
    if (t->end - t->start >= 4 && memcmp(t->bytes + t->start, "\xef\xbb\xbf\"", 4) == 0)
        consume(t, t->start + 3, 0);
    enum found f;
    size_t wanted = 0;
    while ((f = find_csv_end(t, t->start, &next, &broken)) == NEED_MORE) {
        /* Looking again from the record's start pays only when there is much more to see. */
        const size_t have = t->end - t->start;
        wanted = have + (have / 2 > t->block ? have / 2 : 1);
        while (!t->at_eof && t->end - t->start < wanted)
            TRY(read_more(t, err));
    }
    if (f == BROKEN)
        return FAIL_AT(t, broken, err, "this quote is not closed");
    TRY(check_text(t, t->start, next, err));
    const uint64_t lines = count_lines(t->bytes + t->start, next - t->start, t->line_end);
    to = next;
    while (to > t->start && (t->bytes[to - 1] == '\n' || t->bytes[to - 1] == '\r'))
        to--;
    row->blank = to == t->start;
    if (!row->blank)
        TRY(split_csv(t, t->start, next, err));
    else if (lines == 0 && !(t->at_eof && next == t->end))
        return stray_end(t, t->start, err); /* a CR (or LF) that is no line end here */
    consume(t, next, lines);
    return SPT_OK;
}

/* --- JSON Lines --------------------------------------------------------------------------- */

static spt_status add_member(struct table_reader *t, const struct json_event *key,
                             const struct json_event *ev, const char *raw, size_t raw_len,
                             spt_err *err)
{
    struct table_field f = {.text = raw, .len = raw_len, .name = key->text, .name_len = key->len};
    switch (ev->kind) {
    case JSON_STRING:
        f.kind = TABLE_TEXT;
        f.text = ev->text;
        f.len = ev->len;
        break;
    case JSON_NUMBER:
        f.kind = TABLE_NUMBER;
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        f.kind = TABLE_BOOL;
        break;
    case JSON_NULL:
        f.kind = TABLE_NULL;
        break;
    default:
        f.kind = TABLE_NESTED;
        break;
    }
    /* Escapes are undone at the end of the record: the reader still looks back at keys. */
    TRY(add_field(t, f, err));
    if (ev->kind == JSON_STRING && ev->escaped)
        t->field[t->count - 1].kind |= 0x100;
    if (key->escaped)
        t->field[t->count - 1].kind |= 0x200;
    return SPT_OK;
}

static void unescape_fields(struct table_reader *t)
{
    for (size_t i = 0; i < t->count; i++) {
        struct table_field *f = &t->field[i];
        const unsigned marks = (unsigned)f->kind;
        f->kind = (enum table_value)(marks & 0xff);
        if (marks & 0x100) {
            const struct json_event ev = {.escaped = true, .text = f->text, .len = f->len};
            f->len = json_unescape(&ev, t->bytes + (f->text - t->bytes));
        }
        if (marks & 0x200) {
            const struct json_event ev = {.escaped = true, .text = f->name, .len = f->name_len};
            f->name_len = json_unescape(&ev, t->bytes + (f->name - t->bytes));
        }
    }
}

static spt_status read_object(struct table_reader *t, spt_err *err)
{
    json_reader *j = &t->json;
    struct json_event ev = {0}, key = {0};
    bool more;
    TRY(json_next(j, &ev, err));
    if (ev.kind != JSON_OBJECT)
        return json_error(j, ev.offset, err,
                          "%s where an object should stand (JSON Lines has one object per line)",
                          json_kind_name(ev.kind));
    for (;;) {
        TRY(json_next_key(j, &more, &key, err));
        if (!more)
            break;
        TRY(json_next(j, &ev, err));
        const size_t from = ev.offset;
        TRY(json_skip_rest(j, &ev, err));
        TRY(add_member(t, &key, &ev, j->text + from, j->pos - from, err));
    }
    return json_finish(j, err);
}

static bool only_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
        p++;
    return p == end;
}

static spt_status next_jsonl(struct table_reader *t, struct table_row *row, spt_err *err)
{
    size_t to, next;
    TRY(need_line(t, &to, &next, err));
    if (to - t->start >= 3 && memcmp(t->bytes + t->start, "\xef\xbb\xbf", 3) == 0)
        consume(t, t->start + 3, 0); /* files put behind one another */
    const char *p = t->bytes + t->start;
    row->blank = only_space(p, t->bytes + to);
    if (!row->blank) {
        if (!t->json_ready)
            json_open(&t->json, NULL, 0, 0);
        t->json_ready = true;
        json_reopen(&t->json, p, to - t->start);
        t->json.line = t->line;
        t->json.base_offset = t->offset;
        const spt_status st = read_object(t, err);
        if (st)
            return t->st = st;
        unescape_fields(t);
    }
    consume(t, next, 1);
    return SPT_OK;
}

/* --- the beginning, with all that was read of it -------------------------------------------- */

/* The first line end outside quotes; NULL when it is not in sight. */
static const char *first_line_end(const struct table_reader *t)
{
    const char *p = t->bytes + t->start, *end = t->bytes + t->end;
    while (p < end) {
        bool doubled;
        if (t->kind == TABLE_CSV && *p == '"')
            p = quoted_end(p + 1, end, t->at_eof, &doubled);
        if (!p)
            return NULL;
        p = plain_end(p, end, t->delimiter);
        if (p < end && (*p == '\n' || *p == '\r'))
            return p;
        if (p < end)
            p++;
    }
    return NULL;
}

/* A CR that no LF (or further CR in front of one) follows: old Mac. */
static spt_status judge_line_ends(struct table_reader *t, spt_err *err)
{
    const char *at = NULL;
    while (t->start < t->end || !t->at_eof) {
        at = t->start < t->end ? first_line_end(t) : NULL;
        if (at && (*at == '\n' || at + 1 < t->bytes + t->end || t->at_eof))
            break;
        if (t->at_eof)
            return SPT_OK;
        /* Looking again from the start pays only when there is much more to see. */
        const size_t wanted = (t->end - t->start) * 3 / 2 + 1;
        while (!t->at_eof && t->end - t->start < wanted)
            TRY(read_more(t, err));
    }
    const char *end = t->bytes + t->end;
    if (at && *at == '\r' && (at + 1 == end || (at[1] != '\n' && at[1] != '\r')))
        t->line_end = '\r';
    return SPT_OK;
}

/* Spreadsheets write "sep=;" in front of everything to say what the delimiter is. */
static spt_status begin_csv(struct table_reader *t, spt_err *err)
{
    while (t->end - t->start < 7 && !t->at_eof &&
           (t->start == t->end || memcmp(t->bytes + t->start, "sep=",
                                         t->end - t->start < 4 ? t->end - t->start : 4) == 0))
        TRY(read_more(t, err));
    const char *p = t->bytes + t->start;
    const size_t n = t->end - t->start;
    if (n >= 6 && memcmp(p, "sep=", 4) == 0 && p[4] > 0x08 && p[4] != '"' &&
        (p[5] == '\n' || p[5] == '\r')) {
        if (!t->delimiter_given)
            t->delimiter = p[4];
        t->delimiter_given = true;
        const size_t line_end = n >= 7 && p[5] == '\r' && p[6] == '\n' ? 2 : 1;
        if (p[5] == '\r' && line_end == 1)
            t->line_end = '\r';
        consume(t, t->start + 5 + line_end, 1);
    }
    return t->line_end == '\r' ? SPT_OK : judge_line_ends(t, err);
}

static spt_status begin(struct table_reader *t, spt_err *err)
{
    TRY(fill_head(t, err));
    t->begun = true;
    size_t bom = 0;
    const size_t n = t->end - t->start;
    const enum text_encoding e = n ? text_detect(t->bytes, n < 4096 ? n : 4096, &bom) : TEXT_UTF8;
    if (e != TEXT_UTF8)
        return FAIL_AT(t, t->start, err,
                       "the text is %s, not UTF-8; convert it, e.g. with iconv -f %s -t UTF-8",
                       text_encoding_name(e),
                       e == TEXT_UTF16LE || e == TEXT_UTF16BE ? "UTF-16" : "UTF-32");
    consume(t, t->start + bom, 0);
    return t->kind == TABLE_CSV ? begin_csv(t, err) : judge_line_ends(t, err);
}

/* --- calls -------------------------------------------------------------------------------- */

/* A first row of one field that holds another common delimiter is a mistake that nobody would
 * notice before all labels are missing. */
static spt_status check_first(struct table_reader *t, const struct table_row *row, spt_err *err)
{
    if (t->kind != TABLE_CSV || t->delimiter_given || row->blank || t->count != 1)
        return SPT_OK;
    static const char other[] = ";\t|";
    for (const char *d = other; *d; d++) {
        if (!memchr(t->field[0].text, *d, t->field[0].len))
            continue;
        const char name[4] = {'\'', *d, '\'', '\0'};
        const char *shown = *d == '\t' ? "tab" : name;
        t->st = err_set(err, SPT_E_FORMAT,
                        "line %llu: no comma but a %s: if the fields are separated by it, say "
                        "--delimiter %s; if this is one column, say --delimiter ','",
                        (unsigned long long)row->line, *d == '\t' ? "tab" : shown, shown);
        return t->st;
    }
    return SPT_OK;
}

spt_status table_open(const struct table_options *o, table_read_fn source, void *ctx,
                      table_reader **out, spt_err *err)
{
    const char d = o->delimiter ? o->delimiter : o->kind == TABLE_CSV ? ',' : '\t';
    if (d == '"' || d == '\n' || d == '\r' || (unsigned char)d >= 0x80)
        return err_set(err, SPT_E_CONFIG,
                       "a delimiter is one ASCII character, not a quote or a line end");
    struct table_reader *t = mem_zalloc(1, sizeof *t);
    if (!t)
        return err_nomem(err, sizeof *t);
    t->kind = o->kind;
    t->delimiter = o->whole_lines ? '\n' : d;
    t->any_bytes = o->any_bytes;
    t->delimiter_given = o->delimiter != 0;
    t->max_record = o->max_record ? o->max_record : TABLE_MAX_RECORD;
    t->block = o->block ? o->block : BLOCK;
    t->source = source;
    t->ctx = ctx;
    t->line = 1;
    t->line_end = '\n';
    *out = t;
    return SPT_OK;
}

spt_status table_next(table_reader *t, struct table_row *row, bool *more, spt_err *err)
{
    if (t->st)
        return err_set(err, t->st, "the table was refused earlier");
    const bool first = !t->begun;
    if (first)
        TRY(begin(t, err));
    while (t->start == t->end && !t->at_eof)
        TRY(read_more(t, err));
    if (t->start == t->end) {
        *more = false;
        return SPT_OK;
    }
    t->count = 0;
    struct table_row r = {.line = t->line, .offset = t->offset};
    switch (t->kind) {
    case TABLE_TSV:
        TRY(next_tsv(t, &r, err));
        break;
    case TABLE_CSV:
        TRY(next_csv(t, &r, err));
        break;
    case TABLE_JSONL:
        TRY(next_jsonl(t, &r, err));
        break;
    }
    if (first)
        TRY(check_first(t, &r, err));
    r.field = t->field;
    r.count = t->count;
    *row = r;
    *more = true;
    return SPT_OK;
}

void table_close(table_reader *t)
{
    if (!t)
        return;
    json_close(&t->json);
    mem_free(t->bytes);
    mem_free(t->field);
    mem_free(t);
}
