/* test_linger.c - sockets whose clients send on behind their answer: when they end, stepped by the
 * clock; and what is done with real ones. */
#include "server/net/linger.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define S SAED_SECOND_NS
#define BEGIN (1000 * S)
#define RATE 1000u
enum { MAX = 4 };

/* ---- the clock ----------------------------------------------------------------------------- */

/* Bytes a second, noted each second, and the second at which it is over. */
static const struct {
    const char *what;
    uint64_t rate, min_rate;
    uint64_t over;
} clocks[] = {
    {"as fast as it must be", 1000, RATE, 30},
    {"a little too slow", 999, RATE, 10},
    {"nothing at all", 0, RATE, 10},
    {"nothing, and no demand", 0, 0, 30},
    {"faster than the limit", 1u << 28, RATE, 4},
    {"just below it", 1u << 25, RATE, 30},
};

START_TEST(when_it_is_over)
{
    struct saed_pace p;
    uint64_t s = 0;

    saed_pace_begin(&p, 0, BEGIN);
    for (; !saed_linger_is_over(&p, clocks[_i].min_rate, BEGIN + s * S + 1); s++) {
        ck_assert_uint_lt(s, 100);
        saed_pace_note(&p, (s + 1) * clocks[_i].rate, BEGIN + (s + 1) * S);
    }
    ck_assert_msg(s == clocks[_i].over, "%s: over at %d s", clocks[_i].what, (int)s);
}
END_TEST

/* ---- sockets ------------------------------------------------------------------------------- */

static struct saed_linger *l;
static int clients[MAX + 2], servers[MAX + 2];

static void connect_pair(int *client, int *server)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    *client = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(*client, (struct sockaddr *)&a, sizeof a), 0);
    *server = accept(listener, NULL, NULL);
    ck_assert_int_ge(*server, 0);
    close(listener);
}

static void open_all(void)
{
    ck_assert_int_eq(saed_linger_create(&l, MAX, RATE, NULL), SAE_OK);
    for (int i = 0; i < MAX + 2; i++)
        connect_pair(&clients[i], &servers[i]);
}

static void close_all(void)
{
    saed_linger_free(l);
    for (int i = 0; i < MAX + 2; i++)
        close(clients[i]);
}

/* Turns until the set has nothing for a while. */
static void settle(uint64_t now)
{
    struct pollfd p = {.fd = saed_linger_set(l), .events = POLLIN};

    while (poll(&p, 1, 50) > 0)
        saed_linger_turn(l, now);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* The client reads its answer and the end behind it, sends as much as it likes, and closes. */
START_TEST(what_comes_is_dropped)
{
    static char piece[1 << 20];
    char answer[8] = "";

    if (_i == 1) { /* over a unix socket */
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        ck_assert(dup2(pair[0], clients[0]) >= 0 && dup2(pair[1], servers[0]) >= 0);
        close(pair[0]);
        close(pair[1]);
    }
    ck_assert_int_eq(send(servers[0], "answer", 6, 0), 6);
    saed_linger_add(l, servers[0], BEGIN);
    ck_assert_uint_eq(saed_linger_count(l), 1);
    for (int i = 0; i < 16; i++) {
        for (size_t sent = 0; sent < sizeof piece;) {
            ssize_t n = send(clients[0], piece, sizeof piece - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

            if (n < 0)
                settle(BEGIN);
            sent += n > 0 ? (size_t)n : 0;
        }
    }
    settle(BEGIN);
    ck_assert_int_eq(recv(clients[0], answer, sizeof answer, 0), 6);
    ck_assert_str_eq(answer, "answer");
    ck_assert_int_eq(recv(clients[0], answer, sizeof answer, 0), 0);
    ck_assert_uint_eq(saed_linger_count(l), 1);
    shutdown(clients[0], SHUT_WR);
    settle(BEGIN);
    ck_assert_uint_eq(saed_linger_count(l), 0);
    ck_assert(!is_open(servers[0]));
}
END_TEST

START_TEST(the_sweep_ends_who_stands_still)
{
    saed_linger_add(l, servers[0], BEGIN);
    saed_linger_add(l, servers[1], BEGIN + 5 * S);
    saed_linger_sweep(l, BEGIN + 10 * S);
    ck_assert_uint_eq(saed_linger_count(l), 2);
    saed_linger_sweep(l, BEGIN + 10 * S + 1);
    ck_assert(!is_open(servers[0]) && is_open(servers[1]));
    saed_linger_sweep(l, BEGIN + 15 * S + 1);
    ck_assert_uint_eq(saed_linger_count(l), 0);
    saed_linger_sweep(l, BEGIN + 90 * S);
}
END_TEST

START_TEST(the_oldest_makes_way)
{
    static const int begins[] = {3, 1, 2, 4, 5, 6};

    for (int i = 0; i < MAX + 2; i++) {
        saed_linger_add(l, servers[i], BEGIN + (uint64_t)begins[i] * S);
        ck_assert_uint_eq(saed_linger_count(l), i < MAX ? i + 1 : MAX);
    }
    for (int i = 0; i < MAX + 2; i++)
        ck_assert_msg(is_open(servers[i]) == (begins[i] > 2), "%d", i);
    for (int i = 0; i < MAX + 2; i++)
        close(clients[i]);
    settle(BEGIN + 7 * S);
    ck_assert_uint_eq(saed_linger_count(l), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("linger");
    TCase *clock = tcase_create("clock"), *t = tcase_create("sockets");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_loop_test(clock, when_it_is_over, 0, SAE_COUNTOF(clocks));
    suite_add_tcase(suite, clock);
    tcase_add_checked_fixture(t, open_all, close_all);
    tcase_add_loop_test(t, what_comes_is_dropped, 0, 2);
    tcase_add_test(t, the_sweep_ends_who_stands_still);
    tcase_add_test(t, the_oldest_makes_way);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
