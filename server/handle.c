/* handle.c - see handle.h. */
#include "server/handle.h"

#include "server/report/metrics.h"

#include <assert.h>
#include <string.h>

static void destroy(struct saed_dict *d)
{
    assert(d->queued_rows == 0);
    saed_series_release(d->series);
    sae_dict_free(d->dict);
    sae_free(d->source);
    sae_free(d->shown);
    sae_free(d->name);
    sae_free(d);
}

enum sae_status saed_dict_create(struct saed_dict **out, const char *name, const char *source,
                                 struct sae_err *err)
{
    struct saed_dict *d = sae_calloc(1, sizeof *d);

    if (d) {
        d->name = sae_strdup(name);
        d->source = sae_strdup(source);
        d->shown = sae_strdup(source);
    }
    if (!d || !d->name || !d->source || !d->shown) {
        if (d)
            destroy(d);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate dictionary %.64s", name);
    }
    for (char *cut = d->shown; (cut = strchr(cut, SAE_SOURCE_CUT)); cut++)
        *cut = ':';
    atomic_init(&d->refs, 1);
    for (int side = 0; side < SAE_N_SIDES; side++) {
        struct saed_queue *q = &d->queues[side];

        q->dict = d;
        q->side = (enum sae_side)side;
        TAILQ_INIT(&q->by_turn);
        TAILQ_INIT(&q->by_age);
    }
    *out = d;
    return SAE_OK;
}

struct saed_dict *saed_dict_acquire(struct saed_dict *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void saed_dict_release(struct saed_dict *d)
{
    if (d && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1)
        destroy(d);
}
