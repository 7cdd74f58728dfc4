/* cgroup.c - see cgroup.h. */
#include "server/opts/cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_CAP 4096

bool saed_cgroup_read(const char *dir, const char *name, char *out, size_t cap)
{
    char path[PATH_CAP];
    ssize_t n;
    int fd;

    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, out, cap - 1);
    close(fd);
    if (n < 0)
        return false;
    out[n] = '\0';
    return true;
}

/* Look at mount + path and every level above it, down to the mount itself. */
static void walk(const char *mount, const char *path, saed_cgroup_fn *read_level, void *arg)
{
    char dir[PATH_CAP];
    size_t root = strlen(mount);

    if (snprintf(dir, sizeof dir, "%s%s", mount, path) >= (int)sizeof dir)
        dir[root] = '\0';
    for (;;) {
        char *slash;

        read_level(arg, dir);
        slash = strrchr(dir + root, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

/* True when the comma-separated list holds `name`. */
static bool has(const char *list, const char *name)
{
    while (*list) {
        size_t n = strcspn(list, ",");

        if (n == strlen(name) && memcmp(list, name, n) == 0)
            return true;
        list += n + (list[n] == ',');
    }
    return false;
}

/* One line: "ID:CONTROLLERS:PATH"; version 2 has ID 0 and no controllers. */
static void read_line(char *line, const char *sys, const struct saed_cgroup_visitor *r, void *arg)
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
        walk(sys, path, r->v2, arg);
        snprintf(mount, sizeof mount, "%s/unified", sys); /* both versions mounted */
        walk(mount, path, r->v2, arg);
    } else if (has(controllers, r->controller)) {
        snprintf(mount, sizeof mount, "%s/%s", sys, controllers);
        walk(mount, path, r->v1, arg);
        snprintf(mount, sizeof mount, "%s/%s", sys, r->controller);
        walk(mount, path, r->v1, arg);
    }
}

void saed_cgroup_walk(const char *proc, const char *sys, const struct saed_cgroup_visitor *r,
                      void *arg)
{
    FILE *f = fopen(proc, "re");
    char line[PATH_CAP];

    if (!f)
        return;
    while (fgets(line, sizeof line, f))
        read_line(line, sys, r, arg);
    fclose(f);
}
