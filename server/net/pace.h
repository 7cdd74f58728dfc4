/* pace.h - how fast bytes come: a total, and what it was at each of the last ten seconds.
 *
 * For bodies (conn.h) and for what is dropped behind an early answer (linger.h), by the clock that
 * the caller gives. Owned as the struct that holds it. */
#ifndef SAED_PACE_H
#define SAED_PACE_H

#include "lib/base.h"
#include "server/clock.h"

#define SAED_PACE_SECONDS 10u

struct saed_pace {
    uint64_t begin_ns, first; /* when it began, and the total then */
    uint64_t total, noted_ns; /* the last note */
    uint64_t second;          /* of that, since begin */
    struct {
        uint64_t ns, total;
    } marks[SAED_PACE_SECONDS +
            1]; /* the first note in second s, or the last before it: [s % 11] */
};

void saed_pace_begin(struct saed_pace *p, uint64_t total, uint64_t now);
/* The total is this by now; it never falls. A clock that was read before the last one is taken for
 * the same. */
void saed_pace_note(struct saed_pace *p, uint64_t total, uint64_t now);
/* Bytes a second over the last ten, or since the begin if that is less ago. */
uint64_t saed_pace_rate(const struct saed_pace *p, uint64_t now);

#endif
