/* op_decode.c - an operation from its body to a task that can be queued: unpacked, parsed, planned,
 * its room reserved. See op.c. */
#include "server/api/fit.h"
#include "server/api/labels.h"
#include "server/api/op_state.h"
#include "server/api/unpack.h"

#include <stdio.h>
#include <string.h>

enum sae_status saed_op_hold_decoded(void *arg, uint64_t bytes, struct sae_err *err)
{
    struct op *op = arg;

    return saed_op_hold(op, op->body_bytes + bytes, SAE_E_BODY_TOO_LARGE, err);
}

void saed_op_aim(struct op *op, const struct sae_dict_info *info)
{
    struct sae_target *t = &op->target;

    t->class_name = info->class_name;
    t->activation_dim = info->activation_dim;
    t->dict_size = info->dict_size;
    t->state_width = info->state_width;
    t->wants_state = info->wants_state;
    t->wants_x = info->wants_x;
    t->class_options = info->options;
}

enum sae_status saed_op_check_parts(const struct saed_dict *d, enum sae_op kind,
                                    struct sae_err *err)
{
    if (!d->info)
        return SAE_OK;
    if (saed_op_is_document(kind) && !(d->info->options & SAE_OPT_LABELS))
        return sae_err_set(err, SAE_E_NOT_FOUND, "",
                           "cannot find labels of \"%.200s\": its source states none (labels=PATH)",
                           d->name);
    if (!sae_op_defs[kind].decodes || !d->info->encodes_only)
        return SAE_OK;
    return sae_err_set(err, SAE_E_NOT_LOADED, "",
                       "cannot decode for \"%s\": its decoder is not loaded, it only encodes",
                       d->name);
}

/* The body as it was before it was packed, in its place. */
static enum sae_status unpack_body(struct op *op)
{
    struct saed_exchange *x = op->x;
    const struct saed_unpack how = {.coding = op->coding,
                                    .max_bytes = x->max_body_bytes,
                                    .option = x->max_body_option,
                                    .hold = saed_op_hold_decoded,
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
    return saed_op_hold(op, op->body_bytes, SAE_E_BODY_TOO_LARGE, &op->err);
}

static enum sae_status parse_query(struct op *op)
{
    const char *query = op->x->query;

    if (saed_op_is_document(op->target.op))
        return sae_query_each(query, sae_labels_query, &op->req.opt, &op->err);
    if (!saed_op_rides(op))
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
    if (saed_op_is_document(op->target.op))
        return sae_request_check(&op->req, &op->target, &op->err);
    if (!body && codec->is_text && !saed_op_rides(op)) /* the query says it all */
        return codec->parse(&op->req, &op->target, "{}", 2, &op->err);
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
    for (size_t i = 0; i < req->n_rows && req->csr.indptr; i++) {
        size_t at = (size_t)req->csr.indptr[i];

        op->f_in[i].ids = req->csr.ids + at;
        op->f_in[i].values = req->csr.values + at;
        op->f_in[i].n = (size_t)(req->csr.indptr[i + 1] - at);
    }
    op->job.task.f_in = op->f_in;
    return SAE_OK;
}

void saed_op_make_answer(struct op *op)
{
    op->answer = (struct sae_answer){.lead = op->req.lead, .n_rows = op->req.n_rows};
    saed_fit_answer(&op->job.task, &op->answer);
    sae_answer_as(&op->answer, &op->out);
    if (saed_op_prints_labels(op)) {
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

    if (!saed_op_rides(op))
        return op->err.status;
    if (n == 0)
        snprintf(text + len, sizeof op->err.text - len, "; not a single row would fit");
    else
        snprintf(text + len, sizeof op->err.text - len, "; %llu row%s would fit",
                 (unsigned long long)n, n == 1 ? "" : "s");
    return op->err.status;
}

enum sae_status saed_op_check_bound(struct op *op, uint64_t held_bytes, uint64_t *bound)
{
    uint64_t limit = op->r->opts->max_response_bytes;

    *bound = saed_op_is_document(op->target.op) ? saed_labels_bound(&op->req.opt, op->dict->dict)
                                                : sae_codecs[op->out.media].bound(&op->answer);
    if (*bound <= limit)
        return SAE_OK;
    if (!saed_op_rides(op))
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

enum sae_status saed_op_hold_all(struct op *op, uint64_t bound, uint64_t held_bytes)
{
    uint64_t total;
    enum sae_status st;

    if (__builtin_add_overflow(sae_task_bytes(&op->job.task), bound, &total) ||
        __builtin_add_overflow(total, held_bytes, &total))
        total = UINT64_MAX;
    st = saed_op_hold(op, total, SAE_E_RESPONSE_TOO_LARGE, &op->err);
    return st == SAE_E_RESPONSE_TOO_LARGE ? say_fit(op, held_bytes) : st;
}

uint64_t saed_op_request_bytes(const struct op *op)
{
    const struct sae_request *r = &op->req;
    uint64_t n = r->held_bytes + (r->is_sparse ? (uint64_t)r->n_rows * sizeof *op->f_in : 0);

    return __builtin_add_overflow(n, op->weights.bytes, &n) ? UINT64_MAX : n;
}

/* The answer, as far as it is known before it is computed. */
static enum sae_status describe(struct op *op)
{
    if (saed_op_is_document(op->target.op))
        return SAE_OK;
    if (!saed_op_rides(op))
        return saed_weights_plan(&op->weights, &op->answer, &op->req.weights, op->dict->dict,
                                 op->dict->name, &op->err);
    make_task(op);
    saed_op_make_answer(op);
    return SAE_OK;
}

/* What is asked, of the dictionary, and within which limits. Comes again with the dictionary that
 * is loaded, where a description came before. */
static enum sae_status plan(struct op *op)
{
    uint64_t limit_rows = op->r->opts->max_queue_rows;
    enum sae_status st = describe(op);

    op->x->rows = op->req.n_rows;
    if (st == SAE_OK && !saed_op_is_document(op->target.op))
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
    st = saed_op_check_bound(op, saed_op_request_bytes(op), &op->bound);
    if (st != SAE_OK)
        return st;
    saed_http_free_body(op->x);
    return saed_op_hold_all(op, op->bound, saed_op_request_bytes(op));
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

    if (!saed_op_rides(op))
        return st;
    return st == SAE_OK ? sae_task_prepare(&op->job.task, &op->err) : st;
}

enum sae_status saed_op_decode(struct op *op)
{
    enum sae_status st = op->dict->info ? parse_and_plan(op) : SAE_OK;

    return st == SAE_OK && !op->dict->offer ? prepare(op) : st;
}

enum sae_status saed_op_take_loaded(struct op *op)
{
    bool is_decoded = op->dict->info;
    uint64_t width = sae_target_width(&op->target); /* of the rows, where they are decoded */
    enum sae_status st;

    op->dict = op->wait.dict;
    saed_op_aim(op, op->dict->info);
    st = saed_op_check_parts(op->dict, op->target.op, &op->err);
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
