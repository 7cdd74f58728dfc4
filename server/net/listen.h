/* listen.h - a listening TCP socket from HOST and PORT. Called once, at the start. */
#ifndef SAED_LISTEN_H
#define SAED_LISTEN_H

#include "lib/base.h"

/* Bind the first address of `host` that can be; *port 0 picks one and is set to it. On success *fd
 * is owned by the caller, non-blocking. `::` takes IPv4 as well, and is 0.0.0.0 where IPv6 is off.
 * SAE_E_IO says why not. */
enum sae_status saed_listen(int *fd, const char *host, uint16_t *port,
                            struct sae_err *err) SAE_MUST_USE;

#endif
