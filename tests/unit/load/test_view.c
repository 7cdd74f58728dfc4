/* test_view.c - strided views against the plain definition, over shapes, strides and dtypes. */
#include "lib/load/view.h"
#include "lib/dict/spec.h" /* both had a struct sae_source */
#include "lib/num.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A source over memory that insists on being read to its end, once, in order. */
struct memory {
    const unsigned char *p;
    size_t n, pos, most;
    size_t fail_at; /* the read that reaches this byte fails; SIZE_MAX: none */
};

static enum sae_status next(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    struct memory *m = ctx;

    ck_assert_uint_le(n, m->n - m->pos);
    memcpy(buf, m->p + m->pos, n);
    m->pos += n;
    if (n > m->most)
        m->most = n;
    if (m->pos > m->fail_at)
        return sae_err_set(err, SAE_E_FORMAT, "x", "cannot read: checksum");
    return SAE_OK;
}

/* Element i of every storage: exact in all dtypes, and of a period that no shape here divides. */
static float element(size_t i)
{
    return (float)(i % 251) - 120;
}

static uint16_t f16_bits(float v)
{
    for (uint32_t h = 0; h < 0x10000; h++)
        if (sae_f16_to_f32((uint16_t)h) == v)
            return (uint16_t)h;
    return 0;
}

static unsigned char *storage(enum sae_dtype t, size_t n)
{
    static uint16_t half[251];
    size_t item = sae_dtype_bytes(t);
    unsigned char *p = malloc(n * item + 1);

    if (t == SAE_DTYPE_F16 && !half[0])
        for (size_t i = 0; i < 251; i++)
            half[i] = f16_bits(element(i));
    for (size_t i = 0; i < n; i++) {
        float f = element(i);
        double d = (double)f;
        uint16_t h = t == SAE_DTYPE_F16 ? half[i % 251] : (uint16_t)(sae_f32_bits(f) >> 16);

        memcpy(p + i * item, item == 8 ? (void *)&d : item == 4 ? (void *)&f : (void *)&h, item);
    }
    return p;
}

/* Lines `step` at a time, the last part first, each from its own bytes alone. */
static void check_parts(struct sae_view v, enum sae_dtype as, bool transpose, uint64_t step,
                        const unsigned char *p, const unsigned char *want)
{
    const size_t item = sae_dtype_bytes(v.dtype), n = v.rows * v.cols * sae_dtype_bytes(as);
    const uint64_t lines = sae_view_lines(&v);
    unsigned char *dst = malloc(n + 1);
    struct sae_err err = {0};

    for (uint64_t to = lines, from; to > 0; to = from) {
        uint64_t begin, end;

        from = (to - 1) / step * step;
        begin = sae_view_line_at(&v, from);
        end = sae_view_line_at(&v, to);
        struct memory m = {.p = p + begin * item, .n = (end - begin) * item, .fail_at = SIZE_MAX};
        struct sae_stream src = {next, &m};

        ck_assert_msg(sae_view_read_part(&v, from, to, &src, as, dst, transpose, &err) == SAE_OK,
                      "%s", err.text);
        ck_assert_uint_eq(m.pos, m.n);
    }
    ck_assert(lines == 0 || memcmp(dst, want, n) == 0);
    free(dst);
}

static void check_view_as(struct sae_view v, enum sae_dtype as, bool transpose)
{
    const size_t item = sae_dtype_bytes(as);
    unsigned char *p = storage(v.dtype, v.numel), *dst = malloc(v.rows * v.cols * item + 1);
    struct memory m = {.p = p, .n = v.numel * sae_dtype_bytes(v.dtype), .fail_at = SIZE_MAX};
    struct sae_stream src = {next, &m};
    struct sae_err err = {0};

    v.name = "w";
    ck_assert_msg(sae_view_read(&v, &src, as, dst, transpose, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(m.pos, m.n);
    for (size_t r = 0; r < v.rows; r++)
        for (size_t c = 0; c < v.cols; c++) {
            float want = element(v.offset + r * v.row_stride + c * v.col_stride), got;

            sae_dtype_to_f32(as, dst + item * (transpose ? c * v.rows + r : r * v.cols + c), &got,
                             1);
            if (got != want)
                ck_abort_msg("[%zu, %zu] of %llux%llu is %g, not %g", r, c,
                             (unsigned long long)v.rows, (unsigned long long)v.cols, (double)got,
                             (double)want);
        }
    for (uint64_t step = 1; step < 40; step += 15)
        check_parts(v, as, transpose, step, p, dst);
    free(dst);
    free(p);
}

static void check_view(struct sae_view v)
{
    for (int transpose = 0; transpose < 2; transpose++) {
        check_view_as(v, SAE_DTYPE_F32, transpose);
        if (sae_dtype_bytes(v.dtype) == 2)
            check_view_as(v, v.dtype, transpose);
    }
}

static const size_t shapes[][2] = {{1, 1},   {1, 40}, {40, 1},  {16, 16}, {17, 15},
                                   {33, 64}, {5, 7},  {64, 33}, {128, 3}};

START_TEST(contiguous_in_either_order)
{
    for (size_t i = 0; i < SAE_COUNTOF(shapes); i++) {
        size_t r = shapes[i][0], c = shapes[i][1];

        for (size_t pad = 0; pad < 3; pad += 2) {
            check_view((struct sae_view){.dtype = (enum sae_dtype)_i,
                                         .numel = r * c + 2 * pad,
                                         .offset = pad,
                                         .rows = r,
                                         .cols = c,
                                         .row_stride = c,
                                         .col_stride = 1});
            check_view((struct sae_view){.dtype = (enum sae_dtype)_i,
                                         .numel = r * c + 3 * pad,
                                         .offset = pad,
                                         .rows = r,
                                         .cols = c,
                                         .row_stride = 1,
                                         .col_stride = r});
        }
    }
}
END_TEST

START_TEST(any_other_strides)
{
    for (size_t rs = 0; rs < 9; rs++)
        for (size_t cs = 0; cs < 9; cs++)
            check_view((struct sae_view){.dtype = (enum sae_dtype)_i,
                                         .numel = 100,
                                         .offset = 4,
                                         .rows = 5,
                                         .cols = 6,
                                         .row_stride = rs,
                                         .col_stride = cs});
}
END_TEST

/* Rows longer than a strip, and runs of several buffers. */
START_TEST(large_runs_come_in_pieces)
{
    size_t wide = ((size_t)1 << 20) + 5;

    check_view((struct sae_view){.dtype = SAE_DTYPE_F32,
                                 .numel = 2 * wide,
                                 .rows = 2,
                                 .cols = wide,
                                 .row_stride = wide,
                                 .col_stride = 1});
    check_view((struct sae_view){.dtype = SAE_DTYPE_BF16,
                                 .numel = 3 * 200001,
                                 .rows = 200001,
                                 .cols = 3,
                                 .row_stride = 1,
                                 .col_stride = 200001});
    check_view((struct sae_view){.dtype = SAE_DTYPE_F64,
                                 .numel = 700 * 1000 + 300000,
                                 .offset = 299999,
                                 .rows = 700,
                                 .cols = 1000,
                                 .row_stride = 1000,
                                 .col_stride = 1});
}
END_TEST

/* Slices of rows, of columns, and every third of them: never the storage whole. */
START_TEST(slices_are_read_row_by_row)
{
    static const struct sae_view rows[] = {
        {.rows = 2000, .cols = 500, .row_stride = 1000, .col_stride = 1, .offset = 100},
        {.rows = 500, .cols = 2000, .row_stride = 1, .col_stride = 1000, .offset = 499},
        {.rows = 2000, .cols = 333, .row_stride = 1000, .col_stride = 3, .offset = 0},
        {.rows = 1, .cols = 1000, .row_stride = 1, .col_stride = 2000, .offset = 7},
    };
    struct sae_view v = rows[_i];
    const size_t n = 2000 * 1000;
    unsigned char *p = storage(SAE_DTYPE_F32, n);
    struct memory m = {.p = p, .n = n * sizeof(float), .fail_at = SIZE_MAX};
    struct sae_stream src = {next, &m};
    float *dst = malloc(v.rows * v.cols * sizeof *dst);

    v.name = "w";
    v.numel = n;
    check_view(v);
    ck_assert_int_eq(sae_view_read(&v, &src, SAE_DTYPE_F32, dst, false, NULL), SAE_OK);
    ck_assert_uint_le(m.most, (size_t)1 << 20);
    free(dst);
    free(p);
}
END_TEST

START_TEST(empty_views_still_read_the_source)
{
    check_view((struct sae_view){.dtype = SAE_DTYPE_F32,
                                 .numel = 9,
                                 .rows = 0,
                                 .cols = 3,
                                 .row_stride = 5,
                                 .col_stride = 7});
    check_view((struct sae_view){.dtype = SAE_DTYPE_F16,
                                 .numel = 0,
                                 .rows = 3,
                                 .cols = 0,
                                 .row_stride = 1,
                                 .col_stride = 1});
}
END_TEST

static enum sae_status read_f32(const float *values, bool columns, size_t fail_at, float *dst,
                                struct sae_err *err)
{
    struct memory m = {.p = (const unsigned char *)values, .n = 24, .fail_at = fail_at};
    struct sae_stream src = {next, &m};
    struct sae_view v = {.name = "w",
                         .dtype = SAE_DTYPE_F32,
                         .numel = 6,
                         .rows = 2,
                         .cols = 3,
                         .row_stride = columns ? 1 : 3,
                         .col_stride = columns ? 2 : 1};

    return sae_view_read(&v, &src, SAE_DTYPE_F32, dst, false, err);
}

START_TEST(values_that_are_not_finite_are_named)
{
    float values[6] = {1, 2, 3, 4, NAN, -INFINITY}, dst[6];
    struct sae_err err = {0};

    ck_assert_int_eq(read_f32(values, false, SIZE_MAX, dst, &err), SAE_E_WEIGHTS);
    ck_assert_ptr_nonnull(strstr(err.text, "[1, 1] is nan"));
    ck_assert_str_eq(err.where, "w");
    err = (struct sae_err){0};
    ck_assert_int_eq(read_f32(values, true, SIZE_MAX, dst, &err), SAE_E_WEIGHTS);
    ck_assert_ptr_nonnull(strstr(err.text, "[0, 2] is nan"));
    /* A wrong checksum explains the NaN, so it is what is said. */
    err = (struct sae_err){0};
    ck_assert_int_eq(read_f32(values, false, 20, dst, &err), SAE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "checksum"));
}
END_TEST

START_TEST(kept_values_that_are_not_finite_are_named)
{
    static const uint16_t bits[][6] = {
        {0x7f7f, 0xff7f, 0x8001, 0, 0x7f80, 0xffff}, /* bf16 */
        {0x7bff, 0xfbff, 0x8001, 0, 0x7c00, 0xffff}, /* f16 */
    };
    static const enum sae_dtype dtypes[] = {SAE_DTYPE_BF16, SAE_DTYPE_F16};

    for (size_t t = 0; t < SAE_COUNTOF(dtypes); t++)
        for (int columns = 0; columns < 2; columns++)
            for (int transpose = 0; transpose < 2; transpose++) {
                struct memory m = {
                    .p = (const unsigned char *)bits[t], .n = 12, .fail_at = SIZE_MAX};
                struct sae_stream src = {next, &m};
                struct sae_view v = {.name = "w",
                                     .dtype = dtypes[t],
                                     .numel = 6,
                                     .rows = 2,
                                     .cols = 3,
                                     .row_stride = columns ? 1 : 3,
                                     .col_stride = columns ? 2 : 1};
                struct sae_err err = {0};
                uint16_t dst[6];

                ck_assert_int_eq(sae_view_read(&v, &src, dtypes[t], dst, transpose, &err),
                                 SAE_E_WEIGHTS);
                ck_assert_msg(strstr(err.text, columns ? "[0, 2] is inf, a finite number"
                                                       : "[1, 1] is inf, a finite number") != NULL,
                              "%s", err.text);
            }
}
END_TEST

START_TEST(subnormals_and_extremes_are_kept)
{
    float values[6] = {0x1p-149f, -0x1p-149f, 0x1.fffffep127f, -0x1.fffffep127f, -0.0f, 0x1p-126f};
    float dst[6];
    struct sae_err err = {0};

    ck_assert_int_eq(read_f32(values, false, SIZE_MAX, dst, &err), SAE_OK);
    ck_assert_int_eq(memcmp(values, dst, sizeof dst), 0);
}
END_TEST

START_TEST(f64_rounds_to_nearest_or_is_refused)
{
    /* The last is the smallest double that rounds to infinity. */
    double values[4] = {1 + 0x1p-24, 1 + 3 * 0x1p-24, 0x1.fffffefffffffp127, 0x1.ffffffp127};
    struct memory m = {.p = (const unsigned char *)values, .n = 24, .fail_at = SIZE_MAX};
    struct sae_stream src = {next, &m};
    struct sae_view v = {.name = "w",
                         .vector = true,
                         .dtype = SAE_DTYPE_F64,
                         .numel = 3,
                         .rows = 1,
                         .cols = 3,
                         .row_stride = 3,
                         .col_stride = 1};
    struct sae_err err = {0};
    float dst[4];

    ck_assert_int_eq(sae_view_read(&v, &src, SAE_DTYPE_F32, dst, false, &err), SAE_OK);
    ck_assert(dst[0] == 1.0f && dst[1] == 1 + 0x1p-22f && dst[2] == 0x1.fffffep127f);
    m.n = 32;
    m.pos = 0;
    v.numel = v.cols = 4;
    ck_assert_int_eq(sae_view_read(&v, &src, SAE_DTYPE_F32, dst, false, &err), SAE_E_WEIGHTS);
    ck_assert_ptr_nonnull(strstr(err.text, "[3] is 3.40282e+38, which float32 cannot hold"));
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    float values[6] = {1, 2, 3, 4, 5, 6}, dst[6];

    for (long k = 0;; k++) {
        struct sae_err err = {0};
        enum sae_status st;

        sae_alloc_fault(k, false);
        st = read_f32(values, true, SIZE_MAX, dst, &err);
        sae_alloc_fault(-1, false);
        if (st == SAE_OK) {
            ck_assert_int_eq(k, 1);
            break;
        }
        ck_assert_int_eq(st, SAE_E_NOMEM);
    }
}
END_TEST

/* Any offset and stride, also none, and bytes behind the last element: all are taken once. */
START_TEST(integers_with_strides)
{
    static const struct {
        uint64_t offset, n, stride;
        unsigned tail;
    } rows[] = {{0, 10, 1, 0}, {3, 1, 1, 0}, {1, 3, 4, 3},
                {2, 3, 0, 1},  {0, 0, 1, 2}, {9, 1, 7, 0}};

    for (size_t i = 0; i < SAE_COUNTOF(rows); i++) {
        int16_t values[12];
        struct memory m = {
            .p = (unsigned char *)values, .n = 20 + rows[i].tail, .fail_at = SIZE_MAX};
        struct sae_stream src = {next, &m};
        struct sae_view v = {.name = "k",
                             .vector = true,
                             .dtype = SAE_DTYPE_I16,
                             .numel = 10,
                             .offset = rows[i].offset,
                             .rows = 1,
                             .cols = rows[i].n,
                             .row_stride = 1,
                             .col_stride = rows[i].stride,
                             .tail_bytes = rows[i].tail};
        int64_t got[10];

        for (int k = 0; k < 12; k++)
            values[k] = (int16_t)(-100 * k);
        ck_assert_int_eq(sae_view_integers(&v, &src, got, NULL), SAE_OK);
        ck_assert_uint_eq(m.pos, m.n);
        for (uint64_t k = 0; k < rows[i].n; k++)
            ck_assert_int_eq(got[k], -100 * (int64_t)(rows[i].offset + k * rows[i].stride));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("view");
    TCase *t = tcase_create("view");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, contiguous_in_either_order, SAE_DTYPE_F32, SAE_DTYPE_I64);
    tcase_add_loop_test(t, any_other_strides, SAE_DTYPE_F32, SAE_DTYPE_I64);
    tcase_add_test(t, large_runs_come_in_pieces);
    tcase_add_loop_test(t, slices_are_read_row_by_row, 0, 4);
    tcase_add_test(t, empty_views_still_read_the_source);
    tcase_add_test(t, values_that_are_not_finite_are_named);
    tcase_add_test(t, kept_values_that_are_not_finite_are_named);
    tcase_add_test(t, subnormals_and_extremes_are_kept);
    tcase_add_test(t, f64_rounds_to_nearest_or_is_refused);
    tcase_add_test(t, integers_with_strides);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
