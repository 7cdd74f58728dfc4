/* conns.h - the sockets' side of HTTP: accepting, absolute deadlines, clients that go away.
 *
 * libmicrohttpd 0.9.75 has timeouts of inactivity only (a byte a second holds a connection for
 * ever), does not look at a suspended connection, and its own listener cannot be closed without a
 * race that aborts the process. So one thread of ours accepts and hands sockets over, sweeps all
 * connections for deadlines, and waits for the end of file of those whose request is being
 * computed. It never closes a socket: it shuts it down, and MHD, which owns it, notices and closes.
 *
 * PHASES of a connection, moved by its MHD thread:
 *
 *     IDLE --request line read--> HEAD --head read--> BODY --whole--> WORK --reply--> SEND
 *       ^                                                                               |
 *       +----------------------------------finish (keep-alive)--------------------------+
 *
 *     IDLE, HEAD  a head that has begun has 10 s from its first byte (a fresh connection: from
 *                 accept); an idle connection without a byte has 75 s
 *     BODY        request_timeout from the request's first byte
 *     WORK        no deadline here (the scheduler's); watched for end of file while suspended
 *     SEND        no byte acknowledged for 30 s, or less than 4 KB/s on average after 75 s
 *
 * THREADS  open, phase, watch, finish, close: the connection's MHD thread; unwatch: any. Each
 * connection has a lock that keeps its socket open while the thread here looks at it. */
#ifndef SAED_CONNS_H
#define SAED_CONNS_H

#include "lib/base.h"

#include <sys/socket.h>

enum saed_phase {
    SAED_PHASE_IDLE,
    SAED_PHASE_HEAD,
    SAED_PHASE_BODY,
    SAED_PHASE_WORK,
    SAED_PHASE_SEND
};

struct saed_conns;
struct saed_conn; /* a slot of a table; its memory lives as long as the saed_conns */

struct saed_conns_config {
    size_t max_connections;
    uint64_t request_timeout_ns;
    void *arg;
    /* A new socket: taken. */
    void (*add)(void *arg, int fd, const struct sockaddr *addr, socklen_t len);
    /* The client of a watched exchange has gone; called once at most. */
    void (*gone)(void *arg, void *exchange);
    /* unwatch returned false: gone has returned now, go on. */
    void (*unwatched)(void *arg, void *exchange);
    /* Of some body nothing has been taken for a sweep: its client is slow, or MHD. */
    void (*stalled)(void *arg);
};

/* Bind and listen; *port is the port in use. SAE_E_IO says why not. */
enum sae_status saed_conns_create(struct saed_conns **out, const struct saed_conns_config *cfg,
                                  const char *host, uint16_t *port,
                                  struct sae_err *err) SAE_MUST_USE;
enum sae_status saed_conns_start(struct saed_conns *c, struct sae_err *err) SAE_MUST_USE;
/* Accept what has been connected by now, then close the listener. Any thread; idempotent. */
void saed_conns_close_listener(struct saed_conns *c);
/* Let connections without a request end (their MHD thread closes them); once the listener is
 * closed. */
void saed_conns_close_idle(struct saed_conns *c);
/* Connections on which at least a byte of an unanswered request has been read. */
size_t saed_conns_busy(struct saed_conns *c);
size_t saed_conns_open(const struct saed_conns *c);
/* Stop the thread. Free is for when every connection has been closed. NULL allowed. */
void saed_conns_stop(struct saed_conns *c);
void saed_conns_free(struct saed_conns *c);

/* MHD opened / is about to close this socket. NULL: no slot left, the socket has been shut down. */
struct saed_conn *saed_conn_open(struct saed_conns *c, int fd);
void saed_conn_close(struct saed_conns *c, struct saed_conn *n);
/* A request line was read: HEAD. Returns when the request's first byte came. */
uint64_t saed_conn_begin(struct saed_conn *n);
/* Bytes that stood before the request line (blank lines): it begins at `line` in MHD's buffer, and
 * a connection's requests are all read from one address. */
size_t saed_conn_leading(struct saed_conn *n, const char *line);
void saed_conn_phase(struct saed_conn *n, enum saed_phase phase);
/* The answer has been sent, the connection stays: IDLE. `bytes` is what the request took on the
 * wire, or UINT64_MAX if that is not known. */
void saed_conn_finish(struct saed_conn *n, uint64_t bytes);
/* `bytes` of the current request and what follows it have been received; UINT64_MAX: not known. */
bool saed_conn_has(struct saed_conn *n, uint64_t bytes);
/* Between watch and unwatch `gone` may be called for `exchange`. Watch before anyone may unwatch.
 * Unwatch false: gone is running; `unwatched` will be called when it has returned. */
void saed_conn_watch(struct saed_conns *c, struct saed_conn *n, void *exchange);
bool saed_conn_unwatch(struct saed_conns *c, struct saed_conn *n) SAE_MUST_USE;

uint64_t saed_now_ns(void); /* CLOCK_MONOTONIC */

#endif
