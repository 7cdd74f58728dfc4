/* test_base.c - status text, allocation, the capped buffer, exp. */
#include "lib/base.h"
#include "lib/num.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

START_TEST(first_error_wins)
{
    struct sae_err err = {0};

    ck_assert_int_eq(sae_err_set(&err, SAE_E_IO, "a", "cannot open %s", "x\ny"), SAE_E_IO);
    sae_err_set(&err, SAE_E_NOMEM, "b", "later");
    ck_assert_int_eq(err.status, SAE_E_IO);
    ck_assert_str_eq(err.where, "a");
    ck_assert_str_eq(err.text, "cannot open x?y");
}
END_TEST

START_TEST(texts_of_strangers_are_tamed)
{
    static const char *const texts[][2] = {
        {"", ""},
        {"plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
         "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"a\nb\rc\td\x1b[31m\x7f", "a?b?c?d?[31m?"},
        {"\xc2\x85\xc2\x9b\xc2\xa0", "??\xc2\xa0"},
        {"\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xae\xe2\x80\xaf",
         "\xe2\x80\xa7???\xe2\x80\xaf"},
        {"\xe2\x81\xa5\xe2\x81\xa6\xe2\x81\xa9\xe2\x81\xaa", "\xe2\x81\xa5??\xe2\x81\xaa"},
        {"x\xff.pt \xc3( \xed\xa0\x80", "x?.pt ?( ???"},
        {"cut \xe2\x82", "cut ??"},
    };

    for (size_t i = 0; i < SAE_COUNTOF(texts); i++) {
        struct sae_err err = {0};

        sae_err_set(&err, SAE_E_IO, texts[i][0], "%s", texts[i][0]);
        ck_assert_str_eq(err.text, texts[i][1]);
        ck_assert_str_eq(err.where, texts[i][1]);
    }
}
END_TEST

START_TEST(allocation_checks_products_and_obeys_the_hook)
{
    ck_assert_ptr_null(sae_alloc(SIZE_MAX / 2, 3));
    ck_assert_ptr_null(sae_huge_alloc(SIZE_MAX / 2, 3));
    sae_alloc_fault(1, false);
    void *a = sae_alloc(4, 4);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_null(sae_calloc(4, 4));
    void *b = sae_calloc(4, 4);
    ck_assert_ptr_nonnull(b);
    sae_alloc_fault(0, true);
    ck_assert_ptr_null(sae_calloc(4, 4));
    ck_assert_ptr_null(sae_calloc(4, 4));
    sae_alloc_fault(-1, false);
    sae_free(a);
    sae_free(b);
}
END_TEST

/* Below, at and above the size from which memory is on huge pages, rounded to them or not. */
START_TEST(memory_of_any_size_is_aligned)
{
    static const size_t sizes[] = {0,       1,       63,      4194303,  4194304,
                                   4194305, 6000001, 6291457, 37748737, 40000000};

    for (size_t i = 0; i < SAE_COUNTOF(sizes); i++) {
        char *p = sae_alloc(sizes[i], 1);

        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        memset(p, 1, sizes[i]);
        sae_free(p);
    }
}
END_TEST

START_TEST(huge_memory_is_aligned_and_zeroed)
{
    float *p = sae_huge_alloc(3000000, sizeof *p);

    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < 3000000; i += 4093)
        ck_assert(p[i] == 0.0f);
    ck_assert_int_eq(((volatile char *)(p + 3000000))[SAE_OVERREAD - 1], 0);
    sae_huge_free(p, 3000000, sizeof *p);
}
END_TEST

START_TEST(buffer_stops_at_its_cap)
{
    struct sae_buf b;

    sae_buf_init(&b, 5);
    ck_assert_int_eq(sae_buf_add(&b, "abc", 3), SAE_OK);
    ck_assert_int_eq(sae_buf_addf(&b, "%d", 123), SAE_E_NOMEM);
    ck_assert_int_eq(sae_buf_addf(&b, "%d", 12), SAE_OK);
    ck_assert_str_eq(b.data, "abc12");
    sae_buf_fini(&b);
}
END_TEST

/* The NUL behind a cap of all there is: max + 1 was 0, and the buffer 64 bytes whatever it held. */
START_TEST(a_buffer_without_a_cap_grows)
{
    char text[1000];
    struct sae_buf b;

    memset(text, 'x', sizeof text);
    sae_buf_init(&b, SIZE_MAX);
    ck_assert_int_eq(sae_buf_reserve(&b, sizeof text), SAE_OK);
    ck_assert_uint_gt(b.cap, sizeof text);
    ck_assert_int_eq(sae_buf_add(&b, text, sizeof text), SAE_OK);
    ck_assert_int_eq(sae_buf_add(&b, text, sizeof text), SAE_OK);
    ck_assert_uint_eq(b.len, 2 * sizeof text);
    ck_assert_int_eq(sae_buf_reserve(&b, SIZE_MAX - b.len), SAE_E_NOMEM);
    ck_assert_uint_eq(strlen(b.data), b.len);
    sae_buf_fini(&b);
}
END_TEST

START_TEST(exp_is_correctly_rounded_almost_always)
{
    srand(7);
    for (int i = 0; i < 200000; i++) {
        float x = (float)rand() / (float)RAND_MAX * 200.0f - 110.0f;
        float want = (float)exp((double)x), got = sae_exp_f32(x);

        ck_assert_msg(got == want || fabs((double)got - (double)want) <=
                                         fabs((double)want) * 0x1p-23 + 0x1p-149,
                      "exp(%a) = %a, want %a", (double)x, (double)got, (double)want);
    }
    ck_assert(sae_exp_f32(0.0f) == 1.0f);
    ck_assert(isinf(sae_exp_f32(89.0f)));
    ck_assert(sae_exp_f32(-INFINITY) == 0.0f);
    ck_assert(isnan(sae_exp_f32(NAN)));
}
END_TEST

START_TEST(a_slab_is_cut_as_it_was_measured)
{
    struct sae_slab slab = {0};
    char *a, *b, *c;

    for (int pass = 0; pass < 2; pass++) {
        a = sae_slab_cut(&slab, 3, 5);
        b = sae_slab_cut(&slab, 0, 8);
        c = sae_slab_cut(&slab, 65, 1);
        if (pass == 0) {
            ck_assert(!a && !b && !c);
            ck_assert_uint_eq(slab.used, 64 + 128);
            ck_assert(sae_slab_make(&slab));
        }
    }
    ck_assert_ptr_eq(a, slab.base);
    ck_assert_ptr_eq(b, a + 64);
    ck_assert_ptr_eq(c, a + 64);
    ck_assert_uint_eq((uintptr_t)c % 64, 0);
    sae_free(slab.base);
    slab = (struct sae_slab){0};
    ck_assert_ptr_null(sae_slab_cut(&slab, SIZE_MAX / 2, 4)); /* overflows: never made */
    ck_assert(!sae_slab_make(&slab));
    slab = (struct sae_slab){0};
    (void)sae_slab_cut(&slab, 1, 1);
    sae_alloc_fault(0, false);
    ck_assert(!sae_slab_make(&slab));
    sae_alloc_fault(-1, false);
}
END_TEST

/* All whole pages of it, and no byte beside it. */
START_TEST(what_is_forgotten_holds_no_page)
{
    enum { PAGES = 64 };
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = PAGES * page;
    unsigned char *p = sae_alloc(n, 1), in[PAGES];
    unsigned char *first = p + (page - (uintptr_t)p % page) % page;

    ck_assert_ptr_nonnull(p);
    memset(p, 7, n);
    sae_forget(p + 1, n - 2);
    ck_assert_int_eq(mincore(first + page, n - 3 * page, in), 0);
    for (size_t i = 0; i < PAGES - 3; i++)
        ck_assert_int_eq(in[i] & 1, 0);
    ck_assert(p[0] == 7 && p[n - 1] == 7);
    sae_forget(p, 0);
    sae_forget(p, 1);
    ck_assert(p[0] == 7);
    p[n / 2] = 1; /* it is still ours */
    sae_free(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, a_slab_is_cut_as_it_was_measured);
    tcase_add_test(t, first_error_wins);
    tcase_add_test(t, texts_of_strangers_are_tamed);
    tcase_add_test(t, allocation_checks_products_and_obeys_the_hook);
    tcase_add_test(t, memory_of_any_size_is_aligned);
    tcase_add_test(t, huge_memory_is_aligned_and_zeroed);
    tcase_add_test(t, what_is_forgotten_holds_no_page);
    tcase_add_test(t, buffer_stops_at_its_cap);
    tcase_add_test(t, a_buffer_without_a_cap_grows);
    tcase_add_test(t, exp_is_correctly_rounded_almost_always);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
