/* state.h - what the files of server/offers share.
 *
 * offers.c  asking and waiting, life, the two threads
 * load.c    one load after the other: room for it, the values, who gets them
 *
 * Nobody else includes this but their test. "Locked": the caller holds saed_offers.lock. */
#ifndef SAED_OFFERS_STATE_H
#define SAED_OFFERS_STATE_H

#include "server/offers/offers.h"

#include <pthread.h>

TAILQ_HEAD(saed_wait_list, saed_wait);

enum saed_offer_state {
    SAED_OFFER_OFFERED,
    SAED_OFFER_LOADING,
    SAED_OFFER_READY,
    SAED_OFFER_UNAVAILABLE
};

/* Guarded by the lock but for what is said otherwise. */
struct saed_offer {
    char *name, *source; /* owned; immutable */
    enum saed_offer_state state;
    struct saed_dict *shown;      /* the description: a reference beside the registry's */
    struct saed_dict *ready;      /* NULL: not loaded */
    struct sae_err err;           /* unavailable: why */
    uint64_t retry_ns, pause_ns;  /* ... and not before when; what lay between two attempts */
    uint64_t held_bytes;          /* of what is resident */
    uint64_t first_use_ns;        /* since it was loaded; 0: not yet used */
    struct saed_series *series;   /* a reference; NULL until it is first loaded */
    struct sae_screen_stats past; /* of what was loaded before */
    struct saed_wait_list waits;
    size_t wait_rows;
    TAILQ_ENTRY(saed_offer) link; /* in saed_offers.asked, or used */
};

TAILQ_HEAD(saed_offer_list, saed_offer);

struct saed_offers {
    struct saed_offers_config cfg;
    struct saed_offer *all; /* immutable but for what they hold */
    size_t n;
    pthread_mutex_t lock;         /* guards all below */
    pthread_cond_t asks;          /* there is one to load */
    pthread_cond_t earlier;       /* the first deadline has changed */
    struct saed_offer_list asked; /* to be loaded, first come first; not the one that is */
    struct saed_offer_list used;  /* ready, the least recently used first */
    struct saed_wait_list due;    /* all that wait, by deadline */
    uint64_t resident_bytes;      /* named, ready and being loaded */
    bool is_loading, stop, draining;
    pthread_t loader, watch;
    unsigned n_running;
};

static inline uint64_t saed_offers_now(const struct saed_offers *o)
{
    return o->cfg.now_ns(o->cfg.now_arg);
}

/* In whole seconds, at least one. */
uint64_t saed_seconds_until(uint64_t at, uint64_t now);
/* Locked: a request waits no more; `over` gets it. */
void saed_wait_over(struct saed_offers *o, struct saed_wait *w, struct saed_wait_list *over);
/* Not locked: their done callbacks. */
void saed_wait_tell(struct saed_wait_list *over);
/* Locked: a reference for who uses one that is ready. */
struct saed_dict *saed_offer_use(struct saed_offers *o, struct saed_offer *of, uint64_t now);
/* Locked. */
enum sae_status saed_offer_say_unavailable(const struct saed_offer *of, uint64_t now,
                                           struct sae_err *err);
/* load.c: SAE_E_UNAVAILABLE where so many bytes never fit beside the named ones. */
enum sae_status saed_offers_fits(const struct saed_offers *o, uint64_t bytes, struct sae_err *err);

#endif
