/* pool.c - see pool.h. */
#include "server/api/pool.h"

#include <pthread.h>
#include <string.h>

#define MAX_THREADS 64

enum { LANE_USUAL, LANE_LARGE, N_LANES };

/* Guarded by the lock of its pool but for the threads. */
struct lane {
    struct saed_pool *pool;
    pthread_cond_t wake;
    struct saed_pool_work *head, **tail;
    pthread_t threads[MAX_THREADS]; /* owned by create and free */
    size_t n_threads;
};

struct saed_pool {
    pthread_mutex_t lock;
    bool stop; /* guarded by it */
    struct lane lanes[N_LANES];
};

static void *run(void *arg)
{
    struct lane *l = arg;
    struct saed_pool *p = l->pool;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct saed_pool_work *w = l->head;

        if (!w && p->stop)
            break;
        if (!w) {
            pthread_cond_wait(&l->wake, &p->lock);
            continue;
        }
        l->head = w->next;
        if (!l->head)
            l->tail = &l->head;
        pthread_mutex_unlock(&p->lock);
        w->run(w->arg); /* w may be gone when this returns */
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Returns 0, or why a thread could not be started. */
static int start_lane(struct lane *l, size_t n_threads)
{
    int rc = 0;

    while (rc == 0 && l->n_threads < n_threads && l->n_threads < MAX_THREADS) {
        rc = pthread_create(&l->threads[l->n_threads], NULL, run, l);
        l->n_threads += rc == 0;
    }
    return rc;
}

enum sae_status saed_pool_create(struct saed_pool **out, size_t n_threads, struct sae_err *err)
{
    struct saed_pool *p = sae_calloc(1, sizeof *p);
    int rc = 0;

    if (!p)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate threads for bodies");
    pthread_mutex_init(&p->lock, NULL);
    for (int i = 0; i < N_LANES; i++) {
        struct lane *l = &p->lanes[i];

        l->pool = p;
        l->tail = &l->head;
        pthread_cond_init(&l->wake, NULL);
    }
    for (int i = 0; rc == 0 && i < N_LANES; i++)
        rc = start_lane(&p->lanes[i], n_threads);
    if (rc != 0) {
        saed_pool_free(p);
        return sae_err_set(err, SAE_E_IO, "", "cannot start a thread for bodies: %s", strerror(rc));
    }
    *out = p;
    return SAE_OK;
}

void saed_pool_free(struct saed_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    for (int i = 0; i < N_LANES; i++)
        pthread_cond_broadcast(&p->lanes[i].wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < N_LANES; i++) {
        for (size_t k = 0; k < p->lanes[i].n_threads; k++)
            pthread_join(p->lanes[i].threads[k], NULL);
        pthread_cond_destroy(&p->lanes[i].wake);
    }
    pthread_mutex_destroy(&p->lock);
    sae_free(p);
}

void saed_pool_push(struct saed_pool *p, struct saed_pool_work *w, uint64_t bytes)
{
    struct lane *l = &p->lanes[bytes > SAED_POOL_LARGE_BYTES ? LANE_LARGE : LANE_USUAL];

    w->next = NULL;
    pthread_mutex_lock(&p->lock);
    *l->tail = w;
    l->tail = &w->next;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&p->lock);
}
