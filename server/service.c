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

static void on_batch(void *arg, size_t dict_index, enum sae_side gemm, size_t rows, uint64_t ns)
{
    saed_metrics_batch(arg, dict_index, (int)gemm, rows, ns);
}

static void on_queued(void *arg, size_t dict_index, uint64_t ns)
{
    saed_metrics_queue(arg, dict_index, ns);
}

static void on_rows(void *arg, size_t dict_index, enum sae_op op, size_t rows)
{
    saed_metrics_rows(arg, dict_index, op, rows);
}

/* ---- opening --------------------------------------------------------------------------------- */

enum sae_status saed_service_load(struct saed_service *s, const struct saed_opts *opts,
                                  saed_report_fn *report, void *arg)
{
    struct saed_team *team = NULL;
    struct sae_err err = {0};
    enum sae_status st = saed_team_create(&team, (size_t)opts->threads, &err), loaded = SAE_OK;

    memset(s, 0, sizeof *s);
    s->opts = opts;
    if (st == SAE_OK) {
        loaded = saed_registry_load(&s->registry, opts->sources, opts->n_sources,
                                    saed_team_lent(team), report, arg);
        st = sae_engine_open(&s->engine, opts->engine, opts->isa, &err);
    }
    for (size_t i = 0; st == SAE_OK && loaded == SAE_OK && i < s->registry->n; i++)
        st =
            sae_engine_prepare(s->engine, s->registry->entries[i].dict, saed_team_lent(team), &err);
    saed_team_free(team);
    if (st != SAE_OK)
        report(arg, &err);
    return st != SAE_OK ? st : loaded;
}

static enum sae_status publish_metrics(struct saed_service *s, struct sae_err *err)
{
    struct saed_metrics_dict *d = sae_calloc(s->registry->n, sizeof *d);
    enum sae_status st;

    if (!d)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate metrics");
    for (size_t i = 0; i < s->registry->n; i++) {
        d[i].name = s->registry->entries[i].name;
        d[i].bytes = s->registry->entries[i].info->bytes;
    }
    st = saed_metrics_set_dicts(s->metrics, d, s->registry->n, err);
    sae_free(d);
    saed_metrics_set_build(s->metrics, SAED_VERSION, sae_engine_name(s->engine),
                           sae_engine_kernel(s->engine));
    return st;
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
        .observer = {s->metrics, on_batch, on_queued, on_rows},
    };
    enum sae_status st;

    s->dicts = saed_registry_dicts(s->registry);
    if (!s->dicts)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the scheduler");
    s->capacity.max_rows = cfg.max_batch_rows;
    for (size_t i = 0; i < s->registry->n; i++)
        (void)sae_capacity_widen(&s->capacity, s->dicts[i]);
    st = saed_sched_create(&s->sched, &cfg, s->dicts, s->registry->n, err);
    if (st == SAE_OK)
        st = saed_sched_start(s->sched, err);
    return st;
}

static void log_dictionaries(const struct saed_service *s)
{
    for (size_t i = 0; i < s->registry->n; i++) {
        const struct saed_entry *e = &s->registry->entries[i];

        saed_log(SAED_INFO, "dictionary", "name", "%s", e->name, "class", "%s", e->info->class_name,
                 "activation_dim", "%llu", (unsigned long long)e->info->activation_dim, "dict_size",
                 "%llu", (unsigned long long)e->info->dict_size, "dtype", "%s", e->info->dtype,
                 "bytes", "%llu", (unsigned long long)e->info->bytes, "source", "%s", e->source,
                 NULL);
    }
}

enum sae_status saed_service_open(struct saed_service *s, const struct saed_opts *opts,
                                  struct saed_metrics *metrics, saed_report_fn *report, void *arg)
{
    struct sae_err err = {0};
    enum sae_status st = saed_service_load(s, opts, report, arg);

    if (st != SAE_OK)
        return st;
    malloc_trim(0); /* what loading needed beside the tensors */
    log_dictionaries(s);
    s->metrics = metrics;
    st = publish_metrics(s, &err);
    if (st == SAE_OK)
        st = start_scheduler(s, &err);
    if (st != SAE_OK)
        report(arg, &err);
    return st;
}

void saed_service_close(struct saed_service *s)
{
    saed_sched_free(s->sched);
    sae_engine_free(s->engine);
    sae_free(s->dicts);
    saed_registry_free(s->registry);
    memset(s, 0, sizeof *s);
}
