/* reader.h - what a format's reader is to load.c: one row of its table.
 *
 * A reader lists the groups of an open file, binds the tensors of one and says where a tensor's
 * values are; load.c opens, sniffs, owns the file, checks indices and reads. Private to lib/load.
 * Threads: as load.h. */
#ifndef SAE_READER_H
#define SAE_READER_H

#include "lib/load/load.h"
#include "lib/load/origin.h"

struct sae_reader {
    const char *name;   /* of the format */
    bool has_rows;      /* sae_load_has_rows */
    bool is_torch_save; /* sae_load_is_torch_save */
    /* Whether a file whose first n bytes are `head` is to be given to this reader. */
    bool (*sniff)(const unsigned char *head, size_t n);
    /* Whether one that no reader wants and that is nothing we know to refuse may be of this format,
     * damaged: it says best what is wrong. NULL: never. */
    bool (*guess)(const unsigned char *head, size_t n);
    /* Fill groups, n_groups, note and priv. On failure close is called just the same. */
    enum sae_status (*open)(struct sae_tensors *ts, struct sae_err *err);
    /* Add two groups: the entries on the way to the prefix, and those whose names begin with it,
     * without it. */
    enum sae_status (*narrow)(struct sae_tensors *ts, const char *prefix, struct sae_err *err);
    /* Fill list and n_tensors from group g, and facts. */
    enum sae_status (*choose)(struct sae_tensors *ts, size_t g, size_t prefix, struct sae_err *err);
    /* Why the entry `name` of the chosen group is no tensor; SAE_OK: there is no such entry. NULL
     * where all entries are tensors. */
    enum sae_status (*explain)(const struct sae_tensors *ts, const char *name, struct sae_err *err);
    /* Where the values of tensor i are: it has at most two dimensions, or one if its dtype is no
     * floating one, and a dtype that is read. Of a format that has rows it may have more, and
     * then the view is none. */
    void (*origin)(const struct sae_tensors *ts, size_t i, struct sae_origin *out);
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
    size_t n_beside; /* behind them in list: what stands beside the chosen group */
    bool chosen;
    char *narrowed; /* owned: the prefix of the last group */
    size_t *stored; /* owned: which tensor of the container each of the list is; NULL: the same */
    struct sae_facts *facts; /* by choose; owned by load.c */
    void *priv;              /* the reader's own */
};

/* The formats; load.c has the table of them. */
extern const struct sae_reader sae_reader_pt, sae_reader_st, sae_reader_npy, sae_reader_npz;

/* Does the name of n bytes stand beside a part of the prefix: what is before its last '.' begins
 * it, and the name does not begin with all of it? "a.k" is on the way to "a.b.". */
bool sae_load_is_on_way(const char *name, size_t n, const char *prefix);

/* A name as a tensor or an entry keeps it: cut at its limit, but not inside a UTF-8 sequence. */
void sae_load_cut_name(char dst[SAE_TENSOR_NAME_MAX + 4], const char *name, size_t n);

#endif
