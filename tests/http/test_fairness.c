/* test_fairness.c - who waits for whom: single rows beside a flood of large requests, and a burst.
 *
 * Nothing is judged by the clock alone: what a single row waits for is counted in batches of the
 * flood, whose time the daemon measures in the same run. */
#include "tests/http/support_body.h"
#include "tests/support/load.h"

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS 60000
#define D 256

/* An owned request for the `n` best of rows of noise. */
static char *make_request(const char *dictionary, size_t rows, size_t *n)
{
    float *x = malloc(rows * D * sizeof *x);
    char path[100], *request;

    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < rows * D; i++)
        x[i] = (float)((i * 7919 + i / D * 104729) % 2003) / 600 - 1.7f;
    snprintf(path, sizeof path, "/v1/dictionaries/%s/encode?top_k=4", dictionary);
    request = load_post(path, "application/octet-stream", "application/x-safetensors", x,
                        rows * D * sizeof *x, n);
    free(x);
    return request;
}

/* ---- a flood ------------------------------------------------------------------------------- */

/* Two clients that send 4,096 rows again and again, in a process of their own. */
static pid_t start_flood(const struct server *s, const char *dictionary)
{
    struct load_client c[2] = {0};
    struct load_spec spec = {.port = s->port, .clients = c, .n_clients = 2, .seconds = 600};
    struct load_result r;
    pid_t pid;

    c[0].request = make_request(dictionary, 4096, &c[0].n);
    c[1] = c[0];
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        load_run(&spec, &r);
        _exit(0);
    }
    free((char *)(uintptr_t)c[0].request);
    return pid;
}

static void stop_flood(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

enum { N_SINGLE = 100 };

/* Milliseconds from queue to answer of single rows sent one after the other, sorted. */
static void time_singles(const struct server *s, const char *dictionary, double ms[N_SINGLE])
{
    size_t n;
    char *request = make_request(dictionary, 1, &n);
    int fd = raw_connect(s);

    for (int i = 0; i < N_SINGLE; i++) {
        double queue, compute;
        struct reply r;

        raw_send_bytes(fd, request, n);
        r = raw_reply(fd, true, MS);
        ck_assert_int_eq(r.status, 200);
        ck_assert_int_eq(sscanf(reply_header(&r, "Server-Timing"), "queue;dur=%lf, compute;dur=%lf",
                                &queue, &compute),
                         2);
        ms[i] = queue + compute;
        reply_free(&r);
    }
    close(fd);
    free(request);
    qsort(ms, N_SINGLE, sizeof *ms, by_size);
}

/* Of 8,192 rows 32 batches are waiting at a time. A row rides in the next batch that is formed, so
 * it waits for what is left of those in work, and for its own. */
START_TEST(single_rows_wait_for_a_few_batches_of_a_flood)
{
    static const char sum[] = "saed_compute_seconds_sum{dictionary=\"a\",gemm=\"encode\"}",
                      count[] = "saed_compute_seconds_count{dictionary=\"a\",gemm=\"encode\"}";
    struct server s = server_start(
        (const char *const[]){"--threads", _i < 2 ? "1" : "2", "a=init:AutoEncoder:256:16384",
                              "b=init:AutoEncoder:256:16384:seed=1", NULL});
    pid_t flood = start_flood(&s, "a");
    double ms[N_SINGLE], batches = 0, batch_ms = 0;

    /* On a busy machine the flood may come to rest for a while: then nothing was measured. */
    for (int turn = 0; turn < 5 && batches <= N_SINGLE / 2; turn++) {
        while (metric(&s, "saed_queue_rows{dictionary=\"a\"}") < 4096)
            poll(NULL, 0, 1);
        batches = metric(&s, count);
        batch_ms = metric(&s, sum);
        time_singles(&s, _i % 2 ? "b" : "a", ms);
        batches = metric(&s, count) - batches;
        batch_ms = 1e3 * (metric(&s, sum) - batch_ms) / batches;
    }
    stop_flood(flood);
    ck_assert_msg(batches > N_SINGLE / 2, "%g batches: no flood", batches);
    ck_assert_msg(ms[N_SINGLE / 2] < 4 * batch_ms, "half of the rows take %g ms, a batch %g",
                  ms[N_SINGLE / 2], batch_ms);
    ck_assert_msg(ms[N_SINGLE * 9 / 10] < 6 * batch_ms, "p90 %g ms, a batch %g",
                  ms[N_SINGLE * 9 / 10], batch_ms);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* ---- a burst ------------------------------------------------------------------------------- */

enum { N_BURST = 1000 };

struct arrival {
    unsigned long id; /* as the daemon has counted requests */
    int sent, round;  /* the how-manieth; at which look its answer was there */
};

static int by_id(const void *a, const void *b)
{
    const struct arrival *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* Connect and send without waiting for anything; then look who has been answered, again and again.
 */
static int burst(const struct server *s, struct arrival a[N_BURST])
{
    static struct pollfd p[N_BURST];
    int answered = 0, round = 0;
    size_t n;
    char *request = make_request("a", 1, &n);

    for (int i = 0; i < N_BURST; i++) {
        p[i] = (struct pollfd){.fd = raw_connect(s), .events = POLLIN};
        raw_send_bytes(p[i].fd, request, n);
    }
    for (; answered < N_BURST; round++) {
        ck_assert_int_gt(poll(p, N_BURST, MS), 0);
        for (int i = 0; i < N_BURST; i++) {
            struct reply r;

            if (p[i].fd < 0 || !p[i].revents)
                continue;
            r = raw_reply(p[i].fd, true, MS);
            ck_assert_int_eq(r.status, 200);
            /* eight digits for the process, eight of a count */
            a[i].id = strtoul(reply_header(&r, "Saed-Request-Id") + 8, NULL, 16);
            a[i].sent = i;
            a[i].round = round;
            reply_free(&r);
            close(p[i].fd);
            p[i].fd = -1;
            answered++;
        }
    }
    free(request);
    return round;
}

/* Many small batches one after the other, so that the order shows. A look finds who is answered one
 * by one, so one who is answered before another may be found one look after it, but no later. */
START_TEST(a_burst_is_served_in_order_of_arrival)
{
    struct server s = server_start((const char *const[]){"--threads", "1", "--http-threads", "1",
                                                         "--max-batch-rows", "8",
                                                         "a=init:AutoEncoder:256:16384", NULL});
    static struct arrival a[N_BURST];
    struct rlimit files = {0};
    int last = 0, rounds;

    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < N_BURST + 50) {
        files.rlim_cur = N_BURST + 50;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
            puts("SKIP: no 1,050 open files");
            server_stop(&s);
            return;
        }
    }
    rounds = burst(&s, a);
    ck_assert_msg(rounds >= 4, "answered within %d looks", rounds);
    qsort(a, N_BURST, sizeof *a, by_id);
    for (int i = 0; i < N_BURST; i++) {
        ck_assert_msg(abs(a[i].sent - i) < 50, "number %d was sent as number %d", i, a[i].sent);
        ck_assert_msg(a[i].round >= last - 1, "number %d was found at look %d, a later one at %d",
                      i, a[i].round, last);
        if (a[i].round > last)
            last = a[i].round;
    }
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fairness");
    TCase *t = tcase_create("fairness");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, single_rows_wait_for_a_few_batches_of_a_flood, 0, 4);
    tcase_add_test(t, a_burst_is_served_in_order_of_arrival);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
