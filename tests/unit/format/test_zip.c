/* test_zip.c - strict zip reading: what is listed, and what one changed field does.
 *
 * Whole faulty archives are in tests/invalid/pt (zip-*); here the API and the sweep over bytes. */
#include "lib/format/zip.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const good[] = {"tests/golden/pt/newer.pt", "tests/golden/pt/zip64.pt",
                                   "tests/golden/pt/rezipped.pt", "tests/golden/pt/buffer.pt"};

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

static int memory_file(const void *bytes, size_t n)
{
    int fd = memfd_create("zip", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
    return fd;
}

START_TEST(lists_and_reads_entries)
{
    size_t n;
    unsigned char *bytes = slurp(good[_i], &n), *p;
    int fd = memory_file(bytes, n);
    struct sae_zip *z = NULL;
    struct sae_err err = {0};

    ck_assert_msg(sae_zip_open(&z, fd, n, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_ge(sae_zip_count(z), 3);
    for (size_t i = 0; i < sae_zip_count(z); i++) {
        const struct sae_zip_entry *e = sae_zip_entry(z, i);

        ck_assert_ptr_eq(sae_zip_find(z, e->name), e);
        ck_assert_int_eq(e->method, SAE_ZIP_STORED);
        ck_assert_uint_le(e->data + e->bytes, n);
        ck_assert_msg(sae_zip_slurp(z, e, 10000, &p, &err) == SAE_OK, "%s", err.text);
        ck_assert_int_eq(memcmp(p, bytes + e->data, e->bytes), 0);
        sae_free(p);
    }
    ck_assert_ptr_null(sae_zip_find(z, "new/data"));
    ck_assert_int_eq(sae_zip_slurp(z, sae_zip_entry(z, 0), 3, &p, &err), SAE_E_FORMAT);
    sae_zip_close(z);
    close(fd);
    free(bytes);
}
END_TEST

START_TEST(a_stream_checks_its_end)
{
    size_t n;
    unsigned char *bytes = slurp(good[0], &n), out[64];
    int fd = memory_file(bytes, n);
    struct sae_zip *z = NULL;
    struct sae_zip_stream s;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_zip_open(&z, fd, n, &err), SAE_OK);
    const struct sae_zip_entry *e = sae_zip_find(z, "new/data/0");
    ck_assert_uint_eq(e->bytes, 24);
    sae_zip_stream_init(&s, z, e);
    ck_assert_int_eq(sae_zip_stream_read(&s, out, 10, &err), SAE_OK);
    ck_assert_int_eq(sae_zip_stream_read(&s, out + 10, 14, &err), SAE_OK);
    ck_assert_int_eq(memcmp(out, bytes + e->data, 24), 0);
    ck_assert_int_eq(sae_zip_stream_read(&s, out, 1, &err), SAE_E_FORMAT);

    /* The same, its first byte changed behind our back after the archive was opened. */
    err = (struct sae_err){0};
    ck_assert_int_eq(pwrite(fd, "\x55", 1, (off_t)e->data), 1);
    sae_zip_stream_init(&s, z, e);
    ck_assert_int_eq(sae_zip_stream_read(&s, out, 10, &err), SAE_OK);
    ck_assert_int_eq(sae_zip_stream_read(&s, out + 10, 14, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "CRC"));

    /* And the file cut short. */
    err = (struct sae_err){0};
    ck_assert_int_eq(ftruncate(fd, (off_t)e->data + 4), 0);
    sae_zip_stream_init(&s, z, e);
    ck_assert_int_eq(sae_zip_stream_read(&s, out, 24, &err), SAE_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "it ends at offset"));
    sae_zip_close(z);
    close(fd);
    free(bytes);
}
END_TEST

/* Every byte of the archive that is no entry's data, changed in four ways: refused, or the same
 * entries with the same bytes. */
START_TEST(a_changed_header_byte_is_refused_or_harmless)
{
    static const unsigned char flips[] = {0x01, 0x08, 0x80, 0xff};
    size_t n, refused = 0;
    unsigned char *bytes = slurp(good[_i], &n);
    int fd = memory_file(bytes, n), fd0 = memory_file(bytes, n);
    struct sae_zip *want = NULL;

    ck_assert_int_eq(sae_zip_open(&want, fd0, n, NULL), SAE_OK);
    for (size_t at = 0; at < n; at++)
        for (size_t k = 0; k < sizeof flips; k++) {
            unsigned char c = bytes[at] ^ flips[k];
            struct sae_zip *z = NULL;
            struct sae_err err = {0};

            ck_assert_int_eq(pwrite(fd, &c, 1, (off_t)at), 1);
            if (sae_zip_open(&z, fd, n, &err) == SAE_OK) {
                ck_assert_uint_eq(sae_zip_count(z), sae_zip_count(want));
                for (size_t i = 0; i < sae_zip_count(z); i++) {
                    const struct sae_zip_entry *a = sae_zip_entry(z, i);
                    const struct sae_zip_entry *b = sae_zip_entry(want, i);

                    ck_assert_str_eq(a->name, b->name);
                    ck_assert(a->data == b->data && a->bytes == b->bytes);
                    ck_assert(a->crc == b->crc && a->method == b->method);
                }
                sae_zip_close(z);
            } else {
                ck_assert_int_eq(err.status, SAE_E_FORMAT);
                ck_assert_ptr_null(z);
                refused++;
            }
            ck_assert_int_eq(pwrite(fd, bytes + at, 1, (off_t)at), 1);
        }
    ck_assert_uint_gt(refused, 4 * 100);
    sae_zip_close(want);
    close(fd);
    close(fd0);
    free(bytes);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    size_t n;
    unsigned char *bytes = slurp(good[0], &n);
    int fd = memory_file(bytes, n);

    for (long k = 0;; k++) {
        struct sae_zip *z = NULL;
        struct sae_err err = {0};
        enum sae_status st;

        sae_alloc_fault(k, false);
        st = sae_zip_open(&z, fd, n, &err);
        sae_alloc_fault(-1, false);
        if (st == SAE_OK) {
            sae_zip_close(z);
            ck_assert_int_gt(k, 4);
            break;
        }
        ck_assert_int_eq(st, SAE_E_NOMEM);
        ck_assert_ptr_null(z);
    }
    close(fd);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("zip");
    TCase *t = tcase_create("zip");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, lists_and_reads_entries, 0, 4);
    tcase_add_test(t, a_stream_checks_its_end);
    tcase_add_loop_test(t, a_changed_header_byte_is_refused_or_harmless, 0, 4);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
