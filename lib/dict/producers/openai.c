/* openai.c - the tied top-k autoencoders of OpenAI and, after them, of sentence-transformers. See
 * producers.h. */
#include "lib/dict/producers/say.h"

#include <string.h>

enum sae_status sae_settle_sentence_transformers(struct sae_file *b, struct sae_err *err)
{
    bool normalizes = false, found = false;
    enum sae_status st = sae_say_need_config(b, "config.json", err);

    if (st == SAE_OK)
        st = sae_facts_bool(b->config, "normalize", &normalizes, &found, err);
    if (st != SAE_OK)
        return st;
    file_says(b, SAE_FIELD_INPUT, normalizes ? "layer_norm" : "none");
    if (!found)
        NOTE(b, "input = none is sentence-transformers's default for an absent normalize");
    return sae_say_config_k(b, "k", 8, "sentence-transformers", err);
}

/* What its training saved about the activation, in the .pt alone. */
enum sae_status sae_settle_openai(struct sae_file *b, struct sae_err *err)
{
    const struct sae_facts *facts = sae_load_facts(b->ts);
    const char *name = "ReLU", *after = "ReLU";
    bool found = false, is_pt = strcmp(sae_load_container(b->ts), "pt") == 0;
    int64_t k = 0;
    enum sae_status st = SAE_OK;

    if (!is_pt)
        return is_stated(b, SAE_FIELD_INPUT) &&
                       (is_stated(b, SAE_FIELD_SELECT) || is_stated(b, SAE_FIELD_ACTIVATION))
                   ? SAE_OK
                   : REFUSE(err, "",
                            "the file does not say its activation; state input=none or "
                            "input=layer_norm, and k=N or activation=");
    st = sae_facts_text(facts, "activation", &name, &found, err);
    if (st != SAE_OK)
        return st;
    if (!found)
        NOTE(b, "activation = relu is OpenAI's default for an absent activation");
    if (strcmp(name, "Identity") == 0 || strcmp(name, "ReLU") == 0) {
        file_says(b, SAE_FIELD_ACTIVATION, strcmp(name, "ReLU") == 0 ? "relu" : "linear");
        return SAE_OK;
    }
    if (strcmp(name, "TopK") != 0)
        return REFUSE(err, "activation", "\"activation\" is \"%.60s\", which saed does not compute",
                      name);
    if (!is_stated(b, SAE_FIELD_INPUT))
        return REFUSE(err, "activation",
                      "the loader of these files normalises x, their training "
                      "may not have; state input=layer_norm or input=none");
    st = sae_facts_text(facts, "activation_state_dict.postact_fn", &after, &found, err);
    if (st == SAE_OK)
        st = sae_facts_int(facts, "activation_state_dict.k", &k, &found, err);
    if (st != SAE_OK)
        return st;
    if (strcmp(after, "ReLU") != 0 && strcmp(after, "Identity") != 0)
        return REFUSE(err, "activation", "\"postact_fn\" is \"%.60s\", which saed does not compute",
                      after);
    file_says(b, SAE_FIELD_ACTIVATION, strcmp(after, "ReLU") == 0 ? "relu" : "linear");
    if (found && k > 0)
        sae_say_k(b, k);
    else if (!is_stated(b, SAE_FIELD_SELECT))
        return REFUSE(err, "activation",
                      "\"activation\" is TopK, and the file has no k; state k=N");
    return SAE_OK;
}
