/* account.c - see exchange.h: what metrics and the log have of exchanges. */
#include "server/clock.h"
#include "server/net/exchange.h"

#include "server/report/log.h"

#include <string.h>

static const char *const methods[] = {
    [SAED_METHOD_GET] = "GET",         [SAED_METHOD_HEAD] = "HEAD",   [SAED_METHOD_POST] = "POST",
    [SAED_METHOD_OPTIONS] = "OPTIONS", [SAED_METHOD_OTHER] = "other",
};

void saed_http_account_answer(struct saed_http_exchange *e, int status)
{
    e->answered = status;
    if (e->x.method != SAED_METHOD_HEAD)
        e->bytes_out = e->n_data;
    if (!e->is_counted)
        saed_metrics_request(e->h->cfg.metrics, e->x.series, e->x.op, status,
                             saed_now_ns() - e->x.arrival_ns);
}

/* Route and dictionary leave open what was asked for. */
static bool is_path_wanted(const struct saed_exchange *x)
{
    return !x->route || (!x->dictionary && strchr(x->route, '{'));
}

void saed_http_account_end(struct saed_http_exchange *e, bool by_library)
{
    struct saed_requests *log = e->h->cfg.requests;
    const struct saed_exchange *x = &e->x;
    uint64_t now;

    if (!saed_requests_wants(log, e->answered))
        return;
    /* one that MHD has answered is logged, and a head that has not come whole is no request */
    if (!e->answered && (!e->headed || (by_library && !e->dropped)))
        return;
    now = saed_now_ns();
    saed_requests_log(log,
                      &(struct saed_request){
                          .id = x->request_id,
                          .key = x->client[0] ? x->client : NULL,
                          .method = methods[x->method],
                          .route = x->route,
                          .dictionary = x->dictionary,
                          .path = is_path_wanted(x) ? x->path : NULL,
                          .traceparent = x->traceparent,
                          .op = x->op,
                          .problem = e->problem,
                          .status = e->answered,
                          .rows = x->rows,
                          .batch_rows = x->batch_rows,
                          .bytes_in = e->body_seen,
                          .bytes_out = e->bytes_out,
                          .queue_ns = x->queue_ns,
                          .compute_ns = x->compute_ns,
                          .total_ns = now - x->arrival_ns,
                      },
                      now);
}

void saed_http_account_own(struct saed_http *h, int status)
{
    const struct saed_request q = {.status = status, .op = SAED_MOP_OTHER};

    if (saed_requests_wants(h->cfg.requests, status))
        saed_requests_log(h->cfg.requests, &q, saed_now_ns());
}

/* On the thread of conns.h, which keeps the exchange from ending. */
void saed_http_on_dropped(void *arg, const void *exchange)
{
    struct saed_http *h = arg;
    const struct saed_http_exchange *e = exchange;

    saed_metrics_dropped(h->cfg.metrics);
    saed_log(SAED_WARN, "answer_dropped", saed_str("request", e->x.request_id),
             saed_int("status", e->status), saed_uint("bytes", e->n_data));
}
