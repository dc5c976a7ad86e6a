/* Decodes number and string tokens the way Python's literal_eval does, including its messages. */
#include "gin/gin_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

uint32_t gin_utf8_next(const char **s, const char *end)
{
    const unsigned char *p = (const unsigned char *)*s;
    const size_t left = (size_t)(end - *s);
    const uint32_t c = p[0];
    if (c < 0x80 || left < 2) {
        *s += 1;
        return c;
    }
    if (c < 0xe0 || left < 3) {
        *s += 2;
        return (c & 0x1f) << 6 | (p[1] & 0x3fu);
    }
    if (c < 0xf0 || left < 4) {
        *s += 3;
        return (c & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *s += 4;
    return (c & 0x07) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

bool gin_utf8_valid(const char *s, size_t len, size_t *bad)
{
    const unsigned char *p = (const unsigned char *)s;
    for (size_t i = 0; i < len;) {
        const unsigned char c = p[i];
        size_t n = c < 0x80                ? 1
                   : c >= 0xc2 && c < 0xe0 ? 2
                   : c >= 0xe0 && c < 0xf0 ? 3
                   : c >= 0xf0 && c < 0xf5 ? 4
                                           : 0;
        *bad = i;
        if (!n || n > len - i)
            return false;
        for (size_t k = 1; k < n; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f) ||
            (c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f))
            return false;
        i += n;
    }
    return true;
}

static bool number_int(const char *s, size_t len, bool negative, gin_value *out, const char **why)
{
    unsigned base = 10;
    if (len > 2 && s[0] == '0' && strchr("xXbBoO", s[1])) {
        base = strchr("xX", s[1]) ? 16 : strchr("bB", s[1]) ? 2 : 8;
        s += 2;
        len -= 2;
    }
    const uint64_t limit = (uint64_t)INT64_MAX + negative;
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '_')
            continue;
        const unsigned d =
            s[i] <= '9' ? (unsigned)(s[i] - '0') : (unsigned)((s[i] | 32) - 'a') + 10;
        if (v > (limit - d) / base) {
            *why = "integer does not fit into 64 bits";
            return false;
        }
        v = v * base + d;
    }
    *out = (gin_value){.kind = GIN_INT};
    out->u.i = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool gin_number(const char *s, size_t len, bool negative, gin_value *out, const char **why)
{
    const bool hex = len > 1 && s[0] == '0' && strchr("xXbBoO", s[1]);
    bool real = false;
    for (size_t i = 0; !hex && i < len; i++)
        real |= strchr(".eEjJ", s[i]) != NULL;
    if (!real)
        return number_int(s, len, negative, out, why);
    /* strtod needs a terminated copy without underscores; a literal longer than the buffer keeps
     * its leading digits only where that cannot matter, so it is refused instead. */
    char digits[512];
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '_')
            continue;
        if (n + 1 >= sizeof digits) {
            *why = "number is longer than 511 characters";
            return false;
        }
        digits[n++] = s[i];
    }
    const bool imaginary = n && (digits[n - 1] | 32) == 'j';
    digits[n] = 0;
    const double f = strtod(digits, NULL); /* ends at a j */
    *out = (gin_value){.kind = imaginary ? GIN_IMAG : GIN_FLOAT};
    out->u.f = negative ? -f : f;
    return true;
}

static void add_utf8(buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_addc(out, (char)c);
    } else if (c < 0x800) {
        buf_addc(out, (char)(0xc0 | c >> 6));
        buf_addc(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_addc(out, (char)(0xe0 | c >> 12));
        buf_addc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(out, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_addc(out, (char)(0xf0 | c >> 18));
        buf_addc(out, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_addc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(out, (char)(0x80 | (c & 0x3f)));
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind "\x", "\u", "\U": exactly n digits. */
static bool hex_digits(const char **s, const char *end, int n, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++) {
        if (*s >= end || hex_value(**s) < 0)
            return false;
        v = v << 4 | (uint32_t)hex_value(*(*s)++);
    }
    *out = v;
    return true;
}

/* One escape; *s is behind the backslash. */
static bool escape(const char **s, const char *end, bool bytes, buf *out, const char **why)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = *(*s)++;
    const char *simple = c ? strchr(from, c) : NULL;
    if (c == '\n')
        return true;
    if (simple) {
        buf_addc(out, to[simple - from]);
        return true;
    }
    if (c >= '0' && c <= '7') {
        uint32_t v = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *s < end && **s >= '0' && **s <= '7'; i++)
            v = v * 8 + (uint32_t)(*(*s)++ - '0');
        if (bytes)
            buf_addc(out, (char)v);
        else
            add_utf8(out, v);
        return true;
    }
    if (c == 'x' || (!bytes && (c == 'u' || c == 'U'))) {
        uint32_t v;
        if (!hex_digits(s, end, c == 'x' ? 2 : c == 'u' ? 4 : 8, &v)) {
            *why = c == 'x' && bytes ? "(value error) invalid \\x escape"
                   : c == 'x'        ? "(unicode error) truncated \\xXX escape"
                   : c == 'u'        ? "(unicode error) truncated \\uXXXX escape"
                                     : "(unicode error) truncated \\UXXXXXXXX escape";
            return false;
        }
        if (bytes) {
            buf_addc(out, (char)v);
            return true;
        }
        if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000)) {
            *why = "(unicode error) not a Unicode character";
            return false;
        }
        add_utf8(out, v);
        return true;
    }
    if (c == 'N' && !bytes) {
        *why = "\\N{...} is not supported: write the character itself or \\uXXXX";
        return false;
    }
    buf_addc(out, '\\');
    buf_addc(out, c);
    return true;
}

bool gin_string(const char *s, size_t len, buf *out, struct gin_string_kind *kind, const char **why)
{
    const char *end = s + len;
    bool raw = false;
    *kind = (struct gin_string_kind){0};
    for (; s < end && *s != '\'' && *s != '"'; s++) {
        raw |= (*s | 32) == 'r';
        kind->bytes |= (*s | 32) == 'b';
        kind->format |= (*s | 32) == 'f';
        kind->prefixed = true;
    }
    kind->quote = *s;
    const bool triple = end - s >= 6 && s[1] == *s && s[2] == *s;
    kind->empty_single = !triple && end - s == 2;
    s += triple ? 3 : 1;
    end -= triple ? 3 : 1;
    if (kind->format) {
        *why = "malformed node or string on line 1: an f-string";
        return false;
    }
    while (s < end) {
        const char *stop = raw ? NULL : memchr(s, '\\', (size_t)(end - s));
        const size_t n = stop ? (size_t)(stop - s) : (size_t)(end - s);
        for (size_t i = 0; i < n; i++) {
            if (!s[i]) {
                *why = "source code string cannot contain null bytes";
                return false;
            }
            if (kind->bytes && (unsigned char)s[i] >= 0x80) {
                *why = "bytes can only contain ASCII literal characters";
                return false;
            }
        }
        buf_add(out, s, n);
        s += n;
        if (stop) {
            s++;
            if (!escape(&s, end, kind->bytes, out, why))
                return false;
        }
    }
    return true;
}
