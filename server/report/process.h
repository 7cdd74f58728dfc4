/* process.h - what the operating system knows of this process: Prometheus's standard process set.
 *
 * Any thread; no state. Linux's /proc/self. */
#ifndef SAED_PROCESS_H
#define SAED_PROCESS_H

#include "lib/base.h"

/* A value that could not be read is negative (its family is then left out). */
struct saed_process {
    double cpu_seconds;
    double resident_bytes, virtual_bytes, virtual_max_bytes;
    double start_time_seconds; /* since the epoch */
    double open_fds, max_fds;
    double threads;
};

void saed_process_read(struct saed_process *out);
uint64_t saed_process_resident_bytes(void); /* 0 where that cannot be read */

#endif
