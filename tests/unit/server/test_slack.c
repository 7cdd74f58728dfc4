/* test_slack.c - when memory goes back to the system: stepped, a look a second. */
#include "server/slack.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MB ((uint64_t)1 << 20)
#define MS ((uint64_t)1000000)

/* Looks a second apart: ms computed since the last, MB resident; the marks say when it is due. */
static const struct {
    const char *what;
    uint64_t cpu_ms[6], mb[6];
    const char *due;
} cases[] = {
    {"two quiet looks", {900, 900, 0, 0, 0, 0}, {300, 300, 300, 300, 100, 100}, "...x.."},
    {"never quiet", {51, 51, 51, 51, 51, 51}, {300, 300, 300, 300, 300, 300}, "......"},
    {"scrapes and health checks", {900, 50, 50, 50, 5, 0}, {300, 300, 300, 101, 101, 99}, "..x..."},
    {"one quiet look at a time",
     {0, 900, 0, 900, 0, 900},
     {300, 300, 300, 300, 300, 300},
     "......"},
    {"nothing to give", {0, 0, 0, 0, 0, 0}, {108, 108, 108, 107, 108, 108}, "......"},
    {"it did not help: not again", {0, 0, 0, 0, 0, 0}, {300, 300, 300, 300, 308, 309}, ".x...x"},
    {"what has gone otherwise", {0, 0, 0, 0, 0, 0}, {50, 58, 59, 50, 50, 50}, "..x..."},
};

START_TEST(it_is_due_when_it_is_quiet)
{
    struct saed_slack_look look = {
        .now_ns = 5000 * MS, .cpu_ns = 3000 * MS, .resident_bytes = 100 * MB};
    struct saed_slack s;
    char due[7] = "";

    saed_slack_init(&s, look);
    for (size_t i = 0; i < 6; i++) {
        look.now_ns += 1000 * MS;
        look.cpu_ns += cases[_i].cpu_ms[i] * MS;
        look.resident_bytes = cases[_i].mb[i] * MB;
        due[i] = saed_slack_is_due(&s, look) ? 'x' : '.';
        if (due[i] == 'x')
            saed_slack_returned(&s, i < 5 ? cases[_i].mb[i + 1] * MB : 0);
    }
    ck_assert_msg(strcmp(due, cases[_i].due) == 0, "%s: %s, wanted %s", cases[_i].what, due,
                  cases[_i].due);
}
END_TEST

/* Signals wake the thread that looks: it has not been quiet for a second each time. */
START_TEST(looks_that_come_too_soon_are_passed_over)
{
    struct saed_slack_look look = {.now_ns = 1000 * MS, .resident_bytes = 100 * MB};
    struct saed_slack s;

    saed_slack_init(&s, look);
    look.resident_bytes = 300 * MB;
    for (int i = 1; i <= 10; i++) { /* of half a second or more there are two, the second is due */
        look.now_ns += 100 * MS;
        ck_assert_int_eq(saed_slack_is_due(&s, look), i == 10);
    }
}
END_TEST

START_TEST(measures)
{
    struct saed_slack_look a = saed_slack_measure(), b = a;
    size_t n = 64 * MB;
    char *p = malloc(n);

    ck_assert_ptr_nonnull(p);
    memset(p, 1, n);
    ck_assert_int_eq(p[n / 2], 1);
    while (b.cpu_ns < a.cpu_ns + 10 * MS)
        b = saed_slack_measure();
    ck_assert_uint_gt(b.now_ns, a.now_ns);
    ck_assert_uint_gt(b.resident_bytes, a.resident_bytes + 60 * MB);
    free(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slack");
    TCase *t = tcase_create("slack");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_loop_test(t, it_is_due_when_it_is_quiet, 0, (int)SAE_COUNTOF(cases));
    tcase_add_test(t, looks_that_come_too_soon_are_passed_over);
    tcase_add_test(t, measures);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
