/* test_log.c - what the log has of requests: --access-log, field by field; without it what is
 * refused, at a bounded rate; what never stands there: keys, payloads, queries, a stranger's bytes
 * as they are.
 */
#include "tests/http/support_body.h"

#include <check.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS 20000
#define ENCODE "/v1/dictionaries/i/encode"
#define ROUTE "/v1/dictionaries/{}/encode"
#define KEY "Authorization: Bearer k-secret\r\n"
#define JSON "Content-Type: application/json\r\n"
#define ROWS "{\"x\":[[1,2,3,4],[5,6,7,81726]]}"
#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "-" TRACE "-00f067aa0ba902b7-01\r\n"

static struct server s;

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

/* A key file, whose path is borrowed until the next. */
static const char *key_file(void)
{
    static char path[300];
    const char *tmp = getenv("TMPDIR");
    int fd;

    snprintf(path, sizeof path, "%s/saed-log-XXXXXX", tmp ? tmp : "/tmp");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_gt(dprintf(fd, "alice:k-secret\n"), 0);
    close(fd);
    return path;
}

/* Send a request of these lines and body, and read the answer. */
static struct reply send_lines(const char *line, const char *headers, const char *body)
{
    int fd = raw_connect(&s);
    struct reply r;
    char text[4096];

    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n%s", line,
             headers, strlen(body), body);
    raw_send(fd, text);
    r = raw_reply(fd, strncmp(line, "HEAD", 4) != 0, MS);
    close(fd);
    return r;
}

static int status_of(const char *line, const char *headers, const char *body)
{
    struct reply r = send_lines(line, headers, body);
    int status = r.status;

    reply_free(&r);
    return status;
}

/* Lines of stderr that have `part` by now. */
static size_t lines_with(const char *part)
{
    char *err = server_stderr(&s);
    size_t n = 0;

    for (const char *line = err, *end; (end = strchr(line, '\n')); line = end + 1)
        n += memmem(line, (size_t)(end - line), part, strlen(part)) != NULL;
    free(err);
    return n;
}

static void wait_for(const char *part, size_t n)
{
    size_t found = 0;

    for (int i = 0; i < MS / 10 && (found = lines_with(part)) < n; i++)
        usleep(10000);
    if (found != n)
        ck_abort_msg("%zu lines with %s:\n%s", found, part, server_stderr(&s));
}

/* The line of stderr with `part`, as an object; owned by the caller. */
static json_t *line_with(const char *part)
{
    char *err, *at, *end;
    json_t *object;
    json_error_t e;

    wait_for(part, 1);
    err = server_stderr(&s);
    at = strstr(err, part);
    end = strchr(at, '\n');
    while (at > err && at[-1] != '\n')
        at--;
    object = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES, &e);
    ck_assert_msg(json_is_object(object), "%s: %s", e.text, at);
    free(err);
    return object;
}

/* ---- --access-log -------------------------------------------------------------------------- */

static void start(void)
{
    const char *path = key_file();

    s = server_start((const char *const[]){"--access-log", "--log-format", "json", "--api-key-file",
                                           path, "i=identity:4", NULL});
    unlink(path);
}

static void is_text(json_t *line, const char *key, const char *want)
{
    json_t *v = json_object_get(line, key);
    char *text = json_dumps(line, 0);

    ck_assert_msg(v != NULL, "no %s: %s", key, text);
    ck_assert_msg(want ? json_is_string(v) && strcmp(json_string_value(v), want) == 0
                       : json_is_null(v),
                  "%s is not %s: %s", key, want ? want : "null", text);
    free(text);
}

static void is_number(json_t *line, const char *key, json_int_t want)
{
    json_t *v = json_object_get(line, key);

    ck_assert_msg(json_is_integer(v), "%s", key);
    ck_assert_int_eq(json_integer_value(v), want);
}

static const struct {
    const char *line, *headers, *body;
    int status;
    const char *code, *key, *method, *route, *dictionary, *op;
    int rows;
    const char *trace, *path;
} asks[] = {
    {"POST " ENCODE, KEY JSON "traceparent: 00" PARENT, ROWS, 200, NULL, "alice", "POST", ROUTE,
     "i", "encode", 2, TRACE, NULL},
    {"POST /v1/dictionaries/i/decode?top=1", KEY JSON, "{\"f\":[1,2,3,4]}", 400, "bad_option",
     "alice", "POST", "/v1/dictionaries/{}/decode", "i", "decode", 0, NULL, NULL},
    {"POST /v1/dictionaries/i/forward", KEY JSON "TRACEPARENT:  cc" PARENT, ROWS, 200, NULL,
     "alice", "POST", "/v1/dictionaries/{}/forward", "i", "forward", 2, TRACE, NULL},
    {"POST " ENCODE, KEY JSON, "{\"x\":[]}", 200, NULL, "alice", "POST", ROUTE, "i", "encode", 0,
     NULL, NULL},
    {"POST " ENCODE, KEY JSON, "{\"x\":[[1,2]]}", 400, "bad_shape", "alice", "POST", ROUTE, "i",
     "encode", 0, NULL, NULL},
    {"POST " ENCODE, KEY "Content-Type: text/plain\r\n", "", 415, "unsupported_media_type", "alice",
     "POST", ROUTE, "i", "encode", 0, NULL, NULL},
    {"POST " ENCODE, JSON "traceparent: 00" PARENT, ROWS, 401, "unauthorized", NULL, "POST", ROUTE,
     NULL, "other", 0, TRACE, "/v1/dictionaries/i/encode"},
    {"POST " ENCODE, "Authorization: Bearer k-stranger\r\n", "", 401, "unauthorized", NULL, "POST",
     ROUTE, NULL, "other", 0, NULL, "/v1/dictionaries/i/encode"},
    {"GET /healthz", "", "", 200, NULL, NULL, "GET", "/healthz", NULL, "other", 0, NULL, NULL},
    {"HEAD /v1/dictionaries/i", KEY, "", 200, NULL, "alice", "HEAD", "/v1/dictionaries/{}", "i",
     "other", 0, NULL, NULL},
    {"OPTIONS *", KEY, "", 204, NULL, "alice", "OPTIONS", NULL, NULL, "other", 0, NULL, "*"},
    {"PUT /v1", KEY, "", 405, "method_not_allowed", "alice", "other", "/v1", NULL, "other", 0, NULL,
     NULL},
    {"GET /v1/dictionaries/no%0Ane?k=k-query", KEY, "", 404, "unknown_dictionary", "alice", "GET",
     "/v1/dictionaries/{}", NULL, "other", 0, NULL, "/v1/dictionaries/no\nne"},
    {"GET /%22%7d%1b[31m%c3%a9%ff", KEY, "", 404, "not_found", "alice", "GET", NULL, NULL, "other",
     0, NULL, "/\"}\x1b[31m\xc3\xa9\xef\xbf\xbd"},
    {"GET /v1", KEY "Origin: http://evil.example\r\n", "", 403, "forbidden", NULL, "GET", "/v1",
     NULL, "other", 0, NULL, NULL},
    /* no traceparent, and no fault */
    {"GET /v1", KEY "traceparent: 00" PARENT "traceparent: 00" PARENT, "", 200, NULL, "alice",
     "GET", "/v1", NULL, "other", 0, NULL, NULL},
    {"GET /v1", KEY "traceparent: ff" PARENT, "", 200, NULL, "alice", "GET", "/v1", NULL, "other",
     0, NULL, NULL},
    {"GET /v1", KEY "traceparent: \"\\\r\n", "", 200, NULL, "alice", "GET", "/v1", NULL, "other", 0,
     NULL, NULL},
    {"GET /v1", KEY "traceparent:\r\n", "", 200, NULL, "alice", "GET", "/v1", NULL, "other", 0,
     NULL, NULL},
};

START_TEST(a_request_has_a_line)
{
    char headers[1024], id[64], part[64];
    double total, queue, compute;
    struct reply r;
    json_t *line;

    snprintf(id, sizeof id, "\"ask\\%d\"", _i);
    snprintf(part, sizeof part, "\"\\\"ask\\\\%d\\\"\"", _i);
    snprintf(headers, sizeof headers, "Saed-Request-Id: %s\r\n%s", id, asks[_i].headers);
    r = send_lines(asks[_i].line, headers, asks[_i].body);
    ck_assert_int_eq(r.status, asks[_i].status);
    line = line_with(part);
    is_text(line, "request", id);
    is_text(line, "event", "access");
    is_text(line, "level", "info");
    is_text(line, "key", asks[_i].key);
    is_text(line, "method", asks[_i].method);
    is_text(line, "route", asks[_i].route);
    is_text(line, "dictionary", asks[_i].dictionary);
    is_text(line, "op", asks[_i].op);
    is_text(line, "code", asks[_i].code);
    is_number(line, "status", asks[_i].status);
    is_number(line, "rows", asks[_i].rows);
    is_number(line, "batch_rows", asks[_i].status == 200 ? asks[_i].rows : 0);
    is_number(line, "bytes_out", (json_int_t)r.n);
    if (asks[_i].rows)
        is_number(line, "bytes_in", (json_int_t)strlen(asks[_i].body));
    total = json_real_value(json_object_get(line, "total_ms"));
    queue = json_real_value(json_object_get(line, "queue_ms"));
    compute = json_real_value(json_object_get(line, "compute_ms"));
    ck_assert(total > 0 && total < MS && queue >= 0 && compute >= 0 && queue + compute <= total);
    ck_assert((compute > 0) == (asks[_i].rows > 0));
    ck_assert(!!json_object_get(line, "trace") == !!asks[_i].trace);
    if (asks[_i].trace)
        is_text(line, "trace", asks[_i].trace);
    ck_assert(!!json_object_get(line, "path") == !!asks[_i].path);
    if (asks[_i].path)
        is_text(line, "path", asks[_i].path);
    json_decref(line);
    reply_free(&r);
    ck_assert_uint_eq(lines_with("k-"), 0); /* keys, queries */
    ck_assert_uint_eq(lines_with("81726"), 0);
}
END_TEST

START_TEST(each_request_has_one_line)
{
    int fd = raw_connect(&s);

    for (int i = 0; i < 50; i++) {
        struct reply r;

        raw_send(fd, "GET /v1/dictionaries HTTP/1.1\r\nHost: a\r\n" KEY "\r\n");
        r = raw_reply(fd, true, MS);
        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
    }
    close(fd);
    wait_for("\"route\":\"/v1/dictionaries\"", 50);
}
END_TEST

/* What the library answers by itself, and what saed says in its place. */
static const struct {
    const char *begin;
    size_t n_more; /* so many 'a' behind it */
    const char *end;
    int status;
} heads[] = {
    {"GET /", 40000, " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
    {"GET / HTTP/1.1\r\nHost: a\r\nA: ", 40000, "\r\n\r\n", 431},
    {"GET / HTTP/", 0, "7.1\r\nHost: a\r\n\r\n", 505},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: b", 0, "\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x", 0, "\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999", 0, "9999999999999\r\n\r\n", 413},
    {"POST " ENCODE " HTTP/1.1\r\nHost: a\r\n" KEY JSON "Transfer-Encoding: chunked\r\n\r\nz", 0,
     "z\r\n", 400},
};

START_TEST(a_head_that_is_refused_has_one_line)
{
    char *text = malloc(heads[_i].n_more + 1024), part[64], id[64];
    int fd = raw_connect(&s), n;
    size_t before = lines_with("\"event\":\"access\""), same;
    struct reply r;

    if (library_is_strict()) {
        printf("SKIP: what libmicrohttpd 1.0 answers by itself is its own affair\n");
        return;
    }
    ck_assert_ptr_nonnull(text);
    snprintf(part, sizeof part, "\"status\":%d", heads[_i].status);
    same = lines_with(part);
    n = sprintf(text, "%s", heads[_i].begin);
    memset(text + n, 'a', heads[_i].n_more);
    strcpy(text + n + heads[_i].n_more, heads[_i].end);
    raw_send(fd, text);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, heads[_i].status);
    reply_free(&r);
    close(fd);
    free(text);
    wait_for(part, same + 1);
    /* nothing else is on its way */
    snprintf(id, sizeof id, "Saed-Request-Id: after-%d\r\n" KEY, _i);
    ck_assert_int_eq(status_of("GET /v1", id, ""), 200);
    snprintf(id, sizeof id, "\"after-%d\"", _i);
    wait_for(id, 1);
    ck_assert_uint_eq(lines_with("\"event\":\"access\""), before + 2);
}
END_TEST

START_TEST(a_client_that_goes_is_logged)
{
    int fd = raw_connect(&s);
    json_t *line;

    raw_send(fd, "POST " ENCODE " HTTP/1.1\r\nHost: a\r\n" KEY JSON
                 "Saed-Request-Id: gone\r\nContent-Length: 100\r\n\r\n{\"x\":");
    close(fd);
    line = line_with("\"gone\"");
    is_text(line, "status", NULL);
    is_text(line, "code", NULL);
    is_number(line, "bytes_out", 0);
    json_decref(line);
}
END_TEST

static void start_text(void)
{
    s = server_start(
        (const char *const[]){"--access-log", "--log-level", "warn", "i=identity:4", NULL});
}

/* At --log-level warn those that are well have none, and nothing else is said. */
START_TEST(levels_hold)
{
    ck_assert_int_eq(status_of("POST " ENCODE, JSON, ROWS), 200);
    ck_assert_int_eq(status_of("GET /none", "", ""), 404);
    ck_assert_uint_eq(lines_with(""), 0);
}
END_TEST

/* ---- without it ---------------------------------------------------------------------------- */

static void start_without(void)
{
    s = server_start((const char *const[]){"--max-delay-us", "10000000", "--request-timeout-ms",
                                           "1", "i=identity:4", NULL});
}

START_TEST(what_is_refused_has_lines_of_a_bounded_number)
{
    for (int i = 0; i < 25; i++)
        ck_assert_int_eq(status_of("GET /none", "traceparent: 00" PARENT, ""), 404);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(status_of("POST " ENCODE, JSON, "{"), 400);
    ck_assert_int_eq(status_of("GET /v1", "", ""), 200);
    ck_assert_int_eq(status_of("POST " ENCODE, JSON, ROWS), 504);
    wait_for(" warn refused ", 1);
    wait_for(" code=deadline_exceeded ", 1);
    wait_for(" info refused ", 13);
    wait_for(" trace=" TRACE " path=/none", 10);
    ck_assert_uint_eq(lines_with("status=200"), 0);
    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    wait_for(" warn refused code=not_found left_out=15", 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *t = tcase_create("access"), *text = tcase_create("levels"), *w = tcase_create("refused");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_loop_test(t, a_request_has_a_line, 0, (int)(sizeof asks / sizeof asks[0]));
    tcase_add_test(t, each_request_has_one_line);
    tcase_add_loop_test(t, a_head_that_is_refused_has_one_line, 0,
                        (int)(sizeof heads / sizeof heads[0]));
    tcase_add_test(t, a_client_that_goes_is_logged);
    suite_add_tcase(suite, t);
    tcase_add_checked_fixture(text, start_text, stop);
    tcase_add_test(text, levels_hold);
    suite_add_tcase(suite, text);
    tcase_add_checked_fixture(w, start_without, NULL);
    tcase_add_test(w, what_is_refused_has_lines_of_a_bounded_number);
    suite_add_tcase(suite, w);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
