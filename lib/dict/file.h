/* file.h - a weights file on its way to a dictionary: what is known of it, step by step.
 *
 * file.c opens it, has the steps taken and describes it: choose.c chooses the state dict; settle.c
 * decides the reading from its row, from what stands beside the tensors and from what is stated;
 * bind.c finds the tensor of each role, and shapes.c how it lies and whether it fits. Later
 * values.c reads the values. Private to lib/dict. Owned by one thread. */
#ifndef SAE_DICT_FILE_H
#define SAE_DICT_FILE_H

#include "lib/dict/choose.h"
#include "lib/dict/spec.h"
#include "lib/load/hints.h"
#include "lib/load/load.h"

#define SAE_MAX_SUM 4 /* tensors that a KEY adds up */

/* Where the values of a role come from. */
struct sae_bound {
    unsigned n; /* tensors, whose sum it is; 0: none */
    size_t index[SAE_MAX_SUM];
    const char *dims; /* of each: "F,d", "F", ...; "": one number, for all features */
    bool is_number;   /* no tensor: */
    float number;     /* ... this, for all features */
    bool is_exp;      /* its exponential is taken */
};

struct sae_file {
    const char *path;                   /* as it was given: a file or a folder */
    const struct sae_statement *stated; /* borrowed */
    char *weights;                      /* owned: the file */
    const char *format;                 /* stated, or told by what stands beside; NULL: by keys */
    struct sae_facts *config;           /* owned: what told it; NULL */
    bool is_config_above;               /* it stands in the folder above "checkpoints" */
    const struct sae_name_rule *named;  /* the file's name told it; NULL (locate.c) */
    struct sae_tensors *ts;
    struct sae_choice choice;
    const struct sae_layout *layout; /* the choice's */
    bool is_class_told;              /* a config names it among those of the same keys */
    struct sae_hints hints;
    struct sae_reading reading; /* complete once settled */
    bool leaves_decoder;        /* its decoder is no matrix, and not read */
    bool is_altered;            /* ... and by a statement another than the row's and the files' */
    struct sae_bound bound[SAE_N_ROLES];
    struct sae_formula formula;
    struct sae_storage kept;
    uint64_t n_stored;     /* features in the file; formula.F of them are taken */
    char *metadata, *taps; /* owned: as info has them */
    struct sae_dict_info info;
};

/* locate.c: fill weights, format and config. */
enum sae_status sae_file_locate(struct sae_file *b, struct sae_err *err) SAE_MUST_USE;
/* A format that the name told is forgotten where the open file has not its key. */
void sae_file_confirm(struct sae_file *b);
/* Is the folder as a whole a dictionary, by what stands in it? SAE_E_NOMEM. */
struct sae_folder;
enum sae_status sae_file_knows(const struct sae_folder *f, bool *knows,
                               struct sae_err *err) SAE_MUST_USE;
/* settle.c: decide b->reading. Errors say what they found in the file, without its name. */
enum sae_status sae_file_settle(struct sae_file *b, struct sae_err *err) SAE_MUST_USE;

/* bind.c: fill bound from the reading; the dims of a matrix are NULL where only shapes tell. */
enum sae_status sae_file_bind(struct sae_file *b, struct sae_err *err) SAE_MUST_USE;
/* The tensor of a key, SIZE_MAX: there is none. */
size_t sae_file_find(const struct sae_file *b, const char *key);
/* There is none of the key: SAE_E_FORMAT says what of that name is no tensor, or that the row
 * requires one. SAE_OK: it may be missing. */
enum sae_status sae_file_lacks(const struct sae_file *b, const struct sae_layout_key *key,
                               struct sae_err *err) SAE_MUST_USE;

/* The floating number of no dimension under a key; false: there is none. */
bool sae_file_number(const struct sae_file *b, const char *key, float *out);

/* The option that states a role's key: "encoder". */
const char *sae_role_option(enum sae_role role);
/* The two ways that a role's matrix may lie, "F,d" and "d,F"; of a vector NULL. */
extern const char *const sae_role_ways[SAE_N_ROLES][2];
/* What stands behind the last '@' of a stated key, if it is a way of the role, or NULL; *n is the
 * length of what is before it. */
const char *sae_role_way(enum sae_role role, const char *text, size_t *n);

/* shapes.c: fill n_stored, formula and the dims that are left, and check every dtype and shape. */
enum sae_status sae_file_fit(struct sae_file *b, struct sae_err *err) SAE_MUST_USE;
/* "[70, 33]" */
void sae_shape_text(char text[64], const uint64_t *shape, unsigned ndim);
/* file.c: how a matrix is kept: 16 bits as the file has them, all else as f32. */
enum sae_dtype sae_file_kept_as(const struct sae_file *b, enum sae_role role);
/* Is the decoder the encoder again, by its name? */
bool sae_file_is_tied(const struct sae_file *b);
/* What a lower call found, told again with the file's name. */
enum sae_status sae_file_pass_on(const char *path, const struct sae_err *low, enum sae_status st,
                                 struct sae_err *err);

/* shown.c: info's metadata and taps, from what stands beside the tensors. SAE_E_NOMEM. */
enum sae_status sae_file_show(struct sae_file *b, struct sae_err *err) SAE_MUST_USE;

/* producers/declared.c: of a settled file; 0: nothing says it. */
double sae_file_declared_l0(const struct sae_file *b);

#endif
