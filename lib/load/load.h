/* load.h - a weights file as named tensors: what they are first, their values on request.
 *
 * sae_load_open sniffs the format (one row per format in load.c) and lists what the file holds as
 * groups of entries; sae_load_choose takes one group as the weights and checks every offset, size
 * and product of its tensors against the file, without copying any; sae_load_read converts one
 * tensor's values into the caller's memory in the caller's orientation. Strides, dtypes, storages
 * and orientations do not exist above this header. The file is open only until sae_load_close, so
 * what happens to it later changes nothing. Owned by one thread at a time. */
#ifndef SAE_LOAD_H
#define SAE_LOAD_H

#include "lib/base.h"
#include "lib/dtype.h"
#include "lib/load/facts.h"
#include "lib/matrix.h"
#include "lib/types.h"

#define SAE_TENSOR_NAME_MAX 128 /* longer keys are kept cut, with "..." at the end */

struct sae_tensor {
    char name[SAE_TENSOR_NAME_MAX + 4];
    enum sae_dtype dtype;
    char dtype_name[24]; /* as torch says it: "float32", "int64", ... also for SAE_DTYPE_OTHER */
    unsigned ndim;
    uint64_t shape[SAE_MAX_DIMS];
};

struct sae_tensors; /* an open weights file */

/* What an entry is, as far as that shows before it is chosen. */
enum sae_entry_kind {
    SAE_ENTRY_TENSOR,
    SAE_ENTRY_INT,
    SAE_ENTRY_REAL,
    SAE_ENTRY_OTHER /* texts, lists, whatever else: never looked into */
};

struct sae_entry {
    char name[SAE_TENSOR_NAME_MAX + 4];
    enum sae_entry_kind kind;
    bool floating; /* tensor: of f32, f16, bf16 or f64 */
    bool integer;  /* tensor: of an integer dtype */
    unsigned ndim; /* tensor */
    uint64_t shape[SAE_MAX_DIMS];
    bool has_number; /* INT, REAL, and floating tensors of no dimension: ... */
    double number;   /* ... its value */
};

/* Entries that stand together: group 0 is the top of the file, the others stand right below it,
 * each under the key that is its name. A group that stands under two keys is listed once. */
struct sae_group {
    char name[SAE_TENSOR_NAME_MAX + 4]; /* "" for the top */
    const struct sae_entry *entries;
    size_t n;
    bool other_keys;   /* it has tensors under keys that are no names: numbers, tuples */
    bool other_values; /* ... floating ones, of a dimension or more */
};

/* Open and list. On success *out is owned (sae_load_close). No message names the file: its caller
 * does.
 * SAE_E_IO cannot open or read, not a regular file; SAE_E_FORMAT anything wrong in its bytes
 * (where = "file" or "file:offset" or an entry's or tensor's name); SAE_E_NOMEM. */
enum sae_status sae_load_open(struct sae_tensors **out, const char *path,
                              struct sae_err *err) SAE_MUST_USE;
void sae_load_close(struct sae_tensors *ts); /* NULL allowed */
/* A number that is another once the file has been written to or replaced (inode, size, time). */
uint64_t sae_load_stamp(const struct sae_tensors *ts);

/* "pt", "safetensors", "npz", "npy": for messages. What follows from it is asked below. */
const char *sae_load_container(const struct sae_tensors *ts);
/* Did torch.save write it: dicts of one training, with what that kept beside the tensors? */
bool sae_load_is_torch_save(const struct sae_tensors *ts);
/* May it hold a sample: arrays of any dimensions, whose values lie one behind the other? */
bool sae_load_has_rows(const struct sae_tensors *ts);

size_t sae_load_n_groups(const struct sae_tensors *ts);
const struct sae_group *sae_load_group(const struct sae_tensors *ts, size_t g);
/* What the reader has to say to whoever relies on the file, one static sentence; NULL: nothing. */
const char *sae_load_note(const struct sae_tensors *ts);

/* Add a group of the entries whose names begin with `prefix`, that taken off; of a .pt also of
 * those in dicts of dicts, names joined by '.'. *g is its index, which is the last; the one before
 * is a group of what stands on the way there, "act_mean" and "a.k" for the prefix "a.b.", by its
 * whole name. Once, before choose. SAE_E_FORMAT: there is none, or what is on the way is wrong;
 * SAE_E_NOMEM. */
enum sae_status sae_load_narrow(struct sae_tensors *ts, const char *prefix, size_t *g,
                                struct sae_err *err) SAE_MUST_USE;
/* Take group g as the weights, the first `prefix` bytes of each name dropped: once, before count,
 * tensor and read. What is no tensor becomes a fact. Tensors at the top of a .pt that stand beside
 * the group, or on the way to it, are listed behind its own, under their own names. SAE_E_FORMAT
 * names a tensor that is wrong or does not lie in the file; SAE_E_NOMEM. */
enum sae_status sae_load_choose(struct sae_tensors *ts, size_t g, size_t prefix,
                                struct sae_err *err) SAE_MUST_USE;
/* What stands beside the chosen weights: of a .pt all of its top but their tensors, of safetensors
 * __metadata__. NULL: the container has no such thing, or the file has none. Borrowed. */
const struct sae_facts *sae_load_facts(const struct sae_tensors *ts);
size_t sae_load_count(const struct sae_tensors *ts);
/* So many more behind them, under their own names: those of a .pt that stand beside the group. */
size_t sae_load_n_beside(const struct sae_tensors *ts);
const struct sae_tensor *sae_load_tensor(const struct sae_tensors *ts, size_t i);
/* The index of the tensor called `name` (without the prefix), SIZE_MAX when nothing is called so.
 * SAE_E_FORMAT: something else is, and the message says what, and of a GLOBAL which. */
enum sae_status sae_load_find(const struct sae_tensors *ts, const char *name, size_t *out,
                              struct sae_err *err) SAE_MUST_USE;

/* Read tensor i (1-D or 2-D, dtype f32/f16/bf16/f64) as f32 into dst, row-major, or transposed
 * when `transpose` (2-D [r][c] then fills dst [c][r]). dst has room for the product of its shape.
 * Verifies the entry's CRC over all of its bytes. f64 is rounded to nearest; a value that is NaN,
 * infinite or becomes infinite is SAE_E_WEIGHTS and names tensor and index.
 * Peak extra memory is a few MB, a row or column for slices; the storage's size only for a tensor
 * whose rows and columns both lie across each other. */
enum sae_status sae_load_read(struct sae_tensors *ts, size_t i, float *dst, bool transpose,
                              struct sae_err *err) SAE_MUST_USE;
/* Read the first n_rows of a matrix into dst, whose dtype is F32, or the tensor's own of 16 bits. A
 * tensor of one dimension is read whole. All else as above, and a file's values that are not taken
 * are not looked at. A large one is read with the threads of `team` (NULL: this one), unless it is
 * deflated; their buffers take at most 48 MB together. */
enum sae_status sae_load_matrix(struct sae_tensors *ts, size_t i, const struct sae_matrix *dst,
                                size_t n_rows, bool transpose, struct sae_team *team,
                                struct sae_err *err) SAE_MUST_USE;
/* The first n rows of tensor i as f32, whatever its dimensions: the last of them is a row's. n is
 * at most the product of the others. Values that are not finite stay, no CRC is verified. Of a file
 * that has rows. SAE_E_FORMAT: the tensor is of no floating dtype, or has no dimension. */
enum sae_status sae_load_rows(struct sae_tensors *ts, size_t i, size_t n, float *dst,
                              struct sae_err *err) SAE_MUST_USE;
/* The values of tensor i, which has an integer dtype, or bool, and at most one dimension, into dst:
 * exactly n of them. SAE_E_WEIGHTS where it is not so, or where a value is beyond int64. Verifies
 * the entry's CRC. */
enum sae_status sae_load_integers(struct sae_tensors *ts, size_t i, int64_t *dst, size_t n,
                                  struct sae_err *err) SAE_MUST_USE;
/* The same of one without a dimension. */
enum sae_status sae_load_integer(struct sae_tensors *ts, size_t i, int64_t *out,
                                 struct sae_err *err) SAE_MUST_USE;

#endif
