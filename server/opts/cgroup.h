/* cgroup.h - the numbers that the cgroups of a process set, of both versions, on the way up.
 *
 * A process in a container is in a cgroup whose path it may see whole, from its own namespace's
 * root ("/"), or not at all below its own mount; so every level that exists is looked at, from the
 * path named up to the mount itself, and what is not there is passed over.
 * Called by cpus.c and memory.c. Holds no state: any thread. */
#ifndef SAED_CGROUP_H
#define SAED_CGROUP_H

#include "lib/base.h"

#define SAED_CGROUP_PROC "/proc/self/cgroup"
#define SAED_CGROUP_SYS "/sys/fs/cgroup"

/* Called with the folder of each level. */
typedef void saed_cgroup_fn(void *arg, const char *dir);
struct saed_cgroup_visitor {
    const char *controller; /* of version 1: "cpu" */
    saed_cgroup_fn *v2, *v1;
};

/* Go up from the cgroups that the file `proc` names, mounted below `sys`. */
void saed_cgroup_walk(const char *proc, const char *sys, const struct saed_cgroup_visitor *r,
                      void *arg);
/* The first bytes of a file of such a folder, NUL-terminated. False: it cannot be read. */
bool saed_cgroup_read(const char *dir, const char *name, char *out, size_t cap);

#endif
