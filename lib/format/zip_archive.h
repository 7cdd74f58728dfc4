/* zip_archive.h - an open archive, as the files of the zip reader see it: zip.c opens it and has
 * two parsers agree, zip_records.c is ours of them, zip_stream.c reads the bytes of an entry.
 * Private to them. Written while it is opened, but for has_crcs. */
#ifndef SAE_ZIP_ARCHIVE_H
#define SAE_ZIP_ARCHIVE_H

#include "lib/format/fd.h"
#include "lib/format/zip.h"

struct sae_zip {
    int fd; /* borrowed */
    uint64_t file_bytes;
    struct sae_zip_entry *entries;
    size_t n;
    char *names;             /* the entries' names, each with its NUL */
    size_t *by_name;         /* indices of entries, sorted by name */
    uint64_t directory;      /* offset of the central directory */
    uint64_t directory_size; /* bytes */
    bool has_crcs;           /* some entry's is not 0 */
};

static inline enum sae_status sae_zip_read_at(const struct sae_zip *z, void *buf, size_t n,
                                              uint64_t off, struct sae_err *err)
{
    return sae_fd_read(z->fd, z->file_bytes, off, buf, n, err);
}

#define SAE_ZIP_BAD(err, ...) \
    sae_err_set(err, SAE_E_FORMAT, "file", "cannot read zip archive: " __VA_ARGS__)
#define SAE_ZIP_BAD_ENTRY(err, name, fmt, ...) \
    sae_err_set(err, SAE_E_FORMAT, name, "cannot read zip entry %.100s: " fmt, name, ##__VA_ARGS__)

/* zip_records.c: fill entries, names and has_crcs from the end records and the central directory
 * behind the data. Errors as those of sae_zip_open. */
enum sae_status sae_zip_read_directory(struct sae_zip *z, struct sae_err *err) SAE_MUST_USE;
/* Every local header agrees with the directory, and the entries tile the file up to it: fills their
 * `data`. */
enum sae_status sae_zip_check_layout(struct sae_zip *z, struct sae_err *err) SAE_MUST_USE;

#endif
