/* test_openblas.c - OpenBLAS is loaded when it is asked for, has no thread of its own, and a daemon
 * that does not ask for it does without it. */
#include "tests/http/support.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS 30000

static bool maps_openblas(const struct server *s)
{
    char path[64], line[4096];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/maps", (int)s->pid);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f))
        found = found || strstr(line, "openblas") != NULL;
    fclose(f);
    return found;
}

static size_t threads(const struct server *s)
{
    char path[64];
    size_t n = 0;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%d/task", (int)s->pid);
    d = opendir(path);
    ck_assert_ptr_nonnull(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void encodes(const struct server *s)
{
    struct reply r = post_json(s, "/v1/dictionaries/a/encode", "{\"x\":[1,2,3,4]}");

    ck_assert_msg(r.status == 200, "%s", r.body);
    reply_free(&r);
}

/* What a server on `engine` has once it has answered. */
static size_t threads_with(const char *engine, bool mapped)
{
    struct server s = server_start((const char *const[]){"--threads", "2", "--engine", engine,
                                                         "a=init:AutoEncoder:4:8", NULL});
    size_t n;

    encodes(&s);
    n = threads(&s);
    ck_assert_msg(maps_openblas(&s) == mapped, "%s", engine);
    ck_assert_int_eq(server_stop(&s), 0);
    return n;
}

/* It was linked, and started a thread for each CPU but one before main. */
START_TEST(no_thread_of_its_own)
{
    size_t n = threads_with("native", false);

    ck_assert_uint_eq(threads_with("auto", false), n);
    ck_assert_uint_eq(threads_with("openblas", true), n);
    setenv("OPENBLAS_NUM_THREADS", "2", 1);
    ck_assert_uint_eq(threads_with("openblas", true), n);
}
END_TEST

/* An empty file stands before the library where the loader looks. */
START_TEST(without_the_library)
{
    char dir[] = "/tmp/saed-test-XXXXXX", file[64];
    struct server s;
    char *err;
    FILE *f;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/libopenblas.so.0", dir);
    f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
    setenv("LD_LIBRARY_PATH", dir, 1);
    s = server_start((const char *const[]){"a=init:AutoEncoder:4:8", NULL});
    encodes(&s);
    ck_assert_int_eq(server_stop(&s), 0);
    for (int check = 0; check < 2; check++) {
        /* a weights file that is not there: the engine is looked at first */
        s = server_spawn((const char *const[]){"--engine", "openblas", "--listen", "127.0.0.1:0",
                                               "a=/nothing.pt", check ? "--check" : NULL, NULL});
        ck_assert_int_eq(server_wait(&s, MS), 1);
        err = server_stderr(&s);
        ck_assert_msg(strncmp(err, "saed: ", 6) == 0 && strchr(err, '\n') == err + strlen(err) - 1,
                      "%s", err);
        ck_assert_ptr_nonnull(strstr(err, "libopenblas.so.0"));
        ck_assert_ptr_nonnull(strstr(err, "libopenblas0-pthread"));
        free(err);
    }
    unsetenv("LD_LIBRARY_PATH");
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("openblas");
    TCase *t = tcase_create("openblas");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_test(t, no_thread_of_its_own);
    tcase_add_test(t, without_the_library);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
