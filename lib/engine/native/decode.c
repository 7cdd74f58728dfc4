/* decode.c - x_hat by a dense product, the bits of canonical order.
 *
 * Canonical order skips features with f = +-0; the product (kern/dense.h) does not. What that can
 * change: decoders are finite (dict.c refuses others), so a step that should have been skipped adds
 * +-0, and acc + +-0 = acc, NaN and infinities too, except that -0 + +0 = +0. Let s be the chain
 * with the steps skipped and a the one without. Both start from +0, and at every step either a = s,
 * or a = +0 and s = -0 (a product that underflows makes a -0): a step with f = +-0 leaves s as it
 * is and takes a = -0 to -0 or +0, any other a to itself; a step with f != 0 adds the same product
 * to both, which gives the same bits unless the product is a zero itself, and then +0 on one side
 * and the zero's sign on the other, a again being +0 where they differ. So only an a that ends as
 * +0 can be wrong, and a bias other than -0 hides it: s + bias = a + bias. What is left, zeros
 * without such a bias, is rare: those rows are done again by list.
 *
 * Threads: as engine.h says of tiles. */
#include "lib/engine/native/state.h"

#include <math.h>
#include <string.h>

/* Values of the items' features j .. j + n - 1: where the request has them, or in s->p. */
static void find_rows(const struct sae_batch *b, const struct sae_item *items, size_t m, size_t j,
                      size_t n, struct sae_scratch *s)
{
    const float **f = ((struct native_scratch *)s->engine_data)->x;

    for (size_t i = 0; i < m; i++) {
        const float *dense = sae_item_dense(b, &items[i]);

        f[i] = dense ? dense + j : s->p + i * SAE_BLOCK;
        if (!dense)
            sae_item_block(b, &items[i], j, n, &s->cursor[i], s->p + i * SAE_BLOCK);
    }
}

/* acc [n] + bias (NULL: none) into out; false: a zero may have the wrong sign. */
static bool finish(const float *acc, const float *bias, size_t n, float *out)
{
    bool sure = true;

    for (size_t k = 0; k < n; k++) {
        out[k] = bias ? acc[k] + bias[k] : acc[k];
        /* any bias but -0 gives the same for either zero */
        sure &= acc[k] != 0.0f || (bias && (bias[k] != 0.0f || !signbit(bias[k])));
    }
    return sure;
}

void sae_native_decode_dense(struct sae_batch *b, size_t k0, size_t k1, struct sae_scratch *s)
{
    const struct sae_dict *d = b->dict;
    struct native_scratch *n = s->engine_data;

    for (size_t i0 = 0; i0 < b->n_dense; i0 += b->max_rows) {
        const struct sae_item *items = b->dense + i0;
        size_t m = b->n_dense - i0 < b->max_rows ? b->n_dense - i0 : b->max_rows;

        memset(s->cursor, 0, m * sizeof *s->cursor);
        memset(s->c, 0, m * SAE_DECODE_COLS * sizeof *s->c);
        for (size_t j = 0; j < d->formula.F; j += SAE_BLOCK) {
            size_t left = d->formula.F - j, nj = left < SAE_BLOCK ? left : SAE_BLOCK;

            find_rows(b, items, m, j, nj, s);
            sae_native_kernels(b->e)->decode(n->x, m, &d->dec, j, nj, k0, k1 - k0, left - nj >= 64,
                                             s->c, SAE_DECODE_COLS);
        }
        for (size_t i = 0; i < m; i++)
            if (!finish(s->c + i * SAE_DECODE_COLS,
                        d->dec_bias && items[i].list == 0 ? d->dec_bias + k0 : NULL, k1 - k0,
                        sae_item_out(b, &items[i]) + k0))
                sae_item_decode(b, &items[i], k0, k1, s);
    }
}
