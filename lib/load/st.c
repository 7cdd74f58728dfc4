/* st.c - the reader of safetensors files. See reader.h.
 *
 * lib/format/safetensors reads the header and checks all that it says; here are the limits of a
 * file, and the dtypes that are read. */
#include "lib/format/safetensors.h"
#include "lib/load/config.h"
#include "lib/load/flat.h"
#include "lib/num.h"

#include <string.h>

static const struct sae_st_rules rules = {
    .what = "file",
    .where = "file",
    .max_header = (uint64_t)16 << 20,
    .max_entries = 100000,
    .max_keys = UINT64_MAX, /* the header's bytes bound them */
    .max_depth = 4,
    .strict = true,
    .malformed = SAE_E_FORMAT,
    .twice = SAE_E_FORMAT,
    .too_many = SAE_E_FORMAT,
};

/* Four zero bytes in a length of less than 4 GB, and the header's brace: no other format has both.
 */
static bool st_sniff(const unsigned char *head, size_t n)
{
    return n > 8 && sae_le32(head + 4) == 0 && head[8] == '{';
}

/* What no other format claims, and could be a damaged one of this. */
static bool st_guess(const unsigned char *head, size_t n)
{
    return n >= 8 && (st_sniff(head, n) || (n > 8 && head[8] == '{') ||
                      (sae_le64(head) > 0 && sae_le64(head) <= SAE_ST_HEADER_MAX));
}

static enum sae_status take_tensor(struct sae_tensors *ts, size_t i,
                                   const struct sae_st_tensor *from, struct sae_err *err)
{
    struct sae_tensor *t = &ts->list[i];

    sae_flat_name(ts, i, from->name, strlen(from->name), from->dtype);
    if (t->dtype == SAE_DTYPE_OTHER)
        return sae_err_set(err, SAE_E_FORMAT, t->name,
                           "cannot read tensor %s: its dtype is %s; F32, F16, BF16, F64, integers "
                           "and BOOL are read",
                           t->name, from->dtype->safetensors);
    if (from->ndim > SAE_MAX_DIMS)
        return sae_err_set(err, SAE_E_FORMAT, t->name,
                           "cannot read tensor %s: it has %u dimensions, at most %d are read",
                           t->name, from->ndim, SAE_MAX_DIMS);
    t->ndim = from->ndim;
    memcpy(t->shape, from->shape, sizeof t->shape);
    return SAE_OK;
}

static enum sae_status st_open(struct sae_tensors *ts, struct sae_err *err)
{
    struct sae_st_file *f = ts->priv = sae_calloc(1, sizeof *f);
    enum sae_status st;

    if (!f)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate container");
    st = sae_st_open_file(f, &rules, ts->fd, ts->file_bytes, err);
    if (st == SAE_OK)
        st = sae_flat_make(ts, f->n, err);
    for (size_t i = 0; st == SAE_OK && i < ts->n_tensors; i++)
        st = take_tensor(ts, i, &f->tensors[i], err);
    return st == SAE_OK ? sae_flat_describe(ts, err) : st;
}

static enum sae_status st_choose(struct sae_tensors *ts, size_t g, size_t prefix,
                                 struct sae_err *err)
{
    const struct sae_st_file *f = ts->priv;
    enum sae_status st = sae_flat_choose(ts, g, prefix, err);

    if (st == SAE_OK && f->metadata)
        st = sae_config_json(&ts->facts, "__metadata__", f->metadata, f->metadata_bytes, err);
    return st;
}

static void st_origin(const struct sae_tensors *ts, size_t i, struct sae_origin *out)
{
    const struct sae_st_file *f = ts->priv;

    *out = (struct sae_origin){
        .view = sae_flat_view(ts, i, false),
        .range = {ts->fd, ts->file_bytes, f->buffer + f->tensors[sae_flat_stored(ts, i)].begin},
    };
}

static void st_close(struct sae_tensors *ts)
{
    if (ts->priv)
        sae_st_close(ts->priv);
    sae_free(ts->priv);
    sae_flat_free(ts);
}

const struct sae_reader sae_reader_st = {
    .name = "safetensors",
    .has_rows = true,
    .sniff = st_sniff,
    .guess = st_guess,
    .open = st_open,
    .narrow = sae_flat_narrow,
    .choose = st_choose,
    .origin = st_origin,
    .close = st_close,
};
