/* test_screening.c - what /metrics tells of screening, on rows and dictionaries like those of
 * practice: three dimensions of the rows are 300 or 1,000 times the rest, the encoder is small
 * there, and about 20, 100 or 400 of 24576 features are on.
 *
 * Such rows are screened: no row is dense as a whole, and features computed exactly are a few for
 * each that is on. That their answers have the bits of ref.c is
 * tests/unit/engine/native/test_realistic.c.
 */
#include "tests/http/support_body.h"
#include "tests/http/support_pt.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 128, F = 24576, N = 64 };
#define CANDIDATES "saed_screen_candidates_total{dictionary=\"s\"}"
#define DENSE_ROWS "saed_dense_rows_total{dictionary=\"s\"}"
/* At most, for each active feature. 8-bit rows need 2, the 7-bit ones of AVX2 and AVX-512 3. */
#define MOST_CANDIDATES 3.5

static const struct {
    double l0, threshold; /* standard deviations: the normal quantile of 1 - l0 / F */
} cases[] = {{20, 3.150}, {100, 2.646}, {400, 2.137}};
static const size_t outliers[] = {5, 60, 100};

static uint64_t state = 1;

static float normal(void)
{
    double sum = 0;

    for (int i = 0; i < 12; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(state >> 11) * 0x1p-53;
    }
    return (float)(sum - 6);
}

static void write_dictionary(const char *path, double threshold)
{
    float *w = malloc((size_t)F * D * sizeof *w), bias[D] = {0}, *enc_bias = malloc(F * 4);
    const struct pt_tensor ts[] = {{"bias", {D}, 1, false, bias},
                                   {"encoder.weight", {F, D}, 2, false, w},
                                   {"encoder.bias", {F}, 1, false, enc_bias},
                                   {"decoder.weight", {D, F}, 2, false, NULL}};

    for (size_t j = 0; j < F; j++) {
        double n2 = 0;

        for (size_t k = 0; k < D; k++)
            w[j * D + k] = normal() * 0.09f;
        for (size_t i = 0; i < sizeof outliers / sizeof outliers[0]; i++)
            w[j * D + outliers[i]] *= 0.002f;
        for (size_t k = 0; k < D; k++)
            n2 += (double)w[j * D + k] * (double)w[j * D + k];
        enc_bias[j] = (float)(-threshold * sqrt(n2));
    }
    write_pt(path, ts, 4);
    free(enc_bias);
    free(w);
}

/* By turns normal, with outlier dimensions at 300, and at 1,000. */
static float *make_rows(void)
{
    float *x = malloc(N * D * sizeof *x);

    for (size_t i = 0; i < N * D; i++)
        x[i] = normal();
    for (size_t r = 0; r < N; r++)
        for (size_t i = 0; r % 3 && i < sizeof outliers / sizeof outliers[0]; i++)
            x[r * D + outliers[i]] *= r % 3 == 1 ? 300 : 1000;
    return x;
}

static size_t count_active(const struct server *s, const float *x, size_t n)
{
    struct reply r = request(s, "POST", "/v1/dictionaries/s/encode?sparse=true",
                             (const char *const[]){"Content-Type: application/octet-stream",
                                                   "Accept: application/x-safetensors", NULL},
                             x, n * D * 4);
    struct got g = got_read(&r, "f", GOT_ASCENDING);
    size_t active = 0;

    ck_assert_uint_eq(g.n_rows, n);
    for (size_t i = 0; i < g.n_rows * g.width; i++)
        active += g.listed[i];
    got_free(&g);
    reply_free(&r);
    return active;
}

START_TEST(realistic_rows_are_screened)
{
    char path[64] = "/tmp/saed-test-XXXXXX", source[96];
    float *x = make_rows();
    double active, candidates;
    struct server s;

    ck_assert_int_ge(mkstemp(path), 0);
    write_dictionary(path, cases[_i].threshold);
    snprintf(source, sizeof source, "s=%s", path);
    s = server_start((const char *const[]){"--engine", "native", source, NULL});
    remove(path);
    ck_assert(metric(&s, CANDIDATES) == 0 && metric(&s, DENSE_ROWS) == 0);
    active = (double)count_active(&s, x, N);
    candidates = metric(&s, CANDIDATES);
    ck_assert_msg(active > 0.6 * N * cases[_i].l0 && active < 1.6 * N * cases[_i].l0,
                  "%g features of a row are on", active / N);
    ck_assert_msg(candidates >= active && candidates <= MOST_CANDIDATES * active,
                  "%g candidates for %g active features", candidates, active);
    ck_assert(metric(&s, DENSE_ROWS) == 0);
    /* A row that cannot be screened is told apart: its bound would be NaN. */
    x[3] = NAN;
    ck_assert_uint_eq(count_active(&s, x, 2), F + (size_t)count_active(&s, x + D, 1));
    ck_assert(metric(&s, DENSE_ROWS) == 1);
    ck_assert_int_eq(server_stop(&s), 0);
    free(x);
}
END_TEST

/* Encode n rows of width d: the answer's features on, dense or listed. Owned (got_free). */
static struct got encode(const struct server *s, const float *x, size_t n, size_t d,
                         const char *options)
{
    char path[128];
    struct reply r;
    struct got g;

    snprintf(path, sizeof path, "/v1/dictionaries/s/encode?%s", options);
    r = request(s, "POST", path,
                (const char *const[]){"Content-Type: application/octet-stream",
                                      "Accept: application/x-safetensors", NULL},
                x, n * d * 4);
    g = got_read(&r, "f", GOT_ASCENDING);
    reply_free(&r);
    return g;
}

/* One such row of finite numbers ended the daemon, or zeroed the row beside it, or was answered
 * with nothing on: its large dimension was infinite in units of the rest. */
START_TEST(a_row_at_the_ends_of_f32_is_a_row)
{
    enum { WIDTH = 768, SIZE = 1030 };
    float *x = malloc(3 * WIDTH * sizeof *x);
    struct server s = server_start(
        (const char *const[]){"--engine", "native", "s=init:AutoEncoder:768:1030", NULL});
    struct got sparse, dense, alone;

    for (size_t i = 0; i < 3 * WIDTH; i++)
        x[i] = i / WIDTH == 1 ? 1e-13f : normal();
    x[WIDTH] = 1e27f;
    for (int i = 0; i < 5; i++) {
        sparse = encode(&s, x, 3, WIDTH, "sparse=true");
        dense = encode(&s, x, 3, WIDTH, "");
        alone = encode(&s, x + 2 * WIDTH, 1, WIDTH, "");
        ck_assert_mem_eq(sparse.v, dense.v, 3 * SIZE * sizeof *dense.v);
        ck_assert_mem_eq(dense.v + 2 * SIZE, alone.v, SIZE * sizeof *alone.v);
        got_free(&alone);
        got_free(&dense);
        got_free(&sparse);
    }
    ck_assert_int_eq(server_stop(&s), 0);
    free(x);
}
END_TEST

/* np.eye(d) took every column that outlier dimensions can have, and rows with outliers were dense
 * from then on; outliers of a million times the rest are screened as well as those of 300. */
START_TEST(unit_vectors_and_large_outliers_cost_nobody_else)
{
    char path[64] = "/tmp/saed-test-XXXXXX", source[96];
    float *x = calloc(D * D, sizeof *x);
    struct server s;
    struct got g;

    ck_assert_int_ge(mkstemp(path), 0);
    write_dictionary(path, 3);
    snprintf(source, sizeof source, "s=%s", path);
    s = server_start((const char *const[]){"--engine", "native", source, NULL});
    remove(path);
    for (size_t k = 0; k < D; k++)
        x[k * D + k] = 1;
    g = encode(&s, x, D, D, "sparse=true");
    got_free(&g);
    for (int million = 0; million < 2; million++) {
        for (size_t i = 0; i < N * D; i++)
            x[i] = normal();
        for (size_t r = 0; r < N; r++)
            for (size_t i = 0; i < sizeof outliers / sizeof outliers[0]; i++)
                x[r * D + outliers[i]] *= million ? 1e6f : 300;
        g = encode(&s, x, N, D, "sparse=true");
        got_free(&g);
        ck_assert(metric(&s, DENSE_ROWS) == 0);
    }
    ck_assert_int_eq(server_stop(&s), 0);
    free(x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("screening");
    TCase *t = tcase_create("screening");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, realistic_rows_are_screened, 0, sizeof cases / sizeof cases[0]);
    tcase_add_test(t, a_row_at_the_ends_of_f32_is_a_row);
    tcase_add_test(t, unit_vectors_and_large_outliers_cost_nobody_else);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
