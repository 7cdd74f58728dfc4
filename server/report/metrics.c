/* metrics.c - counters and histograms, and their Prometheus text. See metrics.h.
 *
 * A dictionary's counters stand in one struct, in groups by who writes them (connection threads,
 * workers), each group on cache lines of its own. An update is relaxed atomic adds. Sums of seconds
 * are whole nanoseconds, so that nothing is lost however many are added.
 *
 * The lock keeps the list as it is while it is printed; updates never take it. A histogram is
 * printed from its buckets alone (its _count is their total), so +Inf always equals _count; _sum
 * may be an update ahead or behind. */
#include "server/report/metrics.h"

#include "server/report/process.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

/* Codes that have a series: 200, 204, those of the HTTP library's own answers, those of the error
 * table (some slots are doubles and stay empty), and one for whatever else is counted. */
static const int code_slots[] = {
    200,
    204,
    414,
    505,
#define SAE_ERROR(status, http, code, title) http,
#include "proto/errors.def"
#undef SAE_ERROR
};
#define N_CODES (SAE_COUNTOF(code_slots) + 1)

struct bound {
    uint64_t le;      /* in the unit that is added: ns or rows */
    const char *text; /* as the label shows it: seconds or rows */
};

static const struct bound seconds_bounds[] = {
    {50000, "0.00005"},  {100000, "0.0001"},  {250000, "0.00025"}, {500000, "0.0005"},
    {1000000, "0.001"},  {2500000, "0.0025"}, {5000000, "0.005"},  {10000000, "0.01"},
    {25000000, "0.025"}, {50000000, "0.05"},  {100000000, "0.1"},  {250000000, "0.25"},
    {500000000, "0.5"},  {1000000000, "1"},   {2500000000, "2.5"}, {5000000000, "5"},
    {10000000000, "10"}, {30000000000, "30"},
};
/* Of loading. */
static const struct bound load_bounds[] = {
    {10000000, "0.01"},    {25000000, "0.025"},   {50000000, "0.05"},  {100000000, "0.1"},
    {250000000, "0.25"},   {500000000, "0.5"},    {1000000000, "1"},   {2500000000, "2.5"},
    {5000000000, "5"},     {10000000000, "10"},   {30000000000, "30"}, {60000000000, "60"},
    {120000000000, "120"}, {300000000000, "300"},
};
static const struct bound rows_bounds[] = {
    {1, "1"},       {2, "2"},       {4, "4"},       {8, "8"},     {16, "16"},
    {32, "32"},     {64, "64"},     {128, "128"},   {256, "256"}, {512, "512"},
    {1024, "1024"}, {2048, "2048"}, {4096, "4096"},
};

struct seconds {
    _Atomic uint64_t bucket[SAE_COUNTOF(seconds_bounds) + 1]; /* not cumulative; the last is +Inf */
    _Atomic uint64_t sum_ns;
};
struct loads {
    _Atomic uint64_t bucket[SAE_COUNTOF(load_bounds) + 1];
    _Atomic uint64_t sum_ns;
};
struct rows {
    _Atomic uint64_t bucket[SAE_COUNTOF(rows_bounds) + 1];
    _Atomic uint64_t sum;
};

#define LINE 64
#define LABEL_CAP 404 /* a NAME of 200 bytes, all escaped */
struct saed_series {
    alignas(LINE) _Atomic uint64_t requests[SAED_N_MOPS][N_CODES];
    alignas(LINE) _Atomic uint64_t rows[SAE_N_ROW_OPS];
    struct rows batch_rows[2]; /* by gemm; its count is saed_batches_total */
    struct seconds compute[2];
    alignas(LINE) struct seconds queue;
    _Atomic uint64_t queue_rows, candidates, dense_rows; /* gauges, and counters kept elsewhere */
    _Atomic uint64_t n_loads, n_failures, n_evictions;
    struct loads load;
    _Atomic uint64_t bytes, resident_bytes;
    _Atomic size_t refs;
    alignas(LINE) char label[LABEL_CAP]; /* escaped name; immutable */
    TAILQ_ENTRY(saed_series) link;       /* guarded by the lock of the metrics that list it */
};

struct saed_metrics {
    struct saed_series none; /* no dictionary */
    alignas(LINE) struct seconds request[SAED_N_MOPS];
    alignas(LINE) _Atomic int64_t in_flight;
    _Atomic uint64_t dropped;
    pthread_mutex_t lock; /* guards all below */
    TAILQ_HEAD(, saed_series) listed;
    bool has_build;
    char version[64], engine[64], kernel[128]; /* escaped */
};

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

static const char *const gemm_names[2] = {"encode", "decode"};

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
    if (!escape_label(s->label, LABEL_CAP, name)) {
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

static uint64_t value_of(const _Atomic uint64_t *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

static void observe(const struct bound *bounds, size_t n, _Atomic uint64_t *buckets,
                    _Atomic uint64_t *sum, uint64_t v)
{
    size_t i = 0;

    while (i < n && v > bounds[i].le)
        i++;
    count(&buckets[i], 1);
    count(sum, v);
}

static void observe_ns(struct seconds *h, uint64_t ns)
{
    observe(seconds_bounds, SAE_COUNTOF(seconds_bounds), h->bucket, &h->sum_ns, ns);
}

static size_t code_slot(int http)
{
    size_t i = 0;

    while (i < SAE_COUNTOF(code_slots) && code_slots[i] != http)
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
    observe(rows_bounds, SAE_COUNTOF(rows_bounds), s->batch_rows[gemm].bucket,
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
    observe(load_bounds, SAE_COUNTOF(load_bounds), s->load.bucket, &s->load.sum_ns, ns);
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

/* ---- printing ------------------------------------------------------------------------------ */

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
                              const struct bound *bounds, size_t n, const _Atomic uint64_t *buckets)
{
    uint64_t total = 0;

    for (size_t i = 0; i <= n; i++) {
        total += value_of(&buckets[i]);
        PRINT(p, "%s_bucket{%s,le=\"%s\"} %" PRIu64 "\n", name, labels,
              i < n ? bounds[i].text : "+Inf", total);
    }
    return total;
}

static void print_seconds_histogram(struct printer *p, const char *name, const char *labels,
                                    const struct seconds *h)
{
    uint64_t n =
        print_buckets(p, name, labels, seconds_bounds, SAE_COUNTOF(seconds_bounds), h->bucket);

    print_seconds(p, name, labels, value_of(&h->sum_ns));
    PRINT(p, "%s_count{%s} %" PRIu64 "\n", name, labels, n);
}

static void print_rows_histogram(struct printer *p, const char *name, const char *labels,
                                 const struct rows *h)
{
    uint64_t n = print_buckets(p, name, labels, rows_bounds, SAE_COUNTOF(rows_bounds), h->bucket);

    PRINT(p, "%s_sum{%s} %" PRIu64 "\n%s_count{%s} %" PRIu64 "\n", name, labels, value_of(&h->sum),
          name, labels, n);
}

static void print_requests_of(struct printer *p, const struct saed_series *s, const char *label)
{
    for (size_t op = 0; op < SAED_N_MOPS; op++)
        for (size_t c = 0; c < N_CODES; c++) {
            uint64_t n = value_of(&s->requests[op][c]);
            char code[16] = "other";

            if (n == 0)
                continue;
            if (c < SAE_COUNTOF(code_slots))
                snprintf(code, sizeof code, "%d", code_slots[c]);
            PRINT(p, "saed_requests_total{dictionary=\"%s\",op=\"%s\",code=\"%s\"} %" PRIu64 "\n",
                  label, op_names[op], code, n);
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
        snprintf(labels, sizeof labels, "op=\"%s\"", op_names[op]);
        print_seconds_histogram(p, "saed_request_seconds", labels, &p->m->request[op]);
    }
    family(p, "saed_requests_in_flight", "gauge", "Requests begun and not yet answered.");
    PRINT(p, "saed_requests_in_flight %" PRId64 "\n",
          atomic_load_explicit(&p->m->in_flight, memory_order_relaxed));
    family(p, "saed_dropped_answers_total", "counter",
           "Answers that their clients stopped taking, or took too slowly.");
    PRINT(p, "saed_dropped_answers_total %" PRIu64 "\n", value_of(&p->m->dropped));
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
              value_of((const _Atomic uint64_t *)((const char *)s + field)));
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
        n = print_buckets(p, name, labels, load_bounds, SAE_COUNTOF(load_bounds), s->load.bucket);
        print_seconds(p, name, labels, value_of(&s->load.sum_ns));
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
                  op_names[op], value_of(&s->rows[op]));
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
                    n += value_of(&s->batch_rows[g].bucket[b]);
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
