/* The vector words of kernels_impl.h in AVX2 with FMA and F16C. */
#ifndef SPT_OPS_CPU_SIMD_AVX2_H
#define SPT_OPS_CPU_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>

/* Loops over arrays of registers: they stay in registers only when unrolled. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { VL = 8 };
typedef __m256 vf;
typedef __m256i vm; /* lanes all ones or all zeros */

static inline vf vzero(void)
{
    return _mm256_setzero_ps();
}
static inline vf vset(float a)
{
    return _mm256_set1_ps(a);
}
static inline vf vload(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void vstore(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}
static inline vm vtail(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf vload_m(const float *p, vm m)
{
    return _mm256_maskload_ps(p, m);
}
static inline void vstore_m(float *p, vf a, vm m)
{
    _mm256_maskstore_ps(p, m, a);
}
static inline vf vadd(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf vsub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf vmul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf vdiv(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
static inline vf vfma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
} /* a b + c */
static inline vf vfnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
} /* c - a b */
/* The second operand wins when either is NaN. */
static inline vf vmax(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline vf vmin(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
static inline vf vround(vf a)
{
    return _mm256_round_ps(a, 8);
}
static inline vf vpow2(__m256i n) /* -126 <= n <= 127 */
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/* a 2^n for whole n, |n| <= 250, in two halves, so that only the last product rounds */
static inline vf vscale2(vf a, vf n)
{
    const __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, vpow2(half)), vpow2(_mm256_sub_epi32(i, half)));
}
static inline vf vneg(vf a)
{
    return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a);
}
static inline vm vgt(vf a, vf b)
{
    return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
static inline vm vunordered(vf a, vf b)
{
    return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}
static inline vm vm_and(vm a, vm b)
{
    return _mm256_and_si256(a, b);
}
static inline vf vselect(vm m, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(m));
}
static inline int vm_bits(vm m)
{
    return _mm256_movemask_ps(_mm256_castsi256_ps(m));
}
static inline int vm_any(vm m)
{
    return vm_bits(m) != 0;
}

static inline vf vload_bf16(const uint16_t *p)
{
    const __m128i h = _mm_loadu_si128((const __m128i *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static inline vf vload_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* Round to nearest even; NaN stays NaN. */
static inline void vstore_bf16(uint16_t *p, vf a)
{
    const __m256i u = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
    r = _mm256_srli_epi32(r, 16);
    r = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(r));
}

/* Fixed order: halves, pairs. */
static inline float vsum(vf a)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_shuffle_ps(q, q, 1));
    return _mm_cvtss_f32(q);
}

static inline float vtop(vf a) /* largest lane; no NaN inside */
{
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    q = _mm_max_ss(q, _mm_shuffle_ps(q, q, 1));
    return _mm_cvtss_f32(q);
}

/* dst[8][ldd] = transpose of src[8][lds] */
static inline __attribute__((always_inline)) void vtranspose(const float *src, int64_t lds,
                                                             float *dst, int64_t ldd)
{
    __m256 r[8], t[8];
    UNROLL for (int i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps(src + i * lds);
    UNROLL for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4)
        UNROLL for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + 2 + j], 0x44);
            r[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + 2 + j], 0xee);
        }
    UNROLL for (int c = 0; c < 4; c++) {
        _mm256_storeu_ps(dst + c * ldd, _mm256_permute2f128_ps(r[c], r[4 + c], 0x20));
        _mm256_storeu_ps(dst + (4 + c) * ldd, _mm256_permute2f128_ps(r[c], r[4 + c], 0x31));
    }
}

#endif
