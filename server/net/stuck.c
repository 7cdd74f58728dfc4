/* stuck.c - see exchange.h: connections that libmicrohttpd does not look at any more.
 *
 * A chunk-size line or trailers, or what a long head leaves of the connection's memory for them:
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
#include "server/clock.h"
#include "server/net/exchange.h"

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define JUDGE_TURNS 4 /* three to be resumed and read, to be read to the end, and to spare */

/* How MHD itself enters a connection in its set. */
static bool in_epoll_set(const struct saed_http_exchange *e, int op)
{
    struct epoll_event ready = {.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLET};

    ready.data.ptr = e->connection;
    return epoll_ctl(e->io->epoll_fd, op, saed_http_socket(e), &ready) == 0;
}

static void nudge_one(void *exchange)
{
    struct saed_http_exchange *e = exchange;

    e->nudged = true;
    e->io->judge_in = JUDGE_TURNS;
    MHD_suspend_connection(e->connection);
    MHD_resume_connection(e->connection);
}

void saed_http_nudge(struct saed_http_io *io)
{
    io->looked_ns = saed_now_ns();
    if (io->judge_in == 0)
        saed_conns_each_reading(io->h->conns, io, nudge_one);
}

/* A socket whose peer has gone; -1: out of descriptors. */
static int open_ended(void)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    close(pair[1]);
    return pair[0];
}

/* MHD, which alone may close the descriptor, is left with a socket that has ended in its place: in
 * its set it is found so in the next turn. */
void saed_http_hang_up(struct saed_http_exchange *e)
{
    int fd = saed_http_socket(e), ended = open_ended();

    if (ended >= 0) {
        saed_conns_linger(e->h->conns, fd);
        in_epoll_set(e, EPOLL_CTL_DEL);
        (void)dup2(ended, fd);
        close(ended);
    } else {
        shutdown(fd, SHUT_RDWR);
    }
    in_epoll_set(e, EPOLL_CTL_ADD);
}

void saed_http_answer_stuck(struct saed_http_exchange *e)
{
    struct sae_err err = {0};

    sae_err_set(&err, SAE_E_BAD_REQUEST, "",
                "cannot read request: a chunk-size line, its trailers or its head are longer than "
                "a connection's memory (%u bytes)",
                SAED_MHD_MEMORY);
    saed_http_answer_early(e, &err);
}

void saed_http_judge_one(void *exchange)
{
    struct saed_http_exchange *e = exchange;

    if (!e->nudged)
        return;
    e->nudged = false;
    if (in_epoll_set(e, EPOLL_CTL_MOD))
        return;
    saed_http_answer_stuck(e);
    saed_http_hang_up(e);
}

void saed_http_on_look_note(struct saed_loop_note *note)
{
    struct saed_http_io *io =
        (struct saed_http_io *)(void *)((char *)note - offsetof(struct saed_http_io, look));

    atomic_store(&io->look_posted, false);
    saed_http_nudge(io);
}

/* On the thread of conns.h. */
void saed_http_on_stalled(void *arg)
{
    struct saed_http *h = arg;

    for (size_t i = 0; i < h->cfg.n_threads; i++)
        if (!atomic_exchange(&h->ios[i].look_posted, true))
            saed_loop_post(h->ios[i].loop, &h->ios[i].look);
}
