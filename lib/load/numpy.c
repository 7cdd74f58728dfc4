/* numpy.c - the readers of .npy, one array that is called "array", and of .npz, a zip archive with
 * an .npy for each of its arrays. See reader.h.
 *
 * A deflated entry is unpacked from its beginning whenever it is read: once for its header, once
 * for its values. */
#include "lib/format/npy.h"
#include "lib/load/flat.h"
#include "lib/num.h"

#include <string.h>

#define NPY_NAME "array"

struct numpy {
    struct sae_zip *zip;    /* NULL: an .npy */
    struct sae_npy *arrays; /* as ts->list */
};

static enum sae_status make(struct sae_tensors *ts, struct sae_err *err)
{
    ts->priv = sae_calloc(1, sizeof(struct numpy));
    return ts->priv ? SAE_OK
                    : sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate list of arrays");
}

/* Room for n arrays. */
static enum sae_status make_arrays(struct sae_tensors *ts, size_t n, struct sae_err *err)
{
    struct numpy *np = ts->priv;
    enum sae_status st = sae_flat_make(ts, n, err);

    np->arrays = sae_calloc(n, sizeof *np->arrays);
    if (st == SAE_OK && !np->arrays)
        st = sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate list of %zu arrays", n);
    return st;
}

static enum sae_status read_array(struct sae_tensors *ts, size_t i, const struct sae_stream *src,
                                  uint64_t bytes, const char *name, size_t n, struct sae_err *err)
{
    struct sae_npy *npy = &((struct numpy *)ts->priv)->arrays[i];
    enum sae_status st;

    sae_load_cut_name(ts->list[i].name, name, n);
    st = sae_npy_open(npy, src, bytes, ts->list[i].name, err);
    if (st != SAE_OK)
        return st;
    sae_flat_name(ts, i, name, n, npy->dtype);
    ts->list[i].ndim = npy->ndim;
    memcpy(ts->list[i].shape, npy->shape, sizeof npy->shape);
    return SAE_OK;
}

/* ---- .npy --------------------------------------------------------------------------------- */

static bool npy_sniff(const unsigned char *head, size_t n)
{
    return n >= 6 && memcmp(head, "\x93NUMPY", 6) == 0;
}

static enum sae_status npy_open(struct sae_tensors *ts, struct sae_err *err)
{
    struct sae_fd_range range = {ts->fd, ts->file_bytes, 0};
    struct sae_stream src = {sae_fd_next, &range};
    enum sae_status st = make(ts, err);

    if (st == SAE_OK)
        st = make_arrays(ts, 1, err);
    if (st == SAE_OK)
        st = read_array(ts, 0, &src, ts->file_bytes, NPY_NAME, strlen(NPY_NAME), err);
    return st == SAE_OK ? sae_flat_describe(ts, err) : st;
}

/* ---- .npz --------------------------------------------------------------------------------- */

enum { LOCAL_BYTES = 30, LOCAL_NAME_BYTES = 26 };

/* An archive whose first entry is an .npy. */
static bool npz_sniff(const unsigned char *head, size_t n)
{
    size_t end;

    if (n < LOCAL_BYTES || memcmp(head, "PK\3\4", 4) != 0)
        return false;
    end = LOCAL_BYTES + sae_le16(head + LOCAL_NAME_BYTES);
    return end <= n && end > LOCAL_BYTES + 4 && memcmp(head + end - 4, ".npy", 4) == 0;
}

static enum sae_status next_of_zip(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    return sae_zip_stream_read(ctx, buf, n, err);
}

static enum sae_status read_entry(struct sae_tensors *ts, size_t i, struct sae_err *err)
{
    const struct numpy *np = ts->priv;
    const struct sae_zip_entry *e = sae_zip_entry(np->zip, i);
    struct sae_zip_stream stream;
    struct sae_stream src = {next_of_zip, &stream};
    size_t n = strlen(e->name);
    enum sae_status st;

    if (!sae_ends_in(e->name, ".npy"))
        return sae_err_set(err, SAE_E_FORMAT, e->name,
                           "cannot read .npz archive: its entry %.100s is no .npy", e->name);
    sae_zip_stream_init(&stream, np->zip, e);
    st = read_array(ts, i, &src, e->bytes, e->name, n - 4, err);
    sae_zip_stream_fini(&stream);
    return st;
}

static enum sae_status npz_open(struct sae_tensors *ts, struct sae_err *err)
{
    struct numpy *np;
    enum sae_status st = make(ts, err);

    if (st != SAE_OK)
        return st;
    np = ts->priv;
    st = sae_zip_open(&np->zip, ts->fd, ts->file_bytes, err);
    if (st != SAE_OK)
        return st;
    sae_zip_require_crcs(np->zip);
    st = make_arrays(ts, sae_zip_count(np->zip), err);
    for (size_t i = 0; st == SAE_OK && i < ts->n_tensors; i++)
        st = read_entry(ts, i, err);
    return st == SAE_OK ? sae_flat_describe(ts, err) : st;
}

/* ---- both --------------------------------------------------------------------------------- */

static void numpy_origin(const struct sae_tensors *ts, size_t i, struct sae_origin *out)
{
    const struct numpy *np = ts->priv;
    size_t at = sae_flat_stored(ts, i);

    *out = (struct sae_origin){
        .view = sae_flat_view(ts, i, np->arrays[at].is_fortran),
        .zip = np->zip,
        .entry = np->zip ? sae_zip_entry(np->zip, at) : NULL,
        .range = {ts->fd, ts->file_bytes, 0},
        .head_bytes = np->arrays[at].header_bytes,
        .is_fortran = np->arrays[at].is_fortran,
    };
}

static void numpy_close(struct sae_tensors *ts)
{
    struct numpy *np = ts->priv;

    if (np) {
        sae_zip_close(np->zip);
        sae_free(np->arrays);
    }
    sae_free(np);
    sae_flat_free(ts);
}

const struct sae_reader sae_reader_npy = {
    .name = "npy",
    .has_rows = true,
    .sniff = npy_sniff,
    .open = npy_open,
    .narrow = sae_flat_narrow,
    .choose = sae_flat_choose,
    .origin = numpy_origin,
    .close = numpy_close,
};

const struct sae_reader sae_reader_npz = {
    .name = "npz",
    .sniff = npz_sniff,
    .open = npz_open,
    .narrow = sae_flat_narrow,
    .choose = sae_flat_choose,
    .origin = numpy_origin,
    .close = numpy_close,
};
