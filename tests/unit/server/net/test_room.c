/* test_room.c - who is in, who leaves, who is beyond: counts, stepped. */
#include "server/net/room.h"

#include <check.h>

#define MAX 3
static struct saed_room r;

static void start(void)
{
    saed_room_init(&r, MAX);
}

static void stop(void)
{
    saed_room_fini(&r);
}

static enum saed_place come(void)
{
    ck_assert(saed_room_has(&r));
    saed_room_accepted(&r);
    return saed_room_opened(&r);
}

static void fill(void)
{
    while (!saed_room_is_full(&r))
        ck_assert_int_eq(come(), SAED_PLACE_IN);
}

START_TEST(four_are_let_in_beyond)
{
    fill();
    ck_assert_uint_eq(saed_room_count(&r), MAX);
    for (int i = 0; i < SAED_ROOM_BEYOND; i++)
        ck_assert_int_eq(come(), SAED_PLACE_BEYOND);
    ck_assert(!saed_room_has(&r));
    ck_assert_uint_eq(saed_room_count(&r), MAX + SAED_ROOM_BEYOND);
    saed_room_closed(&r, SAED_PLACE_BEYOND);
    ck_assert(saed_room_has(&r));
    ck_assert_int_eq(come(), SAED_PLACE_BEYOND);
    saed_room_closed(&r, SAED_PLACE_IN);
    ck_assert_int_eq(come(), SAED_PLACE_IN);
    ck_assert(!saed_room_has(&r));
}
END_TEST

/* Accepted is as good as in, whenever it will be opened. */
START_TEST(those_who_are_coming_count)
{
    for (int i = 0; i < MAX; i++) {
        ck_assert(!saed_room_is_full(&r));
        saed_room_accepted(&r);
    }
    ck_assert(saed_room_is_full(&r));
    ck_assert_uint_eq(saed_room_count(&r), 0);
    for (int i = 0; i < SAED_ROOM_BEYOND; i++)
        saed_room_accepted(&r);
    ck_assert(!saed_room_has(&r));
    for (int i = 0; i < MAX; i++)
        ck_assert_int_eq(saed_room_opened(&r), SAED_PLACE_IN);
    for (int i = 0; i < SAED_ROOM_BEYOND; i++)
        ck_assert_int_eq(saed_room_opened(&r), SAED_PLACE_BEYOND);
}
END_TEST

START_TEST(who_leaves_makes_room_at_once)
{
    fill();
    saed_room_accepted(&r);
    ck_assert(saed_room_leave(&r));
    ck_assert_int_eq(saed_room_opened(&r), SAED_PLACE_IN);
    ck_assert(saed_room_is_full(&r));
    ck_assert_uint_eq(saed_room_count(&r), MAX + 1);
    saed_room_closed(&r, SAED_PLACE_LEAVING);
    ck_assert(saed_room_is_full(&r));
    ck_assert_uint_eq(saed_room_count(&r), MAX);
}
END_TEST

/* They still have sockets: not without end. */
START_TEST(not_all_leave_at_once)
{
    for (int i = 0; i < SAED_ROOM_LEAVING; i++) {
        fill();
        ck_assert(saed_room_leave(&r));
    }
    fill();
    ck_assert(!saed_room_leave(&r));
    ck_assert(saed_room_is_full(&r));
    saed_room_closed(&r, SAED_PLACE_LEAVING);
    ck_assert(saed_room_leave(&r));
}
END_TEST

START_TEST(who_is_beyond_is_admitted_when_there_is_room)
{
    fill();
    ck_assert_int_eq(come(), SAED_PLACE_BEYOND);
    ck_assert(!saed_room_admit(&r));
    saed_room_closed(&r, SAED_PLACE_IN);
    saed_room_accepted(&r); /* the place is promised to somebody else */
    ck_assert(!saed_room_admit(&r));
    ck_assert_int_eq(saed_room_opened(&r), SAED_PLACE_IN);
    saed_room_closed(&r, SAED_PLACE_IN);
    ck_assert(saed_room_admit(&r));
    ck_assert(saed_room_is_full(&r));
    ck_assert_uint_eq(saed_room_count(&r), MAX);
    saed_room_closed(&r, SAED_PLACE_IN);
}
END_TEST

START_TEST(what_never_comes_is_written_off)
{
    saed_room_write_off(&r);
    for (int i = 0; i < MAX + SAED_ROOM_BEYOND; i++)
        saed_room_accepted(&r);
    saed_room_write_off(&r); /* they have just been accepted */
    ck_assert(!saed_room_has(&r));
    ck_assert_int_eq(saed_room_opened(&r), SAED_PLACE_IN);
    saed_room_write_off(&r); /* one has come since: the others are on their way */
    ck_assert(!saed_room_has(&r));
    saed_room_write_off(&r);
    ck_assert(saed_room_has(&r));
    ck_assert(!saed_room_is_full(&r));
    ck_assert_int_eq(saed_room_opened(&r), SAED_PLACE_IN); /* late, but it comes */
    ck_assert_uint_eq(saed_room_count(&r), 2);
}
END_TEST

START_TEST(short_of_descriptors_the_house_is_smaller)
{
    ck_assert_int_eq(come(), SAED_PLACE_IN);
    saed_room_accepted(&r);
    saed_room_shrink(&r);
    ck_assert_uint_eq(saed_room_limit(&r), 2);
    ck_assert(saed_room_is_full(&r));
    ck_assert_int_eq(saed_room_opened(&r), SAED_PLACE_IN);
    ck_assert_int_eq(come(), SAED_PLACE_BEYOND);
    saed_room_shrink(&r); /* what is beyond does not count */
    ck_assert_uint_eq(saed_room_limit(&r), 2);
    saed_room_closed(&r, SAED_PLACE_IN);
    saed_room_closed(&r, SAED_PLACE_IN);
    saed_room_shrink(&r); /* one may always be in */
    ck_assert_uint_eq(saed_room_limit(&r), 1);
    saed_room_grow(&r);
    ck_assert_uint_eq(saed_room_limit(&r), MAX);
    fill();
    saed_room_shrink(&r);
    ck_assert_uint_eq(saed_room_limit(&r), MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("room");
    TCase *t = tcase_create("room");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, four_are_let_in_beyond);
    tcase_add_test(t, those_who_are_coming_count);
    tcase_add_test(t, who_leaves_makes_room_at_once);
    tcase_add_test(t, not_all_leave_at_once);
    tcase_add_test(t, who_is_beyond_is_admitted_when_there_is_room);
    tcase_add_test(t, what_never_comes_is_written_off);
    tcase_add_test(t, short_of_descriptors_the_house_is_smaller);
    suite_add_tcase(suite, t);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
