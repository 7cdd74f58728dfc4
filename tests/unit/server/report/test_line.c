/* test_line.c - what a line looks like in both formats: escapes, cuts, numbers that JSON has not.
 * What a JSON line says is read back by jansson. */
#include "server/report/line.h"

#include <check.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 2026-01-02T03:04:05.678Z */
static const struct timespec when = {1767323045, 678999999};

/* Visible ASCII and the blank. */
static char printable[96];

static void set_up(void)
{
    for (size_t i = 0; i < sizeof printable - 1; i++)
        printable[i] = (char)(' ' + i);
}

static const char *print(enum saed_log_format format, const struct saed_field *fields,
                         unsigned long long dropped)
{
    static char text[SAED_LINE_BYTES + 1];
    struct saed_line l;

    memset(&l, 'x', sizeof l);
    saed_line_print(&l, format, &when, SAED_WARN, "event", fields, dropped);
    ck_assert_uint_le(l.n, sizeof l.text);
    memcpy(text, l.text, l.n);
    text[l.n] = '\0';
    ck_assert_uint_eq(strlen(text), l.n);
    ck_assert_ptr_eq(strchr(text, '\n'), text + l.n - 1);
    ck_assert_msg(strspn(text, printable) == l.n - 1, "not ASCII: %s", text);
    return text;
}

/* The line as an object; owned by the caller. */
static json_t *parse(const struct saed_field *fields)
{
    const char *text = print(SAED_LOG_JSON, fields, 0);
    json_error_t error;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);

    ck_assert_msg(json_is_object(object), "%s: %s", error.text, text);
    return object;
}

static const struct saed_field mixed[] = {
    {.key = "n", .kind = SAED_FIELD_UINT, .value.u = UINT64_MAX},
    {.key = "i", .kind = SAED_FIELD_INT, .value.i = INT64_MIN},
    {.key = "ms", .kind = SAED_FIELD_REAL, .value.real = 1.0625},
    {.key = "s", .kind = SAED_FIELD_STR, .value.s = "a b"},
    {.key = "none", .kind = SAED_FIELD_STR, .value.s = NULL},
    {.key = NULL},
};

static const struct {
    enum saed_log_format format;
    unsigned long long dropped;
    const char *want;
} shapes[] = {
    {SAED_LOG_TEXT, 0,
     "2026-01-02T03:04:05.678Z warn event n=18446744073709551615 i=-9223372036854775808 ms=1.062 "
     "s=\"a b\" none=-\n"},
    {SAED_LOG_TEXT, 7,
     "2026-01-02T03:04:05.678Z warn event n=18446744073709551615 i=-9223372036854775808 ms=1.062 "
     "s=\"a b\" none=- log_dropped=7\n"},
    {SAED_LOG_JSON, 0,
     "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warn\",\"event\":\"event\","
     "\"n\":18446744073709551615,\"i\":-9223372036854775808,\"ms\":1.062,\"s\":\"a b\","
     "\"none\":null}\n"},
    {SAED_LOG_JSON, 7,
     "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warn\",\"event\":\"event\","
     "\"n\":18446744073709551615,\"i\":-9223372036854775808,\"ms\":1.062,\"s\":\"a b\","
     "\"none\":null,\"log_dropped\":7}\n"},
};

START_TEST(a_line_has_its_shape)
{
    ck_assert_str_eq(print(shapes[_i].format, mixed, shapes[_i].dropped), shapes[_i].want);
}
END_TEST

/* Of a text: as it stands in the line, and what a reader of JSON has of it. */
static const struct {
    const char *value, *text, *json, *read;
} values[] = {
    {"plain-._/:[]", "plain-._/:[]", "\"plain-._/:[]\"", "plain-._/:[]"},
    {"", "\"\"", "\"\"", ""},
    {"a=b", "\"a=b\"", "\"a=b\"", "a=b"},
    {"say \"hi\"", "\"say \\\"hi\\\"\"", "\"say \\\"hi\\\"\"", "say \"hi\""},
    {"back\\slash", "\"back\\\\slash\"", "\"back\\\\slash\"", "back\\slash"},
    {"a\nb\r\tc", "\"a\\nb\\r\\tc\"", "\"a\\nb\\r\\tc\"", "a\nb\r\tc"},
    {"\x1b[31m\x7f\x01", "\"\\x1b[31m\\x7f\\x01\"", "\"\\u001b[31m\\u007f\\u0001\"",
     "\x1b[31m\x7f\x01"},
    {"caf\xc3\xa9", "\"caf\\xc3\\xa9\"", "\"caf\\u00e9\"", "caf\xc3\xa9"},
    {"\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf",
     "\"\\xe2\\x82\\xac\\xf0\\x9f\\x98\\x80\\xf4\\x8f\\xbf\\xbf\"",
     "\"\\u20ac\\ud83d\\ude00\\udbff\\udfff\"", "\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"},
    /* no UTF-8: a byte of none, one cut short, a surrogate, C1 controls as bytes */
    {"\xff"
     "a",
     "\"\\xffa\"", "\"\\ufffda\"",
     "\xef\xbf\xbd"
     "a"},
    {"\xe2\x82", "\"\\xe2\\x82\"", "\"\\ufffd\\ufffd\"", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\"",
     "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"\x9b"
     "31m\xc2\x9b",
     "\"\\x9b31m\\xc2\\x9b\"", "\"\\ufffd31m\\u009b\"",
     "\xef\xbf\xbd"
     "31m\xc2\x9b"},
    {"\",\"level\":\"error", "\"\\\",\\\"level\\\":\\\"error\"", "\"\\\",\\\"level\\\":\\\"error\"",
     "\",\"level\":\"error"},
};

START_TEST(values_are_escaped)
{
    const struct saed_field f[] = {saed_str("k", values[_i].value), saed_int("z", 1),
                                   SAED_NO_FIELDS};
    char want[512];
    json_t *object;

    snprintf(want, sizeof want, "2026-01-02T03:04:05.678Z warn event k=%s z=1\n", values[_i].text);
    ck_assert_str_eq(print(SAED_LOG_TEXT, f, 0), want);
    snprintf(want, sizeof want,
             "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warn\",\"event\":\"event\","
             "\"k\":%s,\"z\":1}\n",
             values[_i].json);
    ck_assert_str_eq(print(SAED_LOG_JSON, f, 0), want);
    object = parse(f);
    ck_assert_str_eq(json_string_value(json_object_get(object, "k")), values[_i].read);
    json_decref(object);
}
END_TEST

static const struct {
    double value;
    const char *text, *json;
} reals[] = {
    {0, "0.000", "0.000"},
    {-0.0004, "-0.000", "-0.000"},
    {1e9, "1000000000.000", "1000000000.000"},
    {INFINITY, "inf", "null"},
    {-INFINITY, "-inf", "null"},
    {NAN, "nan", "null"},
};

START_TEST(reals_are_what_json_has)
{
    const struct saed_field f[] = {saed_real("k", reals[_i].value), SAED_NO_FIELDS};
    char want[64];
    json_t *object = parse(f);

    snprintf(want, sizeof want, " k=%s\n", reals[_i].text);
    ck_assert_ptr_nonnull(strstr(print(SAED_LOG_TEXT, f, 0), want));
    snprintf(want, sizeof want, ",\"k\":%s}\n", reals[_i].json);
    ck_assert_ptr_nonnull(strstr(print(SAED_LOG_JSON, f, 0), want));
    json_decref(object);
}
END_TEST

START_TEST(the_largest_real_is_whole)
{
    const struct saed_field f[] = {saed_real("k", -DBL_MAX), saed_int("z", 1), SAED_NO_FIELDS};
    json_t *object = parse(f);

    ck_assert_ptr_nonnull(strstr(print(SAED_LOG_TEXT, f, 0), ".000 z=1\n"));
    ck_assert(json_real_value(json_object_get(object, "k")) == -DBL_MAX);
    json_decref(object);
}
END_TEST

/* Texts of one character each, which is printed in as many bytes as its escape has. */
static const char *const letters[] = {"x", "\n", "\x01", "\xff", "\xc3\xa9", "\xf0\x9f\x98\x80"};

/* Whatever is in it and whatever was lost, a line is whole JSON, says that it is cut, and has what
 * stood before the field that did not fit. */
START_TEST(long_lines_are_cut_and_whole)
{
    char big[8000] = "";
    const struct saed_field f[] = {saed_int("first", 1), saed_str("a", big),  saed_str("b", big),
                                   saed_str("c", big),   saed_int("last", 1), SAED_NO_FIELDS};

    for (size_t n = 0; n < 1000; n++) {
        const char *text = print(SAED_LOG_JSON, f, INT64_MAX);
        json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        const char *a = json_string_value(json_object_get(object, "a"));
        bool is_cut = json_is_true(json_object_get(object, "cut"));

        ck_assert_msg(json_is_object(object), "%zu: %s", n, text);
        ck_assert_ptr_nonnull(json_object_get(object, "first"));
        ck_assert_ptr_nonnull(json_object_get(object, "log_dropped"));
        ck_assert(is_cut != (json_object_get(object, "last") != NULL));
        ck_assert_ptr_nonnull(a);
        if (strcmp(a, big) != 0 && !strstr(big, "\xff"))
            ck_assert_str_eq(a + strlen(a) - 3, "...");
        json_decref(object);
        print(SAED_LOG_TEXT, f, INT64_MAX);
        strcat(big, letters[_i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("line");
    TCase *t = tcase_create("line");
    SRunner *r = srunner_create(s);

    tcase_add_unchecked_fixture(t, set_up, NULL);
    tcase_add_loop_test(t, a_line_has_its_shape, 0, (int)SAE_COUNTOF(shapes));
    tcase_add_loop_test(t, values_are_escaped, 0, (int)SAE_COUNTOF(values));
    tcase_add_loop_test(t, reals_are_what_json_has, 0, (int)SAE_COUNTOF(reals));
    tcase_add_test(t, the_largest_real_is_whole);
    tcase_add_loop_test(t, long_lines_are_cut_and_whole, 0, (int)SAE_COUNTOF(letters));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
