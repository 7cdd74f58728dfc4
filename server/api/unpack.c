/* unpack.c - see unpack.h. */
#include "server/api/unpack.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#define FIRST_ROOM ((size_t)64 << 10)

/* ---- Content-Encoding ---------------------------------------------------------------------- */

static enum sae_status refuse(const char *value, const char *what, struct sae_err *err)
{
    return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "Content-Encoding",
                       "cannot read body: its Content-Encoding is \"%.64s\", %s %s and identity",
                       value, what, sae_coding_names());
}

enum sae_status saed_unpack_coding(const char *value, const struct sae_coding **out,
                                   struct sae_err *err)
{
    static const char none[] = "identity", blanks[] = " \t,";

    *out = NULL;
    for (const char *p = value ? value + strspn(value, blanks) : ""; *p; p += strspn(p, blanks)) {
        const size_t n = strcspn(p, blanks);
        const bool is_none = n == sizeof none - 1 && strncasecmp(p, none, n) == 0;
        const struct sae_coding *coding = is_none ? NULL : sae_coding_find(p, n);

        if (!is_none && !coding)
            return refuse(value, "saed reads", err);
        if (coding && *out)
            return refuse(value, "saed undoes one coding, of", err);
        if (coding)
            *out = coding;
        p += n;
    }
    return SAE_OK;
}

/* ---- the body ------------------------------------------------------------------------------ */

/* Twice the room, one byte more than the limit at most: who fills that has passed it. */
static enum sae_status grow(struct saed_unpacked *out, const struct saed_unpack *how,
                            struct sae_unpacking *u, struct sae_err *err)
{
    size_t room = out->room ? 2 * out->room : FIRST_ROOM;
    enum sae_status st;
    char *grown;

    if (out->n > how->max_bytes)
        return sae_err_limit(err, SAE_E_BODY_TOO_LARGE, how->option, how->max_bytes, out->n,
                             "cannot take a body that unpacks to more than %" PRIu64 " bytes (%s)",
                             how->max_bytes, how->option);
    if (room > how->max_bytes)
        room = (size_t)how->max_bytes + 1;
    /* While it is moved the old room is there too. */
    st = how->hold(how->hold_arg, out->room + room + sae_unpacking_bytes(u), err);
    if (st != SAE_OK)
        return st;
    grown = sae_alloc(room, 1);
    if (!grown)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot unpack body: memory has run out");
    if (out->n)
        memcpy(grown, out->body, out->n);
    sae_free(out->body);
    out->body = grown;
    out->room = room;
    u->flow.out = (unsigned char *)grown + out->n;
    u->flow.n_out = room - out->n;
    return how->hold(how->hold_arg, room + sae_unpacking_bytes(u), err);
}

enum sae_status saed_unpack_body(struct saed_unpacked *out, const struct saed_unpack *how,
                                 const void *packed, size_t n, struct sae_err *err)
{
    struct saed_unpacked made = {0};
    struct sae_unpacking u;
    enum sae_status st = sae_unpacking_begin(&u, how->coding, packed, n, err);

    while (st == SAE_OK && !u.is_done) {
        st = grow(&made, how, &u, err);
        if (st == SAE_OK)
            st = sae_unpacking_step(&u, err);
        made.n = made.room - u.flow.n_out;
    }
    if (st == SAE_OK && made.n > how->max_bytes) /* the byte too many was the last */
        st = grow(&made, how, &u, err);
    sae_unpacking_fini(&u);
    if (st == SAE_OK) /* what unpacking took beside it is free */
        st = how->hold(how->hold_arg, made.room, err);
    if (st != SAE_OK) {
        sae_free(made.body);
        return st;
    }
    *out = made;
    return SAE_OK;
}
