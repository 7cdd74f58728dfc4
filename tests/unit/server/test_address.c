/* test_address.c - what --listen takes, and how it is told. */
#include "server/address.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *text, *told, *host, *path; /* told NULL: it is none */
    bool is_loopback;
    unsigned mode; /* 0: none is said */
} addresses[] = {
    {"127.0.0.1:0", "http://127.0.0.1:0", "127.0.0.1", "", true, 0},
    {"[::1]:80", "http://[::1]:80", "::1", "", true, 0},
    {"LocalHost:65535", "http://LocalHost:65535", "LocalHost", "", true, 0},
    {"0.0.0.0:1", "http://0.0.0.0:1", "0.0.0.0", "", false, 0},
    {"a-b.example.org:1", "http://a-b.example.org:1", "a-b.example.org", "", false, 0},
    {"[fe80::1%eth0]:1", "http://[fe80::1%eth0]:1", "fe80::1%eth0", "", false, 0},
    {"unix:/run/saed.sock", "unix:/run/saed.sock", "", "/run/saed.sock", false, 0},
    {"unix:s:0660", "unix:s", "", "s", false, 0660},
    {"unix:s:777", "unix:s", "", "s", false, 0777},
    {"unix:a:b:600", "unix:a:b", "", "a:b", false, 0600},
    {"unix:a:b", "unix:a:b", "", "a:b", false, 0},
    {"unix:s:68", "unix:s:68", "", "s:68", false, 0},
    {"unix:s:1777", "unix:s:1777", "", "s:1777", false, 0},
    {"unix:s:0", "unix:s:0", "", "s:0", false, 0},
    {"unix:", NULL, NULL, NULL, false, 0},
    {"unix::0600", NULL, NULL, NULL, false, 0},
    {"unix:dir/", NULL, NULL, NULL, false, 0},
    {"unix:a\nb", NULL, NULL, NULL, false, 0},
    {"", NULL, NULL, NULL, false, 0},
    {"127.0.0.1", NULL, NULL, NULL, false, 0},
    {"[127.0.0.1]:80", NULL, NULL, NULL, false, 0},
    {"127.0.0.1:65536", NULL, NULL, NULL, false, 0},
};

START_TEST(addresses_are_read_and_told)
{
    struct saed_address a = {.port = 7, .passed_fd = 3};
    const char *text = addresses[_i].text, *told = addresses[_i].told;
    char printed[SAED_ADDRESS_TEXT];

    ck_assert_msg(saed_address_parse(&a, text) == (told != NULL), "%s", text);
    if (!told) {
        ck_assert_uint_eq(a.port, 7);
        return;
    }
    saed_address_print(&a, printed);
    ck_assert_str_eq(printed, told);
    ck_assert_str_eq(a.host, addresses[_i].host);
    ck_assert_str_eq(a.path, addresses[_i].path);
    ck_assert(a.is_loopback == addresses[_i].is_loopback);
    ck_assert(a.has_mode == (addresses[_i].mode != 0));
    ck_assert_uint_eq(a.mode, addresses[_i].mode);
    ck_assert_int_eq(a.passed_fd, -1);
}
END_TEST

START_TEST(a_path_is_as_long_as_the_kernel_has_room)
{
    char text[128] = "unix:";
    struct saed_address a;

    memset(text + 5, 'p', 107);
    ck_assert(saed_address_parse(&a, text));
    text[5 + 107] = 'p';
    ck_assert(!saed_address_parse(&a, text));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("address");
    TCase *t = tcase_create("address");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, addresses_are_read_and_told, 0, SAE_COUNTOF(addresses));
    tcase_add_test(t, a_path_is_as_long_as_the_kernel_has_room);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
