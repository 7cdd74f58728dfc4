/* weights.c - the parts of a dictionary as they are in use, for who asks what it computes with.
 *
 * Rows of 16 bits are widened; a decoder whose f is divided by norms before it is multiplied
 * (decoder_norm_folded) has its rows divided instead. Called by the server through info.h. Pure
 * functions, any thread. */
#include "lib/dict/dict.h"

#include <assert.h>
#include <string.h>

/* Parts that are parameters of units, by their roles. */
static const enum sae_role roles[SAE_N_WEIGHTS] = {
    [SAE_WEIGHT_B_ENC] = SAE_ROLE_ENC_BIAS,      [SAE_WEIGHT_GATE_BIAS] = SAE_ROLE_GATE_BIAS,
    [SAE_WEIGHT_MAG_BIAS] = SAE_ROLE_MAG_BIAS,   [SAE_WEIGHT_R] = SAE_ROLE_R_MAG,
    [SAE_WEIGHT_THRESHOLD] = SAE_ROLE_THRESHOLD, [SAE_WEIGHT_JUMP] = SAE_ROLE_JUMP,
};

static enum sae_weight_state there_if(bool is_there)
{
    return is_there ? SAE_WEIGHT_IS_THERE : SAE_WEIGHT_IS_NONE;
}

static enum sae_weight_state of_decoder(const struct sae_formula *f)
{
    return f->encodes_only ? SAE_WEIGHT_IS_UNREAD : SAE_WEIGHT_IS_THERE;
}

static bool has_param(const struct sae_formula *f, enum sae_role role)
{
    return sae_unit_param(sae_formula_unit(f), role) < sae_formula_unit(f)->n_params;
}

struct sae_weight_look sae_dict_weight(const struct sae_dict *d, enum sae_weight part)
{
    const struct sae_formula *f = &d->formula;

    switch (part) {
    case SAE_WEIGHT_DECODER:
        return (struct sae_weight_look){of_decoder(f), f->F, f->d_out, false};
    case SAE_WEIGHT_ENCODER:
        return (struct sae_weight_look){SAE_WEIGHT_IS_THERE, f->F, f->d_in, false};
    case SAE_WEIGHT_B_DEC:
        return (struct sae_weight_look){f->is_identity ? SAE_WEIGHT_IS_NONE : of_decoder(f), 1,
                                        f->d_out, true};
    case SAE_WEIGHT_NORMS:
        return (struct sae_weight_look){
            f->score != SAE_SCORE_VALUE ? SAE_WEIGHT_IS_THERE : of_decoder(f), 1, f->F, true};
    case SAE_WEIGHT_CENTRE:
        return (struct sae_weight_look){there_if(f->has_centre), 1, f->d_in, true};
    case SAE_WEIGHT_SKIP:
        return (struct sae_weight_look){f->has_skip ? of_decoder(f) : SAE_WEIGHT_IS_NONE, f->d_out,
                                        f->d_in, false};
    default:
        return (struct sae_weight_look){
            there_if(part != SAE_WEIGHT_LOG_SPARSITY && has_param(f, roles[part])), 1, f->F, true};
    }
}

/* IdentityDict's row, of either matrix. */
static void unit_row(float *out, size_t j, size_t width)
{
    memset(out, 0, width * sizeof *out);
    out[j] = 1.0f;
}

static void matrix_row(const struct sae_dict *d, enum sae_weight part, size_t j, float *out)
{
    const bool is_decoder = part == SAE_WEIGHT_DECODER;
    const struct sae_matrix *m = is_decoder ? &d->dec : &d->enc;
    float n;

    if (d->formula.is_identity) {
        unit_row(out, j, d->formula.d_in);
        return;
    }
    sae_matrix_widen(m, j, 0, m->width, out);
    if (!is_decoder || d->formula.score != SAE_SCORE_DECODER_NORM_FOLDED)
        return;
    n = d->dec_norm[j];
    for (size_t k = 0; k < m->width; k++)
        out[k] = n == 0.0f ? 0.0f : out[k] / n;
}

/* Where the values of a part that is no matrix of features lie; NULL: they are all `fill`. */
static const float *array_of(const struct sae_dict *d, enum sae_weight part, float *fill)
{
    *fill = part == SAE_WEIGHT_NORMS ? 1.0f : 0.0f; /* identity's; a bias that there is not */
    switch (part) {
    case SAE_WEIGHT_B_DEC:
        return d->dec_bias;
    case SAE_WEIGHT_NORMS:
        return d->dec_norm;
    case SAE_WEIGHT_CENTRE:
        return d->centre;
    case SAE_WEIGHT_SKIP:
        return d->skip;
    default:
        return sae_dict_array(d, roles[part]);
    }
}

void sae_dict_weight_rows(const struct sae_dict *d, enum sae_weight part, const uint32_t *ids,
                          size_t n, float *out)
{
    const struct sae_weight_look look = sae_dict_weight(d, part);
    const float *values;
    float fill;

    assert(look.state == SAE_WEIGHT_IS_THERE);
    if (part < SAE_N_ROW_WEIGHTS) {
        for (size_t i = 0; i < n; i++)
            matrix_row(d, part, ids ? ids[i] : i, out + i * look.width);
        return;
    }
    values = array_of(d, part, &fill);
    for (size_t i = 0; i < n; i++) {
        const size_t j = ids ? ids[i] : i;

        if (values)
            memcpy(out + i * look.width, values + j * look.width, look.width * sizeof *out);
        for (size_t k = 0; !values && k < look.width; k++)
            out[i * look.width + k] = fill;
    }
}
