/* deflate.c - see deflate.h. */
#include "lib/format/deflate.h"

#define ZLIB_CONST /* of what is read */
#include <zlib.h>

#define MOST_AT_ONCE ((size_t)1 << 30) /* zlib counts in 32 bits */

struct sae_inflate {
    z_stream z;
    bool is_done; /* a member is */
};

static void *allocate(void *opaque, uInt n, uInt size)
{
    (void)opaque;
    return sae_calloc(n, size);
}

static void release(void *opaque, void *p)
{
    (void)opaque;
    sae_free(p);
}

static uInt at_once(size_t n)
{
    return (uInt)(n < MOST_AT_ONCE ? n : MOST_AT_ONCE);
}

struct sae_inflate *sae_inflate_create(enum sae_inflate_kind kind)
{
    static const int bits[] = {
        [SAE_INFLATE_BARE] = -MAX_WBITS, [SAE_INFLATE_GZIP] = MAX_WBITS + 16};
    struct sae_inflate *i = sae_calloc(1, sizeof *i);

    if (!i)
        return NULL;
    i->z.zalloc = allocate;
    i->z.zfree = release;
    if (inflateInit2(&i->z, bits[kind]) == Z_OK)
        return i;
    sae_free(i);
    return NULL;
}

void sae_inflate_free(struct sae_inflate *i)
{
    if (i)
        inflateEnd(&i->z);
    sae_free(i);
}

enum sae_flow_end sae_inflate_step(struct sae_inflate *i, struct sae_flow *f)
{
    z_stream *z = &i->z;
    int code;

    if (i->is_done)
        inflateReset(z);
    i->is_done = false;
    z->next_in = f->in;
    z->avail_in = at_once(f->n_in);
    z->next_out = f->out;
    z->avail_out = at_once(f->n_out);
    code = inflate(z, Z_NO_FLUSH);
    f->n_in -= (size_t)(z->next_in - f->in);
    f->in = z->next_in;
    f->n_out -= (size_t)(z->next_out - f->out);
    f->out = z->next_out;
    if (code == Z_STREAM_END) {
        i->is_done = true;
        return SAE_FLOW_DONE;
    }
    if (code == Z_MEM_ERROR)
        return SAE_FLOW_NOMEM;
    return code == Z_OK || code == Z_BUF_ERROR ? SAE_FLOW_ON : SAE_FLOW_DAMAGED;
}

/* Digits pack no better for trying: level 6 takes four times as long for a tenth less. */
#define PACK_LEVEL 1
#define MEM_LEVEL 8 /* zlib's own */

bool sae_gzip_pack(const void *in, size_t n, void *out, size_t *n_out)
{
    z_stream z = {.zalloc = allocate, .zfree = release};
    size_t left = n, room = *n_out;
    int code = Z_OK;

    if (deflateInit2(&z, PACK_LEVEL, Z_DEFLATED, MAX_WBITS + 16, MEM_LEVEL, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        return false;
    z.next_in = in;
    z.next_out = out;
    while (code == Z_OK && (room > 0 || z.avail_out > 0)) {
        if (z.avail_in == 0) {
            z.avail_in = at_once(left);
            left -= z.avail_in;
        }
        if (z.avail_out == 0) {
            z.avail_out = at_once(room);
            room -= z.avail_out;
        }
        code = deflate(&z, left ? Z_NO_FLUSH : Z_FINISH);
    }
    *n_out -= room + z.avail_out;
    deflateEnd(&z);
    return code == Z_STREAM_END;
}

uint32_t sae_crc32(uint32_t crc, const void *p, size_t n)
{
    return (uint32_t)crc32_z(crc, p, n);
}

uint32_t sae_crc32_before(uint32_t crc, uint64_t n)
{
    return (uint32_t)crc32_combine(crc, 0, (z_off_t)n);
}

const char *sae_zlib_version(void)
{
    return zlibVersion();
}
