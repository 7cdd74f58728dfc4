/* file.c - a dictionary from a weights file: opened and described first, then read.
 *
 * Opening: the set of keys names the class (choose.c), or what is stated does; then the reading is
 * settled (settle.c), tensors bound (bind.c) and every dtype and shape checked (shapes.c). Reading:
 * only now is memory taken, and each tensor read into its place. Every message names the file;
 * `where` is the tensor. See dict/spec.h, dict/file.h. */
#include "lib/dict/file.h"

#include "lib/dict/ref.h"
#include "lib/num.h"
#include "lib/sha256.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- messages ---- */

#define CALLER_ROOM 50 /* bytes that a caller may put before a message of ours */

static enum sae_status SAE_PRINTF(5, 6)
    cannot(const char *path, enum sae_status st, const char *tensor, struct sae_err *err,
           const char *fmt, ...)
{
    char fact[300];
    size_t n = strlen(path), room;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(fact, sizeof fact, fmt, ap);
    va_end(ap);
    /* The reason comes first: a path gets what is left, of a long one its end. */
    room = sizeof err->text - CALLER_ROOM - sizeof "cannot load ...: " - strlen(fact);
    if (n <= room)
        return sae_err_set(err, st, tensor, "cannot load %s: %s", path, fact);
    path += n - room;
    while (((unsigned char)*path & 0xc0) == 0x80) /* not from inside a character */
        path++;
    return sae_err_set(err, st, tensor, "cannot load ...%s: %s", path, fact);
}

/* What a lower call found, told again with the file's name. */
static enum sae_status pass_on(const char *path, const struct sae_err *low, enum sae_status st,
                               struct sae_err *err)
{
    return cannot(path, st, low->where, err, "%s", low->text);
}

/* ---- which class ---- */

/* A path that is not there may be one with a misspelt option behind it. */
static enum sae_status not_opened(const struct sae_file *b, const struct sae_err *low,
                                  enum sae_status st, struct sae_err *err)
{
    struct sae_misspelt m = sae_statement_misspelt(b->path);

    if (st != SAE_E_IO || !m.word)
        return pass_on(b->path, low, st, err);
    return cannot(b->path, st, low->where, err, "%s; \"%.*s\" is no option, the nearest is \"%s\"",
                  low->text, m.n < 40 ? (int)m.n : 40, m.word, m.nearest);
}

/* Does its role go with the decoder, or a k with a selection that is none? An encoder alone leaves
 * all of the former. */
static bool is_excused(const struct sae_file *b, const struct sae_layout_key *key)
{
    const struct sae_reading_field *select = &b->reading.field[SAE_FIELD_SELECT];

    switch (key->role) {
    case SAE_ROLE_DECODER:
    case SAE_ROLE_DEC_BIAS:
    case SAE_ROLE_CENTRE:
    case SAE_ROLE_SKIP:
        return b->formula.encodes_only;
    case SAE_ROLE_TOP_K:
        return !select->contradicts || select->value.choice == SAE_SELECT_TOP_K;
    case SAE_ROLE_THRESHOLD:
        return false;
    default:
        return !sae_layout_is_kept(key);
    }
}

/* Is it a tensor of the row that plays no role, by what is stated? */
static bool is_left(const struct sae_file *b, const struct sae_layout_key *key)
{
    bool is_read = key->need != SAE_KEY_IGNORED && !is_excused(b, key);
    size_t i = is_read ? sae_file_find(b, key->name) : SIZE_MAX;

    for (enum sae_role role = 0; i != SIZE_MAX && role < SAE_N_ROLES; role++)
        for (unsigned k = 0; k < b->bound[role].n; k++)
            if (b->bound[role].index[k] == i)
                return false;
    return i != SIZE_MAX;
}

/* Is it what is stated that leaves the tensor? A skip goes by its own field, all others by the
 * activation, or by what is selected instead. */
static bool is_left_by_statement(const struct sae_file *b, const struct sae_layout_key *key)
{
    const struct sae_reading *r = &b->reading;

    if (key->role == SAE_ROLE_SKIP)
        return sae_reading_is_stated(r, SAE_FIELD_SKIP);
    return sae_reading_is_stated(r, SAE_FIELD_ACTIVATION) ||
           sae_reading_is_stated(r, SAE_FIELD_THRESHOLD) ||
           ((key->need == SAE_KEY_SPARE || key->role == SAE_ROLE_TOP_K) &&
            sae_reading_is_stated(r, SAE_FIELD_SELECT));
}

/* An optional tensor of the row that nothing uses, so that the row may be the wrong one. */
static enum sae_status check_left(const struct sae_file *b, struct sae_err *err)
{
    for (unsigned k = 0; k < b->layout->n_keys; k++)
        if (b->layout->keys[k].need != SAE_KEY_SPARE && is_left(b, &b->layout->keys[k]) &&
            !is_left_by_statement(b, &b->layout->keys[k]))
            return sae_err_set(err, SAE_E_FORMAT, b->layout->keys[k].name,
                               "the file has \"%s\", which its formula does not use; state "
                               "format=custom, or a reading that uses it",
                               b->layout->keys[k].name);
    return SAE_OK;
}

static enum sae_status name_class(struct sae_file *b, struct sae_err *err)
{
    struct sae_err low = {0};
    enum sae_status st;

    sae_file_confirm(b);
    st = sae_dict_choose(b->ts, b->stated, b->format, &b->choice, &low);
    b->layout = b->choice.layout;
    if (st == SAE_OK)
        b->format = b->layout->format;
    if (st == SAE_OK)
        st = sae_load_choose(b->ts, b->choice.group, b->choice.prefix, &low);
    if (st == SAE_OK)
        st = sae_hints_read(&b->hints, b->weights, &low);
    if (st == SAE_OK)
        st = sae_file_settle(b, &low);
    if (st == SAE_OK)
        st = sae_file_bind(b, &low);
    if (st == SAE_OK)
        st = sae_file_fit(b, &low);
    if (st == SAE_OK)
        st = check_left(b, &low);
    return st == SAE_OK ? st : pass_on(b->path, &low, st, err);
}

/* ---- what it will be ---- */

/* Configs that are nobody's, a model's own perhaps. */
static void note_configs(struct sae_file *b)
{
    bool is_row = !b->layout->is_stated && !b->layout->is_any_tensor;

    for (size_t i = 0; is_row && i < SAE_HINTS_MAX_FILES && b->hints.found[i].file; i++) {
        const char *file = b->hints.found[i].file;
        bool is_above = b->hints.found[i].is_above;

        if (!b->config || is_above != b->is_config_above ||
            strcmp(sae_facts_name(b->config), file) != 0)
            sae_dict_add_note(&b->info, "%s %s was looked at for a k alone", file,
                              sae_hints_place(is_above));
    }
}

/* Matrices that the producer's own arithmetic rounds to. */
static void note_16_bits(struct sae_file *b)
{
    static const enum sae_role matrices[] = {SAE_ROLE_ENCODER, SAE_ROLE_DECODER, SAE_ROLE_SKIP};
    static const enum sae_dtype dtypes[] = {SAE_DTYPE_BF16, SAE_DTYPE_F16};

    for (size_t t = 0; t < SAE_COUNTOF(dtypes); t++) {
        bool is_there = false;

        for (size_t i = 0; i < SAE_COUNTOF(matrices); i++) {
            const struct sae_bound *bound = &b->bound[matrices[i]];

            is_there |= bound->n && sae_load_tensor(b->ts, bound->index[0])->dtype == dtypes[t];
        }
        if (is_there)
            sae_dict_add_note(&b->info,
                              "the producer computes in %s; differences of 1e-2 are its rounding",
                              sae_dtype_name(dtypes[t]));
    }
}

/* How a matrix is kept: 16 bits as the file has them, all else as f32. */
static enum sae_dtype kept_as(const struct sae_file *b, enum sae_role role)
{
    const struct sae_bound *bound = &b->bound[role];
    enum sae_dtype dtype = SAE_DTYPE_F32;

    if (bound->n == 1 && !bound->is_number)
        dtype = sae_load_tensor(b->ts, bound->index[0])->dtype;
    return dtype == SAE_DTYPE_F16 || dtype == SAE_DTYPE_BF16 ? dtype : SAE_DTYPE_F32;
}

/* Is the decoder the encoder again, by its name? */
static bool is_tied(const struct sae_file *b)
{
    const struct sae_bound *dec = &b->bound[SAE_ROLE_DECODER];

    return b->layout->tied_key && dec->n == 1 &&
           dec->index[0] == sae_file_find(b, b->layout->tied_key);
}

/* ... and stands there beside it. */
static bool is_twice(const struct sae_file *b)
{
    return is_tied(b) && b->bound[SAE_ROLE_DECODER].index[0] != b->bound[SAE_ROLE_ENCODER].index[0];
}

static void choose_storage(struct sae_file *b)
{
    b->kept = (struct sae_storage){kept_as(b, SAE_ROLE_ENCODER), kept_as(b, SAE_ROLE_DECODER),
                                   is_tied(b) && !b->formula.encodes_only};
    if (b->stated->widens)
        b->kept.enc = b->kept.dec = SAE_DTYPE_F32;
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

/* What the file did not say by itself. */
static void add_notes(struct sae_file *b)
{
    struct sae_dict_info *info = &b->info;
    const struct sae_group *g = sae_load_group(b->ts, b->choice.group);

    if (b->choice.group != 0 && !b->stated->prefix)
        sae_dict_add_note(info, "read from the entry \"%s\"", g->name);
    if (b->choice.prefix != 0)
        sae_dict_add_note(info, "the prefix \"%.*s\" was taken off every key",
                          (int)b->choice.prefix, sae_dict_prefixed(b->ts, &b->choice));
    if (sae_load_note(b->ts))
        sae_dict_add_note(info, "%s", sae_load_note(b->ts));
    if (b->layout->note && !b->is_altered && !b->is_class_told)
        sae_dict_add_note(info, "%s", b->layout->note);
    note_configs(b);
    note_16_bits(b);
    if (b->hints.doubt[0])
        sae_dict_add_note(info, "%s", b->hints.doubt);
    for (unsigned k = 0; k < b->layout->n_keys; k++)
        if (is_left(b, &b->layout->keys[k]) && is_left_by_statement(b, &b->layout->keys[k]))
            sae_dict_add_note(info, "%s is not used under the stated reading",
                              b->layout->keys[k].name);
}

/* Options that belong to the class as it is read unaltered. */
#define OF_THE_CLASS (SAE_OPT_GHOST_MASK | SAE_OPT_GHOST_UNREAD)

static void describe(struct sae_file *b)
{
    struct sae_dict_info *info = &b->info;
    size_t encoder = b->bound[SAE_ROLE_ENCODER].index[0];

    choose_storage(b);
    sae_dict_describe(info, b->layout, &b->formula, &b->kept);
    if (b->layout->by_reading)
        info->class_name = sae_reading_class(&b->reading, b->formula.has_skip);
    if (b->is_altered)
        info->options &= ~(unsigned)OF_THE_CLASS;
    info->dtype = sae_dtype_name(sae_load_tensor(b->ts, encoder)->dtype);
    sae_reading_show(&b->reading, info);
    add_notes(b);
}

/* ---- values ---- */

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

/* It, as it is stored; one that is to be the encoder again, as that is kept. Owned: sae_huge_free.
 */
static enum sae_status read_aside(const struct sae_file *b, struct sae_matrix *out,
                                  struct sae_team *team, struct sae_err *err)
{
    size_t n = b->formula.F * b->formula.d_out;
    enum sae_status st;

    *out = (struct sae_matrix){.dtype = is_twice(b) ? b->kept.enc : kept_as(b, SAE_ROLE_DECODER),
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

/* ---- the two steps ---- */

enum sae_status sae_file_open(struct sae_file **out, const struct sae_statement *stated,
                              struct sae_dict_info *info, struct sae_err *err)
{
    struct sae_file *b = sae_calloc(1, sizeof *b);
    struct sae_err low = {0};
    enum sae_status st;

    if (!b)
        return cannot(stated->path, SAE_E_NOMEM, "", err, "cannot allocate its description");
    b->path = stated->path;
    b->stated = stated;
    st = sae_file_locate(b, &low);
    if (st == SAE_OK)
        st = sae_load_open(&b->ts, b->weights, &low);
    st = st == SAE_OK ? name_class(b, err) : not_opened(b, &low, st, err);
    if (st == SAE_OK) {
        describe(b);
        st = sae_file_show(b, &low);
        st = st == SAE_OK ? st : pass_on(b->path, &low, st, err);
    }
    if (st != SAE_OK) {
        sae_file_close(b);
        return st;
    }
    *info = b->info;
    *out = b;
    return SAE_OK;
}

void sae_file_close(struct sae_file *b)
{
    if (!b)
        return;
    sae_load_close(b->ts);
    sae_facts_free(b->config);
    sae_free(b->weights);
    sae_free(b->metadata);
    sae_free(b->taps);
    sae_free(b);
}

uint64_t sae_file_stamp(const struct sae_file *b)
{
    return sae_load_stamp(b->ts);
}

void sae_file_widen(struct sae_file *b, struct sae_dict_info *info)
{
    const bool is_wider = b->kept.enc != SAE_DTYPE_F32 || b->kept.dec != SAE_DTYPE_F32;

    b->kept.enc = b->kept.dec = SAE_DTYPE_F32;
    sae_dict_describe_kept(&b->info, &b->formula, &b->kept);
    if (is_wider)
        sae_dict_add_note(&b->info, "the engine wants float32: what the file has in 16 bits takes "
                                    "twice the memory");
    *info = b->info;
}

const struct sae_layout *sae_file_layout(const struct sae_file *b)
{
    return b->layout;
}

const struct sae_formula *sae_file_formula(const struct sae_file *b)
{
    return &b->formula;
}

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
    return pass_on(b->path, &low, st, err);
}
