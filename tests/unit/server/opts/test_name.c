/* test_name.c - the NAMEs of sources that come without one. */
#include "server/opts/table.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *source, *name;
} names[] = {
    {"ae.pt", "ae"},
    {"ae", "ae"},
    {"run/3/ae.pt", "run.3.ae"},
    {"run/v1.5/ae.pt", "run.v1.5.ae"},
    {"resid_post/layer-3.sae.pt", "resid_post.layer-3.sae"},
    {"./ae.pt", "ae"},
    {"./a//b/./ae.pt", "a.b.ae"},
    {"/models/ae.pt", "models.ae"},
    {"../ae.pt", "d...ae"},
    {"a b/c+d.pt", "a_b.c_d"},
    {"k=32/ae.pt", "k_32.ae"},
    {"a/b=c.pt", "a.b_c"},
    {"=x", "d_x"},
    {"-a", "d-a"},
    {"_a.pt", "d_a"},
    {"\xc3\xa9.pt", "d__"},
    {".hidden", "d.hidden"},
    {".hidden.pt", "d.hidden"},
    {"..", "d.."},
    {"...pt", "d...pt"},
    {"ae.", "ae"},
    {"run/3/", "run.3"},
    {"identity:5", "identity_5"},
    {"init:AutoEncoder:4:8:l0=2.5", "init_AutoEncoder_4_8_l0_2.5"},
    {"./identity:5.pt", "identity_5"},
    {"/", ""},
    {"./.", ""},
};

START_TEST(paths_make_names)
{
    char name[SAED_NAME_MAX + 1] = "";
    size_t n = saed_name_of(names[_i].source, name, SAED_NAME_MAX);

    ck_assert_str_eq(name, names[_i].name);
    ck_assert_uint_eq(n, strlen(names[_i].name));
    ck_assert(n == 0 || saed_is_name(name, n));
}
END_TEST

START_TEST(a_folder_has_no_ending)
{
    char root[] = "/tmp/saed.test.XXXXXX", path[64], name[SAED_NAME_MAX + 1] = "";

    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(path, sizeof path, "%s/layer.12", root);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    (void)saed_name_of(path, name, SAED_NAME_MAX);
    ck_assert_str_eq(strrchr(name, 'l'), "layer.12");
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rmdir(root), 0);
}
END_TEST

START_TEST(long_ones_are_counted)
{
    char path[300], name[SAED_NAME_MAX];

    memset(path, 'n', 201);
    strcpy(path + 200, ".pt");
    ck_assert_uint_eq(saed_name_of(path, name, sizeof name), 200);
    ck_assert(saed_is_name(name, sizeof name));
    memset(path, 'n', 201);
    strcpy(path + 201, ".pt");
    ck_assert_uint_eq(saed_name_of(path, name, sizeof name), 201);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("name");
    TCase *t = tcase_create("name");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_loop_test(t, paths_make_names, 0, sizeof names / sizeof names[0]);
    tcase_add_test(t, a_folder_has_no_ending);
    tcase_add_test(t, long_ones_are_counted);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
