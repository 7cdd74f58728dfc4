/* test_origin.c - hosts and origins as Host, Origin and options have them. */
#include "server/origin.h"

#include <check.h>
#include <string.h>

static const struct {
    const char *text, *host; /* NULL: it is none */
    unsigned port;
} authorities[] = {
    {"a", "a", 0},
    {"a.b:80", "a.b", 80},
    {"127.0.0.1:65535", "127.0.0.1", 65535},
    {"[::1]", "::1", 0},
    {"[::1]:8673", "::1", 8673},
    {"localhost.", "localhost", 0},
    {"localhost.:1", "localhost", 1},
    {"", NULL, 0},
    {":80", NULL, 0},
    {".", NULL, 0},
    {"[]", NULL, 0},
    {"[::1", NULL, 0},
    {"[::1]x", NULL, 0},
    {"a:", NULL, 0},
    {"a:0", NULL, 0},
    {"a:65536", NULL, 0},
    {"a:8o", NULL, 0},
    {"::1", NULL, 0},
};

START_TEST(an_authority_has_a_host_and_a_port)
{
    struct saed_authority a = {NULL, 0, 7};
    bool ok = saed_authority_parse(&a, authorities[_i].text);

    ck_assert_msg(ok == (authorities[_i].host != NULL), "%s", authorities[_i].text);
    if (!ok) {
        ck_assert_ptr_null(a.host);
        ck_assert_uint_eq(a.port, 7);
        return;
    }
    ck_assert_uint_eq(a.n_host, strlen(authorities[_i].host));
    ck_assert_int_eq(strncmp(a.host, authorities[_i].host, a.n_host), 0);
    ck_assert_uint_eq(a.port, authorities[_i].port);
}
END_TEST

static const struct {
    const char *text;
    bool is_loopback, below;
} hosts[] = {
    {"localhost", true, false},
    {"LocalHost.", true, false},
    {"127.0.0.1", true, false},
    {"127.255.255.254:80", true, false},
    {"[::1]:80", true, false},
    {"[0:0:0:0:0:0:0:1]", true, false},
    {"[::ffff:127.0.0.1]", true, false},
    {"a.localhost", true, true},
    {"a.b.LOCALHOST:1", true, true},
    {".localhost", false, false},
    {"xlocalhost", false, false},
    {"localhost.evil.example", false, false},
    {"127.0.0.1.evil.example", false, false},
    {"127.1", false, false},
    {"0x7f000001", false, false},
    {"2130706433", false, false},
    {"0.0.0.0", false, false},
    {"128.0.0.1", false, false},
    {"[::]", false, false},
    {"[::ffff:10.0.0.1]", false, false},
    {"[fe80::1]", false, false},
    {"[::1%lo]", false, false},
    {"evil.example", false, false},
};

START_TEST(loopback_is_told_by_name)
{
    struct saed_authority a;

    ck_assert(saed_authority_parse(&a, hosts[_i].text));
    ck_assert_msg(saed_authority_is_loopback(&a, true) == hosts[_i].is_loopback, "%s",
                  hosts[_i].text);
    ck_assert_msg(saed_authority_is_loopback(&a, false) ==
                      (hosts[_i].is_loopback && !hosts[_i].below),
                  "%s", hosts[_i].text);
}
END_TEST

static const struct {
    const char *origin, *authority;
    bool is_at;
} pairs[] = {
    {"http://a", "a", true},
    {"http://a", "A:80", true},
    {"http://a:80", "a", true},
    {"https://a", "a", true},
    {"https://a", "a:443", true},
    {"https://a.", "a", true},
    {"http://[::1]:9", "[::1]:9", true},
    {"app://a", "a", true},
    {"http://a", "a:443", false},
    {"http://a", "a:8673", false},
    {"http://a:8673", "a", false},
    {"http://a", "b", false},
    {"http://127.0.0.1:1", "localhost:1", false},
    {"app://a", "a:80", false},
};

START_TEST(an_origin_is_at_a_host_and_port)
{
    struct saed_origin o;
    struct saed_authority a;

    ck_assert(saed_origin_parse(&o, pairs[_i].origin));
    ck_assert(saed_authority_parse(&a, pairs[_i].authority));
    ck_assert_msg(saed_origin_is_at(&o, &a) == pairs[_i].is_at, "%s %s", pairs[_i].origin,
                  pairs[_i].authority);
}
END_TEST

START_TEST(origins_are_compared_whole)
{
    struct saed_origin a, b;

    ck_assert(saed_origin_parse(&a, "HTTPS://A.example") &&
              saed_origin_parse(&b, "https://a.example:443"));
    ck_assert(saed_origin_equals(&a, &b));
    ck_assert(saed_origin_parse(&b, "http://a.example:443"));
    ck_assert(!saed_origin_equals(&a, &b));
    ck_assert(saed_origin_parse(&b, "https://b.example"));
    ck_assert(!saed_origin_equals(&a, &b));
}
END_TEST

static const char *const no_origins[] = {
    "",           "null",           "a",         "://a",        "http:",      "http://",
    "http://a/",  "http://a/b",     "http://a?", "http://u@a",  "http://a b", "http://a;b",
    "http://a,b", "http://a:99999", "http:/a",   "https://*.a", "https://*",
};

START_TEST(what_is_no_origin)
{
    struct saed_origin o;

    ck_assert_msg(!saed_origin_parse(&o, no_origins[_i]), "%s", no_origins[_i]);
}
END_TEST

START_TEST(a_long_origin_is_none)
{
    char text[SAED_ORIGIN_MAX + 2];
    struct saed_origin o;

    memset(text, 'a', sizeof text);
    memcpy(text, "http://", 7);
    text[SAED_ORIGIN_MAX] = '\0';
    ck_assert(saed_origin_parse(&o, text));
    text[SAED_ORIGIN_MAX] = 'a';
    text[SAED_ORIGIN_MAX + 1] = '\0';
    ck_assert(!saed_origin_parse(&o, text));
}
END_TEST

START_TEST(a_host_is_the_same_with_and_without_brackets)
{
    struct saed_authority a;

    ck_assert(saed_authority_parse(&a, "[fe80::1]:80"));
    ck_assert(saed_authority_has_host(&a, "FE80::1"));
    ck_assert(saed_authority_has_host(&a, "[fe80::1]"));
    ck_assert(!saed_authority_has_host(&a, "fe80::2"));
    ck_assert(saed_authority_parse(&a, "Saed.Example:80"));
    ck_assert(saed_authority_has_host(&a, "saed.example."));
    ck_assert(!saed_authority_has_host(&a, "xsaed.example"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("origin");
    TCase *t = tcase_create("origin");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, an_authority_has_a_host_and_a_port, 0, SAE_COUNTOF(authorities));
    tcase_add_loop_test(t, loopback_is_told_by_name, 0, SAE_COUNTOF(hosts));
    tcase_add_loop_test(t, an_origin_is_at_a_host_and_port, 0, SAE_COUNTOF(pairs));
    tcase_add_test(t, origins_are_compared_whole);
    tcase_add_loop_test(t, what_is_no_origin, 0, SAE_COUNTOF(no_origins));
    tcase_add_test(t, a_long_origin_is_none);
    tcase_add_test(t, a_host_is_the_same_with_and_without_brackets);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
