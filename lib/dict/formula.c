/* formula.c - which formulae can be computed. See formula.h. */
#include "lib/dict/formula.h"

#include <math.h>

static enum sae_status refuse(struct sae_err *err, const char *what)
{
    return sae_err_set(err, SAE_E_WEIGHTS, "", "cannot compute this dictionary: %s", what);
}

static bool is_constant(enum sae_scaling s, float c)
{
    return s != SAE_SCALING_CONSTANT || (isfinite(c) && c > 0.0f);
}

enum sae_status sae_formula_check(const struct sae_formula *f, struct sae_err *err)
{
    if (!is_constant(f->input, f->input_scale) || !is_constant(f->output, f->output_scale))
        return refuse(err, "a scale is not a finite number above 0");
    if (f->top_k > f->F)
        return sae_err_set(err, SAE_E_WEIGHTS, "",
                           "cannot compute this dictionary: k is %llu, above dict_size, %zu",
                           (unsigned long long)f->top_k, f->F);
    if (f->top_k && !sae_formula_unit(f)->of_h)
        return sae_err_set(err, SAE_E_WEIGHTS, "",
                           "cannot compute this dictionary: %s features are not selected by size",
                           sae_formula_unit(f)->name);
    if (f->score != SAE_SCORE_VALUE && !sae_formula_unit(f)->of_h)
        return sae_err_set(err, SAE_E_WEIGHTS, "",
                           "cannot compute this dictionary: %s features are not scored by decoder "
                           "norms",
                           sae_formula_unit(f)->name);
    if (sae_scaling_n_state(f->output) > 0 && f->output != f->input)
        return refuse(err, "its output undoes what its input does not do");
    if (f->adds_centre && f->d_in != f->d_out && !f->encodes_only)
        return refuse(err, "a centre of another width than the output is not its bias");
    return SAE_OK;
}
