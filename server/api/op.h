/* op.h - shared by routes.c (which route), api/info.c (GET) and api/op.c (POST). */
#ifndef SAED_OP_H
#define SAED_OP_H

#include "proto/wire.h"
#include "server/api/access.h"
#include "server/api/pool.h"
#include "server/api/routes.h"
#include "server/budget.h"

#include <stdatomic.h>

enum saed_routes_state {
    SAED_ROUTES_LOADING,
    SAED_ROUTES_READY,
    SAED_ROUTES_DRAINING, /* serves on, not ready */
    SAED_ROUTES_REFUSING
};

struct saed_routes {
    const struct saed_opts *opts;
    const _Atomic size_t *n_loaded;
    struct saed_metrics *metrics;
    struct saed_access access;
    struct saed_pool *pool;
    struct saed_budget budget; /* bytes in flight */
    _Atomic int state;         /* the four below are set before READY */
    _Atomic bool loaded;
    struct saed_registry *registry;
    struct saed_offers *offers; /* NULL: nothing is offered */
    const struct sae_engine *engine;
    struct saed_sched *sched;
};

/* api/info.c: replies of GET routes. x->dict is the dictionary of {name}. */
void saed_info_root(struct saed_routes *r, struct saed_exchange *x);
void saed_info_dictionaries(struct saed_routes *r, struct saed_exchange *x);
void saed_info_dictionary(struct saed_routes *r, struct saed_exchange *x);
void saed_info_health(struct saed_routes *r, struct saed_exchange *x);
void saed_info_ready(struct saed_routes *r, struct saed_exchange *x);
void saed_info_contract(struct saed_routes *r, struct saed_exchange *x);
void saed_info_metrics(struct saed_routes *r, struct saed_exchange *x);

/* api/web.c: the files of the page, at their paths. */
void saed_web_file(struct saed_routes *r, struct saed_exchange *x);

/* api/op.c: an operation on x->dict, made at the head; x->user is its struct. */
enum sae_status saed_op_head(struct saed_routes *r, struct saed_exchange *x, enum sae_op op,
                             struct sae_err *err) SAE_MUST_USE;
void saed_op_end(struct saed_exchange *x);
/* As the handler of exchanges has them (server/net/http.h). */
enum sae_status saed_op_reserve(void *routes, struct saed_exchange *x, uint64_t bytes,
                                struct sae_err *err) SAE_MUST_USE;
void saed_op_request(void *routes, struct saed_exchange *x);
void saed_op_resumed(void *routes, struct saed_exchange *x);
void saed_op_gone(void *routes, struct saed_exchange *x);

#endif
