/* test_hot_path.c - compute threads allocate nothing: a daemon that counts what they do (build/
 * saed-count, SAED_COUNT_ALLOCS in lib/base.h) under thousands of requests of every operation, form
 * and codec from many clients at once.
 *
 * From the first batch on: what batches keep is made before them. That the counter works is shown
 * by an answer with more entries than admission makes room for. */
#include "tests/http/support_body.h"
#include "tests/support/load.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON "application/json"
#define RAW "application/octet-stream"
#define ST "application/x-safetensors"
#define COUNTER "saed_debug_hot_path_allocations_total"

enum { N_CLIENTS = 16, MOST_ROWS = 40, MAX_REQUESTS = 256 };

static const struct {
    const char *name;
    size_t d, F;
} dicts[] = {{"relu", 48, 3000}, {"gated", 32, 2000}, {"jump", 24, 1100}, {"id", 64, 64}};

/* What is asked; `of` names the dictionaries that take it, by their first letters. */
static const struct {
    const char *of, *path, *accept;
} asked[] = {
    {"rgji", "encode", RAW},
    {"rgji", "encode", JSON},
    {"rgji", "encode?sparse=true", JSON},
    {"rgji", "encode?sparse=true", ST},
    {"rgji", "encode?top_k=8", JSON},
    {"rgji", "encode?top_k=300", ST},
    {"rgji", "encode?features=3,60,7,3", RAW},
    {"rgji", "encode?features=3,60,7&sparse=true", JSON},
    {"rgji", "encode?features=3,60,7&top_k=2", ST},
    {"g", "encode?return_gate=true", ST},
    {"g", "encode?return_gate=true&sparse=true", ST},
    {"g", "encode?return_gate=true&top_k=9", JSON},
    {"j", "encode?output_pre_jump=true", ST},
    {"j", "encode?output_pre_jump=true&sparse=true", JSON},
    {"rgji", "forward", RAW},
    {"rgji", "forward", JSON},
    {"rgji", "forward?output_features=true", ST},
    {"rgji", "forward?output_features=true&sparse=true", ST},
    {"rgji", "forward?output_features=true&top_k=5", JSON},
    {"rgji", "forward?output_features=true&features=1,2", ST},
    {"rgji", "decode", RAW},
    {"rgji", "decode", ST},
};
#define N_ASKED (sizeof asked / sizeof asked[0])

static struct load_client requests[MAX_REQUESTS];
static size_t n_requests;

static void add_request(const char *path, const char *type, const char *accept, const void *body,
                        size_t n)
{
    struct load_client *c = &requests[n_requests++];

    ck_assert_uint_lt(n_requests, MAX_REQUESTS);
    c->request = load_post(path, type, accept, body, n, &c->n);
    ck_assert_ptr_nonnull(c->request);
}

static float number(void)
{
    static uint32_t state = 1;
    float sum = 0;

    for (int i = 0; i < 12; i++) {
        state = state * 1664525u + 1013904223u;
        sum += (float)(state >> 8) * 0x1p-24f;
    }
    return sum - 6;
}

/* Rows of x, or of an f with some forty entries; a zero of the mask for each feature. */
static float *make_rows(size_t n, size_t width, bool is_f)
{
    float *v = malloc(n * width * sizeof *v);

    for (size_t i = 0; i < n * width; i++) {
        float x = number();

        v[i] = !is_f || x > 2.3f ? x : 0.0f;
    }
    return v;
}

/* In a row's own company and as a larger request; rows as raw floats, and as JSON. */
static void add_asked(size_t i, size_t a, size_t n)
{
    bool decodes = strncmp(asked[a].path, "decode", 6) == 0;
    size_t width = decodes ? dicts[i].F : dicts[i].d;
    float *v = make_rows(n, width, decodes);
    struct text json = {0};
    char path[128];

    snprintf(path, sizeof path, "/v1/dictionaries/%s/%s", dicts[i].name, asked[a].path);
    if (n > 3) {
        add_request(path, RAW, asked[a].accept, v, n * width * 4);
    } else {
        text_addf(&json, "{\"%s\":", decodes ? "f" : "x");
        if (decodes && n % 2)
            text_sparse(&json, v, n, width);
        else
            text_rows(&json, v, n, width);
        text_addf(&json, "}");
        add_request(path, JSON, asked[a].accept, json.p, json.n);
    }
    text_free(&json);
    free(v);
}

static void add_ghost(void)
{
    struct text t = {0};
    float *v = make_rows(1, 48, false), *mask = make_rows(1, 3000, true);

    text_addf(&t, "{\"x\":");
    text_rows(&t, v, 1, 48);
    text_addf(&t, ",\"ghost_mask\":");
    text_rows(&t, mask, 1, 3000);
    text_addf(&t, "}");
    add_request("/v1/dictionaries/relu/forward", JSON, ST, t.p, t.n);
    text_free(&t);
    free(mask);
    free(v);
}

/* Every request leads to another, in one ring; clients start at different places. */
static void make_requests(void)
{
    static const size_t n_rows[] = {1, 2, 5, MOST_ROWS};

    for (size_t a = 0; a < N_ASKED; a++)
        for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++)
            if (strchr(asked[a].of, dicts[i].name[0]))
                add_asked(i, a, n_rows[(a + i) % 4]);
    add_ghost();
    for (size_t i = 0; i < n_requests; i++)
        requests[i].next = &requests[(i + 1) % n_requests];
}

/* Allocations counted while `at_least` requests are answered. */
static double count_over(const struct server *s, double seconds, size_t at_least)
{
    struct load_client clients[N_CLIENTS];
    double before = metric(s, COUNTER);
    size_t ok = 0;

    ck_assert(before >= 0);
    for (size_t c = 0; c < N_CLIENTS; c++)
        clients[c] = requests[c * 7 % n_requests];
    do {
        struct load_spec spec = {
            .port = s->port, .clients = clients, .n_clients = N_CLIENTS, .seconds = seconds};
        struct load_result r;

        ck_assert_int_eq(load_run(&spec, &r), 0);
        ck_assert_uint_eq(r.failed, 0);
        ck_assert_uint_gt(r.ok, 0);
        ok += r.ok;
        load_result_fini(&r);
    } while (ok < at_least);
    return metric(s, COUNTER) - before;
}

START_TEST(compute_threads_allocate_nothing)
{
    static const char *const engines[] = {"native", "openblas"};
    const char *bin = getenv("SAED_BIN");
    double counted;
    char counting[256];
    struct server s;

    if (SANITIZED) {
        printf("SKIP: a sanitizer has a malloc of its own\n");
        return;
    }
    snprintf(counting, sizeof counting, "%s-count", bin ? bin : "build/saed");
    setenv("SAED_BIN", counting, 1);
    s = server_start((const char *const[]){
        "--threads", "2", "--engine", engines[_i], "--max-batch-rows", "64",
        "relu=init:AutoEncoder:48:3000:l0=40", "gated=init:GatedAutoEncoder:32:2000:l0=30",
        "jump=init:JumpAutoEncoder:24:1100:l0=25", "id=identity:64",
        "half=init:AutoEncoder:16:4096", NULL});
    make_requests();
    counted = count_over(&s, 2.0, 8000);
    ck_assert_msg(counted == 0, "%g allocations by compute threads", counted);
    /* it can fail: half of 4096 features are on, more than there is room for */
    struct reply r = request(&s, "POST", "/v1/dictionaries/half/encode?sparse=true",
                             (const char *const[]){"Content-Type: " RAW, "Accept: " ST, NULL},
                             (const float[16]){1, -1, 2}, 64);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert(count_over(&s, 0.01, 1) == 0);
    ck_assert(metric(&s, COUNTER) > counted);
    ck_assert_int_eq(server_stop(&s), 0);
    for (size_t i = 0; i < n_requests; i++)
        free((char *)requests[i].request);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hot path");
    TCase *t = tcase_create("hot path");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, compute_threads_allocate_nothing, 0, 2);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
