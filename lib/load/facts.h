/* facts.h - what files say beside weights, as one kind of tree: the numbers and texts of a .pt, the
 * metadata of safetensors, configs in JSON and YAML.
 *
 * Facts are hints: shapes are never taken from them. Made by pt_facts.c, config_json.c and
 * config_yaml.c; immutable then, any thread. */
#ifndef SAE_FACTS_H
#define SAE_FACTS_H

#include "lib/base.h"

#define SAE_FACTS_NAME_MAX 64

enum sae_fact_kind {
    SAE_FACT_NULL,
    SAE_FACT_BOOL,
    SAE_FACT_INT,
    SAE_FACT_BIG, /* an integer beyond 64 bits: its text, where that is known */
    SAE_FACT_REAL,
    SAE_FACT_NO_NUMBER, /* NaN or an infinity */
    SAE_FACT_TEXT,
    SAE_FACT_OPAQUE, /* what is only named: "<builtins.eval>" */
    SAE_FACT_UNREAD, /* of a config.yaml; its text says what stands there: "an anchor" */
    SAE_FACT_LIST,
    SAE_FACT_DICT
};

struct sae_fact {
    enum sae_fact_kind kind;
    const char *key; /* in a dict; NULL else. A shared value has one for each place */
    size_t n;        /* bytes of the text, items of a list or dict */
    union {
        bool b;
        int64_t i;
        double real;
        const char *text; /* UTF-8 without NUL, and one behind it */
        const struct sae_fact *first;
    } u;
    const struct sae_fact *next; /* in its list or dict */
    struct sae_fact *last;       /* of a list or dict: its last item, for who makes it */
};

struct sae_facts; /* the tree, and what it is made of */

void sae_facts_free(struct sae_facts *f);                         /* NULL allowed */
const struct sae_fact *sae_facts_root(const struct sae_facts *f); /* NULL for NULL */
const char *sae_facts_name(const struct sae_facts *f);            /* "config.json", of messages */

/* What stands under `path`, keys joined by '.': "trainer.k". A key that is the whole rest of the
 * path goes first; one may have a '.' in it. NULL: nothing does. f may be NULL. */
const struct sae_fact *sae_facts_find(const struct sae_facts *f, const char *path);

/* The value under `path` as one of these. What is not there, or null, is not found: *found is false
 * and *out untouched. SAE_E_FORMAT: it is something else, and the message names file and key. An
 * integer is a real too, never the other way round. The text is borrowed from f. */
enum sae_status sae_facts_int(const struct sae_facts *f, const char *path, int64_t *out,
                              bool *found, struct sae_err *err) SAE_MUST_USE;
enum sae_status sae_facts_real(const struct sae_facts *f, const char *path, double *out,
                               bool *found, struct sae_err *err) SAE_MUST_USE;
enum sae_status sae_facts_bool(const struct sae_facts *f, const char *path, bool *out, bool *found,
                               struct sae_err *err) SAE_MUST_USE;
enum sae_status sae_facts_text(const struct sae_facts *f, const char *path, const char **out,
                               bool *found, struct sae_err *err) SAE_MUST_USE;

/* What a value is, for messages: "an integer", "a list". */
const char *sae_fact_describe(const struct sae_fact *fact);

/* Print as JSON. What is no number, or too big a one, is null. SAE_E_NOMEM when the buffer's cap is
 * reached, and then it holds a part. */
enum sae_status sae_fact_print(const struct sae_fact *fact, struct sae_buf *out) SAE_MUST_USE;

/* ---- for those who make them: one thread, and all return NULL when memory is out ---- */

struct sae_facts *sae_facts_create(const char *name) SAE_MUST_USE;
/* A new node, NULL as yet, at the end of `parent`, a LIST or DICT (then with its key, owned by f);
 * parent NULL: the root. */
struct sae_fact *sae_facts_add(struct sae_facts *f, struct sae_fact *parent,
                               const char *key) SAE_MUST_USE;
/* Room for n bytes of a text and a NUL behind them, which is there. */
char *sae_facts_room(struct sae_facts *f, size_t n) SAE_MUST_USE;
/* The n bytes at s; what is no UTF-8 in them, or NUL, becomes U+FFFD. */
char *sae_facts_copy(struct sae_facts *f, const char *s, size_t n) SAE_MUST_USE;

#endif
