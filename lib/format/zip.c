/* zip.c - strict reading of zip archives. See zip.h.
 *
 * Layout as PKWARE's APPNOTE 6.3 gives it, narrowed to what torch.save, Python's zipfile and
 * numpy write: the records tile the file from byte 0 to the central directory, which is followed
 * by the end records and nothing else. Local headers may leave crc and sizes to a descriptor
 * behind the data (torch does), so the central directory is the authority and every other copy of
 * a value must agree with it. Longer than most files: one format, checked in one pass over it. */
#include "lib/format/zip.h"

#include "lib/format/deflate.h"
#include "lib/format/fd.h"
#include "lib/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

enum {
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    LOCATOR64_BYTES = 20,
    END64_BYTES = 56,
};
#define SIG_LOCAL 0x04034b50u
#define SIG_CENTRAL 0x02014b50u
#define SIG_END 0x06054b50u
#define SIG_LOCATOR64 0x07064b50u
#define SIG_END64 0x06064b50u
#define SIG_DESCRIPTOR 0x08074b50u

enum {
    FLAG_DEFLATE_LEVEL = 3 << 1,
    FLAG_DESCRIPTOR = 1 << 3,
    FLAG_UTF8 = 1 << 11,
    FLAGS_KNOWN = FLAG_DEFLATE_LEVEL | FLAG_DESCRIPTOR | FLAG_UTF8,
    FLAGS_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13,
};
#define ATTRIBUTE_FOLDER 0x10u /* of the external ones, as MS-DOS has them */

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

static enum sae_status read_at(const struct sae_zip *z, void *buf, size_t n, uint64_t off,
                               struct sae_err *err)
{
    return sae_fd_read(z->fd, z->file_bytes, off, buf, n, err);
}

#define BAD(err, ...) \
    sae_err_set(err, SAE_E_FORMAT, "file", "cannot read zip archive: " __VA_ARGS__)
#define BAD_ENTRY(err, name, fmt, ...) \
    sae_err_set(err, SAE_E_FORMAT, name, "cannot read zip entry %.100s: " fmt, name, ##__VA_ARGS__)

/* ---- end records -------------------------------------------------------------------------- */

struct end {
    uint64_t count, size, offset; /* entries, bytes and offset of the central directory */
    uint64_t start;               /* offset of the first end record */
};

/* The zip64 end record and its locator, in front of the plain one at `at`. */
static enum sae_status read_end64(const struct sae_zip *z, uint64_t at, struct end *end,
                                  struct sae_err *err)
{
    unsigned char b[END64_BYTES + LOCATOR64_BYTES];
    const unsigned char *loc = b + END64_BYTES;
    enum sae_status st;

    if (at < sizeof b)
        return BAD(err, "no room for a zip64 end record before offset %llu",
                   (unsigned long long)at);
    st = read_at(z, b, sizeof b, at - sizeof b, err);
    if (st != SAE_OK)
        return st;
    if (sae_le32(b) != SIG_END64 || sae_le64(b + 4) != END64_BYTES - 12 ||
        sae_le64(loc + 8) != at - sizeof b)
        return BAD(err, "its zip64 locator does not point to an end record right before it");
    if (sae_le32(loc + 4) != 0 || sae_le32(loc + 16) > 1 || sae_le32(b + 16) != 0 ||
        sae_le32(b + 20) != 0 || sae_le64(b + 24) != sae_le64(b + 32))
        return BAD(err, "it spans several disks");
    if ((end->count != 0xffff && end->count != sae_le64(b + 32)) ||
        (end->size != 0xffffffff && end->size != sae_le64(b + 40)) ||
        (end->offset != 0xffffffff && end->offset != sae_le64(b + 48)))
        return BAD(err, "its zip64 end record and its end record differ");
    end->count = sae_le64(b + 32);
    end->size = sae_le64(b + 40);
    end->offset = sae_le64(b + 48);
    end->start = at - sizeof b;
    return SAE_OK;
}

/* The file ends in `comment` bytes that an end record in front of them calls its comment. */
static enum sae_status has_comment(const struct sae_zip *z, size_t *comment, struct sae_err *err)
{
    size_t n = z->file_bytes < END_BYTES + 65535 ? (size_t)z->file_bytes : END_BYTES + 65535;
    unsigned char *b = sae_alloc(n, 1);
    enum sae_status st;

    *comment = 0;
    if (!b)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate zip comment: %zu bytes", n);
    st = read_at(z, b, n, z->file_bytes - n, err);
    for (size_t at = 0; st == SAE_OK && *comment == 0 && at + END_BYTES < n; at++)
        if (sae_le32(b + at) == SIG_END && sae_le16(b + at + 20) == n - at - END_BYTES)
            *comment = n - at - END_BYTES;
    sae_free(b);
    return st;
}

static enum sae_status no_end(const struct sae_zip *z, struct sae_err *err)
{
    size_t comment;
    enum sae_status st = has_comment(z, &comment, err);

    if (st != SAE_OK)
        return st;
    if (comment)
        return BAD(err, "it has a comment, its last %zu bytes, in which others may see an archive",
                   comment);
    return BAD(err, "its last %d bytes are no end record (cut short, or bytes appended)",
               END_BYTES);
}

static enum sae_status read_end(const struct sae_zip *z, struct end *end, struct sae_err *err)
{
    unsigned char b[LOCATOR64_BYTES + END_BYTES] = {0}, *e = b + LOCATOR64_BYTES;
    size_t n = z->file_bytes < sizeof b ? (size_t)z->file_bytes : sizeof b;
    enum sae_status st;

    if (z->file_bytes < END_BYTES)
        return BAD(err, "%llu bytes are too few for one", (unsigned long long)z->file_bytes);
    st = read_at(z, b + sizeof b - n, n, z->file_bytes - n, err);
    if (st != SAE_OK)
        return st;
    if (sae_le32(e) != SIG_END || sae_le16(e + 20) != 0)
        return no_end(z, err);
    if (sae_le16(e + 4) != 0 || sae_le16(e + 6) != 0 || sae_le16(e + 8) != sae_le16(e + 10))
        return BAD(err, "it spans several disks");
    end->count = sae_le16(e + 10);
    end->size = sae_le32(e + 12);
    end->offset = sae_le32(e + 16);
    end->start = z->file_bytes - END_BYTES;
    if (sae_le32(b) == SIG_LOCATOR64) {
        st = read_end64(z, end->start, end, err);
        if (st != SAE_OK)
            return st;
    }
    if (end->size > end->start || end->offset != end->start - end->size)
        return BAD(err,
                   "a central directory of %llu bytes at offset %llu does not end where the end "
                   "record starts, at %llu (bytes before or after the archive?)",
                   (unsigned long long)end->size, (unsigned long long)end->offset,
                   (unsigned long long)end->start);
    return SAE_OK;
}

/* ---- central directory -------------------------------------------------------------------- */

/* Fill those of the values that hold the 32-bit sentinel from the zip64 extra field, in its fixed
 * order; the pointers may be NULL. False: a sentinel without its value, or a malformed field. */
static bool zip64_values(const unsigned char *extra, size_t n, uint64_t *bytes,
                         uint64_t *packed_bytes, uint64_t *header)
{
    uint64_t *wanted[] = {bytes, packed_bytes, header};
    bool missing = false, seen = false;

    for (size_t i = 0; i < SAE_COUNTOF(wanted); i++)
        missing |= wanted[i] && *wanted[i] == 0xffffffff;
    for (size_t at = 0; at < n;) {
        if (n - at < 4 || sae_le16(extra + at + 2) > n - at - 4)
            return false;
        size_t len = sae_le16(extra + at + 2);
        const unsigned char *v = extra + at + 4;

        if (sae_le16(extra + at) == 0x0001) {
            if (seen)
                return false;
            seen = true;
            for (size_t i = 0; i < SAE_COUNTOF(wanted); i++) {
                if (!wanted[i] || *wanted[i] != 0xffffffff)
                    continue;
                if (len < 8)
                    return false;
                *wanted[i] = sae_le64(v);
                v += 8;
                len -= 8;
            }
        }
        at += 4 + (size_t)sae_le16(extra + at + 2);
    }
    return seen || !missing;
}

static enum sae_status check_flags(const struct sae_zip_entry *e, struct sae_err *err)
{
    if (e->flags & FLAGS_ENCRYPTED)
        return BAD_ENTRY(err, e->name, "it is encrypted (flags 0x%04x)", e->flags);
    if (e->flags & ~FLAGS_KNOWN)
        return BAD_ENTRY(err, e->name, "flags 0x%04x, of which 0x%04x are known", e->flags,
                         FLAGS_KNOWN);
    if (e->method == SAE_ZIP_STORED && e->packed_bytes != e->bytes)
        return BAD_ENTRY(err, e->name, "stored, but of %llu bytes packed and %llu unpacked",
                         (unsigned long long)e->packed_bytes, (unsigned long long)e->bytes);
    /* Deflate gives at most 1032 bytes for one: what claims more need not be unpacked to know. */
    if (e->method == SAE_ZIP_DEFLATED && e->bytes / 1032 > e->packed_bytes)
        return BAD_ENTRY(err, e->name, "%llu packed bytes cannot give its %llu",
                         (unsigned long long)e->packed_bytes, (unsigned long long)e->bytes);
    return SAE_OK;
}

/* One central header at p, of which `left` bytes remain; *used is its length. The name is copied
 * to `name`, which has room for it. */
static enum sae_status read_central(const struct sae_zip *z, const unsigned char *p, size_t left,
                                    char *name, struct sae_zip_entry *e, size_t *used,
                                    struct sae_err *err)
{
    size_t n_name, n_extra, n_comment;

    if (left < CENTRAL_BYTES || sae_le32(p) != SIG_CENTRAL)
        return BAD(err, "its central directory has no header %zu bytes before its end", left);
    n_name = sae_le16(p + 28);
    n_extra = sae_le16(p + 30);
    n_comment = sae_le16(p + 32);
    if (n_name + n_extra + n_comment > left - CENTRAL_BYTES)
        return BAD(err, "a header of its central directory ends behind the directory");
    *used = CENTRAL_BYTES + n_name + n_extra + n_comment;
    if (n_name == 0 || memchr(p + CENTRAL_BYTES, 0, n_name))
        return BAD(err, "an entry's name of %zu bytes is empty or has a NUL", n_name);
    memcpy(name, p + CENTRAL_BYTES, n_name);
    name[n_name] = '\0';
    *e = (struct sae_zip_entry){
        .name = name,
        .flags = sae_le16(p + 8),
        .method = sae_le16(p + 10),
        .crc = sae_le32(p + 16),
        .packed_bytes = sae_le32(p + 20),
        .bytes = sae_le32(p + 24),
        .header = sae_le32(p + 42),
    };
    if (n_comment != 0)
        return BAD_ENTRY(err, name, "it has a comment");
    if (sae_le16(p + 34) != 0)
        return BAD_ENTRY(err, name, "it is on disk %u, 0 is the only one", sae_le16(p + 34));
    /* PyTorch's reader (miniz) takes no bytes from a folder, and leaves the memory as it was. */
    if ((sae_le32(p + 38) & ATTRIBUTE_FOLDER || name[n_name - 1] == '/') && e->bytes != 0)
        return BAD_ENTRY(err, name, "it is marked as a folder and has bytes");
    if (!zip64_values(p + CENTRAL_BYTES + n_name, n_extra, &e->bytes, &e->packed_bytes, &e->header))
        return BAD_ENTRY(err, name, "its zip64 field is missing or malformed");
    if (e->header > z->directory || e->packed_bytes > z->directory - e->header)
        return BAD_ENTRY(err, name,
                         "%llu bytes at offset %llu reach past the central directory at %llu",
                         (unsigned long long)e->packed_bytes, (unsigned long long)e->header,
                         (unsigned long long)z->directory);
    return check_flags(e, err);
}

static enum sae_status read_directory(struct sae_zip *z, size_t count, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    size_t left = (size_t)z->directory_size, used = 0;
    unsigned char *bytes = sae_alloc(left, 1), *p = bytes;
    char *name;

    /* Each name is shorter than its header, so with a NUL it still fits where that was. */
    z->names = sae_alloc(left, 1);
    z->entries = sae_calloc(count, sizeof *z->entries);
    if (!bytes || !z->names || !z->entries) {
        st = sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate zip directory: %zu entries",
                         count);
        goto out;
    }
    st = read_at(z, bytes, left, z->directory, err);
    name = z->names;
    for (z->n = 0; st == SAE_OK && z->n < count; z->n++) {
        struct sae_zip_entry *e = &z->entries[z->n];

        st = read_central(z, p, left, name, e, &used, err);
        if (st != SAE_OK)
            goto out;
        z->has_crcs |= e->crc != 0;
        name += strlen(name) + 1;
        p += used;
        left -= used;
    }
    if (st == SAE_OK && left != 0)
        st = BAD(err, "its central directory has %zu bytes more than its %zu entries", left, count);
out:
    sae_free(bytes);
    return st;
}

/* ---- local headers and layout ------------------------------------------------------------- */

/* The descriptor behind an entry's data, with 32- or 64-bit sizes; *used is its length. */
static enum sae_status check_descriptor(const struct sae_zip *z, const struct sae_zip_entry *e,
                                        uint64_t at, size_t *used, struct sae_err *err)
{
    unsigned char b[24] = {0};
    size_t n = z->directory - at < sizeof b ? (size_t)(z->directory - at) : sizeof b;
    enum sae_status st = read_at(z, b, n, at, err);

    if (st != SAE_OK)
        return st;
    if (sae_le32(b) == SIG_DESCRIPTOR && sae_le32(b + 4) == e->crc) {
        *used = 24;
        if (n >= 24 && sae_le64(b + 8) == e->packed_bytes && sae_le64(b + 16) == e->bytes)
            return SAE_OK;
        *used = 16;
        if (n >= 16 && sae_le32(b + 8) == e->packed_bytes && sae_le32(b + 12) == e->bytes)
            return SAE_OK;
    }
    return BAD_ENTRY(err, e->name,
                     "the descriptor behind its data differs from the central directory");
}

/* Crc and sizes of the local header at b: the central ones, or left to the descriptor. */
static bool local_values_agree(const unsigned char *b, const unsigned char *extra, size_t n_extra,
                               const struct sae_zip_entry *e)
{
    uint32_t crc = sae_le32(b + 14);
    uint64_t packed_bytes = sae_le32(b + 18), bytes = sae_le32(b + 22);

    if (!zip64_values(extra, n_extra, &bytes, &packed_bytes, NULL))
        return false;
    if ((e->flags & FLAG_DESCRIPTOR) && crc == 0 && packed_bytes == 0 && bytes == 0)
        return true;
    return crc == e->crc && packed_bytes == e->packed_bytes && bytes == e->bytes;
}

/* Compare e's local header with the central one, set e->data, and give the offset where the
 * entry ends, descriptor included. */
static enum sae_status check_local(const struct sae_zip *z, struct sae_zip_entry *e,
                                   struct sae_buf *scratch, uint64_t *end, struct sae_err *err)
{
    unsigned char b[LOCAL_BYTES];
    const unsigned char *extra;
    size_t n_name, n_extra, n_descriptor = 0;
    enum sae_status st;

    if (z->directory - e->header < LOCAL_BYTES)
        return BAD_ENTRY(err, e->name, "its header at offset %llu is cut by the directory",
                         (unsigned long long)e->header);
    st = read_at(z, b, sizeof b, e->header, err);
    if (st != SAE_OK)
        return st;
    n_name = sae_le16(b + 26);
    n_extra = sae_le16(b + 28);
    if (sae_le32(b) != SIG_LOCAL)
        return BAD_ENTRY(err, e->name, "no local header at offset %llu",
                         (unsigned long long)e->header);
    if (n_name + n_extra > z->directory - e->header - LOCAL_BYTES ||
        e->packed_bytes > z->directory - e->header - LOCAL_BYTES - n_name - n_extra)
        return BAD_ENTRY(err, e->name, "its %llu bytes reach past the central directory",
                         (unsigned long long)e->packed_bytes);
    if (sae_buf_reserve(scratch, n_name + n_extra) != SAE_OK)
        return sae_err_set(err, SAE_E_NOMEM, e->name, "cannot allocate zip header: %zu bytes",
                           n_name + n_extra);
    st = read_at(z, scratch->data, n_name + n_extra, e->header + LOCAL_BYTES, err);
    if (st != SAE_OK)
        return st;
    if (n_name != strlen(e->name) || memcmp(scratch->data, e->name, n_name) != 0)
        return BAD_ENTRY(err, e->name, "its local header has another name");
    extra = (const unsigned char *)scratch->data + n_name;
    if (sae_le16(b + 6) != e->flags || sae_le16(b + 8) != e->method ||
        !local_values_agree(b, extra, n_extra, e))
        return BAD_ENTRY(err, e->name, "its local header differs from the central directory");
    e->data = e->header + LOCAL_BYTES + n_name + n_extra;
    if (e->flags & FLAG_DESCRIPTOR) {
        st = check_descriptor(z, e, e->data + e->packed_bytes, &n_descriptor, err);
        if (st != SAE_OK)
            return st;
    }
    *end = e->data + e->packed_bytes + n_descriptor;
    return SAE_OK;
}

static int compare_header(const void *a, const void *b)
{
    const struct sae_zip_entry *const *x = a, *const *y = b;

    return ((*x)->header > (*y)->header) - ((*x)->header < (*y)->header);
}

/* The entries must tile the file from 0 to the central directory. */
static enum sae_status check_layout(struct sae_zip *z, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    struct sae_zip_entry **order = sae_calloc(z->n, sizeof(struct sae_zip_entry *));
    struct sae_buf scratch;
    uint64_t end = 0;

    sae_buf_init(&scratch, (size_t)2 * 65535); /* the longest name and extra fields */
    if (!order) {
        st = sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate zip layout: %zu entries", z->n);
        goto out;
    }
    for (size_t i = 0; i < z->n; i++)
        order[i] = &z->entries[i];
    qsort(order, z->n, sizeof(struct sae_zip_entry *), compare_header);
    for (size_t i = 0; i < z->n; i++) {
        if (order[i]->header < end)
            st = BAD_ENTRY(
                err, order[i]->name, "at offset %llu it overlaps the entry %s, which ends at %llu",
                (unsigned long long)order[i]->header, order[i - 1]->name, (unsigned long long)end);
        else if (order[i]->header > end)
            st = BAD_ENTRY(err, order[i]->name, "%llu bytes that belong to no entry before it",
                           (unsigned long long)(order[i]->header - end));
        else
            st = check_local(z, order[i], &scratch, &end, err);
        if (st != SAE_OK)
            goto out;
    }
    if (end != z->directory)
        st = BAD(err, "its entries end at offset %llu and its directory starts at %llu",
                 (unsigned long long)end, (unsigned long long)z->directory);
out:
    sae_buf_fini(&scratch);
    sae_free(order);
    return st;
}

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
            return BAD_ENTRY(err, name, "two entries have this name");
        /* One name to readers that do not heed case, as PyTorch's. */
        if (strcasecmp(before, name) == 0)
            return BAD_ENTRY(err, name, "another entry is called %s, the same but for case",
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
        st = BAD(err, "libzip sees %lld entries, its directory has %zu",
                 (long long)zip_get_num_entries(lib, 0), z->n);
    for (size_t i = 0; st == SAE_OK && i < z->n; i++)
        if (!same_entry(lib, i, &z->entries[i]))
            st = BAD_ENTRY(err, z->entries[i].name, "libzip reads this entry otherwise");
    zip_discard(lib);
    return st;
}

/* ---- the archive -------------------------------------------------------------------------- */

enum sae_status sae_zip_open(struct sae_zip **out, int fd, uint64_t file_bytes, struct sae_err *err)
{
    struct end end = {0};
    enum sae_status st;
    struct sae_zip *z = sae_calloc(1, sizeof *z);

    if (!z)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate zip archive");
    z->fd = fd;
    z->file_bytes = file_bytes;
    st = read_end(z, &end, err);
    if (st != SAE_OK)
        goto out;
    if (end.count > SAE_ZIP_MAX_ENTRIES || end.size > SAE_ZIP_MAX_DIRECTORY) {
        st = BAD(err, "%llu entries in %llu bytes of directory, at most %d in %llu are read",
                 (unsigned long long)end.count, (unsigned long long)end.size, SAE_ZIP_MAX_ENTRIES,
                 (unsigned long long)SAE_ZIP_MAX_DIRECTORY);
        goto out;
    }
    z->directory = end.offset;
    z->directory_size = end.size;
    st = read_directory(z, (size_t)end.count, err);
    if (st == SAE_OK)
        st = index_names(z, err);
    if (st == SAE_OK)
        st = check_layout(z, err);
    if (st == SAE_OK)
        st = ask_libzip(z, err);
    if (st != SAE_OK)
        goto out;
    *out = z;
    z = NULL;
out:
    sae_zip_close(z);
    return st;
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

/* ---- bytes of an entry -------------------------------------------------------------------- */

#define PIECE ((size_t)256 << 10) /* what pread brings is still in L2 for the CRC */

struct sae_zip_inflate {
    struct sae_inflate *z;
    struct sae_flow flow; /* its input: what is left of `packed` */
    uint64_t taken;       /* of the packed bytes */
    bool is_done;
    unsigned char packed[64 << 10];
};

static enum sae_status begin_inflate(struct sae_zip_stream *s, struct sae_err *err)
{
    struct sae_zip_inflate *i = s->inflate = sae_calloc(1, sizeof *i);

    if (i)
        i->z = sae_inflate_create(SAE_INFLATE_BARE);
    if (!i || !i->z)
        return sae_err_set(err, SAE_E_NOMEM, s->e->name, "cannot allocate buffers to unpack %.100s",
                           s->e->name);
    return SAE_OK;
}

/* More packed bytes, when zlib has used up what it has. */
static enum sae_status refill(struct sae_zip_stream *s, struct sae_err *err)
{
    struct sae_zip_inflate *i = s->inflate;
    uint64_t left = s->e->packed_bytes - i->taken;
    size_t n = left < sizeof i->packed ? (size_t)left : sizeof i->packed;
    enum sae_status st;

    if (i->flow.n_in > 0 || n == 0)
        return SAE_OK;
    st = read_at(s->z, i->packed, n, s->e->data + i->taken, err);
    i->taken += n;
    i->flow.in = i->packed;
    i->flow.n_in = n;
    return st;
}

/* n bytes of a deflated entry, or, for n of 0, its end: all packed bytes are used, and none comes
 * out of them any more. */
static enum sae_status unpack(struct sae_zip_stream *s, unsigned char *p, size_t n,
                              struct sae_err *err)
{
    unsigned char surplus;
    bool last = n == 0;
    struct sae_flow *f = &s->inflate->flow;

    f->out = last ? &surplus : p;
    f->n_out = last ? 1 : n;
    while (!s->inflate->is_done && f->n_out > 0) {
        const size_t out = f->n_out;
        enum sae_status st = refill(s, err);
        enum sae_flow_end end;
        size_t in;

        if (st != SAE_OK)
            return st;
        in = f->n_in;
        end = sae_inflate_step(s->inflate->z, f);
        if (end == SAE_FLOW_NOMEM)
            return sae_err_set(err, SAE_E_NOMEM, s->e->name, "cannot allocate buffers to unpack");
        s->inflate->is_done = end == SAE_FLOW_DONE;
        if (end != SAE_FLOW_DONE && end != SAE_FLOW_ON)
            return BAD_ENTRY(err, s->e->name, "its packed data is damaged at byte %llu of %llu",
                             (unsigned long long)s->pos, (unsigned long long)s->e->bytes);
        if (end == SAE_FLOW_ON && f->n_in == in && f->n_out == out) /* no byte in, none out: cut */
            return BAD_ENTRY(err, s->e->name,
                             "its packed data ends before its %llu bytes are there",
                             (unsigned long long)s->e->bytes);
    }
    if (last && (f->n_out == 0 || f->n_in > 0 || s->inflate->taken < s->e->packed_bytes))
        return BAD_ENTRY(err, s->e->name, "its packed data goes on behind its %llu bytes",
                         (unsigned long long)s->e->bytes);
    if (!last && f->n_out > 0)
        return BAD_ENTRY(err, s->e->name, "its packed data ends before its %llu bytes are there",
                         (unsigned long long)s->e->bytes);
    return SAE_OK;
}

void sae_zip_stream_init(struct sae_zip_stream *s, const struct sae_zip *z,
                         const struct sae_zip_entry *e)
{
    *s = (struct sae_zip_stream){.z = z, .e = e};
}

void sae_zip_stream_init_part(struct sae_zip_stream *s, const struct sae_zip *z,
                              const struct sae_zip_entry *e, uint64_t pos)
{
    *s = (struct sae_zip_stream){.z = z, .e = e, .pos = pos, .is_part = true};
}

uint32_t sae_zip_stream_share(const struct sae_zip_stream *s)
{
    return sae_crc32_before(s->crc, s->e->bytes - s->pos);
}

void sae_zip_stream_fini(struct sae_zip_stream *s)
{
    if (s->inflate)
        sae_inflate_free(s->inflate->z);
    sae_free(s->inflate);
    s->inflate = NULL;
}

static enum sae_status read_some(struct sae_zip_stream *s, unsigned char *p, size_t n,
                                 struct sae_err *err)
{
    if (s->e->method == SAE_ZIP_DEFLATED)
        return unpack(s, p, n, err);
    return read_at(s->z, p, n, s->e->data + s->pos, err);
}

/* What may be said of the entry once its last byte is read. */
static enum sae_status check_end(struct sae_zip_stream *s, struct sae_err *err)
{
    enum sae_status st = s->e->method == SAE_ZIP_DEFLATED ? unpack(s, NULL, 0, err) : SAE_OK;

    if (st != SAE_OK)
        return st;
    if (s->z->has_crcs && !s->is_part && s->crc != s->e->crc)
        return BAD_ENTRY(err, s->e->name, "the CRC of its bytes is %08x, %08x is recorded",
                         (unsigned)s->crc, (unsigned)s->e->crc);
    return SAE_OK;
}

enum sae_status sae_zip_stream_read(struct sae_zip_stream *s, void *buf, size_t n,
                                    struct sae_err *err)
{
    const struct sae_zip_entry *e = s->e;
    unsigned char *p = buf;
    enum sae_status st = SAE_OK;

    if (e->method != SAE_ZIP_STORED && e->method != SAE_ZIP_DEFLATED)
        return BAD_ENTRY(err, e->name, "its method is %u, stored (0) and deflated (8) are read",
                         e->method);
    if (n > e->bytes - s->pos)
        return BAD_ENTRY(err, e->name, "%zu bytes asked at %llu of its %llu", n,
                         (unsigned long long)s->pos, (unsigned long long)e->bytes);
    if (e->method == SAE_ZIP_DEFLATED && !s->inflate)
        st = begin_inflate(s, err);
    while (st == SAE_OK && n > 0) {
        size_t now = n < PIECE ? n : PIECE;

        st = read_some(s, p, now, err);
        if (st != SAE_OK)
            break;
        s->crc = sae_crc32(s->crc, p, now);
        s->pos += now;
        p += now;
        n -= now;
    }
    return st == SAE_OK && s->pos == e->bytes ? check_end(s, err) : st;
}

enum sae_status sae_zip_slurp(const struct sae_zip *z, const struct sae_zip_entry *e, uint64_t max,
                              unsigned char **out, struct sae_err *err)
{
    struct sae_zip_stream s;
    unsigned char *p;
    enum sae_status st;

    if (e->bytes > max)
        return BAD_ENTRY(err, e->name, "%llu bytes, at most %llu are read",
                         (unsigned long long)e->bytes, (unsigned long long)max);
    p = sae_alloc((size_t)e->bytes, 1);
    if (!p)
        return sae_err_set(err, SAE_E_NOMEM, e->name, "cannot allocate zip entry: %llu bytes",
                           (unsigned long long)e->bytes);
    sae_zip_stream_init(&s, z, e);
    st = sae_zip_stream_read(&s, p, (size_t)e->bytes, err);
    sae_zip_stream_fini(&s);
    if (st != SAE_OK) {
        sae_free(p);
        return st;
    }
    *out = p;
    return SAE_OK;
}

const char *sae_zip_library(void)
{
    static char text[64];

    snprintf(text, sizeof text, "libzip %s, zlib %s", zip_libzip_version(), sae_zlib_version());
    return text;
}
