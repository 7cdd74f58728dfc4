/* memory.h - how much memory this process may use, and what of it is left for requests.
 *
 * Called while loading, by one thread. */
#ifndef SAED_MEMORY_H
#define SAED_MEMORY_H

#include "server/opts/opts.h"

/* What saed needs beside dictionaries and requests: code, threads, buffers of batches. */
#define SAED_MEMORY_BASE ((uint64_t)64 << 20)
/* The default of --max-inflight-bytes is no less, and no more. */
#define SAED_INFLIGHT_LEAST ((uint64_t)64 << 20)
#define SAED_INFLIGHT_MOST ((uint64_t)1 << 30)

/* The smallest limit of the cgroups that the file `proc_cgroup` names and of all above them,
 * mounted below `sys`: memory.max, or memory.limit_in_bytes of version 1. UINT64_MAX: none. */
uint64_t saed_memory_limit(const char *proc_cgroup, const char *sys);

/* May dictionaries of so many bytes be loaded within `limit`? *inflight is --max-inflight-bytes
 * then: as it is stated, else what is left. SAE_E_NOMEM: the sum, the limit, and what to do. */
enum sae_status saed_memory_fit(uint64_t bytes, uint64_t limit, const struct saed_opts *opts,
                                uint64_t *inflight, struct sae_err *err) SAE_MUST_USE;

#endif
