/* process.c - the process metrics, from /proc/self and the clocks. See process.h.
 *
 * The start time is boot time (REALTIME - BOOTTIME) plus the ticks of /proc/self/stat: /proc/stat's
 * btime is hidden from a unit with ProcSubset=pid. It moves with the wall clock by nature; rounded
 * to the kernel's tick so that two scrapes agree. */
#include "server/report/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double clock_seconds(clockid_t id)
{
    struct timespec t;

    return clock_gettime(id, &t) == 0 ? (double)t.tv_sec + (double)t.tv_nsec * 1e-9 : -1.0;
}

/* The file's first bytes, NUL-terminated; false when it cannot be read. */
static bool slurp(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, out, cap - 1);
    close(fd);
    if (n <= 0)
        return false;
    out[n] = '\0';
    return true;
}

static void read_statm(struct saed_process *out)
{
    double page = (double)sysconf(_SC_PAGESIZE);
    unsigned long long size, resident;
    char text[256];

    if (!slurp("/proc/self/statm", text, sizeof text) ||
        sscanf(text, "%llu %llu", &size, &resident) != 2)
        return;
    out->virtual_bytes = (double)size * page;
    out->resident_bytes = (double)resident * page;
}

/* Fields 20 (threads) and 22 (start, in ticks after boot), counted behind the command's name, which
 * may hold blanks and brackets. */
static void read_stat(struct saed_process *out)
{
    double now = clock_seconds(CLOCK_REALTIME), up = clock_seconds(CLOCK_BOOTTIME);
    double hz = (double)sysconf(_SC_CLK_TCK);
    unsigned long long start;
    long long threads;
    char text[1024];
    const char *p;

    if (!slurp("/proc/self/stat", text, sizeof text))
        return;
    p = strrchr(text, ')');
    if (!p || sscanf(p + 1,
                     " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld "
                     "%*s %llu",
                     &threads, &start) != 2)
        return;
    out->threads = (double)threads;
    if (now >= 0 && up >= 0 && hz > 0)
        out->start_time_seconds = round((now - up) * hz + (double)start) / hz;
}

static double count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *e;
    double n = -1.0; /* the directory's own */

    if (!dir)
        return -1.0;
    while ((e = readdir(dir)) != NULL)
        if (e->d_name[0] != '.')
            n++;
    closedir(dir);
    return n;
}

static double limit_of(__rlimit_resource_t what)
{
    struct rlimit r;

    return getrlimit(what, &r) == 0 ? (double)r.rlim_cur : -1.0; /* infinity: 2^64, as Go has it */
}

uint64_t saed_process_resident_bytes(void)
{
    struct saed_process p = {0};

    read_statm(&p);
    return (uint64_t)p.resident_bytes;
}

void saed_process_read(struct saed_process *out)
{
    *out = (struct saed_process){-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0};
    out->cpu_seconds = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    out->virtual_max_bytes = limit_of(RLIMIT_AS);
    out->max_fds = limit_of(RLIMIT_NOFILE);
    out->open_fds = count_fds();
    read_statm(out);
    read_stat(out);
}
