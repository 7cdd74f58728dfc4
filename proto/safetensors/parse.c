/* parse.c - a request from a safetensors body: x or f, and its options; a sparse f is sparse.c's.
 *
 * The container has been validated by lib/format/safetensors.c before anything here looks at a
 * tensor, so that a body that is no safetensors at all is malformed_body whatever else is wrong
 * with it. Bytes have no alignment and are copied out. Called by routes on a connection or codec
 * thread; no state. Spec section 3.2. */
#include "proto/safetensors/parse.h"

#include <inttypes.h>
#include <string.h>

static const struct sae_st_tensor *find(const struct sae_safetensors_parser *ps, const char *name)
{
    return sae_st_find(ps->file, name);
}

enum sae_status sae_safetensors_hold(struct sae_safetensors_parser *ps, void *out, const char *name,
                                     uint64_t n, size_t size)
{
    uint64_t bytes, total;
    enum sae_status st;
    void *p;

    if (sae_mul_u64(n, size, &bytes) ||
        sae_add_u64(ps->r->held_bytes + ps->file->held_bytes, bytes, &total))
        total = UINT64_MAX;
    st = sae_target_hold(ps->t, total, ps->err);
    if (st != SAE_OK)
        return st;
    p = sae_alloc((size_t)n, size);
    if (!p)
        return sae_err_set(ps->err, SAE_E_NOMEM, name,
                           "cannot read tensor %s: no memory for %" PRIu64 " bytes", name, bytes);
    ps->r->held_bytes += bytes;
    memcpy(out, &p, sizeof p);
    return SAE_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool is_bool(const struct sae_st_tensor *ts)
{
    return ts->dtype->dtype == SAE_DTYPE_BOOL;
}

static enum sae_status read_bools(struct sae_safetensors_parser *ps, const struct sae_st_tensor *ts,
                                  float *values)
{
    for (uint64_t i = 0; i < ts->count; i++) {
        if (ts->data[i] > 1)
            return sae_err_set(ps->err, SAE_E_BAD_NUMBER, ts->name,
                               "cannot read tensor %s: value %" PRIu64
                               " is byte %u, a BOOL is 0 or 1",
                               ts->name, i, ts->data[i]);
        values[i] = ts->data[i] ? 1.0f : 0.0f;
    }
    return SAE_OK;
}

/* Has `ts` a dtype that becomes f32? */
static enum sae_status want_floats(struct sae_safetensors_parser *ps,
                                   const struct sae_st_tensor *ts, bool or_bool)
{
    if (sae_dtype_is_floating(ts->dtype->dtype) || (or_bool && is_bool(ts)))
        return SAE_OK;
    return sae_err_set(ps->err, SAE_E_MALFORMED_BODY, ts->name,
                       "cannot read tensor %s: its dtype is %s, wanted F32, F16, BF16%s F64%s",
                       ts->name, ts->dtype->safetensors, or_bool ? "," : " or",
                       or_bool ? " or BOOL" : "");
}

/* All values of `ts` as f32 into *out, which is owned by the request as soon as it is allocated. */
static enum sae_status read_floats(struct sae_safetensors_parser *ps,
                                   const struct sae_st_tensor *ts, bool or_bool, float **out)
{
    enum sae_status st = want_floats(ps, ts, or_bool);

    if (st == SAE_OK && ts->dtype->dtype == SAE_DTYPE_F64)
        st = sae_f64_check(ts->name, ts->data, ts->count, ps->err);
    if (st == SAE_OK)
        st = sae_safetensors_hold(ps, out, ts->name, ts->count, sizeof **out);
    if (st != SAE_OK)
        return st;
    if (is_bool(ts))
        return read_bools(ps, ts, *out);
    sae_dtype_to_f32(ts->dtype->dtype, ts->data, *out, (size_t)ts->count);
    return SAE_OK;
}

enum sae_status sae_safetensors_read_main(struct sae_safetensors_parser *ps,
                                          const struct sae_st_tensor *ts, float **out)
{
    const struct sae_media_type *type = &ps->t->type;

    if (type->has_dtype && type->dtype != ts->dtype->dtype)
        return sae_err_set(ps->err, SAE_E_MALFORMED_BODY, ts->name,
                           "cannot read tensor %s: its dtype is %s, the Content-Type says %s",
                           ts->name, ts->dtype->safetensors, sae_dtype_name(type->dtype));
    return read_floats(ps, ts, false, out);
}

/* ---- shapes ---------------------------------------------------------------------------------- */

enum sae_status sae_safetensors_wrong_rank(struct sae_safetensors_parser *ps,
                                           const struct sae_st_tensor *ts, const char *wanted)
{
    return sae_err_set(ps->err, SAE_E_BAD_SHAPE, ts->name,
                       "cannot read tensor %s: it has %u dimensions, wanted %s", ts->name, ts->ndim,
                       wanted);
}

enum sae_status sae_safetensors_set_rows(struct sae_safetensors_parser *ps, const uint64_t *dim,
                                         uint64_t n)
{
    struct sae_request *r = ps->r;
    uint64_t rows = 1;
    bool too_big = false, empty = false;

    for (uint64_t i = 0; i + 1 < n; i++) {
        r->lead.dim[i] = dim[i];
        empty |= dim[i] == 0;
        too_big |= sae_mul_u64(rows, dim[i], &rows);
    }
    r->lead.n = (unsigned)(n - 1);
    if (!empty && (too_big || rows >= PTRDIFF_MAX / 8))
        return sae_err_set(ps->err, SAE_E_BAD_SHAPE, "f.shape",
                           "cannot read f: the rows of its shape pass 64 bits");
    r->n_rows = empty ? 0 : (size_t)rows;
    return SAE_OK;
}

enum sae_status sae_safetensors_set_lead(struct sae_safetensors_parser *ps, const uint64_t *dim,
                                         uint64_t n)
{
    enum sae_status st = sae_width_check(ps->t, dim[n - 1], ps->err);

    return st == SAE_OK ? sae_safetensors_set_rows(ps, dim, n) : st;
}

static enum sae_status read_dense(struct sae_safetensors_parser *ps, const struct sae_st_tensor *ts)
{
    enum sae_status st;

    if (ts->ndim == 0 || ts->ndim > SAE_MAX_DIMS)
        return sae_safetensors_wrong_rank(ps, ts, "1 to 8");
    st = sae_safetensors_set_lead(ps, ts->shape, ts->ndim);
    if (st != SAE_OK)
        return st;
    if (ps->r->n_rows == 0)
        return want_floats(ps, ts, false);
    return sae_safetensors_read_main(ps, ts, &ps->r->values);
}

/* ---- integers -------------------------------------------------------------------------------- */

enum sae_status sae_safetensors_want_ints(struct sae_safetensors_parser *ps,
                                          const struct sae_st_tensor *ts)
{
    if (ts->dtype->dtype == SAE_DTYPE_I32 || ts->dtype->dtype == SAE_DTYPE_I64)
        return SAE_OK;
    return sae_err_set(ps->err, SAE_E_MALFORMED_BODY, ts->name,
                       "cannot read tensor %s: its dtype is %s, wanted I32 or I64", ts->name,
                       ts->dtype->safetensors);
}

enum sae_status sae_safetensors_want_list(struct sae_safetensors_parser *ps,
                                          const struct sae_st_tensor *ts)
{
    enum sae_status st = sae_safetensors_want_ints(ps, ts);

    return st == SAE_OK && ts->ndim != 1 ? sae_safetensors_wrong_rank(ps, ts, "1") : st;
}

enum sae_status sae_safetensors_read_ids(struct sae_safetensors_parser *ps,
                                         const struct sae_st_tensor *ts, enum sae_status fault,
                                         uint32_t **out)
{
    enum sae_status st = sae_safetensors_hold(ps, out, ts->name, ts->count, sizeof **out);

    for (uint64_t i = 0; st == SAE_OK && i < ts->count; i++) {
        int64_t v = sae_safetensors_int(ts, i);

        if (v < 0)
            return sae_err_set(ps->err, fault, ts->name,
                               "cannot read tensor %s: item %" PRIu64 " is %" PRId64
                               ", a feature's id is 0 or more",
                               ts->name, i, v);
        (*out)[i] = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
    }
    return st;
}

/* ---- options that are tensors ---------------------------------------------------------------- */

typedef enum sae_status option_fn(struct sae_safetensors_parser *ps,
                                  const struct sae_st_tensor *ts);

static enum sae_status read_features(struct sae_safetensors_parser *ps,
                                     const struct sae_st_tensor *ts)
{
    struct sae_options *opt = &ps->r->opt;
    enum sae_status st = sae_safetensors_want_list(ps, ts);

    if (st == SAE_OK)
        st = sae_safetensors_read_ids(ps, ts, SAE_E_BAD_OPTION, &opt->features);
    if (st == SAE_OK)
        opt->n_features = (size_t)ts->count;
    return st;
}

static enum sae_status read_ghost_mask(struct sae_safetensors_parser *ps,
                                       const struct sae_st_tensor *ts)
{
    struct sae_options *opt = &ps->r->opt;
    enum sae_status st;

    if (ts->ndim > SAE_MAX_DIMS)
        return sae_safetensors_wrong_rank(ps, ts, "at most 8");
    st = read_floats(ps, ts, true, &opt->ghost_mask);
    if (st != SAE_OK)
        return st;
    opt->n_ghost_mask = (size_t)ts->count;
    opt->ghost_shape.n = ts->ndim;
    memcpy(opt->ghost_shape.dim, ts->shape, sizeof ts->shape);
    return SAE_OK;
}

/* Those that the body has, in the order of the table. */
static enum sae_status read_options(struct sae_safetensors_parser *ps)
{
    static option_fn *const kinds[SAE_N_OPTION_KINDS] = {
        [SAE_OPTION_FEATURES] = read_features,
        [SAE_OPTION_GHOST_MASK] = read_ghost_mask,
    };
    enum sae_status st = SAE_OK;

    for (size_t i = 0; st == SAE_OK && i < SAE_N_OPTIONS; i++) {
        const struct sae_option_def *def = &sae_option_defs[i];
        const struct sae_st_tensor *ts = def->in & SAE_IN_TENSOR ? find(ps, def->name) : NULL;

        if (!ts)
            continue;
        st = sae_option_seen(&ps->r->opt, def, ps->err);
        if (st == SAE_OK)
            st = kinds[def->kind](ps, ts);
        ps->r->opt.asked |= def->bit;
    }
    return st;
}

/* ---- the whole body -------------------------------------------------------------------------- */

enum form { FORM_DENSE = 1, FORM_CSR = 2, FORM_TOP = 4 };

/* Which form of decode's f has a tensor of this name; 0: none. */
static unsigned form_of(const char *name)
{
    return strcmp(name, "f") == 0         ? FORM_DENSE
           : sae_safetensors_is_csr(name) ? FORM_CSR
           : sae_safetensors_is_top(name) ? FORM_TOP
                                          : 0;
}

/* What an answer has beside f, in whatever form: decode does not look at it. */
static bool is_beside_f(const char *name)
{
    return sae_aux_by_name(name, strcspn(name, ".")) >= 0;
}

static bool is_option(const char *name)
{
    const struct sae_option_def *def = sae_option_by_name(name, strlen(name));

    return def && def->in & SAE_IN_TENSOR;
}

static bool is_beside(const char *name)
{
    return is_beside_f(name) || sae_beside_by_name(name, strlen(name)) >= 0;
}

/* Every tensor must be one that this operation reads. *forms: those of f that are there. */
static enum sae_status check_names(struct sae_safetensors_parser *ps, bool takes_f, unsigned *forms)
{
    *forms = 0;
    for (size_t i = 0; i < ps->file->n; i++) {
        const char *name = ps->file->tensors[i].name;
        unsigned form = takes_f ? form_of(name) : 0;

        *forms |= form;
        if (form || (takes_f ? is_beside(name) : strcmp(name, "x") == 0) || is_option(name))
            continue;
        return sae_err_set(ps->err, SAE_E_BAD_OPTION, name,
                           "cannot read safetensors: there is no tensor \"%.64s\" in this "
                           "operation, it takes %s (options that are no tensor go in the query "
                           "string)",
                           name,
                           takes_f ? "f, or " SAE_CSR_PARTS ", or " SAE_TOP_PARTS
                                     " (input_state and x, where they are "
                                     "wanted)"
                                   : "x, features and ghost_mask");
    }
    return SAE_OK;
}

/* decode's f, in its one form. */
static enum sae_status read_f(struct sae_safetensors_parser *ps, unsigned forms)
{
    struct sae_json_text units;

    if (sae_st_metadata(ps->file, "f_units", &units) && units.n > 0 &&
        sae_f_units_check(units.s, units.n, ps->err) != SAE_OK)
        return SAE_E_BAD_OPTION;
    switch (forms) {
    case FORM_DENSE:
        return read_dense(ps, find(ps, "f"));
    case FORM_CSR:
        return sae_safetensors_read_csr(ps);
    case FORM_TOP:
        return sae_safetensors_read_top(ps);
    case 0:
        return sae_err_set(ps->err, SAE_E_BAD_SHAPE, "f",
                           "cannot read safetensors: tensor f is missing");
    default:
        return sae_err_set(ps->err, SAE_E_BAD_OPTION, "f",
                           "cannot read f: it is given twice, in more than one form");
    }
}

/* input_state and x, where the dictionary wants them. */
static enum sae_status read_beside(struct sae_safetensors_parser *ps)
{
    for (size_t i = 0; i < ps->file->n; i++) {
        const struct sae_st_tensor *ts = &ps->file->tensors[i];
        int which = sae_beside_by_name(ts->name, strlen(ts->name));
        enum sae_status st;
        bool reads;

        if (which < 0)
            continue;
        st = sae_beside_given(ps->r, ps->t, which, &reads, ps->err);
        if (st != SAE_OK)
            return st;
        if (!reads)
            continue;
        if (ts->ndim > SAE_MAX_DIMS)
            return sae_safetensors_wrong_rank(ps, ts, "at most 8");
        st = read_floats(ps, ts, false, &ps->r->beside[which].values);
        if (st != SAE_OK)
            return st;
        ps->r->beside[which].n = (size_t)ts->count;
        ps->r->beside[which].shape.n = ts->ndim;
        memcpy(ps->r->beside[which].shape.dim, ts->shape, sizeof ts->shape);
    }
    return SAE_OK;
}

static enum sae_status read_x(struct sae_safetensors_parser *ps)
{
    const struct sae_st_tensor *x = find(ps, "x");

    if (!x)
        return sae_err_set(ps->err, SAE_E_BAD_SHAPE, "x",
                           "cannot read safetensors: tensor x is missing");
    return read_dense(ps, x);
}

/* decoder and encoder of weights; vectors are no tensor, they have names. */
static enum sae_status read_weights(struct sae_safetensors_parser *ps)
{
    struct sae_weights *p = &ps->r->weights;
    enum sae_status st = SAE_OK;

    for (size_t i = 0; st == SAE_OK && i < ps->file->n; i++) {
        const struct sae_st_tensor *ts = &ps->file->tensors[i];
        const int part = sae_weights_key(ts->name, strlen(ts->name));

        if (part < 0 || part >= SAE_N_ROW_WEIGHTS)
            return sae_err_set(
                ps->err, SAE_E_BAD_OPTION, ts->name,
                "cannot read safetensors: there is no tensor \"%.64s\" in weights, it "
                "takes decoder and encoder (vectors go in the query string)",
                ts->name);
        st = sae_weights_seen(p, part, ps->err);
        if (st == SAE_OK)
            st = sae_safetensors_want_list(ps, ts);
        if (st == SAE_OK)
            st = sae_safetensors_read_ids(ps, ts, SAE_E_BAD_OPTION, &p->ids[part]);
        p->n_ids[part] = (size_t)ts->count;
        p->asked |= 1u << part;
    }
    return st == SAE_OK ? sae_request_check(ps->r, ps->t, ps->err) : st;
}

static enum sae_status read_request(struct sae_safetensors_parser *ps)
{
    const bool takes_f = sae_op_defs[ps->t->op].takes == SAE_TAKES_F;
    unsigned forms;
    enum sae_status st;

    if (sae_op_defs[ps->t->op].takes == SAE_TAKES_WEIGHTS)
        return read_weights(ps);
    st = check_names(ps, takes_f, &forms);

    if (st == SAE_OK)
        st = takes_f ? read_beside(ps) : read_x(ps);
    if (st == SAE_OK && takes_f)
        st = read_f(ps, forms);
    if (st == SAE_OK)
        st = read_options(ps);
    return st == SAE_OK ? sae_request_check(ps->r, ps->t, ps->err) : st;
}

static enum sae_status hold(void *target, uint64_t bytes, struct sae_err *err)
{
    return sae_target_hold(target, bytes, err);
}

enum sae_status sae_safetensors_parse(struct sae_request *r, const struct sae_target *t,
                                      const void *body, size_t n, struct sae_err *err)
{
    /* A tensor's entry is an object with a list in it (3 levels); some room for keys that we do not
     * know. A tensor has four keys, no request has 20 tensors. */
    const struct sae_st_rules rules = {
        .what = "body",
        .where = "",
        .max_header = SAE_ST_HEADER_MAX,
        .max_entries = 65536,
        .max_keys = 65536,
        .max_depth = 8,
        .malformed = SAE_E_MALFORMED_BODY,
        .twice = SAE_E_BAD_OPTION,
        .too_many = SAE_E_BODY_TOO_LARGE,
        .hold = hold,
        .ctx = (void *)t,
    };
    struct sae_st_file file = {0};
    enum sae_status st = sae_st_open(&file, &rules, body, n, err);

    if (st == SAE_OK) {
        struct sae_safetensors_parser ps = {.r = r, .t = t, .file = &file, .err = err};

        st = read_request(&ps);
    }
    sae_st_close(&file);
    return st;
}
