/* fd.h - a file opened to be read from its own size: never a FIFO, never longer than it was.
 *
 * Called by whoever reads weights and configs. Any thread. */
#ifndef SAE_FD_H
#define SAE_FD_H

#include "lib/base.h"
#include "lib/format/stream.h"

/* Open `path` without waiting for anybody. Symbolic links are followed. *fd is owned (close);
 * *bytes is its size, the only one that counts. SAE_E_IO: `name` (NULL: "it") cannot be opened, or
 * is no regular file. *fd is -1 after a failure, and `errno` that of open where that failed, else
 * 0. */
enum sae_status sae_fd_open(const char *path, const char *name, int *fd, uint64_t *bytes,
                            struct sae_err *err) SAE_MUST_USE;

/* Exactly n bytes at `offset`, which the caller has checked against `bytes`. SAE_E_IO: it cannot be
 * read, or has been cut since. */
enum sae_status sae_fd_read(int fd, uint64_t bytes, uint64_t offset, void *buf, size_t n,
                            struct sae_err *err) SAE_MUST_USE;

/* A file's bytes from `offset` on, as a stream whose ctx this is; whoever made it has checked that
 * as many are there as will be asked for. Owned by one thread. */
struct sae_fd_range {
    int fd; /* borrowed */
    uint64_t bytes, offset;
};
enum sae_status sae_fd_next(void *range, void *buf, size_t n, struct sae_err *err) SAE_MUST_USE;

#endif
