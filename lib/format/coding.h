/* coding.h - content codings of HTTP, gzip and zstd: the table of them, bodies unpacked and packed.
 *
 * Called by server/api. Each struct is owned by one thread; the table is constant. RFC 9110, 8.4.
 */
#ifndef SAE_CODING_H
#define SAE_CODING_H

#include "lib/base.h"
#include "lib/format/flow.h"

struct sae_coding;

/* NULL: none of them has this name (in any case; x-gzip is gzip). */
const struct sae_coding *sae_coding_find(const char *name, size_t n);
/* "gzip, zstd": all of them, as a list of HTTP. */
const char *sae_coding_names(void);

const char *sae_coding_name(const struct sae_coding *c);
/* Each of them, NULL behind the last; a later one packs in less time, and into fewer bytes too. */
#define SAE_N_CODINGS 2
const struct sae_coding *sae_coding_at(size_t i);
/* Pack n bytes into out, which has room for *n_out; then so many they are. False: they do not fit,
 * or memory has run out. */
bool sae_coding_pack(const struct sae_coding *c, const void *in, size_t n, void *out,
                     size_t *n_out) SAE_MUST_USE;
/* What that takes in memory beside both. */
uint64_t sae_coding_packer_bytes(const struct sae_coding *c);

/* A packed body while it is unpacked. Private but for the flow: `out` and `n_out` are set before
 * each step, the room that is left. */
struct sae_unpacking {
    const struct sae_coding *coding;
    void *state;
    struct sae_flow flow;
    size_t n_packed;
    bool is_begun; /* a member or frame is, and not at its end */
    bool is_done;  /* all is unpacked */
};

/* The body is borrowed until fini. SAE_E_NOMEM. */
enum sae_status sae_unpacking_begin(struct sae_unpacking *u, const struct sae_coding *coding,
                                    const void *body, size_t n, struct sae_err *err) SAE_MUST_USE;
/* Unpack until u->is_done or the room is full. SAE_E_MALFORMED_BODY: it is damaged, ends early, is
 * none, or goes on behind its end as something else; SAE_E_NOMEM. */
enum sae_status sae_unpacking_step(struct sae_unpacking *u, struct sae_err *err) SAE_MUST_USE;
/* Bytes that it takes by now beside the buffers. */
uint64_t sae_unpacking_bytes(const struct sae_unpacking *u);
void sae_unpacking_fini(struct sae_unpacking *u); /* safe on a zeroed one */

#endif
