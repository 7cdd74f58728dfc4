/* listen.h - listening TCP sockets from HOST and PORT. Called once, at the start. */
#ifndef SAED_LISTEN_H
#define SAED_LISTEN_H

#include "lib/base.h"

#define SAED_LISTENERS_MAX 2

/* Sockets of one HOST and PORT, non-blocking. */
struct saed_listeners {
    int fds[SAED_LISTENERS_MAX];
    size_t n;
};

/* Bind the first address of `host` that can be; *port 0 picks one and is set to it. On success *out
 * is owned by the caller. `::` takes IPv4 as well, and is 0.0.0.0 where IPv6 is off. `localhost` is
 * both loopbacks with one port, whatever a resolver says, and 127.0.0.1 alone where IPv6 is off.
 * SAE_E_IO says why not. */
enum sae_status saed_listen(struct saed_listeners *out, const char *host, uint16_t *port,
                            struct sae_err *err) SAE_MUST_USE;
void saed_listeners_close(struct saed_listeners *l);

#endif
