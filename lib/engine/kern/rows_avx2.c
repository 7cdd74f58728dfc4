/* rows_avx2.c - the shared kernels for AVX2 and FMA (compiled with those flags, by name).
 *
 * A canonical chain of 16 is two registers (lanes 0..7 and 8..15): the first fold is lo + hi. */
#include "lib/engine/kern/kern.h"
#include "lib/engine/kern/widen_256.h"

#include <immintrin.h>
#include <string.h>

#include "lib/engine/kern/units.inc"

/* Lanes below m (at most 8) on. */
static inline __m256i lanes(size_t m)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)m), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* lo = chains 0..7, hi = chains 8..15. */
static inline float fold(__m256 lo, __m256 hi)
{
    __m256 s8 = _mm256_add_ps(lo, hi);
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));

    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

static void dot4(const float *x, const float *const w[4], size_t n, float out[4])
{
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    __m256 a0 = _mm256_setzero_ps(), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, e0 = a0, e1 = a0;
    size_t k = 0;

    for (; k + 16 <= n; k += 16) {
        __m256 lo = _mm256_loadu_ps(x + k), hi = _mm256_loadu_ps(x + k + 8);

        a0 = _mm256_fmadd_ps(lo, _mm256_loadu_ps(w0 + k), a0);
        a1 = _mm256_fmadd_ps(hi, _mm256_loadu_ps(w0 + k + 8), a1);
        b0 = _mm256_fmadd_ps(lo, _mm256_loadu_ps(w1 + k), b0);
        b1 = _mm256_fmadd_ps(hi, _mm256_loadu_ps(w1 + k + 8), b1);
        c0 = _mm256_fmadd_ps(lo, _mm256_loadu_ps(w2 + k), c0);
        c1 = _mm256_fmadd_ps(hi, _mm256_loadu_ps(w2 + k + 8), c1);
        e0 = _mm256_fmadd_ps(lo, _mm256_loadu_ps(w3 + k), e0);
        e1 = _mm256_fmadd_ps(hi, _mm256_loadu_ps(w3 + k + 8), e1);
    }
    if (k < n) { /* masked lanes are +0 on both sides, as the canonical padding */
        __m256i m0 = lanes(n - k < 8 ? n - k : 8), m1 = lanes(n - k < 8 ? 0 : n - k - 8);
        __m256 lo = _mm256_maskload_ps(x + k, m0), hi = _mm256_maskload_ps(x + k + 8, m1);

        a0 = _mm256_fmadd_ps(lo, _mm256_maskload_ps(w0 + k, m0), a0);
        a1 = _mm256_fmadd_ps(hi, _mm256_maskload_ps(w0 + k + 8, m1), a1);
        b0 = _mm256_fmadd_ps(lo, _mm256_maskload_ps(w1 + k, m0), b0);
        b1 = _mm256_fmadd_ps(hi, _mm256_maskload_ps(w1 + k + 8, m1), b1);
        c0 = _mm256_fmadd_ps(lo, _mm256_maskload_ps(w2 + k, m0), c0);
        c1 = _mm256_fmadd_ps(hi, _mm256_maskload_ps(w2 + k + 8, m1), c1);
        e0 = _mm256_fmadd_ps(lo, _mm256_maskload_ps(w3 + k, m0), e0);
        e1 = _mm256_fmadd_ps(hi, _mm256_maskload_ps(w3 + k + 8, m1), e1);
    }
    out[0] = fold(a0, a1);
    out[1] = fold(b0, b1);
    out[2] = fold(c0, c1);
    out[3] = fold(e0, e1);
}

/* Rows of weights that a list names, from a column on. */
struct listed {
    const char *w;
    size_t ld; /* bytes of a row */
    const uint32_t *ids;
    const float *f;
    size_t n;
};

/* One pass over the features for V whole registers of columns. Rows are far apart and a few KB
 * long: the one four features on is fetched while this one is added. */
#define DECODE_AHEAD 4
static inline __attribute__((always_inline)) void decode_cols(float *y, const struct listed *l,
                                                              size_t at, const float *bias,
                                                              const int V, const enum sae_dtype t)
{
    const size_t bytes = 8 * (t == SAE_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t));
    __m256 acc[12];

#pragma GCC unroll 12
    for (int v = 0; v < V; v++)
        acc[v] = _mm256_setzero_ps();
    for (size_t i = 0; i < l->n; i++) {
        const char *row = l->w + at + l->ids[i] * l->ld;
        __m256 fi = _mm256_broadcast_ss(l->f + i);

        if (i + DECODE_AHEAD < l->n) {
            const char *next = l->w + at + l->ids[i + DECODE_AHEAD] * l->ld;

#pragma GCC unroll 6
            for (size_t line = 0; line < (size_t)V * bytes; line += 64)
                _mm_prefetch(next + line, _MM_HINT_T0);
        }
#pragma GCC unroll 12
        for (int v = 0; v < V; v++)
            acc[v] = _mm256_fmadd_ps(fi, weights(row + (size_t)v * bytes, t), acc[v]);
    }
#pragma GCC unroll 12
    for (int v = 0; v < V; v++)
        _mm256_storeu_ps(y + 8 * v,
                         bias ? _mm256_add_ps(acc[v], _mm256_loadu_ps(bias + 8 * v)) : acc[v]);
}

/* m < 8 columns. */
static inline __attribute__((always_inline)) void decode_tail(float *y, const struct listed *l,
                                                              size_t at, size_t m,
                                                              const float *bias,
                                                              const enum sae_dtype t)
{
    __m256i on = lanes(m);
    __m256 acc = _mm256_setzero_ps();

    for (size_t i = 0; i < l->n; i++) {
        const char *row = l->w + at + l->ids[i] * l->ld;
        __m256 w = t == SAE_DTYPE_F32 ? _mm256_maskload_ps((const float *)row, on)
                                      : weights_tail(row, (int)m, t);

        acc = _mm256_fmadd_ps(_mm256_broadcast_ss(l->f + i), w, acc);
    }
    if (bias)
        acc = _mm256_add_ps(acc, _mm256_maskload_ps(bias, on));
    _mm256_maskstore_ps(y, on, acc);
}

static inline __attribute__((always_inline)) void decode_as(float *y, const struct listed *l,
                                                            size_t n_cols, const float *bias,
                                                            const enum sae_dtype t)
{
    const size_t item = t == SAE_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t c = 0;

    for (; c + 96 <= n_cols; c += 96)
        decode_cols(y + c, l, c * item, bias ? bias + c : NULL, 12, t);
    for (; c + 32 <= n_cols; c += 32)
        decode_cols(y + c, l, c * item, bias ? bias + c : NULL, 4, t);
    for (; c + 8 <= n_cols; c += 8)
        decode_cols(y + c, l, c * item, bias ? bias + c : NULL, 1, t);
    if (c < n_cols)
        decode_tail(y + c, l, c * item, n_cols - c, bias ? bias + c : NULL, t);
}

static void decode(float *y, const struct sae_matrix *w, size_t col, size_t n_cols,
                   const uint32_t *ids, const float *f, size_t n, const float *bias)
{
    const struct listed l = {sae_matrix_at(w, 0, col), w->width * sae_matrix_item(w), ids, f, n};

    if (w->dtype == SAE_DTYPE_F32)
        decode_as(y, &l, n_cols, bias, SAE_DTYPE_F32);
    else if (w->dtype == SAE_DTYPE_F16)
        decode_as(y, &l, n_cols, bias, SAE_DTYPE_F16);
    else
        decode_as(y, &l, n_cols, bias, SAE_DTYPE_BF16);
}

static void widen_row(const struct sae_matrix *w, size_t row, float *out)
{
    widen(sae_matrix_at(w, row, 0), out, w->width, w->dtype);
}

static inline size_t put_bits(unsigned bits, size_t i, uint32_t *pos, size_t m)
{
    for (; bits; bits &= bits - 1)
        pos[m++] = (uint32_t)i + (uint32_t)__builtin_ctz(bits);
    return m;
}

static inline unsigned differs(const float *v, size_t i)
{
    return (unsigned)_mm256_movemask_ps(
        _mm256_cmp_ps(_mm256_loadu_ps(v + i), _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

static size_t nonzero(const float *f, const float *g, const float *h, size_t n, uint32_t *pos)
{
    size_t m = 0, i = 0;

    for (; i + 8 <= n; i += 8) {
        unsigned bits = differs(f, i);

        if (g)
            bits |= differs(g, i);
        if (h)
            bits |= differs(h, i);
        m = put_bits(bits, i, pos, m);
    }
    for (; i < n; i++)
        if (f[i] != 0.0f || (g && g[i] != 0.0f) || (h && h[i] != 0.0f))
            pos[m++] = (uint32_t)i;
    return m;
}

static size_t at_least(const uint32_t *key, uint32_t floor, size_t n, uint32_t *pos)
{
    __m256i least = _mm256_set1_epi32((int)floor);
    size_t m = 0, i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256i k = _mm256_loadu_si256((const __m256i *)(key + i));
        __m256i on = _mm256_cmpeq_epi32(_mm256_max_epu32(k, least), k);

        m = put_bits((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(on)), i, pos, m);
    }
    for (; i < n; i++)
        if (key[i] >= floor)
            pos[m++] = (uint32_t)i;
    return m;
}

const struct sae_kern sae_kern_avx2 = {
    .name = "avx2",
    .dot4 = dot4,
    .decode = decode,
    .widen = widen_row,
    .nonzero = nonzero,
    .at_least = at_least,
    .unit = UNITS,
    .score = SCORES,
    .unscore = unscore_n,
    .mul = mul_n,
    .sub = sub_n,
    .less = less_n,
    .scale = scale_n,
    .divide = divide_n,
    .normalise = normalise_n,
    .restore = restore_n,
    .sum = sum_n,
    .squares = squares_n,
    .order = order_n,
    .kth_largest = kth_largest_n,
};
