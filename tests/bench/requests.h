/* requests.h - requests of the bench's end-to-end rows, and their answers read back for comparison.
 *
 * All ask for the 32 largest features of rows of the same matrix (DIR/rows.f32), in one of four
 * dialects: saed's safetensors and JSON, the peer's raw floats and JSON. */
#ifndef TESTS_BENCH_REQUESTS_H
#define TESTS_BENCH_REQUESTS_H

#include "tests/support/load.h"

#include <stdbool.h>

enum { BENCH_D = 768, BENCH_F = 24576, BENCH_K = 32, BENCH_ROWS = 256 };

enum bench_dialect { SAED_SAFETENSORS, SAED_JSON, PEER_RAW, PEER_JSON };

/* A ring of requests of `rows` rows each, starting at different rows of x [BENCH_ROWS][BENCH_D]; x
 * NULL: rows of zeros. Owned: ring_free. */
struct bench_ring {
    struct load_client *c;
    size_t n;
};
struct bench_ring ring_make(enum bench_dialect dialect, const float *x, size_t rows);
/* One request: a row of width 1 for the IdentityDict "empty" of saed. */
struct bench_ring ring_empty(void);
void ring_free(struct bench_ring *r);

/* The 32 best of each row of an answer. False: not such an answer. */
struct bench_top {
    int id[BENCH_ROWS][BENCH_K];
    double value[BENCH_ROWS][BENCH_K];
};
bool top_read(struct bench_top *t, enum bench_dialect dialect, const char *body, size_t n,
              size_t rows);
/* Same values within a tolerance, and the same ids but where values are that close. *swapped counts
 * ids that differ. */
bool top_agrees(const struct bench_top *a, const struct bench_top *b, size_t rows, size_t *swapped);

struct bench;
/* Spawn the daemon with its log in a file beside the bench's program. */
void bench_spawn(const struct bench *b, struct load_daemon *d, const char *const *args);

#endif
