/* test_query.c - options in the query string. */
#include "tests/unit/proto/wire_fixture.h"

static const struct {
    const char *query;
    unsigned seen, asked;
    uint64_t top_k;
    size_t n;
    uint32_t features[4];
} good[] = {
    {"", 0, 0, 0, 0, {0}},
    {"&&", 0, 0, 0, 0, {0}},
    {"top_k=32&sparse=true&features=3,7",
     SAE_OPT_TOP_K | SAE_OPT_SPARSE | SAE_OPT_FEATURES,
     SAE_OPT_TOP_K | SAE_OPT_SPARSE | SAE_OPT_FEATURES,
     32,
     2,
     {3, 7}},
    {"&sparse=false&", SAE_OPT_SPARSE, 0, 0, 0, {0}},
    {"features=", SAE_OPT_FEATURES, SAE_OPT_FEATURES, 0, 0, {0}},
    {"features=7,7,0", SAE_OPT_FEATURES, SAE_OPT_FEATURES, 0, 3, {7, 7, 0}},
    {"features=4294967294,4294967295,99999999999999999999999",
     SAE_OPT_FEATURES,
     SAE_OPT_FEATURES,
     0,
     3,
     {4294967294u, UINT32_MAX, UINT32_MAX}},
    {"sparse=1", SAE_OPT_SPARSE, SAE_OPT_SPARSE, 0, 0, {0}},
    {"sparse=True", SAE_OPT_SPARSE, SAE_OPT_SPARSE, 0, 0, {0}},
    {"sparse=0&output_features=False", SAE_OPT_SPARSE | SAE_OPT_OUTPUT_FEATURES, 0, 0, 0, {0}},
    {"features=3&features=7", SAE_OPT_FEATURES, SAE_OPT_FEATURES, 0, 2, {3, 7}},
    {"features=3,1&top_k=2&features=&features=7,3",
     SAE_OPT_FEATURES | SAE_OPT_TOP_K,
     SAE_OPT_FEATURES | SAE_OPT_TOP_K,
     2,
     4,
     {3, 1, 7, 3}},
    {"features=3%2c7%2C1", SAE_OPT_FEATURES, SAE_OPT_FEATURES, 0, 3, {3, 7, 1}},
    {"%74op%5fk=%31", SAE_OPT_TOP_K, SAE_OPT_TOP_K, 1, 0, {0}},
    {"top_k=18446744073709551615", SAE_OPT_TOP_K, SAE_OPT_TOP_K, UINT64_MAX, 0, {0}},
    {"top_k=18446744073709551616", SAE_OPT_TOP_K, SAE_OPT_TOP_K, UINT64_MAX, 0, {0}},
    {"top_k=999999999999999999999999999999", SAE_OPT_TOP_K, SAE_OPT_TOP_K, UINT64_MAX, 0, {0}},
    {"return_gate=true&output_pre_jump=true&output_features=true",
     SAE_OPT_RETURN_GATE | SAE_OPT_OUTPUT_PRE_JUMP | SAE_OPT_OUTPUT_FEATURES,
     SAE_OPT_RETURN_GATE | SAE_OPT_OUTPUT_PRE_JUMP | SAE_OPT_OUTPUT_FEATURES,
     0,
     0,
     {0}},
};

START_TEST(reads_options)
{
    struct sae_request r = {0};
    struct sae_err err = {0};

    ck_assert_msg(sae_query_parse(&r.opt, good[_i].query, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(r.opt.seen, good[_i].seen);
    ck_assert_uint_eq(r.opt.asked, good[_i].asked);
    ck_assert_uint_eq(r.opt.top_k, good[_i].top_k);
    ck_assert_uint_eq(r.opt.n_features, good[_i].n);
    for (size_t i = 0; i < good[_i].n; i++)
        ck_assert_uint_eq(r.opt.features[i], good[_i].features[i]);
    sae_request_fini(&r);
}
END_TEST

static const struct {
    const char *query, *text;
} bad[] = {
    {"sprase=true", "there is no option \"sprase\""},
    {"x=1", "there is no option \"x\""},
    {"=1", "there is no option \"\""},
    {"Sparse=true", "there is no option \"Sparse\""},
    {"sparse%20=true", "there is no option \"sparse \""},
    {"sparse", "sparse: it has no value"},
    {"sparse=", "sparse: its value is \"\", wanted true or false"},
    {"sparse=2", "wanted true or false"},
    {"sparse=TRUE", "wanted true or false"},
    {"sparse=yes", "wanted true or false"},
    {"sparse=01", "wanted true or false"},
    {"sparse=null", "wanted true or false"},
    {"sparse=true&sparse=true", "sparse: it is given twice"},
    {"sparse=false&top_k=1&sparse=true", "sparse: it is given twice"},
    {"sparse=1&sparse=0", "sparse: it is given twice"},
    {"features=1&features=2,", "features: its value is \"2,\""},
    {"top_k=0", "its value is \"0\", wanted an integer of 1 or more"},
    {"top_k=", "wanted an integer of 1 or more"},
    {"top_k=-1", "wanted an integer of 1 or more"},
    {"top_k=+1", "wanted an integer of 1 or more"},
    {"top_k=1.0", "wanted an integer of 1 or more"},
    {"top_k=1e3", "wanted an integer of 1 or more"},
    {"top_k=0x10", "wanted an integer of 1 or more"},
    {"top_k=null", "wanted an integer of 1 or more"},
    {"features=,", "features: its value is \",\""},
    {"features=1,", "features: its value"},
    {"features=,1", "features: its value"},
    {"features=1,,2", "features: its value"},
    {"features=-1", "features: its value"},
    {"features=1+2", "features: its value is \"1+2\""},
    {"features=[1,2]", "features: its value"},
    {"features=1,%202", "features: its value"},
    {"ghost_mask=1", "its place is in the body"},
    {"sparse=%7", "two hex digits"},
    {"sparse=%zz", "two hex digits"},
    {"sparse=true%", "two hex digits"},
    {"sparse%00=true", "zero byte"},
    {"sparse=true%00", "zero byte"},
    {"sparse=true=", "wanted true or false"},
    {"sparse=true;top_k=1", "wanted true or false"},
};

START_TEST(refuses_and_names_the_parameter)
{
    struct sae_request r = {0};
    struct sae_err err = {0};

    ck_assert_msg(sae_query_parse(&r.opt, bad[_i].query, &err) == SAE_E_BAD_OPTION, "%s",
                  bad[_i].query);
    assert_err(err, SAE_E_BAD_OPTION, bad[_i].text);
    sae_request_fini(&r);
}
END_TEST

START_TEST(no_query_is_no_option)
{
    struct sae_options opt = {0};

    ck_assert_int_eq(sae_query_parse(&opt, NULL, NULL), SAE_OK);
    ck_assert_uint_eq(opt.seen, 0);
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
    for (long i = 0; i < 3; i++) {
        struct sae_request r = {0};

        sae_alloc_fault(i, false);
        ck_assert_int_eq(sae_query_parse(&r.opt, "sparse=true&features=1,2&features=3", NULL),
                         SAE_E_NOMEM);
        sae_alloc_fault(-1, false);
        sae_request_fini(&r);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("query");
    TCase *t = tcase_create("query");

    tcase_add_loop_test(t, reads_options, 0, SAE_COUNTOF(good));
    tcase_add_loop_test(t, refuses_and_names_the_parameter, 0, SAE_COUNTOF(bad));
    tcase_add_test(t, no_query_is_no_option);
    tcase_add_test(t, out_of_memory_is_an_error);
    suite_add_tcase(s, t);
    return run_suite(s);
}
