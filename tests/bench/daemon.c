/* daemon.c - the daemon end to end, beside FastAPI + uvicorn + PyTorch on the same weights and
 * rows, and beside PyTorch in the client's process.
 *
 * All servers are up for the whole section and loaded in turns; who is not asked sleeps. Clients
 * are the closed loop of tests/support/load.h: they frame answers, decode none, and share the CPUs
 * with the server on both sides. Before anything is timed, the answers to the same rows are
 * compared. */
#include "lib/saed.h"
#include "tests/bench/bench.h"
#include "tests/bench/requests.h"
#include "tests/support/dicts.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

enum { CONNS = 64, TURNS = 3 };

struct figure {
    double per_s, p50_us, p99_us, mean_batch;
};

struct rig {
    struct bench *bench;
    float *x;
    struct load_daemon saed;
    struct bench_child peer;
    int peer_port;
    char source[600];
};

static double metric(int port, const char *line_start)
{
    char *text = load_get(port, "/metrics"), *p = text;
    double v = 0;

    while (p && (p = strstr(p, line_start))) {
        if (p == text || p[-1] == '\n') {
            v = strtod(strchr(p, ' '), NULL);
            break;
        }
        p++;
    }
    free(text);
    return v;
}

static struct figure load(const struct bench *b, int port, const struct bench_ring *ring,
                          size_t conns, const struct bench_ring *beside)
{
    static const char sum[] = "saed_batch_rows_sum{dictionary=\"bench\",gemm=\"encode\"}";
    static const char count[] = "saed_batch_rows_count{dictionary=\"bench\",gemm=\"encode\"}";
    struct load_client c[CONNS + 1];
    struct load_spec spec = {
        .port = port, .clients = c, .n_clients = conns, .warm_seconds = 0.3, .seconds = b->seconds};
    struct load_result r;
    struct figure f = {0};
    double s0 = metric(port, sum), c0 = metric(port, count);

    for (size_t i = 0; i < conns; i++)
        c[i] = ring->c[i * 5 % ring->n];
    if (beside)
        c[spec.n_clients++] = beside->c[0];
    for (;; spec.seconds *= 3) { /* a slow peer on a busy machine needs more time */
        if (load_run(&spec, &r) < 0 || r.failed)
            bench_die("%zu of %zu requests failed", r.failed, r.ok + r.failed);
        if (r.ok >= 10 || spec.seconds > 10)
            break;
        load_result_fini(&r);
    }
    if (!r.ok)
        bench_die("no answer within %.0f s", spec.seconds);
    f.per_s = (double)r.ok / r.seconds;
    f.p50_us = load_percentile_us(&r, 0.5);
    f.p99_us = load_percentile_us(&r, 0.99);
    f.mean_batch = (metric(port, sum) - s0) / (metric(port, count) - c0);
    load_result_fini(&r);
    return f;
}

/* ---- answers -------------------------------------------------------------------------------- */

static void top_of(struct rig *g, struct bench_top *t, enum bench_dialect dialect)
{
    struct bench_ring r = ring_make(dialect, g->x, 64);
    int port = dialect == PEER_RAW || dialect == PEER_JSON ? g->peer_port : g->saed.port;
    size_t n = 0;
    char *body = load_exchange(port, r.c[0].request, r.c[0].n, &n);

    if (!body || !top_read(t, dialect, body, n, 64))
        bench_die("%s gave no answer that can be read", port == g->saed.port ? "saed" : "the peer");
    free(body);
    ring_free(&r);
}

static void compare_answers(struct rig *g)
{
    struct bench_top *t = calloc(2, sizeof *t);
    size_t swapped = 0;

    if (!t)
        bench_die("out of memory");
    top_of(g, &t[0], SAED_SAFETENSORS);
    for (int d = SAED_JSON; d <= (g->peer.pid ? PEER_JSON : SAED_JSON); d++) {
        top_of(g, &t[1], (enum bench_dialect)d);
        if (!top_agrees(&t[0], &t[1], 64, &swapped))
            bench_die("answers differ between saed's safetensors and %s",
                      d == SAED_JSON ? "its JSON" : "the peer's");
    }
    report_note(g->bench->report,
                "answers compared: 64 rows x %d features%s, %zu near-ties in another order",
                BENCH_K, g->peer.pid ? ", saed and peer, binary and JSON" : "", swapped);
    free(t);
}

/* ---- beside the peers ----------------------------------------------------------------------- */

/* It goes on computing for clients that have gone: what it answers last stands behind all that. */
static void let_peer_finish(struct rig *g)
{
    for (int i = 0; g->peer.pid && i < 2; i++)
        free(load_get(g->peer_port, "/docs"));
}

/* Requests a second of so many connections, each request of `rows` rows. */
static void throughput(struct rig *g, const char *what, enum bench_dialect ours,
                       enum bench_dialect theirs, size_t rows, size_t conns, double target)
{
    struct bench_ring a = ring_make(ours, g->x, rows), b = ring_make(theirs, g->x, rows);
    struct bench_row row = {.unit = "req/s", .target = target};
    double got[TURNS], peer[TURNS], batch[TURNS], p99[TURNS];

    for (int i = 0; i < TURNS; i++) {
        struct figure f = load(g->bench, g->saed.port, &a, conns, NULL);

        got[i] = f.per_s;
        batch[i] = f.mean_batch;
        p99[i] = f.p99_us;
        if (g->peer.pid)
            peer[i] = load(g->bench, g->peer_port, &b, conns, NULL).per_s;
        let_peer_finish(g);
    }
    snprintf(row.what, sizeof row.what, "%s", what);
    if (g->peer.pid) {
        snprintf(row.beside_what, sizeof row.beside_what, "FastAPI + uvicorn + PyTorch, %s",
                 theirs == PEER_RAW ? "raw floats" : "JSON");
        row.ratio = bench_ratio(got, peer, TURNS);
        row.beside = bench_median(peer, TURNS);
    }
    row.value = bench_median(got, TURNS);
    snprintf(row.note, sizeof row.note, "mean batch %.1f rows, p99 %.1f ms",
             bench_median(batch, TURNS), bench_median(p99, TURNS) * 1e-3);
    report_row(g->bench->report, &row);
    ring_free(&a);
    ring_free(&b);
}

/* One client waiting for each answer, beside PyTorch in the client's process. */
static void latency(struct rig *g, const char *what, size_t rows, double target)
{
    struct bench_ring a = ring_make(SAED_SAFETENSORS, g->x, rows);
    struct bench_row row = {.unit = "us p50", .target = target};
    double got[TURNS], peer[TURNS];

    for (int i = 0; i < TURNS; i++) {
        got[i] = load(g->bench, g->saed.port, &a, 1, NULL).p50_us;
        if (g->bench->python.pid)
            peer[i] =
                1e6 * child_ask(&g->bench->python, "encode %zu %d", rows, rows > 1 ? 20 : 100);
    }
    snprintf(row.what, sizeof row.what, "%s", what);
    if (g->bench->python.pid) {
        snprintf(row.beside_what, sizeof row.beside_what, "PyTorch in process");
        row.ratio = bench_ratio(peer, got, TURNS);
        row.beside = bench_median(peer, TURNS);
    }
    row.value = bench_median(got, TURNS);
    report_row(g->bench->report, &row);
    ring_free(&a);
}

/* ---- what the way around the kernels costs -------------------------------------------------- */

/* Compute threads without a daemon around them: they share a batch's tiles as the scheduler's do.
 */
struct team {
    struct sae_engine *e;
    struct sae_dict *dict;
    struct sae_batch *b;
    const float *x;
    size_t n_rows, rows; /* of a batch; computed so far */
    double seconds, t0, t1;
    struct sae_task task;
    struct sae_phase phase;
    bool is_over;
    _Atomic size_t next_tile;
    unsigned n_threads;
    _Atomic unsigned waiting, turn; /* the barrier */
};

/* Spins, as a sleeping one would cost more than the phases it parts. True for one of the threads,
 * which alone goes on until it calls release. */
static bool last_to_wait(struct team *t)
{
    unsigned turn = atomic_load(&t->turn);

    if (atomic_fetch_add(&t->waiting, 1) + 1 == t->n_threads)
        return true;
    for (unsigned i = 0; atomic_load(&t->turn) == turn; i++)
        if (i > 2000)
            sched_yield();
    return false;
}

static void release(struct team *t)
{
    atomic_store(&t->waiting, 0);
    atomic_fetch_add(&t->turn, 1);
}

/* By one thread, the others at the barrier: the next phase, of the next batch if need be. */
static void plan(struct team *t)
{
    struct sae_slice slice = {.task = &t->task, .n_rows = t->n_rows};

    atomic_store(&t->next_tile, 0);
    if (t->task.dict) {
        if (sae_batch_next_phase(t->b, &t->phase))
            return;
        sae_task_fini(&t->task);
        t->rows += t->n_rows;
        t->t1 = bench_now();
        t->is_over = t->t1 - t->t0 > t->seconds;
    } else {
        t->t0 = bench_now(); /* all are warmed up */
    }
    t->task = (struct sae_task){
        .dict = t->dict,
        .query = {.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP, .top_k = BENCH_K},
        .n_rows = t->n_rows,
        .x = t->x + t->rows % (BENCH_ROWS - t->n_rows) * BENCH_D};
    if (sae_task_prepare(&t->task, NULL) != SAE_OK)
        bench_die("out of memory");
    sae_batch_begin(t->b, t->dict, SAE_SIDE_ENCODE, &slice, 1);
    if (!sae_batch_next_phase(t->b, &t->phase))
        bench_die("a batch without a phase");
}

static void *work(void *arg)
{
    struct team *t = arg;
    struct sae_scratch *s;
    struct sae_err err = {0};
    size_t tile;

    if (sae_scratch_create(&s, t->e, dicts_capacity(t->dict, t->n_rows), &err) != SAE_OK)
        bench_die("%s", err.text);
    sae_engine_warm(t->e, s);
    for (;;) {
        if (last_to_wait(t)) {
            plan(t);
            release(t);
        }
        if (t->is_over)
            break;
        while ((tile = atomic_fetch_add(&t->next_tile, 1)) < t->phase.n_tiles)
            sae_batch_run_tile(t->b, tile, s);
    }
    sae_scratch_free(s);
    return NULL;
}

/* Rows a second of batches of n_rows on as many threads as the daemon has. */
static double kernel_rate(struct rig *g, struct sae_engine *e, struct sae_dict *dict, size_t n_rows)
{
    struct team t = {.e = e, .dict = dict, .x = g->x, .n_rows = n_rows};
    pthread_t thread[64];
    struct sae_err err = {0};
    int n = g->bench->threads < 64 ? g->bench->threads : 64;

    t.n_threads = (unsigned)n;
    t.seconds = g->bench->seconds / 2;
    if (sae_batch_create(&t.b, e, dicts_capacity(dict, n_rows), &err) != SAE_OK)
        bench_die("%s", err.text);
    for (int i = 0; i < n; i++)
        if (pthread_create(&thread[i], NULL, work, &t))
            bench_die("cannot make a thread");
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    sae_task_fini(&t.task);
    sae_batch_free(t.b);
    return (double)t.rows / (t.t1 - t.t0);
}

static void around_kernels(struct rig *g)
{
    struct bench_ring ring = ring_make(SAED_SAFETENSORS, g->x, 1), empty = ring_empty();
    struct bench_row row = {.what = "single rows, top_k 32, 64 connections",
                            .unit = "req/s",
                            .beside_what = "1 / (kernel + empty request)",
                            .target = 0.85};
    struct sae_engine *e;
    struct sae_dict *dict;
    struct sae_err err = {0};
    double got[TURNS], bound[TURNS], kernel[TURNS], idle[TURNS];
    const char *path = strchr(g->source, '=') + 1;

    if (dicts_load(&dict, path, NULL, &err) != SAE_OK ||
        sae_engine_create(&e, SAE_ENGINE_NATIVE, sae_isa_name(g->bench->isa), &err) != SAE_OK ||
        sae_engine_prepare(e, dict, NULL, &err) != SAE_OK)
        bench_die("%s", err.text);
    for (int i = 0; i < TURNS; i++) {
        struct figure f = load(g->bench, g->saed.port, &ring, CONNS, NULL);
        size_t n = (size_t)(f.mean_batch + 0.5);

        got[i] = f.per_s;
        idle[i] = load(g->bench, g->saed.port, &empty, CONNS, NULL).per_s;
        kernel[i] = kernel_rate(g, e, dict, n < 1 ? 1 : n > CONNS ? CONNS : n);
        bound[i] = 1 / (1 / kernel[i] + 1 / idle[i]);
    }
    row.ratio = bench_ratio(got, bound, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(bound, TURNS);
    snprintf(row.note, sizeof row.note,
             "a row: kernel %.1f us on %d threads, empty request %.1f us",
             1e6 / bench_median(kernel, TURNS), g->bench->threads, 1e6 / bench_median(idle, TURNS));
    report_row(g->bench->report, &row);
    sae_engine_free(e);
    sae_dict_free(dict);
    ring_free(&ring);
    ring_free(&empty);
}

/* ---- batching ------------------------------------------------------------------------------- */

static void batching_of(struct rig *g, const char *engine, double gemm64)
{
    const char *const plain[] = {"--engine", engine, g->source, NULL};
    const char *const alone[] = {"--engine", engine, "--max-batch-rows", "1", g->source, NULL};
    struct bench_ring ring = ring_make(SAED_SAFETENSORS, g->x, 1);
    struct load_daemon a, b;
    double got[TURNS], one[TURNS], batch[TURNS];
    struct bench_row row = {.unit = "rows/s", .beside_what = "--max-batch-rows 1"};

    bench_spawn(g->bench, &a, plain);
    bench_spawn(g->bench, &b, alone);
    for (int i = 0; i < TURNS; i++) {
        struct figure f = load(g->bench, a.port, &ring, CONNS, NULL);

        got[i] = f.per_s;
        batch[i] = f.mean_batch;
        one[i] = load(g->bench, b.port, &ring, CONNS, NULL).per_s;
    }
    if (load_stop(&a) || load_stop(&b))
        bench_die("the daemon did not stop cleanly");
    snprintf(row.what, sizeof row.what, "--engine %s, single rows, %d connections", engine, CONNS);
    snprintf(row.note, sizeof row.note, "mean batch %.1f rows", bench_median(batch, TURNS));
    row.ratio = bench_ratio(got, one, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(one, TURNS);
    report_row(g->bench->report, &row);
    snprintf(row.beside_what, sizeof row.beside_what, "bare sgemm of 64 rows, %s",
             blas_core(g->bench->blas));
    row.ratio = row.value / gemm64;
    row.beside = gemm64;
    row.note[0] = '\0';
    report_row(g->bench->report, &row);
    ring_free(&ring);
}

/* Single rows beside a client of 4,096-row requests: their p99. */
static void fairness(struct rig *g)
{
    struct bench_ring ring = ring_make(SAED_SAFETENSORS, g->x, 1);
    struct bench_ring big = ring_make(SAED_SAFETENSORS, NULL, 4096);
    double got[TURNS], alone[TURNS];
    struct bench_row row = {.what = "8 connections beside one of 4,096-row requests",
                            .unit = "ms p99",
                            .beside_what = "without it"};

    for (int i = 0; i < TURNS; i++) {
        alone[i] = 1e-3 * load(g->bench, g->saed.port, &ring, 8, NULL).p99_us;
        got[i] = 1e-3 * load(g->bench, g->saed.port, &ring, 8, &big).p99_us;
    }
    row.ratio = bench_ratio(got, alone, TURNS);
    row.value = bench_median(got, TURNS);
    row.beside = bench_median(alone, TURNS);
    report_row(g->bench->report, &row);
    ring_free(&big);
    ring_free(&ring);
}

/* ---- the section ---------------------------------------------------------------------------- */

static void start_peer(struct rig *g)
{
    char core[64];
    const char *const argv[] = {"/usr/bin/python3", "tests/bench/peer.py", "serve", g->bench->dir,
                                NULL};
    const char *const env[] = {core, g->bench->avx512 ? NULL : "ATEN_CPU_CAPABILITY=avx2",
                               "DNNL_MAX_CPU_ISA=AVX2", NULL};

    snprintf(core, sizeof core, "OPENBLAS_CORETYPE=%s", blas_core(g->bench->blas));
    if (!g->bench->python.pid || !child_start(&g->peer, argv, env))
        report_note(g->bench->report, "peer left out: python3-torch, python3-fastapi or "
                                      "python3-uvicorn is missing");
    else
        g->peer_port = atoi(g->peer.ready);
    for (int tries = 0; g->peer.pid && tries < 100;
         tries++) { /* its import of torch is behind it */
        char *page = load_get(g->peer_port, "/docs");

        free(page);
        if (page)
            break;
    }
}

void section_daemon(struct bench *b)
{
    struct rig *g = calloc(1, sizeof *g);
    const char *const args[] = {g ? g->source : NULL, "empty=identity:1", NULL};
    double gemm;

    if (!g)
        bench_die("out of memory");
    g->bench = b;
    g->x = dicts_rows(BENCH_ROWS, BENCH_D, 1);
    report_section(b->report, "the daemon, 768/24576, L0 ~50");
    if (b->python.pid)
        snprintf(g->source, sizeof g->source, "bench=%s/weights.pt", b->dir);
    else
        snprintf(g->source, sizeof g->source, "bench=init:AutoEncoder:768:24576:l0=50");
    blas_load(b->blas, BENCH_D, BENCH_F);
    blas_pick(b->blas, "gemm", 64);
    gemm = blas_rate(b->blas, 64, b->threads, b->seconds);
    start_peer(g);
    bench_spawn(b, &g->saed, args);
    compare_answers(g);
    throughput(g, "single rows, safetensors, 64 connections", SAED_SAFETENSORS, PEER_RAW, 1, CONNS,
               bench_target(b, 40, 80));
    throughput(g, "single rows, JSON, 64 connections", SAED_JSON, PEER_JSON, 1, CONNS,
               bench_target(b, 40, 60));
    throughput(g, "64-row requests, safetensors, 16 connections", SAED_SAFETENSORS, PEER_RAW, 64,
               16, bench_target(b, 4, 8));
    latency(g, "one client, one row, safetensors", 1, bench_target(b, 8, 15));
    latency(g, "one client, 64 rows, safetensors", 64, bench_target(b, 2, 4));
    around_kernels(g);
    fairness(g);
    child_stop(&g->peer);
    if (load_stop(&g->saed))
        bench_die("the daemon did not stop cleanly");
    report_section(b->report, "batching, 768/24576");
    batching_of(g, "openblas", gemm);
    batching_of(g, "native", gemm);
    sae_free(g->x);
    free(g);
}
