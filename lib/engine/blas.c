/* blas.c - the openblas engine: tiles through cblas_sgemm. The portable engine and the cross-check.
 *
 * OpenBLAS is loaded when this engine is asked for, never linked: a daemon that does without it
 * starts without it, and has none of the threads that OpenBLAS starts as it is loaded. It is called
 * from many threads with its own threads off. A row's bits depend on the shape of the batch, so
 * this engine promises the tolerance, not the bits. The only file that includes cblas.h. */
#include "lib/engine/engine.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Up to this many rows the product goes row by row through sgemv, in strips of so many features
 * that a strip of weights is still in the cache for the next row (OpenBLAS 0.3.21, Haswell kernels,
 * d 768: 1 row 2.6 against 8.0 ms by sgemm, 4 rows 5.2 against 7.5, 8 rows 8.7 against 9.0). Above
 * it rows are rounded up to the kernel's tile of 4: 3 rows by sgemm take 10.8 ms, 4 rows 7.4. */
#define GEMV_ROWS 6
#define GEMV_STRIP 32
#define GEMM_ROUND 4

#define LIBRARY "libopenblas.so.0"

/* Set by load_library, once; immutable after. */
static struct {
    __typeof__(cblas_sgemm) *sgemm;
    __typeof__(cblas_sgemv) *sgemv;
    __typeof__(openblas_get_config) *get_config;
    __typeof__(openblas_get_corename) *get_corename;
    __typeof__(openblas_set_num_threads) *set_num_threads;
} blas;
static char load_failure[200]; /* empty: it is loaded */
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

/* A call holds one of OpenBLAS's buffers, of which a build has twice as many as the threads it was
 * made for, and OpenBLAS's own threads hold some. A call that finds none never returns: so there
 * are never more calls at once than that number of threads. */
static sem_t calls;

static void init_calls(void)
{
    const char *max = strstr(blas.get_config(), "MAX_THREADS=");
    unsigned n = 0;

    if (!max || sscanf(max, "MAX_THREADS=%u", &n) != 1 || n < 1)
        n = 16; /* a build that does not say has 50 at least */
    sem_init(&calls, 0, n);
}

static void enter(void)
{
    while (sem_wait(&calls) != 0)
        ; /* a signal */
}

static void leave(void)
{
    sem_post(&calls);
}

/* The function `name` of the library into *f, which has the size of a pointer. */
static bool find(void *library, const char *name, void *f)
{
    void *found = dlsym(library, name);

    memcpy(f, &found, sizeof found);
    return found != NULL;
}

static bool find_all(void *library)
{
    return find(library, "cblas_sgemm", &blas.sgemm) && find(library, "cblas_sgemv", &blas.sgemv) &&
           find(library, "openblas_get_config", &blas.get_config) &&
           find(library, "openblas_get_corename", &blas.get_corename) &&
           find(library, "openblas_set_num_threads", &blas.set_num_threads);
}

static void load_library(void)
{
    void *library;
    const char *why;

    /* Read by OpenBLAS as it is loaded; what is said later does not end the threads it has. */
    if (setenv("OPENBLAS_NUM_THREADS", "1", 1) != 0) {
        snprintf(load_failure, sizeof load_failure, "out of memory");
        return;
    }
    library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library || !find_all(library)) {
        why = dlerror();
        snprintf(load_failure, sizeof load_failure, "%s", why ? why : LIBRARY);
        return;
    }
    init_calls();
    blas.set_num_threads(1); /* in a program that is linked with it, and so had it before */
}

enum sae_status sae_blas_load(struct sae_err *err)
{
    pthread_once(&load_once, load_library);
    if (!load_failure[0])
        return SAE_OK;
    return sae_err_set(
        err, SAE_E_IO, "",
        "cannot use the engine openblas: %s (Debian's package: libopenblas0-pthread)",
        load_failure);
}

static const char *core(void)
{
    return blas.get_corename();
}

const char *sae_blas_config(void)
{
    return blas.get_config();
}

static size_t gemm_rows(size_t n)
{
    return (n + GEMM_ROUND - 1) / GEMM_ROUND * GEMM_ROUND;
}

/* p[i][j] = x_i . w_j for n rows (x has gemm_rows(n) readable rows) and m features. */
static void project(const float *x, size_t ld, size_t n, const float *w, size_t d, size_t m,
                    float *p)
{
    enter();
    if (n > GEMV_ROWS)
        blas.sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)gemm_rows(n), (blasint)m,
                   (blasint)d, 1.0f, x, (blasint)ld, w, (blasint)d, 0.0f, p, SAE_BLOCK);
    for (size_t j = 0; n <= GEMV_ROWS && j < m; j += GEMV_STRIP) {
        size_t strip = m - j < GEMV_STRIP ? m - j : GEMV_STRIP;

        for (size_t i = 0; i < n; i++)
            blas.sgemv(CblasRowMajor, CblasNoTrans, (blasint)strip, (blasint)d, 1.0f, w + j * d,
                       (blasint)d, x + i * ld, 1, 0.0f, p + i * SAE_BLOCK + j, 1);
    }
    leave();
}

static void encode(struct sae_batch *b, size_t block, struct sae_scratch *s)
{
    struct sae_cols cols = sae_cols_block(b->dict, block);
    size_t d = b->dict->formula.d_in;

    project(b->x, b->ld, b->n_gemm, b->dict->enc.f32 + cols.first * d, d, cols.n, s->p);
    for (size_t r = 0; r < b->n_gemm; r++)
        sae_epilogue(b, r, block, &cols, s->p + r * SAE_BLOCK, s);
}

/* c [m][SAE_DECODE_COLS] = f of m items times the decoder's columns k0 .. k1 - 1, block by block.
 */
static void decode_items(struct sae_batch *b, const struct sae_item *items, size_t m, size_t k0,
                         size_t k1, struct sae_scratch *s)
{
    const struct sae_dict *d = b->dict;

    memset(s->cursor, 0, m * sizeof *s->cursor);
    for (size_t j = 0; j < d->formula.F; j += SAE_BLOCK) {
        size_t n = d->formula.F - j < SAE_BLOCK ? d->formula.F - j : SAE_BLOCK;

        for (size_t i = 0; i < m; i++)
            sae_item_block(b, &items[i], j, n, &s->cursor[i], s->p + i * SAE_BLOCK);
        enter();
        blas.sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)(k1 - k0),
                   (blasint)n, 1.0f, s->p, SAE_BLOCK, d->dec.f32 + j * d->formula.d_out + k0,
                   (blasint)d->formula.d_out, j == 0 ? 0.0f : 1.0f, s->c, SAE_DECODE_COLS);
        leave();
    }
}

static void decode_dense(struct sae_batch *b, size_t k0, size_t k1, struct sae_scratch *s)
{
    const float *bias = b->dict->dec_bias;

    for (size_t i0 = 0; i0 < b->n_dense; i0 += b->max_rows) {
        size_t m = b->n_dense - i0 < b->max_rows ? b->n_dense - i0 : b->max_rows;

        decode_items(b, b->dense + i0, m, k0, k1, s);
        for (size_t i = 0; i < m; i++) {
            const struct sae_item *it = &b->dense[i0 + i];
            const float *c = s->c + i * SAE_DECODE_COLS;
            float *out = sae_item_out(b, it) + k0;

            for (size_t k = 0; k < k1 - k0; k++)
                out[k] = bias && it->list == 0 ? c[k] + bias[k0 + k] : c[k];
        }
    }
}

/* OpenBLAS maps a buffer for each call that runs at the same time as others, at the first such
 * call. Products for a few milliseconds: threads that warm up together meet there, and each gets
 * its buffer before the first request. */
static void warm(const struct sae_engine *e, struct sae_scratch *s)
{
    size_t n = s->max_rows, m = n < SAE_DECODE_COLS ? n : SAE_DECODE_COLS;
    struct timespec t0, t;

    (void)e;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    do {
        enter();
        blas.sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)m, SAE_BLOCK, 1.0f,
                   s->p, SAE_BLOCK, s->p, SAE_BLOCK, 0.0f, s->c, SAE_DECODE_COLS);
        blas.sgemv(CblasRowMajor, CblasNoTrans, (blasint)m, SAE_BLOCK, 1.0f, s->p, SAE_BLOCK, s->p,
                   1, 0.0f, s->c, 1);
        leave();
        clock_gettime(CLOCK_MONOTONIC, &t);
    } while ((t.tv_sec - t0.tv_sec) * 1000000000L + (t.tv_nsec - t0.tv_nsec) < 5000000L);
}

const struct sae_engine_ops sae_engine_openblas = {
    .name = "openblas",
    .wants_f32 = true,
    .is_bitwise = false,
    .load = sae_blas_load,
    .kernel = core,
    .encode = encode,
    .decode_dense = decode_dense,
    /* One thread, d 768, F 24576, OpenBLAS 0.3.21 (Haswell) against the AVX-512 lists: a list costs
     * 2.2 ms for a row with all features on; the product 6 ms and 0.42 ms a row. */
    .dense_cost = {.product = 3, .row_share = 5, .cols = SAE_DECODE_COLS},
    .warm = warm,
};
