/* stream.h - bytes that are taken from front to back, each once, wherever they come from.
 *
 * A type and nothing else; what `ctx` is, and which threads may use it, is for its maker to say. */
#ifndef SAE_STREAM_H
#define SAE_STREAM_H

#include "lib/base.h"

/* The next n bytes. Whoever asks knows how many there are. */
struct sae_stream {
    enum sae_status (*next)(void *ctx, void *buf, size_t n, struct sae_err *err);
    void *ctx;
};

#endif
