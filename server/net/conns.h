/* conns.h - the sockets' side of HTTP: accepting, absolute deadlines, clients that go away.
 *
 * libmicrohttpd 0.9.75 has timeouts of inactivity only (a byte a second holds a connection for
 * ever), does not look at a suspended connection, and its own listener cannot be closed without a
 * race that aborts the process. So one thread of ours accepts and hands sockets over, sweeps all
 * connections for deadlines, and waits for the end of file of those whose request is being
 * computed. It never closes a socket: it shuts it down, and MHD, which owns it, notices and closes.
 *
 * What it finds is decided by conn.h; here is the table of connections and what touches sockets.
 * Accepting is door.h's, which asks here for somebody to leave when the house is full.
 *
 * THREADS  open, close, linger, each_reading, each_in_head: the connection's MHD thread; the rest:
 * any. */
#ifndef SAED_CONNS_H
#define SAED_CONNS_H

#include "server/address.h"
#include "server/net/conn.h"

#include <sys/socket.h>

struct saed_conns;

struct saed_conns_config {
    size_t max_connections;
    size_t max_lingering;
    struct saed_conn_times times;
    void *arg;
    /* A new socket: taken. */
    void (*add)(void *arg, int fd, const struct sockaddr *addr, socklen_t len);
    /* The client of a queued exchange has gone; called once at most. */
    void (*gone)(void *arg, void *exchange);
    /* `back` of conn.h returned false: gone has returned now, go on. */
    void (*told)(void *arg, void *exchange);
    /* Of some body nothing has been taken for a sweep: its client is slow, or MHD. */
    void (*stalled)(void *arg);
    /* A body of this owner's is too slow: each_slow finds it. */
    void (*slow)(void *arg, void *owner);
    /* The answer of this exchange is not being taken: it is cut. The exchange is borrowed for the
     * call. */
    void (*dropped)(void *arg, const void *exchange);
};

/* Listen on all of them; a port that was 0 is then the one in use. SAE_E_IO says why not. */
enum sae_status saed_conns_create(struct saed_conns **out, const struct saed_conns_config *cfg,
                                  struct saed_address *addresses, size_t n,
                                  struct sae_err *err) SAE_MUST_USE;
enum sae_status saed_conns_start(struct saed_conns *c, struct sae_err *err) SAE_MUST_USE;
/* Accept what has been connected by now, then close the listener. Any thread; idempotent. */
void saed_conns_close_listener(struct saed_conns *c);
/* Let connections without a request end (their MHD thread closes them); once the listener is
 * closed. */
void saed_conns_close_idle(struct saed_conns *c);
/* Connections on which at least a byte of an unanswered request has been read. */
size_t saed_conns_busy(struct saed_conns *c);
/* Those of them whose head has been read: an answer is being made or sent. */
size_t saed_conns_answering(struct saed_conns *c);
size_t saed_conns_count(const struct saed_conns *c);
/* False: this connection is one beyond the limit, and there is no room yet. */
bool saed_conns_admit(struct saed_conns *c, struct saed_conn *n);
size_t saed_conns_limit(const struct saed_conns *c); /* as it is now */
/* Answered and being read to their end: counted by none of the above. */
size_t saed_conns_lingering(const struct saed_conns *c);
/* Stop the thread. Free is for when every connection has been closed. NULL allowed. */
void saed_conns_stop(struct saed_conns *c);
void saed_conns_free(struct saed_conns *c);

/* MHD opened / is about to close this socket: if it has not read all, it lingers. `owner` is the
 * connection thread. NULL: no slot left, the socket has been shut down. */
struct saed_conn *saed_conns_open(struct saed_conns *c, int fd, void *owner);
void saed_conns_close(struct saed_conns *c, struct saed_conn *n);
/* Read and drop what arrives on this socket from now on (linger.h), by a descriptor of its own: the
 * caller's can be closed. Without one it will end as it does. */
void saed_conns_linger(struct saed_conns *c, int fd);
/* Call `visit` with the exchange of every connection of `owner` whose body is being read; it may
 * end the exchange. */
void saed_conns_each_reading(struct saed_conns *c, const void *owner,
                             void (*visit)(void *exchange));
/* Those of them that are too slow. */
void saed_conns_each_slow(struct saed_conns *c, const void *owner, void (*visit)(void *exchange));
/* The same of those whose head is. */
void saed_conns_each_in_head(struct saed_conns *c, const void *owner,
                             void (*visit)(void *exchange));

bool saed_tcp_counts(int fd, struct saed_counts *out); /* from the kernel */

#endif
