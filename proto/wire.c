/* wire.c - what all body forms share: operations, the checks after a parse, ownership.
 *
 * A codec reads its form into struct sae_request and ends with sae_request_check, so that the same
 * fault has the same code and text in JSON, raw bytes and safetensors. Called by the codecs.
 * Pure but for the request it is given: no state, any thread. Spec sections 1 and 3. */
#include "proto/wire.h"

#include "lib/num.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- operations ------------------------------------------------------------------------------ */

const struct sae_op_def sae_op_defs[SAE_N_OPS] = {
#define SAE_OPERATION(id, name, takes, gives_f, decodes, side) \
    [SAE_OP_##id] = {#name, SAE_TAKES_##takes, SAE_GIVES_##gives_f, decodes, SAE_SIDE_##side},
#include "proto/ops.def"
#undef SAE_OPERATION
};

const struct sae_input *sae_op_input(enum sae_op op)
{
    static const struct sae_input inputs[] = {
        [SAE_TAKES_X] = {"x", "/x", "activation_dim"},
        [SAE_TAKES_F] = {"f", "/f", "dict_size"},
        [SAE_TAKES_WEIGHTS] = {"decoder", "/decoder", "dict_size"},
        [SAE_TAKES_LABELS] = {"features", "/features", "dict_size"},
    };

    return &inputs[sae_op_defs[op].takes];
}

uint64_t sae_op_width(enum sae_op op, uint64_t activation_dim, uint64_t dict_size)
{
    const uint64_t widths[] = {[SAE_TAKES_X] = activation_dim,
                               [SAE_TAKES_F] = dict_size,
                               [SAE_TAKES_WEIGHTS] = dict_size,
                               [SAE_TAKES_LABELS] = dict_size};

    return widths[sae_op_defs[op].takes];
}

/* ---- feature ids ----------------------------------------------------------------------------- */

static void print_id(char *dst, size_t cap, uint32_t id)
{
    snprintf(dst, cap, id == UINT32_MAX ? "more than 4294967294" : "%" PRIu32, id);
}

enum sae_status sae_id_check(const char *name, size_t i, uint32_t id, const struct sae_target *t,
                             struct sae_err *err)
{
    char text[32];

    if (id < t->dict_size && id != UINT32_MAX)
        return SAE_OK;
    print_id(text, sizeof text, id);
    return sae_err_set(err, SAE_E_BAD_OPTION, name,
                       "cannot use %s: item %zu is %s, the ids of \"%s\" are 0 to %" PRIu64, name,
                       i, text, t->dictionary, t->dict_size - 1);
}

static enum sae_status check_features(const struct sae_options *opt, const struct sae_target *t,
                                      struct sae_err *err)
{
    for (size_t i = 0; i < opt->n_features; i++) {
        enum sae_status st = sae_id_check("features", i, opt->features[i], t, err);

        if (st != SAE_OK)
            return st;
    }
    return SAE_OK;
}

/* As many labels as are given at once. */
#define MAX_LABELS 1024

static enum sae_status check_labels(const struct sae_options *opt, const struct sae_target *t,
                                    struct sae_err *err)
{
    if (!(opt->asked & SAE_OPT_FEATURES))
        return sae_err_set(err, SAE_E_BAD_OPTION, "features",
                           "cannot give labels: it is not said of which features "
                           "(?features=3,7, at most %d ids)",
                           MAX_LABELS);
    if (opt->n_features > MAX_LABELS)
        return sae_err_set(err, SAE_E_BAD_OPTION, "features",
                           "cannot give labels: features has %zu ids, at most %d are taken",
                           opt->n_features, MAX_LABELS);
    return check_features(opt, t, err);
}

/* ---- ghost mask ------------------------------------------------------------------------------ */

static void print_shape(char *dst, size_t cap, const struct sae_lead *s)
{
    size_t len = 0;

    dst[0] = '\0';
    for (unsigned i = 0; i < s->n && len < cap; i++)
        len += (size_t)snprintf(dst + len, cap - len, "%s%" PRIu64, i ? ", " : "", s->dim[i]);
}

/* Is `s` the leading dimensions followed by `last`? */
static bool shape_is(const struct sae_lead *s, const struct sae_lead *lead, uint64_t last)
{
    if (s->n != lead->n + 1)
        return false;
    for (unsigned i = 0; i < lead->n; i++)
        if (s->dim[i] != lead->dim[i])
            return false;
    return s->dim[lead->n] == last;
}

static enum sae_status check_ghost_mask(struct sae_request *r, const struct sae_target *t,
                                        struct sae_err *err)
{
    struct sae_options *opt = &r->opt;
    const struct sae_lead *s = &opt->ghost_shape;
    char shape[SAE_MAX_DIMS * 22], lead[SAE_MAX_DIMS * 22];

    if (!(opt->asked & SAE_OPT_GHOST_MASK))
        return SAE_OK;
    if (t->class_options & SAE_OPT_GHOST_UNREAD) {
        sae_free(opt->ghost_mask);
        opt->ghost_mask = NULL;
        opt->n_ghost_mask = 0;
        opt->asked &= ~(unsigned)SAE_OPT_GHOST_MASK;
        return SAE_OK;
    }
    if (s->n == 1 && s->dim[0] == t->dict_size) {
        opt->ghost_row = 0;
        opt->ghost_col = 1;
        return SAE_OK;
    }
    if (shape_is(s, &r->lead, 1)) {
        opt->ghost_row = 1;
        opt->ghost_col = 0;
        return SAE_OK;
    }
    /* A nested list of no rows cannot show its width: [] stands for [0, F]. */
    if (shape_is(s, &r->lead, t->dict_size) || (r->n_rows == 0 && opt->n_ghost_mask == 0)) {
        opt->ghost_row = (size_t)t->dict_size;
        opt->ghost_col = 1;
        return SAE_OK;
    }
    print_shape(shape, sizeof shape, s);
    print_shape(lead, sizeof lead, &r->lead);
    return sae_err_set(err, SAE_E_BAD_SHAPE, "ghost_mask",
                       "cannot use ghost_mask: its shape is [%s], wanted [%" PRIu64 "], [%s%s1] or "
                       "[%s%s%" PRIu64 "]",
                       shape, t->dict_size, lead, r->lead.n ? ", " : "", lead,
                       r->lead.n ? ", " : "", t->dict_size);
}

/* ---- sparse f -------------------------------------------------------------------------------- */

static void swap_entries(uint32_t *ids, float *values, size_t i, size_t j)
{
    uint32_t id = ids[i];
    float v = values[i];

    ids[i] = ids[j];
    values[i] = values[j];
    ids[j] = id;
    values[j] = v;
}

static void sift_down(uint32_t *ids, float *values, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && ids[child + 1] > ids[child])
            child++;
        if (ids[root] >= ids[child])
            return;
        swap_entries(ids, values, root, child);
    }
}

/* Heap sort: in place, n log n whatever the client sends, no recursion. Most rows come sorted. */
static void sort_entries(uint32_t *ids, float *values, size_t n)
{
    size_t i = 1;

    while (i < n && ids[i - 1] < ids[i])
        i++;
    if (i >= n)
        return;
    for (i = n / 2; i-- > 0;)
        sift_down(ids, values, i, n);
    for (i = n; i-- > 1;) {
        swap_entries(ids, values, 0, i);
        sift_down(ids, values, 0, i);
    }
}

static enum sae_status check_csr_row(struct sae_csr *c, size_t row, const struct sae_target *t,
                                     struct sae_err *err)
{
    uint32_t *ids = c->ids + c->indptr[row];
    size_t n = (size_t)(c->indptr[row + 1] - c->indptr[row]);
    char id[32];

    for (size_t i = 0; i < n; i++) {
        if (ids[i] < t->dict_size && ids[i] != UINT32_MAX)
            continue;
        print_id(id, sizeof id, ids[i]);
        return sae_err_set(
            err, SAE_E_BAD_SHAPE, "f",
            "cannot read f: entry %zu of row %zu has index %s, the ids of \"%s\" are 0 "
            "to %" PRIu64,
            i, row, id, t->dictionary, t->dict_size - 1);
    }
    if (n > t->dict_size) /* not to be sorted to find that out */
        return sae_err_set(err, SAE_E_BAD_SHAPE, "f",
                           "cannot read f: row %zu has %zu entries, \"%s\" has %" PRIu64
                           " features: an index stands twice",
                           row, n, t->dictionary, t->dict_size);
    sort_entries(ids, c->values + c->indptr[row], n);
    for (size_t i = 1; i < n; i++)
        if (ids[i] == ids[i - 1])
            return sae_err_set(err, SAE_E_BAD_SHAPE, "f",
                               "cannot read f: index %" PRIu32 " stands twice in row %zu", ids[i],
                               row);
    return SAE_OK;
}

static enum sae_status check_csr(struct sae_request *r, const struct sae_target *t,
                                 struct sae_err *err)
{
    struct sae_csr *c = &r->csr;

    if (!r->is_sparse || !c->indptr)
        return SAE_OK;
    for (size_t i = 0; i < r->n_rows; i++)
        if (c->indptr[i] > c->indptr[i + 1])
            return sae_err_set(err, SAE_E_BAD_SHAPE, "f",
                               "cannot read f: indptr goes down from %" PRIu64 " to %" PRIu64
                               " at row %zu",
                               c->indptr[i], c->indptr[i + 1], i);
    if (c->indptr[0] != 0 || c->indptr[r->n_rows] != c->nnz)
        return sae_err_set(err, SAE_E_BAD_SHAPE, "f",
                           "cannot read f: indptr goes from %" PRIu64 " to %" PRIu64
                           ", there are %zu entries",
                           c->indptr[0], c->indptr[r->n_rows], c->nnz);
    for (size_t row = 0; row < r->n_rows; row++) {
        enum sae_status st = check_csr_row(c, row, t, err);

        if (st != SAE_OK)
            return st;
    }
    return SAE_OK;
}

enum sae_status sae_f_units_check(const char *units, size_t n, struct sae_err *err)
{
    static const char same[] = "encode", scaled[] = "decoder_norm";

    if (n == strlen(same) && memcmp(units, same, n) == 0)
        return SAE_OK;
    if (n == strlen(scaled) && memcmp(units, scaled, n) == 0)
        return sae_err_set(err, SAE_E_BAD_OPTION, "f_units",
                           "cannot decode f: its f_units are \"decoder_norm\", it is scaled by the "
                           "norms of the decoder's columns (take the f of encode)");
    return sae_err_set(err, SAE_E_BAD_OPTION, "f_units",
                       "cannot decode f: its f_units are \"%.*s\", wanted \"encode\"",
                       (int)(n < 64 ? n : 64), units);
}

/* ---- beside f ---------------------------------------------------------------------------------
 */

const char *const sae_beside_pointers[SAE_N_BESIDE] = {"/input_state", "/x"};

static const char *beside_name(int which)
{
    return sae_beside_pointers[which] + 1;
}

int sae_beside_by_name(const char *name, size_t n)
{
    for (int i = 0; i < SAE_N_BESIDE; i++)
        if (strlen(beside_name(i)) == n && memcmp(beside_name(i), name, n) == 0)
            return i;
    return -1;
}

static bool is_wanted(const struct sae_target *t, int which)
{
    return which == SAE_BESIDE_STATE ? t->wants_state : t->wants_x;
}

enum sae_status sae_beside_given(struct sae_request *r, const struct sae_target *t, int which,
                                 bool *reads, struct sae_err *err)
{
    const char *name = beside_name(which);

    if (r->beside[which].is_given)
        return sae_err_set(err, SAE_E_BAD_OPTION, name, "cannot use %s: it is given twice", name);
    r->beside[which].is_given = true;
    *reads = is_wanted(t, which);
    if (*reads || (which == SAE_BESIDE_STATE && t->state_width > 0))
        return SAE_OK; /* what encode gives may stand there */
    return sae_err_set(err, SAE_E_BAD_OPTION, name,
                       "cannot use %s: decode of \"%.200s\" takes f alone", name, t->dictionary);
}

static enum sae_status check_beside(const struct sae_request *r, const struct sae_target *t,
                                    struct sae_err *err)
{
    static const char *const why[SAE_N_BESIDE] = {
        "the output undoes each row's own scaling; encode and forward give it where they are asked "
        "for input_state",
        "the output has a skip of the rows that f was made of",
    };
    const uint64_t widths[SAE_N_BESIDE] = {t->state_width, t->activation_dim};
    char shape[SAE_MAX_DIMS * 22], lead[SAE_MAX_DIMS * 22];

    for (int i = 0; i < SAE_N_BESIDE && sae_op_defs[t->op].takes == SAE_TAKES_F; i++) {
        const struct sae_beside *b = &r->beside[i];

        if (!is_wanted(t, i))
            continue;
        if (!b->is_given)
            return sae_err_set(err, SAE_E_BAD_OPTION, beside_name(i),
                               "cannot decode f alone: decode of \"%.200s\" wants %s beside f, in "
                               "JSON or safetensors: %s",
                               t->dictionary, beside_name(i), why[i]);
        if (shape_is(&b->shape, &r->lead, widths[i]) || (r->n_rows == 0 && b->n == 0))
            continue;
        print_shape(shape, sizeof shape, &b->shape);
        print_shape(lead, sizeof lead, &r->lead);
        return sae_err_set(err, SAE_E_BAD_SHAPE, beside_name(i),
                           "cannot use %s: its shape is [%s], wanted [%s%s%" PRIu64 "]",
                           beside_name(i), shape, lead, r->lead.n ? ", " : "", widths[i]);
    }
    return SAE_OK;
}

/* ---- memory -----------------------------------------------------------------------------------
 */

enum sae_status sae_target_hold(const struct sae_target *t, uint64_t bytes, struct sae_err *err)
{
    if (bytes > t->max_bytes)
        return sae_err_limit(err, SAE_E_BODY_TOO_LARGE, "--max-inflight-bytes", t->max_bytes, bytes,
                             "cannot hold the request: what it decodes to takes %" PRIu64
                             " bytes, and the limit of all in flight is %" PRIu64
                             " (--max-inflight-bytes)",
                             bytes, t->max_bytes);
    return t->hold ? t->hold(t->hold_arg, bytes, err) : SAE_OK;
}

/* ---- the whole request ----------------------------------------------------------------------- */

enum sae_status sae_width_check(const struct sae_target *t, uint64_t got, struct sae_err *err)
{
    const struct sae_input *in = sae_op_input(t->op);
    const uint64_t want = sae_target_width(t);

    if (got == want)
        return SAE_OK;
    if (err && err->status == SAE_OK) {
        err->is_width = true;
        err->width = got;
    }
    return sae_err_set(err, SAE_E_BAD_SHAPE, in->name,
                       "cannot %s with \"%.200s\": %s has width %" PRIu64 ", %s wants %s %" PRIu64,
                       sae_op_defs[t->op].name, t->dictionary, in->name, got, t->class_name,
                       in->width_name, want);
}

enum sae_status sae_request_check(struct sae_request *r, const struct sae_target *t,
                                  struct sae_err *err)
{
    enum sae_status st;

    if (sae_op_defs[t->op].takes == SAE_TAKES_WEIGHTS)
        return sae_weights_check(&r->weights, t, err);
    if (sae_op_defs[t->op].takes == SAE_TAKES_LABELS)
        return check_labels(&r->opt, t, err);
    st = sae_options_check(&r->opt, t, err);
    if (st == SAE_OK && r->opt.asked & SAE_OPT_LABELS &&
        sae_request_query(r, t).form == SAE_FORM_DENSE)
        st =
            sae_err_set(err, SAE_E_BAD_OPTION, "labels",
                        "cannot use labels: f is dense (they stand beside the indices of sparse or "
                        "top_k)");
    if (st == SAE_OK)
        st = check_features(&r->opt, t, err);
    if (st == SAE_OK)
        st = check_csr(r, t, err);
    if (st == SAE_OK)
        st = check_ghost_mask(r, t, err);
    if (st == SAE_OK)
        st = check_beside(r, t, err);
    return st;
}

struct sae_query sae_request_query(const struct sae_request *r, const struct sae_target *t)
{
    const struct sae_options *o = &r->opt;
    const enum sae_gives gives = sae_op_defs[t->op].gives_f;

    return (struct sae_query){
        .op = t->op,
        .want_f = gives == SAE_GIVES_ALWAYS ||
                  (gives == SAE_GIVES_ASKED && o->asked & sae_options_about(SAE_RETURNS_F)),
        .want_state = o->asked & SAE_OPT_INPUT_STATE,
        .want_aux = o->asked & sae_options_about(SAE_RETURNS_AUX),
        .form = o->asked & SAE_OPT_TOP_K    ? SAE_FORM_TOP
                : o->asked & SAE_OPT_SPARSE ? SAE_FORM_SPARSE
                                            : SAE_FORM_DENSE,
        .top_k = o->asked & SAE_OPT_TOP_K ? o->top_k : 0,
        .has_features = o->asked & SAE_OPT_FEATURES,
        .features = o->features,
        .n_features = o->n_features,
        .has_ghost = o->asked & SAE_OPT_GHOST_MASK,
        .ghost_mask = o->ghost_mask,
        .ghost_row = o->ghost_row,
        .ghost_col = o->ghost_col,
    };
}

void sae_request_fini(struct sae_request *r)
{
    sae_free(r->values);
    sae_free(r->csr.indptr);
    sae_free(r->csr.ids);
    sae_free(r->csr.values);
    sae_free(r->opt.features);
    sae_free(r->opt.ghost_mask);
    for (int i = 0; i < SAE_N_BESIDE; i++)
        sae_free(r->beside[i].values);
    for (int i = 0; i < SAE_N_ROW_WEIGHTS; i++)
        sae_free(r->weights.ids[i]);
    *r = (struct sae_request){0};
}

/* ---- answers ----------------------------------------------------------------------------------
 */

const struct sae_lead *sae_out_lead(const struct sae_answer *a, const struct sae_out_tensor *t)
{
    return t->own_lead ? t->own_lead : &a->lead;
}

uint64_t sae_out_rows(const struct sae_answer *a, const struct sae_out_tensor *t)
{
    const struct sae_lead *lead = t->own_lead;
    uint64_t n = 1;

    if (!lead)
        return a->n_rows;
    for (unsigned i = 0; i < lead->n; i++)
        if (sae_mul_u64(n, lead->dim[i], &n))
            return UINT64_MAX;
    return n;
}

void sae_body_fini(struct sae_body *b)
{
    sae_free(b->data);
    *b = (struct sae_body){0};
}
