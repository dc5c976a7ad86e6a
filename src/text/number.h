/* Numbers as text, independent of the locale. */
#ifndef SPT_TEXT_NUMBER_H
#define SPT_TEXT_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_TEXT 40 /* room for every text written here, with its NUL */

/* Python's repr(float): the shortest digits that read back the same; 1.0, 1e-05, 1e+16, nan, inf.
 */
size_t number_repr(double v, char out[NUMBER_TEXT]);
/* The same for a float: the shortest digits that read back the same float. */
size_t number_repr_f32(float v, char out[NUMBER_TEXT]);

/* The whole slice must be the number; false otherwise, *out untouched. Decimal only. */
bool number_i64(const char *s, size_t len, int64_t *out);  /* [+-]digits */
bool number_u64(const char *s, size_t len, uint64_t *out); /* [+]digits */
/* Python's float() without underscores: digits, fraction, exponent, inf, infinity, nan. */
bool number_f64(const char *s, size_t len, double *out);

#endif
