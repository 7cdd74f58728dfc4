/* sha256.h - SHA-256 of bytes as they come, and its digest as hex.
 *
 * nettle's, which libmicrohttpd's GnuTLS brings along: it takes the CPU's own instructions where
 * there are some. No state but the caller's, any thread. */
#ifndef SAE_SHA256_H
#define SAE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SAE_SHA256_BYTES 32
#define SAE_SHA256_HEX (2 * SAE_SHA256_BYTES + 1) /* with a NUL */

struct sae_sha256 {
    uint64_t room[16]; /* nettle's context */
};

void sae_sha256_init(struct sae_sha256 *h);
void sae_sha256_add(struct sae_sha256 *h, const void *p, size_t n);
/* *h is as init left it then. */
void sae_sha256_end(struct sae_sha256 *h, unsigned char digest[SAE_SHA256_BYTES]);
/* All in one. */
void sae_sha256_of(const void *p, size_t n, unsigned char digest[SAE_SHA256_BYTES]);
/* "nettle 3.8" */
const char *sae_sha256_library(void);
void sae_sha256_hex(const unsigned char digest[SAE_SHA256_BYTES], char hex[SAE_SHA256_HEX]);

#endif
