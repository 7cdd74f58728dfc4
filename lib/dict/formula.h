/* formula.h - what a dictionary computes, as data. Engines run formulae, not classes.
 *
 *     p_j = dot(fl(x - centre), W_enc_j)      centre: where the dictionary has one
 *     f_j = unit(p_j, the unit's parameters of feature j), and aux_j
 *     kept: all, or the k largest
 *     x_hat = sum_j f_j W_dec_j + dec_bias    f_j != 0, ascending j
 *
 * in the arithmetic of ref.c. Set when the dictionary is made, then immutable. */
#ifndef SAE_FORMULA_H
#define SAE_FORMULA_H

#include "lib/dict/unit.h"

struct sae_formula {
    size_t d_in, d_out; /* widths of x and x_hat */
    size_t F;           /* features: dict_size */
    enum sae_unit_id unit;
    uint64_t top_k;   /* of a row only the k largest f are kept (ref.h), the rest is +0; 0: all */
    bool is_identity; /* no matrices: f = x, x_hat = f */
    bool scales_forward_f; /* forward's returned f is multiplied by the decoder's column norms */
};

static inline const struct sae_unit *sae_formula_unit(const struct sae_formula *f)
{
    return &sae_units[f->unit];
}

#endif
