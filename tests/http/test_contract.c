/* test_contract.c - the examples of proto/openapi.json and proto/examples are what the daemon
 * answers (tests/unit/proto/test_openapi.c: those of the document are those of the folder). */
#include "tests/http/support.h"

#include <check.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "proto/examples"

static struct server served;
static char *names[64];
static int n_names;

static void start(void)
{
    served = server_start((const char *const[]){"id=identity:4", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&served), 0);
}

/* What a file's ending says of the body in it. */
static const struct {
    const char *ending, *type;
} forms[] = {
    {"json", "application/json"},
    {"f32", "application/octet-stream"},
    {"safetensors", "application/x-safetensors"},
    {"npy", "application/x-npy"},
};

/* A file of the example, a NUL behind it; NULL when it is not there. */
static char *read_file(const char *name, const char *file, const char *ending, size_t *n)
{
    char path[256], *data;
    FILE *f;

    snprintf(path, sizeof path, ROOT "/%s/%s%s", name, file, ending);
    f = fopen(path, "rb");
    if (!f)
        return NULL;
    data = calloc(1 << 16, 1);
    ck_assert_ptr_nonnull(data);
    *n = fread(data, 1, (1 << 16) - 1, f);
    fclose(f);
    return data;
}

START_TEST(examples_are_what_it_answers)
{
    const char *name = names[_i];
    size_t n_route = 0, n = 0, n_want = 0, form = 0;
    char *route = read_file(name, "route", "", &n_route), *body = NULL, *want, type[64];
    bool is_error = strncmp(name, "error", 5) == 0;
    struct reply r;

    ck_assert_msg(route && strncmp(route, "POST ", 5) == 0, "%s", name);
    route[strcspn(route, "\n")] = '\0';
    while (form < sizeof forms / sizeof *forms &&
           !(body = read_file(name, "request.", forms[form].ending, &n)))
        form++;
    ck_assert_msg(body, "%s: no request", name);
    want = read_file(name, "response.", forms[form].ending, &n_want);
    ck_assert_ptr_nonnull(want);
    snprintf(type, sizeof type, "Content-Type: %s", forms[form].type);
    r = request(&served, "POST", route + 5, (const char *const[]){type, NULL}, body, n);
    ck_assert_msg((r.status == 200) == !is_error, "%s: %d %s", name, r.status, r.body);
    ck_assert_str_eq(reply_header(&r, "Content-Type"),
                     is_error ? "application/problem+json" : forms[form].type);
    ck_assert_msg(r.n == n_want && memcmp(r.body, want, n_want) == 0, "%s: got %s", name, r.body);
    reply_free(&r);
    free(route);
    free(body);
    free(want);
}
END_TEST

/* The member at the end of a path of keys, NULL behind the last. */
static json_t *at(json_t *v, const char *const *keys)
{
    for (; *keys; keys++) {
        v = json_object_get(v, *keys);
        ck_assert_msg(v != NULL, "no %s", *keys);
    }
    return v;
}

static json_t *contract(void)
{
    json_t *doc = json_load_file("proto/openapi.json", 0, NULL);

    ck_assert_ptr_nonnull(doc);
    return doc;
}

static json_t *body_of(const struct reply *r)
{
    json_t *v = json_loadb(r->body, r->n, 0, NULL);

    ck_assert_msg(v != NULL, "%s", r->body);
    return v;
}

START_TEST(the_dictionary_is_described_so)
{
    json_t *doc = contract(), *got;
    json_t *want = at(doc, (const char *const[]){"paths", "/v1/dictionaries/{name}", "get",
                                                 "responses", "200", "content", "application/json",
                                                 "examples", "identity", "value", NULL});
    struct reply r = get(&served, "/v1/dictionaries/id");

    got = body_of(&r);
    /* which kernel is the machine's business */
    json_object_set(want, "kernel", json_object_get(got, "kernel"));
    ck_assert_msg(json_equal(got, want), "%s", r.body);
    json_decref(got);
    json_decref(doc);
    reply_free(&r);
}
END_TEST

START_TEST(the_contract_is_served_as_the_file_has_it)
{
    struct reply r = get(&served, "/openapi.json"), head;
    FILE *f = fopen("proto/openapi.json", "rb");
    char *want = calloc(1 << 20, 1), length[32];
    size_t n;

    ck_assert(f && want);
    n = fread(want, 1, 1 << 20, f);
    fclose(f);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/json");
    ck_assert(r.n == n && memcmp(r.body, want, n) == 0);
    head = request(&served, "HEAD", "/openapi.json", NULL, NULL, 0);
    ck_assert_int_eq(head.status, 200);
    ck_assert_uint_eq(head.n, 0);
    snprintf(length, sizeof length, "%zu", n);
    ck_assert_str_eq(reply_header(&head, "Content-Length"), length);
    reply_free(&head);
    reply_free(&r);
    free(want);
}
END_TEST

START_TEST(a_limit_is_told_so)
{
    static char rows[20000 * 16];
    json_t *doc = contract(), *got;
    const json_t *want = at(doc, (const char *const[]){"components", "responses", "Error413",
                                                       "content", "application/problem+json",
                                                       "examples", "limit", "value", NULL});
    struct reply r = request(&served, "POST", "/v1/dictionaries/id/encode",
                             (const char *const[]){"Content-Type: application/octet-stream", NULL},
                             rows, sizeof rows);

    ck_assert_int_eq(r.status, 413);
    got = body_of(&r);
    ck_assert_msg(json_equal(got, (json_t *)want), "%s", r.body);
    json_decref(got);
    json_decref(doc);
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("contract");
    TCase *t = tcase_create("contract");
    DIR *d = opendir(ROOT);
    SRunner *r = srunner_create(suite);
    int failed;

    for (const struct dirent *e; d && (e = readdir(d)) && n_names < 64;)
        if (e->d_name[0] != '.')
            names[n_names++] = strdup(e->d_name);
    if (d)
        closedir(d);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_loop_test(t, examples_are_what_it_answers, 0, n_names);
    tcase_add_test(t, the_dictionary_is_described_so);
    tcase_add_test(t, the_contract_is_served_as_the_file_has_it);
    tcase_add_test(t, a_limit_is_told_so);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    for (int i = 0; i < n_names; i++)
        free(names[i]);
    return failed || n_names < 15 ? 1 : 0;
}
