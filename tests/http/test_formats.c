/* test_formats.c - the files of tests/golden/formats through the daemon: what --check prints of
 * each and what it says of those it refuses, and every answer in JSON and safetensors.
 *
 * One daemon serves all of them, from a config file. What is wanted is the producers' own
 * (tests/golden/make_formats.py); exact values must come back exactly. */
#include "tests/http/support_body.h"
#include "tests/support/formats.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JSON "application/json"
#define ST "application/x-safetensors"

static const struct formats_case *const *served, *const *refusals;
static size_t n_served, n_refusals;
static struct server s;

/* ---- a config of all --------------------------------------------------------------------------
 */

/* A file with the entries g0, g1, ... of those that are served, or refused with this status; owned.
 */
static char *config_of(const struct formats_case *const *cases, size_t n, int status)
{
    static unsigned count;
    char *path = malloc(64);
    const char *comma = "";
    FILE *f;

    snprintf(path, 64, "/tmp/saed-formats-%d-%u.json", (int)getpid(), count++);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "{\"dictionaries\":[");
    for (size_t i = 0; i < n; i++) {
        if (cases[i]->refused != status)
            continue;
        fprintf(f, "%s\n{\"name\":\"g%zu\",\"source\":\"%s\"}", comma, i, cases[i]->source);
        comma = ",";
    }
    fprintf(f, "]}");
    fclose(f);
    return path;
}

struct run {
    int status;
    char *out, *err;
};

static struct run check(char *config_take)
{
    struct run r;

    s = server_spawn((const char *const[]){"--config", config_take, "--check", NULL});
    r.status = server_wait(&s, 120000);
    r.out = server_stdout(&s);
    r.err = server_stderr(&s);
    close(s.out);
    close(s.err);
    unlink(config_take);
    free(config_take);
    return r;
}

static void run_free(struct run *r)
{
    free(r->out);
    free(r->err);
}

/* ---- what --check prints ------------------------------------------------------------------- */

/* The text, its " | " as lines of this beginning. */
static void add_lines(struct text *t, const char *beginning, const char *list)
{
    while (*list) {
        const char *end = strstr(list, " | ");
        size_t n = end ? (size_t)(end - list) : strlen(list);

        text_addf(t, "%s%.*s\n", beginning, (int)n, list);
        list += n + (end ? 3 : 0);
    }
}

START_TEST(check_prints_every_reading)
{
    struct run r = check(config_of(served, n_served, 0));
    const char *at = r.out;

    ck_assert_msg(r.status == 0, "%s", r.err);
    for (size_t i = 0; i < n_served; i++) {
        const struct formats_case *c = served[i];
        struct text want = {0};
        char first[200];

        snprintf(first, sizeof first, "g%zu class=%s activation_dim=%zu dict_size=%zu ", i,
                 c->class_name, c->d, c->F);
        ck_assert_msg(strncmp(at, first, strlen(first)) == 0, "%s: %.120s, not %s", c->name, at,
                      first);
        at = strchr(at, '\n') + 1;
        text_addf(&want, "%s", "");
        add_lines(&want, "  ", c->lines);
        add_lines(&want, "  note: ", c->notes);
        ck_assert_msg(strncmp(at, want.p, want.n) == 0, "%s: %.600s, not %s", c->name, at, want.p);
        at += want.n;
        text_free(&want);
    }
    ck_assert_str_eq(at, "");
    run_free(&r);
}
END_TEST

static void expect_said(const struct formats_case *c, const char *text)
{
    for (unsigned k = 0; k < c->n_said; k++)
        ck_assert_msg(strstr(text, c->said[k]) != NULL, "%s: \"%s\" is not in: %s", c->name,
                      c->said[k], text);
}

/* By itself: exit 2 for what the text alone shows, 1 for what its files do. */
static void check_alone(const struct formats_case *c)
{
    char source[400];
    struct server one;
    char *err;

    snprintf(source, sizeof source, "g=%s", c->source);
    one = server_spawn((const char *const[]){"--check", source, NULL});
    ck_assert_int_eq(server_wait(&one, 60000), c->refused);
    err = server_stderr(&one);
    expect_said(c, err);
    free(err);
    close(one.out);
    close(one.err);
}

/* All whose headers show it in one run, a line for each; the others, and usage, one at a time. */
START_TEST(check_refuses_each_with_its_line)
{
    struct run r = check(config_of(refusals, n_refusals, 1));

    ck_assert_msg(r.status == 1, "%d: %s", r.status, r.err);
    for (size_t i = 0; i < n_refusals; i++) {
        char beginning[32], *line, *end;

        snprintf(beginning, sizeof beginning, "saed: g%zu: ", i);
        line = strstr(r.err, beginning);
        end = line ? strchr(line, '\n') : NULL;
        if (!end) {
            check_alone(refusals[i]);
            continue;
        }
        *end = '\0';
        expect_said(refusals[i], line);
        *end = '\n';
    }
    run_free(&r);
}
END_TEST

/* ---- requests ------------------------------------------------------------------------------ */

static void start(void)
{
    char *config = config_of(served, n_served, 0);

    s = server_start((const char *const[]){"--config", config, NULL});
    unlink(config);
    free(config);
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

/* Tensors of a body in either form. */
struct body {
    bool is_st;
    struct st_body st;
    struct text json;
};

static void add(struct body *b, const char *name, const float *v, size_t n, size_t width)
{
    char shape[64];

    if (b->is_st) {
        snprintf(shape, sizeof shape, "[%zu,%zu]", n, width);
        st_add(&b->st, name, "F32", shape, v, n * width * 4);
        return;
    }
    text_addf(&b->json, "%s\"%s\":", b->json.n ? "," : "{", name);
    text_rows(&b->json, v, n, width);
}

static void add_sparse(struct body *b, const char *name, const float *v, size_t n, size_t width)
{
    text_addf(&b->json, "%s\"%s\":", b->json.n ? "," : "{", name);
    text_sparse(&b->json, v, n, width);
}

/* Frees the body. */
static struct reply post(size_t i, const char *op, struct body *b)
{
    const char *headers[] = {b->is_st ? "Content-Type: " ST : "Content-Type: " JSON,
                             b->is_st ? "Accept: " ST : "Accept: " JSON, NULL};
    struct text t;
    struct reply r;
    char path[128];

    if (!b->is_st)
        text_addf(&b->json, "}");
    t = b->is_st ? st_end(&b->st) : b->json;
    snprintf(path, sizeof path, "/v1/dictionaries/g%zu/%s", i, op);
    r = request(&s, "POST", path, headers, t.p, t.n);
    text_free(&t);
    return r;
}

static struct reply post_x(size_t i, const char *op, bool is_st)
{
    const struct formats_case *c = served[i];
    struct body b = {.is_st = is_st};

    add(&b, "x", c->x, c->n, c->d);
    return post(i, op, &b);
}

/* A tensor of the answer against n rows of `want`. */
static void expect(const struct reply *r, const struct formats_case *c, const char *name,
                   enum got_order order, const double *want, size_t width)
{
    struct got g = got_read(r, name, order);

    /* The rectangular form does not say how wide a row is, only which ids are taken. */
    ck_assert_msg(g.present && g.n_rows == c->n &&
                      (g.top_width ? g.width <= width : g.width == width),
                  "%s: %s is %zu x %zu", c->name, name, g.n_rows, g.width);
    for (size_t k = 0; k < c->n * width; k++) {
        size_t at = k / width * g.width + k % width;
        bool is_there = k % width < g.width;
        float v = is_there ? g.v[at] : 0.0f;

        if (!formats_equal(c, want[k], v))
            ck_abort_msg("%s: %s[%zu][%zu] is %.9g, want %.9g", c->name, name, k / width, k % width,
                         (double)v, want[k]);
        if (g.is_sparse && is_there)
            ck_assert_int_eq(g.listed[at], want[k] != 0.0);
    }
    got_free(&g);
}

/* The k largest of each row by value, NaN first, of equals the lower id, never a zero. */
static double *largest(const struct formats_case *c, size_t k)
{
    double *out = calloc(c->n * c->F, sizeof *out);

    for (size_t r = 0; r < c->n; r++) {
        const double *f = c->f + r * c->F;

        for (size_t n = 0; n < k; n++) {
            size_t best = SIZE_MAX;

            for (size_t j = 0; j < c->F; j++)
                if (f[j] != 0.0 && out[r * c->F + j] == 0.0 &&
                    (best == SIZE_MAX || (!isnan(f[best]) && (isnan(f[j]) || f[j] > f[best]))))
                    best = j;
            if (best != SIZE_MAX)
                out[r * c->F + best] = f[best];
        }
    }
    return out;
}

static double *columns(const struct formats_case *c, const size_t *ids, size_t n)
{
    double *out = calloc(c->n * n, sizeof *out);

    for (size_t i = 0; i < c->n * n; i++)
        out[i] = c->f[i / n * c->F + ids[i % n]];
    return out;
}

static void check_encode(size_t i, bool is_st)
{
    size_t ids[3] = {5, 2, 2};
    const struct formats_case *c = served[i];
    double *top = largest(c, 2), *some;
    char features[96];
    struct reply r;

    for (size_t k = 0; k < 3; k++)
        ids[k] %= c->F;
    some = columns(c, ids, 3);
    snprintf(features, sizeof features, "encode?features=%zu,%zu,%zu", ids[0], ids[1], ids[2]);
    r = post_x(i, c->n_state ? "encode?input_state=true" : "encode", is_st);
    expect(&r, c, "f", GOT_ASCENDING, c->f, c->F);
    if (c->n_state)
        expect(&r, c, "input_state", GOT_ASCENDING, c->s, c->n_state);
    reply_free(&r);
    r = post_x(i, "encode?sparse=true", is_st);
    expect(&r, c, "f", GOT_ASCENDING, c->f, c->F);
    reply_free(&r);
    r = post_x(i, "encode?top_k=2", is_st);
    expect(&r, c, "f", GOT_TOP, top, c->F);
    reply_free(&r);
    r = post_x(i, features, is_st);
    expect(&r, c, "f", GOT_ASCENDING, some, 3);
    reply_free(&r);
    free(top);
    free(some);
}

/* f with what decode wants beside it, as the reading tells: it answers as forward does. */
static struct reply post_f(size_t i, bool is_st, bool is_sparse, const struct got *state)
{
    const struct formats_case *c = served[i];
    struct body b = {.is_st = is_st};
    float *f = calloc(c->n * c->F, sizeof *f);

    for (size_t k = 0; k < c->n * c->F; k++)
        f[k] = (float)c->f[k];
    (is_sparse ? add_sparse : add)(&b, "f", f, c->n, c->F);
    if (state->present && strstr(c->lines, "output=follow"))
        add(&b, "input_state", state->v, c->n, c->n_state);
    if (strstr(c->lines, "skip="))
        add(&b, "x", c->x, c->n, c->d);
    free(f);
    return post(i, "decode", &b);
}

static void check_decode(size_t i, bool is_st)
{
    const struct formats_case *c = served[i];
    char op[64] = "forward?output_features=true";
    struct got state = {0};
    struct reply r;

    if (c->n_state)
        strcat(op, "&input_state=true");
    r = post_x(i, op, is_st);
    if (c->m == 0) {
        check_problem(&r, 409, "not_loaded", NULL, NULL);
        reply_free(&r);
        r = post_f(i, is_st, false, &state);
        check_problem(&r, 409, "not_loaded", NULL, NULL);
        reply_free(&r);
        return;
    }
    expect(&r, c, "x_hat", GOT_ASCENDING, c->y, c->m);
    if (strcmp(got_string(&r, "f_units"), "encode") == 0)
        expect(&r, c, "f", GOT_ASCENDING, c->f, c->F);
    else
        ck_assert(strcmp(c->class_name, "GatedAutoEncoder") == 0 ||
                  strcmp(c->class_name, "AutoEncoderNew") == 0);
    if (c->n_state) {
        expect(&r, c, "input_state", GOT_ASCENDING, c->s, c->n_state);
        state = got_read(&r, "input_state", GOT_ASCENDING);
    }
    reply_free(&r);
    for (int sparse = 0; sparse < (is_st ? 1 : 2); sparse++) {
        r = post_f(i, is_st, sparse, &state);
        expect(&r, c, "x_hat", GOT_ASCENDING, c->y, c->m);
        reply_free(&r);
    }
    got_free(&state);
}

START_TEST(every_form_answers_as_the_producer)
{
    for (int is_st = 0; is_st < 2; is_st++) {
        check_encode((size_t)_i, is_st);
        check_decode((size_t)_i, is_st);
    }
}
END_TEST

/* ---- readings pasted ----------------------------------------------------------------------- */

static json_t *shown(const struct server *of, size_t i)
{
    char path[64];
    struct reply r;
    json_t *j;

    snprintf(path, sizeof path, "/v1/dictionaries/g%zu", i);
    r = get(of, path);
    j = json_loads(r.body, 0, NULL);
    ck_assert_msg(r.status == 200 && j, "%s: %s", served[i]->name, r.body);
    reply_free(&r);
    return j;
}

static bool is_plain(size_t i)
{
    return !strchr(served[i]->source, ':');
}

/* A config with the reading of each as GET shows it; its path, owned. */
static char *pasted_config(void)
{
    json_t *list = json_array(), *root = json_pack("{s:o}", "dictionaries", list);
    char *path = malloc(64), name[32];

    for (size_t i = 0; i < n_served; i++) {
        json_t *d;

        if (!is_plain(i))
            continue;
        d = shown(&s, i);
        snprintf(name, sizeof name, "g%zu", i);
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:O}", "name", name, "source", served[i]->source,
                                        "reading", json_object_get(d, "reading")));
        json_decref(d);
    }
    snprintf(path, 64, "/tmp/saed-formats-%d-pasted.json", (int)getpid());
    ck_assert_int_eq(json_dump_file(root, path, 0), 0);
    json_decref(root);
    return path;
}

/* What GET shows as the reading is a statement that makes the same dictionary. */
START_TEST(a_reading_that_is_pasted_is_the_same)
{
    char *config = pasted_config();
    struct server other = server_start((const char *const[]){"--config", config, NULL});

    for (size_t i = 0; i < n_served; i++) {
        json_t *was, *is, *value;
        const char *field;

        if (!is_plain(i))
            continue;
        was = shown(&s, i);
        is = shown(&other, i);
        json_object_foreach(json_object_get(was, "reading"), field,
                            value) if (json_is_string(value))
            ck_assert_msg(json_equal(value, json_object_get(json_object_get(is, "reading"), field)),
                          "%s: %s is not %s", served[i]->name, field, json_string_value(value));
        ck_assert_msg(json_is_string(json_object_get(was, "weights_sha256")) &&
                          json_equal(json_object_get(was, "weights_sha256"),
                                     json_object_get(is, "weights_sha256")),
                      "%s: another weights_sha256", served[i]->name);
        json_decref(was);
        json_decref(is);
    }
    ck_assert_int_eq(server_stop(&other), 0);
    unlink(config);
    free(config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("formats");
    TCase *line = tcase_create("line"), *t = tcase_create("answers");
    SRunner *r = srunner_create(suite);

    served = formats_which(false, &n_served);
    refusals = formats_which(true, &n_refusals);
    tcase_set_timeout(line, 60);
    tcase_add_test(line, check_prints_every_reading);
    tcase_add_test(line, check_refuses_each_with_its_line);
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_form_answers_as_the_producer, 0, (int)n_served);
    tcase_add_test(t, a_reading_that_is_pasted_is_the_same);
    suite_add_tcase(suite, line);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
