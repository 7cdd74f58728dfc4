/* test_golden.c - ref.c against PyTorch's answers, and both against the formulae in f64.
 *
 * The fixtures are PyTorch 1.13's (make_golden.py). Weights come from the .gold file through the
 * test-only path of golden.h, and once more from the .pt file through the loader, which must give
 * the same bits whatever dtype and strides the file has. */
#include "lib/dict/ref.h"
#include "lib/num.h"
#include "tests/support/dicts.h"
#include "tests/support/golden.h"
#include "tests/support/tolerance.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct golden *g;
    struct sae_dict *d;
    float *f, *aux, *x_hat; /* one row of each */
};

static void setup(struct fixture *s, int i)
{
    s->g = golden_load((size_t)i);
    ck_assert_ptr_nonnull(s->g);
    s->d = golden_dict(s->g);
    s->f = sae_alloc(s->g->F, sizeof(float));
    s->aux = sae_alloc(s->g->F, sizeof(float));
    s->x_hat = sae_alloc(s->g->d, sizeof(float));
    ck_assert(s->f && s->aux && s->x_hat);
}

static void teardown(struct fixture *s)
{
    sae_free(s->f);
    sae_free(s->aux);
    sae_free(s->x_hat);
    sae_dict_free(s->d);
    golden_free(s->g);
}

/* Row r of an array of the case, which must have it. */
static const float *row(const struct golden *g, const char *name, size_t r)
{
    const struct golden_array *a = golden_array(g, name);

    ck_assert_msg(a != NULL && a->ndim == 2 && r < a->dim[0], "%s: no row %zu of %s", g->name, r,
                  name);
    return a->v + r * a->dim[1];
}

/* Ours and PyTorch's, each against the truth. */
static void both_near(const struct golden *g, const struct tol *t, const float *ours,
                      const float *torchs, const char *what, size_t r)
{
    char label[160];

    snprintf(label, sizeof label, "%s row %zu: our %s", g->name, r, what);
    ck_assert_tol(t, ours, label);
    snprintf(label, sizeof label, "%s row %zu: PyTorch's %s", g->name, r, what);
    ck_assert_tol(t, torchs, label);
}

static void off_is_plus_zero(const struct golden *g, const float *v, size_t n)
{
    for (size_t j = 0; j < n; j++)
        ck_assert_msg(v[j] != 0.0f || !signbit(v[j]), "%s: feature %zu is -0", g->name, j);
}

START_TEST(encode_is_pytorchs)
{
    struct fixture s;
    struct tol f, aux, scaled;

    setup(&s, _i);
    for (size_t r = 0; r < s.g->n_rows; r++) {
        const float *x = row(s.g, "x", r);

        sae_ref_encode(s.d, x, s.f, s.aux);
        tol_encode(s.d, x, false, &f, &aux);
        tol_encode(s.d, x, true, &scaled, NULL);
        both_near(s.g, &f, s.f, row(s.g, "f", r), "f", r);
        if (s.d->info.aux_name)
            both_near(s.g, &aux, s.aux, row(s.g, "aux", r), s.d->info.aux_name, r);
        if (s.d->layout->unit != SAE_UNIT_IDENTITY)
            off_is_plus_zero(s.g, s.f, s.g->F);
        for (size_t j = 0; s.d->info.scales_forward_f && j < s.g->F; j++)
            s.f[j] *= s.d->dec_norm[j];
        both_near(s.g, s.d->info.scales_forward_f ? &scaled : &f, s.f, row(s.g, "f_fwd", r),
                  "forward's f", r);
        tol_free(&f);
        tol_free(&aux);
        tol_free(&scaled);
    }
    teardown(&s);
}
END_TEST

static void decode_row(struct fixture *s, const float *f, const float *want, const char *what,
                       size_t r)
{
    struct tol t;

    sae_ref_decode(s->d, f, true, s->x_hat);
    tol_decode(s->d, f, NULL, &t);
    both_near(s->g, &t, s->x_hat, want, what, r);
    tol_free(&t);
}

START_TEST(decode_is_pytorchs)
{
    struct fixture s;

    setup(&s, _i);
    for (size_t r = 0; r < s.g->n_rows; r++) /* forward: decode of PyTorch's own f */
        decode_row(&s, row(s.g, "f", r), row(s.g, "x_hat", r), "x_hat", r);
    for (size_t r = 0; r < golden_array(s.g, "dec_f")->dim[0]; r++)
        decode_row(&s, row(s.g, "dec_f", r), row(s.g, "dec_x_hat", r), "decode", r);
    teardown(&s);
}
END_TEST

static void ghost_row(struct fixture *s, const float *mask, const float *want, size_t r)
{
    const float *x = row(s->g, "x", r);
    struct tol t;

    sae_ref_ghost(s->d, x, mask, 1, s->f);
    sae_ref_decode(s->d, s->f, false, s->x_hat);
    tol_ghost(s->d, x, mask, 1, &t);
    both_near(s->g, &t, s->x_hat, want, "x_ghost", r);
    tol_free(&t);
}

START_TEST(ghost_is_pytorchs)
{
    struct fixture s;

    setup(&s, _i);
    for (size_t r = 0; golden_array(s.g, "mask") && r < s.g->n_rows; r++) {
        ghost_row(&s, golden_array(s.g, "mask")->v, row(s.g, "x_ghost", r), r);
        ghost_row(&s, row(s.g, "mask2", r), row(s.g, "x_ghost2", r), r);
    }
    ck_assert_int_eq(golden_array(s.g, "mask") != NULL,
                     strcmp(s.g->class_name, "AutoEncoder") == 0);
    teardown(&s);
}
END_TEST

/* The edge cases are small integers: no rounding, so the answers are equal, not near, and a
 * pre-activation of exactly 0 is off although tolerance.h would let it pass either way. */
START_TEST(edges_are_exact)
{
    struct fixture s;
    size_t n = strlen("_edge"), len;

    setup(&s, _i);
    len = strlen(s.g->name);
    for (size_t r = 0; len > n && strcmp(s.g->name + len - n, "_edge") == 0 && r < s.g->n_finite;
         r++) {
        const float *want = row(s.g, "f", r);

        if (r == 2)
            ck_assert(row(s.g, "x", r)[0] == 1.0f);
        sae_ref_encode(s.d, row(s.g, "x", r), s.f, s.aux);
        for (size_t j = 0; j < s.g->F; j++)
            ck_assert_msg(s.f[j] == want[j], "%s row %zu: f[%zu] = %g, PyTorch has %g", s.g->name,
                          r, j, (double)s.f[j], (double)want[j]);
        for (size_t j = 0; r == 3 && j < s.g->F; j++)
            ck_assert_msg(s.f[j] == 0.0f, "%s: a pre-activation of 0 is on", s.g->name);
    }
    teardown(&s);
}
END_TEST

static void same_bits(const struct golden *g, const char *what, const float *a, const float *b,
                      size_t n)
{
    ck_assert_msg((a == NULL) == (b == NULL), "%s: %s is missing", g->name, what);
    for (size_t i = 0; a && i < n; i++)
        ck_assert_msg(sae_f32_bits(a[i]) == sae_f32_bits(b[i]), "%s: %s[%zu] = %a, want %a",
                      g->name, what, i, (double)a[i], (double)b[i]);
}

/* What info must call the encoder's dtype, by the case's name. */
static const char *stored_dtype(const struct golden *g)
{
    static const char *const names[][2] = {
        {"_f16", "float16"}, {"_bf16", "bfloat16"}, {"_f64", "float64"}, {"_mixed", "bfloat16"}};

    for (size_t i = 0; i < SAE_COUNTOF(names); i++) {
        size_t n = strlen(g->name), m = strlen(names[i][0]);

        if (n > m && strcmp(g->name + n - m, names[i][0]) == 0)
            return names[i][1];
    }
    return "float32";
}

/* Of 16 bits too: as they are widened. */
static void same_matrix(const struct golden *g, const char *what, const struct sae_matrix *got,
                        const float *want)
{
    size_t n = got->values ? g->d * g->F : 0;
    float *wide = malloc((n + 1) * sizeof *wide);

    if (n)
        sae_dtype_to_f32(got->dtype, got->values, wide, n);
    same_bits(g, what, n ? wide : NULL, want, g->d * g->F);
    free(wide);
}

START_TEST(file_gives_the_same_bits)
{
    struct fixture s;
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char source[160];

    setup(&s, _i);
    snprintf(source, sizeof source, "%s", s.g->pt_path);
    if (!source[0])
        snprintf(source, sizeof source, "identity:%zu", s.g->d);
    ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s: %s: %s", source, err.where,
                  err.text);
    ck_assert_str_eq(sae_dict_info(d)->class_name, s.g->class_name);
    ck_assert_uint_eq(sae_dict_info(d)->activation_dim, s.g->d);
    ck_assert_uint_eq(sae_dict_info(d)->dict_size, s.g->F);
    ck_assert_uint_eq(sae_dict_info(d)->bytes, s.d->info.bytes);
    ck_assert_str_eq(sae_dict_info(d)->dtype, stored_dtype(s.g));
    same_matrix(s.g, "enc", &d->enc, s.d->enc.f32);
    same_matrix(s.g, "dec", &d->dec, s.d->dec.f32);
    same_bits(s.g, "centre", d->centre, s.d->centre, s.g->d);
    same_bits(s.g, "dec_bias", d->dec_bias, s.d->dec_bias, s.g->d);
    same_bits(s.g, "enc_bias", sae_dict_array(d, SAE_ROLE_ENC_BIAS),
              sae_dict_array(s.d, SAE_ROLE_ENC_BIAS), s.g->F);
    same_bits(s.g, "r", sae_dict_array(d, SAE_ROLE_R_MAG), sae_dict_array(s.d, SAE_ROLE_R_MAG),
              s.g->F);
    same_bits(s.g, "gate_bias", sae_dict_array(d, SAE_ROLE_GATE_BIAS),
              sae_dict_array(s.d, SAE_ROLE_GATE_BIAS), s.g->F);
    same_bits(s.g, "mag_bias", sae_dict_array(d, SAE_ROLE_MAG_BIAS),
              sae_dict_array(s.d, SAE_ROLE_MAG_BIAS), s.g->F);
    ck_assert_uint_eq(d->formula.top_k, s.d->formula.top_k);
    same_bits(s.g, "threshold", sae_dict_array(d, SAE_ROLE_THRESHOLD),
              sae_dict_array(s.d, SAE_ROLE_THRESHOLD), s.g->F);
    same_bits(s.g, "jump", sae_dict_array(d, SAE_ROLE_JUMP), sae_dict_array(s.d, SAE_ROLE_JUMP),
              s.g->F);
    same_bits(s.g, "dec_norm", d->dec_norm, s.d->dec_norm, s.g->F);
    sae_dict_free(d);
    teardown(&s);
}
END_TEST

/* A check that never fails is none: each formula with one term moved must be noticed. */
START_TEST(tolerance_notices_a_wrong_term)
{
    struct fixture s;
    struct tol t;
    size_t bad, noticed = 0;

    setup(&s, _i);
    for (size_t r = 0; r < 3; r++) {
        sae_ref_encode(s.d, row(s.g, "x", r), s.f, NULL);
        tol_encode(s.d, row(s.g, "x", r), false, &t, NULL);
        for (size_t j = 0; j < s.g->F; j++)
            s.f[j] *= 1.0001f;
        noticed += !tol_check(&t, s.f, &bad);
        tol_free(&t);
        sae_ref_decode(s.d, row(s.g, "dec_f", 0), true, s.x_hat);
        tol_decode(s.d, row(s.g, "dec_f", 0), NULL, &t);
        s.x_hat[0] += 1e-3f * (float)(1.0 + fabs(t.want[0]));
        ck_assert(!tol_check(&t, s.x_hat, &bad) && bad == 0);
        s.x_hat[0] = NAN;
        ck_assert(!tol_check(&t, s.x_hat, &bad));
        s.x_hat[0] = INFINITY;
        ck_assert(!tol_check(&t, s.x_hat, &bad));
        t.want[0] = t.alt[0] = INFINITY;
        ck_assert(tol_near(&t, 0, INFINITY) && !tol_near(&t, 0, -INFINITY) &&
                  !tol_near(&t, 0, FLT_MAX) && !tol_near(&t, 0, NAN));
        t.want[0] = t.alt[0] = NAN;
        ck_assert(tol_near(&t, 0, NAN) && !tol_near(&t, 0, 1.0f));
        tol_free(&t);
    }
    if (s.g->F > 4)
        ck_assert_uint_gt(noticed, 0);
    teardown(&s);
}
END_TEST

START_TEST(there_are_fixtures_of_every_class)
{
    for (size_t a = 0; a < sae_n_classes; a++) {
        size_t n = 0;

        for (size_t i = 0; i < golden_count(); i++) {
            struct golden *g = golden_load(i);

            ck_assert_ptr_nonnull(g);
            n += strcmp(g->class_name, sae_layouts[a].name) == 0;
            golden_free(g);
        }
        ck_assert_msg(n > 0, "no fixture of %s", sae_layouts[a].name);
    }
}
END_TEST

int main(void)
{
    int n = (int)golden_count();
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("golden");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, there_are_fixtures_of_every_class);
    tcase_add_loop_test(t, encode_is_pytorchs, 0, n);
    tcase_add_loop_test(t, decode_is_pytorchs, 0, n);
    tcase_add_loop_test(t, ghost_is_pytorchs, 0, n);
    tcase_add_loop_test(t, edges_are_exact, 0, n);
    tcase_add_loop_test(t, file_gives_the_same_bits, 0, n);
    tcase_add_loop_test(t, tolerance_notices_a_wrong_term, 0, n);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
