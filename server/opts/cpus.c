/* cpus.c - CPUs by affinity and cgroup quota. See cpus.h. */
#include "server/opts/cpus.h"

#include "server/opts/cgroup.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

/* quota / period rounded up, kept in *least when smaller. */
static void take_quota(long long quota, long long period, unsigned *least)
{
    long long cpus;

    if (quota <= 0 || period <= 0)
        return;
    cpus = quota / period + (quota % period != 0);
    if (cpus < 1024 * 1024 && (*least == 0 || cpus < *least))
        *least = (unsigned)cpus;
}

static void read_v2(void *arg, const char *dir)
{
    char text[128];
    long long quota, period;

    if (saed_cgroup_read(dir, "cpu.max", text, sizeof text) &&
        sscanf(text, "%lld %lld", &quota, &period) == 2) /* "max 100000" is no quota */
        take_quota(quota, period, arg);
}

static void read_v1(void *arg, const char *dir)
{
    char quota[64], period[64];

    if (saed_cgroup_read(dir, "cpu.cfs_quota_us", quota, sizeof quota) &&
        saed_cgroup_read(dir, "cpu.cfs_period_us", period, sizeof period))
        take_quota(strtoll(quota, NULL, 10), strtoll(period, NULL, 10), arg);
}

unsigned saed_cpus_quota(const char *proc_cgroup, const char *sys)
{
    static const struct saed_cgroup_visitor visitor = {"cpu", read_v2, read_v1};
    unsigned least = 0;

    saed_cgroup_walk(proc_cgroup, sys, &visitor, &least);
    return least;
}

/* The kernel refuses a mask smaller than its own, so ask with ever larger ones. */
static unsigned affinity(void)
{
    for (int bits = 1024; bits <= 1 << 20; bits *= 4) {
        cpu_set_t *set = CPU_ALLOC(bits);
        size_t size = CPU_ALLOC_SIZE(bits);
        int n = 0, failed;

        if (!set)
            break;
        failed = sched_getaffinity(0, size, set) ? errno : 0;
        if (!failed)
            n = CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (n > 0)
            return (unsigned)n;
        if (failed != EINVAL)
            break;
    }
    return 1;
}

unsigned saed_cpus(void)
{
    unsigned n = affinity(), quota = saed_cpus_quota(SAED_CGROUP_PROC, SAED_CGROUP_SYS);

    return quota && quota < n ? quota : n;
}
