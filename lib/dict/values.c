/* values.c - the values of a bound file, read into the memory of a dictionary.
 *
 * Only now is memory taken. Each tensor goes into its role's place: converted, turned, cut to the
 * first F features; several added up, an exponential taken. A decoder that is looked at and not
 * kept is read before all else. What only values tell is checked and noted here. Called by
 * draft.c on a file that file.c has opened; no state. See dict/spec.h, dict/file.h. */
#include "lib/dict/file.h"

#include "lib/dict/ref.h"
#include "lib/num.h"
#include "lib/sha256.h"

#include <math.h>
#include <string.h>

/* Memory is feature-major, and a skip by outputs. */
static bool is_turned(const char *dims)
{
    return strchr(dims, ',') && (dims[2] == 'F' || strcmp(dims, "d,m") == 0);
}

/* Values of a vector, or of a skip, in memory, of which `stored` are in the file. */
static size_t n_values(const struct sae_file *b, enum sae_role role, size_t *stored)
{
    const struct sae_formula *f = &b->formula;

    switch (role) {
    case SAE_ROLE_CENTRE:
        return *stored = f->d_in;
    case SAE_ROLE_DEC_BIAS:
        return *stored = f->d_out;
    case SAE_ROLE_SKIP:
        return *stored = f->d_out * f->d_in;
    default:
        *stored = (size_t)b->n_stored;
        return f->F;
    }
}

/* A role's place for one of its tensors: the values in the file, and those taken. */
struct place {
    size_t stored, n;
    struct sae_team *team; /* a skip is read by it */
};

/* Of a vector the first n values. */
static enum sae_status read_first(const struct sae_file *b, size_t i, const struct place *p,
                                  float *dst, struct sae_err *err)
{
    float *all = p->n < p->stored ? sae_alloc(p->stored, sizeof *all) : dst;
    enum sae_status st;

    if (!all)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot read %zu values: out of memory",
                           p->stored);
    st = sae_load_read(b->ts, i, all, false, err);
    if (st == SAE_OK && all != dst)
        memcpy(dst, all, p->n * sizeof *dst);
    if (all != dst)
        sae_free(all);
    return st;
}

static enum sae_status read_skip(const struct sae_file *b, size_t i, const struct place *p,
                                 float *dst, struct sae_err *err)
{
    const struct sae_matrix m = {.dtype = SAE_DTYPE_F32, .values = dst, .width = b->formula.d_in};

    return sae_load_matrix(b->ts, i, &m, b->formula.d_out, is_turned(b->bound[SAE_ROLE_SKIP].dims),
                           p->team, err);
}

static enum sae_status read_one(const struct sae_file *b, enum sae_role role, unsigned which,
                                const struct place *p, float *dst, struct sae_err *err)
{
    size_t i = b->bound[role].index[which];

    return role == SAE_ROLE_SKIP ? read_skip(b, i, p, dst, err) : read_first(b, i, p, dst, err);
}

/* The sum of several tensors, in double, from left to right, rounded once. */
static enum sae_status read_sum(const struct sae_file *b, enum sae_role role, const struct place *p,
                                float *dst, struct sae_err *err)
{
    const struct sae_bound *bound = &b->bound[role];
    double *sum = sae_calloc(p->n, sizeof *sum);
    enum sae_status st = SAE_OK;

    if (!sum)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot add up %u tensors: out of memory",
                           bound->n);
    for (unsigned i = 0; i < bound->n && st == SAE_OK; i++) {
        st = read_one(b, role, i, p, dst, err);
        for (size_t k = 0; k < p->n && st == SAE_OK; k++)
            sum[k] = i == 0 ? (double)dst[k] : sum[k] + (double)dst[k];
    }
    for (size_t k = 0; k < p->n && st == SAE_OK; k++)
        dst[k] = (float)sum[k];
    sae_free(sum);
    return st;
}

static enum sae_status take_exp(const struct sae_file *b, const struct sae_bound *bound, float *v,
                                size_t n, struct sae_err *err)
{
    const char *name = sae_load_tensor(b->ts, bound->index[0])->name;

    for (size_t j = 0; j < n; j++) {
        float was = v[j];

        v[j] = sae_exp_f32(was);
        if (!isfinite(v[j]))
            return sae_err_set(err, SAE_E_WEIGHTS, name,
                               "cannot use %s: exp of value %zu, %g, is not finite as f32", name, j,
                               (double)was);
    }
    return SAE_OK;
}

/* Encoder or decoder: its first F features. */
static enum sae_status read_matrix(const struct sae_file *b, const struct sae_matrix *m,
                                   enum sae_role role, struct sae_team *team, struct sae_err *err)
{
    const struct sae_bound *bound = &b->bound[role];

    return sae_load_matrix(b->ts, bound->index[0], m, b->formula.F, is_turned(bound->dims), team,
                           err);
}

static enum sae_status read_role(const struct sae_file *b, struct sae_dict *d, enum sae_role role,
                                 struct sae_team *team, struct sae_err *err)
{
    const struct sae_bound *bound = &b->bound[role];
    float *dst = sae_dict_array(d, role);
    struct place p = {.team = team};
    enum sae_status st = SAE_OK;

    p.n = n_values(b, role, &p.stored);
    if (role == SAE_ROLE_ENCODER)
        return d->enc.values ? read_matrix(b, &d->enc, role, team, err) : SAE_OK;
    if (role == SAE_ROLE_DECODER)
        return d->dec.values && !b->kept.is_tied ? read_matrix(b, &d->dec, role, team, err)
                                                 : SAE_OK;
    if (!dst || (role == SAE_ROLE_DEC_BIAS && b->formula.adds_centre))
        return SAE_OK;
    for (size_t j = 0; bound->is_number && j < p.n; j++)
        dst[j] = bound->number;
    if (bound->n > 0 && !bound->is_number)
        st = bound->n > 1 ? read_sum(b, role, &p, dst, err) : read_one(b, role, 0, &p, dst, err);
    return st == SAE_OK && bound->is_exp ? take_exp(b, bound, dst, p.n, err) : st;
}

/* With infinite thresholds some people prune: they are told what else does. */
static enum sae_status read_or_tell(const struct sae_file *b, struct sae_dict *d,
                                    enum sae_role role, struct sae_team *team, struct sae_err *err)
{
    struct sae_err low = {0};
    enum sae_status st = read_role(b, d, role, team, &low);
    bool prunes = st == SAE_E_WEIGHTS && role == SAE_ROLE_THRESHOLD;

    if (st == SAE_OK)
        return SAE_OK;
    return sae_err_set(err, st, low.where, "%s%s", low.text,
                       prunes ? "; state features=N, or save the file without the features that "
                                "are never on"
                              : "");
}

/* ---- a decoder that is read and not kept: before all else, when there is room for it ---- */

/* Is the decoder the encoder again, and stands there beside it? */
static bool is_twice(const struct sae_file *b)
{
    return sae_file_is_tied(b) &&
           b->bound[SAE_ROLE_DECODER].index[0] != b->bound[SAE_ROLE_ENCODER].index[0];
}

/* It, as it is stored; one that is to be the encoder again, as that is kept. Owned: sae_huge_free.
 */
static enum sae_status read_aside(const struct sae_file *b, struct sae_matrix *out,
                                  struct sae_team *team, struct sae_err *err)
{
    size_t n = b->formula.F * b->formula.d_out;
    enum sae_status st;

    *out = (struct sae_matrix){.dtype = is_twice(b) ? b->kept.enc
                                                    : sae_file_kept_as(b, SAE_ROLE_DECODER),
                               .width = b->formula.d_out};
    out->values = sae_huge_alloc(n, sae_matrix_item(out));
    if (!out->values)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot read %zu values: out of memory", n);
    st = read_matrix(b, out, SAE_ROLE_DECODER, team, err);
    if (st != SAE_OK)
        sae_huge_free(out->values, n, sae_matrix_item(out));
    return st;
}

/* The norms of a decoder, which a score looks at. */
static enum sae_status take_norms(const struct sae_matrix *m, struct sae_dict *d,
                                  struct sae_err *err)
{
    float *room = sae_alloc(m->width, sizeof *room);

    if (!room)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot read %zu values: out of memory", m->width);
    for (size_t j = 0; j < d->formula.F; j++)
        d->dec_norm[j] = (float)sqrt(sae_ref_squares(sae_matrix_row(m, j, room), 0.0, m->width));
    sae_free(room);
    return SAE_OK;
}

static void hash_matrix(const struct sae_matrix *m, size_t n_rows, uint8_t out[SAE_SHA256_BYTES])
{
    struct sae_sha256 h;

    sae_sha256_init(&h);
    sae_sha256_add(&h, &m->dtype, sizeof m->dtype);
    sae_sha256_add(&h, m->values, n_rows * m->width * sae_matrix_item(m));
    sae_sha256_end(&h, out);
}

/* What is known of a decoder that is not there beside the encoder. */
struct aside {
    bool is_hashed;
    uint8_t sha256[SAE_SHA256_BYTES];
};

static enum sae_status look_aside(const struct sae_file *b, struct sae_dict *d, struct aside *a,
                                  struct sae_team *team, struct sae_err *err)
{
    const bool wants_norms = !d->dec.values && d->dec_norm;
    struct sae_matrix m;
    enum sae_status st;

    a->is_hashed = is_twice(b);
    if (!wants_norms && !a->is_hashed)
        return SAE_OK;
    st = read_aside(b, &m, team, err);
    if (st != SAE_OK)
        return st;
    if (wants_norms)
        st = take_norms(&m, d, err);
    if (a->is_hashed)
        hash_matrix(&m, b->formula.F, a->sha256);
    sae_huge_free(m.values, b->formula.F * m.width, sae_matrix_item(&m));
    return st;
}

/* A decoder that is the encoder again is its equal, byte for byte: its dtype is (shapes.c). */
static enum sae_status check_tied(const struct sae_file *b, const struct sae_dict *d,
                                  const struct aside *a, struct sae_err *err)
{
    const char *key = b->layout->tied_key;
    uint8_t sha256[SAE_SHA256_BYTES];

    if (!a->is_hashed)
        return SAE_OK;
    hash_matrix(&d->enc, b->formula.F, sha256);
    if (memcmp(sha256, a->sha256, sizeof sha256) == 0)
        return SAE_OK;
    return sae_err_set(err, SAE_E_WEIGHTS, key,
                       "\"%s\" is not the encoder, which it is tied to by its name", key);
}

/* ---- all of them ---- */

/* What sealing is to know of the file, and what is known of it then. */
static enum sae_status inform(const struct sae_file *b, struct sae_dict *d, struct sae_err *err)
{
    d->info = b->info;
    d->info.metadata = d->metadata = b->metadata ? sae_strdup(b->metadata) : NULL;
    d->info.taps = d->taps = sae_strdup(b->taps);
    if (!d->taps || (b->metadata && !d->metadata))
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot copy what stands beside the weights");
    for (enum sae_role role = 0; role < SAE_N_ROLES; role++) {
        d->absent |= (unsigned)(b->bound[role].n == 0 && !b->bound[role].is_number) << role;
        d->single |= (unsigned)b->bound[role].is_number << role;
    }
    return SAE_OK;
}

/* What only the values tell. */
static void add_counts(struct sae_dict *d)
{
    const float *theta = sae_dict_array(d, SAE_ROLE_THRESHOLD);
    size_t n_zero = 0, n_below = 0;

    for (size_t j = 0; j < d->formula.F; j++) {
        n_zero += d->formula.score != SAE_SCORE_VALUE && d->dec_norm[j] == 0.0f;
        n_below += theta && theta[j] < 0.0f;
    }
    if (n_below && d->layout->note_below_zero)
        sae_dict_add_note(&d->info, "%s", d->layout->note_below_zero);
    if (n_zero)
        sae_dict_add_note(&d->info, "%zu features have a decoder row of zeros and are never on",
                          n_zero);
}

enum sae_status sae_file_read(struct sae_dict **out, struct sae_file *b, struct sae_team *team,
                              struct sae_err *err)
{
    struct sae_dict *d = NULL;
    struct aside aside = {.is_hashed = false};
    struct sae_err low = {0};
    enum sae_status st = sae_dict_create_as(&d, b->layout, &b->formula, &b->kept, &low);

    if (st == SAE_OK)
        st = look_aside(b, d, &aside, team, &low);
    for (enum sae_role role = 0; st == SAE_OK && role < SAE_N_ROLES; role++)
        st = read_or_tell(b, d, role, team, &low);
    if (st == SAE_OK)
        st = check_tied(b, d, &aside, &low);
    if (st == SAE_OK)
        st = inform(b, d, &low);
    if (st == SAE_OK)
        st = sae_dict_seal(d, b->info.dtype, team, &low);
    if (st == SAE_OK) {
        add_counts(d);
        *out = d;
        return SAE_OK;
    }
    sae_dict_free(d);
    return sae_file_pass_on(b->path, &low, st, err);
}
