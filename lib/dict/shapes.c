/* shapes.c - how the tensors bound to the roles lie, and what their shapes make of the formula.
 *
 * A row's keys bring their orientation with them; of stated ones it is what stands behind their
 * '@', or the only one that goes with the vectors. Never guessed. Then every dtype and shape goes
 * with the encoder's. Called by file.c behind bind.c; no state. See file.h. */
#include "lib/dict/file.h"

#include <stdio.h>
#include <string.h>

void sae_shape_text(char text[64], const uint64_t *shape, unsigned ndim)
{
    size_t n = (size_t)snprintf(text, 64, "[");

    for (unsigned i = 0; i < ndim && n < 60; i++)
        n += (size_t)snprintf(text + n, 64 - n, "%s%llu", i ? ", " : "",
                              (unsigned long long)shape[i]);
    if (n < 63)
        snprintf(text + n, 64 - n, "]");
}
/* ---- orientation and widths --------------------------------------------------------------- */

/* The length of a bound vector, 0: it tells none. */
static uint64_t length_of(const struct sae_file *b, enum sae_role role)
{
    const struct sae_bound *bound = &b->bound[role];
    const struct sae_tensor *t = bound->n ? sae_load_tensor(b->ts, bound->index[0]) : NULL;

    return t && t->ndim > 0 ? t->shape[t->ndim - 1] : 0;
}

static uint64_t features_by_vectors(const struct sae_file *b)
{
    uint64_t n = 0;

    for (enum sae_role role = SAE_ROLE_ENC_BIAS; role <= SAE_ROLE_THRESHOLD && n == 0; role++)
        n = length_of(b, role);
    return n;
}

static enum sae_status which_way(enum sae_role role, const struct sae_tensor *t, bool both,
                                 struct sae_err *err)
{
    const char *const *two = sae_role_ways[role];
    char shape[64];

    sae_shape_text(shape, t->shape, t->ndim);
    return sae_err_set(err, SAE_E_FORMAT, t->name,
                       "cannot tell which way round \"%s\" lies: its shape is %s and %s; state "
                       "%s=%s@%s or @%s",
                       t->name, shape,
                       both ? "the vectors go with both ways" : "the vectors go with none",
                       sae_role_option(role), t->name, two[0], two[1]);
}

/* The one of two orientations that goes with the lengths of its dimensions, 0: not known. */
static enum sae_status orient(struct sae_file *b, enum sae_role role, uint64_t first,
                              uint64_t second, struct sae_err *err)
{
    const char *const *two = sae_role_ways[role];
    struct sae_bound *bound = &b->bound[role];
    const struct sae_tensor *t = bound->n ? sae_load_tensor(b->ts, bound->index[0]) : NULL;
    bool fits[2] = {true, true};

    if (!t || bound->dims)
        return SAE_OK;
    bound->dims = two[0];
    if (t->ndim != 2)
        return SAE_OK; /* said with the shapes */
    for (unsigned i = 0; i < 2; i++)
        fits[i] = (first == 0 || t->shape[i] == first) && (second == 0 || t->shape[!i] == second);
    if (fits[0] && fits[1] && b->layout->is_any_tensor)
        return SAE_OK; /* a probe is [F,d] unless something says otherwise */
    if (fits[0] == fits[1])
        return which_way(role, t, fits[0], err);
    bound->dims = two[fits[1]];
    return SAE_OK;
}

/* The file's dimension that a letter of the dims stands for. */
static uint64_t dim_of(const struct sae_file *b, const struct sae_bound *bound, char letter)
{
    const struct sae_tensor *t = sae_load_tensor(b->ts, bound->index[0]);

    return t->shape[bound->dims[0] == letter ? 0 : 1];
}

static enum sae_status check_matrix(const struct sae_file *b, const struct sae_bound *bound,
                                    struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(b->ts, bound->index[0]);
    const char *way = bound->dims[0] == 'F'   ? "[dict_size, activation_dim]"
                      : bound->dims[2] == 'F' ? "[activation_dim, dict_size]"
                                              : "[output_dim, activation_dim]";
    char shape[64];

    sae_shape_text(shape, t->shape, t->ndim);
    if (bound->n > 1)
        return sae_err_set(err, SAE_E_FORMAT, t->name, "matrices are not added up");
    if (t->ndim != 2)
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "\"%s\" has shape %s, wanted two dimensions, %s", t->name, shape, way);
    for (unsigned i = 0; i < 2; i++)
        if (t->shape[i] < 1 || t->shape[i] > SAE_DICT_MAX_DIM)
            return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                               "\"%s\" has shape %s, wanted dimensions from 1 to %d", t->name,
                               shape, SAE_DICT_MAX_DIM);
    return SAE_OK;
}

/* A direction alone: one feature. */
static bool is_one_row(const struct sae_file *b, const struct sae_bound *enc)
{
    const struct sae_tensor *t = sae_load_tensor(b->ts, enc->index[0]);

    return b->layout->is_any_tensor && enc->n == 1 && t->ndim == 1 && t->shape[0] >= 1 &&
           t->shape[0] <= SAE_DICT_MAX_DIM;
}

/* The reading has a skip with its '@', also where the shape told it. */
static void show_skip(struct sae_file *b)
{
    const struct sae_bound *bound = &b->bound[SAE_ROLE_SKIP];
    struct sae_reading_field *field = &b->reading.field[SAE_FIELD_SKIP];
    size_t n = strlen(field->value.key);

    if (bound->n == 0 || sae_role_way(SAE_ROLE_SKIP, field->value.key, &n) ||
        n + sizeof "@m,d" > sizeof field->value.key)
        return;
    snprintf(field->value.key + n, sizeof field->value.key - n, "@%s", bound->dims);
    field->contradicts =
        field->contradicts && !sae_value_equal(SAE_FIELD_SKIP, &field->value, &field->by_file);
}

static enum sae_status take_dims(struct sae_file *b, struct sae_err *err)
{
    struct sae_bound *enc = &b->bound[SAE_ROLE_ENCODER], *dec = &b->bound[SAE_ROLE_DECODER];
    struct sae_formula *f = &b->formula;
    enum sae_status st =
        orient(b, SAE_ROLE_ENCODER, features_by_vectors(b), length_of(b, SAE_ROLE_CENTRE), err);

    if (st == SAE_OK && is_one_row(b, enc)) {
        enc->dims = "d";
        b->n_stored = 1;
        f->d_in = (size_t)sae_load_tensor(b->ts, enc->index[0])->shape[0];
        return SAE_OK;
    }
    if (st == SAE_OK)
        st = check_matrix(b, enc, err);
    if (st != SAE_OK)
        return st;
    b->n_stored = dim_of(b, enc, 'F');
    f->d_in = (size_t)dim_of(b, enc, 'd');
    f->d_out = dec->n ? f->d_in : 0;
    st = orient(b, SAE_ROLE_DECODER, b->n_stored, length_of(b, SAE_ROLE_DEC_BIAS), err);
    if (st == SAE_OK && dec->n && strchr(dec->dims, 'm')) {
        st = check_matrix(b, dec, err);
        if (st == SAE_OK)
            f->d_out = (size_t)dim_of(b, dec, 'm');
    }
    if (st == SAE_OK)
        st = orient(b, SAE_ROLE_SKIP, f->d_out, f->d_in, err);
    if (st == SAE_OK)
        show_skip(b);
    return st;
}

/* The bias of a single direction may be a number of no dimension. */
static void take_lone_bias(struct sae_file *b)
{
    struct sae_bound *bias = &b->bound[SAE_ROLE_ENC_BIAS];
    const struct sae_tensor *t = bias->n == 1 ? sae_load_tensor(b->ts, bias->index[0]) : NULL;

    if (!t || t->ndim > 0 || b->n_stored != 1 || !b->layout->is_any_tensor)
        return;
    bias->is_number = sae_file_number(b, t->name, &bias->number);
    bias->dims = "";
}

/* ---- shapes ------------------------------------------------------------------------------- */

static unsigned shape_of(const struct sae_file *b, const char *dims, uint64_t shape[2])
{
    unsigned n = 0;

    for (const char *p = dims; *p && n < 2; p++)
        if (*p != ',')
            shape[n++] = *p == 'F' ? b->n_stored : *p == 'd' ? b->formula.d_in : b->formula.d_out;
    return n;
}

static const char *encoder_name(const struct sae_file *b)
{
    return sae_load_tensor(b->ts, b->bound[SAE_ROLE_ENCODER].index[0])->name;
}

static enum sae_status check_tensor(const struct sae_file *b, const struct sae_bound *bound,
                                    size_t index, struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(b->ts, index);
    uint64_t shape[2];
    unsigned ndim = shape_of(b, bound->dims, shape);
    bool drops_first = ndim == 1 && t->ndim == 2 && t->shape[0] == 1;
    bool same = t->ndim == ndim + drops_first;
    char found[64], wanted[64];

    if (!sae_dtype_is_floating(t->dtype))
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "\"%s\" has dtype %s, wanted float32, float16, bfloat16 or float64",
                           t->name, t->dtype_name);
    for (unsigned i = 0; same && i < ndim; i++)
        same = t->shape[i + drops_first] == shape[i];
    if (same)
        return SAE_OK;
    sae_shape_text(found, t->shape, t->ndim);
    sae_shape_text(wanted, shape, ndim);
    return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                       "\"%s\" has shape %s, wanted [%s] = %s (%s, by %s)", t->name, found,
                       bound->dims, wanted, b->layout->name, encoder_name(b));
}

/* A config's width is looked at for this alone. */
static enum sae_status check_widths(const struct sae_file *b, struct sae_err *err)
{
    for (unsigned i = 0; i < SAE_LAYOUT_MAX_WIDTHS && b->layout->widths[i].path; i++) {
        const char *path = b->layout->widths[i].path, *dims = b->layout->widths[i].dims;
        bool is_known = dims[0] != 'm' || b->bound[SAE_ROLE_DECODER].n > 0, found = false;
        uint64_t shape[2];
        int64_t said = 0;
        enum sae_status st = sae_facts_int(b->config, path, &said, &found, err);

        if (st != SAE_OK)
            return st;
        shape_of(b, dims, shape);
        if (found && is_known && said > 0 && (uint64_t)said != shape[0])
            return sae_err_set(err, SAE_E_FORMAT, path,
                               "\"%s\" of %s is %lld, and the tensors have %llu (by %s)", path,
                               sae_facts_name(b->config), (long long)said,
                               (unsigned long long)shape[0], encoder_name(b));
    }
    return SAE_OK;
}

/* A matrix under the name that ties it is the encoder again, of its dtype too. */
static enum sae_status check_tie(const struct sae_file *b, struct sae_err *err)
{
    size_t i = b->layout->tied_key ? sae_file_find(b, b->layout->tied_key) : SIZE_MAX;
    const struct sae_tensor *t, *enc = sae_load_tensor(b->ts, b->bound[SAE_ROLE_ENCODER].index[0]);

    if (i == SIZE_MAX)
        return SAE_OK;
    t = sae_load_tensor(b->ts, i);
    if (t->dtype == enc->dtype && t->ndim == enc->ndim)
        return SAE_OK;
    return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                       "\"%s\" is not the encoder, which it is tied to by its name: it has %u "
                       "dimensions of %s, \"%s\" has %u of %s",
                       t->name, t->ndim, t->dtype_name, enc->name, enc->ndim, enc->dtype_name);
}

static enum sae_status check_shapes(const struct sae_file *b, struct sae_err *err)
{
    enum sae_status st = check_tie(b, err);

    for (enum sae_role role = 0; role < SAE_N_ROLES; role++)
        for (unsigned i = 0; st == SAE_OK && i < b->bound[role].n; i++)
            st = check_tensor(b, &b->bound[role], b->bound[role].index[i], err);
    return st;
}

/* ---- the formula -------------------------------------------------------------------------- */

static bool is_same_tensor(const struct sae_bound *a, const struct sae_bound *b)
{
    return a->n == 1 && b->n == 1 && a->index[0] == b->index[0];
}

static enum sae_status take_features(struct sae_file *b, struct sae_err *err)
{
    const struct sae_value *v = &b->reading.field[SAE_FIELD_FEATURES].value;

    b->formula.F = (size_t)b->n_stored;
    if (v->choice == SAE_FEATURES_ALL)
        return SAE_OK;
    if (v->count > b->n_stored)
        return sae_err_set(err, SAE_E_FORMAT, "", "features=%llu is stated, and the file has %llu",
                           (unsigned long long)v->count, (unsigned long long)b->n_stored);
    b->formula.F = (size_t)v->count;
    return SAE_OK;
}

/* Is y meant to be x? Where nobody says it, widths and a skip do. */
static enum sae_status settle_kind(struct sae_file *b, struct sae_err *err)
{
    const struct sae_formula *f = &b->formula;
    const struct sae_reading_field *kind = &b->reading.field[SAE_FIELD_KIND];
    bool differs = f->d_in != f->d_out && f->d_out > 0;

    if (differs && kind->from != SAE_FROM_DEFAULT && kind->value.choice == SAE_KIND_SAE)
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "kind=sae is %s%s, and the output's width is %zu where the input's is "
                           "%zu; state kind=transcoder",
                           kind->from == SAE_FROM_STATED ? "stated" : "what it is by ",
                           kind->from == SAE_FROM_STATED ? ""
                           : b->config                   ? sae_facts_name(b->config)
                                                         : b->layout->name,
                           f->d_out, f->d_in);
    if (differs || sae_reading_choice(&b->reading, SAE_FIELD_SKIP) != SAE_SKIP_NONE)
        sae_reading_say(&b->reading, SAE_FIELD_KIND, "transcoder", SAE_FROM_FILE);
    return SAE_OK;
}

static enum sae_status fill_formula(struct sae_file *b, struct sae_err *err)
{
    struct sae_formula *f = &b->formula;
    enum sae_status st;

    f->has_centre = b->bound[SAE_ROLE_CENTRE].n > 0;
    f->adds_centre = is_same_tensor(&b->bound[SAE_ROLE_CENTRE], &b->bound[SAE_ROLE_DEC_BIAS]);
    f->has_dec_bias = !f->adds_centre && !f->encodes_only;
    f->has_skip = b->bound[SAE_ROLE_SKIP].n > 0;
    f->scales_forward_f = b->layout->scales_forward_f && !b->is_altered;
    if (f->top_k > f->F)
        return sae_err_set(err, SAE_E_WEIGHTS, "k",
                           "k is %llu, wanted from 1 to dict_size, which is %zu by %s",
                           (unsigned long long)f->top_k, f->F, encoder_name(b));
    st = settle_kind(b, err);
    return st == SAE_OK ? sae_formula_check(f, err) : st;
}

enum sae_status sae_file_fit(struct sae_file *b, struct sae_err *err)
{
    enum sae_status st = take_dims(b, err);

    if (st == SAE_OK)
        st = check_widths(b, err);
    take_lone_bias(b);
    if (st == SAE_OK)
        st = check_shapes(b, err);
    if (st == SAE_OK)
        st = take_features(b, err);
    if (st == SAE_OK)
        st = fill_formula(b, err);
    return st;
}
