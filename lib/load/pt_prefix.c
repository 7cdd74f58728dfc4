/* pt_prefix.c - see pt_prefix.h.
 *
 * The dicts are walked twice, to count and to fill. Dicts may be shared, and contain themselves:
 * what is looked at is counted, and depth is bounded. */
#include "lib/load/pt_prefix.h"

#include "lib/load/pt_groups.h"
#include "lib/load/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH 32u

#define BAD(err, ...) \
    sae_err_set(err, SAE_E_FORMAT, "data.pkl", "cannot read .pt file: " __VA_ARGS__)

struct walk {
    bool is_way; /* what stands on the way is wanted */
    const char *prefix;
    size_t n_prefix;
    char name[SAE_PT_MAX_NAME]; /* of what is looked at, joined */
    size_t n_seen;
    size_t n, n_text;            /* entries found, bytes of their names */
    struct sae_pt_prefixed *out; /* NULL: they are counted */
    struct sae_err *err;
};

static void take(struct walk *w, size_t len, struct sae_pk_value *v, unsigned depth)
{
    size_t drop = w->is_way ? 0 : w->n_prefix, n = len - drop;

    if (w->out) {
        struct sae_pk_value *key = &w->out->keys[w->n];
        char *text = w->out->text + w->n_text;

        memcpy(text, w->name + drop, n);
        *key = (struct sae_pk_value){.type = SAE_PK_STR, .n = (uint32_t)n, .u.str = text};
        w->out->dict.u.items[2 * w->n] = key;
        w->out->dict.u.items[2 * w->n + 1] = v;
        w->out->is_nested |= depth > 0;
    }
    w->n++;
    w->n_text += n;
}

static bool begin_alike(const struct walk *w, size_t len)
{
    return memcmp(w->name, w->prefix, len < w->n_prefix ? len : w->n_prefix) == 0;
}

static bool is_wanted(const struct walk *w, size_t n)
{
    if (w->is_way)
        return sae_load_is_on_way(w->name, n, w->prefix);
    return n > w->n_prefix && begin_alike(w, n);
}

/* A dict's key as it stands in a joined name: a text, or a number as its group is called; of others
 * NULL. */
static const char *text_of(const struct sae_pk_value *key, char digits[24], size_t *n)
{
    if (key->type == SAE_PK_STR) {
        *n = key->n;
        return key->u.str;
    }
    if (key->type != SAE_PK_INT)
        return NULL;
    *n = (size_t)snprintf(digits, 24, "%" PRIi64, key->u.i);
    return digits;
}

/* Recursion is bounded by MAX_DEPTH. `len` bytes of the name are the dict's, with its '.'. */
static enum sae_status walk(struct walk *w, const struct sae_pk_value *dict, size_t len,
                            unsigned depth)
{
    enum sae_status st = sae_pt_check_keys_differ(dict, "a dict on the way", w->err);

    if (depth > MAX_DEPTH)
        return BAD(w->err, "the dicts under prefix=%.100s are nested deeper than %u", w->prefix,
                   MAX_DEPTH);
    for (uint32_t i = 0; st == SAE_OK && i + 1 < dict->n; i += 2) {
        struct sae_pk_value *v = dict->u.items[i + 1];
        char digits[24];
        size_t n_key = 0, n;
        const char *key = text_of(dict->u.items[i], digits, &n_key);

        n = len + n_key;
        if (++w->n_seen > SAE_PT_MAX_ENTRIES)
            return BAD(w->err, "there are more than %u entries under prefix=%.100s",
                       SAE_PT_MAX_ENTRIES, w->prefix);
        if (!key || n + 1 >= sizeof w->name)
            continue;
        memcpy(w->name + len, key, n_key);
        w->name[n] = '.';
        if (v->type == SAE_PK_DICT && begin_alike(w, n + 1))
            st = walk(w, v, n + 1, depth + 1);
        else if (v->type != SAE_PK_DICT && is_wanted(w, n))
            take(w, n, v, depth);
    }
    return st;
}

static bool make_room(struct sae_pt_prefixed *p, size_t n, size_t n_text)
{
    p->keys = sae_calloc(n, sizeof *p->keys);
    p->text = sae_calloc(n_text, 1);
    p->dict = (struct sae_pk_value){.type = SAE_PK_DICT, .n = (uint32_t)(2 * n)};
    p->dict.u.items = sae_calloc(2 * n, sizeof(struct sae_pk_value *));
    return p->keys && p->text && p->dict.u.items;
}

static enum sae_status make(struct sae_pt_prefixed *out, struct walk w,
                            const struct sae_pk_value *root, struct sae_err *err)
{
    struct sae_pt_prefixed p = {.keys = NULL};
    enum sae_status st = walk(&w, root, 0, 0);

    if (st == SAE_OK && !make_room(&p, w.n, w.n_text))
        st = sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of %zu entries", w.n);
    if (st == SAE_OK) {
        w.n = w.n_text = w.n_seen = 0;
        w.out = &p;
        st = walk(&w, root, 0, 0);
    }
    if (st == SAE_OK)
        *out = p;
    else
        sae_pt_prefixed_free(&p);
    return st;
}

enum sae_status sae_pt_prefixed_make(struct sae_pt_prefixed *out, const struct sae_pk_value *root,
                                     const char *prefix, struct sae_err *err)
{
    struct walk w = {.prefix = prefix, .n_prefix = strlen(prefix), .err = err};

    return make(out, w, root, err);
}

enum sae_status sae_pt_way_make(struct sae_pt_prefixed *out, const struct sae_pk_value *root,
                                const char *prefix, struct sae_err *err)
{
    struct walk w = {.is_way = true, .prefix = prefix, .n_prefix = strlen(prefix), .err = err};

    return make(out, w, root, err);
}

void sae_pt_prefixed_free(struct sae_pt_prefixed *p)
{
    sae_free(p->keys);
    sae_free(p->text);
    sae_free(p->dict.u.items);
}
