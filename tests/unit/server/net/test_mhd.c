/* test_mhd.c - which way heads are read: the decision, with libraries that are not here, and with
 * the one that is. */
#include "server/net/mhd.h"

#include <check.h>
#include <string.h>

/* ---- the decision -------------------------------------------------------------------------- */

/* What a library does, heads being read in one way and in the other. */
enum does { WELL, TAKES_ALL, TAKES_NONE, TAKES_ONE_BAD, REFUSES_ONE_GOOD };

struct library {
    enum does does[2];
    int n_asked;
};

/* Good ones begin with a request line that is whole and end in an empty line, have no byte that is
 * none of a head's, and nothing is folded. */
static bool is_good(const char *text, size_t n)
{
    const char *end = text + n;

    if (n < 4 || memcmp(end - 4, "\r\n\r\n", 4) != 0 || memchr(text, '\0', n))
        return false;
    if (!strstr(text, "GET /a?b=c HTTP/1.1\r\n") || strstr(text, "\r\n ") || strstr(text, " :"))
        return false;
    for (const char *p = text; p < end; p++)
        if ((*p == '\n' && (p == text || p[-1] != '\r')) || (*p == '\r' && p[1] != '\n'))
            return false;
    return !strstr(text, "A b\r\n");
}

static bool takes(void *arg, enum saed_heads way, const char *text, size_t n)
{
    struct library *l = arg;

    l->n_asked++;
    switch (l->does[way]) {
    case TAKES_ALL:
        return true;
    case TAKES_NONE:
        return false;
    case TAKES_ONE_BAD:
        return is_good(text, n) || strstr(text, " c: d");
    case REFUSES_ONE_GOOD:
        return is_good(text, n) && !strstr(text, "many") && !strstr(text, "\t b");
    default:
        return is_good(text, n);
    }
}

static const struct {
    const char *version;
    enum does by_layout, by_library;
    int way; /* -1: refused */
    const char *says;
} cases[] = {
    {"0.9.75", WELL, TAKES_ALL, SAED_HEADS_BY_LAYOUT, NULL},
    {"0.9.75", WELL, WELL, SAED_HEADS_BY_LAYOUT, NULL},
    {"0.9.77", WELL, TAKES_ALL, SAED_HEADS_BY_LAYOUT, NULL},
    {"0.9.77", TAKES_NONE, WELL, SAED_HEADS_BY_LIBRARY, NULL},
    {"0.9.75-git", WELL, TAKES_ALL, SAED_HEADS_BY_LAYOUT, NULL},
    {"1.0.0", TAKES_NONE, WELL, SAED_HEADS_BY_LIBRARY, NULL},
    {"1.0.1", TAKES_NONE, WELL, SAED_HEADS_BY_LIBRARY, NULL},
    {"1.0.1", WELL, WELL, SAED_HEADS_BY_LIBRARY, NULL},
    {"1.0.1", WELL, TAKES_ONE_BAD, SAED_HEADS_BY_LAYOUT, NULL},
    {"0.9.75", TAKES_ALL, TAKES_ALL, -1, "a NUL in a value is not told"},
    {"0.9.75", TAKES_NONE, TAKES_NONE, -1, "a plain head is not told"},
    {"0.9.75", TAKES_ONE_BAD, REFUSES_ONE_GOOD, -1, "a folded line"},
    {"1.0.1", REFUSES_ONE_GOOD, REFUSES_ONE_GOOD, -1, "blanks around a value"},
    {"0.9.74", WELL, WELL, -1, "known are"},
    {"0.9.78", WELL, WELL, -1, "known are"},
    {"1.1.0", WELL, WELL, -1, "known are"},
    {"2.0.75", WELL, WELL, -1, "known are"},
    {"", WELL, WELL, -1, "known are"},
};

START_TEST(a_way_is_chosen_or_none)
{
    struct library l = {.does = {cases[_i].by_layout, cases[_i].by_library}};
    enum saed_heads way = 9;
    struct sae_err err = {0};
    enum sae_status st = saed_mhd_decide(&way, cases[_i].version, takes, &l, &err);

    if (cases[_i].way >= 0) {
        ck_assert_msg(st == SAE_OK, "%d: %s", _i, err.text);
        ck_assert_int_eq(way, cases[_i].way);
        return;
    }
    ck_assert_int_eq(st, SAE_E_IO);
    ck_assert_int_eq(way, 9);
    ck_assert_ptr_nonnull(strstr(err.text, cases[_i].version));
    ck_assert_msg(strstr(err.text, cases[_i].says) != NULL, "%s", err.text);
    if (strcmp(cases[_i].says, "known are") == 0)
        ck_assert_int_eq(l.n_asked, 0);
}
END_TEST

START_TEST(the_library_that_is_here_will_do)
{
    enum saed_heads way = 9;
    struct sae_err err = {0};

    ck_assert_msg(saed_mhd_choose(&way, &err) == SAE_OK, "%s", err.text);
    ck_assert(way == SAED_HEADS_BY_LAYOUT || way == SAED_HEADS_BY_LIBRARY);
}
END_TEST

/* ---- heads that lie elsewhere -------------------------------------------------------------- */

/* Without a layout the values count and not where they lie; the rules about them are the same. */
static const struct {
    const char *name, *value;
    bool good;
} fields[] = {
    {"Content-Length", "5", true},
    {"Content-Length", "5x", false},
    {"Content-Length", "", false},
    {"Transfer-Encoding", "chunked", true},
    {"Transfer-Encoding", "x", false},
    {"Accept", "a b", true},
    {"A b", "c", false},
    {"A", "b\x01", false},
    {"Saed-Request-Id", "a b", false},
    {"Host", "b", false}, /* the second */
};

START_TEST(values_are_looked_at_all_the_same)
{
    const char *name = fields[_i].name, *value = fields[_i].value;
    struct saed_head h;

    saed_head_begin(&h, NULL, "POST", "/a", "HTTP/1.1");
    saed_head_field(&h, "Host", 4, "a", 1);
    saed_head_field(&h, name, strlen(name), value, strlen(value));
    ck_assert_int_eq(saed_head_end(&h, NULL, NULL) == SAE_OK, fields[_i].good);
}
END_TEST

static const struct {
    const char *version, *connection, *more; /* two Connection fields */
    bool keeps_alive;
} lives[] = {
    {"HTTP/1.1", "", "", true},
    {"HTTP/1.1", "close", "", false},
    {"HTTP/1.1", "x", "a,\tClose", false},
    {"HTTP/1.1", "closed, enclose", "", true},
    {"HTTP/1.0", "", "", false},
    {"HTTP/1.0", "a , KEEP-ALIVE", "", true},
    {"HTTP/1.0", "keep-alive", "close", false},
    {"HTTP/1.0", "keep-alives", "", false},
};

START_TEST(a_connection_goes_on_or_not)
{
    struct saed_head h;

    saed_head_begin(&h, NULL, "GET", "/a", lives[_i].version);
    saed_head_field(&h, "Host", 4, "a", 1);
    saed_head_field(&h, "connection", 10, lives[_i].connection, strlen(lives[_i].connection));
    saed_head_field(&h, "Connection", 10, lives[_i].more, strlen(lives[_i].more));
    ck_assert_int_eq(saed_head_end(&h, NULL, NULL), SAE_OK);
    ck_assert_int_eq(h.keeps_alive, lives[_i].keeps_alive);
}
END_TEST

static const struct {
    const char *method, *target;
    const char *path, *query; /* path NULL: refused */
} targets[] = {
    {"GET", "/", "/", NULL},
    {"GET", "/a?", "/a", ""},
    {"GET", "/a?b?c=/", "/a", "b?c=/"},
    {"GET", "/http://a/b", "/http://a/b", NULL},
    {"GET", "http://a/b?c", "/b", "c"},
    {"GET", "hTTp://a.b:80/c", "/c", NULL},
    {"GET", "http://[::1]:80/c", "/c", NULL},
    {"GET", "http://a", "/", NULL},
    {"GET", "http://a?b", "/", "b"},
    {"OPTIONS", "http://a", "*", NULL},
    {"OPTIONS", "http://a?b", "/", "b"},
    {"OPTIONS", "http://a/", "/", NULL},
    {"OPTIONS", "*", "*", NULL},
    {"GET", "*", NULL, NULL},
    {"OPTIONS", "*?a", NULL, NULL},
    {"OPTIONS", "**", NULL, NULL},
    {"GET", "", NULL, NULL},
    {"GET", "?a", NULL, NULL},
    {"GET", "a", NULL, NULL},
    {"GET", "http:/a/b", NULL, NULL},
    {"GET", "http://", NULL, NULL},
    {"GET", "http:///a", NULL, NULL},
    {"GET", "http://:80/a", NULL, NULL},
    {"GET", "http://a@b/c", NULL, NULL},
    {"GET", "http://a,b/c", NULL, NULL},
    {"GET", "http://a#b", NULL, NULL},
    {"GET", "https://a/b", NULL, NULL},
    {"GET", "ftp://a/b", NULL, NULL},
};

START_TEST(targets_and_their_paths)
{
    struct saed_head h;
    bool good = targets[_i].path != NULL;

    saed_head_begin(&h, NULL, targets[_i].method, targets[_i].target, "HTTP/1.1");
    saed_head_field(&h, "Host", 4, "a", 1);
    ck_assert_msg((saed_head_end(&h, NULL, NULL) == SAE_OK) == good, "%s", targets[_i].target);
    if (!good)
        return;
    ck_assert_msg(h.path.n == strlen(targets[_i].path) &&
                      memcmp(h.path.p, targets[_i].path, h.path.n) == 0,
                  "%s: %.*s", targets[_i].target, (int)h.path.n, h.path.p);
    if (targets[_i].query)
        ck_assert_str_eq(h.query, targets[_i].query);
    else
        ck_assert_ptr_null(h.query);
}
END_TEST

START_TEST(the_authority_of_a_target_stands_for_host)
{
    struct saed_head h;

    saed_head_begin(&h, NULL, "GET", "http://a/b", "HTTP/1.1");
    ck_assert_int_eq(saed_head_end(&h, NULL, NULL), SAE_OK);
    saed_head_begin(&h, NULL, "GET", "/b", "HTTP/1.1");
    ck_assert_int_eq(saed_head_end(&h, NULL, NULL), SAE_E_BAD_REQUEST);
}
END_TEST

/* ---- its log --------------------------------------------------------------------------------- */

static int own_answer(const char *message, ...)
{
    va_list args;
    int status;

    va_start(args, message);
    status = saed_mhd_own_answer(message, args);
    va_end(args);
    return status;
}

START_TEST(an_answer_of_its_own_is_told_by_its_message)
{
    ck_assert_int_eq(own_answer("Error processing request (HTTP response code is %u ('%s')). "
                                "Closing connection.\n",
                                431u, "too large"),
                     431);
    ck_assert_int_eq(own_answer("Error processing request: %u\n", 431u), 0);
    ck_assert_int_eq(own_answer(""), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mhd");
    TCase *t = tcase_create("mhd");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_loop_test(t, a_way_is_chosen_or_none, 0, SAE_COUNTOF(cases));
    tcase_add_test(t, the_library_that_is_here_will_do);
    tcase_add_loop_test(t, values_are_looked_at_all_the_same, 0, SAE_COUNTOF(fields));
    tcase_add_loop_test(t, targets_and_their_paths, 0, SAE_COUNTOF(targets));
    tcase_add_test(t, the_authority_of_a_target_stands_for_host);
    tcase_add_loop_test(t, a_connection_goes_on_or_not, 0, SAE_COUNTOF(lives));
    tcase_add_test(t, an_answer_of_its_own_is_told_by_its_message);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
