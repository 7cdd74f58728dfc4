/* flat.h - what readers share whose containers hold arrays by name, and no dicts of them.
 *
 * Called by st.c and numpy.c. Threads: as load.h. */
#ifndef SAE_FLAT_H
#define SAE_FLAT_H

#include "lib/load/reader.h"

/* Room for n tensors: ts->list and n_tensors. */
enum sae_status sae_flat_make(struct sae_tensors *ts, size_t n, struct sae_err *err) SAE_MUST_USE;
/* Tensor i, whose other members have been set. */
void sae_flat_name(struct sae_tensors *ts, size_t i, const char *name, size_t n,
                   const struct sae_dtype_row *dtype);
/* Once all are set: the one group, whose entries they are. */
enum sae_status sae_flat_describe(struct sae_tensors *ts, struct sae_err *err) SAE_MUST_USE;
/* sae_reader.narrow */
enum sae_status sae_flat_narrow(struct sae_tensors *ts, const char *prefix,
                                struct sae_err *err) SAE_MUST_USE;
/* Which tensor of the container tensor i of the list is. */
size_t sae_flat_stored(const struct sae_tensors *ts, size_t i);
/* sae_reader.choose */
enum sae_status sae_flat_choose(struct sae_tensors *ts, size_t g, size_t prefix,
                                struct sae_err *err) SAE_MUST_USE;
/* The view of tensor i, its values in the order of its indices, or the other way round. */
struct sae_view sae_flat_view(const struct sae_tensors *ts, size_t i, bool is_fortran);
void sae_flat_free(struct sae_tensors *ts);

#endif
