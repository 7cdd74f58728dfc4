/* requests.h - what the log has of requests: all of them, or of those that are refused or fail as
 * many as a log can bear.
 *
 * With --access-log each has a line, `access`. Without it those that were answered with a status of
 * 400 and above have one, `refused`: ten of a kind within 10 s. A kind is a code of the contract;
 * what the HTTP library answers by itself is one too. Of the others the next line of their kind
 * says how many they were, or, when none comes, one that flush writes. Both have the same fields,
 * and the level of the status: 500 is error, what else is 5xx warn, the rest info.
 *
 * THREADS  any; guarded by a lock that is not held while a line is written. Called by net/account.c
 * and daemon.c. */
#ifndef SAED_REQUESTS_H
#define SAED_REQUESTS_H

#include "server/report/metrics.h"

#define SAED_REFUSED_LINES 10
#define SAED_REFUSED_NS 10000000000ull

/* One request, when it is over. Strings are borrowed for the call, and may be a stranger's; NULL:
 * none. No payload and no key has a place here. */
struct saed_request {
    const char *id, *key; /* key: whose, never which */
    const char *method, *route, *dictionary;
    const char *path;        /* of one that says more than route and dictionary do */
    const char *traceparent; /* as it was sent */
    enum saed_metric_op op;
    enum sae_status problem; /* the answer was this one; SAE_OK: none of ours */
    int status;              /* 0: nobody was there to be answered */
    uint64_t rows, batch_rows, bytes_in, bytes_out; /* bytes of bodies, as they are sent */
    uint64_t queue_ns, compute_ns, total_ns;
};

struct saed_requests;

enum sae_status saed_requests_create(struct saed_requests **out, bool is_all,
                                     struct sae_err *err) SAE_MUST_USE;
void saed_requests_free(struct saed_requests *r); /* NULL allowed */
/* False: one that ended with this status is nothing to the log. */
bool saed_requests_wants(const struct saed_requests *r, int status);
void saed_requests_log(struct saed_requests *r, const struct saed_request *q, uint64_t now);
/* Say what was left out more than SAED_REFUSED_NS ago. */
void saed_requests_flush(struct saed_requests *r, uint64_t now);

#endif
