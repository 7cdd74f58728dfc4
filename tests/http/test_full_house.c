/* test_full_house.c - every connection is taken, or every descriptor: health and metrics answer,
 * the longest idle connection makes way, and what is beyond the limit ends after one answer. */
#include "tests/http/support_body.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MS 10000
#define MAX 8
#define BEYOND 4
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n"
#define BODY "{\"x\":[1,2,3,4]}"

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){"--max-connections", "8", "--http-threads", "1",
                                           "i=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static struct reply ask(int fd, const char *text)
{
    raw_send(fd, text);
    return raw_reply(fd, true, MS);
}

/* One that has had an answer, and is kept. */
static int kept(void)
{
    int fd = raw_connect(&s);
    struct reply r = ask(fd, GET("/healthz"));

    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(reply_header(&r, "Keep-Alive"));
    reply_free(&r);
    return fd;
}

/* One whose request is under way: the house knows its head, and waits for its body. */
static int busy(void)
{
    int fd = raw_connect(&s);

    raw_send(fd, POST);
    return fd;
}

/* MAX connections that nothing makes leave; the last of them is known to be in. */
static void fill(int fd[MAX])
{
    for (int i = 0; i < MAX; i++)
        fd[i] = kept();
    for (int i = 0; i < MAX; i++)
        raw_send(fd[i], POST);
}

static void finish(int fd[MAX])
{
    for (int i = 0; i < MAX; i++) {
        struct reply r = ask(fd[i], BODY);

        ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
        ck_assert_ptr_nonnull(reply_header(&r, "Keep-Alive"));
        reply_free(&r);
        close(fd[i]);
    }
}

static bool is_open(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 0;
}

START_TEST(the_longest_idle_makes_way)
{
    int fd[MAX], more[3];

    for (int i = 0; i < MAX; i++)
        fd[i] = kept();
    raw_send(fd[1], POST); /* not idle any more */
    for (int i = 0; i < 3; i++) {
        struct reply r;

        more[i] = raw_connect(&s);
        r = ask(more[i], GET("/v1"));
        ck_assert_int_eq(r.status, 200);
        ck_assert_ptr_nonnull(reply_header(&r, "Keep-Alive")); /* it is one of them now */
        reply_free(&r);
    }
    ck_assert(raw_is_closed(fd[0], MS));
    ck_assert(raw_is_closed(fd[2], MS));
    ck_assert(raw_is_closed(fd[3], MS));
    for (int i = 4; i < MAX; i++)
        ck_assert_msg(is_open(fd[i]), "%d was not the longest idle", i);
    struct reply r = ask(fd[1], BODY);

    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    for (int i = 0; i < MAX; i++)
        close(fd[i]);
    for (int i = 0; i < 3; i++)
        close(more[i]);
}
END_TEST

static const struct {
    const char *request;
    int status;
    const char *code; /* NULL: no problem */
} beyond[] = {
    {GET("/healthz"), 200, NULL},
    {GET("/readyz"), 200, NULL},
    {GET("/metrics"), 200, NULL},
    {"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200, NULL},
    {"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, NULL},
    /* a body is not waited for */
    {"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 200, NULL},
    {"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 200, NULL},
    {GET("/v1"), 503, "overloaded"},
    {GET("/v1/dictionaries/i"), 503, "overloaded"},
    {POST, 503, "overloaded"},
    {POST BODY, 503, "overloaded"},
    {GET("/nothing"), 404, "not_found"},
    {"PUT /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"},
};

START_TEST(beyond_the_limit_some_routes_answer)
{
    bool is_503 = beyond[_i].status == 503;
    int fd[MAX], one;
    long long begin;
    struct reply r;

    fill(fd);
    for (int turn = 0; turn < 2 * BEYOND; turn++) {
        one = raw_connect(&s);
        begin = test_now_ms();
        raw_send(one, beyond[_i].request);
        r = raw_reply(one, strncmp(beyond[_i].request, "HEAD", 4) != 0, MS);
        ck_assert_msg(r.status == beyond[_i].status, "%s: %d", beyond[_i].request, r.status);
        ck_assert_int_lt(test_now_ms() - begin, SOON_MS(1000));
        ck_assert_str_eq(reply_header(&r, "Connection"), "close");
        ck_assert_ptr_null(reply_header(&r, "Keep-Alive"));
        if (beyond[_i].code)
            check_problem(&r, beyond[_i].status, beyond[_i].code, is_503 ? "8 are open" : NULL,
                          is_503 ? "--max-connections" : NULL);
        ck_assert(!is_503 || reply_header(&r, "Retry-After"));
        reply_free(&r);
        ck_assert(raw_is_closed(one, MS));
        close(one);
    }
    finish(fd);
}
END_TEST

static const char *const silences[] = {"", "G", "GET /healthz HTTP/1.1\r\nHost: a\r\n", "\r\n"};

static int silent(int i)
{
    int fd = raw_connect(&s);

    raw_send(fd, silences[i % 4]);
    return fd;
}

/* Four that say nothing, or not enough, hold the places beyond for a second each. */
START_TEST(who_says_nothing_beyond_the_limit_is_freed)
{
    int fd[MAX], beyond_fd[BEYOND];
    long long begin;

    fill(fd);
    begin = test_now_ms();
    for (int i = 0; i < BEYOND; i++)
        beyond_fd[i] = silent(i);
    for (int i = 0; i < BEYOND; i++) {
        ck_assert(raw_is_closed(beyond_fd[i], MS));
        close(beyond_fd[i]);
        ck_assert_msg(test_now_ms() - begin >= 1000, "after %lld ms", test_now_ms() - begin);
    }
    finish(fd);
}
END_TEST

/* As many again as there are places stand before the one that asks, who is answered all the same
 * within a second. (Four kept it waiting for a second and a sweep.) */
START_TEST(who_says_nothing_keeps_nobody_waiting)
{
    enum { CROWD = 2 * BEYOND };
    int fd[MAX], crowd[CROWD], last;
    long long begin;
    struct reply r;

    fill(fd);
    for (int i = 0; i < CROWD; i++)
        crowd[i] = silent(i);
    begin = test_now_ms();
    last = raw_connect(&s);
    r = ask(last, GET("/healthz"));
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert_msg(test_now_ms() - begin < SOON_MS(1000), "after %lld ms", test_now_ms() - begin);
    for (int i = 0; i < CROWD; i++) {
        ck_assert(raw_is_closed(crowd[i], MS));
        close(crowd[i]);
    }
    close(last);
    finish(fd);
}
END_TEST

/* Room that has come by the time of its head is taken. */
START_TEST(who_was_beyond_may_stay)
{
    int fd[MAX], one;
    struct reply r;

    fill(fd);
    one = raw_connect(&s);
    raw_send(one, "GET /v1 HTTP/1.1\r\n");
    r = ask(fd[0], BODY);
    reply_free(&r);
    r = ask(fd[0], "GET /healthz HTTP/1.0\r\n\r\n");
    reply_free(&r);
    ck_assert(raw_is_closed(fd[0], MS)); /* by the one thread that will read the other's head */
    close(fd[0]);
    fd[0] = one;
    r = ask(one, "Host: a\r\n\r\n");
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(reply_header(&r, "Keep-Alive"));
    reply_free(&r);
    raw_send(one, POST);
    finish(fd);
}
END_TEST

/* Those who have closed are gone soon. */
static void wait_served(void)
{
    long long end = test_now_ms() + MS;
    int status = 0;

    while (status != 200) {
        struct reply r = post_json(&s, "/v1/dictionaries/i/encode", BODY);

        status = r.status;
        reply_free(&r);
        ck_assert(test_now_ms() < end);
    }
}

/* Many times as many as there is room for: each is answered, and none hangs. */
START_TEST(a_crowd_is_answered)
{
    enum { CROWD = 100 };
    int fd[CROWD], served = 0;

    for (int i = 0; i < CROWD; i++) {
        fd[i] = busy();
        raw_send(fd[i], BODY);
    }
    for (int i = 0; i < CROWD; i++) {
        struct reply r = raw_reply(fd[i], true, MS);

        ck_assert_msg(r.status == 200 || r.status == 503, "%d", r.status);
        served += r.status == 200;
        reply_free(&r);
        close(fd[i]);
    }
    ck_assert_int_ge(served, MAX);
    wait_served();
}
END_TEST

/* ---- descriptors --------------------------------------------------------------------------- */

static void check_health(void)
{
    static const char *const asked[] = {GET("/healthz"), GET("/readyz"), GET("/metrics")};

    for (int i = 0; i < 30; i++) {
        long long begin = test_now_ms();
        int fd = raw_connect(&s);
        struct reply r = ask(fd, asked[i % 3]);

        ck_assert_msg(r.status == 200, "%s: %d", asked[i % 3], r.status);
        ck_assert_int_lt(test_now_ms() - begin, SOON_MS(1000));
        reply_free(&r);
        close(fd);
    }
}

/* The daemon's, counted from outside: no connection is made for it. */
static int open_fds(void)
{
    char path[64];
    int n = 0;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)s.pid);
    d = opendir(path);
    ck_assert_ptr_nonnull(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* As kept(), as soon as the house is as large as it was: until its next sweep, and until those who
 * were answered have left, one more would be beyond it. */
static int kept_again(void)
{
    long long end = test_now_ms() + MS;

    for (;;) {
        int fd = raw_connect(&s);
        struct reply r = ask(fd, GET("/healthz"));
        bool is_in = reply_header(&r, "Keep-Alive") != NULL;

        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
        if (is_in)
            return fd;
        close(fd);
        ck_assert_msg(test_now_ms() < end, "%d descriptors are open", open_fds());
    }
}

/* The limit is known when it starts: connections leave it what it needs itself. */
START_TEST(a_low_limit_of_descriptors_is_told)
{
    enum { LIMIT = 80, ROOM = LIMIT / 2, CROWD = ROOM + BEYOND + 20 };
    struct rlimit old, low = {LIMIT, LIMIT};
    struct server before = s;
    int fd[CROWD];
    char *err;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    s = server_start((const char *const[]){"--max-connections", "1000", "i=identity:4", NULL});
    (void)setrlimit(RLIMIT_NOFILE, &old); /* where it may be raised again */
    err = server_stderr(&s);
    ck_assert_msg(strstr(err, "warn descriptors limit=80 needed=") != NULL, "%s", err);
    ck_assert_ptr_nonnull(strstr(err, " max_connections=40\n"));
    free(err);
    for (int i = 0; i < CROWD; i++)
        fd[i] = busy();
    check_health();
    ck_assert(metric(&s, "process_open_fds") > ROOM); /* there are some to read this with */
    ck_assert(metric(&s, "process_max_fds") == LIMIT);
    for (int i = 0; i < ROOM; i++) {
        struct reply r = ask(fd[i], BODY);

        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
    }
    for (int i = 0; i < CROWD; i++)
        close(fd[i]);
    err = server_stderr(&s);
    ck_assert_msg(strstr(err, "accept_failed") == NULL, "%s", err);
    free(err);
    ck_assert_int_eq(server_stop(&s), 0);
    s = before;
}
END_TEST

/* The limit changes while it runs, or the system's is reached: some were kept for that. */
START_TEST(descriptors_run_out_under_way)
{
    enum { HERE = 5 };
    struct server before = s;
    struct rlimit old, low;
    int fd[HERE], n_open;
    char *err;

    s = server_start((const char *const[]){"--http-threads", "1", "i=identity:4", NULL});
    n_open = open_fds();
    ck_assert_int_eq(prlimit(s.pid, RLIMIT_NOFILE, NULL, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)(n_open + HERE);
    for (int i = 0; i < HERE - 1; i++)
        fd[i] = busy();
    fd[HERE - 1] = kept();
    ck_assert_int_eq(prlimit(s.pid, RLIMIT_NOFILE, &low, NULL), 0);
    check_health(); /* the idle one makes way for the first */
    ck_assert(raw_is_closed(fd[HERE - 1], MS));
    close(fd[HERE - 1]);
    fd[HERE - 1] = kept_again();
    raw_send(fd[HERE - 1], POST);
    check_health();
    err = server_stderr(&s);
    ck_assert_msg(strstr(err, "accept_failed reason=\"Too many open files\"") != NULL, "%s", err);
    free(err);
    ck_assert_int_eq(prlimit(s.pid, RLIMIT_NOFILE, &old, NULL), 0);
    for (int i = 0; i < HERE; i++) {
        struct reply r = ask(fd[i], BODY);

        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
        close(fd[i]);
    }
    wait_served();
    ck_assert_int_eq(server_stop(&s), 0);
    s = before;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("full_house");
    TCase *t = tcase_create("full_house");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, the_longest_idle_makes_way);
    tcase_add_loop_test(t, beyond_the_limit_some_routes_answer, 0,
                        sizeof beyond / sizeof beyond[0]);
    tcase_add_test(t, who_says_nothing_beyond_the_limit_is_freed);
    tcase_add_test(t, who_says_nothing_keeps_nobody_waiting);
    tcase_add_test(t, who_was_beyond_may_stay);
    tcase_add_test(t, a_crowd_is_answered);
    tcase_add_test(t, descriptors_run_out_under_way);
    tcase_add_test(t, a_low_limit_of_descriptors_is_told); /* the last: it may lower its own */
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
