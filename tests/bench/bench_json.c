/* bench_json.c - what a number of JSON costs, read and printed, beside jansson, on one thread.
 *
 *     bench_json          one table, some seconds
 *     bench_json --all    print each of the 2^32 f32 and read it back: ten minutes, exit 1 if one
 *                         does not come back
 *
 * Best of several rounds, as machines are shared. jansson reads into a tree that is thrown away,
 * and prints doubles from a tree that stands already, which flatters it. */
#include "lib/num.h"
#include "proto/numtext.h"
#include "proto/wire.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROWS 512
#define WIDTH 768
#define N ((size_t)ROWS * WIDTH)

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double uniform(void)
{
    return ((double)rand() + 0.5) / ((double)RAND_MAX + 1);
}

static double gaussian(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

/* A body {"x": [[...], ...]} of the values in this format. Freed by the caller. */
static char *make_body(const float *v, const char *format, size_t *n)
{
    char *body = malloc(N * 28 + 64), *p = body;

    p += sprintf(p, "{\"x\":[");
    for (size_t i = 0; i < N; i++) {
        if (i % WIDTH == 0)
            *p++ = '[';
        if (format) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            p += sprintf(p, format, (double)v[i]);
#pragma GCC diagnostic pop
        } else {
            p += sae_num_print(p, v[i]);
        }
        if (i % WIDTH == WIDTH - 1)
            *p++ = ']';
        *p++ = ',';
    }
    p--;
    p += sprintf(p, "]}");
    *n = (size_t)(p - body);
    return body;
}

static double read_ns(const char *body, size_t n)
{
    struct sae_target t = {.op = SAE_OP_ENCODE,
                           .dictionary = "bench",
                           .class_name = "AutoEncoder",
                           .activation_dim = WIDTH,
                           .dict_size = 4096,
                           .max_bytes = 1u << 30};
    struct sae_request r = {0};
    struct sae_err err = {0};
    double t0 = now_ns(), t1;

    if (sae_json_parse(&r, &t, body, n, &err) != SAE_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    t1 = now_ns();
    sae_request_fini(&r);
    return t1 - t0;
}

static double print_ns(const float *v, size_t *n)
{
    struct sae_answer a = {.lead = {.n = 1, .dim = {ROWS}},
                           .n_rows = ROWS,
                           .n_tensors = 1,
                           .tensors = {{.name = "f", .width = WIDTH, .data = v}}};
    struct sae_body body = {0};
    double t0 = now_ns(), t1;

    if (sae_json_print(&body, &a, 1u << 30, NULL) != SAE_OK)
        exit(1);
    t1 = now_ns();
    *n = body.n;
    sae_body_fini(&body);
    return t1 - t0;
}

static double jansson_read_ns(const char *body, size_t n)
{
    double t0 = now_ns(), t1;
    json_t *j = json_loadb(body, n, 0, NULL);

    t1 = now_ns();
    json_decref(j);
    return t1 - t0;
}

static double jansson_print_ns(const char *body, size_t n, size_t *printed)
{
    json_t *j = json_loadb(body, n, 0, NULL);
    double t0 = now_ns(), t1;
    char *s = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9));

    t1 = now_ns();
    *printed = strlen(s);
    free(s);
    json_decref(j);
    return t1 - t0;
}

static void row(const char *what, double ns, size_t bytes)
{
    printf("%-44s %8.1f ns/number %8.0f MB/s\n", what, ns / (double)N, (double)bytes / ns * 1e3);
}

static void bench(const char *name, const float *v, const char *format)
{
    char what[80];
    size_t n, printed = 0, j_printed = 0;
    char *body = make_body(v, format, &n);
    double best[4] = {1e18, 1e18, 1e18, 1e18};

    for (int i = 0; i < 7; i++) {
        best[0] = fmin(best[0], read_ns(body, n));
        best[1] = fmin(best[1], print_ns(v, &printed));
    }
    for (int i = 0; i < 2; i++) {
        best[2] = fmin(best[2], jansson_read_ns(body, n));
        best[3] = fmin(best[3], jansson_print_ns(body, n, &j_printed));
    }
    snprintf(what, sizeof what, "%s, read", name);
    row(what, best[0], n);
    row("    jansson", best[2], n);
    if (!format) { /* printing does not depend on how the body was written */
        snprintf(what, sizeof what, "%s, printed", name);
        row(what, best[1], printed);
        row("    jansson", best[3], j_printed);
    }
    free(body);
}

static int all_values(void)
{
    uint64_t bad = 0;

    for (uint64_t u = 0; u < UINT64_C(1) << 32; u++) {
        float v = sae_f32_from_bits((uint32_t)u), back = 0;
        char s[SAE_NUM_TEXT_MAX + 1];
        const char *next;
        size_t n;

        if (!isfinite(v))
            continue;
        n = sae_num_print(s, v);
        if (n >= SAE_NUM_TEXT_MAX || sae_num_read(s, s + n, &back, &next) != SAE_NUM_OK ||
            next != s + n || sae_f32_bits(back) != (uint32_t)u) {
            bad++;
            printf("%08x is printed as %.*s, read as %08x\n", (unsigned)u, (int)n, s,
                   sae_f32_bits(back));
        }
    }
    printf("%" PRIu64 " of all finite f32 do not come back\n", bad);
    return bad > 0;
}

int main(int argc, char **argv)
{
    float *v = malloc(N * sizeof *v);

    if (argc > 1 && strcmp(argv[1], "--all") == 0)
        return all_values();
    srand(1);
    for (size_t i = 0; i < N; i++)
        v[i] = (float)gaussian();
    bench("Gaussian, shortest text", v, NULL);
    bench("Gaussian, 9 digits", v, "%.9g");
    bench("Gaussian, 17 digits (Python)", v, "%.17g");
    for (size_t i = 0; i < N; i++)
        v[i] = uniform() < 0.97 ? 0.0f : (float)fabs(gaussian());
    bench("97 % zeros", v, NULL);
    for (size_t i = 0; i < N; i++)
        v[i] = (float)(rand() % 2000 - 1000);
    bench("integers", v, NULL);
    free(v);
    return 0;
}
