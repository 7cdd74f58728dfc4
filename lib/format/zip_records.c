/* zip_records.c - the records of a zip archive: end records, central directory, local headers.
 *
 * Layout as PKWARE's APPNOTE 6.3 gives it, narrowed to what torch.save, Python's zipfile and
 * numpy write: the records tile the file from byte 0 to the central directory, which is followed
 * by the end records and nothing else. Local headers may leave crc and sizes to a descriptor
 * behind the data (torch does), so the central directory is the authority and every other copy of
 * a value must agree with it. Called by zip.c while an archive is opened. */
#include "lib/format/zip_archive.h"

#include "lib/num.h"

#include <stdlib.h>
#include <string.h>

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
        return SAE_ZIP_BAD(err, "no room for a zip64 end record before offset %llu",
                           (unsigned long long)at);
    st = sae_zip_read_at(z, b, sizeof b, at - sizeof b, err);
    if (st != SAE_OK)
        return st;
    if (sae_le32(b) != SIG_END64 || sae_le64(b + 4) != END64_BYTES - 12 ||
        sae_le64(loc + 8) != at - sizeof b)
        return SAE_ZIP_BAD(err,
                           "its zip64 locator does not point to an end record right before it");
    if (sae_le32(loc + 4) != 0 || sae_le32(loc + 16) > 1 || sae_le32(b + 16) != 0 ||
        sae_le32(b + 20) != 0 || sae_le64(b + 24) != sae_le64(b + 32))
        return SAE_ZIP_BAD(err, "it spans several disks");
    if ((end->count != 0xffff && end->count != sae_le64(b + 32)) ||
        (end->size != 0xffffffff && end->size != sae_le64(b + 40)) ||
        (end->offset != 0xffffffff && end->offset != sae_le64(b + 48)))
        return SAE_ZIP_BAD(err, "its zip64 end record and its end record differ");
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
    st = sae_zip_read_at(z, b, n, z->file_bytes - n, err);
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
        return SAE_ZIP_BAD(
            err, "it has a comment, its last %zu bytes, in which others may see an archive",
            comment);
    return SAE_ZIP_BAD(err, "its last %d bytes are no end record (cut short, or bytes appended)",
                       END_BYTES);
}

static enum sae_status read_end(const struct sae_zip *z, struct end *end, struct sae_err *err)
{
    unsigned char b[LOCATOR64_BYTES + END_BYTES] = {0}, *e = b + LOCATOR64_BYTES;
    size_t n = z->file_bytes < sizeof b ? (size_t)z->file_bytes : sizeof b;
    enum sae_status st;

    if (z->file_bytes < END_BYTES)
        return SAE_ZIP_BAD(err, "%llu bytes are too few for one",
                           (unsigned long long)z->file_bytes);
    st = sae_zip_read_at(z, b + sizeof b - n, n, z->file_bytes - n, err);
    if (st != SAE_OK)
        return st;
    if (sae_le32(e) != SIG_END || sae_le16(e + 20) != 0)
        return no_end(z, err);
    if (sae_le16(e + 4) != 0 || sae_le16(e + 6) != 0 || sae_le16(e + 8) != sae_le16(e + 10))
        return SAE_ZIP_BAD(err, "it spans several disks");
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
        return SAE_ZIP_BAD(
            err,
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
        return SAE_ZIP_BAD_ENTRY(err, e->name, "it is encrypted (flags 0x%04x)", e->flags);
    if (e->flags & ~FLAGS_KNOWN)
        return SAE_ZIP_BAD_ENTRY(err, e->name, "flags 0x%04x, of which 0x%04x are known", e->flags,
                                 FLAGS_KNOWN);
    if (e->method == SAE_ZIP_STORED && e->packed_bytes != e->bytes)
        return SAE_ZIP_BAD_ENTRY(err, e->name, "stored, but of %llu bytes packed and %llu unpacked",
                                 (unsigned long long)e->packed_bytes, (unsigned long long)e->bytes);
    /* Deflate gives at most 1032 bytes for one: what claims more need not be unpacked to know. */
    if (e->method == SAE_ZIP_DEFLATED && e->bytes / 1032 > e->packed_bytes)
        return SAE_ZIP_BAD_ENTRY(err, e->name, "%llu packed bytes cannot give its %llu",
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
        return SAE_ZIP_BAD(err, "its central directory has no header %zu bytes before its end",
                           left);
    n_name = sae_le16(p + 28);
    n_extra = sae_le16(p + 30);
    n_comment = sae_le16(p + 32);
    if (n_name + n_extra + n_comment > left - CENTRAL_BYTES)
        return SAE_ZIP_BAD(err, "a header of its central directory ends behind the directory");
    *used = CENTRAL_BYTES + n_name + n_extra + n_comment;
    if (n_name == 0 || memchr(p + CENTRAL_BYTES, 0, n_name))
        return SAE_ZIP_BAD(err, "an entry's name of %zu bytes is empty or has a NUL", n_name);
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
        return SAE_ZIP_BAD_ENTRY(err, name, "it has a comment");
    if (sae_le16(p + 34) != 0)
        return SAE_ZIP_BAD_ENTRY(err, name, "it is on disk %u, 0 is the only one",
                                 sae_le16(p + 34));
    /* PyTorch's reader (miniz) takes no bytes from a folder, and leaves the memory as it was. */
    if ((sae_le32(p + 38) & ATTRIBUTE_FOLDER || name[n_name - 1] == '/') && e->bytes != 0)
        return SAE_ZIP_BAD_ENTRY(err, name, "it is marked as a folder and has bytes");
    if (!zip64_values(p + CENTRAL_BYTES + n_name, n_extra, &e->bytes, &e->packed_bytes, &e->header))
        return SAE_ZIP_BAD_ENTRY(err, name, "its zip64 field is missing or malformed");
    if (e->header > z->directory || e->packed_bytes > z->directory - e->header)
        return SAE_ZIP_BAD_ENTRY(
            err, name, "%llu bytes at offset %llu reach past the central directory at %llu",
            (unsigned long long)e->packed_bytes, (unsigned long long)e->header,
            (unsigned long long)z->directory);
    return check_flags(e, err);
}

static enum sae_status read_headers(struct sae_zip *z, size_t count, struct sae_err *err)
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
    st = sae_zip_read_at(z, bytes, left, z->directory, err);
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
        st = SAE_ZIP_BAD(err, "its central directory has %zu bytes more than its %zu entries", left,
                         count);
out:
    sae_free(bytes);
    return st;
}

enum sae_status sae_zip_read_directory(struct sae_zip *z, struct sae_err *err)
{
    struct end end = {0};
    enum sae_status st = read_end(z, &end, err);

    if (st != SAE_OK)
        return st;
    if (end.count > SAE_ZIP_MAX_ENTRIES || end.size > SAE_ZIP_MAX_DIRECTORY)
        return SAE_ZIP_BAD(err,
                           "%llu entries in %llu bytes of directory, at most %d in %llu are read",
                           (unsigned long long)end.count, (unsigned long long)end.size,
                           SAE_ZIP_MAX_ENTRIES, (unsigned long long)SAE_ZIP_MAX_DIRECTORY);
    z->directory = end.offset;
    z->directory_size = end.size;
    return read_headers(z, (size_t)end.count, err);
}

/* ---- local headers and layout ------------------------------------------------------------- */

/* The descriptor behind an entry's data, with 32- or 64-bit sizes; *used is its length. */
static enum sae_status check_descriptor(const struct sae_zip *z, const struct sae_zip_entry *e,
                                        uint64_t at, size_t *used, struct sae_err *err)
{
    unsigned char b[24] = {0};
    size_t n = z->directory - at < sizeof b ? (size_t)(z->directory - at) : sizeof b;
    enum sae_status st = sae_zip_read_at(z, b, n, at, err);

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
    return SAE_ZIP_BAD_ENTRY(err, e->name,
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
        return SAE_ZIP_BAD_ENTRY(err, e->name, "its header at offset %llu is cut by the directory",
                                 (unsigned long long)e->header);
    st = sae_zip_read_at(z, b, sizeof b, e->header, err);
    if (st != SAE_OK)
        return st;
    n_name = sae_le16(b + 26);
    n_extra = sae_le16(b + 28);
    if (sae_le32(b) != SIG_LOCAL)
        return SAE_ZIP_BAD_ENTRY(err, e->name, "no local header at offset %llu",
                                 (unsigned long long)e->header);
    if (n_name + n_extra > z->directory - e->header - LOCAL_BYTES ||
        e->packed_bytes > z->directory - e->header - LOCAL_BYTES - n_name - n_extra)
        return SAE_ZIP_BAD_ENTRY(err, e->name, "its %llu bytes reach past the central directory",
                                 (unsigned long long)e->packed_bytes);
    if (sae_buf_reserve(scratch, n_name + n_extra) != SAE_OK)
        return sae_err_set(err, SAE_E_NOMEM, e->name, "cannot allocate zip header: %zu bytes",
                           n_name + n_extra);
    st = sae_zip_read_at(z, scratch->data, n_name + n_extra, e->header + LOCAL_BYTES, err);
    if (st != SAE_OK)
        return st;
    if (n_name != strlen(e->name) || memcmp(scratch->data, e->name, n_name) != 0)
        return SAE_ZIP_BAD_ENTRY(err, e->name, "its local header has another name");
    extra = (const unsigned char *)scratch->data + n_name;
    if (sae_le16(b + 6) != e->flags || sae_le16(b + 8) != e->method ||
        !local_values_agree(b, extra, n_extra, e))
        return SAE_ZIP_BAD_ENTRY(err, e->name,
                                 "its local header differs from the central directory");
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

enum sae_status sae_zip_check_layout(struct sae_zip *z, struct sae_err *err)
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
            st = SAE_ZIP_BAD_ENTRY(
                err, order[i]->name, "at offset %llu it overlaps the entry %s, which ends at %llu",
                (unsigned long long)order[i]->header, order[i - 1]->name, (unsigned long long)end);
        else if (order[i]->header > end)
            st = SAE_ZIP_BAD_ENTRY(err, order[i]->name,
                                   "%llu bytes that belong to no entry before it",
                                   (unsigned long long)(order[i]->header - end));
        else
            st = check_local(z, order[i], &scratch, &end, err);
        if (st != SAE_OK)
            goto out;
    }
    if (end != z->directory)
        st = SAE_ZIP_BAD(err, "its entries end at offset %llu and its directory starts at %llu",
                         (unsigned long long)end, (unsigned long long)z->directory);
out:
    sae_buf_fini(&scratch);
    sae_free(order);
    return st;
}
