/* http.c - see http.h: libmicrohttpd (mhd.h) behind the handler interface.
 *
 * What of MHD shapes this folder: a reply queued in the first call of the access handler always
 * closes the connection, so one to a request without a body waits for the second call; a reply
 * cannot be queued while a body arrives, only at its end: what must be said sooner is written past
 * it (early.h). It closes a connection whether or not all has been read (linger.h). A suspended
 * connection leaves MHD's epoll set. MHD_quiesce_daemon panics when it races with a worker, and
 * MHD's accept loop cannot be told to stop otherwise: sockets come from conns.c through
 * MHD_add_connection. MHD's own threads are not used (loop.h says why): each of ours drives an MHD
 * daemon of its own, which nobody else touches; resumed exchanges and accepted sockets come to it
 * as notes.
 *
 * The ways of an exchange stand in the files that exchange.h lists. */
#include "server/clock.h"
#include "server/net/exchange.h"

#include "server/report/log.h"

#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWN_DESCRIPTORS 128       /* for files, event loops, and what clients have just closed */
#define LINGERING 64              /* of a thread's connections */
#define LOOK_EVERY_NS 20000000ull /* so often at most, while MHD wants turn after turn */

/* ---- MHD's callbacks ----------------------------------------------------------------------- */

static enum MHD_Result on_call(void *cls, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **con_cls)
{
    struct saed_http *h = ((struct saed_http_io *)cls)->h;
    struct saed_http_exchange *e = *con_cls;

    (void)url;
    if (!e) {
        saed_http_account_own(h, 503);
        return MHD_queue_response(connection, 503, h->no_memory);
    }
    e->nudged = false;
    switch (saed_conn_state(e->conn)) {
    case SAED_CONN_HEAD:
        return saed_http_on_head(e, method, version);
    case SAED_CONN_BODY:
        if (*upload_data_size == 0)
            return saed_http_on_whole(e);
        if (saed_http_on_body(e, upload_data, *upload_data_size) != MHD_YES)
            return MHD_NO;
        *upload_data_size = 0;
        return MHD_YES;
    case SAED_CONN_BACK:
        h->cfg.handler.resumed(h->cfg.handler.arg, &e->x);
        return saed_http_send(e);
    default: /* answered early, and read on */
        return MHD_NO;
    }
}

/* MHD's log. What MHD answers by itself (a head that is no HTTP, or too large, ...) is counted and
 * logged like other answers; it may come before there is an exchange, and does not say of which. */
static void on_log(void *cls, const char *message, va_list args)
{
    struct saed_http_io *io = cls;
    int status = saed_mhd_own_answer(message, args);

    if (!status)
        return;
    saed_metrics_request(io->h->cfg.metrics, NULL, SAED_MOP_OTHER, status, 0);
    io->own_status = status;
    io->own_is_ours = false;
    if (io->h->heads == SAED_HEADS_BY_LAYOUT && (status == 400 || status == 413))
        saed_conns_each_in_head(io->h->conns, io, saed_http_answer_length);
    if (!io->own_is_ours)
        saed_http_account_own(io->h, status);
}

/* by_library: without an answer of ours MHD has seen to one. */
static void end_exchange(struct saed_http_exchange *e, bool by_library)
{
    struct saed_http *h = e->h;

    saed_http_account_end(e, by_library);
    if (e->headed)
        h->cfg.handler.end(h->cfg.handler.arg, &e->x);
    saed_conn_finish(e->conn, e->wire_bytes, saed_now_ns(), saed_tcp_counts);
    saed_http_free_reply(e);
    saed_http_free_body(&e->x);
    for (unsigned i = 0; i < e->n_copies; i++)
        sae_free(e->copies[i]);
    sae_free(e);
    saed_metrics_in_flight(h->cfg.metrics, -1);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode toe)
{
    struct saed_http_exchange *e = *con_cls;

    (void)cls, (void)connection;
    if (!e)
        return;
    *con_cls = NULL;
    end_exchange(e, toe == MHD_REQUEST_TERMINATED_WITH_ERROR ||
                        toe == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode toe)
{
    struct saed_http_io *io = cls;
    struct saed_http_exchange *e;

    if (toe == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = saed_conns_open(
            io->h->conns,
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, io);
        return;
    }
    /* 1.0.1 forgets to complete a request whose chunk-size line is too long for it. */
    e = *socket_context ? saed_conn_exchange(*socket_context) : NULL;
    if (e && saed_conn_state(e->conn) == SAED_CONN_BODY)
        saed_http_answer_stuck(e);
    if (e)
        end_exchange(e, false);
    saed_conns_close(io->h->conns, *socket_context);
}

/* A socket on its way to the thread that will serve it. */
struct newcomer {
    struct saed_loop_note note;
    struct saed_http_io *io;
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

/* Room for so many connections, for those that linger, and some descriptors for files and event
 * loops, if the process may have them; returns how many connections it will have, where the limit
 * is less, and lets fewer linger then. */
static size_t raise_descriptor_limit(const struct saed_http_config *cfg, size_t *max_lingering)
{
    size_t max_connections = cfg->max_connections;
    size_t others = OWN_DESCRIPTORS + *max_lingering;
    rlim_t want = max_connections + others, own;
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY || r.rlim_cur >= want)
        return max_connections;
    r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max >= want ? want : r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur == want)
        return max_connections;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return max_connections;
    own = others < r.rlim_cur / 2 ? others : r.rlim_cur / 2;
    if (own < others)
        *max_lingering = 1 + own / 4;
    saed_log(SAED_WARN, "descriptors", saed_uint("limit", r.rlim_cur), saed_uint("needed", want),
             saed_uint("max_connections", r.rlim_cur - own));
    return r.rlim_cur - own;
}

static enum saed_loop_next on_turn(void *arg, bool idle)
{
    struct saed_http_io *io = arg;
    bool stopping = atomic_load(&io->h->stopping), again;
    MHD_UNSIGNED_LONG_LONG wait_ms;

    if (idle)
        saed_http_end_round(io);
    if (io->judge_in > 0 && --io->judge_in == 0)
        saed_conns_each_reading(io->h->conns, io, saed_http_judge_one);
    MHD_run(io->daemon);
    if (stopping || (io->n_round && saed_http_is_round_long(io)))
        saed_http_end_round(io);
    if (stopping) /* MHD aborts when it is stopped with a connection suspended */
        return io->n_out ? SAED_LOOP_BUSY : SAED_LOOP_IDLE;
    if (io->n_round) /* look whether more has come */
        return SAED_LOOP_AGAIN;
    /* It has no timeouts of ours: what it waits for is 0 or an event. */
    again = MHD_get_timeout(io->daemon, &wait_ms) == MHD_YES && wait_ms == 0;
    if (again && saed_now_ns() > io->looked_ns + LOOK_EVERY_NS)
        saed_http_nudge(io);
    return again || io->judge_in ? SAED_LOOP_AGAIN : SAED_LOOP_IDLE;
}

static struct MHD_Daemon *start_mhd(struct saed_http_io *io)
{
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    size_t limit = io->h->cfg.max_connections + 1024; /* our own count is the limit */

    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_call, io, MHD_OPTION_EXTERNAL_LOGGER, on_log, io,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(limit > UINT32_MAX / 2 ? UINT32_MAX / 2 : limit),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SAED_MHD_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
        0u, (enum MHD_OPTION)saed_mhd_strict_option(), (int)(io->h->heads == SAED_HEADS_BY_LIBRARY),
        MHD_OPTION_URI_LOG_CALLBACK, saed_http_on_line, io, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, io, MHD_OPTION_NOTIFY_CONNECTION, on_connection, io, MHD_OPTION_END);
}

static enum sae_status start_io(struct saed_http *h, size_t i, struct sae_err *err)
{
    struct saed_http_io *io = &h->ios[i];
    const union MHD_DaemonInfo *info;
    char name[16];

    io->h = h;
    io->look.run = saed_http_on_look_note;
    io->slow.run = saed_http_on_slow_note;
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
                                 struct saed_address *addresses, size_t n, struct sae_err *err)
{
    size_t max_lingering = cfg->n_threads * LINGERING;
    struct saed_http *h = sae_calloc(1, sizeof *h);
    enum sae_status st = SAE_OK;

    if (!h)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the HTTP server");
    h->cfg = *cfg;
    st = saed_mhd_choose(&h->heads, err);
    if (st != SAE_OK)
        goto out;
    make_id_prefix(h);
    snprintf(h->keep_alive, sizeof h->keep_alive, "timeout=%llu",
             (unsigned long long)(cfg->keepalive_timeout_ns / SAED_SECOND_NS));
    h->cfg.max_connections = raise_descriptor_limit(cfg, &max_lingering);
    struct saed_conns_config cc = {
        .max_connections = h->cfg.max_connections,
        .max_lingering = max_lingering,
        .times = {cfg->keepalive_timeout_ns, cfg->min_upload_rate},
        .arg = h,
        .add = on_accepted,
        .gone = saed_http_on_gone,
        .told = saed_http_on_told,
        .stalled = saed_http_on_stalled,
        .slow = saed_http_on_slow,
        .dropped = saed_http_on_dropped,
    };
    st = saed_conns_create(&h->conns, &cc, addresses, n, err);
    if (st != SAE_OK)
        goto out;
    h->no_memory = saed_http_make_no_memory();
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

size_t saed_http_lingering(struct saed_http *h)
{
    return saed_conns_lingering(h->conns);
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
