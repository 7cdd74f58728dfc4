/* quant_scalar.c - the loops of quant.h for plain C. */
#include "lib/engine/kern/quant.h"

#define QUANT_NAME sae_quant_scalar
#include "lib/engine/kern/quant.inc"
