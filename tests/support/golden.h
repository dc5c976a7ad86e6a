/* Recorded arrays of the reference, read without the library under test. */
#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

struct golden_array {
    int rank;
    int64_t dim[8];
    size_t elements;
    float *f32;   /* of float32 and float64 files, else NULL */
    int32_t *i32; /* of int32 and uint32 files, else NULL */
};

/* Loads "<golden dir>/<folder>/<name>" (or from tests/fixtures/golden); skips the test when the
 * case is not there, fails it when the file is missing or not a plain little-endian .npy. Kept
 * until the process ends. */
struct golden_array golden_npy(const char *folder, const char *name);
/* The same, and the shape must be this (rank, then dimensions). */
struct golden_array golden_npy_shaped(const char *folder, const char *name, int rank, ...);
/* A float32 tensor of "<golden dir>/<folder>/<file>.safetensors". */
struct golden_array golden_tensor(const char *folder, const char *file, const char *name);
/* Whole file as text, NUL-terminated. */
char *golden_text(const char *folder, const char *name, size_t *len);

/* Largest |a - b|; NaN if any element is. */
double golden_max_diff(const float *a, const float *b, size_t n);

#endif
