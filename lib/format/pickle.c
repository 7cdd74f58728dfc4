/* pickle.c - the pickle machine. See pickle.h.
 *
 * Opcodes are one table (name, operand, function), so that a message names each, also those that
 * are refused. Formats of the opcodes: Python's Lib/pickletools.py. Longer than most files: the
 * machine, its table and its short opcode functions are read together. */
#include "lib/format/pickle.h"
#include "lib/num.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct chunk {
    struct chunk *next;
    size_t used, size;
    max_align_t data[];
};

/* A growing array of value pointers outside the arena. */
struct slots {
    struct sae_pk_value **v;
    size_t n, cap;
};

struct sae_pickle {
    struct chunk *chunks;
    size_t arena_bytes;
    struct slots persids, touched;
};

/* One run. Owned by sae_pickle_load. */
struct machine {
    struct sae_pickle *p;
    const unsigned char *bytes;
    size_t n, pos;
    size_t at;        /* offset of the opcode being run */
    const char *name; /* and its name */
    struct slots stack, memo;
    uint32_t *marks; /* stack heights */
    size_t n_marks, cap_marks;
    bool stopped;
    enum sae_status err_status; /* the last failure, for functions that return a pointer */
    struct sae_err *err;
};

/* Values just taken off the stack; valid until the next push. */
struct items {
    struct sae_pk_value **v;
    size_t n;
};

static enum sae_status where_set(struct machine *m, enum sae_status st, const char *text)
{
    char where[48];

    m->err_status = st;
    snprintf(where, sizeof where, "data.pkl:%zu", m->at);
    return sae_err_set(m->err, st, where, "cannot read pickle: opcode %s at offset %zu: %s",
                       m->name, m->at, text);
}

static enum sae_status SAE_PRINTF(2, 3) bad(struct machine *m, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return where_set(m, SAE_E_FORMAT, text);
}

static enum sae_status no_memory(struct machine *m)
{
    return where_set(m, SAE_E_NOMEM, "memory ran out");
}

/* What a value without a name is called. */
static const char *const plain[SAE_PK_N_TYPES] = {
    [SAE_PK_NONE] = "None",   [SAE_PK_BOOL] = "a bool",   [SAE_PK_INT] = "an int",
    [SAE_PK_LONG] = "an int", [SAE_PK_FLOAT] = "a float", [SAE_PK_STR] = "a string",
    [SAE_PK_BYTES] = "bytes", [SAE_PK_TUPLE] = "a tuple", [SAE_PK_LIST] = "a list",
    [SAE_PK_SET] = "a set",   [SAE_PK_DICT] = "a dict",   [SAE_PK_PERSID] = "a storage",
};

/* ---- memory ------------------------------------------------------------------------------- */

/* NULL on failure: err_status is set then. */
static void *arena(struct machine *m, size_t bytes)
{
    struct chunk *c = m->p->chunks;
    void *p;

    bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (!c || bytes > c->size - c->used) {
        size_t size = m->p->arena_bytes < (1 << 20) ? (16 << 10) : (1 << 20);

        if (size < bytes)
            size = bytes;
        if (size > SAE_PICKLE_MAX_ARENA - m->p->arena_bytes) {
            bad(m, "its values need more than %zu bytes", SAE_PICKLE_MAX_ARENA);
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

/* NULL on failure, which push then returns. */
static struct sae_pk_value *make(struct machine *m, enum sae_pk_type type)
{
    struct sae_pk_value *v = arena(m, sizeof *v);

    if (v)
        *v = (struct sae_pk_value){.type = type, .offset = (uint32_t)m->at};
    return v;
}

/* Append to the items of a list or dict. The array left behind on growth stays in the arena: at
 * most as much again. */
static enum sae_status add_item(struct machine *m, struct sae_pk_value *to,
                                struct sae_pk_value *item)
{
    if (to->n == to->cap) {
        uint32_t cap = to->cap ? 2 * to->cap : 4; /* n < 2^31: each took an opcode */
        struct sae_pk_value **p = arena(m, cap * sizeof(struct sae_pk_value *));

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

static enum sae_status slots_reserve(struct machine *m, struct slots *s, size_t n)
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

static enum sae_status slots_add(struct machine *m, struct slots *s, struct sae_pk_value *v)
{
    enum sae_status st = slots_reserve(m, s, s->n + 1);

    if (st == SAE_OK)
        s->v[s->n++] = v;
    return st;
}

/* ---- stack -------------------------------------------------------------------------------- */

/* Values above the last MARK. */
static size_t above_mark(const struct machine *m)
{
    return m->stack.n - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

/* v NULL: make has failed. */
static enum sae_status push(struct machine *m, struct sae_pk_value *v)
{
    if (!v)
        return m->err_status;
    if (m->stack.n == SAE_PICKLE_MAX_STACK)
        return bad(m, "more than %zu values on the stack", SAE_PICKLE_MAX_STACK);
    return slots_add(m, &m->stack, v);
}

static enum sae_status need(struct machine *m, size_t n)
{
    if (above_mark(m) < n)
        return bad(m, "stack underflow: %zu values wanted, %zu are there", n, above_mark(m));
    return SAE_OK;
}

static struct sae_pk_value *top(struct machine *m)
{
    return m->stack.v[m->stack.n - 1];
}

static enum sae_status pop_values(struct machine *m, size_t n, struct items *out)
{
    enum sae_status st = need(m, n);

    *out = (struct items){NULL, 0};
    if (st != SAE_OK)
        return st;
    m->stack.n -= n;
    *out = (struct items){m->stack.v + m->stack.n, n};
    return SAE_OK;
}

/* Forget the last MARK and take what is above it. */
static enum sae_status pop_mark(struct machine *m, struct items *out)
{
    *out = (struct items){NULL, 0};
    if (m->n_marks == 0)
        return bad(m, "stack underflow: no MARK is open");
    if (above_mark(m) > 0) {
        enum sae_status st = pop_values(m, above_mark(m), out);

        if (st != SAE_OK)
            return st;
    }
    m->n_marks--;
    return SAE_OK;
}

/* ---- operands ----------------------------------------------------------------------------- */

static enum sae_status take(struct machine *m, size_t n, const unsigned char **p)
{
    *p = m->bytes + m->pos;
    if (n > m->n - m->pos)
        return bad(m, "truncated: %zu bytes wanted, %zu are left", n, m->n - m->pos);
    m->pos += n;
    return SAE_OK;
}

/* Up to and without the next newline. */
static enum sae_status line(struct machine *m, const char **s, uint32_t *n)
{
    const unsigned char *p = m->bytes + m->pos, *end = memchr(p, '\n', m->n - m->pos);

    if (!end)
        return bad(m, "truncated: no end of line in the %zu bytes left", m->n - m->pos);
    *s = (const char *)p;
    *n = (uint32_t)(end - p);
    m->pos += (size_t)(end - p) + 1;
    return SAE_OK;
}

/* ---- opcodes: plain values ---------------------------------------------------------------- */
/* Each gets the operand that its row in the table asks for, and the row's own argument. */

static enum sae_status op_proto(struct machine *m, uint64_t u, int arg)
{
    (void)arg;
    if (m->at != 0)
        return bad(m, "not at the start");
    if (u < 2 || u > 5)
        return bad(m, "protocol %u, 2 to 5 are read", (unsigned)u);
    return SAE_OK;
}

/* The length of what follows, for reads in pieces. */
static enum sae_status op_frame(struct machine *m, uint64_t u, int arg)
{
    (void)arg;
    if (u > m->n - m->pos)
        return bad(m, "truncated: a frame of %lu bytes, %zu are left", (unsigned long)u,
                   m->n - m->pos);
    return SAE_OK;
}

/* None, or an empty container: `type` without a value. */
static enum sae_status op_empty(struct machine *m, uint64_t u, int type)
{
    struct sae_pk_value *v = make(m, (enum sae_pk_type)type);

    (void)u;
    if (v)
        v->unhashable = type == SAE_PK_LIST || type == SAE_PK_DICT || type == SAE_PK_SET;
    return push(m, v);
}

static enum sae_status op_bool(struct machine *m, uint64_t u, int b)
{
    struct sae_pk_value *v = make(m, SAE_PK_BOOL);

    (void)u;
    if (v)
        v->u.b = b;
    return push(m, v);
}

static enum sae_status push_int(struct machine *m, int64_t i)
{
    struct sae_pk_value *v = make(m, SAE_PK_INT);

    if (v)
        v->u.i = i;
    return push(m, v);
}

static enum sae_status op_int(struct machine *m, uint64_t u, int is_signed)
{
    return push_int(m, is_signed ? (int32_t)u : (int64_t)u);
}

/* Two's complement, little-endian, u bytes. */
static enum sae_status op_long(struct machine *m, uint64_t u, int is_signed)
{
    const unsigned char *p;
    uint64_t bits = 0;
    enum sae_status st = is_signed && u > INT32_MAX ? bad(m, "a negative length") : take(m, u, &p);

    if (st != SAE_OK)
        return st;
    if (u > 8)
        return push(m, make(m, SAE_PK_LONG));
    for (unsigned i = 0; i < u; i++)
        bits |= (uint64_t)p[i] << 8 * i;
    if (u > 0 && u < 8 && (p[u - 1] & 0x80))
        bits |= UINT64_MAX << 8 * u;
    return push_int(m, (int64_t)bits);
}

/* The one operand that is big-endian. */
static enum sae_status op_float(struct machine *m, uint64_t u, int arg)
{
    struct sae_pk_value *v = make(m, SAE_PK_FLOAT);

    (void)arg;
    u = __builtin_bswap64(u);
    if (v)
        memcpy(&v->u.f, &u, sizeof v->u.f);
    return push(m, v);
}

/* As Python reads text: lone surrogates pass, but not in the byte strings of Python 2. */
static bool is_text(const char *p, size_t n, bool surrogates_pass)
{
    const char *end = p + n;
    unsigned len;

    for (; p < end; p += len) {
        len = sae_utf8_len(p, end);
        if (len == 0 && surrogates_pass && end - p >= 3 && (unsigned char)p[0] == 0xed &&
            ((unsigned char)p[1] & 0xc0) == 0x80 && ((unsigned char)p[2] & 0xc0) == 0x80)
            len = 3;
        if (len == 0)
            return false;
    }
    return true;
}

static enum sae_status push_bytes(struct machine *m, enum sae_pk_type type, const unsigned char *p,
                                  uint64_t n, bool unhashable)
{
    struct sae_pk_value *v = make(m, type);

    if (v) {
        v->u.str = (const char *)p;
        v->n = (uint32_t)n;
        v->unhashable = unhashable;
    }
    return push(m, v);
}

static enum sae_status op_str(struct machine *m, uint64_t u, int surrogates_pass)
{
    const unsigned char *p;
    enum sae_status st = take(m, u, &p);

    if (st != SAE_OK)
        return st;
    if (!is_text((const char *)p, u, surrogates_pass))
        return bad(m, "its %lu bytes are no UTF-8", (unsigned long)u);
    return push_bytes(m, SAE_PK_STR, p, u, false);
}

static enum sae_status op_bytes(struct machine *m, uint64_t u, int is_array)
{
    const unsigned char *p;
    enum sae_status st = take(m, u, &p);

    return st == SAE_OK ? push_bytes(m, SAE_PK_BYTES, p, u, is_array) : st;
}

/* ---- opcodes: containers ------------------------------------------------------------------ */

static enum sae_status op_mark(struct machine *m, uint64_t u, int arg)
{
    (void)u, (void)arg;
    if (m->n_marks == SAE_PICKLE_MAX_MARKS)
        return bad(m, "more than %zu MARKs are open", SAE_PICKLE_MAX_MARKS);
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

/* Python wants a hash of every `step`th of them; what a call returns may have one. */
static enum sae_status check_hashable(struct machine *m, struct items add, size_t step)
{
    char what[160];

    for (size_t i = 0; i < add.n; i += step)
        if (add.v[i]->unhashable)
            return bad(m, "%s cannot be a key", sae_pk_describe(add.v[i], what, sizeof what));
    return SAE_OK;
}

/* A tuple or frozenset of these items; NULL on failure, which push then returns. */
static struct sae_pk_value *make_of(struct machine *m, enum sae_pk_type type, struct items all)
{
    struct sae_pk_value *v = make(m, type);

    if (!v || all.n == 0)
        return v;
    v->u.items = arena(m, all.n * sizeof(struct sae_pk_value *));
    if (!v->u.items)
        return NULL;
    memcpy(v->u.items, all.v, all.n * sizeof(struct sae_pk_value *));
    v->n = (uint32_t)all.n;
    for (uint32_t i = 0; i < v->n; i++)
        v->unhashable |= v->u.items[i]->unhashable;
    return v;
}

/* The n values on top of the stack, or those above the last MARK when n is 0. */
static enum sae_status op_tuple(struct machine *m, uint64_t u, int n)
{
    struct items top_n;
    enum sae_status st = n ? pop_values(m, (size_t)n, &top_n) : pop_mark(m, &top_n);

    (void)u;
    return st == SAE_OK ? push(m, make_of(m, SAE_PK_TUPLE, top_n)) : st;
}

/* The opcode being run changes `v`, the result of a call: what comes of it stays unknown. */
static enum sae_status touch(struct machine *m, struct sae_pk_value *v)
{
    if (v->u.call.touched)
        return SAE_OK;
    v->u.call.touched = m->name;
    v->n = (uint32_t)m->at;
    return slots_add(m, &m->p->touched, v);
}

/* Add to what stands on the stack's top: a container of `type`, or the result of a call, which
 * takes anything. */
static enum sae_status extend(struct machine *m, enum sae_pk_type type, struct items add)
{
    enum sae_status st = need(m, 1);
    char what[160];

    if (st != SAE_OK)
        return st;
    if (top(m)->type == SAE_PK_CALL || top(m)->type == SAE_PK_OBJECT)
        return touch(m, top(m));
    if (top(m)->type != type || (type == SAE_PK_SET && !top(m)->unhashable))
        return bad(m, "on %s, %s is wanted", sae_pk_describe(top(m), what, sizeof what),
                   plain[type]);
    for (size_t i = 0; i < add.n && st == SAE_OK; i++)
        st = add_item(m, top(m), add.v[i]);
    return st;
}

static enum sae_status op_append(struct machine *m, uint64_t u, int one)
{
    struct items add;
    enum sae_status st = one ? pop_values(m, 1, &add) : pop_mark(m, &add);

    (void)u;
    return st == SAE_OK ? extend(m, SAE_PK_LIST, add) : st;
}

static enum sae_status op_setitem(struct machine *m, uint64_t u, int one)
{
    struct items add;
    enum sae_status st = one ? pop_values(m, 2, &add) : pop_mark(m, &add);

    (void)u;
    if (st != SAE_OK)
        return st;
    if (add.n % 2 != 0)
        return bad(m, "%zu values are no pairs", add.n);
    st = check_hashable(m, add, 2);
    return st == SAE_OK ? extend(m, SAE_PK_DICT, add) : st;
}

static enum sae_status op_additems(struct machine *m, uint64_t u, int arg)
{
    struct items add;
    enum sae_status st = pop_mark(m, &add);

    (void)u, (void)arg;
    if (st == SAE_OK)
        st = check_hashable(m, add, 1);
    return st == SAE_OK ? extend(m, SAE_PK_SET, add) : st;
}

static enum sae_status op_frozenset(struct machine *m, uint64_t u, int arg)
{
    struct items add;
    enum sae_status st = pop_mark(m, &add);

    (void)u, (void)arg;
    if (st == SAE_OK)
        st = check_hashable(m, add, 1);
    return st == SAE_OK ? push(m, make_of(m, SAE_PK_SET, add)) : st;
}

/* A recursive tuple's parts, which its pickler took from the memo after all. */
static enum sae_status op_pop(struct machine *m, uint64_t u, int arg)
{
    struct items one;

    (void)u, (void)arg;
    if (m->n_marks > 0 && above_mark(m) == 0) {
        m->n_marks--;
        return SAE_OK;
    }
    return pop_values(m, 1, &one);
}

static enum sae_status op_pop_mark(struct machine *m, uint64_t u, int arg)
{
    struct items all;

    (void)u, (void)arg;
    return pop_mark(m, &all);
}

/* ---- opcodes: memo ------------------------------------------------------------------------ */

static enum sae_status op_put(struct machine *m, uint64_t i, int arg)
{
    enum sae_status st = need(m, 1);

    (void)arg;
    if (st != SAE_OK)
        return st;
    if (i >= SAE_PICKLE_MAX_MEMO)
        return bad(m, "memo index %lu, at most %lu", (unsigned long)i,
                   (unsigned long)SAE_PICKLE_MAX_MEMO - 1);
    st = slots_reserve(m, &m->memo, (size_t)i + 1);
    if (st == SAE_OK) {
        m->memo.n += !m->memo.v[i];
        m->memo.v[i] = top(m);
    }
    return st;
}

/* Put at the index that is the number of indices in use. */
static enum sae_status op_memoize(struct machine *m, uint64_t u, int arg)
{
    (void)u;
    return op_put(m, m->memo.n, arg);
}

static enum sae_status op_get(struct machine *m, uint64_t i, int arg)
{
    (void)arg;
    if (i >= m->memo.cap || !m->memo.v[i])
        return bad(m, "memo index %lu holds nothing", (unsigned long)i);
    return push(m, m->memo.v[i]);
}

/* ---- opcodes: names, calls, persistent ids ------------------------------------------------ */

static bool is(const char *s, size_t n, const char *want)
{
    return strlen(want) == n && memcmp(s, want, n) == 0;
}

static enum sae_status op_global(struct machine *m, uint64_t u, int arg)
{
    struct sae_pk_value *v = make(m, SAE_PK_GLOBAL);
    enum sae_status st;

    (void)u, (void)arg;
    if (!v)
        return m->err_status;
    st = line(m, &v->u.global.module, &v->n);
    if (st == SAE_OK)
        st = line(m, &v->u.global.name, &v->cap);
    return st == SAE_OK ? push(m, v) : st;
}

static enum sae_status op_stack_global(struct machine *m, uint64_t u, int arg)
{
    struct items two;
    enum sae_status st = pop_values(m, 2, &two);
    struct sae_pk_value *v;

    (void)u, (void)arg;
    if (st != SAE_OK)
        return st;
    if (two.v[0]->type != SAE_PK_STR || two.v[1]->type != SAE_PK_STR)
        return bad(m, "of what is no two strings");
    v = make(m, SAE_PK_GLOBAL);
    if (v) {
        v->u.global.module = two.v[0]->u.str;
        v->n = two.v[0]->n;
        v->u.global.name = two.v[1]->u.str;
        v->cap = two.v[1]->n;
    }
    return push(m, v);
}

/* REDUCE, NEWOBJ: `type` CALL or OBJECT. */
static enum sae_status op_call(struct machine *m, uint64_t u, int type)
{
    char what[160];
    struct items two;
    struct sae_pk_value *v, *fn, *args;
    enum sae_status st = pop_values(m, 2, &two);

    (void)u;
    if (st != SAE_OK)
        return st;
    fn = two.v[0];
    args = two.v[1];
    if (args->type != SAE_PK_TUPLE)
        return bad(m, "arguments in %s, a tuple is wanted",
                   sae_pk_describe(args, what, sizeof what));
    if (fn->type != SAE_PK_GLOBAL && fn->type != SAE_PK_CALL && fn->type != SAE_PK_OBJECT)
        return bad(m, "of %s, a GLOBAL is wanted", sae_pk_describe(fn, what, sizeof what));
    if (args->n == 0 && sae_pk_is_global(fn, "collections", "OrderedDict")) {
        v = make(m, SAE_PK_DICT);
        if (v)
            v->ordered = v->unhashable = true;
        return push(m, v);
    }
    v = make(m, (enum sae_pk_type)type);
    if (v) {
        v->u.call.fn = fn;
        v->u.call.args = args;
    }
    return push(m, v);
}

static enum sae_status op_newobj_ex(struct machine *m, uint64_t u, int arg)
{
    struct items keywords;
    enum sae_status st = need(m, 3);

    if (st == SAE_OK)
        st = pop_values(m, 1, &keywords);
    if (st != SAE_OK)
        return st;
    if (keywords.v[0]->type != SAE_PK_DICT)
        return bad(m, "keywords that are no dict");
    return op_call(m, u, arg);
}

/* Attributes of an object: those of an OrderedDict (_metadata) are of no use here, the rest stay
 * unknown. */
static enum sae_status op_build(struct machine *m, uint64_t u, int arg)
{
    char what[160];
    struct items state;
    enum sae_status st = need(m, 2);

    (void)u, (void)arg;
    if (st == SAE_OK)
        st = pop_values(m, 1, &state);
    if (st != SAE_OK)
        return st;
    if (top(m)->type == SAE_PK_CALL || top(m)->type == SAE_PK_OBJECT)
        return touch(m, top(m));
    if (top(m)->type != SAE_PK_DICT || !top(m)->ordered)
        return bad(m, "on %s, an OrderedDict or an object is wanted",
                   sae_pk_describe(top(m), what, sizeof what));
    if (state.v[0]->type != SAE_PK_DICT)
        return bad(m, "of an OrderedDict with %s, a dict is wanted",
                   sae_pk_describe(state.v[0], what, sizeof what));
    return SAE_OK;
}

static enum sae_status op_persid(struct machine *m, uint64_t u, int arg)
{
    struct items id;
    enum sae_status st = pop_values(m, 1, &id);
    struct sae_pk_value *v;

    (void)u, (void)arg;
    if (st != SAE_OK)
        return st;
    v = make(m, SAE_PK_PERSID);
    if (v)
        v->u.id = id.v[0];
    st = push(m, v);
    return st == SAE_OK ? slots_add(m, &m->p->persids, v) : st;
}

static enum sae_status op_stop(struct machine *m, uint64_t u, int arg)
{
    enum sae_status st = need(m, 1);

    (void)u, (void)arg;
    if (st != SAE_OK)
        return st;
    if (m->stack.n != 1 || m->n_marks != 0)
        return bad(m, "%zu values and %zu MARKs on the stack, one value is wanted", m->stack.n,
                   m->n_marks);
    if (m->pos != m->n)
        return bad(m, "%zu bytes behind it", m->n - m->pos);
    m->stopped = true;
    return SAE_OK;
}

/* ---- the machine -------------------------------------------------------------------------- */

/* By opcode: its name, the bytes of its operand (little-endian), what runs it, and an argument for
 * that. A name without a function is known and refused. */
static const struct opcode {
    const char *name;
    unsigned operand;
    enum sae_status (*run)(struct machine *m, uint64_t u, int arg);
    int arg;
} opcodes[256] = {
    /* clang-format off */
    [0x80] = {"PROTO", 1, op_proto, 0},
    [0x95] = {"FRAME", 8, op_frame, 0},
    ['N'] = {"NONE", 0, op_empty, SAE_PK_NONE},
    [0x88] = {"NEWTRUE", 0, op_bool, 1},
    [0x89] = {"NEWFALSE", 0, op_bool, 0},
    ['J'] = {"BININT", 4, op_int, 1},
    ['K'] = {"BININT1", 1, op_int, 0},
    ['M'] = {"BININT2", 2, op_int, 0},
    [0x8a] = {"LONG1", 1, op_long, 0},
    [0x8b] = {"LONG4", 4, op_long, 1},
    ['G'] = {"BINFLOAT", 8, op_float, 0},
    ['X'] = {"BINUNICODE", 4, op_str, 1},
    [0x8c] = {"SHORT_BINUNICODE", 1, op_str, 1},
    [0x8d] = {"BINUNICODE8", 8, op_str, 1},
    ['U'] = {"SHORT_BINSTRING", 1, op_str, 0},
    ['B'] = {"BINBYTES", 4, op_bytes, 0},
    ['C'] = {"SHORT_BINBYTES", 1, op_bytes, 0},
    [0x8e] = {"BINBYTES8", 8, op_bytes, 0},
    [0x96] = {"BYTEARRAY8", 8, op_bytes, 1},
    ['('] = {"MARK", 0, op_mark, 0},
    [')'] = {"EMPTY_TUPLE", 0, op_empty, SAE_PK_TUPLE},
    [']'] = {"EMPTY_LIST", 0, op_empty, SAE_PK_LIST},
    ['}'] = {"EMPTY_DICT", 0, op_empty, SAE_PK_DICT},
    [0x8f] = {"EMPTY_SET", 0, op_empty, SAE_PK_SET},
    ['t'] = {"TUPLE", 0, op_tuple, 0},
    [0x85] = {"TUPLE1", 0, op_tuple, 1},
    [0x86] = {"TUPLE2", 0, op_tuple, 2},
    [0x87] = {"TUPLE3", 0, op_tuple, 3},
    ['a'] = {"APPEND", 0, op_append, 1},
    ['e'] = {"APPENDS", 0, op_append, 0},
    ['s'] = {"SETITEM", 0, op_setitem, 1},
    ['u'] = {"SETITEMS", 0, op_setitem, 0},
    [0x90] = {"ADDITEMS", 0, op_additems, 0},
    [0x91] = {"FROZENSET", 0, op_frozenset, 0},
    ['0'] = {"POP", 0, op_pop, 0},
    ['1'] = {"POP_MARK", 0, op_pop_mark, 0},
    ['q'] = {"BINPUT", 1, op_put, 0},
    ['r'] = {"LONG_BINPUT", 4, op_put, 0},
    ['h'] = {"BINGET", 1, op_get, 0},
    ['j'] = {"LONG_BINGET", 4, op_get, 0},
    [0x94] = {"MEMOIZE", 0, op_memoize, 0},
    ['c'] = {"GLOBAL", 0, op_global, 0},
    [0x93] = {"STACK_GLOBAL", 0, op_stack_global, 0},
    ['R'] = {"REDUCE", 0, op_call, SAE_PK_CALL},
    [0x81] = {"NEWOBJ", 0, op_call, SAE_PK_OBJECT},
    [0x92] = {"NEWOBJ_EX", 0, op_newobj_ex, SAE_PK_OBJECT},
    ['b'] = {"BUILD", 0, op_build, 0},
    ['Q'] = {"BINPERSID", 0, op_persid, 0},
    ['.'] = {"STOP", 0, op_stop, 0},

    ['P'] = {.name = "PERSID"},           ['i'] = {.name = "INST"},
    ['o'] = {.name = "OBJ"},              ['2'] = {.name = "DUP"},
    ['I'] = {.name = "INT"},              ['L'] = {.name = "LONG"},
    ['F'] = {.name = "FLOAT"},            ['S'] = {.name = "STRING"},
    ['T'] = {.name = "BINSTRING"},        ['V'] = {.name = "UNICODE"},
    ['d'] = {.name = "DICT"},             ['l'] = {.name = "LIST"},
    ['p'] = {.name = "PUT"},              ['g'] = {.name = "GET"},
    [0x82] = {.name = "EXT1"},            [0x83] = {.name = "EXT2"},
    [0x84] = {.name = "EXT4"},            [0x97] = {.name = "NEXT_BUFFER"},
    [0x98] = {.name = "READONLY_BUFFER"},
    /* clang-format on */
};

static enum sae_status step(struct machine *m)
{
    const struct opcode *op;
    const unsigned char *p;
    char unknown[8];
    uint64_t u = 0;
    enum sae_status st;

    m->at = m->pos;
    m->name = "STOP";
    if (m->pos == m->n)
        return bad(m, "missing: the pickle of %zu bytes is truncated", m->n);
    op = &opcodes[m->bytes[m->pos]];
    snprintf(unknown, sizeof unknown, "0x%02x", m->bytes[m->pos++]);
    m->name = op->name ? op->name : unknown;
    if (m->at == 0 && op->run != op_proto)
        return bad(m, "PROTO is wanted first");
    if (!op->run)
        return bad(m, "not one that torch.save writes for a state dict");
    st = take(m, op->operand, &p);
    if (st != SAE_OK)
        return st;
    for (unsigned i = 0; i < op->operand; i++)
        u |= (uint64_t)p[i] << 8 * i;
    return op->run(m, u, op->arg);
}

enum sae_status sae_pickle_load(struct sae_pickle **out, const struct sae_pk_value **root,
                                const void *bytes, size_t n, struct sae_err *err)
{
    struct machine m = {.bytes = bytes, .n = n, .name = "PROTO", .err = err};
    enum sae_status st = SAE_OK;

    if (n > SAE_PICKLE_MAX_BYTES)
        return bad(&m, "the pickle has %zu bytes, at most %llu are read", n,
                   (unsigned long long)SAE_PICKLE_MAX_BYTES);
    m.p = sae_calloc(1, sizeof *m.p);
    if (!m.p)
        return no_memory(&m);
    while (st == SAE_OK && !m.stopped)
        st = step(&m);
    if (st == SAE_OK) {
        *root = top(&m);
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
    snprintf(buf, cap, "%s", plain[v->type]);
    return buf;
}
