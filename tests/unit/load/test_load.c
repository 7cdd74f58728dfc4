/* test_load.c - opening weights files: what is no file, sweeps over bytes, memory running out. */
#include "lib/load/load.h"
#include "lib/num.h"
#include "tests/support/weights.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

/* ---- helpers ------------------------------------------------------------------------------ */

static unsigned char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    unsigned char *p;

    ck_assert_msg(f != NULL, "%s", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    p = malloc(*n);
    ck_assert_uint_eq(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

/* A file in memory, and a path that opens it anew. */
struct memory_file {
    int fd;
    char path[40];
};

static struct memory_file memory_file(const void *bytes, size_t n)
{
    struct memory_file m = {.fd = memfd_create("pt", MFD_CLOEXEC)};

    ck_assert_int_ge(m.fd, 0);
    ck_assert_int_eq(write(m.fd, bytes, n), (ssize_t)n);
    snprintf(m.path, sizeof m.path, "/proc/self/fd/%d", m.fd);
    return m;
}

/* All that a file says, as one string of bytes: names, dtypes, shapes, values as f32. */
struct sum {
    size_t n;
    unsigned char bytes[16384];
};

static void sum_add(struct sum *s, const void *p, size_t n)
{
    ck_assert_uint_le(n, sizeof s->bytes - s->n);
    memcpy(s->bytes + s->n, p, n);
    s->n += n;
}

/* Open, read all and close. Shapes beyond what the small files here can hold are not read. */
static enum sae_status sum_of(const char *path, struct sum *s, struct sae_err *err)
{
    struct sae_tensors *ts = NULL;
    enum sae_status st = test_open_weights(&ts, path, err);

    s->n = 0;
    if (st != SAE_OK)
        ck_assert_ptr_null(ts);
    for (size_t i = 0; st == SAE_OK && i < sae_load_count(ts); i++) {
        const struct sae_tensor *t = sae_load_tensor(ts, i);
        float *dst;
        size_t n = 1;

        ck_assert_uint_le(t->ndim, SAE_MAX_DIMS);
        for (unsigned k = 0; k < t->ndim; k++)
            if (__builtin_mul_overflow(n, t->shape[k], &n))
                n = SIZE_MAX;
        sum_add(s, t, sizeof *t);
        if (!sae_dtype_is_floating(t->dtype) || t->ndim < 1 || t->ndim > 2 || n > 100000)
            continue;
        dst = malloc(n ? n * sizeof *dst : 1); /* exactly, so that a write past it is seen */
        st = sae_load_read(ts, i, dst, i % 2, err);
        if (st == SAE_OK && n <= 1000)
            sum_add(s, dst, n * sizeof *dst);
        free(dst);
    }
    sae_load_close(ts);
    return st;
}

static bool same(const struct sum *a, const struct sum *b)
{
    return a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0;
}

static int open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* ---- what is not a weights file ----------------------------------------------------------- */

START_TEST(what_is_no_regular_file_is_refused_at_once)
{
    char dir[] = "/tmp/saed-load-XXXXXX", path[64], loop[64];
    struct {
        const char *path, *fragment;
    } rows[] = {
        {dir, "a directory"},
        {path, "a FIFO"},
        {"/dev/zero", "a character device"},
        {loop, "symbolic links"},
        {"/nonexistent/w.pt", "No such file"},
        {"", "No such file"},
    };

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/fifo", dir);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    snprintf(loop, sizeof loop, "%s/loop", dir);
    ck_assert_int_eq(symlink("loop", loop), 0);
    for (size_t i = 0; i < SAE_COUNTOF(rows); i++) {
        struct sae_tensors *ts = NULL;
        struct sae_err err = {0};

        ck_assert_int_eq(test_open_weights(&ts, rows[i].path, &err), SAE_E_IO);
        ck_assert_ptr_null(ts);
        ck_assert_msg(strstr(err.text, rows[i].fragment), "%s", err.text);
    }
    unlink(path);
    unlink(loop);
    rmdir(dir);
}
END_TEST

START_TEST(an_index_out_of_range_is_refused)
{
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};
    float one[1];

    ck_assert_int_eq(test_open_weights(&ts, "tests/golden/pt/buffer.pt", &err), SAE_OK);
    ck_assert_ptr_null(sae_load_tensor(ts, 1));
    ck_assert_int_eq(sae_load_read(ts, 1, one, false, &err), SAE_E_USAGE);
    sae_load_close(ts);
    sae_load_close(NULL);
}
END_TEST

/* What group sizes and counters are read with. */
START_TEST(integers_of_one_dimension)
{
    static const int32_t values[] = {2, -2, 3};
    static const char header[] =
        "{\"n\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[0,12]},"
        "\"far\":{\"dtype\":\"U64\",\"shape\":[2],\"data_offsets\":[12,28]},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[28,32]}}";
    uint64_t length = sizeof header - 1, far[] = {1, UINT64_MAX};
    unsigned char bytes[8 + sizeof header - 1 + 32] = {0};
    struct sae_tensors *ts = NULL;
    struct memory_file m;
    int64_t got[3] = {0};

    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, values, sizeof values);
    memcpy(bytes + 8 + length + 12, far, sizeof far);
    m = memory_file(bytes, sizeof bytes);
    ck_assert_int_eq(test_open_weights(&ts, m.path, NULL), SAE_OK);
    ck_assert_int_eq(sae_load_integers(ts, 0, got, 3, NULL), SAE_OK);
    ck_assert(got[0] == 2 && got[1] == -2 && got[2] == 3);
    for (size_t i = 0; i < 5; i++) {
        static const struct {
            size_t tensor, n;
            const char *says;
        } bad[] = {{0, 2, "2 integers are wanted"},
                   {0, 4, "4 integers are wanted"},
                   {1, 2, "its value at [1] is 18446744073709551615"},
                   {2, 1, "its dtype is float32, an integer is wanted"},
                   {3, 1, "the file has 3"}};
        struct sae_err err = {0};

        ck_assert_int_ne(sae_load_integers(ts, bad[i].tensor, got, bad[i].n, &err), SAE_OK);
        ck_assert_msg(strstr(err.text, bad[i].says) != NULL, "%s", err.text);
    }
    sae_load_close(ts);
    close(m.fd);
}
END_TEST

START_TEST(the_file_is_open_only_in_between)
{
    struct sae_tensors *ts = NULL;
    int before = open_files();

    ck_assert_int_eq(test_open_weights(&ts, "tests/golden/pt/shared.pt", NULL), SAE_OK);
    ck_assert_int_eq(open_files(), before + 1);
    sae_load_close(ts);
    ck_assert_int_eq(open_files(), before);
    ck_assert_int_ne(test_open_weights(&ts, "tests/invalid/pt/zip-gap/input.pt", NULL), SAE_OK);
    ck_assert_int_eq(open_files(), before);
}
END_TEST

/* Cut, overwritten or removed between open and read: an error or the old values. */
START_TEST(a_file_that_changes_after_open)
{
    size_t n;
    unsigned char *bytes = slurp("tests/golden/pt/buffer.pt", &n);
    struct memory_file m = memory_file(bytes, n);
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};
    float dst[6];

    ck_assert_int_eq(test_open_weights(&ts, m.path, &err), SAE_OK);
    ck_assert_int_eq(ftruncate(m.fd, 100), 0);
    ck_assert_int_eq(sae_load_read(ts, 0, dst, false, &err), SAE_E_IO);
    ck_assert_int_eq(pwrite(m.fd, bytes, n, 0), (ssize_t)n);
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_load_read(ts, 0, dst, false, &err), SAE_OK);
    memset(bytes + 100, 0x33, n - 100);
    ck_assert_int_eq(pwrite(m.fd, bytes, n, 0), (ssize_t)n);
    ck_assert_int_eq(sae_load_read(ts, 0, dst, false, &err), SAE_E_FORMAT);
    sae_load_close(ts);
    close(m.fd);
    free(bytes);
}
END_TEST

/* ---- sweeps ------------------------------------------------------------------------------- */

static const char *const swept[] = {"tests/golden/pt/buffer.pt",
                                    "tests/golden/pt/parameter.pt",
                                    "tests/golden/pt/autoencoder.pt",
                                    "tests/golden/pt/newer.pt",
                                    "tests/golden/pt/wrapped_loop.pt",
                                    "tests/golden/containers/stored.npz",
                                    "tests/golden/containers/deflated.npz",
                                    "tests/golden/containers/plain.safetensors",
                                    "tests/golden/containers/metadata.safetensors",
                                    "tests/golden/containers/fortran.npy",
                                    "tests/golden/containers/version_3.npy"};
enum { FIRST_PT, FIRST_NPZ = 5, FIRST_WITHOUT_CRC = 7 };

START_TEST(every_prefix_is_an_error)
{
    size_t n;
    unsigned char *bytes = slurp(swept[_i], &n);
    struct memory_file m = memory_file(bytes, n);
    struct sum s;

    ck_assert_int_eq(sum_of(m.path, &s, NULL), SAE_OK);
    while (n-- > 0) {
        struct sae_err err = {0};

        ck_assert_int_eq(ftruncate(m.fd, (off_t)n), 0);
        ck_assert_int_eq(sum_of(m.path, &s, &err), SAE_E_FORMAT);
    }
    close(m.fd);
    free(bytes);
}
END_TEST

/* Any bit of the whole file flipped, CRCs left alone: an error or the same tensors. */
START_TEST(every_changed_bit_is_an_error_or_harmless)
{
    size_t n;
    unsigned char *bytes = slurp(swept[_i], &n);
    struct memory_file m = memory_file(bytes, n);
    struct sum want, got;

    ck_assert_int_eq(sum_of(m.path, &want, NULL), SAE_OK);
    for (size_t at = 0; at < n; at++)
        for (int bit = 0; bit < 8; bit++) {
            unsigned char c = (unsigned char)(bytes[at] ^ 1 << bit);
            struct sae_err err = {0};
            enum sae_status st;

            ck_assert_int_eq(pwrite(m.fd, &c, 1, (off_t)at), 1);
            st = sum_of(m.path, &got, &err);
            ck_assert_msg(st == SAE_OK ? same(&want, &got) : st == SAE_E_FORMAT,
                          "byte %zu, bit %d: status %d %s", at, bit, st, err.text);
            ck_assert_int_eq(pwrite(m.fd, bytes + at, 1, (off_t)at), 1);
        }
    close(m.fd);
    free(bytes);
}
END_TEST

/* Without CRCs a changed byte may give other names, shapes and values, but never more than there
 * is: what is read is written to memory of exactly its size. */
START_TEST(every_changed_byte_is_an_error_or_read)
{
    size_t n;
    unsigned char *bytes = slurp(swept[_i], &n);
    struct memory_file m = memory_file(bytes, n);
    struct sum s;

    for (size_t at = 0; at < n; at++)
        for (int k = 0; k < 255; k += at < 200 ? 1 : 50) { /* all of a header's beginning */
            unsigned char c = (unsigned char)(bytes[at] + 1 + k);
            struct sae_err err = {0};
            enum sae_status st;

            ck_assert_int_eq(pwrite(m.fd, &c, 1, (off_t)at), 1);
            st = sum_of(m.path, &s, &err);
            ck_assert_msg(st == SAE_OK || st == SAE_E_FORMAT || st == SAE_E_WEIGHTS,
                          "byte %zu, %02x: status %d %s", at, c, st, err.text);
            ck_assert_int_eq(pwrite(m.fd, bytes + at, 1, (off_t)at), 1);
        }
    close(m.fd);
    free(bytes);
}
END_TEST

/* Where data.pkl and the two copies of its CRC are, in archives as torch lays them out. */
struct pickle_place {
    size_t data, n, crc_central, crc_descriptor;
};

static struct pickle_place find_pickle(const unsigned char *b, size_t n)
{
    struct pickle_place p = {0};

    for (size_t i = 0; i + 46 < n; i++) {
        if (memcmp(b + i, "PK\1\2", 4) != 0)
            continue;
        size_t len = sae_le16(b + i + 28), local = sae_le32(b + i + 42);

        if (len < 8 || memcmp(b + i + 46 + len - 8, "data.pkl", 8) != 0)
            continue;
        p.n = sae_le32(b + i + 20);
        p.crc_central = i + 16;
        p.data = local + 30 + sae_le16(b + local + 26) + sae_le16(b + local + 28);
        p.crc_descriptor = p.data + p.n + 4;
    }
    ck_assert_uint_gt(p.n, 0);
    return p;
}

/* Every byte of the pickle set to other values, its CRC made right, so that the machine and the
 * checks behind it are reached: an error, or tensors that lie within the file. A change that only
 * renames or reshapes cannot be told from a file that was meant so; nothing else may differ. */
START_TEST(every_changed_byte_of_the_pickle)
{
    static const unsigned char flips[] = {0x01, 0x08, 0x20, 0x80};
    static const unsigned char sets[] = {0xff, '.'};
    size_t n, loaded = 0, refused = 0;
    unsigned char *bytes = slurp(swept[_i], &n), *copy = malloc(n);
    struct pickle_place p = find_pickle(bytes, n);
    struct memory_file m = memory_file(bytes, n);
    struct sum want, got;

    ck_assert_int_eq(sum_of(m.path, &want, NULL), SAE_OK);
    for (size_t at = p.data; at < p.data + p.n; at++)
        for (size_t k = 0; k < 4 + sizeof sets; k++) {
            struct sae_err err = {0};
            enum sae_status st;
            uint32_t crc;

            memcpy(copy, bytes, n);
            copy[at] = k < 4 ? bytes[at] ^ flips[k] : sets[k - 4];
            crc = (uint32_t)crc32(0, copy + p.data, (uInt)p.n);
            memcpy(copy + p.crc_central, &crc, 4);
            memcpy(copy + p.crc_descriptor, &crc, 4);
            ck_assert_int_eq(pwrite(m.fd, copy, n, 0), (ssize_t)n);
            st = sum_of(m.path, &got, &err);
            ck_assert_msg(st == SAE_OK || st == SAE_E_FORMAT || st == SAE_E_WEIGHTS,
                          "byte %zu: status %d %s", at, st, err.text);
            st == SAE_OK ? loaded++ : refused++;
        }
    ck_assert_uint_gt(refused, 2 * loaded);
    close(m.fd);
    free(copy);
    free(bytes);
}
END_TEST

/* ---- memory and speed --------------------------------------------------------------------- */

static const char *const fault_files[] = {
    "tests/golden/pt/strides.pt",
    "tests/golden/pt/wrapped.pt",
    "tests/golden/pt/dtypes.pt",
    "tests/golden/pt/facts.pt",
    "tests/golden/containers/metadata.safetensors",
    "tests/golden/containers/deflated.npz",
    "tests/golden/containers/kinds.safetensors",
    "tests/golden/containers/double.npy",
};

START_TEST(every_allocation_may_fail)
{
    static struct sum want, got;
    int before = open_files();

    ck_assert_int_eq(sum_of(fault_files[_i], &want, NULL), SAE_OK);
    for (int persistent = 0; persistent < 2; persistent++)
        for (long k = 0;; k++) {
            struct sae_err err = {0};
            enum sae_status st;

            sae_alloc_fault(k, persistent);
            st = sum_of(fault_files[_i], &got, &err);
            sae_alloc_fault(-1, false);
            ck_assert_int_eq(open_files(), before);
            if (st == SAE_OK) {
                ck_assert(same(&want, &got));
                break;
            }
            ck_assert_int_eq(st, SAE_E_NOMEM);
            ck_assert_int_eq(strncmp(err.text, "cannot ", 7), 0);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("load");
    TCase *t = tcase_create("load");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 120);
    tcase_add_test(t, what_is_no_regular_file_is_refused_at_once);
    tcase_add_test(t, an_index_out_of_range_is_refused);
    tcase_add_test(t, integers_of_one_dimension);
    tcase_add_test(t, the_file_is_open_only_in_between);
    tcase_add_test(t, a_file_that_changes_after_open);
    tcase_add_loop_test(t, every_prefix_is_an_error, 0, SAE_COUNTOF(swept));
    tcase_add_loop_test(t, every_changed_bit_is_an_error_or_harmless, 0, 2);
    tcase_add_loop_test(t, every_changed_bit_is_an_error_or_harmless, FIRST_NPZ, FIRST_WITHOUT_CRC);
    tcase_add_loop_test(t, every_changed_byte_is_an_error_or_read, FIRST_WITHOUT_CRC,
                        SAE_COUNTOF(swept));
    tcase_add_loop_test(t, every_changed_byte_of_the_pickle, FIRST_PT, FIRST_NPZ);
    tcase_add_loop_test(t, every_allocation_may_fail, 0, SAE_COUNTOF(fault_files));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
