/* test_cases.c - checkpoints of one dictionary in the forms that people save: tests/golden/cases.
 *
 * All are the dictionary of plain.pt and must give its bits; what the file did not say by itself
 * is noted. ckpt_* came from outside, the others are make_pt.py's. */
#include "lib/dict/dict.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

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
    {"no_crc.pt",
     {"the file was written without CRCs: the integrity of its bytes was not checked"}},
    {"no_crc_prefixed.pt",
     {"read from the entry \"sae\"", "the prefix \"module._orig_mod.\" was taken off every key",
      "the file was written without CRCs: the integrity of its bytes was not checked"}},
};

static struct sae_dict *opened(const char *name)
{
    char path[100];
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    snprintf(path, sizeof path, "tests/golden/cases/%s", name);
    ck_assert_msg(sae_dict_open(&d, path, NULL, &err) == SAE_OK, "%s", err.text);
    return d;
}

START_TEST(is_the_plain_dictionary)
{
    struct sae_dict *want = opened("plain.pt"), *d = opened(cases[_i].path);
    unsigned n = 0;

    ck_assert_str_eq(d->arch->name, "AutoEncoder");
    ck_assert(d->d == 8 && d->F == 20);
    ck_assert_mem_eq(d->enc, want->enc, 160 * sizeof(float));
    ck_assert_mem_eq(d->dec, want->dec, 160 * sizeof(float));
    ck_assert_mem_eq(d->enc_bias, want->enc_bias, 20 * sizeof(float));
    ck_assert_mem_eq(d->centre, want->centre, 8 * sizeof(float));
    for (; n < SAE_MAX_NOTES && cases[_i].notes[n]; n++)
        ck_assert_str_eq(d->info.notes[n], cases[_i].notes[n]);
    ck_assert_uint_eq(d->info.n_notes, n);
    sae_dict_free(d);
    sae_dict_free(want);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cases");
    TCase *t = tcase_create("cases");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, is_the_plain_dictionary, 0, SAE_COUNTOF(cases));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
