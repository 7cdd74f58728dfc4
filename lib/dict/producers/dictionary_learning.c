/* dictionary_learning.c - saprmarks/dictionary_learning: what tells classes of the same keys apart.
 * See producers.h. */
#include "lib/dict/producers/say.h"

#include "lib/dict/text.h"

#include <string.h>

/* What config.json calls the class; "" where it does not. */
static enum sae_status class_of(const struct sae_file *b, const char **name, struct sae_err *err)
{
    bool found;

    *name = "";
    return sae_facts_text(b->config, "trainer.dict_class", name, &found, err);
}

/* Keys decide: most trainers write a constant. */
enum sae_status sae_settle_class(struct sae_file *b, struct sae_err *err)
{
    const char *name;
    enum sae_status st = class_of(b, &name, err);

    if (st == SAE_OK && *name && strcmp(name, b->layout->name) != 0)
        NOTE(b, "config.json has the dict_class %.60s; its keys are %s's", name, b->layout->name);
    return st;
}

/* Its keys are anybody's, but for a threshold of each feature. */
enum sae_status sae_settle_jump_relu(struct sae_file *b, struct sae_err *err)
{
    const struct sae_tensor *threshold = sae_load_tensor(b->ts, sae_file_find(b, "threshold"));

    if (b->stated->format || b->config || threshold->ndim > 0)
        return sae_settle_class(b, err);
    sae_say_other(b);
    return b->layout->settle(b, err);
}

/* Two classes of the same keys: the config says which. */
enum sae_status sae_settle_top_k(struct sae_file *b, struct sae_err *err)
{
    const char *name;
    enum sae_status st = class_of(b, &name, err);

    if (st != SAE_OK)
        return st;
    b->is_class_told = strcmp(name, b->layout->name) == 0;
    if (strcmp(name, b->layout->other) == 0) {
        b->is_class_told = true;
        sae_say_other(b);
        NOTE(b, "SAELens (6.18) reads such files as ReLU, without the threshold");
    }
    return sae_settle_class(b, err);
}

/* ---- Matryoshka --------------------------------------------------------------------------- */

#define MAX_GROUPS 64

/* How many features each group and those before it have; *n of them. */
static enum sae_status prefix_sums(const struct sae_file *b, const char *key, int64_t *sums,
                                   size_t *n, struct sae_err *err)
{
    bool is_sizes = strcmp(key, "group_sizes") == 0;
    size_t i = sae_file_find(b, key), skipped = is_sizes ? 0 : 1; /* group_indices begin with 0 */
    const struct sae_tensor *t = i == SIZE_MAX ? NULL : sae_load_tensor(b->ts, i);
    int64_t read[1 + MAX_GROUPS] = {0}, sum = 0;
    enum sae_status st;

    if (!t || t->ndim != 1 || t->shape[0] < 1 + skipped || t->shape[0] > MAX_GROUPS + skipped)
        return REFUSE(err, key, "\"%s\" is no list of 1 to %d group sizes", key, MAX_GROUPS);
    st = sae_load_integers(b->ts, i, read, (size_t)t->shape[0], err);
    if (st != SAE_OK)
        return st;
    *n = (size_t)t->shape[0] - skipped;
    for (size_t g = 0; g < *n + skipped; g++) {
        int64_t last = sum;

        if (read[g] >= 0 && read[g] <= SAE_DICT_MAX_DIM)
            sum = is_sizes ? sum + read[g] : read[g];
        if (read[g] < 0 || read[g] > SAE_DICT_MAX_DIM || sum < last || (!is_sizes && g == 0 && sum))
            return REFUSE(err, key, "\"%s\" holds %lld at [%zu]", key, (long long)read[g], g);
        if (g >= skipped)
            sums[g - skipped] = sum;
    }
    return SAE_OK;
}

/* `features` is one of the sums, or not stated. */
static enum sae_status check_features(const struct sae_value *features, const char *key,
                                      const int64_t *sums, size_t n, struct sae_err *err)
{
    struct sae_text l = {.len = 0};
    bool is_prefix = features->choice == SAE_FEATURES_ALL;

    for (size_t g = 0; g < n; g++) {
        is_prefix |= (uint64_t)sums[g] == features->count;
        sae_text_add(&l, "%s%lld", g ? ", " : "", (long long)sums[g]);
    }
    return is_prefix ? SAE_OK
                     : REFUSE(err, key,
                              "features=%llu is stated, which is no sum of the first of its %s: %s",
                              (unsigned long long)features->count, key, l.text);
}

enum sae_status sae_settle_matryoshka(struct sae_file *b, struct sae_err *err)
{
    const char *key = has(b, "group_sizes") ? "group_sizes" : "group_indices";
    const struct sae_tensor *enc = sae_load_tensor(b->ts, sae_file_find(b, "W_enc"));
    int64_t sums[MAX_GROUPS] = {0};
    size_t n = 0;
    enum sae_status st;

    if (!has(b, key))
        return REFUSE(err, "group_sizes",
                      "cannot tell the groups: a k stands beside keys of MatryoshkaBatchTopKSAE, "
                      "and the file has neither \"group_sizes\" nor \"group_indices\"; "
                      "format=custom does without them");
    st = prefix_sums(b, key, sums, &n, err);

    if (st == SAE_OK && has(b, "group_sizes") && has(b, "group_indices"))
        st = REFUSE(err, key, "the file has both \"group_sizes\" and \"group_indices\"");
    if (st == SAE_OK && enc->ndim == 2 && (uint64_t)sums[n - 1] != enc->shape[1])
        st = REFUSE(err, key, "\"%s\" add up to %lld, and \"W_enc\" has %llu features", key,
                    (long long)sums[n - 1], (unsigned long long)enc->shape[1]);
    if (st == SAE_OK)
        st = check_features(&b->stated->reading.field[SAE_FIELD_FEATURES].value, key, sums, n, err);
    return st == SAE_OK ? sae_settle_class(b, err) : st;
}
