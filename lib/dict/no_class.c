/* no_class.c - what is said of a file none of whose dicts has the keys of a row: which row is near,
 * what it is instead, what its owner can do. See dict_keys.h. */
#include "lib/dict/dict_keys.h"

#include "lib/dict/file.h"
#include "lib/dict/text.h"

#include <stdio.h>
#include <string.h>

#define SHOWN_KEYS 10 /* of a list in a message */

static void add_missing(struct sae_text *l, const struct sae_keys *k, const struct sae_layout *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < a->n_keys; i++)
        if (sae_keys_miss(k, a, i))
            sae_text_add(l, "%s\"%s\"", n++ ? ", " : "", a->keys[i].name);
    sae_text_add(l, n == 1 ? " is missing" : " are missing");
}

/* "W_enc" [5, 7], as long as there is room for it and for how many more there are. */
static bool add_key(struct sae_text *l, const struct sae_keys *k, size_t i, const char *before)
{
    const struct sae_entry *e = &k->g->entries[i];
    char shape[64] = "", item[140];

    if (e->kind == SAE_ENTRY_TENSOR)
        sae_shape_text(shape, e->shape, e->ndim);
    snprintf(item, sizeof item, "%s\"%.60s\"%s%s", before, sae_keys_name(k, i), shape[0] ? " " : "",
             shape);
    if (l->len + strlen(item) + 40 > sizeof l->text)
        return false;
    sae_text_add(l, "%s", item);
    return true;
}

/* Tensors that are none of a's keys: the first few. a NULL: all entries. */
static void add_surplus(struct sae_text *l, const struct sae_keys *k, const struct sae_layout *a)
{
    size_t total = 0, shown = 0;

    for (size_t i = 0; i < k->g->n; i++) {
        if (a && !sae_keys_is_surplus(k, a, i))
            continue;
        total++;
        if (shown == total - 1 && shown < SHOWN_KEYS)
            shown += add_key(l, k, i, shown ? ", " : "");
    }
    if (total > shown)
        sae_text_add(l, " and %zu more", total - shown);
    if (k->g->other_keys)
        sae_text_add(l, "%stensors under keys that are no strings", total ? " and " : "");
}

/* How the dict differs from class a, which it is near to. */
static void add_difference(struct sae_text *l, const struct sae_keys *k, const struct sae_layout *a)
{
    bool some_missing = sae_keys_n_missing(k, a) > 0;

    sae_text_add(l, "keys are %s's but ", a->name);
    if (some_missing)
        add_missing(l, k, a);
    if (sae_keys_n_surplus(k, a) > 0) {
        sae_text_add(l, some_missing ? ", and these are unexpected: " : "these are unexpected: ");
        add_surplus(l, k, a);
        sae_text_add(l, ", which format=custom would ignore");
    }
}

/* Rows that the file's name or a config would have told, by their keys. */
static void add_untold(struct sae_text *l, const struct sae_keys *k)
{
    for (size_t i = 0; i < sae_n_layouts; i++) {
        const struct sae_layout *a = &sae_layouts[i];
        struct sae_keys told = *k;
        bool is_first = sae_layout_of_format(a->format) == a;

        told.format = a->format;
        if (a->is_told && is_first && !a->is_any_tensor && a->n_keys &&
            sae_keys_distance(&told, a) == 0)
            sae_text_add(l, "%sformat=%s", l->len ? " or " : "", a->format);
    }
}

/* The distance of the nearest class, SIZE_MAX when none is near: one is when the dict has more of
 * its keys than it lacks, counting surplus ones. */
static size_t nearest(const struct sae_keys *k)
{
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < sae_n_layouts; i++) {
        size_t dist = sae_keys_distance(k, &sae_layouts[i]);

        if (sae_keys_may_be(k, &sae_layouts[i]) && dist < best &&
            dist <= sae_keys_n_found(k, &sae_layouts[i]))
            best = dist;
    }
    return best;
}

static void add_nearest(struct sae_text *l, const struct sae_keys *k)
{
    size_t best = nearest(k), n = 0;

    if (k->g->name[0])
        sae_text_add(l, "in the dict \"%.60s\" ", k->g->name);
    for (size_t i = 0; i < sae_n_layouts; i++)
        if (sae_keys_may_be(k, &sae_layouts[i]) && sae_keys_distance(k, &sae_layouts[i]) == best) {
            if (n++)
                sae_text_add(l, "; or ");
            add_difference(l, k, &sae_layouts[i]);
        }
}

/* Nothing but tensors by name. */
static bool is_state_dict(const struct sae_group *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->entries[i].kind != SAE_ENTRY_TENSOR)
            return false;
    return !g->other_keys;
}

/* Keys that tell what a file is, of kinds whose features are no function of the row alone, or no
 * dictionary of directions. One that ends in '.' begins the key. */
static const struct {
    const char *key, *what;
    bool is_next; /* a format that will be read */
} strangers[] = {
    {"router.weight", "a Switch SAE", false},
    {"b_router", "a Switch SAE", false},
    {"enc_L", "a Kron SAE", false},
    {"W_Q", "a Lorsa", false},
    {"U_matrices.", "a MOLT", false},
    {"attn_layers.", "a temporal SAE", false},
    {"W_E_glu", "llamascopium with a gated encoder", true},
    {"W_E", "llamascopium", true},
    {"log_jumprelu_threshold", "lm_saes", true},
    {"activation_function.log_jumprelu_threshold", "lm_saes", true},
};

static bool is_stranger(const char *name, const char *key)
{
    size_t n = strlen(key);

    return key[n - 1] == '.' ? strncmp(name, key, n) == 0 : strcmp(name, key) == 0;
}

static enum sae_status check_strangers(const struct sae_keys *k, struct sae_err *err)
{
    for (size_t s = 0; s < SAE_COUNTOF(strangers); s++)
        for (size_t i = 0; i < k->g->n; i++)
            if (is_stranger(sae_keys_name(k, i), strangers[s].key))
                return sae_err_set(
                    err, SAE_E_FORMAT, "",
                    "cannot use its keys: \"%.60s\" is of %s, which saed does not read%s",
                    sae_keys_name(k, i), strangers[s].what, strangers[s].is_next ? " yet" : "");
    return SAE_OK;
}

/* An encoder for each of several layers or models. */
enum sae_status sae_keys_check_crosscoder(const struct sae_keys *k, struct sae_err *err)
{
    static const char *const encoders[] = {"encoder.weight", "W_enc", "w_enc"};

    for (size_t i = 0; i < k->g->n; i++)
        for (size_t e = 0; e < SAE_COUNTOF(encoders); e++)
            if (k->g->entries[i].ndim == 3 && strcmp(sae_keys_name(k, i), encoders[e]) == 0)
                return sae_err_set(
                    err, SAE_E_FORMAT, "",
                    "cannot use a crosscoder: \"%s\" has three dimensions; concatenate the "
                    "layers and state format=custom",
                    encoders[e]);
    return SAE_OK;
}

static enum sae_status no_config(const struct sae_keys *k, const char *formats, struct sae_err *err)
{
    struct sae_text l = {.len = 0};

    add_surplus(&l, k, NULL);
    return sae_err_set(
        err, SAE_E_FORMAT, "",
        "cannot name the class: neither a config nor the file's name says it; its keys "
        "go with %s, and are %s",
        formats, l.text);
}

/* All that is wrong with none of its dicts having a row's keys. */
enum sae_status sae_keys_no_class(const struct sae_tensors *ts, const struct sae_statement *stated,
                                  struct sae_span span, const char *format, struct sae_err *err)
{
    struct sae_text l = {.len = 0};
    size_t best = SIZE_MAX, at = 0;
    struct sae_keys top = sae_keys_of(ts, stated, format, span.first);

    for (size_t g = span.first; g < span.end; g++) {
        struct sae_keys k = sae_keys_of(ts, stated, format, g);
        enum sae_status st = sae_keys_check_crosscoder(&k, err);

        if (st == SAE_OK)
            st = check_strangers(&k, err);
        if (st != SAE_OK)
            return st;
        if (!format)
            add_untold(&l, &k);
        if (l.len > 0)
            return no_config(&k, l.text, err);
    }
    for (size_t g = span.first; g < span.end; g++) {
        struct sae_keys k = sae_keys_of(ts, stated, format, g);

        if (nearest(&k) < best) {
            best = nearest(&k);
            at = g;
        }
    }
    if (best < SIZE_MAX) {
        struct sae_keys k = sae_keys_of(ts, stated, format, at);

        add_nearest(&l, &k);
        return sae_err_set(err, SAE_E_FORMAT, "", "cannot name the class: %s", l.text);
    }
    if (top.g->n == 0 && !top.g->other_keys)
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "cannot name the class: the file holds no tensors");
    sae_text_add(&l, "no class has its %zu keys: ", top.g->n);
    add_surplus(&l, &top, NULL);
    for (size_t g = span.first + 1; g < span.end && g <= SHOWN_KEYS; g++)
        sae_text_add(&l, "%s\"%.40s\"", g > 1 ? ", " : ", nor has any of the dicts in it: ",
                     sae_load_group(ts, g)->name);
    return sae_err_set(err, SAE_E_FORMAT, "", "cannot name the class: %s%s", l.text,
                       is_state_dict(top.g) ? "" : "; save module.state_dict()");
}
