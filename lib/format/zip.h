/* zip.h - a zip archive read strictly: what is listed is the only way to read the file.
 *
 * Two parsers must agree before an archive is opened: ours walks the raw central directory and
 * every local header, and libzip lists the same descriptor. Archives that two readers could see
 * differently are refused: bytes before the first or after the last record, gaps, overlaps, names
 * that occur twice (also but for case) or differ between the two headers, comments, encryption,
 * several disks. Called by the readers of archives (pt.c, numpy.c). Owned by one thread; reads by
 * pread only. */
#ifndef SAE_ZIP_H
#define SAE_ZIP_H

#include "lib/base.h"

#define SAE_ZIP_MAX_ENTRIES 100000
#define SAE_ZIP_MAX_DIRECTORY ((uint64_t)32 << 20) /* bytes */

enum { SAE_ZIP_STORED = 0, SAE_ZIP_DEFLATED = 8 }; /* the methods that are read */

struct sae_zip_entry {
    const char *name; /* borrowed from the archive; no NUL inside */
    uint64_t header;  /* offset of the local header */
    uint64_t data;    /* offset of the (perhaps compressed) bytes: data + packed_bytes <= file */
    uint64_t packed_bytes;
    uint64_t bytes; /* equal to packed_bytes when stored */
    uint32_t crc;   /* of the unpacked bytes */
    uint16_t method;
    uint16_t flags;
};

struct sae_zip; /* an open archive */

/* Read and check the directory of the archive in `fd`, which stays the caller's and must stay
 * open until sae_zip_close. On success *out is owned. SAE_E_FORMAT, SAE_E_IO, SAE_E_NOMEM. */
enum sae_status sae_zip_open(struct sae_zip **out, int fd, uint64_t file_bytes,
                             struct sae_err *err) SAE_MUST_USE;
void sae_zip_close(struct sae_zip *z); /* NULL allowed */

/* False: the archive was written without CRCs (all are 0), and bytes of entries are not verified.
 */
bool sae_zip_has_crcs(const struct sae_zip *z);
/* Verify them all the same: whoever wrote this archive always writes them. */
void sae_zip_require_crcs(struct sae_zip *z);

/* Entries in the order of the central directory. */
size_t sae_zip_count(const struct sae_zip *z);
const struct sae_zip_entry *sae_zip_entry(const struct sae_zip *z, size_t i);
/* NULL: no entry of that name. */
const struct sae_zip_entry *sae_zip_find(const struct sae_zip *z, const char *name);

/* An entry's bytes in order, unpacked. Its CRC, if the archive has any, is verified by the read
 * that takes the last byte, so nothing may be relied on before that read has returned SAE_OK.
 * Packed data is read in strips, and never beyond the declared size. */
struct sae_zip_stream {
    const struct sae_zip *z;
    const struct sae_zip_entry *e;
    uint64_t pos;
    uint32_t crc;                    /* of what was read */
    bool is_part;                    /* it is not verified here */
    struct sae_zip_inflate *inflate; /* of a deflated entry, once it is read */
};

void sae_zip_stream_init(struct sae_zip_stream *s, const struct sae_zip *z,
                         const struct sae_zip_entry *e);
/* From byte `pos` on of a stored entry, for who reads it in parts and verifies the CRC of them all
 * (sae_zip_stream_share). */
void sae_zip_stream_init_part(struct sae_zip_stream *s, const struct sae_zip *z,
                              const struct sae_zip_entry *e, uint64_t pos);
void sae_zip_stream_fini(struct sae_zip_stream *s);
/* What the bytes of a part have in the CRC of the entry: that is the exclusive or of all parts'. */
uint32_t sae_zip_stream_share(const struct sae_zip_stream *s);
/* The next n bytes; n <= e->bytes - pos. SAE_E_FORMAT: the method is none that is read, too. */
enum sae_status sae_zip_stream_read(struct sae_zip_stream *s, void *buf, size_t n,
                                    struct sae_err *err) SAE_MUST_USE;

/* All of an entry of at most `max` bytes, CRC verified. *out is owned (sae_free). */
enum sae_status sae_zip_slurp(const struct sae_zip *z, const struct sae_zip_entry *e, uint64_t max,
                              unsigned char **out, struct sae_err *err) SAE_MUST_USE;

/* The libraries behind it: "libzip 1.7.3, zlib 1.2.13". */
const char *sae_zip_library(void);

#endif
