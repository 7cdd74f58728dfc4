/* conn.c - see conn.h. */
#include "server/net/conn.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#define BIT(state) (1u << SAED_CONN_##state)

/* The drawing in conn.h. */
static const unsigned may_become[] = {
    [SAED_CONN_FREE] = BIT(IDLE),
    [SAED_CONN_IDLE] = BIT(HEAD) | BIT(FREE),
    [SAED_CONN_HEAD] = BIT(BODY) | BIT(SEND) | BIT(IDLE),
    [SAED_CONN_BODY] = BIT(WORK) | BIT(SEND) | BIT(IDLE),
    [SAED_CONN_WORK] = BIT(AWAY) | BIT(SEND) | BIT(IDLE),
    [SAED_CONN_AWAY] = BIT(QUEUED) | BIT(GONE) | BIT(BACK),
    [SAED_CONN_QUEUED] = BIT(GONE) | BIT(BACK),
    [SAED_CONN_GONE] = BIT(BACK),
    [SAED_CONN_BACK] = BIT(SEND) | BIT(IDLE),
    [SAED_CONN_SEND] = BIT(IDLE),
};

/* The lock held. */
static void become(struct saed_conn *n, enum saed_conn_state state)
{
    assert(may_become[n->state] & 1u << state);
    n->state = state;
}

void saed_conn_init(struct saed_conn *n, uint32_t index)
{
    memset(n, 0, sizeof *n);
    n->index = index;
    pthread_mutex_init(&n->lock, NULL);
}

void saed_conn_fini(struct saed_conn *n)
{
    pthread_mutex_destroy(&n->lock);
}

/* ---- moves --------------------------------------------------------------------------------- */

void saed_conn_open(struct saed_conn *n, int fd, void *owner, enum saed_place place, uint64_t now)
{
    pthread_mutex_lock(&n->lock);
    assert(n->state == SAED_CONN_FREE);
    become(n, SAED_CONN_IDLE);
    n->place = place;
    n->fd = fd;
    n->owner = owner;
    n->exchange = NULL;
    n->generation++;
    n->fresh = true;
    n->ended = n->no_more = n->lingers = false;
    n->since_ns = now;
    n->first_ns = n->consumed = 0;
    n->base = 0;
    pthread_mutex_unlock(&n->lock);
}

uint64_t saed_conn_line(struct saed_conn *n, void *exchange, uint64_t now)
{
    uint64_t first;

    pthread_mutex_lock(&n->lock);
    become(n, SAED_CONN_HEAD);
    n->exchange = exchange;
    n->taken = 0;
    n->stall_is_told = n->is_slow = false;
    n->pace.begin_ns = 0;
    if (n->first_ns == 0)
        n->first_ns = now;
    first = n->first_ns;
    pthread_mutex_unlock(&n->lock);
    return first;
}

void saed_conn_move(struct saed_conn *n, enum saed_conn_state to)
{
    pthread_mutex_lock(&n->lock);
    assert(to == SAED_CONN_BODY || to == SAED_CONN_WORK || to == SAED_CONN_AWAY ||
           to == SAED_CONN_FREE);
    become(n, to);
    if (to == SAED_CONN_AWAY && n->ended && !n->no_more)
        become(n, SAED_CONN_GONE);
    pthread_mutex_unlock(&n->lock);
}

bool saed_conn_queue(struct saed_conn *n)
{
    bool is_here;

    pthread_mutex_lock(&n->lock);
    is_here = n->state != SAED_CONN_GONE;
    if (is_here)
        become(n, SAED_CONN_QUEUED);
    pthread_mutex_unlock(&n->lock);
    return is_here;
}

bool saed_conn_back(struct saed_conn *n)
{
    bool at_once;

    pthread_mutex_lock(&n->lock);
    become(n, SAED_CONN_BACK);
    at_once = !n->telling;
    n->back_pending = n->telling;
    pthread_mutex_unlock(&n->lock);
    return at_once;
}

/* An answer that is shorter than what the slowest rate brings until it is looked at needs no begin
 * to be judged by, so only long ones pay for asking. */
void saed_conn_reply(struct saed_conn *n, uint64_t bytes, uint64_t now, saed_counts_fn *counts)
{
    struct saed_counts c;
    bool is_long = bytes >= SAED_SLOW_AFTER_NS / SAED_SECOND_NS * SAED_SLOW_BYTES_PER_S;

    pthread_mutex_lock(&n->lock);
    become(n, SAED_CONN_SEND);
    n->since_ns = now;
    n->acked_first = is_long && counts(n->fd, &c) ? c.acked : UINT64_MAX;
    n->acked_ns = 0;
    n->is_dropped = false;
    pthread_mutex_unlock(&n->lock);
}

void saed_conn_finish(struct saed_conn *n, uint64_t bytes, uint64_t now, saed_counts_fn *counts)
{
    struct saed_counts c;

    pthread_mutex_lock(&n->lock);
    assert(n->state != SAED_CONN_FREE);
    become(n, SAED_CONN_IDLE);
    n->exchange = NULL;
    n->fresh = false;
    if (bytes != UINT64_MAX)
        n->consumed += bytes;
    else if (counts(n->fd, &c))
        n->consumed = c.received;
    n->first_ns = 0;
    n->since_ns = now;
    pthread_mutex_unlock(&n->lock);
}

/* ---- the client's end ---------------------------------------------------------------------- */

void *saed_conn_ended(struct saed_conn *n, uint32_t generation)
{
    void *tell = NULL;

    pthread_mutex_lock(&n->lock);
    if (n->state != SAED_CONN_FREE && n->generation == generation) {
        n->ended = true;
        if (!n->no_more && (n->state == SAED_CONN_AWAY || n->state == SAED_CONN_QUEUED)) {
            n->telling = n->state == SAED_CONN_QUEUED;
            tell = n->telling ? n->exchange : NULL;
            become(n, SAED_CONN_GONE);
        }
    }
    pthread_mutex_unlock(&n->lock);
    return tell;
}

bool saed_conn_told(struct saed_conn *n)
{
    bool back;

    pthread_mutex_lock(&n->lock);
    n->telling = false;
    back = n->back_pending;
    n->back_pending = false;
    pthread_mutex_unlock(&n->lock);
    return back;
}

/* ---- questions ----------------------------------------------------------------------------- */

void saed_conn_read(struct saed_conn *n, uint64_t bytes)
{
    atomic_fetch_add_explicit(&n->n_read, bytes, memory_order_relaxed);
}

enum saed_conn_state saed_conn_state(struct saed_conn *n)
{
    enum saed_conn_state state;

    pthread_mutex_lock(&n->lock);
    state = n->state;
    pthread_mutex_unlock(&n->lock);
    return state;
}

void *saed_conn_exchange(struct saed_conn *n)
{
    return n->exchange; /* written by the thread that asks */
}

uint64_t saed_conn_rate(struct saed_conn *n, uint64_t now)
{
    uint64_t rate;

    pthread_mutex_lock(&n->lock);
    rate = saed_pace_rate(&n->pace, now);
    pthread_mutex_unlock(&n->lock);
    return rate;
}

void saed_conn_set_lingers(struct saed_conn *n)
{
    n->lingers = true;
}

size_t saed_conn_leading(struct saed_conn *n, const char *line)
{
    uintptr_t at = (uintptr_t)line;

    if (n->base == 0 || at < n->base)
        n->base = at;
    return at - n->base;
}

bool saed_conn_has(struct saed_conn *n, uint64_t bytes, saed_counts_fn *counts)
{
    struct saed_counts c;

    return bytes != UINT64_MAX && counts(n->fd, &c) && c.received >= n->consumed + bytes;
}

bool saed_conn_begun(struct saed_conn *n, saed_counts_fn *counts)
{
    struct saed_counts c;

    if (n->state != SAED_CONN_IDLE || n->first_ns)
        return true;
    return counts(n->fd, &c) && c.received > n->consumed;
}

bool saed_conn_retire(struct saed_conn *n, saed_counts_fn *counts)
{
    bool is_idle = !saed_conn_begun(n, counts);

    n->no_more |= is_idle;
    return is_idle;
}

uint64_t saed_conn_kept_since(const struct saed_conn *n)
{
    bool is_kept = n->state == SAED_CONN_IDLE && !n->fresh && !n->first_ns && !n->no_more;

    return is_kept ? n->since_ns : UINT64_MAX;
}

/* The first byte may have come without a line. */
static void note_begin(struct saed_conn *n, uint64_t now, saed_counts_fn *counts)
{
    if (n->first_ns == 0 && saed_conn_begun(n, counts))
        n->first_ns = now;
}

bool saed_conn_is_kept(struct saed_conn *n, uint64_t now, saed_counts_fn *counts)
{
    note_begin(n, now, counts);
    return saed_conn_kept_since(n) != UINT64_MAX;
}

/* ---- the clock ----------------------------------------------------------------------------- */

static enum saed_verdict sweep_idle(struct saed_conn *n, uint64_t now, uint64_t keepalive_ns,
                                    saed_counts_fn *counts)
{
    note_begin(n, now, counts);
    if (n->fresh)
        return now > n->since_ns + SAED_HEAD_NS ? SAED_CONN_CUT : SAED_CONN_WELL;
    if (n->first_ns)
        return now > n->first_ns + SAED_HEAD_NS ? SAED_CONN_CUT : SAED_CONN_WELL;
    if (now <= n->since_ns + keepalive_ns)
        return SAED_CONN_WELL;
    n->no_more = true;
    return SAED_CONN_END_READING;
}

/* What waits to be read is not the client's delay. */
static bool is_slow(struct saed_conn *n, const struct saed_counts *c, uint64_t now,
                    uint64_t min_rate)
{
    struct saed_pace *p = &n->pace;

    if (p->begin_ns == 0) {
        saed_pace_begin(p, c->received, now);
        n->moved_ns = now;
    } else if (c->received != p->total || c->unread > 0) {
        if (p->total == p->first) /* now the first byte has come */
            saed_pace_begin(p, p->total, now);
        n->moved_ns = now;
    }
    saed_pace_note(p, c->received, now);
    return now > n->moved_ns + SAED_STALL_NS ||
           (p->total != p->first && c->unread == 0 && now > p->begin_ns + SAED_STALL_NS &&
            saed_pace_rate(p, now) < min_rate);
}

static enum saed_verdict sweep_body(struct saed_conn *n, uint64_t now, uint64_t min_rate,
                                    saed_counts_fn *counts)
{
    struct saed_counts c = {0};
    bool is_counted = counts(n->fd, &c), stands, told = n->stall_is_told;

    if (n->is_slow)
        return SAED_CONN_WELL;
    if (!is_counted)
        c.received = atomic_load_explicit(&n->n_read, memory_order_relaxed);
    n->is_slow = is_slow(n, &c, now, min_rate);
    if (n->is_slow)
        return SAED_CONN_SLOW;
    if (!is_counted)
        return SAED_CONN_WELL;
    stands = c.received - c.unread == n->taken;
    n->taken = c.received - c.unread;
    n->stall_is_told = stands;
    return stands && !told ? SAED_CONN_STALLED : SAED_CONN_WELL;
}

/* Acknowledged on average since the reply was made: enough by `now`. */
static bool is_fast_enough(const struct saed_conn *n, uint64_t acked, uint64_t now)
{
    uint64_t seconds = (now - n->since_ns) / SAED_SECOND_NS;

    return n->acked_first != UINT64_MAX &&
           (acked - n->acked_first) / SAED_SLOW_BYTES_PER_S >= seconds;
}

static enum saed_verdict sweep_send(struct saed_conn *n, uint64_t now, saed_counts_fn *counts)
{
    struct saed_counts c;

    if (n->is_dropped)
        return SAED_CONN_CUT;
    /* Most answers have been sent by then. */
    if (now < n->since_ns + SAED_SECOND_NS || !counts(n->fd, &c))
        return SAED_CONN_WELL;
    if (n->acked_ns == 0 || c.acked != n->acked) {
        n->acked = c.acked;
        n->acked_ns = now;
    }
    if (now > n->acked_ns + SAED_STALL_NS ||
        (now > n->since_ns + SAED_SLOW_AFTER_NS && !is_fast_enough(n, c.acked, now))) {
        n->is_dropped = true;
        return SAED_CONN_DROP;
    }
    return SAED_CONN_WELL;
}

/* Whoever is beyond the limit holds one of few places. */
static enum saed_verdict sweep_beyond(const struct saed_conn *n, uint64_t now)
{
    return now > n->since_ns + SAED_BEYOND_NS ? SAED_CONN_CUT : SAED_CONN_WELL;
}

static bool is_timed(enum saed_conn_state state)
{
    return (BIT(IDLE) | BIT(HEAD) | BIT(BODY) | BIT(SEND)) & 1u << state;
}

/* What waits to be read is not the client's delay: it may be a whole head. */
uint64_t saed_conn_beyond_since(const struct saed_conn *n, uint64_t now, saed_counts_fn *counts)
{
    bool sends = n->state == SAED_CONN_SEND;
    uint64_t may_ns = sends ? SAED_BEYOND_NS / 2 : SAED_BEYOND_NS / 10;
    struct saed_counts c;

    if (n->place != SAED_PLACE_BEYOND || !is_timed(n->state) || n->no_more ||
        now <= n->since_ns + may_ns)
        return UINT64_MAX;
    return sends || (counts(n->fd, &c) && c.unread == 0) ? n->since_ns : UINT64_MAX;
}

enum saed_verdict saed_conn_sweep(struct saed_conn *n, uint64_t now,
                                  const struct saed_conn_times *t, saed_counts_fn *counts)
{
    enum saed_verdict v = SAED_CONN_WELL;
    uint64_t head_ns = n->fresh ? n->since_ns : n->first_ns;

    if (n->place == SAED_PLACE_BEYOND && is_timed(n->state))
        return sweep_beyond(n, now);
    if (n->state == SAED_CONN_IDLE)
        v = sweep_idle(n, now, t->keepalive_ns, counts);
    else if (n->state == SAED_CONN_HEAD)
        v = now > head_ns + SAED_HEAD_NS ? SAED_CONN_CUT : SAED_CONN_WELL;
    else if (n->state == SAED_CONN_BODY)
        v = sweep_body(n, now, t->min_upload_rate, counts);
    else if (n->state == SAED_CONN_SEND)
        return sweep_send(n, now, counts);
    else
        return v;
    /* MHD takes a read that did not fill its buffer for the last one until an edge comes, and
     * misses an end of file that had arrived by then: the request would hold its memory until its
     * deadline. Shutting what has ended changes nothing but makes another edge. */
    return v == SAED_CONN_WELL && n->ended ? SAED_CONN_END_READING : v;
}
