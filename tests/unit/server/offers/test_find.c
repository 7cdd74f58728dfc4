/* test_find.c - what is offered of a folder, under which names and with what stated of it. */
#include "server/offers/find.h"
#include "tests/support/files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *pattern, *path;
    bool fits;
} matches[] = {
    {"a.pt", "a.pt", true},
    {"a.pt", "a.ptx", false},
    {"a.pt", "xa.pt", false},
    {"", "", true},
    {"", "a", false},
    {"*", "a.pt", true},
    {"*", "", true},
    {"*", "a/b.pt", false},
    {"qwen/*", "qwen/layer3.sae.pt", true},
    {"qwen/*", "qwen/a/layer3.sae.pt", false},
    {"*/*", "qwen/layer3.sae.pt", true},
    {"*.pt", "a.pt.pt", true},
    {"a*b*c", "aXbXbc", true},
    {"a*b*c", "aXbXb", false},
    {"a*b/*c", "ab/b/c", false},
    {"a*b/c*", "aab/cab", true},
    {"layer?.pt", "layer3.pt", true},
    {"layer?.pt", "layer.pt", false},
    {"layer?a.pt", "layer/a.pt", false},
    {"??", "ab", true},
    {"[ab].pt", "a.pt", false},
    {"[ab].pt", "[ab].pt", true},
    {"a\\*", "a\\x", true},
    {"**", "abc", true},
    {"*?*", "", false},
};

START_TEST(patterns)
{
    ck_assert_msg(saed_match(matches[_i].pattern, matches[_i].path) == matches[_i].fits, "%s %s",
                  matches[_i].pattern, matches[_i].path);
}
END_TEST

#define CUT "\x1f"
_Static_assert(SAE_SOURCE_CUT == '\x1f', "");

static char dir[64];
static struct sae_buf passed;
static struct saed_source named = {.name = "hidden", .source = "identity:3"};
static char *dirs[2];
static struct saed_reading readings[2] = {{"qwen/*", CUT "k=64" CUT "parts=encoder"},
                                          {"*/*", CUT "k=1"}};
static struct saed_opts opts = {.sources = &named,
                                .n_sources = 1,
                                .dictionaries = {dirs, 1},
                                .readings = readings,
                                .n_readings = 2};

static void on_passed(void *arg, const char *name, const char *path, const char *why)
{
    (void)arg;
    ck_assert_int_eq(
        sae_buf_addf(&passed, "%s %s: %s\n", name ? name : "-", path + strlen(dir), why), SAE_OK);
}

static void setup(void)
{
    snprintf(dir, sizeof dir, "%s", "/tmp/saed-find-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    sae_buf_init(&passed, 1 << 20);
    dirs[0] = dir;
    opts.dictionaries.n = 1;
}

static void teardown(void)
{
    char command[200];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
    sae_buf_fini(&passed);
}

/* What is found, a line each: its name and, behind `dir`, its source. */
static void check_found(const char *want)
{
    struct saed_found f = {.n = 0};
    struct sae_buf b;

    sae_buf_init(&b, 1 << 20);
    ck_assert_int_eq(saed_find(&f, &opts, on_passed, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_buf_add(&b, "", 0), SAE_OK);
    for (size_t i = 0; i < f.n; i++) {
        ck_assert_int_eq(strncmp(f.sources[i].source, dir, strlen(dir)), 0);
        ck_assert_int_eq(
            sae_buf_addf(&b, "%s %s\n", f.sources[i].name, f.sources[i].source + strlen(dir)),
            SAE_OK);
    }
    ck_assert_str_eq(b.data, want);
    sae_buf_fini(&b);
    saed_found_fini(&f);
}

START_TEST(names_and_readings)
{
    put_file(dir, "qwen/layer3.sae.pt", "");
    put_file(dir, "other/a.pt", "");
    put_file(dir, "_x y.npz", "");
    put_file(dir, "deep/er/w.v2.pt", "");
    put_file(dir, "lens.v1/cfg.json", "{}");
    put_file(dir, "lens.v1/sae_weights.safetensors", "");
    check_found("d_x_y /_x y.npz\n"
                "deep.er.w.v2 /deep/er/w.v2.pt\n"
                "lens.v1 /lens.v1\n"
                "other.a /other/a.pt" CUT "k=1\n"
                "qwen.layer3.sae /qwen/layer3.sae.pt" CUT "k=64" CUT "parts=encoder\n");
    ck_assert_uint_eq(passed.len, 0);
}
END_TEST

START_TEST(names_that_are_not_offered)
{
    char path[300];

    put_file(dir, "a/b.pt", "");
    put_file(dir, "a.b.pt", "");
    put_file(dir, "c.pt", "");
    put_file(dir, "c.npz", "");
    put_file(dir, "hidden.pt", "");
    put_file(dir, "x" CUT "y.pt", "");
    memset(path, 'n', 201);
    strcpy(path + 201, ".pt");
    put_file(dir, path, "");
    path[200] = '\0';
    strcat(path, ".pt");
    put_file(dir, path, "");
    path[200] = '\0';
    {
        char want[700];

        snprintf(want, sizeof want, "%s /%s.pt\n", path, path);
        check_found(want);
    }
    ck_assert_ptr_nonnull(strstr(passed.data, "a.b /a.b.pt: "));
    ck_assert_ptr_nonnull(strstr(passed.data, "/a/b.pt makes the same name\n"));
    ck_assert_ptr_nonnull(strstr(passed.data, "a.b /a/b.pt: "));
    ck_assert_ptr_nonnull(strstr(passed.data, "c /c.npz: "));
    ck_assert_ptr_nonnull(strstr(passed.data, "c /c.pt: "));
    ck_assert_ptr_nonnull(strstr(passed.data, "hidden /hidden.pt: a dictionary is named so\n"));
    ck_assert_ptr_nonnull(strstr(passed.data, "y.pt: its path holds a control character\n"));
    ck_assert_ptr_nonnull(strstr(passed.data, "its path makes a name of 201 bytes"));
}
END_TEST

/* Two folders, one of which is a dictionary itself; and both with the same name in them. */
START_TEST(several_folders)
{
    char one[100], two[100];

    put_file(dir, "one/x.pt", "");
    put_file(dir, "one/y.pt", "");
    put_file(dir, "two/cfg.json", "{}");
    put_file(dir, "two/sae.safetensors", "");
    snprintf(one, sizeof one, "%s/one", dir);
    snprintf(two, sizeof two, "%s/two//", dir);
    dirs[0] = one;
    dirs[1] = two;
    opts.dictionaries.n = 2;
    check_found("two /two//\nx /one/x.pt\ny /one/y.pt\n");
    dirs[1] = one; /* twice: nothing is unique any more */
    check_found("");
    ck_assert_ptr_nonnull(strstr(passed.data, "x /one/x.pt: "));
}
END_TEST

START_TEST(what_cannot_be_walked)
{
    char path[100];
    struct saed_found f = {.n = 0};
    struct sae_err err = {0};

    snprintf(path, sizeof path, "%s/none", dir);
    dirs[0] = path;
    ck_assert_int_eq(saed_find(&f, &opts, on_passed, NULL, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert_ptr_null(f.sources);
    saed_found_fini(&f);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    enum sae_status st = SAE_E_NOMEM;
    struct saed_found f = {.n = 0};

    put_file(dir, "a.pt", "");
    put_file(dir, "qwen/b.pt", "");
    for (long fault = 0; st != SAE_OK; fault++) {
        sae_alloc_fault(fault, false);
        st = saed_find(&f, &opts, on_passed, NULL, NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || (st == SAE_E_NOMEM && !f.sources));
    }
    ck_assert_uint_eq(f.n, 2);
    saed_found_fini(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("find");
    TCase *t = tcase_create("find");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, patterns, 0, SAE_COUNTOF(matches));
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, names_and_readings);
    tcase_add_test(t, names_that_are_not_offered);
    tcase_add_test(t, several_folders);
    tcase_add_test(t, what_cannot_be_walked);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
