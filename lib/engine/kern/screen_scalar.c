/* screen_scalar.c - int8 screening in plain C: the fallback and the yardstick of the others. */
#include "lib/engine/kern/screen.h"

#include <math.h>

static int32_t dot(const struct sae_screen_row *row, const struct sae_screen_group *g, size_t in)
{
    const uint8_t *w =
        g->plane + in / SAE_SCREEN_PANEL * g->dq * SAE_SCREEN_PANEL + in % SAE_SCREEN_PANEL * 4;
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

void sae_screen_i8__scalar(const struct sae_screen_row *rows, size_t n,
                           const struct sae_screen_group *g, uint16_t (*masks)[SAE_SCREEN_PANELS])
{
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < g->n_panels; p++) {
            unsigned bits = 0;

            for (size_t i = 0; i < SAE_SCREEN_PANEL; i++) {
                size_t in = p * SAE_SCREEN_PANEL + i, f = g->f0 + in;
                float v =
                    fmaf(rows[r].A, g->a[f], fmaf(rows[r].B, g->b[f], (float)dot(&rows[r], g, in)));

                v = fmaf(-rows[r].C, g->t[f], with_split(v, &rows[r], f));
                bits |= (unsigned)!(v <= -0x1p-30f) << i;
            }
            masks[r][p] = (uint16_t)bits;
        }
}

void sae_interval_i8__scalar(const struct sae_screen_row *rows, size_t n,
                             const struct sae_screen_group *g, const float *floor,
                             uint16_t (*masks)[SAE_SCREEN_PANELS], sae_group_floats *low,
                             sae_group_floats *up)
{
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < g->n_panels; p++) {
            unsigned bits = 0;

            for (size_t i = 0; i < SAE_SCREEN_PANEL; i++) {
                size_t in = p * SAE_SCREEN_PANEL + i, f = g->f0 + in;
                float e = with_split((float)dot(&rows[r], g, in), &rows[r], f);
                float w = fmaf(rows[r].A, g->a[f], rows[r].B * g->b[f]);
                float ss = rows[r].s * g->s[f];
                float slack = fmaf((fabsf(e) + w) * ss, 0x1p-21f, 1e-37f), v;

                up[r][in] = (e + w) * ss + slack;
                low[r][in] = (e - w) * ss - slack;
                v = fmaf(fmaf(fabsf(up[r][in]), g->c1[f], fabsf(g->c0[f])), 0x1p-21f,
                         fmaf(up[r][in], g->c1[f], g->c0[f]));
                bits |= (unsigned)!(v < floor[r]) << i;
            }
            masks[r][p] = (uint16_t)bits;
        }
}
