/* test_json_grammar.c - what is JSON and what is not, against jansson 2.14, case by case and on
 * seeded random damage to bodies that are right.
 *
 * sae_json_check and sae_json_parse must agree with json_loadb: parse says malformed_json exactly
 * where jansson refuses, and never "internal" (its reader stopping at what its checker lets pass).
 * Two exceptions: the size of numbers, and NUL bytes, which jansson drops behind a number. */
#include "lib/format/json_scan.h"
#include "tests/unit/proto/json/json_fixture.h"

#include <check.h>
#include <jansson.h>

enum verdict { TAKES, REFUSES, CANNOT_TELL };

/* jansson stops at a number that is too large for it: what stands behind is unseen. */
static enum verdict ask_jansson(const char *s, size_t n)
{
    json_error_t e;
    json_t *j = json_loadb(s, n, JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, &e);

    json_decref(j);
    if (memchr(s, '\0', n))
        return REFUSES;
    return j ? TAKES : json_error_code(&e) == json_error_numeric_overflow ? CANNOT_TELL : REFUSES;
}

static bool same_as_jansson(const char *s, size_t n)
{
    struct sae_json_fault fault = {NULL, NULL};
    enum verdict verdict = ask_jansson(s, n);
    bool ok = sae_json_check(s, n, &fault);

    if (!ok && (!fault.what || fault.at < s || fault.at > s + n))
        return false;
    for (int op = 0; op < SAE_N_OPS; op++) {
        enum sae_status st = fixture_status((enum sae_op)op, s, n);

        if (st == SAE_E_INTERNAL || (st == SAE_E_MALFORMED_JSON) == ok)
            return false;
    }
    return verdict == CANNOT_TELL || ok == (verdict == TAKES);
}

static const char *const accepted[] = {
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "{\"\":0}",
    "[1]",
    "[-0]",
    "[0e1]",
    "[0E+1]",
    "[1e-2]",
    "[123.456e78]",
    "[1E22]",
    "[-123]",
    "[-0.0]",
    "[1.5]",
    "[true]",
    "[false]",
    "[null]",
    "[\"\"]",
    "[\"a\"]",
    "[\"\\u0060\\u012a\\u12AB\"]",
    "[\"\\uD801\\udc37\"]",
    "[\"\\ud83d\\ude39\\ud83d\\udc8d\"]",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
    "[\"\\\\u0000\"]",
    "[\"\\u0012\"]",
    "[\"\\uFFFF\"]",
    "[\"\x7f\"]",
    "[\"\xc2\x80\"]",
    "[\"\xdf\xbf\"]",
    "[\"\xe0\xa0\x80\"]",
    "[\"\xed\x9f\xbf\"]",
    "[\"\xee\x80\x80\"]",
    "[\"\xef\xbf\xbf\"]",
    "[\"\xf0\x90\x80\x80\"]",
    "[\"\xf4\x8f\xbf\xbf\"]",
    "[\"\xe2\x80\xa8\"]",
    "[\"new\xc2\xa0line\"]",
    " [] ",
    "\t\r\n []\n",
    "[ 4 , 5 ]",
    "{\"a\":1,\"a\":2}",
    "{\"a\" : { \"b\" : [ ] } }",
    "[1,[2,[3,{\"x\":[]}]]]",
    "[\"/*\"]",
    "[1e400]",
    "[123456789012345678901234567890]",
    "[-1e999]",
    "[1e-999]",
    "{\"a\\u0062\":1}",
    "1",
    " -1.5e3\n",
    "\"x\"",
    "null",
    "true",
    "false",
};

static const char *const refused[] = {
    "",
    " ",
    "x",
    "-",
    "\"",
    "nul",
    "1 2",
    "null,",
    "true}",
    "[",
    "]",
    "{",
    "}",
    "[1",
    "[1,",
    "[,1]",
    "[1,]",
    "[1,,2]",
    "[1 2]",
    "[1:2]",
    "[1]]",
    "[1]x",
    "[1] 2",
    "[][]",
    "{}{}",
    "[}",
    "{]",
    "[1}",
    "{\"a\":1]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\" 1}",
    "{:1}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{\"a\":1,}",
    "{,}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1,,\"b\":2}",
    "{\"a\"::1}",
    "{null:1}",
    "{[]:1}",
    "[+1]",
    "[.5]",
    "[-.5]",
    "[1.]",
    "[-]",
    "[--1]",
    "[01]",
    "[-01]",
    "[00]",
    "[1.5.5]",
    "[1e]",
    "[1e+]",
    "[1E-]",
    "[0.e1]",
    "[1.e1]",
    "[1e1.5]",
    "[0x10]",
    "[1_000]",
    "[Infinity]",
    "[-Infinity]",
    "[NaN]",
    "[nan]",
    "[inf]",
    "[1f]",
    "[1-1]",
    "[1+1]",
    "[0e]",
    "[tru]",
    "[truee]",
    "[True]",
    "[TRUE]",
    "[nul]",
    "[nulll]",
    "[falsee]",
    "[true1]",
    "[truefalse]",
    "[undefined]",
    "['a']",
    "[a]",
    "[\"]",
    "[\"a]",
    "[\"a\n\"]",
    "[\"\t\"]",
    "[\"\x1f\"]",
    "[\"\\\"]",
    "[\"\\x41\"]",
    "[\"\\a\"]",
    "[\"\\'\"]",
    "[\"\\u\"]",
    "[\"\\u1\"]",
    "[\"\\u12\"]",
    "[\"\\u123\"]",
    "[\"\\u12G4\"]",
    "[\"\\U1234\"]",
    "[\"\\u0000\"]",
    "{\"\\u0000\":1}",
    "[\"\\ud800\"]",
    "[\"\\ud800a\"]",
    "[\"\\ud800\\n\"]",
    "[\"\\ud800\\u\"]",
    "[\"\\ud800\\u1\"]",
    "[\"\\ud800\\u0041\"]",
    "[\"\\ud800\\ud800\"]",
    "[\"\\udc00\"]",
    "[\"\\udc00\\ud800\"]",
    "[\"\\ud83d\\",
    "[\"\\ud83d\\ude3",
    "[\"\xff\"]",
    "[\"\x80\"]",
    "[\"\xc0\x80\"]",
    "[\"\xc1\xbf\"]",
    "[\"\xc2\"]",
    "[\"\xc2\"",
    "[\"\xe0\x80\x80\"]",
    "[\"\xe0\x9f\xbf\"]",
    "[\"\xe2\x82\"]",
    "[\"\xed\xa0\x80\"]",
    "[\"\xed\xbf\xbf\"]",
    "[\"\xf0\x80\x80\x80\"]",
    "[\"\xf0\x8f\xbf\xbf\"]",
    "[\"\xf0\x9f\x98\"]",
    "[\"\xf4\x90\x80\x80\"]",
    "[\"\xf5\x80\x80\x80\"]",
    "[\"\xf8\x88\x80\x80\x80\"]",
    "\xff\xfe[",
    "[\xc3\xa5]",
    "[\xe2\x80\x8b]",
    "[\f]",
    "[\v]",
    "\xc2\xa0[]",
    "[]\f",
    "[1/**/]",
    "//\n[]",
    "#\n[]",
    "[1;2]",
    "(1)",
    "<x>",
    "[*]",
    "[\\n]",
    "[\\u0020]",
    "[1e1e1]",
    "{\"x\":[1,2,3]",
    "{\"x\":[1,2,3}",
    "{\"x\":1}}",
    "{\"x\":[1,2,3]},",
    "[1\\n]",
    "{\"a\":\"b\":1}",
    "{\"a\\ud800\":1}",
};

START_TEST(accepted_is_accepted)
{
    const char *s = accepted[_i];
    struct sae_json_fault fault;

    ck_assert_msg(sae_json_check(s, strlen(s), &fault), "%s", s);
    ck_assert_msg(same_as_jansson(s, strlen(s)), "%s", s);
}
END_TEST

START_TEST(refused_is_refused)
{
    const char *s = refused[_i];
    struct sae_json_fault fault;

    ck_assert_msg(!sae_json_check(s, strlen(s), &fault), "%s", s);
    ck_assert_msg(same_as_jansson(s, strlen(s)), "%s", s);
}
END_TEST

START_TEST(nul_bytes_are_refused)
{
    static const struct {
        const char *s;
        size_t n;
    } texts[] = {{"[1\0]", 4},
                 {"[\0]", 3},
                 {"\0[]", 3},
                 {"[]\0", 3},
                 {"[\"\0\"]", 5},
                 {"[1]\0\0", 5},
                 {"{\"x\":[1,2,3\0]}", 15},
                 {"[\"\\\0\"]", 6}};

    for (size_t i = 0; i < SAE_COUNTOF(texts); i++)
        ck_assert_int_eq(fixture_status(SAE_OP_ENCODE, texts[i].s, texts[i].n),
                         SAE_E_MALFORMED_JSON);
}
END_TEST

/* jansson counts the innermost value too: a number inside 2048 lists is one too deep. */
START_TEST(depth_ends_where_jansson_ends_it)
{
    static const char *const cores[] = {"", "1", "[]", "{}", "\"\"", "null", "{\"a\":1}"};
    char *s = malloc(2100 * 8);

    for (size_t depth = 2040; depth < 2052; depth++)
        for (size_t i = 0; i < SAE_COUNTOF(cores); i++)
            for (int object = 0; object < 2; object++) {
                size_t n = 0;

                for (size_t k = 0; k < depth; k++)
                    n += (size_t)sprintf(s + n, object && k % 2 ? "{\"\":" : "[");
                if (object && depth % 2 == 0 && !*cores[i])
                    continue;
                n += (size_t)sprintf(s + n, "%s", cores[i]);
                for (size_t k = depth; k-- > 0;)
                    s[n++] = object && k % 2 ? '}' : ']';
                ck_assert_msg(same_as_jansson(s, n), "depth %zu around %s", depth, cores[i]);
            }
    memset(s, '[', 16000);
    ck_assert_int_eq(fixture_status(SAE_OP_ENCODE, s, 16000), SAE_E_MALFORMED_JSON);
    free(s);
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

static const struct {
    enum sae_op op;
    const char *body;
} whole[] = {
    {SAE_OP_ENCODE,
     "{\"x\": [[1, -2.5e-3, \"NaN\"], [4, 5, 0.625]], \"top_k\": 3, \"sparse\": true, "
     "\"features\": [1, 5], \"return_gate\": null}"},
    {SAE_OP_DECODE, "{\"f\": {\"shape\": [2, 6], \"indices\": [[5, 0], []], "
                    "\"values\": [[1.25, -0.0], []]}, \"sp\\u0061rse\": false}"},
    {SAE_OP_FORWARD, "{\"output_features\":true,\"x\":[[[1,2,3]]],\"ghost_mask\":[[[true]]],"
                     "\"output_pre_jump\":false}"},
    {SAE_OP_ENCODE, "{\"x\":[\"-Infinity\",1e-400,123456789012345678901234567890]}"},
    {SAE_OP_ENCODE,
     "[{\"k\\u00e9y\\n\": \"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\\ud83d\\ude00\"}, null, "
     "true, [[], {}], -12.5E+2]"},
};

START_TEST(every_prefix_is_malformed)
{
    const char *s = whole[_i].body;
    size_t n = strlen(s);
    struct sae_target t = fixture_target(whole[_i].op);

    for (size_t k = 0; k < n; k++) {
        struct sae_request r;
        struct sae_err err;
        enum sae_status st = fixture_parse_n(&r, &t, s, k, &err);

        sae_request_fini(&r);
        if (st != SAE_E_MALFORMED_JSON || !strstr(err.text, " at byte "))
            ck_abort_msg("%.*s: status %d, %s", (int)k, s, (int)st, err.text);
    }
}
END_TEST

START_TEST(every_byte_changed)
{
    const char *s = whole[_i].body;
    size_t n = strlen(s);
    char *t = malloc(n + 1);

    for (size_t k = 0; k < n; k++)
        for (int b = 0; b < 256; b++) {
            memcpy(t, s, n);
            t[k] = (char)b;
            if (!same_as_jansson(t, n))
                ck_abort_msg("byte %zu = %d: %.*s", k, b, (int)n, t);
        }
    free(t);
}
END_TEST

/* Pieces that damage puts in: what JSON is made of, and some that it is not. */
static const char *const pieces[] = {
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "\\",
    "0",
    "1",
    "-",
    "+",
    ".",
    "e",
    "E5",
    "true",
    "false",
    "null",
    "\"x\"",
    "\"f\"",
    "\"a\":",
    "\"NaN\"",
    "[]",
    "{}",
    " ",
    "\n",
    "\\u0041",
    "\\ud83d",
    "\\ude00",
    "\xc3",
    "\xa9",
    "\xed\xa0\x80",
    "\xf0\x9f\x98\x80",
    "1e400",
    "99999999999999999999",
    "\x1f",
    "\x7f",
    "/",
    "\"\"",
    "[[1,2,3]]",
    "\"indices\":",
    "\"shape\":",
};

static size_t damage(char *s, size_t n, size_t cap, struct fixture_rng *g)
{
    for (unsigned k = 1 + fixture_random(g, 4); k > 0; k--) {
        size_t at = fixture_random(g, (uint32_t)n + 1), len;
        const char *piece = pieces[fixture_random(g, SAE_COUNTOF(pieces))];
        size_t add = strlen(piece);

        switch (fixture_random(g, 4)) {
        case 0: /* cut out */
            len = fixture_random(g, 6);
            len = len < n - at ? len : n - at;
            memmove(s + at, s + at + len, n - at - len);
            n -= len;
            break;
        case 1: /* put in */
            if (n + add > cap)
                break;
            memmove(s + at + add, s + at, n - at);
            memcpy(s + at, piece, add);
            n += add;
            break;
        case 2: /* write over */
            add = add < n - at ? add : n - at;
            memcpy(s + at, piece, add);
            break;
        default: /* repeat what is there */
            len = fixture_random(g, 12);
            len = len < n - at ? len : n - at;
            if (n + len > cap)
                break;
            memmove(s + at + len, s + at, n - at);
            n += len;
            break;
        }
    }
    return n;
}

START_TEST(random_damage)
{
    struct fixture_rng g = {(uint64_t)_i + 1};
    char s[1024];

    for (int i = 0; i < 8000; i++) {
        size_t n = strlen(whole[_i].body);

        memcpy(s, whole[_i].body, n);
        n = damage(s, n, sizeof s, &g);
        if (!same_as_jansson(s, n))
            ck_abort_msg("%.*s", (int)n, s);
    }
}
END_TEST

/* The offset is that of the first byte that cannot stand there. */
static const struct {
    const char *body, *text;
} offsets[] = {
    {"", "expected a value, found the end at byte 0"},
    {"  +7", "expected a value, found '+' at byte 2"},
    {"\xef\xbb\xbf {", "expected a key in quotes, found the end at byte 5"},
    {"{\"x\":[1,2,3]} x", "expected the end of the text, found 'x' at byte 14"},
    {"{\"x\":[1,2 3]}", "expected ',' or ']', found '3' at byte 10"},
    {"{\"x\":[1,2,]}", "expected a value, found ']' at byte 10"},
    {"{\"x\":[01]}", "expected ',' or ']', found '1' at byte 7"},
    {"{\"x\":[1.]}", "expected a digit, found ']' at byte 8"},
    {"{\"x\":[1,\"\\q\"]}", "there is no such escape, found '\\' at byte 9"},
    {"{\"x\":[1,\"\x80\"]}", "a string is no valid UTF-8, found byte 0x80 at byte 9"},
    {"{\"x\":[1,", "expected a value, found the end at byte 8"},
    {"{\"x\"", "expected ':', found the end at byte 4"},
    {"{\"x\":[true,tru]}", "expected a value, found 't' at byte 11"},
};

START_TEST(offset_is_told)
{
    struct sae_target t = fixture_target(SAE_OP_ENCODE);
    struct sae_request r;
    struct sae_err err;

    ck_assert_int_eq(fixture_parse(&r, &t, offsets[_i].body, &err), SAE_E_MALFORMED_JSON);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot read JSON: "));
    ck_assert_str_eq(err.text + strlen("cannot read JSON: "), offsets[_i].text);
    sae_request_fini(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json_grammar");
    TCase *t = tcase_create("json_grammar");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, accepted_is_accepted, 0, SAE_COUNTOF(accepted));
    tcase_add_loop_test(t, refused_is_refused, 0, SAE_COUNTOF(refused));
    tcase_add_test(t, nul_bytes_are_refused);
    tcase_add_test(t, depth_ends_where_jansson_ends_it);
    tcase_add_loop_test(t, every_prefix_is_malformed, 0, SAE_COUNTOF(whole));
    tcase_add_loop_test(t, every_byte_changed, 0, SAE_COUNTOF(whole));
    tcase_add_loop_test(t, random_damage, 0, SAE_COUNTOF(whole));
    tcase_add_loop_test(t, offset_is_told, 0, SAE_COUNTOF(offsets));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
