/* plan.h - what a query of a formula comes to: phases and outputs, worked out once (struct
 * sae_plan, saed.h). The task takes its memory from it, the batch what its rows deliver, the answer
 * its tensors. Pure functions, any thread. */
#ifndef SAE_PLAN_H
#define SAE_PLAN_H

#include "lib/engine/engine.h"

/* What an encoded row delivers: struct sae_plan.sinks. */
enum {
    SAE_SINK_F = 1 << 0,           /* dense f into the task */
    SAE_SINK_F_SCALED = 1 << 1,    /* ... times dec_norm */
    SAE_SINK_AUX = 1 << 2,         /* dense aux into the task */
    SAE_SINK_LIST = 1 << 3,        /* f != 0 as list entries, unscaled */
    SAE_SINK_LIST_AUX = 1 << 4,    /* ... with aux; also entries where only aux != 0 */
    SAE_SINK_LIST_SCALED = 1 << 5, /* ... also entries where only f * dec_norm != 0 (0 * inf) */
    SAE_SINK_GHOST = 1 << 6,       /* f_ghost != 0 as the second list */
    SAE_SINK_TOP = 1 << 7, /* of the list only the plan's top_k best are wanted: the rest may be
                              left out */
};

/* So many distinct ids are among `features`. */
void sae_plan_candidates(struct sae_plan *p, uint64_t n);

#endif
