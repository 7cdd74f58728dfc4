/* codecs.c - what a number of JSON costs, read and printed, beside jansson and Python's json.
 *
 * 512 rows of 768 numbers, one thread. jansson and Python read into a tree whose freeing is not in
 * the time, and print from a tree that stands already, which flatters them; they print doubles with
 * as many digits as the body had. Memory is kept, and an untimed turn is before each timed one, on
 * all sides: pages touched for the first time can cost more than the numbers on them. */
#include "lib/num.h"
#include "proto/json/numtext.h"
#include "proto/wire.h"
#include "tests/bench/bench.h"
#include "tests/support/dicts.h"

#include <jansson.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <string.h>

enum { ROWS = 512, WIDTH = 768, N = ROWS * WIDTH, TURNS = 5 };

/* A body {"x": [[...], ...]}: shortest text that reads back as f32, or 17 digits as Python's
 * doubles have. Freed by the caller. */
static char *make_body(const float *v, bool long_text, size_t *n)
{
    char *body = malloc((size_t)N * 28 + 64), *p = body;

    if (!body)
        bench_die("out of memory");
    p += sprintf(p, "{\"x\":[");
    for (size_t i = 0; i < N; i++) {
        if (i % WIDTH == 0)
            *p++ = '[';
        p += long_text ? (size_t)sprintf(p, "%.17g", (double)v[i]) : sae_num_print(p, v[i]);
        if (i % WIDTH == WIDTH - 1)
            *p++ = ']';
        *p++ = ',';
    }
    p--;
    p += sprintf(p, "]}");
    *n = (size_t)(p - body);
    return body;
}

static double ours_read(const char *body, size_t n)
{
    struct sae_target t = {.op = SAE_OP_ENCODE,
                           .dictionary = "bench",
                           .class_name = "AutoEncoder",
                           .activation_dim = WIDTH,
                           .dict_size = 4096,
                           .max_bytes = 1u << 30};
    struct sae_request r = {0};
    struct sae_err err = {0};
    double t0 = bench_cpu(), t1;

    if (sae_json_parse(&r, &t, body, n, &err) != SAE_OK)
        bench_die("%s", err.text);
    t1 = bench_cpu();
    sae_request_fini(&r);
    return t1 - t0;
}

static double ours_print(const float *v)
{
    struct sae_answer a = {.lead = {.n = 1, .dim = {ROWS}},
                           .n_rows = ROWS,
                           .n_tensors = 1,
                           .tensors = {{.name = "f", .width = WIDTH, .data = v}}};
    struct sae_body body = {0};
    double t0 = bench_cpu(), t1;

    if (sae_json_print(&body, &a, 1u << 30, NULL) != SAE_OK)
        bench_die("cannot print JSON");
    t1 = bench_cpu();
    sae_body_fini(&body);
    return t1 - t0;
}

static double jansson(const char *body, size_t n, bool print)
{
    double t0 = bench_cpu(), t1;
    json_t *j = json_loadb(body, n, 0, NULL);

    t1 = bench_cpu();
    if (print) {
        char *s;

        t0 = bench_cpu();
        s = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9));
        t1 = bench_cpu();
        free(s);
    }
    json_decref(j);
    return t1 - t0;
}

/* Two rows: beside jansson and beside Python. */
static void measure(struct bench *b, const char *numbers, const float *v, bool long_text,
                    bool print)
{
    double got[TURNS], other[2][TURNS], ratio[2], scale = 1e9 / N;
    static const char *const names[] = {"jansson", "Python json"};
    struct bench_row row = {.unit = "ns/number"};
    char path[512], *body;
    size_t n;
    FILE *f;

    body = make_body(v, long_text, &n);
    snprintf(path, sizeof path, "%s/codec.json", b->dir);
    f = fopen(path, "w");
    if (!f || fwrite(body, 1, n, f) != n || fclose(f) != 0)
        bench_die("cannot write %s", path);
    for (int i = 0; i < TURNS; i++) {
        for (int k = 0; k < 2; k++) /* the second counts */
            got[i] = scale * (print ? ours_print(v) : ours_read(body, n));
        for (int k = 0; k < 2; k++)
            other[0][i] = scale * jansson(body, n, print);
        for (int k = 0; k < 2; k++)
            other[1][i] = b->python.pid ? scale * child_ask(&b->python, "%s %s",
                                                            print ? "print" : "read", path)
                                        : 0;
    }
    snprintf(row.what, sizeof row.what, "JSON %s, %s", print ? "printed" : "read", numbers);
    for (int k = 0; k < 2; k++)
        ratio[k] = bench_ratio(other[k], got, TURNS);
    row.value = bench_median(got, TURNS);
    snprintf(row.note, sizeof row.note, "%.0f MB/s; aim %d ns", (double)n / N / row.value * 1e3,
             print ? 40 : 30);
    for (int k = 0; k < (b->python.pid ? 2 : 1); k++) {
        snprintf(row.beside_what, sizeof row.beside_what, "%s", names[k]);
        row.ratio = ratio[k];
        row.beside = bench_median(other[k], TURNS);
        report_row(b->report, &row);
        row.note[0] = '\0';
    }
    free(body);
    remove(path);
}

void section_codecs(struct bench *b)
{
    float *v = dicts_rows(ROWS, WIDTH, 1);
    uint64_t s = 1;

    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    report_section(b->report, "codecs, one thread");
    measure(b, "Gaussian, shortest text", v, false, false);
    measure(b, "Gaussian, 17 digits", v, true, false);
    measure(b, "Gaussian", v, false, true);
    for (size_t i = 0; i < N; i++)
        v[i] = dicts_random(&s) % 100 < 97 ? 0.0f : fabsf(v[i]);
    measure(b, "97 % zeros", v, false, false);
    measure(b, "97 % zeros", v, false, true);
    for (size_t i = 0; i < N; i++)
        v[i] = (float)((int)(dicts_random(&s) % 2000) - 1000);
    measure(b, "integers", v, false, false);
    sae_free(v);
}
