/* test_pt_facts.c - what stands beside the weights of a .pt, and safetensors' metadata, as facts.
 */
#include "lib/load/pt_facts.h"

#include "lib/load/load.h"
#include "tests/support/weights.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Owned. */
static char *printed(const struct sae_facts *f, size_t max)
{
    struct sae_buf out;

    sae_buf_init(&out, max);
    if (sae_fact_print(sae_facts_root(f), &out) == SAE_OK)
        return out.data;
    sae_buf_fini(&out);
    return NULL;
}

static const struct {
    const char *path, *want;
} files[] = {
    {"tests/golden/pt/facts.pt",
     "{\"activation\":\"TopK\",\"activation_state_dict\":{\"k\":3,\"postact_fn\":\"ReLU\"},"
     "\"lr\":0.0001,\"inf\":null,\"big\":null,\"none\":null,\"yes\":true,\"pair\":[1,[2,\"x\"]],"
     "\"bytes\":\"a\xef\xbf\xbd"
     "b\",\"set\":[5],\"dtype\":\"torch.bfloat16\",\"device\":\"cuda:1\",\"cpu\":\"cpu\","
     "\"size\":[2,3],\"7\":\"seven\",\"ns\":\"<argparse.Namespace>\","
     "\"class\":\"<torch.nn.modules.linear.Linear>\","
     "\"optimizer\":{\"step\":\"<torch._utils._rebuild_tensor_v2>\",\"n\":4}}"},
    {"tests/golden/pt/wrapped_loop.pt",
     "{\"state_dict\":{},\"self\":\"<itself>\",\"list\":[\"<itself>\"]}"},
    {"tests/golden/containers/metadata.safetensors",
     "{\"format\":\"pt\",\"k\":\"64\",\"\xc3\xa9\":\"\xc3\xbc\"}"},
    {"tests/golden/containers/null_metadata.safetensors", NULL},
    {"tests/golden/containers/stored.npz", NULL},
};

START_TEST(facts_of_a_file)
{
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};
    char *got;

    ck_assert_msg(test_open_weights(&ts, files[_i].path, &err) == SAE_OK, "%s", err.text);
    if (files[_i].want) {
        got = printed(sae_load_facts(ts), 4096);
        ck_assert_str_eq(got, files[_i].want);
        free(got);
    } else {
        ck_assert_ptr_null(sae_load_facts(ts));
    }
    sae_load_close(ts);
}
END_TEST

/* 2^30 values that are 31 lists: made at once, and printing ends at its cap. */
START_TEST(what_is_shared_is_made_once)
{
    struct sae_tensors *ts = NULL;

    ck_assert_int_eq(test_open_weights(&ts, "tests/golden/pt/shared_facts.pt", NULL), SAE_OK);
    ck_assert_ptr_null(printed(sae_load_facts(ts), 64 << 10));
    sae_load_close(ts);
}
END_TEST

START_TEST(containers_are_told_apart)
{
    static const char *const rows[][2] = {
        {"tests/golden/pt/facts.pt", "pt"},
        {"tests/golden/containers/plain.safetensors", "safetensors"},
        {"tests/golden/containers/stored.npz", "npz"},
        {"tests/golden/containers/plain.npy", "npy"}};

    for (size_t i = 0; i < SAE_COUNTOF(rows); i++) {
        struct sae_tensors *ts = NULL;

        ck_assert_int_eq(test_open_weights(&ts, rows[i][0], NULL), SAE_OK);
        ck_assert_str_eq(sae_load_container(ts), rows[i][1]);
        sae_load_close(ts);
    }
}
END_TEST

/* {"many": [1, 1, ...]}: n numbers and their list. */
static enum sae_status facts_of_many(size_t n, struct sae_err *err)
{
    unsigned char *bytes = malloc(2 * n + 40), *p = bytes;
    const struct sae_pk_value *root = NULL;
    struct sae_pickle *pickle = NULL;
    struct sae_facts *facts = NULL;
    enum sae_status st;

    memcpy(p, "\x80\x02}X\x04\0\0\0many](", 14);
    p += 14;
    for (size_t i = 0; i < n; i++, p += 2)
        memcpy(p, "K\1", 2);
    memcpy(p, "es.", 3);
    p += 3;
    ck_assert_int_eq(sae_pickle_load(&pickle, &root, bytes, (size_t)(p - bytes), err), SAE_OK);
    st = sae_pt_facts(&facts, root, root, err);
    sae_facts_free(facts);
    sae_pickle_free(pickle);
    free(bytes);
    return st;
}

START_TEST(facts_are_counted)
{
    struct sae_err err = {0};

    ck_assert_int_eq(facts_of_many(SAE_PT_MAX_FACTS - 1, &err), SAE_OK);
    ck_assert_int_eq(facts_of_many(SAE_PT_MAX_FACTS, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 100000 values stand beside"));
}
END_TEST

/* A megabyte of text in 60,000 places, as key and value, is a megabyte. */
START_TEST(a_long_text_is_made_once)
{
    enum { LONG = 1 << 20, PLACES = 30000 };
    const uint32_t n = LONG;
    unsigned char *bytes = malloc(LONG + 8 * PLACES + 100), *p = bytes;
    const struct sae_pk_value *root = NULL;
    struct sae_pickle *pickle = NULL;
    struct sae_facts *facts = NULL;

    p = mempcpy(p, "\x80\x02}X\x01\0\0\0t", 9);
    *p++ = 'X';
    p = mempcpy(p, &n, 4);
    memset(p, 'x', LONG);
    p = mempcpy(p + LONG, "q\0sX\x01\0\0\0m](", 11);
    for (int i = 0; i < PLACES; i++)
        p = mempcpy(p, "}h\0h\0s", 6);
    p = mempcpy(p, "es.", 3);
    ck_assert_int_eq(sae_pickle_load(&pickle, &root, bytes, (size_t)(p - bytes), NULL), SAE_OK);
    sae_alloc_fault(1000, true); /* a chunk for each place would be 60,000 */
    ck_assert_int_eq(sae_pt_facts(&facts, root, root, NULL), SAE_OK);
    sae_alloc_fault(-1, false);
    ck_assert_uint_eq(sae_facts_find(facts, "t")->n, LONG);
    ck_assert_uint_eq(sae_facts_find(facts, "m")->n, PLACES);
    ck_assert_ptr_eq(sae_facts_find(facts, "m")->u.first->u.first->key,
                     sae_facts_find(facts, "t")->u.text);
    sae_facts_free(facts);
    sae_pickle_free(pickle);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pt_facts");
    TCase *t = tcase_create("pt_facts");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, facts_of_a_file, 0, SAE_COUNTOF(files));
    tcase_add_test(t, what_is_shared_is_made_once);
    tcase_add_test(t, containers_are_told_apart);
    tcase_add_test(t, facts_are_counted);
    tcase_add_test(t, a_long_text_is_made_once);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
