/* service.c - see service.h. */
#include "server/service.h"

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

/* Open and prepare what `d` names: it is ready then, or failed. */
static void load(const struct saed_service *s, struct saed_dict *d, struct sae_team *team)
{
    enum sae_status st = sae_dict_open(&d->dict, d->source, team, &d->err);

    if (st == SAE_OK && s->engine)
        st = sae_engine_prepare(s->engine, d->dict, team, &d->err);
    d->state = st == SAE_OK ? SAED_DICT_READY : SAED_DICT_FAILED;
    if (st == SAE_OK)
        d->info = sae_dict_info(d->dict);
    else
        sae_err_set(&d->err, st, d->name, "no reason given");
}

/* Serve a dictionary that is ready: there is room for it wherever it is computed before anybody
 * finds it. */
static enum sae_status admit(struct saed_service *s, struct saed_dict *d, struct sae_err *err)
{
    struct sae_capacity was;
    enum sae_status st = SAE_OK;

    if (s->metrics)
        st = saed_series_create(&d->series, d->name, d->info->bytes, err);
    if (st != SAE_OK)
        return st;
    pthread_mutex_lock(&s->changing);
    was = s->capacity;
    if (sae_capacity_widen(&s->capacity, d->dict) && s->sched)
        st = saed_sched_renew(s->sched, err);
    if (st != SAE_OK)
        s->capacity = was;
    else
        st = saed_registry_add(s->registry, d, err);
    if (st == SAE_OK && d->series)
        saed_metrics_list(s->metrics, d->series);
    pthread_mutex_unlock(&s->changing);
    return st;
}

enum sae_status saed_service_add(struct saed_service *s, const char *name, const char *source,
                                 struct sae_err *err)
{
    struct saed_dict *d = NULL;
    enum sae_status st = saed_dict_create(&d, name, source, err);

    if (st != SAE_OK)
        return st;
    load(s, d, NULL);
    if (d->state == SAED_DICT_READY)
        st = admit(s, d, err);
    else
        st = sae_err_set(err, d->err.status, d->err.where, "%s", d->err.text);
    saed_dict_release(d);
    return st;
}

bool saed_service_drop(struct saed_service *s, const char *name)
{
    struct saed_dict *d;
    bool was_there;

    pthread_mutex_lock(&s->changing);
    d = saed_registry_remove(s->registry, name);
    was_there = d != NULL;
    if (d && d->series)
        saed_metrics_unlist(s->metrics, d->series);
    pthread_mutex_unlock(&s->changing);
    saed_dict_release(d);
    return was_there;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The loading at start. */
struct loading {
    const struct saed_service *s;
    struct sae_team *team;
    struct saed_dict **dicts; /* [n_sources] */
};

static void load_range(void *arg, size_t from, size_t to)
{
    const struct loading *l = arg;

    for (size_t i = from; i < to; i++)
        load(l->s, l->dicts[i], l->team);
}

/* The text names the file; the dictionary's name gets the room that it leaves. */
static void report_named(const struct sae_err *e, const char *name, saed_report_fn *report,
                         void *arg)
{
    struct sae_err full = {0};
    size_t n = strlen(name), room = sizeof full.text - sizeof "...: " - strlen(e->text);

    if (n <= room)
        sae_err_set(&full, e->status, e->where, "%s: %s", name, e->text);
    else
        sae_err_set(&full, e->status, e->where, "%.*s...: %s", (int)room, name, e->text);
    report(arg, &full);
}

/* Report each that failed; the first one's status. */
static enum sae_status report_failed(const struct loading *l, saed_report_fn *report, void *arg)
{
    enum sae_status st = SAE_OK;

    for (size_t i = 0; i < l->s->opts->n_sources; i++) {
        const struct saed_dict *d = l->dicts[i];

        if (d->state != SAED_DICT_FAILED)
            continue;
        report_named(&d->err, d->name, report, arg);
        if (st == SAE_OK)
            st = d->err.status;
    }
    return st;
}

static enum sae_status create_dicts(struct loading *l, struct sae_err *err)
{
    const struct saed_opts *o = l->s->opts;
    enum sae_status st = SAE_OK;

    l->dicts = sae_calloc(o->n_sources, sizeof(struct saed_dict *));
    if (!l->dicts)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate %zu dictionaries", o->n_sources);
    for (size_t i = 0; i < o->n_sources && st == SAE_OK; i++)
        st = saed_dict_create(&l->dicts[i], o->sources[i].name, o->sources[i].source, err);
    return st;
}

enum sae_status saed_service_load(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, saed_report_fn *report, void *arg)
{
    struct loading l = {.s = s};
    struct saed_team *team = NULL;
    struct sae_err err = {0};
    enum sae_status st, failed = SAE_OK;

    *s = (struct saed_service){.opts = opts, .metrics = metrics};
    s->capacity.max_rows = (size_t)opts->max_batch_rows;
    s->capacity.n_workers = (size_t)opts->threads;
    pthread_mutex_init(&s->changing, NULL);
    st = saed_registry_create(&s->registry, &err);
    if (st == SAE_OK)
        st = saed_team_create(&team, (size_t)opts->threads, &err);
    if (st == SAE_OK)
        st = create_dicts(&l, &err);
    if (st == SAE_OK) {
        l.team = saed_team_lent(team);
        /* Without an engine they are opened all the same: everything that is wrong is told. */
        st = sae_engine_open(&s->engine, opts->engine, opts->isa, &err);
        sae_team_run(l.team, opts->n_sources, 1, load_range, &l);
        failed = report_failed(&l, report, arg);
    }
    for (size_t i = 0; i < opts->n_sources && st == SAE_OK && failed == SAE_OK; i++)
        st = admit(s, l.dicts[i], &err);
    if (st != SAE_OK)
        report(arg, &err);
    for (size_t i = 0; l.dicts && i < opts->n_sources; i++)
        saed_dict_release(l.dicts[i]);
    sae_free(l.dicts);
    saed_team_free(team);
    return st != SAE_OK ? st : failed;
}

static enum sae_status start_scheduler(struct saed_service *s, struct sae_err *err)
{
    const struct saed_opts *o = s->opts;
    struct saed_sched_config cfg = {
        .n_threads = (size_t)o->threads,
        .max_batch_rows = (size_t)o->max_batch_rows,
        .max_delay_ns = o->max_delay_us * 1000,
        .max_queue_rows = (size_t)o->max_queue_rows,
        .compute = {s, batch_create, batch_free, scratch_create, scratch_free, warm, begin,
                    next_phase, run_tile},
        .observer = {NULL, on_batch, on_queued, on_rows},
    };
    enum sae_status st = saed_sched_create(&s->sched, &cfg, err);

    return st == SAE_OK ? saed_sched_start(s->sched, err) : st;
}

static void log_dictionaries(const struct saed_service *s)
{
    struct saed_dict *d = NULL;

    while ((d = saed_registry_next(s->registry, d))) {
        saed_log(SAED_INFO, "dictionary", saed_str("name", d->name),
                 saed_str("class", d->info->class_name),
                 saed_uint("activation_dim", d->info->activation_dim),
                 saed_uint("dict_size", d->info->dict_size), saed_str("dtype", d->info->dtype),
                 saed_uint("bytes", d->info->bytes), saed_str("source", d->source));
        for (unsigned k = 0; k < d->info->n_notes; k++)
            saed_log(SAED_WARN, "note", saed_str("name", d->name),
                     saed_str("note", d->info->notes[k]));
    }
}

enum sae_status saed_service_open(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, saed_report_fn *report, void *arg)
{
    struct sae_err err = {0};
    enum sae_status st = saed_service_load(s, opts, metrics, report, arg);

    if (st != SAE_OK)
        return st;
    malloc_trim(0); /* what loading needed beside the tensors */
    log_dictionaries(s);
    saed_metrics_set_build(metrics, SAED_VERSION, sae_engine_name(s->engine),
                           sae_engine_kernel(s->engine));
    st = start_scheduler(s, &err);
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
    while ((d = saed_registry_next(s->registry, NULL))) {
        (void)saed_service_drop(s, d->name);
        saed_dict_release(d);
    }
    saed_registry_free(s->registry);
    sae_engine_free(s->engine);
    pthread_mutex_destroy(&s->changing);
    memset(s, 0, sizeof *s);
}
