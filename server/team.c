/* team.c - see team.h. */
#include "server/team.h"

#include <pthread.h>
#include <sys/queue.h>

/* Something that runs; on the stack of who runs it. Guarded by the team's lock. */
struct work {
    size_t n, step;
    sae_range_fn *range;
    void *arg;
    size_t taken, done;    /* of n */
    LIST_ENTRY(work) link; /* while taken < n */
};

struct saed_team {
    struct sae_team lent; /* first */
    pthread_mutex_t lock;
    pthread_cond_t has_work, has_ended; /* to take from; some of it is done wholly */
    LIST_HEAD(, work) work;             /* the latest first */
    bool stop;
    size_t n_threads;
    pthread_t *threads;
};

/* Locked, but not while the piece is worked at. */
static void do_piece(struct saed_team *t, struct work *w)
{
    size_t from = w->taken, left = w->n - from, n = left < w->step ? left : w->step;

    w->taken += n;
    if (n == left)
        LIST_REMOVE(w, link);
    pthread_mutex_unlock(&t->lock);
    w->range(w->arg, from, from + n);
    pthread_mutex_lock(&t->lock);
    w->done += n;
    if (w->done == w->n)
        pthread_cond_broadcast(&t->has_ended);
}

static void run(struct sae_team *team, size_t n, size_t step, sae_range_fn *range, void *arg)
{
    struct saed_team *t = (struct saed_team *)team;
    struct work w = {.n = n, .step = step, .range = range, .arg = arg};

    if (n == 0)
        return;
    pthread_mutex_lock(&t->lock);
    LIST_INSERT_HEAD(&t->work, &w, link);
    pthread_cond_broadcast(&t->has_work);
    while (w.taken < n)
        do_piece(t, &w);
    while (w.done < n)
        pthread_cond_wait(&t->has_ended, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void *help(void *arg)
{
    struct saed_team *t = arg;

    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        if (LIST_EMPTY(&t->work))
            pthread_cond_wait(&t->has_work, &t->lock);
        else
            do_piece(t, LIST_FIRST(&t->work));
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

enum sae_status saed_team_create(struct saed_team **out, size_t n_threads, struct sae_err *err)
{
    struct saed_team *t = sae_calloc(1, sizeof *t);

    if (t)
        t->threads = sae_calloc(n_threads, sizeof *t->threads);
    if (!t || !t->threads) {
        sae_free(t);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate %zu threads", n_threads);
    }
    t->lent.run = run;
    LIST_INIT(&t->work);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->has_work, NULL);
    pthread_cond_init(&t->has_ended, NULL);
    while (t->n_threads + 1 < n_threads &&
           pthread_create(&t->threads[t->n_threads], NULL, help, t) == 0)
        t->n_threads++;
    *out = t;
    return SAE_OK;
}

struct sae_team *saed_team_lent(struct saed_team *t)
{
    return t ? &t->lent : NULL;
}

void saed_team_free(struct saed_team *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->has_work);
    pthread_mutex_unlock(&t->lock);
    while (t->n_threads > 0)
        pthread_join(t->threads[--t->n_threads], NULL);
    pthread_cond_destroy(&t->has_ended);
    pthread_cond_destroy(&t->has_work);
    pthread_mutex_destroy(&t->lock);
    sae_free(t->threads);
    sae_free(t);
}
