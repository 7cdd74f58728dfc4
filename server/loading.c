/* loading.c - see loading.h. */
#include "server/loading.h"

#include "lib/num.h"
#include "server/clock.h"
#include "server/opts/cgroup.h"
#include "server/opts/memory.h"
#include "server/report/log.h"

#include <inttypes.h>
#include <string.h>

/* ---- one dictionary -------------------------------------------------------------------------- */

#define SOURCE_BYTES 200 /* of a longer source its end */

/* The source is the one that was opened first, where it was opened before. */
static enum sae_status check_stamp(const struct saed_dict *d, const struct sae_draft *t,
                                   struct sae_err *err)
{
    size_t n = strlen(d->shown);

    if (d->stamp == 0 || d->stamp == sae_draft_stamp(t))
        return SAE_OK;
    return sae_err_set(err, SAE_E_IO, "",
                       "cannot load %s%s: it was written to or replaced while others were loaded",
                       n > SOURCE_BYTES ? "..." : "",
                       d->shown + (n > SOURCE_BYTES ? n - SOURCE_BYTES : 0));
}

/* UINT64_MAX: more than can be counted, or no engine to ask. */
static uint64_t resident_bytes(const struct sae_engine *engine, const struct sae_dict_info *info)
{
    uint64_t bytes;

    return engine && !sae_add_u64(info->resident_bytes, sae_engine_prepared_bytes(engine, info),
                                  &bytes)
               ? bytes
               : UINT64_MAX;
}

static enum sae_status failed(struct saed_dict *d, enum sae_status st)
{
    d->state = SAED_DICT_FAILED;
    return sae_err_set(&d->err, st, d->name, "no reason given");
}

/* NULL: there is no engine, and nothing is to be computed with. */
static enum sae_status open_draft(struct sae_draft **out, struct saed_dict *d,
                                  const struct sae_engine *engine)
{
    enum sae_status st = sae_draft_open(out, d->source, &d->err);

    if (st == SAE_OK && engine && sae_engine_wants_f32(engine))
        sae_draft_widen(*out);
    return st;
}

enum sae_status saed_loading_read_take(struct saed_dict *d, struct sae_draft *draft,
                                       const struct sae_engine *engine, struct sae_team *team)
{
    enum sae_status st = sae_draft_load(&d->dict, draft, team, &d->err);

    sae_draft_close(draft);
    if (st == SAE_OK)
        st = sae_engine_prepare(engine, d->dict, team, &d->err);
    if (st != SAE_OK)
        return failed(d, st);
    d->state = SAED_DICT_READY;
    d->info = sae_dict_info(d->dict);
    d->resident_bytes = resident_bytes(engine, d->info);
    return SAE_OK;
}

enum sae_status saed_loading_describe(struct saed_dict *d, struct sae_draft **draft,
                                      const struct sae_engine *engine)
{
    struct sae_draft *t = NULL;
    enum sae_status st = open_draft(&t, d, engine);

    if (st == SAE_OK)
        st = sae_draft_outline(&d->dict, t, &d->err);
    if (st == SAE_OK) {
        d->state = SAED_DICT_OFFERED;
        d->info = sae_dict_info(d->dict);
        d->resident_bytes = resident_bytes(engine, d->info);
    }
    if (st == SAE_OK && draft)
        *draft = t;
    else
        sae_draft_close(t);
    return st == SAE_OK ? st : failed(d, st);
}

void saed_loading_one(struct saed_dict *d, const struct sae_engine *engine, struct sae_team *team)
{
    struct sae_draft *t = NULL;
    enum sae_status st = open_draft(&t, d, engine);

    if (st == SAE_OK)
        st = check_stamp(d, t, &d->err);
    if (st == SAE_OK) {
        (void)saed_loading_read_take(d, t, engine, team);
    } else {
        sae_draft_close(t);
        (void)failed(d, st);
    }
}

void saed_loading_log(const struct saed_dict *d, uint64_t ns, size_t left)
{
    saed_log(SAED_INFO, "dictionary", saed_str("name", d->name),
             saed_str("class", d->info->class_name),
             saed_uint("activation_dim", d->info->activation_dim),
             saed_uint("dict_size", d->info->dict_size), saed_str("dtype", d->info->dtype),
             saed_uint("bytes", d->info->bytes), saed_uint("resident_bytes", d->resident_bytes),
             saed_str("source", d->shown), saed_uint("ms", ns / 1000000), saed_uint("left", left));
    for (unsigned k = 0; k < d->info->n_notes; k++)
        saed_log(SAED_WARN, "note", saed_str("name", d->name), saed_str("note", d->info->notes[k]));
}

/* ---- all of a start ---------------------------------------------------------------------------
 */

struct run {
    const struct saed_loading *l;
    struct saed_dict **dicts;
    size_t n;
};

/* What its headers say: that it can be loaded, and what it will take. */
static void open_range(void *arg, size_t from, size_t to)
{
    const struct run *r = arg;

    for (size_t i = from; i < to; i++) {
        struct saed_dict *d = r->dicts[i];
        struct sae_draft *t = NULL;

        if (open_draft(&t, d, r->l->engine) != SAE_OK) {
            d->state = SAED_DICT_FAILED;
            continue;
        }
        d->stamp = sae_draft_stamp(t);
        d->resident_bytes = resident_bytes(r->l->engine, sae_draft_info(t));
        sae_draft_close(t);
    }
}

/* One after the other, so that only one takes more than it keeps: each with all threads. */
static void load_all(const struct run *r)
{
    _Atomic size_t *n_loaded = r->l->n_loaded;

    for (size_t i = 0; i < r->n; i++) {
        struct saed_dict *d = r->dicts[i];
        uint64_t begin = saed_now_ns();

        if (n_loaded)
            saed_log(SAED_INFO, "loading", saed_str("name", d->name), saed_str("source", d->shown),
                     saed_uint("resident_bytes", d->resident_bytes));
        saed_loading_one(d, r->l->engine, r->l->team);
        d->load_ns = saed_now_ns() - begin;
        if (n_loaded && d->state == SAED_DICT_READY)
            saed_loading_log(d, d->load_ns, r->n - atomic_fetch_add(n_loaded, 1) - 1);
    }
}

/* The text names the file; the dictionary's name gets the room that it leaves. */
static void report_named(const struct saed_loading *l, const struct sae_err *e, const char *name)
{
    struct sae_err full = {0};
    size_t n = strlen(name), room = sizeof full.text - sizeof "...: " - strlen(e->text);

    if (n <= room)
        sae_err_set(&full, e->status, e->where, "%s: %s", name, e->text);
    else
        sae_err_set(&full, e->status, e->where, "%.*s...: %s", (int)room, name, e->text);
    l->report(l->report_arg, &full);
}

/* Report each that failed; the first one's status. */
static enum sae_status report_failed(const struct run *r)
{
    enum sae_status st = SAE_OK;

    for (size_t i = 0; i < r->n; i++) {
        const struct saed_dict *d = r->dicts[i];

        if (d->state != SAED_DICT_FAILED)
            continue;
        report_named(r->l, &d->err, d->name);
        if (st == SAE_OK)
            st = d->err.status;
    }
    return st;
}

/* Do they fit within --max-resident-bytes, all together? */
static enum sae_status check_most(const struct saed_opts *o, uint64_t bytes, struct sae_err *err)
{
    if (o->max_resident_bytes == 0 || bytes <= o->max_resident_bytes)
        return SAE_OK;
    return sae_err_set(err, SAE_E_NOMEM, "",
                       "cannot load the dictionaries: they need %" PRIu64
                       " bytes together, and --max-resident-bytes is %" PRIu64,
                       bytes, o->max_resident_bytes);
}

/* Do they fit in memory, all together, with those that may come beside them? */
static enum sae_status weigh(const struct run *r, uint64_t *inflight_bytes, struct sae_err *err)
{
    uint64_t limit = saed_memory_limit(SAED_CGROUP_PROC, SAED_CGROUP_SYS), bytes = 0;
    const struct saed_opts *o = r->l->opts;
    enum sae_status st;

    for (size_t i = 0; i < r->n; i++)
        if (sae_add_u64(bytes, r->dicts[i]->resident_bytes, &bytes))
            bytes = UINT64_MAX;
    st = check_most(o, bytes, err);
    if (st == SAE_OK && o->dictionaries.n > 0 && o->max_resident_bytes > 0)
        bytes = o->max_resident_bytes;
    if (st == SAE_OK)
        st = saed_memory_fit(bytes, limit, o, inflight_bytes, err);
    if (st == SAE_OK && r->l->n_loaded && limit < UINT64_MAX)
        saed_log(SAED_INFO, "memory", saed_uint("dictionaries", bytes), saed_uint("limit", limit),
                 saed_uint("max_inflight_bytes", *inflight_bytes));
    return st;
}

static enum sae_status create_dicts(const struct run *r, struct sae_err *err)
{
    const struct saed_source *sources = r->l->opts->sources;
    enum sae_status st = SAE_OK;

    for (size_t i = 0; i < r->n && st == SAE_OK; i++)
        st = saed_dict_create(&r->dicts[i], sources[i].name, sources[i].source, err);
    return st;
}

enum sae_status saed_loading_run(const struct saed_loading *l, struct saed_dict **dicts,
                                 uint64_t *inflight_bytes)
{
    struct run r = {l, dicts, l->opts->n_sources};
    struct sae_err err = {0};
    enum sae_status st = create_dicts(&r, &err), failed = SAE_OK;

    if (st == SAE_OK) {
        sae_team_run(l->team, r.n, 1, open_range, &r);
        failed = report_failed(&r);
    }
    if (st == SAE_OK && failed == SAE_OK && l->engine)
        st = weigh(&r, inflight_bytes, &err);
    if (st == SAE_OK && failed == SAE_OK && l->engine) {
        load_all(&r);
        failed = report_failed(&r);
    }
    if (st != SAE_OK)
        l->report(l->report_arg, &err);
    return st != SAE_OK ? st : failed;
}
