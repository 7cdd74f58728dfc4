/* test_uploads.c - what a body holds of the bytes in flight while it arrives: what has come of it,
 * not what was announced; and what becomes of one for which there is no room left. (Slow ones:
 * tests/unit/server/net/test_conn.c by the clock, tests/clients in real time.) */
#include "tests/http/support_body.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS 20000
#define STEP 65536 /* in which a body whose length is known is held */
#define HEALTH "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"

static struct server s;
static char zeros[16 << 20];

static void start(void)
{
    s = server_start((const char *const[]){"--max-inflight-bytes", "1M", "i=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

/* A request whose body has `announced` bytes (0: chunked), of which `sent` are sent. */
static int upload(const struct server *t, size_t announced, size_t sent)
{
    char head[256], length[64] = "Transfer-Encoding: chunked";
    int fd = raw_connect(t);

    if (announced)
        snprintf(length, sizeof length, "Content-Length: %zu", announced);
    snprintf(head, sizeof head,
             "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\n%s\r\n"
             "Content-Type: application/octet-stream\r\n\r\n",
             length);
    raw_send(fd, head);
    if (!announced) {
        snprintf(head, sizeof head, "%x\r\n", 1 << 30);
        raw_send(fd, head);
    }
    raw_send_bytes(fd, zeros, sent);
    return fd;
}

static void check_health(int fd)
{
    struct reply r;

    raw_send(fd, HEALTH);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
}

static void check_overloaded(int fd, const char *connection)
{
    struct reply r = raw_reply(fd, true, MS);

    check_problem(&r, 503, "overloaded", "in flight", "--max-inflight-bytes");
    ck_assert_str_eq(reply_header(&r, "Retry-After"), "1");
    if (connection)
        ck_assert_str_eq(reply_header(&r, "Connection"), connection);
    else
        ck_assert_ptr_null(reply_header(&r, "Connection"));
    reply_free(&r);
}

START_TEST(what_is_announced_holds_nothing)
{
    enum { N = 8 };
    int fd[N];
    struct reply r;

    for (int i = 0; i < N; i++)
        fd[i] = upload(&s, 900000, 0);
    r = post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":[1,2,3,4]}");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    wait_metric(&s, "saed_requests_in_flight", N + 1);
    ck_assert(metric(&s, "saed_inflight_bytes") == 0);
    for (int i = 0; i < N; i++)
        raw_send(fd[i], "x");
    wait_metric(&s, "saed_inflight_bytes", N * STEP);
    raw_send_bytes(fd[0], zeros, STEP);
    wait_metric(&s, "saed_inflight_bytes", (N + 1) * STEP);
    for (int i = 0; i < N; i++)
        close(fd[i]);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

/* One that is touched by huge pages is held by them; a small one is held whole at once. */
START_TEST(how_much_is_held)
{
    static const struct {
        size_t announced, sent;
        double held;
    } cases[] = {
        {16 << 20, 1, 2 << 20},
        {16 << 20, 3 << 20, 4 << 20},
        {5 << 20, (5 << 20) - 1, 5 << 20},
        {3 << 20, 100000, 2 * STEP},
        {1000, 1, 1000},
        {0, 1, STEP},
        {0, STEP + 1, 2 * STEP},
    };
    struct server t = server_start((const char *const[]){"i=identity:4", NULL});

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = upload(&t, cases[i].announced, cases[i].sent);

        wait_metric(&t, "saed_inflight_bytes", cases[i].held);
        close(fd);
        wait_metric(&t, "saed_inflight_bytes", 0);
    }
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* Answered while it is being sent, and free at once; the one that came first goes on. */
START_TEST(no_room_is_left)
{
    size_t announced = _i ? 0 : 900000;
    int first = upload(&s, 900000, 600000), second;
    struct reply r;

    wait_metric(&s, "saed_inflight_bytes", 10 * STEP);
    second = upload(&s, announced, 600000);
    check_overloaded(second, "close");
    ck_assert(raw_is_closed(second, MS));
    wait_metric(&s, "saed_inflight_bytes", 10 * STEP);
    raw_send_bytes(second, zeros, 300000);
    close(second);
    raw_send_bytes(first, zeros, 300000);
    r = raw_reply(first, true, MS);
    check_problem(&r, 413, "too_many_rows", NULL, "--max-queue-rows");
    reply_free(&r);
    check_health(first);
    close(first);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

/* So little that it is read for the connection's sake. */
START_TEST(little_is_missing)
{
    int first = upload(&s, 900000, 600000), second;

    wait_metric(&s, "saed_inflight_bytes", 10 * STEP);
    second = upload(&s, 450000, 449999);
    ck_assert(!raw_is_closed(second, 100));
    wait_metric(&s, "saed_inflight_bytes", 10 * STEP);
    raw_send_bytes(second, zeros, 1);
    check_overloaded(second, NULL);
    check_health(second);
    close(first);
    close(second);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

START_TEST(too_large_alone)
{
    int fd = upload(&s, _i ? 0 : (1 << 20) + 1, _i ? (1 << 20) + 1 : 0);
    struct reply r = raw_reply(fd, true, MS);

    check_problem(&r, 413, "body_too_large", NULL, "--max-inflight-bytes");
    ck_assert_str_eq(reply_header(&r, "Connection"), "close");
    reply_free(&r);
    close(fd);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uploads");
    TCase *t = tcase_create("uploads");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_is_announced_holds_nothing);
    tcase_add_test(t, how_much_is_held);
    tcase_add_loop_test(t, no_room_is_left, 0, 2);
    tcase_add_test(t, little_is_missing);
    tcase_add_loop_test(t, too_large_alone, 0, 2);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
