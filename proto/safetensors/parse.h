/* parse.h - private to the safetensors parser (parse.c, sparse.c): its state and how its parts read
 * a tensor.
 *
 * What is read is held by the target and owned by the request as soon as it is allocated, also on
 * failure. Owned by the one call of sae_safetensors_parse that made it. */
#ifndef SAE_SAFETENSORS_PARSE_H
#define SAE_SAFETENSORS_PARSE_H

#include "lib/format/safetensors.h"
#include "lib/num.h"
#include "proto/wire.h"

struct sae_safetensors_parser {
    struct sae_request *r;
    const struct sae_target *t;
    const struct sae_st_file *file;
    struct sae_err *err;
};

/* n items of `size` bytes for tensor `name`, into the pointer at out. */
enum sae_status sae_safetensors_hold(struct sae_safetensors_parser *ps, void *out, const char *name,
                                     uint64_t n, size_t size);

/* The values of what the request is about: if its Content-Type names a dtype, of that. */
enum sae_status sae_safetensors_read_main(struct sae_safetensors_parser *ps,
                                          const struct sae_st_tensor *ts, float **out);

enum sae_status sae_safetensors_wrong_rank(struct sae_safetensors_parser *ps,
                                           const struct sae_st_tensor *ts, const char *wanted);
/* The n dimensions but the last are the request's leading ones. */
enum sae_status sae_safetensors_set_rows(struct sae_safetensors_parser *ps, const uint64_t *dim,
                                         uint64_t n);
/* The same, and the last must be the width. */
enum sae_status sae_safetensors_set_lead(struct sae_safetensors_parser *ps, const uint64_t *dim,
                                         uint64_t n);

/* Has it a dtype of integers; of ids, say, also one dimension? */
enum sae_status sae_safetensors_want_ints(struct sae_safetensors_parser *ps,
                                          const struct sae_st_tensor *ts);
enum sae_status sae_safetensors_want_list(struct sae_safetensors_parser *ps,
                                          const struct sae_st_tensor *ts);
static inline int64_t sae_safetensors_int(const struct sae_st_tensor *ts, uint64_t i)
{
    if (ts->dtype->dtype == SAE_DTYPE_I32)
        return (int32_t)sae_le32(ts->data + 4 * i);
    return (int64_t)sae_le64(ts->data + 8 * i);
}
/* Every value of `ts` in 0 .. UINT32_MAX; what is above becomes UINT32_MAX, which the checks that
 * follow refuse as an id. A negative one is `fault`. */
enum sae_status sae_safetensors_read_ids(struct sae_safetensors_parser *ps,
                                         const struct sae_st_tensor *ts, enum sae_status fault,
                                         uint32_t **out);

/* ---- sparse.c -------------------------------------------------------------------------------- */

/* The tensors of the two sparse forms of decode's f, for a message. */
#define SAE_CSR_PARTS "f.indptr, f.indices, f.values and f.shape"
#define SAE_TOP_PARTS "f.top_indices and f.top_values"

/* Is a tensor of this name one of theirs? */
bool sae_safetensors_is_csr(const char *name);
bool sae_safetensors_is_top(const char *name);
/* Into the request's CSR. */
enum sae_status sae_safetensors_read_csr(struct sae_safetensors_parser *ps);
enum sae_status sae_safetensors_read_top(struct sae_safetensors_parser *ps);

#endif
