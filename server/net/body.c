/* body.c - see exchange.h: bodies as they arrive. */
#include "server/net/exchange.h"

#include "proto/wire.h"
#include "server/report/log.h"

#include <stddef.h>
#include <string.h>

#define FIRST_CHUNKED_BYTES (64u << 10)
#define IGNORED_BODY_BYTES (64u << 10)

enum sae_status saed_http_prepare_body(struct saed_http_exchange *e, struct sae_err *err)
{
    struct saed_exchange *x = &e->x;
    struct saed_http_handler *hd = &e->h->cfg.handler;
    enum sae_status st;

    if (!x->has_body || x->chunked)
        return SAE_OK;
    if (x->content_length > x->max_body_bytes)
        return sae_err_limit(err, SAE_E_BODY_TOO_LARGE, x->max_body_option, x->max_body_bytes,
                             x->content_length,
                             "cannot take a body of %llu bytes: the limit is %llu (%s)",
                             (unsigned long long)x->content_length,
                             (unsigned long long)x->max_body_bytes, x->max_body_option);
    st = hd->reserve(hd->arg, x, x->content_length, err);
    if (st != SAE_OK)
        return st;
    x->body = sae_alloc(x->content_length, 1);
    if (!x->body)
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot hold a body of %llu bytes: memory has run out",
                           (unsigned long long)x->content_length);
    e->body_cap = x->content_length;
    return SAE_OK;
}

/* A reply that
 * is no error may wait for a small one; an error only if it is here already, and one about size
 * never. */
bool saed_http_may_ignore_body(struct saed_http_exchange *e, enum sae_status st)
{
    struct saed_exchange *x = &e->x;

    if (st == SAE_OK)
        return x->content_length <= x->max_body_bytes;
    x->max_body_bytes = IGNORED_BODY_BYTES;
    return st != SAE_E_BODY_TOO_LARGE && !x->chunked && x->content_length <= IGNORED_BODY_BYTES &&
           saed_conn_has(e->conn, e->wire_bytes, saed_tcp_counts);
}

void saed_http_free_body(struct saed_exchange *x)
{
    sae_free(x->body);
    x->body = NULL;
    x->n_body = 0;
    saed_http_of(x)->body_cap = 0;
}

/* Room for `need` bytes of a chunked body; e->refused says why not. */
static void grow_body(struct saed_http_exchange *e, size_t need)
{
    struct saed_exchange *x = &e->x;
    struct saed_http_handler *hd = &e->h->cfg.handler;
    size_t cap = e->body_cap ? e->body_cap : FIRST_CHUNKED_BYTES;
    char *grown;

    if (need > x->max_body_bytes) {
        sae_err_limit(&e->refused, SAE_E_BODY_TOO_LARGE, x->max_body_option, x->max_body_bytes,
                      need, "cannot take a body of more than %llu bytes (%s)",
                      (unsigned long long)x->max_body_bytes, x->max_body_option);
        return;
    }
    while (cap < need)
        cap *= 2;
    if (cap > x->max_body_bytes)
        cap = x->max_body_bytes;
    if (hd->reserve(hd->arg, x, cap, &e->refused) != SAE_OK) {
        return;
    }
    grown = sae_alloc(cap, 1);
    if (!grown) {
        sae_err_set(&e->refused, SAE_E_NOMEM, "",
                    "cannot hold a body of %zu bytes: memory has run out", cap);
        return;
    }
    if (x->n_body)
        memcpy(grown, x->body, x->n_body);
    sae_free(x->body);
    x->body = grown;
    e->body_cap = cap;
}

/* It has been answered. MHD closes, and what still comes is dropped. */
static enum MHD_Result end_in_mid_body(struct saed_http_exchange *e)
{
    saed_conn_set_lingers(e->conn);
    return MHD_NO;
}

enum MHD_Result saed_http_on_body(struct saed_http_exchange *e, const char *piece, size_t n)
{
    struct saed_exchange *x = &e->x;

    e->body_seen += n;
    if (e->status) { /* replied to already: read for the connection's sake, but not for ever */
        if (!x->chunked || e->body_seen <= x->max_body_bytes)
            return MHD_YES;
        saed_http_send_early(e);
        return end_in_mid_body(e);
    }
    if (!e->refused.status && n > e->body_cap - x->n_body) {
        if (!x->chunked)
            return MHD_NO; /* more than its Content-Length: MHD does not do that */
        grow_body(e, x->n_body + n);
    }
    if (e->refused.status) {
        saed_http_answer_early(e, &e->refused);
        return end_in_mid_body(e);
    }
    memcpy(x->body + x->n_body, piece, n);
    x->n_body += n;
    return MHD_YES;
}

enum MHD_Result saed_http_on_whole(struct saed_http_exchange *e)
{
    struct saed_http_handler *hd = &e->h->cfg.handler;

    saed_conn_move(e->conn, SAED_CONN_WORK);
    e->x.whole_ns = saed_now_ns();
    if (e->status)
        return saed_http_send(e);
    hd->request(hd->arg, &e->x);
    /* Suspended, it may be anybody's by now, but only this thread frees *e. */
    return saed_conn_state(e->conn) == SAED_CONN_WORK ? saed_http_send(e) : MHD_YES;
}
/* ---- bodies that do not come ----------------------------------------------------------------- */

static void time_out_one(void *exchange)
{
    struct saed_http_exchange *e = exchange;
    uint64_t least = e->h->cfg.min_upload_rate, rate = saed_conn_rate(e->conn, saed_now_ns());
    struct sae_err err = {0};

    if (rate == 0)
        sae_err_limit(&err, SAE_E_UPLOAD_TIMEOUT, "--min-upload-rate", least, rate,
                      "cannot wait for the body: nothing has come of it for 10 s or more "
                      "(--min-upload-rate)");
    else
        sae_err_limit(
            &err, SAE_E_UPLOAD_TIMEOUT, "--min-upload-rate", least, rate,
            "cannot wait for the body: it brought %llu bytes a second over the last 10 s, "
            "and %llu are the least (--min-upload-rate)",
            (unsigned long long)rate, (unsigned long long)least);
    saed_log(SAED_INFO, "upload_timeout", saed_str("request", e->x.request_id),
             saed_uint("bytes", e->body_seen), saed_uint("rate", rate));
    saed_http_answer_early(e, &err);
    saed_http_hang_up(e);
}

void saed_http_on_slow_note(struct saed_loop_note *note)
{
    struct saed_http_io *io =
        (struct saed_http_io *)(void *)((char *)note - offsetof(struct saed_http_io, slow));

    atomic_store(&io->slow_posted, false);
    saed_conns_each_slow(io->h->conns, io, time_out_one);
}

/* On the thread of conns.h. */
void saed_http_on_slow(void *arg, void *owner)
{
    struct saed_http_io *io = owner;

    (void)arg;
    if (!atomic_exchange(&io->slow_posted, true))
        saed_loop_post(io->loop, &io->slow);
}

static void refuse_one(void *exchange)
{
    struct saed_http_exchange *e = exchange;

    saed_http_answer_early(e, &e->h->refusal);
    saed_http_hang_up(e);
}

static void on_refuse_note(struct saed_loop_note *note)
{
    struct saed_http_io *io =
        (struct saed_http_io *)(void *)((char *)note - offsetof(struct saed_http_io, refuse));

    saed_conns_each_reading(io->h->conns, io, refuse_one);
}

void saed_http_refuse_bodies(struct saed_http *h, const struct sae_err *err)
{
    h->refusal = *err;
    for (size_t i = 0; i < h->cfg.n_threads; i++) {
        h->ios[i].refuse.run = on_refuse_note;
        saed_loop_post(h->ios[i].loop, &h->ios[i].refuse);
    }
}
