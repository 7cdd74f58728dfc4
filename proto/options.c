/* options.c - the table of options at work: by name, once each, and whether a request may have
 * them.
 *
 * Called by the codecs, query.c and routes. Pure functions, any thread. Spec section 1. */
#include "proto/wire.h"

#include <stdio.h>
#include <string.h>

enum {
    QUERY = SAE_IN_QUERY,
    TENSOR = SAE_IN_TENSOR,
    SHAPES = SAE_SHAPES_F,
    F = SAE_RETURNS_F,
    AUX = SAE_RETURNS_AUX
};
#define ON(op) 1u << SAE_OP_##op

const struct sae_option_def sae_option_defs[SAE_N_OPTIONS] = {
#define SAE_OPTION(id, name, kind, ops, in, of_f, aux) \
    {SAE_OPT_##id, #name, "/" #name, SAE_OPTION_##kind, ops, in, of_f, aux},
#include "proto/options.def"
#undef SAE_OPTION
};

const struct sae_option_def *sae_option_by_name(const char *name, size_t n)
{
    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        if (strlen(sae_option_defs[i].name) == n && memcmp(sae_option_defs[i].name, name, n) == 0)
            return &sae_option_defs[i];
    return NULL;
}

int sae_aux_by_name(const char *name, size_t n)
{
    for (int i = 0; i < SAE_N_OPTIONS; i++) {
        const char *aux = sae_option_defs[i].aux;

        if (aux && strlen(aux) == n && memcmp(aux, name, n) == 0)
            return i;
    }
    return -1;
}

enum sae_status sae_option_seen(struct sae_options *opt, const struct sae_option_def *def,
                                struct sae_err *err)
{
    if (opt->seen & def->bit)
        return sae_err_set(err, SAE_E_BAD_OPTION, def->name,
                           "cannot read option %s: it is given twice (give it once, in the query "
                           "string or in the body)",
                           def->name);
    opt->seen |= def->bit;
    return SAE_OK;
}

unsigned sae_options_of(const struct sae_target *t)
{
    unsigned bits = 0;

    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        if (sae_option_defs[i].ops >> t->op & 1)
            bits |= sae_option_defs[i].bit;
    return bits & t->class_options;
}

unsigned sae_options_about(unsigned of_f)
{
    unsigned bits = 0;

    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        if (sae_option_defs[i].of_f & of_f)
            bits |= sae_option_defs[i].bit;
    return bits;
}

/* The first of the options in `bits`; NULL: none is. */
static const struct sae_option_def *first_of(unsigned bits)
{
    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        if (sae_option_defs[i].bit & bits)
            return &sae_option_defs[i];
    return NULL;
}

static enum sae_status refuse(const struct sae_option_def *def, const struct sae_target *t,
                              struct sae_err *err)
{
    const unsigned takes = sae_options_of(t);
    char list[160] = "";
    size_t len = 0;

    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        if (takes & sae_option_defs[i].bit)
            len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "",
                                    sae_option_defs[i].name);
    return sae_err_set(err, SAE_E_BAD_OPTION, def->name,
                       "cannot use %s: %s.%s does not take it (takes %s)", def->name, t->class_name,
                       sae_op_defs[t->op].name, len ? list : "no options");
}

enum sae_status sae_options_check(const struct sae_options *opt, const struct sae_target *t,
                                  struct sae_err *err)
{
    const struct sae_option_def *refused = first_of(opt->asked & ~sae_options_of(t));
    const struct sae_option_def *idle = first_of(opt->asked & sae_options_about(SAE_SHAPES_F));

    if (refused)
        return refuse(refused, t, err);
    if (idle && sae_op_defs[t->op].gives_f == SAE_GIVES_ASKED &&
        !(opt->asked & sae_options_about(SAE_RETURNS_F)))
        return sae_err_set(err, SAE_E_BAD_OPTION, idle->name,
                           "cannot use %s: this %s does not return f (add output_features)",
                           idle->name, sae_op_defs[t->op].name);
    if ((opt->asked & SAE_OPT_TOP_K) && opt->top_k == 0)
        return sae_err_set(err, SAE_E_BAD_OPTION, "top_k", "cannot use top_k: 0 is not 1 or more");
    return SAE_OK;
}
