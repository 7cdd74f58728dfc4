/* test_probe.c - the health check against a server of a few lines, and against none. */
#include "server/probe.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Accepts one connection, keeps what it is sent up to the blank line, answers, closes. */
struct server {
    int fd;
    unsigned port;
    const char *answer; /* NULL: say nothing until the client goes */
    bool byte_by_byte;
    char request[4096];
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct server *s = arg;
    int c = accept(s->fd, NULL, NULL);
    size_t n = 0;
    ssize_t k;

    while (n < sizeof s->request - 1 && !strstr(s->request, "\r\n\r\n") &&
           (k = recv(c, s->request + n, sizeof s->request - 1 - n, 0)) > 0)
        n += (size_t)k;
    if (!s->answer) {
        char b;

        while (recv(c, &b, 1, 0) > 0)
            ;
    } else if (s->byte_by_byte) {
        for (const char *p = s->answer; *p; p++)
            if (send(c, p, 1, MSG_NOSIGNAL) != 1)
                break;
    } else {
        send(c, s->answer, strlen(s->answer), MSG_NOSIGNAL);
    }
    close(c);
    return NULL;
}

static bool listen_on(struct server *s, int family)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *a = family == AF_INET ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6;
    socklen_t n = family == AF_INET ? sizeof a4 : sizeof a6;

    s->fd = socket(family, SOCK_STREAM, 0);
    if (s->fd < 0)
        return false;
    if (bind(s->fd, a, n) != 0 || listen(s->fd, 8) != 0 || getsockname(s->fd, a, &n) != 0) {
        close(s->fd);
        return false;
    }
    s->port = ntohs(family == AF_INET ? a4.sin_port : a6.sin6_port);
    return true;
}

static void listen_at(struct server *s, const char *path, int queue)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    s->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_ge(s->fd, 0);
    ck_assert_int_eq(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(s->fd, queue), 0);
}

static void start(struct server *s)
{
    ck_assert(listen_on(s, AF_INET));
    ck_assert_int_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static const struct {
    const char *answer;
    enum sae_status want;
    const char *part;
} answers[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", SAE_OK, ""},
    {"HTTP/1.0 200\r\n\r\n", SAE_OK, ""},
    {"HTTP/1.1 200 OK\n\n", SAE_OK, ""},
    {"HTTP/1.1 503 Service Unavailable\r\n\r\n", SAE_E_IO, "status 503"},
    {"HTTP/1.1 204 No Content\r\n\r\n", SAE_E_IO, "status 204"},
    {"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", SAE_E_IO, "status 301"},
    {"HTTP/1.1 2000 OK\r\n\r\n", SAE_E_IO, "not HTTP"},
    {"HTTP/1.1 20\r\n\r\n", SAE_E_IO, "not HTTP"},
    {"HTTP/2 200 OK\r\n\r\n", SAE_E_IO, "not HTTP"},
    {"200 OK\r\n\r\n", SAE_E_IO, "not HTTP"},
    {"\r\n", SAE_E_IO, "not HTTP"},
    {"HTTP/1.1 200", SAE_E_IO, "closed before an answer"},
    {"", SAE_E_IO, "closed before an answer"},
};

START_TEST(the_status_decides)
{
    for (int slow = 0; slow < 2; slow++) {
        struct server s = {.answer = answers[_i].answer, .byte_by_byte = slow};
        struct sae_err err = {0};
        char url[128];

        start(&s);
        snprintf(url, sizeof url, "http://127.0.0.1:%u/readyz?full=1#top", s.port);
        ck_assert_msg(saed_probe_within(url, 5000, &err) == answers[_i].want, "\"%s\": %s",
                      answers[_i].answer, err.text);
        ck_assert_msg(strstr(err.text, answers[_i].part), "%s", err.text);
        stop(&s);
        ck_assert_ptr_eq(strstr(s.request, "GET /readyz?full=1 HTTP/1.1\r\nHost: 127.0.0.1:"),
                         s.request);
        ck_assert_ptr_nonnull(strstr(s.request, "\r\nConnection: close\r\n"));
    }
}
END_TEST

START_TEST(exit_statuses)
{
    struct server up = {.answer = "HTTP/1.1 200 OK\r\n\r\n"};
    struct server down = {.answer = "HTTP/1.1 503 No\r\n\r\n"};
    char url[128];

    start(&up);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", up.port);
    ck_assert_int_eq(saed_probe(url), 0);
    stop(&up);
    ck_assert_ptr_eq(strstr(up.request, "GET / HTTP/1.1\r\n"), up.request);
    start(&down);
    snprintf(url, sizeof url, "HTTP://localhost:%u?x", down.port);
    ck_assert_int_eq(saed_probe(url), 1);
    stop(&down);
    ck_assert_ptr_eq(strstr(down.request, "GET /?x HTTP/1.1\r\n"), down.request);
}
END_TEST

/* What --listen takes is asked for its health. */
START_TEST(an_address_of_listen)
{
    struct server s = {.answer = "HTTP/1.1 200 OK\r\n\r\n"};
    struct sae_err err = {0};
    char text[64];

    start(&s);
    snprintf(text, sizeof text, "127.0.0.1:%u", s.port);
    ck_assert_msg(saed_probe_within(text, 5000, &err) == SAE_OK, "%s", err.text);
    stop(&s);
    snprintf(text, sizeof text, "Host: 127.0.0.1:%u\r\n", s.port);
    ck_assert_ptr_eq(strstr(s.request, "GET /healthz HTTP/1.1\r\n"), s.request);
    ck_assert_ptr_nonnull(strstr(s.request, text));
}
END_TEST

START_TEST(a_unix_socket)
{
    static const char *const modes[] = {"", ":0660"};
    char dir[] = "/tmp/saed-probe-XXXXXX", path[64], text[96];
    struct sae_err err = {0};

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s:1", dir);
    for (size_t i = 0; i < SAE_COUNTOF(modes); i++) {
        struct server s = {.answer = "HTTP/1.1 200 OK\r\n\r\n"};

        listen_at(&s, path, 8);
        ck_assert_int_eq(pthread_create(&s.thread, NULL, serve, &s), 0);
        snprintf(text, sizeof text, "unix:%s%s", path, modes[i]);
        ck_assert_msg(saed_probe_within(text, 5000, &err) == SAE_OK, "%s", err.text);
        stop(&s);
        ck_assert_ptr_eq(strstr(s.request, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"),
                         s.request);
        ck_assert_int_eq(saed_probe_within(text, 5000, &err), SAE_E_IO); /* a file left behind */
        ck_assert_msg(strstr(err.text, "refused"), "%s", err.text);
        ck_assert_int_eq(unlink(path), 0);
    }
    err = (struct sae_err){0};
    ck_assert_int_eq(saed_probe_within(text, 5000, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "No such file"), "%s", err.text);
    rmdir(dir);
}
END_TEST

/* Nobody accepts, and there is no room to wait in. */
START_TEST(a_full_unix_socket_costs_the_timeout)
{
    char dir[] = "/tmp/saed-probe-XXXXXX", path[64], text[96];
    struct server s = {0};
    struct sae_err err = {0};
    int waiting[2];
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    listen_at(&s, path, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    for (size_t i = 0; i < SAE_COUNTOF(waiting); i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(waiting[i], (struct sockaddr *)&a, sizeof a);
    }
    snprintf(text, sizeof text, "unix:%s", path);
    ck_assert_int_eq(saed_probe_within(text, 100, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "timed out"), "%s", err.text);
    for (size_t i = 0; i < SAE_COUNTOF(waiting); i++)
        close(waiting[i]);
    close(s.fd);
    unlink(path);
    rmdir(dir);
}
END_TEST

START_TEST(nobody_listens)
{
    struct server s = {0};
    struct sae_err err = {0};
    char url[128];

    ck_assert(listen_on(&s, AF_INET));
    close(s.fd);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", s.port);
    ck_assert_int_eq(saed_probe_within(url, 5000, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "refused"), "%s", err.text);
}
END_TEST

START_TEST(a_silent_server_costs_the_timeout_and_no_more)
{
    struct server s = {0};
    struct sae_err err = {0};
    struct timespec a, b;
    char url[128];
    double took;

    start(&s);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", s.port);
    clock_gettime(CLOCK_MONOTONIC, &a);
    ck_assert_int_eq(saed_probe_within(url, 200, &err), SAE_E_IO);
    clock_gettime(CLOCK_MONOTONIC, &b);
    stop(&s);
    took = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    ck_assert_msg(strstr(err.text, "timed out"), "%s", err.text);
    ck_assert_msg(took >= 0.15 && took < 3.0, "%f s", took);
}
END_TEST

START_TEST(ipv6)
{
    struct server s = {.answer = "HTTP/1.1 200 OK\r\n\r\n"};
    struct sae_err err = {0};
    char url[128];

    if (!listen_on(&s, AF_INET6)) {
        printf("SKIP: no IPv6 loopback here\n");
        return;
    }
    ck_assert_int_eq(pthread_create(&s.thread, NULL, serve, &s), 0);
    snprintf(url, sizeof url, "http://[::1]:%u/healthz", s.port);
    ck_assert_msg(saed_probe_within(url, 5000, &err) == SAE_OK, "%s", err.text);
    stop(&s);
    ck_assert_ptr_nonnull(strstr(s.request, "\r\nHost: [::1]:"));
}
END_TEST

START_TEST(names_are_resolved_or_not)
{
    struct sae_err err = {0};

    ck_assert_int_eq(saed_probe_within("http://no-such-host.invalid/", 1000, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "no-such-host.invalid"), "%s", err.text);
}
END_TEST

static const char *const bad_urls[] = {
    "",
    "127.0.0.1:8673/healthz",
    "127.0.0.1:0",
    "127.0.0.1",
    "unix:",
    "unix:/tmp/",
    "user@h:80",
    "https://127.0.0.1/",
    "ftp://127.0.0.1/",
    "http://",
    "http:///x",
    "http://:80/",
    "http://h:/",
    "http://h:0/",
    "http://h:65536/",
    "http://h:123456/",
    "http://h:8a/",
    "http://[::1/",
    "http://[]:80/",
    "http://[::1]80/",
    "http://user@h/",
    "http://h/a b",
    "http://h/\r\nX: y",
    "http://h/\xc3\xa9",
};

START_TEST(urls_that_are_none)
{
    struct sae_err err = {0};

    ck_assert_msg(saed_probe_within(bad_urls[_i], 1000, &err) == SAE_E_USAGE, "%s", bad_urls[_i]);
    ck_assert_ptr_nonnull(strstr(err.text, "http://HOST"));
}
END_TEST

START_TEST(long_urls)
{
    static char url[70000];
    struct sae_err err = {0};

    snprintf(url, sizeof url, "http://%0300d/", 1);
    ck_assert_int_eq(saed_probe_within(url, 1000, &err), SAE_E_USAGE);
    memset(url, 'h', 300);
    ck_assert_int_eq(saed_probe_within(url, 1000, &err), SAE_E_USAGE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("probe");
    TCase *t = tcase_create("probe");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, the_status_decides, 0, (int)SAE_COUNTOF(answers));
    tcase_add_test(t, exit_statuses);
    tcase_add_test(t, an_address_of_listen);
    tcase_add_test(t, a_unix_socket);
    tcase_add_test(t, a_full_unix_socket_costs_the_timeout);
    tcase_add_test(t, nobody_listens);
    tcase_add_test(t, a_silent_server_costs_the_timeout_and_no_more);
    tcase_add_test(t, ipv6);
    tcase_add_test(t, names_are_resolved_or_not);
    tcase_add_loop_test(t, urls_that_are_none, 0, (int)SAE_COUNTOF(bad_urls));
    tcase_add_test(t, long_urls);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
