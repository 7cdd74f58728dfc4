/* test_head.c - what arrives on a bare socket: heads that lie about their body, pipelines, chunks,
 * Expect, slow senders. After anything that is refused for its head the connection ends, so that
 * bytes of one request are never taken for another. (Single bad heads: test_smoke.c.) */
#include "tests/http/support_body.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 10000
#define POST "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n"
#define POST_1_0 "POST /v1/dictionaries/i/encode HTTP/1.0\r\nHost: a\r\n"
#define BODY "{\"x\":[1,2,3,4]}"
#define CHUNKED "f\r\n" BODY "\r\n0\r\n\r\n"
#define HEALTH "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
#define SMUGGLED "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){"--request-timeout-ms", "500", "--max-json-bytes",
                                           "1000", "i=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

/* All that comes until the server closes; fails if it does not within `ms`. */
static struct text read_to_end(int fd, int ms)
{
    long long end = test_now_ms() + ms;
    struct text t = {0};
    char piece[65536];

    text_add(&t, "", 0);
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long long left = end - test_now_ms();
        ssize_t n;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            ck_abort_msg("still open after %d ms: %.300s", ms, t.p);
        n = recv(fd, piece, sizeof piece, 0);
        if (n <= 0)
            return t;
        text_add(&t, piece, (size_t)n);
    }
}

static int count(const char *text, const char *what)
{
    int n = 0;

    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

static void still_well(void)
{
    struct reply r = post_json(&s, "/v1/dictionaries/i/encode", BODY);

    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    reply_free(&r);
}

/* ---- no desynchronisation -------------------------------------------------------------------- */

/* Each is followed by a body that is a request, as smugglers do; what one reader takes for the body
 * another takes for a request. One refusal and the end; nothing behind it is answered. */
static const char *const smugglers[] = {
    POST "Content-Length: 15\r\nContent-Length: 0\r\n\r\n",
    POST "Content-Length: 0\r\nContent-Length: 15\r\n\r\n",
    POST "Content-Length: 15, 15\r\n\r\n",
    POST "Content-Length: 0, 15\r\n\r\n",
    POST "Content-Length: +0\r\n\r\n",
    POST "Content-Length: -1\r\n\r\n",
    POST "Content-Length: 0x0\r\n\r\n",
    POST "Content-Length: 0 0\r\n\r\n",
    POST "Content-Length: \r\n\r\n",
    POST "Content-Length: 18446744073709551615\r\n\r\n",
    POST "Content-Length: 18446744073709551616\r\n\r\n",
    POST "Content-Length: 99999999999999999999999\r\n\r\n",
    POST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: gzip\r\n\r\n",
    POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding:\x0b"
         "chunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST "Content-Length : 0\r\n\r\n",
    POST " Content-Length: 0\r\n\r\n",
    POST "X: 1\r\n Content-Length: 0\r\n\r\n",
    POST "X: 1\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST "Content-Length: 0\rX: 1\r\n\r\n",
    POST ": 1\r\nContent-Length: 0\r\n\r\n",
    POST "NoColon\r\nContent-Length: 0\r\n\r\n",
    POST "Host: b\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/dictionaries/i/encode HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/dictionaries/i/encode%00 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/dictionaries/i/encode?top_k=%00 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/dictionaries/i/encode\tHTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    POST_1_0 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /v1/dictionaries/i/encode HTTP/2.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/dictionaries/i/encode HTTP/1.1 \r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/dictionaries/i/encode\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS http://a* HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
};

START_TEST(nothing_behind_a_bad_head_is_answered)
{
    int fd = raw_connect(&s);
    struct text t;

    raw_send(fd, smugglers[_i]);
    raw_send(fd, SMUGGLED);
    t = read_to_end(fd, MS);
    ck_assert_msg(!strstr(t.p, "not_found") && !strstr(t.p, "200 OK"), "%s: %s", smugglers[_i],
                  t.p);
    /* libmicrohttpd may have closed without a word; where there is an answer it is a refusal */
    if (t.n) {
        ck_assert_msg(strncmp(t.p, "HTTP/1.1 4", 10) == 0 || strncmp(t.p, "HTTP/1.1 5", 10) == 0 ||
                          strncmp(t.p, "HTTP/1.0 4", 10) == 0,
                      "%s: %s", smugglers[_i], t.p);
        ck_assert_msg(strcasestr(t.p, "\r\nConnection: close"), "%s: %s", smugglers[_i], t.p);
    }
    text_free(&t);
    close(fd);
    still_well();
}
END_TEST

/* The ones that reach saed have its form. */
START_TEST(bad_heads_get_a_problem)
{
    static const char *const heads[] = {
        POST "Content-Length: 15\r\nContent-Length: 15\r\n\r\n" BODY,
        POST "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET /v1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /v1 HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
        "GET /v1%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /v1 HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        "GET /v1 HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
    };

    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        int fd = raw_connect(&s);
        struct reply r;

        raw_send(fd, heads[i]);
        r = raw_reply(fd, true, MS);
        ck_assert_int_eq(r.status, 400);
        check_bad_head(&r);
        reply_free(&r);
        ck_assert(raw_is_closed(fd, MS));
        close(fd);
    }
}
END_TEST

/* libmicrohttpd 0.9.75 sent the head of its answer twice, the second in the place of the body. */
START_TEST(a_wrong_length_is_answered_once)
{
    static const struct {
        const char *fields;
        int status;
    } wrong[] = {
        {"Content-Length: x\r\n", 400},
        {"Content-Length: 1 5\r\n", 400},
        {"Content-Length:\r\n", 400},
        {"Content-Length: 15, 15\r\n", 400},
        {"Host: b\r\nContent-Length: x\r\n", 400},
        {"Content-Length: x\r\nContent-Length: 15\r\n", 400},
        {"Content-Length: 18446744073709551616\r\n", 413},
        {"Content-Length: 99999999999999999999999\r\n", 413},
    };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char series[96];
        double before;
        int fd = raw_connect(&s);
        struct text t;

        snprintf(series, sizeof series,
                 "saed_requests_total{dictionary=\"\",op=\"other\",code=\"%d\"}", wrong[i].status);
        before = metric(&s, series);
        raw_send(fd, POST);
        raw_send(fd, wrong[i].fields);
        raw_send(fd, "\r\n" BODY);
        t = read_to_end(fd, MS);
        ck_assert_int_eq(count(t.p, "HTTP/1.1 "), 1);
        ck_assert_msg(atoi(t.p + 9) == wrong[i].status, "%s: %s", wrong[i].fields, t.p);
        if (!library_is_strict())
            ck_assert_msg(strstr(t.p, "\r\n\r\n{") != NULL, "%s", t.p);
        text_free(&t);
        close(fd);
        ck_assert(metric(&s, series) == (before < 0 ? 1 : before + 1));
    }
}
END_TEST

/* RFC 9110 5.6.3. 0.9.75 takes none behind a value. */
static const struct {
    const char *field, *body;
    bool has_none_behind;
} blanks[] = {
    {"Content-Length:15", BODY, true},
    {"Content-Length:   15", BODY, true},
    {"Content-Length:\t15", BODY, true},
    {"Content-Length: \t 15", BODY, true},
    {"Content-Length:15 ", BODY, false},
    {"Content-Length: 15\t ", BODY, false},
    {"Content-Length:\t15\t", BODY, false},
    {"Transfer-Encoding:chunked", CHUNKED, true},
    {"Transfer-Encoding:   chunked", CHUNKED, true},
    {"Transfer-Encoding:\tchunked", CHUNKED, true},
    {"Transfer-Encoding:chunked ", CHUNKED, false},
    {"Transfer-Encoding:chunked\t", CHUNKED, false},
};

START_TEST(blanks_around_what_frames_a_body)
{
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, POST);
    raw_send(fd, blanks[_i].field);
    raw_send(fd, "\r\n\r\n");
    raw_send(fd, blanks[_i].body);
    r = raw_reply(fd, true, MS);
    if (blanks[_i].has_none_behind || library_is_strict()) {
        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    } else
        check_problem(&r, 400, "bad_request", "blanks behind", NULL);
    reply_free(&r);
    close(fd);
}
END_TEST

/* The largest length that 64 bits hold is one. */
START_TEST(the_largest_length_is_too_large)
{
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, POST "Content-Length: 18446744073709551615\r\n\r\n");
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 413);
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
}
END_TEST

START_TEST(a_long_pipeline_is_answered_in_order)
{
    struct text t = {0};
    int fd = raw_connect(&s);

    for (int i = 0; i < 100; i++) {
        char body[64];
        int n =
            snprintf(body, sizeof body, i % 3 == 2 ? "{\"x\":[%d,2,3]}" : "{\"x\":[%d,2,3,4]}", i);

        if (i % 5 == 4) /* a GET with a body that nobody wants */
            text_addf(&t, "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", n,
                      body);
        else if (i % 2)
            text_addf(&t, POST "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
                      (unsigned)n, body);
        else
            text_addf(&t, POST "Content-Length: %d\r\n\r\n%s", n, body);
    }
    raw_send_bytes(fd, t.p, t.n);
    for (int i = 0; i < 100; i++) {
        struct reply r = raw_reply(fd, true, MS);
        char want[64];

        snprintf(want, sizeof want, "{\"f\":[%d,2,3,4]}\n", i);
        if (i % 5 == 4)
            ck_assert_str_eq(r.body, "ok\n");
        else if (i % 3 == 2)
            check_problem(&r, 400, "bad_shape", NULL, NULL);
        else
            ck_assert_str_eq(r.body, want);
        ck_assert_ptr_null(reply_header(&r, "Connection"));
        reply_free(&r);
    }
    close(fd);
    text_free(&t);
}
END_TEST

START_TEST(requests_in_single_bytes)
{
    static const char text[] = POST "Content-Length: 15\r\n\r\n" BODY POST "Transfer-Encoding: "
                                    "chunked\r\n\r\n5\r\n{\"x\":\r\n1\r\n[\r\n9\r\n1,2,3,4]"
                                    "}\r\n0\r\nTrailer: x\r\n\r\n" HEALTH;
    int fd = raw_connect(&s);

    for (size_t i = 0; i < sizeof text - 1; i++)
        raw_send_bytes(fd, text + i, 1);
    for (int i = 0; i < 3; i++) {
        struct reply r = raw_reply(fd, true, MS);

        ck_assert_str_eq(r.body, i < 2 ? "{\"f\":[1,2,3,4]}\n" : "ok\n");
        reply_free(&r);
    }
    close(fd);
}
END_TEST

START_TEST(connection_close_and_http_1_0)
{
    int fd = raw_connect(&s);
    struct text t;

    raw_send(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" SMUGGLED);
    t = read_to_end(fd, MS);
    ck_assert_int_eq(count(t.p, "HTTP/1.1 "), 1);
    ck_assert_ptr_nonnull(strstr(t.p, "200 OK"));
    text_free(&t);
    close(fd);
    fd = raw_connect(&s);
    raw_send(fd, "GET /healthz HTTP/1.0\r\n\r\n");
    t = read_to_end(fd, MS);
    ck_assert_ptr_nonnull(strstr(t.p, " 200 OK"));
    text_free(&t);
    close(fd);
}
END_TEST

static const struct {
    const char *head;
    bool stays;
} kept[] = {
    {"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", true},
    {"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: x, keep-alive\r\n\r\n", true},
    {"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false},
    {"GET /healthz HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
    {"GET /healthz HTTP/1.0\r\n\r\n", false},
    {"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", false},
};

START_TEST(kept_connections_tell_their_timeout)
{
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, kept[_i].head);
    r = raw_reply(fd, true, MS);
    if (kept[_i].stays) {
        ck_assert_str_eq(reply_header(&r, "Keep-Alive"), "timeout=75");
        reply_free(&r);
        raw_send(fd, HEALTH);
        r = raw_reply(fd, true, MS);
        ck_assert_int_eq(r.status, 200);
    } else {
        ck_assert_ptr_null(reply_header(&r, "Keep-Alive"));
        ck_assert(raw_is_closed(fd, MS));
    }
    reply_free(&r);
    close(fd);
}
END_TEST

#define OTHER "dictionary=\"\",op=\"other\""
static const struct {
    const char *head;
    const char *allow, *labels;
    bool stays;
} options[] = {
    {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST, OPTIONS", OTHER, true},
    {"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST, OPTIONS", OTHER, true},
    {"OPTIONS /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, OPTIONS", OTHER, true},
    {"OPTIONS /v1/dictionaries/i?a=b HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, OPTIONS",
     "dictionary=\"i\",op=\"other\"", true},
    {"OPTIONS /v1/dictionaries/i/decode HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{}{",
     "POST, OPTIONS", "dictionary=\"i\",op=\"decode\"", true},
    {"OPTIONS /v1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET, HEAD, OPTIONS", OTHER,
     false},
    {"OPTIONS /v1 HTTP/1.0\r\n\r\n", "GET, HEAD, OPTIONS", OTHER, false},
    {"OPTIONS /v1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET, HEAD, OPTIONS", OTHER, true},
};

START_TEST(options_are_answered_everywhere)
{
    char series[128];
    double before;
    int fd = raw_connect(&s);
    struct reply r;

    snprintf(series, sizeof series, "saed_requests_total{%s,code=\"204\"}", options[_i].labels);
    before = metric(&s, series);
    raw_send(fd, options[_i].head);
    r = raw_reply(fd, false, MS);
    ck_assert_msg(r.status == 204, "%s: %d", options[_i].head, r.status);
    ck_assert_str_eq(reply_header(&r, "Allow"), options[_i].allow);
    ck_assert_ptr_null(reply_header(&r, "Content-Type"));
    ck_assert_ptr_null(reply_header(&r, "Content-Length"));
    ck_assert_ptr_nonnull(reply_header(&r, "Saed-Request-Id"));
    reply_free(&r);
    if (options[_i].stays) { /* were there a body, this would read it */
        raw_send(fd, HEALTH);
        r = raw_reply(fd, true, MS);
        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
    } else {
        ck_assert(raw_is_closed(fd, MS));
    }
    close(fd);
    ck_assert(metric(&s, series) == (before < 0 ? 1 : before + 1));
}
END_TEST

/* As a proxy is asked. The authority stands for Host; 1.0 wants a Host all the same. */
START_TEST(targets_in_absolute_form)
{
    static const struct {
        const char *text;
        int status;
        const char *body;
    } asked[] = {
        {"GET http://a/healthz HTTP/1.1\r\nHost: b\r\n\r\n", 200, "ok\n"},
        {"GET HTTP://[::1]:80/healthz?x HTTP/1.1\r\nHost: b\r\n\r\n", 200, "ok\n"},
        {"GET http://a/healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "ok\n"},
        {"POST http://a/v1/dictionaries/%69/encode?top_k=1 HTTP/1.1\r\nHost: a\r\nContent-Length: "
         "15\r\n\r\n" BODY,
         200, "{\"f\":{\"shape\":[4],\"indices\":[[3]],\"values\":[[4]]}}\n"},
        {"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 200, NULL},
        {"GET http://a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", 200, NULL},
        {"GET http://a/healthz HTTP/1.1\r\n\r\n", 200, "ok\n"},
    };
    int fd = raw_connect(&s);

    for (size_t i = 0; i < sizeof asked / sizeof asked[0] - library_is_strict(); i++) {
        struct reply r;

        raw_send(fd, asked[i].text);
        r = raw_reply(fd, true, MS);
        ck_assert_msg(r.status == asked[i].status, "%s: %d", asked[i].text, r.status);
        if (asked[i].body)
            ck_assert_str_eq(r.body, asked[i].body);
        else
            ck_assert_ptr_nonnull(strstr(r.body, "<html")); /* the path is "/" */
        ck_assert_ptr_nonnull(reply_header(&r, "Keep-Alive"));
        reply_free(&r);
    }
    close(fd);
}
END_TEST

START_TEST(an_idle_connection_is_closed_in_time)
{
    struct server t =
        server_start((const char *const[]){"--keepalive-timeout-ms", "1500", "i=identity:4", NULL});
    int fd = raw_connect(&t);
    long long begin = 0;
    struct reply r;

    for (int i = 0; i < 4; i++) { /* used, it is kept */
        poll(NULL, 0, 500);
        begin = test_now_ms(); /* before it can be idle */
        raw_send(fd, HEALTH);
        r = raw_reply(fd, true, MS);
        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(reply_header(&r, "Keep-Alive"), "timeout=1");
        reply_free(&r);
    }
    ck_assert(raw_is_closed(fd, MS));
    ck_assert_msg(test_now_ms() - begin >= 1500, "after %lld ms", test_now_ms() - begin);
    ck_assert_msg(test_now_ms() - begin < SOON_MS(3500), "after %lld ms", test_now_ms() - begin);
    close(fd);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* ---- errors and the connection --------------------------------------------------------------- */

enum after { STAYS, CLOSES, EITHER };
static const struct {
    const char *request;
    int status;
    enum after after;
} errors[] = {
    /* read whole: stays */
    {"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, STAYS},
    {"DELETE /v1 HTTP/1.1\r\nHost: a\r\n\r\n", 405, STAYS},
    {"GET /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n\r\n", 405, STAYS},
    {"POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n\r\n", 400,
     STAYS}, /* no body: no JSON */
    {POST "Content-Length: 0\r\n\r\n", 400, STAYS},
    {POST "Content-Length: 1\r\n\r\n{", 400, STAYS},
    {POST "Accept: text/html\r\nContent-Length: 15\r\n\r\n" BODY, 406, STAYS},
    {"POST /v1/dictionaries/i/encode?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n" BODY,
     400, STAYS},
    /* refused by its head, with a body behind: read away or not, the answer says which */
    {"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n" BODY, 404, EITHER},
    {"PUT /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\n\r\n",
     405, EITHER},
    {POST "Content-Type: text/plain\r\nContent-Length: 15\r\n\r\n" BODY, 415, EITHER},
    {POST "Content-Length: 1001\r\n\r\n", 413, CLOSES},
};

START_TEST(an_error_keeps_or_closes_the_connection)
{
    int fd = raw_connect(&s);
    struct reply r;
    bool closes;

    raw_send(fd, errors[_i].request);
    raw_send(fd, HEALTH);
    r = raw_reply(fd, true, MS);
    ck_assert_msg(r.status == errors[_i].status, "%s: %d", errors[_i].request, r.status);
    closes = reply_header(&r, "Connection") != NULL;
    ck_assert(!closes || strcmp(reply_header(&r, "Connection"), "close") == 0);
    ck_assert(errors[_i].after == EITHER || closes == (errors[_i].after == CLOSES));
    reply_free(&r);
    if (closes) {
        ck_assert(raw_is_closed(fd, MS));
    } else { /* the next answer is that of the next request, not of bytes of the body */
        r = raw_reply(fd, true, MS);
        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(r.body, "ok\n");
        reply_free(&r);
    }
    close(fd);
}
END_TEST

START_TEST(head_of_an_error_has_no_body)
{
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, "HEAD /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n\r\n" HEALTH);
    r = raw_reply(fd, false, MS);
    ck_assert_int_eq(r.status, 405);
    ck_assert_str_eq(reply_header(&r, "Allow"), "POST, OPTIONS");
    reply_free(&r);
    r = raw_reply(fd, true, MS); /* were there a body, this would read it */
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    close(fd);
}
END_TEST

/* ---- Expect and chunks ----------------------------------------------------------------------- */

START_TEST(expect_100_continue)
{
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, POST "Expect: 100-continue\r\nContent-Length: 15\r\n\r\n");
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 100);
    reply_free(&r);
    raw_send(fd, BODY);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    /* refused by its head: no 100, the final answer at once */
    raw_send(fd, POST "Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n");
    r = raw_reply(fd, true, MS);
    check_problem(&r, 413, "body_too_large", NULL, "--max-json-bytes");
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
    fd = raw_connect(&s);
    raw_send(fd, "POST /v1/dictionaries/x/encode HTTP/1.1\r\nHost: a\r\nExpect: "
                 "100-continue\r\nContent-Length: 15\r\n\r\n");
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 404);
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
}
END_TEST

/* There is nothing to go on with, and what has come behind it is the next request. */
START_TEST(expect_without_a_body)
{
    static const char *const heads[] = {
        "GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nexpect: 100-Continue\r\n\r\n",
        POST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        "GET /none HTTP/1.1\r\nHost: a\r\nExpect: a\r\nExpect: 100-continue\r\n\r\n",
    };
    static const int statuses[] = {200, 204, 400, 404};
    struct text t = {0};
    int fd = raw_connect(&s);

    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        text_add(&t, heads[i], strlen(heads[i]));
    raw_send_bytes(fd, t.p, t.n);
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct reply r = raw_reply(fd, true, MS);

        ck_assert_int_eq(r.status, statuses[i]);
        reply_free(&r);
    }
    close(fd);
    text_free(&t);
}
END_TEST

static void send_chunked(int fd, size_t n, size_t chunk)
{
    char *spaces = malloc(chunk);

    memset(spaces, ' ', chunk);
    raw_send(fd, POST "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t sent = 0; sent < n; sent += chunk) {
        char size[32];
        size_t piece = n - sent < chunk ? n - sent : chunk;

        snprintf(size, sizeof size, "%zx\r\n", piece);
        raw_send(fd, size);
        raw_send_bytes(fd, spaces, piece);
        raw_send(fd, "\r\n");
    }
    free(spaces);
}

START_TEST(chunked_bodies_beyond_the_limit)
{
    static const size_t sizes[] = {1001, 1500, 2000, 40000};
    struct reply r;
    int fd;

    for (int i = 0; i < 4; i++) { /* what follows is dropped, and no request */
        fd = raw_connect(&s);
        send_chunked(fd, sizes[i], 100);
        raw_send(fd, "0\r\n\r\n" HEALTH);
        r = raw_reply(fd, true, MS);
        check_problem(&r, 413, "body_too_large", "1000", "--max-json-bytes");
        ck_assert_str_eq(reply_header(&r, "Connection"), "close");
        reply_free(&r);
        ck_assert(raw_is_closed(fd, MS));
        close(fd);
    }
    fd = raw_connect(&s);
    send_chunked(fd, 1000, 100); /* just within: all blanks are no JSON */
    raw_send(fd, "0\r\n\r\n");
    r = raw_reply(fd, true, MS);
    check_problem(&r, 400, "malformed_json", NULL, NULL);
    reply_free(&r);
    close(fd);
    still_well();
}
END_TEST

static const char *const bad_chunks[] = {
    "x\r\n", "-1\r\n", "0x5\r\n", "fffffffffffffffff\r\n", "5\r\n123456\r\n0\r\n\r\n", "\r\n\r\n",
};

START_TEST(chunks_that_are_none_end_the_connection)
{
    int fd = raw_connect(&s);
    struct text t;

    raw_send(fd, POST "Transfer-Encoding: chunked\r\n\r\n");
    raw_send(fd, bad_chunks[_i]);
    raw_send(fd, SMUGGLED);
    t = read_to_end(fd, MS);
    ck_assert_msg(!strstr(t.p, "not_found") && !strstr(t.p, " 200 "), "%s", t.p);
    text_free(&t);
    close(fd);
    still_well();
}
END_TEST

START_TEST(heads_too_large)
{
    struct text t = {0}, answer;
    int fd = raw_connect(&s);

    text_addf(&t, "GET /v1 HTTP/1.1\r\nHost: a\r\nX: ");
    for (int i = 0; i < 2000; i++)
        text_addf(&t, "0123456789012345678901234567890123456789012345678901234567890123");
    text_addf(&t, "\r\n\r\n" SMUGGLED);
    raw_send_bytes(fd, t.p, t.n);
    answer = read_to_end(fd, MS);
    ck_assert_msg(answer.n == 0 || strncmp(answer.p, "HTTP/1.1 4", 10) == 0, "%.200s", answer.p);
    ck_assert_ptr_null(strstr(answer.p, "not_found"));
    text_free(&answer);
    text_free(&t);
    close(fd);
    /* a long one that fits */
    fd = raw_connect(&s);
    text_addf(&t, "GET /healthz HTTP/1.1\r\nHost: a\r\nX: ");
    for (int i = 0; i < 700; i++)
        text_addf(&t, "0123456789012345678901234567890123456789");
    text_addf(&t, "\r\n\r\n");
    raw_send_bytes(fd, t.p, t.n);
    struct reply r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    text_free(&t);
    close(fd);
}
END_TEST

/* Heads of all sizes near the library's memory, by the number of their fields: each is answered,
 * the larger ones by us or by the library, which in between had no room left for an answer's head.
 */
START_TEST(large_heads_are_answered)
{
    static const int fields[] = {1, 4, 20, 50, 120, 250};
    static char value[34000];
    int n_fields = fields[_i], each = 0, n_ours = 0, last = 200;

    memset(value, 'a', sizeof value);
    for (int size = 32500 - 64 * n_fields - 3000; size < 33200; size += 37) {
        struct text t = {0};
        struct reply r;
        int fd = raw_connect(&s);

        text_addf(&t, POST "Content-Length: 15\r\n");
        each = (size - (int)t.n - 2) / n_fields - 10; /* of X-000: and CRLF */
        for (int i = 0; i < n_fields; i++) {
            text_addf(&t, "X-%04d: ", i);
            text_add(&t, value, (size_t)each);
            text_add(&t, "\r\n", 2);
        }
        text_addf(&t, "\r\n" BODY);
        raw_send_bytes(fd, t.p, t.n);
        r = raw_reply(fd, true, MS);
        ck_assert_msg(r.status == 431 || (r.status == 200 && last == 200),
                      "%d fields, %d bytes: %d", n_fields, size, r.status);
        last = r.status;
        if (r.status == 431 && strcmp(reply_header(&r, "Connection"), "close") == 0 &&
            strstr(r.body, "head_too_large")) {
            check_problem(&r, 431, "head_too_large", "the limit is 31232", NULL);
            n_ours++;
        }
        reply_free(&r);
        text_free(&t);
        close(fd);
    }
    ck_assert_int_gt(n_ours, 0);
    still_well();
}
END_TEST

/* As many parameters as a target has room for. (From 412 on the library had no room for an answer.)
 */
START_TEST(many_parameters)
{
    struct text t = {0};
    struct reply r;
    int fd = raw_connect(&s);

    text_addf(&t, "POST /v1/dictionaries/i/encode?features=0");
    for (int i = 0; i < 1500; i++)
        text_addf(&t, "&features=%d", i % 4);
    text_addf(&t, " HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"x\":[1,2,3,4]}");
    raw_send_bytes(fd, t.p, t.n);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_msg(strstr(r.body, "{\"f\":[1,1,2,3,4,1,2,") == r.body, "%.100s", r.body);
    reply_free(&r);
    text_free(&t);
    text_addf(&t, "GET /v1?a"); /* on the same connection */
    for (int i = 0; i < 14000; i++)
        text_addf(&t, "&a");
    text_addf(&t, " HTTP/1.1\r\nHost: a\r\n\r\n");
    raw_send_bytes(fd, t.p, t.n);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    text_free(&t);
    close(fd);
    still_well();
}
END_TEST

/* ---- damaged requests ------------------------------------------------------------------------ */

/* Two good requests with one byte changed, dropped or doubled: whatever is answered is answered
 * whole and is no 500; the daemon lives on. */
START_TEST(damaged_bytes_never_harm)
{
    static const char good[] = POST "Content-Length: 15\r\nAccept: */*\r\n\r\n" BODY POST
                                    "Transfer-Encoding: chunked\r\n\r\nf\r\n" BODY "\r\n0\r\n\r\n";
    unsigned long long random = 12345;

    for (int round = 0; round < 400; round++) {
        struct text t = {0};
        size_t at;
        int fd = raw_connect(&s);
        char tail[8], c;

        random = random * 6364136223846793005ull + 1442695040888963407ull;
        at = (size_t)(random >> 33) % (sizeof good - 1);
        c = (char)(random >> 25);
        text_add(&t, good, at);
        if (round % 3 != 1)
            text_add(&t, &c, 1);
        if (round % 3 == 2)
            text_add(&t, good + at, 1);
        text_add(&t, good + at + 1, sizeof good - 2 - at);
        raw_send_bytes(fd, t.p, t.n);
        shutdown(fd, SHUT_WR);
        text_free(&t);
        t = read_to_end(fd, MS);
        ck_assert_msg(!strstr(t.p, " 500 "), "%zu %02x: %s", at, (unsigned char)c, t.p);
        ck_assert_int_le(count(t.p, "HTTP/1.1 "), 3);
        snprintf(tail, sizeof tail, "%.4s", t.p);
        ck_assert(t.n == 0 || strcmp(tail, "HTTP") == 0);
        text_free(&t);
        close(fd);
    }
    still_well();
    wait_metric(&s, "saed_requests_in_flight", 1);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

/* ---- time ---------------------------------------------------------------------------------- */

/* Four ways not to finish a head, and their clock: 10 s. All wait at the same time. */
START_TEST(slow_heads_are_cut_at_ten_seconds)
{
    enum { N = 4 };
    int fd[N];
    bool done[N] = {false};
    long long begin = test_now_ms();
    struct reply r;

    for (int i = 0; i < N; i++)
        fd[i] = raw_connect(&s);
    raw_send(fd[3], HEALTH);
    r = raw_reply(fd[3], true, MS);
    reply_free(&r);
    raw_send(fd[1], "GET /v1 HT");
    raw_send(fd[2], "GET /v1 HTTP/1.1\r\nHost: a\r\nX: ");
    raw_send(fd[3], "GET /v1 HTTP/1.1\r\nHost: a\r\n"); /* the second of its connection */
    for (int left = N; left > 0;) {
        ck_assert_msg(test_now_ms() < begin + SOON_MS(13000), "slow heads are still open");
        for (int i = 0; i < N; i++)
            if (!done[i] && raw_is_closed(fd[i], 25)) {
                done[i] = true;
                left--;
                ck_assert_msg(test_now_ms() >= begin + 10000, "%d: closed after %lld ms", i,
                              test_now_ms() - begin);
                close(fd[i]);
            }
        if (!done[2])
            raw_send(fd[2], "x");
    }
    still_well();
}
END_TEST

/* Many that hold a connection each keep nobody else out. */
START_TEST(idle_connections_do_not_keep_others_out)
{
    int fd[200];

    for (int i = 0; i < 200; i++) {
        fd[i] = raw_connect(&s);
        if (i % 2)
            raw_send(fd[i], "GET /v1 H");
    }
    still_well();
    for (int i = 0; i < 200; i++)
        close(fd[i]);
    still_well();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("head");
    TCase *t = tcase_create("head");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, nothing_behind_a_bad_head_is_answered, 0,
                        sizeof smugglers / sizeof smugglers[0]);
    tcase_add_test(t, bad_heads_get_a_problem);
    tcase_add_test(t, a_wrong_length_is_answered_once);
    tcase_add_loop_test(t, blanks_around_what_frames_a_body, 0, sizeof blanks / sizeof blanks[0]);
    tcase_add_test(t, the_largest_length_is_too_large);
    tcase_add_test(t, a_long_pipeline_is_answered_in_order);
    tcase_add_test(t, requests_in_single_bytes);
    tcase_add_test(t, connection_close_and_http_1_0);
    tcase_add_loop_test(t, kept_connections_tell_their_timeout, 0, sizeof kept / sizeof kept[0]);
    tcase_add_loop_test(t, options_are_answered_everywhere, 0, sizeof options / sizeof options[0]);
    tcase_add_test(t, targets_in_absolute_form);
    tcase_add_test(t, an_idle_connection_is_closed_in_time);
    tcase_add_loop_test(t, an_error_keeps_or_closes_the_connection, 0,
                        sizeof errors / sizeof errors[0]);
    tcase_add_test(t, head_of_an_error_has_no_body);
    tcase_add_test(t, expect_100_continue);
    tcase_add_test(t, expect_without_a_body);
    tcase_add_test(t, chunked_bodies_beyond_the_limit);
    tcase_add_loop_test(t, chunks_that_are_none_end_the_connection, 0,
                        sizeof bad_chunks / sizeof bad_chunks[0]);
    tcase_add_test(t, heads_too_large);
    tcase_add_loop_test(t, large_heads_are_answered, 0, 6);
    tcase_add_test(t, many_parameters);
    tcase_add_test(t, damaged_bytes_never_harm);
    tcase_add_test(t, slow_heads_are_cut_at_ten_seconds);
    tcase_add_test(t, idle_connections_do_not_keep_others_out);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
