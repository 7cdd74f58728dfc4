/* numpy.h - the readers of what numpy.save and numpy.savez write. See reader.h. */
#ifndef SAE_NUMPY_H
#define SAE_NUMPY_H

#include "lib/load/reader.h"

extern const struct sae_reader sae_reader_npy, sae_reader_npz;

#endif
