/* test_numlist.c - lists of numbers, read and printed: each number as it is alone (test_numtext.c),
 * whatever stands beside it and wherever the text ends. */
#include "lib/num.h"
#include "proto/json/numtext.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t rng;

static uint32_t next_u32(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 32);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Room enough that the whole list may be read the fast way. */
#define TAIL "0.5,0.25,0.125,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]"
enum { TAIL_NUMBERS = 22 }; /* the last has no comma */

/* The first number of `s` in front of the tail, and how many were read with it. */
static size_t read_first(const char *s, float *out, const char **next, size_t *at)
{
    static char text[512];
    static float v[64];
    size_t n;

    snprintf(text, sizeof text, "%s," TAIL, s);
    n = sae_num_read_list(text, text + strlen(text), v, 64, next);
    *out = v[0];
    *at = (size_t)(*next - text);
    return n;
}

static void check_first(const char *s)
{
    float want = (float)strtod(s, NULL), got;
    const char *next;
    size_t at, n = read_first(s, &got, &next, &at);

    if (isinf(want) ? n != 0 || at != 0
                    : n != 1 + TAIL_NUMBERS || sae_f32_bits(got) != sae_f32_bits(want))
        ck_abort_msg("%s: %zu numbers, %a, want %a", s, n, (double)got, (double)want);
}

static size_t put_digits(char *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        s[i] = (char)('0' + next_u32() % 10);
    return n;
}

/* A number of JSON with 1 to 40 digits before and behind its point, zeros often, maybe an exponent.
 */
static void random_number(char *s)
{
    unsigned whole = next_u32() % 4 ? next_u32() % 3 : next_u32() % 40;

    if (next_u32() & 1)
        *s++ = '-';
    if (whole == 0 || next_u32() % 4 == 0) {
        *s++ = '0';
    } else {
        *s++ = (char)('1' + next_u32() % 9);
        s += put_digits(s, whole - 1);
    }
    if (next_u32() % 8) {
        unsigned zeros = next_u32() % 4 ? 0 : next_u32() % 12;

        *s++ = '.';
        memset(s, '0', zeros);
        s += zeros;
        s += put_digits(s, 1 + (next_u32() % 4 ? next_u32() % 20 : next_u32() % 40));
    }
    *s = '\0';
    if (next_u32() % 8 == 0)
        sprintf(
            s, "%c%s%u", "eE" [next_u32() & 1], (const char *[]) { "", "+", "-" }[next_u32() % 3],
            next_u32() % 50);
}

START_TEST(random_numbers_are_those_of_strtod)
{
    char s[160];

    rng = 1;
    for (int i = 0; i < 500000; i++) {
        random_number(s);
        check_first(s);
    }
}
END_TEST

/* Midpoints of f32 and the doubles beside them, with few enough digits for the fast way. */
START_TEST(numbers_near_midpoints_are_those_of_strtod)
{
    static const char *const ties[] = {
        "8388608.5",  "8388609.5",  "4194304.25", "4194304.75",           "2097152.125",
        "-8388608.5", "1048576.5",  "0.5",        "8388608.500000000001", "8388609.4999999999",
        "16777217",   "16777219.0", "9999999.5",  "8388608.49999999999",  "1.00000005960464477"};
    char s[64];

    for (size_t i = 0; i < sizeof ties / sizeof *ties; i++)
        check_first(ties[i]);
    rng = 2;
    for (int i = 0; i < 200000; i++) {
        /* 2^-20 to 2^23 */
        uint32_t bits = (107u << 23) + next_u32() % (43u << 23);
        double v = sae_f32_from_bits(bits), mid = (v + (double)sae_f32_from_bits(bits + 1)) / 2;
        int digits = mid >= 1 ? 17 - (int)log10(mid) : 18 - (int)(next_u32() % 3);

        mid = i % 3 == 0 ? mid : nextafter(mid, i % 3 == 1 ? 0 : INFINITY);
        snprintf(s, sizeof s, "%.*f", digits - (int)(next_u32() % 3), mid);
        check_first(s);
    }
}
END_TEST

static const char *const refused[] = {
    "01",
    "-01",
    "00",
    "1.",
    "-1.",
    ".5",
    "-.5",
    "-",
    "+1",
    "--1",
    "1e",
    "1e+",
    "1.e5",
    "0.e1",
    "1.2e",
    "1.2.3",
    "1..2",
    "1x",
    "1.5x",
    "0x1",
    "1 2",
    "1.5 2",
    "",
    "NaN",
    "\"NaN\"",
    "null",
    "[1",
    "1]",
    "1.5}",
    "1e5.5",
    "1/2",
    "1:2",
    "/",
    ":",
    "12345678901234567890x",
    "1.123456789012345678901234567x",
    "1e39",
    "-1e400",
    "340282366920938463463374607431768211456",
    "0000001",
    "00.5",
    "-00.5",
    "1.5e5e5",
    "\xb1",
    "1\xb1",
    "1.5\xb1",
    "1.12345678\xae",
};

START_TEST(what_is_no_number_is_left)
{
    float v;
    const char *next;
    size_t at;

    ck_assert_uint_eq(read_first(refused[_i], &v, &next, &at), 0);
    ck_assert_uint_eq(at, 0);
}
END_TEST

/* The list `text` of n bytes, on the heap without a byte to spare, against its numbers one by one.
 */
static void check_list(const char *text, size_t n, size_t cap)
{
    char *p = malloc(n ? n : 1);
    const char *next, *end = p + n, *q = p, *last = p;
    float *got = malloc((cap + 1) * sizeof *got), want;
    size_t count, i = 0;

    memcpy(p, text, n);
    for (size_t k = 0; k <= cap; k++)
        got[k] = 42.0f;
    count = sae_num_read_list(p, end, got, cap, &next);
    for (; i < cap; i++) {
        while (q < end && strchr(" \t\r\n", *q))
            q++;
        if (q == end || sae_num_read(q, end, &want, &q) != SAE_NUM_OK)
            break;
        while (q < end && strchr(" \t\r\n", *q))
            q++;
        if (q == end || *q != ',')
            break;
        last = ++q;
        if (i < count && sae_f32_bits(got[i]) != sae_f32_bits(want))
            ck_abort_msg("%.*s: number %zu is %a", (int)n, text, i, (double)got[i]);
    }
    while (next > last && strchr(" \t\r\n", next[-1]))
        next--; /* blanks behind the comma may be read */
    if (count != i || next != last || got[cap] != 42.0f)
        ck_abort_msg("%.*s: %zu of %zu numbers, %td of %td bytes", (int)n, text, count, i, next - p,
                     last - p);
    free(got);
    free(p);
}

static const char *const lists[] = {
    "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26]",
    "0,0,0,0,0,0,0,0,0,0,0,0,0.5,0,0,0,0,-0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]",
    "0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]",
    "0,0,0, 0,0,0,0,0 ,0,0,0,0,\n0,0,0,0,0,00,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]",
    "0.12345678,-1.2345678,0.012345678,-2.5,12.345678,-0.123456789012345678,7.1234567890123456]",
    "-0.1, 0.12, -0.123, 0.1234, -0.12345, 0.123456, -0.1234567, 0.12345678, -0.123456789, 1e-5]",
    "1 , 2\t,\r\n  3.5 ,\n    4.25,\n    5.125,\n    1234567.25,\n    12345678.5,\n    0.1\n]",
    "1.5,2.5,,3.5,4.5,5.5,6.5,7.5,8.5,9.5,0.5,1.5,2.5,3.5,4.5,5.5,6.5,7.5,8.5,9.5,0.5,1.5]",
    "1.5,2.5,]                                                                           ",
    "-1.12345678901234567890123456789012345678901234567890,1.5,2.5e3,-2.5E-3,1e5,1e-5,12,0.5]",
};

/* Cut at every byte, with room for every number of numbers: ASan sees a byte too far. */
START_TEST(lists_may_end_anywhere)
{
    const char *text = lists[_i];

    for (size_t n = 0; n <= strlen(text); n++)
        check_list(text, n, 48);
    for (size_t cap = 0; cap < 48; cap++)
        check_list(text, strlen(text), cap);
}
END_TEST

START_TEST(random_lists_are_their_numbers)
{
    static const char *const separators[] = {",", ",", ", ", ",\n", " , ", ",\r\n\t  "};
    static char text[8192];

    rng = 3;
    for (int i = 0; i < 4000; i++) {
        const char *separator = separators[next_u32() % 6];
        size_t n = 0;

        for (unsigned k = next_u32() % 40; k > 0; k--) {
            if (next_u32() % 3 == 0)
                strcpy(text + n, next_u32() & 1 ? "0" : "0.0");
            else
                random_number(text + n);
            n += strlen(text + n);
            n += (size_t)sprintf(text + n, "%s", separator);
        }
        n += (size_t)sprintf(text + n, "1]");
        check_list(text, next_u32() % 4 ? n : next_u32() % n, 48);
    }
}
END_TEST

/* ---- printing -------------------------------------------------------------------------------- */

static float random_value(void)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, -0.0f, 1.0f, 1e-45f, 3e38f, 1e5f};
    uint32_t bits = next_u32();
    float v = sae_f32_from_bits(bits);

    switch (next_u32() % 8) {
    case 0:
        return odd[bits % 8];
    case 1:
        return v;
    case 2:
    case 3:
        return (float)(int32_t)bits * 0x1p-31f;
    case 4:
        return (float)((int32_t)bits >> (bits & 31));
    default:
        return 0.0f;
    }
}

/* With every limit: the same bytes as one by one up to it, nothing behind the slack. */
START_TEST(lists_are_printed_as_their_numbers_are)
{
    enum { MOST = 24 };
    char want[MOST * 17 + 1], got[MOST * 17 + SAE_NUM_SLACK + 1];
    float v[MOST];

    rng = 4;
    for (int i = 0; i < 20000; i++) {
        size_t count = next_u32() % (MOST + 1), n = 0, limit;

        for (size_t k = 0; k < count; k++) {
            v[k] = random_value();
            n += sae_num_print(want + n, v[k]);
            want[n++] = ',';
        }
        limit = next_u32() % 4 ? n : next_u32() % (n + 1);
        memset(got, '#', sizeof got);
        size_t end = (size_t)(sae_num_print_list(got, got + limit, v, count) - got);
        if (limit == n ? end != n : end < n && end <= limit)
            ck_abort_msg("%zu of %zu bytes, limit %zu", end, n, limit);
        if (end > n || memcmp(got, want, end) != 0)
            ck_abort_msg("%.*s printed, want %.*s", (int)end, got, (int)n, want);
        for (size_t k = limit + SAE_NUM_SLACK; k < sizeof got; k++)
            if (got[k] != '#')
                ck_abort_msg("byte %zu written, limit %zu", k, limit);
    }
}
END_TEST

START_TEST(ids_are_printed)
{
    uint32_t ids[64];
    char want[64 * 11 + 1], got[64 * 11 + SAE_NUM_SLACK];
    size_t count = 0, n = 0;

    for (uint64_t power = 1; power <= UINT32_MAX; power *= 10)
        for (uint64_t around = 0; around < 4; around++)
            ids[count++] = (uint32_t)(power + around - (power > 1 ? 2 : 1));
    ids[count++] = UINT32_MAX;
    ids[count++] = 1234567890;
    for (size_t i = 0; i < count; i++)
        n += (size_t)sprintf(want + n, "%u,", ids[i]);
    ck_assert_uint_eq((size_t)(sae_num_print_ids(got, got + n, ids, count) - got), n);
    ck_assert_mem_eq(got, want, n);
    ck_assert_ptr_eq(sae_num_print_ids(got, got, ids, 0), got);
    ck_assert_uint_lt((size_t)(sae_num_print_ids(got, got + 20, ids, count) - got), 32);
    rng = 5;
    for (int i = 0; i < 200000; i++) {
        uint32_t id = next_u32() >> (next_u32() & 31);

        n = (size_t)sprintf(want, "%u,", id);
        if ((size_t)(sae_num_print_ids(got, got, &id, 1) - got) != n || memcmp(got, want, n) != 0)
            ck_abort_msg("%u printed %.*s", id, (int)n, got);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("numlist");
    TCase *t = tcase_create("numlist");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 120);
    tcase_add_test(t, random_numbers_are_those_of_strtod);
    tcase_add_test(t, numbers_near_midpoints_are_those_of_strtod);
    tcase_add_loop_test(t, what_is_no_number_is_left, 0, sizeof refused / sizeof *refused);
    tcase_add_loop_test(t, lists_may_end_anywhere, 0, sizeof lists / sizeof *lists);
    tcase_add_test(t, random_lists_are_their_numbers);
    tcase_add_test(t, lists_are_printed_as_their_numbers_are);
    tcase_add_test(t, ids_are_printed);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
