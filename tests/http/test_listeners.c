/* test_listeners.c - several addresses, Unix sockets, sockets that were passed: the lines on
 * stdout, what is answered where, what is left behind. */
#include "tests/http/support_body.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MS 20000
#define MB (1u << 20)
#define ENCODE "/v1/dictionaries/i/encode"

static char dir[256], path[300], listen_unix[320];

static void make_dir(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%s/saed-listen-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(listen_unix, sizeof listen_unix, "unix:%s", path);
}

static void remove_dir(void)
{
    ck_assert_int_eq(rmdir(dir), 0); /* no socket is left */
}

/* `n` lines of stdout, or fail. */
static char *lines_of(const struct server *s, int n)
{
    long long end = test_now_ms() + MS;
    struct text t = {0};

    text_add(&t, "", 0);
    while (n > 0) {
        struct pollfd p = {.fd = s->out, .events = POLLIN};
        char c;

        if (poll(&p, 1, (int)(end - test_now_ms())) <= 0 || read(s->out, &c, 1) != 1)
            ck_abort_msg("no line after \"%s\"; stderr: %s", t.p, server_stderr(s));
        text_add(&t, &c, 1);
        n -= c == '\n';
    }
    return t.p;
}

static int connect_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.107s", path);
    ck_assert_msg(connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "%s: %s", path,
                  strerror(errno));
    return fd;
}

static struct reply ask(int fd, const char *text)
{
    struct reply r;

    raw_send(fd, text);
    r = raw_reply(fd, true, MS);
    return r;
}

static void answers(int fd, const char *text, int status)
{
    struct reply r = ask(fd, text);

    ck_assert_msg(r.status == status, "%s: %d %s", text, r.status, r.body);
    reply_free(&r);
}

/* Each has its line, in order, once all serve; Host is guarded where it matters. */
START_TEST(several_addresses_have_a_line_each)
{
    static const char get_v1[] = "GET /v1 HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    char third[32], *lines, *rest;
    int ports[2], fd;
    struct server s;
    struct stat file;

    snprintf(third, sizeof third, "0.0.0.0:%d", free_port());
    s = server_spawn((const char *const[]){"--listen", "127.0.0.1:0", "--listen", listen_unix,
                                           "--listen", third, "--insecure-no-auth", "i=identity:4",
                                           NULL});
    lines = lines_of(&s, 3);
    ck_assert_int_eq(sscanf(lines, "listening on http://127.0.0.1:%d\n", &ports[0]), 1);
    rest = strchr(lines, '\n') + 1;
    ck_assert_int_eq(strncmp(rest, "listening on unix:", 18), 0);
    ck_assert_int_eq(strncmp(rest + 18, path, strlen(path)), 0);
    rest = strchr(rest, '\n') + 1;
    ck_assert_int_eq(sscanf(rest, "listening on http://0.0.0.0:%d\n", &ports[1]), 1);
    free(lines);
    for (int i = 0; i < 2; i++) {
        s.port = ports[i];
        fd = raw_connect(&s);
        answers(fd, get_v1, i == 0 ? 403 : 200);
        close(fd);
    }
    fd = connect_unix();
    answers(fd, get_v1, 200);
    close(fd);
    ck_assert_int_eq(lstat(path, &file), 0);
    ck_assert_int_eq(server_stop(&s), 0);
    ck_assert_int_ne(lstat(path, &file), 0);
}
END_TEST

/* The exit status of --probe. */
static int probe(const char *address)
{
    struct server s = server_spawn((const char *const[]){"--probe", address, NULL});
    int status = server_wait(&s, MS);

    close(s.out);
    close(s.err);
    return status;
}

/* A connection over a Unix socket goes on after answers, good and bad, and takes large bodies. */
START_TEST(a_unix_socket_serves_as_a_port_does)
{
    static float row[4] = {1, 2, 3, 4};
    static char spaces[MB];
    const char *const args[] = {"--listen", listen_unix,    "--max-json-bytes",
                                "4M",       "i=identity:4", NULL};
    struct server s = server_spawn(args);
    struct reply r;
    int fd;

    free(lines_of(&s, 1));
    ck_assert_int_eq(probe(listen_unix), 0);
    fd = connect_unix();
    answers(fd, "GET /healthz HTTP/1.1\r\nHost: saed\r\n\r\n", 200);
    answers(fd, "GET /none HTTP/1.1\r\nHost: saed\r\n\r\n", 404);
    answers(fd,
            "POST " ENCODE " HTTP/1.1\r\nHost: saed\r\nContent-Type: application/json\r\n"
            "Content-Length: 15\r\n\r\n{\"x\":[1,2,3,4]}",
            200);
    answers(fd,
            "POST " ENCODE " HTTP/1.1\r\nHost: saed\r\nContent-Type: application/json\r\n"
            "Content-Length: 1\r\n\r\n{",
            400);
    /* one that is read in many pieces, and an answer as large */
    raw_send(fd, "POST " ENCODE " HTTP/1.1\r\nHost: saed\r\nContent-Length: 1048576\r\n"
                 "Content-Type: application/octet-stream\r\n\r\n");
    for (size_t i = 0; i < MB / sizeof row; i++)
        memcpy(spaces + i * sizeof row, row, sizeof row);
    raw_send_bytes(fd, spaces, MB / 16);
    raw_send_bytes(fd, spaces + MB / 16, MB - MB / 16);
    r = raw_reply(fd, true, MS);
    if (r.status == 413) /* 65,536 rows are more than a queue holds */
        ck_assert_str_eq(json_member(&r, "code"), "too_many_rows");
    else
        ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    close(fd);
    /* refused by its length, and sent all the same */
    fd = connect_unix();
    raw_send(fd, "POST " ENCODE " HTTP/1.1\r\nHost: saed\r\nContent-Length: 8388608\r\n"
                 "Content-Type: application/json\r\n\r\n");
    for (size_t left = 8 * MB; left > 0;) {
        ssize_t n = send(fd, spaces, left < MB ? left : MB, MSG_NOSIGNAL);

        ck_assert_msg(n > 0, "%zu bytes before its end: %s", left, strerror(errno));
        left -= (size_t)n;
    }
    r = raw_reply(fd, true, MS);
    check_problem(&r, 413, "body_too_large", NULL, "--max-json-bytes");
    reply_free(&r);
    close(fd);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* A killed daemon's file does not stop the next; a living one's does. */
START_TEST(a_killed_daemon_leaves_a_file_that_is_replaced)
{
    const char *const args[] = {"--listen", listen_unix, "i=identity:4", NULL};
    struct server s = server_spawn(args), second;
    char *err;
    int fd;

    free(lines_of(&s, 1));
    second = server_spawn(args);
    ck_assert_int_eq(server_wait(&second, MS), 1);
    err = server_stderr(&second);
    ck_assert_msg(strstr(err, "cannot listen on unix:") && strstr(err, "in use"), "%s", err);
    free(err);
    close(second.out);
    close(second.err);
    server_signal(&s, SIGKILL);
    server_wait(&s, MS);
    close(s.out);
    close(s.err);
    ck_assert_int_eq(access(path, F_OK), 0);
    s = server_spawn(args);
    free(lines_of(&s, 1));
    fd = connect_unix();
    answers(fd, "GET /healthz HTTP/1.1\r\nHost: saed\r\n\r\n", 200);
    close(fd);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* A daemon that cannot load, or is told to stop while it loads, leaves no file either. */
START_TEST(nothing_is_left_by_who_does_not_serve)
{
    struct server s =
        server_spawn((const char *const[]){"--listen", listen_unix, "a=/nothing.pt", NULL});

    ck_assert_int_eq(server_wait(&s, MS), 1);
    ck_assert_int_ne(access(path, F_OK), 0);
    close(s.out);
    close(s.err);
}
END_TEST

/* ---- passed ---------------------------------------------------------------------------------- */

/* Run the daemon with descriptors from 3 on, as systemd does. */
static struct server spawn_passed(const int *fds, int n, const char *const *args)
{
    const char *bin = getenv("SAED_BIN");
    const char *argv[16] = {bin ? bin : "build/saed"};
    struct server s = {0};
    int out[2];

    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    s.err = memfd_create("stderr", MFD_CLOEXEC);
    ck_assert_int_eq(fcntl(s.err, F_SETFL, O_APPEND), 0);
    s.pid = fork();
    ck_assert_int_ge(s.pid, 0);
    if (s.pid == 0) {
        char text[32];
        int high[4];

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        dup2(s.err, STDERR_FILENO);
        for (int i = 0; i < n; i++)
            high[i] = fcntl(fds[i], F_DUPFD, 64);
        for (int i = 0; i < n; i++)
            dup2(high[i], 3 + i);
        snprintf(text, sizeof text, "%d", getpid());
        setenv("LISTEN_PID", text, 1);
        snprintf(text, sizeof text, "%d", n);
        setenv("LISTEN_FDS", text, 1);
        execv(argv[0], (char *const *)(const void *)argv);
        _exit(127);
    }
    close(out[1]);
    s.out = out[0];
    return s;
}

static int listening(const char *host, int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(inet_pton(AF_INET, host, &a.sin_addr), 1);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int listening_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.107s", path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    return fd;
}

/* Who connects before there is a daemon is answered by it; the file stays, for the next one. */
START_TEST(sockets_that_are_passed_are_served)
{
    int port, fds[2] = {listening("127.0.0.1", &port), listening_unix()}, early, fd;
    struct server s = {.port = port};
    char want[400], *lines;

    early = raw_connect(&s);
    raw_send(early, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    s = spawn_passed(fds, 2,
                     (const char *const[]){"--listen", "127.0.0.1:1", "i=identity:4", NULL});
    s.port = port;
    lines = lines_of(&s, 2);
    snprintf(want, sizeof want, "listening on http://127.0.0.1:%d\nlistening on unix:%s\n", port,
             path);
    ck_assert_str_eq(lines, want);
    free(lines);
    answers(early, "", 200);
    close(early);
    fd = raw_connect(&s);
    answers(fd, "GET /v1 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403);
    close(fd);
    fd = connect_unix();
    answers(fd, "GET /v1 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200);
    close(fd);
    ck_assert_int_eq(server_stop(&s), 0);
    close(fds[0]);
    close(fds[1]);
    ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(passed_sockets_are_looked_at)
{
    static const struct {
        const char *option, *want;
        int status;
    } cases[] = {
        {"--threads=1", "cannot listen on 0.0.0.0, which was passed: it wants --api-key-file", 1},
        {"--insecure-no-auth", NULL, 0},
        {NULL, "cannot listen on descriptor 3, which was passed", 1},
    };
    int port, fd = cases[_i].option ? listening("0.0.0.0", &port) : open("/dev/null", O_RDONLY);
    struct server s =
        spawn_passed(&fd, 1,
                     (const char *const[]){cases[_i].option ? cases[_i].option : "--threads=1",
                                           "i=identity:4", NULL});
    char *err;

    if (!cases[_i].want)
        free(lines_of(&s, 1));
    ck_assert_int_eq(cases[_i].want ? server_wait(&s, MS) : server_stop(&s), cases[_i].status);
    if (cases[_i].want) {
        err = server_stderr(&s);
        ck_assert_msg(strstr(err, cases[_i].want) != NULL, "%s", err);
        free(err);
        close(s.out);
        close(s.err);
    }
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listeners");
    TCase *t = tcase_create("listeners");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, make_dir, remove_dir);
    tcase_add_test(t, several_addresses_have_a_line_each);
    tcase_add_test(t, a_unix_socket_serves_as_a_port_does);
    tcase_add_test(t, a_killed_daemon_leaves_a_file_that_is_replaced);
    tcase_add_test(t, nothing_is_left_by_who_does_not_serve);
    tcase_add_test(t, sockets_that_are_passed_are_served);
    tcase_add_loop_test(t, passed_sockets_are_looked_at, 0, 3);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
