/* Element types, shapes and views of tensors. No arithmetic on values except conversion. */
#ifndef SPT_TENSOR_TENSOR_H
#define SPT_TENSOR_TENSOR_H

#include <stdbool.h>

#include "base/mem.h"

/* name, bytes per element, safetensors name, NumPy descr (little endian) or "" */
#define DTYPE_MAP(X)          \
    X(F32, 4, "F32", "<f4")   \
    X(F64, 8, "F64", "<f8")   \
    X(F16, 2, "F16", "<f2")   \
    X(BF16, 2, "BF16", "")    \
    X(I8, 1, "I8", "|i1")     \
    X(U8, 1, "U8", "|u1")     \
    X(I16, 2, "I16", "<i2")   \
    X(U16, 2, "U16", "<u2")   \
    X(I32, 4, "I32", "<i4")   \
    X(U32, 4, "U32", "<u4")   \
    X(I64, 8, "I64", "<i8")   \
    X(U64, 8, "U64", "<u8")   \
    X(BOOL, 1, "BOOL", "|b1")

enum dtype {
#define DTYPE_ENUM(name, bytes, st, npy) DT_##name,
    DTYPE_MAP(DTYPE_ENUM)
#undef DTYPE_ENUM
    DT_COUNT
};

size_t dtype_size(enum dtype t);
/* "float32", "bfloat16", ...: the spelling of NumPy and of T5X checkpoints. */
const char *dtype_name(enum dtype t);
const char *dtype_safetensors_name(enum dtype t);
const char *dtype_npy_descr(enum dtype t);
bool dtype_from_name(const char *name, size_t len, enum dtype *out);
bool dtype_from_safetensors_name(const char *name, size_t len, enum dtype *out);
bool dtype_from_npy_descr(const char *name, size_t len, enum dtype *out);
bool dtype_is_float(enum dtype t);

enum { TENSOR_MAX_RANK = 8 };

struct tensor_shape {
    int rank; /* 0: scalar */
    int64_t dim[TENSOR_MAX_RANK];
};

/* Row-major and contiguous; `data` may be unaligned and belongs to somebody else. */
struct tensor_view {
    enum dtype dtype;
    struct tensor_shape shape;
    const void *data;
};

struct tensor_shape shape_1d(int64_t a);
struct tensor_shape shape_2d(int64_t a, int64_t b);
bool shape_equal(const struct tensor_shape *a, const struct tensor_shape *b);
/* "[3, 4]" into text of at least SHAPE_TEXT bytes; returns text. */
enum { SHAPE_TEXT = 192 };
char *shape_text(const struct tensor_shape *s, char *text);

/* THE function that computes the size of a tensor: elements and bytes with overflow checks and
 * without negative dimensions. No other code multiplies numbers that come from a file. */
spt_status tensor_size(enum dtype t, const struct tensor_shape *s, size_t *elements, size_t *bytes,
                       spt_err *err);

/* Converts `count` elements starting with element `first` to float32; integers are exact up to
 * 2^24. float64 is rounded to nearest. */
void tensor_to_f32(const struct tensor_view *v, size_t first, size_t count, float *out);

/* Scalar conversions, round to nearest even; NaN stays NaN. */
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f);
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);

#endif
