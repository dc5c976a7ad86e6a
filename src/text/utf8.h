/* UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
#ifndef SPT_TEXT_UTF8_H
#define SPT_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/utf8_char.h"

/* Length of the longest valid prefix: equal to len when everything is valid. */
size_t utf8_valid_prefix(const void *s, size_t len);
bool utf8_valid(const void *s, size_t len);
/* Encodes a scalar value; 0 for surrogates and beyond U+10FFFF, else 1..4 bytes in out. */
size_t utf8_encode(uint32_t cp, char out[4]);
/* Number of characters of valid UTF-8. */
size_t utf8_count(const char *s, size_t len);

enum text_encoding { TEXT_UTF8, TEXT_UTF16LE, TEXT_UTF16BE, TEXT_UTF32LE, TEXT_UTF32BE };

/* What the first bytes of a file (64 or more are best) say: a UTF-16 or UTF-32 mark, or without
 * one, zero bytes in every second or fourth place; everything else counts as UTF-8. *bom: bytes
 * of the mark, or of all UTF-8 marks when several stand one behind the other. */
enum text_encoding text_detect(const void *head, size_t len, size_t *bom);
const char *text_encoding_name(enum text_encoding e); /* "UTF-16 (little endian)", ... */

#endif
