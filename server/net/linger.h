/* linger.h - sockets that have been answered while their clients still send.
 *
 * A socket that is closed upon bytes that nobody has read makes the kernel send a reset, and a
 * client in the middle of its body sees a broken pipe and never looks at its answer. So the sending
 * side is closed, and what still arrives is read and dropped: until the client closes, for 30 s or
 * 1 GiB, at no less than the rate that bodies must have. When there are too many the oldest makes
 * way: its client has had the longest time to read.
 *
 * THREADS  add, count: any. turn, sweep: the one of conns.h, which waits for the set. */
#ifndef SAED_LINGER_H
#define SAED_LINGER_H

#include "server/net/pace.h"

#define SAED_LINGER_NS (30 * SAED_SECOND_NS)
#define SAED_LINGER_BYTES (1ull << 30)

/* Enough has been dropped, enough time has passed, or it comes too slowly: `p` was begun with 0
 * bytes; min_rate: bytes a second, 0: any. */
bool saed_linger_is_over(const struct saed_pace *p, uint64_t min_rate, uint64_t now);

struct saed_linger;

enum sae_status saed_linger_create(struct saed_linger **out, size_t max, uint64_t min_rate,
                                   struct sae_err *err) SAE_MUST_USE;
/* Taken. */
void saed_linger_add(struct saed_linger *l, int fd, uint64_t now);
/* An epoll set: readable when a turn has something to do. */
int saed_linger_set(const struct saed_linger *l);
void saed_linger_turn(struct saed_linger *l, uint64_t now);
void saed_linger_sweep(struct saed_linger *l, uint64_t now);
size_t saed_linger_count(const struct saed_linger *l);
void saed_linger_free(struct saed_linger *l); /* closes what is left. NULL allowed */

#endif
