/* test_spec.c - the grammar of sources: what is taken, and what a refusal says. */
#include "lib/dict/spec.h"
#include "tests/support/dicts.h"

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
        ck_assert_str_eq(src.stated.path, g->text);
        sae_source_fini(&src);
        return;
    }
    ck_assert_str_eq(src.layout->name, g->class_name);
    ck_assert_uint_eq(src.d, g->d);
    ck_assert_uint_eq(src.F, g->F);
    ck_assert_uint_eq(src.seed, g->seed);
    ck_assert(src.l0 == g->l0);
    sae_source_fini(&src);
}
END_TEST

/* Labels may be stated of every kind of source. */
static const struct {
    const char *text, *class_name, *labels;
} labelled[] = {
    {"identity:4:labels=/a:b.json", "IdentityDict", "/a:b.json"},
    {"identity:4\x1flabels=a:k=3", "IdentityDict", "a:k=3"},
    {"init:AutoEncoder:8:4:l0=2:labels=x", "AutoEncoder", "x"},
    {"init:AutoEncoder:8:4:labels=x:seed=3", "AutoEncoder", "x:seed=3"},
    {"x.pt:labels=/a:b.json:k=3", NULL, "/a:b.json"},
    {"x.pt\x1flabels=b:k=3", NULL, "b:k=3"},
    {"linear:x.npy:labels=l", NULL, "l"},
};

START_TEST(takes_labels)
{
    struct sae_source src;
    struct sae_err err = {0};

    ck_assert_msg(sae_source_parse(&src, labelled[_i].text, &err) == SAE_OK, "%s", err.text);
    ck_assert_str_eq(src.stated.labels, labelled[_i].labels);
    if (labelled[_i].class_name)
        ck_assert_str_eq(src.layout->name, labelled[_i].class_name);
    sae_source_fini(&src);
}
END_TEST

/* What is stated of a file: its path, and "format | encoder | fields". */
static const struct {
    const char *text, *path, *stated;
} stated[] = {
    {"x.pt:input=scale:5.9:k=3", "x.pt", "| | input=scale:5.9 select=top_k:3 "},
    {"/a:b/c=d.pt:k=none", "/a:b/c=d.pt", "| | select=all "},
    {"x.pt:select=top_k:4", "x.pt", "| | select=top_k:4 "},
    {"x.pt:kk=3", "x.pt:kk=3", "| | "},
    {"x.pt:K=3", "x.pt:K=3", "| | "},
    {"./linear:x", "./linear:x", "| | "},
    {"x.pt:format=dictionary_learning", "x.pt", "dictionary_learning | | "},
    {"x.pt:encoder=W@d,F:centre=none:k=2", "x.pt", "custom | W@d,F | centre=none select=top_k:2 "},
    {"x.pt:format=custom:encoder=a:b:centre=c:activation=relu", "x.pt",
     "custom | a:b | centre=c activation=relu "},
    {"x.pt:threshold=exp:log_t:skip=S@m,d:kind=transcoder:features=7", "x.pt",
     "| | kind=transcoder threshold=exp:log_t features=7 skip=S@m,d "},
    {"linear:x.npy:k=3", "x.npy", "linear | | select=top_k:3 "},
    {"linear:k=3", "k=3", "linear | | "},
    {"x.pt:prefix=model.sae.:k=3", "x.pt", "| | select=top_k:3 "},
    /* of the config file: taken whole */
    {"x.pt\x1f"
     "centre=a:k=3",
     "x.pt", "| | centre=a:k=3 "},
    {"x.pt:k=2\x1f"
     "centre=a:k=3\x1fkind=sae",
     "x.pt", "| | kind=sae centre=a:k=3 select=top_k:2 "},
    {"x.pt\x1f"
     "encoder=W:k=1@d,F\x1f"
     "centre=none\x1fk=2",
     "x.pt", "custom | W:k=1@d,F | centre=none select=top_k:2 "},
    {"x.pt:parts=encoder:score=decoder_norm:output=none:normalize_decoder=as_stored", "x.pt",
     "| | output=none score=decoder_norm normalize_decoder=as_stored "},
};

START_TEST(takes_what_is_stated)
{
    struct sae_source src;
    struct sae_err err = {0};
    char text[300];
    size_t n;

    ck_assert_msg(sae_source_parse(&src, stated[_i].text, &err) == SAE_OK, "%s", err.text);
    ck_assert_int_eq(src.kind, SAE_SOURCE_FILE);
    ck_assert_str_eq(src.stated.path, stated[_i].path);
    ck_assert_uint_eq(sae_source_path(stated[_i].text),
                      strlen(stated[_i].path) +
                          (strncmp(stated[_i].text, "linear:", 7) == 0 ? 7 : 0));
    n = (size_t)snprintf(text, sizeof text, "%s%s| %s%s| ",
                         src.stated.format ? src.stated.format : "", src.stated.format ? " " : "",
                         src.stated.key[SAE_ROLE_ENCODER] ? src.stated.key[SAE_ROLE_ENCODER] : "",
                         src.stated.key[SAE_ROLE_ENCODER] ? " " : "");
    for (enum sae_field f = 0; f < SAE_N_FIELDS; f++) {
        char value[SAE_READING_TEXT_MAX];

        if (!src.stated.reading.field[f].is_set)
            continue;
        sae_value_print(f, &src.stated.reading.field[f].value, value);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s=%s ", sae_field_name(f), value);
    }
    ck_assert_str_eq(text, stated[_i].stated);
    ck_assert_int_eq(src.stated.encodes_only, strstr(stated[_i].text, "parts=encoder") != NULL);
    sae_source_fini(&src);
}
END_TEST

/* A file that is there under the whole text has no options. */
START_TEST(a_file_that_is_there_wins)
{
    static const char name[] = "/tmp/saed-test-spec.pt:k=3";
    struct sae_source src;
    FILE *f = fopen(name, "w");

    ck_assert_ptr_nonnull(f);
    fclose(f);
    ck_assert_int_eq(sae_source_parse(&src, name, NULL), SAE_OK);
    ck_assert_str_eq(src.stated.path, name);
    ck_assert(!src.stated.has_k);
    ck_assert_uint_eq(sae_source_path(name), strlen(name));
    sae_source_fini(&src);
    ck_assert_int_eq(remove(name), 0);
    ck_assert_int_eq(sae_source_parse(&src, name, NULL), SAE_OK);
    ck_assert_str_eq(src.stated.path, "/tmp/saed-test-spec.pt");
    ck_assert(src.stated.has_k);
    sae_source_fini(&src);
}
END_TEST

/* A form stands in front of the whole text; what a config states, behind it. */
START_TEST(a_file_that_is_there_wins_in_a_form)
{
    static const char name[] = "/tmp/saed-test-spec.npy:k=3";
    struct sae_source src;
    char text[100];
    FILE *f = fopen(name, "w");

    ck_assert_ptr_nonnull(f);
    fclose(f);
    snprintf(text, sizeof text,
             "linear:%s\x1f"
             "centre=a:k=3",
             name);
    ck_assert_int_eq(sae_source_parse(&src, text, NULL), SAE_OK);
    ck_assert_str_eq(src.stated.path, name);
    ck_assert_str_eq(src.stated.format, "linear");
    ck_assert_str_eq(src.stated.reading.field[SAE_FIELD_CENTRE].value.key, "a:k=3");
    ck_assert_uint_eq(sae_source_path(text), strlen("linear:") + strlen(name));
    sae_source_fini(&src);
    ck_assert_int_eq(remove(name), 0);
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
    {"identity:4:k=3", "k= does not go with identity: and init:"},
    {":k=3", "it has no path"},
    {"hf://x", "it is a URL, and saed downloads nothing"},
    {"https://x/y.pt:k=3", "saed downloads nothing"},
    {"hf://org/repo/x.pt:k=3", "saed downloads nothing"},
    {"linear:s3://x/y.npy", "saed downloads nothing"},
    {"file:///x.pt", "saed downloads nothing"},
    {"x.pt:format=llama_scope", "format=llama_scope: saed does not read it yet"},
    {"x.pt:format=llamascopium", "format=llamascopium: saed does not read it yet"},
    {"x.pt:format=lm_saes", "format=lm_saes: saed does not read it yet"},
    {"x.pt:select=group_max:2", "select=group_max:2: saed does not read it yet"},
    {"x.pt:normalize_decoder=unit", "normalize_decoder=unit: saed does not read it yet"},
    {"linear:x.npy:decoder=V", "decoder= does not go with format=linear"},
    {"linear:x.npy:format=custom", "format is stated twice"},
    {"x.pt:prefix=a.:prefix=b.", "prefix is stated twice"},
    {"x.pt:prefix=", "prefix has no value"},
    {"x.pt:threshold=0.5:activation=linear", "does not go with"},
    {"x.pt:threshold=1e39", "threshold is \"1e39\""},
    {"x.pt:features=0", "features is \"0\""},
    {"x.pt:features=+3", "features is \"+3\""},
    {"x.pt:kind=both", "kind is \"both\", wanted sae or transcoder"},
    {"x.pt\x1fk=3\x1fk=3", "k, or select, is stated twice"},
    {"x.pt:k=3\x1fk=3", "k, or select, is stated twice"},
    {"x.pt\x1fkk=3", "\"kk=3\" is no statement"},
    {"x.pt:k=3:k=3", "k, or select, is stated twice"},
    {"x.pt:k=3:select=all", "select is stated twice"},
    {"x.pt:centre=a:centre=b", "centre is stated twice"},
    {"x.pt:format=custom:format=custom", "format is stated twice"},
    {"x.pt:parts=all:parts=all", "parts is stated twice"},
    {"x.pt:k=0", "k is \"0\", wanted none or a whole number from 1"},
    {"x.pt:k=3x", "k is \"3x\""},
    {"x.pt:k=", "k has no value"},
    {"x.pt:k=:centre=b", "k has no value"},
    {"x.pt:input=scale:", "input is \"scale:\", wanted none, scale:C"},
    {"x.pt:input=scale:-1", "input is \"scale:-1\""},
    {"x.pt:input=scale:1e39", "input is \"scale:1e39\""},
    {"x.pt:activation=gated:k=3", "activation=gated does not go with select=top_k:3"},
    {"x.pt:k=3:features=4", "features=4 does not go with select=top_k:3"},
    {"x.pt:parts=decoder", "parts is \"decoder\", wanted all or encoder"},
    {"x.pt:format=nothing", "format is \"nothing\", wanted one of dictionary_learning"},
    {"x.pt:format=identity", "format is \"identity\""},
    {"x.pt:format=custom", "format=custom wants encoder=KEY"},
    {"x.pt:encoder=W:k=3", "state centre=none or centre=KEY"},
    {"x.pt:encoder=W:centre=none", "state activation=, k= or threshold="},
    {"x.pt:encoder=W:centre=none:threshold=none", "state activation=, k= or threshold="},
    {"x.pt:dec_bias=b", "dec_bias= wants encoder= beside it"},
    {"x.pt:encoder=W:format=dictionary_learning", "encoder= does not go with format=dict"},
    {"x.pt:resident=f16", "resident is \"f16\", wanted stored or f32"},
    {"x.pt:resident=f32:resident=f32", "resident"},
    {"x.pt:parts=all:parts=encoder", "parts"},
};

START_TEST(refuses)
{
    struct sae_source src = {.seed = 17};
    struct sae_dict *d = NULL;
    struct sae_err err = {0}, again = {0};

    ck_assert_msg(sae_source_parse(&src, bads[_i][0], &err) == SAE_E_USAGE, "%s", bads[_i][0]);
    ck_assert_msg(strstr(err.text, bads[_i][1]) != NULL, "%s: %s", bads[_i][0], err.text);
    ck_assert_msg(strncmp(err.text, "cannot use source ", 18) == 0, "%s", err.text);
    ck_assert_uint_eq(src.seed, 17); /* untouched */
    ck_assert_int_eq(sae_source_check(bads[_i][0], NULL), SAE_E_USAGE);
    ck_assert_int_eq(dicts_load(&d, bads[_i][0], NULL, &again), SAE_E_USAGE);
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

    ck_assert_int_eq(dicts_load(&d, "identity:5", NULL, &err), SAE_OK);
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
    ck_assert_int_eq(dicts_load(&d, "identity:2147483647", NULL, &err), SAE_OK); /* has no matrix */
    sae_dict_free(d);
}
END_TEST

/* No path of the machine can be there: a name in a directory that is a file. */
START_TEST(a_missing_file_is_named)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(dicts_load(&d, "Makefile/no/such.pt", NULL, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "Makefile/no/such.pt") != NULL, "%s", err.text);
    ck_assert_ptr_null(d);
    err = (struct sae_err){0};
    ck_assert_int_eq(dicts_load(&d, "Makefile", NULL, &err), SAE_E_FORMAT);
    ck_assert_msg(strstr(err.text, "cannot load Makefile: ") != NULL, "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("source");
    TCase *t = tcase_create("source");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, accepts, 0, (int)SAE_COUNTOF(goods));
    tcase_add_loop_test(t, takes_what_is_stated, 0, SAE_COUNTOF(stated));
    tcase_add_loop_test(t, takes_labels, 0, SAE_COUNTOF(labelled));
    tcase_add_test(t, a_file_that_is_there_wins);
    tcase_add_test(t, a_file_that_is_there_wins_in_a_form);
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
