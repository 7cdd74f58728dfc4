/* producers.c - what the files of each producer say beside their tensors, into a reading: the
 * `settle` of layout.c's rows (formats 4.2). See file.h.
 *
 * A config's widths are never looked at, an absent key takes the producer's own default, with a
 * note. Sources: research of the producers' loaders; defaults as in their code. Longer than most: a
 * section for each producer, all by the same few helpers. */
#include "lib/dict/producers.h"

#include "lib/load/config.h"
#include "lib/load/folder.h"
#include "lib/scan.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NOTE(b, ...) sae_dict_add_note(&(b)->info, __VA_ARGS__)
#define REFUSE(err, where, ...) sae_err_set(err, SAE_E_FORMAT, where, __VA_ARGS__)

static void row_says(struct sae_file *b, enum sae_field f, const char *text)
{
    sae_reading_say(&b->reading, f, text, SAE_FROM_ROW);
}

static void file_says(struct sae_file *b, enum sae_field f, const char *text)
{
    sae_reading_say(&b->reading, f, text, SAE_FROM_FILE);
}

static bool is_stated(const struct sae_file *b, enum sae_field f)
{
    return b->stated->reading.field[f].is_set;
}

static bool has(const struct sae_file *b, const char *key)
{
    return sae_file_find(b, key) != SIZE_MAX;
}

static enum sae_status need_config(const struct sae_file *b, const char *name, struct sae_err *err)
{
    return b->config ? SAE_OK
                     : REFUSE(err, name, "%s wants %s beside the weights, and there is none",
                              b->layout->format, name);
}

static void keep(struct sae_file *b, int64_t k)
{
    struct sae_value v = {.choice = SAE_SELECT_TOP_K, .count = (uint64_t)k};

    sae_reading_set(&b->reading, SAE_FIELD_SELECT, &v, SAE_FROM_FILE);
}

/* k under `path` of the config, `fallback` where it is not there; 0: then it must be stated. */
static enum sae_status take_k(struct sae_file *b, const char *path, int64_t fallback,
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
    keep(b, k);
    return SAE_OK;
}

/* A finetuned file multiplies f by it before the decoder; of ones it is nothing. */
static enum sae_status check_scaling_factor(struct sae_file *b, struct sae_err *err)
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

/* Does the path hold `word`, in any case? */
static bool path_holds(const char *path, const char *word)
{
    return strcasestr(path, word) != NULL;
}

/* ---- dictionary_learning ------------------------------------------------------------------ */

/* Classes of the same keys: the config says which. */
enum sae_status sae_settle_top_k(struct sae_file *b, struct sae_err *err)
{
    const char *name = NULL;
    bool found = false;
    enum sae_status st = sae_facts_text(b->config, "trainer.dict_class", &name, &found, err);

    if (st != SAE_OK || !found || strcmp(name, "BatchTopKSAE") != 0)
        return st;
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

/* ---- SAELens ------------------------------------------------------------------------------ */

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
    enum sae_status st = need_config(b, "cfg.json", err);

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
        st = check_scaling_factor(b, err);
    if (st == SAE_OK)
        st = sae_lens_centre(b, a->is_transcoder, err);
    if (st == SAE_OK)
        st = sae_lens_input(b, a->is_transcoder, err);
    if (st == SAE_OK && a->keeps_top_k)
        st = v6 ? take_k(b, "k", 100, "SAELens", err)
                : take_k(b, "activation_fn_kwargs.k", 0, "SAELens", err);
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

/* ---- Gemma Scope -------------------------------------------------------------------------- */

static enum sae_status gemma_scope_path(struct sae_file *b, struct sae_err *err)
{
    if (path_holds(b->path, "transcoder")) {
        file_says(b, SAE_FIELD_KIND, "transcoder");
        NOTE(b, "kind = transcoder comes from the path");
    }
    if (!path_holds(b->path, "embedding/"))
        return SAE_OK;
    if (!is_stated(b, SAE_FIELD_INPUT))
        return REFUSE(err, "",
                      "below \"embedding\" x may be a row of the embedding table or what "
                      "the model makes of it; state input=none or input=scale:C, C = 1/sqrt(d)");
    NOTE(b, "SAELens scales W_enc and W_dec by sqrt(d) here and leaves b_dec unscaled");
    return SAE_OK;
}

enum sae_status sae_settle_gemma_scope(struct sae_file *b, struct sae_err *err)
{
    enum sae_status st = check_scaling_factor(b, err);

    return st == SAE_OK ? gemma_scope_path(b, err) : st;
}

enum sae_status sae_settle_gemma_scope_2(struct sae_file *b, struct sae_err *err)
{
    const char *in = NULL, *out = NULL;
    bool found = false;
    enum sae_status st = sae_facts_text(b->config, "hf_hook_point_in", &in, &found, err);

    if (st == SAE_OK)
        st = sae_facts_text(b->config, "hf_hook_point_out", &out, &found, err);
    if (st == SAE_OK)
        st = gemma_scope_path(b, err);
    if (st == SAE_OK && in && out && strcmp(in, out) != 0)
        file_says(b, SAE_FIELD_KIND, "transcoder");
    if (st == SAE_OK && has(b, "affine_skip_connection")) {
        row_says(b, SAE_FIELD_SKIP, "affine_skip_connection@d,m");
        NOTE(b,
             "the skip is x A as the producer computes it; SAELens (seen to 6.49) computes x A^T");
    }
    return st;
}

/* ---- circuit-tracer ----------------------------------------------------------------------- */

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
    keep(b, k);
    return SAE_OK;
}

enum sae_status sae_settle_circuit_tracer(struct sae_file *b, struct sae_err *err)
{
    static const char threshold[] = "activation_function.threshold";
    const char *activation = NULL;
    bool found = false, is_top_k, has_threshold = has(b, threshold);
    enum sae_status st = sae_facts_text(b->config, "activation", &activation, &found, err);

    if (st != SAE_OK)
        return st;
    is_top_k = (found && strcmp(activation, "topk") == 0) || has(b, "k");
    if (has_threshold && (is_top_k || (found && strcmp(activation, "relu") == 0)))
        return REFUSE(err, threshold, "the file has \"%s\", and %s; state activation=", threshold,
                      is_top_k ? "a k" : "config.yaml says relu");
    if (found && !has_threshold && strcmp(activation, "topk") != 0 &&
        strcmp(activation, "relu") != 0)
        return REFUSE(err, "config.yaml",
                      "config.yaml has the activation \"%.60s\", and the file "
                      "no \"%s\"",
                      activation, threshold);
    row_says(b, SAE_FIELD_KIND, "transcoder");
    row_says(b, SAE_FIELD_ACTIVATION,
             has_threshold ? "threshold_signed"
             : is_top_k    ? "linear"
                           : "relu");
    if (has_threshold)
        row_says(b, SAE_FIELD_THRESHOLD, threshold);
    if (has(b, "W_skip"))
        row_says(b, SAE_FIELD_SKIP, "W_skip@m,d");
    if (!has_threshold && !is_top_k)
        NOTE(b, "sets saved again by circuit-tracer's cache lose their activation: compare L0");
    return circuit_tracer_k(b, is_top_k, err);
}

/* ---- sparsify ----------------------------------------------------------------------------- */

enum sae_status sae_settle_sparsify(struct sae_file *b, struct sae_err *err)
{
    static const char *const known[] = {
        "d_in", "expansion_factor", "num_latents", "activation", "normalize_decoder", "multi_topk",
        "k",    "skip_connection",  "transcode",   "signed"};
    const char *activation = "topk";
    bool transcodes = false, is_signed = false, found = false;
    enum sae_status st = need_config(b, "cfg.json", err);

    if (st == SAE_OK)
        st = sae_facts_text(b->config, "activation", &activation, &found, err);
    if (st == SAE_OK)
        st = sae_facts_bool(b->config, "signed", &is_signed, &found, err);
    if (st == SAE_OK)
        st = sae_facts_bool(b->config, "transcode", &transcodes, &found, err);
    if (st != SAE_OK)
        return st;
    if (is_signed)
        return REFUSE(err, "signed",
                      "cfg.json says signed: the largest by magnitude are kept, "
                      "which saed does not compute");
    if (strcmp(activation, "topk") != 0)
        return REFUSE(err, "activation",
                      "cfg.json has the activation \"%.60s\", which saed does not "
                      "compute",
                      activation);
    file_says(b, SAE_FIELD_CENTRE, transcodes ? "none" : "b_dec");
    if (!found)
        NOTE(b, "centre = b_dec is sparsify's default for an absent transcode");
    if (has(b, "W_skip"))
        row_says(b, SAE_FIELD_SKIP, "W_skip@m,d");
    file_says(b, SAE_FIELD_KIND, transcodes || has(b, "W_skip") ? "transcoder" : "sae");
    for (const struct sae_fact *f = sae_facts_root(b->config)->u.first; f; f = f->next) {
        size_t i = 0;

        while (i < SAE_COUNTOF(known) && strcmp(known[i], f->key) != 0)
            i++;
        if (i == SAE_COUNTOF(known))
            NOTE(b, "cfg.json has a field that is not looked at: %.60s", f->key);
    }
    return take_k(b, "k", 32, "sparsify", err);
}

/* ---- sentence-transformers ---------------------------------------------------------------- */

enum sae_status sae_settle_sentence_transformers(struct sae_file *b, struct sae_err *err)
{
    bool normalizes = false, found = false;
    enum sae_status st = need_config(b, "config.json", err);

    if (st == SAE_OK)
        st = sae_facts_bool(b->config, "normalize", &normalizes, &found, err);
    if (st != SAE_OK)
        return st;
    file_says(b, SAE_FIELD_INPUT, normalizes ? "layer_norm" : "none");
    if (!found)
        NOTE(b, "input = none is sentence-transformers's default for an absent normalize");
    return take_k(b, "k", 8, "sentence-transformers", err);
}

/* ---- Qwen-Scope, OpenAI, bare keys -------------------------------------------------------- */

/* "L0_50" at the end of the nearest component of the path. */
static bool l0_of_path(const char *path, int64_t *k, char word[32])
{
    size_t end = strlen(path);

    while (end > 0) {
        size_t begin = end, at;

        while (begin > 0 && path[begin - 1] != '/')
            begin--;
        at = end;
        while (at > begin && sae_is_digit(path[at - 1]))
            at--;
        if (at < end && end - at < 10 && at - begin >= 3 && memcmp(path + at - 3, "L0_", 3) == 0) {
            *k = 0;
            for (size_t i = at; i < end; i++)
                *k = *k * 10 + (path[i] - '0');
            snprintf(word, 32, "%.*s", (int)(end - at + 3), path + at - 3);
            return true;
        }
        end = begin > 0 ? begin - 1 : 0;
    }
    return false;
}

enum sae_status sae_settle_qwen_scope(struct sae_file *b, struct sae_err *err)
{
    char word[32];
    int64_t k = 0;

    NOTE(b, "SAELens applies relu after the top-k; they differ where fewer than k values are "
            "positive");
    if (l0_of_path(b->path, &k, word) && k > 0) {
        NOTE(b, "select = top_k:%lld comes from the path component %s", (long long)k, word);
        keep(b, k);
        return SAE_OK;
    }
    return is_stated(b, SAE_FIELD_SELECT)
               ? SAE_OK
               : REFUSE(err, "k",
                        "k stands in the name of a folder (L0_50), and this path has "
                        "none; state k=N, or format=custom for a file with a ReLU");
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
        keep(b, k);
    else if (!is_stated(b, SAE_FIELD_SELECT))
        return REFUSE(err, "activation",
                      "\"activation\" is TopK, and the file has no k; state k=N");
    return SAE_OK;
}

/* Four keys that several producers use, and nothing that says which formula. */
enum sae_status sae_settle_bare(struct sae_file *b, struct sae_err *err)
{
    const struct sae_tensor *enc = sae_load_tensor(b->ts, sae_file_find(b, "W_enc"));
    const struct sae_tensor *bias = sae_load_tensor(b->ts, sae_file_find(b, "b_enc"));

    if (!b->stated->format && strcmp(sae_load_container(b->ts), "pt") == 0 &&
        !has(b, "threshold") && enc->ndim == 2 && bias->ndim == 1 &&
        enc->shape[0] == bias->shape[0] && enc->shape[0] != enc->shape[1]) {
        b->layout = sae_layout_of_format("qwen_scope");
        sae_layout_reading(b->layout, &b->reading);
        return sae_settle_qwen_scope(b, err);
    }
    if (enc->ndim == 2 && enc->shape[0] == enc->shape[1])
        return REFUSE(err, "W_enc",
                      "\"W_enc\" is square, so its shape does not tell which way round "
                      "it lies; state format=custom and encoder=W_enc@d,F or @F,d");
    if (is_stated(b, SAE_FIELD_CENTRE) && (is_stated(b, SAE_FIELD_ACTIVATION) || b->stated->has_k ||
                                           is_stated(b, SAE_FIELD_THRESHOLD)))
        return SAE_OK;
    return REFUSE(err, "",
                  "no config says the formula of its keys; state centre=b_dec or "
                  "centre=none, and activation=, k= or threshold=");
}
