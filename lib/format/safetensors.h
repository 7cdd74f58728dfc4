/* safetensors.h - what is in a safetensors container: names, dtypes, shapes and where their bytes
 * are. No meaning: those who know what a tensor is for sit above (proto/safetensors,
 * lib/load/st.c).
 *
 * Nothing is copied but the names. No state, any thread. Format: huggingface/safetensors,
 * README.md "Format".
 */
#ifndef SAE_SAFETENSORS_H
#define SAE_SAFETENSORS_H

#include "lib/base.h"
#include "lib/dtype.h"
#include "lib/format/json_scan.h"
#include "lib/types.h"

/* The reference's own cap on the header. */
#define SAE_ST_HEADER_MAX 100000000u

/* What differs between those who read: a request, a file. */
struct sae_st_rules {
    const char *what, *where; /* "body" and "", "file" and "file": of messages about the whole */
    uint64_t max_header;      /* bytes; where it is below the format's own, the sentence says so */
    uint64_t max_entries;     /* keys at the top */
    uint64_t max_keys;        /* of all objects together */
    int max_depth;            /* open lists and objects */
    bool strict; /* an entry's unknown keys are refused, as is all but spaces behind the header;
                    else both are as the reference has them */
    enum sae_status malformed, twice, too_many; /* what is said of it, and of a key twice */
    /* Asked once before the memory for what is made of the header is taken; may be NULL. */
    enum sae_status (*hold)(void *ctx, uint64_t bytes, struct sae_err *err);
    void *ctx;
};

struct sae_st_tensor {
    const char *name; /* borrowed from the file */
    const struct sae_dtype_row *dtype;
    unsigned ndim; /* may exceed SAE_MAX_DIMS: then shape holds the first of them */
    uint64_t shape[SAE_MAX_DIMS];
    uint64_t count;            /* product of all dimensions */
    const unsigned char *data; /* borrowed from the body; no alignment. NULL: read from a file */
    uint64_t begin, end;       /* offsets in the buffer behind the header */
};

struct sae_st_file {
    void *memory;                  /* owned: the tensors and their names */
    struct sae_st_tensor *tensors; /* sorted by offset */
    size_t n;
    uint64_t held_bytes; /* of memory */
    uint64_t buffer;     /* offset of the buffer */
    char *text;          /* owned: the header of a file; NULL for a body's */
    /* The object __metadata__ as it stands in the header, strings to strings; NULL: there is none.
     */
    const char *metadata;
    size_t metadata_bytes;
};

/* Read the container in body[0 .. n), which is borrowed until sae_st_close. Every offset, size and
 * product is checked: the tensors cover the buffer exactly, without holes or overlap. The statuses
 * of the rules; NOMEM; those of hold. On failure *f is untouched. */
enum sae_status sae_st_open(struct sae_st_file *f, const struct sae_st_rules *rules,
                            const void *body, size_t n, struct sae_err *err) SAE_MUST_USE;
/* The same of an open file, of which only the header is read. SAE_E_IO too. */
enum sae_status sae_st_open_file(struct sae_st_file *f, const struct sae_st_rules *rules, int fd,
                                 uint64_t file_bytes, struct sae_err *err) SAE_MUST_USE;
void sae_st_close(struct sae_st_file *f); /* safe on a zeroed one */
/* NULL: there is none of this name. */
const struct sae_st_tensor *sae_st_find(const struct sae_st_file *f, const char *name);
/* The text under `key` of __metadata__; false: there is none. */
bool sae_st_metadata(const struct sae_st_file *f, const char *key, struct sae_json_text *out);

#endif
