/* circuit_tracer.c - circuit-tracer's transcoders, config.yaml beside them. See producers.h. */
#include "lib/dict/producers/say.h"

#include "lib/load/folder.h"

#include <stdio.h>
#include <string.h>

/* k of the config and of the file must agree. */
static enum sae_status circuit_tracer_k(struct sae_file *b, bool is_top_k, struct sae_err *err)
{
    size_t i = sae_file_find(b, "k");
    int64_t k = 0, said = 0;
    bool found = false;
    enum sae_status st = i == SIZE_MAX ? SAE_OK : sae_load_integer(b->ts, i, &k, err);

    if (st == SAE_OK)
        st = sae_facts_int(b->config, "k", &said, &found, err);
    if (st != SAE_OK)
        return st;
    if (i != SIZE_MAX && found && k != said && !is_stated(b, SAE_FIELD_SELECT))
        return REFUSE(err, "k",
                      "cannot choose between two k: the tensor \"k\" is %lld, and "
                      "config.yaml says %lld; state k=N",
                      (long long)k, (long long)said);
    if (i == SIZE_MAX && !(found && is_top_k))
        return is_top_k && !is_stated(b, SAE_FIELD_SELECT)
                   ? REFUSE(err, "k",
                            "config.yaml says topk, and neither it nor the file has a k; "
                            "state k=N")
                   : SAE_OK;
    k = i == SIZE_MAX ? said : k;
    if (k < 1)
        return REFUSE(err, "k", "k is %lld, wanted 1 or more", (long long)k);
    sae_say_k(b, k, SAE_FROM_FILE);
    return SAE_OK;
}

/* The activation of a set, by a tensor of its own or by config.yaml. */
static enum sae_status circuit_tracer_activation(struct sae_file *b, const char *threshold,
                                                 struct sae_err *err)
{
    const char *name = "";
    bool found = false, is_top_k, has_threshold = has(b, threshold);
    enum sae_status st = sae_facts_text(b->config, "activation", &name, &found, err);

    if (st != SAE_OK)
        return st;
    is_top_k = strcmp(name, "topk") == 0 || has(b, "k");
    if (is_stated(b, SAE_FIELD_ACTIVATION))
        return circuit_tracer_k(b, is_top_k, err);
    if (has_threshold && (is_top_k || strcmp(name, "relu") == 0) &&
        !sae_statement_says_threshold(b->stated))
        return REFUSE(err, threshold, "the file has \"%s\", and %s; state activation=", threshold,
                      has(b, "k") ? "a k"
                      : is_top_k  ? "config.yaml says topk"
                                  : "config.yaml says relu");
    if (found && !has_threshold && strcmp(name, "topk") != 0 && strcmp(name, "relu") != 0)
        return REFUSE(err, "config.yaml",
                      "config.yaml has the activation \"%.60s\", and the file no \"%s\"; state "
                      "activation=",
                      name, threshold);
    says(b, SAE_FIELD_ACTIVATION,
         has_threshold ? "threshold_signed"
         : is_top_k    ? "linear"
                       : "relu",
         found || has_threshold || is_top_k);
    if (has_threshold)
        row_says(b, SAE_FIELD_THRESHOLD, threshold);
    if (!found && !has_threshold && !is_top_k)
        NOTE(b, "sets saved again by circuit-tracer's cache lose their activation: compare L0");
    return circuit_tracer_k(b, is_top_k, err);
}

enum sae_status sae_settle_circuit_tracer(struct sae_file *b, struct sae_err *err)
{
    row_says(b, SAE_FIELD_KIND, "transcoder");
    if (has(b, "W_skip"))
        row_says(b, SAE_FIELD_SKIP, "W_skip@m,d");
    return circuit_tracer_activation(b, "activation_function.threshold", err);
}

/* The layer in the name W_enc_7.safetensors is the keys' too, as circuit-tracer asks for it. */
static enum sae_status check_layer_of_file(const struct sae_file *b, const char *layer,
                                           struct sae_err *err)
{
    const char *name = b->weights + sae_folder_bytes(b->weights);
    size_t n = strlen("W_enc"), m = strlen(layer);

    if (b->stated->format || strncmp(name, "W_enc_", n + 1) != 0 ||
        (strncmp(name + n, layer, m) == 0 && name[n + m] == '.'))
        return SAE_OK;
    return REFUSE(err, name,
                  "\"W_enc%s\" is of another layer than the file's name, %.60s; rename it, or "
                  "state format=circuit_tracer",
                  layer, name);
}

/* One layer's encoder of a set whose decoders write to all layers above: its keys end in the layer,
 * all in the same. */
enum sae_status sae_settle_cross_layer(struct sae_file *b, struct sae_err *err)
{
    const char *layer = strrchr(sae_load_tensor(b->ts, sae_file_find(b, "W_enc_#"))->name, '_');
    char threshold[SAE_TENSOR_NAME_MAX];
    enum sae_status st;

    for (size_t i = 0; i < sae_load_count(b->ts); i++) {
        const char *name = sae_load_tensor(b->ts, i)->name;
        const char *digits = strrchr(name, '_');

        if (digits && strcmp(digits, layer) != 0)
            return REFUSE(err, name, "\"%s\" is of another layer than \"W_enc%s\"", name, layer);
    }
    st = check_layer_of_file(b, layer, err);
    if (st != SAE_OK)
        return st;
    snprintf(threshold, sizeof threshold, "threshold%.40s", layer);
    row_says(b, SAE_FIELD_KIND, "transcoder");
    NOTE(b, "encoder only: the reconstruction needs all layers");
    return circuit_tracer_activation(b, threshold, err);
}
