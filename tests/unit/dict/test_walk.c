/* test_walk.c - what is a dictionary below a folder, and how much is looked at. */
#include "lib/saed.h"
#include "tests/support/files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct sae_buf seen; /* "a.pt b/ ": a folder with a '/' behind it */
static unsigned n_unlisted;

static enum sae_status on_found(void *arg, const char *path, const char *below, bool is_folder,
                                struct sae_err *err)
{
    (void)arg;
    (void)err;
    ck_assert_int_eq(strncmp(path, dir, strlen(dir)), 0);
    ck_assert_str_eq(path + strlen(path) - strlen(below), below);
    return sae_buf_addf(&seen, "%s%s ", below, is_folder ? "/" : "");
}

static void on_unlisted(void *arg, const struct sae_err *why)
{
    (void)arg;
    ck_assert_ptr_nonnull(strstr(why->text, "cannot list folder"));
    n_unlisted++;
}

static struct sae_walk walk;

static void setup(void)
{
    snprintf(dir, sizeof dir, "%s", "/tmp/saed-walk-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    sae_buf_init(&seen, 1 << 20);
    walk = (struct sae_walk){.found = on_found, .unlisted = on_unlisted};
    n_unlisted = 0;
}

static void teardown(void)
{
    char command[200];

    snprintf(command, sizeof command, "chmod -R u+rwx '%s'; rm -rf '%s'", dir, dir);
    ck_assert_int_eq(system(command), 0);
    sae_buf_fini(&seen);
}

static void make_link(const char *to, const char *name)
{
    char path[160];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_int_eq(symlink(to, path), 0);
}

START_TEST(folders_that_a_rule_knows_and_files)
{
    static const char *const files[][2] = {
        {"plain.pt", ""},
        {"notes.txt", ""},
        {".hidden.pt", ""},
        {".git/x.pt", ""},
        {"lens/cfg.json", "{\"architecture\": \"standard\"}"},
        {"lens/sae_weights.safetensors", ""},
        {"lens/sparsity.safetensors", ""},
        {"lens/deeper/x.pt", ""},
        {"broken/cfg.json", "{"}, /* its weights' name says whose it is */
        {"broken/sae.safetensors", ""},
        {"run/ae.pt", ""},
        {"run/config.json", "{\"trainer\": {\"dict_class\": \"AutoEncoder\"}}"},
        {"run/checkpoints/ae_1.pt", ""},
        {"other/ae.pt", ""}, /* a config of somebody else's */
        {"other/config.json", "{\"vocab_size\": 1}"},
        {"other/b.NPZ", ""},
        {"st/config.json", "{\"input_dim\": 4, \"hidden_dim\": 8}"},
        {"st/model.safetensors", ""},
        {"scope/hyperparams.json", "{\"act_fn\": \"relu\"}"},
        {"scope/checkpoints/final.safetensors", ""},
        {"a/b/c/layer_3.safetensors", ""},
    };

    for (size_t i = 0; i < SAE_COUNTOF(files); i++)
        put_file(dir, files[i][0], files[i][1]);
    make_link("plain.pt", "linked.pt");
    make_link("lens", "linked_folder");
    make_link("nowhere", "dangling.npy");
    ck_assert_int_eq(sae_walk(&walk, dir, NULL), SAE_OK);
    ck_assert_str_eq(seen.data, "a/b/c/layer_3.safetensors broken/ dangling.npy lens/ linked.pt "
                                "other/ae.pt other/b.NPZ plain.pt run/ scope/ st/ ");
    ck_assert_uint_eq(walk.n_found, 11);
    ck_assert_uint_eq(n_unlisted, 0);
}
END_TEST

/* With and without the '/' behind its name, and through a link. */
START_TEST(the_folder_itself)
{
    char path[160];

    put_file(dir, "lens/cfg.json", "{}");
    put_file(dir, "lens/sae_weights.safetensors", "");
    make_link("lens", "link");
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, (const char *[]){"lens", "lens/", "link"}[i]);
        ck_assert_int_eq(sae_walk(&walk, path, NULL), SAE_OK);
    }
    ck_assert_str_eq(seen.data, "/ / / ");
}
END_TEST

START_TEST(what_cannot_be_listed)
{
    struct sae_err err = {0};
    char path[160];

    put_file(dir, "closed/a.pt", "");
    put_file(dir, "open/b.pt", "");
    snprintf(path, sizeof path, "%s/closed", dir);
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(sae_walk(&walk, dir, NULL), SAE_OK);
    if (geteuid() == 0) {
        printf("SKIP: root lists every folder\n");
    } else {
        ck_assert_str_eq(seen.data, "open/b.pt ");
        ck_assert_uint_eq(n_unlisted, 1);
    }
    snprintf(path, sizeof path, "%s/none", dir);
    ck_assert_int_eq(sae_walk(&walk, path, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    memset(&err, 0, sizeof err);
    snprintf(path, sizeof path, "%s/open/b.pt", dir);
    ck_assert_int_eq(sae_walk(&walk, path, &err), SAE_E_IO);
}
END_TEST

START_TEST(sixteen_levels)
{
    char path[200] = "", file[220];
    struct sae_err err = {0};

    for (int level = 1; level < 16; level++)
        strcat(path, "a/");
    snprintf(file, sizeof file, "%sx.pt", path);
    put_file(dir, file, "");
    ck_assert_int_eq(sae_walk(&walk, dir, NULL), SAE_OK);
    ck_assert_uint_eq(walk.n_found, 1);
    snprintf(file, sizeof file, "%sa/x.pt", path);
    put_file(dir, file, "");
    ck_assert_int_eq(sae_walk(&walk, dir, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 16 levels"));
}
END_TEST

/* The counts go on from walk to walk. */
START_TEST(so_many_and_no_more)
{
    struct sae_err err = {0};

    put_file(dir, "a.pt", "");
    put_file(dir, "b.txt", "");
    walk.n_found = 9999;
    walk.n_entries = 99998;
    ck_assert_int_eq(sae_walk(&walk, dir, NULL), SAE_OK);
    ck_assert_uint_eq(walk.n_found, 10000);
    walk.n_entries = 0;
    ck_assert_int_eq(sae_walk(&walk, dir, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 10000 dictionaries"));
    memset(&err, 0, sizeof err);
    walk.n_found = 0;
    walk.n_entries = 99999;
    ck_assert_int_eq(sae_walk(&walk, dir, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 100000 files and folders"));
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    enum sae_status st = SAE_E_NOMEM;

    put_file(dir, "lens/cfg.json", "{}");
    put_file(dir, "lens/sae_weights.safetensors", "");
    for (long fault = 0; st != SAE_OK; fault++) {
        seen.len = 0;
        sae_alloc_fault(fault, false);
        st = sae_walk(&walk, dir, NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || st == SAE_E_NOMEM);
    }
    ck_assert_str_eq(seen.data, "lens/ ");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("walk");
    TCase *t = tcase_create("walk");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, folders_that_a_rule_knows_and_files);
    tcase_add_test(t, the_folder_itself);
    tcase_add_test(t, what_cannot_be_listed);
    tcase_add_test(t, sixteen_levels);
    tcase_add_test(t, so_many_and_no_more);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
