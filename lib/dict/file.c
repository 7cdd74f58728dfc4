/* file.c - a dictionary's weights file, opened and described; values.c reads it then.
 *
 * The set of keys names the class (choose.c), or what is stated does; then the reading is settled
 * (settle.c), tensors bound (bind.c) and every dtype and shape checked (shapes.c). No memory is
 * taken for values. Every message names the file; `where` is the tensor. Called by draft.c;
 * no state. See dict/spec.h, dict/file.h. */
#include "lib/dict/file.h"

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

enum sae_status sae_file_pass_on(const char *path, const struct sae_err *low, enum sae_status st,
                                 struct sae_err *err)
{
    return cannot(path, st, low->where, err, "%s", low->text);
}

/* ---- which class ---- */

/* A path that is not there may be one with a misspelt option behind it. `file`: the weights, where
 * a folder was found to have them. */
static enum sae_status not_opened(const struct sae_file *b, const char *file,
                                  const struct sae_err *low, enum sae_status st,
                                  struct sae_err *err)
{
    struct sae_misspelt m = sae_statement_misspelt(b->path);

    if (st != SAE_E_IO || !m.word)
        return sae_file_pass_on(file, low, st, err);
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

static bool plays_a_role(const struct sae_file *b, size_t tensor)
{
    for (enum sae_role role = 0; role < SAE_N_ROLES; role++)
        for (unsigned k = 0; k < b->bound[role].n; k++)
            if (b->bound[role].index[k] == tensor)
                return true;
    return false;
}

/* Is it a tensor of the row that plays no role, by what is stated? */
static bool is_left(const struct sae_file *b, const struct sae_layout_key *key)
{
    bool is_read = key->need != SAE_KEY_IGNORED && !is_excused(b, key);
    size_t i = is_read ? sae_file_find(b, key->name) : SIZE_MAX;

    return i != SIZE_MAX && !plays_a_role(b, i);
}

/* Is it what is stated that leaves the tensor? A skip goes by its own field, all others by another
 * tensor in their place, by the activation, or by what is selected instead. */
static bool is_left_by_statement(const struct sae_file *b, const struct sae_layout_key *key)
{
    const struct sae_reading *r = &b->reading;

    if (key->role == SAE_ROLE_SKIP)
        return sae_reading_is_stated(r, SAE_FIELD_SKIP);
    return b->stated->key[key->role] || sae_reading_is_stated(r, SAE_FIELD_ACTIVATION) ||
           sae_reading_is_stated(r, SAE_FIELD_THRESHOLD) ||
           ((key->need == SAE_KEY_SPARE || key->role == SAE_ROLE_TOP_K) &&
            sae_reading_is_stated(r, SAE_FIELD_SELECT));
}

static enum sae_status refuse_left(const char *name, const char *leaves, struct sae_err *err)
{
    return sae_err_set(err, SAE_E_FORMAT, name,
                       "the file has \"%s\", which its formula does not use; state %s, or a "
                       "reading that uses it",
                       name, leaves);
}

/* An optional tensor of the row that nothing uses, so that the row may be the wrong one; or one
 * beside a matrix that was found by itself: a scaler's mean, perhaps. */
static enum sae_status check_left(const struct sae_file *b, struct sae_err *err)
{
    bool is_found = b->layout->is_any_tensor && !b->stated->key[SAE_ROLE_ENCODER];

    for (unsigned k = 0; k < b->layout->n_keys; k++)
        if (b->layout->keys[k].need != SAE_KEY_SPARE && is_left(b, &b->layout->keys[k]) &&
            !is_left_by_statement(b, &b->layout->keys[k]))
            return refuse_left(b->layout->keys[k].name, "format=custom", err);
    for (size_t i = 0; is_found && i < sae_load_count(b->ts); i++) {
        const struct sae_tensor *t = sae_load_tensor(b->ts, i);

        if (sae_dtype_is_floating(t->dtype) && t->ndim > 0 && !plays_a_role(b, i))
            return refuse_left(t->name, "encoder=KEY", err);
    }
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
    return st == SAE_OK ? st : sae_file_pass_on(b->path, &low, st, err);
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

enum sae_dtype sae_file_kept_as(const struct sae_file *b, enum sae_role role)
{
    const struct sae_bound *bound = &b->bound[role];
    enum sae_dtype dtype = SAE_DTYPE_F32;

    if (bound->n == 1 && !bound->is_number)
        dtype = sae_load_tensor(b->ts, bound->index[0])->dtype;
    return dtype == SAE_DTYPE_F16 || dtype == SAE_DTYPE_BF16 ? dtype : SAE_DTYPE_F32;
}

bool sae_file_is_tied(const struct sae_file *b)
{
    const struct sae_bound *dec = &b->bound[SAE_ROLE_DECODER];

    return b->layout->tied_key && dec->n == 1 &&
           dec->index[0] == sae_file_find(b, b->layout->tied_key);
}

static void choose_storage(struct sae_file *b)
{
    b->kept = (struct sae_storage){sae_file_kept_as(b, SAE_ROLE_ENCODER),
                                   sae_file_kept_as(b, SAE_ROLE_DECODER),
                                   sae_file_is_tied(b) && !b->formula.encodes_only};
    if (b->stated->widens)
        b->kept.enc = b->kept.dec = SAE_DTYPE_F32;
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

/* ---- the two steps ---- */

enum sae_status sae_file_open(struct sae_file **out, const struct sae_statement *stated,
                              struct sae_dict_info *info, struct sae_err *err)
{
    struct sae_file *b = sae_calloc(1, sizeof *b);
    struct sae_err low = {0};
    const char *file = stated->path;
    enum sae_status st;

    if (!b)
        return cannot(stated->path, SAE_E_NOMEM, "", err, "cannot allocate its description");
    b->path = stated->path;
    b->stated = stated;
    st = sae_file_locate(b, &low);
    if (st == SAE_OK) {
        file = b->weights;
        st = sae_load_open(&b->ts, file, &low);
    }
    st = st == SAE_OK ? name_class(b, err) : not_opened(b, file, &low, st, err);
    if (st == SAE_OK) {
        describe(b);
        st = sae_file_show(b, &low);
        st = st == SAE_OK ? st : sae_file_pass_on(b->path, &low, st, err);
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
