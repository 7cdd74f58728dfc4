/* pickle.h - a pickle turned into a tree of plain values; nothing is imported, nothing is called.
 *
 * The machine runs the opcodes that Python's pickler writes in protocols 2 to 5. A GLOBAL becomes a
 * value that holds its name, a REDUCE or NEWOBJ one that holds the callable and its arguments, a
 * persistent id one that holds the id: what they mean is for the reader above (pt.c) to say, by an
 * allow-list, for those that it needs; all others stay opaque, whatever they name. The only call
 * carried out is collections.OrderedDict(), which gives an empty dict. What a SETITEM, APPEND or
 * BUILD does to the result of a call is not known either: such a value is marked as touched.
 *
 * Values live in an arena that is freed at once, so values may contain themselves and no nesting
 * costs stack. Opcodes are bounded by the pickle's bytes, the rest by the limits below.
 * Called by pt.c. Owned by one thread. */
#ifndef SAE_PICKLE_H
#define SAE_PICKLE_H

#include "lib/base.h"

#define SAE_PICKLE_MAX_BYTES ((uint64_t)16 << 20) /* of the pickle */
#define SAE_PICKLE_MAX_ARENA ((size_t)256 << 20)  /* bytes of values */
#define SAE_PICKLE_MAX_STACK ((size_t)1 << 20)    /* values on the stack */
#define SAE_PICKLE_MAX_MARKS ((size_t)10000)      /* open MARKs: depth of tuples being built */
#define SAE_PICKLE_MAX_MEMO ((uint32_t)1 << 20)   /* indices of the memo */

enum sae_pk_type {
    SAE_PK_NONE,
    SAE_PK_BOOL,
    SAE_PK_INT,
    SAE_PK_LONG, /* an int of more than 64 bits: no value kept */
    SAE_PK_FLOAT,
    SAE_PK_STR,
    SAE_PK_BYTES, /* also bytearray */
    SAE_PK_TUPLE,
    SAE_PK_LIST,
    SAE_PK_SET,    /* also frozenset */
    SAE_PK_DICT,   /* also OrderedDict */
    SAE_PK_GLOBAL, /* a name, never looked up */
    SAE_PK_CALL,   /* REDUCE: fn with args, never called */
    SAE_PK_OBJECT, /* NEWOBJ, NEWOBJ_EX: an object of class fn, never made (keywords dropped) */
    SAE_PK_PERSID, /* BINPERSID */
    SAE_PK_N_TYPES
};

/* Immutable once sae_pickle_load has returned. Strings point into the pickle's bytes, without NUL.
 */
struct sae_pk_value {
    enum sae_pk_type type : 8;
    bool ordered : 1;    /* of a dict: an OrderedDict, which may have attributes */
    bool unhashable : 1; /* it cannot be a key */
    uint32_t offset;     /* of the opcode that made it */
    uint32_t n;   /* length of str, bytes, module; items of tuple, list, set, dict (2 a pair); of a
                     touched CALL or OBJECT the offset of the opcode that did it */
    uint32_t cap; /* length of the name; else private */
    union {
        bool b;
        int64_t i;
        double f;
        const char *str;
        struct sae_pk_value **items; /* dict: key, value, key, value, ... */
        struct {
            const char *module, *name;
        } global;
        struct {
            struct sae_pk_value *fn, *args;
            const char *touched; /* the opcode that changed it once it was made, or NULL; at n */
        } call;                  /* CALL, OBJECT */
        struct sae_pk_value *id;
    } u;
};

struct sae_pickle; /* the arena */

/* Read the n bytes at `bytes`, which are borrowed until sae_pickle_free. On success *out is owned
 * and *root is borrowed from it. SAE_E_FORMAT names the opcode and its offset; SAE_E_NOMEM. */
enum sae_status sae_pickle_load(struct sae_pickle **out, const struct sae_pk_value **root,
                                const void *bytes, size_t n, struct sae_err *err) SAE_MUST_USE;
void sae_pickle_free(struct sae_pickle *p); /* NULL allowed */

/* Values of one kind in the order of their opcodes, also those that the root does not lead to:
 * whoever resolves persistent ids, or trusts the result of a call, must have looked at all.
 * Borrowed from the pickle. */
struct sae_pk_list {
    const struct sae_pk_value *const *v;
    size_t n;
};
struct sae_pk_list sae_pickle_persids(const struct sae_pickle *p);
struct sae_pk_list sae_pickle_touched(const struct sae_pickle *p);

bool sae_pk_is_str(const struct sae_pk_value *v, const char *s);
bool sae_pk_is_global(const struct sae_pk_value *v, const char *module, const char *name);
/* What a value is, for an error's text: "a list", "a call of torch._utils._rebuild_qtensor". */
const char *sae_pk_describe(const struct sae_pk_value *v, char *buf, size_t cap);

#endif
