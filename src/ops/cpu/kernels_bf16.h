/* What reads or writes bfloat16 on chips with AVX512-BF16; included by kernels_avx512.c behind
 * kernels_impl.h. Conversions here make zeros of numbers below 2^-126, as the products do anyway. */

BF16 INLINE __m256i half_round(vf a)
{
    return (__m256i)_mm512_cvtneps_pbh(a);
}

/* --- passes whose results are operands: their rows have room for whole vectors ------------------ */

BF16 static void to_half(const float *x, uint16_t *y, int64_t n)
{
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL)
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(vload(x + i + VL), vload(x + i)));
    for (; i < n; i += VL) {
        const vm m = n - i < VL ? vtail(n - i) : (vm)0xffff;
        _mm256_mask_storeu_epi16(y + i, m, half_round(vload_m(x + i, m)));
    }
}

BF16 INLINE void activate_half_as(enum ops_activation act, const float *h, const float *gate,
                                  const float *drop, int64_t F, uint16_t *g)
{
    for (int64_t i = 0; i < F; i += VL) {
        const vm m = F - i < VL ? vtail(F - i) : (vm)0xffff;
        vf slope, y = act_value(act, vload_m(h + i, m), &slope);
        if (gate)
            y = vmul(y, vload_m(gate + i, m));
        if (drop)
            y = vmul(y, vload_m(drop + i, m));
        _mm256_storeu_si256((__m256i *)(void *)(g + i), half_round(_mm512_maskz_mov_ps(m, y)));
    }
}

BF16 INLINE void activate_bwd_half_as(enum ops_activation act, const float *h, const float *gate,
                                      const float *dg, const float *drop, int64_t F, uint16_t *dh,
                                      uint16_t *dgate)
{
    for (int64_t i = 0; i < F; i += VL) {
        const vm m = F - i < VL ? vtail(F - i) : (vm)0xffff;
        vf slope, d = vload_m(dg + i, m);
        const vf y = act_value(act, vload_m(h + i, m), &slope);
        if (drop)
            d = vmul(d, vload_m(drop + i, m));
        if (gate) {
            const vf e = vload_m(gate + i, m);
            _mm256_storeu_si256((__m256i *)(void *)(dgate + i),
                                half_round(_mm512_maskz_mul_ps(m, d, y)));
            d = vmul(d, e);
        }
        _mm256_storeu_si256((__m256i *)(void *)(dh + i),
                            half_round(_mm512_maskz_mul_ps(m, d, slope)));
    }
}

BF16 static void activate_half(enum ops_activation act, const float *h, const float *gate,
                               const float *drop, int64_t F, uint16_t *g)
{
    if (act == OPS_GELU_TANH && gate && !drop)
        activate_half_as(OPS_GELU_TANH, h, gate, NULL, F, g);
    else if (act == OPS_GELU_TANH)
        activate_half_as(OPS_GELU_TANH, h, gate, drop, F, g);
    else if (act == OPS_RELU)
        activate_half_as(OPS_RELU, h, gate, drop, F, g);
    else if (act == OPS_SILU)
        activate_half_as(OPS_SILU, h, gate, drop, F, g);
    else
        activate_half_as(OPS_GELU_ERF, h, gate, drop, F, g);
}

BF16 static void activate_bwd_half(enum ops_activation act, const float *h, const float *gate,
                                   const float *dg, const float *drop, int64_t F, uint16_t *dh,
                                   uint16_t *dgate)
{
    if (act == OPS_GELU_TANH && gate && !drop)
        activate_bwd_half_as(OPS_GELU_TANH, h, gate, dg, NULL, F, dh, dgate);
    else if (act == OPS_GELU_TANH)
        activate_bwd_half_as(OPS_GELU_TANH, h, gate, dg, drop, F, dh, dgate);
    else if (act == OPS_RELU)
        activate_bwd_half_as(OPS_RELU, h, gate, dg, drop, F, dh, dgate);
    else if (act == OPS_SILU)
        activate_bwd_half_as(OPS_SILU, h, gate, dg, drop, F, dh, dgate);
    else
        activate_bwd_half_as(OPS_GELU_ERF, h, gate, dg, drop, F, dh, dgate);
}

/* --- attention -----------------------------------------------------------------------------------
 * Scores, softmax, sums and results are float32; what a product reads (queries, keys, values,
 * weights of the softmax, gradients) is rounded to bfloat16 in pairs of neighbours along the sum.
 * A pair is a word of 32 bits here.
 *
 * Queries pass in tiles of HALF_TILE rows, whose scores stay in the first-level cache. Only keys'
 * and values' gradients are sums over queries: for them the weights of a block of queries are kept,
 * two rows side by side in a word, which is how a product reads them by columns.
 *
 * As in kernels_impl.h the order of every sum depends on the lengths of the example alone. */

enum { HALF_TILE = 24 };

static bool half_fits(const struct head_job *j)
{
    return j->queries > 16 && j->D % 32 == 0 && j->D <= 2 * PANEL;
}

/* y[mr, 16 nv] (+)= x b: element (i, k) of x is the word x[i * rs + k * cs], b holds rows of PANEL
 * words. */
BF16 INLINE void half_block(const uint32_t *x, int64_t rs, int64_t cs, int mr, int64_t words,
                            const uint32_t *b, int nv, float *y, int64_t ldy, bool add)
{
    __m512 acc[6][4];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) acc[i][v] =
        add ? _mm512_loadu_ps(y + i * ldy + v * 16) : _mm512_setzero_ps();
    for (int64_t k = 0; k < words; k++, x += cs, b += PANEL) {
        __m512i row[4];
        UNROLL for (int v = 0; v < nv; v++) row[v] = _mm512_loadu_si512(b + v * 16);
        UNROLL for (int i = 0; i < mr; i++)
        {
            const __m512i a = _mm512_set1_epi32((int)x[i * rs]);
            UNROLL for (int v = 0; v < nv; v++) acc[i][v] =
                _mm512_dpbf16_ps(acc[i][v], (__m512bh)a, (__m512bh)row[v]);
        }
    }
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++)
        _mm512_storeu_ps(y + i * ldy + v * 16, acc[i][v]);
}

BF16 INLINE void half_rows(const uint32_t *x, int64_t rs, int64_t cs, int64_t rows, int64_t words,
                           const uint32_t *b, int nv, float *y, int64_t ldy, bool add,
                           struct ahead_list *ahead)
{
    int64_t i = 0;
    for (; i + MR <= rows; i += MR) {
        if (ahead)
            fetch_list(ahead);
        half_block(x + i * rs, rs, cs, MR, words, b, nv, y + i * ldy, ldy, add);
    }
    for (; i + 2 <= rows; i += 2)
        half_block(x + i * rs, rs, cs, 2, words, b, nv, y + i * ldy, ldy, add);
    if (i < rows)
        half_block(x + i * rs, rs, cs, 1, words, b, nv, y + i * ldy, ldy, add);
}

/* Up to PANEL columns, rounded up to whole vectors, for which y must have room. */
BF16 static void half_cols(const uint32_t *x, int64_t rs, int64_t cs, int64_t rows, int64_t words,
                           const uint32_t *b, int64_t cols, float *y, int64_t ldy, bool add,
                           struct ahead_list *ahead)
{
    int64_t v = (cols + 15) / 16;
    if (v >= 4)
        half_rows(x, rs, cs, rows, words, b, 4, y, ldy, add, ahead);
    else if (v == 3)
        half_rows(x, rs, cs, rows, words, b, 3, y, ldy, add, ahead);
    else if (v == 2)
        half_rows(x, rs, cs, rows, words, b, 2, y, ldy, add, ahead);
    else
        half_rows(x, rs, cs, rows, words, b, 1, y, ldy, add, ahead);
}

/* --- packing ----------------------------------------------------------------------------------- */

/* Rows of D numbers as rows of D / 2 words, and zeros up to a multiple of 16 rows. */
BF16 static void half_words(const float *x, int64_t stride, int64_t rows, int64_t D, uint32_t *to)
{
    for (int64_t i = 0; i < rows; i++, x += stride)
        for (int64_t d = 0; d < D; d += 32, to += 16)
            _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + d + 16),
                                                                 _mm512_loadu_ps(x + d)));
    memset(to, 0, (size_t)((up(rows, 16) - rows) * D / 2) * sizeof *to);
}

/* Rows become columns: panels [D / 2][PANEL] of words; columns behind the last 16 are left. */
BF16 static void half_turn(const uint32_t *x, int64_t rows, int64_t D, uint32_t *to)
{
    const int64_t W = D / 2;
    for (int64_t p = 0; p < rows; p += PANEL, to += W * PANEL)
        for (int64_t j = 0; j < PANEL && p + j < rows; j += 16)
            for (int64_t d = 0; d < W; d += 16)
                vtranspose((const float *)(const void *)(x + (p + j) * W + d), W,
                           (float *)(void *)(to + d * PANEL + j), PANEL);
}

/* Neighbouring rows side by side: panels [rows / 2][PANEL] of words of 64 columns. */
BF16 static void half_join(const uint32_t *x, int64_t rows, int64_t D, uint32_t *to)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const int64_t W = D / 2;
    for (int64_t p = 0; p < W; p += PANEL / 2)
        for (int64_t i = 0; i < rows; i += 2, to += PANEL)
            for (int64_t d = 0; d < PANEL / 2 && p + d < W; d += 16) {
                const __m512i a = _mm512_loadu_si512(x + i * W + p + d);
                const __m512i b = _mm512_loadu_si512(x + (i + 1) * W + p + d);
                _mm512_storeu_si512(to + 2 * d, _mm512_permutex2var_epi16(a, low, b));
                _mm512_storeu_si512(to + 2 * d + 16, _mm512_permutex2var_epi16(a, high, b));
            }
}

/* --- forward ----------------------------------------------------------------------------------- */

/* p = exp(s + bias - max) (times drop) as bfloat16, zeros in [n, end). Returns max, *sum. */
BF16 INLINE float half_softmax_as(float *s, const float *bias, const float *drop, int64_t n,
                                  int64_t end, uint16_t *p, float *sum)
{
    const float max = row_max(s, bias, n);
    const vf top = vset(max);
    vf t = vzero(), t2 = vzero();
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        vf e = vexp(vsub(vload(s + i), top)), f = vexp(vsub(vload(s + i + VL), top));
        t = vadd(t, e);
        t2 = vadd(t2, f);
        if (drop) {
            e = vmul(e, vload(drop + i));
            f = vmul(f, vload(drop + i + VL));
        }
        _mm512_storeu_si512(p + i, (__m512i)_mm512_cvtne2ps_pbh(f, e));
    }
    for (; i < n; i += VL) {
        const vm m = vtail(n - i < VL ? n - i : 0), all = n - i < VL ? m : (vm)0xffff;
        vf e = _mm512_maskz_mov_ps(all, vexp(vsub(vload_m(s + i, all), top)));
        t = vadd(t, e);
        if (drop)
            e = vmul(e, vload_m(drop + i, all));
        _mm256_storeu_si256((__m256i *)(void *)(p + i), half_round(e));
    }
    for (; i < end; i += VL) /* there is room for whole vectors */
        _mm256_storeu_si256((__m256i *)(void *)(p + i), _mm256_setzero_si256());
    *sum = vsum(vadd(t, t2));
    return max;
}

BF16 static float half_softmax(float *s, const float *bias, const float *drop, int64_t n,
                               int64_t end, uint16_t *p, float *sum)
{
    return bias && !drop ? half_softmax_as(s, bias, NULL, n, end, p, sum)
                         : half_softmax_as(s, bias, drop, n, end, p, sum);
}

/* What a head needs as words; bytes behind one another. */
struct half_room {
    float *ext, *s, *ds, *o;
    uint32_t *q, *k, *g, *v;     /* rows */
    uint32_t *kt, *vt;           /* turned */
    uint32_t *kj, *vj, *qj, *gj; /* joined */
    uint32_t *p, *dp, *row;      /* weights in pairs of queries, and the rows of a tile */
};

static int64_t half_layout(int64_t queries, int64_t keys, int64_t D, bool back, float *at,
                           struct half_room *r)
{
    const int64_t W = D / 2, ld = up(keys, PANEL), kr = up(keys, 16), dp = up(D, PANEL);
    const int64_t qb = least(query_block(keys), up(queries, PANEL));
    int64_t n = 0;
#define PLACE(p, count) (r->p = at ? (void *)(at + n) : NULL, n += up(count, 16))
    PLACE(ext, queries + keys + PANEL);
    PLACE(s, HALF_TILE * ld);
    PLACE(row, HALF_TILE * ld / 2);
    PLACE(q, qb * W);
    PLACE(k, kr * W);
    PLACE(v, kr * W);
    PLACE(kt, ld * W);
    PLACE(vj, ld / 2 * dp);
    PLACE(o, HALF_TILE * dp);
    if (back) {
        PLACE(ds, HALF_TILE * ld);
        PLACE(g, qb * W);
        PLACE(vt, ld * W);
        PLACE(kj, ld / 2 * dp);
        PLACE(qj, qb / 2 * dp);
        PLACE(gj, qb / 2 * dp);
        PLACE(p, qb / 2 * ld);
        PLACE(dp, qb / 2 * ld);
    }
#undef PLACE
    return n;
}

/* Blocks of rows of products, over which what will be needed is spread. */
static void half_ahead(const struct head_job *j, bool back)
{
    if (!j->ahead)
        return;
    const int64_t q = j->queries / MR + 1, k = j->keys / MR + 1, d = up(j->D, PANEL) / PANEL;
    const int64_t scores = q * (up(j->keys, PANEL) / PANEL);
    const int64_t blocks = back ? 2 * scores + (q + 2 * k) * d : scores + q * d;
    int64_t rows = 0;
    for (int i = 0; i < j->ahead->count; i++)
        rows += j->ahead->array[i].rows;
    j->ahead->rows = rows / blocks + 1;
}

/* scores[n, ld] of n rows of words against the first `keys` keys */
BF16 static void half_scores(const struct head_job *j, const uint32_t *x, const uint32_t *turned,
                             int64_t n, int64_t keys, float *s, int64_t ld)
{
    const int64_t W = j->D / 2;
    for (int64_t p = 0; p < keys; p += PANEL)
        half_cols(x, W, 1, n, W, turned + p * W, keys - p, s + p, ld, false, j->ahead);
}

BF16 static void attention_half(const struct head_job *j, float *scratch)
{
    if (!half_fits(j)) {
        attention(j, scratch);
        return;
    }
    struct half_room r;
    const int64_t D = j->D, keys = j->keys, ld = up(keys, PANEL);
    const int64_t pairs = (keys + 1) / 2, dp = up(D, PANEL);
    (void)half_layout(j->q_first + j->queries, keys, D, false, scratch, &r);
    const float *bias = spread_bias(j, r.ext);
    uint16_t *p = (uint16_t *)(void *)r.row;
    half_ahead(j, false);
    half_words(j->k, j->k_stride, keys, D, r.k);
    half_turn(r.k, keys, D, r.kt);
    half_words(j->v, j->v_stride, keys, D, r.v);
    half_join(r.v, keys, D, r.vj);
    for (int64_t at = 0; at < j->queries; at += HALF_TILE) {
        const int64_t n = least(j->queries - at, HALF_TILE);
        float inverse[HALF_TILE];
        half_words(j->q + at * j->q_stride, j->q_stride, n, D, r.q);
        half_scores(j, r.q, r.kt, n, keys, r.s, ld);
        for (int64_t i = 0; i < n; i++) {
            float sum;
            const float max = half_softmax(r.s + i * ld, bias ? bias - (at + i) : NULL, j->drop,
                                           visible(j, at + i), 2 * pairs, p + i * ld, &sum);
            inverse[i] = 1.0f / sum;
            if (j->lse)
                j->lse[(at + i) * j->lse_stride] = max + logf(sum);
        }
        for (int64_t c = 0; c < D; c += PANEL)
            half_cols(r.row, ld / 2, 1, n, pairs, r.vj + c * pairs, D - c, r.o + c, dp, false,
                      j->ahead);
        for (int64_t i = 0; i < n; i++) {
            const vf a = vset(inverse[i]);
            float *y = j->y + (at + i) * j->out_stride;
            for (int64_t d = 0; d < D; d += VL)
                vstore(y + d, vmul(vload(r.o + i * dp + d), a));
        }
    }
}

/* --- backward ---------------------------------------------------------------------------------- */

/* One row of scores and of dout V^T: the weights of the softmax (times drop) and the gradient of
 * the scores, zero from `seen` on. */
BF16 INLINE void half_grad(const float *s, const float *ds, const float *bias, const float *drop,
                           vf lse, vf delta, int64_t i, int64_t seen, vf *weight, vf *grad)
{
    const vm m = seen - i >= VL ? (vm)0xffff : vtail(seen > i ? seen - i : 0);
    vf a = vload(s + i), g = vload(ds + i);
    if (bias)
        a = vadd(a, vload_m(bias + i, m));
    const vf p = _mm512_maskz_mov_ps(m, vexp(vsub(a, lse)));
    *weight = p;
    if (drop) {
        const vf d = vload_m(drop + i, m);
        g = vmul(g, d);
        *weight = vmul(p, d);
    }
    *grad = _mm512_maskz_mul_ps(m, p, vsub(g, delta));
}

/* Two numbers of neighbouring rows in a word each. */
BF16 INLINE __m512i half_pairs(vf a, vf b, __m512i order)
{
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

struct half_pair {
    const float *s[2], *ds[2], *bias[2], *drop;
    float lse[2], delta[2];
    int64_t seen[2];
    uint16_t *row[2];
    uint32_t *p, *dp;
};

BF16 INLINE void half_grads_as(const struct half_pair *h, bool biased, const float *drop,
                               int64_t end)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9,
                                           24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
                                           16, 0);
    const vf z0 = vset(h->lse[0]), z1 = vset(h->lse[1]), d0 = vset(h->delta[0]),
             d1 = vset(h->delta[1]);
    for (int64_t i = 0; i < end; i += VL) {
        vf w0, w1, g0, g1;
        half_grad(h->s[0], h->ds[0], biased ? h->bias[0] : NULL, drop, z0, d0, i, h->seen[0], &w0,
                  &g0);
        half_grad(h->s[1], h->ds[1], biased ? h->bias[1] : NULL, drop, z1, d1, i, h->seen[1], &w1,
                  &g1);
        _mm512_storeu_si512(h->p + i, half_pairs(w0, w1, order));
        _mm512_storeu_si512(h->dp + i, half_pairs(g0, g1, order));
        _mm256_storeu_si256((__m256i *)(void *)(h->row[0] + i), half_round(g0));
        _mm256_storeu_si256((__m256i *)(void *)(h->row[1] + i), half_round(g1));
    }
}

/* Rows at + i and at + i + 1 (a row of zeros behind the last one), columns up to `end`. */
BF16 static void half_grads(const struct head_job *j, const struct half_room *r, const float *bias,
                            int64_t at, int64_t i, int64_t block, int64_t keys)
{
    const int64_t ld = up(j->keys, PANEL), pair = (at - block + i) / 2;
    struct half_pair h = {.drop = j->drop, .p = r->p + pair * ld, .dp = r->dp + pair * ld};
    for (int u = 0; u < 2; u++) {
        const int64_t row = at + i + u, last = least(row, j->queries - 1), of = last - at;
        h.s[u] = r->s + of * ld;
        h.ds[u] = r->ds + of * ld;
        h.bias[u] = bias ? bias - last : NULL;
        h.row[u] = (uint16_t *)(void *)r->row + (i + u) * ld;
        h.seen[u] = row == last ? least(visible(j, row), keys) : 0;
        h.lse[u] = j->lse[last * j->lse_stride];
        h.delta[u] = dot(j->dout + last * j->out_stride, j->out + last * j->out_stride, j->D);
    }
    if (h.bias[0] && !h.drop)
        half_grads_as(&h, true, NULL, keys);
    else if (h.bias[0])
        half_grads_as(&h, true, h.drop, keys);
    else
        half_grads_as(&h, false, h.drop, keys);
}

/* Gradients of keys and values: sums over a block of n queries. */
BF16 static void half_sums(const struct head_job *j, const struct half_room *r, int64_t n, bool add)
{
    const int64_t D = j->D, ld = up(j->keys, PANEL), pairs = (n + 1) / 2;
    half_join(r->q, n, D, r->qj);
    half_join(r->g, n, D, r->gj);
    for (int64_t c = 0; c < D; c += PANEL) {
        half_cols(r->dp, 1, ld, j->grad_keys, pairs, r->qj + c * pairs, D - c, j->dk + c,
                  j->k_stride, add, j->ahead);
        half_cols(r->p, 1, ld, j->grad_keys, pairs, r->gj + c * pairs, D - c, j->dv + c,
                  j->v_stride, add, j->ahead);
    }
}

BF16 static void attention_bwd_half(const struct head_job *j, float *scratch)
{
    if (!half_fits(j)) {
        attention_bwd(j, scratch);
        return;
    }
    struct half_room r;
    const int64_t D = j->D, W = D / 2, ld = up(j->keys, PANEL), pairs = (j->keys + 1) / 2;
    const int64_t qb = query_block(j->keys);
    (void)half_layout(j->q_first + j->queries, j->keys, D, true, scratch, &r);
    const float *bias = spread_bias(j, r.ext);
    half_ahead(j, true);
    half_words(j->k, j->k_stride, j->keys, D, r.k);
    half_turn(r.k, j->keys, D, r.kt);
    if (j->dq)
        half_join(r.k, j->keys, D, r.kj);
    half_words(j->v, j->v_stride, j->keys, D, r.v);
    half_turn(r.v, j->keys, D, r.vt);
    for (int64_t block = 0; block < j->queries; block += qb) {
        const int64_t rows = least(j->queries - block, qb);
        half_words(j->q + block * j->q_stride, j->q_stride, rows, D, r.q);
        half_words(j->dout + block * j->out_stride, j->out_stride, rows, D, r.g);
        for (int64_t at = block; at < block + rows; at += HALF_TILE) {
            const int64_t n = least(block + rows - at, HALF_TILE);
            const int64_t nq = j->dq ? least(j->grad_queries - at, n) : 0;
            /* Queries that need no gradient matter only through the keys that do. */
            const int64_t keys = nq > 0 ? j->keys : j->grad_keys;
            half_scores(j, r.q + (at - block) * W, r.kt, n, keys, r.s, ld);
            half_scores(j, r.g + (at - block) * W, r.vt, n, keys, r.ds, ld);
            for (int64_t i = 0; i < n; i += 2)
                half_grads(j, &r, bias, at, i, block, keys);
            for (int64_t c = 0; c < D && nq > 0; c += PANEL)
                half_cols(r.row, ld / 2, 1, nq, pairs, r.kj + c * pairs, D - c,
                          j->dq + at * j->q_stride + c, j->q_stride, false, j->ahead);
        }
        half_sums(j, &r, rows, block > 0);
    }
}

static int64_t attention_half_scratch(int64_t queries, int64_t keys, int64_t D)
{
    struct half_room r;
    const int64_t plain = attention_scratch(queries, keys, D);
    const int64_t half = half_layout(queries, keys, D, true, NULL, &r);
    return plain > half ? plain : half;
}
