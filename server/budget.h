/* budget.h - bytes in flight: what all requests together may hold.
 *
 * A request says what it holds in all, and says it again whenever that changes: a body arrives,
 * rows are decoded, an answer is printed. What it holds stays with it (*held, owned by whoever owns
 * the request); the budget knows the sum alone.
 *
 * THREADS  any. One atomic counter: no lock, and nobody waits for room. */
#ifndef SAED_BUDGET_H
#define SAED_BUDGET_H

#include "lib/base.h"

#include <stdatomic.h>

struct saed_budget {
    _Alignas(64) _Atomic uint64_t used; /* a cache line to itself */
    _Alignas(64) uint64_t limit;        /* --max-inflight-bytes */
};

void saed_budget_init(struct saed_budget *b, uint64_t limit);
/* Another limit, before anybody holds anything; `used` may be read meanwhile. */
void saed_budget_set_limit(struct saed_budget *b, uint64_t limit);
/* Hold `bytes` in all instead of *held. More than the limit alone is `too_large` (413), what does
 * not fit beside the others now SAE_E_OVERLOADED (503); *held then stands. */
enum sae_status saed_budget_hold(struct saed_budget *b, uint64_t *held, uint64_t bytes,
                                 enum sae_status too_large, struct sae_err *err) SAE_MUST_USE;
void saed_budget_release(struct saed_budget *b, uint64_t *held); /* all of it */
uint64_t saed_budget_used(const struct saed_budget *b);

#endif
