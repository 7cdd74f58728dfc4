/* layout.h - the table of layouts: how a class's file names, shapes and orients its tensors, and
 * the formula that they make. A row per format and class.
 *
 * The set of keys tells the row (choose.h); its dims tell which way round a matrix lies, never its
 * role and never the shapes found. Engines run formulae (formula.h): nothing outside this table
 * knows a class. Constant data, any thread. */
#ifndef SAE_LAYOUT_H
#define SAE_LAYOUT_H

#include "lib/dict/formula.h"

enum sae_need {
    SAE_KEY_REQUIRED,
    SAE_KEY_OPTIONAL, /* where it is missing its values are +0 */
    SAE_KEY_SPARE,    /* ... and where nothing uses it, it tells of no other reading */
    SAE_KEY_IGNORED   /* may be there, and is never read */
};

struct sae_layout_key {
    const char *name; /* key of the state dict; '#' is digits */
    enum sae_role role;
    const char *dims; /* "F,d", "d,F", "F", "d"; "": one number */
    enum sae_need need;
};

/* A width that the row's config gives, which must be that of the tensors; 0 there is none. */
struct sae_layout_width {
    const char *path, *dims; /* "trainer.dict_size", "F" */
};
#define SAE_LAYOUT_MAX_WIDTHS 3

struct sae_file;
#define SAE_LAYOUT_MAX_KEYS 12 /* required, optional and ignored */
/* Beside them each row may have it, if it is all ones: it was to multiply f. */
#define SAE_LAYOUT_NO_KEY "scaling_factor"
struct sae_layout {
    const char *format; /* the rows of one stand together */
    const char *name;   /* the class's name: "GatedAutoEncoder" */
    enum sae_unit_id unit;
    struct sae_layout_key keys[SAE_LAYOUT_MAX_KEYS];
    unsigned n_keys;
    struct sae_layout_width widths[SAE_LAYOUT_MAX_WIDTHS];
    bool is_told;         /* by a file's name, a config beside it or format=, never by keys alone */
    bool any_case;        /* its keys are written in any case */
    const char *tied_key; /* the decoder under this key is the encoder; either may be missing */
    bool in_torch_save;   /* told by its keys in what torch.save wrote alone */
    const char *k_under;  /* under this key its config has "k"; NULL: none that counts */
    /* What its files say beside the tensors, into the file's reading; NULL: nothing. */
    enum sae_status (*settle)(struct sae_file *b, struct sae_err *err);
    const char *other;     /* the row's name that settle may find to be the right one, or NULL */
    bool is_identity;      /* no tensors: f = x */
    bool is_any_tensor;    /* an encoder alone, under any key where it is the only tensor */
    bool is_open;          /* nothing says its formula: centre and activation must be stated */
    bool by_reading;       /* it is called by its reading, not by a class's name */
    bool is_stated;        /* whoever names the format says which tensor is what, and the reading */
    unsigned takes_keys;   /* bit per role: KEY=... may be stated for it */
    unsigned options;      /* SAE_OPT_* that an operation of this class takes, but its unit's aux */
    bool scales_forward_f; /* forward's returned f is multiplied by the decoder's column norms */
    bool keeps_top_k;      /* of a row so many as the file's k says */
    bool is_top_k_too;     /* files of top-k features have these keys too, and a k beside them */
    const char *note;      /* what whoever relies on such a file is told, or NULL */
    const char *note_below_zero; /* ... if it has thresholds below zero */
    float init_norm;      /* the seed's constructor: norm of a decoder column (init.c); 0: a fresh
                             one is not made */
    bool init_tied;       /* ... and encoder = decoder transposed, biases zero */
    float init_threshold; /* ... and what its thresholds are */
};

extern const struct sae_layout sae_layouts[];
extern const size_t sae_n_layouts;
extern const size_t sae_n_classes; /* the first rows: those of dictionary_learning */

/* Is it the pattern, in which '#' is digits? */
bool sae_layout_fits(const char *pattern, const char *name);
/* Is `name` the row's word for `key`? */
bool sae_layout_is_key(const struct sae_layout *l, const char *key, const char *name);
const struct sae_layout *sae_layout_by_name(const char *name);     /* NULL: none */
const struct sae_layout *sae_layout_of_format(const char *format); /* its first row; NULL: none */
const struct sae_layout *sae_layout_identity(void);                /* the row without tensors */
/* Has it an array of values in memory? */
bool sae_layout_is_kept(const struct sae_layout_key *key);
bool sae_layout_is_matrix(const struct sae_layout_key *key);
/* The file's order of a matrix is not memory's, which is feature-major. */
bool sae_layout_is_turned(const struct sae_layout_key *key);
/* The key of a role, NULL: the class has none. */
const struct sae_layout_key *sae_layout_key_of(const struct sae_layout *l, enum sae_role role);
/* What the row alone says of the reading; the rest is not set. */
struct sae_reading;
void sae_layout_reading(const struct sae_layout *l, struct sae_reading *r);
struct sae_formula sae_layout_formula(const struct sae_layout *l, size_t d, size_t F);

#endif
