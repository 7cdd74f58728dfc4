/* test_labels.c - labels of features: beside the indices of answers, by id, of every kind of
 * source; and that they are in no header, metric or log. */
#include "tests/http/support_body.h"
#include "tests/support/files.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PT "tests/golden/data/autoencoder_33x70_f32.pt"

static char dir[] = "/tmp/saed-labels-XXXXXX";
static struct server s;

/* Three dictionaries with labels, of a config and of the line, and one without. */
static void start(void)
{
    char config[100], id[120];
    struct text t = {0};

    ck_assert_ptr_nonnull(mkdtemp(dir));
    put_file(dir, "id.json", "{\"0\":\"</script>\\\"\\u20ac\",\"2\":\"zwei\"}");
    put_file(dir, "lines", "LABEL-null\n\nLABEL-zwei\n");
    text_addf(&t,
              "{\"dictionaries\":[{\"name\":\"none\",\"source\":\"identity:4\",\"labels\":null},"
              "{\"name\":\"pt\",\"source\":\"" PT "\",\"labels\":\"%s/lines\"},"
              "{\"name\":\"fresh\",\"source\":\"init:AutoEncoder:8:16:l0=3\",\"labels\":"
              "\"%s/lines\"}]}",
              dir, dir);
    put_file(dir, "config", t.p);
    text_free(&t);
    snprintf(config, sizeof config, "%s/config", dir);
    snprintf(id, sizeof id, "id=identity:4:labels=%s/id.json", dir);
    s = server_start((const char *const[]){"--config", config, id, NULL});
}

static void stop(void)
{
    char command[100];

    ck_assert_int_eq(server_stop(&s), 0);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static const struct {
    const char *path, *body, *answer;
} asked[] = {
    {"id/encode", "{\"x\":[[1,0,-2,4],[0,0,0,0],[0,1,0,0]],\"sparse\":true,\"labels\":true}",
     "{\"f\":{\"shape\":[3,4],\"indices\":[[0,2,3],[],[1]],\"values\":[[1,-2,4],[],[1]],"
     "\"labels\":[[\"</script>\\\"\\u20ac\",\"zwei\",null],[],[null]]}}\n"},
    {"id/encode?labels=true&top_k=2", "{\"x\":[1,0,2,4]}",
     "{\"f\":{\"shape\":[4],\"indices\":[[3,2]],\"values\":[[4,2]],\"labels\":[[null,\"zwei\"]]}}"
     "\n"},
    {"id/forward?top_k=1&output_features=true", "{\"x\":[0,0,2,1],\"labels\":true}",
     "{\"x_hat\":[0,0,2,1],\"f\":{\"shape\":[4],\"indices\":[[2]],\"values\":[[2]],\"labels\":[["
     "\"zwei\"]]},\"f_units\":\"encode\"}\n"},
    {"id/encode", "{\"x\":[],\"sparse\":true,\"labels\":true}",
     "{\"f\":{\"shape\":[0,4],\"indices\":[],\"values\":[],\"labels\":[]}}\n"},
    {"id/encode", "{\"x\":[1,0,0,0],\"sparse\":true,\"labels\":false}",
     "{\"f\":{\"shape\":[4],\"indices\":[[0]],\"values\":[[1]]}}\n"},
    {"none/encode", "{\"x\":[1,0,0,0],\"labels\":null}", "{\"f\":[1,0,0,0]}\n"},
    /* What is answered may be sent. */
    {"none/decode",
     "{\"f\":{\"shape\":[1,4],\"indices\":[[2]],\"labels\":[[\"zwei\"]],\"values\":[[2]],"
     "\"argrow\":"
     "[[0]]}}",
     "{\"x_hat\":[[0,0,2,0]]}\n"},
};

START_TEST(labels_stand_beside_indices)
{
    char path[100];
    struct reply r;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", asked[_i].path);
    r = post_json(&s, path, asked[_i].body);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(r.body, asked[_i].answer);
    reply_free(&r);
}
END_TEST

static const struct {
    const char *query, *answer;
} by_id[] = {
    {"id/labels?features=2,3", "{\"labels\":{\"2\":\"zwei\",\"3\":null}}\n"},
    {"id/labels?features=3&features=0&features=3&verbose=1",
     "{\"labels\":{\"3\":null,\"0\":\"</script>\\\"\\u20ac\"}}\n"},
    {"id/labels?features=", "{\"labels\":{}}\n"},
    {"pt/labels?features=0,1,2,69",
     "{\"labels\":{\"0\":\"LABEL-null\",\"1\":null,\"2\":\"LABEL-zwei\",\"69\":null}}\n"},
    {"fresh/labels?features=2", "{\"labels\":{\"2\":\"LABEL-zwei\"}}\n"},
};

START_TEST(labels_are_given_by_id)
{
    char path[100], length[32];
    struct reply r, head;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", by_id[_i].query);
    r = get(&s, path);
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/json");
    ck_assert_str_eq(r.body, by_id[_i].answer);
    head = request(&s, "HEAD", path, NULL, NULL, 0);
    snprintf(length, sizeof length, "%zu", r.n);
    ck_assert_int_eq(head.status, 200);
    ck_assert_uint_eq(head.n, 0);
    ck_assert_str_eq(reply_header(&head, "Content-Length"), length);
    reply_free(&head);
    reply_free(&r);
}
END_TEST

static const struct {
    const char *path, *body; /* NULL: GET */
    int status;
    const char *code, *detail;
} refusals[] = {
    {"none/labels?features=1", NULL, 404, "not_found", "its source states none (labels=PATH)"},
    {"none/labels", NULL, 404, "not_found", "its source states none"},
    {"none/labels?features=x", NULL, 404, "not_found", "its source states none"},
    {"nope/labels?features=1", NULL, 404, "unknown_dictionary", NULL},
    {"id/labels", NULL, 400, "bad_option", "?features=3,7"},
    {"id/labels?features=4", NULL, 400, "bad_option", "item 0 is 4, the ids of \"id\" are 0 to 3"},
    {"id/labels?features=a", NULL, 400, "bad_option", "wanted feature ids"},
    {"id/labels?features", NULL, 400, "bad_option", "it has no value"},
    {"id/labels?features=1", "{}", 405, "method_not_allowed", "allowed is GET, HEAD, OPTIONS"},
    {"id/encode", "{\"x\":[1,0,0,0],\"labels\":true}", 400, "bad_option", "f is dense"},
    {"id/encode", "{\"x\":[1,0,0,0],\"labels\":1,\"sparse\":true}", 400, "bad_option",
     "wanted true or false"},
    {"id/forward", "{\"x\":[1,0,0,0],\"labels\":true,\"sparse\":true}", 400, "bad_option",
     "does not return f"},
    {"id/decode", "{\"f\":[1,0,0,0],\"labels\":true}", 400, "bad_option", "does not take it"},
    {"none/encode", "{\"x\":[1,0,0,0],\"labels\":true,\"sparse\":true}", 400, "bad_option",
     "cannot use labels: IdentityDict.encode does not take it (takes sparse, top_k, features)"},
};

START_TEST(what_is_not_there_is_refused)
{
    char path[100];
    struct reply r;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", refusals[_i].path);
    r = refusals[_i].body ? post_json(&s, path, refusals[_i].body) : get(&s, path);
    check_problem(&r, refusals[_i].status, refusals[_i].code, refusals[_i].detail, NULL);
    reply_free(&r);
}
END_TEST

START_TEST(at_most_1024_at_once)
{
    struct text t = {0};
    struct reply r;

    text_addf(&t, "/v1/dictionaries/id/labels?features=0");
    for (int i = 1; i < 1024; i++)
        text_addf(&t, ",%d", i % 4);
    r = get(&s, t.p);
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    text_addf(&t, ",0");
    r = get(&s, t.p);
    check_problem(&r, 400, "bad_option", "features has 1025 ids, at most 1024", NULL);
    reply_free(&r);
    text_free(&t);
}
END_TEST

/* Tensors have no texts: what must be another form than JSON is refused, what may be JSON is. */
START_TEST(labels_are_json_alone)
{
    const char *path = "/v1/dictionaries/id/encode?sparse=true&labels=true";
    const float x[] = {1, 0, 2, 0};
    struct reply r =
        request(&s, "POST", path,
                (const char *const[]){"Content-Type: application/octet-stream", NULL}, x, sizeof x);

    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/json");
    ck_assert_ptr_nonnull(strstr(r.body, "\"zwei\""));
    reply_free(&r);
    r = request(&s, "POST", path,
                (const char *const[]){"Content-Type: application/octet-stream",
                                      "Accept: application/x-safetensors", NULL},
                x, sizeof x);
    check_problem(&r, 406, "not_acceptable", "this answer can be application/json", NULL);
    reply_free(&r);
}
END_TEST

static bool takes_labels(const char *name)
{
    char path[100];
    struct reply r;
    bool takes;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", name);
    r = get(&s, path);
    takes = strstr(json_member(&r, "options"), "\"labels\"") != NULL;
    reply_free(&r);
    return takes;
}

START_TEST(options_tell_where_they_are_stated)
{
    struct reply r = get(&s, "/v1/dictionaries/fresh");
    json_t *j = json_loads(r.body, 0, NULL);
    long long with;

    ck_assert(takes_labels("id") && takes_labels("pt") && takes_labels("fresh"));
    ck_assert(!takes_labels("none"));
    with = json_integer_value(json_object_get(j, "resident_bytes"));
    ck_assert_int_ge(with, json_integer_value(json_object_get(j, "bytes")) + 16 * 6);
    json_decref(j);
    reply_free(&r);
}
END_TEST

/* The text of strangers stays in answers' bodies. */
START_TEST(they_are_in_no_header_metric_or_log)
{
    struct reply r = get(&s, "/v1/dictionaries/pt/labels?features=0,2"), m;
    char *log;

    ck_assert_ptr_nonnull(strstr(r.body, "LABEL-null"));
    ck_assert_ptr_null(strstr(r.head, "LABEL"));
    m = get(&s, "/metrics");
    ck_assert_ptr_null(strstr(m.body, "LABEL"));
    ck_assert_ptr_nonnull(
        strstr(m.body, "saed_requests_total{dictionary=\"pt\",op=\"labels\",code=\"200\"}"));
    log = server_stderr(&s);
    ck_assert_ptr_null(strstr(log, "LABEL"));
    free(log);
    reply_free(&m);
    reply_free(&r);
}
END_TEST

/* Those of what is offered are there with its values, for both ways of asking. */
START_TEST(what_is_offered_is_loaded_for_them)
{
    char offers[] = "/tmp/saed-offered-XXXXXX", command[200], config[120];
    struct text t = {0};

    ck_assert_ptr_nonnull(mkdtemp(offers));
    put_file(offers, "labels.txt", "eins\nzwei\n");
    text_addf(&t,
              "{\"dictionaries\":\"%s/d\",\"readings\":[{\"match\":\"*\",\"labels\":"
              "\"%s/labels.txt\"}]}",
              offers, offers);
    put_file(offers, "config", t.p);
    text_free(&t);
    snprintf(config, sizeof config, "%s/config", offers);
    snprintf(command, sizeof command, "mkdir %s/d && cp " PT " %s/d/a.pt", offers, offers);
    ck_assert_int_eq(system(command), 0);
    for (int way = 0; way < 2; way++) {
        struct server one = server_start((const char *const[]){"--config", config, NULL});
        struct reply r;

        if (way == 0) {
            r = get(&one, "/v1/dictionaries/a/labels?features=1,2");
            ck_assert_str_eq(r.body, "{\"labels\":{\"1\":\"zwei\",\"2\":null}}\n");
        } else {
            text_addf(&t, "{\"x\":[");
            for (int k = 0; k < 33; k++)
                text_addf(&t, "%s%d", k ? "," : "", k % 5);
            text_addf(&t, "],\"features\":[0,1],\"sparse\":true,\"labels\":true}");
            r = post_json(&one, "/v1/dictionaries/a/encode", t.p);
            ck_assert_msg(r.status == 200 && strstr(r.body, "\"labels\":[["), "%s", r.body);
            text_free(&t);
        }
        reply_free(&r);
        ck_assert_int_eq(server_stop(&one), 0);
    }
    snprintf(command, sizeof command, "rm -rf %s", offers);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(a_wrong_file_is_no_dictionary)
{
    static const struct {
        const char *source;
        int status;
        const char *said;
    } cases[] = {
        {"a=identity:2:labels=%s/id.json", 1, "key \"2\" is no id, they are 0 to 1"},
        {"a=" PT ":labels=%s/none", 1, "No such file or directory"},
        {"a=identity:4:labels=", 2, "labels has no value"},
        {"a=identity:4:labels=%s/id.json:k=3", 2, "k= does not go with identity: and init:"},
        {"a=" PT ":labels=%s/a:labels=b", 2, "labels is stated twice"},
    };
    char source[200], *err;
    struct server one;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(source, sizeof source, cases[_i].source, dir);
#pragma GCC diagnostic pop
    one = server_spawn((const char *const[]){"--check", source, NULL});
    ck_assert_int_eq(server_wait(&one, 20000), cases[_i].status);
    err = server_stderr(&one);
    ck_assert_msg(strstr(err, cases[_i].said) != NULL, "%s", err);
    free(err);
    close(one.out);
    close(one.err);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("labels");
    TCase *t = tcase_create("labels");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_loop_test(t, labels_stand_beside_indices, 0, sizeof asked / sizeof *asked);
    tcase_add_loop_test(t, labels_are_given_by_id, 0, sizeof by_id / sizeof *by_id);
    tcase_add_loop_test(t, what_is_not_there_is_refused, 0, sizeof refusals / sizeof *refusals);
    tcase_add_test(t, at_most_1024_at_once);
    tcase_add_test(t, labels_are_json_alone);
    tcase_add_test(t, options_tell_where_they_are_stated);
    tcase_add_test(t, they_are_in_no_header_metric_or_log);
    tcase_add_test(t, what_is_offered_is_loaded_for_them);
    tcase_add_loop_test(t, a_wrong_file_is_no_dictionary, 0, 5);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
