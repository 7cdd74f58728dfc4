/* test_numtext.c - numbers read as the correctly rounded double rounded to f32, and the shortest
 * text that reads back; singly here, lists in test_numlist.c. The oracle is glibc: strtod is
 * correctly rounded. */
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

/* Read all of `s`; the number must end where `s` does. */
static enum sae_num_result read_all(const char *s, float *out)
{
    const char *next;
    enum sae_num_result r = sae_num_read(s, s + strlen(s), out, &next);

    /* Not ck_assert: each of those writes to a pipe, and these run by the million. */
    if (r != SAE_NUM_SYNTAX && *next != '\0')
        ck_abort_msg("%s: stopped at %td", s, next - s);
    return r;
}

static void check_against_strtod(const char *s)
{
    float want = (float)strtod(s, NULL), got = 42.0f;
    enum sae_num_result r = read_all(s, &got);

    if (isinf(want) ? r != SAE_NUM_OVERFLOW
                    : r != SAE_NUM_OK || sae_f32_bits(got) != sae_f32_bits(want))
        ck_abort_msg("%s: result %d %a, want %a", s, (int)r, (double)got, (double)want);
}

static const char *const values[] = {
    "0",
    "-0",
    "0.0",
    "-0.0",
    "0e5",
    "-0e-5",
    "0.000e999999999999999999999",
    "1",
    "-1",
    "10",
    "1E5",
    "1e+5",
    "1e-5",
    "-1.5e-3",
    "16777216",
    "16777217",
    "16777219",
    "33554433",
    "9007199254740993",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e22",
    "1e23",
    "1e-22",
    "1e-23",
    "9007199254740993e-20",
    "9007199254740991e22",
    /* the double lies just above a midpoint of f32 that it is rounded onto */
    "1.00000017881393432617187499",
    "1.00000017881393432617187500",
    "1.00000017881393432617187501",
    "1.000000059604644775390625",
    "1.00000005960464477539062500000001",
    "1.0000000596046447753906249999999",
    "1.0000001788139343261718750000000000000000000001",
    /* the largest f32, and the first that is none */
    "3.4028234663852886e38",
    "3.4028235e38",
    "3.40282356e38",
    "3.4028235677973366e38",
    "3.4028235677973362e38",
    "3.40282356779733661637539395458142568447e38",
    "3.40282356779733661637539395458142568448e38",
    "340282346638528859811704183484516925440",
    "340282356779733661637539395458142568447",
    "340282356779733661637539395458142568448",
    "3.5e38",
    "9.99e38",
    "1e39",
    "1e400",
    "-1e400",
    "1e999999999999999999999999",
    "-1e99999999999",
    /* denormals of f32 and of double */
    "1.17549435e-38",
    "1.1754942e-38",
    "1.4e-45",
    "1e-45",
    "7.0064923216240854e-46",
    "7.0064923216240853e-46",
    "7.1e-46",
    "7.0e-46",
    "2.1e-45",
    "2.2250738585072014e-308",
    "5e-324",
    "1e-400",
    "-1e-400",
    "1e-99999999999999999999999",
    "4.9406564584124654e-324",
};

START_TEST(values_are_those_of_strtod)
{
    check_against_strtod(values[_i]);
}
END_TEST

START_TEST(zeros_and_exponents_outweigh_each_other)
{
    char s[1200];
    int n = snprintf(s, sizeof s, "0.%0400d", 0);

    snprintf(s + n, sizeof s - (size_t)n, "1e400"); /* 10^-401 * 10^400 */
    check_against_strtod(s);
    snprintf(s + n, sizeof s - (size_t)n, "123456789e405");
    check_against_strtod(s);
    n = snprintf(s, sizeof s, "-1%0400d", 0);
    snprintf(s + n, sizeof s - (size_t)n, "e-400");
    check_against_strtod(s);
    snprintf(s + n, sizeof s - (size_t)n, ".5e-401");
    check_against_strtod(s);
    check_against_strtod("0.00000000000000000000000000000000000000000000000000000000000012345e60");
}
END_TEST

START_TEST(random_decimals_are_those_of_strtod)
{
    char s[80];

    rng = 1;
    for (int i = 0; i < 400000; i++) {
        int n = 0, before = (int)(next_u32() % 12), after = (int)(next_u32() % 22);

        if (next_u32() & 1)
            s[n++] = '-';
        s[n++] = (char)('1' + next_u32() % 9);
        for (int k = 0; k < before; k++)
            s[n++] = (char)('0' + next_u32() % 10);
        if (after) {
            s[n++] = '.';
            for (int k = 0; k < after; k++)
                s[n++] = (char)('0' + next_u32() % 10);
        }
        s[n] = '\0';
        if (next_u32() & 1)
            snprintf(s + n, sizeof s - (size_t)n, "e%d", (int)(next_u32() % 110) - 60);
        check_against_strtod(s);
    }
}
END_TEST

/* Every f32 as a double with 17 digits (what Python's json writes), and the midpoints between
 * neighbours, exactly and a hair to either side: where rounding twice shows. */
START_TEST(long_decimals_near_midpoints_are_those_of_strtod)
{
    char s[320];

    rng = 2;
    for (int i = 0; i < 100000; i++) {
        uint32_t bits = next_u32() & 0x7fffffff;
        float v = sae_f32_from_bits(bits), up;

        if (bits >= 0x7f7fffff)
            continue;
        up = sae_f32_from_bits(bits + 1);
        double mid = ((double)v + (double)up) / 2;
        snprintf(s, sizeof s, "%.16e", (double)v);
        check_against_strtod(s);
        snprintf(s, sizeof s, "%.16e", mid);
        check_against_strtod(s);
        snprintf(s, sizeof s, "%.16e", nextafter(mid, 0));
        check_against_strtod(s);
        snprintf(s, sizeof s, "%.16e", nextafter(mid, INFINITY));
        check_against_strtod(s);
        snprintf(s, sizeof s, "%.*e", (int)(18 + i % 150),
                 mid); /* cut or exact, 19 digits and up */
        check_against_strtod(s);
    }
}
END_TEST

struct syntax_case {
    const char *text;
    int at;
};

static const struct syntax_case syntax[] = {
    {"", 0},   {"-", 1},   {"+1", 0},  {".5", 0},   {"1.", 2},   {"-1.", 3}, {"1.e5", 2},
    {"1e", 2}, {"1e+", 3}, {"1E-", 3}, {"1ex", 2},  {"-a", 1},   {"NaN", 0}, {"inf", 0},
    {"e5", 0}, {"--1", 1}, {"-.5", 1}, {"1.-5", 2}, {"0.e1", 2}, {"/", 0},   {":", 0},
};

START_TEST(grammar_is_jsons)
{
    const struct syntax_case *c = &syntax[_i];
    float v = 42.0f;
    const char *next;

    ck_assert_int_eq(sae_num_read(c->text, c->text + strlen(c->text), &v, &next), SAE_NUM_SYNTAX);
    ck_assert_int_eq(next - c->text, c->at);
    ck_assert(v == 42.0f);
}
END_TEST

static const struct syntax_case prefixes[] = {
    {"01", 1},    {"-012", 2},  {"1.5.5", 3}, {"1x", 1},           {"0x10", 1},
    {"1e5e5", 3}, {"1e5.5", 3}, {"12,", 2},   {"12345678/", 8},    {"12345678:", 8},
    {"1 2", 1},   {"1_000", 1}, {"1f", 1},    {"0.12345678x", 10}, {"00", 1},
};

START_TEST(reading_stops_behind_the_number)
{
    const struct syntax_case *c = &prefixes[_i];
    float v;
    const char *next;

    ck_assert_int_eq(sae_num_read(c->text, c->text + strlen(c->text), &v, &next), SAE_NUM_OK);
    ck_assert_int_eq(next - c->text, c->at);
}
END_TEST

/* The text is on the heap without a NUL, so that ASan sees a byte too far. */
START_TEST(reading_never_passes_the_end)
{
    static const char text[] = "-123456789012345678901.12345678901234567890e-123";

    for (size_t n = 0; n < sizeof text; n++) {
        char *p = malloc(n ? n : 1);
        const char *next;
        float v;

        memcpy(p, text, n);
        enum sae_num_result r = sae_num_read(p, p + n, &v, &next);
        ck_assert(next <= p + n);
        ck_assert_int_eq(r == SAE_NUM_SYNTAX, n == 0 || strchr("-.e", text[n - 1]) != NULL);
        free(p);
    }
}
END_TEST

struct print_case {
    uint32_t bits;
    const char *text;
};

static const struct print_case prints[] = {
    {0x00000000, "0"},
    {0x80000000, "-0.0"},
    {0x7fc00000, "\"NaN\""},
    {0xffc00001, "\"NaN\""},
    {0x7f800001, "\"NaN\""},
    {0x7f800000, "\"Infinity\""},
    {0xff800000, "\"-Infinity\""},
    {0x3f800000, "1"},
    {0xc0000000, "-2"},
    {0x3dcccccd, "0.1"},
    {0x3f000000, "0.5"},
    {0x40490fdb, "3.1415927"},
    {0x42c80000, "100"},
    {0x461c4000, "10000"},
    {0x47c35000, "1e+05"}, /* as std::to_chars: the shorter, plain when equal */
    {0x47f12040, "123456.5"},
    {0x501502f9, "1e+10"},
    {0x4b800000, "16777216"},
    {0x4f000000, "2147483600"}, /* 8 digits suffice */
    {0x7f7fffff, "3.4028235e+38"},
    {0xff7fffff, "-3.4028235e+38"},
    {0x80800000, "-1.1754944e-38"},
    {0x15ae43fd,
     "7.0385307e-26"}, /* 7.038531e-26 is nearer to it, but not once rounded to double */
    {0x15ae43fe, "7.038531e-26"},
    {0x15ae43fc, "7.03853e-26"},
    {0x95ae43fd, "-7.0385307e-26"},
    {0x00000001, "1e-45"},
    {0x00000002, "3e-45"},
    {0x3a83126f, "0.001"},
    {0x38d1b717, "1e-04"},
    {0x3903126f, "0.000125"},
};

START_TEST(printing_is_shortest)
{
    char s[SAE_NUM_TEXT_MAX + 1];
    size_t n = sae_num_print(s, sae_f32_from_bits(prints[_i].bits));

    s[n] = '\0';
    ck_assert_str_eq(s, prints[_i].text);
}
END_TEST

/* Significant digits in `s`. */
static int significant(const char *s)
{
    int n = 0, zeros = 0;

    for (; *s && *s != 'e'; s++) {
        if (*s < '0' || *s > '9' || (n == 0 && *s == '0'))
            continue;
        zeros = *s == '0' ? zeros + 1 : 0;
        n++;
    }
    return n - zeros;
}

/* What is printed of v is a number of JSON, is no longer than promised, reads back by strtod and by
 * us; one digit less would not do, and as many digits do not come nearer. */
static void check_printed(float v)
{
    char s[SAE_NUM_TEXT_MAX + 1], other[40];
    uint32_t bits = sae_f32_bits(v);
    size_t n = sae_num_print(s, v);
    float back;

    if (n >= SAE_NUM_TEXT_MAX) /* a comma follows */
        ck_abort_msg("%08x takes %zu bytes", (unsigned)bits, n);
    s[n] = '\0';
    if (read_all(s, &back) != SAE_NUM_OK || sae_f32_bits(back) != bits ||
        sae_f32_bits((float)strtod(s, NULL)) != bits)
        ck_abort_msg("%08x printed %s", (unsigned)bits, s);
    if (significant(s) > 1) {
        snprintf(other, sizeof other, "%.*e", significant(s) - 2, (double)v);
        if ((float)strtod(other, NULL) == v)
            ck_abort_msg("%s printed, %s would do", s, other);
    }
    if (significant(s) > 0) {
        snprintf(other, sizeof other, "%.*e", significant(s) - 1, (double)v);
        if ((float)strtod(other, NULL) == v && strtod(other, NULL) != strtod(s, NULL))
            ck_abort_msg("%s printed, %s is nearer", s, other);
    }
}

/* A million f32, a prime apart. */
START_TEST(every_4099th_value_comes_back)
{
    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += 4099)
        if (isfinite(sae_f32_from_bits((uint32_t)u)))
            check_printed(sae_f32_from_bits((uint32_t)u));
}
END_TEST

/* Where the rounding interval is not symmetric, where its size changes, and where digits are few.
 */
START_TEST(powers_of_two_integers_and_denormals_come_back)
{
    for (uint32_t e = 0; e < 255; e++)
        for (uint32_t around = 0; around < 5; around++)
            check_printed(sae_f32_from_bits((e << 23) + around - (e > 0 ? 2 : 0)));
    for (uint32_t u = 0; u < 100000; u++) {
        check_printed(sae_f32_from_bits(u));
        check_printed((float)u);
        check_printed((float)u * 1000.0f);
        check_printed((float)u * 0x1p-10f);
    }
    for (uint32_t k = 0; k < 9; k++) /* 10^k: the number of digits changes */
        for (int around = -3; around <= 3; around++)
            check_printed(
                sae_f32_from_bits(sae_f32_bits((float)pow(10, (double)k)) + (uint32_t)around));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("numtext");
    TCase *t = tcase_create("numtext");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, values_are_those_of_strtod, 0, sizeof values / sizeof *values);
    tcase_add_test(t, zeros_and_exponents_outweigh_each_other);
    tcase_add_test(t, random_decimals_are_those_of_strtod);
    tcase_add_test(t, long_decimals_near_midpoints_are_those_of_strtod);
    tcase_add_loop_test(t, grammar_is_jsons, 0, sizeof syntax / sizeof *syntax);
    tcase_add_loop_test(t, reading_stops_behind_the_number, 0, sizeof prefixes / sizeof *prefixes);
    tcase_add_test(t, reading_never_passes_the_end);
    tcase_add_loop_test(t, printing_is_shortest, 0, sizeof prints / sizeof *prints);
    tcase_add_test(t, every_4099th_value_comes_back);
    tcase_add_test(t, powers_of_two_integers_and_denormals_come_back);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
