/* test_draft.c - sources opened and then loaded: what the first step says holds for the second. */
#include "lib/dict/dict.h"
#include "lib/saed.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const sources[] = {
    "identity:7",
    "identity:2147483647",
    "init:AutoEncoder:7:33:l0=3",
    "init:GatedAutoEncoder:7:33",
    "init:JumpAutoEncoder:16:64",
    "init:AutoEncoderNew:3:5",
    "tests/golden/data/jump_7x5_f32.pt",
    "tests/golden/data/jump_16x48_f16.pt",
};

/* But for the norms, which the values give. */
START_TEST(a_draft_says_what_the_dictionary_is)
{
    struct sae_dict_info was;
    const struct sae_dict_info *is;
    struct sae_draft *t = NULL;
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_msg(sae_draft_open(&t, sources[_i], &err) == SAE_OK, "%s", err.text);
    was = *sae_draft_info(t);
    ck_assert(was.norm_min == 0 && was.norm_median == 0 && was.norm_max == 0);
    ck_assert_int_eq(sae_draft_stamp(t) == 0, strchr(sources[_i], ':') != NULL);
    ck_assert_msg(sae_draft_load(&d, t, NULL, &err) == SAE_OK, "%s", err.text);
    sae_draft_close(t);
    is = sae_dict_info(d);
    was.norm_min = is->norm_min;
    was.norm_median = is->norm_median;
    was.norm_max = is->norm_max;
    ck_assert_str_eq(was.class_name, is->class_name);
    ck_assert_str_eq(was.dtype, is->dtype);
    ck_assert_uint_eq(was.activation_dim, is->activation_dim);
    ck_assert_uint_eq(was.dict_size, is->dict_size);
    ck_assert_uint_eq(was.bytes, is->bytes);
    ck_assert_uint_eq(was.resident_bytes, is->resident_bytes);
    ck_assert_uint_eq(was.options, is->options);
    ck_assert_int_eq(was.scales_forward_f, is->scales_forward_f);
    ck_assert(was.aux_name == is->aux_name);
    ck_assert_uint_eq(was.n_notes, is->n_notes);
    ck_assert_int_eq(memcmp(was.notes, is->notes, sizeof was.notes), 0);
    sae_dict_free(d);
}
END_TEST

static void copy(const char *from, const char *to)
{
    char command[256];

    snprintf(command, sizeof command, "cp %s %s", from, to);
    ck_assert_int_eq(system(command), 0);
}

static uint64_t stamp(const char *path)
{
    struct sae_draft *t = NULL;
    struct sae_err err = {0};
    uint64_t s;

    ck_assert_msg(sae_draft_open(&t, path, &err) == SAE_OK, "%s", err.text);
    s = sae_draft_stamp(t);
    sae_draft_close(t);
    return s;
}

START_TEST(another_file_has_another_stamp)
{
    char dir[] = "/tmp/saed-test-XXXXXX", path[64], other[64];
    uint64_t first, next;
    struct timespec at[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/w.pt", dir);
    snprintf(other, sizeof other, "%s/o.pt", dir);
    copy("tests/golden/data/jump_7x5_f32.pt", path);
    first = stamp(path);
    ck_assert_uint_eq(stamp(path), first);
    ck_assert_int_eq(utimensat(AT_FDCWD, path, at, 0), 0); /* written to */
    next = stamp(path);
    ck_assert_uint_ne(next, first);
    copy(path, other); /* replaced by one of the same bytes and time */
    ck_assert_int_eq(utimensat(AT_FDCWD, other, at, 0), 0);
    ck_assert_int_eq(rename(other, path), 0);
    ck_assert_uint_ne(stamp(path), next);
    unlink(path);
    rmdir(dir);
}
END_TEST

static void put(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, n, f), n);
    fclose(f);
}

/* sparsify's folder: the k is in the config, the weights are as they were. */
START_TEST(another_reading_has_another_stamp)
{
    static const char header[] =
        "{\"encoder.weight\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[0,24]},"
        "\"encoder.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[24,36]},"
        "\"W_dec\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[36,60]},"
        "\"b_dec\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[60,68]}}";
    char dir[] = "/tmp/saed-test-XXXXXX", weights[64], config[64], file[8 + sizeof header - 1 + 68];
    uint64_t n = sizeof header - 1, first;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(weights, sizeof weights, "%s/sae.safetensors", dir);
    snprintf(config, sizeof config, "%s/cfg.json", dir);
    memset(file, 0, sizeof file);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    put(weights, file, sizeof file);
    put(config, "{\"k\": 2}", 8);
    first = stamp(dir);
    ck_assert_uint_eq(stamp(dir), first);
    put(config, "{\"k\": 1}", 8);
    ck_assert_uint_ne(stamp(dir), first);
    unlink(config);
    unlink(weights);
    rmdir(dir);
}
END_TEST

/* The file of an open draft may go: it is read all the same. */
START_TEST(an_open_draft_holds_its_file)
{
    char dir[] = "/tmp/saed-test-XXXXXX", path[64];
    struct sae_draft *t = NULL;
    struct sae_dict *d = NULL;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/w.pt", dir);
    copy("tests/golden/data/jump_7x5_f32.pt", path);
    ck_assert_int_eq(sae_draft_open(&t, path, NULL), SAE_OK);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(sae_draft_load(&d, t, NULL, NULL), SAE_OK);
    sae_draft_close(t);
    ck_assert_uint_eq(d->formula.d_in, 7);
    sae_dict_free(d);
    rmdir(dir);
}
END_TEST

static long resident_bytes(void)
{
    long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    ck_assert(f && fscanf(f, "%ld %ld", &size, &resident) == 2);
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

/* What is told before is what is taken then, by the tensors and by the engine, within 2 %. */
START_TEST(what_it_takes_is_told_before)
{
    static const char *const isas[] = {"scalar", NULL};
    struct sae_engine *e = NULL;
    struct sae_draft *t = NULL;
    struct sae_dict *d = NULL;
    long before, between, after;
    double told, prepared;

    if (SANITIZED) {
        printf("SKIP: memory of a sanitized build says nothing\n");
        return;
    }
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_NATIVE, isas[_i], NULL), SAE_OK);
    ck_assert_int_eq(sae_draft_open(&t, "init:GatedAutoEncoder:770:16390", NULL), SAE_OK);
    told = (double)sae_draft_info(t)->resident_bytes;
    prepared = (double)sae_engine_prepared_bytes(e, sae_draft_info(t));
    before = resident_bytes();
    ck_assert_int_eq(sae_draft_load(&d, t, NULL, NULL), SAE_OK);
    between = resident_bytes();
    ck_assert_int_eq(sae_engine_prepare(e, d, NULL, NULL), SAE_OK);
    after = resident_bytes();
    /* Matrices are rounded up to 2 MB. */
    ck_assert_double_gt((double)(between - before), 0.98 * told);
    ck_assert_double_lt((double)(between - before), 1.02 * told + 4e6);
    ck_assert_double_gt((double)(after - between), 0.98 * prepared);
    ck_assert_double_lt((double)(after - between), 1.02 * prepared + 2e6);
    sae_draft_close(t);
    sae_dict_free(d);
    sae_engine_free(e);
}
END_TEST

/* No plane, no room for one. */
START_TEST(what_has_no_plane_takes_nothing_beside)
{
    static const char *const plain[] = {"identity:100", "init:AutoEncoder:65537:2"};
    struct sae_engine *e = NULL;
    struct sae_draft *t = NULL;

    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_NATIVE, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_draft_open(&t, plain[_i], NULL), SAE_OK);
    ck_assert_uint_lt(sae_engine_prepared_bytes(e, sae_draft_info(t)), 1000);
    sae_draft_close(t);
    sae_engine_free(e);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("draft");
    TCase *t = tcase_create("draft");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, a_draft_says_what_the_dictionary_is, 0, (int)SAE_COUNTOF(sources));
    tcase_add_test(t, another_file_has_another_stamp);
    tcase_add_test(t, another_reading_has_another_stamp);
    tcase_add_test(t, an_open_draft_holds_its_file);
    tcase_add_loop_test(t, what_it_takes_is_told_before, 0, 2);
    tcase_add_loop_test(t, what_has_no_plane_takes_nothing_beside, 0, 2);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
