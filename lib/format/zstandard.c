/* zstandard.c - see zstandard.h. */
#include "lib/format/zstandard.h"

#include <zstd.h>
#include <zstd_errors.h>

#define WINDOW_LOG 23
_Static_assert(SAE_ZSTD_MAX_WINDOW == (uint64_t)1 << WINDOW_LOG, "one is the other's logarithm");

struct sae_unzstd {
    ZSTD_DCtx *d;
};

struct sae_unzstd *sae_unzstd_create(void)
{
    struct sae_unzstd *u = sae_calloc(1, sizeof *u);

    if (!u)
        return NULL;
    u->d = ZSTD_createDCtx();
    if (u->d && !ZSTD_isError(ZSTD_DCtx_setParameter(u->d, ZSTD_d_windowLogMax, WINDOW_LOG)))
        return u;
    sae_unzstd_free(u);
    return NULL;
}

void sae_unzstd_free(struct sae_unzstd *u)
{
    if (u)
        ZSTD_freeDCtx(u->d);
    sae_free(u);
}

enum sae_flow_end sae_unzstd_step(struct sae_unzstd *u, struct sae_flow *f)
{
    ZSTD_inBuffer in = {.src = f->in, .size = f->n_in};
    ZSTD_outBuffer out = {.dst = f->out, .size = f->n_out};
    const size_t left = ZSTD_decompressStream(u->d, &out, &in);

    f->in += in.pos;
    f->n_in -= in.pos;
    f->out += out.pos;
    f->n_out -= out.pos;
    switch (ZSTD_getErrorCode(left)) {
    case ZSTD_error_no_error:
        return left == 0 ? SAE_FLOW_DONE : SAE_FLOW_ON;
    case ZSTD_error_frameParameter_windowTooLarge:
        return SAE_FLOW_TOO_WIDE;
    case ZSTD_error_memory_allocation:
        return SAE_FLOW_NOMEM;
    default:
        return SAE_FLOW_DAMAGED;
    }
}

uint64_t sae_unzstd_bytes(const struct sae_unzstd *u)
{
    return sizeof *u + ZSTD_sizeof_DCtx(u->d);
}

#define PACK_LEVEL 1

bool sae_zstd_pack(const void *in, size_t n, void *out, size_t *n_out)
{
    const size_t packed = ZSTD_compress(out, *n_out, in, n, PACK_LEVEL);

    if (ZSTD_isError(packed))
        return false;
    *n_out = packed;
    return true;
}

const char *sae_zstd_version(void)
{
    return ZSTD_versionString();
}
