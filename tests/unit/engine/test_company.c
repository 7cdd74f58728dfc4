/* test_company.c - a row's bits are its own: the native engine on every instruction set, one and
 * two threads, by thresholds and by intervals, with every row repeated in different company.
 *
 * Shapes at the edges of every kernel's steps, rows and weights with all that f32 has (denormals,
 * infinities, NaN, zeros of both signs, outlier dimensions, very small and very large scales). The
 * truth is ref.c, once, for each row alone on the scalar kernels; everything else is compared with
 * those answers bit for bit. */
#include "lib/cpu.h"
#include "lib/engine/native/state.h"
#include "lib/num.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_KINDS = 13, MAX_ROWS = 70, N_TASKS = 16, N_THREADS = 2 };
enum { FORM_TOP, FORM_DENSE, FORM_SPARSE, FORM_FEATURES, FORM_FORWARD, N_FORMS };

static const char *const classes[] = {"AutoEncoder", "GatedAutoEncoder", "JumpAutoEncoder",
                                      "JumpReluAutoEncoder", "AutoEncoderTopK"};
#define N_CLASSES ((int)SAE_COUNTOF(classes))
static const struct {
    size_t d, F;
} small[] = {{1, 1},  {7, 1},  {16, 1},  {767, 1},  {768, 1},  {4097, 1},
             {1, 15}, {7, 15}, {16, 15}, {767, 15}, {768, 15}, {4097, 15}},
  large[] = {{1, 24576},   {7, 24576},   {16, 24576},  {4097, 300}, {768, 1100}, /* a class each */
             {767, 24576}, {768, 24576}, {4097, 24576}};
/* The last ones take two minutes: they are run with SAED_FULL_SHAPES, alone. */
#define N_FULL 3
#define N_SMALL ((int)SAE_COUNTOF(small) * N_CLASSES)
static const uint32_t some_features[] = {0, 3, 0, 14, 1}; /* below F: query_of */

static struct sae_query query_of(int form, const struct sae_dict *d)
{
    struct sae_query q = {.op = form == FORM_FORWARD ? SAE_OP_FORWARD : SAE_OP_ENCODE,
                          .want_f = true,
                          .form = form == FORM_TOP                              ? SAE_FORM_TOP
                                  : form == FORM_SPARSE || form == FORM_FORWARD ? SAE_FORM_SPARSE
                                                                                : SAE_FORM_DENSE};

    q.top_k = form == FORM_TOP ? 7 : 0;
    q.want_aux = form == FORM_DENSE && sae_formula_unit(&d->formula)->aux_name;
    if (form == FORM_FEATURES) {
        q.has_features = true;
        q.features = some_features;
        q.n_features = d->formula.F >= 15 ? SAE_COUNTOF(some_features) : 1;
    }
    return q;
}

/* Row `kind` of N_KINDS. */
static void fill_row(int kind, float *x, size_t d, uint64_t *random)
{
    static const float scale[N_KINDS] = {1, 1, 1, 1, 1, 1, 1e-40f, 1, 1, 1, 1e30f, 1e-30f, 1e20f};

    for (size_t k = 0; k < d; k++)
        x[k] = dicts_normal(random) * scale[kind];
    switch (kind) {
    case 2: /* outlier dimensions */
        for (size_t k = 1; k < d; k += d / 3 + 1)
            x[k] *= 300;
        break;
    case 3:
        x[d / 2] *= 1000;
        break;
    case 4:
        for (size_t k = 0; k < d; k++)
            x[k] = 1.5f;
        break;
    case 5:
        for (size_t k = 0; k < d; k++)
            x[k] = k % 2 ? 0.0f : -0.0f;
        break;
    case 7:
        x[d / 3] = NAN;
        break;
    case 8:
        x[d - 1] = INFINITY;
        break;
    case 9:
        x[0] = -INFINITY;
        x[d - 1] = d > 1 ? INFINITY : -INFINITY;
        break;
    default:
        break;
    }
}

/* Few features on, and weights of every kind: rows of denormals, zeros of both signs, large. */
static struct sae_dict *make_dict(const char *class_name, size_t d, size_t F, uint64_t seed)
{
    struct sae_dict *dict = dicts_make(class_name, d, F, seed);
    float *bias = sae_dict_array(dict, SAE_ROLE_GATE_BIAS)
                      ? sae_dict_array(dict, SAE_ROLE_GATE_BIAS)
                      : sae_dict_array(dict, SAE_ROLE_ENC_BIAS);

    for (size_t j = 0; j < F; j++) {
        float *w = dict->enc.f32 + j * d;

        bias[j] = (float)(-2.3 * sae_dict_norm(w, d)) * (j % 7 == 0 ? 0.3f : 1.0f);
        for (size_t k = 0; k < d; k++) {
            if (j % 97 == 5)
                w[k] *= 1e-39f;
            if (j % 97 == 9)
                w[k] *= 1e6f;
            if ((j + k) % 41 == 3)
                w[k] = k % 2 ? 0.0f : -0.0f;
        }
    }
    return dict;
}

/* How its matrices are kept: as they are, or in 16 bits. */
static const struct sae_storage storages[] = {
    {SAE_DTYPE_F32, SAE_DTYPE_F32, false},  {SAE_DTYPE_BF16, SAE_DTYPE_BF16, false},
    {SAE_DTYPE_F16, SAE_DTYPE_F16, false},  {SAE_DTYPE_BF16, SAE_DTYPE_F32, false},
    {SAE_DTYPE_F16, SAE_DTYPE_BF16, false}, {SAE_DTYPE_F16, SAE_DTYPE_F16, true},
};
#define N_STORAGES ((int)SAE_COUNTOF(storages))

static bool same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sae_f32_bits(a[i]) != sae_f32_bits(b[i]) && !(isnan(a[i]) && isnan(b[i])))
            return false;
    return true;
}

static bool same_lists(const struct sae_sparse_row *a, const struct sae_sparse_row *b)
{
    return a->n == b->n && (a->n == 0 || (memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0 &&
                                          same(a->values, b->values, a->n)));
}

/* Row `row` of t has the answer of row `kind` of the lone task. */
static bool same_answer(const struct sae_task *t, size_t row, const struct sae_task *alone,
                        size_t kind)
{
    size_t d = t->dict->formula.d_in, w = t->width;

    if (t->failed)
        return false;
    if (t->f && !same(t->f + row * w, alone->f + kind * w, w))
        return false;
    if (t->aux && !same(t->aux + row * w, alone->aux + kind * w, w))
        return false;
    if (t->f_rows && !same_lists(&t->f_rows[row], &alone->f_rows[kind]))
        return false;
    return !t->x_hat || same(t->x_hat + row * d, alone->x_hat + kind * d, d);
}

struct rig {
    struct sae_engine *e;
    struct sae_batch *b;
    struct sae_scratch *s[N_THREADS];
};

static void rig_open(struct rig *g, enum sae_isa isa, bool by_interval, struct sae_dict *dict)
{
    g->e = batches_native(isa, dict);
    ck_assert_ptr_nonnull(g->e);
    batches_only(by_interval ? BATCHES_BY_INTERVAL : BATCHES_BY_THRESHOLD, dict);
    ck_assert_int_eq(sae_batch_create(&g->b, g->e, dicts_capacity(dict, MAX_ROWS), NULL), SAE_OK);
    for (size_t i = 0; i < N_THREADS; i++)
        ck_assert_int_eq(sae_scratch_create(&g->s[i], g->e, dicts_capacity(dict, MAX_ROWS), NULL),
                         SAE_OK);
}

static void rig_close(struct rig *g, struct sae_dict *dict)
{
    for (size_t i = 0; i < N_THREADS; i++)
        sae_scratch_free(g->s[i]);
    sae_batch_free(g->b);
    batches_end(g->e, dict);
}

/* Every kind of row alone, in every form, by the scalar kernels: equal to ref.c. */
static void run_alone(struct sae_dict *dict, const float *x, struct sae_task alone[N_FORMS])
{
    struct rig g;

    rig_open(&g, SAE_ISA_SCALAR, false, dict);
    batches_remember(dict, x, N_KINDS);
    for (int form = 0; form < N_FORMS; form++) {
        struct sae_task *t = &alone[form];

        *t = (struct sae_task){.dict = dict, .n_rows = N_KINDS, .x = x};
        t->query = query_of(form, dict);
        ck_assert_int_eq(sae_task_prepare(t, NULL), SAE_OK);
        for (size_t r = 0; r < N_KINDS; r++)
            batches_run(g.b, g.s[0], dict, SAE_SIDE_ENCODE,
                        &(struct sae_slice){.task = t, .row0 = r, .n_rows = 1}, 1);
        batches_check(t, true, true, "alone");
    }
    batches_remember(NULL, NULL, 0);
    rig_close(&g, dict);
}

/* Tasks of rows drawn from the kinds, cut into batches at random. */
static void run_in_company(const struct rig *g, size_t n_threads, struct sae_dict *dict,
                           const float *x, const struct sae_task alone[N_FORMS], uint64_t seed,
                           const char *label)
{
    struct sae_task tasks[N_TASKS];
    int forms[N_TASKS], kinds[N_TASKS][8];
    size_t n_tasks = dict->formula.F * dict->formula.d_in > 100000 ? N_TASKS / 2 : N_TASKS;
    uint64_t random = seed;

    for (size_t i = 0; i < n_tasks; i++) {
        size_t n = 1 + dicts_random(&random) % 8;
        float *rows = sae_alloc(n * dict->formula.d_in, sizeof *rows);

        forms[i] = (int)(dicts_random(&random) % N_FORMS);
        for (size_t r = 0; r < n; r++) {
            kinds[i][r] = (int)(dicts_random(&random) % N_KINDS);
            memcpy(rows + r * dict->formula.d_in, x + (size_t)kinds[i][r] * dict->formula.d_in,
                   dict->formula.d_in * sizeof *rows);
        }
        tasks[i] = (struct sae_task){.dict = dict, .n_rows = n, .x = rows};
        tasks[i].query = query_of(forms[i], dict);
        ck_assert_int_eq(sae_task_prepare(&tasks[i], NULL), SAE_OK);
    }
    batches_run_all_crew(g->b, g->s, n_threads, dict, SAE_SIDE_ENCODE, tasks, n_tasks,
                         1 + seed * 23 % MAX_ROWS, seed);
    for (size_t i = 0; i < n_tasks; i++) {
        for (size_t r = 0; r < tasks[i].n_rows; r++)
            if (!same_answer(&tasks[i], r, &alone[forms[i]], (size_t)kinds[i][r]))
                ck_abort_msg("%s: form %d of row kind %d differs from its answer alone", label,
                             forms[i], kinds[i][r]);
        sae_task_fini(&tasks[i]);
        sae_free((float *)tasks[i].x);
    }
}

START_TEST(rows_keep_their_bits_in_any_company)
{
    bool is_small = _i < N_SMALL;
    size_t d = is_small ? small[_i / N_CLASSES].d : large[_i - N_SMALL].d;
    size_t F = is_small ? small[_i / N_CLASSES].F : large[_i - N_SMALL].F;
    struct sae_dict *dict = dicts_kept_take(make_dict(classes[_i % N_CLASSES], d, F, (uint64_t)_i),
                                            &storages[_i % N_STORAGES]);
    struct sae_task alone[N_FORMS];
    float *x = sae_alloc(N_KINDS * d, sizeof *x);
    uint64_t random = (uint64_t)_i;
    char label[128];

    for (int kind = 0; kind < N_KINDS; kind++)
        fill_row(kind, x + (size_t)kind * d, d, &random);
    run_alone(dict, x, alone);
    for (int i = 0; i < 2 * SAE_N_ISAS; i++) {
        enum sae_isa isa = (enum sae_isa)(i / 2);
        struct rig g;

        if (!sae_cpu_has(isa)) {
            printf("SKIP: this CPU has no %s\n", sae_isa_name(isa));
            continue;
        }
        rig_open(&g, isa, i % 2, dict);
        for (size_t n_threads = 1; n_threads <= N_THREADS; n_threads++) {
            snprintf(label, sizeof label, "%s %zux%zu, %s, %s, %zu threads", dict->layout->name, d,
                     F, sae_isa_name(isa), i % 2 ? "intervals" : "thresholds", n_threads);
            run_in_company(&g, n_threads, dict, x, alone, (uint64_t)i * 2 + n_threads, label);
        }
        rig_close(&g, dict);
    }
    for (int form = 0; form < N_FORMS; form++)
        sae_task_fini(&alone[form]);
    sae_free(x);
    sae_dict_free(dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("company");
    TCase *t = tcase_create("company");
    SRunner *r = srunner_create(s);
    int n = N_SMALL + (int)SAE_COUNTOF(large), failed;

    tcase_set_timeout(t, 600);
    if (getenv("SAED_FULL_SHAPES"))
        tcase_add_loop_test(t, rows_keep_their_bits_in_any_company, n - N_FULL, n);
    else
        tcase_add_loop_test(t, rows_keep_their_bits_in_any_company, 0, n - N_FULL);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
