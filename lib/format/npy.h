/* npy.h - the header of numpy's .npy: what the array is and where its values begin.
 *
 * The header is a literal of Python; it is read by a parser of its own and never evaluated. Called
 * by lib/load/numpy.c and proto/npy_rows.c. No state, any thread. Format: numpy.lib.format,
 * versions 1 to 3. */
#ifndef SAE_NPY_H
#define SAE_NPY_H

#include "lib/dtype.h"
#include "lib/format/stream.h"
#include "lib/types.h"

#define SAE_NPY_MAX_HEADER 65536u /* bytes of the literal */

struct sae_npy {
    const struct sae_dtype_row *dtype; /* of a dtype that is read */
    bool is_fortran;                   /* the first index runs fastest */
    unsigned ndim;
    uint64_t shape[SAE_MAX_DIMS];
    uint64_t count;        /* product of the shape */
    uint64_t header_bytes; /* of all that stands in front of the values */
};

/* Read the header from `src`, which begins where the .npy does, of `bytes` in all. The values take
 * all that is behind it. SAE_E_FORMAT, its where is `name`; SAE_E_NOMEM; those of src. */
enum sae_status sae_npy_open(struct sae_npy *out, const struct sae_stream *src, uint64_t bytes,
                             const char *name, struct sae_err *err) SAE_MUST_USE;

/* The header of an array in C order, as numpy writes it: version 1.0, blanks up to a multiple of 64
 * bytes. Returns how many bytes those are. ndim is at most SAE_MAX_DIMS; the dtype one that numpy
 * has. */
#define SAE_NPY_WRITTEN_MAX 320
size_t sae_npy_write(char dst[SAE_NPY_WRITTEN_MAX], enum sae_dtype dtype, const uint64_t *shape,
                     unsigned ndim);

#endif
