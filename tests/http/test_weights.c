/* test_weights.c - POST .../weights: the tensors of the files bit for bit, in every form; what adds
 * up to x_hat, for every producer's file; what is refused, and how.
 *
 * One daemon serves the state dicts of tests/golden/data and the files of tests/golden/formats,
 * from a config file. */
#include "tests/http/support_body.h"
#include "tests/support/files.h"
#include "tests/support/formats.h"
#include "tests/support/golden.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ST "application/x-safetensors"

static const struct formats_case *const *served;
static size_t n_served;
static struct server s;

static void start(void)
{
    char path[] = "/tmp/saed-weights-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");

    ck_assert_ptr_nonnull(f);
    fprintf(f, "{\"dictionaries\":[{\"name\":\"id\",\"source\":\"identity:4\"},"
               "{\"name\":\"fresh\",\"source\":\"init:AutoEncoder:8:16:l0=3\"}");
    for (size_t i = 0; i < golden_count(); i++) {
        struct golden *g = golden_load(i);

        if (g->pt_path[0])
            fprintf(f, ",\n{\"name\":\"%s\",\"source\":\"%s\"}", g->name, g->pt_path);
        golden_free(g);
    }
    for (size_t i = 0; i < n_served; i++)
        fprintf(f, ",\n{\"name\":\"g%zu\",\"source\":\"%s\"}", i, served[i]->source);
    fprintf(f, "]}");
    fclose(f);
    s = server_start((const char *const[]){"--config", path, NULL});
    unlink(path);
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

static struct reply ask(const char *name, const char *body)
{
    char path[300];

    snprintf(path, sizeof path, "/v1/dictionaries/%s/weights", name);
    return post_json(&s, path, body);
}

/* {"decoder": [0, 1, ...], ...}, of so many features. Owned. */
static struct text body_of_all(size_t F, const char *keys, const char *vectors)
{
    struct text t = {0};

    text_addf(&t, "{");
    for (const char *k = keys; *k; k++) {
        text_addf(&t, "\"%s\":[", *k == 'd' ? "decoder" : "encoder");
        for (size_t j = 0; j < F; j++)
            text_addf(&t, "%s%zu", j ? "," : "", j);
        text_addf(&t, "],");
    }
    text_addf(&t, "\"vectors\":[%s]}", vectors);
    return t;
}

/* ---- the tensors of a state dict ---------------------------------------------------------------
 */

/* What a class calls each; "": it has none. `turned`: as its transpose. */
static const struct {
    const char *class_name, *weight, *key;
    bool turned, is_exp;
} stored[] = {
    {"AutoEncoder", "encoder", "encoder.weight", false, false},
    {"AutoEncoder", "decoder", "decoder.weight", true, false},
    {"AutoEncoder", "b_enc", "encoder.bias", false, false},
    {"AutoEncoder", "b_dec", "bias", false, false},
    {"AutoEncoder", "centre", "bias", false, false},
    {"GatedAutoEncoder", "encoder", "encoder.weight", false, false},
    {"GatedAutoEncoder", "decoder", "decoder.weight", true, false},
    {"GatedAutoEncoder", "gate_bias", "gate_bias", false, false},
    {"GatedAutoEncoder", "mag_bias", "mag_bias", false, false},
    {"GatedAutoEncoder", "r", "r_mag", false, true},
    {"GatedAutoEncoder", "b_dec", "decoder_bias", false, false},
    {"JumpAutoEncoder", "encoder", "encoder.weight", false, false},
    {"JumpAutoEncoder", "decoder", "decoder.weight", true, false},
    {"JumpAutoEncoder", "b_enc", "encoder.bias", false, false},
    {"JumpAutoEncoder", "jump", "jump", false, false},
    {"JumpAutoEncoder", "b_dec", "bias", false, false},
    {"AutoEncoderNew", "encoder", "encoder.weight", false, false},
    {"AutoEncoderNew", "decoder", "decoder.weight", true, false},
    {"AutoEncoderNew", "b_enc", "encoder.bias", false, false},
    {"AutoEncoderNew", "b_dec", "decoder.bias", false, false},
};
enum { N_STORED = sizeof stored / sizeof *stored };

static void expect_values(const struct got *g, const struct golden_array *want, int row,
                          const char *name)
{
    ck_assert_msg(g->present && g->n_rows * g->width == want->n, "%s: %s", name,
                  stored[row].weight);
    for (size_t i = 0; i < g->n_rows; i++)
        for (size_t k = 0; k < g->width; k++) {
            const float v = g->v[i * g->width + k];
            const float w =
                stored[row].turned ? want->v[k * g->n_rows + i] : want->v[i * g->width + k];

            if (stored[row].is_exp ? fabs((double)v / exp((double)w) - 1) > 1e-6
                                   : memcmp(&v, &w, sizeof v) != 0)
                ck_abort_msg("%s: %s[%zu][%zu] is %.9g, not %.9g", name, stored[row].weight, i, k,
                             (double)v, (double)w);
        }
}

START_TEST(weights_are_those_of_the_file)
{
    struct golden *g = golden_load((size_t)_i);
    struct text vectors = {0}, body;
    char path[160];
    size_t n = 0;

    text_addf(&vectors, "\"norms\"");
    for (int row = 0; row < N_STORED; row++)
        if (strcmp(stored[row].class_name, g->class_name) == 0 &&
            !strstr(stored[row].weight, "coder"))
            text_addf(&vectors, ",\"%s\"", stored[row].weight);
    body = body_of_all(g->F, "de", vectors.p);
    snprintf(path, sizeof path, "/v1/dictionaries/%s/weights", g->name);
    for (int form = 0; g->pt_path[0] && form < 2; form++) {
        struct reply r =
            request(&s, "POST", path,
                    (const char *const[]){"Content-Type: application/json",
                                          form ? "Accept: " ST : "Accept: application/json", NULL},
                    body.p, body.n);

        for (int row = 0; row < N_STORED; row++) {
            char key[80];
            struct got got;

            if (strcmp(stored[row].class_name, g->class_name) != 0)
                continue;
            snprintf(key, sizeof key, "w:%s", stored[row].key);
            got = got_read(&r, stored[row].weight, GOT_ASCENDING);
            expect_values(&got, golden_array(g, key), row, g->name);
            got_free(&got);
            n++;
        }
        reply_free(&r);
    }
    ck_assert_uint_ge(
        n, strstr("AutoEncoder GatedAutoEncoder JumpAutoEncoder AutoEncoderNew", g->class_name)
               ? 8
               : 0);
    text_free(&vectors);
    text_free(&body);
    golden_free(g);
}
END_TEST

/* ---- what they add up to --------------------------------------------------------------------- */

/* A field of the reading that GET shows; static. */
static const char *reading_of(size_t i, const char *field)
{
    static char text[200];
    char path[64];
    struct reply r;
    json_t *j;

    snprintf(path, sizeof path, "/v1/dictionaries/g%zu", i);
    r = get(&s, path);
    j = json_loads(r.body, 0, NULL);
    snprintf(text, sizeof text, "%s",
             json_string_value(json_object_get(json_object_get(j, "reading"), field)));
    json_decref(j);
    reply_free(&r);
    return text;
}

/* output(v) of row r. */
static double output_of(const struct formats_case *c, const char *output, size_t r, double v)
{
    double scale;

    if (sscanf(output, "scale:%lf", &scale) == 1)
        return v / scale;
    if (strcmp(output, "none") == 0)
        return v;
    return c->n_state == 1 ? v / c->s[r] : v * c->s[r * 2 + 1] + c->s[r * 2];
}

static void expect_sum(size_t i, const struct got *decoder, const struct got *b_dec,
                       const struct got *skip)
{
    const struct formats_case *c = served[i];
    char output[200], input[200];

    snprintf(output, sizeof output, "%s", reading_of(i, "output"));
    snprintf(input, sizeof input, "%s", reading_of(i, "input"));
    for (size_t r = 0; r < c->n; r++)
        for (size_t k = 0; k < c->m; k++) {
            double sum = (double)b_dec->v[k], want = c->y[r * c->m + k], terms = fabs(sum);

            for (size_t j = 0; j < c->F; j++)
                if (c->f[r * c->F + j] != 0.0) {
                    sum += c->f[r * c->F + j] * (double)decoder->v[j * c->m + k];
                    terms += fabs(c->f[r * c->F + j] * (double)decoder->v[j * c->m + k]);
                }
            sum = output_of(
                c,
                strcmp(output, "follow") == 0 && strncmp(input, "scale", 5) == 0 ? input : output,
                r, sum);
            for (size_t j = 0; skip->present && j < c->d; j++)
                sum += (double)c->x[r * c->d + j] * (double)skip->v[k * c->d + j];
            if (isfinite(sum) && isfinite(want) &&
                fabs(sum - want) > 1e-4 * (1 + terms + fabs(want)))
                ck_abort_msg("%s: x_hat[%zu][%zu] is %g, its weights say %g", c->name, r, k, want,
                             sum);
        }
}

START_TEST(weights_add_up_to_x_hat)
{
    const struct formats_case *c = served[_i];
    const bool has_skip = strcmp(reading_of((size_t)_i, "skip"), "none") != 0;
    struct text body = body_of_all(c->F, "d", has_skip ? "\"b_dec\",\"skip\"" : "\"b_dec\"");
    struct got decoder, b_dec, skip;
    char name[32];
    struct reply r;

    snprintf(name, sizeof name, "g%d", _i);
    r = ask(name, body.p);
    text_free(&body);
    if (c->m == 0) {
        check_problem(&r, 409, "not_loaded", "cannot give decoder", NULL);
        reply_free(&r);
        r = ask(name, "{\"vectors\":[\"b_dec\"]}");
        check_problem(&r, 409, "not_loaded", "cannot give b_dec", NULL);
        reply_free(&r);
        r = ask(name, "{\"encoder\":[0]}");
        ck_assert_int_eq(r.status, 200);
        reply_free(&r);
        return;
    }
    decoder = got_read(&r, "decoder", GOT_ASCENDING);
    b_dec = got_read(&r, "b_dec", GOT_ASCENDING);
    skip = got_read(&r, "skip", GOT_ASCENDING);
    ck_assert(decoder.n_rows == c->F && decoder.width == c->m && b_dec.width == c->m);
    ck_assert(b_dec.n_lead == 0 && decoder.n_lead == 1 && skip.present == has_skip);
    expect_sum((size_t)_i, &decoder, &b_dec, &skip);
    got_free(&decoder);
    got_free(&b_dec);
    got_free(&skip);
    reply_free(&r);
}
END_TEST

/* ---- forms ----------------------------------------------------------------------------------- */

START_TEST(tensors_ask_as_json_does)
{
    static const int32_t decoder[] = {5, 0, 5};
    static const int64_t encoder[] = {3};
    const char *path = "/v1/dictionaries/autoencoder_33x70_f32/weights";
    struct reply json = post_json(&s, path,
                                  "{\"decoder\":[5,0,5],\"encoder\":[3],\"vectors\":["
                                  "\"b_enc\",\"b_dec\",\"b_enc\"]}");
    struct st_body b = {0};
    struct text t;
    struct reply r;

    st_add(&b, "decoder", "I32", "[3]", decoder, sizeof decoder);
    st_add(&b, "encoder", "I64", "[1]", encoder, sizeof encoder);
    t = st_end(&b);
    r = request(&s, "POST",
                "/v1/dictionaries/autoencoder_33x70_f32/weights?vectors=b_dec&vectors=b_enc",
                (const char *const[]){"Content-Type: " ST, NULL}, t.p, t.n);
    text_free(&t);
    ck_assert_uint_eq(got_count(&json), 4);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), ST);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"decoder", "encoder", "b_dec", "b_enc"};
        static const size_t rows[] = {3, 1, 1, 1}, widths[] = {33, 33, 33, 70};
        struct got a = got_read(&json, names[i], GOT_ASCENDING);
        struct got c = got_read(&r, names[i], GOT_ASCENDING);

        ck_assert(a.present && c.present && a.n_rows == rows[i] && a.width == widths[i]);
        ck_assert(c.n_lead == (i < 2) && c.n_rows == rows[i] && c.width == widths[i]);
        ck_assert_int_eq(memcmp(a.v, c.v, rows[i] * widths[i] * sizeof *a.v), 0);
        got_free(&a);
        got_free(&c);
    }
    reply_free(&json);
    reply_free(&r);
}
END_TEST

static struct reply ask_as(const char *body, const char *accept)
{
    char line[100];

    snprintf(line, sizeof line, "Accept: %s", accept);
    return request(&s, "POST", "/v1/dictionaries/autoencoder_33x70_f32/weights",
                   (const char *const[]){"Content-Type: application/json", line, NULL}, body,
                   strlen(body));
}

START_TEST(one_tensor_is_bytes_too)
{
    struct reply json = ask_as("{\"decoder\":[5,0]}", "*/*");
    struct got want = got_read(&json, "decoder", GOT_ASCENDING);
    struct reply r = ask_as("{\"decoder\":[5,0]}", "application/octet-stream");

    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "2,33");
    ck_assert(r.n == 2 * 33 * 4 && memcmp(r.body, want.v, r.n) == 0);
    reply_free(&r);
    r = ask_as("{\"decoder\":[5,0]}", "application/x-npy");
    got_free(&want);
    want = got_read(&r, "x", GOT_ASCENDING);
    ck_assert(want.n_rows == 2 && want.width == 33);
    got_free(&want);
    reply_free(&r);
    r = ask_as("{\"vectors\":[\"b_enc\"]}", "application/octet-stream;dtype=bf16");
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "application/octet-stream;dtype=bf16");
    ck_assert_str_eq(reply_header(&r, "Saed-Shape"), "70");
    ck_assert_uint_eq(r.n, 140);
    reply_free(&r);
    r = ask_as("{\"decoder\":[5],\"encoder\":[5]}", ST ";dtype=f16");
    ck_assert_str_eq(reply_header(&r, "Content-Type"), ST ";dtype=f16");
    reply_free(&r);
    r = ask_as("{\"decoder\":[5],\"encoder\":[5]}", "application/octet-stream");
    check_problem(&r, 406, "not_acceptable", "application/json or application/x-safetensors", NULL);
    reply_free(&r);
    reply_free(&json);
}
END_TEST

START_TEST(no_ids_are_no_rows)
{
    struct reply r = ask("id", "{\"decoder\":[],\"encoder\":null}");

    ck_assert_str_eq(r.body, "{\"decoder\":[]}\n");
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "0");
    reply_free(&r);
    r = ask("fresh", "{\"decoder\":[15,0,15],\"vectors\":[\"norms\"]}");
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
}
END_TEST

/* A query that says it all needs no body. */
START_TEST(a_query_is_enough)
{
    struct reply r =
        request(&s, "POST", "/v1/dictionaries/new_33x70_bf16/weights?vectors=norms", NULL, NULL, 0);
    struct reply want = ask("new_33x70_bf16", "{\"vectors\":[\"norms\"]}");

    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(r.body, want.body);
    reply_free(&want);
    reply_free(&r);
    r = request(&s, "POST", "/v1/dictionaries/id/weights", NULL, NULL, 0);
    check_problem(&r, 400, "bad_option", "nothing is asked for", NULL);
    reply_free(&r);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

static const struct {
    const char *name, *query, *body;
    int status;
    const char *code, *detail;
} refusals[] = {
    {"id", "", "{}", 400, "bad_option", "nothing is asked for"},
    {"id", "", "{\"decoder\":null,\"encoder\":false}", 400, "bad_option", "nothing is asked for"},
    {"id", "", "{\"decoder\":[0,4]}", 400, "bad_option",
     "cannot use decoder: item 1 is 4, the ids of \"id\" are 0 to 3"},
    {"id", "", "{\"encoder\":[4294967296]}", 400, "bad_option", "is more than 4294967294"},
    {"id", "", "{\"decoder\":[-1]}", 400, "bad_option", "an id is -1"},
    {"id", "", "{\"decoder\":[1.5]}", 400, "bad_option", "an id is 1.5"},
    {"id", "", "{\"decoder\":3}", 400, "bad_option", "wanted a list of feature ids"},
    {"id", "", "{\"vectors\":\"norms\"}", 400, "bad_option", "wanted a list of names"},
    {"id", "", "{\"vectors\":[3]}", 400, "bad_option", "an item is 3"},
    {"id", "", "{\"vectors\":[\"bias\"]}", 400, "bad_option", "there is no vector \"bias\""},
    {"id", "", "{\"vectors\":[\"b_dec\"]}", 400, "bad_option", "(activation=linear)"},
    {"id", "", "{\"vectors\":[\"log_sparsity\"]}", 400, "bad_option", "cannot give log_sparsity"},
    {"id", "", "{\"x\":[1,2,3,4]}", 400, "bad_option", "cannot use key \"x\""},
    {"id", "", "{\"decoder\":[0],\"decoder\":[1]}", 400, "bad_option", "given twice"},
    {"id", "?vectors=norms", "{\"vectors\":[\"norms\"]}", 400, "bad_option", "given twice"},
    {"id", "?vectors=norm", "{}", 400, "bad_option", "there is no vector \"norm\""},
    {"id", "?decoder=1", "{}", 400, "bad_option", "its place is in the body"},
    {"id", "?sparse=true", "{}", 400, "bad_option", "sparse"},
    {"id", "", "[]", 400, "bad_shape", "wanted an object"},
    {"id", "", "{\"decoder\":[0]", 400, "malformed_json", NULL},
    {"gated_33x70_bf16", "", "{\"vectors\":[\"b_enc\"]}", 400, "bad_option", "(activation=gated)"},
    {"gated_33x70_bf16", "", "{\"vectors\":[\"skip\"]}", 400, "bad_option", "(skip=none)"},
    {"new_33x70_bf16", "", "{\"vectors\":[\"centre\"]}", 400, "bad_option", "(centre=none)"},
    {"new_33x70_bf16", "", "{\"vectors\":[\"jump\"]}", 400, "bad_option", "(activation=relu)"},
};

START_TEST(what_it_has_not_is_refused)
{
    char path[200];
    struct reply r;

    snprintf(path, sizeof path, "/v1/dictionaries/%s/weights%s", refusals[_i].name,
             refusals[_i].query);
    r = post_json(&s, path, refusals[_i].body);
    check_problem(&r, refusals[_i].status, refusals[_i].code, refusals[_i].detail, NULL);
    reply_free(&r);
}
END_TEST

START_TEST(rows_of_bytes_are_no_request)
{
    const char *path = "/v1/dictionaries/id/weights";
    struct st_body b = {0};
    struct reply r =
        request(&s, "POST", path,
                (const char *const[]){"Content-Type: application/octet-stream", NULL}, "abcd", 4);
    struct text t;

    check_problem(&r, 415, "unsupported_media_type", "weights is asked in application/json", NULL);
    reply_free(&r);
    r = get(&s, path);
    check_problem(&r, 405, "method_not_allowed", NULL, NULL);
    reply_free(&r);
    st_add(&b, "vectors", "I32", "[1]", "\0\0\0", 4);
    t = st_end(&b);
    r = request(&s, "POST", path, (const char *const[]){"Content-Type: " ST, NULL}, t.p, t.n);
    check_problem(&r, 400, "bad_option", "vectors go in the query string", NULL);
    reply_free(&r);
    text_free(&t);
    b = (struct st_body){0};
    st_add(&b, "decoder", "F32", "[1]", "\0\0\0", 4);
    t = st_end(&b);
    r = request(&s, "POST", path, (const char *const[]){"Content-Type: " ST, NULL}, t.p, t.n);
    check_problem(&r, 400, "malformed_body", "wanted I32 or I64", NULL);
    reply_free(&r);
    text_free(&t);
}
END_TEST

START_TEST(it_is_counted_as_weights)
{
    const char *series = "saed_requests_total{dictionary=\"fresh\",op=\"weights\",code=\"200\"}";
    const double before = metric(&s, series);
    struct reply r = ask("fresh", "{\"decoder\":[1]}");

    reply_free(&r);
    wait_metric(&s, series, (before < 0 ? 0 : before) + 1);
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"fresh\",op=\"weights\"}") < 0);
    ck_assert(metric(&s, "saed_rows_total{dictionary=\"fresh\",op=\"encode\"}") >= 0);
}
END_TEST

/* ---- other daemons --------------------------------------------------------------------------- */

START_TEST(answers_are_within_the_limits)
{
    struct server one =
        server_start((const char *const[]){"a=init:AutoEncoder:64:512", "--max-response-bytes",
                                           "128K", "--max-inflight-bytes", "256K", NULL});
    const char *path = "/v1/dictionaries/a/weights";
    struct text body = body_of_all(500, "d", "");
    struct text fits = body_of_all(120, "d", "");
    struct reply r = post_json(&one, path, body.p);

    check_problem(&r, 413, "response_too_large", "up to 51", "--max-response-bytes");
    reply_free(&r);
    r = post_json(&one, path, fits.p); /* 16 bytes a number: 122,880 */
    ck_assert_int_eq(r.status, 200);
    reply_free(&r);
    text_free(&fits);
    fits = body_of_all(500, "de", "");
    r = request(&one, "POST", path,
                (const char *const[]){"Content-Type: application/json", "Accept: " ST, NULL},
                fits.p, fits.n);
    check_problem(&r, 413, "response_too_large", "up to 2", "--max-response-bytes");
    reply_free(&r);
    text_free(&body);
    text_free(&fits);
    ck_assert(metric(&one, "saed_inflight_bytes") == 0);
    ck_assert_int_eq(server_stop(&one), 0);
}
END_TEST

/* More than a connection's thread may copy. */
START_TEST(large_ones_are_copied_elsewhere)
{
    struct server one = server_start((const char *const[]){"a=init:AutoEncoder:512:8192", NULL});
    struct text body = body_of_all(8192, "de", "\"norms\"");
    struct reply r =
        request(&one, "POST", "/v1/dictionaries/a/weights",
                (const char *const[]){"Content-Type: application/json", "Accept: " ST, NULL},
                body.p, body.n);
    struct got g = got_read(&r, "encoder", GOT_ASCENDING);

    ck_assert(g.n_rows == 8192 && g.width == 512);
    got_free(&g);
    reply_free(&r);
    text_free(&body);
    ck_assert(metric(&one, "saed_inflight_bytes") == 0);
    ck_assert_int_eq(server_stop(&one), 0);
}
END_TEST

START_TEST(what_is_offered_is_loaded_for_it)
{
    char dir[] = "/tmp/saed-weights-XXXXXX", command[200];
    struct reply want = ask("autoencoder_33x70_f32", "{\"decoder\":[3,4],\"vectors\":[\"b_enc\"]}");
    struct server one;
    struct reply r;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(command, sizeof command,
             "mkdir %s/a && cp tests/golden/data/autoencoder_33x70_f32.pt %s/a/ae.pt", dir, dir);
    ck_assert_int_eq(system(command), 0);
    one = server_start((const char *const[]){"--dictionaries", dir, NULL});
    r = post_json(&one, "/v1/dictionaries/a.ae/weights", "{\"vectors\":[\"jump\"]}");
    check_problem(&r, 400, "bad_option", "(activation=relu)", NULL);
    reply_free(&r);
    for (int i = 0; i < 2; i++) {
        r = post_json(&one, "/v1/dictionaries/a.ae/weights",
                      "{\"decoder\":[3,4],\"vectors\":[\"b_enc\"]}");
        ck_assert_msg(r.n == want.n && memcmp(r.body, want.body, r.n) == 0, "%s", r.body);
        reply_free(&r);
    }
    ck_assert_int_eq(server_stop(&one), 0);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
    reply_free(&want);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *t = tcase_create("weights");
    SRunner *r = srunner_create(suite);
    int failed;

    served = formats_which(false, &n_served);
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_loop_test(t, weights_are_those_of_the_file, 0, (int)golden_count());
    tcase_add_loop_test(t, weights_add_up_to_x_hat, 0, (int)n_served);
    tcase_add_test(t, tensors_ask_as_json_does);
    tcase_add_test(t, one_tensor_is_bytes_too);
    tcase_add_test(t, no_ids_are_no_rows);
    tcase_add_test(t, a_query_is_enough);
    tcase_add_loop_test(t, what_it_has_not_is_refused, 0,
                        (int)(sizeof refusals / sizeof *refusals));
    tcase_add_test(t, rows_of_bytes_are_no_request);
    tcase_add_test(t, it_is_counted_as_weights);
    tcase_add_test(t, answers_are_within_the_limits);
    tcase_add_test(t, large_ones_are_copied_elsewhere);
    tcase_add_test(t, what_is_offered_is_loaded_for_it);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed || n_served < 50 ? 1 : 0;
}
