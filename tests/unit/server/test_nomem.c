/* test_nomem.c - the whole daemon in this process, with saed's own allocations failing one by one
 * by the hook of lib/base (tests/http/test_nomem.c has those of the libraries as well). */
#include "tests/support/nomem.h"

#include "lib/base.h"
#include "server/daemon.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct server s;
static struct saed_opts opts;
static pthread_t daemon_thread;
static long armed;

static void report(void *arg, const struct sae_err *err)
{
    (void)arg;
    fprintf(stderr, "%s\n", err->text);
}

static void *run(void *arg)
{
    bool abandoned;

    (void)arg;
    return (void *)(intptr_t)saed_daemon_run(&opts, report, NULL, &abandoned);
}

/* The daemon's port is what it says on stdout. */
static void start(void)
{
    const char *argv[32] = {"saed", "--listen", "127.0.0.1:0"};
    int argc = 3, out[2], kept = dup(STDOUT_FILENO);
    char line[128] = "";

    for (int i = 0; nomem_args[i]; i++)
        argv[argc++] = nomem_args[i];
    ck_assert_int_eq(saed_opts_parse(&opts, argc, (char *const *)(const void *)argv,
                                     (char *const[]){NULL}, report, NULL),
                     SAE_OK);
    ck_assert_int_eq(pipe(out), 0);
    fflush(stdout);
    dup2(out[1], STDOUT_FILENO);
    close(out[1]);
    ck_assert_int_eq(pthread_create(&daemon_thread, NULL, run, NULL), 0);
    for (size_t n = 0; n + 1 < sizeof line && !strchr(line, '\n'); n++)
        ck_assert_int_eq(read(out[0], line + n, 1), 1);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    close(out[0]);
    ck_assert_int_eq(sscanf(line, "listening on http://127.0.0.1:%d\n", &s.port), 1);
    s.pid = getpid();
}

static void stop(void)
{
    void *rc;

    ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
    ck_assert_int_eq(pthread_join(daemon_thread, &rc), 0);
    ck_assert_ptr_null(rc);
    saed_opts_fini(&opts);
}

static void arm(long n, bool persistent)
{
    armed = n;
    sae_alloc_fault(n, persistent);
}

static long disarm(void)
{
    long calls = (long)sae_alloc_count();

    sae_alloc_fault(-1, false);
    return calls > armed ? calls - armed : 0;
}

START_TEST(a_failing_allocation_is_a_503)
{
    const struct nomem_faults faults = {arm, disarm};

    start();
    nomem_run(&s, _i, &faults);
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
    tcase_add_loop_test(t, a_failing_allocation_is_a_503, 0, nomem_requests());
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
