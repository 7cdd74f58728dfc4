/* test_labels.c - files of labels: their three forms, and what is refused of each, by line or key.
 */
#include "lib/load/labels.h"
#include "tests/support/files.h"
#include "tests/support/st_file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { F = 4 };

static char dir[64];

static void setup(void)
{
    make_test_folder(dir);
}

static void teardown(void)
{
    remove_test_folder(dir);
}

static enum sae_status open_text(struct sae_labels **out, const char *name, const void *text,
                                 size_t n, struct sae_err *err)
{
    char path[120];

    put_bytes(dir, name, text, n);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return sae_labels_open(out, path, F, err);
}

/* All F of them, with ' ' between; "-": none. */
static const struct {
    const char *name, *text, *labels;
} good[] = {
    {"a.json", "{}", "- - - -"},
    {"a.json", "{\"3\":\"c\",\"0\":\"a\"}", "\"a\" - - \"c\""},
    {"a.json", " {\"1\" : null , \"2\" : \"\" }\n", "- - \"\" -"},
    {"a.json", "\xef\xbb\xbf[\"a\",null,\"\\u00e9\\n\",\"\xc3\xa9\"]",
     "\"a\" - \"\\u00e9\\n\" \"\xc3\xa9\""},
    {"a.JSON", "[]", "- - - -"},
    {"labels", "[\"a\"]", "\"a\" - - -"},
    {"labels", "{\"1\":\"a\"}", "- \"a\" - -"},
    {"labels", "", "- - - -"},
    {"labels", "a", "\"a\" - - -"},
    {"labels", "a\n\nb\r\nc\n", "\"a\" - \"b\" \"c\""},
    {"labels", "\xef\xbb\xbfquo\"te\nback\\slash\ntab\there\n\xe6\x97\xa5", /* BOM */
     "\"quo\\\"te\" \"back\\\\slash\" \"tab\\u0009here\" \"\xe6\x97\xa5\""},
    {"labels.txt", "[brackets]\n{braces}", "\"[brackets]\" \"{braces}\" - -"},
};

START_TEST(every_form_is_read)
{
    struct sae_labels *l = NULL;
    struct sae_err err = {0};
    char got[400] = "";
    enum sae_status st = open_text(&l, good[_i].name, good[_i].text, strlen(good[_i].text), &err);

    ck_assert_msg(st == SAE_OK, "%s", err.text);
    for (uint64_t id = 0; id < F; id++) {
        size_t n = 1;
        const char *s = sae_labels_json(l, id, &n);

        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", id ? " " : "", (int)n,
                 s ? s : "-");
    }
    ck_assert_str_eq(got, good[_i].labels);
    ck_assert_uint_ge(sae_labels_bytes(l), F * 6);
    sae_labels_free(l);
}
END_TEST

static const struct {
    const char *name, *text, *said;
} bad[] = {
    {"a.json", "{\"4\":\"a\"}", "key \"4\" is no id, they are 0 to 3"},
    {"a.json", "{\"-1\":\"a\"}", "key \"-1\" is no id"},
    {"a.json", "{\"one\":\"a\"}", "key \"one\" is no id"},
    {"a.json", "{\"\":\"a\"}", "key \"\" is no id"},
    {"a.json", "{\"18446744073709551616\":\"a\"}", "is no id"},
    {"a.json", "{\"1\":\"a\",\"1\":\"b\"}", "key \"1\" stands twice"},
    {"a.json", "{\"1\":\"a\",\"01\":\"b\"}", "key \"1\" stands twice"},
    {"a.json", "{\"1\":null,\"1\":\"b\"}", "key \"1\" stands twice"},
    {"a.json", "{\"1\":7}", "that of feature 1 is no text, at byte 5"},
    {"a.json", "[\"a\",[]]", "that of feature 1 is no text"},
    {"a.json", "[1,2,3,4,5]", "that of feature 0 is no text"},
    {"a.json", "[null,null,null,null,null]", "item 4 of its list is of no feature"},
    {"a.json", "\"a\"", "it is no object and no list"},
    {"a.json", "", "at byte 0"},
    {"a.json", "{\"1\":\"a\"", "at byte 8"},
    {"a.json", "{\"1\":\"\xff\"}", "at byte 6"},
    {"a.json", "{\"1\":\"a\"} x", "at byte 10"},
    {"a.json", "a\nb", "at byte 0"},
    {"labels", "a\nb\nc\nd\ne", "line 5 is of no feature, there are 4"},
    {"labels", "a\nb\nc\nd\n\n", "line 5 is of no feature"},
    {"labels", "a\n\xff\n", "line 2 is no UTF-8"},
    {"labels", "a\n\xed\xa0\x80\n", "line 2 is no UTF-8"},
};

START_TEST(what_is_wrong_is_named)
{
    struct sae_labels *l = NULL;
    struct sae_err err = {0};
    enum sae_status st = open_text(&l, bad[_i].name, bad[_i].text, strlen(bad[_i].text), &err);

    ck_assert_int_eq(st, SAE_E_FORMAT);
    ck_assert_ptr_null(l);
    ck_assert_msg(strstr(err.text, bad[_i].said) && strstr(err.text, dir), "%s", err.text);
}
END_TEST

/* 1,000 bytes are taken, however they are written; one more is not. */
START_TEST(a_label_has_at_most_1000_bytes)
{
    static char text[8000];

    for (int form = 0; form < 3; form++)
        for (int more = 0; more < 2; more++) {
            struct sae_labels *l = NULL;
            struct sae_err err = {0};
            size_t n = form ? (size_t)sprintf(text, "[\"") : 0;
            enum sae_status st;

            for (int i = 0; i < 1000 + more; i++)
                n += (size_t)sprintf(text + n, "%s", form == 2 ? "\\u0061" : "a");
            n += form ? (size_t)sprintf(text + n, "\"]") : 0;
            st = open_text(&l, "labels", text, n, &err);
            ck_assert_msg((st == SAE_OK) == !more, "%d: %s", form, err.text);
            if (more)
                ck_assert_msg(strstr(err.text, "more than 1000 bytes") != NULL, "%s", err.text);
            sae_labels_free(l);
        }
}
END_TEST

START_TEST(a_zero_byte_is_no_text)
{
    struct sae_labels *l = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(open_text(&l, "labels", "a\0b", 3, &err), SAE_E_FORMAT);
    err = (struct sae_err){0};
    ck_assert_int_eq(open_text(&l, "a.json", "[\"a\\u0000\"]", 11, &err), SAE_E_FORMAT);
}
END_TEST

/* Control characters are the widest: six bytes each. */
START_TEST(a_line_is_escaped_whole)
{
    struct sae_labels *l = NULL;
    struct sae_err err = {0};
    char line[1000];
    size_t n = 0;

    memset(line, 1, sizeof line);
    ck_assert_msg(open_text(&l, "labels", line, sizeof line, &err) == SAE_OK, "%s", err.text);
    ck_assert_ptr_nonnull(sae_labels_json(l, 0, &n));
    ck_assert_uint_eq(n, 6002);
    sae_labels_free(l);
}
END_TEST

START_TEST(files_that_cannot_be_read_are_named)
{
    struct sae_labels *l = NULL;
    struct sae_err err = {0};
    uint64_t bytes = 0;
    char path[100], command[200];

    snprintf(path, sizeof path, "%s/none.json", dir);
    ck_assert_int_eq(sae_labels_open(&l, path, F, &err), SAE_E_IO);
    ck_assert_msg(strstr(err.text, "none.json") != NULL, "%s", err.text);
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_labels_guess(dir, F, &bytes, &err), SAE_E_IO);
    snprintf(path, sizeof path, "%s/large", dir);
    snprintf(command, sizeof command, "truncate -s 67108865 %s", path);
    ck_assert_int_eq(system(command), 0);
    err = (struct sae_err){0};
    ck_assert_int_eq(sae_labels_guess(path, F, &bytes, &err), SAE_E_FORMAT);
    ck_assert_msg(strstr(err.text, "67108865 bytes, at most 67108864 are read") != NULL, "%s",
                  err.text);
}
END_TEST

/* Whichever allocation fails, nothing is left and it is said so. */
START_TEST(memory_may_run_out)
{
    static const char *const texts[] = {"{\"1\":\"a\",\"2\":\"b\"}", "a\nb\n"};

    for (int form = 0; form < 2; form++)
        for (long n = 0;; n++) {
            struct sae_labels *l = NULL;
            struct sae_err err = {0};
            char path[100];
            enum sae_status st;

            put_file(dir, "labels", texts[form]);
            snprintf(path, sizeof path, "%s/labels", dir);
            sae_alloc_fault(n, false);
            st = sae_labels_open(&l, path, F, &err);
            sae_alloc_fault(-1, false);
            sae_labels_free(l);
            if (st == SAE_OK && n > 3)
                break;
            ck_assert(st == SAE_OK || st == SAE_E_NOMEM);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("labels");
    TCase *t = tcase_create("labels");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_form_is_read, 0, SAE_COUNTOF(good));
    tcase_add_loop_test(t, what_is_wrong_is_named, 0, SAE_COUNTOF(bad));
    tcase_add_test(t, a_label_has_at_most_1000_bytes);
    tcase_add_test(t, a_zero_byte_is_no_text);
    tcase_add_test(t, a_line_is_escaped_whole);
    tcase_add_test(t, files_that_cannot_be_read_are_named);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
