/* access.h - who may call (spec 3.3, 401 and 403): asked after the head, before anything is said of
 * what is served.
 *
 * HOST    A page whose name is pointed at this machine anew is of the same origin as what answers
 *         there, and reads all of it. Its requests ask for that name: where only this machine is
 *         listened to, and nobody has to have a key, other names than the machine's own for itself
 *         are refused, on loopback addresses. Addresses of the network are left alone: what they
 * are called there (a pod's address, a service's name) is nothing that saed could know. ORIGIN What
 * a browser sends for a page of another origin says so: refused, but for pages that are listed,
 * which may then read the answer, whatever it is.
 *
 * KEY     With key files (keys.h) whoever calls must have one, but for what is open to all; Host is
 *         then of no matter.
 *
 * Immutable but for the keys, which are read anew on SIGHUP; any thread. Called by routes.c. */
#ifndef SAED_ACCESS_H
#define SAED_ACCESS_H

#include "server/api/keys.h"
#include "server/net/http.h"
#include "server/opts/opts.h"

struct saed_access {
    const struct saed_opts *opts; /* borrowed */
    struct saed_keys *keys;       /* owned; NULL: nobody is asked for one */
};

/* *a is zeroed, and for saed_access_fini whatever the result. Errors as those of keys.h. */
enum sae_status saed_access_init(struct saed_access *a, const struct saed_opts *opts,
                                 struct sae_err *err) SAE_MUST_USE;
void saed_access_fini(struct saed_access *a);
/* SAE_E_FORBIDDEN, SAE_E_UNAUTHORIZED. is_open: what is asked for needs no key. */
enum sae_status saed_access_check(const struct saed_access *a, struct saed_exchange *x,
                                  bool is_open, struct sae_err *err) SAE_MUST_USE;
/* A page that is listed asks what it may send: nothing else is to be said. */
bool saed_access_is_preflight(const struct saed_exchange *x);
void saed_access_allow(struct saed_exchange *x); /* adds what it may */

#endif
