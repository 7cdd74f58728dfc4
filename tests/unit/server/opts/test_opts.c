/* test_opts.c - command line, environment, config file, --help, limits; CPUs by cgroup quota. */
#include "server/opts/cpus.h"
#include "server/opts/opts.h"
#include "server/opts/table.h"
#include "tests/support/files.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_REPORTS 32

static struct saed_opts o;
static char reports[MAX_REPORTS][512];
static size_t n_reports;
static char dir[256];

static void report(void *arg, const struct sae_err *err)
{
    ck_assert_ptr_eq(arg, &o);
    ck_assert_uint_lt(n_reports, MAX_REPORTS);
    ck_assert_ptr_null(strchr(err->text, '\n'));
    snprintf(reports[n_reports++], sizeof reports[0], "%s", err->text);
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");

    memset(&o, 0, sizeof o);
    n_reports = 0;
    snprintf(dir, sizeof dir, "%s/saed-opts-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char cmd[300];

    saed_opts_fini(&o);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(cmd), 0);
}

/* Parse "a b c" (blanks separate) with an environment given the same way. */
static enum sae_status parse_env(const char *line, const char *env)
{
    static char words[2][4096];
    char *argv[64] = {(char *)(uintptr_t) "saed"}, *envp[64] = {NULL};
    int argc = 1, n = 0;

    saed_opts_fini(&o);
    memset(&o, 0, sizeof o);
    n_reports = 0;
    snprintf(words[0], sizeof words[0], "%s", line);
    snprintf(words[1], sizeof words[1], "%s", env);
    for (char *w = strtok(words[0], " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    for (char *w = strtok(words[1], " "); w; w = strtok(NULL, " "))
        envp[n++] = w;
    return saed_opts_parse(&o, argc, argv, envp, report, &o);
}

static enum sae_status parse(const char *line)
{
    return parse_env(line, "");
}

/* The config file `text` as `--config FILE line`. */
static enum sae_status parse_file_n(const char *text, size_t n, const char *line, const char *env)
{
    char path[300], all[1024];
    FILE *f;

    snprintf(path, sizeof path, "%s/c.json", dir);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, n, f), n);
    fclose(f);
    snprintf(all, sizeof all, "--config %s %s", path, line);
    return parse_env(all, env);
}

static enum sae_status parse_file(const char *text, const char *line)
{
    return parse_file_n(text, strlen(text), line, "");
}

#define ASSERT_REPORT(i, part)                                                                \
    ck_assert_msg((i) < n_reports && strstr(reports[i], part), "want \"%s\" in \"%s\"", part, \
                  (i) < n_reports ? reports[i] : "(no report)")

/* Exactly one report, which has all of the parts. */
static void one_report(const char *line, enum sae_status st, const char *part, const char *part2)
{
    ck_assert_msg(n_reports == 1, "%s: %zu reports, first \"%s\"", line, n_reports,
                  n_reports ? reports[0] : "");
    ck_assert_msg(st == SAE_E_USAGE, "%s: status %d", line, st);
    ck_assert_msg(strstr(reports[0], part), "%s: want \"%s\" in \"%s\"", line, part, reports[0]);
    ck_assert_msg(strstr(reports[0], part2), "%s: want \"%s\" in \"%s\"", line, part2, reports[0]);
}

static void check_list(const struct saed_list *l, const char *want)
{
    char got[256] = "";
    size_t n = 0;

    for (size_t i = 0; i < l->n; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%s", i ? " " : "", l->items[i]);
    ck_assert_str_eq(got, want);
}

START_TEST(defaults_are_those_of_the_contract)
{
    ck_assert_int_eq(parse("a=identity:4"), SAE_OK);
    ck_assert_int_eq(o.action, SAED_RUN);
    check_list(&o.listen, "127.0.0.1:8673");
    ck_assert_uint_eq(o.n_passed, 0);
    ck_assert_uint_eq(o.threads, saed_cpus());
    ck_assert_uint_eq(o.http_threads, saed_cpus() > 4 ? 2 : 1);
    ck_assert_int_eq(o.engine, SAE_ENGINE_AUTO);
    ck_assert_uint_eq(o.max_batch_rows, 256);
    ck_assert_uint_eq(o.max_delay_us, 0);
    ck_assert_uint_eq(o.max_queue_rows, 16384);
    ck_assert_uint_eq(o.max_body_bytes, 256u << 20);
    ck_assert_uint_eq(o.max_json_bytes, 64u << 20);
    ck_assert_uint_eq(o.max_response_bytes, 512u << 20);
    ck_assert_uint_eq(o.max_inflight_bytes, 1u << 30);
    ck_assert_uint_eq(o.max_connections, 4096);
    ck_assert_uint_eq(o.request_timeout_ms, 30000);
    ck_assert_uint_eq(o.min_upload_rate, 100u << 10);
    ck_assert_uint_eq(o.keepalive_timeout_ms, 75000);
    ck_assert_uint_eq(o.drain_grace_ms, 0);
    ck_assert_uint_eq(o.drain_timeout_ms, 25000);
    ck_assert(!o.insecure_no_auth);
    ck_assert_ptr_null(o.isa);
    ck_assert_uint_eq(o.n_sources, 1);
    ck_assert_str_eq(o.sources[0].name, "a");
    ck_assert_str_eq(o.sources[0].source, "identity:4");
}
END_TEST

START_TEST(flags_come_in_both_forms_between_and_after_dictionaries)
{
    ck_assert_int_eq(parse("a=x.pt --threads 3 b=y=z.pt --engine=native --max-body-bytes 64m "
                           "--max-json-bytes=1K --max-response-bytes 2G --max-delay-us=0 "
                           "--insecure-no-auth --http-threads 7 -- c=identity:1"),
                     SAE_OK);
    ck_assert_uint_eq(o.threads, 3);
    ck_assert_uint_eq(o.http_threads, 7);
    ck_assert_int_eq(o.engine, SAE_ENGINE_NATIVE);
    ck_assert_uint_eq(o.max_body_bytes, 64u << 20);
    ck_assert_uint_eq(o.max_json_bytes, 1024);
    ck_assert_uint_eq(o.max_response_bytes, 2ull << 30);
    ck_assert(o.insecure_no_auth);
    ck_assert_uint_eq(o.n_sources, 3);
    ck_assert_str_eq(o.sources[1].source, "y=z.pt");
    ck_assert_str_eq(o.sources[2].name, "c");
    ck_assert_int_eq(
        parse("a=x --insecure-no-auth=false --engine openblas --threads 2 --threads 4"), SAE_OK);
    ck_assert(!o.insecure_no_auth);
    ck_assert_int_eq(o.engine, SAE_ENGINE_OPENBLAS);
    ck_assert_uint_eq(o.threads, 4);
}
END_TEST

/* What stands before the first '=' is a NAME, or all of it is a source without one. */
START_TEST(sources_without_a_name)
{
    static const char *const want[][2] = {
        {"ae", "ae.pt"},
        {"run.3.ae", "run/3/ae.pt"},
        {"k__32.ae", "k:=32/ae.pt"},
        {"a.b_c", "a/b=c.pt"},
        {"init_AutoEncoder_2_4_seed_1", "init:AutoEncoder:2:4:seed=1"},
        {"b", "x/k=3.pt"},
        {"identity_4", "identity:4"},
    };

    ck_assert_int_eq(parse("ae.pt run/3/ae.pt k:=32/ae.pt a/b=c.pt b=x/k=3.pt identity:4 "
                           "init:AutoEncoder:2:4:seed=1"),
                     SAE_OK);
    ck_assert_uint_eq(o.n_sources, SAE_COUNTOF(want));
    for (size_t i = 0; i < o.n_sources; i++) {
        size_t j = 0;

        while (j < SAE_COUNTOF(want) && strcmp(o.sources[i].name, want[j][0]) != 0)
            j++;
        ck_assert_msg(j < SAE_COUNTOF(want), "%s", o.sources[i].name);
        ck_assert_str_eq(o.sources[i].source, want[j][1]);
    }
}
END_TEST

/* What looks like NAME=SOURCE and has no NAME is a source where such a file is there alone. */
START_TEST(what_is_meant_as_a_name)
{
    int before = open(".", O_RDONLY | O_DIRECTORY), file;

    ck_assert_int_eq(chdir(dir), 0);
    one_report("", parse("-- _a=identity:4"), "cannot use name \"_a\"", "want a letter or digit");
    one_report("", parse("=x.pt"), "cannot use name \"\"", "want a letter or digit");
    one_report("", parse("-- -x=y.pt:k=3"), "cannot use name \"-x\"", "want a letter or digit");
    file = open("-x=y.pt", O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(close(file), 0);
    ck_assert_int_eq(parse("-- -x=y.pt:k=3"), SAE_OK);
    ck_assert_str_eq(o.sources[0].name, "d-x_y");
    ck_assert_int_eq(fchdir(before), 0);
    ck_assert_int_eq(close(before), 0);
}
END_TEST

START_TEST(actions)
{
    ck_assert_int_eq(parse("--check a=x --threads 2"), SAE_OK);
    ck_assert_int_eq(o.action, SAED_CHECK);
    ck_assert_uint_eq(o.threads, 2);
    ck_assert_int_eq(parse("--version"), SAE_OK);
    ck_assert_int_eq(o.action, SAED_VERSION_ACTION);
    ck_assert(!o.verbose);
    for (int i = 0; i < 4; i++) {
        static const char *const lines[] = {"-V --verbose", "--verbose -v",
                                            "a=x --version a --verbose", "--verbose --version"};

        ck_assert_int_eq(parse(lines[i]), SAE_OK);
        ck_assert_int_eq(o.action, SAED_VERSION_ACTION);
        ck_assert(o.verbose);
    }
    ck_assert_int_eq(parse("-h"), SAE_OK);
    ck_assert_int_eq(o.action, SAED_HELP);
    ck_assert_int_eq(parse("--help --whatever"), SAE_OK);
    ck_assert_int_eq(o.action, SAED_HELP);
    ck_assert_int_eq(parse_env("--probe http://127.0.0.1:1/", "SAED_THREADS=bad"), SAE_OK);
    ck_assert_int_eq(o.action, SAED_PROBE);
    ck_assert_str_eq(o.probe_url, "http://127.0.0.1:1/");
    ck_assert_int_eq(parse("--probe=http://h/?a=b"), SAE_OK);
    ck_assert_str_eq(o.probe_url, "http://h/?a=b");
}
END_TEST

static const struct {
    const char *line, *part, *part2;
} bad_lines[] = {
    {"", "without a dictionary", "NAME=SOURCE"},
    {"--check", "without a dictionary", ""},
    {"a=x --max-batch-row 3", "--max-batch-row:", "--max-batch-rows"},
    {"a=x --max_batch_rows 3", "--max_batch_rows:", "nearest is --max-batch-rows"},
    {"a=x --thraeds=4", "--thraeds:", "nearest is --threads"},
    {"a=x --lisen 127.0.0.1:1", "--lisen:", "nearest is --listen"},
    {"a=x --checks", "--checks:", "nearest is --check"},
    {"a=x -x", "cannot use -x:", "nearest is"},
    {"a=x -hh", "cannot use -hh:", "nearest is --help"},
    {"a=x -h=1", "cannot use -h: it takes no value", "1"},
    {"a=x --verbose", "cannot use --verbose", "--version"},
    {"--probe http://h/ --verbose", "cannot use --verbose", "--version"},
    {"a=x --insecure", "--insecure:", "nearest is --insecure-no-auth"},
    {"a=x -", "cannot use -:", ""},
    {"a=x --threads", "--threads: it needs a value", "N"},
    {"a=x --threads --check", "--threads: it needs a value", ""},
    {"a=x --config", "--config: it needs a value", "FILE"},
    {"a=x --config=", "--config", "empty"},
    {"--probe", "--probe: it needs a value", "URL"},
    {"a=x --check --probe http://h/", "--check and --probe", ""},
    {"a=x --check=yes", "--check: it takes no value", "yes"},
    {"a=x --threads 0", "--threads 0", "from 1 to 1024"},
    {"a=x --threads 1025", "--threads 1025", "from 1 to 1024"},
    {"a=x --threads=-1", "--threads -1", "from 1 to 1024"},
    {"a=x --threads -1", "--threads -1", "from 1 to 1024"},
    {"a=x --threads +1", "--threads +1", "from 1 to 1024"},
    {"a=x --threads=", "--threads \"\"", "from 1 to 1024"},
    {"a=x --threads 4x", "--threads 4x", "from 1 to 1024"},
    {"a=x --threads 1K", "--threads 1K", "from 1 to 1024"},
    {"a=x --threads 0x4", "--threads 0x4", "from 1 to 1024"},
    {"a=x --threads 18446744073709551617", "--threads 18446744073709551617", "from 1 to 1024"},
    {"a=x --threads 1.5", "--threads 1.5", "from 1 to 1024"},
    {"a=x --http-threads 65", "--http-threads 65", "from 1 to 64"},
    {"a=x --max-batch-rows 4097", "--max-batch-rows 4097", "from 1 to 4096"},
    {"a=x --max-delay-us 10000001", "--max-delay-us 10000001", "from 0 to 10000000"},
    {"a=x --max-queue-rows 2147483649", "--max-queue-rows", "from 1 to 2147483648"},
    {"a=x --max-connections 0", "--max-connections 0", "from 1 to 1000000"},
    {"a=x --request-timeout-ms 0", "--request-timeout-ms 0", "from 1 to 86400000"},
    {"a=x --drain-timeout-ms 0", "--drain-timeout-ms 0", "from 1 to 86400000"},
    {"a=x --drain-grace-ms 86400001", "--drain-grace-ms", "from 0 to 86400000"},
    {"a=x --max-body-bytes 0", "--max-body-bytes 0", "from 1 to 1024G"},
    {"a=x --max-body-bytes 1025G", "--max-body-bytes 1025G", "from 1 to 1024G"},
    {"a=x --max-body-bytes 17179869184G", "--max-body-bytes", "from 1 to 1024G"},
    {"a=x --max-body-bytes K", "--max-body-bytes K", "K, M and G"},
    {"a=x --max-body-bytes 1KB", "--max-body-bytes 1KB", "K, M and G"},
    {"a=x --max-body-bytes 1T", "--max-body-bytes 1T", "K, M and G"},
    {"a=x --engine mkl", "--engine mkl", "auto|native|openblas"},
    {"a=x --engine Native", "--engine Native", "auto|native|openblas"},
    {"a=x --engine nat", "--engine nat", "auto|native|openblas"},
    {"a=x --log-format xml", "--log-format xml", "one of text|json"},
    {"a=x --log-level=all", "--log-level all", "one of debug|info|warn|error"},
    {"a=x --engine auto|native", "--engine auto|native", "one of"},
    {"a=x --insecure-no-auth=yes", "--insecure-no-auth yes", "true or false"},
    {"a=x --listen 8673", "--listen 8673", "HOST:PORT"},
    {"a=x --listen :8673", "--listen :8673", "HOST:PORT"},
    {"a=x --listen localhost:", "--listen localhost:", "HOST:PORT"},
    {"a=x --listen localhost:65536", "--listen localhost:65536", "from 0 to 65535"},
    {"a=x --listen localhost:http", "--listen localhost:http", "HOST:PORT"},
    {"a=x --listen ::1:80", "--listen ::1:80", "brackets"},
    {"a=x --listen [::1]", "--listen [::1]", "brackets"},
    {"a=x --listen [::1:80", "--listen [::1:80", "brackets"},
    {"a=x --listen [127.0.0.1]:80", "--listen [127.0.0.1]:80", "brackets"},
    {"a=x --listen 300.1.1.1:80", "--listen 300.1.1.1:80", "HOST:PORT"},
    {"a=x --listen 127.1:80", "--listen 127.1:80", "HOST:PORT"},
    {"a=x --listen h/x:80", "--listen h/x:80", "HOST:PORT"},
    {"a=x --allow-host=", "--allow-host \"\"", "a host without a port"},
    {"a=x --allow-host a:80", "--allow-host a:80", "a host without a port"},
    {"a=x --allow-host *.a", "--allow-host *.a", "a host without a port"},
    {"a=x --allow-host [::1", "--allow-host [::1", "a host without a port"},
    {"a=x --allow-host []", "--allow-host []", "a host without a port"},
    {"a=x --allow-host a --allow-host /", "--allow-host /", "a host without a port"},
    {"a=x --cors-allow-origin a.example", "--cors-allow-origin a.example", "SCHEME://HOST"},
    {"a=x --cors-allow-origin http://a/", "--cors-allow-origin http://a/", "SCHEME://HOST"},
    {"a=x --cors-allow-origin https://*.a", "--cors-allow-origin https://*.a", "* alone for any"},
    {"a=x --listen 0.0.0.0:8673", "listen on 0.0.0.0", "--insecure-no-auth"},
    {"a=x --listen [::]:8673", "listen on ::", "--insecure-no-auth"},
    {"a=x --listen example.org:1", "listen on example.org", "--insecure-no-auth"},
    {"a=x --check --listen 128.0.0.1:1", "listen on 128.0.0.1", "--insecure-no-auth"},
    {"a=x --listen localhost.evil:1", "listen on localhost.evil", "--insecure-no-auth"},
    {"a=x b=y a=z", "name \"a\" twice", "x"},
    {"a.pt a=z", "name \"a\" twice", "a.pt"},
    {"a/b.pt a.b.safetensors", "name \"a.b\" twice", "NAME=SOURCE"},
    {"/", "a name of 0 bytes", "NAME=SOURCE"},
    {"-- ", "without a dictionary", ""},
    {"identity:0", "dictionary identity_0:", "identity:0"},
    {"a=identity:0", "dictionary a:", "identity:0"},
    {"a=", "dictionary a:", ""},
};

START_TEST(bad_lines_are_refused_by_name)
{
    one_report(bad_lines[_i].line, parse(bad_lines[_i].line), bad_lines[_i].part,
               bad_lines[_i].part2);
}
END_TEST

static const char *const loopbacks[] = {
    "127.0.0.1:0",  "127.9.8.7:1",     "[::1]:0",        "localhost:80",
    "LocalHost:80", "127.0.0.1:65535", "unix:/run/saed", "unix:s:0666",
};

START_TEST(loopback_hosts_need_no_leave)
{
    char line[128];

    snprintf(line, sizeof line, "a=x --listen %s", loopbacks[_i]);
    ck_assert_int_eq(parse(line), SAE_OK);
    check_list(&o.listen, loopbacks[_i]);
}
END_TEST

START_TEST(other_hosts_with_leave)
{
    ck_assert_int_eq(parse("a=x --listen 0.0.0.0:8673 --insecure-no-auth"), SAE_OK);
    ck_assert_int_eq(parse_env("a=x --listen [fe80::1%eth0]:1", "SAED_INSECURE_NO_AUTH=1"), SAE_OK);
    check_list(&o.listen, "[fe80::1%eth0]:1");
    ck_assert_int_eq(parse("a=x --listen my-host.example.org:1 --insecure-no-auth=true"), SAE_OK);
}
END_TEST

START_TEST(names_of_200_bytes_and_no_more)
{
    char line[300];

    memset(line, 'n', 200);
    strcpy(line + 200, "=x");
    ck_assert_int_eq(parse(line), SAE_OK);
    ck_assert_uint_eq(strlen(o.sources[0].name), 200);
    ck_assert_int_eq(parse("0A._-z=x"), SAE_OK);
    memset(line, 'n', 201);
    strcpy(line + 201, ".pt"); /* a path that makes a name of 201 bytes */
    one_report(line, parse(line), "201 bytes", "NAME=SOURCE");
}
END_TEST

START_TEST(every_mistake_is_reported)
{
    ck_assert_int_eq(parse_env("--threads 0 --bogus --engine x / a=y a=z", "SAED_MAX_DELAY_US=x"),
                     SAE_E_USAGE);
    ck_assert_uint_eq(n_reports, 6);
    ASSERT_REPORT(0, "--threads 0");
    ASSERT_REPORT(1, "--bogus");
    ASSERT_REPORT(2, "--engine x");
    ASSERT_REPORT(3, "\"/\"");
    ASSERT_REPORT(4, "twice");
    ASSERT_REPORT(5, "SAED_MAX_DELAY_US=x");
}
END_TEST

START_TEST(environment)
{
    ck_assert_int_eq(
        parse_env("a=x --threads 2",
                  "SAED_THREADS=9 SAED_MAX_BATCH_ROWS=17 SAED_MAX_BODY_BYTES=5k "
                  "SAED_LISTEN=[::1]:5 SAED_ENGINE=openblas SAED_INSECURE_NO_AUTH=true "
                  "SAED_ISA=avx2 PATH=/bin SAED_MAX_DELAY_US="),
        SAE_OK);
    ck_assert_uint_eq(o.threads, 2);
    ck_assert_uint_eq(o.max_batch_rows, 17);
    ck_assert_uint_eq(o.max_body_bytes, 5120);
    check_list(&o.listen, "[::1]:5");
    ck_assert_int_eq(o.engine, SAE_ENGINE_OPENBLAS);
    ck_assert(o.insecure_no_auth);
    ck_assert_str_eq(o.isa, "avx2");
    /* A bad value is an error even where a flag overrides it. */
    one_report("env", parse_env("a=x --threads 2", "SAED_THREADS=two"), "SAED_THREADS=two",
               "from 1 to 1024");
    one_report("env", parse_env("a=x", "SAED_INSECURE_NO_AUTH=yes"), "SAED_INSECURE_NO_AUTH=yes",
               "true or false");
}
END_TEST

START_TEST(variables_that_kubernetes_invents_are_ignored)
{
    ck_assert_int_eq(parse_env("a=x", "SAED_PORT=tcp://10.0.0.1:8673 SAED_SERVICE_HOST=10.0.0.1 "
                                      "SAED_SERVICE_PORT=8673 SAED_SERVICE_PORT_HTTP=8673 "
                                      "SAED_PORT_8673_TCP=tcp://10.0.0.1:8673 "
                                      "SAED_PORT_8673_TCP_ADDR=10.0.0.1 SAED_CONFIG=/nowhere "
                                      "SAED_BOGUS=1 SAED_threads=bad SAED_CHECK=1 SAED_ISA="),
                     SAE_OK);
    ck_assert_int_eq(o.action, SAED_RUN);
    ck_assert_ptr_null(o.isa);
    for (size_t i = 0; i < SAED_N_OPTIONS; i++) {
        const char *key = saed_opt_defs[i].key;

        ck_assert_msg(strcmp(key, "port") != 0 && strncmp(key, "port_", 5) != 0 &&
                          !strstr(key, "service"),
                      "SAED_%s is a name that Kubernetes may invent", key);
    }
}
END_TEST

START_TEST(file_below_environment_below_flags)
{
    const char *text =
        "{\"threads\": 5, \"max_batch_rows\": 6, \"max_queue_rows\": 7,\n"
        " \"max_body_bytes\": 1000, \"max_json_bytes\": \"2K\", \"engine\": \"native\",\n"
        " \"listen\": \"0.0.0.0:99\", \"insecure_no_auth\": true,\n"
        " \"dictionaries\": [{\"name\": \"f\", \"source\": \"rel/f.pt\"},\n"
        "                    {\"source\": \"identity:3\", \"name\": \"g\"}]}";

    ck_assert_int_eq(parse_file_n(text, strlen(text), "--max-queue-rows 70 l=y",
                                  "SAED_MAX_BATCH_ROWS=60 SAED_MAX_QUEUE_ROWS=61"),
                     SAE_OK);
    ck_assert_uint_eq(o.threads, 5);
    ck_assert_uint_eq(o.max_batch_rows, 60);
    ck_assert_uint_eq(o.max_queue_rows, 70);
    ck_assert_uint_eq(o.max_body_bytes, 1000);
    ck_assert_uint_eq(o.max_json_bytes, 2048);
    ck_assert_int_eq(o.engine, SAE_ENGINE_NATIVE);
    check_list(&o.listen, "0.0.0.0:99");
    ck_assert_uint_eq(o.n_sources, 3);
    ck_assert_str_eq(o.sources[0].name, "l");
    ck_assert_str_eq(o.sources[1].name, "f");
    ck_assert_str_eq(o.sources[1].source, "rel/f.pt");
    ck_assert_str_eq(o.sources[2].source, "identity:3");
    /* A flag takes the file's leave back. */
    one_report("leave", parse_file(text, "--insecure-no-auth=false"), "listen on 0.0.0.0",
               "--insecure-no-auth");
}
END_TEST

static const struct {
    const char *text, *part, *part2;
} bad_files[] = {
    {"", "c.json:1:", ""},
    {"{\"threads\": 1,}", "c.json:1:", "'}'"},
    {"{\n  \"threads\": 1\n  \"engine\": 2}", "c.json:3:", "engine"},
    {"{\"threads\": 1, \"threads\": 2}", "c.json:1:", "uplicate"},
    {"{\"dictionaries\": [{\"name\": \"a\", \"name\": \"a\", \"source\": \"x\"}]}",
     "c.json:1:", "uplicate"},
    {"[1]", "want an object", "found a list"},
    {"{\"max_batch_row\": 3}", "\"max_batch_row\"", "nearest is \"max_batch_rows\""},
    {"{\"max-batch-rows\": 3}", "\"max-batch-rows\"", "nearest is \"max_batch_rows\""},
    {"{\"dictionary\": []}", "\"dictionary\"", "nearest is \"dictionaries\""},
    {"{\"check\": true}", "\"check\"", "command line only"},
    {"{\"config\": \"x\"}", "\"config\"", "command line only"},
    {"{\"threads\": 0}", "threads 0 in", "from 1 to 1024"},
    {"{\"threads\": -3}", "threads -3 in", "from 1 to 1024"},
    {"{\"threads\": \"4\"}", "threads in", "found a string"},
    {"{\"threads\": 4.0}", "threads in", "found a fraction"},
    {"{\"threads\": null}", "threads in", "found null"},
    {"{\"threads\": 99999999999999999999}", "c.json:1:", "integer"},
    {"{\"max_body_bytes\": \"64X\"}", "max_body_bytes 64X in", "K, M and G"},
    {"{\"max_body_bytes\": true}", "max_body_bytes in", "found true or false"},
    {"{\"engine\": 1}", "engine in", "auto|native|openblas"},
    {"{\"engine\": \"gpu\"}", "engine gpu in", "auto|native|openblas"},
    {"{\"listen\": 80}", "listen in", "HOST:PORT"},
    {"{\"listen\": \"\"}", "listen \"\" in", "HOST:PORT"},
    {"{\"insecure_no_auth\": 1}", "insecure_no_auth in", "true or false"},
    {"{\"insecure_no_auth\": \"true\"}", "insecure_no_auth in", "found a string"},
    {"{\"dictionaries\": {\"a\": \"x\"}}", "want a folder, or a list", "found an object"},
    {"{\"dictionaries\": [5]}", "/dictionaries/0", "found a whole number"},
    {"{\"dictionaries\": [\"\"]}", "dictionaries", "want a folder"},
    {"{\"readings\": {}}", "want a list of {\"match\"", "found an object"},
    {"{\"readings\": [3]}", "/readings/0", "want {\"match\""},
    {"{\"readings\": [{\"reading\": {\"k\": 3}}]}", "/readings/0", "a path to match"},
    {"{\"readings\": [{\"match\": \"\"}]}", "/readings/0", "a path to match"},
    {"{\"readings\": [{\"match\": \"*\", \"name\": \"a\"}]}", "key \"name\"", "/readings/0"},
    {"{\"readings\": [{\"match\": \"*\", \"reading\": {\"k\": 0}}]}", "/readings/0", "k is \"0\""},
    {"{\"readings\": [{\"match\": \"*\", \"reading\": {\"k\": 2, \"select\": \"all\"}}]}",
     "/readings/0", "select"},
    {"{\"readings\": [{\"match\": \"*\", \"match\": \"a\"}]}", "c.json:1:", "duplicate"},
    {"{\"dictionaries\": [{\"name\": \"b\"}]}", "/dictionaries/0", "\"source\" wants a string"},
    {"{\"dictionaries\": [{\"name\": 3, \"source\": \"x\"}]}", "\"name\" wants a string",
     "found a whole number"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\"}, {\"name\": \"c\", \"source\": "
     "\"x\", "
     "\"sorce\": 1}]}",
     "/dictionaries/1", "nearest is \"source\""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"k\": 3}]}", "/dictionaries/0",
     "\"k\" stands in \"reading\""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"prefx\": \"m.\"}]}",
     "/dictionaries/0: no such key", "the nearest is \"prefix\""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"dec_bais\": \"m\"}]}",
     "/dictionaries/0: no such key", "the nearest is \"dec_bias\""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"parts\": \"a\\u001fb\"}]}",
     "\"parts\" holds a control character", ""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\\u001fk=3\"}]}",
     "\"source\" holds a control character", ""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"identity:4\", \"parts\": "
     "\"all\"}]}",
     "dictionary b in", "cannot use source identity:4: parts= does not go with identity:"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"identity:0\", \"labels\": \"l\"}]}",
     "dictionary b in", "cannot use source identity:0: D of"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"reading\": 3}]}",
     "\"reading\" wants an object", "a whole number"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"reading\": {\"parts\": 1}}]}",
     "\"reading\" has no field \"parts\"", ""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"reading\": {\"center\": \"c\"}}]}",
     "\"reading\" has no field \"center\"", "the nearest is \"centre\""},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"reading\": {\"k\": true}}]}",
     "\"k\" wants a text or a number", "true or false"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x:k=3\", \"reading\": {\"k\": 3}}]}",
     "dictionary b in", "stated twice"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x:centre=a\", \"reading\": {\"centre\": "
     "\"a:k=3\"}}]}",
     "dictionary b in", "centre is stated twice"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\", \"parts\": \"none\"}]}",
     "dictionary b in", "cannot use source x: parts is \"none\""},
    {"{\"dictionaries\": [{\"name\": \"-b\", \"source\": \"x\"}]}", "name \"-b\" in",
     "letter or digit"},
    {"{\"dictionaries\": [{\"name\": \"a\", \"source\": \"x\"}]}", "name \"a\" in", "twice"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"identity:0\"}]}", "dictionary b in",
     "identity:0"},
    {"{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\\u0000y\"}]}", "c.json:1:", ""},
};

START_TEST(bad_files_are_refused_by_name)
{
    one_report(bad_files[_i].text, parse_file(bad_files[_i].text, "a=x"), bad_files[_i].part,
               bad_files[_i].part2);
}
END_TEST

/* The entry of a dictionary, and its source: what is stated beside a line's text is behind a cut,
 * so that it may hold what a line would cut. */
#define CUT "\x1f"
static const char *const entries[][2] = {
    {"\"source\": \"x.pt\"", "x.pt"},
    {"\"source\": \"x.pt:k=3\", \"reading\": {}", "x.pt:k=3"},
    {"\"source\": \"x.pt\", \"reading\": {\"k\": 3, \"centre\": \"none\", \"input\": null}",
     "x.pt" CUT "k=3" CUT "centre=none"},
    {"\"source\": \"x.pt:kind=sae\", \"reading\": {\"threshold\": 0.5}, \"parts\": \"encoder\"",
     "x.pt:kind=sae" CUT "threshold=0.5" CUT "parts=encoder"},
    {"\"source\": \"x.pt\", \"format\": \"custom\", \"encoder\": \"W@d,F\", \"reading\": "
     "{\"kind\": \"sae\", \"centre\": \"c\", \"activation\": \"relu\", \"stated\": [\"k\"], "
     "\"contradicts\": {\"k\": \"4\"}, \"notes\": []}",
     "x.pt" CUT "format=custom" CUT "encoder=W@d,F" CUT "kind=sae" CUT "centre=c" CUT
     "activation=relu"},
    {"\"source\": \"x.pt\", \"reading\": {\"k\": 2, \"centre\": \"a:k=3\"}, \"prefix\": \"m:k=.\"",
     "x.pt" CUT "k=2" CUT "centre=a:k=3" CUT "prefix=m:k=."},
};

START_TEST(an_entry_states_what_a_line_does)
{
    char text[600];

    snprintf(text, sizeof text, "{\"dictionaries\": [{\"name\": \"a\", %s}]}", entries[_i][0]);
    ck_assert_int_eq(parse_file(text, ""), SAE_OK);
    ck_assert_uint_eq(o.n_sources, 1);
    ck_assert_str_eq(o.sources[0].source, entries[_i][1]);
    saed_opts_fini(&o);
}
END_TEST

START_TEST(a_byte_order_mark_before_the_file)
{
    ck_assert_int_eq(parse_file("\xef\xbb\xbf{\"threads\": 3}", "a=x"), SAE_OK);
    ck_assert_uint_eq(o.threads, 3);
    one_report("", parse_file("\xef\xbb", "a=x"), "cannot parse", "c.json:1:");
    one_report("", parse_file("\xef\xbb\xbf", "a=x"), "cannot parse", "c.json:1:");
}
END_TEST

START_TEST(nul_bytes_and_deep_nesting_in_the_file)
{
    char *deep = malloc(200001);

    one_report("nul", parse_file_n("{}\0", 3, "a=x", ""), "NUL byte", "offset 2");
    ck_assert_ptr_nonnull(deep);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    one_report("deep", parse_file(deep, "a=x"), "c.json:1:", "depth");
    free(deep);
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_no_usage_error)
{
    char line[400];

    ck_assert_int_eq(parse("--config /nowhere/at/all.json"), SAE_E_IO);
    ck_assert_uint_eq(n_reports, 1);
    ASSERT_REPORT(0, "/nowhere/at/all.json: No such file");
    snprintf(line, sizeof line, "a=x --config %s", dir);
    ck_assert_int_eq(parse(line), SAE_E_IO);
    ASSERT_REPORT(0, "directory");
    /* ... but a usage error beside it wins. */
    ck_assert_int_eq(parse("--config /nowhere/at/all.json --threads 0"), SAE_E_USAGE);
    ck_assert_uint_eq(n_reports, 2);
}
END_TEST

/* Values of one place stand together; those of a higher place stand alone. */
START_TEST(lists_take_several_values)
{
    const char *file = "{\"allow_host\": [\"c\", \"d\"], \"cors_allow_origin\": \"http://c\"}";

    ck_assert_int_eq(parse("a=x"), SAE_OK);
    check_list(&o.allow_host, "");
    ck_assert_int_eq(parse("a=x --allow-host a --allow-host=[::1] --allow-host fe80::1 "
                           "--allow-host 10.0.0.1 --allow-host *"),
                     SAE_OK);
    check_list(&o.allow_host, "a [::1] fe80::1 10.0.0.1 *");
    ck_assert_int_eq(parse_env("a=x", "SAED_ALLOW_HOST=b;c SAED_CORS_ALLOW_ORIGIN=null;http://a"),
                     SAE_OK);
    check_list(&o.allow_host, "b c");
    check_list(&o.cors_allow_origin, "null http://a");
    ck_assert_int_eq(parse_file(file, "a=x"), SAE_OK);
    check_list(&o.allow_host, "c d");
    check_list(&o.cors_allow_origin, "http://c");
    ck_assert_int_eq(parse_file_n(file, strlen(file), "a=x --allow-host a", "SAED_ALLOW_HOST=b;c"),
                     SAE_OK);
    check_list(&o.allow_host, "a");
    check_list(&o.cors_allow_origin, "http://c");
    one_report("SAED_ALLOW_HOST=b;;c", parse_env("a=x", "SAED_ALLOW_HOST=b;;c"),
               "SAED_ALLOW_HOST=b;;c", "a host without a port");
    one_report("[1]", parse_file("{\"allow_host\": [\"a\", 1]}", "a=x"), "allow_host",
               "found a whole number");
}
END_TEST

/* Sockets that were passed to this process, and to no other, take the place of --listen. */
START_TEST(sockets_are_passed_to_one_process)
{
    char env[64];

    snprintf(env, sizeof env, "LISTEN_PID=%d LISTEN_FDS=2", getpid());
    ck_assert_int_eq(parse_env("a=x --listen 0.0.0.0:1", env), SAE_OK);
    ck_assert_uint_eq(o.n_passed, 2);
    snprintf(env, sizeof env, "LISTEN_PID=%d LISTEN_FDS=2", getppid());
    ck_assert_int_eq(parse_env("a=x", env), SAE_OK);
    ck_assert_uint_eq(o.n_passed, 0);
    ck_assert_int_eq(parse_env("a=x", "LISTEN_PID=x LISTEN_FDS=2"), SAE_OK);
    ck_assert_uint_eq(o.n_passed, 0);
    ck_assert_int_eq(parse_env("a=x", "LISTEN_FDS=2"), SAE_OK);
    ck_assert_uint_eq(o.n_passed, 0);
    snprintf(env, sizeof env, "LISTEN_PID=%d LISTEN_FDS=65", getpid());
    one_report(env, parse_env("a=x", env), "LISTEN_FDS=65", "0 to 64");
    snprintf(env, sizeof env, "LISTEN_PID=%d LISTEN_FDS=-1", getpid());
    one_report(env, parse_env("a=x", env), "LISTEN_FDS=-1", "0 to 64");
}
END_TEST

START_TEST(several_addresses)
{
    char line[4096];
    size_t n = (size_t)snprintf(line, sizeof line, "a=x");

    ck_assert_int_eq(parse_env("a=x", "SAED_LISTEN=127.0.0.1:1;[::1]:2;unix:/run/s:600"), SAE_OK);
    check_list(&o.listen, "127.0.0.1:1 [::1]:2 unix:/run/s:600");
    ck_assert_int_eq(parse_env("a=x", "SAED_LISTEN=127.0.0.1:1;unix:/run/s;"), SAE_OK);
    check_list(&o.listen, "127.0.0.1:1 unix:/run/s");
    ck_assert_int_eq(parse_env("a=x", "SAED_LISTEN=;"), SAE_E_USAGE);
    ck_assert_int_eq(parse_env("a=x", "SAED_LISTEN=127.0.0.1:1;;"), SAE_E_USAGE);
    ck_assert_int_eq(parse_file("{\"listen\": [\"localhost:1\", \"unix:s\"]}", "a=x"), SAE_OK);
    check_list(&o.listen, "localhost:1 unix:s");
    one_report("two", parse("a=x --listen localhost:1 --listen 0.0.0.0:2"), "listen on 0.0.0.0",
               "--api-key-file");
    for (int i = 0; i < 30; i++)
        n += (size_t)snprintf(line + n, sizeof line - n, " --listen=unix:%d", i);
    ck_assert_int_eq(parse(line), SAE_OK);
    ck_assert_uint_eq(o.listen.n, 30);
}
END_TEST

/* Whoever has a key may come from anywhere. */
START_TEST(keys_are_leave_to_listen)
{
    ck_assert_int_eq(parse("a=x --listen 0.0.0.0:1 --api-key-file k --api-key-file=l"), SAE_OK);
    check_list(&o.api_key_file, "k l");
    ck_assert(!o.metrics_open);
    ck_assert_int_eq(parse_env("a=x --listen [::]:1 --metrics-open", "SAED_API_KEY_FILE=k;l"),
                     SAE_OK);
    check_list(&o.api_key_file, "k l");
    ck_assert(o.metrics_open);
    one_report("--api-key-file=", parse("a=x --api-key-file="), "--api-key-file \"\"",
               "the path of a file");
}
END_TEST

START_TEST(the_log_has_a_format_and_a_level)
{
    ck_assert_int_eq(parse("a=x"), SAE_OK);
    ck_assert(!o.access_log);
    ck_assert_int_eq(o.log_format, SAED_LOG_TEXT);
    ck_assert_int_eq(o.log_level, SAED_INFO);
    ck_assert_int_eq(parse_env("a=x --log-level error", "SAED_LOG_FORMAT=json SAED_LOG_LEVEL=warn "
                                                        "SAED_ACCESS_LOG=true"),
                     SAE_OK);
    ck_assert(o.access_log);
    ck_assert_int_eq(o.log_format, SAED_LOG_JSON);
    ck_assert_int_eq(o.log_level, SAED_ERROR);
}
END_TEST

START_TEST(help_fits_a_terminal_and_names_everything)
{
    struct sae_buf b;
    char flag[80];

    sae_buf_init(&b, 1 << 16);
    ck_assert_int_eq(saed_opts_help(&b), SAE_OK);
    for (size_t i = 0; i < SAED_N_OPTIONS; i++) {
        snprintf(flag, sizeof flag, "  --%s", saed_opt_defs[i].key);
        for (char *c = flag; *c; c++)
            if (*c == '_')
                *c = '-';
        ck_assert_msg(strstr(b.data, flag), "%s is not in --help", flag);
        snprintf(flag, sizeof flag, "[%s]", saed_opt_defs[i].dflt);
        if (saed_opt_defs[i].kind != SAED_KIND_BOOL && saed_opt_defs[i].dflt[0])
            ck_assert_msg(strstr(b.data, flag), "%s is not in --help", flag);
    }
    ck_assert_ptr_nonnull(strstr(b.data, "--probe URL"));
    ck_assert_ptr_nonnull(strstr(b.data, "SAED_MAX_BATCH_ROWS"));
    ck_assert_int_eq(b.data[b.len - 1], '\n');
    for (char *l = strtok(b.data, "\n"); l; l = strtok(NULL, "\n"))
        ck_assert_msg(strlen(l) <= 80, "%zu columns: %s", strlen(l), l);
    sae_buf_fini(&b);
    sae_buf_init(&b, 100);
    ck_assert_int_eq(saed_opts_help(&b), SAE_E_NOMEM);
    sae_buf_fini(&b);
}
END_TEST

START_TEST(folders_that_are_offered)
{
    static const char file[] =
        "{\"dictionaries\": [\"f1\", {\"name\": \"a\", \"source\": \"x\"}, \"f2\"],"
        " \"readings\": [{\"match\": \"q/*\", \"reading\": {\"k\": 64}, \"parts\": \"encoder\"},"
        "                {\"match\": \"*.pt\"}]}";

    ck_assert_int_eq(parse_file(file, ""), SAE_OK);
    ck_assert_uint_eq(o.dictionaries.n, 2);
    ck_assert_str_eq(o.dictionaries.items[0], "f1");
    ck_assert_str_eq(o.dictionaries.items[1], "f2");
    ck_assert_uint_eq(o.n_sources, 1);
    ck_assert_uint_eq(o.n_readings, 2);
    ck_assert_str_eq(o.readings[0].match, "q/*");
    ck_assert_str_eq(o.readings[0].stated, CUT "k=64" CUT "parts=encoder");
    ck_assert_str_eq(o.readings[1].stated, "");
    ck_assert_uint_eq(o.max_resident_bytes, 0);
    /* The line beats the environment, which beats the file; what is named stays. */
    ck_assert_int_eq(parse_file_n(file, strlen(file), "", "SAED_DICTIONARIES=e1;e2;e3"), SAE_OK);
    ck_assert_uint_eq(o.dictionaries.n, 3);
    ck_assert_str_eq(o.dictionaries.items[2], "e3");
    ck_assert_uint_eq(o.n_sources, 1);
    ck_assert_int_eq(parse_file_n(file, strlen(file),
                                  "--dictionaries l1 --dictionaries=l2 --max-resident-bytes 3G",
                                  "SAED_DICTIONARIES=e1"),
                     SAE_OK);
    ck_assert_uint_eq(o.dictionaries.n, 2);
    ck_assert_str_eq(o.dictionaries.items[0], "l1");
    ck_assert_str_eq(o.dictionaries.items[1], "l2");
    ck_assert_uint_eq(o.max_resident_bytes, 3ull << 30);
    /* A text alone, and nothing that is named. */
    ck_assert_int_eq(parse_file("{\"dictionaries\": \"only\"}", ""), SAE_OK);
    ck_assert_uint_eq(o.dictionaries.n, 1);
    ck_assert_uint_eq(o.n_sources, 0);
    ck_assert_int_eq(parse("--dictionaries d"), SAE_OK);
}
END_TEST

START_TEST(limits_by_their_keys)
{
    static const char *const want[] = {
        "max_connections",    "max_resident_bytes", "max_batch_rows",  "max_delay_us",
        "max_queue_rows",     "max_body_bytes",     "max_json_bytes",  "max_response_bytes",
        "max_inflight_bytes", "request_timeout_ms", "min_upload_rate", "keepalive_timeout_ms",
        "drain_grace_ms",     "drain_timeout_ms",
    };
    const char *key;
    uint64_t value;
    size_t n = 0;

    ck_assert_int_eq(parse("a=x --max-delay-us 123 --max-connections 5"), SAE_OK);
    for (; saed_opts_limit(&o, n, &key, &value); n++) {
        ck_assert_uint_lt(n, SAE_COUNTOF(want));
        ck_assert_str_eq(key, want[n]);
        if (strcmp(key, "max_delay_us") == 0)
            ck_assert_uint_eq(value, 123);
        if (strcmp(key, "max_connections") == 0)
            ck_assert_uint_eq(value, 5);
        if (strcmp(key, "max_body_bytes") == 0)
            ck_assert_uint_eq(value, 256u << 20);
    }
    ck_assert_uint_eq(n, SAE_COUNTOF(want));
}
END_TEST

START_TEST(the_example_in_deploy_is_good)
{
    ck_assert_msg(parse("--check --config deploy/config.json") == SAE_OK, "%s",
                  n_reports ? reports[0] : "");
    ck_assert_uint_ge(o.n_sources, 1);
}
END_TEST

START_TEST(out_of_memory_is_reported_and_nothing_leaks)
{
    char line[512];

    ck_assert_int_eq(
        parse_file("{\"dictionaries\": [{\"name\": \"b\", \"source\": \"x\"}]}", "a=x"), SAE_OK);
    snprintf(line, sizeof line, "--config %s/c.json a=x --allow-host a --allow-host b", dir);
    for (long i = 0;; i++) {
        enum sae_status st;

        sae_alloc_fault(i, true);
        st = parse_env(line, "SAED_CORS_ALLOW_ORIGIN=http://a;null");
        sae_alloc_fault(-1, false);
        if (st == SAE_OK)
            break;
        ck_assert_int_eq(st, SAE_E_NOMEM);
        ck_assert_uint_ge(n_reports, 1);
        ck_assert_int_lt(i, 100);
    }
}
END_TEST

/* ---- CPUs ---------------------------------------------------------------------------------- */

static unsigned quota(const char *cgroup)
{
    char proc[300], sys[300];

    put_file(dir, "cgroup", cgroup);
    snprintf(proc, sizeof proc, "%s/cgroup", dir);
    snprintf(sys, sizeof sys, "%s/sys", dir);
    return saed_cpus_quota(proc, sys);
}

START_TEST(cgroup_quotas_of_both_versions)
{
    put_file(dir, "sys/v2/a/cpu.max", "max 100000\n");
    put_file(dir, "sys/v2/a/b/cpu.max", "max 100000\n");
    ck_assert_uint_eq(quota("0::/v2/a/b\n"), 0);
    put_file(dir, "sys/v2/a/cpu.max", "150000 100000\n");
    ck_assert_uint_eq(quota("0::/v2/a/b\n"), 2);
    ck_assert_uint_eq(quota("0::/v2/a/b/not/there\n"), 2);
    put_file(dir, "sys/v2/a/b/cpu.max", "50000 100000\n");
    ck_assert_uint_eq(quota("0::/v2/a/b\n"), 1);
    put_file(dir, "sys/v2/a/b/cpu.max", "1000000 100000\n");
    ck_assert_uint_eq(quota("0::/v2/a/b\n"), 2);
    put_file(dir, "sys/cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
    put_file(dir, "sys/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(quota("4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n"), 0);
    put_file(dir, "sys/cpu,cpuacct/x/cpu.cfs_quota_us", "300001\n");
    ck_assert_uint_eq(quota("4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n"), 4);
    ck_assert_uint_eq(quota("4:cpuset:/x\n"), 0);
    put_file(dir, "sys/cpu/cpu.cfs_quota_us", "200000\n");
    put_file(dir, "sys/cpu/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(quota("1:cpu:/gone\n"), 2);
    put_file(dir, "sys/cpu.max", "700000 100000\n"); /* a namespace's own root */
    ck_assert_uint_eq(quota("0::/\n"), 7);
    ck_assert_uint_eq(quota("0::/../..\n"), 7);
    ck_assert_uint_eq(quota("rubbish\n::\n\n"), 7); /* "::" names the root */
    ck_assert_uint_eq(saed_cpus_quota("/nowhere", "/nowhere"), 0);
    ck_assert_uint_ge(saed_cpus(), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("opts");
    TCase *t = tcase_create("opts");
    SRunner *r = srunner_create(s);

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults_are_those_of_the_contract);
    tcase_add_test(t, flags_come_in_both_forms_between_and_after_dictionaries);
    tcase_add_test(t, sources_without_a_name);
    tcase_add_test(t, what_is_meant_as_a_name);
    tcase_add_test(t, actions);
    tcase_add_loop_test(t, bad_lines_are_refused_by_name, 0, (int)SAE_COUNTOF(bad_lines));
    tcase_add_loop_test(t, loopback_hosts_need_no_leave, 0, (int)SAE_COUNTOF(loopbacks));
    tcase_add_test(t, other_hosts_with_leave);
    tcase_add_test(t, names_of_200_bytes_and_no_more);
    tcase_add_test(t, every_mistake_is_reported);
    tcase_add_test(t, environment);
    tcase_add_test(t, variables_that_kubernetes_invents_are_ignored);
    tcase_add_test(t, file_below_environment_below_flags);
    tcase_add_loop_test(t, an_entry_states_what_a_line_does, 0, SAE_COUNTOF(entries));
    tcase_add_loop_test(t, bad_files_are_refused_by_name, 0, (int)SAE_COUNTOF(bad_files));
    tcase_add_test(t, a_byte_order_mark_before_the_file);
    tcase_add_test(t, nul_bytes_and_deep_nesting_in_the_file);
    tcase_add_test(t, a_file_that_cannot_be_read_is_no_usage_error);
    tcase_add_test(t, lists_take_several_values);
    tcase_add_test(t, sockets_are_passed_to_one_process);
    tcase_add_test(t, several_addresses);
    tcase_add_test(t, keys_are_leave_to_listen);
    tcase_add_test(t, the_log_has_a_format_and_a_level);
    tcase_add_test(t, help_fits_a_terminal_and_names_everything);
    tcase_add_test(t, folders_that_are_offered);
    tcase_add_test(t, limits_by_their_keys);
    tcase_add_test(t, the_example_in_deploy_is_good);
    tcase_add_test(t, out_of_memory_is_reported_and_nothing_leaks);
    tcase_add_test(t, cgroup_quotas_of_both_versions);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
