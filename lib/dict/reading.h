/* reading.h - under which formula a file's tensors are read, as data (formats section 1).
 *
 * A reading is a value for each field of one table. A format's row fills it in, what the files say
 * goes before that, and what an operator states before all. A value has a text, the same one on the
 * command line, in the config file and in what the API shows.
 * What it comes to as numbers is formula.h; which tensors it names is for file.c to find.
 * Plain data, pure functions, any thread. */
#ifndef SAE_READING_H
#define SAE_READING_H

#include "lib/dict/formula.h"
#include "lib/info.h"

/* The order in which a reading is shown. */
enum sae_field {
    SAE_FIELD_KIND,
    SAE_FIELD_INPUT,
    SAE_FIELD_OUTPUT,
    SAE_FIELD_CENTRE,
    SAE_FIELD_ACTIVATION,
    SAE_FIELD_SELECT,
    SAE_FIELD_THRESHOLD,
    SAE_FIELD_SCORE,
    SAE_FIELD_NORMALIZE_DECODER,
    SAE_FIELD_FEATURES,
    SAE_FIELD_SKIP
};

/* The choices of the fields; 0 is the default. Those of activation are units, and it has none. */
enum { SAE_KIND_SAE, SAE_KIND_TRANSCODER };
enum { SAE_INPUT_NONE, SAE_INPUT_SCALE, SAE_INPUT_RMS, SAE_INPUT_LAYER_NORM };
enum { SAE_OUTPUT_FOLLOW, SAE_OUTPUT_NONE, SAE_OUTPUT_SCALE };
enum { SAE_CENTRE_NONE, SAE_CENTRE_KEY };
/* ... what a stated threshold= implies, and k= */
enum { SAE_ACTIVATION_OF_THRESHOLD = SAE_UNIT_THRESHOLD, SAE_ACTIVATION_OF_K = SAE_UNIT_RELU };
enum { SAE_SELECT_ALL, SAE_SELECT_TOP_K, SAE_SELECT_GROUP_MAX };
enum { SAE_THRESHOLD_NONE, SAE_THRESHOLD_EXP, SAE_THRESHOLD_NUMBER, SAE_THRESHOLD_KEY };
enum { SAE_AS_STORED, SAE_NORM_ONE };
enum { SAE_FEATURES_ALL, SAE_FEATURES_FIRST };
enum { SAE_SKIP_NONE, SAE_SKIP_KEY };

struct sae_value {
    unsigned choice;                /* of the above; of score enum sae_score */
    float number;                   /* scale:C, a threshold */
    uint64_t count;                 /* top_k:K, group_max:K, features */
    char key[SAE_READING_TEXT_MAX]; /* as it is typed: "b_dec+act_mean", "W_skip@m,d" */
};

struct sae_reading_field {
    bool is_set; /* activation may be open until all is known, stated ones are few */
    enum sae_origin from;
    struct sae_value value;
    bool contradicts;         /* stated, and ... */
    struct sae_value by_file; /* ... this is what the files say */
};

struct sae_reading {
    struct sae_reading_field field[SAE_N_FIELDS];
};

const char *sae_field_name(enum sae_field f);
/* SAE_N_FIELDS: there is none of that name. */
enum sae_field sae_field_by_name(const char *name, size_t n);

/* SAE_E_USAGE: the text is no value of the field, and what is wanted. */
enum sae_status sae_value_parse(enum sae_field f, const char *text, struct sae_value *out,
                                struct sae_err *err) SAE_MUST_USE;
void sae_value_print(enum sae_field f, const struct sae_value *v, char text[SAE_READING_TEXT_MAX]);
bool sae_value_equal(enum sae_field f, const struct sae_value *a, const struct sae_value *b);

/* Do two complete readings mean the same by the field? */
bool sae_reading_same(const struct sae_reading *a, const struct sae_reading *b, enum sae_field f);

/* Nothing is set. */
void sae_reading_init(struct sae_reading *r);
/* What comes from further ahead (enum sae_origin) is not overwritten. What the files say against a
 * statement is kept beside it. */
void sae_reading_set(struct sae_reading *r, enum sae_field f, const struct sae_value *v,
                     enum sae_origin from);
/* The same by its text, which is ours and right. */
void sae_reading_say(struct sae_reading *r, enum sae_field f, const char *text,
                     enum sae_origin from);
/* All that is set in `stated`, into *r, as stated. */
void sae_reading_state(struct sae_reading *r, const struct sae_reading *stated);
/* What is not set gets its default; activation has none. */
void sae_reading_complete(struct sae_reading *r);

static inline bool sae_reading_is_stated(const struct sae_reading *r, enum sae_field f)
{
    return r->field[f].is_set && r->field[f].from == SAE_FROM_STATED;
}
static inline unsigned sae_reading_choice(const struct sae_reading *r, enum sae_field f)
{
    return r->field[f].value.choice;
}

/* Is its activation set, and one that wants a threshold? */
bool sae_reading_wants_threshold(const struct sae_reading *r);

/* The rules of combination among what is set: SAE_E_USAGE names the two fields, or what saed does
 * not do yet. */
enum sae_status sae_reading_check(const struct sae_reading *r, struct sae_err *err) SAE_MUST_USE;

/* Of a complete reading that has an activation: unit, scalings, score and selection of *f; widths
 * and vectors are set by who knows the tensors. */
void sae_reading_fill(const struct sae_reading *r, struct sae_formula *f);

/* What SAELens would call it: "standard", "topk", "jumprelu_skip_transcoder". Static. */
const char *sae_reading_class(const struct sae_reading *r, bool has_skip);

/* As text, for info and for the API. */
void sae_reading_show(const struct sae_reading *r, struct sae_dict_info *info);

#endif
