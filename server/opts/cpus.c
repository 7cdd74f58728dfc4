/* cpus.c - CPUs by affinity and cgroup quota. See cpus.h.
 *
 * A process in a container is in a cgroup whose path it may see whole, from its own namespace's
 * root ("/"), or not at all below its own mount; so every level that exists is looked at, from the
 * path named up to the mount itself, and what is not there is passed over. */
#include "server/opts/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_CAP 4096

/* First bytes of a small file, NUL-terminated. */
static bool read_small(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, out, cap - 1);
    close(fd);
    if (n < 0)
        return false;
    out[n] = '\0';
    return true;
}

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

static void read_v2(const char *dir, unsigned *least)
{
    char path[PATH_CAP], text[128];
    long long quota, period;

    if (snprintf(path, sizeof path, "%s/cpu.max", dir) >= (int)sizeof path ||
        !read_small(path, text, sizeof text))
        return;
    if (sscanf(text, "%lld %lld", &quota, &period) == 2) /* "max 100000" is no quota */
        take_quota(quota, period, least);
}

static void read_v1(const char *dir, unsigned *least)
{
    char path[PATH_CAP], quota[64], period[64];

    if (snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir) >= (int)sizeof path ||
        !read_small(path, quota, sizeof quota))
        return;
    if (snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir) >= (int)sizeof path ||
        !read_small(path, period, sizeof period))
        return;
    take_quota(strtoll(quota, NULL, 10), strtoll(period, NULL, 10), least);
}

/* Look at mount + path and every level above it, down to the mount itself. */
static void walk(const char *mount, const char *path,
                 void (*read_level)(const char *dir, unsigned *least), unsigned *least)
{
    char dir[PATH_CAP];
    size_t root = strlen(mount);

    if (snprintf(dir, sizeof dir, "%s%s", mount, path) >= (int)sizeof dir)
        dir[root] = '\0';
    for (;;) {
        char *slash;

        read_level(dir, least);
        slash = strrchr(dir + root, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

/* True when the comma-separated list holds "cpu". */
static bool has_cpu(const char *list)
{
    while (*list) {
        size_t n = strcspn(list, ",");

        if (n == 3 && memcmp(list, "cpu", 3) == 0)
            return true;
        list += n + (list[n] == ',');
    }
    return false;
}

/* One line of /proc/self/cgroup: "ID:CONTROLLERS:PATH"; version 2 has ID 0 and no controllers. */
static void read_line(char *line, const char *sys, unsigned *least)
{
    char mount[PATH_CAP];
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;

    if (!path)
        return;
    *controllers++ = '\0';
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (*controllers == '\0') {
        walk(sys, path, read_v2, least);
        snprintf(mount, sizeof mount, "%s/unified", sys); /* both versions mounted */
        walk(mount, path, read_v2, least);
    } else if (has_cpu(controllers)) {
        snprintf(mount, sizeof mount, "%s/%s", sys, controllers);
        walk(mount, path, read_v1, least);
        snprintf(mount, sizeof mount, "%s/cpu", sys);
        walk(mount, path, read_v1, least);
    }
}

unsigned saed_cpus_quota(const char *proc_cgroup, const char *sys)
{
    FILE *f = fopen(proc_cgroup, "re");
    char line[PATH_CAP];
    unsigned least = 0;

    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        read_line(line, sys, &least);
    fclose(f);
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
    unsigned n = affinity(), quota = saed_cpus_quota("/proc/self/cgroup", "/sys/fs/cgroup");

    return quota && quota < n ? quota : n;
}
