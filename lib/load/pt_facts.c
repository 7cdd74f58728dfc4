/* pt_facts.c - see pt_facts.h.
 *
 * Plain values are taken as they are, bytes as text; torch's dtypes, devices and sizes by value;
 * everything else, whatever it names or is called with, is opaque. Values may be shared, and
 * contain themselves: each list or dict is entered once and knows its height. */
#include "lib/load/pt_facts.h"

#include "lib/dtype.h"
#include "lib/load/pt_tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A list or dict that has been entered, or a text that has been made. */
struct seen {
    const struct sae_pk_value *v; /* NULL: a free slot */
    struct sae_fact made;         /* what is in it, or the text */
    unsigned height;              /* of all below it */
    bool is_open;                 /* it is being made */
};

struct maker {
    struct sae_facts *facts;
    const struct sae_pk_value *weights;
    struct seen *seen; /* a hash table, at most half full */
    size_t n_seen, cap;
    uint32_t n; /* facts */
    struct sae_err *err;
};

#define BAD(m, ...) \
    sae_err_set((m)->err, SAE_E_FORMAT, "data.pkl", "cannot read .pt file: " __VA_ARGS__)

static enum sae_status no_memory(const struct maker *m)
{
    return sae_err_set(m->err, SAE_E_NOMEM, "data.pkl",
                       "cannot allocate what stands beside weights");
}

/* ---- what has been seen ------------------------------------------------------------------- */

static struct seen *slot_of(struct seen *seen, size_t cap, const struct sae_pk_value *v)
{
    size_t i =
        (size_t)((uintptr_t)v / sizeof(struct sae_pk_value) * 0x9e3779b97f4a7c15u >> 20) % cap;

    while (seen[i].v && seen[i].v != v)
        i = (i + 1) % cap;
    return &seen[i];
}

static bool grow(struct maker *m)
{
    size_t cap = m->cap ? 2 * m->cap : 64;
    struct seen *bigger;

    if (2 * (m->n_seen + 1) <= m->cap)
        return true;
    bigger = sae_calloc(cap, sizeof *bigger);
    if (!bigger)
        return false;
    for (size_t i = 0; i < m->cap; i++)
        if (m->seen[i].v)
            *slot_of(bigger, cap, m->seen[i].v) = m->seen[i];
    sae_free(m->seen);
    m->seen = bigger;
    m->cap = cap;
    return true;
}

/* The same value in another place. */
static void repeat(struct sae_fact *fact, const struct sae_fact *made)
{
    fact->kind = made->kind;
    fact->n = made->n;
    fact->u = made->u;
}

/* ---- single values ------------------------------------------------------------------------ */

static enum sae_status set_text(struct maker *m, struct sae_fact *fact, enum sae_fact_kind kind,
                                const char *s, size_t n)
{
    fact->u.text = sae_facts_copy(m->facts, s, n);
    if (!fact->u.text)
        return no_memory(m);
    fact->kind = kind;
    fact->n = strlen(fact->u.text);
    return SAE_OK;
}

/* "<module.name>" */
static enum sae_status set_opaque(struct maker *m, struct sae_fact *fact,
                                  const struct sae_pk_value *v)
{
    const struct sae_pk_value *g =
        v->type == SAE_PK_CALL || v->type == SAE_PK_OBJECT ? v->u.call.fn : v;
    char text[160];
    int n;

    if (g->type == SAE_PK_GLOBAL)
        n = snprintf(text, sizeof text, "<%.*s.%.*s>", g->n < 70 ? (int)g->n : 70,
                     g->u.global.module, g->cap < 70 ? (int)g->cap : 70, g->u.global.name);
    else
        n = snprintf(text, sizeof text, "<%s>", v->type == SAE_PK_PERSID ? "storage" : "call");
    return set_text(m, fact, SAE_FACT_OPAQUE, text, (size_t)n);
}

static bool is_list(const struct sae_pk_value *v)
{
    return v->type == SAE_PK_TUPLE || v->type == SAE_PK_LIST || v->type == SAE_PK_SET;
}

/* torch.device("cuda", 0) is "cuda:0". */
static enum sae_status set_device(struct maker *m, struct sae_fact *fact,
                                  const struct sae_pk_value *v)
{
    const struct sae_pk_value *args = v->u.call.args,
                              *index = args->n > 1 ? args->u.items[1] : NULL;
    char text[80];
    int n;

    if (args->n < 1 || args->n > 2 || args->u.items[0]->type != SAE_PK_STR ||
        (index && index->type != SAE_PK_INT))
        return set_opaque(m, fact, v);
    n = snprintf(text, sizeof text, "%.*s",
                 args->u.items[0]->n < 40 ? (int)args->u.items[0]->n : 40, args->u.items[0]->u.str);
    if (index)
        n += snprintf(text + n, sizeof text - (size_t)n, ":%lld", (long long)index->u.i);
    return set_text(m, fact, SAE_FACT_TEXT, text, (size_t)n);
}

static bool is_dtype(const struct sae_pk_value *v)
{
    return v->type == SAE_PK_GLOBAL && sae_pt_dtype_by_name(v) != NULL;
}

static bool is_call_of(const struct sae_pk_value *v, const char *module, const char *name)
{
    return v->type == SAE_PK_CALL && !v->u.call.touched &&
           sae_pk_is_global(v->u.call.fn, module, name);
}

/* The list that a torch.Size, or in protocol 2 a set, was called with; NULL: v is no such call. */
static const struct sae_pk_value *list_of(const struct sae_pk_value *v)
{
    static const char *const calls[][2] = {{"torch", "Size"},
                                           {"__builtin__", "set"},
                                           {"__builtin__", "frozenset"},
                                           {"builtins", "set"},
                                           {"builtins", "frozenset"}};
    const struct sae_pk_value *args;

    for (size_t i = 0; i < SAE_COUNTOF(calls); i++) {
        if (!is_call_of(v, calls[i][0], calls[i][1]))
            continue;
        args = v->u.call.args;
        return args->n == 1 && is_list(args->u.items[0]) ? args->u.items[0] : NULL;
    }
    return NULL;
}

/* Bytes in protocol 2: _codecs.encode(text, "latin1"). */
static bool is_latin1(const struct sae_pk_value *v)
{
    const struct sae_pk_value *args = is_call_of(v, "_codecs", "encode") ? v->u.call.args : NULL;

    return args && args->n == 2 && args->u.items[0]->type == SAE_PK_STR &&
           sae_pk_is_str(args->u.items[1], "latin1");
}

static enum sae_status set_latin1(struct maker *m, struct sae_fact *fact,
                                  const struct sae_pk_value *text)
{
    char *bytes = sae_alloc(text->n, 1);
    enum sae_status st;
    size_t n = 0;

    if (!bytes)
        return no_memory(m);
    /* Characters up to U+00FF take two bytes at most; no others were bytes. */
    for (uint32_t i = 0; i < text->n; i++) {
        unsigned char c = (unsigned char)text->u.str[i];

        if (c >= 0xc0 && i + 1 < text->n)
            c = (unsigned char)(c << 6 | (text->u.str[++i] & 0x3f));
        bytes[n++] = (char)c;
    }
    st = set_text(m, fact, SAE_FACT_TEXT, bytes, n);
    sae_free(bytes);
    return st;
}

static enum sae_status set_single(struct maker *m, struct sae_fact *fact,
                                  const struct sae_pk_value *v)
{
    switch (v->type) {
    case SAE_PK_NONE:
        return SAE_OK;
    case SAE_PK_BOOL:
        fact->kind = SAE_FACT_BOOL;
        fact->u.b = v->u.b;
        return SAE_OK;
    case SAE_PK_INT:
        fact->kind = SAE_FACT_INT;
        fact->u.i = v->u.i;
        return SAE_OK;
    case SAE_PK_LONG:
        return set_text(m, fact, SAE_FACT_BIG, "", 0);
    case SAE_PK_FLOAT:
        fact->kind = isfinite(v->u.f) ? SAE_FACT_REAL : SAE_FACT_NO_NUMBER;
        if (isfinite(v->u.f))
            fact->u.real = v->u.f;
        return SAE_OK;
    case SAE_PK_STR:
    case SAE_PK_BYTES:
        return set_text(m, fact, SAE_FACT_TEXT, v->u.str, v->n);
    default:
        break;
    }
    if (is_dtype(v)) {
        char text[48];
        int n = snprintf(text, sizeof text, "torch.%.*s", v->cap < 30 ? (int)v->cap : 30,
                         v->u.global.name);

        return set_text(m, fact, SAE_FACT_TEXT, text, (size_t)n);
    }
    if (is_latin1(v))
        return set_latin1(m, fact, v->u.call.args->u.items[0]);
    return is_call_of(v, "torch", "device") ? set_device(m, fact, v) : set_opaque(m, fact, v);
}

/* A text is made where it is met first: it may be long, and stand in many places. */
static enum sae_status set_once(struct maker *m, struct sae_fact *fact,
                                const struct sae_pk_value *v)
{
    enum sae_status st = SAE_OK;
    struct seen *s;

    if (!grow(m))
        return no_memory(m);
    s = slot_of(m->seen, m->cap, v);
    if (!s->v) {
        st = set_single(m, &s->made, v);
        if (st != SAE_OK)
            return st;
        s->v = v;
        m->n_seen++;
    }
    repeat(fact, &s->made);
    return st;
}

static bool is_text(const struct sae_pk_value *v)
{
    return v->type == SAE_PK_STR || v->type == SAE_PK_BYTES || is_latin1(v);
}

/* ---- lists and dicts ---------------------------------------------------------------------- */

/* A key is a text; numbers are written as Python does, all else is described. */
static const char *key_of(struct maker *m, const struct sae_pk_value *key)
{
    struct sae_fact fact = {0};
    char text[200];

    if (key->type == SAE_PK_STR)
        return set_once(m, &fact, key) == SAE_OK ? fact.u.text : NULL;
    if (key->type == SAE_PK_INT)
        snprintf(text, sizeof text, "%lld", (long long)key->u.i);
    else
        sae_pk_describe(key, text, sizeof text);
    return sae_facts_copy(m->facts, text, strlen(text));
}

static enum sae_status make(struct maker *m, struct sae_fact *fact, const struct sae_pk_value *v,
                            unsigned depth, unsigned *height);

/* Is this entry a tensor of the weights, and so no fact? */
static bool is_weights(const struct maker *m, const struct sae_pk_value *dict,
                       const struct sae_pk_value *v)
{
    return dict == m->weights && sae_pt_makes_tensor(v);
}

static enum sae_status make_items(struct maker *m, struct sae_fact *fact,
                                  const struct sae_pk_value *v, unsigned depth, unsigned *height)
{
    uint32_t step = v->type == SAE_PK_DICT ? 2 : 1;
    enum sae_status st = SAE_OK;

    fact->kind = step == 2 ? SAE_FACT_DICT : SAE_FACT_LIST;
    for (uint32_t i = 0; st == SAE_OK && i + step <= v->n; i += step) {
        const struct sae_pk_value *item = v->u.items[i + step - 1];
        struct sae_fact *fresh;
        const char *key = NULL;
        unsigned below = 0;

        if (step == 2 && is_weights(m, v, item))
            continue;
        if (++m->n > SAE_PT_MAX_FACTS)
            return BAD(m, "more than %u values stand beside its weights", SAE_PT_MAX_FACTS);
        if (step == 2 && !(key = key_of(m, v->u.items[i])))
            return no_memory(m);
        fresh = sae_facts_add(m->facts, fact, key);
        st = fresh ? make(m, fresh, item, depth + 1, &below) : no_memory(m);
        if (below + 1 > *height)
            *height = below + 1;
    }
    return st;
}

/* A list or dict, made where it is met first. */
static enum sae_status make_once(struct maker *m, struct sae_fact *fact,
                                 const struct sae_pk_value *v, unsigned depth, unsigned *height)
{
    struct seen *s;
    enum sae_status st;

    if (!grow(m))
        return no_memory(m);
    s = slot_of(m->seen, m->cap, v);
    if (s->v && s->is_open)
        return set_text(m, fact, SAE_FACT_OPAQUE, "<itself>", strlen("<itself>"));
    if (s->v) {
        *height = s->height;
        repeat(fact, &s->made);
        return SAE_OK;
    }
    *s = (struct seen){.v = v, .is_open = true};
    m->n_seen++;
    st = make_items(m, fact, v, depth, height);
    s = slot_of(m->seen, m->cap, v); /* the table may have grown */
    s->is_open = false;
    s->height = *height;
    s->made = *fact;
    return st;
}

/* Recursion is bounded: nothing deeper than the limit is entered. */
static enum sae_status make(struct maker *m, struct sae_fact *fact, const struct sae_pk_value *v,
                            unsigned depth, unsigned *height)
{
    const struct sae_pk_value *list = list_of(v);
    enum sae_status st;

    if (list)
        v = list;
    if (is_text(v))
        return set_once(m, fact, v);
    if (!is_list(v) && v->type != SAE_PK_DICT)
        return set_single(m, fact, v);
    if (depth >= SAE_PT_MAX_FACT_DEPTH && v->n > 0)
        return BAD(m, "values beside its weights are nested deeper than %u", SAE_PT_MAX_FACT_DEPTH);
    st = make_once(m, fact, v, depth, height);
    if (st == SAE_OK && depth + *height > SAE_PT_MAX_FACT_DEPTH)
        return BAD(m, "values beside its weights are nested deeper than %u", SAE_PT_MAX_FACT_DEPTH);
    return st;
}

enum sae_status sae_pt_facts(struct sae_facts **out, const struct sae_pk_value *root,
                             const struct sae_pk_value *weights, struct sae_err *err)
{
    struct maker m = {.weights = weights, .err = err};
    struct sae_fact *top = NULL;
    unsigned height = 0;
    enum sae_status st;

    m.facts = sae_facts_create("data.pkl");
    if (m.facts)
        top = sae_facts_add(m.facts, NULL, NULL);
    st = top ? make(&m, top, root, 0, &height) : no_memory(&m);
    sae_free(m.seen);
    if (st != SAE_OK) {
        sae_facts_free(m.facts);
        return st;
    }
    *out = m.facts;
    return SAE_OK;
}
