/* origin.h - where a tensor's values come from: its view, and the bytes that it is a view of.
 *
 * A reader fills one in (reader.h); reading it opens, verifies and ends the stream, or those of its
 * parts. Owned by one thread. */
#ifndef SAE_ORIGIN_H
#define SAE_ORIGIN_H

#include "lib/format/fd.h"
#include "lib/format/zip.h"
#include "lib/load/load.h"
#include "lib/load/view.h"

struct sae_origin {
    struct sae_view view;
    const struct sae_zip *zip; /* the storage is `entry` of it; NULL: it is `range` of a file */
    const struct sae_zip_entry *entry;
    struct sae_fd_range range;
    uint64_t head_bytes; /* in front of the storage: read, and dropped */
    bool is_fortran;     /* of a flat container: the first index runs fastest */
};

/* As sae_load_read, and as sae_load_matrix. With a team (NULL: this thread alone) a matrix whose
 * bytes can be had from anywhere is read in parts side by side, whose buffers take at most 48 MB
 * together. What is made, and what is said of a fault, is the same. */
enum sae_status sae_origin_read(const struct sae_origin *s, enum sae_dtype as, void *dst,
                                bool transpose, struct sae_team *team,
                                struct sae_err *err) SAE_MUST_USE;
/* As sae_load_integers, of an origin whose view has an integer dtype, or BOOL. */
enum sae_status sae_origin_integers(const struct sae_origin *s, int64_t *dst,
                                    struct sae_err *err) SAE_MUST_USE;
/* The first n rows of `t`, of a flat container (rows.h). */
enum sae_status sae_origin_rows(const struct sae_origin *s, const struct sae_tensor *t, size_t n,
                                float *dst, struct sae_err *err) SAE_MUST_USE;
/* The value of a floating view of one element, when little must be read for it. */
bool sae_origin_number(const struct sae_origin *s, double *out);

#endif
