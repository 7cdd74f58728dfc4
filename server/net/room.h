/* room.h - how many connections there may be, and in which place each of them is.
 *
 *     accepted --> coming --opened--> IN        as many as the limit
 *                     |                |  leave: the longest idle, when another one is let in
 *                     |                v
 *                     |             LEAVING     not counted: it closes soon
 *                     |
 *                     +---opened--> BEYOND      when IN is full: asked for health and metrics, and
 *                                      |        for no more than one answer
 *                                      +--admit--> IN, if there is room by then
 *
 * The limit is --max-connections, or what the limit of descriptors leaves of it; when descriptors
 * run out all the same, it is what is in by then, until there are some again.
 *
 * Counts alone: who accepts and closes is door.h and conns.h. THREADS  any; `lock` guards all. */
#ifndef SAED_ROOM_H
#define SAED_ROOM_H

#include "lib/base.h"

#include <pthread.h>

#define SAED_ROOM_BEYOND 4
#define SAED_ROOM_LEAVING 32 /* so many at most; then nobody else is asked to leave */

enum saed_place { SAED_PLACE_IN, SAED_PLACE_LEAVING, SAED_PLACE_BEYOND, SAED_N_PLACES };

/* Private but for init, fini. */
struct saed_room {
    pthread_mutex_t lock;
    size_t max, limit; /* limit: max, or less while descriptors are short */
    size_t n_coming;   /* accepted, and not opened yet */
    size_t n[SAED_N_PLACES];
    size_t coming_seen; /* write_off's */
    bool came_or_went;  /* since then */
};

void saed_room_init(struct saed_room *r, size_t max);
void saed_room_fini(struct saed_room *r);

/* Another one may be accepted. */
bool saed_room_has(struct saed_room *r);
/* Who is accepted now will be beyond, unless somebody leaves. */
bool saed_room_is_full(struct saed_room *r);
void saed_room_accepted(struct saed_room *r);
/* One of the accepted has been opened. */
enum saed_place saed_room_opened(struct saed_room *r);
void saed_room_closed(struct saed_room *r, enum saed_place place);
/* From IN to LEAVING. False: too many are leaving already. */
bool saed_room_leave(struct saed_room *r) SAE_MUST_USE;
/* From BEYOND to IN. False: there is no room. */
bool saed_room_admit(struct saed_room *r) SAE_MUST_USE;
/* An accepted socket may end without being opened, and without a word: those that have not come
 * from one call to the next, when nothing else has moved, will not. */
void saed_room_write_off(struct saed_room *r);

/* Descriptors have run out. / There are some again. */
void saed_room_shrink(struct saed_room *r);
void saed_room_grow(struct saed_room *r);

size_t saed_room_limit(struct saed_room *r);
size_t saed_room_count(struct saed_room *r); /* in every place, not those coming */

#endif
