/* test_batching.c - requests that ride together: who shares a batch with whom, who waits, who is
 * turned away, and that nobody pays for another's fault.
 *
 * A batch is held open by --max-delay-us, so that what stands in it is known; /metrics says when.
 */
#include "tests/http/support_body.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 60000
#define HOLD "--max-delay-us", "10000000" /* longer than any wait in this file */
#define QUEUE "saed_queue_rows{dictionary=\"i\"}"
#define ROWS "saed_rows_total{dictionary=\"i\",op=\"encode\"}"

static void send_json(int fd, const char *path, const char *body)
{
    char text[1024];

    snprintf(text, sizeof text,
             "POST /v1/dictionaries/%s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s", path,
             strlen(body), body);
    raw_send(fd, text);
}

/* In one piece: a head alone in a segment would have Nagle hold the body back. */
static void send_rows(int fd, const char *path, const char *accept, const float *x, size_t n)
{
    struct text t = {0};

    text_addf(
        &t,
        "POST /v1/dictionaries/%s HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
        "Accept: %s\r\nContent-Length: %zu\r\n\r\n",
        path, accept, n * 4);
    text_add(&t, x, n * 4);
    raw_send_bytes(fd, t.p, t.n);
    text_free(&t);
}

/* ---- riding together ----------------------------------------------------------------------- */

START_TEST(a_full_batch_does_not_wait)
{
    struct server s =
        server_start((const char *const[]){HOLD, "--max-batch-rows", "8", "i=identity:2", NULL});
    long long begin = test_now_ms();
    int fd[8];

    for (int i = 0; i < 8; i++) {
        char body[64];

        snprintf(body, sizeof body, "{\"x\":[%d,1]}", i);
        fd[i] = raw_connect(&s);
        send_json(fd[i], "i/encode", body);
        if (i < 7)
            wait_metric(&s, QUEUE, i + 1);
    }
    for (int i = 0; i < 8; i++) {
        struct reply r = raw_reply(fd[i], true, MS);
        char want[64];

        snprintf(want, sizeof want, "{\"f\":[%d,1]}\n", i);
        ck_assert_str_eq(r.body, want);
        ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "8");
        reply_free(&r);
        close(fd[i]);
    }
    ck_assert(test_now_ms() - begin < 8000);
    ck_assert(metric(&s, ROWS) == 8);
    ck_assert(metric(&s, "saed_batches_total{dictionary=\"i\",gemm=\"encode\"}") == 1);
    ck_assert(metric(&s, "saed_batch_rows_count{dictionary=\"i\",gemm=\"encode\"}") == 1);
    ck_assert(metric(&s, "saed_batch_rows_sum{dictionary=\"i\",gemm=\"encode\"}") == 8);
    ck_assert(metric(&s, "saed_queue_seconds_count{dictionary=\"i\"}") == 8);
    ck_assert(metric(&s, QUEUE) == 0);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

START_TEST(the_oldest_waits_so_long_and_no_longer)
{
    struct server s =
        server_start((const char *const[]){"--max-delay-us", "300000", "i=identity:2", NULL});
    long long begin = test_now_ms();
    struct reply r = post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":[1,2]}");
    double queue = 0;

    ck_assert_int_eq(r.status, 200);
    ck_assert(test_now_ms() - begin >= 290);
    ck_assert_int_eq(sscanf(reply_header(&r, "Server-Timing"), "queue;dur=%lf", &queue), 1);
    ck_assert(queue >= 290 && queue < 5000);
    reply_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* One GEMM for both sides of a dictionary's encoder; the decode side has a queue of its own. */
START_TEST(encode_and_forward_share_a_batch)
{
    struct server s = server_start(
        (const char *const[]){HOLD, "--max-batch-rows", "4", "a=init:AutoEncoder:3:5", NULL});
    int fd[3];
    struct reply r;

    for (int i = 0; i < 3; i++)
        fd[i] = raw_connect(&s);
    send_json(fd[0], "a/encode", "{\"x\":[[1,2,3],[4,5,6]]}");
    send_json(fd[1], "a/forward", "{\"x\":[[1,2,3],[4,5,6]]}");
    for (int i = 0; i < 2; i++) {
        r = raw_reply(fd[i], true, MS);
        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "4");
        reply_free(&r);
    }
    ck_assert(metric(&s, "saed_batches_total{dictionary=\"a\",gemm=\"encode\"}") == 1);
    ck_assert(metric(&s, "saed_batches_total{dictionary=\"a\",gemm=\"decode\"}") == 1);
    ck_assert(metric(&s, "saed_batch_rows_sum{dictionary=\"a\",gemm=\"decode\"}") ==
              2); /* forward rows only */
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"a\",op=\"encode\"}") == 2);
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"a\",op=\"forward\"}") == 2);
    send_json(fd[2], "a/decode", "{\"f\":[[1,2,3,4,5],[6,7,8,9,0],[1,2,3,4,5],[6,7,8,9,0]]}");
    r = raw_reply(fd[2], true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "4");
    reply_free(&r);
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"a\",op=\"decode\"}") == 4);
    ck_assert(metric(&s, "saed_batches_total{dictionary=\"a\",gemm=\"encode\"}") == 1);
    for (int i = 0; i < 3; i++)
        close(fd[i]);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

START_TEST(large_requests_ride_in_several_batches)
{
    struct server s =
        server_start((const char *const[]){"--max-batch-rows", "16", "i=identity:4", NULL});
    size_t n = 1000;
    float *x = malloc(n * 16);
    int fd = raw_connect(&s);
    struct reply r;

    for (size_t i = 0; i < n * 4; i++)
        x[i] = (float)i;
    send_rows(fd, "i/encode", "*/*", x, n * 4);
    r = raw_reply(fd, true, MS);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "16");
    ck_assert_uint_eq(r.n, n * 16);
    ck_assert_int_eq(memcmp(r.body, x, r.n), 0);
    ck_assert(metric(&s, ROWS) == 1000);
    ck_assert(metric(&s, "saed_batches_total{dictionary=\"i\",gemm=\"encode\"}") == 63);
    ck_assert(metric(&s, "saed_queue_seconds_count{dictionary=\"i\"}") == 1); /* once a request */
    reply_free(&r);
    close(fd);
    free(x);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* ---- who has gone, who is wrong -------------------------------------------------------------- */

START_TEST(gone_clients_cost_no_compute)
{
    struct server s =
        server_start((const char *const[]){HOLD, "--max-batch-rows", "6", "i=identity:2", NULL});
    int fd[6];

    for (int i = 0; i < 4; i++) {
        fd[i] = raw_connect(&s);
        send_json(fd[i], "i/encode", "{\"x\":[1,2]}");
        wait_metric(&s, QUEUE, i + 1);
    }
    shutdown(fd[0], SHUT_WR); /* FIN */
    wait_metric(&s, QUEUE, 3);
    ck_assert(raw_is_closed(fd[0], MS)); /* and is not answered */
    setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(fd[1]); /* RST */
    wait_metric(&s, QUEUE, 2);
    ck_assert(metric(&s, ROWS) <= 0);
    fd[1] = raw_connect(&s);
    send_rows(fd[1], "i/encode", "*/*", (float[8]){0}, 8);
    for (int i = 1; i < 4; i++) {
        struct reply r = raw_reply(fd[i], true, MS);

        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "6");
        reply_free(&r);
    }
    ck_assert(metric(&s, ROWS) == 6);
    wait_metric(&s, "saed_inflight_bytes", 0);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* The rows left of a large request are dropped with its client. */
START_TEST(the_rest_of_a_gone_clients_rows_is_dropped)
{
    struct server s = server_start((const char *const[]){"--threads", "1", "--max-batch-rows", "32",
                                                         "a=init:AutoEncoder:256:16384", NULL});
    size_t n = 8192;
    float *x = calloc(n * 256, 4);
    int fd = raw_connect(&s);
    double rows;

    send_rows(fd, "a/encode?top_k=1", "*/*", x, n * 256);
    while (metric(&s, "saed_rows_total{dictionary=\"a\",op=\"encode\"}") <= 0 &&
           metric(&s, "saed_queue_rows{dictionary=\"a\"}") <= 0)
        poll(NULL, 0, 1);
    close(fd);
    wait_metric(&s, "saed_queue_rows{dictionary=\"a\"}", 0);
    wait_metric(&s, "saed_inflight_bytes", 0);
    rows = metric(&s, "saed_rows_total{dictionary=\"a\",op=\"encode\"}");
    ck_assert_msg(rows < (double)n, "%g rows computed", rows);
    free(x);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

START_TEST(bad_requests_never_harm_their_neighbours)
{
    static const char *const bad[] = {"{\"x\":[1]}", "{\"x\":[1,2],\"top_k\":0}", "{",
                                      "{\"x\":[1,1e99]}", "{\"x\":[1,2],\"features\":[2]}"};
    struct server s =
        server_start((const char *const[]){HOLD, "--max-batch-rows", "6", "i=identity:2", NULL});
    int good[6];

    for (int i = 0; i < 6; i++) {
        struct reply r = {0};
        char body[64];

        if (i < 5) {
            r = post_json(&s, "/v1/dictionaries/i/encode", bad[i]);
            ck_assert_int_eq(r.status, 400);
            reply_free(&r);
        }
        snprintf(body, sizeof body, i == 2 ? "{\"x\":[\"NaN\",\"Infinity\"]}" : "{\"x\":[%d,7]}",
                 i);
        good[i] = raw_connect(&s);
        send_json(good[i], "i/encode", body);
        if (i < 5)
            wait_metric(&s, QUEUE, i + 1);
    }
    for (int i = 0; i < 6; i++) {
        struct reply r = raw_reply(good[i], true, MS);
        char want[64];

        snprintf(want, sizeof want,
                 i == 2 ? "{\"f\":[\"NaN\",\"Infinity\"]}\n" : "{\"f\":[%d,7]}\n", i);
        ck_assert_str_eq(r.body, want);
        ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "6");
        reply_free(&r);
        close(good[i]);
    }
    ck_assert(metric(&s, ROWS) == 6);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* An answer that selection finds too large fails alone. */
START_TEST(a_failed_answer_fails_alone)
{
    struct server s = server_start((const char *const[]){
        HOLD, "--max-batch-rows", "9", "--max-response-bytes", "500", "i=identity:4", NULL});
    float ones[32];
    int fd[2];
    struct reply r;

    for (int i = 0; i < 32; i++)
        ones[i] = 1;
    fd[0] = raw_connect(&s);
    fd[1] = raw_connect(&s);
    send_rows(fd[0], "i/encode?sparse=true", "application/json", ones, 32);
    wait_metric(&s, QUEUE, 8);
    send_json(fd[1], "i/encode", "{\"x\":[1,2,3,4]}");
    r = raw_reply(fd[0], true, MS);
    check_problem(&r, 413, "response_too_large", NULL, "--max-response-bytes");
    reply_free(&r);
    r = raw_reply(fd[1], true, MS);
    ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "9");
    reply_free(&r);
    close(fd[0]);
    close(fd[1]);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* ---- fairness ------------------------------------------------------------------------------ */

/* Single rows for the same dictionary, and for another, pass a request of thousands. */
START_TEST(a_large_request_keeps_nobody_waiting)
{
    struct server s =
        server_start((const char *const[]){"--threads", "1", "--max-batch-rows", "64",
                                           "a=init:AutoEncoder:256:16384", "i=identity:2", NULL});
    size_t n = 8192;
    float *x = calloc(n * 256, 4), *row = calloc(256, 4);
    int large = raw_connect(&s), small = raw_connect(&s);
    struct pollfd p = {.fd = large, .events = POLLIN};
    struct reply r;

    send_rows(large, "a/encode?top_k=1", "*/*", x, n * 256);
    while (metric(&s, "saed_queue_rows{dictionary=\"a\"}") <= 0)
        poll(NULL, 0, 1);
    for (int i = 0; i < 5; i++) {
        send_rows(small, "a/encode?top_k=1", "*/*", row, 256);
        r = raw_reply(small, true, MS);
        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
        send_json(small, "i/encode", "{\"x\":[1,2]}");
        r = raw_reply(small, true, MS);
        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
    }
    ck_assert_msg(poll(&p, 1, 0) == 0, "the large one was answered first");
    r = raw_reply(large, true, 60000);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    close(large);
    close(small);
    free(x);
    free(row);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* ---- 64 connections ------------------------------------------------------------------------ */

enum { N_LOAD = 64, ROUNDS = 12 };

/* Each of 64 connections sends its row again as soon as it has its answer; the mean batch. */
static double mean_batch(const struct server *s, const float *x)
{
    static const char batches[] = "saed_batches_total{dictionary=\"a\",gemm=\"encode\"}",
                      sum[] = "saed_batch_rows_sum{dictionary=\"a\",gemm=\"encode\"}";
    double batches_before = metric(s, batches), rows_before = metric(s, sum), rows;
    struct pollfd p[N_LOAD];
    int answered = 0;

    for (int i = 0; i < N_LOAD; i++) {
        p[i] = (struct pollfd){.fd = raw_connect(s), .events = POLLIN};
        send_rows(p[i].fd, "a/encode?top_k=8", "*/*", x, 768);
    }
    while (answered < N_LOAD * ROUNDS) {
        ck_assert_int_gt(poll(p, N_LOAD, MS), 0);
        for (int i = 0; i < N_LOAD; i++) {
            struct reply r;

            if (!(p[i].revents & POLLIN))
                continue;
            r = raw_reply(p[i].fd, true, MS);
            ck_assert_msg(r.status == 200, "%s", r.body);
            reply_free(&r);
            if (++answered <= N_LOAD * (ROUNDS - 1))
                send_rows(p[i].fd, "a/encode?top_k=8", "*/*", x, 768);
        }
    }
    for (int i = 0; i < N_LOAD; i++)
        close(p[i].fd);
    rows = metric(s, sum) - rows_before;
    ck_assert(rows == N_LOAD * ROUNDS);
    return rows / (metric(s, batches) - batches_before);
}

/* The mean is 40 to 60; a machine that is busy with other things may feed the daemon too slowly to
 * fill batches, so it has some tries. */
START_TEST(sixty_four_connections_share_batches)
{
    struct server s =
        server_start((const char *const[]){"a=init:AutoEncoder:768:24576:l0=50", NULL});
    double mean = 0;
    float x[768];

    for (int i = 0; i < 768; i++)
        x[i] = (float)((i * 7919) % 201 - 100) / 60;
    for (int i = 0; i < 5 && mean < 16; i++)
        mean = mean_batch(&s, x);
    ck_assert_msg(mean >= 16, "the mean batch has %g rows", mean);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batching");
    TCase *t = tcase_create("batching");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_full_batch_does_not_wait);
    tcase_add_test(t, the_oldest_waits_so_long_and_no_longer);
    tcase_add_test(t, encode_and_forward_share_a_batch);
    tcase_add_test(t, large_requests_ride_in_several_batches);
    tcase_add_test(t, gone_clients_cost_no_compute);
    tcase_add_test(t, the_rest_of_a_gone_clients_rows_is_dropped);
    tcase_add_test(t, bad_requests_never_harm_their_neighbours);
    tcase_add_test(t, a_failed_answer_fails_alone);
    tcase_add_test(t, a_large_request_keeps_nobody_waiting);
    tcase_add_test(t, sixty_four_connections_share_batches);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
