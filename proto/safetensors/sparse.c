/* sparse.c - the sparse f of decode, from tensors: CSR, or the k entries a row of top_k.
 *
 * Each form is several tensors, all of which must be there; both come to the request's CSR.
 * Called by parse.c; no state. Spec section 3.2. */
#include "proto/safetensors/parse.h"

#include <inttypes.h>
#include <string.h>

static const char *const csr_names[] = {"f.indptr", "f.indices", "f.values", "f.shape"};
enum { CSR_INDPTR, CSR_INDICES, CSR_VALUES, CSR_SHAPE, N_CSR };

/* As an answer with top_k has it: k entries a row, those of value 0 being fillers. */
static const char *const top_names[] = {"f.top_indices", "f.top_values"};
enum { TOP_INDICES, TOP_VALUES, N_TOP };

static enum sae_status read_csr_shape(struct sae_safetensors_parser *ps,
                                      const struct sae_st_tensor *ts)
{
    uint64_t dim[SAE_MAX_DIMS];
    enum sae_status st = sae_safetensors_want_list(ps, ts);

    if (st != SAE_OK)
        return st;
    if (ts->count == 0 || ts->count > SAE_MAX_DIMS)
        return sae_err_set(ps->err, SAE_E_BAD_SHAPE, ts->name,
                           "cannot read tensor %s: it names %" PRIu64 " dimensions, wanted 1 to %d",
                           ts->name, ts->count, SAE_MAX_DIMS);
    for (uint64_t i = 0; i < ts->count; i++) {
        int64_t v = sae_safetensors_int(ts, i);

        if (v < 0)
            return sae_err_set(ps->err, SAE_E_BAD_SHAPE, ts->name,
                               "cannot read tensor %s: dimension %" PRIu64 " is %" PRId64, ts->name,
                               i, v);
        dim[i] = (uint64_t)v;
    }
    return sae_safetensors_set_lead(ps, dim, ts->count);
}

/* The n parts of a form, all of which must be there. */
static enum sae_status find_parts(struct sae_safetensors_parser *ps, const char *const *names,
                                  int n, const struct sae_st_tensor **part)
{
    for (int i = 0; i < n; i++) {
        part[i] = sae_st_find(ps->file, names[i]);
        if (!part[i])
            return sae_err_set(ps->err, SAE_E_BAD_SHAPE, names[i],
                               "cannot read f: tensor %s is missing (a sparse f has " SAE_CSR_PARTS
                               ", or " SAE_TOP_PARTS ")",
                               names[i]);
    }
    return SAE_OK;
}

static enum sae_status read_indptr(struct sae_safetensors_parser *ps,
                                   const struct sae_st_tensor *ts)
{
    struct sae_csr *c = &ps->r->csr;
    enum sae_status st;

    if (ts->count != (uint64_t)ps->r->n_rows + 1)
        return sae_err_set(ps->err, SAE_E_BAD_SHAPE, ts->name,
                           "cannot read tensor %s: it has %" PRIu64
                           " items, %zu rows need one more than rows",
                           ts->name, ts->count, ps->r->n_rows);
    st = sae_safetensors_hold(ps, &c->indptr, ts->name, ts->count, sizeof *c->indptr);
    for (uint64_t i = 0; st == SAE_OK && i < ts->count; i++) {
        int64_t v = sae_safetensors_int(ts, i);

        if (v < 0)
            return sae_err_set(ps->err, SAE_E_BAD_SHAPE, ts->name,
                               "cannot read tensor %s: item %" PRIu64 " is %" PRId64, ts->name, i,
                               v);
        c->indptr[i] = (uint64_t)v;
    }
    return st;
}

enum sae_status sae_safetensors_read_csr(struct sae_safetensors_parser *ps)
{
    const struct sae_st_tensor *part[N_CSR] = {NULL};
    struct sae_request *r = ps->r;
    enum sae_status st = find_parts(ps, csr_names, N_CSR, part);

    if (st != SAE_OK)
        return st;
    r->is_sparse = true;
    if ((st = sae_safetensors_want_list(ps, part[CSR_INDPTR])) != SAE_OK ||
        (st = sae_safetensors_want_list(ps, part[CSR_INDICES])) != SAE_OK ||
        (st = read_csr_shape(ps, part[CSR_SHAPE])) != SAE_OK)
        return st;
    if (part[CSR_VALUES]->ndim != 1)
        return sae_safetensors_wrong_rank(ps, part[CSR_VALUES], "1");
    if (part[CSR_VALUES]->count != part[CSR_INDICES]->count)
        return sae_err_set(ps->err, SAE_E_BAD_SHAPE, "f.values",
                           "cannot read f: f.indices has %" PRIu64 " items, f.values has %" PRIu64,
                           part[CSR_INDICES]->count, part[CSR_VALUES]->count);
    r->csr.nnz = (size_t)part[CSR_INDICES]->count;
    if ((st = read_indptr(ps, part[CSR_INDPTR])) != SAE_OK ||
        (st = sae_safetensors_read_ids(ps, part[CSR_INDICES], SAE_E_BAD_SHAPE, &r->csr.ids)) !=
            SAE_OK)
        return st;
    return sae_safetensors_read_main(ps, part[CSR_VALUES], &r->csr.values);
}

/* Close the gaps where fillers were: the entries of row i end at indptr[i + 1]. */
static void drop_fillers(struct sae_csr *c, size_t n_rows, size_t k)
{
    size_t n = 0;

    for (size_t i = 0; i < n_rows; i++) {
        c->indptr[i] = n;
        for (size_t j = i * k; j < (i + 1) * k; j++) {
            if (c->values[j] == 0.0f)
                continue;
            c->ids[n] = c->ids[j];
            c->values[n++] = c->values[j];
        }
    }
    c->indptr[n_rows] = c->nnz = n;
}

enum sae_status sae_safetensors_read_top(struct sae_safetensors_parser *ps)
{
    const struct sae_st_tensor *part[N_TOP] = {NULL}, *ids, *values;
    struct sae_csr *c = &ps->r->csr;
    enum sae_status st = find_parts(ps, top_names, N_TOP, part);

    if (st != SAE_OK)
        return st;
    ids = part[TOP_INDICES];
    values = part[TOP_VALUES];
    ps->r->is_sparse = true;
    if ((st = sae_safetensors_want_ints(ps, ids)) != SAE_OK)
        return st;
    if (ids->ndim == 0 || ids->ndim > SAE_MAX_DIMS)
        return sae_safetensors_wrong_rank(ps, ids, "1 to 8");
    if (values->ndim != ids->ndim ||
        memcmp(values->shape, ids->shape, ids->ndim * sizeof *ids->shape) != 0)
        return sae_err_set(ps->err, SAE_E_BAD_SHAPE, values->name,
                           "cannot read f: f.top_values has not the shape of f.top_indices");
    /* Rows of no columns take no bytes: there may be any number of them. */
    if ((st = sae_safetensors_set_rows(ps, ids->shape, ids->ndim)) != SAE_OK ||
        (ids->count > 0 && (st = sae_safetensors_hold(ps, &c->indptr, "f", ps->r->n_rows + 1,
                                                      sizeof *c->indptr)) != SAE_OK) ||
        (st = sae_safetensors_read_ids(ps, ids, SAE_E_BAD_SHAPE, &c->ids)) != SAE_OK ||
        (st = sae_safetensors_read_main(ps, values, &c->values)) != SAE_OK)
        return st;
    if (c->indptr)
        drop_fillers(c, ps->r->n_rows, (size_t)ids->shape[ids->ndim - 1]);
    return SAE_OK;
}

static bool is_one_of(const char *name, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

bool sae_safetensors_is_csr(const char *name)
{
    return is_one_of(name, csr_names, N_CSR);
}

bool sae_safetensors_is_top(const char *name)
{
    return is_one_of(name, top_names, N_TOP);
}
