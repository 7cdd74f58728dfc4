/* flow.h - bytes on their way through a packer or unpacker, which takes them from one buffer and
 * leaves its own in another, a step at a time.
 *
 * Types and nothing else; the buffers are the caller's. */
#ifndef SAE_FLOW_H
#define SAE_FLOW_H

#include <stddef.h>

struct sae_flow {
    const unsigned char *in; /* what is still to be taken */
    size_t n_in;
    unsigned char *out; /* the room that is left */
    size_t n_out;
};

/* What a step comes to: it may go on (with more input, or more room), the data is at its end, ...
 */
enum sae_flow_end {
    SAE_FLOW_ON,
    SAE_FLOW_DONE,
    SAE_FLOW_DAMAGED,
    SAE_FLOW_TOO_WIDE, /* ... its window is larger than is unpacked, memory has run out */
    SAE_FLOW_NOMEM
};

#endif
