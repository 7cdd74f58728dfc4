/* test_listen.c - what listening sockets take: `::` both families, `localhost` both loopbacks, and
 * IPv4 where IPv6 is off. */
#include "server/net/listen.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool connects(const struct sockaddr *a, socklen_t n)
{
    int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && connect(fd, a, n) == 0;

    if (fd >= 0)
        close(fd);
    return good;
}

static bool connects_4(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connects((struct sockaddr *)&a, sizeof a);
}

static bool connects_6(uint16_t port)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    a.sin6_addr = in6addr_loopback;
    return connects((struct sockaddr *)&a, sizeof a);
}

static sa_family_t family_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    return a.ss_family;
}

static struct saed_listeners open_listeners(const char *host, uint16_t *port)
{
    struct saed_listeners l = {.n = 0};
    struct sae_err err = {0};

    ck_assert_msg(saed_listen(&l, host, port, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_gt(*port, 0);
    return l;
}

START_TEST(all_addresses_are_of_both_families)
{
    uint16_t port = 0;
    struct saed_listeners l = open_listeners("::", &port);

    ck_assert_uint_eq(l.n, 1);
    ck_assert(connects_4(port));
    if (family_of(l.fds[0]) == AF_INET6)
        ck_assert(connects_6(port));
    else
        printf("SKIP: no IPv6 here\n");
    saed_listeners_close(&l);
}
END_TEST

START_TEST(localhost_is_both_loopbacks)
{
    static const char *const names[] = {"localhost", "LocalHost"};
    uint16_t port = 0, again;
    struct saed_listeners l = open_listeners(names[_i], &port);

    ck_assert(connects_4(port));
    if (l.n == 2)
        ck_assert(connects_6(port));
    else
        printf("SKIP: no IPv6 here\n");
    saed_listeners_close(&l);
    ck_assert(!connects_4(port));
    ck_assert(!connects_6(port));
    again = port; /* a port that is named */
    l = open_listeners(names[_i], &again);
    ck_assert_uint_eq(again, port);
    ck_assert(connects_4(port));
    saed_listeners_close(&l);
}
END_TEST

/* Half of localhost would be the daemon that somebody else's clients talk to. */
START_TEST(localhost_with_one_port_taken_is_an_error)
{
    static const char *const other[] = {"127.0.0.1", "::1"};
    uint16_t port = 0;
    struct saed_listeners l = {.n = 0}, none = {.n = 0};
    struct sae_err err = {0};

    if (saed_listen(&l, other[_i], &port, NULL) != SAE_OK) {
        printf("SKIP: no IPv6 here\n");
        return;
    }
    ck_assert_int_eq(saed_listen(&none, "localhost", &port, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot listen on localhost:"));
    ck_assert_ptr_nonnull(strstr(err.text, "in use"));
    ck_assert_uint_eq(none.n, 0);
    saed_listeners_close(&l);
    ck_assert(!connects_4(port));
}
END_TEST

/* From now on this process can open no IPv6 socket, as on a kernel without IPv6. */
static void switch_ipv6_off(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = SAE_COUNTOF(filter), .filter = filter};

    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

START_TEST(without_ipv6_there_is_ipv4)
{
    static const char *const hosts[] = {"::", "localhost"};
    uint16_t port = 0;
    struct saed_listeners l;
    struct sae_err err = {0};

    switch_ipv6_off();
    l = open_listeners(hosts[_i], &port);
    ck_assert_uint_eq(l.n, 1);
    ck_assert_int_eq(family_of(l.fds[0]), AF_INET);
    ck_assert(connects_4(port));
    saed_listeners_close(&l);
    /* but another IPv6 address is not replaced */
    port = 0;
    ck_assert_int_eq(saed_listen(&l, "::1", &port, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "::1"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listen");
    TCase *t = tcase_create("listen");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_test(t, all_addresses_are_of_both_families);
    tcase_add_loop_test(t, localhost_is_both_loopbacks, 0, 2);
    tcase_add_loop_test(t, localhost_with_one_port_taken_is_an_error, 0, 2);
    tcase_add_loop_test(t, without_ipv6_there_is_ipv4, 0, 2);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
