/* bind.c - which tensor of the file plays which role under the reading, and of what shape it is.
 *
 * A row's keys bring their orientation with them; of stated ones it is what stands behind their
 * '@', or the only one that goes with the vectors. Never guessed. See file.h. */
#include "lib/dict/file.h"

#include "lib/dict/text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NONE SIZE_MAX

void sae_shape_text(char text[64], const uint64_t *shape, unsigned ndim)
{
    size_t n = (size_t)snprintf(text, 64, "[");

    for (unsigned i = 0; i < ndim && n < 60; i++)
        n += (size_t)snprintf(text + n, 64 - n, "%s%llu", i ? ", " : "",
                              (unsigned long long)shape[i]);
    if (n < 63)
        snprintf(text + n, 64 - n, "]");
}

size_t sae_file_find(const struct sae_file *b, const char *key)
{
    size_t i = 0, n = sae_load_count(b->ts);

    while (i < n && !sae_layout_is_key(b->layout, key, sae_load_tensor(b->ts, i)->name))
        i++;
    return i < n ? i : NONE;
}

/* What the files call a key of the row; NULL: none of their entries is it. */
static const char *entry_of(const struct sae_file *b, const char *key)
{
    const struct sae_group *g = sae_load_group(b->ts, b->choice.group);

    for (size_t i = 0; i < g->n; i++)
        if (strlen(g->entries[i].name) > b->choice.prefix &&
            sae_layout_is_key(b->layout, key, g->entries[i].name + b->choice.prefix))
            return g->entries[i].name + b->choice.prefix;
    return NULL;
}

enum sae_status sae_file_lacks(const struct sae_file *b, const struct sae_layout_key *key,
                               struct sae_err *err)
{
    const char *name = entry_of(b, key->name);
    size_t i;
    enum sae_status st = name ? sae_load_find(b->ts, name, &i, err) : SAE_OK;

    if (st != SAE_OK || key->need != SAE_KEY_REQUIRED)
        return st;
    return sae_err_set(err, SAE_E_FORMAT, key->name, "the file has no tensor \"%s\", which %s has",
                       key->name, b->layout->name);
}

static size_t find_name(const struct sae_file *b, const char *text, size_t n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *name = sae_load_tensor(b->ts, i)->name;

        if (strlen(name) == n &&
            (b->layout->any_case ? strncasecmp(name, text, n) : memcmp(name, text, n)) == 0)
            return i;
    }
    return NONE;
}

/* A name of the n bytes that someone states, among the first `count` tensors; or one of the state
 * dict with what was taken off every key. */
static size_t find(const struct sae_file *b, const char *text, size_t n, size_t count)
{
    size_t prefix = b->choice.prefix, i = find_name(b, text, n, count);

    if (i != NONE || prefix == 0 || n <= prefix ||
        memcmp(text, sae_dict_prefixed(b->ts, &b->choice), prefix) != 0)
        return i;
    return find_name(b, text + prefix, n - prefix, sae_load_count(b->ts));
}

bool sae_file_number(const struct sae_file *b, const char *key, float *out)
{
    const struct sae_group *g = sae_load_group(b->ts, b->choice.group);

    for (size_t i = 0; i < g->n; i++)
        if (g->entries[i].kind == SAE_ENTRY_TENSOR && g->entries[i].has_number &&
            strcmp(g->entries[i].name + b->choice.prefix, key) == 0) {
            *out = (float)g->entries[i].number;
            return true;
        }
    return false;
}

/* ---- keys to tensors ---------------------------------------------------------------------- */

static const char *option_of(enum sae_role role)
{
    static const char *const names[SAE_N_ROLES] = {
        [SAE_ROLE_ENCODER] = "encoder",     [SAE_ROLE_DECODER] = "decoder",
        [SAE_ROLE_CENTRE] = "centre",       [SAE_ROLE_DEC_BIAS] = "dec_bias",
        [SAE_ROLE_ENC_BIAS] = "enc_bias",   [SAE_ROLE_R_MAG] = "r_mag",
        [SAE_ROLE_GATE_BIAS] = "gate_bias", [SAE_ROLE_MAG_BIAS] = "mag_bias",
        [SAE_ROLE_JUMP] = "jump",           [SAE_ROLE_THRESHOLD] = "threshold",
        [SAE_ROLE_SKIP] = "skip",
    };

    return names[role];
}

/* One key, or several joined by '+': a key may have one in it. It may also stand beside the state
 * dict. */
static enum sae_status bind_text(const struct sae_file *b, enum sae_role role, const char *text,
                                 size_t n, struct sae_bound *out, struct sae_err *err)
{
    size_t count = sae_load_count(b->ts) + sae_load_n_beside(b->ts);
    size_t whole = find(b, text, n, count);

    if (whole != NONE) {
        out->index[out->n++] = whole;
        return SAE_OK;
    }
    for (size_t at = 0, len; at <= n; at += len + 1) {
        const char *plus = memchr(text + at, '+', n - at);
        size_t i;

        len = plus ? (size_t)(plus - text) - at : n - at;
        i = find(b, text + at, len, count);
        if (i == NONE)
            return sae_err_set(err, SAE_E_FORMAT, "",
                               "%s is %.*s, and the file has no tensor \"%.*s\"", option_of(role),
                               n < 80 ? (int)n : 80, text, len < 80 ? (int)len : 80, text + at);
        if (out->n == SAE_MAX_SUM)
            return sae_err_set(err, SAE_E_FORMAT, "", "%s=%.*s adds up more than %d tensors",
                               option_of(role), n < 80 ? (int)n : 80, text, SAE_MAX_SUM);
        out->index[out->n++] = i;
    }
    return SAE_OK;
}

/* The two ways that a matrix may lie. */
static const char *const ways[SAE_N_ROLES][2] = {
    [SAE_ROLE_ENCODER] = {"F,d", "d,F"},
    [SAE_ROLE_DECODER] = {"F,m", "m,F"},
    [SAE_ROLE_SKIP] = {"m,d", "d,m"},
};

/* What stands behind the last '@', if it is a way of the role; *n is the length before it. */
static const char *orientation_of(enum sae_role role, const char *text, size_t *n)
{
    const char *at = strrchr(text, '@');

    *n = strlen(text);
    for (size_t i = 0; at && i < 2; i++)
        if (strcmp(at + 1, ways[role][i]) == 0) {
            *n = (size_t)(at - text);
            return ways[role][i];
        }
    return NULL;
}

/* The row's key of a role, one that is there before one that is not. */
static const struct sae_layout_key *key_of(const struct sae_file *b, enum sae_role role)
{
    const struct sae_layout *l = b->layout;

    for (unsigned i = 0; i < l->n_keys; i++)
        if (l->keys[i].role == role && sae_file_find(b, l->keys[i].name) != NONE)
            return &l->keys[i];
    return sae_layout_key_of(l, role);
}

/* A centre is also what is added, and a tied matrix is both. */
static const struct sae_layout_key *row_key(const struct sae_file *b, enum sae_role role)
{
    const struct sae_layout_key *key = key_of(b, role);
    bool is_there = key && sae_file_find(b, key->name) != NONE;

    if (!is_there && b->layout->tied_key && role == SAE_ROLE_ENCODER)
        return key_of(b, SAE_ROLE_DECODER);
    if (!is_there && b->layout->tied_key && role == SAE_ROLE_DECODER)
        return key_of(b, SAE_ROLE_ENCODER);
    return key || role != SAE_ROLE_DEC_BIAS ? key : key_of(b, SAE_ROLE_CENTRE);
}

static const char *vector_dims(enum sae_role role)
{
    return role == SAE_ROLE_CENTRE ? "d" : role == SAE_ROLE_DEC_BIAS ? "m" : "F";
}

static bool is_matrix(enum sae_role role)
{
    return ways[role][0] != NULL;
}

#define SHOWN_TENSORS 3

/* A matrix or vector that is the only one of its file. */
static enum sae_status bind_only(struct sae_file *b, struct sae_bound *bound, struct sae_err *err)
{
    size_t count = sae_load_count(b->ts), n = 0, found = NONE;
    struct sae_text names = {.len = 0};

    for (size_t i = 0; i < count; i++) {
        const struct sae_tensor *t = sae_load_tensor(b->ts, i);

        if (!sae_dtype_is_floating(t->dtype) || (t->ndim != 1 && t->ndim != 2))
            continue;
        if (n < SHOWN_TENSORS)
            sae_text_add(&names, "%s\"%.40s\"", n ? ", " : ": ", t->name);
        else if (n == SHOWN_TENSORS)
            sae_text_add(&names, ", ...");
        found = n++ == 0 ? i : found;
    }
    if (n != 1)
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "the file has %zu tensors that could be the matrix%s; state "
                           "encoder=KEY",
                           n, names.text);
    bound->dims = "F,d";
    bound->index[bound->n++] = found;
    return SAE_OK;
}

/* The roles that are stated by key, or that the row has a key of. */
static enum sae_status bind_role(struct sae_file *b, enum sae_role role, struct sae_err *err)
{
    const struct sae_layout_key *key = row_key(b, role);
    struct sae_bound *bound = &b->bound[role];
    const char *text = b->stated->key[role];
    size_t n = text ? strlen(text) : 0, i = NONE;
    enum sae_status st;

    if (text) {
        if (is_matrix(role))
            bound->dims = orientation_of(role, text, &n);
        else
            bound->dims = vector_dims(role);
        return bind_text(b, role, text, n, bound, err);
    }
    i = key ? sae_file_find(b, key->name) : NONE;
    if (i != NONE) {
        bound->dims = key->dims;
        bound->index[bound->n++] = i;
        return SAE_OK;
    }
    st = key ? sae_file_lacks(b, key, err) : SAE_OK;
    if (st != SAE_OK)
        return st;
    if (role == SAE_ROLE_ENCODER && b->layout->is_any_tensor)
        return bind_only(b, bound, err);
    /* An absent bias is +0. */
    if (role == SAE_ROLE_ENC_BIAS || role == SAE_ROLE_DEC_BIAS)
        return SAE_OK;
    if (key)
        return sae_err_set(err, SAE_E_FORMAT, key->name,
                           "this reading wants a tensor \"%s\", and the file has none", key->name);
    return sae_err_set(err, SAE_E_FORMAT, "", "this reading wants %s=KEY, which is not stated",
                       option_of(role));
}

/* centre, threshold and skip are fields of the reading. */
static enum sae_status bind_centre(struct sae_file *b, struct sae_err *err)
{
    const struct sae_value *v = &b->reading.field[SAE_FIELD_CENTRE].value;

    if (v->choice == SAE_CENTRE_NONE)
        return SAE_OK;
    b->bound[SAE_ROLE_CENTRE].dims = "d";
    return bind_text(b, SAE_ROLE_CENTRE, v->key, strlen(v->key), &b->bound[SAE_ROLE_CENTRE], err);
}

/* May it be one number for all features? A row's own is of the shape that the row gives it. */
static bool is_number_too(const struct sae_file *b, const char *name)
{
    const struct sae_layout *l = b->layout;

    if (l->is_open || sae_reading_is_stated(&b->reading, SAE_FIELD_THRESHOLD))
        return true;
    for (unsigned i = 0; i < l->n_keys; i++)
        if (sae_layout_is_key(l, l->keys[i].name, name))
            return l->keys[i].dims[0] == '\0';
    return true;
}

static enum sae_status bind_threshold(struct sae_file *b, struct sae_err *err)
{
    const struct sae_value *v = &b->reading.field[SAE_FIELD_THRESHOLD].value;
    struct sae_bound *bound = &b->bound[SAE_ROLE_THRESHOLD];
    enum sae_status st;

    bound->dims = "F";
    bound->is_number = v->choice == SAE_THRESHOLD_NUMBER;
    bound->number = v->number;
    bound->is_exp = v->choice == SAE_THRESHOLD_EXP;
    if (bound->is_number)
        return SAE_OK;
    st = bind_text(b, SAE_ROLE_THRESHOLD, v->key, strlen(v->key), bound, err);
    if (st != SAE_OK || sae_load_tensor(b->ts, bound->index[0])->ndim > 0 ||
        !is_number_too(b, v->key))
        return st;
    bound->dims = "";
    bound->is_number =
        bound->n == 1 &&
        sae_file_number(b, sae_load_tensor(b->ts, bound->index[0])->name, &bound->number);
    return bound->is_number
               ? SAE_OK
               : sae_err_set(err, SAE_E_WEIGHTS, v->key,
                             "\"%s\" is not one floating number of no dimension", v->key);
}

static enum sae_status bind_skip(struct sae_file *b, struct sae_err *err)
{
    const struct sae_value *v = &b->reading.field[SAE_FIELD_SKIP].value;
    struct sae_bound *bound = &b->bound[SAE_ROLE_SKIP];
    size_t n;

    if (v->choice == SAE_SKIP_NONE || b->formula.encodes_only)
        return SAE_OK;
    bound->dims = orientation_of(SAE_ROLE_SKIP, v->key, &n);
    return bind_text(b, SAE_ROLE_SKIP, v->key, n, bound, err);
}

/* Of an encoder alone the decoder tells how wide x_hat would be, where it is there. */
static enum sae_status bind_width(struct sae_file *b, struct sae_err *err)
{
    const struct sae_layout_key *key = row_key(b, SAE_ROLE_DECODER);
    const char *text = b->stated->key[SAE_ROLE_DECODER];
    size_t n = 0, i;

    if (b->leaves_decoder || (!text && !key))
        return SAE_OK;
    if (text)
        (void)orientation_of(SAE_ROLE_DECODER, text, &n);
    i = text ? find(b, text, n, sae_load_count(b->ts)) : sae_file_find(b, key->name);
    return i != NONE && sae_load_tensor(b->ts, i)->ndim == 2 ? bind_role(b, SAE_ROLE_DECODER, err)
                                                             : SAE_OK;
}

/* The key that is stated for a role; NULL: none. */
static const char *stated_key(const struct sae_file *b, enum sae_role role)
{
    const struct sae_reading_field *skip = &b->stated->reading.field[SAE_FIELD_SKIP];

    if (role != SAE_ROLE_SKIP)
        return b->stated->key[role];
    return skip->is_set && skip->value.choice == SAE_SKIP_KEY ? skip->value.key : NULL;
}

/* A key that is stated and plays no role is there all the same, unless it goes with the decoder and
 * the encoder alone is wanted: such a file may have lost it. */
static enum sae_status check_idle(struct sae_file *b, enum sae_role role, struct sae_err *err)
{
    bool is_decoders =
        role == SAE_ROLE_DECODER || role == SAE_ROLE_DEC_BIAS || role == SAE_ROLE_SKIP;
    const char *text = stated_key(b, role);
    struct sae_bound idle = {.n = 0};
    enum sae_status st;
    size_t n;

    if (!text || b->bound[role].n > 0 || (is_decoders && b->stated->encodes_only))
        return SAE_OK;
    n = strlen(text);
    if (is_matrix(role))
        (void)orientation_of(role, text, &n);
    st = bind_text(b, role, text, n, &idle, err);
    if (st == SAE_OK)
        sae_dict_add_note(&b->info, "%s=%.80s is not used under the stated reading",
                          option_of(role), text);
    return st;
}

static enum sae_status bind_all(struct sae_file *b, struct sae_err *err)
{
    const struct sae_unit *unit = sae_formula_unit(&b->formula);
    enum sae_status st = bind_role(b, SAE_ROLE_ENCODER, err);

    if (st == SAE_OK && (!b->formula.encodes_only || b->formula.score != SAE_SCORE_VALUE))
        st = bind_role(b, SAE_ROLE_DECODER, err);
    else if (st == SAE_OK)
        st = bind_width(b, err);
    if (st == SAE_OK && !b->formula.encodes_only)
        st = bind_role(b, SAE_ROLE_DEC_BIAS, err);
    for (unsigned i = 0; st == SAE_OK && i < unit->n_params; i++)
        st = unit->params[i] == SAE_ROLE_THRESHOLD ? bind_threshold(b, err)
                                                   : bind_role(b, unit->params[i], err);
    if (st == SAE_OK)
        st = bind_centre(b, err);
    if (st == SAE_OK)
        st = bind_skip(b, err);
    for (enum sae_role role = 0; st == SAE_OK && role < SAE_N_ROLES; role++)
        st = check_idle(b, role, err);
    return st;
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
    char shape[64];

    sae_shape_text(shape, t->shape, t->ndim);
    return sae_err_set(err, SAE_E_FORMAT, t->name,
                       "cannot tell which way round \"%s\" lies: its shape is %s and %s; state "
                       "%s=%s@%s or @%s",
                       t->name, shape,
                       both ? "the vectors go with both ways" : "the vectors go with none",
                       option_of(role), t->name, ways[role][0], ways[role][1]);
}

/* The one of two orientations that goes with the lengths of its dimensions, 0: not known. */
static enum sae_status orient(struct sae_file *b, enum sae_role role, uint64_t first,
                              uint64_t second, struct sae_err *err)
{
    const char *const *two = ways[role];
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

    if (bound->n == 0 || orientation_of(SAE_ROLE_SKIP, field->value.key, &n) ||
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
    size_t i = b->layout->tied_key ? sae_file_find(b, b->layout->tied_key) : NONE;
    const struct sae_tensor *t, *enc = sae_load_tensor(b->ts, b->bound[SAE_ROLE_ENCODER].index[0]);

    if (i == NONE)
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

/* Is one stated, or in the file, or missed? */
static bool has_decoder(const struct sae_file *b)
{
    const struct sae_layout_key *key = row_key(b, SAE_ROLE_DECODER);

    return b->stated->key[SAE_ROLE_DECODER] ||
           (key && !b->leaves_decoder &&
            (key->need == SAE_KEY_REQUIRED || sae_file_find(b, key->name) != NONE));
}

enum sae_status sae_file_bind(struct sae_file *b, struct sae_err *err)
{
    enum sae_status st;

    sae_reading_fill(&b->reading, &b->formula);
    b->formula.encodes_only = b->stated->encodes_only || !has_decoder(b);
    st = bind_all(b, err);
    if (st == SAE_OK)
        st = take_dims(b, err);
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
