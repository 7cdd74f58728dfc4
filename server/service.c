/* service.c - see service.h. */
#include "server/service.h"

#include "server/loading.h"
#include "server/offers/find.h"
#include "server/report/log.h"
#include "server/team.h"

#include <malloc.h>
#include <string.h>

/* ---- lib's batches as the scheduler's compute ------------------------------------------------ */

static enum sae_status batch_create(void *arg, void **batch, struct sae_err *err)
{
    struct saed_service *s = arg;
    struct sae_batch *b = NULL;
    enum sae_status st = sae_batch_create(&b, s->engine, s->capacity, err);

    *batch = b;
    return st;
}

static void batch_free(void *arg, void *batch)
{
    (void)arg;
    sae_batch_free(batch);
}

static void batch_rest(void *arg, void *batch)
{
    (void)arg;
    sae_batch_rest(batch);
}

static enum sae_status scratch_create(void *arg, void **scratch, struct sae_err *err)
{
    struct saed_service *s = arg;
    struct sae_scratch *c = NULL;
    enum sae_status st = sae_scratch_create(&c, s->engine, s->capacity, err);

    *scratch = c;
    return st;
}

static void scratch_free(void *arg, void *scratch)
{
    (void)arg;
    sae_scratch_free(scratch);
}

static void warm(void *arg, void *scratch)
{
    struct saed_service *s = arg;

    sae_engine_warm(s->engine, scratch);
}

static void begin(void *arg, void *batch, const struct sae_dict *dict, enum sae_side side,
                  const struct sae_slice *slices, size_t n_slices)
{
    (void)arg;
    sae_batch_begin(batch, dict, side, slices, n_slices);
}

static bool next_phase(void *arg, void *batch, struct sae_phase *phase)
{
    (void)arg;
    return sae_batch_next_phase(batch, phase);
}

static void run_tile(void *arg, void *batch, size_t tile, void *scratch)
{
    (void)arg;
    sae_batch_run_tile(batch, tile, scratch);
}

/* ---- what happens, to the metrics ------------------------------------------------------------ */

static void on_batch(void *arg, const struct saed_dict *d, enum sae_side gemm, size_t rows,
                     uint64_t ns)
{
    (void)arg;
    saed_series_batch(d->series, gemm, rows, ns);
}

static void on_queued(void *arg, const struct saed_dict *d, uint64_t ns)
{
    (void)arg;
    saed_series_queue(d->series, ns);
}

static void on_rows(void *arg, const struct saed_dict *d, enum sae_op op, size_t rows)
{
    (void)arg;
    saed_series_rows(d->series, op, rows);
}

/* ---- dictionaries ---------------------------------------------------------------------------- */

/* With `changing` held: make room for it wherever it will be computed. */
static enum sae_status widen(struct saed_service *s, const struct sae_dict *dict,
                             struct sae_err *err)
{
    struct sae_capacity was = s->capacity;
    enum sae_status st = SAE_OK;

    if (sae_capacity_widen(&s->capacity, dict) && s->sched)
        st = saed_sched_renew(s->sched, err);
    if (st != SAE_OK)
        s->capacity = was;
    return st;
}

enum sae_status saed_service_admit(struct saed_service *s, struct saed_dict *d, struct sae_err *err)
{
    enum sae_status st = SAE_OK;

    if (s->metrics)
        st = saed_series_create(&d->series, d->name, err);
    if (st != SAE_OK)
        return st;
    pthread_mutex_lock(&s->changing);
    st = widen(s, d->dict, err);
    if (st == SAE_OK)
        st = saed_registry_add(s->registry, d, err);
    if (st == SAE_OK && d->series) {
        saed_series_loaded(d->series, d->info->bytes, d->resident_bytes, d->load_ns);
        saed_metrics_list(s->metrics, d->series);
    }
    pthread_mutex_unlock(&s->changing);
    return st;
}

bool saed_service_drop(struct saed_service *s, const char *name)
{
    struct saed_dict *d;
    bool was_there;

    pthread_mutex_lock(&s->changing);
    d = saed_registry_remove(s->registry, name);
    was_there = d != NULL;
    if (d && d->series && !d->offer) /* an offer's is the offers' to take from the list */
        saed_metrics_unlist(s->metrics, d->series);
    pthread_mutex_unlock(&s->changing);
    saed_dict_release(d);
    return was_there;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* What opts names, ready, into dicts; each failure is reported. */
static enum sae_status load_all(struct saed_service *s, struct saed_dict **dicts,
                                _Atomic size_t *n_loaded, saed_report_fn *report, void *arg)
{
    struct saed_loading l = {
        .opts = s->opts, .n_loaded = n_loaded, .report = report, .report_arg = arg};
    struct saed_team *team = NULL;
    struct sae_err err = {0};
    enum sae_status st = saed_team_create(&team, (size_t)s->opts->threads, &err), loaded = SAE_OK;

    if (st == SAE_OK) {
        l.team = saed_team_lent(team);
        /* Without an engine they are opened all the same: everything that is wrong is told. */
        st = sae_engine_create(&s->engine, s->opts->engine, s->opts->isa, &err);
        l.engine = s->engine;
        loaded = saed_loading_run(&l, dicts, &s->max_inflight_bytes);
    }
    if (st != SAE_OK)
        report(arg, &err);
    saed_team_free(team);
    return st != SAE_OK ? st : loaded;
}

static enum sae_status admit_all(struct saed_service *s, struct saed_dict **dicts,
                                 saed_report_fn *report, void *arg)
{
    struct sae_err err = {0};
    enum sae_status st = SAE_OK;

    for (size_t i = 0; i < s->opts->n_sources && st == SAE_OK; i++)
        st = saed_service_admit(s, dicts[i], &err);
    if (st != SAE_OK)
        report(arg, &err);
    return st;
}

enum sae_status saed_service_load(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, _Atomic size_t *n_loaded,
                                  saed_report_fn *report, void *arg)
{
    struct saed_dict **dicts = sae_calloc(opts->n_sources, sizeof(struct saed_dict *));
    struct sae_err err = {0};
    enum sae_status st = SAE_OK;

    *s = (struct saed_service){.opts = opts, .metrics = metrics};
    s->capacity.max_rows = (size_t)opts->max_batch_rows;
    s->capacity.n_workers = (size_t)opts->threads;
    pthread_mutex_init(&s->changing, NULL);
    if (!dicts)
        st =
            sae_err_set(&err, SAE_E_NOMEM, "", "cannot allocate %zu dictionaries", opts->n_sources);
    if (st == SAE_OK)
        st = saed_registry_create(&s->registry, &err);
    if (st != SAE_OK)
        report(arg, &err);
    if (st == SAE_OK)
        st = load_all(s, dicts, n_loaded, report, arg);
    if (st == SAE_OK)
        st = admit_all(s, dicts, report, arg);
    for (size_t i = 0; dicts && i < opts->n_sources; i++)
        saed_dict_release(dicts[i]);
    sae_free(dicts);
    return st;
}

/* ---- what is offered ------------------------------------------------------------------------- */

static void log_not_offered(void *arg, const char *name, const char *path, const char *why)
{
    (void)arg;
    saed_log(SAED_WARN, "not_offered", saed_str("name", name), saed_str("path", path),
             saed_str("reason", why));
}

static enum sae_status admit_offered(void *arg, const struct sae_dict *dict, struct sae_err *err)
{
    struct saed_service *s = arg;
    enum sae_status st;

    pthread_mutex_lock(&s->changing);
    st = widen(s, dict, err);
    pthread_mutex_unlock(&s->changing);
    return st;
}

static uint64_t named_bytes(const struct saed_service *s)
{
    struct saed_dict *d = NULL;
    uint64_t bytes = 0;

    while ((d = saed_registry_next(s->registry, d)))
        bytes += d->resident_bytes;
    return bytes;
}

static enum sae_status offer_found(struct saed_service *s, const struct saed_found *found,
                                   struct sae_err *err)
{
    const struct saed_offers_config cfg = {
        .registry = s->registry,
        .engine = s->engine,
        .metrics = s->metrics,
        .n_threads = (size_t)s->opts->threads,
        .max_resident_bytes = s->opts->max_resident_bytes,
        .named_bytes = named_bytes(s),
        .max_wait_rows = (size_t)s->opts->max_queue_rows,
        .admit = admit_offered,
        .admit_arg = s,
    };
    struct saed_team *team = NULL;
    enum sae_status st = saed_offers_create(&s->offers, &cfg, err);

    if (st == SAE_OK)
        st = saed_team_create(&team, cfg.n_threads, err);
    if (st == SAE_OK)
        st = saed_offers_add(s->offers, found->sources, found->n, saed_team_lent(team), err);
    saed_team_free(team);
    return st;
}

/* Describe what is below the folders, and load it when it is asked for. */
static enum sae_status start_offers(struct saed_service *s, struct sae_err *err)
{
    struct saed_found found = {.n = 0};
    enum sae_status st;

    if (s->opts->dictionaries.n == 0)
        return SAE_OK;
    st = saed_find(&found, s->opts, log_not_offered, NULL, err);
    if (st == SAE_OK)
        st = offer_found(s, &found, err);
    if (st == SAE_OK)
        saed_log(SAED_INFO, "offered", saed_uint("dictionaries", found.n));
    saed_found_fini(&found);
    return st == SAE_OK ? saed_offers_start(s->offers, err) : st;
}

static enum sae_status start_scheduler(struct saed_service *s, struct sae_err *err)
{
    const struct saed_opts *o = s->opts;
    struct saed_sched_config cfg = {
        .n_threads = (size_t)o->threads,
        .max_batch_rows = (size_t)o->max_batch_rows,
        .max_delay_ns = o->max_delay_us * 1000,
        .max_queue_rows = (size_t)o->max_queue_rows,
        .compute = {s, batch_create, batch_free, batch_rest, scratch_create, scratch_free, warm,
                    begin, next_phase, run_tile},
        .observer = {NULL, on_batch, on_queued, on_rows},
    };
    enum sae_status st = saed_sched_create(&s->sched, &cfg, err);

    return st == SAE_OK ? saed_sched_start(s->sched, err) : st;
}

enum sae_status saed_service_open(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, _Atomic size_t *n_loaded,
                                  saed_report_fn *report, void *arg)
{
    struct sae_err err = {0};
    enum sae_status st = saed_service_load(s, opts, metrics, n_loaded, report, arg);

    if (st != SAE_OK)
        return st;
    malloc_trim(0); /* what loading needed beside the tensors */
    saed_metrics_set_build(metrics, SAED_VERSION, sae_engine_name(s->engine),
                           sae_engine_kernel(s->engine));
    st = start_scheduler(s, &err);
    if (st == SAE_OK)
        st = start_offers(s, &err);
    if (st != SAE_OK)
        report(arg, &err);
    return st;
}

void saed_service_close(struct saed_service *s)
{
    struct saed_dict *d;

    if (!s->registry)
        return;
    saed_sched_free(s->sched);
    saed_offers_free(s->offers); /* what it lists are the registry's descriptions still */
    while ((d = saed_registry_next(s->registry, NULL))) {
        (void)saed_service_drop(s, d->name);
        saed_dict_release(d);
    }
    saed_registry_free(s->registry);
    sae_engine_free(s->engine);
    pthread_mutex_destroy(&s->changing);
    memset(s, 0, sizeof *s);
}
