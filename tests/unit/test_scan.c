/* test_scan.c - decimals, hex digits and percent codes in text that ends anywhere. */
#include "lib/scan.h"

#include <check.h>
#include <string.h>

static const struct {
    const char *text;
    int n; /* digits; 0: none */
    uint64_t value;
    bool fits;
} decimals[] = {
    {"", 0, 0, true},
    {"x1", 0, 0, true},
    {"-1", 0, 0, true},
    {"+1", 0, 0, true},
    {" 1", 0, 0, true},
    {"0", 1, 0, true},
    {"007", 3, 7, true},
    {"12,3", 2, 12, true},
    {"18446744073709551615", 20, UINT64_MAX, true},
    {"18446744073709551616", 20, UINT64_MAX, false},
    {"18446744073709551616000x", 23, UINT64_MAX, false},
    {"99999999999999999999", 20, UINT64_MAX, false},
};

START_TEST(reads_decimals)
{
    const char *s = decimals[_i].text, *next;
    size_t n = strlen(s);
    uint64_t v = 5;
    bool fits, whole = decimals[_i].fits && n > 0 && (size_t)decimals[_i].n == n;

    next = sae_scan_u64(s, s + n, &v, &fits);
    if (decimals[_i].n)
        ck_assert_ptr_eq(next, s + decimals[_i].n);
    else
        ck_assert_ptr_null(next);
    ck_assert_uint_eq(v, decimals[_i].value);
    ck_assert_int_eq(fits, decimals[_i].fits);
    v = 5;
    ck_assert_int_eq(sae_scan_whole_u64(s, n, &v), whole);
    ck_assert_uint_eq(v, whole ? decimals[_i].value : 5);
}
END_TEST

START_TEST(stops_at_the_end)
{
    const char *s = "1234";
    uint64_t v;
    bool fits;

    ck_assert_ptr_eq(sae_scan_u64(s, s + 2, &v, &fits), s + 2);
    ck_assert_uint_eq(v, 12);
    s = "%41";
    ck_assert_int_eq(sae_scan_percent(s, s + 2), -1);
}
END_TEST

START_TEST(knows_every_character)
{
    static const char hex[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";

    for (int i = -128; i < 128; i++) {
        char c = (char)i;
        const char *low = c ? strchr(hex, c) : NULL, *up = c ? strchr(upper, c) : NULL;
        int want = low ? (int)(low - hex) : up ? (int)(up - upper) : -1;

        ck_assert_int_eq(sae_hex_digit(c), want);
        ck_assert_int_eq(sae_is_digit(c), want >= 0 && want < 10);
    }
}
END_TEST

START_TEST(reads_percent_codes)
{
    static const struct {
        const char *text;
        int value;
    } codes[] = {{"%41", 0x41}, {"%2f", '/'}, {"%2Fx", '/'}, {"%00", 0},  {"%fF", 255}, {"%4", -1},
                 {"%", -1},     {"", -1},     {"%4g", -1},   {"%g4", -1}, {"4141", -1}};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        ck_assert_int_eq(sae_scan_percent(codes[i].text, codes[i].text + strlen(codes[i].text)),
                         codes[i].value);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scan");
    TCase *t = tcase_create("scan");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, reads_decimals, 0, sizeof decimals / sizeof decimals[0]);
    tcase_add_test(t, stops_at_the_end);
    tcase_add_test(t, knows_every_character);
    tcase_add_test(t, reads_percent_codes);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
