/* test_cpu.c - instruction sets: names both ways, the order, and agreement with the compiler's
 * own reading of CPUID. */
#include "lib/cpu.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

START_TEST(names_go_both_ways)
{
    static const char *const names[] = {"scalar", "avx2", "avxvnni", "avx512", "vnni"};
    enum sae_isa isa;

    for (int i = 0; i < SAE_N_ISAS; i++) {
        ck_assert_str_eq(sae_isa_name((enum sae_isa)i), names[i]);
        ck_assert(sae_isa_by_name(names[i], &isa));
        ck_assert_int_eq(isa, i);
    }
    isa = SAE_ISA_AVX2;
    ck_assert(!sae_isa_by_name("AVX2", &isa));
    ck_assert(!sae_isa_by_name("", &isa));
    ck_assert(!sae_isa_by_name("avx", &isa));
    ck_assert_int_eq(isa, SAE_ISA_AVX2);
    ck_assert_str_eq(sae_isa_name(SAE_N_ISAS), "unknown");
    ck_assert(!sae_cpu_has(SAE_N_ISAS));
}
END_TEST

START_TEST(best_is_the_last_there_is)
{
    enum sae_isa best = sae_cpu_best();

    ck_assert(sae_cpu_has(SAE_ISA_SCALAR));
    ck_assert(sae_cpu_has(best));
    for (int i = best + 1; i < SAE_N_ISAS; i++)
        ck_assert(!sae_cpu_has((enum sae_isa)i));
    if (sae_cpu_has(SAE_ISA_AVXVNNI) || sae_cpu_has(SAE_ISA_AVX512))
        ck_assert(sae_cpu_has(SAE_ISA_AVX2));
    if (sae_cpu_has(SAE_ISA_VNNI))
        ck_assert(sae_cpu_has(SAE_ISA_AVX512));
}
END_TEST

/* libgcc asks CPUID and XCR0 on its own. It does not know F16C by name in gcc 12's list for all
 * compilers, so AVX2 is compared one way only. */
START_TEST(agrees_with_the_compiler)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");

    if (sae_cpu_has(SAE_ISA_AVX2))
        ck_assert(avx2);
    ck_assert_int_eq(sae_cpu_has(SAE_ISA_AVX512), avx512 && sae_cpu_has(SAE_ISA_AVX2));
    ck_assert_int_eq(sae_cpu_has(SAE_ISA_VNNI),
                     sae_cpu_has(SAE_ISA_AVX512) && __builtin_cpu_supports("avx512vnni"));
#else
    ck_assert_int_eq(sae_cpu_best(), SAE_ISA_SCALAR);
#endif
}
END_TEST

/* What is reported must run: one instruction of each set, in this process. */
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static float run_avx2(void)
{
    typedef float v8 __attribute__((vector_size(32)));
    v8 a = {1, 2, 3, 4, 5, 6, 7, 8};

    __asm__ volatile("vfmadd231ps %0, %0, %0" : "+x"(a));
    return a[7];
}

__attribute__((target("avx512f"))) static int run_avx512(bool vnni)
{
    typedef int v16 __attribute__((vector_size(64)));
    v16 a = {1}, b = {0x01010101};

    __asm__ volatile("vpaddd %1, %0, %0" : "+v"(a) : "v"(b));
    if (vnni)
        __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(a) : "v"(b));
    return a[0];
}
#endif

START_TEST(what_is_reported_runs)
{
#if defined(__x86_64__)
    if (sae_cpu_has(SAE_ISA_AVX2))
        ck_assert(run_avx2() == 72.0f);
    else
        puts("SKIP: no AVX2 on this CPU");
    if (sae_cpu_has(SAE_ISA_AVX512))
        ck_assert_int_eq(run_avx512(false), 0x01010102);
    else
        puts("SKIP: no AVX-512 on this CPU");
    if (sae_cpu_has(SAE_ISA_VNNI))
        ck_assert_int_eq(run_avx512(true), 0x01010102 + 4);
#else
    puts("SKIP: no x86-64 instruction sets on this CPU");
#endif
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cpu");
    TCase *t = tcase_create("cpu");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, names_go_both_ways);
    tcase_add_test(t, best_is_the_last_there_is);
    tcase_add_test(t, agrees_with_the_compiler);
    tcase_add_test(t, what_is_reported_runs);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
