/* unit.h - the table of units: what an activation is, one row each.
 *
 * A unit turns a feature's projection p (the canonical dot product, ref.h) and its parameters into
 * the feature's value f, and into aux where it has a second tensor ("gate", "pre_jump"). All that
 * is particular to an activation stands in its row: which tensors are its parameters, the formula
 * (the truth), when a feature is proved off, the line that bounds its value. Its loops over many
 * features are in lib/engine/kern/units.inc, by the same id. Beside the tables of words (reading.c)
 * and of files (layout.c) nothing names a unit.
 *
 * Adding one: an id in lib/types.h, a row in unit.c, a loop in units.inc (of a unit of h one for
 * its scores too), its case in the tests of both; its line in reading.c; a layout that uses it
 * (layout.c). Constant data, pure functions, any thread. */
#ifndef SAE_UNIT_H
#define SAE_UNIT_H

#include "lib/base.h"
#include "lib/types.h"

/* Where a tensor of a file goes in struct sae_dict. */
enum sae_role {
    SAE_ROLE_ENCODER,  /* [F][d_in] in memory */
    SAE_ROLE_DECODER,  /* [F][d_out] in memory */
    SAE_ROLE_CENTRE,   /* [d_in]: subtracted from x; added to x_hat where no DEC_BIAS is */
    SAE_ROLE_DEC_BIAS, /* [d_out]: added to x_hat only */
    SAE_ROLE_ENC_BIAS, /* from here on parameters of units: [F] */
    SAE_ROLE_R_MAG,
    SAE_ROLE_GATE_BIAS,
    SAE_ROLE_MAG_BIAS,
    SAE_ROLE_JUMP,
    SAE_ROLE_THRESHOLD,
    SAE_ROLE_SKIP,  /* [d_out][d_in]; init.c's streams go by these numbers */
    SAE_ROLE_TOP_K, /* an integer of no dimension, formula.h's top_k */
    SAE_ROLE_NONE,  /* none by itself: the reading may name it */
    SAE_N_ROLES
};

/* value = c1 p + c0 for a feature that is on, up to the unit's own roundings; terms: what |c0| was
 * summed from. c1 >= 0, or negative where the value does not ascend with p. */
struct sae_line {
    double c1, c0, terms;
};

struct sae_unit {
    const char *name;
    unsigned n_params;
    enum sae_role params[SAE_MAX_PARAMS]; /* the first is the threshold vector (init.c) */
    unsigned exps;        /* bit i: of params[i] the exponential is taken when it is loaded */
    const char *aux_name; /* "gate", "pre_jump" or NULL */
    unsigned aux_option;  /* SAE_OPT_* that asks for it, ... */
    bool is_aux_of_class; /* ... of classes whose own unit this is alone */
    bool is_aux_alone;    /* aux can be on where f is off: f's entries do not tell */
    bool is_on_by_aux;    /* f can be negative: on is aux > 0, not f > 0 */
    bool is_signed;       /* f can be negative, and is on wherever it is not zero */
    bool is_never_off;    /* ... whatever p is: f is the line, and zero where that is */
    /* One feature: its value, and *aux (never NULL; +0 without one). */
    float (*value)(float p, const float *param, float *aux);
    /* p <= theta proves the feature off, so that f is +0. -infinity: nothing does. */
    double (*theta)(const float *param);
    struct sae_line (*line)(const float *param);
    /* The units of h = p + params[0] go with a formula's top_k and score; NULL for the others. The
     * value made of h where v, which may be h itself, says whether it is on (a zero of either
     * sign: off); v <= tau says that it is not. */
    float (*of_h)(float v, const float *param, float h);
    double (*tau)(const float *param);
};

extern const struct sae_unit sae_units[SAE_N_UNITS];

/* Which of its parameters has the role; n_params: none. */
unsigned sae_unit_param(const struct sae_unit *unit, enum sae_role role);

#endif
