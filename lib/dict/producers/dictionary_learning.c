/* dictionary_learning.c - saprmarks/dictionary_learning: what tells classes of the same keys apart.
 * See producers.h. */
#include "lib/dict/producers/say.h"

#include <string.h>

/* Classes of the same keys: the config says which. */
enum sae_status sae_settle_top_k(struct sae_file *b, struct sae_err *err)
{
    const char *name = NULL;
    bool found = false;
    enum sae_status st = sae_facts_text(b->config, "trainer.dict_class", &name, &found, err);

    if (st != SAE_OK || !found)
        return st;
    b->is_class_told = strcmp(name, b->layout->name) == 0;
    if (strcmp(name, "BatchTopKSAE") != 0)
        return SAE_OK;
    b->layout = sae_layout_by_name("BatchTopKSAE");
    sae_layout_reading(b->layout, &b->reading);
    NOTE(b, "SAELens (6.18) reads such files as ReLU, without the threshold");
    return SAE_OK;
}

#define MAX_GROUPS 64

/* Prefix sums of the groups, of which `features` may be one. */
enum sae_status sae_settle_matryoshka(struct sae_file *b, struct sae_err *err)
{
    bool is_sizes = has(b, "group_sizes");
    const char *key = is_sizes ? "group_sizes" : "group_indices";
    const struct sae_value *features = &b->stated->reading.field[SAE_FIELD_FEATURES].value;
    size_t i = sae_file_find(b, key);
    const struct sae_tensor *t = i == SIZE_MAX ? NULL : sae_load_tensor(b->ts, i);
    const struct sae_tensor *enc = sae_load_tensor(b->ts, sae_file_find(b, "W_enc"));
    int64_t groups[MAX_GROUPS] = {0}, sum = 0;
    bool is_prefix = features->choice == SAE_FEATURES_ALL;
    enum sae_status st;

    if (!t || t->ndim != 1 || t->shape[0] < 1 || t->shape[0] > MAX_GROUPS)
        return REFUSE(err, key, "\"%s\" is no list of 1 to %d group sizes", key, MAX_GROUPS);
    st = sae_load_integers(b->ts, i, groups, (size_t)t->shape[0], err);
    for (uint64_t g = 0; st == SAE_OK && g < t->shape[0]; g++) {
        if (groups[g] < 0 || groups[g] > SAE_DICT_MAX_DIM)
            return REFUSE(err, key, "\"%s\" holds %lld", key, (long long)groups[g]);
        sum = is_sizes ? sum + groups[g] : groups[g];
        is_prefix |= (uint64_t)sum == features->count;
    }
    if (st != SAE_OK)
        return st;
    if (enc->ndim == 2 && (uint64_t)sum != enc->shape[1])
        return REFUSE(err, key, "\"%s\" add up to %lld, and \"W_enc\" has %llu features", key,
                      (long long)sum, (unsigned long long)enc->shape[1]);
    if (!is_prefix)
        return REFUSE(err, key, "features=%llu is stated, which is no sum of the first of its %s",
                      (unsigned long long)features->count, key);
    return SAE_OK;
}
