/* test_json.c - the JSON form as a client sees it: shapes, numbers, options, sparse objects.
 *
 * IdentityDict makes answers foreseeable to the digit; classes with formulae are in test_forms.c.
 * The refused bodies of tests/invalid/json are sent here too, each to a dictionary of its target.
 */
#include "tests/http/support_body.h"

#include <check.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct server s;

static void start(void)
{
    s = server_start(
        (const char *const[]){"i=identity:4", "one=identity:1", "a=init:AutoEncoder:3:6",
                              "g=init:GatedAutoEncoder:3:6:l0=3", "j=init:JumpAutoEncoder:3:6",
                              "n=init:AutoEncoderNew:3:6", NULL});
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

/* Equal as JSON values; numbers by value, so that 1 and 1.0 are equal, and by sign, for -0.0. */
static bool same(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *v;

    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);

        return x == y && signbit(x) == signbit(y);
    }
    if (json_typeof(a) != json_typeof(b))
        return false;
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b))
            return false;
        for (size_t i = 0; i < json_array_size(a); i++)
            if (!same(json_array_get(a, i), json_array_get(b, i)))
                return false;
        return true;
    }
    if (json_is_object(a)) {
        if (json_object_size(a) != json_object_size(b))
            return false;
        json_object_foreach((json_t *)(uintptr_t)a, key,
                            v) if (!json_object_get(b, key) ||
                                   !same(v, json_object_get(b, key))) return false;
        return true;
    }
    return json_equal(a, b);
}

struct sent {
    const char *path, *body, *want;
};

static void expect_same(const struct sent *c)
{
    char path[256];
    struct reply r;
    json_t *want = json_loads(c->want, 0, NULL), *got;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", c->path);
    r = post_json(&s, path, c->body);
    ck_assert_msg(r.status == 200, "%s %s: %d %s", c->path, c->body, r.status, r.body);
    got = json_loadb(r.body, r.n, 0, NULL);
    ck_assert_msg(want && got && same(got, want), "%s %s: %s, want %s", c->path, c->body, r.body,
                  c->want);
    json_decref(want);
    json_decref(got);
    reply_free(&r);
}

/* ---- answers known to the digit -------------------------------------------------------------- */

static const struct sent answers[] = {
    /* leading dimensions */
    {"i/encode", "{\"x\":[1,2,3,4]}", "{\"f\":[1,2,3,4]}"},
    {"i/encode", "{\"x\":[[1,2,3,4]]}", "{\"f\":[[1,2,3,4]]}"},
    {"i/encode", "{\"x\":[[[1,2,3,4],[5,6,7,8]]]}", "{\"f\":[[[1,2,3,4],[5,6,7,8]]]}"},
    {"i/encode", "{\"x\":[[[[[[[[1,2,3,4]]]]]]]]}", "{\"f\":[[[[[[[[1,2,3,4]]]]]]]]}"},
    {"one/decode", "{\"f\":[[1],[2]]}", "{\"x_hat\":[[1],[2]]}"},
    {"i/decode", "{\"f\":[1,2,3,4]}", "{\"x_hat\":[1,2,3,4]}"},
    {"i/forward", "{\"x\":[1,2,3,4]}", "{\"x_hat\":[1,2,3,4]}"},
    /* zero rows */
    {"i/encode", "{\"x\":[]}", "{\"f\":[]}"},
    {"a/decode", "{\"f\":[]}", "{\"x_hat\":[]}"},
    {"a/encode", "{\"x\":[],\"sparse\":true}",
     "{\"f\":{\"shape\":[0,6],\"indices\":[],\"values\":[]}}"},
    {"a/encode?top_k=2", "{\"x\":[]}", "{\"f\":{\"shape\":[0,6],\"indices\":[],\"values\":[]}}"},
    {"a/decode", "{\"f\":{\"shape\":[0,6],\"indices\":[],\"values\":[]}}", "{\"x_hat\":[]}"},
    {"g/encode", "{\"x\":[],\"return_gate\":true}", "{\"f\":[],\"gate\":[]}"},
    {"n/forward", "{\"x\":[],\"output_features\":true}",
     "{\"x_hat\":[],\"f\":[],\"f_units\":\"decoder_norm\"}"},
    /* numbers */
    {"i/encode", "{\"x\":[1e-50,-1e-50,-0,-0.0]}", "{\"f\":[0,-0.0,-0.0,-0.0]}"},
    {"i/encode", "{\"x\":[0.1,1E2,1e+2,-1.5e-3]}", "{\"f\":[0.1,100,100,-0.0015]}"},
    {"i/encode", "{\"x\":[3.4028235677973361e38,1e-45,0,1]}", "{\"f\":[3.4028235e38,1e-45,0,1]}"},
    {"i/encode", "{\"x\":[\"NaN\",\"Infinity\",\"-Infinity\",1]}",
     "{\"f\":[\"NaN\",\"Infinity\",\"-Infinity\",1]}"},
    {"i/encode", "{\"x\":[16777217,0.333333333333,33554433,123456789]}",
     "{\"f\":[16777216,0.33333334,33554432,123456790]}"},
    {"i/encode", " \t\r\n{ \"x\" :\n[ 1 , 2,3 ,4 ] }\n", "{\"f\":[1,2,3,4]}"},
    {"i/encode", "{\"\\u0078\":[1,2,3,4]}", "{\"f\":[1,2,3,4]}"},
    /* sparse and top_k */
    {"i/encode", "{\"x\":[0,-2,0,3],\"sparse\":true}",
     "{\"f\":{\"shape\":[4],\"indices\":[[1,3]],\"values\":[[-2,3]]}}"},
    {"i/encode", "{\"x\":[[[0,1,0,0]],[[0,0,0,0]]],\"sparse\":true}",
     "{\"f\":{\"shape\":[2,1,4],\"indices\":[[1],[]],\"values\":[[1],[]]}}"},
    {"i/encode", "{\"x\":[-0.0,\"NaN\",\"Infinity\",\"-Infinity\"],\"sparse\":true}",
     "{\"f\":{\"shape\":[4],\"indices\":[[1,2,3]],\"values\":[[\"NaN\",\"Infinity\",\"-Infinity\"]]"
     "}}"},
    {"i/encode", "{\"x\":[3,\"NaN\",7,3],\"top_k\":3}",
     "{\"f\":{\"shape\":[4],\"indices\":[[1,2,0]],\"values\":[[\"NaN\",7,3]]}}"},
    {"i/encode", "{\"x\":[5,5,5,5],\"top_k\":2}",
     "{\"f\":{\"shape\":[4],\"indices\":[[0,1]],\"values\":[[5,5]]}}"},
    {"i/encode", "{\"x\":[0,-1,0,-2],\"top_k\":3}",
     "{\"f\":{\"shape\":[4],\"indices\":[[1,3]],\"values\":[[-1,-2]]}}"},
    {"i/encode", "{\"x\":[1,2,3,4],\"top_k\":1000000}",
     "{\"f\":{\"shape\":[4],\"indices\":[[3,2,1,0]],\"values\":[[4,3,2,1]]}}"},
    {"i/encode", "{\"x\":[1,2,3,4],\"top_k\":1,\"sparse\":true}",
     "{\"f\":{\"shape\":[4],\"indices\":[[3]],\"values\":[[4]]}}"},
    /* features */
    {"i/encode", "{\"x\":[1,2,3,4],\"features\":[3,0,3]}", "{\"f\":[4,1,4]}"},
    {"i/encode", "{\"x\":[[1,2,3,4]],\"features\":[]}", "{\"f\":[[]]}"},
    {"i/encode", "{\"x\":[1,0,3,4],\"features\":[3,0,3,1],\"sparse\":true}",
     "{\"f\":{\"shape\":[4],\"indices\":[[0,3]],\"values\":[[1,4]]}}"},
    {"i/encode", "{\"x\":[1,2,3,4],\"features\":[2,0,2],\"top_k\":9}",
     "{\"f\":{\"shape\":[4],\"indices\":[[2,0]],\"values\":[[3,1]]}}"},
    {"i/encode", "{\"x\":[1,2,3,4],\"features\":[],\"top_k\":2}",
     "{\"f\":{\"shape\":[4],\"indices\":[[]],\"values\":[[]]}}"},
    {"i/forward", "{\"x\":[1,2,3,4],\"output_features\":true,\"features\":[1]}",
     "{\"x_hat\":[1,2,3,4],\"f\":[2],\"f_units\":\"encode\"}"},
    {"i/forward", "{\"x\":[1,2,3,4],\"output_features\":true,\"top_k\":1}",
     "{\"x_hat\":[1,2,3,4],\"f\":{\"shape\":[4],\"indices\":[[3]],\"values\":[[4]]},\"f_units\":"
     "\"encode\"}"},
    /* options in the query */
    {"i/encode?top_k=1", "{\"x\":[1,2,3,4]}",
     "{\"f\":{\"shape\":[4],\"indices\":[[3]],\"values\":[[4]]}}"},
    {"i/encode?%74op_k=%31", "{\"x\":[1,2,3,4]}",
     "{\"f\":{\"shape\":[4],\"indices\":[[3]],\"values\":[[4]]}}"},
    {"i/encode?features=3%2C0,1", "{\"x\":[1,2,3,4]}", "{\"f\":[4,1,2]}"},
    {"i/encode?features=", "{\"x\":[1,2,3,4]}", "{\"f\":[]}"},
    {"i/encode?sparse=false", "{\"x\":[1,2,3,4]}", "{\"f\":[1,2,3,4]}"},
    {"i/encode?sparse=true&features=2", "{\"x\":[1,2,3,4]}",
     "{\"f\":{\"shape\":[4],\"indices\":[[2]],\"values\":[[3]]}}"},
    {"i/forward?output_features=true", "{\"x\":[1,2,3,4],\"sparse\":true}",
     "{\"x_hat\":[1,2,3,4],\"f\":{\"shape\":[4],\"indices\":[[0,1,2,3]],\"values\":[[1,2,3,4]]},"
     "\"f_units\":\"encode\"}"},
    /* not asked is accepted everywhere */
    {"i/encode",
     "{\"x\":[1,2,3,4],\"sparse\":false,\"top_k\":null,\"features\":null,\"return_gate\":false,"
     "\"output_pre_jump\":null,\"output_features\":false,\"ghost_mask\":null}",
     "{\"f\":[1,2,3,4]}"},
    {"i/decode",
     "{\"f\":[1,2,3,4],\"sparse\":null,\"top_k\":false,\"features\":false,\"return_gate\":null,"
     "\"output_pre_jump\":false,\"output_features\":null,\"ghost_mask\":false}",
     "{\"x_hat\":[1,2,3,4]}"},
    {"i/forward?sparse=false&return_gate=false&output_pre_jump=false", "{\"x\":[1,2,3,4]}",
     "{\"x_hat\":[1,2,3,4]}"},
    {"i/forward", "{\"x\":[1,2,3,4],\"top_k\":null,\"features\":null,\"ghost_mask\":null}",
     "{\"x_hat\":[1,2,3,4]}"},
    /* a ghost mask that IdentityDict does not look at */
    {"i/forward", "{\"x\":[1,2,3,4],\"ghost_mask\":[true,false,1,0]}", "{\"x_hat\":[1,2,3,4]}"},
    /* sparse f */
    {"i/decode", "{\"f\":{\"shape\":[2,4],\"indices\":[[3,0],[]],\"values\":[[1,-2],[]]}}",
     "{\"x_hat\":[[-2,0,0,1],[0,0,0,0]]}"},
    {"i/decode", "{\"f\":{\"values\":[[7]],\"indices\":[[2]],\"shape\":[4]}}",
     "{\"x_hat\":[0,0,7,0]}"},
    {"i/decode",
     "{\"f\":{\"shape\":[1,2,1,4],\"indices\":[[0],[1]],\"values\":[[\"NaN\"],[\"-Infinity\"]]}}",
     "{\"x_hat\":[[[[\"NaN\",0,0,0]],[[0,\"-Infinity\",0,0]]]]}"},
};

START_TEST(answers_are_these)
{
    expect_same(&answers[_i]);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------ */

static const struct {
    const char *path, *body, *code, *detail;
} refused[] = {
    {"i/encode", "{\"x\":[[[[[[[[[1,2,3,4]]]]]]]]]}", "bad_shape", NULL}, /* depth 9 */
    {"i/encode", "{\"x\":[[]]}", "bad_shape", NULL},
    {"i/encode", "{\"x\":[[1,2,3,4],[]]}", "bad_shape", NULL},
    {"i/encode", "{\"x\":[[1,2,3,4],5]}", "bad_shape", NULL},
    {"i/encode", "{\"x\":5}", "bad_shape", NULL},
    {"i/encode", "{\"x\":[1,2,3]}", "bad_shape", "4"},
    {"a/encode", "{\"x\":[1,2,3,4]}", "bad_shape", "\"i\""}, /* who takes it */
    {"i/decode", "{\"f\":[1,2,3,4,5,6]}", "bad_shape", "\"a\", \"g\", \"j\", \"n\""},
    {"i/encode", "{\"x\":{\"shape\":[4],\"indices\":[[]],\"values\":[[]]}}", "bad_shape", NULL},
    {"i/encode", "{}", "bad_shape", "x"},
    {"i/decode", "{\"sparse\":false}", "bad_shape", "f"},
    {"i/encode", "[1,2,3,4]", "bad_shape", NULL},
    {"i/encode", "{\"x\":[1,2,3,1e39]}", "bad_number", "1e39"},
    {"i/encode", "{\"x\":[1,2,3,3.4028235677973366e38]}", "bad_number", NULL},
    {"i/encode", "{\"x\":[1,2,3,\"nan\"]}", "bad_number", NULL},
    {"i/encode", "{\"x\":[1,2,3,null]}", "bad_number", NULL},
    {"i/encode", "{\"x\":[1,2,3,true]}", "bad_number", NULL},
    {"i/encode", "{\"x\":[1,2,3,NaN]}", "malformed_json", NULL},
    {"i/encode", "{\"x\":[1,2,3,04]}", "malformed_json", NULL},
    {"i/encode", "{\"x\":[1,2,3,4]} x", "malformed_json", "16"},
    {"i/encode", "{\"x\":[1,2,3,4],}", "malformed_json", NULL},
    {"i/encode", "{\"x\":[1,2,3,4],\"X\":1}", "bad_option", "X"},
    {"i/encode", "{\"x\":[1,2,3,4],\"x\":[1,2,3,4]}", "bad_option", "x"},
    {"i/encode", "{\"x\":[1,2,3,4],\"f\":[1,2,3,4]}", "bad_option", "f"},
    {"i/decode", "{\"f\":[1,2,3,4],\"x\":[1,2,3,4]}", "bad_option", "x"},
    {"i/encode?topk=1", "{\"x\":[1,2,3,4]}", "bad_option", "topk"},
    {"i/encode?top_k=1&top_k=1", "{\"x\":[1,2,3,4]}", "bad_option", "top_k"},
    {"i/encode?sparse=false", "{\"x\":[1,2,3,4],\"sparse\":false}", "bad_option", "sparse"},
    {"i/encode?top_k=1", "{\"x\":[1,2,3,4],\"top_k\":null}", "bad_option", "top_k"},
    {"i/encode?sparse=2", "{\"x\":[1,2,3,4]}", "bad_option", "sparse"},
    {"i/encode?sparse=TRUE", "{\"x\":[1,2,3,4]}", "bad_option", "sparse"},
    {"i/encode?ghost_mask=1", "{\"x\":[1,2,3,4]}", "bad_option", "ghost_mask"},
    {"i/encode?x=1", "{\"x\":[1,2,3,4]}", "bad_option", "x"},
    {"i/encode?top_k=0", "{\"x\":[1,2,3,4]}", "bad_option", "top_k"},
    {"i/encode?top_k=-1", "{\"x\":[1,2,3,4]}", "bad_option", "top_k"},
    {"i/encode", "{\"x\":[1,2,3,4],\"top_k\":0}", "bad_option", "top_k"},
    {"i/encode", "{\"x\":[1,2,3,4],\"top_k\":1.5}", "bad_option", "top_k"},
    {"i/encode", "{\"x\":[1,2,3,4],\"top_k\":\"1\"}", "bad_option", "top_k"},
    {"i/encode", "{\"x\":[1,2,3,4],\"top_k\":true}", "bad_option", "top_k"},
    {"i/encode", "{\"x\":[1,2,3,4],\"sparse\":1}", "bad_option", "sparse"},
    {"i/encode", "{\"x\":[1,2,3,4],\"features\":[4]}", "bad_option", "4"},
    {"i/encode", "{\"x\":[1,2,3,4],\"features\":[-1]}", "bad_option", "features"},
    {"i/encode?features=4", "{\"x\":[1,2,3,4]}", "bad_option", "4"},
    {"i/encode?features=1,,2", "{\"x\":[1,2,3,4]}", "bad_option", "features"},
    /* the table of options */
    {"i/decode", "{\"f\":[1,2,3,4],\"sparse\":true}", "bad_option", "sparse"},
    {"i/decode", "{\"f\":[1,2,3,4],\"top_k\":1}", "bad_option", "top_k"},
    {"i/decode", "{\"f\":[1,2,3,4],\"features\":[1]}", "bad_option", "features"},
    {"i/decode", "{\"f\":[1,2,3,4],\"features\":[]}", "bad_option", "features"},
    {"i/decode", "{\"f\":[1,2,3,4],\"output_features\":true}", "bad_option", "output_features"},
    {"i/decode", "{\"f\":[1,2,3,4],\"ghost_mask\":[1,1,1,1]}", "bad_option", "ghost_mask"},
    {"i/encode", "{\"x\":[1,2,3,4],\"output_features\":true}", "bad_option", "output_features"},
    {"i/encode", "{\"x\":[1,2,3,4],\"ghost_mask\":[1,1,1,1]}", "bad_option", "ghost_mask"},
    {"i/encode", "{\"x\":[1,2,3,4],\"return_gate\":true}", "bad_option", "return_gate"},
    {"a/encode", "{\"x\":[1,2,3],\"output_pre_jump\":true}", "bad_option", "output_pre_jump"},
    {"g/forward", "{\"x\":[1,2,3],\"return_gate\":true}", "bad_option", "return_gate"},
    {"g/forward", "{\"x\":[1,2,3],\"ghost_mask\":[1,1,1,1,1,1]}", "bad_option", "ghost_mask"},
    {"j/forward", "{\"x\":[1,2,3],\"ghost_mask\":[1,1,1,1,1,1]}", "bad_option", "ghost_mask"},
    {"n/forward", "{\"x\":[1,2,3],\"ghost_mask\":[1,1,1,1,1,1]}", "bad_option", "ghost_mask"},
    {"i/forward", "{\"x\":[1,2,3,4],\"sparse\":true}", "bad_option", "sparse"},
    {"i/forward", "{\"x\":[1,2,3,4],\"top_k\":1}", "bad_option", "top_k"},
    {"i/forward", "{\"x\":[1,2,3,4],\"features\":[1]}", "bad_option", "features"},
    {"a/forward", "{\"x\":[1,2,3],\"ghost_mask\":[1,1]}", "bad_shape", "ghost_mask"},
    /* sparse objects */
    {"i/decode", "{\"f\":{\"shape\":[4],\"indices\":[[1,1]],\"values\":[[1,2]]}}", "bad_shape",
     "1"},
    {"i/decode", "{\"f\":{\"shape\":[4],\"indices\":[[4]],\"values\":[[1]]}}", "bad_shape", "4"},
    {"i/decode", "{\"f\":{\"shape\":[4],\"indices\":[[1]],\"values\":[[1,2]]}}", "bad_shape", NULL},
    {"i/decode", "{\"f\":{\"shape\":[4],\"indices\":[[1],[2]],\"values\":[[1],[2]]}}", "bad_shape",
     NULL},
    {"i/decode", "{\"f\":{\"shape\":[2,4],\"indices\":[[1]],\"values\":[[1]]}}", "bad_shape", NULL},
    {"i/decode", "{\"f\":{\"shape\":[5],\"indices\":[[1]],\"values\":[[1]]}}", "bad_shape", NULL},
    {"i/decode", "{\"f\":{\"shape\":[],\"indices\":[[1]],\"values\":[[1]]}}", "bad_shape", NULL},
    {"i/decode", "{\"f\":{\"indices\":[[1]],\"values\":[[1]]}}", "bad_shape", NULL},
    {"i/decode", "{\"f\":{\"shape\":[4],\"indices\":[[1]],\"values\":[[1e39]]}}", "bad_number",
     NULL},
    {"i/decode", "{\"f\":{\"shape\":[99999999999,4],\"indices\":[],\"values\":[]}}", "bad_shape",
     NULL},
};

START_TEST(refusals_are_these)
{
    char path[256];
    struct reply r;

    snprintf(path, sizeof path, "/v1/dictionaries/%s", refused[_i].path);
    r = post_json(&s, path, refused[_i].body);
    ck_assert_msg(r.status == 400, "%s %s: %d %s", refused[_i].path, refused[_i].body, r.status,
                  r.body);
    check_problem(&r, 400, refused[_i].code, refused[_i].detail, NULL);
    reply_free(&r);
}
END_TEST

/* gate and pre_jump beside a top_k stand at f's ids, in their order. */
START_TEST(aux_is_listed_at_the_ids_of_f)
{
    static const char *const paths[] = {"g/encode?return_gate=true&top_k=2",
                                        "j/encode?output_pre_jump=true&top_k=2",
                                        "j/forward?output_pre_jump=true&top_k=2"};
    char path[256];

    for (int i = 0; i < 3; i++) {
        struct reply r;
        json_t *root, *f, *aux;

        snprintf(path, sizeof path, "/v1/dictionaries/%s", paths[i]);
        r = post_json(&s, path, "{\"x\":[[1,-2,3],[-4,5,6],[0.5,0.25,-7]]}");
        ck_assert_msg(r.status == 200, "%s", r.body);
        root = json_loadb(r.body, r.n, 0, NULL);
        f = json_object_get(root, "f");
        aux = json_object_get(root, i ? "pre_jump" : "gate");
        ck_assert(f && aux);
        ck_assert(json_equal(json_object_get(f, "indices"), json_object_get(aux, "indices")));
        ck_assert(json_equal(json_object_get(f, "shape"), json_object_get(aux, "shape")));
        ck_assert_uint_ge(json_array_size(json_array_get(json_object_get(f, "indices"), 0)), 1);
        json_decref(root);
        reply_free(&r);
    }
}
END_TEST

/* A number of every size comes back as itself, with no more digits than needed. */
START_TEST(numbers_come_back_shortest)
{
    static const char *const shortest[] = {
        "0.1",        "1e-45", "3.4028235e38", "1.1754944e-38", "16777216",
        "0.33333334", "1e10",  "123456790",    "-2.5",          "5e-324"};

    for (size_t i = 0; i + 1 < sizeof shortest / sizeof shortest[0]; i++) {
        char body[128], digits[64] = "", want[64] = "";
        struct reply r;
        const char *p;
        size_t n;

        snprintf(body, sizeof body, "{\"x\":[%s]}", shortest[i]);
        r = post_json(&s, "/v1/dictionaries/one/encode", body);
        ck_assert_int_eq(r.status, 200);
        ck_assert(strtof(strchr(r.body, '[') + 1, NULL) == strtof(shortest[i], NULL));
        /* significant digits, zeros at the end not counted */
        for (int side = 0; side < 2; side++) {
            char *to = side ? want : digits;

            n = 0;
            for (p = side ? shortest[i] : strchr(r.body, '[') + 1; *p && !strchr("eE]", *p); p++)
                if (*p >= '0' && *p <= '9' && (n || *p != '0'))
                    to[n++] = *p;
            while (n && to[n - 1] == '0')
                n--;
            to[n] = '\0';
        }
        ck_assert_str_eq(digits, want);
        reply_free(&r);
    }
}
END_TEST

START_TEST(json_without_a_content_type)
{
    static const char *const headers[] = {"Content-Type:", NULL};
    struct reply r =
        request(&s, "POST", "/v1/dictionaries/i/encode", headers, "{\"x\":[1,2,3,4]}", 15);

    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/json");
    reply_free(&r);
}
END_TEST

/* ---- tests/invalid/json ---------------------------------------------------------------------- */

#define ROOT "tests/invalid/json"

static char *slurp(const char *dir, const char *file, size_t *n)
{
    char path[512], *data = calloc(1, 1 << 16);
    FILE *f;

    snprintf(path, sizeof path, ROOT "/%s/%s", dir, file);
    f = fopen(path, "rb");
    if (!f) {
        free(data);
        return NULL;
    }
    *n = fread(data, 1, (1 << 16) - 1, f);
    fclose(f);
    return data;
}

START_TEST(the_invalid_bodies_are_refused)
{
    static char sources[32][96];
    const char *args[34] = {0};
    int n_sources = 0, n_cases = 0;
    struct server t = {0};

    /* first the targets, then, with a daemon that serves them, the bodies */
    for (int pass = 0; pass < 2; pass++) {
        DIR *d = opendir(ROOT);
        struct dirent *e;

        ck_assert_ptr_nonnull(d);
        while ((e = readdir(d))) {
            char op[16] = "encode", class[32] = "AutoEncoder", name[80], path[128];
            unsigned long dim = 3, size = 6;
            char *target, *body, *error, *line;
            size_t n, n_error, ignored;
            struct reply r;

            if (e->d_name[0] == '.')
                continue;
            target = slurp(e->d_name, "target", &ignored);
            if (target)
                ck_assert_int_eq(sscanf(target, "%15s %31s %lu %lu", op, class, &dim, &size), 4);
            free(target);
            snprintf(name, sizeof name, "%s-%lu-%lu", class, dim, size);
            if (pass == 0) {
                char source[96];
                int i = 0;

                if (strcmp(class, "IdentityDict") == 0)
                    snprintf(source, sizeof source, "%.60s=identity:%lu", name, dim);
                else
                    snprintf(source, sizeof source, "%.40s=init:%.20s:%lu:%lu", name, class, dim,
                             size);
                while (i < n_sources && strcmp(sources[i], source) != 0)
                    i++;
                ck_assert_int_lt(i, 32);
                if (i == n_sources) {
                    snprintf(sources[i], sizeof sources[i], "%s", source);
                    args[n_sources++] = sources[i];
                }
                continue;
            }
            body = slurp(e->d_name, "input", &n);
            error = slurp(e->d_name, "error", &n_error);
            ck_assert(body && error);
            snprintf(path, sizeof path, "/v1/dictionaries/%s/%s", name, op);
            r = request(&t, "POST", path,
                        (const char *const[]){"Content-Type: application/json", NULL}, body, n);
            line = strtok(error, "\n");
            ck_assert_msg(r.status == 400, "%s: %d %s", e->d_name, r.status, r.body);
            ck_assert_msg(strcmp(json_member(&r, "code"), line) == 0, "%s: %s", e->d_name, r.body);
            while ((line = strtok(NULL, "\n")))
                ck_assert_msg(strstr(json_member(&r, "detail"), line) != NULL, "%s: no %s in %s",
                              e->d_name, line, r.body);
            reply_free(&r);
            free(body);
            free(error);
            n_cases++;
        }
        closedir(d);
        if (pass == 0)
            t = server_start(args);
    }
    ck_assert_int_gt(n_cases, 50);
    ck_assert_int_eq(server_stop(&t), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json");
    TCase *t = tcase_create("json");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, answers_are_these, 0, sizeof answers / sizeof answers[0]);
    tcase_add_loop_test(t, refusals_are_these, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(t, aux_is_listed_at_the_ids_of_f);
    tcase_add_test(t, numbers_come_back_shortest);
    tcase_add_test(t, json_without_a_content_type);
    tcase_add_test(t, the_invalid_bodies_are_refused);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
