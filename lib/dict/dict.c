/* dict.c - the memory of a dictionary, and what is computed once its tensors stand. See dict.h.
 *
 * Every vector has SAE_OVERREAD readable bytes behind its last value, as the matrices have. */
#include "lib/dict/dict.h"

#include "lib/dict/reading.h"
#include "lib/dict/ref.h"
#include "lib/num.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of what is no file (shown.c). */
#define SAE_NO_TAPS                                                                 \
    "{\"model\":null,\"in\":null,\"out\":null,\"layer\":null,\"prepend_bos\":null," \
    "\"context_size\":null}"
#define NORMS_STEP 512 /* columns of a piece: some 100 microseconds at d 768 */

static struct sae_matrix *matrix_of(struct sae_dict *d, enum sae_role role)
{
    return role == SAE_ROLE_ENCODER ? &d->enc : role == SAE_ROLE_DECODER ? &d->dec : NULL;
}

/* The f32 array of `d` that a role fills, NULL: its unit has no such parameter. */
static float **slot(struct sae_dict *d, enum sae_role role)
{
    const struct sae_unit *unit = sae_formula_unit(&d->formula);
    unsigned i;

    switch (role) {
    case SAE_ROLE_SKIP:
        return &d->skip;
    case SAE_ROLE_CENTRE:
        return &d->centre;
    case SAE_ROLE_DEC_BIAS:
        return &d->dec_bias;
    default:
        break;
    }
    i = sae_unit_param(unit, role);
    return i < unit->n_params ? &d->param[i] : NULL;
}

float *sae_dict_array(const struct sae_dict *d, enum sae_role role)
{
    const struct sae_matrix *m = matrix_of((struct sae_dict *)d, role);
    float **p = m ? NULL : slot((struct sae_dict *)d, role);

    if (m)
        return m->dtype == SAE_DTYPE_F32 ? m->f32 : NULL;
    return p ? *p : NULL;
}

_Static_assert((unsigned long long)SAE_DICT_MAX_DIM *SAE_DICT_MAX_DIM <= SIZE_MAX / sizeof(float),
               "the floats of a matrix can be counted in bytes");

/* Has the formula an array of this role, and how many values? create has checked that they can be
 * counted. */
static size_t role_values(const struct sae_formula *f, enum sae_role role)
{
    const struct sae_unit *unit = sae_formula_unit(f);

    if (f->is_identity)
        return 0;
    switch (role) {
    case SAE_ROLE_ENCODER:
        return f->F * f->d_in;
    case SAE_ROLE_DECODER:
        return f->encodes_only ? 0 : f->F * f->d_out;
    case SAE_ROLE_SKIP:
        return f->has_skip && !f->encodes_only ? f->d_out * f->d_in : 0;
    case SAE_ROLE_CENTRE:
        return f->has_centre ? f->d_in : 0;
    case SAE_ROLE_DEC_BIAS:
        return f->has_dec_bias && !f->encodes_only ? f->d_out : 0;
    default:
        break;
    }
    return sae_unit_param(unit, role) < unit->n_params ? f->F : 0;
}

static bool has_norms(const struct sae_formula *f)
{
    return role_values(f, SAE_ROLE_DECODER) > 0 || f->score != SAE_SCORE_VALUE;
}

static bool is_matrix(enum sae_role role)
{
    return role == SAE_ROLE_ENCODER || role == SAE_ROLE_DECODER || role == SAE_ROLE_SKIP;
}

static float *vector_alloc(size_t n)
{
    size_t total = n + SAE_OVERREAD / sizeof(float);
    float *v = sae_alloc(total, sizeof *v);

    if (v)
        memset(v, 0, total * sizeof *v);
    return v;
}

static const struct sae_storage f32_apart = {SAE_DTYPE_F32, SAE_DTYPE_F32, false};

/* Bytes of a value of the role in memory; 0: it has none of its own. */
static size_t item_bytes(const struct sae_storage *kept, enum sae_role role)
{
    if (role == SAE_ROLE_ENCODER)
        return sae_dtype_bytes(kept->enc);
    if (role == SAE_ROLE_DECODER)
        return kept->is_tied ? 0 : sae_dtype_bytes(kept->dec);
    return sizeof(float);
}

/* Either the matrices or the vectors. Matrices come first: a size that memory cannot hold is
 * refused by their mmap before a vector is touched. */
static bool alloc_arrays(struct sae_dict *d, const struct sae_storage *kept, bool matrices)
{
    for (enum sae_role role = 0; role < SAE_N_ROLES; role++) {
        size_t n = role_values(&d->formula, role), item = item_bytes(kept, role);
        struct sae_matrix *m = matrix_of(d, role);
        void *p;

        if (n == 0 || item == 0 || is_matrix(role) != matrices)
            continue;
        p = matrices ? sae_huge_alloc(n, item) : vector_alloc(n);
        if (!p)
            return false;
        if (m)
            m->values = p;
        else
            *slot(d, role) = p;
    }
    return true;
}

/* UINT64_MAX where it cannot be counted, and from then on. */
static uint64_t add_values(uint64_t bytes, uint64_t n, uint64_t item)
{
    if (sae_mul_u64(n, item, &n) || sae_add_u64(bytes, n, &n))
        return UINT64_MAX;
    return n;
}

static unsigned options_of(const struct sae_layout *layout, const struct sae_formula *f)
{
    const struct sae_unit *unit = sae_formula_unit(f);
    bool has_aux = !unit->is_aux_of_class || layout->unit == f->unit;

    return layout->options | (has_aux ? unit->aux_option : 0);
}

void sae_dict_describe_kept(struct sae_dict_info *info, const struct sae_formula *f,
                            const struct sae_storage *kept)
{
    info->resident = sae_dtype_name(kept->enc);
    info->resident_bytes = has_norms(f) ? add_values(0, f->F, sizeof(float)) : 0;
    for (enum sae_role role = 0; role < SAE_N_ROLES; role++)
        info->resident_bytes =
            add_values(info->resident_bytes, role_values(f, role), item_bytes(kept, role));
}

void sae_dict_describe(struct sae_dict_info *info, const struct sae_layout *layout,
                       const struct sae_formula *f, const struct sae_storage *kept)
{
    struct sae_reading r;

    info->class_name = layout->name;
    info->format = layout->format;
    info->activation_dim = f->d_in;
    info->dict_size = f->F;
    info->output_dim = f->d_out;
    info->encodes_only = f->encodes_only;
    info->options = options_of(layout, f);
    info->state_width = sae_scaling_n_state(f->input);
    info->options |= info->state_width ? SAE_OPT_INPUT_STATE : 0;
    info->wants_state = sae_scaling_n_state(f->output) > 0;
    info->wants_x = f->has_skip;
    info->aux_name = sae_formula_unit(f)->aux_name;
    info->scales_forward_f = f->scales_forward_f;
    info->bytes = 0;
    for (enum sae_role role = 0; role < SAE_N_ROLES; role++)
        info->bytes = add_values(info->bytes, role_values(f, role), sizeof(float));
    sae_dict_describe_kept(info, f, kept ? kept : &f32_apart);
    info->taps = SAE_NO_TAPS;
    sae_layout_reading(layout, &r);
    sae_reading_complete(&r);
    sae_reading_show(&r, info);
}

static bool is_dim(uint64_t n)
{
    return n >= 1 && n <= SAE_DICT_MAX_DIM;
}

enum sae_status sae_dict_create_as(struct sae_dict **out, const struct sae_layout *layout,
                                   const struct sae_formula *f, const struct sae_storage *kept,
                                   struct sae_err *err)
{
    enum sae_status st = sae_formula_check(f, err);
    struct sae_dict *dict = NULL;
    bool ok;

    kept = kept ? kept : &f32_apart;
    assert(!kept->is_tied || (f->d_in == f->d_out && !f->encodes_only && kept->enc == kept->dec));
    if (st != SAE_OK)
        return st;
    if (!is_dim(f->d_in) || (!is_dim(f->d_out) && !f->encodes_only) || !is_dim(f->F))
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate %s: %zu x %zu values",
                           layout->name, f->F, f->d_in);
    dict = sae_calloc(1, sizeof *dict);
    if (!dict)
        goto nomem;
    dict->layout = layout;
    dict->formula = *f;
    dict->enc = (struct sae_matrix){.dtype = kept->enc, .width = f->d_in};
    dict->dec = (struct sae_matrix){.dtype = kept->dec, .width = f->d_out};
    sae_dict_describe(&dict->info, layout, f, kept);
    ok = alloc_arrays(dict, kept, true) && alloc_arrays(dict, kept, false);
    if (kept->is_tied)
        dict->dec = dict->enc;
    if (ok && has_norms(f))
        ok = (dict->dec_norm = vector_alloc(f->F)) != NULL;
    if (!ok)
        goto nomem;
    for (size_t j = 0; f->encodes_only && dict->dec_norm && j < f->F; j++)
        dict->dec_norm[j] = NAN; /* until the filler has them: seal refuses it */
    if (f->adds_centre)
        dict->dec_bias = dict->centre;
    *out = dict;
    return SAE_OK;
nomem:
    sae_dict_free(dict);
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate %s: %zu x %zu values, out of memory",
                       layout->name, f->F, f->d_in);
}

enum sae_status sae_dict_create(struct sae_dict **out, const struct sae_layout *layout, uint64_t d,
                                uint64_t F, struct sae_err *err)
{
    struct sae_formula f = sae_layout_formula(layout, (size_t)d, (size_t)F);

    return sae_dict_create_as(out, layout, &f, NULL, err);
}

enum sae_status sae_dict_create_outline(struct sae_dict **out, const struct sae_layout *layout,
                                        const struct sae_formula *f,
                                        const struct sae_dict_info *info, struct sae_err *err)
{
    struct sae_dict *d = sae_calloc(1, sizeof *d);

    if (d) {
        d->layout = layout;
        d->formula = *f;
        d->info = *info;
        d->info.metadata = d->metadata = info->metadata ? sae_strdup(info->metadata) : NULL;
        d->info.taps = d->taps = info->taps ? sae_strdup(info->taps) : NULL;
    }
    if (!d || (info->metadata && !d->metadata) || (info->taps && !d->taps)) {
        sae_dict_free(d);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot describe %s: out of memory", layout->name);
    }
    *out = d;
    return SAE_OK;
}

void sae_dict_add_note(struct sae_dict_info *info, const char *fmt, ...)
{
    bool is_full = info->n_notes == SAE_MAX_NOTES;
    char *note = info->notes[is_full ? SAE_MAX_NOTES - 1 : info->n_notes++];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(note, SAE_NOTE_BYTES,
              is_full ? "there is more to be noted, beyond what is shown" : fmt, ap);
    va_end(ap);
    sae_text_tame(note); /* keys of files stand in it */
}

void sae_dict_free(struct sae_dict *d)
{
    if (!d)
        return;
    if (d->engine_data)
        d->engine_data_free(d->engine_data);
    if (d->dec_bias != d->centre)
        sae_free(d->dec_bias);
    sae_free(d->centre);
    for (unsigned i = 0; i < SAE_MAX_PARAMS; i++)
        sae_free(d->param[i]);
    sae_free(d->dec_norm);
    if (d->dec.values != d->enc.values)
        sae_huge_free(d->dec.values, d->formula.d_out * d->formula.F, sae_matrix_item(&d->dec));
    sae_huge_free(d->enc.values, d->formula.d_in * d->formula.F, sae_matrix_item(&d->enc));
    sae_huge_free(d->skip, d->formula.d_out * d->formula.d_in, sizeof *d->skip);
    sae_free(d->metadata);
    sae_free(d->taps);
    sae_labels_free(d->labels);
    sae_free(d);
}

const char *sae_dict_label(const struct sae_dict *d, uint32_t id, size_t *n)
{
    return d->labels ? sae_labels_json(d->labels, id, n) : NULL;
}

const struct sae_dict_info *sae_dict_info(const struct sae_dict *d)
{
    return &d->info;
}

double sae_dict_norm(const float *v, size_t n)
{
    double s[4] = {0.0, 0.0, 0.0, 0.0};
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        for (size_t c = 0; c < 4; c++)
            s[c] += (double)v[i + c] * (double)v[i + c];
    for (; i < n; i++)
        s[0] += (double)v[i] * (double)v[i];
    return sqrt((s[0] + s[2]) + (s[1] + s[3]));
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* What errors call the tensor of a role: by its key, where the layout has one. */
static const char *role_name(const struct sae_dict *d, enum sae_role role)
{
    static const char *const names[SAE_N_ROLES] = {
        [SAE_ROLE_ENCODER] = "encoder",     [SAE_ROLE_DECODER] = "decoder",
        [SAE_ROLE_SKIP] = "skip",           [SAE_ROLE_CENTRE] = "centre",
        [SAE_ROLE_DEC_BIAS] = "b_dec",      [SAE_ROLE_ENC_BIAS] = "b_enc",
        [SAE_ROLE_R_MAG] = "r_mag",         [SAE_ROLE_GATE_BIAS] = "gate_bias",
        [SAE_ROLE_MAG_BIAS] = "mag_bias",   [SAE_ROLE_JUMP] = "jump",
        [SAE_ROLE_THRESHOLD] = "threshold",
    };
    const struct sae_layout_key *key = sae_layout_key_of(d->layout, role);

    return key ? key->name : names[role];
}

/* Norms being made. */
struct norms {
    struct sae_dict *d;
    _Atomic size_t bad; /* the first column that is not finite; F: none */
    atomic_bool nomem;
};

/* A sum of squares is finite for finite floats (at most 2^31 times 2^256): one that is not tells
 * that a value is not. */
static void norms_range(void *arg, size_t from, size_t to)
{
    struct norms *n = arg;
    const struct sae_dict *d = n->d;
    float *room = sae_alloc(d->formula.d_out, sizeof *room); /* a row of 16 bits, widened */

    for (size_t j = from; room && j < to; j++) {
        const float *row = sae_matrix_row(&d->dec, j, room);
        double norm = sqrt(sae_ref_squares(row, 0.0, d->formula.d_out));
        size_t bad = atomic_load(&n->bad);

        d->dec_norm[j] = (float)norm;
        while (!isfinite(norm) && j < bad && !atomic_compare_exchange_weak(&n->bad, &bad, j))
            ;
    }
    if (!room)
        atomic_store(&n->nomem, true);
    sae_free(room);
}

static enum sae_status decoder_norms(struct sae_dict *d, struct sae_team *team, struct sae_err *err)
{
    const struct sae_layout_key *key = sae_layout_key_of(d->layout, SAE_ROLE_DECODER);
    const char *name = role_name(d, SAE_ROLE_DECODER);
    struct norms n = {.d = d, .bad = d->formula.F};

    sae_team_run(team, d->formula.F, NORMS_STEP, norms_range, &n);
    if (n.nomem)
        return sae_err_set(err, SAE_E_NOMEM, name, "cannot widen %s: out of memory", name);
    if (n.bad < d->formula.F)
        return sae_err_set(err, SAE_E_WEIGHTS, name,
                           "cannot use %s: %s %zu holds a value that is not finite", name,
                           key && sae_layout_is_turned(key) ? "column" : "row", n.bad);
    return SAE_OK;
}

static enum sae_status sum_up_norms(struct sae_dict *d, struct sae_err *err)
{
    const char *name = role_name(d, SAE_ROLE_DECODER);
    float *sorted;

    for (size_t j = 0; d->formula.score != SAE_SCORE_VALUE && j < d->formula.F; j++)
        if (!isfinite(d->dec_norm[j]))
            return sae_err_set(err, SAE_E_WEIGHTS, name,
                               "cannot use %s: the norm of feature %zu, by which it is scored, is "
                               "%g as f32",
                               name, j, (double)d->dec_norm[j]);
    sorted = sae_alloc(d->formula.F, sizeof *sorted);
    if (!sorted)
        return sae_err_set(err, SAE_E_NOMEM, name, "cannot sort %zu norms: out of memory",
                           d->formula.F);
    memcpy(sorted, d->dec_norm, d->formula.F * sizeof *sorted);
    qsort(sorted, d->formula.F, sizeof *sorted, by_value);
    d->info.norm_min = sorted[0];
    d->info.norm_max = sorted[d->formula.F - 1];
    d->info.norm_median =
        (float)(((double)sorted[(d->formula.F - 1) / 2] + (double)sorted[d->formula.F / 2]) / 2.0);
    sae_free(sorted);
    return SAE_OK;
}

/* Vectors are small: they are looked at here whoever filled them. So is the skip. */
static enum sae_status check_values(const struct sae_dict *d, struct sae_err *err)
{
    for (enum sae_role role = SAE_ROLE_CENTRE; role < SAE_N_ROLES; role++) {
        const float *v = sae_dict_array(d, role);

        for (size_t k = 0; k < role_values(&d->formula, role); k++)
            if (!isfinite(v[k]))
                return sae_err_set(err, SAE_E_WEIGHTS, role_name(d, role),
                                   "cannot use %s: value %zu is %g, wanted finite numbers",
                                   role_name(d, role), k, (double)v[k]);
    }
    return SAE_OK;
}

static enum sae_status exponentiate(struct sae_dict *d, struct sae_err *err)
{
    const struct sae_unit *unit = sae_formula_unit(&d->formula);

    for (unsigned i = 0; i < unit->n_params; i++)
        for (size_t j = 0; unit->exps >> i & 1 && j < d->formula.F; j++) {
            float v = sae_exp_f32(d->param[i][j]);
            const char *name = role_name(d, unit->params[i]);

            if (!isfinite(v))
                return sae_err_set(err, SAE_E_WEIGHTS, name,
                                   "cannot use %s: exp of value %zu, %.9g, is not finite as f32",
                                   name, j, (double)d->param[i][j]);
            d->param[i][j] = v;
        }
    return SAE_OK;
}

enum sae_status sae_dict_seal(struct sae_dict *d, const char *dtype, struct sae_team *team,
                              struct sae_err *err)
{
    struct sae_dict_info *info = &d->info;
    enum sae_status st = check_values(d, err);

    if (st == SAE_OK)
        st = sae_dict_digest(d, team, err);
    if (st == SAE_OK)
        st = exponentiate(d, err);
    if (st != SAE_OK)
        return st;
    info->dtype = dtype;
    info->has_norms = d->formula.is_identity || d->dec_norm;
    info->norm_min = info->norm_median = info->norm_max = 1.0f;
    if (d->dec.values)
        st = decoder_norms(d, team, err);
    return st == SAE_OK && d->dec_norm ? sum_up_norms(d, err) : st;
}
