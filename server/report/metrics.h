/* metrics.h - counters and histograms, and their Prometheus text (spec section 5).
 *
 * Every update is a relaxed atomic add, from any thread, never a lock. Series exist for known
 * dictionaries only: dict_index is an index into the names given at creation, or SAED_NO_DICT for
 * the empty label. Gauges that live elsewhere (queue rows, bytes in flight) are passed to print. */
#ifndef SAED_METRICS_H
#define SAED_METRICS_H

#include "lib/base.h"
#include "lib/types.h"

#define SAED_NO_DICT SIZE_MAX

/* The operations, and what is none. */
enum saed_metric_op {
    SAED_MOP_ENCODE = SAE_OP_ENCODE,
    SAED_MOP_DECODE = SAE_OP_DECODE,
    SAED_MOP_FORWARD = SAE_OP_FORWARD,
    SAED_MOP_OTHER = SAE_N_OPS,
    SAED_N_MOPS
};

struct saed_metrics;

struct saed_metrics_dict {
    const char *name; /* copied */
    uint64_t bytes;
};

/* Created before loading with no dictionaries; saed_metrics_set_dicts adds them once, before ready.
 */
enum sae_status saed_metrics_create(struct saed_metrics **out, struct sae_err *err) SAE_MUST_USE;
enum sae_status saed_metrics_set_dicts(struct saed_metrics *m, const struct saed_metrics_dict *d,
                                       size_t n, struct sae_err *err) SAE_MUST_USE;
/* build_info's labels; strings are copied. */
void saed_metrics_set_build(struct saed_metrics *m, const char *version, const char *engine,
                            const char *kernel);
void saed_metrics_free(struct saed_metrics *m);

/* A request was answered: counts saed_requests_total and saed_request_seconds. */
void saed_metrics_request(struct saed_metrics *m, size_t dict_index, enum saed_metric_op op,
                          int http_status, uint64_t ns);
void saed_metrics_in_flight(struct saed_metrics *m, int delta);
void saed_metrics_rows(struct saed_metrics *m, size_t dict_index, enum sae_op op, size_t rows);
/* gemm: 0 encode, 1 decode (enum sae_side). Counts batches, batch rows, compute seconds. */
void saed_metrics_batch(struct saed_metrics *m, size_t dict_index, int gemm, size_t rows,
                        uint64_t ns);
void saed_metrics_queue(struct saed_metrics *m, size_t dict_index, uint64_t ns);

/* Gauges read at print time. */
struct saed_metrics_gauges {
    uint64_t inflight_bytes;
    const uint64_t *queue_rows; /* [n dicts], NULL before they are loaded */
    /* [n dicts] counters of the native engine's screening; NULL with another engine */
    const uint64_t *screen_candidates, *dense_rows;
};
/* The whole exposition, text/plain; version=0.0.4, process metrics included. */
enum sae_status saed_metrics_print(struct saed_metrics *m, const struct saed_metrics_gauges *g,
                                   struct sae_buf *out) SAE_MUST_USE;

#endif
