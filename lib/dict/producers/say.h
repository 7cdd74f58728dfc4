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

/* The config that the row needs is there, or it is refused by its name. */
enum sae_status sae_say_need_config(const struct sae_file *b, const char *name,
                                    struct sae_err *err) SAE_MUST_USE;

/* The k largest, by the file. */
void sae_say_k(struct sae_file *b, int64_t k);
/* k under `path` of the config, `fallback` where it is not there; 0: then it must be stated. */
enum sae_status sae_say_config_k(struct sae_file *b, const char *path, int64_t fallback,
                                 const char *producer, struct sae_err *err) SAE_MUST_USE;

/* "scaling_factor" of ones is nothing; another is refused. */
enum sae_status sae_say_no_scaling_factor(struct sae_file *b, struct sae_err *err) SAE_MUST_USE;

#endif
