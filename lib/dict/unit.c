/* unit.c - the rows of unit.h. Every operation of a formula is one IEEE binary32 operation, in the
 * order written (-ffp-contract=off); performance: units.inc.
 *
 * Sources: saprmarks/dictionary_learning, dictionary.py (see layout.c). */
#include "lib/dict/unit.h"

#include <math.h>

/* NaN stays NaN; -0 and all that is negative become +0. */
static float relu(float v)
{
    return v > 0.0f || v != v ? v : 0.0f;
}

/* f = p: IdentityDict. Never projected, so never proved off. */
static float identity(float p, const float *param, float *aux)
{
    (void)param;
    *aux = 0.0f;
    return p;
}

static double never_off(const float *param)
{
    (void)param;
    return -(double)INFINITY;
}

static struct sae_line identity_line(const float *param)
{
    (void)param;
    return (struct sae_line){.c1 = 1};
}

static float relu_of_h(float v, const float *param, float h)
{
    (void)v, (void)param;
    return relu(h);
}

static double relu_tau(const float *param)
{
    (void)param;
    return 0.0;
}

/* f = relu(p + b) */
static float relu_value(float p, const float *param, float *aux)
{
    *aux = 0.0f;
    return relu(p + param[0]);
}

static double relu_theta(const float *param)
{
    return -(double)param[0];
}

static struct sae_line relu_line(const float *param)
{
    return (struct sae_line){.c1 = 1, .c0 = (double)param[0], .terms = fabs((double)param[0])};
}

/* f = (p + gate_bias > 0) * relu(r * p + mag_bias); aux = relu(p + gate_bias). A product: 0 times
 * NaN or infinity is NaN. r = exp(r_mag). */
static float gated_value(float p, const float *param, float *aux)
{
    float t = param[1] * p, mag = relu(t + param[2]), gate = p + param[0];

    *aux = relu(gate);
    return (gate > 0.0f ? 1.0f : 0.0f) * mag;
}

/* Either network switches it off, and fl(fl(r p) + mag) <= 0 follows from r p <= -mag because
 * rounding is monotone; the quotient is moved down past its own rounding. r = 0 leaves mag alone to
 * decide. A closed gate gives 0 only to a finite magnitude. */
static double gated_theta(const float *param)
{
    double r = param[1], bias = param[2], gate = -(double)param[0], mag, finite;

    if (!isfinite(r) || !isfinite(bias))
        return -(double)INFINITY;
    if (r == 0)
        return bias > 0 ? gate : (double)INFINITY;
    mag = -bias / r;
    mag -= fabs(mag) * 1e-15;
    finite = (3e38 - (bias > 0 ? bias : 0)) / r;
    gate = gate < finite ? gate : finite;
    return gate > mag ? gate : mag;
}

static struct sae_line gated_line(const float *param)
{
    return (struct sae_line){
        .c1 = (double)param[1], .c0 = (double)param[2], .terms = fabs((double)param[2])};
}

/* aux = relu(p + b); f = aux + jump * (aux > 0) */
static float jump_value(float p, const float *param, float *aux)
{
    *aux = relu(p + param[0]);
    return *aux + param[1] * (*aux > 0.0f ? 1.0f : 0.0f);
}

/* No jump gives 0 to an infinite one: 0 times infinity is NaN. */
static double jump_theta(const float *param)
{
    return isfinite(param[1]) ? -(double)param[0] : -(double)INFINITY;
}

static struct sae_line jump_line(const float *param)
{
    double bias = param[0], jump = param[1];

    return (struct sae_line){.c1 = 1, .c0 = bias + jump, .terms = fabs(bias) + fabs(jump)};
}

/* f = relu(h) * (v > threshold): a product, so that NaN stays NaN. */
static float threshold_of_h(float v, const float *param, float h)
{
    return relu(h) * (v > param[1] ? 1.0f : 0.0f);
}

static double threshold_tau(const float *param)
{
    return param[1] > 0.0f ? (double)param[1] : 0.0;
}

static float threshold_value(float p, const float *param, float *aux)
{
    float h = p + param[0];

    *aux = 0.0f;
    return threshold_of_h(h, param, h);
}

/* h <= tau switches it off, and fl(p + b) <= tau follows from p <= tau - b because rounding is
 * monotone; the difference is moved down past its own rounding. */
static double threshold_theta(const float *param)
{
    double theta = threshold_tau(param) - (double)param[0];

    return theta - fabs(theta) * 1e-15;
}

/* f = h, whatever its sign; -0 becomes +0. */
static float linear_of_h(float v, const float *param, float h)
{
    (void)v, (void)param;
    return h;
}

static float linear_value(float p, const float *param, float *aux)
{
    *aux = 0.0f;
    return p + param[0] + 0.0f;
}

/* f = h * (v > threshold), whatever its sign; -0 becomes +0, NaN and -infinity, which is off but
 * not a number times 0, NaN. */
static float signed_of_h(float v, const float *param, float h)
{
    return h * (v > param[1] ? 1.0f : 0.0f);
}

static double signed_tau(const float *param)
{
    return (double)param[1];
}

static float signed_value(float p, const float *param, float *aux)
{
    float h = p + param[0];

    *aux = 0.0f;
    return signed_of_h(h, param, h) + 0.0f;
}

/* As threshold_theta with tau = threshold. What is screened has |p| below 1e37, so h is finite
 * beside a bias that is not next to the largest float. */
static double signed_theta(const float *param)
{
    double theta = (double)param[1] - (double)param[0];

    return param[0] < -3e38f ? -(double)INFINITY : theta - fabs(theta) * 1e-15;
}

/* Where a threshold is negative the value does not rise with p: what is off is above what is on. No
 * line bounds it. */
static struct sae_line signed_line(const float *param)
{
    return param[1] < 0.0f ? (struct sae_line){.c1 = -1} : relu_line(param);
}

const struct sae_unit sae_units[SAE_N_UNITS] = {
    [SAE_UNIT_IDENTITY] = {.name = "identity",
                           .value = identity,
                           .theta = never_off,
                           .line = identity_line},
    [SAE_UNIT_RELU] = {.name = "relu",
                       .n_params = 1,
                       .params = {SAE_ROLE_ENC_BIAS},
                       .value = relu_value,
                       .theta = relu_theta,
                       .line = relu_line,
                       .of_h = relu_of_h,
                       .tau = relu_tau},
    [SAE_UNIT_GATED] = {.name = "gated",
                        .n_params = 3,
                        .params = {SAE_ROLE_GATE_BIAS, SAE_ROLE_R_MAG, SAE_ROLE_MAG_BIAS},
                        .exps = 1 << 1,
                        .aux_name = "gate",
                        .aux_option = SAE_OPT_RETURN_GATE,
                        .is_aux_alone = true,
                        .value = gated_value,
                        .theta = gated_theta,
                        .line = gated_line},
    [SAE_UNIT_JUMP] = {.name = "jump",
                       .n_params = 2,
                       .params = {SAE_ROLE_ENC_BIAS, SAE_ROLE_JUMP},
                       .aux_name = "pre_jump",
                       .aux_option = SAE_OPT_OUTPUT_PRE_JUMP,
                       .is_aux_of_class = true,
                       .is_on_by_aux = true,
                       .value = jump_value,
                       .theta = jump_theta,
                       .line = jump_line},
    [SAE_UNIT_THRESHOLD] = {.name = "threshold",
                            .n_params = 2,
                            .params = {SAE_ROLE_ENC_BIAS, SAE_ROLE_THRESHOLD},
                            .value = threshold_value,
                            .theta = threshold_theta,
                            .line = relu_line,
                            .of_h = threshold_of_h,
                            .tau = threshold_tau},
    [SAE_UNIT_LINEAR] = {.name = "linear",
                         .n_params = 1,
                         .params = {SAE_ROLE_ENC_BIAS},
                         .is_signed = true,
                         .is_never_off = true,
                         .value = linear_value,
                         .theta = never_off,
                         .line = relu_line,
                         .of_h = linear_of_h,
                         .tau = never_off},
    [SAE_UNIT_THRESHOLD_SIGNED] = {.name = "threshold_signed",
                                   .n_params = 2,
                                   .params = {SAE_ROLE_ENC_BIAS, SAE_ROLE_THRESHOLD},
                                   .is_signed = true,
                                   .value = signed_value,
                                   .theta = signed_theta,
                                   .line = signed_line,
                                   .of_h = signed_of_h,
                                   .tau = signed_tau},
};

unsigned sae_unit_param(const struct sae_unit *unit, enum sae_role role)
{
    unsigned i = 0;

    while (i < unit->n_params && unit->params[i] != role)
        i++;
    return i;
}
