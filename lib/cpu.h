/* cpu.h - which instruction sets this CPU and this operating system run, asked once.
 *
 * An instruction set here is a family of kernels (lib/engine/kern): what its files are compiled
 * for is what is checked, the operating system's saving of the registers (XCR0) included. The
 * answer is kept in one atomic word, written with the same value by whoever asks first: the only
 * state, and never seen half made. Any thread. No environment: SAED_ISA is read by server/. */
#ifndef SAE_CPU_H
#define SAE_CPU_H

#include <stdbool.h>

/* In order of preference, worst first. */
enum sae_isa {
    SAE_ISA_SCALAR,  /* "scalar": plain C, any CPU */
    SAE_ISA_AVX2,    /* "avx2": AVX2, FMA and F16C */
    SAE_ISA_AVXVNNI, /* "avxvnni": AVX2 and the VEX form of the int8 dot product */
    SAE_ISA_AVX512,  /* "avx512": AVX-512 F, BW, DQ and VL (and all of avx2) */
    SAE_ISA_VNNI,    /* "vnni": AVX512 and its int8 dot product */
    SAE_N_ISAS
};

bool sae_cpu_has(enum sae_isa isa);
enum sae_isa sae_cpu_best(void); /* the last of the list that the CPU has */

const char *sae_isa_name(enum sae_isa isa);
/* False, and *out untouched, when no instruction set is called so (exact, lower case). */
bool sae_isa_by_name(const char *name, enum sae_isa *out);

#endif
