/* num.c - UTF-8 and the one exp of saed. See num.h. */
#include "lib/num.h"

#include <math.h>

/* x = k ln2 + r, |r| <= ln2/2; e^r by its Taylor series to r^13 in Horner form (the remainder is
 * below 2^-57 for |r| <= 0.347), scaled by 2^k. Every step is one IEEE double operation (this file
 * is compiled with -ffp-contract=off), so the result does not depend on libm or the CPU. */
float sae_exp_f32(float x)
{
    static const double ln2_hi = 0x1.62e42fee00000p-1, ln2_lo = 0x1.a39ef35793c76p-33;
    static const double inv_fact[] = {
        1.0 / 6227020800.0,
        1.0 / 479001600.0,
        1.0 / 39916800.0,
        1.0 / 3628800.0,
        1.0 / 362880.0,
        1.0 / 40320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
        1.0,
        1.0,
    };
    double v = (double)x, k, r, p;

    if (x != x)
        return x;
    if (v > 128.0)
        return (float)INFINITY;
    if (v < -150.0)
        return 0.0f;
    k = floor(v * 0x1.71547652b82fep+0 + 0.5);
    r = (v - k * ln2_hi) - k * ln2_lo;
    p = inv_fact[0];
    for (size_t i = 1; i < sizeof inv_fact / sizeof inv_fact[0]; i++)
        p = p * r + inv_fact[i];
    return (float)ldexp(p, (int)k);
}

unsigned sae_utf8_len(const char *p, const char *end)
{
    const unsigned char *b = (const unsigned char *)p;
    unsigned n = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;

    if (n < 2)
        return n;
    if (b[0] > 0xf4 || (size_t)(end - p) < n)
        return 0;
    for (unsigned i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
        (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f))
        return 0;
    return n;
}
