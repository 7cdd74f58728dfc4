/* test_hints.c - config.json and cfg.json beside a weights file, and the k that refuses it. */
#include "lib/load/hints.h"
#include "lib/saed.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], weights[100];

/* A folder with ae.pt, a copy of a dictionary of tests/golden/cases or data. */
static void make_folder(const char *of)
{
    char here[4096];

    snprintf(dir, sizeof dir, "/tmp/saed-hints-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_ptr_nonnull(getcwd(here, sizeof here - 100));
    snprintf(weights, sizeof weights, "%s/ae.pt", dir);
    strcat(strcat(here, "/tests/golden/"), of);
    ck_assert_int_eq(symlink(here, weights), 0);
}

static void path_of(char path[100], const char *name)
{
    snprintf(path, 100, "%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
    char path[100];
    FILE *f;

    path_of(path, name);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void remove_folder(void)
{
    static const char *const names[] = {"ae.pt", "config.json", "cfg.json"};
    char path[100];

    for (size_t i = 0; i < SAE_COUNTOF(names); i++) {
        path_of(path, names[i]);
        unlink(path);
    }
    ck_assert_int_eq(rmdir(dir), 0);
}

static const struct {
    const char *config, *cfg;
    const char *file, *key, *under;
    int64_t k;
    const char *doubt;
} rows[] = {
    {NULL, NULL, NULL, NULL, NULL, 0, ""},
    {"{}", "[1]", NULL, NULL, NULL, 0, ""},
    {"{\"k\": 64}", NULL, "config.json", "k", "", 64, ""},
    {NULL, "{\"top_k\": 5}", "cfg.json", "top_k", "", 5, ""},
    {"{\"trainer\": {\"k\": 7}}", NULL, "config.json", "k", "trainer", 7, ""},
    {"{\"buffer\": {\"k\": 7}}", "{\"trainer\": {\"top_k\": 8}}", "cfg.json", "top_k", "trainer", 8,
     ""},
    {"{\"k\": null, \"trainer\": 5}", NULL, NULL, NULL, NULL, 0, ""},
    {"{\"k\": 2.0, \"top_k\": \"3\"}", NULL, NULL, NULL, NULL, 0,
     "\"k\" of config.json beside it is a number with a fraction, an integer is wanted"},
    {NULL, "{\"trainer\": {\"top_k\": \"3\"}}", NULL, NULL, NULL, 0,
     "\"trainer.top_k\" of cfg.json beside it is a text, an integer is wanted"},
    {"{\"k\": 1, \"k\": 2}", NULL, NULL, NULL, NULL, 0,
     "config.json beside it was not read: the key \"k\" stands twice"},
    {"{\"lr\": NaN}", "{\"k\": 3}", "cfg.json", "k", "", 3, ""},
    {"{\"lr\":}", "{\"k\": 3}", "cfg.json", "k", "", 3,
     "config.json beside it was not read: expected a value, found '}' at byte 6"},
};

START_TEST(finds_k)
{
    struct sae_hints h = {.k_file = NULL};
    struct sae_err err = {0};

    make_folder("cases/plain.pt");
    if (rows[_i].config)
        put("config.json", rows[_i].config);
    if (rows[_i].cfg)
        put("cfg.json", rows[_i].cfg);
    ck_assert_msg(sae_hints_read(&h, weights, &err) == SAE_OK, "%s", err.text);
    ck_assert_pstr_eq(h.k_file, rows[_i].file);
    ck_assert_pstr_eq(h.k_key, rows[_i].key);
    ck_assert_pstr_eq(h.k_under, rows[_i].under);
    ck_assert_int_eq(h.k, rows[_i].k);
    ck_assert_msg(strncmp(h.doubt, rows[_i].doubt, strlen(rows[_i].doubt)) == 0, "%s", h.doubt);
    ck_assert_int_eq(h.doubt[0] != 0, rows[_i].doubt[0] != 0);
    remove_folder();
}
END_TEST

START_TEST(a_config_must_be_a_file_of_moderate_size)
{
    struct sae_hints h = {.k_file = NULL};
    struct sae_err err = {0};
    char path[100];

    make_folder("cases/plain.pt");
    path_of(path, "config.json");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(sae_hints_read(&h, weights, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(
        strstr(err.text, "cannot read config.json: it is a FIFO, a file is wanted"));
    unlink(path);
    put("config.json", "{}");
    ck_assert_int_eq(truncate(path, ((off_t)16 << 20) + 1), 0);
    ck_assert_int_eq(sae_hints_read(&h, weights, NULL), SAE_OK);
    ck_assert_ptr_nonnull(strstr(h.doubt, "16777217 bytes, at most 16777216"));
    remove_folder();
}
END_TEST

START_TEST(a_path_without_a_folder_and_one_too_long)
{
    struct sae_hints h = {.k_file = "x"};
    char longer[8192];

    ck_assert_int_eq(sae_hints_read(&h, "ae.pt", NULL), SAE_OK);
    ck_assert_ptr_null(h.k_file);
    memset(longer, '/', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    ck_assert_int_eq(sae_hints_read(&h, longer, NULL), SAE_OK);
}
END_TEST

/* A k makes two readings of a ReLU class, is nothing beside another, and is the file's own for
 * TopK. */
START_TEST(a_k_refuses_a_relu_class)
{
    static const struct {
        const char *file, *config, *said;
    } cases[] = {
        {"cases/plain.pt", "{\"trainer\": {\"k\": 64}}",
         "keys are AutoEncoder's, and config.json beside it has \"k\": 64 in \"trainer\""},
        {"data/new_7x5_f16.pt", "{\"top_k\": 3}",
         "keys are AutoEncoderNew's, and config.json beside it has \"top_k\": 3: features may be"},
        {"data/gated_7x5_bf16.pt", "{\"k\": 64}", NULL},
        {"data/topk_33x70_k8_f32.pt", "{\"trainer\": {\"k\": 8}}", NULL},
        {"data/topk_33x70_k8_f32.pt", "{\"trainer\": {\"k\": 4}}",
         "\"k\" is 8, and config.json beside it has \"k\": 4 in \"trainer\""},
        {"cases/plain.pt", "{\"k\": null}", NULL},
        /* ... and so does a config that may have one */
        {"cases/plain.pt", "{\"k\": 3, \"k\": 3}",
         "keys are AutoEncoder's, and config.json beside it was not read: the key \"k\" stands "
         "twice: features may be the k largest alone; state k=N or k=none for ReLU"},
        {"data/new_7x5_f16.pt", "{\"trainer\": {\"dict_class\": \"AutoEncoderNew\", \"k\": 3",
         "keys are AutoEncoderNew's, and config.json beside it was not read: "},
        {"data/new_7x5_f16.pt", "{\"trainer\": {\"dict_class\": \"AutoEncoderNew\", \"k\": \"3\"}}",
         "keys are AutoEncoderNew's, and \"trainer.k\" of config.json beside it is a text, an "
         "integer is wanted: features may be"},
        {"data/topk_33x70_k8_f32.pt", "{\"trainer\": {\"k\": 8}, \"trainer\": 1}", NULL},
        {"data/topk_33x70_k8_f32.pt",
         "{\"trainer\": {\"dict_class\": \"AutoEncoderTopK\", \"k\": \"8\"}}",
         "cannot use \"trainer.k\" of config.json: it is a text, an integer is wanted; state k=N"},
        {"data/gated_7x5_bf16.pt", "not JSON", NULL},
    };
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    enum sae_status st;

    make_folder(cases[_i].file);
    put("config.json", cases[_i].config);
    st = dicts_load(&d, weights, NULL, &err);
    if (cases[_i].said) {
        ck_assert_int_eq(st, SAE_E_FORMAT);
        ck_assert_msg(strstr(err.text, cases[_i].said) != NULL, "%s", err.text);
    } else {
        ck_assert_msg(st == SAE_OK, "%s", err.text);
    }
    sae_dict_free(d);
    remove_folder();
}
END_TEST

/* With a k stated it is a note. */
START_TEST(a_config_that_may_have_a_k_is_noted)
{
    static const struct {
        const char *text, *option, *note;
    } cases[] = {
        {"not JSON", ":k=none", "cfg.json beside it was not read"},
        {"{\"k\": \"3\"}", ":k=3", "\"k\" of cfg.json beside it is a text"},
    };

    for (size_t i = 0; i < SAE_COUNTOF(cases); i++) {
        struct sae_dict *d = NULL;
        const struct sae_dict_info *info;
        struct sae_err err = {0};
        char source[120];

        make_folder("cases/plain.pt");
        put("cfg.json", cases[i].text);
        ck_assert_int_eq(dicts_load(&d, weights, NULL, NULL), SAE_E_FORMAT);
        snprintf(source, sizeof source, "%s%s", weights, cases[i].option);
        ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s", err.text);
        info = sae_dict_info(d);
        ck_assert_uint_ge(info->n_notes, 1);
        ck_assert_msg(strstr(info->notes[info->n_notes - 1], cases[i].note) != NULL, "%s",
                      info->notes[info->n_notes - 1]);
        sae_dict_free(d);
        remove_folder();
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hints");
    TCase *t = tcase_create("hints");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, finds_k, 0, SAE_COUNTOF(rows));
    tcase_add_test(t, a_config_must_be_a_file_of_moderate_size);
    tcase_add_test(t, a_path_without_a_folder_and_one_too_long);
    tcase_add_loop_test(t, a_k_refuses_a_relu_class, 0, 12);
    tcase_add_test(t, a_config_that_may_have_a_k_is_noted);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
