/* test_beside.c - what decode takes beside f: input_state and x, wanted or not, in JSON and
 * safetensors, and what raw bytes say, which carry one tensor. */
#include "tests/unit/proto/wire_fixture.h"

enum { D = 3, F = 4 };

static struct sae_target target(unsigned state_width, bool wants_state, bool wants_x)
{
    struct sae_target t = target_of(CLASS_NEW, SAE_OP_DECODE, D, F);

    t.state_width = state_width;
    t.wants_state = wants_state;
    t.wants_x = wants_x;
    return t;
}

static const struct {
    const char *body;
    unsigned width; /* of the state */
    bool wants_state, wants_x;
    enum sae_status st;
    const char *part; /* of the error's text; of a good one: "state", "x" are read */
} bodies[] = {
    {"{\"f\":[[1,2,3,4]],\"input_state\":[[5,6]]}", 2, true, false, SAE_OK, "state"},
    {"{\"input_state\":[5,6],\"f\":[1,2,3,4]}", 2, true, false, SAE_OK, "state"},
    {"{\"f\":[[1,2,3,4]],\"x\":[[1,2,3]]}", 0, false, true, SAE_OK, "x"},
    {"{\"f\":[[1,2,3,4]],\"x\":[[1,2,3]],\"input_state\":[[7]]}", 1, true, true, SAE_OK, "state x"},
    {"{\"f\":[],\"x\":[],\"input_state\":[]}", 1, true, true, SAE_OK, ""},
    {"{\"f\":[[1,2,3,4]]}", 0, false, false, SAE_OK, ""},
    {"{\"f\":[[1,2,3,4]],\"x\":null,\"input_state\":false}", 0, false, false, SAE_OK, ""},
    /* what encode gives and the output does not use is not looked at */
    {"{\"f\":[[1,2,3,4]],\"input_state\":[[\"a\",{}]]}", 2, false, false, SAE_OK, ""},
    {"{\"f\":[[1,2,3,4]]}", 2, true, false, SAE_E_BAD_OPTION, "wants input_state beside f"},
    {"{\"f\":[[1,2,3,4]],\"input_state\":null}", 2, true, false, SAE_E_BAD_OPTION,
     "where they are asked for input_state"},
    {"{\"f\":[[1,2,3,4]]}", 0, false, true, SAE_E_BAD_OPTION, "wants x beside f"},
    {"{\"f\":[[1,2,3,4]],\"x\":[[1,2,3]]}", 0, false, false, SAE_E_BAD_OPTION, "takes f alone"},
    {"{\"f\":[[1,2,3,4]],\"input_state\":[[1]]}", 0, false, true, SAE_E_BAD_OPTION,
     "takes f alone"},
    {"{\"f\":[[1,2,3,4]],\"input_state\":[[1]]}", 2, true, false, SAE_E_BAD_SHAPE,
     "its shape is [1, 1], wanted [1, 2]"},
    {"{\"f\":[1,2,3,4],\"input_state\":[[1,2]]}", 2, true, false, SAE_E_BAD_SHAPE,
     "its shape is [1, 2], wanted [2]"},
    {"{\"f\":[[1,2,3,4]],\"x\":[[1,2,3],[1,2,3]]}", 0, false, true, SAE_E_BAD_SHAPE,
     "its shape is [2, 3], wanted [1, 3]"},
    {"{\"f\":[[1,2,3,4]],\"x\":7}", 0, false, true, SAE_E_BAD_SHAPE, "wanted a nested list"},
    {"{\"f\":[[1,2,3,4]],\"x\":[[1,2,3]],\"x\":[[1,2,3]]}", 0, false, true, SAE_E_BAD_OPTION,
     "x: it is given twice"},
};

START_TEST(json_takes_what_is_wanted)
{
    struct sae_target t = target(bodies[_i].width, bodies[_i].wants_state, bodies[_i].wants_x);
    struct sae_request r = {0};
    struct sae_err err = {0};

    ck_assert_int_eq(sae_json_parse(&r, &t, bodies[_i].body, strlen(bodies[_i].body), &err),
                     bodies[_i].st);
    assert_err(err, bodies[_i].st, bodies[_i].st == SAE_OK ? "" : bodies[_i].part);
    if (bodies[_i].st == SAE_OK) {
        ck_assert_int_eq(r.beside[SAE_BESIDE_STATE].values != NULL,
                         contains(bodies[_i].part, "state"));
        ck_assert_int_eq(r.beside[SAE_BESIDE_X].values != NULL, contains(bodies[_i].part, "x"));
        if (contains(bodies[_i].part, "x"))
            ck_assert(r.beside[SAE_BESIDE_X].values[2] == 3.0f);
    }
    sae_request_fini(&r);
}
END_TEST

static const float f[2 * F] = {1, 2, 3, 4, 5, 6, 7, 8}, state[4] = {9, 10, 11, 12},
                         rows[2 * D] = {1, 2, 3, 4, 5, 6};

START_TEST(safetensors_take_what_is_wanted)
{
    static const struct {
        const char *state_shape, *x_shape; /* NULL: not there */
        bool wants_state, wants_x;
        enum sae_status st;
        const char *part;
    } cases[] = {
        {"2,2", "2,3", true, true, SAE_OK, ""},
        {"2,2", NULL, false, false, SAE_OK, ""},
        {"2,2", NULL, true, true, SAE_E_BAD_OPTION, "wants x beside f"},
        {NULL, "2,3", false, false, SAE_E_BAD_OPTION, "takes f alone"},
        {"4,1", NULL, true, false, SAE_E_BAD_SHAPE, "its shape is [4, 1], wanted [2, 2]"},
    };
    struct sae_target t = target(2, cases[_i].wants_state, cases[_i].wants_x);
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct st_body b;

    st_begin(&b);
    st_add(&b, "f", "F32", "2,4", f, sizeof f);
    if (cases[_i].state_shape)
        st_add(&b, "input_state", "F32", cases[_i].state_shape, state, sizeof state);
    if (cases[_i].x_shape)
        st_add(&b, "x", "F32", cases[_i].x_shape, rows, sizeof rows);
    st_finish(&b, 0);
    ck_assert_int_eq(sae_safetensors_parse(&r, &t, b.all.data, b.all.len, &err), cases[_i].st);
    assert_err(err, cases[_i].st, cases[_i].part);
    if (cases[_i].st == SAE_OK && cases[_i].wants_x) {
        ck_assert(memcmp(r.beside[SAE_BESIDE_STATE].values, state, sizeof state) == 0);
        ck_assert(memcmp(r.beside[SAE_BESIDE_X].values, rows, sizeof rows) == 0);
    }
    sae_request_fini(&r);
    st_end(&b);
}
END_TEST

START_TEST(raw_bytes_carry_f_alone)
{
    struct sae_target t = target(1, true, false);
    struct sae_request r = {0};
    struct sae_err err = {0};

    ck_assert_int_eq(sae_raw_parse(&r, &t, f, sizeof f, &err), SAE_E_BAD_OPTION);
    assert_err(err, SAE_E_BAD_OPTION, "in JSON or safetensors");
    sae_request_fini(&r);
}
END_TEST

/* The option of encode and forward that gives it; decode has the tensor of that name. */
START_TEST(encode_gives_the_state_when_asked)
{
    static const char body[] = "{\"x\":[[1,2,3]],\"input_state\":true}";

    for (int has = 0; has < 2; has++) {
        struct sae_target t = target_of(CLASS_NEW, SAE_OP_ENCODE, D, F);
        struct sae_request r = {0};
        struct sae_err err = {0};

        t.class_options |= has ? SAE_OPT_INPUT_STATE : 0;
        ck_assert_int_eq(sae_json_parse(&r, &t, body, strlen(body), &err), err.status);
        assert_err(err, has ? SAE_OK : SAE_E_BAD_OPTION, has ? "" : "does not take it");
        ck_assert(!has || sae_request_query(&r, &t).want_state);
        sae_request_fini(&r);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("beside");
    TCase *t = tcase_create("beside");

    tcase_add_loop_test(t, json_takes_what_is_wanted, 0, (int)SAE_COUNTOF(bodies));
    tcase_add_loop_test(t, safetensors_take_what_is_wanted, 0, 5);
    tcase_add_test(t, raw_bytes_carry_f_alone);
    tcase_add_test(t, encode_gives_the_state_when_asked);
    suite_add_tcase(s, t);
    return run_suite(s);
}
