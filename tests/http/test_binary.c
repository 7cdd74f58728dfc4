/* test_binary.c - raw f32 and safetensors bodies as a client sees them: shapes, dtypes, CSR, the
 * rectangular top form, refusals. On IdentityDict, so that answers are known. */
#include "tests/http/support_body.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAW "application/octet-stream"
#define ST "application/x-safetensors"
#define JSON "application/json"

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){"i=identity:4", "a=init:AutoEncoder:4:6",
                                           "g=init:GatedAutoEncoder:4:6:l0=2",
                                           "n=init:AutoEncoderNew:4:6", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static struct reply post(const char *path, const char *type, const char *accept, const char *shape,
                         const void *body, size_t n)
{
    char full[256], lines[3][160];
    const char *headers[4] = {lines[0], lines[1], shape ? lines[2] : NULL, NULL};

    snprintf(full, sizeof full, "/v1/dictionaries/%s", path);
    snprintf(lines[0], sizeof lines[0], "Content-Type: %s", type);
    snprintf(lines[1], sizeof lines[1], "Accept: %s", accept);
    snprintf(lines[2], sizeof lines[2], "Saed-Shape: %s", shape ? shape : "");
    return request(&s, "POST", full, headers, body, n);
}

/* ---- raw ----------------------------------------------------------------------------------- */

static const float rows[8] = {1, -2, 3, 0.5f, -0.0f, 6, 7, 8};

static const struct {
    const char *shape;
    size_t bytes;
    const char *answer; /* Saed-Shape of the answer; NULL: bad_shape */
} shapes[] = {
    {NULL, 32, "2,4"},
    {NULL, 16, "1,4"},
    {NULL, 0, "0,4"},
    {"4", 16, "4"},
    {"2,4", 32, "2,4"},
    {"2,1,4", 32, "2,1,4"},
    {"1,4", 16, "1,4"},
    {"0,4", 0, "0,4"},
    {"2,0,4", 0, "2,0,4"},
    {"1,1,1,1,1,1,2,4", 32, "1,1,1,1,1,1,2,4"},
    {"1,1,1,1,1,1,1,2,4", 32, NULL},
    {NULL, 15, NULL},
    {NULL, 12, NULL},
    {NULL, 17, NULL},
    {"2,4", 16, NULL},
    {"1,4", 32, NULL},
    {"4,2", 32, NULL},
    {"8", 32, NULL},
    {"", 16, NULL},
    {"a", 16, NULL},
    {"1,4,", 16, NULL},
    {",4", 16, NULL},
    {"-1,4", 16, NULL},
    {"+1,4", 16, NULL},
    {"1.0,4", 16, NULL},
    {"4294967296,4294967296,4", 16, NULL},
    {"18446744073709551617,4", 16, NULL},
    {"4", 0, NULL},
};

START_TEST(raw_shapes)
{
    size_t n = shapes[_i].bytes;
    struct reply r;

    if (shapes[_i].shape && !shapes[_i].shape[0]) { /* libcurl leaves an empty header out */
        char head[256];
        int fd = raw_connect(&s);

        snprintf(head, sizeof head,
                 "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: a\r\nSaed-Shape:\r\n"
                 "Content-Type: " RAW "\r\nContent-Length: %zu\r\n\r\n",
                 n);
        raw_send(fd, head);
        raw_send_bytes(fd, rows, n);
        r = raw_reply(fd, true, 10000);
    } else {
        r = post("i/encode", RAW, "*/*", shapes[_i].shape, rows, n);
    }
    if (!shapes[_i].answer) {
        check_problem(&r, 400, "bad_shape", NULL, NULL);
    } else {
        ck_assert_msg(r.status == 200, "%s: %s", shapes[_i].shape, r.body);
        ck_assert_str_eq(reply_header(&r, "Content-Type"), RAW);
        ck_assert_str_eq(reply_header(&r, "Saed-Shape"), shapes[_i].answer);
        ck_assert_uint_eq(r.n, n);
        ck_assert_int_eq(memcmp(r.body, rows, n), 0);
    }
    reply_free(&r);
}
END_TEST

START_TEST(saed_shape_follows_the_request_in_any_form)
{
    struct reply r = post("a/encode", JSON, RAW, NULL, "{\"x\":[1,2,3,4]}", 15);

    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "6");
    reply_free(&r);
    r = post("a/forward", JSON, RAW, NULL, "{\"x\":[[[1,2,3,4]]]}", 19);
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "1,1,4");
    reply_free(&r);
    r = post("a/encode?features=0,1", RAW, "*/*", NULL, rows, 32);
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "2,2");
    reply_free(&r);
    r = post("a/encode?features=", RAW, RAW, "2,4", rows, 32);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "2,0");
    ck_assert_uint_eq(r.n, 0);
    reply_free(&r);
    r = post("a/decode", RAW, "*/*", NULL, (float[6]){0}, 24);
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "1,4");
    reply_free(&r);
}
END_TEST

START_TEST(raw_carries_every_bit_of_a_number)
{
    uint32_t bits[4] = {0x7f800000, 0xff800000, 0x00000001, 0x80000000};
    struct reply r = post("i/encode", RAW, RAW, NULL, bits, sizeof bits);

    ck_assert_int_eq(r.status, 200);
    ck_assert_int_eq(memcmp(r.body, bits, sizeof bits), 0);
    reply_free(&r);
}
END_TEST

/* ---- safetensors --------------------------------------------------------------------------- */

static void expect_rows(struct reply r, const float *want, unsigned n_lead, size_t n_rows)
{
    struct got g = got_read(&r, "f", GOT_ASCENDING);

    ck_assert(g.present);
    ck_assert_uint_eq(g.n_lead, n_lead);
    ck_assert_uint_eq(g.n_rows, n_rows);
    for (size_t i = 0; i < n_rows * 4; i++)
        ck_assert_msg(g.v[i] == want[i], "[%zu] = %g, want %g", i, (double)g.v[i], (double)want[i]);
    got_free(&g);
    reply_free(&r);
}

START_TEST(safetensors_dtypes_and_shapes)
{
    static const uint16_t f16[4] = {0x3c00, 0xc000, 0x4200, 0x0001}; /* 1, -2, 3, 2^-24 */
    static const uint16_t bf16[4] = {0x3f80, 0xc000, 0x4040, 0x3f00};
    static const double f64[4] = {1, -2, 3, 0.1};
    static const struct {
        const char *dtype, *shape;
        const void *data;
        size_t n;
        float want[8];
        unsigned n_lead;
        size_t n_rows;
    } cases[] = {
        {"F32", "[4]", rows, 16, {1, -2, 3, 0.5f}, 0, 1},
        {"F32", "[2,4]", rows, 32, {1, -2, 3, 0.5f, 0, 6, 7, 8}, 1, 2},
        {"F32", "[1,2,1,4]", rows, 32, {1, -2, 3, 0.5f, 0, 6, 7, 8}, 3, 2},
        {"F32", "[0,4]", rows, 0, {0}, 1, 0},
        {"F16", "[1,4]", f16, 8, {1, -2, 3, 0x1p-24f}, 1, 1},
        {"BF16", "[1,4]", bf16, 8, {1, -2, 3, 0.5f}, 1, 1},
        {"F64", "[1,4]", f64, 32, {1, -2, 3, 0.1f}, 1, 1},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct st_body b = {0};
        struct text t;

        st_add(&b, "x", cases[i].dtype, cases[i].shape, cases[i].data, cases[i].n);
        t = st_end(&b);
        expect_rows(post("i/encode", ST, "*/*", NULL, t.p, t.n), cases[i].want, cases[i].n_lead,
                    cases[i].n_rows);
        text_free(&t);
    }
}
END_TEST

START_TEST(features_and_masks_are_tensors)
{
    int64_t ids[3] = {3, 0, 3};
    uint8_t bools[6] = {1, 0, 1, 0, 0, 0};
    float mask[6] = {1, 0, 1, 0, 0, 0};
    uint16_t half[6] = {0x3c00, 0, 0x3c00, 0, 0, 0};
    struct reply r, first = {0};
    struct st_body b = {0};
    struct text t;
    struct got g;

    st_add(&b, "features", "I64", "[3]", ids, sizeof ids);
    st_add(&b, "x", "F32", "[1,4]", rows, 16);
    t = st_end(&b);
    r = post("i/encode", ST, "*/*", NULL, t.p, t.n);
    g = got_read(&r, "f", GOT_ASCENDING);
    ck_assert_uint_eq(g.width, 3);
    ck_assert(g.v[0] == 0.5f && g.v[1] == 1 && g.v[2] == 0.5f);
    got_free(&g);
    reply_free(&r);
    r = post("i/encode?features=1", ST, "*/*", NULL, t.p, t.n);
    check_problem(&r, 400, "bad_option", "features", NULL);
    reply_free(&r);
    text_free(&t);
    for (int i = 0; i < 3; i++) {
        st_add(&b, "x", "F32", "[1,4]", rows, 16);
        if (i == 0)
            st_add(&b, "ghost_mask", "F32", "[6]", mask, sizeof mask);
        else if (i == 1)
            st_add(&b, "ghost_mask", "BOOL", "[6]", bools, sizeof bools);
        else
            st_add(&b, "ghost_mask", "F16", "[1,6]", half, sizeof half);
        t = st_end(&b);
        r = post("a/forward", ST, "*/*", NULL, t.p, t.n);
        g = got_read(&r, "x_ghost", GOT_ASCENDING);
        ck_assert(g.present);
        got_free(&g);
        if (i == 0) {
            first = r;
        } else {
            ck_assert_uint_eq(r.n, first.n);
            ck_assert_int_eq(memcmp(r.body, first.body, r.n), 0);
            reply_free(&r);
        }
        text_free(&t);
    }
    reply_free(&first);
}
END_TEST

START_TEST(the_top_form_is_rectangular)
{
    static const float x[8] = {0, 5, 0, 0, 1, 2, 3, NAN};
    static const struct {
        const char *path;
        size_t width;
        int ids[2][4];
        float values[2][4];
    } cases[] = {
        {"i/encode?top_k=3", 3, {{1, 0, 2}, {3, 2, 1}}, {{5, 0, 0}, {NAN, 3, 2}}},
        {"i/encode?top_k=99", 4, {{1, 0, 2, 3}, {3, 2, 1, 0}}, {{5, 0, 0, 0}, {NAN, 3, 2, 1}}},
        {"i/encode?top_k=5&features=3,1,3", 2, {{1, 3}, {3, 1}}, {{5, 0}, {NAN, 2}}},
        {"i/encode?top_k=1&features=2,0", 1, {{0}, {2}}, {{0}, {3}}},
    };

    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct reply r = post(cases[c].path, RAW, "*/*", NULL, x, sizeof x);
        struct got g = got_read(&r, "f", GOT_TOP); /* sparse: raw cannot carry it */
        const char *names[] = {"f.top_indices", "f.top_values"};
        uint64_t header;

        ck_assert_str_eq(reply_header(&r, "Content-Type"), ST);
        ck_assert_uint_eq(g.top_width, cases[c].width);
        ck_assert_uint_eq(g.n_rows, 2);
        got_free(&g);
        /* the very arrays, fillers included */
        memcpy(&header, r.body, 8);
        for (int k = 0; k < 2; k++) {
            const char *at = memmem(r.body + 8, header, names[k], strlen(names[k])), *offsets;
            size_t begin;

            ck_assert_ptr_nonnull(at);
            offsets = strstr(at, "data_offsets");
            ck_assert_int_eq(sscanf(offsets, "data_offsets\":[%zu,", &begin), 1);
            for (size_t i = 0; i < 2; i++)
                for (size_t j = 0; j < cases[c].width; j++) {
                    const char *p = r.body + 8 + header + begin + (i * cases[c].width + j) * 4;
                    int32_t id;
                    float v, want = cases[c].values[i][j];

                    memcpy(&id, p, 4);
                    memcpy(&v, p, 4);
                    if (k == 0)
                        ck_assert_int_eq(id, cases[c].ids[i][j]);
                    else
                        ck_assert(v == want || (isnan(v) && isnan(want)));
                }
        }
        reply_free(&r);
    }
    struct reply r = post("i/encode?top_k=3", JSON, ST, NULL, "{\"x\":[0,5,0,0]}", 15);
    struct got g = got_read(&r, "f", GOT_TOP);

    ck_assert_uint_eq(g.n_lead, 0); /* a single vector: [k] */
    got_free(&g);
    reply_free(&r);
    r = post("g/encode?top_k=2&return_gate=true", RAW, ST, NULL, rows, 32);
    g = got_read(&r, "gate", GOT_ASCENDING); /* at f's ids, in any order of its own values */
    ck_assert(g.present && g.top_width == 2);
    got_free(&g);
    ck_assert_uint_eq(got_count(&r), 4);
    reply_free(&r);
    r = post("n/forward?top_k=2&output_features=true", RAW, ST, NULL, rows, 32);
    ck_assert_str_eq(got_string(&r, "f_units"), "decoder_norm");
    reply_free(&r);
}
END_TEST

/* Every part of the CSR form, whole and with one fault each. */
START_TEST(csr_requests)
{
    static const int32_t good_ptr[3] = {0, 2, 3}, bad_ptr[3] = {0, 3, 2}, off_ptr[3] = {1, 2, 3},
                         short_ptr[3] = {0, 1, 2};
    static const int32_t ids[3] = {3, 0, 1}, doubled[3] = {3, 3, 1}, far[3] = {3, 0, 4},
                         negative[3] = {3, -1, 1};
    static const float values[3] = {7, 8, -9};
    static const int64_t shape[2] = {2, 4}, wide[2] = {2, 5}, tall[2] = {3, 4};
    static const struct {
        const int32_t *ptr, *ids;
        const int64_t *shape;
        const char *code;
    } cases[] = {
        {good_ptr, ids, shape, NULL},
        {bad_ptr, ids, shape, "bad_shape"},
        {off_ptr, ids, shape, "bad_shape"},
        {short_ptr, ids, shape, "bad_shape"},
        {good_ptr, doubled, shape, "bad_shape"},
        {good_ptr, far, shape, "bad_shape"},
        {good_ptr, negative, shape, "bad_shape"},
        {good_ptr, ids, wide, "bad_shape"},
        {good_ptr, ids, tall, "bad_shape"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct st_body b = {0};
        struct text t;
        struct reply r;

        st_add(&b, "f.indptr", "I32", "[3]", cases[i].ptr, 12);
        st_add(&b, "f.indices", "I32", "[3]", cases[i].ids, 12);
        st_add(&b, "f.values", "F32", "[3]", values, 12);
        st_add(&b, "f.shape", "I64", "[2]", cases[i].shape, 16);
        t = st_end(&b);
        r = post("i/decode", ST, RAW, NULL, t.p, t.n);
        if (cases[i].code) {
            ck_assert_msg(r.status == 400, "case %zu: %d", i, r.status);
            check_problem(&r, 400, cases[i].code, NULL, NULL);
        } else {
            ck_assert_msg(r.status == 200, "%s", r.body);
            ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "2,4");
            ck_assert_int_eq(memcmp(r.body, (float[8]){8, 0, 0, 7, 0, -9, 0, 0}, 32), 0);
        }
        reply_free(&r);
        text_free(&t);
    }
}
END_TEST

static const struct {
    const char *header; /* over 32 bytes of data */
    const char *op, *code;
} refused[] = {
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,32]},\"y\":{\"dtype\":\"F32\","
     "\"shape\":[0],"
     "\"data_offsets\":[32,32]}}",
     "encode", "bad_option"},
    {"{\"f\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,32]}}", "encode", "bad_option"},
    {"{\"features\":{\"dtype\":\"I64\",\"shape\":[4],\"data_offsets\":[0,32]}}", "encode",
     "bad_shape"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[0,32]}}", "encode", "bad_shape"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,32]}", "encode",
     "malformed_body"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,28]}}", "encode",
     "malformed_body"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[8,40]}}", "encode",
     "malformed_body"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1,4],\"data_offsets\":[0,16]}}", "encode",
     "malformed_body"},
    {"{\"x\":{\"dtype\":\"F99\",\"shape\":[2,4],\"data_offsets\":[0,32]}}", "encode",
     "malformed_body"},
    {"[]", "encode", "malformed_body"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,32]}}", "decode", "bad_option"},
};

START_TEST(safetensors_refusals)
{
    char path[64];
    struct text t = {0};
    uint64_t n = strlen(refused[_i].header);
    struct reply r;

    text_add(&t, &n, 8);
    text_add(&t, refused[_i].header, n);
    text_add(&t, rows, 32);
    snprintf(path, sizeof path, "i/%s", refused[_i].op);
    r = post(path, ST, "*/*", NULL, t.p, t.n);
    ck_assert_msg(r.status == 400, "%s: %d %s", refused[_i].header, r.status, r.body);
    check_problem(&r, 400, refused[_i].code, NULL, NULL);
    reply_free(&r);
    text_free(&t);
}
END_TEST

START_TEST(every_prefix_of_a_safetensors_body_is_refused)
{
    struct st_body b = {0};
    struct text t;

    st_add(&b, "x", "F32", "[1,4]", rows, 16);
    t = st_end(&b);
    for (size_t n = 0; n < t.n; n += 3) {
        struct reply r = post("i/encode", ST, "*/*", NULL, t.p, n);

        check_problem(&r, 400, "malformed_body", NULL, NULL);
        reply_free(&r);
    }
    text_free(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("binary");
    TCase *t = tcase_create("binary");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, raw_shapes, 0, sizeof shapes / sizeof shapes[0]);
    tcase_add_test(t, saed_shape_follows_the_request_in_any_form);
    tcase_add_test(t, raw_carries_every_bit_of_a_number);
    tcase_add_test(t, safetensors_dtypes_and_shapes);
    tcase_add_test(t, features_and_masks_are_tensors);
    tcase_add_test(t, the_top_form_is_rectangular);
    tcase_add_test(t, csr_requests);
    tcase_add_loop_test(t, safetensors_refusals, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(t, every_prefix_of_a_safetensors_body_is_refused);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
