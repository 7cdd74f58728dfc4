/* cpus.h - how many CPUs this process may use: its affinity and its cgroups' CPU quota.
 *
 * Called by opts.c once, before threads. */
#ifndef SAED_CPUS_H
#define SAED_CPUS_H

#include "lib/base.h"

/* At least 1. A quota of 1.5 CPUs counts as 2. */
unsigned saed_cpus(void);

/* The smallest CPU quota of the cgroups that the file `proc_cgroup` (/proc/self/cgroup) names and
 * of all above them, mounted below `sys` (/sys/fs/cgroup), rounded up; 0 when there is none. Both
 * versions: cpu.max, and cpu.cfs_quota_us over cpu.cfs_period_us. */
unsigned saed_cpus_quota(const char *proc_cgroup, const char *sys);

#endif
