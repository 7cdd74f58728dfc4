/* test_openapi.c - proto/openapi.json against the tables that the code is made from. */
#include "tests/unit/proto/wire_fixture.h"

#include <jansson.h>

#define EXAMPLES "proto/examples"

static json_t *doc;

static void load(void)
{
    json_error_t e;

    doc = json_load_file("proto/openapi.json", JSON_REJECT_DUPLICATES, &e);
    ck_assert_msg(doc != NULL, "line %d: %s", e.line, e.text);
}

static void unload(void)
{
    json_decref(doc);
}

/* The value at a path of keys with '|' between them (keys hold slashes); fails when there is none.
 */
static json_t *at(json_t *v, const char *path)
{
    char key[128];

    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "|");

        snprintf(key, sizeof key, "%.*s", (int)n, p);
        v = json_object_get(v, key);
        ck_assert_msg(v != NULL, "%s: no %s", path, key);
        p += n + (p[n] == '|');
    }
    return v;
}

static bool has_string(const json_t *list, const char *s)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), s) == 0)
            return true;
    return false;
}

START_TEST(every_error_code_is_there)
{
    static const struct {
        int http;
        const char *code;
    } errors[] = {
#define SAE_ERROR(status, http, code, title) {http, code},
#include "proto/errors.def"
#undef SAE_ERROR
    };
    const json_t *all = at(doc, "components|schemas|Problem|properties|code|enum");

    for (size_t i = 0; i < SAE_COUNTOF(errors); i++) {
        char path[64];
        json_t *parts;

        ck_assert_msg(has_string(all, errors[i].code), "%s", errors[i].code);
        snprintf(path, sizeof path, "components|responses|Error%d|content", errors[i].http);
        parts = at(at(doc, path), "application/problem+json|schema|allOf");
        ck_assert_msg(
            has_string(at(json_array_get(parts, 1), "properties|code|enum"), errors[i].code),
            "%s is not among the codes of %d", errors[i].code, errors[i].http);
    }
}
END_TEST

static bool has_parameter(const json_t *list, const char *name)
{
    char ref[80];

    snprintf(ref, sizeof ref, "#/components/parameters/query_%s", name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *s = json_string_value(json_object_get(json_array_get(list, i), "$ref"));

        if (s && strcmp(s, ref) == 0)
            return true;
    }
    return false;
}

START_TEST(every_option_and_form_is_there)
{
    static const struct {
        enum sae_op op;
        const char *path, *body;
    } ops[SAE_N_ROW_OPS] = {
        {SAE_OP_ENCODE, "paths|/v1/dictionaries/{name}/encode|post", "EncodeRequest"},
        {SAE_OP_DECODE, "paths|/v1/dictionaries/{name}/decode|post", "DecodeRequest"},
        {SAE_OP_FORWARD, "paths|/v1/dictionaries/{name}/forward|post", "ForwardRequest"},
    };

    for (size_t i = 0; i < SAE_COUNTOF(ops); i++) {
        json_t *op = at(doc, ops[i].path);
        char body[80];
        unsigned takes = 0;

        for (int c = 0; c < N_CLASSES; c++) {
            struct sae_target t = target_of(c, ops[i].op, 4, 8);

            t.class_options |= SAE_OPT_INPUT_STATE; /* of readings, not of classes */
            t.class_options |= SAE_OPT_LABELS;      /* of sources */
            takes |= sae_options_of(&t);
        }
        snprintf(body, sizeof body, "components|schemas|%s|properties", ops[i].body);
        for (size_t k = 0; k < SAE_N_OPTIONS; k++) {
            const struct sae_option_def *def = &sae_option_defs[k];

            at(at(doc, body), def->name); /* in the body also where it may only be false or null */
            ck_assert_msg(has_parameter(at(op, "parameters"), def->name) ==
                              ((takes & def->bit) && def->in & SAE_IN_QUERY),
                          "%s: query parameter %s", ops[i].path, def->name);
        }
        for (int m = 0; m < SAE_N_MEDIA; m++) {
            at(at(op, "requestBody|content"), sae_codecs[m].name);
            at(at(op, "responses|200|content"), sae_codecs[m].name);
        }
    }
}
END_TEST

START_TEST(every_weight_is_there)
{
    json_t *op = at(doc, "paths|/v1/dictionaries/{name}/weights|post");
    const json_t *vectors = at(doc, "components|schemas|VectorName|enum");
    json_t *asked = at(doc, "components|schemas|WeightsRequest|properties");
    json_t *given = at(doc, "components|schemas|WeightsAnswer|properties");

    for (int i = 0; i < SAE_N_WEIGHTS; i++) {
        at(given, sae_weight_defs[i].name);
        if (i < SAE_N_ROW_WEIGHTS)
            at(asked, sae_weight_defs[i].name);
        ck_assert_int_eq(has_string(vectors, sae_weight_defs[i].name), i >= SAE_N_ROW_WEIGHTS);
    }
    ck_assert_uint_eq(json_object_size(asked), SAE_N_ROW_WEIGHTS + 1);
    ck_assert(has_parameter(at(op, "parameters"), SAE_WEIGHTS_VECTORS_NAME));
    for (int m = 0; m < SAE_N_MEDIA; m++) {
        ck_assert_int_eq(json_object_get(at(op, "requestBody|content"), sae_codecs[m].name) != NULL,
                         sae_media_takes((enum sae_media)m, SAE_OP_WEIGHTS));
        at(at(op, "responses|200|content"), sae_codecs[m].name);
    }
}
END_TEST

START_TEST(every_route_is_there)
{
    static const char *const gets[] = {"/v1",
                                       "/v1/dictionaries",
                                       "/v1/dictionaries/{name}",
                                       "/v1/dictionaries/{name}/labels",
                                       "/openapi.json",
                                       "/healthz",
                                       "/readyz",
                                       "/metrics"};

    for (size_t i = 0; i < SAE_COUNTOF(gets); i++) {
        at(at(at(doc, "paths"), gets[i]), "get");
        at(at(at(doc, "paths"), gets[i]), "head");
    }
    ck_assert_uint_eq(json_object_size(at(doc, "paths")),
                      SAE_COUNTOF(gets) + SAE_N_OPS - 1); /* labels is among both */
}
END_TEST

/* What the HTTP library or a slow body answers, on every route, and who may not call. */
START_TEST(every_route_may_answer_so)
{
    static const char *const any[] = {"400", "403", "405", "414", "431", "505"};
    const char *path, *method;
    json_t *item, *op;

    /* without keys, or with one */
    ck_assert_uint_eq(json_object_size(json_array_get(at(doc, "security"), 0)), 0);
    at(json_array_get(at(doc, "security"), 1), "key");
    json_object_foreach(at(doc, "paths"), path, item)
    {
        json_object_foreach(item, method, op)
        {
            bool is_post = strcmp(method, "post") == 0;

            if (!is_post && strcmp(method, "get") != 0)
                continue;
            for (size_t i = 0; i < SAE_COUNTOF(any); i++)
                at(at(op, "responses"), any[i]);
            ck_assert_msg((json_object_get(at(op, "responses"), "408") != NULL) == is_post, "%s",
                          path);
            /* open to all, or with a 401 */
            ck_assert_msg((json_object_get(at(op, "responses"), "401") != NULL) ==
                              !json_object_get(op, "security"),
                          "%s", path);
        }
    }
}
END_TEST

/* References are "#/components/KIND/NAME". Depth is that of the file, a few dozen at most. */
static void check_refs(json_t *v, int depth)
{
    const char *key, *ref;
    json_t *w;
    size_t i;

    ck_assert_int_lt(depth, 64);
    json_array_foreach(v, i, w) check_refs(w, depth + 1);
    json_object_foreach(v, key, w)
    {
        char path[128];

        check_refs(w, depth + 1);
        if (strcmp(key, "$ref") != 0)
            continue;
        ref = json_string_value(w);
        ck_assert(ref && strncmp(ref, "#/", 2) == 0);
        snprintf(path, sizeof path, "%s", ref + 2);
        for (char *p = path; *p; p++)
            if (*p == '/')
                *p = '|';
        at(doc, path);
    }
}

START_TEST(every_reference_leads_somewhere)
{
    check_refs(doc, 0);
}
END_TEST

static size_t compare_examples(json_t *examples, const char *file)
{
    const char *name;
    json_t *example, *value;
    size_t n = 0;

    json_object_foreach(examples, name, example)
    {
        char path[256];

        snprintf(path, sizeof path, EXAMPLES "/%s/%s.json", name, file);
        value = json_load_file(path, 0, NULL);
        ck_assert_msg(value && json_equal(value, at(example, "value")), "%s", path);
        json_decref(value);
        n++;
    }
    return n;
}

START_TEST(examples_are_those_of_the_folder)
{
    static const char *const ops[] = {"encode", "decode", "forward", "weights"};
    size_t n = 0;

    for (size_t i = 0; i < SAE_COUNTOF(ops); i++) {
        char path[80];
        json_t *op;

        snprintf(path, sizeof path, "paths|/v1/dictionaries/{name}/%s|post", ops[i]);
        op = at(doc, path);
        n += compare_examples(at(op, "requestBody|content|application/json|examples"), "request");
        n +=
            compare_examples(at(op, "responses|200|content|application/json|examples"), "response");
    }
    n += compare_examples(
        at(doc, "components|responses|Error400|content|application/problem+json|examples"),
        "response");
    ck_assert_uint_ge(n, 20);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("openapi");
    TCase *t = tcase_create("openapi");

    tcase_add_checked_fixture(t, load, unload);
    tcase_add_test(t, every_error_code_is_there);
    tcase_add_test(t, every_option_and_form_is_there);
    tcase_add_test(t, every_weight_is_there);
    tcase_add_test(t, every_route_is_there);
    tcase_add_test(t, every_route_may_answer_so);
    tcase_add_test(t, every_reference_leads_somewhere);
    tcase_add_test(t, examples_are_those_of_the_folder);
    suite_add_tcase(s, t);
    return run_suite(s);
}
