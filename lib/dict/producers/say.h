/* say.h - the few words that the rows' settling is written in.
 *
 * Private to this folder. Called with a file that is being settled: one thread. */
#ifndef SAE_PRODUCERS_SAY_H
#define SAE_PRODUCERS_SAY_H

#include "lib/dict/producers/producers.h"

#define NOTE(b, ...) sae_dict_add_note(&(b)->info, __VA_ARGS__)
#define REFUSE(err, where, ...) sae_err_set(err, SAE_E_FORMAT, where, __VA_ARGS__)

static inline void row_says(struct sae_file *b, enum sae_field f, const char *text)
{
    sae_reading_say(&b->reading, f, text, SAE_FROM_ROW);
}

static inline void file_says(struct sae_file *b, enum sae_field f, const char *text)
{
    sae_reading_say(&b->reading, f, text, SAE_FROM_FILE);
}

static inline bool is_stated(const struct sae_file *b, enum sae_field f)
{
    return b->stated->reading.field[f].is_set;
}

static inline bool has(const struct sae_file *b, const char *key)
{
    return sae_file_find(b, key) != SIZE_MAX;
}

/* By the file where `found`; else it is the producer's default, which the row knows. */
static inline void says(struct sae_file *b, enum sae_field f, const char *text, bool found)
{
    sae_reading_say(&b->reading, f, text, found ? SAE_FROM_FILE : SAE_FROM_ROW);
}

/* A note that the producer's default for an absent key of its config filled a field, unless a
 * statement did. */
void sae_say_default(struct sae_file *b, enum sae_field f, const char *value, const char *producer,
                     const char *key);

/* The config that the row needs is there, or all of `fields` (a bit each) that it would have given
 * are stated; else it is refused, naming them. */
enum sae_status sae_say_need_config(const struct sae_file *b, const char *name, unsigned fields,
                                    struct sae_err *err) SAE_MUST_USE;

/* The right row is the other one of b's: from now on its reading counts. */
void sae_say_other(struct sae_file *b);

/* The k largest. */
void sae_say_k(struct sae_file *b, int64_t k, enum sae_origin from);
/* k under `path` of the config, `fallback` where it is not there; 0: then it must be stated. */
enum sae_status sae_say_config_k(struct sae_file *b, const char *path, int64_t fallback,
                                 const char *producer, struct sae_err *err) SAE_MUST_USE;

/* A component of the path as it was given; n 0: there is none. */
struct sae_component {
    const char *p;
    size_t n;
};
/* The nearest that `fits`. */
struct sae_component sae_say_component(const struct sae_file *b,
                                       bool (*fits)(const char *p, size_t n));
/* How many digits it ends in. */
size_t sae_say_digits(const char *p, size_t n);

#endif
