/* test_locate.c - which file of a path is meant, and of which format it is by what stands beside
 * it: folders as producers leave them, and those that two could have left (formats 4.1). */
#include "lib/dict/file.h"
#include "lib/load/folder.h"
#include "tests/support/files.h"
#include "tests/support/st_file.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAE "W_enc:F32:5,7 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5"
#define SPARSIFY "encoder.weight:F32:7,5 encoder.bias:F32:7 W_dec:F32:7,5 b_dec:F32:5"
#define NEW "encoder.weight:F32:7,5 encoder.bias:F32:7 decoder.weight:F32:5,7 decoder.bias:F32:5"
#define TIED "decoder.linear.weight:F32:7,5 pre_bias:F32:5 latent_bias:F32:7"
#define GEMMA_2 "w_enc:F32:5,7 w_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 threshold:F32:7=0.5"
#define TRACER "W_enc:F32:7,5 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5"
#define CLT "W_enc_7:F32:7,5 b_enc_7:F32:7 threshold_7:F32:7=0.5 b_dec_7:F32:5"

static char dir[64];

static void setup(void)
{
    make_test_folder(dir);
}

static void teardown(void)
{
    remove_test_folder(dir);
}

struct entry {
    const char *path, *content; /* weights by a list of tensors; else a text; "/": a folder */
};

static void put_entry(const struct entry *e)
{
    char path[200];

    if (strstr(e->content, ":F32"))
        put_st(dir, e->path, e->content);
    else if (strcmp(e->content, "/") != 0)
        put_file(dir, e->path, e->content);
    else {
        snprintf(path, sizeof path, "%s/%s", dir, e->path);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
}

/* Open the source below the folder; the format, or the error's text. */
static const char *open_below(const struct entry *entries, size_t n, const char *source)
{
    static char text[500];
    struct sae_draft *t = NULL;
    struct sae_err err = {0};
    char full[300];

    for (size_t i = 0; i < n && entries[i].path; i++)
        put_entry(&entries[i]);
    snprintf(full, sizeof full, "%s/%s", dir, source);
    if (sae_draft_open(&t, full, &err) == SAE_OK)
        snprintf(text, sizeof text, "%s", sae_draft_info(t)->format);
    else
        snprintf(text, sizeof text, "%s", err.text);
    sae_draft_close(t);
    return text;
}

#define MAX_ENTRIES 6
static const struct {
    struct entry entries[MAX_ENTRIES];
    const char *source, *format;
} told[] = {
    {{{"cfg.json", "{}"}, {"sae_weights.safetensors", SAE}}, "", "sae_lens"},
    {{{"cfg.json", "{}"}, {"sae_weights.safetensors", SAE}}, "sae_weights.safetensors", "sae_lens"},
    /* what stands beside it, and is not looked at */
    {{{"cfg.json", "{}"},
      {"sae_weights.safetensors", SAE},
      {"sparsity.safetensors", "sparsity:F32:7=-3"}},
     "",
     "sae_lens"},
    {{{"cfg.json", "{\"k\": 3}"}, {"sae.safetensors", SPARSIFY}}, "", "sparsify"},
    {{{"config.json", "{\"input_dim\": 5, \"hidden_dim\": 7, \"k\": 3}"},
      {"model.safetensors", TIED}},
     "",
     "sentence_transformers"},
    {{{"config.json", "{\"input_dim\": 5, \"hidden_dim\": 7, \"k\": 3}"},
      {"pytorch_model.bin", TIED}},
     "",
     "sentence_transformers"},
    {{{"config.json", "{\"trainer\": {\"dict_class\": \"AutoEncoderNew\"}}"}, {"ae.pt", NEW}},
     "",
     "dictionary_learning"},
    {{{"config.json", "{\"trainer\": {\"dict_class\": \"AutoEncoderNew\"}}"},
      {"checkpoints/ae_40.pt", NEW}},
     "checkpoints",
     "dictionary_learning"},
    {{{"cfg.json", "{}"}, {"sae.safetensors", SPARSIFY}, {"other.safetensors", NEW}},
     "other.safetensors",
     "dictionary_learning"},
    {{{"params.safetensors", GEMMA_2}}, "", "gemma_scope_2"},
    {{{"params_layer_12.safetensors", GEMMA_2}}, "", "gemma_scope_2"},
    {{{"params_layer_x.safetensors", NEW}}, "", "dictionary_learning"},
    /* the name alone is no mark */
    {{{"params.safetensors", NEW}}, "", "dictionary_learning"},
    {{{"layer_3.safetensors", NEW}, {"config.yaml", "activation: topk\n"}},
     "",
     "dictionary_learning"},
    {{{"layer_3.safetensors", TRACER}}, "layer_3.safetensors", "circuit_tracer"},
    {{{"cfg.json", "{}"}, {"sae_weights.safetensors", SAE}},
     ":format=bare:centre=none:activation=relu",
     "bare"},
};

START_TEST(a_folder_tells_its_format)
{
    ck_assert_str_eq(open_below(told[_i].entries, MAX_ENTRIES, told[_i].source), told[_i].format);
}
END_TEST

static const struct {
    struct entry entries[MAX_ENTRIES];
    const char *source, *said[3];
} refused[] = {
    {{{"cfg.json", "{}"}, {"sae_weights.safetensors", SAE}, {"sae.safetensors", SPARSIFY}},
     "",
     {"two formats that fit", "format=sae_lens or format=sparsify"}},
    {{{"notes.txt", "x"}},
     "",
     {"a folder without a weights file", "ae.pt", "params_layer_#.safetensors, layer_#"}},
    /* the file that cannot be read is named */
    {{{"w.npy", "\x93NUM"}}, "", {"/w.npy: cannot read"}},
    {{{"cfg.json", "{}"}, {"sae.safetensors", "x"}}, "", {"/sae.safetensors: cannot read"}},
    {{{"a.safetensors", NEW}, {"b.PT", NEW}}, "", {"2 weights files: a.safetensors, b.PT"}},
    /* a config without its marks makes no choice between files */
    {{{"config.json", "{\"model_type\": \"llama\"}"},
      {"model.safetensors", NEW},
      {"extra.safetensors", NEW}},
     "",
     {"2 weights files: extra.safetensors, model.safetensors"}},
    {{{"model.safetensors.index.json", "{\"weight_map\": {}}"},
      {"model-00001-of-00002.safetensors", NEW},
      {"model-00002-of-00002.safetensors", SAE}},
     "",
     {"shards (model.safetensors.index.json)", "saed does not read yet"}},
    {{{"model.safetensors.index.json", "{\"weight_map\": {}}"}},
     "model.safetensors.index.json",
     {"an index of shards", "saed does not read yet"}},
    {{{"hyperparams.json", "{\"d_model\": 5, \"act_fn\": \"jumprelu\"}"},
      {"checkpoints/final.safetensors", NEW}},
     "",
     {"hyperparams.json is llama_scope's", "saed does not read yet"}},
    {{{"hyperparams.json", "{\"d_model\": 5, \"act_fn\": \"jumprelu\"}"},
      {"checkpoints/final.safetensors", NEW}},
     "checkpoints/final.safetensors",
     {"hyperparams.json is llama_scope's", "saed does not read yet"}},
    {{{"config.json", "{\"sae_type\": \"sae\"}"},
      {"sae_weights.safetensors", "W_E:F32:5,7 b_E:F32:7 W_D:F32:7,5"}},
     "",
     {"llamascopium's (W_E)", "saed does not read yet"}},
    {{{"config.json", "{\"sae_type\": \"sae\"}"},
      {"sae_weights.safetensors", "W_E:F32:5,7 W_E_glu:F32:5,7 b_E:F32:7 W_D:F32:7,5"}},
     "sae_weights.safetensors",
     {"W_E_glu", "saed does not read yet"}},
    {{{"config.json", "{\"sae_type\": \"sae\"}"}, {"sae_weights.safetensors", NEW}},
     "",
     {"lm_saes's (encoder.weight)", "saed does not read yet"}},
    {{{"config.json", "{\"sae_type\": \"clt\"}"}, {"sae_weights.safetensors", NEW}},
     "",
     {"the sae_type \"clt\", which saed does not read"}},
    {{{"config.json", "{\"sae_type\": \"crosscoder\"}"}, {"sae_weights.safetensors", NEW}},
     "",
     {"the sae_type \"crosscoder\", which saed does not read"}},
    {{{"config.json", "{\"sae_type\": \"lorsa\"}"}, {"sae_weights.safetensors", NEW}},
     "",
     {"the sae_type \"lorsa\", which saed does not read"}},
    {{{"config.json", "{\"sae_type\": \"molt\"}"}, {"sae_weights.safetensors", NEW}},
     "",
     {"the sae_type \"molt\", which saed does not read"}},
    {{{"config.json", "{\"sae_type\": \"sae\"}"}, {"sae_weights.dcp", "/"}},
     "",
     {"a distributed checkpoint (sae_weights.dcp)", "saed does not read"}},
    {{{"cfg.json", "[1,"}, {"sae_weights.safetensors", SAE}}, "", {"cfg.json"}},
    {{{"mycheckpoints/ae_4.pt", SPARSIFY},
      {"config.json", "{\"trainer\": {\"dict_class\": \"AutoEncoderNew\"}}"}},
     "mycheckpoints/ae_4.pt",
     {"cannot name the class"}},
};

START_TEST(a_folder_that_is_refused)
{
    const char *text = open_below(refused[_i].entries, MAX_ENTRIES, refused[_i].source);

    ck_assert_msg(strncmp(text, "cannot load ", 12) == 0, "%s", text);
    for (size_t i = 0; i < 3 && refused[_i].said[i]; i++)
        ck_assert_msg(strstr(text, refused[_i].said[i]) != NULL, "\"%s\" is not in: %s",
                      refused[_i].said[i], text);
}
END_TEST

/* So that whoever lists folders need not enter them. */
START_TEST(a_folder_that_is_one_dictionary_is_known)
{
    struct sae_folder *f = NULL;
    struct sae_err err = {0};
    char path[100];
    bool knows = true;

    snprintf(path, sizeof path, "%s/", dir);
    put_st(dir, "sae.safetensors", SPARSIFY);
    ck_assert_int_eq(sae_folder_open(&f, path, &err), SAE_OK);
    ck_assert_int_eq(sae_file_knows(f, &knows, &err), SAE_OK);
    ck_assert(!knows);
    sae_folder_close(f);
    put_file(dir, "cfg.json", "{");
    ck_assert_int_eq(sae_folder_open(&f, path, &err), SAE_OK);
    ck_assert_int_eq(sae_file_knows(f, &knows, &err), SAE_OK);
    ck_assert(knows); /* what is wrong with it is its own */
    sae_folder_close(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("locate");
    TCase *t = tcase_create("locate");
    SRunner *r = srunner_create(s);

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_folder_tells_its_format, 0, SAE_COUNTOF(told));
    tcase_add_loop_test(t, a_folder_that_is_refused, 0, SAE_COUNTOF(refused));
    tcase_add_test(t, a_folder_that_is_one_dictionary_is_known);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
