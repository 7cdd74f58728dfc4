/* test_invalid_files.c - every file of tests/invalid/pt and tests/invalid/weights is refused with
 * the message it expects.
 *
 * A case is a folder with input.pt, or input, and `error`: fragments, one a line, that `where` and
 * text must contain between them. A file that opens must be refused when its tensors are read. */
#include "lib/load/load.h"
#include "tests/support/weights.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *dir, *input;
} kinds[] = {{"tests/invalid/pt", "input.pt"}, {"tests/invalid/weights", "input"}};
static struct {
    int kind;
    char folder[96];
} cases[500];
static int n_cases;

static void find_cases(int kind)
{
    DIR *d = opendir(kinds[kind].dir);
    struct dirent *e;

    while (d && n_cases < 500 && (e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        cases[n_cases].kind = kind;
        snprintf(cases[n_cases++].folder, sizeof cases[0].folder, "%s/%.60s", kinds[kind].dir,
                 e->d_name);
    }
    if (d)
        closedir(d);
}

/* Ask for every entry of the chosen group as a tensor. */
static enum sae_status find_all(const struct sae_tensors *ts, struct sae_err *err)
{
    const struct sae_group *g = sae_load_group(ts, test_weights_group(ts));
    enum sae_status st = SAE_OK;
    size_t at;

    for (size_t i = 0; i < g->n && st == SAE_OK; i++)
        st = sae_load_find(ts, g->entries[i].name, &at, err);
    return st;
}

static enum sae_status read_all(struct sae_tensors *ts, struct sae_err *err)
{
    enum sae_status st = find_all(ts, err);

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

    snprintf(path, sizeof path, "%s/%s", cases[_i].folder, kinds[cases[_i].kind].input);
    st = test_open_weights(&ts, path, &err);
    if (st == SAE_OK)
        st = read_all(ts, &err);
    else
        ck_assert_ptr_null(ts);
    sae_load_close(ts);
    ck_assert_msg(st == SAE_E_FORMAT || st == SAE_E_WEIGHTS, "%s: status %d (%s)", cases[_i].folder,
                  st, err.text);
    ck_assert_int_eq(err.status, st);
    ck_assert_msg(err.where[0] != '\0', "%s: no place in: %s", cases[_i].folder, err.text);
    ck_assert_msg(strncmp(err.text, "cannot ", 7) == 0, "%s: %s", cases[_i].folder, err.text);
    snprintf(said, sizeof said, "%s: %s", err.where, err.text);
    snprintf(path, sizeof path, "%s/error", cases[_i].folder);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    for (; fgets(line, sizeof line, f); n++) {
        line[strcspn(line, "\n")] = '\0';
        ck_assert_msg(strstr(said, line) != NULL, "%s: \"%s\" is not in: %s", cases[_i].folder,
                      line, said);
    }
    fclose(f);
    ck_assert_int_gt(n, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("invalid_files");
    TCase *t = tcase_create("files");
    SRunner *r = srunner_create(s);

    for (int i = 0; i < (int)SAE_COUNTOF(kinds); i++)
        find_cases(i);
    tcase_add_loop_test(t, is_refused_with_its_message, 0, n_cases);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    if (n_cases < 250)
        printf("%d files, at least 250 are wanted (tests run from the repository's root)\n",
               n_cases);
    return failed || n_cases < 250 ? 1 : 0;
}
