/* registry.c - see registry.h. */
#include "server/registry.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

/* Two orders of the same dictionaries: requests look for a name among up to 10,000. */
struct saed_registry {
    pthread_mutex_t lock; /* guards all below */
    struct saed_dict **by_name, **by_order;
    size_t n, cap;
    uint64_t order; /* of the latest */
};

enum sae_status saed_registry_create(struct saed_registry **out, struct sae_err *err)
{
    struct saed_registry *r = sae_calloc(1, sizeof *r);

    if (!r)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the list of dictionaries");
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return SAE_OK;
}

void saed_registry_free(struct saed_registry *r)
{
    if (!r)
        return;
    assert(r->n == 0);
    pthread_mutex_destroy(&r->lock);
    sae_free(r->by_name);
    sae_free(r->by_order);
    sae_free(r);
}

/* ---- locked ---------------------------------------------------------------------------------- */

/* Where the name stands in by_name, or would. */
static size_t place_of(const struct saed_registry *r, const char *name, bool *is_there)
{
    size_t from = 0, to = r->n;

    *is_there = false;
    while (from < to && !*is_there) {
        size_t mid = from + (to - from) / 2;
        int c = strcmp(r->by_name[mid]->name, name);

        *is_there = c == 0;
        if (c < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return *is_there ? to : from;
}

/* The first in by_order that was listed after `order`; r->n: none was. */
static size_t after(const struct saed_registry *r, uint64_t order)
{
    size_t from = 0, to = r->n;

    while (from < to) {
        size_t mid = from + (to - from) / 2;

        if (r->by_order[mid]->order <= order)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

static bool grow(struct saed_dict ***list, size_t cap)
{
    struct saed_dict **more = sae_realloc(*list, cap, sizeof *more);

    if (more)
        *list = more;
    return more != NULL;
}

static bool reserve(struct saed_registry *r)
{
    size_t cap = r->cap ? 2 * r->cap : 16;

    if (r->n < r->cap)
        return true;
    if (!grow(&r->by_name, cap) || !grow(&r->by_order, cap))
        return false;
    r->cap = cap;
    return true;
}

static void put(struct saed_dict **list, size_t n, size_t at, struct saed_dict *d)
{
    memmove(list + at + 1, list + at, (n - at) * sizeof *list);
    list[at] = d;
}

static void take(struct saed_dict **list, size_t n, size_t at)
{
    memmove(list + at, list + at + 1, (n - at - 1) * sizeof *list);
}

/* ---- calls ----------------------------------------------------------------------------------- */

enum sae_status saed_registry_add(struct saed_registry *r, struct saed_dict *d, struct sae_err *err)
{
    bool is_taken, has_room;
    size_t at;

    assert(d->state == SAED_DICT_READY || d->offer);
    pthread_mutex_lock(&r->lock);
    at = place_of(r, d->name, &is_taken);
    has_room = is_taken || reserve(r);
    if (!is_taken && has_room) {
        d->order = ++r->order;
        put(r->by_name, r->n, at, saed_dict_acquire(d));
        put(r->by_order, r->n, r->n, d);
        r->n++;
    }
    pthread_mutex_unlock(&r->lock);
    if (is_taken)
        return sae_err_set(err, SAE_E_USAGE, "", "cannot serve %s: that name is taken", d->name);
    return has_room
               ? SAE_OK
               : sae_err_set(err, SAE_E_NOMEM, "", "cannot list %s: memory has run out", d->name);
}

struct saed_dict *saed_registry_replace(struct saed_registry *r, struct saed_dict *d)
{
    struct saed_dict *was = NULL;
    bool is_there;
    size_t at;

    pthread_mutex_lock(&r->lock);
    at = place_of(r, d->name, &is_there);
    if (is_there) {
        was = r->by_name[at];
        d->order = was->order;
        r->by_name[at] = saed_dict_acquire(d);
        r->by_order[after(r, d->order) - 1] = d;
    }
    pthread_mutex_unlock(&r->lock);
    return was;
}

struct saed_dict *saed_registry_remove(struct saed_registry *r, const char *name)
{
    struct saed_dict *d = NULL;
    bool is_there;
    size_t at;

    pthread_mutex_lock(&r->lock);
    at = place_of(r, name, &is_there);
    if (is_there) {
        d = r->by_name[at];
        take(r->by_name, r->n, at);
        take(r->by_order, r->n, after(r, d->order) - 1);
        r->n--;
    }
    pthread_mutex_unlock(&r->lock);
    return d;
}

struct saed_dict *saed_registry_find(struct saed_registry *r, const char *name)
{
    struct saed_dict *d = NULL;
    bool is_there;
    size_t at;

    pthread_mutex_lock(&r->lock);
    at = place_of(r, name, &is_there);
    if (is_there)
        d = saed_dict_acquire(r->by_name[at]);
    pthread_mutex_unlock(&r->lock);
    return d;
}

struct saed_dict *saed_registry_next(struct saed_registry *r, struct saed_dict *d)
{
    struct saed_dict *next = NULL;
    size_t at;

    pthread_mutex_lock(&r->lock);
    at = d ? after(r, d->order) : 0; /* by its order, for it may have been taken off */
    if (at < r->n)
        next = saed_dict_acquire(r->by_order[at]);
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
