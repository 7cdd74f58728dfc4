/* team.h - threads that share work which lib has cut into pieces (struct sae_team): loading.
 *
 * Who runs something works at it too. A piece may run something itself: threads that are free then
 * help with that before they take another piece of what came earlier. Sources are opened side by
 * side; they are loaded one after the other, and the tensors of each are gone through by all
 * threads.
 *
 * THREADS  any thread may run; the team's own end with saed_team_free. One mutex guards all. */
#ifndef SAED_TEAM_H
#define SAED_TEAM_H

#include "lib/base.h"

struct saed_team;

/* `n_threads`: at work at a time, the one that runs among them. Fewer, at least that one, when no
 * more can be made. */
enum sae_status saed_team_create(struct saed_team **out, size_t n_threads,
                                 struct sae_err *err) SAE_MUST_USE;
struct sae_team *saed_team_lent(struct saed_team *t); /* borrowed until free; NULL of NULL */
void saed_team_free(struct saed_team *t);             /* nothing runs any more. NULL allowed */

#endif
