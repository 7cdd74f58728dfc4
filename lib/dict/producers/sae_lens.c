/* sae_lens.c - SAELens's folders, cfg.json beside sae_weights.safetensors, of version 6 and before.
 * See producers.h. */
#include "lib/dict/producers/say.h"

#include "lib/load/config.h"
#include "lib/load/folder.h"
#include "lib/scan.h"

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

/* Known, and not computed. */
static const struct {
    const char *name, *why;
} refused[] = {
    {"temporal", ": its features look at the rows before theirs"},
    {"matching_pursuit", ": it finds one feature after another in what is left of x"},
};

/* 6.0 wrote its version; before, the config was flat. */
static bool is_v6(const struct sae_facts *config)
{
    const struct sae_fact *v = sae_facts_find(config, "sae_lens_version");
    uint64_t major;
    bool fits;

    if (!v)
        v = sae_facts_find(config, "metadata.sae_lens_version");
    return v && v->kind == SAE_FACT_TEXT &&
           sae_scan_u64(v->u.text, v->u.text + v->n, &major, &fits) && major >= 6;
}

static enum sae_status unknown_architecture(const char *name, struct sae_err *err)
{
    const char *why = "";

    for (size_t i = 0; i < SAE_COUNTOF(refused); i++)
        if (strcmp(refused[i].name, name) == 0)
            why = refused[i].why;
    return REFUSE(err, "cfg.json",
                  "cfg.json has the architecture \"%.60s\", which saed does not read%s", name, why);
}

/* Before version 6 the activation made a standard one topk, under either of two names, of which
 * SAELens takes the one that stands last; *name stays NULL where there is none. */
static enum sae_status sae_lens_activation(const struct sae_file *b, const char **name,
                                           struct sae_err *err)
{
    static const char *const keys[] = {"activation_fn", "activation_fn_str"};
    const char *said[] = {NULL, NULL};
    enum sae_status st = SAE_OK;

    for (size_t i = 0; st == SAE_OK && i < SAE_COUNTOF(keys); i++) {
        bool found = false;

        st = sae_facts_text(b->config, keys[i], &said[i], &found, err);
        if (st == SAE_OK && found && strcmp(said[i], "topk") != 0 && strcmp(said[i], "relu") != 0 &&
            !is_stated(b, SAE_FIELD_ACTIVATION))
            return REFUSE(err, "cfg.json",
                          "cfg.json has the activation \"%.60s\", which saed does not compute; "
                          "state activation=",
                          said[i]);
        if (found && (!*name || strcmp(said[i], "topk") == 0))
            *name = said[i];
    }
    if (st == SAE_OK && said[0] && said[1] && strcmp(said[0], said[1]) != 0 &&
        !sae_statement_says_selection(b->stated))
        return REFUSE(err, "cfg.json",
                      "cannot choose between two activations: cfg.json has the activation_fn "
                      "\"%.40s\" and the activation_fn_str \"%.40s\"; state k=N or k=none",
                      said[0], said[1]);
    return st;
}

/* Its reading under another architecture is another in each version of SAELens. */
static enum sae_status sae_lens_two(const struct sae_file *b, const char *name, struct sae_err *err)
{
    return is_stated(b, SAE_FIELD_ACTIVATION)
               ? SAE_OK
               : REFUSE(err, "cfg.json",
                        "cannot choose between two readings: cfg.json has the architecture "
                        "\"%.40s\" and the activation \"topk\" (SAELens 6 keeps the k largest, 5 "
                        "both); state activation=, and k=N for the k largest",
                        name);
}

/* What cfg.json calls its architecture; *found is false where it is the default. */
static enum sae_status sae_lens_architecture(struct sae_file *b, bool v6,
                                             const struct architecture **out, bool *found,
                                             struct sae_err *err)
{
    const char *name = "standard", *activation = NULL;
    bool by_activation;
    enum sae_status st = sae_facts_text(b->config, "architecture", &name, found, err);

    if (st == SAE_OK && !*found && sae_facts_find(b->config, "architecture") &&
        !is_stated(b, SAE_FIELD_ACTIVATION))
        return REFUSE(err, "cfg.json",
                      "cfg.json has the architecture null, which SAELens refuses; state "
                      "activation=");
    if (st == SAE_OK && !v6)
        st = sae_lens_activation(b, &activation, err);
    by_activation = activation && strcmp(activation, "topk") == 0;
    if (st == SAE_OK && by_activation && strcmp(name, "standard") != 0 && strcmp(name, "topk") != 0)
        st = sae_lens_two(b, name, err);
    if (st != SAE_OK)
        return st;
    if (by_activation && strcmp(name, "standard") == 0) {
        name = "topk";
        *found = true;
    }
    for (size_t i = 0; i < SAE_COUNTOF(architectures); i++)
        if (strcmp(architectures[i].name, name) == 0) {
            *out = &architectures[i];
            if (!*found)
                sae_say_default(b, SAE_FIELD_ACTIVATION, (*out)->activation, "SAELens",
                                "architecture");
            return SAE_OK;
        }
    return unknown_architecture(name, err);
}

/* Before version 6 it stood among the activation's arguments, and had no default. */
static enum sae_status sae_lens_k(struct sae_file *b, bool v6, struct sae_err *err)
{
    static const char old[] = "activation_fn_kwargs.k";
    const struct sae_fact *k = sae_facts_find(b->config, "k");
    const struct sae_fact *among = v6 ? NULL : sae_facts_find(b->config, old);

    if (k && among && k->kind == SAE_FACT_INT && among->kind == SAE_FACT_INT &&
        k->u.i != among->u.i && !is_stated(b, SAE_FIELD_SELECT))
        return REFUSE(err, "cfg.json",
                      "cannot choose between two k: cfg.json has \"k\": %lld and \"%s\": %lld; "
                      "state k=N",
                      (long long)k->u.i, old, (long long)among->u.i);
    if (v6 || (k && !among))
        return sae_say_config_k(b, "k", 100, "SAELens", err);
    return sae_say_config_k(b, old, 0, "SAELens", err);
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
    else if (!is_stated(b, SAE_FIELD_INPUT))
        return REFUSE(err, key,
                      "cfg.json has %s \"%.60s\", which saed does not compute; state input=", key,
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
    if (!found && !is_transcoder && sae_facts_find(b->config, key) &&
        !is_stated(b, SAE_FIELD_CENTRE))
        return REFUSE(err, key,
                      "cfg.json has %s null, neither true nor false, and SAELens cannot compute "
                      "with it; state centre=b_dec or centre=none",
                      key);
    if (is_transcoder && is_applied && !is_stated(b, SAE_FIELD_CENTRE))
        return REFUSE(err, key,
                      "cfg.json has %s true for a transcoder, which SAELens refuses; state "
                      "centre=none or centre=b_dec",
                      key);
    if (!found && !is_transcoder)
        sae_say_default(b, SAE_FIELD_CENTRE, "b_dec", "SAELens", key);
    says(b, SAE_FIELD_CENTRE, is_applied ? "b_dec" : "none", found);
    return SAE_OK;
}

static enum sae_status sae_lens_score(struct sae_file *b, const struct architecture *a,
                                      struct sae_err *err)
{
    static const char key[] = "rescale_acts_by_decoder_norm";
    const struct sae_value *stated = &b->stated->reading.field[SAE_FIELD_SCORE].value;
    bool is_scaled = a->is_batch, found = false;
    enum sae_status st = SAE_OK;

    if (a->keeps_top_k || a->is_batch)
        st = sae_facts_bool(b->config, key, &is_scaled, &found, err);
    if (st != SAE_OK || !(a->keeps_top_k || a->is_batch))
        return st;
    if (!found && sae_facts_find(b->config, key)) { /* null, which Python takes for false */
        is_scaled = false;
        found = true;
    }
    if (!found)
        sae_say_default(b, SAE_FIELD_SCORE, is_scaled ? "decoder_norm_folded" : "value", "SAELens",
                        key);
    if (is_scaled)
        says(b, SAE_FIELD_SCORE, "decoder_norm_folded", found);
    if (is_stated(b, SAE_FIELD_SCORE) ? stated->choice == SAE_SCORE_DECODER_NORM_FOLDED : is_scaled)
        NOTE(b, "f is in units of the decoder norm; Neuronpedia shows these");
    return st;
}

/* Of which hook, before version 6. */
static bool is_of_hook_z(const struct sae_facts *config)
{
    const struct sae_fact *name = sae_facts_find(config, "hook_name");

    if (!name)
        name = sae_facts_find(config, "hook_point");
    return name && name->kind == SAE_FACT_TEXT && strstr(name->u.text, "hook_z");
}

/* hook_z: the heads of a layer, one behind the other, or one of them. */
static enum sae_status sae_lens_reshape(struct sae_file *b, bool v6, struct sae_err *err)
{
    const char *text = "none";
    int64_t head = 0;
    bool found = false, is_one_head = false;
    enum sae_status st = sae_facts_text(b->config, "reshape_activations", &text, &found, err);

    if (st == SAE_OK && !found && !v6 && is_of_hook_z(b->config))
        text = "hook_z";
    if (st == SAE_OK && strcmp(text, "hook_z") == 0)
        st = sae_facts_int(b->config, v6 ? "metadata.hook_head_index" : "hook_head_index", &head,
                           &is_one_head, err);
    if (st == SAE_OK && strcmp(text, "hook_z") == 0 && !is_one_head && !v6)
        st = sae_facts_int(b->config, "hook_point_head_index", &head, &is_one_head, err);
    if (st != SAE_OK || strcmp(text, "none") == 0)
        return st;
    if (strcmp(text, "hook_z") != 0)
        return REFUSE(err, "reshape_activations",
                      "cfg.json has reshape_activations \"%.60s\", which saed does not compute; "
                      "format=custom does without the config",
                      text);
    if (is_one_head)
        NOTE(b, "hook_z: x is head %lld of the layer", (long long)head);
    else
        NOTE(b, "hook_z: x is the heads of the layer concatenated");
    return SAE_OK;
}

/* The tensors that an architecture is made of, but for those that all have: one that is missing is
 * refused, unless what is stated does without. */
static enum sae_status sae_lens_gap(const struct sae_file *b, const struct architecture *a,
                                    struct sae_err *err)
{
    bool is_gated = strcmp(a->activation, "gated") == 0;
    bool is_thresholded = strcmp(a->activation, "threshold") == 0;
    static const char *const of_gated[] = {"b_mag", "b_gate", "r_mag"}, *const of_others[] = {
                                                                            "b_enc"};
    const char *const *wanted = is_gated ? of_gated : of_others;
    size_t n_wanted = is_gated ? SAE_COUNTOF(of_gated) : SAE_COUNTOF(of_others);
    const char *missing = NULL, *state = "activation=";

    for (size_t i = 0; i < n_wanted && !is_stated(b, SAE_FIELD_ACTIVATION); i++)
        if (!has(b, wanted[i]))
            missing = wanted[i];
    if (is_thresholded && b->reading.field[SAE_FIELD_THRESHOLD].value.choice == SAE_THRESHOLD_KEY &&
        !has(b, b->reading.field[SAE_FIELD_THRESHOLD].value.key) &&
        !is_stated(b, SAE_FIELD_ACTIVATION) && !is_stated(b, SAE_FIELD_THRESHOLD)) {
        missing = b->reading.field[SAE_FIELD_THRESHOLD].value.key;
        state = "threshold= or activation=";
    }
    if (a->has_skip && !has(b, "W_skip") && !is_stated(b, SAE_FIELD_SKIP) &&
        !b->stated->encodes_only) {
        missing = "W_skip";
        state = "skip=";
    }
    return missing ? REFUSE(err, "architecture",
                            "cfg.json has the architecture \"%s\", and the file has no tensor "
                            "\"%s\"; state %s",
                            a->name, missing, state)
                   : SAE_OK;
}

/* SAELens casts what it loads to the config's dtype. */
static enum sae_status sae_lens_dtype(struct sae_file *b, struct sae_err *err)
{
    static const char torch[] = "torch.";
    const struct sae_tensor *enc = sae_load_tensor(b->ts, sae_file_find(b, "W_enc"));
    const char *name = NULL;
    bool found = false;
    enum sae_status st = sae_facts_text(b->config, "dtype", &name, &found, err);

    if (st != SAE_OK || !found)
        return st;
    name += strncmp(name, torch, strlen(torch)) == 0 ? strlen(torch) : 0;
    if (strcmp(name, enc->dtype_name) != 0)
        NOTE(b, "SAELens casts the weights to %.40s; saed uses them as stored", name);
    return SAE_OK;
}

/* What cfg.json's architecture says of the reading. */
static void sae_lens_says(struct sae_file *b, const struct architecture *a, bool found)
{
    const char *threshold = a->is_batch                                       ? "topk_threshold"
                            : !has(b, "threshold") && has(b, "log_threshold") ? "exp:log_threshold"
                                                                              : "threshold";

    says(b, SAE_FIELD_ACTIVATION, a->activation, found);
    says(b, SAE_FIELD_KIND, a->is_transcoder ? "transcoder" : "sae", found);
    if (a->is_transcoder)
        row_says(b, SAE_FIELD_OUTPUT, "none");
    if (a->has_skip)
        file_says(b, SAE_FIELD_SKIP, "W_skip@m,d");
    if (strcmp(a->activation, "threshold") == 0)
        file_says(b, SAE_FIELD_THRESHOLD, threshold);
}

/* What it would say, had it a cfg.json. */
static unsigned sae_lens_fields(const struct sae_file *b)
{
    const struct sae_reading_field *kind = &b->stated->reading.field[SAE_FIELD_KIND];
    unsigned fields = 1u << SAE_FIELD_KIND | 1u << SAE_FIELD_INPUT | 1u << SAE_FIELD_CENTRE |
                      1u << SAE_FIELD_ACTIVATION | 1u << SAE_FIELD_SELECT | 1u << SAE_FIELD_SCORE;

    if (kind->is_set && kind->value.choice == SAE_KIND_TRANSCODER)
        fields |= 1u << SAE_FIELD_OUTPUT | 1u << SAE_FIELD_SKIP;
    return fields;
}

enum sae_status sae_settle_sae_lens(struct sae_file *b, struct sae_err *err)
{
    bool v6 = is_v6(b->config), found = false;
    const struct architecture *a = NULL;
    enum sae_status st = sae_say_need_config(b, "cfg.json", sae_lens_fields(b), err);

    if (st != SAE_OK || !b->config)
        return st;
    st = sae_lens_architecture(b, v6, &a, &found, err);
    if (st != SAE_OK)
        return st;
    sae_lens_says(b, a, found);
    st = sae_lens_gap(b, a, err);
    if (st == SAE_OK)
        st = sae_lens_centre(b, a->is_transcoder, err);
    if (st == SAE_OK)
        st = sae_lens_input(b, a->is_transcoder, err);
    if (st == SAE_OK && a->keeps_top_k)
        st = sae_lens_k(b, v6, err);
    if (st == SAE_OK)
        st = sae_lens_score(b, a, err);
    if (st == SAE_OK)
        st = sae_lens_reshape(b, v6, err);
    if (st == SAE_OK)
        st = sae_lens_dtype(b, err);
    if (st == SAE_OK && !a->is_transcoder && !a->keeps_top_k && !a->is_batch)
        NOTE(b, "Neuronpedia shows f times the decoder norm (normalize_decoder=unit)");
    if (st == SAE_OK && strcmp(a->activation, "gated") == 0)
        NOTE(b,
             "SAELens folds exp(r_mag) into W_enc before the product; the same but for rounding");
    return st;
}
