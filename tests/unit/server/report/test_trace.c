/* test_trace.c - which traceparent headers are good, by the W3C's rules. */
#include "server/report/trace.h"

#include <check.h>
#include <stdlib.h>

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static const struct {
    const char *header;
    bool is_good;
} headers[] = {
    {"00-" TRACE "-" PARENT "-01", true},
    {"00-" TRACE "-" PARENT "-00", true},
    {"00-" TRACE "-" PARENT "-ff", true}, /* flags that are not known yet */
    {"00-00000000000000000000000000000001-0000000000000001-01", true},
    /* later versions: this much, and behind a dash whatever they will say */
    {"cc-" TRACE "-" PARENT "-01", true},
    {"01-" TRACE "-" PARENT "-01-", true},
    {"fe-" TRACE "-" PARENT "-01-what-the-future-will-be-like", true},
    {"cc-" TRACE "-" PARENT "-01.what", false},
    {"cc-" TRACE "-" PARENT "-010", false},
    /* 00 ends there */
    {"00-" TRACE "-" PARENT "-01-", false},
    {"00-" TRACE "-" PARENT "-01-what", false},
    {"00-" TRACE "-" PARENT "-010", false},
    {"00-" TRACE "-" PARENT "-01 ", false},
    {"ff-" TRACE "-" PARENT "-01", false},
    {"0-" TRACE "-" PARENT "-01", false},
    {"000-" TRACE "-" PARENT "-01", false},
    {".0-" TRACE "-" PARENT "-01", false},
    {"0A-" TRACE "-" PARENT "-01", false},
    {"00-00000000000000000000000000000000-" PARENT "-01", false},
    {"00-" TRACE "-0000000000000000-01", false},
    {"00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01", false},
    {"00-" TRACE "-00F067AA0BA902B7-01", false},
    {"00-" TRACE "-" PARENT "-0A", false},
    {"00-.bf92f3577b34da6a3ce929d0e0e4736-" PARENT "-01", false},
    {"00-" TRACE "-.0f067aa0ba902b7-01", false},
    {"00-" TRACE "-" PARENT "-.1", false},
    {"00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-01", false},
    {"00-" TRACE "0-" PARENT "-01", false},
    {"00-" TRACE "-00f067aa0ba902b-01", false},
    {"00-" TRACE "-" PARENT "0-01", false},
    {"00-" TRACE "-" PARENT "-1", false},
    {"00-" TRACE "-" PARENT "-", false},
    {"00-" TRACE "-" PARENT, false},
    {"00-" TRACE, false},
    {"00_" TRACE "_" PARENT "_01", false},
    {" 00-" TRACE "-" PARENT "-01", false},
    {"", false},
    {NULL, false},
};

START_TEST(a_header_is_good_or_none)
{
    char id[SAED_TRACE_ID + 1] = "before";
    const char *header = headers[_i].header;

    ck_assert_msg(saed_trace_parse(header, id) == headers[_i].is_good, "%s",
                  header ? header : "(none)");
    if (!headers[_i].is_good)
        ck_assert_str_eq(id, "before");
    else if (_i == 3)
        ck_assert_str_eq(id, "00000000000000000000000000000001");
    else
        ck_assert_str_eq(id, TRACE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("trace");
    TCase *t = tcase_create("trace");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, a_header_is_good_or_none, 0, (int)SAE_COUNTOF(headers));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
