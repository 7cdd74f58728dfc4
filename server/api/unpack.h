/* unpack.h - a body with a Content-Encoding: which it is, and the body as it was before.
 *
 * Called by op.c and op_decode.c: the first on a connection's thread, the second on a pool thread,
 * since what is small may become a thousand times as large. */
#ifndef SAED_UNPACK_H
#define SAED_UNPACK_H

#include "lib/format/coding.h"

/* The coding that `value`, a Content-Encoding, names; NULL: none, or identity.
 * SAE_E_UNSUPPORTED_MEDIA_TYPE: one that is not read, or several. */
enum sae_status saed_unpack_coding(const char *value, const struct sae_coding **out,
                                   struct sae_err *err) SAE_MUST_USE;

/* What limits it, and who counts. */
struct saed_unpack {
    const struct sae_coding *coding;
    uint64_t max_bytes; /* of the body unpacked; the option that it is */
    const char *option;
    /* From now on so many bytes are held for it, beside the packed ones. */
    enum sae_status (*hold)(void *arg, uint64_t bytes, struct sae_err *err);
    void *hold_arg;
};

/* A body, owned by the caller: n of its `room` bytes are used. */
struct saed_unpacked {
    char *body;
    size_t n, room;
};

/* Unpack the n bytes at `packed`. SAE_E_BODY_TOO_LARGE at the byte that passes the limit;
 * SAE_E_MALFORMED_BODY, SAE_E_NOMEM, those of hold. */
enum sae_status saed_unpack_body(struct saed_unpacked *out, const struct saed_unpack *how,
                                 const void *packed, size_t n, struct sae_err *err) SAE_MUST_USE;

#endif
