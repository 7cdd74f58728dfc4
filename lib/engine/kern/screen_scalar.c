/* screen_scalar.c - int8 screening in plain C: the fallback and the yardstick of the others. */
#include "lib/engine/kern/screen.h"

#include <math.h>
#include <stdbool.h>

/* The group's feature `in`, counted from g->f0. */
static size_t place(const struct sae_screen_group *g, size_t in)
{
    size_t step = g->step ? g->step : 1;

    return in / SAE_SCREEN_PANEL * step * SAE_SCREEN_PANEL + in % SAE_SCREEN_PANEL;
}

static int32_t dot(const struct sae_screen_row *row, const struct sae_screen_group *g, size_t in)
{
    size_t at = place(g, in);
    const uint8_t *w =
        g->plane + at / SAE_SCREEN_PANEL * g->dq * SAE_SCREEN_PANEL + at % SAE_SCREEN_PANEL * 4;
    int32_t sum = row->init;

    for (size_t k = 0; k < g->dq; k++)
        sum += (int32_t)w[k / 4 * 4 * SAE_SCREEN_PANEL + k % 4] * row->q[k];
    return sum;
}

static float with_split(float v, const struct sae_screen_row *row, size_t f)
{
    for (int o = 0; o < row->n_split; o++)
        v = fmaf(row->xo[o], row->col[o][f], v);
    return v;
}

/* One row against the group; v NULL: only the proof is wanted. */
static void row_masks(const struct sae_screen_row *row, const struct sae_screen_group *g,
                      float floor, uint16_t *masks, float *v)
{
    for (size_t p = 0; p < g->n_panels; p++) {
        unsigned bits = 0;

        for (size_t i = 0; i < SAE_SCREEN_PANEL; i++) {
            size_t in = p * SAE_SCREEN_PANEL + i, f = g->f0 + place(g, in);
            float bound = fmaf(row->A, g->a[f], fmaf(row->B, g->b[f], (float)dot(row, g, in)));
            bool some;

            bound = with_split(bound, row, f);
            some = !(fmaf(-row->C, g->t[f], bound) <= -0x1p-30f);
            if (v) {
                v[in] = bound;
                bound = fmaf(-floor, g->u[f], fmaf(row->C, g->z[f], bound));
                some = some && !(bound < -0x1p-30f);
            }
            bits |= (unsigned)some << i;
        }
        masks[p] = (uint16_t)bits;
    }
}

void sae_screen_i8__scalar(const struct sae_screen_row *rows, size_t n,
                           const struct sae_screen_group *g, uint16_t (*masks)[SAE_SCREEN_STREAMS])
{
    for (size_t r = 0; r < n; r++)
        row_masks(&rows[r], g, 0, masks[r], NULL);
}

void sae_interval_i8__scalar(const struct sae_screen_row *rows, size_t n,
                             const struct sae_screen_group *g, const float *floor,
                             uint16_t (*masks)[SAE_SCREEN_STREAMS], float (*v)[SAE_SCREEN_GROUP])
{
    for (size_t r = 0; r < n; r++)
        row_masks(&rows[r], g, floor[r], masks[r], v[r]);
}
