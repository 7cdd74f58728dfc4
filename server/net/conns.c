/* conns.c - see conns.h.
 *
 * What has arrived on a connection is read from TCP_INFO (tcpi_bytes_received, Linux 4.1), since
 * MHD takes bytes out of the socket at once and does not say so before a request line is whole. */
#include "server/net/conns.h"

#include "server/clock.h"
#include "server/net/door.h"
#include "server/net/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SWEEP_MS 250
#define CROWD_MS 25 /* how soon it is seen that somebody waits outside a full house */
#define MAKE_WAY_TRIES 8
#define TAG_LISTEN UINT64_MAX
#define TAG_WAKE (UINT64_MAX - 1)
#define TAG_LINGER (UINT64_MAX - 2)

struct saed_conns {
    struct saed_conns_config cfg;
    struct saed_conn *slots;
    size_t n_slots;
    struct saed_door *door;
    struct saed_linger *linger;
    int epoll_fd, wake_fd;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* guards free_list, and n_used's growing */
    struct saed_conn *free_list;
    _Atomic size_t n_used; /* slots that were ever in use: the sweep's end */
    _Atomic bool stop;
};

bool saed_tcp_counts(int fd, struct saed_counts *out)
{
    struct tcp_info info;
    socklen_t n = sizeof info;
    int unread = 0;

    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0 || ioctl(fd, FIONREAD, &unread) != 0)
        return false;
    *out = (struct saed_counts){
        .received = info.tcpi_bytes_received,
        .unread = (uint64_t)unread,
        .acked = info.tcpi_bytes_acked,
    };
    return true;
}

/* ---- the table ----------------------------------------------------------------------------- */

/* The socket stays in the set for its whole life: what tells the end of file once is an edge, so a
 * connection costs no call a request. The set forgets a socket that MHD closes. */
static void listen_for_end(struct saed_conns *c, const struct saed_conn *n)
{
    struct epoll_event e = {.events = EPOLLRDHUP | EPOLLET};

    e.data.u64 = (uint64_t)n->generation << 32 | n->index;
    (void)epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, n->fd, &e); /* out of memory: nobody is told */
}

struct saed_conn *saed_conns_open(struct saed_conns *c, int fd, void *owner)
{
    struct saed_conn *n;

    pthread_mutex_lock(&c->lock);
    n = c->free_list;
    if (n)
        c->free_list = n->next_free;
    else if (c->n_used < c->n_slots)
        n = &c->slots[c->n_used++];
    pthread_mutex_unlock(&c->lock);
    if (!n) {
        shutdown(fd, SHUT_RDWR);
        return NULL;
    }
    n->is_of_loopback = saed_door_is_of_loopback(c->door, fd);
    saed_conn_open(n, fd, owner, saed_room_opened(saed_door_room(c->door)), saed_now_ns());
    listen_for_end(c, n);
    return n;
}

/* The set would tell of the socket as long as any descriptor of it is open. */
void saed_conns_linger(struct saed_conns *c, int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (own < 0)
        return;
    (void)epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    saed_linger_add(c->linger, own, saed_now_ns());
}

/* What MHD refuses by itself it leaves unread, too. */
static bool is_unread(int fd)
{
    int unread = 0;

    return ioctl(fd, FIONREAD, &unread) == 0 && unread > 0;
}

void saed_conns_close(struct saed_conns *c, struct saed_conn *n)
{
    enum saed_place place;

    if (!n)
        return;
    if (n->lingers || is_unread(n->fd))
        saed_conns_linger(c, n->fd);
    saed_conn_move(n, SAED_CONN_FREE); /* nobody moves it to another place from here on */
    place = n->place;
    pthread_mutex_lock(&c->lock);
    n->next_free = c->free_list;
    c->free_list = n;
    pthread_mutex_unlock(&c->lock);
    saed_room_closed(saed_door_room(c->door), place);
    if (saed_door_is_shut(c->door))
        (void)!write(c->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* The end of file of a connection. The event may be stale: the slot's state decides. */
static void client_gone(struct saed_conns *c, uint64_t tag)
{
    struct saed_conn *n = &c->slots[tag & UINT32_MAX];
    void *exchange = saed_conn_ended(n, (uint32_t)(tag >> 32));

    if (!exchange)
        return;
    c->cfg.gone(c->cfg.arg, exchange);
    if (saed_conn_told(n))
        c->cfg.told(c->cfg.arg, exchange);
}

static void each_in(struct saed_conns *c, enum saed_conn_state state, const void *owner,
                    bool slow_only, void (*visit)(void *exchange))
{
    for (size_t i = 0; i < atomic_load(&c->n_used); i++) {
        struct saed_conn *n = &c->slots[i];
        void *exchange = NULL;

        pthread_mutex_lock(&n->lock);
        if (n->state == state && n->owner == owner && (n->is_slow || !slow_only))
            exchange = n->exchange; /* it cannot go: that is its thread's, which is here */
        pthread_mutex_unlock(&n->lock);
        if (exchange)
            visit(exchange);
    }
}

void saed_conns_each_reading(struct saed_conns *c, const void *owner, void (*visit)(void *exchange))
{
    each_in(c, SAED_CONN_BODY, owner, false, visit);
}

void saed_conns_each_slow(struct saed_conns *c, const void *owner, void (*visit)(void *exchange))
{
    each_in(c, SAED_CONN_BODY, owner, true, visit);
}

void saed_conns_each_in_head(struct saed_conns *c, const void *owner, void (*visit)(void *exchange))
{
    each_in(c, SAED_CONN_HEAD, owner, false, visit);
}

/* ---- the sweep ----------------------------------------------------------------------------- */

static bool sweep_one(struct saed_conns *c, struct saed_conn *n, uint64_t now)
{
    switch (saed_conn_sweep(n, now, &c->cfg.times, saed_tcp_counts)) {
    case SAED_CONN_WELL:
        break;
    case SAED_CONN_STALLED:
        c->cfg.stalled(c->cfg.arg);
        break;
    case SAED_CONN_SLOW:
        c->cfg.slow(c->cfg.arg, n->owner);
        break;
    case SAED_CONN_DROP:
        c->cfg.dropped(c->cfg.arg, n->exchange);
        shutdown(n->fd, SHUT_RDWR);
        break;
    case SAED_CONN_END_READING:
        shutdown(n->fd, SHUT_RD);
        break;
    case SAED_CONN_CUT:
        shutdown(n->fd, SHUT_RDWR);
        break;
    }
    return true;
}

/* Call `visit` on every open connection, its lock held; how often it said true. */
static size_t for_each(struct saed_conns *c,
                       bool (*visit)(struct saed_conns *c, struct saed_conn *n, uint64_t now))
{
    uint64_t now = saed_now_ns();
    size_t sum = 0;

    for (size_t i = 0; i < atomic_load(&c->n_used); i++) {
        struct saed_conn *n = &c->slots[i];

        pthread_mutex_lock(&n->lock);
        sum += n->state != SAED_CONN_FREE && visit(c, n, now);
        pthread_mutex_unlock(&n->lock);
    }
    return sum;
}

/* A request that arrives at this moment is still answered. */
static bool visit_close_idle(struct saed_conns *c, struct saed_conn *n, uint64_t now)
{
    (void)c, (void)now;
    return saed_conn_retire(n, saed_tcp_counts) && shutdown(n->fd, SHUT_RD) == 0;
}

static bool visit_busy(struct saed_conns *c, struct saed_conn *n, uint64_t now)
{
    (void)c, (void)now;
    return saed_conn_begun(n, saed_tcp_counts);
}

static bool visit_answering(struct saed_conns *c, struct saed_conn *n, uint64_t now)
{
    (void)c, (void)now;
    return n->state != SAED_CONN_IDLE && n->state != SAED_CONN_HEAD;
}

void saed_conns_close_idle(struct saed_conns *c)
{
    (void)for_each(c, visit_close_idle);
}

size_t saed_conns_busy(struct saed_conns *c)
{
    return for_each(c, visit_busy);
}

size_t saed_conns_answering(struct saed_conns *c)
{
    return for_each(c, visit_answering);
}

size_t saed_conns_count(const struct saed_conns *c)
{
    return saed_room_count(saed_door_room(c->door));
}

size_t saed_conns_lingering(const struct saed_conns *c)
{
    return saed_linger_count(c->linger);
}

/* ---- a full house -------------------------------------------------------------------------- */

bool saed_conns_admit(struct saed_conns *c, struct saed_conn *n)
{
    bool is_in;

    pthread_mutex_lock(&n->lock);
    if (n->place == SAED_PLACE_BEYOND && saed_room_admit(saed_door_room(c->door)))
        n->place = SAED_PLACE_IN;
    is_in = n->place != SAED_PLACE_BEYOND;
    pthread_mutex_unlock(&n->lock);
    return is_in;
}

size_t saed_conns_limit(const struct saed_conns *c)
{
    return saed_room_limit(saed_door_room(c->door));
}

/* Of whom this is true since the earliest time. NULL: of nobody (UINT64_MAX). */
static struct saed_conn *longest(struct saed_conns *c,
                                 uint64_t (*since)(const struct saed_conn *n, uint64_t now),
                                 uint64_t now)
{
    struct saed_conn *found = NULL;
    uint64_t first = UINT64_MAX;

    for (size_t i = 0; i < atomic_load(&c->n_used); i++) {
        struct saed_conn *n = &c->slots[i];

        pthread_mutex_lock(&n->lock);
        if (since(n, now) < first) {
            first = since(n, now);
            found = n;
        }
        pthread_mutex_unlock(&n->lock);
    }
    return found;
}

static uint64_t idle_since(const struct saed_conn *n, uint64_t now)
{
    (void)now;
    return n->place == SAED_PLACE_IN ? saed_conn_kept_since(n) : UINT64_MAX;
}

/* False: it is not idle any more, or too many are leaving. */
static bool leave(struct saed_conns *c, struct saed_conn *n)
{
    bool leaves;

    pthread_mutex_lock(&n->lock);
    leaves = n->place == SAED_PLACE_IN && saed_conn_is_kept(n, saed_now_ns(), saed_tcp_counts) &&
             saed_room_leave(saed_door_room(c->door));
    if (leaves) {
        n->place = SAED_PLACE_LEAVING;
        n->no_more = true;
        shutdown(n->fd, SHUT_RD);
    }
    pthread_mutex_unlock(&n->lock);
    return leaves;
}

/* A client that has sent a request by now is still answered. */
static bool make_way(void *arg)
{
    struct saed_conns *c = arg;
    struct saed_conn *n;

    for (int i = 0; i < MAKE_WAY_TRIES; i++) {
        n = longest(c, idle_since, 0);
        if (!n)
            return false;
        if (leave(c, n))
            return true;
    }
    return false;
}

static uint64_t beyond_since(const struct saed_conn *n, uint64_t now)
{
    return saed_conn_beyond_since(n, now, saed_tcp_counts);
}

/* Its place is free when MHD has closed it, which is told by the wake descriptor. */
static void cut_one_beyond(struct saed_conns *c, uint64_t now)
{
    struct saed_conn *n = longest(c, beyond_since, now);

    if (!n)
        return;
    pthread_mutex_lock(&n->lock);
    if (beyond_since(n, now) != UINT64_MAX) { /* nothing has come of it meanwhile */
        n->no_more = true;
        shutdown(n->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&n->lock);
}

void saed_conns_close_listener(struct saed_conns *c)
{
    saed_door_close(c->door);
}

/* ---- its thread ---------------------------------------------------------------------------- */

/* Until the next sweep, or the next look at who waits outside. */
static int wait_ms(const struct saed_conns *c, uint64_t next_sweep, uint64_t next_look)
{
    uint64_t now = saed_now_ns(), next = next_sweep;

    if (saed_door_is_shut(c->door) && next_look < next)
        next = next_look;
    return next > now ? (int)((next - now) / 1000000) + 1 : 0;
}

static void *run(void *arg)
{
    struct saed_conns *c = arg;
    uint64_t next_sweep = saed_now_ns(), next_look = next_sweep;
    bool is_sweep;

    while (!atomic_load(&c->stop)) {
        struct epoll_event events[64];
        int n =
            epoll_wait(c->epoll_fd, events, SAE_COUNTOF(events), wait_ms(c, next_sweep, next_look));
        uint64_t now = saed_now_ns(), count;

        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == TAG_LISTEN)
                saed_door_ready(c->door);
            else if (events[i].data.u64 == TAG_WAKE)
                (void)!read(c->wake_fd, &count, sizeof count);
            else if (events[i].data.u64 == TAG_LINGER)
                saed_linger_turn(c->linger, now);
            else
                client_gone(c, events[i].data.u64);
        }
        now = saed_now_ns();
        is_sweep = now >= next_sweep;
        if (is_sweep) {
            (void)for_each(c, sweep_one);
            saed_linger_sweep(c->linger, now);
            next_sweep = now + SWEEP_MS * 1000000ull;
        }
        if (now >= next_look) {
            if (saed_door_is_crowded(c->door))
                cut_one_beyond(c, now);
            next_look = now + CROWD_MS * 1000000ull;
        }
        saed_door_tick(c->door, now, is_sweep);
    }
    return NULL;
}

static void on_newcomer(void *arg, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct saed_conns *c = arg;

    c->cfg.add(c->cfg.arg, fd, addr, len);
}

/* ---- making and ending --------------------------------------------------------------------- */

static enum sae_status open_epoll(struct saed_conns *c, struct sae_err *err)
{
    struct epoll_event wake = {.events = EPOLLIN, .data.u64 = TAG_WAKE};
    struct epoll_event linger = {.events = EPOLLIN, .data.u64 = TAG_LINGER};

    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->epoll_fd < 0 || c->wake_fd < 0 ||
        epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->wake_fd, &wake) != 0 ||
        epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, saed_linger_set(c->linger), &linger) != 0)
        return sae_err_set(err, SAE_E_IO, "", "cannot wait for connections: %s", strerror(errno));
    return SAE_OK;
}

enum sae_status saed_conns_create(struct saed_conns **out, const struct saed_conns_config *cfg,
                                  struct saed_address *addresses, size_t n, struct sae_err *err)
{
    struct saed_conns *c = sae_calloc(1, sizeof *c);
    enum sae_status st = SAE_OK;

    if (!c)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the connection table");
    c->cfg = *cfg;
    c->epoll_fd = c->wake_fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    /* Those beyond, those who leave, and some more: an accepted socket may be written off and come.
     */
    c->n_slots = cfg->max_connections + SAED_ROOM_BEYOND + SAED_ROOM_LEAVING + 28;
    c->slots = sae_calloc(c->n_slots, sizeof *c->slots);
    if (!c->slots || c->n_slots > UINT32_MAX) {
        c->n_slots = 0;
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the connection table");
        goto out;
    }
    for (size_t i = 0; i < c->n_slots; i++)
        saed_conn_init(&c->slots[i], (uint32_t)i);
    st = saed_linger_create(&c->linger, cfg->max_lingering, cfg->times.min_upload_rate, err);
    if (st == SAE_OK)
        st = open_epoll(c, err);
    if (st != SAE_OK)
        goto out;
    struct saed_door_config dc = {
        .max_connections = cfg->max_connections,
        .epoll_fd = c->epoll_fd,
        .tag = TAG_LISTEN,
        .arg = c,
        .add = on_newcomer,
        .make_way = make_way,
    };
    st = saed_door_create(&c->door, &dc, addresses, n, err);
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
    saed_linger_free(c->linger);
    saed_door_free(c->door);
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    for (size_t i = 0; i < c->n_slots; i++)
        saed_conn_fini(&c->slots[i]);
    pthread_mutex_destroy(&c->lock);
    sae_free(c->slots);
    sae_free(c);
}
