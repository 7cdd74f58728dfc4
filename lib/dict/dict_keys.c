/* dict_keys.c - see dict_keys.h. */
#include "lib/dict/dict_keys.h"

#include <string.h>

/* What wrappers put before every key: torch.compile, DataParallel, a module that holds the SAE. */
static const char *const prefixes[] = {"_orig_mod.", "module.", "sae."};

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

const char *sae_keys_name(const struct sae_keys *k, size_t i)
{
    const char *name = k->g->entries[i].name;

    return k->g->entries[i].kind == SAE_ENTRY_TENSOR ? name + k->prefix : name;
}

const char *sae_keys_own_name(const struct sae_entry *e)
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

bool sae_keys_may_be(const struct sae_keys *k, const struct sae_layout *a)
{
    if (a->n_keys == 0)
        return false;
    if (k->format)
        return strcmp(a->format, k->format) == 0;
    return !a->is_told && (!a->in_torch_save || k->is_torch_save);
}

struct sae_keys sae_keys_of(const struct sae_tensors *ts, const struct sae_statement *stated,
                            const char *format, size_t g)
{
    const struct sae_group *group = sae_load_group(ts, g);

    return (struct sae_keys){group, common_prefix(group), format, sae_load_is_torch_save(ts),
                             stated->encodes_only};
}

bool sae_keys_have(const struct sae_keys *k, const struct sae_layout *a, const char *name)
{
    for (size_t i = 0; i < k->g->n; i++)
        if (sae_layout_is_key(a, name, sae_keys_name(k, i)))
            return true;
    return false;
}

static bool is_key(const struct sae_layout *a, const char *name)
{
    for (unsigned i = 0; i < a->n_keys; i++)
        if (sae_layout_is_key(a, a->keys[i].name, name))
            return true;
    return false;
}

unsigned sae_keys_n_found(const struct sae_keys *k, const struct sae_layout *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < a->n_keys; i++)
        n += sae_keys_have(k, a, a->keys[i].name);
    return n;
}

bool sae_keys_miss(const struct sae_keys *k, const struct sae_layout *a, unsigned i)
{
    enum sae_role role = a->keys[i].role;
    bool is_wanted = !k->encodes_only || (role != SAE_ROLE_DECODER && role != SAE_ROLE_DEC_BIAS);

    return is_wanted && a->keys[i].need == SAE_KEY_REQUIRED &&
           !sae_keys_have(k, a, a->keys[i].name);
}

unsigned sae_keys_n_missing(const struct sae_keys *k, const struct sae_layout *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < a->n_keys; i++)
        n += sae_keys_miss(k, a, i);
    return n;
}

bool sae_keys_is_k(const struct sae_entry *e, const char *name)
{
    bool integer =
        e->kind == SAE_ENTRY_INT || (e->kind == SAE_ENTRY_TENSOR && e->integer && e->ndim == 0);

    return integer && (strcmp(name, "k") == 0 || strcmp(name, "top_k") == 0);
}

bool sae_keys_is_surplus(const struct sae_keys *k, const struct sae_layout *a, size_t i)
{
    const struct sae_entry *e = &k->g->entries[i];
    const char *name = sae_keys_name(k, i);

    return e->kind == SAE_ENTRY_TENSOR && !(a && is_key(a, name)) &&
           strcmp(name, SAE_LAYOUT_NO_KEY) != 0 &&
           !(a && a->is_top_k_too && sae_keys_is_k(e, sae_keys_own_name(e)));
}

size_t sae_keys_n_surplus(const struct sae_keys *k, const struct sae_layout *a)
{
    size_t n = k->g->other_keys;

    for (size_t i = 0; i < k->g->n; i++)
        n += sae_keys_is_surplus(k, a, i);
    return n;
}

size_t sae_keys_distance(const struct sae_keys *k, const struct sae_layout *a)
{
    return sae_keys_n_missing(k, a) + sae_keys_n_surplus(k, a);
}
