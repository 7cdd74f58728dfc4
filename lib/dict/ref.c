/* ref.c - the formulae, one row at a time, in canonical order. See ref.h.
 *
 * This file is a document that happens to compile: every operation is one IEEE binary32 operation
 * (-ffp-contract=off), fmaf where it says fmaf, and what a kernel computes equals it bit for bit.
 * Formulae: saprmarks/dictionary_learning, dictionary.py. */
#include "lib/dict/ref.h"

#include "lib/num.h"

#include <math.h>

static float at(const float *v, size_t k, size_t n)
{
    return k < n ? v[k] : 0.0f;
}

/* Sixteen chains over x - centre (rounded before it is multiplied; centre may be NULL) and w. */
static float dot(const float *x, const float *centre, const float *w, size_t n)
{
    float chain[16] = {0.0f};

    for (size_t k = 0; k < (n + 15) / 16 * 16; k++) {
        float v = centre ? at(x, k, n) - at(centre, k, n) : at(x, k, n);

        chain[k % 16] = fmaf(v, at(w, k, n), chain[k % 16]);
    }
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            chain[i] = chain[i] + chain[i + half];
    return chain[0];
}

float sae_ref_dot(const float *x, const float *w, size_t n)
{
    return dot(x, NULL, w, n);
}

void sae_ref_project(const struct sae_dict *d, const float *x, float *p)
{
    for (size_t j = 0; j < d->formula.F; j++)
        p[j] = d->enc ? dot(x, d->centre, d->enc + j * d->formula.d_in, d->formula.d_in) : x[j];
}

float sae_ref_unit(const struct sae_dict *d, size_t j, float p, float *aux)
{
    float param[SAE_MAX_PARAMS], none;

    return sae_formula_unit(&d->formula)->value(p, sae_dict_params(d, j, param), aux ? aux : &none);
}

/* Does value a of feature i come before b of j among the k largest? Larger first, NaN first of all,
 * ties to the lower id. */
static bool is_before(float a, size_t i, float b, size_t j)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && (!isnan(b) || i < j);
    return a > b || (a == b && i < j);
}

/* Zeros take places as other values do. */
static void keep_largest(const struct sae_dict *d, float *f)
{
    const size_t F = d->formula.F, k = (size_t)d->formula.top_k;
    size_t last = F; /* the worst of those found so far; F: none is */
    float worst;

    for (size_t n = 0; n < k; n++) {
        size_t next = F;

        for (size_t j = 0; j < F; j++)
            if ((last == F || is_before(f[last], last, f[j], j)) &&
                (next == F || is_before(f[j], j, f[next], next)))
                next = j;
        last = next;
    }
    if (k == 0)
        return;
    worst = f[last];
    for (size_t j = 0; j < F; j++)
        if (is_before(worst, last, f[j], j))
            f[j] = 0.0f;
}

void sae_ref_encode(const struct sae_dict *d, const float *x, float *f, float *aux)
{
    sae_ref_project(d, x, f);
    for (size_t j = 0; j < d->formula.F; j++)
        f[j] = sae_ref_unit(d, j, f[j], aux ? aux + j : NULL);
    keep_largest(d, f);
}

void sae_ref_decode(const struct sae_dict *d, const float *f, bool bias, float *x_hat)
{
    for (size_t k = 0; k < d->formula.d_out; k++) {
        float acc = 0.0f;

        for (size_t j = 0; d->dec && j < d->formula.F; j++)
            if (f[j] != 0.0f) /* a NaN is not 0: it takes part */
                acc = fmaf(f[j], d->dec[j * d->formula.d_out + k], acc);
        if (!d->dec)
            acc = f[k];
        x_hat[k] = bias && d->dec_bias ? acc + d->dec_bias[k] : acc;
    }
}

void sae_ref_ghost(const struct sae_dict *d, const float *x, const float *mask, size_t mask_col,
                   float *f_ghost)
{
    sae_ref_project(d, x, f_ghost);
    for (size_t j = 0; j < d->formula.F; j++)
        f_ghost[j] = sae_exp_f32(f_ghost[j] + d->param[0][j]) * mask[j * mask_col];
}
