/* test_pace.c - the rate of the last ten seconds, stepped: clock and totals are the test's. */
#include "server/net/pace.h"

#include <check.h>

#define S SAED_SECOND_NS
#define BEGIN (1000 * S)

/* Bytes come at `early` a second for 20 s and at `late` from then on; noted every `step` ms; the
 * rate at the given second. */
static const struct {
    uint64_t early, late, step, at, rate;
} paces[] = {
    {1000, 1000, 250, 5, 1000},
    {1000, 1000, 250, 40, 1000},
    {1000, 0, 250, 25, 500},
    {1000, 0, 250, 29, 100},
    {1000, 0, 250, 30, 0},
    {0, 1000, 250, 25, 500},
    {0, 1000, 250, 40, 1000},
    {1000, 500, 1000, 40, 500},
    {1000, 500, 7000, 63, 500},
    {1000000, 3, 250, 40, 3},
    {1ull << 40, 0, 250, 20, 1ull << 40},
    {0, 0, 250, 60, 0},
};

START_TEST(the_last_ten_seconds)
{
    struct saed_pace p;
    uint64_t total = 7, rate;

    saed_pace_begin(&p, total, BEGIN);
    for (uint64_t ms = 0; ms <= paces[_i].at * 1000; ms += paces[_i].step) {
        uint64_t early = ms < 20000 ? ms : 20000;

        total = 7 + early * paces[_i].early / 1000 + (ms - early) * paces[_i].late / 1000;
        saed_pace_note(&p, total, BEGIN + ms * 1000000);
    }
    rate = saed_pace_rate(&p, BEGIN + paces[_i].at * S);
    ck_assert_msg(rate == paces[_i].rate, "%d: %llu bytes a second", _i, (unsigned long long)rate);
}
END_TEST

/* Nobody looked for longer than the rate looks back: it looks back to who last did. */
START_TEST(a_long_gap)
{
    struct saed_pace p;

    saed_pace_begin(&p, 0, BEGIN);
    saed_pace_note(&p, 100, BEGIN + S);
    saed_pace_note(&p, 5100, BEGIN + 500 * S);
    ck_assert_uint_eq(saed_pace_rate(&p, BEGIN + 500 * S), 10);
    saed_pace_note(&p, 5100, BEGIN + 511 * S);
    ck_assert_uint_eq(saed_pace_rate(&p, BEGIN + 511 * S), 0);
}
END_TEST

START_TEST(a_clock_that_was_read_before)
{
    struct saed_pace p;

    saed_pace_begin(&p, 0, BEGIN);
    saed_pace_note(&p, 10, BEGIN - S);
    saed_pace_note(&p, 40, BEGIN + 4 * S);
    saed_pace_note(&p, 80, BEGIN + 3 * S);
    ck_assert_uint_eq(saed_pace_rate(&p, BEGIN + 4 * S), 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pace");
    TCase *t = tcase_create("pace");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_loop_test(t, the_last_ten_seconds, 0, SAE_COUNTOF(paces));
    tcase_add_test(t, a_long_gap);
    tcase_add_test(t, a_clock_that_was_read_before);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
