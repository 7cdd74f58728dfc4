/* pickle_machine.h - the machine between the run of a pickle (pickle.c) and its opcodes
 * (pickle_ops.c), private to them.
 *
 * Whatever fails has recorded it: SAE_E_FORMAT by sae_pk_bad, with the opcode and its offset, or
 * SAE_E_NOMEM. Owned by the one call of sae_pickle_load that made it. */
#ifndef SAE_PICKLE_MACHINE_H
#define SAE_PICKLE_MACHINE_H

#include "lib/format/pickle.h"

/* A growing array of value pointers outside the arena. */
struct sae_pk_slots {
    struct sae_pk_value **v;
    size_t n, cap;
};

/* One run. */
struct sae_pk_machine {
    struct sae_pickle *p;
    const unsigned char *bytes;
    size_t n, pos;
    size_t at;        /* offset of the opcode being run */
    const char *name; /* and its name */
    struct sae_pk_slots stack, memo;
    uint32_t *marks; /* stack heights */
    size_t n_marks, cap_marks;
    bool stopped;
    enum sae_status err_status; /* the last failure, for functions that return a pointer */
    struct sae_err *err;
};

/* Values just taken off the stack; valid until the next push. */
struct sae_pk_items {
    struct sae_pk_value **v;
    size_t n;
};

enum sae_status SAE_PRINTF(2, 3) sae_pk_bad(struct sae_pk_machine *m, const char *fmt, ...);
/* What a value without a name is called: "a list". */
extern const char *const sae_pk_plain[SAE_PK_N_TYPES];

/* ---- memory ------------------------------------------------------------------------------- */

/* NULL on failure: err_status is set then. */
void *sae_pk_arena(struct sae_pk_machine *m, size_t bytes);
/* NULL on failure, which sae_pk_push then returns. */
struct sae_pk_value *sae_pk_make(struct sae_pk_machine *m, enum sae_pk_type type);
/* Append to the items of a list or dict. */
enum sae_status sae_pk_add_item(struct sae_pk_machine *m, struct sae_pk_value *to,
                                struct sae_pk_value *item);
/* Room for n, those that are new NULL. */
enum sae_status sae_pk_reserve(struct sae_pk_machine *m, struct sae_pk_slots *s, size_t n);
/* To the list of sae_pickle_persids, of sae_pickle_touched. */
enum sae_status sae_pk_add_persid(struct sae_pk_machine *m, struct sae_pk_value *v);
enum sae_status sae_pk_add_touched(struct sae_pk_machine *m, struct sae_pk_value *v);

/* ---- stack -------------------------------------------------------------------------------- */

/* Values above the last MARK. */
static inline size_t sae_pk_above_mark(const struct sae_pk_machine *m)
{
    return m->stack.n - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

static inline enum sae_status sae_pk_need(struct sae_pk_machine *m, size_t n)
{
    if (sae_pk_above_mark(m) < n)
        return sae_pk_bad(m, "stack underflow: %zu values wanted, %zu are there", n,
                          sae_pk_above_mark(m));
    return SAE_OK;
}

static inline struct sae_pk_value *sae_pk_top(struct sae_pk_machine *m)
{
    return m->stack.v[m->stack.n - 1];
}

/* v NULL: sae_pk_make has failed. */
enum sae_status sae_pk_push(struct sae_pk_machine *m, struct sae_pk_value *v);
enum sae_status sae_pk_pop_values(struct sae_pk_machine *m, size_t n, struct sae_pk_items *out);
enum sae_status sae_pk_push_mark(struct sae_pk_machine *m);
/* Forget the last MARK and take what is above it. */
enum sae_status sae_pk_pop_mark(struct sae_pk_machine *m, struct sae_pk_items *out);

/* ---- operands ----------------------------------------------------------------------------- */

enum sae_status sae_pk_take(struct sae_pk_machine *m, size_t n, const unsigned char **p);
/* Up to and without the next newline. */
enum sae_status sae_pk_line(struct sae_pk_machine *m, const char **s, uint32_t *n);

/* ---- opcodes ------------------------------------------------------------------------------ */

/* Its name, the bytes of its operand (little-endian), what runs it, and an argument for that. A
 * name without a function is known and refused. */
struct sae_pk_opcode {
    const char *name;
    unsigned operand;
    enum sae_status (*run)(struct sae_pk_machine *m, uint64_t u, int arg);
    int arg;
};
#define SAE_PK_OPCODE_PROTO 0x80
extern const struct sae_pk_opcode sae_pk_opcodes[256]; /* pickle_ops.c */

#endif
