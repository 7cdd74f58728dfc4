/* batches.h - for tests: tasks cut into batches and run, and an oracle of every answer.
 *
 * The exact dictionaries hold small integers, so that every sum is exact in f32 whatever its order:
 * an engine that promises only a tolerance must still give the bits of ref.c, ids, ties and all. */
#ifndef TESTS_SUPPORT_BATCHES_H
#define TESTS_SUPPORT_BATCHES_H

#include "lib/cpu.h"
#include "lib/saed.h"

/* A dictionary of small integers (r_mag: some not 0), owned. Aborts when out of memory. */
struct sae_dict *batches_exact_dict(const char *class_name, size_t d, size_t F, uint64_t seed);
/* n rows of d small integers, owned (sae_free). */
float *batches_exact_rows(size_t n, size_t d, uint64_t seed);

/* One batch, start to end, on this thread. */
void batches_run(struct sae_batch *b, struct sae_scratch *s, const struct sae_dict *dict,
                 enum sae_side side, const struct sae_slice *slices, size_t n_slices);
/* The same with n_threads that share the tiles of each phase; s has a scratch for each. */
#define BATCHES_MAX_THREADS 4
void batches_run_crew(struct sae_batch *b, struct sae_scratch *const *s, size_t n_threads,
                      const struct sae_dict *dict, enum sae_side side,
                      const struct sae_slice *slices, size_t n_slices);
/* All rows of all tasks, in random slices mixed into batches of at most max_rows rows. */
void batches_run_all(struct sae_batch *b, struct sae_scratch *s, const struct sae_dict *dict,
                     enum sae_side side, struct sae_task *tasks, size_t n_tasks, size_t max_rows,
                     uint64_t seed);
void batches_run_all_crew(struct sae_batch *b, struct sae_scratch *const *s, size_t n_threads,
                          const struct sae_dict *dict, enum sae_side side, struct sae_task *tasks,
                          size_t n_tasks, size_t max_rows, uint64_t seed);

/* A query at random: operation encode or forward, every option that the class takes. *store holds
 * what the query borrows, owned (sae_free). n_rows >= 1. */
struct batches_store {
    uint32_t *features;
    float *mask;
};
struct sae_query batches_query(const struct sae_dict *d, size_t n_rows, uint64_t *random,
                               struct batches_store *store);
void batches_store_fini(struct batches_store *store);

/* Compare the answer of a finished task with ref.c. exact: everything bit for bit (NaN = NaN);
 * exact_x_hat: x_hat and x_ghost too, else they are compared by tolerance with the f of ref.c.
 * Not exact: values by tolerance, lists by the rules that hold near a threshold.
 * A difference fails the Check test, named by `label`. */
void batches_check(const struct sae_task *t, bool exact, bool exact_x_hat, const char *label);

/* Keep what ref.c says of these rows: batches_check then looks rows of the same bits up instead of
 * computing them anew. Dictionary and rows are borrowed until the next call; NULL, NULL, 0 ends it.
 */
void batches_remember(const struct sae_dict *d, const float *x, size_t n_rows);

/* Nine tasks of random queries and rows (some with NaN and infinities), mixed into batches and
 * checked. Prepares the dictionary for the engine. */
void batches_mixed(const struct sae_engine *e, struct sae_dict *dict, bool exact, bool exact_x_hat,
                   uint64_t seed);

/* Every way in which a batch is computed: an engine, prepared for the dictionary, owned.
 * BY_THRESHOLD and BY_INTERVAL: as after many rows for which the other one did not pay. */
enum batches_way { BATCHES_OPENBLAS, BATCHES_BY_THRESHOLD, BATCHES_BY_INTERVAL, BATCHES_N_WAYS };
struct sae_engine *batches_engine(enum batches_way way, struct sae_dict *dict);

/* The native engine on one instruction set, prepared for the dictionary, owned (batches_end); NULL,
 * said as a skip, when this CPU lacks it. */
struct sae_engine *batches_native(enum sae_isa isa, struct sae_dict *dict);
/* From then on only BY_THRESHOLD or only BY_INTERVAL, of a dictionary prepared for it. */
void batches_only(enum batches_way way, struct sae_dict *dict);
/* The engine goes, and what it prepared: the next instruction set has a plane of its own. */
void batches_end(struct sae_engine *e, struct sae_dict *dict);

#endif
