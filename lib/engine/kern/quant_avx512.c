/* quant_avx512.c - the loops of quant.h for AVX-512. */
#include "lib/engine/kern/quant.h"

#define QUANT_NAME sae_quant_avx512
#include "lib/engine/kern/quant.inc"
