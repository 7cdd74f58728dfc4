/* test_loading.c - from the file to the first answer: what is said while loading, time and memory
 * of a 150 MB dictionary, and that a file has no power over a daemon that has read it.
 *
 * The large weights file is written here, as torch.save writes it: a stored zip of a protocol-2
 * pickle and one record a tensor. */
#include "tests/http/support_body.h"

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
#include <zlib.h>

#define MS 30000

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

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

/* ---- a .pt file ---------------------------------------------------------------------------- */

struct tensor {
    const char *name;
    size_t dim[2];
    unsigned n;
    bool transposed; /* stored so that strides are (1, dim[0]) */
};

static void put_u(struct text *t, size_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        text_add(t, &(char){(char)(v >> (8 * i))}, 1);
}

static void put_string(struct text *t, const char *s)
{
    text_add(t, "X", 1);
    put_u(t, strlen(s), 4);
    text_add(t, s, strlen(s));
}

static void put_int(struct text *t, size_t v)
{
    text_add(t, "J", 1);
    put_u(t, v, 4);
}

/* OrderedDict of _rebuild_tensor_v2 calls, no memo. */
static struct text make_pickle(const struct tensor *ts, size_t n)
{
    static const char begin[] = "\x80\x02"
                                "ccollections\nOrderedDict\n)R(";
    struct text t = {0};

    text_add(&t, begin, sizeof begin - 1);
    for (size_t i = 0; i < n; i++) {
        size_t count = 1;
        char key[16];

        for (unsigned d = 0; d < ts[i].n; d++)
            count *= ts[i].dim[d];
        snprintf(key, sizeof key, "%zu", i);
        put_string(&t, ts[i].name);
        text_addf(&t, "ctorch._utils\n_rebuild_tensor_v2\n((");
        put_string(&t, "storage");
        text_addf(&t, "ctorch\nFloatStorage\n");
        put_string(&t, key);
        put_string(&t, "cpu");
        put_int(&t, count);
        text_addf(&t, "tQ");
        put_int(&t, 0);
        text_addf(&t, "(");
        for (unsigned d = 0; d < ts[i].n; d++)
            put_int(&t, ts[i].dim[d]);
        text_addf(&t, "t(");
        if (ts[i].n == 2) {
            put_int(&t, ts[i].transposed ? 1 : ts[i].dim[1]);
            put_int(&t, ts[i].transposed ? ts[i].dim[0] : 1);
        } else {
            put_int(&t, 1);
        }
        text_addf(&t, "t\x89"
                      "ccollections\nOrderedDict\n)RtR");
    }
    text_addf(&t, "u.");
    return t;
}

struct zip {
    FILE *f;
    struct text central;
    size_t n, at;
};

static void zip_add(struct zip *z, const char *name, const void *data, size_t n)
{
    struct text h = {0};
    unsigned long crc = crc32_z(0, data, n);
    size_t pad = 64 - (z->at + 30 + strlen(name) + 4) % 64;

    text_add(&h, "PK\3\4\0\0\0\0\0\0\0\0\0\0", 14);
    put_u(&h, crc, 4);
    put_u(&h, n, 4);
    put_u(&h, n, 4);
    put_u(&h, strlen(name), 2);
    put_u(&h, pad + 4, 2);
    text_add(&h, name, strlen(name));
    text_add(&h, "FB", 2);
    put_u(&h, pad, 2);
    for (size_t i = 0; i < pad; i++)
        text_add(&h, "Z", 1);
    text_add(&z->central, "PK\1\2\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    put_u(&z->central, crc, 4);
    put_u(&z->central, n, 4);
    put_u(&z->central, n, 4);
    put_u(&z->central, strlen(name), 2);
    put_u(&z->central, 0, 8); /* extra, comment, disk, internal */
    put_u(&z->central, 0, 4);
    put_u(&z->central, z->at, 4);
    text_add(&z->central, name, strlen(name));
    ck_assert_uint_eq(fwrite(h.p, 1, h.n, z->f), h.n);
    ck_assert_uint_eq(fwrite(data, 1, n, z->f), n);
    z->at += h.n + n;
    z->n++;
    text_free(&h);
}

static void write_pt(const char *path, const struct tensor *ts, size_t n)
{
    struct zip z = {.f = fopen(path, "wb")};
    struct text pickle = make_pickle(ts, n), end = {0};
    unsigned random = 1;

    ck_assert_ptr_nonnull(z.f);
    zip_add(&z, "archive/data.pkl", pickle.p, pickle.n);
    for (size_t i = 0; i < n; i++) {
        size_t count = ts[i].dim[0] * (ts[i].n == 2 ? ts[i].dim[1] : 1);
        float *v = malloc(count * 4);
        char name[64];

        for (size_t k = 0; k < count; k++) {
            random = random * 1664525u + 1013904223u;
            v[k] = (float)(random >> 8) / 16777216.0f - 0.5f;
        }
        snprintf(name, sizeof name, "archive/data/%zu", i);
        zip_add(&z, name, v, count * 4);
        free(v);
    }
    zip_add(&z, "archive/version", "3\n", 2);
    text_add(&end, "PK\5\6\0\0\0\0", 8);
    put_u(&end, z.n, 2);
    put_u(&end, z.n, 2);
    put_u(&end, z.central.n, 4);
    put_u(&end, z.at, 4);
    put_u(&end, 0, 2);
    ck_assert_uint_eq(fwrite(z.central.p, 1, z.central.n, z.f), z.central.n);
    ck_assert_uint_eq(fwrite(end.p, 1, end.n, z.f), end.n);
    ck_assert_int_eq(fclose(z.f), 0);
    text_free(&z.central);
    text_free(&end);
    text_free(&pickle);
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

/* 768 x 24576, 151 MB of f32; `transposed` as AutoEncoderNew stores its encoder. */
START_TEST(a_large_file_is_served_fast_and_small)
{
    const size_t d = 768, F = 24576;
    const struct tensor plain[] = {{"bias", {d}, 1, false},
                                   {"encoder.weight", {F, d}, 2, false},
                                   {"encoder.bias", {F}, 1, false},
                                   {"decoder.weight", {d, F}, 2, false}};
    const struct tensor tied[] = {{"encoder.weight", {F, d}, 2, true},
                                  {"encoder.bias", {F}, 1, false},
                                  {"decoder.weight", {d, F}, 2, false},
                                  {"decoder.bias", {d}, 1, false}};
    const double bytes = 4.0 * (double)(2 * d * F + d + F);
    char path[96], source[128];
    long long fastest = 1000000;
    struct reply r;

    make_dir();
    snprintf(path, sizeof path, "%s/large.pt", dir);
    write_pt(path, _i ? tied : plain, 4);
    snprintf(source, sizeof source, "big=%s", path);
    for (int i = 0; i < 4 && fastest >= 1000; i++) { /* the machine may be busy: the best of four */
        long long begin = test_now_ms();
        struct server s = server_start((const char *const[]){source, NULL});
        float *x = calloc(d * 64, 4);

        if (test_now_ms() - begin < fastest)
            fastest = test_now_ms() - begin;
        x[0] = 1;
        for (int k = 0; k < 3; k++) {
            r = request(&s, "POST", "/v1/dictionaries/big/encode?top_k=4",
                        (const char *const[]){"Content-Type: application/octet-stream", NULL}, x,
                        d * 4 * 64);
            ck_assert_int_eq(r.status, 200);
            reply_free(&r);
        }
        r = get(&s, "/v1/dictionaries/big");
        ck_assert_ptr_nonnull(strstr(r.body, _i ? "AutoEncoderNew" : "\"AutoEncoder\""));
        reply_free(&r);
        ck_assert(metric(&s, "saed_dictionary_bytes{dictionary=\"big\"}") == bytes);
        if (!SANITIZED) {
            double peak = 1024.0 * (double)status_kb(&s, "VmHWM:");

            ck_assert_msg(peak <= 1.25 * bytes + 64e6, "peak %.0f bytes for tensors of %.0f", peak,
                          bytes);
            ck_assert(peak >= bytes); /* the measure measures */
        }
        free(x);
        ck_assert_int_eq(server_stop(&s), 0);
    }
    if (SANITIZED)
        printf("SKIP: time and memory of a sanitized build say nothing\n");
    else
        ck_assert_msg(fastest < 1000, "served after %lld ms", fastest);
    remove_dir();
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

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

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
    };
    struct server s = start_loading();
    long long end = test_now_ms() + MS;
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
    ck_assert_str_eq(r.body, "{\"f\":[1,2]}");
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
    ck_assert(test_now_ms() - begin < 2000);
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
    tcase_add_loop_test(t, a_large_file_is_served_fast_and_small, 0, 2);
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
