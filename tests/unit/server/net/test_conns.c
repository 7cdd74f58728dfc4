/* test_conns.c - the thread of connections, without HTTP: a listener that fails. */
#include "server/net/conns.h"

#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct saed_conns *conns;
static uint16_t port;
static _Atomic int n_added;

static void on_add(void *arg, int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)arg, (void)addr, (void)len;
    n_added++;
    close(fd);
}

static void on_exchange(void *arg, void *exchange)
{
    (void)arg, (void)exchange;
}

static void on_stalled(void *arg)
{
    (void)arg;
}

static void start(void)
{
    struct saed_conns_config cfg = {
        .max_connections = 16,
        .times = {.request_ns = 1000000000, .keepalive_ns = 75000000000},
        .add = on_add,
        .gone = on_exchange,
        .told = on_exchange,
        .stalled = on_stalled,
    };

    port = 0;
    n_added = 0;
    ck_assert_int_eq(saed_conns_create(&conns, &cfg, "127.0.0.1", &port, NULL), SAE_OK);
    ck_assert_int_eq(saed_conns_start(conns, NULL), SAE_OK);
}

static void stop(void)
{
    saed_conns_free(conns);
}

/* The descriptor that listens: this process has one. */
static int listener(void)
{
    for (int fd = 3; fd < 256; fd++) {
        int on = 0;
        socklen_t len = sizeof on;

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on)
            return fd;
    }
    ck_abort_msg("nobody listens");
    return -1;
}

static long cpu_ms(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

static int connect_here(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

START_TEST(what_has_connected_is_accepted_before_the_close)
{
    int fd[4];

    for (int i = 0; i < 4; i++)
        fd[i] = connect_here();
    saed_conns_close_listener(conns);
    ck_assert_int_eq(n_added, 4);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
}
END_TEST

/* accept fails for good (EINVAL): neither waiting for it nor closing it turns on the spot. */
START_TEST(a_broken_listener_costs_nothing)
{
    long begin;

    ck_assert_int_eq(shutdown(listener(), SHUT_RDWR), 0);
    begin = cpu_ms();
    poll(NULL, 0, 500);
    ck_assert_msg(cpu_ms() - begin < 100, "%ld ms of CPU time in 500 ms", cpu_ms() - begin);
    saed_conns_close_listener(conns);
    saed_conns_close_listener(conns);
}
END_TEST

/* Without descriptors it waits; with one again it accepts. */
START_TEST(descriptors_that_come_back)
{
    struct rlimit old, none;
    int fd = connect_here(), late;
    long long tries = 0;

    while (n_added == 0)
        poll(NULL, 0, 1);
    late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ck_assert_int_eq(connect(late, (struct sockaddr *)&a, sizeof a), 0);
    }
    poll(NULL, 0, 100);
    ck_assert_int_eq(n_added, 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    while (n_added == 1 && tries++ < 5000)
        poll(NULL, 0, 1);
    ck_assert_int_eq(n_added, 2);
    close(fd);
    close(late);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("conns");
    TCase *t = tcase_create("conns");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, what_has_connected_is_accepted_before_the_close);
    tcase_add_test(t, a_broken_listener_costs_nothing);
    tcase_add_test(t, descriptors_that_come_back);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
