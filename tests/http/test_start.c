/* test_start.c - what is told of many dictionaries before the first is loaded, and while they are:
 * sources that are missing, memory that is not there, files that change, what has been done. */
#include "tests/http/support_body.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS 100000
#define COUNTOF(a) (sizeof(a) / sizeof((a)[0]))
/* Half a second of making weights, 128 MB and a plane of 16 MB. */
#define LARGE "init:AutoEncoder:1024:16384"
#define GOLDEN "tests/golden/data/jump_7x5_f32.pt"

static char dir[64];

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/saed-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static void copy(const char *from, const char *to)
{
    char command[512];

    snprintf(command, sizeof command, "cp %s %s", from, to);
    ck_assert_int_eq(system(command), 0);
}

static bool has_logged(const struct server *s, const char *text)
{
    char *err = server_stderr(s);
    bool found = strstr(err, text) != NULL;

    free(err);
    return found;
}

static void wait_log(const struct server *s, const char *text)
{
    long long end = test_now_ms() + MS;

    while (!has_logged(s, text)) {
        ck_assert_msg(test_now_ms() < end, "not logged: %s", text);
        poll(NULL, 0, 5);
    }
}

/* ---- before the first is loaded ----------------------------------------------------------------
 */

/* Nineteen of 150 MB, of which each takes a second, and what is wrong with the last. */
static const struct {
    const char *source, *reason;
} lasts[] = {
    {"z=/no/such/file.pt", "saed: z: cannot load /no/such/file.pt: cannot open it: No such file"},
    {"z=Makefile", "saed: z: cannot load Makefile: cannot read weights: the file starts with"},
    {"z=/dev/null", "saed: z: cannot load /dev/null: cannot read it: it is a character device"},
};

START_TEST(a_bad_last_source_is_told_at_once)
{
    enum { N = 19 };
    char sources[N][64];
    const char *args[N + 5] = {_i % 2 ? "--check" : "--listen=127.0.0.1:0", "--threads", "1"};
    long long begin;
    struct server s;

    for (size_t i = 0; i < N; i++) {
        snprintf(sources[i], sizeof sources[i], "d%zu=init:AutoEncoder:768:24576:seed=%zu", i, i);
        args[3 + i] = sources[i];
    }
    args[3 + N] = lasts[_i / 2].source;
    args[4 + N] = NULL;
    begin = test_now_ms();
    s = server_spawn(args);
    ck_assert_int_eq(server_wait(&s, MS), 1);
    ck_assert_msg(test_now_ms() - begin < SOON_MS(3000), "told after %lld ms",
                  test_now_ms() - begin);
    ck_assert(has_logged(&s, lasts[_i / 2].reason));
    ck_assert(!has_logged(&s, "info loading "));
}
END_TEST

/* More sources than descriptors. */
START_TEST(sources_wait_closed)
{
    enum { N = 100 };
    struct rlimit was, few;
    char path[96];
    struct server s;
    FILE *f;

    snprintf(path, sizeof path, "%s/c.json", dir);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "{\"dictionaries\": [");
    for (int i = 0; i < N; i++)
        fprintf(f, "%s{\"name\": \"d%d\", \"source\": \"" GOLDEN "\"}", i ? ", " : "", i);
    fprintf(f, "]}\n");
    fclose(f);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    few = (struct rlimit){64, was.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    s = server_start((const char *const[]){"--config", path, NULL});
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    ck_assert(has_logged(&s, "left=99"));
    ck_assert(has_logged(&s, "left=0"));
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* ---- while they are loaded ---------------------------------------------------------------------
 */

static struct server spawn_loading(const char *second, const char *third)
{
    char listen[48];
    int port = free_port();
    struct server s;

    snprintf(listen, sizeof listen, "--listen=127.0.0.1:%d", port);
    s = server_spawn((const char *const[]){listen, "--threads", "1", "a=" LARGE, second, third,
                                           "d=identity:2", NULL});
    s.port = port;
    snprintf(s.url, sizeof s.url, "http://127.0.0.1:%d", port);
    wait_log(&s, "info loading name=a source=" LARGE " resident_bytes=");
    return s;
}

START_TEST(what_has_been_loaded_is_told)
{
    static const char *const lines[] = {"info dictionary name=a ", "info dictionary name=b ",
                                        "info dictionary name=c ", "info dictionary name=d "};
    struct server s = spawn_loading("b=" GOLDEN, "c=" LARGE);
    struct reply r = get(&s, "/readyz");
    char *err, *at;

    check_problem(&r, 503, "loading", "not ready: 0 of 4 dictionaries are loaded", NULL);
    reply_free(&r);
    wait_log(&s, "info loading name=c ");
    r = get(&s, "/readyz");
    check_problem(&r, 503, "loading", "not ready: 2 of 4 dictionaries are loaded", NULL);
    reply_free(&r);
    wait_log(&s, "info ready ");
    err = server_stderr(&s);
    at = err;
    for (size_t i = 0; i < COUNTOF(lines); i++) { /* one after the other, with what is left */
        char left[16];
        unsigned long ms;

        at = strstr(at, lines[i]);
        ck_assert_msg(at != NULL, "%s", err);
        ck_assert_ptr_nonnull(strstr(at, " ms="));
        ms = strtoul(strstr(at, " ms=") + 4, NULL, 10);
        ck_assert_uint_lt(ms, MS);
        ck_assert(i % 2 == 1 || ms > 50);
        snprintf(left, sizeof left, " left=%zu\n", COUNTOF(lines) - 1 - i);
        ck_assert_int_eq(strncmp(strstr(at, " left="), left, strlen(left)), 0);
    }
    free(err);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* Between the look at it and its turn: written to, replaced, gone. The second has a long path, of
 * which the end is told. */
START_TEST(a_file_that_changes_meanwhile_is_refused)
{
    static const char *const reasons[] = {"it was written to or replaced while others were loaded",
                                          "it was written to or replaced while others were loaded",
                                          "cannot open it: No such file or directory"};
    char path[320], other[96], source[328], reason[512];
    struct server s;
    FILE *f;

    snprintf(path, sizeof path, "%s/%0*d", dir, _i == 1 ? 200 : 1, 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    strcat(path, "/w.pt");
    snprintf(other, sizeof other, "%s/o.pt", dir);
    snprintf(source, sizeof source, "b=%s", path);
    copy(GOLDEN, path);
    copy("tests/golden/data/jump_16x48_f16.pt", other);
    s = spawn_loading(source, "c=identity:2");
    if (_i == 0) {
        f = fopen(path, "r+b");
        ck_assert_ptr_nonnull(f);
        fputc('P', f);
        fclose(f);
    } else if (_i == 1) {
        ck_assert_int_eq(rename(other, path), 0);
    } else {
        ck_assert_int_eq(unlink(path), 0);
    }
    ck_assert_int_eq(server_wait(&s, MS), 1);
    snprintf(reason, sizeof reason, "saed: b: cannot load %s%s: %s", _i == 1 ? "..." : "",
             _i == 1 ? path + strlen(path) - 200 : path, reasons[_i]);
    ck_assert(has_logged(&s, reason));
}
END_TEST

/* ---- memory that there is not ------------------------------------------------------------------
 */

/* A mount of our own on /sys/fs/cgroup, whose limit is in `file`. False: that is not allowed here.
 */
static bool set_limit(const char *file, const char *limit)
{
    char path[128];
    FILE *f;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(dir, "/sys/fs/cgroup", NULL, MS_BIND, NULL) != 0) {
        printf("SKIP: no bind mount here: %s\n", strerror(errno));
        return false;
    }
    snprintf(path, sizeof path, "%s/memory", dir);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "%s\n", limit);
    fclose(f);
    return true;
}

static void unset_limit(void)
{
    ck_assert_int_eq(umount("/sys/fs/cgroup"), 0);
}

static const struct {
    const char *file, *limit, *option;
    int status;
    const char *text; /* on stderr, or of max_inflight_bytes */
} limits[] = {
    {"memory.max", "300000000", NULL, 1, "together 370"},
    {"memory.max", "300000000", "--max-inflight-bytes=1K", 1, "cannot load the dictionaries: "},
    {"memory/memory.limit_in_bytes", "300000000", NULL, 1,
     "the memory limit of its cgroup is 3000"},
    {"memory.max", "700000000", "--max-inflight-bytes=1G", 1,
     "cannot keep --max-inflight-bytes 1073741824: the dictionaries need "},
    {"memory.max", "380000000", NULL, 0, "67108864"},
    {"memory/memory.limit_in_bytes", "380000000", NULL, 0, "67108864"},
    {"memory.max", "380000000", "--max-inflight-bytes=1M", 0, "1048576"},
    {"memory.max", "8000000000", NULL, 0, "1073741824"},
    {"memory.max", "max", NULL, 0, "1073741824"},
};

START_TEST(memory_is_added_up_first)
{
    static const char *const sources[] = {"a=" LARGE, "b=" LARGE ":seed=1"};
    char *listen = "--listen=127.0.0.1:0";
    long long begin = test_now_ms();
    struct server s;

    if (!set_limit(limits[_i].file, limits[_i].limit))
        return;
    if (limits[_i].status != 0) {
        s = server_spawn(
            (const char *const[]){listen, sources[0], sources[1], limits[_i].option, NULL});
        ck_assert_int_eq(server_wait(&s, MS), limits[_i].status);
        ck_assert_int_lt(test_now_ms() - begin, SOON_MS(3000));
        ck_assert(has_logged(&s, limits[_i].text));
        ck_assert(!has_logged(&s, "info loading "));
    } else {
        char want[64];
        struct reply r;

        s = server_start((const char *const[]){sources[0], sources[1], limits[_i].option, NULL});
        r = get(&s, "/v1");
        snprintf(want, sizeof want, "\"max_inflight_bytes\":%s", limits[_i].text);
        ck_assert_msg(strstr(r.body, want) != NULL, "%s", r.body);
        reply_free(&r);
        ck_assert_int_eq(server_stop(&s), 0);
    }
    unset_limit();
}
END_TEST

/* What is left decides, and it is what holds. */
START_TEST(requests_get_what_is_left)
{
    char limit[32], want[64], head[256], *err, *at;
    long long left = 100 << 20, bytes;
    struct server s;
    struct reply r;
    int fd;

    s = server_start((const char *const[]){"a=" LARGE, NULL});
    err = server_stderr(&s);
    at = strstr(err, "resident_bytes=");
    ck_assert_ptr_nonnull(at);
    bytes = atoll(at + strlen("resident_bytes="));
    free(err);
    r = get(&s, "/v1/dictionaries/a");
    snprintf(want, sizeof want, "\"resident_bytes\":%lld,", bytes);
    ck_assert_msg(strstr(r.body, want) != NULL, "%s", r.body);
    reply_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
    snprintf(limit, sizeof limit, "%lld", bytes + (64 << 20) + left);
    if (!set_limit("memory.max", limit))
        return;
    s = server_start((const char *const[]){"a=" LARGE, NULL});
    r = get(&s, "/v1");
    snprintf(want, sizeof want, "\"max_inflight_bytes\":%lld", left);
    ck_assert_msg(strstr(r.body, want) != NULL, "%s", r.body);
    reply_free(&r);
    snprintf(head, sizeof head,
             "POST /v1/dictionaries/a/encode?top_k=1 HTTP/1.1\r\nHost: a\r\n"
             "Content-Type: application/octet-stream\r\nContent-Length: %lld\r\n\r\n",
             left + 4096);
    fd = raw_connect(&s);
    raw_send(fd, head);
    r = raw_reply(fd, true, MS);
    check_problem(&r, 413, "body_too_large", NULL, "--max-inflight-bytes");
    reply_free(&r);
    close(fd);
    ck_assert_int_eq(server_stop(&s), 0);
    unset_limit();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("start");
    TCase *t = tcase_create("start");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_bad_last_source_is_told_at_once, 0, 2 * (int)COUNTOF(lasts));
    tcase_add_test(t, sources_wait_closed);
    tcase_add_test(t, what_has_been_loaded_is_told);
    tcase_add_loop_test(t, a_file_that_changes_meanwhile_is_refused, 0, 3);
    tcase_add_loop_test(t, memory_is_added_up_first, 0, (int)COUNTOF(limits));
    tcase_add_test(t, requests_get_what_is_left);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
