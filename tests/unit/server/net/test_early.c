/* test_early.c - the answer that is written by hand: its bytes, and when it says that they were not
 * taken. */
#include "server/net/early.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int pair[2];

static void open_pair(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void close_pair(void)
{
    close(pair[0]);
    close(pair[1]);
}

static const struct saed_header headers[] = {{"Content-Type", "text/plain"}, {"Retry-After", "1"}};

static const struct saed_early answer = {
    .status = 503,
    .reason = "Service Unavailable",
    .headers = headers,
    .n_headers = 2,
    .data = "wait",
    .n_data = 4,
};

static char *read_back(void)
{
    static char text[1024];
    ssize_t n = recv(pair[1], text, sizeof text - 1, MSG_DONTWAIT);

    text[n < 0 ? 0 : n] = '\0';
    return text;
}

/* Between status line and Content-Length stands the Date, in the one form that RFC 9110 has. */
static void check_text(const char *text, const char *data)
{
    static const char first[] = "HTTP/1.1 503 Service Unavailable\r\nDate: ";
    char rest[256], day[4], month[4];
    int n = 0;

    ck_assert_int_eq(strncmp(text, first, sizeof first - 1), 0);
    ck_assert_int_eq(sscanf(text + sizeof first - 1, "%3s, %*2d %3s %*4d %*2d:%*2d:%*2d GMT\r\n%n",
                            day, month, &n),
                     2);
    ck_assert_int_eq(n, 31);
    snprintf(rest, sizeof rest,
             "Connection: close\r\nContent-Length: 4\r\nContent-Type: text/plain\r\n"
             "Retry-After: 1\r\n\r\n%s",
             data);
    ck_assert_str_eq(text + sizeof first - 1 + n, rest);
}

START_TEST(the_whole_answer_is_written)
{
    ck_assert(saed_early_write(pair[0], &answer));
    check_text(read_back(), "wait");
}
END_TEST

START_TEST(to_head_without_its_data)
{
    struct saed_early a = answer;

    a.no_data = true;
    ck_assert(saed_early_write(pair[0], &a));
    check_text(read_back(), "");
}
END_TEST

START_TEST(a_full_socket_does_not_block)
{
    static char block[65536];

    while (send(pair[0], block, sizeof block, MSG_DONTWAIT) > 0)
        ;
    ck_assert(!saed_early_write(pair[0], &answer));
}
END_TEST

START_TEST(a_peer_that_has_gone)
{
    close(pair[1]);
    ck_assert(!saed_early_write(pair[0], &answer));
    pair[1] = dup(pair[0]);
}
END_TEST

/* What does not fit is not sent in part. */
START_TEST(a_head_that_is_too_long)
{
    struct saed_header many[40];
    struct saed_early a = answer;

    for (int i = 0; i < 40; i++) {
        many[i].name = "X";
        memset(many[i].value, 'x', sizeof many[i].value - 1);
        many[i].value[sizeof many[i].value - 1] = '\0';
    }
    a.headers = many;
    a.n_headers = 40;
    ck_assert(!saed_early_write(pair[0], &a));
    ck_assert_str_eq(read_back(), "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("early");
    TCase *t = tcase_create("early");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, open_pair, close_pair);
    tcase_add_test(t, the_whole_answer_is_written);
    tcase_add_test(t, to_head_without_its_data);
    tcase_add_test(t, a_full_socket_does_not_block);
    tcase_add_test(t, a_peer_that_has_gone);
    tcase_add_test(t, a_head_that_is_too_long);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
