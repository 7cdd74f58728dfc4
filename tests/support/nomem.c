/* nomem.c - see nomem.h. */
#include "tests/support/nomem.h"

#include "tests/http/support_body.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS 20000
#define JSON "Content-Type: application/json\r\n"
#define RAW "Content-Type: application/octet-stream\r\n"
#define ST "Content-Type: application/x-safetensors\r\n"
#define PACKED "Accept-Encoding: zstd, gzip;q=0.9\r\n"
#define GZIP "Accept-Encoding: gzip\r\n"
#define OP(path) "POST /v1/dictionaries/" path

/* So many allocations may come before libmicrohttpd has a connection on which to answer. */
#define CONNECTION_ALLOCS 10

enum { D = 8, F = 40, ROWS = 5 };

const char *const nomem_args[] = {"--threads",
                                  "2",
                                  "--max-body-bytes",
                                  "4M",
                                  "--allow-host",
                                  "a",
                                  "--compress-answers",
                                  "a=init:AutoEncoder:8:40:l0=9:labels=tests/support/labels.txt",
                                  "g=init:GatedAutoEncoder:8:40:l0=9",
                                  "j=init:JumpAutoEncoder:8:40",
                                  "n=init:AutoEncoderNew:8:40",
                                  "i=identity:8",
                                  NULL};

/* ---- the requests ---------------------------------------------------------------------------- */

enum body {
    NONE,
    X_JSON,
    X_RAW,
    X_ST,
    X_ST_OPTIONS, /* with features, __metadata__ and ghost_mask */
    X_LARGE_JSON, /* for a codec thread, and so is the answer */
    X_LARGE_ST,
    X_CHUNKED,
    F_JSON,
    F_SPARSE_JSON,
    F_CSR,
    F_RAW,
    GHOST_JSON,
    WEIGHTS_JSON,
    WEIGHTS_ST,
    NOT_JSON,
    ST_CUT,
    N_BODIES
};

static const struct {
    const char *line, *headers;
    enum body body;
    int status;
} kinds[] = {
    {OP("a/encode"), JSON, X_JSON, 200},
    {OP("a/encode"), RAW, X_RAW, 200},
    {OP("a/encode"), ST, X_ST, 200},
    {OP("a/encode"), RAW, X_CHUNKED, 200},
    {OP("a/encode?features=3,1,3"), RAW "Accept: application/json\r\n", X_RAW, 200},
    {OP("a/encode?sparse=true"), JSON, X_JSON, 200},
    {OP("a/encode?sparse=true"), ST, X_ST, 200},
    {OP("a/encode?top_k=3"), JSON, X_JSON, 200},
    {OP("a/encode?top_k=3"), ST, X_ST, 200},
    {OP("a/encode?top_k=3&features=3,1,5,7"), ST, X_ST, 200},
    {OP("g/encode?return_gate=true"), ST, X_ST, 200},
    {OP("g/encode?return_gate=true&sparse=true"), JSON, X_JSON, 200},
    {OP("j/encode?output_pre_jump=true"), JSON, X_JSON, 200},
    {OP("i/encode"), JSON, X_JSON, 200},
    {OP("a/forward"), JSON, X_JSON, 200},
    {OP("a/forward?output_features=true"), ST, X_ST, 200},
    {OP("n/forward?output_features=true&top_k=4"), JSON, X_JSON, 200},
    {OP("a/forward"), JSON, GHOST_JSON, 200},
    {OP("a/forward?output_features=true"), ST, X_ST_OPTIONS, 200},
    {OP("a/decode"), JSON, F_JSON, 200},
    {OP("a/decode"), JSON, F_SPARSE_JSON, 200},
    {OP("a/decode"), ST, F_CSR, 200},
    {OP("a/decode"), RAW, F_RAW, 200},
    {OP("a/encode"), JSON, X_LARGE_JSON, 200},
    {OP("a/encode?sparse=true"), ST, X_LARGE_ST, 200},
    {OP("a/encode?sparse=true&labels=true"), JSON, X_JSON, 200},
    {OP("a/encode"), JSON PACKED, X_JSON, 200},
    {OP("a/encode"), JSON GZIP, X_LARGE_JSON, 200},
    {OP("g/weights"), JSON, WEIGHTS_JSON, 200},
    {OP("a/weights?vectors=b_enc,norms"), ST, WEIGHTS_ST, 200},
    {OP("a/encode"), JSON, NOT_JSON, 400},
    {OP("a/encode"), ST, ST_CUT, 400},
    {OP("a/encode?top_k=none"), JSON, X_JSON, 400},
    {OP("a/decode"), JSON, X_JSON, 400},
    {OP("zzz/encode"), JSON, X_JSON, 404},
    {OP("a/encode"), "Content-Type: text/csv\r\n", X_JSON, 415},
    {OP("a/encode?top_k=3"), RAW "Accept: application/octet-stream\r\n", X_RAW, 406},
    {"PUT /v1", "", NONE, 405},
    {"GET /nowhere", "", NONE, 404},
    {"GET /v1", "", NONE, 200},
    {"GET /v1/dictionaries", "", NONE, 200},
    {"GET /v1/dictionaries", PACKED, NONE, 200},
    {"GET /openapi.json", GZIP, NONE, 200}, /* elsewhere */
    {"GET /v1/dictionaries/g", "", NONE, 200},
    {"GET /v1/dictionaries/a/labels?features=2,1", "", NONE, 200},
    {"HEAD /v1/dictionaries/g", "", NONE, 200},
    {"GET /healthz", "Accept: a\r\nAccept: b\r\n", NONE, 200},
    {"GET /readyz", "", NONE, 200},
    {"GET /metrics", "", NONE, 200},
};

int nomem_requests(void)
{
    return (int)(sizeof kinds / sizeof kinds[0]);
}

static float value(size_t i)
{
    return (float)((int)(i * 7919 % 37) - 18) / 8;
}

static void add_json_x(struct text *t, const char *name, size_t rows, size_t width)
{
    float *v = malloc(rows * width * sizeof *v);

    ck_assert_ptr_nonnull(v);
    for (size_t i = 0; i < rows * width; i++)
        v[i] = value(i);
    text_addf(t, "{\"%s\":", name);
    text_rows(t, v, rows, width);
    text_addf(t, "}");
    free(v);
}

static struct text st_of(const char *name, size_t rows, size_t width)
{
    float *v = malloc(rows * width * sizeof *v);
    struct st_body b = {0};
    char shape[40];

    ck_assert_ptr_nonnull(v);
    for (size_t i = 0; i < rows * width; i++)
        v[i] = value(i);
    snprintf(shape, sizeof shape, "[%zu,%zu]", rows, width);
    st_add(&b, name, "F32", shape, v, rows * width * sizeof *v);
    free(v);
    return st_end(&b);
}

static struct text st_options(void)
{
    const int64_t ids[3] = {7, 1, 7};
    float x[ROWS * D], mask[F];
    struct st_body b = {0};

    for (size_t i = 0; i < ROWS * D; i++)
        x[i] = value(i);
    for (size_t i = 0; i < F; i++)
        mask[i] = (float)(i % 2);
    text_addf(&b.header, "{\"__metadata__\":{\"made by\":\"\\u0061 test\"}");
    st_add(&b, "x", "F32", "[5,8]", x, sizeof x);
    st_add(&b, "features", "I64", "[3]", ids, sizeof ids);
    st_add(&b, "ghost_mask", "F32", "[40]", mask, sizeof mask);
    return st_end(&b);
}

static struct text st_csr(void)
{
    const int32_t indptr[3] = {0, 2, 3}, indices[3] = {9, 1, 5};
    const float values[3] = {1, 2, 3};
    const int64_t shape[2] = {2, F};
    struct st_body b = {0};

    st_add(&b, "f.indptr", "I32", "[3]", indptr, sizeof indptr);
    st_add(&b, "f.indices", "I32", "[3]", indices, sizeof indices);
    st_add(&b, "f.values", "F32", "[3]", values, sizeof values);
    st_add(&b, "f.shape", "I64", "[2]", shape, sizeof shape);
    return st_end(&b);
}

static void add_raw(struct text *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = value(i);

        text_add(t, &v, sizeof v);
    }
}

static struct text make_body(enum body body)
{
    struct text t = {0};

    switch (body) {
    case X_JSON:
        add_json_x(&t, "x", ROWS, D);
        break;
    case X_LARGE_JSON:
        add_json_x(&t, "x", 8000, D);
        break;
    case X_RAW:
        add_raw(&t, ROWS * D);
        break;
    case X_CHUNKED: { /* more than the room that a chunked body begins with */
        struct text rows = {0};

        add_raw(&rows, 2500 * D);
        text_addf(&t, "%zx\r\n", rows.n / 2);
        text_add(&t, rows.p, rows.n / 2);
        text_addf(&t, "\r\n%zx\r\n", rows.n - rows.n / 2);
        text_add(&t, rows.p + rows.n / 2, rows.n - rows.n / 2);
        text_addf(&t, "\r\n0\r\n\r\n");
        text_free(&rows);
        break;
    }
    case X_ST:
        return st_of("x", ROWS, D);
    case X_LARGE_ST:
        return st_of("x", 10000, D);
    case X_ST_OPTIONS:
        return st_options();
    case F_JSON:
        add_json_x(&t, "f", 2, F);
        break;
    case F_SPARSE_JSON:
        text_addf(&t, "{\"f\":{\"shape\":[2,40],\"indices\":[[3,1],[7]],\"values\":[[1,2],[3]]}}");
        break;
    case F_CSR:
        return st_csr();
    case F_RAW:
        add_raw(&t, 2 * F);
        break;
    case GHOST_JSON:
        text_addf(&t, "{\"x\":[[1,2,3,4,5,6,7,8]],\"features\":[1,2],\"output_features\":true,"
                      "\"ghost_mask\":[[true]]}");
        break;
    case WEIGHTS_JSON:
        text_addf(&t, "{\"decoder\":[3,1,3],\"encoder\":[39],\"vectors\":[\"r\",\"b_dec\"]}");
        break;
    case WEIGHTS_ST: {
        static const int32_t ids[] = {39, 0};
        struct st_body b = {0};

        st_add(&b, "decoder", "I32", "[2]", ids, sizeof ids);
        return st_end(&b);
    }
    case NOT_JSON:
        text_addf(&t, "{\"x\":[1,2,3,4,5,6,7,8],\"features\":[1,2],}");
        break;
    case ST_CUT:
        t = st_of("x", ROWS, D);
        t.n -= 4;
        break;
    default:
        break;
    }
    return t;
}

/* The whole request's bytes. */
static struct text make_request(int i)
{
    struct text body = make_body(kinds[i].body), t = {0};

    text_addf(&t, "%s HTTP/1.1\r\nHost: a\r\n%s", kinds[i].line, kinds[i].headers);
    if (kinds[i].body == X_CHUNKED)
        text_addf(&t, "Transfer-Encoding: chunked\r\n\r\n");
    else
        text_addf(&t, "Content-Length: %zu\r\n\r\n", body.n);
    if (body.n)
        text_add(&t, body.p, body.n);
    text_free(&body);
    return t;
}

/* ---- the rounds --------------------------------------------------------------------------------
 */

/* One scrape: its own request is the only one in flight, nothing else is held. */
static bool gauges_are_zero(const struct server *s)
{
    static const char scrape[] = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd = raw_connect(s);
    struct reply r;
    bool zero;
    size_t queues = 0;

    raw_send(fd, scrape);
    r = raw_reply(fd, true, MS);
    close(fd);
    ck_assert_int_eq(r.status, 200);
    zero = strstr(r.body, "\nsaed_requests_in_flight 1\n") &&
           strstr(r.body, "\nsaed_inflight_bytes 0\n");
    for (const char *p = r.body; (p = strstr(p, "\nsaed_queue_rows{")); queues++) {
        p += strcspn(p, " ");
        zero = zero && strncmp(p, " 0\n", 3) == 0;
    }
    ck_assert_uint_eq(queues, 5);
    reply_free(&r);
    return zero;
}

static void check_gauges(const struct server *s)
{
    for (int tries = 0; !gauges_are_zero(s); tries++) {
        ck_assert_msg(tries < MS / 5, "something stays in flight");
        poll(NULL, 0, 5);
    }
}

static struct reply ask(int fd, int i, const struct text *request)
{
    raw_send_bytes(fd, request->p, request->n);
    return raw_reply(fd, strncmp(kinds[i].line, "HEAD", 4) != 0, MS);
}

/* Metrics are never twice the same. */
static bool is_same(int i, const struct reply *a, const struct reply *b)
{
    return a->status == b->status && !a->closed &&
           (strcmp(kinds[i].line, "GET /metrics") == 0 ||
            (a->n == b->n && memcmp(a->body, b->body, a->n) == 0));
}

/* Where there is no memory to pack in, the answer is what was to be packed. */
static bool is_unpacked(const struct reply *r, const struct reply *good)
{
    return strstr(good->head, "Content-Encoding: ") && !strstr(r->head, "Content-Encoding: ") &&
           r->status == good->status && !r->closed && r->n > good->n;
}

static void check_reply(int i, bool kept, long n, const struct reply *r, const struct reply *good)
{
    if (r->closed && r->status == 0 && r->head[0] == '\0') {
        ck_assert_msg(!kept && n < CONNECTION_ALLOCS, "%s, allocation %ld: closed", kinds[i].line,
                      n);
        return;
    }
    if (r->status == 503) {
        ck_assert_msg(strstr(kinds[i].line, "HEAD") || strstr(r->body, "\"code\":\"overloaded\""),
                      "%s, allocation %ld: %s", kinds[i].line, n, r->body);
        return;
    }
    ck_assert_msg(is_same(i, r, good) || is_unpacked(r, good), "%s, allocation %ld%s: %d %.300s",
                  kinds[i].line, n, kept ? " on a kept connection" : "", r->status, r->body);
}

/* Returns how many allocations were made to fail. */
static long run_round(const struct server *s, int i, const struct nomem_faults *faults, bool kept,
                      bool persistent, const struct text *request, const struct reply *good)
{
    static const char first[] = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    long failed, all = 0;
    int quiet = 0;

    /* Another thread's allocation may have been the n-th: three rounds without a failure end it. */
    for (long n = 0; quiet < 3; n++) {
        struct reply r;
        int fd = -1;

        if (kept) {
            fd = raw_connect(s);
            raw_send(fd, first);
            r = raw_reply(fd, true, MS);
            ck_assert_int_eq(r.status, 200);
            reply_free(&r);
        }
        faults->arm(n, persistent);
        if (!kept)
            fd = raw_connect(s);
        r = ask(fd, i, request);
        failed = faults->disarm();
        quiet = failed ? 0 : quiet + 1;
        all += failed;
        check_reply(i, kept, n, &r, good);
        reply_free(&r);
        close(fd);

        fd = raw_connect(s);
        r = ask(fd, i, request);
        ck_assert_msg(is_same(i, &r, good), "%s after a failure of allocation %ld: %d %.300s",
                      kinds[i].line, n, r.status, r.body);
        reply_free(&r);
        close(fd);
        check_gauges(s);
    }
    return all;
}

void nomem_run(const struct server *s, int i, const struct nomem_faults *faults)
{
    struct text request = make_request(i);
    int fd = raw_connect(s);
    struct reply good = ask(fd, i, &request);

    ck_assert_msg(good.status == kinds[i].status, "%s: %d %.300s", kinds[i].line, good.status,
                  good.body);
    for (int round = 0; round < 4; round++)
        ck_assert_int_gt(run_round(s, i, faults, round & 1, round & 2, &request, &good), 0);
    reply_free(&good);
    close(fd);
    text_free(&request);
}
