/* test_choose.c - which dict of a file is the state dict, and the look-alikes that are refused.
 *
 * Files are lines of a table: this program defines the two functions of load.h that list groups.
 * Real files of these forms are in tests/golden/pt and tests/golden/test_cases.c. */
#include "lib/dict/choose.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the fake ---- */

struct sae_tensors {
    struct sae_group groups[8];
    struct sae_entry entries[64];
    size_t n_groups, n_entries;
};
static struct sae_tensors fake;
static const struct sae_statement nothing; /* is stated */

/* The rows' other calls, which choosing never makes: with them nothing of lib/load is linked. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define NEVER(type, name, ...) \
    type name(__VA_ARGS__)     \
    {                          \
        abort();               \
    }
typedef struct sae_tensors tensors;
typedef struct sae_err error;
NEVER(enum sae_status, sae_load_open, tensors **ts, const char *p, error *e)
NEVER(void, sae_load_close, tensors *ts)
NEVER(uint64_t, sae_load_stamp, const tensors *ts)
NEVER(const char *, sae_load_note, const tensors *ts)
NEVER(enum sae_status, sae_load_narrow, tensors *ts, const char *p, size_t *g, error *e)
NEVER(enum sae_status, sae_load_choose, tensors *ts, size_t g, size_t n, error *e)
NEVER(const struct sae_facts *, sae_load_facts, const tensors *ts)
NEVER(size_t, sae_load_count, const tensors *ts)
NEVER(size_t, sae_load_n_beside, const tensors *ts)
NEVER(const struct sae_tensor *, sae_load_tensor, const tensors *ts, size_t i)
NEVER(enum sae_status, sae_load_find, const tensors *ts, const char *n, size_t *i, error *e)
NEVER(enum sae_status, sae_load_read, tensors *ts, size_t i, float *v, bool t, error *e)
NEVER(enum sae_status, sae_load_integer, tensors *ts, size_t i, int64_t *v, error *e)
NEVER(enum sae_status, sae_load_integers, tensors *ts, size_t i, int64_t *v, size_t n, error *e)

#pragma GCC diagnostic pop

bool sae_load_is_torch_save(const struct sae_tensors *ts)
{
    (void)ts;
    return true;
}

size_t sae_load_n_groups(const struct sae_tensors *ts)
{
    return ts->n_groups;
}

const struct sae_group *sae_load_group(const struct sae_tensors *ts, size_t g)
{
    return &ts->groups[g];
}

/* KEY: a tensor of two dimensions. KEY=f0, KEY=f1, KEY=i0: of floats or ints, of 0 or 1 dimensions.
 * KEY=3, KEY=0.5: a number. KEY=*: something else. A bare "=": a key that is no name. */
static void add_entry(char *word, struct sae_group *g)
{
    struct sae_entry *e = &fake.entries[fake.n_entries++];
    char *is = strchr(word, '=');

    if (is == word) {
        g->other_keys = true;
        fake.n_entries--;
        return;
    }
    snprintf(e->name, sizeof e->name, "%.*s", is ? (int)(is - word) : 100, word);
    e->kind = SAE_ENTRY_TENSOR;
    e->floating = !is || is[1] == 'f';
    e->integer = is && is[1] == 'i';
    e->ndim = is ? (unsigned)(is[2] - '0') : 2;
    e->shape[0] = 7;
    e->shape[1] = e->shape[2] = 5;
    if (is && is[1] == '*')
        e->kind = SAE_ENTRY_OTHER;
    if (is && strchr("0123456789", is[1])) {
        e->kind = strchr(is, '.') ? SAE_ENTRY_REAL : SAE_ENTRY_INT;
        e->ndim = 0;
        e->has_number = true;
        e->number = atof(is + 1);
    }
    g->n++;
}

/* The top has an entry for each dict in it. */
static void add_dicts(const char *text, struct sae_group *top)
{
    char line[2000], *save = NULL;

    snprintf(line, sizeof line, "%s", text);
    for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save))
        if (w[strlen(w) - 1] == ':') {
            char name[140];

            snprintf(name, sizeof name, "%.*s=*", (int)strlen(w) - 1, w);
            add_entry(name, top);
        }
}

/* "KEY KEY | NAME: KEY KEY | ...": the top, then dicts in it. */
static void fake_file(const char *text)
{
    char line[2000], *save = NULL, *save2 = NULL;

    fake = (struct sae_tensors){.n_groups = 0};
    snprintf(line, sizeof line, "%s", text);
    for (char *part = strtok_r(line, "|", &save); part; part = strtok_r(NULL, "|", &save)) {
        struct sae_group *g = &fake.groups[fake.n_groups++];

        g->entries = fake.entries + fake.n_entries;
        for (char *w = strtok_r(part, " ", &save2); w; w = strtok_r(NULL, " ", &save2)) {
            if (w[strlen(w) - 1] == ':')
                snprintf(g->name, sizeof g->name, "%.*s", (int)strlen(w) - 1, w);
            else
                add_entry(w, g);
        }
        if (g == fake.groups)
            add_dicts(text, g);
    }
}

#define AE "bias encoder.weight encoder.bias decoder.weight"
#define NEW "encoder.weight encoder.bias decoder.weight decoder.bias"
#define GATED "decoder_bias encoder.weight r_mag gate_bias mag_bias decoder.weight"
#define PRE(p) p "bias " p "encoder.weight " p "encoder.bias " p "decoder.weight"

/* ---- what is taken ---- */

static const struct {
    const char *file, *class_name;
    size_t group, prefix;
} goods[] = {
    {AE, "AutoEncoder", 0, 0},
    {" | state_dict: " GATED, "GatedAutoEncoder", 1, 0},
    {"epoch=5 loss=0.1 name=* | optimizer_state_dict: state=* = | model_state_dict: " AE,
     "AutoEncoder", 2, 0},
    {"step=1 | ae: " NEW " | sae: bias", "AutoEncoderNew", 1, 0},
    /* A dict of shapes is no state dict. */
    {" | shapes: bias=* encoder.weight=* encoder.bias=* decoder.weight=* | w: " AE, "AutoEncoder",
     2, 0},
    {PRE("_orig_mod."), "AutoEncoder", 0, 10},
    {PRE("module."), "AutoEncoder", 0, 7},
    {PRE("module._orig_mod.sae."), "AutoEncoder", 0, 21},
    {PRE("sae.module.sae."), "AutoEncoder", 0, 15},
    {"k=* | model: " PRE("module."), "AutoEncoder", 1, 7},
    /* What is no tensor stands beside the weights, and has no prefix. */
    {AE " step=5 cfg=* scale=* scaling_factor=1.000001", "AutoEncoder", 0, 0},
    {PRE("sae.") " step=5", "AutoEncoder", 0, 4},
    {AE " | state_dict: " NEW, "AutoEncoder", 0, 0},
    {NEW " scaling_factor=f1", "AutoEncoderNew", 0, 0},
    /* Look-alikes that are none. */
    {"k=3 | cfg: k=4 | state_dict: " GATED, "GatedAutoEncoder", 2, 0},
    {"k=0.5 top_k=* | cfg: k=f0 K=3 | state_dict: " AE, "AutoEncoder", 2, 0},
    {"scaling_factor=1.000009 epoch=3 scale=* ids=i1 | state_dict: " AE, "AutoEncoder", 1, 0},
    {" | optimizer: exp_avg scale=2 mean=f0 | state_dict: " AE, "AutoEncoder", 2, 0},
};

START_TEST(takes)
{
    struct sae_choice c = {.layout = NULL};
    struct sae_err err = {0};

    fake_file(goods[_i].file);
    ck_assert_msg(sae_dict_choose(&fake, &nothing, NULL, &c, &err) == SAE_OK, "%s", err.text);
    ck_assert_str_eq(c.layout->name, goods[_i].class_name);
    ck_assert_uint_eq(c.group, goods[_i].group);
    ck_assert_uint_eq(c.prefix, goods[_i].prefix);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    const char *file;
    const char *said[4]; /* all of them */
} bads[] = {
    {" | a: " AE " | b: " NEW, {"\"a\" and \"b\"", "state prefix=a. or prefix=b."}},
    {"epoch=5 | model: V_enc V_dec c_enc c_dec",
     {"no class has its 2 keys: \"epoch\"", "in it: \"model\"", "save module.state_dict()"}},
    {"epoch=5 | opt: state=* | model: bias encoder.weight encoder.bias",
     {"in the dict \"model\"", "AutoEncoder's", "\"decoder.weight\" is missing"}},
    {"V_enc V_dec c_enc", {"no class has its 3 keys: \"V_enc\" [7, 5], \"V_dec\" [7, 5]"}},
    {AE " step", {"AutoEncoder's", "unexpected: \"step\"", "format=custom would ignore"}},
    {AE " =", {"unexpected: tensors under keys that are no strings"}},
    {"module.bias " NEW, {"AutoEncoderNew's", "unexpected: \"module.bias\""}},
    {"k=64 | state_dict: " AE, {"AutoEncoder's", "an integer \"k\"", "largest"}},
    {"top_k=64 | state_dict: " NEW, {"AutoEncoderNew's", "an integer \"top_k\""}},
    {"k=i0 | state_dict: " AE, {"an integer \"k\""}},
    {" | cfg: lr=0.5 k=64 | state_dict: " AE, {"an integer \"k\"", "in \"cfg\""}},
    {AE " | cfg: k=64", {"an integer \"k\"", "in \"cfg\"", "state k=N or k=none"}},
    {NEW " k=3", {"AutoEncoderNew's", "an integer \"k\"", "state k=N or k=none"}},
    {NEW " top_k=i0", {"an integer \"top_k\""}},
    {"act_mean=f1 | state_dict: " AE,
     {"a tensor \"act_mean\"", "\"state_dict\"", "save the state dict alone"}},
    {"x | state_dict: " GATED, {"a tensor \"x\""}},
    {"norm_factor=0.5 | state_dict: " AE, {"a number \"norm_factor\""}},
    {"norm_factor=0.5 | ae: " AE,
     {"training backup", "saed does not read yet", "\"ae\"", "\"norm_factor\""}},
    {"encoder.weight=f3 encoder.bias decoder.weight=f3 decoder.bias",
     {"\"encoder.weight\" has three dimensions", "crosscoder", "format=custom"}},
    {"W_enc=f3 b_enc W_dec=f3 b_dec", {"\"W_enc\" has three dimensions", "crosscoder"}},
    {"encoder.weight router.weight decoder b_dec b_router", {"a Switch SAE", "does not read"}},
    {" | sae: enc_L enc_R dec_L dec_R b_dec", {"\"enc_L\" is of a Kron SAE", "does not read"}},
    {"W_Q W_K W_V W_O b_Q b_K b_V b_D", {"a Lorsa", "does not read"}},
    {"W_E b_E U_matrices.4 V_matrices.4 b_D", {"a MOLT", "does not read"}},
    {"attn_layers.0.W D E b", {"a temporal SAE", "does not read"}},
    {"W_E b_E W_D b_D", {"llamascopium", "saed does not read yet"}},
    {NEW " log_jumprelu_threshold=f1", {"lm_saes", "saed does not read yet"}},
    {"W_enc b_enc=f1 W_dec b_dec=f1 W_skip",
     {"neither a config nor", "format=sae_lens or format=circuit_tracer", "\"W_skip\" [7, 5]"}},
    {"w_enc b_enc=f1 w_dec b_dec=f1 threshold=f1", {"format=gemma_scope_2"}},
    {"encoder.weight encoder.bias=f1 W_dec b_dec=f1", {"format=sparsify"}},
    {"decoder.linear.weight pre_bias=f1 latent_bias=f1", {"format=sentence_transformers"}},
    {"scaling_factor=1.1 | state_dict: " AE, {"a number \"scaling_factor\""}},
    {"scale=f0 | state_dict: " AE, {"a tensor \"scale\""}},
    {"mean=2 | state_dict: " AE, {"a number \"mean\""}},
    {"std=i0 | state_dict: " AE, {"a tensor \"std\""}},
    /* by their names behind prefixes, and among the tensors too */
    {PRE("module.") " module.k=3", {"an integer \"module.k\"", "the k largest", "k=N or k=none"}},
    {PRE("sae.") " sae.top_k=i0", {"an integer \"sae.top_k\""}},
    {"module.norm_factor=2 | state_dict: " AE, {"a number \"module.norm_factor\""}},
    {NEW " norm_factor=2.0",
     {"a number \"norm_factor\" stands beside its tensors", "state input=scale:C or input=none"}},
    {" | state_dict: " NEW " scaling_factor=2", {"a number \"scaling_factor\"", "\"state_dict\""}},
};

START_TEST(refuses)
{
    struct sae_choice c = {.layout = NULL};
    struct sae_err err = {0};

    fake_file(bads[_i].file);
    ck_assert_int_eq(sae_dict_choose(&fake, &nothing, NULL, &c, &err), SAE_E_FORMAT);
    ck_assert_ptr_null(c.layout);
    ck_assert_msg(strncmp(err.text, "cannot ", 7) == 0, "%s", err.text);
    for (size_t i = 0; i < 4 && bads[_i].said[i]; i++)
        ck_assert_msg(strstr(err.text, bads[_i].said[i]) != NULL, "\"%s\" is not in: %s",
                      bads[_i].said[i], err.text);
}
END_TEST

/* The dict of a matrix, when that is all that is wanted. */
static const struct {
    const char *file, *encoder;
    const char *said; /* NULL: group is it */
    size_t group;
} lines[] = {
    {"W b", NULL, NULL, 0},
    {"step=1 | a: W | b: n=3", NULL, NULL, 1},
    {" | a: W | b: V", NULL, "several of its dicts have tensors; state encoder=KEY", 0},
    {"W | a: V", NULL, "several of its dicts have tensors; state encoder=KEY", 0},
    {" | a: W | b: V", "V", NULL, 2},
    {" | a: W | b: V", "V@F,d", NULL, 2},
    {" | a: W | b: V", "U", "encoder=U is stated, and the file has no such tensor", 0},
    {"step=1", NULL, "the file holds no tensors", 0},
    {"scaling_factor=1 tol=0.5 | a: W b", NULL, NULL, 1},
    {"scale=0.5 | a: W b", NULL, "a number \"scale\" stands beside the state dict \"a\"", 0},
    {"mean=f1 | a: W b", "W", "a tensor \"mean\" stands beside the state dict \"a\"", 0},
    {"W std=2", NULL, "a number \"std\" stands beside its tensors", 0},
    {"W std=f0", NULL, "a tensor \"std\" stands beside its tensors", 0},
};

START_TEST(a_matrix_alone)
{
    struct sae_choice c = {.layout = NULL};
    struct sae_err err = {0};
    struct sae_statement stated = nothing;
    enum sae_status st;

    fake_file(lines[_i].file);
    stated.format = "linear";
    stated.key[SAE_ROLE_ENCODER] = lines[_i].encoder;
    st = sae_dict_choose(&fake, &stated, "linear", &c, &err);
    ck_assert_int_eq(st, lines[_i].said ? SAE_E_FORMAT : SAE_OK);
    ck_assert_msg(!lines[_i].said || strstr(err.text, lines[_i].said), "%s", err.text);
    ck_assert(lines[_i].said ? !c.layout : c.group == lines[_i].group);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("choose");
    TCase *t = tcase_create("choose");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, takes, 0, SAE_COUNTOF(goods));
    tcase_add_loop_test(t, refuses, 0, SAE_COUNTOF(bads));
    tcase_add_loop_test(t, a_matrix_alone, 0, SAE_COUNTOF(lines));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
