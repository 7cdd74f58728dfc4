/* test_rows.c - the shared kernels: every instruction set gives the bits of the scalar ones, and
 * those the bits of ref.c. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/kern/kern.h"
#include "lib/num.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    enum sae_isa isa;
    const struct sae_kern *kern;
} sets[] = {{SAE_ISA_SCALAR, &sae_kern_scalar},
            {SAE_ISA_AVX2, &sae_kern_avx2},
            {SAE_ISA_AVX512, &sae_kern_avx512}};

static const size_t lengths[] = {0,  1,  2,  7,  8,   9,   15,  16,  17,  31,  32,  33,
                                 63, 64, 95, 96, 100, 127, 256, 257, 350, 767, 768, 1024};

/* Kernel set _i / number of lengths, NULL when this CPU cannot run it. */
static const struct sae_kern *kern_of(int i, size_t *n)
{
    size_t set = (size_t)i / SAE_COUNTOF(lengths);

    *n = lengths[(size_t)i % SAE_COUNTOF(lengths)];
    if (sae_cpu_has(sets[set].isa))
        return sets[set].kern;
    printf("SKIP: this CPU has no %s\n", sets[set].kern->name);
    return NULL;
}

static bool same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sae_f32_bits(a[i]) != sae_f32_bits(b[i]) && !(isnan(a[i]) && isnan(b[i])))
            return false;
    return true;
}

/* Values with everything in them: zeros of both signs, denormals, huge ones, at times not finite.
 */
static float *values(size_t n, bool finite, uint64_t seed)
{
    static const float odd[] = {0.0f,   -0.0f, 1e-42f,   -1e-42f,  1e30f,
                                -1e30f, NAN,   INFINITY, -INFINITY};
    float *v = malloc((n + 1) * sizeof *v); /* exact size: a sanitizer sees a read past the end */
    uint64_t random = seed;

    ck_assert_ptr_nonnull(v);
    for (size_t i = 0; i < n; i++)
        v[i] = dicts_random(&random) % 4 ? dicts_normal(&random)
                                         : odd[dicts_random(&random) % (finite ? 6 : 9)];
    return v;
}

START_TEST(dot_is_canonical)
{
    size_t n;
    const struct sae_kern *k = kern_of(_i, &n);

    for (uint64_t seed = 1; k && seed < 30; seed++) {
        float *x = values(n, seed % 3 != 0, seed), *v[4], out[4], want[4];
        const float *w[4];

        for (size_t i = 0; i < 4; i++) {
            w[i] = v[i] = values(n, true, 1000 * seed + i);
            want[i] = sae_ref_dot(x, v[i], n);
        }
        k->dot4(x, w, n, out);
        ck_assert_msg(same(out, want, 4), "%s dot of %zu", k->name, n);
        for (size_t i = 0; i < 4; i++)
            free(v[i]);
        free(x);
    }
}
END_TEST

/* F rows of n weights of the dtype, owned (free); exact size, as values. */
static struct sae_matrix matrix(enum sae_dtype t, size_t F, size_t n, uint64_t seed)
{
    struct sae_matrix m = {.dtype = t, .width = n};
    uint64_t random = seed;

    if (t == SAE_DTYPE_F32) {
        m.f32 = values(F * n, true, seed);
        return m;
    }
    m.bits = malloc(F * n * sizeof *m.bits + 1);
    for (size_t i = 0; i < F * n; i++) /* any bits that are finite, subnormals among them */
        m.bits[i] = (uint16_t)(dicts_random(&random) & (i % 5 ? 0xbfff : 0x807f));
    return m;
}

START_TEST(rows_are_widened)
{
    size_t n;
    const struct sae_kern *k = kern_of(_i, &n);

    for (int t = SAE_DTYPE_F16; k && t <= SAE_DTYPE_BF16; t++) {
        struct sae_matrix m = matrix((enum sae_dtype)t, 3, n, 7);
        float *row = malloc((n + 1) * sizeof *row);

        row[n] = 42.0f;
        k->widen(&m, 2, row);
        for (size_t i = 0; i < n; i++)
            ck_assert_uint_eq(sae_f32_bits(row[i]), sae_f32_bits(sae_matrix_value(&m, 2, i)));
        ck_assert(row[n] == 42.0f);
        free(row);
        free(m.values);
    }
}
END_TEST

START_TEST(decode_is_canonical)
{
    enum { F = 60 };
    size_t n;
    const struct sae_kern *k = kern_of(_i, &n);
    struct sae_dict d = {.formula = {.F = F, .d_in = n, .d_out = n}};

    for (uint64_t seed = 1; k && seed < 10; seed++) {
        float *f = values(F, seed % 3 != 0, seed + 50);
        float *bias = values(n, true, seed + 100), *y = malloc((n + 1) * sizeof *y);
        float *want = malloc((n + 1) * sizeof *want), list[F];
        uint32_t ids[F];
        size_t m = 0;

        for (size_t j = 0; j < F; j++) {
            if (j % seed != 0)
                f[j] = 0.0f;
            if (f[j] == 0.0f)
                continue;
            ids[m] = (uint32_t)j;
            list[m++] = f[j];
        }
        d.dec = matrix((enum sae_dtype)(seed % 3), F, n, seed); /* F32, F16, BF16 */
        d.dec_bias = bias;
        for (int b = 0; b < 2; b++) {
            y[n] = 42.0f;
            sae_ref_decode(&d, f, b, want);
            k->decode(y, &d.dec, 0, n, ids, list, m, b ? bias : NULL);
            ck_assert_msg(same(y, want, n), "%s decode of %zu columns", k->name, n);
            ck_assert(y[n] == 42.0f);
        }
        /* a part of the columns: the row stride stays */
        if (n > 5) {
            k->decode(y, &d.dec, 3, n - 5, ids, list, m, bias + 3);
            sae_ref_decode(&d, f, true, want);
            ck_assert(same(y, want + 3, n - 5));
        }
        free(d.dec.values);
        free(f);
        free(bias);
        free(y);
        free(want);
    }
}
END_TEST

START_TEST(positions_are_found)
{
    size_t n;
    const struct sae_kern *k = kern_of(_i, &n);
    uint32_t pos[1024 + SAE_KERN_SLACK], want[1024];

    for (uint64_t seed = 1; k && seed < 20; seed++) {
        float *f = values(n, false, seed), *g = values(n, false, seed + 1),
              *h = values(n, false, seed + 2);
        uint32_t *key = malloc((n + 1) * sizeof *key);

        for (int with = 0; with < 4; with++) {
            const float *gg = with & 1 ? g : NULL, *hh = with & 2 ? h : NULL;
            size_t m = 0;

            for (size_t i = 0; i < n; i++)
                if (f[i] != 0.0f || (gg && gg[i] != 0.0f) || (hh && hh[i] != 0.0f))
                    want[m++] = (uint32_t)i;
            ck_assert_uint_eq(k->nonzero(f, gg, hh, n, pos), m);
            ck_assert(memcmp(pos, want, m * sizeof *pos) == 0);
        }
        k->order(f, key, n);
        for (uint32_t floor = 0, step = 0; step < 5; step++) {
            size_t m = 0;

            floor = step == 4 ? UINT32_MAX : n ? key[step % n] : step;
            for (size_t i = 0; i < n; i++)
                if (key[i] >= floor)
                    want[m++] = (uint32_t)i;
            ck_assert_uint_eq(k->at_least(key, floor, n, pos), m);
            ck_assert(memcmp(pos, want, m * sizeof *pos) == 0);
        }
        free(f);
        free(g);
        free(h);
        free(key);
    }
}
END_TEST

START_TEST(order_ascends_with_the_value)
{
    static const float up[] = {-INFINITY, -1e30f, -1.0f, -1e-45f,  0.0f,
                               1e-45f,    1.0f,   1e30f, INFINITY, NAN};
    uint32_t key[SAE_COUNTOF(up)];

    for (size_t s = 0; s < SAE_COUNTOF(sets); s++) {
        if (!sae_cpu_has(sets[s].isa))
            continue;
        sets[s].kern->order(up, key, SAE_COUNTOF(up));
        for (size_t i = 1; i < SAE_COUNTOF(up); i++)
            ck_assert_uint_lt(key[i - 1], key[i]);
    }
}
END_TEST

static int descending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x < y) - (x > y);
}

/* Ascending, descending, constant, few distinct values, random, the ends of the range. */
START_TEST(kth_largest_equals_a_sort)
{
    enum { N_KINDS = 6 };
    size_t n;
    const struct sae_kern *k = kern_of(_i, &n);
    uint64_t random = (uint64_t)_i + 1;

    for (int kind = 0; k && n && kind < N_KINDS; kind++) {
        uint32_t *key = malloc(n * sizeof *key), *sorted = malloc(n * sizeof *sorted);

        for (size_t i = 0; i < n; i++) {
            uint32_t v = (uint32_t)dicts_random(&random), at = (uint32_t)i;

            key[i] = kind == 0   ? at
                     : kind == 1 ? (uint32_t)n - at
                     : kind == 2 ? 7
                     : kind == 3 ? v % 4
                     : kind == 4 ? v
                                 : (v & 1 ? UINT32_MAX : 0) + (v & 2 ? 1 : 0);
        }
        memcpy(sorted, key, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, descending);
        for (size_t rank = 1; rank <= n; rank += n < 100 || rank > n - 3 ? 1 : 1 + rank / 3)
            ck_assert_uint_eq(k->kth_largest(key, n, rank), sorted[rank - 1]);
        free(key);
        free(sorted);
    }
}
END_TEST

/* Loops of input and output, and their sums in double. */
static void check_scalings(const struct sae_kern *k, const float *p, const float *b, size_t n)
{
    const float c = 0.7f, mu = -1.3f;
    float got[5][1025], want[5][1025];

    for (size_t i = 1; i <= 3; i++)
        memcpy(got[i], p, n * sizeof *p);
    k->scale(p, c, got[0], n);
    k->divide(got[1], c, n);
    k->restore(got[2], mu, c, n);
    k->less(got[3], b, n);
    k->normalise(p, mu, c, got[4], n);
    for (size_t j = 0; j < n; j++) {
        float t = p[j] * c, u = p[j] - mu;

        want[0][j] = t;
        want[1][j] = p[j] / c;
        want[2][j] = t + mu;
        want[3][j] = p[j] - b[j];
        want[4][j] = u / c;
    }
    for (size_t i = 0; i < 5; i++)
        ck_assert_msg(same(got[i], want[i], n), "%s loop %zu", k->name, i);
    double sum = k->sum(p, n), squares = k->squares(p, 0.3, n);
    double want_sum = sae_ref_sum(p, n), want_squares = sae_ref_squares(p, 0.3, n);

    ck_assert(sum == want_sum || (isnan(sum) && isnan(want_sum)));
    ck_assert(squares == want_squares || (isnan(squares) && isnan(want_squares)));
}

/* Loops of the scores: what units of h make of h norm, and of h again where that is on. */
static void check_scores(const struct sae_kern *k, const float *p, const float *const param[],
                         float *norm, size_t n)
{
    float t[1025], want_t[1025], want_f[1025];

    for (size_t i = 0; i < n; i++)
        norm[i] = i % 7 ? fabsf(norm[i]) : 0.0f;
    for (size_t unit = 0; unit < SAE_N_UNITS; unit++) {
        const struct sae_unit *u = &sae_units[unit];

        ck_assert_int_eq(u->of_h != NULL, k->score[unit] != NULL);
        if (!u->of_h)
            continue;
        for (size_t j = 0; j < n; j++) {
            float own[] = {param[0][j], param[1][j]}, h = p[j] + own[0], v = h * norm[j];

            want_t[j] = norm[j] == 0.0f ? 0.0f : u->of_h(v, own, v) + 0.0f;
            want_f[j] = want_t[j] != 0.0f ? u->of_h(v, own, h) + 0.0f : 0.0f;
        }
        k->score[unit](p, param, norm, t, n);
        ck_assert_msg(same(t, want_t, n), "%s score of %s", k->name, u->name);
        k->unscore(p, param[0], t, n);
        ck_assert_msg(same(t, want_f, n), "%s f of %s by its score", k->name, u->name);
    }
}

/* The loops of the units, against their rows of the table. */
START_TEST(units_equal_the_reference)
{
    size_t n;
    const struct sae_kern *k = kern_of(_i, &n);
    float f[1025], aux[1025], want_f[1025], want_aux[1025];

    for (uint64_t seed = 1; k && seed < 10; seed++) {
        float *p = values(n, seed % 2, seed), *v[SAE_MAX_PARAMS];

        for (size_t i = 0; i < SAE_MAX_PARAMS; i++)
            v[i] = values(n, true, seed * 10 + i);
        for (size_t i = 0; i < n; i += 5)
            v[0][i] = -p[i]; /* exactly at the threshold */
        for (size_t unit = 0; unit < SAE_N_UNITS; unit++) {
            const struct sae_unit *u = &sae_units[unit];
            const float *const param[SAE_MAX_PARAMS] = {v[0], v[1], v[2]};

            for (size_t j = 0; j < n; j++)
                want_f[j] = u->value(p[j], (float[]){v[0][j], v[1][j], v[2][j]}, &want_aux[j]);
            for (int with_aux = 0; with_aux < 2; with_aux++) {
                k->unit[unit](p, param, f, with_aux ? aux : NULL, n);
                ck_assert_msg(same(f, want_f, n), "%s unit %s", k->name, u->name);
                if (with_aux && u->aux_name)
                    ck_assert_msg(same(aux, want_aux, n), "%s unit %s aux", k->name, u->name);
            }
        }
        check_scores(k, p, (const float *const[]){v[0], v[1], NULL}, v[2], n);
        k->mul(p, v[0], f, n);
        k->sub(p, v[1], aux, n);
        for (size_t j = 0; j < n; j++) {
            want_f[j] = p[j] * v[0][j];
            want_aux[j] = p[j] - v[1][j];
        }
        ck_assert(same(f, want_f, n) && same(aux, want_aux, n));
        check_scalings(k, p, v[0], n);
        free(p);
        for (size_t i = 0; i < SAE_MAX_PARAMS; i++)
            free(v[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kern/rows");
    TCase *t = tcase_create("rows");
    SRunner *r = srunner_create(s);
    int n = (int)(SAE_COUNTOF(sets) * SAE_COUNTOF(lengths));

    tcase_add_loop_test(t, dot_is_canonical, 0, n);
    tcase_add_loop_test(t, rows_are_widened, 0, n);
    tcase_add_loop_test(t, decode_is_canonical, 0, n);
    tcase_add_loop_test(t, positions_are_found, 0, n);
    tcase_add_test(t, order_ascends_with_the_value);
    tcase_add_loop_test(t, kth_largest_equals_a_sort, 0,
                        (int)(SAE_COUNTOF(sets) * SAE_COUNTOF(lengths)));
    tcase_add_loop_test(t, units_equal_the_reference, 0, n);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
