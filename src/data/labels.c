/* Labels stand in one pool of bytes, each with its NUL, found again through an open-addressing
 * table of indices. */
#include "data/labels.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "fs/fs.h"
#include "text/table.h"
#include "text/utf8.h"

#define LABEL_FILE_MAX ((size_t)16 << 20)
#define LABEL_MAX ((size_t)64 << 10)

struct label {
    size_t at, len; /* in the pool */
};

struct label_set {
    buf pool;
    struct label *label;
    size_t count, cap;
    uint32_t *bucket; /* index + 1; 0: free */
    size_t buckets;   /* a power of two */
};

spt_status label_set_new(label_set **out, spt_err *err)
{
    label_set *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    buf_init(&s->pool, (size_t)1 << 30);
    *out = s;
    return SPT_OK;
}

void label_set_free(label_set *s)
{
    if (!s)
        return;
    buf_release(&s->pool);
    mem_free(s->label);
    mem_free(s->bucket);
    mem_free(s);
}

size_t label_set_count(const label_set *s)
{
    return s->count;
}

const char *label_set_text(const label_set *s, size_t i)
{
    return s->pool.data + s->label[i].at;
}

size_t label_set_len(const label_set *s, size_t i)
{
    return s->label[i].len;
}

void label_trim(const char **text, size_t *len)
{
    const char *p = *text, *end = p + *len;
    for (bool cut = true; cut && p < end;) {
        cut = false;
        if (*p == ' ' || (*p >= '\t' && *p <= '\r')) {
            p++;
            cut = true;
        } else if (end[-1] == ' ' || (end[-1] >= '\t' && end[-1] <= '\r')) {
            end--;
            cut = true;
        } else if (end - p >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) {
            p += 3;
            cut = true;
        } else if (end - p >= 3 && memcmp(end - 3, "\xef\xbb\xbf", 3) == 0) {
            end -= 3;
            cut = true;
        }
    }
    *text = p;
    *len = (size_t)(end - p);
}

static size_t hash_text(const char *s, size_t len)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static size_t find_bucket(const label_set *s, const char *text, size_t len)
{
    size_t b = hash_text(text, len) & (s->buckets - 1);
    for (; s->bucket[b]; b = (b + 1) & (s->buckets - 1)) {
        const struct label *l = &s->label[s->bucket[b] - 1];
        if (l->len == len && memcmp(s->pool.data + l->at, text, len) == 0)
            break;
    }
    return b;
}

static void fill_buckets(label_set *s)
{
    memset(s->bucket, 0, s->buckets * sizeof *s->bucket);
    for (size_t i = 0; i < s->count; i++)
        s->bucket[find_bucket(s, label_set_text(s, i), s->label[i].len)] = (uint32_t)i + 1;
}

static spt_status grow_buckets(label_set *s, spt_err *err)
{
    if (s->buckets && 2 * (s->count + 1) <= s->buckets)
        return SPT_OK;
    const size_t want = s->buckets ? 2 * s->buckets : 32;
    uint32_t *bucket = mem_realloc(s->bucket, want, sizeof *bucket);
    if (!bucket)
        return err_nomem(err, want * sizeof *bucket);
    s->bucket = bucket;
    s->buckets = want;
    fill_buckets(s);
    return SPT_OK;
}

int64_t label_set_find(const label_set *s, const char *text, size_t len)
{
    if (!s->buckets)
        return -1;
    label_trim(&text, &len);
    return (int64_t)s->bucket[find_bucket(s, text, len)] - 1;
}

spt_status label_set_add(label_set *s, const char *text, size_t len, bool *trimmed, spt_err *err)
{
    const size_t whole = len;
    label_trim(&text, &len);
    if (trimmed)
        *trimmed = len != whole;
    if (!len)
        return err_set(err, SPT_E_FORMAT, "the label is empty");
    if (len > LABEL_MAX)
        return err_set(err, SPT_E_FORMAT, "a label of %zu bytes; the limit is %zu", len, LABEL_MAX);
    if (memchr(text, '\0', len))
        return err_set(err, SPT_E_FORMAT, "a label with a zero byte");
    TRY(grow_buckets(s, err));
    const size_t b = find_bucket(s, text, len);
    if (s->bucket[b])
        return SPT_OK;
    if (s->count == LABELS_MAX)
        return err_set(err, SPT_E_FORMAT, "more than %d different labels", LABELS_MAX);
    TRY(mem_grow(&s->label, &s->cap, s->count + 1, sizeof *s->label, LABELS_MAX, err));
    const size_t at = s->pool.len;
    buf_add(&s->pool, text, len);
    buf_addc(&s->pool, '\0');
    TRY(buf_status(&s->pool, "labels", err));
    s->label[s->count++] = (struct label){at, len};
    s->bucket[b] = (uint32_t)s->count;
    return SPT_OK;
}

static int compare_labels(const label_set *s, struct label a, struct label b)
{
    const int c = memcmp(s->pool.data + a.at, s->pool.data + b.at, a.len < b.len ? a.len : b.len);
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static void sift_label(const label_set *s, size_t i, size_t n)
{
    struct label *l = s->label;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && compare_labels(s, l[child], l[child + 1]) < 0)
            child++;
        if (compare_labels(s, l[i], l[child]) >= 0)
            return;
        const struct label t = l[i];
        l[i] = l[child];
        l[child] = t;
    }
}

void label_set_sort(label_set *s)
{
    for (size_t i = s->count / 2; i-- > 0;)
        sift_label(s, i, s->count);
    for (size_t end = s->count; end-- > 1;) {
        const struct label t = s->label[0];
        s->label[0] = s->label[end];
        s->label[end] = t;
        sift_label(s, 0, end);
    }
    if (s->buckets)
        fill_buckets(s);
}

/* --- from the command line ---------------------------------------------------------------- */

static spt_status add_given(label_set *s, const char *text, size_t len, spt_err *err)
{
    const size_t before = s->count;
    spt_status st = label_set_add(s, text, len, NULL, err);
    if (!st && s->count == before)
        st = err_set(err, SPT_E_CONFIG, "the label \"%.*s\" stands twice",
                     (int)(len < 100 ? len : 100), text);
    return st;
}

static spt_status parse_list(label_set *s, const char *spec, spt_err *err)
{
    for (const char *p = spec;; p++) {
        const size_t len = strcspn(p, ",");
        const spt_status st = add_given(s, p, len, err);
        if (st) {
            err_wrap(err, st, "labels \"%.200s\"", spec);
            return st == SPT_E_NOMEM ? st : SPT_E_CONFIG;
        }
        p += len;
        if (!*p)
            return SPT_OK;
    }
}

static spt_status read_file_source(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    return fs_stream_read(ctx, p, n, got, err);
}

static spt_status read_labels(label_set *s, table_reader *t, spt_err *err)
{
    struct table_row row;
    bool more;
    for (;;) {
        TRY(table_next(t, &row, &more, err));
        if (!more)
            return SPT_OK;
        if (row.blank)
            continue;
        const spt_status st = add_given(s, row.field[0].text, row.field[0].len, err);
        if (st)
            return err_wrap(err, st, "line %llu", (unsigned long long)row.line);
    }
}

static spt_status parse_file(label_set *s, const char *path, spt_err *err)
{
    fs_stream *stream = NULL;
    TRY(fs_stream_open(path, &stream, err));
    table_reader *t = NULL;
    const struct table_options o = {
        .kind = TABLE_TSV, .whole_lines = true, .max_record = LABEL_FILE_MAX};
    spt_status st = table_open(&o, read_file_source, stream, &t, err);
    if (!st)
        st = read_labels(s, t, err);
    if (!st && !s->count)
        st = err_set(err, SPT_E_FORMAT, "there are no labels in it");
    if (st)
        err_wrap(err, st, "%s", path);
    table_close(t);
    fs_stream_close(stream);
    return st;
}

spt_status label_set_parse(const char *spec, label_set **out, spt_err *err)
{
    label_set *s = NULL;
    TRY(label_set_new(&s, err));
    const spt_status st = spec[0] == '@' ? parse_file(s, spec + 1, err) : parse_list(s, spec, err);
    if (st) {
        label_set_free(s);
        if (err && st == SPT_E_CONFIG)
            err->code = st;
        return st;
    }
    *out = s;
    return SPT_OK;
}

void label_set_describe(const label_set *s, buf *out)
{
    const size_t shown = s->count <= 12 ? s->count : 10;
    for (size_t i = 0; i < shown; i++) {
        buf_adds(out, i ? ", " : "");
        buf_add_name(out, label_set_text(s, i), 60);
    }
    if (shown < s->count)
        buf_addf(out, ", ... (%zu in all)", s->count);
}

bool labels_look_like_classes(size_t distinct, uint64_t rows, size_t longest)
{
    if (!distinct || distinct > 1000 || longest > 200)
        return false;
    return distinct <= 20 || distinct * 2 <= rows;
}
