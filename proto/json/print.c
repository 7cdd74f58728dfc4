/* print.c - an answer as JSON, straight into the buffer that is sent. Spec 3.1.
 *
 *     {"f": T, "gate": T, "f_units": "..."}    T nested lists, or {"shape", "indices", "values"}
 *
 * The buffer is made once, as large as sae_json_bound allows (untouched pages cost nothing), and
 * cut to size at the end. Every step writes at most SLACK bytes between two looks at the limit, so
 * that no number needs a check of its own room. Recursion is by leading dimension: 8 deep at most.
 *
 * Called by the server's pool threads through wire.h; no state, any thread. */
#include "proto/wire.h"

#include "lib/num.h"
#include "proto/json/numtext.h"

#include <inttypes.h>
#include <string.h>

/* Room behind the limit: more than any one step writes (a number, an id, a bracket, with commas).
 */
#define SLACK (2 * SAE_NUM_SLACK)

struct out {
    char *p;
    char *limit; /* p beyond it: too large */
};

/* ---- bound ----------------------------------------------------------------------------------- */

static uint64_t add(uint64_t a, uint64_t b)
{
    return sae_add_u64(a, b, &a) ? UINT64_MAX : a;
}

static uint64_t mul(uint64_t a, uint64_t b)
{
    return sae_mul_u64(a, b, &a) ? UINT64_MAX : a;
}

/* Brackets and commas of nested lists of this lead around its rows, the rows' own included. */
static uint64_t nest_bound(const struct sae_lead *lead)
{
    uint64_t lists = 1, bytes = 3;

    for (unsigned i = 0; i < lead->n; i++) {
        lists = mul(lists, lead->dim[i]);
        bytes = add(bytes, mul(lists, 3));
    }
    return bytes;
}

/* Digits of the ids below `width`, and a comma. */
static uint64_t id_bound(uint64_t width)
{
    uint64_t n = 2;

    for (; width > 10; width /= 10)
        n++;
    return n;
}

/* The label of a feature, or null. */
static const char *label_of(const struct sae_answer *a, uint32_t id, size_t *n)
{
    const char *label = a->label(a->label_arg, id, n);

    if (label)
        return label;
    *n = 4;
    return "null";
}

/* Exactly, with brackets and commas. */
static uint64_t labels_bound(const struct sae_answer *a, const struct sae_out_tensor *t)
{
    uint64_t bytes = strlen(",\"labels\":[]") + (uint64_t)a->n_rows * 3;

    for (size_t i = 0; t->rows && i < a->n_rows; i++)
        for (size_t k = 0; k < t->rows[i].n; k++) {
            size_t n;

            (void)label_of(a, t->rows[i].ids[k], &n);
            bytes += n + 1;
        }
    return bytes;
}

static uint64_t tensor_bound(const struct sae_answer *a, const struct sae_out_tensor *t)
{
    const uint64_t frame = strlen(t->name) + 4; /* quotes, colon, comma */

    if (t->form == SAE_FORM_DENSE)
        return add(add(nest_bound(sae_out_lead(a, t)), frame),
                   mul(mul(sae_out_rows(a, t), t->width), SAE_NUM_TEXT_MAX));
    return add(add(add(frame + 64 + SAE_MAX_DIMS * 21, mul(a->n_rows, 6)),
                   mul(t->nnz, SAE_NUM_TEXT_MAX + id_bound(t->width))),
               a->label ? labels_bound(a, t) : 0);
}

uint64_t sae_json_bound(const struct sae_answer *a)
{
    uint64_t n = 17; /* braces, newline */

    for (unsigned i = 0; i < a->n_tensors; i++)
        n = add(n, tensor_bound(a, &a->tensors[i]));
    return a->f_units ? add(n, strlen(a->f_units) + 16) : n;
}

/* ---- print ----------------------------------------------------------------------------------- */

static bool fits(const struct out *o)
{
    return o->p <= o->limit;
}

static void put_char(struct out *o, char c)
{
    *o->p++ = c;
}

static bool put_bytes(struct out *o, const char *s, size_t n)
{
    if (!fits(o) || n > (size_t)(o->limit - o->p))
        return false;
    memcpy(o->p, s, n);
    o->p += n;
    return true;
}

/* Our own words: nothing in them needs an escape. */
static bool put_word(struct out *o, const char *s)
{
    return put_bytes(o, s, strlen(s));
}

static void put_uint(struct out *o, uint64_t v)
{
    char digits[20];
    unsigned n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    while (n > 0)
        *o->p++ = digits[--n];
}

static bool put_floats(struct out *o, const float *v, size_t n)
{
    put_char(o, '[');
    if (n)
        o->p = sae_num_print_list(o->p, o->limit, v, n) - 1; /* the last comma goes */
    put_char(o, ']');
    return fits(o);
}

static bool put_ids(struct out *o, const uint32_t *ids, size_t n)
{
    put_char(o, '[');
    if (n)
        o->p = sae_num_print_ids(o->p, o->limit, ids, n) - 1; /* the last comma goes */
    put_char(o, ']');
    return fits(o);
}

/* The lists below dimension `level` of the lead; *row is the next row to print. */
static bool put_nest(struct out *o, const struct sae_answer *a, const struct sae_out_tensor *t,
                     unsigned level, size_t *row)
{
    const struct sae_lead *lead = sae_out_lead(a, t);
    bool ok = true;

    if (level == lead->n) {
        const float *v = t->width ? t->data + *row * t->width : NULL;

        ++*row;
        return put_floats(o, v, (size_t)t->width);
    }
    put_char(o, '[');
    for (uint64_t i = 0; i < lead->dim[level] && ok; i++) {
        if (i)
            put_char(o, ',');
        ok = put_nest(o, a, t, level + 1, row) && fits(o);
    }
    put_char(o, ']');
    return ok && fits(o);
}

static bool put_labels(struct out *o, const struct sae_answer *a, const struct sae_sparse_row *row)
{
    bool ok = true;

    put_char(o, '[');
    for (size_t k = 0; k < row->n && ok; k++) {
        size_t n;
        const char *label = label_of(a, row->ids[k], &n);

        if (k)
            put_char(o, ',');
        ok = put_bytes(o, label, n);
    }
    if (ok)
        put_char(o, ']');
    return ok && fits(o);
}

static bool put_sparse(struct out *o, const struct sae_answer *a, const struct sae_out_tensor *t)
{
    bool ok = put_word(o, "{\"shape\":[");

    for (unsigned i = 0; i < a->lead.n && ok; i++) {
        put_uint(o, a->lead.dim[i]);
        put_char(o, ',');
        ok = fits(o);
    }
    if (!ok)
        return false;
    put_uint(o, t->width);
    ok = put_word(o, "],\"indices\":[");
    for (size_t i = 0; i < a->n_rows && ok; i++) {
        if (i)
            put_char(o, ',');
        ok = put_ids(o, t->rows[i].ids, t->rows[i].n);
    }
    ok = ok && put_word(o, "],\"values\":[");
    for (size_t i = 0; i < a->n_rows && ok; i++) {
        if (i)
            put_char(o, ',');
        ok = put_floats(o, t->rows[i].values, t->rows[i].n);
    }
    ok = ok && (!a->label || put_word(o, "],\"labels\":["));
    for (size_t i = 0; a->label && i < a->n_rows && ok; i++) {
        if (i)
            put_char(o, ',');
        ok = put_labels(o, a, &t->rows[i]);
    }
    return ok && put_word(o, "]}");
}

static bool put_tensor(struct out *o, const struct sae_answer *a, const struct sae_out_tensor *t)
{
    size_t row = 0;

    if (!put_word(o, "\"") || !put_word(o, t->name) || !put_word(o, "\":"))
        return false;
    return t->form == SAE_FORM_DENSE ? put_nest(o, a, t, 0, &row) : put_sparse(o, a, t);
}

static bool put_answer(struct out *o, const struct sae_answer *a)
{
    bool ok = put_word(o, "{");

    for (unsigned i = 0; i < a->n_tensors && ok; i++) {
        if (i)
            put_char(o, ',');
        ok = put_tensor(o, a, &a->tensors[i]);
        if (ok && a->f_units && strcmp(a->tensors[i].name, "f") == 0)
            ok = put_word(o, ",\"f_units\":\"") && put_word(o, a->f_units) && put_word(o, "\"");
    }
    return ok && put_word(o, "}\n");
}

enum sae_status sae_json_print(struct sae_body *out, const struct sae_answer *a, size_t max_bytes,
                               struct sae_err *err)
{
    const uint64_t bound = sae_json_bound(a);
    const size_t cap = bound < max_bytes ? (size_t)bound : max_bytes;
    char *data = cap > SIZE_MAX - SLACK ? NULL : sae_realloc(NULL, cap + SLACK, 1), *less;
    struct out o = {data, data ? data + cap : NULL};
    size_t n;

    if (!data)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot print the answer: no %zu bytes", cap);
    if (!put_answer(&o, a)) {
        sae_free(data);
        return sae_err_limit(err, SAE_E_RESPONSE_TOO_LARGE, "--max-response-bytes", max_bytes,
                             bound,
                             "cannot print the answer: it takes more than %zu bytes (at most "
                             "%" PRIu64 ")",
                             max_bytes, bound);
    }
    n = (size_t)(o.p - data);
    less = n < cap / 2 ? sae_realloc(data, n ? n : 1, 1) : NULL;
    *out = (struct sae_body){.data = less ? less : data, .n = n};
    return SAE_OK;
}
