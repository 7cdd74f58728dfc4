/* room.c - see room.h. */
#include "server/net/room.h"

#include <assert.h>
#include <string.h>

void saed_room_init(struct saed_room *r, size_t max)
{
    memset(r, 0, sizeof *r);
    r->max = r->limit = max;
    pthread_mutex_init(&r->lock, NULL);
}

void saed_room_fini(struct saed_room *r)
{
    pthread_mutex_destroy(&r->lock);
}

/* The lock held: places of IN that are taken or promised. */
static size_t taken(const struct saed_room *r)
{
    return r->n[SAED_PLACE_IN] + r->n_coming;
}

bool saed_room_has(struct saed_room *r)
{
    bool has;

    pthread_mutex_lock(&r->lock);
    has = taken(r) + r->n[SAED_PLACE_BEYOND] < r->limit + SAED_ROOM_BEYOND;
    pthread_mutex_unlock(&r->lock);
    return has;
}

bool saed_room_is_full(struct saed_room *r)
{
    bool is_full;

    pthread_mutex_lock(&r->lock);
    is_full = taken(r) >= r->limit;
    pthread_mutex_unlock(&r->lock);
    return is_full;
}

void saed_room_accepted(struct saed_room *r)
{
    pthread_mutex_lock(&r->lock);
    r->n_coming++;
    r->came_or_went = true;
    pthread_mutex_unlock(&r->lock);
}

enum saed_place saed_room_opened(struct saed_room *r)
{
    enum saed_place place;

    pthread_mutex_lock(&r->lock);
    if (r->n_coming > 0) /* unless it has been written off */
        r->n_coming--;
    place = r->n[SAED_PLACE_IN] < r->limit ? SAED_PLACE_IN : SAED_PLACE_BEYOND;
    r->n[place]++;
    r->came_or_went = true;
    pthread_mutex_unlock(&r->lock);
    return place;
}

void saed_room_closed(struct saed_room *r, enum saed_place place)
{
    pthread_mutex_lock(&r->lock);
    assert(r->n[place] > 0);
    r->n[place]--;
    pthread_mutex_unlock(&r->lock);
}

bool saed_room_leave(struct saed_room *r)
{
    bool may;

    pthread_mutex_lock(&r->lock);
    may = r->n[SAED_PLACE_LEAVING] < SAED_ROOM_LEAVING;
    if (may) {
        assert(r->n[SAED_PLACE_IN] > 0);
        r->n[SAED_PLACE_IN]--;
        r->n[SAED_PLACE_LEAVING]++;
    }
    pthread_mutex_unlock(&r->lock);
    return may;
}

bool saed_room_admit(struct saed_room *r)
{
    bool may;

    pthread_mutex_lock(&r->lock);
    may = taken(r) < r->limit;
    if (may) {
        assert(r->n[SAED_PLACE_BEYOND] > 0);
        r->n[SAED_PLACE_BEYOND]--;
        r->n[SAED_PLACE_IN]++;
    }
    pthread_mutex_unlock(&r->lock);
    return may;
}

void saed_room_write_off(struct saed_room *r)
{
    pthread_mutex_lock(&r->lock);
    if (!r->came_or_went && r->n_coming == r->coming_seen)
        r->n_coming = 0;
    r->coming_seen = r->n_coming;
    r->came_or_went = false;
    pthread_mutex_unlock(&r->lock);
}

void saed_room_shrink(struct saed_room *r)
{
    pthread_mutex_lock(&r->lock);
    if (taken(r) < r->limit)
        r->limit = taken(r) > 0 ? taken(r) : 1;
    pthread_mutex_unlock(&r->lock);
}

void saed_room_grow(struct saed_room *r)
{
    pthread_mutex_lock(&r->lock);
    r->limit = r->max;
    pthread_mutex_unlock(&r->lock);
}

size_t saed_room_limit(struct saed_room *r)
{
    size_t limit;

    pthread_mutex_lock(&r->lock);
    limit = r->limit;
    pthread_mutex_unlock(&r->lock);
    return limit;
}

size_t saed_room_count(struct saed_room *r)
{
    size_t sum = 0;

    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < SAED_N_PLACES; i++)
        sum += r->n[i];
    pthread_mutex_unlock(&r->lock);
    return sum;
}
