/* scan.h - digits in text: decimals, hex, percent. JSON's numbers have readers of their own. Pure
 * functions, any thread. */
#ifndef SAE_SCAN_H
#define SAE_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool sae_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Read the decimal at p: no sign, no blanks. Returns the byte behind its last digit, or NULL: there
 * is none. What 64 bits do not hold is UINT64_MAX, and *fits false. */
static inline const char *sae_scan_u64(const char *p, const char *end, uint64_t *out, bool *fits)
{
    const char *first = p;

    *out = 0;
    *fits = true;
    for (; p < end && sae_is_digit(*p); p++)
        *fits = *fits && !__builtin_mul_overflow(*out, 10, out) &&
                !__builtin_add_overflow(*out, (uint64_t)(*p - '0'), out);
    if (!*fits)
        *out = UINT64_MAX;
    return p > first ? p : NULL;
}

/* Are the n bytes a decimal and nothing else, within 64 bits? *out is untouched if not. */
static inline bool sae_scan_whole_u64(const char *s, size_t n, uint64_t *out)
{
    uint64_t v;
    bool fits;

    if (sae_scan_u64(s, s + n, &v, &fits) != s + n || !fits || n == 0)
        return false;
    *out = v;
    return true;
}

/* -1: c is no hex digit. */
static inline int sae_hex_digit(char c)
{
    if (sae_is_digit(c))
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that stands as "%XX" at p; -1: that does not stand there. */
static inline int sae_scan_percent(const char *p, const char *end)
{
    int hi, lo;

    if (end - p < 3 || *p != '%' || (hi = sae_hex_digit(p[1])) < 0 ||
        (lo = sae_hex_digit(p[2])) < 0)
        return -1;
    return hi * 16 + lo;
}

#endif
