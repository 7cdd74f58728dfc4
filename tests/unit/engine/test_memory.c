/* test_memory.c - out of memory fails one task alone; a steady load allocates nothing. */
#include "lib/engine/engine.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { D = 20, F = 2500, ROWS = 6 };

struct rig {
    struct sae_engine *e;
    struct sae_dict *dict;
    struct sae_batch *b;
    struct sae_scratch *s;
    float *x;
};

static struct rig rig_of(struct sae_dict *dict, int way)
{
    struct rig g = {.dict = dict};

    g.e = batches_engine((enum batches_way)way, g.dict);
    g.x = batches_exact_rows(ROWS, D, 1);
    ck_assert_int_eq(sae_batch_create(&g.b, g.e, dicts_capacity(g.dict, 4 * ROWS), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&g.s, g.e, dicts_capacity(g.dict, 4 * ROWS), NULL), SAE_OK);
    return g;
}

static struct rig rig_open(const char *class_name, int way)
{
    return rig_of(batches_exact_dict(class_name, D, F, 1), way);
}

static void rig_close(struct rig *g)
{
    sae_batch_free(g->b);
    sae_scratch_free(g->s);
    sae_engine_free(g->e);
    sae_dict_free(g->dict);
    sae_free(g->x);
}

static struct sae_task task_of(const struct rig *g, enum sae_op op, enum sae_form form)
{
    struct sae_task t = {.dict = g->dict, .n_rows = ROWS, .x = g->x};

    t.query = (struct sae_query){.op = op,
                                 .want_f = true,
                                 .want_aux = sae_formula_unit(&g->dict->formula)->aux_name != NULL,
                                 .form = form,
                                 .top_k = 5};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    return t;
}

/* Every single allocation of a batch refused in turn. Whoever is not failed has the right answer;
 * the dense task needs nothing and never fails. */
START_TEST(a_failed_allocation_fails_its_task_alone)
{
    bool someone_failed = false;

    for (long fault = 0;; fault++) {
        struct rig g = rig_open("JumpAutoEncoder", _i);
        struct sae_task t[4] = {
            task_of(&g, SAE_OP_ENCODE, SAE_FORM_SPARSE), task_of(&g, SAE_OP_ENCODE, SAE_FORM_DENSE),
            task_of(&g, SAE_OP_FORWARD, SAE_FORM_SPARSE), task_of(&g, SAE_OP_ENCODE, SAE_FORM_TOP)};
        struct sae_slice slices[4];
        size_t n_failed = 0;
        unsigned long n_allocs;

        for (size_t i = 0; i < 4; i++)
            slices[i] = (struct sae_slice){.task = &t[i], .row0 = 0, .n_rows = ROWS};
        sae_alloc_fault(fault, false);
        batches_run(g.b, g.s, g.dict, SAE_SIDE_ENCODE, slices, 4);
        n_allocs = sae_alloc_count();
        sae_alloc_fault(-1, false);
        ck_assert_int_eq(t[1].failed, 0);
        for (size_t i = 0; i < 4; i++) {
            if (t[i].failed) {
                ck_assert_int_eq(t[i].failed, SAE_E_NOMEM);
                n_failed++;
            } else {
                batches_check(&t[i], true, false, "company of a failed task");
            }
        }
        ck_assert_uint_le(n_failed, 1);
        someone_failed |= n_failed > 0;
        /* the batch is whole: the same again without faults */
        for (size_t i = 0; i < 4; i++) {
            sae_task_fini(&t[i]);
            ck_assert_int_eq(sae_task_prepare(&t[i], NULL), SAE_OK);
        }
        batches_run(g.b, g.s, g.dict, SAE_SIDE_ENCODE, slices, 4);
        for (size_t i = 0; i < 4; i++) {
            batches_check(&t[i], true, false, "after a fault");
            sae_task_fini(&t[i]);
        }
        rig_close(&g);
        if ((unsigned long)fault >= n_allocs)
            break;
    }
    ck_assert(someone_failed);
}
END_TEST

START_TEST(all_allocations_refused_fail_all_that_need_one)
{
    struct rig g = rig_open("GatedAutoEncoder", _i);
    struct sae_task t[2] = {task_of(&g, SAE_OP_ENCODE, SAE_FORM_SPARSE),
                            task_of(&g, SAE_OP_ENCODE, SAE_FORM_DENSE)};
    struct sae_slice slices[2] = {{.task = &t[0], .row0 = 0, .n_rows = ROWS},
                                  {.task = &t[1], .row0 = 0, .n_rows = ROWS}};

    sae_alloc_fault(0, true);
    batches_run(g.b, g.s, g.dict, SAE_SIDE_ENCODE, slices, 2);
    sae_alloc_fault(-1, false);
    ck_assert_int_eq(t[0].failed, SAE_E_NOMEM);
    batches_check(&t[1], true, false, "dense");
    sae_task_fini(&t[0]);
    sae_task_fini(&t[1]);
    rig_close(&g);
}
END_TEST

START_TEST(create_fails_whole)
{
    struct rig g = rig_open("AutoEncoder", _i);
    struct sae_batch *b = NULL;
    struct sae_scratch *s = NULL;
    struct sae_engine *e = NULL;
    enum sae_status st = SAE_E_NOMEM;

    for (long fault = 0; st != SAE_OK; fault++) {
        sae_alloc_fault(fault, false);
        st = sae_batch_create(&b, g.e, dicts_capacity(g.dict, 8), NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || (st == SAE_E_NOMEM && !b));
    }
    sae_batch_free(b);
    st = SAE_E_NOMEM;
    for (long fault = 0; st != SAE_OK; fault++) {
        sae_alloc_fault(fault, false);
        st = sae_scratch_create(&s, g.e, dicts_capacity(g.dict, 8), NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || (st == SAE_E_NOMEM && !s));
    }
    sae_scratch_free(s);
    sae_alloc_fault(0, false);
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_AUTO, NULL, NULL), SAE_E_NOMEM);
    sae_alloc_fault(-1, false);
    ck_assert_ptr_null(e);
    rig_close(&g);
}
END_TEST

/* The k-th time round a batch takes its lists from the chunks it keeps, and answers have their
 * room. */
START_TEST(steady_state_allocates_nothing)
{
    struct sae_dict *dict = batches_exact_dict("GatedAutoEncoder", D, F, 1);
    struct rig g;

    for (size_t j = 0; j < F; j++) /* so few on that a task has room for all */
        if (j % 8 != 0)
            sae_dict_array(dict, SAE_ROLE_GATE_BIAS)[j] = -1000.0f;
    g = rig_of(dict, _i);
    for (int form = 0; form < 3; form++)
        for (int round = 0; round < 5; round++) {
            struct sae_task t = task_of(&g, SAE_OP_ENCODE, (enum sae_form)form);
            struct sae_task u = {.dict = g.dict, .n_rows = ROWS, .x = g.x};
            struct sae_slice slices[3] = {{.task = &t, .row0 = 0, .n_rows = 2},
                                          {.task = &u, .row0 = 0, .n_rows = ROWS},
                                          {.task = &t, .row0 = 2, .n_rows = ROWS - 2}};

            u.query.op = SAE_OP_FORWARD;
            ck_assert_int_eq(sae_task_prepare(&u, NULL), SAE_OK);
            sae_alloc_fault(-1, false);
            batches_run(g.b, g.s, g.dict, SAE_SIDE_ENCODE, slices, 3);
            if (round > 0)
                ck_assert_uint_eq(sae_alloc_count(), 0);
            ck_assert_uint_eq(sae_task_sparse_bytes(&t), 0);
            ck_assert_uint_eq(t.nnz > 0, form != SAE_FORM_DENSE);
            sae_task_fini(&t);
            sae_task_fini(&u);
        }
    rig_close(&g);
}
END_TEST

/* Everything on: the slices that the room does not hold have memory of their own. */
START_TEST(more_entries_than_usual_find_memory)
{
    struct sae_dict *dict = batches_exact_dict("AutoEncoder", D, F, 1);
    struct sae_task t;
    struct rig g;

    for (size_t j = 0; j < F; j++)
        sae_dict_array(dict, SAE_ROLE_ENC_BIAS)[j] = 1000.0f;
    g = rig_of(dict, _i);
    t = task_of(&g, SAE_OP_ENCODE, SAE_FORM_SPARSE);
    for (size_t r = 0; r < ROWS; r++) { /* 2500 entries each, room for 512 a row */
        struct sae_slice slice = {.task = &t, .row0 = r, .n_rows = 1};

        batches_run(g.b, g.s, g.dict, SAE_SIDE_ENCODE, &slice, 1);
        ck_assert_uint_eq(sae_task_sparse_bytes(&t), r * (64 + F * 8));
    }
    batches_check(&t, true, false, "more than usual");
    ck_assert_uint_eq(t.nnz, ROWS * F);
    sae_task_fini(&t);
    rig_close(&g);
}
END_TEST

/* However many tiles of a batch are at work at once: that is chance, and may come late. */
START_TEST(tiles_at_work_at_once_find_chunks)
{
    enum { WORKERS = 3 };
    struct sae_dict *dict = batches_exact_dict("AutoEncoder", D, F, 1);
    struct sae_capacity c = dicts_capacity(dict, ROWS);
    struct rig g = rig_of(dict, _i);
    struct sae_task t = task_of(&g, SAE_OP_ENCODE, SAE_FORM_SPARSE);
    struct sae_scratch *at_work[WORKERS];
    struct sae_batch *b;

    c.n_workers = WORKERS;
    ck_assert_int_eq(sae_batch_create(&b, g.e, c, NULL), SAE_OK);
    for (int i = 0; i < WORKERS; i++)
        ck_assert_int_eq(sae_scratch_create(&at_work[i], g.e, c, NULL), SAE_OK);
    for (int round = 0; round < 40; round++) {
        sae_alloc_fault(-1, false);
        sae_batch_begin(b, dict, SAE_SIDE_ENCODE,
                        &(struct sae_slice){.task = &t, .row0 = 0, .n_rows = ROWS}, 1);
        for (int i = 0; i < (round % 2 ? WORKERS : 1); i++)
            sae_list_put(b, 0, 0, 0, at_work[i], 1, &(const uint32_t){0}, &(const float){1}, NULL);
        for (int i = 0; i < WORKERS; i++)
            sae_chunks_leave(b, at_work[i]);
        ck_assert_uint_eq(sae_alloc_count(), 0);
    }
    for (int i = 0; i < WORKERS; i++)
        sae_scratch_free(at_work[i]);
    sae_batch_free(b);
    sae_task_fini(&t);
    rig_close(&g);
}
END_TEST

/* Chunks of a dense batch are given back once small batches follow. */
START_TEST(the_chunks_shrink_again)
{
    enum { WIDE = 40000, MANY = 24 };
    struct sae_dict *dict = batches_exact_dict("AutoEncoder", 4, WIDE, 1);
    float *x = batches_exact_rows(MANY, 4, 3);
    struct sae_task t = {.dict = dict, .n_rows = MANY, .x = x, .query.op = SAE_OP_FORWARD};
    struct sae_engine *e;
    struct sae_batch *b;
    struct sae_scratch *s;
    size_t most;

    for (size_t j = 0; j < WIDE; j++)
        sae_dict_array(dict, SAE_ROLE_ENC_BIAS)[j] = 1000.0f; /* everything on */
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_AUTO, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, MANY), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, MANY), NULL), SAE_OK);
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    batches_run(b, s, dict, SAE_SIDE_ENCODE, &(struct sae_slice){.task = &t, .n_rows = MANY}, 1);
    most = b->chunks.n_chunks;
    ck_assert_uint_ge(most, 29); /* 24 x 40000 entries of 8 bytes, in chunks of 256 KB */
    batches_run(b, s, dict, SAE_SIDE_ENCODE, &(struct sae_slice){.task = &t, .n_rows = MANY}, 1);
    ck_assert_uint_eq(b->chunks.n_chunks, most);
    for (int round = 0; round < 40; round++)
        batches_run(b, s, dict, SAE_SIDE_ENCODE, &(struct sae_slice){.task = &t, .n_rows = 1}, 1);
    ck_assert_uint_le(b->chunks.n_chunks, 12);
    sae_batch_rest(b);
    ck_assert_uint_le(b->chunks.n_chunks, 8);
    batches_run(b, s, dict, SAE_SIDE_ENCODE, &(struct sae_slice){.task = &t, .n_rows = MANY}, 1);
    ck_assert_uint_le(b->chunks.n_chunks, most);
    batches_check(&t, true, true, "after a rest");
    sae_task_fini(&t);
    sae_batch_free(b);
    sae_scratch_free(s);
    sae_engine_free(e);
    sae_dict_free(dict);
    sae_free(x);
}
END_TEST

static size_t resident_mb(void)
{
    unsigned long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    ck_assert(f && fscanf(f, "%lu %lu", &size, &resident) == 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE) >> 20;
}

/* Each of 64 threads has a batch, which kept 2 MB: 128 MB of a daemon that had had a burst. */
START_TEST(many_batches_at_rest_hold_little)
{
    enum { WIDE = 40000, ROWS_EACH = 16, N = 64 };
    struct sae_dict *dict = batches_exact_dict("AutoEncoder", 4, WIDE, 1);
    float *x = batches_exact_rows(ROWS_EACH, 4, 3);
    struct sae_task t = {.dict = dict, .n_rows = ROWS_EACH, .x = x, .query.op = SAE_OP_FORWARD};
    struct sae_capacity c = dicts_capacity(dict, ROWS_EACH);
    struct sae_engine *e;
    struct sae_batch *b[N];
    struct sae_scratch *s;
    size_t before, after;

    c.n_workers = N;
    for (size_t j = 0; j < WIDE; j++)
        sae_dict_array(dict, SAE_ROLE_ENC_BIAS)[j] = 1000.0f; /* everything on */
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_AUTO, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, c, NULL), SAE_OK);
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    for (size_t i = 0; i < N; i++)
        ck_assert_int_eq(sae_batch_create(&b[i], e, c, NULL), SAE_OK);
    before = resident_mb();
    for (size_t i = 0; i < N; i++) {
        batches_run(b[i], s, dict, SAE_SIDE_ENCODE,
                    &(struct sae_slice){.task = &t, .n_rows = ROWS_EACH}, 1);
        ck_assert_uint_gt(b[i]->chunks.n_chunks, 8);
        sae_batch_rest(b[i]);
    }
    after = resident_mb();
    if (SANITIZED)
        printf("SKIP: memory of a sanitized build says nothing\n");
    else
        ck_assert_msg(after <= before + 32, "%zu MB before, %zu after", before, after);
    batches_check(&t, true, true, "before a rest");
    for (size_t i = 0; i < N; i++)
        sae_batch_free(b[i]);
    sae_task_fini(&t);
    sae_scratch_free(s);
    sae_engine_free(e);
    sae_dict_free(dict);
    sae_free(x);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine memory");
    TCase *t = tcase_create("memory");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, a_failed_allocation_fails_its_task_alone, 0, BATCHES_N_WAYS);
    tcase_add_loop_test(t, all_allocations_refused_fail_all_that_need_one, 0, BATCHES_N_WAYS);
    tcase_add_loop_test(t, create_fails_whole, 0, BATCHES_N_WAYS);
    tcase_add_loop_test(t, steady_state_allocates_nothing, 0, BATCHES_N_WAYS);
    tcase_add_loop_test(t, more_entries_than_usual_find_memory, 0, BATCHES_N_WAYS);
    tcase_add_loop_test(t, tiles_at_work_at_once_find_chunks, 0, BATCHES_N_WAYS);
    tcase_add_test(t, the_chunks_shrink_again);
    tcase_add_test(t, many_batches_at_rest_hold_little);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
