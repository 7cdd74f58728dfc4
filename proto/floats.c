/* floats.c - what the binary forms share: arrays of plain numbers, read and printed.
 *
 * Called by the codecs on a connection or pool thread; touches nothing but its arguments. Spec
 * section 3.2. */
#include "proto/wire.h"

#include "lib/dtype.h"
#include "lib/num.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum sae_status sae_values_alloc(struct sae_request *r, const struct sae_target *t, uint64_t n,
                                 struct sae_err *err)
{
    uint64_t bytes, total;
    enum sae_status st;

    if (sae_mul_u64(n, sizeof *r->values, &bytes) || sae_add_u64(r->held_bytes, bytes, &total))
        bytes = total = UINT64_MAX;
    st = sae_target_hold(t, total, err);
    if (st != SAE_OK)
        return st;
    r->values = sae_alloc((size_t)n, sizeof *r->values);
    if (!r->values)
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot read body: no memory for %" PRIu64 " bytes", bytes);
    r->held_bytes += bytes;
    return SAE_OK;
}

enum sae_status sae_f64_check(const char *name, const void *src, uint64_t n, struct sae_err *err)
{
    const unsigned char *p = src;

    for (uint64_t i = 0; i < n; i++) {
        const double v = sae_dtype_f64_at(p + 8 * i);

        if (isinf((float)v) && !isinf(v))
            return sae_err_set(err, SAE_E_BAD_NUMBER, name,
                               "cannot read tensor %s: value %" PRIu64 " is %g, f32 cannot hold it",
                               name, i, v);
    }
    return SAE_OK;
}

/* ---- answers of one dense tensor ------------------------------------------------------------ */

bool sae_dense_can(const struct sae_answer *a)
{
    return a->n_tensors == 1 && a->tensors[0].form == SAE_FORM_DENSE;
}

uint64_t sae_dense_bytes(const struct sae_answer *a)
{
    uint64_t n;

    if (sae_mul_u64(sae_out_rows(a, &a->tensors[0]), a->tensors[0].width, &n) ||
        sae_mul_u64(n, sae_dtype_bytes(a->dtype), &n))
        return UINT64_MAX;
    return n;
}

enum sae_status sae_dense_print(struct sae_body *out, const void *head, size_t n_head,
                                const struct sae_answer *a, size_t max_bytes, struct sae_err *err)
{
    const uint64_t values = sae_dense_bytes(a);
    uint64_t n;

    if (sae_add_u64(values, n_head, &n))
        n = UINT64_MAX;
    if (n > max_bytes)
        return sae_err_limit(err, SAE_E_RESPONSE_TOO_LARGE, "--max-response-bytes", max_bytes, n,
                             "cannot print answer: it has %" PRIu64 " bytes", n);
    out->data = sae_alloc((size_t)n, 1);
    if (!out->data)
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot print answer: no memory for %" PRIu64 " bytes", n);
    memcpy(out->data, head, n_head);
    sae_dtype_from_f32(a->dtype, a->tensors[0].data, out->data + n_head,
                       (size_t)values / sae_dtype_bytes(a->dtype));
    out->n = (size_t)n;
    return SAE_OK;
}
