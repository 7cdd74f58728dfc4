/* test_pickle.c - the pickle machine: values, limits, and no crash on any bytes. */
#include "lib/format/pickle.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* A pickle as a string literal, NULs included. */
#define LIT(s) s, sizeof(s) - 1

static struct sae_pickle *loaded(const struct sae_pk_value **root, const void *bytes, size_t n)
{
    struct sae_pickle *p = NULL;
    struct sae_err err = {0};

    ck_assert_msg(sae_pickle_load(&p, root, bytes, n, &err) == SAE_OK, "%s", err.text);
    return p;
}

static void refused(const void *bytes, size_t n, const char *fragment)
{
    struct sae_pickle *p = NULL;
    const struct sae_pk_value *root = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(sae_pickle_load(&p, &root, bytes, n, &err), SAE_E_FORMAT);
    ck_assert_ptr_null(p);
    ck_assert_ptr_null(root);
    ck_assert_msg(strstr(err.text, fragment) != NULL, "\"%s\" is not in: %s", fragment, err.text);
    ck_assert_int_eq(strncmp(err.where, "data.pkl:", 9), 0);
}

START_TEST(numbers)
{
    static const struct {
        const char *bytes;
        size_t n;
        int64_t want;
    } rows[] = {
        {LIT("\x80\2K\xff."), 255},
        {LIT("\x80\2M\xff\xff."), 65535},
        {LIT("\x80\2J\xff\xff\xff\xff."), -1},
        {LIT("\x80\2J\xff\xff\xff\x7f."), INT32_MAX},
        {LIT("\x80\2\x8a\0."), 0},
        {LIT("\x80\2\x8a\1\x80."), -128},
        {LIT("\x80\2\x8a\5\0\0\0\0\1."), (int64_t)1 << 32},
        {LIT("\x80\2\x8a\x8\0\0\0\0\0\0\0\x80."), INT64_MIN},
    };
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, rows[_i].bytes, rows[_i].n);

    ck_assert_int_eq(v->type, SAE_PK_INT);
    ck_assert_int_eq(v->u.i, rows[_i].want);
    sae_pickle_free(p);
}
END_TEST

START_TEST(other_plain_values)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\2(NG?\xf8\0\0\0\0\0\0\x88U\3abcX\0\0\0\0"
                                          "\x8a\x9\0\0\0\0\0\0\0\0\1t."));

    ck_assert_int_eq(v->type, SAE_PK_TUPLE);
    ck_assert_uint_eq(v->n, 6);
    ck_assert_int_eq(v->u.items[0]->type, SAE_PK_NONE);
    ck_assert(v->u.items[1]->type == SAE_PK_FLOAT && v->u.items[1]->u.f == 1.5);
    ck_assert(v->u.items[2]->type == SAE_PK_BOOL && v->u.items[2]->u.b);
    ck_assert(sae_pk_is_str(v->u.items[3], "abc") && !sae_pk_is_str(v->u.items[3], "ab"));
    ck_assert(sae_pk_is_str(v->u.items[4], ""));
    ck_assert_int_eq(v->u.items[5]->type, SAE_PK_LONG);
    sae_pickle_free(p);
}
END_TEST

/* The opcodes that protocols 3 to 5 add, as Python 3.11 writes them. */
START_TEST(newer_protocols)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p =
        loaded(&v, LIT("\x80\5\x95\x58\0\0\0\0\0\0\0(\x8c\3abc\x94\x8d\1\0\0\0\0\0\0\0d\x94"
                       "C\2\xff\0\x94"
                       "B\1\0\0\0x\x8e\1\0\0\0\0\0\0\0y\x96\2\0\0\0\0\0\0\0zz"
                       "\x8f\x94(K\1K\2\x90(K\3\x91\x8b\2\0\0\0\xff\xff"
                       "\x8c\1m\x8c\1f\x93)\x81h\0h\1\x93)}\x92t."));

    ck_assert_uint_eq(v->n, 11);
    ck_assert(sae_pk_is_str(v->u.items[0], "abc") && sae_pk_is_str(v->u.items[1], "d"));
    for (size_t i = 2; i < 6; i++) {
        ck_assert_int_eq(v->u.items[i]->type, SAE_PK_BYTES);
        ck_assert(v->u.items[i]->unhashable == (i == 5));
    }
    ck_assert_uint_eq(v->u.items[2]->n, 2);
    ck_assert_int_eq(v->u.items[6]->type, SAE_PK_SET);
    ck_assert(v->u.items[6]->n == 2 && v->u.items[6]->unhashable);
    ck_assert(v->u.items[7]->type == SAE_PK_SET && v->u.items[7]->n == 1);
    ck_assert(!v->u.items[7]->unhashable);
    ck_assert_int_eq(v->u.items[8]->u.i, -1);
    ck_assert_int_eq(v->u.items[9]->type, SAE_PK_OBJECT);
    ck_assert(sae_pk_is_global(v->u.items[9]->u.call.fn, "m", "f"));
    ck_assert_int_eq(v->u.items[10]->type, SAE_PK_OBJECT);
    ck_assert(sae_pk_is_global(v->u.items[10]->u.call.fn, "abc", "d"));
    sae_pickle_free(p);
}
END_TEST

/* MEMOIZE counts the indices in use, as Python does, not its own calls. */
START_TEST(memoize_counts_what_is_there)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\4(K\7q\0K\x8q\0K\x9\x94h\1h\0t."));

    ck_assert_int_eq(v->u.items[3]->u.i, 9);
    ck_assert_int_eq(v->u.items[4]->u.i, 8);
    sae_pickle_free(p);
}
END_TEST

START_TEST(pop_drops_values_and_marks)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\2(K\1K\2"
                                          "0((00(NN1t."));

    ck_assert_uint_eq(v->n, 1);
    ck_assert_int_eq(v->u.items[0]->u.i, 1);
    sae_pickle_free(p);
}
END_TEST

START_TEST(containers_and_memo)
{
    const struct sae_pk_value *v;
    /* {1: [2, 3, 4], 5: that list} in two batches */
    struct sae_pickle *p = loaded(&v, LIT("\x80\2}q\0(K\1]q\1(K\2K\3eK\4auK\5h\1s."));

    ck_assert_int_eq(v->type, SAE_PK_DICT);
    ck_assert_uint_eq(v->n, 4);
    ck_assert_ptr_eq(v->u.items[1], v->u.items[3]);
    ck_assert_uint_eq(v->u.items[1]->n, 3);
    ck_assert_int_eq(v->u.items[1]->u.items[2]->u.i, 4);
    sae_pickle_free(p);
}
END_TEST

START_TEST(values_may_contain_themselves)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\2}q\0K\1h\0s."));

    ck_assert_ptr_eq(v->u.items[1], v);
    sae_pickle_free(p);
}
END_TEST

START_TEST(names_are_kept_and_calls_are_not_made)
{
    const struct sae_pk_value *v;
    char text[64];
    struct sae_pickle *p = loaded(&v, LIT("\x80\2(cm.n\nf\nK\1\x85Rc__main__\nC\n)\x81}b"
                                          "ccollections\nOrderedDict\n)R}bX\1\0\0\0kQt."));

    ck_assert_int_eq(v->u.items[0]->type, SAE_PK_CALL);
    ck_assert(sae_pk_is_global(v->u.items[0]->u.call.fn, "m.n", "f"));
    ck_assert_uint_eq(v->u.items[0]->u.call.fn->offset, 3);
    ck_assert_str_eq(sae_pk_describe(v->u.items[0], text, sizeof text), "a call of m.n.f");
    ck_assert_int_eq(v->u.items[1]->type, SAE_PK_OBJECT);
    ck_assert_int_eq(v->u.items[2]->type, SAE_PK_DICT);
    ck_assert_int_eq(v->u.items[3]->type, SAE_PK_PERSID);
    ck_assert(sae_pk_is_str(v->u.items[3]->u.id, "k"));
    sae_pickle_free(p);
}
END_TEST

START_TEST(unknown_objects_take_anything)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\2cm\nf\n)R(K\1K\2eK\3aK\4K\5s(NNu."));

    ck_assert_int_eq(v->type, SAE_PK_CALL);
    sae_pickle_free(p);
}
END_TEST

START_TEST(what_changes_the_result_of_a_call_is_noted)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *touched;
        uint32_t at;
    } rows[] = {
        {LIT("\x80\2cm\nf\n)R."), NULL, 0},
        {LIT("\x80\2cm\nf\n)RNNs."), "SETITEM", 11},
        {LIT("\x80\2cm\nf\n)R(NNu."), "SETITEMS", 12},
        {LIT("\x80\2cm\nf\n)RNa."), "APPEND", 10},
        {LIT("\x80\2cm\nf\n)R(Ne."), "APPENDS", 11},
        {LIT("\x80\2cm\nf\n)R}b."), "BUILD", 10},
        {LIT("\x80\2cm\nf\n)\x81}b."), "BUILD", 10},
    };
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, rows[_i].bytes, rows[_i].n);

    ck_assert_uint_eq(sae_pickle_touched(p).n, rows[_i].touched != NULL);
    if (rows[_i].touched) {
        ck_assert_str_eq(v->u.call.touched, rows[_i].touched);
        ck_assert_uint_eq(v->n, rows[_i].at);
        ck_assert_ptr_eq(sae_pickle_touched(p).v[0], v);
    } else {
        ck_assert_ptr_null(v->u.call.touched);
    }
    sae_pickle_free(p);
}
END_TEST

/* Through the memo, after the value has been put away. The first change is the one named. */
START_TEST(a_change_by_another_name_is_noted)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\2(cm\nf\n)Rq\1h\1NNsNat."));

    ck_assert_ptr_eq(v->u.items[0], v->u.items[1]);
    ck_assert_str_eq(v->u.items[0]->u.call.touched, "SETITEM");
    ck_assert_uint_eq(sae_pickle_touched(p).n, 1);
    sae_pickle_free(p);
}
END_TEST

START_TEST(persistent_ids_are_listed_also_those_that_were_dropped)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\2}(X\1\0\0\0aK\1QX\1\0\0\0aK\2Qu."));
    struct sae_pk_list ids = sae_pickle_persids(p);

    ck_assert_uint_eq(ids.n, 2);
    ck_assert_int_eq(ids.v[0]->u.id->u.i, 1);
    ck_assert_ptr_eq(ids.v[1], v->u.items[3]);
    sae_pickle_free(p);
}
END_TEST

/* `head`, then `body` n times, then `tail`. */
static unsigned char *repeated(const char *head, const char *body, size_t n, const char *tail,
                               size_t *len)
{
    size_t h = strlen(head), b = strlen(body), t = strlen(tail);
    unsigned char *p = malloc(h + n * b + t);

    memcpy(p, head, h);
    for (size_t i = 0; i < n; i++)
        memcpy(p + h + i * b, body, b);
    memcpy(p + h + n * b, tail, t);
    *len = h + n * b + t;
    return p;
}

START_TEST(a_million_levels_cost_no_stack)
{
    const struct sae_pk_value *v;
    size_t n, depth = 0;
    unsigned char *bytes = repeated("\x80\2)", "\x85", 1000000, ".", &n);
    struct sae_pickle *p = loaded(&v, bytes, n);

    for (; v->n == 1; v = v->u.items[0])
        depth++;
    ck_assert_uint_eq(depth, 1000000);
    sae_pickle_free(p);
    free(bytes);
}
END_TEST

START_TEST(what_grows_has_a_limit)
{
    static const struct {
        const char *head, *body;
        size_t n;
        const char *fragment;
    } rows[] = {
        {"\x80\2", "(", 1000000, "more than 10000 MARKs"},
        {"\x80\2", "N", 1100000, "more than 1048576 values on the stack"},
        {"\x80\2]", "]a", 7000000, "need more than 268435456 bytes"},
        {"\x80\2", "N", 17000000, "at most 16777216"},
    };
    size_t n;
    unsigned char *bytes = repeated(rows[_i].head, rows[_i].body, rows[_i].n, ".", &n);

    refused(bytes, n, rows[_i].fragment);
    free(bytes);
}
END_TEST

START_TEST(memo_limit)
{
    const struct sae_pk_value *v;
    struct sae_pickle *p = loaded(&v, LIT("\x80\2}r\xff\xff\x0f\0."));

    sae_pickle_free(p);
    refused(LIT("\x80\2}r\0\0\x10\0."), "memo index 1048576, at most 1048575");
    refused(LIT("\x80\2}r\xff\xff\x0f\0j\xfe\xff\x0f\0."), "memo index 1048574 holds nothing");
}
END_TEST

static const char whole[] =
    "\x80\2ccollections\nOrderedDict\nq\0)Rq\1(X\1\0\0\0wq\2ctorch._utils\n_rebuild_tensor_v2\nq\3"
    "((X\7\0\0\0storageq\4ctorch\nFloatStorage\nq\5X\1\0\0\0"
    "0q\6X\3\0\0\0cpuq\7K\6tq\x8Q"
    "K\0K\2K\3\x86q\x9K\3K\1\x86q\nG?\xf8\0\0\0\0\0\0\x89h\0)Rq\x0btq\x0cRq\rX\1\0\0\0bM\1\2u"
    "}q\x0eX\x9\0\0\0_metadataq\x0fh\0)Rq\x10sb.";

START_TEST(every_prefix_is_an_error)
{
    const struct sae_pk_value *v;

    sae_pickle_free(loaded(&v, whole, sizeof whole - 1));
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        /* On the heap and no longer than it is, so that a read past the end is seen. */
        unsigned char *p = malloc(n ? n : 1);

        memcpy(p, whole, n);
        refused(p, n, "opcode");
        free(p);
    }
}
END_TEST

START_TEST(every_changed_byte_ends_in_order)
{
    size_t n = sizeof whole - 1;
    unsigned char *p = malloc(n);

    for (size_t i = 0; i < n; i++)
        for (unsigned c = 0; c < 256; c++) {
            const struct sae_pk_value *root;
            struct sae_pickle *out = NULL;
            struct sae_err err = {0};
            enum sae_status st;

            memcpy(p, whole, n);
            p[i] = (unsigned char)c;
            st = sae_pickle_load(&out, &root, p, n, &err);
            ck_assert(st == SAE_OK || st == SAE_E_FORMAT);
            ck_assert((st == SAE_OK) == (out != NULL) && (st == err.status));
            sae_pickle_free(out);
        }
    free(p);
}
END_TEST

/* Bytes drawn from the opcodes, so that many of them run. */
START_TEST(random_opcodes_end_in_order)
{
    static const char ops[] =
        "NJKMGXUBC()]}tauesqhrjcRbQ01.\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c"
        "\x8f\x90\x91\x92\x93\x94\n\0\1\2ab";
    unsigned char p[96];

    srand(11);
    for (int round = 0; round < 60000; round++) {
        size_t n = 2 + (size_t)rand() % (sizeof p - 2);
        const struct sae_pk_value *root;
        struct sae_pickle *out = NULL;

        p[0] = 0x80;
        p[1] = 2;
        for (size_t i = 2; i < n; i++)
            p[i] = (unsigned char)ops[(size_t)rand() % (sizeof ops - 1)];
        if (sae_pickle_load(&out, &root, p, n, NULL) == SAE_OK)
            sae_pickle_free(out);
    }
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    const struct sae_pk_value *root;

    for (int persistent = 0; persistent < 2; persistent++)
        for (long k = 0;; k++) {
            struct sae_pickle *p = NULL;
            struct sae_err err = {0};
            enum sae_status st;

            sae_alloc_fault(k, persistent);
            st = sae_pickle_load(&p, &root, whole, sizeof whole - 1, &err);
            sae_alloc_fault(-1, false);
            sae_pickle_free(p);
            if (st == SAE_OK) {
                ck_assert_int_gt(k, 3);
                break;
            }
            ck_assert_int_eq(st, SAE_E_NOMEM);
            ck_assert_ptr_null(p);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pickle");
    TCase *t = tcase_create("pickle");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, numbers, 0, 8);
    tcase_add_test(t, other_plain_values);
    tcase_add_test(t, newer_protocols);
    tcase_add_test(t, memoize_counts_what_is_there);
    tcase_add_test(t, pop_drops_values_and_marks);
    tcase_add_test(t, containers_and_memo);
    tcase_add_test(t, values_may_contain_themselves);
    tcase_add_test(t, names_are_kept_and_calls_are_not_made);
    tcase_add_test(t, unknown_objects_take_anything);
    tcase_add_loop_test(t, what_changes_the_result_of_a_call_is_noted, 0, 7);
    tcase_add_test(t, a_change_by_another_name_is_noted);
    tcase_add_test(t, persistent_ids_are_listed_also_those_that_were_dropped);
    tcase_add_test(t, a_million_levels_cost_no_stack);
    tcase_add_loop_test(t, what_grows_has_a_limit, 0, 4);
    tcase_add_test(t, memo_limit);
    tcase_add_test(t, every_prefix_is_an_error);
    tcase_add_test(t, every_changed_byte_ends_in_order);
    tcase_add_test(t, random_opcodes_end_in_order);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
