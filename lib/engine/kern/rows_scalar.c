/* rows_scalar.c - the shared kernels in plain C: any CPU, and the plainest statement of each. */
#include "lib/engine/kern/kern.h"

#include <math.h>
#include <string.h>

#include "lib/engine/kern/units.inc"

static void dot4(const float *x, const float *const w[4], size_t n, float out[4])
{
    for (size_t c = 0; c < 4; c++) {
        float chain[16] = {0.0f};
        size_t k = 0;

        for (; k + 16 <= n; k += 16)
            for (size_t i = 0; i < 16; i++)
                chain[i] = fmaf(x[k + i], w[c][k + i], chain[i]);
        for (size_t i = 0; k < n && i < 16; i++)
            chain[i] = k + i < n ? fmaf(x[k + i], w[c][k + i], chain[i]) : chain[i] + 0.0f;
        for (size_t half = 8; half > 0; half /= 2)
            for (size_t i = 0; i < half; i++)
                chain[i] = chain[i] + chain[i + half];
        out[c] = chain[0];
    }
}

static void decode(float *y, const struct sae_matrix *w, size_t col, size_t n_cols,
                   const uint32_t *ids, const float *f, size_t n, const float *bias)
{
    float acc[64], room[64];

    for (size_t c0 = 0; c0 < n_cols; c0 += 64) {
        size_t m = n_cols - c0 < 64 ? n_cols - c0 : 64;

        for (size_t c = 0; c < m; c++)
            acc[c] = 0.0f;
        for (size_t i = 0; i < n; i++) {
            const float *row = room;

            if (w->dtype == SAE_DTYPE_F32)
                row = w->f32 + ids[i] * w->width + col + c0;
            else
                sae_matrix_widen(w, ids[i], col + c0, m, room);
            for (size_t c = 0; c < m; c++)
                acc[c] = fmaf(f[i], row[c], acc[c]);
        }
        for (size_t c = 0; c < m; c++)
            y[c0 + c] = bias ? acc[c] + bias[c0 + c] : acc[c];
    }
}

static void widen_row(const struct sae_matrix *w, size_t row, float *out)
{
    sae_matrix_widen(w, row, 0, w->width, out);
}

static size_t nonzero(const float *f, const float *g, const float *h, size_t n, uint32_t *pos)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++)
        if (f[i] != 0.0f || (g && g[i] != 0.0f) || (h && h[i] != 0.0f))
            pos[m++] = (uint32_t)i;
    return m;
}

static size_t at_least(const uint32_t *key, uint32_t floor, size_t n, uint32_t *pos)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++)
        if (key[i] >= floor)
            pos[m++] = (uint32_t)i;
    return m;
}

const struct sae_kern sae_kern_scalar = {
    .name = "scalar",
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
