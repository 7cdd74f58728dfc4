/* exposition.c - metrics in Prometheus's text format. See metrics.h, counters.h.
 *
 * The lock keeps the list as it is while it is printed; updates never take it. A histogram is
 * printed from its buckets alone (its _count is their total), so +Inf always equals _count; _sum
 * may be an update ahead or behind. */
#include "server/report/counters.h"
#include "server/report/process.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

static const char *const gemm_names[2] = {"encode", "decode"};

/* One exposition being printed; the first failure stays and silences the rest. */
struct printer {
    struct saed_metrics *m;
    const struct saed_metrics_gauges *g;
    struct sae_buf *out;
    enum sae_status st;
};

#define PRINT(p, ...)                                      \
    do {                                                   \
        if ((p)->st == SAE_OK)                             \
            (p)->st = sae_buf_addf((p)->out, __VA_ARGS__); \
    } while (0)

static void family(struct printer *p, const char *name, const char *type, const char *help)
{
    PRINT(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Whole seconds and nanoseconds of a sum, without loss. */
static void print_seconds(struct printer *p, const char *name, const char *labels, uint64_t ns)
{
    PRINT(p, "%s_sum{%s} %" PRIu64 ".%09" PRIu64 "\n", name, labels, ns / 1000000000,
          ns % 1000000000);
}

/* The buckets, cumulative; returns the count. */
static uint64_t print_buckets(struct printer *p, const char *name, const char *labels,
                              const struct saed_bound *bounds, size_t n,
                              const _Atomic uint64_t *buckets)
{
    uint64_t total = 0;

    for (size_t i = 0; i <= n; i++) {
        total += saed_counter(&buckets[i]);
        PRINT(p, "%s_bucket{%s,le=\"%s\"} %" PRIu64 "\n", name, labels,
              i < n ? bounds[i].text : "+Inf", total);
    }
    return total;
}

static void print_seconds_histogram(struct printer *p, const char *name, const char *labels,
                                    const struct saed_seconds *h)
{
    uint64_t n = print_buckets(p, name, labels, saed_seconds_bounds,
                               SAE_COUNTOF(saed_seconds_bounds), h->bucket);

    print_seconds(p, name, labels, saed_counter(&h->sum_ns));
    PRINT(p, "%s_count{%s} %" PRIu64 "\n", name, labels, n);
}

static void print_rows_histogram(struct printer *p, const char *name, const char *labels,
                                 const struct saed_batch_rows *h)
{
    uint64_t n =
        print_buckets(p, name, labels, saed_rows_bounds, SAE_COUNTOF(saed_rows_bounds), h->bucket);

    PRINT(p, "%s_sum{%s} %" PRIu64 "\n%s_count{%s} %" PRIu64 "\n", name, labels,
          saed_counter(&h->sum), name, labels, n);
}

static void print_requests_of(struct printer *p, const struct saed_series *s, const char *label)
{
    for (size_t op = 0; op < SAED_N_MOPS; op++)
        for (size_t c = 0; c < SAED_N_CODES; c++) {
            uint64_t n = saed_counter(&s->requests[op][c]);
            char code[16] = "other";

            if (n == 0)
                continue;
            if (c < SAE_COUNTOF(saed_code_slots))
                snprintf(code, sizeof code, "%d", saed_code_slots[c]);
            PRINT(p, "saed_requests_total{dictionary=\"%s\",op=\"%s\",code=\"%s\"} %" PRIu64 "\n",
                  label, saed_metric_op_name(op), code, n);
        }
}

static void print_requests(struct printer *p)
{
    const struct saed_series *s;
    char labels[64];

    family(p, "saed_requests_total", "counter", "Requests answered, by HTTP status.");
    print_requests_of(p, &p->m->none, "");
    TAILQ_FOREACH(s, &p->m->listed, link)
    {
        print_requests_of(p, s, s->label);
    }

    family(p, "saed_request_seconds", "histogram",
           "Time from a request's first byte to its answer.");
    for (size_t op = 0; op < SAED_N_MOPS; op++) {
        snprintf(labels, sizeof labels, "op=\"%s\"", saed_metric_op_name(op));
        print_seconds_histogram(p, "saed_request_seconds", labels, &p->m->request[op]);
    }
    family(p, "saed_requests_in_flight", "gauge", "Requests begun and not yet answered.");
    PRINT(p, "saed_requests_in_flight %" PRId64 "\n",
          atomic_load_explicit(&p->m->in_flight, memory_order_relaxed));
    family(p, "saed_dropped_answers_total", "counter",
           "Answers that their clients stopped taking, or took too slowly.");
    PRINT(p, "saed_dropped_answers_total %" PRIu64 "\n", saed_counter(&p->m->dropped));
    family(p, "saed_inflight_bytes", "gauge",
           "Bytes reserved for bodies, rows and answers of all requests.");
    PRINT(p, "saed_inflight_bytes %" PRIu64 "\n", p->g->inflight_bytes);
}

/* A family with one value for each dictionary, which stands at `field` in its series. */
static void print_values(struct printer *p, const char *name, const char *type, const char *help,
                         size_t field)
{
    const struct saed_series *s;

    family(p, name, type, help);
    TAILQ_FOREACH(s, &p->m->listed, link)
    {
        PRINT(p, "%s{dictionary=\"%s\"} %" PRIu64 "\n", name, s->label,
              saed_counter((const _Atomic uint64_t *)((const char *)s + field)));
    }
}

static void print_loads(struct printer *p)
{
    static const char name[] = "saed_dictionary_load_seconds";
    const struct saed_series *s;
    char labels[512];

    print_values(p, "saed_dictionary_loads_total", "counter", "Times a dictionary was loaded.",
                 offsetof(struct saed_series, n_loads));
    print_values(p, "saed_dictionary_load_failures_total", "counter",
                 "Times a dictionary could not be loaded.",
                 offsetof(struct saed_series, n_failures));
    print_values(p, "saed_dictionary_evictions_total", "counter",
                 "Times a dictionary made room for another.",
                 offsetof(struct saed_series, n_evictions));
    print_values(p, "saed_dictionary_resident_bytes", "gauge",
                 "Bytes that a dictionary takes in memory; 0 while it is not loaded.",
                 offsetof(struct saed_series, resident_bytes));
    family(p, name, "histogram", "Time a dictionary was loaded in.");
    TAILQ_FOREACH(s, &p->m->listed, link)
    {
        uint64_t n;

        snprintf(labels, sizeof labels, "dictionary=\"%s\"", s->label);
        n = print_buckets(p, name, labels, saed_load_bounds, SAE_COUNTOF(saed_load_bounds),
                          s->load.bucket);
        print_seconds(p, name, labels, saed_counter(&s->load.sum_ns));
        PRINT(p, "%s_count{%s} %" PRIu64 "\n", name, labels, n);
    }
}

static void print_rows(struct printer *p)
{
    const struct saed_series *s;

    family(p, "saed_rows_total", "counter", "Rows computed.");
    TAILQ_FOREACH(s, &p->m->listed, link)
    {
        for (size_t op = 0; op < SAE_N_ROW_OPS; op++)
            PRINT(p, "saed_rows_total{dictionary=\"%s\",op=\"%s\"} %" PRIu64 "\n", s->label,
                  saed_metric_op_name(op), saed_counter(&s->rows[op]));
    }
    print_values(p, "saed_queue_rows", "gauge", "Rows waiting for a batch.",
                 offsetof(struct saed_series, queue_rows));
    print_values(p, "saed_dictionary_bytes", "gauge", "Bytes of a dictionary's tensors as f32.",
                 offsetof(struct saed_series, bytes));
    if (!p->g->is_screened)
        return;
    print_values(p, "saed_screen_candidates_total", "counter",
                 "Features that the native engine's screening left to be computed exactly.",
                 offsetof(struct saed_series, candidates));
    print_values(p, "saed_dense_rows_total", "counter",
                 "Rows that the native engine computed densely as a whole.",
                 offsetof(struct saed_series, dense_rows));
}

/* One of the three families that have a series for each dictionary and GEMM. */
enum gemm_family { FAMILY_BATCHES, FAMILY_BATCH_ROWS, FAMILY_COMPUTE };

static void print_gemm_family(struct printer *p, enum gemm_family f)
{
    const struct saed_series *s;
    char labels[512];

    TAILQ_FOREACH(s, &p->m->listed, link)
    {
        for (size_t g = 0; g < 2; g++) {
            uint64_t n = 0;

            snprintf(labels, sizeof labels, "dictionary=\"%s\",gemm=\"%s\"", s->label,
                     gemm_names[g]);
            if (f == FAMILY_BATCHES) {
                for (size_t b = 0; b < SAE_COUNTOF(s->batch_rows[g].bucket); b++)
                    n += saed_counter(&s->batch_rows[g].bucket[b]);
                PRINT(p, "saed_batches_total{%s} %" PRIu64 "\n", labels, n);
            } else if (f == FAMILY_BATCH_ROWS) {
                print_rows_histogram(p, "saed_batch_rows", labels, &s->batch_rows[g]);
            } else {
                print_seconds_histogram(p, "saed_compute_seconds", labels, &s->compute[g]);
            }
        }
    }
}

static void print_batches(struct printer *p)
{
    const struct saed_series *s;
    char labels[512];

    family(p, "saed_batches_total", "counter", "Batches computed, by GEMM.");
    print_gemm_family(p, FAMILY_BATCHES);
    family(p, "saed_batch_rows", "histogram", "Rows of a batch.");
    print_gemm_family(p, FAMILY_BATCH_ROWS);
    family(p, "saed_compute_seconds", "histogram", "Time a batch was computed.");
    print_gemm_family(p, FAMILY_COMPUTE);
    family(p, "saed_queue_seconds", "histogram", "Time a request waited for its first batch.");
    TAILQ_FOREACH(s, &p->m->listed, link)
    {
        snprintf(labels, sizeof labels, "dictionary=\"%s\"", s->label);
        print_seconds_histogram(p, "saed_queue_seconds", labels, &s->queue);
    }
}

static void print_build(struct printer *p)
{
    struct saed_metrics *m = p->m;

    family(p, "saed_build_info", "gauge", "Version, engine and kernel; always 1.");
    if (m->has_build)
        PRINT(p, "saed_build_info{version=\"%s\",engine=\"%s\",kernel=\"%s\"} 1\n", m->version,
              m->engine, m->kernel);
}

static void print_process(struct printer *p)
{
    struct saed_process v;

    saed_process_read(&v);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"process_cpu_seconds_total", "counter", "Total user and system CPU time.", v.cpu_seconds},
        {"process_resident_memory_bytes", "gauge", "Resident memory size.", v.resident_bytes},
        {"process_virtual_memory_bytes", "gauge", "Virtual memory size.", v.virtual_bytes},
        {"process_virtual_memory_max_bytes", "gauge", "Most virtual memory there may be.",
         v.virtual_max_bytes},
        {"process_start_time_seconds", "gauge", "Start time since the epoch.",
         v.start_time_seconds},
        {"process_open_fds", "gauge", "Open file descriptors.", v.open_fds},
        {"process_max_fds", "gauge", "Most open file descriptors there may be.", v.max_fds},
        {"process_threads", "gauge", "Threads.", v.threads},
    };
    for (size_t i = 0; i < SAE_COUNTOF(rows); i++) {
        if (rows[i].value < 0)
            continue;
        family(p, rows[i].name, rows[i].type, rows[i].help);
        PRINT(p, "%s %.16g\n", rows[i].name, rows[i].value);
    }
}

/* Debug builds: what the hot path must not do. */
static void print_debug(struct printer *p)
{
#ifdef SAED_COUNT_ALLOCS
    family(p, "saed_debug_hot_path_allocations_total", "counter",
           "Allocations by compute threads after their warm-up.");
    PRINT(p, "saed_debug_hot_path_allocations_total %lu\n", sae_hot_allocs());
#else
    (void)p;
#endif
}

enum sae_status saed_metrics_print(struct saed_metrics *m, const struct saed_metrics_gauges *g,
                                   struct sae_buf *out)
{
    struct printer p = {.m = m, .g = g, .out = out};

    pthread_mutex_lock(&m->lock);
    print_requests(&p);
    print_rows(&p);
    print_loads(&p);
    print_batches(&p);
    print_build(&p);
    pthread_mutex_unlock(&m->lock);
    print_process(&p);
    print_debug(&p);
    return p.st;
}
