/* op_state.h - an operation under way, as op.c and op_decode.c have it. */
#ifndef SAED_OP_STATE_H
#define SAED_OP_STATE_H

#include "server/api/op.h"
#include "server/api/weights.h"

/* One request. Owned as its exchange: by the connection's thread, or by whoever has it suspended.
 */
struct op {
    struct saed_routes *r;
    struct saed_exchange *x;
    struct saed_dict *dict;          /* held by the exchange until its end, or by wait */
    struct saed_wait wait;           /* wait.dict: what is offered, loaded; held */
    uint64_t wait_ns;                /* since when, then for how long it waited for that */
    const struct sae_coding *coding; /* of the body; NULL: none */
    struct sae_media_type out;       /* of the answer */
    const struct sae_coding *packs;  /* of an answer of text; NULL: as it is */
    struct sae_target target;
    struct sae_request req;
    struct sae_sparse_row *f_in; /* rows of a sparse decode, pointing into req.csr */
    struct saed_weights weights; /* of an operation that rides in no batch */
    struct sae_answer answer;
    uint64_t bound; /* of its bytes, by the plan */
    struct sae_body body;
    struct sae_err err; /* .status: the answer is this error */
    uint64_t reserved;
    uint64_t body_bytes; /* reserved of it for the body, while that is decoded */
    bool printed;
    struct saed_pool_work work;
    struct saed_job job;
};

/* The operation's reservation becomes `bytes`. */
static inline enum sae_status saed_op_hold(struct op *op, uint64_t bytes, enum sae_status too_large,
                                           struct sae_err *err)
{
    return saed_budget_hold(&op->r->budget, &op->reserved, bytes, too_large, err);
}

/* What a codec makes of the body is there beside it. */
enum sae_status saed_op_hold_decoded(void *op, uint64_t bytes, struct sae_err *err) SAE_MUST_USE;

/* Are its rows computed in batches? */
static inline bool saed_op_rides(const struct op *op)
{
    return sae_op_defs[op->target.op].side != SAE_SIDE_NONE;
}

static inline bool saed_op_is_document(enum sae_op kind)
{
    return sae_op_defs[kind].takes == SAE_TAKES_LABELS;
}

/* Is the dictionary still wanted when its rows are computed? */
static inline bool saed_op_prints_labels(const struct op *op)
{
    return op->req.opt.asked & SAE_OPT_LABELS;
}

/* op_decode.c, on any one thread that has the operation; op->err says what is wrong. */

/* Its target's numbers are those of the dictionary. */
void saed_op_aim(struct op *op, const struct sae_dict_info *info);
/* Can the dictionary, as far as it is known, be asked this? */
enum sae_status saed_op_check_parts(const struct saed_dict *d, enum sae_op kind,
                                    struct sae_err *err) SAE_MUST_USE;
/* The body becomes a task that can be queued; of what is offered, as far as that goes before it is
 * loaded. */
enum sae_status saed_op_decode(struct op *op) SAE_MUST_USE;
/* op->wait.dict is there: is the request, which may be decoded by its description, one for it? */
enum sae_status saed_op_take_loaded(struct op *op) SAE_MUST_USE;
/* The plan's outputs as the answer's tensors: without data before the job, with it after. */
void saed_op_make_answer(struct op *op);
/* *bound: the most that the answer may take. `held`: bytes beside the answer and the task. */
enum sae_status saed_op_check_bound(struct op *op, uint64_t held, uint64_t *bound) SAE_MUST_USE;
/* Room for the answer, the task and `held` beside them. */
enum sae_status saed_op_hold_all(struct op *op, uint64_t bound, uint64_t held) SAE_MUST_USE;
/* Bytes that the decoded request holds, its rows as the engine wants them included, or the copy of
 * the weights. */
uint64_t saed_op_request_bytes(const struct op *op);

#endif
