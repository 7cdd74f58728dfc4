/* arch.h - the architecture table: one row per dictionary class = its tensors and its formula.
 *
 * Engines run formulae (formula.h), not classes: nothing outside this table switches over a class.
 * Source of the classes: saprmarks/dictionary_learning, dictionary.py. */
#ifndef SAE_ARCH_H
#define SAE_ARCH_H

#include "lib/dict/unit.h"

struct sae_arch_key {
    const char *name; /* key of the state dict */
    enum sae_role role;
    const char *shape; /* "F,d", "d,F", "F" or "d" */
};

#define SAE_ARCH_MAX_KEYS 6
struct sae_arch {
    const char *name; /* the class's name: "GatedAutoEncoder" */
    enum sae_unit_id unit;
    struct sae_arch_key keys[SAE_ARCH_MAX_KEYS];
    unsigned n_keys;
    unsigned options;      /* SAE_OPT_* that an operation of this class takes */
    bool scales_forward_f; /* forward's returned f is multiplied by the decoder's column norms */
    float init_norm;       /* the seed's constructor: norm of a decoder column (init.c) */
    bool init_tied;        /* ... and encoder = decoder transposed, biases zero */
};

extern const struct sae_arch sae_archs[];
extern const size_t sae_n_archs;

const struct sae_arch *sae_arch_by_name(const char *name); /* NULL: none */
bool sae_arch_is_matrix(const struct sae_arch_key *key);
/* The key of a role; "": the class has none. */
const char *sae_arch_key_of(const struct sae_arch *a, enum sae_role role);

#endif
