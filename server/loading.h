/* loading.h - dictionaries from their sources: all of a start's opened first, then weighed, then
 * loaded.
 *
 * So a source that is missing, or no dictionary, or too large with the others for the memory that
 * there is, is told at once and not after minutes of reading. Between the two steps no source stays
 * open: there may be more of them than descriptors.
 * Called by service.c. One thread begins; the team's threads open a source each, then all of them
 * load one dictionary after the other. */
#ifndef SAED_LOADING_H
#define SAED_LOADING_H

#include "lib/saed.h"
#include "server/handle.h"
#include "server/opts/opts.h"

#include <stdatomic.h>

struct saed_loading {
    const struct saed_opts *opts;
    const struct sae_engine *engine; /* NULL: there is none, sources are opened and not loaded */
    struct sae_team *team;
    _Atomic size_t *n_loaded; /* counts for /readyz, with a log line for each; NULL: silent */
    saed_report_fn *report;   /* told of each failure */
    void *report_arg;
};

/* Load what opts names into dicts [opts->n_sources], each of them owned by the caller then, also on
 * failure (NULL where there is none yet). *inflight_bytes: --max-inflight-bytes as memory allows.
 */
enum sae_status saed_loading_run(const struct saed_loading *l, struct saed_dict **dicts,
                                 uint64_t *inflight_bytes) SAE_MUST_USE;
/* Open, read and prepare one dictionary: `d` is ready then, or failed. */
void saed_loading_one(struct saed_dict *d, const struct sae_engine *engine, struct sae_team *team);

/* The same in two steps. Of a source that is opened `d` is a description, by what its headers and
 * configs say; *draft, owned, is for the second step, and may be NULL. On failure d has failed. */
enum sae_status saed_loading_describe(struct saed_dict *d, struct sae_draft **draft,
                                      const struct sae_engine *engine);
/* `d`, new, is ready then, or failed. The draft is taken. */
enum sae_status saed_loading_read_take(struct saed_dict *d, struct sae_draft *draft,
                                       const struct sae_engine *engine, struct sae_team *team);

/* The log's lines of one that is ready; `left`: so many are still to be loaded. */
void saed_loading_log(const struct saed_dict *d, uint64_t ns, size_t left);

#endif
