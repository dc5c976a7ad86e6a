/* The loops over a vocabulary, compiled once per instruction set by the files that include this.
 * They work on 16 lanes whatever the registers are, nothing is contracted, and lanes are reduced in
 * a fixed order, so that all variants return the same bits. Private to decode/logits*.c. */
#ifndef SPT_DECODE_LOGITS_KERNELS_H
#define SPT_DECODE_LOGITS_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct logits_kernels {
    float (*max)(const float *x, int64_t V);
    bool (*has_nan)(const float *x, int64_t V);
    /* Sum of exp(x - max); out (NULL: not wanted) gets the terms. */
    double (*sum_exp)(const float *x, int64_t V, float max, float *out);
    /* x := ((x - max) - lse) */
    void (*shift)(float *x, int64_t V, float max, float lse);
    /* First index >= from where ((x - max) - lse) + add > floor; V when there is none. */
    int64_t (*next_above)(const float *x, int64_t V, int64_t from, float max, float lse, float add,
                          float floor);
};

extern const struct logits_kernels logits_kernels_base, logits_kernels_avx2, logits_kernels_avx512;

#ifdef LOGITS_KERNELS

#if defined(__GNUC__) && !defined(__clang__)
/* At O2 gcc does not vectorise loops like these, and comparisons only when told that nobody looks
 * at floating-point exception flags. Neither changes a result. */
#pragma GCC optimize("O3", "no-trapping-math")
#endif

enum { LANES = 16, BLOCK = 64 };

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));

/* out = exp(x - max) of 16 numbers, x <= max, within 2 units in the last place; below -87 the
 * result is about 1e-38. Cephes' polynomial on [-ln 2 / 2, ln 2 / 2]. */
static inline void exp_lanes(const float *x, float max, float *out)
{
    f32x16 v;
    memcpy(&v, x, sizeof v);
    v -= max;
    const i32x16 low = v < -87.0f;
    const f32x16 least = (f32x16){0} - 87.0f;
    v = (f32x16)(((i32x16)least & low) | ((i32x16)v & ~low));
    const i32x16 n = __builtin_convertvector(v * 1.44269504f - 0.5f, i32x16); /* nearest: v <= 0 */
    const f32x16 k = __builtin_convertvector(n, f32x16);
    const f32x16 r = (v - k * 0.693359375f) + k * 2.12194440e-4f;
    f32x16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    p *= (f32x16)((n + 127) << 23);
    memcpy(out, &p, sizeof p);
}

static float kernel_max(const float *x, int64_t V)
{
    float lane[LANES], max = -INFINITY;
    int64_t i = 0;
    for (int j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    for (; i + LANES <= V; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (int j = 0; j < LANES; j++)
        max = lane[j] > max ? lane[j] : max;
    for (; i < V; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static bool kernel_has_nan(const float *x, int64_t V)
{
    int32_t lane[LANES] = {0}, nan = 0;
    int64_t i = 0;
    for (; i + LANES <= V; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] |= x[i + j] != x[i + j];
    for (; i < V; i++)
        nan |= x[i] != x[i];
    for (int j = 0; j < LANES; j++)
        nan |= lane[j];
    return nan;
}

static double kernel_sum_exp(const float *x, int64_t V, float max, float *out)
{
    float e[BLOCK], last[LANES];
    double sum = 0;
    int64_t i = 0;
    for (; i + BLOCK <= V; i += BLOCK) {
        float lane[LANES], total = 0;
        for (int j = 0; j < BLOCK; j += LANES)
            exp_lanes(x + i + j, max, e + j);
        for (int j = 0; j < LANES; j++)
            lane[j] = (e[j] + e[LANES + j]) + (e[2 * LANES + j] + e[3 * LANES + j]);
        for (int j = 0; j < LANES; j++)
            total += lane[j];
        sum += (double)total;
        if (out)
            memcpy(out + i, e, sizeof e);
    }
    for (; i < V; i += LANES) {
        const int64_t n = V - i < LANES ? V - i : LANES;
        for (int64_t j = 0; j < LANES; j++)
            last[j] = j < n ? x[i + j] : max;
        exp_lanes(last, max, e);
        for (int64_t j = 0; j < n; j++)
            sum += (double)e[j];
        if (out)
            memcpy(out + i, e, (size_t)n * sizeof *e);
    }
    return sum;
}

static void kernel_shift(float *x, int64_t V, float max, float lse)
{
    for (int64_t i = 0; i < V; i++)
        x[i] = (x[i] - max) - lse;
}

static int64_t kernel_next_above(const float *x, int64_t V, int64_t from, float max, float lse,
                                 float add, float floor)
{
    int64_t i = from;
    for (; i + BLOCK <= V; i += BLOCK) {
        int32_t any = 0, lane[LANES] = {0};
        for (int b = 0; b < BLOCK; b += LANES)
            for (int j = 0; j < LANES; j++)
                lane[j] |= ((x[i + b + j] - max) - lse) + add > floor;
        for (int j = 0; j < LANES; j++)
            any |= lane[j];
        if (any)
            break;
    }
    for (; i < V; i++)
        if (((x[i] - max) - lse) + add > floor)
            return i;
    return V;
}

const struct logits_kernels LOGITS_KERNELS = {
    .max = kernel_max,
    .has_nan = kernel_has_nan,
    .sum_exp = kernel_sum_exp,
    .shift = kernel_shift,
    .next_above = kernel_next_above,
};

#endif
#endif
