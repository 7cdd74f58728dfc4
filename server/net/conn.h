/* conn.h - one connection: its state, and what the clock says about it.
 *
 *     FREE --open--> IDLE --line--> HEAD --body--> BODY --whole--> WORK --away--> AWAY
 *      ^              |  ^            |              |              |            |    |
 *      +----close-----+  |          reply          reply          reply          | queue, end
 *                        |            v              v              v            |    v
 *                        +--finish-- SEND <----------+--------------+         QUEUED, GONE
 *                                     ^                                          |
 *                                     +----reply---- BACK <--------back----------+
 *
 *     IDLE    no request. A head that has begun has 10 s from its first byte (on a fresh
 *             connection: from accept) to be whole; without a byte keepalive_ns pass
 *     HEAD    the request line has been read: the same 10 s
 *     BODY    30 s from byte to byte; once it has come for 30 s, min_upload_rate over the last 10
 *     WORK    the request is whole, and its handler runs
 *     AWAY    suspended: whoever the handler gave it to has it
 *     QUEUED  the same, and somebody is told when the client goes, once at most
 *     GONE    the client has gone from AWAY or QUEUED
 *     BACK    resumed: to be replied to
 *     SEND    no byte acknowledged for 30 s, or less than 4 KB/s on average after 75 s
 *
 * Beyond the limit of connections (room.h) none of this holds: IDLE, HEAD and BODY have 1 s from
 * accept, and SEND has 1 s. While somebody waits outside for such a place, they have a tenth of
 * that, and SEND half, which is longer than a client that means it needs.
 *
 * finish is allowed from wherever libmicrohttpd may give up a request: HEAD, BODY, WORK, BACK,
 * SEND. Every move that is not drawn is a fault of ours and asserted.
 *
 * Of Unix sockets the kernel counts nothing: BODY goes by what has been read, SEND waits for as
 * long as the client is there, and what else would be told by counts is not.
 *
 * Time and byte counts are given by the caller, so that tests step through all of it; of the socket
 * this file knows the number.
 *
 * THREADS  queue, back: whoever has it. ended, told, and with the lock held, which keeps the socket
 * open while one looks at it and shuts it down, begun, retire, kept_since, is_kept, beyond_since
 * and sweep: the one of conns.h. The rest: the connection's. `lock` guards all that more than one
 * of them writes or reads. */
#ifndef SAED_CONN_H
#define SAED_CONN_H

#include "server/net/pace.h"
#include "server/net/room.h"

#include <pthread.h>

#define SAED_HEAD_NS (10 * SAED_SECOND_NS)
#define SAED_STALL_NS (30 * SAED_SECOND_NS)
#define SAED_BEYOND_NS SAED_SECOND_NS
#define SAED_SLOW_AFTER_NS (75 * SAED_SECOND_NS)
#define SAED_SLOW_BYTES_PER_S 4096u

enum saed_conn_state {
    SAED_CONN_FREE,
    SAED_CONN_IDLE,
    SAED_CONN_HEAD,
    SAED_CONN_BODY,
    SAED_CONN_WORK,
    SAED_CONN_AWAY,
    SAED_CONN_QUEUED,
    SAED_CONN_GONE,
    SAED_CONN_BACK,
    SAED_CONN_SEND
};

/* Bytes of a connection, ever: received by the kernel, not taken out of it yet, acknowledged by the
 * client. False: not known now. A kernel that does not count says 0: what counts from accept and
 * from the request line holds all the same. */
struct saed_counts {
    uint64_t received, unread, acked;
};
typedef bool saed_counts_fn(int fd, struct saed_counts *out);

/* A slot of a table; fields are private to conn.c, and to conns.c where it says so. */
struct saed_conn {
    pthread_mutex_t lock;
    enum saed_conn_state state;
    enum saed_place place; /* conns.c's */
    int fd;
    uint32_t index, generation; /* of the slot, set by conns.c; of its use */
    void *owner, *exchange;     /* exchange: from line to finish */
    bool fresh;                 /* no request has been finished */
    bool ended;                 /* the client's end has been seen */
    bool no_more; /* its reading side was shut by us (conns.c too): an end says nothing */
    bool lingers; /* answered before its body was read; the connection's thread's */
    bool telling,
        back_pending;         /* somebody is told that the client has gone; `back` came meanwhile */
    uint64_t since_ns;        /* IDLE: since accept or the last answer; SEND: since the reply */
    uint64_t first_ns;        /* first byte of the request, as far as is known; 0: none */
    uint64_t consumed;        /* bytes of finished requests */
    _Atomic uint64_t n_read;  /* BODY: bytes that have been read; the connection's thread adds */
    uint64_t taken;           /* BODY: bytes that the last sweep found taken */
    bool stall_is_told;       /* nothing has been taken since */
    struct saed_pace pace;    /* BODY: of what has been received; begin_ns 0: no sweep yet */
    uint64_t moved_ns;        /* BODY: since when nothing has come */
    bool is_slow;             /* BODY: said so */
    uint64_t acked_first;     /* SEND: acknowledged at its begin; UINT64_MAX: not known */
    uint64_t acked, acked_ns; /* SEND: the last progress that a sweep saw; 0: no sweep yet */
    bool is_dropped;          /* SEND: said so */
    bool is_of_loopback;      /* it came to a loopback address; set by conns.c */
    uintptr_t base;           /* the connection thread's: where requests are read to */
    struct saed_conn *next_free; /* conns.c's */
};

void saed_conn_init(struct saed_conn *n, uint32_t index);
void saed_conn_fini(struct saed_conn *n);

void saed_conn_open(struct saed_conn *n, int fd, void *owner, enum saed_place place, uint64_t now);
/* Returns when the request's first byte came. */
uint64_t saed_conn_line(struct saed_conn *n, void *exchange, uint64_t now);
/* body, whole, away (to GONE at once, if the client's end has been seen), close. */
void saed_conn_move(struct saed_conn *n, enum saed_conn_state to);
/* False: the client has gone. */
bool saed_conn_queue(struct saed_conn *n) SAE_MUST_USE;
/* False: it is being told that the client has gone; `told` will say when it is over. */
bool saed_conn_back(struct saed_conn *n) SAE_MUST_USE;
/* An answer of `bytes` is on its way. */
void saed_conn_reply(struct saed_conn *n, uint64_t bytes, uint64_t now, saed_counts_fn *counts);
/* `bytes` is what the request took on the wire, or UINT64_MAX if that is not known. */
void saed_conn_finish(struct saed_conn *n, uint64_t bytes, uint64_t now, saed_counts_fn *counts);

/* In BODY: so many bytes of it have been read. */
void saed_conn_read(struct saed_conn *n, uint64_t bytes);
enum saed_conn_state saed_conn_state(struct saed_conn *n);
void *saed_conn_exchange(struct saed_conn *n); /* NULL: none */
/* Of a body that is slow: bytes a second over the last ten. */
uint64_t saed_conn_rate(struct saed_conn *n, uint64_t now);
/* It is being closed, and its client may still be sending: see linger.h. */
void saed_conn_set_lingers(struct saed_conn *n);
/* Bytes that stood before the request line (blank lines): it begins at `line` in MHD's buffer, and
 * a connection's requests are all read to one address. */
size_t saed_conn_leading(struct saed_conn *n, const char *line);
/* `bytes` of the current request and what follows it have been received; UINT64_MAX: not known. */
bool saed_conn_has(struct saed_conn *n, uint64_t bytes, saed_counts_fn *counts);

/* The client will send no more (an event for this generation of the slot). Returns the exchange of
 * which somebody must be told that its client has gone, NULL: nobody. Then call told: true if
 * `back` has come meanwhile and must be done now. */
void *saed_conn_ended(struct saed_conn *n, uint32_t generation);
bool saed_conn_told(struct saed_conn *n) SAE_MUST_USE;

/* With the lock held: at least a byte of an unanswered request has come. */
bool saed_conn_begun(struct saed_conn *n, saed_counts_fn *counts);
/* With the lock held: if nothing has begun it gets no further request; shut its reading side. */
bool saed_conn_retire(struct saed_conn *n, saed_counts_fn *counts) SAE_MUST_USE;
/* With the lock held: it is kept for a next request, as far as is known, since this time.
 * UINT64_MAX: it is not. */
uint64_t saed_conn_kept_since(const struct saed_conn *n);
/* With the lock held: it is kept and no byte of a request has come; if one has, that is known from
 * now on. */
bool saed_conn_is_kept(struct saed_conn *n, uint64_t now, saed_counts_fn *counts);

/* With the lock held: it has been beyond the limit, without a whole head or with an answer that is
 * not taken, for longer than it may be while others wait; since this time. UINT64_MAX: it has not,
 * or it is being cut. */
uint64_t saed_conn_beyond_since(const struct saed_conn *n, uint64_t now, saed_counts_fn *counts);

enum saed_verdict {
    SAED_CONN_WELL,
    SAED_CONN_STALLED,     /* BODY: nothing taken since the last sweep; said once for each stall */
    SAED_CONN_SLOW,        /* BODY: to be refused; said once */
    SAED_CONN_DROP,        /* SEND: cut; said once */
    SAED_CONN_END_READING, /* shut its reading side: a request that arrives now is still answered */
    SAED_CONN_CUT
};
/* What is not the same everywhere. */
struct saed_conn_times {
    uint64_t keepalive_ns;
    uint64_t min_upload_rate; /* bytes a second; 0: any */
};
/* With the lock held: what a look at the clock finds. */
enum saed_verdict saed_conn_sweep(struct saed_conn *n, uint64_t now,
                                  const struct saed_conn_times *t, saed_counts_fn *counts);

#endif
