/* num.h - number formats, UTF-8 and checked arithmetic. Pure functions, any thread. */
#ifndef SAE_NUM_H
#define SAE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t sae_f32_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static inline float sae_f32_from_bits(uint32_t u)
{
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

/* Bits that ascend with the value, of one that is neither NaN nor -0, and back. */
static inline uint32_t sae_f32_key(float v)
{
    uint32_t u = sae_f32_bits(v);

    return u ^ ((u >> 31 ? 0xffffffffu : 0u) | 0x80000000u);
}

static inline float sae_f32_of_key(uint32_t key)
{
    return sae_f32_from_bits(key >> 31 ? key ^ 0x80000000u : ~key);
}

/* True on overflow, as __builtin_*_overflow. */
static inline bool sae_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return __builtin_mul_overflow(a, b, out);
}
static inline bool sae_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return __builtin_add_overflow(a, b, out);
}

/* Little-endian loads from any alignment. */
static inline uint16_t sae_le16(const void *p)
{
    const unsigned char *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t sae_le32(const void *p)
{
    const unsigned char *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t sae_le64(const void *p)
{
    return sae_le32(p) | (uint64_t)sae_le32((const unsigned char *)p + 4) << 32;
}

/* Bytes of the UTF-8 character at p (p < end): 1 to 4, or 0 when it is none (cut short, overlong, a
 * surrogate, above U+10FFFF). */
unsigned sae_utf8_len(const char *p, const char *end);

/* e^x, evaluated in double in one fixed order and rounded to f32: the same bits on every machine.
 * exp(NaN) = NaN; overflow gives infinity, deep underflow +0. */
float sae_exp_f32(float x);

#endif
