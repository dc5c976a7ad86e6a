/* The vector words of kernels_impl.h in AVX-512 (F, BW, VL, DQ). */
#ifndef SPT_OPS_CPU_SIMD_AVX512_H
#define SPT_OPS_CPU_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

/* Loops over arrays of registers: they stay in registers only when unrolled. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { VL = 16 };
typedef __m512 vf;
typedef __mmask16 vm;

static inline vf vzero(void)
{
    return _mm512_setzero_ps();
}
static inline vf vset(float a)
{
    return _mm512_set1_ps(a);
}
static inline vf vload(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vstore(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
static inline vm vtail(int64_t n)
{
    return (vm)((1u << n) - 1u);
} /* 0 <= n < VL */
static inline vf vload_m(const float *p, vm m)
{
    return _mm512_maskz_loadu_ps(m, p);
}
static inline void vstore_m(float *p, vf a, vm m)
{
    _mm512_mask_storeu_ps(p, m, a);
}
static inline vf vadd(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vsub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vmul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vdiv(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf vfma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
} /* a b + c */
static inline vf vfnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
} /* c - a b */
/* The second operand wins when either is NaN. */
static inline vf vmax(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf vmin(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline vf vround(vf a)
{
    return _mm512_roundscale_ps(a, 8);
}
/* a 2^n for whole n, |n| <= 300; through the subnormals */
static inline vf vscale2(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
}
static inline vf vneg(vf a)
{
    return _mm512_sub_ps(_mm512_set1_ps(-0.0f), a);
}
static inline vm vgt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
static inline vm vunordered(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
static inline vm vm_and(vm a, vm b)
{
    return (vm)(a & b);
}
static inline vf vselect(vm m, vf yes, vf no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}
static inline int vm_any(vm m)
{
    return m != 0;
}
static inline int vm_bits(vm m)
{
    return m;
}

static inline vf vload_bf16(const uint16_t *p)
{
    const __m256i h = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline vf vload_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* Round to nearest even; NaN stays NaN. */
static inline void vstore_bf16(uint16_t *p, vf a)
{
    const __m512i u = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const vm nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

/* Fixed order: halves, quarters, pairs. */
static inline float vsum(vf a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_shuffle_ps(q, q, 1));
    return _mm_cvtss_f32(q);
}

static inline float vtop(vf a) /* largest lane; no NaN inside */
{
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    q = _mm_max_ss(q, _mm_shuffle_ps(q, q, 1));
    return _mm_cvtss_f32(q);
}

/* dst[16][ldd] = transpose of src[16][lds] */
static inline __attribute__((always_inline)) void vtranspose(const float *src, int64_t lds,
                                                             float *dst, int64_t ldd)
{
    __m512 r[16], t[16];
    UNROLL for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_ps(src + i * lds);
    UNROLL for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4)
        UNROLL for (int j = 0; j < 2; j++) {
            const __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + 2 + j]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    /* r[4 g + c]: columns c, 4 + c, 8 + c, 12 + c of rows 4 g .. 4 g + 3, one per 128-bit lane */
    UNROLL for (int c = 0; c < 4; c++) {
        const __m512 a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88); /* lanes 0 2 | 0 2 */
        const __m512 b = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        const __m512 d = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd); /* lanes 1 3 | 1 3 */
        const __m512 e = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
        _mm512_storeu_ps(dst + c * ldd, _mm512_shuffle_f32x4(a, b, 0x88));
        _mm512_storeu_ps(dst + (8 + c) * ldd, _mm512_shuffle_f32x4(a, b, 0xdd));
        _mm512_storeu_ps(dst + (4 + c) * ldd, _mm512_shuffle_f32x4(d, e, 0x88));
        _mm512_storeu_ps(dst + (12 + c) * ldd, _mm512_shuffle_f32x4(d, e, 0xdd));
    }
}

#endif
