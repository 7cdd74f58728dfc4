/* test_listen.c - what listening sockets take: `::` both families, `localhost` both loopbacks, and
 * IPv4 where IPv6 is off; files of Unix sockets; what is passed. */
#include "server/net/listen.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
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

/* saed_listen on HOST and *port. */
static enum sae_status listen_at(struct saed_listeners *l, const char *host, uint16_t *port,
                                 struct sae_err *err)
{
    struct saed_address a;
    enum sae_status st;
    char text[64];

    snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, *port);
    ck_assert(saed_address_parse(&a, text));
    st = saed_listen(l, &a, err);
    *port = a.port;
    return st;
}

static struct saed_listeners open_listeners(const char *host, uint16_t *port)
{
    struct saed_listeners l = {NULL, 0};
    struct sae_err err = {0};

    ck_assert_msg(listen_at(&l, host, port, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_gt(*port, 0);
    return l;
}

START_TEST(all_addresses_are_of_both_families)
{
    uint16_t port = 0;
    struct saed_listeners l = open_listeners("::", &port);

    ck_assert_uint_eq(l.n, 1);
    ck_assert(connects_4(port));
    if (family_of(l.all[0].fd) == AF_INET6)
        ck_assert(connects_6(port));
    else
        printf("SKIP: no IPv6 here\n");
    saed_listeners_free(&l);
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
    saed_listeners_free(&l);
    ck_assert(!connects_4(port));
    ck_assert(!connects_6(port));
    again = port; /* a port that is named */
    l = open_listeners(names[_i], &again);
    ck_assert_uint_eq(again, port);
    ck_assert(connects_4(port));
    saed_listeners_free(&l);
}
END_TEST

/* Half of localhost would be the daemon that somebody else's clients talk to. */
START_TEST(localhost_with_one_port_taken_is_an_error)
{
    static const char *const other[] = {"127.0.0.1", "::1"};
    uint16_t port = 0;
    struct saed_listeners l = {NULL, 0}, none = {NULL, 0};
    struct sae_err err = {0};

    if (listen_at(&l, other[_i], &port, NULL) != SAE_OK) {
        printf("SKIP: no IPv6 here\n");
        return;
    }
    ck_assert_int_eq(listen_at(&none, "localhost", &port, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot listen on localhost:"));
    ck_assert_ptr_nonnull(strstr(err.text, "in use"));
    ck_assert_uint_eq(none.n, 0);
    saed_listeners_free(&l);
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
    ck_assert_int_eq(family_of(l.all[0].fd), AF_INET);
    ck_assert(connects_4(port));
    saed_listeners_free(&l);
    /* but another IPv6 address is not replaced */
    port = 0;
    ck_assert_int_eq(listen_at(&l, "::1", &port, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "::1"));
}
END_TEST

/* ---- Unix sockets ---------------------------------------------------------------------------- */

static char dir[256];

static void make_dir(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%s/saed-listen-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chdir(dir), 0);
}

static void remove_dir(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(dir), 0); /* the tests have left nothing */
}

static bool connects_unix(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    return connects((struct sockaddr *)&a, sizeof a);
}

static enum sae_status listen_unix(struct saed_listeners *l, const char *text, struct sae_err *err)
{
    struct saed_address a;

    ck_assert(saed_address_parse(&a, text));
    return saed_listen(l, &a, err);
}

static unsigned mode_of(const char *path)
{
    struct stat s;

    ck_assert_int_eq(lstat(path, &s), 0);
    ck_assert(S_ISSOCK(s.st_mode));
    return s.st_mode & 07777;
}

START_TEST(a_file_has_its_mode_and_goes)
{
    static const struct {
        const char *text;
        unsigned umask, mode;
    } modes[] = {
        {"unix:s", 022, 0755},     {"unix:s", 077, 0700},    {"unix:s:0666", 077, 0666},
        {"unix:s:660", 022, 0660}, {"unix:s:0600", 0, 0600},
    };
    struct saed_listeners l = {NULL, 0};
    struct sae_err err = {0};
    mode_t before;

    for (size_t i = 0; i < SAE_COUNTOF(modes); i++) {
        before = umask(modes[i].umask);
        ck_assert_msg(listen_unix(&l, modes[i].text, &err) == SAE_OK, "%s", err.text);
        ck_assert_uint_eq(umask(before), modes[i].umask); /* as it was */
        ck_assert_uint_eq(mode_of("s"), modes[i].mode);
        ck_assert(connects_unix("s"));
        saed_listeners_free(&l);
        ck_assert_int_ne(access("s", F_OK), 0);
    }
}
END_TEST

/* What a daemon that was killed has left. */
START_TEST(a_file_that_is_left_is_replaced)
{
    struct saed_listeners l = {NULL, 0};
    struct sae_err err = {0};

    ck_assert_int_eq(listen_unix(&l, "unix:s", &err), SAE_OK);
    close(l.all[0].fd);
    l.all[0].fd = -1;
    saed_listeners_free(&l);
    ck_assert(!connects_unix("s"));
    ck_assert_int_eq(listen_unix(&l, "unix:s:0640", &err), SAE_OK);
    ck_assert(connects_unix("s"));
    ck_assert_uint_eq(mode_of("s"), 0640);
    saed_listeners_free(&l);
}
END_TEST

START_TEST(what_is_somebody_elses_stays)
{
    struct saed_listeners l = {NULL, 0}, other = {NULL, 0};
    struct sae_err err = {0};
    FILE *f;

    ck_assert_int_eq(listen_unix(&l, "unix:s", &err), SAE_OK);
    ck_assert_int_eq(listen_unix(&other, "unix:s", &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot listen on unix:s: Address already in use"));
    ck_assert(connects_unix("s"));
    /* ours has gone and another stands there: it is not removed with ours */
    ck_assert_int_eq(unlink("s"), 0);
    ck_assert_int_eq(listen_unix(&other, "unix:s", &err), SAE_OK);
    saed_listeners_free(&l);
    ck_assert(connects_unix("s"));
    saed_listeners_free(&other);
    /* a file that is no socket's refuses connections, too */
    f = fopen("s", "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
    err = (struct sae_err){0};
    ck_assert_int_eq(listen_unix(&l, "unix:s", &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "in use, by a file that is no socket"));
    ck_assert_int_eq(unlink("s"), 0);
    err = (struct sae_err){0};
    ck_assert_int_eq(listen_unix(&l, "unix:no/such/folder", &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "No such file"));
    ck_assert_uint_eq(l.n, 0);
}
END_TEST

/* ---- what is passed, and what a connection came to ---------------------------------------------
 */

START_TEST(a_passed_socket_says_where_it_listens)
{
    struct saed_listeners l = {NULL, 0}, mine = {NULL, 0};
    struct saed_address a;
    struct sae_err err = {0};
    uint16_t port = 0;
    int fd;

    mine = open_listeners("127.0.0.1", &port);
    fd = dup(mine.all[0].fd);
    ck_assert_msg(saed_listen_passed(&a, fd, &err) == SAE_OK, "%s", err.text);
    ck_assert_str_eq(a.host, "127.0.0.1");
    ck_assert_uint_eq(a.port, port);
    ck_assert(a.is_loopback);
    ck_assert_int_eq(saed_listen(&l, &a, &err), SAE_OK);
    ck_assert_int_eq(l.all[0].fd, fd);
    ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    saed_listeners_free(&l);
    saed_listeners_free(&mine);
    ck_assert_int_eq(listen_unix(&mine, "unix:s", &err), SAE_OK);
    fd = dup(mine.all[0].fd);
    ck_assert_int_eq(saed_listen_passed(&a, fd, &err), SAE_OK);
    ck_assert_str_eq(a.host, "");
    ck_assert_str_eq(a.path, "s");
    ck_assert_int_eq(saed_listen(&l, &a, &err), SAE_OK);
    saed_listeners_free(&l); /* the file is whose socket it is */
    ck_assert(connects_unix("s"));
    saed_listeners_free(&mine);
}
END_TEST

START_TEST(what_does_not_listen_is_refused)
{
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
        file = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[] = {sock, file, 999};

    for (size_t i = 0; i < SAE_COUNTOF(fds); i++) {
        struct saed_address a;
        struct sae_err err = {0};
        char want[32];

        snprintf(want, sizeof want, "descriptor %d,", fds[i]);
        ck_assert_int_eq(saed_listen_passed(&a, fds[i], &err), SAE_E_IO);
        ck_assert_ptr_nonnull(strstr(err.text, want));
    }
    close(sock);
    close(file);
}
END_TEST

/* The accepted end of a connection to 127.0.0.1. */
static int accepted(const struct saed_listeners *l, uint16_t port, int *client)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(*client, (struct sockaddr *)&a, sizeof a), 0);
    fd = accept(l->all[0].fd, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(a_connection_knows_what_it_came_to)
{
    static const char *const hosts[] = {"127.0.0.1", "0.0.0.0"};

    for (int i = 0; i < 2; i++) {
        uint16_t port = 0;
        struct saed_listeners l = open_listeners(hosts[i], &port);
        int client, fd = accepted(&l, port, &client), pair[2];

        ck_assert(saed_listeners_by_loopback(&l, fd) == (i == 0));
        saed_listeners_close(&l);
        ck_assert(saed_listeners_by_loopback(&l, fd) == (i == 0));
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        ck_assert(!saed_listeners_by_loopback(&l, pair[0]));
        close(pair[0]);
        close(pair[1]);
        close(fd);
        close(client);
        saed_listeners_free(&l);
    }
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
    tcase_add_test(t, what_does_not_listen_is_refused);
    tcase_add_test(t, a_connection_knows_what_it_came_to);
    suite_add_tcase(suite, t);
    t = tcase_create("unix");
    tcase_add_checked_fixture(t, make_dir, remove_dir);
    tcase_add_test(t, a_file_has_its_mode_and_goes);
    tcase_add_test(t, a_file_that_is_left_is_replaced);
    tcase_add_test(t, what_is_somebody_elses_stays);
    tcase_add_test(t, a_passed_socket_says_where_it_listens);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
