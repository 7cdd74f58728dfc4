/* pt.h - the reader of what torch.save writes (zip form, torch 1.6 and later). See reader.h. */
#ifndef SAE_PT_H
#define SAE_PT_H

#include "lib/load/reader.h"

extern const struct sae_reader sae_reader_pt;

/* What to do with a file that torch can load and we do not: both lines of Python. */
#define SAE_PT_RESAVE \
    "re-save it with sd = torch.load(\"in.pt\", map_location=\"cpu\"); torch.save(sd, \"out.pt\")"

#endif
