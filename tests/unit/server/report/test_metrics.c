/* test_metrics.c - the exposition read back by a strict parser, and counted under threads.
 *
 * The parser accepts the text format 0.0.4 as servers write it and nothing looser: HELP then TYPE
 * then samples, each family once and together, no series twice, escapes of labels, buckets that
 * ascend in le and never fall, +Inf equal to _count. */
#include "server/report/metrics.h"
#include "server/report/process.h"

#include <check.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the parser ---------------------------------------------------------------------------- */

#define MAX_FAMILIES 64
#define MAX_SAMPLES 4096
#define MAX_LABELS 4

struct label {
    char name[32], value[512];
};

struct sample {
    char name[64]; /* of the series, with _bucket and the like */
    unsigned n_labels;
    struct label label[MAX_LABELS];
    double value;
    size_t family;
};

struct exposition {
    size_t n_families, n_samples;
    struct {
        char name[64], type[16];
    } family[MAX_FAMILIES];
    struct sample sample[MAX_SAMPLES];
};

static struct exposition x;

static const char *parse_name(const char *p, char *out, size_t cap)
{
    size_t n = 0;

    ck_assert_msg(isalpha((unsigned char)*p) || *p == '_', "name at %.40s", p);
    while (isalnum((unsigned char)*p) || *p == '_') {
        ck_assert_uint_lt(n + 1, cap);
        out[n++] = *p++;
    }
    out[n] = '\0';
    return p;
}

static const char *parse_label(const char *p, struct label *l)
{
    size_t n = 0;

    p = parse_name(p, l->name, sizeof l->name);
    ck_assert_msg(p[0] == '=' && p[1] == '"', "label at %.40s", p);
    for (p += 2; *p != '"'; p++) {
        char c = *p;

        ck_assert_msg(c && c != '\n', "open label value");
        if (c == '\\') {
            p++;
            ck_assert_msg(*p == '\\' || *p == '"' || *p == 'n', "escape \\%c", *p);
            c = *p == 'n' ? '\n' : *p;
        }
        ck_assert_uint_lt(n + 1, sizeof l->value);
        l->value[n++] = c;
    }
    l->value[n] = '\0';
    return p + 1;
}

/* True when `name` is a series of the family. */
static bool belongs(const char *name, const char *family, const char *type)
{
    static const char *const parts[] = {"_bucket", "_sum", "_count"};
    size_t n = strlen(family);

    if (strncmp(name, family, n) != 0)
        return false;
    if (strcmp(type, "histogram") != 0)
        return name[n] == '\0';
    for (size_t i = 0; i < 3; i++)
        if (strcmp(name + n, parts[i]) == 0)
            return true;
    return false;
}

static const char *parse_sample(const char *p)
{
    struct sample *s = &x.sample[x.n_samples++];
    char *end;

    ck_assert_uint_le(x.n_samples, MAX_SAMPLES);
    s->n_labels = 0;
    s->family = x.n_families - 1;
    p = parse_name(p, s->name, sizeof s->name);
    if (*p == '{') {
        do {
            ck_assert_uint_lt(s->n_labels, MAX_LABELS);
            p = parse_label(p + 1, &s->label[s->n_labels++]);
        } while (*p == ',');
        ck_assert_msg(*p == '}', "labels at %.40s", p);
        p++;
    }
    ck_assert_msg(*p == ' ' && (isdigit((unsigned char)p[1]) || p[1] == '-'), "value at %.40s", p);
    s->value = strtod(p + 1, &end);
    ck_assert_msg(*end == '\n', "end of line at %.40s", end);
    ck_assert_msg(x.n_families > 0 &&
                      belongs(s->name, x.family[s->family].name, x.family[s->family].type),
                  "%s stands under another family", s->name);
    return end + 1;
}

/* "# HELP name text\n# TYPE name type\n" */
static const char *parse_family(const char *p)
{
    char name[64];
    size_t f = x.n_families++;

    ck_assert_uint_lt(f, MAX_FAMILIES);
    ck_assert_msg(strncmp(p, "# HELP ", 7) == 0, "want HELP at %.40s", p);
    p = parse_name(p + 7, x.family[f].name, sizeof x.family[f].name);
    ck_assert(p[0] == ' ' && p[1] != '\n');
    p = strchr(p, '\n') + 1;
    ck_assert_msg(strncmp(p, "# TYPE ", 7) == 0, "want TYPE at %.40s", p);
    p = parse_name(p + 7, name, sizeof name);
    ck_assert_str_eq(name, x.family[f].name);
    ck_assert(*p == ' ');
    p = parse_name(p + 1, x.family[f].type, sizeof x.family[f].type);
    ck_assert(*p == '\n');
    for (size_t i = 0; i < f; i++)
        ck_assert_msg(strcmp(x.family[i].name, name) != 0, "family %s twice", name);
    return p + 1;
}

static const char *label_of(const struct sample *s, const char *name)
{
    for (unsigned i = 0; i < s->n_labels; i++)
        if (strcmp(s->label[i].name, name) == 0)
            return s->label[i].value;
    return "";
}

static bool same_labels(const struct sample *a, const struct sample *b, bool but_le)
{
    for (unsigned i = 0; i < a->n_labels; i++)
        if (!(but_le && strcmp(a->label[i].name, "le") == 0) &&
            strcmp(label_of(b, a->label[i].name), a->label[i].value) != 0)
            return false;
    return true;
}

static double le_of(const struct sample *s)
{
    return strcmp(label_of(s, "le"), "+Inf") == 0 ? HUGE_VAL : atof(label_of(s, "le"));
}

/* Each histogram's buckets ascend, and its last is +Inf and followed by _sum and that _count. */
static void check_histograms(void)
{
    for (size_t i = 0; i < x.n_samples; i++) {
        const struct sample *s = &x.sample[i], *next = s + 1;

        if (!strstr(s->name, "_bucket"))
            continue;
        ck_assert_uint_lt(i + 2, x.n_samples);
        ck_assert(same_labels(s, next, true));
        if (le_of(s) < HUGE_VAL) {
            ck_assert_str_eq(next->name, s->name);
            ck_assert_msg(le_of(next) > le_of(s), "le falls in %s", s->name);
            ck_assert_msg(next->value >= s->value, "buckets fall in %s", s->name);
        } else {
            ck_assert_ptr_nonnull(strstr(s[1].name, "_sum"));
            ck_assert_ptr_nonnull(strstr(s[2].name, "_count"));
            ck_assert(same_labels(s, s + 2, true));
            ck_assert(s[2].value == s->value);
        }
    }
}

static void parse(const char *p)
{
    x.n_families = x.n_samples = 0;
    while (*p)
        p = *p == '#' ? parse_family(p) : parse_sample(p);
    for (size_t i = 0; i < x.n_samples; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_msg(strcmp(x.sample[i].name, x.sample[j].name) != 0 ||
                              x.sample[i].n_labels != x.sample[j].n_labels ||
                              !same_labels(&x.sample[i], &x.sample[j], false),
                          "series %s twice", x.sample[i].name);
    check_histograms();
}

/* The value of the one series with these labels ("" ends); NaN when there is none. */
static double get(const char *name, const char *l1, const char *v1, const char *l2, const char *v2,
                  const char *l3, const char *v3)
{
    for (size_t i = 0; i < x.n_samples; i++) {
        const struct sample *s = &x.sample[i];

        if (strcmp(s->name, name) == 0 && strcmp(label_of(s, l1), v1) == 0 &&
            strcmp(label_of(s, l2), v2) == 0 && strcmp(label_of(s, l3), v3) == 0)
            return s->value;
    }
    return NAN;
}
#define GET0(name) get(name, "", "", "", "", "", "")
#define GET1(name, l, v) get(name, l, v, "", "", "", "")
#define GET2(name, l, v, k, w) get(name, l, v, k, w, "", "")

static const char *type_of(const char *family)
{
    for (size_t i = 0; i < x.n_families; i++)
        if (strcmp(x.family[i].name, family) == 0)
            return x.family[i].type;
    return "(missing)";
}

/* ---- the checks ---------------------------------------------------------------------------- */

static struct saed_metrics *m;
static struct saed_series *a, *b; /* listed by set_two */

static void setup(void)
{
    struct sae_err err = {0};

    ck_assert_int_eq(saed_metrics_create(&m, &err), SAE_OK);
}

static void drop(struct saed_series **s)
{
    if (*s)
        saed_metrics_unlist(m, *s);
    saed_series_release(*s);
    *s = NULL;
}

static void teardown(void)
{
    drop(&a);
    drop(&b);
    saed_metrics_free(m);
}

static void list(struct saed_series **s, const char *name, uint64_t bytes)
{
    ck_assert_int_eq(saed_series_create(s, name, NULL), SAE_OK);
    saed_series_loaded(*s, bytes, bytes + 1, 20000000);
    saed_metrics_list(m, *s);
}

static void set_two(void)
{
    list(&a, "a", 1000);
    list(&b, "b.2-x", 20);
}

static void scrape(uint64_t inflight)
{
    struct saed_metrics_gauges g = {.inflight_bytes = inflight, .is_screened = a != NULL};
    struct sae_buf buf;

    sae_buf_init(&buf, 16 << 20);
    ck_assert_int_eq(saed_metrics_print(m, &g, &buf), SAE_OK);
    ck_assert_int_eq(buf.data[buf.len - 1], '\n');
    parse(buf.data);
    sae_buf_fini(&buf);
}

static const char *const families[][2] = {
    {"saed_requests_total", "counter"},
    {"saed_rows_total", "counter"},
    {"saed_batches_total", "counter"},
    {"saed_batch_rows", "histogram"},
    {"saed_request_seconds", "histogram"},
    {"saed_queue_seconds", "histogram"},
    {"saed_compute_seconds", "histogram"},
    {"saed_queue_rows", "gauge"},
    {"saed_requests_in_flight", "gauge"},
    {"saed_dropped_answers_total", "counter"},
    {"saed_inflight_bytes", "gauge"},
    {"saed_dictionary_bytes", "gauge"},
    {"saed_dictionary_loads_total", "counter"},
    {"saed_dictionary_load_failures_total", "counter"},
    {"saed_dictionary_evictions_total", "counter"},
    {"saed_dictionary_resident_bytes", "gauge"},
    {"saed_dictionary_load_seconds", "histogram"},
    {"saed_build_info", "gauge"},
    {"process_cpu_seconds_total", "counter"},
    {"process_resident_memory_bytes", "gauge"},
    {"process_virtual_memory_bytes", "gauge"},
    {"process_virtual_memory_max_bytes", "gauge"},
    {"process_start_time_seconds", "gauge"},
    {"process_open_fds", "gauge"},
    {"process_max_fds", "gauge"},
    {"process_threads", "gauge"},
};

START_TEST(the_families_are_those_of_the_contract)
{
    scrape(0);
    for (size_t i = 0; i < SAE_COUNTOF(families); i++)
        ck_assert_msg(strcmp(type_of(families[i][0]), families[i][1]) == 0, "%s is %s, want %s",
                      families[i][0], type_of(families[i][0]), families[i][1]);
    ck_assert_uint_eq(x.n_families, SAE_COUNTOF(families));
    /* Before loading no dictionary has a series. */
    for (size_t i = 0; i < x.n_samples; i++)
        ck_assert_str_eq(label_of(&x.sample[i], "dictionary"), "");
}
END_TEST

START_TEST(known_dictionaries_start_at_zero)
{
    static const char *const ops[] = {"encode", "decode", "forward"};
    static const char *const gemms[] = {"encode", "decode"};

    set_two();
    saed_series_set(a, 7, 55, 44);
    scrape(123);
    for (size_t i = 0; i < 3; i++)
        ck_assert(GET2("saed_rows_total", "dictionary", "b.2-x", "op", ops[i]) == 0);
    for (size_t i = 0; i < 2; i++) {
        ck_assert(GET2("saed_batches_total", "dictionary", "a", "gemm", gemms[i]) == 0);
        ck_assert(GET2("saed_batch_rows_count", "dictionary", "a", "gemm", gemms[i]) == 0);
        ck_assert(GET2("saed_compute_seconds_count", "dictionary", "a", "gemm", gemms[i]) == 0);
    }
    ck_assert(GET1("saed_queue_seconds_sum", "dictionary", "a") == 0);
    ck_assert(GET1("saed_queue_rows", "dictionary", "a") == 7);
    ck_assert(GET1("saed_queue_rows", "dictionary", "b.2-x") == 0);
    ck_assert(GET1("saed_dictionary_bytes", "dictionary", "a") == 1000);
    ck_assert(GET1("saed_screen_candidates_total", "dictionary", "a") == 55);
    ck_assert(GET1("saed_dense_rows_total", "dictionary", "a") == 44);
    ck_assert(GET0("saed_inflight_bytes") == 123);
    ck_assert(GET0("saed_requests_in_flight") == 0);
    for (size_t i = 0; i < x.n_samples; i++)
        ck_assert_str_ne(x.sample[i].name, "saed_requests_total");
}
END_TEST

START_TEST(requests_by_dictionary_operation_and_code)
{
    saed_metrics_request(m, NULL, SAED_MOP_OTHER, 503, 1); /* before loading: no dictionary */
    set_two();
    saed_metrics_request(m, a, SAED_MOP_ENCODE, 200, 1500000000);
    saed_metrics_request(m, a, SAED_MOP_ENCODE, 200, 500000000);
    saed_metrics_request(m, b, SAED_MOP_FORWARD, 504, 100);
    saed_metrics_request(m, NULL, SAED_MOP_OTHER, 404, 100);
    saed_metrics_request(m, NULL, SAED_MOP_DECODE, 404, 100);
    saed_metrics_request(m, NULL, SAED_MOP_OTHER, 400, 100);
    saed_metrics_request(m, NULL, SAED_MOP_OTHER, 418, 100);
    scrape(0);
    ck_assert(get("saed_requests_total", "dictionary", "a", "op", "encode", "code", "200") == 2);
    ck_assert(get("saed_requests_total", "dictionary", "b.2-x", "op", "forward", "code", "504") ==
              1);
    ck_assert(get("saed_requests_total", "dictionary", "", "op", "other", "code", "404") == 1);
    ck_assert(get("saed_requests_total", "dictionary", "", "op", "decode", "code", "404") == 1);
    ck_assert(get("saed_requests_total", "dictionary", "", "op", "other", "code", "503") == 1);
    ck_assert(get("saed_requests_total", "dictionary", "", "op", "other", "code", "400") == 1);
    ck_assert(get("saed_requests_total", "dictionary", "", "op", "other", "code", "other") == 1);
    ck_assert(GET1("saed_request_seconds_count", "op", "encode") == 2);
    ck_assert(GET1("saed_request_seconds_sum", "op", "encode") == 2.0);
    ck_assert(GET1("saed_request_seconds_count", "op", "other") == 4);
}
END_TEST

/* Every code that the error table has gets a series of its own. */
START_TEST(each_code_of_the_error_table_is_known)
{
    static const int codes[] = {
        200,
#define SAE_ERROR(status, http, code, title) http,
#include "proto/errors.def"
#undef SAE_ERROR
    };
    char text[16];

    for (size_t i = 0; i < SAE_COUNTOF(codes); i++)
        saed_metrics_request(m, NULL, SAED_MOP_OTHER, codes[i], 1);
    scrape(0);
    for (size_t i = 0; i < SAE_COUNTOF(codes); i++) {
        double n = 0;

        for (size_t j = 0; j < SAE_COUNTOF(codes); j++)
            n += codes[j] == codes[i];
        snprintf(text, sizeof text, "%d", codes[i]);
        ck_assert(GET2("saed_requests_total", "op", "other", "code", text) == n);
    }
    ck_assert(isnan(GET1("saed_requests_total", "code", "other")));
}
END_TEST

START_TEST(buckets_hold_their_upper_bound)
{
    set_two();
    saed_series_batch(a, SAE_SIDE_ENCODE, 1, 50000);
    saed_series_batch(a, SAE_SIDE_ENCODE, 2, 50001);
    saed_series_batch(a, SAE_SIDE_ENCODE, 3, 100000);
    saed_series_batch(a, SAE_SIDE_ENCODE, 4096, 30000000000);
    saed_series_batch(a, SAE_SIDE_ENCODE, 4097, 30000000001);
    saed_series_batch(a, SAE_SIDE_DECODE, 256, 1);
    saed_series_queue(b, 0);
    saed_series_rows(a, SAE_OP_DECODE, 77);
    saed_series_rows(a, SAE_OP_DECODE, 3);
    scrape(0);
#define ROWS(le) get("saed_batch_rows_bucket", "dictionary", "a", "gemm", "encode", "le", le)
    ck_assert(ROWS("1") == 1);
    ck_assert(ROWS("2") == 2);
    ck_assert(ROWS("4") == 3);
    ck_assert(ROWS("2048") == 3);
    ck_assert(ROWS("4096") == 4);
    ck_assert(ROWS("+Inf") == 5);
#define SECONDS(le) \
    get("saed_compute_seconds_bucket", "dictionary", "a", "gemm", "encode", "le", le)
    ck_assert(SECONDS("0.00005") == 1);
    ck_assert(SECONDS("0.0001") == 3);
    ck_assert(SECONDS("10") == 3);
    ck_assert(SECONDS("30") == 4);
    ck_assert(SECONDS("+Inf") == 5);
    ck_assert(GET2("saed_batch_rows_sum", "dictionary", "a", "gemm", "encode") == 8199);
    ck_assert(GET2("saed_batches_total", "dictionary", "a", "gemm", "encode") == 5);
    ck_assert(GET2("saed_batches_total", "dictionary", "a", "gemm", "decode") == 1);
    ck_assert(GET2("saed_batches_total", "dictionary", "b.2-x", "gemm", "encode") == 0);
    ck_assert(fabs(GET2("saed_compute_seconds_sum", "dictionary", "a", "gemm", "encode") -
                   60.000200002) < 1e-12);
    ck_assert(get("saed_queue_seconds_bucket", "dictionary", "b.2-x", "le", "0.00005", "", "") ==
              1);
    ck_assert(GET2("saed_rows_total", "dictionary", "a", "op", "decode") == 80);
}
END_TEST

START_TEST(labels_are_escaped)
{
    list(&a, "q\"b\\n\nl", 1);
    saed_metrics_set_build(m, "0", "old", "k");
    saed_metrics_set_build(m, "0.1.0", "open\"blas", "Zen\\\n");
    scrape(0);
    ck_assert(GET1("saed_dictionary_bytes", "dictionary", "q\"b\\n\nl") == 1);
    ck_assert(get("saed_build_info", "version", "0.1.0", "engine", "open\"blas", "kernel",
                  "Zen\\\n") == 1);
    ck_assert(isnan(GET1("saed_build_info", "engine", "old")));
}
END_TEST

START_TEST(a_label_that_is_too_long_is_refused)
{
    struct saed_series *s = NULL;
    char name[600];

    memset(name, '"', sizeof name);
    name[599] = '\0';
    ck_assert_int_eq(saed_series_create(&s, name, NULL), SAE_E_USAGE);
    ck_assert_ptr_null(s);
}
END_TEST

START_TEST(loads_failures_and_evictions)
{
    set_two(); /* loaded once, in 20 ms */
    saed_series_load_failed(a);
    saed_series_load_failed(a);
    saed_series_loaded(a, 3000, 4000, 400000000000);
    scrape(0);
    ck_assert(GET1("saed_dictionary_loads_total", "dictionary", "a") == 2);
    ck_assert(GET1("saed_dictionary_load_failures_total", "dictionary", "a") == 2);
    ck_assert(GET1("saed_dictionary_evictions_total", "dictionary", "a") == 0);
    ck_assert(GET1("saed_dictionary_bytes", "dictionary", "a") == 3000);
    ck_assert(GET1("saed_dictionary_resident_bytes", "dictionary", "a") == 4000);
    ck_assert(GET1("saed_dictionary_load_seconds_count", "dictionary", "a") == 2);
    ck_assert(GET1("saed_dictionary_load_seconds_sum", "dictionary", "a") == 400.02);
    ck_assert(GET2("saed_dictionary_load_seconds_bucket", "dictionary", "a", "le", "0.01") == 0);
    ck_assert(GET2("saed_dictionary_load_seconds_bucket", "dictionary", "a", "le", "300") == 1);
    saed_series_evicted(a);
    scrape(0);
    ck_assert(GET1("saed_dictionary_evictions_total", "dictionary", "a") == 1);
    ck_assert(GET1("saed_dictionary_bytes", "dictionary", "a") == 3000);
    ck_assert(GET1("saed_dictionary_resident_bytes", "dictionary", "a") == 0);
    ck_assert(GET1("saed_dictionary_resident_bytes", "dictionary", "b.2-x") == 21);
}
END_TEST

/* Who still has a request of it counts on. */
START_TEST(a_dictionary_that_is_dropped_has_no_series)
{
    struct saed_series *old;

    set_two();
    saed_series_rows(a, SAE_OP_ENCODE, 5);
    old = a;
    saed_metrics_unlist(m, old);
    list(&a, "a", 2000);
    saed_series_rows(old, SAE_OP_ENCODE, 1);
    saed_metrics_request(m, old, SAED_MOP_ENCODE, 200, 1);
    scrape(0);
    ck_assert(GET2("saed_rows_total", "dictionary", "a", "op", "encode") == 0);
    ck_assert(GET1("saed_dictionary_bytes", "dictionary", "a") == 2000);
    ck_assert(GET1("saed_dictionary_bytes", "dictionary", "b.2-x") == 20);
    ck_assert(GET1("saed_request_seconds_count", "op", "encode") == 1);
    saed_series_release(old);
}
END_TEST

START_TEST(in_flight_goes_up_and_down)
{
    saed_metrics_in_flight(m, 1);
    saed_metrics_in_flight(m, 1);
    saed_metrics_in_flight(m, -1);
    scrape(0);
    ck_assert(GET0("saed_requests_in_flight") == 1);
}
END_TEST

START_TEST(dropped_answers)
{
    saed_metrics_dropped(m);
    saed_metrics_dropped(m);
    scrape(0);
    ck_assert(GET0("saed_dropped_answers_total") == 2);
}
END_TEST

START_TEST(a_full_buffer_and_no_memory_are_errors)
{
    struct saed_metrics_gauges g = {0};
    struct saed_metrics *m2 = NULL;
    struct sae_err err = {0};
    struct sae_buf buf;

    sae_buf_init(&buf, 500);
    ck_assert_int_eq(saed_metrics_print(m, &g, &buf), SAE_E_NOMEM);
    sae_buf_fini(&buf);
    sae_alloc_fault(0, false);
    ck_assert_int_eq(saed_series_create(&a, "a", NULL), SAE_E_NOMEM);
    sae_alloc_fault(0, false);
    ck_assert_int_eq(saed_metrics_create(&m2, &err), SAE_E_NOMEM);
    sae_alloc_fault(-1, false);
    ck_assert_ptr_null(m2);
    saed_metrics_free(NULL);
}
END_TEST

START_TEST(the_process_is_this_one)
{
    struct saed_process p, later;
    double now = (double)time(NULL);
    int fd;

    saed_process_read(&p);
    ck_assert(p.cpu_seconds >= 0 && p.cpu_seconds < 1e6);
    ck_assert(p.resident_bytes > 1e5 && p.virtual_bytes >= p.resident_bytes);
    ck_assert(p.threads >= 1 && p.threads < 1000);
    ck_assert_msg(p.start_time_seconds > now - 3600 && p.start_time_seconds <= now + 2, "%f at %f",
                  p.start_time_seconds, now);
    ck_assert(p.open_fds >= 3 && p.max_fds >= p.open_fds);
    fd = dup(0);
    ck_assert_int_ge(fd, 0);
    saed_process_read(&later);
    ck_assert(later.open_fds == p.open_fds + 1);
    ck_assert(fabs(later.start_time_seconds - p.start_time_seconds) < 0.1);
    ck_assert(later.cpu_seconds >= p.cpu_seconds);
    close(fd);
}
END_TEST

#define N_THREADS 4
#define N_EACH 20000

static void *count_much(void *arg)
{
    size_t t = *(const size_t *)arg;

    for (size_t i = 0; i < N_EACH; i++) {
        saed_metrics_in_flight(m, 1);
        saed_metrics_request(m, i % 2 ? b : a, SAED_MOP_ENCODE, 200, 1000);
        saed_metrics_request(m, NULL, SAED_MOP_OTHER, 404, 1000);
        saed_series_rows(a, SAE_OP_ENCODE, t + 1);
        saed_series_batch(a, i % 2 ? SAE_SIDE_DECODE : SAE_SIDE_ENCODE, 1 + i % 300, 3 * i);
        saed_series_queue(a, i);
        saed_metrics_in_flight(m, -1);
    }
    return NULL;
}

/* Scrapes meet every state: before the dictionaries are listed, while all count, and at the end,
 * where nothing is lost. */
START_TEST(nothing_is_lost_between_threads)
{
    pthread_t threads[N_THREADS];
    size_t id[N_THREADS];
    double all = 0;

    ck_assert_int_eq(saed_series_create(&a, "a", NULL), SAE_OK);
    ck_assert_int_eq(saed_series_create(&b, "b.2-x", NULL), SAE_OK);
    for (size_t t = 0; t < N_THREADS; t++) {
        id[t] = t;
        ck_assert_int_eq(pthread_create(&threads[t], NULL, count_much, &id[t]), 0);
    }
    scrape(0);
    saed_metrics_set_build(m, "v", "e", "k");
    saed_metrics_list(m, a);
    saed_metrics_list(m, b);
    for (int i = 0; i < 5; i++)
        scrape(0);
    for (size_t t = 0; t < N_THREADS; t++)
        pthread_join(threads[t], NULL);
    scrape(0);
    ck_assert(GET0("saed_requests_in_flight") == 0);
    ck_assert(GET2("saed_requests_total", "op", "other", "code", "404") == N_THREADS * N_EACH);
    for (size_t i = 0; i < x.n_samples; i++)
        if (strcmp(x.sample[i].name, "saed_requests_total") == 0)
            all += x.sample[i].value;
    ck_assert(all == 2 * N_THREADS * N_EACH);
    ck_assert(GET1("saed_request_seconds_count", "op", "encode") == N_THREADS * N_EACH);
    ck_assert(fabs(GET1("saed_request_seconds_sum", "op", "encode") - N_THREADS * N_EACH * 1e-6) <
              1e-9);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *t = tcase_create("metrics");
    SRunner *r = srunner_create(s);

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_families_are_those_of_the_contract);
    tcase_add_test(t, known_dictionaries_start_at_zero);
    tcase_add_test(t, requests_by_dictionary_operation_and_code);
    tcase_add_test(t, each_code_of_the_error_table_is_known);
    tcase_add_test(t, buckets_hold_their_upper_bound);
    tcase_add_test(t, labels_are_escaped);
    tcase_add_test(t, a_label_that_is_too_long_is_refused);
    tcase_add_test(t, a_dictionary_that_is_dropped_has_no_series);
    tcase_add_test(t, loads_failures_and_evictions);
    tcase_add_test(t, in_flight_goes_up_and_down);
    tcase_add_test(t, dropped_answers);
    tcase_add_test(t, a_full_buffer_and_no_memory_are_errors);
    tcase_add_test(t, the_process_is_this_one);
    tcase_add_test(t, nothing_is_lost_between_threads);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
