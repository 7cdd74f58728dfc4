/* sparsify.c - EleutherAI's sparsify, cfg.json beside sae.safetensors. See producers.h. */
#include "lib/dict/producers/say.h"

#include "lib/dict/text.h"

#include <string.h>

/* Fields that change nothing, or are read below. */
static const char *const known[] = {
    "d_in", "expansion_factor", "num_latents", "activation", "normalize_decoder", "multi_topk",
    "k",    "skip_connection",  "transcode",   "signed"};

static bool is_known(const char *key)
{
    size_t i = 0;

    while (i < SAE_COUNTOF(known) && strcmp(known[i], key) != 0)
        i++;
    return i < SAE_COUNTOF(known);
}

static void note_others(struct sae_file *b)
{
    struct sae_text names = {.len = 0};
    size_t n = 0;

    for (const struct sae_fact *f = sae_facts_root(b->config)->u.first; f; f = f->next)
        if (!is_known(f->key))
            sae_text_add(&names, "%s%.60s", n++ ? ", " : "", f->key);
    if (n)
        NOTE(b, "cfg.json has %s not looked at: %s", n > 1 ? "fields that are" : "a field that is",
             names.text);
}

static enum sae_status check_activation(struct sae_file *b, struct sae_err *err)
{
    const char *activation = "topk";
    bool is_signed = false, found, is_there = false;
    enum sae_status st = sae_facts_text(b->config, "activation", &activation, &is_there, err);

    if (st == SAE_OK)
        st = sae_facts_bool(b->config, "signed", &is_signed, &found, err);
    if (st != SAE_OK)
        return st;
    if (is_signed)
        return REFUSE(err, "signed",
                      "cfg.json says signed: the largest by magnitude are kept, which saed does "
                      "not compute");
    if (strcmp(activation, "topk") != 0)
        return REFUSE(err, "activation",
                      "cfg.json has the activation \"%.60s\", which saed does not %s", activation,
                      strcmp(activation, "groupmax") == 0 ? "read yet" : "compute");
    if (!is_there)
        sae_say_default(b, SAE_FIELD_ACTIVATION, "relu", "sparsify", "activation");
    return SAE_OK;
}

enum sae_status sae_settle_sparsify(struct sae_file *b, struct sae_err *err)
{
    static const unsigned fields =
        1u << SAE_FIELD_KIND | 1u << SAE_FIELD_CENTRE | 1u << SAE_FIELD_SELECT;
    bool transcodes = false, found = false, has_skip = has(b, "W_skip");
    enum sae_status st = sae_say_need_config(b, "cfg.json", fields, err);

    if (has_skip)
        row_says(b, SAE_FIELD_SKIP, "W_skip@m,d");
    if (st != SAE_OK || !b->config)
        return st;
    st = check_activation(b, err);
    if (st == SAE_OK)
        st = sae_facts_bool(b->config, "transcode", &transcodes, &found, err);
    if (st != SAE_OK)
        return st;
    says(b, SAE_FIELD_CENTRE, transcodes ? "none" : "b_dec", found);
    if (!found)
        sae_say_default(b, SAE_FIELD_CENTRE, "b_dec", "sparsify", "transcode");
    says(b, SAE_FIELD_KIND, transcodes || has_skip ? "transcoder" : "sae", found);
    note_others(b);
    return sae_say_config_k(b, "k", 32, "sparsify", err);
}
