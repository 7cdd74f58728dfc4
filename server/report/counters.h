/* counters.h - the counters of metrics.h as they stand in memory, private to metrics.c, which
 * counts, and exposition.c, which prints.
 *
 * A dictionary's counters stand in one struct, in groups by who writes them (connection threads,
 * workers), each group on cache lines of its own. An update is relaxed atomic adds. Sums of seconds
 * are whole nanoseconds, so that nothing is lost however many are added. */
#ifndef SAED_COUNTERS_H
#define SAED_COUNTERS_H

#include "server/report/metrics.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/queue.h>

/* Codes that have a series: 200, 204, those of the HTTP library's own answers, those of the error
 * table (some slots are doubles and stay empty), and one for whatever else is counted. */
static const int saed_code_slots[] = {
    200,
    204,
    414,
    505,
#define SAE_ERROR(status, http, code, title) http,
#include "proto/errors.def"
#undef SAE_ERROR
};
#define SAED_N_CODES (SAE_COUNTOF(saed_code_slots) + 1)

struct saed_bound {
    uint64_t le;      /* in the unit that is added: ns or rows */
    const char *text; /* as the label shows it: seconds or rows */
};

static const struct saed_bound saed_seconds_bounds[] = {
    {50000, "0.00005"},  {100000, "0.0001"},  {250000, "0.00025"}, {500000, "0.0005"},
    {1000000, "0.001"},  {2500000, "0.0025"}, {5000000, "0.005"},  {10000000, "0.01"},
    {25000000, "0.025"}, {50000000, "0.05"},  {100000000, "0.1"},  {250000000, "0.25"},
    {500000000, "0.5"},  {1000000000, "1"},   {2500000000, "2.5"}, {5000000000, "5"},
    {10000000000, "10"}, {30000000000, "30"},
};
/* Of loading. */
static const struct saed_bound saed_load_bounds[] = {
    {10000000, "0.01"},    {25000000, "0.025"},   {50000000, "0.05"},  {100000000, "0.1"},
    {250000000, "0.25"},   {500000000, "0.5"},    {1000000000, "1"},   {2500000000, "2.5"},
    {5000000000, "5"},     {10000000000, "10"},   {30000000000, "30"}, {60000000000, "60"},
    {120000000000, "120"}, {300000000000, "300"},
};
static const struct saed_bound saed_rows_bounds[] = {
    {1, "1"},       {2, "2"},       {4, "4"},       {8, "8"},     {16, "16"},
    {32, "32"},     {64, "64"},     {128, "128"},   {256, "256"}, {512, "512"},
    {1024, "1024"}, {2048, "2048"}, {4096, "4096"},
};

/* Buckets are not cumulative; the last is +Inf. */
struct saed_seconds {
    _Atomic uint64_t bucket[SAE_COUNTOF(saed_seconds_bounds) + 1];
    _Atomic uint64_t sum_ns;
};
struct saed_loads {
    _Atomic uint64_t bucket[SAE_COUNTOF(saed_load_bounds) + 1];
    _Atomic uint64_t sum_ns;
};
struct saed_batch_rows {
    _Atomic uint64_t bucket[SAE_COUNTOF(saed_rows_bounds) + 1];
    _Atomic uint64_t sum;
};

#define SAED_CACHE_LINE 64
#define SAED_LABEL_CAP 404 /* a NAME of 200 bytes, all escaped */
struct saed_series {
    alignas(SAED_CACHE_LINE) _Atomic uint64_t requests[SAED_N_MOPS][SAED_N_CODES];
    alignas(SAED_CACHE_LINE) _Atomic uint64_t rows[SAE_N_ROW_OPS];
    struct saed_batch_rows batch_rows[2]; /* by gemm; its count is saed_batches_total */
    struct saed_seconds compute[2];
    alignas(SAED_CACHE_LINE) struct saed_seconds queue;
    _Atomic uint64_t queue_rows, candidates, dense_rows; /* gauges, and counters kept elsewhere */
    _Atomic uint64_t n_loads, n_failures, n_evictions;
    struct saed_loads load;
    _Atomic uint64_t bytes, resident_bytes;
    _Atomic size_t refs;
    alignas(SAED_CACHE_LINE) char label[SAED_LABEL_CAP]; /* escaped name; immutable */
    TAILQ_ENTRY(saed_series) link; /* guarded by the lock of the metrics that list it */
};

struct saed_metrics {
    struct saed_series none; /* no dictionary */
    alignas(SAED_CACHE_LINE) struct saed_seconds request[SAED_N_MOPS];
    alignas(SAED_CACHE_LINE) _Atomic int64_t in_flight;
    _Atomic uint64_t dropped;
    pthread_mutex_t lock; /* guards all below */
    TAILQ_HEAD(, saed_series) listed;
    bool has_build;
    char version[64], engine[64], kernel[128]; /* escaped */
};

static inline uint64_t saed_counter(const _Atomic uint64_t *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

#endif
