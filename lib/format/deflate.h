/* deflate.h - zlib, which this alone knows: deflated data bare and as gzip, and CRC-32.
 *
 * Called by zip_stream.c and coding.c. An unpacker is owned by one thread. RFC 1951, 1952. */
#ifndef SAE_DEFLATE_H
#define SAE_DEFLATE_H

#include "lib/base.h"
#include "lib/format/flow.h"

struct sae_inflate;
enum sae_inflate_kind { SAE_INFLATE_BARE, SAE_INFLATE_GZIP };

/* NULL: memory has run out. */
struct sae_inflate *sae_inflate_create(enum sae_inflate_kind kind) SAE_MUST_USE;
void sae_inflate_free(struct sae_inflate *i); /* NULL allowed */
/* Behind DONE the next step begins another member, of gzip. */
enum sae_flow_end sae_inflate_step(struct sae_inflate *i, struct sae_flow *f) SAE_MUST_USE;
/* What it takes in memory at most. */
#define SAE_INFLATE_BYTES ((uint64_t)64 << 10)

/* Pack n bytes as one member of gzip into out, which has room for *n_out; then so many they are.
 * False: they do not fit, or memory has run out. */
bool sae_gzip_pack(const void *in, size_t n, void *out, size_t *n_out) SAE_MUST_USE;
#define SAE_GZIP_PACKER_BYTES ((uint64_t)272 << 10) /* zconf.h: 256 KB and some */

uint32_t sae_crc32(uint32_t crc, const void *p, size_t n);
/* What bytes of this CRC have in that of all, when n more follow them: the exclusive or of them is
 * that. */
uint32_t sae_crc32_before(uint32_t crc, uint64_t n);
const char *sae_zlib_version(void);

#endif
