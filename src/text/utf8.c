#include "text/utf8.h"

#include <string.h>

/* Bytes at p that are plain ASCII, found eight at a time. */
static size_t ascii_run(const char *p, size_t n)
{
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        uint64_t w[4];
        memcpy(w, p + i, sizeof w);
        if ((w[0] | w[1] | w[2] | w[3]) & 0x8080808080808080u)
            break;
    }
    while (i < n && (unsigned char)p[i] < 0x80)
        i++;
    return i;
}

size_t utf8_valid_prefix(const void *s, size_t len)
{
    const char *p = s;
    size_t i = 0;
    while (i < len) {
        i += ascii_run(p + i, len - i);
        /* Text beyond ASCII comes in stretches: stay here while it lasts. */
        while (i < len && (unsigned char)p[i] >= 0x80) {
            uint32_t cp;
            const size_t n = utf8_decode(p + i, p + len, &cp);
            if (!n)
                return i;
            i += n;
        }
    }
    return len;
}

bool utf8_valid(const void *s, size_t len)
{
    return utf8_valid_prefix(s, len) == len;
}

size_t utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        if (cp >= 0xd800 && cp < 0xe000)
            return 0;
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    if (cp > 0x10ffff)
        return 0;
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

size_t utf8_count(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

/* Zero bytes per position modulo 4: text beyond Latin-1 still has mostly zero high bytes among its
 * spaces, digits and line ends, so half of them decides. */
static enum text_encoding guess_by_zeros(const unsigned char *p, size_t len)
{
    size_t zero[4] = {0};
    const size_t n = len / 4 * 4;
    for (size_t i = 0; i < n; i++)
        zero[i % 4] += p[i] == 0;
    const size_t quads = n / 4;
    if (quads < 2)
        return TEXT_UTF8;
    if (zero[1] == quads && zero[2] == quads && zero[3] == quads && zero[0] < quads)
        return TEXT_UTF32LE;
    if (zero[0] == quads && zero[1] == quads && zero[2] == quads && zero[3] < quads)
        return TEXT_UTF32BE;
    const size_t even = zero[0] + zero[2], odd = zero[1] + zero[3];
    if (odd >= quads && even == 0)
        return TEXT_UTF16LE;
    if (even >= quads && odd == 0)
        return TEXT_UTF16BE;
    return TEXT_UTF8;
}

enum text_encoding text_detect(const void *head, size_t len, size_t *bom)
{
    const unsigned char *p = head;
    *bom = 0;
    while (len - *bom >= 3 && p[*bom] == 0xef && p[*bom + 1] == 0xbb && p[*bom + 2] == 0xbf)
        *bom += 3;
    if (*bom)
        return TEXT_UTF8;
    if (len >= 4 && p[0] == 0xff && p[1] == 0xfe && p[2] == 0 && p[3] == 0) {
        *bom = 4;
        return TEXT_UTF32LE;
    }
    if (len >= 4 && p[0] == 0 && p[1] == 0 && p[2] == 0xfe && p[3] == 0xff) {
        *bom = 4;
        return TEXT_UTF32BE;
    }
    if (len >= 2 && p[0] == 0xff && p[1] == 0xfe) {
        *bom = 2;
        return TEXT_UTF16LE;
    }
    if (len >= 2 && p[0] == 0xfe && p[1] == 0xff) {
        *bom = 2;
        return TEXT_UTF16BE;
    }
    return guess_by_zeros(p, len);
}

const char *text_encoding_name(enum text_encoding e)
{
    static const char *const name[] = {
        [TEXT_UTF8] = "UTF-8",
        [TEXT_UTF16LE] = "UTF-16 (little endian)",
        [TEXT_UTF16BE] = "UTF-16 (big endian)",
        [TEXT_UTF32LE] = "UTF-32 (little endian)",
        [TEXT_UTF32BE] = "UTF-32 (big endian)",
    };
    return name[e];
}
