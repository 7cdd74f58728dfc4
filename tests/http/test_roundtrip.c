/* test_roundtrip.c - the wire takes back what it gives: an answer of encode, byte for byte, is a
 * request of decode, in every form and whatever stands beside f. */
#include "tests/http/support_body.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAW "application/octet-stream"
#define ST "application/x-safetensors"
#define JSON "application/json"

enum { D = 6, F = 20, ROWS = 3 };

static struct server s;

static void start(void)
{
    s = server_start((const char *const[]){
        "a=init:AutoEncoder:6:20:l0=7", "g=init:GatedAutoEncoder:6:20:l0=7",
        "j=init:JumpAutoEncoder:6:20:l0=7", "n=init:AutoEncoderNew:6:20:l0=7", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static struct reply post(const char *path, const char *type, const char *accept, const void *body,
                         size_t n)
{
    char full[256], lines[2][80];
    const char *headers[] = {lines[0], lines[1], NULL};

    snprintf(full, sizeof full, "/v1/dictionaries/%s", path);
    snprintf(lines[0], sizeof lines[0], "Content-Type: %s", type);
    snprintf(lines[1], sizeof lines[1], "Accept: %s", accept);
    return request(&s, "POST", full, headers, body, n);
}

/* x as JSON: rows of rows, or a single vector. */
static struct text make_x(bool single)
{
    float v[ROWS * D];
    struct text t = {0};

    for (size_t i = 0; i < ROWS * D; i++)
        v[i] = (float)((int)(i * 7919 % 37) - 18) / 8;
    text_addf(&t, "{\"x\":");
    if (single) {
        struct text row = {0};

        text_rows(&row, v, 1, D);
        text_add(&t, row.p + 1, row.n - 2); /* without the outer list */
        text_free(&row);
    } else {
        text_rows(&t, v, ROWS, D);
    }
    text_addf(&t, "}");
    return t;
}

static const struct {
    const char *dictionary, *query;
} asked[] = {
    {"a", ""},
    {"a", "?sparse=true"},
    {"a", "?top_k=3"},
    {"a", "?top_k=20"},
    {"a", "?top_k=3&features=1,2,3,7,9"},
    {"a", "?sparse=true&features="},
    {"a", "?top_k=3&features="},
    {"n", "?sparse=true"},
    {"g", "?return_gate=true"},
    {"g", "?return_gate=true&sparse=true"},
    {"g", "?return_gate=true&top_k=4"},
    {"j", "?output_pre_jump=true"},
    {"j", "?output_pre_jump=true&sparse=true"},
    {"j", "?output_pre_jump=true&top_k=4"},
};

/* x_hat of the features that the answer lists, sent as plain rows. */
static struct got decode_rows(const char *dictionary, const struct got *f)
{
    float rows[ROWS * F] = {0};
    char path[32];
    struct reply r;
    struct got x_hat;

    ck_assert_uint_le(f->width, F); /* the rectangular form tells no width */
    for (size_t i = 0; i < f->n_rows; i++)
        memcpy(rows + i * F, f->v + i * f->width, f->width * sizeof *rows);
    snprintf(path, sizeof path, "%s/decode", dictionary);
    r = post(path, RAW, JSON, rows, f->n_rows * F * sizeof *rows);
    x_hat = got_read(&r, "x_hat", GOT_ASCENDING);
    reply_free(&r);
    return x_hat;
}

/* `type` is what is asked for; `plain` a form of it that got_read knows, whose values are within
 * `near` of it. */
static void check_trip(const char *dictionary, const char *query, const char *plain,
                       const char *type, float near, bool single)
{
    enum got_order order = strstr(query, "top_k") ? GOT_TOP : GOT_ASCENDING;
    struct text x = make_x(single);
    char path[128];
    struct reply answer, back;
    struct got f, want, x_hat;

    snprintf(path, sizeof path, "%s/encode%s", dictionary, query);
    answer = post(path, JSON, plain, x.p, x.n);
    f = got_read(&answer, "f", order);
    reply_free(&answer);
    want = decode_rows(dictionary, &f);
    answer = post(path, JSON, type, x.p, x.n);
    snprintf(path, sizeof path, "%s/decode", dictionary);
    back = post(path, reply_header(&answer, "Content-Type"), JSON, answer.body, answer.n);
    ck_assert_msg(back.status == 200, "%s%s as %s: %s", dictionary, query, type, back.body);
    x_hat = got_read(&back, "x_hat", GOT_ASCENDING);
    ck_assert_uint_eq(x_hat.n_lead, single ? 0 : 1);
    ck_assert_uint_eq(x_hat.n_rows, single ? 1 : ROWS);
    for (size_t i = 0; i < x_hat.n_rows * D; i++)
        ck_assert_msg(fabsf(x_hat.v[i] - want.v[i]) <= near * (fabsf(want.v[i]) + 0.1f),
                      "%s%s as %s: value %zu is %g, want %g", dictionary, query, type, i,
                      (double)x_hat.v[i], (double)want.v[i]);
    got_free(&f);
    got_free(&want);
    got_free(&x_hat);
    reply_free(&answer);
    reply_free(&back);
    text_free(&x);
}

static const struct {
    const char *plain, *type;
    float near;
} forms[] = {
    {JSON, JSON, 1e-5f},
    {ST, ST, 1e-5f},
    {ST, ST ";dtype=f16", 0.01f},
    {ST, ST ";dtype=bf16", 0.1f},
    {ST, ST ";layout=csr;dtype=f16", 0.01f}, /* of a top_k */
};

START_TEST(decode_takes_what_encode_gives)
{
    for (size_t i = 0; i < 2 * sizeof forms / sizeof *forms; i++)
        if (strstr(asked[_i].query, "top_k") || !strstr(forms[i / 2].type, "layout"))
            check_trip(asked[_i].dictionary, asked[_i].query, forms[i / 2].plain, forms[i / 2].type,
                       forms[i / 2].near, i % 2);
}
END_TEST

/* Another dtype than the one that is named is no slip of the pen to be passed over. */
START_TEST(a_dtype_that_is_not_there)
{
    static const char *const queries[] = {"", "?sparse=true", "?top_k=3"};
    struct text x = make_x(false);
    char path[64];

    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        struct reply f, back;

        snprintf(path, sizeof path, "a/encode%s", queries[i]);
        f = post(path, JSON, ST, x.p, x.n);
        back = post("a/decode", ST ";dtype=f16", JSON, f.body, f.n);
        check_problem(&back, 400, "malformed_body",
                      "its dtype is F32, the Content-Type says float16", NULL);
        reply_free(&back);
        reply_free(&f);
    }
    text_free(&x);
}
END_TEST

/* The features of forward are scaled for two classes: decode says so, instead of scaling twice. */
START_TEST(scaled_features_are_refused)
{
    struct text x = make_x(false);
    struct reply r = post("n/forward?output_features=true&sparse=true", JSON, JSON, x.p, x.n);
    char *f = strstr(r.body, "\"f\":"), *body = malloc(r.n + 2);
    struct reply back;

    ck_assert_int_eq(r.status, 200);
    ck_assert(f && body);
    sprintf(body, "{%s", f); /* from f on: f and f_units */
    back = post("n/decode", JSON, JSON, body, strlen(body));
    check_problem(&back, 400, "bad_option", "scaled by the norms", NULL);
    reply_free(&back);
    reply_free(&r);
    r = post("a/forward?output_features=true&sparse=true", JSON, JSON, x.p, x.n);
    f = strstr(r.body, "\"f\":");
    ck_assert_ptr_nonnull(f);
    sprintf(body, "{%s", f);
    back = post("a/decode", JSON, JSON, body, strlen(body));
    ck_assert_msg(back.status == 200, "%s", back.body);
    reply_free(&back);
    reply_free(&r);
    free(body);
    text_free(&x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("roundtrip");
    TCase *t = tcase_create("roundtrip");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_loop_test(t, decode_takes_what_encode_gives, 0,
                        (int)(sizeof asked / sizeof asked[0]));
    tcase_add_test(t, a_dtype_that_is_not_there);
    tcase_add_test(t, scaled_features_are_refused);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
