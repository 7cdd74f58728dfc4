/* client.c - the Python client end to end, beside a C client that sends the same bodies to the same
 * daemon, and beside PyTorch in the caller's process.
 *
 * The C client is the closed loop of tests/support/load.h on as many connections, which reads
 * answers into one buffer and keeps nothing: what is left of its rate is what Python costs. */
#include "tests/bench/bench.h"
#include "tests/bench/requests.h"
#include "tests/support/dicts.h"

#include <string.h>

enum {
    CONNS = 2,
    TURNS = 3,
    ALL_ROWS = 100000,
    DENSE_ROWS = 4096,
    REQUEST_ROWS = 2048,
    TORCH_ROWS = 256
};

struct rig {
    struct bench *bench;
    struct load_daemon saed;
    struct bench_child client;
    float *x; /* [REQUEST_ROWS][BENCH_D] */
};

/* The rows of DIR/rows.f32 again and again, as client.py has them. */
static float *rows_again(void)
{
    size_t some = (size_t)BENCH_ROWS * BENCH_D;
    float *x = dicts_rows(BENCH_ROWS, BENCH_D, 1),
          *all = malloc(REQUEST_ROWS * BENCH_D * sizeof *x);

    if (!all)
        bench_die("out of memory");
    for (size_t i = 0; i < REQUEST_ROWS / BENCH_ROWS; i++)
        memcpy(all + i * some, x, some * sizeof *x);
    sae_free(x);
    return all;
}

/* Rows a second of the C client. */
static double c_client(const struct rig *g, const char *path, const char *accept, double seconds)
{
    struct load_client c[CONNS] = {0};
    struct load_spec spec = {.port = g->saed.port,
                             .clients = c,
                             .n_clients = CONNS,
                             .warm_seconds = 0.3,
                             .seconds = seconds};
    struct load_result r;
    char *request;
    double rows;

    request = load_post(path, "application/octet-stream", accept, g->x,
                        sizeof *g->x * REQUEST_ROWS * BENCH_D, &c[0].n);
    c[0].request = request;
    for (int i = 1; i < CONNS; i++)
        c[i] = c[0];
    for (;; spec.seconds *= 3) { /* dense answers are few on a busy machine */
        if (load_run(&spec, &r) < 0 || r.failed)
            bench_die("%zu of %zu requests failed", r.failed, r.ok + r.failed);
        if (r.ok >= 2 * CONNS || spec.seconds > 20)
            break;
        load_result_fini(&r);
    }
    if (!r.ok)
        bench_die("no answer within %.0f s", spec.seconds);
    rows = REQUEST_ROWS * (double)r.ok / r.seconds;
    load_result_fini(&r);
    free(request);
    return rows;
}

static void top_rows(struct rig *g)
{
    struct bench_row row = {.what = "100,000 rows, top_k 32, one process",
                            .unit = "rows/s",
                            .beside_what = "C client, the same bodies",
                            .target = 0.85};
    double got[TURNS], c[TURNS], torch[TURNS];

    child_ask(&g->client, "top %d", ALL_ROWS / 10); /* its rows are made, its connections open */
    for (int i = 0; i < TURNS; i++) {
        got[i] = ALL_ROWS / child_ask(&g->client, "top %d", ALL_ROWS);
        c[i] = c_client(g, "/v1/dictionaries/bench/encode?top_k=32", "application/x-safetensors",
                        3 * g->bench->seconds);
        if (g->bench->python.pid)
            torch[i] = TORCH_ROWS / child_ask(&g->bench->python, "encode %d 10", TORCH_ROWS);
    }
    row.ratio = bench_ratio(got, c, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(c, TURNS);
    report_row(g->bench->report, &row);
    if (!g->bench->python.pid)
        return;
    snprintf(row.beside_what, sizeof row.beside_what, "PyTorch in process");
    row.target = bench_target(g->bench, 2, 4);
    row.ratio = bench_ratio(got, torch, TURNS);
    row.beside = bench_median(torch, TURNS);
    report_row(g->bench->report, &row);
}

static void dense_rows(struct rig *g)
{
    struct bench_row row = {.what = "dense f of 4,096 rows, one process",
                            .unit = "rows/s",
                            .beside_what = "C client, the same bodies",
                            .target = 0.7};
    double got[TURNS], c[TURNS];

    child_ask(&g->client, "dense %d", DENSE_ROWS);
    for (int i = 0; i < TURNS; i++) {
        got[i] = DENSE_ROWS / child_ask(&g->client, "dense %d", DENSE_ROWS);
        c[i] = c_client(g, "/v1/dictionaries/bench/encode", "application/octet-stream",
                        3 * g->bench->seconds);
    }
    row.ratio = bench_ratio(got, c, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(c, TURNS);
    snprintf(row.note, sizeof row.note, "%.0f MB a call", DENSE_ROWS * (double)BENCH_F * 4e-6);
    report_row(g->bench->report, &row);
}

void section_client(struct bench *b)
{
    struct rig g = {.bench = b};
    char source[600], port[16];
    /* Above the default: dense answers that the C client leaves at its end are there for a while.
     */
    const char *const served[] = {"--max-inflight-bytes", "4G", source, NULL};
    const char *const argv[] = {"/usr/bin/python3", "tests/bench/client.py", port, b->dir, NULL};

    report_section(b->report, "the Python client, 768/24576, L0 ~50");
    if (b->python.pid)
        snprintf(source, sizeof source, "bench=%s/weights.pt", b->dir);
    else
        snprintf(source, sizeof source, "bench=init:AutoEncoder:768:24576:l0=50");
    g.x = rows_again();
    bench_spawn(b, &g.saed, served);
    snprintf(port, sizeof port, "%d", g.saed.port);
    if (child_start(&g.client, argv, NULL)) {
        top_rows(&g);
        dense_rows(&g);
        child_stop(&g.client);
    } else {
        report_note(b->report, "left out: python3-numpy is missing");
    }
    if (load_stop(&g.saed))
        bench_die("the daemon did not stop cleanly");
    free(g.x);
}
