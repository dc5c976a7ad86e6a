/* Character properties and lower case as Python 3.11 has them (Unicode 14.0). */
#ifndef SPT_TEXT_UNICODE_H
#define SPT_TEXT_UNICODE_H

#include "base/buf.h"

bool unicode_is_letter(uint32_t cp); /* category L* */
bool unicode_is_number(uint32_t cp); /* N* */
bool unicode_is_punct(uint32_t cp);  /* P* */
bool unicode_is_symbol(uint32_t cp); /* S* */
bool unicode_is_word(uint32_t cp);   /* \w: letters, numbers, underscore */
bool unicode_is_space(uint32_t cp);  /* str.isspace */
uint32_t unicode_lower(uint32_t cp); /* the one character it becomes (U+0130: 'i' alone) */

/* str.lower(): appends the text in lower case; invalid bytes become U+FFFD. */
void unicode_add_lower(const char *s, size_t len, buf *out);
/* Decodes one character of [p, end), p < end; invalid bytes yield U+FFFD, one at a time. */
size_t unicode_next(const char *p, const char *end, uint32_t *cp);

#endif
