/* origin.h - hosts and origins, as options, Host and Origin have them.
 *
 * Shared by opts, addresses and who may call (api/access.c). Pure functions, any thread. */
#ifndef SAED_ORIGIN_H
#define SAED_ORIGIN_H

#include "lib/base.h"

#define SAED_ORIGIN_MAX 180 /* bytes; what is listed is sent back in a header */

/* HOST[:PORT] in its parts, borrowed from the text. */
struct saed_authority {
    const char *host; /* without brackets; a dot at the end is not in it */
    size_t n_host;
    unsigned port; /* 0: none is said */
};

/* SCHEME://HOST[:PORT]. */
struct saed_origin {
    const char *scheme;
    size_t n_scheme;
    struct saed_authority at;
};

/* False: it is none, or has an empty host, or a port that is no number from 1 to 65535. */
bool saed_authority_parse(struct saed_authority *out, const char *text);
bool saed_origin_parse(struct saed_origin *out, const char *text);

/* The same name or address, in whatever case, whatever the ports. */
bool saed_authority_has_host(const struct saed_authority *a, const char *host);
/* Of the same host and port; the port that a scheme has anyway may be said or not. */
bool saed_origin_is_at(const struct saed_origin *o, const struct saed_authority *a);
bool saed_origin_equals(const struct saed_origin *o, const struct saed_origin *p);

/* True for 127.0.0.0/8 and ::1, in whatever form, for localhost and, where `below`, for names below
 * it: hosts that only this machine can reach, and that no name server can lend. */
bool saed_authority_is_loopback(const struct saed_authority *a, bool below);

#endif
