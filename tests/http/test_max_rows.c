/* test_max_rows.c - what GET /v1/dictionaries/NAME says may be sent at once is taken, and a row
 * more of a binary form is not, whichever limit it is; response_too_large says how many rows would
 * fit. */
#include "tests/http/support_body.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAW "application/octet-stream"
#define NPY "application/x-npy"
#define ST "application/x-safetensors"
#define JSON "application/json"

enum { D = 128, F = 256, MOST = 4096 };

/* Each is bound by another limit. */
static const char *const limits[][4] = {
    {"--max-queue-rows", "100", NULL},    {"--max-body-bytes", "200000", NULL},
    {"--max-json-bytes", "70000", NULL},  {"--max-response-bytes", "300000", NULL},
    {"--max-inflight-bytes", "1M", NULL}, {"--max-response-bytes", "300", NULL},
};
#define N_LIMITS (sizeof limits / sizeof limits[0])

static struct server s;

static void start(int i)
{
    /* a queue's limit is the first one's own */
    s = server_start((const char *const[]){
        limits[i][0], limits[i][1], i ? "--max-queue-rows" : "--max-batch-rows", i ? "2000" : "256",
        "a=init:AutoEncoder:128:256:l0=40", "n=init:AutoEncoderNew:128:256", "i=identity:128",
        NULL});
}

/* Numbers of 16 bytes with their comma. */
static struct text json_body(const char *name, size_t rows, size_t width)
{
    struct text t = {0};

    text_addf(&t, "{\"%s\":[", name);
    for (size_t i = 0; i < rows; i++) {
        text_addf(&t, i ? ",[" : "[");
        for (size_t k = 0; k < width; k++)
            text_addf(&t, k ? ",-1.23456789e-02" : "-1.23456789e-02");
        text_addf(&t, "]");
    }
    text_addf(&t, "]}");
    return t;
}

static struct text binary_body(const char *type, const char *name, size_t rows, size_t width)
{
    float *v = calloc(rows * width + 1, sizeof *v);
    struct text t = {0};
    struct st_body b = {0};
    char shape[64];

    ck_assert_ptr_nonnull(v);
    for (size_t i = 0; i < rows * width; i++)
        v[i] = (float)(i % 11) - 5;
    if (strcmp(type, RAW) == 0) {
        text_add(&t, v, rows * width * sizeof *v);
    } else if (strcmp(type, NPY) == 0) {
        snprintf(shape, sizeof shape, "(%zu, %zu)", rows, width);
        t = npy_body(shape, v, rows * width);
    } else {
        snprintf(shape, sizeof shape, "[%zu,%zu]", rows, width);
        st_add(&b, name, "F32", shape, v, rows * width * sizeof *v);
        t = st_end(&b);
    }
    free(v);
    return t;
}

static struct reply ask(const char *path, const char *type, const char *accept, size_t rows,
                        size_t width)
{
    const char *name = strstr(path, "decode") ? "f" : "x";
    struct text t = strcmp(type, JSON) == 0 ? json_body(name, rows, width)
                                            : binary_body(type, name, rows, width);
    char lines[2][80];
    const char *headers[] = {lines[0], lines[1], NULL};
    struct reply r;

    snprintf(lines[0], sizeof lines[0], "Content-Type: %s", type);
    snprintf(lines[1], sizeof lines[1], "Accept: %s", accept);
    r = request(&s, "POST", path, headers, t.p, t.n);
    text_free(&t);
    return r;
}

static const struct {
    const char *key, *type, *accept, *query;
} forms[] = {
    {"json", JSON, JSON, ""}, {"octet-stream", RAW, RAW, ""}, {"safetensors", ST, ST, ""},
    {"npy", NPY, NPY, ""},    {"top_k", RAW, ST, "top_k=32"},
};

static void check_form(const char *dictionary, const char *op, size_t form, size_t most,
                       size_t width)
{
    const bool options = forms[form].query[0];
    char path[128];
    struct reply r;
    size_t more;

    snprintf(path, sizeof path, "/v1/dictionaries/%s/%s%s%s%s", dictionary, op, options ? "?" : "",
             forms[form].query,
             options && strcmp(op, "forward") == 0 ? "&output_features=true" : "");
    ck_assert_uint_lt(most, MOST);
    r = ask(path, forms[form].type, forms[form].accept, most, width);
    ck_assert_msg(r.status == 200, "%zu rows to %s as %s under %s: %d %.300s", most, path,
                  forms[form].type, limits[0][0], r.status, r.status == 200 ? "" : r.body);
    reply_free(&r);
    if (form == 0) /* how long a number is, is the client's */
        return;
    more = most + (form == 2 ? 2 : 1); /* how long a header is, is the client's, too */
    r = ask(path, forms[form].type, forms[form].accept, more, width);
    ck_assert_msg(r.status == 413, "%zu rows to %s as %s: %d", more, path, forms[form].type,
                  r.status);
    reply_free(&r);
}

static void check_dictionary(const char *name)
{
    static const char *const ops[] = {"encode", "decode", "forward"};
    const size_t f = strcmp(name, "i") == 0 ? D : F;
    char path[64];
    struct reply r;
    json_t *root;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", name);
    r = get(&s, path);
    root = json_loadb(r.body, r.n, 0, NULL);
    ck_assert_ptr_nonnull(root);
    for (size_t op = 0; op < 3; op++) {
        json_t *of = json_object_get(json_object_get(root, "max_rows"), ops[op]);

        ck_assert_uint_eq(json_object_size(of), op == 1 ? 4 : 5); /* decode has no top_k */
        for (size_t form = 0; form < json_object_size(of); form++) {
            json_t *v = json_object_get(of, forms[form].key);

            ck_assert(json_is_integer(v));
            check_form(name, ops[op], form, (size_t)json_integer_value(v), op == 1 ? f : D);
        }
    }
    json_decref(root);
    reply_free(&r);
}

START_TEST(max_rows_are_taken_and_no_more)
{
    start(_i);
    check_dictionary("a");
    check_dictionary("n");
    check_dictionary("i");
    wait_metric(&s, "saed_inflight_bytes", 0);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* Rows that the detail tells; -1: none. */
static long told(const struct reply *r)
{
    const char *at = strstr(json_member(r, "detail"), "; ");
    long n = -1;

    ck_assert_msg(at != NULL, "%s", r->body);
    if (sscanf(at, "; %ld row", &n) == 1)
        return n;
    ck_assert_msg(strncmp(at, "; not a single row would fit", 28) == 0, "%s", at);
    return 0;
}

/* So many rows are taken, and one more is not. How many entries sparse rows have is known behind
 * compute only: it may take a second time to be told. */
START_TEST(what_would_fit_fits)
{
    static const struct {
        const char *path, *accept;
        size_t rows;
        bool exact;
    } asked[] = {
        {"/v1/dictionaries/a/encode", JSON, 300, true},
        {"/v1/dictionaries/a/encode", RAW, 500, true},
        {"/v1/dictionaries/a/encode?top_k=20", ST, 2000, true},
        {"/v1/dictionaries/i/encode?sparse=true", ST, 1000, false},
        {"/v1/dictionaries/i/encode?sparse=true", JSON, 1000, false},
        {"/v1/dictionaries/a/forward?output_features=true", JSON, 300, true},
    };

    for (int limit = 3; limit < 6; limit++) {
        start(limit);
        for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
            struct reply r = ask(asked[i].path, RAW, asked[i].accept, asked[i].rows, D);
            long n;

            check_problem(&r, 413, "response_too_large", NULL, limits[limit][0]);
            n = told(&r);
            reply_free(&r);
            if (asked[i].exact)
                ck_assert_int_eq(n == 0, limit == 5);
            if (n == 0)
                continue;
            r = ask(asked[i].path, RAW, asked[i].accept, (size_t)n, D);
            if (r.status == 413 && !asked[i].exact && told(&r) > 0) {
                ck_assert_int_lt(told(&r), n);
                n = told(&r);
                reply_free(&r);
                r = ask(asked[i].path, RAW, asked[i].accept, (size_t)n, D);
            }
            ck_assert_msg(r.status == 200 || limit == 5, "%ld rows of %s: %s", n, asked[i].path,
                          r.status == 200 ? "" : r.body);
            reply_free(&r);
            if (!asked[i].exact)
                continue;
            r = ask(asked[i].path, RAW, asked[i].accept, (size_t)n + 1, D);
            ck_assert_msg(r.status == 413, "%ld rows of %s", n + 1, asked[i].path);
            reply_free(&r);
        }
        ck_assert_int_eq(server_stop(&s), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("max_rows");
    TCase *t = tcase_create("max_rows");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, max_rows_are_taken_and_no_more, 0, (int)N_LIMITS);
    tcase_add_test(t, what_would_fit_fits);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
