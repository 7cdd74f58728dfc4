/* init.c - fresh dictionaries, the same bits on every machine (dict/spec.h, source.h).
 *
 * Distributions are those of the constructors of dictionary.py (saprmarks/dictionary_learning);
 * the generator is ours, since PyTorch's is nobody else's. Each row of a tensor has a stream of
 * its own, named by (seed, role, row), so rows do not depend on each other or on their order.
 * Every step is one IEEE double operation that all machines round alike (+ - * / sqrt, compiled
 * with -ffp-contract=off): libm's log and cos, which differ between machines, are not used.
 *
 * Stream: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
 * 2014). Normals: by inversion with algorithm AS 241 (Wichura, Applied Statistics 37, 1988,
 * PPND16, relative error about 1e-16). */
#include "lib/dict/spec.h"

#include "lib/num.h"

#include <math.h>
#include <string.h>

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t stream(uint64_t seed, enum sae_role role, uint64_t row)
{
    return mix(mix(mix(seed) + (uint64_t)role + 1) + row);
}

/* Uniform on the 2^52 midpoints of (0, 1): exact, symmetric, never 0 or 1. */
static double uniform(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return ((double)(mix(*state) >> 12) + 0.5) * 0x1p-52;
}

/* Natural logarithm of a normal positive double: x = 2^e m, m in [sqrt(1/2), sqrt(2)),
 * ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716; the series' first term left out is
 * s^23 / 23, below 2^-62 of the sum. */
static double ln(double x)
{
    static const double odd[] = {1.0 / 21.0, 1.0 / 19.0, 1.0 / 17.0, 1.0 / 15.0,
                                 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0,  1.0 / 7.0,
                                 1.0 / 5.0,  1.0 / 3.0,  1.0};
    int e;
    double m = frexp(x, &e), s, s2, sum = odd[0];

    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2.0;
        e--;
    }
    s = (m - 1.0) / (m + 1.0);
    s2 = s * s;
    for (size_t i = 1; i < SAE_COUNTOF(odd); i++)
        sum = sum * s2 + odd[i];
    return (double)e * 0x1.62e42fefa39efp-1 + 2.0 * s * sum;
}

struct ratio {
    double num[8], den[8]; /* highest power first; den[7] = 1 */
};

static double ratio_at(const struct ratio *q, double r)
{
    double n = q->num[0], d = q->den[0];

    for (int i = 1; i < 8; i++) {
        n = n * r + q->num[i];
        d = d * r + q->den[i];
    }
    return n / d;
}

/* Coefficients of AS 241, PPND16: centre |p - 1/2| <= 0.425, tail r <= 5, far tail. */
static const struct ratio centre = {
    {2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
     4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
     1.3314166789178437745e2, 3.3871328727963666080e0},
    {5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
     2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
     4.2313330701600911252e1, 1.0},
};
static const struct ratio tail = {
    {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0},
    {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
     2.05319162663775882187e0, 1.0},
};
static const struct ratio far_tail = {
    {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0},
    {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
     5.99832206555887937690e-1, 1.0},
};

double sae_normal_quantile(double p)
{
    double q = p - 0.5, r, v;

    if (fabs(q) <= 0.425)
        return q * ratio_at(&centre, 0.180625 - q * q);
    r = sqrt(-ln(q < 0.0 ? p : 1.0 - p));
    v = r <= 5.0 ? ratio_at(&tail, r - 1.6) : ratio_at(&far_tail, r - 5.0);
    return q < 0.0 ? -v : v;
}

/* torch.nn.Linear: weight and bias U(-1/sqrt(d), 1/sqrt(d)). */
static void fill_linear(float *v, size_t n, size_t d, uint64_t state)
{
    double bound = 1.0 / sqrt((double)d);

    for (size_t i = 0; i < n; i++)
        v[i] = (float)((2.0 * uniform(&state) - 1.0) * bound);
}

/* A random direction with the given norm. */
static void fill_direction(float *v, size_t n, double norm, uint64_t state)
{
    double scale;

    for (size_t i = 0; i < n; i++)
        v[i] = (float)sae_normal_quantile(uniform(&state));
    scale = norm / sae_dict_norm(v, n);
    for (size_t i = 0; i < n; i++)
        v[i] = (float)((double)v[i] * scale);
}

/* On rows x of standard normal values, p = w.x is normal with deviation |w| (the centre is zero),
 * and a feature is on with probability L/F when its threshold vector holds |w| Phi^-1(L/F).
 * 16 deviations (off once in 10^57) stand for the infinity of L = F.
 * Gated: on needs p > -gate_bias, and a magnitude relu(p + mag_bias) that is not zero, which the
 * constructor's mag_bias of 0 gives for L <= F/2 only; above, mag_bias is the same number. */
static void fill_thresholds(struct sae_dict *d, double l0)
{
    double share = l0 / (double)d->formula.F, z;
    float *threshold = d->param[0], *mag_bias = sae_dict_array(d, SAE_ROLE_MAG_BIAS);

    z = share < 1.0 ? sae_normal_quantile(share) : 16.0;
    if (z > 16.0)
        z = 16.0;
    for (size_t j = 0; j < d->formula.F; j++) {
        threshold[j] =
            (float)(sae_dict_norm(d->enc.f32 + j * d->formula.d_in, d->formula.d_in) * z);
        if (mag_bias && z > 0.0)
            mag_bias[j] = threshold[j];
    }
}

enum sae_status sae_dict_create_fresh(struct sae_dict **out, const struct sae_source *src,
                                      struct sae_team *team, struct sae_err *err)
{
    struct sae_dict *d = NULL;
    enum sae_status st = sae_dict_create(&d, src->layout, src->d, src->F, err);
    float *enc_bias, *threshold;

    if (st != SAE_OK)
        return st;
    for (size_t j = 0; j < d->formula.F; j++) {
        float *enc = d->enc.f32 + j * d->formula.d_in, *dec = d->dec.f32 + j * d->formula.d_out;

        fill_direction(dec, d->formula.d_out, (double)src->layout->init_norm,
                       stream(src->seed, SAE_ROLE_DECODER, j));
        if (src->layout->init_tied)
            memcpy(enc, dec, d->formula.d_in * sizeof *enc);
        else
            fill_linear(enc, d->formula.d_in, d->formula.d_in,
                        stream(src->seed, SAE_ROLE_ENCODER, j));
    }
    enc_bias = sae_dict_array(d, SAE_ROLE_ENC_BIAS);
    if (enc_bias && !src->layout->init_tied)
        fill_linear(enc_bias, d->formula.F, d->formula.d_in,
                    stream(src->seed, SAE_ROLE_ENC_BIAS, 0));
    threshold = sae_dict_array(d, SAE_ROLE_THRESHOLD);
    for (size_t j = 0; threshold && j < d->formula.F; j++)
        threshold[j] = src->layout->init_threshold;
    if (src->l0 > 0.0)
        fill_thresholds(d, src->l0);
    d->info.format = "init";
    st = sae_dict_seal(d, "float32", team, err);
    if (st == SAE_OK) {
        *out = d;
        d = NULL;
    }
    sae_dict_free(d);
    return st;
}
