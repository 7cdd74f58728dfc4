/* choose.c - the choice of engine and kernels, made once; a worker's scratch. See saed.h.
 *
 * An engine is a row of `engines`; the kernels that all engines share follow the instruction set
 * (the best that the CPU has, or the one forced by name). */
#include "lib/engine/engine.h"

#include "lib/cpu.h"

#include <stdio.h>
#include <string.h>

/* What of kern/ each instruction set runs: the int8 products concern other files. */
static const struct sae_kern *const kern_of[SAE_N_ISAS] = {
    [SAE_ISA_SCALAR] = &sae_kern_scalar, [SAE_ISA_AVX2] = &sae_kern_avx2,
    [SAE_ISA_AVXVNNI] = &sae_kern_avx2,  [SAE_ISA_AVX512] = &sae_kern_avx512,
    [SAE_ISA_VNNI] = &sae_kern_avx512,
};

static enum sae_status choose_isa(const char *name, enum sae_isa *out, struct sae_err *err)
{
    char names[96] = "";
    size_t n = 0;

    if (!name) {
        *out = sae_cpu_best();
        return SAE_OK;
    }
    for (int i = 0; i < SAE_N_ISAS && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
                              sae_isa_name((enum sae_isa)i));
    if (!sae_isa_by_name(name, out))
        return sae_err_set(err, SAE_E_USAGE, "", "cannot use instruction set %s: wanted one of %s",
                           name, names);
    if (!sae_cpu_has(*out))
        return sae_err_set(err, SAE_E_USAGE, "",
                           "cannot use instruction set %s: this CPU does not have it (its best is "
                           "%s)",
                           name, sae_isa_name(sae_cpu_best()));
    return SAE_OK;
}

static const struct sae_engine_ops *const engines[] = {
    [SAE_ENGINE_AUTO] = &sae_engine_native,
    [SAE_ENGINE_NATIVE] = &sae_engine_native,
    [SAE_ENGINE_OPENBLAS] = &sae_engine_openblas,
};

enum sae_status sae_engine_load(enum sae_engine_kind kind, struct sae_err *err)
{
    return engines[kind]->load ? engines[kind]->load(err) : SAE_OK;
}

const char *sae_engine_library(void)
{
    return sae_blas_load(NULL) == SAE_OK ? sae_blas_config() : NULL;
}

enum sae_status sae_engine_create(struct sae_engine **out, enum sae_engine_kind kind,
                                  const char *isa, struct sae_err *err)
{
    enum sae_isa chosen = SAE_ISA_SCALAR;
    enum sae_status st = choose_isa(isa, &chosen, err);
    struct sae_engine *e;

    if (st == SAE_OK)
        st = sae_engine_load(kind, err);
    if (st != SAE_OK)
        return st;
    e = sae_calloc(1, sizeof *e);
    if (!e)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot open the engine: out of memory");
    e->isa = chosen;
    e->kern = kern_of[chosen];
    e->ops = engines[kind];
    snprintf(e->kernel, sizeof e->kernel, "%s",
             e->ops->kernel ? e->ops->kernel() : sae_isa_name(chosen));
    *out = e;
    return SAE_OK;
}

void sae_engine_free(struct sae_engine *e)
{
    sae_free(e);
}

const char *sae_engine_name(const struct sae_engine *e)
{
    return e->ops->name;
}

const char *sae_engine_kernel(const struct sae_engine *e)
{
    return e->kernel;
}

bool sae_engine_wants_f32(const struct sae_engine *e)
{
    return e->ops->wants_f32;
}

bool sae_engine_bitwise(const struct sae_engine *e)
{
    return e->ops->is_bitwise;
}

uint64_t sae_engine_prepared_bytes(const struct sae_engine *e, const struct sae_dict_info *info)
{
    return e->ops->prepared_bytes && info->bytes > 0
               ? e->ops->prepared_bytes(info->dict_size, info->activation_dim)
               : 0;
}

enum sae_status sae_engine_prepare(const struct sae_engine *e, struct sae_dict *d,
                                   struct sae_team *team, struct sae_err *err)
{
    return e->ops->prepare ? e->ops->prepare(e, d, team, err) : SAE_OK;
}

bool sae_engine_screens(const struct sae_engine *e)
{
    return e->ops->stats != NULL;
}

struct sae_screen_stats sae_engine_stats(const struct sae_engine *e, const struct sae_dict *d)
{
    struct sae_screen_stats stats = {0};

    if (e->ops->stats)
        e->ops->stats(d, &stats);
    return stats;
}

/* ---- scratch ----------------------------------------------------------------------------------
 */

static void scratch_cut(struct sae_scratch *s, size_t max_F, size_t max_d)
{
    const size_t slack = SAE_KERN_SLACK;
    struct sae_slab *slab = &s->slab;

    s->p = sae_slab_cut(slab, s->max_rows + 3, SAE_BLOCK * sizeof *s->p);
    s->c = sae_slab_cut(slab, s->max_rows, SAE_DECODE_COLS * sizeof *s->c);
    s->f = sae_slab_cut(slab, SAE_BLOCK, sizeof *s->f);
    s->aux = sae_slab_cut(slab, SAE_BLOCK, sizeof *s->aux);
    s->scaled = sae_slab_cut(slab, SAE_BLOCK, sizeof *s->scaled);
    s->wide = sae_slab_cut(slab, 4 * ((max_d + 15) & ~(size_t)15), sizeof *s->wide);
    s->pos = sae_slab_cut(slab, SAE_BLOCK + slack, sizeof *s->pos);
    s->ids = sae_slab_cut(slab, SAE_BLOCK + slack, sizeof *s->ids);
    s->key = sae_slab_cut(slab, SAE_BLOCK, sizeof *s->key);
    s->list_f = sae_slab_cut(slab, SAE_BLOCK, sizeof *s->list_f);
    s->list_aux = sae_slab_cut(slab, SAE_BLOCK, sizeof *s->list_aux);
    s->param = sae_slab_cut(slab, (SAE_MAX_PARAMS + 1) * SAE_BLOCK, sizeof *s->param);
    s->row_ids = sae_slab_cut(slab, max_F + slack, sizeof *s->row_ids);
    s->row_f = sae_slab_cut(slab, max_F + slack, sizeof *s->row_f);
    s->row_aux = sae_slab_cut(slab, max_F + slack, sizeof *s->row_aux);
    s->order = sae_slab_cut(slab, max_F, sizeof *s->order);
    s->order_tmp = sae_slab_cut(slab, max_F, sizeof *s->order_tmp);
    s->cursor = sae_slab_cut(slab, s->max_rows, sizeof *s->cursor);
}

static bool scratch_alloc(struct sae_scratch *s, const struct sae_capacity *c)
{
    scratch_cut(s, c->max_F, c->max_d);
    if (!sae_slab_make(&s->slab))
        return false;
    scratch_cut(s, c->max_F, c->max_d);
    return true;
}

enum sae_status sae_scratch_create(struct sae_scratch **out, const struct sae_engine *e,
                                   struct sae_capacity c, struct sae_err *err)
{
    struct sae_scratch *s = sae_calloc(1, sizeof *s);

    if (!s)
        goto nomem;
    s->e = e;
    s->max_rows = c.max_rows;
    if (!scratch_alloc(s, &c) || (e->ops->scratch_init && !e->ops->scratch_init(s, &c)))
        goto nomem;
    *out = s;
    return SAE_OK;
nomem:
    sae_scratch_free(s);
    return sae_err_set(err, SAE_E_NOMEM, "",
                       "cannot allocate a compute thread's buffers: %zu rows, %zu features",
                       c.max_rows, c.max_F);
}

void sae_scratch_free(struct sae_scratch *s)
{
    if (!s)
        return;
    if (s->e && s->e->ops->scratch_fini)
        s->e->ops->scratch_fini(s);
    sae_free(s->slab.base);
    sae_free(s);
}

void sae_engine_warm(const struct sae_engine *e, struct sae_scratch *s)
{
    /* The largest buffers page in now; the others are a few pages each. */
    memset(s->p, 0, (s->max_rows + 3) * SAE_BLOCK * sizeof *s->p);
    memset(s->c, 0, s->max_rows * SAE_DECODE_COLS * sizeof *s->c);
    if (e->ops->warm)
        e->ops->warm(e, s);
}
