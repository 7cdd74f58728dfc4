/* test_offers.c - --dictionaries through to the answers: what is offered and under which name,
 * loading on first use, room for all of them in turn, and what is said of those that cannot be
 * loaded. */
#include "lib/base.h"
#include "tests/http/support_body.h"
#include "tests/http/support_pt.h"
#include "tests/support/files.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS 30000

static char dir[64];

static void setup(void)
{
    snprintf(dir, sizeof dir, "%s", "/tmp/saed-offers-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char command[200];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

/* An AutoEncoder dir/path of which the encoder's bias, and so every answer, is of this number. */
static void put_dictionary(const char *path, size_t d, size_t F, unsigned number)
{
    float *bias = malloc(F * sizeof *bias);
    char full[300];

    put_file(dir, path, ""); /* its folders */
    snprintf(full, sizeof full, "%s/%s", dir, path);
    for (size_t j = 0; j < F; j++)
        bias[j] = (float)((j * 31 + number * 7) % 17) / 16;
    write_pt(full,
             (const struct pt_tensor[]){{.name = "bias", .dim = {d}, .n = 1},
                                        {.name = "encoder.weight", .dim = {F, d}, .n = 2},
                                        {.name = "encoder.bias", .dim = {F}, .n = 1, .data = bias},
                                        {.name = "decoder.weight", .dim = {d, F}, .n = 2}},
             4);
    free(bias);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* A member of GET /v1/dictionaries/NAME. Owned. */
static json_t *member_of(const struct server *s, const char *name, const char *key)
{
    char path[300];
    struct reply r;
    json_t *all, *member;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", name);
    r = get(s, path);
    ck_assert_msg(r.status == 200, "%s: %s", path, r.body);
    all = json_loads(r.body, 0, NULL);
    member = json_incref(json_object_get(all, key));
    json_decref(all);
    reply_free(&r);
    return member;
}

static void check_state(const struct server *s, const char *name, const char *want)
{
    json_t *state = member_of(s, name, "state");

    ck_assert_msg(strcmp(json_string_value(state), want) == 0, "%s is %s, want %s", name,
                  json_string_value(state), want);
    json_decref(state);
}

static void wait_state(const struct server *s, const char *name, const char *want)
{
    long long end = test_now_ms() + MS;

    for (bool is = false; !is; poll(NULL, 0, 2)) {
        json_t *state = member_of(s, name, "state");

        is = strcmp(json_string_value(state), want) == 0;
        json_decref(state);
        ck_assert_msg(is || test_now_ms() < end, "%s is not %s", name, want);
    }
}

static void check_null(const struct server *s, const char *name, const char *key, bool is_null)
{
    json_t *v = member_of(s, name, key);

    ck_assert_msg((!v || json_is_null(v)) == is_null, "%s.%s", name, key);
    json_decref(v);
}

static struct reply post(const struct server *s, const char *name, const char *op, const char *body)
{
    char path[300];

    snprintf(path, sizeof path, "/v1/dictionaries/%s/%s", name, op);
    return post_json(s, path, body);
}

/* The answer of one, as the same file gives it when it is named. */
static void check_same(const struct server *s, const char *name, const struct server *other,
                       const char *named, const char *op, const char *body)
{
    struct reply a = post(s, name, op, body), b = post(other, named, op, body);

    ck_assert_msg(a.status == 200 && b.status == 200, "%s: %d %s", name, a.status, a.body);
    ck_assert_str_eq(a.body, b.body);
    reply_free(&a);
    reply_free(&b);
}

/* ---- what is offered ------------------------------------------------------------------------- */

/* Names, in order, with blanks between. */
static void list_names(const struct server *s, char *out, size_t cap)
{
    struct reply r = get(s, "/v1/dictionaries");
    json_t *all = json_loads(r.body, 0, NULL), *one;
    size_t i, n = 0;

    out[0] = '\0';
    json_array_foreach(json_object_get(all, "dictionaries"), i, one) n += (size_t)snprintf(
        out + n, cap - n, "%s%s", i ? " " : "", json_string_value(json_object_get(one, "name")));
    json_decref(all);
    reply_free(&r);
}

START_TEST(a_folder_of_good_bad_and_colliding_ones)
{
    char names[400], broken[100];
    struct server s, named;
    struct reply r;
    char *err;

    put_dictionary("good.pt", 3, 5, 1);
    put_dictionary("deep/er/w.v2.pt", 3, 5, 2);
    put_dictionary("a/b.pt", 3, 5, 3);
    put_dictionary("a.b.pt", 3, 5, 3);
    put_dictionary("hidden.pt", 3, 5, 4);
    put_file(dir, "broken.pt", "no weights at all");
    put_file(dir, "readme.md", "");
    snprintf(names, sizeof names, "x=%s/good.pt", dir);
    named = server_start((const char *const[]){names, NULL});
    s = server_start((const char *const[]){"--dictionaries", dir, "hidden=identity:7", NULL});

    list_names(&s, names, sizeof names);
    ck_assert_str_eq(names, "hidden broken deep.er.w.v2 good");
    r = get(&s, "/readyz");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    check_state(&s, "hidden", "ready");
    check_state(&s, "good", "offered");
    check_state(&s, "broken", "unavailable");
    check_null(&s, "broken", "reason", false);
    check_null(&s, "broken", "dict_class", true);
    check_null(&s, "good", "reason", true);
    check_null(&s, "good", "reading", false);
    check_null(&s, "good", "max_rows", false);
    check_null(&s, "good", "decoder_norm", true);
    ck_assert(metric(&s, "saed_dictionary_loads_total{dictionary=\"good\"}") == -1);

    check_same(&s, "good", &named, "x", "encode", "{\"x\":[[1,2,3],[-1,0,1]]}");
    check_state(&s, "good", "ready");
    check_null(&s, "good", "decoder_norm", false);
    ck_assert(metric(&s, "saed_dictionary_loads_total{dictionary=\"good\"}") == 1);
    ck_assert(metric(&s, "saed_requests_total{dictionary=\"good\",op=\"encode\",code=\"200\"}") ==
              1);
    check_same(&s, "good", &named, "x", "forward", "{\"x\":[1,2,3],\"output_features\":true}");
    check_same(&s, "good", &named, "x", "decode", "{\"f\":[1,0,0,2,0]}");
    check_state(&s, "deep.er.w.v2", "offered");

    r = post(&s, "broken", "encode", "{\"x\":[1,2,3]}");
    check_problem(&r, 503, "unavailable", "broken.pt", NULL);
    ck_assert_int_ge(atoi(reply_header(&r, "Retry-After")), 9);
    reply_free(&r);
    ck_assert(metric(&s, "saed_dictionary_load_failures_total{dictionary=\"broken\"}") == 1);
    r = post(&s, "broken", "encode", "{\"x\":[1,2,3]}"); /* at once: nothing is tried again */
    check_problem(&r, 503, "unavailable", NULL, NULL);
    reply_free(&r);
    ck_assert(metric(&s, "saed_dictionary_load_failures_total{dictionary=\"broken\"}") == 1);
    r = post(&s, "a.b", "encode", "{\"x\":[1,2,3]}");
    check_problem(&r, 404, "unknown_dictionary", "served are hidden, broken, deep.er.w.v2, good",
                  NULL);
    reply_free(&r);

    err = server_stderr(&s);
    snprintf(broken, sizeof broken, "%s/a.b.pt", dir);
    ck_assert_ptr_nonnull(strstr(err, broken));
    snprintf(broken, sizeof broken, "%s/a/b.pt", dir);
    ck_assert_ptr_nonnull(strstr(err, broken));
    free(err);
    ck_assert_int_eq(server_stop(&s), 0);
    ck_assert_int_eq(server_stop(&named), 0);
}
END_TEST

/* Errors come in their order: what a request says is looked at by the description, before loading.
 */
START_TEST(what_is_wrong_is_told_before_loading)
{
    struct server s;
    struct reply r;

    put_dictionary("w.pt", 3, 5, 1);
    put_file(dir, "broken.pt", "");
    s = server_start((const char *const[]){"--dictionaries", dir, "--max-queue-rows", "4", NULL});
    r = post(&s, "w", "encode", "{\"x\":[1,2,3");
    check_problem(&r, 400, "malformed_json", NULL, NULL);
    reply_free(&r);
    r = post(&s, "w", "encode", "{\"x\":[1,2]}");
    check_problem(&r, 400, "bad_shape", "no dictionary takes that width", NULL);
    reply_free(&r);
    r = post(&s, "w", "encode", "{\"x\":[1,2,3],\"return_gate\":true}");
    check_problem(&r, 400, "bad_option", NULL, NULL);
    reply_free(&r);
    r = post(&s, "w", "encode", "{\"x\":[[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2,3]]}");
    check_problem(&r, 413, "too_many_rows", NULL, "--max-queue-rows");
    reply_free(&r);
    r = request(&s, "POST", "/v1/dictionaries/broken/encode",
                (const char *const[]){"Content-Type: text/plain", NULL}, "x", 1);
    check_problem(&r, 415, "unsupported_media_type", NULL, NULL);
    reply_free(&r);
    r = get(&s, "/v1/dictionaries/w/encode");
    check_problem(&r, 405, "method_not_allowed", NULL, NULL);
    reply_free(&r);
    check_state(&s, "w", "offered");
    r = post(&s, "w", "encode", "{\"x\":[]}"); /* no rows: it is loaded all the same */
    ck_assert_msg(r.status == 200 && strcmp(r.body, "{\"f\":[]}\n") == 0, "%s", r.body);
    reply_free(&r);
    check_state(&s, "w", "ready");
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* Files that changed after they were found. */
START_TEST(what_is_there_when_it_is_loaded_counts)
{
    struct server s;
    struct reply r;
    json_t *v;

    put_dictionary("changed.pt", 3, 5, 1);
    put_dictionary("broken.pt", 3, 5, 2);
    put_file(dir, "mended.pt", "");
    s = server_start((const char *const[]){"--dictionaries", dir, NULL});
    put_dictionary("changed.pt", 4, 6, 1);
    put_file(dir, "broken.pt", "");
    put_dictionary("mended.pt", 2, 5, 3);

    r = post(&s, "changed", "encode", "{\"x\":[1,2,3]}"); /* of the width that it was shown with */
    check_problem(&r, 400, "bad_shape", "activation_dim 4", NULL);
    reply_free(&r);
    v = member_of(&s, "changed", "activation_dim");
    ck_assert_int_eq(json_integer_value(v), 4);
    json_decref(v);
    r = post(&s, "changed", "encode", "{\"x\":[1,2,3,4]}");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);

    r = post(&s, "broken", "encode", "{\"x\":[1,2,3]}");
    check_problem(&r, 503, "unavailable", "broken.pt", NULL);
    reply_free(&r);
    check_state(&s, "broken", "unavailable");

    r = post(&s, "mended", "encode", "{\"x\":[1,2,3]}"); /* nothing was known of it */
    check_problem(&r, 400, "bad_shape", "activation_dim 2", NULL);
    reply_free(&r);
    r = post(&s, "mended", "encode", "{\"x\":[1,2]}");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* The config's readings, by path; and folders beside named ones. */
START_TEST(readings_of_the_config)
{
    static const char text[] =
        "{\"dictionaries\": [\"%s\", {\"name\": \"i\", \"source\": \"identity:3\"}],\n"
        " \"readings\": [{\"match\": \"half/*\", \"reading\": {\"k\": 2}, \"parts\": "
        "\"encoder\"},\n"
        "                {\"match\": \"*/*\", \"reading\": {\"k\": 3}}]}";
    char config[400], path[100];
    struct server s;
    struct reply r;
    json_t *v;

    put_dictionary("half/a.pt", 3, 5, 1);
    put_dictionary("full/a.pt", 3, 5, 1);
    put_dictionary("plain.pt", 3, 5, 1);
    snprintf(config, sizeof config, text, dir);
    put_file(dir, "saed.json", config);
    snprintf(path, sizeof path, "%s/saed.json", dir);
    s = server_start((const char *const[]){"--config", path, NULL});
    list_names(&s, config, sizeof config);
    ck_assert_str_eq(config, "i full.a half.a plain");
    v = member_of(&s, "half.a", "reading");
    ck_assert_str_eq(json_string_value(json_object_get(v, "select")), "top_k:2");
    json_decref(v);
    v = member_of(&s, "full.a", "reading");
    ck_assert_str_eq(json_string_value(json_object_get(v, "select")), "top_k:3");
    json_decref(v);
    v = member_of(&s, "plain", "reading");
    ck_assert_str_eq(json_string_value(json_object_get(v, "select")), "all");
    json_decref(v);
    r = post(&s, "half.a", "decode", "{\"f\":[1,2,3,4,5]}");
    check_problem(&r, 409, "not_loaded", NULL, NULL);
    reply_free(&r);
    check_state(&s, "half.a", "offered"); /* it was not loaded for that */
    r = post(&s, "half.a", "encode", "{\"x\":[1,2,3],\"sparse\":true}");
    v = json_loads(r.body, 0, NULL);
    ck_assert_uint_eq(
        json_array_size(json_array_get(json_object_get(json_object_get(v, "f"), "values"), 0)), 2);
    json_decref(v);
    reply_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* Of many names a hundred are told. */
START_TEST(an_unknown_name_is_told_a_hundred)
{
    struct server s;
    struct reply r;
    char name[40];

    for (int i = 0; i < 130; i++) {
        snprintf(name, sizeof name, "n%03d.pt", i);
        put_file(dir, name, "");
    }
    s = server_start((const char *const[]){"--dictionaries", dir, NULL});
    r = get(&s, "/v1/dictionaries/none");
    check_problem(&r, 404, "unknown_dictionary", "served are n000, n001, ", NULL);
    ck_assert_ptr_nonnull(strstr(r.body, ", n099 and 30 more"));
    ck_assert_ptr_null(strstr(r.body, "n100"));
    reply_free(&r);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

static void check_exit(const char *const *args, int status, const char *said)
{
    struct server s = server_spawn(args);
    char *err;

    ck_assert_int_eq(server_wait(&s, MS), status);
    err = server_stderr(&s);
    ck_assert_msg(strstr(err, said) != NULL, "%s", err);
    free(err);
}

START_TEST(what_cannot_start)
{
    char source[200], other[200];

    put_dictionary("w.pt", 64, 64, 1);
    snprintf(source, sizeof source, "a=%s/w.pt", dir);
    snprintf(other, sizeof other, "b=%s/w.pt", dir);
    check_exit(
        (const char *const[]){"--listen", "127.0.0.1:0", "--dictionaries", "/nowhere/at/all", NULL},
        1, "cannot list folder /nowhere/at/all");
    check_exit((const char *const[]){"--dictionaries", "", NULL}, 2, "want a folder");
    check_exit((const char *const[]){"--listen", "127.0.0.1:0", "--max-resident-bytes", "60000",
                                     source, other, NULL},
               1, "--max-resident-bytes is 60000");
    check_exit((const char *const[]){"--config", "tests/none.json", NULL}, 1, "none.json");
}
END_TEST

/* --check: each as it would be served, one after the other, whether they fit together or not. */
START_TEST(a_folder_is_checked)
{
    static const char *const said[] = {
        "i class=IdentityDict ",
        "\na unavailable: cannot load ",
        "\nb class=AutoEncoder activation_dim=3 dict_size=5 ",
        "\n  activation=relu\n",
        "\n  sample: rows=2 ",
        "\nlarge unavailable: cannot load it: it takes ",
        " of the 4096 of --max-resident-bytes the named dictionaries leave ",
        "\nw class=AutoEncoder activation_dim=4 dict_size=6 ",
        "\n  sample: none has rows of width 4\n",
    };
    static const char npy[] = "\x93NUMPY\1\0\x46\0"
                              "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    float rows[6] = {1, 2, 3, -1, 0, 1};
    char path[100], sample[128], *out, *at;
    struct server s;
    FILE *f;

    put_file(dir, "a.pt", "");
    put_dictionary("b.pt", 3, 5, 1);
    put_dictionary("w.pt", 4, 6, 1);
    put_dictionary("large.pt", 32, 64, 1);
    put_file(dir, "c\x1f\x9b\xff.pt", "");
    snprintf(path, sizeof path, "%s/rows", dir);
    memset(sample, ' ', sizeof sample);
    memcpy(sample, npy, sizeof npy - 1);
    sample[79] = '\n';
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fwrite(sample, 1, 80, f);
    fwrite(rows, sizeof rows, 1, f);
    ck_assert_int_eq(fclose(f), 0);
    s = server_spawn((const char *const[]){"--check", "--sample", path, "--dictionaries", dir,
                                           "--max-resident-bytes", "4096", "i=identity:3", NULL});
    ck_assert_int_eq(server_wait(&s, MS), 1);
    at = out = server_stdout(&s);
    for (size_t i = 0; i < SAE_COUNTOF(said); i++) {
        at = strstr(at, said[i]);
        ck_assert_msg(at != NULL, "%s is not in its place in: %s", said[i], out);
    }
    ck_assert_msg(strstr(out, "/c???.pt is not offered: its path holds a control character\n"),
                  "%s", out);
    free(out);
    ck_assert_int_eq(remove(path), 0);
}
END_TEST

/* ---- while it loads -------------------------------------------------------------------------- */

#define BIG_D 512
#define BIG_F 16384 /* 67 MB: some tenths of a second at least */

/* A row for it, in raw bytes. */
static void send_row(int fd, const char *name)
{
    static float row[BIG_D];
    char head[300];

    row[3] = 1;
    snprintf(head, sizeof head,
             "POST /v1/dictionaries/%s/encode?top_k=3 HTTP/1.1\r\nHost: localhost\r\n"
             "Content-Type: application/octet-stream\r\nAccept: application/x-safetensors\r\n"
             "Content-Length: %zu\r\n\r\n",
             name, sizeof row);
    raw_send(fd, head);
    raw_send_bytes(fd, row, sizeof row);
}

START_TEST(others_are_served_and_deadlines_kept)
{
    struct server s;
    struct reply r;

    put_dictionary("big.pt", BIG_D, BIG_F, 1);
    put_dictionary("small.pt", 3, 5, 1);
    s = server_start((const char *const[]){"--dictionaries", dir, "--request-timeout-ms", "1",
                                           "i=identity:2", NULL});
    int fd = raw_connect(&s);

    send_row(fd, "big");
    r = raw_reply(fd, true, MS);
    check_problem(&r, 503, "loading", "big", NULL);
    ck_assert_str_eq(reply_header(&r, "Retry-After"), "1");
    reply_free(&r);
    do { /* its milliseconds may pass on a busy machine */
        r = post_json(&s, "/v1/dictionaries/i/encode", "{\"x\":[1,2]}");
        reply_free(&r);
    } while (r.status != 0 && metric(&s, "saed_rows_total{dictionary=\"i\",op=\"encode\"}") < 1);
    wait_state(&s, "big", "ready"); /* though nobody waits any more */
    ck_assert(metric(&s, "saed_dictionary_loads_total{dictionary=\"big\"}") == 1);
    close(fd);
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

/* SIGTERM: who waits is answered, and the daemon ends. */
START_TEST(a_stop_waits_for_what_is_being_loaded)
{
    struct server s;
    struct reply r;
    int fd;

    put_dictionary("big.pt", BIG_D, BIG_F, 1);
    s = server_start((const char *const[]){"--dictionaries", dir, NULL});
    fd = raw_connect(&s);
    send_row(fd, "big");
    wait_metric(&s, "saed_requests_in_flight", 2);
    server_signal(&s, SIGTERM);
    r = raw_reply(fd, true, MS);
    ck_assert_msg(r.status == 200, "%d", r.status);
    reply_free(&r);
    close(fd);
    ck_assert_int_eq(server_wait(&s, MS), 0);
}
END_TEST

/* And not for longer than it may. */
START_TEST(a_stop_in_haste_answers_all_the_same)
{
    struct server s;
    struct reply r;
    int fd;

    put_dictionary("big.pt", BIG_D, BIG_F, 1);
    s = server_start((const char *const[]){"--dictionaries", dir, "--drain-timeout-ms", "1", NULL});
    fd = raw_connect(&s);
    send_row(fd, "big");
    wait_metric(&s, "saed_requests_in_flight", 2);
    server_signal(&s, SIGTERM);
    r = raw_reply(fd, true, MS);
    if (r.status != 200) /* it may have been loaded by then */
        check_problem(&r, 503, "draining", NULL, NULL);
    reply_free(&r);
    close(fd);
    ck_assert_int_eq(server_wait(&s, MS), 0);
}
END_TEST

/* ---- many in little memory ------------------------------------------------------------------- */

#define N_MANY 30
#define N_CONNECTIONS 6

/* Files of a megabyte; with SAED_MANY_LARGE (make check-many) of a hundred. */
static struct many {
    size_t d, F;
    double most_bytes; /* --max-resident-bytes */
    double beside;     /* what batches and connections need, once */
    int seconds;       /* for all of it */
} many = {64, 2048, 10485760, 24e6, 60};
static const struct many large = {512, 24576, 1e9, 64e6, 1800};

static const char many_body[] = "{\"x\":[";

/* One row, JSON. */
static struct text row_text(void)
{
    struct text t = {0};

    text_addf(&t, "%s", many_body);
    for (size_t k = 0; k < many.d; k++)
        text_addf(&t, "%s%d", k ? "," : "", (int)(k * 7 % 11) - 5);
    text_addf(&t, "]}");
    return t;
}

static void make_many(void)
{
    char path[60];

    for (unsigned i = 0; i < N_MANY; i++) {
        snprintf(path, sizeof path, "m/%u/w.pt", i);
        put_dictionary(path, many.d, many.F, i);
    }
}

/* What each answers, by a daemon that has all of them. */
static void answers_of(char *answer[N_MANY], const struct text *body)
{
    static char sources[N_MANY][200];
    const char *args[N_MANY + 1] = {NULL};
    struct server s;

    for (unsigned i = 0; i < N_MANY; i++) {
        snprintf(sources[i], sizeof sources[i], "x%u=%s/m/%u/w.pt", i, dir, i);
        args[i] = sources[i];
    }
    s = server_start(args);
    for (unsigned i = 0; i < N_MANY; i++) {
        char name[16];
        struct reply r;

        snprintf(name, sizeof name, "x%u", i);
        r = post(&s, name, "encode?top_k=8", body->p);
        ck_assert_int_eq(r.status, 200);
        answer[i] = strdup(r.body);
        reply_free(&r);
    }
    ck_assert_int_eq(server_stop(&s), 0);
}

struct traffic {
    struct server s;
    int fd[N_CONNECTIONS];
    unsigned asked[N_CONNECTIONS]; /* of which: until it is answered */
    unsigned n_answers[N_MANY];
    unsigned n_ok, n_later; /* answers, and those that say so */
    double most_resident, most_rss;
    uint64_t random;
};

static unsigned next_random(struct traffic *t)
{
    t->random = t->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(t->random >> 33);
}

/* Any; three times of four one that has not answered yet, so that it does not take for ever. */
static unsigned next_asked(struct traffic *t)
{
    unsigned i = next_random(t) % N_MANY;
    bool any = next_random(t) % 4 == 0;

    for (unsigned n = 0; !any && n < N_MANY && t->n_answers[i]; n++)
        i = (i + 1) % N_MANY;
    return i;
}

static void ask(const struct traffic *t, size_t c, const struct text *body)
{
    char head[300];

    snprintf(head, sizeof head,
             "POST /v1/dictionaries/m.%u.w/encode?top_k=8 HTTP/1.1\r\nHost: localhost\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
             t->asked[c], body->n);
    raw_send(t->fd[c], head);
    raw_send_bytes(t->fd[c], body->p, body->n);
}

/* True: it was answered, rightly; false: it is to be asked again. */
static bool take_answer(struct traffic *t, size_t c, char *const answer[N_MANY])
{
    unsigned i = t->asked[c];
    struct reply r = raw_reply(t->fd[c], true, MS);
    bool is_answer = r.status == 200;

    if (is_answer) {
        ck_assert_msg(strcmp(r.body, answer[i]) == 0, "%u: %s is not %s", i, r.body, answer[i]);
        t->n_answers[i]++;
        t->n_ok++;
    } else {
        check_problem(&r, 503, "loading", NULL, "--max-resident-bytes");
        ck_assert_int_ge(atoi(reply_header(&r, "Retry-After")), 1);
        t->n_later++;
    }
    reply_free(&r);
    return is_answer;
}

static unsigned n_answered(const struct traffic *t)
{
    unsigned n = 0;

    for (unsigned i = 0; i < N_MANY; i++)
        n += t->n_answers[i] > 0;
    return n;
}

/* The sum of a gauge or counter over all dictionaries. */
static double sum_of(const struct server *s, const char *name)
{
    struct reply r = get(s, "/metrics");
    char text[100];
    double sum = 0;

    snprintf(text, sizeof text, "\n%s{", name);
    for (const char *at = r.body; (at = strstr(at, text)); at++)
        sum += strtod(strchr(at, '}') + 2, NULL);
    reply_free(&r);
    return sum;
}

static void look_at_memory(struct traffic *t, double before)
{
    double resident = sum_of(&t->s, "saed_dictionary_resident_bytes");
    double rss = metric(&t->s, "process_resident_memory_bytes");

    ck_assert_msg(resident <= many.most_bytes, "%.0f", resident);
    if (!SANITIZED)
        ck_assert_msg(rss < before + many.most_bytes + many.beside, "%.0f, and %.0f before", rss,
                      before);
    t->most_resident = resident > t->most_resident ? resident : t->most_resident;
    t->most_rss = rss > t->most_rss ? rss : t->most_rss;
}

/* Random traffic until each has been answered; each round an answer or a word on every connection.
 */
static void run_traffic(struct traffic *t, const struct text *body, char *const answer[N_MANY])
{
    long long end = test_now_ms() + 1000ll * 4 * many.seconds;
    double before = metric(&t->s, "process_resident_memory_bytes");

    for (size_t c = 0; c < N_CONNECTIONS; c++) {
        t->fd[c] = raw_connect(&t->s);
        t->asked[c] = next_asked(t);
    }
    while (n_answered(t) < N_MANY) {
        bool none = true;

        for (size_t c = 0; c < N_CONNECTIONS; c++)
            ask(t, c, body);
        for (size_t c = 0; c < N_CONNECTIONS; c++)
            if (take_answer(t, c, answer)) {
                none = false;
                t->asked[c] = next_asked(t);
            }
        look_at_memory(t, before);
        ck_assert_msg(test_now_ms() < end, "%u of %d", n_answered(t), N_MANY);
        poll(NULL, 0, none ? 50 : 5);
    }
    for (size_t c = 0; c < N_CONNECTIONS; c++)
        close(t->fd[c]);
}

START_TEST(thirty_in_the_memory_of_ten)
{
    static struct traffic t = {.random = 11};
    struct text body = row_text();
    char *answer[N_MANY], most[30];
    double loads;
    long long begin;

    make_many();
    answers_of(answer, &body);
    snprintf(most, sizeof most, "%.0f", many.most_bytes);
    t.s = server_start(
        (const char *const[]){"--dictionaries", dir, "--max-resident-bytes", most, NULL});
    ck_assert(sum_of(&t.s, "saed_dictionary_loads_total") == 0);
    begin = test_now_ms();
    run_traffic(&t, &body, answer);
    loads = sum_of(&t.s, "saed_dictionary_loads_total");
    ck_assert_uint_gt(t.n_later, 0);
    ck_assert(loads >= N_MANY);
    ck_assert(sum_of(&t.s, "saed_dictionary_load_failures_total") == 0);
    printf("%d of %.0f MB within %.0f MB: %u right answers, %u times later, %.0f loads, "
           "%.0f evictions in %.1f s; at most %.0f MB of dictionaries, %.0f MB of the process\n",
           N_MANY, (double)(8 * many.d * many.F) / 1e6, many.most_bytes / 1e6, t.n_ok, t.n_later,
           loads, sum_of(&t.s, "saed_dictionary_evictions_total"),
           (double)(test_now_ms() - begin) / 1e3, t.most_resident / 1e6, t.most_rss / 1e6);
    ck_assert_int_eq(server_stop(&t.s), 0);
    if (SANITIZED)
        printf("SKIP: memory of a sanitized build says nothing\n");
    for (unsigned i = 0; i < N_MANY; i++)
        free(answer[i]);
    text_free(&body);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("offers");
    TCase *t = tcase_create("offers"), *m = tcase_create("many");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_folder_of_good_bad_and_colliding_ones);
    tcase_add_test(t, what_is_wrong_is_told_before_loading);
    tcase_add_test(t, what_is_there_when_it_is_loaded_counts);
    tcase_add_test(t, readings_of_the_config);
    tcase_add_test(t, an_unknown_name_is_told_a_hundred);
    tcase_add_test(t, what_cannot_start);
    tcase_add_test(t, a_folder_is_checked);
    tcase_add_test(t, others_are_served_and_deadlines_kept);
    tcase_add_test(t, a_stop_waits_for_what_is_being_loaded);
    tcase_add_test(t, a_stop_in_haste_answers_all_the_same);
    suite_add_tcase(suite, t);
    if (getenv("SAED_MANY_LARGE"))
        many = large;
    tcase_add_checked_fixture(m, setup, teardown);
    tcase_set_timeout(m, many.seconds);
    tcase_add_test(m, thirty_in_the_memory_of_ten);
    suite_add_tcase(suite, m);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
