/* The vector passes for AVX-512 (F, BW, VL, DQ). */
#if defined(__x86_64__)
#include "ops/cpu/simd_avx512.h"

#include <string.h>

#include "ops/cpu/cpu_internal.h"

/* Rows in pairs: unit (r, j) of src holds rows 2 r and 2 r + 1 of column j. Two neighbouring units
 * are a 64-bit word of four numbers; exchanging its middle ones turns the 2 x 2 square, and the
 * rest is a transpose of 32 x 32 words, eight by eight. */
static void transpose_pairs(const uint16_t *src, uint16_t *dst)
{
    const __m512i swap =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    for (int i = 0; i < 32; i += 8)
        for (int j = 0; j < 32; j += 8) {
            __m512i r[8], t[8];
            UNROLL for (int u = 0; u < 8; u++)
                r[u] = _mm512_shuffle_epi8(_mm512_loadu_si512(src + (i + u) * 128 + j * 4), swap);
            UNROLL for (int u = 0; u < 8; u += 2) {
                t[u] = _mm512_unpacklo_epi64(r[u], r[u + 1]);
                t[u + 1] = _mm512_unpackhi_epi64(r[u], r[u + 1]);
            }
            /* t[2 g + c], lane L: word 2 L + c of rows 2 g and 2 g + 1 */
            UNROLL for (int c = 0; c < 2; c++) {
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

/* The kernel for chips with AVX512-BF16: 6 rows by 64 columns of sums, a pair of products per
 * lane and step. The chain over K has one order, whatever the number of rows. */
#define BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

BF16 static inline __attribute__((always_inline)) void bf16_block(const struct panel_job *j,
                                                                  const uint16_t *x, int mr,
                                                                  float *y, const float *base,
                                                                  const uint16_t *next)
{
    const int64_t ldx = j->ldx, ldy = j->ldy, K = j->K;
    const uint16_t *b = j->panel;
    __m512 acc[6][4];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < 4; v++) acc[i][v] =
        _mm512_setzero_ps();
    /* K is a multiple of K_ROUND, which is a line of x. */
    for (int64_t k = 0; k < K; k += K_ROUND) {
        if (next)
            UNROLL for (int i = 0; i < 6; i++) __builtin_prefetch(next + i * ldx + k, 0, 3);
        fetch_ahead(j->ahead);
        if (j->list)
            fetch_list(j->list);
        if (k < mr * K_ROUND)
            UNROLL for (int v = 0; v < 4; v++)
                __builtin_prefetch(y + k / K_ROUND * ldy + v * 16, 1, 3);
        for (int u = 0; u < K_ROUND / 2; u++, x += 2, b += 2 * PANEL) {
            __m512i row[4];
            UNROLL for (int v = 0; v < 4; v++) row[v] = _mm512_loadu_si512(b + v * 32);
            UNROLL for (int i = 0; i < mr; i++)
            {
                int32_t pair;
                memcpy(&pair, x + i * ldx, sizeof pair);
                const __m512i a = _mm512_set1_epi32(pair);
                UNROLL for (int v = 0; v < 4; v++) acc[i][v] =
                    _mm512_dpbf16_ps(acc[i][v], (__m512bh)a, (__m512bh)row[v]);
            }
        }
    }
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < 4; v++)
    {
        const int64_t n = j->cols - v * 16;
        const __mmask16 m = (__mmask16)(n >= 16 ? 0xffff : n > 0 ? (1u << n) - 1 : 0);
        float *to = y + i * ldy + v * 16;
        if (base)
            acc[i][v] = _mm512_add_ps(_mm512_maskz_loadu_ps(m, base + i * ldy + v * 16), acc[i][v]);
        _mm512_mask_storeu_ps(to, m, acc[i][v]);
    }
}

BF16 static void gemm_bf16(const struct panel_job *j)
{
    for (int64_t i = 0; i < j->rows;) {
        const int64_t left = j->rows - i, n = left >= 6 ? 6 : left >= 3 ? 3 : 1;
        const uint16_t *x = (const uint16_t *)j->x + i * j->ldx;
        const uint16_t *next = n < left ? x + n * j->ldx : j->follow;
        float *y = j->y + i * j->ldy;
        const float *base = j->base ? j->base + i * j->ldy : NULL;
        if (n == 6)
            bf16_block(j, x, 6, y, base, next);
        else if (n == 3)
            bf16_block(j, x, 3, y, base, next);
        else
            bf16_block(j, x, 1, y, base, next);
        i += n;
    }
}

#define KERNELS kernels_avx512
#define GEMM_BF16 gemm_bf16
#define KERNELS_NAME "avx512"
#define TRANSPOSE_PAIRS transpose_pairs
#define HALF
static void to_half(const float *x, uint16_t *y, int64_t n);
static void activate_half(enum ops_activation act, const float *h, const float *gate,
                          const float *drop, int64_t F, uint16_t *g);
static void activate_bwd_half(enum ops_activation act, const float *h, const float *gate,
                              const float *dg, const float *drop, int64_t F, uint16_t *dh,
                              uint16_t *dgate);
static int64_t attention_half_scratch(int64_t queries, int64_t keys, int64_t D);
static void attention_half(const struct head_job *j, float *scratch);
static void attention_bwd_half(const struct head_job *j, float *scratch);
#include "ops/cpu/kernels_impl.h"

#include "ops/cpu/kernels_bf16.h"
#else
#include "ops/cpu/cpu_internal.h"

const struct kernels *kernels_avx512(void)
{
    return NULL;
}
#endif
