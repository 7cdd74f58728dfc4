/* test_readings.c - what is stated of a file, through to the answers: a daemon that serves tensors
 * by any name, and shows under which formula it reads them. */
#include "tests/http/support.h"
#include "tests/http/support_pt.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two inputs, three features; every product is exact. */
static const float W[] = {1, 0, -1, 0, 1, 2};  /* [d, F] */
static const float V[] = {1, 0, 0, 1, 0.5, 2}; /* [F, d] */
static const float b[] = {0, 0.5, -1}, c[] = {1, -1};

static void expect_body(const struct server *s, const char *path, const char *body,
                        const char *part)
{
    struct reply r = body ? post_json(s, path, body) : get(s, path);

    ck_assert_msg(r.status == 200, "%s: %d %s", path, r.status, r.body);
    ck_assert_msg(strstr(r.body, part) != NULL, "%s: %s is not in %s", path, part, r.body);
    free(r.head);
    free(r.body);
}

/* x = (2, 1): h of "all" is x W + b = 2 1.5 -1, of "top" (x - c) W + b = 1 2.5 2. */
START_TEST(a_daemon_serves_tensors_by_any_name)
{
    struct server s;
    char path[64], sources[2][200];

    snprintf(path, sizeof path, "/tmp/saed-readings-%d.pt", (int)getpid());
    write_pt(path,
             (const struct pt_tensor[]){{.name = "W", .dim = {2, 3}, .n = 2, .data = W},
                                        {.name = "V", .dim = {3, 2}, .n = 2, .data = V},
                                        {.name = "b", .dim = {3}, .n = 1, .data = b},
                                        {.name = "c", .dim = {2}, .n = 1, .data = c}},
             4);
    snprintf(sources[0], sizeof sources[0],
             "all=%s:format=custom:encoder=W:decoder=V:enc_bias=b:centre=none:activation=relu",
             path);
    snprintf(sources[1], sizeof sources[1],
             "top=%s:encoder=W@d,F:decoder=V@F,m:enc_bias=b:dec_bias=c:centre=c:k=2", path);
    s = server_start((const char *const[]){sources[0], sources[1], NULL});
    expect_body(&s, "/v1/dictionaries/all/encode", "{\"x\":[2,1]}", "{\"f\":[2,1.5,0]}");
    expect_body(&s, "/v1/dictionaries/all/forward", "{\"x\":[2,1]}", "{\"x_hat\":[2,1.5]");
    expect_body(&s, "/v1/dictionaries/top/encode", "{\"x\":[2,1]}", "{\"f\":[0,2.5,2]}");
    expect_body(&s, "/v1/dictionaries/top/forward", "{\"x\":[2,1]}", "{\"x_hat\":[2,5.5]");
    expect_body(&s, "/v1/dictionaries/all", NULL, "\"dict_class\":\"standard\"");
    expect_body(&s, "/v1/dictionaries/top", NULL, "\"dict_class\":\"topk\"");
    expect_body(&s, "/v1/dictionaries/top", NULL, "\"output_dim\":2,\"format\":\"custom\"");
    expect_body(&s, "/v1/dictionaries/top", NULL,
                "\"reading\":{\"kind\":\"sae\",\"input\":\"none\",\"output\":\"none\","
                "\"centre\":\"c\",\"activation\":\"relu\",\"select\":\"top_k:2\","
                "\"threshold\":\"none\",\"score\":\"value\",\"normalize_decoder\":\"as_stored\","
                "\"features\":\"all\",\"skip\":\"none\",\"stated\":[\"centre\",\"activation\","
                "\"select\"],\"contradicts\":{},\"notes\":[\"activation = relu is implied by "
                "k=\"]}");
    ck_assert_int_eq(server_stop(&s), 0);
    unlink(path);
}
END_TEST

static json_t *answer_of(const struct server *s, const char *path, const char *body, int status)
{
    struct reply r = post_json(s, path, body);
    json_t *j = json_loads(r.body, 0, NULL);

    ck_assert_msg(r.status == status && j, "%s: %d %s", path, r.status, r.body);
    reply_free(&r);
    return j;
}

/* decode of what forward gives, the rows' own numbers and the row beside f, is its x_hat. */
START_TEST(a_decode_has_what_it_wants_beside_f)
{
    static const char *const x = "[[1,7],[-2,0.5]]", *const names[] = {"rms", "skip"};
    struct server s;
    char path[64], sources[3][200], body[300];

    snprintf(path, sizeof path, "/tmp/saed-beside-%d.pt", (int)getpid());
    write_pt(path,
             (const struct pt_tensor[]){{.name = "W", .dim = {2, 3}, .n = 2, .data = W},
                                        {.name = "V", .dim = {3, 2}, .n = 2, .data = V},
                                        {.name = "b", .dim = {3}, .n = 1, .data = b},
                                        {.name = "S", .dim = {2, 2}, .n = 2, .data = V}},
             4);
    snprintf(sources[0], sizeof sources[0],
             "rms=%s:encoder=W:decoder=V:enc_bias=b:centre=none:input=rms:activation=linear", path);
    snprintf(sources[1], sizeof sources[1],
             "skip=%s:encoder=W:decoder=V:enc_bias=b:centre=none:input=layer_norm:activation=relu:"
             "skip=S@m,d",
             path);
    snprintf(sources[2], sizeof sources[2],
             "half=%s:encoder=W:enc_bias=b:centre=none:activation=relu:parts=encoder", path);
    s = server_start((const char *const[]){sources[0], sources[1], sources[2], NULL});
    for (int i = 0; i < 2; i++) {
        char forward[64], decode[64], *text;
        json_t *given, *asked = json_object(), *got;

        snprintf(forward, sizeof forward, "/v1/dictionaries/%s/forward", names[i]);
        snprintf(decode, sizeof decode, "/v1/dictionaries/%s/decode", names[i]);
        snprintf(body, sizeof body, "{\"x\":%s,\"output_features\":true,\"input_state\":true}", x);
        given = answer_of(&s, forward, body, 200);
        ck_assert_uint_eq(json_array_size(json_object_get(given, "input_state")), 2);
        json_object_set(asked, "f", json_object_get(given, "f"));
        text = json_dumps(asked, 0);
        json_decref(answer_of(&s, decode, text, 400));
        free(text);
        json_object_set(asked, "input_state", json_object_get(given, "input_state"));
        if (i == 1)
            json_object_set_new(asked, "x", json_loads(x, 0, NULL));
        text = json_dumps(asked, JSON_REAL_PRECISION(9));
        got = answer_of(&s, decode, text, 200);
        ck_assert(json_equal(json_object_get(got, "x_hat"), json_object_get(given, "x_hat")));
        free(text);
        json_decref(got);
        json_decref(asked);
        json_decref(given);
    }
    /* an encoder alone encodes */
    expect_body(&s, "/v1/dictionaries/half/encode", "{\"x\":[2,1]}", "{\"f\":[2,1.5,0]}");
    json_decref(answer_of(&s, "/v1/dictionaries/half/decode", "{\"f\":[1,2,3]}", 409));
    json_decref(answer_of(&s, "/v1/dictionaries/half/forward", "{\"x\":[2,1]}", 409));
    ck_assert_int_eq(server_stop(&s), 0);
    unlink(path);
}
END_TEST

/* The description of a dictionary, owned. */
static json_t *description_of(const struct server *s, const char *path)
{
    struct reply r = get(s, path);
    json_t *j = json_loads(r.body, 0, NULL);

    ck_assert_msg(r.status == 200 && j, "%s: %d %s", path, r.status, r.body);
    reply_free(&r);
    return j;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* What GET shows as a reading may be stated in the config file, where a tensor's key may have in it
 * what a line would cut: the same dictionary. */
START_TEST(a_reading_that_is_shown_may_be_stated)
{
    struct server s;
    char path[64], config[64], source[300], flag[80];
    json_t *line, *entry, *all, *got;

    snprintf(path, sizeof path, "/tmp/saed-pasted-%d.pt", (int)getpid());
    snprintf(config, sizeof config, "/tmp/saed-pasted-%d.json", (int)getpid());
    write_pt(path,
             (const struct pt_tensor[]){{.name = "W", .dim = {2, 3}, .n = 2, .data = W},
                                        {.name = "V", .dim = {3, 2}, .n = 2, .data = V},
                                        {.name = "b", .dim = {3}, .n = 1, .data = b},
                                        {.name = "b:k=1", .dim = {3}, .n = 1, .data = b},
                                        {.name = "c", .dim = {2}, .n = 1, .data = c}},
             5);
    snprintf(source, sizeof source,
             "a=%s:encoder=W@d,F:decoder=V@F,m:enc_bias=b:dec_bias=c:centre=c:k=2", path);
    s = server_start((const char *const[]){source, NULL});
    line = description_of(&s, "/v1/dictionaries/a");
    ck_assert_int_eq(server_stop(&s), 0);
    entry = json_pack("{s:s s:s s:s s:s s:s s:s s:O}", "name", "b", "source", path, "encoder",
                      "W@d,F", "decoder", "V@F,m", "enc_bias", "b:k=1", "dec_bias", "c", "reading",
                      json_object_get(line, "reading"));
    all = json_pack("{s:[o]}", "dictionaries", entry);
    ck_assert_int_eq(json_dump_file(all, config, 0), 0);
    snprintf(flag, sizeof flag, "--config=%s", config);
    s = server_start((const char *const[]){flag, NULL});
    got = description_of(&s, "/v1/dictionaries/b");
    ck_assert_str_eq(text_of(got, "weights_sha256"), text_of(line, "weights_sha256"));
    for (const char *const *f = (const char *const[]){"kind", "output", "centre", "select", NULL};
         *f; f++)
        ck_assert_str_eq(text_of(json_object_get(got, "reading"), *f),
                         text_of(json_object_get(line, "reading"), *f));
    ck_assert(strstr(text_of(got, "source"), ":enc_bias=b:k=1:") != NULL);
    ck_assert_int_eq(server_stop(&s), 0);
    json_decref(got);
    json_decref(all);
    json_decref(line);
    unlink(config);
    unlink(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("readings");
    TCase *t = tcase_create("readings");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, a_daemon_serves_tensors_by_any_name);
    tcase_add_test(t, a_decode_has_what_it_wants_beside_f);
    tcase_add_test(t, a_reading_that_is_shown_may_be_stated);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
