/* bench_http.c - the daemon end to end: what batching gives.
 *
 * 64 connections send single rows to a 768 x 24576 dictionary, once to the daemon as it is and once
 * to the same daemon with --max-batch-rows 1; beside both stands bare cblas_sgemm of 64 rows on as
 * many threads. Then single rows beside a client that sends 4,096-row requests. Both daemons are
 * measured in turns within this run; medians of the turns are printed. */
#include "lib/num.h"
#include "tests/support/load.h"

#include <cblas.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { D = 768, F = 24576, CONNS = 64, TURNS = 3 };
static const char source[] = "bench=init:AutoEncoder:768:24576:l0=50";
static const char path[] = "/v1/dictionaries/bench/encode?top_k=32";

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t rng = 1;
static float normal(void)
{
    float s = 0;

    for (int i = 0; i < 12; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        s += (float)(rng >> 40) * 0x1p-24f;
    }
    return s - 6.0f;
}

/* One safetensors body of `rows` normal rows. */
static char *rows_request(size_t rows, size_t *n)
{
    char head[128];
    size_t bytes = rows * D * sizeof(float);
    int k = snprintf(head, sizeof head,
                     "{\"x\":{\"dtype\":\"F32\",\"shape\":[%zu,%d],\"data_offsets\":[0,%zu]}}",
                     rows, D, bytes);
    char *body = malloc(8 + (size_t)k + bytes), *req;
    uint64_t len = (uint64_t)k;

    memcpy(body, &len, 8);
    memcpy(body + 8, head, (size_t)k);
    for (size_t i = 0; i < rows * D; i++) {
        float v = normal();

        memcpy(body + 8 + (size_t)k + i * 4, &v, 4);
    }
    req = load_post(path, "application/x-safetensors", "application/x-safetensors", body,
                    8 + (size_t)k + bytes, n);
    free(body);
    return req;
}

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

struct gemm {
    float *x, *w, *y;
    double rows_per_s;
    int n;
};

static void *gemm_thread(void *arg)
{
    struct gemm *g = arg;
    double t0 = now();
    size_t rows = 0;

    while (now() - t0 < 1.5) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, g->n, F, D, 1, g->x, D, g->w, D, 0,
                    g->y, F);
        rows += (size_t)g->n;
    }
    g->rows_per_s = (double)rows / (now() - t0);
    return NULL;
}

static double bare_sgemm(int n, int threads)
{
    struct gemm g[8];
    pthread_t t[8];
    double sum = 0;
    float *w = malloc(sizeof *w * F * D);

    openblas_set_num_threads(1);
    for (size_t i = 0; i < (size_t)F * D; i++)
        w[i] = (float)(i % 1009) * 1e-3f - 0.5f;
    for (int i = 0; i < threads; i++) {
        g[i] = (struct gemm){.x = calloc((size_t)n * D, 4), .w = w, .n = n};
        g[i].y = malloc((size_t)n * F * 4);
        for (int k = 0; k < n * D; k++)
            g[i].x[k] = normal();
        pthread_create(&t[i], NULL, gemm_thread, &g[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(t[i], NULL);
        sum += g[i].rows_per_s;
        free(g[i].x);
        free(g[i].y);
    }
    free(w);
    return sum;
}

struct figure {
    double rows_per_s, p50_us, p99_us, mean_batch;
};

static struct figure single_rows(int port, const struct load_client *one, size_t n_clients,
                                 const struct load_client *big)
{
    struct load_client c[CONNS + 1];
    struct load_result r;
    struct figure f = {0};
    const char *sum = "saed_batch_rows_sum{dictionary=\"bench\",gemm=\"encode\"}";
    const char *count = "saed_batch_rows_count{dictionary=\"bench\",gemm=\"encode\"}";
    double s0 = metric(port, sum), c0 = metric(port, count);

    for (size_t i = 0; i < n_clients; i++)
        c[i] = *one;
    if (big)
        c[n_clients++] = *big;
    struct load_spec spec = {
        .port = port, .clients = c, .n_clients = n_clients, .warm_seconds = 0.3, .seconds = 2.5};
    if (load_run(&spec, &r) < 0 || r.failed)
        fprintf(stderr, "bench: %zu requests failed\n", r.failed);
    f.rows_per_s = (double)r.ok / r.seconds;
    f.p50_us = load_percentile_us(&r, 0.5);
    f.p99_us = load_percentile_us(&r, 0.99);
    f.mean_batch = (metric(port, sum) - s0) / (metric(port, count) - c0);
    load_result_fini(&r);
    return f;
}

static int by_rate(const void *a, const void *b)
{
    double x = ((const struct figure *)a)->rows_per_s, y = ((const struct figure *)b)->rows_per_s;

    return x < y ? -1 : x > y;
}

static void print(const char *what, const struct figure *f)
{
    printf("%-46s %9.0f req/s  p50 %7.0f us  p99 %7.0f us  mean batch %6.1f rows\n", what,
           f->rows_per_s, f->p50_us, f->p99_us, f->mean_batch);
}

int main(void)
{
    int threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const char *const plain[] = {source, NULL};
    const char *const one_row[] = {"--max-batch-rows", "1", source, NULL};
    struct load_daemon a, b;
    struct figure fa[TURNS], fb[TURNS], f;
    struct load_client one, big;
    double g64, g1;

    if (threads > 8)
        threads = 8;
    one.request = rows_request(1, &one.n);
    big.request = rows_request(4096, &big.n);
    g64 = bare_sgemm(64, threads);
    g1 = bare_sgemm(1, threads);
    printf(
        "768 x 24576, single rows, top_k=32, safetensors both ways, %d connections, %d threads\n",
        CONNS, threads);
    printf("%-46s %9.0f rows/s\n", "bare cblas_sgemm, 64 rows a call", g64);
    printf("%-46s %9.0f rows/s\n", "bare cblas_sgemm, 1 row a call", g1);
    if (load_spawn(&a, plain) < 0 || load_spawn(&b, one_row) < 0) {
        fprintf(stderr, "bench: the daemon did not start\n");
        return 1;
    }
    for (int i = 0; i < TURNS; i++) {
        fa[i] = single_rows(a.port, &one, CONNS, NULL);
        fb[i] = single_rows(b.port, &one, CONNS, NULL);
    }
    qsort(fa, TURNS, sizeof *fa, by_rate);
    qsort(fb, TURNS, sizeof *fb, by_rate);
    print("saed", &fa[TURNS / 2]);
    print("saed --max-batch-rows 1", &fb[TURNS / 2]);
    printf("batching gives %.1fx; saed reaches %.2f of bare sgemm at 64 rows\n",
           fa[TURNS / 2].rows_per_s / fb[TURNS / 2].rows_per_s, fa[TURNS / 2].rows_per_s / g64);
    f = single_rows(a.port, &one, 1, NULL);
    print("one connection, single rows", &f);
    f = single_rows(a.port, &one, 8, NULL);
    print("8 connections, single rows", &f);
    f = single_rows(a.port, &one, 8, &big);
    print("8 connections beside one of 4,096-row requests", &f);
    int ra = load_stop(&a), rb = load_stop(&b);
    free((char *)(uintptr_t)one.request);
    free((char *)(uintptr_t)big.request);
    return ra || rb;
}
