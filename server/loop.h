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

/* `fd` is readable when sockets are ready (an epoll set; borrowed until free). `turn` works off
 * what is ready without waiting, and returns true if it wants another one at once; `idle`: nothing
 * was ready and nothing had been posted. */
enum sae_status saed_loop_create(struct saed_loop **out, int fd, bool (*turn)(void *arg, bool idle),
                                 void *arg, const char *name, struct sae_err *err) SAE_MUST_USE;
/* Notes run in the order they were posted. */
void saed_loop_post(struct saed_loop *l, struct saed_loop_note *note);
/* Run what has been posted, take a last turn, end the thread. Nobody posts any more. NULL allowed.
 */
void saed_loop_free(struct saed_loop *l);

#endif
