/* quant_avx2.c - the loops of quant.h for AVX2. */
#include "lib/engine/kern/quant.h"

#define QUANT_NAME sae_quant_avx2
#include "lib/engine/kern/quant.inc"
