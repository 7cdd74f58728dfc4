/* bind.c - which tensor of the file plays which role under the reading.
 *
 * A key is a row's or a stated one; what it may be called, what a file lacks, and what is stated
 * and plays no role are said here. How the tensors lie is for shapes.c. Called by file.c; no state.
 * See file.h. */
#include "lib/dict/file.h"

#include "lib/dict/text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NONE SIZE_MAX

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

static const struct sae_entry *tensor_in(const struct sae_file *b, size_t group, size_t prefix,
                                         const char *key)
{
    const struct sae_group *g = sae_load_group(b->ts, group);

    for (size_t i = 0; i < g->n; i++)
        if (g->entries[i].kind == SAE_ENTRY_TENSOR && strcmp(g->entries[i].name + prefix, key) == 0)
            return &g->entries[i];
    return NULL;
}

bool sae_file_number(const struct sae_file *b, const char *key, float *out)
{
    const size_t beside = b->stated->prefix ? b->choice.group - 1 : 0;
    const struct sae_entry *e = tensor_in(b, b->choice.group, b->choice.prefix, key);

    if (!e)
        e = tensor_in(b, beside, 0, key);
    if (!e || !e->has_number)
        return false;
    *out = (float)e->number;
    return true;
}

/* ---- keys to tensors ---------------------------------------------------------------------- */

const char *sae_role_option(enum sae_role role)
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
                               "%s is %.*s, and the file has no tensor \"%.*s\"",
                               sae_role_option(role), n < 80 ? (int)n : 80, text,
                               len < 80 ? (int)len : 80, text + at);
        if (out->n == SAE_MAX_SUM)
            return sae_err_set(err, SAE_E_FORMAT, "", "%s=%.*s adds up more than %d tensors",
                               sae_role_option(role), n < 80 ? (int)n : 80, text, SAE_MAX_SUM);
        out->index[out->n++] = i;
    }
    return SAE_OK;
}

const char *const sae_role_ways[SAE_N_ROLES][2] = {
    [SAE_ROLE_ENCODER] = {"F,d", "d,F"},
    [SAE_ROLE_DECODER] = {"F,m", "m,F"},
    [SAE_ROLE_SKIP] = {"m,d", "d,m"},
};

const char *sae_role_way(enum sae_role role, const char *text, size_t *n)
{
    const char *at = strrchr(text, '@');

    *n = strlen(text);
    for (size_t i = 0; at && i < 2; i++)
        if (strcmp(at + 1, sae_role_ways[role][i]) == 0) {
            *n = (size_t)(at - text);
            return sae_role_ways[role][i];
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
    return sae_role_ways[role][0] != NULL;
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

/* Is the encoder stated, and another matrix than the one that the row's own bias belongs to? */
static bool is_other_matrix(const struct sae_file *b)
{
    const struct sae_layout_key *own = key_of(b, SAE_ROLE_ENCODER);

    return b->layout->is_any_tensor && b->stated->key[SAE_ROLE_ENCODER] &&
           (!own || sae_file_find(b, own->name) != b->bound[SAE_ROLE_ENCODER].index[0]);
}

/* The roles that are stated by key, or that the row has a key of. */
static enum sae_status bind_role(struct sae_file *b, enum sae_role role, struct sae_err *err)
{
    const struct sae_layout_key *key =
        role == SAE_ROLE_ENC_BIAS && is_other_matrix(b) ? NULL : row_key(b, role);
    struct sae_bound *bound = &b->bound[role];
    const char *text = b->stated->key[role];
    size_t n = text ? strlen(text) : 0, i = NONE;
    enum sae_status st;

    if (text) {
        if (is_matrix(role))
            bound->dims = sae_role_way(role, text, &n);
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
                       sae_role_option(role));
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
    bound->dims = sae_role_way(SAE_ROLE_SKIP, v->key, &n);
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
        (void)sae_role_way(SAE_ROLE_DECODER, text, &n);
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
        (void)sae_role_way(role, text, &n);
    st = bind_text(b, role, text, n, &idle, err);
    if (st == SAE_OK)
        sae_dict_add_note(&b->info, "%s=%.80s is not used under the stated reading",
                          sae_role_option(role), text);
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
    sae_reading_fill(&b->reading, &b->formula);
    b->formula.encodes_only = b->stated->encodes_only || !has_decoder(b);
    return bind_all(b, err);
}
