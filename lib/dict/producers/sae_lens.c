/* sae_lens.c - SAELens's folders, cfg.json beside sae_weights.safetensors, of version 6 and before.
 * See producers.h. */
#include "lib/dict/producers/say.h"

#include "lib/load/config.h"
#include "lib/load/folder.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* What an architecture of cfg.json is. */
static const struct architecture {
    const char *name, *activation;
    bool is_transcoder, has_skip, keeps_top_k, is_batch;
} architectures[] = {
    {"standard", "relu", false, false, false, false},
    {"gated", "gated", false, false, false, false},
    {"jumprelu", "threshold", false, false, false, false},
    {"topk", "relu", false, false, true, false},
    {"transcoder", "relu", true, false, false, false},
    {"skip_transcoder", "relu", true, true, false, false},
    {"jumprelu_transcoder", "threshold", true, false, false, false},
    {"jumprelu_skip_transcoder", "threshold", true, true, false, false},
    {"batchtopk", "threshold", false, false, false, true},
    {"matryoshka_batchtopk", "threshold", false, false, false, true},
};

/* 6.0 wrote its version; before, the config was flat. */
static bool is_v6(const struct sae_facts *config)
{
    const struct sae_fact *v = sae_facts_find(config, "sae_lens_version");

    if (!v)
        v = sae_facts_find(config, "metadata.sae_lens_version");
    return v && v->kind == SAE_FACT_TEXT && v->u.text[0] >= '6' && v->u.text[0] <= '9';
}

static enum sae_status sae_lens_architecture(struct sae_file *b, bool v6,
                                             const struct architecture **out, struct sae_err *err)
{
    const char *name = "standard", *activation = NULL;
    bool found = false, is_v5_top_k = false;
    enum sae_status st = sae_facts_text(b->config, "architecture", &name, &found, err);

    if (st == SAE_OK && !v6)
        st = sae_facts_text(b->config, "activation_fn_str", &activation, &found, err);
    if (st == SAE_OK && !v6 && !activation)
        st = sae_facts_text(b->config, "activation_fn", &activation, &found, err);
    if (st != SAE_OK)
        return st;
    if (activation && strcmp(activation, "topk") == 0 && strcmp(name, "standard") == 0)
        is_v5_top_k = true;
    else if (activation && strcmp(activation, "relu") != 0 && strcmp(activation, "topk") != 0)
        return REFUSE(err, "cfg.json",
                      "cfg.json has the activation \"%.60s\", which saed does not "
                      "compute",
                      activation);
    for (size_t i = 0; i < SAE_COUNTOF(architectures); i++)
        if (strcmp(architectures[i].name, is_v5_top_k ? "topk" : name) == 0) {
            *out = &architectures[i];
            return SAE_OK;
        }
    return REFUSE(err, "cfg.json",
                  "cfg.json has the architecture \"%.60s\", which saed does not "
                  "read",
                  name);
}

/* The constant of expected_average_only_in stands in a file of its own, or nowhere. */
static enum sae_status sae_lens_constant(struct sae_file *b, bool is_transcoder,
                                         struct sae_err *err)
{
    size_t n = sae_folder_bytes(b->weights);
    char folder[PATH_MAX];
    struct sae_facts *scaler = NULL;
    struct sae_value v = {.choice = SAE_INPUT_SCALE};
    double c = 0.0;
    bool found = false;
    enum sae_status st = SAE_OK;

    if (n < sizeof folder) {
        memcpy(folder, b->weights, n);
        folder[n] = '\0';
        st = sae_config_read(&scaler, folder, "activation_scaler.json", err);
    }
    if (st == SAE_OK)
        st = sae_facts_real(scaler, "scaling_factor", &c, &found, err);
    sae_facts_free(scaler);
    if (st != SAE_OK)
        return st;
    v.number = (float)c;
    if (found && (!isfinite(v.number) || !(v.number > 0.0f)))
        return REFUSE(err, "activation_scaler.json",
                      "\"scaling_factor\" of activation_scaler.json is %g, wanted a number above 0",
                      c);
    if (found)
        sae_reading_set(&b->reading, SAE_FIELD_INPUT, &v, SAE_FROM_FILE);
    else if (!is_stated(b, SAE_FIELD_INPUT))
        return REFUSE(err, "cfg.json",
                      "x is multiplied by a constant (normalize_activations) that the files do not "
                      "hold; state input=scale:C");
    if (is_transcoder && !is_stated(b, SAE_FIELD_OUTPUT))
        return REFUSE(err, "cfg.json",
                      "whether the output of a transcoder is divided by the "
                      "constant depends on how it was saved; state output=");
    return SAE_OK;
}

static enum sae_status sae_lens_input(struct sae_file *b, bool is_transcoder, struct sae_err *err)
{
    static const char key[] = "normalize_activations";
    const struct sae_fact *fact = sae_facts_find(b->config, key);
    const char *text = "none";
    bool found = false;
    enum sae_status st = SAE_OK;

    if (fact && fact->kind == SAE_FACT_BOOL)
        text = fact->u.b ? "expected_average_only_in" : "none";
    else
        st = sae_facts_text(b->config, key, &text, &found, err);
    if (st != SAE_OK || strcmp(text, "none") == 0)
        return st;
    if (strcmp(text, "constant_norm_rescale") == 0)
        file_says(b, SAE_FIELD_INPUT, "rms");
    else if (strcmp(text, "layer_norm") == 0)
        file_says(b, SAE_FIELD_INPUT, "layer_norm");
    else if (strcmp(text, "expected_average_only_in") == 0)
        return sae_lens_constant(b, is_transcoder, err);
    else
        return REFUSE(err, key, "cfg.json has %s \"%.60s\", which saed does not compute", key,
                      text);
    return SAE_OK;
}

static enum sae_status sae_lens_centre(struct sae_file *b, bool is_transcoder, struct sae_err *err)
{
    static const char key[] = "apply_b_dec_to_input";
    bool is_applied = !is_transcoder, found = false;
    enum sae_status st = sae_facts_bool(b->config, key, &is_applied, &found, err);

    if (st != SAE_OK)
        return st;
    if (is_transcoder && is_applied)
        return REFUSE(err, key, "cfg.json has %s true for a transcoder, which SAELens refuses",
                      key);
    if (!found && !is_transcoder)
        NOTE(b, "centre = b_dec is SAELens's default for an absent %s", key);
    file_says(b, SAE_FIELD_CENTRE, is_applied ? "b_dec" : "none");
    return SAE_OK;
}

static enum sae_status sae_lens_score(struct sae_file *b, const struct architecture *a,
                                      struct sae_err *err)
{
    static const char key[] = "rescale_acts_by_decoder_norm";
    bool is_scaled = a->is_batch, found = false;
    enum sae_status st = SAE_OK;

    if (a->keeps_top_k || a->is_batch)
        st = sae_facts_bool(b->config, key, &is_scaled, &found, err);
    if (st != SAE_OK || !(a->keeps_top_k || a->is_batch))
        return st;
    if (!found)
        NOTE(b, "score = %s is SAELens's default for an absent %s",
             is_scaled ? "decoder_norm_folded" : "value", key);
    if (is_scaled) {
        file_says(b, SAE_FIELD_SCORE, "decoder_norm_folded");
        NOTE(b, "f is in units of the decoder norm; Neuronpedia shows these");
    }
    return SAE_OK;
}

/* hook_z: the heads of a layer, one behind the other. */
static enum sae_status sae_lens_reshape(struct sae_file *b, struct sae_err *err)
{
    const char *text = "none";
    bool found = false;
    enum sae_status st = sae_facts_text(b->config, "reshape_activations", &text, &found, err);

    if (st != SAE_OK)
        return st;
    if (strcmp(text, "hook_z") == 0)
        NOTE(b, "hook_z: x is the heads of the layer concatenated");
    else if (strcmp(text, "none") != 0)
        return REFUSE(err, "reshape_activations",
                      "cfg.json has reshape_activations \"%.60s\", which saed does not compute",
                      text);
    return SAE_OK;
}

/* The threshold of a thresholded architecture; an architecture whose own tensor is missing is
 * refused. */
static enum sae_status sae_lens_own(struct sae_file *b, const struct architecture *a,
                                    struct sae_err *err)
{
    bool is_gated = strcmp(a->activation, "gated") == 0;
    const char *key = is_gated ? "r_mag" : a->is_batch ? "topk_threshold" : "threshold";
    bool is_log = !is_gated && !a->is_batch && !has(b, key) && has(b, "log_threshold");

    if (!is_gated && strcmp(a->activation, "threshold") != 0)
        return SAE_OK;
    if (!is_gated)
        file_says(b, SAE_FIELD_THRESHOLD, is_log ? "exp:log_threshold" : key);
    if (has(b, key) || is_log || is_stated(b, SAE_FIELD_ACTIVATION) ||
        (!is_gated && is_stated(b, SAE_FIELD_THRESHOLD)))
        return SAE_OK;
    return REFUSE(
        err, "architecture",
        "cfg.json has the architecture \"%s\", and the file has no tensor \"%s\"; state %s",
        a->name, key, is_gated ? "activation=" : "threshold= or activation=");
}

enum sae_status sae_settle_sae_lens(struct sae_file *b, struct sae_err *err)
{
    bool v6 = is_v6(b->config);
    const struct architecture *a = NULL;
    enum sae_status st = sae_say_need_config(b, "cfg.json", err);

    if (st == SAE_OK)
        st = sae_lens_architecture(b, v6, &a, err);
    if (st != SAE_OK)
        return st;
    file_says(b, SAE_FIELD_ACTIVATION, a->activation);
    file_says(b, SAE_FIELD_KIND, a->is_transcoder ? "transcoder" : "sae");
    if (a->is_transcoder)
        row_says(b, SAE_FIELD_OUTPUT, "none");
    if (a->has_skip)
        file_says(b, SAE_FIELD_SKIP, "W_skip@m,d");
    st = sae_lens_own(b, a, err);
    if (st == SAE_OK)
        st = sae_say_no_scaling_factor(b, err);
    if (st == SAE_OK)
        st = sae_lens_centre(b, a->is_transcoder, err);
    if (st == SAE_OK)
        st = sae_lens_input(b, a->is_transcoder, err);
    if (st == SAE_OK && a->keeps_top_k)
        st = v6 ? sae_say_config_k(b, "k", 100, "SAELens", err)
                : sae_say_config_k(b, "activation_fn_kwargs.k", 0, "SAELens", err);
    if (st == SAE_OK)
        st = sae_lens_score(b, a, err);
    if (st == SAE_OK)
        st = sae_lens_reshape(b, err);
    if (st == SAE_OK && !a->is_transcoder && !a->keeps_top_k && !a->is_batch)
        NOTE(b, "Neuronpedia shows f times the decoder norm (normalize_decoder=unit)");
    if (st == SAE_OK && strcmp(a->activation, "gated") == 0)
        NOTE(b,
             "SAELens folds exp(r_mag) into W_enc before the product; the same but for rounding");
    return st;
}
