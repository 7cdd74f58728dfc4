/* nomem.h - the whole daemon under failing allocations: a request of each kind, its every n-th
 * allocation.
 *
 * Run by tests/http/test_nomem.c (all allocations of the process, by a preloaded library) and
 * tests/unit/server/test_nomem.c (saed's own, by the hook of lib/base). */
#ifndef SAED_TESTS_SUPPORT_NOMEM_H
#define SAED_TESTS_SUPPORT_NOMEM_H

#include "tests/http/support.h"

/* Sources of the dictionaries that the requests are for, and what the daemon needs beside them;
 * NULL ends them. */
extern const char *const nomem_args[];
int nomem_requests(void);

/* What makes allocations fail. arm: let n through, then fail one (persistent: and all after it);
 * disarm: none fails any more; how many have. */
struct nomem_faults {
    void (*arm)(long n, bool persistent);
    long (*disarm)(void);
};

/* The i-th request: as long as an allocation of it fails, it must be answered as if none had, or
 * with 503, or (a connection of its own, `closed` of them) be closed without a byte; the next one
 * is right, gauges are 0. */
void nomem_run(const struct server *s, int i, const struct nomem_faults *faults);

#endif
