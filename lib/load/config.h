/* config.h - the configs that producers write beside weights, read as facts.
 *
 * Called by lib/dict and hints.c. Holds no state: any thread. */
#ifndef SAE_CONFIG_H
#define SAE_CONFIG_H

#include "lib/load/facts.h"

/* Read the file `name` of `folder` ("" or one that ends in '/'): by its ending config.yaml's form,
 * or JSON. *out is owned (sae_facts_free), NULL when there is no such file. Nothing is decided
 * here: what is not as it should be is refused when it is asked for. SAE_E_IO: it cannot be opened
 * or read, or is no regular file. SAE_E_FORMAT: it is too large, or none of its form; the message
 * names it. SAE_E_NOMEM. */
enum sae_status sae_config_read(struct sae_facts **out, const char *folder, const char *name,
                                struct sae_err *err) SAE_MUST_USE;

/* The same of n bytes of text, behind which one more may be read. JSON (config_json.c): at most 64
 * deep and 100,000 values, no key twice in a dict; NaN and the infinities of Python's json are
 * NO_NUMBER, integers beyond 64 bits BIG: jansson refuses files with either, and producers write
 * both. A byte order mark is skipped.
 */
enum sae_status sae_config_json(struct sae_facts **out, const char *name, const char *text,
                                size_t n, struct sae_err *err) SAE_MUST_USE;

/* YAML (config_yaml.c): the lines `key: value` that begin in column 0, values being scalars; all
 * else is skipped, and a key that has more, or stands twice, is UNREAD. Refused are only files in
 * which a line may not be what it seems. */
enum sae_status sae_config_yaml(struct sae_facts **out, const char *name, const char *text,
                                size_t n, struct sae_err *err) SAE_MUST_USE;

#endif
