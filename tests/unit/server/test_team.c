/* test_team.c - threads that share work, and what lib cuts for them: the same bits however it is
 * cut. */
#include "lib/engine/native/state.h"
#include "server/team.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* ---- pieces --------------------------------------------------------------------------------- */

#define N 1000

struct counts {
    struct sae_team *team; /* not NULL: each piece runs 7 more */
    size_t step;
    _Atomic unsigned hit[N], inner;
};

static void count_inner(void *arg, size_t from, size_t to)
{
    atomic_fetch_add(&((struct counts *)arg)->inner, (unsigned)(to - from));
}

static void count(void *arg, size_t from, size_t to)
{
    struct counts *c = arg;

    ck_assert(from < to && to <= N && to - from <= c->step);
    for (size_t i = from; i < to; i++)
        atomic_fetch_add(&c->hit[i], 1);
    if (c->team)
        sae_team_run(c->team, 7, 2, count_inner, c);
}

static void run_counted(struct sae_team *team, size_t n, size_t step)
{
    struct counts *c = sae_calloc(1, sizeof *c);

    c->team = team;
    c->step = step;
    sae_team_run(team, n, step, count, c);
    for (size_t i = 0; i < N; i++)
        ck_assert_uint_eq(c->hit[i], i < n);
    ck_assert_uint_eq(c->inner, 7 * ((n + step - 1) / step));
    sae_free(c);
}

static void *run_many(void *team)
{
    static const size_t sizes[][2] = {{0, 1}, {1, 1}, {1, 5}, {5, 5}, {6, 5}, {N, 1}, {N, 7}};

    for (size_t i = 0; i < SAE_COUNTOF(sizes); i++)
        run_counted(team, sizes[i][0], sizes[i][1]);
    return NULL;
}

/* From several threads at once, each piece with work inside. */
START_TEST(each_piece_is_worked_at_once)
{
    struct saed_team *t = NULL;
    pthread_t other[3];

    ck_assert_int_eq(saed_team_create(&t, (size_t)_i, NULL), SAE_OK);
    for (size_t i = 0; i < SAE_COUNTOF(other); i++)
        ck_assert_int_eq(pthread_create(&other[i], NULL, run_many, saed_team_lent(t)), 0);
    run_many(saed_team_lent(t));
    for (size_t i = 0; i < SAE_COUNTOF(other); i++)
        pthread_join(other[i], NULL);
    saed_team_free(t);
}
END_TEST

static pthread_barrier_t meeting;

static void meet(void *arg, size_t from, size_t to)
{
    (void)arg, (void)from, (void)to;
    pthread_barrier_wait(&meeting);
}

/* The first piece has work for all; the others are nothing. */
static void lead(void *arg, size_t from, size_t to)
{
    (void)to;
    if (from == 0)
        sae_team_run(arg, 4, 1, meet, NULL);
}

START_TEST(all_threads_work_at_once_also_inside_a_piece)
{
    struct saed_team *t = NULL;

    ck_assert_int_eq(saed_team_create(&t, 4, NULL), SAE_OK);
    pthread_barrier_init(&meeting, NULL, 4);
    sae_team_run(saed_team_lent(t), 4, 1, meet, NULL);
    sae_team_run(saed_team_lent(t), 4, 1, lead, saed_team_lent(t));
    pthread_barrier_destroy(&meeting);
    saed_team_free(t);
}
END_TEST

START_TEST(create_fails_whole)
{
    struct saed_team *t = NULL;
    enum sae_status st = SAE_E_NOMEM;

    for (long fault = 0; st != SAE_OK; fault++) {
        sae_alloc_fault(fault, false);
        st = saed_team_create(&t, 3, NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || !t);
    }
    saed_team_free(t);
}
END_TEST

/* ---- what lib cuts -------------------------------------------------------------------------- */

/* Backwards, on this thread. */
static size_t n_pieces;

static void run_backwards(struct sae_team *team, size_t n, size_t step, sae_range_fn *range,
                          void *arg)
{
    (void)team;
    for (size_t end = n, from; end > 0; end = from) {
        from = (end - 1) / step * step;
        range(arg, from, end);
        n_pieces++;
    }
}

static struct sae_team backwards = {run_backwards};

#define SOURCE "init:GatedAutoEncoder:40:3000:seed=3:l0=20"

static struct sae_dict *open_with(struct sae_team *team, const struct sae_engine *e)
{
    struct sae_dict *d = NULL;

    ck_assert_int_eq(dicts_load(&d, SOURCE, team, NULL), SAE_OK);
    ck_assert_int_eq(sae_engine_prepare(e, d, team, NULL), SAE_OK);
    return d;
}

static void check_same(const struct sae_dict *a, const struct sae_dict *b)
{
    const struct sae_plane *p = ((struct sae_native_dict *)a->engine_data)->plane;
    const struct sae_plane *q = ((struct sae_native_dict *)b->engine_data)->plane;
    size_t bytes = p->Fp * sizeof(float);

    ck_assert_int_eq(memcmp(a->dec_norm, b->dec_norm, a->formula.F * sizeof(float)), 0);
    ck_assert(a->info.norm_min == b->info.norm_min && a->info.norm_max == b->info.norm_max &&
              a->info.norm_median == b->info.norm_median);
    ck_assert_str_eq(a->info.weights_sha256, b->info.weights_sha256);
    ck_assert(p->max_norm == q->max_norm && p->min_s == q->min_s && p->max_norm > 0);
    ck_assert_int_eq(memcmp(p->q, q->q, p->Fp * p->dq), 0);
    ck_assert_int_eq(memcmp(p->a, q->a, bytes), 0);
    ck_assert_int_eq(memcmp(p->b, q->b, bytes), 0);
    ck_assert_int_eq(memcmp(p->t, q->t, bytes), 0);
    ck_assert_int_eq(memcmp(p->s, q->s, bytes), 0);
}

/* Norms and the plane were made by one thread. */
START_TEST(a_dictionary_has_the_same_bits_however_it_is_cut)
{
    struct saed_team *t = NULL;
    struct sae_engine *e = NULL;
    struct sae_dict *alone, *cut;

    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_NATIVE, NULL, NULL), SAE_OK);
    ck_assert_int_eq(saed_team_create(&t, 4, NULL), SAE_OK);
    alone = open_with(NULL, e);
    cut = open_with(saed_team_lent(t), e);
    check_same(alone, cut);
    sae_dict_free(cut);
    cut = open_with(&backwards, e);
    check_same(alone, cut);
    ck_assert_uint_gt(n_pieces, 3 * 3); /* norms, the largest weight, the plane */
    sae_dict_free(cut);
    sae_dict_free(alone);
    saed_team_free(t);
    sae_engine_free(e);
}
END_TEST

START_TEST(the_first_column_that_is_not_finite_is_named)
{
    struct sae_dict *d = dicts_make("AutoEncoder", 4, 3000, 1);
    struct sae_err err = {0};

    d->dec.f32[2900 * 4] = d->dec.f32[700 * 4 + 3] = NAN;
    d->dec.f32[1500 * 4] = INFINITY;
    ck_assert_int_eq(sae_dict_seal(d, "float32", &backwards, &err), SAE_E_WEIGHTS);
    ck_assert_ptr_nonnull(strstr(err.text, "column 700 "));
    sae_dict_free(d);
}
END_TEST

START_TEST(a_piece_without_memory_fails_the_whole)
{
    struct sae_team *team = _i ? &backwards : NULL;
    struct sae_engine *e = NULL;
    struct sae_dict *d = NULL;
    enum sae_status st = SAE_E_NOMEM;
    long fault = 0;

    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_NATIVE, NULL, NULL), SAE_OK);
    ck_assert_int_eq(dicts_load(&d, SOURCE, NULL, NULL), SAE_OK);
    for (; st != SAE_OK; fault++) {
        struct sae_err err = {0};

        sae_alloc_fault(fault, false);
        st = sae_engine_prepare(e, d, team, &err);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || (st == SAE_E_NOMEM && err.status == st && !d->engine_data));
    }
    ck_assert_int_gt(fault, 10);
    sae_dict_free(d);
    sae_engine_free(e);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("team");
    TCase *t = tcase_create("team");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_loop_test(t, each_piece_is_worked_at_once, 1, 5);
    tcase_add_test(t, all_threads_work_at_once_also_inside_a_piece);
    tcase_add_test(t, create_fails_whole);
    tcase_add_test(t, a_dictionary_has_the_same_bits_however_it_is_cut);
    tcase_add_test(t, the_first_column_that_is_not_finite_is_named);
    tcase_add_loop_test(t, a_piece_without_memory_fails_the_whole, 0, 2);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
