/* dtype.c - see dtype.h. Names: torch/storage.py (PyTorch 1.6 to 2.9), safetensors' tensor.rs
 * (0.6), numpy.lib.format. */
#include "lib/dtype.h"

#include "lib/num.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "containers are little-endian");

/* In the order of the enum, then those that share OTHER. */
static const struct sae_dtype_row rows[] = {
    {SAE_DTYPE_F32, 32, "float32", "F32", "f4", "FloatStorage", "f32"},
    {SAE_DTYPE_F16, 16, "float16", "F16", "f2", "HalfStorage", "f16"},
    {SAE_DTYPE_BF16, 16, "bfloat16", "BF16", NULL, "BFloat16Storage", "bf16"},
    {SAE_DTYPE_F64, 64, "float64", "F64", "f8", "DoubleStorage", "f64"},
    {SAE_DTYPE_I64, 64, "int64", "I64", "i8", "LongStorage", NULL},
    {SAE_DTYPE_I32, 32, "int32", "I32", "i4", "IntStorage", NULL},
    {SAE_DTYPE_I16, 16, "int16", "I16", "i2", "ShortStorage", NULL},
    {SAE_DTYPE_I8, 8, "int8", "I8", "i1", "CharStorage", NULL},
    {SAE_DTYPE_U64, 64, "uint64", "U64", "u8", NULL, NULL},
    {SAE_DTYPE_U32, 32, "uint32", "U32", "u4", NULL, NULL},
    {SAE_DTYPE_U16, 16, "uint16", "U16", "u2", NULL, NULL},
    {SAE_DTYPE_U8, 8, "uint8", "U8", "u1", "ByteStorage", NULL},
    {SAE_DTYPE_BOOL, 8, "bool", "BOOL", "b1", "BoolStorage", NULL},
    {SAE_DTYPE_OTHER, 64, "complex64", "C64", "c8", "ComplexFloatStorage", NULL},
    {SAE_DTYPE_OTHER, 128, "complex128", NULL, "c16", "ComplexDoubleStorage", NULL},
    {SAE_DTYPE_OTHER, 32, "complex32", NULL, NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 8, "float8_e4m3fn", "F8_E4M3", NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 8, "float8_e5m2", "F8_E5M2", NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 8, "float8_e4m3fnuz", "F8_E4M3FNUZ", NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 8, "float8_e5m2fnuz", "F8_E5M2FNUZ", NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 8, "float8_e8m0fnu", "F8_E8M0", NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 6, "float6_e2m3", "F6_E2M3", NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 6, "float6_e3m2", "F6_E3M2", NULL, NULL, NULL},
    {SAE_DTYPE_OTHER, 4, "float4", "F4", NULL, NULL, NULL},
};
#define N_ROWS (sizeof rows / sizeof rows[0])

static const char *word_of(const struct sae_dtype_row *row, enum sae_dtype_words words)
{
    switch (words) {
    case SAE_DTYPE_NAME:
        return row->name;
    case SAE_DTYPE_SAFETENSORS:
        return row->safetensors;
    case SAE_DTYPE_NUMPY:
        return row->numpy;
    case SAE_DTYPE_STORAGE:
        return row->storage;
    case SAE_DTYPE_WIRE:
        return row->wire;
    }
    return NULL;
}

const struct sae_dtype_row *sae_dtype_find(enum sae_dtype_words words, const char *s, size_t n)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        const char *word = word_of(&rows[i], words);

        if (word && strlen(word) == n && memcmp(word, s, n) == 0)
            return &rows[i];
    }
    return NULL;
}

const char *sae_dtype_word(enum sae_dtype t, enum sae_dtype_words words)
{
    return t < SAE_DTYPE_OTHER ? word_of(&rows[t], words) : NULL;
}

const char *sae_dtype_name(enum sae_dtype t)
{
    return sae_dtype_word(t, SAE_DTYPE_NAME);
}

size_t sae_dtype_bytes(enum sae_dtype t)
{
    return t < SAE_DTYPE_OTHER ? rows[t].bits / 8 : 0;
}

bool sae_dtype_is_floating(enum sae_dtype t)
{
    return t <= SAE_DTYPE_F64;
}

bool sae_dtype_is_integer(enum sae_dtype t)
{
    return t >= SAE_DTYPE_I64 && t <= SAE_DTYPE_U8;
}

/* ---- values ------------------------------------------------------------------------------- */

double sae_dtype_f64_at(const void *p)
{
    double v;

    memcpy(&v, p, sizeof v);
    return v;
}

void sae_dtype_to_f32(enum sae_dtype t, const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;

    switch (t) {
    case SAE_DTYPE_F32:
        if (n)
            memcpy(dst, p, n * sizeof *dst);
        break;
    case SAE_DTYPE_F16:
        for (size_t i = 0; i < n; i++)
            dst[i] = sae_f16_to_f32(sae_le16(p + 2 * i));
        break;
    case SAE_DTYPE_BF16:
        for (size_t i = 0; i < n; i++)
            dst[i] = sae_bf16_to_f32(sae_le16(p + 2 * i));
        break;
    case SAE_DTYPE_F64:
        for (size_t i = 0; i < n; i++)
            dst[i] = (float)sae_dtype_f64_at(p + 8 * i);
        break;
    default: /* no caller asks for another */
        break;
    }
}

/* All but the lowest `drop` bits of v, rounded to nearest, ties to even. */
static uint32_t shift_rounded(uint32_t v, unsigned drop)
{
    return (v + ((1u << (drop - 1)) - 1) + (v >> drop & 1)) >> drop;
}

static uint16_t f16_bits(float v)
{
    const uint32_t bits = sae_f32_bits(v), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t h;

    if (rest > 0x7f800000)
        h = 0x7e00; /* NaN */
    else if (rest >= 0x477ff000)
        h = 0x7c00; /* 65520 and more round to infinity */
    else if (rest >= 0x38800000)
        h = shift_rounded(rest - (112u << 23), 13);
    else if (rest >= 0x33000000) /* 2^-25 and more: what is below 2^-14 becomes subnormal */
        h = shift_rounded((rest & 0x7fffff) | 0x800000, 126 - (rest >> 23));
    else
        h = 0;
    return (uint16_t)(sign | h);
}

static uint16_t bf16_bits(float v)
{
    const uint32_t bits = sae_f32_bits(v);

    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 | 0x40)
                                                       : shift_rounded(bits, 16));
}

void sae_dtype_from_f32(enum sae_dtype t, const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;

    switch (t) {
    case SAE_DTYPE_F32:
        if (n)
            memcpy(p, src, n * sizeof *src);
        break;
    case SAE_DTYPE_F16:
        for (size_t i = 0; i < n; i++) {
            const uint16_t h = f16_bits(src[i]);

            memcpy(p + 2 * i, &h, sizeof h);
        }
        break;
    case SAE_DTYPE_BF16:
        for (size_t i = 0; i < n; i++) {
            const uint16_t h = bf16_bits(src[i]);

            memcpy(p + 2 * i, &h, sizeof h);
        }
        break;
    default: /* no caller asks for another */
        break;
    }
}

bool sae_dtype_to_i64(enum sae_dtype t, const void *src, int64_t *out)
{
    bool is_signed = t >= SAE_DTYPE_I64 && t <= SAE_DTYPE_I8;
    size_t n = sae_dtype_bytes(t);
    unsigned char item[8] = {0};
    uint64_t v;

    memcpy(item, src, n);
    if (is_signed && item[n - 1] >> 7) /* the sign goes on */
        memset(item + n, 0xff, sizeof item - n);
    v = sae_le64(item);
    if (t == SAE_DTYPE_BOOL)
        v = v != 0;
    *out = (int64_t)v;
    return is_signed || v <= INT64_MAX;
}
