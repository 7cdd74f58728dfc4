/* address.h - where to listen, as --listen has it: HOST:PORT or unix:PATH[:mode].
 *
 * Shared by opts (which reads it), net (which listens) and the daemon. Pure functions, any thread.
 */
#ifndef SAED_ADDRESS_H
#define SAED_ADDRESS_H

#include "lib/base.h"

#define SAED_ADDRESSES_MAX 64
#define SAED_ADDRESS_TEXT 300 /* bytes of the longest, with a NUL */

struct saed_address {
    char host[256]; /* without brackets for IPv6; "": a path */
    uint16_t port;  /* 0: any */
    bool is_loopback;
    char path[108]; /* of a Unix socket */
    unsigned mode;  /* of its file, where has_mode; else as the umask leaves it */
    bool has_mode;
    int passed_fd; /* a socket that listens already; -1: none */
};

/* False: it is none, *out is as it was. */
bool saed_address_parse(struct saed_address *out, const char *text);
/* "http://HOST:PORT", "unix:PATH". */
void saed_address_print(const struct saed_address *a, char out[SAED_ADDRESS_TEXT]);
/* Only this machine reaches it: 127.0.0.0/8, ::1, localhost. */
bool saed_host_is_loopback(const char *host);

/* A name as resolvers take it, or an IPv4 address in its usual form; an IPv6 address without
 * brackets, perhaps with a zone. */
bool saed_is_host(const char *host);
bool saed_is_ipv6(const char *host);

#endif
