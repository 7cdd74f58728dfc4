/* locate.c - which file holds the weights that a path means, of which format it is by what stands
 * beside it, and the config that says so (formats 4.1). See file.h.
 *
 * A folder's names are looked at before any file is opened; a config has the marks of its format or
 * is nobody's. Keys alone decide what this leaves open (choose.c). */
#include "lib/dict/file.h"

#include "lib/dict/text.h"
#include "lib/load/config.h"
#include "lib/load/folder.h"

#include <stdio.h>
#include <string.h>

#define SHOWN_FILES 10

/* A config beside a weights file; the format is one where `marks` are in it. */
static const struct rule {
    const char *format, *config;
    const char *weights[2]; /* NULL: whatever there is */
    const char *marks[2];
} rules[] = {
    {"sae_lens", "cfg.json", {"sae_weights.safetensors"}, {NULL}},
    {"sparsify", "cfg.json", {"sae.safetensors"}, {NULL}},
    {"llama_scope", "hyperparams.json", {NULL}, {"act_fn"}},
    {"llamascopium", "config.json", {NULL}, {"sae_type"}},
    {"sentence_transformers",
     "config.json",
     {"model.safetensors", "pytorch_model.bin"},
     {"input_dim", "hidden_dim"}},
    {"dictionary_learning", "config.json", {"ae.pt"}, {"trainer.dict_class"}},
};

/* Formats that a file's name alone tells, and the config that may stand beside it. In a pattern '#'
 * is digits; one that begins with '.' is an ending. */
static const struct {
    const char *format, *pattern, *config;
} names[] = {
    {"gemma_scope", "params.npz", NULL},
    {"gemma_scope_2", "params.safetensors", "config.json"},
    {"gemma_scope_2", "params_layer_#.safetensors", "config.json"},
    {"circuit_tracer", "layer_#.safetensors", "config.yaml"},
    {"qwen_scope", ".sae.pt", NULL},
};

static bool fits(const char *name, const char *pattern)
{
    size_t n = strlen(name), m = strlen(pattern);

    if (pattern[0] == '.')
        return n > m && strcmp(name + n - m, pattern) == 0;
    for (; *pattern; pattern++)
        if (*pattern != '#') {
            if (*name++ != *pattern)
                return false;
        } else {
            if (strspn(name, "0123456789") == 0)
                return false;
            name += strspn(name, "0123456789");
        }
    return *name == '\0';
}

static bool is_weights_of(const struct rule *rule, const char *name)
{
    if (!rule->weights[0])
        return true;
    return strcmp(name, rule->weights[0]) == 0 ||
           (rule->weights[1] && strcmp(name, rule->weights[1]) == 0);
}

static bool has_marks(const struct rule *rule, const struct sae_facts *config)
{
    for (size_t i = 0; i < 2; i++)
        if (rule->marks[i] && !sae_facts_find(config, rule->marks[i]))
            return false;
    return true;
}

/* What a rule finds in the folder; *config stays NULL where it does not fit. */
static enum sae_status try_rule(const struct rule *rule, const char *folder,
                                struct sae_facts **config, struct sae_err *err)
{
    struct sae_err low = {0};
    enum sae_status st = sae_config_read(config, folder, rule->config, &low);

    /* A config that cannot be understood is no mark, unless the weights' name is one. */
    if (st == SAE_E_FORMAT && rule->marks[0])
        return SAE_OK;
    if (st != SAE_OK)
        return sae_err_set(err, st, low.where, "%s", low.text);
    if (*config && !has_marks(rule, *config)) {
        sae_facts_free(*config);
        *config = NULL;
    }
    return SAE_OK;
}

static enum sae_status take_config(struct sae_file *b, const struct rule *rule,
                                   struct sae_facts *config, struct sae_err *err)
{
    if (b->config && strcmp(b->format, rule->format) != 0) {
        sae_facts_free(config);
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "cannot choose between two formats that fit: state format=%s or "
                           "format=%s",
                           b->format, rule->format);
    }
    sae_facts_free(b->config);
    b->config = config;
    b->format = rule->format;
    if (sae_layout_of_format(rule->format))
        return SAE_OK;
    return sae_err_set(err, SAE_E_FORMAT, rule->config, "%s is %s's, which saed does not read yet",
                       rule->config, rule->format);
}

/* The rules for the file `name` of `folder`. What is stated leaves one format. */
static enum sae_status try_rules(struct sae_file *b, const char *folder, const char *name,
                                 struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    for (size_t i = 0; st == SAE_OK && i < SAE_COUNTOF(rules); i++) {
        struct sae_facts *config = NULL;

        if (b->stated->format ? strcmp(b->stated->format, rules[i].format) != 0
                              : !is_weights_of(&rules[i], name))
            continue;
        st = try_rule(&rules[i], folder, &config, err);
        if (st == SAE_OK && config)
            st = take_config(b, &rules[i], config, err);
    }
    return st;
}

static enum sae_status try_names(struct sae_file *b, const char *folder, const char *name,
                                 struct sae_err *err)
{
    for (size_t i = 0; !b->config && i < SAE_COUNTOF(names); i++) {
        enum sae_status st = SAE_OK;

        if (b->stated->format ? strcmp(b->stated->format, names[i].format) != 0
                              : b->format || !fits(name, names[i].pattern))
            continue;
        if (names[i].config)
            st = sae_config_read(&b->config, folder, names[i].config, err);
        if (st != SAE_OK)
            return st;
        b->format = names[i].format;
    }
    return SAE_OK;
}

static enum sae_status tell(struct sae_file *b, const char *path, struct sae_err *err)
{
    size_t n = sae_folder_bytes(path);
    char *folder = sae_strdup(path);
    enum sae_status st;

    if (!folder)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot copy its name");
    folder[n] = '\0';
    if (n > 0 && !sae_folder_is(folder)) { /* opening the file will say so */
        sae_free(folder);
        return SAE_OK;
    }
    st = try_rules(b, folder, path + n, err);
    /* Of a file in "checkpoints" the folder above is the one with the config. */
    if (st == SAE_OK && !b->config && n >= 12 && strcmp(folder + n - 12, "checkpoints/") == 0) {
        folder[n - 12] = '\0';
        st = try_rules(b, folder, "ae.pt", err);
    }
    if (st == SAE_OK)
        st = try_names(b, folder, path + n, err);
    if (b->stated->format)
        b->format = b->stated->format;
    sae_free(folder);
    return st;
}

/* The weights file of a folder: that of a rule, else the only one. */
static const char *weights_in(const struct sae_folder *f)
{
    for (size_t i = 0; i < SAE_COUNTOF(rules); i++)
        for (size_t k = 0; k < 2; k++)
            if (rules[i].weights[k] && sae_folder_has(f, rules[i].config) &&
                sae_folder_has(f, rules[i].weights[k]))
                return rules[i].weights[k];
    return sae_folder_n_weights(f) == 1 ? sae_folder_weights(f, 0) : NULL;
}

static enum sae_status no_weights(const struct sae_folder *f, struct sae_err *err)
{
    struct sae_text l = {.len = 0};
    size_t n = sae_folder_n_weights(f);

    if (n == 0)
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "it is a folder without a weights file (ae.pt, sae_weights.safetensors, "
                           "sae.safetensors, params.npz, ... or one that ends in .pt .pth .ckpt "
                           ".bin .safetensors .npz .npy)");
    for (size_t i = 0; i < n && i < SHOWN_FILES; i++)
        sae_text_add(&l, "%s%.40s", i ? ", " : "", sae_folder_weights(f, i));
    return sae_err_set(err, SAE_E_FORMAT, "",
                       "it is a folder with %zu weights files: %s%s; name one", n, l.text,
                       n > SHOWN_FILES ? ", ..." : "");
}

static enum sae_status enter_folder(struct sae_file *b, const char *path, struct sae_err *err)
{
    struct sae_folder *f = NULL;
    enum sae_status st = sae_folder_open(&f, path, err);
    const char *name = st == SAE_OK ? weights_in(f) : NULL;

    if (st == SAE_OK && !name)
        st = no_weights(f, err);
    if (st == SAE_OK) {
        size_t room = strlen(sae_folder_path(f)) + strlen(name) + 1;

        b->weights = sae_calloc(room, 1);
        if (b->weights)
            snprintf(b->weights, room, "%s%s", sae_folder_path(f), name);
        else
            st = sae_err_set(err, SAE_E_NOMEM, "", "cannot make its name");
    }
    sae_folder_close(f);
    return st;
}

enum sae_status sae_file_locate(struct sae_file *b, struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    b->format = b->stated->format;
    if (sae_folder_is(b->path))
        st = enter_folder(b, b->path, err);
    else if (!(b->weights = sae_strdup(b->path)))
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot copy its name");
    return st == SAE_OK ? tell(b, b->weights, err) : st;
}
