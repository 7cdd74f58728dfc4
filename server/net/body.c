/* body.c - see exchange.h: bodies as they arrive. */
#include "server/clock.h"
#include "server/net/exchange.h"

#include "proto/wire.h"
#include "server/report/log.h"

#include <stddef.h>
#include <string.h>

/* What is held of a body whose length is known: so much more than has come, but no more than it
 * has; in memory that is touched by huge pages, one of them. */
#define STEP_BYTES (64u << 10)
#define HUGE_STEP_BYTES (2u << 20)
#define HUGE_BYTES (4u << 20)
#define FIRST_CHUNKED_BYTES (64u << 10)
#define IGNORED_BODY_BYTES (64u << 10)

enum sae_status saed_http_check_length(struct saed_http_exchange *e, struct sae_err *err)
{
    const struct saed_exchange *x = &e->x;

    if (!x->has_body || x->chunked || x->content_length <= x->max_body_bytes)
        return SAE_OK;
    return sae_err_limit(err, SAE_E_BODY_TOO_LARGE, x->max_body_option, x->max_body_bytes,
                         x->content_length,
                         "cannot take a body of %llu bytes: the limit is %llu (%s)",
                         (unsigned long long)x->content_length,
                         (unsigned long long)x->max_body_bytes, x->max_body_option);
}

/* A reply that is no error may wait for a small one; an error only if it is here already, and one
 * about size never. */
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
    saed_http_of(x)->body_cap = saed_http_of(x)->body_held = 0;
}

/* The array for `need` bytes: all of the body, or, when its length is not known, twice the last. */
static size_t array_bytes(const struct saed_http_exchange *e, size_t need)
{
    const struct saed_exchange *x = &e->x;
    size_t cap = e->body_cap ? e->body_cap : FIRST_CHUNKED_BYTES;

    if (!x->chunked)
        return x->content_length;
    while (cap < need)
        cap *= 2;
    return cap < x->max_body_bytes ? cap : x->max_body_bytes;
}

/* What is to be held of an array of `cap` bytes of which `need` are used. One whose length is known
 * is no memory yet where nothing has been written; of one that doubles all will be soon. */
static size_t held_bytes(const struct saed_http_exchange *e, size_t need, size_t cap)
{
    size_t step = cap < HUGE_BYTES ? STEP_BYTES : HUGE_STEP_BYTES, held;

    if (e->x.chunked)
        return cap;
    held = (need + step - 1) / step * step;
    return held < cap ? held : cap;
}

static enum sae_status make_room(struct saed_http_exchange *e, size_t need, struct sae_err *err)
{
    struct saed_exchange *x = &e->x;
    struct saed_http_handler *hd = &e->h->cfg.handler;
    size_t cap = e->body_cap, held;
    enum sae_status st;
    char *grown;

    if (need > x->max_body_bytes)
        return sae_err_limit(err, SAE_E_BODY_TOO_LARGE, x->max_body_option, x->max_body_bytes, need,
                             "cannot take a body of more than %llu bytes (%s)",
                             (unsigned long long)x->max_body_bytes, x->max_body_option);
    if (need > cap)
        cap = array_bytes(e, need);
    held = held_bytes(e, need, cap);
    st = hd->reserve(hd->arg, x, held, err);
    if (st != SAE_OK)
        return st;
    e->body_held = held;
    if (cap == e->body_cap)
        return SAE_OK;
    grown = sae_alloc(cap, 1);
    if (!grown)
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot hold a body of %zu bytes: memory has run out", cap);
    if (x->n_body)
        memcpy(grown, x->body, x->n_body);
    sae_free(x->body);
    x->body = grown;
    e->body_cap = cap;
    return SAE_OK;
}

/* No room: what was held is free at once. If little is missing the reply waits for it, and the
 * connection goes on. */
static enum MHD_Result refuse_body(struct saed_http_exchange *e, const struct sae_err *err)
{
    struct saed_exchange *x = &e->x;
    struct saed_http_handler *hd = &e->h->cfg.handler;

    saed_http_free_body(x);
    (void)hd->reserve(hd->arg, x, 0, NULL);
    if (!x->chunked && x->content_length - e->body_seen <= IGNORED_BODY_BYTES) {
        saed_http_error(x, err);
        return MHD_YES;
    }
    saed_http_answer_early(e, err);
    return saed_http_end_early(e);
}

enum MHD_Result saed_http_on_body(struct saed_http_exchange *e, const char *piece, size_t n)
{
    struct saed_exchange *x = &e->x;

    e->body_seen += n;
    saed_conn_read(e->conn, n);
    if (e->status) { /* replied to already: read for the connection's sake, but not for ever */
        if (!x->chunked || e->body_seen <= x->max_body_bytes)
            return MHD_YES;
        saed_http_send_early(e);
        return saed_http_end_early(e);
    }
    if (n > e->body_held - x->n_body) {
        struct sae_err err = {0};

        if (make_room(e, x->n_body + n, &err) != SAE_OK)
            return refuse_body(e, &err);
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
