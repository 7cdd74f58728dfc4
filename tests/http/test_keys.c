/* test_keys.c - who has a key of --api-key-file: what needs one, what does not, the order of
 * errors, files that change while serving. */
#include "tests/http/support_body.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS 20000
#define ENCODE "/v1/dictionaries/i/encode"
#define BODY "{\"x\":[1,2,3,4]}"
#define GOOD "Authorization: Bearer k-alice\r\n"

static char dir[256], path[300];
static struct server s;

static void put_keys(const char *text)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

static void start(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%s/saed-keys-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/keys", dir);
    put_keys("# those who may\nalice:k-alice\nbob:k-bob\n");
    s = server_start((const char *const[]){"--api-key-file", path, "--cors-allow-origin",
                                           "https://notes.example", "i=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
    unlink(path);
    rmdir(dir);
}

static struct reply ask(const struct server *of, const char *line, const char *headers,
                        const char *body)
{
    int fd = raw_connect(of);
    bool is_head = strncmp(line, "HEAD", 4) == 0;
    char text[2048];
    struct reply r;

    snprintf(text, sizeof text,
             "%s HTTP/1.1\r\nHost: saed.example\r\n%sContent-Length: %zu\r\n\r\n%s", line, headers,
             strlen(body), body);
    raw_send(fd, text);
    r = raw_reply(fd, !is_head, MS);
    close(fd);
    return r;
}

static int status_of(const struct server *of, const char *key)
{
    char header[128];
    struct reply r;
    int status;

    snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", key);
    r = ask(of, "GET /v1", header, "");
    status = r.status;
    reply_free(&r);
    return status;
}

#define JSON "Content-Type: application/json\r\n"

static const struct {
    const char *line, *headers, *body;
    int with, without; /* a key */
} asks[] = {
    {"GET /v1", "", "", 200, 401},
    {"HEAD /v1", "", "", 200, 401},
    {"GET /v1/dictionaries", "", "", 200, 401},
    {"GET /v1/dictionaries/i", "", "", 200, 401},
    {"POST " ENCODE, JSON, BODY, 200, 401},
    {"GET /metrics", "", "", 200, 401},
    {"GET /healthz", "", "", 200, 200},
    {"HEAD /readyz", "", "", 200, 200},
    {"POST /healthz", "", "", 405, 405},
    /* nothing is said of what there is to those without */
    {"GET /none", "", "", 404, 401},
    {"GET /v1/dictionaries/none", "", "", 404, 401},
    {"PUT " ENCODE, JSON, BODY, 405, 401},
    {"POST " ENCODE, "Content-Type: text/plain\r\n", BODY, 415, 401},
    {"POST " ENCODE, JSON, "{", 400, 401},
    {"OPTIONS " ENCODE, "", "", 204, 401},
    {"OPTIONS *", "", "", 204, 401},
    {"GET /v1", "Saed-Request-Id: \t\r\n", "", 400, 400},
    {"GET /v1", "Origin: http://evil.example\r\n", "", 403, 403},
    {"OPTIONS /v1", "Origin: http://evil.example\r\nAccess-Control-Request-Method: GET\r\n", "",
     403, 403},
    {"OPTIONS /none", "Origin: https://notes.example\r\nAccess-Control-Request-Method: GET\r\n", "",
     204, 204},
    {"OPTIONS /v1", "Access-Control-Request-Method: GET\r\n", "", 204, 401},
};

static const struct {
    const char *header, *part; /* of a 401 */
} strangers[] = {
    {"", "want \"Bearer KEY\""},
    {"Authorization: Bearer\r\n", "want"},
    {"Authorization: Bearer \r\n", "want"},
    {"Authorization: k-alice\r\n", "want"},
    {"Authorization: Basic k-alice\r\n", "want"},
    {"Authorization: Bearerk-alice\r\n", "want"},
    {"X-API-Key: k-alice\r\n", "want"},
    {"Authorization: Bearer alice\r\n", "not known"},
    {"Authorization: Bearer k-alicE\r\n", "not known"},
    {"Authorization: Bearer k-alice k-bob\r\n", "not known"},
    {"Authorization: Bearer k-alice,\r\n", "not known"},
    {"Authorization: Bearer alice:k-alice\r\n", "not known"},
};

START_TEST(what_needs_a_key)
{
    static const char *const good[] = {GOOD, "authorization: bEARER   k-bob  \r\n"};
    char headers[512];
    struct reply r;

    for (int i = 0; i < 2; i++) {
        snprintf(headers, sizeof headers, "%s%s", good[i], asks[_i].headers);
        r = ask(&s, asks[_i].line, headers, asks[_i].body);
        ck_assert_msg(r.status == asks[_i].with, "%s: %d %s", asks[_i].line, r.status, r.body);
        ck_assert_ptr_null(reply_header(&r, "WWW-Authenticate"));
        reply_free(&r);
    }
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        snprintf(headers, sizeof headers, "%s%s", strangers[i].header, asks[_i].headers);
        r = ask(&s, asks[_i].line, headers, asks[_i].body);
        ck_assert_msg(r.status == asks[_i].without, "%s %s: %d %s", strangers[i].header,
                      asks[_i].line, r.status, r.body);
        if (r.status == 401) {
            ck_assert_str_eq(reply_header(&r, "WWW-Authenticate"), "Bearer");
            if (strncmp(asks[_i].line, "HEAD", 4) != 0)
                check_problem(&r, 401, "unauthorized", strangers[i].part, NULL);
        }
        reply_free(&r);
    }
}
END_TEST

START_TEST(two_keys_are_a_bad_head)
{
    struct reply r = ask(&s, "GET /v1", GOOD GOOD, "");

    check_bad_head(&r);
    reply_free(&r);
}
END_TEST

/* Who sends its whole body before it looks sees the 401; nothing of it is held. */
START_TEST(a_refusal_reaches_who_sends_on)
{
    static char piece[64 << 10];
    int fd = raw_connect(&s);
    struct reply r;

    raw_send(fd, "POST " ENCODE " HTTP/1.1\r\nHost: a\r\nContent-Length: 4194304\r\n\r\n");
    for (int i = 0; i < 64; i++)
        raw_send_bytes(fd, piece, sizeof piece);
    r = raw_reply(fd, true, MS);
    check_problem(&r, 401, "unauthorized", NULL, NULL);
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    ck_assert(raw_is_closed(fd, MS));
    close(fd);
}
END_TEST

START_TEST(pages_read_that_they_need_a_key)
{
    struct reply r = ask(&s, "GET /v1", "Origin: https://notes.example\r\n", "");

    check_problem(&r, 401, "unauthorized", NULL, NULL);
    ck_assert_str_eq(reply_header(&r, "Access-Control-Allow-Origin"), "https://notes.example");
    reply_free(&r);
}
END_TEST

/* Until `text` stands on its stderr. */
static void wait_log(const struct server *of, const char *text)
{
    long long end = test_now_ms() + MS;

    for (;;) {
        char *err = server_stderr(of);
        bool found = strstr(err, text) != NULL;

        if (!found && test_now_ms() > end)
            ck_abort_msg("no \"%s\" in %s", text, err);
        free(err);
        if (found)
            return;
        usleep(5000);
    }
}

START_TEST(files_are_read_anew_on_sighup)
{
    char *err;

    ck_assert_int_eq(status_of(&s, "k-bob"), 200);
    put_keys("alice:k-alice\ncarol:k-carol\ndave:k-dave\n");
    ck_assert_int_eq(status_of(&s, "k-carol"), 401);
    server_signal(&s, SIGHUP);
    wait_log(&s, "info hup reload=keys keys=3\n");
    ck_assert_int_eq(status_of(&s, "k-carol"), 200);
    ck_assert_int_eq(status_of(&s, "k-alice"), 200);
    ck_assert_int_eq(status_of(&s, "k-bob"), 401);
    put_keys("alice:k-alice\nk-secret\n");
    server_signal(&s, SIGHUP);
    wait_log(&s, "error hup reload=keys error=\"cannot use keys of ");
    wait_log(&s, "/keys:2: want NAME:KEY");
    wait_log(&s, " kept=3\n");
    ck_assert_int_eq(status_of(&s, "k-carol"), 200);
    ck_assert_int_eq(unlink(path), 0);
    server_signal(&s, SIGHUP);
    wait_log(&s, "No such file or directory\" kept=3\n");
    ck_assert_int_eq(status_of(&s, "k-dave"), 200);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* that nobody writes to */
    server_signal(&s, SIGHUP);
    wait_log(&s, "/keys: it is no regular file");
    ck_assert_int_eq(unlink(path), 0);
    err = server_stderr(&s);
    ck_assert_msg(!strstr(err, "k-"), "%s", err);
    free(err);
    put_keys("alice:k-alice\nbob:k-bob\n");
    server_signal(&s, SIGHUP);
    wait_log(&s, "info hup reload=keys keys=2\n");
}
END_TEST

/* A network's address needs no further leave; metrics may be open; loading asks for a key too. */
START_TEST(with_keys_any_address_is_listened_to)
{
    char listen[32];
    struct server t;
    struct reply r;
    int status = 0;

    snprintf(listen, sizeof listen, "0.0.0.0:%d", free_port());
    t = server_spawn((const char *const[]){"--listen", listen, "--api-key-file", path,
                                           "--metrics-open", "i=identity:4", NULL});
    sscanf(listen, "0.0.0.0:%d", &t.port);
    wait_log(&t, "info ready ");
    r = ask(&t, "GET /metrics", "", "");
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(strstr(r.body, "saed_build_info"));
    reply_free(&r);
    status = status_of(&t, "k-alice");
    ck_assert_int_eq(status, 200);
    ck_assert_int_eq(status_of(&t, "nobody"), 401);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* No socket is opened for files that are no files of keys, nor does --check take them. */
START_TEST(broken_files_at_the_start_are_exit_1)
{
    char broken[300], want[400];
    struct server t;
    char *err;
    FILE *f;

    snprintf(broken, sizeof broken, "%s/broken", dir);
    for (int i = 0; i < 4; i++) {
        if (i == 2) {
            f = fopen(broken, "w");
            ck_assert_ptr_nonnull(f);
            fputs("k-secret\n", f);
            fclose(f);
        }
        t = server_spawn((const char *const[]){"--listen", "127.0.0.1:0", "--api-key-file", path,
                                               "--api-key-file", broken, "i=identity:4",
                                               i % 2 ? "--check" : NULL, NULL});
        ck_assert_int_eq(server_wait(&t, MS), 1);
        err = server_stderr(&t);
        snprintf(want, sizeof want,
                 i > 1 ? "saed: cannot use keys of %s:1: want NAME:KEY"
                       : "saed: cannot read keys of %s: No such file",
                 broken);
        ck_assert_msg(strstr(err, want) && !strstr(err, "k-secret"), "%s", err);
        free(err);
        close(t.out);
        close(t.err);
    }
    unlink(broken);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keys over HTTP");
    TCase *t = tcase_create("keys over HTTP");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, what_needs_a_key, 0, sizeof asks / sizeof asks[0]);
    tcase_add_test(t, two_keys_are_a_bad_head);
    tcase_add_test(t, a_refusal_reaches_who_sends_on);
    tcase_add_test(t, pages_read_that_they_need_a_key);
    tcase_add_test(t, files_are_read_anew_on_sighup);
    tcase_add_test(t, with_keys_any_address_is_listened_to);
    tcase_add_test(t, broken_files_at_the_start_are_exit_1);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
