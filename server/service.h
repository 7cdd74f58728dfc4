/* service.h - what stands behind the routes: dictionaries, engine, scheduler, opened in this order.
 *
 * Here lib's batches become the scheduler's compute, and its observer feeds the metrics. Opened by
 * one thread while HTTP answers 503 loading; immutable after. */
#ifndef SAED_SERVICE_H
#define SAED_SERVICE_H

#include "lib/saed.h"
#include "server/report/metrics.h"
#include "server/opts/opts.h"
#include "server/registry.h"
#include "server/sched/sched.h"

struct saed_service {
    const struct saed_opts *opts; /* borrowed until close */
    struct saed_metrics *metrics; /* borrowed until close; NULL: --check */
    struct saed_registry *registry;
    struct sae_engine *engine;
    struct saed_sched *sched;
    struct sae_dict **dicts;
    struct sae_capacity capacity; /* of batches and scratch */
};

/* Dictionaries and engine only (--check). Each failure is reported. *s is for saed_service_close
 * whatever the result. */
enum sae_status saed_service_load(struct saed_service *s, const struct saed_opts *opts,
                                  saed_report_fn *report, void *arg) SAE_MUST_USE;
/* And the scheduler with its threads, warm. */
enum sae_status saed_service_open(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, saed_report_fn *report,
                                  void *arg) SAE_MUST_USE;
void saed_service_close(struct saed_service *s);

#endif
