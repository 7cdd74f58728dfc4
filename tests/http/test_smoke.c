/* test_smoke.c - the daemon as a client sees it: routes, forms, refusals, connections, the end.
 *
 * One line of each kind; what belongs to a codec, a formula or the scheduler is tested at its
 * place. */
#include "tests/http/support_body.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define X4 "[1,-2,3,0.5]"
#define MS 10000

static const char *const dictionaries[] = {
    "a=init:AutoEncoder:4:8",
    "g=init:GatedAutoEncoder:4:8",
    "j=init:JumpAutoEncoder:4:8",
    "n=init:AutoEncoderNew:4:8",
    "i=identity:4",
    NULL,
};

static struct server s;

static void start(void)
{
    s = server_start(dictionaries);
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static void expect(struct reply r, int status, const char *text)
{
    ck_assert_msg(r.status == status, "status %d, want %d: %s", r.status, status, r.body);
    ck_assert_msg(strstr(r.body, text) != NULL, "no %s in %s", text, r.body);
    ck_assert_ptr_nonnull(reply_header(&r, "Saed-Request-Id"));
    ck_assert_str_eq(reply_header(&r, "X-Content-Type-Options"), "nosniff");
    ck_assert_str_eq(reply_header(&r, "Cache-Control"), "no-store");
    reply_free(&r);
}

/* ---- routes -------------------------------------------------------------------------------- */

START_TEST(get_routes_answer)
{
    expect(get(&s, "/v1"), 200, "\"max_batch_rows\":256");
    expect(get(&s, "/v1?x=1"), 200, "\"version\"");
    expect(get(&s, "/v1/dictionaries"), 200, "\"name\":\"n\"");
    expect(get(&s, "/v1/dictionaries/a"), 200, "\"dict_class\":\"AutoEncoder\"");
    expect(get(&s, "/v1/dictionaries/%61"), 200, "\"source\":\"init:AutoEncoder:4:8\"");
    expect(get(&s, "/healthz"), 200, "ok");
    expect(get(&s, "/readyz"), 200, "");
    expect(get(&s, "/metrics"), 200, "saed_requests_total{");
}
END_TEST

START_TEST(head_has_the_headers_of_get)
{
    struct reply g = get(&s, "/v1/dictionaries/a");
    struct reply h = request(&s, "HEAD", "/v1/dictionaries/a", NULL, NULL, 0);
    char length[64];

    ck_assert_int_eq(h.status, 200);
    ck_assert_uint_eq(h.n, 0);
    snprintf(length, sizeof length, "%zu", g.n);
    ck_assert_str_eq(reply_header(&h, "Content-Length"), length);
    reply_free(&g);
    reply_free(&h);
}
END_TEST

static const struct {
    const char *method, *path;
    int status;
    const char *code, *allow;
} refused_routes[] = {
    {"GET", "/none", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "/v1/", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "//v1", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "/V1", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "/v1%2Fdictionaries", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "/v1/dictionaries/", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "/v1/dictionaries/a/", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "/v1/dictionaries/a/xyz", 404, "\"code\":\"not_found\"", NULL},
    {"GET", "/v1/dictionaries/z", 404, "served are a, g, j, n, i", NULL},
    {"DELETE", "/v1/dictionaries/z/encode", 404, "\"code\":\"unknown_dictionary\"", NULL},
    {"GET", "/v1/dictionaries/z/xyz", 404, "\"code\":\"unknown_dictionary\"", NULL},
    {"GET", "/v1/dictionaries/a/encode", 405, "\"code\":\"method_not_allowed\"", "POST, OPTIONS"},
    {"OPTIONS", "/v2", 404, "\"code\":\"not_found\"", NULL},
    {"DELETE", "/v1/dictionaries/a", 405, "\"code\":\"method_not_allowed\"", "GET, HEAD, OPTIONS"},
};

START_TEST(other_routes_are_refused)
{
    struct reply r = request(&s, refused_routes[_i].method, refused_routes[_i].path, NULL, NULL, 0);

    if (refused_routes[_i].allow)
        ck_assert_str_eq(reply_header(&r, "Allow"), refused_routes[_i].allow);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/problem+json");
    expect(r, refused_routes[_i].status, refused_routes[_i].code);
}
END_TEST

/* ---- operations ---------------------------------------------------------------------------- */

START_TEST(operations_answer_in_json)
{
    struct reply r = post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":" X4 "}");

    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/json");
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "1");
    ck_assert_str_eq(reply_header(&r, "Vary"), "Accept");
    ck_assert_int_eq(strncmp(reply_header(&r, "Server-Timing"), "queue;dur=", 10), 0);
    ck_assert_ptr_nonnull(strstr(reply_header(&r, "Server-Timing"), ", compute;dur="));
    ck_assert_ptr_nonnull(strstr(reply_header(&r, "Server-Timing"), ", total;dur="));
    ck_assert_str_eq(r.body, "{\"f\":[1,-2,3,0.5]}\n");
    expect(r, 200, "");
    expect(post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":[" X4 "],\"top_k\":1}"), 200,
           "{\"f\":{\"shape\":[1,4],\"indices\":[[2]],\"values\":[[3]]}}");
    expect(post_json(&s, "/v1/dictionaries/i/encode?sparse=true", "{\"x\":[0,1,0,0]}"), 200,
           "{\"f\":{\"shape\":[4],\"indices\":[[1]],\"values\":[[1]]}}");
    expect(post_json(&s, "/v1/dictionaries/i/decode", "{\"f\":[[" X4 "]]}"), 200,
           "{\"x_hat\":[[[1,-2,3,0.5]]]}");
    expect(post_json(&s, "/v1/dictionaries/i/decode",
                     "{\"f\":{\"shape\":[4],\"indices\":[[3,1]],\"values\":[[2,5]]}}"),
           200, "{\"x_hat\":[0,5,0,2]}");
    expect(post_json(&s, "/v1/dictionaries/i/forward", "{\"x\":" X4 ",\"output_features\":true}"),
           200, "{\"x_hat\":[1,-2,3,0.5],\"f\":[1,-2,3,0.5],\"f_units\":\"encode\"}");
    expect(post_json(&s, "/v1/dictionaries/n/forward", "{\"x\":" X4 ",\"output_features\":true}"),
           200, "\"f_units\":\"decoder_norm\"");
    expect(post_json(&s, "/v1/dictionaries/g/encode", "{\"x\":" X4 ",\"return_gate\":true}"), 200,
           "\"gate\":[");
    expect(post_json(&s, "/v1/dictionaries/j/forward", "{\"x\":" X4 ",\"output_pre_jump\":true}"),
           200, "\"pre_jump\":[");
    expect(post_json(&s, "/v1/dictionaries/a/forward",
                     "{\"x\":" X4 ",\"ghost_mask\":[1,1,1,1,0,0,0,0]}"),
           200, "\"x_ghost\":[");
    expect(post_json(&s, "/v1/dictionaries/i/forward", "{\"x\":" X4 ",\"ghost_mask\":[1]}"), 200,
           "{\"x_hat\":[1,-2,3,0.5]}");
}
END_TEST

START_TEST(no_rows_make_no_batch)
{
    struct reply r = post_json(&s, "/v1/dictionaries/a/forward", "{\"x\":[]}");

    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "0");
    ck_assert_str_eq(r.body, "{\"x_hat\":[]}\n");
    expect(r, 200, "");
}
END_TEST

START_TEST(raw_bytes_in_and_out)
{
    static const char *const headers[] = {"Content-Type: application/octet-stream",
                                          "Saed-Shape: 2,1,4", NULL};
    float x[8] = {1, 2, 3, 4, -5, -6, -7, -8};
    struct reply r = request(&s, "POST", "/v1/dictionaries/i/encode", headers, x, sizeof x);

    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/octet-stream");
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "2,1,4");
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "2");
    ck_assert_uint_eq(r.n, sizeof x);
    ck_assert_int_eq(memcmp(r.body, x, sizeof x), 0);
    reply_free(&r);
}
END_TEST

START_TEST(safetensors_out)
{
    static const char *const headers[] = {"Accept: application/x-safetensors", NULL};
    struct reply r =
        request(&s, "POST", "/v1/dictionaries/i/encode", headers, "{\"x\":" X4 "}", 18);

    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/x-safetensors");
    ck_assert_ptr_null(reply_header(&r, "Saed-Shape"));
    reply_free(&r);
}
END_TEST

static const struct {
    const char *path, *type, *accept, *body;
    int status;
    const char *code;
} refused_bodies[] = {
    {"a/encode", "application/x-www-form-urlencoded", NULL, "{\"x\":" X4 "}", 415, "--json"},
    {"a/encode", "text/plain", NULL, "{\"x\":" X4 "}", 415, "unsupported_media_type"},
    {"a/encode", "application/json", NULL, "{", 400, "malformed_json"},
    {"a/encode", "application/json", NULL, "", 400, "malformed_json"},
    {"a/encode", "application/json", NULL, "{\"x\":[1,2]}", 400, "bad_shape"},
    {"a/encode", "application/json", NULL, "{\"x\":[1,2,3,1e39]}", 400, "bad_number"},
    {"a/encode", "application/json", NULL, "{\"x\":" X4 ",\"y\":1}", 400, "bad_option"},
    {"a/encode?top_k=2&top_k=3", "application/json", NULL, "{\"x\":" X4 "}", 400, "bad_option"},
    {"a/encode?top_k=2", "application/json", NULL, "{\"x\":" X4 ",\"top_k\":2}", 400, "bad_option"},
    {"a/encode", "application/json", NULL, "{\"x\":" X4 ",\"return_gate\":true}", 400,
     "bad_option"},
    {"a/encode", "application/octet-stream", NULL, "123", 400, "bad_shape"},
    {"a/encode", "application/x-safetensors", NULL, "12345678", 400, "malformed_body"},
    {"a/encode?sparse=true", "application/json", "application/octet-stream", "{\"x\":" X4 "}", 406,
     "not_acceptable"},
    {"a/encode", "application/json", "text/html", "{\"x\":" X4 "}", 406, "not_acceptable"},
};

START_TEST(bodies_are_refused)
{
    char path[128], type[128], accept[128];
    const char *headers[] = {type, accept, NULL};

    snprintf(path, sizeof path, "/v1/dictionaries/%s", refused_bodies[_i].path);
    snprintf(type, sizeof type, "Content-Type: %s", refused_bodies[_i].type);
    snprintf(accept, sizeof accept, "Accept: %s",
             refused_bodies[_i].accept ? refused_bodies[_i].accept : "*/*");
    expect(request(&s, "POST", path, headers, refused_bodies[_i].body,
                   strlen(refused_bodies[_i].body)),
           refused_bodies[_i].status, refused_bodies[_i].code);
}
END_TEST

/* ---- heads --------------------------------------------------------------------------------- */

#define GET_LINE "GET /v1 HTTP/1.1\r\n"
static const char *const bad_heads[] = {
    GET_LINE "\r\n",                          /* no Host */
    GET_LINE "Host: a\r\nHost: a\r\n\r\n",    /* two */
    GET_LINE "Host: a b\r\n\r\n",             /* no host */
    GET_LINE "Host: a\r\nX Y: 1\r\n\r\n",     /* blank in a name */
    GET_LINE "Host: a\r\nX : 1\r\n\r\n",      /* blank before the colon */
    GET_LINE "Host: a\r\nX: \x01\r\n\r\n",    /* control byte */
    GET_LINE "Host: a\r\nX: 1\r\n 2\r\n\r\n", /* folded */
    GET_LINE "Host: a\nX: 1\r\n\r\n",         /* bare LF */
    GET_LINE "Host: a\r\nX: 1\n\n",           /* bare LF at the end */
    GET_LINE "Host: a\r\nX: 1\rY: 2\r\n\r\n", /* bare CR */
    GET_LINE "Host: a\r\nSaed-Request-Id: a b\r\n\r\n",
    GET_LINE "Host: a\r\nSaed-Request-Id: \r\n\r\n",
    "GET  /v1 HTTP/1.1\r\nHost: a\r\n\r\n", /* two blanks */
    "GET /v1  HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v1%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v%1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET https://a/v1 HTTP/1.1\r\nHost: a\r\n\r\n", /* not here */
    "GET http:///v1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://u@a/v1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "G(T /v1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /v1/dictionaries/a/encode HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: "
    "1\r\n\r\n1",
    "POST /v1/dictionaries/a/encode HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: "
    "chunked\r\n\r\n",
    "POST /v1/dictionaries/a/encode HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, "
    "chunked\r\n\r\n",
    "POST /v1/dictionaries/a/encode HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    "POST /v1/dictionaries/a/encode HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
};

START_TEST(heads_that_are_not_http_are_refused)
{
    const char *series = "saed_requests_total{dictionary=\"\",op=\"other\",code=\"400\"}";
    double before = metric(&s, series);
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, bad_heads[_i]);
    r = raw_reply(fd, true, MS);
    ck_assert_msg(r.status == 400, "%d to %s", r.status, bad_heads[_i]);
    check_bad_head(&r);
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
    ck_assert(metric(&s, series) == (before < 0 ? 1 : before + 1));
}
END_TEST

START_TEST(a_nul_in_the_head_is_refused)
{
    static const char in_value[] = "GET /v1 HTTP/1.1\r\nHost: a\r\nX: 1\0"
                                   "2\r\n\r\n";
    static const char in_target[] = "GET /v1\0x HTTP/1.1\r\nHost: a\r\n\r\n";
    const char *heads[] = {in_value, in_target};
    size_t sizes[] = {sizeof in_value - 1, sizeof in_target - 1};

    for (int i = 0; i < 2; i++) {
        int fd = raw_connect(&s);
        struct reply r;

        raw_send_bytes(fd, heads[i], sizes[i]);
        r = raw_reply(fd, true, MS);
        check_bad_head(&r);
        reply_free(&r);
        ck_assert(raw_is_closed(fd, MS));
        close(fd);
    }
}
END_TEST

START_TEST(the_request_id_is_echoed)
{
    static const char *const headers[] = {"Saed-Request-Id: my-id~1", NULL};
    struct reply r = request(&s, "GET", "/nothing", headers, NULL, 0);

    ck_assert_str_eq(reply_header(&r, "Saed-Request-Id"), "my-id~1");
    reply_free(&r);
}
END_TEST

/* ---- connections --------------------------------------------------------------------------- */

#define POST_A "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n"

START_TEST(a_connection_carries_many_requests)
{
    int fd = raw_connect(&s);
    struct reply r;

    /* Pipelined: GET, an error with its body read, an operation, one with a blank line before it.
     */
    raw_send(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" POST_A
                 "Content-Length: 1\r\n\r\n{" POST_A "Content-Length: 17\r\n\r\n{\"x\":[1,2,3,4]}  "
                 "\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 400);
    ck_assert_ptr_null(reply_header(&r, "Connection"));
    reply_free(&r);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    reply_free(&r);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 404);
    reply_free(&r);
    raw_send(fd, POST_A
             "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"x\":[1,\r\n8\r\n2,3,4]} \r\n0\r\n\r\n");
    r = raw_reply(fd, true, MS);
    ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    reply_free(&r);
    close(fd);
}
END_TEST

/* Of these the library decides: it is the request that it should be, or the end. */
START_TEST(what_a_strict_library_refuses)
{
    static const char *const texts[] = {
        "\r\n\r\nPOST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n"
        "{\"x\":[1,2,3,4]}",
        POST_A "Transfer-Encoding: chunked\r\n\r\nf;x=y\r\n{\"x\":[1,2,3,4]}\r\n0\r\n\r\n",
    };
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, texts[_i]);
    r = raw_reply(fd, true, MS);
    if (library_is_strict()) {
        ck_assert(is_refused_by_library(&r));
        ck_assert(raw_is_closed(fd, MS));
    } else {
        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    }
    reply_free(&r);
    close(fd);
}
END_TEST

START_TEST(an_unread_body_closes_the_connection)
{
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 404);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
}
END_TEST

START_TEST(large_bodies_go_through_the_codec_threads)
{
    size_t rows = 40000, n = 0, cap = rows * 16 + 64;
    char *body = malloc(cap);
    struct reply r;

    n += (size_t)snprintf(body + n, cap - n, "{\"x\":[");
    for (size_t i = 0; i < rows; i++)
        n += (size_t)snprintf(body + n, cap - n, "%s[%zu,0,0,1]", i ? "," : "", i % 1000);
    n += (size_t)snprintf(body + n, cap - n, "]}");
    r = request(&s, "POST", "/v1/dictionaries/i/encode", NULL, body, n);
    expect(r, 413, "too_many_rows");
    body[0] = '\0';
    n = (size_t)snprintf(body, cap, "{\"x\":[");
    for (size_t i = 0; i < 16000; i++)
        n += (size_t)snprintf(body + n, cap - n, "%s[%zu.123456,0,0,1]", i ? "," : "", i % 1000);
    n += (size_t)snprintf(body + n, cap - n, "]}");
    r = request(&s, "POST", "/v1/dictionaries/i/encode",
                (const char *const[]){"Content-Type: application/json", NULL}, body, n);
    ck_assert_int_eq(r.status, 200);
    ck_assert_int_eq(strncmp(r.body, "{\"f\":[[0.123456,0,0,1],[1.123456,0,0,1]", 39), 0);
    reply_free(&r);
    free(body);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

/* ---- limits -------------------------------------------------------------------------------- */

START_TEST(limits_are_named)
{
    struct server t = server_start((const char *const[]){
        "--max-body-bytes", "200", "--max-json-bytes", "100", "--max-response-bytes", "600",
        "--max-queue-rows", "8", "--request-timeout-ms", "400", "i=identity:4", NULL});
    struct reply r;
    char body[600];
    int fd;

    memset(body, ' ', sizeof body);
    r = request(&t, "POST", "/v1/dictionaries/i/encode",
                (const char *const[]){"Content-Type: application/json", NULL}, body, 101);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    expect(r, 413, "\"limit\":100,\"got\":101,\"option\":\"--max-json-bytes\"");
    r = request(&t, "POST", "/v1/dictionaries/i/encode",
                (const char *const[]){"Content-Type: application/octet-stream", NULL}, body, 201);
    expect(r, 413, "\"option\":\"--max-body-bytes\"");
    r = request(&t, "POST", "/v1/dictionaries/i/encode",
                (const char *const[]){"Content-Type: application/octet-stream", NULL}, body, 144);
    expect(r, 413, "\"limit\":8,\"got\":9,\"option\":\"--max-queue-rows\"");
    r = request(&t, "POST", "/v1/dictionaries/i/forward?output_features=true",
                (const char *const[]){"Content-Type: application/octet-stream",
                                      "Accept: application/json", NULL},
                body, 128);
    expect(r, 413, "\"option\":\"--max-response-bytes\"");
    /* chunked: refused at the byte that passes the limit */
    fd = raw_connect(&t);
    raw_send(fd, POST_A "Transfer-Encoding: chunked\r\n\r\n96\r\n");
    raw_send_bytes(fd, body, 101);
    r = raw_reply(fd, true, MS);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    expect(r, 413, "body_too_large");
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
    /* a body may take longer than a request may wait */
    fd = raw_connect(&t);
    raw_send(fd, POST_A "Content-Length: 15\r\n\r\n{\"x\":");
    usleep(600000);
    raw_send(fd, "[1,2,3,4]}");
    r = raw_reply(fd, true, MS);
    expect(r, 200, "[1,2,3,4]");
    close(fd);
    wait_metric(&t, "saed_requests_in_flight", 1);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

START_TEST(a_client_that_goes_costs_no_compute)
{
    struct server t =
        server_start((const char *const[]){"--max-delay-us", "10000000", "i=identity:4", NULL});
    int fd = raw_connect(&t);

    raw_send(fd, POST_A "Content-Length: 17\r\n\r\n{\"x\":[1,2,3,4]}  ");
    wait_metric(&t, "saed_queue_rows{dictionary=\"i\"}", 1);
    shutdown(fd, SHUT_WR);
    ck_assert(raw_is_closed(fd, 9000)); /* the batch has not been made yet */
    ck_assert(metric(&t, "saed_queue_rows{dictionary=\"i\"}") == 0);
    wait_metric(&t, "saed_inflight_bytes", 0);
    ck_assert(metric(&t, "saed_rows_total{dictionary=\"i\",op=\"encode\"}") <= 0);
    close(fd);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* ---- the end ------------------------------------------------------------------------------- */

START_TEST(sigterm_answers_what_was_begun)
{
    struct server t =
        server_start((const char *const[]){"--max-delay-us", "2000000", "i=identity:4", NULL});
    int queued = raw_connect(&t), half = raw_connect(&t), idle = raw_connect(&t),
        piped = raw_connect(&t);
    struct reply r;

    raw_send(idle, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    r = raw_reply(idle, true, MS);
    reply_free(&r);
    raw_send(half, POST_A "Content-Length: 17\r\n\r\n{\"x\":[1,2");
    raw_send(queued, POST_A "Content-Length: 17\r\n\r\n{\"x\":[1,2,3,4]}  ");
    raw_send(
        piped, POST_A
        "Content-Length: 17\r\n\r\n{\"x\":[1,2,3,4]}  GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_metric(&t, "saed_requests_in_flight", 4);
    server_signal(&t, SIGTERM);
    r = raw_reply(queued, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    reply_free(&r);
    r = raw_reply(piped, true, MS);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    r = raw_reply(piped, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert(!raw_is_closed(idle, 0)); /* not before the last has been answered */
    raw_send(half, ",3,4]}  ");
    r = raw_reply(half, true, MS);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert(raw_is_closed(idle, MS));
    ck_assert_int_eq(server_wait(&t, MS), 0);
    close(queued), close(half), close(idle), close(piped);
}
END_TEST

START_TEST(the_drain_has_an_end)
{
    struct server t =
        server_start((const char *const[]){"--max-delay-us", "9000000", "--drain-timeout-ms", "300",
                                           "--drain-grace-ms", "100", "i=identity:4", NULL});
    int queued = raw_connect(&t), half = raw_connect(&t);
    struct reply r;

    raw_send(queued, POST_A "Content-Length: 17\r\n\r\n{\"x\":[1,2,3,4]}  ");
    raw_send(half, POST_A "Content-Le");
    wait_metric(&t, "saed_requests_in_flight", 3);
    server_signal(&t, SIGINT);
    r = raw_reply(queued, true, MS);
    ck_assert_int_eq(r.status, 503);
    ck_assert_str_eq(reply_header(&r, "Retry-After"), "1");
    ck_assert_ptr_nonnull(strstr(r.body, "\"code\":\"draining\""));
    reply_free(&r);
    ck_assert_int_eq(server_wait(&t, MS), 0);
    close(queued), close(half);
}
END_TEST

START_TEST(grace_serves_on_but_is_not_ready)
{
    struct server t =
        server_start((const char *const[]){"--drain-grace-ms", "60000", "i=identity:4", NULL});
    struct reply r = get(&t, "/readyz");
    char *out;

    ck_assert_int_eq(r.status, 200);
    server_signal(&t, SIGTERM);
    while (r.status == 200) {
        reply_free(&r);
        r = get(&t, "/readyz");
    }
    ck_assert_int_eq(r.status, 503);
    ck_assert_ptr_nonnull(strstr(r.body, "draining"));
    reply_free(&r);
    r = post_json(&t, "/v1/dictionaries/i/encode", "{\"x\":[1,2,3,4]}");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    server_signal(&t, SIGTERM); /* ends the grace */
    ck_assert_int_eq(server_wait(&t, MS), 0);
    out = server_stdout(&t);
    ck_assert_str_eq(out, ""); /* the `listening on` line was all */
    free(out);
}
END_TEST

START_TEST(a_port_in_use_is_one_line)
{
    char listen[64], *err;
    struct server t;

    snprintf(listen, sizeof listen, "127.0.0.1:%d", s.port);
    t = server_spawn((const char *const[]){"--listen", listen, "i=identity:4", NULL});
    ck_assert_int_eq(server_wait(&t, MS), 1);
    err = server_stderr(&t);
    ck_assert_ptr_nonnull(strstr(err, "Address already in use"));
    ck_assert_ptr_eq(strchr(err, '\n'), err + strlen(err) - 1);
    free(err);
}
END_TEST

START_TEST(check_prints_dictionaries)
{
    struct server t = server_spawn(
        (const char *const[]){"--check", "a=init:AutoEncoder:4:8", "i=identity:3", NULL});
    char *text;

    ck_assert_int_eq(server_wait(&t, MS), 0);
    text = server_stdout(&t);
    ck_assert_ptr_nonnull(
        strstr(text, "a class=AutoEncoder activation_dim=4 dict_size=8 dtype=float32 bytes=304"));
    ck_assert_ptr_nonnull(strstr(text, "\ni class=IdentityDict activation_dim=3"));
    free(text);
    t = server_spawn((const char *const[]){"--check", "a=/nothing/a.pt", "i=identity:3",
                                           "b=/nothing/b.pt", NULL});
    ck_assert_int_eq(server_wait(&t, MS), 1);
    text = server_stderr(&t);
    ck_assert_ptr_nonnull(strstr(text, "a: cannot load /nothing/a.pt: "));
    ck_assert_ptr_nonnull(strstr(text, "b: cannot load /nothing/b.pt: "));
    free(text);
}
END_TEST

/* The end of a client's sending may reach MHD together with its last bytes, and is then missed. */
START_TEST(an_upload_that_breaks_off_gives_its_memory_back)
{
    struct server t = server_start((const char *const[]){"i=identity:4", NULL});

    for (int i = 0; i < 200; i++) {
        int fd = raw_connect(&t);

        raw_send(fd, POST_A "Content-Length: 1000000\r\n\r\n{\"x\":[1,2");
        close(fd);
    }
    for (int ms = 0; ms < MS && metric(&t, "saed_inflight_bytes") > 0; ms += 50)
        usleep(50000);
    wait_metric(&t, "saed_inflight_bytes", 0);
    wait_metric(&t, "saed_requests_in_flight", 1);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("smoke");
    TCase *t = tcase_create("served");
    TCase *own = tcase_create("own server");
    SRunner *r = srunner_create(suite);

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, get_routes_answer);
    tcase_add_test(t, head_has_the_headers_of_get);
    tcase_add_loop_test(t, other_routes_are_refused, 0,
                        sizeof refused_routes / sizeof refused_routes[0]);
    tcase_add_test(t, operations_answer_in_json);
    tcase_add_test(t, no_rows_make_no_batch);
    tcase_add_test(t, raw_bytes_in_and_out);
    tcase_add_test(t, safetensors_out);
    tcase_add_loop_test(t, bodies_are_refused, 0, sizeof refused_bodies / sizeof refused_bodies[0]);
    tcase_add_loop_test(t, heads_that_are_not_http_are_refused, 0,
                        sizeof bad_heads / sizeof bad_heads[0]);
    tcase_add_test(t, a_nul_in_the_head_is_refused);
    tcase_add_test(t, the_request_id_is_echoed);
    tcase_add_test(t, a_connection_carries_many_requests);
    tcase_add_loop_test(t, what_a_strict_library_refuses, 0, 2);
    tcase_add_test(t, an_unread_body_closes_the_connection);
    tcase_add_test(t, large_bodies_go_through_the_codec_threads);
    tcase_add_test(t, a_port_in_use_is_one_line);
    suite_add_tcase(suite, t);
    tcase_set_timeout(own, 60);
    tcase_add_test(own, limits_are_named);
    tcase_add_test(own, a_client_that_goes_costs_no_compute);
    tcase_add_test(own, an_upload_that_breaks_off_gives_its_memory_back);
    tcase_add_test(own, sigterm_answers_what_was_begun);
    tcase_add_test(own, the_drain_has_an_end);
    tcase_add_test(own, grace_serves_on_but_is_not_ready);
    tcase_add_test(own, check_prints_dictionaries);
    suite_add_tcase(suite, own);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
