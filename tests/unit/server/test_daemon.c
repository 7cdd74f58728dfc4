/* test_daemon.c - a signal while loading: what the loader goes on with must outlive the call. */
#include "server/daemon.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t scribbled;
static char loader_task[64];

/* On the loader's thread: end the daemon, and go on when the frame that ran it is no more. */
static void end_while_loading(void *arg, const struct sae_err *err)
{
    (void)arg, (void)err;
    snprintf(loader_task, sizeof loader_task, "/proc/self/task/%d", (int)gettid());
    kill(getpid(), SIGTERM);
    pthread_barrier_wait(&scribbled);
}

/* Where saed_daemon_run had its frame is something else now: true when nobody touches it. */
__attribute__((noinline)) static bool frame_stays(void)
{
    volatile char frame[16384];

    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = 0x5a;
    pthread_barrier_wait(&scribbled);
    while (access(loader_task, F_OK) == 0)
        usleep(1000);
    for (size_t i = 0; i < sizeof frame; i++)
        if (frame[i] != 0x5a)
            return false;
    return true;
}

/* The loader wrote its result into a frame that had returned. */
START_TEST(a_loader_outlives_the_daemon)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct saed_source source = {.name = "a", .source = "Makefile/no/such.pt"};
        static char address[] = "127.0.0.1:0";
        struct saed_opts o = {.listen = {(char *[]){address}, 1},
                              .threads = 1,
                              .http_threads = 1,
                              .max_connections = 10,
                              .request_timeout_ms = 1000,
                              .sources = &source,
                              .n_sources = 1};
        bool abandoned = false;

        pthread_barrier_init(&scribbled, NULL, 2);
        if (saed_daemon_run(&o, end_while_loading, NULL, &abandoned) != 0 || !abandoned)
            _exit(2);
        _exit(frame_stays() ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("daemon");
    TCase *t = tcase_create("daemon");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, a_loader_outlives_the_daemon);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
