/* sparse.c - decode's f as a sparse object, read into CSR. See json/parse.h.
 *
 *     {"shape": [..., F], "indices": [[...], ...], "values": [[...], ...]}
 *     {"shape": [F], "indices": [...], "values": [...]}    of a single vector, too
 *
 * What else an answer has there, argrow and labels, is not looked at. The three stand in any order.
 * Whichever of indices and values comes first sets the length of each row (csr.indptr); the second
 * is held against it. Sorting, and looking for an id that stands twice, are sae_request_check's. */
#include "proto/json/parse.h"

#include "lib/num.h"
#include "proto/json/numtext.h"

#include <inttypes.h>
#include <string.h>

enum part { SHAPE, INDICES, VALUES, N_PARTS };

static const char *const part_names[N_PARTS] = {"shape", "indices", "values"};
static const char *const part_bases[N_PARTS] = {"/f/shape", "/f/indices", "/f/values"};

struct sparse {
    bool seen[N_PARTS];
    struct sae_lead shape;
    struct sae_json_array indptr, items[N_PARTS]; /* of INDICES and VALUES */
    enum part first;                              /* which of these two set the rows */
    size_t n_rows;
    bool is_flat; /* the part that is read, or was last, has no list for each row */
    bool any_flat;
};

/* ---- shape ----------------------------------------------------------------------------------- */

static enum sae_status read_shape(struct sae_json_parser *ps, struct sparse *s)
{
    struct sae_json_path path = {part_bases[SHAPE], 0, {0}};
    bool more = true;

    if (!sae_json_take(ps, '['))
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path, "cannot read f: its shape is %s, no list",
                             sae_json_describe(ps).s);
    if (sae_json_take(ps, ']'))
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path, "cannot read f: its shape is empty");
    while (more) {
        enum sae_status st;

        if (s->shape.n == SAE_MAX_DIMS)
            return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                                 "cannot read f: its shape has more than %d dimensions",
                                 SAE_MAX_DIMS);
        if (!sae_json_take_uint(ps, &s->shape.dim[s->shape.n])) {
            path = (struct sae_json_path){part_bases[SHAPE], 1, {s->shape.n}};
            return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                                 "cannot read f: a dimension is %s, no integer of 0 or more",
                                 sae_json_describe(ps).s);
        }
        s->shape.n++;
        st = sae_json_next(ps, ']', &more);
        if (st != SAE_OK)
            return st;
    }
    return sae_width_check(ps->t, s->shape.dim[s->shape.n - 1], &ps->err);
}

/* Rows that the shape tells of; saturated, since no body holds as many. */
static uint64_t shape_rows(const struct sae_lead *shape)
{
    uint64_t n = 1;

    for (unsigned i = 0; i + 1 < shape->n; i++)
        if (shape->dim[i] == 0)
            return 0;
    for (unsigned i = 0; i + 1 < shape->n; i++)
        if (sae_mul_u64(n, shape->dim[i], &n))
            return UINT64_MAX;
    return n;
}

/* ---- indices and values ---------------------------------------------------------------------- */

static enum sae_status read_id(struct sae_json_parser *ps, uint32_t *out,
                               const struct sae_json_path *path)
{
    struct sae_json_name name;
    const char *start = ps->p;
    uint64_t id;

    if (sae_json_take_uint(ps, &id) && id < ps->t->dict_size && id <= UINT32_MAX) {
        *out = (uint32_t)id;
        return SAE_OK;
    }
    ps->p = start;
    name = sae_json_describe(ps);
    return sae_json_fail(ps, SAE_E_BAD_SHAPE, path,
                         "cannot read f: an index is %s, the ids of \"%.200s\" are 0 to %" PRIu64,
                         name.s, ps->t->dictionary, ps->t->dict_size - 1);
}

static enum sae_status read_value(struct sae_json_parser *ps, float *out,
                                  const struct sae_json_path *path)
{
    const char *next;

    if (sae_json_peek(ps) < 0)
        return SAE_E_MALFORMED_JSON;
    if (sae_num_read(ps->p, ps->end, out, &next) == SAE_NUM_OK) {
        ps->p = next;
        return SAE_OK;
    }
    return sae_json_odd_leaf(ps, out, false, "f", path);
}

/* The items of one row, behind its '['. */
static enum sae_status read_row(struct sae_json_parser *ps, struct sparse *s, enum part part,
                                size_t row)
{
    struct sae_json_array *a = &s->items[part];
    struct sae_json_path path = {part_bases[part], s->is_flat ? 1 : 2, {row, 0}};
    const size_t first = a->n;
    enum sae_status st = SAE_OK;
    bool more = !sae_json_take(ps, ']');

    while (st == SAE_OK && more) {
        if (a->n == a->cap && (st = sae_json_grow(ps, a)) != SAE_OK)
            return st;
        if (part == VALUES)
            a->n +=
                sae_num_read_list(ps->p, ps->end, (float *)a->data + a->n, a->cap - a->n, &ps->p);
        if (a->n == a->cap)
            continue;
        path.at[path.n - 1] = a->n - first;
        if (part == INDICES)
            st = read_id(ps, (uint32_t *)a->data + a->n, &path);
        else
            st = read_value(ps, (float *)a->data + a->n, &path);
        if (st != SAE_OK)
            return st;
        a->n++;
        st = sae_json_next(ps, ']', &more);
    }
    return st;
}

static enum sae_status fail_row_count(struct sae_json_parser *ps, const struct sparse *s,
                                      enum part part, size_t rows)
{
    struct sae_json_path path = {part_bases[part], 0, {0}};

    return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path, "cannot read f: %s%zu rows of %s, %zu of %s",
                         rows > s->n_rows ? "more than " : "", rows > s->n_rows ? s->n_rows : rows,
                         part_names[part], s->n_rows, part_names[s->first]);
}

/* A row ends: note its end, or compare its length with the other part's row. */
static enum sae_status end_row(struct sae_json_parser *ps, struct sparse *s, enum part part,
                               size_t row, size_t length)
{
    struct sae_json_array *ends = &s->indptr;
    enum sae_status st;

    if (part == s->first) {
        if (ends->n == ends->cap && (st = sae_json_grow(ps, ends)) != SAE_OK)
            return st;
        ((uint64_t *)ends->data)[ends->n++] = s->items[part].n;
        s->n_rows = row + 1;
        return SAE_OK;
    }
    const uint64_t *p = ends->data;
    if (length != p[row + 1] - p[row]) {
        struct sae_json_path path = {part_bases[part], 1, {row}};

        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read f: a row of %zu %s beside %" PRIu64 " %s", length,
                             part_names[part], p[row + 1] - p[row], part_names[s->first]);
    }
    return SAE_OK;
}

/* The first item of an array: memory, so that an empty one is none less an array. */
static enum sae_status begin_array(struct sae_json_parser *ps, struct sae_json_array *a,
                                   size_t size)
{
    *a = (struct sae_json_array){.size = size, .since = ps->p, .guess = 64};
    return sae_json_grow(ps, a);
}

static enum sae_status begin_rows(struct sae_json_parser *ps, struct sparse *s, enum part part)
{
    enum sae_status st = begin_array(ps, &s->items[part], 4);

    if (st != SAE_OK || s->indptr.data)
        return st;
    s->first = part;
    st = begin_array(ps, &s->indptr, sizeof(uint64_t));
    if (st == SAE_OK)
        ((uint64_t *)s->indptr.data)[s->indptr.n++] = 0;
    return st;
}

/* The list of a single vector, behind its '['. */
static enum sae_status read_flat(struct sae_json_parser *ps, struct sparse *s, enum part part)
{
    enum sae_status st;

    if (part != s->first && s->n_rows == 0)
        return fail_row_count(ps, s, part, 1);
    s->any_flat = true;
    st = read_row(ps, s, part, 0);
    if (st == SAE_OK)
        st = end_row(ps, s, part, 0, s->items[part].n);
    return st == SAE_OK && part != s->first && s->n_rows != 1 ? fail_row_count(ps, s, part, 1) : st;
}

static enum sae_status read_rows(struct sae_json_parser *ps, struct sparse *s, enum part part)
{
    struct sae_json_path path = {part_bases[part], 0, {0}};
    size_t row = 0;
    enum sae_status st = begin_rows(ps, s, part);
    bool more;

    if (st != SAE_OK)
        return st;
    if (!sae_json_take(ps, '['))
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path, "cannot read f: its %s are %s, no list",
                             part_names[part], sae_json_describe(ps).s);
    more = !sae_json_take(ps, ']');
    s->is_flat = more && sae_json_peek(ps) != '[';
    if (s->is_flat)
        return read_flat(ps, s, part);
    for (; st == SAE_OK && more; row++) {
        size_t before = s->items[part].n;

        if (part != s->first && row == s->n_rows)
            return fail_row_count(ps, s, part, row + 1);
        if (!sae_json_take(ps, '[')) {
            path = (struct sae_json_path){part_bases[part], 1, {row}};
            return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                                 "cannot read f: a row of its %s is %s, no list", part_names[part],
                                 sae_json_describe(ps).s);
        }
        st = read_row(ps, s, part, row);
        if (st == SAE_OK)
            st = end_row(ps, s, part, row, s->items[part].n - before);
        if (st == SAE_OK)
            st = sae_json_next(ps, ']', &more);
    }
    if (st == SAE_OK && part != s->first && row != s->n_rows)
        return fail_row_count(ps, s, part, row);
    return st;
}

/* What an answer has beside the three. */
static bool is_unread(const struct sae_json_text *key)
{
    static const char *const names[] = {"argrow", "labels"};

    for (size_t i = 0; i < SAE_COUNTOF(names); i++)
        if (!key->cut && strlen(names[i]) == key->n && memcmp(names[i], key->s, key->n) == 0)
            return true;
    return false;
}

/* ---- the object ------------------------------------------------------------------------------ */

static enum sae_status read_member(struct sae_json_parser *ps, struct sparse *s)
{
    const struct sae_json_path path = {"/f", 0, {0}};
    struct sae_json_fault fault;
    struct sae_json_text key;
    const char *next;
    unsigned part = 0;

    if (!sae_json_take(ps, '"'))
        return SAE_E_MALFORMED_JSON;
    next = sae_json_scan_string(ps->p, ps->end, &key, &fault);
    if (!next)
        return SAE_E_MALFORMED_JSON;
    ps->p = next;
    if (!sae_json_take(ps, ':'))
        return SAE_E_MALFORMED_JSON;
    while (part < N_PARTS && (key.cut || strlen(part_names[part]) != key.n ||
                              memcmp(part_names[part], key.s, key.n) != 0))
        part++;
    if (part == N_PARTS && is_unread(&key))
        return sae_json_skip(ps);
    if (part == N_PARTS)
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read f: unknown key \"%.*s\" (a sparse tensor has shape, "
                             "indices and values)",
                             (int)key.n, key.s);
    if (s->seen[part])
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path, "cannot read f: key \"%s\" stands twice",
                             part_names[part]);
    s->seen[part] = true;
    return part == SHAPE ? read_shape(ps, s) : read_rows(ps, s, (enum part)part);
}

/* Of a single vector [] are no entries, not no rows. */
static enum sae_status end_empty_vector(struct sae_json_parser *ps, struct sparse *s)
{
    if (s->shape.n != 1 || s->n_rows != 0)
        return SAE_OK;
    return end_row(ps, s, s->first, 0, 0);
}

/* All three parts are read: are they there, and do they agree? */
static enum sae_status check_parts(struct sae_json_parser *ps, const struct sparse *s)
{
    struct sae_json_path path = {"/f", 0, {0}};
    uint64_t rows;

    for (unsigned part = 0; part < N_PARTS; part++)
        if (!s->seen[part])
            return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                                 "cannot read f: the sparse tensor has no \"%s\"",
                                 part_names[part]);
    if (s->any_flat && s->shape.n != 1) {
        path.base = part_bases[s->first];
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read f: a list of its own for each row is missing, its shape "
                             "has %u dimensions",
                             s->shape.n);
    }
    rows = shape_rows(&s->shape);
    if (rows != s->n_rows) {
        path.base = part_bases[s->first];
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read f: %zu rows of %s, its shape has %" PRIu64, s->n_rows,
                             part_names[s->first], rows);
    }
    return SAE_OK;
}

/* Hand the arrays over; also on failure, so that sae_request_fini frees them. */
static void hand_over(struct sae_request *r, const struct sparse *s)
{
    r->is_sparse = true;
    r->csr.indptr = s->indptr.data;
    r->csr.ids = s->items[INDICES].data;
    r->csr.values = s->items[VALUES].data;
    r->csr.nnz = s->items[INDICES].n;
    r->n_rows = s->n_rows;
    if (s->shape.n)
        r->lead = s->shape;
    if (r->lead.n)
        r->lead.dim[--r->lead.n] = 0;
}

enum sae_status sae_json_read_sparse(struct sae_json_parser *ps)
{
    struct sparse s = {0};
    enum sae_status st = SAE_OK;
    bool more;

    if (!sae_json_take(ps, '{'))
        return SAE_E_MALFORMED_JSON;
    more = !sae_json_take(ps, '}');
    while (st == SAE_OK && more) {
        st = read_member(ps, &s);
        if (st == SAE_OK)
            st = sae_json_next(ps, '}', &more);
    }
    if (st == SAE_OK && s.seen[SHAPE] && s.seen[INDICES] && s.seen[VALUES])
        st = end_empty_vector(ps, &s);
    if (st == SAE_OK)
        st = check_parts(ps, &s);
    hand_over(ps->r, &s);
    return st;
}
