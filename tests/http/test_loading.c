/* test_loading.c - from the file to the first answer: what is said while loading, time and memory
 * of a 150 MB dictionary, and that a file has no power over a daemon that has read it. */
#include "tests/http/support_body.h"
#include "tests/http/support_pt.h"
#include "tests/support/load.h"
#include "tests/support/sanitized.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS 30000

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

/* ---- a large dictionary ---------------------------------------------------------------------- */

static long status_kb(const struct server *s, const char *key)
{
    char path[64], line[256];
    long kb = -1;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)s->pid);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kb = strtol(line + strlen(key) + 1, NULL, 10);
    fclose(f);
    return kb;
}

/* What all its threads have computed so far. */
static long long cpu_ms(const struct server *s)
{
    return (long long)(1000 * metric(s, "process_cpu_seconds_total"));
}

static void check_memory(const struct server *s, double bytes, const char *when)
{
    double now = 1024.0 * (double)status_kb(s, "VmRSS:");
    double peak = 1024.0 * (double)status_kb(s, "VmHWM:");

    if (SANITIZED)
        return;
    ck_assert_msg(peak <= 1.25 * bytes + 64e6, "%s: peak %.0f bytes for tensors of %.0f", when,
                  peak, bytes);
    ck_assert(now >= bytes && peak >= now); /* the measure measures */
}

/* Several clients at once, with requests of 1 to 64 rows, until each has had a few answers. */
static void put_load_on(const struct server *s, size_t d)
{
    static const char *const paths[] = {
        "/v1/dictionaries/big/encode?top_k=32", "/v1/dictionaries/big/encode?features=1,2,3",
        "/v1/dictionaries/big/forward", "/v1/dictionaries/big/encode"};
    enum { N_PATHS = 4, N_CLIENTS = 8 };
    struct load_client clients[N_CLIENTS];
    struct load_spec spec = {
        .port = s->port, .clients = clients, .n_clients = N_CLIENTS, .seconds = 0.5};
    size_t ok = 0;
    float *x = calloc(64 * d, 4);

    for (size_t i = 0; i < 64 * d; i++)
        x[i] = (float)((i * 7919) % 201) / 100 - 1;
    for (size_t c = 0; c < N_CLIENTS; c++) {
        size_t rows = c % N_PATHS == 3 ? 1 : c < N_PATHS ? 64 : 4; /* a dense answer: one row */

        clients[c] = (struct load_client){0};
        clients[c].request = load_post(paths[c % N_PATHS], "application/octet-stream",
                                       "application/x-safetensors", x, rows * d * 4, &clients[c].n);
    }
    while (ok < 5 * N_CLIENTS) {
        struct load_result r;

        ck_assert_int_eq(load_run(&spec, &r), 0);
        ck_assert_uint_eq(r.failed, 0);
        ok += r.ok;
        load_result_fini(&r);
        spec.seconds *= 2; /* a busy machine may answer nothing in less */
    }
    for (size_t c = 0; c < N_CLIENTS; c++)
        free((char *)clients[c].request);
    free(x);
}

/* An AutoEncoder of bf16 as .safetensors: its numbers are small, and of no order. */
static void write_bf16(const char *path, size_t d, size_t F)
{
    const size_t at[] = {0, 2 * d * F, 2 * d * F + 2 * F, 4 * d * F + 2 * F,
                         4 * d * F + 2 * F + 2 * d};
    uint64_t state = 1, n;
    uint16_t row[1024];
    char head[1024];
    FILE *f = fopen(path, "wb");

    ck_assert_ptr_nonnull(f);
    n = (uint64_t)snprintf(
        head, sizeof head,
        "{\"encoder.weight\":{\"dtype\":\"BF16\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]},"
        "\"encoder.bias\":{\"dtype\":\"BF16\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]},"
        "\"decoder.weight\":{\"dtype\":\"BF16\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]},"
        "\"bias\":{\"dtype\":\"BF16\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}",
        F, d, at[0], at[1], F, at[1], at[2], d, F, at[2], at[3], d, at[3], at[4]);
    fwrite(&n, sizeof n, 1, f);
    fwrite(head, 1, n, f);
    for (size_t left = at[4] / 2; left > 0;) {
        size_t now = left < 1024 ? left : 1024;

        for (size_t i = 0; i < now; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            row[i] = (uint16_t)(0x3c00 | (state >> 33 & 0x807f));
        }
        fwrite(row, 2, now, f);
        left -= now;
    }
    ck_assert_int_eq(fclose(f), 0);
}

/* 768 x 24576: 5 bytes for a pair of weights, 3 for one of an encoder alone, not for a moment more.
 */
START_TEST(weights_of_16_bits_take_little)
{
    static const struct {
        const char *option;
        double bytes; /* of a pair */
    } ways[] = {{"", 5}, {":parts=encoder", 3}, {":resident=f32", 9}};
    const size_t d = 768, F = 24576;
    char path[96], source[128];

    make_dir();
    snprintf(path, sizeof path, "%s/half.safetensors", dir);
    write_bf16(path, d, F);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        double bytes = ways[i].bytes * (double)(d * F), peak;
        struct server s;

        snprintf(source, sizeof source, "a=%s%s", path, ways[i].option);
        s = server_start((const char *const[]){"--engine", "native", source, NULL});
        peak = 1024.0 * (double)status_kb(&s, "VmHWM:");
        if (!SANITIZED)
            ck_assert_msg(peak >= bytes && peak <= bytes + 64e6, "%s: %.0f bytes, want %.0f",
                          source, peak, bytes);
        ck_assert_int_eq(server_stop(&s), 0);
    }
    remove_dir();
}
END_TEST

/* 768 x 24576, 151 MB of f32; `transposed` as AutoEncoderNew stores its encoder. */
START_TEST(a_large_file_is_served_fast_and_small)
{
    const size_t d = 768, F = 24576;
    const struct pt_tensor plain[] = {{"bias", {d}, 1, false, NULL},
                                      {"encoder.weight", {F, d}, 2, false, NULL},
                                      {"encoder.bias", {F}, 1, false, NULL},
                                      {"decoder.weight", {d, F}, 2, false, NULL}};
    const struct pt_tensor tied[] = {{"encoder.weight", {F, d}, 2, true, NULL},
                                     {"encoder.bias", {F}, 1, false, NULL},
                                     {"decoder.weight", {d, F}, 2, false, NULL},
                                     {"decoder.bias", {d}, 1, false, NULL}};
    const double bytes = 4.0 * (double)(2 * d * F + d + F);
    char path[96], source[128];
    long long fastest = 1000000;
    struct reply r;

    make_dir();
    snprintf(path, sizeof path, "%s/large.pt", dir);
    write_pt(path, _i ? tied : plain, 4);
    snprintf(source, sizeof source, "big=%s", path);
    /* The machine may be busy: the best of four, or what it took of its CPUs. */
    for (int i = 0; i < 4 && fastest >= 1000; i++) {
        long long begin = test_now_ms(), ms;
        struct server s = server_start((const char *const[]){"--engine", "native", source, NULL});

        ms = test_now_ms() - begin;
        ms = ms < cpu_ms(&s) ? ms : cpu_ms(&s);
        fastest = ms < fastest ? ms : fastest;
        check_memory(&s, bytes, "once loaded");
        r = get(&s, "/v1/dictionaries/big");
        ck_assert_ptr_nonnull(strstr(r.body, _i ? "AutoEncoderNew" : "\"AutoEncoder\""));
        ck_assert_str_eq(json_member(&r, "engine"), "native");
        reply_free(&r);
        ck_assert(metric(&s, "saed_dictionary_bytes{dictionary=\"big\"}") == bytes);
        if (!SANITIZED)
            put_load_on(&s, d);
        check_memory(&s, bytes, "after load");
        ck_assert_int_eq(server_stop(&s), 0);
    }
    if (SANITIZED)
        printf("SKIP: time and memory of a sanitized build say nothing\n");
    else
        ck_assert_msg(fastest < 1000, "served after %lld ms", fastest);
    remove_dir();
}
END_TEST

/* What the largest batch that may be asked for costs before the first row has come. */
START_TEST(the_largest_batch_is_affordable)
{
    struct server s = server_start(
        (const char *const[]){"--threads", "4", "--max-batch-rows", "4096", "i=identity:2", NULL});

    if (SANITIZED)
        printf("SKIP: memory of a sanitized build says nothing\n");
    else
        ck_assert_int_lt(status_kb(&s, "VmHWM:"), 512 << 10);
    ck_assert_int_eq(server_stop(&s), 0);
    s = server_spawn((const char *const[]){"--max-batch-rows", "4097", "i=identity:2", NULL});
    ck_assert_int_eq(server_wait(&s, MS), 2);
}
END_TEST

/* ---- the file afterwards --------------------------------------------------------------------- */

static void copy(const char *from, const char *to)
{
    char command[256];

    snprintf(command, sizeof command, "cp %s %s", from, to);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(the_file_has_no_power_once_it_is_read)
{
    char path[96], source[128];
    static const char body[] = "{\"x\":[1,-2,3,-4,5,-6,7]}";
    struct server s;
    struct reply first;
    struct stat st;
    FILE *f;

    make_dir();
    snprintf(path, sizeof path, "%s/w.pt", dir);
    snprintf(source, sizeof source, "w=%s", path);
    copy("tests/golden/data/jump_7x5_f32.pt", path);
    ck_assert_int_eq(stat(path, &st), 0);
    s = server_start((const char *const[]){source, NULL});
    first = post_json(&s, "/v1/dictionaries/w/forward?output_pre_jump=true", body);
    ck_assert_int_eq(first.status, 200);
    for (int i = 0; i < 4; i++) {
        struct reply r;

        switch (i) {
        case 0: /* overwritten in place */
            f = fopen(path, "r+b");
            ck_assert_ptr_nonnull(f);
            for (off_t k = 0; k < st.st_size; k++)
                fputc(0x5a, f);
            fclose(f);
            break;
        case 1:
            ck_assert_int_eq(truncate(path, 0), 0);
            break;
        case 2:
            ck_assert_int_eq(unlink(path), 0);
            break;
        default: /* another in its place */
            copy("tests/golden/data/jump_16x48_f16.pt", path);
            break;
        }
        r = post_json(&s, "/v1/dictionaries/w/forward?output_pre_jump=true", body);
        ck_assert_int_eq(r.status, 200);
        ck_assert_str_eq(r.body, first.body);
        reply_free(&r);
    }
    reply_free(&first);
    ck_assert_int_eq(server_stop(&s), 0);
    remove_dir();
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused)
{
    static const char *const kinds[] = {"/dev/zero", "/dev/null", "tests", "FIFO"};
    char path[96], source[128];
    struct server s;
    char *err;

    make_dir();
    snprintf(path, sizeof path, "%s/fifo.pt", dir);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    snprintf(source, sizeof source, "w=%s", strcmp(kinds[_i], "FIFO") == 0 ? path : kinds[_i]);
    s = server_spawn((const char *const[]){"--check", source, NULL});
    ck_assert_int_eq(server_wait(&s, MS), 1);
    err = server_stderr(&s);
    ck_assert_msg(strstr(err, source + 2) != NULL, "%s", err);
    free(err);
    remove_dir();
}
END_TEST

/* ---- while loading ------------------------------------------------------------------------- */

/* A daemon that will load for a second or more, listening already. */
static struct server start_loading(void)
{
    char listen[32];
    int port = free_port();
    struct server s;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    long long end = test_now_ms() + MS;

    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    s = server_spawn((const char *const[]){"--listen", listen, "a=init:AutoEncoder:1024:65536",
                                           "b=identity:2", NULL});
    s.port = port;
    snprintf(s.url, sizeof s.url, "http://%s", listen);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
            rc = connect(fd, (struct sockaddr *)&a, sizeof a);

        close(fd);
        if (rc == 0)
            return s;
        ck_assert_msg(test_now_ms() < end, "it does not listen before it has loaded");
        poll(NULL, 0, 1);
    }
}

START_TEST(while_loading_it_says_so)
{
    static const struct {
        const char *method, *path;
        int status;
        const char *code;
    } asked[] = {
        {"GET", "/healthz", 200, NULL},
        {"GET", "/metrics", 200, NULL},
        {"GET", "/readyz", 503, "loading"},
        {"GET", "/v1", 503, "loading"},
        {"GET", "/v1/dictionaries", 503, "loading"},
        {"GET", "/v1/dictionaries/b", 503, "loading"},
        {"POST", "/v1/dictionaries/b/encode", 503, "loading"},
        {"GET", "/nothing", 404, "not_found"},
        {"GET", "/v1/dictionaries/b/encode", 405, "method_not_allowed"},
        {"OPTIONS", "/v1/dictionaries/b/encode", 204, NULL},
    };
    struct server s = start_loading();
    long long end = test_now_ms() + 4 * MS;
    char line[128] = "";
    struct reply r;
    size_t n = 0;

    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        r = request(&s, asked[i].method, asked[i].path, NULL, NULL, 0);
        if (asked[i].code)
            check_problem(&r, asked[i].status, asked[i].code, NULL, NULL);
        else
            ck_assert_int_eq(r.status, asked[i].status);
        reply_free(&r);
    }
    for (;;) {
        r = get(&s, "/readyz");
        if (r.status == 200)
            break;
        check_problem(&r, 503, "loading", NULL, NULL);
        reply_free(&r);
        ck_assert(test_now_ms() < end);
        poll(NULL, 0, 5);
    }
    reply_free(&r);
    while (n + 1 < sizeof line && !strchr(line, '\n') && read(s.out, line + n, 1) == 1)
        line[++n] = '\0';
    ck_assert_int_eq(strncmp(line, "listening on http://127.0.0.1:", 30), 0);
    ck_assert_int_eq(atoi(line + 30), s.port);
    r = post_json(&s, "/v1/dictionaries/b/encode", "{\"x\":[1,2]}");
    ck_assert_str_eq(r.body, "{\"f\":[1,2]}\n");
    reply_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

START_TEST(a_signal_while_loading_is_a_clean_stop)
{
    struct server s = start_loading();
    long long begin = test_now_ms();
    char *out;

    server_signal(&s, SIGTERM);
    ck_assert_int_eq(server_wait(&s, MS), 0);
    ck_assert(test_now_ms() - begin < SOON_MS(2000));
    out = server_stdout(&s);
    ck_assert_str_eq(out, ""); /* never ready, never said so */
    free(out);
}
END_TEST

/* Sizes at the edges of the contract: answers of the right shape. */
START_TEST(odd_sizes_work)
{
    static const char *const sources[] = {
        "s=init:AutoEncoder:1:3", "s=init:GatedAutoEncoder:12288:64", "s=init:JumpAutoEncoder:64:8",
        "s=init:AutoEncoderNew:16:100000", "s=identity:1"};
    static const size_t dims[][2] = {{1, 3}, {12288, 64}, {64, 8}, {16, 100000}, {1, 1}};
    static const size_t most[] = {4096, 256, 4096, 64, 4096}; /* rows: a second each, not ten */

    for (size_t i = 0; i < 5; i++) {
        struct server s = server_start((const char *const[]){
            sources[i], "--max-response-bytes", "2G", "--max-inflight-bytes", "4G", NULL});
        for (size_t rows = 1; rows <= most[i]; rows *= 16) {
            float *x = malloc(rows * dims[i][0] * 4);
            struct reply r;

            for (size_t k = 0; k < rows * dims[i][0]; k++)
                x[k] = (float)((k * 7919) % 201) / 100 - 1;
            r = request(&s, "POST", "/v1/dictionaries/s/encode?top_k=2",
                        (const char *const[]){"Content-Type: application/octet-stream", NULL}, x,
                        rows * dims[i][0] * 4);
            ck_assert_msg(r.status == 200, "%s %zu rows: %s", sources[i], rows, r.body);
            ck_assert_uint_ge(r.n, rows * (dims[i][1] < 2 ? 1 : 2) * 8);
            reply_free(&r);
            r = request(&s, "POST", "/v1/dictionaries/s/forward",
                        (const char *const[]){"Content-Type: application/octet-stream", NULL}, x,
                        rows * dims[i][0] * 4);
            ck_assert_msg(r.status == 200, "%s %zu rows: %s", sources[i], rows, r.body);
            ck_assert_uint_eq(r.n, rows * dims[i][0] * 4);
            reply_free(&r);
            free(x);
        }
        ck_assert_int_eq(server_stop(&s), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loading");
    TCase *t = tcase_create("loading");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, weights_of_16_bits_take_little);
    tcase_add_loop_test(t, a_large_file_is_served_fast_and_small, 0, 2);
    tcase_add_test(t, the_largest_batch_is_affordable);
    tcase_add_test(t, the_file_has_no_power_once_it_is_read);
    tcase_add_loop_test(t, what_is_no_regular_file_is_refused, 0, 4);
    tcase_add_test(t, while_loading_it_says_so);
    tcase_add_test(t, a_signal_while_loading_is_a_clean_stop);
    tcase_add_test(t, odd_sizes_work);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
