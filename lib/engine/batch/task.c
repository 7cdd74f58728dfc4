/* task.c - what a request's rows and answer need: sizes, memory, candidates. See saed.h.
 *
 * The wire's checks come before: what a query may not say is asserted here, never reported. */
#include "lib/engine/engine.h"

#include "lib/num.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Memory of sparse entries: a header in the first 64 bytes, then words. Tasks own a stack of these,
 * pushed by several threads, freed at fini. The room is one, from which slices take pieces. */
struct sae_block {
    struct sae_block *next;
    size_t bytes;
};
#define BLOCK_HEADER 64

/* The room that prepare makes: so many entries a row, so that compute threads need no memory for
 * answers of usual sparsity (4 KB a row, little beside the row itself or its dense answer). */
#define ROOM_ENTRIES 512

static uint32_t *words_of(struct sae_block *k)
{
    return (uint32_t *)((char *)k + BLOCK_HEADER);
}

/* A piece of the room, or NULL when it has not that much left. */
static uint32_t *take_room(struct sae_task *t, size_t n_words)
{
    size_t n, at;

    if (!t->room)
        return NULL;
    n = (t->room->bytes - BLOCK_HEADER) / sizeof(uint32_t);
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
    struct sae_block *k;
    size_t bytes;

    if (words)
        return words;
    if (__builtin_mul_overflow(n_words, sizeof(uint32_t), &bytes) ||
        __builtin_add_overflow(bytes, (size_t)BLOCK_HEADER, &bytes))
        return NULL;
    k = sae_alloc(1, bytes);
    if (!k)
        return NULL;
    k->bytes = bytes;
    k->next = atomic_load_explicit(&t->blocks, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&t->blocks, &k->next, k, memory_order_release,
                                                  memory_order_relaxed))
        ;
    return words_of(k);
}

uint64_t sae_task_sparse_bytes(const struct sae_task *t)
{
    uint64_t sum = 0;

    for (struct sae_block *k = atomic_load_explicit(&t->blocks, memory_order_acquire); k;
         k = k->next)
        sum += k->bytes;
    return sum;
}

/* The arrays of an answer: how many values each has, 0 where not asked. */
struct plan {
    uint64_t width;
    uint64_t dense, sparse_rows, x_hat, x_ghost, candidates; /* values or rows */
    uint64_t room;                                           /* words */
    bool aux;
    bool overflow;
};

static uint64_t mul(struct plan *p, uint64_t a, uint64_t b)
{
    uint64_t v = 0;

    p->overflow |= sae_mul_u64(a, b, &v);
    return v;
}

/* Entries of a row that there is room for. */
static uint64_t usual_entries(const struct sae_task *t)
{
    const struct sae_query *q = &t->query;
    uint64_t n =
        q->has_features && q->n_features < t->dict->formula.F ? q->n_features : t->dict->formula.F;

    if (q->form == SAE_FORM_TOP && q->top_k < n)
        n = q->top_k;
    return n < ROOM_ENTRIES ? n : ROOM_ENTRIES;
}

static struct plan plan_of(const struct sae_task *t)
{
    const struct sae_query *q = &t->query;
    bool is_dense = q->form == SAE_FORM_DENSE;
    struct plan p = {.width = is_dense && q->has_features ? q->n_features : t->dict->formula.F};

    assert(q->op != SAE_OP_ENCODE || q->want_f);
    assert(q->op != SAE_OP_DECODE || (!q->want_f && !q->want_aux));
    assert(!q->want_aux || (q->want_f && sae_formula_unit(&t->dict->formula)->aux_name));
    assert(!q->want_f || q->form != SAE_FORM_TOP || q->top_k >= 1);
    if (q->want_f && is_dense)
        p.dense = mul(&p, t->n_rows, p.width);
    if (q->want_f && !is_dense) {
        p.sparse_rows = t->n_rows;
        p.candidates = q->has_features ? q->n_features : 0;
        p.room = mul(&p, t->n_rows, usual_entries(t) * sae_entry_words(q));
    }
    p.aux = q->want_aux;
    if (q->op != SAE_OP_ENCODE)
        p.x_hat = mul(&p, t->n_rows, t->dict->formula.d_out);
    if (q->op == SAE_OP_FORWARD && q->ghost_mask && t->dict->enc)
        p.x_ghost = p.x_hat;
    return p;
}

/* Bytes of an allocation of n things: base rounds up to 64 and never gives none. */
static uint64_t bytes_of(struct plan *p, uint64_t n, uint64_t size, uint64_t *sum)
{
    uint64_t v = mul(p, n, size);

    p->overflow |= sae_add_u64(v, 63, &v);
    v &= ~(uint64_t)63;
    p->overflow |= sae_add_u64(*sum, v ? v : 64, sum);
    return v;
}

uint64_t sae_task_bytes(const struct sae_task *t)
{
    struct plan p = plan_of(t);
    unsigned tensors = 1u + p.aux;
    uint64_t sum = 0;

    for (unsigned i = 0; i < tensors && t->query.want_f; i++) {
        if (t->query.form == SAE_FORM_DENSE)
            bytes_of(&p, p.dense, sizeof(float), &sum);
        else
            bytes_of(&p, p.sparse_rows, sizeof(struct sae_sparse_row), &sum);
    }
    if (t->query.want_f && t->query.form != SAE_FORM_DENSE && t->query.has_features)
        bytes_of(&p, p.candidates, sizeof(uint32_t), &sum);
    if (p.room) {
        p.overflow |= sae_add_u64(sum, BLOCK_HEADER, &sum);
        bytes_of(&p, p.room, sizeof(uint32_t), &sum);
    }
    if (t->query.op != SAE_OP_ENCODE)
        bytes_of(&p, p.x_hat, sizeof(float), &sum);
    if (p.x_ghost || (t->query.op == SAE_OP_FORWARD && t->query.ghost_mask && t->dict->enc))
        bytes_of(&p, p.x_ghost, sizeof(float), &sum);
    return p.overflow ? UINT64_MAX : sum;
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

static bool room_make(struct sae_task *t, size_t n_words)
{
    size_t bytes = BLOCK_HEADER + n_words * sizeof(uint32_t);

    t->room = sae_alloc(1, bytes);
    if (t->room)
        t->room->bytes = bytes;
    return t->room != NULL;
}

enum sae_status sae_task_prepare(struct sae_task *t, struct sae_err *err)
{
    const struct sae_query *q = &t->query;
    struct plan p = plan_of(t);
    uint64_t bytes = sae_task_bytes(t);
    bool ok = bytes < SIZE_MAX;

    t->width = (size_t)p.width;
    t->nnz = t->aux_nnz = 0;
    t->n_candidates = 0;
    atomic_init(&t->failed, 0);
    atomic_init(&t->blocks, NULL);
    atomic_init(&t->room_used, 0);
    t->room = NULL;
    t->f = t->aux = t->x_hat = t->x_ghost = NULL;
    t->f_rows = t->aux_rows = NULL;
    t->candidates = NULL;
    if (ok && q->want_f && q->form == SAE_FORM_DENSE) {
        ok = (t->f = sae_alloc((size_t)p.dense, sizeof *t->f)) != NULL;
        if (ok && q->want_aux)
            ok = (t->aux = sae_alloc((size_t)p.dense, sizeof *t->aux)) != NULL;
    } else if (ok && q->want_f) {
        ok = (t->f_rows = sae_calloc(t->n_rows, sizeof *t->f_rows)) != NULL;
        if (ok && q->want_aux)
            ok = (t->aux_rows = sae_calloc(t->n_rows, sizeof *t->aux_rows)) != NULL;
        if (ok && q->has_features)
            ok = candidates_make(t);
        if (ok && p.room > 0)
            ok = room_make(t, (size_t)p.room);
    }
    if (ok && q->op != SAE_OP_ENCODE)
        ok = (t->x_hat = sae_alloc((size_t)p.x_hat, sizeof *t->x_hat)) != NULL;
    if (ok && q->op == SAE_OP_FORWARD && q->ghost_mask && t->dict->enc)
        ok = (t->x_ghost = sae_alloc((size_t)p.x_ghost, sizeof *t->x_ghost)) != NULL;
    if (ok)
        return SAE_OK;
    sae_task_fini(t);
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate the answer of %zu rows: %llu bytes",
                       t->n_rows, (unsigned long long)bytes);
}

void sae_task_fini(struct sae_task *t)
{
    struct sae_block *k = atomic_load_explicit(&t->blocks, memory_order_acquire);

    while (k) {
        struct sae_block *next = k->next;

        sae_free(k);
        k = next;
    }
    atomic_store_explicit(&t->blocks, NULL, memory_order_relaxed);
    sae_free(t->room);
    t->room = NULL;
    sae_free(t->f);
    sae_free(t->aux);
    sae_free(t->f_rows);
    sae_free(t->aux_rows);
    sae_free(t->x_hat);
    sae_free(t->x_ghost);
    sae_free(t->candidates);
    t->f = t->aux = t->x_hat = t->x_ghost = NULL;
    t->f_rows = t->aux_rows = NULL;
    t->candidates = NULL;
}
