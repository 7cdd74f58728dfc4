/* listen.h - listening sockets of addresses: TCP, Unix sockets, and what was passed.
 *
 * Opened and closed by one thread; while they are open, by_loopback is for any. */
#ifndef SAED_LISTEN_H
#define SAED_LISTEN_H

#include "server/address.h"

#include <sys/stat.h>

struct saed_listener {
    int fd;        /* -1: closed */
    uint16_t port; /* 0: of a Unix socket */
    bool is_loopback;
    char path[108];   /* of a Unix socket's file that is ours; "": none is to be removed */
    struct stat file; /* of the path */
};

/* All of a daemon's, non-blocking. Zeroed at first. */
struct saed_listeners {
    struct saed_listener *all; /* owned */
    size_t n;
};

/* Add the sockets of *a, whose port 0 picks one and is set to it. `::` takes IPv4 as well, and is
 * 0.0.0.0 where IPv6 is off. `localhost` is both loopbacks with one port, whatever a resolver says,
 * and 127.0.0.1 alone where IPv6 is off. The file of a Unix socket that nobody listens on is
 * replaced, and has its mode from the begin. SAE_E_IO says why not; what was added before stays. */
enum sae_status saed_listen(struct saed_listeners *l, struct saed_address *a,
                            struct sae_err *err) SAE_MUST_USE;
/* What a socket that was passed listens on: *a, for saed_listen. SAE_E_IO: it does not listen. */
enum sae_status saed_listen_passed(struct saed_address *a, int fd,
                                   struct sae_err *err) SAE_MUST_USE;
/* A connection that was accepted came to a loopback address. Also once they are closed. */
bool saed_listeners_by_loopback(const struct saed_listeners *l, int fd);
/* And remove the files of Unix sockets. Idempotent. */
void saed_listeners_close(struct saed_listeners *l);
void saed_listeners_free(struct saed_listeners *l); /* closes */

#endif
