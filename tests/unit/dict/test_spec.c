/* test_spec.c - the grammar of sources: what is taken, and what a refusal says. */
#include "lib/dict/spec.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct good {
    const char *text, *class_name; /* NULL: a file */
    uint64_t d, F, seed;
    double l0;
};

static const struct good goods[] = {
    {"identity:1", "IdentityDict", 1, 1, 0, 0},
    {"identity:2147483647", "IdentityDict", 2147483647, 2147483647, 0, 0},
    {"init:AutoEncoder:768:24576", "AutoEncoder", 768, 24576, 0, 0},
    {"init:GatedAutoEncoder:8:4:seed=7", "GatedAutoEncoder", 8, 4, 7, 0},
    {"init:JumpAutoEncoder:8:4:seed=18446744073709551615:l0=2.5", "JumpAutoEncoder", 8, 4,
     UINT64_MAX, 2.5},
    {"init:AutoEncoderNew:1:1:l0=1:seed=0", "AutoEncoderNew", 1, 1, 0, 1},
    {"init:AutoEncoder:1:9:l0=.125", "AutoEncoder", 1, 9, 0, 0.125},
    {"init:AutoEncoder:1:9:l0=0.3", "AutoEncoder", 1, 9, 0, 0.3},
    {"init:AutoEncoder:1:9:l0=9.", "AutoEncoder", 1, 9, 0, 9},
    {"ae.pt", NULL, 0, 0, 0, 0},
    {"./identity:x", NULL, 0, 0, 0, 0},
    {"identity", NULL, 0, 0, 0, 0},
    {"initial:3", NULL, 0, 0, 0, 0},
    {"/a:b/c", NULL, 0, 0, 0, 0},
};

START_TEST(accepts)
{
    const struct good *g = &goods[_i];
    struct sae_source src;
    struct sae_err err = {0};

    ck_assert_msg(sae_source_parse(&src, g->text, &err) == SAE_OK, "%s: %s", g->text, err.text);
    ck_assert_int_eq(sae_source_check(g->text, &err), SAE_OK);
    if (!g->class_name) {
        ck_assert_int_eq(src.kind, SAE_SOURCE_FILE);
        ck_assert_str_eq(src.path, g->text);
        return;
    }
    ck_assert_str_eq(src.layout->name, g->class_name);
    ck_assert_uint_eq(src.d, g->d);
    ck_assert_uint_eq(src.F, g->F);
    ck_assert_uint_eq(src.seed, g->seed);
    ck_assert(src.l0 == g->l0);
}
END_TEST

/* The text, and what the message must hold. */
static const char *const bads[][2] = {
    {"", "wanted a path, identity:D or init:CLASS:D:F"},
    {"identity:", "D of identity:D is \"\""},
    {"identity:0", "is \"0\", wanted a whole number from 1"},
    {"identity:2147483648", "is \"2147483648\""},
    {"identity:18446744073709551617", "is \"18446744073709551617\""},
    {"identity:-1", "is \"-1\""},
    {"identity:+1", "is \"+1\""},
    {"identity: 1", "is \" 1\""},
    {"identity:3:3", "is \"3:3\""},
    {"identity:1e3", "is \"1e3\""},
    {"init:", "CLASS is \"\", wanted one of AutoEncoder GatedAutoEncoder JumpAutoEncoder "
              "AutoEncoderNew JumpReluAutoEncoder (or the source identity:D)"},
    {"init:autoencoder:1:1", "CLASS is \"autoencoder\""},
    {"init:AutoEncoderNe:1:1", "CLASS is \"AutoEncoderNe\""},
    {"init:AutoEncoderTopK:3:3", "no fresh AutoEncoderTopK is made, its k is in its file"},
    {"init:IdentityDict:3:3", "use identity:D"},
    {"init:AutoEncoder", "D of init:CLASS:D:F is \"\""},
    {"init:AutoEncoder:3", "F of init:CLASS:D:F is \"\""},
    {"init:AutoEncoder:3:", "F of init:CLASS:D:F is \"\""},
    {"init:AutoEncoder:0:3", "D of init:CLASS:D:F is \"0\""},
    {"init:AutoEncoder:3:4:", "option is \"\", wanted seed=S or l0=L"},
    {"init:AutoEncoder:3:4:sed=1", "option is \"sed=1\""},
    {"init:AutoEncoder:3:4:seed=", "seed is \"\""},
    {"init:AutoEncoder:3:4:seed=-1", "seed is \"-1\""},
    {"init:AutoEncoder:3:4:seed=18446744073709551616", "seed is"},
    {"init:AutoEncoder:3:4:seed=1:seed=1", "a second seed"},
    {"init:AutoEncoder:3:4:l0=", "l0 is \"\""},
    {"init:AutoEncoder:3:4:l0=0", "l0 is \"0\", wanted a decimal number"},
    {"init:AutoEncoder:3:4:l0=0.0", "l0 is \"0.0\""},
    {"init:AutoEncoder:3:4:l0=4.1", "at most F = 4"},
    {"init:AutoEncoder:3:4:l0=.", "l0 is \".\""},
    {"init:AutoEncoder:3:4:l0=1.2.3", "l0 is \"1.2.3\""},
    {"init:AutoEncoder:3:4:l0=nan", "l0 is \"nan\""},
    {"init:AutoEncoder:3:4:l0=1e0", "l0 is \"1e0\""},
    {"init:AutoEncoder:3:4:l0=-1", "l0 is \"-1\""},
    {"init:AutoEncoder:3:4:l0=1,5", "l0 is \"1,5\""},
    {"init:AutoEncoder:3:4:l0=1.000000000000001", "at most 15 digits"},
    {"init:AutoEncoder:3:4:l0=1:l0=1", "a second l0"},
};

START_TEST(refuses)
{
    struct sae_source src = {.path = "untouched"};
    struct sae_dict *d = NULL;
    struct sae_err err = {0}, again = {0};

    ck_assert_msg(sae_source_parse(&src, bads[_i][0], &err) == SAE_E_USAGE, "%s", bads[_i][0]);
    ck_assert_msg(strstr(err.text, bads[_i][1]) != NULL, "%s: %s", bads[_i][0], err.text);
    ck_assert_msg(strncmp(err.text, "cannot use source ", 18) == 0, "%s", err.text);
    ck_assert_str_eq(src.path, "untouched");
    ck_assert_int_eq(sae_source_check(bads[_i][0], NULL), SAE_E_USAGE);
    ck_assert_int_eq(sae_dict_open(&d, bads[_i][0], NULL, &again), SAE_E_USAGE);
    ck_assert_str_eq(again.text, err.text);
    ck_assert_ptr_null(d);
}
END_TEST

START_TEST(long_sources_are_cut_not_overrun)
{
    char text[5000] = "init:";
    struct sae_err err = {0};

    memset(text + 5, 'x', sizeof text - 6);
    ck_assert_int_eq(sae_source_check(text, &err), SAE_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "wanted one of AutoEncoder"));
}
END_TEST

START_TEST(opens_identity)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    const struct sae_dict_info *info;

    ck_assert_int_eq(sae_dict_open(&d, "identity:5", NULL, &err), SAE_OK);
    info = sae_dict_info(d);
    ck_assert_str_eq(info->class_name, "IdentityDict");
    ck_assert_uint_eq(info->activation_dim, 5);
    ck_assert_uint_eq(info->dict_size, 5);
    ck_assert_str_eq(info->dtype, "float32");
    ck_assert_uint_eq(info->bytes, 0);
    ck_assert(info->norm_min == 1.0f && info->norm_median == 1.0f && info->norm_max == 1.0f);
    ck_assert(info->options & SAE_OPT_GHOST_MASK);
    ck_assert_ptr_null(info->aux_name);
    ck_assert(!info->scales_forward_f);
    sae_dict_free(d);
    ck_assert_int_eq(sae_dict_open(&d, "identity:2147483647", NULL, &err),
                     SAE_OK); /* has no matrix */
    sae_dict_free(d);
}
END_TEST

/* No path of the machine can be there: a name in a directory that is a file. */
START_TEST(a_missing_file_is_named)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_dict_open(&d, "Makefile/no/such.pt", NULL, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "Makefile/no/such.pt") != NULL, "%s", err.text);
    ck_assert_ptr_null(d);
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_dict_open(&d, "Makefile", NULL, &err), SAE_E_FORMAT);
    ck_assert_msg(strstr(err.text, "cannot load Makefile: ") != NULL, "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("source");
    TCase *t = tcase_create("source");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, accepts, 0, (int)SAE_COUNTOF(goods));
    tcase_add_loop_test(t, refuses, 0, (int)SAE_COUNTOF(bads));
    tcase_add_test(t, long_sources_are_cut_not_overrun);
    tcase_add_test(t, opens_identity);
    tcase_add_test(t, a_missing_file_is_named);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
