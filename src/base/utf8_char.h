/* One character of UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
#ifndef SPT_BASE_UTF8_CHAR_H
#define SPT_BASE_UTF8_CHAR_H

#include <stddef.h>
#include <stdint.h>

/* Decodes one character of [p, end) (p < end): its length 1..4 and *cp, or 0 when invalid. */
size_t utf8_decode(const char *p, const char *end, uint32_t *cp);

#endif
