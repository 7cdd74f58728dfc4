/* request.c - see exchange.h: a request line and its head, up to what becomes of its body. */
#include "server/clock.h"
#include "server/net/exchange.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void *saed_http_on_line(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct saed_http_io *io = cls;
    struct saed_http *h = io->h;
    size_t n = uri ? strlen(uri) : 0;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct saed_conn *conn = info ? info->socket_context : NULL;
    struct saed_http_exchange *e = conn ? sae_calloc(1, sizeof *e + n + 2) : NULL;

    if (!e)
        return NULL;
    e->h = h;
    e->io = io;
    e->connection = connection;
    e->uri = uri;
    if (uri)
        memcpy(e->target, uri, n);
    saed_mhd_hide_query(uri);
    e->x.op = SAED_MOP_OTHER;
    e->conn = conn;
    e->x.is_of_loopback = conn->is_of_loopback;
    e->x.arrival_ns = saed_conn_line(conn, e, saed_now_ns());
    snprintf(e->x.request_id, sizeof e->x.request_id, "%s%08llx", h->id_prefix,
             (unsigned long long)atomic_fetch_add(&h->next_id, 1));
    saed_metrics_in_flight(h->cfg.metrics, 1);
    return e;
}

/* A value as a string: borrowed when MHD's NUL stands right behind it. NULL: out of memory. */
static const char *as_string(struct saed_http_exchange *e, const struct saed_value *v, unsigned n)
{
    size_t len = 0;
    char *s;

    if (n == 1 && v[0].p[v[0].n] == '\0')
        return v[0].p;
    for (unsigned i = 0; i < n; i++)
        len += v[i].n + 2;
    s = sae_calloc(1, len + 1);
    if (!s)
        return NULL;
    e->copies[e->n_copies++] = s;
    len = 0;
    for (unsigned i = 0; i < n; i++) {
        if (i > 0) {
            memcpy(s + len, ", ", 2);
            len += 2;
        }
        memcpy(s + len, v[i].p, v[i].n);
        len += v[i].n;
    }
    return s;
}

static bool take_strings(struct saed_http_exchange *e, const struct saed_head *head)
{
    struct saed_exchange *x = &e->x;

    const struct {
        const char **to;
        const struct saed_value *from;
    } single[] = {
        {&x->content_type, &head->content_type},
        {&x->content_encoding, &head->content_encoding},
        {&x->shape, &head->shape},
        {&x->host, &head->host},
        {&x->origin, &head->origin},
        {&x->authorization, &head->authorization},
        {&x->asks_method, &head->asks_method},
        {&x->traceparent, &head->traceparent},
    };

    _Static_assert(SAE_COUNTOF(single) + 2 <= SAE_COUNTOF(e->copies), "each may have to be copied");
    for (size_t i = 0; i < SAE_COUNTOF(single); i++)
        if (single[i].from->p && !(*single[i].to = as_string(e, single[i].from, 1)))
            return false;
    if (head->n_accept && !(x->accept = as_string(e, head->accept, head->n_accept)))
        return false;
    if (head->n_accept_encoding &&
        !(x->accept_encoding = as_string(e, head->accept_encoding, head->n_accept_encoding)))
        return false;
    return true;
}

static enum sae_status read_head(struct saed_http_exchange *e, const char *method,
                                 const char *version, struct sae_err *err)
{
    struct saed_mhd_line line = {method, e->uri, e->target, version};
    struct saed_exchange *x = &e->x;
    size_t n_bytes = 0;
    struct saed_head head;
    enum sae_status st =
        saed_mhd_read_head(&head, &n_bytes, e->connection, &line, e->h->heads, err);

    x->method = head.method;
    x->chunked = head.chunked;
    x->content_length = head.length;
    x->has_body = head.chunked || head.length > 0;
    if (st != SAE_OK)
        return st;
    e->keeps_alive = head.keeps_alive;
    e->wire_bytes = UINT64_MAX;
    if (!head.chunked && head.length < UINT64_MAX / 2)
        e->wire_bytes = n_bytes + head.length + saed_conn_leading(e->conn, method);
    if (head.request_id.p) {
        memcpy(x->request_id, head.request_id.p, head.request_id.n);
        x->request_id[head.request_id.n] = '\0';
    }
    if (!take_strings(e, &head))
        return sae_err_set(err, SAE_E_NOMEM, "",
                           "cannot keep the request's head: memory has run out");
    /* In place: the path stands at the target's begin or behind it. */
    x->query = head.query;
    x->path = e->target;
    if (!saed_path_decode(e->target, head.path.p, head.path.n))
        return sae_err_set(err, SAE_E_BAD_REQUEST, "", "cannot decode the path: a '%%' is no %%XX");
    return SAE_OK;
}

/* MHD finds that it cannot write, and closes. */
void saed_http_answer_length(void *exchange)
{
    struct saed_http_exchange *e = exchange;
    struct sae_err err = {0};

    if (!saed_mhd_refuses_length(e->connection))
        return;
    if (e->io->own_status == 413)
        sae_err_set(&err, SAE_E_BODY_TOO_LARGE, "",
                    "cannot read request head: Content-Length is larger than 64 bits hold");
    else
        sae_err_set(
            &err, SAE_E_BAD_REQUEST, "",
            "cannot read request head: Content-Length is no number, or has blanks behind it");
    e->is_counted = e->io->own_is_ours = true;
    saed_http_answer_early(e, &err);
    shutdown(saed_http_socket(e), SHUT_WR);
}

enum MHD_Result saed_http_on_head(struct saed_http_exchange *e, const char *method,
                                  const char *version)
{
    struct saed_http_handler *hd = &e->h->cfg.handler;
    struct sae_err err = {0};
    enum sae_status st = read_head(e, method, version, &err);

    if (st == SAE_E_HEAD_TOO_LARGE) {
        saed_http_answer_early(e, &err);
        return saed_http_end_early(e);
    }
    if (st != SAE_OK) { /* what this client means by a request is unknown: close */
        saed_http_error(&e->x, &err);
        saed_conn_set_lingers(e->conn);
        return saed_http_send(e);
    }
    e->headed = true;
    if (!saed_conns_admit(e->h->conns, e->conn))
        e->x.beyond = saed_conns_limit(e->h->conns);
    st = hd->head(hd->arg, &e->x, &err);
    if (st == SAE_OK && e->status == 0)
        st = saed_http_check_length(e, &err);
    if (st != SAE_OK && e->status == 0)
        saed_http_error(&e->x, &err);
    if (e->status && e->x.has_body && (e->x.beyond || !saed_http_may_ignore_body(e, st))) {
        saed_conn_set_lingers(e->conn);
        return saed_http_send(e);
    }
    saed_conn_move(e->conn, SAED_CONN_BODY);
    return MHD_YES;
}
