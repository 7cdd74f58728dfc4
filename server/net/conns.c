/* conns.c - see conns.h.
 *
 * What has arrived on a connection is read from TCP_INFO (tcpi_bytes_received, Linux 4.1), since
 * MHD takes bytes out of the socket at once and does not say so before a request line is whole. A
 * kernel without it (all counts 0) leaves the deadlines that count from accept and from the request
 * line.
 *
 * Longer than most: accepting, deadlines and gone clients share one table of connections, one lock
 * and one thread, and what a phase means to each must be read side by side. */
#include "server/net/conns.h"

#include "server/net/listen.h"
#include "server/report/log.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
#define HEAD_NS (10 * SECOND_NS)
#define IDLE_NS (75 * SECOND_NS)
#define STALL_NS (30 * SECOND_NS)
#define SLOW_AFTER_NS (75 * SECOND_NS)
#define SLOW_BYTES_PER_S 4096
#define SWEEP_MS 250
#define ACCEPT_BURST 16
#define RETRY_NS (SECOND_NS / 5)
#define TAG_LISTEN UINT64_MAX
#define TAG_WAKE (UINT64_MAX - 1)

struct saed_conn {
    pthread_mutex_t lock; /* guards the block below */
    bool open, fresh, watched, telling, unwatch_pending;
    bool ended; /* its end of file has been seen while nobody watched */
    int fd;
    uint32_t index, generation;
    void *exchange;
    uint64_t acked, acked_first,
        acked_ns;       /* SEND: progress seen by the sweep; acked_ns 0: none yet */
    uint64_t taken;     /* BODY: what the last sweep found taken */
    bool stall_is_told; /* since when nothing more was */

    uintptr_t base; /* its MHD thread's: where requests are read to; 0: not known yet */
    _Atomic int phase;
    _Atomic uint64_t since_ns;   /* phase entered */
    _Atomic uint64_t first_ns;   /* first byte of a head seen by the sweep; 0: none */
    _Atomic uint64_t consumed;   /* bytes of finished requests */
    _Atomic bool no_more;        /* its reading side was shut down by us */
    struct saed_conn *next_free; /* guarded by the table's lock */
};

struct saed_conns {
    struct saed_conns_config cfg;
    struct saed_conn *slots;
    size_t n_slots;
    int epoll_fd, wake_fd;
    pthread_t thread;
    bool started;
    int sweep_ms;

    pthread_mutex_t accept_lock; /* guards listen_fd */
    int listen_fd;
    uint64_t retry_ns;   /* after an error that may last: do not accept before */
    _Atomic bool paused; /* the listener is out of the epoll set; written under accept_lock */

    pthread_mutex_t lock; /* guards free_list, n_used */
    struct saed_conn *free_list;
    size_t n_used; /* slots that were ever in use: the sweep's end */

    _Atomic size_t n_open;
    /* Sockets handed over and those that MHD has opened, ever. The difference is on its way, unless
     * MHD failed to open it and closed it without a word: the sweep writes such a rest off. */
    _Atomic size_t n_added, n_opened;
    size_t rest_seen, added_seen; /* the sweep's */
    _Atomic bool stop;
};

uint64_t saed_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static bool tcp_counts(int fd, uint64_t *received, uint64_t *acked)
{
    struct tcp_info info;
    socklen_t n = sizeof info;

    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0)
        return false;
    *received = info.tcpi_bytes_received;
    *acked = info.tcpi_bytes_acked;
    return true;
}

/* ---- one connection ------------------------------------------------------------------------ */

/* The lock held. The socket stays in the set for its whole life: what tells the end of file once is
 * an edge, so a connection costs no call a request. The set forgets a socket that MHD closes. */
static void listen_for_end(struct saed_conns *c, struct saed_conn *n, int op)
{
    struct epoll_event e = {.events = EPOLLRDHUP | EPOLLET};

    e.data.u64 = (uint64_t)n->generation << 32 | n->index;
    (void)epoll_ctl(c->epoll_fd, op, n->fd, &e); /* out of memory: it is answered for nobody */
}

struct saed_conn *saed_conn_open(struct saed_conns *c, int fd)
{
    struct saed_conn *n;

    pthread_mutex_lock(&c->lock);
    n = c->free_list;
    if (n)
        c->free_list = n->next_free;
    else if (c->n_used < c->n_slots)
        n = &c->slots[c->n_used++];
    pthread_mutex_unlock(&c->lock);
    atomic_fetch_add(&c->n_open, 1);
    atomic_fetch_add(&c->n_opened, 1);
    if (!n) {
        shutdown(fd, SHUT_RDWR);
        return NULL;
    }
    pthread_mutex_lock(&n->lock);
    n->open = n->fresh = true;
    n->watched = n->telling = n->unwatch_pending = n->ended = false;
    n->fd = fd;
    n->generation++;
    n->acked_ns = 0;
    n->taken = 0;
    n->stall_is_told = false;
    n->base = 0;
    atomic_store(&n->phase, SAED_PHASE_IDLE);
    atomic_store(&n->since_ns, saed_now_ns());
    atomic_store(&n->first_ns, 0);
    atomic_store(&n->consumed, 0);
    atomic_store(&n->no_more, false);
    listen_for_end(c, n, EPOLL_CTL_ADD);
    pthread_mutex_unlock(&n->lock);
    return n;
}

void saed_conn_close(struct saed_conns *c, struct saed_conn *n)
{
    if (n) {
        pthread_mutex_lock(&n->lock);
        n->open = false;
        pthread_mutex_unlock(&n->lock);
        pthread_mutex_lock(&c->lock);
        n->next_free = c->free_list;
        c->free_list = n;
        pthread_mutex_unlock(&c->lock);
    }
    atomic_fetch_sub(&c->n_open, 1);
    /* A full house has taken the listener out of the set: say that there is room. */
    if (atomic_load(&c->paused))
        (void)!write(c->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
}

uint64_t saed_conn_begin(struct saed_conn *n)
{
    uint64_t now = saed_now_ns(), first = atomic_load(&n->first_ns);

    /* since_ns stays: a fresh connection's head counts from accept. */
    if (first == 0) {
        first = now;
        atomic_store(&n->first_ns, now);
    }
    atomic_store(&n->phase, SAED_PHASE_HEAD);
    return first;
}

size_t saed_conn_leading(struct saed_conn *n, const char *line)
{
    uintptr_t at = (uintptr_t)line;

    if (n->base == 0 || at < n->base)
        n->base = at;
    return at - n->base;
}

void saed_conn_phase(struct saed_conn *n, enum saed_phase phase)
{
    atomic_store(&n->since_ns, saed_now_ns());
    atomic_store(&n->phase, phase);
}

void saed_conn_finish(struct saed_conn *n, uint64_t bytes)
{
    uint64_t received, acked;

    pthread_mutex_lock(&n->lock);
    n->fresh = false;
    n->acked_ns = 0;
    pthread_mutex_unlock(&n->lock);
    if (bytes != UINT64_MAX)
        atomic_fetch_add(&n->consumed, bytes);
    else if (tcp_counts(n->fd, &received, &acked))
        atomic_store(&n->consumed, received);
    atomic_store(&n->first_ns, 0);
    saed_conn_phase(n, SAED_PHASE_IDLE);
}

bool saed_conn_has(struct saed_conn *n, uint64_t bytes)
{
    uint64_t received, acked;

    return bytes != UINT64_MAX && tcp_counts(n->fd, &received, &acked) &&
           received >= atomic_load(&n->consumed) + bytes;
}

void saed_conn_watch(struct saed_conns *c, struct saed_conn *n, void *exchange)
{
    if (atomic_load(&n->no_more)) /* we shut it ourselves: end of file says nothing */
        return;
    pthread_mutex_lock(&n->lock);
    n->exchange = exchange;
    n->watched = true;
    if (n->ended) /* tell it again */
        listen_for_end(c, n, EPOLL_CTL_MOD);
    pthread_mutex_unlock(&n->lock);
}

bool saed_conn_unwatch(struct saed_conns *c, struct saed_conn *n)
{
    bool free_to_go = true;

    (void)c;
    pthread_mutex_lock(&n->lock);
    if (n->telling) {
        n->unwatch_pending = true;
        free_to_go = false;
    }
    n->watched = false;
    pthread_mutex_unlock(&n->lock);
    return free_to_go;
}

/* The end of file of a connection. The event may be stale: the slot's state decides. */
static void client_gone(struct saed_conns *c, uint64_t tag)
{
    struct saed_conn *n = &c->slots[tag & UINT32_MAX];
    void *exchange;
    bool tell;

    pthread_mutex_lock(&n->lock);
    tell = n->open && n->generation == (uint32_t)(tag >> 32);
    n->ended |= tell;
    tell = tell && n->watched;
    exchange = n->exchange;
    if (tell) {
        n->watched = false;
        n->telling = true;
    }
    pthread_mutex_unlock(&n->lock);
    if (!tell)
        return;
    c->cfg.gone(c->cfg.arg, exchange);
    pthread_mutex_lock(&n->lock);
    n->telling = false;
    tell = n->unwatch_pending;
    n->unwatch_pending = false;
    pthread_mutex_unlock(&n->lock);
    if (tell)
        c->cfg.unwatched(c->cfg.arg, exchange);
}

/* ---- the sweep ----------------------------------------------------------------------------- */

static bool head_has_begun(struct saed_conn *n)
{
    uint64_t received, acked;

    if (atomic_load(&n->phase) != SAED_PHASE_IDLE || atomic_load(&n->first_ns))
        return true;
    return tcp_counts(n->fd, &received, &acked) && received > atomic_load(&n->consumed);
}

/* Ending the reading side only lets a request that arrives at this moment still be answered. */
static void end_reading(struct saed_conn *n)
{
    atomic_store(&n->no_more, true);
    shutdown(n->fd, SHUT_RD);
}

static void sweep_idle(struct saed_conn *n, uint64_t now)
{
    uint64_t since = atomic_load(&n->since_ns), first = atomic_load(&n->first_ns);

    if (first == 0 && head_has_begun(n)) {
        /* Lost against a request line that has just been read: begin has put a better time. */
        if (atomic_load(&n->phase) == SAED_PHASE_IDLE &&
            atomic_compare_exchange_strong(&n->first_ns, &first, now))
            first = now;
    }
    if (n->fresh ? now > since + HEAD_NS : first && now > first + HEAD_NS)
        shutdown(n->fd, SHUT_RDWR);
    else if (!n->fresh && !first && now > since + IDLE_NS)
        end_reading(n);
}

static void sweep_send(struct saed_conn *n, uint64_t now)
{
    uint64_t since = atomic_load(&n->since_ns), received, acked;

    if (now < since + SECOND_NS || !tcp_counts(n->fd, &received, &acked))
        return;
    if (n->acked_ns == 0) {
        n->acked_first = n->acked = acked;
        n->acked_ns = now;
    } else if (acked != n->acked) {
        n->acked = acked;
        n->acked_ns = now;
    }
    if (now > n->acked_ns + STALL_NS ||
        (now > since + SLOW_AFTER_NS &&
         (acked - n->acked_first) / SLOW_BYTES_PER_S < (now - since) / SECOND_NS))
        shutdown(n->fd, SHUT_RDWR);
}

/* MHD takes a read that did not fill its buffer for the last one until an edge comes, and misses an
 * end of file that had arrived by then: the request would hold its memory until its deadline.
 * Shutting what has ended changes nothing but makes another edge. */
static void tell_end_again(struct saed_conn *n, int phase)
{
    if (n->ended && phase != SAED_PHASE_WORK && phase != SAED_PHASE_SEND)
        shutdown(n->fd, SHUT_RD);
}

/* Once for each stall: the first look tells whose fault it is. */
static void sweep_stall(struct saed_conns *c, struct saed_conn *n)
{
    uint64_t received, acked, taken;
    int unread;

    if (!tcp_counts(n->fd, &received, &acked) || ioctl(n->fd, FIONREAD, &unread) != 0)
        return;
    taken = received - (uint64_t)unread;
    if (taken == n->taken && !n->stall_is_told)
        c->cfg.stalled(c->cfg.arg);
    n->stall_is_told = taken == n->taken;
    n->taken = taken;
}

static void sweep_one(struct saed_conns *c, struct saed_conn *n, uint64_t now)
{
    uint64_t since = atomic_load(&n->since_ns), first = atomic_load(&n->first_ns);
    int phase = atomic_load(&n->phase);

    tell_end_again(n, phase);
    switch (phase) {
    case SAED_PHASE_IDLE:
        sweep_idle(n, now);
        break;
    case SAED_PHASE_HEAD:
        if (now > (n->fresh ? since : first) + HEAD_NS)
            shutdown(n->fd, SHUT_RDWR);
        break;
    case SAED_PHASE_BODY:
        sweep_stall(c, n);
        if (now > first + c->cfg.request_timeout_ns)
            shutdown(n->fd, SHUT_RDWR);
        break;
    case SAED_PHASE_SEND:
        sweep_send(n, now);
        break;
    default:
        break;
    }
}

/* Call `visit` on every open connection, its lock held. */
static void for_each(struct saed_conns *c,
                     void (*visit)(struct saed_conns *c, struct saed_conn *n, uint64_t now))
{
    uint64_t now = saed_now_ns();
    size_t n_used;

    pthread_mutex_lock(&c->lock);
    n_used = c->n_used;
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < n_used; i++) {
        struct saed_conn *n = &c->slots[i];

        pthread_mutex_lock(&n->lock);
        if (n->open)
            visit(c, n, now);
        pthread_mutex_unlock(&n->lock);
    }
}

static void visit_close_idle(struct saed_conns *c, struct saed_conn *n, uint64_t now)
{
    (void)c, (void)now;
    if (!head_has_begun(n))
        end_reading(n);
}

void saed_conns_close_idle(struct saed_conns *c)
{
    for_each(c, visit_close_idle);
}

size_t saed_conns_busy(struct saed_conns *c)
{
    size_t busy = 0, n_used;

    pthread_mutex_lock(&c->lock);
    n_used = c->n_used;
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < n_used; i++) {
        pthread_mutex_lock(&c->slots[i].lock);
        busy += c->slots[i].open && head_has_begun(&c->slots[i]);
        pthread_mutex_unlock(&c->slots[i].lock);
    }
    return busy;
}

size_t saed_conns_open(const struct saed_conns *c)
{
    return atomic_load(&c->n_open);
}

/* ---- accepting ----------------------------------------------------------------------------- */

static void pause_listener(struct saed_conns *c, bool pause)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = TAG_LISTEN};

    if (atomic_load(&c->paused) == pause || c->listen_fd < 0)
        return;
    atomic_store(&c->paused, pause);
    epoll_ctl(c->epoll_fd, pause ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, c->listen_fd, &e);
}

static bool is_full(struct saed_conns *c)
{
    return atomic_load(&c->n_open) + (atomic_load(&c->n_added) - atomic_load(&c->n_opened)) >=
           c->cfg.max_connections;
}

/* Faults of the one connection that was next, by accept(2); it has been taken off the queue. */
static bool is_of_one(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM: /* a firewall's word */
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

/* Accept a burst, the accept lock held. False when nothing more can be accepted now. */
static bool accept_some(struct saed_conns *c)
{
    for (size_t i = 0; i < ACCEPT_BURST && !is_full(c); i++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;
        int fd =
            accept4(c->listen_fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            atomic_fetch_add(&c->n_added, 1);
            c->cfg.add(c->cfg.arg, fd, (struct sockaddr *)&addr, len);
            continue;
        }
        if (errno == EAGAIN)
            return false;
        if (!is_of_one(errno)) { /* it may last: no descriptors, no memory, no listener any more */
            saed_log(SAED_WARN, "accept_failed", "reason", "%s", strerror(errno), NULL);
            c->retry_ns = saed_now_ns() + RETRY_NS;
            pause_listener(c, true);
            return false;
        }
    }
    return !is_full(c);
}

static void accept_ready(struct saed_conns *c)
{
    pthread_mutex_lock(&c->accept_lock);
    if (c->listen_fd >= 0) {
        accept_some(c);
        if (is_full(c))
            pause_listener(c, true);
    }
    pthread_mutex_unlock(&c->accept_lock);
}

static void resume_accept(struct saed_conns *c, uint64_t now)
{
    if (!atomic_load(&c->paused))
        return;
    pthread_mutex_lock(&c->accept_lock);
    if (!is_full(c) && now >= c->retry_ns)
        pause_listener(c, false);
    pthread_mutex_unlock(&c->accept_lock);
}

/* A rest that has not moved for a whole sweep, with nothing added since, will never be opened. */
static void write_off_rest(struct saed_conns *c)
{
    size_t added = atomic_load(&c->n_added), rest = added - atomic_load(&c->n_opened);

    if (rest && rest == c->rest_seen && added == c->added_seen)
        atomic_fetch_sub(&c->n_added, rest);
    c->rest_seen = rest;
    c->added_seen = added;
}

void saed_conns_close_listener(struct saed_conns *c)
{
    pthread_mutex_lock(&c->accept_lock);
    if (c->listen_fd >= 0) {
        /* Those who are connected already would get a reset. */
        while (accept_some(c))
            ;
        pause_listener(c, true);
        atomic_store(&c->paused, false);
        close(c->listen_fd);
        c->listen_fd = -1;
    }
    pthread_mutex_unlock(&c->accept_lock);
}

static void *run(void *arg)
{
    struct saed_conns *c = arg;
    uint64_t next_sweep = saed_now_ns();

    while (!atomic_load(&c->stop)) {
        struct epoll_event events[64];
        uint64_t now = saed_now_ns(), count;
        int wait_ms = next_sweep > now ? (int)((next_sweep - now) / 1000000) + 1 : 0;
        int n = epoll_wait(c->epoll_fd, events, SAE_COUNTOF(events), wait_ms);

        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == TAG_LISTEN)
                accept_ready(c);
            else if (events[i].data.u64 == TAG_WAKE)
                (void)!read(c->wake_fd, &count, sizeof count);
            else
                client_gone(c, events[i].data.u64);
        }
        now = saed_now_ns();
        if (now >= next_sweep) {
            for_each(c, sweep_one);
            write_off_rest(c);
            next_sweep = now + (uint64_t)c->sweep_ms * 1000000;
        }
        resume_accept(c, now);
    }
    return NULL;
}

/* ---- making and ending --------------------------------------------------------------------- */

static enum sae_status open_epoll(struct saed_conns *c, struct sae_err *err)
{
    struct epoll_event wake = {.events = EPOLLIN, .data.u64 = TAG_WAKE};
    struct epoll_event ready = {.events = EPOLLIN, .data.u64 = TAG_LISTEN};

    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->epoll_fd < 0 || c->wake_fd < 0 ||
        epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->wake_fd, &wake) != 0 ||
        epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->listen_fd, &ready) != 0)
        return sae_err_set(err, SAE_E_IO, "", "cannot wait for connections: %s", strerror(errno));
    return SAE_OK;
}

enum sae_status saed_conns_create(struct saed_conns **out, const struct saed_conns_config *cfg,
                                  const char *host, uint16_t *port, struct sae_err *err)
{
    struct saed_conns *c = sae_calloc(1, sizeof *c);
    enum sae_status st = SAE_OK;

    if (!c)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the connection table");
    c->cfg = *cfg;
    c->listen_fd = c->epoll_fd = c->wake_fd = -1;
    pthread_mutex_init(&c->accept_lock, NULL);
    pthread_mutex_init(&c->lock, NULL);
    c->n_slots = cfg->max_connections + 64; /* some more: a slot is free a little after its count */
    c->slots = sae_calloc(c->n_slots, sizeof *c->slots);
    if (!c->slots || c->n_slots > UINT32_MAX) {
        c->n_slots = 0;
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the connection table");
        goto out;
    }
    for (size_t i = 0; i < c->n_slots; i++) {
        c->slots[i].index = (uint32_t)i;
        pthread_mutex_init(&c->slots[i].lock, NULL);
    }
    c->sweep_ms = SWEEP_MS;
    if (cfg->request_timeout_ns / 8000000 < SWEEP_MS)
        c->sweep_ms =
            cfg->request_timeout_ns / 8000000 < 10 ? 10 : (int)(cfg->request_timeout_ns / 8000000);
    st = saed_listen(&c->listen_fd, host, port, err);
    if (st == SAE_OK)
        st = open_epoll(c, err);
    if (st != SAE_OK)
        goto out;
    *out = c;
    c = NULL;
out:
    saed_conns_free(c);
    return st;
}

enum sae_status saed_conns_start(struct saed_conns *c, struct sae_err *err)
{
    int rc = pthread_create(&c->thread, NULL, run, c);

    if (rc != 0)
        return sae_err_set(err, SAE_E_IO, "", "cannot start the connection thread: %s",
                           strerror(rc));
    c->started = true;
    return SAE_OK;
}

void saed_conns_stop(struct saed_conns *c)
{
    if (!c || !c->started)
        return;
    atomic_store(&c->stop, true);
    (void)!write(c->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    pthread_join(c->thread, NULL);
    c->started = false;
}

void saed_conns_free(struct saed_conns *c)
{
    if (!c)
        return;
    saed_conns_stop(c);
    if (c->listen_fd >= 0)
        close(c->listen_fd);
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    for (size_t i = 0; i < c->n_slots; i++)
        pthread_mutex_destroy(&c->slots[i].lock);
    pthread_mutex_destroy(&c->accept_lock);
    pthread_mutex_destroy(&c->lock);
    sae_free(c->slots);
    sae_free(c);
}
