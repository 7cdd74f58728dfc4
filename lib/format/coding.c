/* coding.c - see coding.h. */
#include "lib/format/coding.h"

#include "lib/format/deflate.h"
#include "lib/format/zstandard.h"

#include <string.h>
#include <strings.h>

struct sae_coding {
    const char *name, *also;
    const char *member; /* what a body consists of, one or more */
    void *(*create)(void);
    void (*free)(void *state);
    enum sae_flow_end (*step)(void *state, struct sae_flow *f);
    uint64_t (*bytes)(const void *state);
    bool (*pack)(const void *in, size_t n, void *out, size_t *n_out);
    uint64_t packer_bytes;
};

static void *gzip_create(void)
{
    return sae_inflate_create(SAE_INFLATE_GZIP);
}

static void gzip_free(void *state)
{
    sae_inflate_free(state);
}

static enum sae_flow_end gzip_step(void *state, struct sae_flow *f)
{
    return sae_inflate_step(state, f);
}

static uint64_t gzip_bytes(const void *state)
{
    (void)state;
    return SAE_INFLATE_BYTES;
}

static void *zstd_create(void)
{
    return sae_unzstd_create();
}

static void zstd_free(void *state)
{
    sae_unzstd_free(state);
}

static enum sae_flow_end zstd_step(void *state, struct sae_flow *f)
{
    return sae_unzstd_step(state, f);
}

static uint64_t zstd_bytes(const void *state)
{
    return sae_unzstd_bytes(state);
}

static const struct sae_coding codings[] = {
    {"gzip", "x-gzip", "member", gzip_create, gzip_free, gzip_step, gzip_bytes, sae_gzip_pack,
     SAE_GZIP_PACKER_BYTES},
    {"zstd", "zstd", "frame", zstd_create, zstd_free, zstd_step, zstd_bytes, sae_zstd_pack,
     SAE_ZSTD_PACKER_BYTES},
};

const struct sae_coding *sae_coding_find(const char *name, size_t n)
{
    for (size_t i = 0; i < SAE_COUNTOF(codings); i++)
        if ((strlen(codings[i].name) == n && strncasecmp(codings[i].name, name, n) == 0) ||
            (strlen(codings[i].also) == n && strncasecmp(codings[i].also, name, n) == 0))
            return &codings[i];
    return NULL;
}

const char *sae_coding_names(void)
{
    return "gzip, zstd";
}

const char *sae_coding_name(const struct sae_coding *c)
{
    return c->name;
}

_Static_assert(SAE_COUNTOF(codings) == SAE_N_CODINGS, "each has a row");

const struct sae_coding *sae_coding_at(size_t i)
{
    return i < SAE_COUNTOF(codings) ? &codings[i] : NULL;
}

bool sae_coding_pack(const struct sae_coding *c, const void *in, size_t n, void *out, size_t *n_out)
{
    return c->pack(in, n, out, n_out);
}

uint64_t sae_coding_packer_bytes(const struct sae_coding *c)
{
    return c->packer_bytes;
}

enum sae_status sae_unpacking_begin(struct sae_unpacking *u, const struct sae_coding *coding,
                                    const void *body, size_t n, struct sae_err *err)
{
    *u = (struct sae_unpacking){.coding = coding, .flow = {.in = body, .n_in = n}, .n_packed = n};
    u->state = coding->create();
    return u->state ? SAE_OK
                    : sae_err_set(err, SAE_E_NOMEM, "", "cannot unpack body: memory has run out");
}

static enum sae_status refuse(const struct sae_unpacking *u, enum sae_flow_end why,
                              struct sae_err *err)
{
    const size_t at = u->n_packed - u->flow.n_in;

    if (why == SAE_FLOW_NOMEM)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot unpack body: memory has run out");
    if (why == SAE_FLOW_TOO_WIDE)
        return sae_err_set(
            err, SAE_E_MALFORMED_BODY, "Content-Encoding",
            "cannot unpack body: its %s %s wants a window of more than %llu MB (pack "
            "it without --long and --ultra)",
            u->coding->name, u->coding->member, (unsigned long long)(SAE_ZSTD_MAX_WINDOW >> 20));
    if (why == SAE_FLOW_ON)
        return sae_err_set(err, SAE_E_MALFORMED_BODY, "Content-Encoding",
                           "cannot unpack body: its %zu bytes end before its %s %s does",
                           u->n_packed, u->coding->name, u->coding->member);
    return sae_err_set(err, SAE_E_MALFORMED_BODY, "Content-Encoding",
                       "cannot unpack body: it is no %s %s, or a damaged one, at byte %zu of %zu",
                       u->coding->name, u->coding->member, at, u->n_packed);
}

enum sae_status sae_unpacking_step(struct sae_unpacking *u, struct sae_err *err)
{
    struct sae_flow *f = &u->flow;

    while (!u->is_done) {
        const size_t n_in = f->n_in, n_out = f->n_out;
        enum sae_flow_end end;

        if (!u->is_begun && n_in == 0 && u->n_packed > 0) {
            u->is_done = true;
            break;
        }
        end = u->coding->step(u->state, f);
        u->is_begun = end == SAE_FLOW_ON;
        if (end == SAE_FLOW_DONE)
            continue;
        if (end != SAE_FLOW_ON)
            return refuse(u, end, err);
        if (f->n_out == 0)
            break;
        if (f->n_in == n_in && f->n_out == n_out) /* nothing in, nothing out: there is no more */
            return refuse(u, SAE_FLOW_ON, err);
    }
    return SAE_OK;
}

uint64_t sae_unpacking_bytes(const struct sae_unpacking *u)
{
    return u->coding->bytes(u->state);
}

void sae_unpacking_fini(struct sae_unpacking *u)
{
    if (u->state)
        u->coding->free(u->state);
    *u = (struct sae_unpacking){0};
}
