#include "text/number.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longest text of a number that number_f64 takes. */
#define MAX_TEXT 1100

/* Lays out digits (no trailing zeros) with the decimal point behind digit `point` as Python does:
 * plain for -4 < point <= 16, with an exponent beyond. */
static size_t lay_out(bool negative, const char *digits, int n, int point, char *out)
{
    char *p = out;
    if (negative)
        *p++ = '-';
    if (point > -4 && point <= 16) {
        if (point <= 0) {
            *p++ = '0';
            *p++ = '.';
            for (int i = point; i < 0; i++)
                *p++ = '0';
        }
        for (int i = 0; i < n || i < point; i++) {
            if (i == point && point > 0)
                *p++ = '.';
            *p++ = i < n ? digits[i] : '0';
        }
        if (n <= point) {
            *p++ = '.';
            *p++ = '0';
        }
        *p = '\0';
        return (size_t)(p - out);
    }
    *p++ = digits[0];
    if (n > 1) {
        *p++ = '.';
        memcpy(p, digits + 1, (size_t)(n - 1));
        p += n - 1;
    }
    const int exponent = point - 1;
    p += snprintf(p, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    return (size_t)(p - out);
}

static size_t special(double v, char *out)
{
    const char *s = isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
    const size_t n = strlen(s);
    memcpy(out, s, n + 1);
    return n;
}

/* %.*e gives the correctly rounded digits; fifteen (six) always survive, seventeen (nine) always
 * suffice. Below the normal range fewer may do, so all counts are tried there. */
static size_t shortest(double v, bool single, char *out)
{
    if (!isfinite(v))
        return special(v, out);
    const bool negative = signbit(v);
    if (v == 0)
        return lay_out(negative, "0", 1, 1, out);
    const double a = fabs(v);
    const int most = single ? 9 : 17;
    int count = single ? (a < 0x1p-126 ? 1 : 6) : (a < 0x1p-1022 ? 1 : 15);
    char text[48], digits[24];
    int n = 0, exponent = 0;
    for (;; count++) {
        snprintf(text, sizeof text, "%.*e", count - 1, a);
        const bool same = single ? (float)strtof(text, NULL) == (float)a : strtod(text, NULL) == a;
        if (same || count >= most)
            break;
    }
    const char *e = strchr(text, 'e');
    for (const char *p = text; p < e && n < 20; p++)
        if (*p >= '0' && *p <= '9') /* whatever stands for the decimal point here is skipped */
            digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    exponent = (int)strtol(e + 1, NULL, 10);
    return lay_out(negative, digits, n, exponent + 1, out);
}

size_t number_repr(double v, char out[NUMBER_TEXT])
{
    return shortest(v, false, out);
}

size_t number_repr_f32(float v, char out[NUMBER_TEXT])
{
    return shortest((double)v, true, out);
}

bool number_u64(const char *s, size_t len, uint64_t *out)
{
    if (len && *s == '+') {
        s++;
        len--;
    }
    if (!len)
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        const uint64_t d = (uint64_t)(s[i] - '0');
        if (v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

bool number_i64(const char *s, size_t len, int64_t *out)
{
    const bool negative = len && *s == '-';
    uint64_t v;
    if (negative && len > 1 && s[1] == '+')
        return false;
    if (!number_u64(s + negative, len - negative, &v))
        return false;
    if (v > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static size_t digit_run(const char *s, size_t len)
{
    size_t i = 0;
    while (i < len && s[i] >= '0' && s[i] <= '9')
        i++;
    return i;
}

static bool is_word(const char *s, size_t len, const char *word)
{
    if (len != strlen(word))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((s[i] | 0x20) != word[i])
            return false;
    return true;
}

/* digits [. digits] [e [+-] digits], at least one digit in front of the exponent. */
static bool is_decimal(const char *s, size_t len)
{
    size_t i = digit_run(s, len);
    size_t digits = i;
    if (i < len && s[i] == '.') {
        const size_t fraction = digit_run(s + i + 1, len - i - 1);
        digits += fraction;
        i += 1 + fraction;
    }
    if (!digits)
        return false;
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        if (i < len && (s[i] == '+' || s[i] == '-'))
            i++;
        const size_t exponent = digit_run(s + i, len - i);
        if (!exponent)
            return false;
        i += exponent;
    }
    return i == len;
}

bool number_f64(const char *s, size_t len, double *out)
{
    if (!len || len > MAX_TEXT)
        return false;
    const bool sign = *s == '-' || *s == '+';
    const bool negative = *s == '-';
    s += sign;
    len -= sign;
    if (is_word(s, len, "inf") || is_word(s, len, "infinity")) {
        *out = negative ? -INFINITY : INFINITY;
        return true;
    }
    if (is_word(s, len, "nan")) {
        *out = NAN;
        return true;
    }
    if (!is_decimal(s, len))
        return false;
    /* strtod expects the decimal point of the program's locale. */
    const char *point = localeconv()->decimal_point;
    const size_t point_len = strlen(point);
    char text[MAX_TEXT + 32];
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.' && point_len < 16) {
            memcpy(text + n, point, point_len);
            n += point_len;
        } else {
            text[n++] = s[i];
        }
    }
    text[n] = '\0';
    const double v = strtod(text, NULL);
    *out = negative ? -v : v;
    return true;
}
