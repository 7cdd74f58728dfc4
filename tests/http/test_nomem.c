/* test_nomem.c - the daemon when memory runs out, its libraries' memory as well: a library is
 * preloaded (tests/shim/nomem.c) that fails the n-th allocation of the process. */
#include "tests/shim/nomem.h"
#include "tests/support/nomem.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct server s;
static struct nomem *page;

static void arm(long n, bool persistent)
{
    atomic_store(&page->n_failed, 0);
    atomic_store(&page->persistent, persistent);
    atomic_store(&page->left, n);
}

static long disarm(void)
{
    atomic_store(&page->left, -1);
    return atomic_load(&page->n_failed);
}

static void make_page(int *fd)
{
    *fd = memfd_create("nomem", 0);
    ck_assert_int_ge(*fd, 0);
    ck_assert_int_eq(ftruncate(*fd, sizeof *page), 0);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    ck_assert(page != MAP_FAILED);
    atomic_store(&page->left, -1);
}

/* Spawned with the library in front of it, which this program goes without. */
static void start_with(const char *const *args)
{
    const char *bin = getenv("SAED_BIN");
    char shim[512], number[16];
    int fd;

    make_page(&fd);
    snprintf(shim, sizeof shim, "%.400s", bin ? bin : "build/saed");
    ck_assert_ptr_nonnull(strrchr(shim, '/'));
    strcpy(strrchr(shim, '/'), "/tests/nomem.so");
    ck_assert_msg(access(shim, R_OK) == 0, "%s is missing", shim);
    snprintf(number, sizeof number, "%d", fd);
    setenv("LD_PRELOAD", shim, 1);
    setenv("SAED_NOMEM_FD", number, 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:allocator_may_return_null=1", 1);
    s = server_start(args);
    unsetenv("LD_PRELOAD");
    close(fd);
}

static void start(void)
{
    start_with(nomem_args);
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

START_TEST(a_failing_allocation_is_a_503)
{
    const struct nomem_faults faults = {arm, disarm};

    nomem_run(&s, _i, &faults);
}
END_TEST

/* What an engine allocates when it first computes is made again for the next request, if it failed
 * with the first. */
START_TEST(the_first_batches_of_an_engine)
{
    static const char *const engines[] = {"native", "openblas"};
    const char *const args[] = {"--engine", engines[_i % 2], "a=init:AutoEncoder:128:512", NULL};
    const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    static float x[100 * 128];
    const long n = 8 + _i / 2 * 4; /* behind the connection's own */
    struct reply r, again;

    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        x[i] = (float)(i % 17) - 8;
    start_with(args);
    arm(n, true);
    r = request(&s, "POST", "/v1/dictionaries/a/forward", headers, x, sizeof x);
    ck_assert_int_gt(disarm(), 0);
    again = request(&s, "POST", "/v1/dictionaries/a/forward", headers, x, sizeof x);
    ck_assert_int_eq(again.status, 200);
    ck_assert_msg(r.status == 503, "allocation %ld: %d", n, r.status);
    reply_free(&r);
    reply_free(&again);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nomem");
    TCase *t = tcase_create("nomem");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_loop_test(t, a_failing_allocation_is_a_503, 0, nomem_requests());
    suite_add_tcase(suite, t);
    t = tcase_create("first");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, the_first_batches_of_an_engine, 0, 2 * 3);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
