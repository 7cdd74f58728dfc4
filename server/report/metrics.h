/* metrics.h - counters and histograms, and their Prometheus text (spec section 5).
 *
 * Every update is a relaxed atomic add, from any thread, never a lock. Series exist for known
 * dictionaries only; what belongs to none counts under the empty label. */
#ifndef SAED_METRICS_H
#define SAED_METRICS_H

#include "lib/base.h"
#include "lib/saed.h"

/* The operations, and what is none. */
enum saed_metric_op {
#define SAE_OPERATION(id, name, takes, gives_f, decodes, side) SAED_MOP_##id = SAE_OP_##id,
#include "proto/ops.def"
#undef SAE_OPERATION
    SAED_MOP_OTHER = SAE_N_OPS,
    SAED_N_MOPS
};

/* As the label `op` has it. */
const char *saed_metric_op_name(enum saed_metric_op op);

struct saed_metrics;
struct saed_series; /* of one dictionary */

enum sae_status saed_metrics_create(struct saed_metrics **out, struct sae_err *err) SAE_MUST_USE;
/* build_info's labels; strings are copied. */
void saed_metrics_set_build(struct saed_metrics *m, const char *version, const char *engine,
                            const char *kernel);
void saed_metrics_free(struct saed_metrics *m);

/* Counted: it outlives what is loaded under its name. */
enum sae_status saed_series_create(struct saed_series **out, const char *name,
                                   struct sae_err *err) SAE_MUST_USE;
struct saed_series *saed_series_acquire(struct saed_series *s); /* s. NULL allowed */
void saed_series_release(struct saed_series *s); /* the last: not listed. NULL allowed */
/* Print it from now on, behind those listed before; no more. It may be updated in either case. */
void saed_metrics_list(struct saed_metrics *m, struct saed_series *s);
void saed_metrics_unlist(struct saed_metrics *m, struct saed_series *s);

/* A request was answered: counts saed_requests_total and saed_request_seconds. s NULL: it named no
 * dictionary that is served. */
void saed_metrics_request(struct saed_metrics *m, struct saed_series *s, enum saed_metric_op op,
                          int http_status, uint64_t ns);
void saed_metrics_in_flight(struct saed_metrics *m, int delta);
/* An answer that was counted has not been taken. */
void saed_metrics_dropped(struct saed_metrics *m);
void saed_series_rows(struct saed_series *s, enum sae_op op, size_t rows);
/* Counts batches, batch rows, compute seconds. */
void saed_series_batch(struct saed_series *s, enum sae_side gemm, size_t rows, uint64_t ns);
void saed_series_queue(struct saed_series *s, uint64_t ns);
/* What lives elsewhere, to be set before it is printed. */
void saed_series_set(struct saed_series *s, uint64_t queue_rows, uint64_t candidates,
                     uint64_t dense_rows);

/* It was loaded, within so much time, and takes so much; it could not be loaded; it made room. */
void saed_series_loaded(struct saed_series *s, uint64_t bytes, uint64_t resident_bytes,
                        uint64_t ns);
void saed_series_load_failed(struct saed_series *s);
void saed_series_evicted(struct saed_series *s);

/* Gauges of the whole, read at print time. */
struct saed_metrics_gauges {
    uint64_t inflight_bytes;
    bool is_screened; /* the engine has the counts of saed_series_set */
};
/* The whole exposition, text/plain; version=0.0.4, process metrics included. */
enum sae_status saed_metrics_print(struct saed_metrics *m, const struct saed_metrics_gauges *g,
                                   struct sae_buf *out) SAE_MUST_USE;

#endif
