/* test_safetensors.c - requests from safetensors bodies: dtypes, shapes, options, sparse f, damage.
 */
#include "lib/format/safetensors.h"
#include "tests/unit/proto/wire_fixture.h"

#include <math.h>

static enum sae_status parse(struct sae_request *r, const struct sae_target *t, struct st_body *b,
                             struct sae_err *err)
{
    /* A copy of the exact size at an odd address: the sanitizer sees any over-read. */
    char *copy = sae_realloc(NULL, b->all.len + 1, 1);
    enum sae_status st;

    memcpy(copy + 1, b->all.data, b->all.len);
    st = sae_safetensors_parse(r, t, copy + 1, b->all.len, err);
    sae_free(copy);
    return st;
}

/* ---- x: dtypes and shapes ---------------------------------------------------------------------
 */

START_TEST(every_float_dtype_at_any_alignment)
{
    const float f32[4] = {1.0f, -2.5f, 0.0f, INFINITY};
    const double f64[4] = {1.0, -2.5, 1e-300, (double)INFINITY};
    const uint16_t f16[4] = {0x3c00, 0xc100, 0, 0x7c00}, bf16[4] = {0x3f80, 0xc020, 0, 0x7f80};
    const struct {
        const char *dtype;
        const void *data;
        size_t n;
    } cases[] = {{"F32", f32, 16}, {"F64", f64, 32}, {"F16", f16, 8}, {"BF16", bf16, 8}};

    for (size_t i = 0; i < SAE_COUNTOF(cases); i++)
        for (int pad = 0; pad < 8; pad++) {
            struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
            struct sae_request r = {0};
            struct sae_err err = {0};
            struct st_body b;

            st_begin(&b);
            st_add(&b, "x", cases[i].dtype, "1,4", cases[i].data, cases[i].n);
            st_finish(&b, pad);
            ck_assert_msg(parse(&r, &t, &b, &err) == SAE_OK, "%s", err.text);
            ck_assert_uint_eq(r.n_rows, 1);
            ck_assert_uint_eq(r.lead.n, 1);
            ck_assert_uint_eq((uintptr_t)r.values % 64, 0);
            for (int k = 0; k < 4; k++)
                ck_assert(r.values[k] == f32[k]);
            sae_request_fini(&r);
            st_end(&b);
        }
}
END_TEST

START_TEST(f64_is_rounded_and_overflow_is_bad_number)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    double v[4] = {0x1.000001p0, -1e-60, 0x1.fffffefffffffp127, (double)NAN};
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    st_begin(&b);
    st_add(&b, "x", "F64", "4", v, sizeof v);
    st_finish(&b, 0);
    ck_assert_int_eq(parse(&r, &t, &b, NULL), SAE_OK);
    ck_assert_uint_eq(r.lead.n, 0);
    ck_assert_uint_eq(r.n_rows, 1);
    ck_assert(r.values[0] == 1.0f); /* ties to even */
    ck_assert(r.values[1] == 0.0f && signbit(r.values[1]));
    ck_assert(r.values[2] == 0x1.fffffep127f);
    ck_assert(isnan(r.values[3]));
    sae_request_fini(&r);
    st_end(&b);

    v[2] = 0x1.ffffffp127; /* the first double that rounds to infinity */
    st_begin(&b);
    st_add(&b, "x", "F64", "4", v, sizeof v);
    st_finish(&b, 0);
    ck_assert_int_eq(parse(&r, &t, &b, &err), SAE_E_BAD_NUMBER);
    assert_err(err, SAE_E_BAD_NUMBER, "tensor x: value 2 is 3.40282e+38, f32 cannot hold it");
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

static const struct {
    const char *shape;
    size_t n_floats;
    struct sae_lead lead;
    size_t n_rows;
} shapes[] = {
    {"4", 4, {0, {0}}, 1},         {"1,4", 4, {1, {1}}, 1},
    {"2,3,4", 24, {2, {2, 3}}, 6}, {"0,4", 0, {1, {0}}, 0},
    {"3,0,4", 0, {2, {3, 0}}, 0},  {"1,1,1,1,1,1,2,4", 8, {7, {1, 1, 1, 1, 1, 1, 2}}, 2},
};

START_TEST(leading_dimensions_are_kept)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_FORWARD, 4, 8);
    float values[24];
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    for (int i = 0; i < 24; i++)
        values[i] = (float)i;
    st_begin(&b);
    st_add(&b, "x", "F32", shapes[_i].shape, values, shapes[_i].n_floats * 4);
    st_finish(&b, 3);
    ck_assert_msg(parse(&r, &t, &b, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(r.n_rows, shapes[_i].n_rows);
    ck_assert_uint_eq(r.lead.n, shapes[_i].lead.n);
    for (unsigned i = 0; i < r.lead.n; i++)
        ck_assert_uint_eq(r.lead.dim[i], shapes[_i].lead.dim[i]);
    ck_assert((r.values == NULL) == (r.n_rows == 0));
    for (size_t i = 0; i < r.n_rows * 4; i++)
        ck_assert(r.values[i] == values[i]);
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

/* ---- faults in tensors that the container allows -----------------------------------------------
 */

struct tensor {
    const char *name, *dtype, *shape;
    size_t n_bytes;
};
static const struct {
    enum sae_op op;
    struct tensor tensors[5];
    enum sae_status status;
    const char *text;
} faults[] = {
    {SAE_OP_ENCODE, {{0}}, SAE_E_BAD_SHAPE, "tensor x is missing"},
    {SAE_OP_DECODE, {{0}}, SAE_E_BAD_SHAPE, "tensor f is missing"},
    {SAE_OP_ENCODE, {{"f", "F32", "8", 32}}, SAE_E_BAD_OPTION, "no tensor \"f\""},
    {SAE_OP_DECODE, {{"x", "F32", "4", 16}}, SAE_E_BAD_OPTION, "takes f alone"},
    {SAE_OP_DECODE,
     {{"f", "F32", "8", 32}, {"x", "F32", "4", 16}},
     SAE_E_BAD_OPTION,
     "takes f alone"},
    {SAE_OP_ENCODE, {{"x", "F32", "4", 16}, {"y", "F32", "4", 16}}, SAE_E_BAD_OPTION, "\"y\""},
    {SAE_OP_ENCODE,
     {{"x", "F32", "4", 16}, {"top_k", "I64", "1", 8}},
     SAE_E_BAD_OPTION,
     "options that are no tensor go in the query string"},
    {SAE_OP_ENCODE,
     {{"x", "F32", "4", 16}, {"f.shape", "I64", "1", 8}},
     SAE_E_BAD_OPTION,
     "\"f.shape\""},
    {SAE_OP_ENCODE, {{"x", "F32", "", 4}}, SAE_E_BAD_SHAPE, "0 dimensions"},
    {SAE_OP_ENCODE, {{"x", "F32", "1,1,1,1,1,1,1,1,4", 16}}, SAE_E_BAD_SHAPE, "9 dimensions"},
    {SAE_OP_ENCODE, {{"x", "F32", "2,5", 40}}, SAE_E_BAD_SHAPE, "x has width 5"},
    {SAE_OP_ENCODE, {{"x", "F32", "0", 0}}, SAE_E_BAD_SHAPE, "x has width 0"},
    {SAE_OP_ENCODE, {{"x", "I32", "4", 16}}, SAE_E_MALFORMED_BODY, "dtype is I32"},
    {SAE_OP_ENCODE, {{"x", "BOOL", "4", 4}}, SAE_E_MALFORMED_BODY, "wanted F32, F16, BF16 or F64"},
    {SAE_OP_ENCODE, {{"x", "U8", "0,4", 0}}, SAE_E_MALFORMED_BODY, "dtype is U8"},
    {SAE_OP_ENCODE,
     {{"x", "F32", "4", 16}, {"features", "I16", "1", 2}},
     SAE_E_MALFORMED_BODY,
     "features: its dtype is I16, wanted I32 or I64"},
    {SAE_OP_ENCODE, {{"x", "F32", "4", 16}, {"gate", "F32", "1", 4}}, SAE_E_BAD_OPTION, "\"gate\""},
    {SAE_OP_DECODE,
     {{"f", "F32", "8", 32}, {"gates", "F32", "1", 4}},
     SAE_E_BAD_OPTION,
     "\"gates\""},
    {SAE_OP_DECODE,
     {{"f", "F32", "8", 32}, {"x_hat", "F32", "1", 4}},
     SAE_E_BAD_OPTION,
     "\"x_hat\""},
    {SAE_OP_DECODE, {{"gate", "F32", "8", 32}}, SAE_E_BAD_SHAPE, "tensor f is missing"},
    {SAE_OP_DECODE,
     {{"f.top_indices", "I32", "1,2", 8}},
     SAE_E_BAD_SHAPE,
     "tensor f.top_values is missing"},
    {SAE_OP_DECODE,
     {{"f.top_indices", "I32", "1,2", 8}, {"f.top_values", "F32", "2,1", 8}},
     SAE_E_BAD_SHAPE,
     "f.top_values has not the shape"},
    {SAE_OP_DECODE,
     {{"f.top_indices", "I32", "2", 8}, {"f.top_values", "F32", "1,2", 8}},
     SAE_E_BAD_SHAPE,
     "f.top_values has not the shape"},
    {SAE_OP_DECODE,
     {{"f.top_indices", "U8", "2", 2}, {"f.top_values", "F32", "2", 8}},
     SAE_E_MALFORMED_BODY,
     "f.top_indices: its dtype is U8"},
    {SAE_OP_DECODE,
     {{"f.top_indices", "I32", "2", 8}, {"f.top_values", "I32", "2", 8}},
     SAE_E_MALFORMED_BODY,
     "f.top_values: its dtype is I32"},
    {SAE_OP_DECODE,
     {{"f.top_indices", "I32", "", 4}, {"f.top_values", "F32", "", 4}},
     SAE_E_BAD_SHAPE,
     "0 dimensions"},
    {SAE_OP_DECODE,
     {{"f.top_indices", "I32", "2", 8},
      {"f.top_values", "F32", "2", 8},
      {"f.shape", "I64", "1", 8}},
     SAE_E_BAD_OPTION,
     "given twice"},
    {SAE_OP_ENCODE,
     {{"x", "F32", "4", 16}, {"features", "I64", "1,1", 8}},
     SAE_E_BAD_SHAPE,
     "features: it has 2 dimensions"},
    {SAE_OP_DECODE,
     {{"f", "F32", "8", 32}, {"features", "I64", "1", 8}},
     SAE_E_BAD_OPTION,
     "cannot use features: AutoEncoder.decode does not take it"},
    {SAE_OP_ENCODE,
     {{"x", "F32", "4", 16}, {"ghost_mask", "F32", "8", 32}},
     SAE_E_BAD_OPTION,
     "cannot use ghost_mask: AutoEncoder.encode does not take it"},
    {SAE_OP_FORWARD,
     {{"x", "F32", "4", 16}, {"ghost_mask", "F32", "7", 28}},
     SAE_E_BAD_SHAPE,
     "its shape is [7]"},
    {SAE_OP_FORWARD,
     {{"x", "F32", "4", 16}, {"ghost_mask", "F32", "", 4}},
     SAE_E_BAD_SHAPE,
     "its shape is []"},
    {SAE_OP_FORWARD,
     {{"x", "F32", "4", 16}, {"ghost_mask", "I64", "1", 8}},
     SAE_E_MALFORMED_BODY,
     "wanted F32, F16, BF16, F64 or BOOL"},
    {SAE_OP_FORWARD,
     {{"x", "F32", "4", 16}, {"features", "I64", "1", 8}},
     SAE_E_BAD_OPTION,
     "add output_features"},
    {SAE_OP_DECODE,
     {{"f", "F32", "8", 32}, {"f.values", "F32", "0", 0}},
     SAE_E_BAD_OPTION,
     "it is given twice"},
    {SAE_OP_DECODE,
     {{"f.values", "F32", "0", 0}, {"f.indices", "I32", "0", 0}, {"f.shape", "I64", "1", 8}},
     SAE_E_BAD_SHAPE,
     "f.indptr is missing"},
};

START_TEST(faults_have_their_code)
{
    static const char zeros[64];
    struct sae_target t = target_of(CLASS_AUTO, faults[_i].op, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    st_begin(&b);
    for (int i = 0; faults[_i].tensors[i].name; i++)
        st_add(&b, faults[_i].tensors[i].name, faults[_i].tensors[i].dtype,
               faults[_i].tensors[i].shape, zeros, faults[_i].tensors[i].n_bytes);
    st_finish(&b, 0);
    ck_assert_int_eq(parse(&r, &t, &b, &err), faults[_i].status);
    assert_err(err, faults[_i].status, faults[_i].text);
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

/* ---- options -----------------------------------------------------------------------------------
 */

START_TEST(features_are_ids)
{
    static const struct {
        int64_t ids[3];
        enum sae_status status;
        const char *text;
    } cases[] = {
        {{7, 0, 7}, SAE_OK, ""},
        {{7, 8, 0}, SAE_E_BAD_OPTION, "item 1 is 8"},
        {{7, 0, -1}, SAE_E_BAD_OPTION, "item 2 is -1"},
        {{INT64_MIN, 0, 0}, SAE_E_BAD_OPTION, "item 0 is -9223372036854775808"},
        {{7, 0, INT64_C(4294967296)}, SAE_E_BAD_OPTION, "item 2 is more than 4294967294"},
    };
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    float x[4] = {0};
    struct st_body b;

    st_begin(&b);
    st_add(&b, "features", "I64", "3", cases[_i].ids, 24);
    st_add(&b, "x", "F32", "4", x, 16);
    st_finish(&b, 1);
    ck_assert_int_eq(parse(&r, &t, &b, &err), cases[_i].status);
    if (cases[_i].status == SAE_OK) {
        ck_assert_uint_eq(r.opt.asked, SAE_OPT_FEATURES);
        ck_assert_uint_eq(r.opt.n_features, 3);
        ck_assert_uint_eq(r.opt.features[0], 7);
        ck_assert_uint_eq(r.opt.features[2], 7);
    } else {
        assert_err(err, cases[_i].status, cases[_i].text);
    }
    sae_request_fini(&r);
    /* the same option in the query too */
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_query_parse(&r.opt, "features=1", NULL), SAE_OK);
    ck_assert_int_eq(parse(&r, &t, &b, &err), SAE_E_BAD_OPTION);
    assert_err(err, SAE_E_BAD_OPTION, "features: it is given twice");
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

START_TEST(no_features_are_legal)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    float x[4] = {0};
    struct st_body b;

    st_begin(&b);
    st_add(&b, "features", "I64", "0", "", 0);
    st_add(&b, "x", "F32", "4", x, 16);
    st_finish(&b, 0);
    ck_assert_int_eq(parse(&r, &t, &b, NULL), SAE_OK);
    ck_assert_uint_eq(r.opt.asked, SAE_OPT_FEATURES);
    ck_assert_uint_eq(r.opt.n_features, 0);
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

START_TEST(ghost_mask_of_bools_and_floats)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_FORWARD, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    const unsigned char bools[8] = {0, 1, 1, 0, 1, 0, 0, 1}, bad[2] = {1, 2};
    const float numbers[2] = {0.25f, NAN};
    float x[8] = {0};
    struct st_body b;

    st_begin(&b);
    st_add(&b, "ghost_mask", "BOOL", "8", bools, 8);
    st_add(&b, "x", "F32", "2,4", x, 32);
    st_finish(&b, 0);
    ck_assert_msg(parse(&r, &t, &b, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(r.opt.ghost_row, 0);
    ck_assert_uint_eq(r.opt.ghost_col, 1);
    for (int i = 0; i < 8; i++)
        ck_assert(r.opt.ghost_mask[i] == (float)bools[i]);
    sae_request_fini(&r);
    st_end(&b);

    st_begin(&b);
    st_add(&b, "ghost_mask", "F32", "2,1", numbers, 8);
    st_add(&b, "x", "F32", "2,4", x, 32);
    st_finish(&b, 0);
    ck_assert_msg(parse(&r, &t, &b, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(r.opt.ghost_row, 1);
    ck_assert_uint_eq(r.opt.ghost_col, 0);
    ck_assert(r.opt.ghost_mask[0] == 0.25f && isnan(r.opt.ghost_mask[1]));
    sae_request_fini(&r);
    st_end(&b);

    st_begin(&b);
    st_add(&b, "ghost_mask", "BOOL", "2,1", bad, 2);
    st_add(&b, "x", "F32", "2,4", x, 32);
    st_finish(&b, 0);
    ck_assert_int_eq(parse(&r, &t, &b, &err), SAE_E_BAD_NUMBER);
    assert_err(err, SAE_E_BAD_NUMBER, "value 1 is byte 2");
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

/* ---- sparse f ----------------------------------------------------------------------------------
 */

static void sparse_body(struct st_body *b, bool wide, const int64_t *indptr, size_t n_indptr,
                        const int64_t *indices, size_t nnz, const int64_t *shape, size_t ndim)
{
    static const float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int32_t narrow[16];
    char text[24];

    st_begin(b);
    st_add(b, "f.values", "F32", (snprintf(text, sizeof text, "%zu", nnz), text), values, nnz * 4);
    for (size_t i = 0; i < n_indptr; i++)
        narrow[i] = (int32_t)indptr[i];
    snprintf(text, sizeof text, "%zu", n_indptr);
    st_add(b, "f.indptr", wide ? "I64" : "I32", text, wide ? (const void *)indptr : narrow,
           n_indptr * (wide ? 8 : 4));
    for (size_t i = 0; i < nnz; i++)
        narrow[i] = (int32_t)indices[i];
    snprintf(text, sizeof text, "%zu", nnz);
    st_add(b, "f.indices", wide ? "I64" : "I32", text, wide ? (const void *)indices : narrow,
           nnz * (wide ? 8 : 4));
    snprintf(text, sizeof text, "%zu", ndim);
    st_add(b, "f.shape", "I64", text, shape, ndim * 8);
    st_finish(b, 5);
}

static const struct {
    int64_t indptr[5];
    size_t n_indptr;
    int64_t indices[4];
    size_t nnz;
    int64_t shape[9];
    size_t ndim;
    enum sae_status status;
    const char *text;
} sparse[] = {
    {{0, 3, 3, 4}, 4, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_OK, ""},
    {{0, 3, 3, 4}, 4, {7, 0, 2, 5}, 4, {3, 1, 8}, 3, SAE_OK, ""},
    {{0, 4}, 2, {7, 0, 2, 5}, 4, {8}, 1, SAE_OK, ""},
    {{0}, 1, {0}, 0, {0, 8}, 2, SAE_OK, ""},
    {{0, 0, 0}, 3, {0}, 0, {2, 8}, 2, SAE_OK, ""},
    {{0}, 1, {0}, 0, {INT64_MAX, 0, INT64_MAX, INT64_MAX, 8}, 5, SAE_OK, ""},
    {{0, 3, 2, 4}, 4, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_E_BAD_SHAPE, "indptr goes down from 3 to 2"},
    {{0, 3, 3, 3}, 4, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_E_BAD_SHAPE, "there are 4 entries"},
    {{1, 3, 3, 4}, 4, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_E_BAD_SHAPE, "goes from 1 to 4"},
    {{0, 3, 3, 5}, 4, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_E_BAD_SHAPE, "goes from 0 to 5"},
    {{0, -3, 3, 4}, 4, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_E_BAD_SHAPE, "item 1 is -3"},
    {{0, 3, 4}, 3, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_E_BAD_SHAPE, "f.indptr: it has 3 items"},
    {{0}, 0, {7, 0, 2, 5}, 4, {3, 8}, 2, SAE_E_BAD_SHAPE, "f.indptr: it has 0 items"},
    {{0, 4}, 2, {7, 0, 2, 7}, 4, {8}, 1, SAE_E_BAD_SHAPE, "index 7 stands twice in row 0"},
    {{0, 4}, 2, {7, 0, 8, 5}, 4, {8}, 1, SAE_E_BAD_SHAPE, "has index 8"},
    {{0, 4}, 2, {7, 0, -2, 5}, 4, {8}, 1, SAE_E_BAD_SHAPE, "item 2 is -2"},
    {{0, 3, 3, 4}, 4, {7, 0, 2, 5}, 4, {3, 7}, 2, SAE_E_BAD_SHAPE, "f has width 7"},
    {{0, 3, 3, 4}, 4, {7, 0, 2, 5}, 4, {-3, 8}, 2, SAE_E_BAD_SHAPE, "dimension 0 is -3"},
    {{0, 3, 3, 4}, 4, {7, 0, 2, 5}, 4, {0}, 0, SAE_E_BAD_SHAPE, "it names 0 dimensions"},
    {{0, 4}, 2, {7, 0, 2, 5}, 4, {1, 1, 1, 1, 1, 1, 1, 1, 8}, 9, SAE_E_BAD_SHAPE, "names 9"},
    {{0, 4}, 2, {7, 0, 2, 5}, 4, {INT64_MAX, INT64_MAX, 8}, 3, SAE_E_BAD_SHAPE, "pass 64 bits"},
    {{0, 4}, 2, {7, 0, 2, 5}, 4, {INT64_MAX, 8}, 2, SAE_E_BAD_SHAPE, "pass 64 bits"},
    {{0, 4}, 2, {7, 0, 2, 5}, 4, {INT64_C(1) << 40, 8}, 2, SAE_E_BAD_SHAPE, "1099511627776 rows"},
};

START_TEST(sparse_f_for_decode)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 8);

    for (int wide = 0; wide < 2; wide++) {
        struct sae_request r = {0};
        struct sae_err err = {0};
        struct st_body b;

        sparse_body(&b, wide, sparse[_i].indptr, sparse[_i].n_indptr, sparse[_i].indices,
                    sparse[_i].nnz, sparse[_i].shape, sparse[_i].ndim);
        ck_assert_msg(parse(&r, &t, &b, &err) == sparse[_i].status, "%s", err.text);
        if (sparse[_i].status != SAE_OK) {
            assert_err(err, sparse[_i].status, sparse[_i].text);
        } else {
            ck_assert(r.is_sparse);
            ck_assert_uint_eq(r.n_rows, sparse[_i].n_indptr - 1);
            ck_assert_uint_eq(r.lead.n, sparse[_i].ndim - 1);
            ck_assert_uint_eq(r.csr.nnz, sparse[_i].nnz);
            ck_assert_uint_eq(r.csr.indptr[r.n_rows], r.csr.nnz);
        }
        if (sparse[_i].status == SAE_OK && r.csr.nnz && r.n_rows > 1) {
            static const uint32_t ids[4] = {0, 2, 7, 5};
            static const float values[4] = {2, 3, 1, 4};

            ck_assert_int_eq(memcmp(r.csr.ids, ids, sizeof ids), 0);
            ck_assert_int_eq(memcmp(r.csr.values, values, sizeof values), 0);
        }
        sae_request_fini(&r);
        st_end(&b);
    }
}
END_TEST

/* Two rows of three, entries of value 0 being fillers whatever their ids; what stands beside is an
 * answer's and not looked at. */
START_TEST(top_form_for_decode)
{
    static const int32_t narrow[6] = {7, 3, 0, 2, 2, 99};
    static const int64_t wide[6] = {7, 3, 0, 2, 2, 99};
    static const float values[6] = {3, 2, -1, NAN, 0, -0.0f}, gate[6];
    static const uint32_t ids[4] = {0, 3, 7, 2};
    static const float want[3] = {-1, 2, 3};
    struct sae_target t = target_of(CLASS_GATED, SAE_OP_DECODE, 4, 8);

    for (int i = 0; i < 2; i++) {
        struct sae_request r = {0};
        struct sae_err err = {0};
        struct st_body b;

        st_begin(&b);
        ck_assert_int_eq(
            sae_buf_addf(&b.header, "\"__metadata__\":{\"f_units\":\"encode\",\"x\":\"y\"}"),
            SAE_OK);
        st_add(&b, "f.top_indices", i ? "I64" : "I32", "2,3", i ? (const void *)wide : narrow,
               i ? sizeof wide : sizeof narrow);
        st_add(&b, "f.top_values", "F32", "2,3", values, sizeof values);
        st_add(&b, "gate.top_indices", "I32", "2,3", narrow, sizeof narrow);
        st_add(&b, "gate.top_values", "F32", "2,3", gate, sizeof gate);
        st_add(&b, "pre_jump", "U8", "1", "", 1);
        st_finish(&b, 0);
        ck_assert_msg(parse(&r, &t, &b, &err) == SAE_OK, "%s", err.text);
        ck_assert(r.is_sparse && r.n_rows == 2 && r.lead.n == 1 && r.lead.dim[0] == 2);
        ck_assert_uint_eq(r.csr.nnz, 4);
        ck_assert(r.csr.indptr[0] == 0 && r.csr.indptr[1] == 3 && r.csr.indptr[2] == 4);
        ck_assert_int_eq(memcmp(r.csr.ids, ids, sizeof ids), 0);
        ck_assert_int_eq(memcmp(r.csr.values, want, sizeof want), 0);
        ck_assert(isnan(r.csr.values[3]));
        sae_request_fini(&r);
        st_end(&b);
    }
}
END_TEST

/* They take no bytes: as little is held of them, however many the shape says. */
START_TEST(top_rows_of_no_columns)
{
    struct sae_target t = target_of(CLASS_GATED, SAE_OP_DECODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    st_begin(&b);
    st_add(&b, "f.top_indices", "I32", "1000000000000,0", "", 0);
    st_add(&b, "f.top_values", "F32", "1000000000000,0", "", 0);
    st_finish(&b, 0);
    ck_assert_msg(parse(&r, &t, &b, &err) == SAE_OK, "%s", err.text);
    ck_assert(r.is_sparse && r.n_rows == 1000000000000 && r.csr.nnz == 0 && !r.csr.indptr);
    ck_assert_uint_eq(r.held_bytes, 0);
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

START_TEST(ids_of_32_bits_everywhere)
{
    struct sae_target encode = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_target decode = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 8);
    static const int32_t ids[2] = {7, 0}, indptr[2] = {0, 1}, shape[2] = {1, 8};
    static const float x[4] = {1};
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    st_begin(&b);
    st_add(&b, "features", "I32", "2", ids, sizeof ids);
    st_add(&b, "x", "F32", "4", x, sizeof x);
    st_finish(&b, 0);
    ck_assert_msg(parse(&r, &encode, &b, &err) == SAE_OK, "%s", err.text);
    ck_assert(r.opt.n_features == 2 && r.opt.features[0] == 7 && r.opt.features[1] == 0);
    sae_request_fini(&r);
    st_end(&b);
    st_begin(&b);
    st_add(&b, "f.indptr", "I32", "2", indptr, sizeof indptr);
    st_add(&b, "f.indices", "I32", "1", ids, 4);
    st_add(&b, "f.values", "F32", "1", x, 4);
    st_add(&b, "f.shape", "I32", "2", shape, sizeof shape);
    st_finish(&b, 0);
    ck_assert_msg(parse(&r, &decode, &b, &err) == SAE_OK, "%s", err.text);
    ck_assert(r.n_rows == 1 && r.lead.n == 1 && r.csr.nnz == 1 && r.csr.ids[0] == 7);
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

static const struct {
    const char *units, *text; /* NULL: taken */
} units[] = {
    {"encode", NULL},
    {"decoder_norm", "scaled by the norms"},
    {"decoder\\u005fnorm", "scaled by the norms"},
    {"other", "its f_units are \"other\", wanted \"encode\""},
};

START_TEST(f_units_of_the_metadata)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 8);
    static const float f[8];
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;
    enum sae_status st;

    st_begin(&b);
    ck_assert_int_eq(
        sae_buf_addf(&b.header, "\"__metadata__\":{\"f_units\":\"%s\"}", units[_i].units), SAE_OK);
    st_add(&b, "f", "F32", "8", f, sizeof f);
    st_finish(&b, 0);
    st = parse(&r, &t, &b, &err);
    if (units[_i].text)
        assert_err(err, SAE_E_BAD_OPTION, units[_i].text);
    else
        ck_assert_int_eq(st, SAE_OK);
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------
 */

/* A tensor, its four keys and their text, held for each. */
#define ST_HEADER_OF_ONE                                                    \
    (sizeof(struct sae_st_tensor) + (uint64_t)4 * 16 + sizeof "\"x\"" - 1 + \
     sizeof "\"dtype\"\"shape\"\"data_offsets\"" - 1)

START_TEST(what_a_body_may_allocate_is_capped)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    static const uint16_t half[400];
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    t.max_bytes = 1600 + ST_HEADER_OF_ONE;
    st_begin(&b);
    st_add(&b, "x", "F16", "100,4", half, sizeof half);
    st_finish(&b, 0);
    ck_assert_int_eq(parse(&r, &t, &b, NULL), SAE_OK);
    sae_request_fini(&r);
    t.max_bytes--;
    ck_assert_int_eq(parse(&r, &t, &b, &err), SAE_E_BODY_TOO_LARGE);
    ck_assert_str_eq(err.option, "--max-inflight-bytes");
    ck_assert_uint_eq(err.limit, t.max_bytes);
    ck_assert_uint_eq(err.got, t.max_bytes + 1);
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

struct counted {
    uint64_t calls, most, refuse_above;
};

static enum sae_status count(void *arg, uint64_t bytes, struct sae_err *err)
{
    struct counted *c = arg;

    c->calls++;
    if (bytes > c->refuse_above)
        return sae_err_set(err, SAE_E_OVERLOADED, "", "cannot hold %d", 1);
    if (bytes > c->most)
        c->most = bytes;
    return SAE_OK;
}

/* Header, x, ids and mask: each is told before it is there, and a refusal ends the reading. */
START_TEST(what_a_body_allocates_is_counted)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_FORWARD, 4, 8);
    struct counted c = {.refuse_above = UINT64_MAX};
    static const float x[4], mask[8];
    static const int64_t ids[1];
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;
    uint64_t all;

    t.hold = count;
    t.hold_arg = &c;
    st_begin(&b);
    st_add(&b, "x", "F32", "4", x, 16);
    st_add(&b, "ghost_mask", "F32", "8", mask, 32);
    st_add(&b, "features", "I64", "1", ids, 8);
    st_finish(&b, 0);
    r.opt.asked = r.opt.seen = SAE_OPT_OUTPUT_FEATURES;
    ck_assert_int_eq(parse(&r, &t, &b, NULL), SAE_OK);
    ck_assert_uint_eq(r.held_bytes, 16 + 32 + 4); /* the header is no longer there */
    sae_request_fini(&r);
    ck_assert_uint_eq(c.calls, 4);
    ck_assert_uint_ge(c.most, 3 * ST_HEADER_OF_ONE + 16 + 32 + 4);
    all = c.most;
    for (c.refuse_above = 0; c.refuse_above < all; c.refuse_above += 4) {
        r.opt.asked = r.opt.seen = SAE_OPT_OUTPUT_FEATURES;
        ck_assert_int_eq(parse(&r, &t, &b, &err), SAE_E_OVERLOADED);
        sae_request_fini(&r);
    }
    st_end(&b);
}
END_TEST

/* No tree is made of a header, but its keys are kept: so many and no more. */
static void header_of(struct st_body *b, int n_keys)
{
    st_begin(b);
    b->header.max = 1 << 24;
    ck_assert_int_eq(sae_buf_addf(&b->header, "\"__metadata__\":{"), SAE_OK);
    for (int i = 0; i < n_keys; i++)
        ck_assert_int_eq(sae_buf_addf(&b->header, "%s\"%d\":\"\"", i ? "," : "", i), SAE_OK);
    ck_assert_int_eq(sae_buf_addf(&b->header, "}"), SAE_OK);
    st_finish(b, 0);
}

START_TEST(keys_of_a_header_are_limited)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    header_of(&b, 65535);
    ck_assert_int_eq(parse(&r, &t, &b, &err), SAE_E_BAD_SHAPE); /* read whole: x is missing */
    st_end(&b);
    err = (struct sae_err){0};
    header_of(&b, 65536);
    ck_assert_int_eq(parse(&r, &t, &b, &err), SAE_E_BODY_TOO_LARGE);
    assert_err(err, SAE_E_BODY_TOO_LARGE, "it has 65537 keys, 65536 is the most");
    st_end(&b);
}
END_TEST

/* Whatever else an entry or the metadata holds is passed over, as the reference passes over it. */
static const char *const headers[] = {
    "\"__metadata__\":null",
    "\"__metadata__\":{}",
    "\"__metadata__\":{\"a\":\"}],\\\"\",\"b\":\"\\u00e9\"}",
    "\"__metadata__\" : { \"a\" : \"\" } ",
};
static const char *const entries[] = {
    "\"x\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}",
    "\"\\u0078\" : { \"shape\" : [ 4 ] , \"data_offsets\" : [ 0 , 16 ] , \"\\u0064type\" : "
    "\"F\\u00332\" }",
    "\"x\":{\"note\":{\"dtype\":\"F16\",\"a\":[1e999,{\"shape\":[]},[[]]]},\"dtype\":\"F32\","
    "\"shape\":[4],"
    "\"data_offsets\":[0,16],\"more\":null,\"text\":\"a:b\",\"n\":-1.5e3}",
};

START_TEST(headers_as_the_reference_reads_them)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    static const float x[4] = {1, 2, 3, 4};

    for (size_t i = 0; i < SAE_COUNTOF(entries); i++) {
        struct sae_request r = {0};
        struct sae_err err = {0};
        struct st_body b;

        st_begin(&b);
        ck_assert_int_eq(sae_buf_addf(&b.header, "%s,%s", headers[_i], entries[i]), SAE_OK);
        ck_assert_int_eq(sae_buf_add(&b.data, x, sizeof x), SAE_OK);
        st_finish(&b, 0);
        ck_assert_msg(parse(&r, &t, &b, &err) == SAE_OK, "%s", err.text);
        ck_assert_int_eq(memcmp(r.values, x, sizeof x), 0);
        sae_request_fini(&r);
        st_end(&b);
    }
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_FORWARD, 4, 8);
    static const float x[4], mask[8];
    static const int64_t ids[1];
    struct st_body b;
    int failures = 0;

    st_begin(&b);
    st_add(&b, "x", "F32", "4", x, 16);
    st_add(&b, "ghost_mask", "F32", "8", mask, 32);
    st_add(&b, "features", "I64", "1", ids, 8);
    st_finish(&b, 0);
    for (long i = 0;; i++) {
        struct sae_request r = {0};
        enum sae_status st;

        r.opt.asked = r.opt.seen = SAE_OPT_OUTPUT_FEATURES;
        sae_alloc_fault(i, false);
        st = sae_safetensors_parse(&r, &t, b.all.data, b.all.len, NULL);
        sae_alloc_fault(-1, false);
        sae_request_fini(&r);
        if (st == SAE_OK)
            break;
        ck_assert_int_eq(st, SAE_E_NOMEM);
        failures++;
    }
    ck_assert_int_eq(failures, 4); /* header, x, mask, features */
    st_end(&b);
}
END_TEST

/* ---- damage ------------------------------------------------------------------------------------
 */

static void good_body(struct st_body *b, enum sae_op op)
{
    static const float values[16] = {1.5f, -2.0f, 3.0f};
    static const int64_t ids[2] = {3, 7}, shape[2] = {2, 8};
    static const int32_t indptr[3] = {0, 1, 3}, indices[3] = {4, 6, 1};

    st_begin(b);
    if (op == SAE_OP_DECODE) {
        st_add(b, "f.shape", "I64", "2", shape, sizeof shape);
        st_add(b, "f.indptr", "I32", "3", indptr, sizeof indptr);
        st_add(b, "f.indices", "I32", "3", indices, sizeof indices);
        st_add(b, "f.values", "F32", "3", values, 12);
    } else {
        ck_assert_int_eq(sae_buf_addf(&b->header, "\"__metadata__\":{\"made\":\"by \\u0061\"}"),
                         SAE_OK);
        st_add(b, "x", "F64", "2,4", values, 64);
        st_add(b, "features", "I64", "2", ids, sizeof ids);
        st_add(b, "ghost_mask", "BOOL", "2,1", "\1\0", 2);
    }
    st_finish(b, 3);
}

/* What came out of a damaged body must hold together all the same. */
static void check_sound(const struct sae_request *r, const struct sae_target *t)
{
    ck_assert_uint_le(r->lead.n, SAE_MAX_DIMS - 1);
    if (r->is_sparse) {
        ck_assert_uint_eq(r->csr.indptr[0], 0);
        ck_assert_uint_eq(r->csr.indptr[r->n_rows], r->csr.nnz);
        for (size_t i = 0; i < r->csr.nnz; i++)
            ck_assert_uint_lt(r->csr.ids[i], t->dict_size);
    } else {
        float sum = 0;

        for (size_t i = 0; i < r->n_rows * t->activation_dim; i++)
            sum += r->values[i];
        ck_assert(sum == sum || sum != sum);
    }
    for (size_t i = 0; i < r->opt.n_features; i++)
        ck_assert_uint_lt(r->opt.features[i], t->dict_size);
}

static bool survives(const struct sae_target *t, const char *body, size_t n)
{
    char *exact = sae_realloc(NULL, n, 1); /* n bytes and no more: the sanitizer sees over-reads */
    struct sae_request r = {0};
    struct sae_err err = {0};
    enum sae_status st;

    memcpy(exact, body, n);
    r.opt.asked = r.opt.seen = t->op == SAE_OP_FORWARD ? SAE_OPT_OUTPUT_FEATURES : 0;
    st = sae_safetensors_parse(&r, t, exact, n, &err);
    if (st == SAE_OK) {
        check_sound(&r, t);
    } else {
        ck_assert_int_eq(st, err.status);
        ck_assert(st == SAE_E_MALFORMED_BODY || st == SAE_E_BAD_SHAPE || st == SAE_E_BAD_OPTION ||
                  st == SAE_E_BAD_NUMBER || st == SAE_E_BODY_TOO_LARGE);
    }
    sae_request_fini(&r);
    sae_free(exact);
    return st == SAE_OK;
}

START_TEST(every_prefix_and_every_changed_byte)
{
    enum sae_op op = _i ? SAE_OP_DECODE : SAE_OP_FORWARD;
    struct sae_target t = target_of(CLASS_AUTO, op, 4, 8);
    struct st_body b;

    good_body(&b, op);
    ck_assert(survives(&t, b.all.data, b.all.len));
    for (size_t n = 0; n < b.all.len; n++)
        ck_assert(!survives(&t, b.all.data, n));
    ck_assert_int_eq(sae_buf_add(&b.all, "", 1), SAE_OK);
    ck_assert(!survives(&t, b.all.data, b.all.len)); /* a byte too many */
    b.all.len--;
    for (size_t i = 0; i < b.all.len; i++) {
        char was = b.all.data[i];

        for (int c = 0; c < 256; c++) {
            b.all.data[i] = (char)c;
            survives(&t, b.all.data, b.all.len);
        }
        b.all.data[i] = was;
    }
    st_end(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_float_dtype_at_any_alignment);
    tcase_add_test(t, f64_is_rounded_and_overflow_is_bad_number);
    tcase_add_loop_test(t, leading_dimensions_are_kept, 0, SAE_COUNTOF(shapes));
    tcase_add_loop_test(t, faults_have_their_code, 0, SAE_COUNTOF(faults));
    tcase_add_loop_test(t, features_are_ids, 0, 5);
    tcase_add_test(t, no_features_are_legal);
    tcase_add_test(t, ghost_mask_of_bools_and_floats);
    tcase_add_loop_test(t, sparse_f_for_decode, 0, SAE_COUNTOF(sparse));
    tcase_add_test(t, top_form_for_decode);
    tcase_add_test(t, top_rows_of_no_columns);
    tcase_add_test(t, ids_of_32_bits_everywhere);
    tcase_add_loop_test(t, f_units_of_the_metadata, 0, SAE_COUNTOF(units));
    tcase_add_test(t, what_a_body_may_allocate_is_capped);
    tcase_add_test(t, what_a_body_allocates_is_counted);
    tcase_add_test(t, keys_of_a_header_are_limited);
    tcase_add_loop_test(t, headers_as_the_reference_reads_them, 0, SAE_COUNTOF(headers));
    tcase_add_test(t, out_of_memory_is_an_error);
    tcase_add_loop_test(t, every_prefix_and_every_changed_byte, 0, 2);
    suite_add_tcase(s, t);
    return run_suite(s);
}
