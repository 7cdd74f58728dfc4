/* pickle.c - the pickle machine: its memory, its stack, its operands, and the run. See pickle.h.
 *
 * What each opcode does is pickle_ops.c's. */
#include "lib/format/pickle_machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct chunk {
    struct chunk *next;
    size_t used, size;
    max_align_t data[];
};

struct sae_pickle {
    struct chunk *chunks;
    size_t arena_bytes;
    struct sae_pk_slots persids, touched;
};

static enum sae_status where_set(struct sae_pk_machine *m, enum sae_status st, const char *text)
{
    char where[48];

    m->err_status = st;
    snprintf(where, sizeof where, "data.pkl:%zu", m->at);
    return sae_err_set(m->err, st, where, "cannot read pickle: opcode %s at offset %zu: %s",
                       m->name, m->at, text);
}

enum sae_status SAE_PRINTF(2, 3) sae_pk_bad(struct sae_pk_machine *m, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return where_set(m, SAE_E_FORMAT, text);
}

static enum sae_status no_memory(struct sae_pk_machine *m)
{
    return where_set(m, SAE_E_NOMEM, "memory ran out");
}

const char *const sae_pk_plain[SAE_PK_N_TYPES] = {
    [SAE_PK_NONE] = "None",   [SAE_PK_BOOL] = "a bool",   [SAE_PK_INT] = "an int",
    [SAE_PK_LONG] = "an int", [SAE_PK_FLOAT] = "a float", [SAE_PK_STR] = "a string",
    [SAE_PK_BYTES] = "bytes", [SAE_PK_TUPLE] = "a tuple", [SAE_PK_LIST] = "a list",
    [SAE_PK_SET] = "a set",   [SAE_PK_DICT] = "a dict",   [SAE_PK_PERSID] = "a storage",
};

/* ---- memory ------------------------------------------------------------------------------- */

void *sae_pk_arena(struct sae_pk_machine *m, size_t bytes)
{
    struct chunk *c = m->p->chunks;
    void *p;

    bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (!c || bytes > c->size - c->used) {
        size_t size = m->p->arena_bytes < (1 << 20) ? (16 << 10) : (1 << 20);

        if (size < bytes)
            size = bytes;
        if (size > SAE_PICKLE_MAX_ARENA - m->p->arena_bytes) {
            sae_pk_bad(m, "its values need more than %zu bytes", SAE_PICKLE_MAX_ARENA);
            return NULL;
        }
        c = sae_calloc(1, sizeof *c + size);
        if (!c) {
            no_memory(m);
            return NULL;
        }
        c->next = m->p->chunks;
        c->size = size;
        m->p->chunks = c;
        m->p->arena_bytes += size;
    }
    p = (char *)c->data + c->used;
    c->used += bytes;
    return p;
}

struct sae_pk_value *sae_pk_make(struct sae_pk_machine *m, enum sae_pk_type type)
{
    struct sae_pk_value *v = sae_pk_arena(m, sizeof *v);

    if (v)
        *v = (struct sae_pk_value){.type = type, .offset = (uint32_t)m->at};
    return v;
}

/* The array left behind on growth stays in the arena: at most as much again. */
enum sae_status sae_pk_add_item(struct sae_pk_machine *m, struct sae_pk_value *to,
                                struct sae_pk_value *item)
{
    if (to->n == to->cap) {
        uint32_t cap = to->cap ? 2 * to->cap : 4; /* n < 2^31: each took an opcode */
        struct sae_pk_value **p = sae_pk_arena(m, cap * sizeof(struct sae_pk_value *));

        if (!p)
            return m->err_status;
        if (to->n)
            memcpy(p, to->u.items, to->n * sizeof(struct sae_pk_value *));
        to->u.items = p;
        to->cap = cap;
    }
    to->u.items[to->n++] = item;
    return SAE_OK;
}

enum sae_status sae_pk_reserve(struct sae_pk_machine *m, struct sae_pk_slots *s, size_t n)
{
    size_t cap = s->cap ? s->cap : 64;
    struct sae_pk_value **v;

    if (n <= s->cap)
        return SAE_OK;
    while (cap < n)
        cap *= 2;
    v = sae_realloc(s->v, cap, sizeof *v);
    if (!v)
        return no_memory(m);
    memset(v + s->cap, 0, (cap - s->cap) * sizeof *v);
    s->v = v;
    s->cap = cap;
    return SAE_OK;
}

static enum sae_status slots_add(struct sae_pk_machine *m, struct sae_pk_slots *s,
                                 struct sae_pk_value *v)
{
    enum sae_status st = sae_pk_reserve(m, s, s->n + 1);

    if (st == SAE_OK)
        s->v[s->n++] = v;
    return st;
}

enum sae_status sae_pk_add_persid(struct sae_pk_machine *m, struct sae_pk_value *v)
{
    return slots_add(m, &m->p->persids, v);
}

enum sae_status sae_pk_add_touched(struct sae_pk_machine *m, struct sae_pk_value *v)
{
    return slots_add(m, &m->p->touched, v);
}

/* ---- stack -------------------------------------------------------------------------------- */

enum sae_status sae_pk_push(struct sae_pk_machine *m, struct sae_pk_value *v)
{
    if (!v)
        return m->err_status;
    if (m->stack.n == SAE_PICKLE_MAX_STACK)
        return sae_pk_bad(m, "more than %zu values on the stack", SAE_PICKLE_MAX_STACK);
    return slots_add(m, &m->stack, v);
}

enum sae_status sae_pk_pop_values(struct sae_pk_machine *m, size_t n, struct sae_pk_items *out)
{
    enum sae_status st = sae_pk_need(m, n);

    *out = (struct sae_pk_items){NULL, 0};
    if (st != SAE_OK)
        return st;
    m->stack.n -= n;
    *out = (struct sae_pk_items){m->stack.v + m->stack.n, n};
    return SAE_OK;
}

enum sae_status sae_pk_push_mark(struct sae_pk_machine *m)
{
    if (m->n_marks == SAE_PICKLE_MAX_MARKS)
        return sae_pk_bad(m, "more than %zu MARKs are open", SAE_PICKLE_MAX_MARKS);
    if (m->n_marks == m->cap_marks) {
        size_t cap = m->cap_marks ? 2 * m->cap_marks : 64;
        uint32_t *p = sae_realloc(m->marks, cap, sizeof *p);

        if (!p)
            return no_memory(m);
        m->marks = p;
        m->cap_marks = cap;
    }
    m->marks[m->n_marks++] = (uint32_t)m->stack.n;
    return SAE_OK;
}

enum sae_status sae_pk_pop_mark(struct sae_pk_machine *m, struct sae_pk_items *out)
{
    *out = (struct sae_pk_items){NULL, 0};
    if (m->n_marks == 0)
        return sae_pk_bad(m, "stack underflow: no MARK is open");
    if (sae_pk_above_mark(m) > 0) {
        enum sae_status st = sae_pk_pop_values(m, sae_pk_above_mark(m), out);

        if (st != SAE_OK)
            return st;
    }
    m->n_marks--;
    return SAE_OK;
}

/* ---- operands ----------------------------------------------------------------------------- */

enum sae_status sae_pk_take(struct sae_pk_machine *m, size_t n, const unsigned char **p)
{
    *p = m->bytes + m->pos;
    if (n > m->n - m->pos)
        return sae_pk_bad(m, "truncated: %zu bytes wanted, %zu are left", n, m->n - m->pos);
    m->pos += n;
    return SAE_OK;
}

enum sae_status sae_pk_line(struct sae_pk_machine *m, const char **s, uint32_t *n)
{
    const unsigned char *p = m->bytes + m->pos, *end = memchr(p, '\n', m->n - m->pos);

    if (!end)
        return sae_pk_bad(m, "truncated: no end of line in the %zu bytes left", m->n - m->pos);
    *s = (const char *)p;
    *n = (uint32_t)(end - p);
    m->pos += (size_t)(end - p) + 1;
    return SAE_OK;
}

/* ---- the run ------------------------------------------------------------------------------ */

static enum sae_status step(struct sae_pk_machine *m)
{
    const struct sae_pk_opcode *op;
    const unsigned char *p;
    char unknown[8];
    uint64_t u = 0;
    enum sae_status st;

    m->at = m->pos;
    m->name = "STOP";
    if (m->pos == m->n)
        return sae_pk_bad(m, "missing: the pickle of %zu bytes is truncated", m->n);
    op = &sae_pk_opcodes[m->bytes[m->pos]];
    snprintf(unknown, sizeof unknown, "0x%02x", m->bytes[m->pos++]);
    m->name = op->name ? op->name : unknown;
    if (m->at == 0 && m->bytes[0] != SAE_PK_OPCODE_PROTO)
        return sae_pk_bad(m, "PROTO is wanted first");
    if (!op->run)
        return sae_pk_bad(m, "not one that torch.save writes for a state dict");
    st = sae_pk_take(m, op->operand, &p);
    if (st != SAE_OK)
        return st;
    for (unsigned i = 0; i < op->operand; i++)
        u |= (uint64_t)p[i] << 8 * i;
    return op->run(m, u, op->arg);
}

enum sae_status sae_pickle_load(struct sae_pickle **out, const struct sae_pk_value **root,
                                const void *bytes, size_t n, struct sae_err *err)
{
    struct sae_pk_machine m = {.bytes = bytes, .n = n, .name = "PROTO", .err = err};
    enum sae_status st = SAE_OK;

    if (n > SAE_PICKLE_MAX_BYTES)
        return sae_pk_bad(&m, "the pickle has %zu bytes, at most %llu are read", n,
                          (unsigned long long)SAE_PICKLE_MAX_BYTES);
    m.p = sae_calloc(1, sizeof *m.p);
    if (!m.p)
        return no_memory(&m);
    while (st == SAE_OK && !m.stopped)
        st = step(&m);
    if (st == SAE_OK) {
        *root = sae_pk_top(&m);
        *out = m.p;
        m.p = NULL;
    }
    sae_free(m.marks);
    sae_free(m.memo.v);
    sae_free(m.stack.v);
    sae_pickle_free(m.p);
    return st;
}

void sae_pickle_free(struct sae_pickle *p)
{
    struct chunk *next;

    if (!p)
        return;
    for (struct chunk *c = p->chunks; c; c = next) {
        next = c->next;
        sae_free(c);
    }
    sae_free(p->persids.v);
    sae_free(p->touched.v);
    sae_free(p);
}

struct sae_pk_list sae_pickle_persids(const struct sae_pickle *p)
{
    return (struct sae_pk_list){(const struct sae_pk_value *const *)p->persids.v, p->persids.n};
}

struct sae_pk_list sae_pickle_touched(const struct sae_pickle *p)
{
    return (struct sae_pk_list){(const struct sae_pk_value *const *)p->touched.v, p->touched.n};
}

/* ---- questions about values --------------------------------------------------------------- */

static bool is(const char *s, size_t n, const char *want)
{
    return strlen(want) == n && memcmp(s, want, n) == 0;
}

bool sae_pk_is_str(const struct sae_pk_value *v, const char *s)
{
    return v->type == SAE_PK_STR && is(v->u.str, v->n, s);
}

bool sae_pk_is_global(const struct sae_pk_value *v, const char *module, const char *name)
{
    return v->type == SAE_PK_GLOBAL && is(v->u.global.module, v->n, module) &&
           is(v->u.global.name, v->cap, name);
}

static const char *describe_global(const char *what, const struct sae_pk_value *v, char *buf,
                                   size_t cap)
{
    if (v->type != SAE_PK_GLOBAL)
        snprintf(buf, cap, "%s an unknown callable", what);
    else
        snprintf(buf, cap, "%s %.*s.%.*s", what, v->n < 80 ? (int)v->n : 80, v->u.global.module,
                 v->cap < 80 ? (int)v->cap : 80, v->u.global.name);
    return buf;
}

const char *sae_pk_describe(const struct sae_pk_value *v, char *buf, size_t cap)
{
    if (v->type == SAE_PK_GLOBAL)
        return describe_global("GLOBAL", v, buf, cap);
    if (v->type == SAE_PK_CALL)
        return describe_global("a call of", v->u.call.fn, buf, cap);
    if (v->type == SAE_PK_OBJECT)
        return describe_global("an object of class", v->u.call.fn, buf, cap);
    snprintf(buf, cap, "%s", sae_pk_plain[v->type]);
    return buf;
}
