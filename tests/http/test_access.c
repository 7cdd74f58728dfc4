/* test_access.c - who may call: Host on loopback, Origin, preflight, and that pages that may call
 * can read what they are answered. */
#include "tests/http/support_body.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS 20000
#define MB (1u << 20)
#define ENCODE "/v1/dictionaries/i/encode"
#define BODY "{\"x\":[1,2,3,4]}"
#define NOTES "https://notes.example"

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){"--max-json-bytes", "1M", "--allow-host", "Saed.Example",
                                           "--allow-host", "2001:db8::1", "--cors-allow-origin",
                                           NOTES, "--cors-allow-origin", "http://localhost:5173",
                                           "i=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static struct reply ask(const struct server *of, const char *text)
{
    int fd = raw_connect(of);
    bool is_head = strncmp(text, "HEAD", 4) == 0;
    struct reply r;

    raw_send(fd, text);
    r = raw_reply(fd, !is_head, MS);
    close(fd);
    return r;
}

/* ---- Host ------------------------------------------------------------------------------------ */

static const struct {
    const char *host;
    bool ok;
} hosts[] = {
    {"127.0.0.1", true},
    {"127.0.0.1:1", true},
    {"127.1.2.3", true},
    {"localhost", true},
    {"LOCALHOST:8888", true},
    {"localhost.", true},
    {"a.b.localhost:80", true},
    {"[::1]:8673", true},
    {"[::ffff:127.0.0.1]", true},
    {"saed.example", true},
    {"SAED.EXAMPLE.:443", true},
    {"[2001:db8::1]:80", true},
    {"", true}, /* no browser sends that */
    {"evil.example", false},
    {"evil.example:8673", false},
    {"localhost.evil.example", false},
    {"127.0.0.1.evil.example", false},
    {"saed.example.evil.example", false},
    {"xsaed.example", false},
    {"10.0.0.1", false},
    {"0.0.0.0", false},
    {"[2001:db8::2]", false},
    {"2130706433", false},
    {"localhost:x", false},
};

static const char *const targets[] = {"/healthz", "/readyz", "/metrics",
                                      "/v1",      "/none",   "/v1/dictionaries/none"};
#define N_TARGETS ((int)(sizeof targets / sizeof targets[0]))

/* Whatever is asked for: before any word about what there is. */
START_TEST(a_loopback_address_answers_to_its_own_names)
{
    char text[512];

    for (int i = 0; i < N_TARGETS; i++) {
        bool is_absolute = i % 2;
        struct reply r;

        if (is_absolute && hosts[_i].host[0])
            snprintf(text, sizeof text, "GET http://%s%s HTTP/1.1\r\nHost: %s\r\n\r\n",
                     hosts[_i].host, targets[i], hosts[_i].ok ? "evil.example" : "localhost");
        else
            snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", targets[i],
                     hosts[_i].host);
        r = ask(&s, text);
        if (hosts[_i].ok)
            ck_assert_msg(r.status == (i < 4 ? 200 : 404), "%s: %d %s", text, r.status, r.body);
        else
            check_problem(&r, 403, "forbidden", hosts[_i].host, "--allow-host");
        reply_free(&r);
    }
}
END_TEST

START_TEST(what_has_no_host_is_no_page)
{
    struct reply r = ask(&s, "GET /v1 HTTP/1.0\r\n\r\n");

    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    r = ask(&s, "GET /v1 HTTP/1.0\r\nHost: evil.example\r\n\r\n");
    check_problem(&r, 403, "forbidden", NULL, "--allow-host");
    reply_free(&r);
}
END_TEST

START_TEST(any_host_may_be_allowed)
{
    struct server t = server_start((const char *const[]){"--allow-host=*", "i=identity:4", NULL});
    struct reply r = ask(&t, "GET /v1 HTTP/1.1\r\nHost: evil.example\r\n\r\n");

    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* What a network calls an address is nothing that saed knows: a probe of Kubernetes has the pod's.
 */
START_TEST(addresses_of_the_network_have_any_name)
{
    char listen[32], line[128];
    struct server t = {0};
    struct reply r;
    int port = free_port();

    snprintf(listen, sizeof listen, "0.0.0.0:%d", port);
    snprintf(line, sizeof line, "listening on http://%s\n", listen);
    t = server_spawn(
        (const char *const[]){"--listen", listen, "--insecure-no-auth", "i=identity:4", NULL});
    for (bool listens = false; !listens;) {
        char *out = server_stdout(&t);

        listens = strstr(out, line) != NULL;
        free(out);
        if (!listens)
            usleep(2000);
    }
    t.port = port;
    r = ask(&t, "GET /healthz HTTP/1.1\r\nHost: 10.1.2.3:8673\r\n\r\n");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    r = ask(&t, "GET /healthz HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n");
    check_problem(&r, 403, "forbidden", "http://b", "--cors-allow-origin");
    reply_free(&r);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* ---- Origin ---------------------------------------------------------------------------------- */

enum judged { FOREIGN, OWN, LISTED };

static const struct {
    const char *origin, *host;
    enum judged judged;
} origins[] = {
    {"http://localhost:9000", "localhost:9000", OWN}, /* through ssh -L 9000:localhost:8673 */
    {"http://LOCALHOST", "localhost:80", OWN},
    {"https://saed.example", "saed.example", OWN}, /* a proxy that says what it was asked for */
    {"https://saed.example", "saed.example:443", OWN},
    {"http://[::1]:8673", "[::1]:8673", OWN},
    {NOTES, "localhost:8673", LISTED},
    {"https://NOTES.example:443", "localhost:8673", LISTED},
    {"http://localhost:5173", "localhost:8673", LISTED},
    {"http://localhost:5174", "localhost:8673", FOREIGN},
    {"http://127.0.0.1:8673", "localhost:8673", FOREIGN},
    {"http://notes.example", "localhost:8673", FOREIGN},
    {"https://notes.example.evil.example", "localhost:8673", FOREIGN},
    {"https://evil.example", "localhost:8673", FOREIGN},
    {"null", "localhost:8673", FOREIGN},
    {"", "localhost:8673", FOREIGN},
    {"localhost:8673", "localhost:8673", FOREIGN},
};

/* Pages that are listed read errors, too. */
static void check_readable(const struct reply *r, const char *origin)
{
    const char *exposed;

    if (!origin) {
        ck_assert_ptr_null(reply_header(r, "Access-Control-Allow-Origin"));
        ck_assert_ptr_null(reply_header(r, "Access-Control-Expose-Headers"));
        return;
    }
    ck_assert_str_eq(reply_header(r, "Access-Control-Allow-Origin"), origin);
    ck_assert_ptr_null(reply_header(r, "Access-Control-Allow-Credentials"));
    ck_assert_ptr_nonnull(strstr(r->head, "Vary: Origin\r\n"));
    exposed = reply_header(r, "Access-Control-Expose-Headers");
    ck_assert_ptr_nonnull(exposed);
    ck_assert(strstr(exposed, "Saed-Shape") && strstr(exposed, "Saed-Request-Id") &&
              strstr(exposed, "Server-Timing") && strstr(exposed, "Retry-After"));
}

START_TEST(pages_of_other_origins_are_refused_unless_they_are_listed)
{
    static const struct {
        const char *line, *rest;
        int status;
    } asks[] = {
        {"GET /v1", "\r\n", 200},
        {"HEAD /healthz", "\r\n", 200},
        {"GET /none", "\r\n", 404},
        {"PUT " ENCODE, "Content-Length: 2\r\n\r\n{}", 405},
        {"POST " ENCODE, "Content-Type: application/json\r\nContent-Length: 15\r\n\r\n" BODY, 200},
        {"POST " ENCODE, "Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{", 400},
        /* answered in mid-body, by another way */
        {"POST " ENCODE,
         "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n8000000\r\n", 413},
    };
    char text[600];

    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        bool is_413 = asks[i].status == 413, is_head = strncmp(asks[i].line, "HEAD", 4) == 0;
        int fd = raw_connect(&s);
        struct reply r;

        snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\n%s", asks[i].line,
                 origins[_i].host, origins[_i].origin, asks[i].rest);
        raw_send(fd, text);
        if (is_413 && origins[_i].judged != FOREIGN) {
            static char spaces[MB + 1];

            memset(spaces, ' ', sizeof spaces);
            raw_send_bytes(fd, spaces, sizeof spaces);
        }
        r = raw_reply(fd, !is_head, MS);
        if (origins[_i].judged == FOREIGN && is_head)
            ck_assert_int_eq(r.status, 403);
        else if (origins[_i].judged == FOREIGN)
            check_problem(&r, 403, "forbidden", origins[_i].origin, "--cors-allow-origin");
        else
            ck_assert_msg(r.status == asks[i].status, "%s: %d %s", text, r.status, r.body);
        check_readable(&r, origins[_i].judged == LISTED ? origins[_i].origin : NULL);
        reply_free(&r);
        close(fd);
    }
}
END_TEST

START_TEST(a_preflight_says_what_may_be_sent)
{
    static const char *const paths[] = {ENCODE, "/none", "/v1/dictionaries/none", "*"};
    char text[600];

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        bool is_listed = origins[_i].judged == LISTED;
        struct reply r;

        snprintf(text, sizeof text,
                 "OPTIONS %s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\n"
                 "Access-Control-Request-Method: POST\r\n"
                 "Access-Control-Request-Headers: authorization,content-type\r\n\r\n",
                 paths[i], origins[_i].host, origins[_i].origin);
        r = ask(&s, text);
        if (origins[_i].judged == FOREIGN)
            check_problem(&r, 403, "forbidden", NULL, "--cors-allow-origin");
        check_readable(&r, is_listed ? origins[_i].origin : NULL);
        if (is_listed) {
            ck_assert_int_eq(r.status, 204);
            ck_assert_ptr_nonnull(strstr(reply_header(&r, "Access-Control-Allow-Methods"), "POST"));
            ck_assert_ptr_nonnull(
                strstr(reply_header(&r, "Access-Control-Allow-Headers"), "Authorization"));
            ck_assert_ptr_nonnull(
                strstr(reply_header(&r, "Access-Control-Allow-Headers"), "Content-Type"));
        } else {
            ck_assert_ptr_null(reply_header(&r, "Access-Control-Allow-Methods"));
        }
        reply_free(&r);
    }
}
END_TEST

START_TEST(any_origin_may_be_listed_and_files_too)
{
    static const struct {
        const char *allowed, *origin, *readable_by;
    } lists[] = {
        {"*", "https://evil.example", "*"},
        {"*", "null", "*"},
        {"null", "null", "null"},
        {"null", "https://evil.example", NULL},
    };
    struct server t = server_start(
        (const char *const[]){"--cors-allow-origin", lists[_i].allowed, "i=identity:4", NULL});
    char text[200];
    struct reply r;

    snprintf(text, sizeof text, "GET /v1 HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\n\r\n",
             lists[_i].origin);
    r = ask(&t, text);
    ck_assert_int_eq(r.status, lists[_i].readable_by ? 200 : 403);
    check_readable(&r, lists[_i].readable_by);
    reply_free(&r);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* A client that sends its whole body before it looks. */
START_TEST(a_refusal_reaches_who_sends_on)
{
    static char piece[64 << 10];
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd,
             "POST " ENCODE " HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 4194304\r\n\r\n");
    for (int i = 0; i < 64; i++)
        raw_send_bytes(fd, piece, sizeof piece);
    r = raw_reply(fd, true, MS);
    check_problem(&r, 403, "forbidden", "evil.example", "--allow-host");
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
}
END_TEST

/* The order of the contract: the head, who may call, then what is asked. */
START_TEST(a_bad_head_comes_first)
{
    struct reply r = ask(&s, "GET /v1 HTTP/1.1\r\nHost: evil.example\r\nOrigin: a\r\n"
                             "Origin: a\r\n\r\n");

    check_bad_head(&r);
    reply_free(&r);
    r = ask(&s, "GET /v1 HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://b\r\n\r\n");
    check_problem(&r, 403, "forbidden", NULL, "--allow-host");
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("access");
    TCase *t = tcase_create("access");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_loopback_address_answers_to_its_own_names, 0,
                        sizeof hosts / sizeof hosts[0]);
    tcase_add_test(t, what_has_no_host_is_no_page);
    tcase_add_test(t, any_host_may_be_allowed);
    tcase_add_test(t, addresses_of_the_network_have_any_name);
    tcase_add_loop_test(t, pages_of_other_origins_are_refused_unless_they_are_listed, 0,
                        sizeof origins / sizeof origins[0]);
    tcase_add_loop_test(t, a_preflight_says_what_may_be_sent, 0,
                        sizeof origins / sizeof origins[0]);
    tcase_add_loop_test(t, any_origin_may_be_listed_and_files_too, 0, 4);
    tcase_add_test(t, a_refusal_reaches_who_sends_on);
    tcase_add_test(t, a_bad_head_comes_first);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
