/* op.c - an operation's way: decode, check, reserve, queue, print. See routes.h.
 *
 *     head      415, 413 by length                          connection's thread
 *     decode    op_decode.c: body -> request -> plan        connection's or a pool thread
 *     load      of what is offered: its dictionary          the same; on_loaded: who loads
 *     submit    the scheduler has it until `done`           the same; done: a compute thread
 *     finish    what selection found -> printed body        connection's or a pool thread
 *     reply                                                 connection's thread
 *
 * An operation that rides in no batch (weights) is not submitted: its answer is copied where it is
 * printed. One whose answer is a document (labels) is asked by GET: it has no body, and no form but
 * JSON.
 *
 * What is offered is decoded by its description, and checked again by the dictionary that comes of
 * it; where there is no description, decoded then. Its dictionary is held until the job is done.
 *
 * The exchange is suspended from before submit (from before decode, where a pool thread does that)
 * until it is finished or failed. Bodies and answers above SAED_POOL_BYTES go to the pool's
 * threads.
 *
 * BYTES IN FLIGHT  an operation holds one reservation: first its body; while that is decoded, also
 * what the codec makes of it; once decoded, its rows, the task's arrays and the bound of its
 * answer; once printed, the answer; released when it is sent. */
#include "server/api/op.h"

#include "server/api/fit.h"
#include "server/api/labels.h"
#include "server/api/op_state.h"
#include "server/api/pack.h"
#include "server/api/unpack.h"
#include "server/clock.h"

#include <stdio.h>
#include <string.h>

/* ---- bytes in flight ----------------------------------------------------------------------- */

enum sae_status saed_op_reserve(void *routes, struct saed_exchange *x, uint64_t bytes,
                                struct sae_err *err)
{
    (void)routes; /* the operation knows them */
    return saed_op_hold(x->user, bytes, SAE_E_BODY_TOO_LARGE, err);
}

/* ---- head ---------------------------------------------------------------------------------- */

static enum sae_status check_encoding(struct saed_exchange *x, const struct sae_coding **coding,
                                      struct sae_err *err)
{
    enum sae_status st = saed_unpack_coding(x->content_encoding, coding, err);

    if (st != SAE_OK)
        saed_http_header(x, "Accept-Encoding", "%s, identity", sae_coding_names());
    return st;
}

/* What its head says of the body: a document has none. */
static enum sae_status check_head(struct saed_exchange *x, enum sae_op kind,
                                  struct sae_media_type *in, const struct sae_coding **coding,
                                  struct sae_err *err)
{
    enum sae_status st;

    *in = (struct sae_media_type){.media = SAE_MEDIA_JSON};
    if (saed_op_is_document(kind))
        return SAE_OK;
    st = sae_content_type(x->content_type, in, err);
    if (st == SAE_OK)
        st = sae_content_check(in->media, kind, err);
    return st == SAE_OK ? check_encoding(x, coding, err) : st;
}

enum sae_status saed_op_head(struct saed_routes *r, struct saed_exchange *x, enum sae_op kind,
                             struct sae_err *err)
{
    struct saed_dict *d = x->dict;
    const struct saed_opts *o = r->opts;
    const struct sae_coding *coding = NULL;
    struct sae_media_type in;
    enum sae_status st = saed_op_check_parts(d, kind, err);
    struct op *op;

    if (st == SAE_OK)
        st = check_head(x, kind, &in, &coding, err);
    if (st != SAE_OK)
        return st;
    op = sae_calloc(1, sizeof *op);
    if (!op)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot take request: memory has run out");
    x->user = op;
    if (!saed_op_is_document(kind))
        x->max_body_bytes = saed_fit_body(in.media, o, &x->max_body_option);
    op->r = r;
    op->x = x;
    op->dict = d;
    op->coding = coding;
    op->packs = saed_pack_coding(r, x);
    op->target = (struct sae_target){
        .op = kind,
        .dictionary = d->name,
        .type = in,
        .shape = x->shape,
        .max_bytes = o->max_inflight_bytes,
        .hold = saed_op_hold_decoded,
        .hold_arg = op,
    };
    if (d->info)
        saed_op_aim(op, d->info);
    return SAE_OK;
}

/* ---- finish -------------------------------------------------------------------------------- */

static void free_rows(struct op *op)
{
    sae_task_fini(&op->job.task);
    sae_request_fini(&op->req);
    memset(&op->req, 0, sizeof op->req);
    sae_free(op->f_in);
    op->f_in = NULL;
    saed_weights_fini(&op->weights);
}

/* Of what is offered others may need the room. */
static void let_go(struct op *op)
{
    saed_dict_release(op->wait.dict);
    op->wait.dict = NULL;
    op->dict = op->x->dict;
    op->job.task.dict = NULL;
}

/* What is to be printed, whole. */
static enum sae_status complete(struct op *op)
{
    enum sae_status st;

    if (saed_op_is_document(op->target.op))
        return SAE_OK;
    if (saed_op_rides(op)) { /* a dense answer's numbers are those of before */
        saed_op_make_answer(op);
        return SAE_OK;
    }
    st = saed_weights_copy(&op->weights, &op->answer, &op->req.weights, op->dict->dict, &op->err);
    let_go(op);
    return st;
}

/* Answers of more bytes are not for a connection's thread. */
static uint64_t most_here(const struct op *op)
{
    return op->packs && sae_codecs[op->out.media].is_text ? SAED_PACK_HERE_BYTES : SAED_POOL_BYTES;
}

/* The printed body packed, where the client takes that and it becomes smaller. */
static void pack(struct op *op)
{
    const struct sae_coding *packs = sae_codecs[op->out.media].is_text ? op->packs : NULL;
    char *packed;
    size_t n;

    op->packs = NULL; /* until it is */
    if (!packs ||
        !saed_pack_bytes(op->r, packs, op->body.data, op->body.n, &op->reserved, &packed, &n))
        return;
    sae_free(op->body.data);
    op->body.data = packed;
    op->body.n = n;
    op->packs = packs;
}

/* Bytes are known now where entries were selected: limits once more, then print. */
static enum sae_status finish(struct op *op)
{
    const struct saed_opts *o = op->r->opts;
    const uint64_t held = saed_op_request_bytes(op) + sae_task_sparse_bytes(&op->job.task);
    enum sae_status st = complete(op);
    uint64_t bound;

    if (st == SAE_OK)
        st = saed_op_check_bound(op, held, &bound);
    if (st == SAE_OK)
        st = saed_op_hold_all(op, bound, held);
    if (st != SAE_OK)
        return st;
    if (saed_op_is_document(op->target.op))
        st = saed_labels_print(&op->body, &op->req.opt, op->dict->dict, &op->err);
    else
        st = sae_codecs[op->out.media].print(&op->body, &op->answer, o->max_response_bytes,
                                             &op->err);
    if (st != SAE_OK)
        return st;
    let_go(op);
    free_rows(op);
    op->printed = true;
    pack(op);
    return saed_op_hold(op, op->body.n, SAE_E_RESPONSE_TOO_LARGE, &op->err);
}

static void finish_and_resume(void *arg)
{
    struct op *op = arg;

    (void)finish(op); /* op->err says it */
    saed_http_resume(op->x);
}

/* On a pool thread if that takes long. *op may be gone when it returns. */
static void finish_away(struct op *op, uint64_t bound)
{
    if (bound <= most_here(op)) {
        finish_and_resume(op);
        return;
    }
    op->work.run = finish_and_resume;
    op->work.arg = op;
    saed_pool_push(op->r->pool, &op->work, bound);
}

/* The scheduler is done with the job: on a compute thread, or the one that cancelled. */
static void on_done(struct saed_job *job, void *arg)
{
    struct op *op = arg;
    uint64_t bound;

    if (!saed_op_prints_labels(op))
        let_go(op);
    if (job->status != SAE_OK) {
        switch (job->status) {
        case SAE_E_DEADLINE_EXCEEDED:
            sae_err_limit(
                &op->err, job->status, "--request-timeout-ms", op->r->opts->request_timeout_ms,
                (saed_now_ns() - op->x->whole_ns) / 1000000,
                "cannot compute: still not in a batch after %llu ms (--request-timeout-ms)",
                (unsigned long long)op->r->opts->request_timeout_ms);
            break;
        case SAE_E_DRAINING:
            sae_err_set(&op->err, job->status, "", "cannot compute: the server is stopping");
            break;
        case SAE_E_NOMEM:
            sae_err_set(&op->err, job->status, "", "cannot compute: memory has run out");
            break;
        default:
            sae_err_set(&op->err, job->status, "", "cannot compute: the request was cancelled");
            break;
        }
        saed_http_resume(op->x);
        return;
    }
    saed_op_make_answer(op);
    bound = sae_codecs[op->out.media].bound(&op->answer);
    if (bound > most_here(op)) {
        op->work.run = finish_and_resume;
        op->work.arg = op;
        saed_pool_push(op->r->pool, &op->work, bound);
        return;
    }
    saed_http_resume(op->x); /* printed by saed_op_resumed */
}

static uint64_t deadline_of(const struct op *op)
{
    return op->x->whole_ns + op->r->opts->request_timeout_ms * 1000000;
}

typedef enum sae_status submit_fn(struct saed_sched *s, struct saed_dict *d, struct saed_job *job,
                                  struct sae_err *err);

/* ---- queue --------------------------------------------------------------------------------- */

/* Hand over the suspended exchange, whose task is prepared; when that fails op->err says why and it
 * is resumed. On a pool thread *op may be gone when it returns. */
static void submit(struct op *op, submit_fn *queue)
{
    struct saed_job *job = &op->job;

    if (op->req.n_rows == 0) {
        finish_away(op, op->bound);
        return;
    }
    job->side = sae_op_defs[op->target.op].side;
    job->deadline_ns = deadline_of(op);
    job->done = on_done;
    job->done_arg = op;
    if (queue(op->r->sched, op->dict, job, &op->err) != SAE_OK)
        saed_http_resume(op->x);
}

/* ---- load ------------------------------------------------------------------------------------ */

static void submit_loaded(struct op *op, submit_fn *queue)
{
    if (saed_op_take_loaded(op) == SAE_OK)
        submit(op, queue);
    else
        saed_http_resume(op->x);
}

static void run_loaded(void *arg)
{
    submit_loaded(arg, saed_sched_submit);
}

/* On the thread that loads, that watches deadlines or that cancels. */
static void on_loaded(struct saed_wait *w, void *arg)
{
    struct op *op = arg;

    op->wait_ns = saed_now_ns() - op->wait_ns;
    op->x->series = w->series;
    op->err = w->err;
    if (w->err.status != SAE_OK) {
        saed_http_resume(op->x);
        return;
    }
    op->work.run = run_loaded;
    op->work.arg = op;
    saed_pool_push(op->r->pool, &op->work, op->reserved);
}

/* Decoded and suspended: let it be computed, once what is offered is loaded. *op may be gone when
 * it returns. */
static void begin(struct op *op, submit_fn *queue)
{
    struct saed_wait *w = &op->wait;

    /* A client that goes from here on cancels; one that has gone is not queued. Between this and
     * what follows a cancel may meet what is not queued yet and be lost: its rows are computed for
     * nobody. */
    if (!saed_http_queue(op->x)) {
        sae_err_set(&op->err, SAE_E_CANCELLED, "", "cannot compute: the client has gone");
        saed_http_resume(op->x);
        return;
    }
    if (!op->dict->offer) {
        submit(op, queue);
        return;
    }
    w->rows = op->dict->info ? op->req.n_rows : 1;
    w->deadline_ns = deadline_of(op);
    w->done = on_loaded;
    w->arg = op;
    op->wait_ns = saed_now_ns();
    if (saed_offers_want(op->r->offers, op->dict, w))
        return;
    op->wait_ns = 0;
    op->x->series = w->series;
    op->err = w->err;
    if (w->dict)
        submit_loaded(op, queue);
    else
        saed_http_resume(op->x);
}

static void decode_and_begin(void *arg)
{
    struct op *op = arg;

    if (saed_op_decode(op) == SAE_OK)
        begin(op, saed_sched_submit);
    else
        saed_http_resume(op->x);
}

/* To a wrong width: which dictionaries take it. */
static void say_takers(struct op *op)
{
    struct saed_dict *d = NULL;
    char list[256] = "; no dictionary takes that width";
    size_t len = 0, said = strlen(op->err.text);

    while ((d = saed_registry_next(op->r->registry, d))) {
        if (!d->info || sae_op_width(op->target.op, d->info->activation_dim, d->info->dict_size) !=
                            op->err.width)
            continue;
        if (len + strlen(d->name) + 40 > sizeof list) {
            snprintf(list + len, sizeof list - len, ", ...");
            saed_dict_release(d);
            break;
        }
        len += (size_t)snprintf(list + len, sizeof list - len, "%s\"%s\"",
                                len ? ", " : "; that width is taken by ", d->name);
    }
    snprintf(op->err.text + said, sizeof op->err.text - said, "%s", list);
}

static void reply_error(struct op *op)
{
    if (op->err.is_width)
        say_takers(op);
    saed_http_error(op->x, &op->err);
}

static void reply(struct op *op)
{
    struct saed_exchange *x = op->x;

    if (!saed_op_is_document(op->target.op)) {
        saed_http_header(x, "Saed-Batch-Rows", "%zu", op->job.largest_batch);
        saed_http_header(x, "Vary", "Accept");
    }
    if (op->body.shape[0])
        saed_http_header(x, "Saed-Shape", "%s", op->body.shape);
    if (sae_codecs[op->out.media].is_text)
        saed_pack_headers(op->r, x, op->packs);
    saed_http_reply(x, 200, sae_media_type_name(&op->out), op->body.data, op->body.n, sae_free,
                    op->body.data);
    op->body.data = NULL; /* the reply's now */
}

/* How many times as large a packed body may well become. */
#define USUAL_RATIO 16

void saed_op_request(void *routes, struct saed_exchange *x)
{
    struct op *op = x->user;

    if (x->n_body > SAED_POOL_BYTES || op->coding) {
        op->work.run = decode_and_begin;
        op->work.arg = op;
        saed_http_suspend(x);
        saed_pool_push(op->r->pool, &op->work, op->coding ? x->n_body * USUAL_RATIO : x->n_body);
        return;
    }
    if (saed_op_decode(op) != SAE_OK ||
        (op->req.n_rows == 0 && !op->dict->offer && op->bound <= most_here(op))) {
        saed_op_resumed(routes, x);
        return;
    }
    saed_http_suspend(x);
    begin(op, saed_sched_enqueue);
    saed_http_expect_more(x); /* those that come together ride together */
}

/* What the scheduler noted, whatever became of the job. */
static void time_job(struct op *op)
{
    const struct saed_job *job = &op->job;

    if (job->start_ns > job->submit_ns)
        op->x->queue_ns = job->start_ns - job->submit_ns;
    else if (job->submit_ns > 0 && job->start_ns == 0) /* it waited in vain */
        op->x->queue_ns = saed_now_ns() - job->submit_ns;
    op->x->queue_ns += op->wait_ns;
    op->x->compute_ns = job->compute_ns;
    op->x->batch_rows = job->largest_batch;
}

void saed_op_resumed(void *routes, struct saed_exchange *x)
{
    struct op *op = x->user;

    (void)routes;
    if (op->err.status == SAE_OK && !op->printed)
        (void)finish(op); /* op->err says it */
    time_job(op);
    if (op->err.status == SAE_E_CANCELLED)
        saed_http_drop(x);
    else if (op->err.status != SAE_OK)
        reply_error(op);
    else
        reply(op);
}

void saed_op_gone(void *routes, struct saed_exchange *x)
{
    struct op *op = x->user;

    (void)routes;
    if (x->dict->offer)
        saed_offers_cancel(op->r->offers, &op->wait);
    saed_sched_cancel(op->r->sched, &op->job);
}

void saed_op_end(struct saed_exchange *x)
{
    struct op *op = x->user;

    saed_dict_release(op->wait.dict);
    free_rows(op);
    sae_body_fini(&op->body);
    saed_budget_release(&op->r->budget, &op->reserved);
    sae_free(op);
    x->user = NULL;
}
