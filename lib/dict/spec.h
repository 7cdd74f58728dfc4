/* spec.h - what a dictionary can be made from: the grammar, and the makers behind it (draft.c).
 *
 *     identity:D[:labels=PATH]                 IdentityDict
 *     init:CLASS:D:F[:seed=S][:l0=L][:labels=PATH]
 *                                              a fresh one, as the class's constructor makes it
 *     [linear:]PATH[:key=value]...             a weights file and its options (statement.h);
 *                                              ./identity:x is a path too
 *
 * Private to lib/dict; server/ sees sae_draft_open and sae_source_check of source.h. Any thread. */
#ifndef SAE_SPEC_H
#define SAE_SPEC_H

#include "lib/dict/dict.h"
#include "lib/dict/statement.h"

enum sae_source_kind { SAE_SOURCE_FILE, SAE_SOURCE_INIT, SAE_SOURCE_IDENTITY };

struct sae_source {
    enum sae_source_kind kind;
    struct sae_statement stated;     /* file; of the others the labels */
    const struct sae_layout *layout; /* init, identity */
    uint64_t d, F;                   /* init, identity: 1 .. SAE_DICT_MAX_DIM */
    uint64_t seed;                   /* init */
    double l0;                       /* init: 0 < l0 <= F, or 0 when not asked */
};

/* SAE_E_USAGE says what is wrong with which part; SAE_E_NOMEM. */
enum sae_status sae_source_parse(struct sae_source *out, const char *text,
                                 struct sae_err *err) SAE_MUST_USE;
void sae_source_fini(struct sae_source *src);

/* The makers: on success *out is owned and sealed. */

/* init.c. SAE_E_NOMEM. */
enum sae_status sae_dict_create_fresh(struct sae_dict **out, const struct sae_source *src,
                                      struct sae_team *team, struct sae_err *err) SAE_MUST_USE;

/* file.c: a weights file, open, whose reading is settled and whose dtypes and shapes are right. */
struct sae_file;

/* Open it and say in *info, zero before, what the dictionary will be. *stated is borrowed until
 * close. SAE_E_IO, SAE_E_FORMAT (not a weights file, or its keys are no class's, or what is stated
 * does not go with it), SAE_E_WEIGHTS (a tensor has a wrong shape or dtype), SAE_E_NOMEM; the text
 * names the file. */
enum sae_status sae_file_open(struct sae_file **out, const struct sae_statement *stated,
                              struct sae_dict_info *info, struct sae_err *err) SAE_MUST_USE;
void sae_file_close(struct sae_file *f); /* NULL allowed */
/* Its matrices are to be f32 in memory, whatever the file has: for the engine. */
void sae_file_widen(struct sae_file *f, struct sae_dict_info *info);
uint64_t sae_file_stamp(const struct sae_file *f);
const struct sae_layout *sae_file_layout(const struct sae_file *f);
const struct sae_formula *sae_file_formula(const struct sae_file *f);
/* Read the values. Errors as those of open; SAE_E_WEIGHTS also for a value. */
enum sae_status sae_file_read(struct sae_dict **out, struct sae_file *f, struct sae_team *team,
                              struct sae_err *err) SAE_MUST_USE;

/* init.c: the inverse of the standard normal distribution function, 0 < p < 1. */
double sae_normal_quantile(double p);

#endif
