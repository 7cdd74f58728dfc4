/* test_config.c - configs in JSON and YAML as facts: what is read, what is refused and when. */
#include "lib/load/config.h"

#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum sae_status config_reader(struct sae_facts **out, const char *name, const char *text,
                                      size_t n, struct sae_err *err);

/* Facts printed again as JSON; NULL: refused, and why is in *err. Owned. */
static char *printed(config_reader *read, const char *text, size_t n, struct sae_err *err)
{
    struct sae_facts *f = NULL;
    struct sae_buf out;

    if (read(&f, "c", text, n, err) != SAE_OK) {
        ck_assert_ptr_null(f);
        return NULL;
    }
    sae_buf_init(&out, 1 << 20);
    ck_assert_int_eq(sae_fact_print(sae_facts_root(f), &out), SAE_OK);
    sae_facts_free(f);
    return out.data;
}

static void expect(config_reader *read, const char *text, const char *want, const char *refused)
{
    struct sae_err err = {0};
    char *got = printed(read, text, strlen(text), &err);

    if (refused) {
        ck_assert_msg(!got && strstr(err.text, refused), "%s: %s", text, got ? got : err.text);
        ck_assert_str_eq(err.where, "c");
        ck_assert_int_eq(err.status, SAE_E_FORMAT);
        return;
    }
    ck_assert_msg(got && strcmp(got, want) == 0, "%s: %s", text, got ? got : err.text);
    free(got);
}

/* ---- JSON --------------------------------------------------------------------------------- */

static const struct {
    const char *text, *want, *refused;
} json[] = {
    {"{}", "{}", NULL},
    {" [ ] \n", "[]", NULL},
    {"5", "5", NULL},
    {"{\"k\": 64, \"t\": {\"a\": [1, -2.5, \"x\", null, true, false, {}]}}",
     "{\"k\":64,\"t\":{\"a\":[1,-2.5,\"x\",null,true,false,{}]}}", NULL},
    {"\xef\xbb\xbf{\"k\":1}", "{\"k\":1}", NULL},
    {"[NaN, Infinity, -Infinity, 1e999, -1]", "[null,null,null,null,-1]", NULL},
    {"[9223372036854775807, -9223372036854775808, 9223372036854775808, 18446744073709551616]",
     "[9223372036854775807,-9223372036854775808,null,null]", NULL},
    {"[0.1, 1e22, 1.0, 5e-324, -0.0, 12345678.9]", "[0.1,1e+22,1.0,5e-324,-0.0,12345678.9]", NULL},
    {"[\"a\\n\\u00e9\\\"\\\\\\ud83d\\ude00\"]", "[\"a\\u000a\xc3\xa9\\\"\\\\\xf0\x9f\x98\x80\"]",
     NULL},
    {"", NULL, "expected a value, found the end at byte 0"},
    {"{\"k\": 1,}", NULL, "expected a key in quotes"},
    {"{\"k\": 1} {}", NULL, "expected the end of the text"},
    {"{\"k\": 1, \"\\u006b\": 2}", NULL, "the key \"k\" stands twice"},
    {"[{\"b\": {\"k\": 1, \"a\": 3, \"k\": 1}}]", NULL, "the key \"k\" stands twice"},
    {"[nan]", NULL, "expected a value"},
    {"[+Infinity]", NULL, "expected a value"},
    {"[\"\xff\"]", NULL, "no valid UTF-8"},
    {"\xef\xbb\xbf\xef\xbb\xbf{}", NULL, "expected a value"},
};

START_TEST(json_is_read_or_refused)
{
    expect(sae_config_json, json[_i].text, json[_i].want, json[_i].refused);
}
END_TEST

/* n times `open`, and what closes them. */
static char *nested(size_t n, const char *open, const char *inside, char close)
{
    char *s = malloc(n * (strlen(open) + 1) + strlen(inside) + 1), *p = s;

    for (size_t i = 0; i < n; i++)
        p = stpcpy(p, open);
    p = stpcpy(p, inside);
    memset(p, close, n);
    p[n] = '\0';
    return s;
}

START_TEST(json_has_limits)
{
    static const struct {
        size_t n;
        const char *open, *inside;
        char close;
        const char *refused;
    } rows[] = {
        {63, "[", "1", ']', NULL},
        {64, "[", "", ']', NULL},
        {64, "[", "1", ']', "nested deeper than 64"},
        {64, "{\"a\":", "1", '}', "nested deeper than 64"},
        {1000000, "[", "", ']', "nested deeper than 64"},
    };
    char *text = nested(rows[_i].n, rows[_i].open, rows[_i].inside, rows[_i].close);
    struct sae_err err = {0};
    char *got = printed(sae_config_json, text, strlen(text), &err);

    if (rows[_i].refused)
        ck_assert_msg(!got && strstr(err.text, rows[_i].refused), "%s", err.text);
    else
        ck_assert_str_eq(got, text);
    free(got);
    free(text);
}
END_TEST

/* A list of 99,999 is 100,000 values. */
START_TEST(json_of_many_values)
{
    for (size_t n = 99999; n <= 100000; n++) {
        char *text = malloc(2 * n + 2), *got;
        struct sae_err err = {0};

        text[0] = '[';
        for (size_t i = 0; i < n; i++)
            memcpy(text + 1 + 2 * i, i + 1 < n ? "1," : "1]", 2);
        got = printed(sae_config_json, text, 1 + 2 * n, &err);
        ck_assert_int_eq(got != NULL, n == 99999);
        if (!got)
            ck_assert_ptr_nonnull(strstr(err.text, "more than 100000 values"));
        free(got);
        free(text);
    }
}
END_TEST

/* Any prefix, any changed byte: read or refused, and nothing is touched behind the text. */
START_TEST(json_that_is_damaged)
{
    static const char text[] =
        "\xef\xbb\xbf{\"k\": -64, \"n\": [NaN, 1e5, -Infinity], \"\\u00e9\": "
        "{\"a\": \"b\\\\\", \"big\": 18446744073709551616}}";
    const size_t n = sizeof text - 1;
    char *copy = malloc(n + 1);

    for (size_t cut = 0; cut <= n; cut++) {
        char *exact = calloc(cut + 1, 1);

        memcpy(exact, text, cut);
        free(printed(sae_config_json, exact, cut, NULL));
        free(exact);
    }
    memcpy(copy, text, n + 1);
    for (size_t at = 0; at < n; at++)
        for (int c = 0; c < 256; c++) {
            copy[at] = (char)c;
            free(printed(sae_config_json, copy, n, NULL));
            copy[at] = text[at];
        }
    free(copy);
}
END_TEST

/* ---- YAML --------------------------------------------------------------------------------- */

static const struct {
    const char *text, *want, *refused;
} yaml[] = {
    {"", "{}", NULL},
    {"# a comment\n---\nk: 64\nactivation: topk # of all\n", "{\"k\":64,\"activation\":\"topk\"}",
     NULL},
    {"a: 'it''s'\nb: \"x # y\" # z\n'c d': ~\ne:\n",
     "{\"a\":\"it's\",\"b\":\"x # y\",\"c d\":null,\"e\":null}", NULL},
    {"t: true\nf: False\nr: -0.5\ni: -3\nn: .nan\nbig: 18446744073709551616\r\n",
     "{\"t\":true,\"f\":false,\"r\":-0.5,\"i\":-3,\"n\":null,\"big\":null}", NULL},
    {"octal: 010\nhex: 0x10\nparts: 1_000\ntime: 1:30\nexp: 1e5\npoint: 1.\nplus: +4\n",
     "{\"octal\":\"010\",\"hex\":\"0x10\",\"parts\":\"1_000\",\"time\":\"1:30\",\"exp\":\"1e5\","
     "\"point\":1.0,\"plus\":4}",
     NULL},
    /* Skipped, and what they belong to is not read. */
    {"hooks:\n  - a\n  - k: 3\nk: 5\nlist:\n- 1\n", "{\"hooks\":null,\"k\":5,\"list\":null}", NULL},
    {"text: one\n  two\nk: 5\n", "{\"text\":null,\"k\":5}", NULL},
    {"k: &a 3\nb: *a\nc: !!int 3\nd: |\n  k: 4\ne: [1, 2]\nf: {k: 3}\ng: >-\n  x\n",
     "{\"k\":null,\"b\":null,\"c\":null,\"d\":null,\"e\":null,\"f\":null,\"g\":null}", NULL},
    {"k: 3\nk: 3\n", "{\"k\":null}", NULL},
    {"k: 'a' b\nq: \"\\x41\"\nyes: no\nm: a: b\n",
     "{\"k\":null,\"q\":null,\"yes\":null,\"m\":null}", NULL},
    {"just words\nurl:no blank\nk: http://x/y:z\n", "{\"k\":\"http://x/y:z\"}", NULL},
    /* A line in column 0 may not be what it seems. */
    {"a: \"one\nk: 3\n", NULL, "line 1: a quoted value that does not end in its line"},
    {"a: [1,\nk: 3]\n", NULL, "line 1: a list or map in brackets that does not end in its line"},
    {"a: {x: '}\n", NULL, "a quoted value that does not end in its line"},
    {"<<: *base\nk: 3\n", NULL, "line 1: keys merged from elsewhere"},
    {"k: 3\n---\nk: 4\n", NULL, "line 2: a second document"},
    {"--- {k: 3}\n", NULL, "one that begins behind ---"},
    {"{k: 3}\n", NULL, "a key that is no plain text"},
    {"{\n k: 3}\n", NULL, "no key and value on one line"},
    {"? k\n: 3\n", NULL, "no key and value on one line"},
    {"\"k\\x\": 3\n", NULL, "a key with an escape"},
    {"\"k: 3\n", NULL, "no key and value on one line"},
};

START_TEST(yaml_is_read_or_refused)
{
    expect(sae_config_yaml, yaml[_i].text, yaml[_i].want, yaml[_i].refused);
}
END_TEST

START_TEST(yaml_that_is_damaged)
{
    static const char text[] = "a: 'x''y' # z\nk: &b 3\nl: [1, \"2\"]\n\"q\": -1.5\nm:\n  - *b\n";
    const size_t n = sizeof text - 1;
    char copy[sizeof text];

    for (size_t cut = 0; cut <= n; cut++) {
        char *exact = malloc(cut ? cut : 1);

        memcpy(exact, text, cut);
        free(printed(sae_config_yaml, exact, cut, NULL));
        free(exact);
    }
    memcpy(copy, text, sizeof text);
    for (size_t at = 0; at < n; at++)
        for (int c = 0; c < 256; c++) {
            copy[at] = (char)c;
            free(printed(sae_config_yaml, copy, n, NULL));
            copy[at] = text[at];
        }
}
END_TEST

START_TEST(yaml_of_many_keys)
{
    char *text = malloc(20000), *p = text;
    struct sae_err err = {0};

    for (int i = 0; i < 1001; i++)
        p += sprintf(p, "k%d: %d\n", i, i);
    ck_assert_ptr_null(printed(sae_config_yaml, text, (size_t)(p - text), &err));
    ck_assert_ptr_nonnull(strstr(err.text, "line 1001: more than 1000 keys"));
    free(text);
}
END_TEST

/* ---- asking ------------------------------------------------------------------------------- */

START_TEST(values_are_asked_for_by_path_and_type)
{
    static const char text[] =
        "{\"k\": 64, \"real\": 0.5, \"on\": true, \"name\": \"x\", \"none\": null, \"nan\": NaN,"
        " \"big\": 18446744073709551616, \"list\": [], \"trainer\": {\"k\": 7, \"a\": {\"b\": 1}},"
        " \"trainer.x\": 9, \"norm\": {\"blocks.0.out\": 2.5}}";
    struct sae_facts *f = NULL;
    struct sae_err err = {0};
    int64_t i = -1;
    double d = -1;
    bool b = false, found = false;
    const char *s = "";

    ck_assert_int_eq(sae_config_json(&f, "cfg.json", text, sizeof text - 1, NULL), SAE_OK);
    ck_assert(sae_facts_int(f, "k", &i, &found, NULL) == SAE_OK && found && i == 64);
    ck_assert(sae_facts_int(f, "trainer.k", &i, &found, NULL) == SAE_OK && found && i == 7);
    ck_assert(sae_facts_int(f, "trainer.a.b", &i, &found, NULL) == SAE_OK && found && i == 1);
    ck_assert(sae_facts_int(f, "trainer.x", &i, &found, NULL) == SAE_OK && found && i == 9);
    ck_assert(sae_facts_real(f, "norm.blocks.0.out", &d, &found, NULL) == SAE_OK && d == 2.5);
    ck_assert(sae_facts_real(f, "k", &d, &found, NULL) == SAE_OK && found && d == 64);
    ck_assert(sae_facts_bool(f, "on", &b, &found, NULL) == SAE_OK && found && b);
    ck_assert(sae_facts_text(f, "name", &s, &found, NULL) == SAE_OK && found &&
              strcmp(s, "x") == 0);
    i = 5;
    ck_assert(sae_facts_int(f, "none", &i, &found, NULL) == SAE_OK && !found && i == 5);
    ck_assert(sae_facts_int(f, "trainer.none", &i, &found, NULL) == SAE_OK && !found);
    ck_assert(sae_facts_int(f, "k.k", &i, &found, NULL) == SAE_OK && !found);
    ck_assert(sae_facts_int(NULL, "k", &i, &found, NULL) == SAE_OK && !found && i == 5);
    for (size_t r = 0; r < 6; r++) {
        static const struct {
            const char *path, *said;
        } rows[] = {
            {"real", "cannot use \"real\" of cfg.json: it is a number with a fraction, an integer"},
            {"big", "it is an integer beyond 64 bits, an integer is wanted"},
            {"nan", "it is NaN or an infinity, an integer is wanted"},
            {"name", "it is a text, an integer is wanted"},
            {"list", "it is a list, an integer is wanted"},
            {"trainer", "it is a dict, an integer is wanted"},
        };

        err = (struct sae_err){0};
        ck_assert_int_eq(sae_facts_int(f, rows[r].path, &i, &found, &err), SAE_E_FORMAT);
        ck_assert_msg(strstr(err.text, rows[r].said) != NULL, "%s", err.text);
        ck_assert_str_eq(err.where, "cfg.json");
    }
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_facts_bool(f, "k", &b, &found, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "it is an integer, a boolean is wanted"));
    ck_assert_int_eq(sae_facts_text(f, "on", &s, &found, NULL), SAE_E_FORMAT);
    ck_assert_int_eq(sae_facts_real(f, "nan", &d, &found, NULL), SAE_E_FORMAT);
    sae_facts_free(f);
    err = (struct sae_err){0};
    f = NULL;
    ck_assert_int_eq(sae_config_yaml(&f, "config.yaml", "k: &a 3\nk2: 1\nk2: 1\n", 20, NULL),
                     SAE_OK);
    ck_assert_int_eq(sae_facts_int(f, "k", &i, &found, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(
        err.text, "cannot use \"k\" of config.yaml: it is a value with an anchor, an integer"));
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_facts_int(f, "k2", &i, &found, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "it is a key that stands twice"));
    sae_facts_free(f);
}
END_TEST

START_TEST(printing_stops_at_its_cap)
{
    struct sae_facts *f = NULL;
    struct sae_buf out;

    ck_assert_int_eq(sae_config_json(&f, "c", "[\"abcdefgh\"]", 12, NULL), SAE_OK);
    for (size_t max = 0; max < 12; max++) {
        sae_buf_init(&out, max);
        ck_assert_int_eq(sae_fact_print(sae_facts_root(f), &out), SAE_E_NOMEM);
        sae_buf_fini(&out);
    }
    sae_facts_free(f);
}
END_TEST

/* ---- files -------------------------------------------------------------------------------- */

START_TEST(a_config_is_a_regular_file_or_not_there)
{
    char dir[] = "/tmp/saed-config-XXXXXX", folder[64], path[96], good[96];
    struct sae_facts *f = NULL;
    struct sae_err err = {0};
    int64_t k = 0;
    bool found;
    int fd;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(folder, sizeof folder, "%s/", dir);
    snprintf(path, sizeof path, "%s/config.json", dir);
    snprintf(good, sizeof good, "%s/good", dir);
    ck_assert(sae_config_read(&f, folder, "config.json", NULL) == SAE_OK && !f);
    ck_assert(sae_config_read(&f, "/dev/null/", "config.json", NULL) == SAE_OK && !f);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(sae_config_read(&f, folder, "config.json", &err), SAE_E_IO);
    ck_assert_str_eq(err.text, "cannot read config.json: it is a FIFO, a file is wanted");
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(sae_config_read(&f, folder, "config.json", NULL), SAE_E_IO);
    rmdir(path);
    ck_assert_int_eq(symlink("config.json", path), 0);
    ck_assert_int_eq(sae_config_read(&f, folder, "config.json", NULL), SAE_E_IO);
    unlink(path);
    fd = open(good, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(write(fd, "{\"k\":3}", 7), 7);
    ck_assert_int_eq(symlink("good", path), 0);
    ck_assert_int_eq(sae_config_read(&f, folder, "config.json", NULL), SAE_OK);
    ck_assert(sae_facts_int(f, "k", &k, &found, NULL) == SAE_OK && k == 3);
    sae_facts_free(f);
    f = NULL;
    err = (struct sae_err){0};
    ck_assert_int_eq(ftruncate(fd, ((off_t)16 << 20) + 1), 0);
    ck_assert_int_eq(sae_config_read(&f, folder, "config.json", &err), SAE_E_FORMAT);
    ck_assert_str_eq(err.text,
                     "cannot read config.json: 16777217 bytes, at most 16777216 are read");
    unlink(path);
    snprintf(path, sizeof path, "%s/config.yaml", dir);
    ck_assert_int_eq(ftruncate(fd, ((off_t)1 << 20) + 1), 0);
    ck_assert_int_eq(symlink("good", path), 0);
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_config_read(&f, folder, "config.yaml", &err), SAE_E_FORMAT);
    ck_assert_str_eq(err.text, "cannot read config.yaml: 1048577 bytes, at most 1048576 are read");
    ck_assert_ptr_null(f);
    close(fd);
    unlink(path);
    unlink(good);
    rmdir(dir);
}
END_TEST

START_TEST(memory_may_run_out)
{
    static const char *const texts[] = {"{\"k\": 18446744073709551616, \"a\": [\"x\", {\"b\": 1}]}",
                                        "k: 3\na: 'x'\nb: \"y\"\n'c': d\n"};
    config_reader *read = _i ? sae_config_yaml : sae_config_json;
    bool done = false;

    for (long n = 0; !done; n++) {
        struct sae_facts *f = NULL;

        sae_alloc_fault(n, false);
        done = read(&f, "c", texts[_i], strlen(texts[_i]), NULL) == SAE_OK;
        sae_alloc_fault(-1, false);
        ck_assert_int_eq(f != NULL, done);
        sae_facts_free(f);
        ck_assert_int_lt(n, 50);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, json_is_read_or_refused, 0, SAE_COUNTOF(json));
    tcase_add_loop_test(t, json_has_limits, 0, 5);
    tcase_add_test(t, json_of_many_values);
    tcase_add_test(t, json_that_is_damaged);
    tcase_add_loop_test(t, yaml_is_read_or_refused, 0, SAE_COUNTOF(yaml));
    tcase_add_test(t, yaml_that_is_damaged);
    tcase_add_test(t, yaml_of_many_keys);
    tcase_add_test(t, values_are_asked_for_by_path_and_type);
    tcase_add_test(t, printing_stops_at_its_cap);
    tcase_add_test(t, a_config_is_a_regular_file_or_not_there);
    tcase_add_loop_test(t, memory_may_run_out, 0, 2);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
