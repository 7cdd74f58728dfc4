/* batches.c - tasks through batches, and their oracle. See batches.h. */
#include "tests/support/batches.h"

#include "lib/dict/ref.h"
#include "lib/engine/native/state.h"
#include "lib/num.h"
#include "tests/support/dicts.h"
#include "tests/support/tolerance.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t below(uint64_t *random, size_t n)
{
    return (size_t)(dicts_random(random) >> 11) % n;
}

static bool chance(uint64_t *random, size_t one_in)
{
    return below(random, one_in) == 0;
}

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "batches: %s\n", what);
        abort();
    }
}

/* ---- exact dictionaries ------------------------------------------------------------------------
 */

static void fill_integers(float *v, size_t n, int lo, int hi, uint64_t *random)
{
    for (size_t i = 0; v && i < n; i++)
        v[i] = (float)(lo + (int)below(random, (size_t)(hi - lo + 1)));
}

struct sae_dict *batches_exact_dict(const char *class_name, size_t d, size_t F, uint64_t seed)
{
    const struct sae_layout *layout = sae_layout_by_name(class_name);
    uint64_t random = seed * 77 + d * 131 + F;
    int spread = 1 + (int)sqrt(4.0 * (double)d);
    struct sae_dict *dict = NULL;
    float *r;

    must(layout && sae_dict_create(&dict, layout, d, F, NULL) == SAE_OK,
         "cannot make a dictionary");
    fill_integers(dict->enc.f32, dict->enc.f32 ? F * d : 0, -1, 1, &random);
    fill_integers(dict->dec.f32, dict->dec.f32 ? F * d : 0, -2, 2, &random);
    fill_integers(dict->centre, d, -1, 1, &random);
    if (dict->dec_bias != dict->centre)
        fill_integers(dict->dec_bias, d, -2, 2, &random);
    fill_integers(sae_dict_array(dict, SAE_ROLE_ENC_BIAS), F, -2 * spread, spread, &random);
    fill_integers(sae_dict_array(dict, SAE_ROLE_GATE_BIAS), F, -2 * spread, spread, &random);
    fill_integers(sae_dict_array(dict, SAE_ROLE_MAG_BIAS), F, -spread, spread, &random);
    fill_integers(sae_dict_array(dict, SAE_ROLE_JUMP), F, -3, 3, &random);
    fill_integers(sae_dict_array(dict, SAE_ROLE_THRESHOLD), F, -2, 4, &random);
    if (sae_layout_key_of(layout, SAE_ROLE_TOP_K))
        dict->formula.top_k = 1 + below(&random, F);
    r = sae_dict_array(dict, SAE_ROLE_R_MAG);
    for (size_t j = 0; r && j < F; j++)
        r[j] = chance(&random, 3) ? 0.25f : 0.0f;
    must(sae_dict_seal(dict, "float32", NULL, NULL) == SAE_OK, "cannot seal a dictionary");
    return dict;
}

float *batches_exact_rows(size_t n, size_t d, uint64_t seed)
{
    float *x = sae_alloc(n * d, sizeof *x);
    uint64_t random = seed;

    must(x != NULL, "out of memory");
    fill_integers(x, n * d, -3, 3, &random);
    return x;
}

/* ---- running ------------------------------------------------------------------------------------
 */

void batches_run(struct sae_batch *b, struct sae_scratch *s, const struct sae_dict *dict,
                 enum sae_side side, const struct sae_slice *slices, size_t n_slices)
{
    struct sae_phase phase;

    sae_batch_begin(b, dict, side, slices, n_slices);
    while (sae_batch_next_phase(b, &phase))
        for (size_t i = phase.n_tiles; i-- > 0;) /* tiles are independent: any order */
            sae_batch_run_tile(b, i, s);
}

/* One batch by several threads: a barrier before and after each phase stands for the scheduler. */
struct crew {
    struct sae_batch *b;
    struct sae_scratch *const *s;
    pthread_barrier_t barrier;
    struct sae_phase phase;
    bool more;
    atomic_size_t next;
};

struct hand {
    struct crew *crew;
    size_t i;
};

static void *work(void *arg)
{
    const struct hand *h = arg;
    struct crew *c = h->crew;

    for (;;) {
        if (h->i == 0) {
            c->more = sae_batch_next_phase(c->b, &c->phase);
            atomic_store(&c->next, 0);
        }
        pthread_barrier_wait(&c->barrier);
        if (!c->more)
            return NULL;
        for (size_t t; (t = atomic_fetch_add(&c->next, 1)) < c->phase.n_tiles;)
            sae_batch_run_tile(c->b, t, c->s[h->i]);
        pthread_barrier_wait(&c->barrier);
    }
}

void batches_run_crew(struct sae_batch *b, struct sae_scratch *const *s, size_t n_threads,
                      const struct sae_dict *dict, enum sae_side side,
                      const struct sae_slice *slices, size_t n_slices)
{
    struct hand hands[BATCHES_MAX_THREADS];
    pthread_t threads[BATCHES_MAX_THREADS];
    struct crew c = {.b = b, .s = s};

    must(n_threads >= 1 && n_threads <= BATCHES_MAX_THREADS, "that many threads");
    pthread_barrier_init(&c.barrier, NULL, (unsigned)n_threads);
    sae_batch_begin(b, dict, side, slices, n_slices);
    for (size_t i = 0; i < n_threads; i++) {
        hands[i] = (struct hand){.crew = &c, .i = i};
        must(pthread_create(&threads[i], NULL, work, &hands[i]) == 0, "no thread");
    }
    for (size_t i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&c.barrier);
}

static void run_with(struct sae_batch *b, struct sae_scratch *const *s, size_t n_threads,
                     const struct sae_dict *dict, enum sae_side side,
                     const struct sae_slice *slices, size_t n_slices)
{
    if (n_threads == 1)
        batches_run(b, s[0], dict, side, slices, n_slices);
    else
        batches_run_crew(b, s, n_threads, dict, side, slices, n_slices);
}

void batches_run_all(struct sae_batch *b, struct sae_scratch *s, const struct sae_dict *dict,
                     enum sae_side side, struct sae_task *tasks, size_t n_tasks, size_t max_rows,
                     uint64_t seed)
{
    batches_run_all_crew(b, &s, 1, dict, side, tasks, n_tasks, max_rows, seed);
}

void batches_run_all_crew(struct sae_batch *b, struct sae_scratch *const *s, size_t n_threads,
                          const struct sae_dict *dict, enum sae_side side, struct sae_task *tasks,
                          size_t n_tasks, size_t max_rows, uint64_t seed)
{
    struct sae_slice *slices = calloc(max_rows, sizeof *slices);
    size_t *next = calloc(n_tasks + 1, sizeof *next);
    size_t left = 0, n = 0, room = max_rows;
    uint64_t random = seed;

    must(slices && next, "out of memory");
    for (size_t i = 0; i < n_tasks; i++)
        left += tasks[i].n_rows;
    while (left > 0) {
        size_t i = below(&random, n_tasks), rows = tasks[i].n_rows - next[i];

        if (rows == 0)
            continue;
        if (chance(&random, 2))
            rows = 1 + below(&random, rows);
        if (rows > room)
            rows = room;
        slices[n++] = (struct sae_slice){.task = &tasks[i], .row0 = next[i], .n_rows = rows};
        next[i] += rows;
        room -= rows;
        left -= rows;
        if (room == 0 || left == 0 || chance(&random, 8)) {
            run_with(b, s, n_threads, dict, side, slices, n);
            n = 0;
            room = 1 + below(&random, max_rows);
        }
    }
    if (n > 0)
        run_with(b, s, n_threads, dict, side, slices, n);
    free(slices);
    free(next);
}

/* ---- queries ------------------------------------------------------------------------------------
 */

static void random_features(struct sae_query *q, const struct sae_dict *d, uint64_t *random,
                            struct batches_store *store)
{
    size_t n = chance(random, 6) ? 0 : 1 + below(random, chance(random, 4) ? 2 * d->formula.F : 9);

    store->features = sae_alloc(n, sizeof *store->features);
    must(store->features != NULL, "out of memory");
    for (size_t i = 0; i < n; i++)
        store->features[i] = (uint32_t)below(random, d->formula.F);
    q->has_features = true;
    q->features = store->features;
    q->n_features = n;
}

/* Shapes [F], [.., 1] and that of f; zeros, booleans, negative and large values. */
static void random_mask(struct sae_query *q, const struct sae_dict *d, size_t n_rows,
                        uint64_t *random, struct batches_store *store)
{
    static const float values[] = {0.0f, 0.0f, 0.0f, 0.0f, 1.0f, -0.5f, -0.0f, 3e38f};
    size_t shape = below(random, 3);
    size_t n = shape == 0 ? d->formula.F : shape == 1 ? n_rows : n_rows * d->formula.F;

    store->mask = sae_alloc(n, sizeof *store->mask);
    must(store->mask != NULL, "out of memory");
    for (size_t i = 0; i < n; i++)
        store->mask[i] = values[below(random, chance(random, 50) ? 8 : 7)];
    q->has_ghost = true;
    q->ghost_mask = store->mask;
    q->ghost_row = shape == 0 ? 0 : shape == 1 ? 1 : d->formula.F;
    q->ghost_col = shape == 1 ? 0 : 1;
}

struct sae_query batches_query(const struct sae_dict *d, size_t n_rows, uint64_t *random,
                               struct batches_store *store)
{
    struct sae_query q = {.op = chance(random, 2) || d->formula.encodes_only ? SAE_OP_ENCODE
                                                                             : SAE_OP_FORWARD};
    bool has_aux = sae_formula_unit(&d->formula)->aux_name &&
                   (q.op == SAE_OP_ENCODE || d->info.options & SAE_OPT_OUTPUT_PRE_JUMP);

    *store = (struct batches_store){0};
    q.want_f = q.op == SAE_OP_ENCODE || !chance(random, 3);
    if (q.want_f) {
        q.want_aux = has_aux && chance(random, 2);
        q.form = (enum sae_form)below(random, 3);
        q.top_k = q.form != SAE_FORM_TOP
                      ? 0
                      : 1 + below(random, chance(random, 3) ? 2 * d->formula.F : 9);
        if (chance(random, 3))
            random_features(&q, d, random, store);
    }
    if (q.op == SAE_OP_FORWARD && d->layout->options & SAE_OPT_GHOST_MASK && chance(random, 2))
        random_mask(&q, d, n_rows, random, store);
    return q;
}

void batches_store_fini(struct batches_store *store)
{
    sae_free(store->features);
    sae_free(store->mask);
}

/* ---- the oracle ---------------------------------------------------------------------------------
 */

/* ck_assert_msg writes to a pipe even when it holds: too slow for every value of every row. */
#define REQUIRE(cond, ...)             \
    do {                               \
        if (!(cond))                   \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)

static bool same(float a, float b)
{
    return sae_f32_bits(a) == sae_f32_bits(b) || (isnan(a) && isnan(b));
}

/* Answers of ref.c kept for rows that are checked again and again (batches_remember). */
static struct {
    const struct sae_dict *d;
    const float *x;
    size_t n_rows;
    float *f; /* [n_rows][2 F]: f, aux */
} kept;

void batches_remember(const struct sae_dict *d, const float *x, size_t n_rows)
{
    free(kept.f);
    kept.d = d;
    kept.x = x;
    kept.n_rows = n_rows;
    kept.f = calloc(n_rows * 2 * (d ? d->formula.F : 0) + 1, sizeof *kept.f);
    must(kept.f != NULL, "out of memory");
    for (size_t r = 0; r < n_rows; r++)
        sae_ref_encode(d, x + r * d->formula.d_in, kept.f + r * 2 * d->formula.F,
                       kept.f + (r * 2 + 1) * d->formula.F);
}

static void ref_encode(const struct sae_dict *d, const float *x, float *f, float *aux)
{
    for (size_t r = 0; d == kept.d && r < kept.n_rows; r++)
        if (memcmp(x, kept.x + r * d->formula.d_in, d->formula.d_in * sizeof *x) == 0) {
            memcpy(f, kept.f + r * 2 * d->formula.F, d->formula.F * sizeof *f);
            memcpy(aux, kept.f + (r * 2 + 1) * d->formula.F, d->formula.F * sizeof *aux);
            return;
        }
    sae_ref_encode(d, x, f, aux);
}

/* One row's truth: what ref.c says, and how far from it an answer may be. */
struct truth {
    const struct sae_task *t;
    bool exact;
    float *raw, *f, *aux; /* unscaled f; as returned; aux */
    struct tol tol_f, tol_aux;
};

static bool right(const struct truth *o, bool aux, size_t j, float got)
{
    if (o->exact)
        return same(aux ? o->aux[j] : o->f[j], got);
    return tol_near(aux ? &o->tol_aux : &o->tol_f, j, got);
}

static struct truth truth_of(const struct sae_task *t, size_t row, bool exact)
{
    const struct sae_dict *d = t->dict;
    const float *x = t->x + row * d->formula.d_in;
    bool scaled = t->query.op == SAE_OP_FORWARD && d->formula.scales_forward_f;
    struct truth o = {.t = t, .exact = exact};

    o.raw = calloc(3 * d->formula.F, sizeof *o.raw);
    must(o.raw != NULL, "out of memory");
    o.f = o.raw + d->formula.F;
    o.aux = o.raw + 2 * d->formula.F;
    ref_encode(d, x, o.raw, o.aux);
    for (size_t j = 0; j < d->formula.F; j++)
        o.f[j] = scaled ? o.raw[j] * d->dec_norm[j] : o.raw[j];
    if (!exact)
        tol_encode(d, x, scaled, &o.tol_f,
                   sae_formula_unit(&d->formula)->aux_name ? &o.tol_aux : NULL);
    return o;
}

static void truth_fini(struct truth *o)
{
    free(o->raw);
    tol_free(&o->tol_f);
    tol_free(&o->tol_aux);
}

static void check_dense(const struct truth *o, const float *got, bool aux, const char *label)
{
    const struct sae_query *q = &o->t->query;

    for (size_t c = 0; c < o->t->width; c++) {
        size_t j = q->has_features ? q->features[c] : c;

        if (!right(o, aux, j, got[c]))
            ck_abort_msg("%s: %s column %zu (feature %zu) is %.9g, want %.9g", label,
                         aux ? "aux" : "f", c, j, (double)got[c],
                         (double)(aux ? o->aux[j] : o->f[j]));
    }
}

static bool is_candidate(const struct sae_query *q, uint32_t id)
{
    for (size_t i = 0; q->has_features && i < q->n_features; i++)
        if (q->features[i] == id)
            return true;
    return !q->has_features;
}

/* Ascending ids, all values right and not zero, and what is not listed may be zero. */
static void check_sparse(const struct truth *o, const struct sae_sparse_row *got, bool aux,
                         const char *label)
{
    const struct sae_query *q = &o->t->query;
    size_t at = 0;

    for (size_t i = 0; i < got->n; i++) {
        REQUIRE(i == 0 || got->ids[i - 1] < got->ids[i], "%s: ids do not ascend", label);
        REQUIRE(got->values[i] != 0.0f, "%s: a zero is listed", label);
        REQUIRE(is_candidate(q, got->ids[i]), "%s: id %u is no candidate", label, got->ids[i]);
    }
    for (size_t j = 0; j < o->t->dict->formula.F; j++) {
        bool listed = at < got->n && got->ids[at] == j;

        if (listed || is_candidate(q, (uint32_t)j)) {
            float v = listed ? got->values[at] : 0.0f;

            if (!right(o, aux, j, v) && !(v == 0.0f && right(o, aux, j, -0.0f)))
                ck_abort_msg("%s: sparse %s of feature %zu is %.9g, want %.9g", label,
                             aux ? "aux" : "f", j, (double)v, (double)(aux ? o->aux[j] : o->f[j]));
        }
        at += listed;
    }
    ck_assert_uint_eq(at, got->n);
}

/* Value order: NaN first, then descending, then by id. */
static int value_order(float a, uint32_t ia, float b, uint32_t ib)
{
    if (isnan(a) != isnan(b))
        return isnan(a) ? -1 : 1;
    if (!isnan(a) && a != b)
        return a > b ? -1 : 1;
    return (ia > ib) - (ia < ib);
}

struct pair {
    float v;
    uint32_t id;
};

static int by_value(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;

    return value_order(x->v, x->id, y->v, y->id);
}

static void check_top_exact(const struct truth *o, const struct sae_sparse_row *got,
                            const char *label)
{
    const struct sae_query *q = &o->t->query;
    struct pair *all = calloc(o->t->dict->formula.F + 1, sizeof *all);
    size_t n = 0, k;

    must(all != NULL, "out of memory");
    for (size_t j = 0; j < o->t->dict->formula.F; j++)
        if (o->f[j] != 0.0f && is_candidate(q, (uint32_t)j))
            all[n++] = (struct pair){o->f[j], (uint32_t)j};
    qsort(all, n, sizeof *all, by_value);
    k = n < q->top_k ? n : (size_t)q->top_k;
    REQUIRE(got->n == k, "%s: %zu entries, want %zu", label, got->n, k);
    for (size_t i = 0; i < k; i++)
        if (got->ids[i] != all[i].id || !same(got->values[i], all[i].v))
            ck_abort_msg("%s: place %zu is %u: %.9g, want %u: %.9g", label, i, got->ids[i],
                         (double)got->values[i], all[i].id, (double)all[i].v);
    free(all);
}

/* Near enough: in order, each value right, nothing left out that is clearly larger. */
static void check_top_near(const struct truth *o, const struct sae_sparse_row *got,
                           const char *label)
{
    const struct sae_query *q = &o->t->query;
    float last = got->n == q->top_k ? got->values[got->n - 1] : 0.0f;
    char *seen = calloc(o->t->dict->formula.F, 1);

    must(seen != NULL, "out of memory");
    REQUIRE(got->n <= q->top_k, "%s: more than k", label);
    for (size_t i = 0; i < got->n; i++) {
        uint32_t id = got->ids[i];

        REQUIRE(i == 0 || value_order(got->values[i - 1], got->ids[i - 1], got->values[i], id) < 0,
                "%s: place %zu is out of order", label, i);
        REQUIRE(right(o, false, id, got->values[i]) && got->values[i] != 0.0f, "%s: value of %u",
                label, id);
        REQUIRE(is_candidate(q, id) && !seen[id], "%s: id %u", label, id);
        seen[id] = 1;
    }
    for (size_t j = 0; j < o->t->dict->formula.F; j++) {
        double most = fmin(o->tol_f.want[j], o->tol_f.alt[j]) - o->tol_f.tol[j];

        if (seen[j] || !is_candidate(q, (uint32_t)j))
            continue;
        if (got->n < q->top_k) /* all that are not zero are listed */
            REQUIRE(right(o, false, j, 0.0f), "%s: feature %zu is missing", label, j);
        else
            REQUIRE(isnan(last) || !(most > (double)last) || right(o, false, j, 0.0f),
                    "%s: feature %zu is larger", label, j);
    }
    free(seen);
}

static void check_x_hat(const struct truth *o, size_t row, bool exact, const char *label)
{
    const struct sae_task *t = o->t;
    const struct sae_dict *d = t->dict;
    const struct sae_query *q = &t->query;
    const size_t m = d->formula.d_out;
    const float *x = t->x + row * d->formula.d_in;
    float *want = calloc(m + d->formula.F, sizeof *want), *ghost = want + m;
    float state[SAE_MAX_STATE];
    struct tol tol = {0};

    must(want != NULL, "out of memory");
    sae_ref_decode(d, o->raw, true, want);
    sae_ref_state(d, x, state);
    sae_ref_output(d, x, state, want);
    tol_decode(d, o->raw, x, &tol);
    for (size_t k = 0; k < m; k++) {
        float got = t->x_hat[row * m + k];

        if (exact ? !same(got, want[k]) : !tol_near(&tol, k, got))
            ck_abort_msg("%s: x_hat[%zu] is %.9g, want %.9g", label, k, (double)got,
                         (double)want[k]);
    }
    tol_free(&tol);
    if (t->x_ghost) {
        const float *mask = q->ghost_mask + row * q->ghost_row;

        sae_ref_ghost(d, x, mask, q->ghost_col, ghost);
        sae_ref_decode(d, ghost, false, want);
        tol_ghost(d, x, mask, q->ghost_col, &tol);
        for (size_t k = 0; k < m; k++) {
            float got = t->x_ghost[row * m + k];

            /* where terms or sums overflow f32, the order of the sum decides what becomes of it */
            if (!exact &&
                (tol.tol[k] > 4e-6 * (double)FLT_MAX || (!isfinite(got) && !isfinite(want[k]))))
                continue;
            if (exact ? !same(got, want[k]) : !tol_near(&tol, k, got))
                ck_abort_msg("%s: x_ghost[%zu] is %.9g, want %.9g", label, k, (double)got,
                             (double)want[k]);
        }
        tol_free(&tol);
    }
    free(want);
}

static void check_top_aux(const struct truth *o, const struct sae_sparse_row *f,
                          const struct sae_sparse_row *aux, const char *label)
{
    REQUIRE(f->n == aux->n, "%s: aux has other entries than f", label);
    for (size_t i = 0; i < f->n; i++)
        REQUIRE(f->ids[i] == aux->ids[i] && right(o, true, aux->ids[i], aux->values[i]),
                "%s: aux at place %zu", label, i);
}

static void check_row(const struct sae_task *t, size_t row, bool exact, bool exact_x_hat,
                      const char *label)
{
    const struct sae_query *q = &t->query;
    struct truth o = truth_of(t, row, exact);

    if (q->want_f && q->form == SAE_FORM_DENSE) {
        check_dense(&o, t->f + row * t->width, false, label);
        if (q->want_aux)
            check_dense(&o, t->aux + row * t->width, true, label);
    } else if (q->want_f && q->form == SAE_FORM_SPARSE) {
        check_sparse(&o, &t->f_rows[row], false, label);
        if (q->want_aux)
            check_sparse(&o, &t->aux_rows[row], true, label);
    } else if (q->want_f) {
        if (exact)
            check_top_exact(&o, &t->f_rows[row], label);
        else
            check_top_near(&o, &t->f_rows[row], label);
        if (q->want_aux)
            check_top_aux(&o, &t->f_rows[row], &t->aux_rows[row], label);
    }
    if (q->op == SAE_OP_FORWARD)
        check_x_hat(&o, row, exact_x_hat, label);
    truth_fini(&o);
}

void batches_check(const struct sae_task *t, bool exact, bool exact_x_hat, const char *label)
{
    const struct sae_query *q = &t->query;
    uint64_t nnz = 0, aux_nnz = 0;
    char text[300];

    ck_assert_int_eq(t->failed, 0);
    for (size_t r = 0; r < t->n_rows; r++) {
        snprintf(text, sizeof text,
                 "%s op %d form %d k %llu features %d:%zu aux %d ghost %d row %zu", label, q->op,
                 q->form, (unsigned long long)q->top_k, q->has_features, q->n_features, q->want_aux,
                 q->ghost_mask != NULL, r);
        check_row(t, r, exact, exact_x_hat, text);
        nnz += t->f_rows ? t->f_rows[r].n : 0;
        aux_nnz += t->aux_rows ? t->aux_rows[r].n : 0;
    }
    ck_assert_uint_eq(t->nnz, nnz);
    ck_assert_uint_eq(t->aux_nnz, aux_nnz);
}

static void poison(float *x, size_t n, size_t d, uint64_t *random)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};

    for (size_t r = 0; r < n; r++)
        if (dicts_random(random) % 6 == 0)
            x[r * d + dicts_random(random) % d] = bad[dicts_random(random) % 3];
}

void batches_mixed(const struct sae_engine *e, struct sae_dict *dict, bool exact, bool exact_x_hat,
                   uint64_t seed)
{
    enum { N_TASKS = 9 };
    struct sae_task tasks[N_TASKS];
    struct batches_store stores[N_TASKS];
    size_t max_rows = 1 + seed % 70;
    uint64_t random = seed;
    struct sae_batch *b;
    struct sae_scratch *s;
    char label[96];

    ck_assert_int_eq(sae_engine_prepare(e, dict, NULL, NULL), SAE_OK);
    ck_assert_int_eq(sae_batch_create(&b, e, dicts_capacity(dict, max_rows), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&s, e, dicts_capacity(dict, max_rows), NULL), SAE_OK);
    for (size_t i = 0; i < N_TASKS; i++) {
        size_t n = 1 + dicts_random(&random) % 6;
        float *x = exact ? batches_exact_rows(n, dict->formula.d_in, seed + i)
                         : dicts_rows(n, dict->formula.d_in, seed + i);

        poison(x, n, dict->formula.d_in, &random);
        tasks[i] = (struct sae_task){.dict = dict, .n_rows = n, .x = x};
        tasks[i].query = batches_query(dict, n, &random, &stores[i]);
        ck_assert_int_eq(sae_task_prepare(&tasks[i], NULL), SAE_OK);
    }
    batches_run_all(b, s, dict, SAE_SIDE_ENCODE, tasks, N_TASKS, max_rows, seed);
    snprintf(label, sizeof label, "%s %zux%zu seed %llu:", dict->layout->name, dict->formula.d_in,
             dict->formula.F, (unsigned long long)seed);
    for (size_t i = 0; i < N_TASKS; i++) {
        batches_check(&tasks[i], exact, exact_x_hat, label);
        sae_task_fini(&tasks[i]);
        batches_store_fini(&stores[i]);
        sae_free((float *)tasks[i].x);
    }
    sae_batch_free(b);
    sae_scratch_free(s);
}

void batches_only(enum batches_way way, struct sae_dict *dict)
{
    struct sae_native_dict *nd = dict->engine_data;
    struct native_record *r;

    if (!nd)
        return;
    r = way == BATCHES_BY_INTERVAL ? &nd->thresholds : &nd->intervals;
    atomic_store(&r->tried, 100);
    atomic_store(&r->failed, 100);
    atomic_store(&r->batches, 1);
}

struct sae_engine *batches_native(enum sae_isa isa, struct sae_dict *dict)
{
    struct sae_engine *e = NULL;

    if (!sae_cpu_has(isa)) {
        printf("SKIP: this CPU has no %s\n", sae_isa_name(isa));
        return NULL;
    }
    ck_assert_int_eq(sae_engine_create(&e, SAE_ENGINE_NATIVE, sae_isa_name(isa), NULL), SAE_OK);
    ck_assert_int_eq(sae_engine_prepare(e, dict, NULL, NULL), SAE_OK);
    return e;
}

void batches_end(struct sae_engine *e, struct sae_dict *dict)
{
    sae_engine_free(e);
    if (dict->engine_data)
        dict->engine_data_free(dict->engine_data);
    dict->engine_data = NULL;
}

struct sae_engine *batches_engine(enum batches_way way, struct sae_dict *dict)
{
    struct sae_engine *e = NULL;

    ck_assert_int_eq(
        sae_engine_create(&e, way == BATCHES_OPENBLAS ? SAE_ENGINE_OPENBLAS : SAE_ENGINE_NATIVE,
                          NULL, NULL),
        SAE_OK);
    ck_assert_int_eq(sae_engine_prepare(e, dict, NULL, NULL), SAE_OK);
    if (way != BATCHES_OPENBLAS)
        batches_only(way, dict);
    return e;
}
