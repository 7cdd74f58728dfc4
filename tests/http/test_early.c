/* test_early.c - answers that come before a body has been sent: they reach a client that sends all
 * of it before it looks (urllib and its like), are counted once, hold nothing while the client
 * sends on, and stop nobody. */
#include "tests/http/support_body.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 20000
#define MB (1u << 20)
#define ENCODE "/v1/dictionaries/i/encode"

static struct server s;
static char piece[64 << 10];

static void start(void)
{
    s = server_start((const char *const[]){"--max-json-bytes", "1M", "--max-body-bytes", "2M",
                                           "--http-threads", "1", "i=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static const struct {
    int status;
    const char *code, *method, *path, *header; /* code NULL: no problem */
} cases[] = {
    {404, "unknown_dictionary", "POST", "/v1/dictionaries/none/encode", "A: b"},
    {404, "not_found", "PUT", "/none", "A: b"},
    {405, "method_not_allowed", "PUT", ENCODE, "A: b"},
    {405, "method_not_allowed", "DELETE", ENCODE, "A: b"},
    {405, "method_not_allowed", "POST", "/v1", "A: b"},
    {415, "unsupported_media_type", "POST", ENCODE, "Content-Type: text/plain"},
    {415, "unsupported_media_type", "POST", ENCODE, "Content-Encoding: br"},
    {413, "body_too_large", "POST", ENCODE, "Content-Type: application/json"},
    {413, "body_too_large", "POST", ENCODE, "Content-Type: application/octet-stream"},
    {400, "bad_request", "POST", ENCODE, "Saed-Request-Id: \t"},
    {200, NULL, "GET", "/healthz", "A: b"},
};
#define N_CASES ((int)(sizeof cases / sizeof cases[0]))

static bool send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static int begin(const char *method, const char *path, const char *header, const char *length)
{
    char head[512];
    int fd = raw_connect(&s);

    snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n%s\r\n\r\n", method, path,
             header, length);
    raw_send(fd, head);
    return fd;
}

/* n megabytes; false: the connection broke. */
static bool send_body(int fd, size_t n, bool chunked)
{
    for (size_t i = 0; i < n * 16; i++) {
        if (chunked && !send_all(fd, "10000\r\n", 7))
            return false;
        if (!send_all(fd, piece, sizeof piece) || (chunked && !send_all(fd, "\r\n", 2)))
            return false;
    }
    return !chunked || send_all(fd, "0\r\n\r\n", 5);
}

/* A 4 MB body is sent to its last byte, and only then the answer is read. */
START_TEST(the_answer_arrives)
{
    bool chunked = _i % 2;
    int i = _i / 2;
    bool is_known = strcmp(cases[i].path, ENCODE) == 0 && cases[i].status != 400;
    char series[128];
    double before;
    struct reply r;
    int fd;

    snprintf(series, sizeof series, "saed_requests_total{dictionary=\"%s\",op=\"%s\",code=\"%d\"}",
             is_known ? "i" : "", is_known ? "encode" : "other", cases[i].status);
    before = metric(&s, series);
    fd = begin(cases[i].method, cases[i].path, cases[i].header,
               chunked ? "Transfer-Encoding: chunked" : "Content-Length: 4194304");
    ck_assert_msg(send_body(fd, 4, chunked), "%s %s: the connection broke", cases[i].method,
                  cases[i].path);
    r = raw_reply(fd, true, MS);
    if (cases[i].code)
        check_problem(&r, cases[i].status, cases[i].code, NULL,
                      cases[i].status != 413            ? NULL
                      : strstr(cases[i].header, "json") ? "--max-json-bytes"
                                                        : "--max-body-bytes");
    ck_assert_int_eq(r.status, cases[i].status);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    ck_assert(raw_is_closed(fd, MS));
    reply_free(&r);
    close(fd);
    if (cases[i].code) /* /healthz is asked by others, too */
        wait_metric(&s, series, (before < 0 ? 0 : before) + 1);
}
END_TEST

/* At the byte that passes the limit: the client has sent no more, and waits. What it held is free
 * at once, though it sends on. */
START_TEST(a_chunked_body_is_answered_at_the_byte)
{
    int fd = begin("POST", ENCODE, "Content-Type: application/json", "Transfer-Encoding: chunked");
    struct reply r;

    raw_send(fd, "1000000\r\n");
    for (int i = 0; i < 16; i++)
        raw_send_bytes(fd, piece, sizeof piece);
    wait_metric(&s, "saed_inflight_bytes", MB);
    raw_send(fd, " ");
    r = raw_reply(fd, true, MS);
    check_problem(&r, 413, "body_too_large", "more than 1048576", "--max-json-bytes");
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    for (int i = 0; i < 32; i++)
        ck_assert(send_all(fd, piece, sizeof piece));
    wait_metric(&s, "saed_inflight_bytes", 0);
    wait_metric(&s, "saed_requests_in_flight", 1); /* the one that asks */
    close(fd);
}
END_TEST

/* With Expect the client has sent nothing, and is not told to. */
START_TEST(who_asks_first_is_not_told_to_go_on)
{
    int fd = begin("POST", "/none", "Expect: 100-continue", "Content-Length: 4194304");
    struct reply r = raw_reply(fd, true, MS);

    check_problem(&r, 404, "not_found", NULL, NULL);
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
}
END_TEST

/* 64 a thread: who came first is cut when there are more, the others may send on. */
START_TEST(a_hundred_linger_on_one_thread)
{
    enum { N = 100 };
    int fd[N], n_open = 0;

    for (int i = 0; i < N; i++) {
        struct reply r;

        fd[i] = begin("POST", "/none", "A: b", "Content-Length: 100000000");
        r = raw_reply(fd[i], true, MS);
        ck_assert_int_eq(r.status, 404);
        reply_free(&r);
        ck_assert(raw_is_closed(fd[i], MS));
    }
    for (int i = 0; i < N; i++) { /* a reset answers the first byte of those that were cut */
        raw_send(fd[i], "x");
        poll(NULL, 0, 1);
        n_open += send_all(fd[i], piece, sizeof piece);
    }
    ck_assert_int_eq(n_open, 64);
    ck_assert(!send_all(fd[0], "x", 1) && send_all(fd[N - 1], "x", 1));
    for (int i = 0; i < N; i++)
        close(fd[i]);
}
END_TEST

/* Nobody waits for their ends, and they take no connection from others. */
START_TEST(lingering_stops_nobody)
{
    struct server t = server_start(
                      (const char *const[]){"--max-connections", "2", "i=identity:4", NULL}),
                  whole = s;
    long long from;
    struct reply r;
    int fd[4];

    s = t;
    for (int i = 0; i < 4; i++) {
        fd[i] = begin("POST", "/none", "A: b", "Content-Length: 100000000");
        r = raw_reply(fd[i], true, MS);
        ck_assert_int_eq(r.status, 404);
        reply_free(&r);
        ck_assert(raw_is_closed(fd[i], MS));
    }
    s = whole;
    r = get(&t, "/healthz");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    from = test_now_ms();
    ck_assert_int_eq(server_stop(&t), 0);
    ck_assert_msg(test_now_ms() < from + SOON_MS(2000), "stopping took %lld ms",
                  test_now_ms() - from);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("early");
    TCase *t = tcase_create("early");
    SRunner *r = srunner_create(suite);
    int failed;

    memset(piece, ' ', sizeof piece);
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, the_answer_arrives, 0, 2 * N_CASES);
    tcase_add_test(t, a_chunked_body_is_answered_at_the_byte);
    tcase_add_test(t, who_asks_first_is_not_told_to_go_on);
    tcase_add_test(t, a_hundred_linger_on_one_thread);
    tcase_add_test(t, lingering_stops_nobody);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
