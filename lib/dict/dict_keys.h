/* dict_keys.h - the keys of a dict of a weights file beside those of a row of layouts.
 *
 * dict_keys.c counts which of the row's are there, which are missing and which are too many: 0 of
 * the latter two is the row (choose.c). no_class.c says what was found where none is, with what its
 * owner could do. Private to the three. Pure functions of an open file: any thread. */
#ifndef SAE_DICT_KEYS_H
#define SAE_DICT_KEYS_H

#include "lib/dict/layout.h"
#include "lib/dict/statement.h"
#include "lib/load/load.h"

/* The groups that are looked at: all, or the one of a stated prefix. */
struct sae_span {
    size_t first, end;
};

/* A group seen without its prefix. */
struct sae_keys {
    const struct sae_group *g;
    size_t prefix;
    const char *format; /* NULL: none is told */
    bool is_torch_save;
    bool encodes_only; /* no decoder is wanted */
};

/* Group g. `format`: rows of this one are tried; NULL: those that keys tell. */
struct sae_keys sae_keys_of(const struct sae_tensors *ts, const struct sae_statement *stated,
                            const char *format, size_t g);
/* Its i-th key without the prefix; what is no tensor need not have that. */
const char *sae_keys_name(const struct sae_keys *k, size_t i);
/* What an entry is called behind the prefixes that it has, whatever the others have. */
const char *sae_keys_own_name(const struct sae_entry *e);
/* Is it an integer called "k" or "top_k"? */
bool sae_keys_is_k(const struct sae_entry *e, const char *name);

/* Is the row one that these keys may be of? */
bool sae_keys_may_be(const struct sae_keys *k, const struct sae_layout *a);
/* Is the key of row a there? */
bool sae_keys_have(const struct sae_keys *k, const struct sae_layout *a, const char *name);
unsigned sae_keys_n_found(const struct sae_keys *k, const struct sae_layout *a);
/* Is key i of row a wanted, and not there? */
bool sae_keys_miss(const struct sae_keys *k, const struct sae_layout *a, unsigned i);
unsigned sae_keys_n_missing(const struct sae_keys *k, const struct sae_layout *a);
/* Is entry i a tensor that is none of the row's keys? A k is no tensor of ReLU classes, but a
 * question. a NULL: any tensor. */
bool sae_keys_is_surplus(const struct sae_keys *k, const struct sae_layout *a, size_t i);
size_t sae_keys_n_surplus(const struct sae_keys *k, const struct sae_layout *a);
/* Keys missing and too many: 0 for the class itself. A key that stands twice counts once here, and
 * is refused by sae_load_choose. */
size_t sae_keys_distance(const struct sae_keys *k, const struct sae_layout *a);

/* no_class.c. SAE_E_FORMAT: an encoder for each of several layers or models. */
enum sae_status sae_keys_check_crosscoder(const struct sae_keys *k,
                                          struct sae_err *err) SAE_MUST_USE;
/* SAE_E_FORMAT: all that is wrong with none of the span's dicts having a row's keys. */
enum sae_status sae_keys_no_class(const struct sae_tensors *ts, const struct sae_statement *stated,
                                  struct sae_span span, const char *format,
                                  struct sae_err *err) SAE_MUST_USE;

#endif
