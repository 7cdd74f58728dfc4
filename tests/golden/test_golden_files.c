/* test_golden_files.c - what PyTorch, numpy and safetensors wrote is read back: each file of
 * tests/golden/pt and tests/golden/containers against the .want beside it.
 *
 * The .want files are written by make_pt.py, which describes them, and make_containers.py. Every
 * tensor is read in both orientations, and twice, since reading must leave nothing behind. */
#include "lib/load/load.h"
#include "lib/num.h"
#include "tests/support/weights.h"

#include <check.h>
#include <inttypes.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const dirs[] = {"tests/golden/pt", "tests/golden/containers"};
static char paths[128][96]; /* of the weights */
static int n_paths;

static void find_paths(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && n_paths < 128 && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' && !strstr(e->d_name, ".want"))
            snprintf(paths[n_paths++], sizeof paths[0], "%s/%.60s", dir, e->d_name);
    if (d)
        closedir(d);
}

/* Both orientations of tensor i against rows x cols values. */
static void check_values(struct sae_tensors *ts, size_t i, const uint32_t *want, size_t rows,
                         size_t cols)
{
    const char *name = sae_load_tensor(ts, i)->name;
    float *got = malloc((rows * cols + 1) * sizeof *got);

    for (int turn = 0; turn < 4; turn++) {
        bool transpose = turn & 1;
        struct sae_err err = {0};

        got[rows * cols] = 77.0f;
        ck_assert_msg(sae_load_read(ts, i, got, transpose, &err) == SAE_OK, "%s", err.text);
        ck_assert(got[rows * cols] == 77.0f);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++) {
                uint32_t bits = sae_f32_bits(got[transpose ? c * rows + r : r * cols + c]);

                ck_assert_msg(bits == want[r * cols + c],
                              "%s[%zu,%zu] transposed %d: %08x, not %08x", name, r, c, transpose,
                              bits, want[r * cols + c]);
            }
    }
    free(got);
}

static bool is_read(const struct sae_tensor *t)
{
    return sae_dtype_is_floating(t->dtype) && (t->ndim == 1 || t->ndim == 2);
}

/* The value of an integer is a line, or "refused" where it is beyond int64. */
static void check_integer(struct sae_tensors *ts, size_t i, FILE *f)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);
    struct sae_err err = {0};
    int64_t got = 0;
    char text[32], want[32];

    if ((!sae_dtype_is_integer(t->dtype) && t->dtype != SAE_DTYPE_BOOL) || t->ndim > 0) {
        ck_assert_int_eq(sae_load_integer(ts, i, &got, &err), SAE_E_WEIGHTS);
        ck_assert_ptr_nonnull(strstr(err.text, t->name));
        return;
    }
    ck_assert_int_eq(fscanf(f, "%31s", want), 1);
    if (strcmp(want, "refused") == 0) {
        ck_assert_int_eq(sae_load_integer(ts, i, &got, &err), SAE_E_WEIGHTS);
        return;
    }
    ck_assert_msg(sae_load_integer(ts, i, &got, &err) == SAE_OK, "%s", err.text);
    snprintf(text, sizeof text, "%" PRId64, got);
    ck_assert_str_eq(text, want);
}

/* One tensor's lines of the .want file. */
static void check_tensor(struct sae_tensors *ts, size_t i, FILE *f)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);
    char name[160], dtype[32];
    unsigned ndim;
    size_t n = 1;

    ck_assert_int_eq(fscanf(f, "%159s %31s %u", name, dtype, &ndim), 3);
    ck_assert_str_eq(t->name, name);
    ck_assert_str_eq(t->dtype_name, dtype);
    ck_assert_uint_eq(t->ndim, ndim);
    for (unsigned k = 0; k < ndim; k++) {
        unsigned long long size;

        ck_assert_int_eq(fscanf(f, "%llu", &size), 1);
        ck_assert_uint_eq(t->shape[k], size);
        n *= size;
    }
    if (!is_read(t)) {
        struct sae_err err = {0};

        ck_assert_int_eq(sae_load_read(ts, i, NULL, false, &err), SAE_E_WEIGHTS);
        ck_assert_ptr_nonnull(strstr(err.text, t->name));
        check_integer(ts, i, f);
        return;
    }
    uint32_t *want = malloc((n + 1) * sizeof *want);
    for (size_t k = 0; k < n; k++)
        ck_assert_int_eq(fscanf(f, "%x", &want[k]), 1);
    check_values(ts, i, want, ndim == 2 ? t->shape[0] : 1, t->shape[ndim - 1]);
    free(want);
}

START_TEST(reads_what_was_written)
{
    const char *path = paths[_i], *dot = strrchr(path, '.');
    char want[128], extra[8];
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};
    FILE *f;

    ck_assert_msg(test_open_weights(&ts, path, &err) == SAE_OK, "%s: %s (%s)", path, err.text,
                  err.where);
    /* NAME.pt has NAME.want. */
    snprintf(want, sizeof want, "%.*s.want", (int)(strcmp(dot, ".pt") == 0 ? dot - path : 90),
             path);
    f = fopen(want, "r");
    ck_assert_ptr_nonnull(f);
    for (size_t i = 0; i < sae_load_count(ts); i++)
        check_tensor(ts, i, f);
    ck_assert_msg(fscanf(f, "%7s", extra) != 1, "%s has more tensors than were read", want);
    fclose(f);
    sae_load_close(ts);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("golden_files");
    TCase *t = tcase_create("files");
    SRunner *r = srunner_create(s);

    for (size_t i = 0; i < SAE_COUNTOF(dirs); i++)
        find_paths(dirs[i]);
    tcase_add_loop_test(t, reads_what_was_written, 0, n_paths);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    if (n_paths < 50)
        printf("%d files, at least 50 are wanted (tests run from the repository's root)\n",
               n_paths);
    return failed || n_paths < 50 ? 1 : 0;
}
