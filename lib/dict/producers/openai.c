/* openai.c - the tied top-k autoencoders of OpenAI and, after them, of sentence-transformers. See
 * producers.h. */
#include "lib/dict/producers/say.h"

#include <stdio.h>
#include <string.h>

/* Room for a fact's path: the dict's key, what stands before every key, its own. */
#define PATH_BYTES 2048

/* The path of what stands under `key` beside the tensors, in their dict or else at the top, as
 * facts have it. Its name may have the prefix that the tensors' have. */
static void find_beside(const struct sae_file *b, const char *key, char path[PATH_BYTES])
{
    const struct sae_group *g = sae_load_group(b->ts, b->choice.group);
    const struct sae_facts *facts = sae_load_facts(b->ts);
    size_t first = 0;

    while (first < g->n && g->entries[first].kind != SAE_ENTRY_TENSOR)
        first++;
    for (unsigned i = 0; i < 3; i++) {
        const char *dict = i == 2 ? "" : b->stated->prefix ? b->stated->prefix : g->name;
        bool is_joined = dict[0] && !b->stated->prefix;

        snprintf(path, PATH_BYTES, "%s%s%.*s%s", dict, is_joined ? "." : "",
                 i == 0 ? (int)b->choice.prefix : 0, g->entries[first].name, key);
        if (sae_facts_find(facts, path))
            return;
    }
}

enum sae_status sae_settle_sentence_transformers(struct sae_file *b, struct sae_err *err)
{
    static const unsigned fields = 1u << SAE_FIELD_INPUT | 1u << SAE_FIELD_SELECT;
    bool normalizes = false, found = false;
    enum sae_status st = sae_say_need_config(b, "config.json", fields, err);

    if (st != SAE_OK || !b->config)
        return st;
    st = sae_facts_bool(b->config, "normalize", &normalizes, &found, err);
    if (st != SAE_OK)
        return st;
    says(b, SAE_FIELD_INPUT, normalizes ? "layer_norm" : "none", found);
    if (!found)
        sae_say_default(b, SAE_FIELD_INPUT, "none", "sentence-transformers", "normalize");
    return sae_say_config_k(b, "k", 8, "sentence-transformers", err);
}

/* Of a training that keeps the k largest: how many, and what is done to them. */
static enum sae_status openai_top_k(struct sae_file *b, struct sae_err *err)
{
    const struct sae_facts *facts = sae_load_facts(b->ts);
    const char *after = "ReLU";
    char path[PATH_BYTES];
    bool found = false;
    int64_t k = 0;
    enum sae_status st;

    if (!is_stated(b, SAE_FIELD_INPUT))
        return REFUSE(err, "activation",
                      "the loader of these files normalises x, their training may not have; state "
                      "input=layer_norm or input=none");
    find_beside(b, "activation_state_dict.postact_fn", path);
    st = sae_facts_text(facts, path, &after, &found, err);
    find_beside(b, "activation_state_dict.k", path);
    if (st == SAE_OK)
        st = sae_facts_int(facts, path, &k, &found, err);
    if (st != SAE_OK)
        return st;
    if (strcmp(after, "ReLU") != 0 && strcmp(after, "Identity") != 0)
        return REFUSE(err, "activation", "\"postact_fn\" is \"%.60s\", which saed does not compute",
                      after);
    file_says(b, SAE_FIELD_ACTIVATION, strcmp(after, "ReLU") == 0 ? "relu" : "linear");
    if (found && k > 0)
        sae_say_k(b, k, SAE_FROM_FILE);
    else if (!is_stated(b, SAE_FIELD_SELECT))
        return REFUSE(err, "activation",
                      "\"activation\" is TopK, and the file has no k; state k=N");
    return SAE_OK;
}

/* In no other container an activation is said. */
static enum sae_status openai_stated(const struct sae_file *b, struct sae_err *err)
{
    bool is_said = is_stated(b, SAE_FIELD_SELECT) || is_stated(b, SAE_FIELD_ACTIVATION);

    return is_said && is_stated(b, SAE_FIELD_INPUT)
               ? SAE_OK
               : REFUSE(err, "",
                        "the file does not say its activation; state input=none or "
                        "input=layer_norm, and k=N or activation=");
}

/* What its training saved about the activation, in the .pt alone. */
enum sae_status sae_settle_openai(struct sae_file *b, struct sae_err *err)
{
    const char *name = "ReLU";
    char path[PATH_BYTES];
    bool found = false;
    enum sae_status st;

    b->leaves_decoder = !has(b, "decoder.weight") && !has(b, "decoder.linear.weight");
    if (b->leaves_decoder && !b->stated->encodes_only)
        return REFUSE(err, "decoder.weight",
                      "the file has no tensor \"decoder.weight\" or \"decoder.linear.weight\", one "
                      "of which openai has; state parts=encoder to do without");
    if (!sae_load_is_torch_save(b->ts))
        return openai_stated(b, err);
    find_beside(b, "activation", path);
    st = sae_facts_text(sae_load_facts(b->ts), path, &name, &found, err);
    if (st != SAE_OK)
        return st;
    if (!found)
        sae_say_default(b, SAE_FIELD_ACTIVATION, "relu", "OpenAI", "activation");
    if (strcmp(name, "TopK") == 0)
        return openai_top_k(b, err);
    if (strcmp(name, "Identity") != 0 && strcmp(name, "ReLU") != 0)
        return REFUSE(err, "activation", "\"activation\" is \"%.60s\", which saed does not compute",
                      name);
    says(b, SAE_FIELD_ACTIVATION, strcmp(name, "ReLU") == 0 ? "relu" : "linear", found);
    return SAE_OK;
}
