/* state.c - what the native engine keeps of a dictionary, of a batch and of a compute thread, and
 * which kernels it calls. See state.h; engine.h says when each is made, and by which thread. */
#include "lib/engine/native/state.h"

#include <math.h>
#include <string.h>

const struct sae_native_kernels sae_native_kernels_of[SAE_N_ISAS] = {
    [SAE_ISA_SCALAR] = {sae_dense_f32_1x1__scalar, sae_pairs_f32__scalar,
                        sae_decode_f32_1x1__scalar, sae_screen_i8__scalar, sae_interval_i8__scalar,
                        &sae_quant_scalar, 127, 3, 0, 8, 2},
    [SAE_ISA_AVX2] = {sae_dense_f32_2x3__avx2, sae_pairs_f32__avx2, sae_decode_f32_6x2__avx2,
                      sae_screen_i8_4x1__avx2, sae_interval_i8__avx2, &sae_quant_avx2, 63, 3, 1, 5,
                      0},
    [SAE_ISA_AVXVNNI] = {sae_dense_f32_2x3__avx2, sae_pairs_f32__avx2, sae_decode_f32_6x2__avx2,
                         sae_screen_i8_6x1__avxvnni, sae_interval_i8__avxvnni, &sae_quant_avx2, 127,
                         3, 1, 8, 2},
    [SAE_ISA_AVX512] = {sae_dense_f32_4x6__avx512, sae_pairs_f32__avx512,
                        sae_decode_f32_6x4__avx512, sae_screen_i8_8x2__avx512,
                        sae_interval_i8__avx512, &sae_quant_avx512, 63, 4, 8, 8, 2},
    [SAE_ISA_VNNI] = {sae_dense_f32_4x6__avx512, sae_pairs_f32__avx512, sae_decode_f32_6x4__avx512,
                      sae_screen_i8_8x3__vnni, sae_interval_i8__vnni, &sae_quant_avx512, 127, 3, 8,
                      8, 2},
};

/* ---- dictionaries ------------------------------------------------------------------------------
 */

static void dict_free(void *data)
{
    struct sae_native_dict *nd = data;

    sae_plane_free(nd->plane);
    sae_free(nd->u);
    sae_free(nd->z);
    sae_free(nd);
}

uint64_t sae_native_prepared_bytes(uint64_t F, uint64_t d)
{
    const struct sae_native_dict *nd;

    return sae_plane_bytes(F, d) + F * (sizeof *nd->u + sizeof *nd->z) + sizeof *nd;
}

static enum sae_status nomem(struct sae_err *err)
{
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot prepare a dictionary: out of memory");
}

/* What intervals and the score want of each feature. False: memory ran out. */
static bool take_lines(struct sae_native_dict *nd, const struct sae_dict *d)
{
    nd->u = sae_calloc(nd->plane->Fp, sizeof *nd->u);
    nd->z = sae_calloc(nd->plane->Fp, sizeof *nd->z);
    if (!nd->u || !nd->z)
        return false;
    nd->has_lines = true;
    for (size_t j = 0; j < d->formula.F; j++) {
        struct sae_line line = sae_dict_line(d, j);

        nd->has_lines &= line.c1 >= 0;
        if (d->formula.score != SAE_SCORE_VALUE)
            nd->plane->gain = fmax(nd->plane->gain, (double)d->dec_norm[j]);
        sae_plane_line(nd->plane, j, line, &nd->u[j], &nd->z[j]);
    }
    return true;
}

enum sae_status sae_native_prepare(const struct sae_engine *e, struct sae_dict *d,
                                   struct sae_team *team, struct sae_err *err)
{
    const struct sae_native_kernels *k = sae_native_kernels(e);
    enum sae_status st = SAE_OK;
    struct sae_native_dict *nd = NULL;
    double *theta = NULL;

    if (!d->enc.values || d->engine_data)
        return SAE_OK;
    nd = sae_calloc(1, sizeof *nd);
    theta = sae_alloc(d->formula.F, sizeof *theta);
    if (!nd || !theta) {
        st = nomem(err);
        goto out;
    }
    for (size_t j = 0; j < d->formula.F; j++) {
        theta[j] = sae_dict_theta(d, j);
        nd->has_theta |= isfinite(theta[j]);
        nd->n_never_on += d->formula.score != SAE_SCORE_VALUE && d->dec_norm[j] == 0.0f;
    }
    st = sae_plane_create(&nd->plane, &d->enc, d->formula.F, theta, k->xmax, k->quant, team, err);
    if (st != SAE_OK)
        goto out;
    nd->norms_finite = isfinite(d->info.norm_max);
    if (nd->plane && !take_lines(nd, d)) {
        st = nomem(err);
        goto out;
    }
    d->engine_data = nd;
    d->engine_data_free = dict_free;
    nd = NULL;
out:
    sae_free(theta);
    if (nd)
        dict_free(nd);
    return st;
}

void sae_native_stats(const struct sae_dict *d, struct sae_screen_stats *out)
{
    struct sae_native_dict *nd = d->engine_data;

    if (!nd)
        return;
    out->candidates = atomic_load_explicit(&nd->candidates, memory_order_relaxed);
    out->dense_rows = atomic_load_explicit(&nd->dense_rows, memory_order_relaxed);
}

/* ---- batches and scratch -----------------------------------------------------------------------
 */

static size_t max_dq(const struct sae_capacity *c)
{
    return c->max_d ? (c->max_d + 15) & ~(size_t)15 : 16;
}

void sae_native_batch_fini(struct sae_batch *b)
{
    struct native_batch *nb = b->engine_data;

    if (!nb)
        return;
    for (size_t i = 0; nb->slab.base && i < b->max_rows; i++)
        pthread_mutex_destroy(&nb->top[i].lock);
    sae_free(nb->slab.base);
    sae_free(nb);
    b->engine_data = NULL;
}

static void batch_cut(struct native_batch *nb, size_t rows, size_t dq)
{
    struct sae_slab *slab = &nb->slab;

    nb->q = sae_slab_cut(slab, rows, dq);
    nb->rows = sae_slab_cut(slab, rows, sizeof *nb->rows);
    nb->is_screened = sae_slab_cut(slab, rows, sizeof *nb->is_screened);
    nb->v = sae_slab_cut(slab, dq, sizeof *nb->v);
    nb->top = sae_slab_cut(slab, rows, sizeof *nb->top);
}

bool sae_native_batch_init(struct sae_batch *b, const struct sae_capacity *c)
{
    struct native_batch *nb = sae_calloc(1, sizeof *nb);

    b->engine_data = nb;
    if (!nb)
        return false;
    batch_cut(nb, b->max_rows, max_dq(c));
    if (!sae_slab_make(&nb->slab))
        return false;
    batch_cut(nb, b->max_rows, max_dq(c));
    memset(nb->rows, 0, b->max_rows * sizeof *nb->rows); /* no row holds a column */
    memset(nb->top, 0, b->max_rows * sizeof *nb->top);
    for (size_t i = 0; i < b->max_rows; i++)
        pthread_mutex_init(&nb->top[i].lock, NULL);
    return true;
}

void sae_native_scratch_fini(struct sae_scratch *s)
{
    struct native_scratch *n = s->engine_data;

    if (!n)
        return;
    sae_free(n->slab.base);
    sae_free(n);
    s->engine_data = NULL;
}

static void scratch_cut(struct native_scratch *n, size_t rows, size_t dq, size_t F)
{
    struct sae_slab *slab = &n->slab;

    n->v = sae_slab_cut(slab, dq, sizeof *n->v);
    n->masks = sae_slab_cut(slab, rows, sizeof *n->masks);
    n->rows = sae_slab_cut(slab, rows, sizeof *n->rows);
    n->row_of = sae_slab_cut(slab, rows, sizeof *n->row_of);
    n->count = sae_slab_cut(slab, rows, sizeof *n->count);
    n->start = sae_slab_cut(slab, rows + 1, sizeof *n->start);
    n->x = sae_slab_cut(slab, rows, sizeof *n->x);
    n->dense_row = sae_slab_cut(slab, rows, sizeof *n->dense_row);
    n->pair_row = sae_slab_cut(slab, rows * SAE_BLOCK, sizeof *n->pair_row);
    n->pair_col = sae_slab_cut(slab, rows * SAE_BLOCK, sizeof *n->pair_col);
    n->pair_p = sae_slab_cut(slab, rows * SAE_BLOCK, sizeof *n->pair_p);
    n->ids = sae_slab_cut(slab, rows * SAE_BLOCK, sizeof *n->ids);
    n->p = sae_slab_cut(slab, rows * SAE_BLOCK, sizeof *n->p);
    n->found = sae_slab_cut(slab, rows * NATIVE_GROUP, sizeof *n->found);
    n->fetch = sae_slab_cut(slab, NATIVE_GROUP, sizeof *n->fetch);
    n->v_of = sae_slab_cut(slab, rows, sizeof *n->v_of);
    n->floor = sae_slab_cut(slab, rows, sizeof *n->floor);
    n->plane_floor = sae_slab_cut(slab, rows, sizeof *n->plane_floor);
    n->best = sae_slab_cut(slab, rows * NATIVE_TOP_ROOM, sizeof *n->best);
    n->n_best = sae_slab_cut(slab, rows, sizeof *n->n_best);
    n->likely = sae_slab_cut(slab, 1, sizeof *n->likely);
    n->up = sae_slab_cut(slab, 1, sizeof *n->up);
    n->key = sae_slab_cut(slab, F, sizeof *n->key);
    n->exact = sae_slab_cut(slab, F, sizeof *n->exact);
    n->chosen = sae_slab_cut(slab, F + SAE_KERN_SLACK, sizeof *n->chosen);
    n->dense = sae_slab_cut(slab, sae_dense_scratch_floats(rows, dq), sizeof *n->dense);
}

bool sae_native_scratch_init(struct sae_scratch *s, const struct sae_capacity *c)
{
    struct native_scratch *n = sae_calloc(1, sizeof *n);
    size_t F = c->max_F > SAE_BLOCK ? c->max_F : SAE_BLOCK;

    s->engine_data = n;
    if (!n)
        return false;
    scratch_cut(n, s->max_rows, max_dq(c), F);
    if (!sae_slab_make(&n->slab))
        return false;
    scratch_cut(n, s->max_rows, max_dq(c), F);
    memset(n->masks, 0, s->max_rows * sizeof *n->masks); /* of an interval the last is not set */
    return true;
}
