/* file.c - binds an open weights file to the layout that its keys name.
 *
 * Opening: the set of keys names the class (choose.c); then every dtype and shape is checked (d and
 * F are the encoder's, by its dims). Reading: only now is memory taken, and each tensor read once
 * into its place. Every message names the file; `where` is the tensor. See dict/spec.h. */
#include "lib/dict/spec.h"

#include "lib/dict/choose.h"
#include "lib/dict/text.h"
#include "lib/load/hints.h"

#include <string.h>

struct sae_file {
    const char *path;
    struct sae_tensors *ts;
    const struct sae_layout *layout;
    size_t index[SAE_LAYOUT_MAX_KEYS]; /* tensor of each key, or NOT_READ */
    const char *encoder;               /* its key: d and F are what it says they are */
    enum sae_dtype dtype;              /* the encoder's */
    uint64_t d, F, top_k;              /* top_k 0: the class has none */
    struct sae_choice choice;
    struct sae_hints hints;
};

#define NOT_READ SIZE_MAX /* an optional key that the file has not, or one that is ignored */

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

/* "[70, 33]" */
static void add_shape(struct sae_text *l, const uint64_t *shape, unsigned ndim)
{
    sae_text_add(l, "[");
    for (unsigned i = 0; i < ndim; i++)
        sae_text_add(l, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
    sae_text_add(l, "]");
}

/* ---- which class ---- */

static enum sae_status find_tensors(struct sae_file *b, struct sae_err *err)
{
    for (unsigned k = 0; k < b->layout->n_keys; k++) {
        const char *name = b->layout->keys[k].name;
        enum sae_need need = b->layout->keys[k].need;
        size_t i = 0, n = need == SAE_KEY_IGNORED ? 0 : sae_load_count(b->ts);

        while (i < n && strcmp(sae_load_tensor(b->ts, i)->name, name) != 0)
            i++;
        if (i == n && need != SAE_KEY_REQUIRED)
            i = NOT_READ;
        else if (i == n)
            return sae_err_set(err, SAE_E_INTERNAL, name, "cannot find %s, which was there", name);
        b->index[k] = i;
    }
    return SAE_OK;
}

/* The same as choose.c's look at a k beside the keys, in the config beside the file. */
static enum sae_status check_config(struct sae_file *b, struct sae_err *err)
{
    struct sae_hints *h = &b->hints;
    struct sae_err low = {0};
    enum sae_status st = b->layout->is_top_k_too ? sae_hints_read(h, b->path, &low) : SAE_OK;

    if (st != SAE_OK)
        return pass_on(b->path, &low, st, err);
    if (h->k_file)
        return cannot(b->path, SAE_E_FORMAT, h->k_file, err,
                      "cannot choose between two readings: keys are %s's, and %s beside it has "
                      "\"%s\": %lld%s%s%s: features may be the %s largest alone, which saed does "
                      "not read yet",
                      b->layout->name, h->k_file, h->k_key, (long long)h->k,
                      h->k_under[0] ? " in \"" : "", h->k_under, h->k_under[0] ? "\"" : "",
                      h->k_key);
    return SAE_OK;
}

static enum sae_status name_class(struct sae_file *b, struct sae_err *err)
{
    struct sae_err low = {0};
    enum sae_status st = sae_dict_choose(b->ts, &b->choice, &low);

    if (st == SAE_OK)
        st = sae_load_choose(b->ts, b->choice.group, b->choice.prefix, &low);
    if (st != SAE_OK)
        return pass_on(b->path, &low, st, err);
    b->layout = b->choice.layout;
    st = find_tensors(b, err);
    return st == SAE_OK ? check_config(b, err) : st;
}

/* What the file did not say by itself. */
static void add_notes(const struct sae_file *b, struct sae_dict_info *info)
{
    const struct sae_group *g = sae_load_group(b->ts, b->choice.group);

    if (b->choice.group != 0)
        sae_dict_add_note(info, "read from the entry \"%s\"", g->name);
    if (b->choice.prefix != 0)
        sae_dict_add_note(info, "the prefix \"%.*s\" was taken off every key",
                          (int)b->choice.prefix, g->entries[0].name);
    if (sae_load_note(b->ts))
        sae_dict_add_note(info, "%s", sae_load_note(b->ts));
    if (b->layout->note)
        sae_dict_add_note(info, "%s", b->layout->note);
    if (b->hints.unread[0])
        sae_dict_add_note(info, "%s", b->hints.unread);
}

/* ---- dtypes and shapes ---- */

/* d and F are what the encoder says they are, in the order of its dims. */
static enum sae_status take_dims(struct sae_file *b, struct sae_err *err)
{
    const struct sae_layout_key *key = sae_layout_key_of(b->layout, SAE_ROLE_ENCODER);
    const struct sae_tensor *t = sae_load_tensor(b->ts, b->index[key - b->layout->keys]);
    bool turned = sae_layout_is_turned(key);
    struct sae_text l = {.len = 0};

    add_shape(&l, t->shape, t->ndim);
    if (t->ndim != 2)
        return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                      "\"%s\" has shape %s, wanted two dimensions, %s", t->name, l.text,
                      turned ? "[activation_dim, dict_size]" : "[dict_size, activation_dim]");
    b->F = t->shape[turned];
    b->d = t->shape[!turned];
    if (b->F < 1 || b->d < 1 || b->F > SAE_DICT_MAX_DIM || b->d > SAE_DICT_MAX_DIM)
        return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                      "\"%s\" has shape %s, wanted dimensions from 1 to %d", t->name, l.text,
                      SAE_DICT_MAX_DIM);
    b->encoder = key->name;
    b->dtype = t->dtype;
    return SAE_OK;
}

static enum sae_status check_tensor(const struct sae_file *b, unsigned k, struct sae_err *err)
{
    const struct sae_layout_key *key = &b->layout->keys[k];
    const struct sae_tensor *t = sae_load_tensor(b->ts, b->index[k]);
    struct sae_text found = {.len = 0}, wanted = {.len = 0};
    uint64_t shape[2];
    unsigned ndim = sae_layout_shape(key, b->d, b->F, shape);
    bool same = t->ndim == ndim;

    if (!sae_dtype_is_floating(t->dtype))
        return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                      "\"%s\" has dtype %s, wanted float32, float16, bfloat16 or float64", t->name,
                      t->dtype_name);
    for (unsigned i = 0; same && i < ndim; i++)
        same = t->shape[i] == shape[i];
    if (same)
        return SAE_OK;
    add_shape(&found, t->shape, t->ndim);
    add_shape(&wanted, shape, ndim);
    return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                  "\"%s\" has shape %s, wanted [%s] = %s (%s, by %s)", t->name, found.text,
                  key->dims, wanted.text, b->layout->name, b->encoder);
}

/* ---- numbers ---- */

static const struct sae_entry *entry_of(const struct sae_file *b, const char *name)
{
    const struct sae_group *g = sae_load_group(b->ts, b->choice.group);
    size_t i = 0;

    while (i + 1 < g->n && strcmp(g->entries[i].name + b->choice.prefix, name) != 0)
        i++;
    return &g->entries[i];
}

/* k of the file, and no other in a config beside it: a checkpoint of a training that lowers k. */
static enum sae_status take_top_k(struct sae_file *b, unsigned key, struct sae_err *err)
{
    const char *name = b->layout->keys[key].name;
    struct sae_hints *h = &b->hints;
    struct sae_err low = {0};
    int64_t k = 0;
    enum sae_status st = sae_load_integer(b->ts, b->index[key], &k, &low);

    if (st == SAE_OK)
        st = sae_hints_read(h, b->path, &low);
    if (st != SAE_OK)
        return pass_on(b->path, &low, st, err);
    if (k < 1 || (uint64_t)k > b->F)
        return cannot(b->path, SAE_E_WEIGHTS, name, err,
                      "\"%s\" is %lld, wanted from 1 to dict_size, which is %llu by %s", name,
                      (long long)k, (unsigned long long)b->F, b->encoder);
    if (h->k_file && h->k != k)
        return cannot(b->path, SAE_E_FORMAT, h->k_file, err,
                      "cannot choose between two k: \"%s\" is %lld, and %s beside it has \"%s\": "
                      "%lld%s%s%s",
                      name, (long long)k, h->k_file, h->k_key, (long long)h->k,
                      h->k_under[0] ? " in \"" : "", h->k_under, h->k_under[0] ? "\"" : "");
    b->top_k = (uint64_t)k;
    return SAE_OK;
}

static enum sae_status check_unset(const struct sae_file *b, const char *name, struct sae_err *err)
{
    const struct sae_entry *e = entry_of(b, name);

    if (!e->has_number)
        return cannot(b->path, SAE_E_WEIGHTS, name, err,
                      "\"%s\" is not one floating number of no dimension", name);
    if (e->number != -1.0)
        return cannot(b->path, SAE_E_FORMAT, name, err,
                      "cannot choose between two readings: \"%s\" is %g: features may be those "
                      "above it and not the k largest, which saed does not read yet (-1 says that "
                      "it was never set)",
                      name, e->number);
    return SAE_OK;
}

static enum sae_status check_key(struct sae_file *b, unsigned k, struct sae_err *err)
{
    const struct sae_layout_key *key = &b->layout->keys[k];

    if (b->index[k] == NOT_READ)
        return SAE_OK;
    if (sae_layout_is_kept(key))
        return check_tensor(b, k, err);
    return key->role == SAE_ROLE_TOP_K ? take_top_k(b, k, err) : check_unset(b, key->name, err);
}

/* ---- values ---- */

static enum sae_status read_all(const struct sae_file *b, struct sae_dict *d, struct sae_err *err)
{
    for (unsigned k = 0; k < b->layout->n_keys; k++) {
        const struct sae_layout_key *key = &b->layout->keys[k];
        struct sae_err low = {0};
        enum sae_status st = SAE_OK;

        if (b->index[k] != NOT_READ && sae_layout_is_kept(key))
            st = sae_load_read(b->ts, b->index[k], sae_dict_array(d, key->role),
                               sae_layout_is_turned(key), &low);
        if (st != SAE_OK)
            return pass_on(b->path, &low, st, err);
    }
    return SAE_OK;
}

/* ---- the two steps ---- */

enum sae_status sae_file_open(struct sae_file **out, const char *path, struct sae_dict_info *info,
                              struct sae_err *err)
{
    struct sae_file *b = sae_calloc(1, sizeof *b);
    struct sae_err low = {0};
    struct sae_formula f;
    enum sae_status st;

    if (!b)
        return cannot(path, SAE_E_NOMEM, "", err, "cannot allocate its description");
    b->path = path;
    st = sae_load_open(&b->ts, path, &low);
    st = st == SAE_OK ? name_class(b, err) : pass_on(path, &low, st, err);
    if (st == SAE_OK)
        st = take_dims(b, err);
    for (unsigned k = 0; st == SAE_OK && k < b->layout->n_keys; k++)
        st = check_key(b, k, err);
    if (st != SAE_OK) {
        sae_file_close(b);
        return st;
    }
    f = sae_layout_formula(b->layout, (size_t)b->d, (size_t)b->F);
    sae_dict_describe(info, b->layout, &f);
    info->dtype = sae_dtype_name(b->dtype);
    add_notes(b, info);
    *out = b;
    return SAE_OK;
}

void sae_file_close(struct sae_file *b)
{
    if (b)
        sae_load_close(b->ts);
    sae_free(b);
}

uint64_t sae_file_stamp(const struct sae_file *b)
{
    return sae_load_stamp(b->ts);
}

enum sae_status sae_file_read(struct sae_dict **out, struct sae_file *b, struct sae_team *team,
                              struct sae_err *err)
{
    struct sae_dict *d = NULL;
    struct sae_err low = {0};
    enum sae_status st = sae_dict_create(&d, b->layout, b->d, b->F, &low);

    if (st != SAE_OK)
        return pass_on(b->path, &low, st, err);
    d->formula.top_k = b->top_k;
    st = read_all(b, d, err);
    if (st != SAE_OK)
        goto out;
    st = sae_dict_seal(d, sae_dtype_name(b->dtype), team, &low);
    if (st != SAE_OK) {
        pass_on(b->path, &low, st, err);
        goto out;
    }
    add_notes(b, &d->info);
    *out = d;
    d = NULL;
out:
    sae_dict_free(d);
    return st;
}
