/* test_readers.c - safetensors, .npz and .npy files that are too large to keep: limits of a header,
 * values of more than one strip, files that shrink while they are read. */
#include "lib/load/load.h"
#include "lib/num.h"
#include "tests/support/weights.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

/* ---- files in memory ---------------------------------------------------------------------- */

struct memory_file {
    int fd;
    char path[40];
    size_t n;
};

static struct memory_file memory_file(void)
{
    struct memory_file m = {.fd = memfd_create("weights", MFD_CLOEXEC)};

    ck_assert_int_ge(m.fd, 0);
    snprintf(m.path, sizeof m.path, "/proc/self/fd/%d", m.fd);
    return m;
}

static void add(struct memory_file *m, const void *p, size_t n)
{
    ck_assert_int_eq(pwrite(m->fd, p, n, (off_t)m->n), (ssize_t)n);
    m->n += n;
}

static void add_length(struct memory_file *m, uint64_t n)
{
    add(m, &n, sizeof n);
}

/* One entry, stored or deflated. */
static void add_zip(struct memory_file *m, const char *name, const void *data, size_t n,
                    bool packed)
{
    z_stream z = {.zalloc = NULL};
    size_t most = n + n / 100 + 100;
    unsigned char *bytes = malloc(most), local[30] = {'P', 'K', 3, 4},
                  central[46] = {'P', 'K', 1, 2}, end[22] = {'P', 'K', 5, 6};
    uint32_t sizes[3] = {(uint32_t)crc32(0, data, (uInt)n), (uint32_t)n, (uint32_t)n}, at, bytes_of;
    uint16_t n_name = (uint16_t)strlen(name), method = packed ? 8 : 0;

    memcpy(bytes, data, n);
    if (packed) {
        deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
        z.next_in = (unsigned char *)data;
        z.avail_in = (uInt)n;
        z.next_out = bytes;
        z.avail_out = (uInt)most;
        ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
        sizes[1] = (uint32_t)z.total_out;
        deflateEnd(&z);
    }
    memcpy(local + 8, &method, 2);
    memcpy(local + 14, sizes, 12);
    memcpy(local + 26, &n_name, 2);
    add(m, local, sizeof local);
    add(m, name, n_name);
    add(m, bytes, sizes[1]);
    at = (uint32_t)m->n;
    memcpy(central + 10, &method, 2);
    memcpy(central + 16, sizes, 12);
    memcpy(central + 28, &n_name, 2);
    add(m, central, sizeof central);
    add(m, name, n_name);
    bytes_of = (uint32_t)m->n - at;
    end[8] = end[10] = 1;
    memcpy(end + 12, &bytes_of, 4);
    memcpy(end + 16, &at, 4);
    add(m, end, sizeof end);
    free(bytes);
}

/* ---- limits of a safetensors header ------------------------------------------------------- */

static void refuses(const struct memory_file *m, const char *what)
{
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(test_open_weights(&ts, m->path, &err), SAE_E_FORMAT);
    ck_assert_msg(strstr(err.text, what) != NULL, "%s", err.text);
    close(m->fd);
}

START_TEST(a_header_has_at_most_16_mb)
{
    const size_t n = ((size_t)16 << 20) + (size_t)_i;
    struct memory_file m = memory_file();
    char *text = malloc(n);

    memset(text, ' ', n);
    memcpy(text, "{}", 2);
    add_length(&m, n);
    add(&m, text, n);
    free(text);
    if (_i > 0) {
        refuses(&m, "the header has 16777217 bytes, at most 16777216 are read (the format allows "
                    "100000000)");
    } else {
        struct sae_tensors *ts = NULL;

        ck_assert_int_eq(test_open_weights(&ts, m.path, NULL), SAE_OK);
        ck_assert_uint_eq(sae_load_count(ts), 0);
        sae_load_close(ts);
        close(m.fd);
    }
}
END_TEST

START_TEST(a_header_has_at_most_100000_entries)
{
    const int n = 100000 + _i;
    struct memory_file m = memory_file();
    char *text = malloc((size_t)n * 80 + 16), *p = text;

    *p++ = '{';
    for (int i = 0; i < n; i++)
        p += sprintf(p, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                     i ? "," : "", i, i, i + 1);
    *p++ = '}';
    add_length(&m, (uint64_t)(p - text));
    add(&m, text, (size_t)(p - text));
    memset(text, 7, (size_t)n);
    add(&m, text, (size_t)n);
    free(text);
    if (_i > 0) {
        refuses(&m, "it has 100001 entries, 100000 is the most");
    } else {
        struct sae_tensors *ts = NULL;
        int64_t last = 0;

        ck_assert_int_eq(test_open_weights(&ts, m.path, NULL), SAE_OK);
        ck_assert_uint_eq(sae_load_count(ts), 100000);
        ck_assert_int_eq(sae_load_integers(ts, 99999, &last, 1, NULL), SAE_OK);
        ck_assert_int_eq(last, 7);
        sae_load_close(ts);
        close(m.fd);
    }
}
END_TEST

/* ---- values ------------------------------------------------------------------------------- */

enum { ROWS = 1500, COLS = 700 }; /* 4 MB: several strips of every kind */

/* As many bits as make deflate work for them. */
static float value(size_t r, size_t c)
{
    return (float)((r * 2654435761u ^ c * 40503u) % 4096) - 2048;
}

/* The file's bytes of the matrix, in either order. */
static float *values(bool fortran)
{
    float *v = malloc(sizeof *v * ROWS * COLS);

    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < COLS; c++)
            v[fortran ? c * ROWS + r : r * COLS + c] = value(r, c);
    return v;
}

static void add_safetensors(struct memory_file *m)
{
    char header[128];
    float *v = values(false);
    int n = snprintf(header, sizeof header,
                     "{\"array\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%d]}}",
                     ROWS, COLS, ROWS * COLS * 4);

    add_length(m, (uint64_t)n);
    add(m, header, (size_t)n);
    add(m, v, sizeof *v * ROWS * COLS);
    free(v);
}

static unsigned char *npy(bool fortran, size_t *n)
{
    float *v = values(fortran);
    unsigned char *bytes = malloc(200 + sizeof *v * ROWS * COLS);
    uint16_t length = (uint16_t)sprintf(
        (char *)bytes + 10, "{'descr': '<f4', 'fortran_order': %s, 'shape': (%d, %d), }\n",
        fortran ? "True" : "False", ROWS, COLS);

    memcpy(bytes, "\x93NUMPY\1\0", 8);
    memcpy(bytes + 8, &length, 2);
    memcpy(bytes + 10 + length, v, sizeof *v * ROWS * COLS);
    *n = 10 + length + sizeof *v * ROWS * COLS;
    free(v);
    return bytes;
}

/* 0: safetensors; 1, 2: .npy; 3 to 6: .npz stored and deflated. Even ones of numpy: Fortran order.
 */
enum { N_FORMS = 7 };
static struct memory_file form(int i)
{
    struct memory_file m = memory_file();
    unsigned char *bytes;
    size_t n;

    if (i == 0) {
        add_safetensors(&m);
        return m;
    }
    bytes = npy(i % 2 == 0, &n);
    if (i < 3)
        add(&m, bytes, n);
    else
        add_zip(&m, "array.npy", bytes, n, i > 4);
    free(bytes);
    return m;
}

START_TEST(values_of_many_strips)
{
    struct memory_file m = form(_i);
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};
    float *got = malloc(sizeof *got * ROWS * COLS);
    size_t wrong = 0;

    ck_assert_msg(test_open_weights(&ts, m.path, &err) == SAE_OK, "%s", err.text);
    ck_assert_str_eq(sae_load_tensor(ts, 0)->name, "array");
    for (int transpose = 0; transpose < 2; transpose++) {
        ck_assert_msg(sae_load_read(ts, 0, got, transpose, &err) == SAE_OK, "%s", err.text);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t c = 0; c < COLS; c++)
                wrong += got[transpose ? c * ROWS + r : r * COLS + c] != value(r, c);
        ck_assert_uint_eq(wrong, 0);
    }
    sae_load_close(ts);
    free(got);
    close(m.fd);
}
END_TEST

START_TEST(a_file_that_shrinks_is_an_error)
{
    struct memory_file m = form(_i);
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};
    float *got = malloc(sizeof *got * ROWS * COLS);

    ck_assert_int_eq(test_open_weights(&ts, m.path, NULL), SAE_OK);
    ck_assert_int_eq(ftruncate(m.fd, (off_t)m.n / 2), 0);
    ck_assert_int_eq(sae_load_read(ts, 0, got, true, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "cannot read tensor array: file: it ends at offset") != NULL,
                  "%s", err.text);
    sae_load_close(ts);
    free(got);
    close(m.fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("readers");
    TCase *t = tcase_create("readers");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_header_has_at_most_16_mb, 0, 2);
    tcase_add_loop_test(t, a_header_has_at_most_100000_entries, 0, 2);
    tcase_add_loop_test(t, values_of_many_strips, 0, N_FORMS);
    tcase_add_loop_test(t, a_file_that_shrinks_is_an_error, 0, N_FORMS);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
