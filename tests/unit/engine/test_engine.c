/* test_engine.c - choice of engine and instruction set by name, and warming up. */
#include "lib/cpu.h"
#include "lib/engine/engine.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

START_TEST(engines_by_kind)
{
    struct sae_engine *e = NULL;

    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_AUTO, NULL, NULL), SAE_OK);
    ck_assert_str_eq(sae_engine_name(e), "native");
    sae_engine_free(e);
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_AUTO, "scalar", NULL), SAE_OK);
    ck_assert_str_eq(sae_engine_name(e), "native");
    ck_assert_str_eq(sae_engine_kernel(e), "scalar");
    sae_engine_free(e);
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_OPENBLAS, NULL, NULL), SAE_OK);
    ck_assert_str_eq(sae_engine_name(e), "openblas");
    ck_assert_uint_gt(strlen(sae_engine_kernel(e)), 0);
    ck_assert(!sae_engine_bitwise(e));
    sae_engine_free(e);
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_NATIVE, NULL, NULL), SAE_OK);
    ck_assert_str_eq(sae_engine_name(e), "native");
    ck_assert_str_eq(sae_engine_kernel(e), sae_isa_name(sae_cpu_best()));
    ck_assert(sae_engine_bitwise(e));
    sae_engine_free(e);
    sae_engine_free(NULL);
}
END_TEST

START_TEST(instruction_sets_by_name)
{
    static const char *const names[] = {"scalar", "avx2", "avxvnni", "avx512", "vnni"};
    static const char *const kerns[] = {"scalar", "avx2", "avx2", "avx512", "avx512"};
    struct sae_engine *e = NULL;
    struct sae_err err = {0};

    for (size_t i = 0; i < SAE_COUNTOF(names); i++) {
        enum sae_isa isa;
        enum sae_status st = sae_engine_create(&e, SAE_ENGINE_OPENBLAS, names[i], &err);

        ck_assert(sae_isa_by_name(names[i], &isa));
        if (sae_cpu_has(isa)) {
            ck_assert_int_eq(st, SAE_OK);
            ck_assert_str_eq(e->kern->name, kerns[i]);
            sae_engine_free(e);
        } else {
            ck_assert_int_eq(st, SAE_E_USAGE);
            ck_assert_ptr_nonnull(strstr(err.text, names[i]));
            err = (struct sae_err){0};
        }
    }
    e = NULL;
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_AUTO, "neon", &err), SAE_E_USAGE);
    ck_assert_ptr_null(e);
    for (size_t i = 0; i < SAE_COUNTOF(names); i++)
        ck_assert_ptr_nonnull(strstr(err.text, names[i]));
}
END_TEST

/* Whatever the instruction set, the shared parts give the same bits. */
START_TEST(every_isa_decodes_alike)
{
    static const char *const names[] = {"scalar", "avx2", "avx512"};
    struct sae_dict *dict = dicts_make("JumpAutoEncoder", 100, 300, 4);
    float *f = dicts_rows(3, 300, 9), first[300];

    for (size_t i = 0; i < SAE_COUNTOF(names); i++) {
        struct sae_task t = {.dict = dict, .n_rows = 3, .x = f, .query.op = SAE_OP_DECODE};
        struct sae_engine *e = NULL;
        struct sae_batch *b;
        struct sae_scratch *s;

        if (sae_engine_create(&e, SAE_ENGINE_AUTO, names[i], NULL) != SAE_OK) {
            printf("SKIP: this CPU has no %s\n", names[i]);
            continue;
        }
        ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 4), NULL), SAE_OK);
        ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 4), NULL), SAE_OK);
        ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
        sae_engine_warm(e, s);
        batches_run_all(b, s, dict, SAE_SIDE_DECODE, &t, 1, 3, 1);
        if (i == 0)
            memcpy(first, t.x_hat, sizeof first);
        ck_assert_int_eq(memcmp(first, t.x_hat, sizeof first), 0);
        sae_task_fini(&t);
        sae_batch_free(b);
        sae_scratch_free(s);
        sae_engine_free(e);
    }
    sae_free(f);
    sae_dict_free(dict);
}
END_TEST

/* ---- more threads than OpenBLAS has buffers ----------------------------------------------------
 */

#define MANY 1024 /* as --threads may be; builds of OpenBLAS have some hundred buffers */

static struct sae_dict *wide;
static pthread_barrier_t together;

/* One product that outlasts a time slice, so that all threads are inside at once. */
static void *encode_rows(void *arg)
{
    const struct sae_engine *e = arg;
    struct sae_task t = {
        .dict = wide, .n_rows = 16, .query = {.op = SAE_OP_ENCODE, .want_f = true}};
    struct sae_slice slice = {.task = &t, .row0 = 0, .n_rows = t.n_rows};
    struct sae_scratch *s;
    struct sae_batch *b;

    t.x = wide->enc.f32; /* any numbers */
    t.query.form = SAE_FORM_TOP;
    t.query.top_k = 1;
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(wide, t.n_rows), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(wide, t.n_rows), NULL), SAE_OK);
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    pthread_barrier_wait(&together);
    batches_run(b, s, wide, SAE_SIDE_ENCODE, &slice, 1);
    sae_task_fini(&t);
    sae_scratch_free(s);
    sae_batch_free(b);
    return NULL;
}

/* Calls that found no buffer never returned. */
START_TEST(more_threads_than_openblas_has_buffers)
{
    static pthread_t threads[MANY];
    struct sae_engine *e = NULL;
    pthread_attr_t attr;

    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_OPENBLAS, NULL, NULL), SAE_OK);
    wide = dicts_make("AutoEncoder", 4096, 1024, 1);
    ck_assert_int_eq(pthread_barrier_init(&together, NULL, MANY), 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)1 << 20);
    for (size_t i = 0; i < MANY; i++)
        ck_assert_int_eq(pthread_create(&threads[i], &attr, encode_rows, e), 0);
    for (size_t i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    pthread_attr_destroy(&attr);
    pthread_barrier_destroy(&together);
    sae_dict_free(wide);
    sae_engine_free(e);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine");
    TCase *t = tcase_create("engine");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, engines_by_kind);
    tcase_add_test(t, instruction_sets_by_name);
    tcase_add_test(t, every_isa_decodes_alike);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, more_threads_than_openblas_has_buffers);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
