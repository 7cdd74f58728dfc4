/* test_invalid_safetensors.c - safetensors bodies that are refused: one directory a case in
 * tests/invalid/safetensors.
 *
 *   input    the body, byte for byte
 *   error    first line: the code; each further line stands somewhere in the detail
 *   target   optional: "OP CLASS D F" (encode AutoEncoder 4 8 unless given)
 *
 * A new case is a new line of tests/invalid/make_safetensors.py, which writes the directories. */
#include "lib/base.h"
#include "proto/wire.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "tests/invalid/safetensors"
#define MAX_CASES 256

static char *names[MAX_CASES];
static int n_names;

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_cases(void)
{
    DIR *d = opendir(ROOT);
    struct dirent *e;

    while (d && (e = readdir(d)) && n_names < MAX_CASES)
        if (e->d_name[0] != '.')
            names[n_names++] = strdup(e->d_name);
    if (d)
        closedir(d);
    qsort(names, (size_t)n_names, sizeof *names, by_name);
}

/* The file's bytes with a NUL behind, or NULL. Freed by the caller. */
static char *read_file(const char *name, const char *file, size_t *n)
{
    char path[512], *data = malloc(1 << 16);
    FILE *f;

    snprintf(path, sizeof path, ROOT "/%s/%s", name, file);
    f = fopen(path, "rb");
    if (!f || !data) {
        free(data);
        return NULL;
    }
    *n = fread(data, 1, (1 << 16) - 1, f);
    fclose(f);
    data[*n] = '\0';
    return data;
}

/* IdentityDict and AutoEncoder take the ghost mask, Gated and Jump their own options. */
static unsigned options_of(const char *class_name)
{
    unsigned bits = SAE_OPT_SPARSE | SAE_OPT_TOP_K | SAE_OPT_FEATURES | SAE_OPT_OUTPUT_FEATURES;

    if (strcmp(class_name, "GatedAutoEncoder") == 0)
        bits |= SAE_OPT_RETURN_GATE;
    if (strcmp(class_name, "JumpAutoEncoder") == 0)
        bits |= SAE_OPT_OUTPUT_PRE_JUMP;
    if (strcmp(class_name, "AutoEncoder") == 0 || strcmp(class_name, "IdentityDict") == 0)
        bits |= SAE_OPT_GHOST_MASK;
    return bits;
}

static struct sae_target read_target(const char *name, char class_name[40])
{
    struct sae_target t = {.dictionary = "sae", .class_name = class_name, .max_bytes = 1 << 24};
    char op[16] = "encode", *text;
    unsigned d = 4, F = 8;
    size_t n;

    strcpy(class_name, "AutoEncoder");
    text = read_file(name, "target", &n);
    if (text)
        ck_assert_int_eq(sscanf(text, "%15s %39s %u %u", op, class_name, &d, &F), 4);
    free(text);
    t.op = strcmp(op, "encode") == 0   ? SAE_OP_ENCODE
           : strcmp(op, "decode") == 0 ? SAE_OP_DECODE
                                       : SAE_OP_FORWARD;
    t.activation_dim = d;
    t.dict_size = F;
    t.class_options = options_of(class_name);
    return t;
}

START_TEST(body_is_refused)
{
    const char *name = names[_i];
    char class_name[40], *line, *rest;
    struct sae_target t = read_target(name, class_name);
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct sae_buf problem;
    size_t n, n_error;
    char *read = read_file(name, "input", &n), *error = read_file(name, "error", &n_error), *body;

    ck_assert_msg(read && error, "%s: input or error is missing", name);
    body = malloc(n ? n : 1); /* no byte more than it has, for ASan */
    memcpy(body, read, n);
    ck_assert_msg(sae_safetensors_parse(&r, &t, body, n, &err) != SAE_OK, "%s was taken", name);
    sae_request_fini(&r);
    sae_buf_init(&problem, 8192);
    ck_assert_int_eq(sae_problem_print(&problem, &err), SAE_OK);
    line = strtok_r(error, "\n", &rest);
    ck_assert_ptr_nonnull(line);
    ck_assert_msg(strcmp(sae_error_info(err.status).code, line) == 0, "%s: %s", name, problem.data);
    line = strtok_r(NULL, "\n", &rest);
    ck_assert_msg(line != NULL, "%s: no fragment of the detail in its error file", name);
    for (; line; line = strtok_r(NULL, "\n", &rest))
        ck_assert_msg(strstr(err.text, line) || strcmp(err.where, line) == 0, "%s: no \"%s\" in %s",
                      name, line, problem.data);
    sae_buf_fini(&problem);
    free(body);
    free(read);
    free(error);
}
END_TEST

START_TEST(cases_are_there)
{
    ck_assert_int_ge(n_names, 80);
    ck_assert_int_lt(n_names, MAX_CASES);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("invalid_safetensors");
    TCase *t = tcase_create("invalid_safetensors");
    SRunner *r = srunner_create(s);

    list_cases();
    tcase_add_test(t, cases_are_there);
    tcase_add_loop_test(t, body_is_refused, 0, n_names);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    for (int i = 0; i < n_names; i++)
        free(names[i]);
    return failed ? 1 : 0;
}
