/* sha256.c - see sha256.h. */
#include "lib/sha256.h"

#include <nettle/sha2.h>
#include <nettle/version.h>
#include <stdio.h>

_Static_assert(sizeof(struct sha256_ctx) <= sizeof(struct sae_sha256), "nettle's context fits");

const char *sae_sha256_library(void)
{
    static char text[32];

    snprintf(text, sizeof text, "nettle %d.%d", nettle_version_major(), nettle_version_minor());
    return text;
}

static struct sha256_ctx *context(struct sae_sha256 *h)
{
    return (struct sha256_ctx *)h->room;
}

void sae_sha256_init(struct sae_sha256 *h)
{
    sha256_init(context(h));
}

void sae_sha256_add(struct sae_sha256 *h, const void *p, size_t n)
{
    sha256_update(context(h), n, p);
}

void sae_sha256_end(struct sae_sha256 *h, unsigned char digest[SAE_SHA256_BYTES])
{
    sha256_digest(context(h), SAE_SHA256_BYTES, digest);
}

void sae_sha256_of(const void *p, size_t n, unsigned char digest[SAE_SHA256_BYTES])
{
    struct sae_sha256 h;

    sae_sha256_init(&h);
    sae_sha256_add(&h, p, n);
    sae_sha256_end(&h, digest);
}

void sae_sha256_hex(const unsigned char digest[SAE_SHA256_BYTES], char hex[SAE_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < SAE_SHA256_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * SAE_SHA256_BYTES] = '\0';
}
