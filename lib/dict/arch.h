/* arch.h - the architecture table: one row per dictionary class = its tensors and its formula.
 *
 * Engines run formulae, not classes: nothing outside this table switches over a class.
 * Source of the classes: saprmarks/dictionary_learning, dictionary.py. */
#ifndef SAE_ARCH_H
#define SAE_ARCH_H

#include "lib/base.h"
#include "lib/types.h"

/* How pre-activations become features. p = We(x - centre), rows of We are features. */
enum sae_unit {
    SAE_UNIT_IDENTITY, /* f = x */
    SAE_UNIT_RELU,     /* f = relu(p + enc_bias) */
    SAE_UNIT_GATED, /* f = (p + gate_bias > 0) * relu(r * p + mag_bias); aux = relu(p + gate_bias)
                     */
    SAE_UNIT_JUMP   /* aux = relu(p + enc_bias); f = aux + jump * (aux > 0) */
};

/* Where a tensor of the file goes in struct sae_dict. */
enum sae_role {
    SAE_ROLE_ENCODER,  /* [F, d] */
    SAE_ROLE_DECODER,  /* [d, F] in the file, [F][d] in memory */
    SAE_ROLE_CENTRE,   /* [d]: subtracted from x, added to x_hat */
    SAE_ROLE_DEC_BIAS, /* [d]: added to x_hat only */
    SAE_ROLE_ENC_BIAS,
    SAE_ROLE_R_MAG,
    SAE_ROLE_GATE_BIAS,
    SAE_ROLE_MAG_BIAS,
    SAE_ROLE_JUMP, /* [F] */
    SAE_N_ROLES
};

struct sae_arch_key {
    const char *name; /* key of the state dict */
    enum sae_role role;
    const char *shape; /* "F,d", "d,F", "F" or "d" */
};

#define SAE_ARCH_MAX_KEYS 6
struct sae_arch {
    const char *name; /* the class's name: "GatedAutoEncoder" */
    enum sae_unit unit;
    struct sae_arch_key keys[SAE_ARCH_MAX_KEYS];
    unsigned n_keys;
    unsigned options;      /* SAE_OPT_* that an operation of this class takes */
    const char *aux_name;  /* "gate", "pre_jump" or NULL */
    bool scales_forward_f; /* forward's returned f is multiplied by the decoder's column norms */
    float init_norm;       /* the seed's constructor: norm of a decoder column (init.c) */
    bool init_tied;        /* ... and encoder = decoder transposed, biases zero */
};

extern const struct sae_arch sae_archs[];
extern const size_t sae_n_archs;

const struct sae_arch *sae_arch_by_name(const char *name); /* NULL: none */
bool sae_arch_is_matrix(const struct sae_arch_key *key);

#endif
