/* door.c - see door.h. */
#include "server/net/door.h"

#include "server/clock.h"
#include "server/net/conn.h"
#include "server/net/conns.h"
#include "server/net/listen.h"
#include "server/report/log.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ACCEPT_BURST 16
#define RETRY_NS (SAED_SECOND_NS / 5)
#define SAY_EVERY_NS (10 * SAED_SECOND_NS)

struct saed_door {
    struct saed_door_config cfg;
    struct saed_room room;

    pthread_mutex_t lock;            /* guards all below */
    struct saed_listeners listeners; /* but for saed_listeners_by_loopback */
    bool is_closed;
    uint64_t retry_ns;    /* after an error that may last: do not accept before */
    uint64_t said_ns;     /* when an error was logged last; 0: never */
    _Atomic bool is_shut; /* the listeners are out of the epoll set; written under the lock */
    /* Files of no use, but that they can be closed: a limit of the process and one of the system
     * count them. */
    int reserve[SAED_ROOM_BEYOND];
    size_t n_reserve;
};

/* ---- descriptors --------------------------------------------------------------------------- */

/* True: all of it is there. */
static bool fill_reserve(struct saed_door *d)
{
    while (d->n_reserve < SAE_COUNTOF(d->reserve)) {
        int fd = eventfd(0, EFD_CLOEXEC);

        if (fd < 0)
            return false;
        d->reserve[d->n_reserve++] = fd;
    }
    return true;
}

static bool is_short_of_descriptors(int error)
{
    return error == EMFILE || error == ENFILE;
}

/* Errors that last would fill the log. */
static void say(struct saed_door *d, int error)
{
    uint64_t now = saed_now_ns();

    if (d->said_ns && now < d->said_ns + SAY_EVERY_NS)
        return;
    d->said_ns = now;
    saed_log(SAED_WARN, "accept_failed", saed_str("reason", strerror(error)),
             saed_uint("connections", saed_room_count(&d->room)));
}

/* ---- accepting ----------------------------------------------------------------------------- */

static void shut(struct saed_door *d, bool is_shut)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = d->cfg.tag};

    if (d->is_closed || atomic_load(&d->is_shut) == is_shut)
        return;
    atomic_store(&d->is_shut, is_shut);
    for (size_t i = 0; i < d->listeners.n; i++)
        epoll_ctl(d->cfg.epoll_fd, is_shut ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, d->listeners.all[i].fd,
                  &e);
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

/* A peer and its address. */
struct newcomer {
    struct sockaddr_storage addr;
    socklen_t len;
};

static int accept_one(int listen_fd, struct newcomer *n)
{
    n->len = sizeof n->addr;
    return accept4(listen_fd, (struct sockaddr *)&n->addr, &n->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Without descriptors the house is as full as it will get; what is kept lets some in beyond that.
 */
static int accept_from_reserve(struct saed_door *d, int listen_fd, struct newcomer *n, int error)
{
    say(d, error);
    saed_room_shrink(&d->room);
    errno = error;
    if (!saed_room_has(&d->room) || d->n_reserve == 0)
        return -1;
    close(d->reserve[--d->n_reserve]);
    return accept_one(listen_fd, n);
}

static void let_in(struct saed_door *d, int fd, const struct newcomer *n)
{
    if (saed_room_is_full(&d->room))
        (void)d->cfg.make_way(d->cfg.arg); /* nobody leaves: this one will be beyond */
    saed_room_accepted(&d->room);
    d->cfg.add(d->cfg.arg, fd, (const struct sockaddr *)&n->addr, n->len);
}

/* Accept a burst of one listener, the lock held. False when nothing more can be accepted now. */
static bool accept_some(struct saed_door *d, int listen_fd)
{
    for (size_t i = 0; i < ACCEPT_BURST && saed_room_has(&d->room); i++) {
        struct newcomer n;
        int fd = accept_one(listen_fd, &n);

        if (fd < 0 && is_short_of_descriptors(errno))
            fd = accept_from_reserve(d, listen_fd, &n, errno);
        if (fd >= 0) {
            let_in(d, fd, &n);
            continue;
        }
        if (errno == EAGAIN)
            return false;
        if (!is_of_one(errno)) { /* it may last: no descriptors, no memory, no listener any more */
            say(d, errno);
            d->retry_ns = saed_now_ns() + RETRY_NS;
            shut(d, true);
            return false;
        }
    }
    return saed_room_has(&d->room);
}

void saed_door_ready(struct saed_door *d)
{
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->listeners.n; i++)
        (void)accept_some(d, d->listeners.all[i].fd);
    if (!saed_room_has(&d->room))
        shut(d, true);
    pthread_mutex_unlock(&d->lock);
}

void saed_door_tick(struct saed_door *d, uint64_t now, bool is_sweep)
{
    if (!is_sweep && !atomic_load(&d->is_shut))
        return;
    pthread_mutex_lock(&d->lock);
    if (is_sweep)
        saed_room_write_off(&d->room);
    if (is_sweep && fill_reserve(d))
        saed_room_grow(&d->room);
    if (saed_room_has(&d->room) && now >= d->retry_ns)
        shut(d, false);
    pthread_mutex_unlock(&d->lock);
}

void saed_door_close(struct saed_door *d)
{
    pthread_mutex_lock(&d->lock);
    /* Those who are connected already would get a reset. */
    for (size_t i = 0; !d->is_closed && i < d->listeners.n; i++)
        while (accept_some(d, d->listeners.all[i].fd))
            ;
    shut(d, true);
    atomic_store(&d->is_shut, false); /* it will not be opened again */
    saed_listeners_close(&d->listeners);
    d->is_closed = true;
    pthread_mutex_unlock(&d->lock);
}

bool saed_door_is_crowded(struct saed_door *d)
{
    bool is_crowded = false;

    if (!atomic_load(&d->is_shut))
        return false;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->listeners.n && !saed_room_has(&d->room); i++) {
        struct pollfd p = {.fd = d->listeners.all[i].fd, .events = POLLIN};

        is_crowded |= poll(&p, 1, 0) > 0;
    }
    pthread_mutex_unlock(&d->lock);
    return is_crowded;
}

bool saed_door_is_of_loopback(const struct saed_door *d, int fd)
{
    return saed_listeners_by_loopback(&d->listeners, fd);
}

bool saed_door_is_shut(const struct saed_door *d)
{
    return atomic_load(&d->is_shut);
}

struct saed_room *saed_door_room(struct saed_door *d)
{
    return &d->room;
}

/* ---- making and ending --------------------------------------------------------------------- */

static enum sae_status watch(struct saed_door *d, struct sae_err *err)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = d->cfg.tag};

    for (size_t i = 0; i < d->listeners.n; i++)
        if (epoll_ctl(d->cfg.epoll_fd, EPOLL_CTL_ADD, d->listeners.all[i].fd, &e) != 0)
            return sae_err_set(err, SAE_E_IO, "", "cannot wait for connections: %s",
                               strerror(errno));
    return SAE_OK;
}

enum sae_status saed_door_create(struct saed_door **out, const struct saed_door_config *cfg,
                                 struct saed_address *addresses, size_t n, struct sae_err *err)
{
    struct saed_door *d = sae_calloc(1, sizeof *d);
    enum sae_status st = SAE_OK;

    if (!d)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the listeners: %zu bytes",
                           sizeof *d);
    d->cfg = *cfg;
    saed_room_init(&d->room, cfg->max_connections);
    pthread_mutex_init(&d->lock, NULL);
    (void)fill_reserve(d); /* without it there is a tick's chance */
    for (size_t i = 0; st == SAE_OK && i < n; i++)
        st = saed_listen(&d->listeners, &addresses[i], err);
    if (st == SAE_OK)
        st = watch(d, err);
    if (st != SAE_OK) {
        saed_door_free(d);
        return st;
    }
    *out = d;
    return SAE_OK;
}

void saed_door_free(struct saed_door *d)
{
    if (!d)
        return;
    saed_listeners_free(&d->listeners);
    while (d->n_reserve > 0)
        close(d->reserve[--d->n_reserve]);
    pthread_mutex_destroy(&d->lock);
    saed_room_fini(&d->room);
    sae_free(d);
}
