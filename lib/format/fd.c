/* fd.c - see fd.h. */
#include "lib/format/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *file_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO";
    case S_IFCHR:
        return "a character device";
    case S_IFBLK:
        return "a block device";
    case S_IFSOCK:
        return "a socket";
    default:
        return "not a regular file";
    }
}

enum sae_status sae_fd_open(const char *path, const char *name, int *fd, uint64_t *bytes,
                            struct sae_err *err)
{
    const char *where = name ? name : "file", *what = name ? name : "it";
    enum sae_status st = SAE_OK;
    struct stat s;
    int why = 0;

    /* O_NONBLOCK: opening a FIFO must not wait for its writer. Regular files do not heed it. */
    *fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (*fd < 0) {
        why = errno;
        st = sae_err_set(err, SAE_E_IO, where, "cannot open %s: %s", what, strerror(why));
    } else if (fstat(*fd, &s) != 0) {
        st = sae_err_set(err, SAE_E_IO, where, "cannot stat %s: %s", what, strerror(errno));
    } else if (!S_ISREG(s.st_mode)) {
        st = sae_err_set(err, SAE_E_IO, where, "cannot read %s: it is %s, a file is wanted", what,
                         file_type(s.st_mode));
    } else {
        *bytes = (uint64_t)s.st_size;
    }
    if (st != SAE_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    errno = why;
    return st;
}

enum sae_status sae_fd_read(int fd, uint64_t bytes, uint64_t offset, void *buf, size_t n,
                            struct sae_err *err)
{
    char *p = buf;

    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sae_err_set(err, SAE_E_IO, "file", "cannot read file at offset %llu: %s",
                               (unsigned long long)offset, strerror(errno));
        if (got == 0)
            return sae_err_set(err, SAE_E_IO, "file",
                               "cannot read file: it ends at offset %llu and had %llu bytes",
                               (unsigned long long)offset, (unsigned long long)bytes);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return SAE_OK;
}

enum sae_status sae_fd_next(void *range, void *buf, size_t n, struct sae_err *err)
{
    struct sae_fd_range *r = range;
    enum sae_status st = sae_fd_read(r->fd, r->bytes, r->offset, buf, n, err);

    r->offset += n;
    return st;
}
