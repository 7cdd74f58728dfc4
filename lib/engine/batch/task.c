/* task.c - what a request's rows and answer need: sizes, memory, candidates. See saed.h.
 *
 * The wire's checks come before: what a query may not say is asserted here, never reported. */
#include "lib/engine/batch/plan.h"

#include "lib/num.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Memory of sparse entries: a header in the first 64 bytes, then words. A task has one from which
 * slices take pieces, and a stack of more, pushed by several threads. */
struct sae_room {
    struct sae_room *next;
    size_t bytes;
};
#define ROOM_HEADER 64

static uint32_t *words_of(struct sae_room *k)
{
    return (uint32_t *)((char *)k + ROOM_HEADER);
}

/* A piece of the task's room, or NULL when it has not that much left. */
static uint32_t *take_room(struct sae_task *t, size_t n_words)
{
    size_t n, at;

    if (!t->room)
        return NULL;
    n = (t->room->bytes - ROOM_HEADER) / sizeof(uint32_t);
    at = atomic_load_explicit(&t->room_used, memory_order_relaxed);
    do {
        if (n_words > n - at)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&t->room_used, &at, at + n_words,
                                                    memory_order_relaxed, memory_order_relaxed));
    return words_of(t->room) + at;
}

uint32_t *sae_task_words(struct sae_task *t, size_t n_words)
{
    uint32_t *words = take_room(t, n_words);
    struct sae_room *k;
    size_t bytes;

    if (words)
        return words;
    if (__builtin_mul_overflow(n_words, sizeof(uint32_t), &bytes) ||
        __builtin_add_overflow(bytes, (size_t)ROOM_HEADER, &bytes))
        return NULL;
    k = sae_alloc(1, bytes);
    if (!k)
        return NULL;
    k->bytes = bytes;
    k->next = atomic_load_explicit(&t->more, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&t->more, &k->next, k, memory_order_release,
                                                  memory_order_relaxed))
        ;
    return words_of(k);
}

uint64_t sae_task_sparse_bytes(const struct sae_task *t)
{
    uint64_t sum = 0;

    for (struct sae_room *k = atomic_load_explicit(&t->more, memory_order_acquire); k; k = k->next)
        sum += k->bytes;
    return sum;
}

void sae_task_plan(struct sae_task *t)
{
    sae_plan_make(&t->plan, t->dict, &t->query);
}

/* Values of a dense output, rows of a sparse one, and the size of one. */
static bool output_size(const struct sae_task *t, const struct sae_output *o, uint64_t *n,
                        uint64_t *size)
{
    *n = t->n_rows;
    *size = o->form == SAE_FORM_DENSE ? sizeof(float) : sizeof(struct sae_sparse_row);
    return o->form != SAE_FORM_DENSE || !sae_mul_u64(t->n_rows, o->width, n);
}

static bool room_words(const struct sae_task *t, uint64_t *n)
{
    return !sae_mul_u64(t->n_rows, t->plan.room_entries * t->plan.entry_words, n);
}

/* More by an allocation of n things: base rounds up to 64 and never gives none. */
static bool add_bytes(uint64_t n, uint64_t size, uint64_t *sum)
{
    uint64_t v;

    if (sae_mul_u64(n, size, &v) || sae_add_u64(v, 63, &v))
        return false;
    v &= ~(uint64_t)63;
    return !sae_add_u64(*sum, v ? v : 64, sum);
}

/* Sparse forms with `features` have their distinct ids. */
static bool has_candidates(const struct sae_task *t)
{
    return t->plan.entry_words > 0 && t->query.has_features;
}

uint64_t sae_task_bytes(const struct sae_task *t)
{
    uint64_t sum = 0, n, size;

    for (unsigned i = 0; i < t->plan.n_outputs; i++)
        if (!output_size(t, &t->plan.outputs[i], &n, &size) || !add_bytes(n, size, &sum))
            return UINT64_MAX;
    if (has_candidates(t) && !add_bytes(t->query.n_features, sizeof(uint32_t), &sum))
        return UINT64_MAX;
    if (!room_words(t, &n) ||
        (n > 0 && (!add_bytes(n, sizeof(uint32_t), &sum) || sae_add_u64(sum, ROOM_HEADER, &sum))))
        return UINT64_MAX;
    return sum;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* The distinct ids of `features`, ascending. */
static bool candidates_make(struct sae_task *t)
{
    const struct sae_query *q = &t->query;
    size_t n = 0;

    t->candidates = sae_alloc(q->n_features, sizeof *t->candidates);
    if (!t->candidates)
        return false;
    if (q->n_features > 0) {
        memcpy(t->candidates, q->features, q->n_features * sizeof *t->candidates);
        qsort(t->candidates, q->n_features, sizeof *t->candidates, by_id);
        for (size_t i = 0; i < q->n_features; i++)
            if (i == 0 || t->candidates[i] != t->candidates[n - 1])
                t->candidates[n++] = t->candidates[i];
        assert(t->candidates[n - 1] < t->dict->formula.F);
    }
    t->n_candidates = n;
    return true;
}

static bool room_make(struct sae_task *t)
{
    uint64_t n_words;
    size_t bytes;

    if (!room_words(t, &n_words))
        return false;
    if (n_words == 0)
        return true;
    bytes = ROOM_HEADER + (size_t)n_words * sizeof(uint32_t);
    t->room = sae_alloc(1, bytes);
    if (t->room)
        t->room->bytes = bytes;
    return t->room != NULL;
}

/* Where an output's values, or its rows, are kept. */
static bool output_make(struct sae_task *t, const struct sae_output *o)
{
    float **dense[] = {&t->f, &t->aux, &t->x_hat, &t->x_ghost, &t->state};
    struct sae_sparse_row **rows[] = {&t->f_rows, &t->aux_rows};
    uint64_t n, size;

    if (!output_size(t, o, &n, &size))
        return false;
    if (o->what == SAE_OUT_F)
        t->width = (size_t)o->width;
    if (o->form == SAE_FORM_DENSE)
        return (*dense[o->what] = sae_alloc((size_t)n, (size_t)size)) != NULL;
    return (*rows[o->what] = sae_calloc((size_t)n, (size_t)size)) != NULL;
}

enum sae_status sae_task_prepare(struct sae_task *t, struct sae_err *err)
{
    struct sae_plan *p = &t->plan;
    uint64_t bytes;
    bool ok;

    if (p->n_outputs == 0)
        sae_task_plan(t);
    bytes = sae_task_bytes(t);
    ok = bytes < SIZE_MAX;
    t->width = t->dict->formula.F;
    t->nnz = t->aux_nnz = 0;
    t->n_candidates = 0;
    atomic_init(&t->failed, 0);
    atomic_init(&t->more, NULL);
    atomic_init(&t->room_used, 0);
    t->room = NULL;
    t->f = t->aux = t->x_hat = t->x_ghost = t->state = NULL;
    t->f_rows = t->aux_rows = NULL;
    t->candidates = NULL;
    for (unsigned i = 0; ok && i < p->n_outputs; i++)
        ok = output_make(t, &p->outputs[i]);
    if (ok && has_candidates(t)) {
        ok = candidates_make(t);
        sae_plan_candidates(p, t->n_candidates);
    }
    if (ok && room_make(t))
        return SAE_OK;
    sae_task_fini(t);
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the answer of %zu rows: %llu bytes",
                       t->n_rows, (unsigned long long)bytes);
}

void sae_task_fini(struct sae_task *t)
{
    struct sae_room *k = atomic_load_explicit(&t->more, memory_order_acquire);

    while (k) {
        struct sae_room *next = k->next;

        sae_free(k);
        k = next;
    }
    atomic_store_explicit(&t->more, NULL, memory_order_relaxed);
    sae_free(t->room);
    t->room = NULL;
    sae_free(t->f);
    sae_free(t->aux);
    sae_free(t->f_rows);
    sae_free(t->aux_rows);
    sae_free(t->x_hat);
    sae_free(t->x_ghost);
    sae_free(t->state);
    sae_free(t->candidates);
    t->f = t->aux = t->x_hat = t->x_ghost = t->state = NULL;
    t->f_rows = t->aux_rows = NULL;
    t->candidates = NULL;
    t->plan = (struct sae_plan){0}; /* the next query's is another */
}
