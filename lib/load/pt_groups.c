/* pt_groups.c - see pt_groups.h. */
#include "lib/load/pt_groups.h"
#include "lib/load/pt_tensor.h"
#include "lib/load/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GROUPS 1000u /* dicts right below the top */

#define BAD(err, ...) \
    sae_err_set(err, SAE_E_FORMAT, "data.pkl", "cannot read .pt file: " __VA_ARGS__)

/* ---- keys --------------------------------------------------------------------------------- */

bool sae_pt_key_name(const struct sae_pk_value *key, char name[SAE_TENSOR_NAME_MAX + 4])
{
    if (key->type != SAE_PK_STR || memchr(key->u.str, 0, key->n))
        return false;
    sae_load_cut_name(name, key->u.str, key->n);
    return true;
}

/* Keys that are equal to Python: strings by their bytes, ints and bools by number; of all else only
 * that a value equals itself. */
static int key_class(const struct sae_pk_value *k)
{
    return k->type == SAE_PK_STR ? 0 : k->type == SAE_PK_INT || k->type == SAE_PK_BOOL ? 1 : 2;
}

static int compare_keys(const void *a, const void *b)
{
    const struct sae_pk_value *x = *(const struct sae_pk_value *const *)a,
                              *y = *(const struct sae_pk_value *const *)b;
    int kind = key_class(x), c = kind - key_class(y);

    if (c)
        return c;
    if (kind == 0) {
        uint32_t n = x->n < y->n ? x->n : y->n;

        c = n ? memcmp(x->u.str, y->u.str, n) : 0;
        return c ? c : (x->n > y->n) - (x->n < y->n);
    }
    if (kind == 1) {
        int64_t i = x->type == SAE_PK_BOOL ? x->u.b : x->u.i;
        int64_t j = y->type == SAE_PK_BOOL ? y->u.b : y->u.i;

        return (i > j) - (i < j);
    }
    return (x > y) - (x < y);
}

static enum sae_status twice(const struct sae_pk_value *key, const char *what, struct sae_err *err)
{
    char text[200];

    if (key->type == SAE_PK_STR)
        return BAD(err, "%s has the key %.*s twice", what, key->n < 128 ? (int)key->n : 128,
                   key->u.str);
    return BAD(err, "%s has a key twice, %s at offset %" PRIu32, what,
               sae_pk_describe(key, text, sizeof text), key->offset);
}

enum sae_status sae_pt_check_keys_differ(const struct sae_pk_value *dict, const char *what,
                                         struct sae_err *err)
{
    size_t n = dict->n / 2;
    const struct sae_pk_value **keys = sae_calloc(n, sizeof(const struct sae_pk_value *));
    enum sae_status st = SAE_OK;

    if (!keys)
        return sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate index of %zu keys", n);
    for (size_t i = 0; i < n; i++)
        keys[i] = dict->u.items[2 * i];
    qsort(keys, n, sizeof(const struct sae_pk_value *), compare_keys);
    for (size_t i = 1; i < n && st == SAE_OK; i++)
        if (compare_keys(&keys[i - 1], &keys[i]) == 0)
            st = twice(keys[i], what, err);
    sae_free(keys);
    return st;
}

/* ---- entries ------------------------------------------------------------------------------ */

static void describe_tensor(const struct sae_pt_archive *a, const struct sae_pk_value *v,
                            struct sae_entry *e)
{
    struct sae_tensor t = {0};
    struct sae_pt_tensor bound = {0};
    struct sae_origin origin;

    e->kind = SAE_ENTRY_TENSOR;
    /* What does not bind (sae_load_choose says why, if it is chosen) is taken for values. */
    e->floating = true;
    e->ndim = 1;
    if (sae_pt_tensor_bind(a, v, &t, &bound, NULL) != SAE_OK)
        return;
    e->ndim = t.ndim;
    memcpy(e->shape, t.shape, sizeof e->shape);
    e->floating = sae_dtype_is_floating(t.dtype);
    e->integer = sae_dtype_is_integer(t.dtype);
    sae_pt_tensor_origin(a, &bound, &origin);
    e->has_number = t.ndim == 0 && sae_origin_number(&origin, &e->number);
}

static void describe(const struct sae_pt_archive *a, const struct sae_pk_value *v,
                     struct sae_entry *e)
{
    e->kind = SAE_ENTRY_OTHER;
    if (v->type == SAE_PK_INT || v->type == SAE_PK_FLOAT) {
        e->kind = v->type == SAE_PK_INT ? SAE_ENTRY_INT : SAE_ENTRY_REAL;
        e->has_number = true;
        e->number = v->type == SAE_PK_INT ? (double)v->u.i : v->u.f;
    } else if (sae_pt_makes_tensor(v)) {
        describe_tensor(a, v, e);
    }
}

static enum sae_status fill(const struct sae_pt_archive *a, const struct sae_pk_value *dict,
                            struct sae_group *g, struct sae_err *err)
{
    struct sae_entry *e = sae_calloc(dict->n / 2, sizeof *e);

    if (!e)
        return sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of %zu entries",
                           (size_t)dict->n / 2);
    g->entries = e;
    for (uint32_t i = 0; i + 1 < dict->n; i += 2) {
        if (sae_pt_key_name(dict->u.items[i], e[g->n].name))
            describe(a, dict->u.items[i + 1], &e[g->n++]);
        else if (sae_pt_makes_tensor(dict->u.items[i + 1])) {
            struct sae_entry other = {.ndim = 0};

            describe_tensor(a, dict->u.items[i + 1], &other);
            g->other_keys = true;
            g->other_values |= other.floating && other.ndim > 0;
        }
    }
    return SAE_OK;
}

/* ---- groups ------------------------------------------------------------------------------- */

static bool is_listed(const struct sae_pk_value **dicts, size_t n, const struct sae_pk_value *dict)
{
    for (size_t i = 0; i < n; i++)
        if (dicts[i] == dict)
            return true;
    return false;
}

/* The dicts that will be listed, each once: SAE_E_FORMAT when there is more than is ever needed. */
static enum sae_status find_dicts(const struct sae_pk_value *root,
                                  const struct sae_pk_value **dicts,
                                  const struct sae_pk_value **keys, size_t *n, struct sae_err *err)
{
    size_t entries = root->n / 2;

    dicts[0] = root;
    *n = 1;
    for (uint32_t i = 0; i + 1 < root->n && entries <= SAE_PT_MAX_ENTRIES; i += 2) {
        const struct sae_pk_value *dict = root->u.items[i + 1];

        if (dict->type != SAE_PK_DICT || is_listed(dicts, *n, dict))
            continue;
        if (*n > MAX_GROUPS)
            return BAD(err, "more than %u dicts right below its top", MAX_GROUPS);
        entries += dict->n / 2;
        keys[*n] = root->u.items[i];
        dicts[(*n)++] = dict;
    }
    if (entries > SAE_PT_MAX_ENTRIES)
        return BAD(err, "its dicts have %zu entries or more, at most %u are read", entries,
                   SAE_PT_MAX_ENTRIES);
    return SAE_OK;
}

/* As facts call it (pt_facts.c): a number is written as Python does. */
static void name_group(struct sae_group *g, const struct sae_pk_value *key)
{
    char what[160];

    if (key && key->type == SAE_PK_INT)
        snprintf(g->name, sizeof g->name, "%" PRIi64, key->u.i);
    else if (key && !sae_pt_key_name(key, g->name))
        snprintf(g->name, sizeof g->name, "%.100s", sae_pk_describe(key, what, sizeof what));
}

enum sae_status sae_pt_groups_list(const struct sae_pt_archive *a, const struct sae_pk_value *root,
                                   struct sae_group **groups, const struct sae_pk_value ***dicts,
                                   size_t *n, struct sae_err *err)
{
    const struct sae_pk_value *keys[1 + MAX_GROUPS] = {NULL};
    const struct sae_pk_value **d = sae_calloc(3 + MAX_GROUPS, sizeof(const struct sae_pk_value *));
    struct sae_group *g = NULL;
    size_t n_dicts = 0;
    enum sae_status st =
        d ? find_dicts(root, d, keys, &n_dicts, err)
          : sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of dicts");

    if (st == SAE_OK) {
        g = sae_calloc(n_dicts, sizeof *g);
        if (!g)
            st = sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of %zu dicts",
                             n_dicts);
    }
    for (size_t i = 0; st == SAE_OK && i < n_dicts; i++) {
        name_group(&g[i], keys[i]);
        st = fill(a, d[i], &g[i], err);
    }
    if (st != SAE_OK) {
        sae_pt_groups_free(g, n_dicts);
        sae_free(d);
        return st;
    }
    *groups = g;
    *dicts = d;
    *n = n_dicts;
    return SAE_OK;
}

enum sae_status sae_pt_groups_add(const struct sae_pt_archive *a, const struct sae_pk_value *dict,
                                  const char *name, struct sae_group **groups,
                                  const struct sae_pk_value **dicts, size_t *n, struct sae_err *err)
{
    struct sae_group *more = sae_realloc(*groups, *n + 1, sizeof *more);

    if (!more)
        return sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of %zu dicts",
                           *n + 1);
    *groups = more;
    memset(&more[*n], 0, sizeof *more);
    sae_load_cut_name(more[*n].name, name, strlen(name));
    dicts[*n] = dict;
    return fill(a, dict, &more[(*n)++], err);
}

void sae_pt_groups_free(struct sae_group *groups, size_t n)
{
    for (size_t i = 0; groups && i < n; i++)
        sae_free((void *)groups[i].entries);
    sae_free(groups);
}
