/* numprint.c - numbers printed for the JSON codec: lists of f32 and of ids. See numtext.h.
 *
 * Schubfach (Giulietti, "The Schubfach way to render doubles", 2020) finds the shortest digits with
 * three multiplications; of equally short ones the nearest. std::to_chars finds the same digits in
 * three times the time, and writes more than the shortest ones for integers above 2^24.
 * build/tests/bench/bench_json reads every f32 back.
 *
 * How many digits there are, where the point stands and which candidate is the nearest are as good
 * as random, and a branch that is guessed wrong costs as much as half a number: all of them are
 * computed instead. So for the numbers of common sizes no branch depends on the digits.
 *
 * No state, no locale, no allocation: any thread. */
#include "proto/json/numtext.h"

#include "lib/num.h"

#include <string.h>

/* ---- the shortest digits -----------------------------------------------------------------------
 */

/* 10^k for k = -31 .. 45, scaled to 64 bits, rounded up. */
static const uint64_t pow10_scaled[] = {
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
enum { POW10_FIRST = -31 };

/* digits * 10^exp10, of seven to nine digits, zeros at their end included. */
struct decimal {
    uint32_t digits;
    int exp10;
};

static inline uint32_t round_to_odd(uint64_t g, uint32_t c)
{
    unsigned __int128 p = (unsigned __int128)g * c;
    uint32_t hi = (uint32_t)(p >> 64), lo = (uint32_t)((uint64_t)p >> 32);

    return hi | (lo > 1);
}

/* A finite f32 taken apart, v = c * 2^q, and the decimals around it: in units of 10^k v is vb / 4
 * (rounded to odd), s + a fraction, and its rounding interval is lower / 4 to upper / 4. Names as
 * in Giulietti's paper. */
struct around {
    uint32_t vb, lower, upper;
    int k;
};

static inline struct around look_around(uint32_t c, int q, uint32_t lower_is_closer)
{
    struct around a;
    uint32_t odd = c & 1; /* the ends of the interval do not belong to it */
    uint64_t g;
    int h;

    a.k = (q * 1262611 - (int)lower_is_closer * 524031) >> 22; /* floor(log10(2^q or 3/4 of it)) */
    h = q + ((-a.k * 1741647) >> 19) + 1;                      /* q + floor(log2(10^-k)) + 1 */
    g = pow10_scaled[-a.k - POW10_FIRST];
    a.vb = round_to_odd(g, (4 * c) << h);
    a.lower = round_to_odd(g, (4 * c - 2 + lower_is_closer) << h) + odd;
    a.upper = round_to_odd(g, (4 * c + 2) << h) - odd;
    return a;
}

/* One digit less, if one of its two candidates lies inside and the other does not; else the nearest
 * with all digits, of two the even. That one always lies inside, since units of 10^k are not larger
 * than the interval, but where the interval's lower half is the shorter: then s may lie outside. */
static inline struct decimal shortest(const struct around *a, uint32_t has_fewer)
{
    uint32_t s = a->vb / 4, tens = s / 10 * 10;
    uint32_t down = a->lower <= 4 * tens, up = 4 * tens + 40 <= a->upper;
    uint32_t fewer = (down ^ up) & has_fewer;
    uint32_t full = s + ((uint32_t)(a->vb % 4 + (s & 1) > 2) | (a->lower > 4 * s));

    return (struct decimal){full ^ ((full ^ (tens + 10 * up)) & -fewer), a->k};
}

/* The same for a reader that rounds twice, v normal. 7.038531e-26 is the only shortest decimal of
 * an f32 whose double is a midpoint of two: it goes to the upper one, the even. (Reading back all
 * 2^32 values says that it is the only one.) */
static inline struct decimal shortest_of_normal(uint32_t bits)
{
    struct around a;

    if (bits == 0x15ae43fd)
        return (struct decimal){70385307, -33};
    if (bits == 0x15ae43fe)
        return (struct decimal){70385310, -33};
    a = look_around((bits & 0x7fffff) | 0x800000, (int)(bits >> 23) - 150, (bits & 0x7fffff) == 0);
    return shortest(&a, 1);
}

/* Of a denormal, which may have fewer than seven digits; the least have none to spare. */
static struct decimal shortest_of_denormal(uint32_t bits)
{
    struct around a = look_around(bits, -149, 0);
    struct decimal d = shortest(&a, a.vb >= 40);

    for (; d.digits < 1000000; d.exp10--)
        d.digits *= 10;
    return d;
}

/* ---- digits as text ----------------------------------------------------------------------------
 */

static const uint64_t ZEROS = 0x3030303030303030u; /* eight times '0' */

static inline void store_eight(char *p, uint64_t text)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    text = __builtin_bswap64(text);
#endif
    memcpy(p, &text, 8);
}

/* The eight digits of m < 10^8 as bytes 0 to 9, the first in the lowest byte: halves, then
 * quarters, then digits, side by side in one word (as itoa by James Edward Anhalt III does). Each
 * step moves the word up and puts the quotients below, their multiples taken off above. */
static inline uint64_t eight_bytes(uint32_t m)
{
    uint64_t v = ((uint64_t)m << 32) - (m / 10000) * ((UINT64_C(10000) << 32) - 1);

    v = (v << 16) - (v * 10486 >> 20 & 0x0000007f0000007fu) * ((100 << 16) - 1);
    return (v << 8) - (v * 103 >> 10 & 0x000f000f000f000fu) * ((10 << 8) - 1);
}

/* Digits to be laid out: n significant ones, of which the first is `first` and the others are the
 * lowest bytes of `rest`, filled up with '0'; x is the exponent of the first. */
struct digits {
    char first;
    uint64_t rest;
    int n, x;
};

static inline struct digits spell(struct decimal v)
{
    static const uint32_t to_nine[] = {100, 10, 1};
    uint32_t more = (uint32_t)(v.digits >= 10000000) + (v.digits >= 100000000);
    uint32_t m = v.digits * to_nine[more];
    uint64_t rest = eight_bytes(m % 100000000);
    /* Zeros at the end are zero bytes at the top. Counted from below (counting from above is slow
     * on CPUs of AMD, without LZCNT); the highest bit stops at eight. */
    uint64_t backwards = __builtin_bswap64(rest) | UINT64_C(1) << 63;
    unsigned zeros = ((unsigned)__builtin_ctzll(backwards) + 1) / 8;

    return (struct digits){(char)('0' + m / 100000000), rest | ZEROS, 9 - (int)zeros,
                           v.exp10 + (int)more + 6};
}

/* d.ddde-XX */
static char *put_scientific(char *p, const struct digits *d)
{
    int x = d->x < 0 ? -d->x : d->x;

    p[0] = d->first;
    p[1] = '.';
    store_eight(p + 2, d->rest);
    p += d->n > 1 ? d->n + 1 : 1;
    *p++ = 'e';
    *p++ = d->x < 0 ? '-' : '+';
    *p++ = (char)('0' + x / 10);
    *p++ = (char)('0' + x % 10);
    return p;
}

/* An integer of nine to fourteen digits. */
static char *put_integer(char *p, const struct digits *d)
{
    p[0] = d->first;
    store_eight(p + 1, d->rest);
    store_eight(p + 9, ZEROS);
    return p + d->x + 1;
}

/* 0.000ddd, d.ddd or ddd, for x = -7 to 7. First the digits, from 1 on at the beginning, below 1
 * behind their zeros; then the point and what is behind it, moved by one (below 1: the same digits
 * once more). */
static inline char *put_plain(char *p, const struct digits *d)
{
    int below = d->x >> 31; /* -1 below 1, else 0 */
    int minus = -d->x & below, plus = d->x & ~below, after = d->n - 1 - d->x;

    store_eight(p, ZEROS);
    p[minus - below] = d->first;
    store_eight(p + minus - below + 1, d->rest);
    p[plus + 1] = '.';
    store_eight(p + minus + plus + 2, d->rest >> 8 * plus);
    return p + plus + 1 + ((after + 1) & (-after >> 31));
}

/* Plain or scientific, whichever is shorter (plain when equal), as std::to_chars does. */
__attribute__((noinline)) static char *put_unusual(char *p, const struct digits d)
{
    int plain = d.x < 0 ? d.n + 1 - d.x : d.x + 1 >= d.n ? d.x + 1 : d.n + 1;

    if (plain > d.n + (d.n > 1) + 4)
        return put_scientific(p, &d);
    return d.x > 7 ? put_integer(p, &d) : put_plain(p, &d);
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

static char *put_text(char *p, const char *s)
{
    size_t n = strlen(s);

    memcpy(p, s, n);
    return p + n;
}

static char *put_special(char *p, uint32_t bits)
{
    if (bits == 0)
        return put_text(p, "0");
    if (bits == 0x80000000)
        return put_text(p, "-0.0");
    if (bits == 0x7f800000)
        return put_text(p, "\"Infinity\"");
    if (bits == 0xff800000)
        return put_text(p, "\"-Infinity\"");
    return put_text(p, "\"NaN\"");
}

static inline char *put_f32(char *p, uint32_t bits)
{
    const uint32_t positive = bits & 0x7fffffff;
    struct digits d;

    if (positive == 0 || positive >= 0x7f800000)
        return put_special(p, bits);
    *p = '-';
    p += bits >> 31;
    d = spell(positive < 0x800000 ? shortest_of_denormal(positive) : shortest_of_normal(positive));
    if (d.x < -3 || d.x > 4) /* between them scientific is never shorter */
        return put_unusual(p, d);
    return put_plain(p, &d);
}

/* Zeros by fours, as many as there are from v on; most of a dense f is zeros. */
static inline size_t put_zeros(char *p, const char *limit, const float *v, size_t n)
{
    static const char zeros[8] = {'0', ',', '0', ',', '0', ',', '0', ','};
    uint64_t bits[2];
    size_t done = 0;

    for (; n - done >= 4 && p + 2 * done <= limit; done += 4) {
        memcpy(bits, v + done, sizeof bits);
        if (bits[0] | bits[1])
            break;
        memcpy(p + 2 * done, zeros, sizeof zeros);
    }
    return done;
}

char *sae_num_print_list(char *p, const char *limit, const float *v, size_t n)
{
    for (size_t i = 0; i < n && p <= limit;) {
        uint32_t bits = sae_f32_bits(v[i]);

        if (bits == 0) {
            size_t zeros = put_zeros(p, limit, v + i, n - i);

            p += 2 * zeros;
            i += zeros;
            if (zeros > 0)
                continue;
        }
        p = put_f32(p, bits);
        *p++ = ',';
        i++;
    }
    return p;
}

size_t sae_num_print(char *dst, float v)
{
    char room[SAE_NUM_SLACK];
    size_t n = (size_t)(sae_num_print_list(room, room, &v, 1) - room) - 1;

    memcpy(dst, room, n);
    return n;
}

/* m < 10^8 without zeros before it. */
static inline char *put_small(char *p, uint32_t m)
{
    uint64_t bytes = eight_bytes(m);
    unsigned zeros = (unsigned)__builtin_ctzll(bytes | UINT64_C(1) << 56) / 8;

    store_eight(p, bytes >> 8 * zeros | ZEROS);
    return p + 8 - zeros;
}

char *sae_num_print_ids(char *p, const char *limit, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n && p <= limit; i++) {
        uint32_t low = ids[i];

        if (low >= 100000000) {
            p = put_small(p, low / 100000000);
            store_eight(p, eight_bytes(low % 100000000) | ZEROS);
            p += 8;
        } else {
            p = put_small(p, low);
        }
        *p++ = ',';
    }
    return p;
}
