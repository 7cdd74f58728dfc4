/* pack.h - answers of text, packed for clients that take that (--compress-answers).
 *
 * JSON, problem documents aside, and the text of GET routes; never what is binary, whose numbers do
 * not pack. What is below SAED_PACK_LEAST_BYTES, or does not become smaller, goes as it is. Packing
 * is not the answer's business: where there is no memory for it, it goes as it is too. RFC 9110,
 * 12.5.3. */
#ifndef SAED_PACK_H
#define SAED_PACK_H

#include "lib/format/coding.h"
#include "server/api/op.h"

#define SAED_PACK_LEAST_BYTES 1024
/* Packing more takes longer than a connection's thread may be blocked. */
#define SAED_PACK_HERE_BYTES (64u << 10)

/* By Accept-Encoding (NULL: absent): the coding that it prefers, zstd of equals; NULL: identity. */
const struct sae_coding *saed_pack_choose(const char *accept_encoding);
/* The coding for an answer of text to `x`; NULL: none, or the option is off. */
const struct sae_coding *saed_pack_coding(const struct saed_routes *r,
                                          const struct saed_exchange *x);
/* Its headers, to be added to every answer of text; coding NULL: it is not packed. */
void saed_pack_headers(const struct saed_routes *r, struct saed_exchange *x,
                       const struct sae_coding *coding);
/* The n bytes packed, in *out, owned (sae_free), *n_out of them. Their memory is held beside *held
 * bytes while it is needed. False: they are to go as they are. */
bool saed_pack_bytes(struct saed_routes *r, const struct sae_coding *coding, const void *data,
                     size_t n, uint64_t *held, char **out, size_t *n_out);
/* Is a document to be replied in `request`, where the exchange may be suspended to pack it, and not
 * in `head`? */
bool saed_pack_is_late(const struct saed_routes *r, const struct saed_exchange *x);
/* Reply 200 with a text that was printed, which is taken (sae_free), or is static. */
void saed_pack_reply(struct saed_routes *r, struct saed_exchange *x, const char *content_type,
                     const char *data, size_t n, bool is_static);

#endif
