/* numtext.cc - numbers read for the JSON codec. See numtext.h; numprint.c prints.
 *
 * Reading must give the correctly rounded double, rounded once more to f32 (spec 3.1). Three steps,
 * the first that is sure of its answer wins:
 *   1. Up to 2^53 and a power of ten up to 22: one exact operation on two exact doubles (Clinger,
 *      "How to Read Floating Point Numbers Accurately", 1990).
 *   2. Else the first 19 digits times a rounded power of ten, wrong by less than 4 units of 2^-53.
 *      Rounding to f32 is monotonic: when both ends of that interval round to the same f32, so does
 *      the correctly rounded double, whatever it is. It fails once in some hundred million numbers.
 *   3. Else std::from_chars<double>.
 * Lists of numbers have a way of their own before these, read_common: of the shapes that clients
 * send most, without a branch on the number of digits, which is as good as random; it is steps 1
 * and 2 in one.
 *
 * No state, no locale, no allocation, no exceptions. */
#include "proto/json/numtext.h"

#include <cfloat>
#include <charconv>
#include <cstdint>
#include <cstring>

static_assert(FLT_EVAL_METHOD == 0, "double arithmetic must round to double");

namespace
{

/* Correctly rounded by the compiler; exact up to 10^22. */
const double pow10_f64[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12,
    1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25,
    1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38,
    1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51,
    1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60, 1e61, 1e62, 1e63, 1e64,
};
const int64_t MAX_POW10 = 64;
const uint64_t pow10_u64[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
const unsigned MAX_DIGITS = 19; /* 10^19 - 1 < 2^64 */
/* No body has that many digits, so a saturated exponent outweighs them all. */
const int64_t EXP_CAP = INT64_C(1) << 60;

inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

inline uint64_t load_eight(const char *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* How many of the eight bytes, from the lowest, are digits before one is none. The flag of a byte
 * is right as long as all bytes below it are digits: only others borrow or carry. */
inline unsigned leading_digits(uint64_t v)
{
    uint64_t none = ((v + 0x4646464646464646u) | (v - 0x3030303030303030u)) & 0x8080808080808080u;

    return ((unsigned)__builtin_ctzll(none >> 1 | UINT64_C(1) << 63) + 1) / 8;
}

/* Value of the lowest n bytes (0 to 8), which are digits. */
inline uint64_t few_value(uint64_t v, unsigned n)
{
    unsigned half = 4 * (8 - n); /* a shift by 64 would be undefined */

    v -= 0x3030303030303030u;
    v = v << half << half;
    v = v * 10 + (v >> 8);
    return (((v & 0x000000ff000000ffu) * 0x000f424000000064u) +
            (((v >> 16) & 0x000000ff000000ffu) * 0x0000271000000001u)) >>
           32;
}

/* Digits at p appended to w (which wraps when there are too many). */
inline const char *read_digits(const char *p, const char *end, uint64_t &w)
{
    uint64_t v;

    while (end - p >= 8 && (v = load_eight(p), leading_digits(v) == 8)) {
        w = w * 100000000 + few_value(v, 8);
        p += 8;
    }
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
bool first_digits(number &n, int64_t &adj)
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
        if (!first_digits(n, adj))
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

/* ---- lists ----------------------------------------------------------------------------------- */

inline bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The digits at p, up to 24 and one that is none behind them, appended to w: how many, or 0 when
 * there are more (or none). */
inline unsigned append_digits(const char *p, uint64_t &w)
{
    uint64_t a = load_eight(p), b = load_eight(p + 8);
    unsigned na = leading_digits(a), nb = leading_digits(b) & -(na / 8);

    w = (w * pow10_u64[na] + few_value(a, na)) * pow10_u64[nb] + few_value(b, nb);
    if (na + nb < 16)
        return na + nb;
    uint64_t c = load_eight(p + 16);
    unsigned nc = leading_digits(c);

    w = w * pow10_u64[nc] + few_value(c, nc);
    return nc < 8 ? 16 + nc : 0;
}

/* Bytes from a number's first on that read_common may look at: a sign, 7 digits, a point, 24. */
const ptrdiff_t COMMON_BYTES = 40;

/* -?d{1,7}(.d+)? at p, 19 digits at most: the byte behind it, or null when it is another shape or
 * its rounding is in doubt.
 *
 * w is less than 10^19 and rounded once, 10^n is exact, the quotient is rounded once: d is not two
 * doubles away from the correctly rounded one, and is that one when w is exact. It is 0 or from
 * 10^-18 to 10^7, so that rounding to f32 takes off its lowest 29 bits. All doubles within 8 of d
 * round alike unless a midpoint, 2^28 in these bits, is among them. */
inline const char *read_common(const char *p, float *out)
{
    const uint64_t midpoint = UINT64_C(1) << 28, low = 2 * midpoint - 1;
    uint32_t negative = *p == '-', bits;
    unsigned n_whole = 1, n = 0;
    uint64_t w, double_bits;
    double d;
    float v;

    p += negative;
    w = (unsigned char)(*p - '0');
    if (p[1] != '.') {
        uint64_t a = load_eight(p);

        n_whole = leading_digits(a);
        if (n_whole < 1 || n_whole > 7 || (w == 0 && n_whole > 1))
            return nullptr;
        w = few_value(a, n_whole);
    } else if (w > 9) {
        return nullptr;
    }
    p += n_whole;
    if (*p == '.') {
        n = append_digits(++p, w);
        if (n < 1 || n + n_whole > MAX_DIGITS)
            return nullptr;
    }
    d = (double)w / pow10_f64[n];
    memcpy(&double_bits, &d, sizeof d);
    if (((double_bits - midpoint + 8) & low) <= 16)
        return nullptr;
    v = (float)d;
    memcpy(&bits, &v, sizeof bits);
    bits |= negative << 31;
    memcpy(out, &bits, sizeof bits);
    return p + n;
}

/* Zeros as JavaScript and as Python write them in a list: how many bytes at p, and *n how many. */
inline unsigned read_zeros(const char *p, size_t cap, size_t &n)
{
    uint64_t v = load_eight(p);

    if (v == 0x2c302c302c302c30u && cap >= 4) {
        n = 4;
        return 8; /* 0,0,0,0, */
    }
    n = 1;
    return (v & 0xffffffffff) == 0x202c302e30u ? 5 : 0; /* 0.0,_ */
}

/* Any number, up to the comma behind it; null: not both. */
__attribute__((noinline)) const char *read_any(const char *p, const char *end, float *out)
{
    if (p == end || sae_num_read(p, end, out, &p) != SAE_NUM_OK)
        return nullptr;
    while (p < end && is_blank(*p))
        p++;
    return p < end && *p == ',' ? p : nullptr;
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

extern "C" size_t sae_num_read_list(const char *p, const char *end, float *out, size_t cap,
                                    const char **next)
{
    size_t n = 0, zeros;

    while (n < cap) {
        const char *q = nullptr;

        while (p < end && is_blank(*p))
            p++;
        if (end - p >= COMMON_BYTES) {
            unsigned bytes = read_zeros(p, cap - n, zeros);

            if (bytes > 0) {
                memset(out + n, 0, zeros * sizeof *out);
                n += zeros;
                p += bytes;
                continue;
            }
            q = read_common(p, out + n);
        }
        if (!q || *q != ',')
            q = read_any(p, end, out + n);
        if (!q)
            break;
        p = q + 1;
        n++;
    }
    *next = p;
    return n;
}
