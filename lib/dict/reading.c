/* reading.c - see reading.h.
 *
 * One table says which texts a field takes: a word, or a word with an argument behind it. Parsing,
 * printing, comparing and what a refusal calls wanted all go by its rows. */
#include "lib/dict/reading.h"

#include "lib/scan.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stands behind a form's word. */
enum argument { ARG_NONE, ARG_SCALE, ARG_COUNT, ARG_NUMBER, ARG_KEY };

/* A text that a field takes. The first that fits is it, so a bare KEY comes last. */
struct form {
    const char *word;
    enum argument argument;
    unsigned choice;
    /* What SAELens would call a plain dictionary of it, a transcoder, one with a skip. */
    const char *classes[3];
};
#define WORD(text, value)                 \
    {                                     \
        .word = (text), .choice = (value) \
    }
#define WITH(text, kind, value)                               \
    {                                                         \
        .word = (text), .argument = (kind), .choice = (value) \
    }
#define CLASS(text, kind, value, ...)                                                     \
    {                                                                                     \
        .word = (text), .argument = (kind), .choice = (value), .classes = { __VA_ARGS__ } \
    }
#define OF(name) name, name "_transcoder", name "_skip_transcoder"

#define MAX_FORMS 8
struct field {
    const char *name, *wanted;
    struct form forms[MAX_FORMS]; /* up to one without a word and an argument */
};

static const struct field fields[SAE_N_FIELDS] = {
    [SAE_FIELD_KIND] = {.name = "kind",
                        .wanted = "sae or transcoder",
                        .forms = {WORD("sae", SAE_KIND_SAE),
                                  WORD("transcoder", SAE_KIND_TRANSCODER)}},
    [SAE_FIELD_INPUT] = {.name = "input",
                         .wanted = "none, scale:C (a number above 0), rms or layer_norm",
                         .forms = {WORD("none", SAE_INPUT_NONE),
                                   WITH("scale:", ARG_SCALE, SAE_INPUT_SCALE),
                                   WORD("rms", SAE_INPUT_RMS),
                                   WORD("layer_norm", SAE_INPUT_LAYER_NORM)}},
    [SAE_FIELD_OUTPUT] = {.name = "output",
                          .wanted = "follow, none or scale:C (a number above 0)",
                          .forms = {WORD("follow", SAE_OUTPUT_FOLLOW),
                                    WORD("none", SAE_OUTPUT_NONE),
                                    WITH("scale:", ARG_SCALE, SAE_OUTPUT_SCALE)}},
    [SAE_FIELD_CENTRE] = {.name = "centre",
                          .wanted = "none or a tensor's key",
                          .forms = {WORD("none", SAE_CENTRE_NONE),
                                    WITH("", ARG_KEY, SAE_CENTRE_KEY)}},
    [SAE_FIELD_ACTIVATION] =
        {.name = "activation",
         .wanted = "relu, linear, threshold, threshold_signed, gated or jump",
         .forms = {CLASS("relu", ARG_NONE, SAE_UNIT_RELU, "standard", "transcoder",
                         "skip_transcoder"),
                   CLASS("linear", ARG_NONE, SAE_UNIT_LINEAR, OF("linear")),
                   CLASS("threshold", ARG_NONE, SAE_UNIT_THRESHOLD, OF("jumprelu")),
                   CLASS("threshold_signed", ARG_NONE, SAE_UNIT_THRESHOLD_SIGNED, OF("jumprelu")),
                   CLASS("gated", ARG_NONE, SAE_UNIT_GATED, OF("gated")),
                   CLASS("jump", ARG_NONE, SAE_UNIT_JUMP, OF("jump"))}},
    [SAE_FIELD_SELECT] = {.name = "select",
                          .wanted = "all, top_k:K or group_max:K (a whole number from 1)",
                          .forms = {WORD("all", SAE_SELECT_ALL),
                                    CLASS("top_k:", ARG_COUNT, SAE_SELECT_TOP_K, OF("topk")),
                                    CLASS("group_max:", ARG_COUNT, SAE_SELECT_GROUP_MAX,
                                          OF("groupmax"))}},
    [SAE_FIELD_THRESHOLD] = {.name = "threshold",
                             .wanted = "none, a number, a tensor's key or exp:KEY",
                             .forms = {WORD("none", SAE_THRESHOLD_NONE),
                                       WITH("exp:", ARG_KEY, SAE_THRESHOLD_EXP),
                                       WITH("", ARG_NUMBER, SAE_THRESHOLD_NUMBER),
                                       WITH("", ARG_KEY, SAE_THRESHOLD_KEY)}},
    [SAE_FIELD_SCORE] = {.name = "score",
                         .wanted = "value, decoder_norm or decoder_norm_folded",
                         .forms = {WORD("value", SAE_SCORE_VALUE),
                                   WORD("decoder_norm", SAE_SCORE_DECODER_NORM),
                                   WORD("decoder_norm_folded", SAE_SCORE_DECODER_NORM_FOLDED)}},
    [SAE_FIELD_NORMALIZE_DECODER] = {.name = "normalize_decoder",
                                     .wanted = "as_stored or unit",
                                     .forms = {WORD("as_stored", SAE_AS_STORED),
                                               WORD("unit", SAE_NORM_ONE)}},
    [SAE_FIELD_FEATURES] = {.name = "features",
                            .wanted = "all or a whole number from 1",
                            .forms = {WORD("all", SAE_FEATURES_ALL),
                                      WITH("", ARG_COUNT, SAE_FEATURES_FIRST)}},
    [SAE_FIELD_SKIP] = {.name = "skip",
                        .wanted = "none, or a tensor's key with or without @m,d or @d,m",
                        .forms = {WORD("none", SAE_SKIP_NONE), WITH("", ARG_KEY, SAE_SKIP_KEY)}},
};

const char *sae_field_name(enum sae_field f)
{
    return fields[f].name;
}

enum sae_field sae_field_by_name(const char *name, size_t n)
{
    enum sae_field f = 0;

    while (f < SAE_N_FIELDS &&
           (strlen(fields[f].name) != n || memcmp(fields[f].name, name, n) != 0))
        f++;
    return f;
}

/* ---- values and their texts --------------------------------------------------------------- */

static bool is_last(const struct form *form)
{
    return form->word == NULL;
}

static const char *skip_digits(const char *s)
{
    while (sae_is_digit(*s))
        s++;
    return s;
}

/* The whole text is a number as JSON has it. */
static bool is_json_number(const char *s)
{
    const char *digits = s += *s == '-';

    s = skip_digits(s);
    if (s == digits || (*digits == '0' && s > digits + 1))
        return false;
    if (*s == '.') {
        digits = ++s;
        s = skip_digits(s);
        if (s == digits)
            return false;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        digits = s += *s == '+' || *s == '-';
        s = skip_digits(s);
        if (s == digits)
            return false;
    }
    return *s == '\0';
}

/* No locale is ever set, so the point is a point. */
static bool to_number(const char *s, float *out)
{
    if (!is_json_number(s))
        return false;
    *out = strtof(s, NULL);
    return isfinite(*out);
}

/* Digits alone, from 1. */
static bool to_count(const char *s, uint64_t *out)
{
    return sae_scan_whole_u64(s, strlen(s), out) && *out >= 1;
}

static bool take_argument(const struct form *form, const char *s, struct sae_value *v)
{
    switch (form->argument) {
    case ARG_NONE:
        return *s == '\0';
    case ARG_SCALE:
        return to_number(s, &v->number) && v->number > 0.0f;
    case ARG_COUNT:
        return to_count(s, &v->count);
    case ARG_NUMBER:
        return to_number(s, &v->number);
    case ARG_KEY:
        break;
    }
    snprintf(v->key, sizeof v->key, "%s", s);
    return *s != '\0' && strlen(s) < sizeof v->key - strlen(form->word);
}

/* Is the text meant as this form, so that it is wrong where its argument is? A number that f32 does
 * not hold is no key. */
static bool is_meant(const struct form *form, const char *s)
{
    return form->argument == ARG_NUMBER ? is_json_number(s)
                                        : form->argument != ARG_NONE && form->word[0] != '\0';
}

enum sae_status sae_value_parse(enum sae_field f, const char *text, struct sae_value *out,
                                struct sae_err *err)
{
    for (const struct form *form = fields[f].forms;
         form < fields[f].forms + MAX_FORMS && !is_last(form); form++) {
        struct sae_value v = {.choice = form->choice};
        size_t n = strlen(form->word);

        if (strncmp(text, form->word, n) != 0)
            continue;
        if (take_argument(form, text + n, &v)) {
            *out = v;
            return SAE_OK;
        }
        if (is_meant(form, text + n))
            break;
    }
    return sae_err_set(err, SAE_E_USAGE, "", "%s is \"%.80s\", wanted %s", fields[f].name, text,
                       fields[f].wanted);
}

/* Of an activation that nothing says yet, whatever its choice: the first. */
static const struct form *form_of(enum sae_field f, unsigned choice)
{
    const struct form *forms = fields[f].forms;

    for (const struct form *form = forms; form < forms + MAX_FORMS && !is_last(form); form++)
        if (form->choice == choice)
            return form;
    return forms;
}

/* As few digits as read back to the same f32. */
static void print_number(float v, char *text, size_t room)
{
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, room, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            return;
    }
}

void sae_value_print(enum sae_field f, const struct sae_value *v, char text[SAE_READING_TEXT_MAX])
{
    const struct form *form = form_of(f, v->choice);
    size_t n = (size_t)snprintf(text, SAE_READING_TEXT_MAX, "%s", form->word);

    switch (form->argument) {
    case ARG_NONE:
        break;
    case ARG_SCALE:
    case ARG_NUMBER:
        print_number(v->number, text + n, SAE_READING_TEXT_MAX - n);
        break;
    case ARG_COUNT:
        snprintf(text + n, SAE_READING_TEXT_MAX - n, "%llu", (unsigned long long)v->count);
        break;
    case ARG_KEY:
        snprintf(text + n, SAE_READING_TEXT_MAX - n, "%s", v->key);
        break;
    }
}

bool sae_value_equal(enum sae_field f, const struct sae_value *a, const struct sae_value *b)
{
    char x[SAE_READING_TEXT_MAX], y[SAE_READING_TEXT_MAX];

    sae_value_print(f, a, x);
    sae_value_print(f, b, y);
    return strcmp(x, y) == 0;
}

/* ---- a reading, from several sides -------------------------------------------------------- */

void sae_reading_init(struct sae_reading *r)
{
    memset(r, 0, sizeof *r);
}

void sae_reading_set(struct sae_reading *r, enum sae_field f, const struct sae_value *v,
                     enum sae_origin from)
{
    struct sae_reading_field *field = &r->field[f];
    bool differs = field->is_set && !sae_value_equal(f, v, &field->value);

    if (differs && from == SAE_FROM_STATED && field->from == SAE_FROM_FILE) {
        field->contradicts = true;
        field->by_file = field->value;
    }
    if (!field->is_set || from >= field->from) {
        field->is_set = true;
        field->from = from;
        field->value = *v;
    }
}

void sae_reading_say(struct sae_reading *r, enum sae_field f, const char *text,
                     enum sae_origin from)
{
    struct sae_value v = {.choice = 0};
    enum sae_status st = sae_value_parse(f, text, &v, NULL);

    assert(st == SAE_OK);
    (void)st;
    sae_reading_set(r, f, &v, from);
}

void sae_reading_state(struct sae_reading *r, const struct sae_reading *stated)
{
    for (enum sae_field f = 0; f < SAE_N_FIELDS; f++) {
        if (stated->field[f].is_set)
            sae_reading_set(r, f, &stated->field[f].value, SAE_FROM_STATED);
    }
}

void sae_reading_complete(struct sae_reading *r)
{
    for (enum sae_field f = 0; f < SAE_N_FIELDS; f++)
        if (!r->field[f].is_set && f != SAE_FIELD_ACTIVATION) {
            r->field[f].is_set = true;
            r->field[f].from = SAE_FROM_DEFAULT;
        }
}

static bool is(const struct sae_reading *r, enum sae_field f, unsigned choice)
{
    return r->field[f].is_set && r->field[f].value.choice == choice;
}

static bool is_not(const struct sae_reading *r, enum sae_field f, unsigned choice)
{
    return r->field[f].is_set && r->field[f].value.choice != choice;
}

/* NULL: no activation is set. */
static const struct sae_unit *unit_of(const struct sae_reading *r)
{
    const struct sae_reading_field *activation = &r->field[SAE_FIELD_ACTIVATION];

    return activation->is_set ? &sae_units[activation->value.choice] : NULL;
}

bool sae_reading_wants_threshold(const struct sae_reading *r)
{
    const struct sae_unit *unit = unit_of(r);

    return unit && sae_unit_param(unit, SAE_ROLE_THRESHOLD) < unit->n_params;
}

/* ---- what does not go together ------------------------------------------------------------ */

static enum sae_status refuse_pair(const struct sae_reading *r, enum sae_field a, enum sae_field b,
                                   struct sae_err *err)
{
    char x[SAE_READING_TEXT_MAX], y[SAE_READING_TEXT_MAX];

    sae_value_print(a, &r->field[a].value, x);
    sae_value_print(b, &r->field[b].value, y);
    return sae_err_set(err, SAE_E_USAGE, "", "%s=%.60s does not go with %s=%.60s", fields[a].name,
                       x, fields[b].name, y);
}

static enum sae_status not_yet(const struct sae_reading *r, enum sae_field f, struct sae_err *err)
{
    char text[SAE_READING_TEXT_MAX];

    sae_value_print(f, &r->field[f].value, text);
    return sae_err_set(err, SAE_E_USAGE, "", "%s=%.60s: saed does not read it yet", fields[f].name,
                       text);
}

enum sae_status sae_reading_check(const struct sae_reading *r, struct sae_err *err)
{
    const struct sae_unit *unit = unit_of(r);
    bool is_alone = unit && !unit->of_h;

    if (is_alone && is_not(r, SAE_FIELD_SELECT, SAE_SELECT_ALL))
        return refuse_pair(r, SAE_FIELD_ACTIVATION, SAE_FIELD_SELECT, err);
    if (is_alone && is_not(r, SAE_FIELD_SCORE, SAE_SCORE_VALUE))
        return refuse_pair(r, SAE_FIELD_ACTIVATION, SAE_FIELD_SCORE, err);
    if (unit && !sae_reading_wants_threshold(r) &&
        is_not(r, SAE_FIELD_THRESHOLD, SAE_THRESHOLD_NONE))
        return refuse_pair(r, SAE_FIELD_ACTIVATION, SAE_FIELD_THRESHOLD, err);
    if (sae_reading_wants_threshold(r) && is(r, SAE_FIELD_THRESHOLD, SAE_THRESHOLD_NONE) &&
        !sae_reading_is_stated(r, SAE_FIELD_THRESHOLD))
        return sae_err_set(err, SAE_E_USAGE, "",
                           "an activation of threshold wants one; state threshold=NUMBER or "
                           "threshold=KEY");
    if (sae_reading_wants_threshold(r) && is(r, SAE_FIELD_THRESHOLD, SAE_THRESHOLD_NONE))
        return refuse_pair(r, SAE_FIELD_ACTIVATION, SAE_FIELD_THRESHOLD, err);
    if (is_not(r, SAE_FIELD_FEATURES, SAE_FEATURES_ALL) &&
        is_not(r, SAE_FIELD_SELECT, SAE_SELECT_ALL))
        return refuse_pair(r, SAE_FIELD_FEATURES, SAE_FIELD_SELECT, err);
    if (is(r, SAE_FIELD_SELECT, SAE_SELECT_GROUP_MAX))
        return not_yet(r, SAE_FIELD_SELECT, err);
    if (is(r, SAE_FIELD_NORMALIZE_DECODER, SAE_NORM_ONE))
        return not_yet(r, SAE_FIELD_NORMALIZE_DECODER, err);
    return SAE_OK;
}

/* ---- what it comes to --------------------------------------------------------------------- */

void sae_reading_fill(const struct sae_reading *r, struct sae_formula *f)
{
    static const enum sae_scaling inputs[] = {
        [SAE_INPUT_NONE] = SAE_SCALING_NONE,
        [SAE_INPUT_SCALE] = SAE_SCALING_CONSTANT,
        [SAE_INPUT_RMS] = SAE_SCALING_RMS,
        [SAE_INPUT_LAYER_NORM] = SAE_SCALING_LAYER,
    };
    const struct sae_value *input = &r->field[SAE_FIELD_INPUT].value;
    const struct sae_value *output = &r->field[SAE_FIELD_OUTPUT].value;
    const struct sae_value *select = &r->field[SAE_FIELD_SELECT].value;

    f->unit = (enum sae_unit_id)sae_reading_choice(r, SAE_FIELD_ACTIVATION);
    f->input = inputs[input->choice];
    f->input_scale = input->number;
    f->output = output->choice == SAE_OUTPUT_FOLLOW  ? f->input
                : output->choice == SAE_OUTPUT_SCALE ? SAE_SCALING_CONSTANT
                                                     : SAE_SCALING_NONE;
    f->output_scale = output->choice == SAE_OUTPUT_SCALE ? output->number : f->input_scale;
    f->score = (enum sae_score)sae_reading_choice(r, SAE_FIELD_SCORE);
    f->top_k = select->choice == SAE_SELECT_TOP_K ? select->count : 0;
}

const char *sae_reading_class(const struct sae_reading *r, bool has_skip)
{
    enum sae_field f =
        is_not(r, SAE_FIELD_SELECT, SAE_SELECT_ALL) ? SAE_FIELD_SELECT : SAE_FIELD_ACTIVATION;
    bool is_transcoder = is(r, SAE_FIELD_KIND, SAE_KIND_TRANSCODER);

    return form_of(f, sae_reading_choice(r, f))->classes[has_skip ? 2 : is_transcoder];
}

/* `follow` of no scaling is none. */
static void print_shown(const struct sae_reading *r, enum sae_field f,
                        char text[SAE_READING_TEXT_MAX])
{
    bool is_none = f == SAE_FIELD_OUTPUT && is(r, f, SAE_OUTPUT_FOLLOW) &&
                   is(r, SAE_FIELD_INPUT, SAE_INPUT_NONE);

    sae_value_print(f, &r->field[f].value, text);
    if (is_none)
        snprintf(text, SAE_READING_TEXT_MAX, "none");
}

bool sae_reading_same(const struct sae_reading *a, const struct sae_reading *b, enum sae_field f)
{
    char x[SAE_READING_TEXT_MAX], y[SAE_READING_TEXT_MAX];

    print_shown(a, f, x);
    print_shown(b, f, y);
    return strcmp(x, y) == 0;
}

static bool is_usual(enum sae_field f, const struct sae_value *v, const char *text)
{
    return f == SAE_FIELD_OUTPUT ? strcmp(text, "none") == 0
                                 : f != SAE_FIELD_ACTIVATION && v->choice == 0;
}

void sae_reading_show(const struct sae_reading *r, struct sae_dict_info *info)
{
    info->reconstructs_x = is(r, SAE_FIELD_KIND, SAE_KIND_SAE);
    info->has_nan_of_zeros = is(r, SAE_FIELD_INPUT, SAE_INPUT_RMS);
    for (enum sae_field f = 0; f < SAE_N_FIELDS; f++) {
        struct sae_shown_field *shown = &info->reading[f];
        const struct sae_reading_field *field = &r->field[f];

        shown->name = fields[f].name;
        shown->from = field->from;
        print_shown(r, f, shown->text);
        shown->is_usual = is_usual(f, &field->value, shown->text);
        shown->by_file[0] = '\0';
        if (field->contradicts)
            sae_value_print(f, &field->by_file, shown->by_file);
    }
}

const char *sae_dict_shown(const struct sae_dict_info *info, const char *field)
{
    return info->reading[sae_field_by_name(field, strlen(field))].text;
}
