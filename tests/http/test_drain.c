/* test_drain.c - the end of the daemon: SIGTERM under load loses nothing that was accepted, ten
 * times out of ten; grace, second and third signal, timeout. (First cases of each: test_smoke.c.)
 */
#include "tests/http/support_body.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#define MS 20000
#define POST "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n"
#define BODY "{\"x\":[1,2,3,4]}"
#define REQUEST POST "Content-Length: 15\r\n\r\n" BODY
#define FORWARD                                               \
    "POST /v1/dictionaries/a/forward HTTP/1.1\r\nHost: a\r\n" \
    "Content-Length: 14\r\n\r\n{\"x\":[1,-2,3]}"
#define HEALTH "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"

/* False: nobody listens there. */
static bool can_connect(const struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ok = connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return ok;
}

static void wait_listener_closed(const struct server *s)
{
    long long end = test_now_ms() + 10000;

    while (can_connect(s)) {
        ck_assert_msg(test_now_ms() < end, "the listener is still open");
        poll(NULL, 0, 2);
    }
}

/* ---- under load ---------------------------------------------------------------------------- */

enum { N_LOAD = 32, N_LATE = 8 };

struct client {
    int fd;
    bool asked;       /* a request is out */
    bool before_term; /* and was sent before the signal */
    bool last;        /* the server said Connection: close */
    bool open;
};

static void ask(struct client *c, int i, bool term_sent)
{
    static const char *const requests[] = {
        REQUEST,
        POST "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" BODY
             "\r\n0\r\n\r\n",
        FORWARD,
        HEALTH,
    };

    raw_send(c->fd, requests[i % 4]);
    c->asked = true;
    c->before_term = !term_sent;
}

/* One answer, or the end of the connection. */
static void answer(struct client *c, size_t *answered, size_t *lost_before, size_t *lost_after)
{
    struct reply r = raw_reply(c->fd, true, MS);
    const char *connection = reply_header(&r, "Connection");

    if (r.status == 0 || r.closed) {
        if (c->asked)
            ++*(c->before_term ? lost_before : lost_after);
        close(c->fd);
        c->open = false;
    } else {
        ck_assert_msg(r.status == 200, "%d %s", r.status, r.body);
        ++*answered;
        c->last = connection && strcmp(connection, "close") == 0;
    }
    c->asked = false;
    reply_free(&r);
}

START_TEST(sigterm_under_load_loses_nothing)
{
    struct server s = server_start((const char *const[]){_i % 2 ? "--max-delay-us" : "--threads",
                                                         _i % 2 ? "3000" : "1", "i=identity:4",
                                                         "a=init:AutoEncoder:3:4096", NULL});
    struct client c[N_LOAD + N_LATE];
    struct pollfd p[N_LOAD + N_LATE];
    size_t answered = 0, lost_before = 0, lost_after = 0;
    int n = N_LOAD;
    bool term_sent = false;
    char listen[32];

    for (int i = 0; i < n; i++) {
        c[i] = (struct client){.fd = raw_connect(&s), .open = true};
        ask(&c[i], i, false);
    }
    for (;;) {
        int open = 0;

        /* at a moment that differs each time: some are new and not even accepted */
        if (!term_sent && answered > 200 + (size_t)_i * 37) {
            for (; n < N_LOAD + N_LATE; n++) {
                c[n] = (struct client){.fd = raw_connect(&s), .open = true};
                ask(&c[n], n, false);
            }
            server_signal(&s, SIGTERM);
            term_sent = true;
        }
        for (int i = 0; i < n; i++) {
            p[i] = (struct pollfd){.fd = c[i].open ? c[i].fd : -1, .events = POLLIN};
            open += c[i].open;
        }
        if (!open)
            break;
        ck_assert_msg(poll(p, (nfds_t)n, MS) > 0, "%d connections are open, and nothing comes",
                      open);
        for (int i = 0; i < n; i++)
            if (c[i].open && p[i].revents) {
                answer(&c[i], &answered, &lost_before, &lost_after);
                if (c[i].open && !c[i].last)
                    ask(&c[i], i, term_sent);
            }
    }
    ck_assert_msg(lost_before == 0, "%zu requests sent before SIGTERM were not answered",
                  lost_before);
    /* What is sent while the server closes an idle connection may meet its end (RFC 9112 9.5), but
     * these connections are never idle for the milliseconds that a drain takes to look. */
    ck_assert_msg(lost_after == 0, "%zu requests sent while draining were not answered",
                  lost_after);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    /* the port is free at once */
    snprintf(listen, sizeof listen, "127.0.0.1:%d", s.port);
    struct server again =
        server_start((const char *const[]){"--listen", listen, "i=identity:4", NULL});
    struct reply r = get(&again, "/readyz");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert_int_eq(server_stop(&again), 0);
}
END_TEST

/* ---- signals ------------------------------------------------------------------------------- */

START_TEST(an_idle_daemon_stops_at_once)
{
    static const int signals[] = {SIGTERM, SIGINT};
    struct server s = server_start((const char *const[]){"i=identity:4", NULL});
    int idle = raw_connect(&s), fresh = raw_connect(&s);
    long long begin;
    struct reply r;
    char *out;

    raw_send(idle, REQUEST);
    r = raw_reply(idle, true, MS);
    reply_free(&r);
    begin = test_now_ms();
    server_signal(&s, signals[_i]);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    ck_assert(test_now_ms() - begin < SOON_MS(2000));
    ck_assert(raw_is_closed(idle, MS));
    ck_assert(raw_is_closed(fresh, MS));
    out = server_stdout(&s);
    ck_assert_str_eq(out, "");
    free(out);
    close(idle);
    close(fresh);
}
END_TEST

START_TEST(open_connections_are_served_to_the_end)
{
    struct server s = server_start((const char *const[]){
        "--max-delay-us", "10000000", "--max-batch-rows", "2", "i=identity:4", NULL});
    int held = raw_connect(&s), open = raw_connect(&s), posts = raw_connect(&s);
    struct reply r;

    raw_send(open, HEALTH);
    r = raw_reply(open, true, MS);
    reply_free(&r);
    raw_send(posts, HEALTH);
    r = raw_reply(posts, true, MS);
    reply_free(&r);
    raw_send(held, REQUEST);
    wait_metric(&s, "saed_queue_rows{dictionary=\"i\"}", 1);
    server_signal(&s, SIGTERM);
    wait_listener_closed(&s);
    raw_send(open, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"); /* arrives while draining */
    r = raw_reply(open, true, MS);
    check_problem(&r, 503, "draining", NULL, NULL);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert(raw_is_closed(open, MS));
    raw_send(posts, REQUEST); /* fills the batch */
    r = raw_reply(posts, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    r = raw_reply(held, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    close(held), close(open), close(posts);
}
END_TEST

START_TEST(three_signals)
{
    struct server s = server_start(
        (const char *const[]){"--max-delay-us", "10000000", "--drain-grace-ms", "60000",
                              "--drain-timeout-ms", "60000", "i=identity:4", NULL});
    int held = raw_connect(&s), fresh;
    long long begin = test_now_ms(), end;
    struct reply r;

    raw_send(held, REQUEST);
    wait_metric(&s, "saed_queue_rows{dictionary=\"i\"}", 1);
    server_signal(&s, SIGTERM); /* the grace: not ready, but served, on new connections too */
    end = test_now_ms() + MS;
    do {
        ck_assert(test_now_ms() < end);
        r = get(&s, "/readyz");
        if (r.status == 200)
            reply_free(&r);
    } while (!r.status);
    check_problem(&r, 503, "draining", NULL, NULL);
    reply_free(&r);
    r = get(&s, "/healthz");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    fresh = raw_connect(&s);
    raw_send(fresh, "GET /v1 HTTP/1.1\r\nHost: a\r\n\r\n");
    r = raw_reply(fresh, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_null(reply_header(&r, "Connection"));
    reply_free(&r);
    server_signal(&s, SIGINT); /* ends the grace */
    wait_listener_closed(&s);
    ck_assert(!raw_is_closed(held, 50));
    server_signal(&s, SIGTERM); /* acts as the timeout */
    r = raw_reply(held, true, MS);
    check_problem(&r, 503, "draining", NULL, NULL);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    ck_assert(test_now_ms() - begin < 9000); /* the batch was not waited for */
    close(held);
    close(fresh);
}
END_TEST

START_TEST(the_timeout_counts_from_the_closing)
{
    struct server s =
        server_start((const char *const[]){"--max-delay-us", "10000000", "--drain-grace-ms", "300",
                                           "--drain-timeout-ms", "400", "i=identity:4", NULL});
    int held = raw_connect(&s), half = raw_connect(&s);
    long long begin;
    struct reply r;

    raw_send(held, REQUEST);
    raw_send(half, POST "Content-Length: 15\r\n\r\n{\"x\"");
    wait_metric(&s, "saed_requests_in_flight", 3);
    begin = test_now_ms();
    server_signal(&s, SIGTERM);
    r = raw_reply(held, true, MS);
    check_problem(&r, 503, "draining", NULL, NULL);
    ck_assert_msg(test_now_ms() - begin >= 690, "after %lld ms", test_now_ms() - begin);
    reply_free(&r);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    ck_assert(test_now_ms() - begin < 5000);
    close(held);
    close(half);
}
END_TEST

/* Whoever has sent half a body is told; half a head, which nobody can be answered to, makes the end
 * no later. */
START_TEST(half_sent_bodies_are_refused_at_the_timeout)
{
    static const char *const halves[] = {
        POST "Content-Length: 15\r\n\r\n{\"x\"",
        POST "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"x\":\r\n",
        POST "Transfer-Encoding: chunked\r\n\r\nf",
        POST "Content-Length: 15\r\n\r\n",
        POST "Content-Le",
    };
    enum { N = sizeof halves / sizeof halves[0] };
    struct server s =
        server_start((const char *const[]){"--drain-timeout-ms", "300", "i=identity:4", NULL});
    long long begin;
    int fd[N];

    for (int i = 0; i < N; i++) {
        fd[i] = raw_connect(&s);
        raw_send(fd[i], halves[i]);
    }
    wait_metric(&s, "saed_requests_in_flight", N + 1);
    begin = test_now_ms();
    server_signal(&s, SIGTERM);
    for (int i = 0; i < N - 1; i++) {
        struct reply r = raw_reply(fd[i], true, MS);

        check_problem(&r, 503, "draining", "body", NULL);
        ck_assert_str_eq(reply_header(&r, "Connection"), "close");
        reply_free(&r);
        ck_assert(raw_is_closed(fd[i], MS));
        close(fd[i]);
    }
    ck_assert_msg(test_now_ms() - begin >= 290, "after %lld ms", test_now_ms() - begin);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    ck_assert_msg(test_now_ms() - begin < SOON_MS(1290), "stopped after %lld ms",
                  test_now_ms() - begin);
    close(fd[N - 1]);
}
END_TEST

/* A request that is being read when the signal comes is answered when it is whole. */
START_TEST(what_has_begun_is_accepted)
{
    struct server s = server_start((const char *const[]){"i=identity:4", NULL});
    int fd[3];
    static const char *const first[] = {"PO", POST "Content-Le",
                                        POST "Content-Length: 15\r\n\r\n{\"x\":"};
    static const char whole[] = REQUEST;

    for (int i = 0; i < 3; i++) {
        fd[i] = raw_connect(&s);
        raw_send(fd[i], first[i]);
    }
    /* the two whose request line has been read; the first is a byte on the socket only */
    wait_metric(&s, "saed_requests_in_flight", 3);
    server_signal(&s, SIGTERM);
    wait_listener_closed(&s);
    for (int i = 2; i >= 0; i--) {
        struct reply r;

        raw_send(fd[i], whole + strlen(first[i]));
        r = raw_reply(fd[i], true, MS);
        ck_assert_msg(r.status == 200, "%d: %d %s", i, r.status, r.body);
        ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
        ck_assert_str_eq(reply_header(&r, "Connection"), "close");
        reply_free(&r);
        close(fd[i]);
    }
    ck_assert_int_eq(server_wait(&s, MS), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drain");
    TCase *t = tcase_create("drain");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, sigterm_under_load_loses_nothing, 0, 10);
    tcase_add_loop_test(t, an_idle_daemon_stops_at_once, 0, 2);
    tcase_add_test(t, open_connections_are_served_to_the_end);
    tcase_add_test(t, three_signals);
    tcase_add_test(t, the_timeout_counts_from_the_closing);
    tcase_add_test(t, half_sent_bodies_are_refused_at_the_timeout);
    tcase_add_test(t, what_has_begun_is_accepted);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
