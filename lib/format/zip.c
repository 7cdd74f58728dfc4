/* zip.c - a zip archive, opened once two parsers agree on it, and its entries by name.
 *
 * Ours is zip_records.c, the other is libzip. Bytes of entries are zip_stream.c's. See zip.h. */
#include "lib/format/zip_archive.h"

#include "lib/format/deflate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

/* ---- names -------------------------------------------------------------------------------- */

/* Names that differ in nothing but case stand side by side. */
static int order_names(const char *a, const char *b)
{
    int c = strcasecmp(a, b);

    return c ? c : strcmp(a, b);
}

static int compare_name(const void *a, const void *b, void *arg)
{
    const struct sae_zip *z = arg;
    const size_t *x = a, *y = b;

    return order_names(z->entries[*x].name, z->entries[*y].name);
}

static enum sae_status index_names(struct sae_zip *z, struct sae_err *err)
{
    z->by_name = sae_calloc(z->n, sizeof *z->by_name);
    if (!z->by_name)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate zip index: %zu entries",
                           z->n);
    for (size_t i = 0; i < z->n; i++)
        z->by_name[i] = i;
    qsort_r(z->by_name, z->n, sizeof *z->by_name, compare_name, z);
    for (size_t i = 1; i < z->n; i++) {
        const char *name = z->entries[z->by_name[i]].name;
        const char *before = z->entries[z->by_name[i - 1]].name;

        if (strcmp(before, name) == 0)
            return SAE_ZIP_BAD_ENTRY(err, name, "two entries have this name");
        /* One name to readers that do not heed case, as PyTorch's. */
        if (strcasecmp(before, name) == 0)
            return SAE_ZIP_BAD_ENTRY(err, name, "another entry is called %s, the same but for case",
                                     before);
    }
    return SAE_OK;
}

const struct sae_zip_entry *sae_zip_find(const struct sae_zip *z, const char *name)
{
    size_t lo = 0, hi = z->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct sae_zip_entry *e = &z->entries[z->by_name[mid]];
        int c = order_names(name, e->name);

        if (c == 0)
            return e;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---- the second parser -------------------------------------------------------------------- */

static bool same_entry(zip_t *lib, zip_uint64_t i, const struct sae_zip_entry *e)
{
    const zip_uint64_t need = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_CRC |
                              ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    struct zip_stat s;

    return zip_stat_index(lib, i, ZIP_FL_ENC_RAW | ZIP_FL_UNCHANGED, &s) == 0 &&
           (s.valid & need) == need && strcmp(s.name, e->name) == 0 && s.size == e->bytes &&
           s.comp_size == e->packed_bytes && s.crc == e->crc && s.comp_method == e->method &&
           s.encryption_method == ZIP_EM_NONE;
}

/* libzip must see the same entries. Its own consistency check (ZIP_CHECKCONS) is not asked for:
 * what that refuses differs between versions, and what is below has been checked already. */
static enum sae_status ask_libzip(const struct sae_zip *z, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    int code = 0, fd = fcntl(z->fd, F_DUPFD_CLOEXEC, 0);
    zip_t *lib;

    if (fd < 0)
        return sae_err_set(err, SAE_E_IO, "file", "cannot duplicate file descriptor: %s",
                           strerror(errno));
    lib = zip_fdopen(fd, 0, &code);
    if (!lib) {
        zip_error_t e;

        close(fd);
        zip_error_init_with_code(&e, code);
        st = sae_err_set(err, code == ZIP_ER_MEMORY ? SAE_E_NOMEM : SAE_E_FORMAT, "file",
                         "cannot read zip archive: %s (libzip)", zip_error_strerror(&e));
        zip_error_fini(&e);
        return st;
    }
    if (zip_get_num_entries(lib, 0) != (zip_int64_t)z->n)
        st = SAE_ZIP_BAD(err, "libzip sees %lld entries, its directory has %zu",
                         (long long)zip_get_num_entries(lib, 0), z->n);
    for (size_t i = 0; st == SAE_OK && i < z->n; i++)
        if (!same_entry(lib, i, &z->entries[i]))
            st = SAE_ZIP_BAD_ENTRY(err, z->entries[i].name, "libzip reads this entry otherwise");
    zip_discard(lib);
    return st;
}

/* ---- the archive -------------------------------------------------------------------------- */

enum sae_status sae_zip_open(struct sae_zip **out, int fd, uint64_t file_bytes, struct sae_err *err)
{
    enum sae_status st;
    struct sae_zip *z = sae_calloc(1, sizeof *z);

    if (!z)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate zip archive");
    z->fd = fd;
    z->file_bytes = file_bytes;
    st = sae_zip_read_directory(z, err);
    if (st == SAE_OK)
        st = index_names(z, err);
    if (st == SAE_OK)
        st = sae_zip_check_layout(z, err);
    if (st == SAE_OK)
        st = ask_libzip(z, err);
    if (st != SAE_OK) {
        sae_zip_close(z);
        return st;
    }
    *out = z;
    return SAE_OK;
}

void sae_zip_close(struct sae_zip *z)
{
    if (!z)
        return;
    sae_free(z->by_name);
    sae_free(z->entries);
    sae_free(z->names);
    sae_free(z);
}

bool sae_zip_has_crcs(const struct sae_zip *z)
{
    return z->has_crcs;
}

size_t sae_zip_count(const struct sae_zip *z)
{
    return z->n;
}

const struct sae_zip_entry *sae_zip_entry(const struct sae_zip *z, size_t i)
{
    return &z->entries[i];
}

void sae_zip_require_crcs(struct sae_zip *z)
{
    z->has_crcs = true;
}

const char *sae_zip_library(void)
{
    static char text[64];

    snprintf(text, sizeof text, "libzip %s, zlib %s", zip_libzip_version(), sae_zlib_version());
    return text;
}
