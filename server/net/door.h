/* door.h - accepting: the listening sockets, and who is let in when the house is full.
 *
 * A newcomer to a full house is let in all the same, and the connection that has been idle longest
 * is asked to leave for it; where nobody is idle, room.h says how many come in beyond the limit.
 * The rest wait in the kernel's queue. A few descriptors are kept for the day on which there are no
 * others: each lets one newcomer in.
 *
 * THREADS  ready, tick, is_crowded: the one of conns.h; close: any. */
#ifndef SAED_DOOR_H
#define SAED_DOOR_H

#include "server/address.h"
#include "server/net/room.h"

#include <sys/socket.h>

struct saed_door_config {
    size_t max_connections;
    int epoll_fd; /* borrowed until free: told of newcomers by an event with this tag */
    uint64_t tag;
    void *arg;
    /* A new socket: taken. */
    void (*add)(void *arg, int fd, const struct sockaddr *addr, socklen_t len);
    /* Have an idle connection leave (saed_room_leave). False: there is none. */
    bool (*make_way)(void *arg);
};

struct saed_door;

/* Listen on all of them; a port that was 0 is then the one in use. SAE_E_IO says why not. */
enum sae_status saed_door_create(struct saed_door **out, const struct saed_door_config *cfg,
                                 struct saed_address *addresses, size_t n,
                                 struct sae_err *err) SAE_MUST_USE;
/* Somebody waits. */
void saed_door_ready(struct saed_door *d);
/* After each wait; listens again when there is room and time for it. `is_sweep`: a sweep's time has
 * passed. */
void saed_door_tick(struct saed_door *d, uint64_t now, bool is_sweep);
/* Accept what has been connected by now, then close the listeners. Idempotent. */
void saed_door_close(struct saed_door *d);
/* The house is full, and somebody waits outside. */
bool saed_door_is_crowded(struct saed_door *d);
/* A connection that was let in came to a loopback address. Any thread. */
bool saed_door_is_of_loopback(const struct saed_door *d, int fd);
/* A place that becomes free should be told to the thread that ticks. */
bool saed_door_is_shut(const struct saed_door *d);
struct saed_room *saed_door_room(struct saed_door *d); /* borrowed until free */
void saed_door_free(struct saed_door *d);              /* NULL allowed */

#endif
