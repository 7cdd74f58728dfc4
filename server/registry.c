/* registry.c - see registry.h. */
#include "server/registry.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

struct saed_registry {
    pthread_mutex_t lock; /* guards all below */
    TAILQ_HEAD(, saed_dict) list;
    size_t n;
    uint64_t order; /* of the latest */
};

enum sae_status saed_registry_create(struct saed_registry **out, struct sae_err *err)
{
    struct saed_registry *r = sae_calloc(1, sizeof *r);

    if (!r)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the list of dictionaries");
    pthread_mutex_init(&r->lock, NULL);
    TAILQ_INIT(&r->list);
    *out = r;
    return SAE_OK;
}

void saed_registry_free(struct saed_registry *r)
{
    if (!r)
        return;
    assert(TAILQ_EMPTY(&r->list));
    pthread_mutex_destroy(&r->lock);
    sae_free(r);
}

/* Locked. */
static struct saed_dict *by_name(struct saed_registry *r, const char *name)
{
    struct saed_dict *d;

    TAILQ_FOREACH(d, &r->list, link)
    {
        if (strcmp(d->name, name) == 0)
            break;
    }
    return d;
}

enum sae_status saed_registry_add(struct saed_registry *r, struct saed_dict *d, struct sae_err *err)
{
    bool is_new;

    assert(d->state == SAED_DICT_READY);
    pthread_mutex_lock(&r->lock);
    is_new = !by_name(r, d->name);
    if (is_new) {
        d->order = ++r->order;
        saed_dict_acquire(d);
        TAILQ_INSERT_TAIL(&r->list, d, link);
        r->n++;
    }
    pthread_mutex_unlock(&r->lock);
    return is_new
               ? SAE_OK
               : sae_err_set(err, SAE_E_USAGE, "", "cannot serve %s: that name is taken", d->name);
}

struct saed_dict *saed_registry_remove(struct saed_registry *r, const char *name)
{
    struct saed_dict *d;

    pthread_mutex_lock(&r->lock);
    d = by_name(r, name);
    if (d) {
        TAILQ_REMOVE(&r->list, d, link);
        r->n--;
    }
    pthread_mutex_unlock(&r->lock);
    return d;
}

struct saed_dict *saed_registry_find(struct saed_registry *r, const char *name)
{
    struct saed_dict *d;

    pthread_mutex_lock(&r->lock);
    d = by_name(r, name);
    if (d)
        saed_dict_acquire(d);
    pthread_mutex_unlock(&r->lock);
    return d;
}

struct saed_dict *saed_registry_next(struct saed_registry *r, struct saed_dict *d)
{
    struct saed_dict *next;

    pthread_mutex_lock(&r->lock);
    TAILQ_FOREACH(next, &r->list, link) /* by its order, for it may have been taken off */
    {
        if (!d || next->order > d->order)
            break;
    }
    if (next)
        saed_dict_acquire(next);
    pthread_mutex_unlock(&r->lock);
    saed_dict_release(d);
    return next;
}

size_t saed_registry_count(struct saed_registry *r)
{
    size_t n;

    pthread_mutex_lock(&r->lock);
    n = r->n;
    pthread_mutex_unlock(&r->lock);
    return n;
}
