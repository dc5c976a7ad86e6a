/* The vector passes for AVX-512 (F, BW, VL, DQ). */
#if defined(__x86_64__)
#include "ops/cpu/simd_avx512.h"

/* Rows in pairs: unit (r, j) of src holds rows 2 r and 2 r + 1 of column j. Two neighbouring units
 * are a 64-bit word of four numbers; exchanging its middle ones turns the 2 x 2 square, and the
 * rest is a transpose of 32 x 32 words, eight by eight. */
static void transpose_pairs(const uint16_t *src, uint16_t *dst)
{
    const __m512i swap = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    for (int i = 0; i < 32; i += 8)
        for (int j = 0; j < 32; j += 8) {
            __m512i r[8], t[8];
            for (int u = 0; u < 8; u++)
                r[u] = _mm512_shuffle_epi8(
                    _mm512_loadu_si512(src + (i + u) * 128 + j * 4), swap);
            for (int u = 0; u < 8; u += 2) {
                t[u] = _mm512_unpacklo_epi64(r[u], r[u + 1]);
                t[u + 1] = _mm512_unpackhi_epi64(r[u], r[u + 1]);
            }
            /* t[2 g + c], lane L: word 2 L + c of rows 2 g and 2 g + 1 */
            for (int c = 0; c < 2; c++) {
                const __m512i a = _mm512_shuffle_i64x2(t[c], t[2 + c], 0x88);
                const __m512i b = _mm512_shuffle_i64x2(t[4 + c], t[6 + c], 0x88);
                const __m512i d = _mm512_shuffle_i64x2(t[c], t[2 + c], 0xdd);
                const __m512i e = _mm512_shuffle_i64x2(t[4 + c], t[6 + c], 0xdd);
                uint16_t *to = dst + (j + c) * 128 + i * 4;
                _mm512_storeu_si512(to, _mm512_shuffle_i64x2(a, b, 0x88));
                _mm512_storeu_si512(to + 4 * 128, _mm512_shuffle_i64x2(a, b, 0xdd));
                _mm512_storeu_si512(to + 2 * 128, _mm512_shuffle_i64x2(d, e, 0x88));
                _mm512_storeu_si512(to + 6 * 128, _mm512_shuffle_i64x2(d, e, 0xdd));
            }
        }
}

#define KERNELS kernels_avx512
#define KERNELS_NAME "avx512"
#define TRANSPOSE_PAIRS transpose_pairs
#include "ops/cpu/kernels_impl.h"
#else
#include "ops/cpu/cpu_internal.h"

const struct kernels *kernels_avx512(void)
{
    return NULL;
}
#endif
