/* blas.c - the baseline: cblas_sgemm under every core type of OpenBLAS that this CPU can run.
 *
 * OpenBLAS may detect an older core than the CPU is, and picks once a process: hence children with
 * OPENBLAS_CORETYPE set, one a core type, which answer `gemm 64` with the seconds it took. A core
 * that the CPU cannot run dies of its first product; one that computes something else says so and
 * is dropped; those clearly slower than the best are stopped, the rest are asked anew for each kind
 * and number of rows, and the fastest is the baseline. */
#include "tests/bench/bench.h"

#include <cblas.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

/* ---- the child ------------------------------------------------------------------------------ */

static float *weights;
static size_t width, features;

static float *uniform(size_t n)
{
    float *v = sae_huge_alloc(n, sizeof *v);
    uint64_t s = n;

    if (!v)
        bench_die("out of memory");
    for (size_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        v[i] = (float)(int32_t)(s >> 32) * 0x1p-31f;
    }
    return v;
}

static void load(size_t d, size_t F)
{
    if (weights)
        sae_huge_free(weights, width * features, sizeof *weights);
    width = d;
    features = F;
    weights = uniform(d * F);
}

struct product {
    char kind[16];
    size_t n, x_n, y_n;
    float *x, *y;
    double seconds, rows_per_s;
};

static void product_init(struct product *p, const char *kind, size_t n)
{
    bool decode = strcmp(kind, "decode") == 0;

    *p = (struct product){.n = n};
    snprintf(p->kind, sizeof p->kind, "%s", kind);
    p->x_n = n * (decode ? features : width);
    p->y_n = n * (decode ? width : features);
    p->x = uniform(p->x_n);
    p->y = uniform(p->y_n); /* touched: page faults are not the product's */
}

static void product_fini(struct product *p)
{
    sae_huge_free(p->x, p->x_n, sizeof *p->x);
    sae_huge_free(p->y, p->y_n, sizeof *p->y);
}

static void multiply(const struct product *p)
{
    int n = (int)p->n, d = (int)width, F = (int)features;

    if (strcmp(p->kind, "gemv") == 0)
        for (size_t i = 0; i < p->n; i++)
            cblas_sgemv(CblasRowMajor, CblasNoTrans, F, d, 1, weights, d, p->x + i * width, 1, 0,
                        p->y + i * features, 1);
    else if (strcmp(p->kind, "decode") == 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, d, F, 1, p->x, F, weights, d, 0,
                    p->y, d);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, F, d, 1, p->x, d, weights, d, 0,
                    p->y, F);
}

/* A few entries of the product against double arithmetic. */
static bool is_right(const struct product *p)
{
    for (size_t i = 0; i < p->n; i += 7)
        for (size_t j = 0; j < features; j += 331) {
            double want = 0;

            for (size_t k = 0; k < width; k++)
                want += (double)p->x[i * width + k] * (double)weights[j * width + k];
            if (!(fabs(want - (double)p->y[i * features + j]) < 1e-3 * sqrt((double)width)))
                return false;
        }
    return true;
}

static void *rate_thread(void *arg)
{
    struct product *p = arg;
    double t0 = bench_now();
    size_t rows = 0;

    while (bench_now() - t0 < p->seconds) {
        multiply(p);
        rows += p->n;
    }
    p->rows_per_s = (double)rows / (bench_now() - t0);
    return NULL;
}

static double rate(size_t n, int threads, double seconds)
{
    struct product p[64];
    pthread_t t[64];
    double sum = 0;

    if (threads > 64)
        threads = 64;
    for (int i = 0; i < threads; i++) {
        product_init(&p[i], "gemm", n);
        p[i].seconds = seconds;
    }
    for (int i = 0; i < threads; i++)
        if (pthread_create(&t[i], NULL, rate_thread, &p[i]))
            bench_die("cannot make a thread");
    for (int i = 0; i < threads; i++) {
        pthread_join(t[i], NULL);
        sum += p[i].rows_per_s;
        product_fini(&p[i]);
    }
    return sum;
}

static double answer(const char *line)
{
    static struct product p; /* kept from question to question: buffers stay warm */
    char kind[16];
    unsigned long a, b;
    double seconds, t0;
    int threads;

    if (sscanf(line, "load %lu %lu", &a, &b) == 2) {
        if (p.x)
            product_fini(&p);
        p = (struct product){0};
        load(a, b);
        return 1;
    }
    if (sscanf(line, "rate %lu %d %lf", &a, &threads, &seconds) == 3)
        return rate(a, threads, seconds);
    if (sscanf(line, "%15s %lu", kind, &a) != 2)
        exit(1);
    if (!p.x || p.n != a || strcmp(p.kind, kind)) {
        if (p.x)
            product_fini(&p);
        product_init(&p, kind, a);
        multiply(&p); /* OpenBLAS sets itself up */
    }
    t0 = bench_cpu();
    multiply(&p);
    return bench_cpu() - t0;
}

int blas_child_main(void)
{
    char line[128];
    struct product p;

    openblas_set_num_threads(1);
    load(200, 1000);
    product_init(&p, "gemm", 20);
    multiply(&p);
    printf("%s%s\n", is_right(&p) ? "" : "wrong ", openblas_get_corename());
    product_fini(&p);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        printf("%.9g\n", answer(line));
        fflush(stdout);
    }
    return 0;
}

/* ---- the parent ----------------------------------------------------------------------------- */

/* Core types of OpenBLAS 0.3 on x86-64. The last three use AVX-512. */
static const char *const core_types[] = {
    "",           "Core2",      "Nehalem",       "Barcelona", "Bulldozer",
    "Piledriver", "Excavator",  "Sandybridge",   "Haswell",   "Zen",
    "SkylakeX",   "Cooperlake", "Sapphirerapids"};
enum { N_TYPES = SAE_COUNTOF(core_types), N_AVX512 = 3 };

struct bench_blas {
    struct bench_child child[N_TYPES];
    size_t n, picked;
    char detected[96], list[160];
};

static bool is_there(const struct bench_blas *b, const char *core)
{
    for (size_t i = 0; i < b->n; i++)
        if (strcasecmp(b->child[i].ready, core) == 0)
            return true;
    return false;
}

static void start(struct bench_blas *b, const char *type)
{
    char var[64];
    const char *const env[] = {"OPENBLAS_NUM_THREADS=1", *type ? var : NULL, NULL};
    const char *const argv[] = {"/proc/self/exe", "--blas-child", NULL};
    struct bench_child *c = &b->child[b->n];

    snprintf(var, sizeof var, "OPENBLAS_CORETYPE=%s", type);
    if (!child_start(c, argv, env))
        return;
    if (!*type)
        snprintf(b->detected, sizeof b->detected, "%s", c->ready);
    if (strncmp(c->ready, "wrong ", 6) == 0 || (*type && is_there(b, c->ready)) ||
        (*type && strcasecmp(c->ready, type)))
        child_stop(c);
    else
        b->n++;
}

/* Stop those that are clearly slower at a large and at a single-row product. */
static void thin_out(struct bench_blas *b)
{
    double t[N_TYPES][2], best[2] = {INFINITY, INFINITY};
    size_t kept = 0;

    for (size_t i = 0; i < b->n; i++) {
        child_ask(&b->child[i], "load 768 4096");
        for (int k = 0; k < 2; k++) {
            t[i][k] = INFINITY;
            for (int r = 0; r < 3; r++)
                t[i][k] = fmin(t[i][k], child_ask(&b->child[i], k ? "gemv 4" : "gemm 64"));
            best[k] = fmin(best[k], t[i][k]);
        }
    }
    for (size_t i = 0; i < b->n; i++)
        if (t[i][0] > 1.5 * best[0] && t[i][1] > 1.2 * best[1])
            child_stop(&b->child[i]);
        else
            b->child[kept++] = b->child[i];
    b->n = kept;
}

struct bench_blas *blas_open(bool no_avx512)
{
    struct bench_blas *b = calloc(1, sizeof *b);
    size_t k = 0;

    if (!b)
        bench_die("out of memory");
    start(b, "");
    if (no_avx512 && b->n)
        child_stop(&b->child[--b->n]); /* only asked what it detects */
    for (size_t i = 1; i < N_TYPES - (no_avx512 ? N_AVX512 : 0); i++)
        start(b, core_types[i]);
    if (b->n == 0)
        bench_die("OpenBLAS runs under no core type");
    thin_out(b);
    for (size_t i = 0; i < b->n; i++)
        k += (size_t)snprintf(b->list + k, sizeof b->list - k, "%s%s", i ? ", " : "",
                              b->child[i].ready);
    return b;
}

void blas_close(struct bench_blas *b)
{
    for (size_t i = 0; i < b->n; i++)
        child_stop(&b->child[i]);
    free(b);
}

const char *blas_detected(const struct bench_blas *b)
{
    return b->detected;
}

const char *blas_list(const struct bench_blas *b)
{
    return b->list;
}

void blas_load(struct bench_blas *b, size_t d, size_t F)
{
    for (size_t i = 0; i < b->n; i++)
        child_ask(&b->child[i], "load %zu %zu", d, F);
}

static double time_on(struct bench_child *c, const char *kind, size_t n)
{
    return child_ask(c, "%s %zu", kind, n);
}

void blas_pick(struct bench_blas *b, const char *kind, size_t n)
{
    double t[N_TYPES];

    for (size_t i = 0; i < b->n; i++)
        t[i] = INFINITY;
    for (int r = 0; r < 3; r++)
        for (size_t i = 0; i < b->n; i++)
            t[i] = fmin(t[i], time_on(&b->child[i], kind, n));
    b->picked = 0;
    for (size_t i = 1; i < b->n; i++)
        if (t[i] < t[b->picked])
            b->picked = i;
}

const char *blas_core(const struct bench_blas *b)
{
    return b->child[b->picked].ready;
}

double blas_run(struct bench_blas *b, const char *kind, size_t n)
{
    return time_on(&b->child[b->picked], kind, n);
}

double blas_rate(struct bench_blas *b, size_t n, int threads, double seconds)
{
    return child_ask(&b->child[b->picked], "rate %zu %d %g", n, threads, seconds);
}
