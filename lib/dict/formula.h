/* formula.h - what a dictionary computes, as data. Engines run formulae, not classes.
 *
 *     x1  = input(x)                          as it is, times C, or the row's own scaling
 *     x2  = fl(x1 - centre)                   centre: where the dictionary has one
 *     h_j = dot(x2, W_enc_j) + b_enc_j        the units with a score; the others start at the dot
 *     v_j = h_j, or fl(h_j n_j)               by the score; n_j: the norm of W_dec_j
 *     f_j = unit(v_j, the unit's parameters of feature j), and aux_j
 *     kept: all, or the k largest; of a zero nothing is kept
 *     u_j = f_j, or fl(f_j / n_j)             by the score
 *     y   = output(sum_j u_j W_dec_j + dec_bias) + W_skip x      u_j != 0, ascending j; the raw x
 *
 * in the arithmetic of ref.c. Set when the dictionary is made, then immutable. */
#ifndef SAE_FORMULA_H
#define SAE_FORMULA_H

#include "lib/dict/unit.h"

/* What is done to x before the encoder, and undone, or not, behind the decoder. */
enum sae_scaling {
    SAE_SCALING_NONE,
    SAE_SCALING_CONSTANT, /* x C; y / C */
    SAE_SCALING_RMS,      /* x s, s = sqrt(d) / |x|; y / s */
    SAE_SCALING_LAYER     /* (x - mu) / (sd + 1e-5); y sd + mu */
};

/* What activation and selection look at. */
enum sae_score {
    SAE_SCORE_VALUE,
    SAE_SCORE_DECODER_NORM,       /* h n; the f of a kept feature is made from h */
    SAE_SCORE_DECODER_NORM_FOLDED /* h n, and f is made from it; decode divides by n again */
};

struct sae_formula {
    size_t d_in, d_out;              /* widths of x and x_hat */
    size_t F;                        /* features: dict_size */
    enum sae_scaling input, output;  /* output: NONE, CONSTANT, or as input */
    float input_scale, output_scale; /* CONSTANT: its C, finite and above 0 */
    enum sae_unit_id unit;
    enum sae_score score;
    uint64_t top_k;    /* of a row only the k largest are kept (ref.h), the rest is +0; 0: all */
    bool has_centre;   /* [d_in], subtracted */
    bool adds_centre;  /* ... and the decoder's bias is the same vector */
    bool has_dec_bias; /* [d_out], added: a vector of its own */
    bool has_skip;     /* W_skip [d_out][d_in] */
    bool encodes_only; /* no decoder is kept, nor what belongs to it; d_out 0: there is none */
    bool is_identity;  /* no matrices: f = x, x_hat = f */
    bool scales_forward_f; /* forward's returned f is multiplied by the decoder's column norms */
};

static inline const struct sae_unit *sae_formula_unit(const struct sae_formula *f)
{
    return &sae_units[f->unit];
}

/* Numbers of its own that a row has under a scaling: s; mu and sd. */
#define SAE_MAX_STATE 2
static inline unsigned sae_scaling_n_state(enum sae_scaling s)
{
    return s == SAE_SCALING_RMS ? 1 : s == SAE_SCALING_LAYER ? 2 : 0;
}

/* Does what it selects by differ from the f that it keeps? */
static inline bool sae_formula_ranks_apart(const struct sae_formula *f)
{
    return f->top_k && f->score == SAE_SCORE_DECODER_NORM;
}

/* Is it one that can be computed? SAE_E_WEIGHTS says what is wrong with it, or what no engine does
 * yet. */
enum sae_status sae_formula_check(const struct sae_formula *f, struct sae_err *err) SAE_MUST_USE;

#endif
