/* test_weights.c - the weights of a dictionary as they are in use, against its arrays and against
 * what it computes: f times the rows of the decoder is x_hat. */
#include "lib/dict/dict.h"
#include "lib/dict/ref.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <string.h>

enum { D = 5, F = 7 };

static const struct sae_formula formulas[] = {
    {.d_in = D, .d_out = D, .F = F, .unit = SAE_UNIT_RELU, .has_centre = true, .adds_centre = true},
    {.d_in = D,
     .d_out = D,
     .F = F,
     .unit = SAE_UNIT_GATED,
     .has_centre = true,
     .adds_centre = true},
    {.d_in = D, .d_out = D, .F = F, .unit = SAE_UNIT_JUMP, .has_dec_bias = true},
    {.d_in = D,
     .d_out = 3,
     .F = F,
     .unit = SAE_UNIT_THRESHOLD,
     .has_dec_bias = true,
     .has_skip = true},
    {.d_in = D,
     .d_out = D,
     .F = F,
     .unit = SAE_UNIT_RELU,
     .has_dec_bias = true,
     .top_k = 3,
     .score = SAE_SCORE_DECODER_NORM},
    {.d_in = D,
     .d_out = D,
     .F = F,
     .unit = SAE_UNIT_RELU,
     .has_dec_bias = true,
     .top_k = 3,
     .score = SAE_SCORE_DECODER_NORM_FOLDED},
    {.d_in = D,
     .d_out = D,
     .F = F,
     .unit = SAE_UNIT_LINEAR,
     .has_dec_bias = true,
     .input = SAE_SCALING_RMS},
    {.d_in = D,
     .d_out = D,
     .F = F,
     .unit = SAE_UNIT_RELU,
     .input = SAE_SCALING_LAYER,
     .output = SAE_SCALING_LAYER},
    {.d_in = D, .F = F, .unit = SAE_UNIT_LINEAR, .encodes_only = true},
};

static struct sae_dict *make(int i)
{
    return dicts_make_as(&formulas[i], 11 + (uint64_t)i);
}

static size_t rows_of(const struct sae_dict *d, enum sae_weight part)
{
    return sae_dict_weight(d, part).n_rows;
}

/* All of a part; owned. */
static float *all_of(const struct sae_dict *d, enum sae_weight part)
{
    const struct sae_weight_look look = sae_dict_weight(d, part);
    float *v = sae_alloc(look.n_rows * look.width, sizeof *v);

    ck_assert_ptr_nonnull(v);
    ck_assert_int_eq(look.state, SAE_WEIGHT_IS_THERE);
    sae_dict_weight_rows(d, part, NULL, look.n_rows, v);
    return v;
}

START_TEST(f_times_the_decoder_is_x_hat)
{
    struct sae_dict *d = make(_i);
    const struct sae_formula *f = &d->formula;
    const size_t m = f->d_out;
    float *x = dicts_rows(20, f->d_in, 3), features[F], aux[F], want[D], *decoder, *b_dec, *skip;

    if (f->encodes_only || sae_scaling_n_state(f->output)) {
        sae_free(x);
        sae_dict_free(d);
        return;
    }
    decoder = all_of(d, SAE_WEIGHT_DECODER);
    b_dec = all_of(d, SAE_WEIGHT_B_DEC);
    skip = f->has_skip ? all_of(d, SAE_WEIGHT_SKIP) : NULL;
    for (size_t r = 0; r < 20; r++) {
        const float *row = x + r * f->d_in;

        sae_ref_encode(d, row, features, aux);
        sae_ref_decode(d, features, true, want);
        sae_ref_output(d, row, NULL, want);
        for (size_t k = 0; k < m; k++) {
            double sum = (double)b_dec[k];

            for (size_t j = 0; j < F; j++)
                sum += (double)features[j] * (double)decoder[j * m + k];
            for (size_t i = 0; skip && i < f->d_in; i++)
                sum += (double)row[i] * (double)skip[k * f->d_in + i];
            ck_assert_msg(fabs(sum - (double)want[k]) < 1e-4, "%zu, %zu: %g, not %g", r, k, sum,
                          (double)want[k]);
        }
    }
    sae_free(decoder);
    sae_free(b_dec);
    sae_free(skip);
    sae_free(x);
    sae_dict_free(d);
}
END_TEST

START_TEST(rows_are_the_matrices_own)
{
    static const uint32_t ids[] = {6, 0, 3, 3};
    static const enum sae_dtype kept[] = {SAE_DTYPE_F32, SAE_DTYPE_F16, SAE_DTYPE_BF16};
    const struct sae_storage storage = {kept[_i], kept[_i], false};
    struct sae_dict *d = dicts_make("GatedAutoEncoder", D, F, 5);
    float rows[4][D];

    if (kept[_i] != SAE_DTYPE_F32)
        d = dicts_kept_take(d, &storage);
    for (int part = 0; part < SAE_N_ROW_WEIGHTS; part++) {
        const struct sae_matrix *m = part == SAE_WEIGHT_DECODER ? &d->dec : &d->enc;

        sae_dict_weight_rows(d, (enum sae_weight)part, ids, 4, rows[0]);
        for (size_t i = 0; i < 4; i++)
            for (size_t k = 0; k < D; k++) {
                float want = sae_matrix_value(m, ids[i], k);

                ck_assert_int_eq(memcmp(&rows[i][k], &want, sizeof want), 0);
            }
    }
    sae_dict_free(d);
}
END_TEST

START_TEST(folded_rows_are_divided_once)
{
    const struct sae_formula f = formulas[5];
    struct sae_dict *d = dicts_make_as(&f, 2);
    float *rows;

    d->dec_norm[2] = 0.0f; /* never on: what stands there is not looked at */
    rows = all_of(d, SAE_WEIGHT_DECODER);
    for (size_t j = 0; j < F; j++)
        for (size_t k = 0; k < D; k++) {
            float want = j == 2 ? 0.0f : sae_matrix_value(&d->dec, j, k) / d->dec_norm[j];

            ck_assert_int_eq(memcmp(&rows[j * D + k], &want, sizeof want), 0);
        }
    sae_free(rows);
    sae_dict_free(d);
}
END_TEST

/* By formula: what it has (t), has not (n), and what goes with a decoder that is not there (u), in
 * the order of the table. */
START_TEST(each_reading_has_its_own)
{
    static const char *const has[] = {
        "tttt"
        "nnnnn"
        "tn"
        "tn",
        "tttn"
        "tttnn"
        "tn"
        "tn",
        "tttt"
        "nnnnt"
        "tn"
        "nn",
        "tttt"
        "nnntn"
        "tn"
        "nt",
        "tttt"
        "nnnnn"
        "tn"
        "nn",
        "tttt"
        "nnnnn"
        "tn"
        "nn",
        "tttt"
        "nnnnn"
        "tn"
        "nn",
        "tttt"
        "nnnnn"
        "tn"
        "nn",
        "utut"
        "nnnnn"
        "un"
        "nn",
    };
    struct sae_dict *d = make(_i);

    for (int part = 0; part < SAE_N_WEIGHTS; part++) {
        static const char letters[] = {
            [SAE_WEIGHT_IS_THERE] = 't', [SAE_WEIGHT_IS_NONE] = 'n', [SAE_WEIGHT_IS_UNREAD] = 'u'};
        const struct sae_weight_look look = sae_dict_weight(d, (enum sae_weight)part);

        ck_assert_msg(letters[look.state] == has[_i][part], "formula %d, part %d: %c", _i, part,
                      letters[look.state]);
        if (look.state == SAE_WEIGHT_IS_THERE && part >= SAE_N_ROW_WEIGHTS)
            sae_free(all_of(d, (enum sae_weight)part));
    }
    sae_dict_free(d);
}
END_TEST

START_TEST(vectors_are_those_of_the_unit)
{
    static const struct {
        int formula;
        enum sae_weight part;
        enum sae_role role;
    } cases[] = {
        {0, SAE_WEIGHT_B_ENC, SAE_ROLE_ENC_BIAS},    {0, SAE_WEIGHT_CENTRE, SAE_ROLE_CENTRE},
        {1, SAE_WEIGHT_R, SAE_ROLE_R_MAG},           {1, SAE_WEIGHT_GATE_BIAS, SAE_ROLE_GATE_BIAS},
        {1, SAE_WEIGHT_MAG_BIAS, SAE_ROLE_MAG_BIAS}, {2, SAE_WEIGHT_JUMP, SAE_ROLE_JUMP},
        {2, SAE_WEIGHT_B_DEC, SAE_ROLE_DEC_BIAS},    {3, SAE_WEIGHT_THRESHOLD, SAE_ROLE_THRESHOLD},
        {3, SAE_WEIGHT_SKIP, SAE_ROLE_SKIP},
    };
    struct sae_dict *d = make(cases[_i].formula);
    const struct sae_weight_look look = sae_dict_weight(d, cases[_i].part);
    float *v = all_of(d, cases[_i].part);

    ck_assert_int_eq(
        memcmp(v, sae_dict_array(d, cases[_i].role), look.n_rows * look.width * sizeof *v), 0);
    ck_assert_int_eq(look.is_vector, cases[_i].part != SAE_WEIGHT_SKIP);
    sae_free(v);
    sae_dict_free(d);
}
END_TEST

START_TEST(identity_has_unit_rows_and_norms)
{
    struct sae_dict *d = dicts_make("IdentityDict", 4, 4, 1);

    for (int part = 0; part < SAE_N_ROW_WEIGHTS; part++) {
        float *v = all_of(d, (enum sae_weight)part);

        for (size_t i = 0; i < 16; i++)
            ck_assert_float_eq(v[i], i % 5 == 0 ? 1.0f : 0.0f);
        sae_free(v);
    }
    float *norms = all_of(d, SAE_WEIGHT_NORMS);

    for (size_t j = 0; j < 4; j++)
        ck_assert_float_eq(norms[j], 1.0f);
    ck_assert_uint_eq(rows_of(d, SAE_WEIGHT_NORMS), 1);
    ck_assert_int_eq(sae_dict_weight(d, SAE_WEIGHT_B_DEC).state, SAE_WEIGHT_IS_NONE);
    ck_assert_int_eq(sae_dict_weight(d, SAE_WEIGHT_B_ENC).state, SAE_WEIGHT_IS_NONE);
    sae_free(norms);
    sae_dict_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("weights");
    TCase *t = tcase_create("weights");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, f_times_the_decoder_is_x_hat, 0, SAE_COUNTOF(formulas));
    tcase_add_loop_test(t, rows_are_the_matrices_own, 0, 3);
    tcase_add_test(t, folded_rows_are_divided_once);
    tcase_add_loop_test(t, each_reading_has_its_own, 0, SAE_COUNTOF(formulas));
    tcase_add_loop_test(t, vectors_are_those_of_the_unit, 0, 9);
    tcase_add_test(t, identity_has_unit_rows_and_norms);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
