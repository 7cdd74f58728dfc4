/* cpu.c - CPUID and XGETBV, read once. See cpu.h.
 *
 * Leaves and bits: Intel SDM volume 2A, CPUID (leaf 1; leaf 7 subleaves 0 and 1), and volume 1,
 * 13.3 and 15.2 for the order of the questions: OSXSAVE, then XCR0, then the feature. */
#include "lib/cpu.h"

#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const names[SAE_N_ISAS] = {"scalar", "avx2", "avxvnni", "avx512", "vnni"};

#define BIT(isa) (1u << (isa))
#define KNOWN (1u << 31)

#if defined(__x86_64__)
static unsigned xcr0(void)
{
    unsigned lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

static bool all(unsigned reg, unsigned bits)
{
    return (reg & bits) == bits;
}

static unsigned detect(void)
{
    const unsigned ymm = 0x06, zmm = 0xe6; /* SSE|AVX; and opmask|ZMM_Hi256|Hi16_ZMM */
    unsigned a, b, c, d, c1, b7, c7, a71 = 0, n, found = BIT(SAE_ISA_SCALAR);

    if (!__get_cpuid(1, &a, &b, &c1, &d) || !all(c1, bit_OSXSAVE | bit_AVX) || !all(xcr0(), ymm))
        return found;
    if (!__get_cpuid_count(7, 0, &n, &b7, &c7, &d))
        return found;
    if (n >= 1)
        __get_cpuid_count(7, 1, &a71, &b, &c, &d);
    if (!all(c1, bit_FMA | bit_F16C) || !all(b7, bit_AVX2))
        return found;
    found |= BIT(SAE_ISA_AVX2);
    if (all(a71, 1u << 4)) /* AVX-VNNI */
        found |= BIT(SAE_ISA_AVXVNNI);
    if (!all(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) || !all(xcr0(), zmm))
        return found;
    found |= BIT(SAE_ISA_AVX512);
    if (all(c7, 1u << 11)) /* AVX512_VNNI */
        found |= BIT(SAE_ISA_VNNI);
    return found;
}
#else
static unsigned detect(void)
{
    return BIT(SAE_ISA_SCALAR);
}
#endif

static unsigned features(void)
{
    static atomic_uint cached; /* 0: not asked yet; see cpu.h */
    unsigned v = atomic_load_explicit(&cached, memory_order_relaxed);

    if (v == 0) {
        v = detect() | KNOWN;
        atomic_store_explicit(&cached, v, memory_order_relaxed);
    }
    return v;
}

bool sae_cpu_has(enum sae_isa isa)
{
    return isa < SAE_N_ISAS && (features() & BIT(isa)) != 0;
}

enum sae_isa sae_cpu_best(void)
{
    enum sae_isa best = SAE_ISA_SCALAR;

    for (enum sae_isa i = SAE_ISA_SCALAR; i < SAE_N_ISAS; i++)
        if (sae_cpu_has(i))
            best = i;
    return best;
}

const char *sae_isa_name(enum sae_isa isa)
{
    return isa < SAE_N_ISAS ? names[isa] : "unknown";
}

bool sae_isa_by_name(const char *name, enum sae_isa *out)
{
    for (enum sae_isa i = SAE_ISA_SCALAR; i < SAE_N_ISAS; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}
