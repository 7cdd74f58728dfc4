/* test_stuck.c - what fills a connection's memory with bytes that cannot be handed over: chunk-size
 * lines and trailers without end, and what a long head leaves of that memory. Each is answered and
 * closed within a second; the daemon's CPU time shows that nothing turns on the spot, whatever the
 * client does then. (libmicrohttpd 0.9.75 burned a core until the request's deadline, or for ever
 * when another request stood before.) */
#include "tests/http/support_body.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND_MS 1000
#define POST "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n"
#define BODY "{\"x\":[1,2,3,4]}"
#define GOOD POST "Content-Length: 15\r\n\r\n" BODY
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define CHUNK "f\r\n" BODY "\r\n"
#define HEALTH "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
#define N_CODES 4

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){"--request-timeout-ms", "20000", "i=identity:4", NULL});
}

static void stop(void)
{
    long long begin = test_now_ms();

    ck_assert_int_eq(server_stop(&s), 0);
    ck_assert_msg(test_now_ms() < begin + SOON_MS(5000), "stopping took %lld ms",
                  test_now_ms() - begin);
}

/* The daemon's CPU time so far, in ms. */
static long cpu_ms(void)
{
    char path[64], line[1024] = "", *fields;
    unsigned long user = 0, sys = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)s.pid);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
    fclose(f);
    fields = strrchr(line, ')'); /* the name may hold anything */
    ck_assert_ptr_nonnull(fields);
    ck_assert_int_eq(
        sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys), 2);
    return (long)(user + sys) * 1000 / sysconf(_SC_CLK_TCK);
}

/* What was begun is done with soon, and then next to nothing is computed. */
static void check_at_rest(void)
{
    long long end = test_now_ms() + SOON_MS(10 * SECOND_MS);
    long begin, spent;

    do {
        begin = cpu_ms();
        poll(NULL, 0, 400);
        spent = cpu_ms() - begin;
        ck_assert_msg(test_now_ms() < end, "still %ld ms of CPU time in 400 ms", spent);
    } while (spent > 40);
}

static void repeat(struct text *t, const char *what, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text_add(t, what, strlen(what));
}

/* All that comes within `ms`; true: up to the end of the connection. */
static bool read_all(int fd, struct text *got, int ms)
{
    long long end = test_now_ms() + ms;
    char piece[4096];

    text_add(got, "", 0);
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long long left = end - test_now_ms();
        ssize_t n;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return false;
        n = recv(fd, piece, sizeof piece, 0);
        if (n <= 0)
            return true;
        text_add(got, piece, (size_t)n);
    }
}

/* Send what the server takes: it may have closed by now, or not read on. */
static void send_some(int fd, const struct text *t)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    size_t at = 0;
    ssize_t n;

    while (at < t->n && poll(&p, 1, SECOND_MS) > 0 &&
           (n = send(fd, t->p + at, t->n - at, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
        at += (size_t)n;
}

/* ---- what is stuck ------------------------------------------------------------------------- */

static const struct {
    const char *what, *before, *again; /* `before` once, then `again` so many times */
    size_t n;
    int codes[N_CODES]; /* of all answers, in their order; 0: no more */
} stuck[] = {
    {"an extension", CHUNKED "5;", "a", 33000, {400}},
    {"an extension, on and on", CHUNKED "5;", "a", 3 << 20, {400}},
    {"leading zeros", CHUNKED, "0", 33000, {400}},
    {"leading zeros of a later chunk", CHUNKED CHUNK, "0", 33000, {400}},
    {"behind three good requests", GOOD GOOD GOOD CHUNKED, "0", 33000, {200, 200, 200, 400}},
    {"where nobody wants the body",
     "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked"
     "\r\n\r\n5;",
     "a",
     33000,
     {400}},
    {"to HEAD",
     "HEAD /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
     "0",
     33000,
     {400}},
    {"one trailer", CHUNKED CHUNK "0\r\na: ", "a", 33000, {400}},
    {"many trailers", CHUNKED CHUNK "0\r\n", "a: b\r\n", 6000, {400}},
    /* the library's own */
    {"a long target", "GET /", "a", 33000, {414}},
    {"a long field", POST "a: ", "a", 33000, {431}},
    {"many fields", POST, "a: b\r\n", 6000, {431}},
    {"blank lines", "", "\r\n", 17000, {414}},
};

/* The library's own limits may be met first: 0.9.75 answers 431 to trailers; 1.0 also 413 to a
 * chunk-size line, and nothing to blank lines. */
static bool is_the_librarys(const char *answer, int code)
{
    if (!answer)
        return code == 414 && library_is_strict();
    return code == 400 &&
           (strncmp(answer, "HTTP/1.1 431 ", 13) == 0 || strncmp(answer, "HTTP/1.1 413 ", 13) == 0);
}

static void check_codes(const struct text *got, const int *codes, const char *what)
{
    const char *at = got->p;
    char line[32];

    for (int i = 0; i < N_CODES && codes[i]; i++) {
        snprintf(line, sizeof line, "HTTP/1.1 %d ", codes[i]);
        at = strstr(at, "HTTP/1.1 ");
        ck_assert_msg((at && strncmp(at, line, strlen(line)) == 0) || is_the_librarys(at, codes[i]),
                      "%s: no %d in %.3000s", what, codes[i], got->p);
        if (!at)
            return;
        at++;
    }
    ck_assert_msg(!strstr(at, "HTTP/1.1 "), "%s: one answer too many in %.3000s", what, got->p);
}

START_TEST(is_answered_and_closed)
{
    struct text t = {0}, got = {0};
    int fd = raw_connect(&s);
    long long begin = test_now_ms();
    long cpu = cpu_ms();

    text_addf(&t, "%s", stuck[_i].before);
    repeat(&t, stuck[_i].again, stuck[_i].n);
    send_some(fd, &t);
    ck_assert_msg(read_all(fd, &got, SOON_MS(SECOND_MS)), "%s: still open after %lld ms",
                  stuck[_i].what, test_now_ms() - begin);
    check_codes(&got, stuck[_i].codes, stuck[_i].what);
    close(fd);
    wait_metric(&s, "saed_requests_in_flight", 1); /* the one that asks */
    wait_metric(&s, "saed_inflight_bytes", 0);
    ck_assert_msg(cpu_ms() - cpu < SOON_MS(300), "%s: %ld ms of CPU time", stuck[_i].what,
                  cpu_ms() - cpu);
    text_free(&t);
    text_free(&got);
}
END_TEST

/* A problem like any other: its form, its headers, its place in the metrics. */
START_TEST(the_answer_is_a_problem_and_counted)
{
    static const char series[] = "saed_requests_total{dictionary=\"i\",op=\"encode\",code=\"400\"}";
    double before = metric(&s, series);
    int fd = raw_connect(&s);
    struct text t = {0};
    struct reply r;

    text_addf(&t, POST "Transfer-Encoding: chunked\r\nSaed-Request-Id: mine\r\n\r\n");
    repeat(&t, "0", 33000);
    raw_send_bytes(fd, t.p, t.n);
    r = raw_reply(fd, true, SOON_MS(SECOND_MS));
    check_problem(&r, 400, "bad_request", "chunk-size line", NULL);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    ck_assert_str_eq(reply_header(&r, "Saed-Request-Id"), "mine");
    ck_assert_str_eq(reply_header(&r, "Cache-Control"), "no-store");
    ck_assert_ptr_nonnull(strstr(reply_header(&r, "Date"), " GMT"));
    ck_assert(raw_is_closed(fd, SOON_MS(SECOND_MS)));
    close(fd);
    wait_metric(&s, series, (before < 0 ? 0 : before) + 1);
    reply_free(&r);
    text_free(&t);
}
END_TEST

/* ---- who has gone, and how many ------------------------------------------------------------- */

START_TEST(a_client_that_has_gone_costs_nothing)
{
    struct text t = {0};

    text_addf(&t, GOOD CHUNKED "5;");
    repeat(&t, "a", 33000);
    for (int i = 0; i < 40; i++) {
        int fd = raw_connect(&s);

        raw_send_bytes(fd, t.p, t.n);
        close(fd);
    }
    wait_metric(&s, "saed_requests_in_flight", 1);
    check_at_rest();
    text_free(&t);
}
END_TEST

START_TEST(three_hundred_stop_nobody)
{
    enum { N = 300 };
    struct text t = {0}, got = {0};
    int fd[N];
    long long begin;
    struct reply r;

    text_addf(&t, CHUNKED);
    repeat(&t, "0", 33000);
    for (int i = 0; i < N; i++) {
        fd[i] = raw_connect(&s);
        send_some(fd[i], &t);
    }
    begin = test_now_ms();
    r = get(&s, "/healthz");
    ck_assert_int_eq(r.status, 200);
    ck_assert_msg(test_now_ms() < begin + SOON_MS(3 * SECOND_MS), "health took %lld ms",
                  test_now_ms() - begin);
    reply_free(&r);
    for (int i = 0; i < N; i++) {
        ck_assert_msg(read_all(fd[i], &got, SOON_MS(10 * SECOND_MS)), "%d is still open", i);
        close(fd[i]);
    }
    check_at_rest();
    text_free(&t);
    text_free(&got);
}
END_TEST

/* ---- the edge ------------------------------------------------------------------------------ */

/* The memory is filled to the last byte by one length among these, after which the client says no
 * more: it has nothing unread by which it could be told from a slow one. */
static const struct {
    const char *what, *before, *after;
    size_t first, last, step;
} edges[] = {
    {"zeros", CHUNKED, "", 14000, 33000, 61},
    {"zeros, closer", CHUNKED, "", 32200, 32700, 1},
    {"an extension behind a request", GOOD CHUNKED "5;", "", 32200, 32700, 1},
    {"trailers", CHUNKED CHUNK "0\r\na: b\r\na: ", "\r\n", 31900, 32700, 1},
    {"a head before a body", POST "Content-Length: 15\r\na: ", "\r\n\r\n", 32300, 32700, 1},
    {"a head before chunks", POST "Transfer-Encoding: chunked\r\na: ", "\r\n\r\n00000", 32300,
     32700, 1},
    {"a head", POST "a: ", "\r\n", 32300, 32700, 1},
};

/* Whoever is still open waits without a turn of the daemon's, and is closed when more comes that
 * makes no sense either. */
START_TEST(filled_to_the_last_byte)
{
    enum { MAX = 1000 };
    bool may_stay = strncmp(edges[_i].what, "a head", 6) == 0;
    int fd[MAX], n = 0;
    struct text t = {0}, more = {0}, got = {0};

    repeat(&more, "0", 33000);
    for (size_t len = edges[_i].first; len < edges[_i].last; len += edges[_i].step) {
        text_addf(&t, "%s", edges[_i].before);
        repeat(&t, "0", len);
        text_addf(&t, "%s", edges[_i].after);
        ck_assert_int_lt(n, MAX);
        fd[n] = raw_connect(&s);
        send_some(fd[n++], &t);
        text_free(&t);
        t = (struct text){0};
    }
    check_at_rest();
    for (int i = 0; i < n; i++)
        send_some(fd[i], &more);
    for (int i = 0; i < n; i++) {
        /* a body of 15 bytes is whole now, and no JSON; what follows it is no request */
        ck_assert_msg(read_all(fd[i], &got, may_stay ? 2 * SECOND_MS : SOON_MS(2 * SECOND_MS)) ||
                          may_stay,
                      "%s: %d is still open", edges[_i].what, i);
        close(fd[i]);
    }
    check_at_rest();
    text_free(&more);
    text_free(&got);
}
END_TEST

/* ---- who is not stuck ------------------------------------------------------------------------ */

/* Uploads go on while others are cut beside them: in single bytes, in chunks of one byte with an
 * extension each, with a trailer, after a pause, behind 100-continue. */
START_TEST(slow_uploads_are_left_alone)
{
    static const char *const slow[] = {
        GOOD,
        CHUNKED "f\r\n" BODY "\r\n0\r\n\r\n",
        CHUNKED
        "1;a=b\r\n{\r\n1;a=b\r\n\"\r\n1\r\nx\r\n1\r\n\"\r\nb;c\r\n:[1,2,3,4]}\r\n0\r\na: b\r\n\r\n",
        CHUNKED "00000000000000f;aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" BODY "\r\n0\r\n\r\n",
    };
    enum { N = sizeof slow / sizeof slow[0] };
    int fd[N], cut = -1;
    struct text t = {0};
    size_t longest = 0;

    text_addf(&t, CHUNKED);
    repeat(&t, "0", 33000);
    for (int i = 0; i < N; i++) {
        fd[i] = raw_connect(&s);
        longest = strlen(slow[i]) > longest ? strlen(slow[i]) : longest;
    }
    for (size_t at = 0; at < longest; at++) {
        for (int i = 0; i < N; i++)
            if (at < strlen(slow[i]))
                send_some(fd[i], &(struct text){(char *)(uintptr_t)(slow[i] + at), 1, 1});
        if (at % 8 == 0) {
            close(cut);
            cut = raw_connect(&s);
            send_some(cut, &t);
        }
        poll(NULL, 0, at % 40 == 0 ? 600 : 1); /* longer than two sweeps now and then */
    }
    close(cut);
    for (int i = 0; i < N; i++) {
        struct reply r = raw_reply(fd[i], true, 10000);

        if (!strchr(slow[i], ';') || !is_refused_by_library(&r)) {
            ck_assert_msg(r.status == 200, "%d: %d %s", i, r.status, r.body);
            ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
        }
        reply_free(&r);
        close(fd[i]);
    }
    text_free(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stuck");
    TCase *t = tcase_create("stuck");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, is_answered_and_closed, 0, sizeof stuck / sizeof stuck[0]);
    tcase_add_test(t, the_answer_is_a_problem_and_counted);
    tcase_add_test(t, a_client_that_has_gone_costs_nothing);
    tcase_add_test(t, three_hundred_stop_nobody);
    tcase_add_loop_test(t, filled_to_the_last_byte, 0, sizeof edges / sizeof edges[0]);
    tcase_add_test(t, slow_uploads_are_left_alone);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
