/* origin.c - see origin.h. */
#include "lib/load/origin.h"

#include "lib/load/rows.h"

#include <string.h>

#define MAX_NUMBER_BYTES 4096 /* of a storage that is read for the number in it */

/* An open origin. */
struct bytes {
    struct sae_zip_stream zip;
    struct sae_fd_range range;
    struct sae_stream below;
    const char *name; /* the tensor's */
};

static enum sae_status next_of_zip(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    return sae_zip_stream_read(ctx, buf, n, err);
}

/* What is wrong with the bytes is told of the tensor. */
static enum sae_status next_bytes(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    static const char verb[] = "cannot read ";
    struct bytes *b = ctx;
    struct sae_err low = {0};
    enum sae_status st = b->below.next(b->below.ctx, buf, n, &low);

    if (st != SAE_OK)
        sae_err_set(err, st, b->name, "cannot read tensor %s: %s", b->name,
                    low.text + (strncmp(low.text, verb, strlen(verb)) == 0 ? strlen(verb) : 0));
    return st;
}

static enum sae_status begin(const struct sae_origin *s, struct bytes *b, struct sae_err *err)
{
    unsigned char buf[4096];
    enum sae_status st = SAE_OK;

    *b = (struct bytes){.name = s->view.name, .range = s->range};
    b->below = (struct sae_stream){sae_fd_next, &b->range};
    if (s->zip) {
        sae_zip_stream_init(&b->zip, s->zip, s->entry);
        b->below = (struct sae_stream){next_of_zip, &b->zip};
    }
    for (uint64_t left = s->head_bytes; st == SAE_OK && left > 0;) {
        size_t n = left < sizeof buf ? (size_t)left : sizeof buf;

        st = next_bytes(b, buf, n, err);
        left -= n;
    }
    return st;
}

enum sae_status sae_origin_read(const struct sae_origin *s, enum sae_dtype as, void *dst,
                                bool transpose, struct sae_err *err)
{
    struct bytes b;
    struct sae_stream src = {next_bytes, &b};
    enum sae_status st = begin(s, &b, err);

    if (st == SAE_OK)
        st = sae_view_read(&s->view, &src, as, dst, transpose, err);
    sae_zip_stream_fini(&b.zip);
    return st;
}

enum sae_status sae_origin_integers(const struct sae_origin *s, int64_t *dst, struct sae_err *err)
{
    struct bytes b;
    struct sae_stream src = {next_bytes, &b};
    enum sae_status st = begin(s, &b, err);

    if (st == SAE_OK)
        st = sae_view_integers(&s->view, &src, dst, err);
    sae_zip_stream_fini(&b.zip);
    return st;
}

enum sae_status sae_origin_rows(const struct sae_origin *s, const struct sae_tensor *t, size_t n,
                                float *dst, struct sae_err *err)
{
    struct bytes b;
    struct sae_stream src = {next_bytes, &b};
    enum sae_status st = begin(s, &b, err);

    if (st == SAE_OK)
        st = sae_rows_read(t, s->is_fortran, &src, n, dst, err);
    sae_zip_stream_fini(&b.zip);
    return st;
}

bool sae_origin_number(const struct sae_origin *s, double *out)
{
    const struct sae_view *v = &s->view;
    float f;

    if (!sae_dtype_is_floating(v->dtype) || v->rows != 1 || v->cols != 1 ||
        v->numel > MAX_NUMBER_BYTES / sizeof(double) ||
        sae_origin_read(s, SAE_DTYPE_F32, &f, false, NULL) != SAE_OK)
        return false;
    *out = (double)f;
    return true;
}
