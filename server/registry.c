/* registry.c - see registry.h. */
#include "server/registry.h"

#include <string.h>

/* The loading in progress. */
struct loading {
    struct saed_registry *r;
    struct sae_team *team;
    struct sae_err *errs; /* [n], zero where it went well */
};

static void load_range(void *arg, size_t from, size_t to)
{
    struct loading *l = arg;

    for (size_t i = from; i < to; i++) {
        struct saed_entry *e = &l->r->entries[i];

        if (sae_dict_open(&e->dict, e->source, l->team, &l->errs[i]) == SAE_OK)
            e->info = sae_dict_info(e->dict);
        else if (l->errs[i].status == SAE_OK)
            sae_err_set(&l->errs[i], SAE_E_INTERNAL, e->name,
                        "cannot open dictionary: no reason given");
    }
}

enum sae_status saed_registry_load(struct saed_registry **out, const struct saed_source *sources,
                                   size_t n, struct sae_team *team, saed_report_fn *report,
                                   void *arg)
{
    enum sae_status st = SAE_OK;
    struct loading l = {.team = team};
    struct sae_err nomem = {0};

    l.r = sae_calloc(1, sizeof *l.r);
    l.errs = sae_calloc(n, sizeof *l.errs);
    if (l.r)
        l.r->entries = sae_calloc(n, sizeof *l.r->entries);
    if (!l.r || !l.errs || !l.r->entries) {
        st = sae_err_set(&nomem, SAE_E_NOMEM, "", "cannot allocate %zu dictionaries", n);
        report(arg, &nomem);
        goto out;
    }
    l.r->n = n;
    for (size_t i = 0; i < n; i++) {
        l.r->entries[i].name = sources[i].name;
        l.r->entries[i].source = sources[i].source;
    }
    sae_team_run(team, n, 1, load_range, &l);
    for (size_t i = 0; i < n; i++) {
        struct sae_err full = {0};

        if (l.errs[i].status == SAE_OK)
            continue;
        sae_err_set(&full, l.errs[i].status, l.errs[i].where, "%s=%s: %s", sources[i].name,
                    sources[i].source, l.errs[i].text);
        report(arg, &full);
        if (st == SAE_OK)
            st = full.status;
    }
    if (st == SAE_OK) {
        *out = l.r;
        l.r = NULL;
    }
out:
    sae_free(l.errs);
    saed_registry_free(l.r);
    return st;
}

void saed_registry_free(struct saed_registry *r)
{
    if (!r)
        return;
    for (size_t i = 0; r->entries && i < r->n; i++)
        sae_dict_free(r->entries[i].dict);
    sae_free(r->entries);
    sae_free(r);
}

size_t saed_registry_find(const struct saed_registry *r, const char *name)
{
    size_t i = 0;

    while (i < r->n && strcmp(r->entries[i].name, name) != 0)
        i++;
    return i;
}

struct sae_dict **saed_registry_dicts(const struct saed_registry *r)
{
    struct sae_dict **dicts = sae_calloc(r->n, sizeof(struct sae_dict *));

    for (size_t i = 0; dicts && i < r->n; i++)
        dicts[i] = r->entries[i].dict;
    return dicts;
}
