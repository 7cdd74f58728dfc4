/* zip_stream.c - the bytes of an archive's entry: read in order, unpacked, their CRC verified.
 *
 * Whole entries, parts of one read side by side, and small ones at once. Stored bytes are read in
 * pieces that the cache still has for the CRC. See zip.h. */
#include "lib/format/zip_archive.h"

#include "lib/format/deflate.h"

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
    st = sae_zip_read_at(s->z, i->packed, n, s->e->data + i->taken, err);
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
            return SAE_ZIP_BAD_ENTRY(err, s->e->name,
                                     "its packed data is damaged at byte %llu of %llu",
                                     (unsigned long long)s->pos, (unsigned long long)s->e->bytes);
        if (end == SAE_FLOW_ON && f->n_in == in && f->n_out == out) /* no byte in, none out: cut */
            return SAE_ZIP_BAD_ENTRY(err, s->e->name,
                                     "its packed data ends before its %llu bytes are there",
                                     (unsigned long long)s->e->bytes);
    }
    if (last && (f->n_out == 0 || f->n_in > 0 || s->inflate->taken < s->e->packed_bytes))
        return SAE_ZIP_BAD_ENTRY(err, s->e->name, "its packed data goes on behind its %llu bytes",
                                 (unsigned long long)s->e->bytes);
    if (!last && f->n_out > 0)
        return SAE_ZIP_BAD_ENTRY(err, s->e->name,
                                 "its packed data ends before its %llu bytes are there",
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
    return sae_zip_read_at(s->z, p, n, s->e->data + s->pos, err);
}

/* What may be said of the entry once its last byte is read. */
static enum sae_status check_end(struct sae_zip_stream *s, struct sae_err *err)
{
    enum sae_status st = s->e->method == SAE_ZIP_DEFLATED ? unpack(s, NULL, 0, err) : SAE_OK;

    if (st != SAE_OK)
        return st;
    if (s->z->has_crcs && !s->is_part && s->crc != s->e->crc)
        return SAE_ZIP_BAD_ENTRY(err, s->e->name, "the CRC of its bytes is %08x, %08x is recorded",
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
        return SAE_ZIP_BAD_ENTRY(
            err, e->name, "its method is %u, stored (0) and deflated (8) are read", e->method);
    if (n > e->bytes - s->pos)
        return SAE_ZIP_BAD_ENTRY(err, e->name, "%zu bytes asked at %llu of its %llu", n,
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
        return SAE_ZIP_BAD_ENTRY(err, e->name, "%llu bytes, at most %llu are read",
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
