/* offers.c - see offers.h and state.h. */
#include "server/clock.h"
#include "server/offers/state.h"

#include "server/loading.h"
#include "server/report/log.h"
#include "server/team.h"

#include <assert.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* How far the threads that load stand behind those that serve. */
#define LOADER_NICE 10

static uint64_t monotonic(void *arg)
{
    (void)arg;
    return saed_now_ns();
}

uint64_t saed_seconds_until(uint64_t at, uint64_t now)
{
    return at > now + SAED_SECOND_NS ? (at - now + SAED_SECOND_NS - 1) / SAED_SECOND_NS : 1;
}

/* ---- waiting: locked --------------------------------------------------------------------------
 */

static void wait_add(struct saed_offers *o, struct saed_offer *of, struct saed_wait *w)
{
    struct saed_wait *at;

    w->offer = of;
    w->waits = true;
    TAILQ_INSERT_TAIL(&of->waits, w, link);
    of->wait_rows += w->rows;
    TAILQ_FOREACH_REVERSE(at, &o->due, saed_wait_list, due) /* they nearly come in order */
    {
        if (at->deadline_ns <= w->deadline_ns)
            break;
    }
    if (at) {
        TAILQ_INSERT_AFTER(&o->due, at, w, due);
    } else {
        TAILQ_INSERT_HEAD(&o->due, w, due);
        pthread_cond_signal(&o->earlier);
    }
}

void saed_wait_over(struct saed_offers *o, struct saed_wait *w, struct saed_wait_list *over)
{
    TAILQ_REMOVE(&w->offer->waits, w, link);
    TAILQ_REMOVE(&o->due, w, due);
    w->offer->wait_rows -= w->rows;
    w->waits = false;
    w->series = w->offer->series;
    TAILQ_INSERT_TAIL(over, w, link);
}

/* Not locked. */
void saed_wait_tell(struct saed_wait_list *over)
{
    struct saed_wait *w;

    while ((w = TAILQ_FIRST(over))) {
        TAILQ_REMOVE(over, w, link);
        w->done(w, w->arg);
    }
}

/* A reference for who uses it now. */
struct saed_dict *saed_offer_use(struct saed_offers *o, struct saed_offer *of, uint64_t now)
{
    if (of->first_use_ns == 0)
        of->first_use_ns = now;
    TAILQ_REMOVE(&o->used, of, link);
    TAILQ_INSERT_TAIL(&o->used, of, link);
    return saed_dict_acquire(of->ready);
}

static enum sae_status say_draining(struct sae_err *err)
{
    return sae_err_set(err, SAE_E_DRAINING, "", "cannot load it: the server is stopping");
}

enum sae_status saed_offer_say_unavailable(const struct saed_offer *of, uint64_t now,
                                           struct sae_err *err)
{
    *err = of->err;
    err->status = SAE_E_UNAVAILABLE;
    err->retry_s = saed_seconds_until(of->retry_ns, now);
    return err->status;
}

/* ---- asking -----------------------------------------------------------------------------------
 */

/* Locked. SAE_OK: w has it, or waits. */
static enum sae_status want(struct saed_offers *o, struct saed_offer *of, struct saed_wait *w,
                            uint64_t now)
{
    const size_t most = o->cfg.max_wait_rows;

    if (o->draining)
        return say_draining(&w->err);
    if (of->state == SAED_OFFER_READY) {
        w->dict = saed_offer_use(o, of, now);
        return SAE_OK;
    }
    if (of->state == SAED_OFFER_UNAVAILABLE && now < of->retry_ns)
        return saed_offer_say_unavailable(of, now, &w->err);
    if (w->rows > most - of->wait_rows)
        return sae_err_limit(&w->err, SAE_E_OVERLOADED, "--max-queue-rows", most,
                             of->wait_rows + w->rows,
                             "cannot queue request: %zu rows beside %zu that wait for \"%.100s\" "
                             "to be loaded, and a queue takes %zu",
                             w->rows, of->wait_rows, of->name, most);
    wait_add(o, of, w);
    if (of->state != SAED_OFFER_LOADING) {
        of->state = SAED_OFFER_LOADING;
        TAILQ_INSERT_TAIL(&o->asked, of, link);
        pthread_cond_signal(&o->asks);
    }
    return SAE_OK;
}

bool saed_offers_want(struct saed_offers *o, const struct saed_dict *described, struct saed_wait *w)
{
    struct saed_offer *of = described->offer;
    bool waits;

    assert(w->rows <= o->cfg.max_wait_rows);
    pthread_mutex_lock(&o->lock);
    (void)want(o, of, w, saed_offers_now(o)); /* w->err says it */
    waits = w->err.status == SAE_OK && !w->dict;
    if (!waits)
        w->series = of->series;
    pthread_mutex_unlock(&o->lock);
    return waits;
}

void saed_offers_cancel(struct saed_offers *o, struct saed_wait *w)
{
    struct saed_wait_list over = TAILQ_HEAD_INITIALIZER(over);

    pthread_mutex_lock(&o->lock);
    if (w->waits) {
        sae_err_set(&w->err, SAE_E_CANCELLED, "", "cannot compute: the client has gone");
        saed_wait_over(o, w, &over);
    }
    pthread_mutex_unlock(&o->lock);
    saed_wait_tell(&over);
}

void saed_offers_abort(struct saed_offers *o)
{
    struct saed_wait_list over = TAILQ_HEAD_INITIALIZER(over);
    struct saed_wait *w;

    pthread_mutex_lock(&o->lock);
    o->draining = true;
    while ((w = TAILQ_FIRST(&o->due))) {
        say_draining(&w->err);
        saed_wait_over(o, w, &over);
    }
    pthread_mutex_unlock(&o->lock);
    saed_wait_tell(&over);
}

bool saed_offers_expire(struct saed_offers *o)
{
    struct saed_wait_list over = TAILQ_HEAD_INITIALIZER(over);
    struct saed_wait *w;
    uint64_t now;
    bool some;

    pthread_mutex_lock(&o->lock);
    now = saed_offers_now(o);
    while ((w = TAILQ_FIRST(&o->due)) && now > w->deadline_ns) {
        sae_err_set(&w->err, SAE_E_LOADING, "",
                    "cannot compute yet: \"%.200s\" is being loaded, and was not loaded within the "
                    "request's time (--request-timeout-ms)",
                    w->offer->name);
        saed_wait_over(o, w, &over);
    }
    pthread_mutex_unlock(&o->lock);
    some = !TAILQ_EMPTY(&over);
    saed_wait_tell(&over);
    return some;
}

/* ---- looking ----------------------------------------------------------------------------------
 */

struct saed_offer_look saed_offers_look(struct saed_offers *o, const struct saed_dict *described)
{
    static const char *const states[] = {"offered", "loading", "ready", "unavailable"};
    const struct saed_offer *of = described->offer;
    struct saed_offer_look look;

    pthread_mutex_lock(&o->lock);
    look = (struct saed_offer_look){.state = states[of->state],
                                    .dict = saed_dict_acquire(of->ready ? of->ready : of->shown)};
    if (of->state == SAED_OFFER_UNAVAILABLE)
        look.err = of->err;
    pthread_mutex_unlock(&o->lock);
    return look;
}

void saed_offers_measure(struct saed_offers *o, const struct saed_dict *described,
                         size_t (*queue_rows)(void *arg, const struct saed_dict *d), void *arg)
{
    const struct saed_offer *of = described->offer;
    struct sae_screen_stats stats = {0}, past;
    struct saed_dict *d;
    struct saed_series *series;
    size_t rows;

    pthread_mutex_lock(&o->lock);
    d = of->ready ? saed_dict_acquire(of->ready) : NULL;
    past = of->past;
    series = of->series;
    rows = of->wait_rows;
    pthread_mutex_unlock(&o->lock);
    if (d) {
        stats = sae_engine_stats(o->cfg.engine, d->dict);
        rows += queue_rows(arg, d);
    }
    if (series)
        saed_series_set(series, rows, past.candidates + stats.candidates,
                        past.dense_rows + stats.dense_rows);
    saed_dict_release(d);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void make_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr); /* none of these can fail on Linux */
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

enum sae_status saed_offers_create(struct saed_offers **out, const struct saed_offers_config *cfg,
                                   struct sae_err *err)
{
    struct saed_offers *o = sae_calloc(1, sizeof *o);

    if (!o)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate what is offered");
    o->cfg = *cfg;
    if (!o->cfg.now_ns)
        o->cfg.now_ns = monotonic;
    o->resident_bytes = cfg->named_bytes;
    pthread_mutex_init(&o->lock, NULL);
    make_cond(&o->asks);
    make_cond(&o->earlier);
    TAILQ_INIT(&o->asked);
    TAILQ_INIT(&o->used);
    TAILQ_INIT(&o->due);
    *out = o;
    return SAE_OK;
}

struct describing {
    struct saed_offers *o;
    _Atomic bool no_memory;
};

/* Before anybody else knows of them. */
static void describe_range(void *arg, size_t from, size_t to)
{
    struct describing *x = arg;

    for (size_t i = from; i < to; i++) {
        struct saed_offer *of = &x->o->all[i];
        struct saed_dict *d = NULL;
        enum sae_status st = saed_dict_create(&d, of->name, of->source, NULL);

        if (st != SAE_OK) {
            atomic_store(&x->no_memory, true);
            continue;
        }
        d->offer = of;
        of->shown = d;
        st = saed_loading_describe(d, NULL, x->o->cfg.engine);
        of->err = d->err;
        if (st == SAE_OK)
            st = saed_offers_fits(x->o, d->resident_bytes, &of->err);
        if (st == SAE_OK)
            continue;
        of->state = SAED_OFFER_UNAVAILABLE;
        saed_log(SAED_WARN, "unavailable", saed_str("name", of->name),
                 saed_str("reason", of->err.text));
    }
}

static enum sae_status copy_sources(struct saed_offers *o, const struct saed_source *sources,
                                    size_t n)
{
    o->all = sae_calloc(n, sizeof *o->all);
    if (!o->all)
        return SAE_E_NOMEM;
    for (o->n = 0; o->n < n; o->n++) {
        struct saed_offer *of = &o->all[o->n];

        of->name = sae_strdup(sources[o->n].name);
        of->source = sae_strdup(sources[o->n].source);
        TAILQ_INIT(&of->waits);
        if (!of->name || !of->source) {
            o->n++; /* frees it too */
            return SAE_E_NOMEM;
        }
    }
    return SAE_OK;
}

enum sae_status saed_offers_add(struct saed_offers *o, const struct saed_source *sources, size_t n,
                                struct sae_team *team, struct sae_err *err)
{
    struct describing x = {.o = o};
    enum sae_status st;

    assert(!o->all);
    st = copy_sources(o, sources, n);
    if (st == SAE_OK)
        sae_team_run(team, n, 1, describe_range, &x);
    if (st != SAE_OK || atomic_load(&x.no_memory))
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot describe %zu dictionaries: out of memory",
                           n);
    for (size_t i = 0; i < n && st == SAE_OK; i++)
        st = saed_registry_add(o->cfg.registry, o->all[i].shown, err);
    return st;
}

/* ---- threads ----------------------------------------------------------------------------------
 */

/* Loading stands back behind serving: these threads, and those that they start. */
static void stand_back(const char *name)
{
    pthread_setname_np(pthread_self(), name);
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), LOADER_NICE); /* as good as it goes */
}

static void *load_all(void *arg)
{
    struct saed_offers *o = arg;
    struct saed_team *team = NULL;
    bool stop = false;

    stand_back("saed-load");
    if (saed_team_create(&team, o->cfg.n_threads, NULL) != SAE_OK)
        team = NULL;
    while (!stop) {
        if (saed_offers_step(o, team ? saed_team_lent(team) : NULL))
            continue;
        pthread_mutex_lock(&o->lock);
        while (TAILQ_EMPTY(&o->asked) && !o->stop)
            pthread_cond_wait(&o->asks, &o->lock);
        stop = o->stop;
        pthread_mutex_unlock(&o->lock);
    }
    saed_team_free(team);
    return NULL;
}

static void *watch_deadlines(void *arg)
{
    struct saed_offers *o = arg;

    pthread_setname_np(pthread_self(), "saed-wait");
    pthread_mutex_lock(&o->lock);
    while (!o->stop || !TAILQ_EMPTY(&o->due)) {
        const struct saed_wait *first = TAILQ_FIRST(&o->due);

        if (!first) {
            pthread_cond_wait(&o->earlier, &o->lock);
            continue;
        }
        struct timespec at = {.tv_sec = (time_t)(first->deadline_ns / SAED_SECOND_NS),
                              .tv_nsec = (long)(first->deadline_ns % SAED_SECOND_NS)};

        pthread_cond_timedwait(&o->earlier, &o->lock, &at);
        pthread_mutex_unlock(&o->lock);
        (void)saed_offers_expire(o);
        pthread_mutex_lock(&o->lock);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

enum sae_status saed_offers_start(struct saed_offers *o, struct sae_err *err)
{
    sigset_t all, old;
    int e;

    sigfillset(&all); /* signals are for the threads that expect them */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    e = pthread_create(&o->loader, NULL, load_all, o);
    o->n_running += e == 0;
    if (e == 0)
        e = pthread_create(&o->watch, NULL, watch_deadlines, o);
    o->n_running += e == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e == 0 ? SAE_OK
                  : sae_err_set(err, SAE_E_IO, "", "cannot start the threads that load: %s",
                                strerror(e));
}

static void join(struct saed_offers *o)
{
    if (o->n_running > 1)
        pthread_join(o->watch, NULL);
    if (o->n_running > 0)
        pthread_join(o->loader, NULL);
    o->n_running = 0;
}

bool saed_offers_stop(struct saed_offers *o)
{
    bool is_loading;

    pthread_mutex_lock(&o->lock);
    o->stop = true;
    is_loading = o->is_loading;
    pthread_cond_broadcast(&o->asks);
    pthread_cond_broadcast(&o->earlier);
    pthread_mutex_unlock(&o->lock);
    if (!is_loading)
        join(o); /* who was told last may be done before the thread that told it is */
    return is_loading;
}

void saed_offers_free(struct saed_offers *o)
{
    if (!o)
        return;
    (void)saed_offers_stop(o);
    join(o);
    assert(TAILQ_EMPTY(&o->due));
    for (size_t i = 0; i < o->n; i++) {
        struct saed_offer *of = &o->all[i];

        saed_dict_release(of->ready);
        saed_dict_release(of->shown);
        if (of->series)
            saed_metrics_unlist(o->cfg.metrics, of->series);
        saed_series_release(of->series);
        sae_free(of->name);
        sae_free(of->source);
    }
    pthread_cond_destroy(&o->asks);
    pthread_cond_destroy(&o->earlier);
    pthread_mutex_destroy(&o->lock);
    sae_free(o->all);
    sae_free(o);
}
