/* listen.c - see listen.h. */
#include "server/net/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
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

static enum sae_status cannot_listen(const char *host, uint16_t port, const char *why,
                                     struct sae_err *err)
{
    return sae_err_set(err, SAE_E_IO, host, "cannot listen on %s:%u: %s", host, port, why);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;

    memset(&addr, 0, sizeof addr);
    (void)getsockname(fd, (struct sockaddr *)&addr, &len);
    return ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                            : ((struct sockaddr_in *)&addr)->sin_port);
}

/* One socket of `host`, added to *out. On failure errno, or *gai, says why. */
static bool add_socket(struct saed_listeners *out, const char *host, uint16_t port, int *gai)
{
    char service[8];
    int fd;

    snprintf(service, sizeof service, "%u", port);
    fd = listen_on_any(host, service, gai);
    if (fd < 0)
        return false;
    out->fds[out->n++] = fd;
    return true;
}

/* False: errno says why not. */
static bool listen_on_loopbacks(struct saed_listeners *out, uint16_t port)
{
    int gai, saved;

    for (int i = 0; i < PORT_TRIES; i++) {
        if (!add_socket(out, "127.0.0.1", port, &gai))
            return false;
        if (add_socket(out, "::1", port_of(out->fds[0]), &gai) || is_without_ipv6(errno))
            return true;
        saved = errno;
        saed_listeners_close(out);
        errno = saved;
        if (port != 0 || errno != EADDRINUSE)
            return false;
    }
    return false;
}

enum sae_status saed_listen(struct saed_listeners *out, const char *host, uint16_t *port,
                            struct sae_err *err)
{
    struct saed_listeners l = {.n = 0};
    int gai = 0;
    bool ok;

    if (strcasecmp(host, "localhost") == 0)
        ok = listen_on_loopbacks(&l, *port);
    else
        ok = add_socket(&l, host, *port, &gai) ||
             (gai == 0 && strcmp(host, "::") == 0 && is_without_ipv6(errno) &&
              add_socket(&l, "0.0.0.0", *port, &gai));
    if (!ok)
        return cannot_listen(host, *port, gai ? gai_strerror(gai) : strerror(errno), err);
    *port = port_of(l.fds[0]);
    *out = l;
    return SAE_OK;
}

void saed_listeners_close(struct saed_listeners *l)
{
    while (l->n > 0)
        close(l->fds[--l->n]);
}
