/* dense.c - nested lists of numbers, read into one flat array of f32. See json/parse.h.
 *
 * All numbers lie at one depth, which the first of them sets; all lists of a depth are as long as
 * the first of that depth. The innermost lists are read by one tight loop. */
#include "proto/json/parse.h"

#include "proto/json/numtext.h"

#include <inttypes.h>

#define UNKNOWN UINT64_MAX

/* Depths count from 1, the outermost list. */
struct nest {
    struct sae_json_dense *d;
    const char *name;               /* the tensor's: base without its slash */
    unsigned depth, leaf;           /* open lists; depth of the numbers, 0 until one was seen */
    uint64_t dim[SAE_MAX_DIMS + 1]; /* length of the lists of this depth, or UNKNOWN */
    uint64_t at[SAE_MAX_DIMS + 1];  /* items read of the open list of this depth */
};

/* The pointer to the item being read, or with one level less to the list it stands in. */
static struct sae_json_path path_of(const struct nest *s, unsigned levels)
{
    struct sae_json_path path = {s->d->base, levels, {0}};

    for (unsigned i = 0; i < levels; i++)
        path.at[i] = s->at[i + 1];
    return path;
}

static enum sae_status fail_depth(struct sae_json_parser *ps, const struct nest *s,
                                  const char *found)
{
    struct sae_json_path path = path_of(s, s->depth);

    return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                         "cannot read %s: %s at depth %u, where the numbers before lie at depth %u",
                         s->name, found, s->depth, s->leaf);
}

/* A '[' was read: one level down. */
static enum sae_status open_list(struct sae_json_parser *ps, struct nest *s)
{
    struct sae_json_path path;

    if (s->leaf && s->depth >= s->leaf)
        return fail_depth(ps, s, "a list");
    if (s->depth == SAE_MAX_DIMS) {
        path = path_of(s, s->depth);
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read %s: lists nested deeper than %d", s->name, SAE_MAX_DIMS);
    }
    if (sae_json_peek(ps) == ']') {
        path = path_of(s, s->depth);
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read %s: an empty list inside a list (zero rows are [])",
                             s->name);
    }
    s->at[++s->depth] = 0;
    return SAE_OK;
}

/* The ']' of the innermost open list was read: its length against that of its like. */
static enum sae_status close_list(struct sae_json_parser *ps, struct nest *s)
{
    uint64_t got = s->at[s->depth], *want = &s->dim[s->depth];

    if (*want == UNKNOWN) {
        *want = got;
        if (s->d->check_width && s->depth == s->leaf) {
            enum sae_status st = sae_width_check(ps->t, got, &ps->err);

            if (st != SAE_OK)
                return st;
        }
    } else if (*want != got) {
        struct sae_json_path path = path_of(s, s->depth - 1);

        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read %s: a list of length %" PRIu64
                             " where those before have length %" PRIu64,
                             s->name, got, *want);
    }
    s->depth--;
    return SAE_OK;
}

static enum sae_status read_odd_leaf(struct sae_json_parser *ps, struct nest *s, float *out)
{
    struct sae_json_path path = path_of(s, s->depth);

    if (*ps->p == '[')
        return fail_depth(ps, s, "a list");
    return sae_json_odd_leaf(ps, out, s->d->booleans, s->name, &path);
}

/* The numbers of an innermost list, from its first, and its ']'. Singly those which no comma
 * follows or which are odd. */
static enum sae_status read_row(struct sae_json_parser *ps, struct nest *s)
{
    struct sae_json_array *v = &s->d->values;
    const size_t first = v->n;
    enum sae_status st = SAE_OK;
    const char *next;
    bool more = true;

    while (st == SAE_OK && more) {
        float *out;

        if (v->n == v->cap && (st = sae_json_grow(ps, v)) != SAE_OK)
            return st;
        out = (float *)v->data + v->n;
        v->n += sae_num_read_list(ps->p, ps->end, out, v->cap - v->n, &ps->p);
        if (v->n == v->cap)
            continue;
        out = (float *)v->data + v->n;
        if (sae_json_peek(ps) < 0)
            return SAE_E_MALFORMED_JSON;
        if (sae_num_read(ps->p, ps->end, out, &next) == SAE_NUM_OK) {
            ps->p = next;
        } else {
            s->at[s->depth] = v->n - first;
            st = read_odd_leaf(ps, s, out);
            if (st != SAE_OK)
                return st;
        }
        v->n++;
        st = sae_json_next(ps, ']', &more);
    }
    s->at[s->depth] = v->n - first;
    return st;
}

/* A value that is no list, above the depth of the numbers. */
static enum sae_status fail_shallow(struct sae_json_parser *ps, const struct nest *s)
{
    struct sae_json_path path = path_of(s, s->depth);
    struct sae_json_name name = sae_json_describe(ps);
    float v;
    enum sae_status st = sae_json_odd_leaf(ps, &v, s->d->booleans, s->name, &path);

    /* A number (odd_leaf knows only the odd ones), or what stands for one: its depth is wrong. */
    return st == SAE_OK || st == SAE_E_MALFORMED_JSON ? fail_depth(ps, s, name.s) : st;
}

/* From a value on: down to a row of numbers, over it, and up as far as lists end there. */
static enum sae_status read_item(struct sae_json_parser *ps, struct nest *s)
{
    enum sae_status st = SAE_OK;
    bool more = false;

    while (st == SAE_OK && sae_json_take(ps, '['))
        st = open_list(ps, s);
    if (st != SAE_OK)
        return st;
    if (!s->leaf)
        s->leaf = s->depth;
    if (s->leaf != s->depth)
        return fail_shallow(ps, s);
    st = read_row(ps, s);
    while (st == SAE_OK && !more) {
        st = close_list(ps, s);
        if (st != SAE_OK || s->depth == 0)
            return st;
        s->at[s->depth]++;
        st = sae_json_next(ps, ']', &more);
    }
    return st;
}

enum sae_status sae_json_read_dense(struct sae_json_parser *ps, struct sae_json_dense *d)
{
    struct nest s = {.d = d, .name = d->base + 1, .depth = 1};
    enum sae_status st = SAE_OK;

    for (unsigned i = 0; i <= SAE_MAX_DIMS; i++)
        s.dim[i] = UNKNOWN;
    d->values = (struct sae_json_array){.size = sizeof(float), .since = ps->p};
    d->values.guess = d->width < 4096 ? (size_t)d->width : 4096;
    if (!sae_json_take(ps, '['))
        return SAE_E_MALFORMED_JSON;
    if (sae_json_take(ps, ']')) {
        d->shape = (struct sae_lead){.n = 1};
        return SAE_OK;
    }
    while (st == SAE_OK && s.depth > 0)
        st = read_item(ps, &s);
    d->shape.n = s.leaf;
    for (unsigned i = 0; i < s.leaf; i++)
        d->shape.dim[i] = s.dim[i + 1];
    return st;
}
