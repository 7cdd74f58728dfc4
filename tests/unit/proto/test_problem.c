/* test_problem.c - the error table, problem+json, string literals. */
#include "proto/wire.h"

#include <check.h>
#include <jansson.h>
#include <string.h>

static const struct {
    enum sae_status st;
    int http;
    const char *code;
} table[] = {
    {SAE_E_MALFORMED_JSON, 400, "malformed_json"},
    {SAE_E_BAD_OPTION, 400, "bad_option"},
    {SAE_E_UNKNOWN_DICTIONARY, 404, "unknown_dictionary"},
    {SAE_E_NOT_LOADED, 409, "not_loaded"},
    {SAE_E_NOT_ACCEPTABLE, 406, "not_acceptable"},
    {SAE_E_RESPONSE_TOO_LARGE, 413, "response_too_large"},
    {SAE_E_NOMEM, 503, "overloaded"},
    {SAE_E_UPLOAD_TIMEOUT, 408, "upload_timeout"},
    {SAE_E_HEAD_TOO_LARGE, 431, "head_too_large"},
    {SAE_E_DEADLINE_EXCEEDED, 504, "deadline_exceeded"},
    {SAE_E_INTERNAL, 500, "internal"},
    {SAE_E_WEIGHTS, 500, "internal"}, /* never a request's */
    {SAE_N_STATUS, 500, "internal"},
};

START_TEST(status_has_its_row)
{
    struct sae_error_info info = sae_error_info(table[_i].st);

    ck_assert_int_eq(info.http, table[_i].http);
    ck_assert_str_eq(info.code, table[_i].code);
    ck_assert_uint_gt(strlen(info.title), 3);
}
END_TEST

static void check_problem(const struct sae_err *err, const char *want)
{
    struct sae_buf b;
    json_error_t je;
    json_t *j;

    sae_buf_init(&b, 4096);
    ck_assert_int_eq(sae_problem_print(&b, err, ""), SAE_OK);
    ck_assert_str_eq(b.data, want);
    j = json_loads(b.data, JSON_REJECT_DUPLICATES, &je);
    ck_assert_ptr_nonnull(j);
    json_decref(j);
    sae_buf_fini(&b);
}

START_TEST(problem_has_its_members)
{
    struct sae_err err = {0};

    sae_err_set(&err, SAE_E_BAD_NUMBER, "/x/3/17", "cannot read x: \"abc\" is not a number");
    check_problem(&err, "{\"type\":\"urn:saed:error:bad_number\",\"title\":\"Bad number\","
                        "\"status\":400,\"detail\":\"cannot read x: \\\"abc\\\" is not a number "
                        "(at /x/3/17)\",\"code\":\"bad_number\"}\n");
    err = (struct sae_err){0};
    sae_err_limit(&err, SAE_E_TOO_MANY_ROWS, "--max-queue-rows", 16384, 20000,
                  "cannot queue 20000 rows");
    check_problem(&err, "{\"type\":\"urn:saed:error:too_many_rows\",\"title\":\"Too many rows\","
                        "\"status\":413,\"detail\":\"cannot queue 20000 rows\","
                        "\"code\":\"too_many_rows\",\"limit\":16384,\"got\":20000,"
                        "\"option\":\"--max-queue-rows\"}\n");
    err = (struct sae_err){0};
    sae_err_option(&err, SAE_E_FORBIDDEN, "--allow-host", "cannot answer as host \"a\"");
    check_problem(&err, "{\"type\":\"urn:saed:error:forbidden\",\"title\":\"Forbidden\","
                        "\"status\":403,\"detail\":\"cannot answer as host \\\"a\\\"\","
                        "\"code\":\"forbidden\",\"option\":\"--allow-host\"}\n");
}
END_TEST

/* Text and place at their longest, each byte one that needs an escape. */
START_TEST(longest_problem_is_whole)
{
    struct sae_err err = {.status = SAE_E_BAD_SHAPE, .option = "--x"};
    struct sae_buf b;
    json_error_t je;
    json_t *j;

    memset(err.text, '"', sizeof err.text - 1);
    memset(err.where, '\xff', sizeof err.where - 1);
    sae_buf_init(&b, 4096);
    ck_assert_int_eq(sae_problem_print(&b, &err, ""), SAE_OK);
    j = json_loads(b.data, 0, &je);
    ck_assert_ptr_nonnull(j);
    ck_assert_uint_eq(json_string_length(json_object_get(j, "detail")),
                      sizeof err.text - 1 + 3 * (sizeof err.where - 1) + strlen(" (at )"));
    json_decref(j);
    for (size_t max = 0; max < b.len; max++) {
        struct sae_buf small;

        sae_buf_init(&small, max);
        if (sae_problem_print(&small, &err, "") != SAE_E_NOMEM)
            ck_abort_msg("%zu bytes were enough", max);
        sae_buf_fini(&small);
    }
    sae_buf_fini(&b);
}
END_TEST

static const struct {
    const char *s, *want;
    size_t n;
} strings[] = {
    {"", "\"\"", 0},
    {"abc/", "\"abc/\"", 4},
    {"a\"b\\c", "\"a\\\"b\\\\c\"", 5},
    {"\n\r\t\b\x01\x1f\x7f", "\"\\n\\r\\t\\u0008\\u0001\\u001f\x7f\"", 7},
    {"a\0b", "\"a\\u0000b\"", 3},
    {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", 9},
    {"a\xff"
     "b",
     "\"a\xef\xbf\xbd"
     "b\"",
     3},
    {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"", 2}, /* cut short: one for each byte */
    {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", 3},
    {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"", 2},
};

START_TEST(string_literal)
{
    struct sae_buf b;

    sae_buf_init(&b, 100);
    ck_assert_int_eq(sae_json_string(&b, strings[_i].s, strings[_i].n), SAE_OK);
    ck_assert_str_eq(b.data, strings[_i].want);
    sae_buf_fini(&b);
}
END_TEST

START_TEST(body_is_freed_twice)
{
    struct sae_body b = {.data = sae_calloc(1, 8), .n = 8};

    sae_body_fini(&b);
    ck_assert_ptr_null(b.data);
    sae_body_fini(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("problem");
    TCase *t = tcase_create("problem");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, status_has_its_row, 0, SAE_COUNTOF(table));
    tcase_add_test(t, problem_has_its_members);
    tcase_add_test(t, longest_problem_is_whole);
    tcase_add_loop_test(t, string_literal, 0, SAE_COUNTOF(strings));
    tcase_add_test(t, body_is_freed_twice);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
