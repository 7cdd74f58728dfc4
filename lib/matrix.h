/* matrix.h - a matrix of weights in memory: rows of f32, or of 16 bits as their file has them.
 *
 * Whoever computes with it widens what it reads, which is exact for bf16 and f16, subnormals
 * included: a matrix gives the same bits in whichever form it is kept. Its values are finite. Plain
 * data and pure functions, any thread. */
#ifndef SAE_MATRIX_H
#define SAE_MATRIX_H

#include "lib/dtype.h"

struct sae_matrix {
    enum sae_dtype dtype; /* F32, F16 or BF16 */
    size_t width;         /* of a row; rows lie one behind the other */
    union {
        void *values; /* NULL: there is no matrix */
        float *f32;
        uint16_t *bits; /* F16, BF16 */
    };
};

/* Bytes of a value. */
static inline size_t sae_matrix_item(const struct sae_matrix *m)
{
    return m->dtype == SAE_DTYPE_F32 ? sizeof *m->f32 : sizeof *m->bits;
}

static inline const void *sae_matrix_at(const struct sae_matrix *m, size_t row, size_t col)
{
    return (const char *)m->values + (row * m->width + col) * sae_matrix_item(m);
}

/* The value there. */
static inline float sae_matrix_value(const struct sae_matrix *m, size_t row, size_t col)
{
    size_t i = row * m->width + col;

    return m->dtype == SAE_DTYPE_F32   ? m->f32[i]
           : m->dtype == SAE_DTYPE_F16 ? sae_f16_to_f32(m->bits[i])
                                       : sae_bf16_to_f32(m->bits[i]);
}

/* n values of a row from col on, as f32. */
static inline void sae_matrix_widen(const struct sae_matrix *m, size_t row, size_t col, size_t n,
                                    float *out)
{
    sae_dtype_to_f32(m->dtype, sae_matrix_at(m, row, col), out, n);
}

/* The row as f32: where it lies, or widened into `room` [width]. */
static inline const float *sae_matrix_row(const struct sae_matrix *m, size_t row, float *room)
{
    if (m->dtype == SAE_DTYPE_F32)
        return m->f32 + row * m->width;
    sae_matrix_widen(m, row, 0, m->width, room);
    return room;
}

#endif
