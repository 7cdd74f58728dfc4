/* test_errors.c - every code of the contract, and which one is said when a request has several
 * faults: 400 head, 404, 405, 415, 413 by Content-Length, 400 body and options, 406, 413 rows or
 * answer, 503, 504. (Single refusals of bodies: test_json.c, test_binary.c.) */
#include "tests/http/support_body.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS 10000

static struct server s;

/* A queue of 8 rows that nothing leaves for 10 s. Answers up to 1,000 bytes, JSON bodies up to 300.
 */
static void start(void)
{
    s = server_start((const char *const[]){"--max-queue-rows", "8", "--max-delay-us", "10000000",
                                           "--max-json-bytes", "300", "--max-body-bytes", "400",
                                           "--max-response-bytes", "128", "i=identity:4",
                                           "k=identity:2", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

/* ---- precedence ---------------------------------------------------------------------------- */

#define TYPE(t) "Content-Type: " t "\r\n"
#define HTML "Accept: text/html\r\n"
#define LEN(n) "Content-Length: " n "\r\n\r\n"
#define JSON TYPE("application/json")
#define RAW TYPE("application/octet-stream")
#define I "/v1/dictionaries/i/encode"
/* 9 rows of identity:4, and 9 of width 3 */
#define NINE                                                                                      \
    "{\"x\":[[1,1,1,1],[1,1,1,1],[1,1,1,1],[1,1,1,1],[1,1,1,1],[1,1,1,1],[1,1,1,1],[1,1,1,1],[1," \
    "1,1,1]]}"

static const struct {
    const char *line, *headers, *body;
    int length; /* 0: the body's */
    int status;
    const char *code, *option;
} faults[] = {
    /* head before all */
    {"DELETE /nothing", "Host: b\r\n" TYPE("text/plain") HTML, "{", 5000, 400, "bad_request", NULL},
    {"POST " I, "Saed-Request-Id: a b\r\n" TYPE("text/plain"), "{", 0, 400, "bad_request", NULL},
    /* 404, before the method */
    {"DELETE /nothing", TYPE("text/plain") HTML, "{", 5000, 404, "not_found", NULL},
    {"PATCH /v1/dictionaries/z", TYPE("text/plain"), "{", 0, 404, "unknown_dictionary", NULL},
    {"POST /v1/dictionaries/z/encode", TYPE("text/plain") HTML, "{", 5000, 404,
     "unknown_dictionary", NULL},
    {"POST /v1/dictionaries/i/ENCODE", TYPE("text/plain"), "{", 0, 404, "not_found", NULL},
    /* 405, before the type */
    {"PUT " I, TYPE("text/plain") HTML, "{", 5000, 405, "method_not_allowed", NULL},
    {"POST /metrics", TYPE("text/plain"), "{", 0, 405, "method_not_allowed", NULL},
    /* 415, before the length */
    {"POST " I "?a=b", TYPE("text/plain") HTML, "{", 5000, 415, "unsupported_media_type", NULL},
    /* 413 by length, before body, options and Accept */
    {"POST " I "?a=b", JSON HTML, "{", 301, 413, "body_too_large", "--max-json-bytes"},
    {"POST " I "?a=b", RAW HTML, "{", 401, 413, "body_too_large", "--max-body-bytes"},
    /* 400 for the body and the options, before 406 */
    {"POST " I, JSON HTML, "{", 0, 400, "malformed_json", NULL},
    {"POST " I, JSON HTML, "{\"x\":[1,2,3]}", 0, 400, "bad_shape", NULL},
    {"POST " I "?a=b", JSON HTML, "{\"x\":[1,2,3,4]}", 0, 400, "bad_option", NULL},
    {"POST " I "?top_k=0", RAW HTML, "0123456789abcdef", 0, 400, "bad_option", NULL},
    {"POST " I, TYPE("application/x-safetensors") HTML, "{", 0, 400, "malformed_body", NULL},
    {"POST " I, JSON HTML, "{\"x\":[1,2,3,1e99]}", 0, 400, "bad_number", NULL},
    /* 406, before 413 for rows and answer */
    {"POST " I, JSON HTML, NINE, 0, 406, "not_acceptable", NULL},
    /* 413 for rows and answer, before 503 (the queue is full by then) */
    {"POST " I, JSON "Accept: application/octet-stream\r\n", NINE, 0, 413, "too_many_rows",
     "--max-queue-rows"},
    {"POST " I, JSON, "{\"x\":[[1,1,1,1],[1,1,1,1],[1,1,1,1]]}", 0, 413, "response_too_large",
     "--max-response-bytes"},
    /* 503 */
    {"POST " I, JSON, "{\"x\":[1,2,3,4]}", 0, 503, "overloaded", NULL},
};

START_TEST(the_first_fault_is_named)
{
    char head[1024];
    int length = faults[_i].length ? faults[_i].length : (int)strlen(faults[_i].body);
    int fd = raw_connect(&s), full = raw_connect(&s);
    struct reply r;

    /* the queue is full: 8 rows wait */
    raw_send(full, "POST " I " HTTP/1.1\r\nHost: a\r\n" RAW LEN("128"));
    raw_send_bytes(full, (float[32]){1}, 128);
    wait_metric(&s, "saed_queue_rows{dictionary=\"i\"}", 8);
    snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n",
             faults[_i].line, faults[_i].headers, length);
    raw_send(fd, head);
    raw_send(fd, faults[_i].body);
    r = raw_reply(fd, true, MS);
    ck_assert_msg(r.status == faults[_i].status, "%s %s: %d %s", faults[_i].line, faults[_i].body,
                  r.status, r.body);
    if (strcmp(faults[_i].code, "overloaded") == 0) {
        ck_assert_str_eq(json_member(&r, "code"), "overloaded");
        ck_assert_ptr_nonnull(reply_header(&r, "Retry-After"));
        ck_assert_str_eq(json_member(&r, "option"), "--max-queue-rows");
    } else {
        check_problem(&r, faults[_i].status, faults[_i].code, NULL, faults[_i].option);
    }
    reply_free(&r);
    close(fd);
    close(full);
    wait_metric(&s, "saed_queue_rows{dictionary=\"i\"}", 0);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

/* ---- methods ------------------------------------------------------------------------------- */

START_TEST(allow_names_the_methods)
{
    static const char *const methods[] = {"GET",    "HEAD",    "POST",  "PUT", "PATCH",
                                          "DELETE", "OPTIONS", "TRACE", "FOO"};
    static const char *const paths[] = {"/v1",
                                        "/v1/dictionaries",
                                        "/v1/dictionaries/i",
                                        "/healthz",
                                        "/readyz",
                                        "/metrics",
                                        "/v1/dictionaries/i/encode",
                                        "/v1/dictionaries/i/decode",
                                        "/v1/dictionaries/i/forward"};

    for (size_t p = 0; p < 9; p++)
        for (size_t m = 0; m < 9; m++) {
            bool is_get = m < 2, is_op = p >= 6, is_options = m == 6;
            char text[256];
            int fd = raw_connect(&s);
            struct reply r;

            snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                     methods[m], paths[p]);
            raw_send(fd, text);
            r = raw_reply(fd, m != 1, MS);
            if (is_op ? m == 2 : is_get) {
                ck_assert_int_eq(r.status, is_op ? 400 : 200);
                ck_assert_ptr_null(reply_header(&r, "Allow"));
            } else {
                ck_assert_msg(r.status == (is_options ? 204 : 405), "%s", text);
                ck_assert_str_eq(reply_header(&r, "Allow"),
                                 is_op ? "POST, OPTIONS" : "GET, HEAD, OPTIONS");
                if (r.status == 405 && m != 1)
                    check_problem(&r, 405, "method_not_allowed", is_op ? "POST" : "GET", NULL);
            }
            reply_free(&r);
            close(fd);
        }
}
END_TEST

START_TEST(details_help)
{
    struct reply r = get(&s, "/v1/dictionaries/nobody");

    check_problem(&r, 404, "unknown_dictionary", "nobody", NULL);
    ck_assert_ptr_nonnull(strstr(json_member(&r, "detail"), "i, k"));
    reply_free(&r);
    r = post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":[1,2]}");
    check_problem(&r, 400, "bad_shape", "; that width is taken by \"k\"", NULL);
    reply_free(&r);
    r = post_json(&s, "/v1/dictionaries/k/decode", "{\"f\":[1,2,3,4]}");
    check_problem(&r, 400, "bad_shape", "; that width is taken by \"i\"", NULL);
    reply_free(&r);
    r = post_json(&s, "/v1/dictionaries/k/forward", "{\"x\":[1,2,3]}");
    check_problem(&r, 400, "bad_shape", "; no dictionary takes that width", NULL);
    reply_free(&r);
    r = post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":[1,2,3,4],");
    check_problem(&r, 400, "malformed_json", "15", NULL); /* where */
    reply_free(&r);
}
END_TEST

/* ---- the limits, exactly --------------------------------------------------------------------- */

static struct reply post_raw(const struct server *t, const char *path, const char *accept,
                             const void *body, size_t n)
{
    char line[128];
    const char *headers[] = {"Content-Type: application/octet-stream", line, NULL};

    snprintf(line, sizeof line, "Accept: %s", accept);
    return request(t, "POST", path, headers, body, n);
}

START_TEST(limits_are_exact)
{
    struct server t =
        server_start((const char *const[]){"--max-response-bytes", "400", "--max-body-bytes", "416",
                                           "--max-queue-rows", "25", "i=identity:4", NULL});
    float ones[256], zeros[256] = {0};
    struct reply r;

    for (int i = 0; i < 256; i++)
        ones[i] = 1;
    r = post_raw(&t, "/v1/dictionaries/i/encode", "*/*", ones, 400);
    ck_assert_int_eq(r.status, 200); /* an answer of 400 bytes, 25 rows */
    reply_free(&r);
    r = post_raw(&t, "/v1/dictionaries/i/encode", "*/*", ones, 416);
    check_problem(&r, 413, "too_many_rows", "26", "--max-queue-rows");
    ck_assert_str_eq(json_member(&r, "limit"), "25");
    ck_assert_str_eq(json_member(&r, "got"), "26");
    reply_free(&r);
    r = post_raw(&t, "/v1/dictionaries/i/encode", "*/*", ones, 417);
    check_problem(&r, 413, "body_too_large", NULL, "--max-body-bytes");
    ck_assert_str_eq(json_member(&r, "got"), "417");
    reply_free(&r);
    /* JSON: 16 a number, before compute */
    double rows = metric(&t, "saed_rows_total{dictionary=\"i\",op=\"encode\"}");
    r = post_raw(&t, "/v1/dictionaries/i/encode", "application/json", ones, 400);
    check_problem(&r, 413, "response_too_large", NULL, "--max-response-bytes");
    reply_free(&r);
    ck_assert(metric(&t, "saed_rows_total{dictionary=\"i\",op=\"encode\"}") == rows);
    r = post_raw(&t, "/v1/dictionaries/i/encode", "application/json", ones, 4 * 16);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    /* sparse: after selection */
    r = post_raw(&t, "/v1/dictionaries/i/encode?sparse=true", "application/json", zeros, 320);
    ck_assert_msg(r.status == 200, "%s", r.body);
    reply_free(&r);
    rows = metric(&t, "saed_rows_total{dictionary=\"i\",op=\"encode\"}");
    r = post_raw(&t, "/v1/dictionaries/i/encode?sparse=true", "application/json", ones, 320);
    check_problem(&r, 413, "response_too_large", NULL, "--max-response-bytes");
    reply_free(&r);
    ck_assert(metric(&t, "saed_rows_total{dictionary=\"i\",op=\"encode\"}") == rows + 20);
    wait_metric(&t, "saed_inflight_bytes", 0);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* What is made of a body counts beside it: here the keys of a header, 50,000 bytes twice. */
START_TEST(memory_of_a_codec)
{
    struct server t =
        server_start((const char *const[]){"--max-inflight-bytes", "100000", "i=identity:4", NULL});
    const char *const headers[] = {"Content-Type: application/x-safetensors", NULL};
    struct st_body b = {0};
    static char key[50000];
    struct text body;
    struct reply r;

    memset(key, 'k', sizeof key - 1);
    text_addf(&b.header, "{\"__metadata__\":{\"");
    text_add(&b.header, key, sizeof key - 1);
    text_addf(&b.header, "\":\"\"}");
    body = st_end(&b);
    r = request(&t, "POST", "/v1/dictionaries/i/encode", headers, body.p, body.n);
    check_problem(&r, 413, "body_too_large", "it alone needs", "--max-inflight-bytes");
    reply_free(&r);
    wait_metric(&t, "saed_inflight_bytes", 0);
    text_free(&body);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

static double peak_mb(const struct server *t)
{
    char path[64], line[256];
    double kb = -1;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)t->pid);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf kB", &kb) == 1)
            break;
    fclose(f);
    return kb / 1024;
}

/* 4 million empty rows in 16 MB: 32 MB as read, and 96 MB as the engine would have had them, which
 * nobody may make of more rows than a queue holds. */
START_TEST(memory_of_empty_rows)
{
    enum { ROWS = 4000000 };
    struct server t =
        server_start((const char *const[]){"--max-inflight-bytes", "64M", "i=identity:4", NULL});
    const char *const headers[] = {"Content-Type: application/x-safetensors", NULL};
    const int64_t shape[2] = {ROWS, 4};
    int32_t *indptr = calloc(ROWS + 1, sizeof *indptr);
    struct st_body b = {0};
    double before = peak_mb(&t);
    struct text body;
    struct reply r;

    st_add(&b, "f.indptr", "I32", "[4000001]", indptr, (ROWS + 1) * sizeof *indptr);
    st_add(&b, "f.indices", "I32", "[0]", "", 0);
    st_add(&b, "f.values", "F32", "[0]", "", 0);
    st_add(&b, "f.shape", "I64", "[2]", shape, sizeof shape);
    body = st_end(&b);
    r = request(&t, "POST", "/v1/dictionaries/i/decode", headers, body.p, body.n);
    check_problem(&r, 413, "too_many_rows", NULL, "--max-queue-rows");
    if (!SANITIZED) /* which keeps what has been freed */
        ck_assert_msg(peak_mb(&t) < before + 70, "from %.0f to %.0f MB", before, peak_mb(&t));
    reply_free(&r);
    wait_metric(&t, "saed_inflight_bytes", 0);
    text_free(&body);
    free(indptr);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

static struct reply decode_top(const struct server *t, const char *shape)
{
    const char *const headers[] = {"Content-Type: application/x-safetensors",
                                   "Accept: application/json", NULL};
    struct st_body b = {0};
    struct text body;
    struct reply r;

    st_add(&b, "f.top_indices", "I32", shape, "", 0);
    st_add(&b, "f.top_values", "F32", shape, "", 0);
    body = st_end(&b);
    r = request(t, "POST", "/v1/dictionaries/i/decode", headers, body.p, body.n);
    text_free(&body);
    return r;
}

/* Rows of no columns are as many as their shape says, in a body of 150 bytes: 800 MB as read. */
START_TEST(memory_of_rows_without_bytes)
{
    struct server t = server_start((const char *const[]){"i=identity:4", NULL});
    double before = peak_mb(&t);
    struct reply r = decode_top(&t, "[100000000,0]");

    check_problem(&r, 413, "too_many_rows", NULL, "--max-queue-rows");
    if (!SANITIZED)
        ck_assert_msg(peak_mb(&t) < before + 70, "from %.0f to %.0f MB", before, peak_mb(&t));
    reply_free(&r);
    r = decode_top(&t, "[2,0]");
    ck_assert_str_eq(r.body, "{\"x_hat\":[[0,0,0,0],[0,0,0,0]]}\n");
    reply_free(&r);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* A chunked body is read into an array that doubles: the rows keep all of it. */
START_TEST(memory_of_a_chunked_body)
{
    struct server t =
        server_start((const char *const[]){"--max-delay-us", "10000000", "--max-batch-rows", "4096",
                                           "--max-queue-rows", "65536", "i=identity:64", NULL});
    enum { BYTES = 256 * 258 }; /* 258 rows; the array begins with 64 KB */
    static char x[BYTES];
    int fd = raw_connect(&t);

    raw_send(fd, "POST " I " HTTP/1.1\r\nHost: a\r\n" RAW "Transfer-Encoding: chunked\r\n\r\n"
                 "10200\r\n");
    raw_send_bytes(fd, x, BYTES);
    raw_send(fd, "\r\n0\r\n\r\n");
    wait_metric(&t, "saed_queue_rows{dictionary=\"i\"}", 258);
    ck_assert(metric(&t, "saed_inflight_bytes") >= (128 << 10) + 2 * BYTES);
    close(fd);
    server_signal(&t, SIGKILL);
    server_wait(&t, MS);
}
END_TEST

START_TEST(memory_in_flight)
{
    struct server t = server_start(
        (const char *const[]){"--max-inflight-bytes", "100000", "--max-delay-us", "10000000",
                              "--max-batch-rows", "4096", "i=identity:4", NULL});
    static float x[40000];
    char head[128];
    int fd = raw_connect(&t);
    struct reply r = post_raw(&t, "/v1/dictionaries/i/encode", "*/*", x, 100016);

    check_problem(&r, 413, "body_too_large", NULL, "--max-inflight-bytes"); /* alone */
    reply_free(&r);
    r = post_raw(&t, "/v1/dictionaries/i/encode", "*/*", x, 99984);
    check_problem(&r, 413, "response_too_large", NULL,
                  "--max-inflight-bytes"); /* with its answer */
    reply_free(&r);
    /* rows, features and answer are held: two of these leave no room for the third */
    for (int i = 0; i < 2; i++) {
        int more = i ? raw_connect(&t) : fd;

        snprintf(head, sizeof head, "POST " I " HTTP/1.1\r\nHost: a\r\n" RAW LEN("9600"));
        raw_send(more, head);
        raw_send_bytes(more, x, 9600);
        wait_metric(&t, "saed_queue_rows{dictionary=\"i\"}", (i + 1) * 600);
    }
    ck_assert(metric(&t, "saed_inflight_bytes") >= 4 * 9600);
    r = post_raw(&t, "/v1/dictionaries/i/encode", "*/*", x, 32000);
    ck_assert_msg(r.status == 503, "%s", r.body);
    ck_assert_str_eq(json_member(&r, "code"), "overloaded");
    ck_assert_ptr_nonnull(reply_header(&r, "Retry-After"));
    reply_free(&r);
    close(fd); /* room again */
    wait_metric(&t, "saed_queue_rows{dictionary=\"i\"}", 600);
    server_signal(&t, SIGKILL);
    server_wait(&t, MS);
}
END_TEST

START_TEST(a_deadline_is_a_504)
{
    struct server t = server_start((const char *const[]){
        "--max-delay-us", "10000000", "--request-timeout-ms", "300", "i=identity:4", NULL});
    long long begin = test_now_ms();
    struct reply r = post_json(&t, "/v1/dictionaries/i/encode", "{\"x\":[1,2,3,4]}");

    ck_assert_msg(r.status == 504, "%d %s", r.status, r.body);
    ck_assert_str_eq(json_member(&r, "code"), "deadline_exceeded");
    ck_assert(test_now_ms() - begin >= 290 && test_now_ms() - begin < 3000);
    ck_assert_ptr_null(reply_header(&r, "Connection"));
    reply_free(&r);
    ck_assert(metric(&t, "saed_rows_total{dictionary=\"i\",op=\"encode\"}") <= 0);
    ck_assert(metric(&t, "saed_requests_total{dictionary=\"i\",op=\"encode\",code=\"504\"}") == 1);
    wait_metric(&t, "saed_inflight_bytes", 0);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("errors");
    TCase *t = tcase_create("errors"), *own = tcase_create("own server");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, the_first_fault_is_named, 0, sizeof faults / sizeof faults[0]);
    tcase_add_test(t, allow_names_the_methods);
    tcase_add_test(t, details_help);
    suite_add_tcase(suite, t);
    tcase_set_timeout(own, 60);
    tcase_add_test(own, limits_are_exact);
    tcase_add_test(own, memory_of_a_codec);
    tcase_add_test(own, memory_of_empty_rows);
    tcase_add_test(own, memory_of_rows_without_bytes);
    tcase_add_test(own, memory_of_a_chunked_body);
    tcase_add_test(own, memory_in_flight);
    tcase_add_test(own, a_deadline_is_a_504);
    suite_add_tcase(suite, own);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
