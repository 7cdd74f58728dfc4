/* reader.h - what a format's reader is to load.c: one row of its table.
 *
 * A reader lists the groups of an open file, binds the tensors of one and reads a tensor; load.c
 * opens, sniffs, owns the file and checks indices. Private to lib/load. Threads: as load.h. */
#ifndef SAE_READER_H
#define SAE_READER_H

#include "lib/load/load.h"

struct sae_reader {
    const char *name; /* of the format */
    /* Whether a file whose first n bytes are `head` is to be given to this reader. */
    bool (*sniff)(const unsigned char *head, size_t n);
    /* Fill groups, n_groups, note and priv. On failure close is called just the same. */
    enum sae_status (*open)(struct sae_tensors *ts, struct sae_err *err);
    /* Fill list and n_tensors from group g. */
    enum sae_status (*choose)(struct sae_tensors *ts, size_t g, size_t prefix, struct sae_err *err);
    enum sae_status (*read)(struct sae_tensors *ts, size_t i, float *dst, bool transpose,
                            struct sae_err *err);
    /* The value of a tensor of no dimension; SAE_E_WEIGHTS: its dtype is no integer's. */
    enum sae_status (*integer)(struct sae_tensors *ts, size_t i, int64_t *out, struct sae_err *err);
    void (*close)(struct sae_tensors *ts); /* frees what open made */
};

struct sae_tensors {
    const struct sae_reader *reader;
    int fd;
    uint64_t file_bytes; /* as fstat gave it at open */
    uint64_t stamp;
    struct sae_group *groups;
    size_t n_groups;
    const char *note; /* static, or NULL */
    struct sae_tensor *list;
    size_t n_tensors;
    void *priv; /* the reader's own */
};

#endif
