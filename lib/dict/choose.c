/* choose.c - see choose.h. A dict beside the rows: dict_keys.c. What is said where none fits:
 * no_class.c. */
#include "lib/dict/choose.h"

#include "lib/dict/dict_keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- look-alikes -------------------------------------------------------------------------- */

/* The group of what stands on the way to a stated prefix (load.h); SIZE_MAX: none is stated. */
static size_t way_of(const struct sae_statement *stated, const struct sae_choice *c)
{
    return stated->prefix ? c->group - 1 : SIZE_MAX;
}

/* By what it is known: of a whole name that stands on the way, its last part. */
static const char *known_name(const struct sae_entry *e, bool is_on_way)
{
    const char *dot = is_on_way ? strrchr(e->name, '.') : NULL;

    return dot ? dot + 1 : sae_keys_own_name(e);
}

/* A file of top-k features has a ReLU class's keys too, and its k beside them. */
static enum sae_status check_no_k(const struct sae_tensors *ts, const struct sae_statement *stated,
                                  const struct sae_choice *c, struct sae_err *err)
{
    bool is_open = c->layout->is_top_k_too && !stated->reading.field[SAE_FIELD_SELECT].is_set;
    bool are_dicts = sae_load_is_torch_save(ts); /* else other keys are another's */
    size_t way = way_of(stated, c), first = stated->prefix ? way : c->group;

    for (size_t g = are_dicts ? 0 : first; is_open && g < sae_load_n_groups(ts); g++) {
        const struct sae_group *group = sae_load_group(ts, g);

        for (size_t i = 0; i < group->n; i++) {
            const struct sae_entry *e = &group->entries[i];
            const char *name = known_name(e, g == way);

            if (sae_keys_is_k(e, name))
                return sae_err_set(
                    err, SAE_E_FORMAT, "",
                    "cannot choose between two readings: keys are %s's, and an integer "
                    "\"%s\" stands beside them%s%.60s%s: features may be the %s largest "
                    "alone; state k=N or k=none",
                    c->layout->name, e->name, group->name[0] ? " in \"" : "", group->name,
                    group->name[0] ? "\"" : "", name);
        }
    }
    return SAE_OK;
}

/* A number, or a tensor that is one, which scales or shifts what stands beside it. */
static bool is_number_of_maths(const struct sae_entry *e, const char *name)
{
    static const char *const names[] = {"norm_factor", SAE_LAYOUT_NO_KEY, "scale", "mean", "std"};
    bool number = e->has_number || (e->kind == SAE_ENTRY_TENSOR && e->ndim == 0);

    if (strcmp(name, SAE_LAYOUT_NO_KEY) == 0 && e->has_number && fabs(e->number - 1.0) <= 1e-5)
        return false;
    for (size_t i = 0; number && i < SAE_COUNTOF(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Is it one of the keys of a statement, which end in one of `ends`, or the text's? */
static bool is_named(const char *said, const char *key, const char *ends)
{
    size_t n = strlen(key);

    for (const char *at = said; at; at = strchr(at, '+') ? strchr(at, '+') + 1 : NULL)
        if (strncmp(at, key, n) == 0 && strchr(ends, at[n]))
            return true;
    return false;
}

/* Does a statement say what becomes of it? */
static bool is_said(const struct sae_statement *stated, const struct sae_entry *e)
{
    static const enum sae_field fields[] = {SAE_FIELD_CENTRE, SAE_FIELD_THRESHOLD, SAE_FIELD_SKIP};
    const struct sae_reading_field *field = stated->reading.field;

    if (e->ndim == 0 && field[SAE_FIELD_INPUT].is_set)
        return true;
    for (size_t i = 0; i < SAE_COUNTOF(fields); i++) {
        const char *said = field[fields[i]].value.key; /* "" where it is no key */

        if (said[0] && is_named(said, e->name, fields[i] == SAE_FIELD_SKIP ? "+@" : "+"))
            return true;
    }
    return false;
}

/* dictionary_learning's "ae", wherever it stands. */
static bool is_backup(const char *group, const char *name)
{
    const char *dot = strrchr(group, '.');

    return strcmp(dot ? dot + 1 : group, "ae") == 0 && strcmp(name, "norm_factor") == 0;
}

static enum sae_status part_of_maths(const struct sae_choice *c, const struct sae_entry *e,
                                     const char *state_dict, struct sae_err *err)
{
    const struct sae_layout_key *centre = sae_layout_key_of(c->layout, SAE_ROLE_CENTRE);
    char where[100] = "its tensors";

    if (state_dict[0])
        snprintf(where, sizeof where, "the state dict \"%.60s\"", state_dict);
    return sae_err_set(
        err, SAE_E_FORMAT, "",
        "cannot tell the formula: %s \"%.60s\" stands beside %s and may be part of it; "
        "state %s%s%s%.60s, or save the state dict alone",
        e->kind == SAE_ENTRY_TENSOR ? "a tensor" : "a number", e->name, where,
        e->ndim ? "centre=" : "input=scale:C or input=none", e->ndim && centre ? centre->name : "",
        e->ndim && centre ? "+" : "", e->ndim ? e->name : "");
}

/* What stands in group g, which is the chosen one or above it. Tensors of the chosen one are its
 * keys, but for numbers where the row knows none, and those beside a state dict that is no dict of
 * its own are another's. */
static enum sae_status check_beside(const struct sae_tensors *ts,
                                    const struct sae_statement *stated, const struct sae_choice *c,
                                    size_t g, struct sae_err *err)
{
    const struct sae_group *group = sae_load_group(ts, g), *chosen = sae_load_group(ts, c->group);
    bool is_own_dict = stated->prefix ? chosen->name[0] : c->group > 0; /* one is called "" */

    if (is_own_dict && g != c->group && group->other_values)
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "cannot tell the formula: a tensor under a key that is no text stands "
                           "beside the state dict \"%.60s\" and may be part of it; save the state "
                           "dict alone",
                           chosen->name);
    for (size_t i = 0; i < group->n; i++) {
        const struct sae_entry *e = &group->entries[i];
        const char *name = known_name(e, g == way_of(stated, c));
        bool is_tensor = e->kind == SAE_ENTRY_TENSOR;
        bool is_values = is_tensor && e->floating && e->ndim > 0 && is_own_dict;
        bool is_key = is_tensor && g == c->group && (e->ndim > 0 || !c->layout->is_any_tensor);

        if (is_key || !(is_values || is_number_of_maths(e, name)))
            continue;
        if (is_backup(chosen->name, name))
            return sae_err_set(
                err, SAE_E_FORMAT, "",
                "cannot use a training backup of dictionary_learning, which saed does not "
                "read yet: the biases of \"%.60s\" wait for \"norm_factor\" beside it; "
                "load the ae.pt that the training saved at its end",
                chosen->name);
        if (!is_said(stated, e))
            return part_of_maths(c, e, chosen->name, err);
    }
    return SAE_OK;
}

/* Of every dict on the way from the top to the chosen one, and in that. */
static enum sae_status check_all_beside(const struct sae_tensors *ts,
                                        const struct sae_statement *stated,
                                        const struct sae_choice *c, struct sae_err *err)
{
    size_t above = stated->prefix ? way_of(stated, c) : 0;
    enum sae_status st = above == c->group ? SAE_OK : check_beside(ts, stated, c, above, err);

    return st == SAE_OK ? check_beside(ts, stated, c, c->group, err) : st;
}

/* ---- custom ------------------------------------------------------------------------------- */

/* A key that someone states, with the prefix or without: of a tensor, or of anything. */
static bool has_stated(const struct sae_keys *k, const char *name, bool of_tensor)
{
    for (size_t i = 0; i < k->g->n; i++)
        if ((!of_tensor || k->g->entries[i].kind == SAE_ENTRY_TENSOR) &&
            (strcmp(k->g->entries[i].name, name) == 0 || strcmp(sae_keys_name(k, i), name) == 0))
            return true;
    return false;
}

/* Two dicts below the top, either of which may be meant. */
static enum sae_status which_dict(const struct sae_tensors *ts, size_t a, size_t b,
                                  const char *both_have, struct sae_err *err)
{
    const char *x = sae_load_group(ts, a)->name, *y = sae_load_group(ts, b)->name;

    return sae_err_set(err, SAE_E_FORMAT, "",
                       "cannot choose between the dicts \"%.60s\" and \"%.60s\": both have %s; "
                       "state prefix=%.60s. or prefix=%.60s.",
                       x, y, both_have, x, y);
}

/* The dict that has the key: the top, or the only one in it; none: *out has no layout. */
static enum sae_status find_stated(const struct sae_tensors *ts, const struct sae_statement *stated,
                                   struct sae_span span, const struct sae_layout *layout,
                                   const char *key, bool of_tensor, struct sae_choice *out,
                                   struct sae_err *err)
{
    *out = (struct sae_choice){.layout = NULL};
    for (size_t g = span.first; g < span.end && !(out->layout && out->group == span.first); g++) {
        struct sae_keys k = sae_keys_of(ts, stated, NULL, g);

        if (!has_stated(&k, key, of_tensor))
            continue;
        if (out->layout)
            return which_dict(ts, out->group, g, "the encoder's key", err);
        *out = (struct sae_choice){layout, g, k.prefix};
    }
    return SAE_OK;
}

/* By the encoder's key as it stands, then without an orientation behind it. One that is no tensor
 * is found last: reading it tells what it is. */
static enum sae_status choose_stated(const struct sae_tensors *ts,
                                     const struct sae_statement *stated, struct sae_span span,
                                     const struct sae_layout *layout, struct sae_choice *out,
                                     struct sae_err *err)
{
    const char *encoder = stated->key[SAE_ROLE_ENCODER];
    char bare[SAE_TENSOR_NAME_MAX + 4];
    enum sae_status st = SAE_OK;

    snprintf(bare, sizeof bare, "%s", encoder);
    bare[strrchr(bare, '@') ? (size_t)(strrchr(bare, '@') - bare) : strlen(bare)] = '\0';
    *out = (struct sae_choice){.layout = NULL};
    for (unsigned i = 0; st == SAE_OK && !out->layout && i < 4; i++)
        st = find_stated(ts, stated, span, layout, i % 2 ? bare : encoder, i < 2, out, err);
    if (st != SAE_OK || out->layout)
        return st;
    return sae_err_set(err, SAE_E_FORMAT, "",
                       "encoder=%.120s is stated, and the file has no such tensor", encoder);
}

/* A dict that has a class's keys for something else than tensors is not its weights. */
static bool has_tensors(const struct sae_group *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->entries[i].kind == SAE_ENTRY_TENSOR)
            return true;
    return false;
}

/* The one dict that has tensors. */
static enum sae_status choose_any(const struct sae_tensors *ts, const struct sae_statement *stated,
                                  struct sae_span span, const struct sae_layout *layout,
                                  struct sae_choice *out, struct sae_err *err)
{
    *out = (struct sae_choice){.layout = NULL};
    for (size_t g = span.first; g < span.end; g++) {
        struct sae_keys k = sae_keys_of(ts, stated, NULL, g);

        if (!has_tensors(k.g))
            continue;
        if (out->layout)
            return sae_err_set(err, SAE_E_FORMAT, "",
                               "several of its dicts have tensors; state encoder=KEY");
        *out = (struct sae_choice){layout, g, k.prefix};
    }
    return out->layout ? SAE_OK : sae_err_set(err, SAE_E_FORMAT, "", "the file holds no tensors");
}

/* ---- the choice --------------------------------------------------------------------------- */

static enum sae_status span_of(struct sae_tensors *ts, const struct sae_statement *stated,
                               struct sae_span *out, struct sae_err *err)
{
    enum sae_status st;

    *out = (struct sae_span){0, sae_load_n_groups(ts)};
    if (!stated->prefix)
        return SAE_OK;
    st = sae_load_narrow(ts, stated->prefix, &out->first, err);
    out->end = out->first + 1;
    return st;
}

static const struct sae_layout *class_of(const struct sae_keys *k)
{
    for (size_t i = 0; i < sae_n_layouts; i++)
        if (sae_keys_may_be(k, &sae_layouts[i]) && sae_keys_distance(k, &sae_layouts[i]) == 0)
            return &sae_layouts[i];
    return NULL;
}

/* The top of the span, or the only one below it, whose keys are a row's; none: *out has no layout.
 */
static enum sae_status choose_by_keys(const struct sae_tensors *ts,
                                      const struct sae_statement *stated, struct sae_span span,
                                      const char *format, struct sae_choice *out,
                                      struct sae_err *err)
{
    struct sae_choice c = {.layout = NULL};

    for (size_t g = span.first; g < span.end && !(c.layout && c.group == span.first); g++) {
        struct sae_keys k = sae_keys_of(ts, stated, format, g);
        const struct sae_layout *a = class_of(&k);
        enum sae_status st;

        if (!a || (g > 0 && !has_tensors(k.g)))
            continue;
        if (c.layout)
            return which_dict(ts, c.group, g, "a class's keys", err);
        st = sae_keys_check_crosscoder(&k, err);
        if (st != SAE_OK)
            return st;
        c = (struct sae_choice){a, g, k.prefix};
    }
    *out = c;
    return SAE_OK;
}

enum sae_status sae_dict_choose(struct sae_tensors *ts, const struct sae_statement *stated,
                                const char *format, struct sae_choice *out, struct sae_err *err)
{
    const struct sae_layout *row = format ? sae_layout_of_format(format) : NULL;
    struct sae_choice c = {.layout = NULL};
    struct sae_span span;
    enum sae_status st = span_of(ts, stated, &span, err);

    if (st != SAE_OK)
        return st;
    if (row && (row->is_stated || (row->is_any_tensor && stated->key[SAE_ROLE_ENCODER])))
        st = choose_stated(ts, stated, span, row, &c, err);
    else if (row && row->is_any_tensor)
        st = choose_any(ts, stated, span, row, &c, err);
    else
        st = choose_by_keys(ts, stated, span, format, &c, err);
    if (st == SAE_OK && !c.layout)
        st = sae_keys_no_class(ts, stated, span, format, err);
    if (st == SAE_OK)
        st = check_no_k(ts, stated, &c, err);
    if (st == SAE_OK && !c.layout->is_stated)
        st = check_all_beside(ts, stated, &c, err);
    if (st == SAE_OK)
        *out = c;
    return st;
}

const char *sae_dict_prefixed(const struct sae_tensors *ts, const struct sae_choice *c)
{
    const struct sae_group *g = sae_load_group(ts, c->group);

    for (size_t i = 0; i < g->n; i++)
        if (g->entries[i].kind == SAE_ENTRY_TENSOR)
            return g->entries[i].name;
    return "";
}
