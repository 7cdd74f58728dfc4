/* test_ref.c - the reference itself: canonical order, two roundings, zeros, NaN and infinity.
 *
 * The orders are written out here a second time, literally, from the numbers contract. */
#include "lib/dict/ref.h"
#include "lib/num.h"
#include "tests/support/dicts.h"
#include "tests/support/tolerance.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_N 130

/* Padded copies, one chain after the other, the tree spelled out. */
static float dot_again(const float *x, const float *w, size_t n)
{
    float px[MAX_N + 16] = {0}, pw[MAX_N + 16] = {0}, c[16], e[8], q[4];
    size_t padded = (n + 15) & ~(size_t)15;

    memcpy(px, x, n * sizeof *x);
    memcpy(pw, w, n * sizeof *w);
    for (size_t i = 0; i < 16; i++) {
        c[i] = 0.0f;
        for (size_t k = i; k < padded; k += 16)
            c[i] = fmaf(px[k], pw[k], c[i]);
    }
    for (size_t i = 0; i < 8; i++)
        e[i] = c[i] + c[i + 8];
    for (size_t i = 0; i < 4; i++)
        q[i] = e[i] + e[i + 4];
    return (q[0] + q[2]) + (q[1] + q[3]);
}

START_TEST(dot_is_in_canonical_order)
{
    uint64_t state = 5;
    float x[MAX_N], w[MAX_N];

    for (size_t n = 0; n <= MAX_N; n++) {
        for (size_t k = 0; k < n; k++) {
            x[k] = dicts_normal(&state) * exp2f((float)(k % 30));
            w[k] = dicts_normal(&state);
        }
        float got = sae_ref_dot(x, w, n), want = dot_again(x, w, n);

        ck_assert_msg(sae_f32_bits(got) == sae_f32_bits(want), "n = %zu: %a, want %a", n,
                      (double)got, (double)want);
    }
}
END_TEST

START_TEST(centre_is_subtracted_and_rounded_first)
{
    struct sae_dict *d = dicts_make("AutoEncoder", 37, 9, 1);
    float *x = dicts_rows(1, 37, 2), y[37], p[9];

    for (size_t k = 0; k < 37; k++)
        y[k] = x[k] - d->centre[k];
    sae_ref_project(d, x, p);
    for (size_t j = 0; j < 9; j++)
        ck_assert_uint_eq(sae_f32_bits(p[j]), sae_f32_bits(dot_again(y, d->enc.f32 + j * 37, 37)));
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

START_TEST(decode_is_one_chain_that_skips_zeros)
{
    static const char *const classes[] = {"AutoEncoder", "AutoEncoderNew"};
    struct sae_dict *d = dicts_make(classes[_i], 5, 40, 3);
    float *f = dicts_rows(1, 40, 4), y[5];

    f[0] = -0.0f;
    for (size_t j = 2; j < 40; j += 3)
        f[j] = 0.0f;
    d->dec.f32[0] = INFINITY; /* of feature 0, which is off: skipped, not 0 * infinity */
    for (int bias = 0; bias < 2; bias++) {
        sae_ref_decode(d, f, bias == 1, y);
        for (size_t k = 0; k < 5; k++) {
            float acc = 0.0f;

            for (size_t j = 1; j < 40; j++)
                if (j % 3 != 2)
                    acc = fmaf(f[j], d->dec.f32[j * 5 + k], acc);
            if (bias)
                acc += d->dec_bias[k];
            ck_assert_uint_eq(sae_f32_bits(y[k]), sae_f32_bits(acc));
        }
    }
    f[0] = NAN; /* takes part */
    sae_ref_decode(d, f, true, y);
    for (size_t k = 0; k < 5; k++)
        ck_assert(isnan(y[k]));
    sae_free(f);
    sae_dict_free(d);
}
END_TEST

/* One feature with the numbers of a line, and what the formula gives. */
struct unit_case {
    const char *class_name;
    float p, a, b, c; /* RELU: a = enc_bias. Gated: r, gate_bias, mag_bias. Jump: enc_bias, jump.
                         JumpRelu: enc_bias, threshold */
    float f, aux;
};

static const struct unit_case cases[] = {
    {"AutoEncoder", 2, 1, 0, 0, 3, 0},
    {"AutoEncoder", -1, 1, 0, 0, 0, 0},
    {"AutoEncoder", -0.0f, -0.0f, 0, 0, 0, 0},
    {"AutoEncoder", NAN, 1, 0, 0, NAN, 0},
    {"AutoEncoder", -INFINITY, 1, 0, 0, 0, 0},
    {"AutoEncoderNew", 2, -3, 0, 0, 0, 0},
    {"GatedAutoEncoder", 2, 3, 1, -1, 5, 3},
    {"GatedAutoEncoder", 2, 3, -2, 1, 0, 0},       /* gate exactly 0: off */
    {"GatedAutoEncoder", 2, 1, -1, -5, 0, 1},      /* gate on, magnitude off */
    {"GatedAutoEncoder", -2, 1, 1, 5, 0, 0},       /* gate off, magnitude on: +0 */
    {"GatedAutoEncoder", NAN, 1, 1, 1, NAN, NAN},  /* 0 * NaN */
    {"GatedAutoEncoder", -FLT_MAX, 2, 0, 0, 0, 0}, /* t = -infinity */
    {"GatedAutoEncoder", INFINITY, 1, 0, 0, INFINITY, INFINITY},
    {"GatedAutoEncoder", FLT_MAX, 2, -FLT_MAX, 0, NAN, 0}, /* 0 * infinity */
    {"GatedAutoEncoder", 1, 0, 0, -0.0f, 0, 1},
    /* fl(fl(r p) + mag), not fma: r p = 1 + 2^-11 + 2^-24 rounds to 1 + 2^-11 */
    {"GatedAutoEncoder", 1 + 0x1p-12f, 1 + 0x1p-12f, 0, -1, 0x1p-11f, 1 + 0x1p-12f},
    {"JumpAutoEncoder", 2, 1, 5, 0, 8, 3},
    {"JumpAutoEncoder", 2, -2, 5, 0, 0, 0},  /* exactly 0: no jump */
    {"JumpAutoEncoder", -3, 1, -5, 0, 0, 0}, /* 0 + -5 * 0 is +0 */
    {"JumpAutoEncoder", 2, 1, -3, 0, 0, 3},
    {"JumpAutoEncoder", 2, 1, -4, 0, -1, 3},
    {"JumpAutoEncoder", NAN, 1, 5, 0, NAN, NAN},
    {"JumpAutoEncoder", INFINITY, 1, 5, 0, INFINITY, INFINITY},
    {"JumpReluAutoEncoder", 2, 1, 2.5f, 0, 3, 0},
    {"JumpReluAutoEncoder", 2, 1, 3, 0, 0, 0}, /* exactly the threshold: off */
    {"JumpReluAutoEncoder", 2, 1, 0x1.7ffffep+1f, 0, 3, 0},
    {"JumpReluAutoEncoder", 2, -2, -1, 0, 0, 0}, /* below 0 a threshold leaves relu */
    {"JumpReluAutoEncoder", 2, -2.5f, -1, 0, 0, 0},
    {"JumpReluAutoEncoder", 1, 0x1p-24f, 1, 0, 0, 0}, /* fl(p + b) is the threshold, p + b is not */
    {"JumpReluAutoEncoder", NAN, 1, 5, 0, NAN, 0},
    {"JumpReluAutoEncoder", -INFINITY, 1, -1, 0, 0, 0},
    {"JumpReluAutoEncoder", INFINITY, 1, 5, 0, INFINITY, 0},
    {"IdentityDict", -0.0f, 0, 0, 0, -0.0f, 0},
    {"IdentityDict", NAN, 0, 0, 0, NAN, 0},
};

static bool same(float a, float b)
{
    return isnan(a) ? isnan(b) : sae_f32_bits(a) == sae_f32_bits(b);
}

START_TEST(unit_obeys_the_formula)
{
    const struct unit_case *c = &cases[_i];
    struct sae_dict *d = dicts_make(c->class_name, 1, 1, 1);
    float aux = 99, f, alone;

    if (sae_dict_array(d, SAE_ROLE_ENC_BIAS))
        sae_dict_array(d, SAE_ROLE_ENC_BIAS)[0] = c->a;
    if (sae_dict_array(d, SAE_ROLE_JUMP))
        sae_dict_array(d, SAE_ROLE_JUMP)[0] = c->b;
    if (sae_dict_array(d, SAE_ROLE_THRESHOLD))
        sae_dict_array(d, SAE_ROLE_THRESHOLD)[0] = c->b;
    if (sae_dict_array(d, SAE_ROLE_R_MAG)) {
        sae_dict_array(d, SAE_ROLE_R_MAG)[0] = c->a;
        sae_dict_array(d, SAE_ROLE_GATE_BIAS)[0] = c->b;
        sae_dict_array(d, SAE_ROLE_MAG_BIAS)[0] = c->c;
    }
    f = sae_ref_unit(d, 0, c->p, &aux);
    alone = sae_ref_unit(d, 0, c->p, NULL);
    ck_assert_msg(same(f, c->f), "case %d: f = %a, want %a", _i, (double)f, (double)c->f);
    ck_assert_msg(same(aux, c->aux), "case %d: aux = %a, want %a", _i, (double)aux, (double)c->aux);
    ck_assert(same(f, alone));
    sae_dict_free(d);
}
END_TEST

START_TEST(identity_is_the_identity)
{
    struct sae_dict *d = dicts_make("IdentityDict", 3, 3, 1);
    const float x[3] = {-0.0f, 0x1p-149f, INFINITY};
    float f[3], y[3];

    sae_ref_encode(d, x, f, NULL);
    sae_ref_decode(d, f, true, y);
    ck_assert_int_eq(memcmp(f, x, sizeof x), 0);
    ck_assert_int_eq(memcmp(y, x, sizeof x), 0);
    sae_dict_free(d);
}
END_TEST

START_TEST(ghost_is_exp_times_mask)
{
    struct sae_dict *d = dicts_make("AutoEncoder", 11, 7, 1);
    float *x = dicts_rows(1, 11, 2), p[7], g[7];
    const float mask[7] = {1, 0, 1, 0.5f, -1, 0, 1}, one = 2.0f;

    sae_ref_project(d, x, p);
    sae_ref_ghost(d, x, mask, 1, g);
    for (size_t j = 0; j < 7; j++)
        ck_assert_uint_eq(
            sae_f32_bits(g[j]),
            sae_f32_bits(sae_exp_f32(p[j] + sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]) * mask[j]));
    sae_ref_ghost(d, x, &one, 0, g); /* a mask of shape [..., 1] */
    for (size_t j = 0; j < 7; j++)
        ck_assert_uint_eq(
            sae_f32_bits(g[j]),
            sae_f32_bits(sae_exp_f32(p[j] + sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j]) * 2.0f));
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

/* Any class, odd sizes, against the formulae in f64. */
START_TEST(reference_is_near_the_truth)
{
    static const size_t sizes[][2] = {{1, 3}, {15, 40}, {16, 16}, {17, 90}, {129, 33}};
    const struct sae_layout *a = &sae_layouts[_i];

    for (size_t i = 0; i < SAE_COUNTOF(sizes); i++) {
        size_t n_d = sizes[i][0], n_f = a->n_keys ? sizes[i][1] : n_d, on = 0;
        struct sae_dict *d = dicts_make(a->name, n_d, n_f, i);
        float *x = dicts_rows(20, n_d, i), f[200], aux[200], y[200];
        struct tol t, u;

        for (size_t r = 0; r < 20; r++) {
            sae_ref_encode(d, x + r * n_d, f, aux);
            tol_encode(d, x + r * n_d, false, &t, &u);
            ck_assert_tol(&t, f, a->name);
            if (sae_units[a->unit].aux_name)
                ck_assert_tol(&u, aux, sae_units[a->unit].aux_name);
            tol_free(&t);
            tol_free(&u);
            for (size_t j = 0; j < n_f; j++)
                on += f[j] != 0.0f;
            sae_ref_decode(d, f, true, y);
            tol_decode(d, f, NULL, &t);
            ck_assert_tol(&t, y, "x_hat");
            tol_free(&t);
        }
        if (a->n_keys && n_f >= 16) /* dicts_make is neither all on nor all off */
            ck_assert(on > 20 * n_f / 20 && on < 20 * n_f * 3 / 4);
        sae_free(x);
        sae_dict_free(d);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ref");
    TCase *t = tcase_create("ref");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, dot_is_in_canonical_order);
    tcase_add_test(t, centre_is_subtracted_and_rounded_first);
    tcase_add_loop_test(t, decode_is_one_chain_that_skips_zeros, 0, 2);
    tcase_add_loop_test(t, unit_obeys_the_formula, 0, (int)SAE_COUNTOF(cases));
    tcase_add_test(t, identity_is_the_identity);
    tcase_add_test(t, ghost_is_exp_times_mask);
    tcase_add_loop_test(t, reference_is_near_the_truth, 0, (int)sae_n_classes);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
