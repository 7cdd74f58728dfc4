/* test_json.c - request bodies that are right: tensors of every depth, options, sparse f, memory.
 */
#include "tests/unit/proto/json/json_fixture.h"

#include <check.h>
#include <math.h>

/* A body, what becomes of its tensor: "lead | values". */
struct tensor_case {
    enum sae_op op;
    const char *body, *want;
};

static const struct tensor_case tensors[] = {
    {SAE_OP_ENCODE, "{\"x\":[1,2,3]}", "| 1 2 3"},
    {SAE_OP_ENCODE, "\xef\xbb\xbf{\"x\":[1,2,3]}", "| 1 2 3"},
    {SAE_OP_ENCODE, "\xef\xbb\xbf\r\n {\"x\":[1,2,3]}\r\n", "| 1 2 3"},
    {SAE_OP_ENCODE, " {\t\"x\" :\r\n [ 1 , 2.5 ,\n-3e0 ] } \n", "| 1 2.5 -3"},
    {SAE_OP_ENCODE, "{\"\\u0078\":[[1,2,3]]}", "1 | 1 2 3"},
    {SAE_OP_FORWARD, "{\"x\":[[1,2,3],[4,5,6]]}", "2 | 1 2 3 4 5 6"},
    {SAE_OP_ENCODE, "{\"x\":[[[1,2,3]],[[4,5,6]]]}", "2 1 | 1 2 3 4 5 6"},
    {SAE_OP_ENCODE, "{\"x\":[[[[[[[[1,2,3]]]]]]]]}", "1 1 1 1 1 1 1 | 1 2 3"},
    {SAE_OP_ENCODE, "{\"x\":[]}", "0 |"},
    {SAE_OP_ENCODE, "{\"x\": [ ] }", "0 |"},
    {SAE_OP_ENCODE, "{\"x\":[\"NaN\",\"Infinity\",\"-Infinity\"]}", "| nan inf -inf"},
    {SAE_OP_ENCODE, "{\"x\":[\"N\\u0061N\",1,1]}", "| nan 1 1"},
    {SAE_OP_ENCODE, "{\"x\":[-0,-0.0,1e-400]}", "| -0 -0 0"},
    {SAE_OP_DECODE, "{\"f\":[1,0,0,0,0,6]}", "| 1 0 0 0 0 6"},
    {SAE_OP_DECODE, "{\"f\":[]}", "0 |"},
    {SAE_OP_DECODE, "{\"f\":{\"shape\":[6],\"indices\":[[5,1]],\"values\":[[2,3]]}}",
     "| 1:3 5:2 ;"},
    {SAE_OP_DECODE,
     "{\"f\":{\"values\":[[2],[],[3,4]],\"shape\":[3,6],\"indices\":[[0],[],[1,2]]}}",
     "3 | 0:2 ; ; 1:3 2:4 ;"},
    {SAE_OP_DECODE, "{\"f\":{\"indices\":[[0],[1]],\"values\":[[\"NaN\"],[0]],\"shape\":[2,1,6]}}",
     "2 1 | 0:nan ; 1:0 ;"},
    {SAE_OP_DECODE, "{\"f\":{\"shape\":[6],\"indices\":[5,1],\"values\":[2,3]}}", "| 1:3 5:2 ;"},
    {SAE_OP_DECODE, "{\"f\":{\"values\":[ \"NaN\" ],\"indices\":[ 4 ],\"shape\":[6]}}",
     "| 4:nan ;"},
    {SAE_OP_DECODE, "{\"f\":{\"shape\":[6],\"indices\":[],\"values\":[]}}", "| ;"},
    {SAE_OP_DECODE, "{\"f\":{\"indices\":[[]],\"shape\":[6],\"values\":[[]]}}", "| ;"},
    {SAE_OP_DECODE,
     "{\"gate\":{\"a\":[\"}\"]},\"f\":[1,0,0,0,0,6],\"f_units\":\"encode\",\"pre_jump\":null}",
     "| 1 0 0 0 0 6"},
    {SAE_OP_DECODE, "{\"f\":{\"shape\":[0,6],\"indices\":[],\"values\":[]}}", "0 |"},
    {SAE_OP_DECODE, "{\"f\":{\"shape\":[2,0,6],\"indices\":[],\"values\":[]}}", "2 0 |"},
    {SAE_OP_DECODE,
     "{\"f\":{\"shape\":[18446744073709551615,2,0,6],\"indices\":[ ],\"values\":[ ]}}",
     "18446744073709551615 2 0 |"},
    {SAE_OP_DECODE, "{\"f\":{\"shape\":[1,6],\"indices\":[[]],\"values\":[[]]}}", "1 | ;"},
};

static void show_float(char *s, size_t cap, double v)
{
    size_t n = strlen(s);

    snprintf(s + n, cap - n, isnan(v) ? " nan" : " %g", v);
}

/* The request in the notation of `want`. */
static void show(char *s, size_t cap, const struct sae_request *r, size_t width)
{
    size_t n = 0;

    s[0] = '\0';
    for (unsigned i = 0; i < r->lead.n; i++)
        n += (size_t)snprintf(s + n, cap - n, "%llu ", (unsigned long long)r->lead.dim[i]);
    snprintf(s + n, cap - n, "|");
    for (size_t i = 0; i < r->n_rows; i++) {
        for (size_t k = 0; !r->is_sparse && k < width; k++)
            show_float(s, cap, (double)r->values[i * width + k]);
        for (uint64_t k = r->is_sparse ? r->csr.indptr[i] : 0;
             r->is_sparse && k < r->csr.indptr[i + 1]; k++) {
            n = strlen(s);
            snprintf(s + n, cap - n, isnan((double)r->csr.values[k]) ? " %u:nan" : " %u:%g",
                     r->csr.ids[k], (double)r->csr.values[k]);
        }
        if (r->is_sparse) {
            n = strlen(s);
            snprintf(s + n, cap - n, " ;");
        }
    }
}

START_TEST(tensor_is_read)
{
    const struct tensor_case *c = &tensors[_i];
    struct sae_target t = fixture_target(c->op);
    struct sae_request r;
    struct sae_err err;
    char got[400];

    ck_assert_msg(fixture_parse(&r, &t, c->body, &err) == SAE_OK, "%s: %s", c->body, err.text);
    ck_assert_int_eq(r.is_sparse, strchr(c->want, ';') || strstr(c->body, "shape") != NULL);
    if (r.values)
        ck_assert_uint_eq((uintptr_t)r.values % 64, 0);
    show(got, sizeof got, &r, c->op == SAE_OP_DECODE ? 6 : 3);
    ck_assert_str_eq(got, c->want);
    sae_request_fini(&r);
}
END_TEST

/* Options: the bits that are seen and asked. */
struct option_case {
    enum sae_op op;
    const char *options;
    unsigned seen, asked;
};

#define ALL_OFF                                                                 \
    "\"sparse\":false,\"top_k\":null,\"features\":false,\"return_gate\":false," \
    "\"output_pre_jump\":null,\"output_features\":false,\"ghost_mask\":null"

static const struct option_case options[] = {
    {SAE_OP_ENCODE, ALL_OFF, 127, 0},
    {SAE_OP_DECODE, ALL_OFF, 127, 0},
    {SAE_OP_FORWARD, ALL_OFF, 127, 0},
    {SAE_OP_ENCODE, "\"sparse\" : true ", SAE_OPT_SPARSE, SAE_OPT_SPARSE},
    {SAE_OP_ENCODE, "\"top_k\":7", SAE_OPT_TOP_K, SAE_OPT_TOP_K},
    {SAE_OP_ENCODE, "\"features\":[]", SAE_OPT_FEATURES, SAE_OPT_FEATURES},
    {SAE_OP_FORWARD, "\"output_features\":true", SAE_OPT_OUTPUT_FEATURES, SAE_OPT_OUTPUT_FEATURES},
    {SAE_OP_FORWARD, "\"ghost_mask\":[1,1,1,1,1,1]", SAE_OPT_GHOST_MASK, SAE_OPT_GHOST_MASK},
};

START_TEST(options_are_noted)
{
    const struct option_case *c = &options[_i];
    struct sae_target t = fixture_target(c->op);
    struct sae_request r;
    struct sae_err err;
    char body[400];

    /* before the tensor, and behind it */
    for (int side = 0; side < 2; side++) {
        const char *tensor = c->op == SAE_OP_DECODE ? "\"f\":[]" : "\"x\":[]";

        snprintf(body, sizeof body, "{%s,%s}", side ? tensor : c->options,
                 side ? c->options : tensor);
        ck_assert_msg(fixture_parse(&r, &t, body, &err) == SAE_OK, "%s: %s", body, err.text);
        ck_assert_uint_eq(r.opt.seen, c->seen);
        ck_assert_uint_eq(r.opt.asked, c->asked);
        sae_request_fini(&r);
    }
}
END_TEST

START_TEST(option_values_are_kept)
{
    struct sae_target t = fixture_target(SAE_OP_ENCODE);
    struct sae_request r;
    struct sae_err err;

    ck_assert_int_eq(
        fixture_parse(&r, &t, "{\"top_k\":12,\"features\":[5, 0 ,5],\"x\":[1,2,3]}", &err), SAE_OK);
    ck_assert_uint_eq(r.opt.top_k, 12);
    ck_assert_uint_eq(r.opt.n_features, 3);
    ck_assert_uint_eq(r.opt.features[0], 5);
    ck_assert_uint_eq(r.opt.features[1], 0);
    ck_assert_uint_eq(r.opt.features[2], 5);
    sae_request_fini(&r);
    ck_assert_int_eq(
        fixture_parse(&r, &t, "{\"top_k\":99999999999999999999999,\"x\":[1,2,3]}", &err), SAE_OK);
    ck_assert(r.opt.top_k == UINT64_MAX);
    sae_request_fini(&r);
}
END_TEST

START_TEST(ghost_mask_takes_numbers_and_booleans)
{
    struct sae_target t = fixture_target(SAE_OP_FORWARD);
    struct sae_request r;
    struct sae_err err;

    ck_assert_int_eq(
        fixture_parse(&r, &t, "{\"x\":[[1,2,3],[4,5,6]],\"ghost_mask\":[[true],[false]]}", &err),
        SAE_OK);
    ck_assert_uint_eq(r.opt.n_ghost_mask, 2);
    ck_assert(r.opt.ghost_mask[0] == 1.0f && r.opt.ghost_mask[1] == 0.0f);
    ck_assert_uint_eq(r.opt.ghost_shape.n, 2);
    ck_assert_uint_eq(r.opt.ghost_shape.dim[0], 2);
    ck_assert_uint_eq(r.opt.ghost_shape.dim[1], 1);
    sae_request_fini(&r);
    ck_assert_int_eq(
        fixture_parse(&r, &t, "{\"ghost_mask\":[true,0.5,\"NaN\",false,1,-2],\"x\":[1,2,3]}", &err),
        SAE_OK);
    ck_assert_uint_eq(r.opt.ghost_shape.n, 1);
    ck_assert_uint_eq(r.opt.ghost_shape.dim[0], 6);
    ck_assert(r.opt.ghost_mask[1] == 0.5f && isnan(r.opt.ghost_mask[2]));
    sae_request_fini(&r);
}
END_TEST

START_TEST(option_of_the_query_counts_as_given)
{
    struct sae_target t = fixture_target(SAE_OP_ENCODE);
    struct sae_request r = {.opt = {.seen = SAE_OPT_TOP_K, .asked = SAE_OPT_TOP_K, .top_k = 3}};
    struct sae_err err = {0};
    const char *good = "{\"x\":[1,2,3]}", *twice = "{\"x\":[1,2,3],\"top_k\":null}";

    ck_assert_int_eq(sae_json_parse(&r, &t, good, strlen(good), &err), SAE_OK);
    ck_assert_uint_eq(r.opt.top_k, 3);
    sae_request_fini(&r);
    r = (struct sae_request){.opt = {.seen = SAE_OPT_TOP_K, .asked = SAE_OPT_TOP_K, .top_k = 3}};
    ck_assert_int_eq(sae_json_parse(&r, &t, twice, strlen(twice), &err), SAE_E_BAD_OPTION);
    ck_assert_ptr_nonnull(strstr(err.text, "top_k"));
    sae_request_fini(&r);
}
END_TEST

/* ---- size and memory ------------------------------------------------------------------------- */

START_TEST(two_million_numbers)
{
    const size_t rows = 2000000 / 768, width = 768;
    struct sae_target t = fixture_target(SAE_OP_ENCODE);
    char *body = malloc(rows * width * 16 + 64), *p = body;
    struct sae_request r = {0};
    struct sae_err err = {0};

    t.activation_dim = width;
    p += sprintf(p, "{\"x\":[");
    for (size_t i = 0; i < rows * width; i++) {
        if (i % width == 0)
            *p++ = '[';
        p += sprintf(p, "%.9g", (double)i / 7);
        if (i % width == width - 1)
            *p++ = ']';
        if (i + 1 < rows * width)
            *p++ = ',';
    }
    p += sprintf(p, "]}");
    sae_alloc_fault(-1, false);
    ck_assert_int_eq(sae_json_parse(&r, &t, body, (size_t)(p - body), &err), SAE_OK);
    ck_assert_uint_le(sae_alloc_count(), 3); /* none for each number or row */
    ck_assert_uint_eq(r.n_rows, rows);
    for (size_t i = 0; i < rows * width; i += 997) {
        char s[32];

        snprintf(s, sizeof s, "%.9g", (double)i / 7);
        ck_assert(r.values[i] == (float)atof(s));
    }
    sae_request_fini(&r);
    free(body);
}
END_TEST

static const struct {
    enum sae_op op;
    const char *body;
} allocating[] = {
    {SAE_OP_ENCODE, "{\"x\":[[1,2,3],[4,5,6],[7,8,9]],\"features\":[1,2]}"},
    {SAE_OP_FORWARD, "{\"x\":[1,2,3],\"ghost_mask\":[1,2,3,4,5,6]}"},
    {SAE_OP_DECODE, "{\"f\":{\"shape\":[2,6],\"indices\":[[1],[2,3]],\"values\":[[1],[2,3]]}}"},
    {SAE_OP_DECODE, "{\"f\":[[1,2,3,4,5,6],[1,2,3,4,5,6],[1,2,3,4,5,6]]}"},
};

START_TEST(each_allocation_may_fail)
{
    struct sae_target t = fixture_target(allocating[_i].op);
    unsigned long n;

    sae_alloc_fault(-1, false);
    ck_assert_int_eq(fixture_status(t.op, allocating[_i].body, strlen(allocating[_i].body)),
                     SAE_OK);
    n = sae_alloc_count();
    ck_assert_uint_ge(n, 1);
    for (unsigned long k = 0; k < n; k++)
        for (int persistent = 0; persistent < 2; persistent++) {
            struct sae_request r;
            struct sae_err err;

            sae_alloc_fault((long)k, persistent);
            ck_assert_int_eq(fixture_parse(&r, &t, allocating[_i].body, &err), SAE_E_NOMEM);
            ck_assert_int_eq(err.status, SAE_E_NOMEM);
            sae_alloc_fault(-1, false);
            sae_request_fini(&r);
        }
}
END_TEST

/* The cap holds for every array; a body that passes it alone is no matter of waiting (503). */
START_TEST(memory_is_capped)
{
    struct sae_target t = fixture_target(allocating[_i].op);
    struct sae_request r;
    struct sae_err err;

    t.max_bytes = 7;
    ck_assert_int_eq(fixture_parse(&r, &t, allocating[_i].body, &err), SAE_E_BODY_TOO_LARGE);
    ck_assert_str_eq(err.option, "--max-inflight-bytes");
    ck_assert_uint_eq(err.limit, 7);
    ck_assert_uint_gt(err.got, 7);
    sae_request_fini(&r);
}
END_TEST

struct counted {
    uint64_t last, refuse_above;
};

static enum sae_status count(void *arg, uint64_t bytes, struct sae_err *err)
{
    struct counted *c = arg;

    if (bytes > c->refuse_above)
        return sae_err_set(err, SAE_E_OVERLOADED, "", "cannot hold %d", 1);
    c->last = bytes;
    return SAE_OK;
}

/* Each array is told before it is there, with the room that it has to grow. */
START_TEST(memory_is_counted)
{
    struct sae_target t = fixture_target(allocating[_i].op);
    struct counted c = {.refuse_above = UINT64_MAX};
    struct sae_request r;
    struct sae_err err;
    uint64_t all;

    t.hold = count;
    t.hold_arg = &c;
    ck_assert_int_eq(fixture_parse(&r, &t, allocating[_i].body, &err), SAE_OK);
    all = c.last;
    ck_assert_uint_le(r.held_bytes, all);
    ck_assert_uint_ge(r.held_bytes,
                      (r.values ? r.n_rows * 12 : r.csr.nnz * 8 + (r.n_rows + 1) * 8) +
                          (r.opt.n_features + r.opt.n_ghost_mask) * 4);
    sae_request_fini(&r);
    for (c.refuse_above = 0; c.refuse_above < all; c.refuse_above++) {
        ck_assert_int_eq(fixture_parse(&r, &t, allocating[_i].body, &err), SAE_E_OVERLOADED);
        sae_request_fini(&r);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, tensor_is_read, 0, SAE_COUNTOF(tensors));
    tcase_add_loop_test(t, options_are_noted, 0, SAE_COUNTOF(options));
    tcase_add_test(t, option_values_are_kept);
    tcase_add_test(t, ghost_mask_takes_numbers_and_booleans);
    tcase_add_test(t, option_of_the_query_counts_as_given);
    tcase_add_test(t, two_million_numbers);
    tcase_add_loop_test(t, each_allocation_may_fail, 0, SAE_COUNTOF(allocating));
    tcase_add_loop_test(t, memory_is_capped, 0, SAE_COUNTOF(allocating));
    tcase_add_loop_test(t, memory_is_counted, 0, SAE_COUNTOF(allocating));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
