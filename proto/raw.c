/* raw.c - application/octet-stream: rows of little-endian f32, or of the dtype that is named,
 * nothing else.
 *
 * The leading dimensions travel in the Saed-Shape header, since the bytes have none. Called by
 * routes on a connection or pool thread; touches nothing but its arguments. Spec section 3.2. */
#include "proto/wire.h"

#include "lib/dtype.h"
#include "lib/num.h"
#include "lib/scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The bytes are the values: no swap anywhere in this file. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw bodies are little-endian");

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* "2, 3,768": all dimensions in dim[], *n of them. False: not decimals with commas between them,
 * more than SAE_MAX_DIMS, or one past 64 bits. */
static bool read_shape(const char *s, uint64_t dim[SAE_MAX_DIMS], unsigned *n)
{
    const char *end = s + strlen(s);
    bool fits;

    *n = 0;
    for (;; s++) {
        while (is_blank(*s))
            s++;
        if (*n == SAE_MAX_DIMS || !(s = sae_scan_u64(s, end, &dim[(*n)++], &fits)) || !fits)
            return false;
        while (is_blank(*s))
            s++;
        if (*s == '\0')
            return true;
        if (*s != ',')
            return false;
    }
}

static enum sae_status shape_from_header(struct sae_request *r, const struct sae_target *t,
                                         uint64_t n_bytes, struct sae_err *err)
{
    const char *shape = t->shape;
    uint64_t dim[SAE_MAX_DIMS], rows = 1, bytes;
    enum sae_status st;
    bool too_big = false;
    unsigned n;

    if (!read_shape(shape, dim, &n))
        return sae_err_set(err, SAE_E_BAD_SHAPE, "Saed-Shape",
                           "cannot read Saed-Shape: \"%.100s\" is not 1 to %d decimal numbers with "
                           "commas between them",
                           shape, SAE_MAX_DIMS);
    st = sae_width_check(t, dim[n - 1], err);
    if (st != SAE_OK)
        return st;
    r->lead.n = n - 1;
    for (unsigned i = 0; i + 1 < n; i++)
        r->lead.dim[i] = dim[i];
    /* A zero anywhere makes the product zero, whatever the others are. */
    for (unsigned i = 0; i + 1 < n; i++)
        if (dim[i] == 0)
            rows = 0;
    for (unsigned i = 0; rows && i + 1 < n; i++)
        too_big |= sae_mul_u64(rows, dim[i], &rows);
    too_big |= sae_mul_u64(rows, dim[n - 1] * sae_dtype_bytes(t->type.dtype), &bytes);
    if (too_big || bytes != n_bytes)
        return sae_err_set(err, SAE_E_BAD_SHAPE, "Saed-Shape",
                           "cannot read body: Saed-Shape \"%.100s\" does not fit its %" PRIu64
                           " bytes of %s",
                           shape, n_bytes, sae_dtype_word(t->type.dtype, SAE_DTYPE_WIRE));
    r->n_rows = (size_t)rows;
    return SAE_OK;
}

static enum sae_status shape_from_size(struct sae_request *r, const struct sae_target *t,
                                       uint64_t n_bytes, struct sae_err *err)
{
    uint64_t width = sae_target_width(t), row_bytes = width * sae_dtype_bytes(t->type.dtype);

    if (n_bytes % row_bytes)
        return sae_err_set(err, SAE_E_BAD_SHAPE, sae_op_input(t->op)->name,
                           "cannot read body: %" PRIu64 " bytes are not whole rows of %" PRIu64
                           " bytes (%" PRIu64 " %s each for \"%.100s\")",
                           n_bytes, row_bytes, width, sae_dtype_word(t->type.dtype, SAE_DTYPE_WIRE),
                           t->dictionary);
    r->n_rows = (size_t)(n_bytes / row_bytes);
    r->lead = (struct sae_lead){.n = 1, .dim = {r->n_rows}};
    return SAE_OK;
}

/* Bytes whose shape is not given, or another, may be anything. */
static enum sae_status check_foreign(const struct sae_target *t, const void *body, size_t n,
                                     struct sae_err *err)
{
    const char *advice = sae_foreign_type(body, n);

    if (!advice)
        return SAE_OK;
    return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "",
                       "cannot read body: its Content-Type says rows of %s, it is %s",
                       sae_dtype_name(t->type.dtype), advice);
}

static enum sae_status shape_and_check(struct sae_request *r, const struct sae_target *t,
                                       const void *body, size_t n, struct sae_err *err)
{
    struct sae_err misfit = {0};
    enum sae_status st = SAE_E_BAD_SHAPE;

    if (t->shape)
        st = shape_from_header(r, t, n, &misfit);
    if (st != SAE_OK && check_foreign(t, body, n, err) != SAE_OK)
        return SAE_E_UNSUPPORTED_MEDIA_TYPE;
    if (!t->shape)
        st = shape_from_size(r, t, n, &misfit);
    if (st == SAE_OK)
        return sae_request_check(r, t, err);
    if (err && err->status == SAE_OK)
        *err = misfit;
    return st;
}

enum sae_status sae_raw_parse(struct sae_request *r, const struct sae_target *t, const void *body,
                              size_t n, struct sae_err *err)
{
    const enum sae_dtype dtype = t->type.dtype;
    const size_t n_values = n / sae_dtype_bytes(dtype);
    enum sae_status st = shape_and_check(r, t, body, n, err);

    if (st != SAE_OK || r->n_rows == 0)
        return st;
    if (dtype == SAE_DTYPE_F64)
        st = sae_f64_check(sae_op_input(t->op)->name, body, n_values, err);
    if (st == SAE_OK)
        st = sae_values_alloc(r, t, n_values, err);
    if (st == SAE_OK)
        sae_dtype_to_f32(dtype, body, r->values, n_values);
    return st;
}

enum sae_status sae_raw_keep(struct sae_request *r, const struct sae_target *t, void **body,
                             size_t n, struct sae_err *err)
{
    enum sae_status st;

    if (t->type.dtype != SAE_DTYPE_F32)
        return sae_raw_parse(r, t, *body, n, err);
    st = shape_and_check(r, t, *body, n, err);
    if (st != SAE_OK || r->n_rows == 0)
        return st;
    r->values = *body;
    *body = NULL;
    return SAE_OK;
}

/* ---- answers -------------------------------------------------------------------------------- */

enum sae_status sae_raw_print(struct sae_body *out, const struct sae_answer *a, size_t max_bytes,
                              struct sae_err *err)
{
    enum sae_status st = sae_dense_print(out, "", 0, a, max_bytes, err);
    const struct sae_lead *lead = sae_out_lead(a, &a->tensors[0]);
    size_t len = 0;

    if (st != SAE_OK)
        return st;
    for (unsigned i = 0; i < lead->n; i++)
        len += (size_t)snprintf(out->shape + len, sizeof out->shape - len, "%" PRIu64 ",",
                                lead->dim[i]);
    snprintf(out->shape + len, sizeof out->shape - len, "%" PRIu64, a->tensors[0].width);
    return SAE_OK;
}
