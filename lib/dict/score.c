/* score.c - when a feature whose score is its value times a decoder norm is off, and what bounds
 * it. See dict.h and formula.h. */
#include "lib/dict/dict.h"

#include "lib/num.h"

#include <float.h>
#include <math.h>

/* fl(t n) ascends with t, so bisection finds it. */
float sae_score_tau(float tau, float n)
{
    uint32_t lo = sae_f32_key(-FLT_MAX), hi = sae_f32_key(FLT_MAX);

    if (!(-FLT_MAX * n <= tau))
        return -INFINITY;
    while (lo < hi) { /* lo holds; what is above hi does not */
        uint32_t mid = hi - (hi - lo) / 2;

        if (sae_f32_of_key(mid) * n <= tau)
            lo = mid;
        else
            hi = mid - 1;
    }
    return sae_f32_of_key(lo);
}

/* A value of -infinity is NaN where it may be negative: off follows only for what stays finite. */
static bool may_overflow(const struct sae_unit *unit, float bias, float n)
{
    return unit->is_signed && fabs((double)bias) * (n > 1.0f ? (double)n : 1.0) > 3e38;
}

/* fl(h n) <= tau follows from h <= sae_score_tau, and that from p as in unit.c. */
double sae_dict_theta(const struct sae_dict *d, size_t j)
{
    const struct sae_unit *unit = sae_formula_unit(&d->formula);
    float param[SAE_MAX_PARAMS], n;
    double theta;

    sae_dict_params(d, j, param);
    if (d->formula.score == SAE_SCORE_VALUE)
        return unit->theta(param);
    n = d->dec_norm[j];
    if (n == 0.0f)
        return (double)INFINITY;
    if (may_overflow(unit, param[0], n))
        return -(double)INFINITY;
    theta = (double)sae_score_tau((float)unit->tau(param), n) - (double)param[0];
    return theta - fabs(theta) * 1e-15;
}

struct sae_line sae_dict_line(const struct sae_dict *d, size_t j)
{
    const struct sae_unit *unit = sae_formula_unit(&d->formula);
    float param[SAE_MAX_PARAMS];
    struct sae_line line = unit->line(sae_dict_params(d, j, param));
    double n;

    if (d->formula.score == SAE_SCORE_VALUE)
        return line;
    if (may_overflow(unit, param[0], d->dec_norm[j]))
        line.c1 = -1;
    if (line.c1 < 0 ||
        (d->formula.score == SAE_SCORE_DECODER_NORM && !sae_formula_ranks_apart(&d->formula)))
        return line;
    n = (double)d->dec_norm[j];
    return (struct sae_line){.c1 = line.c1 * n, .c0 = line.c0 * n, .terms = line.terms * n};
}
