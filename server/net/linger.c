/* linger.c - see linger.h. */
#include "server/net/linger.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN_SOCKETS 16
#define TURN_BYTES (256u << 10) /* of a socket: the thread has others to look after */

struct slot {
    int fd; /* -1: free */
    struct saed_pace pace;
};

struct saed_linger {
    size_t max;
    uint64_t min_rate;
    int epoll_fd;
    pthread_mutex_t lock; /* guards the slots, and the sink */
    struct slot *slots;   /* [max] */
    _Atomic size_t n;
    char sink[TURN_BYTES]; /* a unix socket copies what is dropped */
};

bool saed_linger_is_over(const struct saed_pace *p, uint64_t min_rate, uint64_t now)
{
    return p->total >= SAED_LINGER_BYTES || now > p->begin_ns + SAED_LINGER_NS ||
           (now > p->begin_ns + SAED_PACE_SECONDS * SAED_SECOND_NS &&
            saed_pace_rate(p, now) < min_rate);
}

/* ---- slots: the lock held ------------------------------------------------------------------ */

static void end(struct saed_linger *l, struct slot *s)
{
    close(s->fd);
    s->fd = -1;
    atomic_fetch_sub(&l->n, 1);
}

/* A free one, or the oldest one's. */
static struct slot *make_room(struct saed_linger *l)
{
    struct slot *oldest = &l->slots[0];

    for (size_t i = 0; i < l->max; i++) {
        if (l->slots[i].fd < 0)
            return &l->slots[i];
        if (l->slots[i].pace.begin_ns < oldest->pace.begin_ns)
            oldest = &l->slots[i];
    }
    end(l, oldest);
    return oldest;
}

/* With MSG_TRUNC the kernel drops what TCP has brought without copying. */
static void drop(struct saed_linger *l, struct slot *s, uint64_t now)
{
    ssize_t n = recv(s->fd, l->sink, sizeof l->sink, MSG_DONTWAIT | MSG_TRUNC);

    if (n > 0)
        saed_pace_note(&s->pace, s->pace.total + (uint64_t)n, now);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
        s->pace.total >= SAED_LINGER_BYTES)
        end(l, s);
}

/* ---- the calls ----------------------------------------------------------------------------- */

void saed_linger_add(struct saed_linger *l, int fd, uint64_t now)
{
    struct epoll_event ready = {.events = EPOLLIN | EPOLLRDHUP};
    struct slot *s;

    (void)shutdown(fd, SHUT_WR);
    pthread_mutex_lock(&l->lock);
    s = make_room(l);
    s->fd = fd;
    saed_pace_begin(&s->pace, 0, now);
    atomic_fetch_add(&l->n, 1);
    ready.data.u64 = (uint64_t)(s - l->slots);
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ready) != 0)
        end(l, s);
    pthread_mutex_unlock(&l->lock);
}

int saed_linger_set(const struct saed_linger *l)
{
    return l->epoll_fd;
}

/* An event may be one of its slot's last use: then there is nothing to read, or it is read. */
void saed_linger_turn(struct saed_linger *l, uint64_t now)
{
    struct epoll_event events[TURN_SOCKETS];
    int n = epoll_wait(l->epoll_fd, events, TURN_SOCKETS, 0);

    for (int i = 0; i < n; i++) {
        struct slot *s = &l->slots[events[i].data.u64];

        pthread_mutex_lock(&l->lock);
        if (s->fd >= 0)
            drop(l, s, now);
        pthread_mutex_unlock(&l->lock);
    }
}

void saed_linger_sweep(struct saed_linger *l, uint64_t now)
{
    if (saed_linger_count(l) == 0)
        return;
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->max; i++) {
        struct slot *s = &l->slots[i];

        if (s->fd < 0)
            continue;
        saed_pace_note(&s->pace, s->pace.total, now);
        if (saed_linger_is_over(&s->pace, l->min_rate, now))
            end(l, s);
    }
    pthread_mutex_unlock(&l->lock);
}

size_t saed_linger_count(const struct saed_linger *l)
{
    return atomic_load(&l->n);
}

/* ---- making and ending --------------------------------------------------------------------- */

enum sae_status saed_linger_create(struct saed_linger **out, size_t max, uint64_t min_rate,
                                   struct sae_err *err)
{
    struct saed_linger *l = sae_calloc(1, sizeof *l);
    enum sae_status st = SAE_OK;

    if (!l)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate what lingers");
    l->min_rate = min_rate;
    pthread_mutex_init(&l->lock, NULL);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->slots = sae_calloc(max, sizeof *l->slots);
    if (!l->slots || l->epoll_fd < 0) {
        st = sae_err_set(err, SAE_E_IO, "", "cannot keep what lingers: %s", strerror(errno));
        goto out;
    }
    l->max = max;
    for (size_t i = 0; i < max; i++)
        l->slots[i].fd = -1;
    *out = l;
    l = NULL; /* handed over */
out:
    saed_linger_free(l);
    return st;
}

void saed_linger_free(struct saed_linger *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->max; i++)
        if (l->slots[i].fd >= 0)
            close(l->slots[i].fd);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    pthread_mutex_destroy(&l->lock);
    sae_free(l->slots);
    sae_free(l);
}
