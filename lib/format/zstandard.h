/* zstandard.h - libzstd, which this alone knows: frames of RFC 8878, unpacked a step at a time,
 * packed at once.
 *
 * Called by coding.c. An unpacker is owned by one thread. */
#ifndef SAE_ZSTANDARD_H
#define SAE_ZSTANDARD_H

#include "lib/base.h"
#include "lib/format/flow.h"

#define SAE_ZSTD_MAX_WINDOW \
    ((uint64_t)8 << 20) /* what RFC 8878 (3.1.1.1.2) asks everybody to take */

struct sae_unzstd;

/* NULL: memory has run out. */
struct sae_unzstd *sae_unzstd_create(void) SAE_MUST_USE;
void sae_unzstd_free(struct sae_unzstd *u); /* NULL allowed */
/* Behind DONE the next step begins another frame. */
enum sae_flow_end sae_unzstd_step(struct sae_unzstd *u, struct sae_flow *f) SAE_MUST_USE;
/* What it takes in memory by now. */
uint64_t sae_unzstd_bytes(const struct sae_unzstd *u);

/* Pack n bytes as one frame into out, which has room for *n_out; then so many they are. False: they
 * do not fit, or memory has run out. */
bool sae_zstd_pack(const void *in, size_t n, void *out, size_t *n_out) SAE_MUST_USE;
#define SAE_ZSTD_PACKER_BYTES ((uint64_t)1 << 20) /* of level 1: window, tables, sequences */

const char *sae_zstd_version(void);

#endif
