/* memory.c - see memory.h. */
#include "server/opts/memory.h"

#include "lib/num.h"
#include "lib/scan.h"
#include "server/opts/cgroup.h"

#include <inttypes.h>
#include <string.h>

/* Version 1 has no word for none: it is the largest number of whole pages then. */
#define NO_LIMIT (1ull << 60)

static void take_limit(const char *dir, const char *name, uint64_t *least)
{
    char text[64];
    uint64_t v;
    bool fits;

    if (!saed_cgroup_read(dir, name, text, sizeof text) ||
        !sae_scan_u64(text, text + strlen(text), &v, &fits))
        return; /* "max" is no limit */
    if (v < NO_LIMIT && v < *least)
        *least = v;
}

static void read_v2(void *arg, const char *dir)
{
    take_limit(dir, "memory.max", arg);
}

static void read_v1(void *arg, const char *dir)
{
    take_limit(dir, "memory.limit_in_bytes", arg);
}

uint64_t saed_memory_limit(const char *proc_cgroup, const char *sys)
{
    static const struct saed_cgroup_visitor visitor = {"memory", read_v2, read_v1};
    uint64_t least = UINT64_MAX;

    saed_cgroup_walk(proc_cgroup, sys, &visitor, &least);
    return least;
}

enum sae_status saed_memory_fit(uint64_t bytes, uint64_t limit, const struct saed_opts *opts,
                                uint64_t *inflight, struct sae_err *err)
{
    uint64_t sum, left;

    if (sae_add_u64(bytes, SAED_MEMORY_BASE, &sum))
        sum = UINT64_MAX;
    if (sum > limit)
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot load the dictionaries: they need %" PRIu64 " bytes and saed "
                           "itself %" PRIu64 ", together %" PRIu64 ", and the memory limit of its "
                           "cgroup is %" PRIu64,
                           bytes, SAED_MEMORY_BASE, sum, limit);
    left = limit - sum;
    if (!opts->has_max_inflight_bytes) {
        *inflight = left < SAED_INFLIGHT_LEAST  ? SAED_INFLIGHT_LEAST
                    : left > SAED_INFLIGHT_MOST ? SAED_INFLIGHT_MOST
                                                : left;
        return SAE_OK;
    }
    if (opts->max_inflight_bytes > left)
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot keep --max-inflight-bytes %" PRIu64 ": the dictionaries need "
                           "%" PRIu64 " bytes and saed itself %" PRIu64 ", which leaves %" PRIu64
                           " of the %" PRIu64 " that its cgroup has",
                           opts->max_inflight_bytes, bytes, SAED_MEMORY_BASE, left, limit);
    *inflight = opts->max_inflight_bytes;
    return SAE_OK;
}
