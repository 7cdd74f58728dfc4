/* test_conns.c - the thread of connections, without HTTP: a listener that fails, descriptors that
 * run out. */
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
static bool keeps; /* what is accepted stays open */
static struct saed_conn *kept[32];

static void on_add(void *arg, int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)arg, (void)addr, (void)len;
    if (keeps)
        kept[n_added] = saed_conns_open(conns, fd, NULL);
    else
        close(fd);
    n_added++;
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
        .max_lingering = 4,
        .times = {.keepalive_ns = 75000000000},
        .add = on_add,
        .gone = on_exchange,
        .told = on_exchange,
        .stalled = on_stalled,
    };

    struct saed_address address;

    ck_assert(saed_address_parse(&address, "127.0.0.1:0"));
    n_added = 0;
    keeps = false;
    ck_assert_int_eq(saed_conns_create(&conns, &cfg, &address, 1, NULL), SAE_OK);
    port = address.port;
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

static void wait_added(int n)
{
    for (int i = 0; n_added < n && i < 5000; i++)
        poll(NULL, 0, 1);
    ck_assert_int_eq(n_added, n);
}

static void connect_one(int fd)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
}

static void end_kept(int i)
{
    int fd = kept[i]->fd;

    saed_conns_close(conns, kept[i]);
    close(fd);
    kept[i] = NULL;
}

/* Two find descriptors; then the house is full, and what is kept for that lets some more in, who
 * are beyond it. With descriptors again there is room again. */
START_TEST(without_descriptors_some_come_in)
{
    enum { HERE = 2, N = HERE + SAED_ROOM_BEYOND + 2 };
    struct rlimit old, few;
    int fd[N], next;

    keeps = true;
    for (int i = 0; i < N; i++)
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    next = dup(fd[0]);
    close(next);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)next + HERE;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int i = 0; i < N; i++)
        connect_one(fd[i]);
    wait_added(HERE + SAED_ROOM_BEYOND);
    for (int i = 0; i < HERE + SAED_ROOM_BEYOND; i++)
        ck_assert_int_eq(saed_conns_admit(conns, kept[i]), i < HERE);
    ck_assert_uint_eq(saed_conns_limit(conns), HERE);
    poll(NULL, 0, 300); /* a sweep goes by */
    ck_assert_int_eq(n_added, HERE + SAED_ROOM_BEYOND);
    end_kept(HERE); /* one beyond: its place is taken by the next */
    wait_added(HERE + SAED_ROOM_BEYOND + 1);
    ck_assert(!saed_conns_admit(conns, kept[n_added - 1]));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    wait_added(N);
    for (int i = 0; !saed_conns_admit(conns, kept[N - 1]) && i < 5000; i++)
        poll(NULL, 0, 1);
    ck_assert_uint_eq(saed_conns_limit(conns), 16);
    for (int i = 0; i < N; i++) {
        if (kept[i])
            end_kept(i);
        close(fd[i]);
    }
    ck_assert_uint_eq(saed_conns_count(conns), 0);
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
    tcase_add_test(t, without_descriptors_some_come_in);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
