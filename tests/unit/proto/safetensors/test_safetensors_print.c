/* test_safetensors_print.c - answers as safetensors, read back by the container's own reader. */
#include "tests/unit/proto/wire_fixture.h"

#include "lib/num.h"
#include "lib/format/safetensors.h"

struct printed {
    struct sae_body body;
    struct sae_st_file file;
};

static void print(struct printed *p, const struct sae_answer *a)
{
    struct sae_err err = {0};
    const struct sae_st_rules rules = {
        .what = "body",
        .where = "",
        .max_header = SAE_ST_HEADER_MAX,
        .max_entries = 100,
        .max_keys = 400,
        .max_depth = 3,
        .strict = true,
        .malformed = SAE_E_MALFORMED_BODY,
        .twice = SAE_E_MALFORMED_BODY,
        .too_many = SAE_E_MALFORMED_BODY,
    };
    uint64_t bound = sae_safetensors_bound(a);
    struct sae_body again = {0};

    *p = (struct printed){0};
    ck_assert_msg(sae_safetensors_print(&p->body, a, (size_t)bound, &err) == SAE_OK, "%s",
                  err.text);
    ck_assert_uint_eq(p->body.n, bound); /* the bound is exact */
    ck_assert_str_eq(p->body.shape, "");
    ck_assert_uint_eq((8 + sae_le64(p->body.data)) % 8, 0);
    ck_assert_msg(sae_st_open(&p->file, &rules, p->body.data, p->body.n, &err) == SAE_OK, "%s",
                  err.text);
    ck_assert_int_eq(sae_safetensors_print(&again, a, (size_t)bound, NULL), SAE_OK);
    ck_assert_int_eq(memcmp(again.data, p->body.data, again.n), 0);
    sae_body_fini(&again);
    ck_assert_int_eq(sae_safetensors_print(&again, a, (size_t)bound - 1, &err),
                     SAE_E_RESPONSE_TOO_LARGE);
    ck_assert_uint_eq(err.got, bound);
    ck_assert_str_eq(err.option, "--max-response-bytes");
    ck_assert_ptr_null(again.data);
}

static void unprint(struct printed *p)
{
    sae_st_close(&p->file);
    sae_body_fini(&p->body);
}

/* A tensor's text: "I32 [2,3]". */
static void assert_part(const struct printed *p, const char *name, const char *want,
                        const void *data, size_t n)
{
    const struct sae_st_tensor *ts = sae_st_find(&p->file, name);
    char text[200];
    size_t len;

    ck_assert_msg(ts != NULL, "%s is missing", name);
    len = (size_t)snprintf(text, sizeof text, "%s [", ts->dtype->safetensors);
    for (unsigned i = 0; i < ts->ndim; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%llu", i ? "," : "",
                                (unsigned long long)ts->shape[i]);
    snprintf(text + len, sizeof text - len, "]");
    ck_assert_str_eq(text, want);
    ck_assert_uint_eq(ts->end - ts->begin, n);
    ck_assert_int_eq(memcmp(ts->data, data, n), 0);
    /* aligned to its item, as the body is */
    ck_assert_uint_eq((uintptr_t)ts->data % (ts->dtype->bits / 8), 0);
}

START_TEST(dense_tensors_and_units)
{
    static const float x_hat[6] = {1, 2, 3, 4, 5, 6}, f[9] = {0.5f, 7};
    struct sae_answer a = {
        .lead = {1, {3}}, .n_rows = 3, .n_tensors = 2, .f_units = "decoder_norm"};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){.name = "x_hat", .width = 2, .data = x_hat};
    a.tensors[1] = (struct sae_out_tensor){.name = "f", .width = 3, .data = f};
    print(&p, &a);
    ck_assert_uint_eq(p.file.n, 2);
    assert_part(&p, "x_hat", "F32 [3,2]", x_hat, sizeof x_hat);
    assert_part(&p, "f", "F32 [3,3]", f, sizeof f);
    ck_assert(memcmp(p.body.data + 8, "{\"__metadata__\":{\"f_units\":\"decoder_norm\"},", 43) ==
              0);
    unprint(&p);

    /* a single vector, no units */
    a = (struct sae_answer){.n_rows = 1, .n_tensors = 1};
    a.tensors[0] = (struct sae_out_tensor){.name = "x_hat", .width = 6, .data = x_hat};
    print(&p, &a);
    assert_part(&p, "x_hat", "F32 [6]", x_hat, sizeof x_hat);
    ck_assert(memcmp(p.body.data + 8, "{\"x_hat\":", 9) == 0);
    unprint(&p);

    /* no rows; no columns */
    a = (struct sae_answer){.lead = {2, {0, 5}}, .n_rows = 0, .n_tensors = 1};
    a.tensors[0] = (struct sae_out_tensor){.name = "f", .width = 6};
    print(&p, &a);
    assert_part(&p, "f", "F32 [0,5,6]", "", 0);
    unprint(&p);
    a = (struct sae_answer){.lead = {1, {3}}, .n_rows = 3, .n_tensors = 1};
    a.tensors[0] = (struct sae_out_tensor){.name = "f", .width = 0};
    print(&p, &a);
    assert_part(&p, "f", "F32 [3,0]", "", 0);
    unprint(&p);
}
END_TEST

static const uint32_t ids0[] = {1, 4, 9}, ids2[] = {0};
static const float val0[] = {0.5f, -1, 3}, val2[] = {8}, aux0[] = {10, 11, 12}, aux2[] = {13};
static const struct sae_sparse_row f_rows[] = {{ids0, val0, 3}, {NULL, NULL, 0}, {ids2, val2, 1}};
static const struct sae_sparse_row aux_rows[] = {{ids0, aux0, 3}, {NULL, NULL, 0}, {ids2, aux2, 1}};

START_TEST(sparse_tensors_are_csr)
{
    struct sae_answer a = {.lead = {2, {3, 1}}, .n_rows = 3, .n_tensors = 2};
    const int32_t indptr[] = {0, 3, 3, 4}, indices[] = {1, 4, 9, 0};
    const float values[] = {0.5f, -1, 3, 8}, gate[] = {10, 11, 12, 13};
    const int64_t shape[] = {3, 1, 10};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){
        .name = "f", .form = SAE_FORM_SPARSE, .width = 10, .rows = f_rows, .nnz = 4};
    a.tensors[1] = (struct sae_out_tensor){
        .name = "gate", .form = SAE_FORM_SPARSE, .width = 10, .rows = aux_rows, .nnz = 4};
    print(&p, &a);
    ck_assert_uint_eq(p.file.n, 8);
    assert_part(&p, "f.indptr", "I32 [4]", indptr, sizeof indptr);
    assert_part(&p, "f.indices", "I32 [4]", indices, sizeof indices);
    assert_part(&p, "f.values", "F32 [4]", values, sizeof values);
    assert_part(&p, "f.shape", "I64 [3]", shape, sizeof shape);
    assert_part(&p, "gate.values", "F32 [4]", gate, sizeof gate);
    assert_part(&p, "gate.shape", "I64 [3]", shape, sizeof shape);
    unprint(&p);
}
END_TEST

START_TEST(a_sparse_answer_is_a_sparse_request)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 10);
    struct sae_answer a = {.lead = {1, {3}}, .n_rows = 3, .n_tensors = 1};
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){
        .name = "f", .form = SAE_FORM_SPARSE, .width = 10, .rows = f_rows, .nnz = 4};
    print(&p, &a);
    ck_assert_msg(sae_safetensors_parse(&r, &t, p.body.data, p.body.n, &err) == SAE_OK, "%s",
                  err.text);
    ck_assert_uint_eq(r.n_rows, 3);
    ck_assert_uint_eq(r.csr.nnz, 4);
    ck_assert_int_eq(memcmp(r.csr.ids, ids0, sizeof ids0), 0);
    ck_assert_int_eq(memcmp(r.csr.values, val0, sizeof val0), 0);
    sae_request_fini(&r);
    unprint(&p);
}
END_TEST

START_TEST(no_rows_of_sparse)
{
    struct sae_answer a = {.lead = {1, {0}}, .n_rows = 0, .n_tensors = 1};
    const int64_t shape[] = {0, 10};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){.name = "f", .form = SAE_FORM_SPARSE, .width = 10};
    print(&p, &a);
    assert_part(&p, "f.indptr", "I32 [1]", "\0\0\0", 4);
    assert_part(&p, "f.indices", "I32 [0]", "", 0);
    assert_part(&p, "f.shape", "I64 [2]", shape, sizeof shape);
    unprint(&p);
    a.tensors[0].form = SAE_FORM_TOP;
    a.tensors[0].top_width = 4;
    print(&p, &a);
    assert_part(&p, "f.top_indices", "I32 [0,4]", "", 0);
    unprint(&p);
}
END_TEST

START_TEST(tops_are_rectangular_with_lowest_inactive_ids)
{
    static const uint32_t r0[] = {9, 2, 0, 1}, r1[] = {1, 9}, r2[] = {3};
    static const float v0[] = {4, 3, 2, 1}, v1[] = {5, 4}, v2[] = {6};
    static const float g0[] = {14, 13, 12, 11}, g1[] = {15, 14}, g2[] = {16};
    static const struct sae_sparse_row f[] = {
        {r0, v0, 4}, {r1, v1, 2}, {r2, v2, 1}, {NULL, NULL, 0}};
    static const struct sae_sparse_row g[] = {
        {r0, g0, 4}, {r1, g1, 2}, {r2, g2, 1}, {NULL, NULL, 0}};
    struct sae_answer a = {.lead = {2, {2, 2}}, .n_rows = 4, .n_tensors = 2};
    const int32_t indices[] = {9, 2, 0, 1, 1, 9, 0, 2, 3, 0, 1, 2, 0, 1, 2, 3};
    const float values[] = {4, 3, 2, 1, 5, 4, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0},
                gate[] = {14, 13, 12, 11, 15, 14, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){
        .name = "f", .form = SAE_FORM_TOP, .width = 10, .rows = f, .nnz = 7, .top_width = 4};
    a.tensors[1] = a.tensors[0];
    a.tensors[1].name = "gate";
    a.tensors[1].rows = g;
    print(&p, &a);
    ck_assert_uint_eq(p.file.n, 4);
    assert_part(&p, "f.top_indices", "I32 [2,2,4]", indices, sizeof indices);
    assert_part(&p, "f.top_values", "F32 [2,2,4]", values, sizeof values);
    assert_part(&p, "gate.top_indices", "I32 [2,2,4]", indices, sizeof indices);
    assert_part(&p, "gate.top_values", "F32 [2,2,4]", gate, sizeof gate);
    unprint(&p);
}
END_TEST

/* By layout=csr what top_k leaves is CSR, in the order of values; by dtype its values have 16 bits,
 * behind all that has more, so that every part is aligned. */
START_TEST(tops_may_be_csr_of_16_bits)
{
    static const uint32_t r0[] = {9, 2, 0}, r1[] = {1};
    static const float v0[] = {4, 3, 1 + 0x1p-8f}, v1[] = {5};
    static const struct sae_sparse_row f[] = {{r0, v0, 3}, {r1, v1, 1}, {NULL, NULL, 0}};
    static const float x_hat[] = {1, 2, 3};
    const uint16_t values[] = {0x4080, 0x4040, 0x3f80, 0x40a0}, dense[] = {0x3f80, 0x4000, 0x4040};
    const struct sae_media_type type = {SAE_MEDIA_SAFETENSORS, true, SAE_DTYPE_BF16, SAE_WIRE_CSR};
    const int32_t indptr[] = {0, 3, 4, 4}, indices[] = {9, 2, 0, 1};
    const int64_t shape[] = {3, 10};
    struct sae_answer a = {.lead = {1, {3}}, .n_rows = 3, .n_tensors = 2};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){.name = "x_hat", .width = 1, .data = x_hat};
    a.tensors[1] = (struct sae_out_tensor){
        .name = "f", .form = SAE_FORM_TOP, .width = 10, .rows = f, .nnz = 4, .top_width = 3};
    ck_assert_uint_eq(sae_media_can(&a), 1u << SAE_MEDIA_JSON | 1u << SAE_MEDIA_SAFETENSORS |
                                             SAE_CAN_CSR | SAE_CAN_TOP);
    sae_answer_as(&a, &type);
    print(&p, &a);
    ck_assert_uint_eq(p.file.n, 5);
    assert_part(&p, "x_hat", "BF16 [3,1]", dense, sizeof dense);
    assert_part(&p, "f.indptr", "I32 [4]", indptr, sizeof indptr);
    assert_part(&p, "f.indices", "I32 [4]", indices, sizeof indices);
    assert_part(&p, "f.values", "BF16 [4]", values, sizeof values);
    assert_part(&p, "f.shape", "I64 [2]", shape, sizeof shape);
    unprint(&p);
}
END_TEST

START_TEST(tops_have_values_of_16_bits)
{
    static const uint32_t r0[] = {9, 2}, r1[] = {1};
    static const float v0[] = {4, 65520}, v1[] = {0x1p-24f};
    static const struct sae_sparse_row f[] = {{r0, v0, 2}, {r1, v1, 1}};
    const struct sae_media_type type = {SAE_MEDIA_SAFETENSORS, true, SAE_DTYPE_F16, SAE_WIRE_TOP};
    const uint16_t values[] = {0x4400, 0x7c00, 0, 1, 0, 0};
    const int32_t indices[] = {9, 2, 0, 1, 0, 2};
    struct sae_answer a = {.lead = {1, {2}}, .n_rows = 2, .n_tensors = 1};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){
        .name = "f", .form = SAE_FORM_TOP, .width = 10, .rows = f, .nnz = 3, .top_width = 3};
    sae_answer_as(&a, &type);
    print(&p, &a);
    assert_part(&p, "f.top_indices", "I32 [2,3]", indices, sizeof indices);
    assert_part(&p, "f.top_values", "F16 [2,3]", values, sizeof values);
    unprint(&p);
}
END_TEST

START_TEST(fillers_come_from_the_candidates)
{
    static const uint32_t r0[] = {9, 5}, r1[] = {3, 9}, candidates[] = {3, 5, 7, 9};
    static const float v0[] = {4, 3}, v1[] = {5, 4};
    static const struct sae_sparse_row f[] = {{r0, v0, 2}, {r1, v1, 2}, {NULL, NULL, 0}};
    struct sae_answer a = {.lead = {1, {3}}, .n_rows = 3, .n_tensors = 1};
    const int32_t indices[] = {9, 5, 3, 3, 9, 5, 3, 5, 7};
    const float values[] = {4, 3, 0, 5, 4, 0, 0, 0, 0};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){.name = "f",
                                           .form = SAE_FORM_TOP,
                                           .width = 10,
                                           .rows = f,
                                           .nnz = 4,
                                           .top_width = 3,
                                           .candidates = candidates,
                                           .n_candidates = 4};
    print(&p, &a);
    assert_part(&p, "f.top_indices", "I32 [3,3]", indices, sizeof indices);
    assert_part(&p, "f.top_values", "F32 [3,3]", values, sizeof values);
    unprint(&p);

    /* no candidates at all: no columns */
    a.tensors[0].top_width = 0;
    a.tensors[0].n_candidates = 0;
    a.tensors[0].nnz = 0;
    a.tensors[0].rows = (const struct sae_sparse_row[3]){{0}};
    print(&p, &a);
    assert_part(&p, "f.top_indices", "I32 [3,0]", "", 0);
    unprint(&p);
}
END_TEST

START_TEST(a_top_answer_of_one_vector)
{
    static const uint32_t r0[] = {2};
    static const float v0[] = {4};
    static const struct sae_sparse_row f[] = {{r0, v0, 1}};
    struct sae_answer a = {.n_rows = 1, .n_tensors = 1, .f_units = "encode"};
    const int32_t indices[] = {2, 0, 1};
    struct printed p;

    a.tensors[0] = (struct sae_out_tensor){
        .name = "f", .form = SAE_FORM_TOP, .width = 3, .rows = f, .nnz = 1, .top_width = 3};
    print(&p, &a);
    assert_part(&p, "f.top_indices", "I32 [3]", indices, sizeof indices);
    unprint(&p);
}
END_TEST

START_TEST(what_i32_cannot_number_is_too_large)
{
    struct sae_answer a = {.lead = {1, {3}}, .n_rows = 3, .n_tensors = 1};
    struct sae_body b = {0};

    a.tensors[0] = (struct sae_out_tensor){.name = "f",
                                           .form = SAE_FORM_SPARSE,
                                           .width = 10,
                                           .rows = f_rows,
                                           .nnz = (uint64_t)INT32_MAX + 1};
    ck_assert_int_eq(sae_safetensors_print(&b, &a, SIZE_MAX, NULL), SAE_E_RESPONSE_TOO_LARGE);
    a.tensors[0].nnz = UINT64_MAX / 2;
    ck_assert_uint_eq(sae_safetensors_bound(&a), UINT64_MAX);
    /* rows that do not hold what is announced are our own mistake and write nothing */
    a.tensors[0].nnz = 3;
    ck_assert_int_eq(sae_safetensors_print(&b, &a, SIZE_MAX, NULL), SAE_E_INTERNAL);
    a.tensors[0].form = SAE_FORM_TOP;
    a.tensors[0].top_width = 2;
    ck_assert_int_eq(sae_safetensors_print(&b, &a, SIZE_MAX, NULL), SAE_E_INTERNAL);
    ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
    struct sae_answer a = {.lead = {1, {3}}, .n_rows = 3, .n_tensors = 1};
    struct sae_body b = {0};

    a.tensors[0] = (struct sae_out_tensor){
        .name = "f", .form = SAE_FORM_SPARSE, .width = 10, .rows = f_rows, .nnz = 4};
    for (long i = 0; i < 2; i++) {
        sae_alloc_fault(i, false);
        ck_assert_int_eq(sae_safetensors_print(&b, &a, SIZE_MAX, NULL), SAE_E_NOMEM);
        sae_alloc_fault(-1, false);
        ck_assert_ptr_null(b.data);
    }
}
END_TEST

/* The longest header: every tensor of an operation on rows sparse, eight dimensions of twenty
 * digits. Those of weights are more, and dense. */
START_TEST(the_longest_header_fits)
{
    static const char *const names[] = {"x_hat", "f", "pre_jump", "x_ghost", "input_state"};
    struct sae_answer a = {
        .lead = {7, {0}}, .n_rows = 0, .n_tensors = SAE_COUNTOF(names), .f_units = "decoder_norm"};
    struct printed p;

    for (unsigned i = 1; i < 7; i++)
        a.lead.dim[i] = INT64_MAX;
    for (unsigned i = 0; i < SAE_COUNTOF(names); i++)
        a.tensors[i] = (struct sae_out_tensor){.name = names[i],
                                               .form = i % 2 ? SAE_FORM_TOP : SAE_FORM_SPARSE,
                                               .width = INT32_MAX,
                                               .top_width = 16};
    print(&p, &a);
    ck_assert_uint_eq(p.file.n, 16);
    unprint(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("safetensors_print");
    TCase *t = tcase_create("safetensors_print");

    tcase_add_test(t, dense_tensors_and_units);
    tcase_add_test(t, sparse_tensors_are_csr);
    tcase_add_test(t, a_sparse_answer_is_a_sparse_request);
    tcase_add_test(t, no_rows_of_sparse);
    tcase_add_test(t, tops_are_rectangular_with_lowest_inactive_ids);
    tcase_add_test(t, tops_may_be_csr_of_16_bits);
    tcase_add_test(t, tops_have_values_of_16_bits);
    tcase_add_test(t, fillers_come_from_the_candidates);
    tcase_add_test(t, a_top_answer_of_one_vector);
    tcase_add_test(t, what_i32_cannot_number_is_too_large);
    tcase_add_test(t, out_of_memory_is_an_error);
    tcase_add_test(t, the_longest_header_fits);
    suite_add_tcase(s, t);
    return run_suite(s);
}
