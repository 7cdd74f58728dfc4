/* offers.h - dictionaries that are offered: loaded when they are first asked for, dropped when
 * others need their room (formats 6.2).
 *
 *     offered --want--> loading --loaded--> ready --another needs the room--> offered
 *        ^                |  |
 *        +----no room-----+  +--failed--> unavailable --want, some time later--> loading
 *
 * What the registry lists of one is its description: a saed_dict whose dictionary is an outline,
 * replaced by a new one whenever the source is read again. The values are a saed_dict of their own
 * that no list has: who computes with it has it from saed_offers_want and releases it when the
 * answer is made, and it is dropped only when nobody has it. So a body that is still arriving keeps
 * nothing in memory.
 *
 * THREADS  one loads, one after the other in order of asking; one looks for deadlines. Any thread
 * may want, cancel and look. One mutex guards all; it is never held over loading, nor over a done
 * callback. Tests start no thread and step. Time comes from outside. */
#ifndef SAED_OFFERS_H
#define SAED_OFFERS_H

#include "server/handle.h"
#include "server/opts/opts.h"
#include "server/registry.h"
#include "server/report/metrics.h"

/* None is dropped so soon after it was first used. */
#define SAED_OFFER_KEPT_NS 5000000000ull
/* A failed load is tried again after the first, then after twice the time, up to the last. */
#define SAED_OFFER_FIRST_RETRY_NS 10000000000ull
#define SAED_OFFER_LAST_RETRY_NS 600000000000ull

struct saed_offers_config {
    struct saed_registry *registry; /* these are borrowed until free */
    const struct sae_engine *engine;
    struct saed_metrics *metrics; /* NULL: nothing is counted */
    size_t n_threads;             /* that load */
    uint64_t max_resident_bytes;  /* of all that is loaded; 0: no limit */
    uint64_t named_bytes;         /* of which these are never dropped */
    size_t max_wait_rows;         /* for one dictionary */
    /* It is about to be computed with: make room wherever that is. */
    enum sae_status (*admit)(void *arg, const struct sae_dict *dict, struct sae_err *err);
    void *admit_arg;
    uint64_t (*now_ns)(void *arg); /* NULL: CLOCK_MONOTONIC */
    void *now_arg;
};

struct saed_offers;

/* SAE_E_UNAVAILABLE where so many bytes never fit beside the named ones. */
enum sae_status saed_offers_fit(uint64_t max_resident_bytes, uint64_t named_bytes, uint64_t bytes,
                                struct sae_err *err) SAE_MUST_USE;

/* No thread yet. */
enum sae_status saed_offers_create(struct saed_offers **out, const struct saed_offers_config *cfg,
                                   struct sae_err *err) SAE_MUST_USE;
/* Offer these, described now with the threads of `team` (NULL: this one). One that is refused is
 * offered as unavailable. Once, before start. SAE_E_NOMEM; SAE_E_USAGE: a name is taken. */
enum sae_status saed_offers_add(struct saed_offers *o, const struct saed_source *sources, size_t n,
                                struct sae_team *team, struct sae_err *err) SAE_MUST_USE;
enum sae_status saed_offers_start(struct saed_offers *o, struct sae_err *err) SAE_MUST_USE;
/* Nothing is loaded from now on but what is being loaded; true: something is, and its thread stays
 * until free. False: no thread is left, and no done callback runs. Nobody waits, or is about to be
 * told. */
bool saed_offers_stop(struct saed_offers *o);
/* Whatever waits, and whoever asks from now on, gets SAE_E_DRAINING. */
void saed_offers_abort(struct saed_offers *o);
/* Nobody waits, and no request has any. Waits for what is being loaded. NULL allowed. */
void saed_offers_free(struct saed_offers *o);

/* A request that wants one. Zero it, fill the upper part. Owned by its request, borrowed while it
 * waits. */
struct saed_wait {
    size_t rows; /* that wait with it */
    uint64_t deadline_ns;
    void (*done)(struct saed_wait *w, void *arg); /* outside the lock, once, if it waited */
    void *arg;

    struct saed_dict *dict;     /* SAE_OK: ready; the request's reference */
    struct saed_series *series; /* borrowed to the end; NULL: it is not counted yet */
    struct sae_err err;         /* why not: LOADING, UNAVAILABLE, OVERLOADED, DRAINING, CANCELLED */

    /* Private to offers.c. */
    struct saed_offer *offer;
    bool waits;
    TAILQ_ENTRY(saed_wait) link, due;
};
/* `described` is what was found in the registry. True: it waits, done will run. False: dict or err
 * says what became of it. */
bool saed_offers_want(struct saed_offers *o, const struct saed_dict *described,
                      struct saed_wait *w);
/* The client has gone: done runs in this call, unless it has run or is about to. */
void saed_offers_cancel(struct saed_offers *o, struct saed_wait *w);

/* How one does, for who shows it. */
struct saed_offer_look {
    const char *state;      /* "offered", "loading", "ready", "unavailable"; static */
    struct sae_err err;     /* unavailable: why */
    struct saed_dict *dict; /* a reference of the caller's: ready, else the description */
};
struct saed_offer_look saed_offers_look(struct saed_offers *o, const struct saed_dict *described);
/* Set those values of its series that live elsewhere; queue_rows by its ready dictionary. */
void saed_offers_measure(struct saed_offers *o, const struct saed_dict *described,
                         size_t (*queue_rows)(void *arg, const struct saed_dict *d), void *arg);

/* What the threads do in a loop, for tests: load what was asked for first, with `team`; let those
 * go whose deadline has passed. False: there was nothing to do. */
bool saed_offers_step(struct saed_offers *o, struct sae_team *team);
bool saed_offers_expire(struct saed_offers *o);

#endif
