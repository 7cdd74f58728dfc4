/* registry.h - name -> dictionary. Loaded once before ready, immutable after: any thread may read.
 */
#ifndef SAED_REGISTRY_H
#define SAED_REGISTRY_H

#include "lib/saed.h"
#include "server/opts/opts.h"

struct saed_entry {
    const char *name;                 /* borrowed from the options */
    const char *source;               /* as given */
    struct sae_dict *dict;            /* owned by the registry */
    const struct sae_dict_info *info; /* of the dict */
};

struct saed_registry {
    struct saed_entry *entries; /* in the order given; the index is the dict_index everywhere */
    size_t n;
};

/* Open every source with the threads of `team`. `report` is told of each that fails, in order, with
 * `where` = its name; then *out is untouched and the first failure's status is returned. */
enum sae_status saed_registry_load(struct saed_registry **out, const struct saed_source *sources,
                                   size_t n, struct sae_team *team, saed_report_fn *report,
                                   void *arg) SAE_MUST_USE;
void saed_registry_free(struct saed_registry *r); /* NULL allowed */

/* The index of `name`, or r->n. */
size_t saed_registry_find(const struct saed_registry *r, const char *name);
/* All dictionaries in order, for the scheduler and the engine: owned by the caller (sae_free). */
struct sae_dict **saed_registry_dicts(const struct saed_registry *r) SAE_MUST_USE;

#endif
