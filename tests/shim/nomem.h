/* nomem.h - what a test and the preloaded library share: a page that both have mapped.
 *
 * The test opens a memfd of one page, puts its number into SAED_NOMEM_FD and lets the daemon
 * inherit it; the library maps it when it is loaded. All members are atomic. */
#ifndef SAED_TESTS_SHIM_NOMEM_H
#define SAED_TESTS_SHIM_NOMEM_H

#include <stdatomic.h>
#include <stdbool.h>

struct nomem {
    atomic_long left;       /* let so many allocations through, then fail one; below 0: off */
    atomic_bool persistent; /* fail all that follow, too */
    atomic_long n_failed;
};

#endif
