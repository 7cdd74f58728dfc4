/* parse.h - private to the JSON parser (json.c, json/parse.c, json/dense.c, json/sparse.c): its
 * state and what its parts share.
 *
 * One pass over the body, straight into struct sae_request. Each part reads its own form and stops
 * at the first byte that does not fit, with one of
 *   SAE_E_MALFORMED_JSON   the grammar is at fault here (nothing is recorded);
 *   SAE_E_NOMEM, SAE_E_OVERLOADED, SAE_E_BODY_TOO_LARGE   memory, or a cap on it;
 *   another                a fault of meaning, recorded by sae_json_fail.
 * json.c then has the whole text checked, since a text that is no JSON is reported as such,
 * wherever its fault lies. So the parts need not know how to skip what they cannot read.
 *
 * Owned by the one call of sae_json_parse that made it. */
#ifndef SAE_JSON_PARSE_H
#define SAE_JSON_PARSE_H

#include "lib/format/json_scan.h"
#include "proto/wire.h"

struct sae_json_parser {
    const char *p, *end; /* borrowed: the body */
    const struct sae_target *t;
    struct sae_request *r;
    struct sae_err err; /* the fault of meaning */
};

/* An array that grows while it is read. `data` is from sae_alloc, owned by whom it is handed to. */
struct sae_json_array {
    void *data;
    size_t n, cap;     /* items, and room for them */
    size_t size;       /* bytes of an item */
    size_t guess;      /* room to begin with, 0: a little */
    const char *since; /* where its text begins */
};

/* Where a value stands, as a JSON pointer: base "/f/indices", then n indices. */
struct sae_json_path {
    const char *base;
    unsigned n;
    uint64_t at[SAE_MAX_DIMS];
};

/* The next byte that is no blank (left unread), or -1 at the end. */
static inline int sae_json_peek(struct sae_json_parser *ps)
{
    ps->p = sae_json_blanks(ps->p, ps->end);
    return ps->p < ps->end ? (unsigned char)*ps->p : -1;
}

/* Is it `c`? Then it is read. */
static inline bool sae_json_take(struct sae_json_parser *ps, char c)
{
    bool is = sae_json_peek(ps) == (unsigned char)c;

    ps->p += is;
    return is;
}

/* Behind an item of a list or object that ends with `close`: SAE_OK, with *more telling a comma
 * from the end, or SAE_E_MALFORMED_JSON. */
static inline enum sae_status sae_json_next(struct sae_json_parser *ps, char close, bool *more)
{
    *more = sae_json_take(ps, ',');
    return *more || sae_json_take(ps, close) ? SAE_OK : SAE_E_MALFORMED_JSON;
}

/* The word `w` (true, false, null)? Then it is read. */
bool sae_json_take_word(struct sae_json_parser *ps, const char *w);

/* An integer without sign, point or exponent; above 64 bits it is UINT64_MAX. False: none. */
bool sae_json_take_uint(struct sae_json_parser *ps, uint64_t *out);

/* Pass over the value that comes next. */
enum sae_status sae_json_skip(struct sae_json_parser *ps);

/* Record a fault of meaning; `path` may be NULL. Returns st. */
enum sae_status sae_json_fail(struct sae_json_parser *ps, enum sae_status st,
                              const struct sae_json_path *path, const char *fmt, ...)
    SAE_PRINTF(4, 5);

/* Name the value that comes next, for an error's text: "null", "an object", "1.5", "\"abc\"". */
struct sae_json_name {
    char s[48];
};
struct sae_json_name sae_json_describe(struct sae_json_parser *ps);

/* Room for one more item, held by the target. SAE_E_NOMEM, and those of sae_target_hold. */
enum sae_status sae_json_grow(struct sae_json_parser *ps, struct sae_json_array *a);

/* A list of ids into `ids`, which has its size and start; its room is the caller's, also on
 * failure. Their range is sae_request_check's, for which an id above 32 bits is UINT32_MAX. */
enum sae_status sae_json_read_ids(struct sae_json_parser *ps, const char *name, const char *pointer,
                                  struct sae_json_array *ids);
/* The value of a key of weights (sae_weights_key). */
enum sae_status sae_json_read_weight(struct sae_json_parser *ps, int key);

/* A leaf that sae_num_read did not take as it stands: one of the three names, a boolean where
 * `booleans` allows it, or a fault. `what` is the tensor's name. */
enum sae_status sae_json_odd_leaf(struct sae_json_parser *ps, float *out, bool booleans,
                                  const char *what, const struct sae_json_path *path);

/* A nested list of numbers. `base` is its JSON pointer ("/x"); `width` is a guess at its rows'
 * length, or 0. `check_width` compares the first row's length with the operation's. */
struct sae_json_dense {
    const char *base;
    uint64_t width;
    bool check_width, booleans;
    struct sae_json_array values; /* f32; owned by the caller, also on failure */
    struct sae_lead shape;        /* all dimensions; [] has the one, 0 */
};
enum sae_status sae_json_read_dense(struct sae_json_parser *ps, struct sae_json_dense *d);

/* The sparse object of decode's f, from its '{', into ps->r. */
enum sae_status sae_json_read_sparse(struct sae_json_parser *ps);

#endif
