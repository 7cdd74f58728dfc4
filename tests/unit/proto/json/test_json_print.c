/* test_json_print.c - answers as JSON: the exact text, its bound, its limit, and that it reads
 * back. */
#include "tests/unit/proto/json/json_fixture.h"

#include <check.h>
#include <jansson.h>
#include <math.h>

static const float numbers[] = {1,         -0.0f, 0,     2.5f,   NAN, INFINITY,
                                -INFINITY, 0.1f,  1e10f, -1e-7f, 3,   4};
static const uint32_t ids[] = {2, 5, 0, 4294967294u};

static struct sae_sparse_row rows[] = {
    {ids, numbers + 3, 2},
    {NULL, NULL, 0},
    {ids + 2, numbers + 7, 2},
};

static struct sae_lead lead_of(const char *s)
{
    struct sae_lead lead = {0};

    for (; *s; s++)
        lead.dim[lead.n++] = (uint64_t)(*s - '0');
    return lead;
}

static struct sae_out_tensor dense(const char *name, uint64_t width)
{
    return (struct sae_out_tensor){.name = name, .width = width, .data = numbers};
}

/* One dense tensor: lead as digits, rows, width. */
static const struct {
    const char *lead;
    size_t n_rows, width;
    const char *want;
} shapes[] = {
    {"", 1, 3, "{\"f\":[1,-0.0,0]}"},
    {"1", 1, 3, "{\"f\":[[1,-0.0,0]]}"},
    {"2", 2, 2, "{\"f\":[[1,-0.0],[0,2.5]]}"},
    {"22", 4, 3,
     "{\"f\":[[[1,-0.0,0],[2.5,\"NaN\",\"Infinity\"]],[[\"-Infinity\",0.1,1e+10],[-1e-07,3,4]]]}"},
    {"1111111", 1, 1, "{\"f\":[[[[[[[[1]]]]]]]]}"},
    {"0", 0, 3, "{\"f\":[]}"},
    {"20", 0, 3, "{\"f\":[[],[]]}"},
    {"203", 0, 3, "{\"f\":[[],[]]}"},
    {"02", 0, 3, "{\"f\":[]}"},
    {"", 1, 0, "{\"f\":[]}"},
    {"2", 2, 0, "{\"f\":[[],[]]}"},
};

/* Print with every limit from nothing to more than enough: refused below the text's length, exact
 * from there on, and never more than the bound. The text is a line. */
static void check_print(const struct sae_answer *a, const char *text)
{
    char want[256];
    size_t n = (size_t)snprintf(want, sizeof want, "%s\n", text);

    ck_assert_uint_lt(n, sizeof want);
    ck_assert_msg(sae_json_bound(a) >= n, "bound %llu of %s", (unsigned long long)sae_json_bound(a),
                  want);
    for (size_t max = 0; max < n + 40; max++) {
        struct sae_body body = {0};
        struct sae_err err = {0};
        enum sae_status st = sae_json_print(&body, a, max, &err);

        if (st != (max < n ? SAE_E_RESPONSE_TOO_LARGE : SAE_OK))
            ck_abort_msg("max %zu: status %d", max, (int)st);
        if (st == SAE_OK && (body.n != n || memcmp(body.data, want, n) != 0))
            ck_abort_msg("got %.*s, want %s", (int)body.n, body.data, want);
        if (st != SAE_OK && (strcmp(err.option, "--max-response-bytes") != 0 || err.limit != max))
            ck_abort_msg("limit %llu", (unsigned long long)err.limit);
        sae_body_fini(&body);
    }
}

START_TEST(dense_tensor)
{
    struct sae_answer a = {.lead = lead_of(shapes[_i].lead),
                           .n_rows = shapes[_i].n_rows,
                           .n_tensors = 1,
                           .tensors = {dense("f", shapes[_i].width)}};

    if (shapes[_i].n_rows * shapes[_i].width == 0)
        a.tensors[0].data = NULL;
    check_print(&a, shapes[_i].want);
}
END_TEST

START_TEST(sparse_tensors)
{
    struct sae_answer a = {
        .lead = lead_of("31"),
        .n_rows = 3,
        .n_tensors = 1,
        .tensors = {
            {.name = "f", .form = SAE_FORM_SPARSE, .width = 4294967295u, .rows = rows, .nnz = 4}}};

    check_print(&a, "{\"f\":{\"shape\":[3,1,4294967295],\"indices\":[[2,5],[],[0,4294967294]],"
                    "\"values\":[[2.5,\"NaN\"],[],[0.1,1e+10]]}}");
    a.tensors[0].form = SAE_FORM_TOP;
    a.tensors[0].nnz = 2;
    a.tensors[0].width = 6;
    a.n_rows = 1;
    a.lead.n = 0; /* one list for a single vector */
    check_print(&a, "{\"f\":{\"shape\":[6],\"indices\":[[2,5]],\"values\":[[2.5,\"NaN\"]]}}");
    a.n_rows = 0;
    a.lead = lead_of("0");
    a.tensors[0].rows = NULL;
    a.tensors[0].nnz = 0;
    check_print(&a, "{\"f\":{\"shape\":[0,6],\"indices\":[],\"values\":[]}}");
}
END_TEST

START_TEST(several_tensors_and_units)
{
    struct sae_answer a = {.n_rows = 1,
                           .n_tensors = 3,
                           .tensors = {dense("x_hat", 1), dense("f", 2), dense("pre_jump", 1)},
                           .f_units = "encode"};

    check_print(&a, "{\"x_hat\":[1],\"f\":[1,-0.0],\"f_units\":\"encode\",\"pre_jump\":[1]}");
    a.n_tensors = 2;
    a.f_units = "decoder_norm";
    check_print(&a, "{\"x_hat\":[1],\"f\":[1,-0.0],\"f_units\":\"decoder_norm\"}");
    a.n_tensors = 1;
    a.f_units = NULL;
    check_print(&a, "{\"x_hat\":[1]}");
}
END_TEST

/* Shapes from a client may claim any number of empty lists: refused at once, not printed for hours.
 */
START_TEST(lists_of_nothing_are_bounded)
{
    struct sae_answer a = {.n_tensors = 1, .tensors = {dense("x_hat", 3)}};
    struct sae_body body = {0};
    struct sae_err err = {0};

    a.lead = (struct sae_lead){.n = 2, .dim = {1000000000000u, 0}};
    ck_assert(sae_json_bound(&a) > 2000000000000u && sae_json_bound(&a) < 4000000000000u);
    ck_assert_int_eq(sae_json_print(&body, &a, 1 << 20, &err), SAE_E_RESPONSE_TOO_LARGE);
    a.lead = (struct sae_lead){.n = 3, .dim = {UINT64_MAX / 2, 3, 0}};
    ck_assert(sae_json_bound(&a) == UINT64_MAX);
    ck_assert_int_eq(sae_json_print(&body, &a, 1 << 20, &err), SAE_E_RESPONSE_TOO_LARGE);
    a.lead = (struct sae_lead){.n = 3, .dim = {0, UINT64_MAX, UINT64_MAX}};
    ck_assert(sae_json_bound(&a) < 100);
    a.lead.n = 0;
    a.n_rows = SIZE_MAX;
    ck_assert(sae_json_bound(&a) == UINT64_MAX);
    ck_assert_ptr_null(body.data);
}
END_TEST

START_TEST(allocation_may_fail)
{
    struct sae_answer a = {.n_rows = 1, .n_tensors = 1, .tensors = {dense("f", 12)}};
    struct sae_body body = {0};
    struct sae_err err = {0};

    sae_alloc_fault(0, false);
    ck_assert_int_eq(sae_json_print(&body, &a, 1000, &err), SAE_E_NOMEM);
    ck_assert_ptr_null(body.data);
    /* cutting the buffer to size may fail too: it is sent as it is */
    sae_alloc_fault(1, true);
    ck_assert_int_eq(sae_json_print(&body, &a, 1000, NULL), SAE_OK);
    sae_alloc_fault(-1, false);
    ck_assert_uint_gt(body.n, 10);
    sae_body_fini(&body);
}
END_TEST

/* Random bits: the answer is JSON to jansson, and as a request it gives the same bits. */
START_TEST(answers_read_back)
{
    enum { ROWS = 400, WIDTH = 33 };
    float *v = malloc(ROWS * WIDTH * sizeof *v);
    struct fixture_rng g = {7};
    struct sae_target t = fixture_target(SAE_OP_ENCODE);
    struct sae_body body = {0};
    struct sae_err err = {0};
    struct sae_request r;
    json_error_t je;

    for (size_t i = 0; i < ROWS * WIDTH; i++) {
        uint32_t bits = fixture_random(&g, 1u << 16) << 16 | fixture_random(&g, 1u << 16);

        v[i] = i % 3 ? (float)bits * 0x1p-34f : sae_f32_from_bits(bits);
    }
    struct sae_answer a = {
        .lead = {.n = 2, .dim = {ROWS / 4, 4}},
        .n_rows = ROWS,
        .n_tensors = 1,
        .tensors = {{.name = "x", .width = WIDTH, .data = v}},
    };
    t.activation_dim = WIDTH;
    ck_assert_int_eq(sae_json_print(&body, &a, 1 << 24, &err), SAE_OK);
    ck_assert_uint_le(body.n, sae_json_bound(&a));
    json_t *j = json_loadb(body.data, body.n, JSON_DECODE_INT_AS_REAL, &je);
    ck_assert_msg(j != NULL, "%s", je.text);
    json_decref(j);
    ck_assert_int_eq(fixture_parse_n(&r, &t, body.data, body.n, &err), SAE_OK);
    ck_assert_uint_eq(r.n_rows, ROWS);
    ck_assert_uint_eq(r.lead.dim[0], ROWS / 4);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        if (sae_f32_bits(r.values[i]) != sae_f32_bits(v[i]) && !(isnan(v[i]) && isnan(r.values[i])))
            ck_abort_msg("%zu: %a became %a", i, (double)v[i], (double)r.values[i]);
    sae_request_fini(&r);
    sae_body_fini(&body);
    free(v);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json_print");
    TCase *t = tcase_create("json_print");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, dense_tensor, 0, SAE_COUNTOF(shapes));
    tcase_add_test(t, sparse_tensors);
    tcase_add_test(t, several_tensors_and_units);
    tcase_add_test(t, lists_of_nothing_are_bounded);
    tcase_add_test(t, allocation_may_fail);
    tcase_add_test(t, answers_read_back);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
