/* scaling.c - what a formula does to a row before the encoder and behind the decoder: input, output
 * and skip of lib/dict/formula.h, in the arithmetic of ref.c. Called from tiles of gather and
 * decode; they write their rows and columns alone. */
#include "lib/engine/batch/plan.h"

#include <math.h>
#include <string.h>

void sae_row_scale(struct sae_batch *b, size_t row, float *out)
{
    const struct sae_kern *kern = b->e->kern;
    const struct sae_dict *d = b->dict;
    const float *x = sae_row_x(b, row);
    float *state = b->state + row * SAE_MAX_STATE;
    const struct sae_task *t = b->rows[row].task;
    size_t n = d->formula.d_in, n_state = sae_scaling_n_state(d->formula.input);
    double mean;

    switch (d->formula.input) {
    case SAE_SCALING_NONE:
        memcpy(out, x, n * sizeof *out);
        break;
    case SAE_SCALING_CONSTANT:
        kern->scale(x, d->formula.input_scale, out, n);
        break;
    case SAE_SCALING_RMS:
        state[0] = (float)(sqrt((double)n) / sqrt(kern->squares(x, 0.0, n)));
        kern->scale(x, state[0], out, n);
        break;
    case SAE_SCALING_LAYER:
        mean = kern->sum(x, n) / (double)n;
        state[0] = (float)mean;
        state[1] = (float)sqrt(kern->squares(x, mean, n) / (double)(n - 1));
        kern->normalise(x, state[0], state[1] + 1e-5f, out, n);
        break;
    }
    if (d->centre)
        kern->less(out, d->centre, n);
    if (t->state)
        memcpy(t->state + b->rows[row].i * n_state, state, n_state * sizeof *state);
}

static const float *row_state(const struct sae_batch *b, size_t row)
{
    const struct sae_row *r = &b->rows[row];

    if (b->side == SAE_SIDE_ENCODE)
        return b->state + row * SAE_MAX_STATE;
    return r->task->state_in + r->i * sae_scaling_n_state(b->dict->formula.output);
}

static void output(const struct sae_batch *b, const struct sae_item *it, size_t k0, size_t k1)
{
    const struct sae_kern *kern = b->e->kern;
    const struct sae_formula *f = &b->dict->formula;
    float *y = sae_item_out(b, it) + k0;
    const float *state;

    switch (f->output) {
    case SAE_SCALING_NONE:
        break;
    case SAE_SCALING_CONSTANT:
        kern->divide(y, f->output_scale, k1 - k0);
        break;
    case SAE_SCALING_RMS:
        kern->divide(y, row_state(b, it->row)[0], k1 - k0);
        break;
    case SAE_SCALING_LAYER:
        state = row_state(b, it->row);
        kern->restore(y, state[0], state[1], k1 - k0);
        break;
    }
}

/* The raw row that the skip sees, NULL: a decode that wants none. */
static const float *skip_row(const struct sae_batch *b, size_t row)
{
    const struct sae_row *r = &b->rows[row];
    const float *x = b->side == SAE_SIDE_ENCODE ? r->task->x : r->task->skip_x;

    return x ? x + r->i * b->dict->formula.d_in : NULL;
}

/* Four columns for all items: their weights stay in the nearest cache. */
static void skip(const struct sae_batch *b, const struct sae_item *items, size_t n, size_t k0,
                 size_t k1)
{
    size_t d = b->dict->formula.d_in;

    for (size_t k = k0; k < k1; k += 4) {
        const float *w[4];
        float p[4];

        for (size_t c = 0; c < 4; c++)
            w[c] = b->dict->skip + (k + c < k1 ? k + c : k) * d;
        for (size_t i = 0; i < n; i++) {
            const float *x = skip_row(b, items[i].row);
            float *y = sae_item_out(b, &items[i]) + k;

            if (!x)
                continue;
            b->e->kern->dot4(x, w, d, p);
            for (size_t c = 0; c < 4 && k + c < k1; c++)
                y[c] = y[c] + p[c];
        }
    }
}

void sae_items_finish(const struct sae_batch *b, const struct sae_item *items, size_t n, size_t k0,
                      size_t k1)
{
    if (b->dict->formula.output != SAE_SCALING_NONE)
        for (size_t i = 0; i < n; i++)
            output(b, &items[i], k0, k1);
    if (b->dict->skip)
        skip(b, items, n, k0, k1);
}
