/* find.h - what is offered: the dictionaries below the folders of --dictionaries, their names and
 * what the config's "readings" state of them.
 *
 * Called once, at start, by service.c. No weights file is opened. */
#ifndef SAED_OFFERS_FIND_H
#define SAED_OFFERS_FIND_H

#include "server/opts/opts.h"

struct saed_found {
    struct saed_source *sources; /* owned, by their names; a path and what is stated of it */
    size_t n;
};

/* One that is not offered, and why: its name is too long, or another's too, or hidden by a
 * dictionary that is named. `path` may be a folder that could not be listed; name NULL then. */
typedef void saed_not_offered_fn(void *arg, const char *name, const char *path, const char *why);

/* On success *out is owned (saed_found_fini). SAE_E_IO, SAE_E_FORMAT: a folder cannot be listed, or
 * is too large; SAE_E_NOMEM. */
enum sae_status saed_find(struct saed_found *out, const struct saed_opts *opts,
                          saed_not_offered_fn *not_offered, void *arg,
                          struct sae_err *err) SAE_MUST_USE;
void saed_found_fini(struct saed_found *f); /* of a zeroed one too */

/* Is the whole of `path` as the pattern says? '*': any bytes but '/'; '?': one of these. */
bool saed_match(const char *pattern, const char *path);

#endif
