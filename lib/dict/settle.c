/* settle.c - which reading is in force: the row's, what the files say before it, what is stated
 * before both. See file.h, reading.h.
 *
 * What neither files nor operator say and what has two plausible values is refused, with both
 * values and the option that decides. */
#include "lib/dict/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- k ------------------------------------------------------------------------------------ */

static void say_k(struct sae_file *b, int64_t k)
{
    struct sae_value v = {.choice = SAE_SELECT_TOP_K, .count = (uint64_t)k};

    sae_reading_set(&b->reading, SAE_FIELD_SELECT, &v, SAE_FROM_FILE);
}

/* The config that told the row may stand elsewhere than beside the file. */
static enum sae_status take_config_k(struct sae_file *b, struct sae_err *err)
{
    const char *under = b->layout->k_under;
    char path[64];
    bool found = false;
    int64_t k = 0;
    struct sae_err low = {0};
    enum sae_status st = SAE_OK;

    if (under) {
        snprintf(path, sizeof path, "%s.k", under);
        st = sae_facts_int(b->config, path, &k, &found, &low);
    }
    if (st != SAE_OK && (b->layout->is_top_k_too || sae_statement_says_selection(b->stated)))
        return SAE_OK; /* a doubt of the hints, which check_no_k looks at */
    if (st != SAE_OK)
        return sae_err_set(err, st, low.where, "%s%s", low.text,
                           b->layout->keeps_top_k ? "; state k=N" : "");
    if (found) {
        b->hints.k_file = sae_facts_name(b->config);
        b->hints.k_is_above = b->is_config_above;
        b->hints.k_under = under;
        b->hints.k_key = "k";
        b->hints.k = k;
    }
    return SAE_OK;
}

/* A k that plays no role under a threshold. */
static enum sae_status note_k(struct sae_file *b, struct sae_err *err)
{
    const struct sae_layout_key *key = sae_layout_key_of(b->layout, SAE_ROLE_TOP_K);
    size_t i = key ? sae_file_find(b, key->name) : SIZE_MAX;
    int64_t k = 0;
    enum sae_status st;

    if (i == SIZE_MAX || b->layout->keeps_top_k || !b->hints.k_file ||
        sae_load_tensor(b->ts, i)->ndim > 0)
        return SAE_OK;
    st = sae_load_integer(b->ts, i, &k, err);
    if (st == SAE_OK && k != b->hints.k)
        sae_dict_add_note(&b->info, "k is %lld in the file and %lld in %s; its threshold decides",
                          (long long)k, (long long)b->hints.k, b->hints.k_file);
    return st;
}

/* k of a row of top-k features: the file's, and no other in a config beside it, which would be a
 * checkpoint of a training that lowers k. */
static enum sae_status settle_k(struct sae_file *b, struct sae_err *err)
{
    const struct sae_layout_key *key = sae_layout_key_of(b->layout, SAE_ROLE_TOP_K);
    size_t i = key ? sae_file_find(b, key->name) : SIZE_MAX;
    const struct sae_hints *h = &b->hints;
    bool is_said = sae_statement_says_selection(b->stated);
    int64_t k = h->k;

    if (!key || !b->layout->keeps_top_k)
        return SAE_OK;
    if (i != SIZE_MAX) {
        enum sae_status st = sae_load_integer(b->ts, i, &k, err);

        if (st != SAE_OK)
            return st;
        if (k < 1)
            return sae_err_set(err, SAE_E_WEIGHTS, key->name, "\"%s\" is %lld, wanted 1 or more",
                               key->name, (long long)k);
    } else if (!h->k_file) {
        return is_said ? SAE_OK
                       : sae_err_set(err, SAE_E_FORMAT, key->name,
                                     "cannot tell how many features are kept: the file has no "
                                     "\"%s\", %s%s; state k=N",
                                     key->name, h->doubt[0] ? "and " : "nor has a config beside it",
                                     h->doubt);
    } else if (k < 1) {
        return sae_err_set(err, SAE_E_FORMAT, h->k_file, "\"%s\" of %s is %lld, wanted 1 or more",
                           h->k_key, h->k_file, (long long)k);
    }
    if (h->k_file && h->k != k && !is_said)
        return sae_err_set(err, SAE_E_FORMAT, h->k_file,
                           "cannot choose between two k: \"%s\" is %lld, and %s %s has "
                           "\"%s\": %lld%s%s%s; state k=N",
                           key->name, (long long)k, h->k_file, sae_hints_place(h->k_is_above),
                           h->k_key, (long long)h->k, h->k_under[0] ? " in \"" : "", h->k_under,
                           h->k_under[0] ? "\"" : "");
    say_k(b, k);
    return SAE_OK;
}

/* The same as choose.c's look at a k beside the keys, in the config beside the file: one that it
 * has, or may have. */
static enum sae_status check_no_k(const struct sae_file *b, struct sae_err *err)
{
    const struct sae_hints *h = &b->hints;

    if (!b->layout->is_top_k_too || b->stated->reading.field[SAE_FIELD_SELECT].is_set)
        return SAE_OK;
    if (h->k_file)
        return sae_err_set(err, SAE_E_FORMAT, h->k_file,
                           "cannot choose between two readings: keys are %s's, and %s %s has "
                           "\"%s\": %lld%s%s%s: features may be the %s largest alone; state "
                           "k=%lld or k=none",
                           b->layout->name, h->k_file, sae_hints_place(h->k_is_above), h->k_key,
                           (long long)h->k, h->k_under[0] ? " in \"" : "", h->k_under,
                           h->k_under[0] ? "\"" : "", h->k_key, (long long)h->k);
    if (h->doubt[0])
        return sae_err_set(err, SAE_E_FORMAT, "k",
                           "cannot choose between two readings: keys are %s's, and %s: features "
                           "may be the k largest alone; state k=N or k=none for ReLU",
                           b->layout->name, h->doubt);
    return SAE_OK;
}

/* ---- a threshold that is one number ------------------------------------------------------- */

/* One that is used, and was never set: -1 in files of a training that had not come so far. */
static enum sae_status unset_threshold(const struct sae_file *b, const char *key, bool is_there,
                                       struct sae_err *err)
{
    bool is_stated = b->stated->reading.field[SAE_FIELD_ACTIVATION].is_set ||
                     sae_statement_says_threshold(b->stated);

    return sae_err_set(err, SAE_E_FORMAT, key, "cannot use \"%s\": it %s; state %s", key,
                       is_there ? "is -1, never set" : "is not in the file",
                       is_stated ? "threshold=NUMBER"
                                 : "k=N for the k largest of each row, activation=relu for all "
                                   "above 0, or threshold=NUMBER");
}

/* A number that stands beside the tensors, where the class has a tensor. */
static bool has_plain_number(const struct sae_file *b, const char *key, float *out)
{
    const struct sae_group *g = sae_load_group(b->ts, b->choice.group);

    for (size_t i = 0; i < g->n; i++)
        if (g->entries[i].kind != SAE_ENTRY_TENSOR && g->entries[i].has_number &&
            strcmp(g->entries[i].name, key) == 0) {
            *out = (float)g->entries[i].number;
            return true;
        }
    return false;
}

/* Files of the k largest and of what lies above a threshold have the same keys. */
static enum sae_status check_threshold(const struct sae_file *b, struct sae_err *err)
{
    const struct sae_layout_key *key = sae_layout_key_of(b->layout, SAE_ROLE_THRESHOLD);
    const struct sae_value *v = &b->reading.field[SAE_FIELD_THRESHOLD].value;
    bool is_used = b->reading.field[SAE_FIELD_THRESHOLD].is_set && v->choice == SAE_THRESHOLD_KEY &&
                   key && strcmp(v->key, key->name) == 0;
    bool is_there = key && sae_file_find(b, key->name) != SIZE_MAX;
    float number = -1.0f; /* it was never set */

    if (!key || key->dims[0] != '\0')
        return SAE_OK;
    if (is_there && !sae_file_number(b, key->name, &number))
        return sae_err_set(err, SAE_E_WEIGHTS, key->name,
                           "\"%s\" is not one floating number of no dimension", key->name);
    if (!is_there)
        (void)has_plain_number(b, key->name, &number);
    if (is_used && (number == -1.0f || !is_there))
        return unset_threshold(b, key->name, is_there, err);
    if (!is_used && number != -1.0f && b->layout->keeps_top_k && !b->is_class_told &&
        !sae_statement_says_selection(b->stated))
        return sae_err_set(err, SAE_E_FORMAT, key->name,
                           "cannot choose between two readings: \"%s\" is %g: features may be "
                           "those above it and not the k largest; state k=N or "
                           "activation=threshold",
                           key->name, (double)number);
    return SAE_OK;
}

/* ---- a tensor that would multiply features --------------------------------------------------- */

/* A finetuned file multiplies f by it before the decoder; of ones it is nothing. */
static enum sae_status check_no_scaling(const struct sae_file *b, struct sae_err *err)
{
    static const char key[] = SAE_LAYOUT_NO_KEY;
    size_t i = sae_file_find(b, key);
    const struct sae_tensor *t = i == SIZE_MAX ? NULL : sae_load_tensor(b->ts, i);
    uint64_t n = t && t->ndim == 1 ? t->shape[0] : 0;
    enum sae_status st = SAE_OK;
    float lone, *v = &lone;

    if (!t || b->layout->is_stated || b->layout->is_any_tensor)
        return SAE_OK;
    if (t->ndim == 0 && sae_file_number(b, key, &lone))
        n = 1;
    else if (n < 1 || n > SAE_DICT_MAX_DIM)
        return sae_err_set(err, SAE_E_FORMAT, key, "\"%s\" is no vector", key);
    else if (!(v = sae_alloc((size_t)n, sizeof *v)))
        return sae_err_set(err, SAE_E_NOMEM, key, "cannot read %s: out of memory", key);
    else
        st = sae_load_read(b->ts, i, v, false, err);
    for (size_t j = 0; st == SAE_OK && j < n; j++)
        if (!(fabsf(v[j] - 1.0f) <= 1e-5f))
            st = sae_err_set(err, SAE_E_FORMAT, key,
                             "\"%s\" of feature %zu is %g, and saed multiplies by none; "
                             "format=custom would ignore it",
                             key, j, (double)v[j]);
    if (v != &lone)
        sae_free(v);
    return st;
}

/* ---- what is stated ----------------------------------------------------------------------- */

static void imply(struct sae_file *b, enum sae_field f, unsigned choice)
{
    struct sae_value v = {.choice = choice};

    sae_reading_set(&b->reading, f, &v, SAE_FROM_STATED);
}

/* What a statement takes with it (formats section 2). */
static void settle_implied(struct sae_file *b)
{
    const struct sae_reading_field *said = b->stated->reading.field;
    struct sae_reading *r = &b->reading;
    const struct sae_layout_key *key = sae_layout_key_of(b->layout, SAE_ROLE_THRESHOLD);
    bool says_threshold = sae_statement_says_threshold(b->stated);
    bool has_activation = r->field[SAE_FIELD_ACTIVATION].is_set;

    if (says_threshold && !said[SAE_FIELD_ACTIVATION].is_set && !sae_reading_wants_threshold(r))
        imply(b, SAE_FIELD_ACTIVATION, SAE_ACTIVATION_OF_THRESHOLD);
    else if (b->stated->has_k && !said[SAE_FIELD_ACTIVATION].is_set && !says_threshold &&
             (!has_activation || sae_reading_wants_threshold(r))) {
        imply(b, SAE_FIELD_ACTIVATION, SAE_ACTIVATION_OF_K);
        if (!has_activation)
            sae_dict_add_note(&b->info, "activation = relu is implied by k=");
    }
    if (!said[SAE_FIELD_SELECT].is_set &&
        (says_threshold || (said[SAE_FIELD_ACTIVATION].is_set && sae_reading_wants_threshold(r))) &&
        r->field[SAE_FIELD_SELECT].is_set)
        imply(b, SAE_FIELD_SELECT, SAE_SELECT_ALL);
    if (!sae_reading_wants_threshold(r) && !says_threshold && r->field[SAE_FIELD_THRESHOLD].is_set)
        imply(b, SAE_FIELD_THRESHOLD, SAE_THRESHOLD_NONE);
    if (sae_reading_wants_threshold(r) && !r->field[SAE_FIELD_THRESHOLD].is_set && key)
        sae_reading_say(r, SAE_FIELD_THRESHOLD, key->name, SAE_FROM_ROW);
}

/* A row was chosen by the names of its keys. Those that it requires are tensors: its settle looks
 * at them. What goes with the decoder is asked for where it is bound. */
static enum sae_status check_tensors(const struct sae_file *b, struct sae_err *err)
{
    for (unsigned k = 0; k < b->layout->n_keys; k++) {
        const struct sae_layout_key *key = &b->layout->keys[k];
        bool is_decoders = key->role == SAE_ROLE_DECODER || key->role == SAE_ROLE_DEC_BIAS;

        if (key->need == SAE_KEY_REQUIRED && key->dims[0] && !is_decoders &&
            sae_file_find(b, key->name) == SIZE_MAX)
            return sae_file_lacks(b, key, err);
    }
    return SAE_OK;
}

static bool is_altered(const struct sae_reading *before, const struct sae_reading *after)
{
    for (enum sae_field f = 0; f < SAE_N_FIELDS; f++)
        if (f != SAE_FIELD_KIND && !sae_reading_same(before, after, f))
            return true;
    return false;
}

enum sae_status sae_file_settle(struct sae_file *b, struct sae_err *err)
{
    struct sae_reading before;
    enum sae_status st;

    sae_layout_reading(b->layout, &b->reading);
    st = check_tensors(b, err);
    if (st == SAE_OK && b->layout->settle)
        st = b->layout->settle(b, err);
    if (st == SAE_OK)
        st = check_no_scaling(b, err);
    if (st == SAE_OK)
        st = take_config_k(b, err);
    if (st == SAE_OK)
        st = check_no_k(b, err);
    if (st == SAE_OK)
        st = settle_k(b, err);
    if (st == SAE_OK)
        st = note_k(b, err);
    if (st != SAE_OK)
        return st;
    before = b->reading;
    sae_reading_complete(&before);
    sae_reading_state(&b->reading, &b->stated->reading);
    settle_implied(b);
    st = check_threshold(b, err);
    if (st != SAE_OK)
        return st;
    sae_reading_complete(&b->reading);
    b->is_altered = is_altered(&before, &b->reading);
    st = sae_reading_check(&b->reading, err);
    /* The line alone did not show it: a matter of the file. */
    return st == SAE_E_USAGE ? SAE_E_FORMAT : st;
}
