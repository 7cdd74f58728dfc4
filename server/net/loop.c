/* loop.c - see loop.h. The inbox is a stack without a lock, turned round when it is taken; who
 * posts to an empty one rings the bell, so a batch of answers costs one ring. The bell is an
 * eventfd that is never read: an edge wakes the thread, whatever its count. */
#include "server/net/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct saed_loop {
    enum saed_loop_next (*turn)(void *arg, bool idle);
    void *arg;
    int epoll_fd, bell;
    pthread_t thread;
    bool started;
    _Atomic(struct saed_loop_note *) inbox;
    _Atomic bool stop;
};

static void ring(struct saed_loop *l)
{
    (void)!write(l->bell, &(uint64_t){1}, sizeof(uint64_t));
}

void saed_loop_post(struct saed_loop *l, struct saed_loop_note *note)
{
    struct saed_loop_note *top = atomic_load_explicit(&l->inbox, memory_order_relaxed);

    do
        note->next = top;
    while (!atomic_compare_exchange_weak_explicit(&l->inbox, &top, note, memory_order_release,
                                                  memory_order_relaxed));
    if (!top) /* the note may be gone by now */
        ring(l);
}

/* False: there was none. */
static bool run_notes(struct saed_loop *l)
{
    struct saed_loop_note *n = atomic_exchange_explicit(&l->inbox, NULL, memory_order_acquire);
    struct saed_loop_note *in_order = NULL, *next;
    bool any = n != NULL;

    for (; n; n = next) {
        next = n->next;
        n->next = in_order;
        in_order = n;
    }
    for (n = in_order; n; n = next) {
        next = n->next; /* run may free it */
        n->run(n);
    }
    return any;
}

static void *run(void *arg)
{
    struct saed_loop *l = arg;
    enum saed_loop_next next = SAED_LOOP_AGAIN;
    bool stop;

    do {
        struct epoll_event events[2];
        int n =
            epoll_wait(l->epoll_fd, events, SAE_COUNTOF(events), next == SAED_LOOP_AGAIN ? 0 : -1);

        stop = atomic_load(&l->stop);
        next = l->turn(l->arg, !run_notes(l) && n <= 0);
    } while (!stop || next == SAED_LOOP_BUSY);
    return NULL;
}

static enum sae_status open_fds(struct saed_loop *l, int fd, struct sae_err *err)
{
    struct epoll_event bell = {.events = EPOLLIN | EPOLLET}, ready = {.events = EPOLLIN};

    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll_fd < 0 || l->bell < 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->bell, &bell) != 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ready) != 0)
        return sae_err_set(err, SAE_E_IO, "", "cannot wait for connections: %s", strerror(errno));
    return SAE_OK;
}

enum sae_status saed_loop_create(struct saed_loop **out, int fd,
                                 enum saed_loop_next (*turn)(void *arg, bool idle), void *arg,
                                 const char *name, struct sae_err *err)
{
    struct saed_loop *l = sae_calloc(1, sizeof *l);
    enum sae_status st;
    int rc;

    if (!l)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate a connection thread");
    l->turn = turn;
    l->arg = arg;
    l->epoll_fd = l->bell = -1;
    st = open_fds(l, fd, err);
    if (st != SAE_OK)
        goto out;
    rc = pthread_create(&l->thread, NULL, run, l);
    if (rc != 0) {
        st = sae_err_set(err, SAE_E_IO, "", "cannot start a connection thread: %s", strerror(rc));
        goto out;
    }
    l->started = true;
    pthread_setname_np(l->thread, name);
    *out = l;
    l = NULL; /* handed over */
out:
    saed_loop_free(l);
    return st;
}

void saed_loop_stop(struct saed_loop *l)
{
    if (!l->started)
        return;
    atomic_store(&l->stop, true);
    ring(l);
    pthread_join(l->thread, NULL);
    l->started = false;
}

void saed_loop_free(struct saed_loop *l)
{
    if (!l)
        return;
    saed_loop_stop(l);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    if (l->bell >= 0)
        close(l->bell);
    sae_free(l);
}
