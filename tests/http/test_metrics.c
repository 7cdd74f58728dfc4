/* test_metrics.c - /metrics: families, labels, and numbers that follow from known requests. */
#include "tests/http/support_body.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){"a=init:AutoEncoder:3:5", "i.x-1=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static char *text(void)
{
    struct reply r = get(&s, "/metrics");
    char *body = r.body;

    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(strstr(reply_header(&r, "Content-Type"), "text/plain"));
    ck_assert_ptr_nonnull(strstr(reply_header(&r, "Content-Type"), "version=0.0.4"));
    free(r.head);
    return body;
}

static const struct {
    const char *family, *type, *sample;
} families[] = {
    {"saed_requests_total", "counter", "saed_requests_total{dictionary="},
    {"saed_rows_total", "counter", "saed_rows_total{dictionary=\"a\",op=\"encode\"}"},
    {"saed_batches_total", "counter", "saed_batches_total{dictionary=\"a\",gemm=\"decode\"}"},
    {"saed_batch_rows", "histogram",
     "saed_batch_rows_bucket{dictionary=\"a\",gemm=\"encode\",le=\"1\"}"},
    {"saed_batch_rows", "histogram",
     "saed_batch_rows_bucket{dictionary=\"a\",gemm=\"encode\",le=\"4096\"}"},
    {"saed_request_seconds", "histogram",
     "saed_request_seconds_bucket{op=\"encode\",le=\"0.00005\"}"},
    {"saed_request_seconds", "histogram", "saed_request_seconds_bucket{op=\"encode\",le=\"30\"}"},
    {"saed_queue_seconds", "histogram", "saed_queue_seconds_bucket{dictionary=\"a\",le=\"30\"}"},
    {"saed_compute_seconds", "histogram",
     "saed_compute_seconds_bucket{dictionary=\"a\",gemm=\"encode\",le=\"+Inf\"}"},
    {"saed_queue_rows", "gauge", "saed_queue_rows{dictionary=\"i.x-1\"} 0\n"},
    {"saed_requests_in_flight", "gauge", "saed_requests_in_flight 1\n"},
    {"saed_dropped_answers_total", "counter", "saed_dropped_answers_total 0\n"},
    {"saed_inflight_bytes", "gauge", "saed_inflight_bytes 0\n"},
    {"saed_dictionary_bytes", "gauge", "saed_dictionary_bytes{dictionary=\"a\"} 152\n"},
    {"saed_dictionary_loads_total", "counter", "saed_dictionary_loads_total{dictionary=\"a\"} 1\n"},
    {"saed_dictionary_load_failures_total", "counter",
     "saed_dictionary_load_failures_total{dictionary=\"a\"} 0\n"},
    {"saed_dictionary_evictions_total", "counter",
     "saed_dictionary_evictions_total{dictionary=\"a\"} 0\n"},
    {"saed_dictionary_resident_bytes", "gauge",
     "saed_dictionary_resident_bytes{dictionary=\"a\"} "},
    {"saed_dictionary_load_seconds", "histogram",
     "saed_dictionary_load_seconds_bucket{dictionary=\"a\",le=\"300\"} 1\n"},
    {"saed_build_info", "gauge", "saed_build_info{version=\""},
    {"process_cpu_seconds_total", "counter", "process_cpu_seconds_total "},
    {"process_open_fds", "gauge", "process_open_fds "},
    {"process_max_fds", "gauge", "process_max_fds "},
    {"process_virtual_memory_bytes", "gauge", "process_virtual_memory_bytes "},
    {"process_resident_memory_bytes", "gauge", "process_resident_memory_bytes "},
    {"process_start_time_seconds", "gauge", "process_start_time_seconds "},
};

START_TEST(families_are_there)
{
    struct reply r = post_json(&s, "/v1/dictionaries/a/encode", "{\"x\":[1,2,3]}");
    char line[256], *t;

    reply_free(&r);
    t = text();
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        snprintf(line, sizeof line, "\n# TYPE %s %s\n", families[i].family, families[i].type);
        ck_assert_msg(strstr(t, line) || strncmp(t, line + 1, strlen(line) - 1) == 0, "no%s", line);
        snprintf(line, sizeof line, "# HELP %s ", families[i].family);
        ck_assert_msg(strstr(t, line) != NULL, "no %s", line);
        snprintf(line, sizeof line, "\n%s", families[i].sample);
        ck_assert_msg(strstr(t, line) != NULL, "no%s", line);
    }
    ck_assert_ptr_nonnull(strstr(t, "engine=\""));
    ck_assert_ptr_nonnull(strstr(t, "kernel=\""));
    free(t);
}
END_TEST

/* The text format: samples behind their TYPE, no series twice, buckets that only grow. */
START_TEST(the_text_is_well_formed)
{
    static char seen[4096][192];
    char *t = text(), type[128] = "", last[192] = "";
    double bucket = 0;
    size_t n = 0;

    ck_assert_int_eq(t[strlen(t) - 1], '\n');
    for (char *save, *line = strtok_r(t, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char series[192], *end;
        double v;

        if (line[0] == '#') {
            if (sscanf(line, "# TYPE %127s", type) == 1)
                last[0] = '\0';
            continue;
        }
        ck_assert_msg(strncmp(line, type, strlen(type)) == 0, "%s stands below %s", line, type);
        end = strrchr(line, ' ');
        ck_assert_ptr_nonnull(end);
        snprintf(series, sizeof series, "%.*s", (int)(end - line), line);
        v = strtod(end + 1, &end);
        ck_assert_msg(*end == '\0' && v >= 0, "%s", line);
        ck_assert_uint_lt(n, 4096);
        for (size_t i = 0; i < n; i++)
            ck_assert_msg(strcmp(seen[i], series) != 0, "%s twice", series);
        snprintf(seen[n++], sizeof seen[0], "%s", series);
        if (strstr(series, "_bucket{")) {
            char *le = strstr(series, "le=\"");
            bool inf = strncmp(le, "le=\"+Inf", 8) == 0;

            *le = '\0';
            if (strcmp(last, series) == 0)
                ck_assert_msg(v >= bucket, "%s", line);
            snprintf(last, sizeof last, "%s", inf ? "" : series);
            bucket = v;
        }
    }
    free(t);
}
END_TEST

static double requests(const char *dictionary, const char *op, int code)
{
    char series[256];
    double v;

    snprintf(series, sizeof series, "saed_requests_total{dictionary=\"%s\",op=\"%s\",code=\"%d\"}",
             dictionary, op, code);
    v = metric(&s, series);
    return v < 0 ? 0 : v;
}

START_TEST(requests_are_counted)
{
    static const struct {
        const char *method, *path, *body;
        int status;
        const char *dictionary, *op;
    } sent[] = {
        {"POST", "/v1/dictionaries/a/encode", "{\"x\":[[1,2,3],[1,2,3]]}", 200, "a", "encode"},
        {"POST", "/v1/dictionaries/a/forward", "{\"x\":[1,2,3]}", 200, "a", "forward"},
        {"POST", "/v1/dictionaries/a/decode", "{\"f\":[1,2,3,4,5]}", 200, "a", "decode"},
        {"POST", "/v1/dictionaries/a/encode", "{", 400, "a", "encode"},
        {"POST", "/v1/dictionaries/i.x-1/encode", "{\"x\":[1,2,3]}", 400, "i.x-1", "encode"},
        {"PUT", "/v1/dictionaries/a/encode", NULL, 405, "a", "encode"},
        {"GET", "/v1/dictionaries/a", NULL, 200, "a", "other"},
        {"GET", "/v1", NULL, 200, "", "other"},
        {"GET", "/nothing", NULL, 404, "", "other"},
        {"GET", "/v1/dictionaries/nobody", NULL, 404, "", "other"},
    };

    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++) {
        double before = requests(sent[i].dictionary, sent[i].op, sent[i].status);
        struct reply r = request(&s, sent[i].method, sent[i].path,
                                 (const char *const[]){"Content-Type: application/json", NULL},
                                 sent[i].body, sent[i].body ? strlen(sent[i].body) : 0);

        ck_assert_int_eq(r.status, sent[i].status);
        /* asking for /metrics is a request of op="other" itself */
        double more = requests(sent[i].dictionary, sent[i].op, sent[i].status) - before;
        bool own = !sent[i].dictionary[0] && sent[i].status == 200;

        ck_assert_msg(more == (own ? 2 : 1), "%s %s: %g more", sent[i].method, sent[i].path, more);
        reply_free(&r);
    }
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"a\",op=\"encode\"}") == 2);
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"a\",op=\"forward\"}") == 1);
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"a\",op=\"decode\"}") == 1);
    ck_assert(metric(&s, "saed_batches_total{dictionary=\"a\",gemm=\"encode\"}") == 2);
    ck_assert(metric(&s, "saed_batches_total{dictionary=\"a\",gemm=\"decode\"}") == 2);
    ck_assert(metric(&s, "saed_queue_seconds_count{dictionary=\"a\"}") == 3);
    ck_assert(metric(&s, "saed_compute_seconds_count{dictionary=\"a\",gemm=\"encode\"}") == 2);
    ck_assert(metric(&s, "saed_request_seconds_count{op=\"forward\"}") == 1);
    ck_assert(metric(&s, "saed_request_seconds_count{op=\"encode\"}") >= 4);
}
END_TEST

/* What the HTTP library answers by itself, to a request line or to what follows it, is counted too.
 */
START_TEST(refused_heads_are_counted)
{
    static const struct {
        const char *before, *again; /* `before` once, then `again` 4000 times, then an empty line */
        int status[2];              /* as the library has it: one of these */
    } heads[] = {
        {"GET /", "0123456789", {414, 414}},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: ", "0123456789", {431, 431}},
        {"GET / HTTP/2.0", "", {505, 400}},
        {"GET / HTTP/0.9", "", {505, 400}},
        {"GET / HTTP/1.x", "", {400, 400}},
        {"GET  / HTTP/1.1\r\nHost: a", "", {400, 400}},
        {"GET / HTTP/1.1\r\nHost: a\r\nX", "", {400, 400}},
    };
    double before[2];
    struct text t = {0};
    struct reply r;
    int fd = raw_connect(&s), which;

    for (int i = 0; i < 2; i++)
        before[i] = requests("", "other", heads[_i].status[i]);
    text_addf(&t, "%s", heads[_i].before);
    for (int i = 0; i < 4000; i++)
        text_addf(&t, "%s", heads[_i].again);
    text_addf(&t, "\r\n\r\n");
    raw_send_bytes(fd, t.p, t.n);
    r = raw_reply(fd, true, 10000);
    which = r.status == heads[_i].status[1];
    ck_assert_msg(r.status == heads[_i].status[which], "%d to %.100s", r.status, t.p);
    ck_assert(requests("", "other", r.status) == before[which] + 1);
    reply_free(&r);
    text_free(&t);
    close(fd);
}
END_TEST

START_TEST(unknown_names_make_no_series)
{
    static const char *const paths[] = {"/v1/dictionaries/zebra/encode", "/zebra",
                                        "/v1/dictionaries/a/zebra", "/v1/dictionaries/zebra",
                                        "/v1?zebra=1"};
    char *before = text(), *after;
    size_t n_before = 0, n_after = 0;
    struct reply r;
    int fd;

    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < 5; i++) {
            r = request(&s,
                        round == 1   ? "ZEBRA"
                        : round == 2 ? "POST"
                                     : "GET",
                        paths[i], NULL, NULL, 0);
            reply_free(&r);
        }
    fd = raw_connect(&s); /* a head that is refused */
    raw_send(fd, "GET /v1/dictionaries/a HTTP/1.1\r\n\r\n");
    r = raw_reply(fd, true, 10000);
    ck_assert_int_eq(r.status, 400);
    reply_free(&r);
    close(fd);
    ck_assert(requests("", "other", 400) >= 1);
    after = text();
    ck_assert_ptr_null(strcasestr(after, "zebra"));
    for (const char *p = before; (p = strchr(p, '\n')); p++)
        n_before++;
    for (const char *p = after; (p = strchr(p, '\n')); p++)
        n_after++;
    ck_assert_msg(n_after <= n_before + 6, "%zu lines became %zu", n_before,
                  n_after); /* new codes */
    free(before);
    free(after);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *t = tcase_create("metrics");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, families_are_there);
    tcase_add_test(t, the_text_is_well_formed);
    tcase_add_test(t, requests_are_counted);
    tcase_add_loop_test(t, refused_heads_are_counted, 0, 7);
    tcase_add_test(t, unknown_names_make_no_series);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
