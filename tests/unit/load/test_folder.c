/* test_folder.c - what stands in a folder: names, weights files, folders and links among them. */
#include "lib/load/folder.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void touch(const char *name)
{
    int fd = open(path_of(name), O_CREAT | O_WRONLY, 0600);

    ck_assert_int_ge(fd, 0);
    close(fd);
}

START_TEST(weights_are_told_by_their_ending)
{
    static const struct {
        const char *name;
        bool is;
    } rows[] = {
        {"ae.pt", true},         {"a.PTH", true},
        {"x.ckpt", true},        {"pytorch_model.bin", true},
        {"w.SafeTensors", true}, {"params.npz", true},
        {"coef.npy", true},      {".pt", false},
        {"ae.pt.bak", false},    {"config.json", false},
        {"pt", false},           {"", false},
        {"x.sae.pt", true},      {"a.safetensors.index.json", false},
    };

    for (size_t i = 0; i < SAE_COUNTOF(rows); i++)
        ck_assert_msg(sae_folder_is_weights(rows[i].name) == rows[i].is, "%s", rows[i].name);
    ck_assert_uint_eq(sae_folder_bytes("a/b/c.pt"), 4);
    ck_assert_uint_eq(sae_folder_bytes("c.pt"), 0);
    ck_assert_uint_eq(sae_folder_bytes("/c.pt"), 1);
}
END_TEST

START_TEST(a_folder_is_listed)
{
    static const char *const files[] = {"z.pt", "cfg.json", "A.npz", ".hidden.npy"};
    struct sae_folder *f = NULL;

    strcpy(dir, "/tmp/saed-folder-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    for (size_t i = 0; i < SAE_COUNTOF(files); i++)
        touch(files[i]);
    ck_assert_int_eq(mkdir(path_of("b.pt"), 0700), 0);
    ck_assert_int_eq(symlink("z.pt", path_of("link.safetensors")), 0);
    ck_assert_int_eq(symlink("nowhere", path_of("lost.bin")), 0);
    ck_assert(sae_folder_is(dir) && sae_folder_is(path_of("b.pt")));
    ck_assert(!sae_folder_is(path_of("z.pt")) && !sae_folder_is(path_of("none")));
    for (int slash = 0; slash < 2; slash++) {
        char path[80], want[80];

        snprintf(path, sizeof path, "%s%s", dir, slash ? "/" : "");
        snprintf(want, sizeof want, "%s/", dir);
        ck_assert_int_eq(sae_folder_open(&f, path, NULL), SAE_OK);
        ck_assert_str_eq(sae_folder_path(f), want);
        ck_assert(sae_folder_has(f, "cfg.json") && sae_folder_has(f, "b.pt"));
        ck_assert(!sae_folder_has(f, "CFG.json") && !sae_folder_has(f, ".."));
        ck_assert_uint_eq(sae_folder_n_weights(f), 5);
        ck_assert_str_eq(sae_folder_weights(f, 0), ".hidden.npy");
        ck_assert_str_eq(sae_folder_weights(f, 1), "A.npz");
        ck_assert_str_eq(sae_folder_weights(f, 2), "link.safetensors");
        ck_assert_str_eq(sae_folder_weights(f, 3), "lost.bin");
        ck_assert_str_eq(sae_folder_weights(f, 4), "z.pt");
        ck_assert_ptr_null(sae_folder_weights(f, 5));
        sae_folder_close(f);
    }
    for (long n = 0;; n++) {
        f = NULL;
        sae_alloc_fault(n, false);
        enum sae_status st = sae_folder_open(&f, dir, NULL);
        sae_alloc_fault(-1, false);
        if (st == SAE_OK)
            break;
        ck_assert(st == SAE_E_NOMEM && !f);
    }
    sae_folder_close(f);
    for (size_t i = 0; i < SAE_COUNTOF(files); i++)
        unlink(path_of(files[i]));
    unlink(path_of("link.safetensors"));
    unlink(path_of("lost.bin"));
    rmdir(path_of("b.pt"));
    ck_assert_int_eq(sae_folder_open(&f, dir, NULL), SAE_OK);
    ck_assert(!sae_folder_has(f, "x") && sae_folder_n_weights(f) == 0);
    sae_folder_close(f);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(what_is_no_folder_is_refused)
{
    struct sae_folder *f = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_folder_open(&f, "/dev/null", &err), SAE_E_IO);
    ck_assert_str_eq(err.text, "cannot list folder /dev/null: Not a directory");
    ck_assert_int_eq(sae_folder_open(&f, "/nonexistent", NULL), SAE_E_IO);
    ck_assert_ptr_null(f);
    ck_assert_int_eq(sae_folder_open(&f, "", NULL), SAE_OK);
    ck_assert_str_eq(sae_folder_path(f), "");
    ck_assert(sae_folder_has(f, "Makefile"));
    sae_folder_close(f);
    sae_folder_close(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("folder");
    TCase *t = tcase_create("folder");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, weights_are_told_by_their_ending);
    tcase_add_test(t, a_folder_is_listed);
    tcase_add_test(t, what_is_no_folder_is_refused);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
