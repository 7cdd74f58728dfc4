/* rows_avx512.c - the shared kernels for AVX-512 (F, BW, DQ, VL; compiled with those flags, by
 * name). A canonical chain of 16 is one register; tails are masked. */
#include "lib/engine/kern/kern.h"
#include "lib/engine/kern/widen_512.h"

#include <immintrin.h>
#include <string.h>

#include "lib/engine/kern/units.inc"

static inline float fold(__m512 a)
{
    __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));

    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

static void dot4(const float *x, const float *const w[4], size_t n, float out[4])
{
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    __m512 a = _mm512_setzero_ps(), b = a, c = a, e = a;
    size_t k = 0;

    for (; k + 16 <= n; k += 16) {
        __m512 v = _mm512_loadu_ps(x + k);

        a = _mm512_fmadd_ps(v, _mm512_loadu_ps(w0 + k), a);
        b = _mm512_fmadd_ps(v, _mm512_loadu_ps(w1 + k), b);
        c = _mm512_fmadd_ps(v, _mm512_loadu_ps(w2 + k), c);
        e = _mm512_fmadd_ps(v, _mm512_loadu_ps(w3 + k), e);
    }
    if (k < n) { /* masked lanes are +0 on both sides, as the canonical padding */
        __mmask16 m = (__mmask16)((1u << (n - k)) - 1);
        __m512 v = _mm512_maskz_loadu_ps(m, x + k);

        a = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w0 + k), a);
        b = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w1 + k), b);
        c = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w2 + k), c);
        e = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w3 + k), e);
    }
    out[0] = fold(a);
    out[1] = fold(b);
    out[2] = fold(c);
    out[3] = fold(e);
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
    const size_t bytes = 16 * (t == SAE_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t));
    __m512 acc[16];

#pragma GCC unroll 16
    for (int v = 0; v < V; v++)
        acc[v] = _mm512_setzero_ps();
    for (size_t i = 0; i < l->n; i++) {
        const char *row = l->w + at + l->ids[i] * l->ld;
        __m512 fi = _mm512_set1_ps(l->f[i]);

        if (i + DECODE_AHEAD < l->n) {
            const char *next = l->w + at + l->ids[i + DECODE_AHEAD] * l->ld;

#pragma GCC unroll 16
            for (size_t line = 0; line < (size_t)V * bytes; line += 64)
                _mm_prefetch(next + line, _MM_HINT_T0);
        }
#pragma GCC unroll 16
        for (int v = 0; v < V; v++)
            acc[v] = _mm512_fmadd_ps(fi, weights(row + (size_t)v * bytes, t), acc[v]);
    }
#pragma GCC unroll 16
    for (int v = 0; v < V; v++)
        _mm512_storeu_ps(y + 16 * v,
                         bias ? _mm512_add_ps(acc[v], _mm512_loadu_ps(bias + 16 * v)) : acc[v]);
}

/* m <= 16 columns. */
static inline __attribute__((always_inline)) void decode_tail(float *y, const struct listed *l,
                                                              size_t at, size_t m,
                                                              const float *bias,
                                                              const enum sae_dtype t)
{
    __mmask16 on = (__mmask16)((1u << m) - 1);
    __m512 acc = _mm512_setzero_ps();

    for (size_t i = 0; i < l->n; i++)
        acc = _mm512_fmadd_ps(_mm512_set1_ps(l->f[i]),
                              weights_tail(l->w + at + l->ids[i] * l->ld, (int)m, t), acc);
    if (bias)
        acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(on, bias));
    _mm512_mask_storeu_ps(y, on, acc);
}

static inline __attribute__((always_inline)) void decode_as(float *y, const struct listed *l,
                                                            size_t n_cols, const float *bias,
                                                            const enum sae_dtype t)
{
    const size_t item = t == SAE_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t c = 0;

    for (; c + 256 <= n_cols; c += 256)
        decode_cols(y + c, l, c * item, bias ? bias + c : NULL, 16, t);
    for (; c + 64 <= n_cols; c += 64)
        decode_cols(y + c, l, c * item, bias ? bias + c : NULL, 4, t);
    for (; c < n_cols; c += 16)
        decode_tail(y + c, l, c * item, n_cols - c < 16 ? n_cols - c : 16, bias ? bias + c : NULL,
                    t);
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

/* Positions of the bits of `on`, from position i. */
static inline size_t put_mask(__mmask16 on, size_t i, uint32_t *pos, size_t m)
{
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

    if (!on)
        return m;
    _mm512_storeu_si512(pos + m, _mm512_maskz_compress_epi32(
                                     on, _mm512_add_epi32(iota, _mm512_set1_epi32((int)i))));
    return m + (size_t)__builtin_popcount(on);
}

static inline __mmask16 differs(__mmask16 m, const float *v)
{
    return _mm512_mask_cmp_ps_mask(m, _mm512_maskz_loadu_ps(m, v), _mm512_setzero_ps(),
                                   _CMP_NEQ_UQ);
}

static size_t nonzero(const float *f, const float *g, const float *h, size_t n, uint32_t *pos)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xffff;
        __mmask16 on = differs(in, f + i);

        if (g)
            on |= differs(in, g + i);
        if (h)
            on |= differs(in, h + i);
        m = put_mask(on, i, pos, m);
    }
    return m;
}

static size_t at_least(const uint32_t *key, uint32_t floor, size_t n, uint32_t *pos)
{
    __m512i least = _mm512_set1_epi32((int)floor);
    size_t m = 0;

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xffff;

        m = put_mask(_mm512_mask_cmpge_epu32_mask(in, _mm512_maskz_loadu_epi32(in, key + i), least),
                     i, pos, m);
    }
    return m;
}

const struct sae_kern sae_kern_avx512 = {
    .name = "avx512",
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
