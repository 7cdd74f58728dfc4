/* dict.h - a validated dictionary: tensors bound to one row of the table of layouts.
 *
 * Built once at load (from a file, an init: source or identity:), then immutable: any number of
 * threads may read it. One memory layout for every class: encoder and decoder both feature-major
 * [F][d] in huge-page memory, f32 or of 16 bits as their file has them, rows unpadded, SAE_OVERREAD
 * readable bytes behind the last.
 * Private to lib; server/ sees saed.h. */
#ifndef SAE_DICT_H
#define SAE_DICT_H

#include "lib/dict/layout.h"
#include "lib/load/labels.h"
#include "lib/matrix.h"
#include "lib/saed.h"

/* How the matrices are kept: each as F32, F16 or BF16. */
struct sae_storage {
    enum sae_dtype enc, dec;
    bool is_tied; /* the decoder is the encoder, in one copy: d_out is d_in, dec as enc */
};

struct sae_dict {
    const struct sae_layout *layout;
    struct sae_formula formula;
    struct sae_matrix enc;        /* [F][d_in]; none for identity */
    struct sae_matrix dec;        /* [F][d_out]: row j is the decoder's column j; none: identity, or
                                     an encoder alone */
    float *skip;                  /* [d_out][d_in] or NULL */
    float *centre;                /* [d_in] or NULL: subtracted from x before the encoder */
    float *dec_bias;              /* [d_out] or NULL: added to x_hat (or the centre again) */
    float *param[SAE_MAX_PARAMS]; /* [F] or NULL: the unit's, as its row orders them */
    float *dec_norm; /* [F]: L2 norms of dec's rows, computed in double (ref.h), rounded
                        once; of an encoder alone the filler's, where a score wants
                        them; else NULL */
    /* By role, as bits: arrays of +0 that stand for what the file does not have; parameters that
     * are one number for all features. Set by the filler before seal. */
    unsigned absent, single;
    char *metadata, *taps;     /* owned: as info has them, of a file */
    struct sae_labels *labels; /* owned; NULL: none are stated, or it is an outline */
    struct sae_dict_info info;
    /* What an engine keeps beside the tensors (sae_engine_prepare); freed with the dictionary. */
    void *engine_data;
    void (*engine_data_free)(void *data);
};

/* The largest d and F: feature ids travel as I32, and BLAS counts in 32 bits. */
#define SAE_DICT_MAX_DIM INT32_MAX

/* An empty dictionary with all arrays of `formula` allocated and zero (sae_dict_array; matrices as
 * `kept` says, NULL: f32, apart), to be filled by file.c or init.c (parameters as they are stored);
 * then sae_dict_seal checks values
 * (vectors and decoder finite; the encoder is the filler's word, so that it is not read twice),
 * takes the exponentials that the unit wants (finite too), computes digest, norms and info. The
 * layout gives names and options. `dtype` is static storage. SAE_E_NOMEM; SAE_E_WEIGHTS names the
 * tensor (where) and the value, or what cannot be computed. */
enum sae_status sae_dict_create_as(struct sae_dict **out, const struct sae_layout *layout,
                                   const struct sae_formula *formula,
                                   const struct sae_storage *kept,
                                   struct sae_err *err) SAE_MUST_USE;
/* The same with the formula that the layout alone gives. */
enum sae_status sae_dict_create(struct sae_dict **out, const struct sae_layout *layout, uint64_t d,
                                uint64_t F, struct sae_err *err) SAE_MUST_USE;
enum sae_status sae_dict_seal(struct sae_dict *d, const char *dtype, struct sae_team *team,
                              struct sae_err *err) SAE_MUST_USE;

/* digest.c: info.weights_sha256 from the arrays, parameters as they are stored, and the reading;
 * seal calls it. */
enum sae_status sae_dict_digest(struct sae_dict *d, struct sae_team *team,
                                struct sae_err *err) SAE_MUST_USE;
/* One of which only what is known of it is there, no array: what sae_draft_outline gives. */
enum sae_status sae_dict_create_outline(struct sae_dict **out, const struct sae_layout *layout,
                                        const struct sae_formula *formula,
                                        const struct sae_dict_info *info,
                                        struct sae_err *err) SAE_MUST_USE;

/* Fill *info but for dtype, norms and notes: what a dictionary of these will be (kept NULL: f32,
 * apart). */
void sae_dict_describe(struct sae_dict_info *info, const struct sae_layout *layout,
                       const struct sae_formula *f, const struct sae_storage *kept);
/* ... its resident and resident_bytes alone. */
void sae_dict_describe_kept(struct sae_dict_info *info, const struct sae_formula *f,
                            const struct sae_storage *kept);
/* A sentence for notes, cut at its room. */
void sae_dict_add_note(struct sae_dict_info *info, const char *fmt, ...) SAE_PRINTF(2, 3);

/* The array that a role fills, NULL when the class has none, or it is a matrix of 16 bits. */
float *sae_dict_array(const struct sae_dict *d, enum sae_role role);
/* Parameter i of the feature, for the functions of the unit's row. */
static inline const float *sae_dict_params(const struct sae_dict *d, size_t j,
                                           float out[SAE_MAX_PARAMS])
{
    for (unsigned i = 0; i < sae_formula_unit(&d->formula)->n_params; i++)
        out[i] = d->param[i][j];
    return out;
}
/* The unit's theta and line (unit.h) under the formula's score: of a feature of a row whose |p|
 * times the larger of 1 and n stays below 1e37. The line is that of what the formula, or a
 * request's top_k, looks at. */
double sae_dict_theta(const struct sae_dict *d, size_t j);
struct sae_line sae_dict_line(const struct sae_dict *d, size_t j);
/* The largest float t with fl(t n) <= tau, n above 0; -infinity: there is none. */
float sae_score_tau(float tau, float n);
/* L2 norm in double, in one fixed order: that of fresh dictionaries (init.c), which is not that of
 * dec_norm. */
double sae_dict_norm(const float *v, size_t n);

#endif
