/* quant.h - the double-precision loops of quantising a vector, one build per instruction set.
 *
 * The same C (quant.inc) compiled three times: every operation is an IEEE double operation in a
 * fixed order, so all builds give the same numbers. Pure functions, any thread. */
#ifndef SAE_KERN_QUANT_H
#define SAE_KERN_QUANT_H

#include <stddef.h>
#include <stdint.h>

struct sae_quant {
    /* v[k] = x[k] for k < n, 0 up to the next multiple of 16; *n2 = |x|^2; returns max |x[k]|
     * (NaN or infinity somewhere: returns infinity). */
    double (*widen)(const float *x, size_t n, double *v, double *n2);
    /* v = Q v in place: a fixed sign for each dimension, then Hadamard matrices of 1024, 256, 64
     * and 16 (powers of 4, so that the scale 1/sqrt(size) is exact). n is a multiple of 16. Returns
     * max |v[k]|. */
    double (*rotate)(double *v, size_t n);
    /* q[k] = v[k] / s rounded to nearest within -qmax..qmax. n is a multiple of 16.
     * *err2 = |v - s q|^2, *q2 = |q|^2, *sum = sum of q. */
    void (*round)(const double *v, size_t n, double s, int qmax, int8_t *q, double *err2,
                  int64_t *q2, int64_t *sum);
};

extern const struct sae_quant sae_quant_scalar, sae_quant_avx2, sae_quant_avx512;

#endif
