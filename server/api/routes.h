/* routes.h - what saed serves: paths to dictionaries and operations (spec section 3).
 *
 * The handler behind http.h. Made before anything is loaded (it then answers /healthz, /readyz and
 * /metrics, and 503 loading for the rest); saed_routes_ready gives it the dictionaries, the engine
 * and the scheduler. All of it is immutable from then on but the state, which is atomic. */
#ifndef SAED_ROUTES_H
#define SAED_ROUTES_H

#include "lib/saed.h"
#include "server/net/http.h"
#include "server/report/metrics.h"
#include "server/offers/offers.h"
#include "server/opts/opts.h"
#include "server/registry.h"
#include "server/sched/sched.h"

struct saed_routes;
struct saed_keys;

/* opts, n_loaded (dictionaries loaded, of opts->n_sources) and metrics are borrowed until free. */
enum sae_status saed_routes_create(struct saed_routes **out, const struct saed_opts *opts,
                                   const _Atomic size_t *n_loaded, struct saed_metrics *metrics,
                                   struct sae_err *err) SAE_MUST_USE;
/* Serve these (offers NULL: there are none); borrowed until free. Once. opts' max_inflight_bytes
 * may change until then. */
void saed_routes_ready(struct saed_routes *r, struct saed_registry *registry,
                       struct saed_offers *offers, const struct sae_engine *engine,
                       struct saed_sched *sched);
/* /readyz says 503 draining; everything else goes on. */
void saed_routes_drain(struct saed_routes *r);
/* Every request that comes is answered 503 draining. */
void saed_routes_refuse(struct saed_routes *r);
/* Whose requests are answered, to be read anew; borrowed until free. NULL: everybody's. */
struct saed_keys *saed_routes_keys(struct saed_routes *r);
/* When no exchange is left. NULL allowed. */
void saed_routes_free(struct saed_routes *r);

struct saed_http_handler saed_routes_handler(struct saed_routes *r);

#endif
