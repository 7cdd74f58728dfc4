/* st.h - the reader of safetensors files. See reader.h. */
#ifndef SAE_ST_H
#define SAE_ST_H

#include "lib/load/reader.h"

extern const struct sae_reader sae_reader_st;

#endif
