/* test_cases.c - checkpoints of one dictionary in the forms that people save: tests/golden/cases.
 *
 * All are the dictionary of plain.pt and must give its bits; what the file did not say by itself
 * is noted. ckpt_* came from outside, the others are make_pt.py's. */
#include "lib/dict/dict.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

/* Of each AutoEncoder, behind what is said of the file. */
#define OF_THE_CLASS                                                                        \
    "dictionary_learning's from_pretrained normalises the decoder unless told not to: its " \
    "features are these times the decoder norm (normalize_decoder=unit)"

static const struct {
    const char *path;
    const char *notes[SAE_MAX_NOTES];
} cases[] = {
    {"plain.pt", {NULL}},
    {"ckpt_tutorial.pt", {"read from the entry \"model_state_dict\""}},
    {"ckpt_enum.pt", {"read from the entry \"state_dict\""}},
    {"ckpt_bytes_p3.pt", {"read from the entry \"state_dict\""}},
    {"ckpt_hugeint.pt", {"read from the entry \"state_dict\""}},
    {"lightning.pt",
     {"read from the entry \"state_dict\"", "the prefix \"sae.\" was taken off every key"}},
    {"unscaled.pt", {"read from the entry \"sae_state\""}},
    {"under_int.pt", {"read from the entry \"5\""}},
    {"under_int.pt:prefix=5.", {NULL}},
    /* what is stated needs no note */
    {"nested.pt:prefix=model.sae.", {NULL}},
    {"flat.pt:prefix=ae.", {NULL}},
    {"two.pt:prefix=a.:format=custom:encoder=encoder.weight:decoder=decoder.weight:enc_bias="
     "encoder."
     "bias:dec_bias=bias:centre=bias:activation=relu",
     {NULL}},
    {"two.pt:prefix=a.", {NULL}},
    {"ckpt_tutorial.pt:prefix=model_state_dict.", {NULL}},
    {"lightning.pt:prefix=state_dict.", {"the prefix \"sae.\" was taken off every key"}},
    {"unscaled.pt:prefix=sae_state.", {NULL}},
    {"on_way_mean.pt:prefix=model.sae.:format=custom:encoder=encoder.weight:decoder=decoder.weight:"
     "enc_bias=encoder.bias:dec_bias=bias:centre=bias+model.act_mean:activation=relu",
     {NULL}},
    {"on_way_k.pt:prefix=runs.last.sae.:k=none", {NULL}},
    {"module_k.pt:k=none", {"the prefix \"module.\" was taken off every key"}},
    {"among.pt:input=none", {NULL}},
    {"nested.pt:prefix=model.sae.:format=custom:encoder=encoder.weight:decoder=decoder.weight:enc_"
     "bias="
     "encoder.bias:dec_bias=bias:centre=bias:activation=relu",
     {NULL}},
    {"no_crc.pt",
     {"the file was written without CRCs: the integrity of its bytes was not checked"}},
    {"no_crc_prefixed.pt",
     {"read from the entry \"sae\"", "the prefix \"module._orig_mod.\" was taken off every key",
      "the file was written without CRCs: the integrity of its bytes was not checked"}},
};

static struct sae_dict *opened(const char *name)
{
    char path[300];
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    snprintf(path, sizeof path, "tests/golden/cases/%s", name);
    ck_assert_msg(dicts_load(&d, path, NULL, &err) == SAE_OK, "%s", err.text);
    return d;
}

START_TEST(is_the_plain_dictionary)
{
    struct sae_dict *want = opened("plain.pt"), *d = opened(cases[_i].path);
    bool is_custom = strstr(cases[_i].path, "custom") != NULL;
    unsigned n = 0;

    ck_assert_str_eq(d->layout->name, is_custom ? "custom" : "AutoEncoder");
    ck_assert(d->formula.d_in == 8 && d->formula.F == 20);
    ck_assert_mem_eq(d->enc.f32, want->enc.f32, 160 * sizeof(float));
    ck_assert_mem_eq(d->dec.f32, want->dec.f32, 160 * sizeof(float));
    ck_assert_mem_eq(sae_dict_array(d, SAE_ROLE_ENC_BIAS), sae_dict_array(want, SAE_ROLE_ENC_BIAS),
                     20 * sizeof(float));
    ck_assert_mem_eq(d->centre, want->centre, 8 * sizeof(float));
    for (; n < SAE_MAX_NOTES && cases[_i].notes[n]; n++)
        ck_assert_str_eq(d->info.notes[n], cases[_i].notes[n]);
    if (!is_custom)
        ck_assert_str_eq(d->info.notes[n++], OF_THE_CLASS);
    ck_assert_uint_eq(d->info.n_notes, n);
    sae_dict_free(d);
    sae_dict_free(want);
}
END_TEST

/* The same weights with something beside them that makes another dictionary of them. */
static const struct {
    const char *path, *said;
} refused[] = {
    {"beside_k.pt", "an integer \"k\" stands beside them in \"cfg\""},
    {"beside_k_tensor.pt", "an integer \"top_k\" stands beside them"},
    {"beside_mean.pt", "a tensor \"act_mean\" stands beside the state dict \"sae_state\""},
    {"beside_mean_expanded.pt", "a tensor \"act_mean\""},
    {"beside_no_name.pt", "a tensor \"\" stands beside the state dict \"sae_state\""},
    {"beside_no_name.pt:centre=bias", "a tensor \"\" stands beside the state dict \"sae_state\""},
    {"beside_no_name_dict.pt", "a tensor \"act_mean\" stands beside its tensors"},
    {"beside_int_key.pt",
     "a tensor under a key that is no text stands beside the state dict \"5\""},
    {"beside_thetas.pt", "a tensor \"theta\" stands beside the state dict"},
    {"beside_norm.pt", "a number \"norm_factor\""},
    {"beside_scale.pt", "a tensor \"scale\""},
    {"beside_scaling.pt", "a tensor \"scaling_factor\""},
    {"beside_backup.pt", "training backup of dictionary_learning"},
    {"two.pt", "the dicts \"a\" and \"5\": both have a class's keys; state prefix=a. or prefix=5."},
    {"two.pt:encoder=encoder.weight:enc_bias=encoder.bias:centre=none:activation=relu",
     "the dicts \"a\" and \"5\": both have the encoder's key; state prefix=a. or prefix=5."},
    {"two.pt:format=linear:encoder=encoder.weight", "both have the encoder's key"},
    {"nested.pt", "no class has"},
    {"nested.pt:prefix=model.", "no class has its 5 keys: \"lm.weight\" [3]"},
    {"nested.pt:prefix=model.lm.", "no class has its 1 keys: \"weight\" [3]"},
    {"nested.pt:prefix=models.", "prefix=models. is stated, and no key of the file begins so"},
    {"endless.pt:prefix=a.", "nested deeper than 32"},
    /* what stands beside the dict stands beside it by its prefix too */
    {"beside_mean.pt:prefix=sae_state.", "a tensor \"act_mean\" stands beside the state dict"},
    {"beside_k.pt:prefix=sae_state.", "an integer \"k\" stands beside them in \"cfg\""},
    {"beside_backup.pt:prefix=ae.", "training backup of dictionary_learning"},
    /* ... and all on the way there */
    {"on_way_mean.pt:prefix=model.sae.:k=none", "a tensor \"model.act_mean\" stands beside the "
                                                "state dict \"model.sae\" and may be part of it; "
                                                "state centre=bias+model.act_mean"},
    {"on_way_norm.pt:prefix=runs.last.ae.", "the biases of \"runs.last.ae\" wait for"},
    {"on_way_k.pt:prefix=runs.last.sae.", "an integer \"k\" stands beside them in \"runs\""},
    {"module_k.pt", "an integer \"module.k\" stands beside them: features may be the k largest"},
    /* a key whose value is no tensor is told before its row looks at it (four of these ended it) */
    {"no_threshold.pt", "cannot read tensor threshold: GLOBAL"},
    {"no_encoder.pt", "cannot read tensor W_enc: GLOBAL"},
    {"no_encoder_of_bare.pt", "cannot read tensor W_enc: GLOBAL"},
    {"no_bias_of_bare.pt", "cannot read tensor b_enc: GLOBAL"},
    {"no_encoder_of_a_layer.pt:format=circuit_tracer", "cannot read tensor W_enc_7: GLOBAL"},
    {"no_encoder_of_groups.pt:activation=relu", "cannot read tensor W_enc: GLOBAL"},
    {"among.pt", "a number \"scaling_factor\" stands beside its tensors"},
    {"beside_backup.pt:input=none", "training backup of dictionary_learning"},
};

START_TEST(is_refused)
{
    char path[300];
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    snprintf(path, sizeof path, "tests/golden/cases/%s", refused[_i].path);
    ck_assert_int_eq(dicts_load(&d, path, NULL, &err), SAE_E_FORMAT);
    ck_assert_msg(strstr(err.text, refused[_i].said) != NULL, "%s", err.text);
}
END_TEST

/* A threshold may stand beside the state dict too: one number (which was said to be none), or one
 * of each feature (which was refused, though it is named). */
static const char *const thresholds[] = {
    "beside_theta.pt:threshold=theta", "beside_theta.pt:prefix=sae_state.:threshold=theta",
    "beside_thetas.pt:threshold=theta", "beside_thetas.pt:prefix=sae_state.:threshold=theta"};

START_TEST(threshold_beside)
{
    struct sae_dict *d = opened(thresholds[_i]);
    const float *theta = sae_dict_array(d, SAE_ROLE_THRESHOLD);

    for (size_t j = 0; j < d->formula.F; j++)
        ck_assert(theta[j] == 0.5f);
    sae_dict_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cases");
    TCase *t = tcase_create("cases");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, is_the_plain_dictionary, 0, SAE_COUNTOF(cases));
    tcase_add_loop_test(t, threshold_beside, 0, SAE_COUNTOF(thresholds));
    tcase_add_loop_test(t, is_refused, 0, SAE_COUNTOF(refused));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
