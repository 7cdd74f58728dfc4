/* test_init.c - fresh dictionaries: distributions, reproducibility, and what l0 promises. */
#include "lib/dict/ref.h"
#include "lib/dict/spec.h"
#include "lib/num.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct sae_dict *open_source(const char *source)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s: %s", source, err.text);
    return d;
}

START_TEST(quantile_is_the_inverse)
{
    static const double known[][2] = {
        {0.975, 1.959963984540054},  {0.5, 0.0},
        {0.25, -0.6744897501960817}, {0.001, -3.090232306167813},
        {1e-20, -9.262340089798408},
    };

    for (size_t i = 0; i < SAE_COUNTOF(known); i++)
        ck_assert_msg(fabs(sae_normal_quantile(known[i][0]) - known[i][1]) <= 1e-14 * 10,
                      "quantile(%g) = %.17g", known[i][0], sae_normal_quantile(known[i][0]));
    for (double p = 1e-12; p < 0.5; p *= 1.07) {
        double z = sae_normal_quantile(p), back = 0.5 * erfc(-z / sqrt(2.0));

        ck_assert_msg(fabs(back - p) <= 1e-13 * p, "quantile(%g) = %.17g, back %g", p, z, back);
        ck_assert(fabs(sae_normal_quantile(1.0 - p) + z) <= 1e-4);
    }
}
END_TEST

struct moments {
    double mean, m2, m4, min, max;
};

static struct moments moments_of(const float *v, size_t n)
{
    struct moments m = {0, 0, 0, INFINITY, -INFINITY};

    for (size_t i = 0; i < n; i++) {
        double x = (double)v[i];

        m.mean += x / (double)n;
        m.m2 += x * x / (double)n;
        m.m4 += x * x * x * x / (double)n;
        m.min = fmin(m.min, x);
        m.max = fmax(m.max, x);
    }
    return m;
}

static void is_linear(const float *v, size_t n, size_t d)
{
    double bound = 1.0 / sqrt((double)d), slack = 6.0 / sqrt((double)n);
    struct moments m = moments_of(v, n);

    ck_assert(m.max <= bound && m.min >= -bound && m.max > bound * (1.0 - slack));
    ck_assert(fabs(m.mean) < bound * slack);
    ck_assert(fabs(m.m2 / (bound * bound) - 1.0 / 3.0) < slack);
    ck_assert(fabs(m.m4 / pow(bound, 4) - 1.0 / 5.0) < slack);
}

/* A random direction in d dimensions times norm: values of variance norm^2 / d, kurtosis
 * 3 d / (d + 2), no correlation between rows or columns. */
static void is_directions(const float *v, size_t F, size_t d, double norm)
{
    struct moments m = moments_of(v, F * d);
    double n = (double)(F * d), unit = norm / sqrt((double)d), rows = 0.0, cols = 0.0;

    for (size_t j = 0; j < F; j++)
        ck_assert_double_eq_tol(sae_dict_norm(v + j * d, d), norm, 1e-6 * norm);
    ck_assert(fabs(m.mean) < 5.0 * unit / sqrt(n));
    ck_assert_double_eq_tol(m.m4 / pow(unit, 4), 3.0 * (double)d / (double)(d + 2), 30.0 / sqrt(n));
    for (size_t i = 0; i + d < F * d; i++)
        rows += (double)v[i] * (double)v[i + d];
    for (size_t i = 0; i + 1 < F * d; i++)
        cols += (double)v[i] * (double)v[i + 1];
    ck_assert(fabs(rows) < 5.0 * unit * unit * sqrt(n));
    ck_assert(fabs(cols) < 5.0 * unit * unit * sqrt(n));
}

static bool all_zero(const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sae_f32_bits(v[i]) != 0)
            return false;
    return true;
}

START_TEST(constructors_distributions)
{
    enum { D = 64, F = 1000 };
    struct sae_dict *d;

    d = open_source("init:AutoEncoder:64:1000");
    is_linear(d->enc.f32, D * F, D);
    is_linear(sae_dict_array(d, SAE_ROLE_ENC_BIAS), F, D);
    is_directions(d->dec.f32, F, D, 1.0);
    ck_assert(all_zero(d->centre, D));
    sae_dict_free(d);

    d = open_source("init:JumpAutoEncoder:64:1000:seed=9");
    is_linear(d->enc.f32, D * F, D);
    is_linear(sae_dict_array(d, SAE_ROLE_ENC_BIAS), F, D);
    is_directions(d->dec.f32, F, D, 1.0);
    ck_assert(all_zero(d->centre, D) && all_zero(sae_dict_array(d, SAE_ROLE_JUMP), F));
    sae_dict_free(d);

    d = open_source("init:GatedAutoEncoder:64:1000:seed=18446744073709551615");
    is_linear(d->enc.f32, D * F, D);
    is_directions(d->dec.f32, F, D, 1.0);
    ck_assert(all_zero(d->centre, D) && all_zero(sae_dict_array(d, SAE_ROLE_GATE_BIAS), F) &&
              all_zero(sae_dict_array(d, SAE_ROLE_MAG_BIAS), F));
    for (size_t j = 0; j < F; j++)
        ck_assert(sae_dict_array(d, SAE_ROLE_R_MAG)[j] == 1.0f);
    sae_dict_free(d);

    d = open_source("init:AutoEncoderNew:64:1000");
    is_directions(d->dec.f32, F, D, 0.1);
    ck_assert_int_eq(memcmp(d->enc.f32, d->dec.f32, D * F * sizeof(float)), 0);
    ck_assert(all_zero(sae_dict_array(d, SAE_ROLE_ENC_BIAS), F) && all_zero(d->dec_bias, D));
    ck_assert(d->centre == NULL);
    sae_dict_free(d);
}
END_TEST

static uint64_t hash_add(uint64_t h, const float *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        for (int s = 0; s < 32; s += 8)
            h = (h ^ (sae_f32_bits(v[i]) >> s & 0xff)) * 0x100000001b3u; /* FNV-1a */
    return h;
}

static uint64_t hash_of(const struct sae_dict *d)
{
    uint64_t h = 0xcbf29ce484222325u;

    h = hash_add(h, d->enc.f32, d->formula.d_in * d->formula.F);
    h = hash_add(h, d->dec.f32, d->formula.d_in * d->formula.F);
    h = hash_add(h, sae_dict_array(d, SAE_ROLE_ENC_BIAS), d->formula.F);
    h = hash_add(h, sae_dict_array(d, SAE_ROLE_GATE_BIAS), d->formula.F);
    h = hash_add(h, sae_dict_array(d, SAE_ROLE_MAG_BIAS), d->formula.F);
    return hash_add(h, d->dec_norm, d->formula.F);
}

/* The same bits on every machine and for ever: these numbers never change. */
static const struct {
    const char *source;
    uint64_t hash;
} pinned[] = {
    {"init:AutoEncoder:16:48", 0x6608c9e2397c5bfb},
    {"init:AutoEncoder:16:48:seed=1", 0x1f7ebb31ef34f380},
    {"init:GatedAutoEncoder:33:70:seed=5:l0=3.5", 0xf910c13c0673c7ee},
    {"init:GatedAutoEncoder:33:70:l0=60", 0x9b5d20fb23bc215d},
    {"init:JumpAutoEncoder:7:5:l0=2", 0x49a8fa1f73972601},
    {"init:AutoEncoderNew:100:300:seed=18446744073709551615:l0=10", 0xc8e5487965abd58d},
    {"init:AutoEncoder:1:1", 0xb5be12eef06f0b3c},
};

START_TEST(same_bits_everywhere)
{
    struct sae_dict *d = open_source(pinned[_i].source);

    ck_assert_msg(hash_of(d) == pinned[_i].hash, "%s: hash 0x%016llx", pinned[_i].source,
                  (unsigned long long)hash_of(d));
    sae_dict_free(d);
}
END_TEST

START_TEST(rows_have_streams_of_their_own)
{
    struct sae_dict *a = open_source("init:AutoEncoder:13:20:seed=4");
    struct sae_dict *b = open_source("init:AutoEncoder:13:31:seed=4");
    struct sae_dict *c = open_source("init:AutoEncoder:13:20:seed=5");
    struct sae_dict *zero = open_source("init:AutoEncoder:13:20:seed=0");
    struct sae_dict *none = open_source("init:AutoEncoder:13:20");

    ck_assert_int_eq(memcmp(a->enc.f32, b->enc.f32, 13 * 20 * sizeof(float)), 0);
    ck_assert_int_eq(memcmp(a->dec.f32, b->dec.f32, 13 * 20 * sizeof(float)), 0);
    for (size_t i = 0; i < 13 * 20; i++)
        ck_assert(a->enc.f32[i] != c->enc.f32[i] && a->dec.f32[i] != c->dec.f32[i]);
    ck_assert_int_eq(hash_of(zero) == hash_of(none), 1);
    sae_dict_free(a);
    sae_dict_free(b);
    sae_dict_free(c);
    sae_dict_free(zero);
    sae_dict_free(none);
}
END_TEST

static const char *const classes[] = {"AutoEncoder", "GatedAutoEncoder", "JumpAutoEncoder",
                                      "AutoEncoderNew", "JumpReluAutoEncoder"};
static const double shares[] = {0.02, 0.1, 0.5, 0.8, 1.0};

static double measure_l0(const struct sae_dict *d, size_t n_rows)
{
    float *x = dicts_rows(n_rows, d->formula.d_in, 77), *f = sae_alloc(d->formula.F, sizeof *f);
    size_t on = 0;

    ck_assert_ptr_nonnull(f);
    for (size_t r = 0; r < n_rows; r++) {
        sae_ref_encode(d, x + r * d->formula.d_in, f, NULL);
        for (size_t j = 0; j < d->formula.F; j++)
            on += f[j] != 0.0f;
    }
    sae_free(x);
    sae_free(f);
    return (double)on / (double)n_rows;
}

/* 2000 rows of a dictionary with F = 120: the deviation of the mean is about 1 % at L0 = 2.4. */
START_TEST(l0_is_met)
{
    const char *class_name = classes[_i / (int)SAE_COUNTOF(shares)];
    double want = 120.0 * shares[_i % (int)SAE_COUNTOF(shares)], got;
    char source[100];
    struct sae_dict *d;

    snprintf(source, sizeof source, "init:%s:40:120:seed=2:l0=%.1f", class_name, want);
    d = open_source(source);
    got = measure_l0(d, 2000);
    ck_assert_msg(fabs(got - want) <= 0.04 * want, "%s: mean L0 %.3f, want %.3f", source, got,
                  want);
    if (want >= 120.0)
        ck_assert(got == 120.0);
    sae_dict_free(d);
}
END_TEST

START_TEST(without_l0_about_half_is_on)
{
    char source[100];

    snprintf(source, sizeof source, "init:%s:40:120", classes[_i]);
    struct sae_dict *d = open_source(source);
    double got = measure_l0(d, 300);

    ck_assert_msg(got > 50.0 && got < 70.0, "%s: mean L0 %.3f", source, got);
    sae_dict_free(d);
}
END_TEST

/* Every allocation fails once: an error, nothing leaked (sanitizers see), *out untouched. */
START_TEST(out_of_memory_is_an_error)
{
    static const char *const sources[] = {"init:GatedAutoEncoder:5:6:l0=2", "identity:4"};
    struct sae_dict *d = NULL;
    int failures = 0;

    for (long n = 0; d == NULL; n++) {
        struct sae_err err = {0};
        enum sae_status st;

        sae_alloc_fault(n, false);
        st = dicts_load(&d, sources[_i], NULL, &err);
        sae_alloc_fault(-1, false);
        ck_assert_int_eq(st == SAE_OK, d != NULL);
        if (st != SAE_OK) {
            ck_assert_int_eq(st, SAE_E_NOMEM);
            ck_assert(strncmp(err.text, "cannot ", 7) == 0);
            failures++;
        }
        ck_assert_int_lt(n, 50);
    }
    ck_assert_int_ge(failures, 1);
    sae_dict_free(d);
}
END_TEST

START_TEST(too_large_is_out_of_memory)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(dicts_load(&d, "init:AutoEncoder:2147483647:2147483647", NULL, &err),
                     SAE_E_NOMEM);
    ck_assert_ptr_nonnull(strstr(err.text, "2147483647 x 2147483647"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("init");
    TCase *t = tcase_create("init");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_test(t, quantile_is_the_inverse);
    tcase_add_test(t, constructors_distributions);
    tcase_add_loop_test(t, same_bits_everywhere, 0, (int)SAE_COUNTOF(pinned));
    tcase_add_test(t, rows_have_streams_of_their_own);
    tcase_add_loop_test(t, l0_is_met, 0, (int)(SAE_COUNTOF(classes) * SAE_COUNTOF(shares)));
    tcase_add_loop_test(t, without_l0_about_half_is_on, 0, (int)SAE_COUNTOF(classes));
    tcase_add_loop_test(t, out_of_memory_is_an_error, 0, 2);
    tcase_add_test(t, too_large_is_out_of_memory);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
