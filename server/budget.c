/* budget.c - see budget.h. The counter orders nothing: memory is handed over by other means. */
#include "server/budget.h"

#include <assert.h>

void saed_budget_init(struct saed_budget *b, uint64_t limit)
{
    atomic_init(&b->used, 0);
    b->limit = limit;
}

void saed_budget_set_limit(struct saed_budget *b, uint64_t limit)
{
    b->limit = limit;
}

/* `more` bytes, if they fit. *used: what was in flight. */
static bool take(struct saed_budget *b, uint64_t more, uint64_t *used)
{
    *used = atomic_load_explicit(&b->used, memory_order_relaxed);
    do {
        if (more > b->limit - *used)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->used, used, *used + more,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void give(struct saed_budget *b, uint64_t bytes)
{
    uint64_t used = atomic_fetch_sub_explicit(&b->used, bytes, memory_order_relaxed);

    assert(used >= bytes);
    (void)used;
}

enum sae_status saed_budget_hold(struct saed_budget *b, uint64_t *held, uint64_t bytes,
                                 enum sae_status too_large, struct sae_err *err)
{
    uint64_t used;

    if (bytes > b->limit)
        return sae_err_limit(err, too_large, "--max-inflight-bytes", b->limit, bytes,
                             "cannot take request: it alone needs %llu bytes, and the limit of all "
                             "in flight is %llu (--max-inflight-bytes)",
                             (unsigned long long)bytes, (unsigned long long)b->limit);
    if (bytes < *held) {
        give(b, *held - bytes);
    } else if (!take(b, bytes - *held, &used)) {
        used -= *held; /* of the others */
        return sae_err_limit(
            err, SAE_E_OVERLOADED, "--max-inflight-bytes", b->limit, used + bytes,
            "cannot take request: %llu bytes beside %llu in flight, and the limit is %llu",
            (unsigned long long)bytes, (unsigned long long)used, (unsigned long long)b->limit);
    }
    *held = bytes;
    return SAE_OK;
}

void saed_budget_release(struct saed_budget *b, uint64_t *held)
{
    give(b, *held);
    *held = 0;
}

uint64_t saed_budget_used(const struct saed_budget *b)
{
    return atomic_load_explicit(&b->used, memory_order_relaxed);
}
