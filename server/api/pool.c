/* pool.c - see pool.h. */
#include "server/api/pool.h"

#include <pthread.h>
#include <string.h>

#define MAX_THREADS 64

enum { LANE_USUAL, LANE_LARGE, N_LANES };

/* Guarded by the lock of its pool but for the threads. */
struct lane {
    struct saed_codec *c;
    pthread_cond_t wake;
    struct saed_codec_work *head, **tail;
    pthread_t threads[MAX_THREADS]; /* owned by create and free */
    size_t n_threads;
};

struct saed_codec {
    pthread_mutex_t lock;
    bool stop; /* guarded by it */
    struct lane lanes[N_LANES];
};

static void *run(void *arg)
{
    struct lane *l = arg;
    struct saed_codec *c = l->c;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        struct saed_codec_work *w = l->head;

        if (!w && c->stop)
            break;
        if (!w) {
            pthread_cond_wait(&l->wake, &c->lock);
            continue;
        }
        l->head = w->next;
        if (!l->head)
            l->tail = &l->head;
        pthread_mutex_unlock(&c->lock);
        w->run(w->arg); /* w may be gone when this returns */
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
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

enum sae_status saed_codec_create(struct saed_codec **out, size_t n_threads, struct sae_err *err)
{
    struct saed_codec *c = sae_calloc(1, sizeof *c);
    int rc = 0;

    if (!c)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate codec threads");
    pthread_mutex_init(&c->lock, NULL);
    for (int i = 0; i < N_LANES; i++) {
        struct lane *l = &c->lanes[i];

        l->c = c;
        l->tail = &l->head;
        pthread_cond_init(&l->wake, NULL);
    }
    for (int i = 0; rc == 0 && i < N_LANES; i++)
        rc = start_lane(&c->lanes[i], n_threads);
    if (rc != 0) {
        saed_codec_free(c);
        return sae_err_set(err, SAE_E_IO, "", "cannot start a codec thread: %s", strerror(rc));
    }
    *out = c;
    return SAE_OK;
}

void saed_codec_free(struct saed_codec *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    for (int i = 0; i < N_LANES; i++)
        pthread_cond_broadcast(&c->lanes[i].wake);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < N_LANES; i++) {
        for (size_t k = 0; k < c->lanes[i].n_threads; k++)
            pthread_join(c->lanes[i].threads[k], NULL);
        pthread_cond_destroy(&c->lanes[i].wake);
    }
    pthread_mutex_destroy(&c->lock);
    sae_free(c);
}

void saed_codec_push(struct saed_codec *c, struct saed_codec_work *w, uint64_t bytes)
{
    struct lane *l = &c->lanes[bytes > SAED_CODEC_LARGE_BYTES ? LANE_LARGE : LANE_USUAL];

    w->next = NULL;
    pthread_mutex_lock(&c->lock);
    *l->tail = w;
    l->tail = &w->next;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&c->lock);
}
