/* load.c - see state.h: one load after the other, and room for it.
 *
 * Who loads alone adds to what is resident, so room that it has found stays. Handles are released
 * outside the lock: unmapping gigabytes takes its time. */
#include "server/offers/state.h"

#include "server/loading.h"
#include "server/report/log.h"

#include <inttypes.h>
#include <string.h>

/* ---- room: called by the one that loads, locked ------------------------------------------------
 */

static bool may_drop(const struct saed_offer *of, uint64_t now)
{
    return atomic_load_explicit(&of->ready->refs, memory_order_acquire) == 1 &&
           (of->first_use_ns == 0 || now - of->first_use_ns >= SAED_OFFER_KEPT_NS);
}

/* The bytes of all that may be dropped now. */
static uint64_t droppable(const struct saed_offers *o, uint64_t now)
{
    const struct saed_offer *of;
    uint64_t bytes = 0;

    TAILQ_FOREACH(of, &o->used, link)
    {
        bytes += may_drop(of, now) ? of->held_bytes : 0;
    }
    return bytes;
}

/* There is no room: when there may be. */
static enum sae_status say_full(const struct saed_offers *o, const struct saed_offer *newcomer,
                                uint64_t bytes, uint64_t now, struct sae_err *err)
{
    const struct saed_offer *of;
    uint64_t soonest = 0;

    TAILQ_FOREACH(of, &o->used, link)
    {
        uint64_t at = of->first_use_ns + SAED_OFFER_KEPT_NS;

        if (of->first_use_ns && at > now && (soonest == 0 || at < soonest))
            soonest = at;
    }
    sae_err_limit(err, SAE_E_LOADING, "--max-resident-bytes", o->cfg.max_resident_bytes,
                  o->resident_bytes + bytes,
                  "cannot load \"%.100s\" now: it takes %" PRIu64 " bytes beside %" PRIu64
                  " of others that are in use, and the limit is %" PRIu64 " (--max-resident-bytes)",
                  newcomer->name, bytes, o->resident_bytes, o->cfg.max_resident_bytes);
    if (err)
        err->retry_s = saed_seconds_until(soonest, now);
    return SAE_E_LOADING;
}

/* Drop the least recently used that may be: its reference is the caller's. */
static struct saed_dict *drop_one(struct saed_offers *o, uint64_t now)
{
    struct saed_offer *of;
    struct saed_dict *d;
    struct sae_screen_stats stats;

    TAILQ_FOREACH(of, &o->used, link)
    {
        if (may_drop(of, now))
            break;
    }
    if (!of)
        return NULL;
    d = of->ready;
    stats = sae_engine_stats(o->cfg.engine, d->dict);
    of->past.candidates += stats.candidates;
    of->past.dense_rows += stats.dense_rows;
    TAILQ_REMOVE(&o->used, of, link);
    of->ready = NULL;
    of->state = SAED_OFFER_OFFERED;
    o->resident_bytes -= of->held_bytes;
    of->held_bytes = 0;
    if (of->series)
        saed_series_evicted(of->series);
    return d;
}

static uint64_t most_bytes(const struct saed_offers *o)
{
    return o->cfg.max_resident_bytes ? o->cfg.max_resident_bytes : UINT64_MAX;
}

enum sae_status saed_offers_fit(uint64_t max_resident_bytes, uint64_t named_bytes, uint64_t bytes,
                                struct sae_err *err)
{
    const uint64_t most = max_resident_bytes ? max_resident_bytes : UINT64_MAX;
    const uint64_t left = most - named_bytes;

    if (bytes <= left)
        return SAE_OK;
    return sae_err_limit(err, SAE_E_UNAVAILABLE, "--max-resident-bytes", left, bytes,
                         "cannot load it: it takes %" PRIu64 " bytes, and of the %" PRIu64
                         " of --max-resident-bytes the named dictionaries leave %" PRIu64,
                         bytes, most, left);
}

enum sae_status saed_offers_fits(const struct saed_offers *o, uint64_t bytes, struct sae_err *err)
{
    return saed_offers_fit(o->cfg.max_resident_bytes, o->cfg.named_bytes, bytes, err);
}

/* Unlocks to let go of what is dropped. On success the bytes are the newcomer's. */
static enum sae_status make_room(struct saed_offers *o, struct saed_offer *newcomer, uint64_t bytes,
                                 struct sae_err *err)
{
    const uint64_t most = most_bytes(o);
    uint64_t now = saed_offers_now(o);

    if (saed_offers_fits(o, bytes, err) != SAE_OK)
        return SAE_E_UNAVAILABLE;
    if (bytes > most - o->resident_bytes && bytes > most - o->resident_bytes + droppable(o, now))
        return say_full(o, newcomer, bytes, now, err);
    while (bytes > most - o->resident_bytes) {
        struct saed_dict *d = drop_one(o, now);

        if (!d) /* it has come into use */
            return say_full(o, newcomer, bytes, now, err);
        pthread_mutex_unlock(&o->lock);
        saed_log(SAED_INFO, "evicted", saed_str("name", d->name),
                 saed_uint("resident_bytes", d->resident_bytes), saed_str("for", newcomer->name));
        saed_dict_release(d);
        pthread_mutex_lock(&o->lock);
    }
    newcomer->held_bytes = bytes;
    o->resident_bytes += bytes;
    return SAE_OK;
}

/* ---- loading ----------------------------------------------------------------------------------
 */

/* What comes of an attempt: a description where the source could be opened, and values, or why
 * there are none. */
struct attempt {
    struct saed_offer *of;
    struct saed_dict *shown, *ready;
    struct sae_err err;
    uint64_t begin_ns;
};

static enum sae_status create_handle(const struct saed_offer *of, struct saed_dict **out,
                                     struct sae_err *err)
{
    enum sae_status st = saed_dict_create(out, of->name, of->source, err);

    if (st == SAE_OK) {
        (*out)->offer = (struct saed_offer *)of;
        (*out)->series = saed_series_acquire(of->series);
    }
    return st;
}

static enum sae_status take_error(struct attempt *a, const struct saed_dict *d)
{
    a->err = d->err;
    return a->err.status;
}

static enum sae_status find_room(struct saed_offers *o, struct attempt *a)
{
    enum sae_status st;

    pthread_mutex_lock(&o->lock);
    st = make_room(o, a->of, a->shown->resident_bytes, &a->err);
    pthread_mutex_unlock(&o->lock);
    return st;
}

/* Config and weights are read together: what the description says of them is true of the values. */
static enum sae_status attempt(struct saed_offers *o, struct attempt *a, struct sae_team *team)
{
    struct saed_dict *shown = NULL;
    struct sae_draft *draft = NULL;
    enum sae_status st = create_handle(a->of, &shown, &a->err);

    if (st == SAE_OK && saed_loading_describe(shown, &draft, o->cfg.engine) != SAE_OK) {
        st = take_error(a, shown);
        saed_dict_release(shown);
    } else if (st == SAE_OK) {
        a->shown = shown;
        st = find_room(o, a);
    }
    if (st == SAE_OK)
        st = create_handle(a->of, &a->ready, &a->err);
    if (st != SAE_OK) {
        sae_draft_close(draft);
        return st;
    }
    if (saed_loading_read_take(a->ready, draft, o->cfg.engine, team) != SAE_OK)
        return take_error(a, a->ready);
    return o->cfg.admit(o->cfg.admit_arg, a->ready->dict, &a->err);
}

/* A width or a field of the reading is another than was shown before. */
static void log_changes(const struct saed_dict *was, const struct saed_dict *is)
{
    const struct sae_dict_info *a = was->info, *b = is->info;

    if (!a || !b)
        return;
    if (a->activation_dim != b->activation_dim || a->dict_size != b->dict_size ||
        a->output_dim != b->output_dim)
        saed_log(SAED_WARN, "changed", saed_str("name", is->name),
                 saed_uint("was_activation_dim", a->activation_dim),
                 saed_uint("was_dict_size", a->dict_size),
                 saed_uint("was_output_dim", a->output_dim),
                 saed_uint("activation_dim", b->activation_dim),
                 saed_uint("dict_size", b->dict_size), saed_uint("output_dim", b->output_dim));
    for (unsigned f = 0; f < SAE_N_FIELDS; f++)
        if (strcmp(a->reading[f].text, b->reading[f].text) != 0)
            saed_log(SAED_WARN, "changed", saed_str("name", is->name),
                     saed_str("field", b->reading[f].name), saed_str("was", a->reading[f].text),
                     saed_str("is", b->reading[f].text));
}

/* Locked. The description that was is the caller's to release. */
static struct saed_dict *show(struct saed_offers *o, struct saed_offer *of, struct saed_dict *shown)
{
    struct saed_dict *was = of->shown;

    of->shown = shown;
    saed_dict_release(saed_registry_replace(o->cfg.registry, shown));
    return was;
}

static void settle_ready(struct saed_offers *o, struct attempt *a, struct saed_wait_list *over)
{
    struct saed_offer *of = a->of;
    uint64_t now = saed_offers_now(o);
    struct saed_wait *w;

    of->state = SAED_OFFER_READY;
    of->ready = a->ready;
    of->first_use_ns = of->pause_ns = 0;
    o->resident_bytes += a->ready->resident_bytes - of->held_bytes;
    of->held_bytes = a->ready->resident_bytes;
    TAILQ_INSERT_TAIL(&o->used, of, link);
    if (of->series)
        saed_series_loaded(of->series, a->ready->info->bytes, of->held_bytes, now - a->begin_ns);
    while ((w = TAILQ_FIRST(&of->waits))) {
        w->dict = saed_offer_use(o, of, now);
        saed_wait_over(o, w, over);
    }
}

static uint64_t longer(uint64_t pause_ns)
{
    if (pause_ns == 0)
        return SAED_OFFER_FIRST_RETRY_NS;
    return pause_ns < SAED_OFFER_LAST_RETRY_NS / 2 ? 2 * pause_ns : SAED_OFFER_LAST_RETRY_NS;
}

static void settle_failed(struct saed_offers *o, struct attempt *a, struct saed_wait_list *over)
{
    struct saed_offer *of = a->of;
    uint64_t now = saed_offers_now(o);
    struct saed_wait *w;

    o->resident_bytes -= of->held_bytes;
    of->held_bytes = 0;
    of->state = SAED_OFFER_OFFERED;
    if (a->err.status != SAE_E_LOADING) {
        of->state = SAED_OFFER_UNAVAILABLE;
        of->err = a->err;
        of->pause_ns = longer(of->pause_ns);
        of->retry_ns = now + of->pause_ns;
        if (of->series)
            saed_series_load_failed(of->series);
    }
    while ((w = TAILQ_FIRST(&of->waits))) {
        if (of->state == SAED_OFFER_UNAVAILABLE)
            (void)saed_offer_say_unavailable(of, now, &w->err);
        else
            w->err = a->err;
        saed_wait_over(o, w, over);
    }
}

static void log_attempt(const struct saed_offers *o, const struct attempt *a)
{
    uint64_t ns = saed_offers_now(o) - a->begin_ns;

    if (a->err.status == SAE_OK)
        saed_loading_log(a->ready, ns, 0);
    else
        saed_log(SAED_WARN, a->err.status == SAE_E_LOADING ? "no_room" : "unavailable",
                 saed_str("name", a->of->name), saed_str("reason", a->err.text),
                 saed_uint("ms", ns / 1000000));
}

static void settle(struct saed_offers *o, struct attempt *a)
{
    struct saed_wait_list over = TAILQ_HEAD_INITIALIZER(over);
    struct saed_dict *was = NULL;
    bool is_ready = a->err.status == SAE_OK;

    log_attempt(o, a);
    pthread_mutex_lock(&o->lock);
    if (a->shown) {
        log_changes(a->of->shown, a->shown);
        was = show(o, a->of, a->shown);
    }
    if (is_ready)
        settle_ready(o, a, &over);
    else
        settle_failed(o, a, &over);
    o->is_loading = false;
    pthread_mutex_unlock(&o->lock);
    saed_wait_tell(&over);
    saed_dict_release(was);
    if (!is_ready)
        saed_dict_release(a->ready);
}

/* Its series is there from its first load on. */
static void count_it(struct saed_offers *o, struct saed_offer *of)
{
    struct saed_series *s = NULL;

    if (of->series || !o->cfg.metrics || saed_series_create(&s, of->name, NULL) != SAE_OK)
        return; /* out of memory: the next time */
    saed_metrics_list(o->cfg.metrics, s);
    pthread_mutex_lock(&o->lock);
    of->series = s;
    pthread_mutex_unlock(&o->lock);
}

bool saed_offers_step(struct saed_offers *o, struct sae_team *team)
{
    struct attempt a = {.begin_ns = saed_offers_now(o)};

    pthread_mutex_lock(&o->lock);
    a.of = o->stop ? NULL : TAILQ_FIRST(&o->asked);
    if (a.of) {
        TAILQ_REMOVE(&o->asked, a.of, link);
        o->is_loading = true;
    }
    pthread_mutex_unlock(&o->lock);
    if (!a.of)
        return false;
    count_it(o, a.of);
    saed_log(SAED_INFO, "loading", saed_str("name", a.of->name),
             saed_str("source", a.of->shown->shown));
    (void)attempt(o, &a, team); /* a.err says it */
    settle(o, &a);
    return true;
}
