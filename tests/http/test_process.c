/* test_process.c - saed as a process among others: signals that are not for it, standard
 * descriptors that are closed, full, or read by nobody. */
#include "tests/http/support.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 30000

/* Spawn with these descriptors as 0, 1 and 2 (-1: closed). */
static struct server spawn(const int fds[3], const char *const *args)
{
    const char *bin = getenv("SAED_BIN"), *argv[16] = {bin ? bin : "build/saed"};
    struct server s = {.out = -1, .err = -1};
    pid_t parent = getpid();

    for (int n = 0; args[n]; n++) {
        ck_assert_int_lt(n, 14);
        argv[n + 1] = args[n];
    }
    s.pid = fork();
    ck_assert_int_ge(s.pid, 0);
    if (s.pid == 0) {
        int high[3];

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
        for (int i = 0; i < 3; i++)
            high[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
        for (int i = 0; i < 3; i++)
            if (high[i] < 0)
                close(i);
            else
                dup2(high[i], i);
        execv(argv[0], (char *const *)(const void *)argv);
        _exit(127);
    }
    return s;
}

/* A daemon on a port of ours, once it is ready. */
static struct server spawn_ready(const int fds[3])
{
    char listen[64];
    struct server s;
    int port = free_port(), status = 0;

    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    s = spawn(fds, (const char *const[]){"--listen", listen, "--access-log", "i=identity:2", NULL});
    s.port = port;
    snprintf(s.url, sizeof s.url, "http://127.0.0.1:%d", port);
    for (int i = 0; i < MS / 10 && status != 200; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            struct reply r = get(&s, "/readyz");

            status = r.status;
            reply_free(&r);
        }
        close(fd);
        usleep(10000);
    }
    ck_assert_int_eq(status, 200);
    return s;
}

static void encodes(const struct server *s)
{
    struct reply r = post_json(s, "/v1/dictionaries/i/encode", "{\"x\":[1,2]}");

    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
}

/* Until `text` stands on its stderr, n times. */
static void logs(const struct server *s, const char *text, int n)
{
    int found = 0;

    for (int i = 0; i < MS / 10 && found < n; i++) {
        char *err = server_stderr(s);

        found = 0;
        for (const char *at = err; (at = strstr(at, text)) != NULL; at++)
            found++;
        free(err);
        usleep(10000);
    }
    ck_assert_int_eq(found, n);
}

START_TEST(signals_that_end_others)
{
    struct server s = server_start((const char *const[]){"i=identity:2", NULL});

    server_signal(&s, SIGUSR1);
    server_signal(&s, SIGUSR2);
    for (int n = 1; n <= 3; n++) {
        server_signal(&s, SIGHUP);
        logs(&s, "info hup reload=\"there is nothing to reload\"", n);
        encodes(&s);
    }
    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    logs(&s, "info stopped while=serving signals=1", 1);
}
END_TEST

/* Three seconds of making weights, and a signal meanwhile. */
START_TEST(a_signal_while_loading_is_logged)
{
    struct server s = server_spawn((const char *const[]){"--listen", "127.0.0.1:0", "--threads",
                                                         "1", "a=init:AutoEncoder:1024:65536",
                                                         "b=init:AutoEncoder:1024:65536", NULL});

    logs(&s, "info start ", 1);
    server_signal(&s, SIGHUP);
    logs(&s, "info hup ", 1);
    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    logs(&s, "info stopped while=loading signals=1", 1);
}
END_TEST

START_TEST(closed_descriptors_are_dev_null)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), fds[3];
    struct server s;

    for (int i = 0; i < 3; i++) /* each bit: closed; the last: all */
        fds[i] = (_i + 1) >> i & 1 ? -1 : null;
    s = spawn_ready(fds);
    encodes(&s);
    for (int i = 0; i < 3; i++) {
        char link[64], path[64] = "";

        snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)s.pid, i);
        ck_assert_int_gt(readlink(link, path, sizeof path - 1), 0);
        ck_assert_str_eq(path, "/dev/null");
    }
    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    close(null);
}
END_TEST

static const struct {
    const char *args[3], *reason;
} exits[] = {
    {{"--help"}, "saed: cannot write to stdout: No space left on device\n"},
    {{"--version"}, "saed: cannot write to stdout: No space left on device\n"},
    {{"--version", "--verbose"}, "saed: cannot write to stdout: No space left on device\n"},
    {{"--check", "i=identity:2"}, "saed: cannot write to stdout: No space left on device\n"},
    {{"--listen", "127.0.0.1:0", "a=/nothing.pt"}, "saed: a: cannot load /nothing.pt: "},
};

START_TEST(exit_1_has_its_reason)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), err[2];
    const char *args[4] = {exits[_i].args[0], exits[_i].args[1], exits[_i].args[2], NULL};
    char text[4096] = "";
    struct server s;
    size_t n = 0;

    ck_assert_int_eq(pipe2(err, O_CLOEXEC), 0);
    s = spawn((const int[]){full, full, err[1]}, args);
    close(err[1]);
    for (ssize_t got;
         n + 1 < sizeof text && (got = read(err[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)got;
    ck_assert_int_eq(server_wait(&s, MS), 1);
    ck_assert_msg(strstr(text, exits[_i].reason) != NULL, "%s", text);
    close(err[0]);
    close(full);
}
END_TEST

/* A daemon whose line cannot be written serves, and says so. */
START_TEST(stdout_is_full)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), log = memfd_create("stderr", MFD_CLOEXEC);
    struct server s = spawn_ready((const int[]){full, full, log});

    s.err = log;
    encodes(&s);
    logs(&s, "warn stdout error=\"No space left on device\"", 1);
    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    close(full);
}
END_TEST

/* The write end, blocking as a parent's usually is, of a pipe that takes nothing more. */
static int full_pipe(int *reader)
{
    char page[4096] = {0};
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    while (write(fds[1], page, sizeof page) > 0)
        ;
    while (write(fds[1], page, 1) > 0)
        ;
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_eq(fcntl(fds[1], F_SETFL, 0), 0);
    *reader = fds[0];
    return fds[1];
}

START_TEST(nobody_reads_stdout_and_stderr)
{
    static char text[1 << 20];
    int out, err;
    int fds[3] = {open("/dev/null", O_RDONLY | O_CLOEXEC), full_pipe(&out), full_pipe(&err)};
    struct server s = spawn_ready(fds);
    size_t n = 0;

    for (int i = 0; i < 100; i++)
        encodes(&s);
    if (_i == 0) { /* somebody reads after all: the line is there */
        while (n < 64 || !memmem(text, n, "listening on http://", 20)) {
            ssize_t got = read(out, text + n, sizeof text - n);

            ck_assert_int_gt(got, 0);
            n += (size_t)got;
        }
    }
    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, 5000), 0);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    close(out);
    close(err);
}
END_TEST

/* A line for each request, and a pipe that has no room for them: requests are answered as ever, and
 * once somebody reads, each line is whole and the next says how many are missing. */
START_TEST(nobody_reads_the_access_log)
{
    static char text[1 << 20];
    int err[2], n_requests = 600, arrived = 0, log = memfd_create("stdout", MFD_CLOEXEC);
    struct server s;
    ssize_t n;
    char *at;

    ck_assert_int_eq(pipe2(err, O_CLOEXEC), 0);
    s = spawn_ready((const int[]){-1, log, err[1]});
    for (int i = 0; i < n_requests; i++)
        encodes(&s);
    ck_assert_int_eq(fcntl(err[0], F_SETFL, O_NONBLOCK), 0);
    n = read(err[0], text, sizeof text - 1);
    ck_assert_int_gt(n, 60000);
    ck_assert_int_eq(text[n - 1], '\n');
    text[n] = '\0';
    for (at = text; (at = strstr(at, " access ")); at++)
        arrived++;
    ck_assert_int_lt(arrived, n_requests);
    encodes(&s);
    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    n = read(err[0], text, sizeof text - 1);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    at = strstr(text, " log_dropped=");
    ck_assert_msg(at && at < strchr(text, '\n'), "%s", text);
    ck_assert_int_ge(atoi(at + strlen(" log_dropped=")), n_requests - arrived);
    close(err[0]);
    close(err[1]);
    close(log);
}
END_TEST

START_TEST(nobody_reads_why_it_does_not_start)
{
    int out, err;
    int fds[3] = {open("/dev/null", O_RDONLY | O_CLOEXEC), full_pipe(&out), full_pipe(&err)};
    struct server s =
        spawn(fds, (const char *const[]){"--listen", "127.0.0.1:0", "a=/nothing.pt",
                                         "b=/nothing.pt", "c=/nothing.pt", "d=/nothing.pt", NULL});

    ck_assert_int_eq(server_wait(&s, 10000), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("process");
    TCase *t = tcase_create("process");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_test(t, signals_that_end_others);
    tcase_add_test(t, a_signal_while_loading_is_logged);
    tcase_add_loop_test(t, closed_descriptors_are_dev_null, 0, 7);
    tcase_add_loop_test(t, exit_1_has_its_reason, 0, sizeof exits / sizeof exits[0]);
    tcase_add_test(t, stdout_is_full);
    tcase_add_loop_test(t, nobody_reads_stdout_and_stderr, 0, 2);
    tcase_add_test(t, nobody_reads_the_access_log);
    tcase_add_test(t, nobody_reads_why_it_does_not_start);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
