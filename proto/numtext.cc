/* numtext.cc - numbers and their text, one at a time, for the JSON codec. See numtext.h.
 *
 * Reading must give the correctly rounded double, rounded once more to f32 (spec 3.1). Three steps,
 * the first that is sure of its answer wins:
 *   1. Up to 2^53 and a power of ten up to 22: one exact operation on two exact doubles (Clinger,
 *      "How to Read Floating Point Numbers Accurately", 1990).
 *   2. Else the first 19 digits times a rounded power of ten, wrong by less than 4 units of 2^-53.
 *      Rounding to f32 is monotonic: when both ends of that interval round to the same f32, so does
 *      the correctly rounded double, whatever it is. It fails once in some hundred million numbers.
 *   3. Else std::from_chars<double>.
 *
 * Printing is Schubfach (Giulietti, "The Schubfach way to render doubles", 2020), which finds the
 * shortest digits with three multiplications; of equally short ones the nearest. std::to_chars
 * finds the same digits in twice the time, and writes more than the shortest ones for integers
 * above 2^24. build/tests/bench/bench_json --all reads every f32 back.
 *
 * No state, no locale, no allocation, no exceptions. */
#include "proto/numtext.h"

#include <cfloat>
#include <charconv>
#include <cstdint>
#include <cstring>

static_assert(FLT_EVAL_METHOD == 0, "double arithmetic must round to double");

namespace
{

/* ---- reading ------------------------------------------------------------------------------- */

/* Correctly rounded by the compiler; exact up to 10^22. */
const double pow10_f64[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12,
    1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25,
    1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38,
    1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51,
    1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60, 1e61, 1e62, 1e63, 1e64,
};
const int64_t MAX_POW10 = 64;
const unsigned MAX_DIGITS = 19; /* 10^19 - 1 < 2^64 */
/* No body has that many digits, so a saturated exponent outweighs them all. */
const int64_t EXP_CAP = INT64_C(1) << 60;

inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* Eight digits at once, as fast_float (Lemire, github.com/fastfloat) does. Little-endian only. */
inline bool eight_digits(uint64_t v)
{
    return !(((v + 0x4646464646464646u) | (v - 0x3030303030303030u)) & 0x8080808080808080u);
}

inline uint64_t eight_value(uint64_t v)
{
    v -= 0x3030303030303030u;
    v = v * 10 + (v >> 8);
    return (((v & 0x000000ff000000ffu) * 0x000f424000000064u) +
            (((v >> 16) & 0x000000ff000000ffu) * 0x0000271000000001u)) >>
           32;
}

/* Digits at p appended to w (which wraps when there are too many). */
inline const char *read_digits(const char *p, const char *end, uint64_t &w)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t v;

    while (end - p >= 8 && (memcpy(&v, p, 8), eight_digits(v))) {
        w = w * 100000000 + eight_value(v);
        p += 8;
    }
#endif
    while (p < end && is_digit(*p))
        w = w * 10 + (uint64_t)(*p++ - '0');
    return p;
}

/* The text of a number, taken apart. Value: digits (with the point left out) * 10^exp10. */
struct number {
    const char *first;         /* of the whole text, sign included */
    const char *digits, *last; /* first digit; end of the digits before any exponent */
    const char *next;
    uint64_t w;
    int64_t exp10;
    bool negative;
};

/* The exponent behind 'e': false when it is none, with n.next where it went wrong. */
bool read_exponent(number &n, const char *p, const char *end)
{
    bool minus = false;
    int64_t e = 0;

    if (p < end && (*p == '+' || *p == '-'))
        minus = *p++ == '-';
    n.next = p;
    if (p == end || !is_digit(*p))
        return false;
    for (; p < end && is_digit(*p); p++)
        e = e < EXP_CAP / 16 ? e * 10 + (*p - '0') : EXP_CAP;
    n.exp10 += minus ? -e : e;
    n.next = p;
    return true;
}

/* The grammar: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
inline bool take_apart(number &n, const char *p, const char *end)
{
    const char *point = nullptr;

    n.first = p;
    n.negative = p < end && *p == '-';
    p += n.negative;
    n.digits = n.next = p;
    n.w = 0;
    n.exp10 = 0;
    if (p == end || !is_digit(*p))
        return false;
    if (*p == '0')
        p++;
    else
        p = read_digits(p, end, n.w);
    if (p < end && *p == '.') {
        point = ++p;
        p = read_digits(p, end, n.w);
        n.next = p;
        if (p == point)
            return false;
        n.exp10 = point - p;
    }
    n.last = n.next = p;
    if (p < end && (*p | 0x20) == 'e')
        return read_exponent(n, p + 1, end);
    return true;
}

/* More digits than w holds: the first 19 that count into w, the others into the exponent.
 * False: all are zero. */
bool leading_digits(number &n, int64_t &adj)
{
    const char *p = n.digits;
    unsigned taken = 0;

    while (p < n.last && (*p == '0' || *p == '.'))
        p++;
    n.w = 0;
    for (; p < n.last && taken < MAX_DIGITS; p++)
        if (*p != '.') {
            n.w = n.w * 10 + (uint64_t)(*p - '0');
            taken++;
        }
    for (; p < n.last; p++)
        n.exp10 += *p != '.';
    adj = n.exp10 + (int64_t)taken - 1;
    return taken > 0;
}

sae_num_result give(float v, bool negative, float *out)
{
    if (v > FLT_MAX)
        return SAE_NUM_OVERFLOW;
    *out = negative ? -v : v;
    return SAE_NUM_OK;
}

/* Steps 2 and 3. */
sae_num_result read_hard(number &n, float *out)
{
    int64_t adj = 0; /* the value is d.ddd * 10^adj */

    if (n.last - n.digits > (int64_t)MAX_DIGITS) {
        if (!leading_digits(n, adj))
            return give(0.0f, n.negative, out);
    } else {
        adj = n.exp10;
        for (uint64_t w = n.w; w >= 10; w /= 10)
            adj++;
    }
    if (n.w == 0 || adj < -46) /* below 10^-46: less than half the least f32 */
        return give(0.0f, n.negative, out);
    if (adj > 38)
        return SAE_NUM_OVERFLOW;
    if (n.exp10 >= -MAX_POW10 && n.exp10 <= MAX_POW10) {
        double d = (double)n.w;

        d = n.exp10 < 0 ? d / pow10_f64[-n.exp10] : d * pow10_f64[n.exp10];
        float lo = (float)(d * (1.0 - 0x1p-50)), hi = (float)(d * (1.0 + 0x1p-50));
        if (lo == hi)
            return give(lo, n.negative, out);
    }
    double d = 0.0; /* 10^-46 .. 10^39: never out of a double's range */
    std::from_chars(n.first + n.negative, n.next, d);
    return give((float)d, n.negative, out);
}

/* ---- printing ------------------------------------------------------------------------------ */

/* 10^k for k = -31 .. 45, scaled to 64 bits, rounded up. */
const uint64_t pow10_scaled[] = {
    0x81ceb32c4b43fcf5u, 0xa2425ff75e14fc32u, 0xcad2f7f5359a3b3fu, 0xfd87b5f28300ca0eu,
    0x9e74d1b791e07e49u, 0xc612062576589ddbu, 0xf79687aed3eec552u, 0x9abe14cd44753b53u,
    0xc16d9a0095928a28u, 0xf1c90080baf72cb2u, 0x971da05074da7befu, 0xbce5086492111aebu,
    0xec1e4a7db69561a6u, 0x9392ee8e921d5d08u, 0xb877aa3236a4b44au, 0xe69594bec44de15cu,
    0x901d7cf73ab0acdau, 0xb424dc35095cd810u, 0xe12e13424bb40e14u, 0x8cbccc096f5088ccu,
    0xafebff0bcb24aaffu, 0xdbe6fecebdedd5bfu, 0x89705f4136b4a598u, 0xabcc77118461cefdu,
    0xd6bf94d5e57a42bdu, 0x8637bd05af6c69b6u, 0xa7c5ac471b478424u, 0xd1b71758e219652cu,
    0x83126e978d4fdf3cu, 0xa3d70a3d70a3d70bu, 0xcccccccccccccccdu, 0x8000000000000000u,
    0xa000000000000000u, 0xc800000000000000u, 0xfa00000000000000u, 0x9c40000000000000u,
    0xc350000000000000u, 0xf424000000000000u, 0x9896800000000000u, 0xbebc200000000000u,
    0xee6b280000000000u, 0x9502f90000000000u, 0xba43b74000000000u, 0xe8d4a51000000000u,
    0x9184e72a00000000u, 0xb5e620f480000000u, 0xe35fa931a0000000u, 0x8e1bc9bf04000000u,
    0xb1a2bc2ec5000000u, 0xde0b6b3a76400000u, 0x8ac7230489e80000u, 0xad78ebc5ac620000u,
    0xd8d726b7177a8000u, 0x878678326eac9000u, 0xa968163f0a57b400u, 0xd3c21bcecceda100u,
    0x84595161401484a0u, 0xa56fa5b99019a5c8u, 0xcecb8f27f4200f3au, 0x813f3978f8940985u,
    0xa18f07d736b90be6u, 0xc9f2c9cd04674edfu, 0xfc6f7c4045812297u, 0x9dc5ada82b70b59eu,
    0xc5371912364ce306u, 0xf684df56c3e01bc7u, 0x9a130b963a6c115du, 0xc097ce7bc90715b4u,
    0xf0bdc21abb48db21u, 0x96769950b50d88f5u, 0xbc143fa4e250eb32u, 0xeb194f8e1ae525feu,
    0x92efd1b8d0cf37bfu, 0xb7abc627050305aeu, 0xe596b7b0c643c71au, 0x8f7e32ce7bea5c70u,
    0xb35dbf821ae4f38cu,
};
const int POW10_FIRST = -31;

struct decimal {
    uint32_t digits;
    int exp10;
};

inline uint32_t round_to_odd(uint64_t g, uint32_t c)
{
    unsigned __int128 p = (unsigned __int128)g * c;
    uint32_t hi = (uint32_t)(p >> 64), lo = (uint32_t)((uint64_t)p >> 32);

    return hi | (lo > 1);
}

/* Shortest decimal of a finite positive f32. Names as in Giulietti's paper: v = c * 2^q lies in
 * its rounding interval [cbl, cbr] / 4 * 2^q; everything is scaled by 10^-k into integers. */
inline decimal shortest(uint32_t bits)
{
    uint32_t fraction = bits & 0x7fffff, biased = bits >> 23;
    uint32_t c = biased ? fraction | 0x800000 : fraction;
    int q = (biased ? (int)biased : 1) - 150;

    if (biased && q <= 0 && q > -24 && (c & ((1u << -q) - 1)) == 0)
        return {c >> -q, 0};
    bool odd = c & 1, lower_is_closer = fraction == 0 && biased > 1;
    int k =
        (q * 1262611 - (lower_is_closer ? 524031 : 0)) >> 22; /* floor(log10(2^q or 3/4 of it)) */
    int h = q + ((-k * 1741647) >> 19) + 1;                   /* ... floor(log2(10^-k)) */
    uint64_t g = pow10_scaled[-k - POW10_FIRST];
    uint32_t vb = round_to_odd(g, (4 * c) << h);
    uint32_t lower = round_to_odd(g, (4 * c - 2 + lower_is_closer) << h) + odd;
    uint32_t upper = round_to_odd(g, (4 * c + 2) << h) - odd;
    uint32_t s = vb / 4, sp = s / 10;
    /* One digit less, if one of its two candidates lies inside and the other does not; else the one
     * that does of two with all digits, else the nearest. Written without branches: which it will
     * be is as good as random. */
    bool down = lower <= 40 * sp, up = 40 * sp + 40 <= upper, fewer = (s >= 10) & (down != up);
    bool down1 = lower <= 4 * s, up1 = 4 * s + 4 <= upper;
    bool nearest = (vb > 4 * s + 2) | ((vb == 4 * s + 2) & (s & 1));
    bool up0 = down1 != up1 ? up1 : nearest;
    return {fewer ? sp + up : s + up0, k + fewer};
}

/* The same for a reader that rounds twice. 7.038531e-26 is the only shortest decimal of an f32
 * whose double is a midpoint of two: it goes to the upper one, the even. (Reading back all 2^32
 * values says that it is the only one.) */
inline decimal shortest_rounded_twice(uint32_t bits)
{
    if ((bits | 3) != 0x15ae43ff)
        return shortest(bits);
    return bits == 0x15ae43fd   ? decimal{70385307, -33}
           : bits == 0x15ae43fe ? decimal{7038531, -32}
                                : shortest(bits);
}

inline unsigned count_digits(uint32_t m)
{
    static const uint32_t limit[] = {1,      10,      100,      1000,      10000,
                                     100000, 1000000, 10000000, 100000000, 1000000000};
    unsigned n = (unsigned)(32 - __builtin_clz(m)) * 1233 >> 12; /* log10(2) = 1233 / 4096 */

    return n + (m >= limit[n]);
}

/* The eight digits of m < 10^8 as bytes 0 to 9, the first in the lowest byte: halves, then
 * quarters, then digits, side by side in one word (as itoa by James Edward Anhalt III does). */
inline uint64_t eight_bytes(uint32_t m)
{
    uint64_t v = m / 10000 | (uint64_t)(m % 10000) << 32;
    uint64_t high = v * 10486 >> 20 & 0x0000007f0000007fu; /* by 100 */

    v = high | (v - 100 * high) << 16;
    high = v * 103 >> 10 & 0x000f000f000f000fu; /* by 10 */
    return high | (v - 10 * high) << 8;
}

inline void put_eight(char *p, uint64_t text)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    text = __builtin_bswap64(text);
#endif
    memcpy(p, &text, 8);
}

/* Digits to be laid out: n significant ones, of which the first is `first` and the others are the
 * lowest bytes of `rest`, filled up with '0'; x is the exponent of the first. */
struct digits {
    char first;
    uint64_t rest;
    int n, x;
};

inline digits spell(decimal v)
{
    static const uint32_t scale[] = {0,     100000000, 10000000, 1000000, 100000,
                                     10000, 1000,      100,      10,      1};
    unsigned n = count_digits(v.digits);
    uint32_t m = v.digits * scale[n]; /* nine digits */
    uint64_t rest = eight_bytes(m % 100000000);

    return {(char)('0' + m / 100000000), rest | 0x3030303030303030u,
            rest ? 9 - __builtin_clzll(rest) / 8 : 1, v.exp10 + (int)n - 1};
}

/* d.ddde-XX */
char *put_scientific(char *p, const digits &d)
{
    int x = d.x < 0 ? -d.x : d.x;

    p[0] = d.first;
    p[1] = '.';
    put_eight(p + 2, d.rest);
    p += d.n > 1 ? d.n + 1 : 1;
    *p++ = 'e';
    *p++ = d.x < 0 ? '-' : '+';
    *p++ = (char)('0' + x / 10);
    *p++ = (char)('0' + x % 10);
    return p;
}

/* Plain or scientific, whichever is shorter (plain when equal), as std::to_chars does. May write
 * more than it returns, but not beyond 15 bytes. */
inline char *put_decimal(char *p, decimal v)
{
    digits d = spell(v);
    int scientific = d.n + (d.n > 1) + 4, plain;

    if (d.x < 0) {
        plain = d.n + 1 - d.x;
        if (plain > scientific)
            return put_scientific(p, d);
        memcpy(p, "0.0000", 6); /* then, at most: 0.000ddddddddd */
        p[1 - d.x] = d.first;
        put_eight(p + 2 - d.x, d.rest);
        return p + plain;
    }
    plain = d.x + 1 >= d.n ? d.x + 1 : d.n + 1;
    if (plain > scientific)
        return put_scientific(p, d);
    p[0] = d.first;
    put_eight(p + 1, d.rest);
    memcpy(p + 9, "00000", 5); /* plain integers have 14 digits at most */
    if (d.x + 1 < d.n) {
        p[d.x + 1] = '.';
        put_eight(p + d.x + 2, d.rest >> 8 * d.x);
    }
    return p + plain;
}

size_t put_text(char *dst, const char *s)
{
    size_t n = strlen(s);

    memcpy(dst, s, n);
    return n;
}

} // namespace

extern "C" sae_num_result sae_num_read(const char *p, const char *end, float *out,
                                       const char **next)
{
    number n;
    bool ok = take_apart(n, p, end);

    *next = n.next;
    if (!ok)
        return SAE_NUM_SYNTAX;
    if (n.w <= UINT64_C(1) << 53 && n.exp10 >= -22 && n.exp10 <= 22 &&
        n.last - n.digits <= (int64_t)MAX_DIGITS) {
        double d = (double)n.w;

        d = n.exp10 < 0 ? d / pow10_f64[-n.exp10] : d * pow10_f64[n.exp10];
        return give((float)d, n.negative, out);
    }
    return read_hard(n, out);
}

extern "C" size_t sae_num_print(char *dst, float v)
{
    uint32_t bits;
    char *p = dst;

    memcpy(&bits, &v, sizeof bits);
    if (bits == 0) {
        *dst = '0';
        return 1;
    }
    if ((bits & 0x7fffffff) > 0x7f800000)
        return put_text(dst, "\"NaN\"");
    if (bits == 0x7f800000)
        return put_text(dst, "\"Infinity\"");
    if (bits == 0xff800000)
        return put_text(dst, "\"-Infinity\"");
    if (bits == 0x80000000)
        return put_text(dst, "-0.0");
    *p = '-';
    p += bits >> 31;
    return (size_t)(put_decimal(p, shortest_rounded_twice(bits & 0x7fffffff)) - dst);
}
