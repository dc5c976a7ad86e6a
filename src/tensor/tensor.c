#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    size_t size;
    const char *safetensors;
    const char *npy;
    const char *name;
} dtypes[DT_COUNT] = {
#define DTYPE_ROW(name, bytes, st, npy) [DT_##name] = {bytes, st, npy, NULL},
    DTYPE_MAP(DTYPE_ROW)
#undef DTYPE_ROW
};

static const char *const names[DT_COUNT] = {
    [DT_F32] = "float32", [DT_F64] = "float64", [DT_F16] = "float16", [DT_BF16] = "bfloat16",
    [DT_I8] = "int8",     [DT_U8] = "uint8",    [DT_I16] = "int16",   [DT_U16] = "uint16",
    [DT_I32] = "int32",   [DT_U32] = "uint32",  [DT_I64] = "int64",   [DT_U64] = "uint64",
    [DT_BOOL] = "bool",
};

size_t dtype_size(enum dtype t)
{
    return dtypes[t].size;
}

const char *dtype_name(enum dtype t)
{
    return names[t];
}

const char *dtype_safetensors_name(enum dtype t)
{
    return dtypes[t].safetensors;
}

const char *dtype_npy_descr(enum dtype t)
{
    return dtypes[t].npy;
}

static bool same(const char *a, const char *b, size_t len)
{
    return strlen(a) == len && !memcmp(a, b, len);
}

bool dtype_from_name(const char *name, size_t len, enum dtype *out)
{
    for (int i = 0; i < DT_COUNT; i++)
        if (same(names[i], name, len))
            return *out = (enum dtype)i, true;
    return false;
}

bool dtype_from_safetensors_name(const char *name, size_t len, enum dtype *out)
{
    for (int i = 0; i < DT_COUNT; i++)
        if (same(dtypes[i].safetensors, name, len))
            return *out = (enum dtype)i, true;
    return false;
}

bool dtype_from_npy_descr(const char *name, size_t len, enum dtype *out)
{
    for (int i = 0; i < DT_COUNT; i++)
        if (len && same(dtypes[i].npy, name, len))
            return *out = (enum dtype)i, true;
    return false;
}

bool dtype_is_float(enum dtype t)
{
    return t == DT_F32 || t == DT_F64 || t == DT_F16 || t == DT_BF16;
}

struct tensor_shape shape_1d(int64_t a)
{
    return (struct tensor_shape){.rank = 1, .dim = {a}};
}

struct tensor_shape shape_2d(int64_t a, int64_t b)
{
    return (struct tensor_shape){.rank = 2, .dim = {a, b}};
}

bool shape_equal(const struct tensor_shape *a, const struct tensor_shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

char *shape_text(const struct tensor_shape *s, char *text)
{
    size_t n = (size_t)snprintf(text, SHAPE_TEXT, "[");
    for (int i = 0; i < s->rank; i++)
        n += (size_t)snprintf(text + n, SHAPE_TEXT - n, "%s%lld", i ? ", " : "",
                              (long long)s->dim[i]);
    snprintf(text + n, SHAPE_TEXT - n, "]");
    return text;
}

spt_status tensor_size(enum dtype t, const struct tensor_shape *s, size_t *elements, size_t *bytes,
                       spt_err *err)
{
    char text[SHAPE_TEXT];
    size_t n = 1;
    if (s->rank < 0 || s->rank > TENSOR_MAX_RANK)
        return err_set(err, SPT_E_FORMAT, "rank %d is not in 0..%d", s->rank, TENSOR_MAX_RANK);
    bool zero = false;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0)
            return err_set(err, SPT_E_FORMAT, "shape %s has a negative dimension",
                           shape_text(s, text));
        zero = zero || s->dim[i] == 0;
    }
    for (int i = 0; i < s->rank && !zero; i++)
        if (!mul_size(n, (size_t)s->dim[i], &n))
            return err_set(err, SPT_E_FORMAT, "shape %s is too large", shape_text(s, text));
    if (zero)
        n = 0;
    size_t b;
    if (!mul_size(n, dtype_size(t), &b) || b > PTRDIFF_MAX)
        return err_set(err, SPT_E_FORMAT, "shape %s is too large", shape_text(s, text));
    *elements = n;
    *bytes = b;
    return SPT_OK;
}

float bf16_to_f32(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); /* keep NaN quiet and non-zero */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exp = h >> 10 & 0x1f;
    const uint32_t man = h & 0x3ff;
    if (exp == 0) { /* zero and subnormals: man * 2^-24 is exact */
        const float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    const uint32_t u = sign | (exp == 31 ? 0x7f800000 : (exp + 112) << 23) | man << 13;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    const uint32_t sign = u >> 16 & 0x8000;
    const uint32_t mag = u & 0x7fffffff;
    if (mag > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (mag >= 0x477ff000) /* rounds to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (mag < 0x38800000) { /* subnormal or zero: round mag / 2^-24 to even */
        float a;
        memcpy(&a, &mag, sizeof a);
        return (uint16_t)(sign | (uint32_t)nearbyintf(a * 0x1p24f));
    }
    return (uint16_t)(sign | ((mag - 0x38000000 + 0xfff + (mag >> 13 & 1)) >> 13));
}

/* Converts through memcpy because views of mapped files may be unaligned. */
#define LOOP(type, expr)                                       \
    for (size_t i = 0; i < count; i++) {                       \
        type x;                                                \
        memcpy(&x, p + (first + i) * sizeof(type), sizeof x);  \
        out[i] = (float)(expr);                                \
    }                                                          \
    break

void tensor_to_f32(const struct tensor_view *v, size_t first, size_t count, float *out)
{
    const char *p = v->data;
    switch (v->dtype) {
    case DT_F32:
        if (count)
            memcpy(out, p + first * sizeof(float), count * sizeof(float));
        break;
    case DT_F64:
        LOOP(double, x);
    case DT_F16:
        LOOP(uint16_t, f16_to_f32(x));
    case DT_BF16:
        LOOP(uint16_t, bf16_to_f32(x));
    case DT_I8:
        LOOP(int8_t, x);
    case DT_U8:
    case DT_BOOL:
        LOOP(uint8_t, x);
    case DT_I16:
        LOOP(int16_t, x);
    case DT_U16:
        LOOP(uint16_t, x);
    case DT_I32:
        LOOP(int32_t, x);
    case DT_U32:
        LOOP(uint32_t, x);
    case DT_I64:
        LOOP(int64_t, x);
    case DT_U64:
        LOOP(uint64_t, x);
    case DT_COUNT:
        break;
    }
}
