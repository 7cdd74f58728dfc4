/* support_body.c - see support_body.h. Long because reading an answer of any form is one job: three
 * codecs of the same few shapes share it. */
#include "tests/http/support_body.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ck_assert_msg writes to a pipe even when it holds: too slow for every value. */
#define REQUIRE(cond, ...)             \
    do {                               \
        if (!(cond))                   \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)

/* ---- text ---------------------------------------------------------------------------------- */

void text_free(struct text *t)
{
    free(t->p);
    memset(t, 0, sizeof *t);
}

void text_add(struct text *t, const void *p, size_t n)
{
    if (t->n + n + 1 > t->cap) {
        t->cap = (t->n + n + 1) * 2;
        t->p = realloc(t->p, t->cap);
        REQUIRE(t->p != NULL, "out of memory");
    }
    memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = '\0';
}

void text_addf(struct text *t, const char *fmt, ...)
{
    char piece[4096];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(piece, sizeof piece, fmt, ap);
    va_end(ap);
    REQUIRE(n >= 0 && (size_t)n < sizeof piece, "a piece of %d bytes", n);
    text_add(t, piece, (size_t)n);
}

void text_float(struct text *t, float v)
{
    if (isnan(v))
        text_addf(t, "\"NaN\"");
    else if (isinf(v))
        text_addf(t, v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    else if (v == 0 && signbit(v))
        text_addf(t, "-0.0");
    else
        text_addf(t, "%.9g", (double)v);
}

void text_rows(struct text *t, const float *v, size_t n_rows, size_t width)
{
    text_addf(t, "[");
    for (size_t i = 0; i < n_rows; i++) {
        text_addf(t, "%s[", i ? "," : "");
        for (size_t j = 0; j < width; j++) {
            text_addf(t, "%s", j ? "," : "");
            text_float(t, v[i * width + j]);
        }
        text_addf(t, "]");
    }
    text_addf(t, "]");
}

static void sparse_lists(struct text *t, const float *v, size_t n_rows, size_t width, bool ids)
{
    text_addf(t, "[");
    for (size_t i = 0; i < n_rows; i++) {
        const char *comma = "";

        text_addf(t, "%s[", i ? "," : "");
        /* descending: a request may list in any order */
        for (size_t j = width; j-- > 0;) {
            if (v[i * width + j] == 0)
                continue;
            text_addf(t, "%s", comma);
            comma = ",";
            if (ids)
                text_addf(t, "%zu", j);
            else
                text_float(t, v[i * width + j]);
        }
        text_addf(t, "]");
    }
    text_addf(t, "]");
}

void text_sparse(struct text *t, const float *v, size_t n_rows, size_t width)
{
    text_addf(t, "{\"shape\":[%zu,%zu],\"indices\":", n_rows, width);
    sparse_lists(t, v, n_rows, width, true);
    text_addf(t, ",\"values\":");
    sparse_lists(t, v, n_rows, width, false);
    text_addf(t, "}");
}

void st_add(struct st_body *b, const char *name, const char *dtype, const char *shape,
            const void *data, size_t n)
{
    text_addf(&b->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
              b->header.n ? "," : "{", name, dtype, shape, b->data.n, b->data.n + n);
    text_add(&b->data, data, n);
}

struct text st_end(struct st_body *b)
{
    struct text t = {0};
    uint64_t n;

    text_addf(&b->header, b->header.n ? "}" : "{}");
    while (b->header.n % 8)
        text_addf(&b->header, " ");
    n = b->header.n;
    text_add(&t, &n, 8); /* this machine is little-endian, as all that saed runs on */
    text_add(&t, b->header.p, b->header.n);
    if (b->data.n)
        text_add(&t, b->data.p, b->data.n);
    text_free(&b->header);
    text_free(&b->data);
    return t;
}

/* ---- answers: what all forms share ----------------------------------------------------------- */

void got_free(struct got *g)
{
    free(g->v);
    free(g->listed);
    memset(g, 0, sizeof *g);
}

static void got_alloc(struct got *g)
{
    g->v = calloc(g->n_rows * g->width + 1, sizeof *g->v);
    g->listed = calloc(g->n_rows * g->width + 1, 1);
    ck_assert_ptr_nonnull(g->v);
    ck_assert_ptr_nonnull(g->listed);
}

static size_t product(const size_t *dim, unsigned n)
{
    size_t p = 1;

    for (unsigned i = 0; i < n; i++)
        p *= dim[i];
    return p;
}

/* "value order, NaN first; ties: lower index" */
static bool top_before(float a, size_t ia, float b, size_t ib)
{
    if (isnan(a) != isnan(b))
        return isnan(a);
    if (!isnan(a) && a != b)
        return a > b;
    return ia < ib;
}

static void got_entry(struct got *g, size_t row, size_t id, float v)
{
    REQUIRE(id < g->width, "row %zu lists %zu of %zu", row, id, g->width);
    REQUIRE(!(v == 0), "row %zu lists a zero at %zu", row, id);
    REQUIRE(!g->listed[row * g->width + id], "row %zu lists %zu twice", row, id);
    g->v[row * g->width + id] = v;
    g->listed[row * g->width + id] = 1;
}

static void got_ordered(enum got_order order, float a, size_t ia, float b, size_t ib)
{
    if (order == GOT_TOP)
        REQUIRE(top_before(a, ia, b, ib), "%g at %zu stands before %g at %zu", (double)a, ia,
                (double)b, ib);
    else
        REQUIRE(ia < ib, "id %zu stands before %zu", ia, ib);
}

static bool is_type(const struct reply *r, const char *type)
{
    const char *got = reply_header(r, "Content-Type");

    return got && strcmp(got, type) == 0;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static json_t *parse(const struct reply *r)
{
    json_error_t e;
    json_t *root = json_loadb(r->body, r->n, JSON_REJECT_DUPLICATES, &e);

    ck_assert_msg(root != NULL, "no JSON: %s in %.300s", e.text, r->body);
    return root;
}

static float json_float(const json_t *j)
{
    const char *s = json_string_value(j);

    if (json_is_number(j))
        return (float)json_number_value(j);
    REQUIRE(s != NULL, "neither a number nor a string");
    if (strcmp(s, "NaN") == 0)
        return NAN;
    if (strcmp(s, "Infinity") == 0)
        return INFINITY;
    REQUIRE(strcmp(s, "-Infinity") == 0, "%s is no number", s);
    return -INFINITY;
}

static void json_fill(const json_t *j, unsigned depth, const struct got *g, float **at)
{
    if (depth == g->n_lead + 1) {
        *(*at)++ = json_float(j);
        return;
    }
    ck_assert(json_is_array(j));
    ck_assert_uint_eq(json_array_size(j), depth < g->n_lead ? g->lead[depth] : g->width);
    for (size_t i = 0; i < json_array_size(j); i++)
        json_fill(json_array_get(j, i), depth + 1, g, at);
}

static void json_dense(struct got *g, const json_t *j)
{
    size_t dim[9];
    unsigned n = 0;
    float *at;

    for (const json_t *p = j; json_is_array(p) && n < 9; p = json_array_get(p, 0))
        dim[n++] = json_array_size(p);
    ck_assert_uint_ge(n, 1);
    if (n == 1 && dim[0] == 0) { /* zero rows */
        g->n_lead = 1;
        got_alloc(g);
        return;
    }
    g->n_lead = n - 1;
    memcpy(g->lead, dim, sizeof g->lead);
    g->n_rows = product(dim, n - 1);
    g->width = dim[n - 1];
    got_alloc(g);
    at = g->v;
    json_fill(j, 0, g, &at);
}

static void json_sparse(struct got *g, const json_t *j, enum got_order order)
{
    const json_t *shape = json_object_get(j, "shape"), *ids = json_object_get(j, "indices"),
                 *values = json_object_get(j, "values");
    size_t n = json_array_size(shape);

    ck_assert_uint_eq(json_object_size(j), 3);
    ck_assert(n >= 1 && n <= 8);
    g->is_sparse = true;
    for (size_t i = 0; i + 1 < n; i++)
        g->lead[g->n_lead++] = (size_t)json_integer_value(json_array_get(shape, i));
    g->width = (size_t)json_integer_value(json_array_get(shape, n - 1));
    g->n_rows = product(g->lead, g->n_lead);
    got_alloc(g);
    ck_assert_uint_eq(json_array_size(ids), g->n_rows);
    ck_assert_uint_eq(json_array_size(values), g->n_rows);
    for (size_t i = 0; i < g->n_rows; i++) {
        const json_t *row = json_array_get(ids, i), *v = json_array_get(values, i);

        ck_assert_uint_eq(json_array_size(row), json_array_size(v));
        for (size_t k = 0; k < json_array_size(row); k++) {
            size_t id = (size_t)json_integer_value(json_array_get(row, k));
            float x = json_float(json_array_get(v, k));

            got_entry(g, i, id, x);
            if (k)
                got_ordered(order, json_float(json_array_get(v, k - 1)),
                            (size_t)json_integer_value(json_array_get(row, k - 1)), x, id);
        }
    }
}

/* ---- safetensors --------------------------------------------------------------------------- */

struct tensor {
    const char *dtype;
    unsigned n;
    size_t dim[9], count;
    const char *data; /* unaligned */
};

static json_t *st_header(const struct reply *r, size_t *base)
{
    uint64_t n;
    json_error_t e;
    json_t *root;

    ck_assert_uint_ge(r->n, 8);
    memcpy(&n, r->body, 8);
    ck_assert(n <= r->n - 8);
    ck_assert_uint_eq(n % 8, 0);
    root = json_loadb(r->body + 8, n, JSON_REJECT_DUPLICATES, &e);
    ck_assert_msg(root != NULL, "no safetensors header: %s", e.text);
    *base = 8 + n;
    return root;
}

static bool st_find(const struct reply *r, const json_t *root, size_t base, const char *name,
                    struct tensor *t)
{
    const json_t *j = json_object_get(root, name), *at = json_object_get(j, "data_offsets"),
                 *shape = json_object_get(j, "shape");
    size_t begin, end, size;

    memset(t, 0, sizeof *t);
    if (!j)
        return false;
    t->dtype = json_string_value(json_object_get(j, "dtype"));
    ck_assert_ptr_nonnull(t->dtype);
    ck_assert_uint_le(json_array_size(shape), 9);
    for (t->n = 0; t->n < json_array_size(shape); t->n++)
        t->dim[t->n] = (size_t)json_integer_value(json_array_get(shape, t->n));
    t->count = product(t->dim, t->n);
    begin = (size_t)json_integer_value(json_array_get(at, 0));
    end = (size_t)json_integer_value(json_array_get(at, 1));
    size = strcmp(t->dtype, "I64") == 0 ? 8 : 4;
    ck_assert(begin <= end && end <= r->n - base);
    ck_assert_uint_eq(end - begin, t->count * size);
    t->data = r->body + base + begin;
    return true;
}

static float f32_at(const struct tensor *t, size_t i)
{
    float v;

    memcpy(&v, t->data + i * 4, 4);
    return v;
}

static size_t i32_at(const struct tensor *t, size_t i)
{
    int32_t v;

    memcpy(&v, t->data + i * 4, 4);
    REQUIRE(v >= 0, "index %d", (int)v);
    return (size_t)v;
}

static void st_dense(struct got *g, const struct tensor *t)
{
    ck_assert_str_eq(t->dtype, "F32");
    ck_assert_uint_ge(t->n, 1);
    g->n_lead = t->n - 1;
    memcpy(g->lead, t->dim, sizeof g->lead);
    g->n_rows = product(t->dim, t->n - 1);
    g->width = t->dim[t->n - 1];
    got_alloc(g);
    memcpy(g->v, t->data, t->count * 4);
}

static void st_csr(struct got *g, const struct reply *r, const json_t *root, size_t base,
                   const char *name, const struct tensor *indptr)
{
    struct tensor ids, values, shape;
    char part[64];
    int64_t dim;

    snprintf(part, sizeof part, "%s.indices", name);
    ck_assert(st_find(r, root, base, part, &ids));
    snprintf(part, sizeof part, "%s.values", name);
    ck_assert(st_find(r, root, base, part, &values));
    snprintf(part, sizeof part, "%s.shape", name);
    ck_assert(st_find(r, root, base, part, &shape));
    ck_assert_str_eq(indptr->dtype, "I32");
    ck_assert_str_eq(ids.dtype, "I32");
    ck_assert_str_eq(values.dtype, "F32");
    ck_assert_str_eq(shape.dtype, "I64");
    ck_assert(shape.n == 1 && shape.count >= 1 && shape.count <= 8);
    for (size_t i = 0; i < shape.count; i++) {
        memcpy(&dim, shape.data + i * 8, 8);
        if (i + 1 < shape.count)
            g->lead[g->n_lead++] = (size_t)dim;
        else
            g->width = (size_t)dim;
    }
    g->n_rows = product(g->lead, g->n_lead);
    g->is_sparse = true;
    got_alloc(g);
    ck_assert_uint_eq(indptr->count, g->n_rows + 1);
    ck_assert_uint_eq(i32_at(indptr, 0), 0);
    ck_assert_uint_eq(i32_at(indptr, g->n_rows), ids.count);
    ck_assert_uint_eq(ids.count, values.count);
    for (size_t i = 0; i < g->n_rows; i++)
        for (size_t k = i32_at(indptr, i); k < i32_at(indptr, i + 1); k++) {
            got_entry(g, i, i32_at(&ids, k), f32_at(&values, k));
            if (k > i32_at(indptr, i))
                got_ordered(GOT_ASCENDING, 0, i32_at(&ids, k - 1), 0, i32_at(&ids, k));
        }
}

/* The width of the whole is not told in this form: the largest id's is enough to hold it. */
static void st_top(struct got *g, const struct reply *r, const json_t *root, size_t base,
                   const char *name, const struct tensor *ids, enum got_order order)
{
    struct tensor values;
    char part[64];

    snprintf(part, sizeof part, "%s.top_values", name);
    ck_assert(st_find(r, root, base, part, &values));
    ck_assert_str_eq(ids->dtype, "I32");
    ck_assert_str_eq(values.dtype, "F32");
    ck_assert_uint_eq(ids->n, values.n);
    ck_assert_int_eq(memcmp(ids->dim, values.dim, sizeof ids->dim), 0);
    g->is_sparse = true;
    g->n_lead = ids->n - 1;
    memcpy(g->lead, ids->dim, sizeof g->lead);
    g->n_rows = product(g->lead, g->n_lead);
    g->top_width = ids->dim[ids->n - 1];
    for (size_t i = 0; i < ids->count; i++)
        if (i32_at(ids, i) >= g->width)
            g->width = i32_at(ids, i) + 1;
    got_alloc(g);
    for (size_t i = 0; i < g->n_rows; i++) {
        size_t at = i * g->top_width, filled = 0, last = 0;

        for (size_t k = at; k < at + g->top_width; k++) {
            size_t id = i32_at(ids, k);
            float v = f32_at(&values, k);

            REQUIRE(!g->listed[i * g->width + id], "row %zu lists %zu twice", i, id);
            if (v == 0 && order == GOT_TOP) {
                REQUIRE(!filled || id > last, "fillers: %zu after %zu", id, last);
                last = id, filled++;
            } else {
                REQUIRE(!filled, "row %zu has %g behind a filler", i, (double)v);
                if (k > at && order == GOT_TOP)
                    got_ordered(GOT_TOP, f32_at(&values, k - 1), i32_at(ids, k - 1), v, id);
            }
            g->v[i * g->width + id] = v;
            g->listed[i * g->width + id] = 1;
        }
        if (order == GOT_TOP) /* fillers are no entries */
            for (size_t j = 0; j < g->width; j++)
                g->listed[i * g->width + j] &= g->v[i * g->width + j] != 0;
    }
}

static void got_safetensors(struct got *g, const struct reply *r, const char *name,
                            enum got_order order)
{
    size_t base;
    json_t *root = st_header(r, &base);
    struct tensor t;
    char part[64];

    if (st_find(r, root, base, name, &t)) {
        g->present = true;
        st_dense(g, &t);
        goto out;
    }
    snprintf(part, sizeof part, "%s.indptr", name);
    if (st_find(r, root, base, part, &t)) {
        g->present = true;
        st_csr(g, r, root, base, name, &t);
        goto out;
    }
    snprintf(part, sizeof part, "%s.top_indices", name);
    if (st_find(r, root, base, part, &t)) {
        g->present = true;
        st_top(g, r, root, base, name, &t, order);
    }
out:
    json_decref(root);
}

/* ---- any form ------------------------------------------------------------------------------ */

static void got_raw(struct got *g, const struct reply *r)
{
    const char *shape = reply_header(r, "Saed-Shape");
    size_t dim[9];
    unsigned n = 0;

    ck_assert_ptr_nonnull(shape);
    for (const char *p = shape; n < 9; p++) {
        char *end;

        dim[n++] = strtoul(p, &end, 10);
        ck_assert(end != p);
        p = end;
        if (*p != ',')
            break;
    }
    g->present = true;
    g->n_lead = n - 1;
    memcpy(g->lead, dim, sizeof g->lead);
    g->n_rows = product(dim, n - 1);
    g->width = dim[n - 1];
    ck_assert_uint_eq(r->n, g->n_rows * g->width * 4);
    got_alloc(g);
    memcpy(g->v, r->body, r->n);
}

struct text npy_body(const char *shape, const float *v, size_t n)
{
    struct text t = {0};
    char dict[118];

    snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
    text_add(&t, "\x93NUMPY\1\0\x76\0", 10);
    text_addf(&t, "%-117s\n", dict);
    text_add(&t, v, n * sizeof *v);
    return t;
}

/* A header of 128 bytes, as numpy writes short shapes. */
static void got_npy(struct got *g, const struct reply *r)
{
    static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
    const char *p = r->body + 10 + sizeof dict - 1;
    size_t dim[9];
    unsigned n = 0;

    ck_assert(r->n >= 128 && memcmp(r->body, "\x93NUMPY\1\0\x76\0", 10) == 0);
    ck_assert(memcmp(r->body + 10, dict, sizeof dict - 1) == 0 && r->body[127] == '\n');
    for (char *end; n < 9 && *p != ')'; n++) {
        dim[n] = strtoul(p, &end, 10);
        ck_assert(end != p && (*end == ',' || *end == ')'));
        p = end + (*end == ',') + (*end == ',' && end[1] == ' ');
    }
    ck_assert(n > 0 && memcmp(p, "), }", 4) == 0);
    g->present = true;
    g->n_lead = n - 1;
    memcpy(g->lead, dim, sizeof g->lead);
    g->n_rows = product(dim, n - 1);
    g->width = dim[n - 1];
    ck_assert_uint_eq(r->n, 128 + g->n_rows * g->width * 4);
    got_alloc(g);
    memcpy(g->v, r->body + 128, r->n - 128);
}

/* JSON ends in one newline, so that a shell's prompt stands on a line of its own. */
static void check_line(const struct reply *r)
{
    ck_assert_msg(r->n >= 2 && r->body[r->n - 1] == '\n' && r->body[r->n - 2] != '\n',
                  "no newline ends %s", r->body);
}

struct got got_read(const struct reply *r, const char *name, enum got_order order)
{
    struct got g = {0};

    ck_assert_msg(r->status == 200, "status %d: %.400s", r->status, r->body);
    if (is_type(r, "application/octet-stream")) {
        got_raw(&g, r);
    } else if (is_type(r, "application/x-npy")) {
        got_npy(&g, r);
    } else if (is_type(r, "application/x-safetensors")) {
        got_safetensors(&g, r, name, order);
    } else {
        ck_assert(is_type(r, "application/json"));
        check_line(r);
        json_t *root = parse(r), *j = json_object_get(root, name);

        g.present = j != NULL;
        if (json_is_object(j))
            json_sparse(&g, j, order);
        else if (j)
            json_dense(&g, j);
        json_decref(root);
    }
    return g;
}

const char *got_string(const struct reply *r, const char *name)
{
    static char value[128];
    size_t base;
    bool st = is_type(r, "application/x-safetensors");
    json_t *root = st ? st_header(r, &base) : parse(r);
    const char *s =
        json_string_value(json_object_get(st ? json_object_get(root, "__metadata__") : root, name));

    snprintf(value, sizeof value, "%s", s ? s : "");
    json_decref(root);
    return value;
}

size_t got_count(const struct reply *r)
{
    size_t base, n;
    json_t *root = is_type(r, "application/x-safetensors") ? st_header(r, &base) : parse(r);

    n = json_object_size(root);
    json_decref(root);
    return n;
}

/* ---- problems and other documents ------------------------------------------------------------ */

const char *json_member(const struct reply *r, const char *name)
{
    static char value[2048];
    json_t *root = parse(r), *j = json_object_get(root, name);
    char *text = j && !json_is_string(j) ? json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

    snprintf(value, sizeof value, "%s",
             json_is_string(j) ? json_string_value(j)
             : text            ? text
                               : "");
    free(text);
    json_decref(root);
    return value;
}

void check_timing(const struct reply *r)
{
    const char *value = reply_header(r, "Server-Timing");
    double queue, compute, total;
    int n = 0;

    ck_assert_msg(value != NULL, "no Server-Timing in %s", r->head);
    ck_assert_msg(sscanf(value, "queue;dur=%lf, compute;dur=%lf, total;dur=%lf%n", &queue, &compute,
                         &total, &n) == 3 &&
                      value[n] == '\0' && queue >= 0 && compute >= 0 && total >= 0,
                  "Server-Timing: %s", value);
}

void check_problem(const struct reply *r, int status, const char *code, const char *in_detail,
                   const char *option)
{
    char number[16];

    ck_assert_msg(r->status == status, "status %d, want %d %s: %.500s", r->status, status, code,
                  r->body);
    ck_assert_msg(is_type(r, "application/problem+json"), "type %s",
                  reply_header(r, "Content-Type"));
    check_line(r);
    check_timing(r);
    snprintf(number, sizeof number, "%d", status);
    ck_assert_str_eq(json_member(r, "status"), number);
    ck_assert_str_eq(json_member(r, "code"), code);
    ck_assert_str_ne(json_member(r, "type"), "");
    ck_assert_str_ne(json_member(r, "title"), "");
    ck_assert_str_ne(json_member(r, "detail"), "");
    if (in_detail)
        ck_assert_msg(strstr(json_member(r, "detail"), in_detail) != NULL, "no \"%s\" in %s",
                      in_detail, r->body);
    ck_assert_str_eq(json_member(r, "option"), option ? option : "");
    ck_assert_int_eq(json_member(r, "limit")[0] != '\0', option && status != 403);
    ck_assert_int_eq(json_member(r, "got")[0] != '\0', option && status != 403);
    ck_assert_ptr_nonnull(reply_header(r, "Saed-Request-Id"));
    ck_assert_int_eq(reply_header(r, "Retry-After") != NULL, status == 503);
}

void check_bad_head(const struct reply *r)
{
    if (!is_refused_by_library(r))
        check_problem(r, 400, "bad_request", NULL, NULL);
    if (r->status)
        ck_assert_str_eq(reply_header(r, "Connection"), "close");
}

long long test_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void wait_metric(const struct server *s, const char *series, double value)
{
    long long end = test_now_ms() + 10000;
    double got;

    while ((got = metric(s, series)) != value) {
        if (test_now_ms() > end)
            ck_abort_msg("%s is %g, not %g", series, got, value);
        poll(NULL, 0, 2);
    }
}
