/* nearest.h - the nearest name to a misspelt one. A pure function, any thread. */
#ifndef SAE_NEAREST_H
#define SAE_NEAREST_H

#include <stddef.h>

/* The name nearest to word: '-' and '_' and letter case are alike, leading dashes do not count;
 * then what word is the beginning of; then by edits. n >= 1. */
const char *sae_nearest(const char *word, const char *const *names, size_t n);

#endif
