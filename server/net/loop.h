/* loop.h - a connection thread: it sleeps until its sockets or its notes have something to do.
 *
 * libmicrohttpd's own threads take every resumed connection by a system call and a turn of its own,
 * and cannot say when they have gone through all that was ready. So the thread is ours: a turn
 * takes all notes (connections to resume, sockets to add; any thread posts them, and only the first
 * of a turn has to wake anybody), then all sockets that are ready.
 *
 * THREADS  `turn` and the notes' `run`: the loop's own; post: any. Called by http.c. */
#ifndef SAED_LOOP_H
#define SAED_LOOP_H

#include "lib/base.h"

/* What to do on the loop's thread; borrowed from post until `run` is called. */
struct saed_loop_note {
    void (*run)(struct saed_loop_note *note);
    struct saed_loop_note *next; /* private */
};

struct saed_loop;

/* What a turn leaves behind. */
enum saed_loop_next {
    SAED_LOOP_AGAIN, /* another turn at once */
    SAED_LOOP_BUSY,  /* nothing now, and the loop may not end yet: a note will come */
    SAED_LOOP_IDLE
};

/* `fd` is readable when sockets are ready (an epoll set; borrowed until free). `turn` works off
 * what is ready without waiting; `idle`: nothing was ready and nothing had been posted. */
enum sae_status saed_loop_create(struct saed_loop **out, int fd,
                                 enum saed_loop_next (*turn)(void *arg, bool idle), void *arg,
                                 const char *name, struct sae_err *err) SAE_MUST_USE;
/* Notes run in the order they were posted. */
void saed_loop_post(struct saed_loop *l, struct saed_loop_note *note);
/* End the thread after the first turn from now on that is not BUSY. Idempotent. */
void saed_loop_stop(struct saed_loop *l);
/* Stop and free: no post may be under way. NULL allowed. */
void saed_loop_free(struct saed_loop *l);

#endif
