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
 */
static int listen_on(const struct addrinfo *a)
{
    int one = 1, saved;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

enum sae_status saed_listen(int *out, const char *host, uint16_t *port, struct sae_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char service[8];
    int fd = -1, rc;

    snprintf(service, sizeof service, "%u", *port);
    rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0)
        return sae_err_set(err, SAE_E_IO, host, "cannot listen on %s:%s: %s", host, service,
                           gai_strerror(rc));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = listen_on(a);
    rc = errno;
    freeaddrinfo(list);
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
