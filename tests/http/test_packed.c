/* test_packed.c - --compress-answers: which answers are packed and for whom, and that they unpack
 * to what is answered without. */
#include "tests/http/support_body.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define ENCODE "/v1/dictionaries/a/encode"
#define JSON "Content-Type: application/json"
#define MANY 40 /* dictionaries: their list is more than a connection's thread packs */

static struct server s;
static struct text rows;

static void start(void)
{
    const char *args[MANY + 3] = {"--compress-answers", "a=init:AutoEncoder:16:512:l0=20"};
    static char more[MANY][40];

    for (int i = 0; i < MANY; i++) {
        snprintf(more[i], sizeof more[i], "i%d=identity:4", i);
        args[2 + i] = more[i];
    }
    s = server_start(args);
    text_addf(&rows, "{\"x\":[");
    for (int i = 0; i < 100; i++) {
        text_addf(&rows, "%s[", i ? "," : "");
        for (int k = 0; k < 16; k++)
            text_addf(&rows, "%s%.3f", k ? "," : "", (double)((i * 37 + k * 61) % 113) / 50 - 1);
        text_addf(&rows, "]");
    }
    text_addf(&rows, "]}");
}

static void stop(void)
{
    text_free(&rows);
    ck_assert_int_eq(server_stop(&s), 0);
}

/* The body as its Content-Encoding says that it was; owned. */
static char *unpack(const struct reply *r, size_t *n)
{
    const size_t room = (size_t)8 << 20;
    const char *coding = reply_header(r, "Content-Encoding");
    char *out = malloc(room);

    ck_assert_ptr_nonnull(out);
    if (!coding) {
        memcpy(out, r->body, r->n);
        *n = r->n;
    } else if (strcmp(coding, "zstd") == 0) {
        *n = ZSTD_decompress(out, room, r->body, r->n);
        ck_assert(!ZSTD_isError(*n));
    } else {
        z_stream z = {.next_in = (Bytef *)r->body,
                      .avail_in = (uInt)r->n,
                      .next_out = (Bytef *)out,
                      .avail_out = (uInt)room};

        ck_assert_str_eq(coding, "gzip");
        ck_assert_int_eq(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
        ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
        ck_assert_uint_eq(z.avail_in, 0);
        *n = z.total_out;
        inflateEnd(&z);
    }
    return out;
}

static bool is_coding(const struct reply *r, const char *want)
{
    const char *coding = reply_header(r, "Content-Encoding");

    return coding && want ? strcmp(coding, want) == 0 : !coding && !want;
}

/* Vary may stand in several lines. */
static bool varies(const struct reply *r)
{
    return strstr(r->head, "Vary: Accept-Encoding") != NULL;
}

static struct reply ask(const char *method, const char *path, const char *accept_encoding,
                        const struct text *body)
{
    char line[120];

    snprintf(line, sizeof line, "Accept-Encoding: %s", accept_encoding ? accept_encoding : "");
    return request(&s, method, path,
                   (const char *const[]){
                       accept_encoding ? line : "Accept-Encoding:", body ? JSON : NULL, NULL},
                   body ? body->p : NULL, body ? body->n : 0);
}

static const struct {
    const char *path;
    bool is_post;
} texts[] = {
    {"/openapi.json", false},
    {"/v1/dictionaries", false},
    {"/v1/dictionaries/a", false},
    {"/", false},
    {"/page.js", false},
    {"/page/words.json", false},
    {ENCODE, true},
    {ENCODE "?sparse=true", true},
    {ENCODE "?top_k=3", true},
    {"/v1/dictionaries/a/forward?output_features=true", true},
};

START_TEST(they_unpack_to_what_is_answered_without)
{
    static const char *const codings[] = {"gzip", "zstd"};
    const struct text *body = texts[_i].is_post ? &rows : NULL;
    const char *method = body ? "POST" : "GET";
    struct reply plain = ask(method, texts[_i].path, NULL, body);

    ck_assert_int_eq(plain.status, 200);
    ck_assert(is_coding(&plain, NULL) && varies(&plain));
    for (int i = 0; i < 2; i++) {
        struct reply r = ask(method, texts[_i].path, codings[i], body);
        size_t n;
        char *got = unpack(&r, &n), type[64];

        snprintf(type, sizeof type, "%s", reply_header(&plain, "Content-Type"));
        ck_assert_msg(is_coding(&r, codings[i]) && varies(&r), "%s", r.head);
        ck_assert_str_eq(reply_header(&r, "Content-Type"), type);
        ck_assert_uint_lt(r.n, plain.n);
        ck_assert(n == plain.n && memcmp(got, plain.body, n) == 0);
        free(got);
        reply_free(&r);
    }
    reply_free(&plain);
}
END_TEST

static const struct {
    const char *accept_encoding, *coding;
} wishes[] = {
    {"gzip", "gzip"},
    {"x-gzip", "gzip"},
    {"GZIP", "gzip"},
    {"zstd", "zstd"},
    {"gzip, deflate, br, zstd", "zstd"},
    {"zstd, gzip", "zstd"},
    {"gzip;q=0.8, zstd;q=0.5", "gzip"},
    {"gzip ; q=0.8 , zstd ; q=0.9", "zstd"},
    {"gzip;q=1.000,zstd;q=0.999", "gzip"},
    {"*", "zstd"},
    {"*;q=0.1", "zstd"},
    {"gzip;q=0, *", "zstd"},
    {"zstd;q=0, *", "gzip"},
    {"zstd;q=0, gzip;q=0, *", NULL},
    {"gzip;q=0", NULL},
    {"*;q=0", NULL},
    {"identity", NULL},
    {"identity, gzip;q=0.5", NULL},
    {"identity;q=0.5, gzip", "gzip"},
    {"identity;q=0, gzip;q=0.1", "gzip"},
    {"deflate, br", NULL},
    {"gzip;q=nonsense", NULL},
    {"gzipped", NULL},
    {"", NULL},
    {",, gzip", "gzip"},
};

START_TEST(accept_encoding_chooses)
{
    struct reply r = ask("GET", "/openapi.json", wishes[_i].accept_encoding, NULL);

    ck_assert_int_eq(r.status, 200);
    ck_assert_msg(is_coding(&r, wishes[_i].coding), "\"%s\": %s", wishes[_i].accept_encoding,
                  r.head);
    reply_free(&r);
}
END_TEST

START_TEST(several_fields_are_one_list)
{
    struct reply r = request(
        &s, "GET", "/openapi.json",
        (const char *const[]){"Accept-Encoding: br", "Accept-Encoding: gzip;q=0.5", NULL}, NULL, 0);

    ck_assert(is_coding(&r, "gzip"));
    reply_free(&r);
}
END_TEST

START_TEST(a_head_is_that_of_get)
{
    for (int i = 0; i < 3; i++) { /* packed here, elsewhere, and not at all */
        static const char *const paths[] = {"/openapi.json", "/v1/dictionaries", "/v1"};
        struct reply whole = ask("GET", paths[i], "gzip", NULL);
        struct reply head = ask("HEAD", paths[i], "gzip", NULL);
        char length[32];

        snprintf(length, sizeof length, "%zu", whole.n);
        ck_assert_int_eq(head.status, 200);
        ck_assert_uint_eq(head.n, 0);
        ck_assert_str_eq(reply_header(&head, "Content-Length"), length);
        ck_assert(is_coding(&head, i < 2 ? "gzip" : NULL) && varies(&head));
        reply_free(&head);
        reply_free(&whole);
    }
}
END_TEST

START_TEST(what_is_binary_or_small_goes_as_it_is)
{
    struct reply r = request(&s, "POST", ENCODE,
                             (const char *const[]){JSON, "Accept: application/x-safetensors",
                                                   "Accept-Encoding: gzip", NULL},
                             rows.p, rows.n);

    ck_assert_int_eq(r.status, 200);
    ck_assert(is_coding(&r, NULL) && !varies(&r));
    reply_free(&r);
    r = request(&s, "POST", "/v1/dictionaries/i0/encode",
                (const char *const[]){JSON, "Accept-Encoding: gzip", NULL}, "{\"x\":[1,2,3,4]}",
                15);
    ck_assert_str_eq(r.body, "{\"f\":[1,2,3,4]}\n");
    ck_assert(is_coding(&r, NULL) && varies(&r));
    reply_free(&r);
    r = ask("GET", "/v1/dictionaries/none", "gzip", NULL);
    check_problem(&r, 404, "unknown_dictionary", "i0", NULL);
    ck_assert(is_coding(&r, NULL));
    reply_free(&r);
    r = ask("GET", "/healthz", "gzip", NULL);
    ck_assert_str_eq(r.body, "ok\n");
    reply_free(&r);
}
END_TEST

START_TEST(metrics_are_text_too)
{
    struct reply r = ask("GET", "/metrics", "gzip", NULL);
    size_t n;
    char *text = unpack(&r, &n);

    ck_assert(is_coding(&r, "gzip"));
    ck_assert_ptr_nonnull(memmem(text, n, "saed_build_info", 15));
    ck_assert(metric(&s, "saed_inflight_bytes") == 0);
    free(text);
    reply_free(&r);
}
END_TEST

/* A GET with a body is answered before that is read, and as it is. */
START_TEST(a_body_that_is_not_wanted_is_no_matter)
{
    struct reply r = request(&s, "GET", "/openapi.json",
                             (const char *const[]){JSON, "Accept-Encoding: gzip", NULL}, "{}", 2);

    ck_assert_int_eq(r.status, 200);
    ck_assert(is_coding(&r, NULL) && varies(&r));
    reply_free(&r);
}
END_TEST

START_TEST(off_unless_it_is_asked_for)
{
    struct server one = server_start((const char *const[]){"i=identity:4", NULL});
    struct reply r = request(&one, "GET", "/openapi.json",
                             (const char *const[]){"Accept-Encoding: gzip, zstd", NULL}, NULL, 0);

    ck_assert(is_coding(&r, NULL) && !varies(&r));
    reply_free(&r);
    ck_assert_int_eq(server_stop(&one), 0);
}
END_TEST

/* No room to pack in: the answer goes as it is. */
START_TEST(without_room_it_goes_as_it_is)
{
    struct server one = server_start((const char *const[]){
        "--compress-answers", "--max-inflight-bytes", "256K", "i=identity:64", NULL});
    struct text body = {0};
    struct reply r;

    text_addf(&body, "{\"x\":[");
    for (int i = 0; i < 20; i++) {
        text_addf(&body, "%s[1.25", i ? "," : "");
        for (int k = 1; k < 64; k++)
            text_addf(&body, ",%d.5", k);
        text_addf(&body, "]");
    }
    text_addf(&body, "]}");
    r = request(&one, "POST", "/v1/dictionaries/i/encode",
                (const char *const[]){JSON, "Accept-Encoding: gzip", NULL}, body.p, body.n);
    ck_assert_msg(r.status == 200, "%s", r.body);
    ck_assert(is_coding(&r, NULL) && varies(&r));
    ck_assert(metric(&one, "saed_inflight_bytes") == 0);
    reply_free(&r);
    text_free(&body);
    ck_assert_int_eq(server_stop(&one), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("packed");
    TCase *t = tcase_create("packed");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_loop_test(t, they_unpack_to_what_is_answered_without, 0,
                        sizeof texts / sizeof *texts);
    tcase_add_loop_test(t, accept_encoding_chooses, 0, sizeof wishes / sizeof *wishes);
    tcase_add_test(t, several_fields_are_one_list);
    tcase_add_test(t, a_head_is_that_of_get);
    tcase_add_test(t, what_is_binary_or_small_goes_as_it_is);
    tcase_add_test(t, metrics_are_text_too);
    tcase_add_test(t, a_body_that_is_not_wanted_is_no_matter);
    tcase_add_test(t, off_unless_it_is_asked_for);
    tcase_add_test(t, without_room_it_goes_as_it_is);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
