/* pool.c - see api/pool.h. */
#include "server/api/pool.h"

#include <pthread.h>
#include <string.h>

#define MAX_THREADS 64

struct saed_codec {
    pthread_mutex_t lock; /* guards all below but the threads */
    pthread_cond_t wake;
    struct saed_codec_work *head, **tail;
    bool stop;
    pthread_t threads[MAX_THREADS]; /* owned by create and free */
    size_t n_threads;
};

static void *run(void *arg)
{
    struct saed_codec *c = arg;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        struct saed_codec_work *w = c->head;

        if (!w && c->stop)
            break;
        if (!w) {
            pthread_cond_wait(&c->wake, &c->lock);
            continue;
        }
        c->head = w->next;
        if (!c->head)
            c->tail = &c->head;
        pthread_mutex_unlock(&c->lock);
        w->run(w->arg); /* w may be gone when this returns */
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

enum sae_status saed_codec_create(struct saed_codec **out, size_t n_threads, struct sae_err *err)
{
    struct saed_codec *c = sae_calloc(1, sizeof *c);
    int rc = 0;

    if (!c)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate codec threads");
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    c->tail = &c->head;
    while (rc == 0 && c->n_threads < n_threads && c->n_threads < MAX_THREADS) {
        rc = pthread_create(&c->threads[c->n_threads], NULL, run, c);
        c->n_threads += rc == 0;
    }
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
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < c->n_threads; i++)
        pthread_join(c->threads[i], NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    sae_free(c);
}

void saed_codec_push(struct saed_codec *c, struct saed_codec_work *w)
{
    w->next = NULL;
    pthread_mutex_lock(&c->lock);
    *c->tail = w;
    c->tail = &w->next;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}
