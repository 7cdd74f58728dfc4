/* dtype.h - the table of dtypes: what containers call them, their sizes, their values.
 *
 * The only place that knows these names: torch's (which we print), safetensors', numpy's, the
 * storages of a .pt file. Values are little-endian and have no alignment. Constant data and pure
 * functions, any thread. */
#ifndef SAE_DTYPE_H
#define SAE_DTYPE_H

#include "lib/num.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sae_dtype {
    SAE_DTYPE_F32, /* floating: ... */
    SAE_DTYPE_F16,
    SAE_DTYPE_BF16,
    SAE_DTYPE_F64, /* ... up to here */
    SAE_DTYPE_I64, /* integers: ... */
    SAE_DTYPE_I32,
    SAE_DTYPE_I16,
    SAE_DTYPE_I8,
    SAE_DTYPE_U64,
    SAE_DTYPE_U32,
    SAE_DTYPE_U16,
    SAE_DTYPE_U8, /* ... up to here */
    SAE_DTYPE_BOOL,
    SAE_DTYPE_OTHER /* known to exist, never read */
};

struct sae_dtype_row {
    enum sae_dtype dtype;
    unsigned bits;
    const char *name;        /* torch.NAME: "float32" */
    const char *safetensors; /* "F32"; NULL: it has none. So below */
    const char *numpy;       /* of a descr, its byte order taken off: "f4" */
    const char *storage;     /* torch.STORAGE: "FloatStorage"; some dtypes are over bytes alone */
    const char *wire;        /* of a media type's parameter: "f32" */
};

/* The row whose name in this vocabulary are the n bytes at s; NULL: none. */
enum sae_dtype_words {
    SAE_DTYPE_NAME,
    SAE_DTYPE_SAFETENSORS,
    SAE_DTYPE_NUMPY,
    SAE_DTYPE_STORAGE,
    SAE_DTYPE_WIRE,
};
const struct sae_dtype_row *sae_dtype_find(enum sae_dtype_words words, const char *s, size_t n);

const char *sae_dtype_name(enum sae_dtype t); /* "float32"; NULL for OTHER */
/* The name of `t` in this vocabulary; NULL: it has none, and for OTHER. */
const char *sae_dtype_word(enum sae_dtype t, enum sae_dtype_words words);
size_t sae_dtype_bytes(enum sae_dtype t); /* of a value; 0 for OTHER */
bool sae_dtype_is_floating(enum sae_dtype t);
bool sae_dtype_is_integer(enum sae_dtype t); /* BOOL is none */

/* IEEE 754 binary16 and bfloat16 (the high half of a binary32) to binary32: exact, NaN stays NaN.
 * Without branches, for the compiler's vectoriser. */
static inline float sae_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    uint32_t beyond = rest >= 0x0f800000u ? 0x7f800000u : 0u; /* infinity, NaN */

    /* The same fields under binary32's larger bias: 2^112 moves them, subnormals too. */
    return sae_f32_from_bits(sae_f32_bits(sae_f32_from_bits(rest) * 0x1p112f) | beyond | sign);
}
static inline float sae_bf16_to_f32(uint16_t h)
{
    return sae_f32_from_bits((uint32_t)h << 16);
}

/* n values of a floating dtype. f64 is rounded to nearest, and infinite when out of range. */
void sae_dtype_to_f32(enum sae_dtype t, const void *src, float *dst, size_t n);

/* n values as F32, F16 or BF16: rounded to nearest, ties to even, what is too large infinite; NaN
 * stays NaN. dst has no alignment. */
void sae_dtype_from_f32(enum sae_dtype t, const float *src, void *dst, size_t n);

/* The double at p, as stored. */
double sae_dtype_f64_at(const void *p);

/* One value of an integer dtype or BOOL. False: it is beyond int64, and *out is what of it fits
 * into 64 bits. */
bool sae_dtype_to_i64(enum sae_dtype t, const void *src, int64_t *out);

#endif
