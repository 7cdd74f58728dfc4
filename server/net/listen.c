/* listen.c - see listen.h. */
#include "server/net/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

enum sae_status saed_listen(int *out, const char *host, uint16_t *port, struct sae_err *err)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char service[8];
    int fd, rc, gai;

    snprintf(service, sizeof service, "%u", *port);
    fd = listen_on_any(host, service, &gai);
    if (gai != 0)
        return sae_err_set(err, SAE_E_IO, host, "cannot listen on %s:%s: %s", host, service,
                           gai_strerror(gai));
    rc = errno;
    if (fd < 0 && strcmp(host, "::") == 0 && is_without_ipv6(rc)) {
        fd = listen_on_any("0.0.0.0", service, &gai);
        rc = errno;
    }
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        if (fd >= 0) {
            rc = errno;
            close(fd);
        }
        return sae_err_set(err, SAE_E_IO, host, "cannot listen on %s:%s: %s", host, service,
                           strerror(rc));
    }
    *port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                             : ((struct sockaddr_in *)&addr)->sin_port);
    *out = fd;
    return SAE_OK;
}
