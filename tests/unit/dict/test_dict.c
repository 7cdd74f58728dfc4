/* test_dict.c - the table of layouts, the memory of a dictionary, and what sealing computes. */
#include "lib/dict/dict.h"
#include "lib/num.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Spec section 1, table of options. */
#define BASE (SAE_OPT_SPARSE | SAE_OPT_TOP_K | SAE_OPT_FEATURES | SAE_OPT_OUTPUT_FEATURES)
static const struct {
    const char *name;
    unsigned options;
    const char *aux;
    bool scales;
    const char *keys; /* sorted as the file's would be read: name and shape */
} table[] = {
    {"AutoEncoder", BASE | SAE_OPT_GHOST_MASK, NULL, false,
     "bias[d] encoder.weight[F,d] encoder.bias[F] decoder.weight[d,F]"},
    {"IdentityDict", BASE | SAE_OPT_GHOST_MASK | SAE_OPT_GHOST_UNREAD, NULL, false, ""},
    {"GatedAutoEncoder", BASE | SAE_OPT_RETURN_GATE, "gate", true,
     "decoder_bias[d] encoder.weight[F,d] r_mag[F] gate_bias[F] mag_bias[F] decoder.weight[d,F]"},
    {"JumpAutoEncoder", BASE | SAE_OPT_OUTPUT_PRE_JUMP, "pre_jump", false,
     "bias[d] encoder.weight[F,d] encoder.bias[F] jump[F] decoder.weight[d,F]"},
    {"AutoEncoderNew", BASE, NULL, true,
     "encoder.weight[F,d] encoder.bias[F] decoder.weight[d,F] decoder.bias[d]"},
    {"JumpReluAutoEncoder", BASE, NULL, false,
     "W_enc[d,F] b_enc[F] W_dec[F,d] b_dec[d] threshold[F]"},
    {"AutoEncoderTopK", BASE, NULL, false,
     "encoder.weight[F,d] encoder.bias[F] decoder.weight[d,F] b_dec[d] k[] threshold[]"},
};

START_TEST(table_is_the_specs)
{
    const struct sae_layout *a = sae_layout_by_name(table[_i].name);
    struct sae_dict_info info = {.bytes = 0};
    struct sae_formula f;
    char keys[300] = "";

    ck_assert_ptr_nonnull(a);
    f = sae_layout_formula(a, 7, 33);
    sae_dict_describe(&info, a, &f, NULL);
    for (unsigned k = 0; k < a->n_keys; k++) {
        if (k)
            strcat(keys, " ");
        strcat(strcat(strcat(strcat(keys, a->keys[k].name), "["), a->keys[k].dims), "]");
    }
    ck_assert_str_eq(keys, table[_i].keys);
    ck_assert_uint_eq(info.options, table[_i].options);
    ck_assert_int_eq(a->scales_forward_f, table[_i].scales);
    ck_assert_int_eq(sae_units[a->unit].aux_name == NULL, table[_i].aux == NULL);
    if (sae_units[a->unit].aux_name)
        ck_assert_str_eq(sae_units[a->unit].aux_name, table[_i].aux);
    ck_assert_uint_eq(sae_n_classes, SAE_COUNTOF(table));
    ck_assert_ptr_null(sae_layout_by_name("TopK"));
}
END_TEST

START_TEST(arrays_are_zero_aligned_and_padded)
{
    const struct sae_layout *a = &sae_layouts[_i];
    struct sae_dict *d = NULL;
    uint64_t bytes = 0;

    ck_assert_int_eq(sae_dict_create(&d, a, 7, a->n_keys ? 13 : 7, NULL), SAE_OK);
    for (unsigned k = 0; k < a->n_keys; k++) {
        const float *v = sae_dict_array(d, a->keys[k].role);

        ck_assert_int_eq(v != NULL, sae_layout_is_kept(&a->keys[k]));
        if (!v)
            continue;
        size_t n = sae_layout_is_matrix(&a->keys[k]) ? 91 : a->keys[k].dims[0] == 'F' ? 13 : 7;

        ck_assert_uint_eq((uintptr_t)v % 64, 0);
        for (size_t i = 0; i < n + SAE_OVERREAD / sizeof(float); i++)
            ck_assert_uint_eq(sae_f32_bits(v[i]), 0);
        bytes += 4 * n;
    }
    ck_assert_uint_eq(d->info.bytes, bytes);
    ck_assert_int_eq(d->dec_norm != NULL, a->n_keys > 0);
    if (d->centre)
        ck_assert_ptr_eq(d->dec_bias, d->centre);
    sae_dict_free(d);
    sae_dict_free(NULL);
}
END_TEST

/* A row with keys that a file may lack: an array for the optional, none for the ignored. */
START_TEST(need_tells_what_memory_is_for)
{
    static const struct sae_layout row = {
        .name = "Row",
        .unit = SAE_UNIT_RELU,
        .keys = {{"w", SAE_ROLE_ENCODER, "d,F", SAE_KEY_REQUIRED},
                 {"v", SAE_ROLE_DECODER, "F,d", SAE_KEY_REQUIRED},
                 {"b", SAE_ROLE_ENC_BIAS, "F", SAE_KEY_OPTIONAL},
                 {"c", SAE_ROLE_CENTRE, "d", SAE_KEY_IGNORED}},
        .n_keys = 4,
    };
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_dict_create(&d, &row, 2, 3, NULL), SAE_OK);
    ck_assert_uint_eq(d->info.bytes, 4 * (6 + 6 + 3));
    ck_assert_ptr_null(d->centre);
    ck_assert_ptr_nonnull(sae_dict_array(d, SAE_ROLE_ENC_BIAS));
    ck_assert(sae_layout_is_turned(&row.keys[0]) && !sae_layout_is_turned(&row.keys[1]));
    ck_assert(!sae_layout_is_turned(&row.keys[3]));
    d->dec.f32[3] = NAN;
    ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, &err), SAE_E_WEIGHTS);
    ck_assert_str_eq(err.text, "cannot use v: row 1 holds a value that is not finite");
    sae_dict_free(d);
}
END_TEST

START_TEST(sizes_are_checked)
{
    static const uint64_t sizes[][2] = {{0, 1},
                                        {1, 0},
                                        {(uint64_t)1 << 31, 1},
                                        {1, (uint64_t)1 << 31},
                                        {UINT64_MAX, UINT64_MAX},
                                        {INT32_MAX, INT32_MAX}};
    struct sae_dict *d = NULL;

    for (size_t i = 0; i < SAE_COUNTOF(sizes); i++) {
        struct sae_err err = {0};

        ck_assert_int_eq(sae_dict_create(&d, &sae_layouts[0], sizes[i][0], sizes[i][1], &err),
                         SAE_E_NOMEM);
        ck_assert_ptr_null(d);
    }
}
END_TEST

/* What cannot be computed is refused before memory is taken. */
START_TEST(formulae_are_checked)
{
    static const struct {
        struct sae_formula f;
        const char *says;
    } wrong[] = {
        {{.input = SAE_SCALING_CONSTANT, .input_scale = 0.0f}, "not a finite number above 0"},
        {{.output = SAE_SCALING_CONSTANT, .output_scale = INFINITY}, "not a finite number above 0"},
        {{.top_k = 8}, "k is 8, above dict_size, 7"},
        {{.top_k = 2, .unit = SAE_UNIT_JUMP}, "jump features are not selected by size"},
        {{.output = SAE_SCALING_RMS}, "undoes what its input does not do"},
        {{.score = SAE_SCORE_DECODER_NORM, .unit = SAE_UNIT_GATED},
         "gated features are not scored"},
        {{.d_out = 3, .has_centre = true, .adds_centre = true}, "is not its bias"},
    };
    struct sae_formula f = wrong[_i].f;
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    f.d_in = 5;
    f.d_out = f.d_out ? f.d_out : 5;
    f.F = 7;
    f.unit = f.unit ? f.unit : SAE_UNIT_RELU;
    ck_assert_int_eq(sae_dict_create_as(&d, &sae_layouts[0], &f, NULL, &err), SAE_E_WEIGHTS);
    ck_assert_msg(strstr(err.text, wrong[_i].says) != NULL, "%s", err.text);
    ck_assert_ptr_null(d);
}
END_TEST

/* A formula of parts: the centre and the decoder's bias are two vectors. */
START_TEST(arrays_are_the_formulas)
{
    const struct sae_formula f = {.d_in = 5,
                                  .d_out = 5,
                                  .F = 7,
                                  .unit = SAE_UNIT_THRESHOLD,
                                  .has_centre = true,
                                  .has_dec_bias = true};
    static const enum sae_role roles[] = {SAE_ROLE_ENCODER,  SAE_ROLE_DECODER,  SAE_ROLE_CENTRE,
                                          SAE_ROLE_DEC_BIAS, SAE_ROLE_ENC_BIAS, SAE_ROLE_THRESHOLD};
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_dict_create_as(&d, &sae_layouts[0], &f, NULL, NULL), SAE_OK);
    for (size_t i = 0; i < SAE_COUNTOF(roles); i++)
        ck_assert_ptr_nonnull(sae_dict_array(d, roles[i]));
    ck_assert_ptr_null(sae_dict_array(d, SAE_ROLE_SKIP));
    ck_assert_ptr_null(sae_dict_array(d, SAE_ROLE_JUMP));
    ck_assert_ptr_ne(d->centre, d->dec_bias);
    ck_assert_uint_eq(d->info.bytes, 4 * (35 + 35 + 5 + 5 + 7 + 7));
    d->dec_bias[2] = NAN; /* the layout has no key of this role */
    ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, &err), SAE_E_WEIGHTS);
    ck_assert_str_eq(err.text, "cannot use b_dec: value 2 is nan, wanted finite numbers");
    sae_dict_free(d);
}
END_TEST

/* Of an encoder alone the filler brings the norms, where a score wants them. */
START_TEST(an_encoder_alone_has_no_decoder)
{
    struct sae_formula f = {.d_in = 5,
                            .F = 7,
                            .unit = SAE_UNIT_RELU,
                            .has_dec_bias = true,
                            .has_skip = true,
                            .encodes_only = true};
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    for (int scored = 0; scored < 2; scored++) {
        f.score = scored ? SAE_SCORE_DECODER_NORM : SAE_SCORE_VALUE;
        ck_assert_int_eq(sae_dict_create_as(&d, &sae_layouts[0], &f, NULL, NULL), SAE_OK);
        ck_assert(d->enc.f32 && !d->dec.f32 && !d->dec_bias && !d->skip &&
                  (d->dec_norm != NULL) == scored);
        ck_assert_uint_eq(d->info.bytes, 4 * (35 + 7));
        ck_assert_uint_eq(d->info.output_dim, 0);
        for (size_t j = 0; scored && j < 7; j++)
            d->dec_norm[j] = (float)j;
        ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, NULL), SAE_OK);
        ck_assert(d->info.norm_max == (scored ? 6.0f : 1.0f));
        if (scored) {
            d->dec_norm[3] = INFINITY;
            ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, &err), SAE_E_WEIGHTS);
            ck_assert_ptr_nonnull(strstr(err.text, "feature 3, by which it is scored, is inf"));
        }
        sae_dict_free(d);
    }
}
END_TEST

static struct sae_dict *unsealed(const char *class_name, size_t n_d, size_t n_f)
{
    struct sae_dict *d = NULL;

    ck_assert_int_eq(sae_dict_create(&d, sae_layout_by_name(class_name), n_d, n_f, NULL), SAE_OK);
    return d;
}

START_TEST(norms_are_in_double_and_their_median_is_the_middle)
{
    static const float rows[][4] = {
        {3, 4, 0, 0}, {0, 0, 0, 0}, {1e30f, 1e30f, 0, 0}, {0x1p-140f, 0, 0, 0}, {1, 1, 1, 1}};
    struct sae_dict *d = unsealed("AutoEncoderNew", 4, 5), *even = unsealed("AutoEncoderNew", 4, 2);

    memcpy(d->dec.f32, rows, sizeof rows);
    ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, NULL), SAE_OK);
    ck_assert(d->dec_norm[0] == 5.0f && d->dec_norm[1] == 0.0f && d->dec_norm[4] == 2.0f);
    ck_assert(d->dec_norm[2] == (float)(sqrt(2.0) * (double)1e30f));
    ck_assert(d->dec_norm[3] == 0x1p-140f);
    ck_assert(d->info.norm_min == 0.0f && d->info.norm_median == 2.0f);
    ck_assert(d->info.norm_max == d->dec_norm[2]);
    memcpy(even->dec.f32, rows, 2 * sizeof rows[0]);
    ck_assert_int_eq(sae_dict_seal(even, "float32", NULL, NULL), SAE_OK);
    ck_assert(even->info.norm_median == 2.5f);
    sae_dict_free(d);
    sae_dict_free(even);
}
END_TEST

START_TEST(notes_beyond_the_last_are_told)
{
    struct sae_dict_info info = {.n_notes = 0};

    for (int i = 0; i < SAE_MAX_NOTES; i++)
        sae_dict_add_note(&info, "note\n%d", i);
    ck_assert_str_eq(info.notes[SAE_MAX_NOTES - 1], "note?19");
    for (int i = 0; i < 3; i++)
        sae_dict_add_note(&info, "one more");
    ck_assert_uint_eq(info.n_notes, SAE_MAX_NOTES);
    ck_assert_str_eq(info.notes[SAE_MAX_NOTES - 2], "note?18");
    ck_assert_ptr_nonnull(strstr(info.notes[SAE_MAX_NOTES - 1], "more to be noted"));
}
END_TEST

START_TEST(every_length_of_row_is_summed_whole)
{
    float v[40];

    for (size_t n = 1; n <= 40; n++) {
        for (size_t i = 0; i < n; i++)
            v[i] = 1.0f;
        ck_assert(sae_dict_norm(v, n) == sqrt((double)n));
    }
}
END_TEST

/* NaN, infinity in any vector or the decoder; exp(r_mag) beyond f32. */
START_TEST(values_are_checked)
{
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    const struct sae_layout *a = &sae_layouts[_i];

    for (unsigned k = 0; k < a->n_keys; k++)
        for (size_t w = 0; w < 3; w++) {
            struct sae_dict *d = unsealed(a->name, 3, 5);
            struct sae_err err = {0};

            if (a->keys[k].role == SAE_ROLE_ENCODER ||
                !sae_layout_is_kept(&a->keys[k])) { /* the filler's word: see dict.h */
                sae_dict_free(d);
                continue;
            }
            sae_dict_array(d, a->keys[k].role)[2] = wrong[w];
            ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, &err), SAE_E_WEIGHTS);
            ck_assert_str_eq(err.where, a->keys[k].name);
            ck_assert_ptr_nonnull(strstr(err.text, a->keys[k].name));
            sae_dict_free(d);
        }
}
END_TEST

START_TEST(r_is_exp_of_r_mag)
{
    struct sae_dict *d = unsealed("GatedAutoEncoder", 1, 4);
    const float r_mag[4] = {0.0f, 88.72f, -200.0f, 0.5f};

    memcpy(sae_dict_array(d, SAE_ROLE_R_MAG), r_mag, sizeof r_mag);
    ck_assert_int_eq(sae_dict_seal(d, "float16", NULL, NULL), SAE_OK);
    ck_assert(sae_dict_array(d, SAE_ROLE_R_MAG)[0] == 1.0f &&
              sae_dict_array(d, SAE_ROLE_R_MAG)[2] == 0.0f);
    for (size_t j = 0; j < 4; j++)
        ck_assert(sae_dict_array(d, SAE_ROLE_R_MAG)[j] == sae_exp_f32(r_mag[j]));
    ck_assert_str_eq(d->info.dtype, "float16");
    ck_assert_str_eq(sae_dict_info(d)->aux_name, "gate");
    sae_dict_free(d);
    d = unsealed("GatedAutoEncoder", 1, 4);
    sae_dict_array(d, SAE_ROLE_R_MAG)[3] = 88.73f;
    ck_assert_int_eq(sae_dict_seal(d, "float32", NULL, NULL), SAE_E_WEIGHTS);
    sae_dict_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dict");
    TCase *t = tcase_create("dict");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, table_is_the_specs, 0, (int)SAE_COUNTOF(table));
    tcase_add_loop_test(t, arrays_are_zero_aligned_and_padded, 0, (int)sae_n_classes);
    tcase_add_test(t, need_tells_what_memory_is_for);
    tcase_add_test(t, sizes_are_checked);
    tcase_add_loop_test(t, formulae_are_checked, 0, 7);
    tcase_add_test(t, arrays_are_the_formulas);
    tcase_add_test(t, an_encoder_alone_has_no_decoder);
    tcase_add_test(t, norms_are_in_double_and_their_median_is_the_middle);
    tcase_add_test(t, notes_beyond_the_last_are_told);
    tcase_add_test(t, every_length_of_row_is_summed_whole);
    tcase_add_loop_test(t, values_are_checked, 0, (int)sae_n_classes);
    tcase_add_test(t, r_is_exp_of_r_mag);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
