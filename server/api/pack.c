/* pack.c - see pack.h. */
#include "server/api/pack.h"

#include "lib/scan.h"

#include <string.h>
#include <strings.h>

/* ---- Accept-Encoding ------------------------------------------------------------------------ */

/* "0.8" as thousandths, anything that is none as 0. */
static unsigned read_q(const char *s, size_t n)
{
    unsigned q = n > 0 && *s == '1' ? 1000 : 0, unit = 100;

    if (n > 0 && (*s == '0' || *s == '1'))
        s++, n--;
    if (n > 0 && *s == '.')
        for (s++, n--; n > 0 && sae_is_digit(*s); s++, n--, unit /= 10)
            q += (unsigned)(*s - '0') * unit;
    return n == 0 && q <= 1000 ? q : 0;
}

/* The q of a piece "gzip;q=0.5" behind its name; 1000 without one. */
static unsigned q_of(const char *p, const char *end)
{
    for (; p < end; p++) {
        size_t n;

        p += strspn(p, " \t;");
        n = strcspn(p, " \t;,");
        if (n > 2 && strncasecmp(p, "q=", 2) == 0)
            return read_q(p + 2, n - 2);
        p += n;
    }
    return 1000;
}

/* What a header says of each: its q, -1: nothing. */
struct wishes {
    int any, identity, named[SAE_N_CODINGS];
};

static void read_piece(struct wishes *w, const char *p, size_t n)
{
    const size_t name = strcspn(p, " \t;,");
    const int q = (int)q_of(p + name, p + n);
    const struct sae_coding *coding = sae_coding_find(p, name);

    if (name == 1 && *p == '*')
        w->any = q;
    else if (name == 8 && strncasecmp(p, "identity", 8) == 0)
        w->identity = q;
    for (size_t i = 0; coding && i < SAE_N_CODINGS; i++)
        if (coding == sae_coding_at(i))
            w->named[i] = q;
}

const struct sae_coding *saed_pack_choose(const char *accept_encoding)
{
    struct wishes w = {-1, -1, {-1, -1}};
    const struct sae_coding *best = NULL;
    int best_q = 1;

    for (const char *p = accept_encoding ? accept_encoding : ""; *p;) {
        size_t n = strcspn(p += strspn(p, " \t,"), ",");

        if (n > 0)
            read_piece(&w, p, n);
        p += n;
    }
    for (size_t i = 0; i < SAE_N_CODINGS; i++) {
        const int q = w.named[i] >= 0 ? w.named[i] : w.any;

        if (q < best_q || q < w.identity)
            continue;
        best = sae_coding_at(i);
        best_q = q;
    }
    return best;
}

const struct sae_coding *saed_pack_coding(const struct saed_routes *r,
                                          const struct saed_exchange *x)
{
    return r->opts->compress_answers ? saed_pack_choose(x->accept_encoding) : NULL;
}

void saed_pack_headers(const struct saed_routes *r, struct saed_exchange *x,
                       const struct sae_coding *coding)
{
    if (!r->opts->compress_answers)
        return;
    saed_http_header(x, "Vary", "Accept-Encoding");
    if (coding)
        saed_http_header(x, "Content-Encoding", "%s", sae_coding_name(coding));
}

/* ---- packing --------------------------------------------------------------------------------- */

bool saed_pack_bytes(struct saed_routes *r, const struct sae_coding *coding, const void *data,
                     size_t n, uint64_t *held, char **out, size_t *n_out)
{
    const uint64_t before = *held;
    size_t room = n - n / 16; /* for less it is not worth it */
    char *packed;
    bool ok;

    if (n < SAED_PACK_LEAST_BYTES ||
        saed_budget_hold(&r->budget, held, before + room + sae_coding_packer_bytes(coding),
                         SAE_E_RESPONSE_TOO_LARGE, NULL) != SAE_OK)
        return false;
    packed = sae_alloc(room, 1);
    ok = packed && sae_coding_pack(coding, data, n, packed, &room);
    if (ok) {
        *out = packed;
        *n_out = room;
    } else {
        sae_free(packed);
    }
    (void)!saed_budget_hold(&r->budget, held, before + (ok ? room : 0), SAE_E_RESPONSE_TOO_LARGE,
                            NULL); /* less is always held */
    return ok;
}

/* ---- documents ------------------------------------------------------------------------------- */

/* One that is on its way. Owned by whoever has the exchange. */
struct document {
    struct saed_routes *r;
    struct saed_exchange *x;
    const struct sae_coding *coding;
    const char *content_type;
    const char *data; /* owned, unless it is static */
    size_t n;
    bool is_static;
    struct saed_pool_work work;
};

static void reply_plain(const struct document *d)
{
    saed_pack_headers(d->r, d->x, NULL);
    saed_http_reply(d->x, 200, d->content_type, d->data, d->n, d->is_static ? NULL : sae_free,
                    d->is_static ? NULL : (void *)(uintptr_t)d->data);
}

static void reply_packed(const struct document *d)
{
    uint64_t held = 0;
    char *packed;
    size_t n;

    if (!saed_pack_bytes(d->r, d->coding, d->data, d->n, &held, &packed, &n)) {
        reply_plain(d);
        return;
    }
    saed_budget_release(&d->r->budget, &held); /* documents are not counted */
    if (!d->is_static)
        sae_free((void *)(uintptr_t)d->data);
    saed_pack_headers(d->r, d->x, d->coding);
    saed_http_reply(d->x, 200, d->content_type, packed, n, sae_free, packed);
}

static void run(void *arg)
{
    struct document *d = arg;
    struct saed_exchange *x = d->x;

    reply_packed(d);
    sae_free(d);
    saed_http_resume(x);
}

bool saed_pack_is_late(const struct saed_routes *r, const struct saed_exchange *x)
{
    return !x->beyond && !x->has_body && saed_pack_coding(r, x);
}

void saed_pack_reply(struct saed_routes *r, struct saed_exchange *x, const char *content_type,
                     const char *data, size_t n, bool is_static)
{
    const struct document d = {.r = r,
                               .x = x,
                               .coding = saed_pack_coding(r, x),
                               .content_type = content_type,
                               .data = data,
                               .n = n,
                               .is_static = is_static};
    struct document *away;

    if (n < SAED_PACK_LEAST_BYTES || !saed_pack_is_late(r, x)) {
        reply_plain(&d);
        return;
    }
    away = n > SAED_PACK_HERE_BYTES ? sae_alloc(1, sizeof *away) : NULL;
    if (!away) {
        if (n > SAED_PACK_HERE_BYTES)
            reply_plain(&d);
        else
            reply_packed(&d);
        return;
    }
    *away = d;
    away->work = (struct saed_pool_work){.run = run, .arg = away};
    saed_http_suspend(x);
    saed_pool_push(r->pool, &away->work, n);
}
