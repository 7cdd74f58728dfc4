/* choose.c - see choose.h. */
#include "lib/dict/choose.h"

#include "lib/dict/file.h"
#include "lib/dict/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_KEYS 10 /* of a list in a message */

/* What wrappers put before every key: torch.compile, DataParallel, a module that holds the SAE. */
static const char *const prefixes[] = {"_orig_mod.", "module.", "sae."};

static enum sae_status SAE_PRINTF(2, 3) refuse(struct sae_err *err, const char *fmt, ...)
{
    char text[sizeof err->text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return sae_err_set(err, SAE_E_FORMAT, "", "%s", text);
}

/* ---- keys and classes --------------------------------------------------------------------- */

/* Of all tensors; at least `at` bytes long are they by then. */
static bool all_begin(const struct sae_group *g, size_t at, const char *prefix)
{
    bool some = false;

    for (size_t i = 0; i < g->n; i++) {
        if (g->entries[i].kind != SAE_ENTRY_TENSOR)
            continue;
        if (strncmp(g->entries[i].name + at, prefix, strlen(prefix)) != 0)
            return false;
        some = true;
    }
    return some;
}

/* Bytes of the prefixes that all tensors' names have, in whatever order they stand. */
static size_t common_prefix(const struct sae_group *g)
{
    size_t at = 0;

    for (size_t p = 0; p < SAE_COUNTOF(prefixes);)
        if (all_begin(g, at, prefixes[p])) {
            at += strlen(prefixes[p]);
            p = 0;
        } else {
            p++;
        }
    return at;
}

/* The groups that are looked at: all, or the one of a stated prefix. */
struct span {
    size_t first, end;
};

static enum sae_status span_of(struct sae_tensors *ts, const struct sae_statement *stated,
                               struct span *out, struct sae_err *err)
{
    enum sae_status st;

    *out = (struct span){0, sae_load_n_groups(ts)};
    if (!stated->prefix)
        return SAE_OK;
    st = sae_load_narrow(ts, stated->prefix, &out->first, err);
    out->end = out->first + 1;
    return st;
}

/* A group seen without its prefix. */
struct keys {
    const struct sae_group *g;
    size_t prefix;
    const char *format; /* NULL: none is told */
    bool is_torch_save;
    bool encodes_only; /* no decoder is wanted */
};

/* What is no tensor need not have the prefix. */
static const char *name_of(const struct keys *k, size_t i)
{
    const char *name = k->g->entries[i].name;

    return k->g->entries[i].kind == SAE_ENTRY_TENSOR ? name + k->prefix : name;
}

/* What an entry is called behind the prefixes that it has, whatever the others have. */
static const char *own_name(const struct sae_entry *e)
{
    const char *name = e->name;

    for (size_t p = 0; p < SAE_COUNTOF(prefixes);)
        if (strncmp(name, prefixes[p], strlen(prefixes[p])) == 0) {
            name += strlen(prefixes[p]);
            p = 0;
        } else {
            p++;
        }
    return name;
}

/* Is the row one that these keys may be of? */
static bool is_tried(const struct keys *k, const struct sae_layout *a)
{
    if (a->n_keys == 0)
        return false;
    if (k->format)
        return strcmp(a->format, k->format) == 0;
    return !a->is_told && (!a->in_torch_save || k->is_torch_save);
}

static struct keys keys_of(const struct sae_tensors *ts, const struct sae_statement *stated,
                           const char *format, size_t g)
{
    const struct sae_group *group = sae_load_group(ts, g);

    return (struct keys){group, common_prefix(group), format, sae_load_is_torch_save(ts),
                         stated->encodes_only};
}

/* A key of row a. */
static bool has_key(const struct keys *k, const struct sae_layout *a, const char *name)
{
    for (size_t i = 0; i < k->g->n; i++)
        if (sae_layout_is_key(a, name, name_of(k, i)))
            return true;
    return false;
}

/* A key that someone states: with the prefix or without. */
static bool has_stated(const struct keys *k, const struct sae_layout *a, const char *name)
{
    const struct keys whole = {.g = k->g};

    return has_key(k, a, name) || has_key(&whole, a, name);
}

static bool is_key(const struct sae_layout *a, const char *name)
{
    for (unsigned i = 0; i < a->n_keys; i++)
        if (sae_layout_is_key(a, a->keys[i].name, name))
            return true;
    return false;
}

static unsigned n_found(const struct keys *k, const struct sae_layout *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < a->n_keys; i++)
        n += has_key(k, a, a->keys[i].name);
    return n;
}

static bool is_missing(const struct keys *k, const struct sae_layout *a, unsigned i)
{
    enum sae_role role = a->keys[i].role;
    bool is_wanted = !k->encodes_only || (role != SAE_ROLE_DECODER && role != SAE_ROLE_DEC_BIAS);

    return is_wanted && a->keys[i].need == SAE_KEY_REQUIRED && !has_key(k, a, a->keys[i].name);
}

static unsigned n_missing(const struct keys *k, const struct sae_layout *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < a->n_keys; i++)
        n += is_missing(k, a, i);
    return n;
}

static bool is_k(const struct sae_entry *e, const char *name)
{
    bool integer =
        e->kind == SAE_ENTRY_INT || (e->kind == SAE_ENTRY_TENSOR && e->integer && e->ndim == 0);

    return integer && (strcmp(name, "k") == 0 || strcmp(name, "top_k") == 0);
}

/* A tensor that is none of the row's keys. A k is no tensor of ReLU classes, but a question. */
static bool is_surplus(const struct keys *k, const struct sae_layout *a, size_t i)
{
    const struct sae_entry *e = &k->g->entries[i];
    const char *name = name_of(k, i);

    return e->kind == SAE_ENTRY_TENSOR && !(a && is_key(a, name)) &&
           strcmp(name, SAE_LAYOUT_NO_KEY) != 0 && !(a && a->is_top_k_too && is_k(e, own_name(e)));
}

static size_t n_surplus(const struct keys *k, const struct sae_layout *a)
{
    size_t n = k->g->other_keys;

    for (size_t i = 0; i < k->g->n; i++)
        n += is_surplus(k, a, i);
    return n;
}

/* Keys missing and too many: 0 for the class itself. A key that stands twice counts once here, and
 * is refused by sae_load_choose. */
static size_t distance(const struct keys *k, const struct sae_layout *a)
{
    return n_missing(k, a) + n_surplus(k, a);
}

static const struct sae_layout *class_of(const struct keys *k)
{
    for (size_t i = 0; i < sae_n_layouts; i++)
        if (is_tried(k, &sae_layouts[i]) && distance(k, &sae_layouts[i]) == 0)
            return &sae_layouts[i];
    return NULL;
}

/* A dict that has a class's keys for something else than tensors is not its weights. */
static bool has_tensors(const struct sae_group *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->entries[i].kind == SAE_ENTRY_TENSOR)
            return true;
    return false;
}

/* ---- no class: what was found ------------------------------------------------------------- */

static void add_missing(struct sae_text *l, const struct keys *k, const struct sae_layout *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < a->n_keys; i++)
        if (is_missing(k, a, i))
            sae_text_add(l, "%s\"%s\"", n++ ? ", " : "", a->keys[i].name);
    sae_text_add(l, n == 1 ? " is missing" : " are missing");
}

/* "W_enc" [5, 7], as long as there is room for it and for how many more there are. */
static bool add_key(struct sae_text *l, const struct keys *k, size_t i, const char *before)
{
    const struct sae_entry *e = &k->g->entries[i];
    char shape[64] = "", item[140];

    if (e->kind == SAE_ENTRY_TENSOR)
        sae_shape_text(shape, e->shape, e->ndim);
    snprintf(item, sizeof item, "%s\"%.60s\"%s%s", before, name_of(k, i), shape[0] ? " " : "",
             shape);
    if (l->len + strlen(item) + 40 > sizeof l->text)
        return false;
    sae_text_add(l, "%s", item);
    return true;
}

/* Tensors that are none of a's keys: the first few. a NULL: all entries. */
static void add_surplus(struct sae_text *l, const struct keys *k, const struct sae_layout *a)
{
    size_t total = 0, shown = 0;

    for (size_t i = 0; i < k->g->n; i++) {
        if (a && !is_surplus(k, a, i))
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
static void add_difference(struct sae_text *l, const struct keys *k, const struct sae_layout *a)
{
    bool some_missing = n_missing(k, a) > 0;

    sae_text_add(l, "keys are %s's but ", a->name);
    if (some_missing)
        add_missing(l, k, a);
    if (n_surplus(k, a) > 0) {
        sae_text_add(l, some_missing ? ", and these are unexpected: " : "these are unexpected: ");
        add_surplus(l, k, a);
        sae_text_add(l, ", which format=custom would ignore");
    }
}

/* Rows that the file's name or a config would have told, by their keys. */
static void add_untold(struct sae_text *l, const struct keys *k)
{
    for (size_t i = 0; i < sae_n_layouts; i++) {
        const struct sae_layout *a = &sae_layouts[i];
        struct keys told = *k;
        bool is_first = sae_layout_of_format(a->format) == a;

        told.format = a->format;
        if (a->is_told && is_first && !a->is_any_tensor && a->n_keys && distance(&told, a) == 0)
            sae_text_add(l, "%sformat=%s", l->len ? " or " : "", a->format);
    }
}

/* The distance of the nearest class, SIZE_MAX when none is near: one is when the dict has more of
 * its keys than it lacks, counting surplus ones. */
static size_t nearest(const struct keys *k)
{
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < sae_n_layouts; i++) {
        size_t dist = distance(k, &sae_layouts[i]);

        if (is_tried(k, &sae_layouts[i]) && dist < best && dist <= n_found(k, &sae_layouts[i]))
            best = dist;
    }
    return best;
}

static void add_nearest(struct sae_text *l, const struct keys *k)
{
    size_t best = nearest(k), n = 0;

    if (k->g->name[0])
        sae_text_add(l, "in the dict \"%.60s\" ", k->g->name);
    for (size_t i = 0; i < sae_n_layouts; i++)
        if (is_tried(k, &sae_layouts[i]) && distance(k, &sae_layouts[i]) == best) {
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

static enum sae_status check_strangers(const struct keys *k, struct sae_err *err)
{
    for (size_t s = 0; s < SAE_COUNTOF(strangers); s++)
        for (size_t i = 0; i < k->g->n; i++)
            if (is_stranger(name_of(k, i), strangers[s].key))
                return refuse(err,
                              "cannot use its keys: \"%.60s\" is of %s, which saed does not read%s",
                              name_of(k, i), strangers[s].what, strangers[s].is_next ? " yet" : "");
    return SAE_OK;
}

/* An encoder for each of several layers or models. */
static enum sae_status check_crosscoder(const struct keys *k, struct sae_err *err)
{
    static const char *const encoders[] = {"encoder.weight", "W_enc", "w_enc"};

    for (size_t i = 0; i < k->g->n; i++)
        for (size_t e = 0; e < SAE_COUNTOF(encoders); e++)
            if (k->g->entries[i].ndim == 3 && strcmp(name_of(k, i), encoders[e]) == 0)
                return refuse(
                    err,
                    "cannot use a crosscoder: \"%s\" has three dimensions; concatenate the "
                    "layers and state format=custom",
                    encoders[e]);
    return SAE_OK;
}

static enum sae_status no_config(const struct keys *k, const char *formats, struct sae_err *err)
{
    struct sae_text l = {.len = 0};

    add_surplus(&l, k, NULL);
    return refuse(err,
                  "cannot name the class: neither a config nor the file's name says it; its keys "
                  "go with %s, and are %s",
                  formats, l.text);
}

/* All that is wrong with none of its dicts having a row's keys. */
static enum sae_status no_class(const struct sae_tensors *ts, const struct sae_statement *stated,
                                struct span span, const char *format, struct sae_err *err)
{
    struct sae_text l = {.len = 0};
    size_t best = SIZE_MAX, at = 0;
    struct keys top = keys_of(ts, stated, format, span.first);

    for (size_t g = span.first; g < span.end; g++) {
        struct keys k = keys_of(ts, stated, format, g);
        enum sae_status st = check_crosscoder(&k, err);

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
        struct keys k = keys_of(ts, stated, format, g);

        if (nearest(&k) < best) {
            best = nearest(&k);
            at = g;
        }
    }
    if (best < SIZE_MAX) {
        struct keys k = keys_of(ts, stated, format, at);

        add_nearest(&l, &k);
        return refuse(err, "cannot name the class: %s", l.text);
    }
    if (top.g->n == 0 && !top.g->other_keys)
        return refuse(err, "cannot name the class: the file holds no tensors");
    sae_text_add(&l, "no class has its %zu keys: ", top.g->n);
    add_surplus(&l, &top, NULL);
    for (size_t g = span.first + 1; g < span.end && g <= SHOWN_KEYS; g++)
        sae_text_add(&l, "%s\"%.40s\"", g > 1 ? ", " : ", nor has any of the dicts in it: ",
                     sae_load_group(ts, g)->name);
    return refuse(err, "cannot name the class: %s%s", l.text,
                  is_state_dict(top.g) ? "" : "; save module.state_dict()");
}

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

    return dot ? dot + 1 : own_name(e);
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

            if (is_k(e, name))
                return refuse(err,
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

/* Does a statement say what becomes of it? */
static bool is_said(const struct sae_statement *stated, const struct sae_entry *e)
{
    const struct sae_reading_field *field = stated->reading.field;
    const char *centre = field[SAE_FIELD_CENTRE].is_set ? field[SAE_FIELD_CENTRE].value.key : "";
    size_t n = strlen(e->name);

    if (e->ndim == 0)
        return field[SAE_FIELD_INPUT].is_set;
    for (const char *at = centre; (at = strstr(at, e->name)); at++)
        if ((at == centre || at[-1] == '+') && (at[n] == '\0' || at[n] == '+'))
            return true;
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
    return refuse(err,
                  "cannot tell the formula: %s \"%.60s\" stands beside %s and may be part of it; "
                  "state %s%s%s%.60s, or save the state dict alone",
                  e->kind == SAE_ENTRY_TENSOR ? "a tensor" : "a number", e->name, where,
                  e->ndim ? "centre=" : "input=scale:C or input=none",
                  e->ndim && centre ? centre->name : "", e->ndim && centre ? "+" : "",
                  e->ndim ? e->name : "");
}

/* What stands in group g, which is the chosen one or above it. Tensors of the chosen one are its
 * keys, and those beside a state dict that is no dict of its own are another's. */
static enum sae_status check_beside(const struct sae_tensors *ts,
                                    const struct sae_statement *stated, const struct sae_choice *c,
                                    size_t g, struct sae_err *err)
{
    const struct sae_group *group = sae_load_group(ts, g), *chosen = sae_load_group(ts, c->group);

    for (size_t i = 0; i < group->n; i++) {
        const struct sae_entry *e = &group->entries[i];
        const char *name = known_name(e, g == way_of(stated, c));
        bool is_tensor = e->kind == SAE_ENTRY_TENSOR;
        bool is_values = is_tensor && e->floating && e->ndim > 0 && chosen->name[0];

        if ((is_tensor && g == c->group) || !(is_values || is_number_of_maths(e, name)))
            continue;
        if (is_backup(chosen->name, name))
            return refuse(
                err,
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

/* The dict that has the encoder's key: the top before those in it. */
static enum sae_status choose_stated(const struct sae_tensors *ts,
                                     const struct sae_statement *stated, struct span span,
                                     const struct sae_layout *layout, struct sae_choice *out,
                                     struct sae_err *err)
{
    const char *encoder = stated->key[SAE_ROLE_ENCODER];
    char key[SAE_TENSOR_NAME_MAX + 4];

    snprintf(key, sizeof key, "%s", encoder);
    for (int at = 0; at < 2; at++) { /* as it stands, then without an orientation behind it */
        for (size_t g = span.first; g < span.end; g++) {
            struct keys k = keys_of(ts, stated, NULL, g);

            if (has_stated(&k, layout, key)) {
                *out = (struct sae_choice){layout, g, k.prefix};
                return SAE_OK;
            }
        }
        if (strrchr(key, '@'))
            *strrchr(key, '@') = '\0';
    }
    return refuse(err, "encoder=%.120s is stated, and the file has no such tensor", encoder);
}

/* The one dict that has tensors. */
static enum sae_status choose_any(const struct sae_tensors *ts, const struct sae_statement *stated,
                                  struct span span, const struct sae_layout *layout,
                                  struct sae_choice *out, struct sae_err *err)
{
    *out = (struct sae_choice){.layout = NULL};
    for (size_t g = span.first; g < span.end; g++) {
        struct keys k = keys_of(ts, stated, NULL, g);

        if (!has_tensors(k.g))
            continue;
        if (out->layout)
            return refuse(err, "several of its dicts have tensors; state encoder=KEY");
        *out = (struct sae_choice){layout, g, k.prefix};
    }
    return out->layout ? SAE_OK : refuse(err, "the file holds no tensors");
}

/* ---- the choice --------------------------------------------------------------------------- */

/* The top of the span, or the only one below it, whose keys are a row's; none: *out has no layout.
 */
static enum sae_status choose_by_keys(const struct sae_tensors *ts,
                                      const struct sae_statement *stated, struct span span,
                                      const char *format, struct sae_choice *out,
                                      struct sae_err *err)
{
    struct sae_choice c = {.layout = NULL};

    for (size_t g = span.first; g < span.end && !(c.layout && c.group == span.first); g++) {
        struct keys k = keys_of(ts, stated, format, g);
        const struct sae_layout *a = class_of(&k);
        enum sae_status st;

        if (!a || (g > 0 && !has_tensors(k.g)))
            continue;
        if (c.layout)
            return refuse(err,
                          "cannot choose between the dicts \"%.60s\" and \"%.60s\": both have a "
                          "class's keys; state prefix=%.60s. or prefix=%.60s.",
                          sae_load_group(ts, c.group)->name, k.g->name,
                          sae_load_group(ts, c.group)->name, k.g->name);
        st = check_crosscoder(&k, err);
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
    struct span span;
    enum sae_status st = span_of(ts, stated, &span, err);

    if (st != SAE_OK)
        return st;
    if (row && (row->is_stated || (row->is_any_tensor && stated->key[SAE_ROLE_ENCODER])))
        return choose_stated(ts, stated, span, row, out, err);
    if (row && row->is_any_tensor)
        return choose_any(ts, stated, span, row, out, err);
    st = choose_by_keys(ts, stated, span, format, &c, err);
    if (st == SAE_OK && !c.layout)
        st = no_class(ts, stated, span, format, err);
    if (st == SAE_OK)
        st = check_no_k(ts, stated, &c, err);
    if (st == SAE_OK)
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
