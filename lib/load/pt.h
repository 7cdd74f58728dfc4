/* pt.h - what is said of files of PyTorch that are not read. */
#ifndef SAE_PT_H
#define SAE_PT_H

/* What to do with a file that torch can load and we do not: both lines of Python. */
#define SAE_PT_RESAVE \
    "re-save it with sd = torch.load(\"in.pt\", map_location=\"cpu\"); torch.save(sd, \"out.pt\")"

#endif
