/* test_keys.c - files of keys: what a line may be, whose a key is, files that are read anew. */
#include "server/api/keys.h"
#include "tests/support/files.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256], paths[2][300];
static char *items[2] = {paths[0], paths[1]};
static const struct saed_list one = {items, 1}, two = {items, 2}, none = {items, 0};
static struct saed_keys *keys;
static char name[SAED_KEY_NAME_MAX + 1];

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%s/saed-keys-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    for (int i = 0; i < 2; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%d", dir, i);
}

static void teardown(void)
{
    char cmd[300];

    saed_keys_free(keys);
    keys = NULL;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(cmd), 0);
}

static const char *whose(const char *key)
{
    return saed_keys_find(keys, key, name) ? name : NULL;
}

START_TEST(a_line_has_a_name_and_a_key)
{
    struct sae_err err = {0};

    put_file(dir, "0",
             "# who may call\n\nalice:one\n  bob.b-2_@x : two:three \t\r\n#carol:four\r\n"
             "alice:five\nlast:~!/+=");
    put_file(dir, "1", "dave:six\n");
    ck_assert_msg(saed_keys_create(&keys, &two, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(saed_keys_count(keys), 5);
    ck_assert_str_eq(whose("one"), "alice");
    ck_assert_str_eq(whose("two:three"), "bob.b-2_@x");
    ck_assert_str_eq(whose("five"), "alice"); /* the next one, before the last one ends */
    ck_assert_str_eq(whose("~!/+="), "last");
    ck_assert_str_eq(whose("six"), "dave");
    ck_assert_ptr_null(whose("four"));
    ck_assert_ptr_null(whose("two"));
    ck_assert_ptr_null(whose("On"));
    ck_assert_ptr_null(whose("one "));
    ck_assert_ptr_null(whose(""));
}
END_TEST

static const struct {
    const char *text, *part;
} faults[] = {
    {"", "there are none"},
    {"# nobody\n\n", "there are none"},
    {"secret\n", "/0:1: want NAME:KEY"},
    {"a:b\n\nsecret:\n", "/0:3: want NAME:KEY"},
    {":secret\n", "/0:1: want NAME:KEY"},
    {"a b:secret\n", "/0:1: want NAME:KEY"},
    {"a:secret secret\n", "/0:1: want NAME:KEY"},
    {"a:secret\x01\n", "/0:1: want NAME:KEY"},
    {"a:secr\xc3\xa9t\n", "/0:1: want NAME:KEY"},
    {"\xc3\xa9:secret\n", "/0:1: want NAME:KEY"},
    {"a:secret\nb:secret\n", "/0:2: the key of \"b\" is that of \"a\" already"},
};

/* The place is told, the text never. */
START_TEST(other_lines_are_refused_by_number)
{
    struct sae_err err = {0};

    put_file(dir, "0", faults[_i].text);
    ck_assert_int_eq(saed_keys_create(&keys, &one, &err), SAE_E_USAGE);
    ck_assert_ptr_null(keys);
    ck_assert_msg(strstr(err.text, faults[_i].part) != NULL, "%s", err.text);
    ck_assert_msg(!strstr(err.text, "secr") && !strstr(err.where, "secr"), "%s", err.text);
}
END_TEST

/* A line of each size at its limit and one beyond; NUL bytes. */
START_TEST(sizes_are_limited)
{
    static char text[2 << 20];
    struct sae_err err = {0};
    size_t n = 0;
    FILE *f;

    for (int beyond = 0; beyond < 2; beyond++) {
        n = (size_t)snprintf(text, sizeof text, "%0*d:%0*d\n", SAED_KEY_NAME_MAX + beyond, 1, 512,
                             1);
        put_file(dir, "0", text);
        ck_assert_int_eq(saed_keys_create(&keys, &one, &err), beyond ? SAE_E_USAGE : SAE_OK);
        saed_keys_free(keys);
        keys = NULL;
        snprintf(text, sizeof text, "a:%0*d\n", 512 + beyond, 1);
        put_file(dir, "0", text);
        err = (struct sae_err){0};
        ck_assert_int_eq(saed_keys_create(&keys, &one, &err), beyond ? SAE_E_USAGE : SAE_OK);
        saed_keys_free(keys);
        keys = NULL;
        err = (struct sae_err){0};
        n = 0;
        for (int i = 0; i < 1024 + beyond; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "a:%d\n", i);
        put_file(dir, "0", text);
        ck_assert_int_eq(saed_keys_create(&keys, &one, &err), beyond ? SAE_E_USAGE : SAE_OK);
        if (!beyond)
            ck_assert_uint_eq(saed_keys_count(keys), 1024);
        saed_keys_free(keys);
        keys = NULL;
        err = (struct sae_err){0};
    }
    memset(text, '#', sizeof text - 1);
    put_file(dir, "0", text);
    ck_assert_int_eq(saed_keys_create(&keys, &one, &err), SAE_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 1048576 bytes"));
    err = (struct sae_err){0};
    f = fopen(paths[0], "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite("a:b\0c\n", 1, 6, f), 6);
    fclose(f);
    ck_assert_int_eq(saed_keys_create(&keys, &one, &err), SAE_E_USAGE);
}
END_TEST

START_TEST(files_are_read_anew_or_not_at_all)
{
    struct sae_err err = {0};

    put_file(dir, "0", "a:one\n");
    put_file(dir, "1", "b:two\n");
    ck_assert_int_eq(saed_keys_create(&keys, &two, &err), SAE_OK);
    put_file(dir, "0", "c:three\n");
    ck_assert_int_eq(saed_keys_reload(keys, &err), SAE_OK);
    ck_assert_ptr_null(whose("one"));
    ck_assert_str_eq(whose("two"), "b");
    ck_assert_str_eq(whose("three"), "c");
    put_file(dir, "0", "d:four\n");
    put_file(dir, "1", "broken\n");
    ck_assert_int_eq(saed_keys_reload(keys, &err), SAE_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "/1:1:"));
    err = (struct sae_err){0};
    ck_assert_int_eq(unlink(paths[1]), 0);
    ck_assert_int_eq(saed_keys_reload(keys, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "No such file"));
    ck_assert_uint_eq(saed_keys_count(keys), 2);
    ck_assert_str_eq(whose("two"), "b");
    ck_assert_str_eq(whose("three"), "c");
}
END_TEST

static void *give_keys(void *arg)
{
    (void)arg;
    put_file(dir, "0", "a:one\n"); /* opens once it is read */
    return NULL;
}

/* At the start it is waited for; then nobody may be. */
START_TEST(a_pipe_is_read_at_the_start_alone)
{
    struct sae_err err = {0};
    pthread_t writer;

    ck_assert_int_eq(mkfifo(paths[0], 0600), 0);
    ck_assert_int_eq(pthread_create(&writer, NULL, give_keys, NULL), 0);
    ck_assert_msg(saed_keys_create(&keys, &one, &err) == SAE_OK, "%s", err.text);
    ck_assert_int_eq(pthread_join(writer, NULL), 0);
    ck_assert_str_eq(whose("one"), "a");
    ck_assert_int_eq(saed_keys_reload(keys, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, paths[0]) && strstr(err.text, "no regular file"), "%s",
                  err.text);
    ck_assert_str_eq(whose("one"), "a");
}
END_TEST

START_TEST(what_cannot_be_read_is_told)
{
    struct sae_err err = {0};

    ck_assert_int_eq(saed_keys_create(&keys, &one, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, paths[0]));
    err = (struct sae_err){0};
    snprintf(paths[0], sizeof paths[0], "%s", dir);
    ck_assert_int_eq(saed_keys_create(&keys, &one, &err), SAE_E_IO);
}
END_TEST

START_TEST(nobody_without_files)
{
    struct sae_err err = {0};

    ck_assert_int_eq(saed_keys_create(&keys, &none, &err), SAE_OK);
    ck_assert_uint_eq(saed_keys_count(keys), 0);
    ck_assert_ptr_null(whose("one"));
}
END_TEST

START_TEST(out_of_memory)
{
    put_file(dir, "0", "a:one\nb:two\n");
    for (long i = 0;; i++) {
        struct sae_err err = {0};
        enum sae_status st;

        sae_alloc_fault(i, true);
        st = saed_keys_create(&keys, &one, &err);
        sae_alloc_fault(-1, false);
        if (st == SAE_OK)
            break;
        ck_assert_int_eq(st, SAE_E_NOMEM);
        ck_assert_int_lt(i, 20);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keys");
    TCase *t = tcase_create("keys");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_line_has_a_name_and_a_key);
    tcase_add_loop_test(t, other_lines_are_refused_by_number, 0, SAE_COUNTOF(faults));
    tcase_add_test(t, sizes_are_limited);
    tcase_add_test(t, files_are_read_anew_or_not_at_all);
    tcase_add_test(t, a_pipe_is_read_at_the_start_alone);
    tcase_add_test(t, what_cannot_be_read_is_told);
    tcase_add_test(t, nobody_without_files);
    tcase_add_test(t, out_of_memory);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
