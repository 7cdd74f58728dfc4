/* sched_fake.c - see sched_fake.h. */
#include "tests/support/sched_fake.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_TILES 64

struct fake_batch {
    struct fake *fake;
    bool active;
    enum sae_side side;
    struct sae_slice *slices; /* [max_rows] */
    size_t n_slices;
    uint64_t rng;
    unsigned phases_left, n_tiles;
    unsigned capacity, needs;
    _Atomic int hit[MAX_TILES];
    _Atomic unsigned n_done;
};

struct fake_scratch {
    _Atomic int busy;
    unsigned capacity;
};

uint64_t fake_seed;

_Noreturn void fake_die(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: broken: %s (seed %llu)\n", file, line, what,
            (unsigned long long)fake_seed);
    abort();
}

uint64_t fake_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct fake_job *fake_job_create(int id, size_t dict_index, enum sae_op op, size_t n_rows)
{
    struct fake_job *fj = calloc(1, sizeof *fj);

    FAKE_CHECK(fj);
    fj->hits = calloc(n_rows ? n_rows : 1, sizeof *fj->hits);
    FAKE_CHECK(fj->hits);
    fj->id = id;
    fj->dict_index = dict_index;
    fj->fail_at_row = SIZE_MAX;
    fj->job.task.n_rows = n_rows;
    fj->job.task.query.op = op;
    fj->job.side = op == SAE_OP_DECODE ? SAE_SIDE_DECODE : SAE_SIDE_ENCODE;
    return fj;
}

void fake_job_free(struct fake_job *fj)
{
    if (fj)
        free((void *)fj->hits);
    free(fj);
}

static char dict_mem[8];

struct saed_dict *fake_dict_create(size_t index)
{
    struct saed_dict *d = NULL;

    FAKE_CHECK(index < sizeof dict_mem);
    FAKE_CHECK(saed_dict_create(&d, "fake", "none", NULL) == SAE_OK);
    d->dict = (struct sae_dict *)(void *)&dict_mem[index];
    return d;
}

size_t fake_dict_index(const struct sae_dict *dict)
{
    size_t index = (size_t)((const char *)dict - dict_mem);

    FAKE_CHECK(index < sizeof dict_mem);
    return index;
}

void fake_dict_release(struct saed_dict *d)
{
    FAKE_CHECK(atomic_load(&d->refs) == 1);
    d->dict = NULL;
    saed_dict_release(d);
}

static enum sae_status batch_create(void *arg, void **out, struct sae_err *err)
{
    struct fake *f = arg;
    struct fake_batch *b = sae_calloc(1, sizeof *b);

    if (!b)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate batch: out of memory");
    b->slices = sae_calloc(f->max_rows, sizeof *b->slices);
    if (!b->slices) {
        sae_free(b);
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate batch: out of memory");
    }
    b->fake = f;
    b->capacity = atomic_load(&f->capacity);
    atomic_fetch_add(&f->live, 1);
    *out = b;
    return SAE_OK;
}

static void batch_free(void *arg, void *batch)
{
    struct fake *f = arg;
    struct fake_batch *b = batch;

    FAKE_CHECK(!b->active);
    atomic_fetch_sub(&f->live, 1);
    sae_free(b->slices);
    sae_free(b);
}

static void batch_rest(void *arg, void *batch)
{
    struct fake *f = arg;
    struct fake_batch *b = batch;

    FAKE_CHECK(!b->active);
    atomic_fetch_add(&f->rested, 1);
}

static enum sae_status scratch_create(void *arg, void **out, struct sae_err *err)
{
    struct fake *f = arg;
    struct fake_scratch *s = sae_calloc(1, sizeof *s);

    if (!s)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate scratch: out of memory");
    s->capacity = atomic_load(&f->capacity);
    atomic_fetch_add(&f->live, 1);
    *out = s;
    return SAE_OK;
}

static void scratch_free(void *arg, void *scratch)
{
    struct fake *f = arg;

    atomic_fetch_sub(&f->live, 1);
    sae_free(scratch);
}

static void warm(void *arg, void *scratch)
{
    struct fake *f = arg;

    FAKE_CHECK(scratch);
    atomic_fetch_add(&f->warmed, 1);
}

static void begin(void *arg, void *batch, const struct sae_dict *dict, enum sae_side side,
                  const struct sae_slice *slices, size_t n_slices)
{
    struct fake *f = arg;
    struct fake_batch *b = batch;
    size_t rows = 0;

    FAKE_CHECK(!b->active && n_slices > 0);
    b->active = true;
    b->side = side;
    b->n_slices = n_slices;
    b->needs = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const struct fake_job *fj = (const struct fake_job *)slices[i].task;

        FAKE_CHECK(slices[i].n_rows > 0);
        FAKE_CHECK(slices[i].row0 + slices[i].n_rows <= slices[i].task->n_rows);
        FAKE_CHECK(fj->job.side == side && fj->needs <= b->capacity);
        b->needs = fj->needs > b->needs ? fj->needs : b->needs;
        rows += slices[i].n_rows;
        FAKE_CHECK(rows <= f->max_rows);
        b->slices[i] = slices[i];
    }
    b->rng = f->seed + 77 * atomic_fetch_add(&f->n_batches, 1);
    b->n_tiles = 0;
    b->phases_left =
        f->min_phases + (unsigned)(fake_random(&b->rng) % (f->max_phases - f->min_phases + 1));
    if (f->on_begin)
        f->on_begin(f->arg, dict, side, slices, n_slices);
}

/* The answer stands: count the rows. */
static void count_rows(struct fake_batch *b)
{
    for (size_t i = 0; i < b->n_slices; i++) {
        struct sae_slice *s = &b->slices[i];
        struct fake_job *fj = (struct fake_job *)s->task;

        if (fj->fail_at_row >= s->row0 && fj->fail_at_row < s->row0 + s->n_rows)
            atomic_store(&s->task->failed, SAE_E_NOMEM);
        for (size_t r = s->row0; r < s->row0 + s->n_rows; r++)
            FAKE_CHECK(atomic_exchange(&fj->hits[r], 1) == 0);
        atomic_fetch_add(&fj->n_hits, s->n_rows);
    }
}

static size_t forward_rows(const struct fake_batch *b)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n_slices; i++) {
        if (b->slices[i].task->query.op == SAE_OP_FORWARD)
            n += b->slices[i].n_rows;
    }
    return n;
}

static bool next_phase(void *arg, void *batch, struct sae_phase *phase)
{
    struct fake *f = arg;
    struct fake_batch *b = batch;
    size_t decode_rows = b->side == SAE_SIDE_ENCODE ? forward_rows(b) : 0;

    FAKE_CHECK(b->active);
    FAKE_CHECK(atomic_load(&b->n_done) == b->n_tiles);
    if (b->phases_left == 0) {
        count_rows(b);
        atomic_store(&b->n_done, 0);
        b->active = false;
        return false;
    }
    b->phases_left--;
    b->n_tiles = 1 + (unsigned)(fake_random(&b->rng) % f->max_tiles);
    atomic_store(&b->n_done, 0);
    for (unsigned i = 0; i < b->n_tiles; i++)
        atomic_store(&b->hit[i], 0);
    phase->n_tiles = b->n_tiles;
    phase->gemm = b->side;
    phase->decode_rows = 0;
    /* A forward batch ends with its decode part. */
    if (decode_rows && b->phases_left == 0) {
        phase->gemm = SAE_SIDE_DECODE;
        phase->decode_rows = decode_rows;
    }
    return true;
}

static void run_tile(void *arg, void *batch, size_t tile, void *scratch)
{
    struct fake *f = arg;
    struct fake_batch *b = batch;
    struct fake_scratch *s = scratch;

    FAKE_CHECK(b->active && tile < b->n_tiles && b->needs <= s->capacity);
    FAKE_CHECK(atomic_exchange(&s->busy, 1) == 0);
    FAKE_CHECK(atomic_exchange(&b->hit[tile], 1) == 0);
    if (f->on_tile)
        f->on_tile(f->arg);
    atomic_fetch_add(&f->n_tiles, 1);
    atomic_store(&s->busy, 0);
    atomic_fetch_add(&b->n_done, 1);
}

struct saed_compute fake_compute(struct fake *f)
{
    FAKE_CHECK(f->max_tiles >= 1 && f->max_tiles <= MAX_TILES && f->max_rows >= 1);
    FAKE_CHECK(f->min_phases <= f->max_phases);
    return (struct saed_compute){
        .arg = f,
        .batch_create = batch_create,
        .batch_free = batch_free,
        .batch_rest = batch_rest,
        .scratch_create = scratch_create,
        .scratch_free = scratch_free,
        .warm = warm,
        .begin = begin,
        .next_phase = next_phase,
        .run_tile = run_tile,
    };
}
