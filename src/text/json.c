/* The reader is a state between tokens plus a stack of one bit per level. Its only storage is the
 * stack of the keys of all open objects (8 bytes each), there to find doubled keys: the keys of an
 * object are compared one by one while they are few, and sorted once at its end when they are
 * many, so that no choice of keys makes it slow. */
#include "text/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/number.h"
#include "text/utf8.h"

enum state {
    AT_VALUE,      /* a value must come */
    AT_FIRST_ITEM, /* behind '[' */
    AT_FIRST_KEY,  /* behind '{' */
    AT_KEY,        /* behind ',' in an object */
    AT_AFTER,      /* behind a value in an object or array */
    AT_END,        /* behind the document's value */
};

/* Objects with up to this many keys are checked key by key. */
#define FEW_KEYS 16

#define ONES 0x0101010101010101u
#define HIGH 0x8080808080808080u

/* --- messages ----------------------------------------------------------------------------- */

uint64_t json_line_at(const json_reader *r, size_t offset)
{
    uint64_t line = r->line;
    const char *p = r->text, *end = p ? p + (offset < r->size ? offset : r->size) : p;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        line++;
        p++;
    }
    return line;
}

spt_status json_error(json_reader *r, size_t offset, spt_err *err, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    r->st = SPT_E_FORMAT;
    const uint64_t at = r->base_offset + offset;
    return err_at(err, SPT_E_FORMAT, at, "line %llu, byte %llu: %s",
                  (unsigned long long)json_line_at(r, offset), (unsigned long long)at, what);
}

const char *json_kind_name(enum json_kind k)
{
    static const char *const name[] = {
        [JSON_END] = "the end",     [JSON_OBJECT] = "an object", [JSON_OBJECT_END] = "'}'",
        [JSON_ARRAY] = "an array",  [JSON_ARRAY_END] = "']'",    [JSON_KEY] = "a key",
        [JSON_STRING] = "a string", [JSON_NUMBER] = "a number",  [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",     [JSON_NULL] = "null",
    };
    return name[k];
}

static spt_status unexpected(json_reader *r, const char *wanted, spt_err *err)
{
    if (r->pos >= r->size)
        return json_error(r, r->size, err, "JSON ends where %s should stand", wanted);
    const unsigned char c = (unsigned char)r->text[r->pos];
    if (c > 0x20 && c < 0x7f)
        return json_error(r, r->pos, err, "'%c' where %s should stand", c, wanted);
    return json_error(r, r->pos, err, "byte 0x%02x where %s should stand", c, wanted);
}

static spt_status refused(const json_reader *r, spt_err *err)
{
    return err_set(err, r->st, "JSON was refused earlier");
}

/* --- strings ------------------------------------------------------------------------------ */

/* Bytes at p that may stand in a string as they are and are ASCII. */
static size_t plain_run(const char *p, size_t n)
{
    size_t i = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; n - i >= 8; i += 8) {
        uint64_t x;
        memcpy(&x, p + i, 8);
        const uint64_t quote = x ^ ONES * '"', slash = x ^ ONES * '\\';
        const uint64_t stop = (x | (x - ONES * 0x20) | (quote - ONES) | (slash - ONES)) & HIGH;
        if (stop) {
            /* The lowest set bit is exact: borrows only travel upwards. A byte above 0x9f minus
             * 0x20 keeps its high bit, but then x had it as well. */
            const size_t k = (size_t)__builtin_ctzll(stop) / 8;
            return i + k;
        }
    }
#endif
    for (; i < n; i++) {
        const unsigned char c = (unsigned char)p[i];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
            break;
    }
    return i;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        int d;
        if (c >= '0' && c <= '9')
            d = c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            d = (c | 0x20) - 'a' + 10;
        else
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Checks the escape at pos (a backslash); returns its length through *len. */
static spt_status check_escape(json_reader *r, size_t pos, size_t *len, spt_err *err)
{
    const char *p = r->text + pos;
    const size_t left = r->size - pos;
    if (left < 2)
        return json_error(r, pos, err, "JSON ends inside a string");
    if (p[1] != 'u') {
        if (!memchr("\"\\/bfnrt", p[1], 8))
            return json_error(r, pos, err, "unknown escape in a string");
        *len = 2;
        return SPT_OK;
    }
    const int first = left >= 6 ? hex4(p + 2) : -1;
    if (first < 0)
        return json_error(r, pos, err, "\\u needs four hexadecimal digits");
    *len = 6;
    if (first < 0xd800 || first > 0xdfff)
        return SPT_OK;
    const int second =
        first < 0xdc00 && left >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;
    if (second < 0xdc00 || second > 0xdfff)
        return json_error(r, pos, err, "\\u%.4s is one half of a surrogate pair without the other",
                          p + 2);
    *len = 12;
    return SPT_OK;
}

static spt_status bad_byte(json_reader *r, size_t pos, spt_err *err)
{
    const unsigned char c = (unsigned char)r->text[pos];
    if (c < 0x20)
        return json_error(r, pos, err, "control character 0x%02x inside a string", c);
    return json_error(r, pos, err, "not UTF-8 (byte 0x%02x)", c);
}

/* Reads the string whose opening quote is at r->pos. */
static spt_status read_string(json_reader *r, struct json_event *ev, spt_err *err)
{
    const char *text = r->text;
    const size_t size = r->size, start = r->pos + 1;
    size_t pos = start;
    bool escaped = false;
    for (;;) {
        pos += plain_run(text + pos, size - pos);
        if (pos >= size)
            return json_error(r, r->pos, err, "this string does not end");
        const unsigned char c = (unsigned char)text[pos];
        if (c == '"')
            break;
        if (c == '\\') {
            size_t len;
            TRY(check_escape(r, pos, &len, err));
            pos += len;
            escaped = true;
            continue;
        }
        uint32_t cp;
        const size_t len = c < 0x80 ? 0 : utf8_decode(text + pos, text + size, &cp);
        if (!len)
            return bad_byte(r, pos, err);
        pos += len;
    }
    ev->escaped = escaped;
    ev->offset = r->pos;
    ev->text = text + start;
    ev->len = pos - start;
    r->pos = pos + 1;
    return SPT_OK;
}

/* Takes one character or escape from *p (already checked): its bytes. */
static size_t take_char(const char **p, char out[4])
{
    const char *s = *p;
    if (*s != '\\') {
        out[0] = *s;
        *p = s + 1;
        return 1;
    }
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (s[1] != 'u') {
        const char *at = memchr(from, s[1], 5);
        out[0] = at ? to[at - from] : s[1];
        *p = s + 2;
        return 1;
    }
    uint32_t cp = (uint32_t)hex4(s + 2);
    *p = s + 6;
    if (cp >= 0xd800 && cp < 0xdc00) {
        cp = 0x10000 + ((cp - 0xd800) << 10) + ((uint32_t)hex4(s + 8) - 0xdc00);
        *p = s + 12;
    }
    return utf8_encode(cp, out);
}

size_t json_unescape(const struct json_event *ev, char *out)
{
    if (!ev->escaped) {
        if (ev->len)
            memcpy(out, ev->text, ev->len);
        return ev->len;
    }
    const char *p = ev->text, *end = p + ev->len;
    size_t n = 0;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        const size_t run = slash ? (size_t)(slash - p) : (size_t)(end - p);
        memmove(out + n, p, run); /* in place is fine: out never overtakes p */
        n += run;
        p += run;
        if (p < end) {
            char one[4];
            const size_t k = take_char(&p, one);
            memcpy(out + n, one, k);
            n += k;
        }
    }
    return n;
}

void json_add_text(const struct json_event *ev, buf *out)
{
    if (!ev->escaped) {
        buf_add(out, ev->text, ev->len);
        return;
    }
    const char *p = ev->text, *end = p + ev->len;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        const size_t run = slash ? (size_t)(slash - p) : (size_t)(end - p);
        buf_add(out, p, run);
        p += run;
        if (p < end) {
            char one[4];
            const size_t k = take_char(&p, one);
            buf_add(out, one, k);
        }
    }
}

bool json_is(const struct json_event *ev, const char *s)
{
    const size_t len = strlen(s);
    if (!ev->escaped)
        return len == ev->len && memcmp(ev->text, s, len) == 0;
    const char *p = ev->text, *end = p + ev->len;
    size_t at = 0;
    while (p < end) {
        char one[4];
        const size_t k = take_char(&p, one);
        if (k > len - at || memcmp(one, s + at, k) != 0)
            return false;
        at += k;
    }
    return at == len;
}

/* --- keys --------------------------------------------------------------------------------- */

static struct json_slot *slots(json_reader *r)
{
    return r->key_cap ? r->keys : r->few;
}

static uint32_t hash_key(const struct json_event *ev)
{
    const char *p = ev->text, *end = p + ev->len;
    uint32_t h = 2166136261u;
    while (p < end) {
        char one[4];
        const size_t k = take_char(&p, one);
        for (size_t i = 0; i < k; i++)
            h = (h ^ (unsigned char)one[i]) * 16777619u;
    }
    return h;
}

/* The key again, from the place of its opening quote. */
static struct json_event key_at(const json_reader *r, uint32_t offset)
{
    struct json_event ev = {.kind = JSON_KEY, .offset = offset, .text = r->text + offset + 1};
    const char *p = ev.text;
    while (*p != '"') {
        ev.escaped |= *p == '\\';
        p += *p == '\\' ? 2 : 1;
    }
    ev.len = (size_t)(p - ev.text);
    return ev;
}

static int compare_keys(const json_reader *r, struct json_slot a, struct json_slot b)
{
    if (a.hash != b.hash)
        return a.hash < b.hash ? -1 : 1;
    const struct json_event x = key_at(r, a.offset), y = key_at(r, b.offset);
    if (!x.escaped && !y.escaped) {
        const int c = memcmp(x.text, y.text, x.len < y.len ? x.len : y.len);
        return c ? c : (x.len > y.len) - (x.len < y.len);
    }
    const char *p = x.text, *q = y.text, *p_end = p + x.len, *q_end = q + y.len;
    char u[4] = {0}, v[4] = {0};
    size_t nu = 0, nv = 0, iu = 0, iv = 0;
    for (;;) {
        if (iu == nu) {
            if (p == p_end)
                return q == q_end && iv == nv ? 0 : -1;
            nu = take_char(&p, u);
            iu = 0;
        }
        if (iv == nv) {
            if (q == q_end)
                return 1;
            nv = take_char(&q, v);
            iv = 0;
        }
        const unsigned char cu = (unsigned char)u[iu++], cv = (unsigned char)v[iv++];
        if (cu != cv)
            return cu < cv ? -1 : 1;
    }
}

static void sift_down(const json_reader *r, struct json_slot *s, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && compare_keys(r, s[child], s[child + 1]) < 0)
            child++;
        if (compare_keys(r, s[i], s[child]) >= 0)
            return;
        const struct json_slot t = s[i];
        s[i] = s[child];
        s[child] = t;
    }
}

static void sort_keys(const json_reader *r, struct json_slot *s, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(r, s, i, n);
    for (size_t end = n; end-- > 1;) {
        const struct json_slot t = s[0];
        s[0] = s[end];
        s[end] = t;
        sift_down(r, s, 0, end);
    }
}

static spt_status doubled(json_reader *r, size_t offset, spt_err *err)
{
    const struct json_event ev = key_at(r, (uint32_t)offset);
    return json_error(r, offset, err, "the key \"%.*s\" stands twice in one object",
                      (int)(ev.len < 80 ? ev.len : 80), ev.text);
}

static spt_status push_key(json_reader *r, const struct json_event *ev, spt_err *err)
{
    const size_t first = r->keys_before[r->depth - 1];
    const struct json_slot slot = {(uint32_t)ev->offset, hash_key(ev)};
    if (r->key_count - first < FEW_KEYS) {
        const struct json_slot *s = slots(r);
        for (size_t i = first; i < r->key_count; i++)
            if (s[i].hash == slot.hash && compare_keys(r, s[i], slot) == 0)
                return doubled(r, ev->offset, err);
    }
    if (r->key_cap == 0 && r->key_count == sizeof r->few / sizeof *r->few) {
        size_t cap = 0;
        struct json_slot *keys = NULL;
        const spt_status st =
            mem_grow(&keys, &cap, 2 * r->key_count, sizeof *keys, UINT32_MAX, err);
        if (st)
            return r->st = st;
        memcpy(keys, r->few, sizeof r->few);
        r->keys = keys;
        r->key_cap = cap;
    } else if (r->key_cap && r->key_count == r->key_cap) {
        const spt_status st =
            mem_grow(&r->keys, &r->key_cap, r->key_count + 1, sizeof *r->keys, UINT32_MAX, err);
        if (st)
            return r->st = st;
    }
    slots(r)[r->key_count++] = slot;
    return SPT_OK;
}

static spt_status pop_keys(json_reader *r, spt_err *err)
{
    const size_t first = r->keys_before[r->depth - 1], n = r->key_count - first;
    if (n > FEW_KEYS) {
        struct json_slot *s = slots(r) + first;
        sort_keys(r, s, n);
        for (size_t i = 1; i < n; i++)
            if (s[i - 1].hash == s[i].hash && compare_keys(r, s[i - 1], s[i]) == 0)
                return doubled(r, s[i].offset > s[i - 1].offset ? s[i].offset : s[i - 1].offset,
                               err);
    }
    r->key_count = first;
    return SPT_OK;
}

/* --- tokens ------------------------------------------------------------------------------- */

static void skip_space(json_reader *r)
{
    while (r->pos < r->size) {
        const char c = r->text[r->pos];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return;
        r->pos++;
    }
}

static size_t digits_at(const json_reader *r, size_t pos)
{
    const size_t start = pos;
    while (pos < r->size && r->text[pos] >= '0' && r->text[pos] <= '9')
        pos++;
    return pos - start;
}

/* -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
static spt_status read_number(json_reader *r, struct json_event *ev, spt_err *err)
{
    const size_t start = r->pos;
    size_t pos = start + (r->text[start] == '-');
    const size_t whole = digits_at(r, pos);
    if (!whole)
        return json_error(r, start, err, "'-' without a number");
    if (whole > 1 && r->text[pos] == '0')
        return json_error(r, start, err, "a number with a leading zero");
    pos += whole;
    if (pos < r->size && r->text[pos] == '.') {
        const size_t n = digits_at(r, pos + 1);
        if (!n)
            return json_error(r, start, err, "a number without digits behind its point");
        pos += 1 + n;
    }
    if (pos < r->size && (r->text[pos] | 0x20) == 'e') {
        pos++;
        if (pos < r->size && (r->text[pos] == '+' || r->text[pos] == '-'))
            pos++;
        const size_t n = digits_at(r, pos);
        if (!n)
            return json_error(r, start, err, "a number without digits in its exponent");
        pos += n;
    }
    ev->kind = JSON_NUMBER;
    ev->text = r->text + start;
    ev->len = pos - start;
    r->pos = pos;
    return SPT_OK;
}

static bool read_word(json_reader *r, struct json_event *ev)
{
    static const struct {
        const char *word;
        enum json_kind kind;
        unsigned flag;
    } words[] = {
        {"true", JSON_TRUE, 0},
        {"false", JSON_FALSE, 0},
        {"null", JSON_NULL, 0},
        {"NaN", JSON_NUMBER, JSON_PYTHON_NAN},
        {"Infinity", JSON_NUMBER, JSON_PYTHON_NAN},
        {"-Infinity", JSON_NUMBER, JSON_PYTHON_NAN},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t n = strlen(words[i].word);
        if ((words[i].flag && !(r->flags & words[i].flag)) || n > r->size - r->pos ||
            memcmp(r->text + r->pos, words[i].word, n) != 0)
            continue;
        ev->kind = words[i].kind;
        ev->text = r->text + r->pos;
        ev->len = n;
        r->pos += n;
        return true;
    }
    return false;
}

static void after_value(json_reader *r)
{
    r->state = r->depth ? AT_AFTER : AT_END;
}

static spt_status enter(json_reader *r, struct json_event *ev, bool object, spt_err *err)
{
    if (r->depth == JSON_MAX_DEPTH)
        return json_error(r, r->pos, err, "nested deeper than %d levels", JSON_MAX_DEPTH);
    ev->kind = object ? JSON_OBJECT : JSON_ARRAY;
    ev->text = r->text + r->pos;
    ev->len = 1;
    r->is_object[r->depth] = object;
    r->keys_before[r->depth] = (uint32_t)r->key_count;
    r->depth++;
    r->pos++;
    r->state = object ? AT_FIRST_KEY : AT_FIRST_ITEM;
    return SPT_OK;
}

static spt_status leave(json_reader *r, struct json_event *ev, spt_err *err)
{
    const bool object = r->is_object[r->depth - 1];
    if (object)
        TRY(pop_keys(r, err));
    ev->kind = object ? JSON_OBJECT_END : JSON_ARRAY_END;
    ev->text = r->text + r->pos;
    ev->len = 1;
    r->pos++;
    r->depth--;
    after_value(r);
    return SPT_OK;
}

static spt_status read_value(json_reader *r, struct json_event *ev, spt_err *err)
{
    const char c = r->pos < r->size ? r->text[r->pos] : '\0';
    if (c == '"') {
        ev->kind = JSON_STRING;
        TRY(read_string(r, ev, err));
    } else if (c == '{' || c == '[') {
        return enter(r, ev, c == '{', err);
    } else if (!read_word(r, ev)) {
        if (c != '-' && (c < '0' || c > '9'))
            return unexpected(r, "a value", err);
        TRY(read_number(r, ev, err));
    }
    after_value(r);
    return SPT_OK;
}

static spt_status read_key(json_reader *r, struct json_event *ev, spt_err *err)
{
    if (r->pos >= r->size || r->text[r->pos] != '"')
        return unexpected(r, "a key in double quotes", err);
    ev->kind = JSON_KEY;
    TRY(read_string(r, ev, err));
    TRY(push_key(r, ev, err));
    skip_space(r);
    if (r->pos >= r->size || r->text[r->pos] != ':')
        return unexpected(r, "':' behind a key", err);
    r->pos++;
    r->state = AT_VALUE;
    return SPT_OK;
}

/* ',' or the closing bracket behind a value; a comma leads straight to the next item. */
static spt_status read_after(json_reader *r, struct json_event *ev, spt_err *err)
{
    const bool object = r->is_object[r->depth - 1];
    const char c = r->pos < r->size ? r->text[r->pos] : '\0';
    if (c == (object ? '}' : ']'))
        return leave(r, ev, err);
    if (c != ',')
        return unexpected(r, object ? "',' or '}'" : "',' or ']'", err);
    r->pos++;
    skip_space(r);
    ev->offset = r->pos;
    return object ? read_key(r, ev, err) : read_value(r, ev, err);
}

void json_open(json_reader *r, const void *text, size_t size, unsigned flags)
{
    *r = (json_reader){.flags = flags};
    json_reopen(r, text, size);
}

void json_reopen(json_reader *r, const void *text, size_t size)
{
    r->text = text;
    r->size = size;
    r->pos = 0;
    r->line = 1;
    r->base_offset = 0;
    r->st = SPT_OK;
    r->depth = 0;
    r->key_count = 0;
    r->state = AT_VALUE;
}

void json_close(json_reader *r)
{
    mem_free(r->keys);
    *r = (json_reader){0};
}

spt_status json_next(json_reader *r, struct json_event *ev, spt_err *err)
{
    if (r->st)
        return refused(r, err);
    if (r->size > UINT32_MAX)
        return json_error(r, 0, err, "JSON of %zu bytes; the limit is 4 GiB", r->size);
    skip_space(r);
    struct json_event out = {.offset = r->pos};
    const char c = r->pos < r->size ? r->text[r->pos] : '\0';
    spt_status st = SPT_OK;
    switch ((enum state)r->state) {
    case AT_VALUE:
        st = read_value(r, &out, err);
        break;
    case AT_FIRST_ITEM:
        st = c == ']' ? leave(r, &out, err) : read_value(r, &out, err);
        break;
    case AT_FIRST_KEY:
        st = c == '}' ? leave(r, &out, err) : read_key(r, &out, err);
        break;
    case AT_KEY:
        st = read_key(r, &out, err);
        break;
    case AT_AFTER:
        st = read_after(r, &out, err);
        break;
    case AT_END:
        if (r->pos < r->size)
            return unexpected(r, "the end of the JSON", err);
        out.kind = JSON_END;
        break;
    }
    if (st)
        return st;
    *ev = out;
    return SPT_OK;
}

/* --- conveniences ------------------------------------------------------------------------- */

spt_status json_skip_rest(json_reader *r, const struct json_event *ev, spt_err *err)
{
    if (ev->kind != JSON_OBJECT && ev->kind != JSON_ARRAY)
        return SPT_OK;
    if (r->st)
        return refused(r, err);
    const unsigned until = r->depth - 1;
    while (r->depth > until) {
        struct json_event inner;
        TRY(json_next(r, &inner, err));
    }
    return SPT_OK;
}

/* A value must come next: neither a closing bracket nor the end. */
static spt_status next_value(json_reader *r, struct json_event *ev, spt_err *err)
{
    struct json_event got;
    TRY(json_next(r, &got, err));
    if (got.kind == JSON_END || got.kind == JSON_OBJECT_END || got.kind == JSON_ARRAY_END ||
        got.kind == JSON_KEY)
        return json_error(r, got.offset, err, "%s where a value should stand",
                          json_kind_name(got.kind));
    *ev = got;
    return SPT_OK;
}

spt_status json_skip(json_reader *r, spt_err *err)
{
    struct json_event ev;
    TRY(next_value(r, &ev, err));
    return json_skip_rest(r, &ev, err);
}

spt_status json_raw(json_reader *r, const char **text, size_t *len, spt_err *err)
{
    struct json_event ev;
    TRY(next_value(r, &ev, err));
    TRY(json_skip_rest(r, &ev, err));
    *text = r->text + ev.offset;
    *len = r->pos - ev.offset;
    return SPT_OK;
}

spt_status json_finish(json_reader *r, spt_err *err)
{
    struct json_event ev;
    TRY(json_next(r, &ev, err));
    if (ev.kind != JSON_END)
        return json_error(r, ev.offset, err, "%s where the JSON should end",
                          json_kind_name(ev.kind));
    return SPT_OK;
}

static spt_status expect(json_reader *r, enum json_kind kind, struct json_event *ev, spt_err *err)
{
    struct json_event got;
    TRY(next_value(r, &got, err));
    if (got.kind != kind)
        return json_error(r, got.offset, err, "%s where %s should stand", json_kind_name(got.kind),
                          json_kind_name(kind));
    *ev = got;
    return SPT_OK;
}

spt_status json_enter_object(json_reader *r, spt_err *err)
{
    struct json_event ev;
    return expect(r, JSON_OBJECT, &ev, err);
}

spt_status json_enter_array(json_reader *r, spt_err *err)
{
    struct json_event ev;
    return expect(r, JSON_ARRAY, &ev, err);
}

spt_status json_next_key(json_reader *r, bool *more, struct json_event *key, spt_err *err)
{
    struct json_event ev;
    TRY(json_next(r, &ev, err));
    if (ev.kind == JSON_KEY)
        *key = ev;
    else if (ev.kind != JSON_OBJECT_END)
        return json_error(r, ev.offset, err, "%s where a key should stand",
                          json_kind_name(ev.kind));
    *more = ev.kind == JSON_KEY;
    return SPT_OK;
}

spt_status json_next_item(json_reader *r, bool *more, struct json_event *item, spt_err *err)
{
    struct json_event ev;
    TRY(json_next(r, &ev, err));
    if (ev.kind == JSON_KEY || ev.kind == JSON_OBJECT_END || ev.kind == JSON_END)
        return json_error(r, ev.offset, err, "%s where an item should stand",
                          json_kind_name(ev.kind));
    *more = ev.kind != JSON_ARRAY_END;
    if (*more)
        *item = ev;
    return SPT_OK;
}

spt_status json_read_text(json_reader *r, buf *out, spt_err *err)
{
    struct json_event ev = {0};
    TRY(expect(r, JSON_STRING, &ev, err));
    json_add_text(&ev, out);
    return SPT_OK;
}

spt_status json_read_i64(json_reader *r, int64_t *out, spt_err *err)
{
    struct json_event ev = {0};
    TRY(expect(r, JSON_NUMBER, &ev, err));
    if (!number_i64(ev.text, ev.len, out))
        return json_error(r, ev.offset, err, "%.*s is no integer of 64 bits",
                          (int)(ev.len < 60 ? ev.len : 60), ev.text);
    return SPT_OK;
}

spt_status json_read_u64(json_reader *r, uint64_t *out, spt_err *err)
{
    struct json_event ev = {0};
    TRY(expect(r, JSON_NUMBER, &ev, err));
    if (!number_u64(ev.text, ev.len, out))
        return json_error(r, ev.offset, err, "%.*s is no non-negative integer of 64 bits",
                          (int)(ev.len < 60 ? ev.len : 60), ev.text);
    return SPT_OK;
}

spt_status json_read_f64(json_reader *r, double *out, spt_err *err)
{
    struct json_event ev = {0};
    TRY(expect(r, JSON_NUMBER, &ev, err));
    if (!number_f64(ev.text, ev.len, out))
        return json_error(r, ev.offset, err, "a number of %zu characters", ev.len);
    return SPT_OK;
}

spt_status json_read_bool(json_reader *r, bool *out, spt_err *err)
{
    struct json_event ev;
    TRY(next_value(r, &ev, err));
    if (ev.kind != JSON_TRUE && ev.kind != JSON_FALSE)
        return json_error(r, ev.offset, err, "%s where true or false should stand",
                          json_kind_name(ev.kind));
    *out = ev.kind == JSON_TRUE;
    return SPT_OK;
}

static spt_status no_such(const struct json_event *ev, const char *what, spt_err *err)
{
    return err_at(err, SPT_E_FORMAT, ev->offset, "%.*s is no %s",
                  (int)(ev->len < 60 ? ev->len : 60), ev->text ? ev->text : "", what);
}

spt_status json_to_i64(const struct json_event *ev, int64_t *out, spt_err *err)
{
    if (ev->kind == JSON_NUMBER && number_i64(ev->text, ev->len, out))
        return SPT_OK;
    return no_such(ev, "integer of 64 bits", err);
}

spt_status json_to_u64(const struct json_event *ev, uint64_t *out, spt_err *err)
{
    if (ev->kind == JSON_NUMBER && number_u64(ev->text, ev->len, out))
        return SPT_OK;
    return no_such(ev, "non-negative integer of 64 bits", err);
}

spt_status json_to_f64(const struct json_event *ev, double *out, spt_err *err)
{
    if (ev->kind == JSON_NUMBER && number_f64(ev->text, ev->len, out))
        return SPT_OK;
    return no_such(ev, "number", err);
}
