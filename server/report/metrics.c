/* metrics.c - counters and histograms: made, listed and counted up. See metrics.h.
 *
 * How they stand in memory is counters.h; exposition.c prints them. */
#include "server/report/counters.h"

#include <assert.h>
#include <string.h>

/* By SAED_MOP_*, and by SAE_OP_*, which are the first of them. */
static const char *const op_names[SAED_N_MOPS] = {
#define SAE_OPERATION(id, name, takes, gives_f, decodes, side) [SAED_MOP_##id] = #name,
#include "proto/ops.def"
#undef SAE_OPERATION
    [SAED_MOP_OTHER] = "other",
};
const char *saed_metric_op_name(enum saed_metric_op op)
{
    return op_names[op];
}

/* ---- life ---------------------------------------------------------------------------------- */

/* A label's value: \ " and newline escaped. False when cap was too small (and out is cut). */
static bool escape_label(char *out, size_t cap, const char *s)
{
    size_t n = 0;

    for (; *s; s++) {
        bool escaped = *s == '\\' || *s == '"' || *s == '\n';

        if (n + 1 + escaped >= cap)
            break;
        if (escaped)
            out[n++] = '\\';
        out[n++] = *s == '\n' ? 'n' : *s;
    }
    out[n] = '\0';
    return *s == '\0';
}

enum sae_status saed_metrics_create(struct saed_metrics **out, struct sae_err *err)
{
    struct saed_metrics *m = sae_alloc(1, sizeof *m);

    if (!m)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate metrics: %zu bytes", sizeof *m);
    memset(m, 0, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    TAILQ_INIT(&m->listed);
    *out = m;
    return SAE_OK;
}

void saed_metrics_free(struct saed_metrics *m)
{
    if (!m)
        return;
    assert(TAILQ_EMPTY(&m->listed));
    pthread_mutex_destroy(&m->lock);
    sae_free(m);
}

enum sae_status saed_series_create(struct saed_series **out, const char *name, struct sae_err *err)
{
    struct saed_series *s = sae_alloc(1, sizeof *s);

    if (!s)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate metrics of %.64s", name);
    memset(s, 0, sizeof *s);
    atomic_init(&s->refs, 1);
    if (!escape_label(s->label, SAED_LABEL_CAP, name)) {
        sae_free(s);
        return sae_err_set(err, SAE_E_USAGE, "", "cannot label metrics \"%.64s...\": too long",
                           name);
    }
    *out = s;
    return SAE_OK;
}

struct saed_series *saed_series_acquire(struct saed_series *s)
{
    if (s)
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void saed_series_release(struct saed_series *s)
{
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        sae_free(s);
}

void saed_metrics_list(struct saed_metrics *m, struct saed_series *s)
{
    pthread_mutex_lock(&m->lock);
    TAILQ_INSERT_TAIL(&m->listed, s, link);
    pthread_mutex_unlock(&m->lock);
}

void saed_metrics_unlist(struct saed_metrics *m, struct saed_series *s)
{
    pthread_mutex_lock(&m->lock);
    TAILQ_REMOVE(&m->listed, s, link);
    pthread_mutex_unlock(&m->lock);
}

void saed_metrics_set_build(struct saed_metrics *m, const char *version, const char *engine,
                            const char *kernel)
{
    pthread_mutex_lock(&m->lock);
    escape_label(m->version, sizeof m->version, version);
    escape_label(m->engine, sizeof m->engine, engine);
    escape_label(m->kernel, sizeof m->kernel, kernel);
    m->has_build = true;
    pthread_mutex_unlock(&m->lock);
}

/* ---- updates ------------------------------------------------------------------------------- */

static void count(_Atomic uint64_t *c, uint64_t by)
{
    atomic_fetch_add_explicit(c, by, memory_order_relaxed);
}

static void observe(const struct saed_bound *bounds, size_t n, _Atomic uint64_t *buckets,
                    _Atomic uint64_t *sum, uint64_t v)
{
    size_t i = 0;

    while (i < n && v > bounds[i].le)
        i++;
    count(&buckets[i], 1);
    count(sum, v);
}

static void observe_ns(struct saed_seconds *h, uint64_t ns)
{
    observe(saed_seconds_bounds, SAE_COUNTOF(saed_seconds_bounds), h->bucket, &h->sum_ns, ns);
}

static size_t code_slot(int http)
{
    size_t i = 0;

    while (i < SAE_COUNTOF(saed_code_slots) && saed_code_slots[i] != http)
        i++;
    return i;
}

void saed_metrics_request(struct saed_metrics *m, struct saed_series *s, enum saed_metric_op op,
                          int http_status, uint64_t ns)
{
    count(&(s ? s : &m->none)->requests[op][code_slot(http_status)], 1);
    observe_ns(&m->request[op], ns);
}

void saed_metrics_in_flight(struct saed_metrics *m, int delta)
{
    atomic_fetch_add_explicit(&m->in_flight, delta, memory_order_relaxed);
}

void saed_metrics_dropped(struct saed_metrics *m)
{
    count(&m->dropped, 1);
}

void saed_series_rows(struct saed_series *s, enum sae_op op, size_t rows)
{
    count(&s->rows[op], rows);
}

void saed_series_batch(struct saed_series *s, enum sae_side gemm, size_t rows, uint64_t ns)
{
    observe(saed_rows_bounds, SAE_COUNTOF(saed_rows_bounds), s->batch_rows[gemm].bucket,
            &s->batch_rows[gemm].sum, rows);
    observe_ns(&s->compute[gemm], ns);
}

void saed_series_queue(struct saed_series *s, uint64_t ns)
{
    observe_ns(&s->queue, ns);
}

void saed_series_set(struct saed_series *s, uint64_t queue_rows, uint64_t candidates,
                     uint64_t dense_rows)
{
    atomic_store_explicit(&s->queue_rows, queue_rows, memory_order_relaxed);
    atomic_store_explicit(&s->candidates, candidates, memory_order_relaxed);
    atomic_store_explicit(&s->dense_rows, dense_rows, memory_order_relaxed);
}

void saed_series_loaded(struct saed_series *s, uint64_t bytes, uint64_t resident_bytes, uint64_t ns)
{
    count(&s->n_loads, 1);
    observe(saed_load_bounds, SAE_COUNTOF(saed_load_bounds), s->load.bucket, &s->load.sum_ns, ns);
    atomic_store_explicit(&s->bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&s->resident_bytes, resident_bytes, memory_order_relaxed);
}

void saed_series_load_failed(struct saed_series *s)
{
    count(&s->n_failures, 1);
}

void saed_series_evicted(struct saed_series *s)
{
    count(&s->n_evictions, 1);
    atomic_store_explicit(&s->resident_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&s->queue_rows, 0, memory_order_relaxed);
}
