/* Regular expressions (PCRE2, UTF-8), with limits so that no pattern can run away.
 *
 * A compiled expression is confined to one thread. Python's re syntax as far as PCRE2 shares it
 * (\Z is translated; named groups, lookaround, lazy quantifiers agree). */
#ifndef SPT_TEXT_REGEX_H
#define SPT_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct regex regex;

enum regex_flags { REGEX_ICASE = 1, REGEX_MULTILINE = 2, REGEX_DOTALL = 4 };

struct regex_span { /* byte positions in the subject; start == SIZE_MAX: group did not match */
    size_t start, end;
};

/* SPT_E_CONFIG with the position when the pattern is wrong. */
spt_status regex_compile(const char *pattern, size_t len, unsigned flags, regex **out,
                         spt_err *err);
void regex_free(regex *re);
size_t regex_groups(const regex *re); /* without group 0 */

/* Whole subject (re.fullmatch), its beginning (re.match), anywhere from `start` (re.search).
 * groups: room for `max_groups` spans, group 0 first; may be NULL. SPT_E_FORMAT when a limit is
 * reached or the subject is not UTF-8. */
spt_status regex_full(regex *re, const char *s, size_t len, bool *matched,
                      struct regex_span *groups, size_t max_groups, spt_err *err);
spt_status regex_match(regex *re, const char *s, size_t len, bool *matched,
                       struct regex_span *groups, size_t max_groups, spt_err *err);
spt_status regex_search(regex *re, const char *s, size_t len, size_t start, bool *matched,
                        struct regex_span *groups, size_t max_groups, spt_err *err);
/* Every match replaced (re.sub); \1 .. \9, \g<N> and \\ in `with` are understood. */
spt_status regex_replace(regex *re, const char *s, size_t len, const char *with, buf *out,
                         spt_err *err);
/* Version of the library behind it, into text of 32 bytes; returns text. */
char *regex_library_version(char *text);

#endif
