/* test_registry.c - the list of dictionaries: names, order, and who holds what. */
#include "server/registry.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static struct saed_registry *r;

static void setup(void)
{
    ck_assert_int_eq(saed_registry_create(&r, NULL), SAE_OK);
}

static void teardown(void)
{
    struct saed_dict *d;

    while ((d = saed_registry_next(r, NULL))) {
        saed_dict_release(saed_registry_remove(r, d->name));
        saed_dict_release(d);
    }
    saed_registry_free(r);
}

static enum sae_status add(const char *name, struct sae_err *err)
{
    struct saed_dict *d = NULL;
    enum sae_status st;

    ck_assert_int_eq(saed_dict_create(&d, name, "none", NULL), SAE_OK);
    d->state = SAED_DICT_READY;
    st = saed_registry_add(r, d, err);
    saed_dict_release(d);
    return st;
}

START_TEST(a_name_is_listed_once)
{
    struct saed_dict *d;
    struct sae_err err = {0};

    ck_assert_int_eq(add("a", NULL), SAE_OK);
    ck_assert_int_eq(add("a", &err), SAE_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "a"));
    ck_assert_uint_eq(saed_registry_count(r), 1);
    d = saed_registry_find(r, "a");
    ck_assert_uint_eq(d->refs, 2);
    saed_dict_release(d);
    ck_assert_ptr_null(saed_registry_find(r, "b"));
    ck_assert_ptr_null(saed_registry_remove(r, "b"));
}
END_TEST

START_TEST(what_was_found_outlives_the_list)
{
    struct saed_dict *found, *removed;

    ck_assert_int_eq(add("a", NULL), SAE_OK);
    found = saed_registry_find(r, "a");
    removed = saed_registry_remove(r, "a");
    ck_assert_ptr_eq(found, removed);
    saed_dict_release(removed);
    ck_assert_str_eq(found->name, "a");
    ck_assert_ptr_null(saed_registry_find(r, "a"));
    ck_assert_int_eq(add("a", NULL), SAE_OK);
    ck_assert_uint_eq(found->refs, 1);
    saed_dict_release(found);
}
END_TEST

/* Who goes through the list meets each that stays, though the one it is at be taken off. */
START_TEST(a_walk_survives_what_comes_and_goes)
{
    struct saed_dict *d = NULL;
    char seen[16] = "";

    for (const char *name = "abcd"; *name; name++)
        ck_assert_int_eq(add((char[]){*name, '\0'}, NULL), SAE_OK);
    while ((d = saed_registry_next(r, d))) {
        strcat(seen, d->name);
        if (d->name[0] == 'b') {
            saed_dict_release(saed_registry_remove(r, "b"));
            saed_dict_release(saed_registry_remove(r, "c"));
            ck_assert_int_eq(add("e", NULL), SAE_OK);
        }
    }
    ck_assert_str_eq(seen, "abde");
    ck_assert_uint_eq(saed_registry_count(r), 3);
}
END_TEST

/* Its place in the list is its predecessor's. */
START_TEST(one_takes_the_place_of_another)
{
    struct saed_dict *d = NULL, *was, *at = NULL;
    char seen[8] = "";

    for (const char *name = "cab"; *name; name++)
        ck_assert_int_eq(add((char[]){*name, '\0'}, NULL), SAE_OK);
    was = saed_registry_find(r, "a");
    ck_assert_int_eq(saed_dict_create(&d, "a", "other", NULL), SAE_OK);
    ck_assert_ptr_eq(saed_registry_replace(r, d), was);
    saed_dict_release(was);
    saed_dict_release(was);
    saed_dict_release(d);
    ck_assert_int_eq(saed_dict_create(&d, "z", "none", NULL), SAE_OK);
    ck_assert_ptr_null(saed_registry_replace(r, d));
    ck_assert_uint_eq(d->refs, 1);
    saed_dict_release(d);
    while ((at = saed_registry_next(r, at)))
        strcat(seen, at->name);
    ck_assert_str_eq(seen, "cab");
    d = saed_registry_find(r, "a");
    ck_assert_str_eq(d->source, "other");
    saed_dict_release(d);
}
END_TEST

START_TEST(many_are_found_and_go)
{
    char name[16];

    for (unsigned i = 0; i < 1000; i++) { /* in no order */
        snprintf(name, sizeof name, "n%u", i * 7919 % 1000);
        ck_assert_int_eq(add(name, NULL), SAE_OK);
    }
    for (unsigned i = 0; i < 1000; i += 2) {
        snprintf(name, sizeof name, "n%u", i);
        saed_dict_release(saed_registry_remove(r, name));
    }
    for (unsigned i = 0; i < 1000; i++) {
        struct saed_dict *d;

        snprintf(name, sizeof name, "n%u", i);
        d = saed_registry_find(r, name);
        ck_assert_msg((d != NULL) == (i % 2 == 1), "%s", name);
        saed_dict_release(d);
    }
    ck_assert_uint_eq(saed_registry_count(r), 500);
}
END_TEST

START_TEST(creation_fails_whole)
{
    enum sae_status st = SAE_E_NOMEM;
    struct saed_registry *other = NULL;
    struct saed_dict *d = NULL;

    for (long fault = 0; st != SAE_OK; fault++) {
        sae_alloc_fault(fault, false);
        st = saed_dict_create(&d, "a", "none", NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || !d);
    }
    saed_dict_release(d);
    sae_alloc_fault(0, false);
    ck_assert_int_eq(saed_registry_create(&other, NULL), SAE_E_NOMEM);
    sae_alloc_fault(-1, false);
    ck_assert_ptr_null(other);
    saed_registry_free(NULL);
    saed_dict_release(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("registry");
    TCase *t = tcase_create("registry");
    SRunner *run = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_name_is_listed_once);
    tcase_add_test(t, what_was_found_outlives_the_list);
    tcase_add_test(t, a_walk_survives_what_comes_and_goes);
    tcase_add_test(t, one_takes_the_place_of_another);
    tcase_add_test(t, many_are_found_and_go);
    tcase_add_test(t, creation_fails_whole);
    suite_add_tcase(s, t);
    srunner_run_all(run, CK_NORMAL);
    failed = srunner_ntests_failed(run);
    srunner_free(run);
    return failed ? 1 : 0;
}
