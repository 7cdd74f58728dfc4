/* test_cli.c - the command line: what is printed where, exit status, precedence of the sources of
 * options, refusals, --check and --probe. */
#include "tests/http/support_body.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS 20000

struct run {
    int status;
    char *out, *err;
};

static struct run run(const char *const *args)
{
    struct server s = server_spawn(args);
    struct run r = {.status = server_wait(&s, MS)};

    r.out = server_stdout(&s);
    r.err = server_stderr(&s);
    close(s.out);
    close(s.err);
    return r;
}

static void run_free(struct run *r)
{
    free(r->out);
    free(r->err);
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static size_t lines(const char *text)
{
    size_t n = 0;

    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

static char dir[64];

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "%s", "/tmp/saed-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static const char *put(const char *name, const char *content)
{
    static char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(content, f);
    fclose(f);
    return path;
}

/* ---- what is printed ----------------------------------------------------------------------- */

START_TEST(help_and_version)
{
    static const char *const options[] = {"--listen",
                                          "--threads",
                                          "--http-threads",
                                          "--engine",
                                          "--max-batch-rows",
                                          "--max-delay-us",
                                          "--max-queue-rows",
                                          "--max-body-bytes",
                                          "--max-json-bytes",
                                          "--max-response-bytes",
                                          "--max-inflight-bytes",
                                          "--max-connections",
                                          "--request-timeout-ms",
                                          "--min-upload-rate",
                                          "--drain-grace-ms",
                                          "--drain-timeout-ms",
                                          "--check",
                                          "--sample",
                                          "--probe",
                                          "--config",
                                          "-V, --version",
                                          "--verbose",
                                          "-h, --help",
                                          "--insecure-no-auth"};
    struct run r = RUN("--help");

    ck_assert_int_eq(r.status, 0);
    ck_assert_str_eq(r.err, "");
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        ck_assert_msg(strstr(r.out, options[i]) != NULL, "no %s", options[i]);
    ck_assert_ptr_nonnull(strstr(r.out, "127.0.0.1:8673"));
    for (char *save, *line = strtok_r(r.out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        ck_assert_msg(strlen(line) <= 80, "wider than a terminal: %s", line);
    run_free(&r);
    for (int i = 0; i < 3; i++) {
        static const char *const spelt[] = {"--version", "-V", "-v"};

        r = RUN(spelt[i]);
        ck_assert_int_eq(r.status, 0);
        ck_assert_str_eq(r.err, "");
        ck_assert_int_eq(strncmp(r.out, "saed ", 5), 0);
        ck_assert_uint_eq(lines(r.out), 1);
        run_free(&r);
    }
}
END_TEST

START_TEST(of_what_it_is_made)
{
    static const char *const parts[] = {"saed ",          "\ncommit ", "\ncompiler ", "jansson ",
                                        "libmicrohttpd ", "libzip ",   "zlib ",       "\nOpenBLAS ",
                                        "\nzstd ",        "\nglibc ",  "\ncpu scalar"};
    struct run r = RUN("--version", "--verbose");

    ck_assert_int_eq(r.status, 0);
    ck_assert_str_eq(r.err, "");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        ck_assert_msg(strstr(r.out, parts[i]) != NULL, "no %s in %s", parts[i], r.out);
    run_free(&r);
}
END_TEST

START_TEST(check_prints_a_line_for_each)
{
    struct run r =
        RUN("--check", "a=init:AutoEncoder:4:8", "g=tests/golden/data/gated_33x70_bf16.pt",
            "i=identity:3", "--listen", "127.0.0.1:1"); /* no socket is opened */

    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_str_eq(r.err, "");
    ck_assert_uint_eq(lines(r.out), 3 + 2 + 4 + 1); /* and of each reading what is not usual */
    ck_assert_ptr_nonnull(strstr(r.out, "GatedAutoEncoder"));
    ck_assert_ptr_nonnull(strstr(r.out, "\n  centre=decoder_bias\n  activation=gated\n"));
    ck_assert_ptr_nonnull(strstr(r.out, "33"));
    ck_assert_ptr_nonnull(strstr(r.out, "70"));
    ck_assert_ptr_nonnull(strstr(r.out, "bfloat16"));
    run_free(&r);
}
END_TEST

#define NOTED "tests/golden/cases/no_crc_prefixed.pt"

START_TEST(check_prints_the_notes)
{
    struct run r = RUN("--check", "a=" NOTED, "i=identity:3");

    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_uint_eq(lines(r.out), 5 + 4);
    ck_assert_ptr_nonnull(strstr(r.out, "\n  note: read from the entry \"sae\"\n"));
    ck_assert_ptr_nonnull(
        strstr(r.out, "\n  note: the prefix \"module._orig_mod.\" was taken off"));
    ck_assert_ptr_nonnull(
        strstr(r.out, "was not checked\n  note: dictionary_learning's from_pretrained"));
    ck_assert_ptr_nonnull(strstr(r.out, "\ni class=IdentityDict"));
    run_free(&r);
}
END_TEST

#define TOP_K "tests/golden/data/topk_7x5_k5_f64.pt"

START_TEST(check_prints_what_is_stated)
{
    struct run r = RUN("--check", "a=" TOP_K ":k=2");

    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "\n  centre=b_dec\n  activation=relu\n"
                                        "  select=top_k:2, stated, the file says top_k:5\n"));
    run_free(&r);
    r = RUN("--check", "a=" TOP_K ":k=6", "b=" TOP_K ":kk=3", "c=" TOP_K ":centre=nope");
    ck_assert_int_eq(r.status, 1);
    ck_assert_ptr_nonnull(strstr(r.err, "k is 6, wanted from 1 to dict_size, which is 5"));
    ck_assert_ptr_nonnull(strstr(r.err, "\"kk\" is no option, the nearest is \"k\""));
    ck_assert_ptr_nonnull(strstr(r.err, "the file has no tensor \"nope\""));
    run_free(&r);
    r = RUN("--check", TOP_K ":k=2:k=3");
    ck_assert_int_eq(r.status, 2);
    ck_assert_ptr_nonnull(strstr(r.err, "k, or select, is stated twice"));
    run_free(&r);
}
END_TEST

/* The reason stands behind a path of any length, whatever kind of reason it is. */
START_TEST(a_long_path_leaves_the_reason)
{
    static const char *const ends[] = {"absent.pt", "../../README.md", "../../tests"};
    static const char *const reasons[] = {"No such file", "the file starts with the bytes",
                                          "it is a folder without a weights file"};
    char source[1200];
    struct run r;

    for (size_t i = 0; i < 3; i++) {
        size_t n = (size_t)snprintf(source, sizeof source, "a=tests/golden");

        while (n < 1000)
            n += (size_t)snprintf(source + n, sizeof source - n, "/../golden");
        snprintf(source + n, sizeof source - n, "/%s", ends[i]);
        r = RUN("--check", source);
        ck_assert_int_eq(r.status, 1);
        ck_assert_msg(strstr(r.err, reasons[i]) != NULL, "%s", r.err);
        run_free(&r);
    }
}
END_TEST

START_TEST(every_bad_dictionary_is_reported)
{
    char empty[160];
    struct run r;

    make_dir();
    snprintf(empty, sizeof empty, "e=%s", put("empty.pt", ""));
    r = RUN("--check", "a=/nothing/a.pt", "good=identity:3", empty, "d=tests", "t=README.md",
            "g=tests/golden/data/identity_6.gold");
    ck_assert_int_eq(r.status, 1);
    ck_assert_str_eq(r.out, "");
    ck_assert_msg(lines(r.err) == 5, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.err, "/nothing/a.pt"));
    ck_assert_ptr_nonnull(strstr(r.err, "empty.pt"));
    ck_assert_ptr_nonnull(strstr(r.err, "tests"));
    ck_assert_ptr_nonnull(strstr(r.err, "README.md"));
    ck_assert_ptr_nonnull(strstr(r.err, "identity_6.gold"));
    run_free(&r);
    /* the daemon says the same, and does not serve the good one */
    r = RUN("--listen", "127.0.0.1:0", "a=/nothing/a.pt", "good=identity:3", empty);
    ck_assert_int_eq(r.status, 1);
    ck_assert_str_eq(r.out, "");
    ck_assert_ptr_nonnull(strstr(r.err, "/nothing/a.pt"));
    ck_assert_ptr_nonnull(strstr(r.err, "empty.pt"));
    run_free(&r);
    remove_dir();
}
END_TEST

/* ---- usage --------------------------------------------------------------------------------- */

static const struct {
    const char *args[6];
    const char *err[3]; /* all in stderr */
} usage[] = {
    {{NULL}, {"NAME=SOURCE"}},
    {{"--max-batch-row", "3", "i=identity:2"}, {"--max-batch-row", "--max-batch-rows"}},
    {{"--lissten", "x", "i=identity:2"}, {"--lissten", "--listen"}},
    {{"--threads", "0", "i=identity:2"}, {"--threads", "0"}},
    {{"--threads", "x", "i=identity:2"}, {"--threads", "x"}},
    {{"--threads", "-1", "i=identity:2"}, {"--threads", "-1"}},
    {{"--threads", "", "i=identity:2"}, {"--threads"}},
    {{"--threads"}, {"--threads"}},
    {{"--max-body-bytes", "12Q", "i=identity:2"}, {"--max-body-bytes", "12Q"}},
    {{"--max-body-bytes", "99999999999999999999G", "i=identity:2"}, {"--max-body-bytes"}},
    {{"--max-batch-rows", "1.5", "i=identity:2"}, {"--max-batch-rows", "1.5"}},
    {{"--engine", "cuda", "i=identity:2"}, {"--engine", "cuda"}},
    {{"--listen", "127.0.0.1", "i=identity:2"}, {"--listen", "127.0.0.1"}},
    {{"--listen", "127.0.0.1:70000", "i=identity:2"}, {"--listen", "70000"}},
    {{"--listen", "0.0.0.0:0", "i=identity:2"}, {"--insecure-no-auth", "0.0.0.0"}},
    {{"--listen", "[::]:0", "i=identity:2"}, {"--insecure-no-auth"}},
    {{"-x=identity:2"}, {"-x"}},
    {{"i=identity:2", "i=identity:3"}, {"i"}},
    {{"i.pt", "i=identity:3"}, {"i", "NAME=SOURCE"}},
    {{"i="}, {"i"}},
    {{"i=identity:"}, {"identity:"}},
    {{"i=identity:0"}, {"identity:0"}},
    {{"i=identity:x"}, {"identity:x"}},
    {{"i=init:AutoEncoder:2"}, {"init:AutoEncoder:2"}},
    {{"i=init:Auto:2:3"}, {"Auto"}},
    {{"i=init:AutoEncoder:2:3:l0=4"}, {"l0"}},
    {{"i=init:AutoEncoder:2:3:l0=0"}, {"l0"}},
    {{"i=init:AutoEncoder:2:3:seed=x"}, {"seed"}},
    {{"i=init:AutoEncoder:2:3:foo=1"}, {"foo"}},
    {{"i=init:IdentityDict:2:2"}, {"IdentityDict"}},
    {{"--config", "/nothing.json"}, {"/nothing.json"}},
};

START_TEST(usage_errors_are_exit_2)
{
    struct run r = run(usage[_i].args);
    bool file = usage[_i].args[0] && strcmp(usage[_i].args[0], "--config") == 0;

    ck_assert_msg(r.status == (file ? 1 : 2), "%d %s", r.status, r.err);
    ck_assert_str_eq(r.out, "");
    ck_assert_msg(lines(r.err) == 1, "%s", r.err);
    for (int i = 0; i < 3 && usage[_i].err[i]; i++)
        ck_assert_msg(strstr(r.err, usage[_i].err[i]) != NULL, "no %s in %s", usage[_i].err[i],
                      r.err);
    run_free(&r);
}
END_TEST

START_TEST(names_of_200_characters)
{
    char source[256];
    struct run r;

    memset(source, 'n', 200);
    strcpy(source + 200, "=identity:2");
    r = RUN("--check", source);
    ck_assert_int_eq(r.status, 0);
    run_free(&r);
}
END_TEST

START_TEST(a_source_without_a_name)
{
    struct run r = RUN("--check", "tests/golden/data/gated_33x70_bf16.pt", "deploy/demo/digits.pt");

    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "tests.golden.data.gated_33x70_bf16 class="));
    ck_assert_ptr_nonnull(strstr(r.out, "deploy.demo.digits class="));
    run_free(&r);
    r = RUN("--check", "a/b=c.pt"); /* a/b is no NAME */
    ck_assert_int_eq(r.status, 1);
    ck_assert_ptr_nonnull(strstr(r.err, "a.b_c: cannot load a/b=c.pt: "));
    run_free(&r);
}
END_TEST

/* ---- sources of options ---------------------------------------------------------------------- */

static double limit(const struct server *s, const char *name)
{
    struct reply r = get(s, "/v1");
    char key[64];
    const char *at;
    double v;

    snprintf(key, sizeof key, "\"%s\":", name);
    at = strstr(r.body, key);
    ck_assert_msg(at != NULL, "no %s in %s", key, r.body);
    v = strtod(at + strlen(key), NULL);
    reply_free(&r);
    return v;
}

START_TEST(flag_beats_environment_beats_file)
{
    const char *path;
    struct server s;
    struct reply r;

    make_dir();
    path = put("c.json",
               "{\"max_batch_rows\":11,\"max_queue_rows\":22,\"max_body_bytes\":\"3M\","
               "\"max_json_bytes\":4096,\"max_response_bytes\":\"1G\",\"listen\":\"127.0.0.1:0\","
               "\"dictionaries\":[{\"name\":\"f\",\"source\":\"identity:5\"}]}");
    setenv("SAED_MAX_BATCH_ROWS", "33", 1);
    setenv("SAED_MAX_QUEUE_ROWS", "44", 1);
    setenv("SAED_MAX_RESPONSE_BYTES", "2K", 1);
    setenv("SAED_PORT", "tcp://10.0.0.1:80", 1); /* Kubernetes invents such */
    setenv("SAED_SERVICE_HOST", "10.0.0.1", 1);
    setenv("SAED_CHECK", "true", 1); /* a flag only */
    s = server_start(
        (const char *const[]){"--config", path, "--max-batch-rows", "55", "i=identity:2", NULL});
    ck_assert(limit(&s, "max_batch_rows") == 55);
    ck_assert(limit(&s, "max_queue_rows") == 44);
    ck_assert(limit(&s, "max_body_bytes") == 3 << 20);
    ck_assert(limit(&s, "max_json_bytes") == 4096);
    ck_assert(limit(&s, "max_response_bytes") == 2048);
    r = get(&s, "/v1/dictionaries");
    ck_assert_ptr_nonnull(strstr(r.body, "\"name\":\"f\""));
    ck_assert_ptr_nonnull(strstr(r.body, "\"name\":\"i\""));
    reply_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
    remove_dir();
}
END_TEST

static const struct {
    const char *text;
    int status;
    const char *err;
} configs[] = {
    {"{\"max_batch_row\":1,\"dictionaries\":[]}", 2, "max_batch_rows"},
    {"{\"max_batch_rows\":\"x\"}", 2, "max_batch_rows"},
    {"{\"max_batch_rows\":-1}", 2, "max_batch_rows"},
    {"{\"max_batch_rows\":1.5}", 2, "max_batch_rows"},
    {"{\"check\":true}", 2, "check"},
    {"{\"dictionaries\":{}}", 2, "dictionaries"},
    {"{\"dictionaries\":[{\"name\":\"a\"}]}", 2, "source"},
    {"{\"dictionaries\":[{\"name\":\"a\",\"sorce\":\"identity:2\"}]}", 2, "source"},
    {"{\"dictionaries\":[{\"name\":\"a/b\",\"source\":\"identity:2\"}]}", 2, "a/b"},
    {"{\"dictionaries\":[{\"name\":\"i\",\"source\":\"identity:2\"}]}", 2,
     "i"}, /* i stands on the line */
    {"{\"threads\":1,\"threads\":2}", 2, "threads"},
    {"[]", 2, NULL},
    {"{", 2, NULL},
    {"", 2, NULL},
};

START_TEST(config_files_are_refused)
{
    const char *path;
    struct run r;

    make_dir();
    path = put("c.json", configs[_i].text);
    r = RUN("--config", path, "--check", "i=identity:2");
    ck_assert_msg(r.status == configs[_i].status, "%d %s", r.status, r.err);
    ck_assert_str_eq(r.out, "");
    ck_assert_ptr_nonnull(strstr(r.err, "c.json"));
    if (configs[_i].err)
        ck_assert_msg(strstr(r.err, configs[_i].err) != NULL, "%s", r.err);
    run_free(&r);
    remove_dir();
}
END_TEST

START_TEST(environment_values_are_checked)
{
    struct run r;

    setenv("SAED_THREADS", "many", 1);
    r = RUN("--check", "i=identity:2");
    ck_assert_int_eq(r.status, 2);
    ck_assert_ptr_nonnull(strstr(r.err, "SAED_THREADS"));
    ck_assert_ptr_nonnull(strstr(r.err, "many"));
    run_free(&r);
    unsetenv("SAED_THREADS");
    setenv("SAED_ISA", "sse9", 1);
    r = RUN("--check", "i=identity:2");
    ck_assert_int_eq(r.status, 2);
    ck_assert_ptr_nonnull(strstr(r.err, "sse9"));
    run_free(&r);
    setenv("SAED_ISA", "scalar", 1); /* every machine has it */
    r = RUN("--check", "i=identity:2");
    ck_assert_msg(r.status == 0, "%s", r.err);
    run_free(&r);
}
END_TEST

/* ---- serving ------------------------------------------------------------------------------- */

START_TEST(notes_are_logged)
{
    struct server s = server_start((const char *const[]){"a=" NOTED, NULL});
    char *err;

    server_signal(&s, 15);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    err = server_stderr(&s);
    ck_assert_msg(strstr(err, "read from the entry") && strstr(err, "module._orig_mod.") &&
                      strstr(err, "was not checked"),
                  "%s", err);
    free(err);
}
END_TEST

START_TEST(stdout_has_the_listening_line_alone)
{
    struct server s = server_start((const char *const[]){"i=identity:2", NULL});
    struct reply r = post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":[1,2]}");
    char *out;

    reply_free(&r);
    r = get(&s, "/nothing");
    reply_free(&r);
    server_signal(&s, 15);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    out = server_stdout(&s); /* behind the line that server_start has read */
    ck_assert_str_eq(out, "");
    free(out);
}
END_TEST

START_TEST(a_port_in_use_is_exit_1)
{
    struct server s = server_start((const char *const[]){"i=identity:2", NULL});
    char listen[64];
    struct run r;

    snprintf(listen, sizeof listen, "127.0.0.1:%d", s.port);
    r = RUN("--listen", listen, "i=identity:2");
    ck_assert_int_eq(r.status, 1);
    ck_assert_str_eq(r.out, "");
    ck_assert_ptr_nonnull(strstr(r.err, listen));
    run_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

START_TEST(probe_asks)
{
    struct server s = server_start((const char *const[]){"i=identity:2", NULL});
    char url[128];
    struct run r;

    snprintf(url, sizeof url, "%s/readyz", s.url);
    r = RUN("--probe", url);
    ck_assert_msg(r.status == 0, "%s", r.err);
    run_free(&r);
    snprintf(url, sizeof url, "%s/nothing", s.url);
    r = RUN("--probe", url);
    ck_assert_int_eq(r.status, 1);
    ck_assert_ptr_nonnull(strstr(r.err, "404"));
    run_free(&r);
    snprintf(url, sizeof url, "%s/readyz", s.url);
    ck_assert_int_eq(server_stop(&s), 0);
    r = RUN("--probe", url);
    ck_assert_int_eq(r.status, 1);
    ck_assert_uint_eq(lines(r.err), 1);
    run_free(&r);
    r = RUN("--probe", "gopher://x");
    ck_assert_int_ne(r.status, 0);
    ck_assert_ptr_nonnull(strstr(r.err, "gopher"));
    run_free(&r);
}
END_TEST

static bool has_ipv6(void)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

/* By the port that the line names. */
static void is_alive_at(struct server *s, const char *host, const char *line)
{
    struct reply r;

    snprintf(s->url, sizeof s->url, "http://%s%.6s", host, strrchr(line, ':'));
    s->url[strcspn(s->url, "\n")] = '\0';
    r = get(s, "/healthz");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
}

START_TEST(loopback_has_several_names)
{
    static const struct {
        const char *listen, *line;
        const char *also[2];
    } hosts[] = {
        {"localhost:0", "listening on http://localhost:", {"127.0.0.1", "[::1]"}},
        {"127.0.0.1:0", "listening on http://127.0.0.1:", {"127.0.0.1", NULL}},
        {"[::1]:0", "listening on http://[::1]:", {"[::1]", NULL}},
    };

    for (int i = 0; i < 3; i++) {
        struct server s =
            server_spawn((const char *const[]){"--listen", hosts[i].listen, "i=identity:2", NULL});
        char line[128] = "";
        size_t n = 0;

        while (n + 1 < sizeof line && !strchr(line, '\n') && read(s.out, line + n, 1) == 1)
            line[++n] = '\0';
        if (i == 2 && !has_ipv6()) {
            printf("SKIP: no ::1 here\n");
            server_wait(&s, MS);
            continue;
        }
        ck_assert_msg(strncmp(line, hosts[i].line, strlen(hosts[i].line)) == 0, "%s", line);
        is_alive_at(&s, hosts[i].also[0], line);
        if (hosts[i].also[1] && has_ipv6())
            is_alive_at(&s, hosts[i].also[1], line);
        ck_assert_int_eq(server_stop(&s), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *t = tcase_create("cli");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_test(t, help_and_version);
    tcase_add_test(t, of_what_it_is_made);
    tcase_add_test(t, check_prints_a_line_for_each);
    tcase_add_test(t, check_prints_the_notes);
    tcase_add_test(t, check_prints_what_is_stated);
    tcase_add_test(t, a_long_path_leaves_the_reason);
    tcase_add_test(t, notes_are_logged);
    tcase_add_test(t, every_bad_dictionary_is_reported);
    tcase_add_loop_test(t, usage_errors_are_exit_2, 0, sizeof usage / sizeof usage[0]);
    tcase_add_test(t, names_of_200_characters);
    tcase_add_test(t, a_source_without_a_name);
    tcase_add_test(t, flag_beats_environment_beats_file);
    tcase_add_loop_test(t, config_files_are_refused, 0, sizeof configs / sizeof configs[0]);
    tcase_add_test(t, environment_values_are_checked);
    tcase_add_test(t, stdout_has_the_listening_line_alone);
    tcase_add_test(t, a_port_in_use_is_exit_1);
    tcase_add_test(t, probe_asks);
    tcase_add_test(t, loopback_has_several_names);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
