/* dense_scalar.c - the dense projection in plain C: the fallback, and the yardstick of the others.
 */
#include "lib/engine/kern/dense.h"

#include <math.h>

static float dot(const float *x, const float *w, size_t d)
{
    float c[16] = {0};
    size_t k = 0;

    for (; k + 16 <= d; k += 16)
        for (size_t i = 0; i < 16; i++)
            c[i] = fmaf(x[k + i], w[k + i], c[i]);
    if (k < d) /* the padded step: +0 times +0 is added to the chains past the end */
        for (size_t i = 0; i < 16; i++)
            c[i] = k + i < d ? fmaf(x[k + i], w[k + i], c[i]) : c[i] + 0.0f;
    for (size_t h = 8; h; h >>= 1)
        for (size_t i = 0; i < h; i++)
            c[i] += c[i + h];
    return c[0];
}

void sae_dense_f32_1x1__scalar(const float *const *x, size_t n, const float *w, size_t n_features,
                               size_t d, float *p, size_t ldp, float *scratch)
{
    (void)scratch;
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < n_features; j++)
            p[r * ldp + j] = dot(x[r], w + j * d, d);
}

void sae_pairs_f32__scalar(const float *const *x, const float *const *w, size_t n, size_t d,
                           float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot(x[i], w[i], d);
}

void sae_decode_f32_1x1__scalar(const float *const *f, size_t n_rows, const float *w, size_t ldw,
                                size_t n, size_t n_cols, bool more, float *y, size_t ldy)
{
    (void)more;
    for (size_t j = 0; j < n; j++)
        for (size_t r = 0; r < n_rows; r++)
            for (size_t c = 0; c < n_cols; c++)
                y[r * ldy + c] = fmaf(f[r][j], w[j * ldw + c], y[r * ldy + c]);
}
