/* suspend.c - see exchange.h: exchanges that are away at the handler, and rounds. */
#include "server/clock.h"
#include "server/net/exchange.h"

#include <stddef.h>

#define ROUND_MAX 64

void saed_http_suspend(struct saed_exchange *x)
{
    struct saed_http_exchange *e = saed_http_of(x);

    saed_conn_move(e->conn, SAED_CONN_AWAY);
    atomic_fetch_add(&e->h->n_suspended, 1);
    e->io->n_out++;
    MHD_suspend_connection(e->connection);
}

bool saed_http_queue(struct saed_exchange *x)
{
    return saed_conn_queue(saed_http_of(x)->conn);
}

static void on_resume_note(struct saed_loop_note *note)
{
    struct saed_http_exchange *e =
        (struct saed_http_exchange *)(void *)((char *)note -
                                              offsetof(struct saed_http_exchange, resume));

    e->io->n_out--;
    MHD_resume_connection(e->connection);
}

static void resume_now(struct saed_http_exchange *e)
{
    struct saed_http *h = e->h;

    /* After this the connection's thread may free *e at any moment. */
    e->resume.run = on_resume_note;
    saed_loop_post(e->io->loop, &e->resume);
    atomic_fetch_sub(&h->n_suspended, 1);
}

void saed_http_end_round(struct saed_http_io *io)
{
    struct saed_http_handler *hd = &io->h->cfg.handler;

    if (io->n_round)
        hd->round_over(hd->arg);
    io->n_round = 0;
}

bool saed_http_is_round_long(const struct saed_http_io *io)
{
    return io->n_round == ROUND_MAX || saed_now_ns() - io->round_ns > io->h->cfg.gather_ns;
}

void saed_http_expect_more(struct saed_exchange *x)
{
    struct saed_http_io *io = saed_http_of(x)->io;

    if (io->n_round++ == 0)
        io->round_ns = saed_now_ns();
    else if (saed_http_is_round_long(io))
        saed_http_end_round(io);
}

void saed_http_resume(struct saed_exchange *x)
{
    struct saed_http_exchange *e = saed_http_of(x);

    if (saed_conn_back(e->conn))
        resume_now(e);
}

void saed_http_on_gone(void *arg, void *exchange)
{
    struct saed_http *h = arg;
    struct saed_http_exchange *e = exchange;

    h->cfg.handler.gone(h->cfg.handler.arg, &e->x);
}

void saed_http_on_told(void *arg, void *exchange)
{
    (void)arg;
    resume_now(exchange);
}
