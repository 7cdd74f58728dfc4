/* bench_json.c - print each of the 2^32 f32 and read it back: ten minutes, exit 1 if one does not
 * come back. Not part of `make bench`, which measures what a number costs (codecs.c). */
#include "lib/num.h"
#include "proto/json/numtext.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

int main(void)
{
    uint64_t bad = 0;

    for (uint64_t u = 0; u < UINT64_C(1) << 32; u++) {
        float v = sae_f32_from_bits((uint32_t)u), back = 0;
        char s[SAE_NUM_TEXT_MAX + 1];
        const char *next;
        size_t n;

        if (!isfinite(v))
            continue;
        n = sae_num_print(s, v);
        if (n >= SAE_NUM_TEXT_MAX || sae_num_read(s, s + n, &back, &next) != SAE_NUM_OK ||
            next != s + n || sae_f32_bits(back) != (uint32_t)u) {
            bad++;
            printf("%08x is printed as %.*s, read as %08x\n", (unsigned)u, (int)n, s,
                   sae_f32_bits(back));
        }
    }
    printf("%" PRIu64 " of all finite f32 do not come back\n", bad);
    return bad > 0;
}
