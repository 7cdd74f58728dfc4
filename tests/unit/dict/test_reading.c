/* test_reading.c - the fields of a reading: their texts, what comes before what, what goes with
 * what, and the formula that they make. */
#include "lib/dict/reading.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

/* ---- texts ---- */

static const struct {
    const char *field, *text, *printed; /* printed NULL: as it was written */
} goods[] = {
    {"kind", "sae", NULL},
    {"kind", "transcoder", NULL},
    {"input", "none", NULL},
    {"input", "scale:5.9", NULL},
    {"input", "scale:1", NULL},
    {"input", "scale:0.10000000149", "scale:0.1"},
    {"input", "scale:1.00000001", "scale:1"},
    {"input", "scale:1E2", "scale:1e+02"},
    {"input", "scale:16777217", "scale:16777216"},
    {"input", "scale:3.4028235e38", "scale:3.4028235e+38"},
    {"input", "scale:1e-45", "scale:1e-45"},
    {"input", "rms", NULL},
    {"input", "layer_norm", NULL},
    {"output", "follow", NULL},
    {"output", "none", NULL},
    {"output", "scale:0.5", NULL},
    {"centre", "none", NULL},
    {"centre", "b_dec", NULL},
    {"centre", "b_dec+act_mean", NULL},
    {"centre", "7", NULL},
    {"activation", "relu", NULL},
    {"activation", "linear", NULL},
    {"activation", "threshold", NULL},
    {"activation", "threshold_signed", NULL},
    {"activation", "gated", NULL},
    {"activation", "jump", NULL},
    {"select", "all", NULL},
    {"select", "top_k:64", NULL},
    {"select", "top_k:007", "top_k:7"},
    {"select", "group_max:4", NULL},
    {"threshold", "none", NULL},
    {"threshold", "-0.5", NULL},
    {"threshold", "1e-3", "0.001"},
    {"threshold", "threshold", NULL},
    {"threshold", "exp:log_threshold", NULL},
    {"threshold", "inf", NULL}, /* a key */
    {"threshold", "01", NULL},  /* so is this */
    {"score", "value", NULL},
    {"score", "decoder_norm", NULL},
    {"score", "decoder_norm_folded", NULL},
    {"normalize_decoder", "as_stored", NULL},
    {"normalize_decoder", "unit", NULL},
    {"features", "all", NULL},
    {"features", "4096", NULL},
    {"skip", "none", NULL},
    {"skip", "W_skip", NULL},
    {"skip", "W_skip@d,m", NULL},
};

START_TEST(a_text_is_read_and_printed)
{
    enum sae_field f = sae_field_by_name(goods[_i].field, strlen(goods[_i].field));
    struct sae_value v, again;
    struct sae_err err = {0};
    char text[SAE_READING_TEXT_MAX];

    ck_assert_int_lt(f, SAE_N_FIELDS);
    ck_assert_str_eq(sae_field_name(f), goods[_i].field);
    ck_assert_msg(sae_value_parse(f, goods[_i].text, &v, &err) == SAE_OK, "%s", err.text);
    sae_value_print(f, &v, text);
    ck_assert_str_eq(text, goods[_i].printed ? goods[_i].printed : goods[_i].text);
    ck_assert_int_eq(sae_value_parse(f, text, &again, &err), SAE_OK);
    ck_assert(sae_value_equal(f, &v, &again));
    ck_assert(v.number == again.number && v.count == again.count);
}
END_TEST

static const char *const bads[][2] = {
    {"kind", "SAE"},           {"kind", ""},
    {"input", "scale:"},       {"input", "scale:0"},
    {"input", "scale:-1"},     {"input", "scale:1e39"},
    {"input", "scale:1e-60"},  {"input", "scale:inf"},
    {"input", "scale:+1"},     {"input", "scale:0x1"},
    {"input", "scale:01"},     {"input", "scale:1."},
    {"input", "scale:.5"},     {"input", "scale:1e"},
    {"input", "scale: 1"},     {"input", "scale:1 "},
    {"input", "rms:1"},        {"output", "rms"},
    {"output", "scale:nan"},   {"centre", ""},
    {"activation", "topk"},    {"activation", "none"},
    {"select", "top_k"},       {"select", "top_k:"},
    {"select", "top_k:0"},     {"select", "top_k:3x"},
    {"select", "top_k:-3"},    {"select", "top_k:18446744073709551616"},
    {"threshold", "1e39"},     {"threshold", "exp:"},
    {"threshold", "-1e400"},   {"score", "norm"},
    {"normalize_decoder", ""}, {"features", "0"},
    {"features", "1.5"},       {"skip", ""},
};

START_TEST(what_is_no_value_is_refused)
{
    enum sae_field f = sae_field_by_name(bads[_i][0], strlen(bads[_i][0]));
    struct sae_value v = {.choice = 77};
    struct sae_err err = {0};
    char head[80];

    snprintf(head, sizeof head, "%s is \"%s\", wanted ", bads[_i][0], bads[_i][1]);
    ck_assert_int_eq(sae_value_parse(f, bads[_i][1], &v, &err), SAE_E_USAGE);
    ck_assert_msg(strncmp(err.text, head, strlen(head)) == 0, "%s", err.text);
    ck_assert_uint_eq(v.choice, 77);
}
END_TEST

START_TEST(a_key_is_not_cut)
{
    char text[SAE_READING_TEXT_MAX + 1];
    struct sae_value v;

    memset(text, 'k', sizeof text);
    text[SAE_READING_TEXT_MAX - 1] = '\0';
    ck_assert_int_eq(sae_value_parse(SAE_FIELD_CENTRE, text, &v, NULL), SAE_OK);
    ck_assert_str_eq(v.key, text);
    text[SAE_READING_TEXT_MAX - 1] = 'k';
    text[SAE_READING_TEXT_MAX] = '\0';
    ck_assert_int_eq(sae_value_parse(SAE_FIELD_CENTRE, text, &v, NULL), SAE_E_USAGE);
    ck_assert_int_eq(sae_field_by_name("centres", 7), SAE_N_FIELDS);
    ck_assert_int_eq(sae_field_by_name("centres", 6), SAE_FIELD_CENTRE);
}
END_TEST

/* ---- a reading ---- */

/* "field=text ..." */
static struct sae_reading said(const char *line, enum sae_origin from)
{
    struct sae_reading r;
    char copy[400], *save = NULL;

    sae_reading_init(&r);
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        size_t n = strcspn(w, "=");

        sae_reading_say(&r, sae_field_by_name(w, n), w + n + 1, from);
    }
    return r;
}

START_TEST(what_is_stated_comes_first)
{
    struct sae_reading r = said("centre=b_dec activation=relu", SAE_FROM_ROW);
    struct sae_reading stated = said("centre=none select=top_k:3 input=rms", SAE_FROM_STATED);
    struct sae_dict_info info = {0};

    sae_reading_say(&r, SAE_FIELD_SELECT, "top_k:4", SAE_FROM_FILE);
    sae_reading_say(&r, SAE_FIELD_INPUT, "rms", SAE_FROM_FILE);
    sae_reading_state(&r, &stated);
    sae_reading_say(&r, SAE_FIELD_CENTRE, "b_dec", SAE_FROM_ROW); /* too late */
    sae_reading_complete(&r);
    ck_assert_int_eq(sae_reading_check(&r, NULL), SAE_OK);
    sae_reading_show(&r, &info);
    ck_assert_str_eq(info.reading[SAE_FIELD_CENTRE].text, "none");
    ck_assert_int_eq(info.reading[SAE_FIELD_CENTRE].from, SAE_FROM_STATED);
    ck_assert_str_eq(info.reading[SAE_FIELD_CENTRE].by_file, ""); /* the row's is no fact */
    ck_assert_str_eq(info.reading[SAE_FIELD_SELECT].text, "top_k:3");
    ck_assert_str_eq(info.reading[SAE_FIELD_SELECT].by_file, "top_k:4");
    ck_assert_str_eq(info.reading[SAE_FIELD_INPUT].by_file, ""); /* the same */
    ck_assert_int_eq(info.reading[SAE_FIELD_ACTIVATION].from, SAE_FROM_ROW);
    ck_assert_str_eq(info.reading[SAE_FIELD_OUTPUT].text, "follow");
    ck_assert_int_eq(info.reading[SAE_FIELD_OUTPUT].from, SAE_FROM_DEFAULT);
    for (int f = 0; f < SAE_N_FIELDS; f++)
        ck_assert_str_eq(info.reading[f].name, sae_field_name((enum sae_field)f));
}
END_TEST

static const struct {
    const char *line, *said; /* NULL: it goes together */
} pairs[] = {
    {"", NULL},
    {"activation=relu select=top_k:3 input=rms output=none", NULL},
    {"activation=threshold threshold=0.5 select=top_k:3", NULL},
    {"activation=relu score=decoder_norm", NULL},
    {"activation=gated", NULL},
    {"features=4 select=all", NULL},
    {"activation=threshold", NULL},
    {"threshold=0.5", NULL},
    {"activation=gated select=top_k:3", "activation=gated does not go with select=top_k:3"},
    {"activation=jump select=top_k:3", "activation=jump does not go with"},
    {"activation=gated score=decoder_norm", "does not go with score=decoder_norm"},
    {"activation=jump threshold=0.5", "does not go with threshold=0.5"},
    {"activation=relu threshold=T", "activation=relu does not go with threshold=T"},
    {"activation=threshold threshold=none", "does not go with threshold=none"},
    {"features=4 select=top_k:3", "features=4 does not go with select=top_k:3"},
    {"select=group_max:3", "select=group_max:3: saed does not read it yet"},
    {"normalize_decoder=unit", "normalize_decoder=unit: saed does not read it yet"},
};

START_TEST(not_everything_goes_together)
{
    struct sae_reading r = said(pairs[_i].line, SAE_FROM_STATED);
    struct sae_err err = {0};

    ck_assert_int_eq(sae_reading_check(&r, &err), pairs[_i].said ? SAE_E_USAGE : SAE_OK);
    if (pairs[_i].said)
        ck_assert_msg(strstr(err.text, pairs[_i].said) != NULL, "%s", err.text);
}
END_TEST

/* ---- as a formula ---- */

static const struct {
    const char *line;
    struct sae_formula f;
} formulae[] = {
    {"activation=relu", {.unit = SAE_UNIT_RELU}},
    {"activation=threshold threshold=1", {.unit = SAE_UNIT_THRESHOLD}},
    {"activation=gated", {.unit = SAE_UNIT_GATED}},
    {"activation=jump", {.unit = SAE_UNIT_JUMP}},
    {"activation=relu select=top_k:9", {.unit = SAE_UNIT_RELU, .top_k = 9}},
    {"activation=relu input=scale:2",
     {.unit = SAE_UNIT_RELU,
      .input = SAE_SCALING_CONSTANT,
      .input_scale = 2,
      .output = SAE_SCALING_CONSTANT,
      .output_scale = 2}},
    {"activation=relu input=scale:2 output=scale:3",
     {.unit = SAE_UNIT_RELU,
      .input = SAE_SCALING_CONSTANT,
      .input_scale = 2,
      .output = SAE_SCALING_CONSTANT,
      .output_scale = 3}},
    {"activation=relu input=rms",
     {.unit = SAE_UNIT_RELU, .input = SAE_SCALING_RMS, .output = SAE_SCALING_RMS}},
    {"activation=relu input=layer_norm output=none",
     {.unit = SAE_UNIT_RELU, .input = SAE_SCALING_LAYER}},
    {"activation=relu score=decoder_norm_folded",
     {.unit = SAE_UNIT_RELU, .score = SAE_SCORE_DECODER_NORM_FOLDED}},
};

START_TEST(a_reading_makes_a_formula)
{
    struct sae_reading r = said(formulae[_i].line, SAE_FROM_ROW);
    const struct sae_formula *want = &formulae[_i].f;
    struct sae_formula f = {.d_in = 1};

    sae_reading_complete(&r);
    sae_reading_fill(&r, &f);
    ck_assert_int_eq(f.unit, want->unit);
    ck_assert_int_eq(f.input, want->input);
    ck_assert_int_eq(f.output, want->output);
    ck_assert(f.input != SAE_SCALING_CONSTANT || f.input_scale == want->input_scale);
    ck_assert(f.output != SAE_SCALING_CONSTANT || f.output_scale == want->output_scale);
    ck_assert_int_eq(f.score, want->score);
    ck_assert_uint_eq(f.top_k, want->top_k);
}
END_TEST

static const struct {
    const char *line;
    bool has_skip;
    const char *name;
} classes[] = {
    {"activation=relu", false, "standard"},
    {"activation=relu kind=transcoder", false, "transcoder"},
    {"activation=relu kind=transcoder", true, "skip_transcoder"},
    {"activation=threshold threshold=1", false, "jumprelu"},
    {"activation=threshold_signed threshold=1 kind=transcoder", true, "jumprelu_skip_transcoder"},
    {"activation=linear", false, "linear"},
    {"activation=gated", false, "gated"},
    {"activation=jump", false, "jump"},
    {"activation=relu select=top_k:3", false, "topk"},
    {"activation=linear select=top_k:3 kind=transcoder", false, "topk_transcoder"},
    {"activation=relu select=group_max:3", false, "groupmax"},
};

START_TEST(a_reading_has_a_name)
{
    struct sae_reading r = said(classes[_i].line, SAE_FROM_ROW);

    sae_reading_complete(&r);
    ck_assert_str_eq(sae_reading_class(&r, classes[_i].has_skip), classes[_i].name);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reading");
    TCase *t = tcase_create("reading");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, a_text_is_read_and_printed, 0, SAE_COUNTOF(goods));
    tcase_add_loop_test(t, what_is_no_value_is_refused, 0, SAE_COUNTOF(bads));
    tcase_add_test(t, a_key_is_not_cut);
    tcase_add_test(t, what_is_stated_comes_first);
    tcase_add_loop_test(t, not_everything_goes_together, 0, SAE_COUNTOF(pairs));
    tcase_add_loop_test(t, a_reading_makes_a_formula, 0, SAE_COUNTOF(formulae));
    tcase_add_loop_test(t, a_reading_has_a_name, 0, SAE_COUNTOF(classes));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
