/* op.c - an operation's way: decode, check, reserve, queue, print. See routes.h.
 *
 *     head      415, 413 by length                          connection's thread
 *     decode    (unpacked) body -> request -> plan of the answer   connection's or a pool thread
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
#include "server/api/pack.h"
#include "server/api/unpack.h"
#include "server/api/weights.h"

#include <stdio.h>
#include <string.h>

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

/* ---- bytes in flight ----------------------------------------------------------------------- */

static enum sae_status hold(struct op *op, uint64_t bytes, enum sae_status too_large,
                            struct sae_err *err)
{
    return saed_budget_hold(&op->r->budget, &op->reserved, bytes, too_large, err);
}

enum sae_status saed_op_reserve(void *routes, struct saed_exchange *x, uint64_t bytes,
                                struct sae_err *err)
{
    (void)routes; /* the operation knows them */
    return hold(x->user, bytes, SAE_E_BODY_TOO_LARGE, err);
}

/* What a codec makes of the body is there beside it. */
static enum sae_status hold_decoded(void *arg, uint64_t bytes, struct sae_err *err)
{
    struct op *op = arg;

    return hold(op, op->body_bytes + bytes, SAE_E_BODY_TOO_LARGE, err);
}

/* Are its rows computed in batches? */
static bool rides(const struct op *op)
{
    return sae_op_defs[op->target.op].side != SAE_SIDE_NONE;
}

static bool is_document(enum sae_op kind)
{
    return sae_op_defs[kind].takes == SAE_TAKES_LABELS;
}

/* Is the dictionary still wanted when its rows are computed? */
static bool prints_labels(const struct op *op)
{
    return op->req.opt.asked & SAE_OPT_LABELS;
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

static enum sae_status check_parts(const struct saed_dict *d, enum sae_op kind, struct sae_err *err)
{
    if (!sae_op_defs[kind].decodes || !d->info || !d->info->encodes_only)
        return SAE_OK;
    return sae_err_set(err, SAE_E_NOT_LOADED, "",
                       "cannot decode for \"%s\": its decoder is not loaded, it only encodes",
                       d->name);
}

static enum sae_status check_form(enum sae_op kind, enum sae_media in, struct sae_err *err)
{
    if (sae_media_takes(in, kind))
        return SAE_OK;
    return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                       "cannot read body: its Content-Type is \"%s\", %s is asked in %s or %s",
                       sae_codecs[in].name, sae_op_defs[kind].name, sae_codecs[SAE_MEDIA_JSON].name,
                       sae_codecs[SAE_MEDIA_SAFETENSORS].name);
}

static void aim_at(struct sae_target *t, const struct sae_dict_info *info)
{
    t->class_name = info->class_name;
    t->activation_dim = info->activation_dim;
    t->dict_size = info->dict_size;
    t->state_width = info->state_width;
    t->wants_state = info->wants_state;
    t->wants_x = info->wants_x;
    t->class_options = info->options;
}

/* What its head says of the body: a document has none. */
static enum sae_status check_head(struct saed_exchange *x, enum sae_op kind,
                                  struct sae_media_type *in, const struct sae_coding **coding,
                                  struct sae_err *err)
{
    enum sae_status st;

    *in = (struct sae_media_type){.media = SAE_MEDIA_JSON};
    if (is_document(kind))
        return SAE_OK;
    st = sae_content_type(x->content_type, in, err);
    if (st == SAE_OK)
        st = check_form(kind, in->media, err);
    return st == SAE_OK ? check_encoding(x, coding, err) : st;
}

enum sae_status saed_op_head(struct saed_routes *r, struct saed_exchange *x, enum sae_op kind,
                             struct sae_err *err)
{
    struct saed_dict *d = x->dict;
    const struct saed_opts *o = r->opts;
    const struct sae_coding *coding = NULL;
    struct sae_media_type in;
    enum sae_status st = check_parts(d, kind, err);
    struct op *op;

    if (st == SAE_OK)
        st = check_head(x, kind, &in, &coding, err);
    if (st != SAE_OK)
        return st;
    op = sae_calloc(1, sizeof *op);
    if (!op)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot take request: memory has run out");
    x->user = op;
    if (!is_document(kind))
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
        .hold = hold_decoded,
        .hold_arg = op,
    };
    if (d->info)
        aim_at(&op->target, d->info);
    return SAE_OK;
}

/* ---- decode -------------------------------------------------------------------------------- */

/* The body as it was before it was packed, in its place. */
static enum sae_status unpack_body(struct op *op)
{
    struct saed_exchange *x = op->x;
    const struct saed_unpack how = {.coding = op->coding,
                                    .max_bytes = x->max_body_bytes,
                                    .option = x->max_body_option,
                                    .hold = hold_decoded,
                                    .hold_arg = op};
    struct saed_unpacked unpacked;
    enum sae_status st =
        saed_unpack_body(&unpacked, &how, x->body ? x->body : "", x->n_body, &op->err);

    if (st != SAE_OK)
        return st;
    saed_http_free_body(x);
    x->body = unpacked.body;
    x->n_body = unpacked.n;
    op->body_bytes = unpacked.room;
    return hold(op, op->body_bytes, SAE_E_BODY_TOO_LARGE, &op->err);
}

static enum sae_status parse_query(struct op *op)
{
    const char *query = op->x->query;

    if (is_document(op->target.op))
        return sae_query_each(query, sae_labels_query, &op->req.opt, &op->err);
    if (!rides(op))
        return sae_query_each(query, sae_weights_query, &op->req, &op->err);
    return sae_query_parse(&op->req.opt, query, &op->err);
}

static enum sae_status parse_body(struct op *op)
{
    struct saed_exchange *x = op->x;
    const struct sae_codec *codec = &sae_codecs[op->target.type.media];
    enum sae_status st;
    void *body = x->body;

    if (x->query) {
        st = parse_query(op);
        if (st != SAE_OK)
            return st;
        op->req.held_bytes = op->req.opt.n_features * sizeof *op->req.opt.features;
    }
    if (is_document(op->target.op))
        return sae_request_check(&op->req, &op->target, &op->err);
    if (!body || !codec->keep)
        return codec->parse(&op->req, &op->target, body ? body : "", x->n_body, &op->err);
    st = codec->keep(&op->req, &op->target, &body, x->n_body, &op->err);
    x->body = body;
    if (!body) /* the rows are these very bytes, and what there is of room behind them */
        op->req.held_bytes += op->body_bytes;
    return st;
}

/* The request as a task, planned. */
static void make_task(struct op *op)
{
    struct sae_task *t = &op->job.task;

    t->dict = op->dict->dict;
    t->n_rows = op->req.n_rows;
    t->x = op->req.values;
    t->state_in = op->req.beside[SAE_BESIDE_STATE].values;
    t->skip_x = op->req.beside[SAE_BESIDE_X].values;
    t->query = sae_request_query(&op->req, &op->target);
    sae_task_plan(t);
}

/* Rows of a sparse f as the engine wants them: 24 bytes a row, held by then. */
static enum sae_status make_rows(struct op *op)
{
    struct sae_request *req = &op->req;

    if (!req->is_sparse)
        return SAE_OK;
    op->f_in = sae_calloc(req->n_rows, sizeof *op->f_in);
    if (!op->f_in)
        return sae_err_set(&op->err, SAE_E_NOMEM, "",
                           "cannot hold %zu sparse rows: memory has run out", req->n_rows);
    for (size_t i = 0; i < req->n_rows; i++) {
        size_t at = (size_t)req->csr.indptr[i];

        op->f_in[i].ids = req->csr.ids + at;
        op->f_in[i].values = req->csr.values + at;
        op->f_in[i].n = (size_t)(req->csr.indptr[i + 1] - at);
    }
    op->job.task.f_in = op->f_in;
    return SAE_OK;
}

/* The plan's outputs as the answer's tensors: before prepare without data, after the job with it.
 */
static void make_answer(struct op *op)
{
    op->answer = (struct sae_answer){.lead = op->req.lead, .n_rows = op->req.n_rows};
    saed_fit_answer(&op->job.task, &op->answer);
    sae_answer_as(&op->answer, &op->out);
    if (prints_labels(op)) {
        op->answer.label = saed_labels_of;
        op->answer.label_arg = op->dict->dict;
    }
}

/* To an answer that is too large: how many rows of this request it could have had. */
static enum sae_status say_fit(struct op *op, uint64_t held_bytes)
{
    const struct saed_fit f = {.task = &op->job.task,
                               .answer = &op->answer,
                               .out = op->out.media,
                               .n_rows = op->req.n_rows,
                               .held_bytes = held_bytes};
    const uint64_t n = saed_fit_rows(&f, op->r->opts);
    char *text = op->err.text;
    const size_t len = strlen(text);

    if (!rides(op))
        return op->err.status;
    if (n == 0)
        snprintf(text + len, sizeof op->err.text - len, "; not a single row would fit");
    else
        snprintf(text + len, sizeof op->err.text - len, "; %llu row%s would fit",
                 (unsigned long long)n, n == 1 ? "" : "s");
    return op->err.status;
}

/* held_bytes: beside the answer and the task. */
static enum sae_status check_bound(struct op *op, uint64_t held_bytes, uint64_t *bound)
{
    uint64_t limit = op->r->opts->max_response_bytes;

    *bound = is_document(op->target.op) ? saed_labels_bound(&op->req.opt, op->dict->dict)
                                        : sae_codecs[op->out.media].bound(&op->answer);
    if (*bound <= limit)
        return SAE_OK;
    if (!rides(op))
        return sae_err_limit(
            &op->err, SAE_E_RESPONSE_TOO_LARGE, "--max-response-bytes", limit, *bound,
            "cannot answer with so much: up to %llu bytes of %s, and the "
            "limit is %llu (--max-response-bytes)",
            (unsigned long long)*bound, sae_codecs[op->out.media].name, (unsigned long long)limit);
    sae_err_limit(&op->err, SAE_E_RESPONSE_TOO_LARGE, "--max-response-bytes", limit, *bound,
                  "cannot answer %zu rows: up to %llu bytes of %s, and the limit is %llu "
                  "(--max-response-bytes)",
                  op->req.n_rows, (unsigned long long)*bound, sae_codecs[op->out.media].name,
                  (unsigned long long)limit);
    return say_fit(op, held_bytes);
}

/* Room for the answer, the task and held_bytes beside them. */
static enum sae_status hold_all(struct op *op, uint64_t bound, uint64_t held_bytes)
{
    uint64_t total;
    enum sae_status st;

    if (__builtin_add_overflow(sae_task_bytes(&op->job.task), bound, &total) ||
        __builtin_add_overflow(total, held_bytes, &total))
        total = UINT64_MAX;
    st = hold(op, total, SAE_E_RESPONSE_TOO_LARGE, &op->err);
    return st == SAE_E_RESPONSE_TOO_LARGE ? say_fit(op, held_bytes) : st;
}

/* Bytes that the decoded request holds, its rows as the engine wants them included, or the copy of
 * the weights. */
static uint64_t request_bytes(const struct op *op)
{
    const struct sae_request *r = &op->req;
    uint64_t n = r->held_bytes + (r->is_sparse ? (uint64_t)r->n_rows * sizeof *op->f_in : 0);

    return __builtin_add_overflow(n, op->weights.bytes, &n) ? UINT64_MAX : n;
}

/* The answer, as far as it is known before it is computed. */
static enum sae_status describe(struct op *op)
{
    if (is_document(op->target.op) && !(op->dict->info->options & SAE_OPT_LABELS))
        return sae_err_set(&op->err, SAE_E_NOT_FOUND, "",
                           "cannot find labels of \"%.200s\": its source states none (labels=PATH)",
                           op->dict->name);
    if (is_document(op->target.op))
        return SAE_OK;
    if (!rides(op))
        return saed_weights_plan(&op->weights, &op->answer, &op->req.weights, op->dict->dict,
                                 op->dict->name, &op->err);
    make_task(op);
    make_answer(op);
    return SAE_OK;
}

/* What is asked, of the dictionary, and within which limits. Comes again with the dictionary that
 * is loaded, where a description came before. */
static enum sae_status plan(struct op *op)
{
    uint64_t limit_rows = op->r->opts->max_queue_rows;
    enum sae_status st = describe(op);

    op->x->rows = op->req.n_rows;
    if (st == SAE_OK && !is_document(op->target.op))
        st = sae_accept(op->x->accept, op->target.type.media, sae_media_can(&op->answer), &op->out,
                        &op->err);
    if (st != SAE_OK)
        return st;
    sae_answer_as(&op->answer, &op->out);
    if (op->req.n_rows > limit_rows)
        return sae_err_limit(&op->err, SAE_E_TOO_MANY_ROWS, "--max-queue-rows", limit_rows,
                             op->req.n_rows,
                             "cannot take %zu rows: a queue holds %llu (--max-queue-rows)",
                             op->req.n_rows, (unsigned long long)limit_rows);
    st = check_bound(op, request_bytes(op), &op->bound);
    if (st != SAE_OK)
        return st;
    saed_http_free_body(op->x);
    return hold_all(op, op->bound, request_bytes(op));
}

static enum sae_status parse_and_plan(struct op *op)
{
    enum sae_status st;

    op->body_bytes = op->reserved;
    st = op->coding ? unpack_body(op) : SAE_OK;
    if (st == SAE_OK)
        st = parse_body(op);
    return st == SAE_OK ? plan(op) : st;
}

/* From a plan to a task that can be queued. */
static enum sae_status prepare(struct op *op)
{
    enum sae_status st = make_rows(op);

    if (!rides(op))
        return st;
    return st == SAE_OK ? sae_task_prepare(&op->job.task, &op->err) : st;
}

/* As far as it goes before what is offered is loaded; op->err says why not. */
static enum sae_status decode(struct op *op)
{
    enum sae_status st = op->dict->info ? parse_and_plan(op) : SAE_OK;

    return st == SAE_OK && !op->dict->offer ? prepare(op) : st;
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

    if (is_document(op->target.op))
        return SAE_OK;
    if (rides(op)) { /* a dense answer's numbers are those of before */
        make_answer(op);
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
    const uint64_t held = request_bytes(op) + sae_task_sparse_bytes(&op->job.task);
    enum sae_status st = complete(op);
    uint64_t bound;

    if (st == SAE_OK)
        st = check_bound(op, held, &bound);
    if (st == SAE_OK)
        st = hold_all(op, bound, held);
    if (st != SAE_OK)
        return st;
    if (is_document(op->target.op))
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
    return hold(op, op->body.n, SAE_E_RESPONSE_TOO_LARGE, &op->err);
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

    if (!prints_labels(op))
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
    make_answer(op);
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

/* op->wait.dict is there: is the request, which may be decoded by its description, one for it? */
static enum sae_status take_loaded(struct op *op)
{
    bool is_decoded = op->dict->info;
    uint64_t width = sae_target_width(&op->target); /* of the rows, where they are decoded */
    enum sae_status st;

    op->dict = op->wait.dict;
    aim_at(&op->target, op->dict->info);
    st = check_parts(op->dict, op->target.op, &op->err);
    if (st == SAE_OK && !is_decoded)
        st = parse_and_plan(op);
    else if (st == SAE_OK) {
        st = sae_width_check(&op->target, width, &op->err);
        if (st == SAE_OK)
            st = sae_request_check(&op->req, &op->target, &op->err);
        if (st == SAE_OK)
            st = plan(op);
    }
    return st == SAE_OK ? prepare(op) : st;
}

static void submit_loaded(struct op *op, submit_fn *queue)
{
    if (take_loaded(op) == SAE_OK)
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

    if (decode(op) == SAE_OK)
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

    if (!is_document(op->target.op)) {
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
    if (decode(op) != SAE_OK ||
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
