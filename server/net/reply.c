/* reply.c - see exchange.h: replies, and the two ways in which they go out. */
#include "server/clock.h"
#include "server/net/exchange.h"

#include "proto/wire.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PROBLEM_JSON "application/problem+json"

void saed_http_header(struct saed_exchange *x, const char *name, const char *fmt, ...)
{
    struct saed_http_exchange *e = saed_http_of(x);
    va_list ap;

    if (e->n_headers == SAED_HTTP_HEADERS)
        return;
    e->headers[e->n_headers].name = name;
    va_start(ap, fmt);
    vsnprintf(e->headers[e->n_headers].value, sizeof e->headers[0].value, fmt, ap);
    va_end(ap);
    e->n_headers++;
}

void saed_http_reply(struct saed_exchange *x, int status, const char *content_type,
                     const void *data, size_t n, void (*free_data)(void *), void *free_arg)
{
    struct saed_http_exchange *e = saed_http_of(x);

    e->status = status;
    e->problem = SAE_OK;
    e->content_type = content_type;
    e->data = data;
    e->n_data = n;
    e->free_data = free_data;
    e->free_arg = free_arg;
}

static const char out_of_memory[] = "{\"type\":\"about:blank\",\"title\":\"Overloaded\","
                                    "\"status\":503,\"detail\":\"memory has run out\","
                                    "\"code\":\"overloaded\"}\n";

void saed_http_error(struct saed_exchange *x, const struct sae_err *err)
{
    saed_http_error_more(x, err, "");
}

void saed_http_error_more(struct saed_exchange *x, const struct sae_err *err, const char *more)
{
    int status = sae_error_info(err->status).http;
    struct sae_buf b;

    sae_buf_init(&b, 1 << 18); /* each byte of 64 KB may be escaped */
    if (sae_problem_print(&b, err, more) == SAE_OK) {
        saed_http_reply(x, status, PROBLEM_JSON, b.data, b.len, sae_free, b.data);
        saed_http_of(x)->problem = err->status;
    } else {
        sae_buf_fini(&b);
        status = 503;
        saed_http_reply(x, status, PROBLEM_JSON, out_of_memory, sizeof out_of_memory - 1, NULL,
                        NULL);
        saed_http_of(x)->problem = SAE_E_NOMEM;
    }
    if (status == 503)
        saed_http_header(x, "Retry-After", "%" PRIu64, err->retry_s ? err->retry_s : 1);
}

void saed_http_drop(struct saed_exchange *x)
{
    saed_http_of(x)->dropped = true;
}

void saed_http_free_reply(struct saed_http_exchange *e)
{
    if (e->free_data)
        e->free_data(e->free_arg);
    e->free_data = NULL;
    e->status = 0;
}

/* As milliseconds: whole ones and microseconds. */
#define MS(ns) (unsigned long long)((ns) / 1000000), (unsigned)((ns) / 1000 % 1000)

/* What a page of another origin may read of an answer, beside what it may always. */
#define EXPOSED \
    "Saed-Shape, Saed-Batch-Rows, Saed-Request-Id, Server-Timing, Retry-After, WWW-Authenticate"

/* What every answer has. */
static void add_headers(struct saed_http_exchange *e)
{
    struct saed_exchange *x = &e->x;

    if (e->content_type)
        saed_http_header(x, "Content-Type", "%s", e->content_type);
    saed_http_header(x, "X-Content-Type-Options", "nosniff");
    saed_http_header(x, "Cache-Control", "no-store");
    saed_http_header(x, "Saed-Request-Id", "%s", x->request_id);
    saed_http_header(x, "Server-Timing",
                     "queue;dur=%llu.%03u, compute;dur=%llu.%03u, total;dur=%llu.%03u",
                     MS(x->queue_ns), MS(x->compute_ns), MS(saed_now_ns() - x->arrival_ns));
    if (!x->readable_by)
        return;
    saed_http_header(x, "Access-Control-Allow-Origin", "%s", x->readable_by);
    saed_http_header(x, "Access-Control-Expose-Headers", EXPOSED);
    saed_http_header(x, "Vary", "Origin");
}

/* While draining a connection ends with the last request that has arrived on it; one beyond the
 * limit ends with its first. */
static bool is_last(const struct saed_http_exchange *e)
{
    if (e->x.beyond)
        return true;
    return atomic_load(&e->h->draining) &&
           !(e->wire_bytes != UINT64_MAX &&
             saed_conn_has(e->conn, e->wire_bytes + 1, saed_tcp_counts));
}

static struct MHD_Response *make_response(struct saed_http_exchange *e)
{
    struct MHD_Response *r;
    bool ok = true;

    if (e->free_data)
        r = MHD_create_response_from_buffer_with_free_callback_cls(
            e->n_data, (void *)(uintptr_t)e->data, e->free_data, e->free_arg);
    else
        r = MHD_create_response_from_buffer(e->n_data, (void *)(uintptr_t)e->data,
                                            MHD_RESPMEM_PERSISTENT);
    if (!r)
        return NULL;
    e->free_data = NULL; /* the response's from now on */
    add_headers(e);
    for (unsigned i = 0; ok && i < e->n_headers; i++)
        ok = MHD_add_response_header(r, e->headers[i].name, e->headers[i].value) == MHD_YES;
    if (ok && is_last(e))
        ok = MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    /* A reply in HEAD ends the connection. */
    else if (ok && e->keeps_alive && saed_conn_state(e->conn) != SAED_CONN_HEAD)
        ok = MHD_add_response_header(r, "Keep-Alive", e->h->keep_alive) == MHD_YES;
    if (ok)
        return r;
    MHD_destroy_response(r);
    return NULL;
}

enum MHD_Result saed_http_send(struct saed_http_exchange *e)
{
    struct saed_http *h = e->h;
    enum MHD_Result ok;
    struct MHD_Response *r;

    if (e->dropped) {
        saed_http_free_reply(e);
        return MHD_NO;
    }
    if (e->status == 0) {
        struct sae_err err = {0};

        sae_err_set(&err, SAE_E_INTERNAL, "", "cannot answer: no reply was made");
        saed_http_error(&e->x, &err);
    }
    r = make_response(e);
    if (!r) {
        e->status = 503;
        e->problem = SAE_E_NOMEM;
        e->n_data = sizeof out_of_memory - 1;
    }
    saed_conn_reply(e->conn, e->n_data, saed_now_ns(), saed_tcp_counts);
    ok = MHD_queue_response(e->connection, (unsigned)e->status, r ? r : h->no_memory);
    if (r)
        MHD_destroy_response(r);
    if (ok == MHD_YES)
        saed_http_account_answer(e, e->status);
    return ok;
}

int saed_http_socket(const struct saed_http_exchange *e)
{
    return MHD_get_connection_info(e->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

void saed_http_send_early(struct saed_http_exchange *e)
{
    struct saed_early a;

    add_headers(e);
    a = (struct saed_early){
        .status = e->status,
        .reason = MHD_get_reason_phrase_for((unsigned)e->status),
        .headers = e->headers,
        .n_headers = e->n_headers,
        .data = e->data,
        .n_data = e->n_data,
        .no_data = e->x.method == SAED_METHOD_HEAD,
    };
    saed_conn_reply(e->conn, e->n_data, saed_now_ns(), saed_tcp_counts);
    if (saed_early_write(saed_http_socket(e), &a))
        saed_http_account_answer(e, e->status);
    saed_http_free_reply(e);
}

void saed_http_answer_early(struct saed_http_exchange *e, const struct sae_err *err)
{
    saed_http_free_reply(e);
    e->n_headers = 0;
    saed_http_error(&e->x, err);
    saed_http_send_early(e);
}

enum MHD_Result saed_http_end_early(struct saed_http_exchange *e)
{
    saed_conn_set_lingers(e->conn);
    return MHD_NO;
}

struct MHD_Response *saed_http_make_no_memory(void)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(
        sizeof out_of_memory - 1, (void *)(uintptr_t)out_of_memory, MHD_RESPMEM_PERSISTENT);

    if (r && MHD_add_response_header(r, "Content-Type", PROBLEM_JSON) == MHD_YES &&
        MHD_add_response_header(r, "Retry-After", "1") == MHD_YES &&
        MHD_add_response_header(r, "Connection", "close") == MHD_YES)
        return r;
    if (r)
        MHD_destroy_response(r);
    return NULL;
}
