/* http.c - see http.h: libmicrohttpd (mhd.h) behind the handler interface.
 *
 * What of MHD shapes this file: a reply queued in the first call of the access handler always
 * closes the connection, so one to a request without a body waits for the second call; a reply
 * cannot be queued while a body arrives, only at its end; a suspended connection leaves MHD's epoll
 * set. MHD_quiesce_daemon panics when it races with a worker, and MHD's accept loop cannot be told
 * to stop otherwise: sockets come from conns.c through MHD_add_connection. MHD's own threads are
 * not used (loop.h says why): each of ours drives an MHD daemon of its own, which nobody else
 * touches; resumed exchanges and accepted sockets come to it as notes.
 *
 * Longer than most: all that drives MHD stands here (how far it is trusted with heads: mhd.c). */
#include "server/net/http.h"

#include "proto/wire.h"
#include "server/net/conns.h"
#include "server/net/early.h"
#include "server/net/loop.h"
#include "server/net/mhd.h"

#include <microhttpd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* MHD's own default. A head must fit in, a body comes in pieces of half of it. MHD zeroes one and a
 * half times as much for each request: with 64 KB that was a fifth of this thread's time. */
#define CONNECTION_MEMORY (32u << 10)
#define FIRST_CHUNKED_BYTES (64u << 10)
#define IGNORED_BODY_BYTES (64u << 10)
#define MAX_HEADERS 14
#define ROUND_MAX 64
#define JUDGE_TURNS 4 /* three to be resumed and read, to be read to the end, and to spare */
#define LOOK_EVERY_NS 20000000ull /* so often at most, while MHD wants turn after turn */
#define DROP_MAX (1u << 20)
#define PROBLEM_JSON "application/problem+json"

/* A connection thread. Owned by it but for `loop`. */
struct io {
    struct saed_http *h;
    struct MHD_Daemon *daemon;
    struct saed_loop *loop;
    size_t n_round;    /* requests that expect more of this round */
    uint64_t round_ns; /* when the first of them came */
    size_t n_out;      /* exchanges suspended in MHD */

    /* Who is stuck: see there. */
    int epoll_fd;      /* MHD's */
    unsigned judge_in; /* turns until those that were nudged are judged; 0: nobody was */
    uint64_t looked_ns;
    struct saed_loop_note look;
    _Atomic bool look_posted;
    struct saed_loop_note refuse; /* saed_http_refuse_bodies */
};

struct exchange {
    struct saed_exchange x; /* first: the handler's view */
    struct saed_http *h;
    struct io *io;
    struct saed_loop_note resume;
    struct MHD_Connection *connection;
    struct saed_conn *conn; /* has the state */
    bool nudged;
    bool headed; /* handler.head has run: `end` is due */
    bool dropped;
    bool keeps_alive;    /* the client would have the connection go on */
    const char *uri;     /* where MHD found the target */
    uint64_t wire_bytes; /* of the whole request; UINT64_MAX: chunked */
    size_t body_cap;
    uint64_t body_seen;     /* bytes of body read, kept or not */
    struct sae_err refused; /* .status: the body is read but not kept, this is the answer */
    char *copies[4];        /* owned: header values that could not be borrowed */
    unsigned n_copies;

    int status; /* the reply, once made */
    const char *content_type;
    const void *data;
    size_t n_data;
    void (*free_data)(void *);
    void *free_arg;
    unsigned n_headers;
    struct saed_header headers[MAX_HEADERS];
    char target[]; /* path, NUL, query */
};

struct saed_http {
    struct saed_http_config cfg;
    enum saed_heads heads;
    struct io *ios; /* [cfg.n_threads] */
    size_t next_io; /* the accepting thread's: who gets the next socket */
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

static struct exchange *of(struct saed_exchange *x)
{
    return (struct exchange *)x;
}

/* ---- replies ------------------------------------------------------------------------------- */

void saed_http_header(struct saed_exchange *x, const char *name, const char *fmt, ...)
{
    struct exchange *e = of(x);
    va_list ap;

    if (e->n_headers == MAX_HEADERS)
        return;
    e->headers[e->n_headers].name = name;
    va_start(ap, fmt);
    vsnprintf(e->headers[e->n_headers].value, sizeof e->headers[0].value, fmt, ap);
    va_end(ap);
    e->n_headers++;
}

void saed_http_reply(struct saed_exchange *x, int status, const char *content_type,
                     const void *data, size_t n, void (*free_data)(void *), void *free_arg)
{
    struct exchange *e = of(x);

    e->status = status;
    e->content_type = content_type;
    e->data = data;
    e->n_data = n;
    e->free_data = free_data;
    e->free_arg = free_arg;
}

static const char out_of_memory[] = "{\"type\":\"about:blank\",\"title\":\"Overloaded\","
                                    "\"status\":503,\"detail\":\"memory has run out\","
                                    "\"code\":\"overloaded\"}\n";

void saed_http_error(struct saed_exchange *x, const struct sae_err *err)
{
    int status = sae_error_info(err->status).http;
    struct sae_buf b;

    sae_buf_init(&b, 16384);
    if (sae_problem_print(&b, err) == SAE_OK) {
        saed_http_reply(x, status, PROBLEM_JSON, b.data, b.len, sae_free, b.data);
    } else {
        sae_buf_fini(&b);
        status = 503;
        saed_http_reply(x, status, PROBLEM_JSON, out_of_memory, sizeof out_of_memory - 1, NULL,
                        NULL);
    }
    if (status == 503)
        saed_http_header(x, "Retry-After", "1");
}

void saed_http_drop(struct saed_exchange *x)
{
    of(x)->dropped = true;
}

static void free_reply(struct exchange *e)
{
    if (e->free_data)
        e->free_data(e->free_arg);
    e->free_data = NULL;
    e->status = 0;
}

/* As milliseconds: whole ones and microseconds. */
#define MS(ns) (unsigned long long)((ns) / 1000000), (unsigned)((ns) / 1000 % 1000)

/* What every answer has. */
static void add_headers(struct exchange *e)
{
    struct saed_exchange *x = &e->x;

    saed_http_header(x, "Content-Type", "%s", e->content_type);
    saed_http_header(x, "X-Content-Type-Options", "nosniff");
    saed_http_header(x, "Cache-Control", "no-store");
    saed_http_header(x, "Saed-Request-Id", "%s", x->request_id);
    saed_http_header(x, "Server-Timing",
                     "queue;dur=%llu.%03u, compute;dur=%llu.%03u, total;dur=%llu.%03u",
                     MS(x->queue_ns), MS(x->compute_ns), MS(saed_now_ns() - x->arrival_ns));
}

static struct MHD_Response *make_response(struct exchange *e)
{
    struct MHD_Response *r;
    bool ok = true;

    if (e->free_data)
        r = MHD_create_response_from_buffer_with_free_callback_cls(
            e->n_data, (void *)(uintptr_t)e->data, e->free_data, e->free_arg);
    else
        r = MHD_create_response_from_buffer(e->n_data, (void *)(uintptr_t)e->data,
                                            MHD_RESPMEM_PERSISTENT);
    if (!r)
        return NULL;
    e->free_data = NULL; /* the response's from now on */
    add_headers(e);
    for (unsigned i = 0; ok && i < e->n_headers; i++)
        ok = MHD_add_response_header(r, e->headers[i].name, e->headers[i].value) == MHD_YES;
    /* While draining a connection ends with the last request that has arrived on it. */
    if (ok && atomic_load(&e->h->draining) &&
        !(e->wire_bytes != UINT64_MAX &&
          saed_conn_has(e->conn, e->wire_bytes + 1, saed_tcp_counts)))
        ok = MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    /* A reply in HEAD ends the connection. */
    else if (ok && e->keeps_alive && saed_conn_state(e->conn) != SAED_CONN_HEAD)
        ok = MHD_add_response_header(r, "Keep-Alive", e->h->keep_alive) == MHD_YES;
    if (ok)
        return r;
    MHD_destroy_response(r);
    return NULL;
}

static void count_answer(struct exchange *e, int status)
{
    saed_metrics_request(e->h->cfg.metrics, e->x.series, e->x.op, status,
                         saed_now_ns() - e->x.arrival_ns);
}

/* The way out: sends what has been replied, and counts it. */
static enum MHD_Result send_reply(struct exchange *e)
{
    struct saed_http *h = e->h;
    enum MHD_Result ok;
    struct MHD_Response *r;

    if (e->dropped) {
        free_reply(e);
        return MHD_NO;
    }
    if (e->status == 0) {
        struct sae_err err = {0};

        sae_err_set(&err, SAE_E_INTERNAL, "", "cannot answer: no reply was made");
        saed_http_error(&e->x, &err);
    }
    r = make_response(e);
    if (!r)
        e->status = 503;
    saed_conn_reply(e->conn, e->n_data, saed_now_ns(), saed_tcp_counts);
    ok = MHD_queue_response(e->connection, (unsigned)e->status, r ? r : h->no_memory);
    if (r)
        MHD_destroy_response(r);
    if (ok == MHD_YES)
        count_answer(e, e->status);
    return ok;
}

static int socket_of(const struct exchange *e)
{
    return MHD_get_connection_info(e->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* The other way out, in mid-body, past MHD: answer with *err, which takes the place of a reply that
 * waited for the end of the body. Nothing of an answer may have been sent. MHD, which does not know
 * of it, must not send another: the connection can only be read on, or ended. */
static void answer_early(struct exchange *e, const struct sae_err *err)
{
    struct saed_early a;

    free_reply(e);
    e->n_headers = 0;
    saed_http_error(&e->x, err);
    add_headers(e);
    a = (struct saed_early){
        .status = e->status,
        .reason = MHD_get_reason_phrase_for((unsigned)e->status),
        .headers = e->headers,
        .n_headers = e->n_headers,
        .data = e->data,
        .n_data = e->n_data,
        .no_data = e->x.method == SAED_METHOD_HEAD,
    };
    saed_conn_reply(e->conn, e->n_data, saed_now_ns(), saed_tcp_counts);
    if (saed_early_write(socket_of(e), &a))
        count_answer(e, e->status);
    free_reply(e);
}

/* ---- suspended exchanges ------------------------------------------------------------------- */

void saed_http_suspend(struct saed_exchange *x)
{
    struct exchange *e = of(x);

    saed_conn_move(e->conn, SAED_CONN_AWAY);
    atomic_fetch_add(&e->h->n_suspended, 1);
    e->io->n_out++;
    MHD_suspend_connection(e->connection);
}

bool saed_http_queue(struct saed_exchange *x)
{
    return saed_conn_queue(of(x)->conn);
}

static void on_resume_note(struct saed_loop_note *note)
{
    struct exchange *e =
        (struct exchange *)(void *)((char *)note - offsetof(struct exchange, resume));

    e->io->n_out--;
    MHD_resume_connection(e->connection);
}

static void resume_now(struct exchange *e)
{
    struct saed_http *h = e->h;

    /* After this the connection's thread may free *e at any moment. */
    e->resume.run = on_resume_note;
    saed_loop_post(e->io->loop, &e->resume);
    atomic_fetch_sub(&h->n_suspended, 1);
}

static void end_round(struct io *io)
{
    struct saed_http_handler *hd = &io->h->cfg.handler;

    if (io->n_round)
        hd->round_over(hd->arg);
    io->n_round = 0;
}

static bool is_round_long(const struct io *io)
{
    return io->n_round == ROUND_MAX || saed_now_ns() - io->round_ns > io->h->cfg.gather_ns;
}

void saed_http_expect_more(struct saed_exchange *x)
{
    struct io *io = of(x)->io;

    if (io->n_round++ == 0)
        io->round_ns = saed_now_ns();
    else if (is_round_long(io))
        end_round(io);
}

void saed_http_resume(struct saed_exchange *x)
{
    struct exchange *e = of(x);

    if (saed_conn_back(e->conn))
        resume_now(e);
}

static void on_gone(void *arg, void *exchange)
{
    struct saed_http *h = arg;
    struct exchange *e = exchange;

    h->cfg.handler.gone(h->cfg.handler.arg, &e->x);
}

static void on_told(void *arg, void *exchange)
{
    (void)arg;
    resume_now(exchange);
}

/* ---- who is stuck -------------------------------------------------------------------------- */

/* A chunk-size line or trailers, or what a long head leaves of the connection's memory for them:
 * when the buffer is full of what cannot be handed over, 0.9.75 neither reads nor closes. It asks
 * for turn after turn for that connection, and does not see that its client has gone; 1.0.1 may
 * close such a one in its books and forget it. From outside this looks like a slow client. So MHD
 * is nudged: suspended and resumed at once, a connection leaves the epoll set and is taken for
 * ready. If all is well it is read from: that hands over a piece of the body, or finds that there
 * is no more, and the connection waits in the set again. One that a few turns later has done
 * neither is stuck, or reads framing without end.
 *
 * Done while MHD wants another turn at once, and when a connection has stood still for a sweep of
 * conns.h. (Heads that fill the buffer are answered by MHD.) */

/* How MHD itself enters a connection in its set. */
static bool in_epoll_set(const struct exchange *e, int op)
{
    struct epoll_event ready = {.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLET};

    ready.data.ptr = e->connection;
    return epoll_ctl(e->io->epoll_fd, op, socket_of(e), &ready) == 0;
}

static void nudge_one(void *exchange)
{
    struct exchange *e = exchange;

    e->nudged = true;
    e->io->judge_in = JUDGE_TURNS;
    MHD_suspend_connection(e->connection);
    MHD_resume_connection(e->connection);
}

static void nudge(struct io *io)
{
    io->looked_ns = saed_now_ns();
    if (io->judge_in == 0)
        saed_conns_each_reading(io->h->conns, io, nudge_one);
}

/* End a connection that MHD does not look at: hung up and in its set, it is closed in the next
 * turn. Closing upon unread bytes would send a reset that may overtake the answer. */
static void hang_up(struct exchange *e)
{
    int fd = socket_of(e);
    ssize_t n = 1;

    for (size_t dropped = 0; n > 0 && dropped < DROP_MAX; dropped += (size_t)n)
        n = recv(fd, NULL, DROP_MAX, MSG_DONTWAIT | MSG_TRUNC);
    shutdown(fd, SHUT_RDWR);
    in_epoll_set(e, EPOLL_CTL_ADD);
}

static void answer_stuck(struct exchange *e)
{
    struct sae_err err = {0};

    sae_err_set(&err, SAE_E_BAD_REQUEST, "",
                "cannot read request: a chunk-size line, its trailers or its head are longer than "
                "a connection's memory (%u bytes)",
                CONNECTION_MEMORY);
    answer_early(e, &err);
}

static void judge_one(void *exchange)
{
    struct exchange *e = exchange;

    if (!e->nudged)
        return;
    e->nudged = false;
    if (in_epoll_set(e, EPOLL_CTL_MOD))
        return;
    answer_stuck(e);
    hang_up(e);
}

static void on_look_note(struct saed_loop_note *note)
{
    struct io *io = (struct io *)(void *)((char *)note - offsetof(struct io, look));

    atomic_store(&io->look_posted, false);
    nudge(io);
}

/* On the thread of conns.h. */
static void on_stalled(void *arg)
{
    struct saed_http *h = arg;

    for (size_t i = 0; i < h->cfg.n_threads; i++)
        if (!atomic_exchange(&h->ios[i].look_posted, true))
            saed_loop_post(h->ios[i].loop, &h->ios[i].look);
}

/* ---- head ---------------------------------------------------------------------------------- */

/* The request line: called before MHD decodes the target in place. Its result is the exchange. */
static void *on_line(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct io *io = cls;
    struct saed_http *h = io->h;
    size_t n = uri ? strlen(uri) : 0;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct saed_conn *conn = info ? info->socket_context : NULL;
    struct exchange *e = conn ? sae_calloc(1, sizeof *e + n + 2) : NULL;

    if (!e)
        return NULL;
    e->h = h;
    e->io = io;
    e->connection = connection;
    e->uri = uri;
    if (uri)
        memcpy(e->target, uri, n);
    e->x.op = SAED_MOP_OTHER;
    e->conn = conn;
    e->x.arrival_ns = saed_conn_line(conn, e, saed_now_ns());
    snprintf(e->x.request_id, sizeof e->x.request_id, "%s%08llx", h->id_prefix,
             (unsigned long long)atomic_fetch_add(&h->next_id, 1));
    saed_metrics_in_flight(h->cfg.metrics, 1);
    return e;
}

/* A value as a string: borrowed when MHD's NUL stands right behind it. NULL: out of memory. */
static const char *as_string(struct exchange *e, const struct saed_value *v, unsigned n)
{
    size_t len = 0;
    char *s;

    if (n == 1 && v[0].p[v[0].n] == '\0')
        return v[0].p;
    for (unsigned i = 0; i < n; i++)
        len += v[i].n + 2;
    s = sae_calloc(1, len + 1);
    if (!s)
        return NULL;
    e->copies[e->n_copies++] = s;
    len = 0;
    for (unsigned i = 0; i < n; i++) {
        if (i > 0) {
            memcpy(s + len, ", ", 2);
            len += 2;
        }
        memcpy(s + len, v[i].p, v[i].n);
        len += v[i].n;
    }
    return s;
}

static bool take_strings(struct exchange *e, const struct saed_head *head)
{
    struct saed_exchange *x = &e->x;

    if (head->content_type.p && !(x->content_type = as_string(e, &head->content_type, 1)))
        return false;
    if (head->content_encoding.p &&
        !(x->content_encoding = as_string(e, &head->content_encoding, 1)))
        return false;
    if (head->shape.p && !(x->shape = as_string(e, &head->shape, 1)))
        return false;
    if (head->n_accept && !(x->accept = as_string(e, head->accept, head->n_accept)))
        return false;
    return true;
}

/* Split the target in place and decode the path. */
static bool take_target(struct exchange *e)
{
    size_t n = strcspn(e->target, "?");
    char *query = e->target[n] == '?' ? e->target + n + 1 : NULL;

    e->target[n] = '\0';
    e->x.query = query;
    e->x.path = e->target;
    return saed_path_decode(e->target, e->target, n);
}

static enum sae_status read_head(struct exchange *e, const char *method, const char *version,
                                 struct sae_err *err)
{
    struct saed_mhd_line line = {method, e->uri, e->target, version};
    struct saed_exchange *x = &e->x;
    size_t n_bytes = 0;
    struct saed_head head;
    enum sae_status st =
        saed_mhd_read_head(&head, &n_bytes, e->connection, &line, e->h->heads, err);

    x->method = head.method;
    x->chunked = head.chunked;
    x->content_length = head.length;
    x->has_body = head.chunked || head.length > 0;
    if (st != SAE_OK)
        return st;
    e->keeps_alive = head.keeps_alive;
    e->wire_bytes = UINT64_MAX;
    if (!head.chunked && head.length < UINT64_MAX / 2)
        e->wire_bytes = n_bytes + head.length + saed_conn_leading(e->conn, method);
    if (head.request_id.p) {
        memcpy(x->request_id, head.request_id.p, head.request_id.n);
        x->request_id[head.request_id.n] = '\0';
    }
    if (!take_strings(e, &head))
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot keep the request's head: memory has run out");
    if (!take_target(e))
        return sae_err_set(err, SAE_E_BAD_REQUEST, "", "cannot decode the path: a '%%' is no %%XX");
    return SAE_OK;
}

/* Length known: refuse it now, or make room for all of it. */
static enum sae_status prepare_body(struct exchange *e, struct sae_err *err)
{
    struct saed_exchange *x = &e->x;
    struct saed_http_handler *hd = &e->h->cfg.handler;
    enum sae_status st;

    if (!x->has_body || x->chunked)
        return SAE_OK;
    if (x->content_length > x->max_body_bytes)
        return sae_err_limit(err, SAE_E_BODY_TOO_LARGE, x->max_body_option, x->max_body_bytes,
                             x->content_length,
                             "cannot take a body of %llu bytes: the limit is %llu (%s)",
                             (unsigned long long)x->content_length,
                             (unsigned long long)x->max_body_bytes, x->max_body_option);
    st = hd->reserve(hd->arg, x, x->content_length, err);
    if (st != SAE_OK)
        return st;
    x->body = sae_alloc(x->content_length, 1);
    if (!x->body)
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot hold a body of %llu bytes: memory has run out",
                           (unsigned long long)x->content_length);
    e->body_cap = x->content_length;
    return SAE_OK;
}

/* A body that nobody wants, the reply being made: read it for the connection's sake? A reply that
 * is no error may wait for a small one; an error only if it is here already, and one about size
 * never. */
static bool may_ignore_body(struct exchange *e, enum sae_status st)
{
    struct saed_exchange *x = &e->x;

    if (st == SAE_OK)
        return x->content_length <= x->max_body_bytes;
    x->max_body_bytes = IGNORED_BODY_BYTES;
    return st != SAE_E_BODY_TOO_LARGE && !x->chunked && x->content_length <= IGNORED_BODY_BYTES &&
           saed_conn_has(e->conn, e->wire_bytes, saed_tcp_counts);
}

static enum MHD_Result on_head(struct exchange *e, const char *method, const char *version)
{
    struct saed_http_handler *hd = &e->h->cfg.handler;
    struct sae_err err = {0};
    enum sae_status st = read_head(e, method, version, &err);

    if (st != SAE_OK) { /* what this client means by a request is unknown: close */
        saed_http_error(&e->x, &err);
        return send_reply(e);
    }
    e->headed = true;
    st = hd->head(hd->arg, &e->x, &err);
    if (st == SAE_OK && e->status == 0)
        st = prepare_body(e, &err);
    if (st != SAE_OK && e->status == 0)
        saed_http_error(&e->x, &err);
    if (e->status && e->x.has_body && !may_ignore_body(e, st))
        return send_reply(e);
    saed_conn_move(e->conn, SAED_CONN_BODY);
    return MHD_YES;
}

/* ---- body ---------------------------------------------------------------------------------- */

void saed_http_free_body(struct saed_exchange *x)
{
    sae_free(x->body);
    x->body = NULL;
    x->n_body = 0;
    of(x)->body_cap = 0;
}

/* Room for `need` bytes of a chunked body; e->refused says why not. */
static void grow_body(struct exchange *e, size_t need)
{
    struct saed_exchange *x = &e->x;
    struct saed_http_handler *hd = &e->h->cfg.handler;
    size_t cap = e->body_cap ? e->body_cap : FIRST_CHUNKED_BYTES;
    char *grown;

    if (need > x->max_body_bytes) {
        sae_err_limit(&e->refused, SAE_E_BODY_TOO_LARGE, x->max_body_option, x->max_body_bytes,
                      need, "cannot take a body of more than %llu bytes (%s)",
                      (unsigned long long)x->max_body_bytes, x->max_body_option);
        return;
    }
    while (cap < need)
        cap *= 2;
    if (cap > x->max_body_bytes)
        cap = x->max_body_bytes;
    if (hd->reserve(hd->arg, x, cap, &e->refused) != SAE_OK) {
        return;
    }
    grown = sae_alloc(cap, 1);
    if (!grown) {
        sae_err_set(&e->refused, SAE_E_NOMEM, "",
                    "cannot hold a body of %zu bytes: memory has run out", cap);
        return;
    }
    if (x->n_body)
        memcpy(grown, x->body, x->n_body);
    sae_free(x->body);
    x->body = grown;
    e->body_cap = cap;
}

static enum MHD_Result on_body(struct exchange *e, const char *piece, size_t n)
{
    struct saed_exchange *x = &e->x;

    e->body_seen += n;
    if (x->chunked && e->body_seen / 2 > x->max_body_bytes)
        return MHD_NO; /* it may go on for ever */
    if (e->status)     /* replied to already */
        return MHD_YES;
    if (!e->refused.status && n > e->body_cap - x->n_body) {
        if (!x->chunked)
            return MHD_NO; /* more than its Content-Length: MHD does not do that */
        grow_body(e, x->n_body + n);
    }
    if (e->refused.status) {
        saed_http_free_body(x); /* from now on it is read and thrown away */
    } else {
        memcpy(x->body + x->n_body, piece, n);
        x->n_body += n;
    }
    return MHD_YES;
}

static enum MHD_Result on_whole(struct exchange *e)
{
    struct saed_http_handler *hd = &e->h->cfg.handler;

    saed_conn_move(e->conn, SAED_CONN_WORK);
    if (e->refused.status) {
        saed_http_error(&e->x, &e->refused);
        return send_reply(e);
    }
    if (e->status)
        return send_reply(e);
    hd->request(hd->arg, &e->x);
    /* Suspended, it may be anybody's by now, but only this thread frees *e. */
    return saed_conn_state(e->conn) == SAED_CONN_WORK ? send_reply(e) : MHD_YES;
}

/* ---- MHD's callbacks ----------------------------------------------------------------------- */

static enum MHD_Result on_call(void *cls, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **con_cls)
{
    struct saed_http *h = ((struct io *)cls)->h;
    struct exchange *e = *con_cls;

    (void)url;
    if (!e)
        return MHD_queue_response(connection, 503, h->no_memory);
    e->nudged = false;
    switch (saed_conn_state(e->conn)) {
    case SAED_CONN_HEAD:
        return on_head(e, method, version);
    case SAED_CONN_BODY:
        if (*upload_data_size == 0)
            return on_whole(e);
        if (on_body(e, upload_data, *upload_data_size) != MHD_YES)
            return MHD_NO;
        *upload_data_size = 0;
        return MHD_YES;
    case SAED_CONN_BACK:
        h->cfg.handler.resumed(h->cfg.handler.arg, &e->x);
        return send_reply(e);
    default: /* answered early, and read on */
        return MHD_NO;
    }
}

/* MHD's log. What MHD answers by itself (a head that is no HTTP, or too large, ...) is counted like
 * other answers; it may come before there is an exchange. */
static void on_log(void *cls, const char *message, va_list args)
{
    struct io *io = cls;
    int status = saed_mhd_own_answer(message, args);

    if (status)
        saed_metrics_request(io->h->cfg.metrics, NULL, SAED_MOP_OTHER, status, 0);
}

static void end_exchange(struct exchange *e)
{
    struct saed_http *h = e->h;

    if (e->headed)
        h->cfg.handler.end(h->cfg.handler.arg, &e->x);
    saed_conn_finish(e->conn, e->wire_bytes, saed_now_ns(), saed_tcp_counts);
    free_reply(e);
    saed_http_free_body(&e->x);
    for (unsigned i = 0; i < e->n_copies; i++)
        sae_free(e->copies[i]);
    sae_free(e);
    saed_metrics_in_flight(h->cfg.metrics, -1);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode toe)
{
    struct exchange *e = *con_cls;

    (void)cls, (void)connection, (void)toe;
    if (!e)
        return;
    *con_cls = NULL;
    end_exchange(e);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode toe)
{
    struct io *io = cls;
    struct exchange *e;

    if (toe == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = saed_conns_open(
            io->h->conns,
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, io);
        return;
    }
    /* 1.0.1 forgets to complete a request whose chunk-size line is too long for it. */
    e = *socket_context ? saed_conn_exchange(*socket_context) : NULL;
    if (e && saed_conn_state(e->conn) == SAED_CONN_BODY)
        answer_stuck(e);
    if (e)
        end_exchange(e);
    saed_conns_close(io->h->conns, *socket_context);
}

/* A socket on its way to the thread that will serve it. */
struct newcomer {
    struct saed_loop_note note;
    struct io *io;
    int fd;
    struct sockaddr_storage addr;
    socklen_t len;
};

static void on_newcomer_note(struct saed_loop_note *note)
{
    struct newcomer *n = (struct newcomer *)note;

    /* closes the socket when it fails */
    MHD_add_connection(n->io->daemon, n->fd, (struct sockaddr *)&n->addr, n->len);
    sae_free(n);
}

static void on_accepted(void *arg, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct saed_http *h = arg;
    struct newcomer *n = sae_calloc(1, sizeof *n);

    if (!n || len > sizeof n->addr) {
        sae_free(n);
        close(fd);
        return;
    }
    n->note.run = on_newcomer_note;
    n->io = &h->ios[h->next_io++ % h->cfg.n_threads];
    n->fd = fd;
    memcpy(&n->addr, addr, len);
    n->len = len;
    saed_loop_post(n->io->loop, &n->note);
}

/* ---- making and ending --------------------------------------------------------------------- */

/* Connections, and some for files and event loops. */
static void raise_descriptor_limit(size_t max_connections)
{
    rlim_t want = max_connections + 128;
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY || r.rlim_cur >= want)
        return;
    r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max >= want ? want : r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r); /* short of descriptors accepting waits, nothing breaks */
}

static struct MHD_Response *make_no_memory(void)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(
        sizeof out_of_memory - 1, (void *)(uintptr_t)out_of_memory, MHD_RESPMEM_PERSISTENT);

    if (r && MHD_add_response_header(r, "Content-Type", PROBLEM_JSON) == MHD_YES &&
        MHD_add_response_header(r, "Retry-After", "1") == MHD_YES &&
        MHD_add_response_header(r, "Connection", "close") == MHD_YES)
        return r;
    if (r)
        MHD_destroy_response(r);
    return NULL;
}

static enum saed_loop_next on_turn(void *arg, bool idle)
{
    struct io *io = arg;
    bool stopping = atomic_load(&io->h->stopping), again;
    MHD_UNSIGNED_LONG_LONG wait_ms;

    if (idle)
        end_round(io);
    if (io->judge_in > 0 && --io->judge_in == 0)
        saed_conns_each_reading(io->h->conns, io, judge_one);
    MHD_run(io->daemon);
    if (stopping || (io->n_round && is_round_long(io)))
        end_round(io);
    if (stopping) /* MHD aborts when it is stopped with a connection suspended */
        return io->n_out ? SAED_LOOP_BUSY : SAED_LOOP_IDLE;
    if (io->n_round) /* look whether more has come */
        return SAED_LOOP_AGAIN;
    /* It has no timeouts of ours: what it waits for is 0 or an event. */
    again = MHD_get_timeout(io->daemon, &wait_ms) == MHD_YES && wait_ms == 0;
    if (again && saed_now_ns() > io->looked_ns + LOOK_EVERY_NS)
        nudge(io);
    return again || io->judge_in ? SAED_LOOP_AGAIN : SAED_LOOP_IDLE;
}

static struct MHD_Daemon *start_mhd(struct io *io)
{
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    size_t limit = io->h->cfg.max_connections + 1024; /* our own count is the limit */

    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_call, io, MHD_OPTION_EXTERNAL_LOGGER, on_log, io,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(limit > UINT32_MAX / 2 ? UINT32_MAX / 2 : limit),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, (enum MHD_OPTION)saed_mhd_strict_option(),
        (int)(io->h->heads == SAED_HEADS_BY_LIBRARY), MHD_OPTION_URI_LOG_CALLBACK, on_line, io,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, io, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        io, MHD_OPTION_END);
}

static enum sae_status start_io(struct saed_http *h, size_t i, struct sae_err *err)
{
    struct io *io = &h->ios[i];
    const union MHD_DaemonInfo *info;
    char name[16];

    io->h = h;
    io->look.run = on_look_note;
    io->daemon = start_mhd(io);
    info = io->daemon ? MHD_get_daemon_info(io->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info)
        return sae_err_set(err, SAE_E_IO, "", "cannot start the HTTP threads");
    io->epoll_fd = info->epoll_fd;
    snprintf(name, sizeof name, "saed-http-%u", (unsigned)i % 100000);
    return saed_loop_create(&io->loop, io->epoll_fd, on_turn, io, name, err);
}

static void make_id_prefix(struct saed_http *h)
{
    uint32_t random = 0;

    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = (uint32_t)saed_now_ns();
    snprintf(h->id_prefix, sizeof h->id_prefix, "%08x", random);
}

enum sae_status saed_http_create(struct saed_http **out, const struct saed_http_config *cfg,
                                 uint16_t *port, struct sae_err *err)
{
    struct saed_http *h = sae_calloc(1, sizeof *h);
    enum sae_status st = SAE_OK;

    if (!h)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the HTTP server");
    h->cfg = *cfg;
    *port = cfg->port;
    st = saed_mhd_choose(&h->heads, err);
    if (st != SAE_OK)
        goto out;
    make_id_prefix(h);
    snprintf(h->keep_alive, sizeof h->keep_alive, "timeout=%llu",
             (unsigned long long)(cfg->keepalive_timeout_ns / SAED_SECOND_NS));
    raise_descriptor_limit(cfg->max_connections);
    struct saed_conns_config cc = {
        .max_connections = cfg->max_connections,
        .times = {cfg->request_timeout_ns, cfg->keepalive_timeout_ns},
        .arg = h,
        .add = on_accepted,
        .gone = on_gone,
        .told = on_told,
        .stalled = on_stalled,
    };
    st = saed_conns_create(&h->conns, &cc, cfg->host, port, err);
    if (st != SAE_OK)
        goto out;
    h->no_memory = make_no_memory();
    h->ios = sae_calloc(cfg->n_threads, sizeof *h->ios);
    if (!h->no_memory || !h->ios) {
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the HTTP server");
        goto out;
    }
    for (size_t i = 0; st == SAE_OK && i < cfg->n_threads; i++)
        st = start_io(h, i, err);
    if (st == SAE_OK)
        st = saed_conns_start(h->conns, err);
    if (st != SAE_OK)
        goto out;
    *out = h;
    h = NULL;
out:
    saed_http_free(h);
    return st;
}

void saed_http_drain(struct saed_http *h)
{
    atomic_store(&h->draining, true);
    saed_conns_close_listener(h->conns);
}

size_t saed_http_busy(struct saed_http *h)
{
    return saed_conns_busy(h->conns);
}

size_t saed_http_answering(struct saed_http *h)
{
    return saed_conns_answering(h->conns);
}

static void refuse_one(void *exchange)
{
    struct exchange *e = exchange;

    answer_early(e, &e->h->refusal);
    hang_up(e);
}

static void on_refuse_note(struct saed_loop_note *note)
{
    struct io *io = (struct io *)(void *)((char *)note - offsetof(struct io, refuse));

    saed_conns_each_reading(io->h->conns, io, refuse_one);
}

void saed_http_refuse_bodies(struct saed_http *h, const struct sae_err *err)
{
    h->refusal = *err;
    for (size_t i = 0; i < h->cfg.n_threads; i++) {
        h->ios[i].refuse.run = on_refuse_note;
        saed_loop_post(h->ios[i].loop, &h->ios[i].refuse);
    }
}

size_t saed_http_suspended(struct saed_http *h)
{
    return atomic_load(&h->n_suspended);
}

size_t saed_http_close_idle(struct saed_http *h)
{
    saed_conns_close_idle(h->conns);
    return saed_conns_count(h->conns);
}

void saed_http_free(struct saed_http *h)
{
    if (!h)
        return;
    if (h->conns)
        saed_conns_stop(h->conns); /* nobody may hand over a socket to a loop that stops */
    atomic_store(&h->stopping, true);
    for (size_t i = 0; h->ios && i < h->cfg.n_threads; i++)
        if (h->ios[i].loop)
            saed_loop_stop(h->ios[i].loop);
    /* Whoever resumed an exchange last may still be ringing, though it is answered. */
    while (atomic_load(&h->n_suspended) > 0)
        sched_yield();
    for (size_t i = 0; h->ios && i < h->cfg.n_threads; i++) {
        saed_loop_free(h->ios[i].loop);
        if (h->ios[i].daemon)
            MHD_stop_daemon(h->ios[i].daemon);
    }
    sae_free(h->ios);
    if (h->no_memory)
        MHD_destroy_response(h->no_memory);
    saed_conns_free(h->conns);
    sae_free(h);
}

const char *saed_http_library(void)
{
    static char text[64];

    snprintf(text, sizeof text, "libmicrohttpd %s", MHD_get_version());
    return text;
}
