/* service.h - what stands behind the routes: dictionaries, engine, scheduler, opened in this order.
 *
 * Here lib's batches become the scheduler's compute, and its observer feeds the metrics. Opened by
 * one thread while HTTP answers 503 loading. From then on dictionaries may come and go, from any
 * thread and under load; all else is immutable. */
#ifndef SAED_SERVICE_H
#define SAED_SERVICE_H

#include "lib/saed.h"
#include "server/offers/offers.h"
#include "server/opts/opts.h"
#include "server/registry.h"
#include "server/report/metrics.h"
#include "server/sched/sched.h"

#include <pthread.h>

struct saed_service {
    const struct saed_opts *opts; /* borrowed until close */
    struct saed_metrics *metrics; /* borrowed until close; NULL: --check */
    struct saed_registry *registry;
    struct sae_engine *engine;
    struct saed_sched *sched;
    struct saed_offers *offers;   /* NULL: nothing is offered */
    pthread_mutex_t changing;     /* held while a dictionary comes or goes; guards the capacity */
    struct sae_capacity capacity; /* of batches and scratch */
    uint64_t max_inflight_bytes;  /* as the memory allows; set by load */
};

/* Dictionaries and engine only; metrics and n_loaded NULL: none (--check). *n_loaded counts the
 * dictionaries that are ready, and each is logged. Each failure is reported. *s is for
 * saed_service_close whatever the result. */
enum sae_status saed_service_load(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, _Atomic size_t *n_loaded,
                                  saed_report_fn *report, void *arg) SAE_MUST_USE;
/* And the scheduler with its threads, warm; what is offered, described. */
enum sae_status saed_service_open(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, _Atomic size_t *n_loaded,
                                  saed_report_fn *report, void *arg) SAE_MUST_USE;
/* Serve a dictionary that is ready (loading.h): when it returns, there is room for it wherever it
 * is computed, and it is found. The service has a reference of its own. SAE_E_NOMEM; SAE_E_USAGE:
 * the name is taken. */
enum sae_status saed_service_admit(struct saed_service *s, struct saed_dict *d,
                                   struct sae_err *err) SAE_MUST_USE;
/* One less: nobody finds it from now on, and its memory goes with the last request that had found
 * it. False: there is none of that name. */
bool saed_service_drop(struct saed_service *s, const char *name);
void saed_service_close(struct saed_service *s);

#endif
