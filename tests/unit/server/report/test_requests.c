/* test_requests.c - a request's line, and how many refused ones have one. stderr is a pipe; the
 * clock is the test's. */
#include "server/report/log.h"
#include "server/report/requests.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define S 1000000000ull
#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"

static int old_stderr, in_fd;
static struct saed_requests *r;

static void set_up(void)
{
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
    fflush(stderr);
    in_fd = fds[0];
    old_stderr = dup(2);
    ck_assert_int_eq(dup2(fds[1], 2), 2);
    close(fds[1]);
    saed_log_init(SAED_INFO, SAED_LOG_TEXT);
}

static void tear_down(void)
{
    saed_requests_free(r);
    dup2(old_stderr, 2);
    close(old_stderr);
    close(in_fd);
    saed_log_init(SAED_INFO, SAED_LOG_TEXT);
}

static void create(bool is_all)
{
    ck_assert_int_eq(saed_requests_create(&r, is_all, NULL), SAE_OK);
}

static const char *read_all(void)
{
    static char text[1 << 17];
    size_t n = 0;
    ssize_t k;

    while ((k = read(in_fd, text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)k;
    text[n] = '\0';
    return text;
}

/* Lines written by now that have `part`. */
static int lines_with(const char *text, const char *part)
{
    int n = 0;

    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        n += memmem(line, (size_t)(end - line), part, strlen(part)) != NULL;
    return n;
}

static const struct saed_request whole = {
    .id = "id-1",
    .key = "alice",
    .method = "POST",
    .route = "/v1/dictionaries/{}/encode",
    .dictionary = "d",
    .traceparent = "00-" TRACE "-00f067aa0ba902b7-01",
    .op = SAED_MOP_ENCODE,
    .status = 200,
    .rows = 3,
    .batch_rows = 5,
    .bytes_in = 100,
    .bytes_out = 200,
    .queue_ns = 1500000,
    .compute_ns = 250000,
    .total_ns = 12345678,
};

START_TEST(a_line_has_every_field)
{
    create(true);
    saed_requests_log(r, &whole, S);
    ck_assert_str_eq(
        read_all() + 25,
        "info access request=id-1 key=alice method=POST route=/v1/dictionaries/{}/encode "
        "dictionary=d op=encode rows=3 bytes_in=100 bytes_out=200 batch_rows=5 status=200 code=- "
        "queue_ms=1.500 compute_ms=0.250 total_ms=12.346 trace=" TRACE "\n");
}
END_TEST

START_TEST(what_is_not_there_is_told_so)
{
    const struct saed_request q = {.op = SAED_MOP_OTHER, .path = "/a b\n", .traceparent = "00-1"};

    create(true);
    saed_requests_log(r, &q, S);
    ck_assert_str_eq(read_all() + 25,
                     "info access request=- key=- method=- route=- dictionary=- op=other rows=0 "
                     "bytes_in=0 bytes_out=0 batch_rows=0 status=- code=- queue_ms=0.000 "
                     "compute_ms=0.000 total_ms=0.000 path=\"/a b\\n\"\n");
}
END_TEST

/* What a stranger chooses may be as long as it may be: all the rest is there. */
START_TEST(long_values_leave_the_rest)
{
    char id[129], name[201], path[10000];
    struct saed_request q = whole;
    const char *text;

    memset(id, '"', sizeof id);
    memset(name, 'n', sizeof name);
    memset(path, '\n', sizeof path);
    id[sizeof id - 1] = name[sizeof name - 1] = path[sizeof path - 1] = '\0';
    q.id = id;
    q.dictionary = name;
    q.key = name + sizeof name - 65;
    q.path = path;
    create(true);
    for (int format = SAED_LOG_TEXT; format <= SAED_LOG_JSON; format++) {
        saed_log_init(SAED_INFO, (enum saed_log_format)format);
        saed_requests_log(r, &q, S);
        text = read_all();
        ck_assert_msg(strstr(text, TRACE) != NULL, "%s", text);
        ck_assert_ptr_nonnull(strstr(text, "12.346"));
        ck_assert_uint_le(strlen(text), 1024);
    }
}
END_TEST

static const struct {
    int status;
    enum sae_status problem;
    const char *part;
} levels[] = {
    {200, SAE_OK, "info access "},
    {400, SAE_E_BAD_SHAPE, "info access "},
    {401, SAE_E_UNAUTHORIZED, " code=unauthorized "},
    {500, SAE_E_INTERNAL, "error access "},
    {503, SAE_E_OVERLOADED, "warn access "},
    {503, SAE_E_NOMEM, " code=overloaded "},
    {504, SAE_E_DEADLINE_EXCEEDED, "warn access "},
    {505, SAE_OK, "warn access "},
    {0, SAE_OK, "info access "},
};

START_TEST(a_level_is_the_status)
{
    struct saed_request q = whole;

    q.status = levels[_i].status;
    q.problem = levels[_i].problem;
    create(true);
    saed_requests_log(r, &q, S);
    ck_assert_int_eq(lines_with(read_all(), levels[_i].part), 1);
}
END_TEST

START_TEST(without_the_option_those_that_fail_are_wanted)
{
    create(false);
    ck_assert(!saed_requests_wants(r, 0));
    ck_assert(!saed_requests_wants(r, 200));
    ck_assert(!saed_requests_wants(r, 204));
    ck_assert(saed_requests_wants(r, 400));
    ck_assert(saed_requests_wants(r, 503));
    saed_requests_free(r);
    create(true);
    ck_assert(saed_requests_wants(r, 0));
    ck_assert(saed_requests_wants(r, 200));
}
END_TEST

static void refuse(enum sae_status problem, int status, size_t times, uint64_t now)
{
    struct saed_request q = whole;

    q.status = status;
    q.problem = problem;
    for (size_t i = 0; i < times; i++)
        saed_requests_log(r, &q, now);
}

START_TEST(each_kind_has_so_many_lines)
{
    const char *text;

    create(false);
    refuse(SAE_E_BAD_SHAPE, 400, 1000, 100 * S);
    refuse(SAE_E_UNAUTHORIZED, 401, 9, 100 * S);
    refuse(SAE_E_OVERLOADED, 503, 11, 101 * S);
    refuse(SAE_OK, 414, 30, 101 * S);
    text = read_all();
    ck_assert_int_eq(lines_with(text, " refused "), 10 + 9 + 10 + 10);
    ck_assert_int_eq(lines_with(text, "code=bad_shape "), 10);
    ck_assert_int_eq(lines_with(text, "code=unauthorized "), 9);
    ck_assert_int_eq(lines_with(text, "warn refused "), 10);
    ck_assert_int_eq(lines_with(text, "left_out"), 0);
    /* a window later the next says so, once */
    refuse(SAE_E_BAD_SHAPE, 400, 1, 110 * S - 1);
    ck_assert_str_eq(read_all(), "");
    refuse(SAE_E_BAD_SHAPE, 400, 2, 110 * S);
    text = read_all();
    ck_assert_int_eq(lines_with(text, "code=bad_shape "), 2);
    ck_assert_msg(lines_with(text, " left_out=991") == 1, "%s", text);
    refuse(SAE_E_UNAUTHORIZED, 401, 1, 120 * S);
    ck_assert_int_eq(lines_with(read_all(), "left_out"), 0);
}
END_TEST

START_TEST(what_was_left_out_is_said_when_no_more_come)
{
    const char *text;

    create(false);
    refuse(SAE_E_BAD_SHAPE, 400, 15, 100 * S);
    refuse(SAE_OK, 431, 12, 105 * S);
    refuse(SAE_E_LOADING, 503, 3, 105 * S);
    read_all();
    saed_requests_flush(r, 109 * S);
    ck_assert_str_eq(read_all(), "");
    saed_requests_flush(r, 110 * S);
    ck_assert_str_eq(read_all() + 25, "warn refused code=bad_shape left_out=5\n");
    saed_requests_flush(r, 111 * S);
    ck_assert_str_eq(read_all(), "");
    /* at the end, all */
    saed_requests_flush(r, UINT64_MAX);
    ck_assert_str_eq(read_all() + 25, "warn refused code=- left_out=2\n");
    refuse(SAE_E_BAD_SHAPE, 400, 1, 120 * S);
    text = read_all();
    ck_assert_int_eq(lines_with(text, "code=bad_shape"), 1);
    ck_assert_int_eq(lines_with(text, "left_out"), 0);
}
END_TEST

/* A thread's clock was read before another's. */
START_TEST(a_clock_behind_opens_no_window)
{
    create(false);
    refuse(SAE_E_BAD_SHAPE, 400, 20, 100 * S);
    refuse(SAE_E_BAD_SHAPE, 400, 20, 100 * S - 5);
    ck_assert_int_eq(lines_with(read_all(), "bad_shape"), 10);
    saed_requests_flush(r, 100 * S - 5);
    ck_assert_str_eq(read_all(), "");
}
END_TEST

START_TEST(with_the_option_all_have_lines)
{
    create(true);
    refuse(SAE_E_BAD_SHAPE, 400, 100, 100 * S);
    ck_assert_int_eq(lines_with(read_all(), " access "), 100);
    saed_requests_flush(r, UINT64_MAX);
    ck_assert_str_eq(read_all(), "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("requests");
    TCase *t = tcase_create("requests");
    SRunner *runner = srunner_create(s);

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_line_has_every_field);
    tcase_add_test(t, what_is_not_there_is_told_so);
    tcase_add_test(t, long_values_leave_the_rest);
    tcase_add_loop_test(t, a_level_is_the_status, 0, (int)SAE_COUNTOF(levels));
    tcase_add_test(t, without_the_option_those_that_fail_are_wanted);
    tcase_add_test(t, each_kind_has_so_many_lines);
    tcase_add_test(t, what_was_left_out_is_said_when_no_more_come);
    tcase_add_test(t, a_clock_behind_opens_no_window);
    tcase_add_test(t, with_the_option_all_have_lines);
    suite_add_tcase(s, t);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
