/* test_negotiate.c - Content-Type names the request's form, Accept the answer's; the documents that
 * GET gives, and HEAD. */
#include "tests/http/support_body.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define RAW "application/octet-stream"
#define ST "application/x-safetensors"
#define NPY "application/x-npy"
#define JSON "application/json"

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){
        "--max-batch-rows", "128", "--max-body-bytes", "16M", "one=init:AutoEncoder:3:5",
        "two=identity:4", "three=tests/golden/data/gated_33x70_bf16.pt",
        "four=tests/golden/data/jump_7x5_f32.pt", "five=tests/golden/data/new_16x48_f64.pt", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

/* ---- Accept -------------------------------------------------------------------------------- */

static const struct {
    const char *type, *accept; /* accept NULL: not sent */
    const char *op;
    const char *answer; /* NULL: 406 */
} cases[] = {
    {JSON, NULL, "encode", JSON},
    {JSON, "*/*", "encode", JSON},
    {JSON, NULL, "forward?output_features=true", JSON},
    {RAW, NULL, "encode", RAW},
    {RAW, "*/*", "encode", RAW},
    {RAW, "application/*", "encode", RAW},
    {RAW, NULL, "encode?sparse=true", ST},
    {RAW, "*/*", "encode?top_k=2", ST},
    {RAW, NULL, "forward", RAW},
    {RAW, NULL, "forward?output_features=true", ST},
    {NPY, NULL, "encode", NPY},
    {NPY, "*/*", "forward", NPY},
    {NPY, NULL, "encode?sparse=true", ST},
    {NPY, NPY, "encode?top_k=1", NULL},
    {RAW, NPY, "encode?features=1,0", NPY},
    {JSON, NPY, "forward?output_features=true", NULL},
    {RAW, RAW ";dtype=bf16", "encode", RAW ";dtype=bf16"},
    {JSON, RAW ";dtype=f32", "encode", RAW},
    {NPY, NPY ";dtype=f16", "encode", NPY ";dtype=f16"},
    {ST, ST ";dtype=f16;layout=csr", "encode?top_k=1", ST ";dtype=f16"},
    {ST, ST ";layout=top", "encode?sparse=true", NULL},
    {RAW, RAW ";dtype=f64", "encode", NULL},
    {ST, NULL, "encode", ST},
    {ST, "*/*", "forward", ST},
    {JSON, RAW, "encode", RAW},
    {JSON, ST, "encode", ST},
    {RAW, JSON, "encode", JSON},
    {RAW, JSON, "encode?top_k=1", JSON},
    {RAW, JSON ";q=0.5, " RAW ";q=0.9", "encode", RAW},
    {RAW, JSON ";q=0.9, " RAW ";q=0.5", "encode", JSON},
    {RAW, RAW ", " JSON ";q=0.1", "encode?sparse=true", JSON},
    {JSON, JSON ";q=0, */*;q=0.1", "encode", ST},
    {JSON, "text/html, */*;q=0.1", "encode", JSON},
    {JSON, "Application/JSON", "encode", JSON},
    {JSON, "text/html", "encode", NULL},
    {JSON, "*/*;q=0", "encode", NULL},
    {JSON, RAW, "encode?sparse=true", NULL},
    {JSON, RAW, "encode?top_k=1", NULL},
    {RAW, RAW, "forward?output_features=true", NULL},
    {JSON, "application/x-npz", "encode", NULL},
};

START_TEST(accept_names_the_form)
{
    char path[128], type[128], accept[128];
    const char *headers[] = {type, accept, NULL};
    float x[4] = {1, 2, 3, 4};
    struct text body = {0};
    struct reply r;

    snprintf(path, sizeof path, "/v1/dictionaries/two/%s", cases[_i].op);
    snprintf(type, sizeof type, "Content-Type: %s", cases[_i].type);
    snprintf(accept, sizeof accept, "Accept:%s%s", cases[_i].accept ? " " : "",
             cases[_i].accept ? cases[_i].accept : ""); /* "Accept:" takes libcurl's own away */
    if (strcmp(cases[_i].type, RAW) == 0) {
        text_add(&body, x, sizeof x);
    } else if (strcmp(cases[_i].type, NPY) == 0) {
        body = npy_body("(1, 4)", x, 4);
    } else if (strcmp(cases[_i].type, ST) == 0) {
        struct st_body b = {0};

        st_add(&b, "x", "F32", "[4]", x, sizeof x);
        body = st_end(&b);
    } else {
        text_addf(&body, "{\"x\":[1,2,3,4]}");
    }
    r = request(&s, "POST", path, headers, body.p, body.n);
    if (cases[_i].answer) {
        ck_assert_msg(r.status == 200, "%s %s: %s", cases[_i].op, cases[_i].accept, r.body);
        ck_assert_str_eq(reply_header(&r, "Content-Type"), cases[_i].answer);
    } else { /* which can: for two tensors or a sparse one, those that are not raw */
        check_problem(&r, 406, "not_acceptable", JSON, NULL);
        ck_assert_ptr_nonnull(strstr(json_member(&r, "detail"), ST));
    }
    reply_free(&r);
    text_free(&body);
}
END_TEST

/* Floats of another dtype in and out: octet-stream beside safetensors, whose values are known. */
START_TEST(dtype_is_that_of_the_bytes)
{
    static const uint16_t x[4] = {0x3f80, 0xc000, 0x4049, 0x0000}; /* 1, -2, 3.140625, 0 */
    const char *headers[] = {"Content-Type: " RAW ";dtype=bf16", "Accept: " RAW, NULL};
    struct reply r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, x, sizeof x);
    struct got g = got_read(&r, "f", GOT_ASCENDING);
    static const double wide[4] = {1 + 0x1p-8, 1 + 0x1p-7, 1e39, 0};

    ck_assert(g.n_rows == 1 && g.v[0] == 1 && g.v[1] == -2 && g.v[2] == 3.140625f && g.v[3] == 0);
    got_free(&g);
    reply_free(&r);
    headers[1] = "Accept: " RAW ";dtype=bf16";
    r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, x, sizeof x);
    ck_assert_msg(r.status == 200 && r.n == sizeof x && memcmp(r.body, x, sizeof x) == 0, "%s",
                  r.body);
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "1,4");
    reply_free(&r);
    headers[0] = "Content-Type: " RAW ";dtype=f64";
    r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, wide, sizeof wide);
    check_problem(&r, 400, "bad_number", "value 2 is 1e+39", NULL);
    reply_free(&r);
    r = request(&s, "POST", "/v1/dictionaries/two/encode?features=0,1", headers,
                (double[4]){1 + 0x1p-8, 1 + 0x1p-7}, sizeof wide);
    ck_assert(r.status == 200 && r.n == 4 && memcmp(r.body, "\x80\x3f\x81\x3f", 4) == 0);
    reply_free(&r);
    headers[0] = "Content-Type: " RAW ";dtype=f16"; /* 7 bytes are no rows of 8 */
    r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, x, 7);
    check_problem(&r, 400, "bad_shape", "4 f16 each", NULL);
    reply_free(&r);
}
END_TEST

START_TEST(several_accept_lines_are_one)
{
    const char *headers[] = {"Content-Type: " JSON, "Accept: text/html", "Accept: " ST, NULL};
    struct reply r =
        request(&s, "POST", "/v1/dictionaries/two/encode", headers, "{\"x\":[1,2,3,4]}", 15);

    ck_assert_str_eq(reply_header(&r, "Content-Type"), ST);
    reply_free(&r);
}
END_TEST

static const struct {
    const char *type;
    bool ok;
} types[] = {
    {"Content-Type: application/json; charset=utf-8", true},
    {"Content-Type: APPLICATION/JSON;charset=UTF-8", true},
    {"Content-Type: application/json; charset=latin1", false},
    {"Content-Type: application/octet-stream;dtype=f8", false},
    {"Content-Type: application/x-npz", false},
    {"Content-Type: application/x-www-form-urlencoded", false},
    {"Content-Type: multipart/form-data; boundary=x", false},
    {"Content-Type: text/json", false},
    {"Content-Type: json", false},
};

START_TEST(content_type_names_the_form)
{
    const char *headers[] = {types[_i].type, "Accept: text/html", NULL};
    struct reply r =
        request(&s, "POST", "/v1/dictionaries/two/encode", headers, "{\"x\":[1,2,3,4]}", 15);

    if (types[_i].ok)
        check_problem(&r, 406, "not_acceptable", NULL, NULL); /* read, and then Accept */
    else
        check_problem(&r, 415, "unsupported_media_type", "application/json", NULL);
    if (strstr(types[_i].type, "urlencoded")) {
        ck_assert_ptr_nonnull(strstr(json_member(&r, "detail"), "--json"));
        ck_assert_ptr_nonnull(
            strstr(json_member(&r, "detail"), "-H 'Content-Type: application/json'"));
    }
    reply_free(&r);
}
END_TEST

/* ---- documents ----------------------------------------------------------------------------- */

static json_t *document(const char *path)
{
    struct reply r = get(&s, path);
    json_t *j = json_loadb(r.body, r.n, JSON_REJECT_DUPLICATES, NULL);

    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/json");
    ck_assert_ptr_nonnull(j);
    reply_free(&r);
    return j;
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *s_ = json_string_value(json_object_get(j, key));

    ck_assert_msg(s_ != NULL, "no string %s", key);
    return s_;
}

static long long number_of(const json_t *j, const char *key)
{
    ck_assert_msg(json_is_integer(json_object_get(j, key)), "no integer %s", key);
    return json_integer_value(json_object_get(j, key));
}

START_TEST(v1_tells_what_it_is)
{
    static const struct {
        const char *key;
        long long value;
    } limits[] = {
        {"max_batch_rows", 128},
        {"max_queue_rows", 16384},
        {"max_body_bytes", 16ll << 20},
        {"max_json_bytes", 64ll << 20},
        {"max_response_bytes", 512ll << 20},
        {"max_inflight_bytes", 1ll << 30},
        {"max_connections", 4096},
        {"request_timeout_ms", 30000},
        {"min_upload_rate", 100ll << 10},
        {"max_delay_us", 0},
    };
    json_t *j = document("/v1?ignored=1"), *types_ = json_object_get(j, "media_types"),
           *l = json_object_get(j, "limits");

    ck_assert_str_ne(text_of(j, "version"), "");
    ck_assert(strcmp(text_of(j, "engine"), "openblas") == 0 ||
              strcmp(text_of(j, "engine"), "native") == 0);
    ck_assert_str_ne(text_of(j, "kernel"), "");
    ck_assert_int_ge(number_of(j, "threads"), 1);
    ck_assert(json_is_boolean(json_object_get(j, "bitwise")));
    ck_assert_uint_ge(json_array_size(types_), 3);
    ck_assert_str_eq(json_string_value(json_array_get(types_, 0)), JSON);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        ck_assert_msg(number_of(l, limits[i].key) == limits[i].value, "%s = %lld", limits[i].key,
                      number_of(l, limits[i].key));
    json_decref(j);
}
END_TEST

START_TEST(dictionaries_tell_what_they_are)
{
    static const struct {
        const char *name, *class, *dtype, *source;
        long long d, F, bytes;
        const char *options[6];
    } want[] = {
        {"one",
         "AutoEncoder",
         "float32",
         "init:AutoEncoder:3:5",
         3,
         5,
         4 * (3 + 15 + 5 + 15),
         {"sparse", "top_k", "features", "output_features", "ghost_mask"}},
        {"two",
         "IdentityDict",
         "float32",
         "identity:4",
         4,
         4,
         0,
         {"sparse", "top_k", "features", "output_features", "ghost_mask"}},
        {"three",
         "GatedAutoEncoder",
         "bfloat16",
         "tests/golden/data/gated_33x70_bf16.pt",
         33,
         70,
         4 * (33 + 70 * 33 * 2 + 3 * 70),
         {"sparse", "top_k", "features", "return_gate", "output_features"}},
        {"four",
         "JumpAutoEncoder",
         "float32",
         "tests/golden/data/jump_7x5_f32.pt",
         7,
         5,
         4 * (7 + 35 * 2 + 10),
         {"sparse", "top_k", "features", "output_pre_jump", "output_features"}},
        {"five",
         "AutoEncoderNew",
         "float64",
         "tests/golden/data/new_16x48_f64.pt",
         16,
         48,
         4 * (16 * 48 * 2 + 48 + 16),
         {"sparse", "top_k", "features", "output_features"}},
    };
    json_t *all = document("/v1/dictionaries"), *list = json_object_get(all, "dictionaries");

    ck_assert_uint_eq(json_array_size(list), 5);
    for (size_t i = 0; i < 5; i++) {
        char path[64], series[96];
        json_t *one, *j = json_array_get(list, i), *norm = json_object_get(j, "decoder_norm"),
                     *options = json_object_get(j, "options");
        size_t n = 0;

        snprintf(path, sizeof path, "/v1/dictionaries/%s", want[i].name);
        one = document(path);
        ck_assert(json_equal(one, j));
        json_decref(one);
        ck_assert_str_eq(text_of(j, "name"), want[i].name);
        ck_assert_str_eq(text_of(j, "dict_class"), want[i].class);
        ck_assert_str_eq(text_of(j, "dtype"), want[i].dtype);
        ck_assert_str_eq(text_of(j, "source"), want[i].source);
        ck_assert_int_eq(number_of(j, "activation_dim"), want[i].d);
        ck_assert_int_eq(number_of(j, "dict_size"), want[i].F);
        ck_assert_int_eq(number_of(j, "bytes"), want[i].bytes);
        ck_assert_str_ne(text_of(j, "engine"), "");
        ck_assert_str_ne(text_of(j, "kernel"), "");
        while (n < 6 && want[i].options[n])
            n++;
        ck_assert_uint_eq(json_array_size(options), n);
        for (size_t k = 0; k < n; k++) {
            bool found = false;

            for (size_t m = 0; m < n; m++)
                found |=
                    strcmp(json_string_value(json_array_get(options, m)), want[i].options[k]) == 0;
            ck_assert_msg(found, "%s: no option %s", want[i].name, want[i].options[k]);
        }
        double min = json_number_value(json_object_get(norm, "min")),
               median = json_number_value(json_object_get(norm, "median")),
               max = json_number_value(json_object_get(norm, "max"));
        ck_assert(min > 0 && min <= median && median <= max);
        if (i < 2)
            ck_assert(fabs(min - 1) < 1e-5 && fabs(max - 1) < 1e-5);
        snprintf(series, sizeof series, "saed_dictionary_bytes{dictionary=\"%s\"}", want[i].name);
        ck_assert(metric(&s, series) == (double)want[i].bytes);
    }
    json_decref(all);
}
END_TEST

static const char *const gets[] = {
    "/v1",     "/v1/dictionaries", "/v1/dictionaries/one",   "/healthz",
    "/readyz", "/nothing",         "/v1/dictionaries/nobody"};

START_TEST(head_is_get_without_the_body)
{
    struct reply g = get(&s, gets[_i]), h = request(&s, "HEAD", gets[_i], NULL, NULL, 0);
    char length[32];

    ck_assert_int_eq(h.status, g.status);
    ck_assert_uint_eq(h.n, 0);
    snprintf(length, sizeof length, "%zu", g.n);
    ck_assert_str_eq(reply_header(&h, "Content-Length"), length);
    snprintf(length, sizeof length, "%s", reply_header(&g, "Content-Type"));
    ck_assert_str_eq(reply_header(&h, "Content-Type"), length);
    reply_free(&g);
    reply_free(&h);
}
END_TEST

static const struct {
    const char *header, *coding; /* NULL: read */
} codings[] = {
    {"Content-Encoding: identity", NULL},
    {"Content-Encoding: Identity, identity ,", NULL},
    {"Content-Encoding;", NULL}, /* curl: sent, and empty */
    {"Content-Encoding: gzip, gzip", "\"gzip, gzip\""},
    {"Content-Encoding: identity, br", "\"identity, br\""},
    {"content-encoding: deflate", "\"deflate\""},
    {"Content-Encoding: identity2", "\"identity2\""},
    {"Content-Encoding: \"", "\"\"\""},
};

/* The bytes would be rows: a coded body of the right length is not computed. */
START_TEST(codings_are_refused)
{
    static const float x[4] = {1, 2, 3, 4};
    const char *const headers[] = {codings[_i].header, "Content-Type: application/octet-stream",
                                   NULL};
    struct reply r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, x, sizeof x);

    if (codings[_i].coding) {
        check_problem(&r, 415, "unsupported_media_type", codings[_i].coding, NULL);
        ck_assert_str_eq(reply_header(&r, "Accept-Encoding"), "gzip, zstd, identity");
    } else {
        ck_assert_msg(r.status == 200, "%s", r.body);
    }
    reply_free(&r);
}
END_TEST

static size_t gzip(unsigned char *dst, size_t cap, const void *src, size_t n)
{
    z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)src,
                  .avail_in = (uInt)n,
                  .next_out = dst,
                  .avail_out = (uInt)cap};

    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

/* A packed body is the body; what it unpacks to is limited, and memory of it given back. */
START_TEST(packed_bodies_are_unpacked)
{
    static const char json[] = "{\"x\":[[1,2,3,4]]}";
    static unsigned char packed[1 << 20];
    static float zeros[(20 << 20) / sizeof(float)];
    const char *headers[] = {"Content-Encoding: gzip", "Content-Type: application/json", NULL};
    size_t n = gzip(packed, sizeof packed, json, sizeof json - 1);
    struct reply r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, packed, n);

    ck_assert_msg(r.status == 200, "%s", r.body);
    ck_assert_str_eq(r.body, "{\"f\":[[1,2,3,4]]}\n");
    reply_free(&r);
    r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, packed, n - 1);
    check_problem(&r, 400, "malformed_body", "end before its gzip member does", NULL);
    reply_free(&r);
    headers[0] = "Content-Encoding: zstd";
    headers[1] = "Content-Type: " RAW;
    n = ZSTD_compress(packed, sizeof packed, (float[4]){1, 2, 3, 4}, 16, 3);
    r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, packed, n);
    ck_assert_msg(r.status == 200 && r.n == 16 && memcmp(r.body, (float[4]){1, 2, 3, 4}, 16) == 0,
                  "%s", r.body);
    reply_free(&r);
    r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, NULL, 0);
    check_problem(&r, 400, "malformed_body", "its 0 bytes end before its zstd frame does", NULL);
    reply_free(&r);
    n = ZSTD_compress(packed, sizeof packed, zeros, sizeof zeros, 3);
    ck_assert_uint_lt(n, 10000);
    r = request(&s, "POST", "/v1/dictionaries/two/encode", headers, packed, n);
    check_problem(&r, 413, "body_too_large", "unpacks to more than 16777216 bytes",
                  "--max-body-bytes");
    reply_free(&r);
    wait_metric(&s, "saed_inflight_bytes", 0);
}
END_TEST

/* Also those to which no operation contributes, and errors (check_problem looks at them, too). */
START_TEST(every_answer_has_its_timing)
{
    static const struct {
        const char *method, *path;
    } asked[] = {
        {"GET", "/v1"},
        {"GET", "/v1/dictionaries"},
        {"GET", "/v1/dictionaries/two"},
        {"HEAD", "/v1"},
        {"GET", "/healthz"},
        {"GET", "/readyz"},
        {"GET", "/metrics"},
        {"GET", "/nowhere"},
        {"PUT", "/v1"},
        {"POST", "/v1/dictionaries/two/encode"},
    };

    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        struct reply r = request(&s, asked[i].method, asked[i].path, NULL,
                                 asked[i].method[1] == 'O' ? "{}" : NULL, 2);

        check_timing(&r);
        reply_free(&r);
    }
}
END_TEST

START_TEST(server_timing_and_request_id)
{
    static const char *const mine[] = {"Saed-Request-Id: !~abc", NULL};
    struct reply r = post_json(&s, "/v1/dictionaries/two/encode", "{\"x\":[1,2,3,4]}");
    double queue, compute, total;
    char first[160];

    ck_assert_int_eq(sscanf(reply_header(&r, "Server-Timing"),
                            "queue;dur=%lf, compute;dur=%lf, total;dur=%lf", &queue, &compute,
                            &total),
                     3);
    ck_assert(queue >= 0 && compute >= 0 && queue + compute <= total + 0.01);
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "1");
    snprintf(first, sizeof first, "%s", reply_header(&r, "Saed-Request-Id"));
    ck_assert_str_ne(first, "");
    reply_free(&r);
    r = get(&s, "/healthz"); /* each its own */
    ck_assert_str_ne(reply_header(&r, "Saed-Request-Id"), first);
    reply_free(&r);
    r = request(&s, "GET", "/v1", mine, NULL, 0);
    ck_assert_str_eq(reply_header(&r, "Saed-Request-Id"), "!~abc");
    reply_free(&r);
    for (int n = 128; n <= 129; n++) {
        char line[160] = "Saed-Request-Id: ";
        const char *headers[] = {line, NULL};

        memset(line + 17, 'x', (size_t)n);
        line[17 + n] = '\0';
        r = request(&s, "GET", "/v1", headers, NULL, 0);
        if (n == 128)
            ck_assert_str_eq(reply_header(&r, "Saed-Request-Id"), line + 17);
        else
            check_problem(&r, 400, "bad_request", "Saed-Request-Id", NULL);
        reply_free(&r);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("negotiate");
    TCase *t = tcase_create("negotiate");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, accept_names_the_form, 0, sizeof cases / sizeof cases[0]);
    tcase_add_test(t, dtype_is_that_of_the_bytes);
    tcase_add_test(t, several_accept_lines_are_one);
    tcase_add_loop_test(t, content_type_names_the_form, 0, sizeof types / sizeof types[0]);
    tcase_add_test(t, v1_tells_what_it_is);
    tcase_add_test(t, dictionaries_tell_what_they_are);
    tcase_add_loop_test(t, head_is_get_without_the_body, 0, sizeof gets / sizeof gets[0]);
    tcase_add_loop_test(t, codings_are_refused, 0, (int)(sizeof codings / sizeof codings[0]));
    tcase_add_test(t, packed_bodies_are_unpacked);
    tcase_add_test(t, every_answer_has_its_timing);
    tcase_add_test(t, server_timing_and_request_id);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
