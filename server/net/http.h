/* http.h - HTTP/1.1 over libmicrohttpd: connections, heads, bodies, replies. Knows no routes.
 *
 * An exchange is one request and its answer. Its way, with the connection's state (conn.h) in
 * capitals and what runs:
 *
 *     HEAD --head read--> handler.head --+-- refused, body unread --> answer, connection closes
 *                                        +-- refused, no body ------> answer, connection stays
 *                                        +-- BODY --> handler.request (WORK) --+--> reply ---->
 * SEND |                  | end <-- SEND <-- handler.resumed (BACK) <-- resume <-- AWAY, QUEUED
 * <--+-- suspend       end
 *
 * handler.head, request and resumed run on the connection's thread, which serves many connections:
 * they take less than a millisecond. In request the handler either replies, or suspends and sees to
 * it that saed_http_resume is called exactly once, from any thread; then resumed must reply or
 * drop. Everything of an exchange belongs to the connection's thread but between suspend and
 * resume, when it belongs to the handler. `end` runs once for each exchange whose `head` has run,
 * when its answer has been sent or its connection has gone.
 *
 * THREADS  http_threads of loop.h, each with the connections that it was given, and one of conns.h
 * (accepting, deadlines, clients gone). */
#ifndef SAED_HTTP_H
#define SAED_HTTP_H

#include "lib/base.h"
#include "server/address.h"
#include "server/net/head.h"
#include "server/report/metrics.h"
#include "server/report/requests.h"

#define SAED_REQUEST_ID_MAX 128

struct saed_exchange {
    /* The request. Strings are borrowed until `end`. */
    enum saed_method method;
    const char *path;  /* percent-decoded */
    const char *query; /* as sent, what follows '?'; NULL if there is none */
    const char *content_type, *accept, *shape; /* NULL: not sent */
    const char *content_encoding;              /* NULL: identity */
    const char *accept_encoding;
    const char *host; /* HOST[:PORT] that is asked, of the target or of Host */
    const char *origin, *authorization, *asks_method, *traceparent;
    bool has_body, chunked;
    uint64_t content_length; /* unless chunked */
    uint64_t arrival_ns;     /* first byte */
    uint64_t whole_ns;       /* last byte; set before handler.request */
    bool is_of_loopback;     /* it came to a loopback address */
    size_t beyond; /* its connection is one beyond so many, the limit, and ends with the answer; 0:
                      within it */
    char request_id[SAED_REQUEST_ID_MAX + 1];
    char *
        body; /* from handler.request on; owned by the exchange, NULL when empty; 64-byte aligned */
    size_t n_body;

    /* Set by handler.head. */
    uint64_t max_body_bytes;
    const char *max_body_option; /* "--max-body-bytes" */
    void *user;
    struct saed_dict *dict;  /* of the handler; nothing to http.c */
    const char *readable_by; /* an Origin, or "*", whose pages may read the answer; NULL: none */
    char client[65];         /* whose key came with it; "": none */
    /* For metrics: NULL and SAED_MOP_OTHER unless set. */
    struct saed_series *series;
    enum saed_metric_op op;

    uint64_t queue_ns, compute_ns; /* for Server-Timing; set before the reply */
    /* For the log; NULL and 0 unless set. */
    const char *route, *dictionary; /* borrowed until `end` returns */
    uint64_t rows, batch_rows;
};

struct saed_http_handler {
    void *arg;
    /* The head is well-formed. SAE_OK: go on with the body (or with request, if there is none);
     * otherwise *err is the answer, unless a reply has been made. */
    enum sae_status (*head)(void *arg, struct saed_exchange *x, struct sae_err *err);
    /* Memory for a body of which there are `bytes` by now (comes again with more, and with 0 when
     * it is given up): SAE_E_OVERLOADED, ... */
    enum sae_status (*reserve)(void *arg, struct saed_exchange *x, uint64_t bytes,
                               struct sae_err *err);
    void (*request)(void *arg, struct saed_exchange *x);
    void (*resumed)(void *arg, struct saed_exchange *x);
    void (*round_over)(void *arg); /* see saed_http_expect_more */
    /* The client of a queued exchange has gone. On the thread of conns.h; the exchange is still
     * suspended until it returns, whoever resumes it meanwhile. */
    void (*gone)(void *arg, struct saed_exchange *x);
    void (*end)(void *arg, struct saed_exchange *x);
};

struct saed_http_config {
    size_t n_threads, max_connections;
    uint64_t keepalive_timeout_ns, gather_ns;
    uint64_t min_upload_rate; /* bytes a second; 0: any */
    struct saed_http_handler handler;
    struct saed_metrics *metrics;   /* borrowed until free, as the other */
    struct saed_requests *requests; /* the log's */
};

struct saed_http;

/* Listen on all addresses and serve; a port that was 0 is then the one in use. SAE_E_IO: address in
 * use, ... */
enum sae_status saed_http_create(struct saed_http **out, const struct saed_http_config *cfg,
                                 struct saed_address *addresses, size_t n,
                                 struct sae_err *err) SAE_MUST_USE;
/* Close the listener; answers say Connection: close from now on. */
void saed_http_drain(struct saed_http *h);
/* Requests of which a byte has been read and which have not been answered. */
size_t saed_http_busy(struct saed_http *h);
/* Those of them whose head has been read. */
size_t saed_http_answering(struct saed_http *h);
/* Answer requests whose body is not whole with *err, and end their connections. Once, while
 * draining. */
void saed_http_refuse_bodies(struct saed_http *h, const struct sae_err *err);
/* Connections that have been answered and whose clients may still be sending: free cuts them. */
size_t saed_http_lingering(struct saed_http *h);
/* Exchanges that are suspended: free waits for them. */
size_t saed_http_suspended(struct saed_http *h);
/* Let idle connections end; returns how many are open. */
size_t saed_http_close_idle(struct saed_http *h);
/* End whatever is open and free. NULL allowed. */
void saed_http_free(struct saed_http *h);

/* Add a header to the coming reply; name is static. Values are cut at 191 bytes. */
void saed_http_header(struct saed_exchange *x, const char *name, const char *fmt, ...)
    SAE_PRINTF(3, 4);
/* Reply with `data`, which is taken: free_data(free_arg) is called when it has been sent (free_data
 * NULL: data is static). content_type is static; NULL: none, of an answer without a body. */
void saed_http_reply(struct saed_exchange *x, int status, const char *content_type,
                     const void *data, size_t n, void (*free_data)(void *), void *free_arg);
/* Reply with problem+json. */
void saed_http_error(struct saed_exchange *x, const struct sae_err *err);
/* The same with `more` behind the error's text in its detail. */
void saed_http_error_more(struct saed_exchange *x, const struct sae_err *err, const char *more);
/* Nobody waits for a reply: close the connection. */
void saed_http_drop(struct saed_exchange *x);
/* The body is not needed any more: free it. */
void saed_http_free_body(struct saed_exchange *x);

void saed_http_suspend(struct saed_exchange *x);
/* Suspended: from here on handler.gone is called when the client goes. False: it has gone. */
bool saed_http_queue(struct saed_exchange *x) SAE_MUST_USE;
void saed_http_resume(struct saed_exchange *x);
/* In `request`: have handler.round_over called on this thread once nothing more is ready on its
 * connections, or gather_ns have passed or 64 requests have come since the first that asked. */
void saed_http_expect_more(struct saed_exchange *x);

/* The library behind it: "libmicrohttpd 0.9.75". */
const char *saed_http_library(void);

#endif
