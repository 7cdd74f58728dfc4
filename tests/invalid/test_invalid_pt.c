/* test_invalid_pt.c - every file of tests/invalid/pt is refused with the message it expects.
 *
 * A case is a folder with input.pt and `error`: fragments, one a line, that `where` and text must
 * contain between them. A file that opens must be refused when its tensors are read. */
#include "lib/load/load.h"
#include "tests/support/weights.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char dir[] = "tests/invalid/pt";
static char names[400][64];
static int n_names;

static void find_names(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && n_names < 400 && (e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(names[n_names++], sizeof names[0], "%.60s", e->d_name);
    }
    if (d)
        closedir(d);
}

static enum sae_status read_all(struct sae_tensors *ts, struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    for (size_t i = 0; i < sae_load_count(ts) && st == SAE_OK; i++) {
        const struct sae_tensor *t = sae_load_tensor(ts, i);
        size_t n = 1;

        for (unsigned k = 0; k < t->ndim; k++)
            n *= t->shape[k];
        float *dst = malloc((n + 1) * sizeof *dst);
        st = sae_load_read(ts, i, dst, true, err);
        free(dst);
    }
    return st;
}

START_TEST(is_refused_with_its_message)
{
    char path[160], line[200], said[600];
    struct sae_tensors *ts = NULL;
    struct sae_err err = {0};
    enum sae_status st;
    int n = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/%s/input.pt", dir, names[_i]);
    st = test_open_weights(&ts, path, &err);
    if (st == SAE_OK)
        st = read_all(ts, &err);
    else
        ck_assert_ptr_null(ts);
    sae_load_close(ts);
    ck_assert_msg(st == SAE_E_FORMAT || st == SAE_E_WEIGHTS, "%s: status %d (%s)", names[_i], st,
                  err.text);
    ck_assert_int_eq(err.status, st);
    ck_assert_msg(err.where[0] != '\0', "%s: no place in: %s", names[_i], err.text);
    ck_assert_msg(strncmp(err.text, "cannot ", 7) == 0, "%s: %s", names[_i], err.text);
    snprintf(said, sizeof said, "%s: %s", err.where, err.text);
    snprintf(path, sizeof path, "%s/%s/error", dir, names[_i]);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    for (; fgets(line, sizeof line, f); n++) {
        line[strcspn(line, "\n")] = '\0';
        ck_assert_msg(strstr(said, line) != NULL, "%s: \"%s\" is not in: %s", names[_i], line,
                      said);
    }
    fclose(f);
    ck_assert_int_gt(n, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("invalid_pt");
    TCase *t = tcase_create("pt");
    SRunner *r = srunner_create(s);

    find_names();
    tcase_add_loop_test(t, is_refused_with_its_message, 0, n_names);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    if (n_names < 100)
        printf("%d files in %s, at least 100 are wanted (tests run from the repository's root)\n",
               n_names, dir);
    return failed || n_names < 100 ? 1 : 0;
}
