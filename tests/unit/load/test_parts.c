/* test_parts.c - matrices that several threads read in parts: the same values as one thread reads,
 * and the same said of what is wrong. */
#include "lib/load/origin.h"
#include "tests/support/weights.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

/* ---- threads ------------------------------------------------------------------------------ */

enum { N_THREADS = 5 };

struct cut {
    size_t n, step;
    sae_range_fn *range;
    void *arg;
    _Atomic size_t next;
};

static unsigned n_runs;

static void *take(void *arg)
{
    struct cut *c = arg;
    size_t at;

    while ((at = atomic_fetch_add(&c->next, c->step)) < c->n)
        c->range(c->arg, at, c->n - at < c->step ? c->n : at + c->step);
    return NULL;
}

static void run(struct sae_team *team, size_t n, size_t step, sae_range_fn *range, void *arg)
{
    struct cut c = {.n = n, .step = step, .range = range, .arg = arg};
    pthread_t threads[N_THREADS];

    (void)team;
    n_runs++;
    for (size_t i = 0; i < N_THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take, &c), 0);
    for (size_t i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
}

static struct sae_team team = {run};

/* ---- files -------------------------------------------------------------------------------- */

enum { ITEMS = 1500 << 10, HEAD = 24 };

/* Bytes that are finite in every dtype, behind a head. */
static unsigned char *storage(size_t *n)
{
    unsigned char *p = malloc(*n = HEAD + (size_t)ITEMS * 8 + 3);

    for (size_t i = 0; i < *n; i++)
        p[i] = i % 2 ? 0x38 + i / 2 % 3 : (unsigned char)(i * 7 + i / 251);
    return p;
}

static int file_of(const void *p, size_t n)
{
    int fd = memfd_create("weights", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, p, n), (ssize_t)n);
    return fd;
}

static const struct {
    uint64_t rows, cols, row_stride, col_stride, offset;
    bool is_cut;
} lies[] = {
    {1, 1000000, 1000000, 1, 0, false}, /* fewer rows than threads */
    {3, 400000, 400000, 1, 0, false},
    {1000000, 1, 1, 1, 7, true},
    {17, 80000, 80000, 1, 5, true},
    {1501, 1000, 1000, 1, 0, true},
    {1501, 1000, 1, 1501, 9, true}, /* columns first */
    {37, 40000, 1, 37, 0, true},
    {700, 900, 1999, 2, 3, true}, /* slices of rows, and of columns */
    {900, 700, 2, 2003, 11, true},
    {700, 900, 3, 1, 0, false}, /* they lie across each other */
};

static void check_origin(const struct sae_origin *o, bool transpose, bool is_cut)
{
    const size_t n = o->view.rows * o->view.cols;
    const enum sae_dtype kept = o->view.dtype == SAE_DTYPE_F64 ? SAE_DTYPE_F32 : o->view.dtype;
    const enum sae_dtype as[] = {SAE_DTYPE_F32, kept};

    for (size_t i = 0; i < SAE_COUNTOF(as); i++) {
        const size_t bytes = n * sae_dtype_bytes(as[i]);
        void *want = malloc(bytes), *got = calloc(bytes, 1);
        struct sae_err err = {0};

        ck_assert_msg(sae_origin_read(o, as[i], want, transpose, NULL, &err) == SAE_OK, "%s",
                      err.text);
        n_runs = 0;
        ck_assert_msg(sae_origin_read(o, as[i], got, transpose, &team, &err) == SAE_OK, "%s",
                      err.text);
        ck_assert_int_eq(memcmp(want, got, bytes), 0);
        if (sae_dtype_bytes(o->view.dtype) >= 4)
            ck_assert_uint_eq(n_runs, is_cut);
        free(want);
        free(got);
    }
}

START_TEST(the_same_bits_however_it_lies)
{
    static const enum sae_dtype dtypes[] = {SAE_DTYPE_F32, SAE_DTYPE_F64, SAE_DTYPE_BF16,
                                            SAE_DTYPE_F16};
    size_t n;
    unsigned char *p = storage(&n);
    int fd = file_of(p, n);

    for (size_t t = 0; t < 2 * SAE_COUNTOF(dtypes); t++) {
        struct sae_origin o = {
            .view = {.name = "w",
                     .dtype = dtypes[t / 2],
                     .numel = ITEMS,
                     .offset = lies[_i].offset,
                     .rows = lies[_i].rows,
                     .cols = lies[_i].cols,
                     .row_stride = lies[_i].row_stride,
                     .col_stride = lies[_i].col_stride,
                     .tail_bytes = 3},
            .range = {fd, n, 0},
            .head_bytes = HEAD,
        };

        check_origin(&o, t % 2, lies[_i].is_cut);
    }
    close(fd);
    free(p);
}
END_TEST

/* ---- archives ----------------------------------------------------------------------------- */

enum { ROWS = 1501, COLS = 1000, DATA = 128 }; /* DATA: behind the header */

struct archive {
    unsigned char *p;
    size_t n, data; /* data: where the values begin */
};

static void put(struct archive *a, const void *p, size_t n)
{
    memcpy(a->p + a->n, p, n);
    a->n += n;
}

/* One .npy, stored. */
static struct archive npz(const unsigned char *npy, size_t n)
{
    struct archive a = {.p = malloc(n + 200)};
    uint32_t at, sizes[3] = {(uint32_t)crc32(0, npy, (uInt)n), (uint32_t)n, (uint32_t)n};
    unsigned char local[30] = {'P', 'K', 3, 4}, central[46] = {'P', 'K', 1, 2},
                  end[22] = {'P', 'K', 5, 6, 0, 0, 0, 0, 1, 0, 1, 0};
    static const char name[] = "array.npy";
    const uint32_t central_bytes = sizeof central + sizeof name - 1;

    local[4] = central[4] = central[6] = 20;
    local[26] = central[28] = sizeof name - 1;
    memcpy(local + 14, sizes, 12);
    memcpy(central + 16, sizes, 12);
    put(&a, local, sizeof local);
    put(&a, name, sizeof name - 1);
    a.data = a.n + DATA;
    put(&a, npy, n);
    at = (uint32_t)a.n;
    put(&a, central, sizeof central);
    put(&a, name, sizeof name - 1);
    memcpy(end + 12, &central_bytes, 4);
    memcpy(end + 16, &at, 4);
    put(&a, end, sizeof end);
    return a;
}

static struct archive archive(const float *bad, const size_t *at, size_t n_bad)
{
    const size_t n = DATA + sizeof(float) * ROWS * COLS;
    unsigned char *npy = malloc(n);
    struct archive a;
    int length;

    memcpy(npy, "\x93NUMPY\1\0\x76\0", 10);
    length = sprintf((char *)npy + 10,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", ROWS, COLS);
    memset(npy + 10 + length, ' ', (size_t)(DATA - 10 - length));
    npy[DATA - 1] = '\n';
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) {
        float v = (float)(i % 1009) - 500;

        memcpy(npy + DATA + sizeof v * i, &v, sizeof v);
    }
    for (size_t i = 0; i < n_bad; i++)
        memcpy(npy + DATA + sizeof *bad * at[i], &bad[i], sizeof *bad);
    a = npz(npy, n);
    free(npy);
    return a;
}

/* What one thread says, and what many do. */
static enum sae_status read_both(const struct archive *a, size_t cut, struct sae_err *err)
{
    int fd = file_of(a->p, a->n);
    struct sae_tensors *ts = NULL;
    char path[40];
    float *want = malloc(sizeof *want * ROWS * COLS), *got = malloc(sizeof *got * ROWS * COLS);
    struct sae_matrix m = {.dtype = SAE_DTYPE_F32, .values = got, .width = ROWS};
    struct sae_err low = {0};
    enum sae_status st, also;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ck_assert_msg(test_open_weights(&ts, path, &low) == SAE_OK, "%s", low.text);
    if (cut)
        ck_assert_int_eq(ftruncate(fd, (off_t)(a->n - cut)), 0);
    st = sae_load_read(ts, 0, want, true, err);
    n_runs = 0;
    also = sae_load_matrix(ts, 0, &m, COLS, true, &team, &low);
    ck_assert_uint_eq(n_runs, 1);
    ck_assert_int_eq(st, also);
    ck_assert_str_eq(err->text, low.text);
    ck_assert_str_eq(err->where, low.where);
    if (st == SAE_OK)
        ck_assert_int_eq(memcmp(want, got, sizeof *want * ROWS * COLS), 0);
    sae_load_close(ts);
    close(fd);
    free(want);
    free(got);
    return st;
}

START_TEST(an_entry_has_its_crc)
{
    static const size_t flips[] = {DATA, DATA + 4 * 700000, DATA + 4 * ROWS * COLS - 1};
    struct archive a = archive(NULL, NULL, 0);
    struct sae_err err = {0};

    ck_assert_msg(read_both(&a, 0, &err) == SAE_OK, "%s", err.text);
    for (size_t i = 0; i < SAE_COUNTOF(flips); i++) {
        err = (struct sae_err){0};
        a.p[a.data - DATA + flips[i]] ^= 1;
        ck_assert_int_eq(read_both(&a, 0, &err), SAE_E_FORMAT);
        ck_assert_ptr_nonnull(strstr(err.text, "the CRC of its bytes is"));
        a.p[a.data - DATA + flips[i]] ^= 1;
    }
    free(a.p);
}
END_TEST

START_TEST(the_first_value_that_is_not_finite_is_named)
{
    static const size_t at[] = {1400 * COLS + 3, 600 * COLS + 999, 601 * COLS};
    const float bad[] = {INFINITY, NAN, INFINITY};
    struct archive a = archive(bad, at, SAE_COUNTOF(at));
    struct sae_err err = {0};

    ck_assert_int_eq(read_both(&a, 0, &err), SAE_E_WEIGHTS);
    ck_assert_ptr_nonnull(strstr(err.text, "[600, 999] is nan"));
    free(a.p);
}
END_TEST

START_TEST(a_file_that_shrinks_is_an_error)
{
    struct archive a = archive(NULL, NULL, 0);
    struct sae_err err = {0};

    ck_assert_int_eq(read_both(&a, a.n / 2, &err), SAE_E_IO);
    free(a.p);
}
END_TEST

/* One that fails once is made up for by reading the matrix again, by one. */
START_TEST(every_allocation_may_fail)
{
    struct sae_origin o = {.view = {.name = "w",
                                    .dtype = SAE_DTYPE_F32,
                                    .numel = ITEMS,
                                    .rows = 1500,
                                    .cols = 1024,
                                    .row_stride = 1024,
                                    .col_stride = 1}};
    float *dst = malloc(sizeof *dst * ITEMS);
    struct sae_err err = {0};
    size_t n;
    unsigned char *p = storage(&n);

    o.range = (struct sae_fd_range){file_of(p, n), n, 0};
    for (long k = 0; k < 3; k++) {
        sae_alloc_fault(k, false);
        ck_assert_int_eq(sae_origin_read(&o, SAE_DTYPE_F32, dst, true, &team, NULL), SAE_OK);
        sae_alloc_fault(k, true);
        ck_assert_int_eq(sae_origin_read(&o, SAE_DTYPE_F32, dst, true, &team, &err), SAE_E_NOMEM);
        sae_alloc_fault(-1, false);
    }
    close(o.range.fd);
    free(dst);
    free(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("parts");
    TCase *t = tcase_create("parts");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, the_same_bits_however_it_lies, 0, SAE_COUNTOF(lies));
    tcase_add_test(t, an_entry_has_its_crc);
    tcase_add_test(t, the_first_value_that_is_not_finite_is_named);
    tcase_add_test(t, a_file_that_shrinks_is_an_error);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
