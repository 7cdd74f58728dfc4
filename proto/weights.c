/* weights.c - what a request for weights asks for: parts by name, with ids of features or whole.
 *
 *     {"decoder": ids, "encoder": ids, "vectors": [names]}
 *
 * The same checks for every form. Called by the codecs, and by routes for the query. Pure but for
 * the request that is given, any thread. Operations section 4. */
#include "proto/wire.h"

#include "lib/num.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const struct sae_weight_def sae_weight_defs[SAE_N_WEIGHTS] = {
#define SAE_WEIGHT(id, name, of) [SAE_WEIGHT_##id] = {#name, "/" #name, #of},
#include "proto/weights.def"
#undef SAE_WEIGHT
};

int sae_weights_key(const char *name, size_t n)
{
    for (int i = 0; i < SAE_N_ROW_WEIGHTS; i++)
        if (strlen(sae_weight_defs[i].name) == n && memcmp(sae_weight_defs[i].name, name, n) == 0)
            return i;
    return strlen(SAE_WEIGHTS_VECTORS_NAME) == n && memcmp(SAE_WEIGHTS_VECTORS_NAME, name, n) == 0
               ? SAE_WEIGHTS_VECTORS
               : -1;
}

static const char *key_name(int key)
{
    return key == SAE_WEIGHTS_VECTORS ? SAE_WEIGHTS_VECTORS_NAME : sae_weight_defs[key].name;
}

enum sae_status sae_weights_seen(struct sae_weights *p, int key, struct sae_err *err)
{
    if (p->seen >> key & 1)
        return sae_err_set(err, SAE_E_BAD_OPTION, key_name(key),
                           "cannot read %s: it is given twice (give it once, in the query string "
                           "or in the body)",
                           key_name(key));
    p->seen |= 1u << key;
    return SAE_OK;
}

enum sae_status sae_weights_vector(struct sae_weights *p, const char *name, size_t n,
                                   struct sae_err *err)
{
    char list[200];
    size_t len = 0;

    for (int i = SAE_N_ROW_WEIGHTS; i < SAE_N_WEIGHTS; i++) {
        if (strlen(sae_weight_defs[i].name) == n && memcmp(sae_weight_defs[i].name, name, n) == 0) {
            p->asked |= 1u << i;
            return SAE_OK;
        }
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "",
                                sae_weight_defs[i].name);
    }
    return sae_err_set(err, SAE_E_BAD_OPTION, SAE_WEIGHTS_VECTORS_NAME,
                       "cannot use vectors: there is no vector \"%.*s%s\" (there are %s)",
                       (int)(n < 64 ? n : 64), name, n > 64 ? "..." : "", list);
}

enum sae_status sae_weights_query(void *request, const char *name, const char *value,
                                  struct sae_err *err)
{
    struct sae_weights *p = &((struct sae_request *)request)->weights;
    const int key = sae_weights_key(name, strlen(name));
    enum sae_status st;

    if (key >= 0 && key != SAE_WEIGHTS_VECTORS)
        return sae_err_set(err, SAE_E_BAD_OPTION, name,
                           "cannot use %s: it stands in the query string, its place is in the body",
                           name);
    if (key < 0)
        return sae_err_set(
            err, SAE_E_BAD_OPTION, name,
            "cannot read query string: weights has no option \"%.100s\" there (takes "
            "vectors)",
            name);
    if (!value)
        return sae_err_set(err, SAE_E_BAD_OPTION, name,
                           "cannot read query parameter %s: it has no value (write %s=VALUE)", name,
                           name);
    /* A list may come as a parameter for each item. */
    st = p->in_query ? SAE_OK : sae_weights_seen(p, key, err);
    p->in_query = true;
    while (st == SAE_OK && *value) {
        const size_t n = strcspn(value, ",");

        st = sae_weights_vector(p, value, n, err);
        value += n + (value[n] == ',');
    }
    return st;
}

static enum sae_status check_ids(const struct sae_weights *p, int part, const struct sae_target *t,
                                 struct sae_err *err)
{
    for (size_t i = 0; i < p->n_ids[part]; i++) {
        enum sae_status st = sae_id_check(sae_weight_defs[part].name, i, p->ids[part][i], t, err);

        if (st != SAE_OK)
            return st;
    }
    return SAE_OK;
}

enum sae_status sae_weights_check(const struct sae_weights *p, const struct sae_target *t,
                                  struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    if (!p->asked)
        return sae_err_set(err, SAE_E_BAD_OPTION, "",
                           "cannot give weights: nothing is asked for (decoder or encoder with ids "
                           "of features, vectors with names)");
    for (int part = 0; st == SAE_OK && part < SAE_N_ROW_WEIGHTS; part++)
        st = check_ids(p, part, t, err);
    return st;
}
