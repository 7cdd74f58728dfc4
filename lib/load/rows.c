/* rows.c - see rows.h. */
#include "lib/load/rows.h"

#define PIECE ((size_t)64 << 10) /* values */

/* Where an element of an array lies whose first index runs fastest. */
struct place {
    const struct sae_tensor *t;
    uint64_t index[SAE_MAX_DIMS], step[SAE_MAX_DIMS]; /* step: rows from one to the next of it */
    uint64_t row, col;
};

static void begin(struct place *p, const struct sae_tensor *t)
{
    *p = (struct place){.t = t};
    for (unsigned k = t->ndim - 1; k-- > 0;)
        p->step[k] = k + 2 < t->ndim ? p->step[k + 1] * t->shape[k + 1] : 1;
}

static void advance(struct place *p)
{
    unsigned last = p->t->ndim - 1;

    for (unsigned k = 0; k < last; k++) {
        if (++p->index[k] < p->t->shape[k]) {
            p->row += p->step[k];
            return;
        }
        p->row -= (p->index[k] - 1) * p->step[k];
        p->index[k] = 0;
    }
    p->col++;
}

/* All of its values go by: each row has one in every part of them. */
static void scatter(struct place *p, const float *values, size_t count, size_t n, float *dst)
{
    uint64_t width = p->t->shape[p->t->ndim - 1];

    for (size_t i = 0; i < count; i++, advance(p))
        if (p->row < n)
            dst[p->row * width + p->col] = values[i];
}

enum sae_status sae_rows_read(const struct sae_tensor *t, bool is_fortran,
                              const struct sae_stream *src, size_t n, float *dst,
                              struct sae_err *err)
{
    size_t item = sae_dtype_bytes(t->dtype);
    uint64_t width = t->shape[t->ndim - 1], count = n * width;
    unsigned char *raw = sae_alloc(PIECE, item);
    float *values = sae_alloc(PIECE, sizeof *values);
    enum sae_status st = SAE_OK;
    struct place p;

    begin(&p, t);
    for (unsigned k = 0; is_fortran && k + 1 < t->ndim; k++)
        count = k ? count * t->shape[k] : width * t->shape[0];
    if (!raw || !values)
        st = sae_err_set(err, SAE_E_NOMEM, t->name, "cannot read %s: out of memory", t->name);
    for (uint64_t at = 0; st == SAE_OK && at < count;) {
        size_t now = count - at < PIECE ? (size_t)(count - at) : PIECE;

        st = src->next(src->ctx, raw, now * item, err);
        if (st != SAE_OK)
            break;
        sae_dtype_to_f32(t->dtype, raw, is_fortran ? values : dst + at, now);
        if (is_fortran)
            scatter(&p, values, now, n, dst);
        at += now;
    }
    sae_free(values);
    sae_free(raw);
    return st;
}
