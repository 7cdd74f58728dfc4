/* test_tables.c - a row of a table is all of it: what reads and names operations, options and
 * codecs has every row, whatever rows there are. */
#include "lib/dict/unit.h"
#include "tests/unit/proto/wire_fixture.h"

#include <stdlib.h>

/* A value of each kind as each place writes it, for 8 features. */
static const struct {
    const char *json, *query, *dtype, *shape;
    char bytes[8];
    size_t n_bytes;
} values[SAE_N_OPTION_KINDS] = {
    [SAE_OPTION_BOOL] = {"true", "true", "BOOL", "1", {1}, 1},
    [SAE_OPTION_TOP_K] = {"2", "2", "I32", "1", {2}, 4},
    [SAE_OPTION_FEATURES] = {"[1]", "1", "I32", "1", {1}, 4},
    [SAE_OPTION_GHOST_MASK] = {"[1,0,1,0,1,0,1,0]", "1", "BOOL", "8", {1, 0, 1, 0, 1, 0, 1, 0}, 8},
};

static unsigned all_bits(void)
{
    unsigned bits = 0;

    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        bits |= sae_option_defs[i].bit;
    return bits;
}

/* An operation and class that take the option. */
static struct sae_target taker_of(const struct sae_option_def *def)
{
    struct sae_target t = target_of(CLASS_AUTO, (enum sae_op)__builtin_ctz(def->ops), 4, 8);

    t.class_options |= def->bit;
    return t;
}

/* What must be asked for beside it. */
static unsigned beside(const struct sae_option_def *def, const struct sae_target *t)
{
    const unsigned sparse = def->bit == SAE_OPT_LABELS ? SAE_OPT_SPARSE : 0;

    return sparse | (def->of_f & SAE_SHAPES_F && sae_op_defs[t->op].gives_f == SAE_GIVES_ASKED
                         ? SAE_OPT_OUTPUT_FEATURES
                         : 0);
}

START_TEST(options_have_a_bit_and_a_name_of_their_own)
{
    unsigned bits = 0;

    for (size_t i = 0; i < SAE_N_OPTIONS; i++) {
        const struct sae_option_def *def = &sae_option_defs[i];

        ck_assert(def->bit && (def->bit & (def->bit - 1)) == 0 && !(bits & def->bit));
        bits |= def->bit;
        ck_assert_ptr_eq(sae_option_by_name(def->name, strlen(def->name)), def);
        ck_assert_str_eq(def->pointer + 1, def->name);
        ck_assert(def->ops && def->ops < 1u << SAE_N_OPS);
        ck_assert_ptr_nonnull(values[def->kind].json);
    }
    ck_assert(!(bits & SAE_OPT_GHOST_UNREAD)); /* of a class, no option */
}
END_TEST

START_TEST(second_tensors_are_named_as_their_units_do)
{
    unsigned of_units = 0;

    for (int u = 0; u < SAE_N_UNITS; u++) {
        const struct sae_unit *unit = &sae_units[u];
        int i = unit->aux_name ? sae_aux_by_name(unit->aux_name, strlen(unit->aux_name)) : -1;

        ck_assert_int_eq(i >= 0, unit->aux_name != NULL);
        ck_assert(i < 0 || sae_option_defs[i].bit == unit->aux_option);
        of_units |= unit->aux_option;
    }
    ck_assert_uint_eq(of_units, sae_options_about(SAE_RETURNS_AUX));
    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        ck_assert((sae_option_defs[i].aux != NULL) == !!(sae_option_defs[i].bit & of_units));
}
END_TEST

START_TEST(json_reads_every_option)
{
    const struct sae_option_def *def = &sae_option_defs[_i];
    struct sae_target t = taker_of(def);
    struct sae_request r = {.opt = {.asked = beside(def, &t)}};
    struct sae_err err = {0};
    char body[160];

    snprintf(body, sizeof body, "{\"x\":[1,2,3,4],\"%s\":%s}", def->name, values[def->kind].json);
    ck_assert_msg(sae_json_parse(&r, &t, body, strlen(body), &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(r.opt.asked, def->bit | beside(def, &t));
    ck_assert_uint_eq(r.opt.seen, def->bit);
    sae_request_fini(&r);
    snprintf(body, sizeof body, "{\"x\":[1,2,3,4],\"%s\":{}}", def->name);
    ck_assert_int_eq(sae_json_parse(&r, &t, body, strlen(body), &err), SAE_E_BAD_OPTION);
    ck_assert_str_eq(err.where, def->pointer);
    assert_err(err, SAE_E_BAD_OPTION, def->name);
    sae_request_fini(&r);
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_json_parse(&r, &t, "{\"y\":1}", 7, &err), SAE_E_BAD_OPTION);
    assert_err(err, SAE_E_BAD_OPTION, def->name); /* in the list of what is known */
    sae_request_fini(&r);
}
END_TEST

START_TEST(query_reads_every_option_that_has_its_place_there)
{
    const struct sae_option_def *def = &sae_option_defs[_i];
    struct sae_request r = {0};
    struct sae_err err = {0};
    char query[80];
    enum sae_status st;

    snprintf(query, sizeof query, "%s=%s", def->name, values[def->kind].query);
    st = sae_query_parse(&r.opt, query, &err);
    if (def->in & SAE_IN_QUERY) {
        ck_assert_msg(st == SAE_OK, "%s", err.text);
        ck_assert_uint_eq(r.opt.asked, def->bit);
    } else {
        assert_err(err, SAE_E_BAD_OPTION, "its place is in the body");
    }
    sae_request_fini(&r);
    snprintf(query, sizeof query, "%s=maybe", def->name);
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_query_parse(&r.opt, query, &err), SAE_E_BAD_OPTION);
    ck_assert_str_eq(err.where, def->name);
    sae_request_fini(&r);
}
END_TEST

START_TEST(safetensors_reads_every_option_that_is_a_tensor)
{
    const struct sae_option_def *def = &sae_option_defs[_i];
    struct sae_target t = taker_of(def);
    struct sae_request r = {.opt = {.asked = beside(def, &t)}};
    static const float x[4];
    struct sae_err err = {0};
    struct st_body b;
    enum sae_status st;

    st_begin(&b);
    st_add(&b, "x", "F32", "4", x, sizeof x);
    st_add(&b, def->name, values[def->kind].dtype, values[def->kind].shape, values[def->kind].bytes,
           values[def->kind].n_bytes);
    st_finish(&b, 0);
    st = sae_safetensors_parse(&r, &t, b.all.data, b.all.len, &err);
    if (def->in & SAE_IN_TENSOR) {
        ck_assert_msg(st == SAE_OK, "%s", err.text);
        ck_assert_uint_eq(r.opt.asked, def->bit | beside(def, &t));
    } else {
        assert_err(err, SAE_E_BAD_OPTION, "options that are no tensor go in the query string");
        ck_assert_str_eq(err.where, def->name);
    }
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

START_TEST(every_option_is_refused_and_listed_by_name)
{
    const struct sae_option_def *def = &sae_option_defs[_i];

    for (int op = 0; op < SAE_N_ROW_OPS; op++)
        for (int c = 0; c < N_CLASSES; c++) {
            struct sae_target t = target_of(c, (enum sae_op)op, 4, 8);
            const unsigned takes = sae_options_of(&t);
            struct sae_options opt = {.top_k = 1};
            struct sae_err err = {0};

            opt.asked = takes & def->bit ? all_bits() & ~takes : def->bit;
            if (!opt.asked)
                continue;
            ck_assert_int_eq(sae_options_check(&opt, &t, &err), SAE_E_BAD_OPTION);
            assert_err(err, SAE_E_BAD_OPTION, def->name);
            assert_err(err, SAE_E_BAD_OPTION, sae_op_defs[op].name);
            assert_err(err, SAE_E_BAD_OPTION, t.class_name);
        }
}
END_TEST

START_TEST(operations_are_whole)
{
    struct sae_target t = target_of(CLASS_AUTO, (enum sae_op)_i, 4, 8);
    const struct sae_input *in = sae_op_input(t.op);
    struct sae_request r = {0};
    struct sae_err err = {0};
    char body[80];
    size_t n = 0;

    ck_assert(sae_op_defs[_i].name && sae_op_defs[_i].side < SAE_N_SIDES);
    ck_assert_str_eq(in->pointer + 1, in->name);
    n = (size_t)snprintf(body, sizeof body, "{\"%s\":[", in->name);
    for (uint64_t i = 0; i < sae_target_width(&t); i++)
        n += (size_t)snprintf(body + n, sizeof body - n, "%s1", i ? "," : "");
    n += (size_t)snprintf(body + n, sizeof body - n, "]}");
    ck_assert_msg(sae_json_parse(&r, &t, body, n, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(r.n_rows, 1);
    ck_assert_int_eq(sae_request_query(&r, &t).want_f, sae_op_defs[_i].gives_f == SAE_GIVES_ALWAYS);
    sae_request_fini(&r);
}
END_TEST

/* weights takes no rows: its keys are those of its table, and an option is none. */
START_TEST(weights_are_asked_by_name)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_WEIGHTS, 4, 8);
    struct sae_err err = {0};
    char body[80];

    ck_assert_int_eq(sae_op_defs[t.op].side, SAE_SIDE_NONE);
    for (int i = 0; i < SAE_N_WEIGHTS; i++) {
        struct sae_request r = {0};
        const bool has_ids = i < SAE_N_ROW_WEIGHTS;

        snprintf(body, sizeof body, "{\"%s%s%s]}", has_ids ? "" : "vectors\":[\"",
                 sae_weight_defs[i].name, has_ids ? "\":[7,1,7" : "\"");
        ck_assert_msg(sae_json_parse(&r, &t, body, strlen(body), &err) == SAE_OK, "%s", err.text);
        ck_assert_uint_eq(r.weights.asked, 1u << i);
        ck_assert(i >= SAE_N_ROW_WEIGHTS || r.weights.n_ids[i] == 3);
        sae_request_fini(&r);
    }
    for (size_t i = 0; i < SAE_N_OPTIONS; i++) {
        struct sae_request r = {0};

        snprintf(body, sizeof body, "{\"%s\":true}", sae_option_defs[i].name);
        err = (struct sae_err){0};
        ck_assert_int_eq(sae_json_parse(&r, &t, body, strlen(body), &err), SAE_E_BAD_OPTION);
        assert_err(err, SAE_E_BAD_OPTION, sae_option_defs[i].name);
        sae_request_fini(&r);
    }
}
END_TEST

/* What a codec prints of f, it reads as decode's f, by copy and by keeping the body. */
START_TEST(codecs_are_whole)
{
    const struct sae_codec *c = &sae_codecs[_i];
    static const float f[16] = {0.5f, -0.0f, 3e38f, 1e-40f, -7.25f};
    const struct sae_answer a = {.n_rows = 2,
                                 .lead = {.n = 1, .dim = {2}},
                                 .n_tensors = 1,
                                 .tensors = {{.name = "f", .width = 8, .data = f}}};
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 8);
    struct sae_request r = {0};
    struct sae_body body = {0};
    struct sae_err err = {0};

    ck_assert(c->name && c->short_name && c->number_bytes);
    ck_assert(sae_media_can(&a) >> _i & 1);
    ck_assert_msg(c->print(&body, &a, 1 << 20, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_le(body.n, c->bound(&a));
    ck_assert_uint_le(body.n, c->frame_bytes + 2 * (8 * c->number_bytes + c->row_bytes));
    ck_assert_int_eq(c->print(&(struct sae_body){0}, &a, body.n - 1, NULL),
                     SAE_E_RESPONSE_TOO_LARGE);
    t.shape = body.shape[0] ? body.shape : NULL;
    ck_assert_msg(c->parse(&r, &t, body.data, body.n, &err) == SAE_OK, "%s", err.text);
    ck_assert(r.lead.n == 1 && r.lead.dim[0] == 2 && memcmp(r.values, f, sizeof f) == 0);
    sae_request_fini(&r);
    if (c->keep) {
        void *kept = body.data;

        ck_assert_int_eq(c->keep(&r, &t, &kept, body.n, &err), SAE_OK);
        ck_assert(kept == NULL && (char *)r.values == body.data);
        ck_assert(memcmp(r.values, f, sizeof f) == 0);
        sae_request_fini(&r);
        body.data = NULL;
    }
    ck_assert_int_ne(c->parse(&r, &t, "?", 1, &err), SAE_OK);
    sae_request_fini(&r);
    sae_body_fini(&body);
}
END_TEST

/* Each dtype that a form has: printed as its bound says, half as many bytes of values, rounded;
 * asked for by the very name that the answer has; and read where a body may have it. */
START_TEST(codecs_have_their_dtypes)
{
    const struct sae_codec *c = &sae_codecs[_i];
    static const float f[16] = {0.5f, -0.0f, 65504, 1 + 0x1p-9f, -7.25f};
    struct sae_answer a = {.n_rows = 2,
                           .lead = {.n = 1, .dim = {2}},
                           .n_tensors = 1,
                           .tensors = {{.name = "f", .width = 8, .data = f}}};
    const uint64_t usual = c->bound(&a);

    for (int dtype = 0; dtype <= SAE_DTYPE_F64; dtype++) {
        struct sae_target t = target_of(CLASS_AUTO, SAE_OP_DECODE, 4, 8);
        struct sae_media_type m = {0};
        struct sae_request r = {0};
        struct sae_body body = {0};
        struct sae_err err = {0};
        unsigned char want[sizeof f];
        float rounded[16];
        void *kept;

        if (!c->dtyped[dtype])
            continue;
        ck_assert_uint_eq(sae_dtype_bytes((enum sae_dtype)dtype), 2);
        ck_assert_int_eq(sae_accept(c->dtyped[dtype], SAE_MEDIA_JSON, sae_media_can(&a), &m, NULL),
                         SAE_OK);
        ck_assert(m.media == (enum sae_media)_i && m.dtype == (enum sae_dtype)dtype);
        ck_assert_str_eq(sae_media_type_name(&m), c->dtyped[dtype]);
        sae_answer_as(&a, &m);
        ck_assert_msg(c->print(&body, &a, 1 << 20, &err) == SAE_OK, "%s", err.text);
        ck_assert_uint_eq(body.n, c->bound(&a));
        ck_assert_uint_le(body.n, usual - sizeof f / 2 + 8); /* a name may be longer */
        sae_dtype_from_f32((enum sae_dtype)dtype, f, want, 16);
        sae_dtype_to_f32((enum sae_dtype)dtype, want, rounded, 16);
        ck_assert(memcmp(body.data + body.n - 32, want, 32) == 0);
        t.shape = body.shape[0] ? body.shape : NULL;
        t.type = c->body_dtypes ? m : t.type;
        kept = body.data;
        ck_assert_msg((c->keep ? c->keep(&r, &t, &kept, body.n, &err)
                               : c->parse(&r, &t, body.data, body.n, &err)) == SAE_OK,
                      "%s", err.text);
        ck_assert(kept == body.data && memcmp(r.values, rounded, sizeof rounded) == 0);
        sae_request_fini(&r);
        sae_body_fini(&body);
    }
}
END_TEST

START_TEST(codecs_are_negotiated_by_name_and_rank)
{
    const struct sae_codec *c = &sae_codecs[_i];
    struct sae_media_type m;

    ck_assert_int_eq(sae_content_type(c->name, &m, NULL), SAE_OK);
    ck_assert_int_eq(m.media, _i);
    for (int request = 0; request < SAE_N_MEDIA; request++) {
        ck_assert_int_eq(
            sae_accept(c->name, (enum sae_media)request, (1u << SAE_N_MEDIA) - 1, &m, NULL),
            SAE_OK);
        ck_assert_int_eq(m.media, _i);
        ck_assert_str_eq(sae_media_type_name(&m), c->name);
    }
    for (int rank = 0; rank < SAE_N_RANKS; rank++)
        for (int other = 0; other < SAE_N_MEDIA; other++)
            ck_assert(other == _i || sae_codecs[other].rank[rank] != c->rank[rank]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tables");
    TCase *t = tcase_create("tables");

    tcase_add_test(t, options_have_a_bit_and_a_name_of_their_own);
    tcase_add_test(t, second_tensors_are_named_as_their_units_do);
    tcase_add_loop_test(t, json_reads_every_option, 0, SAE_N_OPTIONS);
    tcase_add_loop_test(t, query_reads_every_option_that_has_its_place_there, 0, SAE_N_OPTIONS);
    tcase_add_loop_test(t, safetensors_reads_every_option_that_is_a_tensor, 0, SAE_N_OPTIONS);
    tcase_add_loop_test(t, every_option_is_refused_and_listed_by_name, 0, SAE_N_OPTIONS);
    tcase_add_loop_test(t, operations_are_whole, 0, SAE_N_ROW_OPS);
    tcase_add_test(t, weights_are_asked_by_name);
    tcase_add_loop_test(t, codecs_are_whole, 0, SAE_N_MEDIA);
    tcase_add_loop_test(t, codecs_have_their_dtypes, 0, SAE_N_MEDIA);
    tcase_add_loop_test(t, codecs_are_negotiated_by_name_and_rank, 0, SAE_N_MEDIA);
    suite_add_tcase(s, t);
    return run_suite(s);
}
