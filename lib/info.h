/* info.h - a dictionary from outside: what is known of it, and what may be read of it.
 *
 * A part of saed.h, by which server/ sees it. Filled by lib/dict, from a draft's headers or from
 * the whole. Pure functions of what is immutable, any thread. */
#ifndef SAE_INFO_H
#define SAE_INFO_H

#include "lib/base.h"
#include "lib/types.h"

struct sae_dict; /* immutable after open; any thread may read it */

/* ---- what it is --------------------------------------------------------------------------- */

#define SAE_MAX_NOTES 20
#define SAE_NOTE_BYTES 200

/* Under which formula its tensors are read: the fields of formats section 1, each with the text
 * that a source's option takes. */
#define SAE_N_FIELDS 11
#define SAE_READING_TEXT_MAX 200
enum sae_origin { SAE_FROM_DEFAULT, SAE_FROM_ROW, SAE_FROM_FILE, SAE_FROM_STATED };
struct sae_shown_field {
    const char *name;
    enum sae_origin from;
    bool is_usual; /* nobody needs to be told: of activation never */
    char text[SAE_READING_TEXT_MAX];
    char by_file[SAE_READING_TEXT_MAX]; /* stated against what the files say: that; else "" */
};

/* What a dictionary is. Strings are borrowed from what it is asked of. */
struct sae_dict_info {
    const char *class_name; /* "AutoEncoder", ... */
    const char *format;     /* which row of the formats: "dictionary_learning", "init", ... */
    uint64_t activation_dim;
    uint64_t output_dim; /* of x_hat; 0: its source has no decoder */
    bool encodes_only;   /* no decoder is kept */
    uint64_t dict_size;
    const char *dtype;    /* the encoder's as stored: "float32", "float16", "bfloat16", "float64" */
    const char *resident; /* ... and in memory */
    uint64_t bytes;       /* f32 bytes of all tensors; UINT64_MAX: more than can be counted */
    uint64_t resident_bytes;   /* what it takes in memory, without what an engine adds; of a draft
                                  with labels about that */
    unsigned options;          /* SAE_OPT_* that some operation of this class takes */
    const char *aux_name;      /* second feature tensor: "gate", "pre_jump" or NULL */
    unsigned state_width;      /* numbers of a row's own that its input scaling makes; 0: none */
    bool wants_state, wants_x; /* decode: those, and the row, beside f */
    bool scales_forward_f;     /* forward's f is multiplied by decoder_norm */
    bool reconstructs_x;       /* x_hat is to be x, not another activation */
    bool has_nan_of_zeros;     /* a row of zeros has features of NaN, as at its producer */
    /* L2 norms of the decoder's columns; 1 for identity. A draft has none, nor has an encoder
     * alone that no score looks at. */
    bool has_norms;
    float norm_min, norm_median, norm_max;
    struct sae_shown_field reading[SAE_N_FIELDS];
    /* JSON: what stands beside the tensors, NULL: nothing does; where the rows are from. */
    const char *metadata, *taps;
    double declared_l0; /* features that are to be on in a row, as the files say; 0: they do not */
    char weights_sha256[65]; /* of tensors and reading (digest.c), as hex; "" of a draft */
    /* Sentences that whoever relies on it should read: what its file did not say by itself. */
    unsigned n_notes;
    char notes[SAE_MAX_NOTES][SAE_NOTE_BYTES];
};

void sae_dict_free(struct sae_dict *d); /* NULL allowed */
const struct sae_dict_info *sae_dict_info(const struct sae_dict *d);
/* The text of the reading's field of this name, which is ours: "kind", "activation", ... */
const char *sae_dict_shown(const struct sae_dict_info *info, const char *field);

/* What its operator calls the feature (each id is below dict_size), as a JSON string of n bytes,
 * quotes included, borrowed; NULL: it has no label. */
const char *sae_dict_label(const struct sae_dict *d, uint32_t id, size_t *n);

/* ---- weights ------------------------------------------------------------------------------ */

/* What a part is of a dictionary; an outline's too. */
enum sae_weight_state {
    SAE_WEIGHT_IS_THERE,
    SAE_WEIGHT_IS_NONE,  /* the reading has none */
    SAE_WEIGHT_IS_UNREAD /* there is no decoder, and it goes with it */
};
struct sae_weight_look {
    enum sae_weight_state state;
    size_t n_rows; /* dict_size of rows of features; a vector has 1 */
    size_t width;
    bool is_vector; /* one dimension alone */
};
struct sae_weight_look sae_dict_weight(const struct sae_dict *d, enum sae_weight part);
/* n rows [n][width] of a part that is there, as they are in use: those of `ids` (each below
 * n_rows), NULL: the first n. W_enc acts on x2 of the formula; a row of the decoder is what its f
 * is multiplied by. */
void sae_dict_weight_rows(const struct sae_dict *d, enum sae_weight part, const uint32_t *ids,
                          size_t n, float *out);

#endif
