/* test_native.c - the native engine equals ref.c bit for bit: every class, form, option and shape,
 * in mixed company, on every instruction set that this CPU has, forced one after the other. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/native/state.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const classes[] = {"AutoEncoder",     "IdentityDict",   "GatedAutoEncoder",
                                      "JumpAutoEncoder", "AutoEncoderNew", "JumpReluAutoEncoder",
                                      "AutoEncoderTopK"};
static const struct {
    size_t d, F;
} shapes[] = {{1, 1}, {7, 5}, {33, 1025}, {16, 3000}, {767, 40}, {257, 1100}};

static struct sae_engine *open_isa(int isa)
{
    struct sae_engine *e;

    if (!sae_cpu_has((enum sae_isa)isa)) {
        printf("SKIP: this CPU has no %s\n", sae_isa_name((enum sae_isa)isa));
        return NULL;
    }
    ck_assert_int_eq(
        sae_engine_create(&e, SAE_ENGINE_NATIVE, sae_isa_name((enum sae_isa)isa), NULL), SAE_OK);
    ck_assert_str_eq(sae_engine_name(e), "native");
    ck_assert(sae_engine_bitwise(e));
    return e;
}

/* Lower the thresholds so that a few per cent of the features are on, as in trained dictionaries:
 * then rows are screened. */
static void make_sparse(struct sae_dict *d)
{
    float *bias = sae_dict_array(d, SAE_ROLE_GATE_BIAS) ? sae_dict_array(d, SAE_ROLE_GATE_BIAS)
                                                        : sae_dict_array(d, SAE_ROLE_ENC_BIAS);

    for (size_t j = 0; bias && j < d->formula.F; j++) {
        double n2 = 0;

        for (size_t k = 0; k < d->formula.d_in; k++)
            n2 += (double)d->enc.f32[j * d->formula.d_in + k] *
                  (double)d->enc.f32[j * d->formula.d_in + k];
        bias[j] = (float)(-2.3 * sqrt(n2)) * (j % 7 == 0 ? 0.5f : 1.0f);
    }
}

static void mixed(int i, struct sae_dict *(*make)(const char *, size_t, size_t, uint64_t),
                  bool sparse)
{
    int isa = i % SAE_N_ISAS, c = i / SAE_N_ISAS % (int)SAE_COUNTOF(classes);
    int sh = i / SAE_N_ISAS / (int)SAE_COUNTOF(classes);
    bool identity = strcmp(classes[c], "IdentityDict") == 0;
    struct sae_engine *e = open_isa(isa);
    struct sae_dict *dict;

    if (!e)
        return;
    dict = make(classes[c], identity ? shapes[sh].F : shapes[sh].d, shapes[sh].F, (uint64_t)i);
    if (sparse)
        make_sparse(dict);
    batches_mixed(e, dict, true, true, 100 + (uint64_t)i);
    if (sparse) { /* and top-k rows by thresholds too */
        batches_only(BATCHES_BY_THRESHOLD, dict);
        batches_mixed(e, dict, true, true, 200 + (uint64_t)i);
    }
    sae_dict_free(dict);
    sae_engine_free(e);
}

START_TEST(integer_dictionaries)
{
    mixed(_i, batches_exact_dict, false);
}
END_TEST

START_TEST(gaussian_dictionaries)
{
    mixed(_i, dicts_make, false);
}
END_TEST

START_TEST(sparse_dictionaries)
{
    mixed(_i, dicts_make, true);
}
END_TEST

/* top_k where no threshold helps: intervals, in two steps. Some features are equal, so that ties at
 * the k-th place occur; blocks, rows and tasks are mixed. */
START_TEST(top_k_by_intervals)
{
    static const uint64_t ks[] = {1, 5, 32, 128, 400, 600};
    enum { D = 48, F = 3000, N = 21, N_K = SAE_COUNTOF(ks) };
    int isa = _i % SAE_N_ISAS, c = _i / SAE_N_ISAS;
    struct sae_engine *e = open_isa(isa);
    struct sae_task tasks[N_K];
    struct sae_native_dict *nd;
    struct sae_dict *dict;
    struct sae_batch *b;
    struct sae_scratch *s;
    char label[64];
    float *x;

    if (!e || !strcmp(classes[c], "IdentityDict"))
        goto out;
    dict = dicts_make(classes[c], D, F, (uint64_t)_i);
    for (size_t j = 1; j < F; j++) /* every third feature equals the one before it */
        if (j % 3 == 0) {
            float *v[] = {
                sae_dict_array(dict, SAE_ROLE_ENC_BIAS),  sae_dict_array(dict, SAE_ROLE_R_MAG),
                sae_dict_array(dict, SAE_ROLE_GATE_BIAS), sae_dict_array(dict, SAE_ROLE_MAG_BIAS),
                sae_dict_array(dict, SAE_ROLE_JUMP),      sae_dict_array(dict, SAE_ROLE_THRESHOLD)};

            memcpy(dict->enc.f32 + j * D, dict->enc.f32 + (j - 1) * D, D * sizeof *dict->enc.f32);
            for (size_t k = 0; k < SAE_COUNTOF(v); k++)
                if (v[k])
                    v[k][j] = v[k][j - 1];
        }
    x = dicts_rows(N, D, 7);
    ck_assert_int_eq(sae_engine_prepare(e, dict, NULL, NULL), SAE_OK);
    nd = dict->engine_data; /* as after some thousand rows on which thresholds proved nothing */
    atomic_store(&nd->thresholds.tried, 100);
    atomic_store(&nd->thresholds.failed, 100);
    atomic_store(&nd->thresholds.batches, 1);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 40), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 40), NULL), SAE_OK);
    for (size_t i = 0; i < N_K; i++) {
        tasks[i] = (struct sae_task){.dict = dict, .n_rows = N, .x = x};
        tasks[i].query =
            (struct sae_query){.op = SAE_OP_ENCODE,
                               .want_f = true,
                               .want_aux = sae_formula_unit(&dict->formula)->aux_name && i % 2,
                               .form = SAE_FORM_TOP,
                               .top_k = ks[i]};
        ck_assert_int_eq(sae_task_prepare(&tasks[i], NULL), SAE_OK);
    }
    batches_run_all(b, s, dict, SAE_SIDE_ENCODE, tasks, N_K, 40, 3);
    snprintf(label, sizeof label, "%s %s:", classes[c], sae_isa_name((enum sae_isa)isa));
    for (size_t i = 0; i < N_K; i++) {
        batches_check(&tasks[i], true, true, label);
        sae_task_fini(&tasks[i]);
    }
    /* the task of k = 600 was computed densely, unless the class keeps less, and of 128 and 400 the
     * rows that came once it was known how many features they take */
    ck_assert_uint_ge(sae_engine_stats(e, dict).dense_rows, dict->formula.top_k ? 0 : N);
    ck_assert_uint_lt(sae_engine_stats(e, dict).dense_rows, 3 * N);
    ck_assert_uint_lt(sae_engine_stats(e, dict).candidates, (N_K - 1) * N * F / 2);
    sae_free(x);
    sae_batch_free(b);
    sae_scratch_free(s);
    sae_dict_free(dict);
out:
    sae_engine_free(e);
}
END_TEST

/* The error of row x's quantisation, turned back: what x has beyond its quantised form. */
static void quantisation_error(const struct sae_native_kernels *k, const float *x, size_t d,
                               double *out)
{
    const struct sae_matrix m = {.width = d, .f32 = (float *)x};
    struct sae_plane *p;
    struct sae_screen_row row;
    double n2, theta = 0, *v = sae_alloc(d, sizeof *v), *turned = sae_alloc(d, sizeof *turned);
    int8_t *q = sae_alloc(d, 1);

    ck_assert_int_eq(sae_plane_create(&p, &m, 1, &theta, k->xmax, k->quant, NULL, NULL), SAE_OK);
    ck_assert(sae_plane_row(p, x, q, &row, v));
    ck_assert_int_eq(row.n_split, 0);
    k->quant->widen(x, d, v, &n2);
    k->quant->rotate(v, d);
    for (size_t i = 0; i < d; i++)
        v[i] -= (double)q[i] * (double)row.s;
    for (size_t i = 0; i < d; i++) { /* Q^T v: its i-th value is (Q e_i) . v */
        memset(turned, 0, d * sizeof *turned);
        turned[i] = 1;
        k->quant->rotate(turned, d);
        out[i] = 0;
        for (size_t j = 0; j < d; j++)
            out[i] += turned[j] * v[j];
    }
    sae_plane_free(p);
    sae_free(q);
    sae_free(turned);
    sae_free(v);
}

/* Features whose estimate is twice their value, as if by conspiracy, raise the floor above better
 * ones, which are dropped: the floor does not hold, and the row is computed anew. */
START_TEST(floors_that_do_not_hold)
{
    enum { D = 256, F = 3000, K = 5 };
    struct sae_engine *e = open_isa(_i);
    struct sae_slice slice = {.n_rows = 1};
    struct sae_dict *dict;
    struct sae_batch *b;
    struct sae_scratch *s;
    struct sae_task t;
    double error[D], e2 = 0, x2 = 0, ex = 0;
    float *x, centred[D];

    if (!e)
        return;
    dict = dicts_make("AutoEncoder", D, F, 1);
    x = dicts_rows(1, D, 3);
    for (size_t k = 0; k < D; k++)
        centred[k] = x[k] - dict->centre[k];
    quantisation_error(sae_native_kernels(e), centred, D, error);
    for (size_t k = 0; k < D; k++) {
        e2 += error[k] * error[k];
        x2 += (double)centred[k] * (double)centred[k];
        ex += error[k] * (double)centred[k];
    }
    for (size_t j = 0; j < F; j++) {
        /* In units of |error|: lures are worth 1 and estimated at 2, the best are worth 1.4. */
        bool is_lure = j < 16 || j >= F - 16, is_best = j >= 1500 && j < 1508;
        double value = is_lure ? 1 : is_best ? 1.4 : 0;
        double along = (value * sqrt(e2) + (is_lure ? ex / sqrt(e2) : 0)) / x2;

        sae_dict_array(dict, SAE_ROLE_ENC_BIAS)[j] = 0;
        for (size_t k = 0; k < D; k++)
            dict->enc.f32[j * D + k] =
                (float)(along * (double)centred[k] - (is_lure ? error[k] / sqrt(e2) : 0));
    }
    ck_assert_int_eq(sae_engine_prepare(e, dict, NULL, NULL), SAE_OK);
    batches_only(BATCHES_BY_INTERVAL, dict);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 1), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, 1), NULL), SAE_OK);
    t = (struct sae_task){.dict = dict, .n_rows = 1, .x = x};
    t.query =
        (struct sae_query){.op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP, .top_k = K};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    slice.task = &t;
    batches_run(b, s, dict, SAE_SIDE_ENCODE, &slice, 1);
    batches_check(&t, true, true, "lures");
    ck_assert(t.f_rows[0].ids[0] >= 1500 && t.f_rows[0].ids[0] < 1508);
    ck_assert_uint_eq(sae_engine_stats(e, dict).dense_rows, 1);
    sae_task_fini(&t);
    sae_batch_free(b);
    sae_scratch_free(s);
    sae_free(x);
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

/* Do rows with this top_k go by intervals, where both ways pay? */
static bool n_go_by_interval(struct sae_batch *b, struct sae_dict *dict, uint64_t top_k, size_t n)
{
    float *x = dicts_rows(n, dict->formula.d_in, 3);
    struct sae_task t = {.dict = dict, .n_rows = n, .x = x};
    struct sae_slice slice = {.task = &t, .n_rows = n};
    bool is_bounds;

    t.query = (struct sae_query){
        .op = SAE_OP_ENCODE, .want_f = true, .form = SAE_FORM_TOP, .top_k = top_k};
    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    sae_batch_begin(b, dict, SAE_SIDE_ENCODE, &slice, 1); /* and gathers: the batch is small */
    is_bounds = b->rows[n - 1].is_bounds;
    sae_task_fini(&t);
    sae_free(x);
    return is_bounds;
}

static bool goes_by_interval(struct sae_batch *b, struct sae_dict *dict, uint64_t top_k)
{
    return n_go_by_interval(b, dict, top_k, 2);
}

/* Where thresholds leave little, a top_k goes by them; each way is tried when it is not known. */
START_TEST(top_k_goes_the_cheaper_way)
{
    struct sae_engine *e = open_isa(SAE_ISA_SCALAR);
    struct sae_dict *dict = dicts_make("AutoEncoder", 64, 2048, 1);
    struct sae_native_dict *nd;
    struct sae_batch *b;

    ck_assert_int_eq(sae_engine_prepare(e, dict, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, 2), NULL), SAE_OK);
    nd = dict->engine_data;
    ck_assert(
        !goes_by_interval(b, dict, 32)); /* the first tries thresholds, the second intervals */
    ck_assert(goes_by_interval(b, dict, 32));
    nd->exact_by_threshold = 16 * 150;
    ck_assert(goes_by_interval(b, dict, 32)); /* not known of this k yet */
    nd->exact_by_interval[5] = 16 * 50;
    ck_assert(!goes_by_interval(b, dict, 32));
    ck_assert(!goes_by_interval(b, dict, 17)); /* the same class */
    ck_assert(goes_by_interval(b, dict, 16));
    nd->exact_by_threshold = 16 * 1000;
    ck_assert(goes_by_interval(b, dict, 32));
    ck_assert(goes_by_interval(b, dict, 512));
    ck_assert(!goes_by_interval(b, dict, 513)); /* never */
    nd->exact_by_interval[9] = 16 * 200;        /* a product is cheaper than so many */
    ck_assert(!goes_by_interval(b, dict, 512));
    ck_assert(n_go_by_interval(b, dict, 512, 1)); /* but for a row alone */
    nd->exact_by_interval[9] = 16 * 600;
    ck_assert(!n_go_by_interval(b, dict, 512, 1));
    nd->top_batches = 1; /* now and then it is tried again */
    ck_assert(goes_by_interval(b, dict, 512));
    sae_batch_free(b);
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

START_TEST(a_mean_follows_what_it_is_given)
{
    _Atomic uint32_t m = 0;

    sae_native_mean(&m, 0);
    ck_assert_uint_eq(m, 1); /* known */
    for (int i = 0; i < 200; i++)
        sae_native_mean(&m, 16 * 500);
    ck_assert_uint_ge(m, 16 * 498);
    ck_assert_uint_le(m, 16 * 500 + 1);
    for (int i = 0; i < 200; i++)
        sae_native_mean(&m, UINT64_MAX);
    ck_assert_uint_gt(m, UINT32_MAX / 2); /* capped, not wrapped */
}
END_TEST

/* Zeros that meet an infinity are NaN: a closed gate whose magnitude overflows, or is infinite, and
 * an infinite jump that is not taken. Nothing of it may be proved off. */
START_TEST(zero_times_infinity)
{
    struct sae_engine *e = open_isa(_i % SAE_N_ISAS);
    bool is_gated = _i / SAE_N_ISAS == 0;
    struct sae_dict *dict;
    struct sae_screen_stats stats;

    if (!e)
        return;
    dict = dicts_make(is_gated ? "GatedAutoEncoder" : "JumpAutoEncoder", 64, 2048, 1);
    make_sparse(dict);
    for (size_t j = 3; j < dict->formula.F; j += 100) {
        static const float rs[] = {1e37f, 3e38f, INFINITY, 1, 0, 1}, biases[] = {INFINITY, NAN};

        if (is_gated) {
            sae_dict_array(dict, SAE_ROLE_R_MAG)[j] = rs[j / 100 % 6];
            sae_dict_array(dict, SAE_ROLE_GATE_BIAS)[j] = -30;
            sae_dict_array(dict, SAE_ROLE_MAG_BIAS)[j] =
                j / 100 % 6 < 3 ? 0.1f : biases[j / 100 % 2];
        } else {
            sae_dict_array(dict, SAE_ROLE_JUMP)[j] = biases[j / 100 % 2];
        }
    }
    batches_mixed(e, dict, true, true, 7);
    stats = sae_engine_stats(e, dict);
    ck_assert_msg(!dict->engine_data || stats.candidates > 0, "no row was screened");
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

/* Screening really happens on rows like trained ones, and its counters tell. */
START_TEST(screening_is_used)
{
    struct sae_engine *e = open_isa(_i);
    struct sae_dict *dict;
    struct sae_screen_stats stats;

    if (!e)
        return;
    dict = dicts_make("AutoEncoder", 256, 4096, 1);
    make_sparse(dict);
    for (uint64_t seed = 0; seed < 3; seed++)
        batches_mixed(e, dict, true, true, seed);
    stats = sae_engine_stats(e, dict);
    ck_assert_msg(stats.candidates > 100, "only %llu candidates",
                  (unsigned long long)stats.candidates);
    ck_assert_msg(stats.dense_rows < 81, "%llu dense rows", (unsigned long long)stats.dense_rows);
    sae_dict_free(dict);
    sae_engine_free(e);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("native");
    TCase *t = tcase_create("native");
    SRunner *r = srunner_create(s);
    int n = SAE_N_ISAS * (int)(SAE_COUNTOF(classes) * SAE_COUNTOF(shapes));

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, integer_dictionaries, 0, n);
    tcase_add_loop_test(t, gaussian_dictionaries, 0, n);
    tcase_add_loop_test(t, sparse_dictionaries, 0, n);
    tcase_add_test(t, top_k_goes_the_cheaper_way);
    tcase_add_test(t, a_mean_follows_what_it_is_given);
    tcase_add_loop_test(t, top_k_by_intervals, 0, SAE_N_ISAS * (int)SAE_COUNTOF(classes));
    tcase_add_loop_test(t, floors_that_do_not_hold, 0, SAE_N_ISAS);
    tcase_add_loop_test(t, zero_times_infinity, 0, 2 * SAE_N_ISAS);
    tcase_add_loop_test(t, screening_is_used, 0, SAE_N_ISAS);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
