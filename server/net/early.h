/* early.h - an answer written to its socket by hand.
 *
 * libmicrohttpd takes a reply before a body or behind it, not while it arrives: what must be said
 * in mid-body is written past it, on the connection's thread, and nothing else may be written to
 * that socket afterwards. Called by reply.c, which counts the answer. */
#ifndef SAED_EARLY_H
#define SAED_EARLY_H

#include "lib/base.h"

struct saed_header {
    const char *name; /* static */
    char value[192];
};

struct saed_early {
    int status;
    const char *reason; /* phrase of the status */
    const struct saed_header *headers;
    unsigned n_headers;
    const void *data;
    size_t n_data;
    bool no_data; /* to HEAD: the length is said, the bytes are not sent */
};

/* Write status line, Date, Content-Length, Connection: close, the headers and the data, without
 * waiting. False: the socket did not take all of it, or its peer has gone. */
bool saed_early_write(int fd, const struct saed_early *a);

#endif
