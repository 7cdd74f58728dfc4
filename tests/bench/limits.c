/* limits.c - what one thread of this CPU can do at best: f32 FMA, int8 dot product, reading memory.
 *
 * Loops of hand-written instructions on registers: enough independent chains to hide every latency,
 * no loads. The caller asks only for what the CPU has. Sources are 1.0 and 0.5 (bytes: 0x3f.. and
 * 0x00..), so that no denormal is met. */
#include "tests/bench/bench.h"

#include <stdint.h>

#define CLOBBER                                                                              \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory"

/* One instruction for each of 14 accumulators; 14 and 15 are the sources. */
#define EACH_14(op, z)                                                                        \
    op(z, 0) op(z, 1) op(z, 2) op(z, 3) op(z, 4) op(z, 5) op(z, 6) op(z, 7) op(z, 8) op(z, 9) \
        op(z, 10) op(z, 11) op(z, 12) op(z, 13)
#define ZERO(z, i) "vxorps %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n\t"
#define FMA(z, i) "vfmadd231ps %%" #z "mm14, %%" #z "mm15, %%" #z "mm" #i "\n\t"
#define DOT(z, i) "vpdpbusd %%" #z "mm14, %%" #z "mm15, %%" #z "mm" #i "\n\t"
#define DOT_VEX(z, i) "%{vex%} vpdpbusd %%" #z "mm14, %%" #z "mm15, %%" #z "mm" #i "\n\t"
/* Six accumulators with a temporary each: maddubs, madd by ones, add. */
#define MADDUBS(i, t)                                                                     \
    "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #t "\n\tvpmaddwd %%ymm13, %%ymm" #t ", %%ymm" #t \
    "\n\tvpaddd %%ymm" #t ", %%ymm" #i ", %%ymm" #i "\n\t"

/* rounds of `body` with the sources broadcast from two words. */
#define LOOP(z, body, a, b, rounds)                                                   \
    do {                                                                              \
        long left_ = (rounds);                                                        \
        __asm__ volatile("vbroadcastss %1, %%" #z "mm14\n\tvbroadcastss %2, %%" #z    \
                         "mm15\n\t" EACH_14(ZERO, z) "1:\n\t" body                    \
                                                     "dec %0\n\tjnz 1b\n\tvzeroupper" \
                         : "+r"(left_)                                                \
                         : "m"(a), "m"(b)                                             \
                         : CLOBBER);                                                  \
    } while (0)

enum { ROUNDS = 100000 };

double limit_fma(bool avx512)
{
    static const float one = 1.0f, half = 0.5f;
    double t0 = bench_cpu();

    if (avx512)
        LOOP(z, EACH_14(FMA, z), one, half, ROUNDS);
    else
        LOOP(y, EACH_14(FMA, y), one, half, ROUNDS);
    return 14.0 * 2 * (avx512 ? 16 : 8) * ROUNDS / (bench_cpu() - t0);
}

double limit_int8(enum sae_isa isa)
{
    static const uint32_t bytes = 0x01020304, words = 0x00010001;
    double t0 = bench_cpu(), ops = 14.0 * 2 * 64 * ROUNDS;

    if (isa == SAE_ISA_VNNI) {
        LOOP(z, EACH_14(DOT, z), bytes, bytes, ROUNDS);
    } else if (isa == SAE_ISA_AVXVNNI) {
        LOOP(y, EACH_14(DOT_VEX, y), bytes, bytes, ROUNDS);
        ops /= 2;
    } else { /* ymm13 = ymm14: any value of the multiplier costs the same */
        LOOP(y,
             "vmovdqa %%ymm14, %%ymm13\n\t" MADDUBS(0, 6) MADDUBS(1, 7) MADDUBS(2, 8) MADDUBS(3, 9)
                 MADDUBS(4, 10) MADDUBS(5, 11) MADDUBS(0, 6) MADDUBS(1, 7) MADDUBS(2, 8)
                     MADDUBS(3, 9) MADDUBS(4, 10) MADDUBS(5, 11),
             words, words, ROUNDS);
        ops = 12.0 * 2 * 32 * ROUNDS;
    }
    return ops / (bench_cpu() - t0);
}

/* Plain loads, as the hardware's prefetcher likes them, or with software prefetch ahead. */
static void read_plain(const char *p, const char *end)
{
    __asm__ volatile("1:\n\tvmovups (%0), %%ymm0\n\tvmovups 32(%0), %%ymm1\n\t"
                     "vmovups 64(%0), %%ymm2\n\tvmovups 96(%0), %%ymm3\n\t"
                     "vmovups 128(%0), %%ymm4\n\tvmovups 160(%0), %%ymm5\n\t"
                     "vmovups 192(%0), %%ymm6\n\tvmovups 224(%0), %%ymm7\n\t"
                     "add $256, %0\n\tcmp %1, %0\n\tjb 1b\n\tvzeroupper"
                     : "+r"(p)
                     : "r"(end)
                     : CLOBBER);
}

static void read_ahead(const char *p, const char *end)
{
    __asm__ volatile("1:\n\tprefetcht0 4096(%0)\n\tprefetcht0 4160(%0)\n\t"
                     "vmovups (%0), %%ymm0\n\tvmovups 32(%0), %%ymm1\n\t"
                     "vmovups 64(%0), %%ymm2\n\tvmovups 96(%0), %%ymm3\n\t"
                     "add $128, %0\n\tcmp %1, %0\n\tjb 1b\n\tvzeroupper"
                     : "+r"(p)
                     : "r"(end)
                     : CLOBBER);
}

double limit_read(const void *v, size_t bytes)
{
    const char *p = v, *half = p + bytes / 2;
    double t0 = bench_cpu(), t1, t2;

    read_plain(p, half);
    t1 = bench_cpu();
    read_ahead(half, p + bytes);
    t2 = bench_cpu();
    return (double)bytes / 2 / (t1 - t0 < t2 - t1 ? t1 - t0 : t2 - t1);
}
