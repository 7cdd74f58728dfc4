/* container.h - a safetensors file in memory as named views: the container alone.
 *
 * safetensors/container.c reads and validates the container, safetensors/parse.c makes a request of
 * the views, safetensors/print.c writes an answer. Private to these three and their tests. Pure
 * functions on what they are given: no state, any thread. Format: huggingface/safetensors,
 * README.md "Format".
 */
#ifndef SAE_SAFETENSORS_CONTAINER_H
#define SAE_SAFETENSORS_CONTAINER_H

#include "lib/base.h"
#include "lib/types.h"
#include "proto/wire.h"

/* The reference's own cap on the header. */
#define SAE_ST_HEADER_MAX 100000000u

struct sae_st_tensor {
    const char *name;  /* borrowed from the file */
    const char *dtype; /* "F32": one of the format's names */
    unsigned ndim;     /* may exceed SAE_MAX_DIMS: then shape holds the first of them */
    uint64_t shape[SAE_MAX_DIMS];
    uint64_t count;            /* product of all dimensions */
    const unsigned char *data; /* borrowed from the body; no alignment */
    uint64_t begin, end;       /* offsets in the buffer behind the header */
};

struct sae_st_file {
    void *memory;                  /* owned: the tensors and their names */
    struct sae_st_tensor *tensors; /* sorted by offset */
    size_t n;
    uint64_t held_bytes; /* of memory */
    char f_units[32];    /* of __metadata__: "" if it has none */
};

/* Read the container in body[0 .. n), which is borrowed until sae_st_close. Every offset, size and
 * product is checked: the tensors cover the buffer exactly, without holes or overlap. What is made
 * of the header is held by t (sae_target_hold).
 * SAE_E_MALFORMED_BODY; SAE_E_BAD_OPTION for a key that stands twice; SAE_E_BODY_TOO_LARGE when the
 * header has too many keys; NOMEM; those of sae_target_hold. On failure *f is untouched. */
enum sae_status sae_st_open(struct sae_st_file *f, const struct sae_target *t, const void *body,
                            size_t n, struct sae_err *err) SAE_MUST_USE;
void sae_st_close(struct sae_st_file *f); /* safe on a zeroed one */
/* NULL: there is none of this name. */
const struct sae_st_tensor *sae_st_find(const struct sae_st_file *f, const char *name);

#endif
