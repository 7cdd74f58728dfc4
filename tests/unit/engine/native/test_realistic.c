/* test_realistic.c - rows and dictionaries like those of practice: residual streams have a few
 * dimensions hundreds of times the rest, where trained encoders are small; 20, 100 and 400 of 24576
 * features are on.
 *
 * On every instruction set the answers have the bits of ref.c and screening is really used: no row
 * is dense as a whole, and candidates are a small share of the features, stated below. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/dict/spec.h"
#include "lib/engine/native/state.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { D = 256, F = 24576, N = 8, N_L0 = 3 };

static const double l0s[N_L0] = {20, 100, 400};
static const size_t outliers[] = {17, 99, 200};
/* Candidates at most, for each active feature: of kernels with 8-bit rows, and with 7-bit rows
 * (maddubs), whose bound is wider. */
static const double most_8_bits = 2.5, most_7_bits = 3.5;

/* Encoder rows small in the outlier dimensions; thresholds for l0 active features on normal rows.
 */
static struct sae_dict *make_dict(const char *class_name, double l0)
{
    struct sae_dict *d = dicts_make(class_name, D, F, 5);
    float *bias = sae_dict_array(d, SAE_ROLE_GATE_BIAS) ? sae_dict_array(d, SAE_ROLE_GATE_BIAS)
                                                        : sae_dict_array(d, SAE_ROLE_ENC_BIAS);
    double z = sae_normal_quantile(l0 / F);

    memset(d->centre, 0, D * sizeof *d->centre);
    for (size_t j = 0; j < F; j++) {
        for (size_t i = 0; i < SAE_COUNTOF(outliers); i++)
            d->enc.f32[j * D + outliers[i]] *= 0.003f;
        bias[j] = (float)(z * sae_dict_norm(d->enc.f32 + j * D, D));
        if (sae_dict_array(d, SAE_ROLE_MAG_BIAS)) /* the gate decides */
            sae_dict_array(d, SAE_ROLE_MAG_BIAS)[j] = 0.1f;
    }
    return d;
}

/* By turns: normal; outlier dimensions at 300 and at 1000; a sum of features' directions and noise.
 */
static void fill_rows(const struct sae_dict *d, float *x)
{
    uint64_t random = 77;

    for (size_t r = 0; r < N; r++) {
        float *to = x + r * D;

        for (size_t k = 0; k < D; k++)
            to[k] = dicts_normal(&random) * (r % 4 == 3 ? 0.5f : 1.0f);
        for (size_t i = 0; i < SAE_COUNTOF(outliers) && (r % 4 == 1 || r % 4 == 2); i++)
            to[outliers[i]] = (r % 4 == 1 ? 300.0f : 1000.0f) * (1 + 0.1f * dicts_normal(&random));
        for (size_t i = 0; i < 15 && r % 4 == 3; i++) {
            const float *w = d->enc.f32 + dicts_random(&random) % F * D;

            for (size_t k = 0; k < D; k++)
                to[k] += 3 * w[k];
        }
    }
}

static double mean_active(const struct sae_dict *d, const float *x)
{
    float *f = sae_alloc(F, sizeof *f);
    size_t n = 0;

    for (size_t r = 0; r < N; r++) {
        sae_ref_encode(d, x + r * D, f, NULL);
        for (size_t j = 0; j < F; j++)
            n += f[j] != 0.0f;
    }
    sae_free(f);
    return (double)n / N;
}

static void run_and_check(const struct sae_engine *e, struct sae_dict *dict, const float *x,
                          const char *label)
{
    static const enum sae_form forms[] = {SAE_FORM_DENSE, SAE_FORM_SPARSE, SAE_FORM_TOP};
    struct sae_task t[SAE_COUNTOF(forms)];
    struct sae_scratch *s;
    struct sae_batch *b;

    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 2 * N), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 2 * N), NULL), SAE_OK);
    for (size_t i = 0; i < SAE_COUNTOF(forms); i++) {
        t[i] = (struct sae_task){.dict = dict, .n_rows = N, .x = x};
        t[i].query =
            (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true, .form = forms[i], .top_k = 32};
        ck_assert_int_eq(sae_task_prepare(&t[i], NULL), SAE_OK);
    }
    batches_run_all(b, s, dict, SAE_SIDE_ENCODE, t, SAE_COUNTOF(forms), 2 * N, 9);
    for (size_t i = 0; i < SAE_COUNTOF(forms); i++) {
        batches_check(&t[i], true, true, label);
        sae_task_fini(&t[i]);
    }
    sae_scratch_free(s);
    sae_batch_free(b);
}

START_TEST(screening_pays_on_realistic_rows)
{
    double l0 = l0s[_i % N_L0], active;
    struct sae_dict *dict = make_dict(_i < N_L0 ? "AutoEncoder" : "GatedAutoEncoder", l0);
    float *x = dicts_rows(N, D, 1);

    fill_rows(dict, x);
    active = mean_active(dict, x);
    ck_assert_msg(active > 0.6 * l0 && active < 1.6 * l0, "%g features are on, not %g", active, l0);
    batches_remember(dict, x, N);
    for (int i = 0; i < SAE_N_ISAS; i++) {
        enum sae_isa isa = (enum sae_isa)i;
        double share, most;
        struct sae_screen_stats stats;
        struct sae_engine *e;
        char label[64];

        e = batches_native(isa, dict);
        if (!e)
            continue;
        snprintf(label, sizeof label, "%s L0 %g %s", dict->layout->name, l0, sae_isa_name(isa));
        run_and_check(e, dict, x, label);
        stats = sae_engine_stats(e, dict);
        share = (double)stats.candidates / (3.0 * N * F);
        most = active / F * (sae_native_kernels_of[i].xmax < 127 ? most_7_bits : most_8_bits);
        ck_assert_uint_eq(stats.dense_rows, 0);
        ck_assert_msg(share >= active / F, "%s: fewer candidates than active features", label);
        ck_assert_msg(share <= most, "%s: %.3f %% candidates, %.3f %% active", label, 100 * share,
                      100 * active / F);
        batches_end(e, dict);
    }
    sae_free(x);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("realistic");
    TCase *t = tcase_create("realistic");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, screening_pays_on_realistic_rows, 0, N_L0 + 1);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
