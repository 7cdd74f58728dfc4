/* test_dtype.c - the table of dtypes: names, sizes, values. */
#include "lib/dtype.h"
#include "lib/num.h"

#include <check.h>
#include <math.h>
#include <string.h>

START_TEST(binary16_is_exact)
{
    ck_assert(sae_f16_to_f32(0x3c00) == 1.0f);
    ck_assert(sae_f16_to_f32(0x7bff) == 65504.0f);
    ck_assert(sae_f16_to_f32(0x0001) == 0x1p-24f);
    ck_assert(sae_f16_to_f32(0x03ff) == 1023 * 0x1p-24f);
    ck_assert(sae_f16_to_f32(0x8000) == 0.0f && signbit(sae_f16_to_f32(0x8000)));
    ck_assert(isinf(sae_f16_to_f32(0xfc00)));
    ck_assert(isnan(sae_f16_to_f32(0x7e01)));
#ifdef __FLT16_MANT_DIG__
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint16_t u = (uint16_t)h;
        _Float16 v;

        memcpy(&v, &u, sizeof v);
        if (v == v)
            ck_assert_uint_eq(sae_f32_bits(sae_f16_to_f32(u)), sae_f32_bits((float)v));
    }
#endif
}
END_TEST

START_TEST(each_name_finds_its_row)
{
    static const struct {
        enum sae_dtype_words words;
        const char *name;
        enum sae_dtype dtype;
        unsigned bits;
    } rows[] = {
        {SAE_DTYPE_NAME, "float32", SAE_DTYPE_F32, 32},
        {SAE_DTYPE_NAME, "bfloat16", SAE_DTYPE_BF16, 16},
        {SAE_DTYPE_NAME, "uint16", SAE_DTYPE_U16, 16},
        {SAE_DTYPE_NAME, "float8_e4m3fn", SAE_DTYPE_OTHER, 8},
        {SAE_DTYPE_SAFETENSORS, "F64", SAE_DTYPE_F64, 64},
        {SAE_DTYPE_SAFETENSORS, "BOOL", SAE_DTYPE_BOOL, 8},
        {SAE_DTYPE_SAFETENSORS, "F8_E4M3", SAE_DTYPE_OTHER, 8},
        {SAE_DTYPE_SAFETENSORS, "F4", SAE_DTYPE_OTHER, 4},
        {SAE_DTYPE_NUMPY, "f2", SAE_DTYPE_F16, 16},
        {SAE_DTYPE_NUMPY, "i8", SAE_DTYPE_I64, 64},
        {SAE_DTYPE_NUMPY, "c16", SAE_DTYPE_OTHER, 128},
        {SAE_DTYPE_STORAGE, "HalfStorage", SAE_DTYPE_F16, 16},
        {SAE_DTYPE_STORAGE, "CharStorage", SAE_DTYPE_I8, 8},
        {SAE_DTYPE_WIRE, "bf16", SAE_DTYPE_BF16, 16},
    };
    static const struct {
        enum sae_dtype_words words;
        const char *name;
    } none[] = {
        {SAE_DTYPE_NAME, "F32"},          {SAE_DTYPE_SAFETENSORS, "float32"},
        {SAE_DTYPE_NUMPY, "<f4"},         {SAE_DTYPE_NUMPY, "f"},
        {SAE_DTYPE_STORAGE, "Storage"},   {SAE_DTYPE_STORAGE, "UInt16Storage"},
        {SAE_DTYPE_SAFETENSORS, "float"}, {SAE_DTYPE_NAME, ""},
        {SAE_DTYPE_WIRE, "i64"},          {SAE_DTYPE_WIRE, "F32"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct sae_dtype_row *r =
            sae_dtype_find(rows[i].words, rows[i].name, strlen(rows[i].name));

        ck_assert_msg(r != NULL, "%s", rows[i].name);
        ck_assert_int_eq(r->dtype, rows[i].dtype);
        ck_assert_uint_eq(r->bits, rows[i].bits);
    }
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        ck_assert_msg(!sae_dtype_find(none[i].words, none[i].name, strlen(none[i].name)), "%s",
                      none[i].name);
}
END_TEST

/* Every dtype that is read has one name, one size, and is of one kind. */
START_TEST(each_dtype_is_of_one_kind)
{
    for (int t = SAE_DTYPE_F32; t <= SAE_DTYPE_OTHER; t++) {
        enum sae_dtype d = (enum sae_dtype)t;
        int kinds = sae_dtype_is_floating(d) + sae_dtype_is_integer(d) + (d == SAE_DTYPE_BOOL) +
                    (d == SAE_DTYPE_OTHER);
        const char *name = sae_dtype_name(d);

        ck_assert_int_eq(kinds, 1);
        if (d == SAE_DTYPE_OTHER) {
            ck_assert_ptr_null(name);
            ck_assert_uint_eq(sae_dtype_bytes(d), 0);
            continue;
        }
        ck_assert_int_eq(sae_dtype_find(SAE_DTYPE_NAME, name, strlen(name))->dtype, d);
        ck_assert_uint_eq(sae_dtype_bytes(d),
                          sae_dtype_find(SAE_DTYPE_NAME, name, strlen(name))->bits / 8);
    }
}
END_TEST

START_TEST(floats_become_f32)
{
    static const unsigned char f32[] = {1, 0, 0, 0, 0x80, 0x3f}; /* not aligned */
    static const unsigned char half[] = {0x00, 0xc0, 0x01, 0x00}, brain[] = {0x20, 0x40};
    double f64[] = {0.1, 1e300, -1e-50};
    float got[3];

    sae_dtype_to_f32(SAE_DTYPE_F32, f32 + 2, got, 1);
    ck_assert(got[0] == 1.0f);
    sae_dtype_to_f32(SAE_DTYPE_F16, half, got, 2);
    ck_assert(got[0] == -2.0f && got[1] == 0x1p-24f);
    sae_dtype_to_f32(SAE_DTYPE_BF16, brain, got, 1);
    ck_assert(got[0] == 2.5f);
    sae_dtype_to_f32(SAE_DTYPE_F64, f64, got, 3);
    ck_assert(got[0] == 0.1f && isinf(got[1]) && got[2] == 0.0f && signbit(got[2]));
    ck_assert(sae_dtype_f64_at(f64) == 0.1);
}
END_TEST

static uint16_t narrow(enum sae_dtype t, float v)
{
    unsigned char bytes[3] = {0}; /* not aligned */
    uint16_t h;

    sae_dtype_from_f32(t, &v, bytes + 1, 1);
    memcpy(&h, bytes + 1, sizeof h);
    return h;
}

/* Every 16-bit value, and what lies between it and the next: just below the middle, there, just
 * above. To nearest, ties to even. */
static void check_between(enum sae_dtype t, float (*widen)(uint16_t), uint16_t infinity)
{
    for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000)
        for (uint32_t h = 0; h < infinity; h++) {
            const float low = widen((uint16_t)(h | sign)),
                        high = h + 1 < infinity ? widen((uint16_t)((h + 1) | sign))
                                                : 2 * widen((uint16_t)(h | sign)) -
                                                      widen((uint16_t)((h - 1) | sign));
            const float middle = low + (high - low) / 2;

            ck_assert_uint_eq(narrow(t, low), h | sign);
            if (isinf(high)) /* beyond bfloat16 is beyond f32 */
                continue;
            ck_assert_uint_eq(narrow(t, nextafterf(middle, low)), h | sign);
            ck_assert_uint_eq(narrow(t, middle), (h + (h & 1)) | sign);
            ck_assert_uint_eq(narrow(t, nextafterf(middle, high)), (h + 1) | sign);
        }
    ck_assert_uint_eq(narrow(t, INFINITY), infinity);
    ck_assert_uint_eq(narrow(t, -INFINITY), 0x8000u | infinity);
    ck_assert_uint_eq(narrow(t, 3.4028235e38f), infinity);
    ck_assert(isnan(widen(narrow(t, NAN))));
    for (uint32_t low = 1; low < 0x800000; low <<= 1) /* a NaN that only low bits make one */
        ck_assert(isnan(widen(narrow(t, sae_f32_from_bits(0xff800000u | low)))));
}

START_TEST(f32_becomes_16_bits)
{
    check_between(SAE_DTYPE_F16, sae_f16_to_f32, 0x7c00);
    check_between(SAE_DTYPE_BF16, sae_bf16_to_f32, 0x7f80);
    ck_assert_uint_eq(narrow(SAE_DTYPE_F16, 65519.996f), 0x7bff);
    ck_assert_uint_eq(narrow(SAE_DTYPE_F16, 65520), 0x7c00);
    ck_assert_uint_eq(narrow(SAE_DTYPE_F16, 0x1p-25f), 0);
    ck_assert_uint_eq(narrow(SAE_DTYPE_F16, -1e-45f), 0x8000);
}
END_TEST

START_TEST(integers_become_i64)
{
    static const struct {
        enum sae_dtype dtype;
        unsigned char bytes[8];
        int64_t want;
        bool fits;
    } rows[] = {
        {SAE_DTYPE_I64, {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, -2, true},
        {SAE_DTYPE_I32, {0, 0, 0, 0x80}, INT32_MIN, true},
        {SAE_DTYPE_I16, {0xff, 0x7f}, 32767, true},
        {SAE_DTYPE_I8, {0x80}, -128, true},
        {SAE_DTYPE_U8, {0x80}, 128, true},
        {SAE_DTYPE_U16, {0xff, 0xff}, 65535, true},
        {SAE_DTYPE_U32, {0xff, 0xff, 0xff, 0xff}, 4294967295, true},
        {SAE_DTYPE_U64, {1}, 1, true},
        {SAE_DTYPE_U64, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, -1, false},
        {SAE_DTYPE_BOOL, {2}, 1, true},
        {SAE_DTYPE_BOOL, {0}, 0, true},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t got = 77;

        ck_assert_int_eq(sae_dtype_to_i64(rows[i].dtype, rows[i].bytes, &got), rows[i].fits);
        ck_assert_int_eq(got, rows[i].want);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dtype");
    TCase *t = tcase_create("dtype");
    SRunner *r = srunner_create(s);

    tcase_add_test(t, binary16_is_exact);
    tcase_add_test(t, each_name_finds_its_row);
    tcase_add_test(t, each_dtype_is_of_one_kind);
    tcase_add_test(t, floats_become_f32);
    tcase_add_test(t, f32_becomes_16_bits);
    tcase_add_test(t, integers_become_i64);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
