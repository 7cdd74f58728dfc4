/* head.h - the head of a request: what libmicrohttpd 0.9.75 lets through and saed does not.
 *
 * 0.9.75 hands over pointers into its read buffer, in which it has put NULs over the colon of each
 * field and over the line ends (two for CRLF, one for a bare LF). The fields are therefore checked
 * to be one gapless chain from the method to the empty line: whatever MHD dropped, glued or cut
 * (NUL bytes, folded lines, bare LF, blanks before a colon) breaks the chain and the request is
 * refused. (Later versions lay out heads otherwise and refuse such things themselves: mhd.h.) On
 * top of it the rules of RFC 9112 that decide where a body ends. Pure functions of memory, called
 * by mhd.c on the connection's thread. */
#ifndef SAED_HEAD_H
#define SAED_HEAD_H

#include "lib/base.h"

#include <string.h>
#include <strings.h>

enum saed_method {
    SAED_METHOD_GET,
    SAED_METHOD_HEAD,
    SAED_METHOD_POST,
    SAED_METHOD_OPTIONS,
    SAED_METHOD_OTHER
};

/* A value, borrowed from the read buffer; p is NULL when the field was not sent. */
struct saed_value {
    const char *p;
    size_t n; /* trailing blanks are not in it */
};

/* A request's head. Owned by one connection's thread. */
struct saed_head {
    enum saed_method method;
    /* Of the target (RFC 9112 3.2): what stands before '?', and "/" or, of OPTIONS, "*" where that
     * is nothing; what stands behind it, NULL without one. Borrowed from the target, or static. */
    struct saed_value path;
    const char *query;
    bool is_http_1_0;
    bool keeps_alive; /* by the version and by Connection */
    bool chunked;
    bool has_length;
    uint64_t length; /* Content-Length, when has_length */
    struct saed_value content_type, shape, request_id;
    struct saed_value content_encoding; /* the first that is not identity */
    /* HOST[:PORT] that is asked: of the target, where it has one, else of Host. */
    struct saed_value host;
    struct saed_value origin, authorization, asks_method; /* Access-Control-Request-Method */
    struct saed_value traceparent;                        /* sent twice: none */
    struct saed_value accept[4]; /* Accept may be sent in several fields; more are refused */
    unsigned n_accept;
    struct saed_value accept_encoding[4]; /* more are passed over */
    unsigned n_accept_encoding;

    /* private */
    bool by_layout;
    bool has_authority;               /* of an absolute-form target: stands for Host */
    bool says_close, says_keep_alive; /* Connection */
    const char *next; /* by layout: where the chain must go on; NULL once it is broken */
    unsigned n_host, n_length, n_transfer, n_traceparent;
    const char *fault; /* the first thing that is wrong; static text */
};

/* Is a field of this name the one that is called `want`? */
static inline bool saed_field_is(const char *name, size_t n, const char *want)
{
    return strlen(want) == n && strncasecmp(name, want, n) == 0;
}

/* Begin with the request line. `uri` is where MHD found the target, or NULL to look at values alone
 * and not at where they lie; `target` is a copy of its text made before MHD changed it. */
void saed_head_begin(struct saed_head *h, const char *uri, const char *method, const char *target,
                     const char *version);
/* Each field in the order it was received. */
void saed_head_field(struct saed_head *h, const char *name, size_t name_len, const char *value,
                     size_t value_len);
/* `end` is the byte after the empty line (not looked at without a `uri`). SAE_E_BAD_REQUEST says
 * what is wrong. */
enum sae_status saed_head_end(struct saed_head *h, const char *end,
                              struct sae_err *err) SAE_MUST_USE;

/* Decode %XX of the path (the target up to '?') into dst, which has room for as many bytes as the
 * path and a NUL; a '/' that was written %2F becomes '\x01', which no route contains.
 * False: not %XX. */
bool saed_path_decode(char *dst, const char *path, size_t n);

#endif
