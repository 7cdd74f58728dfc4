/* lists.c - lists of entries in chunks that a batch keeps from use to use. See engine.h.
 *
 * A tile takes a chunk at its first entry and gives it back at its end, so there are never more
 * open chunks than tiles at work. How many that are is chance, and a steady load is to allocate
 * nothing: so there is a chunk for each worker from the start (CHUNKS_KEPT at most). Chunks that
 * recent batches did not need are freed at the next begin: a dense batch does not hold its memory
 * for ever. At rest the pages of those that stay go back to the system as well: with a batch for
 * each of many threads they are more than a daemon that has nothing to do should hold. */
#include "lib/engine/engine.h"

#include <string.h>

#define CHUNK_WORDS ((size_t)64 << 10) /* 256 KB: 20 of the largest runs */
#define CHUNKS_KEPT 8 /* beyond the high water: how many tiles run at once varies */

struct sae_chunk {
    struct sae_chunk *next;
    size_t used; /* words */
    uint32_t mem[];
};

static struct sae_chunk *new_chunk(void)
{
    struct sae_chunk *c = sae_alloc(1, sizeof *c + CHUNK_WORDS * sizeof c->mem[0]);

    if (c)
        c->used = 0;
    return c;
}

static void free_list(struct sae_chunk *c)
{
    while (c) {
        struct sae_chunk *next = c->next;

        sae_free(c);
        c = next;
    }
}

void sae_chunks_fini(struct sae_chunks *p)
{
    free_list(p->spare);
    free_list(p->open);
    free_list(p->full);
    pthread_mutex_destroy(&p->lock);
}

enum sae_status sae_chunks_init(struct sae_chunks *p, size_t n_workers, struct sae_err *err)
{
    *p = (struct sae_chunks){0};
    if (pthread_mutex_init(&p->lock, NULL) != 0)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot make a lock: out of memory");
    while (p->n_chunks < n_workers && p->n_chunks < CHUNKS_KEPT) {
        struct sae_chunk *c = new_chunk();

        if (!c) {
            sae_chunks_fini(p);
            return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate lists: out of memory");
        }
        c->next = p->spare;
        p->spare = c;
        p->n_chunks++;
    }
    return SAE_OK;
}

static size_t move_all(struct sae_chunk **from, struct sae_chunk **to)
{
    size_t n = 0;

    while (*from) {
        struct sae_chunk *c = *from;

        *from = c->next;
        c->used = 0;
        c->next = *to;
        *to = c;
        n++;
    }
    return n;
}

/* How many were in use. */
static size_t spare_all(struct sae_chunks *p)
{
    size_t used = move_all(&p->open, &p->spare);

    return used + move_all(&p->full, &p->spare);
}

/* All are spare. */
static void shrink(struct sae_chunks *p)
{
    while (p->n_chunks > p->high_water + CHUNKS_KEPT) {
        struct sae_chunk *c = p->spare;

        p->spare = c->next;
        sae_free(c);
        p->n_chunks--;
    }
}

/* The high water sinks by an eighth a batch, so chunks of a rare large batch go after some ten. */
void sae_chunks_reset(struct sae_chunks *p)
{
    size_t used = spare_all(p);

    p->high_water -= (p->high_water + 7) / 8;
    if (p->high_water < used)
        p->high_water = used;
    shrink(p);
}

void sae_chunks_rest(struct sae_chunks *p)
{
    (void)spare_all(p);
    p->high_water = 0;
    shrink(p);
    for (struct sae_chunk *c = p->spare; c; c = c->next)
        sae_forget(c->mem, CHUNK_WORDS * sizeof c->mem[0]);
}

/* An open chunk if there is one, else a spare one, else a new one. */
static struct sae_chunk *take(struct sae_chunks *p)
{
    struct sae_chunk *c, **from;

    pthread_mutex_lock(&p->lock);
    from = p->open ? &p->open : &p->spare;
    c = *from;
    if (c)
        *from = c->next;
    pthread_mutex_unlock(&p->lock);
    if (c)
        return c;
    c = new_chunk();
    if (!c)
        return NULL;
    pthread_mutex_lock(&p->lock);
    p->n_chunks++;
    pthread_mutex_unlock(&p->lock);
    return c;
}

static void give(struct sae_chunks *p, struct sae_chunk **list, struct sae_chunk *c)
{
    pthread_mutex_lock(&p->lock);
    c->next = *list;
    *list = c;
    pthread_mutex_unlock(&p->lock);
}

void sae_chunks_leave(struct sae_batch *b, struct sae_scratch *s)
{
    if (s->chunk)
        give(&b->chunks, &b->chunks.open, s->chunk);
    s->chunk = NULL;
}

/* Room for `words` (at most CHUNK_WORDS) in the scratch's chunk. */
static uint32_t *room(struct sae_batch *b, struct sae_scratch *s, size_t words)
{
    uint32_t *mem;

    for (;;) {
        if (!s->chunk)
            s->chunk = take(&b->chunks);
        if (!s->chunk)
            return NULL;
        if (CHUNK_WORDS - s->chunk->used >= words)
            break;
        give(&b->chunks, &b->chunks.full, s->chunk);
        s->chunk = NULL;
    }
    mem = s->chunk->mem + s->chunk->used;
    s->chunk->used += words;
    return mem;
}

void sae_list_put(struct sae_batch *b, unsigned list, size_t row, size_t block,
                  struct sae_scratch *s, size_t n, const uint32_t *ids, const float *f,
                  const float *aux)
{
    struct sae_run *u = sae_run_at(b, list, row, block);
    uint32_t *mem;

    *u = (struct sae_run){.has_aux = aux != NULL};
    if (n == 0)
        return;
    mem = room(b, s, n * (aux ? 3 : 2));
    if (!mem) {
        sae_task_fail(b->rows[row].task, SAE_E_NOMEM);
        return;
    }
    memcpy(mem, ids, n * sizeof *mem);
    memcpy(mem + n, f, n * sizeof *mem);
    if (aux)
        memcpy(mem + 2 * n, aux, n * sizeof *mem);
    u->mem = mem;
    u->n = (uint32_t)n;
}
