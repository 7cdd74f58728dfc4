/* npy_rows.c - application/x-npy: one array of numpy as it stands in a file, both ways.
 *
 * A body has rows of f2, f4 or f8, in C or Fortran order; all dimensions but the last are leading
 * ones. An answer is the main tensor as numpy would write it. The header is read by
 * lib/format/npy.c. Called by routes on a connection or pool thread; touches nothing but its
 * arguments. Spec section 3.2. */
#include "proto/wire.h"

#include "lib/dtype.h"
#include "lib/format/npy.h"
#include "lib/num.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* ---- bodies --------------------------------------------------------------------------------- */

/* What is left of a body that is read from front to back. */
struct rest {
    const unsigned char *p;
    size_t n;
};

static enum sae_status next(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    struct rest *rest = ctx;

    (void)err;
    assert(n <= rest->n); /* the reader knows how much there is */
    memcpy(buf, rest->p, n);
    rest->p += n;
    rest->n -= n;
    return SAE_OK;
}

/* The header, and the shape of the request by it. */
static enum sae_status open_array(struct sae_npy *npy, struct sae_request *r,
                                  const struct sae_target *t, const void *body, size_t n,
                                  struct sae_err *err)
{
    const char *name = sae_op_input(t->op)->name;
    struct rest rest = {body, n};
    struct sae_err why = {0};
    enum sae_status st = sae_npy_open(npy, &(struct sae_stream){next, &rest}, n, name, &why);

    if (st != SAE_OK)
        return sae_err_set(err, st == SAE_E_FORMAT ? SAE_E_MALFORMED_BODY : st, name, "%s",
                           why.text);
    if (!sae_dtype_is_floating(npy->dtype->dtype))
        return sae_err_set(err, SAE_E_MALFORMED_BODY, name,
                           "cannot read .npy array %s: its dtype is %s, wanted float16, float32 or "
                           "float64",
                           name, npy->dtype->name);
    if (t->type.has_dtype && t->type.dtype != npy->dtype->dtype)
        return sae_err_set(err, SAE_E_MALFORMED_BODY, name,
                           "cannot read .npy array %s: its dtype is %s, its Content-Type says %s",
                           name, npy->dtype->name, sae_dtype_name(t->type.dtype));
    if (npy->ndim == 0)
        return sae_err_set(err, SAE_E_BAD_SHAPE, name,
                           "cannot read .npy array %s: its shape is (), wanted 1 to %d dimensions",
                           name, SAE_MAX_DIMS);
    st = sae_width_check(t, npy->shape[npy->ndim - 1], err);
    if (st != SAE_OK)
        return st;
    r->lead.n = npy->ndim - 1;
    memcpy(r->lead.dim, npy->shape, r->lead.n * sizeof r->lead.dim[0]);
    r->n_rows = (size_t)(npy->count / sae_target_width(t));
    return sae_request_check(r, t, err);
}

/* Where a row's first value stands in Fortran order: of its indices the last counts fastest in the
 * row's number, the first in the place. */
static size_t place_of(const struct sae_request *r, size_t row)
{
    size_t place = 0, step = r->n_rows;

    for (unsigned k = r->lead.n; k-- > 0;) {
        const size_t dim = (size_t)r->lead.dim[k];

        step /= dim;
        place += row % dim * step;
        row /= dim;
    }
    return place;
}

/* Rows that are converted side by side: in Fortran order the values of a column are neighbours. */
enum { TILE_ROWS = 16 };

static void convert_fortran(struct sae_request *r, const struct sae_npy *npy,
                            const unsigned char *data)
{
    const size_t width = (size_t)npy->shape[npy->ndim - 1], item = npy->dtype->bits / 8;

    for (size_t row = 0; row < r->n_rows; row += TILE_ROWS) {
        size_t place[TILE_ROWS], m = r->n_rows - row;

        m = m < TILE_ROWS ? m : TILE_ROWS;
        for (size_t i = 0; i < m; i++)
            place[i] = place_of(r, row + i);
        for (size_t k = 0; k < width; k++)
            for (size_t i = 0; i < m; i++)
                sae_dtype_to_f32(npy->dtype->dtype, data + (place[i] + k * r->n_rows) * item,
                                 &r->values[(row + i) * width + k], 1);
    }
}

static bool is_in_order(const struct sae_npy *npy)
{
    return !npy->is_fortran || npy->ndim == 1;
}

static enum sae_status read_values(struct sae_request *r, const struct sae_target *t,
                                   const struct sae_npy *npy, const unsigned char *data,
                                   struct sae_err *err)
{
    const char *name = sae_op_input(t->op)->name;
    enum sae_status st = SAE_OK;

    if (npy->dtype->dtype == SAE_DTYPE_F64)
        st = sae_f64_check(name, data, (size_t)npy->count, err);
    if (st == SAE_OK)
        st = sae_values_alloc(r, t, npy->count, err);
    if (st != SAE_OK)
        return st;
    if (is_in_order(npy))
        sae_dtype_to_f32(npy->dtype->dtype, data, r->values, (size_t)npy->count);
    else
        convert_fortran(r, npy, data);
    return SAE_OK;
}

enum sae_status sae_npy_parse(struct sae_request *r, const struct sae_target *t, const void *body,
                              size_t n, struct sae_err *err)
{
    struct sae_npy npy;
    enum sae_status st = open_array(&npy, r, t, body, n, err);

    if (st != SAE_OK || r->n_rows == 0)
        return st;
    return read_values(r, t, &npy, (const unsigned char *)body + npy.header_bytes, err);
}

enum sae_status sae_npy_keep(struct sae_request *r, const struct sae_target *t, void **body,
                             size_t n, struct sae_err *err)
{
    unsigned char *data = *body;
    struct sae_npy npy;
    enum sae_status st = open_array(&npy, r, t, data, n, err);

    if (st != SAE_OK || r->n_rows == 0)
        return st;
    if (npy.dtype->dtype != SAE_DTYPE_F32 || !is_in_order(&npy))
        return read_values(r, t, &npy, data + npy.header_bytes, err);
    memmove(data, data + npy.header_bytes, (size_t)npy.count * sizeof *r->values);
    r->values = *body;
    *body = NULL;
    return SAE_OK;
}

/* ---- answers -------------------------------------------------------------------------------- */

static size_t write_header(char dst[SAE_NPY_WRITTEN_MAX], const struct sae_answer *a)
{
    const struct sae_lead *lead = sae_out_lead(a, &a->tensors[0]);
    uint64_t shape[SAE_MAX_DIMS];

    memcpy(shape, lead->dim, lead->n * sizeof shape[0]);
    shape[lead->n] = a->tensors[0].width;
    return sae_npy_write(dst, a->dtype, shape, lead->n + 1);
}

uint64_t sae_npy_bound(const struct sae_answer *a)
{
    char header[SAE_NPY_WRITTEN_MAX];
    uint64_t n = sae_dense_bytes(a);

    return sae_add_u64(n, write_header(header, a), &n) ? UINT64_MAX : n;
}

enum sae_status sae_npy_print(struct sae_body *out, const struct sae_answer *a, size_t max_bytes,
                              struct sae_err *err)
{
    char header[SAE_NPY_WRITTEN_MAX];
    const size_t n_header = write_header(header, a);

    return sae_dense_print(out, header, n_header, a, max_bytes, err);
}
