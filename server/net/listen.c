/* listen.c - see listen.h. */
#include "server/net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT_TRIES 16 /* a port that is free on one loopback may be taken on the other */

/* A port that has just been left is taken at once (SO_REUSEADDR); one that is listened on is not.
 * An IPv6 socket takes IPv4 too, where its address is [::], whatever the system's default is. */
static int listen_on(const struct addrinfo *a)
{
    int zero = 0, one = 1, saved;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* Listen on the first address of host that can be, -1 for none: errno, or *gai, says why. */
static int listen_on_any(const char *host, const char *service, int *gai)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int fd = -1, saved;

    *gai = getaddrinfo(host, service, &hints, &list);
    if (*gai != 0)
        return -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = listen_on(a);
    saved = errno;
    freeaddrinfo(list);
    errno = saved;
    return fd;
}

/* What a socket says where the system has no IPv6, or has it switched off. */
static bool is_without_ipv6(int e)
{
    return e == EAFNOSUPPORT || e == EADDRNOTAVAIL;
}

static enum sae_status cannot_listen(const struct saed_address *a, const char *why,
                                     struct sae_err *err)
{
    char text[SAED_ADDRESS_TEXT];

    if (!a->host[0])
        return sae_err_set(err, SAE_E_IO, "", "cannot listen on unix:%s: %s", a->path, why);
    snprintf(text, sizeof text, "%s:%u", a->host, a->port);
    return sae_err_set(err, SAE_E_IO, "", "cannot listen on %s: %s", text, why);
}

/* Takes fd. */
static enum sae_status add(struct saed_listeners *l, int fd, const struct saed_address *a,
                           struct sae_err *err)
{
    struct saed_listener *all = sae_realloc(l->all, l->n + 1, sizeof *all);

    if (!all) {
        close(fd);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate listener %zu", l->n + 1);
    }
    l->all = all;
    all += l->n++;
    *all = (struct saed_listener){.fd = fd, .port = a->port, .is_loopback = a->is_loopback};
    return SAE_OK;
}

/* ---- TCP ------------------------------------------------------------------------------------- */

static uint16_t port_of(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;

    memset(&addr, 0, sizeof addr);
    (void)getsockname(fd, (struct sockaddr *)&addr, &len);
    return ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                            : ((struct sockaddr_in *)&addr)->sin_port);
}

/* A socket of `host`; -1: errno, or *gai, says why. */
static int open_tcp(const char *host, uint16_t port, int *gai)
{
    char service[8];

    snprintf(service, sizeof service, "%u", port);
    return listen_on_any(host, service, gai);
}

/* Both loopbacks, where there are both: how many there are. 0: errno says why. */
static int open_loopbacks(int fds[2], uint16_t port)
{
    int gai, saved;

    for (int i = 0; i < PORT_TRIES; i++) {
        fds[0] = open_tcp("127.0.0.1", port, &gai);
        if (fds[0] < 0)
            return 0;
        fds[1] = open_tcp("::1", port_of(fds[0]), &gai);
        if (fds[1] >= 0)
            return 2;
        if (is_without_ipv6(errno))
            return 1;
        saved = errno;
        close(fds[0]);
        errno = saved;
        if (port != 0 || errno != EADDRINUSE)
            return 0;
    }
    return 0;
}

static enum sae_status listen_tcp(struct saed_listeners *l, struct saed_address *a,
                                  struct sae_err *err)
{
    enum sae_status st;
    int fds[2] = {-1, -1}, n = 1, gai = 0;

    if (strcasecmp(a->host, "localhost") == 0) {
        n = open_loopbacks(fds, a->port);
    } else {
        fds[0] = open_tcp(a->host, a->port, &gai);
        if (fds[0] < 0 && gai == 0 && strcmp(a->host, "::") == 0 && is_without_ipv6(errno))
            fds[0] = open_tcp("0.0.0.0", a->port, &gai);
        n = fds[0] >= 0;
    }
    if (n == 0)
        return cannot_listen(a, gai ? gai_strerror(gai) : strerror(errno), err);
    a->port = port_of(fds[0]);
    st = add(l, fds[0], a, err);
    if (n == 2 && st == SAE_OK)
        return add(l, fds[1], a, err);
    if (n == 2)
        close(fds[1]);
    return st;
}

/* ---- Unix sockets ---------------------------------------------------------------------------- */

static struct sockaddr_un sockaddr_of(const struct saed_address *a)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    _Static_assert(sizeof addr.sun_path == sizeof a->path, "a path fits");
    memcpy(addr.sun_path, a->path, sizeof addr.sun_path);
    return addr;
}

/* The file is made with the socket's own mode, less what the umask takes: none, for as long. No
 * other thread makes files by then. */
static int bind_file(int fd, const struct saed_address *a)
{
    struct sockaddr_un addr = sockaddr_of(a);
    mode_t mask = 0;
    int rc;

    if (a->has_mode && fchmod(fd, a->mode) != 0)
        return -1;
    if (a->has_mode)
        mask = umask(0);
    rc = bind(fd, (const struct sockaddr *)&addr, sizeof addr);
    if (a->has_mode)
        umask(mask);
    return rc;
}

/* The file is a socket's that has been left: nobody answers there. */
static bool is_stale(const struct saed_address *a, struct stat *file)
{
    struct sockaddr_un addr = sockaddr_of(a);
    bool refused;
    int fd;

    if (lstat(a->path, file) != 0 || !S_ISSOCK(file->st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    refused =
        connect(fd, (const struct sockaddr *)&addr, sizeof addr) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

/* Why nobody can listen there: the last error, and what stands in the way. */
static const char *why_not(const struct saed_address *a)
{
    struct stat file;
    int error = errno;

    if (error == EADDRINUSE && lstat(a->path, &file) == 0 && !S_ISSOCK(file.st_mode))
        return "Address already in use, by a file that is no socket";
    return strerror(error);
}

/* Unless it has become another meanwhile. */
static void remove_file(const char *path, const struct stat *file)
{
    struct stat now;

    if (lstat(path, &now) == 0 && now.st_ino == file->st_ino && now.st_dev == file->st_dev)
        (void)unlink(path);
}

static enum sae_status listen_unix(struct saed_listeners *l, const struct saed_address *a,
                                   struct sae_err *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = -1;
    enum sae_status st;
    struct stat file;

    if (fd >= 0)
        rc = bind_file(fd, a);
    if (rc != 0 && fd >= 0 && errno == EADDRINUSE) {
        if (is_stale(a, &file)) {
            remove_file(a->path, &file);
            rc = bind_file(fd, a);
        } else {
            errno = EADDRINUSE;
        }
    }
    if (rc == 0)
        rc = listen(fd, SOMAXCONN) == 0 ? lstat(a->path, &file) : -1;
    if (rc != 0) {
        st = cannot_listen(a, why_not(a), err);
        if (fd >= 0)
            close(fd);
        return st;
    }
    st = add(l, fd, a, err);
    if (st != SAE_OK) {
        remove_file(a->path, &file);
        return st;
    }
    l->all[l->n - 1].file = file;
    memcpy(l->all[l->n - 1].path, a->path, sizeof a->path);
    return SAE_OK;
}

/* ---- passed ---------------------------------------------------------------------------------- */

static void name_tcp(struct saed_address *a, const struct sockaddr_storage *addr)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)addr;
    const void *from =
        addr->ss_family == AF_INET6 ? (const void *)&in6->sin6_addr : (const void *)&in4->sin_addr;

    (void)inet_ntop(addr->ss_family, from, a->host, sizeof a->host);
    a->port = ntohs(addr->ss_family == AF_INET6 ? in6->sin6_port : in4->sin_port);
    a->is_loopback = saed_host_is_loopback(a->host);
}

enum sae_status saed_listen_passed(struct saed_address *a, int fd, struct sae_err *err)
{
    struct sockaddr_storage addr;
    socklen_t n = sizeof addr, n_flag = sizeof(int);
    int listens = 0;

    memset(&addr, 0, sizeof addr);
    *a = (struct saed_address){.passed_fd = fd};
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n_flag) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &n) != 0)
        return sae_err_set(err, SAE_E_IO, "",
                           "cannot listen on descriptor %d, which was passed: %s", fd,
                           strerror(errno));
    if (!listens || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        return sae_err_set(err, SAE_E_IO, "",
                           "cannot listen on descriptor %d, which was passed: it does not listen",
                           fd);
    if (addr.ss_family == AF_UNIX)
        snprintf(a->path, sizeof a->path, "%.107s", ((struct sockaddr_un *)&addr)->sun_path);
    else
        name_tcp(a, &addr);
    return SAE_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

enum sae_status saed_listen(struct saed_listeners *l, struct saed_address *a, struct sae_err *err)
{
    if (a->passed_fd >= 0)
        return add(l, a->passed_fd, a, err);
    return a->host[0] ? listen_tcp(l, a, err) : listen_unix(l, a, err);
}

static bool is_loopback_address(const struct sockaddr_storage *addr)
{
    const struct in6_addr *a6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;

    if (addr->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == 127;
    return addr->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(a6);
}

/* A loopback address and all addresses cannot both be listened on with one port. */
bool saed_listeners_by_loopback(const struct saed_listeners *l, int fd)
{
    struct sockaddr_storage addr;
    socklen_t n = sizeof addr;

    if (getsockname(fd, (struct sockaddr *)&addr, &n) != 0 || !is_loopback_address(&addr))
        return false;
    for (size_t i = 0; i < l->n; i++)
        if (l->all[i].is_loopback && l->all[i].port == port_of(fd))
            return true;
    return false;
}

void saed_listeners_close(struct saed_listeners *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct saed_listener *one = &l->all[i];

        if (one->fd >= 0 && one->path[0])
            remove_file(one->path, &one->file);
        if (one->fd >= 0)
            close(one->fd);
        one->fd = -1;
    }
}

void saed_listeners_free(struct saed_listeners *l)
{
    saed_listeners_close(l);
    sae_free(l->all);
    *l = (struct saed_listeners){NULL, 0};
}
