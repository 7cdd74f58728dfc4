/* test_dense.c - dense and pair kernels against lib/dict/ref.c, the decode kernel against its
 * chains, bit for bit, with weights of each form, on every instruction set that this CPU has. */
#include "lib/cpu.h"
#include "lib/dict/ref.h"
#include "lib/engine/kern/dense.h"
#include "lib/num.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    enum sae_isa isa;
    sae_dense_fn *dense;
    sae_pairs_fn *pairs;
    sae_decode_fn *decode;
} kernels[] = {
    {SAE_ISA_SCALAR, sae_dense_f32_1x1__scalar, sae_pairs_f32__scalar, sae_decode_f32_1x1__scalar},
    {SAE_ISA_AVX2, sae_dense_f32_2x3__avx2, sae_pairs_f32__avx2, sae_decode_f32_6x2__avx2},
    {SAE_ISA_AVX512, sae_dense_f32_4x6__avx512, sae_pairs_f32__avx512, sae_decode_f32_6x4__avx512},
};
static const size_t widths[] = {1, 7, 15, 16, 17, 33, 767, 768, 769, 1536, 1551, 4097};
static const size_t features[] = {1, 15, 20};

static uint64_t seed;

/* Rows of a batch: all up to 70 where that is cheap, else the edges of the kernels' tiles. */
static size_t next_count(size_t n, size_t d)
{
    return d <= 33 || n < 5 ? n + 1 : n < 9 ? 9 : n < 70 ? 70 : 71;
}

enum oddity { PLAIN, ODD_BUT_FINITE, ODD };

/* Normal-ish numbers, now and then one that is not: zeros of both signs, denormals, huge ones, and
 * what is not finite (in rows alone: a weight that is not finite is refused at load). */
static float number(enum oddity odd)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    uint32_t u = (uint32_t)(seed >> 33);
    static const float odds[] = {0.0f, -0.0f, 1e-42f, -3e-39f, 1e30f, INFINITY, -INFINITY, NAN};
    uint32_t n_odds = odd == ODD ? 8 : 5;

    if (odd && u % 97 == 0)
        return odds[u / 97 % n_odds];
    return ((float)(u % 20001) - 10000.0f) * 0x1p-11f;
}

/* n weights of the dtype, as it has them, into m, and as f32 into `wide`. */
static void weights(struct sae_matrix *m, size_t n, enum oddity odd, float *wide)
{
    for (size_t i = 0; i < n; i++) {
        float v = number(odd);
        uint32_t u = sae_f32_bits(v);

        if (m->dtype == SAE_DTYPE_BF16)
            m->bits[i] = (uint16_t)(u >> 16);
        if (m->dtype == SAE_DTYPE_F16) /* of the middle of its range; what is odd at its ends */
            m->bits[i] = (uint16_t)(u >> 16 & 0x8000) |
                         (uint16_t)(fabsf(v) > 100.0f   ? 0x7bff
                                    : fabsf(v) < 1e-30f ? u & 0x3ff
                                                        : 0x2800 | (u >> 8 & 0x1fff));
        if (m->dtype == SAE_DTYPE_F32)
            m->f32[i] = v;
    }
    sae_dtype_to_f32(m->dtype, m->values, wide, n);
}

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || sae_f32_bits(a) == sae_f32_bits(b);
}

START_TEST(equals_the_reference)
{
    const enum sae_dtype t = (enum sae_dtype)(_i % 3); /* F32, F16, BF16 */
    size_t k = (size_t)_i / 3 % SAE_COUNTOF(kernels);
    size_t d = widths[(size_t)_i / 3 / SAE_COUNTOF(kernels)], ld = (d + 15) & ~(size_t)15;

    if (!sae_cpu_has(kernels[k].isa)) {
        printf("SKIP: this CPU has no %s\n", sae_isa_name(kernels[k].isa));
        return;
    }
    for (size_t n = 1; n <= 70; n = next_count(n, d))
        for (int odd = 0; odd < 2; odd++) {
            size_t F = features[(n + (size_t)odd) % SAE_COUNTOF(features)];
            float *x = sae_alloc(n * ld, sizeof *x), *w = malloc(F * d * sizeof *w);
            float *p = malloc(n * (F + 3) * sizeof *p);
            float *s = sae_alloc(sae_dense_scratch_floats(n, d), sizeof *s);
            struct sae_matrix m = {
                .dtype = t, .width = d, .values = malloc(F * d * sae_dtype_bytes(t))};
            const float *xs[64], *rows[70];
            uint32_t ids[64];
            float out[64];

            seed = d * 1000 + n;
            for (size_t i = 0; i < n * ld; i++)
                x[i] = i % ld < d ? number(odd ? ODD : PLAIN) : 0.0f;
            weights(&m, F * d, odd ? ODD_BUT_FINITE : PLAIN, w);
            for (size_t r = 0; r < n; r++)
                rows[r] = x + r * ld;
            kernels[k].dense(rows, n, &m, 0, F, p, F + 3, s);
            for (size_t r = 0; r < n; r++)
                for (size_t j = 0; j < F; j++) {
                    float want = sae_ref_dot(x + r * ld, w + j * d, d);

                    if (!same(p[r * (F + 3) + j], want)) /* an assert for each is slow */
                        ck_abort_msg("d %zu n %zu row %zu feature %zu: %a, %a", d, n, r, j,
                                     (double)p[r * (F + 3) + j], (double)want);
                }
            for (size_t i = 0; i < 7; i++) {
                xs[i] = x + i * 5 % n * ld;
                ids[i] = (uint32_t)(i * 3 % F);
            }
            kernels[k].pairs(xs, &m, ids, 7, out);
            for (size_t i = 0; i < 7; i++)
                ck_assert(same(out[i], sae_ref_dot(xs[i], w + ids[i] * d, d)));
            sae_free(s);
            free(p);
            free(m.values);
            free(w);
            sae_free(x);
        }
}
END_TEST

/* Every column count up to two strips and a tail; any weights; nothing read behind the last one. */
START_TEST(decode_is_a_chain)
{
    static const size_t counts[] = {1, 2, 3, 4, 5, 9, 70};
    static const size_t n_features[] = {1, 63, 64, 65, 200};
    const enum sae_dtype t = (enum sae_dtype)(_i % 3);
    size_t k = (size_t)_i / 3;

    if (!sae_cpu_has(kernels[k].isa)) {
        printf("SKIP: this CPU has no %s\n", sae_isa_name(kernels[k].isa));
        return;
    }
    for (size_t d = 1; d <= 150; d += d < 70 ? 3 : 20)
        for (size_t c = 0; c < SAE_COUNTOF(counts) * SAE_COUNTOF(n_features); c++) {
            size_t n = counts[c % SAE_COUNTOF(counts)], F = n_features[c / SAE_COUNTOF(counts)];
            size_t ldy = (d + 15) & ~(size_t)15;
            float *f = malloc(n * F * sizeof *f), *w = malloc(F * d * sizeof *w);
            float *y = sae_alloc(n * ldy, sizeof *y);
            struct sae_matrix m = {
                .dtype = t, .width = d, .values = malloc(F * d * sae_dtype_bytes(t))};
            const float *rows[70];

            seed = d * 1000 + n;
            for (size_t i = 0; i < n * F; i++)
                f[i] = number(i / F % 3 == 1);
            weights(&m, F * d, d % 2 ? ODD_BUT_FINITE : PLAIN, w);
            for (size_t i = 0; i < n * ldy; i++)
                y[i] = 0.0f;
            for (size_t r = 0; r < n; r++)
                rows[r] = f + r * F;
            if (F > 128) { /* in two calls, the first of which knows of the second */
                kernels[k].decode(rows, n, &m, 0, 100, 0, d, true, y, ldy);
                for (size_t r = 0; r < n; r++)
                    rows[r] += 100;
                kernels[k].decode(rows, n, &m, 100, F - 100, 0, d, false, y, ldy);
            } else {
                kernels[k].decode(rows, n, &m, 0, F, 0, d, false, y, ldy);
            }
            for (size_t r = 0; r < n; r++)
                for (size_t i = 0; i < d; i++) {
                    float want = 0.0f;

                    for (size_t j = 0; j < F; j++)
                        want = fmaf(f[r * F + j], w[j * d + i], want);
                    if (!same(y[r * ldy + i], want))
                        ck_abort_msg("d %zu n %zu F %zu: row %zu, %zu", d, n, F, r, i);
                }
            sae_free(y);
            free(m.values);
            free(w);
            free(f);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dense");
    TCase *t = tcase_create("dense");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, equals_the_reference, 0,
                        3 * (int)(SAE_COUNTOF(kernels) * SAE_COUNTOF(widths)));
    tcase_add_loop_test(t, decode_is_a_chain, 0, 3 * (int)SAE_COUNTOF(kernels));
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
