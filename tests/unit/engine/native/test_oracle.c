/* test_oracle.c - a brute-force oracle at F = 100,000: the native engine's whole answer, by
 * threshold and as top k, against ref.c bit for bit, on every instruction set.
 *
 * At that size a bound that is wrong by little would leave something out: some features have their
 * threshold at a projection that occurs, one ulp below, or one above; every fiftieth equals its
 * neighbour, so that values tie, at the k-th place too; rows have outlier dimensions, heavy tails,
 * constant values, and scales of 1e-30 and 1e20. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/native/state.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { D = 64, F = 100000, N = 10, N_TOP = 3 };

static const char *const classes[] = {"AutoEncoder", "GatedAutoEncoder", "JumpAutoEncoder",
                                      "JumpReluAutoEncoder", "AutoEncoderTopK"};
static const uint64_t top_ks[N_TOP] = {1, 32, 128};

static void fill_rows(float *x, uint64_t *random)
{
    static const float scale[N] = {1, 1, 1, 1, 1, 1, 1, 1e-30f, 1e20f, 1e-3f};

    for (size_t r = 0; r < N; r++)
        for (size_t k = 0; k < D; k++) {
            float v = dicts_normal(random);

            if (r == 3) /* heavy tails */
                v *= (float)exp(1.5 * (double)dicts_normal(random));
            if (r == 4)
                v = 1.25f;
            x[r * D + k] = v * scale[r] * (r == 5 && k % 25 == 3 ? 300.0f : 1.0f) *
                           (r == 6 && k == 40 ? 1000.0f : 1.0f);
        }
}

/* The row whose projection on feature j is the largest: there the threshold is met by few others.
 */
static float largest_projection(const struct sae_dict *d, const float *x, size_t j)
{
    float best = 0;

    for (size_t r = 0; r < N; r++) {
        float c[D], p;

        for (size_t k = 0; k < D; k++)
            c[k] = d->centre ? x[r * D + k] - d->centre[k] : x[r * D + k];
        p = sae_ref_dot(c, d->enc.f32 + j * D, D);
        if (p > best && p < 100.0f) /* a row of usual size */
            best = p;
    }
    return best;
}

static void copy_feature(struct sae_dict *d, size_t to, size_t from)
{
    float *v[] = {sae_dict_array(d, SAE_ROLE_ENC_BIAS),  sae_dict_array(d, SAE_ROLE_R_MAG),
                  sae_dict_array(d, SAE_ROLE_GATE_BIAS), sae_dict_array(d, SAE_ROLE_MAG_BIAS),
                  sae_dict_array(d, SAE_ROLE_JUMP),      sae_dict_array(d, SAE_ROLE_THRESHOLD)};

    memcpy(d->enc.f32 + to * D, d->enc.f32 + from * D, D * sizeof *d->enc.f32);
    for (size_t i = 0; i < SAE_COUNTOF(v); i++)
        if (v[i])
            v[i][to] = v[i][from];
}

/* About a thousandth of the features on, on rows of usual size. */
static void set_thresholds(struct sae_dict *d, const float *x, uint64_t *random)
{
    float *bias = sae_dict_array(d, SAE_ROLE_GATE_BIAS) ? sae_dict_array(d, SAE_ROLE_GATE_BIAS)
                                                        : sae_dict_array(d, SAE_ROLE_ENC_BIAS);
    float *threshold = sae_dict_array(d, SAE_ROLE_THRESHOLD);

    for (size_t j = 0; j < F; j++) {
        float *w = d->enc.f32 + j * D;

        for (size_t k = 0; j % 11 == 2 && k < D; k++) /* heavy tails */
            w[k] *= (float)exp(1.5 * (double)dicts_normal(random));
        bias[j] = (float)(-3.1 * sae_dict_norm(w, D));
        if (j % 100 == 7) {
            float p = largest_projection(d, x, j);

            p = j % 300 == 7     ? p
                : j % 300 == 107 ? nextafterf(p, -INFINITY)
                                 : nextafterf(p, INFINITY);
            bias[j] = threshold ? 1.0f : -p;
            if (threshold) /* rounded: a few projections come to it */
                threshold[j] = p + bias[j];
        }
        if (j % 50 == 1)
            copy_feature(d, j, j - 1);
    }
}

static struct sae_task task_of(const struct sae_dict *dict, const float *x, enum sae_form form,
                               uint64_t k)
{
    struct sae_task t = {.dict = dict, .n_rows = N, .x = x};

    t.query = (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true, .form = form, .top_k = k};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    return t;
}

/* All forms in one batch; by interval only the lists of top k, the others would be dense. */
static void check_answers(struct sae_engine *e, struct sae_dict *dict, const float *x,
                          bool by_interval, const char *label)
{
    struct sae_task t[2 + N_TOP];
    struct sae_slice slices[2 + N_TOP];
    struct sae_scratch *s;
    struct sae_batch *b;
    size_t n = 0;

    if (!by_interval) {
        t[n++] = task_of(dict, x, SAE_FORM_DENSE, 0);
        t[n++] = task_of(dict, x, SAE_FORM_SPARSE, 0);
    }
    for (size_t i = 0; i < N_TOP; i++)
        t[n++] = task_of(dict, x, SAE_FORM_TOP, top_ks[i]);
    for (size_t i = 0; i < n; i++)
        slices[i] = (struct sae_slice){.task = &t[i], .n_rows = N};
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, n * N), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, n * N), NULL), SAE_OK);
    batches_run(b, s, dict, SAE_SIDE_ENCODE, slices, n);
    for (size_t i = 0; i < n; i++) {
        batches_check(&t[i], true, true, label);
        sae_task_fini(&t[i]);
    }
    sae_scratch_free(s);
    sae_batch_free(b);
}

START_TEST(the_whole_answer_at_100000_features)
{
    struct sae_dict *dict = dicts_make(classes[_i], D, F, (uint64_t)_i + 1);
    float *x = dicts_rows(N, D, 3);
    uint64_t random = 11 + (uint64_t)_i;

    fill_rows(x, &random);
    set_thresholds(dict, x, &random);
    batches_remember(dict, x, N);
    for (int i = 0; i < 2 * SAE_N_ISAS; i++) {
        enum sae_isa isa = (enum sae_isa)(i / 2);
        bool by_interval = i % 2;
        struct sae_screen_stats stats;
        struct sae_engine *e;
        char label[96];

        e = batches_native(isa, dict);
        if (!e)
            continue;
        batches_only(by_interval ? BATCHES_BY_INTERVAL : BATCHES_BY_THRESHOLD, dict);
        snprintf(label, sizeof label, "%s %s %s", classes[_i], sae_isa_name(isa),
                 by_interval ? "by interval" : "by threshold");
        check_answers(e, dict, x, by_interval, label);
        /* the row of scale 1e-30 is below the guard, and only that one is dense */
        stats = sae_engine_stats(e, dict);
        ck_assert_uint_gt(stats.candidates, 0);
        ck_assert_msg(stats.dense_rows <= (by_interval ? N_TOP : 2 + N_TOP), "%s: %llu dense rows",
                      label, (unsigned long long)stats.dense_rows);
        batches_end(e, dict);
    }
    sae_free(x);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("oracle");
    TCase *t = tcase_create("oracle");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, the_whole_answer_at_100000_features, 0, (int)SAE_COUNTOF(classes));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
