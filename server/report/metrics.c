/* metrics.c - counters and histograms, and their Prometheus text. See metrics.h.
 *
 * A dictionary's counters stand in one struct, in groups by who writes them (connection threads,
 * workers), each group on cache lines of its own. An update is relaxed atomic adds. Sums of seconds
 * are whole nanoseconds, so that nothing is lost however many are added.
 *
 * Dictionaries are published once: the array is filled, then its pointer is stored with release;
 * readers load it with acquire. A histogram is printed from its buckets alone (its _count is their
 * total), so +Inf always equals _count; _sum may be an update ahead or behind. */
#include "server/report/metrics.h"

#include "server/report/process.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

typedef _Atomic uint64_t counter;

/* Codes that have a series: 200, those of the error table (some slots are doubles and stay empty),
 * and one for whatever else is counted. */
static const int code_slots[] = {
    200,
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
static const struct bound rows_bounds[] = {
    {1, "1"},       {2, "2"},       {4, "4"},       {8, "8"},     {16, "16"},
    {32, "32"},     {64, "64"},     {128, "128"},   {256, "256"}, {512, "512"},
    {1024, "1024"}, {2048, "2048"}, {4096, "4096"},
};

struct seconds {
    counter bucket[SAE_COUNTOF(seconds_bounds) + 1]; /* not cumulative; the last is +Inf */
    counter sum_ns;
};
struct rows {
    counter bucket[SAE_COUNTOF(rows_bounds) + 1];
    counter sum;
};

#define LINE 64
#define LABEL_CAP 404 /* a NAME of 200 bytes, all escaped */
struct dict_slot {
    alignas(LINE) counter requests[SAED_N_MOPS][N_CODES];
    alignas(LINE) counter rows[SAE_N_OPS];
    struct rows batch_rows[2]; /* by gemm; its count is saed_batches_total */
    struct seconds compute[2];
    alignas(LINE) struct seconds queue;
    alignas(LINE) char label[LABEL_CAP]; /* escaped name; with bytes immutable once published */
    uint64_t bytes;
};

struct dict_set {
    size_t n;
    struct dict_slot *d;
};

struct saed_metrics {
    struct dict_slot none; /* SAED_NO_DICT */
    alignas(LINE) struct seconds request[SAED_N_MOPS];
    alignas(LINE) _Atomic int64_t in_flight;
    _Atomic(struct dict_set *) dicts; /* NULL until set_dicts; then immutable but for counters */
    pthread_mutex_t build_lock;       /* guards the three texts: set once, read by each scrape */
    bool has_build;
    char version[64], engine[64], kernel[128]; /* escaped */
};

static const char *const mop_names[SAED_N_MOPS] = {"encode", "decode", "forward", "other"};
static const char *const op_names[SAE_N_OPS] = {"encode", "decode", "forward"};
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
    pthread_mutex_init(&m->build_lock, NULL);
    *out = m;
    return SAE_OK;
}

static void dict_set_free(struct dict_set *set)
{
    if (!set)
        return;
    sae_free(set->d);
    sae_free(set);
}

void saed_metrics_free(struct saed_metrics *m)
{
    if (!m)
        return;
    dict_set_free(atomic_load(&m->dicts));
    pthread_mutex_destroy(&m->build_lock);
    sae_free(m);
}

enum sae_status saed_metrics_set_dicts(struct saed_metrics *m, const struct saed_metrics_dict *d,
                                       size_t n, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    struct dict_set *set = NULL, *expected = NULL;

    set = sae_calloc(1, sizeof *set);
    if (set)
        set->d = sae_alloc(n, sizeof *set->d);
    if (!set || !set->d) {
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate metrics of %zu dictionaries", n);
        goto out;
    }
    memset(set->d, 0, n * sizeof *set->d);
    set->n = n;
    for (size_t i = 0; i < n; i++) {
        set->d[i].bytes = d[i].bytes;
        if (!escape_label(set->d[i].label, LABEL_CAP, d[i].name)) {
            st = sae_err_set(err, SAE_E_USAGE, "", "cannot label metrics \"%.64s...\": too long",
                             d[i].name);
            goto out;
        }
    }
    if (!atomic_compare_exchange_strong_explicit(&m->dicts, &expected, set, memory_order_release,
                                                 memory_order_relaxed)) {
        st = sae_err_set(err, SAE_E_INTERNAL, "", "cannot set metrics' dictionaries: set before");
        goto out;
    }
    set = NULL; /* handed over */
out:
    dict_set_free(set);
    return st;
}

void saed_metrics_set_build(struct saed_metrics *m, const char *version, const char *engine,
                            const char *kernel)
{
    pthread_mutex_lock(&m->build_lock);
    escape_label(m->version, sizeof m->version, version);
    escape_label(m->engine, sizeof m->engine, engine);
    escape_label(m->kernel, sizeof m->kernel, kernel);
    m->has_build = true;
    pthread_mutex_unlock(&m->build_lock);
}

/* ---- updates ------------------------------------------------------------------------------- */

static void count(counter *c, uint64_t by)
{
    atomic_fetch_add_explicit(c, by, memory_order_relaxed);
}

static uint64_t value_of(const counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

static void observe(const struct bound *bounds, size_t n, counter *buckets, counter *sum,
                    uint64_t v)
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

/* NULL when there is no such dictionary (yet). */
static struct dict_slot *slot_of(struct saed_metrics *m, size_t index)
{
    struct dict_set *set = atomic_load_explicit(&m->dicts, memory_order_acquire);

    return set && index < set->n ? &set->d[index] : NULL;
}

static size_t code_slot(int http)
{
    size_t i = 0;

    while (i < SAE_COUNTOF(code_slots) && code_slots[i] != http)
        i++;
    return i;
}

void saed_metrics_request(struct saed_metrics *m, size_t dict_index, enum saed_metric_op op,
                          int http_status, uint64_t ns)
{
    struct dict_slot *s = slot_of(m, dict_index);

    count(&(s ? s : &m->none)->requests[op][code_slot(http_status)], 1);
    observe_ns(&m->request[op], ns);
}

void saed_metrics_in_flight(struct saed_metrics *m, int delta)
{
    atomic_fetch_add_explicit(&m->in_flight, delta, memory_order_relaxed);
}

void saed_metrics_rows(struct saed_metrics *m, size_t dict_index, enum sae_op op, size_t rows)
{
    struct dict_slot *s = slot_of(m, dict_index);

    if (s)
        count(&s->rows[op], rows);
}

void saed_metrics_batch(struct saed_metrics *m, size_t dict_index, int gemm, size_t rows,
                        uint64_t ns)
{
    struct dict_slot *s = slot_of(m, dict_index);

    if (!s)
        return;
    observe(rows_bounds, SAE_COUNTOF(rows_bounds), s->batch_rows[gemm].bucket,
            &s->batch_rows[gemm].sum, rows);
    observe_ns(&s->compute[gemm], ns);
}

void saed_metrics_queue(struct saed_metrics *m, size_t dict_index, uint64_t ns)
{
    struct dict_slot *s = slot_of(m, dict_index);

    if (s)
        observe_ns(&s->queue, ns);
}

/* ---- printing ------------------------------------------------------------------------------ */

/* One exposition being printed; the first failure stays and silences the rest. */
struct printer {
    struct saed_metrics *m;
    const struct saed_metrics_gauges *g;
    const struct dict_set *set;
    struct sae_buf *out;
    enum sae_status st;
};

static const struct dict_set no_dicts;

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
                              const struct bound *bounds, size_t n, const counter *buckets)
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

static void print_requests_of(struct printer *p, const struct dict_slot *s, const char *label)
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
                  label, mop_names[op], code, n);
        }
}

static void print_requests(struct printer *p)
{
    char labels[64];

    family(p, "saed_requests_total", "counter", "Requests answered, by HTTP status.");
    print_requests_of(p, &p->m->none, "");
    for (size_t i = 0; i < p->set->n; i++)
        print_requests_of(p, &p->set->d[i], p->set->d[i].label);

    family(p, "saed_request_seconds", "histogram",
           "Time from a request's first byte to its answer.");
    for (size_t op = 0; op < SAED_N_MOPS; op++) {
        snprintf(labels, sizeof labels, "op=\"%s\"", mop_names[op]);
        print_seconds_histogram(p, "saed_request_seconds", labels, &p->m->request[op]);
    }
    family(p, "saed_requests_in_flight", "gauge", "Requests begun and not yet answered.");
    PRINT(p, "saed_requests_in_flight %" PRId64 "\n",
          atomic_load_explicit(&p->m->in_flight, memory_order_relaxed));
    family(p, "saed_inflight_bytes", "gauge",
           "Bytes reserved for bodies, rows and answers of all requests.");
    PRINT(p, "saed_inflight_bytes %" PRIu64 "\n", p->g->inflight_bytes);
}

static void print_screening(struct printer *p)
{
    if (p->g->screen_candidates) {
        family(p, "saed_screen_candidates_total", "counter",
               "Features that the native engine's screening left to be computed exactly.");
        for (size_t i = 0; i < p->set->n; i++)
            PRINT(p, "saed_screen_candidates_total{dictionary=\"%s\"} %" PRIu64 "\n",
                  p->set->d[i].label, p->g->screen_candidates[i]);
    }
    if (p->g->dense_rows) {
        family(p, "saed_dense_rows_total", "counter",
               "Rows that the native engine computed densely as a whole.");
        for (size_t i = 0; i < p->set->n; i++)
            PRINT(p, "saed_dense_rows_total{dictionary=\"%s\"} %" PRIu64 "\n", p->set->d[i].label,
                  p->g->dense_rows[i]);
    }
}

static void print_rows(struct printer *p)
{
    family(p, "saed_rows_total", "counter", "Rows computed.");
    for (size_t i = 0; i < p->set->n; i++)
        for (size_t op = 0; op < SAE_N_OPS; op++)
            PRINT(p, "saed_rows_total{dictionary=\"%s\",op=\"%s\"} %" PRIu64 "\n",
                  p->set->d[i].label, op_names[op], value_of(&p->set->d[i].rows[op]));
    family(p, "saed_queue_rows", "gauge", "Rows waiting for a batch.");
    for (size_t i = 0; p->g->queue_rows && i < p->set->n; i++)
        PRINT(p, "saed_queue_rows{dictionary=\"%s\"} %" PRIu64 "\n", p->set->d[i].label,
              p->g->queue_rows[i]);
    family(p, "saed_dictionary_bytes", "gauge", "Bytes of a dictionary's tensors as f32.");
    for (size_t i = 0; i < p->set->n; i++)
        PRINT(p, "saed_dictionary_bytes{dictionary=\"%s\"} %" PRIu64 "\n", p->set->d[i].label,
              p->set->d[i].bytes);
}

/* One of the three families that have a series for each dictionary and GEMM. */
enum gemm_family { FAMILY_BATCHES, FAMILY_BATCH_ROWS, FAMILY_COMPUTE };

static void print_gemm_family(struct printer *p, enum gemm_family f)
{
    char labels[512];

    for (size_t i = 0; i < p->set->n; i++)
        for (size_t g = 0; g < 2; g++) {
            const struct dict_slot *s = &p->set->d[i];
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

static void print_batches(struct printer *p)
{
    char labels[512];

    family(p, "saed_batches_total", "counter", "Batches computed, by GEMM.");
    print_gemm_family(p, FAMILY_BATCHES);
    family(p, "saed_batch_rows", "histogram", "Rows of a batch.");
    print_gemm_family(p, FAMILY_BATCH_ROWS);
    family(p, "saed_compute_seconds", "histogram", "Time a batch was computed.");
    print_gemm_family(p, FAMILY_COMPUTE);
    family(p, "saed_queue_seconds", "histogram", "Time a request waited for its first batch.");
    for (size_t i = 0; i < p->set->n; i++) {
        snprintf(labels, sizeof labels, "dictionary=\"%s\"", p->set->d[i].label);
        print_seconds_histogram(p, "saed_queue_seconds", labels, &p->set->d[i].queue);
    }
}

static void print_build(struct printer *p)
{
    struct saed_metrics *m = p->m;

    family(p, "saed_build_info", "gauge", "Version, engine and kernel; always 1.");
    pthread_mutex_lock(&m->build_lock);
    if (m->has_build)
        PRINT(p, "saed_build_info{version=\"%s\",engine=\"%s\",kernel=\"%s\"} 1\n", m->version,
              m->engine, m->kernel);
    pthread_mutex_unlock(&m->build_lock);
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

    p.set = atomic_load_explicit(&m->dicts, memory_order_acquire);
    if (!p.set)
        p.set = &no_dicts;
    print_requests(&p);
    print_rows(&p);
    print_screening(&p);
    print_batches(&p);
    print_build(&p);
    print_process(&p);
    print_debug(&p);
    return p.st;
}
