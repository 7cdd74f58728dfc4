/* tolerance.c - the formulae in double, and how far an f32 answer may lie from them.
 * See tolerance.h. Written from the formulae, not from ref.c: the two check each other. */
#include "tests/support/tolerance.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value and the sum of the absolute terms it is made of. */
struct term {
    double v, s;
};

static void tol_make(struct tol *t, size_t n)
{
    *t = (struct tol){.n = n};
    t->want = calloc(3 * n + 1, sizeof *t->want);
    if (!t->want) {
        fprintf(stderr, "tolerance: out of memory\n");
        abort();
    }
    t->alt = t->want + n;
    t->tol = t->want + 2 * n;
}

void tol_free(struct tol *t)
{
    free(t->want);
    *t = (struct tol){0};
}

static double allowed(double want, double s)
{
    return 1e-6 * (1.0 + fabs(want)) + 4e-6 * s;
}

/* The value is v, or, when `near`, perhaps other. A finite v of infinite terms is a relu's 0. */
static void put(struct tol *t, size_t i, double v, bool near, double other, double s)
{
    t->want[i] = v;
    t->alt[i] = near ? other : v;
    t->tol[i] = allowed(fmax(fabs(v), fabs(t->alt[i])), isfinite(s) ? s : 0.0);
}

/* What f32 cannot hold is infinite there before it meets the next product. */
static double as_f32_range(double v)
{
    return fabs(v) > (double)FLT_MAX * (1.0 + 0x1p-25) ? copysign(INFINITY, v) : v;
}

static double relu(double v)
{
    return v > 0.0 || isnan(v) ? v : 0.0;
}

/* A row's own numbers: x1 = (x - mu) / by; of layer_norm sd too. */
struct scaling {
    double mu, by, sd;
};

static struct scaling scaling_of(const struct sae_dict *d, const float *x)
{
    const size_t n = d->formula.d_in;
    struct scaling s = {0.0, 1.0, 1.0};
    double sum = 0.0, squares = 0.0;

    if (d->formula.input == SAE_SCALING_CONSTANT)
        s.by = 1.0 / (double)d->formula.input_scale;
    if (d->formula.input != SAE_SCALING_RMS && d->formula.input != SAE_SCALING_LAYER)
        return s;
    for (size_t k = 0; k < n; k++)
        sum += (double)x[k];
    if (d->formula.input == SAE_SCALING_LAYER)
        s.mu = sum / (double)n;
    for (size_t k = 0; k < n; k++)
        squares += ((double)x[k] - s.mu) * ((double)x[k] - s.mu);
    s.sd = sqrt(squares / (double)(n - 1));
    s.by = d->formula.input == SAE_SCALING_LAYER ? s.sd + 1e-5 : sqrt(squares / (double)n);
    return s;
}

static struct term project(const struct sae_dict *d, const float *x, size_t j)
{
    struct scaling s = scaling_of(d, x);
    struct term p = {0.0, 0.0};

    for (size_t k = 0; k < d->formula.d_in; k++) {
        double c = d->centre ? (double)d->centre[k] : 0.0;
        double v = ((double)x[k] - s.mu) / s.by - c;
        double w = (double)sae_matrix_value(&d->enc, j, k);

        p.v += v * w;
        p.s += (d->formula.input == SAE_SCALING_NONE
                    ? fabs(v)
                    : (fabs((double)x[k]) + fabs(s.mu)) / s.by + fabs(c)) *
               fabs(w);
    }
    return p;
}

static struct term plus(struct term t, float bias)
{
    return (struct term){t.v + (double)bias, t.s + fabs((double)bias)};
}

static bool near_zero(struct term t)
{
    return isfinite(t.v) && fabs(t.v) <= allowed(t.v, t.s);
}

static void unit_gated(const struct sae_dict *d, size_t j, struct term p, double scale,
                       struct tol *f, struct tol *aux)
{
    double r = (double)sae_dict_array(d, SAE_ROLE_R_MAG)[j];
    struct term gate = plus(p, sae_dict_array(d, SAE_ROLE_GATE_BIAS)[j]);
    struct term mag =
        plus((struct term){r * p.v, r * p.s}, sae_dict_array(d, SAE_ROLE_MAG_BIAS)[j]);
    double on = gate.v > 0.0 ? 1.0 : 0.0;

    if (f)
        put(f, j, on * relu(mag.v) * scale, near_zero(gate), (1.0 - on) * relu(mag.v) * scale,
            mag.s * scale);
    if (aux)
        put(aux, j, relu(gate.v), false, 0.0, gate.s);
}

static void unit_jump(const struct sae_dict *d, size_t j, struct term p, double scale,
                      struct tol *f, struct tol *aux)
{
    struct term pre = plus(p, sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]);
    double a = relu(pre.v), jump = (double)sae_dict_array(d, SAE_ROLE_JUMP)[j],
           on = a > 0.0 ? 1.0 : 0.0;

    if (f)
        put(f, j, (a + jump * on) * scale, near_zero(pre), (a + jump * (1.0 - on)) * scale,
            (pre.s + fabs(jump)) * scale);
    if (aux)
        put(aux, j, a, false, 0.0, pre.s);
}

static void unit_threshold(const struct sae_dict *d, size_t j, struct term p, double scale,
                           struct tol *f)
{
    struct term h = plus(p, sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]);
    float theta = sae_dict_array(d, SAE_ROLE_THRESHOLD)[j];
    double on = h.v > (double)theta ? 1.0 : 0.0;

    if (f)
        put(f, j, relu(h.v) * on * scale, near_zero(plus(h, -theta)),
            relu(h.v) * (1.0 - on) * scale, h.s * scale);
}

static void unit_signed(const struct sae_dict *d, size_t j, struct term p, double scale,
                        struct tol *f)
{
    struct term h = plus(p, sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]);
    float theta = sae_dict_array(d, SAE_ROLE_THRESHOLD)[j];
    double on = h.v > (double)theta ? 1.0 : 0.0;

    if (f)
        put(f, j, h.v * on * scale, near_zero(plus(h, -theta)), h.v * (1.0 - on) * scale,
            h.s * scale);
}

/* May i come before j, or must it? NaN comes first, among NaN the lower id. */
static bool comes_before(const struct tol *f, size_t i, size_t j, bool surely)
{
    double slack = surely ? -(f->tol[i] + f->tol[j]) : f->tol[i] + f->tol[j];

    if (isnan(f->want[i]) || isnan(f->want[j]))
        return isnan(f->want[i]) && (!isnan(f->want[j]) || i < j);
    return surely ? f->want[i] + slack > f->want[j] : f->want[i] + slack >= f->want[j];
}

/* Those that k others surely precede are off, those that k may precede perhaps. */
static void keep_largest(const struct sae_dict *d, struct tol *f)
{
    struct tol all;

    if (!d->formula.top_k)
        return;
    tol_make(&all, f->n);
    memcpy(all.want, f->want, 3 * f->n * sizeof *all.want);
    for (size_t j = 0; j < f->n; j++) {
        size_t surely = 0, perhaps = 0;

        for (size_t i = 0; i < f->n; i++) {
            surely += i != j && comes_before(&all, i, j, true);
            perhaps += i != j && comes_before(&all, i, j, false);
        }
        if (surely >= d->formula.top_k) {
            f->want[j] = 0.0;
            f->tol[j] = allowed(0.0, 0.0);
        }
        if (perhaps >= d->formula.top_k)
            f->alt[j] = 0.0;
    }
    tol_free(&all);
}

/* Selection looks at h n; f is made of that, or of h again. */
static void tol_scored(const struct sae_dict *d, const float *x, struct tol *f)
{
    const float *theta = sae_dict_array(d, SAE_ROLE_THRESHOLD);
    bool is_relu = d->formula.unit == SAE_UNIT_RELU || d->formula.unit == SAE_UNIT_THRESHOLD;

    for (size_t j = 0; j < d->formula.F; j++) {
        struct term h = plus(project(d, x, j), d->param[0][j]), v = h;
        double n = (double)d->dec_norm[j], t;
        bool on;

        v.v *= n;
        v.s *= n;
        on = !theta || v.v > (double)theta[j];
        t = n == 0.0 ? 0.0 : is_relu ? relu(v.v) : v.v;
        put(f, j, on || isnan(t) ? t : 0.0, theta && near_zero(plus(v, -theta[j])), on ? 0.0 : t,
            v.s);
    }
    keep_largest(d, f);
    if (d->formula.score == SAE_SCORE_DECODER_NORM_FOLDED)
        return;
    for (size_t j = 0; j < d->formula.F; j++) {
        struct term h = plus(project(d, x, j), d->param[0][j]);

        f->want[j] = f->want[j] != 0.0 ? h.v : 0.0;
        f->alt[j] = f->alt[j] != 0.0 ? h.v : 0.0;
        f->tol[j] = allowed(h.v, h.s);
    }
}

void tol_encode(const struct sae_dict *d, const float *x, bool scaled, struct tol *f,
                struct tol *aux)
{
    if (f)
        tol_make(f, d->formula.F);
    if (aux)
        tol_make(aux, d->formula.F);
    if (d->formula.score != SAE_SCORE_VALUE) {
        tol_scored(d, x, f);
        return;
    }
    for (size_t j = 0; j < d->formula.F; j++) {
        double scale = scaled && d->dec_norm ? (double)d->dec_norm[j] : 1.0;
        struct term p = {0.0, 0.0}, pre;

        if (d->enc.values)
            p = project(d, x, j);
        switch (d->formula.unit) {
        case SAE_UNIT_IDENTITY:
            if (f)
                put(f, j, (double)x[j], false, 0.0, 0.0);
            break;
        case SAE_UNIT_RELU:
            pre = plus(p, sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]);
            if (f)
                put(f, j, relu(pre.v) * scale, false, 0.0, pre.s * scale);
            break;
        case SAE_UNIT_GATED:
            unit_gated(d, j, p, scale, f, aux);
            break;
        case SAE_UNIT_JUMP:
            unit_jump(d, j, p, scale, f, aux);
            break;
        case SAE_UNIT_THRESHOLD:
            unit_threshold(d, j, p, scale, f);
            break;
        case SAE_UNIT_LINEAR:
            pre = plus(p, sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]);
            if (f)
                put(f, j, pre.v * scale, false, 0.0, pre.s * scale);
            break;
        case SAE_UNIT_THRESHOLD_SIGNED:
            unit_signed(d, j, p, scale, f);
            break;
        case SAE_N_UNITS:
            break;
        }
    }
    if (f)
        keep_largest(d, f);
}

static struct term output(const struct sae_dict *d, const float *x, struct scaling s, size_t k,
                          struct term y)
{
    const size_t n = d->formula.d_in;

    if (d->formula.output == SAE_SCALING_CONSTANT)
        y = (struct term){y.v / (double)d->formula.output_scale,
                          y.s / (double)d->formula.output_scale};
    else if (d->formula.output == SAE_SCALING_RMS)
        y = (struct term){y.v * s.by, y.s * s.by};
    else if (d->formula.output == SAE_SCALING_LAYER)
        y = (struct term){y.v * s.sd + s.mu, y.s * s.sd + fabs(s.mu)};
    for (size_t i = 0; d->skip && i < n; i++) {
        y.v += (double)x[i] * (double)d->skip[k * n + i];
        y.s += fabs((double)x[i]) * fabs((double)d->skip[k * n + i]);
    }
    return y;
}

void tol_decode(const struct sae_dict *d, const float *f, const float *x, struct tol *x_hat)
{
    struct scaling s = {0.0, 1.0, 1.0};

    if (x)
        s = scaling_of(d, x);
    tol_make(x_hat, d->formula.d_out);
    for (size_t k = 0; k < d->formula.d_out; k++) {
        struct term y = {d->dec.values ? 0.0 : (double)f[k], 0.0};

        for (size_t j = 0; d->dec.values && j < d->formula.F; j++) {
            double w = (double)sae_matrix_value(&d->dec, j, k);

            if (d->formula.score == SAE_SCORE_DECODER_NORM_FOLDED)
                w = d->dec_norm[j] == 0.0f ? 0.0 : w / (double)d->dec_norm[j];
            y.v += (double)f[j] * w;
            y.s += fabs((double)f[j]) * fabs(w);
        }
        if (d->dec_bias)
            y = plus(y, d->dec_bias[k]);
        if (x)
            y = output(d, x, s, k, y);
        put(x_hat, k, y.v, false, 0.0, y.s);
    }
}

void tol_ghost(const struct sae_dict *d, const float *x, const float *mask, size_t mask_col,
               struct tol *x_ghost)
{
    struct term *g = calloc(d->formula.F, sizeof *g);

    if (!g) {
        fprintf(stderr, "tolerance: out of memory\n");
        abort();
    }
    for (size_t j = 0; j < d->formula.F; j++) {
        struct term p = plus(project(d, x, j), sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]);
        double m = (double)mask[j * mask_col], e = as_f32_range(exp(p.v));

        g[j] = (struct term){e * m, e * fabs(m) * (1.0 + p.s)};
    }
    tol_make(x_ghost, d->formula.d_in);
    for (size_t k = 0; k < d->formula.d_in; k++) {
        struct term y = {0.0, 0.0};

        for (size_t j = 0; j < d->formula.F; j++) {
            double w = (double)sae_matrix_value(&d->dec, j, k);

            y.v += g[j].v * w;
            y.s += g[j].s * fabs(w);
        }
        put(x_ghost, k, y.v, false, 0.0, y.s);
    }
    free(g);
}

static bool near_one(double want, double tol, float got)
{
    double g = (double)got;

    if (isnan(want))
        return isnan(g);
    if (isinf(want) || isinf(g))
        return isinf(g) && isinf(as_f32_range(want + copysign(tol, want))) &&
               signbit(g) == signbit(want);
    return fabs(g - want) <= tol; /* false for a NaN that was not wanted */
}

bool tol_near(const struct tol *t, size_t i, float got)
{
    return near_one(t->want[i], t->tol[i], got) || near_one(t->alt[i], t->tol[i], got);
}

bool tol_check(const struct tol *t, const float *got, size_t *bad)
{
    for (size_t i = 0; i < t->n; i++)
        if (!tol_near(t, i, got[i])) {
            *bad = i;
            return false;
        }
    return true;
}
