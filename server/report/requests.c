/* requests.c - see requests.h. */
#include "server/report/requests.h"

#include "server/report/log.h"
#include "server/report/trace.h"

#include <pthread.h>

/* Of one kind. */
struct allowance {
    uint64_t since_ns;
    uint64_t n, left_out; /* lines since then; requests without one since the last line */
};

struct saed_requests {
    bool is_all;
    pthread_mutex_t lock;                 /* guards kinds */
    struct allowance kinds[SAE_N_STATUS]; /* by problem; SAE_OK: the library's own */
};

static const char *const codes[SAE_N_STATUS] = {
#define SAE_ERROR(status, http, code, title) [status] = code,
#include "proto/errors.def"
#undef SAE_ERROR
};

enum sae_status saed_requests_create(struct saed_requests **out, bool is_all, struct sae_err *err)
{
    struct saed_requests *r = sae_calloc(1, sizeof *r);

    if (!r)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the request log: %zu bytes",
                           sizeof *r);
    r->is_all = is_all;
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return SAE_OK;
}

void saed_requests_free(struct saed_requests *r)
{
    if (!r)
        return;
    pthread_mutex_destroy(&r->lock);
    sae_free(r);
}

bool saed_requests_wants(const struct saed_requests *r, int status)
{
    return r->is_all || status >= 400;
}

/* Threads' clocks may differ: a `now` of before is of the same time. */
static bool is_over(const struct allowance *a, uint64_t now)
{
    return now > a->since_ns && now - a->since_ns >= SAED_REFUSED_NS;
}

/* May it have a line? *left_out of its kind had none. */
static bool allow(struct allowance *a, uint64_t now, uint64_t *left_out)
{
    if (a->n == 0 || is_over(a, now)) {
        a->since_ns = now;
        a->n = 0;
    }
    if (a->n == SAED_REFUSED_LINES) {
        a->left_out++;
        return false;
    }
    a->n++;
    *left_out = a->left_out;
    a->left_out = 0;
    return true;
}

static enum saed_log_level level_of(int status)
{
    return status == 500 ? SAED_ERROR : status > 500 ? SAED_WARN : SAED_INFO;
}

static struct saed_field ms(const char *key, uint64_t ns)
{
    return saed_real(key, (double)ns / 1e6);
}

static void write_line(const struct saed_request *q, const char *event, uint64_t left_out)
{
    char trace[SAED_TRACE_ID + 1];
    struct saed_field f[24] = {
        saed_str("request", q->id),
        saed_str("key", q->key),
        saed_str("method", q->method),
        saed_str("route", q->route),
        saed_str("dictionary", q->dictionary),
        saed_str("op", saed_metric_op_name(q->op)),
        saed_uint("rows", q->rows),
        saed_uint("bytes_in", q->bytes_in),
        saed_uint("bytes_out", q->bytes_out),
        saed_uint("batch_rows", q->batch_rows),
        q->status ? saed_int("status", q->status) : saed_str("status", NULL),
        saed_str("code", codes[q->problem]),
        ms("queue_ms", q->queue_ns),
        ms("compute_ms", q->compute_ns),
        ms("total_ms", q->total_ns),
    };
    size_t n = 15;

    if (saed_trace_parse(q->traceparent, trace))
        f[n++] = saed_str("trace", trace);
    if (left_out)
        f[n++] = saed_uint("left_out", left_out);
    if (q->path) /* the longest comes last, where a line may be cut */
        f[n++] = saed_str("path", q->path);
    f[n] = SAED_NO_FIELDS;
    saed_log_fields(level_of(q->status), event, f);
}

void saed_requests_log(struct saed_requests *r, const struct saed_request *q, uint64_t now)
{
    uint64_t left_out = 0;
    bool is_allowed = r->is_all;

    if (!r->is_all) {
        pthread_mutex_lock(&r->lock);
        is_allowed = allow(&r->kinds[q->problem], now, &left_out);
        pthread_mutex_unlock(&r->lock);
    }
    if (is_allowed)
        write_line(q, r->is_all ? "access" : "refused", left_out);
}

void saed_requests_flush(struct saed_requests *r, uint64_t now)
{
    for (size_t i = 0; i < SAE_N_STATUS; i++) {
        struct allowance *a = &r->kinds[i];
        uint64_t left_out = 0;

        pthread_mutex_lock(&r->lock);
        if (is_over(a, now)) {
            left_out = a->left_out;
            a->left_out = 0;
        }
        pthread_mutex_unlock(&r->lock);
        if (left_out)
            saed_log(SAED_WARN, "refused", saed_str("code", codes[i]),
                     saed_uint("left_out", left_out));
    }
}
