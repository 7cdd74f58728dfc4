/* clock.h - the clock that everything here is timed by. Any thread. */
#ifndef SAED_CLOCK_H
#define SAED_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SAED_SECOND_NS 1000000000ull

/* CLOCK_MONOTONIC, which cannot fail on Linux. */
static inline uint64_t saed_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SAED_SECOND_NS + (uint64_t)t.tv_nsec;
}

#endif
