/* test_page.c - the routes of the page: its files as they are in the tree, what a browser may do
 * with them, and that nobody needs a key for them. What the page does is tests/page's. */
#include "tests/http/support_body.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct server s;

static void start(void)
{
    const char *tmp = getenv("TMPDIR");
    const char line[] = "alice:correct-horse-battery-staple\n";
    char name[256];
    int fd;

    snprintf(name, sizeof name, "%s/saed-page-XXXXXX", tmp ? tmp : "/tmp");
    fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fchmod(fd, 0644), 0); /* the image's daemon is another user */
    ck_assert_int_eq(write(fd, line, sizeof line - 1), (int)sizeof line - 1);
    close(fd);
    s = server_start((const char *const[]){"--api-key-file", name, "i=identity:4", NULL});
    unlink(name);
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static const struct {
    const char *path, *file, *type;
} files[] = {
#define SAED_WEB_FILE(id, path, file, type) {path, file, type},
#include "server/web/files.def"
#undef SAED_WEB_FILE
};
#define N_FILES ((int)(sizeof files / sizeof files[0]))

static const char *const policy[] = {
    "default-src 'none'", "script-src 'self'",      "style-src 'self'", "connect-src 'self'",
    "img-src 'self'",     "frame-ancestors 'self'", "base-uri 'none'",  "form-action 'none'",
};

START_TEST(files_are_those_of_the_tree_and_need_no_key)
{
    struct reply r = get(&s, files[_i].path), head;
    FILE *f = fopen(files[_i].file, "rb");
    char *want = malloc(1 << 20);
    const char *said;

    ck_assert(f != NULL && want != NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_eq(r.n, fread(want, 1, 1 << 20, f));
    ck_assert_uint_gt(r.n, 100);
    ck_assert(memcmp(r.body, want, r.n) == 0);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), files[_i].type);
    ck_assert_str_eq(reply_header(&r, "Cache-Control"), "no-store");
    ck_assert_ptr_null(reply_header(&r, "Set-Cookie"));
    said = reply_header(&r, "Content-Security-Policy");
    ck_assert_ptr_nonnull(said);
    for (size_t i = 0; i < sizeof policy / sizeof policy[0]; i++)
        ck_assert_msg(strstr(said, policy[i]) != NULL, "%s lacks %s", said, policy[i]);
    /* Nothing is cut off its end. */
    ck_assert_str_eq(said + strlen(said) - strlen("'script'"), "'script'");
    ck_assert_msg(!strstr(said, "unsafe") && !strstr(said, "http") && !strstr(said, "*"), "%s",
                  said);

    head = request(&s, "HEAD", files[_i].path, NULL, NULL, 0);
    ck_assert_int_eq(head.status, 200);
    ck_assert_uint_eq(head.n, 0);
    ck_assert_str_eq(reply_header(&head, "Content-Type"), files[_i].type);
    ck_assert_uint_eq(strtoul(reply_header(&head, "Content-Length"), NULL, 10), r.n);
    reply_free(&head);
    reply_free(&r);
    fclose(f);
    free(want);
}
END_TEST

/* Whatever the page shows has the keys' guard before it. */
START_TEST(what_is_behind_the_page_needs_one)
{
    static const char *const behind[] = {"/v1", "/v1/dictionaries", "/v1/dictionaries/i",
                                         "/metrics", "/openapi.json"};
    struct reply r = get(&s, behind[_i]);

    check_problem(&r, 401, "unauthorized", NULL, NULL);
    reply_free(&r);
}
END_TEST

START_TEST(other_methods_and_paths_are_as_elsewhere)
{
    static const char *const none[] = {"/page",     "/page/",   "/page.html", "/page/none.js",
                                       "/page.js/", "/PAGE.JS", "//"};
    static const char key[] = "Authorization: Bearer correct-horse-battery-staple";
    struct reply r = request(&s, "POST", files[_i].path, NULL, "x", 1);

    check_problem(&r, 405, "method_not_allowed", files[_i].path, NULL);
    ck_assert_str_eq(reply_header(&r, "Allow"), "GET, HEAD, OPTIONS");
    reply_free(&r);
    r = request(&s, "OPTIONS", files[_i].path, NULL, NULL, 0);
    ck_assert_int_eq(r.status, 204);
    ck_assert_str_eq(reply_header(&r, "Allow"), "GET, HEAD, OPTIONS");
    reply_free(&r);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        r = get(&s, none[i]);
        ck_assert_int_eq(r.status, 401);
        reply_free(&r);
        r = request(&s, "GET", none[i], (const char *const[]){key, NULL}, NULL, 0);
        ck_assert_msg(r.status == 404, "%s: %d", none[i], r.status);
        reply_free(&r);
    }
}
END_TEST

START_TEST(host_and_origin_hold_for_the_page_too)
{
    struct server t = server_start((const char *const[]){"i=identity:4", NULL});
    struct reply r = request(&t, "GET", files[_i].path,
                             (const char *const[]){"Host: evil.example", NULL}, NULL, 0);

    check_problem(&r, 403, "forbidden", "evil.example", "--allow-host");
    reply_free(&r);
    r = request(&t, "GET", files[_i].path,
                (const char *const[]){"Origin: https://evil.example", NULL}, NULL, 0);
    check_problem(&r, 403, "forbidden", "https://evil.example", "--cors-allow-origin");
    reply_free(&r);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

/* Each file that the page names is a route, by a URL that is relative. */
START_TEST(files_name_routes_by_relative_urls)
{
    struct reply r = get(&s, files[_i].path);
    static const char *const absolute[] = {"=\"/", "\"/v1", "\"/page", "'/v1", "`/"};

    for (size_t i = 0; i < sizeof absolute / sizeof absolute[0]; i++)
        ck_assert_msg(!strstr(r.body, absolute[i]), "%s has %s", files[_i].path, absolute[i]);
    ck_assert_ptr_null(strstr(r.body, "innerHTML"));
    ck_assert_ptr_null(strstr(r.body, "localStorage"));
    ck_assert_ptr_null(strstr(r.body, "https://"));
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("page");
    TCase *t = tcase_create("page");
    SRunner *sr;
    int failed;

    tcase_set_timeout(t, 20);
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_loop_test(t, files_are_those_of_the_tree_and_need_no_key, 0, N_FILES);
    tcase_add_loop_test(t, what_is_behind_the_page_needs_one, 0, 5);
    tcase_add_loop_test(t, other_methods_and_paths_are_as_elsewhere, 0, N_FILES);
    tcase_add_loop_test(t, host_and_origin_hold_for_the_page_too, 0, N_FILES);
    tcase_add_loop_test(t, files_name_routes_by_relative_urls, 0, N_FILES);
    suite_add_tcase(suite, t);
    sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
