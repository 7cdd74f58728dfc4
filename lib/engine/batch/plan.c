/* plan.c - see plan.h and struct sae_plan. */
#include "lib/engine/batch/plan.h"

#include <assert.h>

/* Room that prepare makes for a row's entries at most: compute threads need no memory for answers
 * of usual sparsity (4 KB a row, little beside the row itself or its dense answer). */
#define ROOM_ENTRIES 512

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void add_output(struct sae_plan *p, enum sae_output_kind what, const char *name,
                       enum sae_form form, uint64_t width)
{
    p->outputs[p->n_outputs++] =
        (struct sae_output){.what = what, .name = name, .form = form, .width = width};
}

/* Entries that a row's list can have in the answer. */
static uint64_t bound_entries(const struct sae_formula *f, const struct sae_query *q)
{
    uint64_t n = f->top_k ? least(f->top_k, f->F) : f->F;

    return q->form == SAE_FORM_TOP ? least(n, q->top_k) : n;
}

static void plan_outputs(struct sae_plan *p, const struct sae_formula *f, const struct sae_query *q)
{
    const uint64_t width =
        q->form == SAE_FORM_DENSE && q->has_features ? q->n_features : (uint64_t)f->F;

    if (q->op != SAE_OP_ENCODE)
        add_output(p, SAE_OUT_X_HAT, "x_hat", SAE_FORM_DENSE, f->d_out);
    if (q->has_ghost && !f->is_identity)
        add_output(p, SAE_OUT_X_GHOST, "x_ghost", SAE_FORM_DENSE, f->d_out);
    if (q->want_f)
        add_output(p, SAE_OUT_F, "f", q->form, width);
    if (q->want_aux)
        add_output(p, SAE_OUT_AUX, sae_formula_unit(f)->aux_name, q->form, width);
    if (q->want_state)
        add_output(p, SAE_OUT_STATE, "input_state", SAE_FORM_DENSE, sae_scaling_n_state(f->input));
    if (q->op == SAE_OP_FORWARD && q->want_f)
        p->f_units = f->scales_forward_f ? "decoder_norm" : "encode";
}

static unsigned choose_sinks(const struct sae_plan *p, const struct sae_formula *f,
                             const struct sae_query *q)
{
    unsigned sinks = 0;

    if (q->op == SAE_OP_DECODE)
        return 0;
    if (q->want_f && !p->delivers) {
        sinks |= p->is_scaled ? SAE_SINK_F_SCALED : SAE_SINK_F;
        sinks |= q->want_aux ? SAE_SINK_AUX : 0;
    } else if (q->want_f) {
        sinks |= SAE_SINK_LIST | (q->want_aux ? SAE_SINK_LIST_AUX : 0);
        sinks |= p->is_scaled ? SAE_SINK_LIST_SCALED : 0;
    }
    if (q->op == SAE_OP_FORWARD && !f->is_identity)
        sinks |= SAE_SINK_LIST | (q->has_ghost ? SAE_SINK_GHOST : 0);
    return sinks | (sinks & SAE_SINK_LIST && p->top_k ? SAE_SINK_TOP : 0);
}

void sae_plan_candidates(struct sae_plan *p, uint64_t n)
{
    p->entries_bound = least(p->entries_bound, n);
    p->top_width = least(p->top_width, n);
}

void sae_plan_make(struct sae_plan *p, const struct sae_dict *d, const struct sae_query *q)
{
    const struct sae_formula *f = &d->formula;
    bool is_dense = q->form == SAE_FORM_DENSE;

    assert(q->op != SAE_OP_ENCODE || q->want_f);
    assert(q->op != SAE_OP_DECODE || (!q->want_f && !q->want_aux));
    assert(!q->want_aux || (q->want_f && sae_formula_unit(f)->aux_name));
    assert(!q->want_state || sae_scaling_n_state(f->input) > 0);
    assert(!q->want_f || q->form != SAE_FORM_TOP || q->top_k >= 1);
    *p = (struct sae_plan){.is_scaled = q->op == SAE_OP_FORWARD && f->scales_forward_f,
                           .decodes = q->op != SAE_OP_ENCODE,
                           .shapes = f->top_k && q->op != SAE_OP_DECODE};
    p->counts_zeros = p->shapes && sae_formula_unit(f)->is_signed;
    plan_outputs(p, f, q);
    /* Where all features are not needed, columns are computed alone. So are IdentityDict's in any
     * operation: they are there to be read, and looked up in a list -0 would be lost. */
    p->own_columns = q->want_f && q->has_features && !p->shapes &&
                     (q->op == SAE_OP_ENCODE || (f->is_identity && is_dense));
    p->delivers = q->want_f && (!is_dense || p->shapes || (q->has_features && !p->own_columns));
    if (p->shapes)
        p->top_k = f->top_k;
    else if (q->op == SAE_OP_ENCODE && q->form == SAE_FORM_TOP)
        p->top_k = q->top_k;
    p->sinks = choose_sinks(p, f, q);
    if (!q->want_f || is_dense)
        return;
    p->entries_bound = bound_entries(f, q);
    p->top_width = q->form == SAE_FORM_TOP ? least(q->top_k, f->F) : 0;
    if (q->has_features)
        sae_plan_candidates(p, q->n_features);
    p->room_entries = least(p->entries_bound, ROOM_ENTRIES);
    p->entry_words = !q->want_aux ? 2 : q->form == SAE_FORM_TOP ? 3 : 4;
}
