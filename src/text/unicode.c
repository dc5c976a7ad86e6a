#include "text/unicode.h"

#include "text/unicode_tables.h"
#include "text/utf8.h"

enum { LETTER = 1, NUMBER, PUNCT, SYMBOL };

static unsigned class_of(uint32_t cp)
{
    size_t low = 0, high = sizeof class_ranges / sizeof *class_ranges;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (cp > class_ranges[mid][1])
            low = mid + 1;
        else
            high = mid;
    }
    const size_t n = sizeof class_ranges / sizeof *class_ranges;
    return low < n && cp >= class_ranges[low][0] ? class_ranges[low][2] : 0;
}

bool unicode_is_letter(uint32_t cp)
{
    return class_of(cp) == LETTER;
}

bool unicode_is_number(uint32_t cp)
{
    return class_of(cp) == NUMBER;
}

bool unicode_is_punct(uint32_t cp)
{
    return class_of(cp) == PUNCT;
}

bool unicode_is_symbol(uint32_t cp)
{
    return class_of(cp) == SYMBOL;
}

bool unicode_is_word(uint32_t cp)
{
    const unsigned c = class_of(cp);
    return c == LETTER || c == NUMBER || cp == '_';
}

bool unicode_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

uint32_t unicode_lower(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'A' && cp <= 'Z' ? cp | 0x20 : cp;
    if (cp == 0x130)
        return 'i';
    size_t low = 0, high = sizeof lower_runs / sizeof *lower_runs;
    const int32_t c = (int32_t)cp;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (c > lower_runs[mid][1])
            low = mid + 1;
        else
            high = mid;
    }
    /* Runs of every second character interlace: look at the neighbours, too. */
    const size_t n = sizeof lower_runs / sizeof *lower_runs;
    for (size_t i = low ? low - 1 : 0; i < n && i <= low + 1; i++) {
        const int32_t *r = lower_runs[i];
        if (c >= r[0] && c <= r[1] && (c - r[0]) % r[2] == 0)
            return (uint32_t)(c + r[3]);
    }
    return cp;
}

size_t unicode_next(const char *p, const char *end, uint32_t *cp)
{
    const size_t n = utf8_decode(p, end, cp);
    if (n)
        return n;
    *cp = 0xfffd;
    return 1;
}

/* A capital sigma at the end of a word: letters in front, none behind; marks and apostrophes do
 * not count. */
static bool is_final_sigma(const char *s, const char *at, const char *behind, const char *end)
{
    bool letter_in_front = false;
    for (const char *p = s; p < at;) {
        uint32_t cp;
        p += unicode_next(p, at, &cp);
        const unsigned c = class_of(cp);
        if (c == LETTER)
            letter_in_front = true;
        else if (c || cp <= 0x20)
            letter_in_front =
                cp == '\'' || cp == 0x2019 || cp == '.' || cp == ':' ? letter_in_front : false;
    }
    if (!letter_in_front)
        return false;
    while (behind < end) {
        uint32_t cp;
        behind += unicode_next(behind, end, &cp);
        const unsigned c = class_of(cp);
        if (c == LETTER)
            return false;
        if ((c || cp <= 0x20) && cp != '\'' && cp != 0x2019 && cp != '.' && cp != ':')
            return true;
    }
    return true;
}

void unicode_add_lower(const char *s, size_t len, buf *out)
{
    const char *end = s + len;
    const char *word = s; /* where a final sigma's word can begin at the earliest */
    for (const char *p = s; p < end;) {
        uint32_t cp;
        const char *at = p;
        p += unicode_next(p, end, &cp);
        if (cp == ' ')
            word = at;
        char text[4];
        uint32_t low = unicode_lower(cp);
        if (cp == 0x3a3 && is_final_sigma(word, at, p, end))
            low = 0x3c2;
        buf_add(out, text, utf8_encode(low, text));
        if (cp == 0x130)
            buf_add(out, "\xcc\x87", 2);
    }
}
