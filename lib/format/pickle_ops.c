/* pickle_ops.c - what each opcode of a pickle does to the machine.
 *
 * Opcodes are one table (name, operand, function), so that a message names each, also those that
 * are refused. Their formats: Python's Lib/pickletools.py. Called by pickle.c alone; no state. */
#include "lib/format/pickle_machine.h"

#include "lib/num.h"

#include <string.h>

/* ---- opcodes: plain values ---------------------------------------------------------------- */
/* Each gets the operand that its row in the table asks for, and the row's own argument. */

static enum sae_status op_proto(struct sae_pk_machine *m, uint64_t u, int arg)
{
    (void)arg;
    if (m->at != 0)
        return sae_pk_bad(m, "not at the start");
    if (u < 2 || u > 5)
        return sae_pk_bad(m, "protocol %u, 2 to 5 are read", (unsigned)u);
    return SAE_OK;
}

/* The length of what follows, for reads in pieces. */
static enum sae_status op_frame(struct sae_pk_machine *m, uint64_t u, int arg)
{
    (void)arg;
    if (u > m->n - m->pos)
        return sae_pk_bad(m, "truncated: a frame of %lu bytes, %zu are left", (unsigned long)u,
                          m->n - m->pos);
    return SAE_OK;
}

/* None, or an empty container: `type` without a value. */
static enum sae_status op_empty(struct sae_pk_machine *m, uint64_t u, int type)
{
    struct sae_pk_value *v = sae_pk_make(m, (enum sae_pk_type)type);

    (void)u;
    if (v)
        v->unhashable = type == SAE_PK_LIST || type == SAE_PK_DICT || type == SAE_PK_SET;
    return sae_pk_push(m, v);
}

static enum sae_status op_bool(struct sae_pk_machine *m, uint64_t u, int b)
{
    struct sae_pk_value *v = sae_pk_make(m, SAE_PK_BOOL);

    (void)u;
    if (v)
        v->u.b = b;
    return sae_pk_push(m, v);
}

static enum sae_status push_int(struct sae_pk_machine *m, int64_t i)
{
    struct sae_pk_value *v = sae_pk_make(m, SAE_PK_INT);

    if (v)
        v->u.i = i;
    return sae_pk_push(m, v);
}

static enum sae_status op_int(struct sae_pk_machine *m, uint64_t u, int is_signed)
{
    return push_int(m, is_signed ? (int32_t)u : (int64_t)u);
}

/* Two's complement, little-endian, u bytes. */
static enum sae_status op_long(struct sae_pk_machine *m, uint64_t u, int is_signed)
{
    const unsigned char *p;
    uint64_t bits = 0;
    enum sae_status st =
        is_signed && u > INT32_MAX ? sae_pk_bad(m, "a negative length") : sae_pk_take(m, u, &p);

    if (st != SAE_OK)
        return st;
    if (u > 8)
        return sae_pk_push(m, sae_pk_make(m, SAE_PK_LONG));
    for (unsigned i = 0; i < u; i++)
        bits |= (uint64_t)p[i] << 8 * i;
    if (u > 0 && u < 8 && (p[u - 1] & 0x80))
        bits |= UINT64_MAX << 8 * u;
    return push_int(m, (int64_t)bits);
}

/* The one operand that is big-endian. */
static enum sae_status op_float(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_value *v = sae_pk_make(m, SAE_PK_FLOAT);

    (void)arg;
    u = __builtin_bswap64(u);
    if (v)
        memcpy(&v->u.f, &u, sizeof v->u.f);
    return sae_pk_push(m, v);
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

static enum sae_status push_bytes(struct sae_pk_machine *m, enum sae_pk_type type,
                                  const unsigned char *p, uint64_t n, bool unhashable)
{
    struct sae_pk_value *v = sae_pk_make(m, type);

    if (v) {
        v->u.str = (const char *)p;
        v->n = (uint32_t)n;
        v->unhashable = unhashable;
    }
    return sae_pk_push(m, v);
}

static enum sae_status op_str(struct sae_pk_machine *m, uint64_t u, int surrogates_pass)
{
    const unsigned char *p;
    enum sae_status st = sae_pk_take(m, u, &p);

    if (st != SAE_OK)
        return st;
    if (!is_text((const char *)p, u, surrogates_pass))
        return sae_pk_bad(m, "its %lu bytes are no UTF-8", (unsigned long)u);
    return push_bytes(m, SAE_PK_STR, p, u, false);
}

static enum sae_status op_bytes(struct sae_pk_machine *m, uint64_t u, int is_array)
{
    const unsigned char *p;
    enum sae_status st = sae_pk_take(m, u, &p);

    return st == SAE_OK ? push_bytes(m, SAE_PK_BYTES, p, u, is_array) : st;
}

/* ---- opcodes: containers ------------------------------------------------------------------ */

static enum sae_status op_mark(struct sae_pk_machine *m, uint64_t u, int arg)
{
    (void)u, (void)arg;
    return sae_pk_push_mark(m);
}

/* Python wants a hash of every `step`th of them; what a call returns may have one. */
static enum sae_status check_hashable(struct sae_pk_machine *m, struct sae_pk_items add,
                                      size_t step)
{
    char what[160];

    for (size_t i = 0; i < add.n; i += step)
        if (add.v[i]->unhashable)
            return sae_pk_bad(m, "%s cannot be a key",
                              sae_pk_describe(add.v[i], what, sizeof what));
    return SAE_OK;
}

/* A tuple or frozenset of these items; NULL on failure, which push then returns. */
static struct sae_pk_value *make_of(struct sae_pk_machine *m, enum sae_pk_type type,
                                    struct sae_pk_items all)
{
    struct sae_pk_value *v = sae_pk_make(m, type);

    if (!v || all.n == 0)
        return v;
    v->u.items = sae_pk_arena(m, all.n * sizeof(struct sae_pk_value *));
    if (!v->u.items)
        return NULL;
    memcpy(v->u.items, all.v, all.n * sizeof(struct sae_pk_value *));
    v->n = (uint32_t)all.n;
    for (uint32_t i = 0; i < v->n; i++)
        v->unhashable |= v->u.items[i]->unhashable;
    return v;
}

/* The n values on top of the stack, or those above the last MARK when n is 0. */
static enum sae_status op_tuple(struct sae_pk_machine *m, uint64_t u, int n)
{
    struct sae_pk_items top_n;
    enum sae_status st = n ? sae_pk_pop_values(m, (size_t)n, &top_n) : sae_pk_pop_mark(m, &top_n);

    (void)u;
    return st == SAE_OK ? sae_pk_push(m, make_of(m, SAE_PK_TUPLE, top_n)) : st;
}

/* The opcode being run changes `v`, the result of a call: what comes of it stays unknown. */
static enum sae_status touch(struct sae_pk_machine *m, struct sae_pk_value *v)
{
    if (v->u.call.touched)
        return SAE_OK;
    v->u.call.touched = m->name;
    v->n = (uint32_t)m->at;
    return sae_pk_add_touched(m, v);
}

/* Add to what stands on the stack's top: a container of `type`, or the result of a call, which
 * takes anything. */
static enum sae_status extend(struct sae_pk_machine *m, enum sae_pk_type type,
                              struct sae_pk_items add)
{
    enum sae_status st = sae_pk_need(m, 1);
    char what[160];

    if (st != SAE_OK)
        return st;
    if (sae_pk_top(m)->type == SAE_PK_CALL || sae_pk_top(m)->type == SAE_PK_OBJECT)
        return touch(m, sae_pk_top(m));
    if (sae_pk_top(m)->type != type || (type == SAE_PK_SET && !sae_pk_top(m)->unhashable))
        return sae_pk_bad(m, "on %s, %s is wanted",
                          sae_pk_describe(sae_pk_top(m), what, sizeof what), sae_pk_plain[type]);
    for (size_t i = 0; i < add.n && st == SAE_OK; i++)
        st = sae_pk_add_item(m, sae_pk_top(m), add.v[i]);
    return st;
}

static enum sae_status op_append(struct sae_pk_machine *m, uint64_t u, int one)
{
    struct sae_pk_items add;
    enum sae_status st = one ? sae_pk_pop_values(m, 1, &add) : sae_pk_pop_mark(m, &add);

    (void)u;
    return st == SAE_OK ? extend(m, SAE_PK_LIST, add) : st;
}

static enum sae_status op_setitem(struct sae_pk_machine *m, uint64_t u, int one)
{
    struct sae_pk_items add;
    enum sae_status st = one ? sae_pk_pop_values(m, 2, &add) : sae_pk_pop_mark(m, &add);

    (void)u;
    if (st != SAE_OK)
        return st;
    if (add.n % 2 != 0)
        return sae_pk_bad(m, "%zu values are no pairs", add.n);
    st = check_hashable(m, add, 2);
    return st == SAE_OK ? extend(m, SAE_PK_DICT, add) : st;
}

static enum sae_status op_additems(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_items add;
    enum sae_status st = sae_pk_pop_mark(m, &add);

    (void)u, (void)arg;
    if (st == SAE_OK)
        st = check_hashable(m, add, 1);
    return st == SAE_OK ? extend(m, SAE_PK_SET, add) : st;
}

static enum sae_status op_frozenset(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_items add;
    enum sae_status st = sae_pk_pop_mark(m, &add);

    (void)u, (void)arg;
    if (st == SAE_OK)
        st = check_hashable(m, add, 1);
    return st == SAE_OK ? sae_pk_push(m, make_of(m, SAE_PK_SET, add)) : st;
}

/* A recursive tuple's parts, which its pickler took from the memo after all. */
static enum sae_status op_pop(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_items one;

    (void)u, (void)arg;
    if (m->n_marks > 0 && sae_pk_above_mark(m) == 0) {
        m->n_marks--;
        return SAE_OK;
    }
    return sae_pk_pop_values(m, 1, &one);
}

static enum sae_status op_pop_mark(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_items all;

    (void)u, (void)arg;
    return sae_pk_pop_mark(m, &all);
}

/* ---- opcodes: memo ------------------------------------------------------------------------ */

static enum sae_status op_put(struct sae_pk_machine *m, uint64_t i, int arg)
{
    enum sae_status st = sae_pk_need(m, 1);

    (void)arg;
    if (st != SAE_OK)
        return st;
    if (i >= SAE_PICKLE_MAX_MEMO)
        return sae_pk_bad(m, "memo index %lu, at most %lu", (unsigned long)i,
                          (unsigned long)SAE_PICKLE_MAX_MEMO - 1);
    st = sae_pk_reserve(m, &m->memo, (size_t)i + 1);
    if (st == SAE_OK) {
        m->memo.n += !m->memo.v[i];
        m->memo.v[i] = sae_pk_top(m);
    }
    return st;
}

/* Put at the index that is the number of indices in use. */
static enum sae_status op_memoize(struct sae_pk_machine *m, uint64_t u, int arg)
{
    (void)u;
    return op_put(m, m->memo.n, arg);
}

static enum sae_status op_get(struct sae_pk_machine *m, uint64_t i, int arg)
{
    (void)arg;
    if (i >= m->memo.cap || !m->memo.v[i])
        return sae_pk_bad(m, "memo index %lu holds nothing", (unsigned long)i);
    return sae_pk_push(m, m->memo.v[i]);
}

/* ---- opcodes: names, calls, persistent ids ------------------------------------------------ */

static enum sae_status op_global(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_value *v = sae_pk_make(m, SAE_PK_GLOBAL);
    enum sae_status st;

    (void)u, (void)arg;
    if (!v)
        return m->err_status;
    st = sae_pk_line(m, &v->u.global.module, &v->n);
    if (st == SAE_OK)
        st = sae_pk_line(m, &v->u.global.name, &v->cap);
    if (st != SAE_OK)
        return st;
    if (!is_text(v->u.global.module, v->n, false) || !is_text(v->u.global.name, v->cap, false))
        return sae_pk_bad(m, "its names are no UTF-8");
    return sae_pk_push(m, v);
}

static enum sae_status op_stack_global(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_items two;
    enum sae_status st = sae_pk_pop_values(m, 2, &two);
    struct sae_pk_value *v;

    (void)u, (void)arg;
    if (st != SAE_OK)
        return st;
    if (two.v[0]->type != SAE_PK_STR || two.v[1]->type != SAE_PK_STR)
        return sae_pk_bad(m, "of what is no two strings");
    v = sae_pk_make(m, SAE_PK_GLOBAL);
    if (v) {
        v->u.global.module = two.v[0]->u.str;
        v->n = two.v[0]->n;
        v->u.global.name = two.v[1]->u.str;
        v->cap = two.v[1]->n;
    }
    return sae_pk_push(m, v);
}

/* REDUCE, NEWOBJ: `type` CALL or OBJECT. */
static enum sae_status op_call(struct sae_pk_machine *m, uint64_t u, int type)
{
    char what[160];
    struct sae_pk_items two;
    struct sae_pk_value *v, *fn, *args;
    enum sae_status st = sae_pk_pop_values(m, 2, &two);

    (void)u;
    if (st != SAE_OK)
        return st;
    fn = two.v[0];
    args = two.v[1];
    if (args->type != SAE_PK_TUPLE)
        return sae_pk_bad(m, "arguments in %s, a tuple is wanted",
                          sae_pk_describe(args, what, sizeof what));
    if (fn->type != SAE_PK_GLOBAL && fn->type != SAE_PK_CALL && fn->type != SAE_PK_OBJECT)
        return sae_pk_bad(m, "of %s, a GLOBAL is wanted", sae_pk_describe(fn, what, sizeof what));
    if (args->n == 0 && sae_pk_is_global(fn, "collections", "OrderedDict")) {
        v = sae_pk_make(m, SAE_PK_DICT);
        if (v)
            v->ordered = v->unhashable = true;
        return sae_pk_push(m, v);
    }
    v = sae_pk_make(m, (enum sae_pk_type)type);
    if (v) {
        v->u.call.fn = fn;
        v->u.call.args = args;
    }
    return sae_pk_push(m, v);
}

static enum sae_status op_newobj_ex(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_items keywords;
    enum sae_status st = sae_pk_need(m, 3);

    if (st == SAE_OK)
        st = sae_pk_pop_values(m, 1, &keywords);
    if (st != SAE_OK)
        return st;
    if (keywords.v[0]->type != SAE_PK_DICT)
        return sae_pk_bad(m, "keywords that are no dict");
    return op_call(m, u, arg);
}

/* Attributes of an object: those of an OrderedDict (_metadata) are of no use here, the rest stay
 * unknown. */
static enum sae_status op_build(struct sae_pk_machine *m, uint64_t u, int arg)
{
    char what[160];
    struct sae_pk_items state;
    enum sae_status st = sae_pk_need(m, 2);

    (void)u, (void)arg;
    if (st == SAE_OK)
        st = sae_pk_pop_values(m, 1, &state);
    if (st != SAE_OK)
        return st;
    if (sae_pk_top(m)->type == SAE_PK_CALL || sae_pk_top(m)->type == SAE_PK_OBJECT)
        return touch(m, sae_pk_top(m));
    if (sae_pk_top(m)->type != SAE_PK_DICT || !sae_pk_top(m)->ordered)
        return sae_pk_bad(m, "on %s, an OrderedDict or an object is wanted",
                          sae_pk_describe(sae_pk_top(m), what, sizeof what));
    if (state.v[0]->type != SAE_PK_DICT)
        return sae_pk_bad(m, "of an OrderedDict with %s, a dict is wanted",
                          sae_pk_describe(state.v[0], what, sizeof what));
    return SAE_OK;
}

static enum sae_status op_persid(struct sae_pk_machine *m, uint64_t u, int arg)
{
    struct sae_pk_items id;
    enum sae_status st = sae_pk_pop_values(m, 1, &id);
    struct sae_pk_value *v;

    (void)u, (void)arg;
    if (st != SAE_OK)
        return st;
    v = sae_pk_make(m, SAE_PK_PERSID);
    if (v)
        v->u.id = id.v[0];
    st = sae_pk_push(m, v);
    return st == SAE_OK ? sae_pk_add_persid(m, v) : st;
}

static enum sae_status op_stop(struct sae_pk_machine *m, uint64_t u, int arg)
{
    enum sae_status st = sae_pk_need(m, 1);

    (void)u, (void)arg;
    if (st != SAE_OK)
        return st;
    if (m->stack.n != 1 || m->n_marks != 0)
        return sae_pk_bad(m, "%zu values and %zu MARKs on the stack, one value is wanted",
                          m->stack.n, m->n_marks);
    if (m->pos != m->n)
        return sae_pk_bad(m, "%zu bytes behind it", m->n - m->pos);
    m->stopped = true;
    return SAE_OK;
}

/* ---- the table ---------------------------------------------------------------------------- */

const struct sae_pk_opcode sae_pk_opcodes[256] = {
    /* clang-format off */
    [SAE_PK_OPCODE_PROTO] = {"PROTO", 1, op_proto, 0},
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
