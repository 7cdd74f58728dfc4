/* dense_scalar.c - the dense projection in plain C: the fallback, and the yardstick of the others.
 */
#include "lib/engine/kern/dense.h"

#include <math.h>

/* 16 values of a weight row from k on, or as many as are left: where they lie, or widened into
 * room.
 */
static const float *some(const struct sae_matrix *w, size_t row, size_t k, float room[16])
{
    if (w->dtype == SAE_DTYPE_F32)
        return w->f32 + row * w->width + k;
    sae_matrix_widen(w, row, k, w->width - k < 16 ? w->width - k : 16, room);
    return room;
}

static float dot(const float *x, const struct sae_matrix *w, size_t row)
{
    float c[16] = {0}, room[16];
    size_t d = w->width, k = 0;

    for (; k + 16 <= d; k += 16) {
        const float *wk = some(w, row, k, room);

        for (size_t i = 0; i < 16; i++)
            c[i] = fmaf(x[k + i], wk[i], c[i]);
    }
    if (k < d) { /* the padded step: +0 times +0 is added to the chains past the end */
        const float *wk = some(w, row, k, room);

        for (size_t i = 0; i < 16; i++)
            c[i] = k + i < d ? fmaf(x[k + i], wk[i], c[i]) : c[i] + 0.0f;
    }
    for (size_t h = 8; h; h >>= 1)
        for (size_t i = 0; i < h; i++)
            c[i] += c[i + h];
    return c[0];
}

void sae_dense_f32_1x1__scalar(const float *const *x, size_t n, const struct sae_matrix *w,
                               size_t first, size_t n_features, float *p, size_t ldp,
                               float *scratch)
{
    (void)scratch;
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < n_features; j++)
            p[r * ldp + j] = dot(x[r], w, first + j);
}

void sae_pairs_f32__scalar(const float *const *x, const struct sae_matrix *w, const uint32_t *ids,
                           size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot(x[i], w, ids[i]);
}

void sae_decode_f32_1x1__scalar(const float *const *f, size_t n_rows, const struct sae_matrix *w,
                                size_t first, size_t n, size_t col, size_t n_cols, bool more,
                                float *y, size_t ldy)
{
    (void)more;
    for (size_t j = 0; j < n; j++)
        for (size_t r = 0; r < n_rows; r++)
            for (size_t c = 0; c < n_cols; c++)
                y[r * ldy + c] =
                    fmaf(f[r][j], sae_matrix_value(w, first + j, col + c), y[r * ldy + c]);
}
