/* test_raw.c - rows of raw f32: their shape from size or Saed-Shape, and back. */
#include "tests/unit/proto/wire_fixture.h"

#include <math.h>

static const struct {
    const char *shape;
    size_t n_floats;
    struct sae_lead lead;
    size_t n_rows;
} good[] = {
    {NULL, 8, {1, {2}}, 2},
    {NULL, 4, {1, {1}}, 1}, /* one row without the header is a matrix of one row */
    {NULL, 0, {1, {0}}, 0},
    {"4", 4, {0, {0}}, 1},
    {"1,4", 4, {1, {1}}, 1},
    {"2,4", 8, {1, {2}}, 2},
    {" 2 ,\t3, 4 ", 24, {2, {2, 3}}, 6},
    {"2,1,1,1,1,1,1,4", 8, {7, {2, 1, 1, 1, 1, 1, 1}}, 2},
    {"0,4", 0, {1, {0}}, 0},
    {"3,0,4", 0, {2, {3, 0}}, 0},
    {"0,18446744073709551615,18446744073709551615,4", 0, {3, {0, UINT64_MAX, UINT64_MAX}}, 0},
    {"002,04", 8, {1, {2}}, 2},
};

static float *floats(size_t n)
{
    float *p = sae_alloc(n, sizeof *p);

    for (size_t i = 0; i < n; i++)
        p[i] = (float)i - 3.5f;
    return p;
}

static void check_rows(const struct sae_request *r, int i)
{
    ck_assert_uint_eq(r->n_rows, good[i].n_rows);
    ck_assert_uint_eq(r->lead.n, good[i].lead.n);
    for (unsigned k = 0; k < r->lead.n; k++)
        ck_assert_uint_eq(r->lead.dim[k], good[i].lead.dim[k]);
    ck_assert(!r->is_sparse);
    ck_assert((r->values == NULL) == (r->n_rows == 0));
    ck_assert_uint_eq((uintptr_t)r->values % 64, 0);
    for (size_t k = 0; k < r->n_rows * 4; k++)
        ck_assert(r->values[k] == (float)k - 3.5f);
}

START_TEST(reads_rows_from_any_alignment)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    size_t n = good[_i].n_floats * 4;
    float *values = floats(good[_i].n_floats);
    char *body = sae_alloc(n + 1, 1);
    struct sae_request r = {0};
    struct sae_err err = {0};

    memcpy(body + 1, values, n);
    t.shape = good[_i].shape;
    ck_assert_msg(sae_raw_parse(&r, &t, body + 1, n, &err) == SAE_OK, "%s", err.text);
    check_rows(&r, _i);
    sae_request_fini(&r);
    sae_free(body);
    sae_free(values);
}
END_TEST

START_TEST(keeps_a_body_without_copying)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_FORWARD, 4, 8);
    float *values = floats(good[_i].n_floats);
    struct sae_request r = {0};
    void *body = values;

    t.shape = good[_i].shape;
    ck_assert_int_eq(sae_raw_keep(&r, &t, &body, good[_i].n_floats * 4, NULL), SAE_OK);
    check_rows(&r, _i);
    ck_assert(r.values == (good[_i].n_rows ? values : NULL));
    ck_assert(body == (good[_i].n_rows ? NULL : values));
    sae_request_fini(&r);
    sae_free(body);
}
END_TEST

static const struct {
    const char *shape;
    size_t n;
    const char *text;
} bad[] = {
    {NULL, 17, "17 bytes are not whole rows of 16 bytes (4 f32 each for \"test\")"},
    {NULL, 20, "20 bytes are not whole rows"},
    {NULL, 15, "15 bytes are not whole rows"},
    {"2,4", 16, "Saed-Shape \"2,4\" does not fit its 16 bytes"},
    {"2,4", 33, "does not fit its 33 bytes"},
    {"1,4", 0, "does not fit its 0 bytes"},
    {"0,4", 16, "does not fit its 16 bytes"},
    {"2,5", 40, "x has width 5, AutoEncoder wants activation_dim 4"},
    {"0", 0, "x has width 0"},
    {"4611686018427387905,4", 16, "does not fit"},
    {"4294967296,4294967296,4", 0, "does not fit"},
    {"18446744073709551615,4", 16, "does not fit"},
    {"18446744073709551616,4", 16, "cannot read Saed-Shape"},
    {"", 16, "cannot read Saed-Shape"},
    {" ", 16, "cannot read Saed-Shape"},
    {",4", 16, "cannot read Saed-Shape"},
    {"1,4,", 16, "cannot read Saed-Shape"},
    {"1,,4", 16, "cannot read Saed-Shape"},
    {"-1,4", 16, "cannot read Saed-Shape"},
    {"+1,4", 16, "cannot read Saed-Shape"},
    {"1 4", 16, "cannot read Saed-Shape"},
    {"1x4", 16, "cannot read Saed-Shape"},
    {"(1,4)", 16, "cannot read Saed-Shape"},
    {"1.0,4", 16, "cannot read Saed-Shape"},
    {"1,1,1,1,1,1,1,1,4", 16, "cannot read Saed-Shape"},
};

START_TEST(misfit_is_bad_shape)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    char body[64] = {0};
    void *kept = body;

    t.shape = bad[_i].shape;
    ck_assert_int_eq(sae_raw_parse(&r, &t, body, bad[_i].n, &err), SAE_E_BAD_SHAPE);
    assert_err(err, SAE_E_BAD_SHAPE, bad[_i].text);
    sae_request_fini(&r);
    /* the same for a body that might be kept: it is the caller's still */
    ck_assert_int_eq(sae_raw_keep(&r, &t, &kept, bad[_i].n, NULL), SAE_E_BAD_SHAPE);
    ck_assert_ptr_eq(kept, body);
    sae_request_fini(&r);
}
END_TEST

/* A body of another dtype: its rows by its own bytes, and values as f32 has them. */
START_TEST(dtypes_are_converted)
{
    static const uint16_t f16[8] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x8000, 0x7c00, 0xfc00, 0x7e00};
    static const uint16_t bf16[8] = {0x3f80, 0xc000, 0x7f7f, 0x0001,
                                     0x8000, 0x7f80, 0xff80, 0x7fc0};
    static const double f64[8] = {1, -2, 3.4e38, 1e-46, -0.0, INFINITY, -INFINITY, NAN};
    static const struct {
        enum sae_dtype dtype;
        const void *body;
        size_t item;
        float want[8];
    } cases[] = {
        {SAE_DTYPE_F16, f16, 2, {1, -2, 65504, 0x1p-24f, -0.0f, INFINITY, -INFINITY, NAN}},
        {SAE_DTYPE_BF16, bf16, 2, {1, -2, 0x1.fep127f, 0x1p-133f, -0.0f, INFINITY, -INFINITY, NAN}},
        {SAE_DTYPE_F64, f64, 8, {1, -2, 3.4e38f, 0, -0.0f, INFINITY, -INFINITY, NAN}},
    };

    for (size_t i = 0; i < SAE_COUNTOF(cases); i++)
        for (int shaped = 0; shaped < 2; shaped++) {
            struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
            struct sae_request r = {0};
            struct sae_err err = {0};
            void *body = (void *)(uintptr_t)cases[i].body;

            t.type = (struct sae_media_type){
                .media = SAE_MEDIA_RAW, .has_dtype = true, .dtype = cases[i].dtype};
            t.shape = shaped ? "2,4" : NULL;
            ck_assert_msg(sae_raw_keep(&r, &t, &body, cases[i].item * 8, &err) == SAE_OK, "%s",
                          err.text);
            ck_assert_ptr_eq(body, cases[i].body);
            ck_assert(r.n_rows == 2 && r.held_bytes == 32);
            for (size_t k = 0; k < 8; k++)
                ck_assert_msg(memcmp(&r.values[k], &cases[i].want[k], 4) == 0 ||
                                  (isnan(r.values[k]) && isnan(cases[i].want[k])),
                              "%s: value %zu is %g", sae_dtype_name(cases[i].dtype), k,
                              (double)r.values[k]);
            sae_request_fini(&r);
            ck_assert_int_eq(sae_raw_parse(&r, &t, cases[i].body, cases[i].item * 7, &err),
                             SAE_E_BAD_SHAPE);
            assert_err(err, SAE_E_BAD_SHAPE, shaped ? " bytes of " : " not whole rows of ");
            assert_err(err, SAE_E_BAD_SHAPE, sae_dtype_word(cases[i].dtype, SAE_DTYPE_WIRE));
            sae_request_fini(&r);
        }
}
END_TEST

START_TEST(a_double_beyond_f32_is_a_bad_number)
{
    const double body[4] = {1, INFINITY, 1e39, 0};
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};

    t.type.dtype = SAE_DTYPE_F64;
    ck_assert_int_eq(sae_raw_parse(&r, &t, body, sizeof body, &err), SAE_E_BAD_NUMBER);
    assert_err(err, SAE_E_BAD_NUMBER, "tensor x: value 2 is 1e+39, f32 cannot hold it");
    sae_request_fini(&r);
}
END_TEST

START_TEST(decode_takes_rows_of_features)
{
    struct sae_target t = target_of(CLASS_GATED, SAE_OP_DECODE, 4, 8);
    struct sae_request r = {0};
    float body[16] = {1.0f, NAN, -INFINITY};

    ck_assert_int_eq(sae_raw_parse(&r, &t, body, sizeof body, NULL), SAE_OK);
    ck_assert_uint_eq(r.n_rows, 2);
    ck_assert_int_eq(memcmp(r.values, body, sizeof body), 0);
    sae_request_fini(&r);
    ck_assert_int_eq(sae_raw_parse(&r, &t, body, 16, NULL), SAE_E_BAD_SHAPE);
}
END_TEST

START_TEST(options_of_the_query_are_checked)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    float body[4] = {0};

    ck_assert_int_eq(sae_query_parse(&r.opt, "features=8", NULL), SAE_OK);
    ck_assert_int_eq(sae_raw_parse(&r, &t, body, sizeof body, NULL), SAE_E_BAD_OPTION);
    sae_request_fini(&r);
    sae_alloc_fault(0, false);
    ck_assert_int_eq(sae_raw_parse(&r, &t, body, sizeof body, NULL), SAE_E_NOMEM);
    sae_alloc_fault(-1, false);
    sae_request_fini(&r);
}
END_TEST

START_TEST(prints_rows_and_shape)
{
    static const struct {
        struct sae_lead lead;
        size_t n_rows;
        uint64_t width;
        const char *shape;
    } cases[] = {
        {{0, {0}}, 1, 6, "6"},        {{1, {1}}, 1, 6, "1,6"},
        {{2, {2, 3}}, 6, 2, "2,3,2"}, {{1, {0}}, 0, 6, "0,6"},
        {{1, {3}}, 3, 0, "3,0"},      {{2, {0, UINT64_MAX}}, 0, 6, "0,18446744073709551615,6"},
    };
    float *data = floats(12);

    for (size_t i = 0; i < SAE_COUNTOF(cases); i++) {
        struct sae_answer a = {.lead = cases[i].lead, .n_rows = cases[i].n_rows, .n_tensors = 1};
        size_t n = cases[i].n_rows * cases[i].width * 4;
        struct sae_body b = {0};
        struct sae_err err = {0};

        a.tensors[0] = (struct sae_out_tensor){.name = "f", .width = cases[i].width, .data = data};
        ck_assert_uint_eq(sae_dense_bytes(&a), n);
        ck_assert_int_eq(sae_raw_print(&b, &a, n, NULL), SAE_OK);
        ck_assert_uint_eq(b.n, n);
        ck_assert_str_eq(b.shape, cases[i].shape);
        ck_assert_int_eq(memcmp(b.data, data, n), 0);
        sae_body_fini(&b);
        if (n == 0)
            continue;
        ck_assert_int_eq(sae_raw_print(&b, &a, n - 1, &err), SAE_E_RESPONSE_TOO_LARGE);
        ck_assert_uint_eq(err.limit, n - 1);
        ck_assert_uint_eq(err.got, n);
        ck_assert_str_eq(err.option, "--max-response-bytes");
        ck_assert_ptr_null(b.data);
    }
    sae_free(data);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("raw");
    TCase *t = tcase_create("raw");

    tcase_add_loop_test(t, reads_rows_from_any_alignment, 0, SAE_COUNTOF(good));
    tcase_add_loop_test(t, keeps_a_body_without_copying, 0, SAE_COUNTOF(good));
    tcase_add_loop_test(t, misfit_is_bad_shape, 0, SAE_COUNTOF(bad));
    tcase_add_test(t, dtypes_are_converted);
    tcase_add_test(t, a_double_beyond_f32_is_a_bad_number);
    tcase_add_test(t, decode_takes_rows_of_features);
    tcase_add_test(t, options_of_the_query_are_checked);
    tcase_add_test(t, prints_rows_and_shape);
    suite_add_tcase(s, t);
    return run_suite(s);
}
