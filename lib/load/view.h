/* view.h - a strided 2-D view of a flat array that is read once from front to back, as f32, as it
 * is or as integers.
 *
 * Every byte of the storage is taken from the stream, in order and exactly once, whatever part of
 * it the view covers, so that a stream can verify a checksum; or from several streams, each of
 * which has some of its lines. Called by the readers. The calls keep no state: any thread. */
#ifndef SAE_VIEW_H
#define SAE_VIEW_H

#include "lib/base.h"
#include "lib/dtype.h"
#include "lib/format/stream.h"
#include "lib/types.h"

/* Element (r, c) is at offset + r * row_stride + c * col_stride of `numel` elements; whoever made
 * the view has checked that all of them are there, and that no product overflows. */
struct sae_view {
    const char *name; /* of the tensor, for errors; borrowed */
    bool vector;      /* 1-D: rows is 1, and errors give one index */
    enum sae_dtype dtype;
    uint64_t numel, offset;
    uint64_t rows, cols;
    uint64_t row_stride, col_stride;
    unsigned tail_bytes; /* of the storage behind its last whole element: read, and dropped */
};

/* Put the view's values into dst, row-major, or transposed: as F32, or where that is the view's own
 * dtype as F16 or BF16. Any value that is not finite as f32 is
 * SAE_E_WEIGHTS once the whole stream has been read; an error of the stream comes first. dst holds
 * anything after a failure. Views that cover their elements in one run, rows or columns first, need
 * at most 16 MB of buffers, slices of rows or columns one of them, others as much as the storage.
 */
enum sae_status sae_view_read(const struct sae_view *v, const struct sae_stream *src,
                              enum sae_dtype as, void *dst, bool transpose,
                              struct sae_err *err) SAE_MUST_USE;

/* A view in parts: its lines are its rows or its columns, whichever lie one behind the other; one
 * where neither do. */
uint64_t sae_view_lines(const struct sae_view *v);
/* The element of the storage with which the part from that line on begins: 0 for line 0, numel for
 * the number of lines. */
uint64_t sae_view_line_at(const struct sae_view *v, uint64_t line);
/* Bytes of buffers to read with. */
uint64_t sae_view_buffer_bytes(const struct sae_view *v, enum sae_dtype as, bool transpose);
/* sae_view_read of lines from .. to - 1: src begins with the part's first element and brings those
 * before the next part's, or, for the last line, also the tail. dst is the whole view's. */
enum sae_status sae_view_read_part(const struct sae_view *v, uint64_t from, uint64_t to,
                                   const struct sae_stream *src, enum sae_dtype as, void *dst,
                                   bool transpose, struct sae_err *err) SAE_MUST_USE;

/* The values of a view with one row and an integer dtype, or BOOL, into dst. SAE_E_WEIGHTS: one is
 * beyond int64. */
enum sae_status sae_view_integers(const struct sae_view *v, const struct sae_stream *src,
                                  int64_t *dst, struct sae_err *err) SAE_MUST_USE;

#endif
