/* labels.h - what an operator calls the features of a dictionary: texts, from a file beside it.
 *
 *     {"12": "text", ...}    JSON, by id; null is none
 *     ["text", null, ...]    JSON, in order of ids
 *     text                   one line a feature in order of ids; an empty one is none
 *
 * What is called .json is JSON, and so is what begins with { or [ but is not called .txt. A label
 * is kept as the JSON string that is printed: it is the text of strangers, and leaves saed in no
 * other form. Called by lib/dict. Immutable once open, any thread. */
#ifndef SAE_LABELS_H
#define SAE_LABELS_H

#include "lib/base.h"

#define SAE_LABELS_MAX_BYTES ((uint64_t)64 << 20) /* of the file */
#define SAE_LABEL_MAX_BYTES 1000                  /* of a label */

struct sae_labels;

/* Read them, for ids below F. *out is owned (sae_labels_free). SAE_E_IO; SAE_E_FORMAT: the file is
 * too large, or a line or key is not as it should be; SAE_E_NOMEM. */
enum sae_status sae_labels_open(struct sae_labels **out, const char *path, uint64_t F,
                                struct sae_err *err) SAE_MUST_USE;
void sae_labels_free(struct sae_labels *l); /* NULL allowed */
/* What they take in memory. */
uint64_t sae_labels_bytes(const struct sae_labels *l);
/* About that, before they are read. Errors as those of open, of the file as a whole. */
enum sae_status sae_labels_guess(const char *path, uint64_t F, uint64_t *bytes,
                                 struct sae_err *err) SAE_MUST_USE;
/* The label as JSON has it, quotes included, n bytes, borrowed; NULL: it has none. */
const char *sae_labels_json(const struct sae_labels *l, uint64_t id, size_t *n);

#endif
