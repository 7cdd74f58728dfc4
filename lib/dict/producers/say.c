/* say.c - see say.h. */
#include "lib/dict/producers/say.h"

#include <math.h>
#include <string.h>

enum sae_status sae_say_need_config(const struct sae_file *b, const char *name, struct sae_err *err)
{
    return b->config ? SAE_OK
                     : REFUSE(err, name, "%s wants %s beside the weights, and there is none",
                              b->layout->format, name);
}

void sae_say_k(struct sae_file *b, int64_t k)
{
    struct sae_value v = {.choice = SAE_SELECT_TOP_K, .count = (uint64_t)k};

    sae_reading_set(&b->reading, SAE_FIELD_SELECT, &v, SAE_FROM_FILE);
}

enum sae_status sae_say_config_k(struct sae_file *b, const char *path, int64_t fallback,
                                 const char *producer, struct sae_err *err)
{
    int64_t k = fallback;
    bool found = false;
    enum sae_status st = sae_facts_int(b->config, path, &k, &found, err);

    if (st != SAE_OK)
        return st;
    if (!found && fallback == 0)
        return is_stated(b, SAE_FIELD_SELECT) ? SAE_OK
                                              : REFUSE(err, path, "%s has no \"%s\"; state k=N",
                                                       sae_facts_name(b->config), path);
    if (k < 1)
        return REFUSE(err, path, "\"%s\" of %s is %lld, wanted 1 or more", path,
                      sae_facts_name(b->config), (long long)k);
    if (!found)
        NOTE(b, "select = top_k:%lld is %s's default for an absent %s", (long long)k, producer,
             path);
    sae_say_k(b, k);
    return SAE_OK;
}

/* A finetuned file multiplies f by it before the decoder; of ones it is nothing. */
enum sae_status sae_say_no_scaling_factor(struct sae_file *b, struct sae_err *err)
{
    static const char key[] = "scaling_factor";
    size_t i = sae_file_find(b, key);
    const struct sae_tensor *t = i == SIZE_MAX ? NULL : sae_load_tensor(b->ts, i);
    uint64_t n = t && t->ndim == 1 ? t->shape[0] : 0;
    enum sae_status st = SAE_OK;
    float *v;

    if (!t)
        return SAE_OK;
    if (n < 1 || n > SAE_DICT_MAX_DIM)
        return REFUSE(err, key, "\"%s\" is no vector", key);
    v = sae_alloc((size_t)n, sizeof *v);
    if (!v)
        return sae_err_set(err, SAE_E_NOMEM, key, "cannot read %s: out of memory", key);
    st = sae_load_read(b->ts, i, v, false, err);
    for (size_t j = 0; st == SAE_OK && j < n; j++)
        if (!(fabsf(v[j] - 1.0f) <= 1e-5f))
            st = REFUSE(err, key, "\"%s\" of feature %zu is %g, and saed multiplies by none", key,
                        j, (double)v[j]);
    sae_free(v);
    return st;
}
