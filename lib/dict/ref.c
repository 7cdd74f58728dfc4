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

static float fold(float chain[16])
{
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            chain[i] = chain[i] + chain[i + half];
    return chain[0];
}

float sae_ref_dot(const float *x, const float *w, size_t n)
{
    float chain[16] = {0.0f};

    for (size_t k = 0; k < (n + 15) / 16 * 16; k++)
        chain[k % 16] = fmaf(at(x, k, n), at(w, k, n), chain[k % 16]);
    return fold(chain);
}

static double fold_double(double chain[16])
{
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            chain[i] = chain[i] + chain[i + half];
    return chain[0];
}

double sae_ref_sum(const float *x, size_t n)
{
    double chain[16] = {0.0};

    for (size_t k = 0; k < n; k++)
        chain[k % 16] += (double)x[k];
    return fold_double(chain);
}

double sae_ref_squares(const float *x, double mean, size_t n)
{
    double chain[16] = {0.0};

    for (size_t k = 0; k < n; k++) {
        double v = (double)x[k] - mean;

        chain[k % 16] += v * v;
    }
    return fold_double(chain);
}

/* Formulae: SAELens, sae.py (run_time_activation_norm_fn_in). */
void sae_ref_state(const struct sae_dict *d, const float *x, float state[SAE_MAX_STATE])
{
    const size_t n = d->formula.d_in;
    double mean;

    switch (d->formula.input) {
    case SAE_SCALING_NONE:
    case SAE_SCALING_CONSTANT:
        break;
    case SAE_SCALING_RMS:
        state[0] = (float)(sqrt((double)n) / sqrt(sae_ref_squares(x, 0.0, n)));
        break;
    case SAE_SCALING_LAYER:
        mean = sae_ref_sum(x, n) / (double)n;
        state[0] = (float)mean;
        state[1] = (float)sqrt(sae_ref_squares(x, mean, n) / (double)(n - 1));
        break;
    }
}

/* x2_k: a value of the row as the encoder sees it, rounded before it is multiplied. */
static float input_of(const struct sae_dict *d, const float *x, const float *state, size_t k)
{
    float v = x[k];

    if (d->formula.input == SAE_SCALING_CONSTANT)
        v = v * d->formula.input_scale;
    else if (d->formula.input == SAE_SCALING_RMS)
        v = v * state[0];
    else if (d->formula.input == SAE_SCALING_LAYER)
        v = (v - state[0]) / (state[1] + 1e-5f);
    return d->centre ? v - d->centre[k] : v;
}

/* One feature: the same chains as sae_ref_dot. */
static float project(const struct sae_dict *d, const float *x, const float *state, size_t j)
{
    const size_t n = d->formula.d_in;
    float chain[16] = {0.0f};

    for (size_t k = 0; k < (n + 15) / 16 * 16; k++)
        chain[k % 16] = fmaf(k < n ? input_of(d, x, state, k) : 0.0f,
                             k < n ? sae_matrix_value(&d->enc, j, k) : 0.0f, chain[k % 16]);
    return fold(chain);
}

void sae_ref_project(const struct sae_dict *d, const float *x, float *p)
{
    float state[SAE_MAX_STATE];

    sae_ref_state(d, x, state);
    for (size_t j = 0; j < d->formula.F; j++)
        p[j] = d->enc.values ? project(d, x, state, j) : x[j];
}

/* t_j, what a score makes of a feature: of v = h n. Without a decoder row it is never on. */
static float score_of(const struct sae_dict *d, size_t j, float p)
{
    float param[SAE_MAX_PARAMS], n = d->dec_norm[j], v = (p + *sae_dict_params(d, j, param)) * n;

    return n == 0.0f ? 0.0f : sae_formula_unit(&d->formula)->of_h(v, param, v) + 0.0f;
}

/* f_j of a feature that is kept: the same of h, where v says whether it is on. */
static float value_of(const struct sae_dict *d, size_t j, float p)
{
    float param[SAE_MAX_PARAMS], n = d->dec_norm[j], h = p + *sae_dict_params(d, j, param);

    return sae_formula_unit(&d->formula)->of_h(h * n, param, h) + 0.0f;
}

float sae_ref_unit(const struct sae_dict *d, size_t j, float p, float *aux)
{
    float param[SAE_MAX_PARAMS], none, t;

    if (d->formula.score == SAE_SCORE_VALUE)
        return sae_formula_unit(&d->formula)
            ->value(p, sae_dict_params(d, j, param), aux ? aux : &none);
    if (aux)
        *aux = 0.0f;
    t = score_of(d, j, p);
    return d->formula.score == SAE_SCORE_DECODER_NORM && t != 0.0f ? value_of(d, j, p) : t;
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
    bool apart = sae_formula_ranks_apart(&d->formula);
    float state[SAE_MAX_STATE];

    sae_ref_project(d, x, f);
    for (size_t j = 0; j < d->formula.F; j++)
        f[j] = apart ? score_of(d, j, f[j]) : sae_ref_unit(d, j, f[j], aux ? aux + j : NULL);
    keep_largest(d, f);
    if (!apart)
        return;
    sae_ref_state(d, x, state);
    for (size_t j = 0; j < d->formula.F; j++) {
        if (f[j] != 0.0f)
            f[j] = value_of(d, j, project(d, x, state, j));
        if (aux)
            aux[j] = 0.0f;
    }
}

/* u_j */
static float unscored(const struct sae_dict *d, size_t j, float f)
{
    if (d->formula.score != SAE_SCORE_DECODER_NORM_FOLDED)
        return f;
    return d->dec_norm[j] == 0.0f ? 0.0f : f / d->dec_norm[j];
}

void sae_ref_decode(const struct sae_dict *d, const float *f, bool bias, float *x_hat)
{
    for (size_t k = 0; k < d->formula.d_out; k++) {
        float acc = 0.0f;

        for (size_t j = 0; d->dec.values && j < d->formula.F; j++) {
            float u = unscored(d, j, f[j]);

            if (u != 0.0f) /* a NaN is not 0: it takes part */
                acc = fmaf(u, sae_matrix_value(&d->dec, j, k), acc);
        }
        if (!d->dec.values)
            acc = f[k];
        x_hat[k] = bias && d->dec_bias ? acc + d->dec_bias[k] : acc;
    }
}

void sae_ref_output(const struct sae_dict *d, const float *x, const float *state, float *x_hat)
{
    const struct sae_formula *f = &d->formula;

    for (size_t k = 0; k < f->d_out; k++) {
        if (f->output == SAE_SCALING_CONSTANT)
            x_hat[k] = x_hat[k] / f->output_scale;
        else if (f->output == SAE_SCALING_RMS)
            x_hat[k] = x_hat[k] / state[0];
        else if (f->output == SAE_SCALING_LAYER)
            x_hat[k] = x_hat[k] * state[1] + state[0];
        if (d->skip && x)
            x_hat[k] = x_hat[k] + sae_ref_dot(x, d->skip + k * f->d_in, f->d_in);
    }
}

void sae_ref_ghost(const struct sae_dict *d, const float *x, const float *mask, size_t mask_col,
                   float *f_ghost)
{
    sae_ref_project(d, x, f_ghost);
    for (size_t j = 0; j < d->formula.F; j++)
        f_ghost[j] = sae_exp_f32(f_ghost[j] + d->param[0][j]) * mask[j * mask_col];
}
