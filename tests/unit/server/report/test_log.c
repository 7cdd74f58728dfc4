/* test_log.c - lines as they are written (line.h has their shape), levels, and that a reader who
 * does not read costs lines, never time. Each check runs with its own stderr (a pipe, socket or
 * file) and puts the old one back. */
#include "server/report/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int old_stderr, in_fd = -1;
static char text[1 << 20];

static void take_stderr(int fd)
{
    fflush(stderr);
    old_stderr = dup(2);
    ck_assert_int_eq(dup2(fd, 2), 2);
    close(fd);
}

static void give_stderr_back(void)
{
    dup2(old_stderr, 2);
    close(old_stderr);
    saed_log_init(SAED_INFO, SAED_LOG_TEXT);
}

static void open_pipe(enum saed_log_level min)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    in_fd = fds[0];
    ck_assert_int_eq(fcntl(in_fd, F_SETFL, O_NONBLOCK), 0);
    take_stderr(fds[1]);
    saed_log_init(min, SAED_LOG_TEXT);
}

/* All that has been written by now. */
static const char *read_all(void)
{
    size_t n = 0;
    ssize_t k;

    while ((k = read(in_fd, text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)k;
    text[n] = '\0';
    return text;
}

static void close_pipe(void)
{
    give_stderr_back();
    close(in_fd);
}

/* The line behind its time, which is checked. */
static const char *untimed(const char *line)
{
    int y, mo, d, h, mi, s, ms, n = 0;

    ck_assert_msg(
        sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &y, &mo, &d, &h, &mi, &s, &ms, &n) == 7 &&
            n == 25,
        "no RFC 3339 time: %s", line);
    ck_assert(y >= 2020 && mo >= 1 && mo <= 12 && d >= 1 && d <= 31 && h < 24 && mi < 60 &&
              s <= 60);
    return line + n;
}

START_TEST(a_line_has_time_level_event_and_pairs)
{
    open_pipe(SAED_INFO);
    errno = EPERM;
    saed_log(SAED_INFO, "ready", saed_uint("dictionaries", 3), saed_str("engine", "openblas"),
             saed_int("n", -4), saed_uint("bytes", 18446744073709551615ull), saed_real("ms", 1.5));
    ck_assert_int_eq(errno, EPERM);
    ck_assert_str_eq(untimed(read_all()), "info ready dictionaries=3 engine=openblas n=-4 "
                                          "bytes=18446744073709551615 ms=1.500\n");
    saed_log(SAED_ERROR, "bare", SAED_NO_FIELDS);
    ck_assert_str_eq(untimed(read_all()), "error bare\n");
    close_pipe();
}
END_TEST

START_TEST(levels_below_the_least_are_silent)
{
    open_pipe(SAED_WARN);
    saed_log(SAED_DEBUG, "x", SAED_NO_FIELDS);
    saed_log(SAED_INFO, "x", SAED_NO_FIELDS);
    ck_assert_str_eq(read_all(), "");
    saed_log(SAED_WARN, "x", SAED_NO_FIELDS);
    ck_assert_str_eq(untimed(read_all()), "warn x\n");
    saed_log_init(SAED_DEBUG, SAED_LOG_TEXT);
    saed_log(SAED_DEBUG, "x", SAED_NO_FIELDS);
    ck_assert_str_eq(untimed(read_all()), "debug x\n");
    close_pipe();
}
END_TEST

START_TEST(a_line_may_be_a_json_object)
{
    static const char want[] = "\",\"level\":\"warn\",\"event\":\"e\",\"k\":\"a b\",\"n\":4}\n";
    const char *line;

    open_pipe(SAED_INFO);
    saed_log_init(SAED_INFO, SAED_LOG_JSON);
    saed_log(SAED_WARN, "e", saed_str("k", "a b"), saed_uint("n", 4));
    line = read_all();
    ck_assert_msg(strncmp(line, "{\"time\":\"20", 11) == 0, "%s", line);
    ck_assert_str_eq(strstr(line, "Z") + 1, want);
    close_pipe();
}
END_TEST

/* For a person, or, where lines are JSON, for a reader of those; a level is no matter. */
START_TEST(a_failure_is_told_in_the_format_of_lines)
{
    open_pipe(SAED_INFO);
    saed_log_failure("cannot load \"a\"");
    ck_assert_str_eq(read_all(), "saed: cannot load \"a\"\n");
    saed_log_init(SAED_ERROR, SAED_LOG_JSON);
    saed_log_failure("cannot load \"a\"");
    ck_assert_ptr_nonnull(
        strstr(read_all(),
               "\"level\":\"error\",\"event\":\"failed\",\"error\":\"cannot load \\\"a\\\"\"}\n"));
    close_pipe();
}
END_TEST

START_TEST(long_values_and_lines_are_cut)
{
    char *big = malloc(100000);
    const char *line;

    ck_assert_ptr_nonnull(big);
    memset(big, '\n', 99999);
    big[99999] = '\0';
    open_pipe(SAED_INFO);
    saed_log(SAED_INFO, "e", saed_str("k", big), saed_int("z", 1));
    line = read_all();
    ck_assert_uint_lt(strlen(line), 500);
    ck_assert_ptr_nonnull(strstr(line, "\\n...\" z=1\n"));
    memset(big, 'x', 99999);
    saed_log(SAED_INFO, "e", saed_str("a", big), saed_str("b", big), saed_str("c", big),
             saed_str("d", big), saed_int("z", 1));
    line = read_all();
    ck_assert_uint_le(strlen(line), 1024);
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
    ck_assert_ptr_nonnull(strstr(line, "x...\" b="));
    ck_assert_ptr_nonnull(strstr(line, " cut=true\n"));
    ck_assert_ptr_null(strstr(line, " z="));
    close_pipe();
    free(big);
}
END_TEST

/* Log until `in_fd` is surely full, then read, then log once more: every line that arrived is
 * whole, and those that did not are counted. */
static void fill_and_count(size_t lines)
{
    size_t arrived = 0;
    unsigned long long dropped;
    const char *p, *at;

    for (size_t i = 0; i < lines; i++)
        saed_log(
            SAED_INFO, "fill", saed_uint("i", i),
            saed_str("pad",
                     "0123456789012345678901234567890123456789012345678901234567890123456789"));
    for (p = read_all(); *p; p = strchr(p, '\n') + 1) {
        char want[32];

        snprintf(want, sizeof want, "info fill i=%zu ", arrived);
        ck_assert_msg(strncmp(untimed(p), want, strlen(want)) == 0, "want %s at %.60s", want, p);
        ck_assert_ptr_nonnull(strchr(p, '\n'));
        arrived++;
    }
    ck_assert_uint_gt(arrived, 0);
    ck_assert_uint_lt(arrived, lines);
    saed_log(SAED_INFO, "after", SAED_NO_FIELDS);
    p = untimed(read_all());
    at = strstr(p, "info after log_dropped=");
    ck_assert_msg(at == p, "%s", p);
    dropped = strtoull(at + strlen("info after log_dropped="), NULL, 10);
    ck_assert_uint_eq(dropped, lines - arrived);
    saed_log(SAED_INFO, "after", SAED_NO_FIELDS);
    ck_assert_str_eq(untimed(read_all()), "info after\n");
}

START_TEST(a_full_pipe_drops_lines_and_counts_them)
{
    int flags;

    open_pipe(SAED_INFO);
    flags = fcntl(2, F_GETFL);
    fill_and_count(4000);
    /* What others share was left as it was. */
    ck_assert_int_eq(fcntl(2, F_GETFL), flags);
    ck_assert_int_eq(flags & O_NONBLOCK, 0);
    close_pipe();
}
END_TEST

START_TEST(before_init_a_full_pipe_is_polled)
{
    int fds[2];

    /* The state that the process starts with: see log.c. In a fork of its own (Check's mode). */
    ck_assert_int_eq(pipe(fds), 0);
    in_fd = fds[0];
    ck_assert_int_eq(fcntl(in_fd, F_SETFL, O_NONBLOCK), 0);
    take_stderr(fds[1]);
    fill_and_count(4000);
    close_pipe();
}
END_TEST

START_TEST(a_full_socket_drops_lines_and_counts_them)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    in_fd = fds[0];
    ck_assert_int_eq(fcntl(in_fd, F_SETFL, O_NONBLOCK), 0);
    take_stderr(fds[1]);
    saed_log_init(SAED_INFO, SAED_LOG_TEXT);
    fill_and_count(9000);
    close_pipe();
}
END_TEST

START_TEST(a_file_gets_every_line)
{
    FILE *f = tmpfile();
    size_t lines = 0;

    ck_assert_ptr_nonnull(f);
    in_fd = dup(fileno(f));
    take_stderr(dup(fileno(f)));
    saed_log_init(SAED_INFO, SAED_LOG_TEXT);
    for (int i = 0; i < 1000; i++)
        saed_log(SAED_INFO, "e", saed_int("i", i));
    ck_assert_int_eq(lseek(in_fd, 0, SEEK_SET), 0);
    for (const char *p = read_all(); *p; p = strchr(p, '\n') + 1)
        lines++;
    ck_assert_uint_eq(lines, 1000);
    close_pipe();
    fclose(f);
}
END_TEST

static void *log_many(void *arg)
{
    for (int i = 0; i < 300; i++)
        saed_log(SAED_INFO, "thread", saed_str("t", (const char *)arg), saed_int("i", i));
    return NULL;
}

static void *read_until_closed(void *arg)
{
    size_t *n = arg;
    ssize_t k;

    while ((k = read(in_fd, text + *n, sizeof text - 1 - *n)) > 0)
        *n += (size_t)k;
    text[*n] = '\0';
    return NULL;
}

/* Lines of several threads never mix, and arrived + dropped is what was logged. */
START_TEST(threads_log_whole_lines)
{
    static char names[4][2] = {"a", "b", "c", "d"};
    pthread_t t[4], reader;
    size_t n = 0, arrived = 0, dropped = 0;
    const char *at;

    open_pipe(SAED_INFO);
    ck_assert_int_eq(fcntl(in_fd, F_SETFL, 0), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_until_closed, &n), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, log_many, names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    give_stderr_back();
    pthread_join(reader, NULL);
    close(in_fd);
    for (const char *p = text; *p; p = strchr(p, '\n') + 1) {
        ck_assert(strncmp(untimed(p), "info thread t=", 14) == 0);
        ck_assert_ptr_nonnull(strchr(p, '\n'));
        at = memmem(p, (size_t)(strchr(p, '\n') - p), "log_dropped=", 12);
        dropped += at ? strtoull(at + 12, NULL, 10) : 0;
        arrived++;
    }
    ck_assert_uint_le(arrived + dropped, 1200);
    ck_assert_uint_gt(arrived, 100);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, before_init_a_full_pipe_is_polled); /* first: also right with CK_FORK=no */
    tcase_add_test(t, a_line_has_time_level_event_and_pairs);
    tcase_add_test(t, levels_below_the_least_are_silent);
    tcase_add_test(t, a_line_may_be_a_json_object);
    tcase_add_test(t, a_failure_is_told_in_the_format_of_lines);
    tcase_add_test(t, long_values_and_lines_are_cut);
    tcase_add_test(t, a_full_pipe_drops_lines_and_counts_them);
    tcase_add_test(t, a_full_socket_drops_lines_and_counts_them);
    tcase_add_test(t, a_file_gets_every_line);
    tcase_add_test(t, threads_log_whole_lines);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
