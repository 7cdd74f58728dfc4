/* test_negotiate.c - Content-Type and Accept. */
#include "tests/unit/proto/wire_fixture.h"

#define J SAE_MEDIA_JSON
#define R SAE_MEDIA_RAW
#define S SAE_MEDIA_SAFETENSORS
#define N SAE_MEDIA_NPY
#define JSON_TYPE "application/json"
#define RAW_TYPE "application/octet-stream"
#define ST_TYPE "application/x-safetensors"
#define NPY_TYPE "application/x-npy"

#define F16 SAE_DTYPE_F16
#define BF16 SAE_DTYPE_BF16
#define F64 SAE_DTYPE_F64
#define AS(media, dtype, layout) ((int)(media) | (int)(dtype) << 8 | (int)(layout) << 16)

static int type_of(const struct sae_media_type *t)
{
    return AS(t->media, t->dtype, t->sparse);
}

static const struct {
    const char *value;
    int type; /* a media, or one AS dtype and layout; -1: 415 */
} types[] = {
    {NULL, J},
    {"", J},
    {"  ", J},
    {JSON_TYPE, J},
    {"Application/JSON", J},
    {JSON_TYPE ";charset=utf-8", J},
    {JSON_TYPE " ; Charset=\"UTF-8\" ", J},
    {JSON_TYPE ";", J},
    {JSON_TYPE "; charset=latin-1", -1},
    {JSON_TYPE "; charset=utf8", J},
    {JSON_TYPE "; charset=\"UTF8\"", J},
    {JSON_TYPE "; charset=utf-8; profile=x", J},
    {JSON_TYPE "; profile=\"a;charset=latin-1\"", J},
    {JSON_TYPE "; odata=verbose; indent=4", J},
    {JSON_TYPE "; q=1", J},
    {JSON_TYPE "; q=1; charset=latin-1", -1},
    {JSON_TYPE "; charset=utf-8; charset=utf-16", -1},
    {JSON_TYPE "; charset=utf-16", -1},
    {JSON_TYPE "; charset=", -1},
    {JSON_TYPE ", " JSON_TYPE, -1},
    {RAW_TYPE, R},
    {RAW_TYPE ";dtype=f32", R},
    {RAW_TYPE ";dtype=f16", AS(R, F16, 0)},
    {RAW_TYPE ";dtype=bf16", AS(R, BF16, 0)},
    {RAW_TYPE " ; DType=\"BF16\" ", AS(R, BF16, 0)},
    {RAW_TYPE ";dtype=f64", AS(R, F64, 0)},
    {RAW_TYPE ";dtype=f8", -1},
    {RAW_TYPE ";dtype=", -1},
    {RAW_TYPE ";dtype=float32", -1},
    {RAW_TYPE ";dtype=i32", -1},
    {RAW_TYPE ";dtype=f16;dtype=f16", -1},
    {RAW_TYPE ";dtype=f16;order=f", -1},
    {RAW_TYPE ";dtype=f16;q=1", -1},
    {RAW_TYPE ";layout=csr", -1},
    {RAW_TYPE ";charset=utf-8", -1},
    {NPY_TYPE ";dtype=f16", AS(N, F16, 0)},
    {NPY_TYPE ";dtype=f64", AS(N, F64, 0)},
    {NPY_TYPE ";dtype=bf16", -1},
    {ST_TYPE ";dtype=f16", AS(S, F16, 0)},
    {ST_TYPE ";layout=csr;dtype=bf16", AS(S, BF16, 0)},
    {ST_TYPE ";layout=coo", -1},
    {ST_TYPE ";dtype=f8", -1},
    {NPY_TYPE ";layout=csr", -1},
    {JSON_TYPE ";dtype=f16", J},
    {ST_TYPE, S},
    {"APPLICATION/X-SAFETENSORS", S},
    {ST_TYPE "; x=y", -1},
    {ST_TYPE "; q=1", -1},
    {NPY_TYPE, N},
    {"Application/X-NPY", N},
    {NPY_TYPE "; x=y", -1},
    {"application/*", -1},
    {"*/*", -1},
    {"*", -1},
    {"json", -1},
    {"application/", -1},
    {"/json", -1},
    {"application/jsonp", -1},
    {"application/vnd.api+json", -1},
    {"text/plain", -1},
    {"application/x-www-form-urlencoded", -1},
    {"multipart/form-data; boundary=x", -1},
    {JSON_TYPE ";charset=\"utf-8", -1},
    {JSON_TYPE ";charset", -1},
    {JSON_TYPE " x", -1},
};

START_TEST(content_type)
{
    struct sae_media_type t = {.media = SAE_N_MEDIA};
    struct sae_err err = {0};
    enum sae_status st = sae_content_type(types[_i].value, &t, &err);

    if (types[_i].type < 0) {
        ck_assert_msg(st == SAE_E_UNSUPPORTED_MEDIA_TYPE, "%s", types[_i].value);
        ck_assert_int_eq(t.media, SAE_N_MEDIA);
        ck_assert(contains(err.text, "application/json"));
    } else {
        ck_assert_msg(st == SAE_OK, "%s: %s", types[_i].value, err.text);
        ck_assert_int_eq(type_of(&t), types[_i].type);
        ck_assert_int_eq(t.has_dtype, t.media != J && strstr(types[_i].value, "ype=") != NULL);
    }
}
END_TEST

START_TEST(clients_that_name_no_type_are_told_to)
{
    static const char *const values[] = {"text/plain", "Text/Plain;charset=UTF-8",
                                         "multipart/form-data; boundary=----x"};

    for (size_t i = 0; i < SAE_COUNTOF(values); i++) {
        struct sae_err err = {0};
        struct sae_media_type m;

        ck_assert_int_eq(sae_content_type(values[i], &m, &err), SAE_E_UNSUPPORTED_MEDIA_TYPE);
        assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "name what it is");
        assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "'Content-Type: application/json'");
    }
}
END_TEST

START_TEST(refusal_says_which_dtypes_there_are)
{
    struct sae_media_type t;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_content_type(RAW_TYPE ";dtype=f8", &t, &err),
                     SAE_E_UNSUPPORTED_MEDIA_TYPE);
    assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "octet-stream: dtype f32, f16, bf16 or f64");
    assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "npy: dtype f32, f16 or f64");
    assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, ";dtype=f8");
}
END_TEST

START_TEST(form_urlencoded_is_told_about_curl)
{
    struct sae_media_type m;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_content_type("application/x-www-form-urlencoded; charset=UTF-8", &m, &err),
                     SAE_E_UNSUPPORTED_MEDIA_TYPE);
    assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "--json");
    assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "-H 'Content-Type: application/json'");
}
END_TEST

enum { ALL = 15, NO_RAW = 1 << J | 1 << S };
/* Answers with a sparse tensor, and with one by top_k. */
#define CSR (NO_RAW | SAE_CAN_CSR)
#define TOP (CSR | SAE_CAN_TOP)

static const struct {
    const char *value;
    enum sae_media request;
    unsigned can;
    int type; /* a media, or one AS dtype and layout; -1: 406 */
} accepts[] = {
    /* absent, empty, or all wild: the request's form if it can carry the answer */
    {NULL, J, ALL, J},
    {NULL, R, ALL, R},
    {NULL, S, ALL, S},
    {NULL, N, ALL, N},
    {NULL, R, NO_RAW, S},
    {NULL, N, NO_RAW, S},
    {NULL, J, NO_RAW, J},
    {"", R, ALL, R},
    {"*/*", J, ALL, J},
    {"*/*", R, ALL, R},
    {"*/*", R, NO_RAW, S},
    {"*", R, NO_RAW, S},
    {"*/*;q=0.1", R, NO_RAW, S},
    {"application/*", R, NO_RAW, S},
    {"application/*, */*;q=0.5", S, ALL, S},
    {"APPLICATION/*", J, ALL, J},
    {"*/*;q=0", J, ALL, -1},
    {"text/*", J, ALL, -1},
    {"*/json", J, ALL, -1},
    /* names */
    {JSON_TYPE, R, ALL, J},
    {RAW_TYPE, J, ALL, R},
    {ST_TYPE, J, ALL, S},
    {"Application/X-SafeTensors", J, ALL, S},
    {NPY_TYPE, J, ALL, N},
    {NPY_TYPE, N, NO_RAW, -1},
    {RAW_TYPE, R, NO_RAW, -1},
    {RAW_TYPE ", " JSON_TYPE ";q=0.1", R, NO_RAW, J},
    {"text/html", J, ALL, -1},
    {"application/problem+json", J, ALL, -1},
    {JSON_TYPE ", application/problem+json", R, ALL, J},
    {JSON_TYPE ";charset=utf-8", R, ALL, J},
    {JSON_TYPE ";charset=\"UTF-8\"", R, ALL, J},
    {JSON_TYPE ";charset=latin-1", J, ALL, -1},
    {RAW_TYPE ";charset=utf-8", R, ALL, -1},
    {RAW_TYPE ";dtype=bf16;charset=utf-8", R, ALL, -1},
    /* dtype and layout */
    {RAW_TYPE ";dtype=f32", J, ALL, R},
    {RAW_TYPE ";dtype=bf16", R, ALL, AS(R, BF16, 0)},
    {RAW_TYPE ";DTYPE=\"F16\"", J, ALL, AS(R, F16, 0)},
    {RAW_TYPE ";dtype=f64", R, ALL, -1},
    {RAW_TYPE ";dtype=bf8", R, ALL, -1},
    {RAW_TYPE ";dtype=bf16;dtype=f16", R, ALL, -1},
    {RAW_TYPE ";dtype=bf16;endian=big", R, ALL, -1},
    {RAW_TYPE ";dtype=bf16", R, NO_RAW, -1},
    {NPY_TYPE ";dtype=f16", R, ALL, AS(N, F16, 0)},
    {NPY_TYPE ";dtype=bf16", R, ALL, -1},
    {ST_TYPE ";dtype=bf16", R, ALL, AS(S, BF16, 0)},
    {JSON_TYPE ";dtype=f16", J, ALL, -1},
    {"*/*;dtype=f16", R, ALL, -1},
    {"application/*;dtype=f16", R, ALL, -1},
    {ST_TYPE ";layout=csr", J, TOP, AS(S, 0, SAE_WIRE_CSR)},
    {ST_TYPE ";layout=top", J, TOP, AS(S, 0, SAE_WIRE_TOP)},
    {ST_TYPE ";layout=csr", J, CSR, AS(S, 0, SAE_WIRE_CSR)},
    {ST_TYPE ";layout=top", J, CSR, -1},
    {ST_TYPE ";layout=csr", J, ALL, -1},
    {ST_TYPE ";layout=csr;dtype=f16", J, TOP, AS(S, F16, SAE_WIRE_CSR)},
    {ST_TYPE ";layout=csr;layout=csr", J, TOP, -1},
    {ST_TYPE ";layout=bsr", J, TOP, -1},
    {JSON_TYPE ";layout=csr", J, TOP, -1},
    {RAW_TYPE ";layout=csr", J, ALL, -1},
    {ST_TYPE ";dtype=f16;q=0.5;layout=top", J, ALL,
     AS(S, F16, 0)}, /* behind q it is an extension */
    {RAW_TYPE ";dtype=bf16, " RAW_TYPE, J, ALL, AS(R, BF16, 0)},
    {RAW_TYPE ", " RAW_TYPE ";dtype=bf16;q=0.5", J, ALL, R},
    {RAW_TYPE ";q=0, " RAW_TYPE ";dtype=bf16", J, ALL, AS(R, BF16, 0)},
    {RAW_TYPE ";dtype=bf16;q=0, " RAW_TYPE, J, ALL, R},
    {RAW_TYPE ";dtype=bf16;q=0", J, ALL, -1},
    {RAW_TYPE ";dtype=bf16;q=0.5, " RAW_TYPE ";dtype=f16", J, ALL, AS(R, F16, 0)},
    {RAW_TYPE ";dtype=bf16, " RAW_TYPE ";dtype=f16", J, ALL, AS(R, BF16, 0)},
    {ST_TYPE ";layout=top, " ST_TYPE ";q=0.1", J, CSR, S},
    {RAW_TYPE ";dtype=bf16, */*;q=0.1", J, ALL, AS(R, BF16, 0)},
    {RAW_TYPE ";dtype=bf16, */*;q=0.1", J, NO_RAW, J},
    {RAW_TYPE ";dtype=f16, " JSON_TYPE, J, ALL, J}, /* equals: the request's form */
    {ST_TYPE ";layout=coo, " JSON_TYPE ";q=0.5", S, ALL, J},
    {"*/*;charset=utf-8", J, ALL, -1},
    /* q-values */
    {JSON_TYPE ";q=0.5, " RAW_TYPE ";q=0.9", J, ALL, R},
    {JSON_TYPE ";q=0.5," RAW_TYPE ";q=0.501", J, ALL, R},
    {JSON_TYPE ";Q=0.5," ST_TYPE ";q=1.000", J, ALL, S},
    {JSON_TYPE ";q=0", J, ALL, -1},
    {JSON_TYPE ";q=0.000", J, ALL, -1},
    {JSON_TYPE ";q=0, */*", J, ALL, S},
    {RAW_TYPE ";q=0, */*", R, ALL, J},
    {"*/*, " JSON_TYPE ";q=0", J, 1 << J, -1},
    {"application/*;q=0, */*", J, ALL, -1},
    {"*/*;q=1, application/*;q=0.2, " ST_TYPE ";q=0.3", J, ALL, S},
    {JSON_TYPE ";q=0.1, " JSON_TYPE ";q=0.9, " RAW_TYPE ";q=0.5", R, ALL, J},
    {JSON_TYPE ";q=0.5;ext=1", R, ALL, J},
    /* among equals the request's form, then JSON, safetensors, raw, npy */
    {NPY_TYPE ", " RAW_TYPE, J, ALL, R},
    {NPY_TYPE ", " RAW_TYPE, N, ALL, N},
    {JSON_TYPE ", " RAW_TYPE ", " ST_TYPE, S, ALL, S},
    {ST_TYPE ", " JSON_TYPE, R, NO_RAW, J},
    {RAW_TYPE ", " ST_TYPE, J, ALL, S},
    {"application/json, text/plain, */*", R, ALL, R},
    {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", J, ALL, J},
    /* what clients send wrongly; the rest of the header stands */
    {"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", J, ALL, J},
    {JSON_TYPE ";q=2, " RAW_TYPE, J, ALL, R},
    {JSON_TYPE ";q=-1, " RAW_TYPE ";q=0.1", J, ALL, R},
    {JSON_TYPE ";q=x, " RAW_TYPE ";q=0.1", J, ALL, R},
    {JSON_TYPE ";q=, " RAW_TYPE ";q=0.1", J, ALL, R},
    {JSON_TYPE ";q=1.001, " RAW_TYPE ";q=0.1", J, ALL, R},
    {"a b, " RAW_TYPE, J, ALL, R},
    {"text/x;a=\"" RAW_TYPE ",\\\"," ST_TYPE "\", " JSON_TYPE, R, ALL, J},
    {",, ," RAW_TYPE ",", J, ALL, R},
    /* nothing parses: as absent */
    {",", R, ALL, R},
    {";", R, NO_RAW, S},
    {"@@@", J, ALL, J},
    {"application/json;q=7", R, ALL, R},
    {"\"", J, ALL, J},
    {"text/html;a=\"\\", J, ALL, J},
};

START_TEST(accept_header)
{
    struct sae_media_type m = {.media = SAE_N_MEDIA};
    struct sae_err err = {0};
    enum sae_status st =
        sae_accept(accepts[_i].value, accepts[_i].request, accepts[_i].can, &m, &err);

    if (accepts[_i].type < 0) {
        ck_assert_msg(st == SAE_E_NOT_ACCEPTABLE, "%s gives %d", accepts[_i].value, (int)m.media);
        for (int k = 0; k < SAE_N_MEDIA; k++)
            ck_assert(!(accepts[_i].can & 1u << k) || contains(err.text, sae_codecs[k].name));
    } else {
        ck_assert_msg(st == SAE_OK, "%s: %s", accepts[_i].value, err.text);
        ck_assert_msg(type_of(&m) == accepts[_i].type, "%s gives %s, dtype %d, layout %d",
                      accepts[_i].value, sae_codecs[m.media].name, (int)m.dtype, (int)m.sparse);
        ck_assert_ptr_nonnull(sae_media_type_name(&m));
    }
}
END_TEST

START_TEST(refusal_says_which_parameters_there_are)
{
    struct sae_media_type m;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_accept(RAW_TYPE ";dtype=f64", R, ALL, &m, &err), SAE_E_NOT_ACCEPTABLE);
    assert_err(
        err, SAE_E_NOT_ACCEPTABLE,
        "octet-stream: dtype f32, f16 or bf16; safetensors: dtype f32, f16 or bf16 (layout is "
        "for sparse tensors); npy: dtype f32 or f16");
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_accept(ST_TYPE ";layout=top", R, CSR, &m, &err), SAE_E_NOT_ACCEPTABLE);
    assert_err(err, SAE_E_NOT_ACCEPTABLE, "layout csr (top with top_k)");
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_accept(ST_TYPE ";layout=coo", R, TOP, &m, &err), SAE_E_NOT_ACCEPTABLE);
    assert_err(err, SAE_E_NOT_ACCEPTABLE, "layout csr or top");
}
END_TEST

START_TEST(refusal_says_which_can)
{
    struct sae_media_type m;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_accept(RAW_TYPE, R, NO_RAW, &m, &err), SAE_E_NOT_ACCEPTABLE);
    ck_assert_str_eq(err.text, "cannot answer as \"application/octet-stream\": this answer can be "
                               "application/json or application/x-safetensors");
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_accept("text/html", R, ALL, &m, &err), SAE_E_NOT_ACCEPTABLE);
    assert_err(err, SAE_E_NOT_ACCEPTABLE,
               "application/json, application/octet-stream, application/x-safetensors or "
               "application/x-npy");
}
END_TEST

/* Every prefix, and every byte changed: an answer of some kind, nothing read past the end. */
START_TEST(any_bytes_are_survived)
{
    static const char seed[] =
        "text/x;a=\"b\\\",c\" ;q=0.5, application/json; charset=\"utf-8\";q=1,"
        "application/x-safetensors;dtype=bf16;layout=csr,"
        "application/*;q=.25;x, */*;q=0";
    struct sae_media_type m;

    for (size_t n = 0; n < sizeof seed; n++)
        for (int c = 1; c < 256; c += 3) {
            char *s = sae_calloc(n + 1, 1);

            memcpy(s, seed, n);
            if (n)
                s[n - 1] = (char)c;
            if (sae_accept(s, R, NO_RAW, &m, NULL) == SAE_OK)
                ck_assert(m.media == J || m.media == S);
            if (sae_content_type(s, &m, NULL) == SAE_OK)
                ck_assert(m.media < SAE_N_MEDIA);
            sae_free(s);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("negotiate");
    TCase *t = tcase_create("negotiate");

    tcase_add_loop_test(t, content_type, 0, SAE_COUNTOF(types));
    tcase_add_test(t, clients_that_name_no_type_are_told_to);
    tcase_add_test(t, refusal_says_which_dtypes_there_are);
    tcase_add_test(t, form_urlencoded_is_told_about_curl);
    tcase_add_loop_test(t, accept_header, 0, SAE_COUNTOF(accepts));
    tcase_add_test(t, refusal_says_which_can);
    tcase_add_test(t, refusal_says_which_parameters_there_are);
    tcase_add_test(t, any_bytes_are_survived);
    suite_add_tcase(s, t);
    return run_suite(s);
}
