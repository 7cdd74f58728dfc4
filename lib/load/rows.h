/* rows.h - the first rows of an array as f32, whatever its dimensions: the last of them is a row's.
 *
 * Values are data, not weights: what is not finite stays. Called by load.c. Holds no state: any
 * thread. */
#ifndef SAE_ROWS_H
#define SAE_ROWS_H

#include "lib/format/stream.h"
#include "lib/load/load.h"

/* `t` is of a floating dtype, has at least one dimension and n rows or more; src brings its values,
 * in the order of its indices, or, with is_fortran, the first index running fastest. Nothing is
 * read behind what is needed. dst [n][t's last dimension]. SAE_E_NOMEM; those of src. */
enum sae_status sae_rows_read(const struct sae_tensor *t, bool is_fortran,
                              const struct sae_stream *src, size_t n, float *dst,
                              struct sae_err *err) SAE_MUST_USE;

#endif
