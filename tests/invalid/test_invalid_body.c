/* test_invalid_body.c - request bodies that are refused: one directory a case in tests/invalid/json
 * and tests/invalid/safetensors.
 *
 *   input    the body, byte for byte
 *   error    first line: the code; each further line stands somewhere in the detail
 *   target   optional: "OP CLASS D F" (encode AutoEncoder and the form's D and F unless given)
 *
 * A new JSON case is a new directory; a new safetensors case is a new line of
 * tests/invalid/make_safetensors.py, which writes the directories. */
#include "lib/base.h"
#include "proto/wire.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CASES 256

struct form {
    const char *root;
    unsigned d, F; /* of the default target */
    sae_parse_fn *parse;
    int at_least; /* cases */
    char *names[MAX_CASES];
    int n_names;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_cases(struct form *f)
{
    DIR *d = opendir(f->root);
    struct dirent *e;

    while (d && (e = readdir(d)) && f->n_names < MAX_CASES)
        if (e->d_name[0] != '.')
            f->names[f->n_names++] = strdup(e->d_name);
    if (d)
        closedir(d);
    qsort(f->names, (size_t)f->n_names, sizeof *f->names, by_name);
}

/* The file's bytes with a NUL behind, or NULL. Freed by the caller. */
static char *read_file(const struct form *form, const char *name, const char *file, size_t *n)
{
    char path[512], *data = malloc(1 << 16);
    FILE *f;

    snprintf(path, sizeof path, "%s/%s/%s", form->root, name, file);
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

static struct sae_target read_target(const struct form *form, const char *name, char class_name[40])
{
    struct sae_target t = {.dictionary = "sae", .class_name = class_name, .max_bytes = 1 << 24};
    char op[16] = "encode", *text;
    unsigned d = form->d, F = form->F;
    size_t n;

    strcpy(class_name, "AutoEncoder");
    text = read_file(form, name, "target", &n);
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

static void body_is_refused(const struct form *form, const char *name)
{
    char class_name[40], *line, *rest;
    struct sae_target t = read_target(form, name, class_name);
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct sae_buf problem;
    size_t n, n_error;
    char *read = read_file(form, name, "input", &n),
         *error = read_file(form, name, "error", &n_error);
    char *body;

    ck_assert_msg(read && error, "%s: input or error is missing", name);
    body = malloc(n ? n : 1); /* no byte more than it has, for ASan */
    memcpy(body, read, n);
    ck_assert_msg(form->parse(&r, &t, body, n, &err) != SAE_OK, "%s was taken", name);
    sae_request_fini(&r);
    sae_buf_init(&problem, 8192);
    ck_assert_int_eq(sae_problem_print(&problem, &err, ""), SAE_OK);
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

static struct form forms[] = {
    {.root = "tests/invalid/json", .d = 3, .F = 6, .parse = sae_json_parse, .at_least = 60},
    {.root = "tests/invalid/safetensors",
     .d = 4,
     .F = 8,
     .parse = sae_safetensors_parse,
     .at_least = 80},
};

START_TEST(json_is_refused)
{
    body_is_refused(&forms[0], forms[0].names[_i]);
}
END_TEST

START_TEST(safetensors_is_refused)
{
    body_is_refused(&forms[1], forms[1].names[_i]);
}
END_TEST

START_TEST(cases_are_there)
{
    ck_assert_int_ge(forms[_i].n_names, forms[_i].at_least);
    ck_assert_int_lt(forms[_i].n_names, MAX_CASES);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("invalid_body");
    TCase *t = tcase_create("invalid_body");
    SRunner *r = srunner_create(s);
    int n_forms = (int)SAE_COUNTOF(forms), failed;

    for (int i = 0; i < n_forms; i++)
        list_cases(&forms[i]);
    tcase_add_loop_test(t, cases_are_there, 0, n_forms);
    tcase_add_loop_test(t, json_is_refused, 0, forms[0].n_names);
    tcase_add_loop_test(t, safetensors_is_refused, 0, forms[1].n_names);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    for (int i = 0; i < n_forms; i++)
        for (int k = 0; k < forms[i].n_names; k++)
            free(forms[i].names[k]);
    return failed ? 1 : 0;
}
