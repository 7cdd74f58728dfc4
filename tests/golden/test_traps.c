/* test_traps.c - the ways in which dictionaries are read wrongly, and what catches each.
 *
 * A row is a trap that producers' users have met (research on their repositories, by section: 1.4
 * dictionary_learning, 2.3 SAELens, 5.1 issues of all, 8 producers' own code) and its guard: a case
 * of tests/golden/formats, a file of a fixture, or a test. Where the mistake can be stated as a
 * reading it is made: the guard's answer must be another one, so that it would be noticed. */
#include "lib/dict/ref.h"
#include "lib/saed.h"
#include "tests/support/dicts.h"
#include "tests/support/formats.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUDA "tests/golden/pt/cuda.pt"
#define LOCATE "tests/unit/dict/test_locate.c:a_folder_that_is_refused"
#define FORMS "tests/http/test_forms.c:"
#define DL "dictionary_learning/"
#define LENS "sae_lens/"

/* guard: "FAMILY/NAME" of a case; a path; or "file.c:test". mistake: options behind its source. */
static const struct {
    const char *trap, *guard, *mistake;
} traps[] = {
    /* 1.4: dictionary_learning's from_pretrained */
    {"normalize_decoder is the library's default", "tests/unit/dict/test_reading.c:pairs", NULL},
    {"encoder.weight has strides (1, F)", DL "AutoEncoder, in a folder", NULL},
    {"W_enc has strides (1, d)", DL "JumpReluAutoEncoder", NULL},
    {"W_dec is transposed in training", DL "Matryoshka, groups", NULL},
    {"any strides and offsets", "tests/golden/pt/strides.pt", NULL},
    {"Linear and Parameter lie differently, d = F hides it", DL "TopK, shape c",
     "format=custom:encoder=encoder.weight@d,F:decoder=decoder.weight@F,m:enc_bias=encoder.bias:"
     "dec_bias=b_dec:centre=b_dec:k=3"},
    {"the same the other way round", DL "JumpReluAutoEncoder, shape c",
     "format=custom:encoder=W_enc@F,d:decoder=W_dec@m,F:enc_bias=b_enc:dec_bias=b_dec:centre=none:"
     "threshold=threshold"},
    {"k is an int32 scalar", DL "topk_i32, no config", "k=none"},
    {"k is an int64 scalar, threshold a float", DL "topk_i64, no config", "k=none"},
    {"a BatchTopK threshold of -1 is ReLU", DL "BatchTopK, threshold unset", NULL},
    {"k in mid-anneal", DL "TopK, two k", NULL},
    {"k stands in config.json alone", DL "TopK, k of the config", "k=none"},
    {"no threshold in files of 2024-10", DL "BatchTopK, threshold none", NULL},
    {"group_indices for group_sizes", DL "Matryoshka, prefixes", "k=3"},
    {"location tags of cuda", CUDA, NULL},
    {"pickles that run code", "tests/invalid/pt/code-os-system/input.pt", NULL},
    {"apply_b_dec_to_input is lost", DL "JumpReluAutoEncoder", "centre=b_dec"},
    /* 2.3: SAELens */
    {"b_dec is subtracted after normalising", LENS "rms, b_dec applied True", "centre=none"},
    {"the output is undone last", LENS "layer_norm, b_dec applied True", "output=none"},
    {"the deviation is of n - 1", LENS "layer_norm, b_dec applied False", "input=none"},
    {"decode wants the row's own numbers", "tests/http/test_formats.c:check_decode", NULL},
    {"gated has no b_enc", LENS "gated", NULL},
    {"jumprelu is not relu", LENS "jumprelu", "activation=relu"},
    {"rescaled top-k selects by decoder norm", LENS "topk, rescaled", "score=value"},
    {"... and decode divides again", LENS "topk, rescaled", "score=decoder_norm"},
    {"relu after the top-k: fewer than k are on", DL "TopK, more than are positive",
     "activation=linear"},
    {"a transcoder subtracts no b_dec", LENS "transcoder, m5", "centre=b_dec"},
    {"a transcoder's output is not undone", LENS "skip_transcoder, rms", "output=follow"},
    {"the skip is x W_skip^T", LENS "skip_transcoder, m5", "skip=W_skip@d,m"},
    {"... and left out it is another answer", LENS "jumprelu_skip_transcoder, m3", "skip=none"},
    {"temporal", LENS "architecture temporal", NULL},
    {"matching pursuit", LENS "architecture matching_pursuit", NULL},
    {"batchtopk is exported as jumprelu", LENS "batchtopk, exported", "activation=relu"},
    {"a constant of expected_average that is nowhere", LENS "batchtopk, scaler_absent", NULL},
    {"scaling_factor of a finetuning", LENS "scaling_factor of 1.5", NULL},
    {"scaling_factor of ones", LENS "standard, a folder", NULL},
    {"a threshold of f32 beside bf16", LENS "jumprelu, bf16 beside a threshold of f32", NULL},
    {"log_threshold", LENS "jumprelu, a log threshold", "threshold=log_threshold"},
    /* 5.1: what users report */
    {"TopK loaded as ReLU", DL "topk_i32, no config", "k=none"},
    {"OpenAI's TopK loaded as ReLU", "openai/TopK, as the loader", "k=none"},
    {"... below a wrapper", "openai/wrapped", "k=none"},
    {"... behind a prefix", "openai/prefixed", "k=none"},
    {"... and both", "openai/wrapped_prefixed", "k=none"},
    {"Llama Scope's threshold without its norm", LOCATE, NULL},
    {"a norm's constant that no file holds", LENS "v5, normalize_activations true", NULL},
    {"numbers of a folded decoder", LENS "topk, rescaled", "score=value"},
    {"BatchTopK at inference couples rows", DL "BatchTopK", "k=3"},
    {"rows of a batch are each alone",
     "tests/golden/test_formats.c:every_engine_answers_as_the_reference", NULL},
    {"top-k within a tile of features",
     "tests/unit/engine/test_formulas.c:native_equals_the_reference", NULL},
    {"AutoEncoderNew's f is scaled twice", FORMS "forward_with_everything", NULL},
    {"forward's f taken for encode's", FORMS "forward_shapes_its_f", NULL},
    /* 8: producers' own code */
    {"Gemma Scope 2's skip is x A", "gemma_scope_2/gemma_scope_2, a skip",
     "skip=affine_skip_connection@m,d"},
    {"Llamascopium's norms", LOCATE, NULL},
    {"the name that safetensors keeps of two",
     "sentence_transformers/the name that safetensors keeps", NULL},
    {"k is 8 by default", "sentence_transformers/k and normalize absent", "k=32"},
    {"normalize is layer_norm", "sentence_transformers/normalize", "input=none"},
    {"sparsify, signed", "sparsify/sparsify, signed", NULL},
    {"sparsify's old transcoders subtract b_dec", "sparsify/sparsify, an old transcoder",
     "centre=none"},
    {"sparsify's k is 32 by default", "sparsify/sparsify, k is 32 by default", "k=8"},
    {"Qwen-Scope keeps signs", "qwen_scope/qwen_scope by its shapes", "activation=relu"},
    {"Qwen-Scope's k stands three folders above", "qwen_scope/qwen_scope in a cache", "k=2"},
    {"Qwen-Scope's keys the other way round", "qwen_scope/SAELens's orientation", NULL},
    {"circuit-tracer's JumpReLU has no ReLU", "circuit_tracer/circuit_tracer, a threshold, a file",
     "activation=threshold"},
    {"circuit-tracer's TopK keeps signs", "circuit_tracer/circuit_tracer, shape b",
     "activation=relu:k=20"},
    {"circuit-tracer's k in config.yaml", "circuit_tracer/circuit_tracer, k of the config",
     "k=none"},
    {"a zero takes a place", "circuit_tracer/circuit_tracer, a zero takes a place", "k=2"},
    {"relu beside a threshold", "circuit_tracer/circuit_tracer, a threshold and relu", NULL},
    {"a cache that loses the activation", "circuit_tracer/circuit_tracer, nothing said", NULL},
    {"v5, normalize_activations null", LENS "v5, normalize_activations None", NULL},
    {"v5, tanh-relu", LENS "v5, tanh-relu", NULL},
    {"v5, topk without k", LENS "v5, topk without k", NULL},
    {"topk's k is 100 by default", LENS "topk, 100 by default", "k=3"},
    {"activation_scaler.json", LENS "batchtopk, the constant beside it", "input=none"},
    {"the constant's fold divides a transcoder's output",
     LENS "a transcoder's constant, half of it", NULL},
    {"batchtopk's norms are not folded", LENS "batchtopk", "score=value"},
    {"topk_threshold is f64", LENS "matryoshka_batchtopk", "threshold=0.25"},
    {"embedding rows are scaled", "gemma_scope/gemma_scope, embedding", NULL},
    {"dict_class is a constant", DL "AutoEncoderNew, a config that says AutoEncoder", NULL},
    {"a training backup's biases", DL "a training backup", NULL},
    {"a prefix is cut after selecting", DL "Matryoshka, four", NULL},
    {"... so that k and a prefix do not go together", DL "Matryoshka, k and a prefix", NULL},
    {"OpenAI's Identity", "openai/Identity", "activation=relu"},
    {"OpenAI's postact Identity", "openai/TopK, postact Identity", "k=6:activation=relu"},
    {"OpenAI's train.py does not normalise", "openai/TopK without input", NULL},
    {"h of -infinity is off", DL "JumpReluAutoEncoder", NULL},
    {"a decoder row of zeros under a score", LENS "topk, rescaled, a decoder row of zeros",
     "score=value"},
};

static const struct formats_case *case_of(const char *guard)
{
    size_t n;
    const struct formats_case *cases = formats_cases(&n);
    const char *slash = strchr(guard, '/');
    char begins[200];

    snprintf(begins, sizeof begins, FORMATS_DIR "%.*s/", (int)(slash - guard), guard);
    for (size_t i = 0; i < n; i++)
        if (strcmp(cases[i].name, slash + 1) == 0 &&
            strncmp(cases[i].source, begins, strlen(begins)) == 0)
            return &cases[i];
    return NULL;
}

/* A file that is there, or a test of this name in it. */
static bool is_there(const char *guard)
{
    const char *colon = strchr(guard, ':');
    char path[120], line[400];
    bool found = colon == NULL;
    FILE *f;

    snprintf(path, sizeof path, "%.*s", colon ? (int)(colon - guard) : 119, guard);
    f = fopen(path, "r");
    if (!f)
        return false;
    while (!found && fgets(line, sizeof line, f))
        found = strstr(line, colon + 1) != NULL;
    fclose(f);
    return found;
}

/* Does the file under this source give other values than the case wants? */
static bool is_another(const struct formats_case *c, const char *source)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    bool differs = false;
    float *f, *y, state[SAE_MAX_STATE];

    ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s", err.text);
    f = malloc((c->F + c->m + 1) * sizeof *f);
    y = f + c->F;
    for (size_t r = 0; r < c->n; r++) {
        sae_ref_encode(d, c->x + r * c->d, f, NULL);
        for (size_t j = 0; j < c->F; j++)
            differs |= !formats_equal(c, c->f[r * c->F + j], f[j]);
        if (c->m == 0)
            continue;
        sae_ref_decode(d, f, true, y);
        sae_ref_state(d, c->x + r * c->d, state);
        sae_ref_output(d, c->x + r * c->d, state, y);
        for (size_t k = 0; k < c->m; k++)
            differs |= !formats_equal(c, c->y[r * c->m + k], y[k]);
    }
    free(f);
    sae_dict_free(d);
    return differs;
}

START_TEST(a_trap_has_a_guard)
{
    const char *guard = traps[_i].guard;
    const struct formats_case *c;
    char source[600];

    if (strncmp(guard, "tests/", 6) == 0) {
        ck_assert_msg(is_there(guard), "%s: no %s", traps[_i].trap, guard);
        return;
    }
    c = case_of(guard);
    ck_assert_msg(c != NULL, "%s: no case %s", traps[_i].trap, guard);
    if (!traps[_i].mistake)
        return;
    snprintf(source, sizeof source, "%s:%s", c->source, traps[_i].mistake);
    ck_assert_msg(is_another(c, source), "%s: %s answers as %s does", traps[_i].trap, source,
                  c->name);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("traps");
    TCase *t = tcase_create("traps");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, a_trap_has_a_guard, 0, SAE_COUNTOF(traps));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
