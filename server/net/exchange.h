/* exchange.h - what the files behind http.h share: their structs and inner calls.
 *
 * http.c      life of the server, the threads' turns, libmicrohttpd's callbacks
 * request.c   a request line and its head, up to what becomes of its body
 * body.c      bodies as they arrive
 * reply.c     replies, and the two ways in which they go out
 * account.c   what metrics and the log have of exchanges
 * suspend.c   exchanges that are away at the handler, and rounds
 * stuck.c     connections that libmicrohttpd does not look at any more
 *
 * This and mhd.c alone include microhttpd.h; nobody else includes this. */
#ifndef SAED_EXCHANGE_H
#define SAED_EXCHANGE_H

#include "server/net/conns.h"
#include "server/net/early.h"
#include "server/net/http.h"
#include "server/net/loop.h"
#include "server/net/mhd.h"

#include <microhttpd.h>
#include <stdatomic.h>

#define SAED_HTTP_HEADERS 20

/* A connection thread. Owned by it but for `loop`. */
struct saed_http_io {
    struct saed_http *h;
    struct MHD_Daemon *daemon;
    struct saed_loop *loop;
    size_t n_round;    /* requests that expect more of this round */
    uint64_t round_ns; /* when the first of them came */
    size_t n_out;      /* exchanges suspended in MHD */
    int own_status;    /* of the last answer that MHD made by itself */
    bool own_is_ours;  /* an exchange has answered in its place */

    /* Who is stuck: see there. */
    int epoll_fd;      /* MHD's */
    unsigned judge_in; /* turns until those that were nudged are judged; 0: nobody was */
    uint64_t looked_ns;
    struct saed_loop_note look;
    _Atomic bool look_posted;
    struct saed_loop_note refuse; /* saed_http_refuse_bodies */
    struct saed_loop_note slow;   /* bodies that are too slow are to be refused */
    _Atomic bool slow_posted;
};

struct saed_http_exchange {
    struct saed_exchange x; /* first: the handler's view */
    struct saed_http *h;
    struct saed_http_io *io;
    struct saed_loop_note resume;
    struct MHD_Connection *connection;
    struct saed_conn *conn; /* has the state */
    bool nudged;
    bool headed; /* handler.head has run: `end` is due */
    bool dropped;
    bool is_counted;     /* MHD has answered by itself, which on_log has counted */
    bool keeps_alive;    /* the client would have the connection go on */
    const char *uri;     /* where MHD found the target */
    uint64_t wire_bytes; /* of the whole request; UINT64_MAX: chunked */
    size_t body_cap;     /* bytes of the body's array */
    size_t body_held;    /* those of them in flight, never less than are used */
    uint64_t body_seen;  /* bytes of body read, kept or not */
    char *copies[10];    /* owned: header values that could not be borrowed */
    unsigned n_copies;

    int answered;       /* the status of the answer, once that is on its way */
    uint64_t bytes_out; /* of its body */

    int status;              /* the reply, once made */
    enum sae_status problem; /* that it tells; SAE_OK: none */
    const char *content_type;
    const void *data;
    size_t n_data;
    void (*free_data)(void *);
    void *free_arg;
    unsigned n_headers;
    struct saed_header headers[SAED_HTTP_HEADERS];
    char target[]; /* path, NUL, query */
};

struct saed_http {
    struct saed_http_config cfg;
    enum saed_heads heads;
    struct saed_http_io *ios; /* [cfg.n_threads] */
    size_t next_io;           /* the accepting thread's: who gets the next socket */
    struct saed_conns *conns;
    struct sae_err refusal;         /* see saed_http_refuse_bodies */
    struct MHD_Response *no_memory; /* for when there is none to make another */
    char id_prefix[9];
    char keep_alive[32]; /* "timeout=75" */
    _Atomic uint64_t next_id;
    _Atomic bool draining;
    _Atomic bool stopping;
    _Atomic size_t n_suspended; /* not resumed yet, or whoever resumes is not out of it */
};

static inline struct saed_http_exchange *saed_http_of(struct saed_exchange *x)
{
    return (struct saed_http_exchange *)x;
}

/* ---- request.c ----------------------------------------------------------------------------- */

/* The request line: called before MHD decodes the target in place. Its result is the exchange. */
void *saed_http_on_line(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result saed_http_on_head(struct saed_http_exchange *e, const char *method,
                                  const char *version);

/* MHD has refused a Content-Length by itself: answer in its place, where this is the request. */
void saed_http_answer_length(void *exchange);

/* ---- body.c -------------------------------------------------------------------------------- */

/* One whose length says that it is too large is refused now. */
enum sae_status saed_http_check_length(struct saed_http_exchange *e, struct sae_err *err);
/* A body that nobody wants, the reply being made: read it for the connection's sake? */
bool saed_http_may_ignore_body(struct saed_http_exchange *e, enum sae_status st);
enum MHD_Result saed_http_on_body(struct saed_http_exchange *e, const char *piece, size_t n);
enum MHD_Result saed_http_on_whole(struct saed_http_exchange *e);
void saed_http_on_slow_note(struct saed_loop_note *note);
void saed_http_on_slow(void *arg, void *io); /* of conns.h */

/* ---- reply.c ------------------------------------------------------------------------------- */

void saed_http_free_reply(struct saed_http_exchange *e);
/* The way out: sends what has been replied, and counts it. */
enum MHD_Result saed_http_send(struct saed_http_exchange *e);
/* The other way out, in mid-body, past MHD: answer with *err, which takes the place of a reply that
 * waited for the end of the body. Nothing of an answer may have been sent. MHD, which does not know
 * of it, must not send another: the connection can only be read on, or ended. */
void saed_http_answer_early(struct saed_http_exchange *e, const struct sae_err *err);
/* The same with the reply that has been made. */
void saed_http_send_early(struct saed_http_exchange *e);
/* It has been answered early: what is to be told to MHD, which closes. What still comes is dropped.
 */
enum MHD_Result saed_http_end_early(struct saed_http_exchange *e);
int saed_http_socket(const struct saed_http_exchange *e);
struct MHD_Response *saed_http_make_no_memory(void); /* NULL: it has run out already */

/* ---- account.c ----------------------------------------------------------------------------- */

/* The answer is on its way: counts it. */
void saed_http_account_answer(struct saed_http_exchange *e, int status);
/* The request is over: its line, before the handler's `end`. by_library: if we have not answered
 * it, MHD has. */
void saed_http_account_end(struct saed_http_exchange *e, bool by_library);
/* An answer that MHD made by itself, to whichever request. */
void saed_http_account_own(struct saed_http *h, int status);
void saed_http_on_dropped(void *arg, const void *exchange); /* of conns.h */

/* ---- suspend.c ----------------------------------------------------------------------------- */

void saed_http_end_round(struct saed_http_io *io);
bool saed_http_is_round_long(const struct saed_http_io *io);
void saed_http_on_gone(void *arg, void *exchange); /* these two: of conns.h */
void saed_http_on_told(void *arg, void *exchange);

/* ---- stuck.c ------------------------------------------------------------------------------- */

void saed_http_nudge(struct saed_http_io *io);
void saed_http_judge_one(void *exchange);
/* End a connection in mid-body from outside of MHD's calls; its client may send on for a while. */
void saed_http_hang_up(struct saed_http_exchange *e);
void saed_http_answer_stuck(struct saed_http_exchange *e);
void saed_http_on_look_note(struct saed_loop_note *note);
void saed_http_on_stalled(void *arg); /* of conns.h */

#endif
