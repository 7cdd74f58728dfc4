/* version.h - `saed --version`: which saed, and with --verbose of what it is made. */
#ifndef SAED_VERSION_H
#define SAED_VERSION_H

#include "lib/base.h"

/* "saed 0.1.0\n"; verbose: then a line each for commit, compiler, libraries as they are loaded, and
 * the instruction sets of this CPU. Loads OpenBLAS to ask it, so it is called before threads. */
enum sae_status saed_version_print(struct sae_buf *out, bool verbose) SAE_MUST_USE;

#endif
