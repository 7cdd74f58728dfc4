/* test_wire.c - options of every class and operation, the checks after a parse, the codec table. */
#include "tests/unit/proto/wire_fixture.h"

#include <stdlib.h>

#define SHAPING (SAE_OPT_SPARSE | SAE_OPT_TOP_K | SAE_OPT_FEATURES)

/* The table of spec section 1, written out. */
static const struct {
    int class_index;
    enum sae_op op;
    unsigned takes;
} table[] = {
    {CLASS_AUTO, SAE_OP_ENCODE, SHAPING},
    {CLASS_IDENTITY, SAE_OP_ENCODE, SHAPING},
    {CLASS_GATED, SAE_OP_ENCODE, SHAPING | SAE_OPT_RETURN_GATE},
    {CLASS_JUMP, SAE_OP_ENCODE, SHAPING | SAE_OPT_OUTPUT_PRE_JUMP},
    {CLASS_NEW, SAE_OP_ENCODE, SHAPING},
    {CLASS_AUTO, SAE_OP_DECODE, 0},
    {CLASS_IDENTITY, SAE_OP_DECODE, 0},
    {CLASS_GATED, SAE_OP_DECODE, 0},
    {CLASS_JUMP, SAE_OP_DECODE, 0},
    {CLASS_NEW, SAE_OP_DECODE, 0},
    {CLASS_AUTO, SAE_OP_FORWARD, SHAPING | SAE_OPT_OUTPUT_FEATURES | SAE_OPT_GHOST_MASK},
    {CLASS_IDENTITY, SAE_OP_FORWARD, SHAPING | SAE_OPT_OUTPUT_FEATURES | SAE_OPT_GHOST_MASK},
    {CLASS_GATED, SAE_OP_FORWARD, SHAPING | SAE_OPT_OUTPUT_FEATURES},
    {CLASS_JUMP, SAE_OP_FORWARD, SHAPING | SAE_OPT_OUTPUT_FEATURES | SAE_OPT_OUTPUT_PRE_JUMP},
    {CLASS_NEW, SAE_OP_FORWARD, SHAPING | SAE_OPT_OUTPUT_FEATURES},
};

START_TEST(options_are_those_of_the_table)
{
    struct sae_target t = target_of(table[_i].class_index, table[_i].op, 4, 8);

    ck_assert_uint_eq(sae_options_of(&t), table[_i].takes);
    for (size_t k = 0; k < SAE_N_OPTIONS; k++) {
        unsigned bit = sae_option_defs[k].bit;
        struct sae_request r = {.n_rows = 1, .opt = {.asked = bit, .top_k = 3}};
        struct sae_err err = {0};
        enum sae_status st;

        if (t.op == SAE_OP_FORWARD && (table[_i].takes & bit & SHAPING))
            r.opt.asked |= SAE_OPT_OUTPUT_FEATURES;
        if (bit == SAE_OPT_GHOST_MASK) {
            r.opt.ghost_shape = (struct sae_lead){.n = 1, .dim = {8}};
            r.opt.n_ghost_mask = 8;
        }
        st = sae_request_check(&r, &t, &err);
        if (table[_i].takes & bit) {
            ck_assert_msg(st == SAE_OK, "%s", err.text);
        } else {
            ck_assert_int_eq(st, SAE_E_BAD_OPTION);
            assert_err(err, SAE_E_BAD_OPTION, option_name(bit));
            assert_err(err, SAE_E_BAD_OPTION, t.class_name);
            ck_assert_str_eq(err.where, option_name(bit));
        }
    }
}
END_TEST

START_TEST(refusal_names_option_class_and_operation)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {.n_rows = 1, .opt = {.asked = SAE_OPT_RETURN_GATE}};
    struct sae_err err = {0};

    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_OPTION);
    ck_assert_str_eq(err.text, "cannot use return_gate: AutoEncoder.encode does not take it (takes "
                               "sparse, top_k, features)");
    t.op = SAE_OP_DECODE;
    r.opt.asked = SAE_OPT_SPARSE;
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_OPTION);
    ck_assert_str_eq(err.text,
                     "cannot use sparse: AutoEncoder.decode does not take it (takes no options)");
}
END_TEST

START_TEST(forward_shapes_f_only_when_f_is_asked)
{
    static const unsigned shaping[] = {SAE_OPT_SPARSE, SAE_OPT_TOP_K, SAE_OPT_FEATURES};
    struct sae_target t = target_of(CLASS_JUMP, SAE_OP_FORWARD, 4, 8);

    for (size_t i = 0; i < SAE_COUNTOF(shaping); i++) {
        struct sae_request r = {.n_rows = 1, .opt = {.asked = shaping[i], .top_k = 1}};
        struct sae_err err = {0};

        ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_OPTION);
        assert_err(err, SAE_E_BAD_OPTION, "add output_features");
        assert_err(err, SAE_E_BAD_OPTION, option_name(shaping[i]));
        r.opt.asked = shaping[i] | SAE_OPT_OUTPUT_FEATURES;
        ck_assert_int_eq(sae_request_check(&r, &t, NULL), SAE_OK);
        r.opt.asked = shaping[i] | SAE_OPT_OUTPUT_PRE_JUMP;
        ck_assert_int_eq(sae_request_check(&r, &t, NULL), SAE_OK);
    }
}
END_TEST

START_TEST(top_k_and_ids_have_their_range)
{
    struct sae_target t = target_of(CLASS_NEW, SAE_OP_ENCODE, 4, 8);
    uint32_t ids[] = {7, 0, 7, 8};
    struct sae_request r = {.n_rows = 1,
                            .opt = {.asked = SAE_OPT_FEATURES, .features = ids, .n_features = 3}};
    struct sae_err err = {0};

    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_OK);
    r.opt.n_features = 4;
    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_OPTION);
    assert_err(err, SAE_E_BAD_OPTION, "item 3 is 8, the ids of \"test\" are 0 to 7");
    ids[3] = UINT32_MAX;
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_OPTION);
    assert_err(err, SAE_E_BAD_OPTION, "item 3 is more than 4294967294");
    r.opt = (struct sae_options){.asked = SAE_OPT_TOP_K, .top_k = UINT64_MAX};
    ck_assert_int_eq(sae_request_check(&r, &t, NULL), SAE_OK);
    r.opt.top_k = 0;
    ck_assert_int_eq(sae_request_check(&r, &t, NULL), SAE_E_BAD_OPTION);
}
END_TEST

START_TEST(an_option_is_seen_once)
{
    struct sae_options opt = {0};
    struct sae_err err = {0};

    for (size_t i = 0; i < SAE_N_OPTIONS; i++) {
        const struct sae_option_def *def = &sae_option_defs[i];

        ck_assert_ptr_eq(sae_option_by_name(def->name, strlen(def->name)), def);
        ck_assert_ptr_null(sae_option_by_name(def->name, strlen(def->name) - 1));
        ck_assert_int_eq(sae_option_seen(&opt, def, NULL), SAE_OK);
        ck_assert_int_eq(sae_option_seen(&opt, def, &err), SAE_E_BAD_OPTION);
        assert_err(err, SAE_E_BAD_OPTION, def->name);
        err = (struct sae_err){0};
    }
    ck_assert_uint_eq(opt.asked, 0);
}
END_TEST

/* ---- ghost masks ------------------------------------------------------------------------------
 */

static const struct {
    struct sae_lead lead, shape;
    bool fits;
    size_t row, col;
} ghosts[] = {
    {{2, {2, 3}}, {1, {8}}, true, 0, 1},        {{2, {2, 3}}, {3, {2, 3, 1}}, true, 1, 0},
    {{2, {2, 3}}, {3, {2, 3, 8}}, true, 8, 1},  {{2, {2, 3}}, {2, {6, 8}}, false, 0, 0},
    {{2, {2, 3}}, {3, {3, 2, 8}}, false, 0, 0}, {{2, {2, 3}}, {3, {2, 3, 4}}, false, 0, 0},
    {{2, {2, 3}}, {2, {2, 3}}, false, 0, 0},    {{2, {2, 3}}, {1, {1}}, false, 0, 0},
    {{2, {2, 3}}, {0, {0}}, false, 0, 0},       {{0, {0}}, {1, {8}}, true, 0, 1},
    {{0, {0}}, {1, {1}}, true, 1, 0},           {{0, {0}}, {1, {4}}, false, 0, 0},
    {{0, {0}}, {2, {1, 8}}, false, 0, 0},       {{1, {0}}, {2, {0, 8}}, true, 8, 1},
    {{1, {0}}, {1, {0}}, true, 8, 1},           {{1, {0}}, {1, {8}}, true, 0, 1},
    {{1, {8}}, {1, {8}}, true, 0, 1},           {{1, {8}}, {2, {8, 8}}, true, 8, 1},
};

START_TEST(ghost_mask_has_one_of_three_shapes)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_FORWARD, 4, 8);
    struct sae_request r = {.lead = ghosts[_i].lead, .n_rows = 1};
    struct sae_err err = {0};
    enum sae_status st;

    r.opt.asked = SAE_OPT_GHOST_MASK;
    r.opt.ghost_shape = ghosts[_i].shape;
    r.opt.n_ghost_mask = 1;
    for (unsigned i = 0; i < r.lead.n; i++)
        r.n_rows *= (size_t)r.lead.dim[i];
    for (unsigned i = 0; i < r.opt.ghost_shape.n; i++)
        r.opt.n_ghost_mask *= (size_t)r.opt.ghost_shape.dim[i];
    r.opt.ghost_mask = sae_alloc(r.opt.n_ghost_mask, sizeof(float));
    st = sae_request_check(&r, &t, &err);
    if (ghosts[_i].fits) {
        ck_assert_msg(st == SAE_OK, "%s", err.text);
        ck_assert_uint_eq(r.opt.ghost_row, ghosts[_i].row);
        ck_assert_uint_eq(r.opt.ghost_col, ghosts[_i].col);
    } else {
        ck_assert_int_eq(st, SAE_E_BAD_SHAPE);
        assert_err(err, SAE_E_BAD_SHAPE, "ghost_mask");
    }
    sae_request_fini(&r);
}
END_TEST

START_TEST(ghost_refusal_names_the_shapes)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_FORWARD, 4, 8);
    struct sae_request r = {.lead = {2, {2, 3}}, .n_rows = 6};
    struct sae_err err = {0};

    r.opt.asked = SAE_OPT_GHOST_MASK;
    r.opt.ghost_shape = (struct sae_lead){2, {5, 7}};
    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_SHAPE);
    assert_err(err, SAE_E_BAD_SHAPE, "is [5, 7], wanted [8], [2, 3, 1] or [2, 3, 8]");
    err = (struct sae_err){0};
    r.lead.n = 0;
    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_SHAPE);
    assert_err(err, SAE_E_BAD_SHAPE, "wanted [8], [1] or [8]");
}
END_TEST

START_TEST(identity_does_not_look_at_a_ghost_mask)
{
    struct sae_target t = target_of(CLASS_IDENTITY, SAE_OP_FORWARD, 8, 8);
    struct sae_request r = {.lead = {1, {2}}, .n_rows = 2};

    r.opt.asked = SAE_OPT_GHOST_MASK | SAE_OPT_OUTPUT_FEATURES;
    r.opt.ghost_shape = (struct sae_lead){1, {3}};
    r.opt.ghost_mask = sae_alloc(3, sizeof(float));
    r.opt.n_ghost_mask = 3;
    ck_assert_int_eq(sae_request_check(&r, &t, NULL), SAE_OK);
    ck_assert_ptr_null(r.opt.ghost_mask);
    ck_assert_uint_eq(r.opt.asked, SAE_OPT_OUTPUT_FEATURES);
    sae_request_fini(&r);
}
END_TEST

/* ---- sparse f ---------------------------------------------------------------------------------
 */

/* A request of two rows: the second has n ids as given, and value id + 0.5 for each. */
static struct sae_request sparse_request(const uint32_t *ids, size_t n)
{
    struct sae_request r = {.lead = {1, {2}}, .n_rows = 2, .is_sparse = true};

    r.csr.nnz = n;
    r.csr.indptr = sae_alloc(3, sizeof *r.csr.indptr);
    r.csr.ids = sae_alloc(n, sizeof *r.csr.ids);
    r.csr.values = sae_alloc(n, sizeof *r.csr.values);
    r.csr.indptr[0] = r.csr.indptr[1] = 0;
    r.csr.indptr[2] = n;
    for (size_t i = 0; i < n; i++) {
        r.csr.ids[i] = ids[i];
        r.csr.values[i] = (float)ids[i] + 0.5f;
    }
    return r;
}

START_TEST(csr_is_sorted_with_its_values)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 1000);
    uint32_t ids[1000];
    struct sae_request r;

    srand((unsigned)_i + 1);
    for (uint32_t i = 0; i < 1000; i++)
        ids[i] = _i == 0 ? i : 999 - i;
    for (size_t i = 999; _i > 1 && i > 0; i--) { /* Fisher and Yates */
        size_t j = (size_t)rand() % (i + 1);
        uint32_t id = ids[i];

        ids[i] = ids[j];
        ids[j] = id;
    }
    for (size_t n = 0; n <= 1000; n = n < 5 ? n + 1 : n * 2 + 15) {
        r = sparse_request(ids, n);
        ck_assert_int_eq(sae_request_check(&r, &t, NULL), SAE_OK);
        for (size_t i = 0; i < n; i++) {
            ck_assert(i == 0 || r.csr.ids[i - 1] < r.csr.ids[i]);
            ck_assert(r.csr.values[i] == (float)r.csr.ids[i] + 0.5f);
        }
        sae_request_fini(&r);
    }
}
END_TEST

START_TEST(csr_faults_are_bad_shape)
{
    static const struct {
        uint32_t ids[4];
        uint64_t indptr[3];
        const char *text;
    } cases[] = {
        {{5, 1, 5, 2}, {0, 0, 4}, "index 5 stands twice in row 1"},
        {{5, 1, 8, 2}, {0, 0, 4}, "entry 2 of row 1 has index 8, the ids of \"test\" are 0 to 7"},
        {{5, UINT32_MAX, 3, 2}, {0, 0, 4}, "more than 4294967294"},
        {{5, 1, 3, 2}, {0, 5, 4}, "goes down from 5 to 4 at row 1"},
        {{5, 1, 3, 2}, {0, 1, 3}, "goes from 0 to 3, there are 4 entries"},
        {{5, 1, 3, 2}, {1, 1, 4}, "goes from 1 to 4, there are 4 entries"},
    };
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 8);
    struct sae_request r = sparse_request(cases[_i].ids, 4);
    struct sae_err err = {0};

    memcpy(r.csr.indptr, cases[_i].indptr, sizeof cases[_i].indptr);
    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_SHAPE);
    assert_err(err, SAE_E_BAD_SHAPE, cases[_i].text);
    sae_request_fini(&r);
}
END_TEST

/* Not sorted to find the doubles: 30 million took a codec's thread 15 seconds. */
START_TEST(more_entries_than_features)
{
    uint32_t ids[9];
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 8);
    struct sae_request r;
    struct sae_err err = {0};

    for (uint32_t i = 0; i < 9; i++)
        ids[i] = 7 - i % 8;
    r = sparse_request(ids, 9);
    ck_assert_int_eq(sae_request_check(&r, &t, &err), SAE_E_BAD_SHAPE);
    assert_err(err, SAE_E_BAD_SHAPE, "row 1 has 9 entries, \"test\" has 8 features");
    ck_assert_int_eq(memcmp(r.csr.ids, ids, sizeof ids), 0);
    sae_request_fini(&r);
}
END_TEST

/* ---- widths and the codec table ---------------------------------------------------------------
 */

START_TEST(wrong_width_is_told)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 768, 24576);
    struct sae_err err = {0};

    t.dictionary = "gpt2-l8";
    ck_assert_int_eq(sae_width_check(&t, 768, &err), SAE_OK);
    ck_assert_int_eq(sae_width_check(&t, 512, &err), SAE_E_BAD_SHAPE);
    ck_assert_str_eq(err.text, "cannot encode with \"gpt2-l8\": x has width 512, AutoEncoder wants "
                               "activation_dim 768");
    ck_assert(err.is_width && err.width == 512);
    t.op = SAE_OP_DECODE;
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_width_check(&t, 24576, &err), SAE_OK);
    ck_assert(!err.is_width);
    ck_assert_int_eq(sae_width_check(&t, 0, &err), SAE_E_BAD_SHAPE);
    ck_assert_str_eq(err.text, "cannot decode with \"gpt2-l8\": f has width 0, AutoEncoder wants "
                               "dict_size 24576");
    ck_assert(err.is_width && err.width == 0);
}
END_TEST

START_TEST(raw_and_npy_carry_one_dense_tensor)
{
    struct sae_answer a = {.n_rows = 2, .n_tensors = 1, .lead = {1, {2}}};
    unsigned all = (1u << SAE_N_MEDIA) - 1, alone = 1u << SAE_MEDIA_RAW | 1u << SAE_MEDIA_NPY;

    a.tensors[0] = (struct sae_out_tensor){.name = "f", .width = 8};
    ck_assert_uint_eq(sae_media_can(&a), all);
    a.tensors[0].form = SAE_FORM_TOP;
    ck_assert_uint_eq(sae_media_can(&a), (all & ~alone) | SAE_CAN_CSR | SAE_CAN_TOP);
    a.tensors[0].form = SAE_FORM_SPARSE;
    ck_assert_uint_eq(sae_media_can(&a), (all & ~alone) | SAE_CAN_CSR);
    a.tensors[0].form = SAE_FORM_DENSE;
    a.n_tensors = 2;
    ck_assert_uint_eq(sae_media_can(&a), all & ~alone);
    a.n_tensors = 1;
    ck_assert_uint_eq(sae_codecs[SAE_MEDIA_RAW].bound(&a), 64);
    ck_assert_uint_eq(sae_codecs[SAE_MEDIA_NPY].bound(&a), 128 + 64);
    ck_assert_uint_ge(sae_codecs[SAE_MEDIA_JSON].bound(&a), 16 * 16);
    a.n_rows = SIZE_MAX / 2;
    for (int m = 0; m < SAE_N_MEDIA; m++) {
        a.lead.dim[0] = a.n_rows;
        ck_assert_uint_eq(sae_codecs[m].bound(&a), UINT64_MAX);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wire");
    TCase *t = tcase_create("wire");

    tcase_add_loop_test(t, options_are_those_of_the_table, 0, SAE_COUNTOF(table));
    tcase_add_test(t, refusal_names_option_class_and_operation);
    tcase_add_test(t, forward_shapes_f_only_when_f_is_asked);
    tcase_add_test(t, top_k_and_ids_have_their_range);
    tcase_add_test(t, an_option_is_seen_once);
    tcase_add_loop_test(t, ghost_mask_has_one_of_three_shapes, 0, SAE_COUNTOF(ghosts));
    tcase_add_test(t, ghost_refusal_names_the_shapes);
    tcase_add_test(t, identity_does_not_look_at_a_ghost_mask);
    tcase_add_loop_test(t, csr_is_sorted_with_its_values, 0, 8);
    tcase_add_loop_test(t, csr_faults_are_bad_shape, 0, 6);
    tcase_add_test(t, more_entries_than_features);
    tcase_add_test(t, wrong_width_is_told);
    tcase_add_test(t, raw_and_npy_carry_one_dense_tensor);
    suite_add_tcase(s, t);
    return run_suite(s);
}
