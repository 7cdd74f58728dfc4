/* locate.c - which file holds the weights that a path means, of which format it is by what stands
 * beside it, and the config that says so (formats 4.1). See file.h.
 *
 * A folder's names are looked at before any file is opened; a config has the marks of its format or
 * is nobody's. Keys alone decide what this leaves open (choose.c). */
#include "lib/dict/file.h"

#include "lib/dict/text.h"
#include "lib/load/config.h"
#include "lib/load/folder.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SHOWN_FILES 10

/* What OpenMOSS's folders hold, the first that is there. */
#define OPENMOSS_WEIGHTS                                                                      \
    {                                                                                         \
        "sae_weights.safetensors", "sae_weights.pt", "checkpoints/pruned.safetensors",        \
            "checkpoints/pruned.pt", "checkpoints/final.safetensors", "checkpoints/final.pt", \
            "sae_weights.dcp"                                                                 \
    }

/* A config that is a format's where `marks` are in it and one of these weights files is there, seen
 * from the config's folder. In a pattern '#' is digits. */
#define MAX_RULE_WEIGHTS 7
static enum sae_status refuse_openmoss(const struct sae_file *b, struct sae_err *err);
static const struct rule {
    const char *format, *config;
    const char *weights[MAX_RULE_WEIGHTS];
    const char *marks[2];
    /* Of a format that is not read yet: what more is to be said. */
    enum sae_status (*refuse)(const struct sae_file *b, struct sae_err *err);
} rules[] = {
    {"sae_lens", "cfg.json", {"sae_weights.safetensors"}, {NULL}, NULL},
    {"sparsify", "cfg.json", {"sae.safetensors"}, {NULL}, NULL},
    {"llama_scope", "hyperparams.json", OPENMOSS_WEIGHTS, {"act_fn"}, NULL},
    {"llamascopium", "config.json", OPENMOSS_WEIGHTS, {"sae_type"}, refuse_openmoss},
    {"sentence_transformers",
     "config.json",
     {"model.safetensors", "pytorch_model.bin"},
     {"input_dim", "hidden_dim"},
     NULL},
    {"dictionary_learning",
     "config.json",
     {"ae.pt", "checkpoints/ae_#.pt"},
     {"trainer.dict_class"},
     NULL},
};

/* Formats that a file's name tells when it has the key, and the config that may stand beside it. A
 * pattern that begins with '.' is an ending. */
static const struct sae_name_rule {
    const char *format, *pattern, *key, *config; /* key NULL: whatever it has */
} names[] = {
    {"gemma_scope", "params.npz", NULL, NULL},
    {"gemma_scope_2", "params.safetensors", "w_enc", "config.json"},
    {"gemma_scope_2", "params_layer_#.safetensors", "w_enc", "config.json"},
    {"circuit_tracer", "layer_#.safetensors", "W_enc", "config.yaml"},
    {"circuit_tracer", "W_enc_#.safetensors", "W_enc_#", "config.yaml"},
    {"qwen_scope", ".sae.pt", NULL, NULL},
};

static bool is_of(const struct sae_statement *stated, const char *format)
{
    return !stated->format || strcmp(stated->format, format) == 0;
}

static bool fits(const char *name, const char *pattern)
{
    if (pattern[0] == '.')
        return sae_ends_in(name, pattern);
    return sae_layout_fits(pattern, name);
}

static bool is_weights_of(const struct rule *rule, const char *name)
{
    for (size_t i = 0; i < MAX_RULE_WEIGHTS && rule->weights[i]; i++)
        if (fits(name, rule->weights[i]))
            return true;
    return false;
}

static bool has_marks(const struct rule *rule, const struct sae_facts *config)
{
    for (size_t i = 0; i < 2; i++)
        if (rule->marks[i] && !sae_facts_find(config, rule->marks[i]))
            return false;
    return true;
}

/* The config of a rule in the folder; *config stays NULL where it does not fit. */
static enum sae_status try_rule(const struct rule *rule, const char *folder,
                                struct sae_facts **config, struct sae_err *err)
{
    struct sae_err low = {0};
    const struct sae_fact *root;
    enum sae_status st = sae_config_read(config, folder, rule->config, &low);

    /* A config that cannot be understood is no mark, unless the weights' name is one. */
    if (st == SAE_E_FORMAT && rule->marks[0])
        return SAE_OK;
    if (st != SAE_OK)
        return sae_err_set(err, st, low.where, "%s", low.text);
    root = sae_facts_root(*config);
    if (*config && !rule->marks[0] && root->kind != SAE_FACT_DICT)
        st = sae_err_set(err, SAE_E_FORMAT, rule->config, "%s is %s, a dict is wanted",
                         rule->config, sae_fact_describe(root));
    if (*config && (st != SAE_OK || !has_marks(rule, *config))) {
        sae_facts_free(*config);
        *config = NULL;
    }
    return st;
}

/* Try a rule and take what it finds; *fitted tells. Two that fit are one too many. */
static enum sae_status take_rule(struct sae_file *b, const struct rule *rule, const char *folder,
                                 bool *fitted, struct sae_err *err)
{
    struct sae_facts *config = NULL;
    enum sae_status st = try_rule(rule, folder, &config, err);

    *fitted = st == SAE_OK && config;
    if (!*fitted)
        return st;
    if (b->config) {
        sae_facts_free(config);
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "cannot choose between two formats that fit: state format=%s or "
                           "format=%s",
                           b->format, rule->format);
    }
    b->config = config;
    b->format = rule->format;
    return SAE_OK;
}

/* The rules for the file `name` of `folder`. What is stated leaves one format. */
static enum sae_status try_rules(struct sae_file *b, const char *folder, const char *name,
                                 struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    bool fitted;

    for (size_t i = 0; st == SAE_OK && i < SAE_COUNTOF(rules); i++)
        if (b->stated->format ? is_of(b->stated, rules[i].format) : is_weights_of(&rules[i], name))
            st = take_rule(b, &rules[i], folder, &fitted, err);
    return st;
}

static enum sae_status try_names(struct sae_file *b, const char *folder, const char *name,
                                 struct sae_err *err)
{
    for (size_t i = 0; !b->config && !b->named && i < SAE_COUNTOF(names); i++) {
        enum sae_status st = SAE_OK;

        if (b->stated->format ? !is_of(b->stated, names[i].format) : !fits(name, names[i].pattern))
            continue;
        if (names[i].config)
            st = sae_config_read(&b->config, folder, names[i].config, err);
        if (st != SAE_OK)
            return st;
        b->format = names[i].format;
        b->named = &names[i];
    }
    return SAE_OK;
}

/* Of a file in a folder "checkpoints" the folder above is the one with the config. `folder` is
 * path's, in memory that is written to. */
static enum sae_status try_above(struct sae_file *b, char *folder, const char *path,
                                 struct sae_err *err)
{
    size_t above = sae_folder_bytes_above(path);
    enum sae_status st;

    if (b->config || above == sae_folder_bytes(path))
        return SAE_OK;
    folder[above] = '\0';
    st = try_rules(b, folder, path + above, err);
    b->is_config_above = b->config != NULL;
    return st;
}

/* What the file at `path` is by what stands beside it, and by its name. */
static enum sae_status tell(struct sae_file *b, const char *path, struct sae_err *err)
{
    size_t n = sae_folder_bytes(path);
    char *folder = sae_strdup(path);
    enum sae_status st = SAE_OK;

    if (!folder)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot copy its name");
    folder[n] = '\0';
    if (n == 0 || sae_folder_is(folder)) { /* else opening the file will say so */
        st = try_rules(b, folder, path + n, err);
        if (st == SAE_OK)
            st = try_names(b, folder, path + n, err);
        if (st == SAE_OK)
            st = try_above(b, folder, path, err);
    }
    sae_free(folder);
    return st;
}

void sae_file_confirm(struct sae_file *b)
{
    const struct sae_group *g = sae_load_group(b->ts, 0);
    bool is_there = !b->named || !b->named->key || b->stated->format;

    for (size_t i = 0; !is_there && i < g->n; i++)
        is_there = sae_layout_fits(b->named->key, g->entries[i].name);
    if (is_there)
        return;
    sae_facts_free(b->config);
    b->config = NULL;
    b->format = NULL;
}

/* ---- folders ------------------------------------------------------------------------------ */

/* The weights file of a rule that is there, as the rule names it; NULL: none is. */
static const char *weights_of(const struct rule *rule, const struct sae_folder *f)
{
    for (size_t i = 0; i < MAX_RULE_WEIGHTS && rule->weights[i]; i++) {
        const char *name = rule->weights[i];
        char path[PATH_MAX];
        struct stat s;
        int n = snprintf(path, sizeof path, "%s%s", sae_folder_path(f), name);

        if (strchr(name, '/') ? n < (int)sizeof path && stat(path, &s) == 0
                              : sae_folder_has(f, name))
            return name;
    }
    return NULL;
}

/* The rules for a folder; *name is the weights file of the one that fits, or untouched. */
static enum sae_status try_folder(struct sae_file *b, const struct sae_folder *f, const char **name,
                                  struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    for (size_t i = 0; st == SAE_OK && i < SAE_COUNTOF(rules); i++) {
        const char *weights = is_of(b->stated, rules[i].format) ? weights_of(&rules[i], f) : NULL;
        bool fitted = false;

        if (weights)
            st = take_rule(b, &rules[i], sae_folder_path(f), &fitted, err);
        if (fitted)
            *name = weights;
    }
    return st;
}

/* The names that a folder was looked through for, of formats that are read. */
static void add_known_names(struct sae_text *l)
{
    for (size_t i = 0; i < SAE_COUNTOF(rules); i++)
        for (size_t k = 0; sae_layout_of_format(rules[i].format) && k < MAX_RULE_WEIGHTS; k++)
            if (rules[i].weights[k] && !strchr(rules[i].weights[k], '/'))
                sae_text_add(l, "%s, ", rules[i].weights[k]);
    for (size_t i = 0; i < SAE_COUNTOF(names); i++)
        sae_text_add(l, "%s%s, ", names[i].pattern[0] == '.' ? "*" : "", names[i].pattern);
}

static enum sae_status no_weights(const struct sae_folder *f, struct sae_err *err)
{
    struct sae_text l = {.len = 0};
    size_t n = sae_folder_n_weights(f);

    if (n == 0) {
        add_known_names(&l);
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "it is a folder without a weights file: %sor any .pt .pth .ckpt .bin "
                           ".safetensors .npz .npy",
                           l.text);
    }
    for (size_t i = 0; i < n && i < SHOWN_FILES; i++)
        sae_text_add(&l, "%s%.40s", i ? ", " : "", sae_folder_weights(f, i));
    return sae_err_set(err, SAE_E_FORMAT, "",
                       "it is a folder with %zu weights files: %s%s; name one", n, l.text,
                       n > SHOWN_FILES ? ", ..." : "");
}

/* Several files that are one: their index is the weights file. */
static enum sae_status check_shards(const struct sae_folder *f, struct sae_err *err)
{
    const char *name;

    for (size_t i = 0; (name = sae_folder_name(f, i)); i++)
        if (sae_ends_in(name, ".safetensors.index.json"))
            return sae_err_set(err, SAE_E_FORMAT, name,
                               "it is a folder of shards (%.60s), which saed does not read yet; "
                               "save all tensors in one file",
                               name);
    return SAE_OK;
}

static enum sae_status set_weights(struct sae_file *b, const char *folder, const char *name,
                                   struct sae_err *err)
{
    size_t room = strlen(folder) + strlen(name) + 1;

    b->weights = sae_calloc(room, 1);
    if (!b->weights)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot make its name");
    snprintf(b->weights, room, "%s%s", folder, name);
    return SAE_OK;
}

static enum sae_status enter_folder(struct sae_file *b, const char *path, struct sae_err *err)
{
    struct sae_folder *f = NULL;
    const char *name = NULL;
    enum sae_status st = sae_folder_open(&f, path, err);
    bool is_ruled;

    if (st == SAE_OK)
        st = try_folder(b, f, &name, err);
    is_ruled = name != NULL;
    if (st == SAE_OK && !name)
        st = check_shards(f, err);
    if (st == SAE_OK && !name && sae_folder_n_weights(f) == 1)
        name = sae_folder_weights(f, 0);
    if (st == SAE_OK)
        st = name ? set_weights(b, sae_folder_path(f), name, err) : no_weights(f, err);
    sae_folder_close(f);
    return st == SAE_OK && !is_ruled ? tell(b, b->weights, err) : st;
}

/* ---- formats that are known, and not read yet ---------------------------------------------- */

/* Has the file a tensor of this name, in any of its dicts? */
static bool has_key(const struct sae_tensors *ts, const char *key)
{
    for (size_t g = 0; g < sae_load_n_groups(ts); g++) {
        const struct sae_group *group = sae_load_group(ts, g);

        for (size_t i = 0; i < group->n; i++)
            if (strcmp(group->entries[i].name, key) == 0)
                return true;
    }
    return false;
}

/* OpenMOSS's folders of two years have the same config: the keys tell. */
static enum sae_status refuse_openmoss(const struct sae_file *b, struct sae_err *err)
{
    const struct sae_fact *type = sae_facts_find(b->config, "sae_type");
    bool is_sae = type->kind == SAE_FACT_TEXT && strcmp(type->u.text, "sae") == 0;
    struct sae_tensors *ts = NULL;
    const char *which = "llamascopium's or lm_saes's";

    if (!is_sae)
        return sae_err_set(err, SAE_E_FORMAT, "config.json",
                           "config.json has the sae_type \"%.60s\", which saed does not read",
                           type->kind == SAE_FACT_TEXT ? type->u.text : sae_fact_describe(type));
    if (sae_load_open(&ts, b->weights, NULL) == SAE_OK)
        which = has_key(ts, "W_E_glu")          ? "llamascopium's with a gated encoder (W_E_glu)"
                : has_key(ts, "W_E")            ? "llamascopium's (W_E)"
                : has_key(ts, "encoder.weight") ? "lm_saes's (encoder.weight)"
                                                : which;
    sae_load_close(ts);
    return sae_err_set(err, SAE_E_FORMAT, "config.json",
                       "the folder is %s, which saed does not read yet", which);
}

static enum sae_status check_is_read(const struct sae_file *b, struct sae_err *err)
{
    if (!b->format || sae_layout_of_format(b->format))
        return SAE_OK;
    if (fits(b->weights, ".dcp"))
        return sae_err_set(err, SAE_E_FORMAT, "sae_weights.dcp",
                           "its weights are a distributed checkpoint (sae_weights.dcp), which saed "
                           "does not read; save them as safetensors");
    for (size_t i = 0; i < SAE_COUNTOF(rules); i++)
        if (rules[i].refuse && strcmp(rules[i].format, b->format) == 0)
            return rules[i].refuse(b, err);
    return sae_err_set(err, SAE_E_FORMAT, sae_facts_name(b->config),
                       "%s is %s's, which saed does not read yet", sae_facts_name(b->config),
                       b->format);
}

/* ---- the two ends ------------------------------------------------------------------------- */

enum sae_status sae_file_locate(struct sae_file *b, struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    if (sae_folder_is(b->path))
        st = enter_folder(b, b->path, err);
    else if ((b->weights = sae_strdup(b->path)))
        st = tell(b, b->weights, err);
    else
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot copy its name");
    if (b->stated->format)
        b->format = b->stated->format;
    return st == SAE_OK ? check_is_read(b, err) : st;
}

enum sae_status sae_file_knows(const struct sae_folder *f, bool *knows, struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    *knows = false;
    for (size_t i = 0; !*knows && st != SAE_E_NOMEM && i < SAE_COUNTOF(rules); i++) {
        struct sae_facts *config = NULL;

        if (!weights_of(&rules[i], f))
            continue;
        st = try_rule(&rules[i], sae_folder_path(f), &config, NULL);
        *knows = st != SAE_OK || config; /* a config that cannot be read will be its reason */
        sae_facts_free(config);
    }
    return st == SAE_E_NOMEM ? sae_err_set(err, st, "", "cannot read a config: memory has run out")
                             : SAE_OK;
}
