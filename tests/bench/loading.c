/* loading.c - what loading costs those who are served: requests of a named dictionary while six
 * that a folder offers are loaded, one after the other, each by its first request, and before and
 * after.
 *
 * The files lie beside this program for the time of the section, and are in the page cache. Each
 * turn has a daemon of its own, as what is loaded stays. What loading stands beside is the mean of
 * before and after, as other work on the machine comes and goes. */
#include "lib/saed.h"
#include "tests/bench/bench.h"
#include "tests/bench/requests.h"
#include "tests/support/dicts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNS = 16, TURNS = 3, N_OFFERED = 6, OFFERED_D = 512, OFFERED_F = 24576 }; /* 101 MB each */

struct rig {
    struct bench *bench;
    float *x;
    char folder[480];
};

struct loader {
    int port;
    _Atomic bool is_over;
    double seconds;
};

/* ---- the files ------------------------------------------------------------------------------ */

static void offered_path(const struct rig *g, int i, char *out, size_t cap)
{
    snprintf(out, cap, "%s/w%d.safetensors", g->folder, i);
}

/* An AutoEncoder; w [OFFERED_F][OFFERED_D] stands for the values of every tensor. */
static void write_offered(const char *path, const float *w)
{
    const size_t d = OFFERED_D, F = OFFERED_F, m = d * F, n[] = {F * d, F, d * F, d};
    char head[512];
    uint64_t k;
    FILE *f = fopen(path, "w");
    bool ok;

    k = (uint64_t)snprintf(
        head, sizeof head,
        "{\"encoder.weight\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]},"
        "\"encoder.bias\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]},"
        "\"decoder.weight\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]},"
        "\"bias\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}",
        F, d, 4 * m, F, 4 * m, 4 * (m + F), d, F, 4 * (m + F), 4 * (2 * m + F), d, 4 * (2 * m + F),
        4 * (2 * m + F + d));
    ok = f && fwrite(&k, sizeof k, 1, f) == 1 && fwrite(head, 1, k, f) == k;
    for (size_t i = 0; ok && i < SAE_COUNTOF(n); i++)
        ok = fwrite(w, sizeof *w, n[i], f) == n[i];
    if (!ok || fclose(f) != 0)
        bench_die("cannot write %s", path);
}

static void put_files(struct rig *g)
{
    float *w = dicts_rows(OFFERED_F, OFFERED_D, 2);
    char path[512];

    snprintf(g->folder, sizeof g->folder, "%s/offered", g->bench->dir);
    mkdir(g->folder, 0755); /* it may be there from a run that died */
    for (int i = 0; i < N_OFFERED; i++) {
        offered_path(g, i, path, sizeof path);
        write_offered(path, w);
    }
    sae_free(w);
}

static void remove_files(const struct rig *g)
{
    char path[512];

    for (int i = 0; i < N_OFFERED; i++) {
        offered_path(g, i, path, sizeof path);
        unlink(path);
    }
    rmdir(g->folder);
}

/* ---- a turn --------------------------------------------------------------------------------- */

/* The thread that asks each of the offered ones for the first time. */
static void *ask_offered(void *arg)
{
    static const float row[OFFERED_D];
    struct loader *l = arg;
    double t0 = bench_now();

    for (int i = 0; i < N_OFFERED; i++) {
        char path[64], *request, *body;
        size_t n;

        snprintf(path, sizeof path, "/v1/dictionaries/w%d/encode?top_k=32", i);
        request = load_post(path, "application/octet-stream", "application/x-safetensors", row,
                            sizeof row, &n);
        body = load_exchange(l->port, request, n, &n);
        if (!body)
            bench_die("%s was not answered by 200", path);
        free(body);
        free(request);
    }
    l->seconds = bench_now() - t0;
    atomic_store(&l->is_over, true);
    return NULL;
}

struct figure {
    double per_s, p99_ms; /* requests; of their times */
};

/* For the seconds of the spec, or until it is over. */
static struct figure measure(const struct load_spec *spec)
{
    struct load_result r;
    struct figure f;

    if (load_run(spec, &r) < 0 || r.failed)
        bench_die("%zu of %zu requests failed", r.failed, r.ok + r.failed);
    if (!r.ok)
        bench_die("no answer within %.1f s", r.seconds);
    f = (struct figure){(double)r.ok / r.seconds, 1e-3 * load_percentile_us(&r, 0.99)};
    load_result_fini(&r);
    return f;
}

/* Figures while the offered ones load, and of before and after; the seconds that loading took. */
static double take_turn(const struct rig *g, const struct bench_ring *ring, struct figure *during,
                        struct figure *alone)
{
    const char *const args[] = {"--request-timeout-ms",
                                "600000",
                                "--dictionaries",
                                g->folder,
                                "bench=init:AutoEncoder:768:24576:l0=50",
                                NULL};
    struct load_daemon saed;
    struct load_client c[CONNS];
    struct load_spec spec = {.clients = c, .n_clients = CONNS, .warm_seconds = 0.3}, with;
    struct loader l = {0};
    struct figure before, after;
    pthread_t thread;

    for (size_t i = 0; i < CONNS; i++)
        c[i] = ring->c[i * 5 % ring->n];
    bench_spawn(g->bench, &saed, args);
    spec.port = l.port = saed.port;
    spec.seconds = 3 * g->bench->seconds;
    with = spec;
    with.warm_seconds = 0;
    with.seconds = 600;
    with.is_over = &l.is_over;
    before = measure(&spec);
    if (pthread_create(&thread, NULL, ask_offered, &l))
        bench_die("cannot make a thread");
    *during = measure(&with);
    pthread_join(thread, NULL);
    after = measure(&spec);
    alone->per_s = (before.per_s + after.per_s) / 2;
    alone->p99_ms = (before.p99_ms + after.p99_ms) / 2;
    if (load_stop(&saed))
        bench_die("the daemon did not stop cleanly");
    return l.seconds;
}

/* ---- the section ---------------------------------------------------------------------------- */

static void while_loading(struct rig *g, const char *what, size_t rows)
{
    struct bench_ring ring = ring_make(SAED_SAFETENSORS, g->x, rows);
    struct bench_row row = {.unit = "rows/s", .beside_what = "before and after", .target = 0.5};
    double rate[2][TURNS], p99[2][TURNS], took[TURNS];

    for (int i = 0; i < TURNS; i++) {
        struct figure during, alone;

        took[i] = take_turn(g, &ring, &during, &alone);
        rate[0][i] = (double)rows * during.per_s;
        rate[1][i] = (double)rows * alone.per_s;
        p99[0][i] = during.p99_ms;
        p99[1][i] = alone.p99_ms;
    }
    snprintf(row.what, sizeof row.what, "%s while 600 MB load, %d connections", what, CONNS);
    snprintf(row.note, sizeof row.note, "%d of %.0f MB in %.1f s", N_OFFERED,
             8e-6 * OFFERED_D * OFFERED_F, bench_median(took, TURNS));
    row.ratio = bench_ratio(rate[0], rate[1], TURNS);
    row.value = bench_median(rate[0], TURNS);
    row.beside = bench_median(rate[1], TURNS);
    report_row(g->bench->report, &row);
    row.unit = "ms p99";
    row.target = 3;
    row.at_most = true;
    row.note[0] = '\0';
    row.ratio = bench_ratio(p99[0], p99[1], TURNS);
    row.value = bench_median(p99[0], TURNS);
    row.beside = bench_median(p99[1], TURNS);
    report_row(g->bench->report, &row);
    ring_free(&ring);
}

void section_load(struct bench *b)
{
    struct rig g = {.bench = b, .x = dicts_rows(BENCH_ROWS, BENCH_D, 1)};

    report_section(b->report, "others while dictionaries load, 768/24576, L0 ~50");
    put_files(&g);
    while_loading(&g, "single rows", 1);
    while_loading(&g, "64-row requests", 64);
    remove_files(&g);
    sae_free(g.x);
}
