/* keys.h - the keys of --api-key-file, and whose each of them is.
 *
 * A file has a NAME:KEY a line; blank lines and lines that begin with # are nothing. NAME is what
 * logs say, and may stand at several keys. Of keys only digests are kept, and all of these are
 * compared with that of a key that is sent: how long it takes tells nothing.
 *
 * THREADS  any; the keys are replaced as a whole, under a lock. */
#ifndef SAED_KEYS_H
#define SAED_KEYS_H

#include "server/opts/opts.h"

#define SAED_KEY_NAME_MAX 64

struct saed_keys;

/* `files` is borrowed until free. SAE_E_IO: one cannot be read; SAE_E_USAGE: one has no keys, or
 * something else in it, named by its line, never by its text. */
enum sae_status saed_keys_create(struct saed_keys **out, const struct saed_list *files,
                                 struct sae_err *err) SAE_MUST_USE;
/* Read the files anew, without waiting: of a pipe or anything else but a regular file SAE_E_IO. On
 * failure the keys are those of before. */
enum sae_status saed_keys_reload(struct saed_keys *k, struct sae_err *err) SAE_MUST_USE;
size_t saed_keys_count(struct saed_keys *k);
/* Copy the name that the key has. False: it is none of them. */
bool saed_keys_find(struct saed_keys *k, const char *key, char name[SAED_KEY_NAME_MAX + 1]);
void saed_keys_free(struct saed_keys *k); /* NULL allowed */

#endif
